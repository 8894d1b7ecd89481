//! The small values: messages, content types, keys, instants, errors.

use core::time::Duration;

use chat_core::frame::{Encoder, Extra, Frame, FrameKind};
use chat_core::{ContentType, Instant, Key, Message, SendError};

#[test]
fn a_text_is_a_message_of_type_text_and_utf_8() {
    assert_eq!(Message::text("h\u{e9}llo").as_text(), Some("h\u{e9}llo"));
    for (content_type, is_text) in [
        ("text/plain", true),
        ("TEXT/html; charset=utf-8", true),
        ("text/", true),
        ("text", false),
        ("textual/plain", false),
        ("application/json", false),
        ("", false),
        ("te\u{20ac}t/", false),
    ] {
        let message = Message::new(content_type, "hello");
        assert_eq!(message.content_type().is_text(), is_text, "{content_type}");
        let text = is_text.then_some("hello");
        assert_eq!(message.as_text(), text, "{content_type}");
    }
    assert_eq!(Message::new("text/plain", vec![0xff]).as_text(), None);
}

#[test]
fn content_types_are_equal_wherever_they_come_from() {
    let owned = ContentType::from("text/plain; charset=utf-8".to_owned());
    assert_eq!(owned, ContentType::TEXT);
    assert_eq!(owned, ContentType::from("text/plain; charset=utf-8"));
    assert_ne!(owned, ContentType::BINARY);
    assert_eq!(owned.to_string(), "text/plain; charset=utf-8");
    assert_eq!(&*owned, owned.as_str());
}

#[test]
fn a_message_gives_its_content_away_without_a_copy() {
    let message = Message::binary(vec![7; 100]);
    let content = message.content().clone();
    assert_eq!(message.into_content().as_ptr(), content.as_ptr());
}

#[test]
fn what_is_logged_holds_no_content_and_no_key() {
    let message = Message::text("a secret");
    let logged = format!("{message:?} {:?}", SendError::Full(message.clone()));
    assert!(!logged.contains("secret"), "{logged}");
    assert!(logged.contains("bytes: 8"), "{logged}");
    let key = Key::new(b"a secret");
    let logged = format!("{key:?} {:?}", chat_core::Config::new(key.clone()));
    assert!(!logged.contains("secret"), "{logged}");
}

#[test]
fn every_send_error_hands_the_message_back() {
    let message = Message::text("hello");
    for error in [
        SendError::Full(message.clone()),
        SendError::NotEstablished(message.clone()),
        SendError::Closed(message.clone()),
        SendError::Empty(message.clone()),
        SendError::TooLarge(message.clone()),
    ] {
        assert_eq!(error.into_message(), message);
    }
}

#[test]
fn the_default_key_is_the_documented_one() {
    let frame = Frame {
        kind: FrameKind::Message,
        content_type: ContentType::TEXT,
        session: None,
        content: "hello".into(),
        extra: Extra::None,
    };
    let encode = |key| {
        Encoder::new(key)
            .encode(&frame, 0)
            .expect("it fits")
            .to_vec()
    };
    assert_eq!(Key::DEFAULT_BYTES, b"default-key");
    assert_eq!(encode(Key::default()), encode(Key::new(b"default-key")));
    assert_ne!(encode(Key::default()), encode(Key::new(b"")));
}

#[test]
fn time_stops_at_the_end_of_its_range() {
    let end = Instant::from_nanos(u64::MAX);
    let nano = Duration::from_nanos(1);
    assert_eq!(end + nano, end);
    assert_eq!(end.checked_add(nano), None);
    assert_eq!(end.checked_add(Duration::ZERO), Some(end));
    assert_eq!(Instant::EPOCH + Duration::MAX, end);
    assert_eq!(Instant::EPOCH.checked_add(Duration::MAX), None);
    assert_eq!(Instant::EPOCH - end, Duration::ZERO);
    assert_eq!((end - Instant::EPOCH).as_nanos(), u128::from(u64::MAX));
    assert_eq!((Instant::from_nanos(5) + nano).as_nanos(), 6);
    assert!(Instant::EPOCH < end);
}

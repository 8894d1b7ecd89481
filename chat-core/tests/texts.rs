//! The texts of errors and goodbyes: cut, escaped, and read from whatever a peer sends
//! (PROTOCOL.md §5.3, §5.4).

mod support;

use chat_core::frame::FrameKind;
use chat_core::{CloseReason, Config, Event, Role};
use serde_json::Value;

use support::{START, Solo, frame};

/// Texts whose 1,024th byte is inside a character, or at its border, and how much of each is left.
fn long_texts() -> Vec<(String, usize)> {
    let mut texts = vec![("x".repeat(1024), 1024), ("x".repeat(5000), 1024)];
    for wide in ["\u{e9}", "\u{20ac}", "\u{1f30d}"] {
        for before in 1019..=1024 {
            let whole = (1024 - before) / wide.len() * wide.len();
            texts.push(("x".repeat(before) + &wide.repeat(10), before + whole));
        }
    }
    texts
}

fn client() -> Solo {
    Solo::established(Role::Client, Config::default())
}

/// The reason that a client reports when it is sent this goodbye.
fn reason_in(content: impl Into<Vec<u8>>) -> String {
    let mut client = client();
    client.feed(&frame(FrameKind::Disconnect, content.into()));
    match client.closed() {
        CloseReason::Peer { reason } => reason.into(),
        other => panic!("not the peer's goodbye: {other:?}"),
    }
}

/// The text that a client reports when it is sent this error.
fn error_in(content: impl Into<Vec<u8>>) -> String {
    let mut client = client();
    client.feed(&frame(FrameKind::Error, content.into()));
    match &client.events()[..] {
        [Event::Error(text)] => text.clone(),
        other => panic!("not an error: {other:?}"),
    }
}

/// The content of the goodbye that a client sends for this reason.
fn goodbye(reason: &str) -> Vec<u8> {
    let mut client = client();
    client.connection.close(START, reason);
    client.sent()[0].content.to_vec()
}

#[test]
fn a_goodbye_is_json_with_a_message_and_a_reason() {
    let expected = r#"{"message": "Disconnecting", "reason": "Client disconnecting"}"#;
    assert_eq!(goodbye("Client disconnecting"), expected.as_bytes());
    for reason in [
        "",
        "\"quoted\" \\ \n\r\t\u{8}\u{c}\0\u{7f}",
        "caf\u{e9} \u{1f30d}",
    ] {
        let content = goodbye(reason);
        assert!(content.iter().all(|byte| matches!(byte, b' '..=b'~')));
        let json: Value = serde_json::from_slice(&content).expect("JSON");
        assert_eq!(json["message"], "Disconnecting");
        assert_eq!(json["reason"], reason);
        assert_eq!(reason_in(content), reason);
    }
}

#[test]
fn reasons_are_cut_to_1024_bytes_at_the_border_of_a_character() {
    for (text, kept) in long_texts() {
        assert_eq!(reason_in(goodbye(&text)), text[..kept]);
        let json = serde_json::json!({ "reason": text });
        assert_eq!(reason_in(json.to_string()), text[..kept]);
    }
}

#[test]
fn the_longest_reason_arrives_however_it_is_escaped() {
    for wide in ["\0", "\"", "\u{7f}", "\u{80}", "\u{ffff}", "\u{10ffff}"] {
        let reason = wide.repeat(1024 / wide.len());
        assert_eq!(reason_in(goodbye(&reason)), reason);
    }
}

#[test]
fn error_texts_are_cut_to_1024_bytes_at_the_border_of_a_character() {
    for (text, kept) in long_texts() {
        let mut client = client();
        client.connection.send_error(START, &text);
        let sent = client.sent().remove(0);
        assert_eq!(sent.content, text[..kept], "sent");
        assert_eq!(error_in(sent.content), text[..kept]);
        assert_eq!(error_in(&text[..]), text[..kept], "received");
    }
}

#[test]
fn an_error_without_a_text_gets_one() {
    let mut client = client();
    client.connection.send_error(START, "");
    assert!(!client.sent()[0].content.is_empty());
}

#[test]
fn a_large_error_is_cut_when_it_arrives() {
    assert_eq!(error_in(vec![b'x'; 10_485_760]), "x".repeat(1024));
}

#[test]
fn an_error_that_is_not_utf_8_is_read_as_far_as_it_is() {
    assert_eq!(error_in(b"caf\xe9 ferm\xe9"), "caf\u{fffd} ferm\u{fffd}");
    let text = error_in(vec![0xff; 5000]);
    assert!(text.len() <= 1024);
    assert!(text.chars().all(|c| c == '\u{fffd}'));
}

#[test]
fn a_refusal_is_read_like_an_error() {
    for (text, kept) in long_texts()
        .into_iter()
        .filter(|(text, _)| text.len() <= 1024)
    {
        let mut client = Solo::new(Role::Client, Config::default());
        client.feed(&frame(FrameKind::Error, text.clone()));
        let reason = text[..kept].into();
        assert_eq!(client.closed(), CloseReason::Refused { reason });
    }
}

#[test]
fn a_goodbye_that_cannot_be_read_has_an_empty_reason() {
    let deep = format!(
        r#"{{"reason": {}"no"{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let deepest = "[".repeat(8000);
    let too_long = format!(r#"{{"reason": "{}"}}"#, "x".repeat(100_000));
    let unreadable: [&[u8]; 15] = [
        b"bye",
        b"{",
        b"\"bye\"",
        b"[\"bye\"]",
        b"null",
        b"{}",
        br#"{"Reason": "bye"}"#,
        br#"{"reason": null}"#,
        br#"{"reason": 5}"#,
        br#"{"reason": ["bye"]}"#,
        br#"{"reason": "bye"} and more"#,
        b"{\"reason\": \"\xff\"}",
        br#"{"reason": "\ud83d"}"#,
        deep.as_bytes(),
        deepest.as_bytes(),
    ];
    for content in unreadable {
        assert_eq!(
            reason_in(content),
            "",
            "{}",
            String::from_utf8_lossy(content)
        );
    }
    assert_eq!(reason_in(too_long), "");
}

#[test]
fn an_odd_goodbye_is_read_as_far_as_it_makes_sense() {
    for odd in [
        r#"{"reason": "bye"}"#,
        r#" { "reason" : "bye" } "#,
        r#"{"reason": "no", "reason": "bye"}"#,
        r#"{"message": {"reason": "no"}, "reason": "\u0062ye", "more": [1, null]}"#,
    ] {
        assert_eq!(reason_in(odd), "bye", "{odd}");
    }
}

#[test]
fn a_goodbye_of_any_content_type_is_a_goodbye() {
    let mut client = client();
    client.feed(&chat_core::frame::Frame {
        content_type: "text/plain".into(),
        ..frame(FrameKind::Disconnect, r#"{"reason": "bye"}"#)
    });
    let reason = "bye".into();
    assert_eq!(client.closed(), CloseReason::Peer { reason });
}

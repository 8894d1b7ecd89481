//! What a peer that breaks the protocol is told (PROTOCOL.md §4.5).

mod support;

use chat_core::frame::{Encoder, Frame, FrameError, FrameKind};
use chat_core::{CloseReason, Config, Event, Key, Message, ProtocolError, Role, State};

use support::{FOREIGN, START, Solo, encode, frame, kinds};

/// A session that is told of a violation: what it sends, and how it ends.
fn violation(role: Role, queued: &[&str], bytes: &[u8]) -> (Vec<Frame>, CloseReason) {
    let mut solo = Solo::established(role, Config::default());
    for text in queued {
        solo.send(Message::text(*text));
    }
    solo.feed_bytes(bytes);
    assert_eq!(solo.connection.state(), State::Closing);
    let sent = solo.sent();
    solo.connection.handle_eof(START);
    (sent, solo.closed())
}

#[test]
fn a_peer_that_breaks_the_protocol_is_told_so() {
    let foreign = Frame {
        session: Some(FOREIGN),
        ..frame(FrameKind::Message, "hello")
    };
    let mut damaged = encode(&frame(FrameKind::Message, "hello"));
    damaged[63] ^= 1;
    let chunk = frame(FrameKind::Chunk, "part");
    for (bytes, error) in [
        (encode(&chunk), ProtocolError::Unexpected(chunk.kind)),
        (encode(&foreign), ProtocolError::WrongSession(foreign.kind)),
        (damaged, FrameError::Mac.into()),
    ] {
        for role in [Role::Client, Role::Server] {
            let (sent, reason) = violation(role, &["dropped"], &bytes);
            let [told, goodbye] = &sent[..] else {
                panic!("not two frames: {:?}", kinds(&sent));
            };
            assert_eq!(told, &frame(FrameKind::Error, error.to_string()));
            let goodbye_json = r#"{"message": "Disconnecting", "reason": "Protocol error"}"#;
            assert_eq!(goodbye, &frame(FrameKind::Disconnect, goodbye_json));
            assert_eq!(reason, CloseReason::Protocol(error));
        }
    }
}

#[test]
fn only_the_first_violation_counts() {
    let chunk = encode(&frame(FrameKind::Chunk, "part"));
    let (sent, reason) = violation(Role::Server, &[], &[&chunk[..], &chunk, b"junk"].concat());
    assert_eq!(kinds(&sent), [FrameKind::Error, FrameKind::Disconnect]);
    let error = ProtocolError::Unexpected(FrameKind::Chunk);
    assert_eq!(reason, CloseReason::Protocol(error));
}

#[test]
fn what_came_before_a_violation_is_delivered() {
    let mut solo = Solo::established(Role::Client, Config::default());
    let message = encode(&frame(FrameKind::Message, "hello"));
    solo.feed_bytes(&[&message[..], b"junk"].concat());
    assert_eq!(solo.events(), [Event::Message(Message::text("hello"))]);
}

#[test]
fn a_frame_under_another_key_is_a_violation() {
    let message = frame(FrameKind::Message, "hello");
    let mut encoder = Encoder::new(Key::new(b"another"));
    let bytes = encoder.encode(&message, 1024).expect("it fits").to_vec();
    let (_, reason) = violation(Role::Server, &[], &bytes);
    assert_eq!(reason, CloseReason::Protocol(FrameError::Mac.into()));
}

#[test]
fn the_frame_begun_is_finished_before_a_violation_is_told() {
    let mut solo = Solo::established(Role::Client, Config::default());
    solo.send(Message::text("begun"));
    solo.send(Message::text("dropped"));
    let mut bytes = solo.take(10);
    solo.feed_bytes(b"junk");
    bytes.extend(solo.sent_bytes().concat());
    let sent = support::whole(&bytes).frames;
    let expected = [FrameKind::Message, FrameKind::Error, FrameKind::Disconnect];
    assert_eq!(kinds(&sent), expected);
    assert_eq!(sent[0], frame(FrameKind::Message, "begun"));
}

#[test]
fn a_message_at_the_receiver_s_limit_is_taken_and_one_over_is_a_violation() {
    let config = || Config::default().max_content(10_000);
    let mut solo = Solo::established(Role::Server, config());
    solo.feed(&frame(FrameKind::Message, vec![7; 10_000]));
    assert_eq!(solo.events().len(), 1);
    // Its fixed header is enough.
    let over = encode(&frame(FrameKind::Message, vec![7; 10_001]));
    solo.feed_bytes(&over[..63]);
    assert_eq!(solo.connection.state(), State::Established);
    solo.feed_bytes(&over[63..64]);
    assert_eq!(solo.connection.state(), State::Closing);
    solo.sent();
    solo.connection.handle_eof(START);
    let (len, max) = (10_001, 10_000);
    let error = FrameError::ContentTooLarge { len, max };
    assert_eq!(solo.closed(), CloseReason::Protocol(error.into()));
}

#[test]
fn a_small_limit_for_messages_leaves_the_protocol_its_own_frames() {
    for role in [Role::Client, Role::Server] {
        let config = Config::default().max_content(3);
        let mut solo = Solo::established(role, config);
        solo.feed(&frame(FrameKind::Heartbeat, "ping"));
        assert_eq!(solo.sent(), [frame(FrameKind::Heartbeat, "pong")]);
        solo.feed(&frame(FrameKind::Message, "abc"));
        assert_eq!(solo.connection.state(), State::Established);
        solo.feed(&frame(FrameKind::Message, "abcd"));
        assert_eq!(solo.connection.state(), State::Closing);
    }
}

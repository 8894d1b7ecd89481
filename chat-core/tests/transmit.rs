//! What a connection shows to the transport (PROTOCOL.md §6).

mod support;

use chat_core::frame::{FrameKind, LEGACY_MIN_FRAME};
use chat_core::{Config, Message, Role};

use support::{Decoded, Pair, START, Solo, frame, kinds, whole};

/// An established connection with one frame of every kind that it sends waiting.
fn talkative(role: Role) -> (Solo, Vec<FrameKind>) {
    let mut solo = Solo::established(role, Config::default());
    solo.wait(support::millis(7_500));
    solo.send(Message::text("small"));
    solo.send(Message::binary(vec![7; 4096]));
    solo.send(Message::binary(vec![7; 4097]));
    solo.send(Message::binary(vec![7; 70_000]));
    solo.connection.send_error(solo.now, "an error");
    solo.feed(&frame(FrameKind::Heartbeat, "ping"));
    solo.connection.close(solo.now, "bye");
    let sent = vec![
        FrameKind::Heartbeat,
        FrameKind::Heartbeat,
        FrameKind::Message,
        FrameKind::Message,
        FrameKind::Message,
        FrameKind::Message,
        FrameKind::Error,
        FrameKind::Disconnect,
    ];
    (solo, sent)
}

#[test]
fn each_call_shows_one_frame_of_at_least_1024_bytes() {
    for role in [Role::Client, Role::Server] {
        let (mut solo, expected) = talkative(role);
        let mut sent = Vec::new();
        for bytes in solo.sent_bytes() {
            assert!(bytes.len() >= LEGACY_MIN_FRAME, "{} bytes", bytes.len());
            let Decoded { mut frames, end } = whole(&bytes);
            assert_eq!((frames.len(), end), (1, Ok(0)));
            sent.append(&mut frames);
        }
        assert_eq!(kinds(&sent), expected, "{role:?}");
    }
}

#[test]
fn the_acknowledgement_is_padded_too() {
    let mut pair = Pair::new(Config::default().version_1());
    pair.settle();
    assert_eq!(pair.up.sent[0].frame.kind, FrameKind::SessionAck);
    assert_eq!(pair.up.sent[0].len, LEGACY_MIN_FRAME);
}

#[test]
fn session_init_fits_into_one_read_and_is_alone() {
    let mut server = Solo::new(Role::Server, Config::default());
    let bytes = server.sent_bytes();
    assert_eq!(bytes.len(), 1);
    assert!(bytes[0].len() <= 1024);
    let Decoded { frames, .. } = whole(&bytes[0]);
    assert_eq!(support::encode(&frames[0]), bytes[0], "it is padded");
}

#[test]
fn a_transport_may_take_any_number_of_bytes_at_once() {
    let (mut solo, _) = talkative(Role::Client);
    let stream = solo.sent_bytes().concat();
    for most in [1, 2, 3, 7, 63, 64, 65, 1000, 1023, 1024, 1025, 4096, 80_000] {
        let (mut solo, _) = talkative(Role::Client);
        let mut taken = Vec::new();
        loop {
            let bytes = solo.take(most);
            if bytes.is_empty() {
                break;
            }
            taken.extend(bytes);
        }
        assert!(taken == stream, "other bytes, {most} at once");
        assert_eq!(solo.connection.outbox_bytes(), 0);
    }
}

#[test]
fn shows_the_same_until_it_is_taken() {
    let (mut solo, _) = talkative(Role::Server);
    while !solo.shown().is_empty() {
        let shown = solo.shown();
        solo.connection.consume_transmit(solo.now, 0);
        assert_eq!(solo.shown(), shown);
        let taken = solo.take(shown.len().div_ceil(2));
        assert_eq!(taken, shown[..taken.len()]);
    }
}

#[test]
fn a_single_slice_is_enough_and_none_shows_nothing() {
    let (mut solo, _) = talkative(Role::Client);
    let stream = solo.sent_bytes().concat();
    let (mut solo, _) = talkative(Role::Client);
    let mut taken = Vec::new();
    loop {
        assert_eq!(solo.connection.poll_transmit(&mut []), 0);
        let mut slices = [&[][..]; 1];
        if solo.connection.poll_transmit(&mut slices) == 0 {
            break;
        }
        let len = slices[0].len();
        assert!(len > 0, "an empty slice");
        taken.extend_from_slice(slices[0]);
        solo.connection.consume_transmit(solo.now, len);
    }
    assert!(taken == stream, "other bytes");
}

#[test]
fn more_slices_than_there_are_are_left_alone() {
    let mut solo = Solo::established(Role::Client, Config::default());
    solo.send(Message::binary(vec![7; 70_000]));
    let rest: &[u8] = b"untouched";
    let mut slices = [rest; 5];
    assert_eq!(solo.connection.poll_transmit(&mut slices), 2);
    assert_eq!(slices[2..], [rest; 3]);
    // The headers have left: one slice is left over.
    let head = slices[0].len();
    solo.connection.consume_transmit(START, head);
    let mut slices = [rest; 5];
    assert_eq!(solo.connection.poll_transmit(&mut slices), 1);
    assert_eq!(slices[0].len(), 70_000);
}

#[test]
fn large_contents_are_shown_without_being_copied() {
    let message = Message::binary(vec![7; 70_000]);
    let mut solo = Solo::established(Role::Client, Config::default());
    solo.send(message.clone());
    let mut slices = [&[][..]; 2];
    solo.connection.poll_transmit(&mut slices);
    assert_eq!(slices[1].as_ptr(), message.content().as_ptr());
}

#[test]
#[should_panic(expected = "more bytes consumed than were shown")]
fn taking_more_than_was_shown_is_a_bug_of_the_caller() {
    let mut solo = Solo::established(Role::Client, Config::default());
    solo.send(Message::text("hello"));
    solo.connection.consume_transmit(START, 1025);
}

#[test]
#[should_panic(expected = "more bytes consumed than were shown")]
fn taking_something_where_nothing_was_shown_is_too() {
    let mut solo = Solo::established(Role::Client, Config::default());
    solo.connection.consume_transmit(START, 1);
}

#[test]
fn a_control_frame_overtakes_messages_but_not_the_frame_begun() {
    let mut solo = Solo::established(Role::Server, Config::default());
    for text in ["one", "two", "three"] {
        solo.send(Message::text(text));
    }
    let mut bytes = solo.take(1);
    solo.feed(&frame(FrameKind::Heartbeat, "ping"));
    bytes.extend(solo.sent_bytes().concat());
    let expected = [
        frame(FrameKind::Message, "one"),
        frame(FrameKind::Heartbeat, "pong"),
        frame(FrameKind::Message, "two"),
        frame(FrameKind::Message, "three"),
    ];
    assert_eq!(whole(&bytes).frames, expected);
}

//! An end that was closed while messages of its own go out in pieces: it waits for these, and for
//! nothing of the peer's (PROTOCOL.md §5.5, §7).

mod support;

use chat_core::frame::{ChunkOp, FrameKind};
use chat_core::{
    CloseReason, Config, Event, Message, OpenError, Read, Role, State, Transfer, TransferError,
};

use support::chunk::{
    IMAGE, abort, begin, both, data, done, end, image, noise, said, server, window,
};
use support::{START, Solo, frame, kinds, secs};

/// A server that is told to close while it sends a message that is larger than the window, and
/// while a message of the client's arrives.
fn leaving(config: Config) -> (Solo, Vec<Event>) {
    let mut solo = server(config);
    solo.feed_all(&[begin(1, Some(20_000)), data(1, 0, noise(10_000, 1))]);
    solo.send(image(300_000));
    solo.sent();
    let events = solo.events();
    solo.connection.close(START, "enough");
    assert_eq!(solo.connection.state(), State::Closing);
    (solo, events)
}

#[test]
fn what_was_arriving_is_given_up_and_the_peer_is_told_so() {
    for config in both() {
        let (mut solo, events) = leaving(config);
        assert_eq!(solo.sent(), [abort(1, "closing")]);
        for event in events {
            let Event::Transfer { id, .. } = event else {
                panic!("not a transfer: {event:?}");
            };
            let over = Some(Read::Failed(TransferError::Closed));
            assert_eq!(solo.read(id), over);
        }
        // What was on its way is discarded, and so is the end of it.
        solo.feed_all(&[data(1, 10_000, noise(10_000, 2)), end(1, 20_000)]);
        assert_eq!((solo.events(), solo.sent()), (vec![], vec![]));
        assert_eq!(solo.connection.stats().messages_received, 0);
    }
}

#[test]
fn what_begins_then_is_given_up_too() {
    for config in both() {
        let (mut solo, _) = leaving(config);
        solo.sent();
        solo.feed(&begin(3, None));
        // The answer goes out with the next that does, if not at once.
        solo.wait(secs(1));
        solo.feed(&window(2, 1_024));
        let sent = solo.sent();
        assert_eq!(sent[0], abort(3, "closing"));
        solo.feed_all(&[data(3, 0, "late"), end(3, 4)]);
        assert_eq!(solo.events(), []);
    }
}

#[test]
fn messages_and_errors_are_discarded_and_a_ping_is_answered() {
    for config in both() {
        let (mut solo, _) = leaving(config);
        solo.sent();
        let before = solo.connection.stats();
        solo.feed(&frame(FrameKind::Message, "late"));
        solo.feed(&frame(FrameKind::Error, "late"));
        assert_eq!((solo.events(), solo.sent()), (vec![], vec![]));
        let stats = solo.connection.stats();
        assert_eq!(stats.messages_received, before.messages_received);
        solo.feed(&frame(FrameKind::Heartbeat, "ping"));
        assert_eq!(solo.sent(), [frame(FrameKind::Heartbeat, "pong")]);
        let refused = solo.connection.send(START, Message::text("late"));
        assert!(refused.is_err(), "nothing new is sent");
        let opened = solo.connection.open(START, Transfer::new(IMAGE));
        assert_eq!(opened, Err(OpenError::Closed));
    }
}

#[test]
fn goodbye_follows_the_end_of_the_last_message() {
    for config in both() {
        let (mut solo, _) = leaving(config);
        solo.sent();
        solo.feed(&window(2, 65_536));
        let sent = solo.sent();
        assert_eq!(kinds(&sent).last(), Some(&FrameKind::Disconnect));
        let (id, op) = said(&sent[sent.len() - 2]);
        assert_eq!((id, op), (2, &ChunkOp::End { offset: 300_000 }));
        // Nobody waits for its receiver.
        solo.feed(&done(2));
        solo.connection.handle_eof(START);
        assert_eq!(solo.connection.state(), State::Closed);
        assert_eq!(solo.events().len(), 1);
    }
}

#[test]
fn closing_again_changes_nothing() {
    for config in both() {
        let (mut solo, _) = leaving(config);
        solo.sent();
        let due = solo.next_deadline();
        solo.now = START + secs(3);
        solo.connection.close(solo.now, "another reason");
        assert_eq!(solo.next_deadline().map(|left| left + secs(3)), due);
        solo.feed(&window(2, 65_536));
        let sent = solo.sent();
        let goodbye = r#"{"message": "Disconnecting", "reason": "enough"}"#;
        assert_eq!(sent.last(), Some(&frame(FrameKind::Disconnect, goodbye)));
        solo.connection.handle_eof(solo.now);
        let reason = "enough".into();
        assert_eq!(solo.closed(), CloseReason::Local { reason });
    }
}

#[test]
fn a_client_gives_up_what_is_arriving_as_well() {
    let mut solo = support::chunk::negotiated(
        Role::Client,
        support::no_timers(),
        support::chunk::every_extension(),
    );
    solo.feed(&begin(2, None));
    solo.send(image(300_000));
    solo.sent();
    solo.connection.close(START, "enough");
    assert_eq!(solo.sent(), [abort(2, "closing")]);
}

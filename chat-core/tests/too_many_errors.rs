//! How much a client may get wrong before its connection ends (PROTOCOL.md §9), in virtual time.

mod support;

use bytes::Bytes;
use chat_core::frame::{ChunkOp, Frame, FrameKind};
use chat_core::{
    CloseReason, Config, ContentType, Event, ProtocolError, Rate, Receive, Role, State, Timeout,
};

use support::chunk::{abort, begin, data, end, every_extension, negotiated, said};
use support::sec::ByHand;
use support::{Solo, frame, kinds, millis, no_timers, secs};

/// A server whose client can do everything.
fn server(config: Config) -> Solo {
    negotiated(Role::Server, config, every_extension())
}

fn complaint() -> Frame {
    frame(FrameKind::Error, "this is wrong")
}

/// The client is told that it made too many errors, and that the connection ends.
#[track_caller]
fn is_cut_off(mut solo: Solo) {
    assert_eq!(solo.connection.state(), State::Closing);
    let mut sent = solo.sent();
    sent.retain(|sent| sent.kind != FrameKind::Chunk);
    assert_eq!(kinds(&sent), [FrameKind::Error, FrameKind::Disconnect]);
    assert_eq!(sent[0].content, "too many errors");
    let goodbye = br#"{"message": "Disconnecting", "reason": "Protocol error"}"#;
    assert_eq!(sent[1].content, &goodbye[..]);
    solo.connection.handle_eof(solo.now);
    let reason = CloseReason::Protocol(ProtocolError::TooManyErrors);
    assert_eq!(solo.closed(), reason);
}

/// So many errors are taken and reported; the connection lives on.
#[track_caller]
fn are_taken(solo: &mut Solo, count: u64) {
    let before = solo.connection.stats().errors_received;
    for _ in 0..count {
        solo.feed(&complaint());
        assert_eq!(solo.events(), [Event::Error("this is wrong".into())]);
    }
    assert_eq!(solo.connection.stats().errors_received, before + count);
    assert_eq!(solo.connection.state(), State::Established);
    assert_eq!(solo.sent(), []);
}

#[test]
fn the_thirty_third_error_at_once_is_one_too_many() {
    let mut solo = server(no_timers());
    are_taken(&mut solo, 32);
    solo.feed(&complaint());
    assert_eq!(solo.connection.stats().errors_received, 33);
    assert_eq!(solo.events(), [], "that one is not reported");
    is_cut_off(solo);

    let mut by_hand = ByHand::established(Role::Server, no_timers());
    for _ in 0..33 {
        by_hand.feed(&complaint());
    }
    let told = [FrameKind::Error, FrameKind::Disconnect];
    assert_eq!(kinds(&by_hand.sent()), told);
}

#[test]
fn all_of_them_in_one_read_are_counted_as_well() {
    let mut solo = server(no_timers());
    let many: Vec<Frame> = (0..100).map(|_| complaint()).collect();
    solo.feed_all(&many);
    assert_eq!(solo.events().len(), 32);
    assert_eq!(solo.connection.stats().errors_received, 33);
    is_cut_off(solo);
}

#[test]
fn a_client_of_version_1_is_cut_off_as_well() {
    let mut solo = Solo::established(Role::Server, no_timers());
    are_taken(&mut solo, 32);
    solo.feed(&complaint());
    assert_eq!(solo.events(), []);
    is_cut_off(solo);
}

#[test]
fn one_error_a_second_is_taken_for_an_hour() {
    let mut solo = server(no_timers());
    for _ in 0..3_600 {
        are_taken(&mut solo, 1);
        solo.wait(secs(1));
    }
    // And after that as many as ever.
    are_taken(&mut solo, 32);
    solo.wait(millis(999));
    solo.feed(&complaint());
    is_cut_off(solo);
}

#[test]
fn a_little_more_than_one_a_second_is_too_much_in_time() {
    let mut solo = server(no_timers());
    for _ in 0..300 {
        are_taken(&mut solo, 1);
        solo.wait(millis(900));
    }
    let mut more = 0;
    while solo.connection.state() == State::Established {
        solo.feed(&complaint());
        solo.wait(millis(900));
        more += 1;
    }
    assert!((10..20).contains(&more), "{more}");
}

#[test]
fn the_limit_is_a_setting() {
    let config = no_timers().error_rate(Some(Rate::per_second(10).burst(3)));
    let mut solo = server(config.clone());
    are_taken(&mut solo, 3);
    solo.wait(millis(100));
    are_taken(&mut solo, 1);
    solo.feed(&complaint());
    solo.events();
    is_cut_off(solo);

    let mut solo = server(config.error_rate(None));
    are_taken(&mut solo, 10_000);
}

#[test]
fn a_client_never_cuts_a_server_off() {
    for error_rate in [None, Some(Rate::per_second(1))] {
        let config = no_timers().error_rate(error_rate);
        let mut solo = negotiated(Role::Client, config, every_extension());
        are_taken(&mut solo, 1_000);
        // Nor for its transfers.
        for id in (2..=400).step_by(2) {
            solo.feed_all(&[begin(id, Some(5)), end(id, 3)]);
            assert_eq!(kinds(&solo.sent()), [FrameKind::Chunk]);
        }
        assert_eq!(solo.connection.stats().errors_received, 1_200);
        assert_eq!(solo.connection.state(), State::Established);
        assert_eq!(solo.events(), []);
    }
}

/// The ways to get a transfer wrong that do not end the connection, each as frames.
fn faulty(id: u64) -> [Vec<Frame>; 6] {
    let mut other_type = data(id, 0, "12345");
    other_type.content_type = ContentType::TEXT;
    let long = Bytes::from_static(&[7; 2_000]);
    [
        vec![begin(id, None), data(id, 1, "a gap"), abort(id, "sorry")],
        vec![begin(id, Some(4)), data(id, 0, "more"), end(id, 5)],
        vec![begin(id, Some(4)), data(id, 0, "of it"), abort(id, "sorry")],
        vec![begin(id, Some(9)), data(id, 0, "fewer"), end(id, 5)],
        vec![begin(id, None), other_type, abort(id, "sorry")],
        vec![begin(id, None), data(id, 0, long), abort(id, "sorry")],
    ]
}

#[test]
fn a_transfer_with_something_wrong_counts_as_an_error() {
    for receive in [Receive::Whole, Receive::Pieces] {
        let most = match receive {
            Receive::Whole => 6,
            // It takes any size.
            Receive::Pieces => 5,
        };
        for kind in 0..most {
            let config = no_timers().receive(receive).max_message(1_000);
            let mut solo = server(config);
            for n in 1..=32 {
                for frame in &faulty(2 * n - 1)[kind] {
                    solo.feed(frame);
                }
                let answers = solo.sent();
                assert_eq!(answers.len(), 1, "{kind}: {answers:?}");
                assert!(matches!(said(&answers[0]), (_, ChunkOp::Abort)));
                assert_eq!(solo.connection.stats().errors_received, n, "{kind}");
                solo.events();
            }
            assert_eq!(solo.connection.state(), State::Established);
            solo.feed_all(&faulty(99)[kind]);
            let delivered = |event: &Event| matches!(event, Event::Message(_));
            assert!(!solo.events().iter().any(delivered));
            is_cut_off(solo);
        }
    }
}

#[test]
fn a_transfer_that_its_sender_gives_up_is_no_error() {
    let mut solo = server(no_timers());
    for n in 1..=100 {
        let id = 2 * n - 1;
        solo.feed_all(&[begin(id, None), data(id, 0, "some"), abort(id, "sorry")]);
    }
    assert_eq!(solo.connection.stats().errors_received, 0);
    are_taken(&mut solo, 32);
}

#[test]
fn errors_of_all_kinds_are_counted_together() {
    let mut solo = server(no_timers());
    for n in 1..=16 {
        are_taken(&mut solo, 1);
        solo.feed_all(&faulty(2 * n - 1)[0]);
        solo.sent();
    }
    solo.feed_all(&faulty(99)[3]);
    is_cut_off(solo);
}

#[test]
fn what_arrives_while_closing_is_no_error() {
    let mut solo = server(no_timers());
    // Its goodbye waits until the client takes more of this than fits into the window.
    solo.send(support::chunk::image(1_000_000));
    solo.sent();
    solo.connection.close(solo.now, "enough");
    assert_eq!(solo.connection.state(), State::Closing);
    for n in 1..=40 {
        solo.feed_all(&faulty(2 * n - 1)[0]);
        solo.feed(&complaint());
        solo.sent();
    }
    assert_eq!(solo.connection.stats().errors_received, 0);
    solo.feed(&abort(2, "too large"));
    assert_eq!(kinds(&solo.sent()).last(), Some(&FrameKind::Disconnect));
    solo.connection.handle_eof(solo.now);
    let reason = CloseReason::Local {
        reason: "enough".into(),
    };
    assert_eq!(solo.events().last(), Some(&Event::Closed(reason)));
}

#[test]
fn transfers_that_stall_count_as_errors() {
    let mut solo = server(no_timers());
    are_taken(&mut solo, 1);
    for n in 1..=32 {
        solo.feed(&begin(2 * n - 1, None));
    }
    // However late that is noticed.
    solo.now = solo.now + secs(100_000);
    are_taken(&mut solo, 1);
    solo.connection.handle_timeout(solo.now);
    assert_eq!(solo.connection.stats().errors_received, 34);
    is_cut_off(solo);
}

/// One that is due at the same time as a `ping`: nothing comes after the goodbye.
#[test]
fn the_goodbye_is_last_whatever_else_is_due() {
    let config = no_timers()
        .heartbeat(Some(secs(5)))
        .error_rate(Some(Rate::per_second(1).burst(31)));
    let mut by_hand = ByHand::established(Role::Server, config);
    for n in 1..=32 {
        by_hand.feed(&begin(2 * n - 1, None));
    }
    by_hand.sent();
    let late = by_hand.solo.now + secs(100_000);
    by_hand.solo.connection.handle_timeout(late);
    assert_eq!(kinds(&by_hand.sent()).last(), Some(&FrameKind::Disconnect));
}

#[test]
fn errors_do_not_keep_a_silent_client_from_being_missed() {
    let mut solo = server(Config::default());
    are_taken(&mut solo, 20);
    while solo.connection.state() == State::Established {
        solo.wait_and_send(millis(100));
    }
    solo.connection.handle_eof(solo.now);
    assert_eq!(solo.closed(), CloseReason::Timeout(Timeout::Answer));
}

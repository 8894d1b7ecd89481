//! Every deadline of PROTOCOL.md §9 one nanosecond before, at, and one after it. Sizes are in
//! `limits_sizes.rs`, where it also says what other files have.

mod support;

use core::time::Duration;

use bytes::Bytes;
use chat_core::frame::{ChunkOp, Extensions, FrameKind};
use chat_core::{
    CloseReason, Config, Event, Message, Rate, Read, Role, State, Timeout, Transfer, TransferError,
};

use support::chunk::{
    IMAGE, begin, data, every_extension, negotiated, said, streams, with_streams,
};
use support::conversation::ROLES;
use support::sec::ByHand;
use support::{LONG, Solo, encode, frame, kinds, millis, no_timers, secs};

const NS: Duration = Duration::from_nanos(1);

/// One nanosecond before.
fn before(limit: Duration) -> Duration {
    limit.saturating_sub(NS)
}

/// Settings in which nothing is ever due but what a test is about.
fn quiet() -> Config {
    no_timers()
        .handshake_timeout(LONG)
        .close_timeout(LONG)
        .transfer_timeout(None)
}

/// Something happens when a connection has waited so long, and not before. Nothing is due earlier.
#[track_caller]
fn is_due_after(limit: Duration, make: impl Fn() -> Solo, happens: impl Fn(&mut Solo) -> bool) {
    assert_eq!(make().next_deadline(), Some(limit));
    for (waited, expected) in [(before(limit), false), (limit, true), (limit + NS, true)] {
        let mut solo = make();
        solo.now = solo.now + waited;
        solo.connection.handle_timeout(solo.now);
        assert_eq!(happens(&mut solo), expected, "after {waited:?}");
    }
}

/// It ends, for that.
fn ends(why: Timeout) -> impl Fn(&mut Solo) -> bool {
    move |solo| match solo.connection.state() {
        State::Closing | State::Closed => {
            solo.sent_bytes();
            solo.connection.handle_eof(solo.now);
            assert_eq!(solo.closed(), CloseReason::Timeout(why));
            true
        }
        _ => false,
    }
}

#[test]
fn a_handshake_has_ten_seconds() {
    let config = Config::default();
    for role in ROLES {
        let make = || Solo::new(role, config.clone());
        is_due_after(secs(10), make, ends(Timeout::Handshake));
    }
    let make = || ByHand::await_proof(Config::default()).solo;
    is_due_after(secs(10), make, ends(Timeout::Handshake));
    let make = || Solo::new(Role::Client, quiet().handshake_timeout(millis(7)));
    is_due_after(millis(7), make, ends(Timeout::Handshake));
}

#[test]
fn a_client_asks_after_an_interval_and_a_server_after_one_and_a_half() {
    let asks = |solo: &mut Solo| kinds(&solo.sent()) == [FrameKind::Heartbeat];
    for (role, after) in [(Role::Client, 5_000), (Role::Server, 7_500)] {
        let config = Config::default();
        is_due_after(
            millis(after),
            || Solo::established(role, config.clone()),
            asks,
        );
    }
}

#[test]
fn silence_is_suffered_for_thirty_seconds() {
    for role in ROLES {
        let config = || Config::default().heartbeat(None);
        let make = || Solo::established(role, config());
        is_due_after(secs(30), make, ends(Timeout::Idle));
    }
}

/// Each 16 KiB of a frame that have come are a second, and one byte is its part of one.
#[test]
fn what_has_arrived_of_a_frame_buys_time() {
    let arrived = |bytes: usize| {
        let config = quiet().idle_timeout(Some(secs(30)));
        let mut solo = Solo::established(Role::Client, config);
        let frame = encode(&frame(FrameKind::Message, vec![7; 20_000]));
        solo.feed_bytes(&frame[..bytes]);
        solo
    };
    let byte = Duration::from_nanos(1_000_000_000 / 16_384);
    let of = |bytes: usize| Duration::from_nanos(bytes as u64 * 1_000_000_000 / 16_384);
    assert_eq!(of(1), byte);
    assert_eq!(of(16_384), secs(1));
    for bytes in [1, 16_383, 16_384, 16_385] {
        let limit = secs(30) + of(bytes);
        is_due_after(limit, || arrived(bytes), ends(Timeout::Idle));
    }
}

#[test]
fn a_transport_that_takes_nothing_is_suffered_for_thirty_seconds() {
    let config = || quiet().stall_timeout(Some(secs(30)));
    let make = || {
        let mut solo = Solo::established(Role::Server, config());
        solo.send(Message::text("waits"));
        solo
    };
    is_due_after(secs(30), make, ends(Timeout::Stall));
}

#[test]
fn an_answer_is_waited_for_so_long() {
    for timeout in [secs(15), secs(3)] {
        let make = || {
            let config = quiet()
                .heartbeat(Some(secs(1)))
                .ping_timeout(Some(timeout))
                .stall_timeout(None);
            let mut solo = negotiated(Role::Client, config, every_extension());
            solo.wait(secs(1));
            assert_eq!(kinds(&solo.sent()), [FrameKind::Heartbeat]);
            // It goes on asking, and the time is that of the first.
            solo.wait_and_send(timeout.saturating_sub(secs(1)));
            solo
        };
        is_due_after(secs(1), make, |solo| match solo.connection.state() {
            State::Established => false,
            _ => ends(Timeout::Answer)(solo),
        });
    }
}

/// An end that does not read says three times within the patience of its peer that it lives.
#[test]
fn a_deaf_end_says_that_it_lives_each_third_of_the_time() {
    let make = || {
        let mut solo = negotiated(Role::Server, quiet().max_inbox(1), every_extension());
        solo.feed(&frame(FrameKind::Message, "one"));
        assert!(!solo.connection.wants_input());
        solo.connection.handle_timeout(solo.now);
        assert_eq!(kinds(&solo.sent()), [FrameKind::Heartbeat], "at once");
        solo
    };
    let pong = |solo: &mut Solo| kinds(&solo.sent()) == [FrameKind::Heartbeat];
    is_due_after(secs(5), make, pong);
}

#[test]
fn closing_takes_so_long_and_a_second_for_each_16_kib() {
    for (role, extra) in ROLES.into_iter().zip([0_u64, 1]) {
        let make = || {
            let mut solo = Solo::established(role, quiet().close_timeout(secs(5)));
            if extra > 0 {
                solo.send(Message::binary(vec![7; 100_000]));
            }
            solo.connection.close(solo.now, "enough");
            solo
        };
        let queued = make().connection.outbox_bytes() as u64;
        assert!(queued > 100_000 * extra);
        let limit = secs(5) + Duration::from_nanos(queued * 1_000_000_000 / 16_384);
        is_due_after(limit, make, |solo| solo.connection.is_closed());
    }
}

/// A message that does not go out whole keeps the goodbye back for as long.
#[test]
fn leaving_takes_no_longer_than_closing() {
    let make = || {
        let mut extensions = with_streams();
        extensions.chunk = extensions
            .chunk
            .map(|limits| chat_core::frame::ChunkLimits {
                size: 1_024,
                window: 4_096,
                ..limits
            });
        let config = quiet().close_timeout(secs(5));
        let mut solo = negotiated(Role::Client, config, extensions);
        solo.send(Message::binary(vec![7; 30_000]));
        solo.connection.close(solo.now, "enough");
        solo.sent();
        assert_eq!(solo.connection.state(), State::Closing);
        assert!(!solo.connection.is_write_finished(), "it has more to send");
        solo
    };
    let due = make().next_deadline().expect("a deadline");
    // All of it is counted, and what its frames cost.
    assert!(
        due > secs(5) + secs(1) && due < secs(5) + secs(4),
        "{due:?}"
    );
    is_due_after(due, make, |solo| solo.connection.is_closed());
}

/// The second that each 16 KiB of window take are counted from what may still come.
#[test]
fn a_sender_that_does_not_go_on_has_a_minute_and_time_for_the_window() {
    let make = |used: usize| {
        let config = streams().transfer_timeout(Some(secs(60)));
        let mut solo = negotiated(Role::Server, config, with_streams());
        solo.feed(&begin(1, None));
        solo.announced();
        if used > 0 {
            solo.feed(&data(1, 0, vec![7; used]));
        }
        solo
    };
    for (used, left) in [
        (0, 16_384 * 16),
        (16_384, 16_384 * 15),
        (65_536, 16_384 * 12),
    ] {
        let limit = secs(60) + Duration::from_nanos(left * 1_000_000_000 / 16_384);
        is_due_after(
            limit,
            || make(used),
            |solo| {
                let sent = solo.sent();
                sent.first()
                    .is_some_and(|frame| *said(frame).1 == ChunkOp::Abort)
            },
        );
    }
}

#[test]
fn a_receiver_that_gives_no_window_has_a_minute_and_time_for_it() {
    let peer = || {
        let mut peer = with_streams();
        peer.chunk = peer.chunk.map(|limits| chat_core::frame::ChunkLimits {
            size: 16_384,
            window: 65_536,
            ..limits
        });
        peer
    };
    let make = || {
        let config = quiet().transfer_timeout(Some(secs(60)));
        let mut solo = negotiated(Role::Client, config, peer());
        let id = solo.connection.open(solo.now, Transfer::new(IMAGE));
        let id = id.expect("the peer takes it");
        let content = Bytes::from(vec![7; 100_000]);
        assert_eq!(solo.connection.write(solo.now, id, content), Ok(()));
        solo.sent();
        solo
    };
    // All of the window is in use: four seconds.
    is_due_after(secs(64), make, |solo| {
        let stalled = |event: &Event| {
            matches!(
                event,
                Event::Aborted {
                    error: TransferError::Stalled,
                    ..
                }
            )
        };
        solo.events().iter().any(stalled)
    });
}

/// What is read a second after the last was given back is given back at once, however little it is.
#[test]
fn a_window_is_given_back_after_a_second() {
    for (waited, gives) in [
        (before(secs(1)), false),
        (secs(1), true),
        (secs(1) + NS, true),
    ] {
        let mut solo = negotiated(Role::Server, streams(), with_streams());
        solo.feed_all(&[begin(1, None), data(1, 0, "little")]);
        let id = solo.announced();
        solo.now = solo.now + waited;
        assert!(matches!(solo.read(id), Some(Read::Piece(_))));
        let sent = solo.sent();
        let given: Vec<_> = sent.iter().map(said).collect();
        // As it was counted: at least 1,024.
        let expected = [(1, &ChunkOp::Window { bytes: 1_024 })];
        assert_eq!(given == expected, gives, "after {waited:?}: {given:?}");
        assert_eq!(given.is_empty(), !gives);
    }
}

/// Half of the window is given back at once, and one byte less is not.
#[test]
fn a_window_is_given_back_when_half_of_it_was_read() {
    for (last, gives) in [(8_191_usize, false), (8_192, true), (8_193, true)] {
        let config = streams().window(65_536);
        let mut solo = negotiated(Role::Server, config, with_streams());
        solo.feed_all(&[
            begin(1, None),
            data(1, 0, vec![7; 24_576]),
            data(1, 24_576, vec![7; last]),
        ]);
        let id = solo.announced();
        assert!(matches!(solo.read(id), Some(Read::Piece(_))));
        assert_eq!(solo.sent(), []);
        assert!(matches!(solo.read(id), Some(Read::Piece(_))));
        assert_eq!(!solo.sent().is_empty(), gives, "{last}");
    }
}

#[test]
fn a_throttled_peer_is_read_from_again_when_it_may_send() {
    let make = || {
        let rate = Rate::per_second(10).burst(2);
        let config = quiet().message_rate(Some(rate));
        let mut solo = Solo::established(Role::Server, config);
        // The acknowledgement was one.
        solo.feed(&frame(FrameKind::Message, "two"));
        assert!(solo.connection.wants_input());
        solo.feed(&frame(FrameKind::Message, "three"));
        solo.events();
        assert!(!solo.connection.wants_input());
        solo
    };
    is_due_after(millis(100), make, |solo| solo.connection.wants_input());
}

/// The 33rd error at once is one too many, and a second later another one is allowed.
#[test]
fn a_second_after_thirty_two_errors_there_may_be_one_more() {
    for (waited, lives) in [
        (before(secs(1)), false),
        (secs(1), true),
        (secs(1) + NS, true),
    ] {
        let mut solo = negotiated(Role::Server, quiet(), Extensions::default());
        for _ in 0..32 {
            solo.feed(&frame(FrameKind::Error, "oh"));
        }
        solo.events();
        assert_eq!(solo.connection.state(), State::Established, "thirty-two");
        solo.now = solo.now + waited;
        solo.feed(&frame(FrameKind::Error, "oh"));
        let state = solo.connection.state();
        assert_eq!(state == State::Established, lives, "after {waited:?}");
    }
}

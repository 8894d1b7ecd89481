//! Who is taken for gone where both ends promised to answer (PROTOCOL.md §5.2).

mod support;

use core::time::Duration;

use chat_core::frame::{Extensions, Frame, FrameKind};
use chat_core::{CloseReason, Config, Event, Message, Role, State, Timeout, Transfer};

use support::chunk::{IMAGE, every_extension, negotiated};
use support::{LONG, Pair, START, Solo, encode, frame, kinds, millis, no_timers, secs};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// An end that asks every 5 s, expects an answer within 15 s, and knows no other deadline.
fn config() -> Config {
    no_timers().heartbeat(Some(secs(5)))
}

/// When such an end asks for the first time.
fn first_ping(role: Role) -> Duration {
    match role {
        Role::Client => secs(5),
        Role::Server => millis(7_500),
    }
}

fn answering() -> Extensions {
    let mut extensions = Extensions::default();
    extensions.coalesce = true;
    extensions.ping = Some(9_000);
    extensions
}

/// An end whose `ping` has just left.
fn asked(role: Role, config: Config) -> Solo {
    let mut solo = negotiated(role, config, answering());
    solo.wait(first_ping(role));
    assert_eq!(solo.sent(), [frame(FrameKind::Heartbeat, "ping")]);
    solo
}

#[track_caller]
fn is_gone(mut solo: Solo) {
    assert_eq!(solo.connection.state(), State::Closing);
    let said = kinds(&solo.sent());
    assert_eq!(said.last(), Some(&FrameKind::Disconnect));
    solo.connection.handle_eof(solo.now);
    assert_eq!(solo.closed(), CloseReason::Timeout(Timeout::Answer));
}

#[test]
fn a_silent_peer_is_gone_after_the_answer_timeout() {
    for role in ROLES {
        for timeout in [secs(3), secs(15), millis(20_001)] {
            let mut solo = asked(role, config().ping_timeout(Some(timeout)));
            solo.wait_and_send(timeout.saturating_sub(Duration::from_nanos(1)));
            assert_eq!(solo.connection.state(), State::Established);
            solo.wait(Duration::from_nanos(1));
            is_gone(solo);
        }
    }
}

#[test]
fn the_time_runs_from_the_first_ping_that_was_not_answered() {
    for role in ROLES {
        // Two more pings leave meanwhile.
        let mut solo = asked(role, config());
        solo.wait(secs(5));
        assert_eq!(kinds(&solo.sent()), [FrameKind::Heartbeat]);
        solo.wait(secs(5));
        assert_eq!(kinds(&solo.sent()), [FrameKind::Heartbeat]);
        solo.wait(secs(5));
        is_gone(solo);
    }
}

#[test]
fn it_runs_only_when_the_ping_has_left() {
    for role in ROLES {
        let mut solo = negotiated(role, config(), answering());
        solo.wait(secs(100));
        assert_eq!(
            solo.connection.state(),
            State::Established,
            "nobody was asked"
        );
        let ping = solo.shown();
        solo.take(ping.len() - 1);
        solo.wait(secs(100));
        assert_eq!(solo.connection.state(), State::Established);
        solo.take(1);
        solo.wait_and_send(millis(14_999));
        assert_eq!(solo.connection.state(), State::Established);
        solo.wait(millis(1));
        is_gone(solo);
    }
}

#[test]
fn any_verified_frame_is_an_answer() {
    for role in ROLES {
        for sign in [
            frame(FrameKind::Heartbeat, "pong"),
            frame(FrameKind::Heartbeat, "ping"),
            frame(FrameKind::Heartbeat, "other"),
            frame(FrameKind::Message, "hello"),
            frame(FrameKind::Error, "an error"),
        ] {
            let mut solo = asked(role, config());
            solo.wait_and_send(millis(14_999));
            solo.feed(&sign);
            solo.events();
            solo.sent();
            // The time runs again from the next ping on, which is overdue at a client only.
            let before = solo.now;
            let mut pinged = None;
            while solo.connection.state() == State::Established {
                solo.wait(millis(1));
                let pings = solo
                    .sent()
                    .iter()
                    .filter(|sent| sent.content == "ping")
                    .count();
                if pings > 0 && pinged.is_none() {
                    pinged = Some(solo.now);
                }
            }
            let pinged = pinged.expect("it asks again");
            assert_eq!(solo.now - pinged, secs(15), "{role:?} {sign:?}");
            assert!(pinged - before <= millis(7_500), "{:?}", pinged - before);
        }
    }
}

#[test]
fn half_a_frame_is_no_answer() {
    for role in ROLES {
        let mut solo = asked(role, config());
        let bytes = encode(&frame(FrameKind::Message, "hello"));
        solo.wait_and_send(secs(14));
        solo.feed_bytes(&bytes[..bytes.len() - 1]);
        // A few bytes buy a few milliseconds.
        solo.wait(millis(1_020));
        is_gone(solo);
    }
}

#[test]
fn what_arrives_of_a_large_frame_extends_the_time() {
    for role in ROLES {
        let mut solo = asked(role, config());
        let bytes = encode(&frame(FrameKind::Message, vec![7; 1 << 20]));
        let mut pieces = bytes.chunks(16 * 1024);
        let last = pieces.next_back().expect("there are pieces");
        for piece in pieces {
            solo.feed_bytes(piece);
            solo.wait_and_send(secs(1));
            assert_eq!(solo.connection.state(), State::Established);
        }
        solo.feed_bytes(last);
        assert_eq!(solo.events().len(), 1);
        // But only what arrives does.
        let mut solo = asked(role, config());
        solo.feed_bytes(&bytes[..10 * 16 * 1024]);
        solo.wait_and_send(millis(24_999));
        assert_eq!(solo.connection.state(), State::Established);
        solo.wait(millis(1));
        is_gone(solo);
    }
}

/// How often an end says `pong` in each of these spans, while the transport takes everything.
fn pongs(solo: &mut Solo, span: Duration, spans: usize) -> Vec<usize> {
    let is_pong = |sent: &&Frame| **sent == frame(FrameKind::Heartbeat, "pong");
    let mut counts = vec![0; spans];
    for count in &mut counts {
        let end = solo.now + span;
        while solo.now < end {
            *count += solo.sent().iter().filter(is_pong).count();
            let next = solo.next_deadline().unwrap_or(LONG);
            solo.wait(next.min(end - solo.now));
        }
    }
    counts
}

#[test]
fn an_end_that_does_not_read_says_three_times_in_time_that_it_lives() {
    for role in ROLES {
        let mut solo = negotiated(role, no_timers().max_inbox(1), answering());
        assert_eq!(pongs(&mut solo, secs(9), 3), [0, 0, 0]);
        let message = encode(&frame(FrameKind::Message, "hello"));
        assert_eq!(
            solo.connection.handle_input(solo.now, &message),
            message.len()
        );
        assert!(!solo.connection.wants_input());
        for count in pongs(&mut solo, secs(9), 400) {
            assert!((3..=4).contains(&count), "{count}");
        }
        // When it reads again it is asked like any other.
        solo.events();
        solo.sent();
        assert_eq!(pongs(&mut solo, secs(9), 3)[1..], [0, 0]);
    }
}

#[test]
fn an_end_that_does_not_read_does_not_say_so_to_a_peer_that_did_not_ask_for_it() {
    for role in ROLES {
        let mut silent = answering();
        silent.ping = None;
        let mut solo = negotiated(role, no_timers().max_inbox(1), silent);
        solo.feed(&frame(FrameKind::Message, "hello"));
        assert_eq!(solo.next_deadline(), None);
        assert_eq!(pongs(&mut solo, secs(9), 10), [0; 10]);
    }
}

#[test]
fn a_deaf_peer_is_never_taken_for_gone() {
    for deaf in ROLES {
        let mut pair = Pair::established(Config::default().max_inbox(1_000));
        pair.end(deaf).polls = false;
        let speaks = match deaf {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        // It has more to read than it takes.
        for n in 0..20 {
            assert_eq!(pair.send(speaks, Message::text(format!("{n}"))), Ok(()));
        }
        pair.run_for(secs(3_600));
        assert!(!pair.end(deaf).connection.wants_input());
        for role in ROLES {
            assert_eq!(pair.end(role).closed(), None, "{role:?}");
        }
        pair.end(deaf).polls = true;
        pair.run_for(secs(1));
        assert_eq!(pair.end(deaf).messages().count(), 20);
        pair.run_for(secs(3_600));
        assert_eq!(pair.end(deaf).closed(), None);
    }
}

#[test]
fn two_deaf_ends_leave_each_other_alone() {
    let mut pair = Pair::established(Config::default().max_inbox(1_000));
    for role in ROLES {
        pair.end(role).polls = false;
        for n in 0..20 {
            assert_eq!(pair.send(role, Message::text(format!("{n}"))), Ok(()));
        }
    }
    pair.run_for(secs(3_600));
    for role in ROLES {
        pair.end(role).polls = true;
    }
    pair.run_for(secs(60));
    for role in ROLES {
        assert_eq!(pair.end(role).messages().count(), 20);
        assert_eq!(pair.end(role).closed(), None, "{role:?}");
    }
}

#[test]
fn large_messages_over_slow_links_time_nobody_out() {
    let message = Message::binary(support::chunk::noise(10 << 20, 1));
    for chunks in [true, false] {
        for capacity in [16 * 1024, 512 * 1024] {
            let config = Config::default().chunks(chunks).max_outbox(32 << 20);
            let mut pair = Pair::established(config);
            for role in ROLES {
                pair.link(role).rate = Some(64_000);
                pair.link(role).capacity = capacity;
                assert_eq!(pair.send(role, message.clone()), Ok(()));
            }
            pair.run_for(secs(250));
            for role in ROLES {
                assert_eq!(
                    pair.end(role).closed(),
                    None,
                    "{role:?} {chunks} {capacity}"
                );
                let stats = pair.end(role).connection.stats();
                assert!(
                    pair.end(role).messages().eq([&message]),
                    "{chunks} {capacity} {stats:?}"
                );
            }
            pair.run_for(secs(100));
            assert_eq!(pair.client.closed(), None);
        }
    }
}

#[test]
fn without_the_extension_only_the_idle_timeout_counts() {
    for role in ROLES {
        let mut without = answering();
        without.ping = None;
        for (config, peer) in [
            (Config::default(), without),
            (Config::default(), Extensions::default()),
            (Config::default().ping_timeout(None), without),
        ] {
            let mut solo = negotiated(role, config, peer);
            solo.wait_and_send(millis(29_999));
            assert_eq!(solo.connection.state(), State::Established);
            solo.wait(millis(1));
            assert_eq!(solo.connection.state(), State::Closing);
            solo.sent();
            solo.connection.handle_eof(solo.now);
            assert_eq!(solo.closed(), CloseReason::Timeout(Timeout::Idle));
        }
    }
}

#[test]
fn who_does_not_ask_waits_for_no_answer() {
    for role in ROLES {
        let mut solo = negotiated(role, no_timers(), answering());
        assert_eq!(solo.next_deadline(), None);
        solo.wait(LONG);
        assert_eq!(solo.connection.state(), State::Established);
    }
}

#[test]
fn a_piece_of_a_transfer_is_an_answer_too() {
    for role in ROLES {
        let mut peer = every_extension();
        peer.ping = Some(9_000);
        let mut solo = negotiated(role, config(), peer);
        solo.wait_and_send(first_ping(role) + secs(14));
        solo.feed(&support::chunk::begin(
            if role == Role::Client { 2 } else { 1 },
            None,
        ));
        solo.wait_and_send(secs(4));
        assert_eq!(solo.connection.state(), State::Established);
    }
}

#[test]
fn no_deadline_is_ever_in_the_past() {
    // The loops of the pair look at every deadline: here all kinds of them are in use at once.
    for polls in [true, false] {
        let config = Config::default()
            .max_inbox(1_000)
            .ping_timeout(Some(secs(3)))
            .transfer_timeout(Some(secs(7)));
        let mut pair = Pair::established(config);
        pair.server.polls = polls;
        let id = pair.client.connection.open(START, Transfer::new(IMAGE));
        assert!(id.is_ok());
        for n in 0..10 {
            assert_eq!(
                pair.send(Role::Client, Message::text(format!("{n}"))),
                Ok(())
            );
            let large = Message::binary(vec![n; 20_000]);
            assert_eq!(pair.send(Role::Server, large), Ok(()));
            pair.up.stalled = n % 3 == 1;
            pair.run_for(millis(2_700));
        }
        pair.up.stalled = false;
        pair.run_for(secs(60));
        assert!(
            pair.server
                .events
                .iter()
                .all(|event| !matches!(event, Event::Closed(_)))
        );
    }
}

//! Deadlines (PROTOCOL.md §5.2, §9), in virtual time.

mod support;

use core::time::Duration;

use chat_core::frame::FrameKind;
use chat_core::{CloseReason, Config, Connection, Event, Message, Role, State, Timeout};

use support::{LONG, Pair, START, Sent, Solo, encode, frame, kinds, millis, no_timers, secs};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// When each heartbeat with this content left, since the start.
fn heartbeats(sent: &[Sent], content: &str) -> Vec<Duration> {
    sent.iter()
        .filter(|sent| sent.frame == frame(FrameKind::Heartbeat, content.to_owned()))
        .map(|sent| sent.at - START)
        .collect()
}

/// The reason of a connection that is closing, and what it says on its way out.
fn goodbye(solo: &mut Solo) -> (CloseReason, Vec<FrameKind>) {
    assert_eq!(solo.connection.state(), State::Closing);
    let sent = kinds(&solo.sent());
    solo.connection.handle_eof(solo.now);
    (solo.closed(), sent)
}

#[test]
fn a_client_pings_each_interval_whatever_it_sends() {
    let mut pair = Pair::established(Config::default());
    for _ in 0..60 {
        pair.run_for(millis(500));
        assert_eq!(pair.send(Role::Client, Message::text("busy")), Ok(()));
        assert_eq!(pair.send(Role::Server, Message::text("busy")), Ok(()));
    }
    pair.settle();
    let expected: Vec<Duration> = (1..=6).map(|n| secs(5 * n)).collect();
    assert_eq!(heartbeats(&pair.up.sent, "ping"), expected);
}

#[test]
fn a_server_pings_a_client_that_is_quiet() {
    let mut server = Solo::established(Role::Server, Config::default().idle_timeout(None));
    // One and a half intervals at first; then it is one that was asked.
    for silence in [7_500, 5_000, 5_000] {
        server.wait(millis(silence - 1));
        assert_eq!(server.sent(), []);
        server.wait(millis(1));
        assert_eq!(server.sent(), [frame(FrameKind::Heartbeat, "ping")]);
    }
}

#[test]
fn a_server_does_not_ping_a_client_that_is_heard() {
    let mut server = Solo::established(Role::Server, Config::default());
    for _ in 0..60 {
        server.wait(millis(4_999));
        server.feed(&frame(FrameKind::Message, "busy"));
        assert_eq!(server.sent(), []);
    }
    let mut pair = Pair::with(Config::default(), Config::default());
    pair.run_for(secs(600));
    assert_eq!(heartbeats(&pair.up.sent, "ping").len(), 120);
    assert_eq!(heartbeats(&pair.down.sent, "ping").len(), 0);
}

#[test]
fn the_next_ping_is_due_an_interval_after_the_last_has_left() {
    let config = no_timers().heartbeat(Some(secs(5)));
    let mut client = Solo::established(Role::Client, config);
    client.wait(secs(60));
    assert_eq!(client.next_deadline(), None, "one waits still");
    assert_eq!(kinds(&client.sent()), [FrameKind::Heartbeat]);
    assert_eq!(client.next_deadline(), Some(secs(5)));
}

#[test]
fn every_ping_is_answered_once_and_no_pong_is() {
    // Servers ask too if nothing else comes from the client.
    let quiet = Config::default().heartbeat(None);
    for (client, server) in [
        (Config::default(), Config::default()),
        (quiet.clone(), Config::default()),
        (Config::default(), quiet.clone()),
        (
            Config::default().heartbeat(Some(secs(20))),
            Config::default(),
        ),
    ] {
        let mut pair = Pair::with(client, server);
        pair.run_for(secs(300));
        let count = |sent: &[Sent], content| heartbeats(sent, content).len();
        let asked = [count(&pair.up.sent, "ping"), count(&pair.down.sent, "ping")];
        let answered = [count(&pair.down.sent, "pong"), count(&pair.up.sent, "pong")];
        assert_eq!(answered, asked);
        assert!(asked[0] + asked[1] > 0);
        assert_eq!(pair.client.closed(), None);
        assert_eq!(pair.server.closed(), None);
    }
}

#[test]
fn a_peer_that_answers_everything_is_not_answered_for_ever() {
    for role in ROLES {
        let config = no_timers().heartbeat(Some(secs(5)));
        let mut solo = Solo::established(role, config);
        // A server asks after one and a half intervals.
        solo.wait(millis(7_500));
        let mut exchanged = 0;
        while !solo.sent().is_empty() {
            exchanged += 1;
            solo.feed(&frame(FrameKind::Heartbeat, "pong"));
        }
        assert_eq!(exchanged, 1);
    }
}

#[test]
fn no_heartbeat_is_sent_where_none_is_wanted() {
    for none in [None, Some(Duration::ZERO)] {
        for role in ROLES {
            let config = no_timers().heartbeat(none);
            let mut solo = Solo::established(role, config);
            assert_eq!(solo.next_deadline(), None);
            solo.wait(LONG);
            assert_eq!(solo.sent(), []);
        }
    }
}

#[test]
fn a_silent_peer_is_told_and_left() {
    for role in ROLES {
        let mut solo = Solo::established(role, no_timers().idle_timeout(Some(secs(30))));
        solo.send(Message::text("dropped"));
        solo.wait(millis(29_999));
        assert_eq!(solo.connection.state(), State::Established);
        solo.wait(millis(1));
        let (reason, sent) = goodbye(&mut solo);
        assert_eq!(reason, CloseReason::Timeout(Timeout::Idle));
        assert_eq!(sent, [FrameKind::Disconnect]);
    }
}

#[test]
fn any_verified_frame_is_a_sign_of_life() {
    for role in ROLES {
        for sign in [
            frame(FrameKind::Message, "hello"),
            frame(FrameKind::Heartbeat, "ping"),
            frame(FrameKind::Heartbeat, "pong"),
            frame(FrameKind::Heartbeat, "anything"),
            frame(FrameKind::Error, "oops"),
        ] {
            let config = no_timers().idle_timeout(Some(secs(30)));
            let mut solo = Solo::established(role, config);
            for _ in 0..3 {
                solo.wait(millis(29_999));
                solo.feed(&sign);
                solo.events();
            }
            assert_eq!(solo.connection.state(), State::Established);
            solo.wait(secs(30));
            assert_eq!(solo.connection.state(), State::Closing);
        }
    }
}

#[test]
fn what_is_sent_is_no_sign_of_the_peer_s_life() {
    for role in ROLES {
        let mut solo = Solo::established(role, no_timers().idle_timeout(Some(secs(30))));
        for _ in 0..30 {
            solo.send(Message::text("hello?"));
            solo.sent();
            solo.wait(secs(1));
        }
        assert_eq!(solo.connection.state(), State::Closing);
    }
}

#[test]
fn the_silence_of_a_link_is_noticed_at_both_ends() {
    let mut pair = Pair::established(Config::default().stall_timeout(None));
    pair.run_for(secs(100));
    pair.up.stalled = true;
    pair.down.stalled = true;
    // The pings of both wait, so neither has been asked; the transport takes nothing, so that
    // counts for 30 s from the ping at most, which at the server is due after 7.5 s.
    pair.run_for(millis(37_500));
    assert_eq!(pair.client.connection.state(), State::Closing);
    assert_eq!(pair.server.connection.state(), State::Closing);
    pair.run_for(secs(5));
    let idle = CloseReason::Timeout(Timeout::Idle);
    assert_eq!(pair.server.closed(), Some(&idle));
    assert_eq!(pair.client.closed(), Some(&idle));
}

#[test]
fn no_idle_or_stall_timeout_where_none_is_wanted() {
    for none in [None, Some(Duration::ZERO)] {
        for role in ROLES {
            let config = Config::default().idle_timeout(none).stall_timeout(none);
            let mut solo = Solo::established(role, config);
            solo.send(Message::text("waits"));
            solo.wait(LONG);
            assert_eq!(solo.connection.state(), State::Established);
        }
    }
}

#[test]
fn the_whole_handshake_has_one_deadline_however_the_bytes_are_spread() {
    for (role, first) in [
        (Role::Client, FrameKind::SessionInit),
        (Role::Server, FrameKind::SessionAck),
    ] {
        let bytes = encode(&frame(first, "hello"));
        let mut solo = Solo::new(role, Config::default());
        solo.sent();
        let mut fed = 0;
        while solo.connection.state() != State::Closed {
            solo.feed_bytes(&bytes[fed..=fed]);
            fed += 1;
            solo.wait(millis(100));
        }
        assert_eq!(solo.now - START, secs(10), "{role:?}");
        assert_eq!(solo.closed(), CloseReason::Timeout(Timeout::Handshake));
        assert_eq!(solo.sent(), []);
    }
}

#[test]
fn a_handshake_in_its_last_moment_is_in_time() {
    for role in ROLES {
        let mut solo = Solo::new(role, Config::default().heartbeat(None));
        solo.wait(millis(9_999));
        let kind = match role {
            Role::Client => FrameKind::SessionInit,
            Role::Server => FrameKind::SessionAck,
        };
        solo.feed(&frame(kind, "hello"));
        solo.sent();
        solo.wait(secs(20));
        assert_eq!(solo.connection.state(), State::Established);
    }
}

#[test]
fn a_transport_that_takes_nothing_is_left() {
    for role in ROLES {
        let mut solo = Solo::established(role, no_timers().stall_timeout(Some(secs(30))));
        solo.wait(secs(100));
        assert_eq!(solo.connection.state(), State::Established, "nothing waits");
        solo.send(Message::text("waits"));
        solo.wait(secs(29));
        solo.send(Message::text("waits too"));
        assert_eq!(solo.connection.state(), State::Established);
        solo.wait(secs(1));
        assert_eq!(solo.closed(), CloseReason::Timeout(Timeout::Stall));
        assert_eq!(solo.sent(), []);
    }
}

#[test]
fn a_transport_that_takes_a_byte_now_and_then_is_not_stalled() {
    let mut solo = Solo::established(Role::Client, no_timers().stall_timeout(Some(secs(30))));
    solo.send(Message::text("slowly"));
    for _ in 0..20 {
        solo.wait(secs(29));
        solo.take(1);
    }
    assert_eq!(solo.connection.state(), State::Established);
    solo.wait(secs(30));
    assert_eq!(solo.closed(), CloseReason::Timeout(Timeout::Stall));
}

#[test]
fn a_peer_that_never_ends_its_side_is_not_waited_for_for_ever() {
    for role in ROLES {
        for drained in [false, true] {
            let mut solo = Solo::established(role, Config::default());
            solo.connection.close(START, "enough");
            if drained {
                solo.sent();
            }
            let wait = solo.next_deadline().expect("a deadline");
            assert!(wait >= secs(5) && wait < millis(5_100), "{wait:?}");
            solo.wait(secs(5));
            solo.feed(&frame(FrameKind::Message, "still here"));
            assert_eq!(solo.connection.state(), State::Closing);
            solo.wait(millis(100));
            let reason = "enough".into();
            assert_eq!(solo.closed(), CloseReason::Local { reason });
            assert_eq!(solo.sent(), []);
        }
    }
}

#[test]
fn what_is_queued_when_a_connection_closes_buys_time_to_send_it() {
    let config = no_timers().max_outbox(10_000_000).min_rate(1_000);
    let mut solo = Solo::established(Role::Client, config);
    for _ in 0..100 {
        solo.send(Message::binary(vec![7; 10_000]));
    }
    solo.connection.close(START, "enough");
    let wait = solo.next_deadline().expect("a deadline");
    // 1 MB at 1 kB a second, and the headers of 101 frames.
    assert!(wait > secs(1_005) && wait < secs(1_035), "{wait:?}");
    // What leaves in the meantime does not bring it forward.
    solo.sent();
    assert_eq!(solo.next_deadline(), Some(wait));
    // What is dropped buys none.
    let mut solo = Solo::established(Role::Client, no_timers());
    solo.send(Message::binary(vec![7; 1_000_000]));
    solo.connection.abort(START, "enough");
    let wait = solo.next_deadline().expect("a deadline");
    assert!(wait < millis(5_100), "{wait:?}");
}

#[test]
fn a_refused_client_that_lingers_is_not_waited_for_for_ever() {
    let mut server = Connection::refuse(Config::default().into(), "full", START);
    assert_eq!(server.poll_timeout(), Some(START + secs(5)));
    server.handle_timeout(START + secs(5));
    assert!(matches!(server.poll_event(), Some(Event::Closed(_))));
}

#[test]
fn a_close_timeout_of_zero_waits_for_nothing() {
    let config = no_timers()
        .idle_timeout(Some(secs(30)))
        .close_timeout(Duration::ZERO);
    let mut solo = Solo::established(Role::Server, config);
    solo.wait(secs(30));
    assert_eq!(solo.closed(), CloseReason::Timeout(Timeout::Idle));
}

#[test]
fn calling_early_does_no_harm() {
    for role in ROLES {
        let mut hurried = Solo::established(role, Config::default());
        let mut calm = Solo::established(role, Config::default());
        for _ in 0..400 {
            hurried.now = hurried.now + millis(100);
            hurried.connection.handle_timeout(hurried.now);
            calm.wait(millis(100));
            assert_eq!(hurried.connection.state(), calm.connection.state());
            assert_eq!(
                hurried.connection.poll_timeout(),
                calm.connection.poll_timeout()
            );
            assert_eq!(hurried.sent(), calm.sent());
        }
        assert_eq!(calm.events(), hurried.events());
    }
}

#[test]
fn time_that_runs_backwards_ends_nothing() {
    for role in ROLES {
        let mut solo = Solo::established(role, Config::default());
        solo.wait(secs(4));
        solo.send(Message::text("waits"));
        let latest = solo.now;
        solo.now = chat_core::Instant::EPOCH;
        solo.connection.handle_timeout(solo.now);
        solo.feed(&frame(FrameKind::Message, "from the past"));
        solo.take(10);
        solo.now = latest;
        solo.connection.handle_timeout(latest + secs(1));
        assert_eq!(solo.connection.state(), State::Established, "{role:?}");
    }
}

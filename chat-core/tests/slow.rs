//! Slow peers and slow networks (PROTOCOL.md §9): who is waited for, and who is not.

mod support;

use core::time::Duration;

use chat_core::frame::{Encoder, FrameKind, MAX_CONTENT};
use chat_core::{CloseReason, Config, Key, Message, Role, State, Timeout};

use support::{Pair, START, Solo, encode, frame, millis, no_timers, secs};

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const MAX: usize = MAX_CONTENT as usize;

/// A pair with the default timers, and room for a few messages of 10 MiB.
fn pair() -> Pair {
    Pair::established(Config::default().max_outbox(4 * MAX))
}

/// Carries messages of 10 MiB over a link of 64 kB/s that holds `capacity` bytes; returns how long
/// that took.
fn carry(mut pair: Pair, from: Role, messages: usize, capacity: usize) -> Duration {
    pair.link(from).rate = Some(64_000);
    pair.link(from).capacity = capacity;
    let message = Message::binary(vec![7; MAX]);
    for _ in 0..messages {
        assert_eq!(pair.send(from, message.clone()), Ok(()));
    }
    while pair.peer(from).messages().count() < messages {
        pair.run_for(secs(1));
        for role in ROLES {
            let closed = pair.end(role).closed().cloned();
            assert_eq!(closed, None, "{role:?} after {:?}", pair.now - START);
        }
    }
    let took = pair.now - START;
    // It goes on as before.
    pair.run_for(secs(120));
    assert_eq!(pair.send(from, Message::text("still here")), Ok(()));
    pair.run_for(secs(1));
    assert_eq!(pair.peer(from).messages().count(), messages + 1);
    took
}

#[test]
fn a_large_message_over_a_slow_link_times_nobody_out() {
    for from in ROLES {
        let took = carry(pair(), from, 1, 64 * 1024);
        assert!(took > secs(160) && took < secs(170), "{took:?}");
    }
}

#[test]
fn large_messages_in_a_row_time_nobody_out() {
    for from in ROLES {
        carry(pair(), from, 3, 64 * 1024);
    }
}

#[test]
fn a_buffer_that_swallows_the_large_message_times_nobody_out() {
    // The transport has taken everything at once, pings and answers too, which arrive much later.
    for from in ROLES {
        carry(pair(), from, 1, usize::MAX);
    }
}

#[test]
fn a_large_message_to_a_peer_that_never_asks_times_nobody_out() {
    // All that can be heard from it is its answer to a ping that waits behind the message.
    let silent = Config::default().heartbeat(None);
    let mut pair = Pair::with(Config::default(), silent);
    pair.settle();
    carry(pair, Role::Client, 1, 64 * 1024);
}

/// A session after 10 MiB have gone out at 64 kB/s to a peer that said nothing in that time. A ping
/// waited behind them, and has just left.
fn asked_late(role: Role) -> Solo {
    let mut solo = Solo::established(role, Config::default());
    solo.send(Message::binary(vec![7; MAX]));
    let mut taken = 0;
    while taken < MAX {
        taken += solo.take(64_000).len();
        solo.wait(secs(1));
        assert_eq!(solo.connection.state(), State::Established, "{taken}");
    }
    assert_eq!(solo.take(1024), padded_ping());
    solo
}

fn padded_ping() -> Vec<u8> {
    let ping = frame(FrameKind::Heartbeat, "ping");
    let mut encoder = Encoder::new(Key::default());
    encoder.encode(&ping, 1024).expect("it fits").to_vec()
}

/// Time passes, and the transport takes everything at once.
fn wait_and_send(solo: &mut Solo, seconds: u64) {
    for _ in 0..seconds {
        solo.sent_bytes();
        solo.wait(secs(1));
    }
}

#[test]
fn a_peer_that_takes_bytes_is_alive_until_it_can_be_asked() {
    for role in ROLES {
        // 5 s of silence had passed when the ping was due, 7.5 s at a server: so at least 22.5 s are
        // left for the answer.
        let mut solo = asked_late(role);
        wait_and_send(&mut solo, 22);
        assert_eq!(solo.connection.state(), State::Established, "{role:?}");
        solo.feed(&frame(FrameKind::Heartbeat, "pong"));
        wait_and_send(&mut solo, 29);
        assert_eq!(solo.connection.state(), State::Established, "{role:?}");
    }
}

#[test]
fn a_peer_that_was_asked_late_and_does_not_answer_is_left() {
    for role in ROLES {
        let mut solo = asked_late(role);
        wait_and_send(&mut solo, 26);
        assert_eq!(solo.connection.state(), State::Closing, "{role:?}");
    }
}

#[test]
fn a_peer_that_was_heard_while_a_ping_waited_has_no_more_time_than_others() {
    for role in ROLES {
        let mut solo = Solo::established(role, Config::default());
        solo.send(Message::binary(vec![7; MAX]));
        for _ in 0..100 {
            solo.take(64_000);
            solo.wait(secs(1));
        }
        solo.feed(&frame(FrameKind::Message, "I am here"));
        wait_and_send(&mut solo, 29);
        assert_eq!(solo.connection.state(), State::Established, "{role:?}");
        wait_and_send(&mut solo, 2);
        assert_eq!(solo.connection.state(), State::Closing, "{role:?}");
    }
}

#[test]
fn a_peer_that_stops_taking_bytes_is_left() {
    for role in ROLES {
        let mut solo = Solo::established(role, Config::default().idle_timeout(None));
        solo.send(Message::binary(vec![7; MAX]));
        for _ in 0..50 {
            solo.take(64_000);
            solo.wait(secs(1));
        }
        solo.wait(secs(30));
        assert_eq!(solo.closed(), CloseReason::Timeout(Timeout::Stall));
    }
}

/// How long a session lives whose peer sends a frame that never ends, at so many bytes a second.
fn life_at(rate: usize, config: Config) -> Option<Duration> {
    let mut solo = Solo::established(Role::Server, config);
    let bytes = encode(&frame(FrameKind::Message, vec![7; MAX]));
    for piece in bytes.chunks(rate).take(3_600) {
        solo.feed_bytes(piece);
        // Deadlines may fall anywhere in the second.
        let second = solo.now + secs(1);
        while solo.now < second {
            solo.wait(millis(10));
            if solo.connection.state() != State::Established {
                return Some(solo.now - START);
            }
        }
    }
    None
}

#[test]
fn a_dribbler_in_an_established_session_is_cut() {
    let idle = no_timers().idle_timeout(Some(secs(30)));
    let life = life_at(1, idle).expect("it ends");
    assert!(life >= secs(30) && life < secs(31), "{life:?}");
}

#[test]
fn arriving_bytes_buy_as_much_time_as_the_slowest_rate_allows() {
    let config = || no_timers().idle_timeout(Some(secs(30))).min_rate(1_000);
    // At half the rate each second buys half a second: 30 s last twice as long.
    let half = life_at(500, config()).expect("it ends");
    assert!(half >= secs(60) && half <= secs(62), "{half:?}");
    assert_eq!(life_at(1_000, config()), None);
    assert_eq!(life_at(2_000, config()), None);
}

#[test]
fn a_slowest_rate_of_zero_counts_as_one() {
    let config = no_timers().idle_timeout(Some(secs(30))).min_rate(0);
    assert_eq!(life_at(1, config), None);
}

#[test]
fn bytes_of_a_frame_buy_time_only_until_it_is_whole() {
    let mut solo = Solo::established(Role::Client, no_timers().idle_timeout(Some(secs(30))));
    let bytes = encode(&frame(FrameKind::Message, vec![7; 1024 * 1024]));
    let (start, end) = bytes.split_at(bytes.len() - 1);
    solo.feed_bytes(start);
    // 1 MiB at 16 KiB a second, and the headers.
    let deadline = solo.next_deadline().expect("it is waited for");
    assert!(deadline > secs(94) && deadline < secs(95), "{deadline:?}");
    solo.wait(secs(90));
    solo.feed_bytes(end);
    assert_eq!(solo.next_deadline(), Some(secs(30)));
}

#[test]
fn heartbeats_leave_room_for_messages_on_a_very_slow_link() {
    for from in ROLES {
        let mut pair = Pair::established(Config::default());
        pair.link(from).rate = Some(1_000);
        pair.link(from).capacity = 100;
        for n in 0..20 {
            assert_eq!(pair.send(from, Message::text(format!("{n}"))), Ok(()));
        }
        pair.run_for(secs(60));
        assert_eq!(pair.peer(from).messages().count(), 20);
        for role in ROLES {
            assert_eq!(pair.end(role).closed(), None, "{role:?}");
        }
    }
}

//! A transport that takes nothing, while the peer is heard (PROTOCOL.md §9).

mod support;

use chat_core::frame::{Extensions, FrameKind};
use chat_core::{CloseReason, Event, Message, Role, Timeout};

use support::chunk::{every_extension, negotiated};
use support::{frame, no_timers, secs};

const STALL: CloseReason = CloseReason::Timeout(Timeout::Stall);

/// How it ends when the transport takes nothing for 60 s and a sign of life comes every 5 s.
fn end_of(role: Role, peer: Extensions) -> Option<(u64, CloseReason)> {
    let config = no_timers().stall_timeout(Some(secs(30)));
    let mut solo = negotiated(role, config, peer);
    solo.send(Message::text("hello"));
    for n in 1..=12 {
        solo.wait(secs(5));
        if let Some(Event::Closed(reason)) = solo.events().pop() {
            return Some((5 * n, reason));
        }
        solo.feed(&frame(FrameKind::Heartbeat, "pong"));
    }
    None
}

#[test]
fn a_client_that_talks_and_takes_nothing_is_not_waited_for() {
    for peer in [every_extension(), Extensions::default()] {
        assert_eq!(end_of(Role::Server, peer), Some((30, STALL)));
    }
}

#[test]
fn a_server_that_says_that_it_lives_is_waited_for_and_one_of_version_1_is_not() {
    // It may read more slowly because it was sent too much, and then says that it lives: section 5.2.
    assert_eq!(end_of(Role::Client, every_extension()), None);
    let version_1 = Extensions::default();
    assert_eq!(end_of(Role::Client, version_1), Some((30, STALL)));
}

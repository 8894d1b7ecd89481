//! What is hashed to be sent, as the statistics say it: every content, unless `sec` is in force and
//! its hash is known.

mod support;

use chat_core::{Config, Message, Role, SendError};

use support::chunk::{image, noise};
use support::{Pair, START, Solo, no_timers};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// How much is hashed when one end sends this.
fn hashed(pair: &mut Pair, from: Role, message: &Message) -> u64 {
    let before = pair.end(from).connection.stats().bytes_hashed;
    assert_eq!(pair.send(from, message.clone()), Ok(()));
    pair.settle();
    assert_eq!(pair.peer(from).messages().last(), Some(message));
    pair.end(from).connection.stats().bytes_hashed - before
}

/// With and without `sec`, in pieces and in one.
fn configs() -> [Config; 4] {
    [
        no_timers(),
        no_timers().chunks(false),
        no_timers().sec(false),
        no_timers().version_1(),
    ]
}

#[test]
fn every_content_that_is_sent_is_hashed_once() {
    for config in configs() {
        let mut pair = Pair::established(config);
        let is_secure = pair.client.connection.identity().is_some();
        for from in ROLES {
            for len in [1, 32, 33, 1_000, 8_192] {
                let message = Message::binary(noise(len, 1));
                // With `sec` a short content is in the code itself (PROTOCOL.md §4.7).
                let len = if is_secure && len <= 32 { 0 } else { len };
                assert_eq!(hashed(&mut pair, from, &message), len as u64);
            }
            // In pieces there are `begin` and `end` too.
            let many = hashed(&mut pair, from, &image(200_000));
            assert!((200_000..200_100).contains(&many), "{many}");
        }
    }
}

#[test]
fn what_was_hashed_before_is_not_hashed_again_with_sec() {
    for config in configs() {
        let message = image(200_000).hashed(&config);
        let small = image(1_000).hashed(&config);
        let mut pair = Pair::established(config);
        let is_secure = pair.client.connection.identity().is_some();
        for from in ROLES {
            let many = hashed(&mut pair, from, &message);
            let few = hashed(&mut pair, from, &small);
            if is_secure {
                // The words of the frames around it.
                assert!(many < 100, "{many}");
                assert_eq!(few, 0);
            } else {
                assert!(many >= 200_000, "{many}");
                assert_eq!(few, 1_000);
            }
        }
    }
}

#[test]
fn what_arrived_is_not_hashed_again_with_sec() {
    let mut pair = Pair::established(no_timers().chunks(false));
    let mut next = Pair::established(no_timers().chunks(false));
    for from in ROLES {
        hashed(&mut pair, from, &image(50_000));
        let arrived = pair.peer(from).messages().last().expect("it arrived");
        assert_eq!(hashed(&mut next, from, &arrived.clone()), 0);
    }
}

#[test]
fn what_arrived_in_pieces_is_not_hashed_again_where_it_leaves_in_the_same() {
    let config = no_timers;
    // The pieces of the one who sends it first, of who passes it on, and whether those are the same.
    for (first, then, same) in [
        (65_536, 65_536, true),
        (4_096, 4_096, true),
        (65_536, 32_768, false),
        (4_096, 65_536, false),
    ] {
        let mut pair = Pair::established(config().chunk_size(first));
        let mut next = Pair::established(config().chunk_size(then));
        for from in ROLES {
            for len in [8_193, 65_536, 65_537, 200_000] {
                hashed(&mut pair, from, &image(len));
                let arrived = pair.peer(from).messages().last().expect("it arrived");
                let many = hashed(&mut next, from, &arrived.clone());
                // A message of a single piece has the same digest whatever the pieces.
                if same || len <= first as usize && len <= then as usize {
                    assert!(many < 100, "{len}: {many}");
                } else {
                    // The last piece may be too short to be hashed.
                    assert!(many + 32 >= len as u64, "{len}: {many}");
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_was_not_hashed() {
    let mut solo = Solo::established(Role::Client, no_timers().max_outbox(3_000));
    let before = solo.connection.stats().bytes_hashed;
    solo.send(Message::binary(noise(1_500, 1)));
    let refused = solo
        .connection
        .send(START, Message::binary(noise(1_200, 1)));
    assert!(matches!(refused, Err(SendError::Full(_))));
    assert_eq!(solo.connection.stats().bytes_hashed, before + 1_500);
}

//! Where the crate does not do what PROTOCOL.md or its own documentation says: each of these fails
//! until one of the two is changed.

mod support;

use chat_core::frame::ChunkOp;
use chat_core::{Config, Event, Message, Role, State, Transfer};

use support::chunk::{
    IMAGE, begin, data, done, image, negotiated, noise, open, other, said, streams, window,
    with_streams,
};
use support::{Pair, START, Solo, millis, no_timers, secs};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

#[test]
fn a_limit_above_the_largest_integer_makes_no_wrong_offer() {
    // PROTOCOL.md §3: integers are at most 2^53 - 1. `max_message(u64::MAX)` offers a larger one,
    // and no client can connect.
    for max in [1 << 53, u64::MAX] {
        let mut server = Solo::new(Role::Server, Config::default().max_message(max));
        let bytes = server.sent_bytes().concat();
        assert_eq!(support::whole(&bytes).end, Ok(0), "{max}");
    }
}

#[test]
fn the_offer_is_as_long_as_documented() {
    // PROTOCOL.md §4.6.
    let len = Solo::new(Role::Server, Config::default())
        .sent_bytes()
        .concat()
        .len();
    let protocol = include_str!("../PROTOCOL.md");
    assert!(
        protocol.contains(&format!("`session_init` is {len} bytes")),
        "{len}"
    );
}

#[test]
fn a_transfer_that_was_given_up_after_its_end_is_still_open_for_its_receiver() {
    // PROTOCOL.md §5.5: it is open until both have said their last word, and no more than
    // `transfers` may be. The sender forgets it at once, begins the next, and is cut off.
    for from in ROLES {
        let mut pair = Pair::established(streams().max_transfers(1));
        let first = open(&mut pair, from, Transfer::new(IMAGE));
        let sender = &mut pair.end(from).connection;
        sender
            .write(START, first, noise(1_000, 1))
            .expect("there is room");
        sender.finish(START, first).expect("it is open");
        pair.settle();
        pair.end(from).connection.cancel(START, first, "no longer");
        open(&mut pair, from, Transfer::new(IMAGE));
        pair.settle();
        for role in ROLES {
            assert_eq!(pair.end(role).closed(), None, "{from:?} {role:?}");
        }
    }
}

#[test]
fn a_transfer_that_stalled_after_its_end_is_still_open_for_its_receiver() {
    // As above, without anybody giving anything up: a reader that pauses for 61 s is enough.
    for from in ROLES {
        let mut pair = Pair::established(streams().max_transfers(1));
        let first = open(&mut pair, from, Transfer::new(IMAGE));
        let sender = &mut pair.end(from).connection;
        sender
            .write(START, first, noise(1_000, 1))
            .expect("there is room");
        sender.finish(START, first).expect("it is open");
        open(&mut pair, from, Transfer::new(IMAGE));
        pair.run_for(secs(70));
        for role in ROLES {
            assert_eq!(pair.end(role).closed(), None, "{from:?} {role:?}");
        }
    }
}

#[test]
fn a_message_for_which_the_receiver_has_no_room_yet_is_waited_for() {
    // Two messages that fit one by one, but not both at a time, over a slow link: the second is
    // given up by its own sender, though the receiver only does as PROTOCOL.md §5.5 says and
    // everything goes on.
    for from in ROLES {
        let config = Config::default().max_message(4 << 20).max_outbox(64 << 20);
        let mut pair = Pair::established(config);
        pair.link(from).rate = Some(25_000);
        pair.link(from).capacity = 64 * 1024;
        for _ in 0..2 {
            assert_eq!(pair.send(from, image(3 << 20)), Ok(()));
        }
        pair.run_for(secs(400));
        assert_eq!(pair.end(from).events, [], "{from:?}");
        assert_eq!(pair.peer(from).messages().count(), 2);
    }
}

#[test]
fn a_message_in_pieces_keeps_no_small_one_out_of_the_outbox() {
    // `Connection::send`: "It has room of its own: the outbox may be full for one and not for the
    // other." Pieces fill an outbox of less than 128 KiB for as long as there are any.
    for from in ROLES {
        let mut pair = Pair::established(no_timers().max_outbox(64 * 1024));
        pair.link(from).rate = Some(100_000);
        pair.link(from).capacity = 16 * 1024;
        assert_eq!(pair.send(from, image(2 << 20)), Ok(()));
        let mut overtook = false;
        while pair.peer(from).messages().count() == 0 {
            pair.run_for(millis(100));
            let unsent = pair.end(from).connection.outbox_bytes() > 200_000;
            overtook |= unsent && pair.send(from, Message::text("small")).is_ok();
        }
        assert!(overtook, "{from:?}");
    }
}

#[test]
fn an_end_whose_own_reports_fill_its_inbox_is_deaf_too() {
    // A message of its own that stalled fills the inbox of an end that is not polled: `Undelivered`.
    // From then on it reads nothing, takes that for the peer's silence, and says no `pong` either.
    for deaf in ROLES {
        let config = Config::default()
            .receive(chat_core::Receive::Pieces)
            .max_inbox(1);
        let mut pair = Pair::established(config);
        assert_eq!(pair.send(deaf, image(1 << 20)), Ok(()));
        pair.settle();
        pair.end(deaf).polls = false;
        pair.run_for(secs(600));
        pair.end(deaf).polls = true;
        pair.run_for(secs(1));
        for role in ROLES {
            assert_eq!(pair.end(role).closed(), None, "{role:?}, deaf {deaf:?}");
        }
    }
}

#[test]
fn an_answer_to_an_id_that_was_left_out_ends_the_connection() {
    // PROTOCOL.md §5.5: "`window`, `done` or `abort` of the receiver for an id that was never begun".
    // Only ids above the last are found out, and 0, which is even, is below a server's first.
    let mut peer = with_streams();
    peer.chunk.as_mut().expect("they are there").transfers = 1;
    for answer in [window(4, 1), done(4), window(0, 1), done(0)] {
        let mut solo = negotiated(Role::Server, no_timers(), peer);
        for _ in 0..2 {
            solo.connection
                .open(START, Transfer::new(IMAGE))
                .expect("it opens");
        }
        solo.sent();
        // The second was not begun, for the first is open.
        let third = solo
            .connection
            .open(START, Transfer::new(IMAGE))
            .expect("it opens");
        solo.connection.cancel(START, third, "no longer");
        let answer = match said(&answer) {
            (4, ChunkOp::Done) => done(6),
            (4, _) => window(6, 1),
            _ => answer,
        };
        solo.feed(&answer);
        assert_eq!(solo.connection.state(), State::Closing, "{answer:?}");
    }
}

#[test]
fn done_before_the_end_has_left_ends_the_connection() {
    // PROTOCOL.md §5.5: "`done` before `end`". The end waits in the outbox, nothing has left yet, and
    // the peer's `done` is taken for the truth: `Event::Sent` for what was never transmitted.
    let mut solo = negotiated(Role::Server, no_timers(), with_streams());
    let id = solo
        .connection
        .open(START, Transfer::new(IMAGE))
        .expect("it opens");
    solo.connection
        .write(START, id, noise(1_000, 1))
        .expect("there is room");
    solo.connection.finish(START, id).expect("it is open");
    solo.feed(&done(2));
    assert_eq!(solo.events(), []);
    assert_eq!(solo.connection.state(), State::Closing);
}

#[test]
fn what_was_taken_is_given_back_within_a_second() {
    // PROTOCOL.md §5.5: "at least once in a second in which it has taken something, so that the
    // sender hears of it".
    for config in [no_timers(), streams()] {
        let mut solo = negotiated(Role::Server, config, with_streams());
        solo.feed(&begin(1, None));
        solo.wait(millis(500));
        solo.feed(&data(1, 0, noise(2_000, 1)));
        if let Some(Event::Transfer { id, .. }) = solo.events().pop() {
            solo.read(id);
        }
        solo.wait(secs(2));
        assert_eq!(solo.sent(), [window(1, 2_000)]);
    }
}

#[test]
fn a_message_is_done_when_the_application_has_taken_it() {
    // PROTOCOL.md §5.5: "`done` when its application has taken the whole message".
    for from in ROLES {
        let mut pair = Pair::established(no_timers());
        pair.peer(from).polls = false;
        let id = open(&mut pair, from, Transfer::new(IMAGE));
        let sender = &mut pair.end(from).connection;
        sender
            .write(START, id, noise(1_000, 1))
            .expect("there is room");
        sender.finish(START, id).expect("it is open");
        pair.settle();
        assert_eq!(pair.end(from).events, [], "{from:?}: not yet");
        pair.peer(from).polls = true;
        pair.settle();
        assert_eq!(pair.end(from).events, [Event::Sent { id }]);
        assert_eq!(pair.end(other(from)).messages().count(), 1);
    }
}

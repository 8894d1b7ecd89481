//! Corners of transfers: places that stay taken, room that is not there, words out of turn.

mod support;

use chat_core::{Config, Message, Role, State, Transfer};

use support::chunk::{IMAGE, done, image, negotiated, noise, open, streams, window, with_streams};
use support::{Pair, START, Solo, millis, no_timers, secs};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

#[test]
fn a_limit_above_the_largest_integer_makes_no_wrong_offer() {
    // PROTOCOL.md §3: integers are at most 2^53 - 1.
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
    // `transfers` may be. A sender that forgot it at once would begin the next, and be cut off.
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
    // Two messages that fit one by one, but not both at a time, over a slow link: as long as the
    // first goes on, the second is not given up.
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
    // From then on it reads nothing, which is not the peer's silence.
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
fn an_answer_counts_against_the_ids_that_were_begun() {
    // PROTOCOL.md §5.5: ids above every one that was begun end the connection, others are ignored.
    let mut peer = with_streams();
    peer.chunk.as_mut().expect("they are there").transfers = 1;
    for (answer, state) in [
        (window(4, 1), State::Closing),
        (done(4), State::Closing),
        (done(0), State::Established),
    ] {
        let mut solo = negotiated(Role::Server, no_timers(), peer);
        for _ in 0..2 {
            let opened = solo.connection.open(START, Transfer::new(IMAGE));
            opened.expect("it opens");
        }
        // The second was not begun, for the first is open.
        solo.sent();
        solo.feed(&answer);
        assert_eq!(solo.connection.state(), state, "{answer:?}");
    }
}

#[test]
fn done_before_the_end_has_left_ends_the_connection() {
    // PROTOCOL.md §5.5: "`done` before `end`". That waits in the outbox, so nobody can have taken it.
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

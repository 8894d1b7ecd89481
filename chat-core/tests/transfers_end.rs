//! Transfers that are given up (PROTOCOL.md §5.5), by either side and at any time: the connection
//! lives on.

mod support;

use chat_core::frame::{ChunkLimits, ChunkOp};
use chat_core::{
    Event, Message, Read, Role, Transfer, TransferError, TransferFault, TransferId, WriteError,
};

use support::chunk::{
    IMAGE, abort, every_extension, image, is_idle, negotiated, noise, open, other, read, said,
    streams, with_streams,
};
use support::{Pair, START, Solo, no_timers};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn peer_says(reason: &str) -> TransferError {
    TransferError::Peer {
        reason: reason.into(),
    }
}

/// What was said about transfers, in order.
fn ops(solo: &mut Solo) -> Vec<ChunkOp> {
    solo.sent()
        .iter()
        .map(|sent| said(sent).1.clone())
        .collect()
}

/// A message still goes through, in both directions and in pieces, and then nothing is held.
#[track_caller]
fn lives_on(pair: &mut Pair) {
    for role in ROLES {
        assert_eq!(pair.send(role, Message::text("still here")), Ok(()));
        pair.settle();
        let last = pair.peer(role).events.pop();
        assert_eq!(last, Some(Event::Message(Message::text("still here"))));
    }
    is_idle(pair);
}

fn write(pair: &mut Pair, from: Role, id: TransferId, len: usize) {
    let wrote = pair.end(from).connection.write(START, id, noise(len, 1));
    assert_eq!(wrote, Ok(()));
}

#[test]
fn what_was_not_begun_is_given_up_without_a_word() {
    let mut peer = with_streams();
    peer.chunk = peer.chunk.map(|chunk| ChunkLimits {
        transfers: 1,
        ..chunk
    });
    let mut solo = negotiated(Role::Client, no_timers(), peer);
    let first = solo
        .connection
        .open(START, Transfer::new(IMAGE))
        .expect("it opens");
    let waiting = solo
        .connection
        .open(START, Transfer::new(IMAGE))
        .expect("it opens");
    let early = solo.connection.write(START, waiting, noise(5_000, 1));
    assert_eq!(early, Err(WriteError::Full), "it has to wait");
    assert_eq!(ops(&mut solo).len(), 1, "one begins");
    solo.connection.cancel(START, waiting, "no longer");
    assert_eq!(solo.connection.outbox_bytes(), 0);
    assert_eq!(
        solo.connection.write(START, waiting, noise(1, 1)),
        Err(WriteError::Closed)
    );
    assert_eq!(solo.connection.writable(waiting), 0);
    // The next begins with an id that is still greater.
    solo.connection.cancel(START, first, "no longer");
    assert_eq!(ops(&mut solo), [ChunkOp::Abort]);
    solo.connection
        .open(START, Transfer::new(IMAGE))
        .expect("it opens");
    assert_eq!(said(&solo.sent()[0]).0, 5);
    assert_eq!(solo.events(), []);
}

#[test]
fn a_sender_gives_up_once_and_nothing_follows() {
    for (written, taken) in [
        (0, 0),
        (0, usize::MAX),
        (1, 0),
        (400_000, 100),
        (400_000, usize::MAX),
    ] {
        let mut solo = negotiated(Role::Client, no_timers(), with_streams());
        let id = solo
            .connection
            .open(START, Transfer::new(IMAGE))
            .expect("it opens");
        if written > 0 {
            solo.connection
                .write(START, id, noise(written, 1))
                .expect("there is room");
        }
        let mut bytes = solo.take(taken);
        solo.connection.cancel(START, id, "no longer");
        solo.connection.cancel(START, id, "not twice");
        bytes.extend(solo.sent_bytes().concat());
        let sent = support::whole(&bytes).frames;
        let aborts = sent
            .iter()
            .filter(|sent| *said(sent).1 == ChunkOp::Abort)
            .count();
        assert_eq!(aborts, 1);
        assert_eq!(sent.last(), Some(&abort(1, "no longer")));
        assert_eq!(solo.connection.outbox_bytes(), 0);
        assert_eq!(solo.events(), [], "who gives up knows it");
    }
}

#[test]
fn a_receiver_hears_that_the_sender_gave_up() {
    for from in ROLES {
        for size in [0, 1, 100_000, 1_000_000] {
            let mut pair = Pair::established(streams());
            let id = open(&mut pair, from, Transfer::new(IMAGE).total(1_000_000));
            if size > 0 {
                write(&mut pair, from, id, size);
            }
            pair.settle();
            pair.end(from).connection.cancel(START, id, "no longer");
            pair.settle();
            // What had arrived is discarded.
            let (bytes, end) = read(&mut pair, other(from), id);
            assert_eq!(end, Some(Read::Failed(peer_says("no longer"))));
            assert!(bytes.is_empty());
            let again = read(&mut pair, other(from), id).1;
            assert_eq!(again, Some(Read::Failed(TransferError::Closed)));
            lives_on(&mut pair);
        }
    }
}

#[test]
fn a_sender_hears_that_the_receiver_gave_up() {
    for from in ROLES {
        for size in [1, 100_000, 1_000_000] {
            let mut pair = Pair::established(streams());
            let id = open(&mut pair, from, Transfer::new(IMAGE));
            write(&mut pair, from, id, size);
            pair.settle();
            pair.end(other(from))
                .connection
                .cancel(START, id, "no room");
            pair.settle();
            let error = peer_says("no room");
            assert_eq!(
                pair.end(from).events.pop(),
                Some(Event::Aborted { id, error })
            );
            assert_eq!(
                pair.end(from).connection.finish(START, id),
                Err(WriteError::Closed)
            );
            let last = &pair.link(from).sent.last().expect("its last word").frame;
            assert_eq!(said(last).1, &ChunkOp::Abort, "it answers");
            let end = read(&mut pair, other(from), id).1;
            assert_eq!(end, Some(Read::Failed(TransferError::Closed)));
            lives_on(&mut pair);
        }
    }
}

#[test]
fn a_receiver_may_give_up_what_has_arrived_whole() {
    for from in ROLES {
        let mut pair = Pair::established(streams());
        let id = open(&mut pair, from, Transfer::new(IMAGE));
        write(&mut pair, from, id, 1_000);
        assert_eq!(pair.end(from).connection.finish(START, id), Ok(()));
        pair.settle();
        pair.end(other(from))
            .connection
            .cancel(START, id, "not this");
        pair.settle();
        let error = peer_says("not this");
        assert_eq!(
            pair.end(from).events.pop(),
            Some(Event::Aborted { id, error })
        );
        // The sender has said its last word before.
        let last = &pair.link(from).sent.last().expect("its last word").frame;
        assert_eq!(said(last).1, &ChunkOp::End { offset: 1_000 });
        lives_on(&mut pair);
    }
}

#[test]
fn both_may_give_up_at_once() {
    for from in ROLES {
        for size in [1, 1_000_000] {
            let mut pair = Pair::established(streams());
            let id = open(&mut pair, from, Transfer::new(IMAGE));
            write(&mut pair, from, id, size);
            pair.settle();
            pair.end(from).connection.cancel(START, id, "no longer");
            pair.end(other(from))
                .connection
                .cancel(START, id, "no room");
            pair.settle();
            assert_eq!(pair.end(from).events, []);
            lives_on(&mut pair);
        }
    }
}

#[test]
fn an_end_and_an_abort_may_cross() {
    for from in ROLES {
        let mut pair = Pair::established(streams());
        let id = open(&mut pair, from, Transfer::new(IMAGE));
        write(&mut pair, from, id, 1_000);
        pair.settle();
        assert_eq!(pair.end(from).connection.finish(START, id), Ok(()));
        pair.end(other(from))
            .connection
            .cancel(START, id, "no room");
        pair.settle();
        let error = peer_says("no room");
        assert_eq!(
            pair.end(from).events.pop(),
            Some(Event::Aborted { id, error })
        );
        lives_on(&mut pair);
    }
}

#[test]
fn the_place_of_a_transfer_that_is_over_is_free_again() {
    for from in ROLES {
        let mut pair = Pair::established(streams().max_transfers(2));
        for n in 0..20 {
            let id = open(&mut pair, from, Transfer::new(IMAGE));
            write(&mut pair, from, id, 1_000_000);
            pair.settle();
            let gives_up = if n % 2 == 0 { from } else { other(from) };
            pair.end(gives_up).connection.cancel(START, id, "next");
            // The next one is begun while the other's word is still on its way.
            if n % 3 == 0 {
                pair.settle();
                read(&mut pair, other(from), id);
            }
            pair.end(from).events.clear();
        }
        pair.settle();
        assert_eq!(pair.end(from).closed(), None);
        assert_eq!(pair.peer(from).closed(), None);
    }
}

#[test]
fn a_message_that_is_refused_is_reported() {
    // The peer changes its mind about what it takes: by hand, for ours keeps to what it said.
    for (role, id) in [(Role::Client, 1), (Role::Server, 2)] {
        for taken in [0, 100, usize::MAX] {
            let mut solo = negotiated(role, no_timers(), every_extension());
            solo.send(image(1_000_000));
            let mut bytes = solo.take(taken.min(10));
            if taken > 10 {
                bytes.extend(solo.take(taken));
            }
            solo.feed(&abort(id, "no room"));
            let undelivered = Event::Undelivered {
                content_type: IMAGE,
                size: 1_000_000,
                error: peer_says("no room"),
            };
            assert_eq!(solo.events(), [undelivered]);
            bytes.extend(solo.sent_bytes().concat());
            let sent = support::whole(&bytes).frames;
            let last = sent.last().expect("its last word");
            assert_eq!(said(last), (id, &ChunkOp::Abort));
            let stats = solo.connection.stats();
            assert_eq!((stats.messages_sent, stats.messages_aborted), (0, 1));
            assert_eq!(solo.connection.outbox_bytes(), 0);
        }
        // After its end it was sent all the same.
        let mut solo = negotiated(role, no_timers(), every_extension());
        solo.send(image(10_000));
        solo.sent();
        solo.feed(&abort(id, "no room"));
        assert!(matches!(
            solo.events()[..],
            [Event::Undelivered { size: 10_000, .. }]
        ));
        let stats = solo.connection.stats();
        assert_eq!((stats.messages_sent, stats.messages_aborted), (1, 0));
        assert_eq!(solo.sent(), []);
    }
}

#[test]
fn a_message_that_is_put_together_is_refused_for_its_size() {
    for from in ROLES {
        let config = no_timers().max_message(300_000);
        let sender = no_timers();
        let mut pair = match from {
            Role::Client => Pair::with(sender, config),
            Role::Server => Pair::with(config, sender),
        };
        pair.settle();
        // A stream of unknown size finds out when it is too much.
        let id = open(&mut pair, from, Transfer::new(IMAGE));
        pair.end(from).events.clear();
        for _ in 0..10 {
            if pair.end(from).connection.writable(id) > 0 {
                write(&mut pair, from, id, 50_000);
            }
            pair.settle();
        }
        let error = peer_says(&TransferError::TooLarge { max: 300_000 }.to_string());
        assert_eq!(
            pair.end(from).events.pop(),
            Some(Event::Aborted { id, error })
        );
        // As does an empty one.
        let id = open(&mut pair, from, Transfer::new(IMAGE));
        assert_eq!(pair.end(from).connection.finish(START, id), Ok(()));
        pair.settle();
        let error = peer_says(&TransferError::Faulty(TransferFault::Empty).to_string());
        assert_eq!(
            pair.end(from).events.pop(),
            Some(Event::Aborted { id, error })
        );
        // And one of the largest size is taken.
        assert_eq!(pair.send(from, image(300_000)), Ok(()));
        pair.settle();
        assert_eq!(pair.peer(from).messages().next(), Some(&image(300_000)));
        is_idle(&mut pair);
    }
}

#[test]
fn reasons_are_cut_and_never_empty() {
    let long = "\u{1f408}".repeat(1_000);
    for (given, told) in [("", "unspecified reason"), (&long[..], &long[..1_024])] {
        let mut pair = Pair::established(streams());
        let id = open(&mut pair, Role::Client, Transfer::new(IMAGE));
        pair.settle();
        pair.client.connection.cancel(START, id, given);
        pair.settle();
        let end = read(&mut pair, Role::Server, id).1;
        assert_eq!(end, Some(Read::Failed(peer_says(told))));
    }
}

//! Transfers that an application writes and reads as they come (PROTOCOL.md §5.5).

mod support;

use bytes::Bytes;
use chat_core::frame::Extensions;
use chat_core::{Event, Message, OpenError, Read, Role, Transfer, WriteError};

use support::chunk::{
    IMAGE, carry, every_extension, is_idle, negotiated, noise, open, other, read, streams,
};
use support::{Pair, START, Solo, no_timers};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

#[test]
fn streams_arrive_as_they_are_written() {
    for from in ROLES {
        let mut pair = Pair::established(streams());
        for (n, (size, known)) in [(1, true), (300_000, false), (1 << 20, true)]
            .into_iter()
            .enumerate()
        {
            let content = noise(size, 5);
            let mut head = Transfer::new(IMAGE).name("cat \u{1f408}.png");
            if known {
                head = head.total(size as u64);
            }
            let id = open(&mut pair, from, head.clone());
            pair.settle();
            let announced = pair.peer(from).events.pop();
            assert_eq!(
                announced,
                Some(Event::Transfer { id, transfer: head }),
                "{n}"
            );
            assert!(carry(&mut pair, from, id, &content, 50_000) == content);
            assert_eq!(pair.end(from).events.pop(), Some(Event::Sent { id }));
            is_idle(&mut pair);
        }
    }
}

#[test]
fn an_empty_stream_is_one_too() {
    for from in ROLES {
        let mut pair = Pair::established(streams());
        for head in [Transfer::new(IMAGE), Transfer::new(IMAGE).total(0)] {
            let id = open(&mut pair, from, head);
            assert!(carry(&mut pair, from, id, &Bytes::new(), 1).is_empty());
            assert_eq!(pair.end(from).events.pop(), Some(Event::Sent { id }));
        }
        is_idle(&mut pair);
    }
}

#[test]
fn messages_and_streams_are_the_same_on_the_wire() {
    let content = noise(500_000, 9);
    for from in ROLES {
        // What is sent as one is read as a stream.
        let mut pair = Pair::established(streams());
        assert_eq!(
            pair.send(from, Message::new(IMAGE, content.clone())),
            Ok(())
        );
        pair.settle();
        let Some(Event::Transfer { id, transfer }) = pair.peer(from).events.pop() else {
            panic!("no transfer");
        };
        assert_eq!(transfer, Transfer::new(IMAGE).total(500_000));
        let mut arrived = Vec::new();
        loop {
            let (bytes, end) = read(&mut pair, other(from), id);
            arrived.extend(bytes);
            pair.settle();
            if end.is_some() {
                assert_eq!(end, Some(Read::End));
                break;
            }
        }
        assert!(arrived == content);
        // And what is written as a stream is put together.
        let mut pair = Pair::established(no_timers());
        let id = open(&mut pair, from, Transfer::new(IMAGE));
        for part in content.chunks(70_000) {
            let part = Bytes::copy_from_slice(part);
            assert_eq!(pair.end(from).connection.write(START, id, part), Ok(()));
            pair.settle();
        }
        assert_eq!(pair.end(from).connection.finish(START, id), Ok(()));
        pair.settle();
        assert!(
            pair.peer(from)
                .messages()
                .eq([&Message::new(IMAGE, content.clone())])
        );
        assert_eq!(pair.end(from).events, [Event::Sent { id }]);
    }
}

#[test]
fn a_receiver_that_does_not_read_stops_the_sender_at_the_window() {
    for from in ROLES {
        let mut pair = Pair::established(streams());
        let id = open(&mut pair, from, Transfer::new(IMAGE));
        let mut written = 0;
        while pair.end(from).connection.writable(id) > 0 {
            let wrote = pair.end(from).connection.write(START, id, noise(50_000, 3));
            assert_eq!(wrote, Ok(()));
            written += 50_000;
            pair.settle();
            assert!(written < 1_000_000, "it is never full");
        }
        assert_eq!(
            pair.end(from).connection.write(START, id, noise(1, 3)),
            Err(WriteError::Full)
        );
        let carried: usize = pair
            .link(from)
            .sent
            .iter()
            .map(|sent| sent.frame.content.len())
            .sum();
        assert_eq!(carried, 262_144 + "begin".len(), "a window of it");
        // Other traffic does not mind.
        assert_eq!(pair.send(from, Message::text("small")), Ok(()));
        pair.settle();
        assert_eq!(pair.peer(from).messages().count(), 1);
        // Reading lets it go on.
        let (bytes, end) = read(&mut pair, other(from), id);
        assert_eq!((bytes.len(), end), (262_144, None));
        pair.settle();
        assert!(pair.end(from).connection.writable(id) > 0);
        assert_eq!(read(&mut pair, other(from), id).0.len(), written - 262_144);
        pair.settle();
        is_idle(&mut pair);
    }
}

#[test]
fn a_size_that_was_declared_is_kept_to() {
    for from in ROLES {
        let mut pair = Pair::established(streams());
        let id = open(&mut pair, from, Transfer::new(IMAGE).total(10));
        let end = &mut pair.end(from).connection;
        assert_eq!(end.write(START, id, noise(11, 1)), Err(WriteError::Size));
        assert_eq!(end.write(START, id, noise(9, 1)), Ok(()));
        assert_eq!(end.finish(START, id), Err(WriteError::Size));
        assert_eq!(end.write(START, id, noise(2, 1)), Err(WriteError::Size));
        assert_eq!(end.write(START, id, noise(1, 1)), Ok(()));
        assert_eq!(end.finish(START, id), Ok(()));
        assert_eq!(end.finish(START, id), Err(WriteError::Closed));
        assert_eq!(end.write(START, id, noise(1, 1)), Err(WriteError::Closed));
        assert_eq!(end.writable(id), 0);
        pair.settle();
        assert_eq!(read(&mut pair, other(from), id).0.len(), 10);
    }
}

#[test]
fn a_transfer_that_the_peer_does_not_take_is_not_opened() {
    let mut solo = negotiated(Role::Client, no_timers(), every_extension());
    let max = 64 << 20;
    let of = |size| Transfer::new(IMAGE).total(size);
    assert_eq!(
        solo.connection.open(START, of(max + 1)),
        Err(OpenError::TooLarge { max })
    );
    for name in [String::new(), "x".repeat(8_193)] {
        let refused = solo.connection.open(START, Transfer::new(name));
        assert_eq!(refused, Err(OpenError::ContentType));
    }
    assert_eq!(solo.connection.outbox_bytes(), 0);
    assert!(solo.connection.open(START, of(max)).is_ok());
    solo.connection.close(START, "enough");
    assert_eq!(solo.connection.open(START, of(1)), Err(OpenError::Closed));
    let mut early = Solo::new(Role::Client, no_timers());
    assert_eq!(
        early.connection.open(START, of(1)),
        Err(OpenError::NotEstablished)
    );
    let mut frames = Extensions::default();
    frames.coalesce = true;
    let mut solo = negotiated(Role::Client, no_timers(), frames);
    assert_eq!(
        solo.connection.open(START, of(1)),
        Err(OpenError::Unsupported)
    );
}

//! A write of no bytes to a transfer is none (PROTOCOL.md §5.5).

mod support;

use bytes::Bytes;
use chat_core::{Role, Transfer, WriteError};

use support::chunk::{IMAGE, open, streams};
use support::{Pair, START};

#[test]
fn a_write_of_nothing_takes_no_room_and_sends_nothing() {
    for from in [Role::Client, Role::Server] {
        let mut pair = Pair::established(streams());
        // Not one byte may follow, and none is what is written.
        let id = open(&mut pair, from, Transfer::new(IMAGE).total(0));
        pair.settle();
        let connection = &mut pair.end(from).connection;
        let (room, sent) = (connection.writable(id), connection.stats().bytes_sent);
        assert!(room > 0, "the transfer has begun");
        for _ in 0..3 {
            assert_eq!(connection.write(START, id, Bytes::new()), Ok(()));
        }
        assert_eq!(connection.writable(id), room);
        let more = connection.write(START, id, Bytes::from_static(b"x"));
        assert_eq!(more, Err(WriteError::Size));
        pair.settle();
        assert_eq!(pair.end(from).connection.stats().bytes_sent, sent);
    }
}

#[test]
fn a_write_of_nothing_after_the_end_is_an_error() {
    let mut pair = Pair::established(streams());
    let id = open(&mut pair, Role::Client, Transfer::new(IMAGE));
    pair.settle();
    let connection = &mut pair.end(Role::Client).connection;
    assert_eq!(connection.finish(START, id), Ok(()));
    let late = connection.write(START, id, Bytes::new());
    assert_eq!(late, Err(WriteError::Closed));
}

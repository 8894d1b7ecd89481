//! A transfer that its sender does wrong is given up, and the connection lives on (PROTOCOL.md
//! §5.5).

mod support;

use chat_core::frame::{ChunkOp, Frame};
use chat_core::{ContentType, Event, Message, Read, Receive, State, TransferError, TransferFault};

use support::chunk::{
    IMAGE, abort, begin, both, chunk, data, done, end, noise, server, streams, window,
};
use support::{Solo, no_timers};

/// Frames for which a transfer is given up, by the last of them; the connection lives on.
#[track_caller]
fn aborts(solo: &mut Solo, frames: &[Frame], error: &TransferError) {
    let (last, first) = frames.split_last().expect("there are frames");
    solo.feed_all(first);
    let answers = solo.sent();
    assert!(
        !answers
            .iter()
            .any(|sent| sent.content_type == ContentType::TEXT),
        "{answers:?}"
    );
    solo.feed(last);
    let reason = error.to_string();
    let expected = Frame {
        content: reason.into(),
        ..abort(1, "")
    };
    assert_eq!(solo.sent(), [expected]);
    assert_eq!(solo.connection.state(), State::Established);
    let events = solo.events();
    assert!(
        events
            .iter()
            .all(|event| matches!(event, Event::Transfer { .. })),
        "{events:?}"
    );
    if let [Event::Transfer { id, .. }] = &events[..] {
        while let Some(Read::Piece(_)) = solo.read(*id) {}
        assert_eq!(solo.read(*id), Some(Read::Failed(TransferError::Closed)));
    }
}

/// What still comes of a transfer that was given up is discarded, until its last word.
#[track_caller]
fn goes_on(solo: &mut Solo) {
    solo.feed_all(&[data(1, 99, "late"), data(1, 0, "later")]);
    solo.feed(&end(1, 12_345));
    assert_eq!((solo.sent(), solo.events()), (vec![], vec![]));
    solo.feed_all(&[begin(3, Some(3)), data(3, 0, "abc"), end(3, 3)]);
    match &solo.events()[..] {
        [Event::Message(message)] => assert_eq!(message, &Message::new(IMAGE, "abc")),
        [Event::Transfer { id, .. }] => {
            assert_eq!(solo.read(*id), Some(Read::Piece("abc".into())));
            assert_eq!(solo.read(*id), Some(Read::End));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(solo.sent(), [done(3)]);
}

fn abort_it(frames: &[Frame], error: &TransferError) {
    for config in both() {
        let mut solo = server(config);
        aborts(&mut solo, frames, error);
        if !matches!(frames.last(), Some(last) if last.content == "end") {
            goes_on(&mut solo);
        }
    }
}

const fn faulty(fault: TransferFault) -> TransferError {
    TransferError::Faulty(fault)
}

#[test]
fn a_piece_that_is_missing_or_comes_twice_ends_the_transfer() {
    let gap = faulty(TransferFault::Gap);
    abort_it(&[begin(1, None), data(1, 1, "b")], &gap);
    abort_it(&[begin(1, None), data(1, 0, "a"), data(1, 2, "c")], &gap);
    abort_it(&[begin(1, None), data(1, 0, "a"), data(1, 0, "a")], &gap);
    abort_it(
        &[begin(1, Some(9)), data(1, 0, "abc"), data(1, 2, "cd")],
        &gap,
    );
    abort_it(&[begin(1, None), data(1, (1 << 53) - 1, "a")], &gap);
    // An end in another place is one too.
    abort_it(&[begin(1, None), data(1, 0, "abc"), end(1, 2)], &gap);
    abort_it(&[begin(1, None), data(1, 0, "abc"), end(1, 4)], &gap);
}

#[test]
fn another_size_than_was_declared_ends_the_transfer() {
    let size = faulty(TransferFault::Size);
    abort_it(&[begin(1, Some(3)), data(1, 0, "abcd")], &size);
    abort_it(
        &[begin(1, Some(3)), data(1, 0, "abc"), data(1, 3, "d")],
        &size,
    );
    abort_it(&[begin(1, Some(3)), data(1, 0, "ab"), end(1, 2)], &size);
}

#[test]
fn another_content_type_ends_the_transfer() {
    let other = Frame {
        content_type: ContentType::TEXT,
        ..data(1, 1, "b")
    };
    let fault = faulty(TransferFault::ContentType);
    abort_it(&[begin(1, None), data(1, 0, "a"), other], &fault);
}

#[test]
fn a_message_that_is_too_large_ends_the_transfer() {
    let config = || no_timers().max_message(100);
    let error = TransferError::TooLarge { max: 100 };
    for frames in [
        vec![begin(1, Some(101))],
        vec![begin(1, None), data(1, 0, noise(101, 1))],
        vec![begin(1, None), data(1, 0, noise(100, 1)), data(1, 100, "b")],
    ] {
        let mut solo = server(config());
        aborts(&mut solo, &frames, &error);
        goes_on(&mut solo);
    }
    let mut solo = server(config());
    solo.feed_all(&[begin(1, None), data(1, 0, noise(100, 1)), end(1, 100)]);
    assert_eq!(solo.events().len(), 1);
    // As a stream it has no limit.
    let mut solo = server(config().receive(Receive::Pieces));
    solo.feed_all(&[begin(1, Some(1 << 40)), data(1, 0, noise(101, 1))]);
    assert_eq!(solo.events().len(), 1);
    assert_eq!(solo.sent(), []);
}

#[test]
fn an_empty_message_ends_the_transfer_and_an_empty_stream_does_not() {
    let empty = faulty(TransferFault::Empty);
    aborts(&mut server(no_timers()), &[begin(1, Some(0))], &empty);
    aborts(
        &mut server(no_timers()),
        &[begin(1, None), end(1, 0)],
        &empty,
    );
    for total in [None, Some(0)] {
        let mut solo = server(streams());
        solo.feed_all(&[begin(1, total), end(1, 0)]);
        let id = solo.announced();
        assert_eq!(solo.sent(), []);
        assert_eq!(solo.read(id), Some(Read::End));
        assert_eq!(solo.sent(), [done(1)]);
    }
}

#[test]
fn a_faulty_stream_says_so_to_its_reader() {
    let mut solo = server(streams());
    solo.feed_all(&[begin(1, None), data(1, 0, "a"), data(1, 2, "c")]);
    let id = solo.announced();
    let failed = Read::Failed(faulty(TransferFault::Gap));
    assert_eq!(solo.read(id), Some(failed));
    assert_eq!(solo.read(id), Some(Read::Failed(TransferError::Closed)));
}

#[test]
fn what_is_there_for_people_is_not_checked() {
    let mut solo = server(no_timers());
    let odd = |frame: Frame| Frame {
        content: "odd".into(),
        content_type: "x/y".into(),
        ..frame
    };
    let named = chunk(
        1,
        ChunkOp::Begin {
            total: None,
            name: Some("cat".into()),
        },
        "odd",
    );
    solo.feed_all(&[named, data(1, 0, "abc"), odd(end(1, 3))]);
    assert_eq!(solo.events(), [Event::Message(Message::new(IMAGE, "abc"))]);
    let mut solo = server(no_timers());
    solo.send(support::chunk::image(100_000));
    solo.sent();
    solo.feed_all(&[odd(window(2, 1)), odd(done(2))]);
    assert_eq!(solo.connection.state(), State::Established);
}

#[test]
fn a_message_of_one_byte_pieces_is_taken_and_holds_no_more_than_it_is() {
    let count = 131_000;
    for config in both() {
        let mut solo = server(config);
        solo.feed(&begin(1, Some(count)));
        let id = solo.events().iter().find_map(|event| match event {
            Event::Transfer { id, .. } => Some(*id),
            _ => None,
        });
        // The sender keeps to its window; the reader takes what there is.
        let (mut credit, mut read, mut most) = (262_144_u64, 0, 0);
        for n in 0..count {
            assert!(credit >= 1_024, "it is stuck at {n}");
            credit -= 1_024;
            solo.feed(&data(1, n, vec![u8::try_from(n % 251).expect("a byte")]));
            most = most.max(n + 1 - read);
            if n % 100 == 99 {
                while let Some(id) = id
                    && let Some(Read::Piece(piece)) = solo.read(id)
                {
                    assert_eq!(*piece, [u8::try_from(read % 251).expect("a byte")]);
                    read += 1;
                }
            }
            for answer in solo.sent() {
                let (1, ChunkOp::Window { bytes }) = support::chunk::said(&answer) else {
                    panic!("{answer:?}");
                };
                credit += bytes;
            }
        }
        solo.feed(&end(1, count));
        match id {
            Some(_) => assert!(most <= 256, "{most} pieces waited"),
            None => assert_eq!(solo.connection.stats().messages_received, 1),
        }
        assert_eq!(solo.connection.state(), State::Established);
    }
}

//! A peer that sends pieces wrong (PROTOCOL.md §5.5): what ends the connection.

mod support;

use chat_core::frame::{Frame, FrameError, FrameKind, HeaderFault};
use chat_core::{CloseReason, Event, ProtocolError, Read, Role, State, Transfer, TransferId};

use support::chunk::{
    IMAGE, abort, begin, both, data, done, end, every_extension, negotiated, noise, server,
    streams, window, with_streams,
};
use support::{SESSION, Solo, frame, kinds, no_timers, raw_frame};

/// The connection ends: the peer is told so.
#[track_caller]
fn ends(mut solo: Solo, error: ProtocolError) {
    assert_eq!(solo.connection.state(), State::Closing);
    let sent = solo.sent();
    let [.., told, goodbye] = &sent[..] else {
        panic!("not two frames: {:?}", kinds(&sent));
    };
    assert_eq!(told, &frame(FrameKind::Error, error.to_string()));
    assert_eq!(goodbye.kind, FrameKind::Disconnect);
    solo.connection.handle_eof(solo.now);
    let last = solo.events().pop();
    assert_eq!(last, Some(Event::Closed(CloseReason::Protocol(error))));
}

/// Frames at which the connection of a server ends, but not before the last of them.
#[track_caller]
fn end_it(frames: &[Frame], error: ProtocolError) {
    for config in both() {
        let mut solo = server(config.clone());
        let (last, first) = frames.split_last().expect("there are frames");
        solo.feed_all(first);
        assert_eq!(solo.connection.state(), State::Established);
        solo.feed(last);
        ends(solo, error);
        // The other role's ids are even; what is said is otherwise the same.
        let mut solo = negotiated(Role::Client, config, with_streams());
        solo.feed_all(&frames.iter().map(mirrored).collect::<Vec<_>>());
        ends(solo, error);
    }
}

/// The same frame of a server.
fn mirrored(frame: &Frame) -> Frame {
    let mut frame = frame.clone();
    if let chat_core::frame::Extra::Chunk(chunk) = &mut frame.extra {
        chunk.id += 1;
    }
    frame
}

#[test]
fn an_id_that_is_not_the_sender_s_to_begin_ends_the_connection() {
    let wrong = ProtocolError::WrongTransfer;
    for config in both() {
        for id in [0, 2, 4] {
            let mut solo = server(config.clone());
            solo.feed(&begin(id, None));
            ends(solo, wrong);
        }
        for id in [0, 1, 3] {
            let mut solo = negotiated(Role::Client, config.clone(), with_streams());
            solo.feed(&begin(id, None));
            ends(solo, wrong);
        }
    }
}

#[test]
fn ids_that_do_not_increase_end_the_connection() {
    let wrong = ProtocolError::WrongTransfer;
    end_it(&[begin(1, None), begin(1, None)], wrong);
    end_it(&[begin(5, None), begin(3, None)], wrong);
    end_it(&[begin(5, None), abort(5, "over"), begin(5, None)], wrong);
    // They may leave some out.
    let mut solo = server(no_timers());
    solo.feed_all(&[begin(7, None), begin(9, None), begin((1 << 53) - 1, None)]);
    assert_eq!(solo.connection.state(), State::Established);
}

#[test]
fn pieces_of_what_is_not_open_end_the_connection() {
    let wrong = ProtocolError::WrongTransfer;
    for last in [data(1, 0, "a"), end(1, 0), abort(1, "over")] {
        end_it(std::slice::from_ref(&last), wrong);
        end_it(&[begin(3, None), last.clone()], wrong);
        end_it(&[begin(1, None), abort(1, "over"), last.clone()], wrong);
        end_it(
            &[begin(1, None), data(1, 0, "a"), end(1, 1), last.clone()],
            wrong,
        );
        // Also of one that was given up: its last word is the last.
        end_it(
            &[begin(1, None), data(1, 1, "gap"), end(1, 4), last.clone()],
            wrong,
        );
    }
}

#[test]
fn answers_about_a_transfer_of_one_s_own_end_the_connection() {
    // An id says whose transfer it is, and only the other end answers. That there is a greater one
    // of the other end's is no excuse.
    for (role, id) in [(Role::Client, 2), (Role::Server, 1)] {
        for answer in [window(id, 1_024), done(id)] {
            for begins in [true, false] {
                let mut solo = negotiated(role, streams(), with_streams());
                for _ in 0..3 {
                    let opened = solo.connection.open(solo.now, Transfer::new(IMAGE));
                    opened.expect("it opens");
                }
                solo.sent();
                if begins {
                    solo.feed(&begin(id, None));
                }
                solo.feed(&answer);
                ends(solo, ProtocolError::WrongTransfer);
            }
        }
    }
}

#[test]
fn more_than_the_window_ends_the_connection() {
    let window = ProtocolError::Window;
    // Of streams that nobody reads, so that nothing is given back.
    let full: Vec<Frame> = (0..4)
        .map(|n| data(1, n * 65_536, noise(65_536, n)))
        .collect();
    let mut solo = server(streams());
    solo.feed(&begin(1, None));
    solo.feed_all(&full);
    assert_eq!(solo.connection.state(), State::Established);
    solo.feed(&data(1, 262_144, "a"));
    ends(solo, window);

    // A piece uses 1,024 bytes at least.
    for len in [1_u64, 1_023, 1_024] {
        let mut solo = server(streams());
        solo.feed(&begin(1, None));
        for n in 0..256 {
            solo.feed(&data(
                1,
                n * len,
                noise(usize::try_from(len).expect("small"), n),
            ));
        }
        assert_eq!(solo.connection.state(), State::Established, "{len}");
        solo.feed(&data(1, 256 * len, "a"));
        ends(solo, window);
    }

    // To the byte: what is left is 1,024 bytes.
    for (len, ends_it) in [(1_024, false), (1_025, true)] {
        let mut solo = server(streams());
        solo.feed(&begin(1, None));
        solo.feed_all(&full[..3]);
        solo.feed_all(&[
            data(1, 196_608, noise(64_512, 1)),
            data(1, 261_120, noise(len, 1)),
        ]);
        if ends_it {
            ends(solo, window);
        } else {
            assert_eq!(solo.connection.state(), State::Established);
        }
    }

    // Short of it by less than that.
    let mut solo = server(streams());
    solo.feed(&begin(1, None));
    solo.feed_all(&full[..3]);
    solo.feed_all(&[data(1, 196_608, noise(65_535, 1)), data(1, 262_143, "a")]);
    ends(solo, window);
}

#[test]
fn what_was_given_back_can_be_used() {
    let mut solo = server(streams());
    solo.feed(&begin(1, None));
    let id = solo.announced();
    for n in 0..4 {
        solo.feed(&data(1, n * 65_536, noise(65_536, n)));
    }
    solo.read(id);
    assert_eq!(solo.sent(), [], "less than half of the window");
    solo.read(id);
    assert_eq!(solo.sent(), [window(1, 131_072)]);
    solo.feed_all(&[
        data(1, 262_144, noise(65_536, 1)),
        data(1, 327_680, noise(65_536, 1)),
    ]);
    assert_eq!(solo.connection.state(), State::Established);
    solo.feed(&data(1, 393_216, "a"));
    ends(solo, ProtocolError::Window);
}

#[test]
fn a_piece_that_is_too_long_ends_the_connection() {
    for config in both() {
        let mut solo = server(config);
        solo.feed_all(&[begin(1, None), data(1, 0, noise(65_537, 1))]);
        ends(solo, ProtocolError::Window);
    }
}

#[test]
fn too_many_transfers_end_the_connection() {
    for config in both() {
        let mut solo = server(config.max_transfers(3));
        solo.feed_all(&[begin(1, None), begin(3, None), begin(5, None)]);
        // One that is over makes room, of whichever kind its last words are.
        solo.feed_all(&[abort(3, "over"), begin(7, None)]);
        assert_eq!(solo.connection.state(), State::Established);
        // One that this end gave up is open until the other has said so too.
        solo.feed_all(&[data(1, 5, "gap")]);
        solo.feed(&begin(9, None));
        ends(solo, ProtocolError::TooManyTransfers);
    }
}

#[test]
fn a_transfer_is_open_until_its_reader_has_taken_it() {
    let mut solo = server(streams().max_transfers(1));
    solo.feed_all(&[begin(1, None), data(1, 0, "a"), end(1, 1)]);
    let id = solo.announced();
    solo.read(id);
    assert_eq!(solo.read(id), Some(Read::End));
    solo.feed(&begin(3, None));
    assert_eq!(solo.connection.state(), State::Established);
    solo.feed_all(&[data(3, 0, "a"), end(3, 1)]);
    solo.feed(&begin(5, None));
    ends(solo, ProtocolError::TooManyTransfers);
}

/// A server that has begun a stream of its own, of so many bytes.
fn streaming(len: usize) -> (Solo, TransferId) {
    let mut solo = server(no_timers());
    let opened = solo.connection.open(solo.now, Transfer::new(IMAGE));
    let id = opened.expect("the peer takes them");
    let wrote = solo.connection.write(solo.now, id, noise(len, 1));
    assert_eq!(wrote, Ok(()));
    solo.sent();
    (solo, id)
}

#[test]
fn more_window_than_was_used_ends_the_connection() {
    for (len, used) in [
        (1, 1_024),
        (1_024, 1_024),
        (5_000, 5_000),
        (262_144, 262_144),
    ] {
        let (mut solo, _) = streaming(len);
        solo.feed(&window(2, used));
        assert_eq!(solo.connection.state(), State::Established);
        solo.feed(&window(2, 1));
        ends(solo, ProtocolError::Window);
        let (mut solo, _) = streaming(len);
        solo.feed(&window(2, (1 << 53) - 1));
        ends(solo, ProtocolError::Window);
    }
}

#[test]
fn done_before_the_end_ends_the_connection() {
    let (mut solo, _) = streaming(100);
    solo.feed(&done(2));
    ends(solo, ProtocolError::WrongTransfer);
}

#[test]
fn answers_to_what_was_never_begun_end_the_connection() {
    for answer in [window(4, 1), done(4), abort(4, "why")] {
        let (mut solo, _) = streaming(100);
        solo.feed(&answer);
        ends(solo, ProtocolError::WrongTransfer);
    }
    for (role, ids) in [(Role::Server, [2, 100]), (Role::Client, [1, 101])] {
        for id in ids {
            for answer in [window(id, 1), done(id), abort(id, "why")] {
                let mut solo = negotiated(role, no_timers(), every_extension());
                solo.feed(&answer);
                ends(solo, ProtocolError::WrongTransfer);
            }
        }
    }
    // Answers to a transfer of the one who answers make no sense either.
    for answer in [window(1, 1), done(1)] {
        end_it(&[begin(1, None), answer], ProtocolError::WrongTransfer);
    }
}

#[test]
fn answers_to_what_is_over_are_ignored() {
    let (mut solo, id) = streaming(100);
    solo.connection.cancel(solo.now, id, "no longer");
    let (mut ended, id) = streaming(100);
    assert_eq!(ended.connection.finish(ended.now, id), Ok(()));
    ended.sent();
    ended.feed(&done(2));
    assert_eq!(ended.events(), [Event::Sent { id }]);
    for mut solo in [solo, ended] {
        solo.sent();
        for answer in [window(2, 1_000_000), done(2), abort(2, "why")] {
            solo.feed(&answer);
            assert_eq!((solo.sent(), solo.events()), (vec![], vec![]));
        }
        assert_eq!(solo.connection.state(), State::Established);
    }
}

#[test]
fn a_chunk_that_does_not_say_what_it_is_ends_the_connection() {
    let bad = ProtocolError::Frame(FrameError::HeaderJson(HeaderFault::BadChunk));
    let mut solo = server(no_timers());
    solo.feed(&frame(FrameKind::Chunk, "part"));
    ends(solo, bad);
    for text in ["null", "7", "{}", "{\"id\": 1}", "{\"op\": \"done\"}"] {
        let mut solo = server(no_timers());
        let json = format!(
            "{{\"type\": \"chunk\", \"content_type\": \"a/b\", \"session_id\": \"{SESSION}\", \
             \"chunk\": {text}}}"
        );
        solo.feed_bytes(&raw_frame(json.as_bytes(), b"part"));
        ends(solo, bad);
    }
}

//! To whom a receiver gives back the window, and when it has nothing more to say
//! (PROTOCOL.md §5.5).

mod support;

use chat_core::frame::{ChunkOp, Frame};

use support::chunk::{abort, begin, both, data, done, end, noise, said, server, streams};
use support::{START, Solo, no_timers, secs};

/// The window of the tests.
const WINDOW: u64 = 262_144;
/// The largest message that is put together, and so the room for all of them.
const ROOM: u64 = 1 << 20;

/// A server that puts messages together.
fn together() -> Solo {
    server(no_timers().max_message(ROOM))
}

/// A window of a transfer, from an offset on.
fn a_window(id: u64, offset: u64) -> Vec<Frame> {
    let pieces = (offset..offset + WINDOW).step_by(65_536);
    pieces.map(|at| data(id, at, noise(65_536, at))).collect()
}

/// The same in pieces that use twice what they hold, so that it is not all that there is.
fn half_a_window_in_small_pieces(id: u64) -> Vec<Frame> {
    let pieces = (0..WINDOW / 4).step_by(512);
    pieces.map(|at| data(id, at, noise(512, at))).collect()
}

/// How much each transfer is given back by what is sent, which is nothing else.
#[track_caller]
fn given(solo: &mut Solo) -> Vec<(u64, u64)> {
    let mut given: Vec<(u64, u64)> = Vec::new();
    for frame in solo.sent() {
        let (id, op) = said(&frame);
        let ChunkOp::Window { bytes } = op else {
            panic!("not a window: {op:?}");
        };
        match given.iter_mut().find(|(of, _)| *of == id) {
            Some((_, sum)) => *sum += bytes,
            None => given.push((id, *bytes)),
        }
    }
    given
}

/// Feeds frames one by one, as they arrive.
fn feed_each(solo: &mut Solo, frames: &[Frame]) {
    for frame in frames {
        solo.feed(frame);
    }
}

#[test]
fn only_those_are_given_windows_for_which_there_is_room_the_oldest_first() {
    // Of an unknown size is as large as may be.
    for totals in [[Some(ROOM), Some(ROOM)], [None, None], [Some(ROOM), None]] {
        for gives_up in [true, false] {
            let mut solo = together();
            solo.feed_all(&[begin(1, totals[0]), begin(3, totals[1])]);
            feed_each(&mut solo, &a_window(3, 0));
            assert_eq!(given(&mut solo), [], "there is room for one");
            feed_each(&mut solo, &a_window(1, 0));
            assert_eq!(given(&mut solo), [(1, WINDOW)]);
            // The other's turn comes when the first is over.
            let over = if gives_up {
                solo.feed(&abort(1, "enough"));
                0
            } else {
                for offset in (WINDOW..ROOM).step_by(262_144) {
                    feed_each(&mut solo, &a_window(1, offset));
                    assert_eq!(given(&mut solo), [(1, WINDOW)]);
                }
                solo.feed(&end(1, ROOM));
                assert_eq!(solo.sent()[..1], [done(1)]);
                1
            };
            assert_eq!(solo.events().len(), over);
            feed_each(&mut solo, &a_window(3, WINDOW));
            let total: u64 = given(&mut solo).iter().map(|(_, bytes)| bytes).sum();
            assert!(total >= WINDOW, "{total}");
        }
    }
}

#[test]
fn two_that_fit_together_both_go_on() {
    let mut solo = together();
    let half = Some(ROOM / 2);
    solo.feed_all(&[begin(1, half), begin(3, half), begin(5, half)]);
    for id in [5, 3, 1] {
        feed_each(&mut solo, &a_window(id, 0));
        let expected = if id == 5 { vec![] } else { vec![(id, WINDOW)] };
        assert_eq!(given(&mut solo), expected);
    }
}

#[test]
fn a_message_that_its_window_holds_takes_no_room() {
    // PROTOCOL.md §9: of all of them, the largest message and a window each.
    for (total, goes_on) in [(WINDOW - 1, true), (WINDOW, true), (WINDOW + 1, false)] {
        let mut solo = together();
        solo.feed_all(&[begin(1, Some(ROOM)), begin(3, Some(total))]);
        feed_each(&mut solo, &half_a_window_in_small_pieces(3));
        let expected = if goes_on {
            vec![(3, WINDOW / 2)]
        } else {
            vec![]
        };
        assert_eq!(given(&mut solo), expected, "{total}");
    }
}

#[test]
fn whoever_has_given_a_transfer_up_gives_nothing_back() {
    // "A receiver to which `abort` was sent has nothing more to say", nor has one that said it.
    for aborted in [true, false] {
        let mut solo = server(streams());
        solo.feed(&begin(1, None));
        let id = solo.announced();
        feed_each(&mut solo, &a_window(1, 0));
        solo.read(id);
        solo.now = START + secs(5);
        let expected = if aborted {
            solo.feed(&abort(1, "enough"));
            vec![]
        } else {
            solo.connection.cancel(solo.now, id, "no more");
            vec![abort(1, "no more")]
        };
        assert_eq!(solo.sent(), expected);
        solo.now = START + secs(10);
        // Whatever makes it look again at what it owes.
        solo.feed(&begin(3, None));
        let other = solo.announced();
        solo.feed(&data(3, 0, "x"));
        solo.read(other);
        solo.read(id);
        assert!(given(&mut solo).iter().all(|(of, _)| *of == 3));
    }
}

#[test]
fn what_arrives_after_an_abort_of_the_receiver_is_given_nothing() {
    for config in both() {
        let mut solo = server(config.max_message(ROOM));
        solo.feed(&begin(1, None));
        solo.events();
        // It is at the wrong place.
        solo.feed(&data(1, 5, "x"));
        assert!(matches!(said(&solo.sent()[0]), (1, ChunkOp::Abort)));
        solo.now = START + secs(5);
        feed_each(&mut solo, &a_window(1, 0)[..3]);
        assert_eq!(solo.sent(), []);
    }
}

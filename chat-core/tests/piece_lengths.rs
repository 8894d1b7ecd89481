//! How long the pieces of a stream are, however it was written: as long as they may be where there
//! is so much, and never empty (PROTOCOL.md §5.5).

mod support;

use bytes::Bytes;
use chat_core::frame::ChunkOp;
use chat_core::{Role, Transfer, TransferId};

use support::chunk::{IMAGE, negotiated, noise, said, window, with_streams};
use support::{START, Solo, no_timers};

/// The largest piece that the peer takes.
const SIZE: usize = 65_536;
/// What it takes before it gives anything back.
const WINDOW: usize = 262_144;

/// A client that has sent as much of a stream as it may, and the stream.
fn blocked() -> (Solo, TransferId) {
    let mut solo = negotiated(Role::Client, no_timers(), with_streams());
    let opened = solo.connection.open(START, Transfer::new(IMAGE));
    let id = opened.expect("it opens");
    for offset in (0..WINDOW).step_by(SIZE) {
        let written = solo.connection.write(START, id, noise(SIZE, 1));
        written.expect("there is room");
        assert_eq!(pieces(&mut solo, offset), [noise(SIZE, 1)]);
    }
    (solo, id)
}

/// The pieces that are sent, each of which has its place behind the one before.
#[track_caller]
fn pieces(solo: &mut Solo, mut offset: usize) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    for frame in solo.sent() {
        match said(&frame) {
            (1, ChunkOp::Begin { .. }) => {}
            (1, ChunkOp::Data { offset: at }) => {
                assert_eq!(*at, offset as u64);
                offset += frame.content.len();
                pieces.push(frame.content);
            }
            other => panic!("not a piece: {other:?}"),
        }
    }
    pieces
}

#[test]
fn what_was_written_bit_by_bit_goes_out_together() {
    for step in [1, 7, 500, 1_024, 5_000, 20_000, 32_767] {
        let (mut solo, id) = blocked();
        let content = noise((100 * step).min(120_000), 9);
        for bit in content.chunks(step) {
            let bit = Bytes::copy_from_slice(bit);
            let written = solo.connection.write(START, id, bit);
            written.expect("there is room");
        }
        assert_eq!(solo.sent(), [], "the window is used up");
        // Room for all of it, and more.
        solo.feed(&window(1, 2 * SIZE as u64));
        let sent = pieces(&mut solo, WINDOW);
        let lens: Vec<usize> = sent.iter().map(Bytes::len).collect();
        let expected: Vec<usize> = content.chunks(SIZE).map(<[u8]>::len).collect();
        assert_eq!(lens, expected, "in bits of {step}");
        assert!(sent.concat() == content, "in bits of {step}");
        assert_eq!(solo.connection.outbox_bytes(), 0);
    }
}

#[test]
fn a_piece_is_no_longer_than_what_was_given_back() {
    for step in [1, 300, 1_024, 3_000, 50_000] {
        for given in [1_024, 1_025, 2_000, 4_000, 40_000] {
            let (mut solo, id) = blocked();
            let content = noise(50_000, 9);
            for bit in content.chunks(step) {
                let bit = Bytes::copy_from_slice(bit);
                let written = solo.connection.write(START, id, bit);
                written.expect("there is room");
            }
            solo.feed(&window(1, given as u64));
            let sent = pieces(&mut solo, WINDOW);
            let len = sent
                .iter()
                .map(|piece| piece.len().max(1_024))
                .sum::<usize>();
            assert!(len <= given, "{len} of {given} in bits of {step}");
            // What is left is less than a piece may have.
            assert!(given - len < 1_024, "{len} of {given} in bits of {step}");
            assert!(content.starts_with(&sent.concat()));
        }
    }
}

#[test]
fn what_is_large_and_what_is_small_stay_in_order() {
    let (mut solo, id) = blocked();
    let lens = [10, 40_000, 1, 1, 30_000, 5, 20_000, 3];
    let content = noise(lens.iter().sum(), 9);
    let mut left = content.clone();
    for len in lens {
        let written = solo.connection.write(START, id, left.split_to(len));
        written.expect("there is room");
    }
    solo.feed(&window(1, WINDOW as u64));
    let sent = pieces(&mut solo, WINDOW);
    assert!(sent.concat() == content);
    assert!(sent.iter().all(|piece| (1..=SIZE).contains(&piece.len())));
}

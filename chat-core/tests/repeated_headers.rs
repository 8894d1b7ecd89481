//! The last header is kept by both sides of the codec, which must not show: a codec that has seen
//! other frames does the same as a fresh one.

mod support;

use chat_core::frame::{Decoder, Encoder, Frame, FrameError, FrameKind, Limits};
use chat_core::{Config, Event, Key, Role};
use proptest::collection::vec;
use proptest::prelude::*;

use support::{
    Decoded, Solo, any_cuts, decode, encode, frame, header_json, pieces, property, raw_frame, secs,
    similar_frame,
};

fn warm_decoder(before: &[u8]) -> Decoder {
    let mut decoder = Decoder::new(Key::default(), Limits::default());
    assert_eq!(decode(&mut decoder, [before]).end, Ok(0));
    decoder
}

fn fresh_decoder() -> Decoder {
    warm_decoder(&[])
}

fn padded(frame: &Frame, min_len: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(Key::default());
    encoder.encode(frame, min_len).expect("it fits").to_vec()
}

proptest! {
    #![proptest_config(property(256))]

    #[test]
    fn one_encoder_writes_what_fresh_ones_write(
        frames in vec((similar_frame(40), prop_oneof![Just(0_usize), Just(300), 0_usize..500]), 1..12),
    ) {
        let mut encoder = Encoder::new(Key::default());
        for (frame, min_len) in &frames {
            let bytes = encoder.encode(frame, *min_len).unwrap().to_vec();
            prop_assert_eq!(bytes, padded(frame, *min_len));
        }
    }

    #[test]
    fn an_encoder_forgets_nothing_over_a_frame_that_it_refused(
        frames in vec(similar_frame(40), 1..6),
    ) {
        let mut encoder = Encoder::new(Key::default());
        for frame in &frames {
            prop_assert!(encoder.encode(frame, usize::MAX).is_err());
            let empty = Frame { content: "".into(), ..frame.clone() };
            prop_assert!(encoder.encode(&empty, 0).is_err());
            prop_assert_eq!(encoder.encode(frame, 0).unwrap().to_vec(), encode(frame));
        }
    }

    #[test]
    fn one_decoder_reads_what_fresh_ones_read(
        frames in vec((similar_frame(40), prop_oneof![Just(0_usize), Just(300)]), 1..12),
        cuts in any_cuts(),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(frame, len)| padded(frame, *len)).collect();
        let frames: Vec<Frame> = frames.into_iter().map(|(frame, _)| frame).collect();
        let expected = Decoded { frames, end: Ok(0) };
        prop_assert_eq!(&decode(&mut fresh_decoder(), [&bytes[..]]), &expected);
        prop_assert_eq!(&decode(&mut fresh_decoder(), bytes.chunks(1)), &expected);
        prop_assert_eq!(&decode(&mut fresh_decoder(), pieces(&bytes, &cuts)), &expected);
    }
}

#[test]
fn a_repeated_header_with_any_bit_of_its_frame_flipped_is_refused_as_a_new_one_is() {
    let first = encode(&frame(FrameKind::Message, "first"));
    let second = encode(&frame(FrameKind::Message, "second"));
    for bit in 0..8 * second.len() {
        let mut damaged = second.clone();
        damaged[bit / 8] ^= 0x80 >> (bit % 8);
        let fresh = decode(&mut fresh_decoder(), [&damaged[..]]);
        assert!(fresh.frames.is_empty(), "bit {bit}");
        let warm = |cuts: usize| decode(&mut warm_decoder(&first), damaged.chunks(cuts));
        assert_eq!(warm(damaged.len()), fresh, "bit {bit}");
        assert_eq!(warm(64), fresh, "bit {bit}, header apart");
        assert_eq!(warm(100), fresh, "bit {bit}, header split");
    }
}

#[test]
fn a_repeated_header_does_not_vouch_for_its_content() {
    let json = header_json(&encode(&frame(FrameKind::Message, "first"))).to_vec();
    let first = raw_frame(&json, b"first");
    let mut forged = raw_frame(&json, b"fir5t");
    forged[32..64].copy_from_slice(&first[32..64]);
    let refused = decode(&mut warm_decoder(&first), [&forged[..]]);
    assert_eq!(refused.end, Err(FrameError::Mac));
}

#[test]
fn a_repeated_header_with_another_checksum_is_refused_with_its_last_byte() {
    let first = encode(&frame(FrameKind::Message, "first"));
    let header_end = 64 + header_json(&first).len();
    let mut damaged = first.clone();
    damaged[16..20].fill(0);
    let read = |len: usize| {
        decode(
            &mut warm_decoder(&first),
            [&damaged[..64], &damaged[64..len]],
        )
    };
    assert_eq!(read(header_end - 1).end, Ok(header_end - 1));
    assert_eq!(read(header_end).end, Err(FrameError::HeaderCrc));
}

#[test]
fn a_header_that_only_begins_like_the_last_one_is_another() {
    let short = br#"{"type":"message","content_type":"a/b"}"#;
    let long = br#"{"type":"message","content_type":"a/b","more":{}}"#;
    let other = br#"{"type":"message","content_type":"a/b","more":[]}"#;
    for (first, second) in [(&short[..], &long[..]), (long, short), (long, other)] {
        let bytes = [raw_frame(first, b"1"), raw_frame(second, b"2")].concat();
        let one = decode(&mut fresh_decoder(), [&bytes[..]]);
        let each = decode(&mut fresh_decoder(), bytes.chunks(1));
        assert_eq!((one.frames.len(), one.end), (2, Ok(0)));
        assert_eq!(each.frames, one.frames);
    }
}

#[test]
fn longer_headers_than_are_kept_repeat_like_any_other() {
    for len in [1023, 1024, 1025, 1026, 5000] {
        let mut json = br#"{"type":"message","content_type":"a/b""#.to_vec();
        json.resize(len - 1, b' ');
        json.push(b'}');
        let bytes = [raw_frame(&json, b"1"), raw_frame(&json, b"2")].concat();
        let decoded = decode(&mut fresh_decoder(), [&bytes[..]]);
        assert_eq!((decoded.frames.len(), decoded.end), (2, Ok(0)), "{len}");
        let half = decode(&mut fresh_decoder(), bytes.chunks(len / 2));
        assert_eq!(half, decoded, "{len}");
    }
}

/// What is kept for the next frame is let go of when a timer fires.
#[test]
fn a_timer_in_the_middle_of_a_frame_changes_nothing() {
    let config = Config::default()
        .heartbeat(Some(secs(1)))
        .idle_timeout(None);
    for role in [Role::Client, Role::Server] {
        let message = frame(FrameKind::Message, "the same header again");
        let bytes = encode(&message);
        for at in 1..bytes.len() {
            let mut solo = Solo::established(role, config.clone());
            solo.feed(&message);
            solo.feed_bytes(&bytes[..at]);
            solo.wait(secs(2));
            solo.sent();
            solo.feed_bytes(&bytes[at..]);
            solo.feed(&message);
            let arrived = solo.events();
            assert_eq!(arrived.len(), 3, "{role:?}, cut at {at}: {arrived:?}");
            let is_right = |event: &Event| matches!(event, Event::Message(it) if it.content() == &message.content);
            assert!(arrived.iter().all(is_right), "{arrived:?}");
        }
    }
}

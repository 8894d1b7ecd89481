//! Frames: round trips, splits, limits, padding (PROTOCOL.md §2).

mod support;

use bytes::Bytes;
use chat_core::frame::{
    Decoder, EncodeError, Encoder, Frame, FrameError, FrameKind, HeaderFault, Limits, MAX_CONTENT,
    MAX_HEADER,
};
use chat_core::{ContentType, Key};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use support::{
    Decoded, any_cuts, any_frame, byte_by_byte, decode, encode, frame, header_json, pieces,
    property, raw_frame, split, whole,
};

const CONTENT: &[u8] = b"payload";

/// More than the protocol allows, which means what it allows.
const BOUNDLESS: Limits = Limits {
    header: u32::MAX,
    content: u32::MAX,
};

fn decoder(limits: Limits) -> Decoder {
    Decoder::new(Key::default(), limits)
}

fn message(content: impl Into<Bytes>) -> Frame {
    frame(FrameKind::Message, content)
}

/// A message whose JSON header is `len` bytes long.
fn raw_with_header(len: usize) -> Vec<u8> {
    let mut json = b"{\"type\": \"message\", \"content_type\": \"a/b\"".to_vec();
    json.resize(len - 1, b' ');
    json.push(b'}');
    raw_frame(&json, CONTENT)
}

/// The same bytes read at once, in pieces, and byte by byte; the decoder keeps to the limits.
fn read_in_every_way(bytes: &[u8], cuts: &[Index], limits: Limits) -> [Decoded; 3] {
    [
        decode(&mut decoder(limits), [bytes]),
        decode(&mut decoder(limits), pieces(bytes, cuts)),
        decode(&mut decoder(limits), bytes.chunks(1)),
    ]
}

proptest! {
    #![proptest_config(property(256))]

    #[test]
    fn what_was_encoded_is_decoded(frame in any_frame(3000), min_len in 0_usize..3000) {
        let bytes = Encoder::new(Key::default()).encode(&frame, min_len).unwrap().to_vec();
        prop_assert_eq!(whole(&bytes), Decoded { frames: vec![frame], end: Ok(0) });
    }

    #[test]
    fn a_short_frame_is_padded_to_exactly_the_length_asked_for(
        frame in any_frame(1000),
        min_len in 0_usize..3000,
    ) {
        let encoded = Encoder::new(Key::default()).encode(&frame, min_len).unwrap();
        prop_assert_eq!(encoded.len(), encode(&frame).len().max(min_len));
        prop_assert_eq!(encoded.to_vec().len(), encoded.len());
    }

    #[test]
    fn the_json_header_is_printable_ascii(frame in any_frame(1), min_len in 0_usize..300) {
        let bytes = Encoder::new(Key::default()).encode(&frame, min_len).unwrap().to_vec();
        prop_assert!(header_json(&bytes).iter().all(|byte| matches!(byte, b' '..=b'~')));
    }

    #[test]
    fn a_stream_reads_the_same_in_any_pieces(
        frames in vec((any_frame(200), 0_usize..400), 1..5),
        cuts in any_cuts(),
        cut_short in any::<Index>(),
    ) {
        let mut encoder = Encoder::new(Key::default());
        let mut bytes = Vec::new();
        for (frame, min_len) in &frames {
            bytes.extend(encoder.encode(frame, *min_len).unwrap().to_vec());
        }
        let frames: Vec<Frame> = frames.into_iter().map(|(frame, _)| frame).collect();
        for decoded in read_in_every_way(&bytes, &cuts, Limits::default()) {
            prop_assert_eq!(&decoded.frames, &frames);
            prop_assert_eq!(decoded.end, Ok(0));
        }
        bytes.truncate(cut_short.index(bytes.len()));
        let [one, other, each] = read_in_every_way(&bytes, &cuts, Limits::default());
        prop_assert!(one.end.is_ok());
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(&one, &each);
    }

    #[test]
    fn a_damaged_stream_reads_the_same_in_any_pieces(
        frames in vec(any_frame(200), 1..4),
        cuts in any_cuts(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        limits in (0_u32..400, 0_u32..400),
    ) {
        let mut bytes: Vec<u8> = frames.iter().flat_map(encode).collect();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let limits = Limits { header: limits.0, content: limits.1 };
        let [one, other, each] = read_in_every_way(&bytes, &cuts, limits);
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(&one, &each);
    }
}

#[test]
fn takes_no_byte_beyond_the_frame() {
    let bytes = [encode(&message("one")), encode(&message("two"))].concat();
    let mut input = &bytes[..];
    let first = decoder(Limits::default()).decode(&mut input);
    assert_eq!(first, Ok(Some(message("one"))));
    assert_eq!(input, encode(&message("two")));
}

#[test]
fn counts_every_byte_of_an_unfinished_frame() {
    let bytes = encode(&message("Hello, World!"));
    for len in 0..bytes.len() {
        assert_eq!(whole(&bytes[..len]).end, Ok(len));
        assert_eq!(byte_by_byte(&bytes[..len]).end, Ok(len));
        assert_eq!(split(&bytes[..len], len / 2).end, Ok(len));
    }
}

#[test]
fn no_input_changes_nothing() {
    let bytes = encode(&message("Hello, World!"));
    let mut decoder = decoder(Limits::default());
    for (at, byte) in bytes.iter().enumerate() {
        assert_eq!(decoder.decode(&mut &[][..]), Ok(None));
        assert_eq!(decoder.partial_len(), at);
        let frame = decoder.decode(&mut &[*byte][..]).expect("a good frame");
        assert_eq!(frame.is_some(), at + 1 == bytes.len());
    }
}

#[test]
fn a_decoder_that_failed_returns_the_same_error_for_ever() {
    let mut damaged = encode(&message("Hello, World!"));
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let good = encode(&message("Hello, World!"));
    let mut decoder = decoder(Limits::default());
    assert_eq!(
        decoder.decode(&mut &damaged[..]),
        Err(FrameError::ContentCrc)
    );
    for input in [&good[..], &damaged, &[], &[0]] {
        assert_eq!(decoder.decode(&mut &input[..]), Err(FrameError::ContentCrc));
        assert_eq!(decoder.partial_len(), 0);
    }
}

#[test]
fn takes_a_header_at_the_limit_and_refuses_one_over_at_byte_64() {
    for (limits, max) in [
        (Limits::default(), MAX_HEADER),
        (Limits::HANDSHAKE, 4096),
        (BOUNDLESS, MAX_HEADER),
    ] {
        let at = raw_with_header(max as usize);
        assert_eq!(decode(&mut decoder(limits), [&at[..]]).frames.len(), 1);
        let over = raw_with_header(max as usize + 1);
        let end = |len: usize| decode(&mut decoder(limits), over[..len].chunks(1)).end;
        assert_eq!(end(63), Ok(63));
        let len = max + 1;
        assert_eq!(end(64), Err(FrameError::HeaderTooLarge { len, max }));
    }
}

#[test]
fn takes_a_content_at_the_limit_and_refuses_one_over_at_byte_64() {
    for (limits, max) in [
        (Limits::default(), MAX_CONTENT),
        (Limits::HANDSHAKE, 1024),
        (BOUNDLESS, MAX_CONTENT),
    ] {
        let at = raw_frame(
            b"{\"type\":\"message\",\"content_type\":\"a/b\"}",
            &content(max),
        );
        assert_eq!(decode(&mut decoder(limits), [&at[..]]).frames.len(), 1);
        let over = raw_frame(b"{}", &content(max + 1));
        let end = |len: usize| decode(&mut decoder(limits), over[..len].chunks(1)).end;
        assert_eq!(end(63), Ok(63));
        let len = u64::from(max) + 1;
        assert_eq!(end(64), Err(FrameError::ContentTooLarge { len, max }));
    }
}

fn content(len: u32) -> Vec<u8> {
    vec![b'x'; len as usize]
}

#[test]
fn refuses_the_largest_declarable_content_at_byte_64() {
    let mut bytes = encode(&message("Hello, World!"));
    bytes[20..28].fill(0xff);
    for end in [whole(&bytes).end, byte_by_byte(&bytes[..64]).end] {
        let len = u64::MAX;
        let max = MAX_CONTENT;
        assert_eq!(end, Err(FrameError::ContentTooLarge { len, max }));
    }
    assert_eq!(byte_by_byte(&bytes[..63]).end, Ok(63));
}

#[test]
fn refuses_a_header_too_short_for_an_object_at_byte_64() {
    for len in [0, 1] {
        let bytes = raw_frame(&b"{}"[..len], CONTENT);
        let border = FrameError::HeaderJson(HeaderFault::Border);
        assert_eq!(byte_by_byte(&bytes[..63]).end, Ok(63));
        assert_eq!(byte_by_byte(&bytes[..64]).end, Err(border));
    }
}

#[test]
fn limits_change_for_frames_whose_fixed_header_is_still_to_come() {
    let bytes = encode(&message(vec![b'x'; 100]));
    let small = Limits {
        header: 4096,
        content: 99,
    };
    let (start, mut rest) = bytes.split_at(64);
    let mut decoder = decoder(Limits::default());
    assert_eq!(decoder.decode(&mut &start[..]), Ok(None));
    decoder.set_limits(small);
    assert!(decoder.decode(&mut rest).is_ok_and(|frame| frame.is_some()));
    assert_eq!(decoder.decode(&mut &bytes[..63]), Ok(None));
    let refused = decoder.decode(&mut &bytes[63..]);
    let (len, max) = (100, 99);
    assert_eq!(refused, Err(FrameError::ContentTooLarge { len, max }));
}

#[test]
fn encodes_a_content_at_the_limit_and_refuses_one_over() {
    let mut encoder = Encoder::new(Key::default());
    let at = encoder.encode(&message(content(MAX_CONTENT)), 0);
    assert_eq!(
        at.map(|frame| frame.len()),
        Ok(64 + 118 + MAX_CONTENT as usize)
    );
    let over = encoder.encode(&message(content(MAX_CONTENT + 1)), 0);
    let len = MAX_CONTENT as usize + 1;
    assert_eq!(over.unwrap_err(), EncodeError::ContentTooLarge { len });
}

#[test]
fn encodes_a_header_at_the_limit_and_refuses_one_over() {
    let of_content_type = |len: usize| Frame {
        content_type: "x".repeat(len).into(),
        ..message(CONTENT)
    };
    let fixed = header_json(&encode(&of_content_type(1))).len() - 1;
    let room = MAX_HEADER as usize - fixed;
    assert_eq!(header_json(&encode(&of_content_type(room))).len(), 65_536);
    let over = Encoder::new(Key::default()).encode(&of_content_type(room + 1), 0);
    assert_eq!(
        over.unwrap_err(),
        EncodeError::HeaderTooLarge { len: 65_537 }
    );
}

#[test]
fn refuses_a_padding_that_no_header_has_room_for() {
    let longest = 64 + MAX_HEADER as usize + CONTENT.len();
    let mut encoder = Encoder::new(Key::default());
    let at = encoder.encode(&message(CONTENT), longest).expect("it fits");
    assert_eq!(whole(&at.to_vec()).frames, [message(CONTENT)]);
    let over = encoder.encode(&message(CONTENT), longest + 1);
    assert_eq!(
        over.unwrap_err(),
        EncodeError::HeaderTooLarge { len: 65_537 }
    );
}

#[test]
fn an_empty_content_or_content_type_is_not_encoded() {
    let mut encoder = Encoder::new(Key::default());
    let empty = encoder.encode(&message(""), 0);
    assert_eq!(empty.unwrap_err(), EncodeError::EmptyContent);
    let untyped = Frame {
        content_type: ContentType::from_static(""),
        ..message(CONTENT)
    };
    let untyped = encoder.encode(&untyped, 0);
    assert_eq!(untyped.unwrap_err(), EncodeError::EmptyContentType);
}

//! What is encoded is decoded to the same, in any pieces; what is damaged is not.
#![no_main]

use arbitrary::Arbitrary;
use chat_core::frame::{Decoder, Encoder, Extra, Frame, FrameKind, Limits};
use chat_core::{Key, Uuid};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    frames: Vec<One>,
    piece: u8,
    /// Which bit to flip, of all.
    flip: Option<u32>,
}

#[derive(Arbitrary, Debug)]
struct One {
    kind: u8,
    content_type: String,
    session: Option<u128>,
    content: Vec<u8>,
    min_len: u16,
}

fuzz_target!(|input: Input| {
    let mut encoder = Encoder::new(Key::default());
    let mut sent = Vec::new();
    let mut bytes = Vec::new();
    for one in input.frames {
        let frame = Frame {
            kind: FrameKind::ALL[usize::from(one.kind) % FrameKind::ALL.len()],
            content_type: one.content_type.into(),
            session: one.session.map(Uuid::from_u128),
            content: one.content.into(),
            extra: Extra::None,
        };
        let Ok(encoded) = encoder.encode(&frame, usize::from(one.min_len)) else {
            continue;
        };
        assert!(encoded.len() >= usize::from(one.min_len));
        bytes.extend(encoded.to_vec());
        sent.push(frame);
    }
    if bytes.is_empty() {
        return;
    }
    if let Some(flip) = input.flip {
        let bit = flip as usize % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }

    let mut decoder = Decoder::new(Key::default(), Limits::default());
    let mut received = Vec::new();
    let mut failed = false;
    'all: for mut piece in bytes.chunks(1 + usize::from(input.piece)) {
        while !piece.is_empty() {
            match decoder.decode(&mut piece) {
                Ok(None) => {}
                Ok(Some(frame)) => received.push(frame),
                Err(_) => {
                    failed = true;
                    break 'all;
                }
            }
        }
    }
    if input.flip.is_some() {
        assert!(
            failed || decoder.partial_len() > 0,
            "a flipped bit was not noticed"
        );
        assert!(received.len() < sent.len());
        assert_eq!(received, sent[..received.len()]);
    } else {
        assert_eq!(received, sent);
    }
});

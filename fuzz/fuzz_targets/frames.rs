//! What is encoded is decoded to the same, in any pieces, whatever it says, and is as long as it should
//! be; another parser reads its header too. What is damaged by one bit anywhere is noticed: what was before
//! it arrives, and nothing after that.
#![no_main]

use arbitrary::Arbitrary;
use chat_core::frame::{
    Chunk, ChunkLimits, ChunkOp, Decoder, Encoder, Extensions, Extra, Frame, FrameKind, Limits,
    MAX_INTEGER, SecHello,
};
use chat_core::{Key, KeyId, Uuid};
use chat_fuzz::oracle;
use chat_fuzz::wire::{parts, split_frames};
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
    more: Option<More>,
}

/// What a header says beyond version 1, if its kind is one that does.
#[derive(Arbitrary, Debug)]
enum More {
    Extensions {
        max_content: Option<u32>,
        coalesce: bool,
        ping: Option<u32>,
        chunk: Option<(u16, u32, u32, Option<u64>)>,
        sec: Option<[u8; 32]>,
        trust: bool,
    },
    Chunk(u64, Op),
}

#[derive(Arbitrary, Debug)]
enum Op {
    Begin(Option<u64>, Option<String>),
    Data(u64),
    End(u64),
    Window(u64),
    Done,
    Abort,
}

/// With every number in its range.
fn extra(kind: FrameKind, more: Option<More>, key: KeyId) -> Extra {
    match (kind, more) {
        (
            FrameKind::SessionInit | FrameKind::SessionAck,
            Some(More::Extensions {
                max_content,
                coalesce,
                ping,
                chunk,
                sec,
                trust,
            }),
        ) => {
            let mut extensions = Extensions::default();
            extensions.max_content = max_content.map(|bytes| bytes % 10_485_760 + 1);
            extensions.coalesce = coalesce;
            extensions.ping = ping.map(|millis| millis.max(3000));
            extensions.chunk = chunk.map(|(size, window, transfers, message)| ChunkLimits {
                size: u32::from(size).max(1024),
                window: window.max(65_536),
                transfers: transfers.max(1),
                message: message.map(|most| most % MAX_INTEGER + 1),
            });
            extensions.sec = sec.map(|nonce| SecHello {
                nonce,
                key: Some(key),
            });
            extensions.trust = trust;
            Extra::Extensions(extensions)
        }
        (FrameKind::Chunk, Some(More::Chunk(id, op))) => {
            let number = |number: u64| number % (MAX_INTEGER + 1);
            let op = match op {
                Op::Begin(total, name) => ChunkOp::Begin {
                    total: total.map(number),
                    name: name
                        .filter(|it| (1..=1024).contains(&it.len()))
                        .map(Into::into),
                },
                Op::Data(offset) => ChunkOp::Data {
                    offset: number(offset),
                },
                Op::End(offset) => ChunkOp::End {
                    offset: number(offset),
                },
                Op::Window(bytes) => ChunkOp::Window {
                    bytes: number(bytes).max(1),
                },
                Op::Done => ChunkOp::Done,
                Op::Abort => ChunkOp::Abort,
            };
            Extra::Chunk(Chunk { id: number(id), op })
        }
        _ => Extra::None,
    }
}

fuzz_target!(|input: Input| {
    let mut encoder = Encoder::new(Key::default());
    let mut sent = Vec::new();
    let mut bytes = Vec::new();
    for one in input.frames {
        let kind = FrameKind::ALL[usize::from(one.kind) % FrameKind::ALL.len()];
        let frame = Frame {
            kind,
            content_type: one.content_type.into(),
            session: one.session.map(Uuid::from_u128),
            content: one.content.into(),
            extra: extra(kind, one.more, Key::default().id()),
        };
        // Seldom so long that it takes its time.
        let min_len = match one.min_len {
            0xff00.. => usize::from(one.min_len),
            min_len => usize::from(min_len) % 2048,
        };
        let Ok(encoded) = encoder.encode(&frame, min_len) else {
            continue;
        };
        assert!(encoded.len() >= min_len);
        let encoded = encoded.to_vec();
        let (whole, rest) = split_frames(&encoded);
        assert!(whole == [&encoded[..]] && rest.is_empty());
        let (json, content) = parts(&encoded);
        assert_eq!(content, frame.content);
        let read = oracle::read(json).expect("another parser refuses its header");
        assert_eq!((read.kind, read.session), (kind, frame.session));
        assert_eq!(read.content_type, frame.content_type.as_str());
        bytes.extend(encoded);
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

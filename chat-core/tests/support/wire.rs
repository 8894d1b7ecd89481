//! Frames by hand, and frames read in every way.

use bytes::Bytes;
use chat_core::frame::{Decoder, Encoder, Extra, Frame, FrameError, FrameKind, Limits, MAGIC};
use chat_core::{ContentType, Key};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::SESSION;

/// A frame of the session of the tests, with the content type that its kind has.
pub(crate) fn frame(kind: FrameKind, content: impl Into<Bytes>) -> Frame {
    Frame {
        kind,
        content_type: match kind {
            FrameKind::Message | FrameKind::Error => ContentType::TEXT,
            FrameKind::Disconnect => ContentType::JSON,
            _ => ContentType::BINARY,
        },
        session: Some(SESSION),
        content: content.into(),
        extra: Extra::None,
    }
}

/// The bytes of a frame under the default key, not padded.
pub(crate) fn encode(frame: &Frame) -> Vec<u8> {
    Encoder::new(Key::default())
        .encode(frame, 0)
        .expect("the frame can be encoded")
        .to_vec()
}

/// The bytes of a frame with any JSON header, right or wrong, put together from PROTOCOL.md §2
/// without the crate.
pub(crate) fn raw_frame(json: &[u8], content: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(Key::DEFAULT_BYTES).expect("any length will do");
    mac.update(json);
    mac.update(content);
    let json_len = u32::try_from(json.len()).expect("a header of a test is short");
    [
        &MAGIC[..],
        &[0, 1, 0, 0],
        &json_len.to_be_bytes(),
        &crc32fast::hash(json).to_be_bytes(),
        &(content.len() as u64).to_be_bytes(),
        &crc32fast::hash(content).to_be_bytes(),
        &mac.finalize().into_bytes(),
        json,
        content,
    ]
    .concat()
}

/// How long the frame is that these bytes begin with, if it is all there.
pub(crate) fn raw_len(bytes: &[u8]) -> Option<usize> {
    let fixed = bytes.first_chunk::<64>()?;
    let json = u32::from_be_bytes(fixed[12..16].try_into().expect("four bytes"));
    let content = u64::from_be_bytes(fixed[20..28].try_into().expect("eight bytes"));
    let len = 64 + json as usize + usize::try_from(content).expect("it is short");
    (bytes.len() >= len).then_some(len)
}

/// Makes the authentication code of a frame that of version 1 under the default key.
pub(crate) fn sign_again(frame: &mut [u8]) {
    let mut mac = Hmac::<Sha256>::new_from_slice(Key::DEFAULT_BYTES).expect("any length will do");
    mac.update(&frame[64..]);
    frame[32..64].copy_from_slice(&mac.finalize().into_bytes());
}

/// The JSON header in the bytes of a frame.
pub(crate) fn header_json(bytes: &[u8]) -> &[u8] {
    let len = u32::from_be_bytes(bytes[12..16].try_into().expect("four bytes"));
    &bytes[64..64 + len as usize]
}

/// The kinds of frames.
pub(crate) fn kinds(frames: &[Frame]) -> Vec<FrameKind> {
    frames.iter().map(|frame| frame.kind).collect()
}

/// What a decoder made of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) frames: Vec<Frame>,
    /// How much of an unfinished frame was left, or what was wrong.
    pub(crate) end: Result<usize, FrameError>,
}

/// Reads a stream that arrives in pieces.
pub(crate) fn decode<'a>(
    decoder: &mut Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Decoded {
    let mut frames = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            match decoder.decode(&mut piece) {
                Ok(None) => assert!(piece.is_empty(), "bytes were left though the frame goes on"),
                Ok(Some(frame)) => frames.push(frame),
                Err(error) => {
                    let end = Err(error);
                    return Decoded { frames, end };
                }
            }
        }
    }
    let end = Ok(decoder.partial_len());
    Decoded { frames, end }
}

/// Reads a stream that arrives at once.
pub(crate) fn whole(bytes: &[u8]) -> Decoded {
    decode(&mut decoder(), [bytes])
}

/// Reads a stream that arrives byte by byte.
pub(crate) fn byte_by_byte(bytes: &[u8]) -> Decoded {
    decode(&mut decoder(), bytes.chunks(1))
}

/// Reads a stream that arrives in two pieces.
pub(crate) fn split(bytes: &[u8], at: usize) -> Decoded {
    let (start, end) = bytes.split_at(at);
    decode(&mut decoder(), [start, end])
}

fn decoder() -> Decoder {
    Decoder::new(Key::default(), Limits::default())
}

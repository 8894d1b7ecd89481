//! Frames by hand, put together from PROTOCOL.md §2 without the crate: with any JSON header, and right
//! in everything else.

use chat_core::frame::MAGIC;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::sec::Direction;

/// The shared key of both ends, if it is no matter of the target.
pub const KEY: &[u8] = b"default-key";

/// What a sender signs with.
pub enum Signer {
    /// Version 1.
    Shared(&'static [u8]),
    /// `sec`.
    Session(Direction),
    /// `sec` for what is left of a handshake, one frame, and nothing after that (PROTOCOL.md §4.8).
    Last(Direction),
    /// Nothing.
    Trusted,
}

impl Signer {
    /// Of who has a frame of the handshake to sign yet, where the channel is trusted.
    pub fn new(direction: Direction, trusted: bool) -> Self {
        if trusted {
            Self::Last(direction)
        } else {
            Self::Session(direction)
        }
    }

    /// The next frame, with this JSON header and content.
    pub fn pack(&mut self, json: &[u8], content: &[u8]) -> Vec<u8> {
        let mut raw = unsigned(json, content);
        let code = match self {
            Self::Shared(key) => code(key, &raw),
            Self::Session(direction) => direction.next(&raw),
            Self::Last(direction) => {
                let code = direction.next(&raw);
                *self = Self::Trusted;
                code
            }
            Self::Trusted => [0; 32],
        };
        raw[32..64].copy_from_slice(&code);
        raw
    }
}

/// A frame without its code.
pub fn unsigned(json: &[u8], content: &[u8]) -> Vec<u8> {
    let mut raw = MAGIC.to_vec();
    raw.extend([0, 1, 0, 0]);
    raw.extend((json.len() as u32).to_be_bytes());
    raw.extend([0; 4]);
    raw.extend((content.len() as u64).to_be_bytes());
    raw.extend([0; 36]);
    raw.extend(json);
    raw.extend(content);
    checksums(&mut raw);
    raw
}

/// The code of version 1.
fn code(key: &[u8], raw: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
    mac.update(&raw[64..]);
    mac.finalize().into_bytes().into()
}

fn checksums(raw: &mut [u8]) {
    let border = 64 + json_len(raw);
    let [header, content] = [&raw[64..border], &raw[border..]].map(crc32fast::hash);
    raw[16..20].copy_from_slice(&header.to_be_bytes());
    raw[28..32].copy_from_slice(&content.to_be_bytes());
}

fn number(bytes: &[u8]) -> usize {
    let digits = bytes.iter();
    digits.fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn json_len(raw: &[u8]) -> usize {
    number(&raw[12..16])
}

/// The length of the frame that a stream begins with, if that is all there.
fn frame_len(stream: &[u8]) -> Option<usize> {
    let fixed = stream.get(..64)?;
    let content = usize::try_from(u64::from_be_bytes(fixed[20..28].try_into().ok()?)).ok()?;
    let len = json_len(fixed).checked_add(content)?.checked_add(64)?;
    (len <= stream.len()).then_some(len)
}

/// The frames of a stream that are there whole, and what is left.
pub fn split_frames(mut stream: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut frames = Vec::new();
    while let Some(len) = frame_len(stream) {
        let (frame, rest) = stream.split_at(len);
        frames.push(frame);
        stream = rest;
    }
    (frames, stream)
}

/// The JSON header and the content of a whole frame.
pub fn parts(frame: &[u8]) -> (&[u8], &[u8]) {
    frame[64..].split_at(json_len(frame))
}

/// Makes the checksums and the code of every whole frame right.
pub fn mend(stream: &mut [u8], key: &[u8]) {
    let mut rest = stream;
    while let Some(len) = frame_len(rest) {
        let (frame, after) = rest.split_at_mut(len);
        checksums(frame);
        let code = code(key, frame);
        frame[32..64].copy_from_slice(&code);
        rest = after;
    }
}

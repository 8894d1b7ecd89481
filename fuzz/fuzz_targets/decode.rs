//! Any bytes, in any pieces: the decoder finds the same frames and the same error.
#![no_main]

use chat_core::Key;
use chat_core::frame::{Decoder, Frame, FrameError, Limits};
use libfuzzer_sys::fuzz_target;

fn decode(pieces: impl Iterator<Item = Vec<u8>>) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = Decoder::new(Key::default(), Limits::default());
    let mut frames = Vec::new();
    for piece in pieces {
        let mut input = &piece[..];
        while !input.is_empty() {
            match decoder.decode(&mut input) {
                Ok(None) => assert!(input.is_empty(), "bytes were left without a frame"),
                Ok(Some(frame)) => frames.push(frame),
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fuzz_target!(|data: &[u8]| {
    let whole = decode(std::iter::once(data.to_vec()));
    let bytes = decode(data.chunks(1).map(<[u8]>::to_vec));
    assert_eq!(whole, bytes);
    let size = 2 + data.len() % 67;
    let pieces = decode(data.chunks(size).map(<[u8]>::to_vec));
    assert_eq!(whole, pieces);
});

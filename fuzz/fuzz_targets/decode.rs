//! Any bytes, in any pieces: the decoder finds the same frames and the same error, keeps to its limits,
//! and finds nothing that would not be the same again if it were encoded. So, too, when the checksums and
//! codes of whatever is there as a whole frame have been made right.
#![no_main]

use chat_core::Key;
use chat_core::frame::{Decoder, Encoder, Frame, FrameError, Limits};
use chat_fuzz::wire::{KEY, mend};
use libfuzzer_sys::fuzz_target;

fn decode<'a>(
    limits: Limits,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = Decoder::new(Key::default(), limits);
    let mut frames = Vec::new();
    for mut input in pieces {
        while !input.is_empty() {
            match decoder.decode(&mut input) {
                Ok(None) => assert!(input.is_empty(), "bytes were left without a frame"),
                Ok(Some(frame)) => {
                    assert_eq!(decoder.partial_len(), 0);
                    frames.push(frame);
                }
                Err(error) => {
                    let again = decoder.decode(&mut &b"x"[..]);
                    assert_eq!(again, Err(error), "it went on after an error");
                    assert_eq!(decoder.partial_len(), 0);
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

fn check(data: &[u8]) {
    for limits in [Limits::default(), Limits::HANDSHAKE] {
        let whole = decode(limits, std::iter::once(data));
        assert_eq!(whole, decode(limits, data.chunks(1)));
        let size = 2 + data.len() % 67;
        assert_eq!(whole, decode(limits, data.chunks(size)));

        let mut encoder = Encoder::new(Key::default());
        for frame in whole.0 {
            assert!(!frame.content.is_empty() && frame.content.len() <= limits.content as usize);
            // Escapes may make its header longer than it was.
            let Ok(encoded) = encoder.encode(&frame, 0) else {
                continue;
            };
            let again = decode(Limits::default(), std::iter::once(&encoded.to_vec()[..]));
            assert_eq!(again, (vec![frame], None));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    check(data);
    let mut mended = data.to_vec();
    mend(&mut mended, KEY);
    if mended != data {
        check(&mended);
    }
});

//! The codes of `sec` (PROTOCOL.md §4.7): HMAC-SHA256 in whole blocks, of which those that repeat are hashed
//! once.
//!
//! Most frames of a session have the JSON header of the one before. What does not change with them fills
//! one block, what changes fits into the next with its padding, so a code costs two compressions. A MAC of
//! any length would copy its buffers and states for each frame, and overwrite them again, which takes
//! nearly as long as the hashing.

use hmac::digest::CtOutput;
use sha2::Sha256;
use sha2::block_api::compress256;
use zeroize::Zeroizing;

use crate::sign::{Digest, sha256};

/// A block of SHA-256.
type Block = [u8; 64];
/// What SHA-256 comes to after whole blocks. That of a key is as good as the key: it is overwritten when
/// it is dropped.
type State = Zeroizing<[u32; 8]>;

/// Where SHA-256 begins (FIPS 180-4 §5.3.3).
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// So much of the fixed header repeats with the JSON header.
const REPEATED: usize = 20;
/// How long what changes is: number, length and checksum of the content, and its digest.
const CHANGING: usize = 8 + 12 + 32;

/// What stands for a content in a code: a short one itself, filled up with zeros, of any other its SHA-256.
/// Its length is in the code too, and says which.
pub(crate) fn digest(content: &[u8]) -> Digest {
    short(content).unwrap_or_else(|| sha256(&[content]))
}

/// That of a content that need not be hashed.
pub(crate) fn short(content: &[u8]) -> Option<Digest> {
    let mut digest = Digest::default();
    digest.get_mut(..content.len())?.copy_from_slice(content);
    Some(digest)
}

/// What the code of a frame is made of beside its fixed header and its number: known when the frame is
/// made, while the number is known only when it leaves, for others may overtake it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal {
    pub(crate) header: Digest,
    pub(crate) content: Digest,
}

/// The key of one direction of one session, and the number of its next frame.
pub(crate) struct SessionKey {
    /// The two hashes of HMAC, each after the block that the key makes (RFC 2104 §2).
    inner: State,
    outer: State,
    /// The block that the last frame began with, and the inner hash after it.
    last: Block,
    after_last: State,
    sequence: u64,
}

impl SessionKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let after = |pad: u8| {
            let mut block = Zeroizing::new([pad; 64]);
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= key;
            }
            let mut state = Zeroizing::new(START);
            compress256(&mut state, &[*block]);
            state
        };
        Self {
            inner: after(0x36),
            outer: after(0x5c),
            // No frame begins with zeros.
            last: [0; 64],
            after_last: Zeroizing::default(),
            sequence: 0,
        }
    }

    /// The code of the next frame: of its number, of what stands before the code, and of the digests of
    /// what follows it.
    pub(crate) fn next(&mut self, fixed: &[u8; 32], seal: &Seal) -> [u8; 32] {
        let mut block = [0; 64];
        block[..REPEATED].copy_from_slice(&fixed[..REPEATED]);
        block[32..].copy_from_slice(&seal.header);
        if block != self.last {
            self.last = block;
            self.after_last.copy_from_slice(&*self.inner);
            compress256(&mut self.after_last, &[block]);
        }

        let mut changing = [0; CHANGING];
        changing[..8].copy_from_slice(&self.sequence.to_be_bytes());
        changing[8..20].copy_from_slice(&fixed[REPEATED..]);
        changing[20..].copy_from_slice(&seal.content);
        // 2^64 frames take longer than anything lasts.
        self.sequence += 1;
        let inner = finish(&self.after_last, &changing, 128);
        finish(&self.outer, &inner, 64)
    }

    /// Whether that is the code of the next frame, in constant time.
    pub(crate) fn verify_next(&mut self, fixed: &[u8; 32], seal: &Seal, code: &[u8; 32]) -> bool {
        let expected = self.next(fixed, seal);
        if planted!("half a code is enough") {
            return expected[..16] == code[..16];
        }
        let [expected, code] =
            [&expected, code].map(|code| CtOutput::<Sha256>::new((*code).into()));
        expected == code
    }

    /// The last so many frames will not leave: others take their numbers.
    pub(crate) fn take_back(&mut self, frames: usize) {
        self.sequence -= frames as u64;
    }
}

/// A SHA-256 whose last bytes, behind so many others, fit into one block with their padding.
fn finish(state: &[u32; 8], rest: &[u8], before: usize) -> Digest {
    let mut block = [0; 64];
    block[..rest.len()].copy_from_slice(rest);
    block[rest.len()] = 0x80;
    let bits = 8 * (before + rest.len()) as u64;
    block[56..].copy_from_slice(&bits.to_be_bytes());
    let mut state = *state;
    compress256(&mut state, &[block]);
    let mut digest = Digest::default();
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;

    use super::*;

    /// By the crate that knows HMAC of any length.
    fn by_hmac(key: &[u8], sequence: u64, fixed: &[u8; 32], seal: &Seal) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
        mac.update(&fixed[..20]);
        mac.update(&[0; 12]);
        mac.update(&seal.header);
        mac.update(&sequence.to_be_bytes());
        mac.update(&fixed[20..]);
        mac.update(&seal.content);
        mac.finalize().into_bytes().into()
    }

    proptest! {
        /// Of frames whose headers repeat, or differ in either part.
        #[test]
        fn a_code_is_an_hmac(
            key: [u8; 32],
            headers in prop::array::uniform2(any::<[u8; 32]>()),
            starts in prop::array::uniform2(any::<[u8; 20]>()),
            frames in prop::collection::vec(any::<(bool, bool, [u8; 12], [u8; 32])>(), 1..20),
        ) {
            let mut signs = SessionKey::new(&key);
            let mut verifies = SessionKey::new(&key);
            for (number, (header, start, end, content)) in (0..).zip(frames) {
                let header = headers[usize::from(header)];
                let seal = Seal { header, content };
                let mut fixed = [0; 32];
                fixed[..20].copy_from_slice(&starts[usize::from(start)]);
                fixed[20..].copy_from_slice(&end);
                let code = signs.next(&fixed, &seal);
                prop_assert_eq!(code, by_hmac(&key, number, &fixed, &seal));
                prop_assert!(verifies.verify_next(&fixed, &seal, &code));
            }
        }
    }

    #[test]
    fn a_wrong_code_of_any_bit_is_wrong() {
        let (fixed, seal) = (
            [7; 32],
            Seal {
                header: [1; 32],
                content: [2; 32],
            },
        );
        let code = SessionKey::new(&[3; 32]).next(&fixed, &seal);
        for bit in 0..256 {
            let mut wrong = code;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!SessionKey::new(&[3; 32]).verify_next(&fixed, &seal, &wrong));
        }
    }

    #[test]
    fn what_fits_into_a_digest_is_not_hashed() {
        let content = [9; 40];
        for len in 1..=32 {
            let digest = digest(&content[..len]);
            assert_eq!(digest[..len], content[..len]);
            assert!(digest[len..].iter().all(|byte| *byte == 0));
        }
        assert_eq!(digest(&content[..33]), sha256(&[&content[..33]]));
    }
}

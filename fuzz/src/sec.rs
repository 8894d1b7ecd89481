//! `sec` by hand, put together from PROTOCOL.md §4.7 without the crate.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::wire::parts;

/// One direction of a session: its key, and how many frames it has signed.
pub struct Direction {
    key: [u8; 32],
    sequence: u64,
}

impl Direction {
    /// The code of the next frame.
    pub fn next(&mut self, raw: &[u8]) -> [u8; 32] {
        let (json, content) = parts(raw);
        let mut digest = [0; 32];
        match digest.get_mut(..content.len()) {
            Some(start) => start.copy_from_slice(content),
            None => digest = Sha256::digest(content).into(),
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length will do");
        mac.update(&raw[..20]);
        mac.update(&[0; 12]);
        mac.update(&Sha256::digest(json));
        mac.update(&self.sequence.to_be_bytes());
        mac.update(&raw[20..32]);
        mac.update(&digest);
        self.sequence += 1;
        mac.finalize().into_bytes().into()
    }
}

/// What client and server sign with, from `session_init`, `session_ack` and their nonces.
pub fn directions(key: &[u8], init: &[u8], ack: &[u8], nonces: [[u8; 32]; 2]) -> [Direction; 2] {
    let unsigned = [&ack[..32], &ack[64..]].concat();
    let digests = [init, &unsigned, b""].map(Sha256::digest).concat();
    let transcript = Sha256::digest(digests);
    let salt = nonces.concat();
    [&b"chat sec 1 client"[..], b"chat sec 1 server"].map(|name| {
        let mut derived = [0; 32];
        Hkdf::<Sha256>::new(Some(&salt), key)
            .expand_multi_info(&[name, &transcript], &mut derived)
            .expect("one hash is not too long");
        Direction {
            key: derived,
            sequence: 0,
        }
    })
}

/// The nonce that a JSON header offers or chooses, if it does.
pub fn nonce(json: &[u8]) -> Option<[u8; 32]> {
    let header: serde_json::Value = serde_json::from_slice(json).ok()?;
    let digits = header.get("ext")?.get("sec")?.get("nonce")?.as_str()?;
    unhex(digits)?.try_into().ok()
}

/// Whether a JSON header offers or chooses `trust`.
pub fn trusts(json: &[u8]) -> bool {
    let header = serde_json::from_slice(json);
    header.is_ok_and(|header: serde_json::Value| !header["ext"]["trust"].is_null())
}

/// Bytes from hexadecimal digits in either case.
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let [high, low] = *pair else { return None };
        let digit = |it: u8| char::from(it).to_digit(16);
        u8::try_from(digit(high)? << 4 | digit(low)?).ok()
    };
    pairs.map(byte).collect()
}

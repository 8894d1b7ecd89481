//! `sec` by hand, put together from PROTOCOL.md §4.7 without the crate.

use chat_core::frame::{Extensions, Extra, Frame, FrameKind, SecHello};
use chat_core::{Config, Event, Key, Role, State};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::chunk::{every_extension, greeting};
use super::wire::{encode, header_json, raw_len, sign_again, whole};
use super::{SESSION, Solo};

/// The nonces of the connections that [`Solo`] and [`Pair`](super::Pair) make.
pub(crate) const CLIENT_NONCE: [u8; 32] = [1; 32];
pub(crate) const SERVER_NONCE: [u8; 32] = [2; 32];

/// One direction of a session: its key, and the number of the next frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Direction {
    pub(crate) key: [u8; 32],
    pub(crate) sequence: u64,
}

/// What a handshake comes to.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) transcript: [u8; 32],
    /// What the client signs with, from its `session_ack` on.
    pub(crate) client: Direction,
    pub(crate) server: Direction,
}

impl Keys {
    /// From the frames of a handshake, under a shared key.
    pub(crate) fn new(key: &[u8], init: &[u8], ack: &[u8], binding: &[u8]) -> Self {
        let ack_unsigned = [&ack[..32], &ack[64..]].concat();
        let digests = [init, &ack_unsigned, binding].map(Sha256::digest).concat();
        let transcript: [u8; 32] = Sha256::digest(digests).into();
        let salt = [nonce(init), nonce(ack)].concat();
        let direction = |name: &[u8]| {
            let mut key_of_it = [0; 32];
            Hkdf::<Sha256>::new(Some(&salt), key)
                .expand(&[name, &transcript].concat(), &mut key_of_it)
                .expect("one hash is not too long");
            Direction {
                key: key_of_it,
                sequence: 0,
            }
        };
        Self {
            transcript,
            client: direction(b"chat sec 1 client"),
            server: direction(b"chat sec 1 server"),
        }
    }
}

impl Direction {
    /// The code of a frame in this direction with this number.
    pub(crate) fn code(&self, sequence: u64, raw: &[u8]) -> [u8; 32] {
        let json = header_json(raw);
        let content = &raw[64 + json.len()..];
        let mut digest = [0; 32];
        match digest.get_mut(..content.len()) {
            Some(start) => start.copy_from_slice(content),
            None => digest = Sha256::digest(content).into(),
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length will do");
        mac.update(&raw[..20]);
        mac.update(&[0; 12]);
        mac.update(&Sha256::digest(json));
        mac.update(&sequence.to_be_bytes());
        mac.update(&raw[20..32]);
        mac.update(&digest);
        mac.finalize().into_bytes().into()
    }

    /// The frame with the code that it has as the next one.
    pub(crate) fn sign(&mut self, mut raw: Vec<u8>) -> Vec<u8> {
        let code = self.code(self.sequence, &raw);
        raw[32..64].copy_from_slice(&code);
        self.sequence += 1;
        raw
    }

    /// The bytes of a frame as the next one, not padded.
    pub(crate) fn frame(&mut self, frame: &Frame) -> Vec<u8> {
        self.sign(encode(frame))
    }

    /// Takes a stream of whole frames apart, each of which must be the next one.
    #[track_caller]
    pub(crate) fn read(&mut self, stream: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        for mut raw in frames_of(stream) {
            let code = self.code(self.sequence, &raw);
            assert!(raw[32..64] == code, "it is not number {}", self.sequence);
            self.sequence += 1;
            sign_again(&mut raw);
            frames.append(&mut whole(&raw).frames);
        }
        frames
    }
}

/// A stream of whole frames, in frames.
#[track_caller]
pub(crate) fn frames_of(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !stream.is_empty() {
        let len = raw_len(stream).expect("what was sent is not whole frames");
        let (frame, rest) = stream.split_at(len);
        frames.push(frame.to_vec());
        stream = rest;
    }
    frames
}

/// Makes the checksums of a frame right again.
pub(crate) fn mend(raw: &mut [u8]) {
    let border = 64 + header_json(raw).len();
    let header_crc = crc32fast::hash(&raw[64..border]);
    let content_crc = crc32fast::hash(&raw[border..]);
    raw[16..20].copy_from_slice(&header_crc.to_be_bytes());
    raw[28..32].copy_from_slice(&content_crc.to_be_bytes());
}

/// By which id both ends know a key.
pub(crate) fn key_id(key: &[u8]) -> [u8; 8] {
    let mut id = [0; 8];
    Hkdf::<Sha256>::new(None, key)
        .expand(b"chat sec 1 key id", &mut id)
        .expect("one hash is not too long");
    id
}

/// Bytes from hexadecimal digits in either case.
pub(crate) fn unhex(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// Hexadecimal digits, in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

/// The nonce in a frame of the handshake.
fn nonce(raw: &[u8]) -> Vec<u8> {
    let json: Value = serde_json::from_slice(header_json(raw)).expect("a header is JSON");
    unhex(json["ext"]["sec"]["nonce"].as_str().expect("a nonce"))
}

/// The offer of a server, or the choice of a client that holds a key, with some extensions.
pub(crate) fn hello(to: Role, mut extensions: Extensions, key: &Key) -> Frame {
    extensions.sec = Some(match to {
        Role::Client => SecHello {
            nonce: SERVER_NONCE,
            key: None,
        },
        Role::Server => SecHello {
            nonce: CLIENT_NONCE,
            key: Some(key.id()),
        },
    });
    greeting(to, extensions)
}

/// A connection with `sec`; its peer is the test, which holds the public default key.
pub(crate) struct ByHand {
    pub(crate) solo: Solo,
    /// What the test sends.
    pub(crate) mine: Direction,
    /// What the connection sends.
    pub(crate) theirs: Direction,
}

impl ByHand {
    /// A client that waits for what shows that the server holds the key.
    pub(crate) fn await_proof(config: Config) -> Self {
        Self::await_proof_with(config, every_extension())
    }

    /// As [`await_proof`](Self::await_proof), of a server that offers these.
    pub(crate) fn await_proof_with(config: Config, extensions: Extensions) -> Self {
        let mut solo = Solo::new(Role::Client, config);
        let init = encode(&hello(Role::Client, extensions, &Key::default()));
        solo.feed_bytes(&init);
        let ack = solo.sent_bytes().concat();
        assert_eq!(solo.connection.state(), State::AwaitProof);
        let keys = Keys::new(Key::DEFAULT_BYTES, &init, &ack, b"");
        let mut by_hand = Self {
            solo,
            mine: keys.server,
            theirs: keys.client,
        };
        by_hand.theirs.read(&ack);
        by_hand
    }

    /// A connection whose handshake is done, with nothing to send and nothing to report.
    pub(crate) fn established(role: Role, config: Config) -> Self {
        Self::established_with(role, config, every_extension())
    }

    /// As [`established`](Self::established), with a peer that can do these.
    pub(crate) fn established_with(role: Role, config: Config, extensions: Extensions) -> Self {
        let proof = super::frame(FrameKind::SessionAck, "Session acknowledged");
        let mut by_hand = match role {
            Role::Client => {
                let mut by_hand = Self::await_proof_with(config, extensions);
                by_hand.feed(&proof);
                by_hand
            }
            Role::Server => {
                let mut solo = Solo::new(role, config);
                let init = solo.sent_bytes().concat();
                let ack = encode(&hello(Role::Server, extensions, &Key::default()));
                let mut keys = Keys::new(Key::DEFAULT_BYTES, &init, &ack, b"");
                solo.feed_bytes(&keys.client.sign(ack));
                Self {
                    solo,
                    mine: keys.client,
                    theirs: keys.server,
                }
            }
        };
        assert_eq!(by_hand.solo.connection.state(), State::Established);
        let established = Event::Established { session: SESSION };
        assert_eq!(by_hand.solo.events(), [established]);
        let sent = by_hand.sent();
        match role {
            Role::Client => assert_eq!(sent, []),
            Role::Server => {
                assert_eq!(sent, [proof]);
                assert_eq!(sent[0].extra, Extra::None);
            }
        }
        by_hand
    }

    /// A frame arrives, with a right code.
    pub(crate) fn feed(&mut self, frame: &Frame) {
        let bytes = self.mine.frame(frame);
        self.solo.feed_bytes(&bytes);
    }

    /// The transport takes everything: whole frames, each of which has the code of its place.
    #[track_caller]
    pub(crate) fn sent(&mut self) -> Vec<Frame> {
        let bytes = self.solo.sent_bytes().concat();
        self.theirs.read(&bytes)
    }
}

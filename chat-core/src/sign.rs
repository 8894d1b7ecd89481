//! What the authentication code of a frame is made of: under the shared key, or under a key of the
//! session and the direction, or of nothing (PROTOCOL.md §2.1, §4.7 and §4.8).

use alloc::boxed::Box;

use bytes::Bytes;
use hmac::Mac;
use sha2::{Digest as _, Sha256};

use crate::key::{self, Key, MacState};
use crate::seal::{self, Seal, SessionKey};

/// A SHA-256, or with `sec` what stands for a content: see [`seal::digest`].
pub(crate) type Digest = [u8; 32];

pub(crate) fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The content of a frame, and its digest if that is known: whoever passes it on need not work it out
/// again.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Option<Digest>,
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        let digest = None;
        Self { bytes, digest }
    }
}

/// How the frames of one direction are verified.
pub(crate) enum Scheme {
    /// Version 1: JSON header and content, under the shared key.
    Shared(Key),
    /// `sec`: everything, in its place.
    Session(SessionKey),
    /// `trust`: the code is [`NO_CODE`].
    Trusted,
}

/// How the frames of one direction get their codes.
pub(crate) enum Codes {
    /// At once, under the shared key.
    Shared(Key),
    /// When they leave, under a key of the session.
    Later,
    /// They have none.
    Trusted,
}

/// What stands in place of a code where there is none.
pub(crate) const NO_CODE: [u8; 32] = [0; 32];

/// What is kept of a JSON header for the next frame that has the same.
#[derive(Clone)]
pub(crate) enum HeaderState {
    Shared(Box<MacState>),
    Session(Digest),
    Trusted,
}

impl HeaderState {
    /// Hashes a JSON header under the shared key.
    fn shared(key: &Key, json: &[u8]) -> Self {
        let mut mac = key.mac();
        mac.update(json);
        Self::Shared(Box::new(mac))
    }

    /// Hashes a JSON header under none.
    fn session(json: &[u8]) -> Self {
        Self::Session(sha256(&[json]))
    }
}

impl Codes {
    /// Hashes a JSON header, if that is of use.
    pub(crate) fn header(&self, json: &[u8]) -> HeaderState {
        match self {
            Self::Shared(key) => HeaderState::shared(key, json),
            Self::Later => HeaderState::session(json),
            Self::Trusted => HeaderState::Trusted,
        }
    }

    /// Whether a content has to be hashed whose digest is known, or is not.
    pub(crate) fn hash(&self, content: &[u8], is_known: bool) -> bool {
        match self {
            Self::Shared(_) => true,
            Self::Later => !is_known && seal::short(content).is_none(),
            Self::Trusted => false,
        }
    }
}

/// A frame whose content is being hashed.
pub(crate) enum Signing {
    Shared(MacState),
    Session { header: Digest, hash: Sha256 },
    Trusted,
}

impl Scheme {
    /// Hashes a JSON header, if that is of use.
    pub(crate) fn header(&self, json: &[u8]) -> HeaderState {
        match self {
            Self::Shared(key) => HeaderState::shared(key, json),
            Self::Session(_) => HeaderState::session(json),
            Self::Trusted => HeaderState::Trusted,
        }
    }

    /// Verifies a frame, in constant time where there is a secret. Returns the digest of its content if that was needed.
    pub(crate) fn verify(
        &mut self,
        signing: Signing,
        fixed: &[u8; 32],
        content: &[u8],
        code: &[u8; 32],
    ) -> (bool, Option<Digest>) {
        match (self, signing) {
            (Self::Session(key), Signing::Session { header, hash }) => {
                let content = seal::short(content).unwrap_or_else(|| hash.finalize().into());
                let seal = Seal { header, content };
                (key.verify_next(fixed, &seal, code), Some(content))
            }
            (Self::Shared(_), Signing::Shared(mac)) => (key::verify(mac, code), None),
            (Self::Trusted, Signing::Trusted) => (*code == NO_CODE, None),
            // Whoever changes the scheme forgets what was worked out under the one before.
            _ => unreachable!("a frame that began under one key ends under another"),
        }
    }

    /// The same of a frame that is here whole: `header` is what its JSON header comes to.
    pub(crate) fn verify_whole(
        &mut self,
        header: &HeaderState,
        fixed: &[u8; 32],
        content: &[u8],
        code: &[u8; 32],
    ) -> (bool, Option<Digest>) {
        match (self, header) {
            (Self::Session(key), HeaderState::Session(header)) => {
                let seal = Seal {
                    header: *header,
                    content: seal::digest(content),
                };
                (key.verify_next(fixed, &seal, code), Some(seal.content))
            }
            (Self::Shared(_), HeaderState::Shared(mac)) => {
                let mut mac = MacState::clone(mac);
                mac.update(content);
                (key::verify(mac, code), None)
            }
            (Self::Trusted, HeaderState::Trusted) => (*code == NO_CODE, None),
            _ => unreachable!("a header that was hashed under another key is forgotten"),
        }
    }
}

impl Signing {
    /// Goes on after a JSON header.
    pub(crate) fn new(header: &HeaderState) -> Self {
        match header {
            HeaderState::Shared(mac) => Self::Shared(MacState::clone(mac)),
            HeaderState::Session(digest) => Self::Session {
                header: *digest,
                hash: Sha256::new(),
            },
            HeaderState::Trusted => Self::Trusted,
        }
    }

    /// Takes a part of the content.
    pub(crate) fn update(&mut self, part: &[u8]) {
        match self {
            Self::Shared(mac) => mac.update(part),
            Self::Session { hash, .. } => hash.update(part),
            Self::Trusted => {}
        }
    }
}

//! `sec`: keys of a session and a direction, from the shared key, a nonce of each end and all that was
//! agreed on (PROTOCOL.md §4.7).

use alloc::sync::Arc;
use core::fmt;

use crate::frame::NONCE_LEN;
use crate::seal::{self, Seal, SessionKey};
use crate::sign::{Digest, sha256};
use crate::{Key, KeyId};

/// What makes a connection unlike every other: 32 random bytes, for the core has no randomness.
///
/// They must come from the operating system or a generator that is fit for keys, and must not be used
/// for two connections. They are no secret once the connection has begun.
pub struct Entropy([u8; NONCE_LEN]);

impl Entropy {
    /// From random bytes.
    pub const fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    pub(crate) fn into_nonce(self) -> [u8; NONCE_LEN] {
        self.0
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(..)")
    }
}

/// What the authentication of a session is worth (PROTOCOL.md §8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Security {
    /// That of version 1: it detects damage, and frames that nobody with the key has ever made. Whoever
    /// recorded a session can replay it to a client.
    #[default]
    Legacy,
    /// `sec`: every frame is authenticated for its session, its direction and its place. Where both
    /// ends [trust the channel](crate::Config::trust_channel), only those of the handshake are.
    Sec,
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "legacy",
            Self::Sec => "sec",
        })
    }
}

/// Who the peer is: a holder of this key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub(crate) key: KeyId,
    pub(crate) name: Option<Arc<str>>,
}

impl Identity {
    /// Which key it has shown to hold.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// What this end calls it: the name of [`Config::identity`](crate::Config::identity). `None` for
    /// the key of the configuration itself.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl fmt::Display for Identity {
    /// The name, or else the id of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => name.fmt(f),
            None => self.key.fmt(f),
        }
    }
}

/// The bytes of a `session_ack` that its code is made of.
pub(crate) struct Ack<'a> {
    pub(crate) unsigned: &'a [u8],
    pub(crate) json: &'a [u8],
    pub(crate) content: &'a [u8],
}

/// What both ends have seen of a handshake.
pub(crate) struct Handshake<'a> {
    pub(crate) server_nonce: &'a [u8; NONCE_LEN],
    pub(crate) client_nonce: &'a [u8; NONCE_LEN],
    /// The SHA-256 of the whole `session_init`.
    pub(crate) init: &'a Digest,
    pub(crate) ack: Ack<'a>,
    /// The SHA-256 of what identifies the channel below, of nothing where there is nothing.
    pub(crate) binding: &'a Digest,
}

/// The keys of a session, one for each direction, named after their senders.
pub(crate) struct SessionKeys {
    pub(crate) client: SessionKey,
    pub(crate) server: SessionKey,
}

impl Handshake<'_> {
    /// The keys, and what the code of `session_ack` is made of: it is the first frame of the client's.
    pub(crate) fn derive(&self, key: &Key) -> (SessionKeys, Seal) {
        let Ack {
            unsigned,
            json,
            content,
        } = self.ack;
        let ack = sha256(&[unsigned, json, content]);
        let transcript = sha256(&[self.init, &ack, self.binding]);
        let mut salt = [0; 2 * NONCE_LEN];
        salt[..NONCE_LEN].copy_from_slice(self.server_nonce);
        salt[NONCE_LEN..].copy_from_slice(self.client_nonce);
        let [client, server] = key.derive(
            &salt,
            [
                &[b"chat sec 1 client", &transcript],
                &[b"chat sec 1 server", &transcript],
            ],
        );
        let keys = SessionKeys {
            client: SessionKey::new(&client),
            server: SessionKey::new(&server),
        };
        let seal = Seal {
            header: sha256(&[json]),
            content: seal::digest(content),
        };
        (keys, seal)
    }
}

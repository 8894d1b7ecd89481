//! The shared key.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// HMAC-SHA256, ready to take the bytes of a frame.
pub(crate) type MacState = Hmac<Sha256>;

/// The key that both ends of a connection hold, of any length.
///
/// It signs and verifies every frame. What is kept is the hash state after the key's blocks, so
/// that no frame pays for them again; `Debug` shows none of it.
///
/// ```
/// let key = chat_core::Key::new(b"at least 32 random bytes, please");
/// assert_eq!(format!("{key:?}"), "Key(..)");
/// ```
#[derive(Clone)]
pub struct Key(MacState);

impl Key {
    /// The bytes of the public default key. It detects damage; it authenticates nobody.
    pub const DEFAULT_BYTES: &'static [u8] = b"default-key";

    /// A key from its bytes, of any length. Use at least 32 random ones.
    pub fn new(bytes: &[u8]) -> Self {
        // HMAC is defined for keys of any length (RFC 2104 §2), so this cannot fail.
        Self(MacState::new_from_slice(bytes).expect("HMAC takes keys of any length"))
    }

    pub(crate) fn mac(&self) -> MacState {
        self.0.clone()
    }
}

impl Default for Key {
    /// The public default key, [`Key::DEFAULT_BYTES`].
    fn default() -> Self {
        Self::new(Self::DEFAULT_BYTES)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The finished code of a frame.
pub(crate) fn finish(mac: MacState) -> [u8; 32] {
    mac.finalize().into_bytes().into()
}

/// Compares in constant time.
pub(crate) fn verify(mac: MacState, expected: &[u8; 32]) -> bool {
    mac.verify_slice(expected).is_ok()
}

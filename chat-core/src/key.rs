//! The shared key.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// HMAC-SHA256, ready to take the bytes of a frame.
pub(crate) type MacState = Hmac<Sha256>;

/// Whoever reads the memory later does not find the state, which is as good as the key: it is two
/// states of the hash, and those are overwritten when they are dropped.
const _: fn() = || {
    fn is_overwritten<T: ZeroizeOnDrop>() {}
    is_overwritten::<Sha256>();
};

/// The key that both ends of a connection hold, of any length.
///
/// It signs and verifies the frames of version 1, and the keys of every session with `sec` are made
/// from it. Cheap to clone. When the last clone is dropped its bytes are overwritten; `Debug` shows
/// none of them.
///
/// ```
/// let key = chat_core::Key::new(b"at least 32 random bytes, please");
/// assert_eq!(format!("{key:?}"), "Key(f7bbf2f3c47d65c4)");
/// ```
#[derive(Clone)]
pub struct Key(Arc<Secret>);

struct Secret {
    /// The hash state after the key's blocks: no frame pays for them again.
    mac: MacState,
    bytes: Zeroizing<Vec<u8>>,
    id: KeyId,
}

/// Which key it is, without saying the key: what a client of `sec` tells a server that holds
/// several (PROTOCOL.md §4.7).
///
/// It is worked out from the key, so both ends know it by the same id, whatever they call it. It is
/// no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; Self::LEN]);

impl KeyId {
    pub(crate) const LEN: usize = 8;

    pub(crate) const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for KeyId {
    /// 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl Key {
    /// The bytes of the public default key. It detects damage; it authenticates nobody.
    pub const DEFAULT_BYTES: &'static [u8] = b"default-key";

    /// A key from its bytes, of any length. Use at least 32 random ones: whoever records a handshake
    /// can try guesses at a weaker one.
    ///
    /// The bytes are copied; the caller's are the caller's to overwrite.
    pub fn new(bytes: &[u8]) -> Self {
        let mut id = [0; KeyId::LEN];
        expand(&Hkdf::new(None, bytes), &[b"chat sec 1 key id"], &mut id);
        Self(Arc::new(Secret {
            // HMAC is defined for keys of any length (RFC 2104 §2), so this cannot fail.
            mac: MacState::new_from_slice(bytes).expect("HMAC takes keys of any length"),
            bytes: Zeroizing::new(bytes.into()),
            id: KeyId(id),
        }))
    }

    /// Which key it is.
    pub fn id(&self) -> KeyId {
        self.0.id
    }

    /// Whether everybody knows it.
    pub(crate) fn is_public(&self) -> bool {
        *self.0.bytes == *Self::DEFAULT_BYTES
    }

    pub(crate) fn mac(&self) -> MacState {
        self.0.mac.clone()
    }

    /// Makes keys that are good for one purpose, by HKDF-SHA256 (RFC 5869).
    pub(crate) fn derive<const N: usize>(
        &self,
        salt: &[u8],
        infos: [&[&[u8]]; N],
    ) -> [Zeroizing<[u8; 32]>; N] {
        let (mut prk, hkdf) = Hkdf::<Sha256>::extract(Some(salt), &self.0.bytes);
        prk.as_mut_slice().zeroize();
        infos.map(|info| {
            let mut key = Zeroizing::new([0; 32]);
            expand(&hkdf, info, &mut *key);
            key
        })
    }
}

fn expand(hkdf: &Hkdf<Sha256>, info: &[&[u8]], out: &mut [u8]) {
    // At most 255 hashes, and no caller asks for more than one (RFC 5869 §2.3).
    hkdf.expand_multi_info(info, out)
        .expect("a key is no longer than a hash");
}

impl Default for Key {
    /// The public default key, [`Key::DEFAULT_BYTES`].
    fn default() -> Self {
        Self::new(Self::DEFAULT_BYTES)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.id)
    }
}

/// The finished code of a frame.
pub(crate) fn finish(mac: MacState) -> [u8; 32] {
    mac.finalize().into_bytes().into()
}

/// Compares in constant time.
pub(crate) fn verify(mac: MacState, expected: &[u8]) -> bool {
    if planted!("half a code is enough") {
        return mac.verify_truncated_left(&expected[..16]).is_ok();
    }
    mac.verify_slice(expected).is_ok()
}

//! The fixed header: 64 bytes, all integers big-endian (PROTOCOL.md §2.1).

use super::{FIXED_HEADER_LEN, FrameError, HeaderFault, Limits, MAGIC, MAX_CONTENT, MAX_HEADER};

/// Magic, version 1, frame type 0: how every frame begins.
const PREFIX: [u8; 12] = {
    let mut prefix = [0; 12];
    let (magic, _) = prefix.split_at_mut(8);
    magic.copy_from_slice(&MAGIC);
    prefix[9] = 1;
    prefix
};

/// The authentication code stands behind these, to the end.
pub(crate) const UNSIGNED_LEN: usize = 32;

/// The shortest JSON header is `{}`.
const MIN_HEADER: u32 = 2;

/// What the fixed header declares.
#[derive(Clone, Copy, Debug)]
pub(super) struct FixedHeader {
    pub(super) header_len: usize,
    pub(super) header_crc: u32,
    pub(super) content_len: usize,
    pub(super) content_crc: u32,
    pub(super) mac: [u8; 32],
}

impl FixedHeader {
    /// Checks the beginning of a frame, of any length: the first wrong byte is refused.
    pub(super) fn check_prefix(start: &[u8]) -> Result<(), FrameError> {
        let wrong = start.iter().zip(&PREFIX).position(|(a, b)| a != b);
        match wrong {
            None => Ok(()),
            Some(offset @ 0..8) => Err(FrameError::BadMagic {
                offset,
                found: start[offset],
            }),
            Some(8..10) => Err(FrameError::UnsupportedVersion),
            Some(_) => Err(FrameError::UnsupportedFrameType),
        }
    }

    /// Parses the whole fixed header and checks the lengths, before anything is allocated.
    pub(super) fn parse(
        bytes: &[u8; FIXED_HEADER_LEN],
        limits: Limits,
    ) -> Result<Self, FrameError> {
        Self::check_prefix(bytes)?;
        let header_len = u32_at(bytes, 12);
        let max = limits.header.min(MAX_HEADER);
        if header_len > max {
            return Err(FrameError::HeaderTooLarge {
                len: header_len,
                max,
            });
        }
        if header_len < MIN_HEADER {
            return Err(FrameError::HeaderJson(HeaderFault::Border));
        }
        let len = u64::from(u32_at(bytes, 20)) << 32 | u64::from(u32_at(bytes, 24));
        let max = limits.content.min(MAX_CONTENT);
        let content_len = match u32::try_from(len) {
            Ok(0) => return Err(FrameError::EmptyContent),
            Ok(len) if len <= max || planted!("a length is trusted") => len,
            _ => return Err(FrameError::ContentTooLarge { len, max }),
        };
        let mut mac = [0; 32];
        mac.copy_from_slice(&bytes[UNSIGNED_LEN..]);
        Ok(Self {
            header_len: header_len as usize,
            header_crc: u32_at(bytes, 16),
            content_len: content_len as usize,
            content_crc: u32_at(bytes, 28),
            mac,
        })
    }

    /// The bytes before the authentication code.
    pub(super) fn unsigned(&self) -> [u8; UNSIGNED_LEN] {
        let mut bytes = [0; UNSIGNED_LEN];
        bytes[..12].copy_from_slice(&PREFIX);
        // Both lengths were checked against limits that fit.
        #[expect(clippy::cast_possible_truncation)]
        bytes[12..16].copy_from_slice(&(self.header_len as u32).to_be_bytes());
        bytes[16..20].copy_from_slice(&self.header_crc.to_be_bytes());
        bytes[20..28].copy_from_slice(&(self.content_len as u64).to_be_bytes());
        bytes[28..].copy_from_slice(&self.content_crc.to_be_bytes());
        bytes
    }
}

fn u32_at(bytes: &[u8; FIXED_HEADER_LEN], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

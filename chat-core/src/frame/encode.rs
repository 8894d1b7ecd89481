//! From frames to bytes.

use alloc::vec::Vec;

use bytes::Bytes;

use super::fixed::FixedHeader;
use super::header::{CachedHeader, Header, MAX_CACHED};
use super::{EncodeError, FIXED_HEADER_LEN, Frame, MAX_CONTENT, MAX_HEADER};
use crate::key::{self, Key};

/// Contents up to this size are copied behind their header, so that a frame is one slice; larger
/// ones are shared.
const GATHER: usize = 4 * 1024;

/// Writes frames.
pub struct Encoder {
    key: Key,
    last: Option<CachedHeader>,
}

/// A frame as bytes: headers, then content.
#[derive(Clone, Debug)]
pub struct EncodedFrame {
    /// The headers, and the content too if it is small.
    pub(crate) head: Bytes,
    /// The content, or nothing if it is small.
    pub(crate) content: Bytes,
}

impl EncodedFrame {
    /// The length of the whole frame.
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.head.len() + self.content.len()
    }

    /// The bytes in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        [&self.head[..], &self.content[..]].concat()
    }
}

impl Encoder {
    /// An encoder that signs with `key`.
    pub fn new(key: Key) -> Self {
        Self { key, last: None }
    }

    /// Encodes a frame. One that would be shorter than `min_len` bytes is padded with spaces at
    /// the end of its JSON header (PROTOCOL.md §6).
    pub fn encode(&mut self, frame: &Frame, min_len: usize) -> Result<EncodedFrame, EncodeError> {
        if frame.content.is_empty() {
            return Err(EncodeError::EmptyContent);
        }
        if frame.content.len() > MAX_CONTENT as usize {
            return Err(EncodeError::ContentTooLarge {
                len: frame.content.len(),
            });
        }
        let min_header = min_len.saturating_sub(FIXED_HEADER_LEN + frame.content.len());
        let once;
        let header = if frame.extra.repeats() {
            self.header(frame, min_header)?
        } else {
            once = self.build(frame, min_header)?;
            &once
        };

        let mut mac = header.mac.clone();
        hmac::Mac::update(&mut mac, &frame.content);
        let fixed = FixedHeader {
            header_len: header.json.len(),
            header_crc: header.crc,
            content_len: frame.content.len(),
            content_crc: crc32fast::hash(&frame.content),
            mac: key::finish(mac),
        };
        let gather = frame.content.len() <= GATHER;
        let len =
            FIXED_HEADER_LEN + header.json.len() + if gather { frame.content.len() } else { 0 };
        let mut head = Vec::with_capacity(len);
        head.extend_from_slice(&fixed.to_bytes());
        head.extend_from_slice(&header.json);
        if gather {
            head.extend_from_slice(&frame.content);
        }
        if self
            .last
            .as_ref()
            .is_some_and(|last| last.json.len() > MAX_CACHED)
        {
            self.last = None;
        }
        Ok(EncodedFrame {
            head: head.into(),
            content: if gather {
                Bytes::new()
            } else {
                frame.content.clone()
            },
        })
    }

    /// The JSON header for a frame, at least `min_len` bytes of it.
    fn header(&mut self, frame: &Frame, min_len: usize) -> Result<&CachedHeader, EncodeError> {
        let same = |last: &CachedHeader| {
            let (len, header) = (last.json.len(), &last.header);
            header.kind == frame.kind
                && header.session == frame.session
                && header.content_type == frame.content_type
                && header.extra == frame.extra
                && (len == min_len || len > min_len && !last.padded())
        };
        if !self.last.as_ref().is_some_and(same) {
            self.last = Some(self.build(frame, min_len)?);
        }
        // Just set, where it was not there.
        Ok(self.last.as_ref().expect("the header was built"))
    }

    fn build(&self, frame: &Frame, min_len: usize) -> Result<CachedHeader, EncodeError> {
        if frame.content_type.is_empty() {
            return Err(EncodeError::EmptyContentType);
        }
        let header = Header {
            kind: frame.kind,
            content_type: frame.content_type.clone(),
            session: frame.session,
            extra: frame.extra.clone(),
        };
        let mut json = header.to_json_unclosed().into_bytes();
        let len = (json.len() + 1).max(min_len);
        if len > MAX_HEADER as usize {
            return Err(EncodeError::HeaderTooLarge { len });
        }
        json.resize(len - 1, b' ');
        json.push(b'}');
        let mut mac = self.key.mac();
        hmac::Mac::update(&mut mac, &json);
        Ok(CachedHeader {
            crc: crc32fast::hash(&json),
            header,
            json,
            mac,
        })
    }
}

impl CachedHeader {
    /// Whether there are spaces before the final brace.
    fn padded(&self) -> bool {
        matches!(*self.json, [.., b' ', b'}'])
    }
}

//! From frames to bytes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use hmac::Mac;
use uuid::Uuid;

use super::fixed::{FixedHeader, UNSIGNED_LEN};
use super::header::{CachedHeader, Header, MAX_CACHED, repeats};
use super::{EncodeError, Extra, FIXED_HEADER_LEN, Frame, FrameKind, MAX_CONTENT, MAX_HEADER};
use crate::key::{self, MacState};
use crate::seal::{self, Seal, SessionKey};
use crate::sign::{Codes, Digest, HeaderState, NO_CODE};
use crate::{ContentType, Key, Message};

/// Contents up to this size are copied behind their header, so that a frame is one slice; larger
/// ones are shared.
const GATHER: usize = 4 * 1024;

/// Writes frames.
pub struct Encoder {
    codes: Codes,
    last: Option<Box<CachedHeader>>,
}

/// A frame as bytes: headers, then content.
#[derive(Clone, Debug)]
pub struct EncodedFrame {
    /// The headers, and the content too if it is small.
    pub(crate) head: BytesMut,
    /// The content, or nothing if it is small.
    pub(crate) content: Bytes,
    /// What its code is to be made of, if it has none yet.
    pub(crate) seal: Option<Seal>,
}

impl EncodedFrame {
    /// The length of the whole frame.
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.head.len() + self.content.len()
    }

    /// A small frame apart: the fixed header before the code, and what follows the code.
    pub(crate) fn parts(&self) -> (&[u8], &[u8]) {
        let (fixed, rest) = self.head.split_at(FIXED_HEADER_LEN);
        (&fixed[..UNSIGNED_LEN], rest)
    }

    /// The bytes in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        [&self.head[..], &self.content[..]].concat()
    }
}

/// Gives a frame the code that it has none of yet: that of the next frame under this key.
pub(crate) fn sign(head: &mut [u8], key: &mut SessionKey, seal: &Seal) {
    let (fixed, rest) = head
        .split_first_chunk_mut()
        .expect("a frame has a fixed header");
    rest[..NO_CODE.len()].copy_from_slice(&key.next(fixed, seal));
}

impl Encoder {
    /// An encoder that signs with `key`.
    pub fn new(key: Key) -> Self {
        Self {
            codes: Codes::Shared(key),
            last: None,
        }
    }

    /// From now on frames are signed when they leave, by [`sign`], with the key of a session.
    pub(crate) fn sign_later(&mut self) {
        self.set_codes(Codes::Later);
    }

    /// From now on frames have no codes (PROTOCOL.md §4.8).
    pub(crate) fn trust(&mut self) {
        self.set_codes(Codes::Trusted);
    }

    fn set_codes(&mut self, codes: Codes) {
        self.codes = codes;
        // What was worked out for the codes before.
        self.last = None;
    }

    /// Lets go of what was kept from the last frame.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// Whether a content is hashed whose digest is known, or is not.
    pub(crate) fn hashes(&self, content: &[u8], is_known: bool) -> bool {
        self.codes.hash(content, is_known)
    }

    /// Encodes a frame. One that would be shorter than `min_len` bytes is padded with spaces at
    /// the end of its JSON header (PROTOCOL.md §6).
    pub fn encode(&mut self, frame: &Frame, min_len: usize) -> Result<EncodedFrame, EncodeError> {
        self.encode_digested(frame, None, min_len)
    }

    /// The same with a content whose digest may be known.
    pub(crate) fn encode_digested(
        &mut self,
        frame: &Frame,
        digest: Option<Digest>,
        min_len: usize,
    ) -> Result<EncodedFrame, EncodeError> {
        let said = Said {
            kind: frame.kind,
            content_type: &frame.content_type,
            session: frame.session,
            extra: &frame.extra,
        };
        let mut head = BytesMut::new();
        let seal = self.write(&mut head, said, &frame.content, digest, min_len)?;
        let content = apart(&frame.content);
        Ok(EncodedFrame {
            head,
            content,
            seal,
        })
    }

    /// Writes the headers of a message, and its content if it is small, behind what `head` holds;
    /// [`apart`] gives the content if it is not.
    pub(crate) fn write_message(
        &mut self,
        head: &mut BytesMut,
        session: Option<Uuid>,
        message: &Message,
        min_len: usize,
    ) -> Result<Option<Seal>, EncodeError> {
        let said = Said {
            kind: FrameKind::Message,
            content_type: message.content_type(),
            session,
            extra: &Extra::None,
        };
        self.write(head, said, message.content(), message.digest(), min_len)
    }

    fn write(
        &mut self,
        head: &mut BytesMut,
        said: Said<'_>,
        content: &Bytes,
        digest: Option<Digest>,
        min_len: usize,
    ) -> Result<Option<Seal>, EncodeError> {
        if content.is_empty() {
            return Err(EncodeError::EmptyContent);
        }
        if content.len() > MAX_CONTENT as usize {
            return Err(EncodeError::ContentTooLarge { len: content.len() });
        }
        let min_header = min_len.saturating_sub(FIXED_HEADER_LEN + content.len());
        let once;
        let repeats = repeats(said.kind, said.extra);
        let header = if repeats {
            self.find_header(said, min_header)?;
            // Just found or made.
            self.last.as_ref().expect("the header was built")
        } else {
            once = self.build(said, min_header)?;
            &once
        };

        let fixed = FixedHeader {
            header_len: header.json.len(),
            header_crc: header.crc,
            content_len: content.len(),
            content_crc: crc32fast::hash(content),
            mac: NO_CODE,
        };
        let (code, seal) = match &header.state {
            HeaderState::Shared(mac) => {
                let mut mac = MacState::clone(mac);
                mac.update(content);
                (key::finish(mac), None)
            }
            HeaderState::Session(header) => {
                let seal = Seal {
                    header: *header,
                    content: digest.unwrap_or_else(|| seal::digest(content)),
                };
                (NO_CODE, Some(seal))
            }
            HeaderState::Trusted => (NO_CODE, None),
        };
        let gathered: &[u8] = if content.len() <= GATHER {
            content
        } else {
            &[]
        };
        head.reserve(FIXED_HEADER_LEN + header.json.len() + gathered.len());
        head.extend_from_slice(&fixed.unsigned());
        head.extend_from_slice(&code);
        head.extend_from_slice(&header.json);
        head.extend_from_slice(gathered);
        if repeats && header.json.len() > MAX_CACHED {
            self.last = None;
        }
        Ok(seal)
    }

    /// Makes `last` the JSON header for a frame, at least `min_len` bytes of it.
    fn find_header(&mut self, said: Said<'_>, min_len: usize) -> Result<(), EncodeError> {
        let same = |last: &CachedHeader| {
            let (len, header) = (last.json.len(), &last.header);
            header.kind == said.kind
                && header.session == said.session
                && header.content_type == *said.content_type
                && header.extra == *said.extra
                && (len == min_len || len > min_len && !last.padded())
        };
        if !self.last.as_deref().is_some_and(same) {
            self.last = Some(Box::new(self.build(said, min_len)?));
        }
        Ok(())
    }

    fn build(&self, said: Said<'_>, min_len: usize) -> Result<CachedHeader, EncodeError> {
        if said.content_type.is_empty() {
            return Err(EncodeError::EmptyContentType);
        }
        let header = Header {
            kind: said.kind,
            content_type: said.content_type.clone(),
            session: said.session,
            extra: said.extra.clone(),
        };
        let mut json = header.to_json_unclosed().into_bytes();
        let len = (json.len() + 1).max(min_len);
        if len > MAX_HEADER as usize {
            return Err(EncodeError::HeaderTooLarge { len });
        }
        json.resize(len - 1, b' ');
        json.push(b'}');
        Ok(CachedHeader {
            crc: crc32fast::hash(&json),
            state: self.codes.header(&json),
            header,
            json,
        })
    }
}

/// What a JSON header is to say.
#[derive(Clone, Copy)]
struct Said<'a> {
    kind: FrameKind,
    content_type: &'a ContentType,
    session: Option<Uuid>,
    extra: &'a Extra,
}

/// The content of a frame, if it is not written behind the headers.
pub(crate) fn apart(content: &Bytes) -> Bytes {
    if content.len() <= GATHER {
        Bytes::new()
    } else {
        content.clone()
    }
}

impl CachedHeader {
    /// Whether there are spaces before the final brace.
    fn padded(&self) -> bool {
        matches!(*self.json, [.., b' ', b'}'])
    }
}

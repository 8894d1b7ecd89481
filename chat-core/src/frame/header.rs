//! The JSON header: what it says, how it is written, and the last one kept.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use uuid::Uuid;

use super::{Extra, Frame, FrameError, FrameKind, HeaderFault, json};
use crate::ContentType;
use crate::sign::HeaderState;

/// What a JSON header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: FrameKind,
    pub(super) content_type: ContentType,
    pub(super) session: Option<Uuid>,
    pub(super) extra: Extra,
}

impl Header {
    /// Reads the JSON header of a frame whose authentication code was right.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        let raw = json::parse(bytes).map_err(FrameError::HeaderJson)?;
        let session = match raw.session {
            None => None,
            Some(text) => match text.parse::<uuid::fmt::Hyphenated>() {
                Ok(id) => Some(id.into_uuid()),
                Err(_) => return Err(FrameError::HeaderJson(HeaderFault::BadSession)),
            },
        };
        let content_type = match raw.content_type.as_deref() {
            None | Some("") => return Err(FrameError::HeaderJson(HeaderFault::NoContentType)),
            Some(name) => known(name).unwrap_or_else(|| name.into()),
        };
        let kind = raw
            .kind
            .ok_or(FrameError::HeaderJson(HeaderFault::NoType))?;
        let kind = FrameKind::from_name(&kind).ok_or(FrameError::UnknownType)?;
        let extra = Extra::from_json(kind, raw.ext.as_ref(), raw.chunk.as_ref())
            .map_err(FrameError::HeaderJson)?;
        Ok(Self {
            kind,
            content_type,
            session,
            extra,
        })
    }

    /// The frame that has this header.
    pub(super) fn frame(&self, content: Bytes) -> Frame {
        Frame {
            kind: self.kind,
            content_type: self.content_type.clone(),
            session: self.session,
            content,
            extra: self.extra.clone(),
        }
    }

    /// The JSON text, without its final brace: padding may go before that.
    pub(super) fn to_json_unclosed(&self) -> String {
        let mut out = String::with_capacity(128);
        out.push_str("{\"type\": \"");
        out.push_str(self.kind.as_str());
        out.push_str("\", \"content_type\": ");
        json::push_string(&mut out, &self.content_type);
        out.push_str(", \"session_id\": ");
        match self.session {
            None => out.push_str("null"),
            Some(id) => {
                out.push('"');
                out.push_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
                out.push('"');
            }
        }
        self.extra.push_json(&mut out);
        out
    }
}

/// The last JSON header of one direction, with what was worked out from it. The headers of a
/// session repeat: comparing one with the last is a fraction of the cost of hashing and parsing.
#[derive(Clone)]
pub(super) struct CachedHeader {
    pub(super) header: Header,
    pub(super) json: Vec<u8>,
    pub(super) crc: u32,
    /// What its part in the authentication code is.
    pub(super) state: HeaderState,
}

/// Whether the header is worth keeping, for the next is likely to be the same: those of messages are.
pub(super) fn repeats(kind: FrameKind, extra: &Extra) -> bool {
    kind == FrameKind::Message && *extra == Extra::None
}

/// Longer headers are not kept: an idle connection should be small.
pub(super) const MAX_CACHED: usize = 1024;

/// Content types that need no allocation.
fn known(name: &str) -> Option<ContentType> {
    const PLAIN: ContentType = ContentType::from_static("text/plain");
    [
        ContentType::TEXT,
        ContentType::BINARY,
        PLAIN,
        ContentType::JSON,
    ]
    .into_iter()
    .find(|known| known.as_str() == name)
}

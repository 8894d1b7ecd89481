//! Messages: what applications exchange.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use bytes::Bytes;

use crate::Config;
use crate::seal;
use crate::sign::{Digest, Piece};

/// What the content of a message is, as a media type: `text/plain; charset=utf-8`.
///
/// Cheap to clone. The protocol asks only that it is not empty (PROTOCOL.md §3).
#[derive(Clone)]
pub struct ContentType(Repr);

#[derive(Clone)]
enum Repr {
    Static(&'static str),
    Shared(Arc<str>),
}

impl ContentType {
    /// `text/plain; charset=utf-8`
    pub const TEXT: Self = Self::from_static("text/plain; charset=utf-8");
    /// `application/octet-stream`
    pub const BINARY: Self = Self::from_static("application/octet-stream");
    /// `application/json`
    pub const JSON: Self = Self::from_static("application/json");

    /// A content type known when compiling.
    pub const fn from_static(name: &'static str) -> Self {
        Self(Repr::Static(name))
    }

    /// The media type as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Static(name) => name,
            Repr::Shared(name) => name,
        }
    }

    /// True for every `text/…` type, in any case.
    pub fn is_text(&self) -> bool {
        self.as_str()
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case("text/"))
    }
}

impl Deref for ContentType {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for ContentType {
    fn from(name: &str) -> Self {
        Self(Repr::Shared(name.into()))
    }
}

impl From<String> for ContentType {
    fn from(name: String) -> Self {
        Self(Repr::Shared(name.into()))
    }
}

impl PartialEq for ContentType {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ContentType {}

impl fmt::Debug for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A message: a content type and at least one byte of content.
///
/// Cheap to clone: the content is shared, not copied.
///
/// ```
/// use chat_core::{ContentType, Message};
///
/// let text = Message::text("Hello, World!");
/// assert_eq!(text.as_text(), Some("Hello, World!"));
///
/// let image = Message::new("image/png", vec![0x89, 0x50]);
/// assert_eq!(image.content_type(), &ContentType::from("image/png"));
/// assert_eq!(image.as_text(), None);
/// ```
#[derive(Clone)]
pub struct Message {
    content_type: ContentType,
    content: Bytes,
    digests: Digests,
}

/// What is known of the digest of a content.
#[derive(Clone)]
enum Digests {
    None,
    Whole(Digest),
    /// Those of its pieces of this many bytes.
    Pieces(usize, Arc<[Digest]>),
}

/// The digests of pieces of the same length, but for the last, as they arrive.
#[derive(Default)]
pub(crate) struct PieceDigests {
    len: usize,
    /// A piece was shorter than the first: it is the last of which something is known.
    ended: bool,
    known: Vec<Digest>,
}

impl PieceDigests {
    /// The next piece. What does not fit is forgotten, and all before it.
    pub(crate) fn push(&mut self, piece: &Piece) {
        let len = piece.bytes.len();
        if self.known.is_empty() && !self.ended {
            self.len = len;
        }
        match piece.digest {
            Some(digest) if !self.ended && len <= self.len => self.known.push(digest),
            _ => self.known = Vec::new(),
        }
        self.ended |= len < self.len || self.known.is_empty();
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.content_type == other.content_type && self.content == other.content
    }
}

impl Eq for Message {}

impl Message {
    /// A message of any content type.
    ///
    /// Neither part may be empty; sending refuses the message if one is.
    pub fn new(content_type: impl Into<ContentType>, content: impl Into<Bytes>) -> Self {
        Self {
            content_type: content_type.into(),
            content: content.into(),
            digests: Digests::None,
        }
    }

    pub(crate) fn of(content_type: ContentType, content: Piece) -> Self {
        Self {
            content_type,
            content: content.bytes,
            digests: content.digest.map_or(Digests::None, Digests::Whole),
        }
    }

    /// A message that came in pieces, with what is known of them.
    pub(crate) fn in_pieces(
        content_type: ContentType,
        content: Bytes,
        digests: PieceDigests,
    ) -> Self {
        let PieceDigests { len, known, .. } = digests;
        let digests = match *known {
            [] => Digests::None,
            [whole] => Digests::Whole(whole),
            _ => Digests::Pieces(len, known.into()),
        };
        Self {
            digests,
            ..Self::new(content_type, content)
        }
    }

    /// Hashes the content in the pieces in which connections of these settings send it: for a message
    /// that goes to several of them. With `sec` each connection needs the hash, and then none works it
    /// out again.
    #[must_use]
    pub fn hashed(self, config: &Config) -> Self {
        let size = config.chunk_size as usize;
        let in_pieces = config.chunks && self.content.len() > config.chunk_threshold as usize;
        let digests = match &self.digests {
            Digests::Pieces(known, _) if in_pieces && *known == size => return self,
            Digests::Whole(_) if !in_pieces => return self,
            _ if in_pieces => {
                let pieces = self.content.chunks(size);
                Digests::Pieces(size, pieces.map(seal::digest).collect())
            }
            _ => Digests::Whole(seal::digest(&self.content)),
        };
        Self { digests, ..self }
    }

    /// The digest of the content, if it is known.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match self.digests {
            Digests::Whole(digest) => Some(digest),
            _ => None,
        }
    }

    /// The content, to be sent in pieces of `size` bytes.
    pub(crate) fn into_pieces(self, size: usize) -> VecDeque<Piece> {
        let mut content = self.content;
        match self.digests {
            Digests::Pieces(known, digests) if known == size => {
                let piece = |digest: &Digest| Piece {
                    bytes: content.split_to(size.min(content.len())),
                    digest: Some(*digest),
                };
                digests.iter().map(piece).collect()
            }
            Digests::Whole(digest) if content.len() <= size => [Piece {
                bytes: content,
                digest: Some(digest),
            }]
            .into(),
            _ => [content.into()].into(),
        }
    }

    /// A text message, [`ContentType::TEXT`].
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(ContentType::TEXT, text.into().into_bytes())
    }

    /// A message of plain bytes, [`ContentType::BINARY`].
    pub fn binary(content: impl Into<Bytes>) -> Self {
        Self::new(ContentType::BINARY, content)
    }

    /// What the content is.
    pub fn content_type(&self) -> &ContentType {
        &self.content_type
    }

    /// The content.
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    /// The content as text: `None` unless the content type is `text/…` and the bytes are UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        if !self.content_type.is_text() {
            return None;
        }
        core::str::from_utf8(&self.content).ok()
    }

    /// The content alone.
    pub fn into_content(self) -> Bytes {
        self.content
    }
}

/// What an entry of a queue costs beyond the bytes that it holds.
pub(crate) const OVERHEAD: usize = 128;

impl Message {
    /// What the message costs whoever keeps it, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.content.len() + self.content_type.len() + OVERHEAD
    }
}

#[expect(
    clippy::missing_fields_in_debug,
    reason = "digests are no part of a message"
)]
impl fmt::Debug for Message {
    /// The content type and the size: contents belong to users, and logs get copied around.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("content_type", &self.content_type)
            .field("bytes", &self.content.len())
            .finish()
    }
}

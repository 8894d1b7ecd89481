//! What a JSON header may say beyond version 1: `ext` and `chunk` (PROTOCOL.md §4.6 and §5.5).

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;

use super::json::{self, Nonsense, Value};
use super::{FrameKind, HeaderFault, MAX_CONTENT};
use crate::KeyId;

/// The longest content of a piece that any peer takes, in bytes.
pub const MAX_CHUNK: u32 = 65_536;
/// The least that a peer that takes chunks takes as one piece, in bytes.
pub const MIN_CHUNK: u32 = 1024;
/// The smallest window that a peer may have, in bytes.
pub const MIN_WINDOW: u32 = 4096;
/// The shortest answer timeout that a peer may have, in milliseconds.
pub const MIN_PING_TIMEOUT: u32 = 3000;
/// Integers on the wire are at most 2^53 − 1: every language has those.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;
/// The longest name of a transfer, in bytes.
pub const MAX_NAME: usize = 1024;

/// The length of a nonce of `sec`, in bytes.
pub const NONCE_LEN: usize = 32;

/// What the JSON header of a frame says beyond its three keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extra {
    /// Nothing.
    #[default]
    None,
    /// `ext` of a `session_init` or `session_ack`: an offer, or a choice from one.
    Extensions(Extensions),
    /// `chunk` of a `chunk`.
    Chunk(Chunk),
}

/// What a peer can do beyond version 1, and how much it takes (PROTOCOL.md §4.6).
///
/// In an offer and in a choice, the numbers are limits of whoever sends them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extensions {
    /// `limits`: the longest content of a `message` that it takes, in bytes.
    pub max_content: Option<u32>,
    /// `coalesce`: it takes any number of frames in one read, without padding.
    pub coalesce: bool,
    /// `ping`: it answers, and expects an answer within this many milliseconds.
    pub ping: Option<u32>,
    /// `chunk`: it takes messages in pieces.
    pub chunk: Option<ChunkLimits>,
    /// `sec`: its frames are authenticated for the session and their place.
    pub sec: Option<SecHello>,
    /// `trust`: the channel below authenticates, and frames after the handshake of `sec` are not
    /// signed. Means nothing without `sec`.
    pub trust: bool,
}

/// What a peer says to begin `sec` (PROTOCOL.md §4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecHello {
    /// Random bytes, other ones for every connection.
    pub nonce: [u8; NONCE_LEN],
    /// In a choice, never in an offer: the key that the client holds.
    pub key: Option<KeyId>,
}

/// How much a peer takes in pieces (PROTOCOL.md §5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// The longest content of a piece, in bytes: [`MIN_CHUNK`] to [`MAX_CHUNK`].
    pub size: u32,
    /// How many bytes of a transfer may be on their way; at least `size` and [`MIN_WINDOW`].
    pub window: u32,
    /// How many transfers may be open at a time; at least 1.
    pub transfers: u32,
    /// The largest message that it takes, in bytes; `None`: of any size.
    pub message: Option<u64>,
}

/// What a `chunk` frame is (PROTOCOL.md §5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The transfer's number.
    pub id: u64,
    /// What is said about it.
    pub op: ChunkOp,
}

/// What a `chunk` frame says about its transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChunkOp {
    /// Its sender begins it.
    Begin {
        /// Its size in bytes, if known.
        total: Option<u64>,
        /// Its name, as a file has one.
        name: Option<Arc<str>>,
    },
    /// A piece of it: the content of the frame.
    Data {
        /// How many bytes were before this piece.
        offset: u64,
    },
    /// It is complete.
    End {
        /// Its size in bytes.
        offset: u64,
    },
    /// Its receiver takes this many bytes more.
    Window {
        /// How many.
        bytes: u64,
    },
    /// Its receiver has taken all of it.
    Done,
    /// Either side gives it up; the content of the frame is the reason.
    Abort,
}

impl Extra {
    /// Reads what a frame of this kind may say.
    pub(super) fn from_json(
        kind: FrameKind,
        ext: Option<&Value<'_>>,
        chunk: Option<&Value<'_>>,
    ) -> Result<Self, HeaderFault> {
        Ok(match (kind, ext, chunk) {
            (FrameKind::SessionInit | FrameKind::SessionAck, Some(ext), _) => {
                let nonsense = |Nonsense| HeaderFault::BadExtension;
                let extensions = Extensions::from_json(ext).map_err(nonsense)?;
                let sec = extensions.sec.as_ref();
                if kind == FrameKind::SessionAck && sec.is_some_and(|sec| sec.key.is_none()) {
                    return Err(HeaderFault::BadExtension);
                }
                Self::Extensions(extensions)
            }
            (FrameKind::Chunk, _, Some(chunk)) => {
                Self::Chunk(Chunk::from_json(chunk).map_err(|Nonsense| HeaderFault::BadChunk)?)
            }
            _ => Self::None,
        })
    }

    /// Appends what follows the three keys of version 1.
    pub(super) fn push_json(&self, out: &mut String) {
        match self {
            Self::None => {}
            Self::Extensions(extensions) => extensions.push_json(out),
            Self::Chunk(chunk) => chunk.push_json(out),
        }
    }
}

impl Extensions {
    /// Unknown names and parameters mean nothing; known ones must make sense.
    fn from_json(value: &Value<'_>) -> Result<Self, Nonsense> {
        let mut known = Self::default();
        for (name, parameters) in value.object()? {
            match &**name {
                "limits" => {
                    let content = parameters.integer("content")?.unwrap_or(MAX_CONTENT.into());
                    known.max_content = Some(at_most(content, MAX_CONTENT, 1)?);
                }
                "coalesce" => {
                    parameters.object()?;
                    known.coalesce = true;
                }
                "ping" => {
                    let timeout = parameters.required("timeout")?;
                    known.ping = Some(at_most(timeout, u32::MAX, MIN_PING_TIMEOUT)?);
                }
                "chunk" => known.chunk = Some(ChunkLimits::from_json(parameters)?),
                "sec" => known.sec = Some(SecHello::from_json(parameters)?),
                "trust" => {
                    parameters.object()?;
                    known.trust = true;
                }
                _ => {}
            }
        }
        Ok(known)
    }

    fn push_json(&self, out: &mut String) {
        let mut comma = "";
        out.push_str(", \"ext\": {");
        if let Some(content) = self.max_content {
            push(
                out,
                &mut comma,
                format_args!("\"limits\": {{\"content\": {content}}}"),
            );
        }
        if self.coalesce {
            push(out, &mut comma, format_args!("\"coalesce\": {{}}"));
        }
        if let Some(timeout) = self.ping {
            push(
                out,
                &mut comma,
                format_args!("\"ping\": {{\"timeout\": {timeout}}}"),
            );
        }
        if let Some(ChunkLimits {
            size,
            window,
            transfers,
            message,
        }) = self.chunk
        {
            push(
                out,
                &mut comma,
                format_args!(
                    "\"chunk\": {{\"size\": {size}, \"window\": {window}, \"transfers\": {transfers}"
                ),
            );
            if let Some(message) = message {
                push(out, &mut comma, format_args!("\"message\": {message}"));
            }
            out.push('}');
        }
        if let Some(SecHello { nonce, key }) = &self.sec {
            push(out, &mut comma, format_args!("\"sec\": {{\"nonce\": \""));
            push_hex(out, nonce);
            out.push('"');
            if let Some(key) = key {
                push(out, &mut comma, format_args!("\"key\": \"{key}\""));
            }
            out.push('}');
        }
        if self.trust {
            push(out, &mut comma, format_args!("\"trust\": {{}}"));
        }
        out.push('}');
    }

    /// Whether every extension of this is one of `offer`'s too.
    pub(crate) fn is_part_of(&self, offer: &Self) -> bool {
        let had = [
            (self.max_content.is_some(), offer.max_content.is_some()),
            (self.coalesce, offer.coalesce),
            (self.ping.is_some(), offer.ping.is_some()),
            (self.chunk.is_some(), offer.chunk.is_some()),
            (self.sec.is_some(), offer.sec.is_some()),
            // Without `sec` it was not there to be chosen.
            (self.trust, offer.trust && self.sec.is_some()),
        ];
        had.iter().all(|(chosen, offered)| *offered || !chosen)
    }

    /// The extensions of this that `other` has too, with the numbers of this.
    pub(crate) fn shared_with(&self, other: &Self) -> Self {
        let sec = self.sec.filter(|_| other.sec.is_some());
        Self {
            max_content: self.max_content.filter(|_| other.max_content.is_some()),
            coalesce: self.coalesce && other.coalesce,
            ping: self.ping.filter(|_| other.ping.is_some()),
            chunk: self.chunk.filter(|_| other.chunk.is_some()),
            sec,
            trust: self.trust && other.trust && sec.is_some(),
        }
    }
}

impl SecHello {
    fn from_json(value: &Value<'_>) -> Result<Self, Nonsense> {
        let nonce = value.text("nonce")?.ok_or(Nonsense)?;
        let key = value.text("key")?.map(from_hex).transpose()?;
        Ok(Self {
            nonce: from_hex(nonce)?,
            key: key.map(KeyId::from_bytes),
        })
    }
}

impl ChunkLimits {
    fn from_json(value: &Value<'_>) -> Result<Self, Nonsense> {
        let size = at_most(value.required("size")?, MAX_CHUNK, MIN_CHUNK)?;
        Ok(Self {
            size,
            window: at_most(value.required("window")?, u32::MAX, size.max(MIN_WINDOW))?,
            transfers: at_most(value.required("transfers")?, u32::MAX, 1)?,
            message: match value.integer("message")? {
                Some(0) => return Err(Nonsense),
                message => message,
            },
        })
    }
}

impl Chunk {
    fn from_json(value: &Value<'_>) -> Result<Self, Nonsense> {
        let id = value.required("id")?;
        let op = match value.text("op")?.ok_or(Nonsense)? {
            "begin" => ChunkOp::Begin {
                total: value.integer("total")?,
                name: match value.text("name")? {
                    Some(name) if name.len() > MAX_NAME || name.is_empty() => {
                        return Err(Nonsense);
                    }
                    name => name.map(Arc::from),
                },
            },
            "data" => ChunkOp::Data {
                offset: value.required("offset")?,
            },
            "end" => ChunkOp::End {
                offset: value.required("offset")?,
            },
            "window" => match value.required("bytes")? {
                0 => return Err(Nonsense),
                bytes => ChunkOp::Window { bytes },
            },
            "done" => ChunkOp::Done,
            "abort" => ChunkOp::Abort,
            _ => return Err(Nonsense),
        };
        Ok(Self { id, op })
    }

    fn push_json(&self, out: &mut String) {
        let mut comma = ", ";
        let (op, number) = match &self.op {
            ChunkOp::Begin { total, .. } => ("begin", total.map(|total| ("total", total))),
            ChunkOp::Data { offset } => ("data", Some(("offset", *offset))),
            ChunkOp::End { offset } => ("end", Some(("offset", *offset))),
            ChunkOp::Window { bytes } => ("window", Some(("bytes", *bytes))),
            ChunkOp::Done => ("done", None),
            ChunkOp::Abort => ("abort", None),
        };
        // Writing to a String cannot fail.
        let _ = write!(out, ", \"chunk\": {{\"id\": {}, \"op\": \"{op}\"", self.id);
        if let Some((key, value)) = number {
            push(out, &mut comma, format_args!("\"{key}\": {value}"));
        }
        if let ChunkOp::Begin {
            name: Some(name), ..
        } = &self.op
        {
            push(out, &mut comma, format_args!("\"name\": "));
            json::push_string(out, name);
        }
        out.push('}');
    }
}

fn push(out: &mut String, comma: &mut &str, text: core::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{comma}{text}");
    *comma = ", ";
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
}

/// So many bytes as hexadecimal digits, in either case.
fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], Nonsense> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(Nonsense),
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return Err(Nonsense);
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

/// A number of at least `min`; above `max` it means that.
fn at_most(value: u64, max: u32, min: u32) -> Result<u32, Nonsense> {
    let value = u32::try_from(value).unwrap_or(u32::MAX).min(max);
    if value < min {
        return Err(Nonsense);
    }
    Ok(value)
}

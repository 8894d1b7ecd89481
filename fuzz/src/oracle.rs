//! A second opinion on JSON headers: PROTOCOL.md §3, §4.6 and §5.5 over again, on top of a parser that
//! keeps every value and a scan of the text. What it finds must be what the crate finds.

use std::collections::BTreeSet;
use std::sync::Arc;

use chat_core::Uuid;
use chat_core::frame::{Chunk, ChunkLimits, ChunkOp, Extensions, Extra, FrameKind};
use serde_json::Value;

use crate::sec::unhex;

const MAX_INTEGER: u64 = (1 << 53) - 1;

/// What a JSON header says.
#[derive(Debug)]
pub struct Header {
    pub kind: FrameKind,
    pub content_type: String,
    pub session: Option<Uuid>,
    /// Without `sec`.
    pub extra: Extra,
    pub sec: Option<Sec>,
}

/// What it says to begin `sec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sec {
    pub nonce: Vec<u8>,
    pub key: Option<Vec<u8>>,
}

/// What is counted over a whole header.
#[derive(Debug, Default)]
pub struct Shape {
    pub depth: usize,
    pub keys: usize,
    /// One appears twice in an object.
    pub twice: bool,
}

impl Shape {
    /// Of a text that is JSON.
    pub fn of(json: &[u8]) -> Self {
        let mut shape = Self::default();
        // The keys of each object that is open, nothing for an array.
        let mut open: Vec<Option<BTreeSet<String>>> = Vec::new();
        let (mut at, mut is_key) = (0, false);
        while at < json.len() {
            match json[at] {
                mark @ (b'{' | b'[') => {
                    is_key = mark == b'{';
                    open.push(is_key.then(BTreeSet::new));
                    shape.depth = shape.depth.max(open.len());
                }
                b'}' | b']' => {
                    open.pop();
                }
                b',' => is_key = matches!(open.last(), Some(Some(_))),
                b':' => is_key = false,
                b'"' => {
                    let start = at;
                    at += 1;
                    while json[at] != b'"' {
                        at += if json[at] == b'\\' { 2 } else { 1 };
                    }
                    if is_key && let Some(Some(keys)) = open.last_mut() {
                        let key = serde_json::from_slice(&json[start..=at]);
                        shape.keys += 1;
                        shape.twice |= !keys.insert(key.expect("a string of what is JSON"));
                    }
                }
                _ => {}
            }
            at += 1;
        }
        shape
    }

    /// Whether it is within the limits.
    pub fn is_fine(&self) -> bool {
        self.depth <= 8 && self.keys <= 32 && !self.twice
    }
}

/// What a header says, if it is one.
pub fn read(json: &[u8]) -> Option<Header> {
    if json.first() != Some(&b'{') || json.last() != Some(&b'}') {
        return None;
    }
    let value: Value = serde_json::from_slice(json).ok()?;
    if !Shape::of(json).is_fine() {
        return None;
    }
    let kind = value.get("type")?.as_str()?;
    let kind = FrameKind::ALL.into_iter().find(|it| it.as_str() == kind)?;
    let content_type = value.get("content_type")?.as_str()?.to_owned();
    let session = match value.get("session_id") {
        None | Some(Value::Null) => None,
        Some(id) => Some(id.as_str().filter(|id| id.len() == 36)?.parse().ok()?),
    };
    let mut sec = None;
    let extra = match (kind, value.get("ext"), value.get("chunk")) {
        (FrameKind::SessionInit | FrameKind::SessionAck, Some(ext), _) => {
            let (extensions, hello) = extensions(ext)?;
            let lacks_key = hello.as_ref().is_some_and(|hello| hello.key.is_none());
            if kind == FrameKind::SessionAck && lacks_key {
                return None;
            }
            sec = hello;
            Extra::Extensions(extensions)
        }
        (FrameKind::Chunk, _, Some(value)) => Extra::Chunk(chunk(value)?),
        _ => Extra::None,
    };
    (!content_type.is_empty()).then_some(Header {
        kind,
        content_type,
        session,
        extra,
        sec,
    })
}

/// What `ext` says.
pub fn extensions(ext: &Value) -> Option<(Extensions, Option<Sec>)> {
    let mut known = Extensions::default();
    let mut sec = None;
    for (name, value) in ext.as_object()? {
        match &**name {
            "limits" => {
                let content = integer(value, "content")?.unwrap_or(10_485_760);
                known.max_content = Some(number(content, 1, 10_485_760)?);
            }
            "coalesce" => known.coalesce = value.is_object(),
            "trust" => known.trust = value.is_object(),
            "ping" => known.ping = Some(number(integer(value, "timeout")??, 3000, u32::MAX)?),
            "chunk" => {
                let size = number(integer(value, "size")??, 1024, 65_536)?;
                known.chunk = Some(ChunkLimits {
                    size,
                    window: number(integer(value, "window")??, size.max(4096), u32::MAX)?,
                    transfers: number(integer(value, "transfers")??, 1, u32::MAX)?,
                    message: integer(value, "message")?,
                });
                if known.chunk?.message == Some(0) {
                    return None;
                }
            }
            "sec" => {
                let digits = |key, len: usize| match text(value, key)? {
                    None => Some(None),
                    Some(digits) => unhex(digits).filter(|it| it.len() == len).map(Some),
                };
                sec = Some(Sec {
                    nonce: digits("nonce", 32)??,
                    key: digits("key", 8)?,
                });
            }
            _ => {}
        }
        if name == "coalesce" && !known.coalesce || name == "trust" && !known.trust {
            return None;
        }
    }
    Some((known, sec))
}

/// What `chunk` says.
fn chunk(value: &Value) -> Option<Chunk> {
    let id = integer(value, "id")??;
    let op = match text(value, "op")?? {
        "begin" => {
            let name = text(value, "name")?;
            if name.is_some_and(|name| !(1..=1024).contains(&name.len())) {
                return None;
            }
            ChunkOp::Begin {
                total: integer(value, "total")?,
                name: name.map(Arc::from),
            }
        }
        "data" => ChunkOp::Data {
            offset: integer(value, "offset")??,
        },
        "end" => ChunkOp::End {
            offset: integer(value, "offset")??,
        },
        "window" => ChunkOp::Window {
            bytes: integer(value, "bytes")?.filter(|bytes| *bytes > 0)?,
        },
        "done" => ChunkOp::Done,
        "abort" => ChunkOp::Abort,
        _ => return None,
    };
    Some(Chunk { id, op })
}

/// A parameter that may be absent, or null, which is the same.
fn member<'a>(value: &'a Value, key: &str) -> Option<Option<&'a Value>> {
    Some(value.as_object()?.get(key).filter(|it| !it.is_null()))
}

fn integer(value: &Value, key: &str) -> Option<Option<u64>> {
    match member(value, key)? {
        None => Some(None),
        Some(value) => value.as_u64().filter(|it| *it <= MAX_INTEGER).map(Some),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<Option<&'a str>> {
    match member(value, key)? {
        None => Some(None),
        Some(value) => value.as_str().map(Some),
    }
}

/// Above the most it means that.
fn number(value: u64, least: u32, most: u32) -> Option<u32> {
    let value = value.min(most.into()) as u32;
    (value >= least).then_some(value)
}

//! A reader of frames that is as plain as can be: the whole stream in a slice, each rule of PROTOCOL.md
//! §2 and §3 once and in its words, and no code of the crate's but the types of what it says.

use bytes::Bytes;
use chat_core::frame::{
    Chunk, ChunkLimits, ChunkOp, Extensions, Extra, Frame, FrameError, FrameKind, SecHello,
};
use chat_core::{Key, KeyId, Uuid};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The names of PROTOCOL.md §2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    BadMagic,
    UnsupportedVersion,
    UnsupportedFrameType,
    HeaderTooLarge,
    ContentTooLarge,
    EmptyContent,
    HeaderJson,
    HeaderCrc,
    ContentCrc,
    Hmac,
    UnknownType,
}

impl Fault {
    /// What the crate calls it.
    pub(crate) fn of(error: FrameError) -> Self {
        match error {
            FrameError::BadMagic { .. } => Self::BadMagic,
            FrameError::UnsupportedVersion => Self::UnsupportedVersion,
            FrameError::UnsupportedFrameType => Self::UnsupportedFrameType,
            FrameError::HeaderTooLarge { .. } => Self::HeaderTooLarge,
            FrameError::ContentTooLarge { .. } => Self::ContentTooLarge,
            FrameError::EmptyContent => Self::EmptyContent,
            FrameError::HeaderJson(_) => Self::HeaderJson,
            FrameError::HeaderCrc => Self::HeaderCrc,
            FrameError::ContentCrc => Self::ContentCrc,
            FrameError::Mac => Self::Hmac,
            FrameError::UnknownType => Self::UnknownType,
            other => panic!("the document has no name for {other:?}"),
        }
    }
}

/// What a stream is.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) frames: Vec<Frame>,
    /// How much of an unfinished frame is left; or what is wrong with it. Where several things are that
    /// the document puts into the same step, any of them may be found first.
    pub(crate) end: Result<usize, Vec<Fault>>,
}

/// Reads a stream from its beginning.
pub(crate) fn read(mut stream: &[u8], key: &[u8], header: usize, content: usize) -> Reading {
    let mut frames = Vec::new();
    loop {
        match first(stream, key, header, content) {
            Err(faults) => {
                let end = Err(faults);
                return Reading { frames, end };
            }
            Ok(None) => {
                let end = Ok(stream.len());
                return Reading { frames, end };
            }
            Ok(Some((frame, rest))) => {
                frames.push(frame);
                stream = rest;
            }
        }
    }
}

/// The first frame and what follows it, if it is whole.
fn first<'a>(
    stream: &'a [u8],
    key: &[u8],
    max_header: usize,
    max_content: usize,
) -> Result<Option<(Frame, &'a [u8])>, Vec<Fault>> {
    // 1. A wrong byte is refused when it is there.
    let prefix = b"\x89\x50\x4e\x47\x0e\x0b\x1b\x0b\x00\x01\x00\x00";
    for (at, (found, right)) in stream.iter().zip(prefix).enumerate() {
        if found != right {
            return Err(vec![match at {
                0..8 => Fault::BadMagic,
                8..10 => Fault::UnsupportedVersion,
                _ => Fault::UnsupportedFrameType,
            }]);
        }
    }
    if stream.len() < 64 {
        return Ok(None);
    }
    // 2.
    let header_len = number(&stream[12..16]);
    let content_len = number(&stream[20..28]);
    let wrong = [
        (header_len > max_header as u64, Fault::HeaderTooLarge),
        (header_len < 2, Fault::HeaderJson),
        (content_len > max_content as u64, Fault::ContentTooLarge),
        (content_len == 0, Fault::EmptyContent),
    ];
    let wrong: Vec<Fault> = wrong
        .into_iter()
        .filter_map(|(wrong, fault)| wrong.then_some(fault))
        .collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let header_end = 64 + usize::try_from(header_len).expect("it is within a limit");
    let end = header_end + usize::try_from(content_len).expect("it is within a limit");
    // 3.
    if stream.len() > 64 && stream[64] != b'{' {
        return Err(vec![Fault::HeaderJson]);
    }
    if stream.len() < header_end {
        return Ok(None);
    }
    let header = &stream[64..header_end];
    if u64::from(crc(header)) != number(&stream[16..20]) {
        return Err(vec![Fault::HeaderCrc]);
    }
    if header[header.len() - 1] != b'}' {
        return Err(vec![Fault::HeaderJson]);
    }
    if stream.len() < end {
        return Ok(None);
    }
    // 4.
    let content = &stream[header_end..end];
    if u64::from(crc(content)) != number(&stream[28..32]) {
        return Err(vec![Fault::ContentCrc]);
    }
    // 5.
    if hmac(key, &stream[64..end])[..] != stream[32..64] {
        return Err(vec![Fault::Hmac]);
    }
    // 6.
    let frame = parse(header, content)?;
    Ok(Some((frame, &stream[end..])))
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |sum, byte| sum * 256 + u64::from(*byte))
}

/// CRC-32, bit by bit.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = 0xffff_ffff_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let out = crc & 1;
            crc >>= 1;
            if out == 1 {
                crc ^= 0xedb8_8320;
            }
        }
    }
    !crc
}

/// HMAC-SHA256, as RFC 2104 writes it.
pub(crate) fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = block.map(|byte| byte ^ 0x36);
    let outer = block.map(|byte| byte ^ 0x5c);
    let inner = Sha256::digest([&inner, text].concat());
    Sha256::digest([&outer[..], &inner].concat()).into()
}

/// The frame of a JSON header and a content, whatever the header is.
pub(crate) fn write(key: &[u8], json: &[u8], content: &[u8]) -> Vec<u8> {
    let signed = [json, content].concat();
    let json_len = u32::try_from(json.len()).expect("a header of a test is short");
    [
        &b"\x89PNG\x0e\x0b\x1b\x0b\x00\x01\x00\x00"[..],
        &json_len.to_be_bytes(),
        &crc(json).to_be_bytes(),
        &(content.len() as u64).to_be_bytes(),
        &crc(content).to_be_bytes(),
        &hmac(key, &signed),
        &signed,
    ]
    .concat()
}

/// What a JSON header says.
fn parse(json: &[u8], content: &[u8]) -> Result<Frame, Vec<Fault>> {
    let bad = || vec![Fault::HeaderJson];
    let text = core::str::from_utf8(json).map_err(|_| bad())?;
    let value: Value = serde_json::from_str(text).map_err(|_| bad())?;
    if !has_few_keys_and_levels(text) {
        return Err(bad());
    }
    let header = value.as_object().ok_or_else(bad)?;
    let mut faults = Vec::new();
    let kind = match header.get("type") {
        Some(Value::String(name)) => {
            let kind = FrameKind::ALL
                .into_iter()
                .find(|kind| kind.as_str() == name);
            if kind.is_none() {
                faults.push(Fault::UnknownType);
            }
            kind
        }
        _ => return Err(bad()),
    };
    let content_type = match header.get("content_type") {
        Some(Value::String(name)) if !name.is_empty() => name.as_str(),
        _ => {
            faults.push(Fault::HeaderJson);
            ""
        }
    };
    let session = match header.get("session_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if uuid(id).is_some() => uuid(id),
        _ => {
            faults.push(Fault::HeaderJson);
            None
        }
    };
    let extra = match (kind, header.get("ext"), header.get("chunk")) {
        (Some(kind @ (FrameKind::SessionInit | FrameKind::SessionAck)), Some(ext), _) => {
            extensions(ext, kind).map(Extra::Extensions)
        }
        (Some(FrameKind::Chunk), _, Some(value)) => chunk(value).map(Extra::Chunk),
        _ => Some(Extra::None),
    };
    if extra.is_none() {
        faults.push(Fault::HeaderJson);
    }
    match (kind, extra) {
        (Some(kind), Some(extra)) if faults.is_empty() => Ok(Frame {
            kind,
            content_type: content_type.into(),
            session,
            content: Bytes::copy_from_slice(content),
            extra,
        }),
        _ => Err(faults),
    }
}

/// Of JSON that is right: no object has a key twice, nothing is deeper than 8 levels, and there are no
/// more than 32 keys.
fn has_few_keys_and_levels(json: &str) -> bool {
    let bytes = json.as_bytes();
    let mut open: Vec<Vec<String>> = Vec::new();
    let mut keys = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => open.push(Vec::new()),
            b'}' | b']' => drop(open.pop()),
            b'"' => {
                let start = at;
                at += 1;
                while bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                // It is a key if a colon follows.
                if json[at + 1..].trim_start().starts_with(':') {
                    let key = serde_json::from_str::<String>(&json[start..=at]);
                    let key = key.expect("the whole was right");
                    let seen = open.last_mut().expect("a key is in an object");
                    if seen.contains(&key) {
                        return false;
                    }
                    seen.push(key);
                    keys += 1;
                }
            }
            _ => {}
        }
        if open.len() > 8 || keys > 32 {
            return false;
        }
        at += 1;
    }
    true
}

/// 8-4-4-4-12 hexadecimal digits.
fn uuid(text: &str) -> Option<Uuid> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let digits = groups.concat();
    let right =
        lengths == [8, 4, 4, 4, 12] && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u128::from_str_radix(&digits, 16).ok()?;
    right.then_some(Uuid::from_u128(number))
}

/// A parameter that is an integer; `Some(None)` if it is absent.
#[expect(clippy::option_option, reason = "it may be wrong, absent or there")]
fn integer(object: &Map<String, Value>, key: &str) -> Option<Option<u64>> {
    match object.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(value) => {
            let value = value.as_u64()?;
            (value < 1 << 53).then_some(Some(value))
        }
    }
}

/// One that must be there, and at least `least`.
fn required(object: &Map<String, Value>, key: &str, least: u64) -> Option<u64> {
    integer(object, key)?.filter(|value| *value >= least)
}

/// One that is a string; `Some(None)` if it is absent.
#[expect(clippy::option_option, reason = "it may be wrong, absent or there")]
fn string<'a>(object: &'a Map<String, Value>, key: &str) -> Option<Option<&'a str>> {
    match object.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(value) => Some(Some(value.as_str()?)),
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Ids are made of keys only, so the tests know one.
fn key_id(bytes: [u8; 8]) -> KeyId {
    let id = Key::default().id();
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(id.to_string(), digits.concat(), "the key of no test");
    id
}

/// What does not fit the crate's types is more than any limit that they stand for.
fn at_most(value: u64, most: u32) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX).min(most)
}

/// The table of PROTOCOL.md §4.6.
fn extensions(ext: &Value, kind: FrameKind) -> Option<Extensions> {
    let ext = ext.as_object()?;
    let mut known = Extensions::default();
    if let Some(limits) = ext.get("limits") {
        let content = integer(limits.as_object()?, "content")?.unwrap_or(10_485_760);
        if content < 1 {
            return None;
        }
        known.max_content = Some(at_most(content, 10_485_760));
    }
    if let Some(coalesce) = ext.get("coalesce") {
        coalesce.as_object()?;
        known.coalesce = true;
    }
    if let Some(ping) = ext.get("ping") {
        let timeout = required(ping.as_object()?, "timeout", 3_000)?;
        known.ping = Some(at_most(timeout, u32::MAX));
    }
    if let Some(chunk) = ext.get("chunk") {
        let chunk = chunk.as_object()?;
        let size = required(chunk, "size", 1_024)?.min(65_536);
        let window = required(chunk, "window", size.max(4_096))?;
        let transfers = required(chunk, "transfers", 1)?;
        let message = integer(chunk, "message")?;
        if message == Some(0) {
            return None;
        }
        known.chunk = Some(ChunkLimits {
            size: at_most(size, u32::MAX),
            window: at_most(window, u32::MAX),
            transfers: at_most(transfers, u32::MAX),
            message,
        });
    }
    if let Some(sec) = ext.get("sec") {
        let sec = sec.as_object()?;
        let key = match string(sec, "key")? {
            Some(key) => Some(key_id(hex(key)?)),
            None if kind == FrameKind::SessionAck => return None,
            None => None,
        };
        let nonce = hex(string(sec, "nonce")??)?;
        known.sec = Some(SecHello { nonce, key });
    }
    Some(known)
}

/// The table of PROTOCOL.md §5.5.
fn chunk(value: &Value) -> Option<Chunk> {
    let chunk = value.as_object()?;
    let id = required(chunk, "id", 0)?;
    let op = match string(chunk, "op")?? {
        "begin" => {
            let name = string(chunk, "name")?;
            if name.is_some_and(|name| name.is_empty() || name.len() > 1_024) {
                return None;
            }
            ChunkOp::Begin {
                total: integer(chunk, "total")?,
                name: name.map(Into::into),
            }
        }
        "data" => ChunkOp::Data {
            offset: required(chunk, "offset", 0)?,
        },
        "end" => ChunkOp::End {
            offset: required(chunk, "offset", 0)?,
        },
        "window" => ChunkOp::Window {
            bytes: required(chunk, "bytes", 1)?,
        },
        "done" => ChunkOp::Done,
        "abort" => ChunkOp::Abort,
        _ => return None,
    };
    Some(Chunk { id, op })
}

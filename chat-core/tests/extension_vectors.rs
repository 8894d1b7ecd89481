//! The test vectors of `ext` and `chunk`: `vectors/extensions.json`.

mod support;

use chat_core::Key;
use chat_core::frame::{
    Chunk, ChunkLimits, ChunkOp, Decoder, Encoder, Extensions, Extra, Frame, FrameError, FrameKind,
    HeaderFault, Limits,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use support::{Decoded, decode};

const VECTORS: &str = include_str!("vectors/extensions.json");

struct Case {
    name: String,
    key: Key,
    bytes: Vec<u8>,
    /// The frame, or none where the JSON header is wrong.
    expected: Option<Frame>,
}

impl Case {
    fn all() -> Vec<Self> {
        let vectors: Value = serde_json::from_str(VECTORS).expect("the vectors are JSON");
        let cases = vectors["cases"].as_array().expect("the cases are a list");
        cases.iter().map(Self::parse).collect()
    }

    fn parse(case: &Value) -> Self {
        let expected = case.get("message").map(frame);
        if expected.is_none() {
            assert_eq!(case["error"], "header_json", "{}", case["name"]);
        }
        let bytes = match case.get("frame") {
            Some(hex) => unhex(hex),
            None => [
                &unhex(&case["fixed_header"])[..],
                text(&case["header_json"]).as_bytes(),
                &expected
                    .as_ref()
                    .expect("only good frames are shortened")
                    .content,
            ]
            .concat(),
        };
        if let Some(digest) = case.get("frame_sha256") {
            assert_eq!(
                Sha256::digest(&bytes)[..],
                unhex(digest),
                "{}",
                case["name"]
            );
        }
        Self {
            name: text(&case["name"]).to_owned(),
            key: Key::new(&unhex(&case["key"])),
            bytes,
            expected,
        }
    }

    fn decode<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
        decode(
            &mut Decoder::new(self.key.clone(), Limits::default()),
            pieces,
        )
    }

    /// What every way to read the bytes must come to.
    fn outcome(&self) -> Decoded {
        let frames: Vec<Frame> = self.expected.iter().cloned().collect();
        let end = match self.expected {
            Some(_) => Ok(0),
            None => Err(FrameError::HeaderJson(match &self.name[..] {
                "bad_ext_duplicate_member" => HeaderFault::DuplicateKey,
                name if name.starts_with("bad_ext_") => HeaderFault::BadExtension,
                name if name.starts_with("bad_chunk_") => HeaderFault::BadChunk,
                other => panic!("which fault has {other}?"),
            })),
        };
        Decoded { frames, end }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn unhex(hex: &Value) -> Vec<u8> {
    let hex = text(hex);
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

fn small(value: &Value) -> u32 {
    u32::try_from(number(value)).expect("a limit of 32 bits")
}

fn frame(message: &Value) -> Frame {
    let content = match message.get("content_repeat") {
        Some(repeat) => {
            let count = usize::try_from(number(&repeat["count"])).expect("a length");
            vec![u8::try_from(number(&repeat["byte"])).expect("a byte"); count]
        }
        None => unhex(&message["content"]),
    };
    let kind = text(&message["type"]);
    let mut kinds = FrameKind::ALL.into_iter();
    Frame {
        kind: kinds.find(|known| known.as_str() == kind).expect("a kind"),
        content_type: text(&message["content_type"]).into(),
        session: Some(text(&message["session_id"]).parse().expect("a UUID")),
        content: content.into(),
        extra: match (message.get("ext"), message.get("chunk")) {
            (Some(ext), None) => Extra::Extensions(extensions(ext)),
            (None, Some(value)) => Extra::Chunk(chunk(value)),
            (None, None) => Extra::None,
            (Some(_), Some(_)) => panic!("both: {message}"),
        },
    }
}

fn extensions(ext: &Value) -> Extensions {
    let mut extensions = Extensions::default();
    extensions.max_content = ext.get("limits").map(|it| small(&it["content"]));
    extensions.coalesce = ext.get("coalesce").is_some();
    extensions.ping = ext.get("ping").map(|it| small(&it["timeout"]));
    extensions.chunk = ext.get("chunk").map(|it| ChunkLimits {
        size: small(&it["size"]),
        window: small(&it["window"]),
        transfers: small(&it["transfers"]),
        message: it.get("message").map(number),
    });
    extensions.trust = ext.get("trust").is_some();
    extensions
}

fn chunk(chunk: &Value) -> Chunk {
    let op = match text(&chunk["op"]) {
        "begin" => ChunkOp::Begin {
            total: chunk.get("total").map(number),
            name: chunk.get("name").map(|name| text(name).into()),
        },
        "data" => ChunkOp::Data {
            offset: number(&chunk["offset"]),
        },
        "end" => ChunkOp::End {
            offset: number(&chunk["offset"]),
        },
        "window" => ChunkOp::Window {
            bytes: number(&chunk["bytes"]),
        },
        "done" => ChunkOp::Done,
        "abort" => ChunkOp::Abort,
        other => panic!("no op {other}"),
    };
    Chunk {
        id: number(&chunk["id"]),
        op,
    }
}

#[test]
fn reads_every_vector_whole() {
    for case in Case::all() {
        assert_eq!(
            case.decode([&case.bytes[..]]),
            case.outcome(),
            "{}",
            case.name
        );
    }
}

#[test]
fn reads_every_vector_byte_by_byte() {
    for case in Case::all() {
        let decoded = case.decode(case.bytes.chunks(1));
        assert_eq!(decoded, case.outcome(), "{}", case.name);
    }
}

#[test]
fn refuses_no_vector_before_its_last_byte() {
    // The JSON header must not be looked at before the frame has been found authentic.
    for case in Case::all() {
        let len = case.bytes.len() - 1;
        let decoded = case.decode(case.bytes[..len].chunks(1));
        assert_eq!(
            decoded,
            Decoded {
                frames: vec![],
                end: Ok(len)
            },
            "{}",
            case.name
        );
    }
}

#[test]
fn writes_every_canonical_vector_byte_for_byte() {
    let mut written = 0;
    for case in Case::all()
        .iter()
        .filter(|case| !case.name.starts_with("json_"))
    {
        let Some(frame) = &case.expected else {
            continue;
        };
        let encoded = Encoder::new(case.key.clone()).encode(frame, 0);
        let encoded = encoded.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert!(encoded.to_vec() == case.bytes, "{}: other bytes", case.name);
        written += 1;
    }
    assert!(written >= 15, "only {written} are canonical");
}

#[test]
fn writes_them_one_after_the_other_as_it_writes_each_alone() {
    // Headers that repeat are kept by both sides: what one frame says must not stick to the next.
    let cases = Case::all();
    let good: Vec<&Frame> = cases
        .iter()
        .filter_map(|case| case.expected.as_ref())
        .collect();
    let mut writer = Encoder::new(Key::default());
    let mut bytes = Vec::new();
    for frame in good.iter().flat_map(|frame| [frame, frame]) {
        let encoded = writer.encode(frame, 0).expect("it fits").to_vec();
        assert_eq!(encoded, support::encode(frame));
        bytes.extend(encoded);
    }
    let decoded = support::whole(&bytes);
    let twice = good.iter().flat_map(|frame| [*frame, *frame]);
    assert!(decoded.frames.iter().eq(twice));
}

#[test]
fn every_op_and_every_extension_has_a_vector() {
    let text = VECTORS;
    for op in ["begin", "data", "end", "window", "done", "abort"] {
        assert!(text.contains(&format!("\"op\": \"{op}\"")), "{op}");
    }
    let cases = Case::all();
    assert!(cases.len() >= 30);
    let has = |test: fn(&Extensions) -> bool| {
        let mut frames = cases.iter().filter_map(|case| case.expected.as_ref());
        frames.any(|frame| matches!(&frame.extra, Extra::Extensions(ext) if test(ext)))
    };
    assert!(has(|ext| ext.max_content.is_some()));
    assert!(has(|ext| ext.coalesce));
    assert!(has(|ext| ext.ping.is_some()));
    assert!(has(|ext| ext.chunk.is_some()));
    assert!(has(|ext| ext.trust));
}

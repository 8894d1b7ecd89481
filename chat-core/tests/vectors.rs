//! The test vectors: `vectors/frames.json`, and those in PROTOCOL.md §10.

mod support;

use bytes::Bytes;
use chat_core::frame::{
    Decoder, Encoder, Extra, Frame, FrameError, FrameKind, HeaderFault, Limits, MAGIC, MAX_CONTENT,
    MAX_HEADER,
};
use chat_core::{ContentType, Key};
use serde_json::Value;
use sha2::{Digest, Sha256};

use support::{Decoded, decode, header_json};

const PROTOCOL: &str = include_str!("../PROTOCOL.md");
const VECTORS: &str = include_str!("vectors/frames.json");

/// One case of `frames.json`.
struct Case {
    name: String,
    key: Key,
    /// The frame, as far as the case has it.
    bytes: Vec<u8>,
    /// What a receiver must make of it: the frame, or the error's name.
    expected: Result<Frame, String>,
}

impl Case {
    fn all() -> Vec<Self> {
        let vectors: Value = serde_json::from_str(VECTORS).expect("the vectors are JSON");
        let cases = vectors["cases"].as_array().expect("the cases are a list");
        cases.iter().map(Self::parse).collect()
    }

    fn parse(case: &Value) -> Self {
        let expected = match case.get("message") {
            Some(message) => Ok(parse_message(message)),
            None => Err(text(&case["error"]).to_owned()),
        };
        let bytes = if let Some(frame) = case.get("frame") {
            unhex(text(frame))
        } else {
            let frame = expected.as_ref().expect("only good frames are shortened");
            [
                &unhex(text(&case["fixed_header"]))[..],
                text(&case["header_json"]).as_bytes(),
                &frame.content,
            ]
            .concat()
        };
        if let Some(digest) = case.get("frame_sha256") {
            let digest = unhex(text(digest));
            assert_eq!(Sha256::digest(&bytes)[..], digest, "{}", case["name"]);
        }
        Self {
            name: text(&case["name"]).to_owned(),
            key: Key::new(&unhex(text(&case["key"]))),
            bytes,
            expected,
        }
    }

    /// Whether the JSON header is as a sender of ours writes it.
    fn is_canonical(&self) -> bool {
        self.expected.is_ok() && !self.name.starts_with("json_")
    }

    fn decode<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
        let mut decoder = Decoder::new(self.key.clone(), Limits::default());
        decode(&mut decoder, pieces)
    }

    /// What every way to read the bytes must come to.
    fn outcome(&self) -> Decoded {
        match &self.expected {
            Ok(frame) => Decoded {
                frames: vec![frame.clone()],
                end: Ok(0),
            },
            Err(name) => Decoded {
                frames: Vec::new(),
                end: match &name[..] {
                    "incomplete" => Ok(self.bytes.len()),
                    name => Err(self.error(name)),
                },
            },
        }
    }

    /// The error that a case names, with what the frame's bytes say about it.
    fn error(&self, name: &str) -> FrameError {
        let bytes = &self.bytes;
        match name {
            "bad_magic" => {
                let offset = first_difference(bytes, &MAGIC);
                let found = bytes[offset];
                FrameError::BadMagic { offset, found }
            }
            "unsupported_version" => FrameError::UnsupportedVersion,
            "unsupported_frame_type" => FrameError::UnsupportedFrameType,
            "header_too_large" => FrameError::HeaderTooLarge {
                len: u32::from_be_bytes(bytes[12..16].try_into().expect("four bytes")),
                max: MAX_HEADER,
            },
            "content_too_large" => FrameError::ContentTooLarge {
                len: u64::from_be_bytes(bytes[20..28].try_into().expect("eight bytes")),
                max: MAX_CONTENT,
            },
            "empty_content" => FrameError::EmptyContent,
            "header_crc" => FrameError::HeaderCrc,
            "content_crc" => FrameError::ContentCrc,
            "hmac" => FrameError::Mac,
            "unknown_type" => FrameError::UnknownType,
            "header_json" => FrameError::HeaderJson(match &self.name[..] {
                "strict_leading_space" | "strict_trailing_newline" | "header_truncated_json" => {
                    HeaderFault::Border
                }
                "strict_duplicate_key" | "strict_duplicate_nested" => HeaderFault::DuplicateKey,
                "strict_nan" | "strict_infinity" | "header_not_json" => HeaderFault::Syntax,
                "strict_depth_9" => HeaderFault::TooDeep,
                "strict_33_keys" => HeaderFault::TooManyKeys,
                "header_type_missing" => HeaderFault::NoType,
                "header_content_type_missing" | "header_content_type_empty" => {
                    HeaderFault::NoContentType
                }
                other => panic!("which fault has {other}?"),
            }),
            other => panic!("unknown error {other} in {}", self.name),
        }
    }

    /// How many bytes prove the frame wrong (PROTOCOL.md §2.3).
    fn proof(&self, error: FrameError) -> usize {
        let bytes = &self.bytes;
        match error {
            FrameError::BadMagic { offset, .. } => offset + 1,
            FrameError::UnsupportedVersion => 8 + first_difference(&bytes[8..], &[0, 1]) + 1,
            FrameError::UnsupportedFrameType => 10 + first_difference(&bytes[10..], &[0, 0]) + 1,
            FrameError::HeaderTooLarge { .. }
            | FrameError::ContentTooLarge { .. }
            | FrameError::EmptyContent => 64,
            FrameError::HeaderJson(HeaderFault::Border) if bytes[64] != b'{' => 65,
            FrameError::HeaderCrc | FrameError::HeaderJson(HeaderFault::Border) => {
                64 + header_json(bytes).len()
            }
            // Proved by the last byte alone: the content's checks, and those that come after.
            _ => bytes.len(),
        }
    }
}

fn parse_message(message: &Value) -> Frame {
    let content = match message.get("content_repeat") {
        Some(repeat) => {
            let number = |key: &str| repeat[key].as_u64().expect("a number");
            let byte = u8::try_from(number("byte")).expect("a byte");
            vec![byte; usize::try_from(number("count")).expect("a length")]
        }
        None => unhex(text(&message["content"])),
    };
    let kind = text(&message["type"]);
    Frame {
        kind: kind_named(kind),
        content_type: text(&message["content_type"]).into(),
        session: message["session_id"]
            .as_str()
            .map(|id| id.parse().expect("a UUID")),
        content: content.into(),
        extra: Extra::None,
    }
}

fn kind_named(name: &str) -> FrameKind {
    FrameKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == name)
        .unwrap_or_else(|| panic!("no kind {name}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "half a byte");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

fn first_difference(bytes: &[u8], right: &[u8]) -> usize {
    bytes
        .iter()
        .zip(right)
        .position(|(a, b)| a != b)
        .expect("something differs")
}

#[test]
fn reads_every_vector_whole() {
    for case in Case::all() {
        let decoded = case.decode([&case.bytes[..]]);
        assert_eq!(decoded, case.outcome(), "{}", case.name);
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
fn reads_every_small_vector_split_at_every_point() {
    for case in Case::all().iter().filter(|case| case.bytes.len() <= 4096) {
        let outcome = case.outcome();
        for at in 0..=case.bytes.len() {
            let (start, end) = case.bytes.split_at(at);
            let decoded = case.decode([start, end]);
            assert_eq!(decoded, outcome, "{} split at {at}", case.name);
        }
    }
}

#[test]
fn refuses_every_bad_vector_at_the_byte_that_proves_it_wrong() {
    let mut refused = 0;
    for case in Case::all() {
        let Err(error) = case.outcome().end else {
            continue;
        };
        refused += 1;
        let proof = case.proof(error);
        assert!(
            !matches!(
                error,
                FrameError::UnsupportedVersion | FrameError::UnsupportedFrameType
            ) || proof <= 12
        );
        let before = case.decode(case.bytes[..proof - 1].chunks(1));
        assert_eq!(before.end, Ok(proof - 1), "{}: one byte early", case.name);
        let at = case.decode(case.bytes[..proof].chunks(1));
        assert_eq!(at.end, Err(error), "{}", case.name);
    }
    assert!(refused > 30, "only {refused} vectors are refused");
}

#[test]
fn writes_every_canonical_vector_byte_for_byte() {
    for case in Case::all().iter().filter(|case| case.is_canonical()) {
        let frame = case.expected.as_ref().expect("a good frame");
        let encoded = Encoder::new(case.key.clone())
            .encode(frame, 0)
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(encoded.len(), case.bytes.len(), "{}", case.name);
        assert!(encoded.to_vec() == case.bytes, "{}: other bytes", case.name);
    }
}

#[test]
fn pads_as_the_padded_vector_is_padded() {
    let cases = Case::all();
    let case = cases
        .iter()
        .find(|case| case.name == "json_padded_to_1024")
        .expect("the vector exists");
    let frame = case.expected.as_ref().expect("a good frame");
    let encoded = Encoder::new(case.key.clone()).encode(frame, 1024);
    assert_eq!(encoded.expect("it fits").to_vec(), case.bytes);
}

#[test]
fn every_kind_of_frame_has_a_vector() {
    let cases = Case::all();
    for kind in FrameKind::ALL {
        assert!(
            cases
                .iter()
                .any(|case| case.expected.as_ref().is_ok_and(|frame| frame.kind == kind)),
            "no vector for {kind}"
        );
    }
}

/// The vectors of PROTOCOL.md §10: what the document calls each, and its frame.
fn documented() -> Vec<(String, Vec<u8>)> {
    let (_, section) = PROTOCOL
        .split_once("\n## 10. Test vectors\n")
        .expect("the section exists");
    // Those of `sec` have codes of another kind: see `sec_vectors`.
    let (section, _) = section
        .split_once("\n### 10.2 `sec`\n")
        .expect("the section has parts");
    let mut parts = section.split("```");
    let mut vectors = Vec::new();
    while let (Some(title), Some(block)) = (parts.next(), parts.next()) {
        let lines: Vec<&str> = block
            .strip_prefix("text\n")
            .expect("a block of text")
            .lines()
            .collect();
        let [first, second, json, content] = lines[..] else {
            panic!("not four lines: {block}");
        };
        let bytes = [unhex(first), unhex(second), json.into(), content.into()].concat();
        let title = title.lines().rfind(|line| !line.is_empty());
        vectors.push((title.expect("a title").to_owned(), bytes));
    }
    vectors
}

#[test]
fn documented_vectors_are_read_and_written_as_they_stand() {
    let vectors = documented();
    assert_eq!(vectors.len(), 5);
    for (title, bytes) in vectors {
        let Decoded { frames, end } = support::whole(&bytes);
        assert_eq!(end, Ok(0), "{title}");
        let [frame] = &frames[..] else {
            panic!("{title} is {} frames", frames.len());
        };
        let kind = frame.kind;
        assert!(title.starts_with(&format!("`{kind}`")), "{title} is {kind}");
        assert_eq!(support::encode(frame), bytes, "{title}");
    }
}

#[test]
fn documented_vectors_are_in_the_file_too() {
    let cases = Case::all();
    for (title, bytes) in documented() {
        assert!(cases.iter().any(|case| case.bytes == bytes), "{title}");
    }
    let count = format!("\n{} frames, those above among them,", cases.len());
    assert!(
        PROTOCOL.contains(&count),
        "the file has {} frames",
        cases.len()
    );
}

#[test]
fn the_documented_check_value_is_that_of_the_checksum() {
    let check = crc32fast::hash(b"123456789");
    assert!(PROTOCOL.contains(&format!("`123456789` is `{check:08X}`")));
}

#[test]
fn the_documented_header_is_as_it_is_written() {
    let message = Frame {
        content_type: ContentType::TEXT,
        ..support::frame(FrameKind::Message, Bytes::from_static(b"Hello, World!"))
    };
    let bytes = support::encode(&message);
    let json = core::str::from_utf8(header_json(&bytes)).expect("ASCII");
    assert!(PROTOCOL.contains(&format!("```json\n{json}\n```")));
}

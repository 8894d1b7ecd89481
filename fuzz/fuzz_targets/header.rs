//! The JSON header, from arbitrary bytes and from arbitrary documents: what is taken is JSON and says the
//! same to another parser; what another parser, and a scan for the limits of PROTOCOL.md §3, find right
//! is taken; and what is refused is refused for what is wrong with it.
#![no_main]

use arbitrary::Arbitrary;
use chat_core::Key;
use chat_core::frame::{
    Decoder, Extra, Frame, FrameError, FrameKind, HeaderFault, Limits, SecHello,
};
use chat_fuzz::json::{Json, Style};
use chat_fuzz::oracle::{self, Sec, Shape};
use chat_fuzz::peer::header;
use chat_fuzz::sec::unhex;
use chat_fuzz::wire::{KEY, Signer};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes(Vec<u8>),
    Document(Json, Style),
    /// A header with something more in it, and one byte changed, perhaps.
    Right {
        kind: u8,
        session: bool,
        more: Vec<(String, Json)>,
        known: Option<(bool, Json)>,
        change: Option<(u16, u8)>,
        style: Style,
    },
}

impl Input {
    fn json(self) -> Vec<u8> {
        let (kind, session, more, known, change, style) = match self {
            Self::Bytes(bytes) => return bytes,
            Self::Document(json, style) => return json.to_text(style).into_bytes(),
            Self::Right {
                kind,
                session,
                more,
                known,
                change,
                style,
            } => (kind, session, more, known, change, style),
        };
        let kind = FrameKind::ALL[usize::from(kind) % FrameKind::ALL.len()];
        let session = session.then_some(chat_fuzz::peer::SESSION);
        let mut extra = String::new();
        if let Some((is_ext, value)) = known {
            let key = if is_ext { "ext" } else { "chunk" };
            extra.push_str(&format!(", \"{key}\": {}", value.to_text(style)));
        }
        for (key, value) in more {
            let key = serde_json::to_string(&key).expect("a string is JSON");
            extra.push_str(&format!(", {key}: {}", value.to_text(style)));
        }
        let mut json = header(kind, "text/plain", session, &extra).into_bytes();
        if let Some((at, byte)) = change {
            let at = usize::from(at) % json.len();
            json[at] = byte;
        }
        json
    }
}

fn decode(json: &[u8]) -> Result<Frame, FrameError> {
    let raw = Signer::Shared(KEY).pack(json, b"content");
    let mut decoder = Decoder::new(Key::default(), Limits::default());
    let mut rest = &raw[..];
    let frame = decoder.decode(&mut rest)?;
    assert!(rest.is_empty());
    Ok(frame.expect("it is whole"))
}

fn sec(hello: SecHello) -> Sec {
    Sec {
        nonce: hello.nonce.to_vec(),
        key: hello
            .key
            .map(|key| unhex(&key.to_string()).expect("digits")),
    }
}

fuzz_target!(|input: Input| {
    let json = input.json();
    if json.len() > 65_536 {
        return;
    }
    let expected = oracle::read(&json);
    match (decode(&json), expected) {
        (Ok(frame), Some(expected)) => {
            assert_eq!(frame.kind, expected.kind);
            assert_eq!(frame.content_type.as_str(), expected.content_type);
            assert_eq!(frame.session, expected.session);
            let mut extra = frame.extra;
            let mut hello = None;
            if let Extra::Extensions(extensions) = &mut extra {
                hello = extensions.sec.take();
            }
            assert_eq!(extra, expected.extra);
            assert_eq!(hello.map(sec), expected.sec);
        }
        (Err(error), None) => {
            let is_json = serde_json::from_slice::<serde_json::Value>(&json).is_ok();
            if !is_json {
                return;
            }
            let shape = Shape::of(&json);
            match error {
                FrameError::HeaderJson(HeaderFault::DuplicateKey) => assert!(shape.twice),
                FrameError::HeaderJson(HeaderFault::TooDeep) => assert!(shape.depth > 8),
                FrameError::HeaderJson(HeaderFault::TooManyKeys) => assert!(shape.keys > 32),
                FrameError::HeaderJson(
                    HeaderFault::NoType
                    | HeaderFault::NoContentType
                    | HeaderFault::BadSession
                    | HeaderFault::BadExtension
                    | HeaderFault::BadChunk,
                )
                | FrameError::UnknownType => assert!(shape.is_fine()),
                FrameError::HeaderJson(HeaderFault::Syntax | HeaderFault::Border) => {}
                other => panic!("{other:?}"),
            }
        }
        (Ok(frame), None) => panic!("taken, and should not be: {frame:?}"),
        (Err(error), Some(expected)) => panic!("{error:?}, but it says {expected:?}"),
    }
});

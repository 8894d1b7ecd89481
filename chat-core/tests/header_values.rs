//! What the three keys of the JSON header may hold (PROTOCOL.md §3).

mod support;

use chat_core::Uuid;
use chat_core::frame::{Frame, FrameError, FrameKind, HeaderFault};

use support::json::{accepts, read, refuses, with};
use support::{SESSION, encode, frame, header_json, whole};

#[test]
fn refuses_values_of_the_wrong_type() {
    for other in ["1", "1.5", "true", "[]", "{}", "[\"message\"]"] {
        refuses(
            format!(r#"{{"type": {other}, "content_type": "a/b"}}"#),
            HeaderFault::Syntax,
        );
        refuses(
            format!(r#"{{"type": "message", "content_type": {other}}}"#),
            HeaderFault::Syntax,
        );
        refuses(
            with(&format!(r#""session_id": {other}"#)),
            HeaderFault::Syntax,
        );
    }
    refuses(
        r#"{"type": null, "content_type": "a/b"}"#,
        HeaderFault::Syntax,
    );
    refuses(
        r#"{"type": "message", "content_type": null}"#,
        HeaderFault::Syntax,
    );
}

#[test]
fn refuses_what_is_missing_or_empty() {
    refuses(r#"{"content_type": "a/b"}"#, HeaderFault::NoType);
    refuses(r#"{"type": "message"}"#, HeaderFault::NoContentType);
    refuses(
        r#"{"type": "message", "content_type": ""}"#,
        HeaderFault::NoContentType,
    );
}

#[test]
fn refuses_every_type_that_is_not_listed() {
    for other in [
        "",
        "Message",
        "message ",
        "mess\\u0000age",
        "ping",
        "MESSAGE",
    ] {
        let json = format!(r#"{{"type": "{other}", "content_type": "a/b"}}"#);
        assert_eq!(read(json), Err(FrameError::UnknownType), "{other}");
    }
}

#[test]
fn takes_every_type_however_it_is_escaped() {
    for kind in FrameKind::ALL {
        let escape = |c| format!("\\u{:04x}", u32::from(c));
        let escaped = kind
            .as_str()
            .chars()
            .map(escape)
            .collect::<Vec<_>>()
            .concat();
        let frame = accepts(format!(r#"{{"type": "{escaped}", "content_type": "a/b"}}"#));
        assert_eq!(frame.kind, kind);
    }
}

#[test]
fn takes_a_uuid_only_in_its_hyphenated_form() {
    let session = |id: &str| with(&format!(r#""session_id": "{id}""#));
    let id = SESSION.hyphenated().to_string();
    for right in [id.clone(), id.to_uppercase(), id.replace('b', "B")] {
        assert_eq!(accepts(session(&right)).session, Some(SESSION), "{right}");
    }
    let nil = Uuid::nil().hyphenated().to_string();
    assert_eq!(accepts(session(&nil)).session, Some(Uuid::nil()));
    for wrong in [
        String::new(),
        "null".to_owned(),
        SESSION.simple().to_string(),
        SESSION.braced().to_string(),
        SESSION.urn().to_string(),
        format!(" {id}"),
        format!("{id} "),
        format!("{id}0"),
        id[1..].to_owned(),
        id.replace('-', "_"),
        id.replace('b', "g"),
        id.replacen("38b4e652-", "38b4-e652", 1),
        id.replace('3', "\u{ff13}"),
    ] {
        refuses(session(&wrong), HeaderFault::BadSession);
    }
}

#[test]
fn a_session_id_may_be_null_or_absent() {
    assert_eq!(accepts(with(r#""session_id": null"#)).session, None);
    assert_eq!(accepts(with(r#""a": 1"#)).session, None);
}

#[test]
fn takes_a_content_type_as_long_as_the_header_has_room() {
    let long = "x".repeat(60_000);
    let read = accepts(format!(
        r#"{{"type": "message", "content_type": "{long}"}}"#
    ));
    assert_eq!(read.content_type.as_str(), long);
    assert_eq!(whole(&encode(&read)).frames, [read]);
}

#[test]
fn writes_every_character_so_that_it_is_read_again() {
    let every: Vec<char> = ('\0'..=char::MAX).collect();
    for part in every.chunks(4000) {
        let content_type = part.iter().collect::<String>();
        let frame = Frame {
            content_type: content_type.into(),
            ..frame(FrameKind::Message, "payload")
        };
        assert_eq!(whole(&encode(&frame)).frames, [frame]);
    }
}

#[test]
fn every_character_is_written_as_the_document_says() {
    let escaped = |character: char| match character {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        ' '..='~' => character.to_string(),
        '\u{1f30d}' => "\\ud83c\\udf0d".to_owned(),
        _ => format!("\\u{:04x}", u32::from(character)),
    };
    let others = ['\u{e9}', '\u{20ac}', '\u{ffff}', '\u{1f30d}'];
    for character in ('\0'..='\u{ff}').chain(others) {
        let mut message = frame(FrameKind::Message, "hello");
        message.content_type = format!("a{character}b").into();
        let bytes = encode(&message);
        let start = format!(
            "{{\"type\": \"message\", \"content_type\": \"a{}b\", ",
            escaped(character)
        );
        assert!(
            header_json(&bytes).starts_with(start.as_bytes()),
            "{character:?}"
        );
        assert_eq!(whole(&bytes).frames, [message]);
    }
}

//! How strict the JSON of a header is (PROTOCOL.md §3).

mod support;

use chat_core::frame::{FrameError, HeaderFault, MAX_HEADER};
use proptest::prelude::*;
use serde_json::Value;

use support::json::{accepts, read, refuses, with};
use support::property;

/// `levels` arrays, one in the other.
fn arrays(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

/// `levels` objects, one in the other.
fn objects(levels: usize) -> String {
    "{\"x\":".repeat(levels - 1) + "{}" + &"}".repeat(levels - 1)
}

/// `count` keys, comma-separated.
fn keys(count: usize) -> String {
    let keys: Vec<String> = (0..count).map(|n| format!("\"k{n}\": {n}")).collect();
    keys.join(", ")
}

#[test]
fn refuses_a_key_that_appears_twice_at_any_depth_and_however_it_is_written() {
    for twice in [
        r#""type": "message""#,
        r#""content_type": "text/plain""#,
        r#""\u0074ype": "message""#,
        r#""session_id": null, "session_id": null"#,
        r#""session_id": null, "session\u005fid": null"#,
        r#""a": 1, "a": 1"#,
        r#""a": 1, "\u0061": 1"#,
        r#""\u00e9": 1, "é": 1"#,
        r#""\ud83d\ude00": 1, "😀": 1"#,
        r#""": 1, "": 1"#,
        r#""a": {"b": 1, "b": 2}"#,
        r#""a": [[{"b": 1, "c": 1, "\u0062": 2}]]"#,
    ] {
        refuses(with(twice), HeaderFault::DuplicateKey);
    }
}

#[test]
fn takes_the_same_key_in_different_objects() {
    accepts(with(
        r#""type ": 1, "Type": 1, "a": {"type": {"type": 1}}, "b": [{"a": 1}, {"a": 1}]"#,
    ));
}

#[test]
fn takes_eight_levels_and_refuses_nine() {
    // The header object is the first.
    accepts(with(&format!(r#""a": {}"#, arrays(7))));
    accepts(with(&format!(r#""a": {}"#, objects(7))));
    accepts(with(&format!(r#""a": [{{"x": [{}]}}]"#, objects(4))));
    refuses(
        with(&format!(r#""a": {}"#, arrays(8))),
        HeaderFault::TooDeep,
    );
    refuses(
        with(&format!(r#""a": {}"#, objects(8))),
        HeaderFault::TooDeep,
    );
    let mixed = format!(r#""a": [{{"x": [{}]}}]"#, objects(5));
    refuses(with(&mixed), HeaderFault::TooDeep);
}

#[test]
fn deep_nesting_is_refused_before_it_costs_a_stack() {
    let deepest = MAX_HEADER as usize / 2 - 100;
    refuses(
        with(&format!(r#""a": {}"#, arrays(deepest))),
        HeaderFault::TooDeep,
    );
    let unclosed = "[".repeat(2 * deepest);
    refuses(with(&format!(r#""a": {unclosed}"#)), HeaderFault::TooDeep);
}

#[test]
fn takes_32_keys_in_all_and_refuses_33() {
    accepts(with(&keys(30)));
    refuses(with(&keys(31)), HeaderFault::TooManyKeys);
}

#[test]
fn nested_keys_count() {
    accepts(with(&format!(r#""a": {{{}}}"#, keys(29))));
    refuses(
        with(&format!(r#""a": {{{}}}"#, keys(30))),
        HeaderFault::TooManyKeys,
    );
    let spread = |last| format!(r#""a": [{{{}}}, {{{}}}]"#, keys(14), keys(last));
    accepts(with(&spread(15)));
    refuses(with(&spread(16)), HeaderFault::TooManyKeys);
}

#[test]
fn the_known_keys_count_too_wherever_they_stand() {
    let first = format!(
        "{{{}, \"type\": \"message\", \"content_type\": \"a/b\"}}",
        keys(30)
    );
    accepts(first);
    let first = format!(
        "{{{}, \"type\": \"message\", \"content_type\": \"a/b\"}}",
        keys(31)
    );
    refuses(first, HeaderFault::TooManyKeys);
}

#[test]
fn refuses_lone_surrogates_and_takes_pairs() {
    for lone in [
        r"\ud83d",
        r"\ude00",
        r"\ud83d\ud83d",
        r"\ude00\ud83d",
        r"\ud83dx",
        r"\uD800\n",
    ] {
        refuses(with(&format!(r#""a": "{lone}""#)), HeaderFault::Syntax);
        refuses(with(&format!(r#""{lone}": 1"#)), HeaderFault::Syntax);
        refuses(
            with(&format!(r#""a": [{{"b": "{lone}"}}]"#)),
            HeaderFault::Syntax,
        );
        let json = format!(r#"{{"type": "message", "content_type": "{lone}"}}"#);
        refuses(json, HeaderFault::Syntax);
    }
    let frame = accepts(r#"{"type": "message", "content_type": "\ud83d\uDE00"}"#);
    assert_eq!(frame.content_type.as_str(), "😀");
}

#[test]
fn refuses_what_is_not_utf_8() {
    for bad in [
        &b"\xff"[..],
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf4\x90\x80\x80",
    ] {
        let inside = |start: &str, end: &str| [start.as_bytes(), bad, end.as_bytes()].concat();
        let start = r#"{"type": "message", "content_type": "text/plain", "#;
        refuses(
            inside(&format!("{start}\"a\": \""), "\"}"),
            HeaderFault::Syntax,
        );
        refuses(inside(&format!("{start}\""), "\": 1}"), HeaderFault::Syntax);
        refuses(inside(start, "}"), HeaderFault::Syntax);
    }
}

#[test]
fn takes_only_numbers_that_json_has_and_a_double_can_hold() {
    for number in [
        "0",
        "-0",
        "1e308",
        "-1.7976931348623157e308",
        "1E+2",
        "1e-400",
        "0.0e0",
    ] {
        accepts(with(&format!(r#""n": {number}"#)));
    }
    accepts(with(&format!(r#""n": {}"#, "9".repeat(308))));
    let too_long = "9".repeat(400);
    for number in [
        "1e309",
        "-1e309",
        "1e99999999999",
        "NaN",
        "Infinity",
        "-Infinity",
        "+1",
        "01",
        ".5",
        "5.",
        "0x10",
        "1_000",
        "1e",
        "--1",
        "inf",
        &too_long,
    ] {
        refuses(with(&format!(r#""n": {number}"#)), HeaderFault::Syntax);
        refuses(
            with(&format!(r#""a": [{{"n": {number}}}]"#)),
            HeaderFault::Syntax,
        );
    }
}

#[test]
fn takes_nothing_but_json() {
    for bad in [
        r#""a": 1,"#,
        r#""a""#,
        r#""a":"#,
        r#""a": 1 "b": 2"#,
        r#""a"; 1"#,
        r"'a': 1",
        r"a: 1",
        r#""a": True"#,
        r#""a": undefined"#,
        r#""a": /* */ 1"#,
        r#""a": "\x41""#,
        r#""a": "\u12""#,
        r#""a": [1, 2,]"#,
        r#""a": [1 2]"#,
        r#""a": [1}"#,
        r#""a": (1)"#,
        "\"a\": \"tab\there\"",
        "\"a\": \"line\nbreak\"",
        "\"a\": \"nul\0\"",
        "\"a\":\u{a0}1",
        "\"a\":\u{b}1",
        "\u{feff}\"a\": 1",
    ] {
        refuses(with(bad), HeaderFault::Syntax);
    }
    refuses("{}}", HeaderFault::Syntax);
    refuses(with("\"a\": 1") + "{}", HeaderFault::Syntax);
    refuses(
        with("\"a\": 1") + " " + &with("\"a\": 1"),
        HeaderFault::Syntax,
    );
}

#[test]
fn takes_white_space_wherever_json_allows_it() {
    let json =
        "{\t\"type\"\r\n:\n \"message\" ,\"content_type\"\t:\"a/b\"\n,\"a\" : [ 1\t, { } ]\r\n }";
    assert_eq!(accepts(json).content_type.as_str(), "a/b");
}

#[test]
fn begins_and_ends_with_its_braces() {
    let json = with("\"a\": 1");
    for space in [" ", "\n", "\t", "\0", "\u{feff}"] {
        refuses(format!("{space}{json}"), HeaderFault::Border);
        refuses(format!("{json}{space}"), HeaderFault::Border);
    }
    refuses("[]", HeaderFault::Border);
    refuses("\"{}\"", HeaderFault::Border);
}

/// How many levels a value has, and how many keys.
fn measure(value: &Value) -> (usize, usize) {
    let (levels, keys) = match value {
        Value::Array(items) => (items.iter().collect::<Vec<_>>(), 0),
        Value::Object(map) => (map.values().collect(), map.len()),
        _ => return (0, 0),
    };
    let inner = levels.into_iter().map(measure);
    inner.fold((1, keys), |(depth, count), (levels, keys)| {
        (depth.max(levels + 1), count + keys)
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(9, 60, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(property(512))]

    #[test]
    fn unknown_keys_are_ignored_as_long_as_they_are_few_and_flat(value in any_value()) {
        let (levels, keys) = measure(&value);
        let read = read(with(&format!("\"a\": {value}")));
        // Around the value there are one level and three keys.
        if levels < 8 && keys <= 29 {
            prop_assert!(read.is_ok(), "{read:?}");
        } else {
            let error = read.unwrap_err();
            let too_much = [HeaderFault::TooDeep, HeaderFault::TooManyKeys];
            prop_assert!(too_much.map(FrameError::HeaderJson).contains(&error), "{error}");
        }
    }

    #[test]
    fn any_bytes_between_braces_are_read_or_refused(inside in any::<Vec<u8>>()) {
        let json = [b"{", &inside[..], b"}"].concat();
        prop_assert!(matches!(read(json), Ok(_) | Err(FrameError::HeaderJson(_))));
    }
}

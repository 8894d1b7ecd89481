//! The reader of frames against a plain model of PROTOCOL.md §2 and §3, on streams that are right, nearly
//! right and wrong: the same frames, and the same error.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use chat_core::Key;
use chat_core::frame::{Decoder, Limits};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

use support::model_frames::{self as model, Fault};
use support::{any_cuts, decode, pieces, property};

const KEY: &[u8] = b"a key";
/// So small that frames of a few bytes are around them.
const LIMITS: Limits = Limits {
    header: 600,
    content: 60,
};

/// Texts of values for each key, the usual ones first, some of the others right as well.
const TYPES: &[&str] = &[
    "\"message\"",
    "\"heartbeat\"",
    "\"error\"",
    "\"disconnect\"",
    "\"session_init\"",
    "\"session_init\"",
    "\"session_ack\"",
    "\"session_ack\"",
    "\"chunk\"",
    "\"chunk\"",
    "\"chunk\"",
    "\"chunk\"",
    "\"m\\u0065ssage\"",
    "\"Message\"",
    "\"\"",
    "null",
    "7",
];

const CONTENT_TYPES: &[&str] = &[
    "\"text/plain\"",
    "\"a/b\"",
    "\"a\\/b\"",
    "\"\\ud83d\\ude00\"",
    "\"\u{e9}\"",
    "\"\"",
    "\"\\ud83d\"",
    "null",
    "[]",
];

const SESSIONS: &[&str] = &[
    "\"38b4e652-e44d-47f2-b70d-9e260e271365\"",
    "null",
    "\"38B4E652-E44D-47F2-B70D-9E260E271365\"",
    "\"00000000-0000-0000-0000-000000000000\"",
    "\"38b4e652e44d47f2b70d9e260e271365\"",
    "\"{38b4e652-e44d-47f2-b70d-9e260e271365}\"",
    "\"38b4e652-e44d-47f2-b70d-9e260e27136\"",
    "\"38b4e652-e44d-47f2-b70d-9e260e27136g\"",
    "\"+8b4e652-e44d-47f2-b70d-9e260e271365\"",
    "3",
];

const EXTENSIONS: &[&str] = &[
    "{}",
    "{\"coalesce\":{}}",
    "{\"coalesce\": {\"x\": [1]}, \"other\": null}",
    "{\"coalesce\":null}",
    "{\"limits\":{}}",
    "{\"limits\":{\"content\":null}}",
    "{\"limits\":{\"content\":0}}",
    "{\"limits\":{\"content\":1}}",
    "{\"limits\":{\"content\":10485761}}",
    "{\"limits\":{\"content\":1.0}}",
    "{\"limits\":{\"content\":9007199254740991}}",
    "{\"limits\":{\"content\":9007199254740992}}",
    "{\"limits\":{\"content\":18446744073709551616}}",
    "{\"ping\":{}}",
    "{\"ping\":{\"timeout\":2999}}",
    "{\"ping\":{\"timeout\":3000}}",
    "{\"ping\":{\"timeout\":4294967296}}",
    "{\"ping\":{\"timeout\":\"3000\"}}",
    "{\"chunk\":{\"size\":1024,\"window\":4096,\"transfers\":1}}",
    "{\"chunk\":{\"size\":1023,\"window\":4096,\"transfers\":1}}",
    "{\"chunk\":{\"size\":1024,\"window\":4095,\"transfers\":1}}",
    "{\"chunk\":{\"size\":4097,\"window\":4096,\"transfers\":1}}",
    "{\"chunk\":{\"size\":70000,\"window\":65536,\"transfers\":1}}",
    "{\"chunk\":{\"size\":70000,\"window\":65535,\"transfers\":1}}",
    "{\"chunk\":{\"size\":1024,\"window\":4096,\"transfers\":0}}",
    "{\"chunk\":{\"size\":1024,\"window\":4096,\"transfers\":1,\"message\":0}}",
    "{\"chunk\":{\"size\":1024,\"window\":4096,\"transfers\":1,\"message\":1}}",
    "{\"chunk\":{\"size\":1024,\"window\":4096,\"transfers\":1,\"message\":null}}",
    "{\"sec\":{\"nonce\":\"0202020202020202020202020202020202020202020202020202020202020aAF\"}}",
    "{\"sec\":{\"nonce\":\"02020202020202020202020202020202020202020202020202020202020202\"}}",
    "{\"sec\":{\"nonce\":\"0202020202020202020202020202020202020202020202020202020202020aag\"}}",
    "{\"sec\":{\"nonce\":\"0202020202020202020202020202020202020202020202020202020202020aaa\",\"key\":\"2f1087bcB279180D\"}}",
    "{\"sec\":{\"nonce\":\"0202020202020202020202020202020202020202020202020202020202020aaa\",\"key\":\"0123456789abcde\"}}",
    "{\"sec\":{\"key\":\"2f1087bcb279180d\"}}",
    "[]",
    "null",
];

const CHUNKS: &[&str] = &[
    "{\"id\":1,\"op\":\"begin\"}",
    "{\"id\":1,\"op\":\"begin\",\"total\":0,\"name\":\"cat\"}",
    "{\"id\":1,\"op\":\"begin\",\"total\":null,\"name\":null}",
    "{\"id\":1,\"op\":\"begin\",\"name\":\"\"}",
    "{\"id\":1,\"op\":\"begin\",\"total\":-1}",
    "{\"id\":3,\"op\":\"data\",\"offset\":65536}",
    "{\"id\":3,\"op\":\"data\"}",
    "{\"id\":3,\"op\":\"data\",\"offset\":1e3}",
    "{\"id\":3,\"op\":\"end\",\"offset\":9007199254740991}",
    "{\"id\":3,\"op\":\"end\",\"offset\":9007199254740992}",
    "{\"id\":3,\"op\":\"window\",\"bytes\":1}",
    "{\"id\":3,\"op\":\"window\",\"bytes\":0}",
    "{\"id\":0,\"op\":\"done\",\"offset\":\"ignored\"}",
    "{\"id\":5,\"op\":\"abort\"}",
    "{\"id\":5,\"op\":\"pause\"}",
    "{\"id\":null,\"op\":\"abort\"}",
    "{\"op\":\"abort\"}",
    "{\"id\":5}",
    "null",
    "{}",
    "[]",
];

const OTHERS: &[&str] = &[
    "1",
    "-0",
    "1e308",
    "1e309",
    "01",
    "NaN",
    "true",
    "\"\\ud800\"",
    "\"\\uD83D\\uDE00\"",
    "{\"a\":1,\"a\":2}",
    "{\"a\":1,\"\\u0061\":2}",
    "[[[[[[[]]]]]]]",
    "[[[[[[[[]]]]]]]]",
    "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}",
    "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}",
    "[1,]",
];

/// A value of a key, mostly one of the usual ones.
fn any_value(key: &'static str) -> impl Strategy<Value = &'static str> {
    let (all, usual) = match key {
        "type" => (TYPES, 12),
        "content_type" => (CONTENT_TYPES, 5),
        "session_id" => (SESSIONS, 4),
        "ext" => (EXTENSIONS, 3),
        "chunk" => (CHUNKS, 3),
        _ => (OTHERS, 2),
    };
    prop_oneof![20 => select(&all[..usual]), 2 => select(all)]
}

/// The text of a JSON header.
fn any_header() -> impl Strategy<Value = Vec<u8>> {
    let member = |key: &'static str| (Just(key), any_value(key));
    let odd = prop_oneof![
        (
            select(vec!["x", "y", "Type", "type", "\\u0074ype"]),
            any_value("x")
        ),
        member("session_id"),
    ];
    (
        (member("type"), member("content_type"), member("session_id")),
        proptest::option::weighted(0.6, member("ext")),
        proptest::option::weighted(0.6, member("chunk")),
        prop_oneof![3 => Just(Vec::new()), 1 => vec(odd, 1..4)],
        // How many keys of no meaning, around the limit of 32 in all.
        prop_oneof![12 => Just(0_u8), 1 => 24_u8..32],
        select(vec!["", " ", "\n"]),
        any::<u8>(),
    )
        .prop_map(|((kind, ty, id), ext, chunk, odd, many, space, order)| {
            let mut members = vec![kind, ty, id];
            if order % 32 == 0 {
                members.remove(usize::from(order / 32) % 3);
            }
            members.extend(ext.into_iter().chain(chunk).chain(odd));
            if order % 2 == 0 {
                members.reverse();
            }
            let mut members: Vec<String> = members
                .into_iter()
                .map(|(key, value)| format!("\"{key}\"{space}:{value}"))
                .collect();
            members.extend((0..many).map(|n| format!("\"{n}\":0")));
            let comma = format!(",{space}");
            format!("{{{}{space}}}", members.join(&comma)).into_bytes()
        })
}

/// What happens to a frame.
#[derive(Clone, Debug)]
enum Damage {
    None,
    Flip(Index, u8),
    /// The JSON header gets another byte somewhere, and the frame is signed after that.
    Header(Index, u8),
    /// A length is another one, and so is where the checksums end.
    Length(bool, i8),
    /// Another key.
    Key,
    CutOff(Index),
    Empty,
    Insert(Index, u8),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        24 => Just(Damage::None),
        3 => (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        3 => (any::<Index>(), select(&b"{}[]\",:\\ x-\x00\xff"[..]))
            .prop_map(|(at, byte)| Damage::Header(at, byte)),
        2 => (any::<bool>(), any::<i8>()).prop_map(|(which, by)| Damage::Length(which, by)),
        1 => Just(Damage::Key),
        1 => Just(Damage::Empty),
        1 => any::<Index>().prop_map(Damage::CutOff),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
    ]
}

fn build(header: &[u8], content: &[u8], damage: &Damage) -> Vec<u8> {
    let mut frame = model::write(KEY, header, content);
    match damage {
        Damage::None => {}
        Damage::Flip(at, bit) => {
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
        }
        Damage::Header(at, byte) => {
            let mut header = header.to_vec();
            let at = at.index(header.len());
            header[at] = *byte;
            frame = model::write(KEY, &header, content);
        }
        Damage::Length(which, by) => {
            let field = if *which { 15 } else { 27 };
            frame[field] = frame[field].wrapping_add_signed(*by);
        }
        Damage::Key => frame = model::write(b"another", header, content),
        Damage::CutOff(at) => frame.truncate(at.index(frame.len())),
        Damage::Empty => frame = model::write(KEY, header, b""),
        Damage::Insert(at, byte) => frame.insert(at.index(frame.len()), *byte),
    }
    frame
}

/// Reads a stream in both ways; returns what the real one makes of it.
fn compare(stream: &[u8], pieces: &[&[u8]]) -> Result<(usize, Option<Fault>), TestCaseError> {
    let expected = model::read(stream, KEY, LIMITS.header as usize, LIMITS.content as usize);
    let mut decoder = Decoder::new(Key::new(KEY), LIMITS);
    let found = decode(&mut decoder, pieces.iter().copied());
    prop_assert_eq!(&found.frames, &expected.frames);
    let count = found.frames.len();
    match (found.end, expected.end) {
        (Ok(found), Ok(left)) => {
            prop_assert_eq!(found, left);
            Ok((count, None))
        }
        (Err(error), Err(faults)) => {
            let fault = Fault::of(error);
            prop_assert!(
                faults.contains(&fault),
                "{:?} is none of {:?}",
                error,
                faults
            );
            Ok((count, Some(fault)))
        }
        (found, expected) => {
            let text = format!("{found:?}, the model {expected:?}");
            Err(TestCaseError::fail(text))
        }
    }
}

#[test]
fn the_reader_and_the_model_agree_about_every_stream() {
    let counts = RefCell::new((0_u32, 0_u32, BTreeMap::<String, usize>::new()));
    let any_frame = (any_header(), vec(any::<u8>(), 1..=61), any_damage());
    let wanted = property(20_000);
    let result = TestRunner::new(wanted.clone()).run(
        &(vec(any_frame, 1..4), any_cuts()),
        |(parts, cuts)| {
            let parts = parts.iter();
            let stream: Vec<u8> = parts
                .flat_map(|(header, content, damage)| build(header, content, damage))
                .collect();
            let (whole, fault) = compare(&stream, &pieces(&stream, &cuts))?;
            let (cases, frames, seen) = &mut *counts.borrow_mut();
            *cases += 1;
            *frames += u32::try_from(whole).expect("few");
            *seen.entry(format!("{fault:?}")).or_default() += 1;
            Ok(())
        },
    );
    result.unwrap_or_else(|error| panic!("{error}"));
    let (cases, frames, seen) = counts.into_inner();
    println!("{cases} streams, {frames} frames, {seen:?}");
    assert!(
        cases >= wanted.cases && frames > wanted.cases / 3,
        "{frames}"
    );
    if wanted.cases < 20_000 {
        return;
    }
    // Every error of the document, and none, came up often enough to have been compared.
    assert_eq!(seen.len(), 12, "{seen:?}");
    assert!(seen.values().all(|count| *count >= 15), "{seen:?}");
}

/// Each error at the byte that proves it: after every byte of a stream both say the same.
#[test]
fn the_reader_and_the_model_agree_after_every_byte() {
    let counted = Cell::new(0_u32);
    let wanted = property(300);
    let any_frame = (any_header(), vec(any::<u8>(), 1..8), any_damage());
    let result = TestRunner::new(wanted.clone()).run(&any_frame, |(header, content, damage)| {
        let stream = build(&header, &content, &damage);
        for len in 0..=stream.len() {
            let start = &stream[..len];
            compare(start, &[start])?;
            counted.set(counted.get() + 1);
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    println!("{} beginnings", counted.get());
    assert!(counted.get() > 150 * wanted.cases, "{}", counted.get());
}

/// The model has a CRC-32 and an HMAC of its own: those that the documents print.
#[test]
fn the_checksums_of_the_model_are_those_of_the_documents() {
    // PROTOCOL.md §2.1.
    assert_eq!(model::crc(b"123456789"), 0xcbf4_3926);
    // RFC 4231, test cases 2 and 6.
    let code = model::hmac(b"Jefe", b"what do ya want for nothing?");
    assert_eq!(code[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
    assert_eq!(
        model::hmac(&[0xaa; 131], text)[..4],
        [0x60, 0xe4, 0x31, 0x59]
    );
}

//! Any JSON in `ext` and `chunk`: it is taken or refused, and a connection that refuses it ends as
//! any other does.

mod support;

use chat_core::frame::FrameKind;
use chat_core::{Config, Event, Receive, Role, State};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use support::chunk::{greeting_json, noise, with_streams};
use support::{SESSION, Solo, any_cuts, millis, pieces, property, raw_frame};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// JSON that may or may not make sense as an `ext` or a `chunk`.
fn any_json() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        select(vec![
            "0",
            "1",
            "2",
            "3",
            "1024",
            "4096",
            "65536",
            "9007199254740991",
            "1e300",
            "-1"
        ])
        .prop_map(String::from),
        any::<u64>().prop_map(|n| n.to_string()),
        any::<f32>()
            .prop_filter("JSON", |n| n.is_finite())
            .prop_map(|n| n.to_string()),
    ];
    let text = select(vec![
        "\"begin\"",
        "\"data\"",
        "\"end\"",
        "\"window\"",
        "\"done\"",
        "\"abort\"",
        "\"x\"",
        "null",
        "[]",
        "{}",
    ]);
    let leaf = prop_oneof![number, text.prop_map(String::from)];
    let key = select(vec![
        "id",
        "op",
        "offset",
        "total",
        "name",
        "bytes",
        "size",
        "window",
        "transfers",
        "message",
        "timeout",
        "content",
        "limits",
        "coalesce",
        "trust",
        "ping",
        "chunk",
    ]);
    leaf.prop_recursive(3, 20, 5, move |inner| {
        vec((key.clone(), inner), 0..6).prop_map(|members| {
            let members: Vec<String> = members
                .iter()
                .map(|(key, value)| format!("\"{key}\": {value}"))
                .collect();
            format!("{{{}}}", members.join(", "))
        })
    })
}

/// A connection ends at most once, and goes on as one that lives or is over.
fn ends_cleanly(solo: &mut Solo) -> Result<(), TestCaseError> {
    let state = solo.connection.state();
    prop_assert!(
        matches!(state, State::Established | State::Closing | State::Closed),
        "{:?}",
        state
    );
    solo.sent();
    solo.wait(millis(100));
    solo.connection.handle_eof(solo.now);
    solo.sent();
    solo.wait(millis(10_000));
    let events = solo.events();
    let ends = events
        .iter()
        .filter(|event| matches!(event, Event::Closed(_)))
        .count();
    prop_assert_eq!(ends, 1);
    prop_assert!(matches!(events.last(), Some(Event::Closed(_))));
    Ok(())
}

proptest! {
    #![proptest_config(property(2_000))]

    #[test]
    fn any_json_in_a_greeting_is_taken_or_refused(role in select(&ROLES[..]), json in any_json()) {
        let mut solo = Solo::new(role, Config::default());
        solo.sent();
        solo.feed_bytes(&raw_frame(greeting_json(role, &json).as_bytes(), b"hello"));
        ends_cleanly(&mut solo)?;
    }

    #[test]
    fn any_json_in_chunks_is_taken_or_refused(
        role in select(&ROLES[..]),
        whole in any::<bool>(),
        chunks in vec((any_json(), 1_usize..2_000), 1..8),
        cuts in any_cuts(),
    ) {
        let receive = if whole { Receive::Whole } else { Receive::Pieces };
        let config = Config::default().receive(receive);
        let mut solo = support::chunk::negotiated(role, config, with_streams());
        let kind = FrameKind::Chunk;
        let mut bytes = Vec::new();
        for (json, len) in chunks {
            let header = format!(
                "{{\"type\": \"{kind}\", \"content_type\": \"a/b\", \"session_id\": \"{SESSION}\", \
                 \"chunk\": {json}}}"
            );
            bytes.extend(raw_frame(header.as_bytes(), &noise(len, 1)));
        }
        for piece in pieces(&bytes, &cuts) {
            solo.feed_bytes(piece);
        }
        ends_cleanly(&mut solo)?;
    }
}

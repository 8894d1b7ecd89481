//! What `ext` may say (PROTOCOL.md §4.6): what is taken, what is ignored, what is refused.

mod support;

use chat_core::frame::{ChunkLimits, Extensions, FrameError, HeaderFault, MAX_INTEGER};
use chat_core::{CloseReason, Config, Event, Message, Role, State};

use support::chunk::greeting_json;
use support::{Solo, no_timers, raw_frame};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// What becomes of an end to which this greeting comes.
fn greet(role: Role, json: &str) -> Solo {
    let mut solo = Solo::new(role, Config::default());
    solo.feed_bytes(&raw_frame(json.as_bytes(), b"hello"));
    solo
}

#[test]
fn nothing_is_agreed_on_with_an_empty_ext() {
    for role in ROLES {
        for text in [
            "{}",
            "{\"other\": {}}",
            "{\"Chunk\": null, \"COALESCE\": {}}",
        ] {
            let solo = greet(role, &greeting_json(role, text));
            assert_eq!(solo.connection.state(), State::Established, "{text}");
            assert_eq!(solo.connection.peer_extensions(), Extensions::default());
        }
    }
}

#[test]
fn unknown_members_and_parameters_mean_nothing() {
    let text = "{\"later\": 7, \"coalesce\": {\"now\": true}, \"ping\": {\"x\": null, \
                \"timeout\": 3000}, \"limits\": {\"header\": -1}}";
    let mut expected = Extensions::default();
    expected.coalesce = true;
    expected.ping = Some(3000);
    expected.max_content = Some(10_485_760);
    for role in ROLES {
        let solo = greet(role, &greeting_json(role, text));
        assert_eq!(solo.connection.peer_extensions(), expected);
    }
}

/// Values of `ext` that are wrong, each for one reason.
fn wrong_ext() -> Vec<String> {
    let mut wrong: Vec<String> = ["null", "7", "\"chunk\"", "[]", "true"]
        .map(Into::into)
        .into();
    for member in ["limits", "coalesce", "ping", "chunk", "trust"] {
        for value in ["null", "7", "\"\"", "[]", "false"] {
            wrong.push(format!("{{\"{member}\": {value}}}"));
        }
    }
    let bad = [
        "-1",
        "1.5",
        "4e3",
        "\"4000\"",
        "[]",
        "{}",
        "true",
        "0",
        "9007199254740992",
    ];
    for value in bad {
        wrong.push(format!("{{\"limits\": {{\"content\": {value}}}}}"));
        wrong.push(format!("{{\"ping\": {{\"timeout\": {value}}}}}"));
        for parameter in ["size", "window", "transfers", "message"] {
            wrong.push(chunk_ext(&[(parameter, value)]));
        }
    }
    for absent in ["null", ""] {
        for parameter in ["size", "window", "transfers"] {
            wrong.push(chunk_ext(&[(parameter, absent)]));
        }
    }
    wrong.extend([
        "{\"ping\": {}}".into(),
        "{\"ping\": {\"timeout\": null}}".into(),
        "{\"ping\": {\"timeout\": 2999}}".into(),
        chunk_ext(&[("size", "1023")]),
        chunk_ext(&[("window", "4095")]),
        chunk_ext(&[("size", "8192"), ("window", "8191")]),
    ]);
    wrong
}

/// An `ext` with these parameters of `chunk`; an empty value leaves one out.
fn chunk_ext(parameters: &[(&str, &str)]) -> String {
    let defaults = [
        ("size", "1024"),
        ("window", "4096"),
        ("transfers", "1"),
        ("message", "1"),
    ];
    let members = defaults.iter().filter_map(|(name, default)| {
        let given = parameters.iter().find(|(key, _)| key == name);
        let value = given.map_or(*default, |(_, value)| value);
        (!value.is_empty()).then(|| format!("\"{name}\": {value}"))
    });
    let members: Vec<String> = members.collect();
    format!("{{\"chunk\": {{{}}}}}", members.join(", "))
}

#[test]
fn an_ext_that_makes_no_sense_is_a_bad_header() {
    let fault = FrameError::HeaderJson(HeaderFault::BadExtension);
    for role in ROLES {
        for text in wrong_ext() {
            let mut solo = greet(role, &greeting_json(role, &text));
            let reason = solo.closed();
            assert_eq!(reason, CloseReason::Protocol(fault.into()), "{text}");
        }
    }
}

#[test]
fn parameters_at_their_limits_are_taken() {
    let max = MAX_INTEGER.to_string();
    let limits = |size, window, transfers, message| ChunkLimits {
        size,
        window,
        transfers,
        message,
    };
    for (text, expected) in [
        (chunk_ext(&[]), limits(1024, 4096, 1, Some(1))),
        (chunk_ext(&[("message", "")]), limits(1024, 4096, 1, None)),
        (
            chunk_ext(&[("message", "null")]),
            limits(1024, 4096, 1, None),
        ),
        (
            chunk_ext(&[("message", &max)]),
            limits(1024, 4096, 1, Some(MAX_INTEGER)),
        ),
        (
            chunk_ext(&[("size", "4096")]),
            limits(4096, 4096, 1, Some(1)),
        ),
        (
            chunk_ext(&[("size", "65536"), ("window", "65536")]),
            limits(65_536, 65_536, 1, Some(1)),
        ),
        // Above the limit a size means that.
        (
            chunk_ext(&[("size", "65537"), ("window", &max)]),
            limits(65_536, u32::MAX, 1, Some(1)),
        ),
        (
            chunk_ext(&[("size", &max), ("window", "70000")]),
            limits(65_536, 70_000, 1, Some(1)),
        ),
        (
            chunk_ext(&[("transfers", &max)]),
            limits(1024, 4096, u32::MAX, Some(1)),
        ),
    ] {
        for role in ROLES {
            let solo = greet(role, &greeting_json(role, &text));
            assert_eq!(
                solo.connection.peer_extensions().chunk,
                Some(expected),
                "{text}"
            );
        }
    }
    for (content, expected) in [("1", 1), ("10485760", 10_485_760), ("10485761", 10_485_760)] {
        let text = format!("{{\"limits\": {{\"content\": {content}}}}}");
        let solo = greet(Role::Server, &greeting_json(Role::Server, &text));
        assert_eq!(
            solo.connection.peer_extensions().max_content,
            Some(expected)
        );
    }
}

#[test]
fn an_ext_in_other_frames_means_nothing() {
    for text in ["{\"coalesce\": {}}", "null", "{\"chunk\": 7}", "[1]"] {
        for role in ROLES {
            let mut solo = Solo::established(role, no_timers());
            let json = greeting_json(role, text).replace(
                if role == Role::Client {
                    "session_init"
                } else {
                    "session_ack"
                },
                "message",
            );
            solo.feed_bytes(&raw_frame(json.as_bytes(), b"hello"));
            assert_eq!(
                solo.events(),
                [Event::Message(Message::binary("hello"))],
                "{text}"
            );
            assert_eq!(solo.connection.peer_extensions(), Extensions::default());
        }
    }
}

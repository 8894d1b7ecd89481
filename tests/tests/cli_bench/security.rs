//! What protects the messages that are measured.

use chat_tests::program::Transport;
use serde_json::Value;

use super::{SMALL, bench, json, line, unlimited};

const TRUST: &[&str] = &["--trust-unix"];

/// The server's options and the program's, and whether messages go without codes then.
const ENDS: [(&[&str], &[&str], bool); 4] = [
    (TRUST, TRUST, true),
    (TRUST, &[], false),
    (&[], TRUST, false),
    (&[], &[], false),
];

#[test]
fn messages_that_are_not_signed_are_told_of() {
    for (theirs, own, trusted) in ENDS {
        let server = unlimited(Transport::Unix, &[&["--echo"], theirs].concat());
        let all: [&[&str]; 3] = [&SMALL, &["echo", "--messages", "50"], own];
        let report = json(&bench(&server, &[all.as_slice(), &[&["--json"]]].concat()).expect(0));
        let expected = [Value::from("sec"), trusted.into()];
        assert_eq!([&report["security"], &report["trust"]], expected.each_ref());
        let words = line(&bench(&server, &all).expect(0), "echo over unix ");
        let expected: &[&str] = if trusted {
            &["(sec,", "trust):"]
        } else {
            &["(sec):"]
        };
        assert_eq!(&words[4..4 + expected.len()], expected, "{words:?}");
        server.stop();
    }
}

#[test]
fn each_load_says_so() {
    let server = unlimited(Transport::Unix, TRUST);
    let few: [&[&str]; 2] = [&SMALL, &["--messages", "20"]];
    let idle: [&[&str]; 2] = [&["--connections", "2"], &["--duration", "100ms"]];
    for (load, options) in [("fan-out", few), ("connect", few), ("idle", idle)] {
        let options = [&options.concat()[..], &[load, "--json"], TRUST];
        let report = json(&bench(&server, &options).expect(0));
        assert_eq!(report["trust"], true, "{load}");
    }
    server.stop();
}

//! `chat-cli serve` against clients of an independent peer, in Python.

use std::thread;
use std::time::{Duration, Instant};

use chat_tests::program::peer::{Padding, client, is_there, ok, script};
use chat_tests::program::{Program, Server, Signal, Transport};

/// Does something with each transport and each padding, at the same time.
fn everywhere(check: impl Fn(Transport, Padding) + Sync) {
    thread::scope(|scope| {
        for transport in Transport::ALL {
            for padding in Padding::ALL {
                let check = &check;
                scope.spawn(move || check(transport, padding));
            }
        }
    });
}

/// A script reads a file of vectors, finds nothing wrong with it, and says how much that was.
fn judge(name: &str, command: &str, file: &str, count: &str) {
    if !is_there() {
        return;
    }
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../chat-core/tests/vectors/");
    let file = format!("{vectors}{file}");
    let said = ok(Program::start(script(name).args([command, &file])).finish());
    assert!(said.contains(count), "{said}");
}

#[test]
fn the_vectors_are_what_the_peer_makes_of_them() {
    judge("peer.py", "vectors", "frames.json", "75 vectors: ");
}

#[test]
fn the_vectors_of_sec_are_what_the_document_says() {
    judge("sec.py", "check", "sec.json", "13 sessions of 260 frames");
}

#[test]
fn a_peer_that_is_strict_makes_a_good_judge() {
    if !is_there() {
        return;
    }
    thread::scope(|scope| {
        for classes in [
            &["Strictness", "Extensions", "Sec"][..],
            &["Scenarios"],
            &["SecScenarios"],
        ] {
            scope.spawn(move || {
                let tested = Program::start(script("selftest.py").args(classes));
                let tested = tested.finish().expect(0);
                assert!(tested.stderr.ends_with("OK\n"), "{tested}");
            });
        }
    });
}

#[test]
fn clients_get_what_they_ask_for() {
    if !is_there() {
        return;
    }
    everywhere(|transport, padding| {
        thread::scope(|scope| {
            for mode in [&[][..], &["--echo"]] {
                for scenario in ["burst", "sizes", "heartbeat", "goodbye"] {
                    scope.spawn(move || {
                        let server = Server::start(transport, mode);
                        ok(client(&server, scenario, padding, &[]).finish());
                        let said = server.stop().stderr;
                        assert!(
                            said.contains("reason=Peer { reason: \"Client disconnecting\" }"),
                            "{said}"
                        );
                    });
                }
            }
        });
    });
}

#[test]
fn bad_clients_are_dropped_and_the_others_untouched() {
    // Who is cut off at once, and who only after the ten seconds that a handshake may take.
    const QUICK: [&str; 4] = ["wrong-key", "wrong-ack", "garbage", "wrong-session"];
    const SLOW: [&str; 2] = ["mute", "dribble"];
    if !is_there() {
        return;
    }
    everywhere(|transport, padding| {
        let server = Server::start(transport, &[]);
        let mut guest = server.guest("Ann");
        let slow = SLOW.map(|scenario| (Instant::now(), client(&server, scenario, padding, &[])));
        for scenario in QUICK {
            guest.say(&format!("before {scenario}"));
            ok(client(&server, scenario, padding, &[]).finish());
            guest.say(&format!("after {scenario}"));
        }
        for (start, peer) in slow {
            ok(peer.finish());
            let took = start.elapsed();
            assert!(
                took > Duration::from_secs(9),
                "cut off after {took:?} already"
            );
            guest.say("after a slow one");
        }
        assert_eq!(
            guest.leave().text().lines().count(),
            1 + 2 * QUICK.len() + SLOW.len()
        );
        let said = server.stop().stderr;
        assert_eq!(
            said.matches("connection ended in the handshake").count(),
            5,
            "{said}"
        );
        assert_eq!(said.matches("session established").count(), 2, "{said}");
    });
}

#[test]
fn silence_ends_a_session_and_no_other() {
    if !is_there() {
        return;
    }
    everywhere(|transport, padding| {
        let server = Server::start(transport, &["--heartbeat", "1s", "--idle-timeout", "4s"]);
        let mut guest = server.guest("Ann");
        let silent = client(&server, "silent-hold", padding, &[]);
        let pinging = client(&server, "hold", padding, &["--ping-interval", "0.3"]);
        for peer in [&silent, &pinging] {
            peer.line("established ");
        }
        guest.say("before");
        ok(silent.finish());
        guest.say("after");
        server.program().log("reason=Timeout(Idle)");
        let said = server.stop().stderr;
        assert_eq!(said.matches("reason=Timeout(Idle)").count(), 1, "{said}");
        ok(pinging.finish());
        guest.wait().fails(69, &["Server shutting down"]);
    });
}

#[test]
fn twenty_clients_are_told_of_the_shutdown() {
    const GRACE: Duration = Duration::from_secs(20);
    if !is_there() {
        return;
    }
    everywhere(|transport, padding| {
        let server = Server::start(transport, &["--grace", "20s"]);
        let many = client(&server, "many", padding, &["--count", "20"]);
        many.line("established 20");
        let start = Instant::now();
        server.program().signal(Signal::INT);
        let stopped = server.wait().expect(0);
        assert!(start.elapsed() < GRACE, "{stopped}");
        ok(many.finish());
    });
}

#[test]
fn a_key_of_ones_own_is_the_same_for_both() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let key = folder.path().join("key");
    let key = key.to_str().expect("the path is text");
    Program::run(["keygen", key], b"").expect(0);
    let server = Server::start(Transport::Tcp, &["--key-file", key]);
    ok(client(&server, "burst", Padding::Full, &["--key-file", key]).finish());
    let refused = client(&server, "burst", Padding::Full, &[])
        .finish()
        .expect(1);
    assert!(refused.stderr.contains("failed: hmac"), "{refused}");

    // With sec it is the server that notices, and says nothing.
    let sec = ["--extensions", "all", "--demand-sec"];
    let with_key = [&sec[..], &["--key-file", key]].concat();
    ok(client(&server, "burst", Padding::Full, &with_key).finish());
    let refused = client(&server, "burst", Padding::Full, &sec)
        .finish()
        .expect(1);
    assert!(
        refused.stderr.contains("failed: the stream ended"),
        "{refused}"
    );
}

#[test]
fn large_messages_go_both_ways_at_once() {
    if !is_there() {
        return;
    }
    for transport in Transport::ALL {
        let server = Server::start(transport, &[]);
        // More than all buffers on the way hold.
        let size = ["--count", "60", "--size", "1000000"];
        ok(client(&server, "burst", Padding::None, &size).finish());
    }
}

/// Extensions with and without the one that spares the padding, and with and without `sec`.
const EXTENSIONS: [&str; 4] = [
    "all",
    "limits,ping,chunk",
    "limits,coalesce,ping,chunk",
    "limits,ping,chunk,sec",
];

/// Those with `sec`.
const WITH_SEC: [&str; 3] = ["all", "limits,ping,chunk,sec", "sec"];

/// The options for these extensions. A server offers `sec`, so who asks for it gets it.
fn options(extensions: &str) -> Vec<&str> {
    let mut options = vec!["--extensions", extensions];
    if extensions == "all" || extensions.split(',').any(|name| name == "sec") {
        options.push("--demand-sec");
    }
    options
}

/// Runs the scenario on each transport, with each of these extensions, at a server of its own.
fn extended(scenario: &str, modes: &[&[&str]], extensions: &[&str]) {
    if !is_there() {
        return;
    }
    thread::scope(|scope| {
        for transport in Transport::ALL {
            scope.spawn(move || {
                for mode in modes {
                    for extensions in extensions {
                        let server = Server::start(transport, mode);
                        let options = [&options(extensions)[..], &["--ping-interval", "0.1"]];
                        let options = options.concat();
                        ok(client(&server, scenario, Padding::Full, &options).finish());
                        server.stop();
                    }
                }
            });
        }
    });
}

/// Servers that send back, and that pass on.
const BOTH: &[&[&str]] = &[&["--echo"], &[]];

#[test]
fn extensions_change_nothing_for_the_application() {
    const SUBSETS: [&str; 6] = [
        "none",
        "coalesce",
        "limits,ping",
        "all",
        "sec",
        "coalesce,sec",
    ];
    for scenario in ["burst", "sizes", "goodbye"] {
        extended(scenario, &[&[]], &SUBSETS);
    }
    extended("heartbeat", &[&[]], &["all", "limits,coalesce,ping", "sec"]);
}

#[test]
fn messages_in_pieces_come_back_whole() {
    extended("chunks", BOTH, &EXTENSIONS);
}

#[test]
fn messages_of_unknown_size_come_back_whole() {
    extended("unknown-size", BOTH, &EXTENSIONS);
}

#[test]
fn what_is_given_up_disturbs_nothing() {
    extended("transfer-abort", BOTH, &EXTENSIONS);
}

#[test]
fn bad_chunks_end_the_connection_or_the_transfer() {
    extended("bad-chunks", BOTH, &EXTENSIONS);
}

#[test]
fn chunks_that_were_not_agreed_on_end_the_connection() {
    const WITHOUT: [&str; 3] = ["none", "limits,coalesce,ping", "coalesce,sec"];
    extended("chunk-unasked", BOTH, &WITHOUT);
}

#[test]
fn a_bad_choice_ends_the_handshake() {
    extended("bad-choice", &[&[]], &["all"]);
}

#[test]
fn what_a_slow_sender_sent_is_given_back() {
    extended("slow-sender", BOTH, &EXTENSIONS);
}

#[test]
fn a_client_that_takes_little_is_not_sent_more() {
    // The smallest pieces, fewer transfers than there are messages, and short messages only.
    const LITTLE: &str = r#"{"limits": {"content": 8191},
        "chunk": {"size": 1024, "window": 4096, "transfers": 2}}"#;
    if !is_there() {
        return;
    }
    for transport in Transport::ALL {
        for (mode, extensions) in BOTH.iter().zip(EXTENSIONS) {
            let server = Server::start(transport, mode);
            let options = [&options(extensions)[..], &["--parameters", LITTLE]].concat();
            ok(client(&server, "chunks", Padding::None, &options).finish());
            server.stop();
        }
    }
}

#[test]
fn files_keep_their_names() {
    extended("named", &[&[]], &EXTENSIONS);
}

#[test]
fn the_old_and_the_new_talk_to_each_other() {
    if !is_there() {
        return;
    }
    everywhere(|transport, padding| {
        for extensions in EXTENSIONS {
            let server = Server::start(transport, &[]);
            let options = options(extensions);
            let said = ok(client(&server, "old-and-new", padding, &options).finish());
            assert!(said.contains("11534336"), "{said}");
            server.stop();
        }
    });
}

#[test]
fn who_shows_no_key_is_closed_without_a_word() {
    extended("bad-proofs", BOTH, &WITH_SEC);
}

#[test]
fn a_frame_with_a_wrong_code_ends_the_session() {
    extended("bad-codes", BOTH, &WITH_SEC);
    extended("sent-back", BOTH, &WITH_SEC);
}

#[test]
fn nothing_of_a_hostile_client_reaches_the_others() {
    const NEVER: &str = "never to be seen";
    if !is_there() {
        return;
    }
    for transport in Transport::ALL {
        let server = Server::start(transport, &[]);
        let mut guest = server.guest("Ann");
        for scenario in ["bad-proofs", "bad-codes", "sent-back"] {
            for extensions in WITH_SEC {
                ok(client(&server, scenario, Padding::Full, &options(extensions)).finish());
                guest.say(&format!("after {scenario} with {extensions}"));
            }
        }
        let heard = guest.leave();
        assert_eq!(heard.text().lines().count(), 1 + 3 * 3, "{heard}");
        assert!(!heard.text().contains(NEVER), "{heard}");
        let said = server.stop().stderr;
        assert!(!said.contains(NEVER), "{said}");
    }
}

#[test]
fn a_server_that_demands_sec_says_so() {
    if !is_there() {
        return;
    }
    for transport in Transport::ALL {
        let server = Server::start(transport, &["--min-security", "sec"]);
        ok(client(&server, "skip-sec", Padding::Full, &[]).finish());
        ok(client(&server, "burst", Padding::Full, &options("all")).finish());
        server.stop();
    }
}

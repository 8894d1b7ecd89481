//! `chat-cli connect` against servers of an independent peer, in Python.

use std::thread;

use chat_tests::program::peer::{Padding, PeerServer, is_there};
use chat_tests::program::terminal::Terminal;
use chat_tests::program::{Finished, Program, Transport, lines};

/// Every extension that there is.
const EXTENSIONS: [&str; 5] = ["limits", "coalesce", "ping", "chunk", "sec"];

/// Does something with each transport and each padding, at the same time.
fn everywhere(check: impl Fn(Transport, Padding) + Sync) {
    if !is_there() {
        return;
    }
    thread::scope(|scope| {
        for transport in Transport::ALL {
            for padding in Padding::ALL {
                let check = &check;
                scope.spawn(move || check(transport, padding));
            }
        }
    });
}

/// Sends a file with these lines to a server that does this; returns what both say.
fn send(
    transport: Transport,
    padding: Padding,
    scenario: &[&str],
    options: &[&str],
    text: &str,
) -> (Finished, String) {
    let server = PeerServer::start(transport, scenario[0], padding, &scenario[1..]);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("lines");
    std::fs::write(&file, text).expect("a file can be written");
    let file = file.to_str().expect("the path is text");
    let client = server.client(&[&["--file", file], options].concat());
    (client.finish(), server.ok())
}

#[test]
fn echoed_lines_come_back() {
    const SIZES: [usize; 6] = [1, 8191, 8192, 8193, 102_400, 10_485_760];
    let short = lines(200, |number| format!("line {number}\n"));
    let long: String = SIZES.iter().map(|size| "x".repeat(*size) + "\n").collect();
    everywhere(|transport, padding| {
        for (text, count) in [(&short, 200), (&long, SIZES.len())] {
            let (sent, said) = send(transport, padding, &["echo"], &["--wait", "30s"], text);
            let sent = sent.expect(0);
            assert!(sent.stdout == text.as_bytes(), "{sent}");
            let goodbye = "1 disconnects 'Client disconnecting'";
            assert!(
                said.contains(&format!("{count} messages")) && said.contains(goodbye),
                "{said}"
            );
        }
    });
}

#[test]
fn what_a_server_sends_by_itself_is_printed_too() {
    everywhere(|transport, padding| {
        let (sent, said) = send(transport, padding, &["burst-out"], &[], "one\ntwo\n");
        let burst = lines(200, |number| format!("line {number:04}\n"));
        let sent = sent.expect(0);
        assert_eq!(sent.text(), burst + "one\ntwo\n", "{said}");
    });
}

#[test]
fn each_way_to_fail_has_its_message_and_its_code() {
    let cases: &[(&[&str], i32, &[&str])] = &[
        (
            &["close-in-handshake"],
            76,
            &["closed the connection during the handshake; is it a chat server?"],
        ),
        (&["http"], 76, &["not a chat frame", "is it a chat server?"]),
        (
            &["garbage"],
            76,
            &["unsupported protocol version", "is it a chat server?"],
        ),
        (
            &["silent"],
            124,
            &["timed out: the handshake was not done in time"],
        ),
        (
            &["wrong-key"],
            77,
            &["the server holds another key; give the same --key-file to both sides"],
        ),
        (
            &["refuse"],
            69,
            &["refused by the server: The server is full"],
        ),
        (
            &["refuse", "--text", "go\n\x1b[31maway"],
            69,
            &["refused by the server: go␊␛[31maway"],
        ),
        (&["drop"], 74, &[" of 3 messages did not come back: "]),
        (
            &["no-echo"],
            124,
            &["3 of 3 messages did not come back: none came back for 1s"],
        ),
        (&["error"], 74, &["the peer ended without a goodbye"]),
    ];
    everywhere(|transport, padding| {
        thread::scope(|scope| {
            for (scenario, code, texts) in cases {
                scope.spawn(move || {
                    let lines = "one\ntwo\nthree\n";
                    let (failed, _) = send(transport, padding, scenario, &["--wait", "1s"], lines);
                    let failed = failed.fails(*code, texts);
                    let lines = if scenario[0] == "error" { 2 } else { 1 };
                    assert_eq!(failed.stderr.lines().count(), lines, "{failed}");
                });
            }
        });
    });
}

#[test]
fn what_a_server_reports_is_said_in_one_line() {
    everywhere(|transport, padding| {
        let scenario = ["error", "--text", "no\n\x1b[31msuch\u{9b}2J room"];
        let (failed, _) = send(transport, padding, &scenario, &[], "one\n");
        let first = failed.stderr.lines().next();
        let reported = "chat-cli: the server reports: no␊␛[31msuch\u{fffd}2J room";
        assert_eq!(first, Some(reported), "{failed}");
    });
}

#[test]
fn the_end_of_the_server_is_told() {
    everywhere(|transport, padding| {
        let server = PeerServer::start(transport, "shutdown", padding, &[]);
        let mut client = server.client(&["--file", "-"]);
        client.write("one\n");
        client.line("one");
        client
            .wait()
            .fails(69, &["closed by the peer: Server shutting down"]);
        server.ok();
    });
}

#[test]
fn a_terminal_is_not_steered_by_a_server() {
    everywhere(|transport, padding| {
        let server = PeerServer::start(transport, "ansi", padding, &[]);
        let mut terminal = Terminal::chat(["connect"].iter().chain(&server.address()));
        terminal.until("the message", |rows| {
            rows.iter().any(|row| row.starts_with("< ␛[31mred␛[0m␇"))
        });
        terminal.press("/quit\r");
        assert_eq!(terminal.wait().0, 0, "{terminal}");
        server.ok();

        let text = "no\n> such\x1b[2J";
        for (scenario, row) in [
            ("error", "* the server reports: no␊> such␛[2J"),
            ("shutdown", "chat-cli: closed by the peer: no␊> such␛[2J"),
            ("refuse", "chat-cli: refused by the server: no␊> such␛[2J"),
        ] {
            let server = PeerServer::start(transport, scenario, padding, &["--text", text]);
            let mut terminal = Terminal::chat(["connect"].iter().chain(&server.address()));
            terminal.row(row);
            let (code, _) = terminal.wait();
            assert_eq!(
                code,
                if scenario == "error" { 74 } else { 69 },
                "{terminal}"
            );
            assert!(
                !terminal.bytes().windows(4).any(|part| part == b"\x1b[2J"),
                "{terminal}"
            );
            server.ok();
        }
    });
}

/// Sends lines of these lengths to an echo that has these extensions.
fn extended(transport: Transport, sizes: &[usize], extensions: &str, more: &[&str]) {
    let letter = |number: usize| char::from(b'a' + u8::try_from(number % 26).expect("a letter"));
    let text: String = (sizes.iter().enumerate())
        .map(|(number, size)| letter(number).to_string().repeat(*size) + "\n")
        .collect();
    let scenario = [&["echo", "--extensions", extensions], more].concat();
    let options = ["--wait", "30s", "--heartbeat", "100ms"];
    let (sent, said) = send(transport, Padding::Full, &scenario, &options, &text);
    let sent = sent.expect(0);
    // Those in pieces may be overtaken.
    let (back, text) = (sent.text(), text);
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(sorted(&back) == sorted(&text), "{sent}");
    let mut wanted = vec![
        format!("{} messages", sizes.len()),
        "1 disconnects 'Client disconnecting'".to_owned(),
    ];
    // Whoever is offered nothing may as well be an old peer.
    if extensions != "none" {
        wanted.push(format!("1 clients with {extensions}"));
    }
    for wanted in wanted {
        assert!(said.contains(&wanted), "no {wanted:?}: {said}");
    }
}

#[test]
fn what_a_server_does_not_take_is_given_up() {
    if !is_there() {
        return;
    }
    let text = format!("short\n{}\n", "x".repeat(2_000_000));
    for transport in Transport::ALL {
        for extensions in ["limits,coalesce,ping,chunk,sec", "chunk"] {
            let scenario = ["refuse-transfers", "--extensions", extensions];
            let (failed, said) = send(transport, Padding::Full, &scenario, &[], &text);
            let failed = failed.fails(74, &["no room for this"]);
            assert_eq!(failed.text(), "short\n");
            assert!(said.contains("1 transfers refused"), "{said}");
        }
    }
}

#[test]
fn long_lines_go_in_pieces() {
    const SIZES: [usize; 9] = [
        1, 8191, 8192, 8193, 65_536, 65_537, 262_145, 1_048_576, 2_097_152,
    ];
    if !is_there() {
        return;
    }
    for transport in Transport::ALL {
        for extensions in [
            "limits,coalesce,ping,chunk",
            "limits,ping,chunk",
            "limits,coalesce,ping,chunk,sec",
            "limits,ping,chunk,sec",
        ] {
            extended(transport, &SIZES, extensions, &[]);
        }
    }
}

#[test]
fn a_server_that_takes_little_is_not_asked_for_more() {
    // More transfers than may be open, in the smallest pieces, and no message of more than 5,000.
    const LITTLE: &str = r#"{"limits": {"content": 5000},
        "chunk": {"size": 1024, "window": 4096, "transfers": 2, "message": 300000}}"#;
    const SIZES: [usize; 10] = [
        1, 4999, 5000, 5001, 8192, 8193, 20_000, 20_001, 100_000, 300_000,
    ];
    if !is_there() {
        return;
    }
    for transport in Transport::ALL {
        for extensions in [
            "limits,coalesce,ping,chunk",
            "limits,chunk",
            "limits,coalesce,ping,chunk,sec",
        ] {
            extended(transport, &SIZES, extensions, &["--parameters", LITTLE]);
        }
    }
}

#[test]
fn every_subset_of_the_extensions_will_do() {
    const SIZES: [usize; 6] = [1, 100, 8192, 8193, 300_000, 2_097_152];
    if !is_there() {
        return;
    }
    let run = |subset: usize| {
        let chosen: Vec<_> = (EXTENSIONS.iter().enumerate())
            .filter(|(place, _)| subset & 1 << place != 0)
            .map(|(_, name)| *name)
            .collect();
        let chosen = if subset == 0 {
            "none".to_owned()
        } else {
            chosen.join(",")
        };
        let transport = Transport::ALL[subset.count_ones() as usize % 2];
        extended(transport, &SIZES, &chosen, &[]);
    };
    let half = 1 << (EXTENSIONS.len() - 1);
    thread::scope(|scope| {
        scope.spawn(|| (0..half).for_each(run));
        scope.spawn(|| (half..2 * half).for_each(run));
    });
}

/// Extensions with `sec`, padded and not.
const WITH_SEC: [&str; 2] = ["limits,coalesce,ping,chunk,sec", "sec"];

#[test]
fn each_client_may_hold_a_key_of_its_own() {
    if !is_there() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let keys = ["server", "one", "other", "stranger"].map(|name| {
        let path = folder.path().join(name);
        let path = path.to_str().expect("the path is text").to_owned();
        Program::run(["keygen", &path], b"").expect(0);
        path
    });
    let [own, one, other, stranger] = keys.each_ref().map(String::as_str);
    for transport in Transport::ALL {
        for extensions in WITH_SEC {
            let offered = ["echo", "--extensions", extensions, "--demand-sec"];
            let held = ["--client-key-file", one, "--client-key-file", other];
            for own in [&[][..], &["--key-file", own]] {
                for client in [one, other] {
                    let scenario = [&offered[..], &held, own].concat();
                    let options = ["--key-file", client];
                    let (sent, said) = send(transport, Padding::Full, &scenario, &options, "hi\n");
                    assert_eq!(sent.expect(0).text(), "hi\n", "{said}");
                }
            }
            // The server says nothing to whom it does not know.
            let server = PeerServer::start(
                transport,
                "echo",
                Padding::Full,
                &[&offered[1..], &held].concat(),
            );
            let refused = server.client(&["--key-file", stranger, "--file", "-"]);
            refused.finish_with("hi\n").fails(77, &[]);
            let said = server.fails();
            assert!(said.contains("failed: unknown key"), "{said}");
        }
    }
}

/// What a server that has this fault makes a client do: its code, and what is in its last words.
fn hostile(scenario: &str, cases: &[(&str, i32, &[&str])]) {
    const NEVER: &str = "never to be seen";
    if !is_there() {
        return;
    }
    thread::scope(|scope| {
        for transport in Transport::ALL {
            scope.spawn(move || {
                for extensions in WITH_SEC {
                    for (fault, code, texts) in cases {
                        let scenario = [scenario, "--extensions", extensions, "--fault", fault];
                        let (failed, said) = send(transport, Padding::Full, &scenario, &[], "hi\n");
                        let failed = failed.fails(*code, texts);
                        assert_eq!(failed.text(), "", "{fault}: {said}");
                        assert!(!failed.stderr.contains(NEVER), "{fault}: {failed}");
                    }
                }
            });
        }
    });
}

#[test]
fn a_server_that_shows_no_key_is_not_believed() {
    hostile(
        "unproven",
        &[
            ("message-first", 76, &["unexpected message frame"]),
            ("ping-first", 76, &["unexpected heartbeat frame"]),
            ("other-session-id", 76, &["of another session"]),
            ("message-of-version-1", 77, &[]),
            ("wrong-key", 77, &[]),
            ("version-1-code", 77, &[]),
            ("sequence-1", 77, &[]),
            ("other-direction", 77, &[]),
            ("error-of-version-1", 77, &[]),
            ("disconnect-of-version-1", 77, &[]),
            ("end", 77, &[]),
            ("nothing", 124, &["the handshake was not done in time"]),
        ],
    );
}

#[test]
fn a_server_that_holds_the_key_may_still_refuse() {
    hostile(
        "refuse-late",
        &[
            ("error", 69, &["refused by the server: The room is closed"]),
            (
                "disconnect",
                69,
                &["closed by the peer: The room is closed"],
            ),
        ],
    );
}

#[test]
fn a_frame_of_a_server_with_a_wrong_code_ends_the_session() {
    hostile(
        "forge",
        &[
            ("repeated", 76, &["altered, repeated or left out"]),
            ("left-out", 76, &["altered, repeated or left out"]),
            ("reordered", 76, &["altered, repeated or left out"]),
            ("begins-again", 76, &["altered, repeated or left out"]),
            ("other-direction", 76, &["altered, repeated or left out"]),
            ("border-moved", 76, &["altered, repeated or left out"]),
            ("content-changed", 76, &["altered, repeated or left out"]),
            ("version-1-code", 76, &["altered, repeated or left out"]),
            ("other-session", 76, &["altered, repeated or left out"]),
            ("no-code", 76, &["altered, repeated or left out"]),
        ],
    );
}

#[test]
fn a_client_that_demands_sec_goes_where_it_is_not_offered() {
    everywhere(|transport, padding| {
        for offered in [&[][..], &["--extensions", "limits,coalesce,ping,chunk"]] {
            let server = PeerServer::start(transport, "echo", padding, offered);
            let client = server.client(&["--file", "-", "--min-security", "sec"]);
            let failed = client.finish_with("hi\n");
            assert_ne!(failed.code, Some(0), "{failed}");
            assert_eq!(failed.text(), "", "{failed}");
            let said = server.fails();
            // It may say so (section 4.2).
            assert!(
                said.contains("failed: the stream ended") || said.contains("failed: disconnect"),
                "{said}"
            );
        }
    });
}

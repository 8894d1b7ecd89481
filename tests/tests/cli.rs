//! The program, as scripts use it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use chat_tests::program::files::{file, text};
use chat_tests::program::{Program, Server, Signal, Transport, lines, until};
use chat_tokio::{Endpoint, Handler, HandlerError, Message, Session};

/// The most that a message may have which a server keeps whole, in bytes.
const LARGEST: usize = 64 * 1024 * 1024;

#[test]
fn help_shows_by_example() {
    let help = Program::run(["--help"], b"").expect(0).text();
    for mode in ["serve", "connect", "keygen"] {
        assert!(help.contains(mode), "{help}");
    }
    for code in [0, 2, 69, 74, 76, 77, 124, 130] {
        assert!(
            help.contains(&format!("\n  {code:>3}  ")),
            "no {code} in {help}"
        );
    }
    for (mode, examples) in [
        (
            "serve",
            &["serve\n", "serve --tcp 0.0.0.0:9999 --key-file"][..],
        ),
        (
            "connect",
            &[
                "connect\n",
                "connect --unix --file notes.txt\n",
                "--file -\n",
            ],
        ),
        ("keygen", &["keygen\n"]),
    ] {
        let help = Program::run([mode, "--help"], b"").expect(0).text();
        let (_, shown) = help.split_once("Examples:\n").expect("examples");
        for example in examples {
            assert!(shown.contains(example), "no {example:?} in {help}");
        }
    }
    let version = Program::run(["--version"], b"").expect(0).text();
    assert_eq!(version, format!("chat-cli {}\n", env!("CARGO_PKG_VERSION")));
    let nothing = Program::run([""; 0], b"").expect(2);
    assert!(
        nothing.stderr.contains("Usage: chat-cli <COMMAND>"),
        "{nothing}"
    );
}

#[test]
fn ten_thousand_piped_lines_come_back_in_order() {
    let lines = lines(10_000, |number| format!("line number {number}\n"));
    for transport in Transport::ALL {
        for mode in [&[][..], &["--echo"]] {
            let server = Server::start(transport, mode);
            let piped = server.run(&["--file", "-"], lines.clone()).expect(0);
            assert!(piped.text() == lines, "{transport:?}, {mode:?}: {piped}");
            assert_eq!(piped.stderr, "");
            let path = file(&server, "lines", &lines);
            let read = server.run(&["--file", &path], "").expect(0);
            assert!(read.text() == lines, "{transport:?}, {mode:?}: {read}");
            server.stop();
        }
    }
}

#[test]
fn lines_of_any_length_come_back_whole_and_in_order() {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    for transport in Transport::ALL {
        let server = Server::start(transport, &[]);
        let mut guest = server.guest("Ann");
        for character in ["x", "ü", "\u{1}"] {
            let line = |size: usize| character.repeat(size / character.len());
            let long = [9 * KIB, MIB, 12 * MIB, 40 * MIB].map(line);
            let mut text = format!("first\n{}\nlast\n", long.join("\nin between\n")).into_bytes();
            if character == "\u{1}" {
                // No text.
                text.iter_mut()
                    .filter(|byte| **byte == 1)
                    .for_each(|byte| *byte = 0xff);
            }
            let path = file(&server, "long", &text);
            // The blanks around lines are not part of them.
            let piped = [&b"  "[..], &text, b" \t\r\n "].concat();
            for (name, input) in [(path.as_str(), vec![]), ("-", piped)] {
                let sent = server
                    .run(&["--file", name, "--wait", "60s"], input)
                    .expect(0);
                assert!(sent.stdout == text, "{character:?}, {name}: {sent}");
                assert_eq!(sent.stderr, "");
            }
        }
        guest.send("the end");
        let heard = guest.leave();
        assert_eq!(heard.stderr, "");
        let long = heard
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| line.len() > 30 * MIB);
        assert_eq!(long.count(), 2 * 3);
    }
}

#[test]
fn an_echo_takes_lines_up_to_its_limit_and_names_a_longer_one() {
    let server = Server::start(Transport::Unix, &["--echo"]);
    let mut line = "x".repeat(12 * 1024 * 1024) + "\n";
    let sent = server.run(&["--file", "-", "--wait", "60s"], line.clone());
    assert!(sent.expect(0).text() == line);
    line = "x".repeat(LARGEST + 1);
    let complaint = "is longer than 67108864 bytes";
    let path = file(&server, "long", format!("first\n\n{line}\nlast\n"));
    let refused = server.run(&["--file", &path], "");
    let refused = refused.fails(2, &["line 3 of ", &path, complaint]);
    assert_eq!(refused.text(), "");
    let refused = server.run(&["--file", "-"], format!("{line}\nlast\n"));
    let refused = refused.fails(2, &["line 1 of standard input", complaint]);
    assert_eq!(refused.text(), "");
}

#[test]
fn lines_are_messages_whatever_is_around_them() {
    let cases: &[(&[u8], &[u8])] = &[
        (b"", b""),
        (b"\n", b""),
        (b" \n\t\r\n\n  ", b""),
        (b"no line feed", b"no line feed\n"),
        (b" one \r\n\n\ttwo\t\nthree", b"one\ntwo\nthree\n"),
        (b"one\nexit\ntwo\n", b"one\n"),
        (b"exit", b""),
        (b"exit now\n/quit\n", b"exit now\n/quit\n"),
        (b"same\nsame\nsame\n", b"same\nsame\nsame\n"),
        (
            "Grüße, 世界 🌍\u{a0}\n".as_bytes(),
            "Grüße, 世界 🌍\n".as_bytes(),
        ),
        (b"\xff\xfe\n\x80 \nfine\n", b"\xff\xfe\n\x80\nfine\n"),
        (b"\x1b[31mred\x07\0\n", b"\x1b[31mred\x07\0\n"),
    ];
    for mode in [&[][..], &["--echo"]] {
        let server = Server::start(Transport::Tcp, mode);
        for (input, output) in cases {
            let path = file(&server, "lines", input);
            for (name, input) in [(path.as_str(), &b""[..]), ("-", input)] {
                let sent = server.run(&["--file", name], input).expect(0);
                assert_eq!(&sent.stdout, output, "{sent}");
                assert_eq!(sent.stderr, "", "{sent}");
            }
        }
    }
}

#[test]
fn without_a_terminal_lines_and_commands_are_read() {
    let server = Server::start(Transport::Unix, &[]);
    for how in [&[][..], &["--interactive"]] {
        let talk = server.run(how, "/help\nhello\n/quit\nmore\n").expect(0);
        assert_eq!(talk.text(), "hello\n");
        assert!(talk.stderr.contains("each line is a message"), "{talk}");
        assert_eq!(
            server.run(how, "hello\nexit\nmore\n").expect(0).text(),
            "hello\n"
        );
        assert_eq!(server.run(how, "").expect(0).text(), "");
    }
    // It ends with the line, not with the input.
    let mut client = server.client(&[]);
    client.write("/quit\n");
    assert_eq!(client.wait().expect(0).text(), "");
}

#[test]
fn relayed_messages_reach_all_and_echoes_only_their_sender() {
    for transport in Transport::ALL {
        let server = Server::start(transport, &[]);
        let mut ann = server.guest("Ann");
        let mut bob = server.guest("Bob");
        ann.hears("Bob is here");
        ann.say("hello");
        bob.hears("hello");
        bob.say("hi");
        ann.hears("hi");
        assert_eq!(ann.leave().text(), "Ann is here\nBob is here\nhello\nhi\n");
        assert_eq!(bob.leave().text(), "Bob is here\nhello\nhi\n");

        let server = Server::start(transport, &["--echo"]);
        let mut ann = server.guest("Ann");
        let mut bob = server.guest("Bob");
        ann.say("hello");
        bob.say("hi");
        assert_eq!(ann.leave().text(), "Ann is here\nhello\n");
        assert_eq!(bob.leave().text(), "Bob is here\nhi\n");
    }
}

#[test]
fn several_places_are_one_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let server = Program::chat([
        "serve",
        "--tcp",
        "127.0.0.1:0",
        "--unix",
        text(&one),
        "--unix",
        text(&two),
        "--tcp",
        "localhost:0",
    ]);
    let place = |line: &str| line.rsplit(' ').next().expect("a place").to_owned();
    server.line(&format!("listening on unix {}", text(&two)));
    let lines = server.lines(4);
    let mut clients: Vec<_> = lines
        .iter()
        .map(|line| {
            let kind = if line.contains(" tcp ") {
                "--tcp"
            } else {
                "--unix"
            };
            Program::chat([
                "connect",
                "--wait",
                "60s",
                kind,
                place(line.trim()).as_str(),
            ])
        })
        .collect();
    for (index, client) in clients.iter_mut().enumerate() {
        let line = format!("from {index}");
        client.write(format!("{line}\n"));
        client.line(&line);
    }
    clients[0].line("from 3");
    server.signal(Signal::INT);
    server.wait().expect(0);
    assert!(!one.exists() && !two.exists());
}

#[test]
fn a_host_name_will_do() {
    let server = Server::start(Transport::Tcp, &[]);
    let (_, port) = server.place().rsplit_once(':').expect("a port");
    let place = format!("localhost:{port}");
    let sent = Program::run(["connect", "--tcp", &place, "--file", "-"], b"hello\n");
    assert_eq!(sent.expect(0).text(), "hello\n");
    let server = Server::start_at(["--tcp", "localhost:0"], &[]);
    assert_eq!(
        server.run(&["--file", "-"], "hello\n").expect(0).text(),
        "hello\n"
    );
}

#[test]
fn both_sides_need_the_same_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = ["one", "two"].map(|name| folder.path().join(name));
    for key in &keys {
        let made = Program::run(["keygen", text(key)], b"").expect(0);
        assert_eq!(made.text(), format!("{}\n", text(key)));
        let metadata = fs::metadata(key).expect("the key is there");
        assert_eq!(
            (metadata.len(), metadata.permissions().mode() & 0o7777),
            (32, 0o600)
        );
    }
    let bytes = keys
        .each_ref()
        .map(|key| fs::read(key).expect("the key can be read"));
    assert_ne!(bytes[0], bytes[1]);
    Program::run(["keygen", text(&keys[0])], b"").fails(74, &["exists", "no file is overwritten"]);
    assert_eq!(fs::read(&keys[0]).expect("the key can be read"), bytes[0]);

    let [one, two] = keys.each_ref().map(|key| text(key));
    let server = Server::start(Transport::Tcp, &["--key-file", one]);
    let sent = server
        .run(&["--key-file", one, "--file", "-"], "hello\n")
        .expect(0);
    assert_eq!(
        (sent.text().as_str(), sent.stderr.as_str()),
        ("hello\n", "")
    );
    for key in [&["--key-file", two][..], &[]] {
        let refused = server.run(&[key, &["--file", "-"]].concat(), "hello\n");
        let refused = refused.fails(77, &["the server did not accept the key", "--key-file"]);
        assert_eq!(refused.text(), "");
    }
    let said = server.stop().stderr;
    assert!(!said.contains("default key"), "{said}");
    let said = Server::start(Transport::Tcp, &[]).stop().stderr;
    assert!(said.contains("the default key is public"), "{said}");
}

#[test]
fn it_connects_again_and_goes_on() {
    let server = Server::start(Transport::Tcp, &[]);
    let place = server.place().to_owned();
    let mut client = server.client(&["--reconnect", "--wait", "3s"]);
    client.write("one\n");
    client.line("one");
    server.stop();
    client.log("closed by the peer: Server shutting down; connecting again in ");
    // What is said now waits, for longer than for an answer.
    client.write("two\n");
    thread::sleep(Duration::from_secs(4));
    let server = Server::start_at(["--tcp", &place], &[]);
    client.line("two");
    client.write("three\n");
    client.line("three");
    assert_eq!(client.finish().expect(0).text(), "one\ntwo\nthree\n");
    server.stop();

    // Without being told to it does not.
    let server = Server::start(Transport::Tcp, &[]);
    let guest = server.guest("Ann");
    server.stop();
    guest
        .wait()
        .fails(69, &["closed by the peer: Server shutting down"]);
}

/// Takes messages and says nothing.
struct Deaf;

impl Handler for Deaf {
    type Data = ();

    async fn message(&self, _: &Session, _: Message) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_waits_for_answers_so_long_and_no_longer() {
    let server = chat_tokio::ServerBuilder::new(Deaf).listen(Endpoint::tcp("127.0.0.1:0"));
    let server = server.bind().await.expect("a port is free");
    let Endpoint::Tcp(place) = server.endpoints()[0].clone() else {
        panic!("not what it was told to listen on");
    };
    let connect = ["connect", "--tcp", &place, "--file", "-", "--wait"];
    for wait in ["100ms", "0s"] {
        let lost = Program::run(connect.iter().chain(&[wait]), b"one\ntwo\n");
        let lost = lost.fails(
            124,
            &["2 of 2 messages did not come back", "none came back for "],
        );
        assert_eq!(lost.text(), "");
    }
    // Without a message there is nothing to wait for.
    Program::run(connect.iter().chain(&["100ms"]), b" \n").expect(0);
    // As long as no clock can count.
    let mut client = Program::chat(connect.iter().chain(&["18446744073709551615s"]));
    client.write("one\n");
    until("there is a session", || !server.sessions().is_empty());
    client.signal(Signal::TERM);
    client.wait().fails(130, &["interrupted"]);
    server.stop().await;
}

/// Passes bytes on, a mebibyte a second.
fn pass_on(mut from: impl Read, mut to: impl Write) {
    let mut part = [0; 8 * 1024];
    while let Ok(count @ 1..) = from.read(&mut part) {
        if to.write_all(&part[..count]).is_err() {
            return;
        }
        thread::sleep(Duration::from_micros(7_800));
    }
}

#[test]
fn a_slow_line_is_not_a_deaf_server() {
    let server = Server::start(Transport::Unix, &["--echo"]);
    let slow = server.path("slow");
    let listener = UnixListener::bind(&slow).expect("a socket can be bound");
    let behind = server.path("chat.sock");
    thread::spawn(move || {
        let (near, _) = listener.accept().expect("a client comes");
        let far = UnixStream::connect(behind).expect("the server is there");
        let (from, to) = (far.try_clone(), near.try_clone());
        thread::spawn(move || pass_on(from.expect("a socket"), to.expect("a socket")));
        pass_on(near, far);
    });
    // Three seconds there and three back.
    let line = "x".repeat(3 * 1024 * 1024) + "\n";
    let connect = [
        "connect",
        "--unix",
        text(&slow),
        "--wait",
        "2s",
        "--file",
        "-",
    ];
    let sent = Program::run(connect, line.as_bytes()).expect(0);
    assert!(sent.stdout == line.as_bytes(), "{sent}");
}

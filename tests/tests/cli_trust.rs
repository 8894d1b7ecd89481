//! `--trust-unix`: messages that are not signed, over Unix sockets and where both ends are told so.

use chat_tests::program::{Program, Server, Transport, lines};

const TRUST: &str = "--trust-unix";
const TALK: [&str; 2] = ["--file", "-"];

/// What a program says that is told to trust a socket and has none.
const NO_SOCKET: [&str; 2] = [
    "--trust-unix is for Unix sockets, and there is none",
    "over TCP every message is signed",
];

/// The line with which the log begins a session, and whether that is trusted.
#[track_caller]
fn is_trusted(server: &Program) -> bool {
    let line = server.log("session established");
    assert!(line.contains(" security=sec "), "{line}");
    line.contains(" trusted=true")
}

#[test]
fn a_socket_is_trusted_if_both_ends_are_told_to() {
    for (server, client) in [(true, true), (true, false), (false, true), (false, false)] {
        let told = |yes: bool| if yes { &[TRUST][..] } else { &[] };
        let options = [&["--echo"], told(server)].concat();
        let running = Server::start(Transport::Unix, &options);
        let said = lines(500, |n| format!("line {n}\n"));
        let options = [&TALK[..], told(client)].concat();
        let heard = running.run(&options, said.clone()).expect(0);
        assert_eq!(heard.text(), said);
        assert_eq!(is_trusted(running.program()), server && client);
        running.stop();
    }
}

#[test]
fn a_server_on_both_trusts_its_socket_and_signs_over_tcp() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("chat.sock");
    let path = path.to_str().expect("the path is text");
    // Without a place it listens on both too; those places may be taken here.
    let more = ["--tcp", "127.0.0.1:0", "--echo", TRUST];
    let server = Server::start_at(["--unix", path], &more);
    let tcp = server.program().line("listening on tcp");
    let tcp = tcp.rsplit(' ').next().expect("an address");
    let unix = Program::chat(["connect", "--unix", path, TALK[0], TALK[1], TRUST]);
    assert_eq!(unix.finish_with("one\n").expect(0).text(), "one\n");
    assert!(is_trusted(server.program()));
    let over_tcp = Program::chat(["connect", "--tcp", tcp, TALK[0], TALK[1]]);
    assert_eq!(over_tcp.finish_with("two\n").expect(0).text(), "two\n");
    let log = server.stop().stderr;
    assert_eq!(log.matches("session established").count(), 2, "{log}");
    assert_eq!(log.matches("trusted=true").count(), 1, "{log}");
}

#[test]
fn without_a_socket_there_is_nothing_to_trust() {
    for arguments in [
        &["serve", "--tcp", "127.0.0.1:0"][..],
        &["serve", "--tcp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"],
        &["connect"],
        &["connect", "--tcp", "127.0.0.1:1"],
        &["connect", "--min-security", "legacy"],
        &["bench", "echo"],
    ] {
        let refused = Program::run(arguments.iter().chain(&[TRUST]), b"hello\n");
        let refused = refused.fails(2, &NO_SOCKET);
        assert_eq!(refused.text(), "");
    }
}

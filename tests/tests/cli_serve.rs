//! The server as a program: where it listens, how it ends, what bounds it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use chat_tests::program::{Program, Server, Signal, Transport, chat_cli, is_gone, until};
use tempfile::{TempDir, tempdir};

/// What clients are told when the server stops.
const TOLD: &str = "closed by the peer: Server shutting down";

fn folder() -> TempDir {
    tempdir().expect("a folder can be made")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

/// Runs a server that cannot listen.
fn refused(place: [&str; 2], texts: &[&str]) {
    let failed = Program::run(["serve"].iter().chain(&place), b"");
    let failed = failed.fails(69, texts);
    assert_eq!(failed.text(), "");
}

#[test]
fn a_port_in_use_is_left_alone() {
    let mut server = Some(Server::start(Transport::Tcp, &[]));
    let place = server.as_ref().expect("just started").place().to_owned();
    refused(
        ["--tcp", &place],
        &[
            "cannot listen on tcp",
            &place,
            "in use",
            "choose another port",
        ],
    );
    // One that is taken keeps the server from listening on the others too.
    let folder = folder();
    let path = folder.path().join("s");
    let both = ["serve", "--unix", text(&path), "--tcp", &place];
    Program::run(both, b"").fails(69, &["in use"]);
    assert!(is_gone(&path));
    // The port of a server that had clients is free at once.
    let guest = server.as_ref().expect("just started").guest("Ann");
    server.take().expect("just started").stop();
    guest.wait().expect(69);
    Server::start_at(["--tcp", &place], &[]).stop();
}

#[test]
fn a_socket_is_for_its_owner_and_goes_with_the_server() {
    let server = Server::start(Transport::Unix, &[]);
    let path = server.path("chat.sock");
    let metadata = fs::symlink_metadata(&path).expect("it is there");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    assert_eq!(
        server.run(&["--file", "-"], "hello\n").expect(0).text(),
        "hello\n"
    );
    server.stop();
}

#[test]
fn what_is_no_socket_is_never_replaced() {
    let folder = folder();
    let path = |name| folder.path().join(name);
    fs::write(path("file"), "precious").expect("a file can be written");
    fs::create_dir(path("folder")).expect("a folder can be made");
    symlink("nowhere", path("broken")).expect("a link can be made");
    let live = UnixListener::bind(path("live")).expect("a socket can be bound");
    symlink(path("live"), path("link")).expect("a link can be made");
    for name in ["file", "folder", "broken", "link"] {
        let path = path(name);
        let why = "the path exists and is not a socket; remove it or choose another path";
        refused(
            ["--unix", text(&path)],
            &["cannot listen on unix", text(&path), why],
        );
        assert!(path.symlink_metadata().is_ok(), "{name}");
        assert!(
            !Path::new(&format!("{}.lock", text(&path))).exists(),
            "{name}"
        );
    }
    assert_eq!(fs::read(path("file")).expect("it is there"), b"precious");
    drop(live);
    let nowhere = path("none").join("s");
    refused(["--unix", text(&nowhere)], &["No such file"]);
    let long = path(&"l".repeat(150));
    refused(["--unix", text(&long)], &["cannot listen on unix"]);
}

#[test]
fn the_socket_of_a_live_server_is_left_alone() {
    const WHY: &str = "a running server listens there; stop it or choose another path";
    let server = Server::start(Transport::Unix, &[]);
    let mut guest = server.guest("Ann");
    refused(server.address(), &[WHY]);
    guest.say("still here");
    guest.leave();
    server.stop();

    // One that knows nothing of locks, too; it is not even accepting.
    let folder = folder();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).expect("a socket can be bound");
    refused(["--unix", text(&path)], &[WHY]);
    listener.set_nonblocking(true).expect("it can be asked");
    drop(listener.accept().expect("it was looked for"));
    UnixStream::connect(&path).expect("it still listens");
}

#[test]
fn the_socket_of_a_killed_server_is_replaced() {
    let folder = folder();
    let path = folder.path().join("s");
    for round in 0..3 {
        let server = Server::start_at(["--unix", text(&path)], &[]);
        let mut guest = server.guest("Ann");
        guest.say(&format!("round {round}"));
        server.program().signal(Signal::KILL);
        assert_eq!(server.wait().code, None);
        guest
            .wait()
            .fails(74, &["the peer ended without a goodbye"]);
        assert!(path.exists());
    }
    Server::start_at(["--unix", text(&path)], &[]).stop();
    // One that knew nothing of locks.
    drop(UnixListener::bind(&path).expect("a socket can be bound"));
    Server::start_at(["--unix", text(&path)], &[]).stop();
}

#[test]
fn of_those_who_start_at_once_one_wins() {
    const COUNT: usize = 6;
    let folder = folder();
    for round in 0..5 {
        let path = folder.path().join(format!("s{round}"));
        if round % 2 == 1 {
            // With a stale one in the way.
            drop(UnixListener::bind(&path).expect("a socket can be bound"));
        }
        let start = || Program::chat(["serve", "--unix", text(&path)]);
        let mut servers: Vec<_> = (0..COUNT).map(|_| start()).collect();
        for server in &servers {
            server.log_of(&["INFO listening", "chat-cli: "]);
        }
        let (won, lost): (Vec<_>, Vec<_>) = servers
            .drain(..)
            .partition(|server| server.error_output().contains("INFO listening"));
        assert_eq!((won.len(), lost.len()), (1, COUNT - 1));
        for server in lost {
            server.wait().fails(69, &["a running server listens there"]);
        }
        let connect = ["connect", "--unix", text(&path), "--file", "-"];
        assert_eq!(
            Program::run(connect, b"hello\n").expect(0).text(),
            "hello\n"
        );
        won[0].signal(Signal::TERM);
        for server in won {
            server.wait().expect(0);
        }
        assert!(is_gone(&path));
    }
}

#[test]
fn signals_stop_it_and_everyone_is_told() {
    for transport in Transport::ALL {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let server = Server::start(transport, &["--grace", "30s"]);
            let mut guests: Vec<_> = (0..3)
                .map(|name| server.guest(&format!("guest {name}")))
                .collect();
            // What is queued goes out first.
            guests[0].send("last words");
            guests[0].hears("last words");
            let asked = Instant::now();
            server.program().signal(signal);
            let stopped = server.wait().expect(0);
            assert!(asked.elapsed() < Duration::from_secs(30), "{stopped}");
            for guest in guests {
                let told = guest.wait().fails(69, &[TOLD]);
                assert!(told.text().ends_with("last words\n"), "{told}");
            }
        }
    }
}

#[test]
fn a_client_that_never_ends_does_not_hold_the_stop_for_ever() {
    let server = Server::start(Transport::Unix, &["--grace", "500ms"]);
    let guest = server.guest("Ann");
    guest.program().signal(Signal::STOP);
    server.stop();
    guest.program().signal(Signal::CONT);
    guest.wait().expect(69);

    // And nobody has to wait.
    let server = Server::start(Transport::Unix, &["--grace", "30s"]);
    let guest = server.guest("Ann");
    guest.program().signal(Signal::STOP);
    server.program().signal(Signal::INT);
    server.program().log("stopping");
    server.program().signal(Signal::INT);
    server.wait().fails(130, &["interrupted"]);
}

#[test]
fn a_client_that_is_told_to_end_says_goodbye() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let server = Server::start(Transport::Tcp, &[]);
        let guest = server.guest("Ann");
        guest.program().signal(signal);
        guest.wait().fails(130, &["interrupted"]);
        server
            .program()
            .log("reason=Peer { reason: \"Client disconnecting\" }");
    }
}

#[test]
fn one_too_many_is_turned_away() {
    for transport in Transport::ALL {
        let server = Server::start(transport, &["--max-connections", "1"]);
        let mut guest = server.guest("Ann");
        let second = server.run(&["--file", "-"], "hello\n");
        second.fails(69, &["refused by the server: The server is full"]);
        guest.say("still here");
        guest.leave();
        until("there is room for a third", || {
            let third = server.run(&["--file", "-"], "hello\n");
            third.code == Some(0) && third.text() == "hello\n"
        });
        server.stop();
    }
}

/// As `nohup` starts a program.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    const IGNORING: &str = "trap '' HUP; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", IGNORING])
        .arg(chat_cli())
        .args(["serve", "--tcp", "127.0.0.1:0"]);
    let server = Program::start(&mut command);
    let line = server.line("listening on ");
    server.signal(Signal::HUP);
    let place = line.rsplit(' ').next().expect("a place");
    for _ in 0..3 {
        let sent = Program::run(["connect", "--tcp", place, "--file", "-"], b"hello\n");
        assert_eq!(sent.expect(0).text(), "hello\n");
    }
    server.signal(Signal::TERM);
    server.wait().expect(0);
}

/// Whoever reads what a client prints may take their time; a signal does not.
#[test]
fn a_client_whose_output_nobody_takes_can_be_ended() {
    let server = Server::start(Transport::Unix, &[]);
    let file = server.path("lines");
    let lines: Vec<_> = (0..100_000).map(|number| number.to_string()).collect();
    fs::write(&file, lines.join("\n")).expect("a file");
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut client = Command::new(chat_cli())
        .args(["connect", "--unix", server.place(), "--file", text(&file)])
        .stdout(writer)
        .spawn()
        .expect("it starts");
    // It prints; a pipe holds much less than it has to print.
    std::io::Read::read_exact(&mut reader, &mut [0]).expect("the first byte");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(client.try_wait().expect("its state"), None, "it waits");
    let id = i32::try_from(client.id()).expect("a process id");
    let id = rustix::process::Pid::from_raw(id).expect("a process id");
    rustix::process::kill_process(id, Signal::TERM).expect("it runs");
    let end = "reason=Peer { reason: \"Client disconnecting\" }";
    server.program().log(end);
    assert_eq!(client.wait().expect("its end").code(), Some(130));
    server.stop();
}

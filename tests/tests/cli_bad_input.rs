//! What the program says to arguments and files that it cannot use, and to servers that are not
//! there.

use std::fs::{self, Permissions};
use std::io::{Write, stderr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use chat_tests::program::{Finished, Program, Server, Signal, Transport, Unheard, chat_cli, until};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::geteuid;
use tempfile::{TempDir, tempdir};

fn folder() -> TempDir {
    tempdir().expect("a folder can be made")
}

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

/// Runs it with nothing on its standard input.
fn run(arguments: &[&str]) -> Finished {
    Program::run(arguments, b"")
}

/// `chat-cli`, run by someone who may not read everything.
fn unprivileged() -> Option<Command> {
    const NOBODY: u32 = 65534;
    let run = || {
        let mut command = Command::new(chat_cli());
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let mut version = run();
    if version.arg("--version").output().is_ok() {
        return Some(run());
    }
    let _ = writeln!(
        stderr(),
        "skipped: a file that cannot be read: nobody else can run chat-cli"
    );
    None
}

/// A port that nobody listens on.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").to_string()
}

#[test]
fn arguments_that_make_no_sense() {
    let cases: &[(&[&str], &str)] = &[
        (&["conect"], "unrecognized subcommand 'conect'"),
        (&["serve", "--tpc"], "unexpected argument '--tpc'"),
        (&["connect", "--tcp", "9999"], "expected HOST:PORT, as in "),
        (&["connect", "--tcp", ":9999"], "expected HOST:PORT, as in "),
        (
            &["connect", "--tcp", "localhost"],
            "expected HOST:PORT, as in ",
        ),
        (
            &["connect", "--tcp", "localhost:"],
            "expected HOST:PORT, as in ",
        ),
        (
            &["connect", "--tcp", "127.0.0.1:99999"],
            "expected HOST:PORT, as in ",
        ),
        (
            &["connect", "--tcp", "::1:9999"],
            "expected HOST:PORT, as in ",
        ),
        (
            &["connect", "--tcp", "http://localhost:80"],
            "expected HOST:PORT, as in ",
        ),
        (
            &["serve", "--tcp", "nonsense"],
            "expected HOST:PORT, as in ",
        ),
        (&["serve", "--unix", ""], "a value is required for '--unix"),
        (&["connect", "--tcp", "--unix"], "cannot be used with"),
        (
            &["connect", "--interactive", "--file", "-"],
            "cannot be used with",
        ),
        (
            &["connect", "--wait", "soon"],
            "invalid value 'soon' for '--wait",
        ),
        (&["connect", "--wait", "5"], "invalid value '5' for '--wait"),
        (
            &["connect", "--wait=-5s"],
            "invalid value '-5s' for '--wait",
        ),
        (
            &["connect", "--heartbeat", "5 bananas"],
            "invalid value '5 bananas'",
        ),
        (
            &["connect", "--wait", "99999999999999999999s"],
            "invalid value",
        ),
        (&["serve", "--grace", ""], "'--grace"),
        (
            &["serve", "--idle-timeout", "x"],
            "invalid value 'x' for '--idle-timeout",
        ),
        (
            &["serve", "--max-connections", "0"],
            "invalid value '0' for '--max-connections",
        ),
        (
            &["serve", "--max-connections", "many"],
            "invalid value 'many'",
        ),
    ];
    for (arguments, complaint) in cases {
        let refused = run(arguments).expect(2);
        assert!(
            refused.stderr.contains(complaint),
            "no {complaint:?} in {refused}"
        );
        assert_eq!(refused.text(), "");
    }
    let place = free_port();
    for (idle, heartbeat) in [("5s", "5s"), ("1s", "5s"), ("4999ms", "5s")] {
        for mode in ["serve", "connect"] {
            let times = ["--idle-timeout", idle, "--heartbeat", heartbeat];
            let refused = run(&[&[mode, "--tcp", &place], &times[..]].concat());
            refused.fails(2, &["--idle-timeout must be longer than --heartbeat"]);
        }
    }
}

#[test]
fn no_server() {
    let folder = folder();
    let (none, file) = (folder.path().join("none"), folder.path().join("file"));
    fs::write(&file, "not a socket").expect("a file can be written");
    let stale = folder.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket can be bound"));
    let place = free_port();
    let cases = [
        ("--tcp", place.as_str(), "Connection refused"),
        (
            "--tcp",
            "no-such-host.invalid:9999",
            "no-such-host.invalid:9999",
        ),
        ("--unix", text(&none), "No such file"),
        ("--unix", text(&file), "Connection refused"),
        ("--unix", text(&stale), "Connection refused"),
    ];
    for (kind, place, why) in cases {
        for input in [&["--file", "-"][..], &[]] {
            let failed = run(&[&["connect", kind, place], input].concat());
            let failed = failed.fails(
                69,
                &[
                    "cannot connect to",
                    place,
                    why,
                    "is the server running there?",
                ],
            );
            assert_eq!(failed.stderr.lines().count(), 1, "{failed}");
        }
    }
}

#[test]
fn files_that_cannot_be_read() {
    let server = Server::start(Transport::Unix, &[]);
    let missing = server.path("missing");
    let cases = [
        (
            text(missing.parent().expect("a folder")),
            " is a directory; give a file",
        ),
        (text(&missing), "No such file"),
    ];
    for (path, why) in cases {
        server.run(&["--file", path], "").fails(74, &[path, why]);
    }
    let closed = server.path("closed");
    fs::write(&closed, "secret").expect("a file can be written");
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).expect("it is ours");
    if let Some(mut unprivileged) = unprivileged() {
        let folder = closed.parent().expect("a folder");
        fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("it is ours");
        unprivileged.args(["connect", "--unix", "none", "--file", text(&closed)]);
        let failed = Program::start(&mut unprivileged).finish();
        failed.fails(74, &["cannot read", text(&closed), "Permission denied"]);
    }
    // Nobody was bothered.
    assert!(!server.stop().stderr.contains("session"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_without_a_writer_can_be_given_up() {
    let server = Server::start(Transport::Unix, &[]);
    let pipe = server.path("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe can be made");
    let client = server.client(&["--file", text(&pipe)]);
    // Once it handles signals, which a program can only be asked for by sending one.
    let status = format!("/proc/{}/status", client.id());
    let handles = || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask & (1 << (15 - 1)) != 0)
    };
    until("signals are handled", handles);
    client.signal(Signal::TERM);
    client.wait().fails(130, &["interrupted"]);

    // With a writer it is a file like others.
    let client = server.client(&["--file", text(&pipe)]);
    fs::write(&pipe, "one\ntwo\n").expect("somebody reads it");
    assert_eq!(client.wait().expect(0).text(), "one\ntwo\n");
}

#[test]
fn keys_that_cannot_be_used() {
    let folder = folder();
    let path = |name| folder.path().join(name);
    for (name, content, mode) in [
        ("open", &b"a key"[..], 0o644),
        ("group", b"a key", 0o640),
        ("writable", b"a key", 0o602),
        ("empty", b"", 0o600),
        ("long", &[b'k'; 5000], 0o600),
        ("closed", b"a key", 0),
    ] {
        fs::write(path(name), content).expect("a file can be written");
        fs::set_permissions(path(name), Permissions::from_mode(mode)).expect("it is ours");
    }
    let cases = [
        ("open", "others have access to it; run: chmod 600 "),
        ("group", "others have access to it; run: chmod 600 "),
        ("writable", "others have access to it; run: chmod 600 "),
        ("empty", "empty; make one with: chat-cli keygen"),
        ("long", "longer than 4096 bytes"),
        ("missing", "No such file"),
        ("", "not a file"),
    ];
    let place = free_port();
    for (name, why) in cases {
        for mode in ["serve", "connect"] {
            let key = path(name);
            let refused = run(&[mode, "--tcp", &place, "--key-file", text(&key)]);
            let refused = refused.fails(77, &["key file", text(&key), why]);
            assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
        }
    }
    if let Some(mut unprivileged) = unprivileged() {
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let key = path("closed");
        unprivileged.args(["connect", "--unix", "none", "--key-file", text(&key)]);
        let failed = Program::start(&mut unprivileged).finish();
        failed.fails(77, &["key file", text(&key), "Permission denied"]);
    }
    let nowhere = path("none").join("key");
    run(&["keygen", text(&nowhere)]).fails(74, &["cannot make", text(&nowhere), "No such file"]);
    // Not through a link either, whether it leads anywhere or not.
    for (link, target) in [("to-open", "open"), ("to-nothing", "nothing")] {
        symlink(path(target), path(link)).expect("a link can be made");
        run(&["keygen", text(&path(link))]).fails(74, &["it exists, and no file is overwritten"]);
    }
    assert!(!path("nothing").exists());
    assert_eq!(fs::read(path("open")).expect("it is there"), b"a key");
}

#[test]
fn the_default_key_is_for_this_machine_only() {
    for place in ["0.0.0.0:0", "[::]:0"] {
        let refused = run(&["serve", "--tcp", place]);
        let refused = refused.fails(
            77,
            &[place, "can be reached by others", "--allow-default-key"],
        );
        assert_eq!(refused.text(), "");
    }
    let refused = run(&["serve", "--tcp", "127.0.0.1:0", "--tcp", "0.0.0.0:0"]);
    refused.fails(77, &["0.0.0.0:0 can be reached by others"]);

    let folder = folder();
    let key = folder.path().join("key");
    run(&["keygen", text(&key)]).expect(0);
    for allowed in [&["--allow-default-key"][..], &["--key-file", text(&key)]] {
        let server = Server::start_at(["--tcp", "0.0.0.0:0"], allowed);
        let (host, port) = server.place().rsplit_once(':').expect("a port");
        assert_eq!(host, "0.0.0.0");
        let place = format!("127.0.0.1:{port}");
        let own = if allowed.len() == 2 { allowed } else { &[] };
        let connect = [&["connect", "--file", "-", "--tcp", &place], own].concat();
        assert_eq!(
            Program::run(connect, b"hello\n").expect(0).text(),
            "hello\n"
        );
        server.stop();
    }
}

#[test]
fn nobody_reads_what_it_writes() {
    let folder = folder();
    let key = folder.path().join("key");
    Program::unheard(Unheard::Output, ["keygen", text(&key)])
        .wait()
        .fails(74, &["cannot write to standard output"]);
    Program::unheard(Unheard::Output, ["serve", "--tcp", "127.0.0.1:0"])
        .wait()
        .fails(74, &["cannot write to standard output"]);
    for transport in Transport::ALL {
        let server = Server::start(transport, &[]);
        let connect = ["connect"]
            .into_iter()
            .chain(server.address())
            .chain(["--file", "-"]);
        let mut client = Program::unheard(Unheard::Output, connect.clone());
        client.write("one\ntwo\n");
        client
            .wait()
            .fails(74, &["cannot write to standard output"]);
        // Nor on standard error: the code still tells.
        let mut client = Program::unheard(Unheard::Both, connect);
        client.write("one\ntwo\n");
        client.wait().expect(74);
        server.stop();
    }
    let place = free_port();
    for arguments in [
        &["connect", "--tcp", &place, "--file", "-"][..],
        &["connect", "--tcp", &place],
        &["serve", "--unix", text(folder.path())],
    ] {
        Program::unheard(Unheard::Both, arguments)
            .finish()
            .expect(69);
    }
    Program::unheard(Unheard::Both, ["serve", "--tcp", "127.0.0.1:0"])
        .wait()
        .expect(74);
    // A server whose log nobody reads any more goes on.
    let server = Program::unheard(Unheard::Error, ["serve", "--tcp", "127.0.0.1:0"]);
    let line = server.line("listening on tcp ");
    let place = line.rsplit(' ').next().expect("a place");
    for _ in 0..2 {
        let sent = Program::run(["connect", "--tcp", place, "--file", "-"], b"hello\n");
        assert_eq!(sent.expect(0).text(), "hello\n");
    }
    server.signal(Signal::TERM);
    server.wait().expect(0);
}

//! Who may connect to a server, and what bounds each client of it.

use std::fs::{self, Permissions};
use std::io::{Read, Write, stderr};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use chat_core::frame::{Decoder, Encoder, Extra, Frame, FrameKind, LEGACY_MIN_FRAME, Limits};
use chat_core::{ContentType, Key, Uuid};
use chat_tests::program::files::{Inbox, noise};
use chat_tests::program::{
    Finished, PATIENCE, Program, Server, Signal, Transport, chat_cli, lines, until,
};
use rustix::process::geteuid;

/// How a server that is told to stop counts what it has seen.
#[track_caller]
fn counted(server: Server, counts: &[&str]) {
    let stopped = server.stop();
    let last = stopped.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("INFO stopped"), "{stopped}");
    for count in counts {
        assert!(last.contains(count), "no {count:?} in {last}");
    }
}

fn hello(server: &Server) -> Finished {
    server.run(&["--file", "-"], "hello\n")
}

#[track_caller]
fn is_let_in(server: &Server) {
    assert_eq!(hello(server).expect(0).text(), "hello\n");
}

#[track_caller]
fn is_turned_away(server: &Server, why: &str) {
    let told = hello(server).fails(69, &["refused by the server: ", why]);
    assert_eq!(
        (told.text(), told.stderr.lines().count()),
        (String::new(), 1)
    );
}

/// Somebody who connects and says nothing.
enum Silent {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Silent {
    /// Connects, and waits until the server has taken notice.
    fn at(server: &Server) -> Self {
        let mut silent = match server.address() {
            ["--tcp", place] => Self::Tcp(TcpStream::connect(place).expect("it listens")),
            [_, path] => Self::Unix(UnixStream::connect(path).expect("it listens")),
        };
        let first = &mut [0];
        let read = match &mut silent {
            Self::Tcp(stream) => stream.read_exact(first),
            Self::Unix(stream) => stream.read_exact(first),
        };
        read.expect("the server speaks first");
        silent
    }
}

#[test]
fn values_that_make_no_sense() {
    let cases: &[(&str, &[&str])] = &[
        (
            "--allow-uid",
            &["root", "-1", "1,,2", "1,", "1 2", "4294967296", ""],
        ),
        ("--max-handshakes", &["0", "-1", "many", ""]),
        ("--max-per-address", &["0", "-1", "many", ""]),
        (
            "--max-rate",
            &["-1", "1.5", "fast", "18446744073709551616", ""],
        ),
        (
            "--max-bandwidth",
            &["-1", "10k", "18446744073709551616", ""],
        ),
        ("--max-errors", &["-1", "none", ""]),
        ("--min-security", &["none", "SEC", ""]),
    ];
    for (option, values) in cases {
        for value in *values {
            let argument = format!("{option}={value}");
            let refused = Program::run(["serve", "--tcp", "127.0.0.1:0", &argument], b"");
            let refused = refused.expect(2);
            assert!(refused.stderr.contains(option), "{refused}");
            assert_eq!(refused.text(), "");
        }
    }
    for option in ["--key-dir=keys", "--allow-uid=0", "--max-rate=1"] {
        let refused = Program::run(["connect", option], b"").expect(2);
        assert!(refused.stderr.contains("unexpected argument"), "{refused}");
    }
}

#[test]
fn only_the_users_who_are_allowed_are_let_in() {
    let own = geteuid().as_raw();
    let (alone, among) = (own.to_string(), format!("{},{own}", own + 1));
    let twice = (own + 1).to_string();
    for options in [
        &["--allow-uid", &alone][..],
        &["--allow-uid", &among],
        &["--allow-uid", &twice, "--allow-uid", &alone],
    ] {
        let server = Server::start(Transport::Unix, options);
        let metadata = fs::symlink_metadata(server.place()).expect("it is there");
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o666);
        is_let_in(&server);
        server.program().log(&format!("peer=unix uid {own} pid "));
        counted(server, &["refused_users: 0,"]);
    }

    let others = format!("{},{}", own + 1, own + 2);
    let server = Server::start(Transport::Unix, &["--allow-uid", &others]);
    let why = format!("User {own} is not among those who may connect here");
    is_turned_away(&server, &why);
    is_turned_away(&server, &why);
    counted(server, &["accepted: 0,", "refused_users: 2,"]);

    // It is about Unix sockets alone.
    let server = Server::start(Transport::Tcp, &["--allow-uid", &others]);
    is_let_in(&server);
    server.stop();
}

#[test]
fn another_user_is_let_in_by_number() {
    const OTHER: u32 = 65534;
    let as_other = |arguments: &[&str]| {
        let mut command = Command::new(chat_cli());
        command.args(arguments).uid(OTHER).gid(OTHER);
        command
    };
    if !geteuid().is_root() || as_other(&["--version"]).output().is_err() {
        let _ = writeln!(stderr(), "skipped: nobody else can run chat-cli");
        return;
    }
    for allowed in ["0", "65534"] {
        let server = Server::start(Transport::Unix, &["--allow-uid", allowed]);
        let path = Path::new(server.place());
        let folder = path.parent().expect("a folder");
        fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("it is ours");
        let connect = ["connect", "--unix", server.place(), "--file", "-"];
        let other = Program::start(&mut as_other(&connect)).finish_with("hello\n");
        if allowed == "65534" {
            assert_eq!(other.expect(0).text(), "hello\n");
            server.program().log("peer=unix uid 65534 pid ");
            is_turned_away(&server, "User 0 is not among those who may connect here");
        } else {
            other.fails(69, &["User 65534 is not among those who may connect here"]);
            is_let_in(&server);
        }
        server.stop();
    }
}

#[test]
fn those_who_never_say_who_they_are_leave_room_for_others() {
    const WHY: &str = "Too many connections begin at the same time (limit 2): try again";
    for transport in Transport::ALL {
        let server = Server::start(transport, &["--max-handshakes", "2"]);
        let mut guests = [
            server.guest("Ann"),
            server.guest("Ben"),
            server.guest("Cleo"),
        ];
        let silent = [Silent::at(&server), Silent::at(&server)];
        is_turned_away(&server, WHY);
        is_turned_away(&server, WHY);
        // Who was there before does not notice.
        guests[0].say("still here");
        guests[2].hears("still here");
        drop(silent);
        until("there is room again", || hello(&server).code == Some(0));
        for guest in guests {
            guest.leave();
        }
        let log = server.stop().stderr;
        assert!(!log.contains("refused_handshakes: 0,"), "{log}");
        assert!(log.contains("failed_handshakes: 2,"), "{log}");
    }
}

#[test]
fn one_address_has_so_many_connections() {
    const WHY: &str = "Too many connections from your address (limit 2)";
    let server = Server::start(Transport::Tcp, &["--max-per-address", "2"]);
    let mut guest = server.guest("Ann");
    let silent = Silent::at(&server);
    is_turned_away(&server, WHY);
    guest.say("still here");
    drop(silent);
    until("there is room again", || hello(&server).code == Some(0));
    guest.leave();
    let log = server.stop().stderr;
    assert!(!log.contains("refused_addresses: 0,"), "{log}");

    // Unix sockets have none.
    let server = Server::start(Transport::Unix, &["--max-per-address", "1"]);
    let guests = [server.guest("Ann"), server.guest("Ben")];
    is_let_in(&server);
    for guest in guests {
        guest.leave();
    }
    counted(server, &["refused_addresses: 0,"]);
}

#[test]
fn who_sends_too_much_is_read_more_slowly_and_loses_nothing() {
    const TOLD: &str = "chat-cli: the server reports: You send more than 100 messages a second: \
                        you are read from more slowly\n";
    let text = lines(300, |number| format!("line {number}\n"));
    for transport in Transport::ALL {
        let server = Server::start(transport, &["--echo", "--max-rate", "100"]);
        let begun = Instant::now();
        let sent = server.run(&["--file", "-"], text.clone()).expect(0);
        // 100 at once, and 200 in the two seconds after that.
        assert!(begun.elapsed() > Duration::from_millis(1800), "{sent}");
        assert_eq!((sent.text(), sent.stderr.as_str()), (text.clone(), TOLD));
        is_let_in(&server);
        counted(server, &["accepted: 2,", "throttled: 1,"]);
    }
}

#[test]
fn a_file_takes_as_long_as_the_bandwidth_says() {
    const SIZE: usize = 600_000;
    let server = Server::start(Transport::Tcp, &["--max-bandwidth", "200000"]);
    let inbox = Inbox::open(&server, "inbox");
    let (file, content) = (server.path("file"), noise(SIZE, 1));
    fs::write(&file, &content).expect("a file can be written");
    let begun = Instant::now();
    let sent = server.run(&["--send", file.to_str().expect("the path is text")], "");
    let sent = sent.expect(0);
    // A third at once, and the others in the two seconds after that.
    assert!(begun.elapsed() > Duration::from_millis(1800), "{sent}");
    let told = "the server reports: You send more than 200000 bytes a second: you are read from \
                more slowly";
    assert_eq!(sent.stderr.matches(told).count(), 1, "{sent}");
    let saved = server.path("inbox").join("file");
    until("the file is stored", || saved.exists());
    assert!(fs::read(&saved).expect("it is there") == content);
    drop(inbox);
    counted(server, &["throttled: 1,"]);
}

#[test]
fn nought_is_no_limit() {
    let options = [
        "--echo",
        "--max-rate",
        "0",
        "--max-bandwidth",
        "0",
        "--max-errors",
        "0",
    ];
    let server = Server::start(Transport::Unix, &options);
    let text = lines(20_000, |number| format!("line {number}\n"));
    let sent = server.run(&["--file", "-"], text.clone()).expect(0);
    assert_eq!((sent.text() == text, sent.stderr.as_str()), (true, ""));
    counted(server, &["throttled: 0,"]);
}

/// A version 1 client, frame by frame.
struct Old {
    stream: TcpStream,
    encoder: Encoder,
    decoder: Decoder,
    input: Vec<u8>,
    session: Option<Uuid>,
}

impl Old {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.place()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it can be");
        let mut old = Self {
            stream,
            encoder: Encoder::new(Key::default()),
            decoder: Decoder::new(Key::default(), Limits::default()),
            input: Vec::new(),
            session: None,
        };
        let init = old.read().expect("the server speaks first");
        assert_eq!(init.kind, FrameKind::SessionInit);
        old.session = init.session;
        old.send(FrameKind::SessionAck, "Session acknowledged");
        old
    }

    /// Sends a frame. That the server is gone is no error.
    fn send(&mut self, kind: FrameKind, content: &'static str) {
        let frame = Frame {
            kind,
            content_type: ContentType::TEXT,
            session: self.session,
            content: content.into(),
            extra: Extra::None,
        };
        let frame = self.encoder.encode(&frame, LEGACY_MIN_FRAME);
        let _ = self.stream.write_all(&frame.expect("it fits").to_vec());
    }

    /// The next frame; `None` at the end.
    fn read(&mut self) -> Option<Frame> {
        loop {
            let mut rest = &self.input[..];
            let frame = self.decoder.decode(&mut rest).expect("a frame");
            let taken = self.input.len() - rest.len();
            self.input.drain(..taken);
            if frame.is_some() {
                return frame;
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).expect("it comes in time") {
                0 => return None,
                count => self.input.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// The next frame that is no heartbeat: its kind, and what it says.
    fn hears(&mut self) -> Option<(FrameKind, String)> {
        loop {
            let frame = self.read()?;
            if frame.kind != FrameKind::Heartbeat {
                let said = String::from_utf8(frame.content.to_vec());
                return Some((frame.kind, said.expect("it is text")));
            }
        }
    }
}

#[test]
fn who_makes_too_many_errors_is_told_and_cut_off() {
    for (options, few, many) in [(&["--max-errors", "3"][..], 3, 4), (&[], 32, 40)] {
        let server = Server::start(Transport::Tcp, options);
        let mut guest = server.guest("Ann");
        let mut old = Old::connect(&server);
        for _ in 0..few {
            old.send(FrameKind::Error, "I do not like this");
        }
        old.send(FrameKind::Message, "still here");
        assert_eq!(old.hears(), Some((FrameKind::Message, "still here".into())));
        for _ in 0..many {
            old.send(FrameKind::Error, "nor this");
        }
        let (kind, told) = old.hears().expect("it is told");
        assert_eq!(
            (kind, told.contains("too many errors")),
            (FrameKind::Error, true)
        );
        let (kind, told) = old.hears().expect("it is told");
        assert_eq!(
            (kind, told.contains("Protocol error")),
            (FrameKind::Disconnect, true)
        );
        old.stream.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(old.hears(), None);
        guest.say("still here");
        guest.leave();
        server.program().log("reason=Protocol(TooManyErrors)");
        counted(server, &["too_many_errors: 1,"]);
    }
}

#[test]
fn errors_that_are_not_counted_end_nothing() {
    let server = Server::start(Transport::Tcp, &["--max-errors", "0"]);
    let mut old = Old::connect(&server);
    for _ in 0..200 {
        old.send(FrameKind::Error, "I do not like this");
    }
    old.send(FrameKind::Message, "still here");
    assert_eq!(old.hears(), Some((FrameKind::Message, "still here".into())));
    drop(old);
    counted(server, &["too_many_errors: 0,"]);
}

/// Between a client and a server, until it is told to cut them off.
fn cut(server: &Server) -> (String, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let place = listener.local_addr().expect("it is bound").to_string();
    let (server, (sender, cut)) = (server.place().to_owned(), mpsc::channel());
    thread::spawn(move || {
        let near = listener.accept().expect("somebody comes").0;
        let far = TcpStream::connect(server).expect("it listens");
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
            thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
        let _ = cut.recv();
        near.shutdown(Shutdown::Both)?;
        far.shutdown(Shutdown::Both)
    });
    (place, sender)
}

#[test]
fn what_ends_without_a_goodbye_is_truncated() {
    const TRUNCATED: &[&str] = &["truncated: the peer ended without a goodbye"];
    let server = Server::start(Transport::Tcp, &[]);
    let mut guest = server.guest("Ann");
    let (place, scissors) = cut(&server);
    let mut victim = Program::chat(["connect", "--tcp", &place, "--wait", "60s"]);
    victim.write("one\n");
    victim.line("one");
    scissors.send(()).expect("it waits");
    assert_eq!(victim.wait().fails(74, TRUNCATED).text(), "one\n");
    guest.say("still here");

    let mut other = server.client(&["--wait", "60s"]);
    other.write("two\n");
    guest.hears("two");
    other.line("two");
    server.program().signal(Signal::KILL);
    assert_eq!(server.wait().code, None);
    other.wait().fails(74, TRUNCATED);
    guest.wait().fails(74, TRUNCATED);
}

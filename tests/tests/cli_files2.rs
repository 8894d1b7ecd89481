//! Files: names that others choose, what cannot be sent or stored, servers that take no pieces; and
//! long lines.

use std::fs::{self, File, Permissions};
use std::io::{Write, stderr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use chat_tests::program::files::{Inbox, eve, feed, names, noise, pipe, text};
use chat_tests::program::peer::{self, Padding, PeerServer};
use chat_tests::program::{Program, Server, Signal, Transport, chat_cli, until};
use chat_tokio::{Client, SendStream, Transfer};

async fn send(eve: &Client, name: &str, content: &str) {
    let transfer = Transfer::new("text/plain").total(content.len() as u64);
    let stream = eve.send_stream(transfer.name(name));
    let mut stream = stream.expect("the server takes pieces");
    stream.write(content.to_owned()).await.expect("it is taken");
    stream.finish().await.expect("it is taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_name_leads_out_of_the_directory() {
    let server = Server::start(Transport::Unix, &[]);
    let inbox = Inbox::open(&server, "deep/down/in");
    let eve = eve(&server).await;
    let long = "x".repeat(1024);
    let wide = format!("{}.tar.gz", "世".repeat(300));
    let cases = [
        ("../../etc/passwd", "passwd"),
        ("/etc/shadow", "shadow"),
        ("../up", "up"),
        ("../../up2", "up2"),
        ("a/b/c", "c"),
        ("..\\..\\windows", "windows"),
        ("C:\\autoexec.bat", "autoexec.bat"),
        ("/", "unnamed"),
        (".", "unnamed (1)"),
        ("..", "unnamed (2)"),
        ("../", "unnamed (3)"),
        ("a//", "unnamed (4)"),
        ("  ", "unnamed (5)"),
        ("./.", "unnamed (6)"),
        ("...", "_.."),
        (".bashrc", "_bashrc"),
        ("/root/.ssh/.config", "_config"),
        (" .profile", "_profile"),
        (".chat-123456.part", "_chat-123456.part"),
        ("-rf", "_rf"),
        ("nul\0.txt", "nul_.txt"),
        ("new\nchat-cli: saved line", "new_chat-cli: saved line"),
        ("\x1b[2J\x1b]0;title\x07.txt", "_[2J_]0;title_.txt"),
        ("\u{9b}2J\x7f\r", "_2J__"),
        ("\u{202e}gnp.exe", "_gnp.exe"),
        ("tab\tle\u{2028}ft", "tab_le_ft"),
        ("%s%n$(id)`id`;id|&*?~", "%s%n$(id)`id`;id|&*?~"),
        ("Grüße, 世界 🌍", "Grüße, 世界 🌍"),
    ];
    for (number, (name, kept)) in cases.iter().enumerate() {
        let content = format!("number {number}");
        send(&eve, name, &content).await;
        let stored = inbox.saved(kept);
        assert_eq!(String::from_utf8_lossy(&stored), content, "{name:?}");
    }
    for name in [&long, &wide] {
        send(&eve, name, name).await;
        inbox.program().log(&format!("({} bytes)", name.len()));
    }
    let stored = names(inbox.dir());
    assert_eq!(stored.len(), cases.len() + 2, "{stored:?}");
    let is_long = |name: &&String| name.len() > 200;
    let long: Vec<_> = stored.iter().filter(is_long).collect();
    assert_eq!(long.len(), 2, "{stored:?}");
    for name in long {
        let content = fs::read_to_string(inbox.path(name)).expect("it can be read");
        let (stem, extension) = name.split_at(name.rfind(".gz").unwrap_or(name.len()));
        assert!(name.len() <= 255 && content.starts_with(stem), "{name}");
        assert!(content.ends_with(extension), "{name}");
    }
    // Nothing beside it, and nothing above it but what was there.
    assert_eq!(names(&server.path("deep/down")), ["in"]);
    assert_eq!(names(&server.path("deep")), ["down"]);
    let place = server.path("deep");
    let folder = names(place.parent().expect("a folder"));
    assert_eq!(folder, ["chat.sock", "chat.sock.lock", "deep"]);
    // One line for each, and none that steers a terminal.
    let said = inbox.leave().stderr;
    assert_eq!(said.lines().count(), cases.len() + 3, "{said}");
    assert!(
        !said.contains(|c: char| c.is_control() && c != '\n'),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_that_is_there_is_overwritten() {
    let server = Server::start(Transport::Tcp, &[]);
    let inbox = Inbox::open(&server, "in");
    let outside = server.path("outside");
    fs::write(&outside, "precious").expect("a file can be written");
    fs::write(inbox.path("file"), "precious").expect("a file can be written");
    fs::write(inbox.path("file (1)"), "").expect("a file can be written");
    fs::create_dir(inbox.path("dir")).expect("a directory can be made");
    symlink(&outside, inbox.path("link")).expect("a link can be made");
    symlink(server.path("nothing"), inbox.path("broken")).expect("a link can be made");
    symlink(".", inbox.path("self")).expect("a link can be made");
    let longest = format!("{}.txt", "x".repeat(245));
    fs::write(inbox.path(&longest), "precious").expect("a file can be written");
    let eve = eve(&server).await;
    for (name, kept) in [
        ("file", "file (2)"),
        ("dir", "dir (1)"),
        ("link", "link (1)"),
        ("link/x", "x"),
        ("broken", "broken (1)"),
        ("self", "self (1)"),
    ] {
        send(&eve, name, "new").await;
        assert_eq!(inbox.saved(kept), b"new", "{name}");
    }
    send(&eve, &longest, "new").await;
    inbox.program().log(" (1).txt (3 bytes)");
    for path in [&outside, &inbox.path("file"), &inbox.path(&longest)] {
        let content = fs::read(path).expect("it is there");
        assert_eq!(content, b"precious", "{}", path.display());
    }
    assert!(!server.path("nothing").exists());
    assert!(names(&inbox.path("dir")).is_empty());
    assert_eq!(names(inbox.dir()).len(), 7 + 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_same_name_at_the_same_time_makes_several_files() {
    const COUNT: usize = 8;
    let server = Server::start(Transport::Tcp, &[]);
    let inbox = Inbox::open(&server, "in");
    let eve = eve(&server).await;
    let content = |number: usize| format!("{number} ").repeat(20_000);
    let begin = || {
        let transfer = Transfer::new("text/plain").name("same.txt");
        eve.send_stream(transfer).expect("the server takes pieces")
    };
    let mut streams: Vec<SendStream> = (0..COUNT).map(|_| begin()).collect();
    for half in 0..2 {
        for (number, stream) in streams.iter_mut().enumerate() {
            let content = content(number);
            let (first, second) = content.split_at(20_000);
            let part = [first, second][half].to_owned();
            stream.write(part).await.expect("it is taken");
        }
    }
    for stream in streams {
        stream.finish().await.expect("it is taken");
    }
    let mut expected: Vec<_> = (0..COUNT).map(content).collect();
    let mut arrived: Vec<_> = (0..COUNT)
        .map(|number| match number {
            0 => "same.txt".to_owned(),
            number => format!("same ({number}).txt"),
        })
        .map(|name| String::from_utf8(inbox.saved(&name)).expect("it is text"))
        .collect();
    expected.sort();
    arrived.sort();
    assert!(arrived == expected, "what arrived was mixed up");
    assert_eq!(names(inbox.dir()).len(), COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_file_that_is_given_up_leaves_nothing_behind() {
    let server = Server::start(Transport::Unix, &[]);
    let inbox = Inbox::open(&server, "in");
    let eve = eve(&server).await;
    let begin = |name: &str| {
        let transfer = Transfer::new("text/\x1b[31mred")
            .total(1_000_000)
            .name(name);
        eve.send_stream(transfer).expect("the server takes pieces")
    };
    for (name, how) in [
        ("one", "\x1b[2Jno longer wanted\nchat-cli: saved x"),
        ("two", ""),
    ] {
        let mut stream = begin(name);
        stream.write(vec![7; 500_000]).await.expect("it is taken");
        inbox.part();
        if how.is_empty() {
            drop(stream);
        } else {
            stream.cancel(how);
        }
        inbox.program().log(&format!("chat-cli: {name} (text/"));
        assert!(names(inbox.dir()).is_empty());
    }
    send(&eve, "three", "whole").await;
    assert_eq!(inbox.saved("three"), b"whole");
    let said = inbox.leave().stderr;
    assert_eq!(
        said.matches(" did not arrive: given up").count(),
        2,
        "{said}"
    );
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(
        !said.contains(|c: char| c.is_control() && c != '\n'),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_directory_that_goes_away_costs_one_file() {
    let server = Server::start(Transport::Unix, &[]);
    let inbox = Inbox::open(&server, "in");
    let eve = eve(&server).await;
    fs::remove_dir(inbox.dir()).expect("it is empty");
    send(&eve, "one", "x").await;
    inbox
        .program()
        .log("one (text/plain, 1 B) cannot be stored: No such file");
    fs::create_dir(inbox.dir()).expect("it was removed");
    send(&eve, "two", "x").await;
    assert_eq!(inbox.saved("two"), b"x");
    inbox.leave();
    assert!(Path::new(text(&server.path("in"))).exists());
}

/// `chat-cli`, run by someone who may not read and write everything.
fn unprivileged(what: &str) -> Option<Command> {
    const NOBODY: u32 = 65534;
    let run = || {
        let mut command = Command::new(chat_cli());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let there = run().arg("--version").output().is_ok();
    if !there {
        let _ = writeln!(stderr(), "skipped: {what}: nobody else can run chat-cli");
    }
    there.then(run)
}

#[test]
fn arguments_that_exclude_each_other() {
    let cases: &[(&[&str], &str)] = &[
        (&["--send"], "a value is required for '--send"),
        (&["--save-dir"], "a value is required for '--save-dir"),
        (&["--send", "a", "--file", "b"], "cannot be used with"),
        (&["--file", "-", "--send", "a"], "cannot be used with"),
        (&["--send", "a", "--interactive"], "cannot be used with"),
        (&["a", "--send", "b"], "unexpected argument 'a'"),
    ];
    for (arguments, complaint) in cases {
        let refused = Program::run(["connect"].iter().chain(*arguments), b"").expect(2);
        assert!(refused.stderr.contains(complaint), "{refused}");
        assert_eq!(refused.text(), "");
    }
}

#[test]
fn files_that_cannot_be_sent() {
    let server = Server::start(Transport::Unix, &[]);
    let path = |name| server.path(name);
    fs::create_dir(path("dir")).expect("a directory can be made");
    fs::write(path("good"), "good").expect("a file can be written");
    symlink("nothing", path("broken")).expect("a link can be made");
    for (name, why) in [
        ("missing", "No such file"),
        ("broken", "No such file"),
        ("good/x", "Not a directory"),
        ("dir", "is a directory; give files"),
        ("chat.sock", "is a socket; give files"),
    ] {
        // One of them is enough: nothing is sent.
        let (good, bad) = (path("good"), path(name));
        let failed = server.run(&["--send", text(&good), text(&bad)], "");
        let failed = failed.fails(74, &[text(&bad), why]);
        assert_eq!(failed.stderr.lines().count(), 1, "{failed}");
    }
    if let Some(mut command) = unprivileged("a file that cannot be read") {
        fs::set_permissions(path("good"), Permissions::from_mode(0o000)).expect("it is ours");
        fs::set_permissions(path("."), Permissions::from_mode(0o755)).expect("it is ours");
        command.args(["connect", "--unix", "none", "--send", text(&path("good"))]);
        let failed = Program::start(&mut command).finish();
        failed.fails(74, &["cannot read", "good", "Permission denied"]);
    }
    // Nobody was bothered.
    assert!(!server.stop().stderr.contains("session"));
}

#[test]
fn directories_that_take_no_files() {
    let server = Server::start(Transport::Unix, &[]);
    let path = |name| server.path(name);
    fs::write(path("file"), "precious").expect("a file can be written");
    symlink("nothing/at/all", path("broken")).expect("a link can be made");
    for (name, why) in [
        ("file", "File exists"),
        ("file/x", "Not a directory"),
        ("broken", "File exists"),
    ] {
        let dir = path(name);
        for more in [&[][..], &["--send", text(&path("file"))]] {
            let failed = server.run(&[&["--save-dir", text(&dir)], more].concat(), "hello\n");
            let failed = failed.fails(74, &["cannot save files in ", text(&dir), why]);
            assert_eq!(failed.text(), "");
        }
    }
    assert_eq!(fs::read(path("file")).expect("it is there"), b"precious");
    if let Some(mut command) = unprivileged("a directory that cannot be written to") {
        fs::create_dir(path("closed")).expect("a directory can be made");
        fs::set_permissions(path("closed"), Permissions::from_mode(0o555)).expect("it is ours");
        fs::set_permissions(path("."), Permissions::from_mode(0o755)).expect("it is ours");
        command.args([
            "connect",
            "--unix",
            "none",
            "--save-dir",
            text(&path("closed")),
        ]);
        let failed = Program::start(&mut command).finish();
        failed.fails(74, &["cannot save files in", "closed", "Permission denied"]);
    }
    assert!(!server.stop().stderr.contains("session"));
}

/// Where a process is in a file that it reads.
#[cfg(target_os = "linux")]
fn position(process: u32, path: &Path) -> u64 {
    let place = |folder| Path::new("/proc").join(process.to_string()).join(folder);
    let descriptors = fs::read_dir(place("fd")).expect("it runs");
    let mut descriptors = descriptors.filter_map(Result::ok);
    let found = descriptors.find(|fd| fs::read_link(fd.path()).is_ok_and(|it| it == path));
    let info = found.and_then(|fd| fs::read_to_string(place("fdinfo").join(fd.file_name())).ok());
    let position = info.and_then(|info| info.split_whitespace().nth(1)?.parse().ok());
    position.unwrap_or(0)
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_grows_while_it_is_sent_arrives_as_it_was() {
    const SIZE: u64 = 30_000_000;
    let server = Server::start(Transport::Unix, &[]);
    let inbox = Inbox::open(&server, "in");
    let path = server.path("growing");
    let file = File::create(&path).expect("a file can be made");
    file.set_len(SIZE).expect("it can be long");
    // As long as nobody takes it, it is not at its end.
    inbox.program().signal(Signal::STOP);
    let sender = server.client(&["--send", text(&path)]);
    until("it is on its way", || position(sender.id(), &path) > 0);
    file.set_len(3 * SIZE).expect("it can be longer");
    inbox.program().signal(Signal::CONT);
    sender.wait().expect(0);
    assert_eq!(inbox.saved("growing").len() as u64, SIZE);
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_does_not_arrive() {
    let server = Server::start(Transport::Unix, &[]);
    let inbox = Inbox::open(&server, "in");
    let path = server.path("shrinking");
    let file = File::create(&path).expect("a file can be made");
    file.set_len(4 << 30).expect("it can be long");
    let sender = server.client(&["--send", text(&path)]);
    inbox.part();
    file.set_len(1_000).expect("it can be shorter");
    let why = "it became shorter while it was sent";
    sender.wait().fails(74, &["shrinking was not sent", why]);
    let said = "shrinking (application/octet-stream, 4.00 GiB) did not arrive: given up";
    inbox.program().log(said);
    assert!(names(inbox.dir()).is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_sent_up_to_its_end_and_can_be_given_up_before() {
    let server = Server::start(Transport::Unix, &[]);
    let inbox = Inbox::open(&server, "in");
    let tap = server.path("tap.csv");
    pipe(&tap);
    let sender = server.client(&["--send", text(&tap)]);
    let content = noise(3_000_001, 1);
    drop(feed(&tap, &content));
    let sent = sender.wait().expect(0);
    assert_eq!(sent.stderr, "");
    assert!(inbox.saved("tap.csv") == content);
    // Without a writer.
    let sender = server.client(&["--send", text(&tap)]);
    let status = format!("/proc/{}/status", sender.id());
    until("signals are handled", || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask & (1 << (15 - 1)) != 0)
    });
    sender.signal(Signal::TERM);
    sender.wait().fails(130, &["interrupted"]);
}

#[test]
fn a_full_disk_costs_one_file() {
    // As full as that: 256 KiB may be in a file. Without the signal it is an error like others.
    const LIMITED: &str = "trap '' XFSZ; ulimit -f 512; exec \"$0\" \"$@\"";
    let server = Server::start(Transport::Unix, &[]);
    let mut command = Command::new("sh");
    command.args(["-c", LIMITED]).arg(chat_cli());
    let inbox = Inbox::run(command, &server, "in", &[]);
    let [large, small] = [("large", 5_000_000), ("small", 1_000)].map(|(name, size)| {
        fs::write(server.path(name), noise(size, 1)).expect("a file can be written");
        server.path(name)
    });
    // To the only one there is, so it may hear of it.
    server
        .run(&["--send", text(&large)], "")
        .fails(74, &["large was not sent"]);
    inbox
        .program()
        .log("large (application/octet-stream, 4.77 MiB) cannot be stored: File too large");
    server.run(&["--send", text(&small)], "").expect(0);
    assert_eq!(inbox.saved("small"), noise(1_000, 1));
    assert_eq!(names(inbox.dir()), ["small"]);
}

#[test]
fn whoever_reads_too_slowly_loses_its_copy_and_the_others_do_not_wait() {
    let server = Server::start(Transport::Tcp, &[]);
    let [slow, fast] = ["slow", "fast"].map(|name| Inbox::open(&server, name));
    let content = noise(90_000_000, 1);
    let path = server.path("large");
    fs::write(&path, &content).expect("a file can be written");
    slow.program().signal(Signal::STOP);
    server.run(&["--send", text(&path)], "").expect(0);
    assert!(fast.saved("large") == content);
    slow.program().signal(Signal::CONT);
    let said = "large (application/octet-stream, 85.83 MiB) did not arrive: given up";
    slow.program().log(said);
    assert!(names(slow.dir()).is_empty());
    fs::write(&path, "small").expect("a file can be written");
    server.run(&["--send", text(&path)], "").expect(0);
    assert_eq!(slow.saved("large"), b"small");
}

#[test]
fn a_server_of_version_1_gets_small_files_whole_and_large_ones_not_at_all() {
    const LARGEST: usize = 10_485_760;
    if !peer::is_there() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = |name| folder.path().join(name);
    for (name, size) in [
        ("empty", 0),
        ("small", 100_000),
        ("largest", LARGEST),
        ("large", LARGEST + 1),
    ] {
        fs::write(path(name), noise(size, 1)).expect("a file can be written");
    }
    let server = PeerServer::start(
        Transport::Tcp,
        "echo",
        Padding::Full,
        &["--connections", "4"],
    );
    let send = |name| server.client(&["--send", text(&path(name))]).finish();
    for name in ["small", "largest"] {
        let finished = send(name).expect(0);
        let said = (finished.text(), finished.stderr);
        assert_eq!(said, (String::new(), String::new()));
    }
    send("empty").fails(74, &["empty was not sent", "takes no empty messages"]);
    let why = "takes no messages in pieces, and at most 10485760 bytes in one";
    send("large").fails(74, &["large was not sent", why]);
    let counted = server.ok();
    assert!(counted.contains(" 2 messages"), "{counted}");
}

#[test]
fn a_server_of_version_1_gets_no_line_that_it_cannot_take() {
    const LARGEST: usize = 10_485_760;
    if !peer::is_there() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("lines");
    let why = "is longer than 10485760 bytes, the most that a message to this server may have";
    let options = ["--connections", "3"];
    let server = PeerServer::start(Transport::Unix, "echo", Padding::Full, &options);
    let largest = "x".repeat(LARGEST);
    for (name, line) in [("text", "x"), ("no text", "\u{7f}")] {
        let line = line.repeat(LARGEST + 1);
        fs::write(&path, format!("first\n\n{line}\nlast\n")).expect("a file can be written");
        let refused = server.client(&["--file", text(&path)]).finish();
        let refused = refused.fails(2, &["line 3 of ", text(&path), why]);
        assert_eq!(refused.text(), "", "{name}");
    }
    // What comes from a pipe cannot be looked at before.
    let refused = server
        .client(&["--file", "-"])
        .finish_with(format!("{largest}y\nlast\n"));
    let refused = refused.fails(2, &["line 1 of standard input", why, "it was not sent"]);
    assert_eq!(refused.text(), "");
    let server = PeerServer::start(Transport::Unix, "echo", Padding::Full, &[]);
    let client = server.client(&["--file", "-", "--wait", "60s"]);
    let sent = client.finish_with(format!(" {largest}\t\n")).expect(0);
    assert!(sent.stdout == format!("{largest}\n").into_bytes());
    let counted = server.ok();
    assert!(counted.contains(" 1 messages"), "{counted}");
}

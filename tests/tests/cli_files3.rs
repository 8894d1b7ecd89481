//! Files and long lines in odd circumstances: pipes that wait, ends in the middle, names that pose.

use std::fs;
use std::process::Command;

use chat_tests::program::files::{Inbox, eve, feed, names, noise, pipe, size, text};
use chat_tests::program::peer::{self, Padding, PeerServer};
use chat_tests::program::terminal::Terminal;
use chat_tests::program::{Program, Server, Signal, Transport, chat_cli, until};
use chat_tokio::Transfer;

/// Opening a pipe waits for its writer; the person at the terminal does not.
#[test]
fn send_of_a_pipe_without_a_writer_does_not_freeze_the_terminal() {
    let server = Server::start(Transport::Unix, &[]);
    let tap = server.path("tap");
    pipe(&tap);
    let mut terminal = Terminal::chat(["connect"].iter().chain(&server.address()));
    terminal.press("ready\r");
    terminal.row("< ready");
    terminal.press(format!("/send {}\r", text(&tap)));
    terminal.press("still here\r");
    terminal.row("< still here");
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.wait().0, 130, "{terminal}");
}

/// Whoever waits for a pipe can be interrupted, also if it goes to a server of version 1.
#[test]
fn a_pipe_for_a_server_of_version_1_can_be_given_up() {
    if !peer::is_there() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let tap = folder.path().join("tap");
    pipe(&tap);
    let server = PeerServer::start(Transport::Unix, "echo", Padding::Full, &[]);
    let sender = server.client(&["--send", text(&tap)]);
    let writer = feed(&tap, &noise(300_000, 1));
    sender.signal(Signal::TERM);
    sender.wait().fails(130, &["interrupted"]);
    drop(writer);
}

/// Files are opened one after the other.
#[test]
fn more_files_are_sent_than_can_be_open() {
    const LIMITED: &str = "ulimit -n 64; exec \"$0\" \"$@\"";
    let server = Server::start(Transport::Unix, &[]);
    let inbox = Inbox::open(&server, "in");
    let paths: Vec<_> = (0..100)
        .map(|number| server.path(&format!("file {number}")))
        .collect();
    for path in &paths {
        fs::write(path, "x").expect("a file can be written");
    }
    let mut command = Command::new("sh");
    command
        .args(["-c", LIMITED])
        .arg(chat_cli())
        .arg("connect")
        .args(server.address());
    Program::start(command.arg("--send").args(&paths))
        .finish()
        .expect(0);
    // The server has them all by now; what it has passed on is another matter.
    for number in 0..paths.len() {
        assert_eq!(inbox.saved(&format!("file {number}")), b"x");
    }
    assert_eq!(names(inbox.dir()).len(), paths.len());
}

/// What is said of a file is marked on every row: with a long name too it is no message.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_name_cannot_look_like_a_message() {
    let server = Server::start(Transport::Unix, &[]);
    let dir = server.path("in");
    let place = server.address();
    let options = ["--save-dir", text(&dir)];
    let mut terminal = Terminal::chat(["connect"].iter().chain(&place).chain(&options));
    terminal.press("ready\r");
    terminal.row("< ready");
    let eve = eve(&server).await;
    let name = format!("{}< Bob: yes, do it", "1".repeat(78));
    let transfer = Transfer::new("text/plain").total(1).name(&name);
    let mut stream = eve.send_stream(transfer).expect("the server takes pieces");
    stream.write("x").await.expect("it is taken");
    stream.finish().await.expect("it is taken");
    let rows = terminal.until("that it is stored", |rows| {
        rows.iter().any(|row| row.starts_with("* saved "))
    });
    assert!(
        !rows.iter().any(|row| row.starts_with("< Bob")),
        "{terminal}"
    );
}

/// Whoever begins a long message and does not go on keeps nobody else's from being shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_long_message_that_does_not_go_on_holds_up_no_other() {
    let server = Server::start(Transport::Unix, &[]);
    let guest = server.guest("Ann");
    let eve = eve(&server).await;
    let mut stream = eve
        .send_stream(Transfer::new("text/plain"))
        .expect("it takes pieces");
    stream
        .write("x".repeat(100_000))
        .await
        .expect("it is taken");
    let line = "y".repeat(20_000);
    let sent = server.run(&["--file", "-", "--wait", "5s"], line.clone() + "\n");
    assert!(sent.expect(0).text().contains(&line));
    guest.hears("yyyy");
}

/// A program that is told to end cleans up what it was storing.
#[test]
fn who_is_told_to_end_removes_what_is_not_whole() {
    let server = Server::start(Transport::Unix, &[]);
    for round in 0..30 {
        let inbox = Inbox::open(&server, &format!("in {round}"));
        let _sender = server.client(&["--send", "/dev/zero"]);
        let part = inbox.part();
        until("it is fast", || size(&part) > 2_000_000);
        let dir = inbox.dir().to_owned();
        inbox.leave();
        assert!(names(&dir).is_empty(), "round {round}: {:?}", names(&dir));
    }
}

/// Whoever leaves while a file of theirs is on its way hears that it was not sent.
#[test]
fn who_leaves_in_the_middle_of_sending_hears_of_it() {
    let server = Server::start(Transport::Unix, &[]);
    let inbox = Inbox::open(&server, "in");
    let mut terminal = Terminal::chat(["connect"].iter().chain(&server.address()));
    terminal.press("/send /dev/zero\r");
    inbox.part();
    terminal.press("/quit\r");
    let (_, rows) = terminal.wait();
    inbox
        .program()
        .log("zero (application/octet-stream) did not arrive");
    let is_told = |row: &String| row.contains("zero was not sent");
    assert!(rows.iter().any(is_told), "{terminal}");
}

/// The receiver is told why, not that its sender leaves.
#[cfg(target_os = "linux")]
#[test]
fn the_receiver_of_a_file_that_shrinks_hears_why() {
    for _ in 0..10 {
        let server = Server::start(Transport::Unix, &[]);
        let inbox = Inbox::open(&server, "in");
        let path = server.path("shrinking");
        let file = fs::File::create(&path).expect("a file can be made");
        file.set_len(1 << 30).expect("it can be long");
        let sender = server.client(&["--send", text(&path)]);
        inbox.part();
        file.set_len(0).expect("it can be changed");
        let why = "it became shorter while it was sent";
        sender.wait().fails(74, &["shrinking was not sent", why]);
        let said = inbox.program().log("did not arrive: given up");
        assert!(said.ends_with(why), "{said}");
    }
}

/// The sender's last words name what was not sent, whatever comes first.
#[test]
fn the_end_of_the_server_names_the_file_that_was_not_sent() {
    for _ in 0..10 {
        let server = Server::start(Transport::Unix, &["--grace", "1s"]);
        let tap = server.path("tap");
        pipe(&tap);
        let inbox = Inbox::open(&server, "in");
        let sender = server.client(&["--send", text(&tap)]);
        let writer = feed(&tap, &noise(1_000_000, 1));
        inbox.part();
        server.program().signal(Signal::TERM);
        sender.wait().fails(69, &["tap was not sent"]);
        drop(writer);
    }
}

/// Who has said all it had to say has not failed because somebody else gave something up.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_others_give_up_is_no_failure_of_ours() {
    let server = Server::start(Transport::Unix, &[]);
    let mut guest = server.guest("Ann");
    let eve = eve(&server).await;
    let mut stream = eve
        .send_stream(Transfer::new("text/plain"))
        .expect("it takes pieces");
    for _ in 0..100 {
        stream.write("x".repeat(65_536)).await.expect("it is taken");
    }
    stream.cancel("no longer wanted");
    guest.program().log("did not arrive");
    guest.say("hello");
    guest.leave();
}

/// A line that is too long ends the session, and a session ends with a goodbye.
#[test]
fn a_line_that_is_too_long_ends_with_a_goodbye() {
    if !peer::is_there() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("long");
    fs::write(&path, "x".repeat(10_485_761)).expect("a file can be written");
    for _ in 0..5 {
        let server = PeerServer::start(Transport::Unix, "echo", Padding::Full, &[]);
        let refused = server.client(&["--file", text(&path)]).finish();
        refused.fails(2, &["is longer than"]);
        server.ok();
    }
}

/// Also if there is nothing in it.
#[test]
fn an_empty_file_that_nobody_takes_is_not_sent() {
    let server = Server::start(Transport::Unix, &[]);
    let path = server.path("empty");
    fs::write(&path, "").expect("a file can be written");
    let refused = server.run(&["--send", text(&path)], "");
    refused.fails(74, &["empty was not sent", "nobody is there to take it"]);
}

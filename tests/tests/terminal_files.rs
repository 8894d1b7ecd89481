//! Files, in a terminal: progress bars, `/send`, and what is told of those that arrive.

use std::fs;
use std::path::Path;

use chat_tests::program::files::{Inbox, feed, names, noise, pipe};
use chat_tests::program::terminal::Terminal;
use chat_tests::program::{Server, Signal, Transport};
use chat_tokio::{ClientBuilder, Endpoint, Transfer};

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

fn serve() -> Server {
    Server::start(Transport::Unix, &[])
}

/// A client in a terminal.
fn open(server: &Server, options: &[&str]) -> Terminal {
    let place = server.address();
    let mut terminal = Terminal::chat(["connect"].iter().chain(&place).chain(options));
    // The server takes it for a session when the first message comes back.
    terminal.press("ready\r");
    terminal.row("< ready");
    terminal
}

/// A file with this in the server's folder.
fn file(server: &Server, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = server.path(name);
    fs::write(&path, content).expect("the file can be written");
    text(&path).into()
}

#[test]
fn a_bar_shows_how_far_a_file_is() {
    let server = serve();
    let inbox = Inbox::open(&server, "in");
    let paths = [("empty", 0), ("cat.png", 3_000_000)]
        .map(|(name, size)| file(&server, name, noise(size, 1)));
    let place = server.address();
    let mut arguments = vec!["connect", place[0], place[1], "--send"];
    arguments.extend(paths.iter().map(String::as_str));
    // As long as nobody takes it, it is not at its end.
    inbox.program().signal(Signal::STOP);
    let mut terminal = Terminal::chat(&arguments);
    terminal.until("a bar between its ends", |rows| {
        let bar = rows.iter().find(|row| row.starts_with("cat.png "));
        bar.is_some_and(|bar| bar.contains("/2.86 MiB "))
    });
    inbox.program().signal(Signal::CONT);
    let (code, rows) = terminal.wait();
    assert_eq!(code, 0, "{terminal}");
    let bars: Vec<_> = rows.iter().filter(|row| row.contains("100% [")).collect();
    assert_eq!(bars.len(), 2, "{terminal}");
    assert!(bars[0].starts_with("empty 100% ["), "{terminal}");
    assert!(
        bars[1].starts_with("cat.png 100% [") && bars[1].contains(" 2.86 MiB/2.86 MiB "),
        "{terminal}"
    );
    assert!(inbox.saved("cat.png") == noise(3_000_000, 1));
}

#[test]
fn a_bar_without_a_size_shows_how_much_was_sent_and_ends_with_the_rest() {
    let server = serve();
    let inbox = Inbox::open(&server, "in");
    let tap = server.path("tap");
    pipe(&tap);
    let place = server.address();
    let mut terminal = Terminal::chat(["connect", place[0], place[1], "--send", text(&tap)]);
    let writer = feed(&tap, &noise(1_048_576, 1));
    terminal.until("some of it", |rows| {
        rows.iter()
            .any(|row| row.starts_with("tap ") && row.contains("iB "))
    });
    inbox.part();
    terminal.signal(Signal::INT);
    let (code, rows) = terminal.wait();
    assert_eq!(code, 130, "{terminal}");
    assert!(
        rows.iter().any(|row| row == "chat-cli: interrupted"),
        "{terminal}"
    );
    drop(writer);
    inbox
        .program()
        .log("tap (application/octet-stream) did not arrive");
    assert!(names(inbox.dir()).is_empty());
}

#[test]
fn a_file_is_announced_and_said_to_be_stored() {
    let server = serve();
    let dir = server.path("in");
    let mut ann = open(&server, &[]);
    let mut bob = open(&server, &["--save-dir", text(&dir)]);
    let path = file(&server, "cat.png", noise(65_536, 1));
    ann.press("half");
    ann.prompt("> half");
    bob.press(format!("/send {path}\r"));
    bob.row("* sending cat.png (64.00 KiB)");
    ann.row("* cat.png (image/png, 64.00 KiB) was left out: there is no --save-dir");
    ann.prompt("> half");
    ann.press(format!("\x15/send   {path}  \r"));
    ann.row("* sending cat.png (64.00 KiB)");
    ann.row("* sent cat.png (64.00 KiB)");
    let saved = format!("* saved {} (64.00 KiB)", text(&dir.join("cat.png")));
    let rows = bob.row(&saved);
    let place = |text: &str| rows.iter().position(|row| row == text);
    let coming = place("* cat.png (image/png, 64.00 KiB) is coming");
    assert!(coming.is_some() && coming < place(&saved), "{bob}");
    assert_eq!(
        fs::read(dir.join("cat.png")).expect("it is there"),
        noise(65_536, 1)
    );
    // Neither is a message.
    for terminal in [&ann, &bob] {
        let rows = terminal.until("a row", |rows| !rows.is_empty());
        assert!(
            !rows
                .iter()
                .any(|row| row.contains("< ") && row.contains("/send")),
            "{terminal}"
        );
    }
    for mut terminal in [ann, bob] {
        terminal.press("/quit\r");
        assert_eq!(terminal.wait().0, 0, "{terminal}");
    }
    assert_eq!(names(&dir), ["cat.png"]);
}

#[test]
fn a_file_that_nobody_takes_is_said_not_to_be_sent() {
    let server = serve();
    let mut terminal = open(&server, &[]);
    let path = file(&server, "my cat.png", noise(1_000, 1));
    terminal.press(format!("/send {path}\r"));
    terminal.row("* sending my cat.png (1000 B)");
    terminal.until("that it was not sent", |rows| {
        rows.iter().any(|row| {
            row.starts_with("* my cat.png was not sent: ")
                && row.ends_with("nobody is there to take it")
        })
    });
    // It goes on.
    terminal.press("hello\r");
    terminal.row("< hello");
    terminal.press("/quit\r");
    assert_eq!(terminal.wait().0, 0, "{terminal}");
}

#[test]
fn what_cannot_be_sent_is_named() {
    let server = serve();
    let guest = server.guest("Ann");
    let mut terminal = open(&server, &[]);
    fs::create_dir(server.path("d")).expect("a directory can be made");
    let path = |name| text(&server.path(name)).to_owned();
    for (line, answer) in [
        (
            "/send".to_owned(),
            "* /send needs the path of a file".to_owned(),
        ),
        ("/send  ".into(), "* /send needs the path of a file".into()),
        (
            format!("/send {}", path("no")),
            format!("* not sent: cannot read {}: No such file or", path("no")),
        ),
        (
            format!("/send {}", path("d")),
            format!("* not sent: {} is a directory; give files", path("d")),
        ),
        (
            "/sendfile x".into(),
            "* /sendfile x is not a command; /help lists them".into(),
        ),
    ] {
        terminal.press("\x0c");
        terminal.until("an empty screen", |rows| rows == [">"]);
        terminal.press(format!("{line}\r"));
        terminal.until(&answer, |rows| {
            rows.iter().any(|row| row.starts_with(&answer))
        });
    }
    terminal.press("/help\r");
    terminal.row("  /send PATH           send a file");
    terminal.press("the end\r");
    guest.hears("the end");
    assert_eq!(guest.leave().text(), "Ann is here\nready\nthe end\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn names_and_types_cannot_steer_the_terminal() {
    let server = serve();
    let dir = server.path("in");
    let terminal = open(&server, &["--save-dir", text(&dir)]);
    let plain = open(&server, &[]);
    let eve = ClientBuilder::new()
        .connect(Endpoint::unix(server.place()))
        .await;
    let eve = eve.expect("the server is there");
    let evil = "\x1b[31mred\x1b]0;title\x07\u{9b}2J\u{202e}gnp\r\n\x08\x7f.exe";
    let transfer = Transfer::new("a/\x1b[2J\x07b\u{202e}").total(1).name(evil);
    let mut stream = eve.send_stream(transfer).expect("it takes pieces");
    stream.write("x").await.expect("it is taken");
    stream.finish().await.expect("it is taken");
    let mut stream = eve
        .send_stream(Transfer::new("text/plain").name("\x1b[32m"))
        .expect("it takes pieces");
    stream
        .write(vec![b'x'; 500_000])
        .await
        .expect("it is taken");
    terminal.until("the second", |rows| {
        rows.iter()
            .any(|row| row.starts_with("* _[32m (text/plain) is coming"))
    });
    stream.cancel("\x1b[2J\x07no\n< Bob: yes");
    let name = "_[31mred_]0;title__2J_gnp____.exe";
    terminal.until("what became of both", |rows| {
        let starts = |start: &str| rows.iter().any(|row| row.starts_with(start));
        starts("* saved ")
            && starts("* _[32m (text/plain) did not arrive: given up by the other end")
    });
    plain.until("both left out", |rows| {
        rows.iter()
            .filter(|row| row.contains(" was left out: there is "))
            .count()
            == 2
    });
    assert_eq!(names(&dir), [name]);
    for terminal in [&terminal, &plain] {
        let bytes = terminal.bytes();
        assert!(
            String::from_utf8_lossy(&bytes).contains(&format!("* {name} (a/")),
            "{terminal}"
        );
        for sent in [
            &b"\x1b[31m"[..],
            b"\x1b[32m",
            b"\x1b]",
            b"\x07",
            b"\x1b[2J",
            b"\xc2\x9b",
            b"\xe2\x80\xae",
            b"\x08",
            b"\x7f",
        ] {
            let found = bytes.windows(sent.len()).any(|part| part == sent);
            assert!(!found, "{} reached {terminal}", sent.escape_ascii());
        }
    }
}

#[test]
fn talk_goes_on_while_files_come_and_go() {
    let server = serve();
    let dir = server.path("in");
    let mut terminal = open(&server, &["--save-dir", text(&dir)]);
    let mut guest = server.guest("Ann");
    let tap = server.path("tap");
    pipe(&tap);
    let sender = server.client(&["--send", text(&tap)]);
    let writer = feed(&tap, &noise(1_000_000, 1));
    terminal.row("* tap (application/octet-stream) is coming");
    for number in 0..10 {
        guest.say(&format!("line {number}"));
        terminal.row(&format!("< line {number}"));
        terminal.press(format!("answer {number}\r"));
        guest.hears(&format!("answer {number}"));
    }
    drop(writer);
    sender.wait().expect(0);
    terminal.row(&format!("* saved {} (976.56 KiB)", text(&dir.join("tap"))));
    terminal.press("/quit\r");
    assert_eq!(terminal.wait().0, 0, "{terminal}");
    assert_eq!(names(&dir), ["tap"]);
}

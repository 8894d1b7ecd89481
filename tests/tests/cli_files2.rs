//! Files: names that others choose, what cannot be sent or stored, servers that take no pieces; and
//! long lines.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use chat_tests::program::files::{Inbox, names};
use chat_tests::program::{Server, Transport};
use chat_tokio::{Client, ClientBuilder, Endpoint, SendStream, Transfer};

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

/// A client that can say anything of what it sends.
async fn eve(server: &Server) -> Client {
    let [kind, place] = server.address();
    let endpoint = match kind {
        "--tcp" => Endpoint::tcp(place),
        _ => Endpoint::unix(place),
    };
    let connected = ClientBuilder::new().connect(endpoint).await;
    connected.expect("the server is there")
}

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
        ("-rf", "-rf"),
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

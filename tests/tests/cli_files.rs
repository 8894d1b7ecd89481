//! Files: sent with `--send`, stored with `--save-dir`.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use chat_tests::program::files::{Inbox, feed, file, names, noise, pipe, size, text};
use chat_tests::program::{Finished, Guest, Server, Signal, Transport, until};

/// Sends files to everybody, which must go well and without a word.
fn send(server: &Server, paths: &[&str]) {
    let sent = server.run(&[&["--send"], paths].concat(), "").expect(0);
    assert_eq!((sent.text().as_str(), sent.stderr.as_str()), ("", ""));
}

/// Asserts that these texts are each in a line of their own, all from the program, and that no
/// other lines are there.
#[track_caller]
fn notes(finished: &Finished, texts: &[&str]) {
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), texts.len(), "{finished}");
    for text in texts {
        let is_said = |line: &&str| line.starts_with("chat-cli: ") && line.contains(text);
        assert!(lines.iter().any(is_said), "no {text:?} in {finished}");
    }
}

#[test]
fn files_of_any_size_arrive_as_they_are() {
    for transport in Transport::ALL {
        let server = Server::start(transport, &[]);
        let inboxes = ["Ann", "Bob"].map(|name| Inbox::open(&server, name));
        let mut files: Vec<_> = [0, 1, 65_536, 65_537, 1_000_000]
            .into_iter()
            .zip(1..)
            .map(|(size, seed)| (format!("{size}.bin"), noise(size, seed)))
            .collect();
        files.push(("Grüße, 世界.txt".into(), b"hello\n".into()));
        let paths = files
            .iter()
            .map(|(name, content)| file(&server, name, content));
        let paths: Vec<_> = paths.collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        send(&server, &paths);
        for inbox in inboxes {
            for (name, content) in &files {
                assert!(inbox.saved(name) == *content, "{name} is another");
            }
            let mut expected: Vec<_> = files.iter().map(|(name, _)| name.clone()).collect();
            expected.sort();
            assert_eq!(names(inbox.dir()), expected);
            let mut said = vec!["interrupted".to_owned()];
            for (name, content) in &files {
                let path = inbox.path(name);
                said.push(format!("saved {} ({} bytes)", text(&path), content.len()));
            }
            let said: Vec<_> = said.iter().map(String::as_str).collect();
            notes(&inbox.leave(), &said);
        }
    }
}

#[test]
fn large_files_arrive_as_they_are_holes_too() {
    const SIZE: u64 = 20 * 1024 * 1024;
    let server = Server::start(Transport::Tcp, &[]);
    let inboxes = ["Ann", "Bob"].map(|name| Inbox::open(&server, name));
    let full = noise(usize::try_from(SIZE).expect("it fits"), 7);
    let full_path = file(&server, "full", &full);
    let sparse_path = server.path("sparse");
    let mut sparse = File::create(&sparse_path).expect("a file can be made");
    sparse
        .seek(SeekFrom::Start(SIZE / 2))
        .expect("it is a file");
    sparse
        .write_all(b"in the middle")
        .expect("it can be written");
    sparse.set_len(SIZE).expect("it can be longer");
    send(&server, &[&full_path, text(&sparse_path)]);
    let sparse = fs::read(&sparse_path).expect("it is there");
    for inbox in inboxes {
        assert!(inbox.saved("full") == full);
        assert!(inbox.saved("sparse") == sparse);
        assert_eq!(names(inbox.dir()), ["full", "sparse"]);
        inbox.leave();
    }
}

#[test]
fn the_mask_says_who_may_read_what_arrives() {
    let server = Server::start(Transport::Unix, &[]);
    let inboxes = [
        ("Ann", "022", 0o644),
        ("Bob", "077", 0o600),
        ("Cat", "027", 0o640),
    ]
    .map(|(name, mask, mode)| (Inbox::with_mask(&server, name, mask), mode));
    let path = file(&server, "run.sh", "#!/bin/sh\n");
    // What the sender's file is makes no difference: nothing that arrives can be run.
    fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("it is ours");
    send(&server, &[&path]);
    for (inbox, mode) in inboxes {
        inbox.saved("run.sh");
        let metadata = fs::metadata(inbox.path("run.sh")).expect("it is there");
        assert_eq!(metadata.permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn the_directory_is_made_and_later_files_are_stored_beside_earlier_ones() {
    let server = Server::start(Transport::Unix, &[]);
    let inbox = Inbox::open(&server, "a/new/one");
    let path = file(&server, "notes.tar.gz", "first");
    send(&server, &[&path]);
    assert_eq!(inbox.saved("notes.tar.gz"), b"first");
    inbox.leave();

    let inbox = Inbox::open(&server, "a/new/one");
    fs::write(&path, "second").expect("it is ours");
    // The same file, twice in a row.
    send(&server, &[&path, &path]);
    for name in ["notes.tar (1).gz", "notes.tar (2).gz"] {
        assert_eq!(inbox.saved(name), b"second");
    }
    let first = fs::read(inbox.path("notes.tar.gz")).expect("it is there");
    assert_eq!(first, b"first");
    assert_eq!(names(inbox.dir()).len(), 3);
}

#[test]
fn whoever_sends_a_file_stores_what_others_send_meanwhile_but_not_its_own() {
    let server = Server::start(Transport::Unix, &[]);
    let inbox = Inbox::open(&server, "Ann");
    let tap = server.path("tap");
    pipe(&tap);
    let dir = server.path("Bob");
    let sender = server.client(&["--send", text(&tap), "--save-dir", text(&dir)]);
    let content = noise(100_000, 1);
    let writer = feed(&tap, &content);
    inbox.part();
    send(&server, &[&file(&server, "other", "from Cat")]);
    sender.log(&format!("saved {} (8 bytes)", text(&dir.join("other"))));
    drop(writer);
    let sent = sender.wait().expect(0);
    notes(&sent, &["saved "]);
    assert_eq!(names(&dir), ["other"]);
    assert!(inbox.saved("tap") == content);
    assert_eq!(inbox.saved("other"), b"from Cat");
}

#[test]
fn lines_and_files_arrive_side_by_side() {
    let server = Server::start(Transport::Tcp, &[]);
    let inbox = Inbox::open(&server, "Ann");
    let guest = server.guest("Bob");
    let lines = file(&server, "lines", "one\ntwo\n");
    let dir = server.path("Cat");
    // With lines to send it does not stay.
    let talk = server.run(&["--file", &lines, "--save-dir", text(&dir)], "");
    assert_eq!(talk.expect(0).text(), "one\ntwo\n");
    send(&server, &[&lines]);
    assert_eq!(inbox.saved("lines"), b"one\ntwo\n");
    // A file is no message, and without a place for it, it is left out.
    guest
        .program()
        .log("lines (application/octet-stream, 8 B) was left out: there is no --save-dir");
    assert_eq!(guest.leave().text(), "Bob is here\none\ntwo\n");
    assert_eq!(inbox.leave().text(), "Ann is here\nBob is here\none\ntwo\n");
    assert!(names(&dir).is_empty());
}

#[test]
fn without_anybody_who_takes_it_a_file_is_not_sent() {
    for transport in Transport::ALL {
        for content in [noise(1, 1), noise(5_000_000, 1)] {
            // One for each: those who leave may be there a little longer.
            let server = Server::start(transport, &[]);
            let path = file(&server, "cat.png", content);
            let refused = server.run(&["--send", &path], "");
            let refused =
                refused.fails(74, &["cat.png was not sent", "nobody is there to take it"]);
            assert_eq!(refused.text(), "");
        }
        // Whoever is there takes no files.
        let server = Server::start(transport, &[]);
        let guest = server.guest("Ann");
        let path = file(&server, "large", noise(5_000_000, 1));
        let refused = server.run(&["--send", &path], "");
        refused.fails(74, &["large was not sent", "nobody is there to take it"]);
        let left_out = "large (application/octet-stream, 4.77 MiB) was left out";
        guest.program().log(left_out);
        guest.leave();
    }
}

#[test]
fn text_goes_on_while_a_file_is_sent_as_fast_as_it_can_be() {
    const MUCH: u64 = 4 * 1024 * 1024;
    for transport in Transport::ALL {
        let server = Server::start(transport, &[]);
        let inbox = Inbox::open(&server, "Ann");
        let mut guest: Guest = server.guest("Bob");
        let tap = server.path("tap");
        pipe(&tap);
        let mut sender = server.client(&["--send", text(&tap)]);
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            let fed = scope.spawn(|| {
                let mut writer = feed(&tap, b"");
                let piece = noise(64 * 1024, 1);
                let mut fed = 0;
                while !enough.load(Ordering::Relaxed) && fed < 10_000 * piece.len() as u64 {
                    writer.write_all(&piece).expect("it is read");
                    fed += piece.len() as u64;
                }
                fed
            });
            let part = inbox.part();
            for number in 0..20 {
                let line = format!("line {number}");
                let before = size(&part);
                guest.say(&line);
                inbox.program().line(&line);
                if number % 5 == 0 {
                    until("the file moves on", || size(&part) > before + MUCH / 5);
                }
            }
            assert!(sender.is_running());
            assert!(size(&part) > MUCH, "it was not even trying");
            enough.store(true, Ordering::Relaxed);
            let fed = fed.join().expect("it was fed");
            inbox.program().log(&format!("({fed} bytes)"));
            assert_eq!(size(&inbox.path("tap")), fed);
        });
        sender.wait().expect(0);
        server.stop();
    }
}

#[test]
fn a_receiver_that_ends_leaves_no_file_that_is_not_whole() {
    let server = Server::start(Transport::Tcp, &[]);
    for signal in [Signal::KILL, Signal::TERM] {
        let inbox = Inbox::open(&server, "Ann");
        let other = Inbox::open(&server, &format!("Bob {signal:?}"));
        let tap = server.path("tap");
        pipe(&tap);
        let sender = server.client(&["--send", text(&tap)]);
        let mut writer = feed(&tap, &noise(1_000_000, 1));
        inbox.part();
        other.part();
        inbox.program().signal(signal);
        let dir = inbox.dir().to_owned();
        inbox.wait();
        assert!(!dir.join("tap").exists(), "it is not whole");
        // The others do not notice.
        writer.write_all(b"the end").expect("it is still read");
        drop(writer);
        sender.wait().expect(0);
        assert_eq!(other.saved("tap").len(), 1_000_007);
        fs::remove_file(&tap).expect("it is ours");
    }
}

#[test]
fn a_sender_that_ends_leaves_nothing_behind() {
    for transport in Transport::ALL {
        let server = Server::start(transport, &[]);
        let inbox = Inbox::open(&server, "Ann");
        let tap = server.path("tap");
        pipe(&tap);
        let rounds = [Signal::KILL, Signal::TERM, Signal::INT];
        for (round, signal) in rounds.into_iter().enumerate() {
            let sender = server.client(&["--send", text(&tap)]);
            let writer = feed(&tap, &noise(300_000, 1));
            inbox.part();
            sender.signal(signal);
            let ended = sender.wait();
            if signal == Signal::KILL {
                assert_eq!(ended.code, None);
            } else {
                ended.fails(130, &["interrupted"]);
            }
            drop(writer);
            let said = "tap (application/octet-stream) did not arrive: ";
            until("it is said and gone", || {
                let told = inbox.program().error_output().matches(said).count() == round + 1;
                told && names(inbox.dir()).is_empty()
            });
        }
        // The next one works.
        let sender = server.client(&["--send", text(&tap)]);
        drop(feed(&tap, b"all of it"));
        sender.wait().expect(0);
        assert_eq!(inbox.saved("tap"), b"all of it");
        assert_eq!(names(inbox.dir()), ["tap"]);
        inbox.leave();
    }
}

#[test]
fn a_server_that_ends_leaves_no_file_that_is_not_whole() {
    for signal in [Signal::TERM, Signal::KILL] {
        let server = Server::start(Transport::Tcp, &["--grace", "1s"]);
        let inbox = Inbox::open(&server, "Ann");
        let tap = server.path("tap");
        pipe(&tap);
        let sender = server.client(&["--send", text(&tap)]);
        let writer = feed(&tap, &noise(300_000, 1));
        inbox.part();
        server.program().signal(signal);
        let code = if signal == Signal::TERM { 69 } else { 74 };
        let dir = inbox.dir().to_owned();
        inbox.wait().expect(code);
        assert!(!dir.join("tap").exists());
        sender.wait().fails(code, &[]);
        drop(writer);
    }
}

#[test]
fn any_runtime_carries_files_and_long_lines() {
    for runtime in ["tokio", "smol", "async-std"] {
        let options = ["--runtime", runtime];
        let server = Server::start(Transport::Tcp, &options);
        let inbox = Inbox::open_with(&server, "in", &options);
        let content = noise(3_000_000, 1);
        let path = file(&server, "cat.png", &content);
        let sent = server.run(&["--runtime", runtime, "--send", &path], "");
        assert_eq!(sent.expect(0).stderr, "");
        assert!(inbox.saved("cat.png") == content, "{runtime}");
        let line = "x".repeat(12_000_000) + "\n";
        let sent = server.run(&["--runtime", runtime, "--file", "-"], line.clone());
        assert!(sent.expect(0).text() == line, "{runtime}");
        inbox.leave();
        server.stop();
    }
}

#[test]
fn a_long_line_survives_the_end_of_the_server() {
    for transport in Transport::ALL {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let socket = folder.path().join("chat.sock");
        let first = match transport {
            Transport::Tcp => Server::start(transport, &[]),
            Transport::Unix => Server::start_at(["--unix", text(&socket)], &[]),
        };
        let place = first.address().map(str::to_owned);
        let mut client = first.client(&["--reconnect", "--wait", "60s"]);
        client.write("one\n");
        client.line("one");
        // It takes nothing any more: a part of the line may have left, never all.
        first.program().signal(Signal::STOP);
        let line = "x".repeat(40 * 1024 * 1024);
        client.write(format!("{line}\ntwo\n"));
        first.program().signal(Signal::KILL);
        client.log("connecting again in ");
        assert_eq!(first.wait().code, None);
        let server = Server::start_at(place.each_ref().map(String::as_str), &[]);
        let sent = client.finish().expect(0);
        assert!(sent.text() == format!("one\n{line}\ntwo\n"), "{sent}");
        server.stop();
    }
}

#[test]
fn a_file_that_is_cut_off_with_its_server_is_told_and_a_later_one_arrives() {
    let server = Server::start(Transport::Tcp, &[]);
    let place = server.place().to_owned();
    let inbox = Inbox::open_with(&server, "in", &["--reconnect"]);
    let sender_dir = tempfile::tempdir().expect("a folder can be made");
    let tap = sender_dir.path().join("tap");
    pipe(&tap);
    let sender = server.client(&["--send", text(&tap), "--reconnect"]);
    let writer = feed(&tap, &noise(300_000, 1));
    inbox.part();
    server.program().signal(Signal::KILL);
    inbox
        .program()
        .log("tap (application/octet-stream) did not arrive: the connection ended");
    inbox.program().log("connecting again in ");
    assert!(names(inbox.dir()).is_empty());
    drop(writer);
    sender
        .wait()
        .fails(74, &["tap was not sent: the connection ended"]);
    let again = Server::start_at(["--tcp", &place], &[]);
    let path = file(&again, "later", "all of it");
    until("it is there again", || {
        let sent = again.run(&["--send", &path], "");
        sent.code == Some(0)
    });
    assert_eq!(inbox.saved("later"), b"all of it");
    again.stop();
}

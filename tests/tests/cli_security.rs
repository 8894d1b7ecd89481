//! Keys of one's own, what they keep out, and what is demanded of the other end.

use std::fs::{self, Permissions};
use std::io::{Write, stderr};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use chat_core::Key;
use chat_tests::program::peer::{self, Padding, PeerServer};
use chat_tests::program::{Finished, Program, Server, Signal, Transport, chat_cli};
use tempfile::{TempDir, tempdir};

/// What a client is told whose key the server does not know.
const NOT_ACCEPTED: [&str; 2] = [
    "the server did not accept the key, or holds another one",
    "give --key-file a key that it knows",
];
/// What a client says of a server without `sec`.
const INSECURE: [&str; 2] = [
    "the server does not authenticate its messages with sec",
    "--min-security legacy connects all the same",
];
/// What a server says to a client without it.
const DEMANDED: &str = "This end demands the extension sec";

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

/// A folder with keys in it.
struct Keys(TempDir);

impl Keys {
    /// Makes one for each of these names, as a person would.
    fn new(names: &[&str]) -> Self {
        let keys = Self(tempdir().expect("a folder can be made"));
        fs::create_dir(keys.dir()).expect("a folder can be made");
        for name in names {
            keys.make(name);
        }
        keys
    }

    /// Those who are to be let in.
    fn dir(&self) -> PathBuf {
        self.0.path().join("keys")
    }

    /// One of the directory.
    fn of(&self, name: &str) -> PathBuf {
        self.dir().join(format!("{name}.key"))
    }

    fn make(&self, name: &str) {
        Program::run(["keygen", text(&self.of(name))], b"").expect(0);
    }

    /// One beside it.
    fn other(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        Program::run(["keygen", text(&path)], b"").expect(0);
        path
    }
}

/// A client with this key, which stays; it says its name.
fn holder(server: &Server, name: &str, key: &Path) -> Program {
    let mut client = server.client(&["--wait", "60s", "--key-file", text(key)]);
    client.write(format!("{name} is here\n"));
    client.line(&format!("{name} is here"));
    client
}

/// Asserts that a client that must not be let in is not, and prints nothing.
#[track_caller]
fn is_kept_out(finished: Finished, texts: &[&str]) {
    let failed = finished.fails(77, texts);
    assert_eq!(failed.text(), "");
}

/// An address of this machine that is not a loopback one. Nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    let found = socket
        .connect("192.0.2.1:9")
        .and_then(|()| socket.local_addr());
    let address = found.ok().map(|address| address.ip());
    let address = address.filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    if address.is_none() {
        let _ = writeln!(
            stderr(),
            "skipped: this machine has no address but loopback"
        );
    }
    address
}

#[test]
fn each_holder_of_a_key_is_known_by_name() {
    let names = ["alice", "bob", "carol"];
    let keys = Keys::new(&names);
    let stranger = keys.other("stranger.key");
    let id = Key::new(&fs::read(&stranger).expect("it is there")).id();
    for transport in Transport::ALL {
        let server = Server::start(transport, &["--key-dir", text(&keys.dir())]);
        let mut people = names.map(|name| holder(&server, name, &keys.of(name)));
        for name in names {
            let line = server.program().log(&format!("key={name}"));
            assert!(line.contains("INFO session established"), "{line}");
            assert!(line.contains(" security=sec "), "{line}");
        }

        let options = ["--file", "-", "--key-file", text(&stranger)];
        is_kept_out(server.run(&options, "from a stranger\n"), &NOT_ACCEPTED);
        let warned = server.program().log(&id.to_string());
        assert!(
            warned.contains("WARN connection ended in the handshake"),
            "{warned}"
        );

        for (name, person) in names.iter().zip(&mut people) {
            person.write(format!("{name} is still here\n"));
        }
        for person in people {
            for name in names {
                person.line(&format!("{name} is still here"));
            }
            let heard = person.finish().expect(0).text();
            assert!(!heard.contains("stranger"), "{heard}");
        }
        let log = server.stop().stderr;
        assert!(log.contains("failed_handshakes: 1,"), "{log}");
    }
}

#[test]
fn without_a_shared_key_nobody_else_is_let_in() {
    let keys = Keys::new(&["alice"]);
    let alice = keys.of("alice");
    for transport in Transport::ALL {
        let server = Server::start(transport, &["--key-dir", text(&keys.dir())]);
        is_kept_out(server.run(&["--file", "-"], "hello\n"), &NOT_ACCEPTED);
        if peer::is_there() {
            // Neither with the default key, nor with one that is good for `sec`.
            for key in [&[][..], &["--key-file", text(&alice)]] {
                let old = peer::client(&server, "goodbye", Padding::Full, key);
                old.finish().expect(1);
            }
        }
        let log = server.stop().stderr;
        assert!(!log.contains("session established"), "{log}");
        assert!(!log.contains("keeps nobody out"), "{log}");
    }
}

#[test]
fn with_a_shared_key_its_holders_are_let_in_too() {
    let keys = Keys::new(&["alice"]);
    let shared = keys.other("shared.key");
    let (dir, alice) = (keys.dir(), keys.of("alice"));
    let both = [
        "--key-dir",
        text(&dir),
        "--key-file",
        text(&shared),
        "--echo",
    ];
    let id = Key::new(&fs::read(&shared).expect("it is there"))
        .id()
        .to_string();
    for transport in Transport::ALL {
        let server = Server::start(transport, &both);
        for (key, name) in [(&alice, "alice"), (&shared, &*id)] {
            let sent = server.run(&["--file", "-", "--key-file", text(key)], "hello\n");
            assert_eq!(sent.expect(0).text(), "hello\n");
            server.program().log(&format!("security=sec key={name}"));
        }
        is_kept_out(server.run(&["--file", "-"], "hello\n"), &NOT_ACCEPTED);
        if peer::is_there() {
            let key = ["--key-file", text(&shared)];
            peer::ok(peer::client(&server, "burst", Padding::Full, &key).finish());
            server.program().log("security=legacy");
            let key = ["--key-file", text(&alice)];
            let old = peer::client(&server, "burst", Padding::Full, &key);
            old.finish().expect(1);
        }
        server.stop();
    }
}

/// A server without a key that it shares with a client cannot show, before the handshake, who it is.
#[test]
fn only_a_server_that_holds_the_key_is_believed_to_be_full() {
    let keys = Keys::new(&["alice", "bob"]);
    let shared = keys.other("shared.key");
    let (dir, bob) = (keys.dir(), keys.of("bob"));
    let dir = ["--key-dir", text(&dir), "--max-connections", "1"];
    for (options, key, code, why) in [
        (&[][..], &bob, 77, "is it full, or is the key wrong?"),
        (&["--key-file", text(&shared)], &bob, 77, "is it full, or"),
        (
            &["--key-file", text(&shared)],
            &shared,
            69,
            "The server is full",
        ),
    ] {
        let server = Server::start(Transport::Unix, &[&dir[..], options].concat());
        let alice = holder(&server, "alice", &keys.of("alice"));
        let told = server.run(&["--file", "-", "--key-file", text(key)], "hello\n");
        assert_eq!(told.fails(code, &[why]).text(), "");
        alice.finish().expect(0);
        server.stop();
    }
}

#[test]
fn directories_of_keys_that_cannot_be_used() {
    type Spoil = fn(&Keys);
    let cases: &[(&[&str], Spoil, &[&str])] = &[
        (
            &[],
            |keys| fs::remove_dir(keys.dir()).expect("it is empty"),
            &["No such file"],
        ),
        (
            &[],
            |keys| {
                fs::remove_dir(keys.dir()).expect("it is empty");
                fs::write(keys.dir(), "a file").expect("a file can be written");
            },
            &["not a directory"],
        ),
        (
            &[],
            |_| (),
            &[
                "there is no key in it; make one with: chat-cli keygen ",
                "NAME.key",
            ],
        ),
        (
            &["alice"],
            |keys| chmod(&keys.dir(), 0o757),
            &["others can put keys into it; run: chmod go-w "],
        ),
        (
            &["alice", "bob"],
            |keys| chmod(&keys.of("bob"), 0o640),
            &["bob.key: others have access to it; run: chmod 600 "],
        ),
        (
            &["alice"],
            |keys| {
                fs::copy(keys.of("alice"), keys.of("bob")).expect("it can be copied");
            },
            &["bob and alice have the same key; make one for each with: chat-cli keygen"],
        ),
        (
            &["alice", "a,b"],
            |_| (),
            &["a,b.key: a name is letters, digits, spaces, and "],
        ),
        (
            &["alice", "a\n\x1b[31mb"],
            |_| (),
            &["a\\n\\u{1b}[31mb.key: a name is letters, digits, spaces, and "],
        ),
        (
            &["alice", "a key=bob"],
            |_| (),
            &["a key=bob.key: a name is letters, digits, spaces, and "],
        ),
        (
            &["alice", "bob"],
            |keys| fs::write(keys.of("bob"), "").expect("a file can be written"),
            &["bob.key: empty; make one with: chat-cli keygen"],
        ),
        (
            &["alice", "bob"],
            |keys| fs::write(keys.of("bob"), [b'k'; 4097]).expect("a file can be written"),
            &["bob.key: longer than 4096 bytes"],
        ),
        (
            &["alice"],
            |keys| fs::create_dir(keys.of("bob")).expect("a folder can be made"),
            &["bob.key: not a file"],
        ),
        (
            &["alice"],
            |keys| symlink("nowhere", keys.of("bob")).expect("a link can be made"),
            &["bob.key: No such file"],
        ),
    ];
    for (names, spoil, texts) in cases {
        let keys = Keys::new(names);
        spoil(&keys);
        let dir = keys.dir();
        let refused = Program::run(
            ["serve", "--tcp", "127.0.0.1:0", "--key-dir", text(&dir)],
            b"",
        );
        let refused = refused.fails(77, &[&["chat-cli: key ", text(&dir)], *texts].concat());
        assert_eq!(
            (refused.text(), refused.stderr.lines().count()),
            (String::new(), 1)
        );
        assert!(!refused.stderr.contains('\x1b'), "{refused}");
    }
}

#[test]
fn what_is_no_key_is_passed_over() {
    let keys = Keys::new(&["alice"]);
    for name in ["alice.key~", "READ\n\x1b[31mME", ".key"] {
        // Others may read it: nothing of it is secret.
        fs::write(keys.dir().join(name), "no key").expect("a file can be written");
    }
    fs::create_dir(keys.dir().join("old")).expect("a folder can be made");
    let server = Server::start(Transport::Unix, &["--key-dir", text(&keys.dir())]);
    for name in ["alice.key~", "READ\\n\\u{1b}[31mME", "/.key", "old"] {
        let warned = server.program().log(&format!("{name}\""));
        let why = "WARN not a key: its name does not end with .key";
        assert!(warned.contains(why), "{warned}");
    }
    holder(&server, "alice", &keys.of("alice"))
        .finish()
        .expect(0);
    let log = server.stop().stderr;
    assert_eq!(log.matches("not a key").count(), 4, "{log}");
    assert!(!log.contains('\x1b'), "{log}");
}

#[test]
fn names_of_many_kinds_are_names() {
    let names = ["José", "Ann Lee", "bob@chat.example", "-x", "дар", "a_b+c"];
    let keys = Keys::new(&names);
    let server = Server::start(Transport::Unix, &["--key-dir", text(&keys.dir())]);
    for name in names {
        holder(&server, name, &keys.of(name)).finish().expect(0);
        server.program().log(&format!(" key={name}"));
    }
    server.stop();
}

/// Standard base64, without what fills it up at the end.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let digit = |at: usize| (at..at + 6).fold(0, |digit, at| digit << 1 | usize::from(bit(at)));
    let digits = (0..bytes.len() * 8).step_by(6).map(digit);
    digits.map(|digit| char::from(DIGITS[digit])).collect()
}

#[test]
fn keys_are_nowhere_to_be_seen() {
    assert_eq!(base64(b"any key"), "YW55IGtleQ");
    let keys = Keys::new(&["alice"]);
    let (shared, stranger) = (keys.other("shared.key"), keys.other("stranger.key"));
    // Its raw bytes would be seen in any text.
    fs::write(&shared, "Correct_Horse:Battery!Staple^2026").expect("it is ours");
    let traced = |arguments: &[&str]| {
        let mut command = Command::new("env");
        command
            .arg("RUST_LOG=trace")
            .arg(chat_cli())
            .args(arguments);
        Program::start(&mut command)
    };
    let socket = keys.0.path().join("s");
    let (dir, place) = (keys.dir(), text(&socket));
    let (dir, file) = (["--key-dir", text(&dir)], ["--key-file", text(&shared)]);
    let serve = ["serve", "--unix", place, "--max-connections", "2"];
    let server = traced(&[&serve[..], &dir, &file].concat());
    server.line("listening on ");
    let client = |path: &Path| traced(&["connect", "--unix", place, "--key-file", text(path)]);
    let mut seen = Vec::new();
    let said = |program: Program, code| {
        let finished = program.finish().expect(code);
        [finished.text(), finished.stderr]
    };
    seen.extend(said(client(&stranger), 77));
    let mut clients = [client(&keys.of("alice")), client(&shared)];
    for (client, word) in clients.iter_mut().zip(["one", "two"]) {
        client.write(format!("{word}\n"));
        client.line(word);
    }
    seen.extend(said(client(&stranger), 77));
    if cfg!(target_os = "linux") {
        for program in [&server, &clients[0], &clients[1]] {
            for file in ["cmdline", "environ"] {
                let path = format!("/proc/{}/{file}", program.id());
                let bytes = fs::read(&path).expect("it runs");
                let expected = if file == "cmdline" {
                    "--unix"
                } else {
                    "RUST_LOG=trace"
                };
                let bytes = String::from_utf8_lossy(&bytes).into_owned();
                assert!(bytes.contains(expected), "{path}: {bytes}");
                seen.push(bytes);
            }
        }
    }
    server.log("connection turned away");
    seen.extend(clients.into_iter().flat_map(|client| said(client, 0)));
    server.signal(Signal::TERM);
    seen.extend(said(server, 0));

    for path in [&keys.of("alice"), &shared, &stranger] {
        let key = fs::read(path).expect("it is there");
        let halves = key.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits = halves.map(|half| char::from_digit(half.into(), 16));
        let hex: String = digits.map(|digit| digit.expect("below 16")).collect();
        let list = format!("{key:?}");
        let secrets = [
            String::from_utf8_lossy(&key).into_owned(),
            hex.to_uppercase(),
            hex,
            base64(&key),
            list.trim_matches(['[', ']']).to_owned(),
        ];
        for (secret, text) in secrets
            .iter()
            .flat_map(|it| seen.iter().map(move |text| (it, text)))
        {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}

#[test]
fn an_old_peer_of_this_machine_is_welcome_unless_more_is_demanded() {
    const DEMAND: [&str; 2] = ["--min-security", "sec"];
    if !peer::is_there() {
        return;
    }
    for transport in Transport::ALL {
        let server = Server::start(transport, &["--echo"]);
        peer::ok(peer::client(&server, "burst", Padding::None, &[]).finish());
        server.program().log("security=legacy");
        server.stop();

        let server = Server::start(transport, &[&DEMAND[..], &["--echo"]].concat());
        let told = peer::client(&server, "burst", Padding::None, &[]).finish();
        let told = told.expect(1);
        assert!(told.stderr.contains(DEMANDED), "{told}");
        server.program().log("reason=Protocol(Insecure)");
        for options in [&["--file", "-"][..], &["--file", "-", DEMAND[0], DEMAND[1]]] {
            assert_eq!(server.run(options, "hello\n").expect(0).text(), "hello\n");
        }
        assert!(!server.stop().stderr.contains("security=legacy"));

        let old = PeerServer::start(transport, "echo", Padding::None, &[]);
        let mut client = old.client(&["--file", "-"]);
        client.write("hello\n");
        assert_eq!(client.finish().expect(0).text(), "hello\n");
        old.ok();
        let old = PeerServer::start(transport, "burst-out", Padding::None, &[]);
        is_kept_out(
            old.client(&[&["--file", "-"], &DEMAND[..]].concat())
                .finish(),
            &INSECURE,
        );
        old.fails();
    }
}

#[test]
fn an_old_peer_over_a_network_is_refused_unless_less_is_enough() {
    const ENOUGH: [&str; 2] = ["--min-security", "legacy"];
    let Some(address) = own_address().filter(|_| peer::is_there()) else {
        return;
    };
    let keys = Keys::new(&[]);
    let key = keys.other("shared.key");
    let key = ["--key-file", text(&key)];
    let place = match address {
        IpAddr::V4(address) => format!("{address}:0"),
        IpAddr::V6(address) => format!("[{address}]:0"),
    };
    let options = [&key[..], &["--echo"]].concat();
    let server = Server::start_at(["--tcp", &place], &options);
    let told = peer::client(&server, "burst", Padding::Full, &key).finish();
    let told = told.expect(1);
    assert!(told.stderr.contains(DEMANDED), "{told}");
    let sent = server.run(&[&["--file", "-"], &key[..]].concat(), "hello\n");
    assert_eq!(sent.expect(0).text(), "hello\n");
    server.stop();
    let server = Server::start_at(["--tcp", &place], &[&options[..], &ENOUGH].concat());
    peer::ok(peer::client(&server, "burst", Padding::Full, &key).finish());
    server.stop();

    for (enough, code) in [(&[][..], 77), (&ENOUGH[..], 0)] {
        let mut old = peer::script("peer.py");
        old.args(["server", "--tcp", &place, "burst-out", "--timeout", "50"]);
        let old = Program::start(&mut old);
        let line = old.line("listening on ");
        let place = line.rsplit(' ').next().expect("a place");
        let client = Program::chat(
            ["connect", "--tcp", place, "--file", "-"]
                .iter()
                .chain(enough),
        );
        let finished = client.finish_with("hello\n");
        if code == 77 {
            is_kept_out(finished, &INSECURE);
        } else {
            assert!(finished.expect(0).text().ends_with("hello\n"));
        }
    }
}

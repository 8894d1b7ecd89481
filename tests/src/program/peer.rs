//! The independent peer in Python: found, started, believed.

use std::io::{Write, stderr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::{Finished, Program, Server, Transport};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");

/// Whether the peer pads its frames, or sends them as short as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// To 1,024 bytes.
    Full,
    /// Not at all, as the oldest peers do.
    None,
}

impl Padding {
    /// Both habits.
    pub const ALL: [Self; 2] = [Self::Full, Self::None];

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[],
            Self::None => &["--no-padding"],
        }
    }
}

/// Whether there is a Python to run the peer; says so if there is none.
pub fn is_there() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        let version = "import sys; sys.exit(sys.version_info < (3, 9))";
        let there = Command::new("python3")
            .args(["-c", version])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !there {
            // Not by a macro: the harness would keep it.
            let _ = writeln!(
                stderr(),
                "skipped: there is no python3 of version 3.9 or later"
            );
        }
        there
    })
}

/// A script of the peer's folder.
pub fn script(name: &str) -> Command {
    let mut command = Command::new("python3");
    // Nothing is left in the folder.
    command.arg("-B").arg(Path::new(FOLDER).join(name));
    command
}

fn run(role: &str, place: [&str; 2], scenario: &str, padding: Padding, more: &[&str]) -> Program {
    let mut command = script("peer.py");
    command.arg(role).args(place).arg(scenario);
    command
        .args(["--timeout", "50"])
        .args(padding.options())
        .args(more);
    Program::start(&mut command)
}

/// Starts the peer as a client.
pub fn client(server: &Server, scenario: &str, padding: Padding, more: &[&str]) -> Program {
    run("client", server.address(), scenario, padding, more)
}

/// Asserts that all went as the peer expects; returns what it has to say.
#[track_caller]
pub fn ok(finished: Finished) -> String {
    let finished = finished.expect(0);
    let said = finished.text();
    let last = said
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("ok: "));
    last.unwrap_or_else(|| panic!("not ok: {finished}"))
        .to_owned()
}

/// The peer as a server, for one connection.
pub struct PeerServer {
    program: Program,
    address: [String; 2],
    _folder: TempDir,
}

impl PeerServer {
    /// Starts it and waits until it listens.
    pub fn start(transport: Transport, scenario: &str, padding: Padding, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("peer.sock");
        let place = match transport {
            Transport::Tcp => ["--tcp", "127.0.0.1:0"],
            Transport::Unix => ["--unix", path.to_str().expect("the path is text")],
        };
        let program = run("server", place, scenario, padding, more);
        let line = program.line("listening on ");
        let listening = line.rsplit(' ').next().expect("a place");
        Self {
            address: [place[0].to_owned(), listening.to_owned()],
            program,
            _folder: folder,
        }
    }

    /// What clients are told to find it.
    pub fn address(&self) -> [&str; 2] {
        self.address.each_ref().map(String::as_str)
    }

    /// Starts a client of it.
    pub fn client(&self, arguments: &[&str]) -> Program {
        Program::chat(["connect"].iter().chain(&self.address()).chain(arguments))
    }

    /// Waits for its end, which must be as it expects.
    #[track_caller]
    pub fn ok(self) -> String {
        ok(self.program.finish())
    }

    /// Waits for its end, which must not be as it expects; returns what it says of that.
    #[track_caller]
    pub fn fails(self) -> String {
        self.program.finish().expect(1).stderr
    }
}

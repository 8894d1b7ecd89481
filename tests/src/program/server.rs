//! `chat-cli serve`, at a place of its own.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Finished, Program, Signal};

/// What a server listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A port that the system chooses.
    Tcp,
    /// A socket in a folder of its own.
    Unix,
}

impl Transport {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Unix];
}

/// A server that is ready.
pub struct Server {
    program: Program,
    address: [String; 2],
    folder: TempDir,
}

impl Server {
    /// Starts one and waits until it listens.
    pub fn start(transport: Transport, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let socket = folder.path().join("chat.sock");
        let place = match transport {
            Transport::Tcp => ["--tcp", "127.0.0.1:0"],
            Transport::Unix => ["--unix", socket.to_str().expect("the path is text")],
        };
        Self::launch(folder, place, arguments)
    }

    /// Starts one at this place and waits until it listens.
    pub fn start_at(place: [&str; 2], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        Self::launch(folder, place, arguments)
    }

    fn launch(folder: TempDir, place: [&str; 2], arguments: &[&str]) -> Self {
        let program = Program::chat(["serve"].iter().chain(&place).chain(arguments));
        let line = program.line("listening on ");
        let mut words = line.split(' ').skip(2);
        let mut word = || words.next().expect("a kind and a place").to_owned();
        Self {
            address: [format!("--{}", word()), word()],
            program,
            folder,
        }
    }

    /// What clients are told to find it: `--tcp HOST:PORT` or `--unix PATH`.
    pub fn address(&self) -> [&str; 2] {
        self.address.each_ref().map(String::as_str)
    }

    /// HOST:PORT, or the path of its socket.
    pub fn place(&self) -> &str {
        &self.address[1]
    }

    /// A path in a folder of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The running program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Starts a client of it.
    pub fn client(&self, arguments: &[&str]) -> Program {
        Program::chat(["connect"].iter().chain(&self.address()).chain(arguments))
    }

    /// Runs a client of it to its end.
    pub fn run(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Finished {
        self.client(arguments).finish_with(input)
    }

    /// Starts a client that reads lines, and waits until all hear of it.
    pub fn guest(&self, name: &str) -> Guest {
        let mut guest = Guest(self.client(&["--wait", "60s"]));
        guest.say(&format!("{name} is here"));
        guest
    }

    /// Asks it to stop, and waits for its end.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.program.signal(Signal::TERM);
        self.wait().expect(0)
    }

    /// Waits for its end. Unless it was killed, nothing of its socket may be left.
    #[track_caller]
    pub fn wait(self) -> Finished {
        let Self {
            program,
            address: [kind, place],
            folder,
        } = self;
        let finished = program.wait();
        if kind == "--unix" && finished.code.is_some() {
            assert!(is_gone(Path::new(&place)), "the socket is left: {finished}");
        }
        drop(folder);
        finished
    }
}

/// Whether there is neither a socket nor its lock.
pub fn is_gone(socket: &Path) -> bool {
    !socket.exists() && !socket.with_added_extension("lock").exists()
}

/// A client that talks line by line, without a terminal.
pub struct Guest(Program);

impl Guest {
    /// Says a line, and waits until it has come back.
    pub fn say(&mut self, line: &str) {
        self.send(line);
        self.hears(line);
    }

    /// Says a line, whatever is in it.
    pub fn send(&mut self, line: impl AsRef<[u8]>) {
        self.0.write([line.as_ref(), b"\n"].concat());
    }

    /// Waits for a line with this.
    #[track_caller]
    pub fn hears(&self, text: &str) {
        self.0.line(text);
    }

    /// The running program.
    pub fn program(&self) -> &Program {
        &self.0
    }

    /// Leaves, which must go well.
    #[track_caller]
    pub fn leave(self) -> Finished {
        self.0.finish().expect(0)
    }

    /// Waits for its end, which somebody else brings about.
    pub fn wait(self) -> Finished {
        self.0.wait()
    }
}

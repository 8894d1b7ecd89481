//! Files that are sent, and places where they arrive.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use chat_tokio::{Client, ClientBuilder, Endpoint};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{Finished, Program, Server, Signal, chat_cli, until};

/// So many bytes, others for each seed; they look like nothing in particular.
pub fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Makes a named pipe.
pub fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe can be made");
}

/// Writes to a named pipe, and stays its writer: whoever reads it waits for more.
pub fn feed(path: &Path, content: &[u8]) -> File {
    use std::io::Write;
    let mut writer = File::options()
        .write(true)
        .open(path)
        .expect("somebody reads it");
    writer.write_all(content).expect("somebody reads it");
    writer
}

/// The names in a directory, hidden ones too, in order.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory is there");
    let mut names: Vec<_> = entries
        .map(|entry| {
            let name = entry.expect("it can be listed").file_name();
            name.to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    names
}

/// The size of a file, 0 while there is none.
pub fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// `chat-cli connect --save-dir`, with its standard input at the end: it stays until it is told.
pub struct Inbox {
    program: Program,
    dir: PathBuf,
}

impl Inbox {
    /// Opens one in the server's folder, and waits until all hear of it.
    pub fn open(server: &Server, name: &str) -> Self {
        Self::open_with(server, name, &[])
    }

    /// The same, with more arguments.
    pub fn open_with(server: &Server, name: &str, options: &[&str]) -> Self {
        Self::run(Command::new(chat_cli()), server, name, options)
    }

    /// The same, with files made as this mask says.
    pub fn with_mask(server: &Server, name: &str, mask: &str) -> Self {
        let mut command = Command::new("sh");
        let script = format!("umask {mask}; exec \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(chat_cli());
        Self::run(command, server, name, &[])
    }

    /// The same, started by this command, which gets the arguments.
    pub fn run(mut command: Command, server: &Server, name: &str, options: &[&str]) -> Self {
        let dir = server.path(name);
        command.arg("connect").args(server.address());
        command.args([OsStr::new("--save-dir"), dir.as_os_str()]);
        let mut program = Program::start(command.args(["--wait", "60s"]).args(options));
        let line = format!("{name} is here");
        program.write(format!("{line}\n"));
        program.line(&line);
        program.end_input();
        Self { program, dir }
    }

    /// Where files are stored.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The running program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Waits until a file is said to be stored under this name, and returns its content.
    #[track_caller]
    pub fn saved(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        self.program
            .log(&format!("chat-cli: saved {} (", path.display()));
        fs::read(&path).expect("what is stored can be read")
    }

    /// Waits until a part of a file has come, and returns its path.
    #[track_caller]
    pub fn part(&self) -> PathBuf {
        let part = || {
            let mut names = names(&self.dir).into_iter();
            let part = names.find(|name| {
                Path::new(name)
                    .extension()
                    .is_some_and(|extension| extension == "part")
            });
            part.map(|name| self.path(&name))
        };
        until("a part has come", || {
            part().is_some_and(|part| size(&part) > 0)
        });
        part().expect("it does not end by itself")
    }

    /// Has it leave, which it does not do by itself.
    #[track_caller]
    pub fn leave(self) -> Finished {
        self.program.signal(Signal::TERM);
        self.wait().fails(130, &["interrupted"])
    }

    /// Waits for its end, which somebody else brings about.
    pub fn wait(self) -> Finished {
        self.program.wait()
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("the path is text")
}

/// A file with this in the server's folder.
pub fn file(server: &Server, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = server.path(name);
    fs::write(&path, content).expect("the file can be written");
    text(&path).into()
}

/// A client that can say anything of what it sends.
pub async fn eve(server: &Server) -> Client {
    let [kind, place] = server.address();
    let endpoint = match kind {
        "--tcp" => Endpoint::tcp(place),
        _ => Endpoint::unix(place),
    };
    let connected = ClientBuilder::new().connect(endpoint).await;
    connected.expect("the server is there")
}

//! Programs under test: found, started, bounded and ended.

mod capture;
pub mod files;
pub mod peer;
mod server;
pub mod terminal;

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use capture::Capture;
pub use server::{Guest, Server, Transport, is_gone};

/// The longest that a test waits for anything: what takes longer does not come.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until this is so.
#[track_caller]
pub fn until(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        assert!(
            Instant::now() < deadline,
            "it does not come to this: {what}"
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// A text of so many lines, the first of which is number 1.
pub fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (1..=count).map(line).collect()
}

/// The program, built like the test and once per process.
pub fn chat_cli() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        // TARGET/debug/deps/TEST
        let test = std::env::current_exe().expect("the test is a file");
        let target = test.ancestors().nth(3).expect("the test is deep enough");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args([
                "build",
                "--quiet",
                "--package",
                "chat-cli",
                "--all-features",
                "--message-format",
                "json",
            ])
            .arg("--target-dir")
            .arg(target)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .stderr(Stdio::inherit());
        if cfg!(not(debug_assertions)) {
            cargo.arg("--release");
        }
        let built = cargo.output().expect("cargo runs");
        assert!(built.status.success(), "chat-cli does not build");
        let messages = String::from_utf8(built.stdout).expect("JSON is text");
        let path = messages
            .split("\"executable\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .expect("cargo names the program");
        PathBuf::from(path)
    })
}

/// What nobody reads of what a program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// Its standard output.
    Output,
    /// Its standard error.
    Error,
    /// Both.
    Both,
}

/// A running program whose output is kept. It is killed when this is dropped.
pub struct Program {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Capture,
    stderr: Capture,
}

impl Program {
    /// Starts `chat-cli`.
    pub fn chat(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::start(Command::new(chat_cli()).args(arguments))
    }

    /// Starts any program.
    pub fn start(command: &mut Command) -> Self {
        Self::spawn(command, Stdio::piped(), Stdio::piped())
    }

    /// Starts `chat-cli` with nobody at the other end of some of what it writes.
    pub fn unheard(
        streams: Unheard,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Self {
        let mut command = Command::new(chat_cli());
        let stream = |is_unheard| if is_unheard { broken() } else { Stdio::piped() };
        Self::spawn(
            command.args(arguments),
            stream(streams != Unheard::Error),
            stream(streams != Unheard::Output),
        )
    }

    fn spawn(command: &mut Command, stdout: Stdio, stderr: Stdio) -> Self {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let name = arguments.join(" ");
        let mut child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Self {
            name,
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map_or_else(Capture::none, Capture::new),
            stderr: child.stderr.take().map_or_else(Capture::none, Capture::new),
            child,
        }
    }

    /// Runs `chat-cli` to its end, with this on its standard input.
    pub fn run(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, input: &[u8]) -> Finished {
        Self::chat(arguments).finish_with(input)
    }

    /// Writes to its standard input. That it has ended already is no error.
    pub fn write(&mut self, input: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        let _ = stdin.write_all(input.as_ref()).and_then(|()| stdin.flush());
    }

    /// Ends its standard input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Waits for a whole line on standard output that contains this.
    pub fn line(&self, text: &str) -> String {
        self.wait_line(&self.stdout, &[text])
    }

    /// Waits for a whole line on standard error that contains this.
    pub fn log(&self, text: &str) -> String {
        self.log_of(&[text])
    }

    /// Waits for a whole line on standard error that contains one of these.
    pub fn log_of(&self, texts: &[&str]) -> String {
        self.wait_line(&self.stderr, texts)
    }

    fn wait_line(&self, capture: &Capture, texts: &[&str]) -> String {
        capture
            .wait(PATIENCE, |bytes| find_line(bytes, texts))
            .unwrap_or_else(|| panic!("no line with any of {texts:?} from {self}"))
    }

    /// Waits until standard output holds so many lines.
    pub fn lines(&self, count: usize) -> Vec<String> {
        let found = self.stdout.wait(PATIENCE, |bytes| {
            let lines = bytes.split_inclusive(|byte| *byte == b'\n');
            let whole: Vec<_> = lines.filter(|line| line.ends_with(b"\n")).collect();
            (whole.len() >= count).then(|| whole.into_iter().map(text_of).collect())
        });
        found.unwrap_or_else(|| panic!("fewer than {count} lines from {self}"))
    }

    /// What is on standard error so far.
    pub fn error_output(&self) -> String {
        text_of(&self.stderr.now())
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        let state = self.child.try_wait().expect("the program is ours");
        state.is_none()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal. One that is to stop has stopped when this returns.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the program still runs");
        if cfg!(target_os = "linux") && signal == Signal::STOP {
            until("it has stopped", || {
                let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()));
                let stat = stat.expect("the program still runs");
                stat.rsplit_once(')')
                    .is_some_and(|(_, rest)| rest.starts_with(" T"))
            });
        }
    }

    /// Ends its standard input and waits for its end.
    pub fn finish(mut self) -> Finished {
        self.end_input();
        self.wait()
    }

    /// Writes all this to its standard input, ends that, and waits for its end.
    pub fn finish_with(mut self, input: impl Into<Vec<u8>>) -> Finished {
        let stdin = self.stdin.take();
        let input = input.into();
        // It may not read on before its output is read; and it may never read on.
        thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
        self.wait()
    }

    /// Waits for its end, with standard input as it is.
    pub fn wait(mut self) -> Finished {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("the program is ours") {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("no end of {self}"),
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        let finished = Finished {
            name: self.name.clone(),
            code: status.code(),
            stdout: self.stdout.all(PATIENCE),
            stderr: text_of(&self.stderr.all(PATIENCE)),
        };
        assert!(!finished.stderr.contains("panicked at"), "{finished}");
        finished
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, .. } = self;
        let (stdout, stderr) = (shorten(&self.stdout.now()), text_of(&self.stderr.now()));
        write!(
            f,
            "`{name}`\nstandard output:\n{stdout}\nstandard error:\n{stderr}"
        )
    }
}

/// A program that has ended, and all that it said.
#[derive(Debug)]
pub struct Finished {
    name: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

#[expect(
    clippy::return_self_not_must_use,
    reason = "what is asserted is the point; more may be asked"
)]
impl Finished {
    /// Asserts how it ended.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Asserts that it failed with this code, and that its last words are one line from it with
    /// each of these texts.
    #[track_caller]
    pub fn fails(self, code: i32, texts: &[&str]) -> Self {
        let this = self.expect(code);
        let said = this.stderr.lines().last().unwrap_or_default();
        assert!(said.starts_with("chat-cli: "), "{this}");
        for text in texts {
            assert!(
                said.contains(text),
                "no {text:?} in the last line of {this}"
            );
        }
        this
    }

    /// Its standard output as text.
    pub fn text(&self) -> String {
        text_of(&self.stdout)
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, code, stderr, ..
        } = self;
        let stdout = shorten(&self.stdout);
        write!(
            f,
            "`{name}`, code {code:?}\nstandard output:\n{stdout}\nstandard error:\n{stderr}"
        )
    }
}

/// A pipe that nobody reads.
fn broken() -> Stdio {
    let (_, writer) = io::pipe().expect("a pipe can be had");
    writer.into()
}

fn find_line(bytes: &[u8], texts: &[&str]) -> Option<String> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let whole = lines.filter(|line| line.ends_with(b"\n")).map(text_of);
    whole
        .map(|line| line.trim_end().to_owned())
        .find(|line| texts.iter().any(|text| line.contains(text)))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The beginning of an output, which may be megabytes.
fn shorten(bytes: &[u8]) -> String {
    const ENOUGH: usize = 2000;
    let text = text_of(&bytes[..bytes.len().min(ENOUGH)]);
    if bytes.len() > ENOUGH {
        format!("{text}… ({} bytes)", bytes.len())
    } else {
        text
    }
}

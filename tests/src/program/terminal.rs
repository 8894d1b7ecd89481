//! A program in a terminal of its own.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use super::capture::Capture;
use super::{PATIENCE, chat_cli};

/// How wide the terminal is, in columns.
pub const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

/// A terminal, and `chat-cli` in it; killed when this is dropped.
pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    /// Keeps the terminal when the program has ended.
    slave: Option<Box<dyn SlavePty + Send>>,
    keyboard: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    written: Capture,
    first_mode: String,
}

impl Terminal {
    /// Starts `chat-cli` in a new terminal.
    pub fn chat(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::with_term("xterm-256color", arguments)
    }

    /// The same, in a terminal of this kind.
    pub fn with_term(term: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let size = PtySize {
            rows: ROWS,
            cols: COLUMNS,
            ..PtySize::default()
        };
        let pair = native_pty_system()
            .openpty(size)
            .expect("a terminal can be had");
        let mut command = CommandBuilder::new(chat_cli());
        command.args(arguments);
        command.env("TERM", term);
        for name in ["RUST_LOG", "NO_COLOR", "COLUMNS", "LINES"] {
            command.env_remove(name);
        }
        let first_mode = mode(&*pair.master);
        let child = pair.slave.spawn_command(command).expect("chat-cli starts");
        let reader = pair
            .master
            .try_clone_reader()
            .expect("a terminal can be read");
        Self {
            keyboard: pair
                .master
                .take_writer()
                .expect("a terminal can be written to"),
            master: pair.master,
            slave: Some(pair.slave),
            child,
            written: Capture::new(reader),
            first_mode,
        }
    }

    /// Types this.
    pub fn press(&mut self, keys: impl AsRef<[u8]>) {
        let typed = self.keyboard.write_all(keys.as_ref());
        typed
            .and_then(|()| self.keyboard.flush())
            .expect("the terminal takes keys");
    }

    /// Every byte that the program has written to the terminal.
    pub fn bytes(&self) -> Vec<u8> {
        self.written.now()
    }

    /// Waits until the terminal shows what `check` looks for, and returns its rows.
    #[track_caller]
    pub fn until(&self, what: &str, check: impl Fn(&[String]) -> bool) -> Vec<String> {
        let found = self.written.wait(PATIENCE, |bytes| {
            let rows = rows(bytes);
            check(&rows).then_some(rows)
        });
        found.unwrap_or_else(|| panic!("{what}: not to be seen in {self}"))
    }

    /// Waits for a row that is this, and returns all rows.
    #[track_caller]
    pub fn row(&self, text: &str) -> Vec<String> {
        self.until(text, |rows| rows.iter().any(|row| row == text))
    }

    /// Waits for the last row, that of the cursor, to be this.
    #[track_caller]
    pub fn prompt(&self, text: &str) -> Vec<String> {
        self.until(text, |rows| rows.last().is_some_and(|row| row == text))
    }

    /// Whether the terminal is as the program found it: its mode, and how it takes pasted text.
    pub fn is_as_before(&self) -> bool {
        mode(&*self.master) == self.first_mode && !screen(&self.bytes()).screen().bracketed_paste()
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the program still runs");
    }

    /// Waits for the end; returns the exit code and the rows.
    #[track_caller]
    pub fn wait(&mut self) -> (u32, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("the program is ours") {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("no end of {self}"),
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        // With the last to hold it, the stream of what was written ends.
        let as_before = self.is_as_before();
        self.slave = None;
        let rows = rows(&self.written.all(PATIENCE));
        assert!(
            as_before || self.is_as_before(),
            "another mode than before: {self}"
        );
        assert!(
            !rows.iter().any(|row| row.contains("panicked at")),
            "{self}"
        );
        (status.exit_code(), rows)
    }

    fn pid(&self) -> Pid {
        let id = self.child.process_id().expect("a process has an id");
        Pid::from_raw(id.cast_signed()).expect("an id is not zero")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

impl fmt::Display for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        let (rows, raw) = (rows(&bytes).join("\n"), bytes.escape_ascii());
        write!(f, "the terminal:\n{rows}\nits bytes:\n{raw}")
    }
}

/// How the terminal treats what is typed and written.
fn mode(master: &dyn MasterPty) -> String {
    format!("{:?}", master.get_termios().expect("a terminal has a mode"))
}

fn screen(bytes: &[u8]) -> vt100::Parser {
    let size = |size: u16| size.try_into().expect("not zero");
    let mut parser = vt100::Parser::new(size(ROWS), size(COLUMNS), 10_000);
    parser.process(bytes);
    parser
}

/// What can be seen, what has scrolled away included, down to the row of the cursor.
fn rows(bytes: &[u8]) -> Vec<String> {
    let mut parser = screen(bytes);
    let screen = parser.screen_mut();
    let mut rows = Vec::new();
    for above in (1..=screen.scrollback_len()).rev() {
        screen.set_scrollback(above);
        rows.extend(screen.rows(0, COLUMNS).next());
    }
    screen.set_scrollback(0);
    let below = usize::from(screen.cursor_position().0) + 1;
    rows.extend(screen.rows(0, COLUMNS).take(below));
    for row in &mut rows {
        row.truncate(row.trim_end().len());
    }
    rows
}

//! Messages that arrive in pieces: files are stored, the rest is put together.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use chat_tokio::{ContentType, Incoming, Message, Transfer};
use indicatif::HumanBytes;
use tempfile::{SpooledData, SpooledTempFile};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use crate::screen::sanitize_line;
use crate::store::{SaveDir, safe_name};

/// What is larger waits on disk.
const IN_MEMORY: usize = 10 * 1024 * 1024;

/// What has become of a message that arrived in pieces.
pub(crate) enum Arrival {
    /// It is complete.
    Message(Shown),
    /// It was stored.
    Saved {
        /// Where.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// It was not; what, and why.
    Failed(String),
}

/// A message to be shown.
pub(crate) enum Shown {
    /// One that fits into memory.
    Message(Message),
    /// A larger one.
    Large {
        /// What it is.
        content_type: ContentType,
        /// Its content, from the beginning to the end of the file.
        file: File,
        /// Its size in bytes.
        size: u64,
    },
}

impl Shown {
    /// What it is, for someone who does not see its content.
    pub(crate) fn describe(content_type: &str, size: u64) -> String {
        format!("[{}, {size} bytes]", sanitize_line(content_type))
    }
}

/// The messages under way.
pub(crate) struct Arrivals {
    dir: Option<Arc<SaveDir>>,
    /// One message at a time is put together: the others wait, in the end at their senders.
    turn: Arc<Semaphore>,
    done: mpsc::Sender<Arrival>,
    arrived: mpsc::Receiver<Arrival>,
    under_way: usize,
}

impl Arrivals {
    pub(crate) fn new(dir: Option<SaveDir>) -> Self {
        let (done, arrived) = mpsc::channel(1);
        Self {
            dir: dir.map(Arc::new),
            turn: Arc::new(Semaphore::new(1)),
            done,
            arrived,
            under_way: 0,
        }
    }

    /// Whether files are stored.
    pub(crate) fn saves(&self) -> bool {
        self.dir.is_some()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    /// Takes a message, or leaves it. Returns what to tell about it before it is complete.
    pub(crate) fn accept(&mut self, incoming: Incoming) -> Option<String> {
        let described = describe(incoming.transfer());
        let (done, handle) = (self.done.clone(), Handle::current());
        let turn = Arc::clone(&self.turn);
        match (incoming.transfer().file_name(), &self.dir) {
            (None, _) => {
                self.under_way += 1;
                tokio::spawn(async move {
                    // The semaphore is never closed.
                    let _turn = turn.acquire_owned().await;
                    let collected = tokio::task::spawn_blocking(move || {
                        collect(incoming, &handle).unwrap_or_else(Arrival::Failed)
                    });
                    finish(collected.await, done).await;
                });
                None
            }
            (Some(_), None) => {
                incoming.refuse("files are not taken here");
                Some(format!("{described} was left out: there is no --save-dir"))
            }
            (Some(_), Some(dir)) => {
                self.under_way += 1;
                let dir = Arc::clone(dir);
                tokio::spawn(async move {
                    let saved = tokio::task::spawn_blocking(move || {
                        save(incoming, &dir, &handle).unwrap_or_else(Arrival::Failed)
                    });
                    finish(saved.await, done).await;
                });
                Some(format!("{described} is coming"))
            }
        }
    }

    /// The next that is over.
    pub(crate) async fn next(&mut self) -> Arrival {
        match self.arrived.recv().await {
            Some(arrival) => {
                self.under_way -= 1;
                arrival
            }
            // This end holds a sender.
            None => std::future::pending().await,
        }
    }
}

async fn finish(arrival: Result<Arrival, tokio::task::JoinError>, done: mpsc::Sender<Arrival>) {
    let arrival = arrival.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    // Nobody waits for it at the end of the program.
    let _ = done.send(arrival).await;
}

/// A message, as one line says what it is.
pub(crate) fn describe(transfer: &Transfer) -> String {
    let content_type = sanitize_line(transfer.content_type());
    let what = match transfer.file_name() {
        Some(name) => format!("{} ({content_type}", safe_name(name)),
        None => format!("a message ({content_type}"),
    };
    match transfer.size() {
        Some(size) => format!("{what}, {})", HumanBytes(size)),
        None => format!("{what})"),
    }
}

/// Writes everything that arrives; the error is for people.
fn receive(mut incoming: Incoming, to: &mut impl Write, handle: &Handle) -> Result<u64, String> {
    let described = describe(incoming.transfer());
    loop {
        match handle.block_on(incoming.next()) {
            None => return Ok(incoming.received()),
            Some(Ok(piece)) => {
                if let Err(error) = to.write_all(&piece) {
                    incoming.refuse("it cannot be stored");
                    return Err(format!("{described} cannot be stored: {error}"));
                }
            }
            Some(Err(error)) => {
                let error = sanitize_line(&error.to_string());
                return Err(format!("{described} did not arrive: {error}"));
            }
        }
    }
}

fn save(incoming: Incoming, dir: &SaveDir, handle: &Handle) -> Result<Arrival, String> {
    let described = describe(incoming.transfer());
    let name = incoming
        .transfer()
        .file_name()
        .unwrap_or_default()
        .to_owned();
    let fail = |error: io::Error| format!("{described} cannot be stored: {error}");
    let mut file = dir.begin().map_err(fail)?;
    let size = receive(incoming, &mut file, handle)?;
    let path = dir.keep(file, &name).map_err(fail)?;
    Ok(Arrival::Saved { path, size })
}

fn collect(incoming: Incoming, handle: &Handle) -> Result<Arrival, String> {
    let described = describe(incoming.transfer());
    let fail = |error: io::Error| format!("{described} cannot be stored: {error}");
    let content_type = incoming.transfer().content_type().clone();
    let mut content = SpooledTempFile::new(IN_MEMORY);
    let size = receive(incoming, &mut content, handle)?;
    content.seek(SeekFrom::Start(0)).map_err(fail)?;
    Ok(Arrival::Message(match content.into_inner() {
        SpooledData::InMemory(content) => {
            Shown::Message(Message::new(content_type, content.into_inner()))
        }
        SpooledData::OnDisk(file) => Shown::Large {
            content_type,
            file,
            size,
        },
    }))
}

/// Calls `each` with everything that a file has, and goes back to its beginning.
pub(crate) fn read_through(file: &mut File, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    file.seek(SeekFrom::Start(0))?;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => each(&buffer[..read]),
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

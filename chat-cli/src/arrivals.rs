//! Messages that arrive in pieces: files are stored, the rest is put together.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chat_tokio::{ContentType, Incoming, Message, Transfer};
use indicatif::HumanBytes;
use sha2::{Digest, Sha256};
use tempfile::{SpooledData, SpooledTempFile};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::screen::sanitize_line;
use crate::store::{SaveDir, safe_name};
use crate::tasks::joined;

/// What is larger waits on disk.
const IN_MEMORY: usize = 1024 * 1024;
/// The largest message that is put together, unless larger ones are sent.
const LARGEST: u64 = 64 * 1024 * 1024;
/// How many are taken at a time: as many as a connection has.
const AT_A_TIME: usize = 32;
/// How long the end waits for those that are cut off to clean up.
const CLEANING: Duration = Duration::from_secs(2);

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
    /// It is not complete, or could not be stored.
    Failed {
        /// What, and why.
        text: String,
        /// It was to be stored.
        file: bool,
    },
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
        /// The SHA-256 of its content.
        digest: [u8; 32],
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
    places: Arc<Semaphore>,
    largest: Arc<AtomicU64>,
    done: mpsc::Sender<(Arrival, OwnedSemaphorePermit)>,
    arrived: mpsc::Receiver<(Arrival, OwnedSemaphorePermit)>,
    under_way: usize,
    /// Of these, those that are to be stored.
    files: usize,
}

impl Arrivals {
    pub(crate) fn new(dir: Option<SaveDir>) -> Self {
        let (done, arrived) = mpsc::channel(AT_A_TIME);
        Self {
            dir: dir.map(Arc::new),
            places: Arc::new(Semaphore::new(AT_A_TIME)),
            largest: Arc::new(AtomicU64::new(LARGEST)),
            done,
            arrived,
            under_way: 0,
            files: 0,
        }
    }

    /// Whether files are stored.
    pub(crate) fn saves(&self) -> bool {
        self.dir.is_some()
    }

    /// Whether no file is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.files == 0
    }

    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way == 0
    }

    /// Messages of this size come back to whoever sent them.
    pub(crate) fn expect(&self, size: u64) {
        self.largest.fetch_max(size, Ordering::Relaxed);
    }

    /// Takes a message, or leaves it. Returns what to tell about it before it is complete.
    pub(crate) fn accept(&mut self, incoming: Incoming) -> Option<String> {
        let described = describe(incoming.transfer());
        let named = incoming.transfer().file_name().is_some();
        let handle = Handle::current();
        if !named {
            let largest = Arc::clone(&self.largest);
            self.run(move || collect(incoming, &largest, &handle), false);
            return None;
        }
        let Some(dir) = self.dir.clone() else {
            incoming.refuse("files are not taken here");
            return Some(format!("{described} was left out: there is no --save-dir"));
        };
        self.files += 1;
        self.run(move || save(incoming, &dir, &handle), true);
        Some(format!("{described} is coming"))
    }

    /// Receives a message in a thread of its own.
    fn run(
        &mut self,
        receive: impl FnOnce() -> Result<Arrival, String> + Send + 'static,
        file: bool,
    ) {
        self.under_way += 1;
        let (places, done) = (Arc::clone(&self.places), self.done.clone());
        tokio::spawn(async move {
            // The semaphore is never closed. Its place is free when somebody has the message.
            let Ok(place) = places.acquire_owned().await else {
                return;
            };
            let received = joined(tokio::task::spawn_blocking(receive).await);
            let arrival = received.unwrap_or_else(|text| Arrival::Failed { text, file });
            // Nobody waits for it at the end of the program.
            let _ = done.send((arrival, place)).await;
        });
    }

    /// The next that is over.
    pub(crate) async fn next(&mut self) -> Arrival {
        match self.arrived.recv().await {
            Some((arrival, _place)) => {
                self.under_way -= 1;
                let file = matches!(
                    arrival,
                    Arrival::Saved { .. } | Arrival::Failed { file: true, .. }
                );
                self.files -= usize::from(file);
                arrival
            }
            // This end holds a sender.
            None => std::future::pending().await,
        }
    }

    /// Waits for what is cut off by the end of the connection, so that nothing of it is left behind.
    pub(crate) async fn finish(&mut self) -> Vec<Arrival> {
        let mut rest = Vec::new();
        let end = async {
            while !self.is_empty() {
                rest.push(self.next().await);
            }
        };
        let _ = tokio::time::timeout(CLEANING, end).await;
        rest
    }
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

fn collect(incoming: Incoming, largest: &AtomicU64, handle: &Handle) -> Result<Arrival, String> {
    let described = describe(incoming.transfer());
    let fail = |error: io::Error| format!("{described} cannot be stored: {error}");
    let content_type = incoming.transfer().content_type().clone();
    let mut content = Content {
        file: SpooledTempFile::new(IN_MEMORY),
        digest: Sha256::new(),
        left: largest.load(Ordering::Relaxed),
    };
    let size = receive(incoming, &mut content, handle)?;
    let digest = content.digest.finalize().into();
    let mut content = content.file;
    content.seek(SeekFrom::Start(0)).map_err(fail)?;
    Ok(Arrival::Message(match content.into_inner() {
        SpooledData::InMemory(content) => {
            Shown::Message(Message::new(content_type, content.into_inner()))
        }
        SpooledData::OnDisk(file) => Shown::Large {
            content_type,
            file,
            size,
            digest,
        },
    }))
}

/// A message that is put together.
struct Content {
    file: SpooledTempFile,
    digest: Sha256,
    /// How many bytes more it may have.
    left: u64,
}

impl Write for Content {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| io::Error::other("it is too large"))?;
        self.digest.update(bytes);
        // Whole, as what was counted.
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

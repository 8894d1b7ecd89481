//! Files on their way out: `connect --send`, and `/send`.

use std::fs::{self, File};
use std::io::{self, Read, Take};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use chat_tokio::{Client, ContentType, Message, OpenError, SendStream, Transfer, TransferError};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Handle;

use crate::exit::Failure;
use crate::screen::sanitize_line;
use crate::tasks::joined;

/// How much is read at once: what a piece may have.
const PIECE: usize = 64 * 1024;

/// A file that is to be sent.
#[derive(Clone)]
pub(crate) struct Upload {
    path: PathBuf,
    /// Its name, without the directory.
    pub(crate) name: String,
    content_type: ContentType,
    /// Its size, unless it is a pipe or the like.
    pub(crate) size: Option<u64>,
}

impl Upload {
    /// Looks at a file; what it is its name says.
    pub(crate) fn check(path: &Path) -> Result<Self, Failure> {
        let fail =
            |error: io::Error| Failure::io(format!("cannot read {}: {error}", path.display()));
        let metadata = fs::metadata(path).map_err(fail)?;
        if metadata.is_dir() {
            return Err(Failure::io(format!(
                "{} is a directory; give files",
                path.display()
            )));
        }
        let kind = metadata.file_type();
        if kind.is_socket() {
            return Err(Failure::io(format!(
                "{} is a socket; give files",
                path.display()
            )));
        }
        let size = kind.is_file().then_some(metadata.len());
        if size.is_some() {
            // Whether that works is found out now. A pipe is not opened: that waits for its writer.
            File::open(path).map_err(fail)?;
        }
        let guess = mime_guess::from_path(path).first_or_octet_stream();
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Self {
            path: path.to_owned(),
            name: name.to_string_lossy().into_owned(),
            content_type: guess.essence_str().into(),
            size,
        })
    }

    /// Sends it, and returns when the server has all of it. The error is for people.
    pub(crate) async fn send(self, client: &Client, bar: ProgressBar) -> Result<(), String> {
        let name = sanitize_line(&self.name);
        match self.send_now(client, bar.clone()).await {
            Ok(()) => {
                bar.finish();
                Ok(())
            }
            Err(failure) => {
                bar.abandon();
                let why = match failure {
                    SendFailure::Lost => "the connection ended".into(),
                    SendFailure::Other(error) => sanitize_line(&error),
                };
                Err(format!("{name} was not sent: {why}"))
            }
        }
    }

    async fn send_now(self, client: &Client, bar: ProgressBar) -> Result<(), SendFailure> {
        let stream = match client.send_stream(self.transfer()) {
            Ok(stream) => stream,
            Err(OpenError::Unsupported) => return self.send_whole(client).await,
            Err(OpenError::Closed) => return Err(SendFailure::Lost),
            Err(error) => return Err(SendFailure::Other(error.to_string())),
        };
        let handle = Handle::current();
        // Opening and reading may wait: in a thread of its own.
        let copied = tokio::task::spawn_blocking(move || {
            let mut file = self.open()?;
            handle.block_on(copy(&mut file, self.size, stream, |sent| {
                bar.set_position(sent);
            }))
        });
        joined(copied.await)
    }

    fn transfer(&self) -> Transfer {
        let transfer = Transfer::new(self.content_type.clone()).name(&self.name);
        match self.size {
            Some(size) => transfer.total(size),
            None => transfer,
        }
    }

    /// No further than it was when it was looked at: it may grow.
    fn open(&self) -> Result<Take<File>, SendFailure> {
        let file = File::open(&self.path).map_err(|error| SendFailure::read(&error))?;
        Ok(file.take(self.size.unwrap_or(u64::MAX)))
    }

    /// To a server that takes nothing in pieces.
    async fn send_whole(self, client: &Client) -> Result<(), SendFailure> {
        let max = client.max_message();
        let content_type = self.content_type.clone();
        let content = tokio::task::spawn_blocking(move || {
            let mut content = Vec::new();
            let most = self.open()?.take(max.saturating_add(1));
            let read = { most }.read_to_end(&mut content);
            read.map_err(|error| SendFailure::read(&error))?;
            Ok::<_, SendFailure>(content)
        });
        let content = joined(content.await)?;
        if content.len() as u64 > max {
            return Err(SendFailure::Other(format!(
                "this server takes no messages in pieces, and at most {max} bytes in one"
            )));
        }
        if content.is_empty() {
            let error = "it is empty, and this server takes no empty messages";
            return Err(SendFailure::Other(error.into()));
        }
        let sent = client.send(Message::new(content_type, content)).await;
        sent.map_err(|_| SendFailure::Lost)?;
        client.flush().await.map_err(|_| SendFailure::Lost)
    }
}

/// Why something was not sent.
pub(crate) enum SendFailure {
    /// With the connection.
    Lost,
    /// For another reason, for people.
    Other(String),
}

impl SendFailure {
    pub(crate) fn read(error: &io::Error) -> Self {
        Self::Other(format!("cannot read it: {error}"))
    }
}

impl From<TransferError> for SendFailure {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Closed => Self::Lost,
            error => Self::Other(sanitize_line(&error.to_string())),
        }
    }
}

/// Sends everything that a reader has, of a size that may be known.
pub(crate) async fn copy(
    reader: &mut impl Read,
    size: Option<u64>,
    mut stream: SendStream,
    progress: impl Fn(u64),
) -> Result<(), SendFailure> {
    loop {
        let mut piece = BytesMut::zeroed(PIECE);
        let read = match reader.read(&mut piece) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                stream.cancel("its sender cannot read it");
                return Err(SendFailure::read(&error));
            }
        };
        if read == 0 {
            break;
        }
        piece.truncate(read);
        stream.write(piece).await?;
        progress(stream.sent());
    }
    let written = stream.written();
    if size.is_some_and(|size| written < size) {
        stream.cancel("it became shorter while it was sent");
        let error = "it became shorter while it was sent";
        return Err(SendFailure::Other(error.into()));
    }
    stream.finish().await?;
    progress(written);
    Ok(())
}

/// A bar on standard error, if that is a terminal; otherwise nothing.
pub(crate) fn bar(upload: &Upload) -> ProgressBar {
    const KNOWN: &str =
        "{msg} {percent:>3}% [{wide_bar:.cyan/blue}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    const UNKNOWN: &str = "{msg} {spinner} {bytes} {bytes_per_sec} {elapsed}";
    let (bar, template) = match upload.size {
        Some(size) => (ProgressBar::new(size), KNOWN),
        None => (ProgressBar::new_spinner(), UNKNOWN),
    };
    let style = ProgressStyle::with_template(template);
    bar.with_style(style.expect("the templates are valid"))
        .with_message(sanitize_line(&upload.name))
}

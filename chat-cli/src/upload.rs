//! Files on their way out: `connect --send`, and `/send`.

use std::fs::{self, File};
use std::io::{self, Read, Take};
use std::path::Path;

use bytes::BytesMut;
use chat_tokio::{Client, ContentType, Message, OpenError, SendStream, Transfer, TransferError};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Handle;

use crate::exit::Failure;
use crate::screen::sanitize_line;

/// How much is read at once: what a piece may have.
const PIECE: usize = 64 * 1024;

/// A file that can be sent.
pub(crate) struct Upload {
    /// Its name, without the directory.
    pub(crate) name: String,
    content_type: ContentType,
    /// Its size, unless it is a pipe or the like.
    pub(crate) size: Option<u64>,
    /// No further than that: it may grow.
    file: Take<File>,
}

impl Upload {
    /// Opens a file; what it is its name says.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let fail =
            |error: io::Error| Failure::io(format!("cannot read {}: {error}", path.display()));
        // Before it is opened: opening a pipe waits for its writer.
        if fs::metadata(path).map_err(fail)?.is_dir() {
            return Err(Failure::io(format!(
                "{} is a directory; give files",
                path.display()
            )));
        }
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        let size = metadata.is_file().then_some(metadata.len());
        let guess = mime_guess::from_path(path).first_or_octet_stream();
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            content_type: guess.essence_str().into(),
            size,
            file: file.take(size.unwrap_or(u64::MAX)),
        })
    }

    /// Sends it, and returns when the server has all of it. The error is for people.
    pub(crate) async fn send(self, client: &Client, bar: ProgressBar) -> Result<(), String> {
        let name = sanitize_line(&self.name);
        let sent = match client.send_stream(self.transfer()) {
            Ok(stream) => self.stream(stream, bar.clone()).await,
            Err(OpenError::Unsupported) => self.send_whole(client).await,
            Err(error) => Err(error.to_string()),
        };
        match sent {
            Ok(()) => {
                bar.finish();
                Ok(())
            }
            Err(error) => {
                bar.abandon();
                Err(format!("{name} was not sent: {}", sanitize_line(&error)))
            }
        }
    }

    fn transfer(&self) -> Transfer {
        let transfer = Transfer::new(self.content_type.clone()).name(&self.name);
        match self.size {
            Some(size) => transfer.total(size),
            None => transfer,
        }
    }

    async fn stream(mut self, stream: SendStream, bar: ProgressBar) -> Result<(), String> {
        let handle = Handle::current();
        // Reading may wait: in a thread of its own.
        let copied = tokio::task::spawn_blocking(move || {
            handle.block_on(copy(&mut self.file, self.size, stream, |sent| {
                bar.set_position(sent);
            }))
        });
        match copied.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(SendFailure::Lost)) => Err("the connection ended".into()),
            Ok(Err(SendFailure::Other(error))) => Err(error),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// To a server that takes nothing in pieces.
    async fn send_whole(mut self, client: &Client) -> Result<(), String> {
        let max = client.max_message();
        let mut content = Vec::new();
        let most = max.saturating_add(1);
        let read = self.file.by_ref().take(most).read_to_end(&mut content);
        read.map_err(|error| format!("cannot read it: {error}"))?;
        if content.len() as u64 > max {
            return Err(format!(
                "this server takes no messages in pieces, and at most {max} bytes in one"
            ));
        }
        if content.is_empty() {
            return Err("it is empty, and this server takes no empty messages".into());
        }
        let message = Message::new(self.content_type, content);
        client
            .send(message)
            .await
            .map_err(|error| error.to_string())?;
        client.flush().await.map_err(|error| error.to_string())
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
        let read = match fill(reader, &mut piece) {
            Ok(read) => read,
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

/// Reads until the buffer is full or the reader at its end.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
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

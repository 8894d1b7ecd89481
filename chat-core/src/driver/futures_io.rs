//! Streams of runtimes that go by the traits of `futures-io`.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use super::rt::Stream;

/// How much is gathered into one write, for a stream without vectored ones.
const GATHER: usize = 64 * 1024;

thread_local! {
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A stream of another crate.
pub struct FuturesIo<S> {
    stream: S,
    shutdown: fn(&S, Shutdown) -> io::Result<()>,
    vectored: bool,
}

impl<S> FuturesIo<S> {
    /// A stream whose `poll_write_vectored` is a single system call.
    ///
    /// `shutdown` is how it ends a direction: `poll_close` may mean something else.
    pub fn new(stream: S, shutdown: fn(&S, Shutdown) -> io::Result<()>) -> Self {
        Self {
            stream,
            shutdown,
            vectored: true,
        }
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// A stream that writes one slice at a time: slices are copied together before.
    pub fn gathering(stream: S, shutdown: fn(&S, Shutdown) -> io::Result<()>) -> Self {
        Self {
            vectored: false,
            ..Self::new(stream, shutdown)
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for FuturesIo<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        match slices {
            [slice] => stream.poll_write(cx, slice),
            _ if self.vectored => stream.poll_write_vectored(cx, slices),
            _ => GATHERED.with_borrow_mut(|gathered| {
                gathered.clear();
                for slice in slices {
                    let room = GATHER - gathered.len();
                    gathered.extend_from_slice(&slice[..slice.len().min(room)]);
                }
                stream.poll_write(cx, gathered)
            }),
        }
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready((self.shutdown)(&self.stream, Shutdown::Write))
    }
}

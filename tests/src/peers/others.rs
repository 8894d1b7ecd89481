//! The servers that are not ours, written on tokio as their users write them.

use std::fmt::Debug;
use std::io;
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::broadcast::{self, Sender};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::serve::{Kind, Orders, announce};

/// More than the load has in flight: nobody lags behind.
const ROOM: usize = 4096;
/// What a tuned codec reads and writes at once, as ours does.
const BUFFER: usize = 64 * 1024;
const MAX_FRAME: usize = 16 * 1024 * 1024;

pub(super) async fn serve(orders: &Orders) -> io::Result<()> {
    let listener = if let Some(path) = orders.socket() {
        let listener = UnixListener::bind(&path)?;
        announce(path.display())?;
        Door::Unix(listener)
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        announce(listener.local_addr()?)?;
        Door::Tcp(listener)
    };
    let messages = orders.room.then(|| broadcast::channel(ROOM).0);
    let frames = orders.room.then(|| broadcast::channel(ROOM).0);
    loop {
        let socket = listener.accept().await?;
        match orders.kind {
            Kind::Tungstenite => {
                tokio::spawn(web_socket(socket, messages.clone(), false));
            }
            Kind::TungsteniteTuned => {
                tokio::spawn(web_socket(socket, messages.clone(), true));
            }
            Kind::Delimited => {
                tokio::spawn(delimited(socket, frames.clone(), false));
            }
            Kind::DelimitedTuned => {
                tokio::spawn(delimited(socket, frames.clone(), true));
            }
            _ => {
                tokio::spawn(bare(socket));
            }
        }
    }
}

/// Where clients come in.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    /// A socket is a socket to who only reads and writes: that of a Unix socket gets the same type.
    async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Self::Tcp(listener) => Ok(listener.accept().await?.0),
            Self::Unix(listener) => {
                let socket = OwnedFd::from(listener.accept().await?.0.into_std()?);
                TcpStream::from_std(socket.into())
            }
        }
    }
}

async fn web_socket(socket: TcpStream, room: Option<Sender<Message>>, tuned: bool) {
    if tuned {
        let _ = socket.set_nodelay(true);
    }
    let Ok(socket) = accept_async(socket).await else {
        return;
    };
    let content = |message: Message| (message.is_text() || message.is_binary()).then_some(message);
    run(socket, content, room, tuned).await;
}

async fn delimited(socket: TcpStream, room: Option<Sender<Bytes>>, tuned: bool) {
    let mut builder = LengthDelimitedCodec::builder();
    let codec = builder.max_frame_length(MAX_FRAME).new_codec();
    let content = |frame: BytesMut| Some(frame.freeze());
    if tuned {
        let _ = socket.set_nodelay(true);
        let mut framed = Framed::with_capacity(socket, codec, BUFFER);
        framed.set_backpressure_boundary(BUFFER);
        run(framed, content, room, true).await;
    } else {
        run(Framed::new(socket, codec), content, room, false).await;
    }
}

async fn run<S, I, M, E>(
    stream: S,
    content: fn(I) -> Option<M>,
    room: Option<Sender<M>>,
    tuned: bool,
) where
    S: Stream<Item = Result<I, E>> + Sink<M, Error = E> + Unpin,
    M: Clone,
    E: Debug,
{
    // What ends a connection is nothing to a benchmark: the load notices.
    let _ = match (room, tuned) {
        (None, false) => echo(stream, content).await,
        (None, true) => echo_tuned(stream, content).await,
        (Some(room), tuned) => chat(stream, content, &room, tuned).await,
    };
}

/// The loop of the documentation.
async fn echo<S, I, M, E>(mut stream: S, content: fn(I) -> Option<M>) -> Result<(), E>
where
    S: Stream<Item = Result<I, E>> + Sink<M, Error = E> + Unpin,
{
    while let Some(message) = stream.next().await {
        if let Some(message) = content(message?) {
            stream.send(message).await?;
        }
    }
    Ok(())
}

/// One flush for all that has come.
async fn echo_tuned<S, I, M, E>(mut stream: S, content: fn(I) -> Option<M>) -> Result<(), E>
where
    S: Stream<Item = Result<I, E>> + Sink<M, Error = E> + Unpin,
{
    while let Some(message) = stream.next().await {
        let mut next = Some(message);
        while let Some(message) = next {
            if let Some(message) = content(message?) {
                stream.feed(message).await?;
            }
            // The end of the stream is found again above.
            next = stream.next().now_or_never().flatten();
        }
        stream.flush().await?;
    }
    Ok(())
}

/// A room, on the channel that tokio has for it.
async fn chat<S, I, M, E>(
    stream: S,
    content: fn(I) -> Option<M>,
    room: &Sender<M>,
    tuned: bool,
) -> Result<(), E>
where
    S: Stream<Item = Result<I, E>> + Sink<M, Error = E>,
    M: Clone,
{
    let mut heard = room.subscribe();
    let (mut sink, mut stream) = stream.split();
    loop {
        tokio::select! {
            message = stream.next() => {
                let Some(message) = message else { return Ok(()) };
                if let Some(message) = content(message?) {
                    // There is a receiver: this one.
                    let _ = room.send(message);
                }
            }
            message = heard.recv() => {
                // Who lags behind misses messages, and the load will wait for them in vain.
                let Ok(message) = message else { return Ok(()) };
                if tuned {
                    sink.feed(message).await?;
                    while let Ok(message) = heard.try_recv() {
                        sink.feed(message).await?;
                    }
                    sink.flush().await?;
                } else {
                    sink.send(message).await?;
                }
            }
        }
    }
}

async fn bare(mut socket: TcpStream) {
    let _ = socket.set_nodelay(true);
    // Only once there is something: idle connections are counted too.
    while socket.readable().await.is_ok() {
        let mut buffer = vec![0; BUFFER];
        loop {
            match socket.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(read) if socket.write_all(&buffer[..read]).await.is_ok() => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => return,
            }
        }
    }
}

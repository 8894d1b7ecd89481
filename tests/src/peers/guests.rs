//! Clients without sockets: each is the stream that the server reads and writes, so there can be as many
//! as memory holds, and nothing is measured but the server.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use chat_core::driver::rt::{Listener, Runtime, Stream};
use chat_core::driver::{Endpoint, Handler, HandlerError, Peer, Server, ServerBuilder, Session};
use chat_core::{Config, Connection, Entropy, Instant, Message};
use chat_tokio::Tokio;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::yield_now;

/// So many come at a time.
const GROUP: usize = 100;

/// A server on tokio whose clients are in memory. They say nothing once they have arrived.
pub(super) struct Hall {
    server: Server,
    door: UnboundedSender<Guest>,
    config: Arc<Config>,
    tally: Arc<Tally>,
    guests: usize,
}

#[derive(Default)]
struct Tally {
    /// How many sessions were established.
    arrived: AtomicUsize,
    /// How often something was written to a client that has arrived.
    writes: AtomicUsize,
}

impl Hall {
    /// Opens it; to be called in a current-thread runtime.
    pub(super) fn open() -> Self {
        let quiet = Config::default().heartbeat(None).idle_timeout(None);
        let (door, guests) = unbounded_channel();
        let tally = Arc::new(Tally::default());
        let server = ServerBuilder::with_runtime(Memory::default(), Welcome(Arc::clone(&tally)))
            .config(quiet.clone())
            .max_connections(usize::MAX)
            .max_handshakes(usize::MAX)
            .max_per_address(usize::MAX)
            .serve(Endpoint::tcp("memory"), Door(guests));
        Self {
            server,
            door,
            config: Arc::new(quiet),
            tally,
            guests: 0,
        }
    }

    /// So many more come, and stay.
    pub(super) async fn welcome(&mut self, more: usize) {
        let all = self.guests + more;
        while self.guests < all {
            let group = GROUP.min(all - self.guests);
            for _ in 0..group {
                // The door is open as long as the server is there.
                let _ = self.door.send(Guest::new(&self.config, &self.tally));
            }
            self.guests += group;
            while self.tally.arrived.load(Ordering::Relaxed) < self.guests {
                yield_now().await;
            }
        }
    }

    /// Queues a message for all.
    pub(super) fn broadcast(&self, message: &Message) -> io::Result<()> {
        match self.server.broadcast(message) {
            Ok(queued) if queued == self.guests => Ok(()),
            Ok(queued) => Err(io::Error::other(format!("{queued} of {}", self.guests))),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }

    /// Waits until something was written to each.
    pub(super) async fn written(&self) {
        while self.tally.writes.load(Ordering::Relaxed) < self.guests {
            yield_now().await;
        }
        self.tally.writes.store(0, Ordering::Relaxed);
    }

    /// Everybody leaves.
    pub(super) async fn close(self) {
        self.server.abort().await;
    }
}

/// Counts who has arrived.
struct Welcome(Arc<Tally>);

impl Handler for Welcome {
    type Data = ();

    fn connected(&self, _: &Session) {
        self.0.arrived.fetch_add(1, Ordering::Relaxed);
    }

    async fn message(&self, _: &Session, _: Message) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// A client, and the stream to it.
struct Guest {
    /// Until it has arrived.
    connection: Option<Box<Connection>>,
    reader: Option<Waker>,
    tally: Arc<Tally>,
}

impl Guest {
    fn new(config: &Arc<Config>, tally: &Arc<Tally>) -> Self {
        let config = Arc::clone(config);
        let connection = Connection::client(config, Entropy::new([1; 32]), Instant::EPOCH);
        Self {
            connection: Some(Box::new(connection)),
            reader: None,
            tally: Arc::clone(tally),
        }
    }
}

impl Stream for Guest {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut len = 0;
        if let Some(connection) = &mut self.connection {
            let mut slices = [&[][..]; 1];
            connection.poll_transmit(&mut slices);
            len = slices[0].len().min(buffer.len());
            buffer[..len].copy_from_slice(&slices[0][..len]);
            connection.consume_transmit(Instant::EPOCH, len);
            if connection.poll_event().is_some() && connection.outbox_bytes() == 0 {
                // It has agreed to a session, and has nothing to say any more.
                self.connection = None;
            }
        }
        if len > 0 {
            return Poll::Ready(Ok(len));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        if let Some(connection) = &mut self.connection {
            for slice in slices {
                connection.handle_input(Instant::EPOCH, slice);
            }
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        } else {
            self.tally.writes.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(Ok(len))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Where clients come in.
struct Door(UnboundedReceiver<Guest>);

impl Listener for Door {
    type Stream = Guest;

    async fn accept(&mut self) -> io::Result<(Guest, Peer)> {
        let guest = self.0.recv().await.ok_or(ErrorKind::BrokenPipe)?;
        Ok((guest, Peer::Tcp(SocketAddr::from(([127, 0, 0, 1], 1)))))
    }
}

/// Tokio, without its sockets.
#[derive(Clone, Default)]
struct Memory(Tokio);

impl Runtime for Memory {
    type TcpStream = Guest;
    type UnixStream = Guest;
    type TcpListener = Door;
    type UnixListener = Door;
    type Sleep = <Tokio as Runtime>::Sleep;

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn sleep(&self) -> Self::Sleep {
        self.0.sleep()
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(future);
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        self.0.resolve(host).await
    }

    async fn connect_tcp(&self, _: SocketAddr) -> io::Result<Guest> {
        Err(ErrorKind::Unsupported.into())
    }

    async fn connect_unix(&self, _: &Path) -> io::Result<Guest> {
        Err(ErrorKind::Unsupported.into())
    }

    fn tcp_listener(&self, _: std::net::TcpListener) -> io::Result<Door> {
        Err(ErrorKind::Unsupported.into())
    }

    fn unix_listener(&self, _: std::os::unix::net::UnixListener) -> io::Result<Door> {
        Err(ErrorKind::Unsupported.into())
    }
}

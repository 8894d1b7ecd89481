//! Settings of a connection.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::time::Duration;

use crate::frame::{
    ChunkLimits, Extensions, Limits, MAX_CHUNK, MAX_CONTENT, MAX_HEADER, MAX_INTEGER, MIN_CHUNK,
    MIN_PING_TIMEOUT, MIN_WINDOW,
};
#[cfg(feature = "driver")]
use crate::message::OVERHEAD;
use crate::{ContentType, Identity, Key, KeyId, Message, Rate, Security, SendError};

/// The longest content of a frame that is no message: a goodbye whose reason is escaped.
const MIN_CONTENT: u32 = 8 * 1024;

/// The longest content type sent, in bytes. However it is escaped, six bytes for one, the JSON
/// header that holds it stays within its limit.
const MAX_CONTENT_TYPE: usize = 8 * 1024;

/// The settings of a connection, each with its default. One value serves any number of
/// connections.
///
/// ```
/// use chat_core::{Config, Key};
/// use core::time::Duration;
///
/// let config = Config::new(Key::new(b"a secret"))
///     .heartbeat(Some(Duration::from_secs(10)))
///     .idle_timeout(Some(Duration::from_mins(1)));
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "settings, each of its own")]
pub struct Config {
    pub(crate) key: Key,
    identities: Arc<BTreeMap<KeyId, (Arc<str>, Key)>>,
    pub(crate) sec: bool,
    pub(crate) trust: bool,
    pub(crate) min_security: Option<Security>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) close_timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) max_inbox: usize,
    pub(crate) max_outbox: usize,
    pub(crate) min_rate: u32,
    pub(crate) coalesce: bool,
    pub(crate) ping_timeout: Option<Duration>,
    pub(crate) chunks: bool,
    pub(crate) chunk_threshold: u32,
    pub(crate) chunk_size: u32,
    pub(crate) window: u32,
    pub(crate) max_transfers: u32,
    pub(crate) max_message: u64,
    pub(crate) receive: Receive,
    pub(crate) transfer_timeout: Option<Duration>,
    pub(crate) message_rate: Option<Rate>,
    pub(crate) byte_rate: Option<Rate>,
    pub(crate) error_rate: Option<Rate>,
}

/// How messages that come in chunks are received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receive {
    /// Reassembled: as an [`Event::Message`](crate::Event::Message) when they are complete, up to
    /// [`Config::max_message`].
    #[default]
    Whole,
    /// As they come, of any size: an [`Event::Transfer`](crate::Event::Transfer) announces each,
    /// [`Connection::read`](crate::Connection::read) gives its pieces.
    Pieces,
}

impl Config {
    /// The defaults, with a key of one's own.
    pub fn new(key: Key) -> Self {
        Self {
            key,
            identities: Arc::default(),
            sec: true,
            trust: false,
            min_security: None,
            handshake_timeout: Duration::from_secs(10),
            heartbeat: Some(Duration::from_secs(5)),
            idle_timeout: Some(Duration::from_secs(30)),
            stall_timeout: Some(Duration::from_secs(30)),
            close_timeout: Duration::from_secs(5),
            limits: Limits {
                header: MAX_HEADER,
                content: MAX_CONTENT,
            },
            max_inbox: 256 * 1024,
            max_outbox: 256 * 1024,
            min_rate: 16 * 1024,
            coalesce: true,
            ping_timeout: Some(Duration::from_secs(15)),
            chunks: true,
            chunk_threshold: 8 * 1024,
            chunk_size: MAX_CHUNK,
            window: 256 * 1024,
            max_transfers: 32,
            max_message: 64 * 1024 * 1024,
            receive: Receive::Whole,
            transfer_timeout: Some(Duration::from_mins(1)),
            message_rate: None,
            byte_rate: None,
            error_rate: Some(Rate::per_second(1).burst(32)),
        }
    }

    /// How long the whole handshake may take, however the peer spreads its bytes: 10 s, enough
    /// for any network and short enough to get rid of whoever only holds the line.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How often a `ping` is sent: every 5 s. `None` and zero send none.
    ///
    /// A client pings at this interval whatever else it sends: a version 1 server counts nothing
    /// else as life. A server pings a client from which nothing came for one and a
    /// half times this long.
    #[must_use]
    pub fn heartbeat(mut self, interval: Option<Duration>) -> Self {
        self.heartbeat = interval.filter(|interval| !interval.is_zero());
        self
    }

    /// How long the peer may be silent: 30 s, six heartbeats. `None` and zero wait for ever.
    ///
    /// Any verified frame is a sign of life. Should be a few times the heartbeat of the peer.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = timeout.filter(|timeout| !timeout.is_zero());
        self
    }

    /// How long the transport may take none of the bytes that wait for it: 30 s. `None` and zero
    /// wait for ever.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.stall_timeout = timeout.filter(|timeout| !timeout.is_zero());
        self
    }

    /// How long a closing connection may take to send what is queued, beyond what that takes at the
    /// [minimal rate](Self::min_rate), and the peer to end its side: 5 s. After that the connection
    /// is closed as it is.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// The longest content of a message taken or sent in one piece, in bytes: 10,485,760, the limit
    /// of the protocol, above which no value goes. Other frames have up to 8 KiB all the same, and
    /// chunks up to 64 KiB.
    #[must_use]
    pub fn max_content(mut self, bytes: u32) -> Self {
        self.limits.content = bytes.clamp(1, MAX_CONTENT);
        self
    }

    /// How many bytes of events may wait to be polled, overhead included: 256 KiB, a few reads'
    /// worth. When they have reached it, no input is taken. One event always fits.
    #[must_use]
    pub fn max_inbox(mut self, bytes: usize) -> Self {
        self.max_inbox = bytes;
        self
    }

    /// How many bytes of frames may wait to be transmitted, overhead included: 256 KiB, enough to
    /// keep the transport busy. An empty outbox takes one frame of any size.
    #[must_use]
    pub fn max_outbox(mut self, bytes: usize) -> Self {
        self.max_outbox = bytes;
        self
    }

    /// Nothing beyond version 1 is offered or taken: no extension of PROTOCOL.md §4.6.
    #[must_use]
    pub fn version_1(self) -> Self {
        self.coalesce(false)
            .ping_timeout(None)
            .chunks(false)
            .sec(false)
            .min_security(Security::Legacy)
    }

    /// One more key that clients of a server may hold, and the name of whoever does. With `sec` each
    /// client may have a key of its own: [`Connection::identity`](crate::Connection::identity) says
    /// who it is. The key of [`new`](Self::new) is good for `sec` too, unless it is the public one, and is
    /// the only one of version 1 clients, who are nobody in particular:
    /// [`min_security`](Self::min_security) keeps them out. A key has one name: the last.
    #[must_use]
    pub fn identity(mut self, name: &str, key: Key) -> Self {
        Arc::make_mut(&mut self.identities).insert(key.id(), (name.into(), key));
        self
    }

    /// Whether to authenticate each frame for its session and its place, where the peer does so too:
    /// yes (PROTOCOL.md §4.7). Whoever does not is refused where that is demanded, over a network by
    /// default: see [`min_security`](Self::min_security).
    #[must_use]
    pub fn sec(mut self, yes: bool) -> Self {
        self.sec = yes;
        self
    }

    /// Whether to trust the channel below where the other end does so too: no. Both ends show with
    /// [`sec`](Self::sec), without which this does nothing, that they hold the key; what they say after
    /// that is not signed (PROTOCOL.md §4.8). It saves the hashing, and checksums still find damage.
    ///
    /// Only for a channel that nobody else can write to. A Unix socket is one, unless it is the end of
    /// a bridge: behind one that `socat` or `ssh -L` has opened is a network, and neither end can tell.
    /// Whoever is on it can then change, repeat, leave out and make messages.
    ///
    /// Servers and clients of the adapters do so only over Unix sockets where the kernel says who the
    /// other end is, and never over TCP. A bare [`Connection`](crate::Connection) takes this at its
    /// word.
    #[must_use]
    pub fn trust_channel(mut self, yes: bool) -> Self {
        self.trust = yes;
        self
    }

    /// The least security that a connection must have; one below it ends in the handshake.
    ///
    /// By default, if this is not called, it is up to what drives the connection: servers and clients
    /// of the adapters demand [`Security::Sec`] over TCP, unless the other end's address is a loopback
    /// one. A bare [`Connection`](crate::Connection) demands nothing then. Behind a proxy on the same
    /// machine every client has a loopback address: there, demand it.
    #[must_use]
    pub fn min_security(mut self, least: Security) -> Self {
        self.min_security = Some(least);
        self
    }

    /// The key with this id, and whoever holds it.
    pub(crate) fn find_key(&self, id: KeyId) -> Option<(&Key, Identity)> {
        let (name, key) = match self.identities.get(&id) {
            Some((name, key)) => (Some(Arc::clone(name)), key),
            // Where there are names, nobody gets in without one for a key that everybody knows.
            None if self.key.id() == id
                && (self.identities.is_empty() || !self.key.is_public()) =>
            {
                (None, &self.key)
            }
            None => return None,
        };
        Some((key, Identity { key: id, name }))
    }

    /// Whether to take several frames at a time, without padding, and to send so to a peer that
    /// takes them too: yes.
    #[must_use]
    pub fn coalesce(mut self, yes: bool) -> Self {
        self.coalesce = yes;
        self
    }

    /// How long a peer that promised to answer may take for it: 15 s, at least 3 s. `None` does not
    /// use the extension; then only [`idle_timeout`](Self::idle_timeout) finds a peer that is gone.
    ///
    /// A peer that is busy says so in time: it does not count as gone.
    #[must_use]
    pub fn ping_timeout(mut self, timeout: Option<Duration>) -> Self {
        let least = Duration::from_millis(MIN_PING_TIMEOUT.into());
        self.ping_timeout = timeout.map(|timeout| timeout.max(least));
        self
    }

    /// Whether to send large messages in chunks to a peer that takes them, and to take them: yes.
    /// Without it a message is one frame, of up to [`max_content`](Self::max_content).
    #[must_use]
    pub fn chunks(mut self, yes: bool) -> Self {
        self.chunks = yes;
        self
    }

    /// The largest message that goes out in one piece where there are chunks, in bytes: 8 KiB. What
    /// is larger lets smaller ones, heartbeats and errors go first.
    #[must_use]
    pub fn chunk_threshold(mut self, bytes: u32) -> Self {
        self.chunk_threshold = bytes;
        self
    }

    /// How much of a message goes out in one chunk, in bytes: 64 KiB, the most; at least 1 KiB.
    /// Smaller ones let others go between them sooner, where the line is slow.
    #[must_use]
    pub fn chunk_size(mut self, bytes: u32) -> Self {
        self.chunk_size = bytes.clamp(MIN_CHUNK, MAX_CHUNK);
        self
    }

    /// How many bytes of each incoming transfer may be on their way or wait to be read: 256 KiB, at
    /// least 64 KiB. A transfer is no faster than this much for each round trip.
    #[must_use]
    pub fn window(mut self, bytes: u32) -> Self {
        self.window = bytes.max(MAX_CHUNK.max(MIN_WINDOW));
        self
    }

    /// How many incoming transfers may be open at a time, and how many outgoing ones are begun: 32,
    /// at least 1. With the [`window`](Self::window) it bounds what a peer can make this end hold.
    #[must_use]
    pub fn max_transfers(mut self, transfers: u32) -> Self {
        self.max_transfers = transfers.max(1);
        self
    }

    /// The largest message that is sent, and that is reassembled, in bytes: 64 MiB. Streams of
    /// pieces have no limit.
    ///
    /// What is held of all messages that are being reassembled stays below this, and a
    /// [`window`](Self::window) for each of the [`max_transfers`](Self::max_transfers).
    #[must_use]
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = bytes.clamp(1, MAX_INTEGER);
        self
    }

    /// How messages that come in chunks are received: whole.
    #[must_use]
    pub fn receive(mut self, receive: Receive) -> Self {
        self.receive = receive;
        self
    }

    /// How long a transfer may wait for the peer: 60 s, and what the windows take at the
    /// [minimal rate](Self::min_rate). `None` waits for ever.
    #[must_use]
    pub fn transfer_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.transfer_timeout = timeout.filter(|timeout| !timeout.is_zero());
        self
    }

    /// How many frames the peer may send: messages, pieces of them, and everything else; by default any
    /// number.
    ///
    /// Nothing is dropped: while the peer is over the limit nothing is taken from it, and what it sends
    /// waits in the transport. It is told so once, unless it is a version 1 peer. A peer that closes
    /// without waiting for answers may lose what still waits then.
    #[must_use]
    pub fn message_rate(mut self, rate: Option<Rate>) -> Self {
        self.message_rate = rate;
        self
    }

    /// How many bytes the peer may send, headers included; by default any number. What is over the
    /// limit waits, as with [`message_rate`](Self::message_rate).
    #[must_use]
    pub fn byte_rate(mut self, rate: Option<Rate>) -> Self {
        self.byte_rate = rate;
        self
    }

    /// How many errors a client may make, or report, that do not end its connection by themselves: 32,
    /// and one more each second. One that makes more is told and cut off. `None` counts none.
    ///
    /// Those are `error` frames, and transfers that are given up because of what is wrong with them.
    #[must_use]
    pub fn error_rate(mut self, rate: Option<Rate>) -> Self {
        self.error_rate = rate;
        self
    }

    /// What this end can do, and how much it takes.
    pub(crate) fn extensions(&self) -> Extensions {
        let any = self.coalesce || self.ping_timeout.is_some() || self.chunks;
        Extensions {
            max_content: any.then_some(self.limits.content),
            coalesce: self.coalesce,
            ping: self
                .ping_timeout
                .map(|timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)),
            chunk: self.chunks.then_some(ChunkLimits {
                size: MAX_CHUNK,
                window: self.window,
                transfers: self.max_transfers,
                message: (self.receive == Receive::Whole).then_some(self.max_message),
            }),
            // Other ones for each connection.
            sec: None,
            trust: self.sec && self.trust,
        }
    }

    /// What a decoder takes: the frames of the protocol itself have to fit.
    pub(crate) fn frame_limits(&self, chunks: bool) -> Limits {
        let least = if chunks { MAX_CHUNK } else { MIN_CONTENT };
        Limits {
            content: self.limits.content.max(least),
            ..self.limits
        }
    }

    /// What the largest message that arrives costs whoever keeps it.
    #[cfg(feature = "driver")]
    pub(crate) fn largest_message(&self) -> usize {
        let chunked = match self.receive {
            Receive::Whole if self.chunks => self.max_message,
            _ => 0,
        };
        let chunked = usize::try_from(chunked).unwrap_or(usize::MAX / 2);
        chunked.max(self.limits.content as usize) + MAX_CONTENT_TYPE + OVERHEAD
    }

    /// The largest message that any peer may take.
    pub(crate) fn largest_sent(&self) -> u64 {
        let chunked = if self.chunks { self.max_message } else { 0 };
        chunked.max(self.limits.content.into())
    }

    /// Hands a message that cannot be sent to anybody back as an error.
    pub(crate) fn check(&self, message: Message) -> Result<Message, SendError> {
        if message.content().is_empty() || message.content_type().is_empty() {
            Err(SendError::Empty(message))
        } else if message.content().len() as u64 > self.largest_sent()
            || !Self::is_content_type(message.content_type())
        {
            Err(SendError::TooLarge(message))
        } else {
            Ok(message)
        }
    }

    /// Whether a content type is one that can be sent.
    pub(crate) fn is_content_type(content_type: &ContentType) -> bool {
        (1..=MAX_CONTENT_TYPE).contains(&content_type.len())
    }

    /// The largest message that a peer takes that can do this.
    pub(crate) fn largest_for(&self, peer: &Extensions) -> u64 {
        let frame = peer
            .max_content
            .unwrap_or(MAX_CONTENT)
            .min(self.limits.content);
        match peer.chunk {
            None => frame.into(),
            Some(ChunkLimits { message, .. }) => {
                message.map_or(self.max_message, |most| most.min(self.max_message))
            }
        }
    }

    /// The slowest transfer that still counts as life, in bytes per second: 16 KiB/s. A frame of
    /// 10 MiB may take longer than the idle timeout: each second's worth of it that has arrived
    /// extends that by a second. What is queued when a connection is closed extends the close timeout
    /// in the same way. 0 counts as 1.
    #[must_use]
    pub fn min_rate(mut self, bytes_per_second: u32) -> Self {
        self.min_rate = bytes_per_second.max(1);
        self
    }

    /// How long a transfer may take.
    pub(crate) fn at_min_rate(&self, bytes: usize) -> Duration {
        Duration::from_nanos(
            (bytes as u64).saturating_mul(1_000_000_000) / u64::from(self.min_rate),
        )
    }
}

impl Default for Config {
    /// The defaults, with the public default key: see [`Key::default`].
    fn default() -> Self {
        Self::new(Key::default())
    }
}

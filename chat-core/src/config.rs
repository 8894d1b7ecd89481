//! Settings of a connection.

use core::time::Duration;

use crate::frame::{Limits, MAX_CONTENT, MAX_HEADER};
use crate::key::Key;
#[cfg(feature = "driver")]
use crate::message::OVERHEAD;
use crate::{Message, SendError};

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
///     .idle_timeout(Some(Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) key: Key,
    pub(crate) handshake_timeout: Duration,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) close_timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) max_inbox: usize,
    pub(crate) max_outbox: usize,
    pub(crate) min_rate: u32,
}

impl Config {
    /// The defaults, with a key of one's own.
    pub fn new(key: Key) -> Self {
        Self {
            key,
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

    /// The longest content of a message taken or sent, in bytes: 10,485,760, the limit of the
    /// protocol, above which no value goes. Other frames have up to 8 KiB all the same.
    #[must_use]
    pub fn max_content(mut self, bytes: u32) -> Self {
        self.limits.content = bytes.min(MAX_CONTENT);
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

    /// What a decoder takes: the frames of the protocol itself have to fit.
    pub(crate) fn frame_limits(&self) -> Limits {
        Limits {
            content: self.limits.content.max(MIN_CONTENT),
            ..self.limits
        }
    }

    /// What the largest message costs whoever keeps it.
    #[cfg(feature = "driver")]
    pub(crate) fn largest_message(&self) -> usize {
        self.limits.content as usize + MAX_CONTENT_TYPE + OVERHEAD
    }

    /// Hands a message that no frame may carry back as an error, without encoding it.
    pub(crate) fn check(&self, message: Message) -> Result<Message, SendError> {
        if message.content().is_empty() || message.content_type().is_empty() {
            Err(SendError::Empty(message))
        } else if message.content().len() > self.limits.content as usize
            || message.content_type().len() > MAX_CONTENT_TYPE
        {
            Err(SendError::TooLarge(message))
        } else {
            Ok(message)
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

//! How much a peer may send, and how much it may get wrong (PROTOCOL.md §9).

use alloc::format;

use super::{Connection, Phase, Role};
use crate::frame::Extensions;
use crate::{Instant, ProtocolError};

impl Connection {
    /// Bytes were taken, and perhaps a frame was complete: more than the settings allow, and nothing is
    /// taken for a while. A handshake has limits and a deadline of its own, and goes on.
    pub(super) fn charge(&mut self, now: Instant, bytes: usize, frame: bool) {
        let (frames, bytes) = (u64::from(frame), bytes as u64);
        let limits = [
            (
                self.config.message_rate,
                &mut self.frame_bucket,
                frames,
                "messages",
            ),
            (self.config.byte_rate, &mut self.byte_bucket, bytes, "bytes"),
        ];
        let in_handshake = matches!(self.phase, Phase::Handshake { .. });
        let mut over = None;
        for (rate, bucket, number, of_what) in limits {
            let Some(rate) = rate else { continue };
            let late = bucket.take(rate, now, number);
            if let Some(until) = late.filter(|_| !in_handshake) {
                self.throttled = self.throttled.max(Some(until));
                over = Some((rate.number(), of_what));
            }
        }
        let Some((number, of_what)) = over else {
            return;
        };
        self.stats.throttled += 1;
        // Once. A version 1 client would leave.
        if !self.told_rate && self.peer != Extensions::default() {
            let before = self.outbox.bytes();
            let reason = format!(
                "You send more than {number} {of_what} a second: you are read from more slowly"
            );
            self.send_error(now, &reason);
            // Unless there was no room for it.
            self.told_rate = self.outbox.bytes() > before;
        }
    }

    /// There is something in the buckets again.
    pub(super) fn end_throttling(&mut self, now: Instant) {
        self.throttled = self.throttled.filter(|until| *until > now);
    }

    /// The client has got something wrong that is no reason to end the connection, or complains. True
    /// if that is now too often: then the connection is over.
    pub(super) fn count_error(&mut self, now: Instant) -> bool {
        self.stats.errors_received += 1;
        let Some(rate) = self.config.error_rate.filter(|_| self.role == Role::Server) else {
            return false;
        };
        let over = self.error_bucket.take(rate, now, 1).is_some();
        if over {
            self.fail(now, ProtocolError::TooManyErrors);
        }
        over
    }
}

//! Deadlines: worked out when asked for, so that no frame touches a timer.

use super::{Connection, Phase, Role, Sort};
use crate::frame::{FrameKind, LEGACY_MIN_FRAME};
use crate::{CloseReason, ContentType, Instant, Timeout};

impl Connection {
    /// When to call [`handle_timeout`](Self::handle_timeout) next, if nothing happens before.
    ///
    /// The answer may change with every input and command, mostly to a later time: there is no
    /// need to move a timer then, for calling early does no harm.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Handshake { deadline } | Phase::Closing { deadline, .. } => Some(*deadline),
            Phase::Established => [self.ping_due(), self.idle_due(), self.stall_due()]
                .into_iter()
                .flatten()
                .min(),
            Phase::Closed => None,
        }
    }

    /// Lets what is due by `now` happen. Afterwards the next deadline is later than `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.latest(now);
        if matches!(self.phase, Phase::Established) {
            self.established_timeout(now);
        }
        // Also what has just begun to close: it may have been given no time for that.
        match &self.phase {
            Phase::Handshake { deadline } if *deadline <= now => {
                self.finish(CloseReason::Timeout(Timeout::Handshake));
            }
            Phase::Closing {
                deadline, reason, ..
            } if *deadline <= now => {
                let reason = reason.clone();
                self.finish(reason);
            }
            _ => {}
        }
    }

    fn established_timeout(&mut self, now: Instant) {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if is_due(self.stall_due()) {
            return self.finish(CloseReason::Timeout(Timeout::Stall));
        }
        if self.deaf {
            self.resume(now);
            self.deaf = !self.wants_input();
        }
        if is_due(self.idle_due()) {
            return self.idle(now);
        }
        if is_due(self.ping_due()) {
            self.ping(now);
        }
    }

    /// The silence while this end refused input was not the peer's: it counts from now.
    pub(super) fn resume(&mut self, now: Instant) {
        if self.deaf {
            self.deaf = false;
            self.excused_until = now;
        }
    }

    /// Our `ping` has left; the next one is due an interval later.
    pub(super) fn ping_left(&mut self, now: Instant) {
        if let Some(since) = self.ping_since.take() {
            // While it waited the peer had not been asked: what was silence before goes on now.
            let silent = self.silent_since();
            self.excused_until = silent + (now - since.max(silent));
        }
        if let Some(interval) = self.config.heartbeat {
            self.next_ping = now + interval;
        }
    }

    fn ping(&mut self, now: Instant) {
        let frame = self.encode_own(
            FrameKind::Heartbeat,
            ContentType::BINARY,
            b"ping",
            LEGACY_MIN_FRAME,
        );
        self.ping_since = Some(now);
        self.push(now, frame, Sort::Ping);
    }

    fn idle(&mut self, now: Instant) {
        self.outbox.clear_unbegun();
        self.push_disconnect(now, "Timed out: nothing was heard from you");
        self.begin_closing(now, CloseReason::Timeout(Timeout::Idle));
    }

    /// A client asks at every interval; a server only asks a client that is quiet: for longer than one
    /// that asks as often is.
    fn ping_due(&self) -> Option<Instant> {
        let interval = self
            .config
            .heartbeat
            .filter(|_| self.ping_since.is_none())?;
        Some(match self.role {
            Role::Client => self.next_ping,
            Role::Server => self.next_ping.max(self.heard + interval + interval / 2),
        })
    }

    fn idle_due(&self) -> Option<Instant> {
        let timeout = self.config.idle_timeout?;
        // A `ping` that is still here has not been asked: until it has, that the peer takes our
        // bytes is its sign of life.
        let mut heard = self.silent_since();
        if self.ping_since.is_some() {
            heard = heard.max(self.progress);
        }
        // Each second's worth of a frame that has arrived is a second more.
        let arrived = self.config.at_min_rate(self.decoder.partial_len());
        heard.checked_add(timeout.saturating_add(arrived))
    }

    /// Since when the peer's silence counts.
    fn silent_since(&self) -> Instant {
        self.heard.max(self.excused_until)
    }

    fn stall_due(&self) -> Option<Instant> {
        let timeout = self.config.stall_timeout?;
        if self.outbox.is_empty() {
            return None;
        }
        self.progress.checked_add(timeout)
    }
}

//! Deadlines: worked out when asked for, so that no frame touches a timer.

use core::time::Duration;

use super::inbound::PING;
use super::{Connection, Phase, Role, Sort};
use crate::{CloseReason, Instant, Timeout};

impl Connection {
    /// When to call [`handle_timeout`](Self::handle_timeout) next, if nothing happens before.
    ///
    /// The answer may change with every input and command, mostly to a later time: there is no
    /// need to move a timer then, for calling early does no harm.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Handshake { deadline, .. } | Phase::Closing { deadline, .. } => Some(*deadline),
            Phase::Established => [
                self.ping_due(),
                self.idle_due(),
                self.stall_due(),
                self.answer_due(),
                self.busy_due(),
                self.sending_due(),
                self.receiving_due(),
                self.throttled,
                self.leaving.as_ref().map(|leaving| leaving.deadline),
            ]
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
            Phase::Handshake { deadline, .. } if *deadline <= now => {
                self.end(CloseReason::Timeout(Timeout::Handshake));
            }
            Phase::Closing {
                deadline, reason, ..
            } if *deadline <= now => {
                let reason = CloseReason::clone(reason);
                self.end(reason);
            }
            _ => {}
        }
    }

    fn established_timeout(&mut self, now: Instant) {
        // Before there is a `ping` in them.
        self.release_buffers();
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if is_due(self.stall_due()) {
            return self.end(CloseReason::Timeout(Timeout::Stall));
        }
        if let Some(leaving) = self.leaving.take_if(|leaving| leaving.deadline <= now) {
            // It has had its time.
            self.drop_unsent();
            return self.end(CloseReason::Local {
                reason: leaving.reason,
            });
        }
        self.end_throttling(now);
        if self.deaf {
            self.resume(now);
            self.deaf = !self.wants_input();
        }
        if is_due(self.idle_due()) {
            return self.idle(now, Timeout::Idle);
        }
        if is_due(self.answer_due()) {
            return self.idle(now, Timeout::Answer);
        }
        self.end_stalled_sending(now);
        self.end_stalled_receiving(now);
        if !matches!(self.phase, Phase::Established) {
            // That was one error too many.
            return;
        }
        // After all that may fill the inbox.
        if is_due(self.busy_due()) {
            self.next_busy = now + self.busy_interval().unwrap_or(Duration::MAX);
            self.say_pong(now);
        }
        if is_due(self.ping_due()) {
            self.ping(now);
        }
        self.fill(now);
    }

    /// The silence while this end refused input was not the peer's: it counts from now.
    pub(super) fn resume(&mut self, now: Instant) {
        if self.deaf {
            self.deaf = false;
            self.excused_until = now;
            self.outgoing.excuse(now);
            self.incoming.excuse(now);
        }
    }

    /// Our `ping` has left; the next one is due an interval later.
    pub(super) fn ping_left(&mut self, now: Instant) {
        if let Some(since) = self.ping_since.take() {
            // While it waited the peer had not been asked: what was silence before goes on now.
            let silent = self.silent_since();
            self.excused_until = silent + (now - since.max(silent));
        }
        self.asked.get_or_insert(now);
        if let Some(interval) = self.config.heartbeat
            && !planted!("a deadline stays")
        {
            self.next_ping = now + interval;
        }
    }

    fn ping(&mut self, now: Instant) {
        let frame = self.heartbeat_frame(PING);
        self.ping_since = Some(now);
        self.push(now, frame, Sort::Ping);
    }

    fn idle(&mut self, now: Instant, which: Timeout) {
        self.drop_unsent();
        self.push_disconnect(now, "Timed out: nothing was heard from you");
        self.begin_closing(now, CloseReason::Timeout(which));
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
        heard.checked_add(timeout.saturating_add(self.arriving()))
    }

    /// When a peer that promised to answer has not.
    fn answer_due(&self) -> Option<Instant> {
        let timeout = self
            .config
            .ping_timeout
            .filter(|_| self.peer.ping.is_some())?;
        let asked = self.asked?.max(self.excused_until);
        asked.checked_add(timeout.saturating_add(self.arriving()))
    }

    /// Each second's worth of a frame that has arrived is a second more.
    fn arriving(&self) -> Duration {
        self.config.at_min_rate(self.decoder.partial_len())
    }

    /// While this end does not read, a peer that asks gets no answer: it hears without asking that
    /// this end lives.
    fn busy_due(&self) -> Option<Instant> {
        let busy = self.deaf && !self.wants_input() && self.peer.ping.is_some();
        busy.then_some(self.next_busy)
    }

    /// Three times within what the peer is patient for.
    fn busy_interval(&self) -> Option<Duration> {
        let timeout = self.peer.ping?;
        Some(Duration::from_millis(timeout.into()) / 3)
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
        let mut progress = self.progress;
        // A server that reads more slowly because it was sent too much says that it lives. A client that
        // says so while it takes nothing is not waited for.
        if self.role == Role::Client && self.peer.ping.is_some() {
            progress = progress.max(self.heard);
        }
        progress.checked_add(timeout)
    }
}

//! What the application asks for: messages, and the end.

use alloc::boxed::Box;

use bytes::BytesMut;

use super::{Connection, Leaving, Phase, Sort, State};
use crate::frame::{EncodedFrame, apart};
use crate::{CloseReason, Instant, Message, SendError};

impl Connection {
    /// Queues a message.
    ///
    /// `Ok` means that it is in the outbox, not that it has arrived. An error hands the message
    /// back and changes nothing; [`SendError::Full`] means to try again when
    /// [`consume_transmit`](Self::consume_transmit) has made room.
    ///
    /// To a peer that takes chunks, a message above
    /// [`Config::chunk_threshold`](crate::Config::chunk_threshold) goes out in pieces, and smaller
    /// ones overtake it. It has room of its own: the outbox may be full for one and not for the
    /// other. If the peer gives it up, an [`Event::Undelivered`](crate::Event::Undelivered) says so.
    /// While this end [takes no input](Self::wants_input), and so does not hear how much the peer takes,
    /// a message that finds no room there goes out in one piece, if it may.
    pub fn send(&mut self, now: Instant, message: Message) -> Result<(), SendError> {
        let now = self.latest(now);
        match self.phase {
            Phase::Handshake { .. } => return Err(SendError::NotEstablished(message)),
            Phase::Established if self.leaving.is_none() => {}
            _ => return Err(SendError::Closed(message)),
        }
        let message = self.config.check(message)?;
        if message.content().len() as u64 > self.max_message() {
            return Err(SendError::TooLarge(message));
        }
        let message = if self.is_chunked(&message) {
            match self.send_in_chunks(now, message) {
                Err(SendError::Full(message)) if self.may_skip_chunks(&message) => message,
                done => return done,
            }
        } else {
            message
        };
        self.send_in_one(now, message)
    }

    fn send_in_one(&mut self, now: Instant, message: Message) -> Result<(), SendError> {
        // What cannot fit now is not hashed first.
        let (len, max) = (message.content().len(), self.config.max_outbox);
        if !self.outbox.has_room(len, max) {
            return Err(SendError::Full(message));
        }
        let min_len = self.min_len();
        let mut later = BytesMut::new();
        let placed = self.outbox.heads(len);
        let at_once = placed.is_some();
        let head = placed.unwrap_or(&mut later);
        let start = head.len();
        let written = self
            .encoder
            .write_message(head, self.session, &message, min_len);
        let Ok(seal) = written else {
            // Not after the check above.
            return Err(SendError::TooLarge(message));
        };
        let content = apart(message.content());
        let whole = head.len() - start + content.len();
        if !self.outbox.has_room(whole, max) {
            if at_once {
                self.outbox.take_back(start);
            }
            return Err(SendError::Full(message));
        }
        if self
            .encoder
            .hashes(message.content(), message.digest().is_some())
        {
            self.stats.bytes_hashed += len as u64;
        }
        if at_once {
            if self.outbox.is_empty() {
                self.progress = now;
            }
            self.outbox.push_placed(start, content, seal, Sort::Message);
        } else {
            let frame = EncodedFrame {
                head: later,
                content,
                seal,
            };
            self.push(now, frame, Sort::Message);
        }
        Ok(())
    }

    /// Whether a message that waits to go out in pieces may go in one: while the answers that the pieces
    /// wait for are not read, and perhaps not until the messages have left.
    fn may_skip_chunks(&self, message: &Message) -> bool {
        !self.wants_input() && message.content().len() <= self.largest_frame()
    }

    /// Tells the peer that something went wrong; the connection lives on. A version 1 client ends
    /// its side when it hears of an error.
    ///
    /// Text above 1,024 bytes is cut. Does nothing unless the connection is established, or when
    /// too many errors wait already.
    pub fn send_error(&mut self, now: Instant, text: &str) {
        let now = self.latest(now);
        if self.state() == State::Established {
            let frame = self.error_frame(text, self.min_len());
            if self.outbox.has_room(frame.len(), self.config.max_outbox) {
                self.push(now, frame, Sort::Other);
            }
        }
    }

    /// Ends the connection when everything queued has been sent: the peer is told `reason`, of
    /// which it gets the first 1,024 bytes.
    ///
    /// What still arrives is discarded, and streams that are not finished are given up. Before the
    /// connection is established it ends at once; when it is closing already, nothing changes.
    pub fn close(&mut self, now: Instant, reason: &str) {
        let now = self.latest(now);
        match self.phase {
            Phase::Handshake { .. } => self.end(CloseReason::Local {
                reason: reason.into(),
            }),
            Phase::Established if self.leaving.is_none() => {
                self.give_up_unfinished(now, "closing");
                self.drop_all_incoming("closing");
                let queued = self.config.at_min_rate(self.outbox_bytes());
                self.leaving = Some(Box::new(Leaving {
                    reason: reason.into(),
                    deadline: now + queued + self.config.close_timeout,
                }));
                self.fill(now);
            }
            _ => {}
        }
    }

    /// Like [`close`](Self::close), but drops what is queued: the peer is told next.
    pub fn abort(&mut self, now: Instant, reason: &str) {
        if matches!(self.phase, Phase::Established) {
            self.drop_unsent();
        }
        self.close(now, reason);
        let now = self.latest(now);
        self.fill(now);
    }

    /// Puts into the outbox what is to be sent of transfers, and says goodbye when that was all.
    pub(super) fn fill(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Established) {
            return;
        }
        self.make_answers(now);
        self.make_pieces(now);
        if !self.outgoing.is_unsent()
            && let Some(leaving) = self.leaving.take()
        {
            self.push_disconnect(now, &leaving.reason);
            let queued = self.config.at_min_rate(self.outbox.bytes());
            let reason = leaving.reason;
            self.begin_closing(now + queued, CloseReason::Local { reason });
        }
    }

    /// Drops everything that is queued, but what has been begun.
    pub(super) fn drop_unsent(&mut self) {
        self.outbox.clear_unbegun();
        self.outgoing.clear();
    }
}

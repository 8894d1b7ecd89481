//! What comes from the peer.

use bytes::Bytes;

use super::goodbye::{disconnect_reason, error_text};
use super::handshake::Step;
use super::{Connection, Phase, Role, Sort, State};
use crate::frame::{EncodedFrame, Extra, Frame, FrameError, FrameKind};
use crate::sign::Piece;
use crate::{CloseReason, ContentType, Event, Instant, Message, ProtocolError};

pub(super) const PING: &[u8] = b"ping";
const PONG: &[u8] = b"pong";

impl Connection {
    /// Takes bytes from the peer; returns how many of `data` were taken.
    ///
    /// Fewer than all: too many events wait to be polled. Keep the rest, poll events, and pass it
    /// again; see [`wants_input`](Self::wants_input). A closing or closed connection takes
    /// everything and discards it.
    pub fn handle_input(&mut self, now: Instant, data: &[u8]) -> usize {
        let now = self.latest(now);
        let mut input = data;
        if planted!("a dribbler has time")
            && let Phase::Handshake { deadline, .. } = &mut self.phase
        {
            *deadline = now + self.config.handshake_timeout;
        }
        self.end_throttling(now);
        self.resume(now);
        while !input.is_empty() && self.is_listening() {
            if !self.wants_input() {
                self.deaf = true;
                let taken = data.len() - input.len();
                self.stats.bytes_received += taken as u64;
                self.fill(now);
                return taken;
            }
            let before = input.len();
            let is_frame = self.take_frame(now, &mut input);
            self.charge(now, before - input.len(), is_frame);
        }
        self.deaf = !self.wants_input();
        self.stats.bytes_received += data.len() as u64;
        self.fill(now);
        data.len()
    }

    /// Takes bytes up to the end of a frame; true if there was one.
    fn take_frame(&mut self, now: Instant, input: &mut &[u8]) -> bool {
        let taken = self.try_take_frame(now, input);
        taken.unwrap_or_else(|error| {
            self.fail(now, error.into());
            false
        })
    }

    fn try_take_frame(&mut self, now: Instant, input: &mut &[u8]) -> Result<bool, FrameError> {
        // The short way of most frames.
        if self.state() == State::Established
            && let Some(message) = self.decoder.decode_message(input, self.session)?
        {
            self.hear(now);
            self.take_message(now, message);
            return Ok(true);
        }
        let frame = self.decoder.decode(input)?;
        let is_frame = frame.is_some();
        if let Some(frame) = frame {
            self.handle_frame(now, frame);
        }
        Ok(is_frame)
    }

    /// A frame has come.
    fn hear(&mut self, now: Instant) {
        self.stats.frames_received += 1;
        self.heard = now;
        self.asked = None;
    }

    fn take_message(&mut self, now: Instant, message: Message) {
        let len = message.content().len();
        if len > self.config.limits.content as usize {
            let error = FrameError::ContentTooLarge {
                len: len as u64,
                max: self.config.limits.content,
            };
            return self.fail(now, error.into());
        }
        self.stats.messages_received += 1;
        self.push_event(Event::Message(message));
    }

    /// The peer will send nothing more: its side of the stream has ended.
    pub fn handle_eof(&mut self, _now: Instant) {
        match &mut self.phase {
            Phase::Handshake {
                step: Step::Proof, ..
            } => self.end(CloseReason::Unproven),
            Phase::Handshake { .. } | Phase::Established => {
                let mid_frame = self.decoder.partial_len() > 0;
                self.end(CloseReason::Eof { mid_frame });
            }
            Phase::Closing { eof, .. } => {
                *eof = true;
                self.finish_if_done();
            }
            Phase::Closed => {}
        }
    }

    /// The transport failed, in either direction: nothing can be sent or received any more.
    pub fn handle_transport_error(&mut self, _now: Instant, error: &str) {
        match &self.phase {
            Phase::Handshake {
                step: Step::Proof, ..
            } => self.end(CloseReason::Unproven),
            Phase::Handshake { .. } | Phase::Established => self.end(CloseReason::Transport {
                error: error.into(),
            }),
            Phase::Closing { reason, .. } => {
                let reason = CloseReason::clone(reason);
                self.end(reason);
            }
            Phase::Closed => {}
        }
    }

    /// Whether what arrives is looked at.
    fn is_listening(&self) -> bool {
        matches!(self.phase, Phase::Handshake { .. } | Phase::Established)
    }

    fn handle_frame(&mut self, now: Instant, frame: Frame) {
        self.hear(now);
        match self.phase {
            Phase::Handshake { .. } => self.handshake(now, &frame),
            _ if frame.kind == FrameKind::Disconnect && !self.is_foreign(&frame) => {
                self.end_by_peer(&frame);
            }
            _ => self.established(now, frame),
        }
    }

    /// The peer has said goodbye.
    pub(super) fn end_by_peer(&mut self, frame: &Frame) {
        let reason = match self.leaving.take() {
            // Both at the same time.
            Some(leaving) => CloseReason::Local {
                reason: leaving.reason,
            },
            None => CloseReason::Peer {
                reason: disconnect_reason(&frame.content).into(),
            },
        };
        self.end(reason);
    }

    fn established(&mut self, now: Instant, frame: Frame) {
        if self.is_foreign(&frame) {
            return self.fail(now, ProtocolError::WrongSession(frame.kind));
        }
        let open = self.state() == State::Established;
        match frame.kind {
            FrameKind::Chunk => self.handle_chunk(now, frame),
            // What arrives while this end leaves is discarded.
            FrameKind::Message | FrameKind::Error if !open => {}
            FrameKind::Message => {
                let content = Piece {
                    bytes: frame.content,
                    digest: self.decoder.digest(),
                };
                self.take_message(now, Message::of(frame.content_type, content));
            }
            FrameKind::Heartbeat => self.heartbeat(now, &frame.content),
            FrameKind::Error => {
                if self.count_error(now) {
                    return;
                }
                self.push_event(Event::Error(error_text(&frame.content)));
            }
            kind @ (FrameKind::SessionInit | FrameKind::SessionAck | FrameKind::Disconnect) => {
                self.fail(now, ProtocolError::Unexpected(kind));
            }
        }
    }

    /// Only a `ping` is answered: whoever answers a `pong` may be answered for ever.
    fn heartbeat(&mut self, now: Instant, content: &Bytes) {
        // An answer that nothing else takes along waits for ever.
        let waits = planted!("a pong is not flushed") && self.outbox.is_empty();
        if (content == PING && !waits) || planted!("pongs are answered") {
            self.say_pong(now);
        }
    }

    /// Says that this end lives.
    pub(super) fn say_pong(&mut self, now: Instant) {
        if self.outbox.has_room_for_answer() {
            let pong = self.heartbeat_frame(PONG);
            self.push(now, pong, Sort::Answer);
        }
    }

    pub(super) fn heartbeat_frame(&mut self, content: &'static [u8]) -> EncodedFrame {
        let (content, min_len) = (Bytes::from_static(content), self.min_len());
        let (kind, content_type) = (FrameKind::Heartbeat, ContentType::BINARY);
        self.encode(kind, content_type, content, Extra::None, min_len)
            // Its content and type are constants that fit.
            .expect("a heartbeat fits")
    }

    /// Whether an established session's frame belongs to another one (PROTOCOL.md §4.3). A server
    /// asks for the id in each frame, errors excepted; a client only that it is no other.
    fn is_foreign(&self, frame: &Frame) -> bool {
        if !matches!(self.phase, Phase::Established) {
            return false;
        }
        match (frame.session, self.role) {
            (None, Role::Client) => false,
            (None, Role::Server) => frame.kind != FrameKind::Error,
            (session, _) => session != self.session,
        }
    }
}

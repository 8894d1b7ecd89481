//! What comes from the peer.

use bytes::Bytes;

use super::goodbye::{disconnect_reason, error_text};
use super::{Connection, Phase, Role, Sort};
use crate::frame::{Frame, FrameError, FrameKind, LEGACY_MIN_FRAME};
use crate::{CloseReason, ContentType, Event, Instant, Message, ProtocolError};

const PING: &[u8] = b"ping";
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
        self.resume(now);
        while !input.is_empty() && self.is_listening() {
            if !self.wants_input() {
                self.deaf = true;
                let taken = data.len() - input.len();
                self.stats.bytes_received += taken as u64;
                return taken;
            }
            match self.decoder.decode(&mut input) {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    self.stats.frames_received += 1;
                    self.heard = now;
                    self.handle_frame(now, frame);
                }
                Err(error) => self.fail(now, error.into()),
            }
        }
        self.deaf = !self.wants_input();
        self.stats.bytes_received += data.len() as u64;
        data.len()
    }

    /// The peer will send nothing more: its side of the stream has ended.
    pub fn handle_eof(&mut self, _now: Instant) {
        match &mut self.phase {
            Phase::Handshake { .. } | Phase::Established => {
                let mid_frame = self.decoder.partial_len() > 0;
                self.finish(CloseReason::Eof { mid_frame });
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
            Phase::Handshake { .. } | Phase::Established => self.finish(CloseReason::Transport {
                error: error.into(),
            }),
            Phase::Closing { reason, .. } => {
                let reason = reason.clone();
                self.finish(reason);
            }
            Phase::Closed => {}
        }
    }

    /// Whether what arrives is looked at.
    fn is_listening(&self) -> bool {
        matches!(self.phase, Phase::Handshake { .. } | Phase::Established)
    }

    fn handle_frame(&mut self, now: Instant, frame: Frame) {
        if frame.kind == FrameKind::Disconnect && !self.is_foreign(&frame) {
            let reason = disconnect_reason(&frame.content).into();
            return self.finish(CloseReason::Peer { reason });
        }
        match (&self.phase, self.role) {
            (Phase::Handshake { .. }, Role::Client) => self.await_init(now, &frame),
            (Phase::Handshake { .. }, Role::Server) => self.await_ack(now, &frame),
            _ => self.established(now, frame),
        }
    }

    fn await_init(&mut self, now: Instant, frame: &Frame) {
        match (frame.kind, frame.session) {
            (FrameKind::SessionInit, Some(session)) => {
                self.session = Some(session);
                let ack = self.encode_own(
                    FrameKind::SessionAck,
                    ContentType::BINARY,
                    b"Session acknowledged",
                    LEGACY_MIN_FRAME,
                );
                self.push(now, ack, Sort::Other);
                self.establish(now, session);
            }
            (FrameKind::SessionInit, None) => self.fail(now, ProtocolError::NoSession),
            (FrameKind::Error, _) => self.finish(CloseReason::Refused {
                reason: error_text(&frame.content).into(),
            }),
            (kind, _) => self.fail(now, ProtocolError::Unexpected(kind)),
        }
    }

    fn await_ack(&mut self, now: Instant, frame: &Frame) {
        match (frame.kind, self.session) {
            (FrameKind::SessionAck, Some(session)) if frame.session == Some(session) => {
                self.establish(now, session);
            }
            (FrameKind::SessionAck, _) => {
                self.fail(now, ProtocolError::WrongSession(frame.kind));
            }
            (kind, _) => self.fail(now, ProtocolError::Unexpected(kind)),
        }
    }

    fn established(&mut self, now: Instant, frame: Frame) {
        if self.is_foreign(&frame) {
            return self.fail(now, ProtocolError::WrongSession(frame.kind));
        }
        match frame.kind {
            FrameKind::Message if frame.content.len() > self.config.limits.content as usize => {
                let error = FrameError::ContentTooLarge {
                    len: frame.content.len() as u64,
                    max: self.config.limits.content,
                };
                self.fail(now, error.into());
            }
            FrameKind::Message => {
                self.stats.messages_received += 1;
                self.push_event(Event::Message(Message::new(
                    frame.content_type,
                    frame.content,
                )));
            }
            FrameKind::Heartbeat => self.heartbeat(now, &frame.content),
            FrameKind::Error => {
                self.push_event(Event::Error(error_text(&frame.content)));
            }
            kind @ (FrameKind::SessionInit
            | FrameKind::SessionAck
            | FrameKind::Chunk
            | FrameKind::Disconnect) => self.fail(now, ProtocolError::Unexpected(kind)),
        }
    }

    /// Only a `ping` is answered: whoever answers a `pong` may be answered for ever.
    fn heartbeat(&mut self, now: Instant, content: &Bytes) {
        if content == PING && self.outbox.has_room_for_answer() {
            let pong = self.encode_own(
                FrameKind::Heartbeat,
                ContentType::BINARY,
                PONG,
                LEGACY_MIN_FRAME,
            );
            self.push(now, pong, Sort::Answer);
        }
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

//! The beginning: who the peer is, and what was agreed on (PROTOCOL.md §4.1 and §4.6
//! to §4.8).

use alloc::boxed::Box;

use bytes::Bytes;

use super::goodbye::error_text;
use super::{Connection, Phase, Sort};
use crate::frame::{
    EncodedFrame, Extensions, Extra, Frame, FrameError, FrameKind, Hello, NONCE_LEN, SecHello, sign,
};
use crate::sec::{Ack, Handshake};
use crate::sign::{Digest, sha256};
use crate::{
    CloseReason, ContentType, Event, Identity, Instant, KeyId, ProtocolError, Security, Uuid,
};

/// What the contents of `session_ack` frames are.
const ACKNOWLEDGED: &[u8] = b"Session acknowledged";
/// What a peer is told that does not use `sec`.
const INSECURE: &str = "This end demands the extension sec";

/// How far a handshake is. In boxes, for a connection keeps room for it to its end.
pub(super) enum Step {
    /// A client waits for `session_init`.
    Init { nonce: Box<[u8; NONCE_LEN]> },
    /// A server waits for `session_ack`.
    Ack(Box<Said>),
    /// A client waits for what shows that the server holds the key.
    Proof,
}

/// What a server has said.
pub(super) struct Said {
    nonce: [u8; NONCE_LEN],
    /// The SHA-256 of its `session_init`.
    init: Digest,
}

impl Connection {
    /// Queues the frame that every connection begins with.
    pub(super) fn push_init(&mut self, now: Instant, nonce: [u8; NONCE_LEN]) {
        let offer = self.own_extensions(nonce, None);
        // Alone in its read at the peer, and shorter than that read: no padding (PROTOCOL.md §6).
        let frame = self.handshake_frame(FrameKind::SessionInit, b"Session established", offer, 0);
        let init = sha256(&[&frame.head, &frame.content]);
        self.push(now, frame, Sort::Other);
        if let Phase::Handshake { step, .. } = &mut self.phase {
            *step = Step::Ack(Box::new(Said { nonce, init }));
        }
    }

    /// What identifies the channel that carries the connection, such as an exporter of TLS
    /// (RFC 9266): the handshake fails unless both ends have given the same. A peer that does not use
    /// `sec` cannot, so it is refused, whatever [`Config::min_security`](crate::Config::min_security)
    /// says.
    ///
    /// # Panics
    ///
    /// If the binding is empty, or something was passed to [`handle_input`](Self::handle_input) before:
    /// then it would bind nothing.
    pub fn set_channel_binding(&mut self, binding: &[u8]) {
        assert!(
            !binding.is_empty(),
            "an empty channel binding binds nothing"
        );
        let is_new =
            matches!(self.phase, Phase::Handshake { .. }) && self.stats.bytes_received == 0;
        assert!(
            is_new,
            "the handshake has gone on: it is too late to bind it"
        );
        self.binding = Some(Box::new(sha256(&[binding])));
    }

    /// What the authentication of the session is worth. As long as the peer has shown nothing,
    /// [`Security::Legacy`].
    pub fn security(&self) -> Security {
        match self.identity {
            Some(_) => Security::Sec,
            None => Security::Legacy,
        }
    }

    /// Who the peer is, if it has shown that with `sec`.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// A frame that is to begin a session, or not.
    pub(super) fn handshake(&mut self, now: Instant, frame: &Frame) {
        let Phase::Handshake { step, .. } = &self.phase else {
            return;
        };
        let hello = self.decoder.take_hello();
        match step {
            Step::Init { nonce } => {
                let nonce = **nonce;
                self.await_init(now, frame, hello, nonce);
            }
            Step::Ack(said) => {
                let Said { nonce, init } = **said;
                self.await_ack(now, frame, hello, (&nonce, &init));
            }
            Step::Proof => self.await_proof(now, frame),
        }
    }

    fn await_init(
        &mut self,
        now: Instant,
        frame: &Frame,
        hello: Option<Hello>,
        nonce: [u8; NONCE_LEN],
    ) {
        // A decoder that wants no `sec` lets nothing through that is not verified.
        let is_verified = hello.as_ref().is_none_or(|hello| hello.is_verified);
        let session = match (frame.kind, frame.session) {
            (FrameKind::SessionInit, Some(session)) => session,
            (FrameKind::Error, _) if !is_verified => {
                return self.fail(now, ProtocolError::UnverifiedRefusal);
            }
            _ if !is_verified => return self.fail(now, FrameError::Mac.into()),
            (FrameKind::SessionInit, None) => return self.fail(now, ProtocolError::NoSession),
            (FrameKind::Error, _) => return self.end_by_refusal(frame),
            (FrameKind::Disconnect, _) => return self.end_by_peer(frame),
            (kind, _) => return self.fail(now, ProtocolError::Unexpected(kind)),
        };
        let ours = self.own_extensions(nonce, Some(self.config.key.id()));
        let offer = extensions(frame);
        let choice = ours.shared_with(&offer);
        let secure = hello.zip(choice.sec).zip(offer.sec);
        if secure.is_none() && !is_verified {
            return self.fail(now, FrameError::Mac.into());
        }
        self.session = Some(session);
        if secure.is_none() && self.demands_sec() {
            return self.refuse_insecure(now, false);
        }
        self.peer = offer.shared_with(&ours);
        let min_len = self.min_len();
        let mut ack = self.handshake_frame(FrameKind::SessionAck, ACKNOWLEDGED, choice, min_len);
        let Some(((hello, _), offer)) = secure else {
            self.push(now, ack, Sort::Other);
            self.decoder.end_hello(None);
            return self.establish(now, session);
        };

        let (unsigned, rest) = ack.parts();
        let (json, content) = rest.split_at(rest.len() - ACKNOWLEDGED.len());
        let init = [
            &hello.unsigned[..],
            &hello.code,
            &hello.json,
            &frame.content,
        ];
        let handshake = Handshake {
            server_nonce: &offer.nonce,
            client_nonce: &nonce,
            init: &sha256(&init),
            ack: Ack {
                unsigned,
                json,
                content,
            },
            binding: &self.binding_digest(),
        };
        let (mut keys, seal) = handshake.derive(&self.config.key);
        sign(&mut ack.head, &mut keys.client, &seal);
        self.push(now, ack, Sort::Other);
        if self.peer.trust {
            self.encoder.trust();
        } else {
            self.encoder.sign_later();
            self.outbox.set_session_key(keys.client);
        }
        self.decoder.end_hello(Some(keys.server));
        if let Phase::Handshake { step, .. } = &mut self.phase {
            *step = Step::Proof;
        }
    }

    fn await_ack(
        &mut self,
        now: Instant,
        frame: &Frame,
        hello: Option<Hello>,
        (nonce, init): (&[u8; NONCE_LEN], &Digest),
    ) {
        let is_verified = hello.as_ref().is_none_or(|hello| hello.is_verified);
        let Some(session) = self.session else {
            return;
        };
        let choice = extensions(frame);
        let chosen = choice.sec.filter(|_| frame.kind == FrameKind::SessionAck);
        match (chosen, hello) {
            (Some(chosen), Some(hello)) => {
                // The reader of the header asks for it.
                let Some(id) = chosen.key else {
                    return self.fail(now, ProtocolError::NotOffered);
                };
                let Some((key, identity)) = self.config.find_key(id) else {
                    return self.fail(now, ProtocolError::UnknownKey(id));
                };
                let handshake = Handshake {
                    server_nonce: nonce,
                    client_nonce: &chosen.nonce,
                    init,
                    ack: Ack {
                        unsigned: &hello.unsigned,
                        json: &hello.json,
                        content: &frame.content,
                    },
                    binding: &self.binding_digest(),
                };
                let (mut keys, seal) = handshake.derive(key);
                if !keys.client.verify_next(&hello.unsigned, &seal, &hello.code) {
                    return self.fail(now, FrameError::Mac.into());
                }
                self.identity = Some(identity);
                self.encoder.sign_later();
                self.outbox.set_session_key(keys.server);
                self.decoder.end_hello(Some(keys.client));
            }
            // Also one that chooses `sec` where that is not offered.
            _ if !is_verified => return self.fail(now, FrameError::Mac.into()),
            _ => {}
        }
        match frame.kind {
            FrameKind::SessionAck if frame.session == Some(session) => {}
            FrameKind::SessionAck => {
                return self.fail(now, ProtocolError::WrongSession(frame.kind));
            }
            FrameKind::Disconnect => return self.end_by_peer(frame),
            kind => return self.fail(now, ProtocolError::Unexpected(kind)),
        }
        let is_secure = self.identity.is_some();
        let mut offer = self.config.extensions();
        // Where it was chosen and is not in force it was not offered.
        offer.sec = choice.sec.filter(|_| is_secure);
        if !choice.is_part_of(&offer) {
            return self.fail(now, ProtocolError::NotOffered);
        }
        if !is_secure && self.demands_sec() {
            return self.refuse_insecure(now, true);
        }
        self.peer = choice;
        if is_secure {
            // The first frame under the server's key of the session: what shows that it has it.
            let (kind, min_len) = (FrameKind::SessionAck, self.min_len());
            let proof = self.handshake_frame(kind, ACKNOWLEDGED, Extensions::default(), min_len);
            if choice.trust {
                // It has its place at once, and with that its code.
                self.push(now, proof, Sort::Proof);
                self.encoder.trust();
                self.outbox.trust();
                self.decoder.trust();
            } else {
                self.push(now, proof, Sort::Other);
            }
        } else {
            self.decoder.end_hello(None);
        }
        self.establish(now, session);
    }

    /// The first frame of the server that nobody else can have made.
    fn await_proof(&mut self, now: Instant, frame: &Frame) {
        match (frame.kind, self.session) {
            (FrameKind::SessionAck, Some(session)) if frame.session == Some(session) => {
                let key = self.config.key.id();
                self.identity = Some(Identity { key, name: None });
                if self.peer.trust {
                    self.decoder.trust();
                }
                self.establish(now, session);
            }
            (FrameKind::SessionAck, _) => {
                self.fail(now, ProtocolError::WrongSession(frame.kind));
            }
            (FrameKind::Error, _) => self.end_by_refusal(frame),
            (FrameKind::Disconnect, _) => self.end_by_peer(frame),
            (kind, _) => self.fail(now, ProtocolError::Unexpected(kind)),
        }
    }

    /// The server does not want the session.
    fn end_by_refusal(&mut self, frame: &Frame) {
        self.end(CloseReason::Refused {
            reason: error_text(&frame.content).into(),
        });
    }

    /// What this end offers or would choose.
    fn own_extensions(&self, nonce: [u8; NONCE_LEN], key: Option<KeyId>) -> Extensions {
        Extensions {
            sec: self.config.sec.then_some(SecHello { nonce, key }),
            ..self.config.extensions()
        }
    }

    fn demands_sec(&self) -> bool {
        self.config.min_security == Some(Security::Sec) || self.binding.is_some()
    }

    fn binding_digest(&self) -> Digest {
        self.binding
            .as_deref()
            .copied()
            .unwrap_or_else(|| sha256(&[]))
    }

    /// Turns away a peer that holds the key and does not use `sec`: that it hears.
    fn refuse_insecure(&mut self, now: Instant, error: bool) {
        if error {
            self.push_error(now, INSECURE, self.min_len());
        }
        self.push_disconnect(now, INSECURE);
        self.begin_closing(now, CloseReason::Protocol(ProtocolError::Insecure));
    }

    /// Encodes a frame of the handshake; extensions that are none are not mentioned.
    fn handshake_frame(
        &mut self,
        kind: FrameKind,
        content: &'static [u8],
        extensions: Extensions,
        min_len: usize,
    ) -> EncodedFrame {
        let extra = if extensions == Extensions::default() {
            Extra::None
        } else {
            Extra::Extensions(extensions)
        };
        let content = Bytes::from_static(content);
        self.encode(kind, ContentType::BINARY, content, extra, min_len)
            // Contents and types are constants that fit.
            .expect("a frame of the handshake fits")
    }

    fn establish(&mut self, now: Instant, session: Uuid) {
        self.phase = Phase::Established;
        let chunks = self.peer.chunk.is_some();
        self.decoder.set_limits(self.config.frame_limits(chunks));
        if self.peer.coalesce {
            self.outbox.place_ahead();
        }
        if let Some(interval) = self.config.heartbeat {
            self.next_ping = now + interval;
        }
        self.push_event(Event::Established { session });
    }
}

/// What a frame of the handshake offers or chooses.
fn extensions(frame: &Frame) -> Extensions {
    match frame.extra {
        Extra::Extensions(extensions) => extensions,
        _ => Extensions::default(),
    }
}

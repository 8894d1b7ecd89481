//! One of two ends: what its application has sent and got, and what its line carries.

use std::collections::VecDeque;

use chat_core::frame::FrameError;
use chat_core::{CloseReason, Connection, Event, Instant, ProtocolError, Read, TransferId};

use crate::peer::SESSION;
use crate::settings::Settings;

/// A message or a stream, as its sender knows it.
pub(crate) struct Sent {
    pub(crate) content_type: String,
    pub(crate) bytes: Vec<u8>,
    /// A stream's number, and where it stands.
    pub(crate) id: Option<TransferId>,
    /// It goes in one piece, and so not before or after its time.
    pub(crate) in_order: bool,
    /// All of it was accepted.
    pub(crate) complete: bool,
    /// What its sender was told: all of it was taken, or it was given up.
    pub(crate) taken: bool,
    pub(crate) given_up: bool,
    /// How much of it the other end's application has read, and whether it has all of it, or does not
    /// want it.
    pub(crate) read: usize,
    pub(crate) delivered: bool,
    pub(crate) refused: bool,
}

/// One end with its application.
pub(crate) struct End {
    pub(crate) connection: Connection,
    pub(crate) config: Settings,
    pub(crate) sent: Vec<Sent>,
    /// The place in `sent` of the last that came in one piece, of the other end's.
    pub(crate) last: Option<usize>,
    /// Streams of the other end: their numbers, and their places there.
    pub(crate) streams: Vec<(TransferId, usize)>,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) established: bool,
    /// What is between this end and the other.
    pub(crate) line: VecDeque<u8>,
    /// Nothing more comes out of it after that.
    pub(crate) cut: bool,
    /// The other end has heard of that.
    pub(crate) heard_cut: bool,
}

impl Sent {
    pub(crate) fn new(content_type: String, bytes: Vec<u8>) -> Self {
        Self {
            content_type,
            bytes,
            id: None,
            in_order: false,
            complete: false,
            taken: false,
            given_up: false,
            read: 0,
            delivered: false,
            refused: false,
        }
    }
}

impl End {
    /// A stream of this end's.
    pub(crate) fn own(&self, which: u8) -> Option<(usize, TransferId)> {
        let streams = self.sent.iter().enumerate();
        let streams: Vec<_> = streams
            .filter_map(|(number, sent)| Some((number, sent.id?)))
            .collect();
        pick(&streams, which)
    }

    pub(crate) fn find(&mut self, id: TransferId) -> &mut Sent {
        let mut sent = self.sent.iter_mut();
        sent.find(|sent| sent.id == Some(id)).expect("its own")
    }

    pub(crate) fn hear(&mut self, peer: &mut Self, event: Event) {
        match event {
            Event::Established { session } => {
                assert!(!self.established && session == SESSION);
                self.established = true;
            }
            Event::Message(message) => {
                assert!(self.established);
                let mut sent = peer.sent.iter().enumerate();
                let same = |sent: &Sent| sent.content_type == **message.content_type();
                let (number, _) = sent.find(|(_, sent)| same(sent)).expect("nobody sent it");
                let sent = &mut peer.sent[number];
                assert!(
                    sent.bytes == message.content()[..],
                    "it is not what was sent"
                );
                assert!(
                    sent.complete && !sent.delivered,
                    "delivered twice, or too soon"
                );
                sent.delivered = true;
                if sent.in_order {
                    assert!(self.last < Some(number), "out of order");
                    self.last = Some(number);
                }
            }
            Event::Transfer { id, transfer } => {
                assert!(self.established && self.config.pieces);
                let mut sent = peer.sent.iter();
                let same = |sent: &Sent| sent.content_type == **transfer.content_type();
                let number = sent.position(same).expect("nobody sent it");
                assert!(self.streams.iter().all(|(_, other)| *other != number));
                self.streams.push((id, number));
            }
            Event::Error(text) => {
                let own = [
                    "a complaint",
                    "You send more than",
                    "too many errors",
                    "This end demands",
                    "content of",
                ];
                assert!(own.iter().any(|own| text.starts_with(own)), "{text}");
            }
            Event::Sent { id } => {
                let sent = self.find(id);
                assert!(sent.complete && !sent.taken);
                sent.taken = true;
            }
            Event::Aborted { id, .. } => {
                let sent = self.find(id);
                assert!(!sent.taken);
                sent.given_up = true;
            }
            Event::Undelivered {
                content_type, size, ..
            } => {
                let mut sent = self.sent.iter_mut();
                let same = |sent: &&mut Sent| sent.content_type == *content_type;
                let sent = sent.find(same).expect("its own");
                assert!(sent.id.is_none() && !sent.given_up && !sent.in_order);
                assert_eq!(sent.bytes.len() as u64, size);
                sent.given_up = true;
            }
            Event::Closed(reason) => {
                if let CloseReason::Protocol(error) = reason {
                    let told = self.config.has_limits() && peer.config.has_limits();
                    assert!(is_expected(error, told), "{error:?}");
                }
                self.closed = Some(reason);
            }
            other => panic!("{other:?}"),
        }
    }

    /// False: there is nothing more at the moment.
    pub(crate) fn read(
        &mut self,
        peer: &mut Self,
        now: Instant,
        id: TransferId,
        number: usize,
    ) -> bool {
        let sent = &mut peer.sent[number];
        match self.connection.read(now, id) {
            Some(Read::Piece(piece)) => {
                assert!(!sent.delivered && !sent.refused && !piece.is_empty());
                let end = sent.read + piece.len();
                assert!(
                    sent.bytes.get(sent.read..end) == Some(&piece[..]),
                    "not what was sent"
                );
                sent.read = end;
                true
            }
            Some(Read::End) => {
                assert!(sent.complete && sent.read == sent.bytes.len());
                assert!(!sent.delivered && !sent.refused);
                sent.delivered = true;
                true
            }
            Some(Read::Failed(_)) => {
                sent.refused |= !sent.delivered;
                false
            }
            None => false,
        }
    }
}

/// What two ends that keep to the protocol may find wrong with each other: their settings. A limit is
/// one that the other end was not `told`.
fn is_expected(error: ProtocolError, told: bool) -> bool {
    match error {
        ProtocolError::Insecure | ProtocolError::TooManyErrors => true,
        ProtocolError::Frame(FrameError::ContentTooLarge { .. }) => !told,
        _ => false,
    }
}

/// One of them, if there are any.
pub(crate) fn pick<T: Copy>(from: &[T], which: u8) -> Option<T> {
    let index = usize::from(which).checked_rem(from.len())?;
    Some(from[index])
}

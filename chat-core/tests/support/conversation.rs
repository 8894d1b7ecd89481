//! Whole conversations, one for each set of extensions, recorded as each end saw them.

use std::sync::Arc;

use bytes::Bytes;
use chat_core::frame::{Decoder, Encoder, Extensions, Extra, Limits};
use chat_core::{Config, Event, Key, Message, Role, Transfer, TransferId};

use super::chunk::{IMAGE, other};
use super::sec::frames_of;
use super::{Solo, secs};

pub(crate) const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// A set of extensions that PROTOCOL.md §4.6 lets a server offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    Version1,
    /// The same under a key that is no public one.
    SharedKey,
    Limits,
    Coalesce,
    Ping,
    Chunk,
    Sec,
    AllButSec,
    AllButChunk,
    All,
    /// Only `sec`, over a channel that is trusted.
    SecTrust,
    AllTrust,
}

impl Set {
    pub(crate) const ALL: [Self; 12] = [
        Self::Version1,
        Self::SharedKey,
        Self::Limits,
        Self::Coalesce,
        Self::Ping,
        Self::Chunk,
        Self::Sec,
        Self::AllButSec,
        Self::AllButChunk,
        Self::All,
        Self::SecTrust,
        Self::AllTrust,
    ];

    fn key(self) -> Key {
        match self {
            Self::SharedKey => Key::new(b"a key of thirty-two bytes, by me"),
            _ => Key::default(),
        }
    }

    fn config(self, role: Role) -> Config {
        let config = Config::new(self.key())
            .heartbeat(Some(match role {
                Role::Client => secs(5),
                Role::Server => secs(1),
            }))
            .chunk_threshold(16);
        match self {
            Self::Version1 | Self::SharedKey => config.version_1(),
            Self::Sec | Self::SecTrust => config
                .coalesce(false)
                .ping_timeout(None)
                .chunks(false)
                .trust_channel(self == Self::SecTrust),
            Self::AllButChunk => config.chunks(false),
            Self::All => config,
            Self::AllTrust => config.trust_channel(true),
            // The client would use it.
            _ => config.sec(role == Role::Client),
        }
    }

    /// What is left of an offer, where no settings make one of this alone.
    fn left_of(self, offer: Extensions) -> Option<Extensions> {
        let mut left = Extensions::default();
        match self {
            Self::Limits => left.max_content = offer.max_content,
            Self::Coalesce => left.coalesce = offer.coalesce,
            Self::Ping => left.ping = offer.ping,
            Self::Chunk => left.chunk = offer.chunk,
            _ => return None,
        }
        Some(left)
    }

    /// What both ends must have agreed on, without the numbers: in the order of the document.
    pub(crate) fn agreed(self) -> [bool; 6] {
        match self {
            Self::Version1 | Self::SharedKey => [false; 6],
            Self::Limits => [true, false, false, false, false, false],
            Self::Coalesce => [false, true, false, false, false, false],
            Self::Ping => [false, false, true, false, false, false],
            Self::Chunk => [false, false, false, true, false, false],
            Self::Sec => [false, false, false, false, true, false],
            Self::AllButSec => [true, true, true, true, false, false],
            Self::AllButChunk => [true, true, true, false, true, false],
            Self::All => [true, true, true, true, true, false],
            Self::SecTrust => [false, false, false, false, true, true],
            Self::AllTrust => [true; 6],
        }
    }

    pub(crate) fn has_chunks(self) -> bool {
        self.agreed()[3]
    }

    pub(crate) fn has_sec(self) -> bool {
        self.agreed()[4]
    }

    /// The offer of a server that offers only some of what it can.
    fn rewrite(self, init: &[u8]) -> Vec<u8> {
        let mut decoder = Decoder::new(self.key(), Limits::default());
        let frame = decoder.decode(&mut &init[..]).expect("it is a frame");
        let mut frame = frame.expect("it is whole");
        if let Extra::Extensions(offer) = frame.extra
            && let Some(left) = self.left_of(offer)
        {
            frame.extra = Extra::Extensions(left);
        }
        let encoded = Encoder::new(self.key()).encode(&frame, 0);
        encoded.expect("it is shorter now").to_vec()
    }
}

/// What an application or a clock does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Text,
    Binary,
    Error,
    /// Until both have asked whether the other lives.
    Wait,
    /// A message above the threshold.
    InPieces,
    Open,
    Write(&'static [u8]),
    Cancel,
    Close,
}

/// Something that happens to one end.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// What the peer has sent at once.
    Arrives(Vec<u8>),
    Does(Act),
}

/// All that came of a conversation at one end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Event>,
    /// The ends of its own transfers, which go before other events.
    pub(crate) notices: Vec<Event>,
    pub(crate) sent: Vec<u8>,
}

/// A connection to which the steps of a recording happen.
pub(crate) struct Player {
    pub(crate) solo: Solo,
    pub(crate) outcome: Outcome,
    transfer: Option<TransferId>,
}

impl Player {
    /// Takes everything that it reports and sends.
    pub(crate) fn drain(&mut self) {
        for event in self.solo.events() {
            match event {
                Event::Sent { .. } | Event::Aborted { .. } => self.outcome.notices.push(event),
                event => self.outcome.events.push(event),
            }
        }
        while !self.solo.shown().is_empty() {
            let sent = self.solo.take(usize::MAX);
            self.outcome.sent.extend(sent);
        }
    }

    /// What is refused is refused: the connection may be over.
    pub(crate) fn act(&mut self, act: Act) {
        let now = self.solo.now;
        let connection = &mut self.solo.connection;
        match act {
            Act::Text => drop(connection.send(now, Message::text("Hello, World!"))),
            Act::Binary => drop(connection.send(now, Message::binary(vec![0, 1, 254, 255]))),
            Act::Error => connection.send_error(now, "no such room"),
            Act::Wait => self.solo.wait(secs(5)),
            Act::InPieces => {
                let content = Bytes::from_static(b"more than sixteen bytes");
                drop(connection.send(now, Message::new(IMAGE, content)));
            }
            Act::Open => self.transfer = connection.open(now, Transfer::new(IMAGE)).ok(),
            Act::Write(content) => {
                if let Some(id) = self.transfer {
                    let _ = connection.write(now, id, Bytes::from_static(content));
                }
            }
            Act::Cancel => {
                if let Some(id) = self.transfer {
                    connection.cancel(now, id, "changed my mind");
                }
            }
            Act::Close => connection.close(now, "enough"),
        }
    }

    /// The peer's side of the stream ends.
    pub(crate) fn end(mut self) -> Self {
        self.solo.connection.handle_eof(self.solo.now);
        self.drain();
        self
    }
}

/// One end of a conversation.
pub(crate) struct Side {
    pub(crate) set: Set,
    pub(crate) role: Role,
    config: Arc<Config>,
    pub(crate) steps: Vec<Step>,
    /// What the end of the stream adds is no part of it.
    pub(crate) outcome: Outcome,
    /// All that arrives.
    pub(crate) stream: Vec<u8>,
    /// Where the frames of that end, in order.
    pub(crate) borders: Vec<usize>,
    /// What had been reported when so many frames had arrived.
    pub(crate) after: Vec<(Vec<Event>, Vec<Event>)>,
}

impl Side {
    fn new(set: Set, role: Role) -> Self {
        Self {
            set,
            role,
            config: Arc::new(set.config(role)),
            steps: Vec::new(),
            outcome: Outcome::default(),
            stream: Vec::new(),
            borders: Vec::new(),
            after: Vec::new(),
        }
    }

    pub(crate) fn player(&self) -> Player {
        let mut player = Player {
            solo: Solo::new(self.role, Config::clone(&self.config)),
            outcome: Outcome::default(),
            transfer: None,
        };
        player.drain();
        player
    }

    /// Plays the recording with these bytes in place of what arrived, and in the same places: each
    /// arrival in the pieces between `cuts`, which ascend. With `polls`, what it reports and sends is
    /// taken after each piece, not only after each step. It stops where `stream` does.
    pub(crate) fn play(&self, stream: &[u8], cuts: &[usize], polls: bool) -> Player {
        let mut player = self.player();
        let mut cuts = cuts.iter().copied().peekable();
        let mut at = 0;
        for step in &self.steps {
            match step {
                Step::Does(act) => player.act(*act),
                Step::Arrives(bytes) => {
                    let end = (at + bytes.len()).min(stream.len());
                    while at < end {
                        while cuts.next_if(|cut| *cut <= at).is_some() {}
                        let next = cuts.peek().map_or(end, |cut| end.min(*cut));
                        player.solo.feed_bytes(&stream[at..next]);
                        at = next;
                        if polls {
                            player.drain();
                        }
                    }
                    if at == stream.len() && at < self.stream.len() {
                        player.drain();
                        return player;
                    }
                }
            }
            player.drain();
        }
        player
    }

    /// The places of the stream where something can be tried: all, but inside of padding, which is
    /// the same byte again and again, only every sixteenth.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        let padding = |at: usize| {
            let around = &self.stream[at.saturating_sub(4)..(at + 4).min(self.stream.len())];
            around.len() == 8 && around.iter().all(|byte| *byte == b' ')
        };
        (0..self.stream.len()).filter(move |at| at % 16 == 0 || !padding(*at))
    }

    /// How many frames are whole in the first `len` bytes.
    pub(crate) fn whole_frames(&self, len: usize) -> usize {
        self.borders.partition_point(|border| *border <= len)
    }

    fn finish(&mut self) {
        let mut at = 0;
        let ends = frames_of(&self.stream).into_iter().map(|frame| {
            at += frame.len();
            at
        });
        self.borders = ends.collect();
        for end in [0].iter().chain(&self.borders) {
            let Outcome {
                events, notices, ..
            } = self.play(&self.stream[..*end], &[], false).outcome;
            self.after.push((events, notices));
        }
    }
}

/// Both ends of a conversation.
pub(crate) struct Conversation {
    pub(crate) set: Set,
    pub(crate) client: Side,
    pub(crate) server: Side,
}

impl Conversation {
    pub(crate) fn side(&self, role: Role) -> &Side {
        match role {
            Role::Client => &self.client,
            Role::Server => &self.server,
        }
    }

    /// Some of everything: texts, bytes, heartbeats, errors, pieces both ways, and a goodbye.
    pub(crate) fn record(set: Set, closer: Role) -> Self {
        let mut sides = ROLES.map(|role| Side::new(set, role));
        let mut players = [sides[0].player(), sides[1].player()];
        let mut shown = [0; 2];
        let mut acts = vec![
            (Act::Text, &ROLES[..]),
            (Act::Binary, &ROLES),
            (Act::Wait, &ROLES),
            (Act::Error, &ROLES),
        ];
        if set.has_chunks() {
            for act in [
                Act::InPieces,
                Act::Open,
                Act::Write(b"one piece"),
                Act::Write(b"and another"),
                Act::Cancel,
            ] {
                acts.push((act, &ROLES));
            }
        }
        let last = [closer];
        acts.push((Act::Close, &last));
        settle(&mut sides, &mut players, &mut shown);
        for (act, roles) in acts {
            for role in roles {
                sides[*role as usize].steps.push(Step::Does(act));
                players[*role as usize].act(act);
                players[*role as usize].drain();
            }
            settle(&mut sides, &mut players, &mut shown);
        }
        for (side, player) in sides.iter_mut().zip(players) {
            side.outcome = player.outcome;
            let agreed = player.solo.connection.peer_extensions();
            let agreed = [
                agreed.max_content.is_some(),
                agreed.coalesce,
                agreed.ping.is_some(),
                agreed.chunk.is_some(),
                player.solo.connection.identity().is_some(),
                agreed.trust,
            ];
            assert_eq!(agreed, set.agreed(), "{set:?}, {:?}", side.role);
            side.finish();
        }
        let [client, server] = sides;
        Self {
            set,
            client,
            server,
        }
    }
}

/// Whatever is sent arrives.
fn settle(sides: &mut [Side; 2], players: &mut [Player; 2], shown: &mut [usize; 2]) {
    let mut quiet = 0;
    for from in ROLES.into_iter().cycle() {
        let sent = &players[from as usize].outcome.sent[shown[from as usize]..];
        if sent.is_empty() {
            quiet += 1;
            if quiet == 2 {
                return;
            }
            continue;
        }
        quiet = 0;
        let first = shown[from as usize] == 0 && from == Role::Server;
        let side = &mut sides[other(from) as usize];
        let bytes = if first {
            side.set.rewrite(sent)
        } else {
            sent.to_vec()
        };
        shown[from as usize] += sent.len();
        let to = &mut players[other(from) as usize];
        if !to.solo.connection.is_closed() {
            to.solo.feed_bytes(&bytes);
            to.drain();
            side.stream.extend(&bytes);
            side.steps.push(Step::Arrives(bytes));
        }
    }
}

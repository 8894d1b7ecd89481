//! Two connections that send each other messages and streams in pieces, under random treatment:
//! each arrives whole or not at all.

mod support;

use bytes::Bytes;
use chat_core::{Config, Event, Message, Read, Receive, Role, State, Transfer, TransferId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::collections::BTreeMap;

use support::chunk::{IMAGE, noise, other};
use support::{Pair, millis, property};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn any_config() -> impl Strategy<Value = Config> {
    (
        any::<bool>(),
        select(vec![Receive::Whole, Receive::Pieces]),
        0_u32..20_000,
        1_024_u32..70_000,
        65_536_u32..300_000,
        1_u32..5,
        200_000_u64..400_000,
        select(vec![1_usize, 20_000, 200_000, 1_000_000]),
        select(vec![1_usize, 2_000, 100_000]),
    )
        .prop_map(
            |(coalesce, receive, threshold, size, window, transfers, message, out, inbox)| {
                Config::default()
                    .coalesce(coalesce)
                    .receive(receive)
                    .chunk_threshold(threshold)
                    .chunk_size(size)
                    .window(window)
                    .max_transfers(transfers)
                    .max_message(message)
                    .max_outbox(out)
                    .max_inbox(inbox)
                    .stall_timeout(None)
                    .idle_timeout(None)
                    .ping_timeout(None)
                    .transfer_timeout(None)
            },
        )
}

/// One step, at or from one end.
#[derive(Clone, Debug)]
enum Step {
    Send(Role, usize),
    Open(Role, Option<usize>),
    Write(Role, Index, usize),
    Finish(Role, Index),
    /// Of its own transfers, or of the other's.
    Cancel(Role, Index, bool),
    Read(Role, Index, u8),
    Poll(Role, bool),
    Carry(Role, usize, usize),
    Settle,
    Run(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let role = || select(&ROLES[..]);
    let len = || prop_oneof![1_usize..2_000, 1_usize..250_000];
    prop_oneof![
        20 => (role(), len()).prop_map(|(role, len)| Step::Send(role, len)),
        8 => (role(), proptest::option::of(0_usize..200_000)).prop_map(|(role, size)| Step::Open(role, size)),
        15 => (role(), any::<Index>(), len()).prop_map(|(role, of, len)| Step::Write(role, of, len)),
        8 => (role(), any::<Index>()).prop_map(|(role, of)| Step::Finish(role, of)),
        6 => (role(), any::<Index>(), any::<bool>()).prop_map(|(role, of, own)| Step::Cancel(role, of, own)),
        20 => (role(), any::<Index>(), 1_u8..10).prop_map(|(role, of, n)| Step::Read(role, of, n)),
        4 => (role(), any::<bool>()).prop_map(|(role, polls)| Step::Poll(role, polls)),
        30 => (role(), 1_usize..100_000, 1_usize..9_000).prop_map(|(role, len, split)| Step::Carry(role, len, split)),
        15 => Just(Step::Settle),
        6 => (1_u64..3_000).prop_map(Step::Run),
    ]
}

/// A transfer of one end.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each may or may not have happened, in any order"
)]
struct Stream {
    written: Vec<u8>,
    finished: bool,
    cancelled: bool,
    sent: bool,
    aborted: bool,
    read: Vec<u8>,
    /// How the reader found it to end: whole?
    ended: Option<bool>,
}

/// What one end has sent.
#[derive(Default)]
struct Sent {
    small: Vec<Message>,
    /// How many of them have arrived, in order.
    arrived: usize,
    /// Those that went in pieces, and whether they have arrived.
    large: Vec<(Message, bool)>,
    streams: BTreeMap<TransferId, Stream>,
    /// As the other end knows them.
    announced: Vec<TransferId>,
    undelivered: usize,
}

struct World {
    pair: Pair,
    sent: [Sent; 2],
    count: u64,
}

impl World {
    fn new(client: Config, server: Config) -> Self {
        let mut pair = Pair::with(client, server);
        pair.settle();
        let mut world = Self {
            pair,
            sent: Default::default(),
            count: 0,
        };
        world.take_events();
        world
    }

    /// Bytes as no other message has them.
    fn bytes(&mut self, len: usize) -> Bytes {
        self.count += 1;
        noise(len, self.count)
    }

    fn step(&mut self, step: &Step) {
        let now = self.pair.now;
        match *step {
            Step::Send(role, len) => {
                let message = Message::new(IMAGE, self.bytes(len));
                let end = &mut self.pair.end(role).connection;
                let chunked = end.is_chunked(&message);
                if end.send(now, message.clone()).is_ok() {
                    let sent = &mut self.sent[role as usize];
                    if chunked {
                        sent.large.push((message, false));
                    } else {
                        sent.small.push(message);
                    }
                }
            }
            Step::Open(role, size) => {
                let mut head = Transfer::new(IMAGE);
                if let Some(size) = size {
                    head = head.total(size as u64);
                }
                if let Ok(id) = self.pair.end(role).connection.open(now, head) {
                    self.sent[role as usize]
                        .streams
                        .insert(id, Stream::default());
                }
            }
            Step::Write(role, of, len) => {
                let bytes = self.bytes(len);
                if let Some(id) = self.own(role, of)
                    && self
                        .pair
                        .end(role)
                        .connection
                        .write(now, id, bytes.clone())
                        .is_ok()
                {
                    let stream = self.sent[role as usize].streams.get_mut(&id);
                    stream.expect("it was opened").written.extend(&bytes[..]);
                }
            }
            Step::Finish(role, of) => {
                if let Some(id) = self.own(role, of)
                    && self.pair.end(role).connection.finish(now, id).is_ok()
                {
                    let stream = self.sent[role as usize].streams.get_mut(&id);
                    stream.expect("it was opened").finished = true;
                }
            }
            Step::Cancel(role, of, own) => {
                let from = if own { role } else { other(role) };
                let id = if own {
                    self.own(role, of)
                } else {
                    self.announced(from, of)
                };
                if let Some(id) = id {
                    self.pair.end(role).connection.cancel(now, id, "cancelled");
                    if let Some(stream) = self.sent[from as usize].streams.get_mut(&id) {
                        stream.cancelled = true;
                    }
                }
            }
            Step::Read(role, of, count) => {
                if let Some(id) = self.announced(other(role), of) {
                    for _ in 0..count {
                        self.read(role, id);
                    }
                }
            }
            Step::Poll(role, polls) => self.pair.end(role).polls = polls,
            Step::Carry(role, len, split) => {
                let link = self.pair.link(role);
                let before = (link.split, link.capacity);
                (link.split, link.capacity) = (split, link.held() + len);
                self.pair.turn();
                let link = self.pair.link(role);
                (link.split, link.capacity) = before;
            }
            Step::Settle => self.pair.settle(),
            Step::Run(time) => self.pair.run_for(millis(time)),
        }
        self.take_events();
    }

    fn own(&self, role: Role, of: Index) -> Option<TransferId> {
        let streams = &self.sent[role as usize].streams;
        (!streams.is_empty()).then(|| {
            *streams
                .keys()
                .nth(of.index(streams.len()))
                .expect("in range")
        })
    }

    fn announced(&self, from: Role, of: Index) -> Option<TransferId> {
        let announced = &self.sent[from as usize].announced;
        (!announced.is_empty()).then(|| announced[of.index(announced.len())])
    }

    fn read(&mut self, role: Role, id: TransferId) -> bool {
        let now = self.pair.now;
        let read = self.pair.end(role).connection.read(now, id);
        let from = &mut self.sent[other(role) as usize];
        let stream = from.streams.get_mut(&id).expect("it was announced");
        match read {
            None => false,
            Some(Read::Piece(piece)) => {
                assert!(!piece.is_empty() && stream.ended.is_none());
                stream.read.extend(&piece[..]);
                assert!(stream.written.starts_with(&stream.read), "other bytes");
                true
            }
            Some(Read::End) => {
                assert_eq!(stream.ended, None, "it ends twice");
                assert!(
                    stream.finished && stream.read == stream.written,
                    "not all of it"
                );
                stream.ended = Some(true);
                true
            }
            Some(Read::Failed(_)) => {
                if stream.ended.is_none() {
                    assert!(stream.cancelled || stream.aborted, "nobody gave it up");
                    stream.ended = Some(false);
                }
                false
            }
        }
    }

    fn take_events(&mut self) {
        for role in ROLES {
            for event in core::mem::take(&mut self.pair.end(role).events) {
                self.event(role, event);
            }
            assert_eq!(
                self.pair.end(role).connection.state(),
                State::Established,
                "{role:?}"
            );
        }
    }

    fn event(&mut self, at: Role, event: Event) {
        let peer = &mut self.sent[other(at) as usize];
        match event {
            Event::Established { .. } => {}
            Event::Message(message) => {
                if peer.small.get(peer.arrived) == Some(&message) {
                    peer.arrived += 1;
                } else if let Some((_, arrived)) =
                    peer.large.iter_mut().find(|(sent, _)| *sent == message)
                {
                    assert!(!*arrived, "it comes twice");
                    *arrived = true;
                } else {
                    let mut streams = peer.streams.values_mut();
                    let whole = streams.find(|it| it.written == *message.content());
                    let whole = whole.expect("a message that was not sent, or not in order");
                    assert!(whole.finished && whole.ended.is_none());
                    whole.ended = Some(true);
                }
            }
            Event::Transfer { id, transfer } => {
                let large = peer.large.iter_mut().find(|(sent, arrived)| {
                    !arrived
                        && !peer.streams.contains_key(&id)
                        && transfer.size() == Some(sent.content().len() as u64)
                });
                // A message is read like a stream that was written at once.
                if let Some((message, arrived)) = large {
                    *arrived = true;
                    let written = message.content().to_vec();
                    let stream = Stream {
                        written,
                        finished: true,
                        ..Stream::default()
                    };
                    peer.streams.insert(id, stream);
                }
                assert!(peer.streams.contains_key(&id), "it was not sent");
                peer.announced.push(id);
            }
            Event::Sent { id } => {
                let stream = self.sent[at as usize]
                    .streams
                    .get_mut(&id)
                    .expect("it was opened");
                assert!(stream.finished && !stream.sent && !stream.aborted);
                stream.sent = true;
            }
            Event::Aborted { id, .. } => {
                let stream = self.sent[at as usize]
                    .streams
                    .get_mut(&id)
                    .expect("it was opened");
                assert!(!stream.sent && !stream.aborted);
                stream.aborted = true;
            }
            Event::Undelivered { .. } => self.sent[at as usize].undelivered += 1,
            other => panic!("{other:?}"),
        }
    }

    /// Everything that can go on does, until nothing happens any more.
    fn drain(&mut self) {
        for role in ROLES {
            self.pair.end(role).polls = true;
            let now = self.pair.now;
            let ids: Vec<TransferId> = self.sent[role as usize].streams.keys().copied().collect();
            for id in ids {
                // Those that lack bytes are given up.
                let end = &mut self.pair.end(role).connection;
                if end.finish(now, id).is_ok() {
                    self.sent[role as usize]
                        .streams
                        .get_mut(&id)
                        .expect("its own")
                        .finished = true;
                } else {
                    let stream = self.sent[role as usize]
                        .streams
                        .get_mut(&id)
                        .expect("its own");
                    if !stream.finished && !stream.aborted {
                        stream.cancelled = true;
                        end.cancel(now, id, "unfinished");
                    }
                }
            }
        }
        loop {
            self.pair.settle();
            self.take_events();
            let mut moved = false;
            for role in ROLES {
                for id in self.sent[other(role) as usize].announced.clone() {
                    moved |= self.read(role, id);
                }
            }
            if !moved {
                break;
            }
        }
    }
}

proptest! {
    #![proptest_config(property(400))]

    #[test]
    fn everything_arrives_whole_or_not_at_all(
        client in any_config(),
        server in any_config(),
        steps in vec(any_step(), 1..120),
    ) {
        let mut world = World::new(client, server);
        for step in &steps {
            world.step(step);
        }
        world.drain();
        for role in ROLES {
            let held = world.pair.end(role).connection.outbox_bytes();
            prop_assert_eq!(held, 0, "{:?}", role);
            let sent = &world.sent[role as usize];
            prop_assert_eq!(sent.arrived, sent.small.len());
            let lost = sent.large.iter().filter(|(_, arrived)| !arrived).count();
            prop_assert!(lost <= sent.undelivered, "{} lost, {} reported", lost, sent.undelivered);
            for (id, stream) in &sent.streams {
                if !stream.cancelled && !stream.aborted {
                    prop_assert_eq!(stream.ended, Some(true), "{:?} of {:?}", id, role);
                }
            }
        }
        for role in ROLES {
            world.pair.close(role, "enough");
        }
        world.pair.run_to_end();
        for role in ROLES {
            let last = world.pair.end(role).events.pop();
            prop_assert!(matches!(last, Some(Event::Closed(_))));
            prop_assert!(world.pair.end(role).closed().is_none());
        }
    }
}

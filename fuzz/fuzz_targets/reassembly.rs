//! Messages in pieces from a peer that may do anything to them, in both ways to receive: what is
//! delivered is exactly what was sent, what is held is bounded, and what is answered makes sense.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use chat_core::frame::{
    Chunk, ChunkLimits, ChunkOp, Decoder, Encoder, Extensions, Extra, Frame, FrameKind, Limits,
};
use chat_core::{
    Config, Connection, ContentType, Entropy, Event, Instant, Key, Read, Receive, State,
    TransferId, Uuid,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    whole: bool,
    transfers: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Begin {
        total: Option<u32>,
        text: bool,
        wrong: Rarely,
    },
    Data {
        which: u8,
        len: u32,
        wrong: Rarely,
    },
    /// Pieces as small as can be.
    Crumbs {
        which: u8,
        count: u8,
    },
    End {
        which: u8,
        wrong: Rarely,
    },
    Abort {
        which: u8,
    },
    /// What only a receiver says.
    Answer {
        id: u8,
        wrong: Rarely,
    },
    Read {
        which: u8,
        count: u8,
    },
    Cancel {
        which: u8,
        wrong: Rarely,
    },
    Poll(u8),
    Transmit(u16),
    Advance(u32),
}

/// What is wrong, if anything is: most often nothing, so that some transfers come to their end.
#[derive(Arbitrary, Debug)]
struct Rarely(u8, u16);

impl Rarely {
    fn number(&self) -> Option<u16> {
        (self.0 >= 248).then_some(self.1)
    }

    fn type_is(&self) -> bool {
        self.0 == 247
    }
}

const SESSION: Uuid = Uuid::from_u128(1);
const WINDOW: u32 = 65_536;
const MAX_MESSAGE: u64 = 150_000;

/// A transfer as its sender sees it.
struct Sent {
    text: bool,
    total: Option<u64>,
    bytes: Vec<u8>,
    /// Nothing was wrong so far.
    good: bool,
    /// It may have been given up by a deadline.
    uncertain: bool,
    /// `end` was sent, and all is as it should be.
    complete: bool,
    /// Its last word was sent.
    over: bool,
    used: u64,
    given: u64,
    /// `done` or `abort` has come.
    answered: bool,
    /// Bytes that the application has read, or the message that was delivered.
    read: usize,
    delivered: bool,
    /// The application has given it up, or knows that it failed.
    dropped: bool,
}

struct World {
    connection: Connection,
    now: Instant,
    encoder: Encoder,
    decoder: Decoder,
    wire: Vec<u8>,
    sent: BTreeMap<u64, Sent>,
    announced: Vec<TransferId>,
    last: u64,
    whole: bool,
    transfers: u64,
    closed: bool,
}

fn content_type(text: bool) -> ContentType {
    if text {
        ContentType::TEXT
    } else {
        ContentType::BINARY
    }
}

impl World {
    fn new(whole: bool, transfers: u8) -> Self {
        let transfers = u32::from(transfers % 4) + 1;
        let config = Config::default()
            .receive(if whole {
                Receive::Whole
            } else {
                Receive::Pieces
            })
            .window(WINDOW)
            .max_transfers(transfers)
            .max_message(MAX_MESSAGE)
            .max_inbox(20_000);
        let now = Instant::EPOCH;
        let mut world = Self {
            connection: Connection::server(Arc::new(config), SESSION, Entropy::new([2; 32]), now),
            now,
            encoder: Encoder::new(Key::default()),
            decoder: Decoder::new(Key::default(), Limits::default()),
            wire: Vec::new(),
            sent: BTreeMap::new(),
            announced: Vec::new(),
            last: 0,
            whole,
            transfers: transfers.into(),
            closed: false,
        };
        let mut choice = Extensions::default();
        choice.coalesce = true;
        choice.chunk = Some(ChunkLimits {
            size: 65_536,
            window: 65_536,
            transfers: 8,
            message: None,
        });
        let extra = Extra::Extensions(choice);
        world.feed(FrameKind::SessionAck, ContentType::BINARY, vec![7], extra);
        assert_eq!(world.connection.state(), State::Established);
        world.transmit(usize::MAX);
        world
    }

    /// False: the frame was not sent, for the one before was not taken yet.
    fn feed(&mut self, kind: FrameKind, content_type: ContentType, content: Vec<u8>, extra: Extra) {
        let frame = Frame {
            kind,
            content_type,
            session: Some(SESSION),
            content: content.into(),
            extra,
        };
        self.wire
            .extend(self.encoder.encode(&frame, 0).expect("it fits").to_vec());
        self.push();
    }

    fn push(&mut self) {
        let taken = self.connection.handle_input(self.now, &self.wire);
        self.wire.drain(..taken);
    }

    fn chunk(&mut self, id: u64, op: ChunkOp, content_type: ContentType, content: Vec<u8>) {
        self.feed(
            FrameKind::Chunk,
            content_type,
            content,
            Extra::Chunk(Chunk { id, op }),
        );
    }

    /// An id that was begun, mostly.
    fn id(&self, which: u8) -> u64 {
        let count = self.sent.len();
        let open = self.sent.iter().rev().filter(|(_, it)| !it.over);
        let open: Vec<u64> = open.map(|(id, _)| *id).collect();
        match which {
            255 => u64::from(which) - count as u64,
            _ if open.is_empty() => self.last,
            which => open[usize::from(which) % open.len()],
        }
    }

    fn begin(&mut self, id: Option<u16>, total: Option<u32>, text: bool) {
        let id = id.map_or(self.last + if self.last == 0 { 1 } else { 2 }, u64::from);
        let total = total.map(|total| u64::from(total) % (2 * MAX_MESSAGE));
        if id % 2 == 1 && id > self.last {
            self.last = id;
            self.sent.insert(
                id,
                Sent {
                    text,
                    total,
                    bytes: Vec::new(),
                    good: true,
                    uncertain: false,
                    complete: false,
                    over: false,
                    used: 0,
                    given: 0,
                    answered: false,
                    read: 0,
                    delivered: false,
                    dropped: false,
                },
            );
        }
        self.chunk(
            id,
            ChunkOp::Begin { total, name: None },
            content_type(text),
            vec![b'b'],
        );
    }

    fn data(&mut self, id: u64, offset: Option<u16>, len: usize, other: bool) {
        let mut text = other;
        let mut at = 0;
        let content = vec![(id as u8) ^ (len as u8) | 1; len];
        if let Some(it) = self.sent.get_mut(&id).filter(|it| !it.over) {
            text = it.text ^ other;
            at = it.bytes.len() as u64;
            it.good &= !other && offset.is_none_or(|offset| u64::from(offset) == at);
            it.used += (len as u64).max(1024);
            it.bytes.extend(&content);
            it.good &= it.total.is_none_or(|total| it.bytes.len() as u64 <= total);
            it.good &= !self.whole || it.bytes.len() as u64 <= MAX_MESSAGE;
        }
        let offset = offset.map_or(at, u64::from);
        self.chunk(id, ChunkOp::Data { offset }, content_type(text), content);
    }

    fn end(&mut self, id: u64, offset: Option<u16>) {
        let mut at = 0;
        if let Some(it) = self.sent.get_mut(&id).filter(|it| !it.over) {
            at = it.bytes.len() as u64;
            let right = offset.is_none_or(|offset| u64::from(offset) == at);
            it.complete = it.good && right && it.total.is_none_or(|total| total == at);
            it.over = true;
        }
        let offset = offset.map_or(at, u64::from);
        self.chunk(id, ChunkOp::End { offset }, ContentType::BINARY, vec![b'e']);
    }

    fn read(&mut self, id: TransferId) -> bool {
        let number = number(id);
        let it = self.sent.get_mut(&number).expect("it was announced");
        match self.connection.read(self.now, id) {
            None => false,
            Some(Read::Piece(piece)) => {
                assert!(!it.dropped && !it.delivered);
                let end = it.read + piece.len();
                assert_eq!(piece[..], it.bytes[it.read..end]);
                it.read = end;
                true
            }
            Some(Read::End) => {
                assert!(it.complete && it.read == it.bytes.len() && !it.delivered);
                it.delivered = true;
                true
            }
            Some(Read::Failed(_)) => {
                it.dropped |= !it.delivered;
                false
            }
        }
    }

    fn poll(&mut self, most: u8) {
        for _ in 0..most {
            let Some(event) = self.connection.poll_event() else {
                break;
            };
            assert!(!self.closed, "an event after the last: {event:?}");
            match event {
                Event::Message(message) => {
                    assert!(self.whole);
                    let is_it = |it: &&mut Sent| {
                        it.complete
                            && !it.delivered
                            && it.bytes == message.content()[..]
                            && content_type(it.text) == *message.content_type()
                    };
                    let it = self.sent.values_mut().find(is_it);
                    it.expect("it was not sent like this").delivered = true;
                    assert!(message.content().len() as u64 <= MAX_MESSAGE);
                }
                Event::Transfer { id, .. } => {
                    assert!(!self.whole && self.sent.contains_key(&number(id)));
                    self.announced.push(id);
                }
                Event::Established { .. } => {}
                Event::Closed(_) => self.closed = true,
                other => panic!("{other:?}"),
            }
        }
    }

    fn transmit(&mut self, most: usize) {
        let mut parts = [&[][..]; 8];
        let count = self.connection.poll_transmit(&mut parts);
        let mut bytes = parts[..count].concat();
        bytes.truncate(most);
        self.connection.consume_transmit(self.now, bytes.len());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if let Some(frame) = self.decoder.decode(&mut rest).expect("frames are sent")
                && let Extra::Chunk(chunk) = &frame.extra
            {
                let it = self.sent.get_mut(&chunk.id).expect("it was begun");
                assert!(!it.answered, "after its last word: {chunk:?}");
                match chunk.op {
                    ChunkOp::Window { bytes } => {
                        it.given += bytes;
                        assert!(bytes > 0 && it.given <= it.used);
                    }
                    ChunkOp::Done => {
                        assert!(it.complete);
                        it.answered = true;
                    }
                    ChunkOp::Abort => it.answered = true,
                    _ => panic!("{chunk:?}"),
                }
            }
        }
    }

    /// What must have been taken and cannot have been let go of.
    fn check(&self) {
        if self.connection.state() != State::Established || !self.wire.is_empty() {
            return;
        }
        let held = |it: &Sent| match self.whole {
            // What was wrong is discarded; the window counts it all the same.
            true if it.over || !it.good || it.uncertain => 0,
            true => it.bytes.len() as u64,
            false if it.dropped || it.delivered || !it.good || it.uncertain => 0,
            false => (it.bytes.len() - it.read) as u64,
        };
        let all: u64 = self.sent.values().map(held).sum();
        let windows = self.transfers * u64::from(WINDOW);
        assert!(
            all <= windows + if self.whole { MAX_MESSAGE } else { 0 },
            "{all} bytes held"
        );
        assert!(self.connection.outbox_bytes() < 64 * 1024);
    }
}

/// The number of a transfer, which is shown and not given.
fn number(id: TransferId) -> u64 {
    id.to_string().parse().expect("a number")
}

fuzz_target!(|input: Input| {
    let mut world = World::new(input.whole, input.transfers);
    for step in input.steps {
        world.push();
        let free = world.wire.is_empty();
        match step {
            Step::Begin { total, text, wrong } if free => {
                let total = total.filter(|total| total % 2 == 1);
                world.begin(wrong.number(), total, text);
            }
            Step::Data { which, len, wrong } if free => {
                let id = world.id(which);
                let len = len as usize % 65_536 + 1;
                let len = match world.sent.get(&id).and_then(|it| it.total) {
                    // Mostly within what was said.
                    Some(total) if !wrong.type_is() => {
                        let rest = total.saturating_sub(world.sent[&id].bytes.len() as u64);
                        len.min((rest as usize).max(1))
                    }
                    _ => len,
                };
                world.data(id, wrong.number(), len, wrong.type_is());
            }
            Step::Crumbs { which, count } => {
                let id = world.id(which);
                for _ in 0..count {
                    world.push();
                    if !world.wire.is_empty() {
                        break;
                    }
                    world.data(id, None, 1, false);
                }
            }
            Step::End { which, wrong } if free => {
                let id = world.id(which);
                world.end(id, wrong.number());
            }
            Step::Abort { which } if free => {
                let id = world.id(which);
                if let Some(it) = world.sent.get_mut(&id).filter(|it| !it.over) {
                    (it.over, it.good) = (true, false);
                }
                world.chunk(id, ChunkOp::Abort, ContentType::TEXT, vec![b'a']);
            }
            Step::Answer { id, wrong } if free => {
                if let Some(number) = wrong.number() {
                    let op = match number {
                        0 => ChunkOp::Done,
                        bytes => ChunkOp::Window {
                            bytes: bytes.into(),
                        },
                    };
                    world.chunk(id.into(), op, ContentType::BINARY, vec![b'w']);
                }
            }
            Step::Read { which, count } if !world.announced.is_empty() => {
                let id = world.announced[usize::from(which) % world.announced.len()];
                for _ in 0..count {
                    if !world.read(id) {
                        break;
                    }
                }
            }
            Step::Cancel { which, wrong }
                if !world.announced.is_empty() && wrong.number().is_some() =>
            {
                let id = world.announced[usize::from(which) % world.announced.len()];
                world.connection.cancel(world.now, id, "cancelled");
                let it = world.sent.get_mut(&number(id)).expect("it was announced");
                it.dropped |= !it.delivered;
            }
            Step::Poll(most) => world.poll(most),
            Step::Transmit(most) => world.transmit(most.into()),
            Step::Advance(millis) => {
                world.now = world.now + Duration::from_millis(u64::from(millis) % 200_000);
                world.connection.handle_timeout(world.now);
                let next = world.connection.poll_timeout();
                assert!(next.is_none_or(|due| due > world.now));
                for it in world.sent.values_mut() {
                    // It may have stalled, which only its reader learns.
                    it.uncertain = true;
                }
            }
            _ => {}
        }
        world.check();
    }
    world.poll(u8::MAX);
});

//! A conversation, right or with a few bytes changed, is the same to a connection in either role however
//! the stream is split: whole, in arbitrary pieces, byte by byte. The same events come in the same order,
//! the same bytes are sent, and the same is waited for. Only the order of answers about transfers may
//! differ: those that are due at a time are put together.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use chat_core::{Config, Connection, Event, Instant, Message, Role, State, Stats, TransferId};
use chat_fuzz::peer::{Peer, Said, Wish, transmit};
use chat_fuzz::settings::Settings;
use chat_fuzz::solo;
use chat_fuzz::wire::{parts, split_frames};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    server: bool,
    settings: Settings,
    wish: Option<Wish>,
    conversation: Vec<Said>,
    edits: Vec<Edit>,
    cuts: Vec<u16>,
    ending: Ending,
}

#[derive(Arbitrary, Debug)]
struct Edit {
    at: u16,
    how: How,
}

#[derive(Arbitrary, Debug)]
enum How {
    Flip(u8),
    Insert(Vec<u8>),
    Remove(u8),
    Cut,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Ending {
    Nothing,
    Send,
    Close,
    Eof,
    Wait,
}

/// Fewer than the answers that are kept for a peer that does not read, and what they bring is less than
/// what is given back at once: where the stream is split makes no difference to either.
const MOST_FRAMES: usize = 12;
const MOST_DATA: usize = 30_000;
const MOST_BYTES: usize = 40_000;

/// What a connection makes of a stream.
#[derive(Debug, PartialEq)]
struct Outcome {
    events: Vec<Event>,
    reads: Vec<(TransferId, String)>,
    sent: Vec<u8>,
    state: State,
    stats: Stats,
    due: Option<Instant>,
}

struct World {
    connection: Connection,
    now: Instant,
    events: Vec<Event>,
}

impl World {
    /// Passes a piece on, as often as it takes.
    fn feed(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let taken = self.connection.handle_input(self.now, piece);
            piece = &piece[taken..];
            if !self.poll() && taken == 0 {
                // The peer has sent too much, and this end waits.
                self.now = self.connection.poll_timeout().expect("it goes on");
                self.connection.handle_timeout(self.now);
            }
        }
    }

    fn poll(&mut self) -> bool {
        let before = self.events.len();
        let polled = std::iter::from_fn(|| self.connection.poll_event());
        self.events.extend(polled);
        self.events.len() > before
    }
}

fn outcome<'a>(
    role: Role,
    config: &Arc<Config>,
    pieces: impl Iterator<Item = &'a [u8]>,
    ending: Ending,
) -> Outcome {
    let mut connection = solo::new(role, config);
    let mut now = Instant::EPOCH;
    let mut sent = transmit(&mut connection, now, usize::MAX);
    let mut world = World {
        connection,
        now,
        events: Vec::new(),
    };
    pieces.for_each(|piece| world.feed(piece));
    now = world.now;
    let connection = &mut world.connection;
    match ending {
        Ending::Nothing => {}
        Ending::Send => {
            // As the state has it.
            let _ = connection.send(now, Message::text("and this end"));
            connection.send_error(now, "no more");
        }
        Ending::Close => connection.close(now, "enough"),
        Ending::Eof => connection.handle_eof(now),
        Ending::Wait => {
            if let Some(due) = connection.poll_timeout() {
                now = due;
                connection.handle_timeout(now);
            }
        }
    }
    world.poll();
    let connection = &mut world.connection;
    sent.extend(transmit(connection, now, usize::MAX));
    let mut reads = Vec::new();
    for event in &world.events {
        if let Event::Transfer { id, .. } = event {
            while let Some(read) = connection.read(now, *id) {
                let is_piece = matches!(read, chat_core::Read::Piece(_));
                reads.push((*id, format!("{read:?}")));
                if !is_piece {
                    break;
                }
            }
        }
    }
    world.poll();
    let connection = &mut world.connection;
    sent.extend(transmit(connection, now, usize::MAX));
    let mut stats = connection.stats();
    // Also of answers that were dropped again.
    stats.bytes_hashed = 0;
    Outcome {
        state: connection.state(),
        due: connection.poll_timeout(),
        events: world.events,
        reads,
        sent,
        stats,
    }
}

/// The frames without their codes, in some order, if there are any about transfers.
fn unordered(sent: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (frames, rest) = split_frames(sent);
    assert!(rest.is_empty(), "not a whole frame");
    let mut frames: Vec<_> = frames.into_iter().map(parts).collect();
    let about = |frame: &(&[u8], &[u8])| frame.0.starts_with(br#"{"type": "chunk""#);
    frames.iter().any(about).then(|| {
        frames.sort();
        frames
    })
}

fn compare(mut one: Outcome, mut other: Outcome) {
    let [left, right] = [&mut one, &mut other].map(|it| std::mem::take(&mut it.sent));
    match (unordered(&left), unordered(&right)) {
        (Some(left), Some(right)) => assert_eq!(left, right),
        _ => assert!(left == right, "other bytes were sent"),
    }
    assert_eq!(one, other);
}

fuzz_target!(|input: Input| {
    let role = if input.server {
        Role::Server
    } else {
        Role::Client
    };
    // Bytes are counted as they come.
    let config = Arc::new(input.settings.config().byte_rate(None));
    let mut peer = Peer::default();
    let mut stream = Vec::new();
    if let Some(wish) = &input.wish {
        let mut connection = solo::new(role, &config);
        (peer, stream) = Peer::greet(&mut connection, Instant::EPOCH, wish);
    }
    let mut data = 0;
    for said in input.conversation.iter().take(MOST_FRAMES) {
        data += said.data_len().max(1024);
        let bytes = peer.say(said);
        if data > MOST_DATA || stream.len() + bytes.len() > MOST_BYTES {
            break;
        }
        stream.extend(bytes);
    }
    for edit in &input.edits {
        let at = usize::from(edit.at).min(stream.len());
        match &edit.how {
            How::Flip(mask) => stream[at..].iter_mut().take(1).for_each(|it| *it ^= mask),
            How::Insert(bytes) => drop(stream.splice(at..at, bytes.iter().copied())),
            How::Remove(count) => {
                let end = stream.len().min(at + usize::from(*count));
                drop(stream.drain(at..end));
            }
            How::Cut => stream.truncate(at),
        }
    }

    let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let pieces: Vec<Vec<u8>> = pieces.map(<[u8]>::to_vec).collect();
        outcome(role, &config, pieces.iter().map(|it| &it[..]), input.ending)
    };
    let whole = || run(&mut std::iter::once(&stream[..]));
    compare(whole(), run(&mut stream.chunks(1)));
    let mut rest = &stream[..];
    let mut pieces = Vec::new();
    for cut in &input.cuts {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    compare(whole(), run(&mut pieces.into_iter()));
});

//! What is allocated once a session goes on: nothing for a small frame, and little for one that is
//! idle.

use std::sync::Arc;

use allocation_counter::{AllocationInfo, measure};
use chat_core::{Config, Connection, Entropy, Event, Instant, Message, State, Uuid};

/// How many messages are one batch, and what each says.
const BATCH: usize = 1_000;
const CONTENT: [u8; 16] = [0xa5; 16];
/// What a socket takes and gives at once.
const READ: usize = 64 * 1024;
/// So much is queued before it is written.
const WRITE: usize = 64 * 1024;
/// Small contents that arrive together share blocks: 2 KiB hold 128 of these.
const BLOCKS: u64 = BATCH.div_ceil(2 * 1024 / CONTENT.len()) as u64;

/// Two ends and the buffer between them.
struct Pair {
    now: Instant,
    client: Connection,
    server: Connection,
    buffer: Vec<u8>,
}

/// Carries all that one end shows, as a socket does: a read at a time.
fn carry(now: Instant, from: &mut Connection, to: &mut Connection, buffer: &mut Vec<u8>) -> usize {
    let mut slices = [&[][..]; 4];
    let count = from.poll_transmit(&mut slices);
    buffer.clear();
    for slice in &slices[..count] {
        let room = READ - buffer.len();
        buffer.extend_from_slice(&slice[..room.min(slice.len())]);
    }
    from.consume_transmit(now, buffer.len());
    assert_eq!(to.handle_input(now, buffer), buffer.len());
    buffer.len()
}

impl Pair {
    fn established(config: impl Into<Arc<Config>>) -> Self {
        let (config, now) = (config.into(), Instant::EPOCH);
        let client = Connection::client(Arc::clone(&config), Entropy::new([1; 32]), now);
        let session = Uuid::from_u128(1);
        let server = Connection::server(config, session, Entropy::new([2; 32]), now);
        let mut pair = Self {
            now,
            client,
            server,
            buffer: Vec::with_capacity(READ),
        };
        pair.settle();
        for end in [&mut pair.client, &mut pair.server] {
            assert_eq!(end.state(), State::Established);
            assert!(matches!(end.poll_event(), Some(Event::Established { .. })));
        }
        pair
    }

    /// Nothing waits any more; returns how many reads there were.
    fn settle(&mut self) -> u64 {
        let mut reads = 0;
        let (client, server) = (&mut self.client, &mut self.server);
        loop {
            let up = carry(self.now, client, server, &mut self.buffer);
            let down = carry(self.now, server, client, &mut self.buffer);
            reads += u64::from(up > 0) + u64::from(down > 0);
            if up + down == 0 {
                return reads;
            }
        }
    }

    /// A batch there and back again: each message is received, and its content sent on. No more than
    /// `ahead` bytes are queued before they are carried. Returns how many reads brought them.
    fn echo(&mut self, message: &Message, ahead: usize) -> u64 {
        let (mut reads, mut answers) = (0, 0);
        for _ in 0..BATCH {
            if self.client.outbox_bytes() >= ahead {
                reads += self.settle();
            }
            let sent = self.client.send(self.now, message.clone());
            sent.expect("it fits");
        }
        reads += self.settle();
        while let Some(event) = self.server.poll_event() {
            let Event::Message(message) = event else {
                panic!("{event:?}");
            };
            if self.server.outbox_bytes() >= ahead {
                reads += self.settle();
            }
            self.server.send(self.now, message).expect("it fits");
        }
        reads += self.settle();
        while let Some(event) = self.client.poll_event() {
            assert!(matches!(event, Event::Message(it) if it.content() == &CONTENT[..]));
            answers += 1;
        }
        assert_eq!(answers, BATCH);
        reads
    }

    /// The time passes until something is due, so often; what that says is carried.
    fn idle(&mut self, timeouts: usize) {
        for _ in 0..timeouts {
            let due = [&self.client, &self.server].map(Connection::poll_timeout);
            let due = due.into_iter().flatten().min();
            self.now = due.expect("heartbeats go on");
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.settle();
        }
    }
}

fn warm_up(pair: &mut Pair, ahead: usize) -> Message {
    let message = Message::binary(&CONTENT[..]);
    // The buffers grow to what a batch needs.
    for _ in 0..3 {
        pair.echo(&message, ahead);
    }
    message
}

/// With `sec`, and with frames of version 1 in any number.
fn configs() -> [Config; 2] {
    let unsigned = Config::default().sec(false).chunks(false);
    [Config::default(), unsigned]
}

/// What is allocated for a batch, each time it is sent, and in how many reads it came.
fn measured(config: Config, ahead: usize) -> Vec<(AllocationInfo, u64)> {
    let mut pair = Pair::established(config);
    let message = warm_up(&mut pair, ahead);
    let mut batch = |_| {
        let mut reads = 0;
        let info = measure(|| reads = pair.echo(&message, ahead));
        assert_eq!(info.count_current, 0, "something is kept: {info:?}");
        (info, reads)
    };
    (0..3).map(&mut batch).collect()
}

#[test]
fn small_frames_allocate_nothing_but_what_their_contents_share() {
    for config in configs() {
        for (info, reads) in measured(config, WRITE) {
            // There and back, and another one for each read; each is a block and its handle.
            let bound = 2 * (2 * BLOCKS + reads);
            assert!(info.count_total <= bound, "{reads} reads: {info:?}");
        }
    }
}

#[test]
fn what_waits_behind_a_write_is_one_allocation_each() {
    for config in configs() {
        for (info, reads) in measured(config, usize::MAX) {
            let bound = 2 * (BATCH as u64 + 2 * BLOCKS + reads);
            assert!(info.count_total <= bound, "{reads} reads: {info:?}");
        }
    }
}

#[test]
fn an_idle_connection_holds_little() {
    for config in configs() {
        // Connections share it.
        let config = Arc::new(config);
        let mut pair = None;
        let info = measure(|| {
            let mut it = Pair::established(Arc::clone(&config));
            warm_up(&mut it, WRITE);
            it.idle(2);
            it.buffer = Vec::new();
            pair = Some(it);
        });
        let held = usize::try_from(info.bytes_current).expect("something") / 2;
        // Beside the connection itself; a third more than it is.
        assert!(held <= 600, "{held} bytes, {info:?}");
        assert!(size_of::<Connection>() <= 1_700);
    }
}

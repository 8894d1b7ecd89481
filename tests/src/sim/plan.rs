//! What happens in a world, as a seed decides it: a list of items, any of which can be left out.

use std::ops::Range;
use std::time::Duration;

use chat_core::{Config, Key, Rate, Security};
use fastrand::Rng;

use super::weather::{Fault, FaultKind, Weather};

/// What happens in a world. Printed, it says everything about it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was made from.
    pub seed: u64,
    /// The server.
    pub server: ServerPlan,
    /// Everything else, with the number that leaves it out.
    pub items: Vec<(usize, Item)>,
}

/// A server.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    /// What it does with messages.
    pub mode: Mode,
    /// Its connections.
    pub settings: Settings,
    /// Its `max_outbox`.
    pub outbox: usize,
    /// Its `max_connections`.
    pub connections: usize,
    /// Its `max_handshakes`.
    pub handshakes: usize,
    /// Its `grace`.
    pub grace: Duration,
    /// How long its handler thinks about each message.
    pub thinks: Duration,
}

/// What a server does with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What [`Echo`](chat_core::driver::Echo) does.
    Echo,
    /// What [`Relay`](chat_core::driver::Relay) does.
    Relay,
    /// Keeps them; large ones are read as streams.
    Keep,
}

/// What may differ between two ends of a connection.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an extension")]
pub struct Settings {
    /// Whether frames are authenticated for their session.
    pub sec: bool,
    /// Whether the channel is trusted, if it is a Unix socket.
    pub trust: bool,
    /// Whether frames are coalesced.
    pub coalesce: bool,
    /// Whether answers to pings are promised.
    pub ping: bool,
    /// Whether large messages go in chunks.
    pub chunks: bool,
    /// The largest message in one piece.
    pub threshold: u32,
    /// The longest chunk.
    pub chunk: u32,
    /// The window of a transfer.
    pub window: u32,
    /// How many transfers at a time.
    pub transfers: u32,
    /// What the core may hold, in and out.
    pub buffers: usize,
    /// How often a ping is sent.
    pub heartbeat: Duration,
    /// How many messages are taken in a second.
    pub rate: Option<u64>,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Item {
    /// There is a client, with this number.
    Client(ClientPlan),
    /// A client does something.
    Step(usize, Step),
    /// A connection of a client suffers: the client, and which of its connections.
    Fault(usize, usize, Fault),
    /// Somebody connects who is up to no good.
    Hostile(Hostile),
    /// Something happens to a machine: 0 is the server's, the others are those of the clients.
    Trouble(Duration, usize, Trouble),
    /// The server is stopped before everybody is done.
    Stop(Duration),
}

/// A client.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice")]
pub struct ClientPlan {
    /// Its number, from 1.
    pub number: usize,
    /// When it connects.
    pub start: Duration,
    /// Its connection.
    pub settings: Settings,
    /// Its `max_outbox`.
    pub outbox: usize,
    /// Its `max_inbox`.
    pub inbox: usize,
    /// Whether it connects again.
    pub reconnects: bool,
    /// How long it takes for each event. `None`: it never looks.
    pub reads: Option<Duration>,
    /// Whether it takes large messages as streams.
    pub pieces: bool,
    /// Whether it says goodbye in the end, or is only dropped.
    pub closes: bool,
    /// Whether it connects over a Unix socket.
    pub unix: bool,
    /// Its line.
    pub latency: Range<Duration>,
    /// Bytes per second.
    pub bandwidth: u64,
    /// How many bytes may be on the way.
    pub window: usize,
    /// See [`Weather::whims`].
    pub whims: u32,
}

/// What a client does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends a message of this size, waiting for room.
    Send(usize),
    /// Sends a message if there is room.
    Try(usize),
    /// Sends a message in pieces; gives it up after so many.
    Stream(usize, Option<usize>),
    /// Waits until what was sent has left.
    Flush,
    /// Does nothing for a while.
    Pause(Duration),
}

/// What can happen to a machine.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// Its clock jumps.
    Jump(Duration),
    /// It does nothing for a while.
    Hang(Duration),
    /// It is gone. Not the server's.
    Crash,
    /// It cannot accept connections for a while. Only the server's.
    AcceptFails(Duration),
}

/// Who does not keep to the protocol.
#[derive(Clone, Copy, Debug)]
pub enum Hostile {
    /// Says nothing.
    Silent,
    /// Says one byte each second.
    Dribbles,
    /// Says this many bytes that mean nothing.
    Garbage(usize),
    /// Is gone at once.
    Leaves,
    /// Makes a session, and says this many bytes that mean nothing.
    Turns(usize),
}

const KIB: usize = 1024;

fn millis(rng: &mut Rng, range: Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

impl Settings {
    fn any(rng: &mut Rng) -> Self {
        let chunks = rng.u32(..4) > 0;
        Self {
            sec: rng.u32(..3) > 0,
            trust: false,
            coalesce: rng.bool(),
            ping: rng.bool(),
            chunks,
            threshold: 1 << rng.u32(10..17),
            chunk: 1 << rng.u32(10..17),
            window: 1 << rng.u32(16..19),
            transfers: rng.choice([1, 3, 16]).unwrap_or(1),
            buffers: (8 * KIB) << rng.u32(..6),
            heartbeat: millis(rng, 1_000..6_000),
            rate: (rng.u32(..8) == 0).then(|| rng.u64(20..2_000)),
        }
    }

    /// As the library has them.
    pub fn config(&self) -> Config {
        let rate = self.rate.map(|rate| Rate::per_second(rate).burst(rate));
        Config::new(Key::new(b"a key of this world"))
            .sec(self.sec)
            .trust_channel(self.trust)
            .min_security(Security::Legacy)
            .coalesce(self.coalesce)
            .ping_timeout(self.ping.then_some(Duration::from_secs(15)))
            .chunks(self.chunks)
            .chunk_threshold(self.threshold)
            .chunk_size(self.chunk)
            .window(self.window)
            .max_transfers(self.transfers)
            .max_inbox(self.buffers)
            .max_outbox(self.buffers)
            .heartbeat(Some(self.heartbeat))
            .message_rate(rate)
    }
}

impl ClientPlan {
    fn any(rng: &mut Rng, number: usize) -> Self {
        let slow = rng.u32(..6) == 0;
        let latency = millis(rng, 0..100);
        Self {
            number,
            start: millis(rng, 0..3_000),
            settings: Settings::any(rng),
            outbox: rng.choice([1, 4 * KIB, 64 * KIB, KIB * KIB]).unwrap_or(1),
            inbox: rng.choice([1, 4 * KIB, 64 * KIB, KIB * KIB]).unwrap_or(1),
            reconnects: rng.u32(..4) == 0,
            reads: match rng.u32(..10) {
                0 => None,
                1 => Some(millis(rng, 1..100)),
                _ => Some(Duration::ZERO),
            },
            pieces: rng.bool(),
            closes: rng.u32(..4) > 0,
            unix: false,
            latency: latency..latency + millis(rng, 0..50),
            bandwidth: if slow { 64_000 } else { 100_000_000 },
            window: if slow {
                64 * KIB
            } else {
                KIB << rng.u32(4..10)
            },
            whims: rng.choice([0, 5, 50, 90]).unwrap_or(0),
        }
    }

    /// Its line, without what goes wrong on it.
    pub fn weather(&self) -> Weather {
        Weather {
            latency: self.latency.clone(),
            bandwidth: self.bandwidth,
            window: self.window,
            whims: self.whims,
            unix: self.unix,
            faults: Vec::new(),
        }
    }
}

fn size(rng: &mut Rng) -> usize {
    match rng.u32(..20) {
        0..12 => rng.usize(1..400),
        12..17 => rng.usize(400..10 * KIB),
        17..19 => rng.usize(10 * KIB..100 * KIB),
        _ => rng.usize(100 * KIB..300 * KIB),
    }
}

fn fault(rng: &mut Rng) -> Fault {
    // Early ones hit the handshake.
    let most = rng.choice([600, 6_000, 100_000]).unwrap_or(600);
    Fault {
        down: rng.bool(),
        at: rng.u64(..most),
        kind: match rng.u32(..9) {
            0 | 1 => FaultKind::Flip(1 << rng.u32(..8)),
            2 => FaultKind::Lose,
            3 => FaultKind::Double,
            4 => FaultKind::Stall(millis(rng, 100..60_000)),
            5 => FaultKind::Silence,
            6 => FaultKind::End,
            _ => FaultKind::Reset(rng.bool()),
        },
    }
}

impl Plan {
    /// What a seed says.
    pub fn of(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let count = rng.usize(1..6);
        let server = ServerPlan {
            mode: rng
                .choice([Mode::Echo, Mode::Relay, Mode::Keep])
                .unwrap_or(Mode::Echo),
            settings: Settings::any(rng),
            outbox: rng
                .choice([64 * KIB, 512 * KIB, 8 * KIB * KIB])
                .unwrap_or(KIB),
            connections: if rng.u32(..6) == 0 {
                rng.usize(1..4)
            } else {
                1_000
            },
            handshakes: if rng.u32(..10) == 0 { 1 } else { 100 },
            grace: millis(rng, 500..20_000),
            thinks: if rng.u32(..5) == 0 {
                millis(rng, 1..100)
            } else {
                Duration::ZERO
            },
        };
        let mut items = Vec::new();
        // Half of all worlds are kind: nothing that goes wrong there is anybody else's fault.
        let kind = rng.bool();
        for number in 1..=count {
            items.push(Item::Client(ClientPlan::any(rng, number)));
            for _ in 0..rng.usize(..12) {
                items.push(Item::Step(number, Self::step(rng)));
            }
            if !kind {
                for _ in 0..rng.usize(..3) {
                    items.push(Item::Fault(number, rng.usize(..3) / 2, fault(rng)));
                }
            }
        }
        if !kind {
            for _ in 0..rng.usize(..3) {
                items.push(Item::Hostile(match rng.u32(..5) {
                    0 => Hostile::Silent,
                    1 => Hostile::Dribbles,
                    2 => Hostile::Garbage(rng.usize(1..2_000)),
                    3 => Hostile::Leaves,
                    _ => Hostile::Turns(rng.usize(1..2_000)),
                }));
            }
            for _ in 0..rng.usize(..3) {
                let (at, machine) = (millis(rng, 0..10_000), rng.usize(..=count));
                let time = millis(rng, 10..120_000);
                let trouble = match (rng.u32(..4), machine) {
                    (0, _) => Trouble::Jump(time),
                    (1, 0) => Trouble::AcceptFails(time),
                    (1, _) => Trouble::Crash,
                    _ => Trouble::Hang(time),
                };
                items.push(Item::Trouble(at, machine, trouble));
            }
        }
        if rng.u32(..3) == 0 {
            items.push(Item::Stop(millis(rng, 0..20_000)));
        }
        let mut plan = Self {
            seed,
            server,
            items: items.into_iter().enumerate().collect(),
        };
        plan.trust(rng);
        plan
    }

    /// Who is on a Unix socket, and who trusts its channel, be it none. This is decided last, so that a
    /// seed says the same of everything else as it did without it.
    ///
    /// Where there are no codes everything that goes wrong is noticed as well: it changes, loses or
    /// doubles single bytes, or cuts the stream. What is not noticed then is whole frames that are lost,
    /// doubled or moved (PROTOCOL.md §4.8), and no [`FaultKind`] does that.
    fn trust(&mut self, rng: &mut Rng) {
        self.server.settings.trust = rng.u32(..4) > 0;
        for (_, item) in &mut self.items {
            if let Item::Client(client) = item {
                client.unix = rng.bool();
                client.settings.trust = rng.u32(..4) > 0;
            }
        }
    }

    fn step(rng: &mut Rng) -> Step {
        match rng.u32(..10) {
            0..5 => Step::Send(size(rng)),
            5 => Step::Try(size(rng)),
            6 | 7 => {
                let given_up = (rng.u32(..4) == 0).then(|| rng.usize(..4));
                Step::Stream(size(rng), given_up)
            }
            8 => Step::Flush,
            _ => Step::Pause(millis(rng, 1..8_000)),
        }
    }

    /// The same with only some of its items, by their numbers.
    #[must_use]
    pub fn only(&self, numbers: &[usize]) -> Self {
        let mut plan = self.clone();
        plan.items.retain(|(number, _)| numbers.contains(number));
        plan
    }

    /// Whether the connections of a client are trusted.
    pub fn is_trusted(&self, client: &ClientPlan) -> bool {
        let ends = [&self.server.settings, &client.settings];
        client.unix && ends.iter().all(|end| end.sec && end.trust)
    }

    /// The clients.
    pub fn clients(&self) -> impl Iterator<Item = &ClientPlan> {
        self.items.iter().filter_map(|(_, item)| match item {
            Item::Client(client) => Some(client),
            _ => None,
        })
    }

    /// What a client does.
    pub fn steps(&self, client: usize) -> Vec<Step> {
        let steps = self.items.iter().filter_map(|(_, item)| match item {
            Item::Step(number, step) if *number == client => Some(step.clone()),
            _ => None,
        });
        steps.collect()
    }

    /// What goes wrong with the connections of a client.
    pub fn faults(&self, client: usize) -> Vec<Vec<Fault>> {
        let mut faults = vec![Vec::new(); 2];
        for (_, item) in &self.items {
            if let Item::Fault(number, connection, fault) = item
                && *number == client
            {
                faults[*connection].push(*fault);
            }
        }
        faults
    }

    /// Whether nothing ever goes wrong for a client that is not its own doing: then no end of its
    /// connection has an excuse.
    pub fn is_kind_to(&self, client: usize) -> bool {
        !self.items.iter().any(|(_, item)| match item {
            Item::Fault(number, ..) => *number == client,
            Item::Trouble(_, machine, _) => *machine == 0 || *machine == client,
            _ => false,
        })
    }
}

//! A network that splits, merges, delays, stalls, throttles, corrupts and cuts what goes over it.
//!
//! It keeps what TCP keeps: bytes arrive in order and once, or an end hears that they do not. What it
//! does beyond that is a [`Fault`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chat_core::Instant;

use super::executor::{Simulation, State};
use super::weather::{Fault, FaultKind, Weather};

/// How often accepting may fail at the same time.
const PATIENCE: u32 = 100;

/// The least that a window opens by, in bytes.
const SEGMENT: usize = 1024;

/// Every connection, and every socket that listens.
#[derive(Default)]
pub(super) struct Network {
    lines: BTreeMap<u64, Line>,
    listeners: BTreeMap<SocketAddr, Accepting>,
    agenda: BTreeMap<(Instant, u64), Entry>,
    weather: BTreeMap<usize, Weather>,
    /// How many connections each machine has made.
    made: BTreeMap<usize, usize>,
    crashed: BTreeSet<usize>,
}

/// What happens at a time.
enum Entry {
    Wake(Waker),
    /// The first bytes on the way of a direction arrive.
    Arrival(u64, usize),
    /// An end hears that the connection is gone.
    Reset(u64, usize),
}

#[derive(Default)]
struct Accepting {
    node: usize,
    waiting: VecDeque<(u64, SocketAddr)>,
    waker: Option<Waker>,
    fails_until: Option<Instant>,
    /// When it failed last, and how often at that time.
    failures: (Option<Instant>, u32),
    closed: bool,
}

/// A connection. End 0 has connected, end 1 has accepted; direction 0 is what end 0 sends.
struct Line {
    nodes: [usize; 2],
    weather: Weather,
    faults: Vec<Fault>,
    directions: [Direction; 2],
    open: [bool; 2],
    /// An end was told that the connection is gone.
    gone: [bool; 2],
}

#[derive(Default)]
struct Direction {
    flight: VecDeque<Segment>,
    flying: usize,
    arrived: VecDeque<u8>,
    /// The end of the direction has arrived.
    ended: bool,
    /// It was sent.
    finished: bool,
    silent: bool,
    sent: u64,
    last_due: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Segment {
    Data(Vec<u8>),
    End,
}

/// One end of a connection.
pub struct Wire {
    simulation: Simulation,
    line: u64,
    end: usize,
}

impl Network {
    pub(super) fn crashed(&self, node: usize) -> bool {
        self.crashed.contains(&node)
    }

    pub(super) fn crash(&mut self, node: usize) {
        self.crashed.insert(node);
    }

    pub(super) fn connections(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.agenda.first_key_value().map(|((due, _), _)| *due)
    }

    pub(super) fn wake_at(&mut self, due: Instant, number: u64, waker: Waker) {
        self.agenda.insert((due, number), Entry::Wake(waker));
    }

    /// Lets everything happen that is due.
    pub(super) fn deliver(state: &mut State) {
        while let Some(first) = state.network.agenda.first_entry() {
            if first.key().0 > state.now {
                break;
            }
            match first.remove() {
                Entry::Wake(waker) => waker.wake(),
                Entry::Arrival(line, direction) => Self::arrive(state, line, direction),
                Entry::Reset(line, end) => Self::tell(state, line, end),
            }
        }
    }

    fn arrive(state: &mut State, id: u64, direction: usize) {
        let Some(line) = state.network.lines.get_mut(&id) else {
            return;
        };
        let receiver = 1 - direction;
        let way = &mut line.directions[direction];
        let Some(segment) = way.flight.pop_front() else {
            return;
        };
        if way.flight.is_empty() {
            // What is held is looked at where nothing happens: it is to be the library's alone.
            way.flight = VecDeque::new();
        }
        let is_open = line.open[receiver];
        match segment {
            Segment::End => way.ended = true,
            Segment::Data(bytes) => {
                way.flying -= bytes.len();
                if is_open && !line.gone[receiver] {
                    way.arrived.extend(bytes);
                }
            }
        }
        if let Some(waker) = way.reader.take() {
            waker.wake();
        }
        if !is_open {
            // A system answers what comes for nobody with a reset.
            Self::reset_later(state, id, direction);
        }
    }

    fn reset_later(state: &mut State, id: u64, end: usize) {
        let Some(line) = state.network.lines.get(&id) else {
            return;
        };
        let due = state.now + line.weather.latency.start;
        let number = state.number();
        let entry = Entry::Reset(id, end);
        state.network.agenda.insert((due, number), entry);
    }

    /// An end hears that the connection is gone.
    fn tell(state: &mut State, id: u64, end: usize) {
        let Some(line) = state.network.lines.get_mut(&id) else {
            return;
        };
        line.gone[end] = true;
        line.directions[1 - end].arrived = VecDeque::new();
        let reader = line.directions[1 - end].reader.take();
        let writer = line.directions[end].writer.take();
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Simulation {
    /// Decides how the connections are that a machine makes.
    pub fn set_weather(&self, node: &super::Node, weather: Weather) {
        self.state().network.weather.insert(node.id, weather);
    }

    /// Listens at an address, until that is dropped.
    pub(super) fn listen(&self, address: SocketAddr, node: usize) {
        let listener = Accepting {
            node,
            ..Accepting::default()
        };
        self.state().network.listeners.insert(address, listener);
    }

    /// Lets accepting fail for a while, as it does without descriptors.
    pub fn fail_accepting(&self, address: SocketAddr, time: Duration) {
        let mut state = self.state();
        let until = state.now + time;
        state.note(format_args!("accepting fails for {time:?}"));
        if let Some(listener) = state.network.listeners.get_mut(&address) {
            listener.fails_until = Some(until);
        }
    }

    /// Ends a listener: who waits to be accepted is turned away by the system.
    pub(super) fn unlisten(&self, address: SocketAddr) {
        let mut state = self.state();
        let Some(listener) = state.network.listeners.get_mut(&address) else {
            return;
        };
        listener.closed = true;
        for (line, _) in std::mem::take(&mut listener.waiting) {
            state.close_end(line, 1);
        }
    }

    pub(super) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
        address: SocketAddr,
    ) -> Poll<io::Result<(Wire, SocketAddr)>> {
        let mut state = self.state();
        let now = state.now;
        let Some(listener) = state.network.listeners.get_mut(&address) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if listener.fails_until.is_some_and(|until| now < until) {
            let (since, count) = &mut listener.failures;
            if since.replace(now) != Some(now) {
                *count = 0;
            }
            *count += 1;
            if *count > PATIENCE {
                // It would go on for ever, within one poll.
                state.broken("accepting is tried again and again, without a pause");
                return Poll::Pending;
            }
            return Poll::Ready(Err(io::Error::other("too many open files")));
        }
        let Some((line, from)) = listener.waiting.pop_front() else {
            listener.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(Ok((self.wire(line, 1), from)))
    }

    /// Connects a machine to an address, on a line as its weather says.
    pub(super) fn dial(&self, node: usize, to: SocketAddr) -> io::Result<Wire> {
        let mut state = self.state();
        let listener = state.network.listeners.get(&to);
        let Some(listener) = listener.filter(|it| !it.closed) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let server = listener.node;
        let id = state.number();
        let weather = state
            .network
            .weather
            .get(&node)
            .cloned()
            .unwrap_or_default();
        let made = state.network.made.entry(node).or_default();
        let faults = weather.faults.get(*made).cloned().unwrap_or_default();
        *made += 1;
        state.note(format_args!(
            "node {node} connects: line {id}, faults {faults:?}"
        ));
        let line = Line {
            nodes: [node, server],
            weather,
            faults,
            directions: <[Direction; 2]>::default(),
            open: [true; 2],
            gone: [false; 2],
        };
        state.network.lines.insert(id, line);
        let port = 40_000 + u16::try_from(id % 20_000).unwrap_or(0);
        let from = SocketAddr::new(state.address(node), port);
        if let Some(listener) = state.network.listeners.get_mut(&to) {
            listener.waiting.push_back((id, from));
            if let Some(waker) = listener.waker.take() {
                waker.wake();
            }
        }
        Ok(self.wire(id, 0))
    }

    fn wire(&self, line: u64, end: usize) -> Wire {
        Wire {
            simulation: self.clone(),
            line,
            end,
        }
    }
}

impl State {
    /// How long something takes to the other end of a line.
    fn latency(&mut self, line: u64) -> Duration {
        let Range { start, end } = self.network.lines[&line].weather.latency.clone();
        let spread = u64::try_from(end.saturating_sub(start).as_nanos()).unwrap_or(u64::MAX);
        start + Duration::from_nanos(self.rng.u64(..spread.max(1)))
    }

    /// Whether the network has one of its whims.
    fn whim(&mut self, line: u64) -> bool {
        let whims = self.network.lines[&line].weather.whims;
        whims > 0 && self.rng.u32(..100) < whims
    }

    /// Sends a segment on its way. `extra` is added to what it takes.
    fn launch(&mut self, id: u64, direction: usize, segment: Segment, extra: Duration) {
        let latency = self.latency(id);
        let (now, number) = (self.now, self.number());
        let Some(line) = self.network.lines.get_mut(&id) else {
            return;
        };
        let way = &mut line.directions[direction];
        if way.silent {
            return;
        }
        let size = match &segment {
            Segment::Data(bytes) => bytes.len(),
            Segment::End => 0,
        };
        let took = Duration::from_nanos(
            (size as u64).saturating_mul(1_000_000_000) / line.weather.bandwidth,
        );
        // One after the other: the line is as long as it is wide.
        let free = way.last_due.unwrap_or(now).max(now + latency);
        let due = free + took + extra;
        way.last_due = Some(due);
        way.flying += size;
        way.flight.push_back(segment);
        let entry = Entry::Arrival(id, direction);
        self.network.agenda.insert((due, number), entry);
    }

    /// Sends bytes, with whatever is to go wrong with them.
    fn send(&mut self, id: u64, direction: usize, bytes: &[u8]) {
        let line = &self.network.lines[&id];
        let first = line.directions[direction].sent;
        let range = first..first + bytes.len() as u64;
        let down = direction == 1;
        let due = |fault: &&Fault| fault.down == down && range.contains(&fault.at);
        let mut faults: Vec<Fault> = line.faults.iter().filter(due).copied().collect();
        faults.sort_by_key(|fault| fault.at);
        let (mut part, mut done) = (Vec::new(), 0);
        let mut extra = Duration::ZERO;
        for fault in faults {
            let at = usize::try_from(fault.at - first).unwrap_or(0);
            if at < done {
                continue;
            }
            part.extend_from_slice(&bytes[done..at]);
            done = at;
            self.note(format_args!("line {id}: {fault:?}"));
            match fault.kind {
                FaultKind::Flip(bits) => {
                    part.push(bytes[at] ^ bits);
                    done += 1;
                }
                FaultKind::Lose => done += 1,
                FaultKind::Double => part.push(bytes[at]),
                kind => {
                    let before = std::mem::take(&mut part);
                    self.launch(id, direction, Segment::Data(before), extra);
                    extra = Duration::ZERO;
                    match kind {
                        FaultKind::Stall(time) => extra = time,
                        FaultKind::End => self.launch(id, direction, Segment::End, extra),
                        FaultKind::Reset(harsh) => self.cut(id, harsh),
                        _ => {}
                    }
                    if !matches!(kind, FaultKind::Stall(_)) {
                        self.silence(id, direction);
                    }
                }
            }
        }
        part.extend_from_slice(&bytes[done..]);
        if !part.is_empty() {
            self.launch(id, direction, Segment::Data(part), extra);
        }
        if let Some(line) = self.network.lines.get_mut(&id) {
            line.directions[direction].sent += bytes.len() as u64;
        }
        self.trace.bytes(bytes);
    }

    fn silence(&mut self, id: u64, direction: usize) {
        if let Some(line) = self.network.lines.get_mut(&id) {
            line.directions[direction].silent = true;
        }
    }

    /// Cuts a line: both ends hear of it.
    fn cut(&mut self, id: u64, harsh: bool) {
        if let Some(line) = self.network.lines.get_mut(&id)
            && harsh
        {
            for way in &mut line.directions {
                way.flight.clear();
                way.flying = 0;
                way.silent = true;
            }
        }
        for end in 0..2 {
            Network::reset_later(self, id, end);
        }
    }

    /// An end is dropped, and its socket closed.
    fn close_end(&mut self, id: u64, end: usize) {
        let Some(line) = self.network.lines.get_mut(&id) else {
            return;
        };
        line.open[end] = false;
        let unread = !line.directions[1 - end].arrived.is_empty();
        line.directions[1 - end].arrived = VecDeque::new();
        if !line.open[1 - end] {
            self.network.lines.remove(&id);
        } else if unread {
            // What came is thrown away unread: the other end is told at once, as TCP does.
            Network::reset_later(self, id, 1 - end);
        } else if !std::mem::replace(&mut line.directions[end].finished, true) {
            self.launch(id, end, Segment::End, Duration::ZERO);
        }
    }
}

impl Wire {
    /// The machine at the other end, if this is a Unix socket.
    pub(super) fn unix_peer(&self) -> Option<usize> {
        let state = self.simulation.state();
        let line = &state.network.lines[&self.line];
        line.weather.unix.then(|| line.nodes[1 - self.end])
    }

    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (id, end) = (self.line, self.end);
        let mut state = self.simulation.state();
        if state.whim(id) && state.rng.u32(..4) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let whim = state.whim(id);
        let line = &state.network.lines[&id];
        if line.gone[end] {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let way = &line.directions[1 - end];
        let mut most = way.arrived.len().min(buffer.len());
        if most == 0 {
            if way.ended {
                return Poll::Ready(Ok(0));
            }
            let line = state.network.lines.get_mut(&id).expect("an end is open");
            line.directions[1 - end].reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if whim {
            most = state.rng.usize(1..=most);
        }
        let line = state.network.lines.get_mut(&id).expect("an end is open");
        let way = &mut line.directions[1 - end];
        for (to, byte) in buffer.iter_mut().zip(way.arrived.drain(..most)) {
            *to = byte;
        }
        if way.arrived.is_empty() {
            way.arrived = VecDeque::new();
        }
        if let Some(waker) = way.writer.take() {
            waker.wake();
        }
        let node = line.nodes[end];
        state.note(format_args!("node {node} reads {most} of line {id}"));
        Poll::Ready(Ok(most))
    }

    pub(super) fn write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (id, end) = (self.line, self.end);
        let mut state = self.simulation.state();
        if state.whim(id) && state.rng.u32(..4) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let whim = state.whim(id);
        let line = state.network.lines.get_mut(&id).expect("an end is open");
        if line.gone[end] {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let window = line.weather.window;
        let way = &mut line.directions[end];
        let room = window.saturating_sub(way.flying + way.arrived.len());
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut most = room.min(total);
        // As TCP does: a window that opens by a few bytes is none, or a byte at a time would go for ever.
        if room < window.min(2 * SEGMENT) / 2 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if whim {
            most = state.rng.usize(1..=most);
        }
        let mut bytes = Vec::with_capacity(most);
        for slice in slices {
            let part = slice.len().min(most - bytes.len());
            bytes.extend_from_slice(&slice[..part]);
        }
        let node = state.network.lines[&id].nodes[end];
        state.note(format_args!("node {node} writes {most} to line {id}"));
        state.send(id, end, &bytes);
        Poll::Ready(Ok(most))
    }

    pub(super) fn finish(&mut self) {
        let (id, end) = (self.line, self.end);
        let mut state = self.simulation.state();
        let Some(line) = state.network.lines.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut line.directions[end].finished, true) {
            state.launch(id, end, Segment::End, Duration::ZERO);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut state = self.simulation.state();
        state.close_end(self.line, self.end);
    }
}

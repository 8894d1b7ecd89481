//! What one more costs when there are many: it must cost what it costs when there are few.
//!
//! ```sh
//! cargo run --release -p chat-tests --bin peers -- growth
//! ```

use std::fmt::Write as _;
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat_core::{
    Config, Connection, Entropy, Event, Instant, Message, Read, Receive, Transfer, Uuid,
};
use rustix::time::{ClockId, clock_gettime};
use socket2::SockRef;
use tokio::runtime::Builder;

use super::guests::Hall;
use super::hello::{Hello, Protocol};
use super::process::{self, Server};
use super::serve::Kind;
use super::{report, solo};
use crate::descriptors::raise_descriptors;

const NOW: Instant = Instant::EPOCH;
/// What there is so many of.
const SIZES: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];
/// How many small messages one write carries.
const WRITE: usize = 100;
const PIECE: usize = 64 * 1024;
/// More pieces than these take longer than anybody waits.
const MOST_PIECES: usize = 10_000;
/// What is measured takes at least so long, and is repeated until it has.
const LEAST: Duration = Duration::from_millis(100);
/// As many connections come and go for each number of those that stay.
const VISITS: Duration = Duration::from_millis(400);
/// So many connections have the same source address: none has ports for all of them.
const PER_ADDRESS: usize = 5_000;
/// More sockets than these are not asked for.
const MOST_SOCKETS: usize = 10_000;
/// Descriptors beyond those of connections.
const SPARE: u64 = 200;

/// How far to go.
#[derive(Clone, Debug, clap::Args)]
pub struct Orders {
    /// The largest number of anything
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub most: usize,
}

/// One kind of thing, and what each of so many of them costs.
struct Row {
    name: &'static str,
    unit: &'static str,
    /// In the unit.
    costs: Vec<f64>,
}

impl Row {
    fn new(name: &'static str, unit: &'static str) -> Self {
        let costs = Vec::new();
        Self { name, unit, costs }
    }

    /// Adds what each of so many cost.
    fn add(&mut self, time: Duration, items: usize) {
        let scale = if self.unit == "ns" { 1e9 } else { 1e6 };
        #[expect(clippy::cast_precision_loss, reason = "there are not so many")]
        self.costs.push(time.as_secs_f64() * scale / items as f64);
    }
}

/// Measures all; `program` is this one, that starts a server. Returns the table.
pub fn run(orders: &Orders, program: &Path) -> io::Result<String> {
    let sizes: Vec<usize> = SIZES.into_iter().filter(|it| *it <= orders.most).collect();
    process::pin(1);
    let mut rows = vec![messages(&sizes), waiting(&sizes), pieces(&sizes)];
    rows.extend(sessions(&sizes)?);
    rows.push(visits(&sizes, program)?);
    Ok(table(&sizes, &rows))
}

fn table(sizes: &[usize], rows: &[Row]) -> String {
    let mut table = String::from("| what each costs, of so many | |");
    // Writing to text does not fail.
    for size in sizes {
        let _ = write!(table, " {size} |");
    }
    table.push_str(" largest / smallest |\n|---|---|");
    table.push_str(&"--:|".repeat(sizes.len() + 1));
    for row in rows {
        let _ = write!(table, "\n| {} | {} |", row.name, row.unit);
        for place in 0..sizes.len() {
            let _ = match row.costs.get(place) {
                Some(cost) if *cost < 100.0 => write!(table, " {cost:.1} |"),
                Some(cost) => write!(table, " {cost:.0} |"),
                None => write!(table, " |"),
            };
        }
        if let [first, .., last] = row.costs[..] {
            let _ = write!(table, " {:.2} |", last / first);
        }
    }
    table + "\n"
}

/// The processor time that this thread has had.
fn cpu() -> Instant {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Instant::EPOCH + time.try_into().unwrap_or(Duration::ZERO)
}

/// The time that something takes: the median of as many times as fit.
fn repeated(mut once: impl FnMut() -> Duration) -> Duration {
    // What the first costs is no question of how many there are.
    once();
    let mut times = Vec::new();
    let mut sum = Duration::ZERO;
    while sum < LEAST {
        let time = once();
        times.push(time.as_secs_f64());
        sum += time;
    }
    Duration::from_secs_f64(report::median(times.into_iter()).unwrap_or(0.0))
}

/// Two ends of a session, without limits on what waits.
struct Pair {
    client: Connection,
    server: Connection,
}

impl Pair {
    fn new() -> Self {
        let config = Config::default()
            .max_inbox(usize::MAX)
            .max_outbox(usize::MAX)
            .max_message(1 << 40)
            .receive(Receive::Pieces);
        let config = Arc::new(config);
        let client = Connection::client(Arc::clone(&config), Entropy::new([1; 32]), NOW);
        let server = Connection::server(config, Uuid::from_u128(1), Entropy::new([2; 32]), NOW);
        let mut pair = Self { client, server };
        while carry(&mut pair.server, &mut pair.client) || carry(&mut pair.client, &mut pair.server)
        {
        }
        while pair.server.poll_event().is_some() || pair.client.poll_event().is_some() {}
        pair
    }

    /// All that the client has to say.
    fn carry_up(&mut self) {
        while carry(&mut self.client, &mut self.server) {}
    }

    /// The server polls its events; returns how many.
    fn poll(&mut self) -> usize {
        let events = std::iter::from_fn(|| self.server.poll_event());
        events.count()
    }
}

fn carry(from: &mut Connection, to: &mut Connection) -> bool {
    let mut slices = [&[][..]; 16];
    let count = from.poll_transmit(&mut slices);
    let taken = slices[..count]
        .iter()
        .map(|slice| to.handle_input(NOW, slice))
        .sum();
    from.consume_transmit(NOW, taken);
    taken > 0
}

fn send(pair: &mut Pair, message: &Message, messages: usize) {
    for _ in 0..messages {
        let sent = pair.client.send(NOW, message.clone());
        sent.expect("there is no limit");
    }
}

fn small() -> Message {
    Message::binary(crate::pattern(16))
}

/// Messages through one session, from its first on.
fn messages(sizes: &[usize]) -> Row {
    let (mut row, message) = (
        Row::new("messages of 16 bytes in one session", "ns"),
        small(),
    );
    for size in sizes {
        let time = repeated(|| {
            let mut pair = Pair::new();
            let begun = cpu();
            for _ in 0..size.div_ceil(WRITE) {
                send(&mut pair, &message, WRITE.min(*size));
                pair.carry_up();
                assert_eq!(pair.poll(), WRITE.min(*size));
            }
            cpu() - begun
        });
        row.add(time, *size);
    }
    row
}

/// Messages that all wait at one end, and then at the other.
fn waiting(sizes: &[usize]) -> Row {
    let name = "messages that wait at the same time";
    let (mut row, message) = (Row::new(name, "ns"), small());
    for size in sizes {
        let mut pair = Pair::new();
        let time = repeated(|| {
            let begun = cpu();
            send(&mut pair, &message, *size);
            pair.carry_up();
            assert_eq!(pair.poll(), *size);
            cpu() - begun
        });
        row.add(time, *size);
    }
    row
}

/// Pieces of one stream, none of which is kept.
fn pieces(sizes: &[usize]) -> Row {
    let mut row = Row::new("chunks of 64 KiB of one stream", "µs");
    let piece = Bytes::from(crate::pattern(PIECE));
    let mut pair = Pair::new();
    for size in sizes.iter().filter(|it| **it <= MOST_PIECES) {
        let time = repeated(|| {
            let begun = cpu();
            stream(&mut pair, &piece, *size);
            cpu() - begun
        });
        row.add(time, *size);
    }
    row
}

fn stream(pair: &mut Pair, piece: &Bytes, pieces: usize) {
    let Pair { client, server } = pair;
    let total = (pieces * piece.len()) as u64;
    let transfer = Transfer::new("video/mp4").total(total);
    let out = client.open(NOW, transfer).expect("it is taken");
    let (mut left, mut received, mut coming) = (pieces, 0, None);
    loop {
        while left > 0 && client.writable(out) > 0 {
            let written = client.write(NOW, out, piece.clone());
            written.expect("there is room");
            left -= 1;
            if left == 0 {
                client.finish(NOW, out).expect("it is whole");
            }
        }
        while carry(client, server) {}
        if let Some(Event::Transfer { id, .. }) = server.poll_event() {
            coming = Some(id);
        }
        while let Some(id) = coming
            && let Some(read) = server.read(NOW, id)
        {
            match read {
                Read::Piece(piece) => received += piece.len() as u64,
                Read::End => coming = None,
                Read::Failed(error) => panic!("{error}"),
            }
        }
        while carry(server, client) {}
        if let Some(Event::Sent { .. }) = client.poll_event() {
            assert_eq!(received, total);
            return;
        }
    }
}

/// Sessions of one server, in memory: their arrival, and a broadcast to all.
fn sessions(sizes: &[usize]) -> io::Result<[Row; 3]> {
    let mut arriving = Row::new("connections in memory that arrive and stay", "µs");
    let mut queueing = Row::new("sessions in a broadcast, until it is queued", "ns");
    let mut writing = Row::new("sessions in a broadcast, until it is written", "ns");
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for size in sizes {
        let (hall, arrived) = runtime.block_on(full(*size));
        arriving.add(arrived, *size);
        let (queued, written) = runtime.block_on(broadcasts(&hall))?;
        queueing.add(queued, *size);
        writing.add(written, *size);
        runtime.block_on(hall.close());
    }
    Ok([arriving, queueing, writing])
}

/// A server with so many sessions, and how long they took to arrive.
async fn full(size: usize) -> (Hall, Duration) {
    let (mut sum, mut times) = (Duration::ZERO, 0);
    loop {
        let mut hall = Hall::open();
        // What the first costs is no question of how many there are.
        hall.welcome(1).await;
        let begun = cpu();
        hall.welcome(size).await;
        sum += cpu() - begun;
        times += 1;
        if sum >= LEAST {
            return (hall, sum / times);
        }
        hall.close().await;
    }
}

/// How long a broadcast takes to be queued for all, and until it is written to all.
async fn broadcasts(hall: &Hall) -> io::Result<(Duration, Duration)> {
    let message = small();
    let (mut queued, mut written) = (Vec::new(), Vec::new());
    let mut sum = Duration::ZERO;
    // The first is not counted.
    while written.len() < 2 || sum < LEAST {
        let begun = cpu();
        hall.broadcast(&message)?;
        queued.push((cpu() - begun).as_secs_f64());
        hall.written().await;
        let time = cpu() - begun;
        written.push(time.as_secs_f64());
        sum += time;
    }
    let median = |times: Vec<f64>| {
        let median = report::median(times.into_iter().skip(1));
        Duration::from_secs_f64(median.unwrap_or(0.0))
    };
    Ok((median(queued), median(written)))
}

/// Connections that come and go while so many stay, over sockets of the system: the time of the server.
fn visits(sizes: &[usize], program: &Path) -> io::Result<Row> {
    let mut row = Row::new("connections that come and go while so many stay", "µs");
    let wanted = MOST_SOCKETS as u64 + SPARE;
    let descriptors = raise_descriptors(wanted).min(wanted);
    let most = usize::try_from(descriptors.saturating_sub(SPARE)).unwrap_or(MOST_SOCKETS);
    let server = Server::start(program, Kind::Tokio, &["--idle"])?;
    let mut staying = Vec::new();
    // What the first costs is no question of how many there are.
    solo::visits(&server, Protocol::Sec, VISITS)?;
    for size in sizes.iter().filter(|it| **it <= most) {
        while staying.len() < *size {
            staying.push(stay(&server, staying.len())?);
        }
        let run = solo::visits(&server, Protocol::Sec, VISITS)?;
        row.costs.push(run.server / run.messages * 1e6);
    }
    Ok(row)
}

fn stay(server: &Server, number: usize) -> io::Result<TcpStream> {
    let mut socket = solo::connect(server.address(), 1 + number / PER_ADDRESS)?;
    Hello::new(Protocol::Sec, "echo").finish(&mut socket)?;
    // Ended by a reset: else its port would stay taken for a minute, and others need it.
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_in_memory_is_measured() {
        let sizes = [10, 100];
        let mut rows = vec![messages(&sizes), waiting(&sizes), pieces(&sizes)];
        rows.extend(sessions(&sizes).expect("it serves"));
        for row in &rows {
            assert_eq!(row.costs.len(), sizes.len(), "{}", row.name);
            assert!(row.costs.iter().all(|cost| *cost > 0.0), "{}", row.name);
        }
    }

    #[test]
    fn the_table_compares_the_last_with_the_first() {
        let mut row = Row::new("doors", "ns");
        row.add(Duration::from_nanos(1_234), 10);
        row.add(Duration::from_micros(30), 100);
        let table = table(&[10, 100, 1_000], &[row]);
        let last = table.lines().last();
        let expected = "| doors | ns | 123 | 300 | | 2.43 |";
        assert_eq!(last, Some(expected));
    }
}

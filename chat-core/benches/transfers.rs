//! Messages in pieces, through two connections in memory, beside the hashing that they cannot be
//! faster than: throughput should not depend on the size.
//!
//! Each byte is hashed twice, once by each end, so half of the speed of `hmac` is the limit.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use chat_core::{
    Config, Connection, Entropy, Event, Instant, Message, Read, Receive, Transfer, Uuid,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const NOW: Instant = Instant::EPOCH;
const PIECE: usize = 64 * 1024;
const SIZES: [(&str, usize); 5] = [
    ("64 KiB", 64 * 1024),
    ("1 MiB", 1024 * 1024),
    ("10 MiB", 10 * 1024 * 1024),
    ("64 MiB", 64 * 1024 * 1024),
    ("256 MiB", 256 * 1024 * 1024),
];

/// What a socket takes at once.
struct Pipe(Vec<u8>);

impl Pipe {
    /// Carries what one end has to say to the other.
    fn carry(&mut self, from: &mut Connection, to: &mut Connection) -> bool {
        let mut parts = [&[][..]; 16];
        let count = from.poll_transmit(&mut parts);
        self.0.clear();
        for part in &parts[..count] {
            self.0.extend_from_slice(part);
        }
        from.consume_transmit(NOW, self.0.len());
        assert_eq!(to.handle_input(NOW, &self.0), self.0.len());
        !self.0.is_empty()
    }
}

fn established(receive: Receive) -> (Connection, Connection, Pipe) {
    let config = Config::default().max_message(1 << 40).receive(receive);
    let config = Arc::new(config);
    let mut client = Connection::client(Arc::clone(&config), Entropy::new([1; 32]), NOW);
    let mut server = Connection::server(config, Uuid::from_u128(1), Entropy::new([2; 32]), NOW);
    let mut pipe = Pipe(Vec::new());
    pipe.carry(&mut server, &mut client);
    pipe.carry(&mut client, &mut server);
    client.poll_event();
    server.poll_event();
    (client, server, pipe)
}

/// As a stream, from a buffer of one piece to one that is thrown away.
fn stream(len: usize, client: &mut Connection, server: &mut Connection, pipe: &mut Pipe) {
    let piece = Bytes::from(vec![0xa5; PIECE]);
    let transfer = Transfer::new("video/mp4").total(len as u64);
    let out = client.open(NOW, transfer).expect("it is taken");
    let (mut written, mut received, mut coming) = (0, 0, None);
    loop {
        while written < len && client.writable(out) > 0 {
            client
                .write(NOW, out, piece.clone())
                .expect("there is room");
            written += PIECE;
            if written == len {
                client.finish(NOW, out).expect("it is whole");
            }
        }
        pipe.carry(client, server);
        if let Some(Event::Transfer { id, .. }) = server.poll_event() {
            coming = Some(id);
        }
        while let Some(id) = coming
            && let Some(read) = server.read(NOW, id)
        {
            match read {
                Read::Piece(piece) => received += black_box(piece).len(),
                Read::End => coming = None,
                Read::Failed(error) => panic!("{error}"),
            }
        }
        pipe.carry(server, client);
        if let Some(Event::Sent { .. }) = client.poll_event() {
            assert_eq!(received, len);
            return;
        }
    }
}

/// As a message, put together at the other end.
fn whole(message: &Message, client: &mut Connection, server: &mut Connection, pipe: &mut Pipe) {
    client.send(NOW, message.clone()).expect("there is room");
    loop {
        let moved = pipe.carry(client, server) | pipe.carry(server, client);
        if let Some(Event::Message(message)) = server.poll_event() {
            black_box(message);
        } else if !moved {
            return;
        }
    }
}

fn transfers(c: &mut Criterion) {
    let mut group = c.benchmark_group("transfers");
    group.sample_size(10);
    let keyed = Hmac::<Sha256>::new_from_slice(b"key").expect("any length will do");
    let bytes = vec![0xa5; PIECE];
    group.throughput(Throughput::Bytes(PIECE as u64));
    group.bench_function("hmac/64 KiB", |b| {
        b.iter(|| {
            let mut mac = keyed.clone();
            mac.update(black_box(&bytes));
            mac.finalize()
        });
    });
    for (name, len) in SIZES {
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("stream", name), |b| {
            let (mut client, mut server, mut pipe) = established(Receive::Pieces);
            b.iter(|| stream(len, &mut client, &mut server, &mut pipe));
        });
        let message = Message::binary(vec![0xa5; len]);
        group.bench_function(BenchmarkId::new("whole", name), |b| {
            let (mut client, mut server, mut pipe) = established(Receive::Whole);
            b.iter(|| whole(&message, &mut client, &mut server, &mut pipe));
        });
    }
    group.finish();
}

criterion_group!(benches, transfers);
criterion_main!(benches);

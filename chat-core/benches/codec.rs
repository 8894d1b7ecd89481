//! The codec and a whole conversation in memory, beside the primitives that they cannot be faster
//! than: compare within one run, for machines differ.

mod support;

use std::hint::black_box;
use std::sync::Arc;

use chat_core::frame::{Decoder, Encoder, Extra, Frame, FrameKind, LEGACY_MIN_FRAME, Limits};
use chat_core::{Config, Connection, ContentType, Entropy, Event, Key, Message, Uuid};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use support::{NOW, pump};

const SESSION: Uuid = Uuid::from_u128(0x38b4_e652_e44d_47f2_b70d_9e26_0e27_1365);

/// The sizes of contents.
const SIZES: [(&str, usize); 4] = [
    ("16 B", 16),
    ("1 KiB", 1024),
    ("64 KiB", 64 * 1024),
    ("1 MiB", 1024 * 1024),
];

fn message(len: usize) -> Frame {
    Frame {
        kind: FrameKind::Message,
        content_type: ContentType::BINARY,
        session: Some(SESSION),
        content: vec![0xa5; len].into(),
        extra: Extra::None,
    }
}

fn encode(frame: &Frame, min_len: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(Key::default());
    encoder.encode(frame, min_len).expect("it fits").to_vec()
}

/// What every frame costs whatever the code around it does: HMAC-SHA256 and CRC-32 of its bytes,
/// the HMAC from the keyed state.
fn primitives(c: &mut Criterion) {
    let mut group = c.benchmark_group("primitives");
    let keyed = Hmac::<Sha256>::new_from_slice(Key::DEFAULT_BYTES).expect("any length will do");
    for (name, len) in SIZES {
        let bytes = vec![0xa5; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("hmac", name), |b| {
            b.iter(|| {
                let mut mac = keyed.clone();
                mac.update(black_box(&bytes));
                mac.finalize()
            });
        });
        group.bench_function(BenchmarkId::new("crc", name), |b| {
            b.iter(|| crc32fast::hash(black_box(&bytes)));
        });
    }
    group.finish();
}

/// A frame out: header built or recognised, checksums, code.
fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    for (name, len) in SIZES {
        let frame = message(len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("repeated header", name), |b| {
            let mut encoder = Encoder::new(Key::default());
            b.iter(|| encoder.encode(black_box(&frame), 0));
        });
        group.bench_function(BenchmarkId::new("repeated header, padded", name), |b| {
            let mut encoder = Encoder::new(Key::default());
            b.iter(|| encoder.encode(black_box(&frame), LEGACY_MIN_FRAME));
        });
        group.bench_function(BenchmarkId::new("new header", name), |b| {
            let other = Frame {
                kind: FrameKind::Error,
                ..frame.clone()
            };
            let mut encoder = Encoder::new(Key::default());
            let mut frames = [&frame, &other].into_iter().cycle();
            b.iter(|| encoder.encode(black_box(frames.next().expect("endless")), 0));
        });
    }
    group.finish();
}

/// A frame in: read, verified, its header parsed or recognised.
fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for (name, len) in SIZES {
        let frame = message(len);
        let bytes = encode(&frame, 0);
        let padded = encode(&frame, LEGACY_MIN_FRAME);
        group.throughput(Throughput::Bytes(len as u64));
        for (case, bytes) in [
            ("repeated header", &bytes),
            ("repeated header, padded", &padded),
        ] {
            group.bench_function(BenchmarkId::new(case, name), |b| {
                let mut decoder = Decoder::new(Key::default(), Limits::default());
                b.iter(|| decoder.decode(&mut black_box(&bytes[..])).expect("a frame"));
            });
        }
        group.bench_function(BenchmarkId::new("new header", name), |b| {
            b.iter(|| {
                let mut decoder = Decoder::new(Key::default(), Limits::default());
                decoder.decode(&mut black_box(&bytes[..])).expect("a frame")
            });
        });
        group.bench_function(BenchmarkId::new("reads of 1 KiB", name), |b| {
            let mut decoder = Decoder::new(Key::default(), Limits::default());
            b.iter(|| {
                let mut frame = None;
                for mut read in bytes.chunks(1024) {
                    frame = decoder.decode(black_box(&mut read)).expect("a frame");
                }
                frame.expect("the whole of it")
            });
        });
    }
    group.finish();
}

/// A frame that is refused: what it costs to tell.
fn verifying(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify");
    for (name, len) in SIZES {
        let mut forged = encode(&message(len), 0);
        forged[32] ^= 1;
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("forged", name), |b| {
            b.iter(|| {
                let mut decoder = Decoder::new(Key::default(), Limits::default());
                decoder
                    .decode(&mut black_box(&forged[..]))
                    .expect_err("forged")
            });
        });
    }
    group.finish();
}

/// Handshake, 1,000 messages, goodbye: everything but the transport.
fn conversation(messages: &Message, config: &Arc<Config>) -> u64 {
    let mut client = Connection::client(Arc::clone(config), Entropy::new([1; 32]), NOW);
    let mut server = Connection::server(Arc::clone(config), SESSION, Entropy::new([2; 32]), NOW);
    while pump(&mut server, &mut client) || pump(&mut client, &mut server) {}
    let mut received = 0;
    for _ in 0..1_000 {
        client.send(NOW, messages.clone()).expect("it fits");
        while pump(&mut client, &mut server) || pump(&mut server, &mut client) {}
        while let Some(event) = server.poll_event() {
            received += u64::from(matches!(event, Event::Message(_)));
        }
    }
    client.close(NOW, "done");
    while pump(&mut client, &mut server) {}
    assert_eq!(received, 1_000);
    received
}

/// With `sec`, with the same frames under the shared key, and as with a version 1 peer.
fn conversations(c: &mut Criterion) {
    let mut group = c.benchmark_group("conversation of 1,000 messages");
    let configs = [
        ("sec", Config::default()),
        ("shared key", Config::default().sec(false)),
        ("version 1", Config::default().version_1()),
    ];
    for (name, len) in &SIZES[..3] {
        let message = Message::binary(vec![0xa5; *len]);
        group.throughput(Throughput::Elements(1_000));
        for (case, config) in &configs {
            let config = Arc::new(config.clone());
            group.bench_function(BenchmarkId::new(*case, name), |b| {
                b.iter(|| conversation(black_box(&message), &config));
            });
        }
    }
    group.finish();
}

/// One message of 100 KiB to 1,000 connections: its frames are made, and not sent. What it costs to
/// hash the content a thousand times, or once, is beside it.
fn broadcast(c: &mut Criterion) {
    const RECEIVERS: usize = 1_000;
    let mut group = c.benchmark_group("100 KiB to 1,000 connections");
    group.sample_size(10);
    let content = vec![0xa5; 100 * 1024];
    let config = Arc::new(Config::default());
    let message = Message::binary(content.clone());
    let receivers = || -> Vec<Connection> {
        let mut receivers = Vec::with_capacity(RECEIVERS);
        receivers.resize_with(RECEIVERS, || {
            let mut client = Connection::client(Arc::clone(&config), Entropy::new([1; 32]), NOW);
            let mut server =
                Connection::server(Arc::clone(&config), SESSION, Entropy::new([2; 32]), NOW);
            while pump(&mut server, &mut client) || pump(&mut client, &mut server) {}
            server
        });
        receivers
    };
    let send = |message: &Message, mut receivers: Vec<Connection>| {
        for receiver in &mut receivers {
            receiver.send(NOW, message.clone()).expect("it fits");
        }
        receivers
    };
    group.bench_function("hashed once", |b| {
        b.iter_batched(
            receivers,
            |receivers| send(&message.clone().hashed(&config), receivers),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("hashed by each", |b| {
        b.iter_batched(
            receivers,
            |receivers| send(&message, receivers),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("the hash alone", |b| {
        b.iter(|| Sha256::digest(black_box(&content)));
    });
    group.finish();
}

criterion_group!(
    benches,
    primitives,
    encoding,
    decoding,
    verifying,
    conversations,
    broadcast
);
criterion_main!(benches);

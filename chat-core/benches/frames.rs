//! A frame in and a frame out, beside exactly the hashing and the checksums that they need: what the
//! code around the primitives costs.
//!
//! The last thing it prints is the ratio, of medians of rounds that take turns. Only that:
//!
//! ```sh
//! cargo bench -p chat-core --bench frames -- --report
//! ```
//!
//! Instructions for each frame, of each of the sides that `--report` names (0 to 11). valgrind knows no
//! instructions for SHA-256, so only the difference of two sides says something, not their ratio:
//!
//! ```sh
//! valgrind --tool=callgrind --toggle-collect='*counted*' --callgrind-out-file=/dev/null \
//!     target/release/deps/frames-???????????????? --count 0
//! ```

mod support;

use std::env;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use chat_core::frame::{Decoder, Encoder, Extra, FIXED_HEADER_LEN, Frame, FrameKind, Limits};
use chat_core::{Config, Connection, ContentType, Entropy, Event, Key, Message, Uuid};
use criterion::{Criterion, Throughput};
use hmac::{Hmac, KeyInit, Mac};
use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

use support::{NOW, pump};

const SESSION: Uuid = Uuid::from_u128(0x38b4_e652_e44d_47f2_b70d_9e26_0e27_1365);
/// So many frames at a time: one read of a socket has as many small ones.
const BATCH: u32 = 100;
/// How often both sides of a case take their turn for the report.
const ROUNDS: usize = 2_000;
/// How many batches are counted.
const COUNTED: u32 = 10;

/// One side of a case: a batch of frames.
type Side = Box<dyn FnMut()>;

/// Something of ours, and what it is made of.
struct Case {
    name: String,
    ours: Side,
    primitives: Side,
}

fn message(len: usize) -> Frame {
    Frame {
        kind: FrameKind::Message,
        content_type: ContentType::BINARY,
        session: Some(SESSION),
        content: vec![0xa5; len].into(),
        extra: Extra::None,
    }
}

/// A message as bytes: fixed header, JSON header, content.
fn encoded(len: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(Key::default());
    encoder.encode(&message(len), 0).expect("it fits").to_vec()
}

/// The JSON header that all the messages have, twice: as it was kept and as it comes.
fn headers(len: usize) -> [Vec<u8>; 2] {
    let frame = encoded(len);
    let header = &frame[FIXED_HEADER_LEN..frame.len() - len];
    [header.to_vec(), header.to_vec()]
}

/// Version 1: the codec alone, decoding from what a read has brought.
fn codec(len: usize) -> Side {
    let read = encoded(len).repeat(BATCH as usize);
    let frame = message(len);
    let mut encoder = Encoder::new(Key::default());
    let mut decoder = Decoder::new(Key::default(), Limits::default());
    Box::new(move || {
        let mut input = black_box(&read[..]);
        for _ in 0..BATCH {
            black_box(decoder.decode(&mut input).expect("a frame"));
            black_box(encoder.encode(black_box(&frame), 0).expect("it fits"));
        }
    })
}

/// Under the shared key: the state after the header is kept, and so the key is never hashed.
fn shared_key(len: usize) -> Side {
    let [kept, comes] = headers(len);
    let content = vec![0xa5; len];
    let mut mac = Hmac::<Sha256>::new_from_slice(Key::DEFAULT_BYTES).expect("any length will do");
    mac.update(&kept);
    let after = Box::new(mac);
    let code = after.clone().chain_update(&content).finalize().into_bytes();
    Box::new(move || {
        for _ in 0..BATCH {
            assert_eq!(black_box(&comes), black_box(&kept));
            black_box(crc32fast::hash(black_box(&content)));
            let mut mac = Hmac::clone(&after);
            mac.update(&content);
            mac.verify_slice(black_box(&code)).expect("it is right");

            black_box(crc32fast::hash(black_box(&content)));
            let mut mac = Hmac::clone(&after);
            mac.update(&content);
            black_box(mac.finalize());
        }
    })
}

/// Messages from one connection to another, so many in each write.
fn connections(len: usize, config: Config, in_a_write: u32) -> Side {
    let config = Arc::new(config);
    let mut client = Connection::client(Arc::clone(&config), Entropy::new([1; 32]), NOW);
    let mut server = Connection::server(config, SESSION, Entropy::new([2; 32]), NOW);
    while pump(&mut server, &mut client) || pump(&mut client, &mut server) {}
    while server.poll_event().is_some() {}
    let message = Message::binary(vec![0xa5; len]);
    Box::new(move || {
        let mut received = 0;
        for _ in 0..BATCH / in_a_write {
            for _ in 0..in_a_write {
                let message = black_box(&message).clone();
                client.send(NOW, message).expect("it fits");
            }
            while pump(&mut client, &mut server) {}
            while let Some(event) = server.poll_event() {
                received += u32::from(matches!(black_box(event), Event::Message(_)));
            }
        }
        assert_eq!(received, BATCH);
    })
}

/// With `sec`: what repeats is a block that the inner hash of HMAC has taken; each end compresses what
/// changes, and the outer block, and hashes a content that does not fit in there.
fn session_key(len: usize) -> Side {
    let [kept, comes] = headers(len);
    let content = vec![0xa5; len];
    let (inner, outer) = ([7; 8], [8; 8]);
    let code = move |number: u64, content: &[u8]| {
        let mut block = [0; 64];
        block[..8].copy_from_slice(&number.to_be_bytes());
        match block[20..52].get_mut(..content.len()) {
            Some(short) => short.copy_from_slice(black_box(content)),
            None => block[20..52].copy_from_slice(&Sha256::digest(black_box(content))),
        }
        let mut inner: [u32; 8] = black_box(inner);
        compress256(&mut inner, &[block]);
        let mut block = [0; 64];
        for (bytes, word) in block.chunks_exact_mut(4).zip(inner) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        let mut outer: [u32; 8] = black_box(outer);
        compress256(&mut outer, &[block]);
        outer
    };
    let mut number = 0;
    Box::new(move || {
        for _ in 0..BATCH {
            black_box(crc32fast::hash(black_box(&content)));
            let sent = black_box(code(number, &content));

            assert_eq!(black_box(&comes), black_box(&kept));
            black_box(crc32fast::hash(black_box(&content)));
            assert_eq!(code(number, &content), sent);
            number += 1;
        }
    })
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (size, len) in [("16 B", 16), ("1 KiB", 1024)] {
        let sec = |in_a_write| connections(len, Config::default(), in_a_write);
        cases.extend([
            Case {
                name: format!("shared key, {size}"),
                ours: codec(len),
                primitives: shared_key(len),
            },
            Case {
                name: format!("sec, {size}"),
                ours: sec(BATCH),
                primitives: session_key(len),
            },
            Case {
                name: format!("sec, {size}, alone"),
                ours: sec(1),
                primitives: session_key(len),
            },
        ]);
    }
    cases
}

/// For comparison with other runs of the same machine.
fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames");
    group.throughput(Throughput::Elements(BATCH.into()));
    for mut case in cases() {
        group.bench_function(format!("{}/in_and_out", case.name), |b| {
            b.iter(&mut case.ours);
        });
        group.bench_function(format!("{}/primitives", case.name), |b| {
            b.iter(&mut case.primitives);
        });
    }
    group.finish();
}

/// How long one frame took.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark is what asks how late it is"
)]
fn time(side: &mut Side) -> Duration {
    let begun = Clock::now();
    side();
    begun.elapsed() / BATCH
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The ratio of each case: both sides take turns, so what else the machine does meets both.
fn report() {
    println!("one frame in and one out, median of {ROUNDS} rounds of {BATCH}:");
    for (number, mut case) in cases().into_iter().enumerate() {
        let rounds = (0..ROUNDS).map(|_| (time(&mut case.ours), time(&mut case.primitives)));
        let (ours, primitives): (Vec<_>, Vec<_>) = rounds.unzip();
        let (ours, primitives) = (median(ours), median(primitives));
        println!(
            "{:<2} {:<18} {:>5} ns, primitives ({}) {:>5} ns: {:.2} x",
            2 * number,
            case.name,
            ours.as_nanos(),
            2 * number + 1,
            primitives.as_nanos(),
            ours.as_secs_f64() / primitives.as_secs_f64()
        );
    }
}

/// What callgrind collects.
#[inline(never)]
fn counted(side: &mut Side) {
    for _ in 0..COUNTED {
        side();
    }
}

fn count(side: usize) {
    let sides = cases()
        .into_iter()
        .flat_map(|case| [case.ours, case.primitives]);
    let mut side = sides.into_iter().nth(side).expect("one of the sides");
    // What the first costs is not what they cost.
    side();
    counted(&mut side);
    println!("divide by {} frames", COUNTED * BATCH);
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|it| it == name);
    if has("--count") {
        let side = arguments.iter().find_map(|it| it.parse().ok());
        return count(side.expect("which side?"));
    }
    if !has("--report") {
        let mut criterion = Criterion::default().configure_from_args();
        benches(&mut criterion);
        criterion.final_summary();
    }
    if !["--test", "--list", "--profile-time"].into_iter().any(has) {
        report();
    }
}

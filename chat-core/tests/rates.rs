//! How much a peer may send in how much time (PROTOCOL.md §9), in virtual time. How much it may get
//! wrong is in `too_many_errors.rs`.

mod support;

use core::time::Duration;
use std::collections::VecDeque;

use chat_core::frame::{Extensions, Frame, FrameKind};
use chat_core::{CloseReason, Config, Event, Instant, Message, Rate, Role, State, Timeout};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use support::chunk::{every_extension, image, negotiated};
use support::{Pair, START, Solo, encode, frame, millis, no_timers, property, secs};

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const NANO: Duration = Duration::from_nanos(1);

/// An end with a peer that has always more to send, and a transport that holds it.
struct Flood {
    solo: Solo,
    waiting: VecDeque<u8>,
    /// The most that arrives at once.
    read: usize,
    /// The contents of messages that were delivered.
    messages: Vec<String>,
    /// What was taken: when, how many bytes, and how many frames that completed.
    taken: Vec<(Instant, usize, u64)>,
}

impl Flood {
    fn new(solo: Solo) -> Self {
        Self {
            solo,
            waiting: VecDeque::new(),
            read: usize::MAX,
            messages: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// One that has been quiet for so long that it may send as much as ever at once. It does not ask
    /// for signs of life.
    fn rested(role: Role, config: Config) -> Self {
        let mut peer = every_extension();
        peer.ping = None;
        let mut solo = negotiated(role, config, peer);
        solo.wait(secs(100_000));
        Self::new(solo)
    }

    /// The peer sends frames.
    fn send(&mut self, frames: &[Frame]) {
        self.waiting.extend(frames.iter().flat_map(encode));
    }

    /// The peer sends so many messages, each with its number.
    fn send_numbers(&mut self, numbers: core::ops::Range<usize>) {
        let texts: Vec<Frame> = numbers.map(|n| number(n, 0)).collect();
        self.send(&texts);
    }

    /// Whatever is taken now is taken.
    fn settle(&mut self) {
        while self.solo.connection.wants_input() && !self.waiting.is_empty() {
            let arrived = self.waiting.make_contiguous();
            let arrived = &arrived[..arrived.len().min(self.read)];
            let before = self.solo.connection.stats().frames_received;
            let taken = self.solo.connection.handle_input(self.solo.now, arrived);
            let frames = self.solo.connection.stats().frames_received - before;
            assert!(taken > 0, "it wants input and takes none");
            self.waiting.drain(..taken);
            self.taken.push((self.solo.now, taken, frames));
            for event in self.solo.events() {
                match event {
                    Event::Message(message) => {
                        let text = message.as_text().expect("a text");
                        self.messages.push(text.to_owned());
                    }
                    other => panic!("not a message: {other:?}"),
                }
            }
        }
    }

    /// Time passes: every deadline is kept, and what is taken then is taken.
    fn run(&mut self, duration: Duration) {
        let end = self.solo.now + duration;
        self.settle();
        while let Some(due) = self.solo.connection.poll_timeout().filter(|it| *it <= end) {
            self.solo.wait(due - self.solo.now);
            self.settle();
        }
        self.solo.wait(end - self.solo.now);
    }

    /// Nothing is taken until then, and one nanosecond before nothing is either.
    fn next_is_at(&mut self, due: Instant) {
        let now = self.solo.now;
        assert!(!self.solo.connection.wants_input());
        assert_eq!(self.solo.connection.poll_timeout(), Some(due), "at {now:?}");
        self.run((due - now).saturating_sub(NANO));
        let connection = &mut self.solo.connection;
        assert_eq!(connection.handle_input(self.solo.now, &[0x89]), 0);
        assert!(!connection.wants_input());
        assert_eq!(connection.poll_timeout(), Some(due), "asking costs nothing");
    }
}

/// A message with its number, and so many bytes more.
fn number(number: usize, more: usize) -> Frame {
    let text = format!("{number:05}{:more$}", "");
    frame(FrameKind::Message, text)
}

/// That nothing was lost, doubled or reordered.
#[track_caller]
fn are_in_order(messages: &[String], count: usize) {
    assert_eq!(messages.len(), count);
    for (expected, text) in messages.iter().enumerate() {
        assert_eq!(text[..5].parse(), Ok(expected));
    }
}

#[test]
fn a_burst_passes_and_then_exactly_the_rate() {
    for role in ROLES {
        for (per_second, burst) in [(1, 1), (1, 7), (10, 1), (100, 500), (1_000, 32)] {
            let rate = Rate::per_second(per_second).burst(burst);
            let mut flood = Flood::rested(role, no_timers().message_rate(Some(rate)));
            let (start, step) = (flood.solo.now, secs(1) / u32::try_from(per_second).unwrap());
            let count = usize::try_from(burst).unwrap() + 200;
            flood.send_numbers(0..count);
            flood.settle();
            // The last of them was one too many.
            let mut passed = usize::try_from(burst).unwrap() + 1;
            let mut due = start;
            while passed < count {
                assert_eq!(flood.messages.len(), passed, "{rate:?} at {due:?}");
                due = due + step;
                flood.next_is_at(due);
                flood.run(NANO);
                passed += 1;
            }
            are_in_order(&flood.messages, count);
            assert_eq!(due - start, step * 199);
        }
    }
}

#[test]
fn bytes_are_limited_as_frames_are() {
    let len = encode(&number(0, 0)).len();
    for role in ROLES {
        for read in [1, 50, 64 * 1024] {
            // Ten frames at once, and a byte each millisecond.
            let rate = Rate::per_second(1_000).burst(10 * len as u64);
            let mut flood = Flood::rested(role, no_timers().byte_rate(Some(rate)));
            flood.read = read;
            let start = flood.solo.now;
            flood.send_numbers(0..100);
            flood.settle();
            let at_once: usize = flood.taken.iter().map(|(_, bytes, _)| bytes).sum();
            let whole = read.min(len);
            assert_eq!(at_once, (10 * len / whole + 1) * whole, "reads of {read}");
            flood.run(millis(89 * len as u64 - 1));
            assert_eq!(flood.messages.len(), 99);
            flood.run(millis(len as u64 + 1));
            are_in_order(&flood.messages, 100);
            assert_eq!(flood.solo.now - start, millis(90 * len as u64));
        }
    }
}

#[test]
fn a_rate_that_is_no_part_of_a_second_is_kept_in_the_long_run() {
    for per_second in [3, 7, 999, 9_001] {
        let rate = Rate::per_second(per_second);
        let mut flood = Flood::rested(Role::Server, no_timers().message_rate(Some(rate)));
        let count = usize::try_from(per_second).unwrap() * 4;
        flood.send_numbers(0..count);
        let start = flood.solo.now;
        flood.run(secs(10));
        are_in_order(&flood.messages, count);
        let (last, ..) = flood.taken.last().expect("something");
        // All but the burst and one, at the rate: three seconds less one of them.
        let one = secs(1) / u32::try_from(per_second).unwrap();
        let expected = secs(3).saturating_sub(one);
        let off = expected.abs_diff(*last - start);
        assert!(off < Duration::from_micros(100), "{per_second}: {off:?}");
    }
}

#[test]
fn what_was_not_used_is_saved_up_to_the_burst() {
    let rate = Rate::per_second(10).burst(20);
    let config = no_timers().message_rate(Some(rate));
    for (pause, passes) in [(0, 1), (1_000, 11), (1_900, 20), (2_000, 21), (90_000, 21)] {
        let mut flood = Flood::rested(Role::Server, config.clone());
        flood.send_numbers(0..21);
        flood.settle();
        assert_eq!(flood.messages.len(), 21);
        // To where the next one may pass, and the pause.
        flood.run(millis(100 + pause));
        flood.send_numbers(21..100);
        flood.settle();
        assert_eq!(flood.messages.len(), 21 + passes, "after {pause} ms");
    }
}

#[test]
fn nothing_counts_as_one_and_everything_as_no_limit() {
    assert_eq!(Rate::per_second(0), Rate::per_second(1));
    assert_eq!(Rate::per_second(5).burst(0), Rate::per_second(5).burst(1));
    assert_eq!(Rate::per_second(5).burst(9).number(), 5);
    let largest = Some(Rate::per_second(u64::MAX).burst(u64::MAX));
    let slow = Some(Rate::per_second(1).burst(u64::MAX));
    let unlimited = [
        no_timers().message_rate(largest).byte_rate(largest),
        no_timers().message_rate(slow).byte_rate(slow),
        no_timers().message_rate(None).byte_rate(None),
        no_timers(),
    ];
    for config in unlimited {
        let mut flood = Flood::rested(Role::Server, config);
        flood.send_numbers(0..10_000);
        flood.settle();
        are_in_order(&flood.messages, 10_000);
        assert_eq!(flood.solo.connection.stats().throttled, 0);
        assert_eq!(flood.solo.sent(), []);
    }
}

#[test]
fn of_two_limits_the_one_holds_that_allows_less() {
    let (strict, lax) = (Rate::per_second(10), Rate::per_second(1_000_000));
    let len = encode(&number(0, 0)).len() as u64;
    let strict_bytes = Rate::per_second(10 * len).burst(10 * len);
    for config in [
        no_timers().message_rate(Some(strict)).byte_rate(Some(lax)),
        no_timers()
            .message_rate(Some(strict))
            .byte_rate(Some(Rate::per_second(20 * len).burst(1))),
        no_timers()
            .message_rate(Some(lax))
            .byte_rate(Some(strict_bytes)),
    ] {
        let mut flood = Flood::rested(Role::Server, config);
        flood.send_numbers(0..100);
        flood.run(secs(5) + NANO);
        let passed = flood.messages.len();
        assert!((51..=61).contains(&passed), "{passed}");
        flood.run(secs(10));
        are_in_order(&flood.messages, 100);
    }
}

/// Messages that arrive after a pause: how long it is, and how many bytes each has.
fn any_arrival() -> impl Strategy<Value = (Duration, Vec<usize>)> {
    let pause = prop_oneof![3 => 0_u64..300, 1 => 0_u64..20_000];
    (pause.prop_map(millis), vec(0_usize..400, 0..20))
}

proptest! {
    #![proptest_config(property(400))]

    #[test]
    fn no_pattern_of_arrival_gets_more_through_or_less(
        role in select(&ROLES[..]),
        per_second in select(&[1_u64, 4, 10, 50, 1_000, 100_000][..]),
        burst in 1_u64..3_000,
        of_bytes in any::<bool>(),
        read in select(&[20_usize, 100, 1_000, 65_536][..]),
        arrivals in vec(any_arrival(), 1..12),
    ) {
        let per_second = if of_bytes { per_second.max(1_000) } else { per_second };
        let burst = if of_bytes { burst } else { 1 + burst % 40 };
        let rate = Some(Rate::per_second(per_second).burst(burst));
        let config = if of_bytes { no_timers().byte_rate(rate) } else { no_timers().message_rate(rate) };
        let mut flood = Flood::rested(role, config);
        flood.read = read;
        let mut count = 0;
        // From when to when something waited without a pause.
        let mut busy = Vec::new();
        for (pause, sizes) in &arrivals {
            for more in sizes {
                flood.send(&[number(count, *more)]);
                count += 1;
            }
            let from = flood.solo.now;
            flood.run(*pause);
            if !flood.waiting.is_empty() {
                busy.push((from, flood.solo.now));
            }
        }
        let from = flood.solo.now;
        while !flood.waiting.is_empty() {
            flood.settle();
            if !flood.waiting.is_empty() {
                busy.push((from, flood.solo.now));
                let due = flood.solo.next_deadline().expect("it goes on");
                flood.run(due);
            }
        }
        are_in_order(&flood.messages, count);
        // Never more, in no stretch of time, than the burst, what the rate allows, and what was one too
        // many: in parts of which a second has as many as it has nanoseconds.
        let largest = encode(&number(0, 400)).len().min(read) as u64;
        let amount = |(at, bytes, frames): &(Instant, usize, u64)| {
            (*at, if of_bytes { *bytes as u64 } else { *frames })
        };
        let taken: Vec<(Instant, u64)> = flood.taken.iter().map(amount).collect();
        let one_too_many = if of_bytes { largest } else { 1 };
        let parts = |amount: u64| i128::from(amount) * 1_000_000_000;
        let most = parts(burst + one_too_many);
        let (mut sum, mut least) = (0, i128::MAX);
        for (at, amount) in &taken {
            let allowed = i128::from(at.as_nanos()) * i128::from(per_second);
            least = least.min(sum - allowed);
            sum += parts(*amount);
            prop_assert!(sum - allowed - least <= most, "at {at:?}");
        }
        // And no less than the rate, as long as something waited.
        for (from, to) in busy {
            let inside = taken.iter().filter(|(at, _)| (from..=to).contains(at));
            let sum: u64 = inside.map(|(_, amount)| amount).sum();
            let time = to.as_nanos() - from.as_nanos();
            let least = i128::from(time) * i128::from(per_second) - parts(one_too_many);
            prop_assert!(parts(sum) >= least, "{sum} in {:?}", to - from);
        }
    }
}

/// The default timers, and 1,000 bytes a second.
fn slow() -> Config {
    Config::default().byte_rate(Some(Rate::per_second(1_000)))
}

/// An end that reads nothing for 99 s after what it took.
fn throttled(role: Role, config: Config, peer: Extensions) -> Solo {
    let mut solo = negotiated(role, config, peer);
    let large = encode(&frame(FrameKind::Message, vec![b'x'; 100_000]));
    solo.feed_bytes(&large);
    assert_eq!(solo.events().len(), 1);
    let greeting = solo.connection.stats().bytes_received - large.len() as u64;
    let until = START + millis(greeting + large.len() as u64 - 1_000);
    let connection = &mut solo.connection;
    assert!(!connection.wants_input());
    assert_eq!(connection.state(), State::Established);
    assert_eq!(connection.handle_input(START, b"more"), 0);
    assert!(until - START > secs(99), "{until:?}");
    solo
}

#[test]
fn the_silence_of_a_throttled_peer_is_not_its_own() {
    for role in ROLES {
        for (peer, timeout) in [
            (every_extension(), Timeout::Answer),
            (Extensions::default(), Timeout::Idle),
        ] {
            let mut solo = throttled(role, slow(), peer);
            solo.wait_and_send(secs(99));
            assert_eq!(solo.connection.state(), State::Established);
            assert!(!solo.connection.wants_input());
            // When it is read from again, its silence is.
            let mut last = solo.now;
            while solo.connection.state() == State::Established {
                solo.wait_and_send(millis(10));
                if !solo.connection.wants_input() {
                    last = solo.now;
                }
            }
            let silent = solo.now - last;
            assert!(silent > secs(14) && silent < secs(31), "{silent:?}");
            solo.connection.handle_eof(solo.now);
            assert_eq!(solo.closed(), CloseReason::Timeout(timeout));
        }
    }
}

#[test]
fn a_throttled_peer_hears_that_this_end_lives() {
    for role in ROLES {
        let mut peer = every_extension();
        peer.ping = Some(9_000);
        let mut solo = throttled(role, slow(), peer);
        let (mut asked, mut alive) = (0, Vec::new());
        solo.sent();
        while solo.now < START + secs(99) {
            solo.wait(millis(100));
            for sent in solo.sent() {
                assert_eq!(sent.kind, FrameKind::Heartbeat);
                match &sent.content[..] {
                    b"ping" => asked += 1,
                    _ => alive.push(solo.now),
                }
            }
        }
        // A server asks too, since it hears nothing.
        assert!((13..=20).contains(&asked), "{role:?}: {asked}");
        // Three times within its patience.
        let gaps = alive.windows(2).map(|two| two[1] - two[0]);
        assert!(gaps.clone().all(|gap| gap <= millis(3_100)));
        assert!((31..=34).contains(&alive.len()), "{}", alive.len());
    }
}

#[test]
fn a_peer_that_sends_too_much_is_told_once() {
    let (messages, bytes) = (Rate::per_second(10), Rate::per_second(1_000));
    for role in ROLES {
        for (config, told) in [
            (
                no_timers().message_rate(Some(messages)),
                "You send more than 10 messages a second: you are read from more slowly",
            ),
            (
                no_timers().byte_rate(Some(bytes)),
                "You send more than 1000 bytes a second: you are read from more slowly",
            ),
        ] {
            let mut flood = Flood::rested(role, config.clone());
            flood.send_numbers(0..5);
            flood.settle();
            assert_eq!(flood.solo.sent(), [], "it may");
            assert_eq!(flood.solo.connection.stats().throttled, 0);
            flood.send_numbers(5..50);
            flood.run(secs(30));
            flood.run(secs(1_000));
            flood.send_numbers(50..100);
            flood.run(secs(30));
            are_in_order(&flood.messages, 100);
            assert_eq!(flood.solo.sent(), [frame(FrameKind::Error, told)]);
            let throttled = flood.solo.connection.stats().throttled;
            assert!(throttled > 50, "{throttled}");

            // Some of these leave when they hear of an error, as all of version 1 may.
            let old = negotiated(role, config.clone(), Extensions::default());
            let to_old = negotiated(role, config.version_1(), Extensions::default());
            for solo in [old, to_old] {
                let mut flood = Flood::new(solo);
                flood.send_numbers(0..50);
                flood.run(secs(30));
                are_in_order(&flood.messages, 50);
                assert_eq!(flood.solo.sent(), []);
                assert!(flood.solo.connection.stats().throttled > 30);
            }
        }
    }
}

#[test]
fn it_is_told_as_soon_as_there_is_room_for_that() {
    let rate = Rate::per_second(10);
    for role in ROLES {
        let config = no_timers().message_rate(Some(rate)).max_outbox(1_000);
        let mut flood = Flood::rested(role, config);
        flood.solo.send(Message::binary(vec![1; 800]));
        flood.send_numbers(0..20);
        flood.run(millis(500));
        assert_eq!(flood.solo.sent().len(), 1, "the message and nothing else");
        flood.run(secs(10));
        assert_eq!(flood.solo.sent().len(), 1, "the error");
        are_in_order(&flood.messages, 20);
    }
}

#[test]
fn a_handshake_is_not_throttled() {
    let least = Rate::per_second(1);
    for role in ROLES {
        for split in [1, 100, usize::MAX] {
            for config in [Config::default(), Config::default().version_1()] {
                let slow = config
                    .clone()
                    .byte_rate(Some(least))
                    .message_rate(Some(least));
                let (client, server) = match role {
                    Role::Client => (slow, config),
                    Role::Server => (config, slow),
                };
                let mut pair = Pair::with(client, server);
                (pair.up.split, pair.down.split) = (split, split);
                pair.settle();
                for end in [&pair.client, &pair.server] {
                    assert_eq!(end.connection.state(), State::Established);
                }
                // What it cost has to be paid back all the same.
                assert!(!pair.end(role).connection.wants_input());
                assert!(pair.peer(role).connection.wants_input());
            }
        }
    }
}

#[test]
fn a_throttled_connection_can_be_closed() {
    for role in ROLES {
        for abort in [false, true] {
            let mut solo = throttled(role, slow(), every_extension());
            solo.sent();
            solo.send(Message::text("last words"));
            let now = solo.now;
            if abort {
                solo.connection.abort(now, "enough");
            } else {
                solo.connection.close(now, "enough");
            }
            assert_eq!(solo.connection.state(), State::Closing);
            let said: Vec<FrameKind> = solo.sent().iter().map(|sent| sent.kind).collect();
            let goodbye = [FrameKind::Message, FrameKind::Disconnect];
            assert_eq!(said, goodbye[usize::from(abort)..]);
            // What the peer still says is discarded, at any speed: its end is waited for.
            assert!(solo.connection.wants_input());
            solo.feed_bytes(&encode(&frame(FrameKind::Message, vec![b'y'; 100_000])));
            solo.connection.handle_eof(now);
            let reason = "enough".into();
            assert_eq!(solo.closed(), CloseReason::Local { reason });
        }
    }
}

#[test]
fn a_throttled_connection_times_out_where_it_should() {
    for role in ROLES {
        // The peer does not take what is sent to it, neither before nor after a goodbye.
        let mut solo = throttled(role, slow(), every_extension());
        solo.send(Message::text("nobody reads this"));
        solo.wait(secs(31));
        assert_eq!(solo.closed(), CloseReason::Timeout(Timeout::Stall));

        let mut solo = throttled(role, slow(), every_extension());
        solo.connection.close(START, "enough");
        solo.wait(secs(6));
        let reason = "enough".into();
        assert_eq!(solo.closed(), CloseReason::Local { reason });

        // Ends that come from outside.
        let mut solo = throttled(role, slow(), every_extension());
        solo.connection.handle_eof(START);
        assert_eq!(solo.closed(), CloseReason::Eof { mid_frame: false });
        let mut solo = throttled(role, slow(), every_extension());
        solo.connection.handle_transport_error(START, "reset");
        let error = "reset".into();
        assert_eq!(solo.closed(), CloseReason::Transport { error });
    }
}

#[test]
fn two_peers_get_everything_across_at_the_pace_of_the_slower() {
    for from in ROLES {
        let sender = Config::default().max_outbox(1_000_000);
        let limited = Config::default().message_rate(Some(Rate::per_second(100).burst(50)));
        let (client, server) = match from {
            Role::Client => (sender, limited),
            Role::Server => (limited, sender),
        };
        let mut pair = Pair::with(client, server);
        pair.link(from).capacity = 4_096;
        pair.settle();
        for n in 0..1_500 {
            let text = Message::text(format!("{n:05}"));
            assert_eq!(pair.send(from, text), Ok(()));
        }
        pair.run_for(secs(14));
        let early = pair.peer(from).messages().count();
        assert!((1_400..1_460).contains(&early), "{early} after 14 s");
        pair.run_for(secs(100));
        let texts = pair.peer(from).messages().filter_map(Message::as_text);
        let texts: Vec<String> = texts.map(str::to_owned).collect();
        are_in_order(&texts, 1_500);
        let told = |event: &&Event| matches!(event, Event::Error(_));
        assert_eq!(pair.end(from).events.iter().filter(told).count(), 1);
        for role in ROLES {
            assert_eq!(pair.end(role).closed(), None);
        }
    }
}

#[test]
fn a_large_message_gets_across_at_the_pace_of_its_reader() {
    for from in ROLES {
        let limited = Config::default().byte_rate(Some(Rate::per_second(16 * 1024)));
        let mut pair = Pair::with(limited.clone(), limited);
        pair.link(from).capacity = 64 * 1024;
        pair.settle();
        let large = image(4 * 1024 * 1024);
        assert_eq!(pair.send(from, large.clone()), Ok(()));
        pair.run_for(secs(255));
        assert_eq!(pair.peer(from).messages().count(), 0, "it was faster");
        pair.run_for(secs(10));
        assert!(pair.peer(from).messages().eq([&large]));
        for role in ROLES {
            assert_eq!(pair.end(role).closed(), None);
        }
    }
}

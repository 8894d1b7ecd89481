//! Back-pressure: an application that does not poll events stops the input, and nothing is lost.

mod support;

use chat_core::frame::{ChunkOp, Frame, FrameKind};
use chat_core::{CloseReason, Config, Event, Message, Role, SendError, State, Timeout};

use support::chunk::{abort, chunk, every_extension, negotiated, noise, server, streams, window};
use support::{Pair, START, Solo, encode, frame, millis, no_timers, secs};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn numbered(count: usize) -> Vec<Message> {
    (0..count)
        .map(|n| Message::text(format!("message {n}")))
        .collect()
}

/// The stream of these messages, padded as they are when sent.
fn stream(messages: &[Message]) -> Vec<u8> {
    let bytes = |message: &Message| encode(&frame(FrameKind::Message, message.content().clone()));
    messages.iter().flat_map(bytes).collect()
}

/// The messages that wait.
fn poll(solo: &mut Solo) -> Vec<Message> {
    let message = |event| match event {
        Event::Message(message) => message,
        other => panic!("not a message: {other:?}"),
    };
    solo.events().into_iter().map(message).collect()
}

#[test]
fn a_full_inbox_takes_no_more_and_resumes_where_it_stopped() {
    let sent = numbered(50);
    let bytes = stream(&sent);
    for role in ROLES {
        for most in [1, 100, 10_000, usize::MAX] {
            let mut solo = Solo::established(role, no_timers().max_inbox(1_000));
            let mut received = Vec::new();
            let mut rest = &bytes[..];
            let mut stops = 0;
            while !rest.is_empty() {
                let piece = &rest[..rest.len().min(most)];
                let taken = solo.connection.handle_input(START, piece);
                rest = &rest[taken..];
                if taken < piece.len() {
                    assert!(!solo.connection.wants_input());
                    assert_eq!(solo.connection.handle_input(START, rest), 0);
                    stops += 1;
                    received.extend(poll(&mut solo));
                    assert!(solo.connection.wants_input());
                }
            }
            received.extend(poll(&mut solo));
            assert_eq!(received, sent);
            assert!(stops > 3, "it was never full");
            let stats = solo.connection.stats();
            assert_eq!(
                stats.bytes_received - handshake_bytes(role),
                bytes.len() as u64
            );
        }
    }
}

/// What an established [`Solo`] has received before.
fn handshake_bytes(role: Role) -> u64 {
    let solo = Solo::established(role, no_timers());
    solo.connection.stats().bytes_received
}

#[test]
fn an_inbox_holds_one_event_more_than_it_is_allowed_at_most() {
    for cap in [0, 1, 10_000, 100_000] {
        let mut solo = Solo::established(Role::Client, no_timers().max_inbox(cap));
        let large = encode(&frame(FrameKind::Message, vec![7; 5_000]));
        let bytes = large.repeat(50);
        let taken = solo.connection.handle_input(START, &bytes);
        assert_eq!(taken % large.len(), 0, "it stops between frames");
        let waiting = solo.events().len();
        assert_eq!(waiting, taken / large.len());
        assert!(waiting >= 1, "one event always fits");
        assert!((waiting - 1) * 5_000 <= cap, "{waiting} wait under {cap}");
        assert!(waiting * (5_000 + 1_000) >= cap.min(bytes.len()));
    }
}

/// Feeds messages of 5,000 bytes until no more are taken; returns how many were.
fn fill(solo: &mut Solo) -> usize {
    let large = encode(&frame(FrameKind::Message, vec![7; 5_000]));
    let taken = solo.connection.handle_input(START, &large.repeat(50));
    taken / large.len()
}

#[test]
fn an_inbox_that_was_emptied_holds_as_much_as_before() {
    let mut solo = Solo::established(Role::Server, no_timers().max_inbox(50_000));
    let first = fill(&mut solo);
    assert!((9..=11).contains(&first), "{first}");
    for _ in 0..5 {
        assert_eq!(fill(&mut solo), 0);
        assert_eq!(solo.events().len(), first);
        assert_eq!(fill(&mut solo), first);
    }
}

#[test]
fn each_event_polled_makes_room_for_another() {
    let mut solo = Solo::established(Role::Client, no_timers().max_inbox(50_000));
    fill(&mut solo);
    for polled in [1, 3, 5] {
        for _ in 0..polled {
            assert!(solo.connection.poll_event().is_some());
        }
        assert_eq!(fill(&mut solo), polled);
    }
}

#[test]
fn reports_of_messages_that_the_peer_gave_up_take_room_too() {
    const CAP: usize = 50_000;
    let config = no_timers().max_inbox(CAP);
    let mut solo = negotiated(Role::Client, config, every_extension());
    let content_type = "x".repeat(500);
    let mut waiting = 0;
    while solo.connection.wants_input() {
        solo.send(Message::new(content_type.clone(), noise(10_000, 1)));
        solo.sent();
        solo.feed(&abort(2 * waiting + 1, "no room"));
        waiting += 1;
        assert!(waiting < 1_000, "it is never full");
    }
    let reports = solo.events();
    assert_eq!(reports.len() as u64, waiting);
    assert!((reports.len() - 1) * 500 <= CAP, "{waiting} wait");
    assert!(reports.len() * (500 + 1_000) >= CAP, "{waiting} wait");
    assert!(solo.connection.wants_input());
}

/// Whoever answers each message, and reads no more of them while the answers do not leave, would else
/// wait for ever: the windows that let them leave come after the messages (PROTOCOL.md §5.5).
#[test]
fn while_nothing_is_read_a_large_message_waits_for_no_window() {
    const LEN: usize = 1_000_000;
    let config = no_timers().max_inbox(1_000);
    let full = frame(FrameKind::Message, noise(2_000, 0));
    let sizes = |frames: &[Frame], kind: FrameKind| -> Vec<usize> {
        let of_kind = frames.iter().filter(|frame| frame.kind == kind);
        of_kind.map(|frame| frame.content.len()).collect()
    };
    for reads in [true, false] {
        let mut solo = negotiated(Role::Server, config.clone(), every_extension());
        if !reads {
            solo.feed(&full);
            assert!(!solo.connection.wants_input());
        }
        // The first begins, and uses up its window.
        solo.send(Message::new("a/b", noise(LEN, 1)));
        let pieces = sizes(&solo.sent(), FrameKind::Chunk);
        assert!(pieces.iter().sum::<usize>() >= 262_144, "{pieces:?}");
        let second = Message::new("a/b", noise(LEN, 2));
        let sent = solo.connection.send(START, second.clone());
        if reads {
            assert_eq!(sent, Err(SendError::Full(second)));
            continue;
        }
        assert_eq!(sent, Ok(()));
        assert_eq!(sizes(&solo.sent(), FrameKind::Message), [LEN]);
        // No frame holds as much as this.
        let third = Message::new("a/b", noise(10_485_761, 3));
        let sent = solo.connection.send(START, third.clone());
        assert_eq!(sent, Err(SendError::Full(third.clone())));
        assert_eq!(solo.events().len(), 1);
        solo.feed(&window(2, 262_144));
        let pieces = sizes(&solo.sent(), FrameKind::Chunk);
        assert_eq!(pieces.iter().sum::<usize>(), 262_144);
    }
}

/// Feeds frames, numbered from 0, until no more are taken; returns how many events wait.
fn feed_until_full(solo: &mut Solo, nth: impl Fn(u64) -> Frame) -> usize {
    for n in 0..1_000 {
        if !solo.connection.wants_input() {
            return solo.events().len();
        }
        solo.feed(&nth(n));
    }
    panic!("it is never full");
}

#[test]
fn errors_and_transfers_that_wait_take_room_like_messages() {
    const CAP: usize = 50_000;
    let expect = |waiting: usize, of_each: usize| {
        assert!((waiting - 1) * of_each <= CAP, "{waiting} wait");
        assert!(waiting * (of_each + 1_000) >= CAP, "{waiting} wait");
    };
    let mut client = Solo::established(Role::Client, no_timers().max_inbox(CAP));
    let error = frame(FrameKind::Error, "e".repeat(1_000));
    expect(feed_until_full(&mut client, |_| error.clone()), 1_000);

    for name in [1, 1_000] {
        let config = streams().max_inbox(CAP).max_transfers(1_000);
        let mut server = server(config);
        let transfer = |n| Frame {
            content_type: "t".repeat(1_000).into(),
            ..chunk(
                2 * n + 1,
                ChunkOp::Begin {
                    total: None,
                    name: Some("n".repeat(name).into()),
                },
                "begin",
            )
        };
        expect(feed_until_full(&mut server, transfer), 1_000 + name);
    }
}

#[test]
fn the_end_of_the_stream_is_reported_behind_what_waits() {
    let mut solo = Solo::established(Role::Server, no_timers().max_inbox(1));
    solo.feed(&frame(FrameKind::Message, "unread"));
    solo.connection.handle_eof(START);
    let closed = Event::Closed(CloseReason::Eof { mid_frame: false });
    let unread = Event::Message(Message::text("unread"));
    assert_eq!(solo.events(), [unread, closed]);
}

#[test]
fn nothing_is_lost_or_doubled_when_the_application_pauses() {
    for role in ROLES {
        let config = Config::default().max_inbox(2_000).max_outbox(5_000);
        let mut pair = Pair::established(config);
        pair.link(role).capacity = 3_000;
        let sent = numbered(200);
        let mut next = 0;
        for round in 0_u64.. {
            pair.peer(role).polls = round % 3 == 0;
            while next < sent.len() && pair.send(role, sent[next].clone()).is_ok() {
                next += 1;
            }
            pair.run_for(millis(100));
            if pair.peer(role).messages().count() == sent.len() {
                break;
            }
            assert!(round < 1_000, "stuck");
        }
        assert!(pair.peer(role).messages().eq(&sent));
    }
}

/// A pair in which one application has stopped polling, so that its end takes no input.
fn deaf_pair(deaf: Role) -> (Pair, usize) {
    // A reader that pauses is no stalled transport.
    let config = Config::default().max_inbox(1).stall_timeout(None);
    let mut pair = Pair::established(config);
    pair.end(deaf).polls = false;
    let speaker = match deaf {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    };
    pair.link(speaker).capacity = 1_024;
    let sent = numbered(5);
    for message in &sent {
        assert_eq!(pair.send(speaker, message.clone()), Ok(()));
    }
    pair.settle();
    assert!(!pair.end(deaf).connection.wants_input());
    (pair, sent.len())
}

#[test]
fn silence_of_one_s_own_making_is_not_the_peer_s() {
    for deaf in ROLES {
        let (mut pair, sent) = deaf_pair(deaf);
        pair.run_for(secs(300));
        assert_eq!(pair.end(deaf).connection.state(), State::Established);
        pair.end(deaf).polls = true;
        pair.run_for(secs(60));
        assert_eq!(pair.end(deaf).messages().count(), sent, "{deaf:?}");
        for role in ROLES {
            let state = pair.end(role).connection.state();
            assert_eq!(state, State::Established, "{role:?}, deaf {deaf:?}");
        }
    }
}

#[test]
fn silence_counts_from_when_the_application_polls_again() {
    let config = no_timers().idle_timeout(Some(secs(30))).max_inbox(1);
    let mut solo = Solo::established(Role::Server, config);
    solo.feed(&frame(FrameKind::Message, "unread"));
    solo.wait(secs(300));
    assert_eq!(solo.connection.state(), State::Established);
    assert_eq!(solo.events().len(), 1);
    // Nothing comes. It was deaf until some point in the last 30 s.
    solo.wait(secs(60));
    assert_eq!(solo.connection.state(), State::Closing);
    solo.connection.handle_eof(solo.now);
    solo.sent();
    let idle = CloseReason::Timeout(Timeout::Idle);
    assert_eq!(solo.closed(), idle);
}

#[test]
fn input_that_arrives_after_a_deaf_while_counts_from_then() {
    let config = no_timers().idle_timeout(Some(secs(30))).max_inbox(1);
    let mut solo = Solo::established(Role::Client, config);
    solo.feed(&frame(FrameKind::Message, "unread"));
    solo.wait(secs(29));
    assert_eq!(solo.events().len(), 1);
    let bytes = encode(&frame(FrameKind::Message, "half"));
    solo.feed_bytes(&bytes[..10]);
    solo.wait(secs(29));
    assert_eq!(solo.connection.state(), State::Established);
    solo.wait(secs(2));
    assert_eq!(solo.connection.state(), State::Closing);
}

#[test]
fn heartbeats_pass_through_an_application_that_polls_late() {
    let mut pair = Pair::established(Config::default());
    pair.client.polls = false;
    pair.server.polls = false;
    pair.run_for(secs(300));
    assert_eq!(pair.client.connection.state(), State::Established);
    assert_eq!(pair.server.connection.state(), State::Established);
}

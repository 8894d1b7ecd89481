//! The outbox: what may be sent, what waits, what comes back.

mod support;

use chat_core::frame::FrameKind;
use chat_core::{Config, ContentType, Event, Message, Role, SendError, State};

use support::chunk::{begin, data, every_extension, negotiated, noise, said};
use support::{Pair, START, Solo, frame, kinds, no_timers, whole};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// An established client whose outbox holds `bytes`.
fn with_outbox(bytes: usize) -> Solo {
    Solo::established(Role::Client, no_timers().max_outbox(bytes))
}

/// Queues small messages until one does not fit; returns how many did, and the one that did not.
fn fill(solo: &mut Solo) -> (usize, Message) {
    for n in 0.. {
        let message = Message::text(format!("message {n}"));
        match solo.connection.send(solo.now, message.clone()) {
            Ok(()) => {}
            Err(SendError::Full(back)) => {
                assert_eq!(back, message);
                return (n, back);
            }
            Err(other) => panic!("{other}"),
        }
    }
    unreachable!("an outbox is finite")
}

#[test]
fn a_full_outbox_hands_the_message_back_and_the_connection_goes_on() {
    for role in ROLES {
        let mut pair = Pair::established(no_timers().max_outbox(5_000));
        let mut sent = Vec::new();
        let mut refused = 0;
        for n in 0..100 {
            let mut message = Message::text(format!("{n}"));
            sent.push(message.clone());
            while let Err(error) = pair.send(role, message) {
                assert!(matches!(error, SendError::Full(_)), "{error}");
                message = error.into_message();
                refused += 1;
                pair.turn();
            }
        }
        pair.settle();
        assert!(refused > 3, "it was never full");
        assert!(pair.peer(role).messages().eq(&sent), "{role:?}");
        assert_eq!(pair.end(role).connection.state(), State::Established);
        assert_eq!(pair.end(role).connection.outbox_bytes(), 0);
    }
}

#[test]
fn an_outbox_holds_as_much_as_it_is_allowed() {
    for cap in [1_088, 2_176, 10_000, 100_000] {
        let mut solo = with_outbox(cap);
        let (queued, _) = fill(&mut solo);
        let used = solo.connection.outbox_bytes();
        // One more frame of 1,024 bytes would have been too much.
        assert!(used <= cap, "{used} of {cap}");
        assert!(used + 1_024 + 64 > cap, "{used} of {cap}");
        assert_eq!(kinds(&solo.sent()), vec![FrameKind::Message; queued]);
        assert_eq!(solo.connection.outbox_bytes(), 0);
    }
}

#[test]
fn an_empty_outbox_takes_a_frame_of_any_size() {
    for cap in [0, 1, 1_000] {
        let mut solo = with_outbox(cap);
        for _ in 0..3 {
            solo.send(Message::binary(vec![7; 1_000_000]));
            let next = solo.connection.send(START, Message::text("next"));
            assert!(matches!(next, Err(SendError::Full(_))));
            assert_eq!(kinds(&solo.sent()), [FrameKind::Message]);
        }
    }
}

#[test]
fn the_largest_message_goes_through_the_smallest_outbox() {
    let mut pair = Pair::established(no_timers().max_outbox(1).max_inbox(1));
    let message = Message::binary(vec![7; 10_485_760]);
    assert_eq!(pair.send(Role::Server, message.clone()), Ok(()));
    pair.settle();
    assert!(pair.client.messages().eq([&message]));
}

#[test]
fn room_comes_with_each_byte_that_leaves() {
    let mut solo = with_outbox(10_000);
    let (_, mut waiting) = fill(&mut solo);
    let mut taken = 0;
    while let Err(error) = solo.connection.send(START, waiting) {
        waiting = error.into_message();
        let before = solo.connection.outbox_bytes();
        taken += solo.take(1).len();
        assert!(solo.connection.outbox_bytes() < before);
        assert!(taken <= 1_024, "no room after a whole frame");
    }
    assert!(taken > 0);
    assert!(solo.connection.outbox_bytes() <= 10_000);
}

#[test]
fn an_echo_with_the_smallest_outbox_is_not_stuck() {
    let mut pair = Pair::established(no_timers().max_outbox(1).max_inbox(1));
    pair.server.polls = false;
    let sent: Vec<Message> = (0..50).map(|n| Message::text(format!("{n}"))).collect();
    let mut next = sent.iter();
    let mut waiting = next.next();
    // Each round moves at least one frame one step.
    for _ in 0..3 * sent.len() {
        if let Some(message) = waiting
            && pair.send(Role::Client, message.clone()).is_ok()
        {
            waiting = next.next();
        }
        // The echo takes a message only when it can send it back.
        if pair.server.connection.outbox_bytes() == 0
            && let Some(Event::Message(message)) = pair.server.connection.poll_event()
        {
            assert_eq!(pair.send(Role::Server, message), Ok(()));
        }
        pair.turn();
    }
    assert!(pair.client.messages().eq(&sent));
}

#[test]
fn an_error_report_that_does_not_fit_is_dropped() {
    let mut solo = with_outbox(10_000);
    let (queued, _) = fill(&mut solo);
    let used = solo.connection.outbox_bytes();
    for _ in 0..100 {
        solo.connection.send_error(START, "one more");
    }
    assert_eq!(solo.connection.outbox_bytes(), used);
    assert_eq!(kinds(&solo.sent()), vec![FrameKind::Message; queued]);
}

#[test]
fn a_goodbye_fits_into_a_full_outbox() {
    let mut solo = with_outbox(10_000);
    let (queued, _) = fill(&mut solo);
    solo.connection.close(START, "enough");
    let sent = kinds(&solo.sent());
    assert_eq!(sent.len(), queued + 1);
    assert_eq!(sent.last(), Some(&FrameKind::Disconnect));
}

#[test]
fn an_empty_message_is_handed_back() {
    for role in ROLES {
        let mut solo = Solo::established(role, Config::default());
        for empty in [
            Message::text(""),
            Message::new("", "content"),
            Message::new("", ""),
        ] {
            let result = solo.connection.send(START, empty.clone());
            assert_eq!(result, Err(SendError::Empty(empty)));
        }
        assert_eq!(solo.sent(), []);
    }
}

#[test]
fn a_content_at_the_limit_is_sent_and_one_over_is_handed_back() {
    for max in [1, 1_000, 100_000, 10_485_760] {
        let config = no_timers().max_content(max);
        let mut solo = Solo::established(Role::Client, config);
        let at = Message::binary(vec![7; max as usize]);
        solo.send(at.clone());
        assert_eq!(solo.sent()[0].content, at.content());
        let over = Message::binary(vec![7; max as usize + 1]);
        let result = solo.connection.send(START, over.clone());
        assert!(result == Err(SendError::TooLarge(over)), "{max}");
        assert_eq!(solo.sent(), []);
    }
}

#[test]
fn no_setting_goes_above_the_limit_of_the_protocol() {
    let mut solo = Solo::established(Role::Client, no_timers().max_content(u32::MAX));
    let over = Message::binary(vec![7; 10_485_761]);
    let result = solo.connection.send(START, over);
    assert!(matches!(result, Err(SendError::TooLarge(_))));
}

#[test]
fn a_message_that_never_fits_is_refused_as_such_though_the_outbox_is_full() {
    let mut solo = Solo::established(Role::Client, no_timers().max_content(5_000).max_outbox(1));
    solo.send(Message::text("first"));
    let over = Message::binary(vec![7; 5_001]);
    let result = solo.connection.send(START, over.clone());
    assert_eq!(result, Err(SendError::TooLarge(over)));
    let empty = solo.connection.send(START, Message::text(""));
    assert_eq!(empty, Err(SendError::Empty(Message::text(""))));
}

#[test]
fn a_content_type_that_no_header_has_room_for_is_handed_back() {
    let mut solo = Solo::established(Role::Client, Config::default());
    let endless = Message::new("x".repeat(70_000), "content");
    let result = solo.connection.send(START, endless.clone());
    assert_eq!(result, Err(SendError::TooLarge(endless)));
    // However it is escaped.
    for wide in ["x", "\0", "\u{e9}", "\u{20ac}", "\u{1f30d}"] {
        let long = wide.repeat(8_192 / wide.len());
        let message = Message::new(long.clone(), "content");
        solo.send(message);
        let [sent] = &solo.sent()[..] else {
            panic!("not one frame");
        };
        assert_eq!(sent.content_type, ContentType::from(long));
    }
}

#[test]
fn a_refused_message_changes_nothing() {
    let mut solo = with_outbox(5_000);
    let (queued, refused) = fill(&mut solo);
    let (stats, used) = (solo.connection.stats(), solo.connection.outbox_bytes());
    for _ in 0..10 {
        let result = solo.connection.send(START, refused.clone());
        assert!(matches!(result, Err(SendError::Full(_))));
    }
    assert_eq!(solo.connection.stats(), stats);
    assert_eq!(solo.connection.outbox_bytes(), used);
    assert_eq!(solo.sent().len(), queued);
}

/// Pings arrive, and nothing is read.
fn flood(solo: &mut Solo, pings: usize) {
    for _ in 0..pings {
        solo.feed(&frame(FrameKind::Heartbeat, "ping"));
    }
}

#[test]
fn each_ping_is_answered_as_long_as_the_peer_reads() {
    for role in ROLES {
        let mut solo = Solo::established(role, no_timers());
        for _ in 0..100 {
            flood(&mut solo, 1);
            assert_eq!(solo.sent(), [frame(FrameKind::Heartbeat, "pong")]);
        }
        flood(&mut solo, 16);
        assert_eq!(solo.sent(), vec![frame(FrameKind::Heartbeat, "pong"); 16]);
    }
}

#[test]
fn a_flood_of_pings_is_answered_within_bounds() {
    for role in ROLES {
        let mut solo = Solo::established(role, no_timers());
        solo.send(Message::text("begun"));
        let mut bytes = solo.take(1);
        flood(&mut solo, 16);
        let used = solo.connection.outbox_bytes();
        flood(&mut solo, 10_000);
        assert_eq!(solo.connection.outbox_bytes(), used);
        bytes.extend(solo.sent_bytes().concat());
        assert_eq!(
            whole(&bytes).frames[1..],
            vec![frame(FrameKind::Heartbeat, "pong"); 16]
        );
        flood(&mut solo, 1);
        assert_eq!(solo.sent().len(), 1, "it reads again");
    }
}

#[test]
fn answers_about_transfers_wait_within_bounds_and_none_is_lost() {
    let config = no_timers().max_transfers(100);
    let mut solo = negotiated(Role::Client, config, every_extension());
    solo.send(Message::text("begun"));
    let mut bytes = solo.take(1);
    let mut used = vec![solo.connection.outbox_bytes()];
    for n in 1..=40 {
        // Not at its beginning: it is given up.
        solo.feed_all(&[begin(2 * n, None), data(2 * n, 1, "x")]);
        used.push(solo.connection.outbox_bytes());
    }
    assert!(used[..=16].is_sorted_by(|a, b| a < b), "{used:?}");
    assert!(used[16..].iter().all(|it| *it == used[16]), "{used:?}");
    bytes.extend(solo.sent_bytes().concat());
    let answers = &whole(&bytes).frames[1..];
    let ids: Vec<u64> = answers.iter().map(|answer| said(answer).0).collect();
    assert!(ids.into_iter().eq((1..=40).map(|n| 2 * n)));
}

#[test]
fn a_ping_of_our_own_takes_no_answer_s_place() {
    let mut solo = Solo::established(Role::Client, Config::default());
    solo.send(Message::text("begun"));
    let mut bytes = solo.take(1);
    solo.wait(support::secs(5));
    flood(&mut solo, 20);
    bytes.extend(solo.sent_bytes().concat());
    let sent = whole(&bytes).frames;
    let of = |content: &str| {
        let frame = frame(FrameKind::Heartbeat, content.to_owned());
        sent.iter().filter(|sent| **sent == frame).count()
    };
    assert_eq!((of("ping"), of("pong")), (1, 16));
}

#[test]
fn only_a_ping_is_answered() {
    for role in ROLES {
        for content in ["pong", "Ping", "PING", "ping ", "ping\0", "p", "pingping"] {
            let mut solo = Solo::established(role, no_timers());
            solo.feed(&frame(FrameKind::Heartbeat, content));
            assert_eq!(solo.sent(), [], "{content:?}");
            assert_eq!(solo.events(), []);
        }
    }
}

#[test]
fn answers_beside_a_long_message_of_which_some_has_left_keep_their_order() {
    let mut extensions = every_extension();
    extensions.chunk = None;
    for role in ROLES {
        // What is left then is about as much as may have its place: there is room for one answer, or for
        // none, and the next finds what did not have any.
        for taken in (25_000..29_000).step_by(7) {
            let config = no_timers().sec(false).chunks(false);
            let mut solo = negotiated(role, config, extensions);
            solo.sent_bytes();
            let long = noise(100_000, 1);
            solo.send(Message::binary(long.clone()));
            let ping = frame(FrameKind::Heartbeat, "ping");
            solo.feed(&ping);
            let mut stream = solo.take(taken);
            for _ in 0..3 {
                solo.feed(&ping);
            }
            solo.send(Message::text("short"));
            stream.extend(solo.sent_bytes().concat());
            let frames = whole(&stream).frames;
            let expected = [
                FrameKind::Message,
                FrameKind::Heartbeat,
                FrameKind::Heartbeat,
                FrameKind::Heartbeat,
                FrameKind::Heartbeat,
                FrameKind::Message,
            ];
            assert_eq!(kinds(&frames), expected, "{role:?}, {taken}");
            assert!(frames[0].content == long && frames[5].content == "short");
        }
    }
}

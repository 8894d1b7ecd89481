//! Frames without padding, several at a time, to a peer that takes them (PROTOCOL.md §4.6, §6).

mod support;

use chat_core::frame::{Extensions, Frame, FrameKind};
use chat_core::{Config, ContentType, Message, Role, State};

use support::chunk::{bytes_of, every_extension, negotiated};
use support::{Pair, START, Solo, encode, frame, kinds, no_timers, secs, whole};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn coalesce_only() -> Extensions {
    let mut extensions = Extensions::default();
    extensions.coalesce = true;
    extensions
}

/// An end whose peer takes any number of frames.
fn coalescing(role: Role) -> Solo {
    negotiated(role, no_timers(), coalesce_only())
}

/// All the bytes that so many slices show.
fn shown(solo: &Solo, slices: usize) -> Vec<u8> {
    let mut parts = vec![&[][..]; slices];
    let count = solo.connection.poll_transmit(&mut parts);
    assert!(parts[..count].iter().all(|part| !part.is_empty()));
    parts[..count].concat()
}

/// Small messages, and some whose content is a slice of its own.
fn messages() -> Vec<Message> {
    let lens = [5, 1, 4_096, 4_097, 6_000, 3];
    let message =
        |(n, len): (u8, &usize)| Message::text(char::from(b'a' + n).to_string().repeat(*len));
    (0..).zip(&lens).map(message).collect()
}

fn frames(messages: &[Message]) -> Vec<Frame> {
    let frame = |message: &Message| frame(FrameKind::Message, message.content().clone());
    messages.iter().map(frame).collect()
}

#[test]
fn nothing_is_padded_once_it_was_agreed_on() {
    for role in ROLES {
        let mut solo = coalescing(role);
        solo.send(Message::text("hello"));
        solo.connection.send_error(START, "an error");
        solo.feed(&frame(FrameKind::Heartbeat, "ping"));
        solo.connection.close(START, "enough");
        let sent = solo.sent_bytes().concat();
        let goodbye = r#"{"message": "Disconnecting", "reason": "enough"}"#;
        let expected = [
            // The first was in place before the answer to the ping.
            frame(FrameKind::Message, "hello"),
            frame(FrameKind::Heartbeat, "pong"),
            frame(FrameKind::Error, "an error"),
            frame(FrameKind::Disconnect, goodbye),
        ];
        assert_eq!(sent, bytes_of(&expected));
    }
}

#[test]
fn the_answer_to_an_offer_makes_use_of_it() {
    let mut client = Solo::new(Role::Client, no_timers());
    client.feed(&support::chunk::greeting(Role::Client, coalesce_only()));
    let expected = support::chunk::greeting(Role::Server, coalesce_only());
    // It may also send at once, in the same call.
    client.send(Message::text("hello"));
    let hello = frame(FrameKind::Message, "hello");
    assert_eq!(shown(&client, 8), bytes_of(&[expected, hello]));
}

#[test]
fn the_offer_stands_alone() {
    let mut server = Solo::new(Role::Server, no_timers());
    assert_eq!(whole(&shown(&server, 8)).frames.len(), 1);
    let refused = server.connection.send(START, Message::text("early"));
    assert!(refused.is_err());
    assert_eq!(kinds(&server.sent()), [FrameKind::SessionInit]);
}

#[test]
fn each_slice_shows_more() {
    for role in ROLES {
        let mut solo = coalescing(role);
        for message in messages() {
            solo.send(message);
        }
        let all = bytes_of(&frames(&messages()));
        let mut before = 0;
        for slices in 1..=5 {
            let bytes = shown(&solo, slices);
            assert!(bytes.len() > before, "{slices}");
            assert!(all.starts_with(&bytes));
            before = bytes.len();
        }
        // Two contents are too large to be copied behind their headers.
        assert_eq!(before, all.len(), "six frames are five slices");
        assert_eq!(shown(&solo, 64), all);
        assert_eq!(solo.connection.poll_transmit(&mut []), 0);
    }
}

#[test]
fn any_part_of_what_is_shown_can_be_taken() {
    for role in ROLES {
        let sent = messages();
        let all = bytes_of(&frames(&sent));
        // Every byte of the small frames and of all borders, and some within the large ones.
        for taken in
            (1..=all.len()).filter(|at| *at < 1_000 || at % 97 == 0 || all.len() - at < 600)
        {
            let mut solo = coalescing(role);
            for message in &sent {
                solo.send(message.clone());
            }
            assert_eq!(shown(&solo, 8).len(), all.len());
            let before = solo.connection.outbox_bytes();
            solo.connection.consume_transmit(START, taken);
            assert!(solo.connection.outbox_bytes() <= before - taken);
            let done = whole(&all[..taken]).frames.len() as u64;
            assert_eq!(solo.connection.stats().messages_sent, done, "{taken}");
            assert_eq!(shown(&solo, 8), all[taken..], "{taken}");
            solo.connection.consume_transmit(START, all.len() - taken);
            assert_eq!(solo.connection.outbox_bytes(), 0);
            assert_eq!(solo.connection.stats().messages_sent, 6);
        }
    }
}

#[test]
#[should_panic(expected = "more bytes consumed than were shown")]
fn more_than_was_shown_cannot_be_taken() {
    let mut solo = coalescing(Role::Client);
    solo.send(Message::text("hello"));
    let len = shown(&solo, 8).len();
    solo.connection.consume_transmit(START, len + 1);
}

#[test]
fn an_answer_goes_next_wherever_the_transport_stopped() {
    let queued = frames(&messages()[..3]);
    let pong = frame(FrameKind::Heartbeat, "pong");
    let borders: Vec<usize> = (0..=3).map(|n| bytes_of(&queued[..n]).len()).collect();
    for taken in
        (0..borders[3]).filter(|at| *at < 800 || borders.iter().any(|to| to.abs_diff(*at) < 5))
    {
        let mut solo = coalescing(Role::Client);
        for message in &messages()[..3] {
            solo.send(message.clone());
        }
        assert_eq!(shown(&solo, 8), bytes_of(&queued));
        solo.connection.consume_transmit(START, taken);
        solo.feed(&frame(FrameKind::Heartbeat, "ping"));
        // The frame that is being sent, or is the next to be, comes first.
        let place = borders
            .iter()
            .rposition(|border| *border <= taken)
            .expect("0 is one")
            + 1;
        let mut expected = queued.clone();
        expected.insert(place, pong.clone());
        assert_eq!(shown(&solo, 16), bytes_of(&expected)[taken..], "{taken}");
    }
}

#[test]
fn a_ping_goes_before_what_is_queued() {
    let config = no_timers().heartbeat(Some(secs(5)));
    let mut solo = negotiated(Role::Client, config, coalesce_only());
    for n in 0..10 {
        solo.send(Message::text(format!("{n}")));
    }
    solo.take(1);
    solo.wait(secs(5));
    let mut bytes = vec![0x89];
    bytes.extend(solo.sent_bytes().concat());
    let kinds = kinds(&whole(&bytes).frames);
    assert_eq!(
        kinds[..3],
        [FrameKind::Message, FrameKind::Heartbeat, FrameKind::Message]
    );
}

#[test]
fn others_get_one_padded_frame_for_each_call() {
    for peer in [Extensions::default(), {
        let mut all = every_extension();
        all.coalesce = false;
        all
    }] {
        for role in ROLES {
            let mut solo = negotiated(role, no_timers(), peer);
            let chunked = Message::new("image/png", vec![7; 100_000]);
            solo.send(chunked.clone());
            for message in messages() {
                solo.send(message);
            }
            while !solo.shown().is_empty() {
                let bytes = shown(&solo, 64);
                let decoded = whole(&bytes);
                assert_eq!((decoded.frames.len(), decoded.end), (1, Ok(0)));
                assert!(bytes.len() >= 1024, "{}", bytes.len());
                solo.take(usize::MAX);
            }
        }
    }
}

#[test]
fn both_ends_must_want_it() {
    let with = |yes| Config::default().coalesce(yes);
    for (client, server) in [(false, true), (true, false), (false, false)] {
        let mut pair = Pair::with(with(client), with(server));
        pair.settle();
        for role in ROLES {
            pair.link(role).sent.clear();
            for n in 0..3 {
                assert_eq!(pair.send(role, Message::text(format!("{n}"))), Ok(()));
            }
            pair.settle();
            assert!(pair.link(role).sent.iter().all(|sent| sent.len == 1024));
            assert_eq!(pair.peer(role).messages().count(), 3);
        }
    }
}

#[test]
fn a_receiver_takes_frames_however_they_are_joined() {
    let frames: Vec<Frame> = (0..20)
        .map(|n| frame(FrameKind::Message, format!("{n}")))
        .collect();
    let bytes = bytes_of(&frames);
    for role in ROLES {
        for len in [1, 7, 64, 1_000, bytes.len()] {
            let mut solo = coalescing(role);
            for piece in bytes.chunks(len) {
                solo.feed_bytes(piece);
            }
            assert_eq!(solo.events().len(), 20, "{len}");
            assert_eq!(solo.connection.state(), State::Established);
        }
    }
}

#[test]
fn messages_between_two_of_these_are_as_short_as_they_can_be() {
    let mut pair = Pair::established(no_timers());
    assert_eq!(
        pair.send(Role::Client, Message::new(ContentType::TEXT, "a")),
        Ok(())
    );
    pair.settle();
    let [sent] = &pair.up.sent[..] else {
        panic!("not one frame");
    };
    assert_eq!(sent.len, encode(&frame(FrameKind::Message, "a")).len());
}

//! Recorded conversations that arrive in other pieces: what is reported and what is sent is the same
//! (PROTOCOL.md §1: a stream may be cut anywhere).

mod support;

use chat_core::frame::FrameKind;
use chat_core::{CloseReason, Event, Role};

use support::conversation::{Conversation, ROLES, Set, Side};
use support::sec::{Keys, frames_of, hello};
use support::{SESSION, Solo, encode, raw_frame, raw_len, sign_again};

/// Which end says goodbye: of half of the sets the client.
fn closer(set: Set) -> Role {
    ROLES[set as usize % 2]
}

/// The kinds of the frames of a stream, whatever key they are signed with.
fn kinds_of(stream: &[u8]) -> Vec<FrameKind> {
    let kinds = frames_of(stream).into_iter().map(|mut raw| {
        sign_again(&mut raw);
        support::whole(&raw).frames[0].kind
    });
    kinds.collect()
}

/// Without this the recordings would prove nothing.
#[test]
fn every_conversation_has_some_of_everything() {
    for set in Set::ALL {
        let talk = Conversation::record(set, closer(set));
        for role in ROLES {
            let side = talk.side(role);
            let events = &side.outcome.events;
            let count = |of: fn(&Event) -> bool| events.iter().filter(|it| of(it)).count();
            let messages = 2 + usize::from(set.has_chunks());
            let got = count(|it| matches!(it, Event::Message(_)));
            assert_eq!(got, messages, "{set:?}, {role:?}: {events:?}");
            assert_eq!(count(|it| matches!(it, Event::Error(_))), 1);
            assert!(matches!(events[0], Event::Established { session } if session == SESSION));
            let heard = matches!(
                events.last(),
                Some(Event::Closed(CloseReason::Peer { reason })) if &**reason == "enough"
            );
            assert_eq!(heard, role != closer(set), "{set:?}, {role:?}: {events:?}");

            let kinds = kinds_of(&side.stream);
            let count = |kind| kinds.iter().filter(|it| **it == kind).count();
            // A `ping` and a `pong`.
            assert_eq!(count(FrameKind::Heartbeat), 2, "{set:?}, {role:?}");
            // `begin`, `data`, `end`, and `done` of the other's; `begin`, `data` twice, `abort`.
            let chunks = if set.has_chunks() { 8 } else { 0 };
            assert_eq!(count(FrameKind::Chunk), chunks, "{set:?}, {role:?}");
            let total = side.stream.len();
            println!("{set:?}, {role:?}: {} frames, {total} bytes", kinds.len());
        }
    }
}

/// Every place where the stream can be cut in two, each time with and without looking at what the
/// connection has to say between the two; and byte by byte. Returns how many cuts.
fn every_split(side: &Side) -> usize {
    let at = (side.set, side.role);
    let bytewise: Vec<usize> = (0..side.stream.len()).collect();
    for polls in [false, true] {
        let whole = side.play(&side.stream, &[], polls).outcome;
        assert!(whole == side.outcome, "{at:?}: not even in one piece");
        let outcome = side.play(&side.stream, &bytewise, polls).outcome;
        assert!(outcome == side.outcome, "{at:?}: byte by byte");
    }
    let mut cuts = 0;
    for place in side.places() {
        for polls in [false, true] {
            let outcome = side.play(&side.stream, &[place], polls).outcome;
            assert!(outcome == side.outcome, "{at:?}: cut at {place}, {polls}");
        }
        cuts += 1;
    }
    cuts
}

/// Both ends of a set; at least so many cuts at each.
fn splits_of(set: Set, least: usize) {
    let talk = Conversation::record(set, closer(set));
    for role in ROLES {
        let side = talk.side(role);
        let cuts = every_split(side);
        println!("{set:?}, {role:?}: {cuts} cuts of {}", side.stream.len());
        assert!(cuts >= least, "{set:?}, {role:?}: {cuts}");
    }
}

#[test]
fn version_1_cut_anywhere_is_the_same() {
    splits_of(Set::Version1, 1_100);
    splits_of(Set::SharedKey, 1_100);
}

#[test]
fn limits_or_coalesce_alone_cut_anywhere_is_the_same() {
    splits_of(Set::Limits, 1_100);
    splits_of(Set::Coalesce, 1_100);
}

#[test]
fn ping_alone_cut_anywhere_is_the_same() {
    splits_of(Set::Ping, 1_100);
}

#[test]
fn chunk_alone_cut_anywhere_is_the_same() {
    splits_of(Set::Chunk, 2_500);
}

#[test]
fn sec_alone_or_without_chunk_cut_anywhere_is_the_same() {
    splits_of(Set::Sec, 1_100);
    splits_of(Set::AllButChunk, 1_100);
}

#[test]
fn everything_but_sec_cut_anywhere_is_the_same() {
    splits_of(Set::AllButSec, 2_500);
}

#[test]
fn everything_cut_anywhere_is_the_same() {
    splits_of(Set::All, 2_500);
}

#[test]
fn sec_alone_or_everything_on_a_trusted_channel_cut_anywhere_is_the_same() {
    splits_of(Set::SecTrust, 1_100);
    splits_of(Set::AllTrust, 2_500);
}

/// A greeting, a message and a goodbye in version 1, as short as they can be written.
fn short(to: Role) -> Vec<u8> {
    let greeting = match to {
        Role::Client => "session_init",
        Role::Server => "session_ack",
    };
    let frames = [(greeting, "x"), ("message", "hi"), ("disconnect", "{}")];
    let frames = frames.map(|(kind, content)| {
        let json =
            format!("{{\"type\":\"{kind}\",\"content_type\":\"a\",\"session_id\":\"{SESSION}\"}}");
        raw_frame(json.as_bytes(), content.as_bytes())
    });
    frames.concat()
}

/// What comes of a short conversation that arrives in these pieces.
fn outcome_of(to: Role, config: &chat_core::Config, pieces: &[&[u8]]) -> (Vec<Event>, usize) {
    let mut solo = Solo::new(to, config.clone());
    solo.sent_bytes();
    for piece in pieces {
        solo.feed_bytes(piece);
    }
    (solo.events(), solo.sent_bytes().len())
}

fn every_pair_of_splits(to: Role) {
    let stream = short(to);
    assert!(stream.len() < 1_000, "{}", stream.len());
    let config = support::no_timers().version_1();
    let whole = outcome_of(to, &config, &[&stream]);
    assert_eq!(whole.0.len(), 3, "{:?}", whole.0);
    let mut pairs = 0_u32;
    for second in 0..=stream.len() {
        let (start, end) = stream.split_at(second);
        for first in 0..=second {
            let (start, middle) = start.split_at(first);
            let outcome = outcome_of(to, &config, &[start, middle, end]);
            assert!(outcome == whole, "{first} and {second}: {outcome:?}");
            pairs += 1;
        }
    }
    println!("{to:?}: {pairs} pairs in {} bytes", stream.len());
    assert!(pairs > 90_000, "{pairs}");
}

#[test]
fn a_short_conversation_cut_anywhere_twice_is_the_same_for_a_client() {
    every_pair_of_splits(Role::Client);
}

#[test]
fn a_short_conversation_cut_anywhere_twice_is_the_same_for_a_server() {
    every_pair_of_splits(Role::Server);
}

/// The same with `sec`, where the handshake is read in another way: the first cut anywhere, the second
/// in every sixteenth place behind it, each time in others.
#[test]
fn a_short_conversation_with_sec_cut_twice_is_the_same() {
    let config = support::no_timers()
        .coalesce(false)
        .ping_timeout(None)
        .chunks(false);
    let key = chat_core::Key::default();
    let mut pairs = 0_u32;
    for to in ROLES {
        let mut twin = Solo::new(to, config.clone());
        let greeting = encode(&hello(to, chat_core::frame::Extensions::default(), &key));
        let (init, ack) = match to {
            Role::Client => {
                twin.feed_bytes(&greeting);
                (greeting.clone(), twin.sent_bytes().concat())
            }
            Role::Server => (twin.sent_bytes().concat(), greeting.clone()),
        };
        let keys = Keys::new(chat_core::Key::DEFAULT_BYTES, &init, &ack, b"");
        let mut stream = Vec::new();
        let mut mine = match to {
            Role::Client => {
                stream.extend(greeting);
                keys.server
            }
            Role::Server => keys.client,
        };
        let mut rest = &short(Role::Server)[..];
        if to == Role::Server {
            stream.extend(mine.sign(ack));
            rest = &rest[raw_len(rest).expect("it is whole")..];
        }
        for frame in frames_of(rest) {
            stream.extend(mine.sign(frame));
        }
        let whole = outcome_of(to, &config, &[&stream]);
        assert_eq!(whole.0.len(), 3, "{:?}", whole.0);
        for first in 0..=stream.len() {
            let (start, rest) = stream.split_at(first);
            for second in (first % 16..=rest.len()).step_by(16) {
                let (middle, end) = rest.split_at(second);
                let outcome = outcome_of(to, &config, &[start, middle, end]);
                assert!(outcome == whole, "{first} and {second}: {outcome:?}");
                pairs += 1;
            }
        }
    }
    println!("{pairs} pairs");
    assert!(pairs > 15_000, "{pairs}");
}

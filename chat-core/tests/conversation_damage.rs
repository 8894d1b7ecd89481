//! Recorded conversations that are cut off, or of which one bit is another: what is reported is what
//! had come whole, and then the end with its true reason.
//!
//! There is no bit that version 1 cannot notice. Its fixed header is not signed (PROTOCOL.md §2.1), but
//! each of its fields is compared with a constant, a limit or what is signed; a length that says more
//! than there is makes a frame that is never whole, and so the stream ends inside of it. With `sec`, one
//! set of bits is noticed later than in its own frame: those of a `session_init` whose code may be that
//! of a key that the client does not hold (§4.7). On a trusted channel the checksums are left, and the
//! zeros where the code would be: they notice each bit too, if it is the only one (§4.8).

mod support;

use chat_core::frame::FrameError;
use chat_core::{CloseReason, Event, Message, ProtocolError, Role, State};

use support::conversation::{Conversation, Player, ROLES, Set, Side};
use support::secs;

/// Which end says goodbye: of half of the sets the client.
fn closer(set: Set) -> Role {
    ROLES[set as usize % 2]
}

/// What was reported, without its one end, which is the last, and why it ended.
#[track_caller]
fn without_end(player: &Player) -> (&[Event], &CloseReason) {
    let events = &player.outcome.events;
    let is_end = |event: &&Event| matches!(event, Event::Closed(_));
    assert_eq!(events.iter().filter(is_end).count(), 1, "{events:?}");
    match events.split_last() {
        Some((Event::Closed(reason), before)) => (before, reason),
        _ => panic!("events after the end: {events:?}"),
    }
}

/// A connection that is over does nothing any more, whatever happens to it.
#[track_caller]
fn is_silent(player: &mut Player) {
    let solo = &mut player.solo;
    assert_eq!(solo.connection.state(), State::Closed);
    let later = solo.now + secs(1_000);
    for _ in 0..2 {
        assert_eq!(solo.shown(), b"");
        assert_eq!(solo.connection.poll_event(), None);
        assert_eq!(solo.connection.poll_timeout(), None);
        assert!(solo.connection.is_write_finished() && !solo.connection.wants_input());
        solo.connection.handle_eof(later);
        solo.connection.handle_timeout(later);
        solo.feed_bytes(b"anything");
        solo.connection.handle_transport_error(later, "reset");
        assert!(solo.connection.send(later, Message::text("late")).is_err());
        solo.connection.close(later, "late");
    }
}

/// The stream ends after each of its bytes. Returns how often.
fn every_end(side: &Side) -> usize {
    let mut ends = 0;
    for len in side.places().chain([side.stream.len()]) {
        let at = format!("{:?}, {:?}: {len} bytes", side.set, side.role);
        let cut = side.play(&side.stream[..len], &[], false);
        let is_over = cut.solo.connection.is_closed();
        let before = cut.solo.connection.state();
        let mut player = cut.end();
        let frames = side.whole_frames(len);
        let mid_frame = len > 0 && side.borders[..frames].last() != Some(&len);
        let (events, reason) = without_end(&player);
        let (mut expected, notices) = side.after[frames].clone();
        let told = match expected.last() {
            Some(Event::Closed(reason)) => Some(reason.clone()),
            _ => None,
        };
        if told.is_some() {
            expected.pop();
        }
        assert_eq!(is_over, told.is_some(), "{at}");
        assert_eq!(events, expected, "{at}");
        assert_eq!(player.outcome.notices, notices, "{at}");
        let plausible = match before {
            State::Closed => told.is_some_and(|told| told == *reason),
            State::AwaitProof => *reason == CloseReason::Unproven,
            State::Closing => matches!(reason, CloseReason::Local { .. }),
            _ => *reason == CloseReason::Eof { mid_frame },
        };
        assert!(plausible, "{at}: {before:?}, {reason}");
        is_silent(&mut player);
        ends += 1;
    }
    ends
}

/// Both ends of each set, with a goodbye of either: at least so many ends of each stream.
fn ends_of(sets: &[Set], least: usize) {
    for set in sets {
        for by in ROLES {
            let talk = Conversation::record(*set, by);
            for role in ROLES {
                let ends = every_end(talk.side(role));
                println!("{set:?} closed by {by:?}, {role:?}: {ends} ends");
                assert!(ends >= least, "{set:?}, {role:?}: {ends}");
            }
        }
    }
}

#[test]
fn version_1_cut_off_anywhere_ends_with_the_true_reason() {
    ends_of(&[Set::Version1, Set::SharedKey], 1_100);
}

#[test]
fn each_extension_alone_cut_off_anywhere_ends_with_the_true_reason() {
    ends_of(&[Set::Limits, Set::Coalesce, Set::Ping, Set::Sec], 1_100);
}

#[test]
fn pieces_cut_off_anywhere_are_no_message() {
    ends_of(&[Set::Chunk, Set::AllButSec], 2_500);
}

#[test]
fn sec_with_and_without_pieces_cut_off_anywhere_ends_with_the_true_reason() {
    ends_of(&[Set::AllButChunk], 1_100);
    ends_of(&[Set::All], 2_500);
}

#[test]
fn a_trusted_channel_cut_off_anywhere_ends_with_the_true_reason() {
    ends_of(&[Set::SecTrust], 1_100);
    ends_of(&[Set::AllTrust], 2_500);
}

/// Each bit of the stream is flipped, each time in a conversation of its own that goes on to its end.
/// Returns how many.
fn every_flip(side: &Side) -> usize {
    let mut flips = 0;
    let mut stream = side.stream.clone();
    for place in side.places() {
        let frames = side.whole_frames(place);
        let start = frames.checked_sub(1).map_or(0, |last| side.borders[last]);
        let (expected, _) = &side.after[frames];
        for bit in 0..8 {
            stream[place] ^= 1 << bit;
            let player = side.play(&stream, &[], false).end();
            stream[place] ^= 1 << bit;
            let at = format!("{:?}, {:?}: bit {bit} of {place}", side.set, side.role);
            let (events, reason) = without_end(&player);
            assert_eq!(events, expected, "{at}");
            let code = (start + 32..start + 64).contains(&place);
            let length = [12..16, 20..28]
                .iter()
                .any(|it| it.contains(&(place - start)));
            let noticed = match reason {
                CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac)) => true,
                CloseReason::Protocol(_) => !code,
                // A length of more than there is: the frame is never whole, and whoever means to say
                // goodbye has said it by then.
                CloseReason::Eof { mid_frame } => *mid_frame && length,
                CloseReason::Local { .. } => length && side.role == closer(side.set),
                CloseReason::Unproven => side.set.has_sec() && side.role == Role::Client && length,
                _ => false,
            };
            assert!(noticed, "{at}: {reason}");
            flips += 1;
        }
    }
    flips
}

fn flips_of(set: Set, role: Role, least: usize) {
    let talk = Conversation::record(set, closer(set));
    let flips = every_flip(talk.side(role));
    println!("{set:?}, {role:?}: {flips} flips");
    assert!(flips >= least, "{set:?}, {role:?}: {flips}");
}

macro_rules! flips {
    ($($name:ident: $set:ident, $role:ident, $least:literal;)*) => {$(
        #[test]
        fn $name() {
            flips_of(Set::$set, Role::$role, $least);
        }
    )*};
}

flips! {
    a_client_of_version_1_takes_no_flipped_bit: Version1, Client, 10_000;
    a_server_of_version_1_takes_no_flipped_bit: Version1, Server, 9_000;
    a_client_with_a_shared_key_takes_no_flipped_bit: SharedKey, Client, 10_000;
    a_server_with_a_shared_key_takes_no_flipped_bit: SharedKey, Server, 9_000;
    a_client_with_limits_takes_no_flipped_bit: Limits, Client, 10_000;
    a_server_with_limits_takes_no_flipped_bit: Limits, Server, 9_000;
    a_client_with_coalesce_takes_no_flipped_bit: Coalesce, Client, 10_000;
    a_server_with_coalesce_takes_no_flipped_bit: Coalesce, Server, 9_000;
    a_client_with_ping_takes_no_flipped_bit: Ping, Client, 10_000;
    a_server_with_ping_takes_no_flipped_bit: Ping, Server, 9_000;
    a_client_with_pieces_takes_no_flipped_bit: Chunk, Client, 20_000;
    a_server_with_pieces_takes_no_flipped_bit: Chunk, Server, 20_000;
    a_client_with_sec_takes_no_flipped_bit: Sec, Client, 10_000;
    a_server_with_sec_takes_no_flipped_bit: Sec, Server, 9_000;
    a_client_with_all_but_sec_takes_no_flipped_bit: AllButSec, Client, 20_000;
    a_server_with_all_but_sec_takes_no_flipped_bit: AllButSec, Server, 20_000;
    a_client_with_all_but_pieces_takes_no_flipped_bit: AllButChunk, Client, 10_000;
    a_server_with_all_but_pieces_takes_no_flipped_bit: AllButChunk, Server, 9_000;
    a_client_with_everything_takes_no_flipped_bit: All, Client, 20_000;
    a_server_with_everything_takes_no_flipped_bit: All, Server, 20_000;
    a_client_on_a_trusted_channel_takes_no_flipped_bit: SecTrust, Client, 10_000;
    a_server_on_a_trusted_channel_takes_no_flipped_bit: SecTrust, Server, 9_000;
    a_client_with_everything_on_a_trusted_channel_takes_no_flipped_bit: AllTrust, Client, 20_000;
    a_server_with_everything_on_a_trusted_channel_takes_no_flipped_bit: AllTrust, Server, 20_000;
}

//! A session with `sec`, with every bit of it flipped: nothing that was changed on its way is taken
//! (PROTOCOL.md §4.7 and §8).

mod support;

use chat_core::frame::{FrameError, FrameKind};
use chat_core::{CloseReason, Event, ProtocolError, Role, Security, State};

use support::sec::{Keys, frames_of, mend};
use support::tape::{Step, Track, session};
use support::{Solo, header_json, raw_len, whole};

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const MAC: CloseReason = CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac));

/// A session whose end at `role` only listens, and at last hears a goodbye.
fn listener(role: Role) -> Track {
    let tape = session(support::chunk::other(role));
    match role {
        Role::Client => tape.client,
        Role::Server => tape.server,
    }
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 0x80 >> (bit % 8);
    bytes
}

/// Whether an end that ends so has found out.
fn is_detected(reason: &CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Protocol(_) | CloseReason::Eof { mid_frame: true } | CloseReason::Unproven
    )
}

/// The session goes on after a frame that is another one.
#[track_caller]
fn end_with(track: &Track, at: usize, bytes: Vec<u8>) -> CloseReason {
    let changed = Step::Arrives(bytes);
    track.ends_after(at, [&changed].into_iter().chain(&track.steps[at + 1..]))
}

/// Without a change the recording is what it is made of: else no change would prove anything.
#[test]
fn a_recorded_session_is_taken_again() {
    for role in ROLES {
        let track = listener(role);
        let mut player = track.birth.player();
        for (at, step) in track.steps.iter().enumerate() {
            assert_eq!(player.events, track.events_before(at));
            if let Step::Sends(frames) = step {
                let sent = player.solo.sent_bytes().concat();
                assert!(
                    frames_of(&sent) == *frames,
                    "the same entropy, the same bytes"
                );
            }
            player.step(step);
        }
        assert_eq!(player.events, track.events);
        assert_eq!(player.solo.connection.security(), Security::Sec);
        let [
            Event::Established { .. },
            middle @ ..,
            Event::Closed(CloseReason::Peer { .. }),
        ] = &track.events[..]
        else {
            panic!("{:?}", track.events);
        };
        let messages = middle.iter().filter(|it| matches!(it, Event::Message(_)));
        assert_eq!(messages.count(), 3, "{middle:?}");
        assert!(middle.contains(&Event::Error("no such room".to_owned())));
        let kinds: Vec<FrameKind> = track
            .arrivals()
            .into_iter()
            .map(|at| kind(track.arriving(at)))
            .collect();
        let count = |kind| kinds.iter().filter(|it| **it == kind).count();
        assert_eq!(count(FrameKind::Heartbeat), 2, "a ping and a pong");
        // Its own, and the answer to the other end's.
        assert_eq!(count(FrameKind::Chunk), 1 + 3 + 1 + 1);
        assert_eq!(count(FrameKind::Disconnect), 1);
    }
}

fn kind(raw: &[u8]) -> FrameKind {
    let mut raw = raw.to_vec();
    support::sign_again(&mut raw);
    whole(&raw).frames[0].kind
}

/// How many bits were flipped, in a session that is heard by `role`.
fn every_flip(role: Role) -> usize {
    let track = listener(role);
    let mut flips = 0;
    for at in track.arrivals() {
        let frame = track.arriving(at);
        for bit in 0..8 * frame.len() {
            let reason = end_with(&track, at, flipped(frame, bit));
            assert!(is_detected(&reason), "step {at}, bit {bit}: {reason}");
            // A code is right or wrong; that of `session_init` may be that of any key, and is in the
            // transcript: the next frame does not fit to it.
            if (32 * 8..64 * 8).contains(&bit) {
                assert_eq!(reason, MAC, "step {at}, bit {bit}");
            }
            flips += 1;
        }
    }
    flips
}

#[test]
fn a_client_takes_no_stream_with_any_bit_flipped() {
    let flips = every_flip(Role::Client);
    println!("{flips} flips");
    assert!(flips > 20_000, "{flips}");
}

#[test]
fn a_server_takes_no_stream_with_any_bit_flipped() {
    let flips = every_flip(Role::Server);
    println!("{flips} flips");
    assert!(flips > 20_000, "{flips}");
}

/// Who changes a frame can make its checksums right: only the code is left to find it out.
fn every_mended_flip(role: Role) -> usize {
    let track = listener(role);
    let mut flips = 0;
    for at in track.arrivals() {
        let frame = track.arriving(at);
        for bit in 64 * 8..8 * frame.len() {
            let mut changed = flipped(frame, bit);
            mend(&mut changed);
            let reason = end_with(&track, at, changed);
            let plausible = match &reason {
                // The first and the last byte are looked at before the code.
                CloseReason::Protocol(ProtocolError::Frame(FrameError::HeaderJson(_))) => {
                    [64, 63 + header_json(frame).len()].contains(&(bit / 8))
                }
                // Another key than the client's, which says how its code would have to be.
                CloseReason::Protocol(ProtocolError::UnknownKey(_)) => {
                    kind(frame) == FrameKind::SessionAck && role == Role::Server
                }
                reason => *reason == MAC,
            };
            assert!(plausible, "step {at}, bit {bit}: {reason}");
            flips += 1;
        }
    }
    flips
}

#[test]
fn a_client_takes_nothing_whose_checksums_were_mended() {
    let flips = every_mended_flip(Role::Client);
    println!("{flips} flips");
    assert!(flips > 15_000, "{flips}");
}

#[test]
fn a_server_takes_nothing_whose_checksums_were_mended() {
    let flips = every_mended_flip(Role::Server);
    println!("{flips} flips");
    assert!(flips > 15_000, "{flips}");
}

/// Both ends of a handshake live, with a `session_init` that is changed on its way: the client may not
/// notice, for it need not hold the key under which it is signed. Then the server does.
#[test]
fn an_altered_session_init_establishes_nothing_at_either_end() {
    let init = Solo::new(Role::Server, support::no_timers())
        .sent_bytes()
        .concat();
    let mut answered = 0;
    for bit in 0..8 * init.len() {
        for mended in [false, true] {
            let mut changed = flipped(&init, bit);
            if mended && bit >= 64 * 8 {
                mend(&mut changed);
            } else if mended {
                continue;
            }
            let mut server = Solo::new(Role::Server, support::no_timers());
            server.sent_bytes();
            let mut client = Solo::new(Role::Client, support::no_timers());
            client.feed_bytes(&changed);
            let ack = client.sent_bytes().concat();
            server.feed_bytes(&ack);
            assert_eq!(server.sent_bytes(), [[0; 0]; 0], "it says nothing");
            server.connection.handle_eof(server.now);
            client.connection.handle_eof(client.now);
            let reasons = [client.closed(), server.closed()];
            if ack.is_empty() {
                assert!(is_detected(&reasons[0]), "bit {bit}: {}", reasons[0]);
                assert_eq!(reasons[1], CloseReason::Eof { mid_frame: false });
            } else {
                answered += 1;
                assert_eq!(reasons, [CloseReason::Unproven, MAC], "bit {bit}");
            }
        }
    }
    println!("{answered} were for the server to find");
    // Its code at least, and its content, which means nothing.
    assert!(answered >= 8 * (32 + 19), "{answered}");
}

/// Likewise a `session_ack`: what it chooses is what the client chose.
#[test]
fn an_altered_session_ack_establishes_nothing_at_either_end() {
    let mut client = Solo::new(Role::Client, support::no_timers());
    let mut server = Solo::new(Role::Server, support::no_timers());
    client.feed_bytes(&server.sent_bytes().concat());
    let ack = client.sent_bytes().concat();
    for bit in 64 * 8..8 * ack.len() {
        let mut changed = flipped(&ack, bit);
        mend(&mut changed);
        let mut server = Solo::new(Role::Server, support::no_timers());
        server.sent_bytes();
        server.feed_bytes(&changed);
        assert_eq!(server.sent_bytes(), [[0; 0]; 0], "it says nothing");
        assert_eq!(server.connection.security(), Security::Legacy);
        let reason = server.closed();
        assert!(is_detected(&reason), "bit {bit}: {reason}");
    }
    // The client has no proof, and asks for none: it takes none of what it could not have sent.
    assert_eq!(client.connection.state(), State::AwaitProof);
    client.feed_bytes(&ack);
    assert_eq!(client.closed(), MAC);
}

/// The border between header and content, and the one between two frames, moved in every way.
#[test]
fn no_border_can_be_moved() {
    for role in ROLES {
        let track = listener(role);
        for at in track.arrivals() {
            let frame = track.arriving(at);
            let json = header_json(frame).len();
            let body = frame.len() - 64;
            for border in (2..body).filter(|border| *border != json) {
                let mut moved = frame.to_vec();
                let lens = [border as u64, (body - border) as u64].map(u64::to_be_bytes);
                moved[12..16].copy_from_slice(&lens[0][4..]);
                moved[20..28].copy_from_slice(&lens[1]);
                mend(&mut moved);
                let reason = end_with(&track, at, moved);
                assert!(is_detected(&reason), "{role:?}, step {at}: {reason}");
            }
        }
        // Two frames as one, and one as two, where the code of neither is known.
        for pair in track.arrivals().windows(2) {
            let [first, second] = [pair[0], pair[1]].map(|at| track.arriving(at));
            let mut joined = [first, second].concat();
            let content = joined.len() - 64 - header_json(first).len();
            joined[20..28].copy_from_slice(&(content as u64).to_be_bytes());
            mend(&mut joined);
            assert_eq!(raw_len(&joined), Some(joined.len()));
            let reason = end_with(&track, pair[0], joined);
            assert!(is_detected(&reason), "{role:?}, step {}: {reason}", pair[0]);
        }
    }
}

/// The keys are what the document says: the tests of this file are not only about this crate's own
/// idea of them.
#[test]
fn every_frame_of_the_recording_has_the_code_of_its_place() {
    for closer in ROLES {
        let tape = session(closer);
        let [up, down] = [&tape.client, &tape.server].map(Track::sent);
        let mut keys = Keys::new(chat_core::Key::DEFAULT_BYTES, &down[0], &up[0], b"");
        assert_eq!(keys.client.read(&up.concat()).len(), up.len());
        assert_eq!(keys.server.read(&down[1..].concat()).len(), down.len() - 1);
    }
}

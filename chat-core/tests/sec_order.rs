//! Frames of a session with `sec` out of their place: again, too early, too late, in the other
//! direction, in another session, or not at all (PROTOCOL.md §4.7 and §8).

mod support;

use chat_core::frame::{FrameError, FrameKind};
use chat_core::{
    CloseReason, Config, Event, Key, Message, ProtocolError, Role, Security, State, Uuid,
};

use support::chunk::{every_extension, greeting, other};
use support::sec::ByHand;
use support::tape::{Birth, Step, Tape, Track, birth, everything, session};
use support::{FOREIGN, SESSION, START, Solo, encode, frame, kinds, no_timers};

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const MAC: CloseReason = CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac));

/// The end of a session that only listens, and at last hears a goodbye.
fn listener(role: Role) -> Track {
    let tape = session(other(role));
    match role {
        Role::Client => tape.client,
        Role::Server => tape.server,
    }
}

/// A frame that nobody should have taken, for `reason`.
#[track_caller]
fn is_refused(track: &Track, at: usize, reason: &CloseReason) {
    // An `error` to a client that waits for a `session_init`, and in place of it.
    let refusal = CloseReason::Protocol(ProtocolError::UnverifiedRefusal);
    let first = track.arrivals()[0] == at && track.birth.role == Role::Client;
    assert!(*reason == MAC || first && *reason == refusal, "{reason}");
}

#[test]
fn any_frame_left_out_is_noticed_with_the_next() {
    for role in ROLES {
        let track = listener(role);
        let arrivals = track.arrivals();
        for (nth, at) in arrivals.iter().enumerate() {
            let reason = track.ends_after(*at, &track.steps[at + 1..]);
            if nth + 1 < arrivals.len() {
                is_refused(&track, *at, &reason);
            } else {
                // Only the goodbye is missing: it was cut off.
                assert_eq!(reason, CloseReason::Eof { mid_frame: false });
            }
        }
    }
}

#[test]
fn any_frame_that_comes_again_is_refused() {
    for role in ROLES {
        let track = listener(role);
        let arrivals = track.arrivals();
        for again in &arrivals {
            // At once, and at every later place.
            for at in arrivals.iter().filter(|at| *at > again) {
                let steps = [&track.steps[*again]].into_iter();
                let reason = track.ends_after(*at, steps.chain(&track.steps[*at..]));
                is_refused(&track, *at, &reason);
            }
        }
    }
}

#[test]
fn no_two_frames_can_change_places() {
    for role in ROLES {
        let track = listener(role);
        let arrivals = track.arrivals();
        let mut swaps = 0;
        for first in &arrivals {
            for second in arrivals.iter().filter(|second| *second > first) {
                let mut steps = track.steps.clone();
                steps.swap(*first, *second);
                let reason = track.ends_after(*first, &steps[*first..]);
                is_refused(&track, *first, &reason);
                swaps += 1;
            }
        }
        assert!(swaps > 70, "{swaps}");
    }
}

/// At every point, also before it has sent it: as if the keys of both directions were the same.
#[test]
fn no_frame_can_be_sent_back_to_where_it_came_from() {
    for role in ROLES {
        let track = listener(role);
        for mine in track.sent() {
            let reflected = Step::Arrives(mine);
            for at in track.arrivals() {
                // Before the frame that comes, and in place of it.
                for next in [at, at + 1] {
                    let steps = [&reflected].into_iter().chain(&track.steps[next..]);
                    let reason = track.ends_after(at, steps);
                    // Its own `session_init` has a right code, as that of any other connection.
                    let own_init =
                        CloseReason::Protocol(ProtocolError::Unexpected(FrameKind::SessionInit));
                    let begins = role == Role::Server && at == track.arrivals()[0];
                    if !(begins && reason == own_init) {
                        is_refused(&track, at, &reason);
                    }
                }
            }
        }
    }
}

/// Sessions with the same key and with everything else the same but one thing.
fn sisters(closer: Role) -> Vec<Tape> {
    let tape = |client: Birth, server: Birth| everything(closer, client, server);
    let client = |random| birth(Role::Client, SESSION, random);
    let server = |session: Uuid, random| birth(Role::Server, session, random);
    vec![
        tape(client(3), server(SESSION, 2)),
        tape(client(1), server(SESSION, 3)),
        tape(client(3), server(SESSION, 4)),
        tape(client(2), server(SESSION, 1)),
        tape(client(1), server(FOREIGN, 2)),
    ]
}

/// Whether the two are one server, to which different clients came.
fn is_same_end(one: &Birth, other: &Birth) -> bool {
    one.role == Role::Server && one.random == other.random && one.session == other.session
}

#[test]
fn no_frame_of_another_session_under_the_same_key_is_taken() {
    for role in ROLES {
        let track = listener(role);
        for sister in sisters(other(role)) {
            let sister = sister.track(role);
            for (nth, theirs) in sister.arrivals().into_iter().enumerate() {
                let frame = sister.arriving(theirs);
                let splice = Step::Arrives(frame.to_vec());
                for (place, at) in track.arrivals().into_iter().enumerate() {
                    let begins = place == 0 && nth == 0;
                    if begins
                        && (is_same_end(&sister.birth, &track.birth) || frame == track.arriving(at))
                    {
                        // The same frame, or that of another client, with whom it would have been a session.
                        continue;
                    }
                    let steps = [&splice].into_iter().chain(&track.steps[at + 1..]);
                    let reason = track.ends_after(at, steps);
                    is_refused(&track, at, &reason);
                    let steps = [&splice].into_iter().chain(&track.steps[at..]);
                    let reason = track.ends_after(at, steps);
                    is_refused(&track, at, &reason);
                }
            }
        }
    }
}

/// The rest of another session, from any frame on.
#[test]
fn no_session_goes_on_as_another() {
    for role in ROLES {
        let track = listener(role);
        for sister in sisters(other(role)) {
            let sister = sister.track(role);
            for (at, theirs) in track.arrivals().into_iter().zip(sister.arrivals()).skip(1) {
                let reason = track.ends_after(at, &sister.steps[theirs..]);
                assert_eq!(reason, MAC);
            }
        }
    }
}

/// What a recorder has is of no use: neither to pose as the client, nor as the server.
#[test]
fn a_recorded_session_establishes_nothing_with_a_fresh_peer() {
    for role in ROLES {
        let track = listener(role);
        for random in [0, 3, 255] {
            for config in [
                Config::default(),
                Config::default().min_security(Security::Legacy),
                Config::default().min_security(Security::Sec),
            ] {
                let mut fresh = birth(role, SESSION, random);
                fresh.config = config.into();
                let mut player = fresh.player();
                for step in &track.steps {
                    player.step(step);
                }
                assert_eq!(player.end(), MAC);
                assert_eq!(player.events.len(), 1, "{:?}", player.events);
                assert_eq!(player.solo.connection.identity(), None);
                assert_eq!(player.solo.connection.security(), Security::Legacy);
            }
        }
    }
}

/// Everything that a server of version 1 with the key has ever said, to a client with `sec`: without
/// `min_security` that is version 1 again, with it it is over.
#[test]
fn a_recording_of_version_1_is_worth_what_the_client_demands() {
    let recorded = [
        encode(&frame(FrameKind::SessionInit, "Session established")),
        encode(&greeting(Role::Client, every_extension())),
    ];
    for init in recorded {
        let message = encode(&frame(FrameKind::Message, "old news"));
        let stream = [init, message].concat();
        let client = |config: Config| {
            let mut client = Solo::new(Role::Client, config);
            client.feed_bytes(&stream);
            client
        };
        let mut strict = client(no_timers().min_security(Security::Sec));
        assert_eq!(strict.connection.state(), State::Closing);
        assert_eq!(kinds(&strict.sent()), [FrameKind::Disconnect]);
        strict.connection.handle_eof(START);
        let insecure = CloseReason::Protocol(ProtocolError::Insecure);
        assert_eq!(strict.closed(), insecure);

        for config in [no_timers(), no_timers().min_security(Security::Legacy)] {
            let mut lax = client(config);
            assert_eq!(lax.connection.state(), State::Established);
            assert_eq!(lax.connection.security(), Security::Legacy, "and says so");
            assert_eq!(lax.connection.identity(), None);
            assert_eq!(lax.events().len(), 2);
        }
    }
}

/// A `session_init` that offers `sec` is no proof of anything, whoever made it and when.
#[test]
fn a_recorded_offer_gets_an_answer_and_nothing_else() {
    for level in [Security::Legacy, Security::Sec] {
        let track = listener(Role::Client);
        let init = track.arriving(track.arrivals()[0]);
        let mut client = Solo::new(Role::Client, no_timers().min_security(level));
        client.feed_bytes(init);
        assert_eq!(client.connection.state(), State::AwaitProof);
        assert_eq!(client.sent_bytes().len(), 1, "session_ack");
        let text = Message::text("secret");
        assert!(client.connection.send(START, text).is_err());
        client.connection.handle_eof(START);
        assert_eq!(client.closed(), CloseReason::Unproven);
    }
}

/// The shared key alone signs nothing any more.
#[test]
fn no_frame_of_version_1_is_taken_in_a_session_with_sec() {
    for role in ROLES {
        for kind in FrameKind::ALL {
            for session in [None, Some(SESSION), Some(FOREIGN)] {
                let mut injected = frame(kind, "ping");
                injected.session = session;
                let mut end = ByHand::established(role, no_timers());
                end.solo.feed(&injected);
                assert_eq!(
                    kinds(&end.sent()),
                    [FrameKind::Error, FrameKind::Disconnect]
                );
                end.solo.connection.handle_eof(START);
                assert_eq!(end.solo.closed(), MAC, "{kind}");
                // With the key of the other direction, or the number of another place.
                for number in [0, 2, u64::MAX] {
                    let mut end = ByHand::established(role, no_timers());
                    let mut raw = encode(&injected);
                    let code = end.mine.code(number, &raw);
                    raw[32..64].copy_from_slice(&code);
                    end.solo.feed_bytes(&raw);
                    assert_eq!(end.solo.connection.state(), State::Closing, "{number}");
                }
                let mut end = ByHand::established(role, no_timers());
                let mut theirs = end.theirs.clone();
                end.solo.feed_bytes(&theirs.frame(&injected));
                assert_eq!(end.solo.connection.state(), State::Closing, "reflected");
            }
        }
    }
}

#[test]
fn a_stream_that_is_cut_anywhere_is_reported_as_cut() {
    for role in ROLES {
        let track = listener(role);
        let arrivals = track.arrivals();
        let mut cuts = 0;
        for (nth, at) in arrivals.iter().enumerate() {
            let whole = track.arriving(*at);
            for len in 0..whole.len() {
                let part = Step::Arrives(whole[..len].to_vec());
                let reason = track.ends_after(*at, [&part]);
                let awaits_proof = role == Role::Client && nth == 1;
                let expected = if awaits_proof {
                    CloseReason::Unproven
                } else {
                    CloseReason::Eof { mid_frame: len > 0 }
                };
                assert_eq!(reason, expected, "{role:?}, frame {nth} after {len} bytes");
                cuts += 1;
            }
        }
        assert!(cuts > 2_000, "{cuts}");
        // With its last byte it is whole.
        assert!(matches!(
            track.events.last(),
            Some(Event::Closed(CloseReason::Peer { .. }))
        ));
    }
}

/// The same key at both ends of one process: a node that is a client of itself, as it were.
#[test]
fn two_clients_or_two_servers_establish_nothing() {
    let mut clients = [0, 1].map(|random| {
        let birth = birth(Role::Client, SESSION, random);
        birth.player().solo
    });
    for client in &mut clients {
        assert_eq!(client.sent_bytes(), [[0; 0]; 0], "neither begins");
        client.connection.handle_eof(START);
        assert_eq!(client.closed(), CloseReason::Eof { mid_frame: false });
    }
    let mut servers = [0, 1].map(|random| birth(Role::Server, SESSION, random).player().solo);
    let inits = [0, 1].map(|nth: usize| servers[nth].sent_bytes().concat());
    for (server, init) in servers.iter_mut().zip([&inits[1], &inits[0]]) {
        server.feed_bytes(init);
        let error = ProtocolError::Unexpected(FrameKind::SessionInit);
        assert_eq!(server.closed(), CloseReason::Protocol(error));
    }
    // Somebody else in between does not help: they have other keys.
    let key = Key::default();
    let mut client = ByHand::await_proof(Config::new(key));
    let ack = encode(&frame(FrameKind::SessionAck, "Session acknowledged"));
    let mut theirs = client.theirs.clone();
    client.solo.feed_bytes(&theirs.sign(ack));
    assert_eq!(client.solo.closed(), MAC);
}

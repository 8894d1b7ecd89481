//! Channels that are trusted (PROTOCOL.md §4.8): both ends show that they hold the key, and what they
//! say after that has no code.

mod support;

use chat_core::frame::{Extensions, Extra, Frame, FrameError, FrameKind};
use chat_core::{
    CloseReason, Config, Event, Key, Message, ProtocolError, Role, Security, State, Transfer,
};

use support::chunk::{IMAGE, carry, every_extension, greeting, greeting_json, image, noise, open};
use support::sec::{Keys, frames_of, hello};
use support::{Pair, SESSION, START, Solo, encode, frame, kinds, no_timers, raw_frame, sign_again};

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const MAC: CloseReason = CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac));

fn trusting() -> Config {
    no_timers().trust_channel(true)
}

/// What a frame says about extensions.
fn ext(frame: &Frame) -> Extensions {
    match frame.extra {
        Extra::Extensions(extensions) => extensions,
        _ => Extensions::default(),
    }
}

/// What a peer has that trusts the channel.
fn extensions() -> Extensions {
    let mut extensions = every_extension();
    extensions.trust = true;
    extensions
}

/// The bytes of a frame as they are where the channel is trusted.
fn bare(frame: &Frame) -> Vec<u8> {
    let mut raw = encode(frame);
    raw[32..64].fill(0);
    raw
}

fn ping() -> Frame {
    frame(FrameKind::Heartbeat, "ping")
}

/// An end whose peer, which is the test, has just sent what proves that it holds the key; and the keys.
fn proven(role: Role) -> (Solo, Keys) {
    let mut solo = Solo::new(role, trusting());
    let greeting = encode(&hello(role, extensions(), &Key::default()));
    match role {
        Role::Client => {
            solo.feed_bytes(&greeting);
            let ack = solo.sent_bytes().concat();
            let mut keys = Keys::new(Key::DEFAULT_BYTES, &greeting, &ack, b"");
            assert_eq!(keys.client.read(&ack).len(), 1);
            let proof = frame(FrameKind::SessionAck, "Session acknowledged");
            solo.feed_bytes(&keys.server.frame(&proof));
            (solo, keys)
        }
        Role::Server => {
            let init = solo.sent_bytes().concat();
            let mut keys = Keys::new(Key::DEFAULT_BYTES, &init, &greeting, b"");
            solo.feed_bytes(&keys.client.sign(greeting));
            (solo, keys)
        }
    }
}

#[test]
fn a_channel_is_trusted_where_both_ends_trust_it_and_use_sec() {
    let settings = [(false, false), (false, true), (true, false), (true, true)];
    let config = |(sec, trust)| no_timers().sec(sec).trust_channel(trust);
    for client in settings {
        for server in settings {
            let mut pair = Pair::with(config(client), config(server));
            pair.settle();
            let trusted = client == (true, true) && server == (true, true);
            let secure = client.0 && server.0;
            let (offer, choice) = (&pair.down.sent[0].frame, &pair.up.sent[0].frame);
            assert_eq!(ext(offer).trust, server == (true, true));
            assert_eq!(ext(choice).trust, trusted);
            for role in ROLES {
                let message = image(200_000);
                assert_eq!(pair.send(role, message.clone()), Ok(()));
                pair.settle();
                assert!(pair.peer(role).messages().eq([&message]));
                let connection = &pair.end(role).connection;
                assert_eq!(connection.state(), State::Established);
                assert_eq!(connection.peer_extensions().trust, trusted);
                let security = connection.security();
                assert_eq!(security == Security::Sec, secure, "{client:?}, {server:?}");
                assert_eq!(connection.identity().is_some(), secure);
            }
        }
    }
}

#[test]
fn nobody_trusts_a_channel_without_being_told_to() {
    let mut server = Solo::new(Role::Server, Config::default());
    assert!(!ext(&server.sent()[0]).trust);
    let mut client = Solo::new(Role::Client, Config::default());
    let init = encode(&hello(Role::Client, extensions(), &Key::default()));
    client.feed_bytes(&init);
    let ack = client.sent_bytes().concat();
    let mut keys = Keys::new(Key::DEFAULT_BYTES, &init, &ack, b"");
    let ack = ext(&keys.client.read(&ack)[0]);
    assert!(ack.sec.is_some() && !ack.trust);
}

#[test]
fn an_offer_without_sec_means_nothing() {
    let mut client = Solo::new(Role::Client, trusting());
    client.feed(&greeting(Role::Client, extensions()));
    let ack = ext(&client.sent()[0]);
    assert!(ack.coalesce && ack.sec.is_none() && !ack.trust);
    assert_eq!(client.connection.state(), State::Established);
    assert_eq!(client.connection.security(), Security::Legacy);
    assert!(!client.connection.peer_extensions().trust);
    client.events();
    // So its frames have the code of version 1, which `feed` and `sent` give and ask for.
    client.feed(&ping());
    assert_eq!(kinds(&client.sent()), [FrameKind::Heartbeat]);
    client.feed_bytes(&bare(&ping()));
    client.sent();
    client.connection.handle_eof(START);
    assert_eq!(client.closed(), MAC);
}

#[test]
fn a_choice_that_was_not_offered_or_is_without_sec_ends_the_handshake() {
    let refused = CloseReason::Protocol(ProtocolError::NotOffered);
    // Without `sec`, however it is signed.
    for config in [trusting(), trusting().sec(false), no_timers()] {
        let mut server = Solo::new(Role::Server, config);
        server.sent();
        let text = greeting_json(Role::Server, "{\"trust\": {}}");
        server.feed_bytes(&raw_frame(text.as_bytes(), b"hello"));
        assert_eq!(server.sent(), [], "nothing is said during the handshake");
        assert_eq!(server.closed(), refused);
    }
    // With it, of a server that did not offer it.
    let mut server = Solo::new(Role::Server, no_timers());
    let init = server.sent_bytes().concat();
    let ack = encode(&hello(Role::Server, extensions(), &Key::default()));
    let mut keys = Keys::new(Key::DEFAULT_BYTES, &init, &ack, b"");
    server.feed_bytes(&keys.client.sign(ack));
    assert_eq!(server.sent(), [], "nothing is said during the handshake");
    assert_eq!(server.closed(), refused);
}

#[test]
fn the_first_frame_of_each_end_proves_that_it_holds_the_key() {
    // That of the server: without a code, or with one of another number, it proves nothing.
    for number in [None, Some(1)] {
        let mut client = Solo::new(Role::Client, trusting());
        let init = encode(&hello(Role::Client, extensions(), &Key::default()));
        client.feed_bytes(&init);
        let ack = client.sent_bytes().concat();
        let mut keys = Keys::new(Key::DEFAULT_BYTES, &init, &ack, b"");
        assert_eq!(keys.client.read(&ack).len(), 1);
        let proof = frame(FrameKind::SessionAck, "Session acknowledged");
        client.feed_bytes(&match number {
            None => bare(&proof),
            Some(number) => {
                keys.server.sequence = number;
                keys.server.frame(&proof)
            }
        });
        assert_eq!(client.closed(), MAC);
    }
    // That of the client.
    let mut server = Solo::new(Role::Server, trusting());
    server.sent();
    let ack = hello(Role::Server, extensions(), &Key::default());
    server.feed_bytes(&bare(&ack));
    assert_eq!(server.closed(), MAC);
}

#[test]
fn what_follows_has_zeros_for_a_code() {
    for role in ROLES {
        let (mut solo, mut keys) = proven(role);
        assert_eq!(solo.events(), [Event::Established { session: SESSION }]);
        if role == Role::Server {
            let proof = solo.sent_bytes().concat();
            assert_eq!(
                kinds(&keys.server.read(&proof)),
                [FrameKind::SessionAck],
                "it is signed"
            );
        }
        solo.feed_bytes(&bare(&ping()));
        solo.send(Message::text("small"));
        solo.send(image(200_000));
        solo.connection.send_error(START, "an error");
        solo.connection.close(START, "enough");
        let sent = frames_of(&solo.sent_bytes().concat());
        assert!(sent.len() > 4, "{}", sent.len());
        for frame in sent {
            assert_eq!(frame[32..64], [0; 32]);
        }
    }
}

#[test]
fn an_answer_goes_before_what_waits_for_nothing_is_numbered() {
    for role in ROLES {
        let (mut solo, _) = proven(role);
        solo.sent_bytes();
        for _ in 0..10 {
            solo.send(image(4_000));
        }
        solo.feed_bytes(&bare(&ping()));
        let sent = frames_of(&solo.sent_bytes().concat());
        let of = |raw: &Vec<u8>| {
            let mut raw = raw.clone();
            sign_again(&mut raw);
            support::whole(&raw).frames[0].kind
        };
        let kinds: Vec<FrameKind> = sent.iter().map(of).collect();
        let mut expected = [FrameKind::Message; 11];
        expected[1] = FrameKind::Heartbeat;
        assert_eq!(kinds, expected);
    }
}

#[test]
fn a_code_that_is_not_zero_is_refused_whatever_it_is() {
    for role in ROLES {
        for bit in 0..256 {
            let (mut solo, _) = proven(role);
            let mut raw = bare(&ping());
            raw[32 + bit / 8] ^= 1 << (bit % 8);
            solo.events();
            solo.feed_bytes(&raw);
            solo.sent_bytes();
            solo.connection.handle_eof(START);
            assert_eq!(solo.closed(), MAC, "bit {bit}");
        }
        // Those too that would be right without: of `sec`, and of version 1.
        for of_version_1 in [false, true] {
            let (mut solo, keys) = proven(role);
            solo.events();
            solo.sent_bytes();
            let mut mine = match role {
                Role::Client => keys.server,
                Role::Server => keys.client,
            };
            solo.feed_bytes(&if of_version_1 {
                encode(&ping())
            } else {
                mine.frame(&ping())
            });
            // It is told so, as anybody who breaks the protocol.
            let told = frames_of(&solo.sent_bytes().concat());
            assert_eq!(told.len(), 2);
            assert!(told.iter().all(|frame| frame[32..64] == [0; 32]));
            solo.connection.handle_eof(START);
            assert_eq!(solo.closed(), MAC);
        }
    }
}

#[test]
fn nothing_is_hashed_after_the_handshake() {
    for config in [trusting(), trusting().chunks(false)] {
        let mut pair = Pair::established(config.clone());
        let hashed = |pair: &mut Pair, role| pair.end(role).connection.stats().bytes_hashed;
        let before = ROLES.map(|role| hashed(&mut pair, role));
        for role in ROLES {
            for len in [1, 1_000, 8_192, 8_193, 200_000, 3_000_000] {
                for message in [image(len), image(len).hashed(&config)] {
                    assert_eq!(pair.send(role, message.clone()), Ok(()));
                    pair.settle();
                    assert_eq!(pair.peer(role).messages().last(), Some(&message));
                }
            }
        }
        assert_eq!(ROLES.map(|role| hashed(&mut pair, role)), before);
    }
}

#[test]
fn what_arrived_without_a_code_is_hashed_where_it_is_passed_on() {
    let config = trusting().chunks(false);
    let mut pair = Pair::established(config.clone());
    let mut next = Pair::established(config.trust_channel(false));
    for from in ROLES {
        let message = image(50_000);
        assert_eq!(pair.send(from, message.clone()), Ok(()));
        pair.settle();
        let arrived = pair.peer(from).messages().last().cloned();
        let before = next.end(from).connection.stats().bytes_hashed;
        assert_eq!(next.send(from, arrived.expect("it arrived")), Ok(()));
        next.settle();
        assert_eq!(next.peer(from).messages().last(), Some(&message));
        assert_eq!(
            next.end(from).connection.stats().bytes_hashed,
            before + 50_000
        );
    }
}

#[test]
fn streams_go_over_it_beside_messages() {
    let mut pair = Pair::established(support::chunk::streams().trust_channel(true));
    for from in ROLES {
        let content = noise(1_000_000, 7);
        let id = open(&mut pair, from, Transfer::new(IMAGE));
        assert_eq!(pair.send(from, Message::text("beside it")), Ok(()));
        pair.settle();
        assert!(carry(&mut pair, from, id, &content, 100_000) == content);
        let said = pair.peer(from).messages().last();
        assert_eq!(said, Some(&Message::text("beside it")));
    }
}

#[test]
fn whoever_closes_at_once_has_shown_that_it_holds_the_key() {
    // What is dropped with what had been queued is not what shows it.
    type End = fn(&mut Solo);
    let ends: [(End, &str); 3] = [
        (|solo| solo.connection.abort(START, "no"), "no"),
        (|solo| solo.connection.close(START, "no"), "no"),
        (|solo| solo.feed_bytes(b"nonsense"), "Protocol error"),
    ];
    for (end, said) in ends {
        let mut client = Solo::new(Role::Client, trusting());
        let mut server = Solo::new(Role::Server, trusting());
        client.feed_bytes(&server.sent_bytes().concat());
        server.feed_bytes(&client.sent_bytes().concat());
        server.send(Message::text("never heard of"));
        end(&mut server);
        client.feed_bytes(&server.sent_bytes().concat());
        let events = client.events();
        assert_eq!(events[0], Event::Established { session: SESSION });
        let reason = said.into();
        let end = Event::Closed(CloseReason::Peer { reason });
        assert_eq!(events.last(), Some(&end), "{events:?}");
    }
}

#[test]
fn a_channel_can_be_trusted_and_bound() {
    for (client, server, same) in [(b"x", b"x", true), (b"x", b"y", false)] {
        let mut pair = Pair::new(trusting());
        pair.client.connection.set_channel_binding(client);
        pair.server.connection.set_channel_binding(server);
        pair.settle();
        let trusted = pair.server.connection.peer_extensions().trust;
        assert_eq!(trusted, same);
        let state = pair.client.connection.state();
        assert_eq!(state == State::Established, same, "{state:?}");
    }
}

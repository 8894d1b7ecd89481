//! Extensions are offered and chosen (PROTOCOL.md §4.6), and peers of version 1 notice nothing.

mod support;

use chat_core::frame::{ChunkLimits, Extensions, Extra, Frame, FrameKind, MAX_INTEGER, SecHello};
use chat_core::{
    CloseReason, Config, Message, OpenError, ProtocolError, Role, SendError, State, Transfer,
};

use support::chunk::{IMAGE, begin, every_extension, greeting, negotiated};
use support::{
    Pair, SESSION, START, Solo, encode, frame, header_json, kinds, no_timers, secs, whole,
};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// Every combination of extensions that a configuration can have.
fn configs() -> Vec<Config> {
    let both = [false, true];
    let mut configs = Vec::new();
    for coalesce in both {
        for ping in [None, Some(secs(7))] {
            for chunks in both {
                let config = Config::default().coalesce(coalesce).chunks(chunks);
                configs.push(config.ping_timeout(ping));
            }
        }
    }
    configs
}

/// What a frame says about extensions; `None`: nothing.
fn ext(frame: &Frame) -> Option<Extensions> {
    match frame.extra {
        Extra::Extensions(extensions) => Some(extensions),
        _ => None,
    }
}

/// The offer of a configuration, as its server sends it.
fn offer(config: &Config) -> Option<Extensions> {
    ext(&Solo::new(Role::Server, config.clone()).sent()[0])
}

fn names(extensions: Option<Extensions>) -> [bool; 5] {
    let extensions = extensions.unwrap_or_default();
    [
        extensions.max_content.is_some(),
        extensions.coalesce,
        extensions.ping.is_some(),
        extensions.chunk.is_some(),
        extensions.sec.is_some(),
    ]
}

#[test]
fn the_offer_is_as_documented() {
    let mut server = Solo::new(Role::Server, Config::default());
    let bytes = server.sent_bytes().concat();
    let json = core::str::from_utf8(header_json(&bytes)).expect("ASCII");
    let protocol = include_str!("../PROTOCOL.md");
    assert!(
        protocol.contains(&format!("```json\n{json}\n```")),
        "{json}"
    );
    let mut offer = every_extension();
    offer.sec = Some(SecHello {
        nonce: [2; 32],
        key: None,
    });
    assert_eq!(ext(&whole(&bytes).frames[0]), Some(offer));
}

#[test]
fn the_longest_offer_fits_into_one_read() {
    let config = Config::default()
        .ping_timeout(Some(secs(u64::MAX)))
        .window(u32::MAX)
        .max_transfers(u32::MAX)
        .max_message(MAX_INTEGER)
        .trust_channel(true);
    let bytes = Solo::new(Role::Server, config.clone()).sent_bytes();
    assert_eq!(bytes.len(), 1, "one frame alone");
    assert!(bytes[0].len() <= 1024, "{}", bytes[0].len());
    assert!(
        !bytes[0].windows(3).any(|part| part == b"  }"),
        "it is padded"
    );
    let pair = Pair::established(config);
    let limits = pair.client.connection.peer_extensions();
    assert_eq!(limits.ping, Some(u32::MAX));
    let chunk = limits.chunk.expect("chunks were agreed on");
    assert_eq!((chunk.window, chunk.transfers), (u32::MAX, u32::MAX));
    assert_eq!(chunk.message, Some(MAX_INTEGER));
}

#[test]
fn what_both_can_is_chosen_and_nothing_else() {
    for client in configs() {
        for server in configs() {
            let mut pair = Pair::with(client.clone(), server.clone());
            pair.settle();
            let (mine, theirs) = (offer(&client), offer(&server));
            let (offered, chosen) = (&pair.down.sent[0].frame, &pair.up.sent[0].frame);
            assert_eq!(ext(offered), theirs);
            let both = core::array::from_fn(|i| names(mine)[i] && names(theirs)[i]);
            assert_eq!(names(ext(chosen)), both);
            // Each end knows the other's limits.
            assert_eq!(
                pair.server.connection.peer_extensions(),
                ext(chosen).unwrap_or_default()
            );
            let known = pair.client.connection.peer_extensions();
            assert_eq!(names(Some(known)), both);
            if let (Some(known), Some(theirs)) = (known.chunk, theirs) {
                assert_eq!(Some(known), theirs.chunk);
            }
            assert_eq!(pair.client.connection.state(), State::Established);
            // And they can talk.
            for role in ROLES {
                let message = Message::binary(vec![7; 20_000]);
                assert_eq!(pair.send(role, message.clone()), Ok(()));
                pair.settle();
                assert!(pair.peer(role).messages().eq([&message]));
                let kind = pair.link(role).sent.last().expect("a frame").frame.kind;
                assert_eq!(kind != FrameKind::Message, both[3], "{kind}");
            }
        }
    }
}

#[test]
fn settings_without_an_extension_offer_nothing() {
    let plain = Config::default().version_1();
    let mut server = Solo::new(Role::Server, plain);
    let expected = encode(&frame(FrameKind::SessionInit, "Session established"));
    assert_eq!(server.sent_bytes(), [expected]);
}

/// A busy session, as each end's bytes.
fn session(client: Config, server: Config) -> (Vec<u8>, Vec<u8>) {
    let mut pair = Pair::with(client, server);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let step = |pair: &mut Pair| {
        pair.run_for(secs(6));
        for role in ROLES {
            let message = Message::new("image/png", vec![7; 100_000]);
            assert_eq!(pair.send(role, message), Ok(()));
            let now = pair.now;
            pair.end(role).connection.send_error(now, "an error");
        }
        pair.run_for(secs(6));
    };
    step(&mut pair);
    pair.close(Role::Client, "enough");
    pair.run_to_end();
    for (link, bytes) in [(&pair.up, &mut up), (&pair.down, &mut down)] {
        for sent in &link.sent {
            assert!(sent.len >= 1024 || sent.frame.kind == FrameKind::SessionInit);
            bytes.extend(format!("{:?} {} {:?}\n", sent.at, sent.len, sent.frame).bytes());
        }
    }
    (up, down)
}

#[test]
fn a_peer_of_version_1_gets_what_version_1_sends() {
    let old = Config::default().version_1();
    let (up, down) = session(old.clone(), old.clone());
    assert!(session(Config::default(), old.clone()) == (up.clone(), down.clone()));
    // Only the offer differs, which such a client does not look at.
    let (up_to_new, down_from_new) = session(old, Config::default());
    assert!(up_to_new == up);
    let rest = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.split_once('\n').expect("a first line").1.to_owned()
    };
    assert_eq!(rest(&down_from_new), rest(&down));
}

#[test]
fn a_peer_that_negotiated_nothing_is_sent_no_pieces() {
    for role in ROLES {
        let mut solo = Solo::established(role, no_timers());
        assert_eq!(solo.connection.peer_extensions(), Extensions::default());
        let opened = solo.connection.open(START, Transfer::new(IMAGE));
        assert_eq!(opened, Err(OpenError::Unsupported));
        solo.send(Message::binary(vec![7; 10_485_760]));
        assert_eq!(kinds(&solo.sent()), [FrameKind::Message]);
        // And it may send none.
        solo.feed(&begin(if role == Role::Client { 2 } else { 1 }, None));
        assert_eq!(
            kinds(&solo.sent()),
            [FrameKind::Error, FrameKind::Disconnect]
        );
        solo.connection.handle_eof(START);
        let error = ProtocolError::Unexpected(FrameKind::Chunk);
        assert_eq!(solo.closed(), CloseReason::Protocol(error));
    }
}

#[test]
fn a_choice_without_its_offer_ends_the_handshake() {
    let refused = CloseReason::Protocol(ProtocolError::NotOffered);
    for config in configs() {
        let offered = names(offer(&config));
        let mut single: [Extensions; 4] = Default::default();
        single[0].max_content = Some(1);
        single[1].coalesce = true;
        single[2].ping = Some(3000);
        single[3].chunk = every_extension().chunk;
        for (choice, offered) in single.into_iter().zip(offered) {
            let mut server = Solo::new(Role::Server, config.clone());
            server.sent();
            server.feed(&greeting(Role::Server, choice));
            assert_eq!(server.sent(), [], "nothing is said during the handshake");
            if offered {
                assert_eq!(server.connection.state(), State::Established);
                assert_eq!(server.connection.peer_extensions(), choice);
            } else {
                assert_eq!(server.closed(), refused);
            }
        }
    }
}

#[test]
fn the_limit_of_the_peer_is_known_before_anything_is_sent() {
    for role in ROLES {
        for (limit, chunked) in [(1, false), (5_000, false), (100_000, true)] {
            let mut peer = Extensions::default();
            peer.max_content = Some(limit);
            peer.coalesce = true;
            if chunked {
                peer.chunk = every_extension().chunk.map(|chunk| ChunkLimits {
                    message: Some(limit.into()),
                    ..chunk
                });
            }
            let mut solo = negotiated(role, no_timers(), peer);
            assert_eq!(solo.connection.max_message(), u64::from(limit));
            let over = Message::binary(vec![7; limit as usize + 1]);
            let result = solo.connection.send(START, over.clone());
            assert!(result == Err(SendError::TooLarge(over)), "{limit}");
            assert_eq!(solo.connection.outbox_bytes(), 0);
            solo.send(Message::binary(vec![7; limit as usize]));
            assert!(solo.sent().iter().any(|sent| !sent.content.is_empty()));
        }
    }
}

#[test]
fn the_smaller_of_both_limits_counts() {
    let sizes = |client: Config, server: Config| {
        let mut pair = Pair::with(client, server);
        pair.settle();
        ROLES.map(|role| pair.end(role).connection.max_message())
    };
    let config = Config::default;
    assert_eq!(sizes(config(), config()), [64 << 20; 2]);
    assert_eq!(
        sizes(config().max_message(5), config().max_message(9)),
        [5, 5]
    );
    let frames = || config().chunks(false);
    assert_eq!(sizes(frames(), frames()), [10_485_760; 2]);
    assert_eq!(
        sizes(frames().max_content(5), frames().max_content(9)),
        [5, 5]
    );
    // A peer of version 1 says nothing about its limit.
    let old = || config().version_1();
    assert_eq!(sizes(frames().max_content(9), old().max_content(5)), [9, 5]);
    assert_eq!(Solo::new(Role::Client, config()).connection.session(), None);
    assert_eq!(
        Solo::new(Role::Server, config()).connection.session(),
        Some(SESSION)
    );
}

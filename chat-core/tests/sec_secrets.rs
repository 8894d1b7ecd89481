//! What goes into the keys of a session beside the frames, and what never comes out (PROTOCOL.md §4.7).

mod support;

use chat_core::frame::{FrameError, FrameKind};
use chat_core::{CloseReason, Config, Connection, Entropy, Key, ProtocolError, Role, Security};
use std::sync::Arc;

use support::sec::{ByHand, Keys, hex};
use support::{Pair, START, Solo, kinds, no_timers};

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const MAC: CloseReason = CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac));

#[test]
fn both_ends_must_know_the_same_channel() {
    let bindings: [Option<&[u8]>; 5] = [
        None,
        Some(b"\0"),
        Some(b"channel"),
        Some(b"channel\0"),
        Some(&[9; 500]),
    ];
    let mut sessions = 0;
    for (nth, at_client) in bindings.into_iter().enumerate() {
        for (mth, at_server) in bindings.into_iter().enumerate() {
            let mut pair = Pair::new(no_timers());
            for (end, binding) in [(&mut pair.client, at_client), (&mut pair.server, at_server)] {
                if let Some(binding) = binding {
                    end.connection.set_channel_binding(binding);
                }
            }
            pair.settle();
            if nth == mth {
                sessions += 1;
                for role in ROLES {
                    assert_eq!(pair.end(role).connection.security(), Security::Sec);
                }
            } else {
                assert_eq!(pair.client.closed(), Some(&CloseReason::Unproven));
                assert_eq!(pair.server.closed(), Some(&MAC));
                assert_eq!(pair.server.events.len() + pair.client.events.len(), 2);
            }
        }
    }
    assert_eq!(sessions, 5);
}

/// Nor is a session without `sec` bound to anything.
#[test]
fn whoever_binds_the_channel_demands_sec() {
    for role in ROLES {
        let configs = match role {
            Role::Client => [no_timers(), no_timers().sec(false)],
            Role::Server => [no_timers().sec(false), no_timers()],
        };
        let [client, server] = configs;
        let mut pair = Pair::with(client, server);
        pair.end(role).connection.set_channel_binding(b"channel");
        pair.settle();
        let insecure = CloseReason::Protocol(ProtocolError::Insecure);
        pair.run_to_end();
        assert_eq!(pair.end(role).closed(), Some(&insecure));
    }
}

#[test]
#[should_panic(expected = "an empty channel binding binds nothing")]
fn an_empty_channel_binding_is_a_mistake() {
    let mut solo = Solo::new(Role::Client, no_timers());
    solo.connection.set_channel_binding(b"");
}

#[test]
#[should_panic(expected = "it is too late to bind it")]
fn a_channel_binding_that_comes_too_late_is_a_mistake() {
    let mut solo = Solo::new(Role::Client, no_timers());
    solo.feed_bytes(&[0x89]);
    solo.connection.set_channel_binding(b"channel");
}

/// The binding is in the transcript as the document says.
#[test]
fn a_channel_binding_is_hashed_into_the_keys() {
    let config = Arc::new(no_timers());
    let mut client = Solo::of(Connection::client(config, Entropy::new([1; 32]), START));
    client.connection.set_channel_binding(b"exported");
    let init = Solo::new(Role::Server, no_timers()).sent_bytes().concat();
    client.feed_bytes(&init);
    let ack = client.sent_bytes().concat();
    let mut keys = Keys::new(Key::DEFAULT_BYTES, &init, &ack, b"exported");
    assert_eq!(kinds(&keys.client.read(&ack)), [FrameKind::SessionAck]);
    let other = Keys::new(Key::DEFAULT_BYTES, &init, &ack, b"");
    assert_ne!(other.client.code(0, &ack)[..], ack[32..64]);
}

/// Whatever is shown of settings, keys and randomness, the secret bytes are not in it.
#[test]
fn nothing_that_is_shown_has_secret_bytes_in_it() {
    let secret: Vec<u8> = (0..32).map(|n| 0x61 + (n * 7) % 26).collect();
    let key = Key::new(&secret);
    let config = Config::new(key.clone()).identity("alice", Key::new(&secret[1..]));
    let mut entropy = [0; 32];
    entropy.copy_from_slice(&secret);
    let established = ByHand::established(Role::Client, no_timers());
    let shown = [
        format!("{key:?} {key:#?} {} {:?}", key.id(), key.id()),
        format!("{config:?} {config:#?}"),
        format!("{:?} {:#?}", Entropy::new(entropy), Entropy::new(entropy)),
        format!("{:?}", established.solo.connection.identity()),
        format!("{}", ProtocolError::UnknownKey(key.id())),
    ];
    for shown in shown {
        let close: String = shown.split_whitespace().collect();
        for part in secret.windows(4) {
            let raw = core::str::from_utf8(part).expect("ASCII");
            let hex = hex(part);
            let decimal = part.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
            let listed: Vec<String> = part.iter().map(|byte| format!("{byte:#04x}")).collect();
            for form in [
                raw.to_owned(),
                hex.clone(),
                hex.to_uppercase(),
                decimal,
                listed.join(","),
            ] {
                assert!(!close.contains(&form), "{form} in {shown}");
            }
        }
    }
}

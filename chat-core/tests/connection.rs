//! Handshake and messages (PROTOCOL.md §4.1 to §4.3, §5.1, §5.3).

mod support;

use std::sync::Arc;

use chat_core::frame::{Frame, FrameError, FrameKind, LEGACY_MIN_FRAME, Limits};
use chat_core::{
    CloseReason, Config, Connection, ContentType, Entropy, Event, Key, Message, ProtocolError,
    Role, SendError, State, Timeout,
};

use support::{FOREIGN, Pair, SESSION, START, Solo, encode, frame, kinds, raw_frame};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn without_id(frame: Frame) -> Frame {
    Frame {
        session: None,
        ..frame
    }
}

fn foreign(frame: Frame) -> Frame {
    Frame {
        session: Some(FOREIGN),
        ..frame
    }
}

fn init() -> Frame {
    frame(FrameKind::SessionInit, "Session established")
}

fn ack() -> Frame {
    frame(FrameKind::SessionAck, "Session acknowledged")
}

fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Vec<Message> {
    texts.into_iter().map(Message::text).collect()
}

#[test]
fn a_server_opens_with_session_init_and_waits() {
    let mut server = Solo::new(Role::Server, Config::default().version_1());
    assert_eq!(server.connection.state(), State::AwaitAck);
    assert_eq!(server.connection.session(), Some(SESSION));
    assert_eq!(server.sent(), [init()]);
    assert_eq!(server.events(), []);
}

#[test]
fn a_client_waits_then_answers_with_session_ack() {
    let mut client = Solo::new(Role::Client, Config::default());
    assert_eq!(client.connection.state(), State::AwaitInit);
    assert_eq!(client.connection.session(), None);
    assert_eq!(client.sent(), []);
    client.feed(&init());
    assert_eq!(client.connection.state(), State::Established);
    assert_eq!(client.connection.session(), Some(SESSION));
    assert_eq!(client.sent(), [ack()]);
    assert_eq!(client.events(), [Event::Established { session: SESSION }]);
}

#[test]
fn a_server_is_established_by_the_acknowledgement() {
    let mut server = Solo::new(Role::Server, Config::default());
    server.sent();
    server.feed(&ack());
    assert_eq!(server.connection.state(), State::Established);
    assert_eq!(server.sent(), []);
    assert_eq!(server.events(), [Event::Established { session: SESSION }]);
}

#[test]
fn the_texts_of_the_handshake_are_not_checked() {
    for role in ROLES {
        let mut solo = Solo::new(role, Config::default());
        let kind = match role {
            Role::Client => FrameKind::SessionInit,
            Role::Server => FrameKind::SessionAck,
        };
        solo.feed(&Frame {
            content_type: ContentType::from_static("any/thing"),
            ..frame(kind, vec![0xff; 1024])
        });
        assert_eq!(solo.connection.state(), State::Established, "{role:?}");
    }
}

#[test]
fn a_session_init_without_an_id_ends_the_client() {
    let mut client = Solo::new(Role::Client, Config::default());
    client.feed(&without_id(init()));
    assert_eq!(
        client.closed(),
        CloseReason::Protocol(ProtocolError::NoSession)
    );
}

#[test]
fn an_acknowledgement_of_another_session_or_none_ends_the_server() {
    for wrong in [foreign(ack()), without_id(ack())] {
        let mut server = Solo::new(Role::Server, Config::default());
        server.feed(&wrong);
        let error = ProtocolError::WrongSession(FrameKind::SessionAck);
        assert_eq!(server.closed(), CloseReason::Protocol(error));
    }
}

#[test]
fn nothing_is_said_to_a_peer_whose_handshake_failed() {
    let mut damaged = encode(&init());
    damaged[40] ^= 1;
    for role in ROLES {
        for bytes in [damaged.clone(), encode(&frame(FrameKind::Message, "early"))] {
            let mut solo = Solo::new(role, Config::default());
            solo.feed_bytes(&bytes);
            assert!(matches!(solo.closed(), CloseReason::Protocol(_)));
            assert!(solo.connection.is_closed());
            assert_eq!(solo.sent(), [], "{role:?}");
        }
    }
}

#[test]
fn a_client_with_another_key_is_cut_off_at_once_by_itself() {
    let another = Config::new(Key::new(b"another")).sec(false);
    let mut pair = Pair::with(another, Config::default());
    pair.run_to_end();
    let wrong = ProtocolError::Frame(FrameError::Mac);
    assert_eq!(pair.client.closed(), Some(&CloseReason::Protocol(wrong)));
    let eof = CloseReason::Eof { mid_frame: false };
    assert_eq!(pair.server.closed(), Some(&eof));
    assert_eq!(pair.now, START);
    assert!(pair.up.sent.is_empty());
}

#[test]
fn before_the_session_is_established_frames_are_small() {
    let long = |len: usize| {
        let mut json = format!(
            r#"{{"type": "session_init", "content_type": "a/b", "session_id": "{SESSION}""#
        )
        .into_bytes();
        json.resize(len - 1, b' ');
        json.push(b'}');
        raw_frame(&json, b"Session established")
    };
    let Limits { header, content } = Limits::HANDSHAKE;
    let (header_len, content_len) = (header as usize, content as usize);

    let mut client = Solo::new(Role::Client, Config::default());
    client.feed_bytes(&long(header_len));
    assert_eq!(client.connection.state(), State::Established);
    let mut client = Solo::new(Role::Client, Config::default());
    client.feed_bytes(&long(header_len + 1));
    let len = header + 1;
    let error = FrameError::HeaderTooLarge { len, max: header };
    assert_eq!(client.closed(), CloseReason::Protocol(error.into()));

    let of_content = |len: usize| frame(FrameKind::SessionInit, vec![b'x'; len]);
    let mut client = Solo::new(Role::Client, Config::default());
    client.feed(&of_content(content_len));
    assert_eq!(client.connection.state(), State::Established);
    let mut client = Solo::new(Role::Client, Config::default());
    client.feed(&of_content(content_len + 1));
    let error = FrameError::ContentTooLarge {
        len: u64::from(content) + 1,
        max: content,
    };
    assert_eq!(client.closed(), CloseReason::Protocol(error.into()));
}

#[test]
fn the_first_large_frame_may_arrive_with_the_handshake() {
    let large = frame(FrameKind::Message, vec![b'x'; 100_000]);
    for (role, first) in [(Role::Client, init()), (Role::Server, ack())] {
        let mut solo = Solo::new(role, Config::default());
        solo.feed_bytes(&[encode(&first), encode(&large)].concat());
        let [Event::Established { .. }, Event::Message(message)] = &solo.events()[..] else {
            panic!("no session or no message");
        };
        assert_eq!(message.content(), &large.content);
    }
}

#[test]
fn a_client_may_send_with_its_acknowledgement() {
    let mut pair = Pair::new(Config::default().sec(false));
    let greet = |pair: &mut Pair, text: &str| pair.send(Role::Client, Message::text(text));
    let early = greet(&mut pair, "early");
    assert_eq!(
        early,
        Err(SendError::NotEstablished(Message::text("early")))
    );
    // One turn: the server's session_init has arrived, and nothing has been sent back.
    pair.turn();
    assert_eq!(greet(&mut pair, "at once"), Ok(()));
    pair.settle();
    assert!(pair.server.messages().eq(&texts(["at once"])));
}

#[test]
fn a_server_sends_nothing_before_the_acknowledgement() {
    let mut server = Solo::new(Role::Server, Config::default());
    let refused = server.connection.send(START, Message::text("early"));
    assert!(matches!(refused, Err(SendError::NotEstablished(_))));
    server.connection.send_error(START, "early");
    assert_eq!(kinds(&server.sent()), [FrameKind::SessionInit]);
}

#[test]
fn messages_arrive_in_order_both_ways() {
    let mut pair = Pair::established(Config::default());
    for n in 0..50 {
        for role in ROLES {
            let text = Message::text(format!("{role:?} {n}"));
            assert_eq!(pair.send(role, text), Ok(()));
        }
    }
    pair.settle();
    for role in ROLES {
        let sent = texts((0..50).map(|n| format!("{role:?} {n}")));
        assert!(pair.peer(role).messages().eq(&sent));
    }
}

#[test]
fn messages_arrive_however_the_stream_is_split() {
    for split in [1, 7, 63, 64, 65, 1023, 1024, 1025, 5000] {
        let mut pair = Pair::new(Config::default());
        pair.up.split = split;
        pair.down.split = split;
        pair.settle();
        let sent: Vec<Message> = [1, 100, 1024, 4096, 4097, 20_000]
            .map(|len| Message::binary(vec![7; len]))
            .into();
        for message in &sent {
            assert_eq!(pair.send(Role::Client, message.clone()), Ok(()));
            assert_eq!(pair.send(Role::Server, message.clone()), Ok(()));
        }
        pair.settle();
        assert!(pair.client.messages().eq(&sent), "split {split}");
        assert!(pair.server.messages().eq(&sent), "split {split}");
    }
}

#[test]
fn the_largest_message_arrives() {
    let mut pair = Pair::established(Config::default());
    let message = Message::new("image/png", vec![0xa5; 10_485_760]);
    assert_eq!(pair.send(Role::Client, message.clone()), Ok(()));
    pair.settle();
    assert!(pair.server.messages().eq([&message]));
}

#[test]
fn a_message_keeps_its_content_type_and_its_bytes() {
    let mut pair = Pair::established(Config::default());
    for message in [
        Message::text("h\u{e9}llo \u{1f30d}\n"),
        Message::binary(vec![0, 255, 10, 0]),
        Message::new("\u{1f30d}/\"\\\u{7f}", "{}"),
    ] {
        assert_eq!(pair.send(Role::Server, message.clone()), Ok(()));
        pair.settle();
        let event = pair.client.events.pop();
        assert_eq!(event, Some(Event::Message(message)));
    }
}

#[test]
fn an_error_is_reported_and_the_session_goes_on() {
    let mut pair = Pair::established(Config::default());
    for role in ROLES {
        let now = pair.now;
        pair.end(role).connection.send_error(now, "no such room");
        assert_eq!(pair.send(role, Message::text("go on")), Ok(()));
        pair.settle();
        let expected = [
            Event::Error("no such room".to_owned()),
            Event::Message(Message::text("go on")),
        ];
        assert_eq!(pair.peer(role).events, expected);
    }
}

#[test]
fn a_server_takes_no_frame_without_the_id_but_errors() {
    for kind in FrameKind::ALL {
        let mut server = Solo::established(Role::Server, Config::default());
        server.feed(&without_id(frame(kind, "payload")));
        if kind == FrameKind::Error {
            assert_eq!(server.events(), [Event::Error("payload".to_owned())]);
        } else {
            assert_eq!(server.connection.state(), State::Closing, "{kind}");
            server.sent();
            server.connection.handle_eof(server.now);
            let error = ProtocolError::WrongSession(kind);
            assert_eq!(server.closed(), CloseReason::Protocol(error));
        }
    }
}

#[test]
fn a_client_takes_frames_without_an_id() {
    let mut client = Solo::established(Role::Client, Config::default());
    for kind in [FrameKind::Message, FrameKind::Error, FrameKind::Heartbeat] {
        client.feed(&without_id(frame(kind, "payload")));
    }
    let expected = [
        Event::Message(Message::text("payload")),
        Event::Error("payload".to_owned()),
    ];
    assert_eq!(client.events(), expected);
    client.feed(&without_id(frame(
        FrameKind::Disconnect,
        "{\"reason\": \"bye\"}",
    )));
    let reason = "bye".into();
    assert_eq!(client.closed(), CloseReason::Peer { reason });
}

#[test]
fn counts_what_goes_over_it() {
    let mut pair = Pair::established(Config::default().version_1());
    let before = (
        pair.client.connection.stats(),
        pair.server.connection.stats(),
    );
    assert_eq!(before.0.frames_sent, 1);
    assert_eq!(before.1.frames_sent, 1);
    assert_eq!(before.0.bytes_sent, before.1.bytes_received);
    assert_eq!(before.0.bytes_received, before.1.bytes_sent);
    for _ in 0..3 {
        assert_eq!(pair.send(Role::Client, Message::text("one")), Ok(()));
    }
    pair.client.connection.send_error(pair.now, "no message");
    pair.settle();
    let (client, server) = (
        pair.client.connection.stats(),
        pair.server.connection.stats(),
    );
    assert_eq!(client.frames_sent - before.0.frames_sent, 4);
    assert_eq!(client.messages_sent, 3);
    assert_eq!(server.frames_received - before.1.frames_received, 4);
    assert_eq!(server.messages_received, 3);
    let bytes = 4 * LEGACY_MIN_FRAME as u64;
    assert_eq!(client.bytes_sent - before.0.bytes_sent, bytes);
    assert_eq!(server.bytes_received - before.1.bytes_received, bytes);
    assert_eq!((server.messages_sent, client.messages_received), (0, 0));
}

#[test]
fn remembers_when_the_peer_was_last_heard() {
    let mut server = Solo::established(Role::Server, Config::default());
    assert_eq!(server.connection.last_heard(), START);
    server.wait(support::secs(3));
    let bytes = encode(&frame(FrameKind::Message, "hello"));
    server.feed_bytes(&bytes[..100]);
    assert_eq!(server.connection.last_heard(), START, "half a frame");
    server.feed_bytes(&bytes[100..]);
    assert_eq!(server.connection.last_heard(), START + support::secs(3));
}

#[test]
fn one_configuration_serves_any_number_of_connections() {
    let config = Arc::new(Config::default());
    let client = Connection::client(Arc::clone(&config), Entropy::new([1; 32]), START);
    let server = Connection::server(config, SESSION, Entropy::new([2; 32]), START);
    assert_eq!((client.role(), server.role()), (Role::Client, Role::Server));
    let mut pair = Pair::of(client, server);
    pair.settle();
    assert_eq!(pair.client.connection.state(), State::Established);
    assert_eq!(pair.server.connection.state(), State::Established);
}

#[test]
fn a_peer_that_speaks_something_else_is_refused_at_its_first_byte() {
    let mut server = Solo::new(Role::Server, Config::default());
    server.feed_bytes(b"G");
    let error = FrameError::BadMagic {
        offset: 0,
        found: b'G',
    };
    assert_eq!(server.closed(), CloseReason::Protocol(error.into()));
}

#[test]
fn a_client_whose_server_says_nothing_gives_up() {
    let mut client = Solo::new(Role::Client, Config::default());
    client.wait(support::secs(10));
    let reason = client.closed();
    assert_eq!(reason, CloseReason::Timeout(Timeout::Handshake));
}

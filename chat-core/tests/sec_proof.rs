//! A client that waits for the server to show that it holds the key (PROTOCOL.md §4.7 and §7).

mod support;

use chat_core::frame::{Extensions, Extra, Frame, FrameError, FrameKind, HeaderFault, Limits};
use chat_core::{
    CloseReason, Config, Event, Message, OpenError, ProtocolError, Role, Security, SendError,
    State, Timeout, Transfer,
};

use support::chunk::{IMAGE, chunk, every_extension};
use support::sec::ByHand;
use support::{FOREIGN, SESSION, START, encode, frame, kinds, no_timers, raw_frame, secs};

const MAC: CloseReason = CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac));
const ESTABLISHED: Event = Event::Established { session: SESSION };

fn waiting() -> ByHand {
    let client = ByHand::await_proof(no_timers());
    assert_eq!(client.solo.connection.state(), State::AwaitProof);
    client
}

fn proof() -> Frame {
    frame(FrameKind::SessionAck, "Session acknowledged")
}

/// How it ends with these bytes, without a word and without another event.
#[track_caller]
fn end_with(client: &mut ByHand, bytes: &[u8]) -> CloseReason {
    client.solo.feed_bytes(bytes);
    assert!(client.solo.connection.is_closed(), "it goes on");
    assert_eq!(client.solo.sent_bytes(), [[0; 0]; 0], "it says nothing");
    assert_eq!(client.solo.connection.security(), Security::Legacy);
    assert_eq!(client.solo.connection.identity(), None);
    client.solo.closed()
}

#[test]
fn only_the_server_s_session_ack_establishes_the_session() {
    for content in ["Session acknowledged", "x"] {
        let mut client = waiting();
        client.feed(&frame(FrameKind::SessionAck, content));
        assert_eq!(client.solo.connection.state(), State::Established);
        assert_eq!(client.solo.connection.security(), Security::Sec);
        assert_eq!(client.solo.events(), [ESTABLISHED]);
        assert_eq!(client.sent(), []);
    }
}

#[test]
fn nothing_is_agreed_on_before_that() {
    // PROTOCOL.md §4.7: what was offered is right only if the server holds the key.
    let mut client = waiting();
    let nothing = Extensions::default();
    assert_eq!(client.solo.connection.peer_extensions(), nothing);
    client.feed(&proof());
    assert_ne!(client.solo.connection.peer_extensions(), nothing);
}

#[test]
fn every_other_frame_is_what_the_document_says() {
    for kind in FrameKind::ALL {
        for session in [Some(SESSION), Some(FOREIGN), None] {
            for content in ["payload", "ping", "pong", "{\"reason\": \"payload\"}"] {
                let mut sent = frame(kind, content);
                sent.session = session;
                if kind == FrameKind::SessionAck && session == Some(SESSION) {
                    continue;
                }
                let mut client = waiting();
                let bytes = client.mine.frame(&sent);
                let reason = end_with(&mut client, &bytes);
                let expected = match kind {
                    FrameKind::SessionAck => {
                        CloseReason::Protocol(ProtocolError::WrongSession(kind))
                    }
                    FrameKind::Error => CloseReason::Refused {
                        reason: content.into(),
                    },
                    FrameKind::Disconnect => CloseReason::Peer {
                        reason: if content.contains("reason") {
                            "payload"
                        } else {
                            ""
                        }
                        .into(),
                    },
                    kind => CloseReason::Protocol(ProtocolError::Unexpected(kind)),
                };
                assert_eq!(reason, expected, "{kind}");
            }
        }
    }
    // Also a `chunk` that says something.
    for op in [
        chat_core::frame::ChunkOp::Done,
        chat_core::frame::ChunkOp::Begin {
            total: None,
            name: None,
        },
    ] {
        let mut client = waiting();
        let bytes = client.mine.frame(&chunk(2, op, "begin"));
        let error = ProtocolError::Unexpected(FrameKind::Chunk);
        assert_eq!(end_with(&mut client, &bytes), CloseReason::Protocol(error));
    }
}

/// Without the right code none of them is anything, however it is signed.
#[test]
fn no_frame_with_another_code_is_taken_for_anything() {
    for kind in FrameKind::ALL {
        for session in [Some(SESSION), Some(FOREIGN), None] {
            let mut sent = frame(kind, "payload");
            sent.session = session;
            let raw = encode(&sent);
            // Of version 1.
            assert_eq!(end_with(&mut waiting(), &raw), MAC, "{kind}");
            // Of the other direction, in its first place and in the next.
            for number in [0, 1] {
                let mut client = waiting();
                client.theirs.sequence = number;
                let bytes = client.theirs.clone().frame(&sent);
                assert_eq!(end_with(&mut client, &bytes), MAC, "{kind}");
            }
            // Of a later place.
            for number in [1, 2, u64::MAX] {
                let mut client = waiting();
                let mut bytes = raw.clone();
                let code = client.mine.code(number, &bytes);
                bytes[32..64].copy_from_slice(&code);
                assert_eq!(end_with(&mut client, &bytes), MAC, "{kind}");
            }
        }
    }
}

#[test]
fn bad_frames_end_it_as_what_they_are() {
    let good = waiting().mine.frame(&proof());
    for (at, error) in [
        (
            0,
            FrameError::BadMagic {
                offset: 0,
                found: 0x09,
            },
        ),
        (9, FrameError::UnsupportedVersion),
        (11, FrameError::UnsupportedFrameType),
        (16, FrameError::HeaderCrc),
        (28, FrameError::ContentCrc),
        (40, FrameError::Mac),
        (64, FrameError::HeaderJson(HeaderFault::Border)),
        (100, FrameError::HeaderCrc),
    ] {
        let mut bad = good.clone();
        bad[at] ^= 0x80;
        let reason = end_with(&mut waiting(), &bad);
        assert_eq!(reason, CloseReason::Protocol(error.into()), "byte {at}");
    }
    // With a right code, a header that says nothing.
    for (json, error) in [
        (
            &b"{}"[..],
            FrameError::HeaderJson(HeaderFault::NoContentType),
        ),
        (
            b"{\"type\":\"gossip\",\"content_type\":\"a/b\"}",
            FrameError::UnknownType,
        ),
    ] {
        let mut client = waiting();
        let bytes = client.mine.sign(raw_frame(json, b"payload"));
        let reason = end_with(&mut client, &bytes);
        assert_eq!(reason, CloseReason::Protocol(error.into()));
    }
    // The limits are those of a handshake still.
    let Limits { header, content } = Limits::HANDSHAKE;
    let mut client = waiting();
    let large = vec![b' '; content as usize + 1];
    let bytes = client.mine.sign(raw_frame(b"{}", &large));
    let too_large = FrameError::ContentTooLarge {
        len: u64::from(content) + 1,
        max: content,
    };
    assert_eq!(
        end_with(&mut client, &bytes),
        CloseReason::Protocol(too_large.into())
    );
    let mut json = vec![b' '; header as usize + 1];
    json[0] = b'{';
    let bytes = client.mine.sign(raw_frame(&json, b"payload"));
    let mut client = waiting();
    let too_large = FrameError::HeaderTooLarge {
        len: header + 1,
        max: header,
    };
    assert_eq!(
        end_with(&mut client, &bytes),
        CloseReason::Protocol(too_large.into())
    );
}

#[test]
fn the_end_of_the_stream_leaves_the_server_unproven() {
    let whole = waiting().mine.frame(&proof());
    for len in 0..whole.len() {
        for fails in [false, true] {
            let mut client = waiting();
            client.solo.feed_bytes(&whole[..len]);
            assert_eq!(client.solo.connection.state(), State::AwaitProof);
            if fails {
                client
                    .solo
                    .connection
                    .handle_transport_error(START, "reset");
            } else {
                client.solo.connection.handle_eof(START);
            }
            assert!(client.solo.connection.is_closed());
            assert_eq!(client.solo.closed(), CloseReason::Unproven);
            // What was offered was never agreed on.
            let agreed = client.solo.connection.peer_extensions();
            assert_eq!(agreed, Extensions::default());
        }
    }
}

#[test]
fn the_deadline_is_that_of_the_whole_handshake() {
    let config = || no_timers().handshake_timeout(secs(10));
    let timeout = CloseReason::Timeout(Timeout::Handshake);
    let mut client = ByHand::await_proof(config());
    assert_eq!(
        client.solo.next_deadline(),
        Some(secs(10)),
        "from the connection on"
    );
    client.solo.wait(secs(9));
    let bytes = client.mine.frame(&proof());
    client.solo.feed_bytes(&bytes[..bytes.len() - 1]);
    assert_eq!(
        client.solo.next_deadline(),
        Some(secs(1)),
        "however bytes are spread"
    );
    client.solo.wait(secs(1));
    assert!(client.solo.connection.is_closed());
    assert_eq!(client.solo.closed(), timeout);
    // In time is in time; and then there is none.
    let mut client = ByHand::await_proof(config());
    client.solo.wait(secs(9));
    client.feed(&proof());
    client.solo.wait(secs(100));
    assert_eq!(client.solo.connection.state(), State::Established);
}

#[test]
fn the_application_can_leave_and_nothing_else() {
    for aborts in [false, true] {
        let mut client = waiting();
        assert_eq!(client.solo.events(), []);
        let text = Message::text("too early");
        for message in [text, Message::binary(vec![7; 100_000])] {
            let refused = client.solo.connection.send(START, message.clone());
            assert_eq!(refused, Err(SendError::NotEstablished(message)));
        }
        let opened = client.solo.connection.open(START, Transfer::new(IMAGE));
        assert!(
            matches!(opened, Err(OpenError::NotEstablished)),
            "{opened:?}"
        );
        client.solo.connection.send_error(START, "too early");
        assert_eq!(client.solo.sent_bytes(), [[0; 0]; 0]);
        assert_eq!(client.solo.connection.outbox_bytes(), 0);
        if aborts {
            client.solo.connection.abort(START, "enough");
        } else {
            client.solo.connection.close(START, "enough");
        }
        assert!(client.solo.connection.is_closed());
        let reason = "enough".into();
        assert_eq!(client.solo.closed(), CloseReason::Local { reason });
        assert_eq!(client.solo.sent_bytes(), [[0; 0]; 0], "it says nothing");
    }
}

/// What comes behind the proof in the same read is what it is, and what comes before it is not.
#[test]
fn nothing_is_delivered_before_the_proof() {
    let message = frame(FrameKind::Message, "hello");
    let mut client = waiting();
    let stream = [client.mine.frame(&proof()), client.mine.frame(&message)].concat();
    for byte in &stream[..stream.len() - 1] {
        client.solo.feed_bytes(&[*byte]);
    }
    assert_eq!(client.solo.events(), [ESTABLISHED]);
    client.solo.feed_bytes(&stream[stream.len() - 1..]);
    let hello = || Event::Message(Message::text("hello"));
    assert_eq!(client.solo.events(), [hello()]);

    let mut client = waiting();
    client.solo.feed_bytes(&stream);
    assert_eq!(client.solo.events(), [ESTABLISHED, hello()]);

    let mut client = waiting();
    let stream = [client.mine.frame(&message), client.mine.frame(&proof())].concat();
    let error = ProtocolError::Unexpected(FrameKind::Message);
    assert_eq!(end_with(&mut client, &stream), CloseReason::Protocol(error));
    // In the right numbers, but swapped.
    let mut client = waiting();
    let [first, second] = [client.mine.frame(&proof()), client.mine.frame(&message)];
    assert_eq!(end_with(&mut client, &[second, first].concat()), MAC);
}

/// A second proof, and a third handshake, have no place in an established session.
#[test]
fn a_proof_is_one() {
    let mut client = waiting();
    client.feed(&proof());
    client.feed(&proof());
    assert_eq!(
        kinds(&client.sent()),
        [FrameKind::Error, FrameKind::Disconnect]
    );
    client.solo.connection.handle_eof(START);
    let error = ProtocolError::Unexpected(FrameKind::SessionAck);
    let ends = Event::Closed(CloseReason::Protocol(error));
    assert_eq!(client.solo.events(), [ESTABLISHED, ends]);
}

/// A proof chooses nothing: what was agreed on stands in the frames before it.
#[test]
fn a_proof_changes_nothing_of_what_was_agreed_on() {
    let mut offered = Extensions::default();
    offered.ping = Some(15_000);
    let mut client = ByHand::await_proof_with(no_timers(), offered);
    let mut loud = proof();
    loud.extra = Extra::Extensions(every_extension());
    client.feed(&loud);
    assert_eq!(client.solo.connection.state(), State::Established);
    let agreed = client.solo.connection.peer_extensions();
    assert!(!agreed.coalesce && agreed.chunk.is_none(), "{agreed:?}");
}

/// Padded or not: a peer that negotiated nothing else pads the proof too.
#[test]
fn a_proof_is_padded_for_who_needs_that() {
    for coalesce in [true, false] {
        let mut extensions = every_extension();
        extensions.coalesce = coalesce;
        let config = Config::default().heartbeat(None);
        let mut server = ByHand::established_with(Role::Server, config, extensions);
        assert_eq!(server.solo.connection.security(), Security::Sec);
        server.solo.send(Message::text("hello"));
        let frames = server.solo.sent_bytes();
        assert_eq!(frames[0].len() < 1024, coalesce);
        server.theirs.read(&frames.concat());
    }
}

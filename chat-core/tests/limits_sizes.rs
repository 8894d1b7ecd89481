//! Every size and number of PROTOCOL.md §9, and of the settings, one below its limit, at it, and one
//! above. What other files have at these points is not tried again:
//!
//! | limit | file |
//! |---|---|
//! | JSON header and content of any frame, 65,536 and 10,485,760 bytes; padding | `frame.rs` |
//! | levels and keys of a JSON header | `json.rs`, `differential_frames.rs` |
//! | parameters of extensions, integers | `ext_values.rs`, `differential_frames.rs` |
//! | texts of errors, reasons and refusals, 1,024 bytes | `texts.rs`, `closing.rs` |
//! | answers that wait, 16 | `outbox.rs` |
//! | rates and bursts | `rates.rs`; errors: `too_many_errors.rs` |
//! | bytes that are signed ahead | `sec_sequence.rs` |
//! | `min_rate` of 0 | `slow.rs` |
//! | all deadlines | `limits_times.rs`; with traffic: `timers.rs`, `liveness.rs`, `slow.rs`, `transfer_deadlines.rs` |

mod support;

use bytes::Bytes;
use chat_core::frame::{
    ChunkLimits, Extensions, Extra, Frame, FrameError, FrameKind, HeaderFault, MAX_INTEGER,
};
use chat_core::{
    CloseReason, Config, ContentType, Event, Message, OpenError, ProtocolError, Receive, Role,
    SendError, State, Transfer, WriteError,
};

use support::chunk::{
    IMAGE, begin, data, end, every_extension, negotiated, said, streams, with_streams,
};
use support::conversation::ROLES;
use support::{SESSION, Solo, encode, frame, kinds, no_timers, raw_frame};

/// One below, at, and one above, and whether that is taken.
fn around(limit: usize) -> [(usize, bool); 3] {
    [(limit - 1, true), (limit, true), (limit + 1, false)]
}

/// Why it ended; it must have.
#[track_caller]
fn why(solo: &mut Solo) -> ProtocolError {
    solo.sent_bytes();
    solo.connection.handle_eof(solo.now);
    match solo.events().pop() {
        Some(Event::Closed(CloseReason::Protocol(error))) => error,
        other => panic!("not an end for the peer's fault: {other:?}"),
    }
}

/// It goes on, or has ended for that.
#[track_caller]
fn goes_on(solo: &mut Solo, expected: bool, or: impl Fn(&ProtocolError) -> bool) {
    let state = solo.connection.state();
    assert_eq!(state == State::Established, expected, "{state:?}");
    if !expected {
        let error = why(solo);
        assert!(or(&error), "{error:?}");
    }
}

/// A peer that has other limits for pieces.
fn peer(limits: impl Fn(ChunkLimits) -> ChunkLimits) -> Extensions {
    let mut extensions = with_streams();
    extensions.chunk = extensions.chunk.map(limits);
    extensions
}

/// The content of a greeting, and its JSON header, made so long by a key that means nothing.
#[test]
fn frames_of_a_handshake_are_small() {
    for role in ROLES {
        let kind = match role {
            Role::Client => "session_init",
            Role::Server => "session_ack",
        };
        let start = format!(
            "{{\"type\":\"{kind}\",\"content_type\":\"a\",\"session_id\":\"{SESSION}\",\"x\":\""
        );
        for (len, taken) in around(4_096) {
            let json = format!("{start}{}\"}}", "x".repeat(len - start.len() - 2));
            assert_eq!(json.len(), len);
            let mut solo = Solo::new(role, no_timers());
            solo.feed_bytes(&raw_frame(json.as_bytes(), b"content"));
            goes_on(&mut solo, taken, |error| {
                matches!(
                    error,
                    ProtocolError::Frame(FrameError::HeaderTooLarge {
                        len: 4_097,
                        max: 4_096
                    })
                )
            });
        }
        for (len, taken) in around(1_024) {
            let mut solo = Solo::new(role, no_timers());
            let json = format!("{start}\"}}");
            solo.feed_bytes(&raw_frame(json.as_bytes(), &vec![7; len]));
            goes_on(&mut solo, taken, |error| {
                matches!(
                    error,
                    ProtocolError::Frame(FrameError::ContentTooLarge {
                        len: 1_025,
                        max: 1_024
                    })
                )
            });
        }
    }
}

#[test]
fn a_json_header_of_a_session_may_have_64_kib() {
    let start = format!(
        "{{\"type\":\"message\",\"content_type\":\"a\",\"session_id\":\"{SESSION}\",\"x\":\""
    );
    for (len, taken) in around(65_536) {
        let json = format!("{start}{}\"}}", "x".repeat(len - start.len() - 2));
        let mut solo = Solo::established(Role::Server, no_timers());
        solo.feed_bytes(&raw_frame(json.as_bytes(), b"content"));
        goes_on(&mut solo, taken, |error| {
            matches!(
                error,
                ProtocolError::Frame(FrameError::HeaderTooLarge { .. })
            )
        });
    }
}

#[test]
fn a_message_is_as_long_as_both_ends_take() {
    let config = || no_timers().max_content(20_000).chunks(false);
    for (len, taken) in around(20_000) {
        let mut solo = Solo::established(Role::Server, config());
        solo.feed(&frame(FrameKind::Message, vec![7; len]));
        goes_on(&mut solo, taken, |error| {
            matches!(
                error,
                ProtocolError::Frame(FrameError::ContentTooLarge { max: 20_000, .. })
            )
        });
        let message = Message::binary(vec![7; len]);
        let mut solo = Solo::established(Role::Server, config());
        let sent = solo.connection.send(solo.now, message.clone());
        let expected = if taken {
            Ok(())
        } else {
            Err(SendError::TooLarge(message))
        };
        assert!(sent == expected, "{len}");
    }
    // The peer's limit.
    let mut peer = Extensions::default();
    peer.max_content = Some(10_000);
    for (len, taken) in around(10_000) {
        let mut solo = negotiated(Role::Client, config(), peer);
        let sent = solo
            .connection
            .send(solo.now, Message::binary(vec![7; len]));
        assert_eq!(sent.is_ok(), taken, "{len}");
    }
    // Other frames have 8 KiB whatever is set.
    for (len, taken) in around(8 * 1024) {
        let mut solo = Solo::established(Role::Client, config().max_content(1));
        solo.feed(&frame(FrameKind::Error, vec![b'x'; len]));
        goes_on(&mut solo, taken, |error| {
            matches!(error, ProtocolError::Frame(_))
        });
    }
}

/// What an end offers, by its settings.
fn offer(config: Config) -> Extensions {
    let sent = Solo::new(Role::Server, config).sent();
    match sent[0].extra {
        Extra::Extensions(offer) => offer,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn settings_below_and_above_what_can_be_are_what_can_be() {
    for (set, is) in [
        (0, 1),
        (1, 1),
        (2, 2),
        (10_485_759, 10_485_759),
        (10_485_760, 10_485_760),
        (10_485_761, 10_485_760),
    ] {
        let offer = offer(no_timers().max_content(set));
        assert_eq!(offer.max_content, Some(is), "max_content {set}");
    }
    for (set, is) in [(2_999, 3_000), (3_000, 3_000), (3_001, 3_001)] {
        let timeout = Some(support::millis(set));
        assert_eq!(offer(no_timers().ping_timeout(timeout)).ping, Some(is));
    }
    let chunk = |config: Config| offer(config).chunk.expect("it was offered");
    for (set, is) in [(65_535, 65_536), (65_536, 65_536), (65_537, 65_537)] {
        assert_eq!(chunk(no_timers().window(set)).window, is);
    }
    for (set, is) in [(0, 1), (1, 1), (2, 2)] {
        assert_eq!(chunk(no_timers().max_transfers(set)).transfers, is);
        let message = chunk(no_timers().max_message(set.into())).message;
        assert_eq!(message, Some(is.into()));
    }
    for (set, is) in [
        (MAX_INTEGER - 1, MAX_INTEGER - 1),
        (MAX_INTEGER, MAX_INTEGER),
        (MAX_INTEGER + 1, MAX_INTEGER),
    ] {
        assert_eq!(chunk(no_timers().max_message(set)).message, Some(is));
    }
}

#[test]
fn an_inbox_is_full_when_its_events_cost_as_much() {
    // What `Config::max_inbox` counts: content, content type and overhead.
    let message = Message::text("payload");
    let cost = message.content().len() + message.content_type().len() + 128;
    for (max, has_room) in [(cost - 1, false), (cost, false), (cost + 1, true)] {
        let mut solo = Solo::established(Role::Client, no_timers().max_inbox(max));
        solo.feed(&frame(FrameKind::Message, "payload"));
        assert_eq!(solo.connection.wants_input(), has_room, "{max}");
        let another = encode(&frame(FrameKind::Message, "payload"));
        let taken = solo.connection.handle_input(solo.now, &another);
        assert_eq!(taken, if has_room { another.len() } else { 0 }, "{max}");
    }
}

#[test]
fn an_outbox_is_full_when_its_frames_cost_more() {
    let queued = |max: usize| {
        let mut solo = Solo::established(Role::Client, no_timers().max_outbox(max));
        solo.send(Message::text("one"));
        solo
    };
    let both = {
        let mut solo = queued(usize::MAX);
        solo.send(Message::text("two"));
        solo.connection.outbox_bytes()
    };
    for (max, has_room) in [(both - 1, false), (both, true), (both + 1, true)] {
        let mut solo = queued(max);
        let message = Message::text("two");
        let sent = solo.connection.send(solo.now, message.clone());
        let expected = if has_room {
            Ok(())
        } else {
            Err(SendError::Full(message))
        };
        assert_eq!(sent, expected, "{max}");
        // An error is dropped where it has no room: its frame is as long.
        let mut solo = queued(max);
        solo.connection.send_error(solo.now, "two");
        assert_eq!(solo.sent().len(), 1 + usize::from(has_room), "{max}");
    }
}

/// Messages in pieces have as much room again.
#[test]
fn messages_in_pieces_wait_for_room_of_their_own() {
    // So that the first is not sent: its bytes wait.
    let stuck = peer(|limits| ChunkLimits {
        size: 1_024,
        window: 4_096,
        ..limits
    });
    let queued = |max: usize| {
        let mut solo = negotiated(Role::Client, no_timers().max_outbox(max), stuck);
        solo.send(Message::binary(vec![7; 14_096]));
        solo
    };
    for (max, has_room) in [(19_999, false), (20_000, true), (20_001, true)] {
        let mut solo = queued(max);
        // 10,000 bytes of the first are in no frame yet.
        let sent = solo
            .connection
            .send(solo.now, Message::binary(vec![8; 10_000]));
        assert_eq!(sent.is_ok(), has_room, "{max}: {sent:?}");
    }
}

#[test]
fn a_frame_is_padded_to_1024_bytes_and_no_further() {
    let empty = 64 + encode(&frame(FrameKind::Message, "x")).len() - 65;
    for (natural, len) in [(1_023, 1_024), (1_024, 1_024), (1_025, 1_025)] {
        let mut solo = Solo::established(Role::Client, no_timers());
        solo.send(Message::text("x".repeat(natural - empty)));
        let sent = solo.sent_bytes();
        assert_eq!(sent[0].len(), len, "{natural}");
    }
}

#[test]
fn a_message_goes_in_pieces_above_the_threshold() {
    let config = || no_timers().chunk_threshold(8 * 1024);
    for (len, in_one) in around(8 * 1024) {
        let mut solo = negotiated(Role::Client, config(), every_extension());
        let message = Message::binary(vec![7; len]);
        assert_eq!(solo.connection.is_chunked(&message), !in_one);
        solo.send(message);
        assert_eq!(
            kinds(&solo.sent())[0] == FrameKind::Message,
            in_one,
            "{len}"
        );
    }
}

/// The lengths of the pieces of a message of 200,000 bytes.
fn pieces_of(config: Config, peer: Extensions) -> Vec<usize> {
    let mut solo = negotiated(Role::Client, config, peer);
    solo.send(Message::binary(vec![7; 200_000]));
    let sent = solo.sent();
    sent[1..sent.len() - 1]
        .iter()
        .map(|frame| frame.content.len())
        .collect()
}

#[test]
fn pieces_are_as_long_as_both_ends_allow() {
    for (set, is) in [
        (1_023, 1_024),
        (1_024, 1_024),
        (1_025, 1_025),
        (65_535, 65_535),
        (65_536, 65_536),
        (65_537, 65_536),
    ] {
        let pieces = pieces_of(no_timers().chunk_size(set), every_extension());
        assert_eq!(pieces[0], is, "{set}");
        assert_eq!(pieces.iter().sum::<usize>(), 200_000);
    }
    for (theirs, is) in [(1_999, 1_999), (2_000, 2_000), (2_001, 2_000)] {
        let size = peer(|limits| ChunkLimits {
            size: theirs,
            ..limits
        });
        assert_eq!(pieces_of(no_timers().chunk_size(2_000), size)[0], is);
    }
}

#[test]
fn a_piece_may_have_64_kib() {
    for config in [no_timers(), streams()] {
        for (len, taken) in around(65_536) {
            let mut solo = negotiated(Role::Server, config.clone(), with_streams());
            solo.feed_all(&[begin(1, None), data(1, 0, vec![7; len])]);
            goes_on(&mut solo, taken, |error| *error == ProtocolError::Window);
        }
    }
}

#[test]
fn a_window_is_used_to_its_last_byte() {
    for (last, taken) in [(1_023, true), (1_024, true), (1_025, false)] {
        let config = streams().window(65_536);
        let mut solo = negotiated(Role::Server, config, with_streams());
        solo.feed_all(&[
            begin(1, None),
            data(1, 0, vec![7; 64_512]),
            data(1, 64_512, vec![7; last]),
        ]);
        goes_on(&mut solo, taken, |error| *error == ProtocolError::Window);
    }
    // A sender stops where less than 1,024 are left of what its peer takes.
    for (window, sent) in [(5_119_u32, 4_096), (5_120, 5_120), (5_121, 5_120)] {
        let small = peer(|limits| ChunkLimits {
            size: 1_024,
            window,
            ..limits
        });
        let mut solo = negotiated(Role::Client, no_timers(), small);
        solo.send(Message::binary(vec![7; 10_000]));
        let pieces = solo.sent();
        let sum: usize = pieces[1..].iter().map(|frame| frame.content.len()).sum();
        assert_eq!(sum, sent, "{window}");
    }
}

#[test]
fn so_many_transfers_are_open_at_a_time() {
    for config in [no_timers(), streams()] {
        for (count, taken) in around(5) {
            let mut solo = negotiated(
                Role::Server,
                config.clone().max_transfers(5),
                with_streams(),
            );
            for n in 0..count {
                solo.feed(&begin(2 * n as u64 + 1, None));
            }
            goes_on(&mut solo, taken, |error| {
                *error == ProtocolError::TooManyTransfers
            });
        }
    }
    // Of its own it begins as many as its peer takes, and as it takes itself.
    for (theirs, ours, begun) in [(3, 4, 3), (4, 4, 4), (5, 4, 4)] {
        let some = peer(|limits| ChunkLimits {
            transfers: theirs,
            ..limits
        });
        let mut solo = negotiated(Role::Client, no_timers().max_transfers(ours), some);
        for _ in 0..6 {
            let opened = solo.connection.open(solo.now, Transfer::new(IMAGE));
            assert!(opened.is_ok(), "{opened:?}");
        }
        assert_eq!(solo.sent().len(), begun);
    }
}

#[test]
fn a_message_is_put_together_up_to_the_largest() {
    let config = || no_timers().max_message(3_000);
    for (len, taken) in around(3_000) {
        for declared in [None, Some(len as u64)] {
            let mut solo = negotiated(Role::Server, config(), with_streams());
            solo.feed(&begin(1, declared));
            solo.feed_all(&[data(1, 0, vec![7; len]), end(1, len as u64)]);
            let messages = solo.events();
            assert_eq!(messages.len(), usize::from(taken), "{len}, {declared:?}");
            let sent: Vec<Frame> = solo.sent();
            assert_eq!(sent.len(), 1);
            assert_eq!(said(&sent[0]).0, 1);
        }
        // What is sent, by one's own limit and by that of the peer.
        let message = Message::binary(vec![7; len]);
        let small = || no_timers().max_content(1_000);
        let limited = peer(|limits| ChunkLimits {
            message: Some(3_000),
            ..limits
        });
        for (config, peer) in [
            (small().max_message(3_000), with_streams()),
            (small(), limited),
        ] {
            let mut solo = negotiated(Role::Client, config, peer);
            assert_eq!(solo.connection.max_message(), 3_000);
            let sent = solo.connection.send(solo.now, message.clone());
            let expected = if taken {
                Ok(())
            } else {
                Err(SendError::TooLarge(message.clone()))
            };
            assert!(sent == expected, "{len}");
        }
        let mut solo = negotiated(Role::Client, small(), limited);
        let transfer = Transfer::new(IMAGE).total(len as u64);
        let opened = solo.connection.open(solo.now, transfer).map(|_| ());
        let expected = if taken {
            Ok(())
        } else {
            Err(OpenError::TooLarge { max: 3_000 })
        };
        assert_eq!(opened, expected);
    }
}

/// A stream has as many bytes as it was said to have.
#[test]
fn a_declared_size_is_neither_more_nor_less() {
    for (len, finished) in [
        (99, Err(WriteError::Size)),
        (100, Ok(())),
        (101, Err(WriteError::Size)),
    ] {
        let mut solo = negotiated(Role::Client, streams(), with_streams());
        let now = solo.now;
        let id = solo.connection.open(now, Transfer::new(IMAGE).total(100));
        let id = id.expect("the peer takes it");
        let wrote = solo.connection.write(now, id, Bytes::from(vec![7; len]));
        assert_eq!(wrote.is_err(), len > 100);
        assert_eq!(solo.connection.finish(now, id), finished, "{len}");
    }
}

/// 128 KiB of a stream wait to be sent, and then no more are taken.
#[test]
fn a_stream_takes_bytes_as_long_as_it_has_any_room() {
    let stuck = peer(|limits| ChunkLimits {
        size: 1_024,
        window: 4_096,
        ..limits
    });
    for (len, room) in [(131_071, 1), (131_072, 0), (131_073, 0)] {
        let mut solo = negotiated(Role::Client, streams(), stuck);
        let now = solo.now;
        let id = solo.connection.open(now, Transfer::new(IMAGE));
        let id = id.expect("the peer takes it");
        // The window takes the first of them.
        let wrote = solo.connection.write(now, id, vec![7; 4_096 + len].into());
        assert_eq!(wrote, Ok(()));
        assert_eq!(solo.connection.writable(id), room, "{len}");
        let wrote = solo.connection.write(now, id, vec![7; 9_000].into());
        let expected = if room > 0 {
            Ok(())
        } else {
            Err(WriteError::Full)
        };
        assert_eq!(wrote, expected);
    }
}

#[test]
fn a_content_type_that_is_sent_has_up_to_8_kib() {
    for (len, taken) in around(8 * 1024) {
        let content_type = ContentType::from("x".repeat(len));
        let mut solo = negotiated(Role::Client, streams(), with_streams());
        let message = Message::new(content_type.clone(), "payload");
        let sent = solo.connection.send(solo.now, message.clone());
        let expected = if taken {
            Ok(())
        } else {
            Err(SendError::TooLarge(message))
        };
        assert!(sent == expected, "{len}");
        let opened = solo.connection.open(solo.now, Transfer::new(content_type));
        let expected = if taken {
            Ok(())
        } else {
            Err(OpenError::ContentType)
        };
        assert_eq!(opened.map(|_| ()), expected);
    }
}

#[test]
fn a_name_has_up_to_1024_bytes() {
    for (len, taken) in around(1_024) {
        let name = "x".repeat(len);
        let transfer = Transfer::new(IMAGE).name(&name);
        assert_eq!(transfer.file_name(), Some(&name[..len.min(1_024)]));
        let json = format!(
            "{{\"type\":\"chunk\",\"content_type\":\"a\",\"session_id\":\"{SESSION}\",\
             \"chunk\":{{\"id\":1,\"op\":\"begin\",\"name\":\"{name}\"}}}}"
        );
        let mut solo = negotiated(Role::Server, streams(), with_streams());
        solo.feed_bytes(&raw_frame(json.as_bytes(), b"begin"));
        let bad = FrameError::HeaderJson(HeaderFault::BadChunk);
        goes_on(&mut solo, taken, |error| *error == bad.into());
    }
}

/// 8 KiB of a goodbye are read, and one that is longer has no reason.
#[test]
fn a_goodbye_is_read_up_to_8_kib() {
    for (len, read) in around(8 * 1024) {
        let start = "{\"reason\": \"tired\", \"x\": \"";
        let content = format!("{start}{}\"}}", "x".repeat(len - start.len() - 2));
        assert_eq!(content.len(), len);
        let config = no_timers().receive(Receive::Pieces);
        let mut solo = Solo::established(Role::Client, config);
        solo.feed(&frame(FrameKind::Disconnect, content));
        let reason = if read { "tired" } else { "" }.into();
        assert_eq!(solo.closed(), CloseReason::Peer { reason }, "{len}");
    }
}

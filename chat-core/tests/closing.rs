//! How connections end (PROTOCOL.md §4.2, §4.4, §4.5).

mod support;

use std::sync::Arc;

use chat_core::frame::FrameKind;
use chat_core::{
    CloseReason, Config, Connection, Entropy, Event, Instant, Message, Role, SendError, State,
};

use support::{Pair, START, Solo, encode, frame, kinds, secs};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn local(reason: &str) -> CloseReason {
    CloseReason::Local {
        reason: reason.into(),
    }
}

fn peer(reason: &str) -> CloseReason {
    CloseReason::Peer {
        reason: reason.into(),
    }
}

fn refused_client(reason: &str, config: &Config) -> Pair {
    let config = Arc::new(config.clone());
    Pair::of(
        Connection::client(Arc::clone(&config), Entropy::new([1; 32]), START),
        Connection::refuse(config, reason, START),
    )
}

#[test]
fn either_side_says_goodbye_and_both_know_why() {
    for role in ROLES {
        let mut pair = Pair::established(Config::default());
        pair.close(role, "that was all");
        pair.run_to_end();
        assert_eq!(pair.end(role).closed(), Some(&local("that was all")));
        assert_eq!(pair.peer(role).closed(), Some(&peer("that was all")));
        assert_eq!(pair.now, START, "no deadline was needed");
    }
}

#[test]
fn what_is_queued_goes_before_the_goodbye() {
    for role in ROLES {
        let mut pair = Pair::established(Config::default());
        pair.link(role).capacity = 100;
        for n in 0..20 {
            assert_eq!(pair.send(role, Message::text(format!("{n}"))), Ok(()));
        }
        pair.close(role, "that was all");
        pair.run_to_end();
        let sent: Vec<Message> = (0..20).map(|n| Message::text(format!("{n}"))).collect();
        assert!(pair.peer(role).messages().eq(&sent));
        assert_eq!(pair.peer(role).closed(), Some(&peer("that was all")));
        let last = pair.link(role).sent.last().expect("a goodbye");
        assert_eq!(last.frame.kind, FrameKind::Disconnect);
    }
}

#[test]
fn both_may_say_goodbye_at_once() {
    let mut pair = Pair::established(Config::default());
    pair.close(Role::Client, "enough");
    pair.close(Role::Server, "closing time");
    pair.run_to_end();
    assert_eq!(pair.client.closed(), Some(&local("enough")));
    assert_eq!(pair.server.closed(), Some(&local("closing time")));
    assert_eq!(pair.now, START);
}

#[test]
fn a_closing_connection_discards_what_arrives() {
    for role in ROLES {
        let mut solo = Solo::established(role, Config::default());
        solo.connection.close(START, "enough");
        assert_eq!(kinds(&solo.sent()), [FrameKind::Disconnect]);
        solo.feed(&frame(FrameKind::Message, "too late"));
        solo.feed(&frame(FrameKind::Heartbeat, "ping"));
        solo.feed(&frame(FrameKind::Disconnect, "{}"));
        solo.feed_bytes(b"no frame");
        assert_eq!(solo.sent(), []);
        assert_eq!(solo.connection.state(), State::Closing);
        solo.connection.handle_eof(START);
        assert_eq!(solo.closed(), local("enough"));
    }
}

#[test]
fn a_closing_connection_waits_for_both_directions() {
    for eof_first in [false, true] {
        let mut solo = Solo::established(Role::Client, Config::default());
        solo.connection.close(START, "enough");
        assert!(!solo.connection.is_write_finished());
        if eof_first {
            solo.connection.handle_eof(START);
        } else {
            solo.sent();
            assert!(solo.connection.is_write_finished());
        }
        assert_eq!(solo.connection.state(), State::Closing);
        assert_eq!(solo.events(), []);
        if eof_first {
            solo.sent();
        } else {
            solo.connection.handle_eof(START);
        }
        assert_eq!(solo.closed(), local("enough"));
        assert!(solo.connection.is_write_finished());
    }
}

#[test]
fn a_closing_connection_reads_although_nobody_polls_events() {
    let config = Config::default().max_inbox(1);
    let mut solo = Solo::established(Role::Client, config);
    solo.feed(&frame(FrameKind::Message, "unread"));
    assert!(!solo.connection.wants_input());
    solo.connection.close(START, "enough");
    assert!(solo.connection.wants_input());
    solo.feed(&frame(FrameKind::Message, "too late"));
    assert_eq!(solo.events(), [Event::Message(Message::text("unread"))]);
}

#[test]
fn closing_twice_changes_nothing() {
    let mut pair = Pair::established(Config::default());
    pair.close(Role::Client, "first");
    pair.close(Role::Client, "second");
    pair.client.connection.abort(START, "third");
    pair.run_to_end();
    pair.close(Role::Client, "fourth");
    pair.client.poll_events();
    assert_eq!(pair.client.closed(), Some(&local("first")));
    assert_eq!(pair.server.closed(), Some(&peer("first")));
    assert_eq!(pair.up.sent.len(), 1);
}

#[test]
fn closing_before_the_session_is_established_ends_it_without_a_word() {
    for role in ROLES {
        for close in [Connection::close, Connection::abort] {
            let mut solo = Solo::new(role, Config::default());
            close(&mut solo.connection, START, "changed my mind");
            assert_eq!(solo.closed(), local("changed my mind"));
            assert_eq!(solo.sent(), []);
            assert_eq!(solo.connection.poll_timeout(), None);
        }
    }
}

#[test]
fn nothing_can_be_sent_after_the_goodbye() {
    let mut solo = Solo::established(Role::Client, Config::default());
    let late = Message::text("late");
    solo.connection.close(START, "enough");
    let refused = solo.connection.send(START, late.clone());
    assert_eq!(refused, Err(SendError::Closed(late.clone())));
    solo.connection.send_error(START, "late");
    assert_eq!(kinds(&solo.sent()), [FrameKind::Disconnect]);
    solo.connection.handle_eof(START);
    let refused = solo.connection.send(START, late.clone());
    assert_eq!(refused, Err(SendError::Closed(late)));
    assert_eq!(solo.sent(), []);
}

#[test]
fn abort_drops_what_is_queued_but_finishes_the_frame_begun() {
    for begun in [0, 1, 1023] {
        let mut solo = Solo::established(Role::Server, Config::default());
        for text in ["one", "two", "three"] {
            solo.send(Message::text(text));
        }
        let mut bytes = solo.take(begun);
        solo.connection.abort(START, "now");
        bytes.extend(solo.sent_bytes().concat());
        let sent = support::whole(&bytes);
        assert_eq!(sent.end, Ok(0));
        let expected: &[FrameKind] = if begun > 0 {
            assert_eq!(sent.frames[0], frame(FrameKind::Message, "one"));
            &[FrameKind::Message, FrameKind::Disconnect]
        } else {
            &[FrameKind::Disconnect]
        };
        assert_eq!(kinds(&sent.frames), expected);
        assert_eq!(solo.connection.outbox_bytes(), 0);
        solo.connection.handle_eof(START);
        assert_eq!(solo.closed(), local("now"));
    }
}

#[test]
fn a_stream_that_ends_without_a_goodbye_was_cut() {
    let bytes = encode(&frame(FrameKind::Message, "hello"));
    for role in ROLES {
        for (arrived, mid_frame) in [(0, false), (1, true), (bytes.len() - 1, true)] {
            for established in [false, true] {
                let mut solo = if established {
                    Solo::established(role, Config::default())
                } else {
                    Solo::new(role, Config::default())
                };
                solo.feed_bytes(&bytes[..arrived]);
                solo.connection.handle_eof(START);
                assert_eq!(solo.closed(), CloseReason::Eof { mid_frame });
            }
        }
    }
}

#[test]
fn the_end_of_the_stream_after_a_whole_frame_is_not_within_one() {
    let mut solo = Solo::established(Role::Client, Config::default());
    solo.feed(&frame(FrameKind::Message, "hello"));
    solo.connection.handle_eof(START);
    let closed = Event::Closed(CloseReason::Eof { mid_frame: false });
    let message = Event::Message(Message::text("hello"));
    assert_eq!(solo.events(), [message, closed]);
}

#[test]
fn a_transport_error_ends_the_connection_as_it_is() {
    for role in ROLES {
        for established in [false, true] {
            let mut solo = if established {
                Solo::established(role, Config::default())
            } else {
                Solo::new(role, Config::default())
            };
            solo.connection
                .handle_transport_error(START, "reset by peer");
            let error = "reset by peer".into();
            assert_eq!(solo.closed(), CloseReason::Transport { error });
            assert_eq!(solo.sent(), []);
        }
    }
}

#[test]
fn a_transport_error_while_closing_does_not_change_the_reason() {
    let mut solo = Solo::established(Role::Client, Config::default());
    solo.connection.close(START, "enough");
    solo.connection.handle_transport_error(START, "broken pipe");
    assert_eq!(solo.closed(), local("enough"));
}

#[test]
fn nothing_comes_after_the_end() {
    let ends: [fn(&mut Connection, Instant); 4] = [
        |connection, now| connection.handle_transport_error(now, "reset"),
        |connection, now| connection.handle_eof(now),
        |connection, now| connection.close(now, "enough"),
        |connection, now| connection.handle_timeout(now + secs(1_000)),
    ];
    let mut solo = Solo::established(Role::Client, Config::default());
    solo.feed(&frame(FrameKind::Disconnect, r#"{"reason": "bye"}"#));
    assert_eq!(solo.closed(), peer("bye"));
    for end in ends {
        end(&mut solo.connection, START);
        solo.feed(&frame(FrameKind::Message, "too late"));
        assert_eq!(solo.events(), []);
        assert_eq!(solo.sent(), []);
        assert_eq!(solo.connection.poll_timeout(), None);
        assert_eq!(solo.connection.outbox_bytes(), 0);
        assert!(solo.connection.is_closed());
    }
}

#[test]
fn whoever_hears_goodbye_closes_at_once_and_drops_what_it_had_not_sent() {
    let mut solo = Solo::established(Role::Server, Config::default());
    solo.send(Message::text("unsent"));
    solo.feed(&frame(FrameKind::Disconnect, r#"{"reason": "bye"}"#));
    assert_eq!(solo.closed(), peer("bye"));
    assert_eq!(solo.sent(), []);
}

#[test]
fn a_refused_client_hears_why() {
    let mut pair = refused_client("the server is full", &Config::default());
    pair.run_to_end();
    let reason = "the server is full".into();
    assert_eq!(pair.client.closed(), Some(&CloseReason::Refused { reason }));
    assert_eq!(pair.server.closed(), Some(&local("the server is full")));
    assert_eq!(pair.now, START);
}

#[test]
fn a_refusal_is_one_small_frame_of_no_session() {
    for reason in ["full", &"x".repeat(5000), &"\u{20ac}".repeat(5000), ""] {
        let mut pair = refused_client(reason, &Config::default());
        pair.settle();
        let [refusal] = &pair.down.sent[..] else {
            panic!("not one frame");
        };
        assert_eq!(refusal.frame.kind, FrameKind::Error);
        assert_eq!(refusal.frame.session, None);
        // PROTOCOL.md §4.2: at most 1,024 bytes in all, and not padded.
        assert!(refusal.len <= 1024, "{} bytes", refusal.len);
        assert_eq!(refusal.len, encode(&refusal.frame).len());
        let text = core::str::from_utf8(&refusal.frame.content).expect("whole characters");
        assert!(text.starts_with(&reason[..reason.floor_char_boundary(800)]));
    }
}

#[test]
fn a_refusing_server_takes_no_session() {
    let config = Arc::new(Config::default());
    let mut server = Connection::refuse(config, "full", START);
    assert_eq!(server.state(), State::Closing);
    let ack = encode(&frame(FrameKind::SessionAck, "Session acknowledged"));
    assert_eq!(server.handle_input(START, &ack), ack.len());
    assert_eq!(server.state(), State::Closing);
    assert_eq!(server.session(), None);
    server.handle_timeout(START + secs(5));
    assert_eq!(server.poll_event(), Some(Event::Closed(local("full"))));
}

//! What is signed before it leaves: enough for one write, and little enough not to hold up an
//! answer (PROTOCOL.md §4.7, §5.2).

mod support;

use chat_core::frame::FrameKind;
use chat_core::{Message, Role};

use support::sec::{ByHand, frames_of};
use support::{frame, no_timers};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// How much may be signed already, in bytes.
const AHEAD: usize = 72 * 1024;

/// All the bytes that one call shows where there is any number of slices.
fn shown(end: &ByHand) -> Vec<u8> {
    let mut slices = [&[][..]; 256];
    let count = end.solo.connection.poll_transmit(&mut slices);
    slices[..count].concat()
}

/// An end with so many messages queued, each of which is a frame of some 4 KiB.
fn loaded(role: Role, messages: u32) -> ByHand {
    let mut end = ByHand::established(role, no_timers().max_outbox(1 << 22));
    for n in 0..messages {
        let message = n.to_be_bytes().repeat(1_000);
        end.solo.send(Message::binary(message));
    }
    end
}

#[test]
fn one_call_shows_many_frames_of_a_session_with_sec() {
    for role in ROLES {
        let mut end = loaded(role, 10);
        let bytes = shown(&end);
        assert_eq!(frames_of(&bytes).len(), 10);
        let frames = end.theirs.read(&bytes);
        assert!(frames.iter().all(|it| it.kind == FrameKind::Message));
        end.solo
            .connection
            .consume_transmit(end.solo.now, bytes.len());
        assert_eq!(end.solo.connection.outbox_bytes(), 0);
        assert_eq!(end.solo.connection.stats().messages_sent, 10);
    }
}

#[test]
fn one_call_shows_as_much_as_may_be_signed_ahead() {
    for role in ROLES {
        let mut end = loaded(role, 100);
        let mut calls = 0;
        let mut frames = Vec::new();
        loop {
            let bytes = shown(&end);
            if bytes.is_empty() {
                break;
            }
            let sent = frames_of(&bytes);
            // What is being sent is not counted.
            assert!(bytes.len() - sent[0].len() <= AHEAD, "{}", bytes.len());
            frames.extend(end.theirs.read(&bytes));
            end.solo
                .connection
                .consume_transmit(end.solo.now, bytes.len());
            calls += 1;
        }
        assert_eq!(frames.len(), 100);
        let total = 100 * 4_000;
        assert!(calls <= total / (AHEAD - 5_000) + 1, "{calls} calls");
    }
}

#[test]
fn an_answer_goes_behind_what_is_signed_and_before_the_rest() {
    for role in ROLES {
        for taken in [0, 1, 4_000, 50_000, 200_000] {
            let mut end = loaded(role, 100);
            let mut bytes = Vec::new();
            while bytes.len() < taken {
                let left = taken - bytes.len();
                bytes.extend(end.solo.take(left.min(10_000)));
            }
            end.feed(&frame(FrameKind::Heartbeat, "ping"));
            bytes.extend(end.solo.sent_bytes().concat());
            let frames = frames_of(&bytes);
            let kinds: Vec<FrameKind> = end.theirs.read(&bytes).iter().map(|it| it.kind).collect();
            let pong = kinds.iter().position(|kind| *kind == FrameKind::Heartbeat);
            let pong = pong.expect("an answer");
            let before: usize = frames[..pong].iter().map(Vec::len).sum();
            let largest = frames[0].len();
            assert!(before <= taken + largest + AHEAD, "{before} after {taken}");
            assert_eq!(frames.len(), 101);
        }
    }
}

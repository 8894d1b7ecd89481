//! Every input and every command in every state, and in the corners of states: each alone and each after
//! each other. The cells of PROTOCOL.md §7, `states.rs` has; here it is what holds for all of them.

mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use bytes::Bytes;
use chat_core::frame::{Frame, FrameKind};
use chat_core::{
    CloseReason, ContentType, Event, Message, OpenError, Read, Role, SendError, State, Transfer,
    TransferError, TransferId, WriteError,
};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

use support::chunk::{
    IMAGE, abort, begin, data, done, end, image, negotiated, window, with_streams,
};
use support::conversation::ROLES;
use support::corners::{Case, cases, first_ids};
use support::{FOREIGN, LONG, Solo, encode, frame, no_timers, property, secs};

/// What can happen to a connection, or be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// A frame of the session, of another one, of none.
    Frame(FrameKind, Whose),
    /// Of a transfer of its peer's.
    Begin,
    Data,
    End,
    Abort,
    /// Of one of its own.
    Window,
    Done,
    TheirAbort,
    Ping,
    Garbage,
    Half,
    Nothing,
    Eof,
    TransportError,
    /// The clock: as it is, as it was, to the next deadline, and far beyond.
    Now,
    Before,
    Due,
    Later,
    TakeNothing,
    TakeOne,
    TakeAll,
    Poll,
    Send,
    SendInPieces,
    SendEmpty,
    SendTooLarge,
    SendError,
    Open,
    OpenEmpty,
    OpenTooLarge,
    Write,
    WriteUnknown,
    Finish,
    FinishUnknown,
    CancelOwn,
    CancelTheirs,
    CancelUnknown,
    ReadTheirs,
    ReadUnknown,
    Close,
    AbortAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Other,
    Nobody,
}

fn inputs() -> Vec<Input> {
    use Input::*;

    let mut all = vec![
        Begin,
        Data,
        End,
        Abort,
        Window,
        Done,
        TheirAbort,
        Ping,
        Garbage,
        Half,
        Nothing,
        Eof,
        TransportError,
        Now,
        Before,
        Due,
        Later,
        TakeNothing,
        TakeOne,
        TakeAll,
        Poll,
        Send,
        SendInPieces,
        SendEmpty,
        SendTooLarge,
        SendError,
        Open,
        OpenEmpty,
        OpenTooLarge,
        Write,
        WriteUnknown,
        Finish,
        FinishUnknown,
        CancelOwn,
        CancelTheirs,
        CancelUnknown,
        ReadTheirs,
        ReadUnknown,
        Close,
        AbortAll,
    ];
    all.extend(FrameKind::ALL.map(|kind| Frame(kind, Whose::Ours)));
    for kind in [FrameKind::Message, FrameKind::Disconnect] {
        all.extend([Frame(kind, Whose::Other), Frame(kind, Whose::Nobody)]);
    }
    all
}

/// An id of a transfer that there never was on the connections of these tests.
fn unknown(role: Role) -> TransferId {
    static IDS: OnceLock<[TransferId; 2]> = OnceLock::new();
    IDS.get_or_init(|| ROLES.map(ninth))[role as usize]
}

fn ninth(role: Role) -> TransferId {
    let mut other = negotiated(role, no_timers(), with_streams());
    let ids = (0..9).map(|_| other.connection.open(other.now, Transfer::new(IMAGE)));
    ids.last().expect("nine").expect("the peer takes it")
}

/// What a connection must answer, whatever the state.
#[track_caller]
fn is_refused_as_it_should_be(state: State, message: &Message, result: Result<(), SendError>) {
    let (content, content_type) = (message.content(), message.content_type());
    let expected = match state {
        State::AwaitInit | State::AwaitAck | State::AwaitProof => "NotEstablished",
        State::Closing | State::Closed => "Closed",
        State::Established if content.is_empty() || content_type.is_empty() => "Empty",
        State::Established if content_type.len() > 8 * 1024 => "TooLarge",
        State::Established => "Full",
    };
    let Err(error) = result else {
        assert_eq!(expected, "Full", "it was taken");
        return;
    };
    let name = match &error {
        SendError::Full(_) => "Full",
        SendError::NotEstablished(_) => "NotEstablished",
        SendError::Closed(_) => "Closed",
        SendError::Empty(_) => "Empty",
        SendError::TooLarge(_) => "TooLarge",
        other => panic!("{other:?}"),
    };
    assert_eq!(name, expected);
    assert_eq!(error.into_message(), *message, "another message comes back");
}

fn open(case: &mut Case, transfer: Transfer) {
    let connection = &mut case.solo.connection;
    let chunk = connection.peer_extensions().chunk;
    let too_large = chunk.is_some_and(|it| it.message < transfer.size() && it.message.is_some());
    let expected = match connection.state() {
        State::AwaitInit | State::AwaitAck | State::AwaitProof => Err(OpenError::NotEstablished),
        State::Closing | State::Closed => Err(OpenError::Closed),
        State::Established if transfer.content_type().is_empty() => Err(OpenError::ContentType),
        State::Established if chunk.is_none() => Err(OpenError::Unsupported),
        State::Established if too_large => Err(OpenError::TooLarge {
            max: chunk.and_then(|it| it.message).expect("a limit"),
        }),
        State::Established => Ok(()),
    };
    let result = connection.open(case.solo.now, transfer);
    assert_eq!(result.map(|_| ()), expected);
    case.own = result.ok().or(case.own);
}

/// What arrives is taken, or the connection has said that it takes nothing.
fn arrive(solo: &mut Solo, bytes: &[u8]) {
    let taken = solo.connection.handle_input(solo.now, bytes);
    assert!(taken <= bytes.len());
    if taken < bytes.len() {
        assert!(!solo.connection.wants_input(), "it took less than it wants");
        assert!(
            !solo.connection.is_closed(),
            "a closed one takes everything"
        );
    }
}

fn frame_of(case: &mut Case, input: Input) -> Option<Vec<u8>> {
    let (own, theirs) = first_ids(case.solo.connection.role());
    let frame = match input {
        Input::Frame(kind, whose) => Frame {
            session: match whose {
                Whose::Ours => Some(support::SESSION),
                Whose::Other => Some(FOREIGN),
                Whose::Nobody => None,
            },
            ..frame(kind, "payload")
        },
        Input::Begin => begin(theirs + 2, Some(7)),
        Input::Data => data(theirs, 7, "another"),
        Input::End => end(theirs, 7),
        Input::Abort => abort(theirs, "no"),
        Input::Window => window(own, 3),
        Input::Done => done(own),
        Input::TheirAbort => abort(own, "no"),
        Input::Ping => frame(FrameKind::Heartbeat, "ping"),
        _ => return None,
    };
    Some(case.bytes(&frame))
}

/// Does it, and looks at what comes back.
fn apply(case: &mut Case, input: Input) {
    if let Some(bytes) = frame_of(case, input) {
        return arrive(&mut case.solo, &bytes);
    }
    let role = case.solo.connection.role();
    let (own, theirs) = (case.own, case.theirs);
    let now = case.solo.now;
    let state = case.solo.connection.state();
    let solo = &mut case.solo;
    let connection = &mut solo.connection;
    let mut send = |message: Message| {
        let result = connection.send(now, message.clone());
        is_refused_as_it_should_be(state, &message, result);
    };
    let over = |result: Result<(), WriteError>| {
        if state != State::Established {
            assert_eq!(result, Err(WriteError::Closed));
        }
    };
    match input {
        Input::Garbage => arrive(solo, b"garbage"),
        Input::Half => arrive(solo, &encode(&frame(FrameKind::Message, "payload"))[..77]),
        Input::Nothing => assert_eq!(connection.handle_input(now, b""), 0),
        Input::Eof => connection.handle_eof(now),
        Input::TransportError => connection.handle_transport_error(now, "reset"),
        Input::Now => connection.handle_timeout(now),
        Input::Before => connection.handle_timeout(chat_core::Instant::EPOCH),
        Input::Due => {
            solo.now = connection.poll_timeout().unwrap_or(now);
            connection.handle_timeout(solo.now);
        }
        Input::Later => {
            solo.now = now + secs(100);
            connection.handle_timeout(solo.now);
        }
        Input::TakeNothing => connection.consume_transmit(now, 0),
        Input::TakeOne => drop(solo.take(1)),
        Input::TakeAll => drop(solo.sent_bytes()),
        Input::Poll => {
            let events = solo.events();
            case.told |= events.iter().any(|it| matches!(it, Event::Closed(_)));
        }
        Input::Send => send(Message::text("payload")),
        Input::SendInPieces => send(image(9_000)),
        Input::SendEmpty => send(Message::text("")),
        Input::SendTooLarge => send(Message::new("x".repeat(8 * 1024 + 1), "payload")),
        Input::SendError => connection.send_error(now, ""),
        Input::Open => open(case, Transfer::new(IMAGE)),
        Input::OpenEmpty => open(case, Transfer::new(ContentType::from_static(""))),
        Input::OpenTooLarge => open(case, Transfer::new(IMAGE).total(u64::MAX)),
        Input::Write => {
            if let Some(own) = own {
                over(connection.write(now, own, Bytes::from_static(b"more")));
            }
        }
        Input::Finish => {
            if let Some(own) = own {
                over(connection.finish(now, own));
            }
        }
        Input::WriteUnknown => {
            let result = connection.write(now, unknown(role), Bytes::from_static(b"more"));
            assert_eq!(result, Err(WriteError::Closed));
            assert_eq!(connection.writable(unknown(role)), 0);
        }
        Input::FinishUnknown => {
            let result = connection.finish(now, unknown(role));
            assert_eq!(result, Err(WriteError::Closed));
        }
        Input::CancelOwn | Input::CancelTheirs | Input::CancelUnknown => {
            let id = match input {
                Input::CancelOwn => own,
                Input::CancelTheirs => theirs,
                _ => Some(unknown(role)),
            };
            if let Some(id) = id {
                connection.cancel(now, id, "");
            }
        }
        Input::ReadTheirs => {
            if let Some(theirs) = theirs {
                let _ = connection.read(now, theirs);
            }
        }
        Input::ReadUnknown => {
            let read = connection.read(now, unknown(role));
            assert_eq!(read, Some(Read::Failed(TransferError::Closed)));
        }
        Input::Close => connection.close(now, ""),
        Input::AbortAll => connection.abort(now, "at once"),
        other => panic!("a frame: {other:?}"),
    }
}

fn rank(state: State) -> u8 {
    match state {
        State::AwaitInit | State::AwaitAck => 0,
        State::AwaitProof => 1,
        State::Established => 2,
        State::Closing => 3,
        State::Closed => 4,
    }
}

/// What holds after everything.
fn check(case: &mut Case, before: State) {
    let connection = &mut case.solo.connection;
    connection.handle_timeout(case.solo.now);
    let due = connection.poll_timeout();
    assert!(
        due.is_none_or(|due| due > case.solo.now),
        "a deadline is left: {due:?}"
    );
    let state = connection.state();
    assert!(rank(before) <= rank(state), "{before:?} to {state:?}");
    assert_eq!(connection.is_closed(), state == State::Closed);
    if state == State::Closed {
        assert_eq!(due, None);
        assert!(connection.is_write_finished() && !connection.wants_input());
        assert_eq!(connection.outbox_bytes(), 0);
        assert_eq!(case.solo.shown(), b"");
    }
}

/// The stream ends, the transport takes everything, and time passes: there is one end, the last of the
/// events, and nothing after it.
fn finish(case: &mut Case) -> Option<CloseReason> {
    let solo = &mut case.solo;
    solo.connection.handle_eof(solo.now);
    solo.sent_bytes();
    solo.now = solo.now + LONG;
    solo.connection.handle_timeout(solo.now);
    assert_eq!(solo.connection.state(), State::Closed);
    let mut ends = Vec::new();
    let events = solo.events();
    for (at, event) in events.iter().enumerate() {
        if let Event::Closed(reason) = event {
            assert_eq!(at + 1, events.len(), "events after the end: {events:?}");
            ends.push(reason.clone());
        }
    }
    assert_eq!(ends.len(), usize::from(!case.told), "{events:?}");
    assert!(
        !case.told || events.is_empty(),
        "events after the end: {events:?}"
    );
    ends.pop()
}

/// Each input after each other, in each case, always from the beginning: a half of them.
fn every_pair(half: usize) -> usize {
    let inputs = inputs();
    let mut tried = 0;
    for (at, first) in inputs.iter().enumerate().filter(|(at, _)| at % 2 == half) {
        for second in &inputs {
            for mut case in cases() {
                let name = case.name;
                let role = case.solo.connection.role();
                let text = || format!("{role:?} {name}: {first:?} ({at}), {second:?}");
                let run = catch_unwind(AssertUnwindSafe(|| {
                    for input in [*first, *second] {
                        let before = case.solo.connection.state();
                        apply(&mut case, input);
                        check(&mut case, before);
                    }
                    finish(&mut case);
                    // Nothing comes back to life.
                    case.told = true;
                    for input in [
                        Input::Send,
                        Input::Open,
                        Input::Close,
                        Input::AbortAll,
                        *first,
                    ] {
                        apply(&mut case, input);
                        check(&mut case, State::Closed);
                    }
                    assert_eq!(case.solo.events(), []);
                }));
                assert!(run.is_ok(), "{}", text());
                tried += 1;
            }
        }
    }
    tried
}

#[test]
fn every_input_after_every_other_keeps_what_is_promised() {
    let tried = every_pair(0);
    println!("{tried} sequences");
    assert!(tried > 45_000, "{tried}");
}

#[test]
fn every_other_input_after_every_other_keeps_what_is_promised() {
    let tried = every_pair(1);
    println!("{tried} sequences");
    assert!(tried > 45_000, "{tried}");
}

/// Longer sequences, of which there are too many to try them all.
#[test]
fn any_sequence_of_inputs_keeps_what_is_promised() {
    let tried = Cell::new(0);
    let inputs = select(inputs());
    let any = (any::<Index>(), vec(inputs, 3..20));
    let wanted = property(1_500);
    let result = TestRunner::new(wanted.clone()).run(&any, |(of, sequence)| {
        let mut cases = cases();
        let mut case = cases.swap_remove(of.index(cases.len()));
        for input in sequence {
            let before = case.solo.connection.state();
            apply(&mut case, input);
            check(&mut case, before);
        }
        finish(&mut case);
        tried.set(tried.get() + 1);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(tried.get() >= wanted.cases, "{}", tried.get());
}

/// A channel can be bound as long as a handshake has not begun to arrive; a mistake of the caller's is a
/// panic that leaves the connection as it was.
#[test]
fn a_channel_can_be_bound_before_anything_has_arrived_and_never_else() {
    let mut bound = Vec::new();
    for mut case in cases() {
        let state = case.solo.connection.state();
        let connection = &mut case.solo.connection;
        for binding in [&b""[..], b"exporter"] {
            let set = || connection.set_channel_binding(binding);
            let is_set = catch_unwind(AssertUnwindSafe(set)).is_ok();
            assert!(!is_set || !binding.is_empty(), "{}", case.name);
            if is_set {
                bound.push(case.name);
            }
        }
        check(&mut case, state);
        finish(&mut case);
    }
    let expected = [
        "AwaitInit",
        "AwaitInit, version 1",
        "AwaitAck, offer unsent",
        "AwaitAck",
    ];
    assert_eq!(bound, expected);
}

/// Else the pairs would prove nothing.
#[test]
fn every_state_has_its_cases() {
    let states: Vec<State> = cases()
        .iter()
        .map(|case| case.solo.connection.state())
        .collect();
    for state in [
        State::AwaitInit,
        State::AwaitAck,
        State::AwaitProof,
        State::Established,
        State::Closing,
        State::Closed,
    ] {
        assert!(states.contains(&state), "{state:?}");
    }
    println!("{} cases, {} inputs", states.len(), inputs().len());
    assert!(states.len() >= 35 && inputs().len() >= 50);
}

//! Somebody on the way who changes what is sent (PROTOCOL.md §8).

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};

use chat_core::driver::{
    Client, ClientEvent, ConnectError, Handler, HandlerError, Server, Session,
};
use chat_core::frame::FrameError;
use chat_core::{CloseReason, Config, Message, ProtocolError, Security, Uuid};

use super::raw::Raw;
use super::{Adapter, World, message};
use crate::middle::{Act, Seen, Way, middle};

/// How many messages a client sends.
const COUNT: usize = 8;
/// The frame that is not what it should be: after some messages, and before some.
const PLACE: usize = 5;
const WAYS: [Way; 2] = [Way::Up, Way::Down];

/// Keeps what every session was sent and how it ended, and sends the messages back.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<BTreeMap<Uuid, Record>>>);

#[derive(Clone, Debug, Default)]
struct Record {
    messages: Vec<String>,
    end: Option<CloseReason>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Record>> {
        self.0.lock().unwrap()
    }
}

impl Handler for Log {
    type Data = ();

    fn connected(&self, session: &Session) {
        self.lock().insert(session.id(), Record::default());
    }

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        let text = message.as_text().ok_or("texts only")?.to_owned();
        if let Some(record) = self.lock().get_mut(&session.id()) {
            record.messages.push(text);
        }
        session.send(message)?;
        Ok(())
    }

    fn disconnected(&self, session: &Session, reason: &CloseReason) {
        if let Some(record) = self.lock().get_mut(&session.id()) {
            record.end = Some(reason.clone());
        }
    }
}

/// A server, and a client of it that nobody is in the way of.
struct Stage<A: Adapter> {
    world: World<A>,
    config: Config,
    log: Log,
    server: Server,
    other: Client,
}

/// What came of a connection that somebody was in the way of.
#[derive(Debug)]
struct Outcome {
    /// What the client received, and why that ended.
    received: Vec<String>,
    end: CloseReason,
    /// The same of the server, if it had a session.
    server: Option<Record>,
}

impl<A: Adapter> Stage<A> {
    async fn new(world: World<A>, config: Config) -> Self {
        // Frames come for no other reason than that a test has it so.
        let config = config.heartbeat(None);
        let log = Log::default();
        let builder = world.server(log.clone()).config(config.clone());
        let server = builder.bind().await.expect("it listens");
        let other = world.client().config(config.clone());
        let other = other.connect(server.endpoints()[0].clone()).await.unwrap();
        let stage = Self {
            world,
            config,
            log,
            server,
            other,
        };
        // When that has come back the other one is in the log: it is not to be.
        stage.is_other_untouched().await;
        stage.log.lock().clear();
        stage
    }

    /// A client that somebody is in the way of sends its messages, receives what comes back, and says
    /// goodbye if it gets so far.
    async fn through(
        &self,
        config: &Config,
        edit: impl FnMut(Seen) -> Vec<Act> + Send + 'static,
    ) -> Outcome {
        let target = &self.server.endpoints()[0];
        let endpoint = middle(target, self.world.dir.path(), 1, edit).unwrap();
        let connected = self.world.client().config(config.clone());
        let (received, end) = match connected.connect(endpoint).await {
            Ok(client) => talk(&client).await,
            Err(ConnectError::Handshake(reason)) => (Vec::new(), reason),
            Err(error) => panic!("{error}"),
        };
        let alone = || self.server.sessions().len() == 1;
        self.world.until("only the other session", alone).await;
        self.is_other_untouched().await;
        let mut records = mem::take(&mut *self.log.lock());
        // The other one was there before, and is in no record.
        let server = records.pop_first().map(|(_, record)| record);
        assert!(records.is_empty(), "several sessions: {records:?}");
        Outcome {
            received,
            end,
            server,
        }
    }

    /// The same with something wrong in one frame: by what is sent in its place, and in that of the
    /// next.
    async fn tampered(
        &self,
        way: Way,
        mut edit: impl FnMut(Way, [Vec<u8>; 2]) -> Vec<Act> + Send + 'static,
    ) -> Outcome {
        let mut first = None;
        let outcome = self.through(&self.config, move |seen| {
            if seen.way != way {
                return seen.pass();
            }
            match seen.index {
                PLACE => {
                    first = Some(seen.bytes);
                    Vec::new()
                }
                index if index == PLACE + 1 => {
                    let first = first.take().expect("the one before");
                    edit(way, [first, seen.bytes])
                }
                _ => seen.pass(),
            }
        });
        outcome.await
    }

    async fn is_other_untouched(&self) {
        self.other.send(Message::text("still here")).await.unwrap();
        let text = message(&self.other).await;
        assert_eq!(text.as_text(), Some("still here"));
    }

    async fn stop(self) {
        self.is_other_untouched().await;
        self.server.stop().await;
    }
}

/// Sends everything, and receives until the end, or until everything has come back.
async fn talk(client: &Client) -> (Vec<String>, CloseReason) {
    for number in 0..COUNT {
        // It may be over already.
        let _ = client.send(Message::text(number.to_string())).await;
    }
    let mut received = Vec::new();
    while received.len() < COUNT {
        match client.recv().await {
            Some(ClientEvent::Message(message)) => {
                received.push(message.as_text().expect("a text").to_owned());
            }
            Some(ClientEvent::Error(_)) => {}
            Some(ClientEvent::Disconnected { reason, .. }) => return (received, reason),
            other => panic!("unexpected: {other:?}"),
        }
    }
    let reason = client.close("that was all").await;
    (received, reason)
}

/// The first so many messages.
fn first(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Which message is the first that is not delivered, if the frame at `PLACE` is the first that is
/// wrong: before the messages are one `session_ack` up, or a `session_init` and a `session_ack` down.
fn spoiled(way: Way) -> usize {
    match way {
        Way::Up => PLACE - 1,
        Way::Down => PLACE - 2,
    }
}

/// Whoever got the wrong frame found that out, at that frame; the other end was told so.
#[track_caller]
fn is_detected(outcome: &Outcome, way: Way, delivered: usize, is: impl Fn(FrameError) -> bool) {
    let server = outcome.server.as_ref().expect("a session");
    let Some(server_end) = &server.end else {
        panic!("no end: {server:?}");
    };
    let (found, told, got, other_got) = match way {
        Way::Up => (
            server_end,
            &outcome.end,
            &server.messages,
            &outcome.received,
        ),
        Way::Down => (
            &outcome.end,
            server_end,
            &outcome.received,
            &server.messages,
        ),
    };
    let CloseReason::Protocol(ProtocolError::Frame(error)) = found else {
        panic!("not detected: {outcome:?}");
    };
    assert!(is(*error), "{error:?}");
    assert_eq!(*got, first(delivered), "{outcome:?}");
    // Nothing else came through at the other end either.
    assert_eq!(*other_got, first(other_got.len()), "{outcome:?}");
    let reason = "Protocol error".into();
    assert_eq!(*told, CloseReason::Peer { reason });
}

/// If nobody does anything, everything arrives and both ends know how it ended.
pub async fn who_only_passes_frames_on_is_not_noticed<A: Adapter>(world: World<A>) {
    let stage = Stage::new(world, Config::default()).await;
    let outcome = stage.through(&stage.config, Seen::pass).await;
    assert_eq!(outcome.received, first(COUNT));
    let reason = "that was all".into();
    assert_eq!(outcome.end, CloseReason::Local { reason });
    let server = outcome.server.unwrap();
    assert_eq!(server.messages, first(COUNT));
    let reason = "that was all".into();
    assert_eq!(server.end, Some(CloseReason::Peer { reason }));
    stage.stop().await;
}

/// One bit, in any part of a frame.
pub async fn a_changed_bit_is_found<A: Adapter>(world: World<A>) {
    let stage = Stage::new(world, Config::default()).await;
    for way in WAYS {
        // Magic number, version, type, lengths, checksums, code, header, content.
        for at in [0, 9, 11, 14, 15, 18, 24, 27, 30, 32, 63, 64, 90, usize::MAX] {
            let outcome = stage.tampered(way, move |way, [mut frame, next]| {
                let at = at.min(frame.len() - 1);
                frame[at] ^= 1;
                vec![Act::Send(way, frame), Act::Send(way, next)]
            });
            is_detected(&outcome.await, way, spoiled(way), |_| true);
        }
    }
    stage.stop().await;
}

/// A frame that comes a second time, is left out, or comes before another.
pub async fn a_frame_out_of_place_is_found<A: Adapter>(world: World<A>) {
    let stage = Stage::new(world, Config::default()).await;
    let is_mac = |error| error == FrameError::Mac;
    for way in WAYS {
        let repeated = stage.tampered(way, |way, [frame, next]| {
            [&frame, &frame, &next]
                .map(|frame| Act::Send(way, frame.clone()))
                .into()
        });
        // The first of the two is as it should be.
        is_detected(&repeated.await, way, spoiled(way) + 1, is_mac);
        let dropped = stage.tampered(way, |way, [_, next]| vec![Act::Send(way, next)]);
        is_detected(&dropped.await, way, spoiled(way), is_mac);
        let swapped = stage.tampered(way, |way, [frame, next]| {
            vec![Act::Send(way, next), Act::Send(way, frame)]
        });
        is_detected(&swapped.await, way, spoiled(way), is_mac);
        let instead = stage.tampered(way, |way, [frame, _]| {
            vec![Act::Send(way, frame.clone()), Act::Send(way, frame)]
        });
        is_detected(&instead.await, way, spoiled(way) + 1, is_mac);
    }
    stage.stop().await;
}

/// A frame that comes back to where it was sent.
pub async fn a_reflected_frame_is_found<A: Adapter>(world: World<A>) {
    let stage = Stage::new(world, Config::default()).await;
    for way in WAYS {
        // The first message, or the first that comes back.
        let place = PLACE - spoiled(way);
        let outcome = stage.through(&stage.config, move |seen| {
            let mut acts = Vec::new();
            if seen.way == way && seen.index == place {
                acts.push(Act::Send(way.back(), seen.bytes.clone()));
            }
            acts.extend(seen.pass());
            acts
        });
        let outcome = outcome.await;
        let server = outcome.server.as_ref().expect("a session");
        let (found, got) = match way {
            Way::Up => (Some(&outcome.end), &outcome.received),
            Way::Down => (server.end.as_ref(), &server.messages),
        };
        let mac = CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac));
        assert_eq!(found, Some(&mac), "{outcome:?}");
        assert_eq!(*got, first(got.len()), "{outcome:?}");
        assert_eq!(outcome.received, first(outcome.received.len()));
    }
    stage.stop().await;
}

/// Everything that went over a connection that nobody changed.
async fn recorded<A: Adapter>(stage: &Stage<A>) -> Vec<Seen> {
    let tape = Arc::new(Mutex::new(Vec::new()));
    let recorder = Arc::clone(&tape);
    let outcome = stage.through(&stage.config, move |seen| {
        recorder.lock().unwrap().push(seen.clone());
        seen.pass()
    });
    assert_eq!(outcome.await.received, first(COUNT));
    let tape = mem::take(&mut *tape.lock().unwrap());
    assert!(tape.len() > 2 * COUNT, "{}", tape.len());
    tape
}

/// The frames of a recording that go one way.
fn going(tape: &[Seen], way: Way) -> Vec<Vec<u8>> {
    let frames = tape.iter().filter(|seen| seen.way == way);
    frames.map(|seen| seen.bytes.clone()).collect()
}

/// A frame of another session of the same two, in the same place.
pub async fn a_frame_of_another_session_is_found<A: Adapter>(world: World<A>) {
    let stage = Stage::new(world, Config::default()).await;
    let tape = recorded(&stage).await;
    for way in WAYS {
        let old = going(&tape, way)[PLACE].clone();
        let outcome = stage.tampered(way, move |way, [_, next]| {
            vec![Act::Send(way, old.clone()), Act::Send(way, next)]
        });
        is_detected(&outcome.await, way, spoiled(way), |error| {
            error == FrameError::Mac
        });
    }
    stage.stop().await;
}

/// A server that is a recording, as a whole or in its beginning, is not taken for the server.
pub async fn a_recorded_server_proves_nothing<A: Adapter>(world: World<A>) {
    let stage = Stage::new(world, Config::default()).await;
    let tape = going(&recorded(&stage).await, Way::Down);

    // Its beginning, before the server: what the client says to it is for another session.
    let failed = stage.server.stats().failed_handshakes;
    let init = tape[0].clone();
    let outcome = stage.through(&stage.config, move |seen| match (seen.way, seen.index) {
        (Way::Down, 0) => vec![Act::Send(Way::Down, init.clone())],
        _ => seen.pass(),
    });
    let outcome = outcome.await;
    assert_eq!(outcome.end, CloseReason::Unproven);
    assert!(outcome.server.is_none(), "{outcome:?}");
    let counted = || stage.server.stats().failed_handshakes == failed + 1;
    stage.world.until("the end of the handshake", counted).await;

    // All of it, and no server.
    let outcome = stage.through(&stage.config, move |seen| match (seen.way, seen.index) {
        (Way::Down, 0) => vec![Act::Send(Way::Down, tape[0].clone())],
        (Way::Up, 0) => vec![Act::Send(Way::Down, tape[1..].concat())],
        _ => Vec::new(),
    });
    let outcome = outcome.await;
    let mac = CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac));
    assert_eq!(outcome.end, mac);
    assert!(outcome.server.is_none(), "{outcome:?}");
    stage.stop().await;
}

/// A client that is a recording gets no session, and no answer.
pub async fn a_recorded_client_proves_nothing<A: Adapter>(world: World<A>) {
    let stage = Stage::new(world, Config::default()).await;
    let tape = going(&recorded(&stage).await, Way::Up);
    let failed = stage.server.stats().failed_handshakes;
    for (number, part) in [1, tape.len()].into_iter().enumerate() {
        let mut raw = Raw::connect(&stage.server.endpoints()[0]);
        assert!(raw.frame().is_some(), "session_init");
        // The server may be gone before all of it is written.
        let _ = raw.write(&tape[..part].concat());
        assert_eq!(raw.frame(), None);
        let counted = || stage.server.stats().failed_handshakes == failed + number as u64 + 1;
        stage.world.until("the end of it", counted).await;
    }
    assert!(stage.log.lock().is_empty(), "a session of a recording");
    stage.stop().await;
}

/// Who demands `sec` is not talked down to less by what another server once said.
pub async fn a_recorded_offer_talks_nobody_down<A: Adapter>(world: World<A>) {
    let old = Stage::new(world, Config::default().version_1()).await;
    let init = going(&recorded(&old).await, Way::Down)[0].clone();
    let Stage { world, server, .. } = old;
    server.stop().await;

    let stage = Stage::new(world, Config::default()).await;
    let demanding = stage.config.clone().min_security(Security::Sec);
    let outcome = stage.through(&demanding, move |seen| match (seen.way, seen.index) {
        (Way::Down, 0) => vec![Act::Send(Way::Down, init.clone())],
        _ => seen.pass(),
    });
    let outcome = outcome.await;
    assert_eq!(outcome.end, CloseReason::Protocol(ProtocolError::Insecure));
    assert!(outcome.server.is_none(), "{outcome:?}");
    stage.stop().await;
}

/// The end cut off, with the goodbye or with more: the session was truncated, and that is said.
pub async fn a_goodbye_that_is_cut_off_is_missed<A: Adapter>(world: World<A>) {
    let stage = Stage::new(world, Config::default()).await;
    let goodbye = COUNT + 1;
    let outcome = stage.through(&stage.config, move |seen| match (seen.way, seen.index) {
        (Way::Up, index) if index == goodbye => vec![Act::Cut],
        _ => seen.pass(),
    });
    let outcome = outcome.await;
    assert_eq!(outcome.received, first(COUNT));
    let server = outcome.server.expect("a session");
    assert_eq!(server.messages, first(COUNT));
    assert_eq!(server.end, Some(CloseReason::Eof { mid_frame: false }));

    for way in WAYS {
        for (len, mid_frame) in [(0, false), (1, true), (63, true), (100, true)] {
            let outcome = stage.tampered(way, move |way, [frame, _]| {
                vec![Act::Send(way, frame[..len].into()), Act::Cut]
            });
            let outcome = outcome.await;
            let server = outcome.server.expect("a session");
            let (end, got) = match way {
                Way::Up => (server.end.unwrap(), &server.messages),
                Way::Down => (outcome.end, &outcome.received),
            };
            assert_eq!(end, CloseReason::Eof { mid_frame }, "{way:?} {len}");
            assert_eq!(*got, first(spoiled(way)));
        }
    }

    // Before the server has shown who it is, nothing has begun.
    let outcome = stage.through(&stage.config, |seen| match (seen.way, seen.index) {
        (Way::Down, 1) => vec![Act::Cut],
        _ => seen.pass(),
    });
    assert_eq!(outcome.await.end, CloseReason::Unproven);
    stage.stop().await;
}

/// What all this is for: version 1 does not notice (PROTOCOL.md §8).
pub async fn without_sec_frames_can_be_moved<A: Adapter>(world: World<A>) {
    let stage = Stage::new(world, Config::default().sec(false)).await;
    let swapped = stage.tampered(Way::Up, |way, [frame, next]| {
        vec![Act::Send(way, next), Act::Send(way, frame)]
    });
    let outcome = swapped.await;
    let (mut expected, at) = (first(COUNT), spoiled(Way::Up));
    expected.swap(at, at + 1);
    assert_eq!(outcome.server.unwrap().messages, expected);
    assert_eq!(outcome.received, expected);
    stage.stop().await;
}

//! A whole session, recorded as each end saw it, to be played again with something changed.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use chat_core::{
    CloseReason, Config, Connection, ContentType, Entropy, Event, Message, Role, Transfer,
    TransferId, Uuid,
};

use super::chunk::other;
use super::sec::frames_of;
use super::{SESSION, START, Solo, secs};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// What an application or a clock does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(Message),
    Error(&'static str),
    Open(ContentType),
    Write(&'static [u8]),
    Finish,
    Wait(Duration),
    Close(&'static str),
}

/// Something that happens to one end.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A frame, or what should be one, arrives.
    Arrives(Vec<u8>),
    Does(Act),
    /// The transport takes everything, which is these frames.
    Sends(Vec<Vec<u8>>),
}

/// What makes a connection what it is.
#[derive(Clone)]
pub(crate) struct Birth {
    pub(crate) role: Role,
    pub(crate) config: Arc<Config>,
    pub(crate) session: Uuid,
    pub(crate) random: [u8; 32],
}

/// A connection that steps happen to.
pub(crate) struct Player {
    pub(crate) solo: Solo,
    pub(crate) events: Vec<Event>,
    transfer: Option<TransferId>,
}

/// One end of a session.
pub(crate) struct Track {
    pub(crate) birth: Birth,
    pub(crate) steps: Vec<Step>,
    /// How many events had been reported before each step.
    before: Vec<usize>,
    /// All of them.
    pub(crate) events: Vec<Event>,
}

/// Both ends of a session.
pub(crate) struct Tape {
    pub(crate) client: Track,
    pub(crate) server: Track,
}

impl Birth {
    pub(crate) fn player(&self) -> Player {
        let (config, random) = (Arc::clone(&self.config), Entropy::new(self.random));
        let connection = match self.role {
            Role::Client => Connection::client(config, random, START),
            Role::Server => Connection::server(config, self.session, random, START),
        };
        Player {
            solo: Solo::of(connection),
            events: Vec::new(),
            transfer: None,
        }
    }
}

impl Player {
    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Arrives(bytes) => self.solo.feed_bytes(bytes),
            Step::Sends(_) => {
                self.solo.sent_bytes();
            }
            Step::Does(act) => self.act(act),
        }
        self.events.append(&mut self.solo.events());
    }

    /// What is refused is refused: the connection may be over.
    fn act(&mut self, act: &Act) {
        let now = self.solo.now;
        let connection = &mut self.solo.connection;
        match act {
            Act::Send(message) => {
                let _ = connection.send(now, message.clone());
            }
            Act::Error(text) => connection.send_error(now, text),
            Act::Open(content_type) => {
                let transfer = Transfer::new(content_type.clone());
                self.transfer = connection.open(now, transfer).ok();
            }
            Act::Write(content) => {
                if let Some(id) = self.transfer {
                    let _ = connection.write(now, id, Bytes::from_static(content));
                }
            }
            Act::Finish => {
                if let Some(id) = self.transfer.take() {
                    let _ = connection.finish(now, id);
                }
            }
            Act::Wait(duration) => self.solo.wait(*duration),
            Act::Close(reason) => connection.close(now, reason),
        }
    }

    /// The stream ends here, and so does the connection: why it did.
    #[track_caller]
    pub(crate) fn end(&mut self) -> CloseReason {
        self.solo.sent_bytes();
        self.solo.connection.handle_eof(self.solo.now);
        self.events.append(&mut self.solo.events());
        assert!(self.solo.connection.is_closed(), "it lives on");
        match self.events.last() {
            Some(Event::Closed(reason)) => reason.clone(),
            other => panic!("not an end: {other:?}"),
        }
    }
}

impl Track {
    /// The places in `steps` at which a frame arrives.
    pub(crate) fn arrivals(&self) -> Vec<usize> {
        let arrives = |at: &usize| matches!(self.steps[*at], Step::Arrives(_));
        (0..self.steps.len()).filter(arrives).collect()
    }

    /// The frame that arrives there.
    pub(crate) fn arriving(&self, at: usize) -> &[u8] {
        match &self.steps[at] {
            Step::Arrives(bytes) => bytes,
            other => panic!("no arrival: {other:?}"),
        }
    }

    /// Everything that this end sent, in frames.
    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        let sends = self.steps.iter().filter_map(|step| match step {
            Step::Sends(frames) => Some(frames.clone()),
            _ => None,
        });
        sends.flatten().collect()
    }

    /// What had been reported before a step.
    pub(crate) fn events_before(&self, at: usize) -> &[Event] {
        &self.events[..self.before[at]]
    }

    /// The same up to a step, then other steps, then the end of the stream. What the connection
    /// reports from there on must be its end and nothing else: nothing came through.
    #[track_caller]
    pub(crate) fn ends_after<'a>(
        &'a self,
        at: usize,
        steps: impl IntoIterator<Item = &'a Step>,
    ) -> CloseReason {
        let mut player = self.birth.player();
        for step in self.steps[..at].iter().chain(steps) {
            player.step(step);
        }
        let reason = player.end();
        let (reported, expected) = (&player.events, self.events_before(at));
        assert_eq!(reported.len(), expected.len() + 1, "{reported:?}");
        assert_eq!(&reported[..expected.len()], expected);
        reason
    }
}

/// A tape that runs.
pub(crate) struct Recorder {
    tape: Tape,
    players: [Player; 2],
}

impl Recorder {
    pub(crate) fn new(client: Birth, server: Birth) -> Self {
        let players = [client.player(), server.player()];
        let track = |birth| Track {
            birth,
            steps: Vec::new(),
            before: Vec::new(),
            events: Vec::new(),
        };
        Self {
            tape: Tape {
                client: track(client),
                server: track(server),
            },
            players,
        }
    }

    /// One end does something, and everything arrives that follows.
    pub(crate) fn act(&mut self, role: Role, act: Act) {
        self.happens(role, Step::Does(act));
        self.settle();
    }

    /// The same for both ends.
    pub(crate) fn both(&mut self, act: &Act) {
        for role in ROLES {
            self.happens(role, Step::Does(act.clone()));
        }
        self.settle();
    }

    /// Whatever is sent arrives, frame by frame.
    pub(crate) fn settle(&mut self) {
        while ROLES.map(|role| self.pass_on(role)).contains(&true) {}
    }

    pub(crate) fn stop(mut self) -> Tape {
        let [client, server] = self.players;
        self.tape.client.events = client.events;
        self.tape.server.events = server.events;
        self.tape
    }

    fn pass_on(&mut self, from: Role) -> bool {
        let sent = frames_of(&self.player(from).solo.sent_bytes().concat());
        if sent.is_empty() {
            return false;
        }
        self.happens(from, Step::Sends(sent.clone()));
        for frame in sent {
            if !self.player(other(from)).solo.connection.is_closed() {
                self.happens(other(from), Step::Arrives(frame));
            }
        }
        true
    }

    fn happens(&mut self, role: Role, step: Step) {
        let player = &mut self.players[role as usize];
        let track = match role {
            Role::Client => &mut self.tape.client,
            Role::Server => &mut self.tape.server,
        };
        track.before.push(player.events.len());
        // Nothing is sent any more where what was sent is recorded.
        player.step(&step);
        track.steps.push(step);
    }

    fn player(&mut self, role: Role) -> &mut Player {
        &mut self.players[role as usize]
    }
}

/// Settings with which both ends ask for signs of life within a few seconds.
pub(crate) fn talkative(role: Role) -> Config {
    Config::default().heartbeat(Some(match role {
        Role::Client => secs(5),
        Role::Server => secs(1),
    }))
}

/// An end with the settings of these tests.
pub(crate) fn birth(role: Role, session: Uuid, random: u8) -> Birth {
    Birth {
        role,
        config: Arc::new(talkative(role)),
        session,
        random: [random; 32],
    }
}

/// Some of everything: messages, heartbeats and transfers both ways, errors, and a goodbye.
pub(crate) fn everything(closer: Role, client: Birth, server: Birth) -> Tape {
    let mut recorder = Recorder::new(client, server);
    recorder.settle();
    recorder.both(&Act::Send(Message::text("Hello, World!")));
    recorder.both(&Act::Send(Message::binary(vec![0, 1, 254, 255])));
    recorder.both(&Act::Wait(secs(5)));
    for role in ROLES {
        recorder.act(role, Act::Open(super::chunk::IMAGE));
        for piece in [&b"a message "[..], b"in a few ", b"pieces"] {
            recorder.act(role, Act::Write(piece));
        }
        recorder.act(role, Act::Finish);
    }
    recorder.both(&Act::Error("no such room"));
    recorder.act(closer, Act::Close("enough"));
    recorder.stop()
}

/// The same with what the connections of all tests begin with.
pub(crate) fn session(closer: Role) -> Tape {
    let client = birth(Role::Client, SESSION, 1);
    everything(closer, client, birth(Role::Server, SESSION, 2))
}

impl Tape {
    pub(crate) fn track(&self, role: Role) -> &Track {
        match role {
            Role::Client => &self.client,
            Role::Server => &self.server,
        }
    }
}

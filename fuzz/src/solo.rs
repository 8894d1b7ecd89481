//! One connection, in either role, between a peer and an application that do anything at all.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use chat_core::{
    Config, Connection, Entropy, Event, Instant, Message, Role, State, Transfer, TransferId,
};

use crate::peer::{Peer, SESSION, Said, Wish, transmit};
use crate::settings::Settings;

/// What happens to a connection.
#[derive(Arbitrary, Debug)]
pub struct Input {
    pub settings: Settings,
    /// The peer begins a session as it should.
    pub wish: Option<Wish>,
    pub steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// The peer sends a frame that is right as a frame.
    Say(Said),
    /// So, but for one bit.
    Damaged(Said, u16),
    /// The peer sends anything.
    Bytes(Vec<u8>),
    /// The transport takes bytes.
    Transmit(u16),
    PollEvents(u8),
    Read(u8, u8),
    Advance(u16),
    AdvanceSeconds(u8),
    Send(u16),
    SendLarge(u8),
    Open(Option<u16>),
    Write(u8, u16),
    Finish(u8),
    Cancel(u8),
    /// One of the peer's.
    Refuse(u8),
    SendError(String),
    Close(String),
    Abort(String),
    Eof,
    TransportError,
}

/// A connection that has just begun.
pub fn new(role: Role, config: &Arc<Config>) -> Connection {
    let config = Arc::clone(config);
    match role {
        Role::Client => Connection::client(config, Entropy::new([1; 32]), Instant::EPOCH),
        Role::Server => Connection::server(config, SESSION, Entropy::new([2; 32]), Instant::EPOCH),
    }
}

struct World {
    connection: Connection,
    peer: Peer,
    now: Instant,
    /// What the connection did not take yet.
    wire: Vec<u8>,
    own: Vec<TransferId>,
    /// Of these, those whose end was reported.
    ended: Vec<TransferId>,
    theirs: Vec<TransferId>,
    established: bool,
    closed: bool,
    /// The most that may wait to be sent.
    most: usize,
    /// How many frames the peer has sent. `None`: something else too, which may be frames or not.
    said: Option<u64>,
    /// How many of these came before one that is damaged.
    intact: Option<u64>,
}

/// Runs it. What a connection promises holds at every step, and all that it sends is right.
pub fn run(role: Role, input: &Input) {
    let config = Arc::new(input.settings.config());
    let now = Instant::EPOCH;
    let mut connection = new(role, &config);
    let peer = match &input.wish {
        Some(wish) => Peer::greet(&mut connection, now, wish).0,
        None => Peer::default(),
    };
    let mut world = World {
        connection,
        peer,
        now,
        wire: Vec::new(),
        own: Vec::new(),
        ended: Vec::new(),
        theirs: Vec::new(),
        established: false,
        closed: false,
        // The outbox, or one message in its place and one in pieces; pieces that are made; a buffer and
        // one write for each stream that is begun; sixteen answers of either sort; a goodbye.
        most: usize::from(input.settings.outbox) * 2 + 2 * 280_000 + 192 * 1024 * 7 + 80 * 1024,
        said: None,
        intact: None,
    };
    // Of a handshake some is looked at later, and some not at all.
    if world.connection.state() == State::Established {
        world.said = Some(world.connection.stats().frames_received);
    }
    for step in &input.steps {
        world.step(step);
        world.push();
        world.check();
    }
    world.poll(usize::MAX);
    assert_eq!(world.closed, world.connection.is_closed());
}

impl World {
    fn push(&mut self) {
        let taken = self.connection.handle_input(self.now, &self.wire);
        self.wire.drain(..taken);
        assert!(self.wire.is_empty() || !self.connection.wants_input());
    }

    fn poll(&mut self, most: usize) {
        for _ in 0..most {
            let Some(event) = self.connection.poll_event() else {
                break;
            };
            assert!(!self.closed, "an event after the last: {event:?}");
            match event {
                Event::Established { session } => {
                    assert!(!self.established, "established twice");
                    assert_eq!(self.connection.session(), Some(session));
                    self.established = true;
                }
                Event::Closed(_) => self.closed = true,
                Event::Transfer { id, .. } => self.theirs.push(id),
                Event::Sent { id } | Event::Aborted { id, .. } => {
                    assert!(self.own.contains(&id), "the end of what is not its own");
                    assert!(!self.ended.contains(&id), "the end of what was over");
                    self.ended.push(id);
                    // These go before all others.
                    continue;
                }
                Event::Message(message) => assert!(!message.content().is_empty()),
                _ => {}
            }
            assert!(self.established || self.closed, "before the beginning");
        }
    }

    fn check(&self) {
        let connection = &self.connection;
        assert!(connection.outbox_bytes() <= self.most, "too much is held");
        // With codes and without: PROTOCOL.md §4.8 says what notices it.
        let taken = connection.stats().frames_received;
        assert!(
            self.intact.is_none_or(|most| taken <= most),
            "damage is not noticed"
        );
        if connection.is_closed() {
            assert_eq!(connection.poll_transmit(&mut [&[][..]; 2]), 0);
            assert_eq!(connection.poll_timeout(), None);
            assert_eq!(connection.outbox_bytes(), 0);
        }
    }

    fn advance(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.connection.handle_timeout(self.now);
        let due = self.connection.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "{due:?} has passed");
    }

    fn send(&mut self, len: usize) {
        let message = Message::binary(vec![7; len]);
        if let Err(error) = self.connection.send(self.now, message.clone()) {
            assert_eq!(error.into_message(), message);
        } else {
            assert_eq!(self.connection.state(), State::Established);
        }
    }

    fn step(&mut self, step: &Step) {
        let now = self.now;
        let own = |which: &u8| pick(&self.own, *which);
        let connection = &mut self.connection;
        match step {
            Step::Say(said) => {
                self.wire.extend(self.peer.say(said));
                self.said = self.said.map(|count| count + 1);
            }
            Step::Damaged(said, bit) => {
                let mut bytes = self.peer.say(said);
                let bit = usize::from(*bit) % (8 * bytes.len());
                bytes[bit / 8] ^= 1 << (bit % 8);
                self.wire.extend(bytes);
                self.intact = self.intact.or(self.said);
            }
            Step::Bytes(bytes) => {
                self.wire.extend(bytes);
                self.said = None;
            }
            Step::Transmit(most) => {
                let bytes = transmit(connection, now, usize::from(*most) * 4);
                self.peer.hear(&bytes);
            }
            Step::PollEvents(most) => self.poll((*most).into()),
            Step::Read(which, most) => {
                if let Some(id) = pick(&self.theirs, *which) {
                    for _ in 0..*most {
                        if connection.read(now, id).is_none() {
                            break;
                        }
                    }
                }
            }
            Step::Advance(millis) => self.advance(Duration::from_millis((*millis).into())),
            Step::AdvanceSeconds(seconds) => self.advance(Duration::from_secs((*seconds).into())),
            Step::Send(len) => self.send((*len).into()),
            Step::SendLarge(len) => self.send(usize::from(*len) * 1024),
            Step::Open(total) => {
                let mut transfer = Transfer::new("text/plain").name("a cat.png");
                if let Some(total) = total {
                    transfer = transfer.total((*total).into());
                }
                self.own.extend(connection.open(now, transfer));
            }
            Step::Write(which, len) => {
                if let Some(id) = own(which) {
                    let room = connection.writable(id);
                    let bytes = vec![b'w'; usize::from(*len)];
                    if connection.write(now, id, bytes.into()).is_ok() && *len > 0 {
                        assert!(room > 0, "written where there is no room");
                    }
                }
            }
            Step::Finish(which) => {
                if let Some(id) = own(which) {
                    let _ = connection.finish(now, id);
                }
            }
            Step::Cancel(which) => {
                if let Some(id) = own(which) {
                    connection.cancel(now, id, "no more");
                }
            }
            Step::Refuse(which) => {
                if let Some(id) = pick(&self.theirs, *which) {
                    connection.cancel(now, id, "not this");
                }
            }
            Step::SendError(text) => connection.send_error(now, text),
            Step::Close(reason) => connection.close(now, reason),
            Step::Abort(reason) => connection.abort(now, reason),
            Step::Eof => connection.handle_eof(now),
            Step::TransportError => connection.handle_transport_error(now, "reset"),
        }
    }
}

/// One of them, if there are any.
fn pick(ids: &[TransferId], which: u8) -> Option<TransferId> {
    let index = usize::from(which).checked_rem(ids.len())?;
    Some(ids[index])
}

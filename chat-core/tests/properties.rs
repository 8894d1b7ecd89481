//! Two connections under random treatment: what holds after every step of it.

mod support;

use chat_core::frame::{Frame, FrameKind};
use chat_core::{Config, Connection, Event, Message, Role, State};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use support::{
    FOREIGN, Link, Pair, SESSION, Solo, any_cuts, any_frame, encode, millis, pieces, property, secs,
};

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const MAX_OUTBOX: usize = 8_000;
const LARGEST: usize = 6_000;

fn config() -> Config {
    Config::default()
        .max_outbox(MAX_OUTBOX)
        .max_inbox(4_000)
        .max_content(10_000)
}

/// One step. Those of a network or an application happen at or from one end.
#[derive(Clone, Debug)]
enum Step {
    Send(Role, usize),
    SendError(Role, usize),
    Close(Role),
    Abort(Role),
    Poll(Role, bool),
    /// So many bytes go from an end into its link, and out of it.
    Carry(Role, usize),
    /// Everything that takes no time.
    Settle,
    /// Time passes, and every deadline is kept.
    Run(u64),
    /// Time passes, and whoever waits for deadlines oversleeps.
    Oversleep(u64),
    Rate(Role, Option<u64>),
    Capacity(Role, usize),
    Stall(Role, bool),
    Cut(Role),
    TransportError(Role),
}

impl Step {
    /// Whether it is neither an end nor a failure.
    fn is_gentle(&self) -> bool {
        !matches!(
            self,
            Self::Close(_)
                | Self::Abort(_)
                | Self::Oversleep(_)
                | Self::Stall(..)
                | Self::Cut(_)
                | Self::TransportError(_)
                | Self::Rate(..)
        )
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let role = || select(&ROLES[..]);
    prop_oneof![
        30 => (role(), 0..LARGEST).prop_map(|(role, len)| Step::Send(role, len)),
        2 => (role(), 0_usize..2_000).prop_map(|(role, len)| Step::SendError(role, len)),
        1 => role().prop_map(Step::Close),
        1 => role().prop_map(Step::Abort),
        8 => (role(), any::<bool>()).prop_map(|(role, polls)| Step::Poll(role, polls)),
        30 => (role(), 1_usize..3_000).prop_map(|(role, len)| Step::Carry(role, len)),
        15 => Just(Step::Settle),
        15 => (1_u64..8_000).prop_map(Step::Run),
        3 => (1_u64..40_000).prop_map(Step::Oversleep),
        3 => (role(), proptest::option::of(500_u64..50_000))
            .prop_map(|(role, rate)| Step::Rate(role, rate)),
        4 => (role(), 1_usize..5_000).prop_map(|(role, bytes)| Step::Capacity(role, bytes)),
        2 => (role(), any::<bool>()).prop_map(|(role, stalled)| Step::Stall(role, stalled)),
        1 => role().prop_map(Step::Cut),
        1 => role().prop_map(Step::TransportError),
    ]
}

/// Two connections, and what must be true of them.
struct World {
    pair: Pair,
    /// The messages that each end took, a client's first.
    sent: [Vec<Message>; 2],
    states: [State; 2],
}

impl World {
    fn new(config: Config) -> Self {
        let pair = Pair::new(config);
        let states = [State::AwaitInit, State::AwaitAck];
        let sent = [Vec::new(), Vec::new()];
        Self { pair, sent, states }
    }

    fn step(&mut self, step: &Step) {
        let pair = &mut self.pair;
        let now = pair.now;
        match *step {
            Step::Send(role, len) => {
                let fill = u8::try_from(self.sent[role as usize].len() % 256).expect("a byte");
                let message = Message::binary(vec![fill; len]);
                if pair.send(role, message.clone()).is_ok() {
                    self.sent[role as usize].push(message);
                }
            }
            Step::SendError(role, len) => {
                let text = "x".repeat(len);
                pair.end(role).connection.send_error(now, &text);
            }
            Step::Close(role) => pair.close(role, "closed"),
            Step::Abort(role) => pair.end(role).connection.abort(now, "aborted"),
            Step::Poll(role, polls) => pair.end(role).polls = polls,
            Step::Carry(role, len) => {
                let link = pair.link(role);
                let before = (link.split, link.capacity);
                (link.split, link.capacity) = (len, link.capacity.min(link.held() + len));
                pair.turn();
                (pair.link(role).split, pair.link(role).capacity) = before;
            }
            Step::Settle => pair.settle(),
            Step::Run(time) => pair.run_for(millis(time)),
            Step::Oversleep(time) => pair.wake(now + millis(time)),
            Step::Rate(role, rate) => pair.link(role).rate = rate,
            Step::Capacity(role, bytes) => {
                let held = pair.link(role).held();
                pair.link(role).capacity = bytes.max(held);
            }
            Step::Stall(role, stalled) => pair.link(role).stalled = stalled,
            Step::Cut(role) => pair.link(role).cut(),
            Step::TransportError(role) => {
                pair.end(role)
                    .connection
                    .handle_transport_error(now, "reset");
            }
        }
        self.check();
    }

    fn check(&mut self) {
        for role in ROLES {
            let sent = &self.sent[role as usize];
            let delivered = self.pair.peer(role).messages().count();
            assert!(delivered <= sent.len());
            let prefix = &sent[..delivered];
            assert!(self.pair.peer(role).messages().eq(prefix), "{role:?}");

            let end = self.pair.end(role);
            let state = end.connection.state();
            let before = core::mem::replace(&mut self.states[role as usize], state);
            assert!(rank(before) <= rank(state), "{before:?} to {state:?}");
            // At most one end, and nothing after it: looking for it asserts that.
            let closed = end.closed().is_some();
            assert!(!closed || end.connection.is_closed(), "the end came early");
            check_connection(&end.connection);
        }
        let stats = ROLES.map(|role| self.pair.end(role).connection.stats());
        for (from, to) in [(0, 1), (1, 0)] {
            assert!(stats[to].bytes_received <= stats[from].bytes_sent);
            assert!(stats[to].frames_received <= stats[from].frames_sent);
            assert!(stats[to].messages_received <= stats[from].messages_sent);
        }
    }
}

fn rank(state: State) -> u8 {
    match state {
        State::AwaitInit | State::AwaitAck | State::AwaitProof => 0,
        State::Established => 1,
        State::Closing => 2,
        State::Closed => 3,
    }
}

/// What holds for every connection at every time.
fn check_connection(connection: &Connection) {
    let mut slices = [&[][..]; 2];
    let shown = connection.poll_transmit(&mut slices);
    assert_eq!(shown == 0, connection.outbox_bytes() == 0);
    assert_eq!(connection.is_closed(), connection.state() == State::Closed);
    assert_eq!(connection.poll_timeout().is_none(), connection.is_closed());
    // A full outbox, or one frame that was too large for it; 17 answers and a ping; an error and
    // a goodbye, which any number of bytes must not keep back.
    let messages = MAX_OUTBOX.max(LARGEST + 1_024);
    let own = 18 * (1_024 + 64) + 2 * 8_192;
    assert!(connection.outbox_bytes() <= messages + own);
    if connection.is_closed() {
        assert_eq!(shown, 0);
        assert!(connection.is_write_finished());
        assert!(!connection.wants_input());
    }
}

proptest! {
    #![proptest_config(property(1_000))]

    #[test]
    fn whatever_happens_a_connection_keeps_its_promises(steps in vec(any_step(), 1..80)) {
        let mut world = World::new(config());
        for step in &steps {
            world.step(step);
        }
        // And it comes to an end, in which everything is reported.
        world.step(&Step::Close(Role::Client));
        world.step(&Step::Close(Role::Server));
        for role in ROLES {
            world.step(&Step::Poll(role, true));
        }
        world.step(&Step::Run(60_000));
        for role in ROLES {
            prop_assert!(world.pair.end(role).closed().is_some(), "{role:?}");
        }
    }

    #[test]
    fn without_an_end_or_a_failure_everything_arrives(
        steps in vec(any_step().prop_filter("gentle", Step::is_gentle), 1..80),
    ) {
        // An application that pauses for long is a transport that takes nothing.
        let mut world = World::new(config().stall_timeout(None));
        world.step(&Step::Settle);
        for step in &steps {
            world.step(step);
        }
        for role in ROLES {
            world.step(&Step::Poll(role, true));
        }
        world.step(&Step::Run(1));
        for role in ROLES {
            let sent = &world.sent[role as usize];
            prop_assert!(world.pair.peer(role).messages().eq(sent), "{role:?}");
            prop_assert_eq!(world.pair.end(role).closed(), None);
        }
    }
}

/// A connection in a state, whose peer may be anyone.
fn any_connection() -> impl Strategy<Value = (Role, State)> {
    select(vec![
        (Role::Client, State::AwaitInit),
        (Role::Server, State::AwaitAck),
        (Role::Client, State::Established),
        (Role::Server, State::Established),
        (Role::Client, State::Closing),
        (Role::Server, State::Closing),
        (Role::Client, State::Closed),
        (Role::Server, State::Closed),
    ])
}

fn connection_in(role: Role, state: State) -> Solo {
    let mut solo = match state {
        State::AwaitInit | State::AwaitAck => Solo::new(role, config()),
        _ => Solo::established(role, config()),
    };
    if matches!(state, State::Closing | State::Closed) {
        solo.connection.close(solo.now, "enough");
    }
    if state == State::Closed {
        solo.connection.handle_transport_error(solo.now, "reset");
        solo.closed();
    }
    assert_eq!(solo.connection.state(), state);
    solo
}

/// Feeds a stream in pieces, and lets time pass; the application reads everything.
fn treat(solo: &mut Solo, stream: &[Vec<u8>]) -> Vec<Event> {
    let mut events = Vec::new();
    for piece in stream {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let taken = solo.connection.handle_input(solo.now, rest);
            rest = &rest[taken..];
            check_connection(&solo.connection);
            let new = solo.events();
            assert!(taken > 0 || !new.is_empty(), "stuck");
            events.extend(new);
        }
        solo.wait(millis(100));
        check_connection(&solo.connection);
    }
    solo.connection.handle_eof(solo.now);
    solo.sent();
    solo.wait(secs(10));
    events.extend(solo.events());
    events
}

/// How many ends there are, which must be the last of the events.
fn ends(events: &[Event]) -> usize {
    let is_end = |event: &&Event| matches!(event, Event::Closed(_));
    let ends = events.iter().filter(is_end).count();
    assert!(ends == 0 || events.last().is_some_and(|last| is_end(&last)));
    ends
}

/// Frames that may or may not have a place.
fn plausible_frame() -> impl Strategy<Value = Frame> {
    let session = select(vec![None, Some(SESSION), Some(SESSION), Some(FOREIGN)]);
    let content = prop_oneof![
        Just(b"ping".to_vec()),
        Just(b"pong".to_vec()),
        Just(br#"{"reason": "bye"}"#.to_vec()),
        vec(any::<u8>(), 1..3_000),
    ];
    let kind = prop_oneof![
        5 => select(vec![FrameKind::Message, FrameKind::Heartbeat, FrameKind::Error]),
        1 => select(&FrameKind::ALL[..]),
    ];
    (any_frame(1), kind, session, content).prop_map(|(frame, kind, session, content)| Frame {
        kind,
        session,
        content: content.into(),
        ..frame
    })
}

proptest! {
    #![proptest_config(property(1_000))]

    #[test]
    fn arbitrary_bytes_end_a_connection_at_most_once(
        (role, state) in any_connection(),
        stream in vec(vec(any::<u8>(), 1..200), 1..10),
    ) {
        let mut solo = connection_in(role, state);
        let events = treat(&mut solo, &stream);
        prop_assert_eq!(ends(&events), usize::from(state != State::Closed));
        prop_assert!(solo.connection.is_closed());
    }

    #[test]
    fn arbitrary_frames_end_a_connection_at_most_once(
        (role, state) in any_connection(),
        frames in vec(plausible_frame(), 1..20),
        cuts in any_cuts(),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(encode).collect();
        let stream: Vec<Vec<u8>> = pieces(&bytes, &cuts).into_iter().map(<[u8]>::to_vec).collect();
        let mut solo = connection_in(role, state);
        let events = treat(&mut solo, &stream);
        prop_assert_eq!(ends(&events), usize::from(state != State::Closed));

        // The same bytes at the same time, in other pieces, are the same events.
        let mut twin = connection_in(role, state);
        prop_assert_eq!(treat_at_once(&mut twin, bytes.chunks(1)), {
            let mut twin = connection_in(role, state);
            treat_at_once(&mut twin, [&bytes[..]])
        });
    }
}

/// Feeds a stream in pieces while no time passes: what is reported and what is sent.
fn treat_at_once<'a>(
    solo: &mut Solo,
    stream: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Event>, Vec<Frame>) {
    let mut events = Vec::new();
    for mut piece in stream {
        while !piece.is_empty() {
            let taken = solo.connection.handle_input(solo.now, piece);
            piece = &piece[taken..];
            events.extend(solo.events());
        }
    }
    let sent = solo.sent();
    solo.connection.handle_eof(solo.now);
    events.extend(solo.events());
    (events, sent)
}

#[test]
fn a_link_keeps_to_its_settings() {
    // The network of these tests is code too: what it is told to do must make a difference.
    let mut link = Link::new(support::START);
    link.capacity = 10;
    link.rate = Some(5);
    let bytes = encode(&support::frame(FrameKind::Message, "hello"));
    assert_eq!(link.write(support::START, &bytes), 10);
    assert_eq!(link.write(support::START, &bytes[10..]), 0);
    assert_eq!(link.arrival(), Some(support::START + secs(2)));
    link.split = 5;
    assert_eq!(link.arrival(), Some(support::START + secs(1)));
    assert_eq!(link.piece(), &bytes[..5]);
    link.stalled = true;
    assert_eq!(link.arrival(), None);
    link.stalled = false;
    link.cut();
    assert!(link.is_over());
}

//! Connections in every state and in the corners of states.

use bytes::Bytes;
use chat_core::frame::{ChunkLimits, Extensions, Frame, FrameKind};
use chat_core::{Config, Connection, Message, Rate, Role, State, Transfer, TransferId};

use super::chunk::{IMAGE, begin, data, every_extension, image, negotiated, streams, with_streams};
use super::conversation::ROLES;
use super::sec::{ByHand, Direction};
use super::{START, Solo, encode, frame, secs};

/// A connection in some state, and what a test has to know of it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) solo: Solo,
    /// With `sec`, what signs what its peer sends.
    pub(crate) sign: Option<Direction>,
    /// A stream of its own.
    pub(crate) own: Option<TransferId>,
    /// One of its peer's.
    pub(crate) theirs: Option<TransferId>,
    /// Its end has been reported.
    pub(crate) told: bool,
}

impl Case {
    fn new(name: &'static str, solo: Solo) -> Self {
        Self {
            name,
            solo,
            sign: None,
            own: None,
            theirs: None,
            told: false,
        }
    }

    fn by_hand(name: &'static str, by_hand: ByHand) -> Self {
        Self {
            sign: Some(by_hand.mine),
            ..Self::new(name, by_hand.solo)
        }
    }

    /// A frame as its peer would send it next.
    pub(crate) fn bytes(&mut self, frame: &Frame) -> Vec<u8> {
        match &mut self.sign {
            Some(direction) => direction.frame(frame),
            None => encode(frame),
        }
    }
}

/// Settings in which everything can be due.
fn config() -> Config {
    Config::default().transfer_timeout(Some(secs(20)))
}

/// A peer that gives little room.
fn small_window() -> Extensions {
    let mut extensions = with_streams();
    extensions.chunk = extensions.chunk.map(|limits| ChunkLimits {
        size: 1_024,
        window: 4_096,
        ..limits
    });
    extensions
}

/// The first id that an end of this role gives, and the one that its peer does.
pub(crate) fn first_ids(role: Role) -> (u64, u64) {
    match role {
        Role::Client => (1, 2),
        Role::Server => (2, 1),
    }
}

/// Transfers of all kinds under way: a stream and a message of its own, a stream of its peer's.
fn with_transfers(name: &'static str, role: Role) -> Case {
    let config = streams().transfer_timeout(Some(secs(20)));
    let mut solo = negotiated(role, config, small_window());
    let now = solo.now;
    let (_, theirs) = first_ids(role);
    solo.feed_all(&[begin(theirs, None), data(theirs, 0, "a piece")]);
    let announced = solo.announced();
    let own = solo.connection.open(now, Transfer::new(IMAGE));
    let own = own.expect("the peer takes it");
    let wrote = solo.connection.write(now, own, Bytes::from_static(b"abc"));
    assert_eq!(wrote, Ok(()));
    solo.send(image(20_000));
    Case {
        own: Some(own),
        theirs: Some(announced),
        ..Case::new(name, solo)
    }
}

fn with_config(role: Role, config: Config) -> Solo {
    let mut solo = Solo::established(role, config);
    solo.sent();
    solo
}

fn closed(mut solo: Solo, by: fn(&mut Solo)) -> Solo {
    by(&mut solo);
    assert_eq!(solo.connection.state(), State::Closed);
    solo
}

/// Each of the corners, in one role or in both.
pub(crate) fn cases() -> Vec<Case> {
    let mut all = vec![
        Case::new("AwaitInit", Solo::new(Role::Client, config())),
        Case::new(
            "AwaitInit, version 1",
            Solo::new(Role::Client, config().version_1()),
        ),
        Case::new("AwaitAck, offer unsent", Solo::new(Role::Server, config())),
        Case::by_hand("AwaitProof", ByHand::await_proof(config())),
    ];
    let mut server = Solo::new(Role::Server, config());
    server.sent();
    all.push(Case::new("AwaitAck", server));
    let now = START;
    let refused = Connection::refuse(config().into(), "full", now);
    all.push(Case::new("refusing", Solo::of(refused)));
    all.push(Case::new(
        "closed in the handshake",
        closed(Solo::new(Role::Client, config()), |solo| {
            solo.connection.close(solo.now, "no");
        }),
    ));
    for role in ROLES {
        all.push(Case::new(
            "Established, version 1",
            with_config(role, config()),
        ));
        all.push(Case::new(
            "Established, all extensions",
            negotiated(role, config(), every_extension()),
        ));
        all.push(Case::by_hand(
            "Established, sec",
            ByHand::established(role, config()),
        ));
        all.push(with_transfers("transfers under way", role));

        let mut begun = with_config(role, config());
        begun.send(Message::text("half of it has left"));
        begun.take(100);
        begun.feed_bytes(&encode(&frame(FrameKind::Message, "and half has come"))[..100]);
        all.push(Case::new("in the middle of frames", begun));

        let mut leaving = with_transfers("leaving, transfers under way", role);
        leaving.solo.connection.close(leaving.solo.now, "enough");
        assert_eq!(leaving.solo.connection.state(), State::Closing);
        assert!(!leaving.solo.connection.is_write_finished());
        all.push(leaving);

        let mut closing = with_config(role, config());
        closing.connection.close(now, "enough");
        all.push(Case::new("Closing, goodbye unsent", closing));
        let mut closing = with_config(role, config());
        closing.connection.close(now, "enough");
        closing.connection.handle_eof(now);
        assert_eq!(closing.connection.state(), State::Closing);
        all.push(Case::new("Closing, only the goodbye to send", closing));
        let mut closing = with_config(role, config());
        closing.connection.close(now, "enough");
        closing.sent();
        assert!(closing.connection.is_write_finished());
        all.push(Case::new("Closing, goodbye sent", closing));
        let mut closing = with_config(role, config());
        closing.feed_bytes(b"nonsense");
        assert_eq!(closing.connection.state(), State::Closing);
        all.push(Case::new("Closing for a violation", closing));

        let rate = Some(Rate::per_second(1));
        let mut throttled = with_config(role, config().message_rate(rate));
        throttled.feed(&frame(FrameKind::Message, "one too many"));
        throttled.events();
        assert!(!throttled.connection.wants_input());
        all.push(Case::new("throttled", throttled));

        let mut deaf = negotiated(role, config().max_inbox(1), every_extension());
        deaf.feed(&frame(FrameKind::Message, "one"));
        let more = encode(&frame(FrameKind::Message, "two"));
        assert_eq!(deaf.connection.handle_input(now, &more), 0);
        all.push(Case::new("deaf", deaf));

        let mut full = with_config(role, config().max_outbox(1));
        full.send(Message::text("full"));
        all.push(Case::new("outbox full", full));

        let by_peer = closed(with_config(role, config()), |solo| {
            solo.feed(&frame(FrameKind::Disconnect, "{}"));
        });
        all.push(Case::new("closed by the peer", by_peer));
        let by_eof = closed(with_config(role, config()), |solo| {
            solo.connection.handle_eof(solo.now);
            solo.events();
        });
        all.push(Case {
            told: true,
            ..Case::new("closed and told", by_eof)
        });
        let mut gone = with_transfers("closed with transfers", role);
        gone.solo.connection.handle_transport_error(now, "reset");
        all.push(gone);
    }
    all
}

//! What is measured, and of whom.

use super::hello::Protocol;
use super::load::Shape;
use super::serve::Kind;

/// A server, and what is spoken with it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called in reports.
    pub name: &'static str,
    /// The program.
    pub kind: Kind,
    /// The language.
    pub protocol: Protocol,
    /// It listens on a Unix socket.
    pub unix: bool,
}

const fn target(name: &'static str, kind: Kind, protocol: Protocol) -> Target {
    Target {
        name,
        kind,
        protocol,
        unix: false,
    }
}

const fn over_unix(target: Target) -> Target {
    Target {
        unix: true,
        ..target
    }
}

/// The one that the others are compared with.
pub const OURS: &str = "chat-tokio";

/// All of them.
pub const TARGETS: [Target; 14] = [
    target(OURS, Kind::Tokio, Protocol::Sec),
    target("chat-async-std", Kind::AsyncStd, Protocol::Sec),
    target("chat-smol", Kind::Smol, Protocol::Sec),
    target("chat-tokio-no-sec", Kind::Tokio, Protocol::Coalesce),
    target("chat-tokio-v1", Kind::Tokio, Protocol::Version1),
    target("tungstenite", Kind::Tungstenite, Protocol::WebSocket),
    target(
        "tungstenite-tuned",
        Kind::TungsteniteTuned,
        Protocol::WebSocket,
    ),
    target("delimited", Kind::Delimited, Protocol::Delimited),
    target("delimited-tuned", Kind::DelimitedTuned, Protocol::Delimited),
    target("nats", Kind::Nats, Protocol::Nats),
    target("bare", Kind::Bare, Protocol::Bare),
    over_unix(target("unix-chat-tokio", Kind::Tokio, Protocol::Sec)),
    over_unix(target(
        "unix-chat-tokio-trust",
        Kind::Tokio,
        Protocol::Trust,
    )),
    over_unix(target(
        "unix-tungstenite-tuned",
        Kind::TungsteniteTuned,
        Protocol::WebSocket,
    )),
];

/// Something that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called in reports.
    pub name: &'static str,
    /// What is done.
    pub what: What,
}

/// What a case does.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// Messages, as many as go through.
    Flood(Shape),
    /// One message at a time, of so many bytes of content.
    PingPong(usize),
    /// Connections that come, say hello and leave.
    Visits,
    /// Connections that stay and say nothing.
    Idle,
}

impl What {
    /// Without a protocol there is no flood to compare: nobody finds the messages in it.
    pub fn is_for(self, target: &Target) -> bool {
        target.kind != Kind::Bare || !matches!(self, Self::Flood(_))
    }

    /// Which flags its servers are given.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Flood(Shape { room: true, .. }) => &["--room"],
            Self::Idle => &["--idle"],
            _ => &[],
        }
    }
}

const fn echo(name: &'static str, connections: usize, in_flight: usize, len: usize) -> Case {
    flood(name, connections, in_flight, len, false)
}

const fn room(name: &'static str, connections: usize, in_flight: usize, len: usize) -> Case {
    flood(name, connections, in_flight, len, true)
}

const fn flood(
    name: &'static str,
    connections: usize,
    in_flight: usize,
    len: usize,
    room: bool,
) -> Case {
    let shape = Shape {
        connections,
        in_flight,
        len,
        room,
    };
    let what = What::Flood(shape);
    Case { name, what }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// All of them.
pub const CASES: [Case; 12] = [
    echo("echo-16B-1000", 1, 1_000, 16),
    echo("echo-16B-10000", 1, 10_000, 16),
    echo("echo-1KiB-1000", 1, 1_000, KIB),
    echo("echo-100KiB-32", 1, 32, 100 * KIB),
    echo("echo-1MiB-8", 1, 8, MIB),
    echo("echo-10MiB-2", 1, 2, 10 * MIB),
    echo("echo-16B-64x16", 64, 16, 16),
    room("room-16B-100", 100, 256, 16),
    room("room-1KiB-100", 100, 64, KIB),
    Case {
        name: "ping-pong-16B",
        what: What::PingPong(16),
    },
    Case {
        name: "visits",
        what: What::Visits,
    },
    Case {
        name: "idle",
        what: What::Idle,
    },
];

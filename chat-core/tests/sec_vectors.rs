//! The test vectors of `sec`: `vectors/sec.json`, which were made from the document alone.

mod support;

use chat_core::frame::{Extra, Frame, FrameError, FrameKind};
use chat_core::{
    CloseReason, Config, Connection, Entropy, Event, Identity, Key, Message, ProtocolError, Role,
    Security, State, Transfer, TransferId, Uuid,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;

use support::chunk::other;
use support::sec::{Direction, Keys, frames_of, hex, key_id, unhex};
use support::{START, Solo, kinds, secs, sign_again, whole};

const VECTORS: &str = include_str!("vectors/sec.json");

/// A recorded session.
struct Case {
    name: String,
    key: Vec<u8>,
    server_key: Vec<u8>,
    binding: Vec<u8>,
    session: Uuid,
    server_nonce: [u8; 32],
    client_nonce: [u8; 32],
    init: Vec<u8>,
    ack: Vec<u8>,
    /// Those after `ack`, with their senders.
    frames: Vec<(Role, Vec<u8>)>,
    value: Value,
}

/// A frame that must not be taken for one of the session.
struct Bad {
    name: String,
    case: String,
    to: Role,
    state: State,
    /// How many frames of the other end were right before, `session_ack` of the client included.
    sequence: usize,
    frame: Vec<u8>,
    error: Option<String>,
    ends: String,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn bytes(value: &Value) -> Vec<u8> {
    unhex(text(value))
}

fn number(value: &Value) -> usize {
    let number = value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"));
    usize::try_from(number).expect("a small number")
}

fn nonce(value: &Value) -> [u8; 32] {
    bytes(value).try_into().expect("32 bytes")
}

fn role(value: &Value) -> Role {
    match text(value) {
        "client" => Role::Client,
        "server" => Role::Server,
        other => panic!("no end: {other}"),
    }
}

fn list(vectors: &Value, name: &str) -> Vec<Value> {
    vectors[name].as_array().expect("a list").clone()
}

fn vectors() -> Value {
    serde_json::from_str(VECTORS).expect("the vectors are JSON")
}

impl Case {
    fn all() -> Vec<Self> {
        let cases = list(&vectors(), "cases");
        cases.into_iter().map(Self::parse).collect()
    }

    fn parse(value: Value) -> Self {
        let frames = list(&value, "frames");
        let frames = frames
            .iter()
            .map(|it| (role(&it["from"]), bytes(&it["frame"])));
        Self {
            name: text(&value["name"]).to_owned(),
            key: bytes(&value["key"]),
            server_key: bytes(&value["server_key"]),
            binding: bytes(&value["binding"]),
            session: text(&value["session_id"]).parse().expect("a UUID"),
            server_nonce: nonce(&value["server_nonce"]),
            client_nonce: nonce(&value["client_nonce"]),
            init: bytes(&value["init"]),
            ack: bytes(&value["ack"]),
            frames: frames.collect(),
            value,
        }
    }

    /// Whether the frames are as this crate writes them, for the settings of the case.
    fn is_ours(&self, role: Role) -> bool {
        match &self.name[..] {
            "json_upper_case" => false,
            // Padded though it need not be; and a choice of some extensions that goes by no setting.
            "ack_padded_with_coalesce" | "sec_and_chunk" => role == Role::Server,
            _ => true,
        }
    }

    /// The connection of one end, before anything has happened.
    fn connection(&self, role: Role) -> Solo {
        let heartbeat = |config: Config| config.heartbeat(Some(secs(5)));
        let mut connection = match role {
            Role::Client => {
                let coalesce = !self.value["padded"].as_bool().expect("a boolean");
                let config = Config::new(Key::new(&self.key)).coalesce(coalesce);
                let entropy = Entropy::new(self.client_nonce);
                Connection::client(Arc::new(heartbeat(config)), entropy, START)
            }
            Role::Server => {
                let config = Config::new(Key::new(&self.server_key));
                let config = if self.key == self.server_key {
                    config
                } else {
                    config.identity("the client", Key::new(&self.key))
                };
                let entropy = Entropy::new(self.server_nonce);
                let config = Arc::new(heartbeat(config));
                Connection::server(config, self.session, entropy, START)
            }
        };
        if !self.binding.is_empty() {
            connection.set_channel_binding(&self.binding);
        }
        Solo::of(connection)
    }

    /// The same after the handshake, of which it sent what is recorded.
    fn established(&self, role: Role) -> Solo {
        let mut solo = self.connection(role);
        match role {
            Role::Client => {
                solo.feed_bytes(&self.init);
                assert_eq!(solo.connection.state(), State::AwaitProof, "{}", self.name);
                assert!(solo.sent_bytes().concat() == self.ack, "{}: ack", self.name);
            }
            Role::Server => {
                assert!(
                    solo.sent_bytes().concat() == self.init,
                    "{}: init",
                    self.name
                );
                solo.feed_bytes(&self.ack);
            }
        }
        solo
    }

    fn keys(&self) -> Keys {
        Keys::new(&self.key, &self.init, &self.ack, &self.binding)
    }

    fn of(&self, from: Role) -> Vec<&[u8]> {
        let frames = self.frames.iter().filter(|(sender, _)| *sender == from);
        frames.map(|(_, frame)| &frame[..]).collect()
    }
}

impl Bad {
    fn all() -> Vec<Self> {
        let bad = list(&vectors(), "bad");
        let parse = |value: &Value| Self {
            name: text(&value["name"]).to_owned(),
            case: text(&value["case"]).to_owned(),
            to: role(&value["to"]),
            state: match text(&value["state"]) {
                "AwaitAck" => State::AwaitAck,
                "AwaitProof" => State::AwaitProof,
                "Established" => State::Established,
                other => panic!("no state: {other}"),
            },
            sequence: number(&value["sequence"]),
            frame: bytes(&value["frame"]),
            error: value["error"].as_str().map(str::to_owned),
            ends: text(&value["ends"]).to_owned(),
        };
        bad.iter().map(parse).collect()
    }

    /// Whether this is what the vectors call the error.
    fn is(&self, error: &ProtocolError) -> bool {
        let name = self.error.as_deref().expect("an error");
        match error {
            ProtocolError::Frame(FrameError::Mac) => {
                // A choice that makes no sense does not say which key it is signed with: that its
                // code is wrong is as true.
                name == "hmac" || name == "header_json" && self.state == State::AwaitAck
            }
            ProtocolError::Frame(FrameError::HeaderJson(_)) => name == "header_json",
            ProtocolError::Frame(FrameError::ContentCrc) => name == "content_crc",
            ProtocolError::Frame(FrameError::UnknownType) => name == "unknown_type",
            ProtocolError::UnknownKey(_) => name == "unknown_key",
            ProtocolError::Unexpected(_) | ProtocolError::WrongSession(_) => name == "protocol",
            _ => false,
        }
    }
}

#[test]
fn the_keys_are_those_of_the_vectors() {
    let cases = Case::all();
    assert!(cases.len() >= 13, "{}", cases.len());
    for case in cases {
        let keys = case.keys();
        let value = |name: &str| bytes(&case.value[name]);
        assert_eq!(keys.transcript[..], value("transcript"), "{}", case.name);
        assert_eq!(keys.client.key[..], value("k_client"), "{}", case.name);
        assert_eq!(keys.server.key[..], value("k_server"), "{}", case.name);
        assert_eq!(key_id(&case.key)[..], value("key_id"), "{}", case.name);
        assert_eq!(
            Sha256::digest(&case.init)[..],
            value("init_sha256"),
            "{}",
            case.name
        );
        let id = Key::new(&case.key).id().to_string();
        assert_eq!(id, text(&case.value["key_id"]), "{}", case.name);
    }
}

#[test]
fn every_frame_has_the_code_of_its_number() {
    for case in Case::all() {
        let keys = case.keys();
        for (sender, mut direction, first) in [
            (Role::Client, keys.client, Some(&case.ack[..])),
            (Role::Server, keys.server, None),
        ] {
            let stream: Vec<&[u8]> = first.into_iter().chain(case.of(sender)).collect();
            let read = direction.read(&stream.concat());
            assert_eq!(read.len(), stream.len(), "{}", case.name);
        }
        let mut next = [1, 0];
        for (frame, (sender, raw)) in list(&case.value, "frames").iter().zip(&case.frames) {
            let sequence = &mut next[*sender as usize];
            assert_eq!(number(&frame["sequence"]), *sequence, "{}", case.name);
            *sequence += 1;
            let message = &frame["message"];
            let read = unsigned(raw);
            assert_eq!(read.kind.as_str(), text(&message["type"]));
            assert_eq!(&read.content_type[..], text(&message["content_type"]));
            assert_eq!(read.content, bytes(&message["content"]));
            assert_eq!(message.get("chunk").is_some(), read.extra != Extra::None);
        }
    }
}

/// The frame, whatever its code is.
fn unsigned(raw: &[u8]) -> Frame {
    let mut raw = raw.to_vec();
    sign_again(&mut raw);
    whole(&raw).frames.remove(0)
}

/// What an end must do so that it sends a frame.
fn provoke(solo: &mut Solo, transfer: &mut Option<TransferId>, frame: &Frame) {
    let connection = &mut solo.connection;
    let now = solo.now;
    match (frame.kind, &frame.extra) {
        (FrameKind::Message, _) => {
            let message = Message::new(frame.content_type.clone(), frame.content.clone());
            solo.send(message);
        }
        (FrameKind::Heartbeat, _) if frame.content == "ping" => solo.wait(secs(8)),
        (FrameKind::Error, _) => {
            let text = core::str::from_utf8(&frame.content).expect("a text");
            connection.send_error(now, text);
        }
        (FrameKind::Disconnect, _) => {
            let json: Value = serde_json::from_slice(&frame.content).expect("JSON");
            connection.close(now, text(&json["reason"]));
        }
        (FrameKind::Chunk, Extra::Chunk(chunk)) => {
            use chat_core::frame::ChunkOp::{Begin, Data, End};
            match &chunk.op {
                Begin { total, name } => {
                    let mut opened = Transfer::new(frame.content_type.clone());
                    if let Some(total) = total {
                        opened = opened.total(*total);
                    }
                    if let Some(name) = name {
                        opened = opened.name(name);
                    }
                    *transfer = Some(connection.open(now, opened).expect("there is room"));
                }
                Data { .. } => {
                    let id = transfer.expect("it was opened");
                    let written = connection.write(now, id, frame.content.clone());
                    assert_eq!(written, Ok(()));
                }
                End { .. } => {
                    let id = transfer.expect("it was opened");
                    assert_eq!(connection.finish(now, id), Ok(()));
                }
                // Answers come of themselves.
                _ => {}
            }
        }
        // Likewise.
        _ => {}
    }
}

/// Plays a case to one end, to the goodbye of the other. Returns how many of its frames are those of
/// the vectors, byte for byte, and what it reported.
fn play(case: &Case, end: Role) -> (usize, Vec<Event>) {
    let mut solo = case.established(end);
    let mut transfer = None;
    let (mut same, mut differs) = (0, false);
    let mut events = Vec::new();
    let goodbye = case.frames.iter().rposition(|(sender, _)| *sender != end);
    let goodbye = goodbye.expect("a goodbye");
    for (nth, (sender, raw)) in case.frames[..=goodbye].iter().enumerate() {
        if *sender == end {
            let frame = unsigned(raw);
            // The other end's goodbye must find this one open.
            if frame.kind == FrameKind::Disconnect {
                continue;
            }
            provoke(&mut solo, &mut transfer, &frame);
            let sent = solo.sent_bytes().concat();
            let ours = [raw.clone()];
            if !differs && frames_of(&sent) == ours {
                same += 1;
            } else {
                differs = true;
            }
        } else {
            solo.feed_bytes(raw);
        }
        events.append(&mut solo.events());
        let is_over = solo.connection.is_closed();
        assert_eq!(
            is_over,
            nth == goodbye,
            "{}: frame {nth}, {events:?}",
            case.name
        );
    }
    (same, events)
}

#[test]
fn a_connection_takes_every_frame_of_every_session() {
    let mut played = 0;
    for case in Case::all() {
        for end in [Role::Client, Role::Server] {
            if !case.is_ours(end) {
                continue;
            }
            played += 1;
            let (same, events) = play(&case, end);
            let name = &case.name;
            let [
                Event::Established { session },
                rest @ ..,
                Event::Closed(CloseReason::Peer { reason }),
            ] = &events[..]
            else {
                panic!("{name}: {events:?}");
            };
            assert_eq!(*session, case.session, "{name}");
            assert!(!reason.is_empty(), "{name}");
            let messages = rest.iter().filter(|it| matches!(it, Event::Message(_)));
            assert_eq!(messages.count(), 2, "{name}: one in pieces, {rest:?}");
            match end {
                // All of it: a message, two heartbeats, a transfer and an answer.
                Role::Client => assert_eq!(same, 8, "{name}"),
                // Up to a `window` that it has no reason for.
                Role::Server => assert_eq!(same, 4, "{name}"),
            }
        }
    }
    assert_eq!(played, 12 + 10);
}

#[test]
fn a_client_says_goodbye_as_recorded() {
    for case in Case::all().iter().filter(|case| case.is_ours(Role::Client)) {
        let mut solo = case.established(Role::Client);
        let mut transfer = None;
        let mut sent = Vec::new();
        for (sender, raw) in &case.frames {
            match sender {
                Role::Client => provoke(&mut solo, &mut transfer, &unsigned(raw)),
                Role::Server => solo.feed_bytes(raw),
            }
            sent.extend(solo.sent_bytes());
        }
        assert!(
            sent.concat() == case.of(Role::Client).concat(),
            "{}",
            case.name
        );
        solo.connection.handle_eof(solo.now);
        assert!(solo.connection.is_closed());
    }
}

#[test]
fn both_ends_know_each_other() {
    for case in Case::all() {
        for end in [Role::Client, Role::Server] {
            if !case.is_ours(end) {
                continue;
            }
            let mut solo = case.established(end);
            if end == Role::Client {
                assert_eq!(solo.connection.security(), Security::Legacy);
                solo.feed_bytes(case.of(Role::Server)[0]);
            }
            assert_eq!(solo.connection.security(), Security::Sec, "{}", case.name);
            let identity = solo.connection.identity();
            let key = identity.map(Identity::key);
            assert_eq!(key, Some(Key::new(&case.key).id()), "{}", case.name);
        }
    }
}

#[test]
fn no_session_is_taken_with_another_key_or_another_channel() {
    for case in Case::all()
        .into_iter()
        .filter(|it| it.is_ours(Role::Server))
    {
        let mut server = case.connection(Role::Server);
        server.sent_bytes();
        server.connection.set_channel_binding(b"another channel");
        server.feed_bytes(&case.ack);
        let mac = CloseReason::Protocol(FrameError::Mac.into());
        assert_eq!(server.closed(), mac, "{}", case.name);
        let config = Arc::new(Config::new(Key::new(b"another key")));
        let entropy = Entropy::new(case.server_nonce);
        let mut stranger = Solo::of(Connection::server(config, case.session, entropy, START));
        stranger.sent_bytes();
        stranger.feed_bytes(&case.ack);
        let unknown = ProtocolError::UnknownKey(Key::new(&case.key).id());
        assert_eq!(
            stranger.closed(),
            CloseReason::Protocol(unknown),
            "{}",
            case.name
        );
    }
}

/// An end in the state in which a bad frame comes, and what it signs with.
fn before(case: &Case, bad: &Bad) -> (Solo, Direction) {
    let keys = case.keys();
    let sent = case.of(other(bad.to));
    match bad.to {
        Role::Client => {
            let mut solo = case.established(Role::Client);
            let mut mine = keys.client;
            mine.sequence = 1;
            for raw in &sent[..bad.sequence] {
                solo.feed_bytes(raw);
            }
            (solo, mine)
        }
        Role::Server => {
            let mut mine = keys.server;
            if bad.sequence == 0 {
                let mut solo = case.connection(Role::Server);
                solo.sent_bytes();
                return (solo, mine);
            }
            let mut solo = case.established(Role::Server);
            for raw in &sent[..bad.sequence - 1] {
                solo.feed_bytes(raw);
            }
            let proof = solo.sent_bytes().concat();
            assert_eq!(kinds(&mine.read(&proof)), [FrameKind::SessionAck]);
            (solo, mine)
        }
    }
}

#[test]
fn every_bad_frame_is_refused_as_it_should_be() {
    let cases = Case::all();
    let bad = Bad::all();
    assert!(bad.len() >= 86, "{}", bad.len());
    for bad in bad {
        let name = &bad.name;
        let mut cases = cases.iter();
        let case = cases.find(|case| case.name == bad.case).expect("a case");
        let (mut solo, mut mine) = before(case, &bad);
        assert_eq!(solo.connection.state(), bad.state, "{name}");
        solo.events();
        solo.feed_bytes(&bad.frame);
        let sent = mine.read(&solo.sent_bytes().concat());
        let told = [FrameKind::Error, FrameKind::Disconnect];
        assert_eq!(
            kinds(&sent),
            told[..if bad.ends == "told" { 2 } else { 0 }],
            "{name}"
        );
        solo.connection.handle_eof(solo.now);
        // Nothing is delivered.
        match (solo.closed(), &bad.ends[..]) {
            (CloseReason::Refused { .. }, "refused") | (CloseReason::Peer { .. }, "left") => {
                assert_eq!(bad.error, None, "{name}");
            }
            (CloseReason::Protocol(error), "told" | "silently") => {
                assert!(bad.is(&error), "{name}: {error}");
            }
            (reason, ends) => panic!("{name}: {reason}, not {ends}"),
        }
    }
}

/// Digits in the other case are the same nonce and the same key.
#[test]
fn a_handshake_in_upper_case_is_one() {
    let cases = Case::all();
    let mut upper = cases.iter().filter(|case| case.name == "json_upper_case");
    let case = upper.next().expect("there is one");
    let mut client = case.connection(Role::Client);
    client.feed_bytes(&case.init);
    assert_eq!(client.connection.state(), State::AwaitProof);
    let ack = client.sent_bytes().concat();
    let mut keys = Keys::new(&case.key, &case.init, &ack, b"");
    keys.client.read(&ack);
    client.feed_bytes(&keys.server.sign(case.of(Role::Server)[0].to_vec()));
    assert_eq!(client.connection.security(), Security::Sec);

    let mut server = case.connection(Role::Server);
    let init = server.sent_bytes().concat();
    let mut keys = Keys::new(&case.key, &init, &case.ack, b"");
    server.feed_bytes(&keys.client.sign(case.ack.clone()));
    assert_eq!(server.connection.security(), Security::Sec);
}

/// What PROTOCOL.md §10.2 prints is in the file.
#[test]
fn printed_vectors_are_in_the_file() {
    let (_, section) = include_str!("../PROTOCOL.md")
        .split_once("\n### 10.2 `sec`\n")
        .expect("the section exists");
    let rows: Vec<_> = section
        .lines()
        .filter(|line| line.ends_with("` |"))
        .collect();
    let blocks: Vec<_> = section.split("```text\n").skip(1).collect();
    assert_eq!((rows.len(), blocks.len()), (8, 4));
    for row in rows {
        let (_, value) = row.trim_end_matches("` |").rsplit_once('`').expect(row);
        assert!(VECTORS.contains(&format!("\"{value}\"")), "{row}");
    }
    for block in blocks {
        let mut lines = block.lines();
        let mut line = || lines.next().expect("four lines");
        let fixed = [line(), line()].concat();
        let rest = [line(), line()].map(|text| hex(text.as_bytes())).concat();
        assert!(
            VECTORS.contains(&format!("\"{fixed}{rest}\"")),
            "{fixed}{rest}"
        );
    }
}

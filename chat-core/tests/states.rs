//! The table of PROTOCOL.md §7, read from the document and tried cell by cell.

mod support;

use core::time::Duration;

use chat_core::frame::{Frame, FrameKind};
use chat_core::{CloseReason, Config, Event, Message, Role, State};

use support::{FOREIGN, LONG, SESSION, Solo, encode, frame, kinds, no_timers, secs};

const PROTOCOL: &str = include_str!("../PROTOCOL.md");

/// The reason of the connections that are closing, or closed, before a test begins.
const BEGUN: &str = "begun before";

/// A row of the table: an input, and what each state does.
struct Row {
    input: String,
    cells: Vec<(State, String)>,
}

/// The cells of a line of the table.
fn cells(line: &str) -> Vec<String> {
    let inside = line
        .strip_prefix("| ")
        .and_then(|line| line.strip_suffix(" |"));
    let inside = inside.unwrap_or_else(|| panic!("no row of a table: {line}"));
    inside
        .split(" | ")
        .map(|cell| cell.replace('`', ""))
        .collect()
}

fn table() -> Vec<Row> {
    let (_, section) = PROTOCOL.split_once("\n## 7. States\n").expect("a section");
    let (section, _) = section.split_once("\n## ").expect("another section");
    let mut lines = section.lines().filter(|line| line.starts_with('|'));
    let columns: Vec<State> = cells(lines.next().expect("a heading"))[1..]
        .iter()
        .map(|name| state_named(name))
        .collect();
    assert_eq!(lines.next(), Some("|---|---|---|---|---|---|"));
    lines
        .map(|line| {
            let mut cells = cells(line);
            assert_eq!(cells.len(), columns.len() + 1, "{line}");
            let input = cells.remove(0);
            let cells = columns.iter().copied().zip(cells).collect();
            Row { input, cells }
        })
        .collect()
}

fn state_named(name: &str) -> State {
    match name {
        "AwaitInit" => State::AwaitInit,
        "AwaitAck" => State::AwaitAck,
        "Established" => State::Established,
        "Closing" => State::Closing,
        "Closed" => State::Closed,
        other => panic!("unknown state: {other}"),
    }
}

fn kind_named(name: &str) -> FrameKind {
    let mut all = FrameKind::ALL.into_iter();
    let found = all.find(|kind| kind.as_str() == name);
    found.unwrap_or_else(|| panic!("unknown frame: {name}"))
}

/// The table's name for a reason.
fn reason_name(reason: &CloseReason) -> &'static str {
    use chat_core::Timeout::{Handshake, Idle, Stall};

    match reason {
        CloseReason::Local { .. } => "local",
        CloseReason::Peer { .. } => "peer",
        CloseReason::Refused { .. } => "refused",
        CloseReason::Eof { .. } => "eof",
        CloseReason::Protocol(_) => "protocol",
        CloseReason::Timeout(Handshake) => "handshake timeout",
        CloseReason::Timeout(Idle) => "idle timeout",
        CloseReason::Timeout(Stall) => "stall timeout",
        CloseReason::Transport { .. } => "transport",
        other => panic!("the table has no name for {other:?}"),
    }
}

/// What a cell says.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    state: State,
    sends: Vec<FrameKind>,
    delivers: Option<Event>,
    reason: Option<String>,
}

impl Outcome {
    fn parse(cell: &str, current: State) -> Self {
        let mut outcome = Self {
            state: current,
            sends: Vec::new(),
            delivers: None,
            reason: None,
        };
        if cell == "-" {
            return outcome;
        }
        let cell = match cell
            .strip_suffix(')')
            .and_then(|cell| cell.split_once(" ("))
        {
            Some((cell, reason)) => {
                outcome.reason = Some(reason.to_owned());
                cell
            }
            None => cell,
        };
        let mut parts = cell.split("; ");
        outcome.state = state_named(parts.next().expect("a state"));
        for part in parts {
            match (part.strip_prefix("sends "), part) {
                (Some(frames), _) => outcome.sends = frames.split(", ").map(kind_named).collect(),
                (_, "delivers the message") => {
                    outcome.delivers = Some(Event::Message(Message::text("payload")));
                }
                (_, "delivers the error") => {
                    outcome.delivers = Some(Event::Error("payload".to_owned()));
                }
                _ => panic!("not understood: {part}"),
            }
        }
        outcome
    }
}

/// One form of an input.
enum Input {
    Frame(Frame),
    Bytes(Vec<u8>),
    Eof,
    TransportError,
    Wait(Duration),
    Send,
    SendError,
    Close,
    Abort,
}

/// Every form of an input of the table that a peer of this role can get.
fn inputs(name: &str, role: Role) -> Vec<Input> {
    let all = |frame: Frame| vec![Input::Frame(frame)];
    if let Some(name) = name.strip_suffix(", foreign") {
        return foreign(kind_named(name), role);
    }
    match name {
        "session_init without id" => all(Frame {
            session: None,
            ..frame(FrameKind::SessionInit, "payload")
        }),
        "heartbeat ping" => all(frame(FrameKind::Heartbeat, "ping")),
        "heartbeat pong" => all(frame(FrameKind::Heartbeat, "pong")),
        "heartbeat, other content" => all(frame(FrameKind::Heartbeat, "payload")),
        "error" => known(FrameKind::Error, true),
        "message" | "disconnect" => known(kind_named(name), role == Role::Client),
        "session_init" | "session_ack" | "chunk" => all(frame(kind_named(name), "payload")),
        "bad frame" => [0, 9, 11, 12, 16, 20, 28, 32, 64, 100]
            .map(|at| {
                let mut bytes = encode(&frame(FrameKind::Message, "payload"));
                bytes[at] ^= 0x80;
                Input::Bytes(bytes)
            })
            .into(),
        "end of stream" => vec![Input::Eof],
        "transport error" => vec![Input::TransportError],
        "handshake deadline" | "heartbeat due" | "idle deadline" | "stall deadline"
        | "close deadline" => vec![Input::Wait(2 * DEADLINE)],
        "command: send a message" => vec![Input::Send],
        "command: send an error" => vec![Input::SendError],
        "command: close" => vec![Input::Close],
        "command: abort" => vec![Input::Abort],
        other => panic!("unknown input: {other}"),
    }
}

/// A frame of the session, and one of none where that is the same.
fn known(kind: FrameKind, or_none: bool) -> Vec<Input> {
    let frame = frame(kind, "payload");
    let without = Frame {
        session: None,
        ..frame.clone()
    };
    let without = or_none.then_some(Input::Frame(without));
    [Input::Frame(frame)].into_iter().chain(without).collect()
}

/// A frame of another session, and at a server one of none.
fn foreign(kind: FrameKind, role: Role) -> Vec<Input> {
    let none = (role == Role::Server && kind != FrameKind::Error).then_some(None);
    [Some(FOREIGN)]
        .into_iter()
        .chain(none)
        .map(|session| {
            Input::Frame(Frame {
                session,
                ..frame(kind, "payload")
            })
        })
        .collect()
}

/// How long the one timer of a test waits: what is queued may make it a little more.
const DEADLINE: Duration = secs(10);

/// Settings in which nothing happens by itself but what a row is about.
fn config(input: &str) -> Config {
    let config = no_timers().handshake_timeout(LONG).close_timeout(LONG);
    match input {
        "handshake deadline" => config.handshake_timeout(DEADLINE),
        "heartbeat due" => config.heartbeat(Some(DEADLINE)),
        "idle deadline" => config.idle_timeout(Some(DEADLINE)),
        "stall deadline" => config.stall_timeout(Some(DEADLINE)),
        "close deadline" => config.close_timeout(DEADLINE),
        _ => config,
    }
}

/// A connection in the given state.
///
/// With `waiting`, the transport takes nothing, where there is something to take.
fn connection_in(state: State, role: Role, config: Config, waiting: bool) -> Solo {
    let mut solo = match state {
        State::AwaitInit | State::AwaitAck => Solo::new(role, config),
        _ => Solo::established(role, config),
    };
    if matches!(state, State::Closing | State::Closed) {
        solo.connection.close(solo.now, BEGUN);
    }
    if state == State::Closed {
        solo.sent();
        solo.connection.handle_eof(solo.now);
        solo.closed();
    }
    if waiting && state == State::Established {
        solo.send(Message::text("waits"));
    }
    if !waiting {
        solo.sent();
    }
    assert_eq!(solo.connection.state(), state);
    solo
}

/// The roles that know a state.
fn roles(state: State) -> &'static [Role] {
    match state {
        State::AwaitInit => &[Role::Client],
        State::AwaitAck => &[Role::Server],
        _ => &[Role::Client, Role::Server],
    }
}

/// Applies an input; `acts` is whether the table says that anything follows.
fn apply(solo: &mut Solo, input: &Input, acts: bool) {
    let now = solo.now;
    let connection = &mut solo.connection;
    match input {
        Input::Frame(frame) => solo.feed(frame),
        Input::Bytes(bytes) => solo.feed_bytes(bytes),
        Input::Eof => connection.handle_eof(now),
        Input::TransportError => connection.handle_transport_error(now, "broken pipe"),
        Input::Wait(duration) => connection.handle_timeout(now + *duration),
        Input::Send => {
            let result = connection.send(now, Message::text("payload"));
            assert_eq!(result.is_ok(), acts, "{result:?}");
        }
        Input::SendError => connection.send_error(now, "payload"),
        Input::Close => connection.close(now, "payload"),
        Input::Abort => connection.abort(now, "payload"),
    }
}

/// Tries one cell with one form of its input, for one role.
fn try_cell(row: &str, before: State, cell: &str, role: Role, input: &Input) {
    let outcome = Outcome::parse(cell, before);
    let waiting = row == "stall deadline";
    let mut solo = connection_in(before, role, config(row), waiting);
    let kept = {
        let twin = connection_in(before, role, config(row), waiting).sent();
        if waiting { kinds(&twin) } else { Vec::new() }
    };
    apply(&mut solo, input, cell != "-");
    assert_eq!(solo.connection.state(), outcome.state);

    let sent = kinds(&solo.sent());
    let mut expected = kept;
    expected.extend(outcome.sends);
    if outcome.state == State::Closed {
        expected.clear();
    }
    assert_eq!(sent, expected, "what is sent");

    // A closing connection tells its reason at its end.
    if outcome.state == State::Closing {
        solo.connection.handle_eof(solo.now);
    }
    let mut events = solo.events();
    let ended = matches!(outcome.state, State::Closing | State::Closed);
    if ended && before != State::Closed {
        let Some(Event::Closed(reason)) = events.pop() else {
            panic!("it has not ended");
        };
        if before == State::Closing {
            assert_eq!(outcome.reason, None, "the reason that began it");
            let begun = BEGUN.into();
            assert_eq!(reason, CloseReason::Local { reason: begun });
        } else {
            assert_eq!(outcome.reason.as_deref(), Some(reason_name(&reason)));
        }
    } else {
        assert_eq!(outcome.reason, None);
    }
    let begins =
        matches!(before, State::AwaitInit | State::AwaitAck) && outcome.state == State::Established;
    let begun = begins.then_some(Event::Established { session: SESSION });
    let expected: Vec<Event> = begun.into_iter().chain(outcome.delivers).collect();
    assert_eq!(events, expected, "what is reported");
}

#[test]
fn every_cell_of_the_table_is_what_a_connection_does() {
    for Row { input, cells } in table() {
        for (state, cell) in cells {
            for role in roles(state) {
                for (form, tried) in inputs(&input, *role).iter().enumerate() {
                    println!("{input} (form {form}) | {state:?}, {role:?} | {cell}");
                    try_cell(&input, state, &cell, *role, tried);
                }
            }
        }
    }
}

#[test]
fn the_table_has_every_state_and_every_input() {
    let table = table();
    let states: Vec<State> = table[0].cells.iter().map(|(state, _)| *state).collect();
    let all = [
        State::AwaitInit,
        State::AwaitAck,
        State::Established,
        State::Closing,
        State::Closed,
    ];
    assert_eq!(states, all);
    let rows: Vec<&str> = table.iter().map(|row| &row.input[..]).collect();
    for kind in FrameKind::ALL {
        assert!(
            rows.iter().any(|row| row.starts_with(kind.as_str())),
            "{kind}"
        );
    }
    for input in [
        "bad frame",
        "end of stream",
        "transport error",
        "handshake deadline",
        "heartbeat due",
        "idle deadline",
        "stall deadline",
        "close deadline",
        "command: send a message",
        "command: send an error",
        "command: close",
        "command: abort",
    ] {
        assert!(rows.contains(&input), "no row for {input}");
    }
    let mut once = rows.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), rows.len(), "a row appears twice");
}

#[test]
fn connections_begin_where_the_document_says() {
    let begin = "A client begins in `AwaitInit`, a server in `AwaitAck`, with `session_init` sent.";
    assert!(PROTOCOL.contains(begin));
    let client = Solo::new(Role::Client, Config::default());
    assert_eq!(client.connection.state(), State::AwaitInit);
    let mut server = Solo::new(Role::Server, Config::default());
    assert_eq!(server.connection.state(), State::AwaitAck);
    assert_eq!(kinds(&server.sent()), [FrameKind::SessionInit]);
}

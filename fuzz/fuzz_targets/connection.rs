//! A connection, in either role, against a peer and an application that do anything at all: it
//! keeps its promises.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use chat_core::frame::{Encoder, Extra, Frame, FrameKind};
use chat_core::{Config, Connection, Entropy, Event, Instant, Key, Message, Uuid};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    server: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// The peer sends a valid frame.
    Frame(Valid),
    /// The peer sends anything.
    Bytes(Vec<u8>),
    /// The transport takes bytes.
    Transmit(u16),
    PollEvents(u8),
    Advance(u32),
    Send(u16),
    SendError(String),
    Close(String),
    Abort(String),
    Eof,
    TransportError,
}

#[derive(Arbitrary, Debug)]
struct Valid {
    kind: u8,
    foreign: bool,
    anonymous: bool,
    content: Content,
}

#[derive(Arbitrary, Debug)]
enum Content {
    Ping,
    Pong,
    Any(Vec<u8>),
}

const SESSION: Uuid = Uuid::from_u128(1);
const OUTBOX: usize = 4096;

fuzz_target!(|input: Input| {
    let config = Config::default().max_outbox(OUTBOX).max_inbox(1024);
    let mut now = Instant::EPOCH;
    let mut connection = if input.server {
        Connection::server(Arc::new(config), SESSION, Entropy::new([2; 32]), now)
    } else {
        Connection::client(Arc::new(config), Entropy::new([1; 32]), now)
    };
    let mut peer = Encoder::new(Key::default());
    // What the connection did not take yet.
    let mut wire = Vec::new();
    let mut closed = false;

    for step in input.steps {
        match step {
            Step::Frame(valid) => wire.extend(valid.encode(&mut peer)),
            Step::Bytes(bytes) => wire.extend(bytes),
            Step::Transmit(most) => {
                let mut parts = [&[][..]; 2];
                let shown: usize = match connection.poll_transmit(&mut parts) {
                    0 => 0,
                    count => parts[..count].iter().map(|part| part.len()).sum(),
                };
                connection.consume_transmit(now, shown.min(usize::from(most)));
            }
            Step::PollEvents(most) => {
                for _ in 0..most {
                    match connection.poll_event() {
                        None => break,
                        Some(event) => {
                            assert!(!closed, "an event after the last: {event:?}");
                            closed = matches!(event, Event::Closed(_));
                        }
                    }
                }
            }
            Step::Advance(millis) => {
                now = now + Duration::from_millis(u64::from(millis));
                connection.handle_timeout(now);
                assert!(connection.poll_timeout().is_none_or(|due| due > now));
            }
            Step::Send(len) => {
                let message = Message::binary(vec![7; usize::from(len)]);
                if let Err(error) = connection.send(now, message.clone()) {
                    assert_eq!(error.into_message(), message);
                }
            }
            Step::SendError(text) => connection.send_error(now, &text),
            Step::Close(reason) => connection.close(now, &reason),
            Step::Abort(reason) => connection.abort(now, &reason),
            Step::Eof => connection.handle_eof(now),
            Step::TransportError => connection.handle_transport_error(now, "reset"),
        }
        let taken = connection.handle_input(now, &wire);
        wire.drain(..taken);
        // One frame of any size fits into an empty outbox; sixteen answers and a goodbye on top.
        assert!(connection.outbox_bytes() < OUTBOX + 80 * 1024);
        if connection.is_closed() {
            assert_eq!(connection.poll_transmit(&mut [&[][..]; 2]), 0);
            assert_eq!(connection.poll_timeout(), None);
        }
    }
    while let Some(event) = connection.poll_event() {
        assert!(!closed, "an event after the last: {event:?}");
        closed = matches!(event, Event::Closed(_));
    }
    assert_eq!(closed, connection.is_closed());
});

impl Valid {
    fn encode(self, encoder: &mut Encoder) -> Vec<u8> {
        let session = if self.anonymous {
            None
        } else {
            Some(Uuid::from_u128(1 + u128::from(self.foreign)))
        };
        let content = match self.content {
            Content::Ping => b"ping".to_vec(),
            Content::Pong => b"pong".to_vec(),
            Content::Any(bytes) => bytes,
        };
        let frame = Frame {
            kind: FrameKind::ALL[usize::from(self.kind) % FrameKind::ALL.len()],
            content_type: "text/plain".into(),
            session,
            content: content.into(),
            extra: Extra::None,
        };
        encoder
            .encode(&frame, 0)
            .map_or_else(|_| Vec::new(), |encoded| encoded.to_vec())
    }
}

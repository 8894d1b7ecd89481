//! What the load says once it has arrived, and how it counts what comes back: for all protocols with
//! the same care, and no more work than that takes.
//!
//! Where messages are the same bytes each time they are made once, and written many at a time from
//! where they lie. Where they are not (`sec` numbers them) our own [`Connection`] makes them. The first
//! answer of a connection is looked at; of the others it is enough to count the bytes, for all have the
//! same length. Only messages in pieces have to be received by the [`Connection`].

use std::io::{self, Write};

use bytes::Bytes;
use chat_core::frame::{Encoder, Extra, FIXED_HEADER_LEN, Frame, FrameKind, LEGACY_MIN_FRAME};
use chat_core::{Connection, ContentType, Event, Key, Message, Uuid};

use super::hello::{Hello, Protocol, now};

/// How much is written and read at once.
pub(super) const BATCH: usize = 256 * 1024;
/// Above this our messages go in pieces, by default.
const CHUNKS: usize = 8 * 1024;

/// One connection's end of the conversation.
pub struct Wire {
    source: Source,
    counter: Counter,
}

enum Source {
    /// The same frame over and over.
    Same {
        batch: Vec<u8>,
        frame: usize,
        /// Where in the batch the next byte is.
        next: usize,
        /// How many bytes are to be written.
        left: usize,
    },
    /// Frames that are each made once.
    Made {
        connection: Box<Connection>,
        content: Bytes,
        /// Messages that it had no room for.
        waiting: usize,
        out: Vec<u8>,
        written: usize,
    },
}

enum Counter {
    /// The first answer, as far as it has come.
    First {
        protocol: Protocol,
        content: Bytes,
        heard: Vec<u8>,
    },
    /// So long is every one, and so much has come of the next.
    Bytes { len: usize, rest: usize },
    /// The connection says.
    Events,
}

impl Wire {
    /// Of a client that has arrived, and whose messages have this content.
    pub fn new(protocol: Protocol, hello: Hello, subject: &str, content: &Bytes) -> Self {
        let mut counter = Counter::First {
            protocol,
            content: content.clone(),
            heard: Vec::new(),
        };
        let frame = match (protocol, hello) {
            (Protocol::Sec | Protocol::Trust, Hello::Core(connection)) => {
                if content.len() > CHUNKS {
                    counter = Counter::Events;
                }
                let source = Source::Made {
                    connection,
                    content: content.clone(),
                    waiting: 0,
                    out: Vec::new(),
                    written: 0,
                };
                return Self { source, counter };
            }
            (_, Hello::Core(connection)) => signed(protocol, &connection, content),
            (protocol, _) => frame(protocol, subject, content),
        };
        let times = (BATCH / frame.len()).max(1);
        let source = Source::Same {
            batch: frame.repeat(times),
            frame: frame.len(),
            next: 0,
            left: 0,
        };
        Self { source, counter }
    }

    /// So many more messages are to be sent.
    pub fn send(&mut self, count: usize) {
        match &mut self.source {
            Source::Same { frame, left, .. } => *left += *frame * count,
            Source::Made { waiting, .. } => *waiting += count,
        }
    }

    /// Writes what the socket takes.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        loop {
            self.make();
            let bytes = match &self.source {
                Source::Same {
                    batch, next, left, ..
                } => &batch[*next..batch.len().min(*next + *left)],
                Source::Made { out, written, .. } => &out[*written..],
            };
            if bytes.is_empty() {
                return Ok(());
            }
            match socket.write(bytes) {
                Ok(taken) => self.wrote(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn wrote(&mut self, taken: usize) {
        match &mut self.source {
            Source::Same {
                batch, next, left, ..
            } => {
                *left -= taken;
                *next = (*next + taken) % batch.len();
            }
            Source::Made { written, .. } => *written += taken,
        }
    }

    /// Makes frames, if all that there were are written.
    fn make(&mut self) {
        let Source::Made {
            connection,
            content,
            waiting,
            out,
            written,
        } = &mut self.source
        else {
            return;
        };
        if *written < out.len() {
            return;
        }
        while *waiting > 0
            && connection
                .send(now(), Message::binary(content.clone()))
                .is_ok()
        {
            *waiting -= 1;
        }
        out.clear();
        *written = 0;
        loop {
            let mut parts = [&[][..]; 64];
            let count = connection.poll_transmit(&mut parts);
            if count == 0 || out.len() >= BATCH {
                return;
            }
            let before = out.len();
            for part in &parts[..count] {
                out.extend_from_slice(part);
            }
            connection.consume_transmit(now(), out.len() - before);
        }
    }

    /// Whether nothing is known of that would be no answer: the bytes of a part of one.
    pub fn is_even(&self) -> bool {
        match &self.counter {
            Counter::Bytes { rest, .. } => *rest == 0,
            Counter::First { heard, .. } => heard.is_empty(),
            Counter::Events => true,
        }
    }

    /// Takes what came; returns how many answers are complete with it.
    pub fn receive(&mut self, input: &[u8]) -> io::Result<usize> {
        match &mut self.counter {
            Counter::Bytes { len, rest } => {
                let have = *rest + input.len();
                *rest = have % *len;
                Ok(have / *len)
            }
            Counter::Events => {
                let Source::Made { connection, .. } = &mut self.source else {
                    return Ok(0);
                };
                take(connection, input)
            }
            Counter::First {
                protocol,
                content,
                heard,
            } => {
                heard.extend_from_slice(input);
                let Some(len) = answer_len(*protocol, content, heard) else {
                    return Ok(0);
                };
                if heard.len() < len {
                    return Ok(0);
                }
                let first = &heard[..len];
                let first = if *protocol == Protocol::Nats {
                    &first[..len - 2]
                } else {
                    first
                };
                if !first.ends_with(content) {
                    let begin = String::from_utf8_lossy(&first[..first.len().min(256)]);
                    let error = format!("the answer is not what was sent: {begin:?}");
                    return Err(io::Error::other(error));
                }
                let (count, rest) = (heard.len() / len, heard.len() % len);
                self.counter = Counter::Bytes { len, rest };
                Ok(count)
            }
        }
    }
}

fn take(connection: &mut Connection, mut input: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    loop {
        let taken = connection.handle_input(now(), input);
        input = &input[taken..];
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Message(_) => count += 1,
                Event::Closed(reason) => return Err(io::Error::other(reason.to_string())),
                _ => {}
            }
        }
        if input.is_empty() {
            return Ok(count);
        }
    }
}

/// A message of ours that may be sent any number of times.
fn signed(protocol: Protocol, connection: &Connection, content: &Bytes) -> Vec<u8> {
    let padded = protocol == Protocol::Version1;
    ours(
        connection.session(),
        content,
        if padded { LEGACY_MIN_FRAME } else { 0 },
    )
}

/// How long a message of ours is.
pub(super) fn our_len(content: &Bytes) -> usize {
    ours(Some(Uuid::nil()), content, 0).len()
}

fn ours(session: Option<Uuid>, content: &Bytes, min_len: usize) -> Vec<u8> {
    let frame = Frame {
        kind: FrameKind::Message,
        content_type: ContentType::BINARY,
        session,
        content: content.clone(),
        extra: Extra::None,
    };
    let frame = Encoder::new(Key::default()).encode(&frame, min_len);
    frame.expect("it fits").to_vec()
}

/// The same of the others.
fn frame(protocol: Protocol, subject: &str, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let mut head = Vec::new();
    match protocol {
        Protocol::WebSocket => {
            const MASK: [u8; 4] = [0x5a, 0x0f, 0xc3, 0x96];
            // A whole binary message, masked.
            head.push(0x82);
            match (u8::try_from(len), u16::try_from(len)) {
                (Ok(len @ ..126), _) => head.push(0x80 | len),
                (_, Ok(len)) => {
                    head.push(0x80 | 0x7e);
                    head.extend_from_slice(&len.to_be_bytes());
                }
                _ => {
                    head.push(0x80 | 0x7f);
                    head.extend_from_slice(&(len as u64).to_be_bytes());
                }
            }
            head.extend_from_slice(&MASK);
            let masked = content.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b);
            head.extend(masked);
        }
        Protocol::Delimited => {
            let len = u32::try_from(len).expect("messages are small");
            head.extend_from_slice(&len.to_be_bytes());
            head.extend_from_slice(content);
        }
        Protocol::Nats => {
            head.extend_from_slice(format!("PUB {subject} {len}\r\n").as_bytes());
            head.extend_from_slice(content);
            head.extend_from_slice(b"\r\n");
        }
        _ => head.extend_from_slice(content),
    }
    head
}

/// How long the answer is that begins like this, if that is to be seen yet.
fn answer_len(protocol: Protocol, content: &[u8], heard: &[u8]) -> Option<usize> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
    match protocol {
        Protocol::Sec | Protocol::Trust | Protocol::Coalesce | Protocol::Version1 => {
            let (header, body) = (heard.get(12..16)?, heard.get(20..28)?);
            Some(FIXED_HEADER_LEN + number(header) + number(body))
        }
        Protocol::WebSocket => Some(match *heard.get(1)? {
            126 => 4 + number(heard.get(2..4)?),
            127 => 10 + number(heard.get(2..10)?),
            len => 2 + usize::from(len),
        }),
        Protocol::Delimited => Some(4 + number(heard.get(..4)?)),
        Protocol::Nats => {
            let line = heard.iter().position(|byte| *byte == b'\n')?;
            Some(line + 1 + content.len() + 2)
        }
        Protocol::Bare => Some(content.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(protocol: Protocol, content: &Bytes) -> Wire {
        Wire::new(protocol, Hello::None, "x", content)
    }

    #[test]
    fn answers_are_counted_however_they_are_split() {
        let content = Bytes::from_static(b"sixteen bytes it");
        for (protocol, head, tail) in [
            (Protocol::WebSocket, &b"\x82\x10"[..], &b""[..]),
            (Protocol::Delimited, b"\0\0\0\x10", b""),
            (Protocol::Nats, b"MSG x 1 16\r\n", b"\r\n"),
            (Protocol::Bare, b"", b""),
        ] {
            let answers = [head, &content[..], tail].concat().repeat(9);
            for split in 1..answers.len() {
                let mut wire = wire(protocol, &content);
                let parts = answers.chunks(split);
                let counted: usize = parts.map(|part| wire.receive(part).unwrap()).sum();
                assert_eq!(counted, 9, "{protocol:?}");
            }
        }
    }

    #[test]
    fn an_answer_with_another_content_is_an_error() {
        let content = Bytes::from_static(b"four");
        let mut wire = wire(Protocol::Delimited, &content);
        assert!(wire.receive(b"\0\0\0\x04fair").is_err());
    }

    #[test]
    fn what_is_written_is_as_many_messages_as_were_asked_for() {
        let content = Bytes::from_static(b"four");
        let mut wire = wire(Protocol::Delimited, &content);
        let mut written = Vec::new();
        for count in [1, 0, 40_000, 3] {
            wire.send(count);
            wire.flush(&mut written).unwrap();
        }
        assert_eq!(written, b"\0\0\0\x04four".repeat(40_004));
    }
}

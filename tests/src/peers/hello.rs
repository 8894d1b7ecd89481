//! How a client of each protocol says hello and goodbye.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use chat_core::{Config, Connection, Entropy, Event, Instant};

/// What is spoken with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Ours, with all that two ends of it agree on by default.
    Sec,
    /// The same over a channel that is trusted: frames have no codes.
    Trust,
    /// Ours, signed as in version 1, and not padded.
    Coalesce,
    /// Ours, with a peer that negotiated nothing.
    Version1,
    /// RFC 6455.
    WebSocket,
    /// Four bytes of length before each frame.
    Delimited,
    /// The protocol of NATS clients.
    Nats,
    /// Nothing but bytes.
    Bare,
}

impl Protocol {
    fn config(self) -> Option<Config> {
        // The load may have more in flight than a careful client, and it counts answers by their bytes:
        // a busy server is not to say that it lives.
        let config = Config::default()
            .max_outbox(64 * 1024 * 1024)
            .ping_timeout(None);
        match self {
            Self::Sec => Some(config),
            Self::Trust => Some(config.trust_channel(true)),
            Self::Coalesce => Some(config.sec(false).chunks(false)),
            Self::Version1 => Some(config.version_1()),
            _ => None,
        }
    }
}

/// A client that arrives.
pub enum Hello {
    /// Ours.
    Core(Box<Connection>),
    /// One that asks, and waits for an answer that ends like this.
    Ask {
        /// Whether the server speaks first, a line.
        greeted: bool,
        /// Not asked yet, if there is something.
        question: Vec<u8>,
        /// The end of the answer.
        answer: &'static [u8],
        /// What has come of it.
        heard: Vec<u8>,
    },
    /// One that may send at once.
    None,
}

impl Hello {
    /// A client that has said nothing yet; `subject` is what it subscribes to, where there are such.
    pub fn new(protocol: Protocol, subject: &str) -> Self {
        if let Some(config) = protocol.config() {
            let config = Arc::new(config);
            return Self::Core(Box::new(Connection::client(config, entropy(), now())));
        }
        match protocol {
            Protocol::WebSocket => Self::Ask {
                greeted: true,
                question: b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                    .to_vec(),
                answer: b"\r\n\r\n",
                heard: Vec::new(),
            },
            Protocol::Nats => Self::Ask {
                greeted: false,
                question: format!(
                    "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {subject} 1\r\nPING\r\n"
                )
                .into_bytes(),
                answer: b"PONG\r\n",
                heard: Vec::new(),
            },
            _ => Self::None,
        }
    }

    /// Says what there is to say, or waits for something from the server. Whether the client has
    /// arrived.
    pub fn step(&mut self, socket: &mut TcpStream) -> io::Result<bool> {
        match self {
            Self::None => Ok(true),
            Self::Core(connection) => step(connection, socket),
            Self::Ask {
                greeted,
                question,
                answer,
                heard,
            } => {
                if *greeted && !question.is_empty() {
                    socket.write_all(&std::mem::take(question))?;
                    return Ok(false);
                }
                let mut buffer = [0; 4096];
                let read = read_some(socket, &mut buffer)?;
                if !*greeted {
                    *greeted = buffer[..read].ends_with(b"\r\n");
                    return Ok(false);
                }
                heard.extend_from_slice(&buffer[..read]);
                Ok(heard.ends_with(answer))
            }
        }
    }

    /// Arrives.
    pub fn finish(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        while !self.step(socket)? {}
        Ok(())
    }

    /// Says goodbye as the protocol has it, and ends this direction.
    pub fn goodbye(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Core(connection) => {
                connection.close(now(), "done");
                transmit(connection, socket)?;
            }
            // A close frame, with the code for a normal end, masked with zeros.
            Self::Ask { answer, .. } if *answer == b"\r\n\r\n" => {
                socket.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])?;
            }
            _ => {}
        }
        // Who has closed already is gone.
        let _ = socket.shutdown(Shutdown::Write);
        Ok(())
    }
}

/// Our own hello: whatever is to be written, then one read, unless all is said.
fn step(connection: &mut Connection, socket: &mut TcpStream) -> io::Result<bool> {
    let mut arrived = false;
    while let Some(event) = connection.poll_event() {
        match event {
            Event::Established { .. } => arrived = true,
            Event::Closed(reason) => return Err(io::Error::other(reason.to_string())),
            _ => {}
        }
    }
    transmit(connection, socket)?;
    if !arrived {
        let mut buffer = [0; 4096];
        let read = read_some(socket, &mut buffer)?;
        connection.handle_input(now(), &buffer[..read]);
    }
    Ok(arrived)
}

fn transmit(connection: &mut Connection, socket: &mut TcpStream) -> io::Result<()> {
    let mut parts = [&[][..]; 1];
    while connection.poll_transmit(&mut parts) > 0 {
        let taken = socket.write(parts[0])?;
        connection.consume_transmit(now(), taken);
        parts = [&[][..]; 1];
    }
    Ok(())
}

fn read_some(socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    match socket.read(buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => Ok(read),
    }
}

/// The time, as the core counts it: no run is long enough for it to matter that it stands still.
pub(super) fn now() -> Instant {
    Instant::EPOCH
}

fn entropy() -> Entropy {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("the operating system has random bytes");
    Entropy::new(random)
}

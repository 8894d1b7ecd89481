//! Peers that are not driven by what is tested: blocking sockets, bytes by hand.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use chat_core::driver::Endpoint;
use chat_core::frame::{Decoder, Encoder, Extra, Frame, FrameKind, Limits};
use chat_core::{ContentType, Key, Uuid};

use super::{Adapter, Kind, World};

/// A blocking connection that speaks frames, and whatever else it is told to.
pub struct Raw {
    socket: Box<dyn Socket>,
    decoder: Decoder,
    encoder: Encoder,
    buffer: Vec<u8>,
}

trait Socket: Read + Write + Send {
    fn shut(&self, how: Shutdown) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn shut(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

impl Socket for UnixStream {
    fn shut(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

impl Raw {
    /// Connects, with the key that both sides have by default.
    pub fn connect(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Tcp(address) => Self::over_tcp(TcpStream::connect(address).unwrap()),
            Endpoint::Unix(path) => Self::over_unix(UnixStream::connect(path).unwrap()),
            other => panic!("no socket for {other}"),
        }
    }

    fn over_tcp(socket: TcpStream) -> Self {
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        socket.set_nodelay(true).unwrap();
        Self::new(Box::new(socket))
    }

    fn over_unix(socket: UnixStream) -> Self {
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Self::new(Box::new(socket))
    }

    fn new(socket: Box<dyn Socket>) -> Self {
        Self {
            socket,
            decoder: Decoder::new(Key::default(), Limits::default()),
            encoder: Encoder::new(Key::default()),
            buffer: Vec::new(),
        }
    }

    /// Goes through the handshake of a client; returns the session's id.
    pub fn establish(&mut self) -> Uuid {
        let init = self.frame().expect("session_init");
        assert_eq!(init.kind, FrameKind::SessionInit);
        let session = init.session.expect("a session id");
        self.send(
            FrameKind::SessionAck,
            Some(session),
            b"Session acknowledged",
        );
        session
    }

    /// Goes through the handshake of a server.
    pub fn offer(&mut self, session: Uuid) {
        self.send(
            FrameKind::SessionInit,
            Some(session),
            b"Session established",
        );
        self.expect(FrameKind::SessionAck);
    }

    /// Sends bytes as they are. A peer that has closed takes none, which is its right.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Sends a frame.
    pub fn send(&mut self, kind: FrameKind, session: Option<Uuid>, content: &[u8]) {
        let bytes = self.encode(kind, session, content);
        self.write(&bytes).expect("the peer reads");
    }

    /// A frame as bytes.
    pub fn encode(&mut self, kind: FrameKind, session: Option<Uuid>, content: &[u8]) -> Vec<u8> {
        let frame = Frame {
            kind,
            content_type: ContentType::TEXT,
            session,
            content: content.to_vec().into(),
            extra: Extra::None,
        };
        self.encoder.encode(&frame, 0).unwrap().to_vec()
    }

    /// The next frame; `None` at the end of the stream, a reset included.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            let mut input = &self.buffer[..];
            let frame = self.decoder.decode(&mut input).expect("a valid frame");
            let taken = self.buffer.len() - input.len();
            self.buffer.drain(..taken);
            if frame.is_some() {
                return frame;
            }
            let mut bytes = [0; 16 * 1024];
            match self.socket.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no end of the stream: {error}"),
            }
        }
    }

    /// The next frame that is no heartbeat, which is expected to be of this kind.
    pub fn expect(&mut self, kind: FrameKind) -> Frame {
        loop {
            let frame = self.frame().expect("a frame before the end");
            if frame.kind == kind {
                return frame;
            }
            assert_eq!(frame.kind, FrameKind::Heartbeat);
        }
    }

    /// Ends this direction.
    pub fn finish(&self) {
        let _ = self.socket.shut(Shutdown::Write);
    }
}

/// A listening socket whose server is the test.
pub enum RawListener {
    /// On loopback.
    Tcp(TcpListener),
    /// In the file system.
    Unix(UnixListener, PathBuf),
}

impl RawListener {
    /// Listens where a server of this world would.
    pub fn bind<A: Adapter>(world: &World<A>) -> Self {
        match world.kind {
            Kind::Tcp => Self::Tcp(TcpListener::bind("127.0.0.1:0").unwrap()),
            Kind::Unix => {
                let path = world.dir.path().join("raw.sock");
                Self::Unix(UnixListener::bind(&path).unwrap(), path)
            }
        }
    }

    /// Where to connect to.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Tcp(listener) => Endpoint::tcp(listener.local_addr().unwrap().to_string()),
            Self::Unix(_, path) => Endpoint::unix(path),
        }
    }

    /// Waits for a client.
    pub fn accept(&self) -> Raw {
        match self {
            Self::Tcp(listener) => Raw::over_tcp(listener.accept().unwrap().0),
            Self::Unix(listener, _) => Raw::over_unix(listener.accept().unwrap().0),
        }
    }
}

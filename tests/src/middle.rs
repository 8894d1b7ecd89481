//! Somebody on the way: a proxy that sees every frame, and may pass on something else.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use chat_core::driver::Endpoint;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// A frame that is seen on its way.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Of which connection, from 0 on.
    pub connection: usize,
    /// Where it goes.
    pub way: Way,
    /// How many went that way before, on this connection.
    pub index: usize,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// What is done in place of passing a frame on.
#[derive(Clone, Debug)]
pub enum Act {
    /// These bytes are sent.
    Send(Way, Vec<u8>),
    /// Both directions end, and nothing more is passed on.
    Cut,
}

impl Seen {
    /// Passes it on as it is.
    pub fn pass(self) -> Vec<Act> {
        vec![Act::Send(self.way, self.bytes)]
    }
}

impl Way {
    /// The other way.
    #[must_use]
    pub fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// Stands before a server for so many connections; returns where to connect to. What is done with a
/// frame `edit` says. A Unix socket is made in `dir`, where the next free number is its name.
pub fn middle(
    target: &Endpoint,
    dir: &Path,
    connections: usize,
    edit: impl FnMut(Seen) -> Vec<Act> + Send + 'static,
) -> io::Result<Endpoint> {
    let (listener, endpoint) = Listener::bind(target, dir)?;
    let (target, edit) = (target.clone(), Arc::new(Mutex::new(edit)));
    thread::spawn(move || -> io::Result<()> {
        for connection in 0..connections {
            let client = listener.accept()?;
            let server = Socket::connect(&target)?;
            let line = Arc::new(Mutex::new(Line {
                client: client.try_clone()?,
                server: server.try_clone()?,
                is_cut: false,
            }));
            for (from, way) in [(client, Way::Up), (server, Way::Down)] {
                let (line, edit) = (Arc::clone(&line), Arc::clone(&edit));
                thread::spawn(move || carry(from, way, connection, &line, &edit));
            }
        }
        Ok(())
    });
    Ok(endpoint)
}

/// The ends of one connection.
struct Line {
    client: Socket,
    server: Socket,
    is_cut: bool,
}

impl Line {
    fn to(&mut self, way: Way) -> &mut Socket {
        match way {
            Way::Up => &mut self.server,
            Way::Down => &mut self.client,
        }
    }

    /// Whoever is gone takes nothing, which is no concern of the other.
    fn act(&mut self, act: Act) {
        match act {
            Act::Send(..) if self.is_cut => {}
            Act::Send(way, bytes) => _ = self.to(way).write_all(&bytes),
            Act::Cut => {
                self.is_cut = true;
                self.client.finish();
                self.server.finish();
            }
        }
    }
}

/// Reads one direction to its end, and lets `edit` decide about each frame.
fn carry(
    mut from: Socket,
    way: Way,
    connection: usize,
    line: &Mutex<Line>,
    edit: &Mutex<impl FnMut(Seen) -> Vec<Act>>,
) {
    let mut arrived = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let mut index = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        arrived.extend_from_slice(&buffer[..read]);
        while let Some(len) = frame_len(&arrived) {
            let bytes = arrived.drain(..len).collect();
            let seen = Seen {
                connection,
                way,
                index,
                bytes,
            };
            index += 1;
            // One frame after the other, whichever way they go.
            let mut edit = edit.lock().unwrap_or_else(PoisonError::into_inner);
            let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
            for act in edit(seen) {
                line.act(act);
            }
        }
    }
    let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
    line.act(Act::Send(way, arrived));
    line.to(way).finish();
}

/// How long the frame is that these bytes begin with, if it is all there.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let fixed = bytes.first_chunk::<64>()?;
    let json = u32::from_be_bytes(fixed[12..16].try_into().ok()?);
    let content = u64::from_be_bytes(fixed[20..28].try_into().ok()?);
    let len = 64 + usize::try_from(json).ok()? + usize::try_from(content).ok()?;
    (bytes.len() >= len).then_some(len)
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens on the kind of socket that the target has.
    fn bind(target: &Endpoint, dir: &Path) -> io::Result<(Self, Endpoint)> {
        if let Endpoint::Tcp(_) = target {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let endpoint = Endpoint::tcp(listener.local_addr()?.to_string());
            return Ok((Self::Tcp(listener), endpoint));
        }
        let mut paths = (0..).map(|number| dir.join(format!("middle{number}.sock")));
        let path = paths.find(|path| !path.exists()).expect("there are enough");
        Ok((Self::Unix(UnixListener::bind(&path)?), Endpoint::unix(path)))
    }

    fn accept(&self) -> io::Result<Socket> {
        let socket = match self {
            Self::Tcp(listener) => Socket::Tcp(listener.accept()?.0),
            Self::Unix(listener) => Socket::Unix(listener.accept()?.0),
        };
        socket.prepare()
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn connect(to: &Endpoint) -> io::Result<Self> {
        let socket = match to {
            Endpoint::Tcp(address) => Self::Tcp(TcpStream::connect(address)?),
            Endpoint::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            other => panic!("no socket for {other}"),
        };
        socket.prepare()
    }

    /// Nobody is waited for for ever.
    fn prepare(self) -> io::Result<Self> {
        let limit = Some(Duration::from_mins(1));
        match &self {
            Self::Tcp(socket) => {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(limit)?;
            }
            Self::Unix(socket) => socket.set_read_timeout(limit)?,
        }
        Ok(self)
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.write_all(bytes),
            Self::Unix(socket) => socket.write_all(bytes),
        }
    }

    fn finish(&self) {
        let _ = match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
        };
    }
}

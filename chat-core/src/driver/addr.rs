//! Where to listen, where to connect, and who is there.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A place to listen on or to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// `host:port`, where the host is a name or an address: `localhost:9999`, `[::1]:9999`.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// A TCP endpoint, `host:port`.
    pub fn tcp(host: impl Into<String>) -> Self {
        Self::Tcp(host.into())
    }

    /// A Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::Unix(path.into())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => write!(f, "tcp {host}"),
            Self::Unix(path) => write!(f, "unix {}", path.display()),
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// Connected over TCP from this address.
    Tcp(SocketAddr),
    /// Connected over a Unix socket.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

//! Where to listen, where to connect, and who is there.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;

#[cfg(any(target_os = "linux", target_os = "android"))]
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

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
    Unix(Option<UnixCredentials>),
}

/// The process at the other end of a Unix socket, when it connected, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixCredentials {
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
    /// Its process id, where the kernel tells it and this process can see it.
    pub pid: Option<i32>,
}

impl UnixCredentials {
    /// Asks the kernel who is at the other end of a socket.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let peer = getsockopt(socket, PeerCredentials)?;
        Ok(Self {
            uid: peer.uid(),
            gid: peer.gid(),
            // 0: of a namespace that cannot be seen from here.
            pid: (peer.pid() != 0).then(|| peer.pid()),
        })
    }

    /// Asks the kernel who is at the other end of a socket.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let (uid, gid) = nix::unistd::getpeereid(socket)?;
        Ok(Self {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            pid: None,
        })
    }
}

impl Peer {
    /// Whoever is at the other end of a connected Unix socket.
    pub fn unix(socket: &impl AsFd) -> Self {
        Self::Unix(UnixCredentials::of(socket).ok())
    }

    /// Whether the connection comes from this machine: over a Unix socket, or from a loopback address.
    /// What a proxy on this machine passes on does too.
    pub fn is_local(&self) -> bool {
        match self {
            // Also `::ffff:127.0.0.1`.
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Unix(None) => f.write_str("unix"),
            Self::Unix(Some(UnixCredentials { uid, pid, .. })) => {
                write!(f, "unix uid {uid}")?;
                pid.map_or(Ok(()), |pid| write!(f, " pid {pid}"))
            }
        }
    }
}

//! What is demanded of a peer, and what it is trusted with, by where it is.

use std::sync::Arc;

use super::Peer;
use crate::{Config, Security};

/// The settings of connections, by where the other end is.
#[derive(Clone, Debug)]
pub(super) struct Configs {
    known: Arc<Config>,
    local: Arc<Config>,
    remote: Arc<Config>,
}

/// Where the other end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the other end of a Unix socket, and the kernel says who it is.
    Known,
    /// On this machine.
    Local,
    /// Anywhere.
    Remote,
}

impl Place {
    pub(super) fn of(peer: &Peer) -> Self {
        match peer {
            Peer::Unix(Some(_)) => Self::Known,
            _ if peer.is_local() => Self::Local,
            _ => Self::Remote,
        }
    }
}

impl Configs {
    /// What the application has not decided is decided here: over a network, `sec`. No channel is
    /// trusted but one to somebody known, whatever the application says (PROTOCOL.md §4.8).
    pub(super) fn new(config: Config) -> Self {
        let known = Arc::new(config);
        let local = if known.trust {
            Arc::new(Config::clone(&known).trust_channel(false))
        } else {
            Arc::clone(&known)
        };
        let remote = match local.min_security {
            None => Arc::new(Config::clone(&local).min_security(Security::Sec)),
            Some(_) => Arc::clone(&local),
        };
        Self {
            known,
            local,
            remote,
        }
    }

    /// Those for a connection.
    pub(super) fn pick(&self, place: Place) -> &Arc<Config> {
        match place {
            Place::Known => &self.known,
            Place::Local => &self.local,
            Place::Remote => &self.remote,
        }
    }

    /// What all connections have in common.
    pub(super) fn common(&self) -> &Arc<Config> {
        &self.local
    }
}

//! Who is let in: as many as there is room for, and no more from one place than that has.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use super::Peer;

/// Why a connection is turned away, before its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too many are connected.
    Full { limit: usize },
    /// Too many are in their handshakes.
    Handshakes { limit: usize },
    /// Too many are from there.
    Address { limit: usize },
    /// Its user is not among those who are allowed.
    User { uid: Option<u32> },
}

impl fmt::Display for Refusal {
    /// What the client is told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { limit } => write!(f, "The server is full (limit {limit})"),
            Self::Handshakes { limit } => {
                write!(
                    f,
                    "Too many connections begin at the same time (limit {limit}): try again"
                )
            }
            Self::Address { limit } => {
                write!(f, "Too many connections from your address (limit {limit})")
            }
            Self::User { uid: Some(uid) } => {
                write!(f, "User {uid} is not among those who may connect here")
            }
            Self::User { uid: None } => {
                f.write_str("Only some users may connect here, and yours is not known")
            }
        }
    }
}

/// How many connections there are from each address.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<BTreeMap<IpAddr, usize>>);

impl Addresses {
    /// Counts one more, unless there are so many already.
    pub(super) fn enter(&self, peer: &Peer, limit: usize) -> bool {
        let Some(network) = network(peer) else {
            return true;
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(network).or_default();
        let fits = *count < limit;
        *count += usize::from(fits);
        if *count == 0 {
            counts.remove(&network);
        }
        fits
    }

    /// One that was counted is gone.
    pub(super) fn leave(&self, peer: &Peer) {
        let Some(network) = network(peer) else {
            return;
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&network);
            }
        }
    }
}

/// What counts as one address: with IPv6 a network of 64 bits, which is what one customer has.
fn network(peer: &Peer) -> Option<IpAddr> {
    let Peer::Tcp(address) = peer else {
        return None;
    };
    Some(match address.ip().to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
        address @ IpAddr::V4(_) => address,
    })
}

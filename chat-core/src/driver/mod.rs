//! The asynchronous driver: the one loop that reads, writes and keeps time, and on it a server and
//! a client, for any runtime.
//!
//! Applications use it through an adapter crate, which implements [`rt::Runtime`] for a runtime and
//! offers everything here under its own name.
//!
//! A server runs one task per listener and one per connection; a client runs one. Nothing ever
//! waits for a peer that does not read: what is queued for it is bounded, and who sends is told
//! when it is full.

mod addr;
mod admission;
mod builder;
mod client;
mod dial;
mod entropy;
mod forward;
pub mod futures_io;
mod handler;
mod inbox;
mod incoming;
mod link;
mod mailbox;
pub mod rt;
mod security;
mod send_stream;
mod serve;
mod server;
mod session;
mod streams;
mod turns;
mod unix;

pub use addr::{Endpoint, Peer, UnixCredentials};
pub use builder::{BindError, ServerBuilder};
pub use client::{Client, ClientBuilder, ConnectError, FlushError};
pub use handler::{Echo, Handler, HandlerError, Relay};
pub use inbox::ClientEvent;
pub use incoming::Incoming;
pub use send_stream::{CopyError, SendStream};
pub use server::{Server, ServerStats};
pub use session::Session;

/// What an adapter re-exports, so that its users need no other crate.
pub mod prelude {
    pub use super::{
        BindError, Client, ClientEvent, ConnectError, CopyError, Echo, Endpoint, FlushError,
        Handler, HandlerError, Incoming, Peer, Relay, SendStream, Server, ServerStats, Session,
        UnixCredentials,
    };
    pub use crate::frame::FrameError;
    pub use crate::{
        Backoff, CloseReason, Config, ContentType, Identity, Key, KeyId, Message, OpenError,
        ProtocolError, Rate, Receive, Security, SendError, Stats, Timeout, Transfer, TransferError,
        Uuid,
    };
}

//! Sessions and messages over TCP and Unix sockets, on [async-std](https://docs.rs/async-std).
//!
//! **async-std is discontinued** (RUSTSEC-2025-0052). This crate is for programs that are built on
//! it already; a new one should take `chat-smol`, which has the same names and the same behaviour.
//!
//! The protocol is [`chat_core`], the server and the client are its
//! [driver](chat_core::driver); this crate brings async-std's sockets, timers and tasks to it.
//!
//! ```
//! use chat_async_std::{ClientBuilder, ClientEvent, Echo, Endpoint, Message, ServerBuilder};
//!
//! async_std::task::block_on(async {
//!     let server = ServerBuilder::new(Echo)
//!         .listen(Endpoint::tcp("127.0.0.1:0"))
//!         .bind()
//!         .await?;
//!
//!     let client = ClientBuilder::new()
//!         .connect(server.endpoints()[0].clone())
//!         .await?;
//!     client.send(Message::text("Hello, World!")).await?;
//!     let Some(ClientEvent::Message(reply)) = client.recv().await else {
//!         panic!("an echo was expected");
//!     };
//!     assert_eq!(reply.as_text(), Some("Hello, World!"));
//!
//!     client.close("done").await;
//!     server.stop().await;
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })
//! # .unwrap();
//! ```

mod runtime;

pub use chat_core::driver::prelude::*;
pub use runtime::AsyncStd;

/// The settings of a server on async-std.
pub type ServerBuilder<H> = chat_core::driver::ServerBuilder<AsyncStd, H>;
/// The settings of a client on async-std.
pub type ClientBuilder = chat_core::driver::ClientBuilder<AsyncStd>;

//! Sessions and messages over TCP and Unix sockets, on [smol](https://docs.rs/smol).
//!
//! The protocol is [`chat_core`], the server and the client are its
//! [driver](chat_core::driver); this crate brings smol's sockets, timers and tasks to it. Tasks run
//! on smol's global executor, whose number of threads the environment variable `SMOL_THREADS` sets.
//!
//! ```
//! use chat_smol::{ClientBuilder, ClientEvent, Echo, Endpoint, Message, ServerBuilder};
//!
//! smol::block_on(async {
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
pub use runtime::Smol;

/// The settings of a server on smol.
pub type ServerBuilder<H> = chat_core::driver::ServerBuilder<Smol, H>;
/// The settings of a client on smol.
pub type ClientBuilder = chat_core::driver::ClientBuilder<Smol>;

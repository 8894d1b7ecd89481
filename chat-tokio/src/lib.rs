//! Sessions and messages over TCP and Unix sockets, on [tokio](https://tokio.rs).
//!
//! The protocol is [`chat_core`], the server and the client are its
//! [driver](chat_core::driver); this crate brings tokio's sockets, timers and tasks to it. Both
//! flavours of the runtime will do, with I/O and time enabled.
//!
//! ```
//! use chat_tokio::{ClientBuilder, ClientEvent, Echo, Endpoint, Message, ServerBuilder};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
//!     Ok(())
//! }
//! ```
//!
//! [`SendStream::copy_from`] takes the readers of `futures-io`. Those of tokio become such by
//! `compat` of the crate `tokio-util`:
//!
//! ```no_run
//! use chat_tokio::{Client, Transfer};
//! use tokio_util::compat::TokioAsyncReadCompatExt;
//!
//! async fn send_file(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
//!     let file = tokio::fs::File::open("cat.png").await?;
//!     let size = file.metadata().await?.len();
//!     let transfer = Transfer::new("image/png").total(size).name("cat.png");
//!     let mut stream = client.send_stream(transfer)?;
//!     stream.copy_from(file.compat()).await?;
//!     stream.finish().await?;
//!     Ok(())
//! }
//! ```

mod runtime;

pub use chat_core::driver::prelude::*;
pub use runtime::Tokio;

/// The settings of a server on tokio.
pub type ServerBuilder<H> = chat_core::driver::ServerBuilder<Tokio, H>;
/// The settings of a client on tokio.
pub type ClientBuilder = chat_core::driver::ClientBuilder<Tokio>;

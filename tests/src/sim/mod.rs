//! Simulated worlds: the real server, the real clients and the real connections, on virtual clocks and
//! a network that does what a seed says.
//!
//! [`Simulation`] is a world without a story: machines ([`Node`]), each a
//! [`Runtime`](chat_core::driver::rt::Runtime) for the driver, with a clock, tasks and a
//! [`Weather`] between them. Whatever is built on the driver runs in it unchanged, handlers of one's own
//! among it, and the same seed does the same again:
//!
//! ```
//! use chat_core::Message;
//! use chat_core::driver::{ClientBuilder, ClientEvent, Echo, Endpoint, ServerBuilder};
//! use chat_tests::sim::{Simulation, Weather};
//! use std::time::Duration;
//!
//! let world = |seed| {
//!     let simulation = Simulation::new(seed, false);
//!     let (one, other) = (simulation.node(), simulation.node());
//!     let far = Duration::from_millis(40)..Duration::from_millis(90);
//!     simulation.set_weather(&other, Weather { latency: far, whims: 50, ..Weather::default() });
//!     let told = simulation.run(&other.clone(), async move {
//!         let port = one.listen(9_999);
//!         let endpoint = Endpoint::tcp(port.address().to_string());
//!         let server = ServerBuilder::with_runtime(one, Echo).serve(endpoint.clone(), port);
//!         let client = ClientBuilder::with_runtime(other).connect(endpoint).await.unwrap();
//!         client.send(Message::text("hello")).await.unwrap();
//!         let Some(ClientEvent::Message(answer)) = client.recv().await else {
//!             panic!("no answer");
//!         };
//!         assert_eq!(answer.as_text(), Some("hello"));
//!         server.stop().await;
//!     });
//!     assert_eq!(told, Ok(()));
//!     simulation.hash()
//! };
//! assert_eq!(world(7), world(7));
//! assert_ne!(world(7), world(8));
//! ```
//!
//! [`Plan`] is a story that a seed makes up, [`run`] lets it happen and looks whether everything is as
//! it must be, and [`shrink`] finds the least of it that still goes wrong. The program `simulate` does
//! that for any number of seeds.

mod clerk;
mod client;
mod executor;
mod hostile;
mod judge;
mod ledger;
mod network;
mod plan;
mod runtime;
mod shrink;
mod stage;
mod trace;
mod weather;
mod world;

pub use executor::{Alarm, Failure, Node, Simulation};
pub use network::Wire;
pub use plan::{ClientPlan, Hostile, Item, Mode, Plan, ServerPlan, Settings, Step, Trouble};
pub use runtime::Port;
pub use shrink::shrink;
pub use weather::{Fault, FaultKind, Weather};
pub use world::{Outcome, Watch, run};

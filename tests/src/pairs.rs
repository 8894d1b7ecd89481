//! A server on one runtime, a client on another.

use std::sync::mpsc;

use chat_core::driver::{ClientBuilder, Echo, ServerBuilder};
use chat_core::{CloseReason, Message};

use crate::conformance::{Adapter, Kind, World, end, message, run};

/// The client talks to the server, which then stops.
pub fn talk<S: Adapter, C: Adapter>(kind: Kind) {
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = mpsc::channel();
    let server = std::thread::spawn(move || {
        run(kind, async move |world: World<S>| {
            let server = ServerBuilder::with_runtime(world.runtime.clone(), Echo)
                .listen(world.endpoint())
                .bind()
                .await
                .expect("it listens");
            tell.send(server.endpoints()[0].clone()).unwrap();
            world
                .until("the client is done", || stopped.try_recv().is_ok())
                .await;
            server.stop().await;
        });
    });
    let endpoint = told.recv().expect("where it listens");
    run(kind, async move |world: World<C>| {
        let client = ClientBuilder::with_runtime(world.runtime.clone())
            .connect(endpoint)
            .await
            .expect("it connects");
        for number in 0..200 {
            client
                .send(Message::text(number.to_string()))
                .await
                .unwrap();
        }
        for number in 0..200 {
            let reply = message(&client).await;
            assert_eq!(reply.as_text(), Some(&*number.to_string()));
        }
        let large = Message::binary(vec![42; 1_000_000]);
        client.send(large.clone()).await.unwrap();
        assert!(message(&client).await == large, "the content differs");
        stop.send(()).unwrap();
        let reason = "Server shutting down".into();
        assert_eq!(end(&client).await, CloseReason::Peer { reason });
    });
    server.join().expect("the server is fine");
}

/// Instantiates the talk for each server and each client of a list of adapters, over TCP and over
/// Unix sockets.
#[macro_export]
macro_rules! pairs {
    ($($server:ident: $on:ty),+ $(,)?) => {
        $(
            mod $server {
                use super::*;
                $crate::pairs!(@clients $on);
            }
        )+
    };
    (@clients $server:ty) => {
        $crate::pairs!(@pair with_tokio, $server, OnTokio);
        $crate::pairs!(@pair with_async_std, $server, OnAsyncStd);
        $crate::pairs!(@pair with_smol, $server, OnSmol);
    };
    (@pair $name:ident, $server:ty, $client:ty) => {
        mod $name {
            use super::*;

            #[test]
            fn over_tcp() {
                $crate::pairs::talk::<$server, $client>($crate::conformance::Kind::Tcp);
            }

            #[test]
            fn over_unix() {
                $crate::pairs::talk::<$server, $client>($crate::conformance::Kind::Unix);
            }
        }
    };
}

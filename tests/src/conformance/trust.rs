//! Unix sockets whose ends trust them (PROTOCOL.md §4.8): frames without codes, there and nowhere else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chat_core::driver::{Client, ClientBuilder, ClientEvent, Echo, Endpoint, Relay, Server};
use chat_core::frame::FrameError;
use chat_core::{
    Backoff, CloseReason, Config, Message, ProtocolError, Receive, Security, Transfer,
};

use super::streams::{all, incoming, sessions};
use super::{Adapter, Kind, World, end, message};
use crate::dribble::Dribble;
use crate::middle::{Act, Seen, Way, middle};
use crate::{join, pattern};

fn trusting() -> Config {
    Config::default().heartbeat(None).trust_channel(true)
}

/// Whether each frame that went past had a code, by the way it went.
#[derive(Clone, Default)]
struct Codes(Arc<Mutex<Vec<(Way, bool)>>>);

impl Codes {
    /// Notes a frame, and passes it on.
    fn see(&self, seen: Seen) -> Vec<Act> {
        let has_code = seen.bytes[32..64] != [0; 32];
        self.0.lock().unwrap().push((seen.way, has_code));
        seen.pass()
    }

    /// Those of one way, in order.
    fn of(&self, way: Way) -> Vec<bool> {
        let seen = self.0.lock().unwrap();
        let seen = seen.iter().filter(|(it, _)| *it == way);
        seen.map(|(_, has_code)| *has_code).collect()
    }
}

/// A server and a client with these settings, and somebody between them who looks at the codes. To
/// either he is somebody that the kernel knows: he is a bridge.
async fn watched<A: Adapter>(
    world: &World<A>,
    server: Config,
    client: Config,
) -> (Server, Client, Codes) {
    let server = world.server(Echo).config(server).bind().await.unwrap();
    let codes = Codes::default();
    let (target, watch) = (&server.endpoints()[0], codes.clone());
    let endpoint = middle(target, world.dir.path(), 1, move |seen| watch.see(seen));
    let client = world.client().config(client);
    let client = client.connect(endpoint.unwrap()).await.unwrap();
    (server, client, codes)
}

/// Some messages come back: small ones, and one in pieces.
async fn talk(client: &Client) {
    for size in [1, 5_000, 300_000] {
        let said = Message::binary(pattern(size));
        client.send(said.clone()).await.unwrap();
        assert!(message(client).await == said, "{size} bytes");
    }
}

/// Over a Unix socket nothing is signed but the handshake; over TCP everything is.
pub async fn only_a_unix_socket_is_trusted<A: Adapter>(world: World<A>) {
    let trusted = world.kind == Kind::Unix;
    let (server, client, codes) = watched(&world, trusting(), trusting()).await;
    let session = world.session(&server).await;
    assert_eq!(session.security(), Security::Sec);
    assert_eq!(client.security(), Some(Security::Sec));
    assert!(session.identity().is_some());
    let before = (session.stats().bytes_hashed, client.stats().bytes_hashed);
    talk(&client).await;
    // What goes back was hashed when it came, or is too short to be.
    let hashed = session.stats().bytes_hashed - before.0;
    assert_eq!(hashed, 0, "{hashed} bytes");
    let hashed = client.stats().bytes_hashed - before.1;
    assert_eq!(hashed == 0, trusted, "{hashed} bytes");
    client.close("enough").await;
    server.stop().await;
    for (way, handshake) in [(Way::Up, 1), (Way::Down, 2)] {
        let codes = codes.of(way);
        assert!(codes.len() > handshake + 5, "{codes:?}");
        let (first, rest) = codes.split_at(handshake);
        assert!(first.iter().all(|has_code| *has_code), "{way:?} {codes:?}");
        assert!(rest.iter().all(|has| *has != trusted), "{way:?} {codes:?}");
    }
}

/// An end that was not told to trust the channel, or that does without `sec`, signs, and the other with
/// it: nobody is refused for that.
pub async fn a_channel_is_signed_if_one_end_wants_it<A: Adapter>(world: World<A>) {
    let careful = || trusting().trust_channel(false);
    let old = || trusting().sec(false);
    for (server, client) in [
        (trusting(), careful()),
        (careful(), trusting()),
        (trusting(), old()),
        (old(), trusting()),
        (trusting(), old().version_1()),
        (old().version_1(), trusting()),
    ] {
        let (server, client, codes) = watched(&world, server, client).await;
        talk(&client).await;
        client.close("enough").await;
        server.stop().await;
        for way in [Way::Up, Way::Down] {
            let codes = codes.of(way);
            assert!(codes.len() > 3, "{codes:?}");
            assert!(codes.iter().all(|has_code| *has_code), "{codes:?}");
        }
    }
}

/// Each connection of a client is judged anew.
pub async fn a_client_that_comes_back_trusts_again<A: Adapter>(world: World<A>) {
    let server = world.server(Echo).config(trusting()).bind().await.unwrap();
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(20));
    let client = world.client().config(trusting()).reconnect(backoff);
    let client = client.connect(server.endpoints()[0].clone()).await.unwrap();
    for _ in 0..3 {
        let session = world.session(&server).await;
        client.send(Message::binary(pattern(5_000))).await.unwrap();
        assert_eq!(message(&client).await.content().len(), 5_000);
        let (hashed, trusted) = (client.stats().bytes_hashed, world.kind == Kind::Unix);
        assert_eq!(hashed < 5_000, trusted, "{hashed} bytes");
        session.abort("again");
        loop {
            match client.recv().await {
                Some(ClientEvent::Connected { security, .. }) => {
                    assert_eq!(security, Security::Sec);
                    break;
                }
                Some(ClientEvent::Disconnected { .. }) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
        let is_next = || {
            let sessions = server.sessions();
            sessions.len() == 1 && sessions[0].id() != session.id()
        };
        world.until("the next session", is_next).await;
    }
    server.stop().await;
}

/// A runtime that does not say who listens at the other end of a socket: that is signed.
pub async fn a_server_that_nobody_knows_is_not_trusted<A: Adapter>(world: World<A>) {
    let server = world.server(Echo).config(trusting()).bind().await.unwrap();
    let runtime = Dribble::new(world.runtime.clone());
    let client = ClientBuilder::with_runtime(runtime).config(trusting());
    let client = client.connect(server.endpoints()[0].clone()).await.unwrap();
    client.send(Message::binary(pattern(300))).await.unwrap();
    assert_eq!(message(&client).await.content().len(), 300);
    assert!(client.stats().bytes_hashed >= 300);
    server.stop().await;
}

/// What is damaged on its way is found by the checksums, and by the zeros where a code would be.
pub async fn damage_is_found_on_a_trusted_channel<A: Adapter>(world: World<A>) {
    let server = world.server(Echo).config(trusting()).bind().await.unwrap();
    let trusted = world.kind == Kind::Unix;
    for (at, error) in [
        (
            3,
            FrameError::BadMagic {
                offset: 3,
                found: 0x46,
            },
        ),
        (17, FrameError::HeaderCrc),
        (30, FrameError::ContentCrc),
        (40, FrameError::Mac),
        (80, FrameError::HeaderCrc),
        (usize::MAX, FrameError::ContentCrc),
    ] {
        let target: &Endpoint = &server.endpoints()[0];
        let endpoint = middle(target, world.dir.path(), 1, move |mut seen| {
            // The first message that comes back.
            if seen.way == Way::Down && seen.index == 2 {
                assert!(!trusted || seen.bytes[32..64] == [0; 32]);
                let last = seen.bytes.len() - 1;
                seen.bytes[at.min(last)] ^= 0x01;
            }
            seen.pass()
        });
        let client = world.client().config(trusting());
        let client = client.connect(endpoint.unwrap()).await.unwrap();
        client.send(Message::text("Hello, World!")).await.unwrap();
        let reason = end(&client).await;
        assert_eq!(
            reason,
            CloseReason::Protocol(ProtocolError::Frame(error)),
            "byte {at}"
        );
        world.until("nobody", || server.sessions().is_empty()).await;
    }
    server.stop().await;
}

/// Sessions that sign and sessions that do not are told the same, and send each other streams.
pub async fn a_broadcast_reaches_the_trusted_and_others<A: Adapter>(world: World<A>) {
    let server = world.server(Relay).config(trusting()).bind().await.unwrap();
    let endpoint = server.endpoints()[0].clone();
    let mut clients = Vec::new();
    for config in [trusting(), trusting(), trusting().trust_channel(false)] {
        let client = world.client().config(config.receive(Receive::Pieces));
        clients.push(client.connect(endpoint.clone()).await.unwrap());
        // At first only to those that are trusted, if any is.
        sessions(&world, &server, clients.len()).await;
        let news = Message::binary(pattern(5_000));
        assert_eq!(server.broadcast(&news).unwrap(), clients.len());
        for client in &clients {
            assert!(message(client).await == news);
        }
    }
    let content = pattern(300_000);
    for from in [0, 2] {
        let transfer = Transfer::new("image/png").name("cat.png");
        let mut stream = clients[from].send_stream(transfer).unwrap();
        let sent = async {
            stream.copy_from(&content[..]).await.unwrap();
            stream.finish().await
        };
        let received = async {
            for (index, client) in clients.iter().enumerate() {
                if index != from {
                    let (arrived, end) = all(incoming(client).await).await;
                    assert_eq!(end, Ok(()));
                    assert!(arrived == content, "the content differs");
                }
            }
        };
        let (sent, ()) = join(sent, received).await;
        assert_eq!(sent, Ok(()));
    }
    server.stop().await;
}

//! What a session knows of its peer: how it is authenticated, with which key, from which process.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use chat_core::driver::{
    Client, ClientEvent, ConnectError, Echo, Endpoint, Handler, HandlerError, Peer, Relay, Session,
};
use chat_core::{
    Backoff, CloseReason, Config, Identity, Key, Message, ProtocolError, Security, Transfer, Uuid,
};

use super::streams::{all, incoming, reader, sessions};
use super::{Adapter, Kind, World, end, message};
use crate::{join, pattern};

/// Says to everybody by which name it knows them.
struct WhoAmI;

impl Handler for WhoAmI {
    type Data = ();

    async fn message(&self, session: &Session, _: Message) -> Result<(), HandlerError> {
        let identity = session.identity();
        let name = identity.map_or("nobody", |it| it.name().unwrap_or("the server's own"));
        session.send(Message::text(name))?;
        Ok(())
    }
}

async fn is_called(client: &Client, name: &str) {
    client.send(Message::text("who am I?")).await.unwrap();
    assert_eq!(message(client).await.as_text(), Some(name));
}

fn key(number: u8) -> Key {
    Key::new(&[number; 32])
}

/// Who knows `sec` uses it; a client that does not is known for what it is.
pub async fn sec_is_used_and_both_ends_say_so<A: Adapter>(world: World<A>) {
    let server = world.serve(WhoAmI).await;
    let old = Config::default().version_1();
    for (config, security) in [
        (Config::default(), Security::Sec),
        (Config::default().sec(false), Security::Legacy),
        (old, Security::Legacy),
    ] {
        let endpoint = server.endpoints()[0].clone();
        // To hear of the first connection as of any other.
        let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(20));
        let client = world.client().config(config).reconnect(backoff);
        let client = client.connect(endpoint).await.unwrap();
        let session = world.session(&server).await;
        assert_eq!(session.security(), security);
        let key = session.identity().map(Identity::key);
        let expected = (security == Security::Sec).then(|| Key::default().id());
        assert_eq!(key, expected);
        let name = match security {
            Security::Sec => "the server's own",
            Security::Legacy => "nobody",
        };
        is_called(&client, name).await;

        // The client's own word for it is in the event of a connection.
        session.abort("again");
        let said = loop {
            match client.recv().await {
                Some(ClientEvent::Connected { security, .. }) => break security,
                Some(ClientEvent::Disconnected {
                    retry_in: Some(_), ..
                }) => {}
                other => panic!("unexpected: {other:?}"),
            }
        };
        assert_eq!(said, security);
        client.close("next").await;
        world.until("nobody", || server.sessions().is_empty()).await;
    }
    server.stop().await;
}

/// A server with keys for two clients and one of its own.
fn with_identities() -> Config {
    Config::new(key(0))
        .identity("alice", key(1))
        .identity("bob", key(2))
}

/// The handler sees who is who, whatever order they come in.
pub async fn each_client_has_its_own_key<A: Adapter>(world: World<A>) {
    let server = world.server(WhoAmI).config(with_identities());
    let server = server.bind().await.unwrap();
    let endpoint = server.endpoints()[0].clone();
    let mut clients = Vec::new();
    for (number, name) in [
        (1, "alice"),
        (2, "bob"),
        (0, "the server's own"),
        (1, "alice"),
    ] {
        let client = world.client().config(Config::new(key(number)));
        clients.push((
            client.connect(endpoint.clone()).await.unwrap(),
            number,
            name,
        ));
    }
    sessions(&world, &server, 4).await;
    for (client, _, name) in clients.iter().rev() {
        is_called(client, name).await;
    }
    let mut found: Vec<_> = server
        .sessions()
        .iter()
        .map(|session| {
            let identity = session.identity().expect("sec");
            (identity.key(), identity.name().map(str::to_owned))
        })
        .collect();
    let mut expected: Vec<_> = clients
        .iter()
        .map(|(_, number, name)| {
            let name = (*number != 0).then(|| (*name).to_owned());
            (key(*number).id(), name)
        })
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    server.stop().await;
}

/// Whoever holds none of the keys is not let in; a key that only `sec` may use is none for version 1.
pub async fn an_unknown_key_gets_no_session<A: Adapter>(world: World<A>) {
    let server = world.server(WhoAmI).config(with_identities());
    let server = server.bind().await.unwrap();
    let endpoint = server.endpoints()[0].clone();
    let alice = world.client().config(Config::new(key(1)));
    let alice = alice.connect(endpoint.clone()).await.unwrap();
    let refused = world.client().config(Config::new(key(3)));
    let refused = refused.connect(endpoint.clone()).await;
    assert!(
        matches!(refused, Err(ConnectError::Handshake(CloseReason::Unproven))),
        "{refused:?}"
    );
    let counted = || server.stats().failed_handshakes == 1;
    world.until("the end of the handshake", counted).await;

    let refused = world.client().config(Config::new(key(2)).version_1());
    let refused = refused.connect(endpoint).await;
    assert!(
        matches!(
            refused,
            Err(ConnectError::Handshake(CloseReason::Protocol(_)))
        ),
        "{refused:?}"
    );
    let counted = || server.stats().failed_handshakes == 2;
    world.until("the end of the handshake", counted).await;
    is_called(&alice, "alice").await;
    assert_eq!(server.sessions().len(), 1);
    server.stop().await;
}

/// A client that demands `sec` does not begin a session without.
pub async fn a_client_can_demand_sec<A: Adapter>(world: World<A>) {
    let server = world.server(Echo).config(Config::default().sec(false));
    let server = server.bind().await.unwrap();
    let endpoint = server.endpoints()[0].clone();
    let content = world.connect(&server).await;
    let demanding = Config::default().min_security(Security::Sec);
    let refused = world.client().config(demanding).connect(endpoint).await;
    let Err(ConnectError::Handshake(reason)) = refused else {
        panic!("expected to give up, not {refused:?}");
    };
    assert_eq!(reason, CloseReason::Protocol(ProtocolError::Insecure));
    let counted = || server.stats().failed_handshakes == 1;
    world.until("the end of the handshake", counted).await;
    content.send(Message::text("x")).await.unwrap();
    assert_eq!(message(&content).await.as_text(), Some("x"));
    server.stop().await;
}

/// A server that demands `sec` says so to a client that does not use it.
pub async fn a_server_can_demand_sec<A: Adapter>(world: World<A>) {
    let demanding = Config::default().min_security(Security::Sec);
    let server = world.server(Echo).config(demanding).bind().await.unwrap();
    let endpoint = server.endpoints()[0].clone();
    let secure = world.connect(&server).await;
    for config in [Config::default().sec(false), Config::default().version_1()] {
        let client = world.client().config(config);
        // Its part of the handshake is done when it hears.
        let client = client.connect(endpoint.clone()).await.unwrap();
        let text = "This end demands the extension sec";
        let told = client.recv().await;
        assert_eq!(told, Some(ClientEvent::Error(text.into())));
        let reason = text.into();
        assert_eq!(end(&client).await, CloseReason::Peer { reason });
    }
    let counted = || server.stats().failed_handshakes == 2;
    world.until("the ends of the handshakes", counted).await;
    assert_eq!(server.sessions().len(), 1);
    secure.send(Message::text("x")).await.unwrap();
    assert_eq!(message(&secure).await.as_text(), Some("x"));
    server.stop().await;
}

/// The kernel says who is at the other end of a Unix socket; of TCP the address is known.
pub async fn a_session_knows_its_process<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let _client = world.connect(&server).await;
    let peer = world.session(&server).await.peer();
    match (world.kind, peer) {
        (Kind::Tcp, Peer::Tcp(address)) => assert!(address.ip().is_loopback()),
        (Kind::Unix, Peer::Unix(Some(credentials))) => {
            assert_eq!(credentials.uid, rustix::process::geteuid().as_raw());
            assert_eq!(credentials.gid, rustix::process::getegid().as_raw());
            if cfg!(target_os = "linux") {
                let own = i32::try_from(std::process::id()).unwrap();
                assert_eq!(credentials.pid, Some(own));
            }
        }
        (kind, other) => panic!("{other:?} over {kind:?}"),
    }
    assert!(peer.is_local());
    server.stop().await;
}

fn mode(endpoint: &Endpoint) -> Option<u32> {
    match endpoint {
        Endpoint::Unix(path) => Some(path.metadata().unwrap().permissions().mode() & 0o777),
        _ => None,
    }
}

/// Users that are named may connect to a Unix socket, others hear why not. TCP knows no users.
pub async fn allowed_users_are_let_in_and_others_told<A: Adapter>(world: World<A>) {
    let on_unix = world.kind == Kind::Unix;
    let own = rustix::process::geteuid().as_raw();
    let server = world.serve(Echo).await;
    assert_eq!(mode(&server.endpoints()[0]), on_unix.then_some(0o600));
    server.stop().await;

    for (uids, allowed) in [
        (vec![own], true),
        (vec![own + 1, own], true),
        (vec![own + 1], false),
        (vec![], false),
    ] {
        let server = world.server(Echo).allow_uids(uids).bind().await.unwrap();
        let endpoint = server.endpoints()[0].clone();
        assert_eq!(mode(&endpoint), on_unix.then_some(0o666));
        let connected = world.client().connect(endpoint).await;
        if allowed || !on_unix {
            let client = connected.expect("it is let in");
            client.send(Message::text("x")).await.unwrap();
            assert_eq!(message(&client).await.as_text(), Some("x"));
            assert_eq!(server.stats().refused_users, 0);
        } else {
            let Err(ConnectError::Handshake(CloseReason::Refused { reason })) = connected else {
                panic!("expected to be refused, not {connected:?}");
            };
            let expected = format!("User {own} is not among those who may connect here");
            assert_eq!(*reason, *expected);
            let stats = server.stats();
            assert_eq!((stats.refused_users, stats.accepted), (1, 0));
        }
        server.stop().await;
    }
}

/// What each session hashed to send.
fn hashed<D>(server: &chat_core::driver::Server<D>) -> Vec<u64> {
    let sessions = server.sessions();
    let hashed = sessions.iter().map(|session| session.stats().bytes_hashed);
    hashed.collect()
}

/// A message for everybody is hashed once, not once for each session.
pub async fn a_broadcast_is_hashed_once<A: Adapter>(world: World<A>) {
    const SESSIONS: usize = 50;
    const SIZE: usize = 100 * 1024;
    let server = world.serve(Relay).await;
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        clients.push(world.connect(&server).await);
    }
    sessions(&world, &server, SESSIONS).await;
    for size in [SIZE, 5_000] {
        let news = Message::binary(pattern(size));
        assert_eq!(server.broadcast(&news).unwrap(), SESSIONS);
        for client in &clients {
            assert!(message(client).await == news, "{size} bytes");
        }
    }
    // What a session says of its own accord is hashed, and is short.
    let most = hashed(&server).into_iter().max().unwrap();
    assert!(most < 1_000, "{most} bytes");

    // A message for one session is hashed for that one.
    let session = server.sessions().remove(0);
    let before = session.stats().bytes_hashed;
    session.send(Message::binary(pattern(SIZE))).unwrap();
    world
        .until("it to be hashed", || {
            session.stats().bytes_hashed >= before + SIZE as u64
        })
        .await;
    server.stop().await;
}

/// What is forwarded is hashed when it arrives, and not again for each that gets it.
pub async fn a_forwarded_stream_is_not_hashed_again<A: Adapter>(world: World<A>) {
    const RECEIVERS: usize = 5;
    const SIZE: usize = 1024 * 1024;
    let server = world.serve(Relay).await;
    let sender = world.connect(&server).await;
    let id: Uuid = world.session(&server).await.id();
    let mut receivers = Vec::new();
    for _ in 0..RECEIVERS {
        receivers.push(reader(&world, &server).await);
    }
    sessions(&world, &server, 1 + RECEIVERS).await;
    let content = pattern(SIZE);
    let transfer = Transfer::new("image/png")
        .total(SIZE as u64)
        .name("cat.png");
    let mut stream = sender.send_stream(transfer).unwrap();
    let sent = async {
        stream.copy_from(&content[..]).await.unwrap();
        stream.finish().await
    };
    let received = async {
        for receiver in &receivers {
            let (arrived, end) = all(incoming(receiver).await).await;
            assert_eq!(end, Ok(()));
            assert!(arrived == content, "the content differs");
        }
    };
    let (sent, ()) = join(sent, received).await;
    assert_eq!(sent, Ok(()));
    for session in server.sessions() {
        // "begin", "window" and the like.
        let hashed = session.stats().bytes_hashed;
        assert!(hashed < 1_000, "{hashed} bytes");
        if session.id() != id {
            assert!(session.stats().bytes_sent > SIZE as u64);
        }
    }
    server.stop().await;
}

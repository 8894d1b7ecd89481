//! Where a server listens.

use chat_core::Message;
use chat_core::driver::{Echo, Endpoint, ServerBuilder};

use super::{Adapter, World, message};

/// One server on several addresses and paths.
pub async fn several_endpoints_at_once<A: Adapter>(world: World<A>) {
    let path = world.dir.path().join("second.sock");
    let server = world
        .server(Echo)
        .listen(Endpoint::tcp("127.0.0.1:0"))
        .listen(Endpoint::unix(&path))
        .listen(Endpoint::tcp("127.0.0.1:0"))
        .bind()
        .await
        .unwrap();
    assert_eq!(server.endpoints().len(), 4);
    for endpoint in server.endpoints() {
        let client = world.client().connect(endpoint.clone()).await.unwrap();
        client.send(Message::text("x")).await.unwrap();
        assert_eq!(message(&client).await.as_text(), Some("x"));
    }
    server.stop().await;
    assert!(!path.exists());
}

/// Two servers cannot listen on the same endpoint; the first is not disturbed.
pub async fn a_port_in_use_is_an_error<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let endpoint = server.endpoints()[0].clone();
    let error = ServerBuilder::with_runtime(world.runtime.clone(), Echo)
        .listen(endpoint.clone())
        .bind()
        .await
        .unwrap_err();
    assert_eq!(error.endpoint, endpoint);
    assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
    let client = world.connect(&server).await;
    client.send(Message::text("x")).await.unwrap();
    assert_eq!(message(&client).await.as_text(), Some("x"));
    server.stop().await;
}

/// Host names work on both ends; unknown ones are errors.
pub async fn a_name_is_resolved<A: Adapter>(world: World<A>) {
    let server = ServerBuilder::with_runtime(world.runtime.clone(), Echo)
        .listen(Endpoint::tcp("localhost:0"))
        .bind()
        .await
        .unwrap();
    let Endpoint::Tcp(address) = &server.endpoints()[0] else {
        panic!("a TCP address");
    };
    let port = address.rsplit(':').next().unwrap();
    let endpoint = Endpoint::tcp(format!("localhost:{port}"));
    let client = world.client().connect(endpoint).await.unwrap();
    client.send(Message::text("x")).await.unwrap();
    assert_eq!(message(&client).await.as_text(), Some("x"));
    server.stop().await;

    let nowhere = Endpoint::tcp("no-such-host.invalid:1");
    assert!(world.client().connect(nowhere).await.is_err());
    let malformed = Endpoint::tcp("no port");
    assert!(world.client().connect(malformed).await.is_err());
}

/// A file that has the name of the lock but is none is not touched.
pub async fn a_foreign_lock_file_is_left_alone<A: Adapter>(world: World<A>) {
    let path = world.dir.path().join("Cargo");
    let lock = world.dir.path().join("Cargo.lock");
    std::fs::write(&lock, "somebody's").unwrap();
    let error = ServerBuilder::with_runtime(world.runtime.clone(), Echo)
        .listen(Endpoint::unix(&path))
        .bind()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not a lock file"), "{error}");
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), "somebody's");
    assert!(!path.exists());
}

/// If one endpoint cannot be had, none is.
pub async fn nothing_listens_after_a_failed_bind<A: Adapter>(world: World<A>) {
    let good = world.dir.path().join("good.sock");
    let error = ServerBuilder::with_runtime(world.runtime.clone(), Echo)
        .listen(Endpoint::unix(&good))
        .listen(Endpoint::unix(world.dir.path()))
        .bind()
        .await
        .unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::AlreadyExists);
    assert!(!good.exists());
    let lock = world.dir.path().join("good.sock.lock");
    assert!(!lock.exists());
}

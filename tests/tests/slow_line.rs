//! What a slow line must not do: make live peers look dead, or hold small messages up.

use std::net::SocketAddr;
use std::time::Duration;

use chat_tests::pattern;
use chat_tests::throttle::slow_line;
use chat_tokio::{
    Client, ClientBuilder, ClientEvent, Config, Endpoint, Incoming, Message, Receive, Relay,
    ServerBuilder, Transfer,
};

const RATE: usize = 64_000;
const LEN: usize = 1_000_000;

/// A peer that says nothing for three seconds after it was asked is gone.
fn strict() -> Config {
    Config::default()
        .receive(Receive::Pieces)
        .heartbeat(Some(Duration::from_secs(1)))
        .ping_timeout(Some(Duration::from_secs(3)))
        .idle_timeout(Some(Duration::from_secs(6)))
}

async fn connect(address: SocketAddr) -> Client {
    let endpoint = Endpoint::tcp(address.to_string());
    let client = ClientBuilder::new().config(strict()).connect(endpoint);
    client.await.expect("it connects")
}

/// Sends a file, and a message now and then; says how many.
async fn send(client: Client, name: &'static str) -> u32 {
    let transfer = Transfer::new("image/png").total(LEN as u64).name(name);
    let mut stream = client.send_stream(transfer).expect("it is taken");
    let content = pattern(LEN);
    let sending = async {
        stream.copy_from(&content[..]).await.expect("it is copied");
        stream.finish().await.expect("it arrives");
    };
    let mut sending = std::pin::pin!(sending);
    let mut messages = 0;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = &mut sending => return messages,
            _ = tick.tick() => {
                let text = Message::text(format!("{name} {messages}"));
                client.send(text).await.expect("it is queued");
                messages += 1;
            }
        }
    }
}

/// Receives one file; says how many messages of its sender came before its end.
async fn receive(client: Client, name: &'static str) -> u32 {
    let (mut messages, mut file) = (0, None);
    loop {
        tokio::select! {
            event = client.recv() => match event {
                Some(ClientEvent::Incoming(incoming)) => {
                    assert_eq!(incoming.transfer().file_name(), Some(name));
                    file = Some(Box::pin(collect(incoming)));
                }
                Some(ClientEvent::Message(message)) => {
                    let of_sender = message.as_text().is_some_and(|text| text.starts_with(name));
                    messages += u32::from(of_sender);
                }
                other => panic!("the connection was to last: {other:?}"),
            },
            content = async { file.as_mut().expect("it came").await }, if file.is_some() => {
                assert!(content == pattern(LEN));
                return messages;
            }
        }
    }
}

async fn collect(mut incoming: Incoming) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(piece) = incoming.next().await {
        content.extend_from_slice(&piece.expect("it goes on"));
    }
    content
}

/// A megabyte each way at 64 kB/s: a quarter of a minute in which nobody is taken for gone, and in
/// which messages go between the pieces.
#[tokio::test(flavor = "multi_thread")]
async fn bulk_data_both_ways_keeps_heartbeats_and_messages() {
    let server = ServerBuilder::new(Relay)
        .config(strict())
        .listen(Endpoint::tcp("127.0.0.1:0"))
        .bind()
        .await
        .expect("it listens");
    let Endpoint::Tcp(address) = &server.endpoints()[0] else {
        panic!("not over TCP");
    };
    let address = address.parse().expect("an address");
    let slow = connect(slow_line(address, RATE).expect("a proxy")).await;
    let quick = connect(address).await;
    while server.sessions().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let up = tokio::spawn(send(slow.clone(), "up"));
    let down = tokio::spawn(send(quick.clone(), "down"));
    let arrived = tokio::spawn(receive(quick, "up"));
    let came = tokio::spawn(receive(slow, "down"));
    let (up, arrived) = (up.await.unwrap(), arrived.await.unwrap());
    let (down, came) = (down.await.unwrap(), came.await.unwrap());
    // The last ones may still be behind a window of the file.
    assert!(up >= 10 && arrived + 8 >= up, "{arrived} of {up}");
    // The server has all of it before its receiver has.
    assert!(down >= 4 && came + 8 >= down, "{came} of {down}");
    server.stop().await;
}

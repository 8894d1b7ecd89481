//! Who connects and does not keep to the protocol.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use chat_core::driver::rt::Stream;
use chat_core::{Connection, Entropy, Instant, State};

use super::executor::Node;
use super::network::Wire;
use super::plan::{Hostile, Plan};
use super::stage::{Part, Stage};

/// How long a server may keep somebody who does not make a session: the handshake timeout, what a
/// goodbye takes, and something for the way.
const BEFORE: Duration = Duration::from_secs(10 + 5 + 3);
/// How long it may keep a session that has broken the protocol, or says nothing any more.
const AFTER: Duration = Duration::from_secs(30 + 5 + 5);

/// Lets somebody be up to no good.
pub(super) fn start(kind: Hostile, node: &Node, stage: &Arc<Stage>, plan: &Plan) {
    let kind_to_server = plan.is_kind_to(0);
    node.start(play(
        kind,
        node.clone(),
        stage.enter(),
        plan.clone(),
        kind_to_server,
    ));
}

async fn play(kind: Hostile, node: Node, part: Part, plan: Plan, judged: bool) {
    let Ok(mut wire) = node.connect(part.stage().address()) else {
        return;
    };
    let mut limit = BEFORE;
    match kind {
        Hostile::Leaves => return,
        Hostile::Silent => {}
        Hostile::Dribbles => {
            let began = node.time();
            // The frame that is waited for, a byte each second.
            if let Ok(answer) = answer(&mut wire, &node, &plan).await {
                for byte in answer.into_iter().take(40) {
                    if send(&mut wire, &[byte]).await.is_err() {
                        break;
                    }
                    node.pause(Duration::from_secs(1)).await;
                }
            }
            limit = BEFORE.saturating_sub(node.time() - began);
        }
        Hostile::Garbage(bytes) => _ = send(&mut wire, &garbage(&node, bytes)).await,
        Hostile::Turns(bytes) => {
            let mut connection = connection(&node, &plan);
            let talk = shake_hands(&mut connection, &mut wire, &node);
            if !matches!(node.within(BEFORE, talk).await, Some(Ok(()))) {
                return;
            }
            let _ = send(&mut wire, &garbage(&node, bytes)).await;
            limit = AFTER;
        }
    }
    let over = async {
        let mut buffer = [0; 4096];
        while poll_fn(|cx| wire.poll_read(cx, &mut buffer))
            .await
            .is_ok_and(|bytes| bytes > 0)
        {}
    };
    let began = node.time();
    if node.within(limit, over).await.is_none() && judged {
        let waited = node.time() - began;
        part.stage()
            .ledger()
            .broken(format!("{kind:?} is still connected after {waited:?}"));
    }
}

fn connection(node: &Node, plan: &Plan) -> Connection {
    let config = Arc::new(plan.server.settings.config());
    let mut entropy = [0; 32];
    node.random(&mut entropy);
    Connection::client(config, Entropy::new(entropy), node.time())
}

/// What a client says when the server has named a session.
async fn answer(wire: &mut Wire, node: &Node, plan: &Plan) -> io::Result<Vec<u8>> {
    let mut connection = connection(node, plan);
    let mut buffer = [0; 4096];
    loop {
        let mut parts = [&[][..]; 8];
        let count = connection.poll_transmit(&mut parts);
        if count > 0 {
            return Ok(parts[..count].concat());
        }
        let bytes = poll_fn(|cx| wire.poll_read(cx, &mut buffer)).await?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        connection.handle_input(node.time(), &buffer[..bytes]);
    }
}

fn garbage(node: &Node, bytes: usize) -> Vec<u8> {
    let mut garbage = vec![0; bytes];
    node.random(&mut garbage);
    garbage
}

async fn send(wire: &mut Wire, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = poll_fn(|cx| wire.poll_write(cx, &[io::IoSlice::new(bytes)])).await?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Drives a connection until it is established.
async fn shake_hands(connection: &mut Connection, wire: &mut Wire, node: &Node) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        while flush(connection, wire, node.time()).await? {}
        match connection.state() {
            State::Established => return Ok(()),
            State::Closed => return Err(io::ErrorKind::ConnectionAborted.into()),
            _ => {}
        }
        let bytes = poll_fn(|cx| wire.poll_read(cx, &mut buffer)).await?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        connection.handle_input(node.time(), &buffer[..bytes]);
    }
}

async fn flush(connection: &mut Connection, wire: &mut Wire, now: Instant) -> io::Result<bool> {
    let mut parts = [&[][..]; 8];
    let count = connection.poll_transmit(&mut parts);
    let bytes = parts[..count].concat();
    if bytes.is_empty() {
        return Ok(false);
    }
    send(wire, &bytes).await?;
    connection.consume_transmit(now, bytes.len());
    Ok(true)
}

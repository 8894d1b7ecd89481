//! Hundreds of connections in one thread, on the operating system's readiness events (`mio`).
//!
//! A server and 300 clients, all in this thread: each client says something, the server tells
//! everybody, and a client that has heard everybody says goodbye. Run it with
//! `cargo run -p chat-core --example readiness`.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use chat_core::{Config, Connection, Event, Instant, Message, Uuid};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const CLIENTS: usize = 300;
const LISTENER: Token = Token(usize::MAX);

/// One end of a connection: the protocol, and the socket under it.
struct Peer {
    connection: Connection,
    socket: TcpStream,
    /// For a client: how many messages it has heard.
    heard: usize,
    closed: bool,
}

fn main() -> io::Result<()> {
    let epoch = std::time::Instant::now();
    let now = || Instant::EPOCH + epoch.elapsed();
    let config = Arc::new(Config::default());
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"))?;
    let address = listener.local_addr()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;

    // The clients come first, the server's ends behind them; the place of each is its token.
    let mut peers: Vec<Peer> = Vec::new();
    for _ in 0..CLIENTS {
        let connection = Connection::client(Arc::clone(&config), now());
        add(&poll, &mut peers, connection, TcpStream::connect(address)?)?;
    }

    while peers.iter().any(|peer| !peer.closed) {
        // Wait for a socket, or for the first deadline of all.
        let deadlines = peers
            .iter()
            .filter_map(|peer| peer.connection.poll_timeout());
        let wait = deadlines.min().map(|due| due - now());
        poll.poll(&mut events, wait)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((socket, _)) = listener.accept() {
                    // A real server takes a random id: nobody should be able to guess it.
                    let id = Uuid::from_u128(peers.len() as u128);
                    let connection = Connection::server(Arc::clone(&config), id, now());
                    add(&poll, &mut peers, connection, socket)?;
                }
            } else {
                let peer = &mut peers[event.token().0];
                read(peer, now());
                write(peer, now());
            }
        }
        for peer in &mut peers {
            peer.connection.handle_timeout(now());
        }
        // What it led to. A message for everybody makes work for every connection, so this goes on
        // until nothing happens any more.
        while let Some(said) = handle_events(&mut peers, now()) {
            let (_, servers) = peers.split_at_mut(CLIENTS);
            for message in said {
                for server in servers.iter_mut() {
                    // Not established yet, or gone: it misses this one. Full cannot be: a client
                    // reads all the time, and everything said fits.
                    let _ = server.connection.send(now(), message.clone());
                }
            }
        }
        for peer in &mut peers {
            write(peer, now());
        }
    }
    println!("{CLIENTS} clients have heard each other");
    Ok(())
}

fn add(
    poll: &Poll,
    peers: &mut Vec<Peer>,
    connection: Connection,
    mut socket: TcpStream,
) -> io::Result<()> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut socket, Token(peers.len()), interest)?;
    peers.push(Peer {
        connection,
        socket,
        heard: 0,
        closed: false,
    });
    Ok(())
}

/// Polls the events of all; returns what was said to the server, `None` if nothing happened.
fn handle_events(peers: &mut [Peer], now: Instant) -> Option<Vec<Message>> {
    let mut said = Vec::new();
    let mut happened = false;
    // A client speaks when everybody is there to hear it.
    let (_, servers) = peers.split_at(CLIENTS);
    let complete = servers.iter().filter(|peer| peer.heard > 0).count() == CLIENTS;
    for (place, peer) in peers.iter_mut().enumerate() {
        let is_client = place < CLIENTS;
        while let Some(event) = peer.connection.poll_event() {
            happened = true;
            match event {
                // Counts as one for a server's end: it is there.
                Event::Established { .. } => peer.heard += usize::from(!is_client),
                Event::Message(message) if !is_client => said.push(message),
                Event::Message(_) => peer.heard += 1,
                Event::Closed(_) => peer.closed = true,
                other => panic!("unexpected: {other:?}"),
            }
        }
        let stats = peer.connection.stats();
        if is_client && complete && stats.messages_sent == 0 && peer.connection.outbox_bytes() == 0
        {
            let hello = Message::text(format!("hello from {place}"));
            happened |= peer.connection.send(now, hello).is_ok();
        }
        if is_client && peer.heard == CLIENTS {
            peer.connection.close(now, "heard everybody");
        }
    }
    happened.then_some(said)
}

/// Reads until there is nothing more: the socket reports only what is new.
fn read(peer: &mut Peer, now: Instant) {
    let mut buffer = [0; 16 * 1024];
    while !peer.connection.is_closed() {
        match peer.socket.read(&mut buffer) {
            Ok(0) => return peer.connection.handle_eof(now),
            Ok(bytes) => _ = peer.connection.handle_input(now, &buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => {
                return peer
                    .connection
                    .handle_transport_error(now, &error.to_string());
            }
        }
    }
}

/// Writes until there is nothing more, or the socket is full: it reports when it is not.
fn write(peer: &mut Peer, now: Instant) {
    let mut parts = [&[][..]; 2];
    while peer.connection.poll_transmit(&mut parts) > 0 {
        match peer.socket.write_vectored(&parts.map(IoSlice::new)) {
            Ok(taken) => peer.connection.consume_transmit(now, taken),
            // Full, not connected yet, or broken: reading will tell.
            Err(_) => return,
        }
        parts = [&[][..]; 2];
    }
    if peer.connection.is_write_finished() {
        let _ = peer.socket.shutdown(Shutdown::Write);
    }
}

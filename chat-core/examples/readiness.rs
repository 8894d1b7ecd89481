//! Hundreds of connections in one thread, on the operating system's readiness events (`mio`).
//!
//! An echo server and 300 clients in this thread: `cargo run -p chat-core --example readiness`
#![expect(clippy::disallowed_methods, reason = "the time comes from here")]

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use chat_core::{Config, Connection, Entropy, Event, Instant, Message, Role, Uuid};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const CLIENTS: u64 = 300;
const QUESTIONS: u64 = 10;
const LISTENER: Token = Token(usize::MAX);

/// One end of a connection: the protocol, and the socket under it until both are done.
struct Peer {
    connection: Connection,
    socket: Option<TcpStream>,
    writing: bool,
}

fn main() -> io::Result<()> {
    let epoch = std::time::Instant::now();
    let now = || Instant::EPOCH + epoch.elapsed();
    let config = Arc::new(Config::default());
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"))?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;

    // Clients and the server's ends alike; the place of each is its token.
    let (mut peers, mut clients) = (Vec::new(), 0);
    while clients < CLIENTS || peers.iter().any(|peer: &Peer| peer.socket.is_some()) {
        // A few at a time: a listening socket holds no more than 128 that were not accepted.
        let more = 50.min(CLIENTS - clients);
        for _ in 0..more {
            let connection = Connection::client(Arc::clone(&config), entropy(), now());
            add(
                &poll,
                &mut peers,
                connection,
                TcpStream::connect(listener.local_addr()?)?,
            )?;
        }
        clients += more;
        // Wait for a socket, or for the first deadline of all.
        let deadlines = peers.iter().map(|peer| peer.connection.poll_timeout());
        poll.poll(
            &mut events,
            deadlines.flatten().min().map(|due| due - now()),
        )?;
        for event in &events {
            if event.token() != LISTENER {
                work(&mut peers[event.token().0], now());
                continue;
            }
            while let Ok((socket, _)) = listener.accept() {
                // A real server takes a random id: nobody should be able to guess it.
                let id = Uuid::from_u128(peers.len() as u128);
                let connection = Connection::server(Arc::clone(&config), id, entropy(), now());
                add(&poll, &mut peers, connection, socket)?;
            }
        }
        for peer in &mut peers {
            if peer.connection.poll_timeout() <= Some(now()) {
                peer.connection.handle_timeout(now());
                work(peer, now());
            }
        }
    }
    println!("{CLIENTS} clients have asked {QUESTIONS} questions each");
    Ok(())
}

fn add(
    poll: &Poll,
    peers: &mut Vec<Peer>,
    connection: Connection,
    mut socket: TcpStream,
) -> io::Result<()> {
    let both = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut socket, Token(peers.len()), both)?;
    peers.push(Peer {
        connection,
        socket: Some(socket),
        writing: true,
    });
    Ok(())
}

/// Does all that can be done for one connection: its socket reports only what is new.
fn work(peer: &mut Peer, now: Instant) {
    let connection = &mut peer.connection;
    let Some(stream) = &mut peer.socket else {
        return;
    };
    let mut buffer = [0; 16 * 1024];
    while !connection.is_closed() {
        write(connection, stream, &mut peer.writing, now);
        match stream.read(&mut buffer) {
            Ok(0) => connection.handle_eof(now),
            // All of it is taken: every event was polled before this read.
            Ok(bytes) => _ = connection.handle_input(now, &buffer[..bytes]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => connection.handle_transport_error(now, &error.to_string()),
        }
        while let Some(event) = connection.poll_event() {
            handle(connection, now, event);
        }
    }
    peer.socket = None;
}

/// What an event leads to.
fn handle(connection: &mut Connection, now: Instant, event: Event) {
    let next = match (connection.role(), event) {
        (Role::Server, Event::Message(question)) => question,
        (Role::Client, Event::Established { .. } | Event::Message(_)) => {
            let answered = connection.stats().messages_received;
            if answered == QUESTIONS {
                return connection.close(now, "no more questions");
            }
            Message::text(format!("question {answered}"))
        }
        _ => return,
    };
    connection.send(now, next).expect("one at a time fits");
}

/// Writes until there is nothing more, or the socket is full: it reports when it is not.
fn write(connection: &mut Connection, socket: &mut TcpStream, writing: &mut bool, now: Instant) {
    let mut parts = [&[][..]; 2];
    while connection.poll_transmit(&mut parts) > 0 {
        match socket.write_vectored(&parts.map(IoSlice::new)) {
            Ok(taken) => connection.consume_transmit(now, taken),
            // Full, or not connected yet, or broken: then reading will tell.
            Err(_) => return,
        }
        parts = [&[][..]; 2];
    }
    if connection.is_write_finished() && std::mem::take(writing) {
        let _ = socket.shutdown(Shutdown::Write);
    }
}

/// Random bytes from the operating system.
#[expect(
    clippy::disallowed_methods,
    reason = "a program brings its own randomness"
)]
fn entropy() -> Entropy {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("the operating system has random bytes");
    Entropy::new(random)
}

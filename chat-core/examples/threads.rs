//! No async at all: blocking sockets, a thread for each connection.
//!
//! A server echoes; ten clients send it a hundred messages each and say goodbye. Run it with
//! `cargo run -p chat-core --example threads`.
//!
//! The protocol is a [`Connection`]: it never touches a socket or a clock. `run` below is all that
//! it takes to drive one: write what it has to say, read what the peer says, tell it the time.
#![expect(clippy::disallowed_methods, reason = "the time comes from here")]

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use chat_core::{CloseReason, Config, Connection, Entropy, Event, Instant, Message, Uuid};

const CLIENTS: u128 = 10;
const MESSAGES: u32 = 100;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // The core's time is relative to any moment: this one.
    let epoch = std::time::Instant::now();
    let config = Arc::new(Config::default());

    let server_config = Arc::clone(&config);
    let server = thread::spawn(move || -> io::Result<()> {
        let mut sessions = Vec::new();
        for number in 0..CLIENTS {
            let (socket, _) = listener.accept()?;
            let config = Arc::clone(&server_config);
            // A real server takes a random id: nobody should be able to guess it.
            let id = Uuid::from_u128(number);
            let connection = Connection::server(config, id, entropy(), since(epoch));
            sessions.push(thread::spawn(move || run(socket, connection, epoch, echo)));
        }
        for session in sessions {
            let reason = session.join().expect("no session panics")?;
            println!("server: {reason}");
        }
        Ok(())
    });

    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let socket = TcpStream::connect(address)?;
        let connection = Connection::client(Arc::clone(&config), entropy(), since(epoch));
        let mut replies = 0;
        clients.push(thread::spawn(move || {
            run(socket, connection, epoch, |connection, now, event| {
                ask(connection, now, &event, &mut replies);
            })
        }));
    }
    for client in clients {
        let reason = client.join().expect("no client panics")?;
        assert_eq!(
            reason,
            CloseReason::Local {
                reason: "all came back".into()
            }
        );
    }
    server.join().expect("the server does not panic")
}

/// What the server does with an event.
fn echo(connection: &mut Connection, now: Instant, event: Event) {
    if let Event::Message(message) = event {
        // The outbox holds hundreds of such messages; a client that lets it fill up is let go.
        if connection.send(now, message).is_err() {
            connection.abort(now, "you do not read");
        }
    }
}

/// What a client does with one: a question at a time.
fn ask(connection: &mut Connection, now: Instant, event: &Event, replies: &mut u32) {
    match event {
        Event::Established { .. } => {}
        Event::Message(message) => {
            assert_eq!(message.as_text(), Some(&*format!("message {replies}")));
            *replies += 1;
        }
        _ => return,
    }
    if *replies == MESSAGES {
        connection.close(now, "all came back");
    } else {
        let question = Message::text(format!("message {replies}"));
        connection.send(now, question).expect("the outbox is empty");
    }
}

/// Drives one connection over one socket to its end.
fn run(
    mut socket: TcpStream,
    mut connection: Connection,
    epoch: std::time::Instant,
    mut on_event: impl FnMut(&mut Connection, Instant, Event),
) -> io::Result<CloseReason> {
    // Frames go out when they are ready.
    socket.set_nodelay(true)?;
    let mut buffer = [0; 16 * 1024];
    loop {
        // What happened, and what the application makes of it.
        while let Some(event) = connection.poll_event() {
            if let Event::Closed(reason) = event {
                return Ok(reason);
            }
            on_event(&mut connection, since(epoch), event);
        }
        // Out with what there is to say.
        let mut parts = [&[][..]; 2];
        while connection.poll_transmit(&mut parts) > 0 {
            let taken = socket.write_vectored(&parts.map(IoSlice::new))?;
            connection.consume_transmit(since(epoch), taken);
            parts = [&[][..]; 2];
        }
        if connection.is_write_finished() {
            socket.shutdown(Shutdown::Write)?;
        }
        // In with what the peer says, but no longer than to the next deadline.
        let wait = connection.poll_timeout().map(|due| due - since(epoch));
        socket.set_read_timeout(wait.map(|wait| wait.max(Duration::from_millis(1))))?;
        match socket.read(&mut buffer) {
            Ok(0) => connection.handle_eof(since(epoch)),
            // All of it is taken: every event was polled before this read.
            Ok(read) => _ = connection.handle_input(since(epoch), &buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => connection.handle_transport_error(since(epoch), &error.to_string()),
        }
        connection.handle_timeout(since(epoch));
    }
}

/// The time, as the core counts it.
fn since(epoch: std::time::Instant) -> Instant {
    Instant::EPOCH + epoch.elapsed()
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

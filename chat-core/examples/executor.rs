//! Asynchronous, on an executor of ten lines and a transport in memory: no runtime, no sockets.
//!
//! A client asks, a server answers, over a pipe of 700 bytes in each direction. Run it with
//! `cargo run -p chat-core --example executor`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use chat_core::{CloseReason, Config, Connection, Entropy, Event, Instant, Message, Uuid};

/// The executor: polls its tasks in turn until all are done. Nothing here ever sleeps, so nothing
/// needs to be woken.
fn execute(mut tasks: Vec<Pin<Box<dyn Future<Output = ()>>>>) {
    let mut cx = Context::from_waker(Waker::noop());
    while !tasks.is_empty() {
        tasks.retain_mut(|task| task.as_mut().poll(&mut cx).is_pending());
    }
}

/// One direction of the transport: at most 700 bytes under way, then possibly its end.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    ended: bool,
}

const PIPE: usize = 700;

/// The two directions as one end sees them.
struct Transport {
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
}

/// A connection that can be awaited.
struct Session {
    connection: Connection,
    transport: Transport,
}

/// Nothing takes time in memory; a program with a clock passes its time here.
const NOW: Instant = Instant::EPOCH;

impl Session {
    /// The next event. All state is in the session: dropping the future loses nothing.
    async fn event(&mut self) -> Event {
        poll_fn(|_| {
            self.write();
            self.read();
            match self.connection.poll_event() {
                Some(event) => Poll::Ready(event),
                // The executor will come back.
                None => Poll::Pending,
            }
        })
        .await
    }

    fn write(&mut self) {
        let mut pipe = self.transport.outgoing.borrow_mut();
        let mut parts = [&[][..]; 2];
        self.connection.poll_transmit(&mut parts);
        let bytes = parts.concat();
        let taken = bytes.len().min(PIPE - pipe.bytes.len());
        pipe.bytes.extend(&bytes[..taken]);
        self.connection.consume_transmit(NOW, taken);
        pipe.ended = self.connection.is_write_finished();
    }

    fn read(&mut self) {
        let mut pipe = self.transport.incoming.borrow_mut();
        let taken = self
            .connection
            .handle_input(NOW, pipe.bytes.make_contiguous());
        pipe.bytes.drain(..taken);
        if pipe.ended && pipe.bytes.is_empty() {
            self.connection.handle_eof(NOW);
        }
    }
}

impl Drop for Session {
    /// As closing a socket does.
    fn drop(&mut self) {
        self.transport.outgoing.borrow_mut().ended = true;
    }
}

async fn serve(mut session: Session) {
    loop {
        match session.event().await {
            Event::Message(question) => {
                let text = question.as_text().expect("a text").to_uppercase();
                let answer = Message::text(text);
                session
                    .connection
                    .send(NOW, answer)
                    .expect("one at a time fits");
            }
            Event::Closed(reason) => return println!("server: {reason}"),
            _ => {}
        }
    }
}

async fn ask(mut session: Session) {
    assert!(matches!(session.event().await, Event::Established { .. }));
    for question in ["who?", "where?", "why?"] {
        let message = Message::text(question);
        session
            .connection
            .send(NOW, message)
            .expect("one at a time fits");
        let Event::Message(answer) = session.event().await else {
            panic!("an answer was expected");
        };
        println!("{question} {}", answer.as_text().expect("a text"));
    }
    session.connection.close(NOW, "no more questions");
    let end = session.event().await;
    assert!(matches!(end, Event::Closed(CloseReason::Local { .. })));
}

fn main() {
    let config = Arc::new(Config::default());
    let (up, down) = (Rc::default(), Rc::default());
    let client = Session {
        connection: Connection::client(Arc::clone(&config), entropy(), NOW),
        transport: Transport {
            incoming: Rc::clone(&down),
            outgoing: Rc::clone(&up),
        },
    };
    let server = Session {
        connection: Connection::server(config, Uuid::from_u128(1), entropy(), NOW),
        transport: Transport {
            incoming: up,
            outgoing: down,
        },
    };
    execute(vec![Box::pin(ask(client)), Box::pin(serve(server))]);
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

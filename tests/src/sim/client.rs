//! A client and what it does.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chat_core::driver::{Client, ClientBuilder, ClientEvent, ConnectError, Endpoint};
use chat_core::{
    Backoff, CloseReason, ContentType, Message, Receive, SendError, Transfer, TransferError,
};

use super::executor::Node;
use super::ledger::{Ledger, Letter};
use super::plan::{ClientPlan, Step};
use super::stage::{Part, Stage};

/// How long a step may take. One that takes longer is given up, and must then not have happened.
const STEP: Duration = Duration::from_mins(2);
/// How much is read of a stream.
const MOST: u64 = 1024 * 1024;

/// Lets a client play its part.
pub(super) fn start(node: &Node, plan: ClientPlan, steps: Vec<Step>, stage: &Arc<Stage>) {
    let actor = Actor {
        node: node.clone(),
        ledger: stage.ledger().clone(),
        plan,
        next: 0,
    };
    node.start(actor.play(steps, stage.enter()));
}

#[derive(Clone)]
struct Actor {
    node: Node,
    ledger: Ledger,
    plan: ClientPlan,
    /// The number of the next message.
    next: usize,
}

impl Actor {
    async fn play(mut self, steps: Vec<Step>, mut part: Part) {
        self.node.pause(self.plan.start).await;
        let number = self.plan.number;
        // Whatever does not see that it was made is seen all the same.
        self.ledger.client(number, |_| ());
        let client = match self.connect(&part).await {
            Ok(client) => client,
            Err(ConnectError::Handshake(reason)) => {
                self.ledger.client(number, |it| {
                    it.finished = true;
                    it.ends.push(reason);
                });
                return;
            }
            Err(error) => {
                self.ledger
                    .client(number, |it| it.failed = Some(error.to_string()));
                return;
            }
        };
        if client.security().is_some() {
            let trusted = client.is_channel_trusted();
            self.ledger.client(number, |it| it.trusted = Some(trusted));
        }
        {
            let reader = self.read(client.clone());
            let reads = self.plan.reads.is_some();
            let story = async {
                for step in steps {
                    self.step(&client, step).await;
                }
                part.rest();
                part.stage().curtain().await;
            };
            let (mut reader, mut story) = (pin!(reader), pin!(story));
            let mut done = !reads;
            std::future::poll_fn(|cx| {
                if !done {
                    done = reader.as_mut().poll(cx).is_ready();
                }
                match story.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(()),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await;
        }
        if self.plan.closes {
            self.close(client).await;
        }
    }

    async fn connect(&self, part: &Part) -> Result<Client, ConnectError> {
        let receive = if self.plan.pieces {
            Receive::Pieces
        } else {
            Receive::Whole
        };
        let mut builder = ClientBuilder::with_runtime(self.node.clone())
            .config(self.plan.settings.config().receive(receive))
            .max_outbox(self.plan.outbox)
            .max_inbox(self.plan.inbox);
        if self.plan.reconnects {
            let (base, cap) = (Duration::from_secs(1), Duration::from_secs(20));
            builder = builder.reconnect(Backoff::new(base, cap));
        }
        let address = part.stage().address().to_string();
        let endpoint = if self.plan.unix {
            Endpoint::unix(address)
        } else {
            Endpoint::tcp(address)
        };
        builder.connect(endpoint).await
    }

    /// The next message of about this size, noted as one that may arrive from now on.
    fn letter(&mut self, size: usize, stream: bool) -> Letter {
        let letter = Letter::sized(self.plan.number, self.next, size);
        self.next += 1;
        self.ledger
            .client(letter.client, |it| it.accepted.push((letter, stream)));
        letter
    }

    /// It was not taken after all: if it arrives now, it is one that nobody sent.
    fn not_taken(&self, letter: Letter) {
        self.ledger.client(letter.client, |it| {
            it.accepted.retain(|(one, _)| *one != letter);
        });
    }

    async fn step(&mut self, client: &Client, step: Step) {
        match step {
            Step::Pause(time) => self.node.pause(time).await,
            Step::Flush => _ = self.node.within(STEP, client.flush()).await,
            Step::Send(size) => {
                let letter = self.letter(size, false);
                let message = Message::text(letter.content());
                let sent = self.node.within(STEP, client.send(message)).await;
                if !matches!(sent, Some(Ok(()))) {
                    self.not_taken(letter);
                }
            }
            Step::Try(size) => {
                let letter = self.letter(size, false);
                let message = Message::binary(letter.content());
                match client.try_send(message) {
                    Ok(()) => {}
                    Err(SendError::Full(_) | SendError::Closed(_) | SendError::TooLarge(_)) => {
                        self.not_taken(letter);
                    }
                    Err(error) => self.ledger.broken(format!("a message is refused: {error}")),
                }
            }
            Step::Stream(size, given_up) => {
                let letter = self.letter(size, true);
                let stream = stream(client, letter, given_up);
                let done = self.node.within(STEP, stream).await;
                self.ledger.client(letter.client, |it| match done {
                    Some(Ok(())) => {}
                    _ => _ = it.given_up.insert(letter),
                });
            }
        }
    }

    async fn close(&self, client: Client) {
        let number = self.plan.number;
        self.ledger.client(number, |it| it.closing = true);
        let reason = client.close(&format!("bye {number}")).await;
        self.ledger.client(number, |it| it.goodbye = Some(reason));
        // What came before may still be there to be taken; the end is the last of it.
        while let Some(event) = client.recv().await {
            self.note(event);
        }
        self.ledger.client(number, |it| it.finished = true);
    }

    /// Takes every event of a client, at its pace.
    fn read(&self, client: Client) -> impl Future<Output = ()> + use<> {
        let actor = self.clone();
        async move {
            while let Some(event) = client.recv().await {
                actor.note(event);
                if let Some(pace) = actor.plan.reads
                    && !pace.is_zero()
                {
                    actor.node.pause(pace).await;
                }
            }
            let number = actor.plan.number;
            actor.ledger.client(number, |it| it.finished = true);
        }
    }

    /// Notes an event.
    fn note(&self, event: ClientEvent) {
        let (number, ledger) = (self.plan.number, &self.ledger);
        match event {
            ClientEvent::Connected { .. } | ClientEvent::Error(_) => {}
            ClientEvent::Message(message) => ledger.received(number, &message),
            ClientEvent::Incoming(incoming) => {
                let ledger = ledger.clone();
                self.node.start(async move {
                    if let Ok(message) = incoming.collect(MOST).await {
                        ledger.received(number, &message);
                    }
                });
            }
            ClientEvent::Undelivered { .. } => ledger.client(number, |it| it.undelivered += 1),
            ClientEvent::Disconnected {
                reason,
                lost,
                retry_in,
            } => {
                let (again, closing) = ledger.client(number, |it| {
                    it.lost += lost;
                    it.ends.push(reason.clone());
                    (
                        std::mem::replace(&mut it.finished, retry_in.is_none()),
                        it.closing,
                    )
                });
                if again {
                    ledger.broken(format!(
                        "client {number} has ended twice, now with {reason}"
                    ));
                }
                if !closing && matches!(reason, CloseReason::Local { .. }) {
                    ledger.broken(format!(
                        "client {number} has not closed, but says that it has"
                    ));
                }
            }
            other => ledger.broken(format!("client {number}: {other:?}")),
        }
    }
}

/// Sends a letter in pieces; gives it up after some.
async fn stream(
    client: &Client,
    letter: Letter,
    given_up: Option<usize>,
) -> Result<(), TransferError> {
    let content = letter.content().into_bytes();
    let mut transfer = Transfer::new(ContentType::from_static("text/plain"));
    if letter.number.is_multiple_of(2) {
        transfer = transfer.total(content.len() as u64);
    }
    let Ok(mut stream) = client.send_stream(transfer) else {
        return Err(TransferError::Closed);
    };
    for (index, piece) in content.chunks(letter.size / 4 + 1).enumerate() {
        if given_up == Some(index) {
            stream.cancel("thought better of it");
            return Err(TransferError::Closed);
        }
        stream.write(piece.to_vec()).await?;
    }
    stream.finish().await
}

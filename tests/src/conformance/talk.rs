//! One whole conversation, with a record of what each end has seen: what the faults are tried on.
//!
//! The handshake, small messages both ways, one in chunks both ways, a stream both ways, a flush,
//! a goodbye.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_core::driver::rt::Runtime;
use chat_core::driver::{
    Client, ClientBuilder, ClientEvent, ConnectError, Endpoint, Handler, HandlerError, Incoming,
    Server, ServerBuilder, Session,
};
use chat_core::{CloseReason, Config, Message, Receive, SendError, Transfer, TransferError, Uuid};

use super::streams::all;
use super::{Adapter, Kind, World, message};
use crate::faulty::{Faulty, Plan};
use crate::{join, pattern};

/// The messages of the client that go out in one piece. Each is answered.
pub(super) const TEXTS: [&str; 3] = ["one", "two", "three"];
/// The one that goes out in chunks, and comes back so.
const LARGE: usize = 2_500;
/// The stream, which comes back as one.
const STREAM: usize = 3_000;
const NAME: &str = "a stream";
/// Why the client leaves.
pub(super) const DONE: &str = "done";

/// A content, and whether that was all.
pub(super) type Came = (Vec<u8>, Result<(), TransferError>);

/// Whose socket it is that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What one end has received.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) texts: Vec<String>,
    pub(super) large: Vec<Came>,
    pub(super) streams: Vec<Came>,
    /// How the streams ended that this end sent.
    pub(super) fates: Vec<Result<(), TransferError>>,
    pub(super) ends: Vec<CloseReason>,
}

impl Heard {
    fn take(&mut self, named: bool, came: Came) {
        let list = if named {
            &mut self.streams
        } else {
            &mut self.large
        };
        list.push(came);
    }

    /// Nothing is wrong, doubled or out of order, whatever is missing.
    pub(super) fn check(&self, prefix: &str) {
        let texts = TEXTS.map(|text| format!("{prefix}{text}"));
        assert!(texts.starts_with(&self.texts), "{:?}", self.texts);
        for (list, len) in [(&self.large, LARGE), (&self.streams, STREAM)] {
            assert!(list.len() <= 1, "it came more than once");
            for (content, end) in list {
                assert!(pattern(len).starts_with(content), "the content differs");
                assert!(end.is_err() || content.len() == len, "it is not whole");
            }
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        let texts = self.texts.len() == TEXTS.len();
        texts && whole(&self.large) == 1 && whole(&self.streams) == 1
    }
}

/// How many came whole.
pub(super) fn whole(list: &[Came]) -> usize {
    list.iter().filter(|(_, end)| end.is_ok()).count()
}

/// What the client has seen of a session.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) heard: Heard,
    /// Messages that `send` took.
    pub(super) queued: u64,
    /// What `flush` reported as lost.
    pub(super) flushed: u64,
    /// What the last event did.
    pub(super) lost: u64,
    pub(super) undelivered: u64,
}

/// What came of a conversation.
pub(super) struct Run {
    pub(super) plan: Arc<Plan>,
    /// What the client has seen of its session, or why there was none.
    pub(super) client: Result<Seen, CloseReason>,
    /// What the server has of it, if it got that far.
    pub(super) server: Option<Heard>,
}

/// Keeps a record of each session, and answers everything.
#[derive(Clone, Default)]
pub(super) struct Talk {
    sessions: Arc<Mutex<BTreeMap<Uuid, Heard>>>,
    /// One more for each stream that is being handled.
    handled: Arc<()>,
}

impl Talk {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<Uuid, Heard>> {
        let sessions = self.sessions.lock();
        sessions.unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, session: &Session, note: impl FnOnce(&mut Heard)) {
        let mut sessions = self.sessions();
        note(sessions.get_mut(&session.id()).expect("it was connected"));
    }
}

impl Handler for Talk {
    type Data = ();

    fn connected(&self, session: &Session) {
        let before = self.sessions().insert(session.id(), Heard::default());
        assert!(before.is_none(), "connected twice");
    }

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        let text = message.as_text().ok_or("no text")?.to_owned();
        // There may be nobody any more to answer to.
        let _ = session.send(Message::text(format!("re: {text}")));
        self.note(session, |heard| heard.texts.push(text));
        Ok(())
    }

    fn streams(&self) -> bool {
        true
    }

    async fn incoming(&self, session: Session, incoming: Incoming) -> Result<(), HandlerError> {
        let _handled = Arc::clone(&self.handled);
        let transfer = incoming.transfer().clone();
        let named = transfer.file_name().is_some();
        let (content, end) = all(incoming).await;
        let came = (content.clone(), end.clone());
        self.note(&session, |heard| heard.take(named, came));
        if end.is_err() {
            return Ok(());
        }
        if !named {
            let _ = session.send(Message::binary(content));
        } else if let Ok(mut stream) = session.send_stream(transfer) {
            let mut fate = stream.write(content).await;
            if fate.is_ok() {
                fate = stream.finish().await;
            }
            self.note(&session, |heard| heard.fates.push(fate));
        }
        Ok(())
    }

    fn disconnected(&self, session: &Session, reason: &CloseReason) {
        self.note(session, |heard| heard.ends.push(reason.clone()));
    }
}

/// Says everything that there is to say, waits for the answers and says goodbye; the error is that
/// there was no session.
async fn converse<R: Runtime>(
    builder: ClientBuilder<R>,
    endpoint: Endpoint,
) -> Result<Seen, CloseReason> {
    let client = match builder.connect(endpoint).await {
        Ok(client) => client,
        Err(ConnectError::Handshake(reason)) => return Err(reason),
        Err(error) => panic!("{error}"),
    };
    let mut seen = Seen::default();
    let texts = TEXTS.map(Message::text).into_iter();
    for message in texts.chain([Message::binary(pattern(LARGE))]) {
        match client.send(message).await {
            Ok(()) => seen.queued += 1,
            Err(error) => assert!(matches!(error, SendError::Closed(_)), "{error}"),
        }
    }
    let (fate, mut end) = join(send_stream(&client), receive(&client, &mut seen)).await;
    seen.heard.fates.extend(fate);

    seen.flushed += flushed(&client).await;
    if end.is_none() {
        let reason = client.close(DONE).await;
        end = receive(&client, &mut seen).await;
        assert_eq!(end.as_ref(), Some(&reason));
    }
    let end = end.expect("the last event");
    assert!(client.recv().await.is_none(), "something follows the end");
    assert_eq!(client.closed().as_ref(), Some(&end));
    assert_eq!(client.close("again").await, end);
    let late = client.send(Message::text("too late")).await;
    assert!(matches!(late, Err(SendError::Closed(_))));
    seen.flushed += flushed(&client).await;
    assert_eq!(flushed(&client).await, 0, "reported twice");
    seen.heard.ends.push(end);
    Ok(seen)
}

/// How many messages `flush` reports as lost.
pub(super) async fn flushed(client: &Client) -> u64 {
    client.flush().await.map_or_else(|error| error.lost, |()| 0)
}

async fn send_stream(client: &Client) -> Option<Result<(), TransferError>> {
    let transfer = Transfer::new("image/png").total(STREAM as u64).name(NAME);
    let mut stream = client.send_stream(transfer).ok()?;
    for piece in pattern(STREAM).chunks(1_700) {
        if let Err(error) = stream.write(piece.to_vec()).await {
            return Some(Err(error));
        }
    }
    Some(stream.finish().await)
}

/// Receives until there is nothing more to expect; returns the reason if the connection ended.
async fn receive(client: &Client, seen: &mut Seen) -> Option<CloseReason> {
    let heard = &mut seen.heard;
    while !heard.is_whole() || client.closed().is_some() {
        match client.recv().await.expect("the end comes first") {
            ClientEvent::Message(message) => {
                let text = message.as_text().expect("a text");
                heard.texts.push(text.to_owned());
            }
            ClientEvent::Incoming(incoming) => {
                let named = incoming.transfer().file_name().is_some();
                heard.take(named, all(incoming).await);
            }
            ClientEvent::Undelivered { .. } => seen.undelivered += 1,
            ClientEvent::Disconnected {
                reason,
                lost,
                retry_in: None,
            } => {
                seen.lost = lost;
                return Some(reason);
            }
            other => panic!("not expected: {other:?}"),
        }
    }
    None
}

/// Settings with small chunks, so that there are several, and no timers: whoever had to wait for one
/// would wait for ever.
pub(super) fn config() -> Config {
    let never = Duration::from_hours(24);
    Config::default()
        .receive(Receive::Pieces)
        .chunk_threshold(1024)
        .chunk_size(1024)
        .handshake_timeout(never)
        .close_timeout(never)
        .heartbeat(None)
        .idle_timeout(None)
        .ping_timeout(None)
        .stall_timeout(None)
        .transfer_timeout(None)
}

impl<A: Adapter> World<A> {
    /// A place for one of several servers.
    pub(super) fn another_endpoint(&self) -> Endpoint {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        match self.kind {
            Kind::Tcp => self.endpoint(),
            Kind::Unix => Endpoint::unix(self.dir.path().join(format!("{number}.sock"))),
        }
    }

    /// One conversation, with a fault on one side; then another client comes to the same server,
    /// which stops after that.
    pub(super) async fn talk(&self, side: Side, plan: Arc<Plan>, config: Config) -> Run {
        let none = Plan::none();
        let (of_client, of_server) = match side {
            Side::Client => (&plan, &none),
            Side::Server => (&none, &plan),
        };
        let talk = Talk::default();
        let runtime = Faulty::new(self.runtime.clone(), of_server);
        let server = ServerBuilder::with_runtime(runtime, talk.clone())
            .listen(self.another_endpoint())
            .config(config.clone());
        let server = server.bind().await.expect("it listens");
        let endpoint = server.endpoints()[0].clone();

        let runtime = Faulty::new(self.runtime.clone(), of_client);
        let builder = ClientBuilder::with_runtime(runtime).config(config);
        let client = converse(builder, endpoint).await;
        self.until("no session", || server.sessions().is_empty())
            .await;
        // One is held here, one by the server.
        let idle = || Arc::strong_count(&talk.handled) == 2;
        self.until("no stream that is handled", idle).await;
        self.serves(&server).await;
        server.stop().await;

        let mut sessions = std::mem::take(&mut *talk.sessions());
        sessions.retain(|_, heard| heard.texts != ["fresh"]);
        assert!(sessions.len() <= 1, "two sessions for one client");
        let server = sessions.into_values().next();
        Run {
            plan,
            client,
            server,
        }
    }

    /// A client that has nothing to do with what went on gets its answer.
    pub(super) async fn serves<D>(&self, server: &Server<D>) {
        let fresh = self.connect(server).await;
        fresh.send(Message::text("fresh")).await.unwrap();
        assert_eq!(message(&fresh).await.as_text(), Some("re: fresh"));
        let reason = fresh.close(DONE).await;
        assert!(matches!(reason, CloseReason::Local { .. }), "{reason}");
    }
}

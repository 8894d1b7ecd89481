//! The server's handler: what the library's own do, and a line in the books for everything.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_core::driver::{Echo, Handler, HandlerError, Incoming, Peer, Relay, Session};
use chat_core::{CloseReason, Message};

use super::executor::Node;
use super::ledger::Letter;
use super::plan::{Mode, ServerPlan};
use super::stage::Stage;

/// The most that is read of a stream.
const MOST: u64 = 1024 * 1024;

pub(super) struct Clerk {
    node: Node,
    stage: Arc<Stage>,
    mode: Mode,
    thinks: Duration,
}

impl Clerk {
    pub(super) fn new(node: Node, stage: Arc<Stage>, plan: &ServerPlan) -> Self {
        Self {
            node,
            stage,
            mode: plan.mode,
            thinks: plan.thinks,
        }
    }

    /// Notes that a letter is about to be queued for sessions, and lets that happen.
    async fn queue(
        &self,
        sessions: &[Session],
        letter: Letter,
        queue: impl Future<Output = Result<(), HandlerError>>,
    ) -> Result<(), HandlerError> {
        // A server that stops takes no more for its sessions.
        let counts = !self.stage.is_stopping();
        for session in sessions.iter().filter(|_| counts) {
            self.stage
                .ledger()
                .session(session.id(), |it| it.queued.push(letter));
        }
        let done = queue.await;
        if done.is_err() && counts {
            for session in sessions {
                self.stage
                    .ledger()
                    .session(session.id(), |it| it.queued.retain(|one| *one != letter));
            }
        }
        done
    }
}

impl Handler for Clerk {
    type Data = ();

    fn connected(&self, session: &Session) {
        // Machine 0 is the server's, with the first address; over a Unix socket the process is known.
        let client = match session.peer() {
            Peer::Tcp(from) => match from.ip() {
                IpAddr::V4(address) => usize::from(address.octets()[3]) - 1,
                IpAddr::V6(_) => return,
            },
            Peer::Unix(Some(known)) => known
                .pid
                .and_then(|pid| usize::try_from(pid).ok())
                .unwrap_or(0),
            _ => return,
        };
        self.stage
            .ledger()
            .session(session.id(), |it| it.client = client);
    }

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        let Some(letter) = self.stage.ledger().arrived(session.id(), message.content()) else {
            return Ok(());
        };
        if !self.thinks.is_zero() {
            self.node.pause(self.thinks).await;
        }
        match self.mode {
            Mode::Echo => {
                let to = std::slice::from_ref(session);
                self.queue(to, letter, Echo.message(session, message)).await
            }
            Mode::Relay => {
                let to = session.server().sessions();
                self.queue(&to, letter, Relay.message(session, message))
                    .await
            }
            Mode::Keep => Ok(()),
        }
    }

    fn streams(&self) -> bool {
        self.mode != Mode::Echo
    }

    async fn incoming(&self, session: Session, incoming: Incoming) -> Result<(), HandlerError> {
        if self.mode == Mode::Relay {
            return Relay.incoming(session, incoming).await;
        }
        // What is given up is not here; its sender was told.
        if let Ok(message) = incoming.collect(MOST).await {
            self.stage.ledger().arrived(session.id(), message.content());
        }
        Ok(())
    }

    fn disconnected(&self, session: &Session, reason: &CloseReason) {
        let before = self
            .stage
            .ledger()
            .session(session.id(), |it| it.end.replace(reason.clone()));
        if before.is_some() {
            self.stage.ledger().broken("a session has ended twice");
        }
    }
}

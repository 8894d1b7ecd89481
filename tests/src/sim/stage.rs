//! Who takes part in a world, and how far they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use event_listener::Event;

use super::ledger::Ledger;

/// What everybody in a world shares.
pub(super) struct Stage {
    address: SocketAddr,
    ledger: Ledger,
    playing: AtomicUsize,
    present: AtomicUsize,
    is_over: AtomicBool,
    is_stopping: AtomicBool,
    changed: Event,
}

/// Somebody who takes part, until it is dropped: also when their machine crashes.
pub(super) struct Part {
    stage: Arc<Stage>,
    plays: bool,
}

impl Stage {
    pub(super) fn new(address: SocketAddr, ledger: Ledger) -> Self {
        Self {
            address,
            ledger,
            playing: AtomicUsize::new(0),
            present: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            changed: Event::new(),
        }
    }

    /// Where the server is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn enter(self: &Arc<Self>) -> Part {
        self.playing.fetch_add(1, Ordering::SeqCst);
        self.present.fetch_add(1, Ordering::SeqCst);
        Part {
            stage: Arc::clone(self),
            plays: true,
        }
    }

    /// Waits until nobody has anything more to do.
    pub(super) async fn quiet(&self) {
        self.wait(|| self.playing.load(Ordering::SeqCst) == 0).await;
    }

    /// Waits until everybody has left.
    pub(super) async fn empty(&self) {
        self.wait(|| self.present.load(Ordering::SeqCst) == 0).await;
    }

    /// Lets everybody leave.
    pub(super) fn drop_curtain(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.changed.notify(usize::MAX);
    }

    /// Waits until everybody may leave.
    pub(super) async fn curtain(&self) {
        self.wait(|| self.is_over.load(Ordering::SeqCst)).await;
    }

    pub(super) fn set_stopping(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    async fn wait(&self, check: impl Fn() -> bool) {
        loop {
            let changed = self.changed.listen();
            if check() {
                return;
            }
            changed.await;
        }
    }
}

impl Part {
    /// There is nothing more to do but to leave.
    pub(super) fn rest(&mut self) {
        if std::mem::take(&mut self.plays) {
            self.stage.playing.fetch_sub(1, Ordering::SeqCst);
            self.stage.changed.notify(usize::MAX);
        }
    }

    pub(super) fn stage(&self) -> &Arc<Stage> {
        &self.stage
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.rest();
        self.stage.present.fetch_sub(1, Ordering::SeqCst);
        self.stage.changed.notify(usize::MAX);
    }
}

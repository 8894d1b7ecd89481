//! So many at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use event_listener::Event;

/// A number of places; who finds none waits.
pub(super) struct Turns {
    free: AtomicUsize,
    changed: Event,
}

impl Turns {
    pub(super) fn new(places: usize) -> Self {
        Self {
            free: AtomicUsize::new(places),
            changed: Event::new(),
        }
    }

    /// Takes a place, until the turn is dropped.
    pub(super) async fn wait(&self) -> Turn<'_> {
        loop {
            let changed = self.changed.listen();
            let take = |free: usize| free.checked_sub(1);
            let order = Ordering::SeqCst;
            if self.free.fetch_update(order, order, take).is_ok() {
                return Turn(self);
            }
            changed.await;
        }
    }
}

/// A place.
pub(super) struct Turn<'t>(&'t Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify(usize::MAX);
    }
}

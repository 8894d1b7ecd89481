//! Messages in pieces: what the task of a connection does for their handles.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::incoming::{Incoming, Inlet};
use super::mailbox::Mailbox;
use super::send_stream::Outlet;
use crate::frame::MAX_CHUNK;
use crate::{Connection, Instant, Transfer, TransferError, TransferId, WriteError};

/// How many bytes wait between a handle and its connection, beyond what that holds.
pub(super) const BUFFER: usize = 2 * MAX_CHUNK as usize;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds the lock halfway through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The transfers of one connection that have handles. Most connections have none.
#[derive(Default)]
pub(super) struct Streams(Option<Box<Open>>);

#[derive(Default)]
struct Open {
    sending: Vec<Sending>,
    receiving: Vec<(TransferId, Arc<Inlet>)>,
}

struct Sending {
    /// `None` until the connection knows of it.
    id: Option<TransferId>,
    outlet: Arc<Outlet>,
    /// The connection was told that this is all.
    finished: bool,
}

impl Streams {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a message that is complete waits for the connection.
    pub(super) fn has_queued(&self) -> bool {
        let waits = |it: &Sending| !it.finished && it.outlet.is_finished();
        let mut sending = self.0.iter().flat_map(|open| &open.sending);
        sending.any(waits)
    }

    /// Takes a message in that begins to arrive.
    pub(super) fn accept(
        &mut self,
        id: TransferId,
        transfer: Transfer,
        mailbox: &Arc<Mailbox>,
    ) -> Incoming {
        let incoming = Incoming::new(transfer, Arc::clone(mailbox));
        let receiving = (id, Arc::clone(incoming.inlet()));
        self.0.get_or_insert_default().receiving.push(receiving);
        incoming
    }

    /// Takes over what the application begins to send.
    pub(super) fn begin(&mut self, outlet: Arc<Outlet>) {
        self.0.get_or_insert_default().sending.push(Sending {
            id: None,
            outlet,
            finished: false,
        });
    }

    /// Moves bytes between the handles and the connection, as far as there is room.
    pub(super) fn pump(&mut self, connection: &mut Connection, now: Instant) {
        let Some(open) = &mut self.0 else { return };
        open.sending.retain_mut(|it| !it.pump(connection, now));
        let receiving = &mut open.receiving;
        receiving.retain(|(id, inlet)| !inlet.take(connection, *id, now, Some(BUFFER)));
        self.release();
    }

    /// A transfer of this end is over.
    pub(super) fn end(&mut self, id: TransferId, end: Result<(), TransferError>) {
        let Some(open) = &mut self.0 else { return };
        if let Some(index) = open.sending.iter().position(|it| it.id == Some(id)) {
            open.sending.swap_remove(index).outlet.end(end);
        }
        self.release();
    }

    /// An idle connection holds no buffers.
    fn release(&mut self) {
        self.0
            .take_if(|open| open.sending.is_empty() && open.receiving.is_empty());
    }

    /// The connection is over: what it still holds can be read.
    pub(super) fn close(&mut self, connection: &mut Connection, now: Instant) {
        let Some(open) = self.0.take() else { return };
        for it in open.sending {
            it.outlet.end(Err(TransferError::Closed));
        }
        for (id, inlet) in open.receiving {
            inlet.take(connection, id, now, None);
            inlet.end(Err(TransferError::Closed));
        }
    }
}

impl Sending {
    /// True when there is nothing more to do for it.
    fn pump(&mut self, connection: &mut Connection, now: Instant) -> bool {
        let outlet = &*self.outlet;
        if let Some(reason) = outlet.cancelled() {
            if let Some(id) = self.id {
                connection.cancel(now, id, &reason);
            }
            outlet.end(Err(TransferError::Closed));
            return true;
        }
        let id = match self.id {
            Some(id) => id,
            None => match connection.open(now, outlet.transfer().clone()) {
                Ok(id) => *self.id.insert(id),
                Err(error) => {
                    outlet.end(Err(error.into()));
                    return true;
                }
            },
        };
        let mut moved = false;
        while connection.writable(id) > 0 {
            let Some(piece) = outlet.pop() else {
                break;
            };
            // Signing takes its time: not under a lock. What fails is told at the end.
            let _ = connection.write_piece(now, id, piece);
            moved = true;
        }
        if moved {
            outlet.notify();
        }
        let complete = outlet.is_drained() && !self.finished;
        if complete {
            self.finished = true;
            if connection.finish(now, id) == Err(WriteError::Size) {
                connection.cancel(now, id, "its sender has less of it than it said");
                outlet.end(Err(TransferError::Size));
                return true;
            }
        }
        false
    }
}

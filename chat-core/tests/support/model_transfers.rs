//! A receiver of transfers that is as plain as can be, from PROTOCOL.md §5.5: of the frames of a peer, in
//! order, which messages they are, which transfers are given up and for what, and what ends the
//! connection.

use bytes::Bytes;
use chat_core::ContentType;
use chat_core::frame::{Chunk, ChunkOp};

/// What the receiver takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Takes {
    /// Messages are put together; otherwise they are read as they come.
    pub(crate) whole: bool,
    pub(crate) window: u64,
    pub(crate) transfers: usize,
    /// The largest message that is put together.
    pub(crate) message: u64,
}

/// What ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Violation {
    /// An id that is not the sender's, not greater, or not open.
    Id,
    TooMany,
    /// More than `size` or the window allow.
    Window,
}

/// Why the receiver gives a transfer up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Gap,
    Size,
    ContentType,
    TooLarge,
    Empty,
}

/// What follows from a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    Message(ContentType, Bytes),
    /// One begins that is read as it comes.
    Begins(u64),
    Done(u64),
    GivenUp(u64, Fault),
}

/// What a reader finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Piece(Bytes),
    End,
    Wrong(Fault),
    /// Its sender gave it up.
    GivenUp,
    /// Nothing at the moment.
    Nothing,
    /// There is no such transfer any more.
    Over,
}

struct Transfer {
    id: u64,
    content_type: ContentType,
    total: Option<u64>,
    /// All that has come and was right.
    bytes: Vec<u8>,
    /// The pieces that have not been read.
    pieces: Vec<Bytes>,
    /// How much of the window was used.
    used: u64,
    /// How much of that its reader has taken.
    read: u64,
    /// What was given back.
    given: u64,
    /// The sender's last word was said.
    said_last: bool,
    /// The receiver's was.
    answered: bool,
    /// What its reader is still to hear.
    wrong: Option<Found>,
    /// Nobody reads it any more.
    forgotten: bool,
}

/// A receiver whose peer begins transfers with odd ids.
pub(crate) struct Receiver {
    takes: Takes,
    transfers: Vec<Transfer>,
}

impl Receiver {
    pub(crate) fn new(takes: Takes) -> Self {
        Self {
            takes,
            transfers: Vec::new(),
        }
    }

    /// Some of the window was given back. Never more than was used.
    pub(crate) fn gave(&mut self, id: u64, bytes: u64) {
        let of = self.transfers.iter_mut().find(|it| it.id == id);
        let it = of.expect("it gives something to a transfer that was never begun");
        it.given += bytes;
        assert!(it.given <= it.used, "it gives more than was used");
    }

    /// Of the transfers that go on, the most that was read and not given back. Half of the window must
    /// have been given back.
    pub(crate) fn most_owed(&self) -> u64 {
        let open = self.transfers.iter();
        let open = open.filter(|it| !it.said_last && !it.answered && !it.forgotten);
        open.map(|it| it.read - it.given).max().unwrap_or(0)
    }

    /// A `chunk` frame arrives.
    pub(crate) fn frame(
        &mut self,
        chunk: &Chunk,
        content_type: &ContentType,
        content: &Bytes,
    ) -> Result<Vec<Follows>, Violation> {
        let id = chunk.id;
        // It has begun none itself, so there is nothing to be said about those.
        if id.is_multiple_of(2) || matches!(chunk.op, ChunkOp::Window { .. } | ChunkOp::Done) {
            return Err(Violation::Id);
        }
        if let ChunkOp::Begin { total, .. } = &chunk.op {
            return self.begin(id, *total, content_type);
        }
        let whole = self.takes.whole;
        let takes = self.takes;
        let open = self.transfers.iter_mut();
        let open = open.filter(|it| !it.said_last).find(|it| it.id == id);
        let it = open.ok_or(Violation::Id)?;
        let has = it.bytes.len() as u64;
        let fault = match &chunk.op {
            ChunkOp::Abort => {
                it.said_last = true;
                if !it.answered {
                    it.answered = true;
                    it.wrong = Some(Found::GivenUp);
                }
                return Ok(Vec::new());
            }
            ChunkOp::Data { offset } => {
                let len = content.len() as u64;
                it.used += len.max(1_024);
                if len > 65_536 || it.used > takes.window + it.given {
                    return Err(Violation::Window);
                }
                if *offset != has {
                    Some(Fault::Gap)
                } else if it.total.is_some_and(|total| has + len > total) {
                    Some(Fault::Size)
                } else if *content_type != it.content_type {
                    Some(Fault::ContentType)
                } else if whole && has + len > takes.message {
                    Some(Fault::TooLarge)
                } else {
                    None
                }
            }
            ChunkOp::End { offset } => {
                it.said_last = true;
                if *offset != has {
                    Some(Fault::Gap)
                } else if it.total.is_some_and(|total| has != total) {
                    Some(Fault::Size)
                } else if whole && has == 0 {
                    Some(Fault::Empty)
                } else {
                    None
                }
            }
            other => panic!("no frame of a sender: {other:?}"),
        };
        if it.answered {
            // It was given up: everything else is discarded.
            return Ok(Vec::new());
        }
        if let Some(fault) = fault {
            it.answered = true;
            it.wrong = Some(Found::Wrong(fault));
            return Ok(vec![Follows::GivenUp(id, fault)]);
        }
        if let ChunkOp::Data { .. } = chunk.op {
            it.bytes.extend(&content[..]);
            it.pieces.push(content.clone());
        } else if whole {
            it.answered = true;
            let message = Follows::Message(it.content_type.clone(), it.bytes.clone().into());
            return Ok(vec![message, Follows::Done(id)]);
        }
        Ok(Vec::new())
    }

    fn begin(
        &mut self,
        id: u64,
        total: Option<u64>,
        content_type: &ContentType,
    ) -> Result<Vec<Follows>, Violation> {
        if self.transfers.last().is_some_and(|last| id <= last.id) {
            return Err(Violation::Id);
        }
        let open = self.transfers.iter();
        let open = open.filter(|it| !(it.said_last && it.answered)).count();
        if open >= self.takes.transfers {
            return Err(Violation::TooMany);
        }
        let fault = match total {
            _ if !self.takes.whole => None,
            Some(0) => Some(Fault::Empty),
            Some(total) if total > self.takes.message => Some(Fault::TooLarge),
            _ => None,
        };
        self.transfers.push(Transfer {
            id,
            content_type: content_type.clone(),
            total,
            bytes: Vec::new(),
            pieces: Vec::new(),
            used: 0,
            read: 0,
            given: 0,
            said_last: false,
            answered: fault.is_some(),
            wrong: None,
            forgotten: false,
        });
        Ok(match fault {
            Some(fault) => vec![Follows::GivenUp(id, fault)],
            None if self.takes.whole => Vec::new(),
            None => vec![Follows::Begins(id)],
        })
    }

    /// The application reads the next of a transfer, and what follows from that.
    pub(crate) fn read(&mut self, id: u64) -> (Found, Vec<Follows>) {
        let of = self.transfers.iter_mut().find(|it| it.id == id);
        let Some(it) = of.filter(|it| !it.forgotten) else {
            return (Found::Over, Vec::new());
        };
        if let Some(wrong) = it.wrong.take() {
            it.forgotten = true;
            return (wrong, Vec::new());
        }
        if !it.pieces.is_empty() {
            let piece = it.pieces.remove(0);
            it.read += (piece.len() as u64).max(1_024);
            return (Found::Piece(piece), Vec::new());
        }
        if !it.said_last {
            return (Found::Nothing, Vec::new());
        }
        it.forgotten = true;
        it.answered = true;
        (Found::End, vec![Follows::Done(id)])
    }

    /// The application gives a transfer up; true if the sender is told.
    pub(crate) fn cancel(&mut self, id: u64) -> bool {
        let of = self.transfers.iter_mut().find(|it| it.id == id);
        let Some(it) = of else { return false };
        it.forgotten = true;
        !core::mem::replace(&mut it.answered, true)
    }
}

//! The receiver of transfers against a plain model of PROTOCOL.md §5.5, frame by frame: the same
//! messages, the same transfers given up for the same reason, the same end.

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;

use chat_core::frame::{Chunk, ChunkOp, Extra, Frame};
use chat_core::{
    CloseReason, ContentType, Event, ProtocolError, Read, Receive, Role, State, TransferError,
    TransferFault, TransferId,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

use support::chunk::{chunk, negotiated, noise, with_streams};
use support::conversation::ROLES;
use support::model_transfers::{Fault, Follows, Found, Receiver, Takes, Violation};
use support::{Solo, no_timers, property};

/// The smallest that there is.
const WINDOW: u32 = 65_536;
const TRANSFERS: u32 = 3;
/// Of a message that is put together: so that small ones are around it,
const SMALL: u64 = 5_000;
/// and more than a window.
const LARGE: u64 = 70_000;

/// What a peer sends next, seen from what it has sent before.
#[derive(Clone, Debug)]
enum Next {
    Begin {
        /// How much greater than the last id: 2 is usual.
        step: i8,
        total: Option<i8>,
    },
    /// Of one of the transfers begun, mostly an open one, a piece of so many bytes, with an offset that
    /// is as much too large.
    Data(Index, usize, i8, bool),
    /// The same as the last piece of it again.
    Again(Index),
    End(Index, i8),
    Abort(Index),
    /// What only a receiver says, or of a transfer that was never begun.
    Odd(u64, u8),
    /// The application of the receiver reads, so many times.
    Read(Index, u8),
    Cancel(Index),
}

fn any_next() -> impl Strategy<Value = Next> {
    let off = || prop_oneof![20 => Just(0_i8), 1 => any::<i8>(), 1 => select(vec![-1_i8, 1])];
    let len = prop_oneof![
        8 => 1_usize..3_000,
        2 => select(vec![1, 1_023, 1_024, 1_025, 4_999, 5_000, 5_001]),
        1 => select(vec![32_768_usize, 65_535, 65_536, 65_537]),
    ];
    prop_oneof![
        10 => (
            prop_oneof![12 => Just(2_i8), 2 => Just(4), 1 => any::<i8>()],
            prop_oneof![3 => Just(None), 2 => any::<i8>().prop_map(Some)],
        ).prop_map(|(step, total)| Next::Begin { step, total }),
        30 => (any::<Index>(), len, off(), prop_oneof![30 => Just(true), 1 => Just(false)])
            .prop_map(|(of, len, off, same)| Next::Data(of, len, off, same)),
        1 => any::<Index>().prop_map(Next::Again),
        10 => (any::<Index>(), off()).prop_map(|(of, off)| Next::End(of, off)),
        3 => any::<Index>().prop_map(Next::Abort),
        1 => (1_u64..12, 0_u8..6).prop_map(|(id, op)| Next::Odd(id, op)),
        12 => (any::<Index>(), 1_u8..6).prop_map(|(of, times)| Next::Read(of, times)),
        2 => any::<Index>().prop_map(Next::Cancel),
    ]
}

/// A transfer as its sender sees it.
struct Sending {
    id: u64,
    /// How many bytes it has sent, wherever it said that they belong.
    sent: u64,
    /// What it declared.
    total: Option<u64>,
    last: Option<Frame>,
    over: bool,
}

/// A receiver and its model, which hear the same.
struct World {
    solo: Solo,
    /// What is added to the ids of the model, which are those of a client: a server's are even.
    shift: u64,
    model: Receiver,
    streams: bool,
    largest: u64,
    sending: Vec<Sending>,
    /// The ids as the receiver's application knows them.
    known: BTreeMap<u64, TransferId>,
    count: u64,
    seen: BTreeMap<String, u32>,
}

impl World {
    fn new(role: Role, whole: bool, message: u64) -> Self {
        let config = no_timers()
            .error_rate(None)
            .transfer_timeout(None)
            .window(WINDOW)
            .max_transfers(TRANSFERS)
            .max_message(message)
            .max_inbox(usize::MAX)
            .receive(if whole {
                Receive::Whole
            } else {
                Receive::Pieces
            });
        Self {
            solo: negotiated(role, config, with_streams()),
            shift: u64::from(role == Role::Client),
            model: Receiver::new(Takes {
                whole,
                window: WINDOW.into(),
                transfers: TRANSFERS as usize,
                message,
            }),
            streams: !whole,
            largest: message,
            sending: Vec::new(),
            known: BTreeMap::new(),
            count: 0,
            seen: BTreeMap::new(),
        }
    }

    fn saw(&mut self, what: impl core::fmt::Debug) {
        let what = format!("{what:?}").replace('"', "");
        *self.seen.entry(what).or_default() += 1;
    }

    /// One that was begun; of three times twice one that goes on.
    fn one(&self, of: Index) -> Option<usize> {
        let open: Vec<usize> = (0..self.sending.len())
            .filter(|at| !self.sending[*at].over)
            .collect();
        let any = of.index(40) == 0;
        match (self.sending.len(), open.len()) {
            (0, _) => None,
            (all, 0) if any => Some(of.index(all)),
            (_, 0) => None,
            (all, _) if any => Some(of.index(all)),
            (_, open_ones) => Some(open[of.index(open_ones)]),
        }
    }

    /// One step; false when the connection is over.
    fn step(&mut self, next: &Next) -> Result<bool, TestCaseError> {
        let frame = match *next {
            Next::Begin { step, total } => {
                let last = self.sending.last().map_or(-1, |it| it.id.cast_signed());
                let id = u64::try_from(last + i64::from(step)).unwrap_or(0);
                let total = total.map(|total| match total {
                    // Around what is taken; nothing; what the pieces of a test may come to.
                    -128..-80 => self.largest.saturating_add_signed(i64::from(total) + 104),
                    -80..-70 => 0,
                    _ => 40 * u64::from(total.unsigned_abs()),
                });
                let begin = chunk(id, ChunkOp::Begin { total, name: None }, "begin");
                self.sending.push(Sending {
                    id,
                    sent: 0,
                    total,
                    last: None,
                    over: false,
                });
                begin
            }
            Next::Data(of, len, off, same) => {
                let Some(at) = self.one(of) else {
                    return Ok(true);
                };
                self.count += 1;
                let content = noise(len, self.count);
                let it = &mut self.sending[at];
                // Mostly no more than was declared.
                let content = match it.total.map(|total| total.saturating_sub(it.sent)) {
                    Some(left @ 1..) if of.index(8) > 0 => {
                        content.slice(..len.min(usize::try_from(left).expect("it is small")))
                    }
                    _ => content,
                };
                let offset = it.sent.saturating_add_signed(off.into());
                it.sent += content.len() as u64;
                let mut frame = chunk(it.id, ChunkOp::Data { offset }, content);
                if !same {
                    frame.content_type = ContentType::BINARY;
                }
                it.last = Some(frame.clone());
                frame
            }
            Next::Again(of) => {
                let again = self.one(of).and_then(|at| self.sending[at].last.clone());
                let Some(again) = again else {
                    return Ok(true);
                };
                again
            }
            Next::End(of, off) => {
                let Some(at) = self.one(of) else {
                    return Ok(true);
                };
                let it = &mut self.sending[at];
                it.over = true;
                let offset = it.sent.saturating_add_signed(off.into());
                chunk(it.id, ChunkOp::End { offset }, "end")
            }
            Next::Abort(of) => {
                let Some(at) = self.one(of) else {
                    return Ok(true);
                };
                let it = &mut self.sending[at];
                it.over = true;
                chunk(it.id, ChunkOp::Abort, "no more")
            }
            Next::Odd(id, op) => {
                let op = match op {
                    0 => ChunkOp::Window { bytes: 1 },
                    1 => ChunkOp::Done,
                    2 => ChunkOp::Abort,
                    3 => ChunkOp::Data { offset: 0 },
                    4 => ChunkOp::End { offset: 0 },
                    _ => ChunkOp::Begin {
                        total: None,
                        name: None,
                    },
                };
                chunk(id, op, "no more")
            }
            Next::Read(of, times) => {
                for _ in 0..times {
                    self.read(of)?;
                }
                return Ok(true);
            }
            Next::Cancel(of) => {
                self.cancel(of)?;
                return Ok(true);
            }
        };
        self.frame(&frame)
    }

    fn frame(&mut self, frame: &Frame) -> Result<bool, TestCaseError> {
        let Extra::Chunk(said) = &frame.extra else {
            panic!("{frame:?}");
        };
        let mut sent = frame.clone();
        sent.extra = Extra::Chunk(Chunk {
            id: said.id + self.shift,
            op: said.op.clone(),
        });
        self.solo.feed(&sent);
        let expected = self.model.frame(said, &frame.content_type, &frame.content);
        let follows = match expected {
            Err(violation) => {
                self.saw(violation);
                let ends = match violation {
                    Violation::Id => ProtocolError::WrongTransfer,
                    Violation::TooMany => ProtocolError::TooManyTransfers,
                    Violation::Window => ProtocolError::Window,
                };
                prop_assert_eq!(self.solo.connection.state(), State::Closing);
                self.solo.sent();
                self.solo.connection.handle_eof(self.solo.now);
                prop_assert_eq!(self.solo.closed(), CloseReason::Protocol(ends));
                return Ok(false);
            }
            Ok(follows) => follows,
        };
        prop_assert_eq!(self.solo.connection.state(), State::Established);
        self.compare(&follows)?;
        Ok(true)
    }

    /// What the real one reports and says is what follows; what it gives back is told to the model.
    fn compare(&mut self, follows: &[Follows]) -> Result<(), TestCaseError> {
        let events = self.solo.events();
        let mut said = Vec::new();
        for frame in self.solo.sent() {
            match frame.extra {
                Extra::Chunk(Chunk {
                    id,
                    op: ChunkOp::Window { bytes },
                }) => {
                    self.model.gave(id - self.shift, bytes);
                    self.saw("Window given back");
                }
                Extra::Chunk(Chunk { id, op }) => said.push((id - self.shift, op, frame.content)),
                other => panic!("{other:?}"),
            }
        }
        let (mut events, mut said) = (events.into_iter(), said.into_iter());
        for it in follows {
            match it {
                Follows::Message(content_type, content) => {
                    self.saw("Message");
                    let Some(Event::Message(message)) = events.next() else {
                        return Err(TestCaseError::fail("no message"));
                    };
                    prop_assert_eq!(message.content_type(), content_type);
                    prop_assert!(message.content() == content, "other bytes");
                }
                Follows::Begins(id) => {
                    let Some(Event::Transfer { id: known, .. }) = events.next() else {
                        return Err(TestCaseError::fail("no transfer is announced"));
                    };
                    prop_assert_eq!(known.to_string(), (id + self.shift).to_string());
                    self.known.insert(*id, known);
                }
                Follows::Done(id) => {
                    self.saw("Done");
                    let next = said.next().map(|(id, op, _)| (id, op));
                    prop_assert_eq!(next, Some((*id, ChunkOp::Done)));
                }
                Follows::GivenUp(id, fault) => {
                    self.saw(fault);
                    let reason = error_of(*fault, self.largest).to_string();
                    let expected = Some((*id, ChunkOp::Abort, reason.into()));
                    prop_assert_eq!(said.next(), expected);
                }
            }
        }
        prop_assert_eq!(events.next(), None);
        prop_assert_eq!(said.next(), None);
        if self.streams {
            let owed = self.model.most_owed();
            prop_assert!(owed < u64::from(WINDOW) / 2, "{} are kept back", owed);
        }
        Ok(())
    }

    fn some_known(&self, of: Index) -> Option<(u64, TransferId)> {
        let known = self.known.iter().map(|(id, known)| (*id, *known));
        let known: Vec<_> = known.collect();
        (!known.is_empty()).then(|| known[of.index(known.len())])
    }

    fn read(&mut self, of: Index) -> Result<(), TestCaseError> {
        let Some((id, known)) = self.some_known(of) else {
            return Ok(());
        };
        let found = self.solo.read(known);
        let (expected, follows) = self.model.read(id);
        self.saw(match &expected {
            Found::Piece(_) => "Read a piece".to_owned(),
            Found::Wrong(_) => "Read what is wrong".to_owned(),
            other => format!("Read {other:?}"),
        });
        let expected = match expected {
            Found::Piece(piece) => Some(Read::Piece(piece)),
            Found::End => Some(Read::End),
            Found::Wrong(fault) => Some(Read::Failed(error_of(fault, self.largest))),
            Found::GivenUp => {
                let reason = "no more".into();
                Some(Read::Failed(TransferError::Peer { reason }))
            }
            Found::Over => Some(Read::Failed(TransferError::Closed)),
            Found::Nothing => None,
        };
        prop_assert!(found == expected, "transfer {}", id);
        self.compare(&follows)
    }

    fn cancel(&mut self, of: Index) -> Result<(), TestCaseError> {
        let Some((id, known)) = self.some_known(of) else {
            return Ok(());
        };
        let now = self.solo.now;
        self.solo.connection.cancel(now, known, "not wanted");
        let tells = self.model.cancel(id);
        let said = self.solo.sent();
        let said: Vec<_> = said.iter().map(support::chunk::said).collect();
        let expected = tells.then_some((id + self.shift, &ChunkOp::Abort));
        prop_assert_eq!(said, expected.into_iter().collect::<Vec<_>>());
        self.saw("Cancelled");
        Ok(())
    }
}

/// What the crate calls a fault.
fn error_of(fault: Fault, max: u64) -> TransferError {
    match fault {
        Fault::Gap => TransferError::Faulty(TransferFault::Gap),
        Fault::Size => TransferError::Faulty(TransferFault::Size),
        Fault::ContentType => TransferError::Faulty(TransferFault::ContentType),
        Fault::Empty => TransferError::Faulty(TransferFault::Empty),
        Fault::TooLarge => TransferError::TooLarge { max },
    }
}

/// So many sequences, in which each of these must come up a few times.
fn compare(whole: bool, message: u64, cases: u32, must_come_up: &[&str]) {
    let seen = RefCell::new(BTreeMap::<String, u32>::new());
    let wanted = property(cases);
    let result = TestRunner::new(wanted.clone()).run(
        &(select(&ROLES[..]), vec(any_next(), 1..60)),
        |(role, steps)| {
            let mut world = World::new(role, whole, message);
            for step in &steps {
                if !world.step(step)? {
                    break;
                }
            }
            let mut seen = seen.borrow_mut();
            *seen.entry("cases".to_owned()).or_default() += 1;
            for (what, count) in world.seen {
                *seen.entry(what).or_default() += count;
            }
            Ok(())
        },
    );
    result.unwrap_or_else(|error| panic!("{error}"));
    let seen = seen.into_inner();
    println!("{seen:?}");
    assert!(seen["cases"] >= wanted.cases);
    // Unless it was asked to try fewer.
    for what in must_come_up.iter().filter(|_| wanted.cases >= cases) {
        let count = seen.get(*what).copied().unwrap_or(0);
        assert!(count >= 20, "{what}: {seen:?}");
    }
}

#[test]
fn messages_are_put_together_as_the_model_puts_them_together() {
    let must_come_up = [
        "Message",
        "Done",
        "Gap",
        "Size",
        "ContentType",
        "TooLarge",
        "Empty",
        "Id",
        "TooMany",
        "Window",
    ];
    compare(true, SMALL, 4_000, &must_come_up);
}

#[test]
fn messages_of_more_than_a_window_are_put_together_as_the_model_does() {
    let must_come_up = ["Message", "Done", "TooLarge", "Window", "Window given back"];
    compare(true, LARGE, 2_000, &must_come_up);
}

#[test]
fn streams_are_read_as_the_model_reads_them() {
    let must_come_up = [
        "Done",
        "Gap",
        "Size",
        "ContentType",
        "Id",
        "TooMany",
        "Window",
        "Window given back",
        "Cancelled",
        "Read a piece",
        "Read what is wrong",
        "Read End",
        "Read GivenUp",
        "Read Nothing",
        "Read Over",
    ];
    compare(false, SMALL, 4_000, &must_come_up);
}

/// Nothing was begun, so no id was.
#[test]
fn an_answer_to_id_0_where_nothing_was_begun_ends_the_connection() {
    for op in [ChunkOp::Window { bytes: 1 }, ChunkOp::Done, ChunkOp::Abort] {
        let mut solo = negotiated(Role::Server, no_timers(), with_streams());
        solo.feed(&chunk(0, op.clone(), "odd"));
        assert_eq!(solo.connection.state(), State::Closing, "{op:?}");
    }
}

//! Two connections, a line in each direction, and all that either application has sent and got.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use chat_core::{CloseReason, Config, Event, Instant, Message, Role, State, Transfer};

use crate::end::{End, Sent, pick};
use crate::settings::Settings;
use crate::solo;

/// An end, and the line from it.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The client's.
    Up,
    /// The server's.
    Down,
}

const GOODBYE: &str = "it was nice";
const CUT: &str = "enough";
/// More turns than two ends need that do not keep each other busy for ever.
const TURNS: usize = 200_000;

/// All of it.
pub struct World {
    ends: [End; 2],
    now: Instant,
}

impl World {
    /// Both ends before anything was sent.
    pub fn new(settings: [&Settings; 2]) -> Self {
        let roles = [Role::Client, Role::Server];
        let ends = [0, 1].map(|nth| {
            let config: Config = settings[nth].config();
            End {
                connection: solo::new(roles[nth], &Arc::new(config)),
                config: settings[nth].clone(),
                sent: Vec::new(),
                last: None,
                streams: Vec::new(),
                closed: None,
                established: false,
                line: VecDeque::new(),
                cut: false,
                heard_cut: false,
            }
        });
        Self {
            ends,
            now: Instant::EPOCH,
        }
    }

    fn end(&mut self, way: Way) -> &mut End {
        &mut self.ends[way as usize]
    }

    /// An end and the other.
    fn both(&mut self, way: Way) -> (&mut End, &mut End) {
        let [client, server] = &mut self.ends;
        match way {
            Way::Up => (client, server),
            Way::Down => (server, client),
        }
    }

    /// A message like no other: which it is, and of what length.
    pub fn send(&mut self, way: Way, len: usize) {
        let now = self.now;
        let end = self.end(way);
        let number = end.sent.len();
        let bytes = content(number, way, len);
        let content_type = format!("text/x; n={number}; w={way:?}");
        let message = Message::new(content_type.clone(), bytes.clone());
        let in_order = !end.connection.is_chunked(&message);
        match end.connection.send(now, message.clone()) {
            Ok(()) => {
                assert_eq!(end.connection.state(), State::Established);
                let mut sent = Sent::new(content_type, bytes);
                (sent.in_order, sent.complete) = (in_order, true);
                end.sent.push(sent);
            }
            Err(error) => assert_eq!(error.into_message(), message),
        }
    }

    /// A stream begins.
    pub fn open(&mut self, way: Way, total: Option<u16>) {
        let now = self.now;
        let end = self.end(way);
        let content_type = format!("text/x; n={}; w={way:?}", end.sent.len());
        let mut transfer = Transfer::new(&content_type[..]);
        if let Some(total) = total {
            transfer = transfer.total(total.into());
        }
        if let Ok(id) = end.connection.open(now, transfer) {
            let mut sent = Sent::new(content_type, Vec::new());
            sent.id = Some(id);
            end.sent.push(sent);
        }
    }

    /// Some of a stream.
    pub fn write(&mut self, way: Way, which: u8, len: usize) {
        let now = self.now;
        let end = self.end(way);
        let Some((number, id)) = end.own(which) else {
            return;
        };
        let bytes = content(number + end.sent[number].bytes.len(), way, len);
        if end.connection.write(now, id, bytes.clone().into()).is_ok() {
            let sent = &mut end.sent[number];
            assert!(!sent.complete && !sent.given_up && !sent.taken);
            sent.bytes.extend(bytes);
        }
    }

    /// That was all of a stream.
    pub fn finish(&mut self, way: Way, which: u8) {
        let now = self.now;
        let end = self.end(way);
        if let Some((number, id)) = end.own(which)
            && end.connection.finish(now, id).is_ok()
        {
            assert!(!end.sent[number].complete, "finished twice");
            end.sent[number].complete = true;
        }
    }

    /// A stream is given up.
    pub fn cancel(&mut self, way: Way, which: u8) {
        let now = self.now;
        let end = self.end(way);
        if let Some((number, id)) = end.own(which) {
            end.connection.cancel(now, id, "no more");
            end.sent[number].given_up = true;
        }
    }

    /// A stream of the other end's is not wanted.
    pub fn refuse(&mut self, way: Way, which: u8) {
        let now = self.now;
        let (end, peer) = self.both(way);
        if let Some((id, number)) = pick(&end.streams, which) {
            end.connection.cancel(now, id, "not this");
            let sent = &mut peer.sent[number];
            sent.refused |= !sent.delivered;
        }
    }

    /// The other end is told of something.
    pub fn error(&mut self, way: Way) {
        let now = self.now;
        self.end(way).connection.send_error(now, "a complaint");
    }

    /// A goodbye.
    pub fn close(&mut self, way: Way) {
        let now = self.now;
        let end = self.end(way);
        end.connection.close(now, GOODBYE);
        assert!(!matches!(end.connection.state(), State::Established));
    }

    /// A goodbye that waits for nothing.
    pub fn abort(&mut self, way: Way) {
        let now = self.now;
        self.end(way).connection.abort(now, CUT);
    }

    /// Puts so many bytes on the line.
    pub fn transmit(&mut self, way: Way, mut most: usize) -> bool {
        let now = self.now;
        let end = self.end(way);
        let mut moved = false;
        while most > 0 {
            let mut parts = [&[][..]; 4];
            let count = end.connection.poll_transmit(&mut parts);
            let mut left = most;
            for part in &parts[..count] {
                let part = &part[..part.len().min(left)];
                left -= part.len();
                end.line.extend(part);
            }
            if left == most {
                break;
            }
            end.connection.consume_transmit(now, most - left);
            (most, moved) = (left, true);
        }
        // Where the line is cut it goes nowhere.
        if end.cut {
            end.line.clear();
        }
        moved
    }

    /// Takes so many bytes off the line, or hears that there are no more.
    pub fn deliver(&mut self, way: Way, most: usize) -> bool {
        let now = self.now;
        let (end, peer) = self.both(way);
        if end.line.is_empty() {
            let ended = end.cut || end.connection.is_write_finished();
            if ended && !end.heard_cut {
                end.heard_cut = true;
                peer.connection.handle_eof(now);
                return true;
            }
            return false;
        }
        let count = most.min(end.line.len());
        let bytes = &end.line.make_contiguous()[..count];
        let taken = peer.connection.handle_input(now, bytes);
        assert!(taken == count || !peer.connection.wants_input());
        end.line.drain(..taken);
        taken > 0
    }

    /// The application takes so many events.
    pub fn poll(&mut self, way: Way, most: usize) -> bool {
        let (end, peer) = self.both(way);
        let before = end.connection.stats();
        let mut moved = false;
        let (mut cost, mut last) = (0, 0);
        for _ in 0..most {
            let Some(event) = end.connection.poll_event() else {
                break;
            };
            moved = true;
            assert!(end.closed.is_none(), "an event after the last: {event:?}");
            // What the peer has sent: the last of it may be as long as it likes.
            let this = match &event {
                Event::Message(it) => it.content().len() + it.content_type().len() + 128,
                Event::Error(text) => text.len() + 128,
                Event::Transfer { transfer, .. } => transfer.content_type().len() + 128,
                _ => 0,
            };
            if this > 0 {
                cost += last;
                last = this;
            }
            end.hear(peer, event);
        }
        let cap = usize::from(end.config.inbox);
        assert!(cost < cap.max(1), "{cost} bytes of events waited");
        assert_eq!(before, end.connection.stats(), "polling does nothing");
        moved
    }

    /// The application reads so much of a stream.
    pub fn read(&mut self, way: Way, which: u8, most: usize) {
        let now = self.now;
        let (end, peer) = self.both(way);
        if let Some((id, number)) = pick(&end.streams, which) {
            for _ in 0..most {
                if !end.read(peer, now, id, number) {
                    break;
                }
            }
        }
    }

    /// Reads everything that is there.
    fn read_all(&mut self, way: Way) -> bool {
        let now = self.now;
        let (end, peer) = self.both(way);
        let mut moved = false;
        for (id, number) in end.streams.clone() {
            while end.read(peer, now, id, number) {
                moved = true;
            }
        }
        moved
    }

    /// Time passes.
    pub fn advance(&mut self, millis: u64) {
        self.advance_to(self.now + Duration::from_millis(millis));
    }

    fn advance_to(&mut self, now: Instant) {
        self.now = self.now.max(now);
        for end in &mut self.ends {
            end.connection.handle_timeout(self.now);
            let due = end.connection.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "{due:?} has passed");
        }
    }

    /// Everything happens that takes no time.
    pub fn settle(&mut self) {
        for _ in 0..TURNS {
            let mut moved = false;
            for way in [Way::Up, Way::Down] {
                moved |= self.transmit(way, usize::MAX);
                moved |= self.deliver(way, usize::MAX);
                moved |= self.poll(way, usize::MAX);
                moved |= self.read_all(way);
                self.check();
            }
            if !moved {
                return;
            }
        }
        panic!("they keep each other busy for ever");
    }

    fn next(&self) -> Option<Instant> {
        let due = self.ends.iter().map(|end| end.connection.poll_timeout());
        due.flatten().min()
    }

    /// Everything happens that is due within so many seconds.
    pub fn run_for(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        self.settle();
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.advance_to(next);
            self.settle();
        }
        self.advance_to(end);
    }

    /// Everything happens until both ends are closed.
    pub fn run_to_end(&mut self) {
        for _ in 0..TURNS {
            self.settle();
            if self.ends.iter().all(|end| end.connection.is_closed()) {
                return;
            }
            let next = self.next().expect("something will happen");
            self.advance_to(next);
        }
        panic!("it never ends");
    }

    /// What comes from this end is lost from here on, and the other hears that.
    pub fn drop_line(&mut self, way: Way) {
        let end = self.end(way);
        end.cut = true;
        end.line.clear();
    }

    /// The transport of this end fails.
    pub fn reset(&mut self, way: Way) {
        let now = self.now;
        self.drop_line(way);
        self.end(way)
            .connection
            .handle_transport_error(now, "reset");
    }

    /// What holds at every time.
    pub fn check(&self) {
        for end in &self.ends {
            let connection = &end.connection;
            let most = 2 * usize::from(end.config.outbox).max(300 * 1024) + 200 * 1024 * 7;
            assert!(connection.outbox_bytes() <= most, "too much waits");
            if connection.is_closed() {
                assert_eq!(connection.poll_transmit(&mut [&[][..]; 2]), 0);
                assert_eq!(connection.poll_timeout(), None);
                assert_eq!(connection.outbox_bytes(), 0);
            } else {
                assert!(end.closed.is_none());
            }
            // What is begun is in no frame yet, sometimes; all else that waits can be seen.
            let is_shown = connection.poll_transmit(&mut [&[][..]; 2]) > 0;
            if !is_shown && end.sent.iter().all(|sent| sent.in_order) {
                assert_eq!(connection.outbox_bytes(), 0, "bytes that nobody sees");
            }
            for sent in &end.sent {
                let whole = sent.id.is_none() || sent.complete;
                assert!(!sent.delivered || whole, "delivered before its end");
            }
        }
    }

    /// What holds when it is over: also of a closed connection everything has been polled and read.
    pub fn check_end(&mut self) {
        for way in [Way::Up, Way::Down] {
            let (end, peer) = self.both(way);
            assert!(end.closed.is_some(), "no last event");
            let said_goodbye =
                matches!(&peer.closed, Some(CloseReason::Peer { reason }) if **reason == *GOODBYE);
            for sent in &end.sent {
                let known = sent.delivered || sent.refused || sent.given_up;
                assert!(!sent.taken || sent.delivered, "taken, and not delivered");
                // What a receiver does not wait for any longer its sender may hear of too late.
                let waits = peer.config.timeouts[2].is_none_or(|seconds| seconds == 0);
                // So it may of a stream that is empty or too large for who puts it together.
                let len = sent.bytes.len() as u64;
                let fits = peer.config.pieces || (1..=peer.config.max_message()).contains(&len);
                if said_goodbye && waits && sent.complete && fits {
                    assert!(
                        known,
                        "accepted, and neither delivered nor reported: {}",
                        sent.content_type
                    );
                }
            }
        }
    }
}

fn content(seed: usize, way: Way, len: usize) -> Vec<u8> {
    let seed = seed as u8 ^ (way as u8) << 7;
    (0..len).map(|at| seed.wrapping_add(at as u8)).collect()
}

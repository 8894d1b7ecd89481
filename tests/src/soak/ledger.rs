//! What one connection has sent, and what of it has come back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chat_core::{ContentType, Message};

use super::random::Random;

/// The longest message that goes out in one piece, however the other end is set.
const SMALL: usize = 4 * 1024;
/// The shortest that goes out in chunks.
const LARGE: usize = 16 * 1024;
/// `WHO NUMBER `, in hexadecimal digits.
const HEAD: usize = 34;

/// The books of one connection of an echo server.
#[derive(Debug)]
pub struct Ledger {
    who: u64,
    next: u64,
    /// What has not come back, by number: its size, and when it was sent.
    open: BTreeMap<u64, (usize, Instant)>,
    /// The last of the small ones that came back. Large ones take longer, and may be overtaken.
    last: Option<u64>,
}

impl Ledger {
    /// Empty books. No two connections that are checked against each other have the same `who`.
    pub fn new(who: u64) -> Self {
        Self {
            who,
            next: 0,
            open: BTreeMap::new(),
            last: None,
        }
    }

    /// A message of a usual size: most are small, one in a hundred goes out in chunks.
    pub fn any(&mut self, random: &mut Random) -> Message {
        let size = match random.below(100) {
            0 => random.size(LARGE, 256 * 1024),
            1..10 => random.size(1024, SMALL),
            _ => random.size(HEAD, 256),
        };
        self.message(size)
    }

    /// A message that goes out in chunks, up to 2 MiB.
    pub fn large(&mut self, random: &mut Random) -> Message {
        let size = random.size(LARGE, 2 * 1024 * 1024);
        self.message(size)
    }

    /// The next message, of this size; it counts as sent.
    pub fn message(&mut self, size: usize) -> Message {
        let (number, size) = (self.next, size.max(HEAD));
        self.next += 1;
        self.open.insert(number, (size, Instant::now()));
        // An echo of text says `text/plain`; of anything else, what it was.
        let content_type = if number.is_multiple_of(2) {
            ContentType::TEXT
        } else {
            ContentType::BINARY
        };
        Message::new(content_type, content(self.who, number, size))
    }

    /// Enters what came back; the error says what is wrong with it.
    pub fn enter(&mut self, message: &Message) -> Result<(), String> {
        let (who, number) = head(message)?;
        if who != self.who {
            return Err(format!("message {number} of {who:x} came back"));
        }
        let Some((size, _)) = self.open.remove(&number) else {
            let how = if number < self.next {
                "twice"
            } else {
                "unsent"
            };
            return Err(format!("message {number} came back {how}"));
        };
        if *message.content() != content(who, number, size) {
            return Err(format!("message {number} came back changed"));
        }
        if message.content_type().is_text() != number.is_multiple_of(2) {
            return Err(format!("message {number} came back as something else"));
        }
        if size <= SMALL {
            if self.last.is_some_and(|last| last > number) {
                return Err(format!("message {number} was overtaken"));
            }
            self.last = Some(number);
        }
        Ok(())
    }

    /// Whether all has come back.
    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// Which message has not come back in this time, if there is one.
    pub fn overdue(&self, patience: Duration) -> Option<u64> {
        let (number, (_, sent)) = self.open.first_key_value()?;
        (sent.elapsed() > patience).then_some(*number)
    }
}

/// What one of many has heard of all of them, from their first messages on.
#[derive(Debug, Default)]
pub struct Heard {
    /// The number that comes next, by who says it.
    next: BTreeMap<u64, u64>,
    count: u64,
}

impl Heard {
    /// A message that others can enter: `who` says this one after the number before it.
    pub fn message(who: u64, number: u64, size: usize) -> Message {
        Message::new(ContentType::TEXT, content(who, number, size.max(HEAD)))
    }

    /// Enters what came; the error says what is wrong with it.
    pub fn enter(&mut self, message: &Message) -> Result<(), String> {
        let (who, number) = head(message)?;
        let next = self.next.entry(who).or_default();
        if number != *next {
            return Err(format!(
                "message {number} of {who:x} came in place of {next}"
            ));
        }
        *next += 1;
        self.count += 1;
        if *message.content() != content(who, number, message.content().len()) {
            return Err(format!("message {number} of {who:x} came changed"));
        }
        Ok(())
    }

    /// How many came.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// Whose message it is, and which.
fn head(message: &Message) -> Result<(u64, u64), String> {
    let head = message.content().get(..HEAD);
    head.and_then(|head| str::from_utf8(head).ok())
        .and_then(|head| head.trim_end().split_once(' '))
        .and_then(|(who, number)| {
            let hex = |text| u64::from_str_radix(text, 16).ok();
            Some((hex(who)?, hex(number)?))
        })
        .ok_or_else(|| "a message came that nobody sent".into())
}

/// What is in a message, which nothing but its place and its size says: whoever gets it can tell.
fn content(who: u64, number: u64, size: usize) -> Vec<u8> {
    let mut bytes = format!("{who:016x} {number:016x} ").into_bytes();
    let shift = number % 26;
    let letters = (0..26).map(|i| b'a' + u8::try_from((i * 7 + shift) % 26).unwrap_or(0));
    bytes.extend(letters.cycle().take(size - HEAD));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(message: &Message) -> Message {
        message.clone()
    }

    #[test]
    fn what_comes_back_once_and_in_order_is_in_order() {
        let mut ledger = Ledger::new(7);
        let sent: Vec<_> = [0, 40, SMALL, LARGE]
            .map(|size| ledger.message(size))
            .into();
        assert!(!ledger.is_settled());
        for message in [3, 0, 1, 2].map(|i: usize| echo(&sent[i])) {
            ledger.enter(&message).expect("it was sent");
        }
        assert!(ledger.is_settled());
        assert_eq!(ledger.overdue(Duration::ZERO), None);
    }

    #[test]
    fn what_is_doubled_changed_foreign_or_overtaken_is_not() {
        let wrong = |ledger: &mut Ledger, message: &Message| {
            ledger.enter(message).expect_err("it is wrong")
        };
        let mut ledger = Ledger::new(7);
        let sent: Vec<_> = (0..6).map(|_| ledger.message(100)).collect();
        ledger.enter(&sent[1]).expect("it was sent");
        assert_eq!(wrong(&mut ledger, &sent[1]), "message 1 came back twice");
        assert_eq!(wrong(&mut ledger, &sent[0]), "message 0 was overtaken");

        let mut bytes = sent[2].content().to_vec();
        *bytes.last_mut().expect("there is one") ^= 1;
        let changed = Message::new(ContentType::TEXT, bytes);
        assert_eq!(wrong(&mut ledger, &changed), "message 2 came back changed");
        let cut = Message::new(ContentType::BINARY, sent[3].content()[..99].to_vec());
        assert_eq!(wrong(&mut ledger, &cut), "message 3 came back changed");
        let other = Message::new(ContentType::BINARY, sent[4].content().to_vec());
        assert!(wrong(&mut ledger, &other).ends_with("as something else"));

        let foreign = Ledger::new(8).message(100);
        assert_eq!(wrong(&mut ledger, &foreign), "message 0 of 8 came back");
        let early = Message::new(ContentType::TEXT, content(7, 6, 100));
        assert_eq!(wrong(&mut ledger, &early), "message 6 came back unsent");
        for nobodys in ["", "x", &"x".repeat(100)] {
            let nobodys = Message::text(nobodys);
            assert!(wrong(&mut ledger, &nobodys).ends_with("that nobody sent"));
        }
        assert_eq!(ledger.overdue(Duration::ZERO), Some(5));
    }

    #[test]
    fn of_many_each_is_heard_from_the_beginning_without_a_gap() {
        let mut heard = Heard::default();
        for (who, number) in [(1, 0), (2, 0), (1, 1), (2, 1), (2, 2)] {
            let message = Heard::message(who, number, 100);
            heard.enter(&message).expect("it is the next");
        }
        assert_eq!(heard.count(), 5);
        for (who, number, wrong) in [
            (1, 1, "message 1 of 1 came in place of 2"),
            (2, 4, "message 4 of 2 came in place of 3"),
            (3, 1, "message 1 of 3 came in place of 0"),
        ] {
            let message = Heard::message(who, number, 0);
            assert_eq!(
                heard.enter(&message).expect_err("it is not the next"),
                wrong
            );
        }
        let mut bytes = Heard::message(1, 2, 100).content().to_vec();
        bytes[50] ^= 1;
        let changed = Message::new(ContentType::TEXT, bytes);
        let wrong = heard.enter(&changed).expect_err("it is changed");
        assert_eq!(wrong, "message 2 of 1 came changed");
        assert_eq!(heard.count(), 6);
    }
}

//! What messages are made of, and whether what comes is what was sent.

use std::sync::Arc;

use chat_tokio::{ContentType, Message};

/// The contents of a connection: each begins with its number, as far as there is room for it, and goes on
/// with bytes that are the same for all of the connection.
#[derive(Clone)]
pub(super) struct Payload {
    content: Arc<[u8]>,
    /// The number of the first.
    first: u64,
}

/// How many bytes of a content are its number.
const NUMBER: usize = 8;

/// Far from all small numbers, and odd: those of different connections are far from each other.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

impl Payload {
    pub(super) fn new(connection: usize, size: usize) -> Self {
        let first = STRIDE.wrapping_mul(connection as u64 + 1);
        let mut state = first;
        let mut byte = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(STRIDE);
            state.to_be_bytes()[0]
        };
        Self {
            content: (0..size).map(|_| byte()).collect(),
            first,
        }
    }

    /// The message with this number, the first of which is 0.
    pub(super) fn message(&self, number: u64) -> Message {
        let mut content = self.content.to_vec();
        let tag = self.first.wrapping_add(number).to_le_bytes();
        let length = tag.len().min(content.len());
        content[..length].copy_from_slice(&tag[..length]);
        Message::binary(content)
    }

    /// The number of a message that was not read before, from `base` on; `None` if it is none of these.
    fn number(&self, message: &Message, base: u64) -> Option<u64> {
        let content = message.content();
        let length = NUMBER.min(self.content.len());
        if message.content_type() != &ContentType::BINARY
            || content.len() != self.content.len()
            || content[length..] != self.content[length..]
        {
            return None;
        }
        let mut tag = [0; NUMBER];
        tag[..length].copy_from_slice(&content[..length]);
        let ahead = u64::from_le_bytes(tag)
            .wrapping_sub(self.first)
            .wrapping_sub(base);
        // Of a short one only the low bytes are known: the next that ends with these is meant.
        let known = u64::MAX >> (64 - 8 * length);
        base.checked_add(ahead & known)
    }
}

/// Which messages are still to come, of a window: large ones may overtake each other.
pub(super) struct Expected {
    payload: Payload,
    /// Those below it have all come.
    base: u64,
    /// Whether each of those from there on has come, by its number modulo the window.
    came: Vec<bool>,
}

impl Expected {
    pub(super) fn new(payload: Payload, window: usize) -> Self {
        Self {
            payload,
            base: 0,
            came: vec![false; window],
        }
    }

    /// How many have come at least, and all of them in order.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Takes a message, of those whose numbers are below `sent`: its number, unless it is none of them or
    /// came before.
    pub(super) fn take(&mut self, message: &Message, sent: u64) -> Option<u64> {
        let number = self.payload.number(message, self.base)?;
        let index = self.index(number);
        if number >= sent || number - self.base >= self.came.len() as u64 || self.came[index] {
            return None;
        }
        self.came[index] = true;
        loop {
            let index = self.index(self.base);
            if !std::mem::take(&mut self.came[index]) {
                return Some(number);
            }
            self.base += 1;
        }
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number % self.came.len() as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(connection: usize, size: usize, window: usize) -> (Payload, Expected) {
        let payload = Payload::new(connection, size);
        (payload.clone(), Expected::new(payload, window))
    }

    #[test]
    fn each_message_is_taken_once_whatever_its_size() {
        for size in [1, 2, 7, 8, 9, 100] {
            let (payload, mut expected) = expected(3, size, 4);
            for number in 0..1_000 {
                let message = payload.message(number);
                assert_eq!(message.content().len(), size);
                assert_eq!(expected.take(&message, number), None, "not sent yet");
                assert_eq!(expected.take(&message, number + 1), Some(number));
                assert_eq!(expected.take(&message, number + 1), None, "twice");
                assert_eq!(expected.base(), number + 1);
            }
        }
    }

    #[test]
    fn messages_may_overtake_each_other_within_the_window() {
        let (payload, mut expected) = expected(0, 20, 4);
        for (number, base) in [(2, 0), (1, 0), (0, 3), (6, 3), (5, 3), (4, 3), (3, 7)] {
            let message = payload.message(number);
            assert_eq!(expected.take(&message, 100), Some(number));
            assert_eq!(expected.base(), base);
        }
        assert_eq!(expected.take(&payload.message(11), 100), None, "beyond it");
        assert_eq!(expected.take(&payload.message(6), 100), None, "long ago");
    }

    #[test]
    fn a_message_that_differs_anywhere_is_none() {
        let (payload, mut expected) = expected(0, 20, 4);
        let right = payload.message(0);
        for position in 0..20 {
            for bit in 0..8 {
                let mut content = right.content().to_vec();
                content[position] ^= 1 << bit;
                // The number of a message that is not on its way is wrong, too.
                assert_eq!(expected.take(&Message::binary(content), 1), None);
            }
        }
        let content = right.content();
        let longer = [&content[..], &[0]].concat();
        assert_eq!(expected.take(&Message::binary(longer), 1), None);
        assert_eq!(
            expected.take(&Message::binary(content.slice(..19)), 1),
            None
        );
        assert_eq!(
            expected.take(&Message::new("text/plain", content.clone()), 1),
            None
        );
        assert_eq!(expected.take(&Payload::new(1, 20).message(0), 1), None);
        assert_eq!(expected.take(&right, 1), Some(0));
    }
}

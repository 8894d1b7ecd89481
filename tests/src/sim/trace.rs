//! What happened in a simulation, in a form that two runs can be compared by.

use std::fmt::{self, Write};

use chat_core::Instant;
use sha2::{Digest, Sha256};

/// A hash over everything that happened, in its order; on demand its lines too.
pub(super) struct Trace {
    hash: Sha256,
    line: String,
    prints: bool,
}

impl Trace {
    /// An empty trace; `prints` shows each line on standard error as it comes.
    pub(super) fn new(prints: bool) -> Self {
        Self {
            hash: Sha256::new(),
            line: String::new(),
            prints,
        }
    }

    /// Adds a line.
    pub(super) fn line(&mut self, now: Instant, what: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a string does not fail.
        let _ = write!(self.line, "{:>12} {what}", now.as_nanos() / 1_000);
        if self.prints {
            eprintln!("{}", self.line);
        }
        self.hash.update(&self.line);
        self.hash.update("\n");
    }

    /// Adds bytes that went over the network.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// The hash of everything so far: 16 hexadecimal digits.
    pub(super) fn hash(&self) -> String {
        let hash = self.hash.clone().finalize();
        let first = hash.first_chunk().copied().unwrap_or_default();
        format!("{:016x}", u64::from_be_bytes(first))
    }
}

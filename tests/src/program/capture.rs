//! What a program writes, read as it comes.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A stream that a thread reads to its end.
#[derive(Clone)]
pub(super) struct Capture(Arc<Shared>);

struct Shared {
    read: Mutex<Captured>,
    changed: Condvar,
}

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    pub(super) fn new(mut stream: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            read: Mutex::default(),
            changed: Condvar::new(),
        });
        let capture = Self(Arc::clone(&shared));
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                // An error, as of a terminal that is gone, is an end too.
                let count = stream.read(&mut buffer).unwrap_or(0);
                let mut read = shared.lock();
                read.bytes.extend_from_slice(&buffer[..count]);
                read.ended = count == 0;
                shared.changed.notify_all();
                if read.ended {
                    return;
                }
            }
        });
        capture
    }

    /// Of a stream that is read by nobody.
    pub(super) fn none() -> Self {
        Self::new(io::empty())
    }

    /// All that has come so far.
    pub(super) fn now(&self) -> Vec<u8> {
        self.0.lock().bytes.clone()
    }

    /// All that comes up to the end of the stream, or in this time.
    pub(super) fn all(&self, limit: Duration) -> Vec<u8> {
        self.wait(limit, |_| None::<()>);
        self.now()
    }

    /// Waits until `check` finds something in what has come; `None` if it does not up to the end,
    /// or in this time.
    pub(super) fn wait<T>(&self, limit: Duration, check: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut read = self.0.lock();
        loop {
            if let Some(found) = check(&read.bytes) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if read.ended || left.is_zero() {
                return None;
            }
            let waited = self.0.changed.wait_timeout(read, left);
            read = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Captured> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

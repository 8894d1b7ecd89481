//! A long session holds no more than a short one: what is over is forgotten.
#![cfg(target_os = "linux")]

mod support;

use chat_core::frame::FrameKind;
use chat_core::{Event, Message, Read, Role};

use support::chunk::{
    begin, bytes_of, data, done, end, negotiated, noise, server, streams, with_streams,
};
use support::{Solo, frame, no_timers};

/// How many transfers or messages there are: each would be a hundred bytes at least.
const MANY: u64 = 12_000;
/// How much more memory the process may have afterwards, in bytes. It is the smallest part of what
/// they would come to.
const MORE: usize = 512 * 1024;

/// How much memory this process has, in bytes.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages = statm.split(' ').nth(1).and_then(|it| it.parse().ok());
    let pages: usize = pages.expect("the second number is that of the pages");
    pages * 4096
}

/// Does something often; the memory that the second half of it takes is what is never given back.
fn holds_no_more(mut each: impl FnMut(u64)) {
    (0..MANY / 2).for_each(&mut each);
    let before = memory();
    (MANY / 2..MANY).for_each(&mut each);
    let more = memory().saturating_sub(before);
    assert!(more <= MORE, "{more} bytes more");
}

/// One after the other, for the memory of a process is that of all its tests.
#[test]
fn what_is_over_is_forgotten() {
    let mut whole = server(no_timers());
    holds_no_more(|n| {
        let id = 2 * n + 1;
        let frames = [begin(id, None), data(id, 0, "x"), end(id, 1)];
        whole.feed_bytes(&bytes_of(&frames));
        assert_eq!(whole.events().len(), 1);
        assert!(!whole.sent_bytes().is_empty());
    });

    let mut pieces = server(streams());
    holds_no_more(|n| {
        let id = 2 * n + 1;
        pieces.feed_bytes(&bytes_of(&[begin(id, None), end(id, 0)]));
        let id = pieces.announced();
        assert_eq!(pieces.read(id), Some(Read::End));
        assert!(!pieces.sent_bytes().is_empty());
    });

    let mut sender = negotiated(Role::Server, no_timers(), with_streams());
    holds_no_more(|n| {
        sender.send(Message::binary(noise(8_193, n)));
        sender.sent_bytes();
        sender.feed(&done(2 * n + 2));
    });

    let mut messages = Solo::established(Role::Client, no_timers());
    holds_no_more(|_| {
        messages.feed(&frame(FrameKind::Message, "hello"));
        assert!(matches!(messages.events()[..], [Event::Message(_)]));
        messages.send(Message::text("hello"));
        messages.sent_bytes();
    });
}

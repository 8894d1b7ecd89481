//! Transfers when a connection closes, and those that do not go on (PROTOCOL.md §5.5, §9).

mod support;

use core::time::Duration;

use chat_core::frame::{ChunkOp, FrameKind};
use chat_core::{Config, Event, Message, Read, Role, State, Transfer, TransferError, TransferId};

use support::chunk::{
    IMAGE, abort, begin, data, done, end, every_extension, image, negotiated, noise, open, other,
    read, said, streams, window, with_streams,
};
use support::{LONG, Pair, START, Solo, frame, kinds, no_timers, secs};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

fn write(pair: &mut Pair, from: Role, id: TransferId, len: usize) {
    let now = pair.now;
    let wrote = pair.end(from).connection.write(now, id, noise(len, 1));
    assert_eq!(wrote, Ok(()));
}

#[test]
fn a_close_waits_for_messages_and_gives_up_streams() {
    for from in ROLES {
        let mut pair = Pair::established(no_timers().max_outbox(8 << 20));
        let stream = open(&mut pair, from, Transfer::new(IMAGE));
        write(&mut pair, from, stream, 1_000);
        pair.settle();
        let finished = open(&mut pair, from, Transfer::new(IMAGE));
        write(&mut pair, from, finished, 5_000);
        assert_eq!(pair.send(from, image(1 << 20)), Ok(()));
        assert_eq!(pair.send(from, image(2 << 20)), Ok(()));
        assert_eq!(pair.end(from).connection.finish(START, finished), Ok(()));
        pair.close(from, "enough");
        assert!(!pair.end(from).connection.is_write_finished());
        let late = pair.send(from, Message::text("late"));
        assert!(late.is_err());
        pair.run_to_end();
        let mut lens: Vec<usize> = pair
            .peer(from)
            .messages()
            .map(|it| it.content().len())
            .collect();
        lens.sort_unstable();
        assert_eq!(lens, [5_000, 1 << 20, 2 << 20], "and not the stream");
        let kinds: Vec<FrameKind> = pair
            .link(from)
            .sent
            .iter()
            .map(|it| it.frame.kind)
            .collect();
        assert_eq!(kinds.last(), Some(&FrameKind::Disconnect));
        assert_eq!(pair.now, START, "no deadline was needed");
    }
}

#[test]
fn while_a_close_waits_nothing_of_the_peer_is_taken() {
    let mut solo = negotiated(Role::Server, no_timers(), every_extension());
    solo.send(image(1 << 20));
    solo.connection.close(START, "enough");
    solo.sent();
    solo.feed_all(&[begin(1, Some(3)), data(1, 0, "abc"), end(1, 3)]);
    solo.feed(&support::frame(FrameKind::Message, "late"));
    assert_eq!(solo.events(), []);
    assert_eq!(solo.sent(), [abort(1, "closing")]);
}

#[test]
fn a_close_gives_up_what_the_peer_does_not_take() {
    let config = || {
        no_timers()
            .close_timeout(support::secs(5))
            .min_rate(1 << 20)
    };
    let mut solo = negotiated(Role::Client, config(), every_extension());
    solo.send(image(2 << 20));
    solo.connection.close(START, "enough");
    // 2 MiB and a little take 2 s and a little.
    solo.wait_and_send(support::millis(7_000));
    assert_eq!(solo.events(), []);
    solo.wait(support::millis(20));
    assert!(matches!(solo.events()[..], [Event::Closed(_)]));
}

#[test]
fn an_abort_waits_for_nothing() {
    for from in ROLES {
        let mut pair = Pair::established(no_timers());
        pair.link(from).capacity = 1;
        assert_eq!(pair.send(from, image(1 << 20)), Ok(()));
        let now = pair.now;
        pair.turn();
        pair.end(from).connection.abort(now, "now");
        pair.link(from).capacity = usize::MAX;
        pair.run_to_end();
        assert_eq!(pair.peer(from).messages().count(), 0);
        let sent: Vec<_> = pair
            .link(from)
            .sent
            .iter()
            .map(|it| it.frame.clone())
            .collect();
        assert_eq!(kinds(&sent), [FrameKind::Chunk, FrameKind::Disconnect]);
    }
}

#[test]
fn what_had_arrived_whole_can_be_read_when_the_connection_is_over() {
    for from in ROLES {
        let mut pair = Pair::established(streams());
        let whole = open(&mut pair, from, Transfer::new(IMAGE));
        write(&mut pair, from, whole, 1_000);
        assert_eq!(pair.end(from).connection.finish(START, whole), Ok(()));
        let half = open(&mut pair, from, Transfer::new(IMAGE));
        write(&mut pair, from, half, 1_000);
        pair.settle();
        pair.end(from)
            .connection
            .handle_transport_error(START, "reset");
        pair.peer(from)
            .connection
            .handle_transport_error(START, "reset");
        let to = other(from);
        assert_eq!(
            read(&mut pair, to, half),
            (vec![], Some(Read::Failed(TransferError::Closed)))
        );
        let (bytes, end) = read(&mut pair, to, whole);
        assert_eq!((bytes.len(), end), (1_000, Some(Read::End)));
    }
}

/// An end with no timer but that of transfers, which has sent so much of a stream.
fn sending(len: usize, config: Config) -> (Solo, TransferId) {
    let mut solo = negotiated(Role::Client, config, with_streams());
    let id = solo
        .connection
        .open(START, Transfer::new(IMAGE))
        .expect("it opens");
    solo.connection
        .write(START, id, noise(len, 1))
        .expect("there is room");
    solo.sent();
    (solo, id)
}

/// Time passes up to the given point, at which and not before the transfer is given up.
#[track_caller]
fn is_given_up_after(solo: &mut Solo, id: TransferId, time: Duration) {
    solo.wait(time.saturating_sub(Duration::from_nanos(1)));
    assert_eq!(solo.events(), [], "too early");
    solo.wait(Duration::from_nanos(1));
    let error = TransferError::Stalled;
    assert_eq!(solo.events(), [Event::Aborted { id, error }]);
    assert_eq!(solo.next_deadline(), None);
    assert_eq!(solo.connection.state(), State::Established);
}

#[test]
fn a_receiver_that_gives_no_window_is_waited_for_so_long() {
    // A window is 262,144 bytes, and each 16 KiB of it are a second.
    let (mut solo, id) = sending(300_000, no_timers());
    is_given_up_after(&mut solo, id, secs(60 + 16));
    assert_eq!(
        solo.sent(),
        [abort(1, "timed out: the other end did not go on with it")]
    );
    assert_eq!(solo.connection.outbox_bytes(), 0);

    let config = no_timers()
        .transfer_timeout(Some(secs(10)))
        .min_rate(262_144);
    let (mut solo, id) = sending(300_000, config);
    is_given_up_after(&mut solo, id, secs(11));
}

#[test]
fn a_receiver_that_does_not_say_done_is_waited_for_so_long() {
    let (mut solo, id) = sending(16_384, no_timers());
    solo.wait(secs(1_000));
    assert_eq!(solo.events(), [], "the next step is this end's");
    solo.connection.finish(solo.now, id).expect("it is open");
    solo.sent();
    is_given_up_after(&mut solo, id, secs(61));
    assert_eq!(solo.sent(), [], "it has said its last word");
    // Its answer comes too late, which is no one's fault.
    solo.feed(&done(1));
    assert_eq!(
        (solo.events(), solo.connection.state()),
        (vec![], State::Established)
    );
}

#[test]
fn each_window_begins_the_time_anew() {
    let (mut solo, id) = sending(400_000, no_timers());
    for given in [1_024, 2_000, 65_536] {
        solo.wait(secs(75));
        assert_eq!(solo.events(), []);
        solo.feed(&window(1, given));
        assert_eq!(solo.sent().len(), 1);
    }
    is_given_up_after(&mut solo, id, secs(76));
}

#[test]
fn a_message_that_does_not_go_on_is_undelivered() {
    let mut solo = negotiated(Role::Server, no_timers(), every_extension());
    solo.send(image(1 << 20));
    solo.wait_and_send(secs(76));
    let undelivered = Event::Undelivered {
        content_type: IMAGE,
        size: 1 << 20,
        error: TransferError::Stalled,
    };
    assert_eq!(solo.events(), [undelivered]);
    assert_eq!(solo.connection.stats().messages_aborted, 1);
}

#[test]
fn a_sender_that_does_not_go_on_is_waited_for_so_long() {
    for pieces in [true, false] {
        let config = if pieces { streams() } else { no_timers() };
        // What is put together is taken at once, and given back.
        let later = if pieces { 72 } else { 76 };
        let piece = vec![data(1, 0, noise(65_536, 1))];
        for (used, arrived, time) in [(0, vec![], 76 - 30), (65_536, piece, later)] {
            let mut solo = negotiated(Role::Server, config.clone().window(262_144), with_streams());
            solo.feed(&begin(1, None));
            let id = if pieces { Some(solo.announced()) } else { None };
            solo.wait(secs(30));
            solo.feed_all(&arrived);
            solo.sent();
            solo.wait(secs(time).saturating_sub(Duration::from_nanos(1)));
            assert_eq!(solo.sent(), [], "{used}");
            solo.wait(Duration::from_nanos(1));
            let told = abort(1, "timed out: the other end did not go on with it");
            assert_eq!(solo.sent(), [told]);
            if let Some(id) = id {
                let failed = Read::Failed(TransferError::Stalled);
                assert_eq!(solo.read(id), Some(failed));
            }
            assert_eq!(solo.events(), []);
            // What was on its way is discarded, and its last word ends it.
            solo.feed_all(&[data(1, used, "more"), abort(1, "well then")]);
            solo.feed_all(&[begin(3, Some(3)), data(3, 0, "abc"), end(3, 3)]);
            assert_eq!(solo.events().len(), 1);
            assert_eq!(solo.connection.state(), State::Established);
        }
    }
}

#[test]
fn who_does_not_read_waits_for_nobody() {
    let mut solo = negotiated(Role::Server, streams(), with_streams());
    solo.feed(&begin(1, None));
    let id = solo.announced();
    let pieces: Vec<_> = (0..4)
        .map(|n| data(1, n * 65_536, noise(65_536, n)))
        .collect();
    solo.feed_all(&pieces);
    // The whole window is used: the next step is this end's.
    assert_eq!(solo.next_deadline(), None);
    solo.wait(LONG);
    for _ in 0..4 {
        assert!(matches!(solo.read(id), Some(Read::Piece(_))));
    }
    // Three of them have been given back by now.
    assert_eq!(solo.next_deadline(), Some(secs(60 + 12)));
}

#[test]
fn a_stream_that_nobody_writes_to_waits_for_nobody() {
    // The window is used up to its last byte, and there is nothing more to send: the next step is
    // the application's.
    let (mut solo, id) = sending(262_144, no_timers());
    assert_eq!(solo.connection.outbox_bytes(), 0);
    solo.wait(LONG);
    assert_eq!(solo.events(), []);
    // With something to send it is the peer's.
    let written = solo.connection.write(solo.now, id, noise(1, 1));
    written.expect("there is room");
    is_given_up_after(&mut solo, id, secs(60 + 16));
}

#[test]
fn a_stream_that_waits_for_the_transport_does_not_wait_for_the_peer() {
    // As much is queued as ever is, and the smallest piece more would be taken.
    let mut peer = with_streams();
    let limits = peer.chunk.as_mut().expect("they are there");
    limits.window = 131_072 + 1_024;
    let mut solo = negotiated(Role::Client, no_timers(), peer);
    let opened = solo.connection.open(START, Transfer::new(IMAGE));
    let id = opened.expect("it opens");
    solo.sent();
    let written = solo.connection.write(START, id, noise(140_000, 1));
    written.expect("there is room");
    solo.wait(LONG);
    assert_eq!(solo.events(), []);
    let lens: Vec<usize> = solo.sent().iter().map(|it| it.content.len()).collect();
    assert_eq!(lens, [65_536, 65_536, 1_024]);
}

#[test]
fn without_a_timeout_transfers_wait_for_ever() {
    let (mut solo, id) = sending(300_000, no_timers().transfer_timeout(None));
    solo.feed(&begin(2, None));
    assert_eq!(solo.next_deadline(), None);
    solo.wait(LONG);
    assert_eq!(solo.events(), []);
    solo.feed(&window(1, 262_144));
    assert_eq!(solo.sent().len(), 1);
    assert!(solo.connection.writable(id) > 0);
}

#[test]
fn the_time_in_which_this_end_is_deaf_is_nobody_s() {
    let (mut solo, id) = sending(300_000, no_timers().max_inbox(1));
    solo.feed(&frame(FrameKind::Message, "hello"));
    assert!(!solo.connection.wants_input());
    solo.wait_and_send(secs(3_600));
    assert_eq!(
        solo.connection.outbox_bytes(),
        300_000 - 262_144,
        "it is still there"
    );
    assert_eq!(solo.events().len(), 1);
    // The window that waited in the transport comes now.
    solo.feed(&window(1, 262_144));
    assert_eq!(solo.sent().len(), 1);
    assert!(solo.connection.writable(id) > 0);

    let mut solo = negotiated(Role::Server, no_timers().max_inbox(1), with_streams());
    solo.feed(&begin(1, Some(3)));
    solo.feed(&frame(FrameKind::Message, "hello"));
    solo.wait_and_send(secs(3_600));
    assert_eq!(solo.events().len(), 1);
    solo.feed_all(&[data(1, 0, "abc"), end(1, 3)]);
    assert_eq!(solo.events(), [Event::Message(Message::new(IMAGE, "abc"))]);
}

#[test]
fn a_slow_link_stalls_no_transfer() {
    for from in ROLES {
        let config = Config::default().max_outbox(64 << 20);
        let mut pair = Pair::established(config);
        pair.link(from).rate = Some(20_000);
        pair.link(from).capacity = 64 * 1024;
        for _ in 0..40 {
            assert_eq!(pair.send(from, image(200_000)), Ok(()));
        }
        pair.run_for(secs(450));
        assert_eq!(pair.peer(from).messages().count(), 40);
        assert!(pair.end(from).events.is_empty());
    }
}

#[test]
fn a_slow_reader_that_goes_on_stalls_no_transfer() {
    let mut pair = Pair::established(Config::default().receive(chat_core::Receive::Pieces));
    let id = open(&mut pair, Role::Client, Transfer::new(IMAGE));
    let mut taken = 0;
    for _ in 0..100 {
        if pair.client.connection.writable(id) > 0 {
            write(&mut pair, Role::Client, id, 65_536);
        }
        pair.run_for(secs(50));
        let now = pair.now;
        if let Some(Read::Piece(piece)) = pair.server.connection.read(now, id) {
            taken += piece.len();
        }
    }
    assert!(taken > 90 * 60_000, "{taken}");
    assert_eq!(pair.client.events, []);
    assert_eq!(
        said(&pair.up.sent[0].frame).1,
        &ChunkOp::Begin {
            total: None,
            name: None
        }
    );
}

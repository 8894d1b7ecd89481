//! Messages in pieces (PROTOCOL.md §5.5): that they arrive, in which order, and what is held.

mod support;

use chat_core::frame::{ChunkLimits, ChunkOp, FrameKind};
use chat_core::{ContentType, Event, Message, Role, SendError};

use support::chunk::{
    IMAGE, every_extension, image, is_idle, negotiated, said, window, with_streams,
};
use support::{Pair, START, Solo, frame, kinds, no_timers};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

#[test]
fn messages_of_any_size_arrive_whole() {
    let sizes = [8_193, 65_536, 65_537, 131_072, 262_144, 262_145, 3 << 20];
    for from in ROLES {
        let mut pair = Pair::established(no_timers());
        for (n, size) in (1..).zip(sizes) {
            assert_eq!(pair.send(from, image(size)), Ok(()));
            pair.settle();
            assert_eq!(
                pair.peer(from).messages().last(),
                Some(&image(size)),
                "{size}"
            );
            assert_eq!(pair.peer(from).messages().count(), n);
        }
        is_idle(&mut pair);
    }
}

#[test]
fn what_is_above_the_threshold_goes_in_pieces_and_nothing_else() {
    for from in ROLES {
        for (threshold, size) in [(0, 1), (1, 2), (8_192, 8_193), (100_000, 100_001)] {
            let mut solo = negotiated(
                from,
                no_timers().chunk_threshold(threshold),
                every_extension(),
            );
            if size > 1 {
                assert!(!solo.connection.is_chunked(&image(size - 1)));
                solo.send(image(size - 1));
                assert_eq!(kinds(&solo.sent()), [FrameKind::Message]);
            }
            assert!(solo.connection.is_chunked(&image(size)));
            solo.send(image(size));
            assert!(solo.sent().iter().all(|sent| sent.kind == FrameKind::Chunk));
        }
    }
}

#[test]
fn the_pieces_are_as_documented() {
    for (role, ids) in [(Role::Client, [1, 3]), (Role::Server, [2, 4])] {
        let mut solo = negotiated(role, no_timers(), every_extension());
        for id in ids {
            let message = image(2 * 65_536 + 5);
            solo.send(message.clone());
            let sent = solo.sent();
            let begins = ChunkOp::Begin {
                total: Some(131_077),
                name: None,
            };
            assert_eq!(said(&sent[0]), (id, &begins));
            assert_eq!(sent[0].content, "begin");
            let mut offset = 0;
            for (piece, len) in sent[1..4].iter().zip([65_536, 65_536, 5]) {
                assert_eq!(
                    said(piece),
                    (
                        id,
                        &ChunkOp::Data {
                            offset: offset as u64
                        }
                    )
                );
                assert_eq!(piece.content, message.content()[offset..offset + len]);
                assert_eq!(piece.content_type, IMAGE);
                offset += len;
            }
            assert_eq!(said(&sent[4]), (id, &ChunkOp::End { offset: 131_077 }));
            assert_eq!(
                (sent[4].content_type.clone(), &sent[4].content[..]),
                (ContentType::BINARY, &b"end"[..])
            );
            assert_eq!(sent.len(), 5);
        }
    }
}

#[test]
fn a_piece_is_no_longer_than_either_side_wants() {
    for (mine, theirs, longest) in [
        (1_024, 65_536, 1_024),
        (65_536, 2_000, 2_000),
        (0, 65_536, 1_024),
    ] {
        let mut peer = every_extension();
        peer.chunk = peer.chunk.map(|chunk| ChunkLimits {
            size: theirs,
            ..chunk
        });
        let mut solo = negotiated(Role::Client, no_timers().chunk_size(mine), peer);
        solo.send(image(10_000));
        let sent = solo.sent();
        let pieces = sent
            .iter()
            .filter(|sent| matches!(said(sent).1, ChunkOp::Data { .. }));
        let lens: Vec<usize> = pieces.map(|sent| sent.content.len()).collect();
        let (last, others) = lens.split_last().expect("there are pieces");
        assert!(others.iter().all(|len| *len == longest), "{lens:?}");
        assert_eq!(*last, (10_000 - 1) % longest + 1);
    }
}

#[test]
fn what_is_small_overtakes_what_is_large() {
    for from in ROLES {
        let mut pair = Pair::established(no_timers());
        pair.link(from).rate = Some(100_000);
        pair.link(from).capacity = 1;
        assert_eq!(pair.send(from, image(4 << 20)), Ok(()));
        pair.run_for(support::secs(3));
        let begun = pair.now;
        pair.link(from).capacity = 16 * 1024;
        assert_eq!(pair.send(from, Message::text("small")), Ok(()));
        pair.end(from).connection.send_error(begun, "an error");
        pair.run_for(support::secs(6));
        let events = &pair.peer(from).events;
        assert_eq!(
            events[..],
            [
                Event::Message(Message::text("small")),
                Event::Error("an error".into())
            ]
        );
        pair.run_for(support::secs(60));
        assert!(
            pair.peer(from)
                .messages()
                .any(|message| *message == image(4 << 20))
        );
    }
}

#[test]
fn answers_and_goodbyes_overtake_too() {
    let mut solo = negotiated(Role::Client, no_timers(), every_extension());
    solo.send(image(200_000));
    let mut bytes = solo.take(10);
    solo.feed(&frame(FrameKind::Heartbeat, "ping"));
    bytes.extend(solo.take(100_000));
    let first = support::whole(&bytes).frames;
    assert_eq!(kinds(&first)[..2], [FrameKind::Chunk, FrameKind::Heartbeat]);

    let mut solo = negotiated(Role::Client, no_timers(), every_extension());
    solo.send(image(200_000));
    let mut bytes = solo.take(10);
    solo.connection.abort(START, "now");
    bytes.extend(solo.sent_bytes().concat());
    let sent = kinds(&support::whole(&bytes).frames);
    assert_eq!(sent, [FrameKind::Chunk, FrameKind::Disconnect]);
}

/// The ids of the pieces that were sent, in order.
fn turns(solo: &mut Solo) -> Vec<u64> {
    let is_piece = |(_, op): &(u64, &ChunkOp)| matches!(op, ChunkOp::Data { .. });
    let sent = solo.sent();
    sent.iter()
        .map(said)
        .filter(is_piece)
        .map(|(id, _)| id)
        .collect()
}

#[test]
fn transfers_take_turns() {
    let mut peer = every_extension();
    peer.chunk = peer.chunk.map(|chunk| ChunkLimits {
        window: 1 << 30,
        ..chunk
    });
    let mut solo = negotiated(Role::Server, no_timers().max_outbox(1 << 30), peer);
    for _ in 0..3 {
        solo.send(image(20 * 65_536));
    }
    // Those that were made before the others came may be the first one's.
    let turns = turns(&mut solo);
    assert_eq!(turns.len(), 60);
    for three in turns[4..50].windows(3) {
        let mut three = three.to_vec();
        three.sort_unstable();
        assert_eq!(three, [2, 4, 6]);
    }
}

#[test]
fn one_that_is_blocked_holds_up_no_other() {
    let mut solo = negotiated(
        Role::Client,
        no_timers().max_outbox(1 << 30),
        every_extension(),
    );
    solo.send(image(1 << 20));
    solo.send(image(1 << 20));
    let count = |turns: &[u64], id| turns.iter().filter(|turn| **turn == id).count();
    let first = turns(&mut solo);
    assert_eq!(
        (count(&first, 1), count(&first, 3)),
        (4, 4),
        "a window of each"
    );
    solo.feed(&window(3, 131_072));
    assert_eq!(turns(&mut solo), [3, 3]);
    solo.send(image(10_000));
    assert_eq!(turns(&mut solo), [5]);
}

#[test]
fn more_messages_than_transfers_wait_for_their_turn() {
    for from in ROLES {
        for transfers in [1, 3] {
            let config = no_timers().max_transfers(transfers).max_outbox(1 << 30);
            let mut pair = Pair::established(config);
            let sent: Vec<Message> = (0..40).map(|n| image(9_000 + 20_000 * n)).collect();
            for message in &sent {
                assert_eq!(pair.send(from, message.clone()), Ok(()));
            }
            pair.settle();
            is_idle(&mut pair);
            let mut arrived: Vec<&Message> = pair.peer(from).messages().collect();
            arrived.sort_by_key(|message| message.content().len());
            assert!(arrived.into_iter().eq(&sent));
            // As many as may be were open, and no more.
            let (mut open, mut most) = (0_u32, 0);
            for sent in &pair.link(from).sent {
                match said(&sent.frame).1 {
                    ChunkOp::Begin { .. } => open += 1,
                    ChunkOp::End { .. } => open -= 1,
                    _ => {}
                }
                most = most.max(open);
            }
            assert_eq!(most, transfers);
        }
    }
}

#[test]
fn what_a_sender_holds_is_bounded_by_its_outbox() {
    let mut solo = negotiated(
        Role::Client,
        no_timers().max_outbox(1 << 20),
        with_streams(),
    );
    let mut sent = 0;
    let refused = loop {
        match solo.connection.send(START, image(200_000)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(solo.connection.outbox_bytes() < (1 << 20) + 300_000);
    };
    assert_eq!(refused, SendError::Full(image(200_000)));
    assert!((5..8).contains(&sent), "{sent}");
    // A message of any size fits where no other waits, and the small ones have room of their own.
    solo.send(Message::text("small"));
    let mut empty = negotiated(Role::Client, no_timers().max_outbox(1), with_streams());
    empty.send(image(5_000_000));
}

#[test]
fn messages_in_pieces_are_counted_as_messages() {
    for from in ROLES {
        let mut pair = Pair::established(no_timers());
        let before = ROLES.map(|role| pair.end(role).connection.stats());
        assert_eq!(pair.send(from, image(100_000)), Ok(()));
        assert_eq!(pair.send(from, Message::text("small")), Ok(()));
        let queued = pair.end(from).connection.stats();
        assert_eq!(queued.messages_sent, before[from as usize].messages_sent);
        assert_eq!(queued.frames_sent, before[from as usize].frames_sent);
        pair.settle();
        let sent = pair.end(from).connection.stats();
        let received = pair.peer(from).connection.stats();
        assert_eq!((sent.messages_sent, sent.messages_aborted), (2, 0));
        assert_eq!(received.messages_received, 2);
        // begin, two pieces, end; and a message.
        assert_eq!(sent.frames_sent, before[from as usize].frames_sent + 5);
        assert_eq!((received.messages_sent, sent.messages_received), (0, 0));
    }
}

//! The number that a frame is signed with is its place in the stream, whatever overtakes it and
//! whatever is dropped (PROTOCOL.md §4.7).

mod support;

use chat_core::frame::{Extensions, Frame, FrameKind};
use chat_core::{CloseReason, Config, Event, Message, ProtocolError, Role, SendError, State};

use support::chunk::{every_extension, image, noise};
use support::sec::{ByHand, frames_of};
use support::tape::birth;
use support::{FOREIGN, Pair, SESSION, START, Solo, frame, kinds, no_timers, secs};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// What peers can do that take messages whole: one that takes any number of frames at a time, and one
/// that takes one at a time, and padded.
fn without_chunks() -> [Extensions; 2] {
    [true, false].map(|coalesce| {
        let mut extensions = every_extension();
        extensions.coalesce = coalesce;
        extensions.chunk = None;
        extensions
    })
}

/// Every message of a stream, by its first bytes.
fn messages(frames: &[Frame]) -> Vec<&[u8]> {
    let messages = frames.iter().filter(|it| it.kind == FrameKind::Message);
    messages.map(|it| &it.content[..]).collect()
}

#[test]
fn heartbeats_that_overtake_messages_have_the_number_of_their_place() {
    for role in ROLES {
        for extensions in without_chunks() {
            let config = no_timers().chunks(false).max_outbox(1 << 22);
            let mut end = ByHand::established_with(role, config, extensions);
            let mut sent = Vec::new();
            let mut stream = Vec::new();
            for round in 0..40_u8 {
                // More than is signed ahead, so that there is something to overtake.
                for part in 0..4 {
                    let message = [round, part].repeat(10_000 + usize::from(part));
                    sent.push(message.clone());
                    end.solo.send(Message::binary(message));
                }
                for _ in 0..3 {
                    end.feed(&frame(FrameKind::Heartbeat, "ping"));
                }
                // The transport takes less than is queued, and stops inside of frames.
                for _ in 0..3 {
                    stream.extend(end.solo.take(17_001));
                }
            }
            stream.extend(end.solo.sent_bytes().concat());
            let frames = end.theirs.read(&stream);
            assert!(messages(&frames).iter().eq(&sent));
            let pongs: Vec<usize> = (0..frames.len())
                .filter(|at| frames[*at].kind == FrameKind::Heartbeat)
                .collect();
            assert!(pongs.len() >= 100, "{}", pongs.len());
            let behind = frames.len() - pongs.last().expect("a pong");
            assert!(behind > 10, "none has overtaken anything: {behind}");
        }
    }
}

#[test]
fn a_long_session_of_both_kinds_of_messages_is_understood_to_its_end() {
    for coalesce in [true, false] {
        let config = Config::default()
            .coalesce(coalesce)
            .heartbeat(Some(secs(1)));
        let mut pair = Pair::established(config);
        for link in [&mut pair.up, &mut pair.down] {
            link.rate = Some(100_000);
            link.split = 1_000;
        }
        let mut sent = [Vec::new(), Vec::new()];
        for round in 0..60 {
            for role in ROLES {
                let large = if role == Role::Client { 3 } else { 4 };
                let message = match round % large {
                    0 => image(20_000 + round),
                    _ => Message::binary(noise(100 + 70 * round, round as u64)),
                };
                match pair.send(role, message.clone()) {
                    Ok(()) => sent[role as usize].push(message),
                    Err(error) => assert!(matches!(error, SendError::Full(_)), "{error}"),
                }
            }
            pair.run_for(secs(1) / 3);
        }
        pair.run_for(secs(60));
        for role in ROLES {
            assert_eq!(pair.end(role).closed(), None);
            let sent = &sent[role as usize];
            // Small ones overtake large ones.
            let mut arrived: Vec<&Message> = pair.peer(role).messages().collect();
            assert_eq!(arrived.len(), sent.len(), "{role:?}");
            let small = |it: &&Message| it.content().len() <= 8 * 1024;
            assert!(
                sent.iter()
                    .filter(small)
                    .eq(arrived.iter().copied().filter(small))
            );
            arrived.retain(|it| !sent.contains(it));
            assert_eq!(arrived, <[&Message; 0]>::default());
            let link = pair.link(role);
            let heartbeats = link
                .sent
                .iter()
                .filter(|it| it.frame.kind == FrameKind::Heartbeat);
            assert!(heartbeats.count() > 40);
        }
    }
}

/// How an end comes in the middle of what is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The peer breaks the protocol.
    Violation,
    Abort,
    Close,
    /// The peer says nothing for too long.
    Idle,
}

const ENDINGS: [Ending; 4] = [
    Ending::Violation,
    Ending::Abort,
    Ending::Close,
    Ending::Idle,
];
const QUEUED: [usize; 4] = [30, 200, 4_100, 10];

/// A connection with a full outbox, whose frames are short and long, whole and in two slices.
fn loaded(role: Role, extensions: Extensions) -> ByHand {
    let config = no_timers().chunks(false).idle_timeout(Some(secs(40)));
    let mut end = ByHand::established_with(role, config, extensions);
    for (nth, len) in QUEUED.into_iter().enumerate() {
        let fill = u8::try_from(nth).expect("a few");
        end.solo.send(Message::binary(vec![fill; len]));
    }
    end
}

fn bring_to_an_end(end: &mut ByHand, ending: Ending) {
    match ending {
        Ending::Violation => {
            let mut foreign = frame(FrameKind::Message, "not from here");
            foreign.session = Some(FOREIGN);
            end.feed(&foreign);
        }
        Ending::Abort => end.solo.connection.abort(START, "enough"),
        Ending::Close => end.solo.connection.close(START, "enough"),
        Ending::Idle => end.solo.wait(secs(41)),
    }
    assert_eq!(end.solo.connection.state(), State::Closing);
}

/// The numbers of the frames that are dropped are given to those that leave in their place: at every
/// cut, what was sent and the last words are one stream.
#[test]
fn the_last_words_are_understood_wherever_the_transport_has_stopped() {
    let mut cuts = 0;
    for (extensions, role) in without_chunks().into_iter().zip(ROLES) {
        let all = loaded(role, extensions).solo.sent_bytes().concat();
        let mut borders = vec![0];
        for frame in frames_of(&all) {
            borders.push(borders[borders.len() - 1] + frame.len());
        }
        for cut in 0..=all.len() {
            // Every way to end around the borders of frames, elsewhere one after the other.
            let at_border = borders.iter().any(|border| border.abs_diff(cut) <= 2);
            for (nth, ending) in ENDINGS.into_iter().enumerate() {
                if at_border || cut % ENDINGS.len() == nth {
                    hears_the_last_words(loaded(role, extensions), &all[..cut], ending);
                    cuts += 1;
                }
            }
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 10_000, "{cuts}");
}

/// A connection of which so much has left ends.
#[track_caller]
fn hears_the_last_words(mut end: ByHand, left: &[u8], ending: Ending) {
    let cut = left.len();
    let mut stream = Vec::new();
    while stream.len() < cut {
        stream.extend(end.solo.take(cut - stream.len()));
    }
    bring_to_an_end(&mut end, ending);
    stream.extend(end.solo.sent_bytes().concat());
    assert_eq!(stream[..cut], *left, "what has left has left");

    let frames = end.theirs.read(&stream);
    let told = match ending {
        Ending::Violation => &[FrameKind::Error, FrameKind::Disconnect][..],
        _ => &[FrameKind::Disconnect],
    };
    let (messages, last) = frames.split_at(frames.len() - told.len());
    assert_eq!(kinds(last), told, "{ending:?} at {cut}");
    let lens: Vec<usize> = messages.iter().map(|it| it.content.len()).collect();
    assert_eq!(lens, QUEUED[..lens.len()], "{ending:?} at {cut}");
    if ending == Ending::Close {
        assert_eq!(lens.len(), QUEUED.len(), "nothing is dropped");
    }
}

/// The same between two connections: whoever goes on reading hears why it ends.
#[test]
fn a_peer_hears_the_last_words_behind_a_frame_that_was_begun() {
    let chunked = || image(50_000);
    for role in ROLES {
        for cut in [
            0, 1, 63, 64, 199, 230, 1_000, 2_000, 60_000, 100_000, 200_000,
        ] {
            let mut pair = Pair::established(no_timers());
            for _ in 0..3 {
                assert_eq!(pair.send(role, chunked()), Ok(()));
                assert_eq!(pair.send(role, Message::text("small")), Ok(()));
            }
            pair.link(role).capacity = cut;
            pair.turn();
            let now = pair.now;
            pair.end(role).connection.abort(now, "enough");
            pair.link(role).capacity = usize::MAX;
            pair.settle();
            let goodbye = CloseReason::Peer {
                reason: "enough".into(),
            };
            assert_eq!(
                pair.peer(role).closed(),
                Some(&goodbye),
                "{role:?} at {cut}"
            );
        }
    }
}

/// What has been taken back is not signed twice with the same number and sent: a second end of the
/// same session would see it.
#[test]
fn no_number_is_used_for_two_frames_that_leave() {
    for cut in [0, 1, 250, 1_500] {
        let mut end = loaded(Role::Client, without_chunks()[0]);
        let mut stream = Vec::new();
        while stream.len() < cut {
            stream.extend(end.solo.take(cut - stream.len()));
        }
        // Aborted twice, and then told off: the first goodbye stays the last.
        end.solo.connection.abort(START, "enough");
        end.solo.connection.abort(START, "once more");
        end.solo.connection.close(START, "and again");
        end.solo.feed_bytes(b"junk");
        stream.extend(end.solo.sent_bytes().concat());
        let frames = end.theirs.read(&stream);
        let goodbyes = frames.iter().filter(|it| it.kind == FrameKind::Disconnect);
        assert_eq!(goodbyes.count(), 1);
        let last = frames.last().expect("a goodbye");
        assert!(last.content.windows(6).any(|part| part == b"enough"));
    }
}

/// A server that ends the session before its proof has left: what takes the place of the proof has its
/// number, and the client takes it for what it is.
#[test]
fn a_server_that_leaves_at_once_is_understood() {
    for (violates, taken) in [(false, 0), (true, 0), (false, 1), (true, 1), (true, 100)] {
        let mut client = birth(Role::Client, SESSION, 1).player().solo;
        let mut server = birth(Role::Server, SESSION, 2).player().solo;
        client.feed_bytes(&server.sent_bytes().concat());
        server.feed_bytes(&client.sent_bytes().concat());
        assert_eq!(server.events().len(), 1, "established");
        let mut stream = server.take(taken);
        if violates {
            server.feed_bytes(&[0; 64]);
        } else {
            server.connection.abort(START, "enough");
        }
        stream.extend(server.sent_bytes().concat());
        client.feed_bytes(&stream);
        client.connection.handle_eof(START);
        let events = client.events();
        let reason = events.last().expect("an end").clone();
        let heard = if violates && taken == 0 {
            matches!(reason, Event::Closed(CloseReason::Refused { .. }))
        } else {
            matches!(reason, Event::Closed(CloseReason::Peer { .. }))
        };
        assert!(heard, "{reason:?}");
        // Established only if the proof was there.
        let proven = events.contains(&Event::Established { session: SESSION });
        assert_eq!(proven, taken > 0);
    }
}

/// The hash of a content that was received, or made ahead, is that of the content in every frame that
/// it leaves in.
#[test]
fn what_is_passed_on_is_signed_as_what_it_is() {
    let configs = [
        no_timers(),
        no_timers().chunk_size(1_024),
        no_timers().chunk_threshold(100).chunk_size(3_000),
        no_timers().chunks(false),
        no_timers().version_1(),
    ];
    for hasher in &configs {
        for config in &configs {
            let mut pair = Pair::established(no_timers());
            let mut next = Pair::established(config.clone());
            for len in [1, 100, 101, 3_000, 8_193, 70_000] {
                let message = image(len);
                assert_eq!(pair.send(Role::Client, message.clone()), Ok(()));
                pair.settle();
                let received = pair.server.messages().last().expect("it arrived").clone();
                for passed_on in [received.clone(), received.clone().hashed(hasher)] {
                    assert_eq!(next.send(Role::Server, passed_on.clone()), Ok(()));
                    assert_eq!(next.send(Role::Client, passed_on), Ok(()));
                    next.settle();
                    for role in ROLES {
                        assert_eq!(next.end(role).closed(), None, "{len}");
                        assert_eq!(next.peer(role).messages().last(), Some(&message));
                    }
                }
            }
        }
    }
}

/// A violation is one, and its words go to the peer: also when the connection is told of two at once.
#[test]
fn after_a_frame_out_of_its_place_the_connection_says_why() {
    for role in ROLES {
        let mut end = ByHand::established(role, no_timers());
        end.feed(&frame(FrameKind::Message, "in its place"));
        end.mine.sequence += 1;
        end.feed(&frame(FrameKind::Message, "one too late"));
        end.feed(&frame(FrameKind::Message, "too late"));
        let sent = end.sent();
        assert_eq!(kinds(&sent), [FrameKind::Error, FrameKind::Disconnect]);
        let error = ProtocolError::Frame(chat_core::frame::FrameError::Mac);
        assert_eq!(sent[0].content, error.to_string());
        end.solo.connection.handle_eof(START);
        assert_eq!(
            end.solo.events(),
            [
                Event::Message(Message::text("in its place")),
                Event::Closed(CloseReason::Protocol(error))
            ]
        );
    }
}

/// One connection's view is not the other's: each counts its own, from the handshake on.
#[test]
fn each_direction_has_a_count_of_its_own() {
    let mut client = ByHand::established(Role::Client, no_timers());
    for n in 0..1_000_u64 {
        client.solo.send(Message::text("up"));
        assert_eq!(client.sent().len(), 1);
        assert_eq!(client.theirs.sequence, n + 2, "session_ack was number 0");
        assert_eq!(client.mine.sequence, 1);
    }
    client.feed(&frame(FrameKind::Message, "down"));
    assert_eq!(
        client.solo.events(),
        [Event::Message(Message::text("down"))]
    );
}

/// A connection keeps its own counters; a second one with the same settings begins anew.
#[test]
fn a_count_is_of_one_session() {
    for role in ROLES {
        for _ in 0..2 {
            let mut end = ByHand::established(role, no_timers());
            assert_eq!(end.theirs.sequence, 1, "session_ack was number 0");
            end.feed(&frame(FrameKind::Heartbeat, "ping"));
            assert_eq!(kinds(&end.sent()), [FrameKind::Heartbeat]);
        }
    }
    assert!(Solo::new(Role::Client, no_timers()).sent_bytes().is_empty());
}

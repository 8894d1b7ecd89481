//! What is noticed where the channel is trusted, and what is not (PROTOCOL.md §4.8 and §8): damage is,
//! wherever it is; what somebody means to do is not.

mod support;

use chat_core::frame::{FrameError, FrameKind};
use chat_core::{CloseReason, Event, ProtocolError, Role};

use support::chunk::other;
use support::sec::mend;
use support::tape::{Act, Recorder, Step, Track, birth};
use support::{SESSION, header_json, raw_len, sign_again, whole};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// An end that hears some of everything, and at last a goodbye. It says one word.
fn listener(role: Role) -> Track {
    let [client, server] = ROLES.map(|role| {
        let mut birth = birth(role, SESSION, 1 + role as u8);
        let config = support::no_timers().trust_channel(true);
        birth.config = config.into();
        birth
    });
    let mut recorder = Recorder::new(client, server);
    recorder.settle();
    let speaker = other(role);
    recorder.act(role, Act::Send(chat_core::Message::text("mine")));
    for text in ["one", "two", "one"] {
        recorder.act(speaker, Act::Send(chat_core::Message::text(text)));
    }
    recorder.act(speaker, Act::Open(support::chunk::IMAGE));
    recorder.act(speaker, Act::Write(b"a piece"));
    recorder.act(speaker, Act::Finish);
    recorder.act(speaker, Act::Error("no such room"));
    recorder.act(speaker, Act::Close("enough"));
    let tape = recorder.stop();
    match role {
        Role::Client => tape.client,
        Role::Server => tape.server,
    }
}

fn kind(raw: &[u8]) -> FrameKind {
    let mut raw = raw.to_vec();
    sign_again(&mut raw);
    whole(&raw).frames[0].kind
}

/// Where the messages arrive.
fn messages(track: &Track) -> Vec<usize> {
    let mut arrivals = track.arrivals();
    arrivals.retain(|at| kind(track.arriving(*at)) == FrameKind::Message);
    assert_eq!(arrivals.len(), 3);
    arrivals
}

/// The texts that arrive if the steps are these, with the goodbye at their end.
#[track_caller]
fn texts<'a>(track: &Track, steps: impl IntoIterator<Item = &'a Step>) -> Vec<String> {
    let mut player = track.birth.player();
    for step in steps {
        player.step(step);
    }
    let reason = player.end();
    assert!(matches!(reason, CloseReason::Peer { .. }), "{reason}");
    let texts = player.events.iter().filter_map(|event| match event {
        Event::Message(message) => message.as_text().map(str::to_owned),
        _ => None,
    });
    texts.collect()
}

/// What a change of `frame` at `at` comes to. Nothing of it, and nothing after it, was reported.
#[track_caller]
fn end_with(track: &Track, at: usize, bytes: Vec<u8>) -> CloseReason {
    let changed = Step::Arrives(bytes);
    track.ends_after(at, [&changed].into_iter().chain(&track.steps[at + 1..]))
}

#[test]
fn each_field_is_compared_with_what_can_be_compared_with_it() {
    let mut flips = 0;
    let mut never_whole = 0;
    for role in ROLES {
        let track = listener(role);
        // What proves that somebody holds the key is signed: it is behind that.
        for at in messages(&track) {
            let frame = track.arriving(at);
            let border = 64 + header_json(frame).len();
            for bit in 0..8 * frame.len() {
                let mut bytes = frame.to_vec();
                bytes[bit / 8] ^= 0x80 >> (bit % 8);
                let reason = end_with(&track, at, bytes);
                flips += 1;
                let error = match reason {
                    CloseReason::Protocol(ProtocolError::Frame(error)) => error,
                    // Only of a length no more is known than that it is a possible one: the frame
                    // ends where it says, or never.
                    CloseReason::Eof { mid_frame: true } => {
                        assert!([12..16, 20..28].iter().any(|it| it.contains(&(bit / 8))));
                        never_whole += 1;
                        continue;
                    }
                    reason => panic!("bit {bit}: {reason}"),
                };
                let expected = match bit / 8 {
                    0..8 => matches!(error, FrameError::BadMagic { .. }),
                    8..10 => error == FrameError::UnsupportedVersion,
                    10..12 => error == FrameError::UnsupportedFrameType,
                    12..16 => matches!(
                        error,
                        FrameError::HeaderTooLarge { .. } | FrameError::HeaderCrc
                    ),
                    16..20 => error == FrameError::HeaderCrc,
                    20..28 => matches!(
                        error,
                        FrameError::ContentTooLarge { .. } | FrameError::ContentCrc
                    ),
                    28..32 => error == FrameError::ContentCrc,
                    32..64 => error == FrameError::Mac,
                    64 => matches!(error, FrameError::HeaderJson(_)),
                    byte if byte < border => error == FrameError::HeaderCrc,
                    _ => error == FrameError::ContentCrc,
                };
                assert!(expected, "bit {bit}: {error}");
            }
        }
    }
    println!("{flips} flips, {never_whole} made a frame that is never whole");
    assert!(flips > 7_000, "{flips}");
    assert!(never_whole > 0);
}

#[test]
fn a_burst_of_damage_is_noticed() {
    let mut bursts = 0;
    for role in ROLES {
        let track = listener(role);
        for at in messages(&track) {
            let frame = track.arriving(at);
            // Behind the lengths, with which the border moves.
            for start in 28..frame.len() - 1 {
                for len in 2..=4.min(frame.len() - start) {
                    for with in [0x00, 0x01, 0xff] {
                        let mut bytes = frame.to_vec();
                        bytes[start..start + len].fill(with);
                        if bytes == frame {
                            continue;
                        }
                        let reason = end_with(&track, at, bytes);
                        assert!(matches!(reason, CloseReason::Protocol(_)), "{reason}");
                        bursts += 1;
                    }
                }
            }
        }
    }
    println!("{bursts} bursts");
    assert!(bursts > 5_000, "{bursts}");
}

/// The price: what the specification says is lost is lost, and so nobody may rely on it.
#[test]
fn what_somebody_on_the_way_means_to_do_is_not_noticed() {
    for role in ROLES {
        let track = listener(role);
        let steps = &track.steps;
        let [first, second, _] = messages(&track)[..] else {
            panic!("three messages");
        };
        assert_eq!(texts(&track, steps), ["one", "two", "one"]);
        // Left out.
        let without = steps[..first].iter().chain(&steps[first + 1..]);
        assert_eq!(texts(&track, without), ["two", "one"]);
        // Again.
        let again = steps[..=first].iter().chain(&steps[first..]);
        assert_eq!(texts(&track, again), ["one", "one", "two", "one"]);
        // In another order.
        let mut swapped = steps.clone();
        swapped.swap(first, second);
        assert_eq!(texts(&track, &swapped), ["two", "one", "one"]);
        // From the other end, which is this one.
        let said = track.sent().into_iter().rev();
        let mine = said.into_iter().find(|raw| kind(raw) == FrameKind::Message);
        let mine = Step::Arrives(mine.expect("it said a word"));
        let reflected = steps[..second].iter().chain([&mine]);
        let reflected = reflected.chain(&steps[second..]);
        assert_eq!(texts(&track, reflected), ["one", "mine", "two", "one"]);
        // Another text, with the checksum that it has.
        let mut bytes = track.arriving(second).to_vec();
        assert_eq!(raw_len(&bytes), Some(bytes.len()));
        let end = bytes.len();
        bytes[end - 3..].copy_from_slice(b"TWO");
        mend(&mut bytes);
        let mut changed = steps.clone();
        changed[second] = Step::Arrives(bytes);
        assert_eq!(texts(&track, &changed), ["one", "TWO", "one"]);
    }
}

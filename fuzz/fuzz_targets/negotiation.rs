//! Extensions, by PROTOCOL.md §4.6 over again: an end that gets any offer, or any choice, ends the
//! connection where that is wrong, without a word; else it chooses what both have, with its own numbers,
//! keeps the other's, and has the security that it must have. With `sec` frames have codes after that, or
//! none where both trust the channel, and the other way is wrong.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use chat_core::frame::{Extensions, Extra, FrameError, FrameKind};
use chat_core::{
    CloseReason, Config, Connection, Event, Instant, Message, ProtocolError, Role, Security, State,
};
use chat_fuzz::offer::{KEY_ID, Offer};
use chat_fuzz::oracle::{self, Header, Sec};
use chat_fuzz::peer::{SESSION, header, transmit};
use chat_fuzz::sec::{Direction, directions, nonce, unhex};
use chat_fuzz::settings::Settings;
use chat_fuzz::solo;
use chat_fuzz::wire::{KEY, Signer, parts, split_frames};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    server: bool,
    settings: Settings,
    ext: Option<Offer>,
    /// A choice of `sec` is not signed with the key of the session.
    wrong_code: bool,
}

const NOW: Instant = Instant::EPOCH;
const BINARY: &str = "application/octet-stream";

/// What an end does on its own account, as it offers it itself.
fn own(config: &Arc<Config>) -> (Extensions, Option<Sec>, Vec<u8>) {
    let mut server = solo::new(Role::Server, config);
    let init = transmit(&mut server, NOW, usize::MAX);
    assert!(init.len() <= 1024, "PROTOCOL.md §4.1");
    let said = oracle::read(parts(&init).0).expect("a right header");
    (extensions(&said), said.sec, init)
}

fn extensions(header: &Header) -> Extensions {
    match header.extra {
        Extra::Extensions(extensions) => extensions,
        _ => Extensions::default(),
    }
}

/// What of the first the second has too; `trust` is nothing without `sec` (PROTOCOL.md §4.8).
fn shared(of: Extensions, with: &Extensions, secure: bool) -> Extensions {
    let mut both = Extensions::default();
    both.max_content = of.max_content.filter(|_| with.max_content.is_some());
    both.coalesce = of.coalesce && with.coalesce;
    both.ping = of.ping.filter(|_| with.ping.is_some());
    both.chunk = of.chunk.filter(|_| with.chunk.is_some());
    both.trust = of.trust && with.trust && secure;
    both
}

fn events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.poll_event()).collect()
}

/// It ended without a word.
fn refused(connection: &mut Connection) -> ProtocolError {
    assert_eq!(transmit(connection, NOW, usize::MAX), b"");
    match &events(connection)[..] {
        [Event::Closed(CloseReason::Protocol(error))] => *error,
        other => panic!("{other:?}"),
    }
}

/// It says that `sec` is required, and goes.
fn turned_away(connection: &mut Connection) {
    assert_eq!(connection.state(), State::Closing);
    assert!(!transmit(connection, NOW, usize::MAX).is_empty());
    connection.handle_eof(NOW);
    let insecure = CloseReason::Protocol(ProtocolError::Insecure);
    assert_eq!(events(connection), [Event::Closed(insecure)]);
}

fn established(connection: &mut Connection, peer: Extensions, secure: bool) {
    assert_eq!(connection.state(), State::Established);
    assert_eq!(
        events(connection),
        [Event::Established { session: SESSION }]
    );
    let mut known = connection.peer_extensions();
    assert_eq!(known.sec.take().is_some(), secure);
    assert_eq!(known, peer);
    assert_eq!(connection.security() == Security::Sec, secure);
    let least = u64::from(peer.max_content.unwrap_or(10_485_760));
    let most = match peer.chunk {
        None => least,
        Some(limits) => limits.message.unwrap_or(u64::MAX),
    };
    assert!(connection.max_message() <= most);
}

fn client(input: &Input, config: &Arc<Config>, ext: &str) {
    let (own, own_sec, _) = own(config);
    let json = header(FrameKind::SessionInit, BINARY, Some(SESSION), ext);
    let init = Signer::Shared(KEY).pack(json.as_bytes(), b"i");
    let mut client = solo::new(Role::Client, config);
    client.handle_input(NOW, &init);
    let said = oracle::read(json.as_bytes()).filter(|_| json.len() <= 4096);
    let Some(said) = said else {
        let error = refused(&mut client);
        assert!(matches!(error, ProtocolError::Frame(_)));
        return;
    };
    let offered = extensions(&said);
    let secure = own_sec.is_some() && said.sec.is_some();
    if !secure && input.settings.demands.is_so() {
        return turned_away(&mut client);
    }
    let ack = transmit(&mut client, NOW, usize::MAX);
    assert_eq!(split_frames(&ack).0, [&ack[..]]);
    let chosen = oracle::read(parts(&ack).0).expect("a right header");
    assert_eq!(chosen.kind, FrameKind::SessionAck);
    assert_eq!(extensions(&chosen), shared(own, &offered, secure));
    assert!(
        ack.len() >= 1024 || extensions(&chosen).coalesce,
        "not padded"
    );
    assert_eq!(chosen.sec.is_some(), secure);
    let peer = shared(offered, &own, secure);
    if !secure {
        return established(&mut client, peer, false);
    }
    assert_eq!(client.state(), State::AwaitProof);
    assert_eq!(chosen.sec.and_then(|sec| sec.key), unhex(KEY_ID));
    let nonces = [nonce(json.as_bytes()), nonce(parts(&ack).0)];
    let nonces = nonces.map(|nonce| nonce.expect("it is there"));
    let [mut up, down] = directions(KEY, &init, &ack, nonces);
    assert_eq!(up.next(&ack), ack[32..64]);
    let mut down = Signer::new(down, peer.trust);
    client.handle_input(NOW, &proof(&mut down, input.wrong_code));
    if input.wrong_code {
        refused(&mut client);
    } else {
        established(&mut client, peer, true);
        talk(&mut client, after(up, peer.trust), down);
    }
}

/// What shows that the server holds the key, or does not.
fn proof(down: &mut Signer, wrong: bool) -> Vec<u8> {
    let json = header(FrameKind::SessionAck, BINARY, Some(SESSION), "");
    if wrong {
        down.pack(json.as_bytes(), b"p");
    }
    down.pack(json.as_bytes(), b"p")
}

/// What an end signs with that has signed the last frame of its handshake.
fn after(direction: Direction, trusted: bool) -> Signer {
    if trusted {
        Signer::Trusted
    } else {
        Signer::Session(direction)
    }
}

/// Both say something, with codes or without as they agreed on; then the other does it the other way,
/// which ends it.
fn talk(connection: &mut Connection, mut mine: Signer, mut theirs: Signer) {
    // For some it may be too much.
    let _ = connection.send(NOW, Message::text("m"));
    let sent = transmit(connection, NOW, usize::MAX);
    for frame in split_frames(&sent).0 {
        let (json, content) = parts(frame);
        assert_eq!(mine.pack(json, content), frame, "not as agreed on");
    }
    let json = header(FrameKind::Message, BINARY, Some(SESSION), "");
    connection.handle_input(NOW, &theirs.pack(json.as_bytes(), b"m"));
    assert!(matches!(&events(connection)[..], [Event::Message(_)]));
    let mut other = match theirs {
        Signer::Trusted => Signer::Shared(KEY),
        _ => Signer::Trusted,
    };
    connection.handle_input(NOW, &other.pack(json.as_bytes(), b"m"));
    connection.handle_eof(NOW);
    transmit(connection, NOW, usize::MAX);
    connection.handle_eof(NOW);
    let wrong = CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac));
    assert_eq!(events(connection), [Event::Closed(wrong)]);
}

fn server(input: &Input, config: &Arc<Config>, ext: &str) {
    let (own, own_sec, init) = own(config);
    let json = header(FrameKind::SessionAck, BINARY, Some(SESSION), ext);
    let mut ack = Signer::Shared(KEY).pack(json.as_bytes(), b"a");
    let mut server = solo::new(Role::Server, config);
    assert_eq!(transmit(&mut server, NOW, usize::MAX), init);

    let said = oracle::read(json.as_bytes()).filter(|_| json.len() <= 4096);
    let chosen_sec = said.as_ref().and_then(|said| said.sec.clone());
    let mut session = None;
    if let (Some(ours), Some(theirs)) = (&own_sec, &chosen_sec) {
        let nonces = [&ours.nonce, &theirs.nonce].map(|nonce| nonce[..].try_into());
        let nonces = nonces.map(|nonce| nonce.expect("32 bytes"));
        let [mut up, down] = directions(KEY, &init, &ack, nonces);
        let code = up.next(&ack);
        if !input.wrong_code {
            ack[32..64].copy_from_slice(&code);
        }
        session = Some([up, down]);
    }
    server.handle_input(NOW, &ack);

    let Some(said) = said else {
        let error = refused(&mut server);
        assert!(matches!(error, ProtocolError::Frame(_)));
        return;
    };
    let choice = extensions(&said);
    let is_known = chosen_sec.as_ref().and_then(|sec| sec.key.clone()) == unhex(KEY_ID);
    if session.is_some() && (!is_known || input.wrong_code) {
        let error = refused(&mut server);
        assert_eq!(matches!(error, ProtocolError::UnknownKey(_)), !is_known);
        return;
    }
    if shared(choice, &own, session.is_some()) != choice
        || chosen_sec.is_some() && own_sec.is_none()
    {
        assert_eq!(refused(&mut server), ProtocolError::NotOffered);
        return;
    }
    let Some([up, down]) = session else {
        if input.settings.demands.is_so() {
            return turned_away(&mut server);
        }
        assert_eq!(transmit(&mut server, NOW, usize::MAX), b"");
        return established(&mut server, choice, false);
    };
    let sent = transmit(&mut server, NOW, usize::MAX);
    assert_eq!(split_frames(&sent).0, [&sent[..]]);
    let (json, content) = parts(&sent);
    let mut down = Signer::new(down, choice.trust);
    assert_eq!(down.pack(json, content), sent, "its proof");
    established(&mut server, choice, true);
    talk(&mut server, down, after(up, choice.trust));
}

fuzz_target!(|input: Input| {
    // Rates say something of their own.
    let config = input.settings.config().message_rate(None).byte_rate(None);
    let config = Arc::new(config);
    let ext = input
        .ext
        .as_ref()
        .map_or(String::new(), |ext| format!(", \"ext\": {}", ext.to_text()));
    if ext.len() > 60_000 {
        return;
    }
    if input.server {
        server(&input, &config, &ext);
    } else {
        client(&input, &config, &ext);
    }
});

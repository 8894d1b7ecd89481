//! Who gets a session with whom, and what both know of each other then (PROTOCOL.md §4.7).

mod support;

use chat_core::frame::{FrameError, FrameKind, HeaderFault};
use chat_core::{
    CloseReason, Config, Connection, Event, Identity, Key, Message, ProtocolError, Role, Security,
    State,
};
use std::sync::Arc;

use support::chunk::{every_extension, greeting_json};
use support::sec::{Keys, hello, hex, key_id, mend};
use support::{
    FOREIGN, Pair, SESSION, START, Solo, encode, frame, header_json, kinds, no_timers, raw_frame,
};

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const MAC: CloseReason = CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac));
const INSECURE: CloseReason = CloseReason::Protocol(ProtocolError::Insecure);
/// What an end that demands `sec` says to one that has none.
const DEMANDED: &str = "This end demands the extension sec";

const OWN: &[u8] = b"the key of the server itself, 32";
const ALICE: &[u8] = b"a key that the server has for her";
const STRANGER: &[u8] = b"a key that nobody here has heard of";

/// Whose key a client holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// That of the server itself.
    Own,
    /// One that the server knows by a name.
    Named,
    /// Another one.
    Unknown,
}

impl Holds {
    fn key(self) -> Key {
        Key::new(match self {
            Self::Own => OWN,
            Self::Named => ALICE,
            Self::Unknown => STRANGER,
        })
    }
}

/// What one end is set to.
#[derive(Clone, Copy, Debug)]
struct Setting {
    sec: bool,
    least: Option<Security>,
}

impl Setting {
    fn all() -> Vec<Self> {
        let levels = [None, Some(Security::Legacy), Some(Security::Sec)];
        let of = |sec| levels.map(|least| Self { sec, least });
        [of(false), of(true)].concat()
    }

    fn config(self, key: Key) -> Config {
        let config = Config::new(key).sec(self.sec).heartbeat(None);
        match self.least {
            None => config,
            Some(least) => config.min_security(least),
        }
    }

    fn demands(self) -> bool {
        self.least == Some(Security::Sec)
    }
}

/// How it ends at the client and at the server; `None`: they have a session, of this security.
enum Outcome {
    Session(Security),
    Ends(Vec<Event>, CloseReason),
}

fn expected(client: Setting, server: Setting, holds: Holds) -> Outcome {
    let eof = CloseReason::Eof { mid_frame: false };
    let goodbye = || CloseReason::Peer {
        reason: DEMANDED.into(),
    };
    let closed = |reason| vec![Event::Closed(reason)];
    if client.sec && server.sec {
        return match holds {
            Holds::Own | Holds::Named => Outcome::Session(Security::Sec),
            Holds::Unknown => {
                let unknown = ProtocolError::UnknownKey(holds.key().id());
                Outcome::Ends(
                    closed(CloseReason::Unproven),
                    CloseReason::Protocol(unknown),
                )
            }
        };
    }
    // A client of version 1 needs the key of the server itself.
    if holds != Holds::Own {
        return Outcome::Ends(closed(MAC), eof);
    }
    if client.demands() {
        return Outcome::Ends(closed(INSECURE), goodbye());
    }
    if server.demands() {
        let heard = vec![
            Event::Established { session: SESSION },
            Event::Error(DEMANDED.to_owned()),
            Event::Closed(goodbye()),
        ];
        return Outcome::Ends(heard, INSECURE);
    }
    Outcome::Session(Security::Legacy)
}

#[test]
fn settings_and_keys_lead_to_what_they_should() {
    let mut sessions = [0, 0];
    let mut rows = 0;
    for client in Setting::all() {
        for server in Setting::all() {
            for holds in [Holds::Own, Holds::Named, Holds::Unknown] {
                let row = format!("{client:?}, {holds:?} / {server:?}");
                let config = server
                    .config(Key::new(OWN))
                    .identity("alice", Key::new(ALICE));
                let mut pair = Pair::with(client.config(holds.key()), config);
                pair.settle();
                rows += 1;
                match expected(client, server, holds) {
                    Outcome::Session(security) => {
                        sessions[security as usize] += 1;
                        has_session(&mut pair, security, holds, &row);
                    }
                    Outcome::Ends(at_client, at_server) => {
                        assert_eq!(pair.client.events, at_client, "{row}");
                        assert_eq!(pair.server.events, [Event::Closed(at_server)], "{row}");
                        assert_eq!(pair.client.connection.identity(), None, "{row}");
                        assert_eq!(pair.server.connection.identity(), None, "{row}");
                    }
                }
            }
        }
    }
    assert_eq!((rows, sessions), (108, [12, 18]));
}

/// Both ends have a session, know each other, and can talk.
fn has_session(pair: &mut Pair, security: Security, holds: Holds, row: &str) {
    let text = Message::text("hello");
    for role in ROLES {
        assert_eq!(pair.send(role, text.clone()), Ok(()), "{row}");
    }
    pair.settle();
    for role in ROLES {
        let end = pair.end(role);
        assert_eq!(end.connection.state(), State::Established, "{row}");
        assert_eq!(end.connection.security(), security, "{row}");
        let heard = [
            Event::Established { session: SESSION },
            Event::Message(text.clone()),
        ];
        assert_eq!(end.events, heard, "{row}");
        let identity = end.connection.identity();
        let name = identity.and_then(Identity::name);
        let key = identity.map(Identity::key);
        let is_named = role == Role::Server && holds == Holds::Named;
        if security == Security::Sec {
            assert_eq!(key, Some(holds.key().id()), "{row}");
            assert_eq!(name, is_named.then_some("alice"), "{row}");
        } else {
            assert_eq!(key, None, "{row}");
        }
    }
}

#[test]
fn a_key_has_the_id_of_the_document_and_the_last_of_its_names() {
    for key in [OWN, ALICE, STRANGER, b"", &[0], &[7; 1_000]] {
        assert_eq!(Key::new(key).id().to_string(), hex(&key_id(key)));
    }
    let config = Config::new(Key::new(OWN))
        .identity("first", Key::new(ALICE))
        .identity("second", Key::new(ALICE))
        .identity("myself", Key::new(OWN));
    for (key, name) in [(ALICE, "second"), (OWN, "myself")] {
        let mut pair = Pair::with(Config::new(Key::new(key)), config.clone());
        pair.settle();
        let identity = pair.server.connection.identity().expect("with sec");
        assert_eq!(identity.name(), Some(name));
        assert_eq!(identity.to_string(), name);
        let of_server = pair.client.connection.identity().expect("with sec");
        assert_eq!(of_server.to_string(), Key::new(key).id().to_string());
    }
}

/// Every set of other extensions: where frames come one at a time they are padded, signed as they are.
#[test]
fn sec_needs_no_other_extension() {
    for bits in 0..64_u32 {
        let config = |bits: u32| {
            no_timers()
                .coalesce(bits & 1 != 0)
                .chunks(bits & 2 != 0)
                .ping_timeout((bits & 4 != 0).then_some(support::secs(9)))
        };
        let mut pair = Pair::with(config(bits), config(bits >> 3));
        pair.settle();
        for role in ROLES {
            assert_eq!(pair.end(role).connection.security(), Security::Sec);
            let message = Message::binary(vec![7; 20_000]);
            assert_eq!(pair.send(role, message.clone()), Ok(()));
            pair.settle();
            assert!(pair.peer(role).messages().eq([&message]), "{bits:06b}");
            let coalesce = bits & 0b1001 == 0b1001;
            let sent = &pair.link(role).sent;
            let padded = sent
                .iter()
                .filter(|it| it.frame.kind != FrameKind::SessionInit);
            let shortest = padded.map(|it| it.len).min().expect("some");
            assert_eq!(shortest < 1024, coalesce, "{bits:06b}: {shortest}");
        }
    }
}

/// A server that has sent its offer, and hears this JSON header, with a right code of version 1.
fn hears(config: Config, ext: &str) -> CloseReason {
    let mut server = Solo::new(Role::Server, config);
    server.sent_bytes();
    let json = greeting_json(Role::Server, ext);
    server.feed_bytes(&raw_frame(json.as_bytes(), b"Session acknowledged"));
    assert_eq!(server.sent_bytes(), [[0; 0]; 0], "it says nothing");
    server.closed()
}

const NONCE: &str = "0101010101010101010101010101010101010101010101010101010101010101";

#[test]
fn a_choice_that_makes_no_sense_ends_the_handshake() {
    let fault = FrameError::HeaderJson(HeaderFault::BadExtension);
    let bad_extension = CloseReason::Protocol(fault.into());
    let key = Key::default().id();
    let short = &NONCE[2..];
    let odd = &NONCE[1..];
    for sec in [
        "{}".to_owned(),
        "true".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        format!("\"{NONCE}\""),
        format!("{{\"nonce\": \"{NONCE}\"}}"),
        format!("{{\"nonce\": \"{NONCE}\", \"key\": null}}"),
        format!("{{\"nonce\": \"{NONCE}\", \"key\": \"\"}}"),
        format!("{{\"nonce\": \"{NONCE}\", \"key\": 1}}"),
        format!("{{\"nonce\": \"{NONCE}\", \"key\": \"{key}0\"}}"),
        format!("{{\"nonce\": \"{NONCE}\", \"key\": \"{key}00\"}}"),
        format!("{{\"nonce\": \"{NONCE}\", \"key\": \"0011223344556g77\"}}"),
        format!("{{\"nonce\": \"{NONCE}\", \"key\": \"001122334455é7\"}}"),
        format!("{{\"nonce\": null, \"key\": \"{key}\"}}"),
        format!("{{\"nonce\": \"\", \"key\": \"{key}\"}}"),
        format!("{{\"nonce\": \"{short}\", \"key\": \"{key}\"}}"),
        format!("{{\"nonce\": \"{odd}\", \"key\": \"{key}\"}}"),
        format!("{{\"nonce\": \"{NONCE}00\", \"key\": \"{key}\"}}"),
        format!("{{\"nonce\": \" {odd}\", \"key\": \"{key}\"}}"),
        format!("{{\"nonce\": \"+{odd}\", \"key\": \"{key}\"}}"),
        format!("{{\"nonce\": \"0x{short}\", \"key\": \"{key}\"}}"),
        format!("{{\"nonce\": \"g{odd}\", \"key\": \"{key}\"}}"),
        format!("{{\"key\": \"{key}\"}}"),
    ] {
        let reason = hears(no_timers(), &format!("{{\"sec\": {sec}}}"));
        assert_eq!(reason, bad_extension, "{sec}");
    }
}

#[test]
fn an_offer_that_makes_no_sense_ends_the_handshake() {
    let fault = FrameError::HeaderJson(HeaderFault::BadExtension);
    for sec in ["{}", "1", "{\"nonce\": \"00\"}", "{\"nonce\": 0}"] {
        for shared in [true, false] {
            let mut client = Solo::new(Role::Client, no_timers());
            let json = greeting_json(Role::Client, &format!("{{\"sec\": {sec}}}"));
            let mut raw = raw_frame(json.as_bytes(), b"Session established");
            raw[32] ^= u8::from(!shared);
            client.feed_bytes(&raw);
            let error = if shared { fault } else { FrameError::Mac };
            assert_eq!(
                client.closed(),
                CloseReason::Protocol(error.into()),
                "{sec}"
            );
        }
    }
    // In an offer, a key means nothing; and digits may be of either case.
    let upper = "AB".repeat(32);
    let key = Key::new(STRANGER).id();
    let mut client = Solo::new(Role::Client, no_timers());
    let ext = format!("{{\"sec\": {{\"nonce\": \"{upper}\", \"key\": \"{key}\", \"more\": 1}}}}");
    let json = greeting_json(Role::Client, &ext);
    let init = raw_frame(json.as_bytes(), b"Session established");
    client.feed_bytes(&init);
    assert_eq!(client.connection.state(), State::AwaitProof);
    let ack = client.sent_bytes().concat();
    let mut keys = Keys::new(Key::DEFAULT_BYTES, &init, &ack, b"");
    keys.client.read(&ack);
    let proof = frame(FrameKind::SessionAck, "Session acknowledged");
    client.feed_bytes(&keys.server.frame(&proof));
    assert_eq!(client.connection.security(), Security::Sec);
}

/// A `session_ack` in other words, which are signed as they are.
#[test]
fn a_choice_may_be_written_in_any_way() {
    let upper = NONCE.replace('0', "A");
    let key = Key::default().id().to_string().to_uppercase();
    let ext =
        format!(" {{ \"sec\":{{\"x\":[],\"key\":\"{key}\",\"nonce\":\"{upper}\"}} , \"y\":0 }}");
    let json = greeting_json(Role::Server, &ext).replace(&SESSION.to_string(), &{
        SESSION.to_string().to_uppercase()
    });
    let mut server = Solo::new(Role::Server, no_timers());
    let init = server.sent_bytes().concat();
    let ack = raw_frame(json.as_bytes(), b"anything");
    let mut keys = Keys::new(Key::DEFAULT_BYTES, &init, &ack, b"");
    server.feed_bytes(&keys.client.sign(ack));
    assert_eq!(server.connection.security(), Security::Sec);
    let proof = server.sent_bytes().concat();
    assert_eq!(proof.len(), 1024, "coalesce was not chosen");
    assert_eq!(kinds(&keys.server.read(&proof)), [FrameKind::SessionAck]);
}

/// How a `session_ack` gets its code.
type Sign = fn(Keys, Vec<u8>) -> Vec<u8>;

/// A server, and a `session_ack` for its offer that is right but for what is done to it.
fn acknowledges(
    config: Config,
    key: &[u8],
    change: impl FnOnce(&mut chat_core::frame::Frame),
    sign: impl FnOnce(Keys, Vec<u8>) -> Vec<u8>,
) -> Solo {
    let mut server = Solo::new(Role::Server, config);
    let init = server.sent_bytes().concat();
    let mut ack = hello(Role::Server, every_extension(), &Key::new(key));
    change(&mut ack);
    let raw = encode(&ack);
    let keys = Keys::new(key, &init, &raw, b"");
    server.feed_bytes(&sign(keys, raw));
    server
}

#[test]
fn only_the_code_of_the_client_s_first_frame_is_taken() {
    let default = Key::DEFAULT_BYTES;
    let right = |mut keys: Keys, raw| keys.client.sign(raw);
    let mut server = acknowledges(no_timers(), default, |_| {}, right);
    assert_eq!(server.connection.state(), State::Established);
    assert_eq!(server.events(), [Event::Established { session: SESSION }]);
    let wrong: [Sign; 5] = [
        |mut keys, raw| keys.server.sign(raw),
        |mut keys, raw| {
            keys.client.sequence = 1;
            keys.client.sign(raw)
        },
        |mut keys, raw| {
            keys.client.key[31] ^= 1;
            keys.client.sign(raw)
        },
        // As version 1 would.
        |_, raw| raw,
        |_, mut raw| {
            raw[32..64].fill(0);
            raw
        },
    ];
    for sign in wrong {
        let mut server = acknowledges(no_timers(), default, |_| {}, sign);
        assert_eq!(server.closed(), MAC);
        assert_eq!(server.sent_bytes(), [[0; 0]; 0], "it says nothing");
        assert_eq!(server.connection.identity(), None);
    }
    // The id of a key that is known, and the code of another.
    let config = no_timers().identity("alice", Key::new(ALICE));
    let claims = |ack: &mut chat_core::frame::Frame| {
        *ack = hello(Role::Server, every_extension(), &Key::new(ALICE));
    };
    assert_eq!(acknowledges(config, default, claims, right).closed(), MAC);
    // One that is not.
    let unknown = ProtocolError::UnknownKey(Key::new(STRANGER).id());
    let mut server = acknowledges(no_timers(), STRANGER, |_| {}, right);
    assert_eq!(server.closed(), CloseReason::Protocol(unknown));
    assert_eq!(server.sent_bytes(), [[0; 0]; 0], "it says nothing");
}

/// What else a `session_ack` has to be is looked at only after its code.
#[test]
fn a_right_code_does_not_make_a_session_ack_right() {
    let right = |mut keys: Keys, raw| keys.client.sign(raw);
    let unsigned = |_: Keys, raw| raw;
    let foreign = |session| move |ack: &mut chat_core::frame::Frame| ack.session = session;
    for session in [None, Some(FOREIGN)] {
        let mut server = acknowledges(no_timers(), Key::DEFAULT_BYTES, foreign(session), right);
        let error = ProtocolError::WrongSession(FrameKind::SessionAck);
        assert_eq!(server.closed(), CloseReason::Protocol(error));
        assert_eq!(server.sent_bytes(), [[0; 0]; 0], "it says nothing");
        let mut server = acknowledges(no_timers(), Key::DEFAULT_BYTES, foreign(session), unsigned);
        assert_eq!(server.closed(), MAC);
    }
    let config = no_timers().chunks(false);
    let mut server = acknowledges(config, Key::DEFAULT_BYTES, |_| {}, right);
    let not_offered = CloseReason::Protocol(ProtocolError::NotOffered);
    assert_eq!(server.closed(), not_offered);
}

#[test]
fn sec_cannot_be_chosen_where_it_was_not_offered() {
    let key = Key::default().id();
    let sec = format!("{{\"sec\": {{\"nonce\": \"{NONCE}\", \"key\": \"{key}\"}}}}");
    for config in [no_timers().sec(false), no_timers().version_1()] {
        let not_offered = CloseReason::Protocol(ProtocolError::NotOffered);
        assert_eq!(hears(config, &sec), not_offered);
    }
    // Offered, chosen, and signed as version 1 does: the choice says that the code is another.
    assert_eq!(hears(no_timers(), &sec), MAC);
}

/// The server's own key signs its offer; who chooses `sec` holds another, perhaps.
#[test]
fn only_a_session_init_that_offers_sec_may_have_the_code_of_another_key() {
    let stranger = |frame: &chat_core::frame::Frame| {
        let mut raw = encode(frame);
        raw[32..64].fill(0x5a);
        raw
    };
    let offer = hello(Role::Client, every_extension(), &Key::default());
    for config in [no_timers(), no_timers().min_security(Security::Sec)] {
        let mut client = Solo::new(Role::Client, config);
        client.feed_bytes(&stranger(&offer));
        assert_eq!(client.connection.state(), State::AwaitProof);
    }
    let mut without_id = offer.clone();
    without_id.session = None;
    let mut tried = vec![without_id];
    tried.push(support::chunk::greeting(Role::Client, every_extension()));
    tried.extend(FrameKind::ALL.map(|kind| frame(kind, "payload")));
    for frame in tried {
        let mut client = Solo::new(Role::Client, no_timers());
        client.feed_bytes(&stranger(&frame));
        let error = match frame.kind {
            FrameKind::Error => ProtocolError::UnverifiedRefusal,
            _ => FrameError::Mac.into(),
        };
        assert_eq!(
            client.closed(),
            CloseReason::Protocol(error),
            "{}",
            frame.kind
        );
        assert_eq!(client.sent_bytes(), [[0; 0]; 0], "it says nothing");
    }
    let mut client = Solo::new(Role::Client, no_timers().sec(false));
    client.feed_bytes(&stranger(&offer));
    assert_eq!(client.closed(), MAC);
    // Damage is damage.
    let mut damaged = stranger(&offer);
    damaged[100] ^= 1;
    let mut client = Solo::new(Role::Client, no_timers());
    client.feed_bytes(&damaged);
    let crc = CloseReason::Protocol(FrameError::HeaderCrc.into());
    assert_eq!(client.closed(), crc);
    mend(&mut damaged);
    assert_ne!(header_json(&damaged), header_json(&encode(&offer)));
}

/// A reason is believed if it comes from a holder of the key.
#[test]
fn a_refusal_is_believed_from_whoever_holds_the_key() {
    let refuse = |key| {
        let config = Arc::new(Config::new(Key::new(key)));
        Solo::of(Connection::refuse(config, "full", START))
            .sent_bytes()
            .concat()
    };
    for sec in [true, false] {
        let mut client = Solo::new(Role::Client, no_timers().sec(sec));
        client.feed_bytes(&refuse(Key::DEFAULT_BYTES));
        let reason = "full".into();
        assert_eq!(client.closed(), CloseReason::Refused { reason });
        let mut client = Solo::new(Role::Client, no_timers().sec(sec));
        client.feed_bytes(&refuse(STRANGER));
        let unverified = CloseReason::Protocol(ProtocolError::UnverifiedRefusal);
        assert_eq!(client.closed(), if sec { unverified } else { MAC });
    }
}

/// An end that demands `sec` says so to a holder of the key, and to nobody else.
#[test]
fn who_is_turned_away_for_having_no_sec_is_told_why() {
    let strict = || no_timers().min_security(Security::Sec);
    for config in [strict(), strict().sec(false)] {
        let mut server = Solo::new(Role::Server, config.clone());
        server.sent();
        server.feed(&frame(FrameKind::SessionAck, "Session acknowledged"));
        let bytes = server.sent_bytes();
        assert!(bytes.iter().all(|frame| frame.len() >= 1024), "padded");
        let told = support::whole(&bytes.concat()).frames;
        assert_eq!(kinds(&told), [FrameKind::Error, FrameKind::Disconnect]);
        assert!(told.iter().all(|frame| frame.session == Some(SESSION)));
        assert_eq!(told[0].content, DEMANDED);
        server.connection.handle_eof(START);
        assert_eq!(server.closed(), INSECURE, "and no Established");

        let mut client = Solo::new(Role::Client, config);
        client.feed(&frame(FrameKind::SessionInit, "Session established"));
        let bytes = client.sent_bytes();
        assert!(bytes.iter().all(|frame| frame.len() >= 1024), "padded");
        let told = support::whole(&bytes.concat()).frames;
        assert_eq!(kinds(&told), [FrameKind::Disconnect]);
        assert_eq!(told[0].session, Some(SESSION));
        client.connection.handle_eof(START);
        assert_eq!(client.closed(), INSECURE, "and no Established");
    }
    let mut server = Solo::new(Role::Server, strict());
    server.sent();
    let mut unsigned = encode(&frame(FrameKind::SessionAck, "Session acknowledged"));
    unsigned[40] ^= 1;
    server.feed_bytes(&unsigned);
    assert_eq!(server.sent_bytes(), [[0; 0]; 0], "it says nothing");
    assert_eq!(server.closed(), MAC);
}

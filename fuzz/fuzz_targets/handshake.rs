//! A client and a server with `sec`, and somebody on the way who changes what they send and does not
//! hold their key: they agree on the same or on nothing, and take nothing of anybody else's.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use chat_core::frame::{Encoder, Extra, Frame, FrameKind};
use chat_core::{Config, Connection, Entropy, Event, Instant, Key, Message, Security, State, Uuid};
use chat_fuzz::settings::Sec;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    /// Which of the keys the client holds.
    client_key: u8,
    /// Which of them the server knows, beside its own.
    known: u8,
    client: Setting,
    server: Setting,
    edits: Vec<Edit>,
}

#[derive(Arbitrary, Debug)]
struct Setting {
    sec: Sec,
    demands: bool,
    coalesce: bool,
    chunks: bool,
    binding: bool,
}

/// Something is done to a frame on its way.
#[derive(Arbitrary, Debug)]
struct Edit {
    down: bool,
    /// Of all that go in this direction.
    nth: u8,
    how: How,
}

#[derive(Arbitrary, Debug)]
enum How {
    Flip {
        bit: u32,
        mend: bool,
    },
    Put {
        at: u16,
        bytes: Vec<u8>,
        mend: bool,
    },
    Cut(u16),
    Drop,
    Again,
    /// An earlier frame of this direction, or of the other, in front of it.
    Replay {
        nth: u8,
        other_way: bool,
    },
    Bytes(Vec<u8>),
    /// A frame under a key that neither end holds.
    Forge {
        kind: u8,
        session: bool,
        content: Vec<u8>,
    },
    /// What another server, or another client, would have sent.
    Stranger,
}

/// What an edit may do unnoticed where frames have no codes, from the least to the worst (PROTOCOL.md
/// §4.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    /// It is noticed.
    None,
    /// Frames are left out, come twice, or in another place, be it the wrong direction.
    Moved,
    /// Frames are anybody's.
    Forged,
}

impl Edit {
    fn harm(&self) -> Harm {
        // These have codes always.
        if self.nth == 0 || self.down && self.nth == 1 {
            return Harm::None;
        }
        match self.how {
            How::Flip { mend: false, .. } | How::Cut(1..) | How::Forge { .. } => Harm::None,
            How::Cut(0) | How::Drop | How::Again | How::Replay { .. } | How::Stranger => {
                Harm::Moved
            }
            How::Flip { mend: true, .. } | How::Put { .. } | How::Bytes(_) => Harm::Forged,
        }
    }
}

const SESSION: Uuid = Uuid::from_u128(1);
const KEYS: [&[u8]; 4] = [b"of the server", b"of alice", b"of bob", b"of nobody"];
const NOW: Instant = Instant::EPOCH;
const ROUNDS: usize = 8;

/// One end, and what went on at it.
struct End {
    connection: Connection,
    established: bool,
    closed: bool,
    received: Vec<Message>,
    queued: Vec<Message>,
    /// What left and what arrived.
    sent: Vec<Vec<u8>>,
    arrived: Vec<u8>,
}

impl End {
    fn new(connection: Connection, binding: bool) -> Self {
        let mut end = Self {
            connection,
            established: false,
            closed: false,
            received: Vec::new(),
            queued: Vec::new(),
            sent: Vec::new(),
            arrived: Vec::new(),
        };
        if binding {
            end.connection.set_channel_binding(b"the channel");
        }
        end
    }

    /// Everything that it has to send, frame by frame.
    fn transmit(&mut self) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let mut parts = [&[][..]; 2];
            let count = self.connection.poll_transmit(&mut parts);
            if count == 0 {
                break;
            }
            let shown = parts[..count].concat();
            self.connection.consume_transmit(NOW, shown.len());
            bytes.extend(shown);
        }
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let rest = bytes.split_off(length(&bytes));
            frames.push(core::mem::replace(&mut bytes, rest));
        }
        self.sent.extend(frames.iter().cloned());
        frames
    }

    fn take(&mut self, bytes: &[u8]) {
        self.arrived.extend(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.connection.handle_input(NOW, rest);
            rest = &rest[taken..];
            let before = self.received.len();
            self.poll();
            assert!(taken > 0 || self.received.len() > before, "stuck");
        }
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            assert!(!self.closed, "an event after the last: {event:?}");
            match event {
                Event::Established { .. } => self.established = true,
                Event::Message(message) => self.received.push(message),
                Event::Closed(_) => self.closed = true,
                _ => {}
            }
            assert!(self.established || self.received.is_empty());
        }
    }

    fn say(&mut self, round: usize) {
        let len = if round % 3 == 2 { 9_000 } else { 10 + round };
        let message = Message::binary(vec![round as u8; len]);
        match self.connection.send(NOW, message.clone()) {
            Ok(()) => {
                assert!(self.established, "sent before there is a session");
                self.queued.push(message);
            }
            Err(error) => assert_eq!(error.into_message(), message),
        }
    }

    fn is_sec(&self) -> bool {
        self.established && self.connection.security() == Security::Sec
    }

    fn is_trusted(&self) -> bool {
        self.established && self.connection.peer_extensions().trust
    }
}

/// The length of a frame that was sent.
fn length(bytes: &[u8]) -> usize {
    let number = |range: core::ops::Range<usize>| {
        let digits = bytes[range].iter();
        digits.fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    64 + number(12..16) + number(20..28)
}

/// Makes the checksums right, as far as there is what they are of.
fn mend(raw: &mut [u8]) {
    if raw.len() < 64 {
        return;
    }
    let json = u32::from_be_bytes([raw[12], raw[13], raw[14], raw[15]]) as usize;
    let border = json.saturating_add(64).min(raw.len());
    let [header, content] = [crc(&raw[64..border]), crc(&raw[border..])];
    raw[16..20].copy_from_slice(&header.to_be_bytes());
    raw[28..32].copy_from_slice(&content.to_be_bytes());
}

/// CRC-32 as PROTOCOL.md §2.1 describes it.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    !crc
}

fn config(setting: &Setting, key: &[u8]) -> Config {
    let config = Config::new(Key::new(key))
        .sec(setting.sec.is_on())
        .trust_channel(setting.sec.trusts())
        .coalesce(setting.coalesce)
        .chunks(setting.chunks)
        .heartbeat(None);
    if setting.demands {
        config.min_security(Security::Sec)
    } else {
        config
    }
}

/// What becomes of a frame on its way.
fn edit(input: &Input, down: bool, nth: usize, frame: &[u8], ways: [&[Vec<u8>]; 2]) -> Vec<u8> {
    let mut raw = frame.to_vec();
    let mut out = Vec::new();
    let is_meant = |edit: &&Edit| edit.down == down && usize::from(edit.nth) == nth;
    for edit in input.edits.iter().filter(is_meant) {
        match &edit.how {
            How::Flip { bit, mend: mends } if !raw.is_empty() => {
                let bit = *bit as usize % (8 * raw.len());
                raw[bit / 8] ^= 1 << (bit % 8);
                if *mends {
                    mend(&mut raw);
                }
            }
            How::Put {
                at,
                bytes,
                mend: mends,
            } => {
                for (place, byte) in raw.iter_mut().skip(usize::from(*at)).zip(bytes) {
                    *place = *byte;
                }
                if *mends {
                    mend(&mut raw);
                }
            }
            How::Cut(len) => raw.truncate(usize::from(*len)),
            How::Drop => raw.clear(),
            How::Again => out.extend(&raw),
            How::Replay { nth, other_way } => {
                let way = ways[usize::from(down != *other_way)];
                if let Some(earlier) = way.get(usize::from(*nth)) {
                    out.extend(earlier);
                }
            }
            How::Bytes(bytes) => out.extend(bytes),
            How::Forge {
                kind,
                session,
                content,
            } => {
                let forged = Frame {
                    kind: FrameKind::ALL[usize::from(*kind) % FrameKind::ALL.len()],
                    content_type: "text/plain".into(),
                    session: session.then_some(SESSION),
                    content: content.clone().into(),
                    extra: Extra::None,
                };
                let encoded = Encoder::new(Key::new(b"of the one on the way")).encode(&forged, 0);
                out.extend(encoded.map_or_else(|_| Vec::new(), |encoded| encoded.to_vec()));
            }
            How::Stranger => {
                let stranger = Config::new(Key::new(b"of the one on the way"));
                let entropy = Entropy::new([9; 32]);
                let mut other = if down {
                    Connection::server(Arc::new(stranger), SESSION, entropy, NOW)
                } else {
                    let mut client = Connection::client(Arc::new(stranger), entropy, NOW);
                    client.handle_input(NOW, &ways[1].concat());
                    client
                };
                let mut parts = [&[][..]; 2];
                let count = other.poll_transmit(&mut parts);
                raw = parts[..count].concat();
                let len = raw.len();
                other.consume_transmit(NOW, len);
            }
            How::Flip { .. } => {}
        }
    }
    out.extend(raw);
    out
}

fuzz_target!(|input: Input| {
    let client_key = usize::from(input.client_key) % KEYS.len();
    let client = config(&input.client, KEYS[client_key]);
    let mut server = config(&input.server, KEYS[0]);
    for (nth, key) in KEYS.iter().enumerate().take(3).skip(1) {
        if input.known >> nth & 1 == 1 {
            server = server.identity("known", Key::new(key));
        }
    }
    let is_known = client_key == 0 || client_key < 3 && input.known >> client_key & 1 == 1;
    let client = Connection::client(Arc::new(client), Entropy::new([1; 32]), NOW);
    let server = Connection::server(Arc::new(server), SESSION, Entropy::new([2; 32]), NOW);
    let mut client = End::new(client, input.client.binding);
    let mut server = End::new(server, input.server.binding);
    let (mut nth_up, mut nth_down) = (0, 0);

    for round in 0..ROUNDS {
        for (down, nth) in [(true, &mut nth_down), (false, &mut nth_up)] {
            let (from, to) = if down {
                (&mut server, &mut client)
            } else {
                (&mut client, &mut server)
            };
            from.say(round);
            for frame in from.transmit() {
                let ways = if down {
                    [&to.sent[..], &from.sent[..]]
                } else {
                    [&from.sent[..], &to.sent[..]]
                };
                let arriving = edit(&input, down, *nth, &frame, ways);
                *nth += 1;
                to.take(&arriving);
            }
        }
        check(&input, &client, &server, is_known, client_key == 0);
    }
    for end in [&mut client, &mut server] {
        end.connection.handle_eof(NOW);
        end.transmit();
        end.connection.handle_eof(NOW);
        end.poll();
        assert_eq!(end.closed, end.connection.state() == State::Closed);
    }
    // Without anybody on the way it is as the settings say.
    if input.edits.is_empty() && input.client.sec.is_on() && input.server.sec.is_on() {
        let is_sec = is_known && input.client.binding == input.server.binding;
        assert_eq!([client.is_sec(), server.is_sec()], [is_sec; 2]);
        let is_trusted = is_sec && input.client.sec.trusts() && input.server.sec.trusts();
        assert_eq!([client.is_trusted(), server.is_trusted()], [is_trusted; 2]);
        assert!(!is_sec || client.received == server.queued && server.received == client.queued);
    }
});

/// What holds at every time, whoever is on the way.
fn check(input: &Input, client: &End, server: &End, is_known: bool, is_own: bool) {
    let both = input.client.sec.is_on() && input.server.sec.is_on();
    let trusts = input.client.sec.trusts() && input.server.sec.trusts();
    let worst = input.edits.iter().map(Edit::harm).max();
    for (end, peer, demands) in [
        (client, server, input.client.demands),
        (server, client, input.server.demands),
    ] {
        let is_sec = end.is_sec();
        assert!(!is_sec || is_known && both, "without the key");
        assert!(
            !end.established || is_sec || is_own,
            "version 1 without the key"
        );
        assert!(!end.established || is_sec || !demands, "less than demanded");
        assert!(!end.is_trusted() || is_sec && trusts, "not told to trust");
        // Version 1: by somebody with the key, be it this end itself.
        let sent = |message| peer.queued.contains(message) || end.queued.contains(message);
        let harm = worst.filter(|_| end.is_trusted());
        if harm == Some(Harm::Forged) {
            // Nothing says who made it.
        } else if is_sec && harm != Some(Harm::Moved) {
            let count = end.received.len();
            assert!(count <= peer.queued.len());
            assert_eq!(
                end.received,
                peer.queued[..count],
                "not what was sent, in its order"
            );
        } else {
            assert!(end.received.iter().all(sent), "not what was sent");
        }
    }
    if client.is_sec() {
        assert!(server.is_sec(), "a proof of nobody");
        assert_eq!(client.is_trusted(), server.is_trusted());
    }
    if server.is_sec() {
        // Both ends have seen the same, whatever came between.
        let [init, ack] = [&server.sent[0], &client.sent[0]];
        assert!(client.arrived.starts_with(init), "another session_init");
        assert!(server.arrived.starts_with(ack), "another session_ack");
        assert_eq!(input.client.binding, input.server.binding);
    }
}

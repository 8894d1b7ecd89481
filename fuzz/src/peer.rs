//! The other end of a connection, made by hand: it holds the key, and says whatever it likes.

use arbitrary::Arbitrary;
use chat_core::frame::FrameKind;
use chat_core::{Connection, Instant, Role, Uuid};

use crate::json::{Json, Style, Text};
use crate::offer::KEY_ID;
use crate::oracle;
use crate::sec::{directions, nonce, trusts};
use crate::settings::Sec;
use crate::wire::{KEY, Signer, parts, split_frames, unsigned};

/// The session that servers begin.
pub const SESSION: Uuid = Uuid::from_u128(1);
const STRANGER: Uuid = Uuid::from_u128(2);
/// The nonce of the one made by hand.
const NONCE: [u8; 32] = [9; 32];

/// What it takes part in, with its numbers.
#[derive(Arbitrary, Clone, Debug)]
pub struct Wish {
    content: Option<u16>,
    coalesce: bool,
    ping: Option<u16>,
    chunk: Option<ChunkWish>,
    sec: Sec,
}

#[derive(Arbitrary, Clone, Debug)]
struct ChunkWish {
    size: u16,
    window: u16,
    transfers: u8,
    message: Option<u32>,
}

/// A frame of its, right as a frame, whatever it says.
#[derive(Arbitrary, Clone, Debug)]
pub struct Said {
    session: Session,
    what: What,
}

#[derive(Arbitrary, Clone, Debug)]
enum Session {
    Own,
    AlsoOwn,
    Mine,
    None,
    Foreign,
}

#[derive(Arbitrary, Clone, Debug)]
enum What {
    Message {
        text: bool,
        len: u16,
    },
    Ping,
    Pong,
    Error(String),
    Disconnect(String),
    Begin {
        id: u8,
        total: Option<u32>,
        named: bool,
    },
    Data {
        id: u8,
        offset: u32,
        len: u16,
        text: bool,
    },
    End {
        id: u8,
        offset: u32,
    },
    Window {
        id: u8,
        bytes: u32,
    },
    Done {
        id: u8,
    },
    GiveUp {
        id: u8,
    },
    /// Any kind, with something in `ext` or `chunk`.
    Odd {
        kind: u8,
        key: u8,
        value: Json,
        content: Vec<u8>,
    },
    /// The whole header is anything.
    Header {
        header: Json,
        content: Vec<u8>,
    },
}

/// The end made by hand.
pub struct Peer {
    /// What it signs with.
    pub signer: Signer,
    /// How the connection signs.
    listens: Signer,
    /// What the connection has sent of a frame.
    partial: Vec<u8>,
    /// The last JSON header and content of the connection's.
    pub heard: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            signer: Signer::Shared(KEY),
            listens: Signer::Shared(KEY),
            partial: Vec::new(),
            heard: Vec::new(),
        }
    }
}

/// The JSON header of a frame; `extra` begins with a comma if it is not empty.
pub fn header(kind: FrameKind, content_type: &str, session: Option<Uuid>, extra: &str) -> String {
    let id = session.map_or("null".to_owned(), |id| format!("\"{id}\""));
    format!(
        "{{\"type\": \"{kind}\", \"content_type\": \"{content_type}\", \"session_id\": {id}{extra}}}"
    )
}

/// Everything that a connection has to send, as far as `most` goes.
pub fn transmit(connection: &mut Connection, now: Instant, mut most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while most > 0 {
        let mut parts = [&[][..]; 6];
        let count = connection.poll_transmit(&mut parts);
        let mut shown = parts[..count].concat();
        shown.truncate(most);
        if shown.is_empty() {
            break;
        }
        connection.consume_transmit(now, shown.len());
        most -= shown.len();
        bytes.extend(shown);
    }
    bytes
}

impl Wish {
    /// What it offers, or what it chooses of an offer; and whether `sec` is part of that.
    fn ext(&self, offer: Option<&[u8]>) -> (String, bool) {
        let offer = offer.map(|json| serde_json::from_slice::<serde_json::Value>(json));
        let is_offered = |name: &&str| match &offer {
            None => true,
            Some(init) => init.as_ref().is_ok_and(|init| !init["ext"][name].is_null()),
        };
        let sec = self.sec.is_on() && is_offered(&"sec");
        let mut members = Vec::new();
        if let Some(bytes) = self.content.filter(|_| is_offered(&"limits")) {
            members.push(format!("\"limits\": {{\"content\": {}}}", bytes.max(1)));
        }
        if self.coalesce && is_offered(&"coalesce") {
            members.push("\"coalesce\": {}".to_owned());
        }
        if let Some(millis) = self.ping.filter(|_| is_offered(&"ping")) {
            members.push(format!("\"ping\": {{\"timeout\": {}}}", millis.max(3000)));
        }
        if let Some(chunk) = self.chunk.as_ref().filter(|_| is_offered(&"chunk")) {
            let size = chunk.size.max(1024);
            let window = chunk.window.max(size).max(4096);
            let transfers = chunk.transfers.max(1);
            let message = chunk
                .message
                .map_or("null".into(), |most| most.max(1).to_string());
            members.push(format!(
                "\"chunk\": {{\"size\": {size}, \"window\": {window}, \"transfers\": {transfers}, \"message\": {message}}}"
            ));
        }
        if sec {
            let digits = hex(&NONCE);
            let key = if offer.is_some() {
                format!(", \"key\": \"{KEY_ID}\"")
            } else {
                String::new()
            };
            members.push(format!("\"sec\": {{\"nonce\": \"{digits}\"{key}}}"));
        }
        if sec && self.sec.trusts() && is_offered(&"trust") {
            members.push("\"trust\": {}".to_owned());
        }
        if members.is_empty() {
            return (String::new(), false);
        }
        (format!(", \"ext\": {{{}}}", members.join(", ")), sec)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Peer {
    /// Begins a session with a connection as it should be begun. Also what it said.
    pub fn greet(connection: &mut Connection, now: Instant, wish: &Wish) -> (Self, Vec<u8>) {
        let mut peer = Self::default();
        let mut said = Vec::new();
        if connection.role() == Role::Server {
            let init = transmit(connection, now, usize::MAX);
            let (json, _) = parts(&init);
            let (ext, sec) = wish.ext(Some(json));
            let json_of_ack = header(
                FrameKind::SessionAck,
                "application/octet-stream",
                Some(SESSION),
                &ext,
            );
            let mut ack = unsigned(json_of_ack.as_bytes(), b"x");
            if sec {
                let nonces = [nonce(json).expect("it is offered"), NONCE];
                let [mut mine, theirs] = directions(KEY, &init, &ack, nonces);
                let code = mine.next(&ack);
                ack[32..64].copy_from_slice(&code);
                let trusted = trusts(json_of_ack.as_bytes());
                peer.signer = if trusted {
                    Signer::Trusted
                } else {
                    Signer::Session(mine)
                };
                peer.listens = Signer::new(theirs, trusted);
                said.extend(&ack);
            } else {
                said.extend(peer.signer.pack(json_of_ack.as_bytes(), b"x"));
            }
        } else {
            let (ext, _) = wish.ext(None);
            let json = header(
                FrameKind::SessionInit,
                "application/octet-stream",
                Some(SESSION),
                &ext,
            );
            let init = peer.signer.pack(json.as_bytes(), b"x");
            connection.handle_input(now, &init);
            let ack = transmit(connection, now, usize::MAX);
            said.extend(&init);
            let (frames, _) = split_frames(&ack);
            let chosen = frames.first().and_then(|ack| nonce(parts(ack).0));
            if let Some(chosen) = chosen.filter(|_| frames.len() == 1) {
                let [mut theirs, mine] = directions(KEY, &init, &ack, [NONCE, chosen]);
                assert_eq!(
                    ack[32..64],
                    theirs.next(&ack),
                    "it signs its session_ack wrong"
                );
                let trusted = trusts(parts(&ack).0);
                peer.signer = Signer::new(mine, trusted);
                peer.listens = if trusted {
                    Signer::Trusted
                } else {
                    Signer::Session(theirs)
                };
                let proof = peer.say_ack();
                connection.handle_input(now, &proof);
                said.extend(proof);
            }
            return (peer, said);
        }
        connection.handle_input(now, &said);
        (peer, said)
    }

    fn say_ack(&mut self) -> Vec<u8> {
        let json = header(
            FrameKind::SessionAck,
            "application/octet-stream",
            Some(SESSION),
            "",
        );
        self.signer.pack(json.as_bytes(), b"x")
    }

    /// The bytes of a frame.
    pub fn say(&mut self, said: &Said) -> Vec<u8> {
        let session = match said.session {
            Session::Own | Session::AlsoOwn | Session::Mine => Some(SESSION),
            Session::None => None,
            Session::Foreign => Some(STRANGER),
        };
        let (kind, text, extra, content) = said.what.parts();
        let content_type = if text {
            "text/plain; charset=utf-8"
        } else {
            "application/octet-stream"
        };
        let json = match &said.what {
            What::Header { header, .. } => header.to_text(Style::Usual),
            _ => header(kind, content_type, session, &extra),
        };
        self.signer.pack(json.as_bytes(), &content)
    }

    /// Takes what a connection sends: frames that are right in every way, one after the other.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.partial.extend(bytes);
        let (frames, rest) = split_frames(&self.partial);
        for frame in frames {
            let (json, content) = parts(frame);
            assert!(oracle::read(json).is_some(), "it sends a wrong header");
            assert_eq!(
                self.listens.pack(json, content),
                frame,
                "it sends a wrong frame"
            );
            self.heard.push((json.to_vec(), content.to_vec()));
        }
        self.partial = rest.to_vec();
    }
}

impl Said {
    /// How many bytes of a transfer it brings.
    pub fn data_len(&self) -> usize {
        match self.what {
            What::Data { len, .. } => len.into(),
            _ => 0,
        }
    }
}

impl What {
    /// The kind, whether the content is called text, what else the header says, and the content.
    fn parts(&self) -> (FrameKind, bool, String, Vec<u8>) {
        let chunk = |id: &u8, op: &str, rest: String| {
            let kind = FrameKind::Chunk;
            let extra = format!(", \"chunk\": {{\"id\": {id}, \"op\": \"{op}\"{rest}}}");
            (kind, false, extra, op.as_bytes().to_vec())
        };
        let plain = |kind, content: &[u8]| (kind, false, String::new(), content.to_vec());
        match self {
            Self::Message { text, len } => {
                let content = vec![b'm'; usize::from(*len)];
                (FrameKind::Message, *text, String::new(), content)
            }
            Self::Ping => plain(FrameKind::Heartbeat, b"ping"),
            Self::Pong => plain(FrameKind::Heartbeat, b"pong"),
            Self::Error(text) => plain(FrameKind::Error, text.as_bytes()),
            Self::Disconnect(reason) => {
                let content = serde_json::json!({ "reason": reason }).to_string();
                plain(FrameKind::Disconnect, content.as_bytes())
            }
            Self::Begin { id, total, named } => {
                let mut rest = total.map_or(String::new(), |total| format!(", \"total\": {total}"));
                if *named {
                    rest.push_str(", \"name\": \"a cat.png\"");
                }
                chunk(id, "begin", rest)
            }
            Self::Data {
                id,
                offset,
                len,
                text,
            } => {
                let (kind, _, extra, _) = chunk(id, "data", format!(", \"offset\": {offset}"));
                (kind, *text, extra, vec![b'd'; usize::from(*len)])
            }
            Self::End { id, offset } => chunk(id, "end", format!(", \"offset\": {offset}")),
            Self::Window { id, bytes } => chunk(id, "window", format!(", \"bytes\": {bytes}")),
            Self::Done { id } => chunk(id, "done", String::new()),
            Self::GiveUp { id } => chunk(id, "abort", String::new()),
            Self::Odd {
                kind,
                key,
                value,
                content,
            } => {
                let kind = FrameKind::ALL[usize::from(*kind) % FrameKind::ALL.len()];
                let value = value.to_text(Style::Compact);
                let extra = format!(", \"{}\": {value}", Text::word(*key));
                (kind, false, extra, content.clone())
            }
            Self::Header { content, .. } => plain(FrameKind::Message, content),
        }
    }
}

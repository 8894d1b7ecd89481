//! Arbitrary JSON documents, with the words and the numbers of the protocol more often than not.

use arbitrary::Arbitrary;

/// A JSON value as it is written.
#[derive(Arbitrary, Clone, Debug)]
pub enum Json {
    Null,
    Bool(bool),
    /// A number that is the limit of something.
    Edge(u8, Near),
    Integer(u64),
    Negative(i64),
    Float(f64),
    Text(Text),
    Array(Vec<Json>),
    Object(Vec<(Text, Json)>),
    /// Anything, JSON or not.
    Raw(String),
}

/// A number, or the ones next to it.
#[derive(Arbitrary, Clone, Debug)]
pub enum Near {
    Below,
    At,
    Above,
}

/// A string, and how it is written.
#[derive(Arbitrary, Clone, Debug)]
pub struct Text {
    what: What,
    /// Its first character is escaped although it need not be.
    escaped: bool,
}

#[derive(Arbitrary, Clone, Debug)]
enum What {
    Word(u8),
    Any(String),
    /// So many characters.
    Long(u16),
    /// So many bytes in hexadecimal digits, mostly as many as are asked for.
    Hex(u8, HexLen),
}

#[derive(Arbitrary, Clone, Debug)]
enum HexLen {
    Nonce,
    Key,
    Other(u8),
}

/// White space after each colon and comma.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Style {
    Compact,
    Usual,
    Wide,
}

const WORDS: [&str; 40] = [
    "type",
    "content_type",
    "session_id",
    "ext",
    "chunk",
    "limits",
    "content",
    "coalesce",
    "trust",
    "ping",
    "timeout",
    "size",
    "window",
    "transfers",
    "message",
    "sec",
    "nonce",
    "key",
    "id",
    "op",
    "total",
    "name",
    "offset",
    "bytes",
    "session_init",
    "session_ack",
    "heartbeat",
    "error",
    "disconnect",
    "begin",
    "data",
    "end",
    "done",
    "abort",
    "",
    "text/plain",
    "text/plain; charset=utf-8",
    "00000000-0000-0000-0000-000000000001",
    "38B4E652-e44d-47f2-b70d-9e260e271365",
    "38b4e652e44d47f2b70d9e260e271365",
];

const EDGES: [u64; 10] = [
    1,
    1024,
    3000,
    4096,
    65_536,
    10_485_760,
    1 << 32,
    1 << 53,
    1 << 63,
    u64::MAX - 1,
];

impl Text {
    /// One of the words of the protocol.
    pub fn word(number: u8) -> &'static str {
        WORDS[usize::from(number) % WORDS.len()]
    }

    fn write(&self, out: &mut String) {
        let text = match &self.what {
            What::Word(number) => Self::word(*number).to_owned(),
            What::Any(text) => text.clone(),
            What::Long(len) => "x".repeat(usize::from(*len) % 2048),
            What::Hex(byte, len) => {
                let len = match len {
                    HexLen::Nonce => 32,
                    HexLen::Key => 8,
                    HexLen::Other(len) => usize::from(*len),
                };
                format!("{byte:02x}").repeat(len)
            }
        };
        let first = text.chars().next().filter(|_| self.escaped);
        let rest = &text[first.map_or(0, char::len_utf8)..];
        out.push('"');
        if let Some(first) = first {
            for unit in first.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04X}"));
            }
        }
        let quoted = serde_json::to_string(rest).expect("a string is JSON");
        out.push_str(&quoted[1..]);
    }
}

impl Json {
    /// Appends it as text.
    pub fn write(&self, out: &mut String, style: Style) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(&value.to_string()),
            Self::Edge(which, near) => {
                let edge = EDGES[usize::from(*which) % EDGES.len()];
                let value = match near {
                    Near::Below => edge - 1,
                    Near::At => edge,
                    Near::Above => edge + 1,
                };
                out.push_str(&value.to_string());
            }
            Self::Integer(value) => out.push_str(&value.to_string()),
            Self::Negative(value) => out.push_str(&value.to_string()),
            Self::Float(value) => out.push_str(&format!("{value:e}")),
            Self::Text(text) => text.write(out),
            Self::Raw(text) => out.push_str(text),
            Self::Array(values) => {
                out.push('[');
                for (nth, value) in values.iter().enumerate() {
                    if nth > 0 {
                        style.after(out, ',');
                    }
                    value.write(out, style);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (nth, (key, value)) in members.iter().enumerate() {
                    if nth > 0 {
                        style.after(out, ',');
                    }
                    key.write(out);
                    style.after(out, ':');
                    value.write(out, style);
                }
                out.push('}');
            }
        }
    }

    /// It as text.
    pub fn to_text(&self, style: Style) -> String {
        let mut out = String::new();
        self.write(&mut out, style);
        out
    }
}

impl Style {
    fn after(self, out: &mut String, mark: char) {
        out.push(mark);
        out.push_str(match self {
            Self::Compact => "",
            Self::Usual => " ",
            Self::Wide => "\r\n\t ",
        });
    }
}

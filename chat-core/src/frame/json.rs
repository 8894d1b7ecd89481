//! The JSON header as text: a strict reader and a writer (PROTOCOL.md §3).

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::HeaderFault;
use super::extra::MAX_INTEGER;

const MAX_DEPTH: u32 = 8;
const MAX_KEYS: u32 = 32;

/// The values of the keys that the protocol knows, as they stand.
#[derive(Default)]
pub(super) struct RawHeader<'a> {
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) content_type: Option<Cow<'a, str>>,
    pub(super) session: Option<Cow<'a, str>>,
    pub(super) ext: Option<Value<'a>>,
    pub(super) chunk: Option<Value<'a>>,
}

/// A value of a key that version 1 does not know.
pub(super) enum Value<'a> {
    Null,
    Integer(u64),
    Text(Cow<'a, str>),
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
    /// Of a type that no key of the protocol has.
    Other,
}

/// A value is not of the type or in the range that it should be.
pub(super) struct Nonsense;

impl<'a> Value<'a> {
    pub(super) fn object(&self) -> Result<&[(Cow<'a, str>, Self)], Nonsense> {
        match self {
            Self::Object(members) => Ok(members),
            _ => Err(Nonsense),
        }
    }

    /// A member of this object that is not null.
    fn member(&self, key: &str) -> Result<Option<&Self>, Nonsense> {
        let mut members = self.object()?.iter();
        let found = members
            .find(|(name, _)| name == key)
            .map(|(_, value)| value);
        Ok(found.filter(|value| !matches!(value, Self::Null)))
    }

    /// An integer of this object, if it has it.
    pub(super) fn integer(&self, key: &str) -> Result<Option<u64>, Nonsense> {
        match self.member(key)? {
            None => Ok(None),
            Some(Self::Integer(value)) if *value <= MAX_INTEGER => Ok(Some(*value)),
            Some(_) => Err(Nonsense),
        }
    }

    /// An integer that this object must have.
    pub(super) fn required(&self, key: &str) -> Result<u64, Nonsense> {
        self.integer(key)?.ok_or(Nonsense)
    }

    /// A string of this object, if it has it.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, Nonsense> {
        match self.member(key)? {
            None => Ok(None),
            Some(Self::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Nonsense),
        }
    }
}

/// Reads a JSON header: one object, no key twice, at most 8 levels and 32 keys. Keys that the
/// protocol does not know are checked like the others, and left out.
pub(super) fn parse(json: &[u8]) -> Result<RawHeader<'_>, HeaderFault> {
    if json.first() != Some(&b'{') || json.last() != Some(&b'}') {
        return Err(HeaderFault::Border);
    }
    let checks = Checks::default();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let header = Top(&checks)
        .deserialize(&mut reader)
        .and_then(|header| reader.end().map(|()| header));
    header.map_err(|_| checks.fault.get().unwrap_or(HeaderFault::Syntax))
}

/// What is counted over the whole header, and what was found wrong: an error of the JSON reader
/// carries only text.
#[derive(Default)]
struct Checks {
    keys: Cell<u32>,
    fault: Cell<Option<HeaderFault>>,
}

impl Checks {
    fn refuse<T, E: Error>(&self, fault: HeaderFault) -> Result<T, E> {
        self.fault.set(Some(fault));
        Err(E::custom(fault))
    }

    /// Notes one more key of an object that has `seen` so far.
    fn key<'a, E: Error>(&self, seen: &mut Vec<Cow<'a, str>>, key: Cow<'a, str>) -> Result<(), E> {
        self.keys.set(self.keys.get() + 1);
        if self.keys.get() > MAX_KEYS {
            return self.refuse(HeaderFault::TooManyKeys);
        }
        if seen.contains(&key) && !planted!("keys may come twice") {
            return self.refuse(HeaderFault::DuplicateKey);
        }
        seen.push(key);
        Ok(())
    }
}

/// The header object itself.
struct Top<'c>(&'c Checks);

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = RawHeader<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = RawHeader<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut header = RawHeader::default();
        let mut seen = Vec::with_capacity(4);
        while let Some(key) = map.next_key_seed(Text)? {
            let field = match &*key {
                "type" => Some(&mut header.kind),
                "content_type" => Some(&mut header.content_type),
                "session_id" => None,
                _ => {
                    let place = match &*key {
                        "ext" => Some(&mut header.ext),
                        "chunk" => Some(&mut header.chunk),
                        _ => None,
                    };
                    self.0.key(&mut seen, key)?;
                    let value = map.next_value_seed(Walk {
                        checks: self.0,
                        depth: 1,
                    })?;
                    if let Some(place) = place {
                        *place = Some(value);
                    }
                    continue;
                }
            };
            self.0.key(&mut seen, key)?;
            match field {
                Some(field) => *field = Some(map.next_value_seed(Text)?),
                None => header.session = map.next_value_seed(TextOrNull)?,
            }
        }
        Ok(header)
    }
}

/// A string, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.into()))
    }
}

/// A string or null.
struct TextOrNull;

impl<'de> DeserializeSeed<'de> for TextOrNull {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for TextOrNull {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or null")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        Text.deserialize(reader).map(Some)
    }
}

/// Any value inside `depth` levels, checked.
#[derive(Clone, Copy)]
struct Walk<'c> {
    checks: &'c Checks,
    depth: u32,
}

impl Walk<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return self.checks.refuse(HeaderFault::TooDeep);
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Text.visit_borrowed_str(text).map(Value::Text)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Text.visit_str(text).map(Value::Text)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let inside = self.deeper()?;
        while seq.next_element_seed(inside)?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let inside = self.deeper()?;
        let mut seen = Vec::new();
        let mut values = Vec::new();
        while let Some(key) = map.next_key_seed(Text)? {
            self.checks.key(&mut seen, key)?;
            values.push(map.next_value_seed(inside)?);
        }
        Ok(Value::Object(seen.into_iter().zip(values).collect()))
    }
}

/// Appends `text` as a JSON string in ASCII: what is not printable ASCII is escaped, above the
/// basic plane as a surrogate pair.
pub(crate) fn push_string(out: &mut String, text: &str) {
    use fmt::Write;

    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

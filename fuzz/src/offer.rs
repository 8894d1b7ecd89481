//! Offers and choices of extensions: what PROTOCOL.md §4.6 knows, with parameters that are mostly right.

use arbitrary::Arbitrary;

use crate::json::{Json, Near, Style};

/// What `ext` is.
#[derive(Arbitrary, Debug)]
pub enum Offer {
    Members(Vec<Member>, Style),
    /// Anything.
    Any(Json, Style),
}

#[derive(Arbitrary, Debug)]
pub struct Member {
    which: u8,
    values: [How; 4],
    /// One more that nobody knows, or that is there already.
    more: Option<(Known, Json)>,
    /// The member is something else altogether.
    odd: Option<Rarely>,
}

#[derive(Arbitrary, Debug)]
struct Rarely(u8, Json);

#[derive(Arbitrary, Debug)]
enum Known {
    Parameter(u8),
    Other(u8),
}

/// What a parameter is.
#[derive(Arbitrary, Debug)]
enum How {
    Usual,
    Least(u16),
    Large(u64),
    Edge(u8, Near),
    Missing,
    Any(Json),
}

/// Each extension with its parameters, and what these are usually.
const MEMBERS: [(&str, &[(&str, u64)]); 7] = [
    ("limits", &[("content", 1)]),
    ("coalesce", &[]),
    ("ping", &[("timeout", 3000)]),
    (
        "chunk",
        &[
            ("size", 1024),
            ("window", 65_536),
            ("transfers", 1),
            ("message", 100_000),
        ],
    ),
    ("sec", &[("nonce", 32), ("key", 8)]),
    ("trust", &[]),
    ("later", &[("x", 1)]),
];

/// The id of the key `default-key`.
pub const KEY_ID: &str = "2f1087bcb279180d";

impl Offer {
    /// It as JSON.
    pub fn to_text(&self) -> String {
        let (members, style) = match self {
            Self::Any(json, style) => return json.to_text(*style),
            Self::Members(members, style) => (members, *style),
        };
        let members: Vec<String> = members.iter().map(|member| member.to_text(style)).collect();
        format!("{{{}}}", members.join(", "))
    }
}

impl Member {
    fn to_text(&self, style: Style) -> String {
        let (name, parameters) = MEMBERS[usize::from(self.which) % MEMBERS.len()];
        if let Some(Rarely(240.., json)) = &self.odd {
            return format!("\"{name}\": {}", json.to_text(style));
        }
        let values = parameters.iter().zip(&self.values);
        let mut parts: Vec<String> = values
            .filter_map(|((key, usual), how)| {
                Some(format!("\"{key}\": {}", how.to_text(key, *usual, style)?))
            })
            .collect();
        if let Some((key, value)) = &self.more {
            let key = match key {
                Known::Parameter(which) if !parameters.is_empty() => {
                    parameters[usize::from(*which) % parameters.len()].0.into()
                }
                Known::Parameter(which) | Known::Other(which) => format!("x{which}"),
            };
            parts.push(format!("\"{key}\": {}", value.to_text(style)));
        }
        format!("\"{name}\": {{{}}}", parts.join(", "))
    }
}

impl How {
    fn to_text(&self, key: &str, usual: u64, style: Style) -> Option<String> {
        let number = match self {
            Self::Missing => return None,
            Self::Any(json) => return Some(json.to_text(style)),
            Self::Edge(which, near) => {
                return Some(Json::Edge(*which, near.clone()).to_text(style));
            }
            Self::Usual => usual,
            Self::Least(more) => usual + u64::from(*more),
            Self::Large(number) => *number >> 11,
        };
        Some(match key {
            "nonce" => format!("\"{}\"", format!("{:02x}", number % 256).repeat(32)),
            "key" if matches!(self, Self::Usual) => format!("\"{KEY_ID}\""),
            "key" => format!("\"{number:016X}\""),
            _ => number.to_string(),
        })
    }
}

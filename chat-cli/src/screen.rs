//! What others write, made safe for a terminal.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};

use crate::arrivals::Shown;

/// Replaces what could steer a terminal or mislead its reader by something visible: control
/// characters other than tab and line feed, and characters that change the direction of text.
pub(crate) fn sanitize(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let visible = text.chars().map(|c| match c {
        c if !is_unsafe(c) => c,
        // The control pictures stand in the order of the characters that they show.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        _ => '\u{fffd}',
    });
    Cow::Owned(visible.collect())
}

pub(crate) fn is_unsafe(c: char) -> bool {
    match c {
        '\t' | '\n' => false,
        // Marks, embeddings, overrides and isolates; line and paragraph separators.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        c => c.is_control(),
    }
}

/// The same, and on one line.
pub(crate) fn sanitize_line(text: &str) -> String {
    sanitize(text).replace('\n', "\u{240a}").replace('\t', " ")
}

/// Says something on standard error. Whether somebody listens there makes no difference.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "chat-cli: {text}");
}

/// A message as lines for a terminal of so many columns, without the last line feed.
pub(crate) fn show(shown: &Shown, columns: usize) -> String {
    let (content_type, size) = match shown {
        Shown::Message(message) => match message.as_text() {
            Some(text) => return indent("< ", &sanitize(text.trim_end()), columns),
            None => (message.content_type(), message.content().len() as u64),
        },
        Shown::Large {
            content_type, size, ..
        } => (content_type, *size),
    };
    indent("< ", &Shown::describe(content_type, size), columns)
}

/// Marks the first line and indents the others, those that the terminal would make of a long one
/// included: no part of one message can look like another one.
pub(crate) fn indent(mark: &str, text: &str, columns: usize) -> String {
    let mut shown = String::from(mark);
    let mut column = 2;
    for c in text.chars() {
        // At least as wide as it is on any terminal.
        let width = match c {
            '\t' => 8 - column % 8,
            c if c.is_ascii() => 1,
            _ => 2,
        };
        if c == '\n' || (columns > 8 && column + width > columns) {
            shown.push_str("\n  ");
            column = 2;
        }
        if c != '\n' {
            shown.push(c);
            column += width;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use chat_tokio::Message;

    use super::*;

    fn show(message: &Message, columns: usize) -> String {
        super::show(&Shown::Message(message.clone()), columns)
    }

    #[test]
    fn controls_become_visible() {
        assert_eq!(sanitize("\x1b[31mred\x07\x7f"), "␛[31mred␇␡");
        assert_eq!(sanitize("\u{9b}2J"), "\u{fffd}2J");
        assert_eq!(sanitize("a\rb\0"), "a␍b␀");
    }

    #[test]
    fn direction_cannot_be_changed() {
        assert_eq!(sanitize("\u{202e}txt.exe"), "\u{fffd}txt.exe");
    }

    #[test]
    fn text_stays_as_it_is() {
        let text = "tab\tline\nGrüße, 世界 🌍 שלום";
        assert!(matches!(sanitize(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn every_character_is_shown_or_replaced() {
        for c in '\0'..=char::MAX {
            let shown = sanitize(c.encode_utf8(&mut [0; 4])).into_owned();
            assert!(
                shown
                    .chars()
                    .all(|c| matches!(c, '\t' | '\n') || !c.is_control()),
                "{c:?} is shown as {shown:?}"
            );
        }
    }

    #[test]
    fn a_message_cannot_look_like_two() {
        assert_eq!(show(&Message::text("one\n< two\n"), 80), "< one\n  < two");
        let wrapped = format!("{}< two", "1".repeat(18));
        assert_eq!(
            show(&Message::text(wrapped), 20),
            format!("< {}\n  < two", "1".repeat(18))
        );
        assert_eq!(
            show(&Message::text("世界\t12< two"), 10),
            "< 世界\t12\n  < two"
        );
        assert_eq!(show(&Message::text("one two three"), 0), "< one two three");
    }

    #[test]
    fn a_line_stays_one() {
        assert_eq!(
            sanitize_line("one\n< two\t\u{2028}\x1b"),
            "one␊< two \u{fffd}␛"
        );
    }

    #[test]
    fn bytes_are_described() {
        let image = Message::new("image/png", vec![0_u8; 1234]);
        assert_eq!(show(&image, 80), "< [image/png, 1234 bytes]");
    }
}

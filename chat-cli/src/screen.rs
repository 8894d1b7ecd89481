//! What others write, made safe for a terminal.

use std::borrow::Cow;

use chat_tokio::Message;

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

fn is_unsafe(c: char) -> bool {
    match c {
        '\t' | '\n' => false,
        // Marks, embeddings, overrides and isolates; line and paragraph separators.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        c => c.is_control(),
    }
}

/// A message as lines for a terminal.
pub(crate) fn show(message: &Message) -> String {
    match message.as_text() {
        // The lines of one message stay together, and cannot look like another one.
        Some(text) => format!("< {}", sanitize(text.trim_end()).replace('\n', "\n  ")),
        None => format!(
            "< [{}, {} bytes]",
            sanitize(message.content_type()).replace('\n', " "),
            message.content().len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(show(&Message::text("one\n< two\n")), "< one\n  < two");
    }

    #[test]
    fn bytes_are_described() {
        let image = Message::new("image/png", vec![0_u8; 1234]);
        assert_eq!(show(&image), "< [image/png, 1234 bytes]");
    }
}

//! What others write, on a terminal: after the sanitiser it has no control characters and nothing that
//! changes the direction of text, is as long as before, stays the same if it is sanitised again, and is
//! left alone if it was harmless. A terminal that is fed with it does nothing but print, and no message
//! that is shown can look like two.
#![no_main]

use std::borrow::Cow;
use std::num::NonZeroU16;

use arbitrary::Arbitrary;
use chat_core::Message;
use libfuzzer_sys::fuzz_target;

/// The file under test, as it stands in the program.
#[allow(dead_code)]
#[path = "../../chat-cli/src/screen.rs"]
mod screen;

/// What of the program it needs.
mod arrivals {
    use chat_core::{ContentType, Message};

    use crate::screen::sanitize_line;

    pub(crate) enum Shown {
        Message(Message),
        #[allow(dead_code)]
        Large {
            content_type: ContentType,
            size: u64,
        },
    }

    impl Shown {
        pub(crate) fn describe(content_type: &str, size: u64) -> String {
            format!("[{}, {size} bytes]", sanitize_line(content_type))
        }
    }
}

use arrivals::Shown;

#[derive(Arbitrary, Debug)]
struct Input {
    pieces: Vec<Piece>,
    content_type: Option<String>,
    columns: u8,
}

#[derive(Arbitrary, Debug)]
enum Piece {
    Any(String),
    /// Bytes, as a reader of UTF-8 takes them.
    Bytes(Vec<u8>),
    /// One of the C0 and C1 controls.
    Control(u8),
    /// A character of those planes where format characters are.
    Char(u16),
    /// Something that terminals do things for.
    Sequence(u8),
    Lines(u8),
}

const SEQUENCES: [&str; 14] = [
    "\x1b[2J",
    "\x1b[31m",
    "\x1b]0;title\x07",
    "\x1b]52;c;eA==\x1b\\",
    "\x1bP+q\x1b\\",
    "\u{9b}2J",
    "\u{9d}0;t\u{9c}",
    "\x1b[?1049h",
    "\x1bc",
    "\x1b[6n",
    "\u{85}",
    "\u{202e}evil\u{202c}",
    "\u{2066}x\u{2069}\u{61c}",
    "\r\u{8}\u{7f}",
];

fn text(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Any(any) => text.push_str(any),
            Piece::Bytes(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
            Piece::Control(code) => text.push(char::from(code % 32 + (code & 128))),
            Piece::Char(code) => text.extend(char::from_u32((*code).into())),
            Piece::Sequence(which) => {
                text.push_str(SEQUENCES[usize::from(*which) % SEQUENCES.len()]);
            }
            Piece::Lines(count) => text.push_str(&"\n< a\t".repeat(usize::from(*count % 8))),
        }
    }
    text
}

/// By Unicode's own list of what changes direction, and of what ends lines.
fn steers(c: char) -> bool {
    let bidi = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
    bidi.contains(c) || "\u{2028}\u{2029}".contains(c)
}

fn is_plain(c: char) -> bool {
    !matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}') && !steers(c)
}

/// What a terminal does with a line must be what it does with the same number of any characters.
fn feed(line: &str) {
    let [rows, columns] = [24, 80].map(|size| NonZeroU16::new(size).expect("not zero"));
    let mut terminal = vt100::Parser::new_with_callbacks(rows, columns, 0, Nothing);
    terminal.process(line.as_bytes());
    let screen = terminal.screen();
    assert!(!screen.alternate_screen() && !screen.hide_cursor());
    assert!(!screen.application_keypad() && !screen.application_cursor());
    assert!(!screen.bracketed_paste());
    assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    assert_eq!(screen.fgcolor(), vt100::Color::Default);
    assert_eq!(screen.bgcolor(), vt100::Color::Default);
    assert!(!screen.bold() && !screen.italic() && !screen.underline() && !screen.inverse());
}

/// Whatever a terminal is asked to do.
struct Nothing;

impl vt100::Callbacks for Nothing {
    fn audible_bell(&mut self, _: &mut vt100::Screen) {
        panic!("it rings");
    }

    fn visual_bell(&mut self, _: &mut vt100::Screen) {
        panic!("it rings");
    }

    fn resize(&mut self, _: &mut vt100::Screen, _: (u16, u16)) {
        panic!("it changes its size");
    }

    fn set_window_icon_name(&mut self, _: &mut vt100::Screen, _: &[u8]) {
        panic!("it takes another name");
    }

    fn set_window_title(&mut self, _: &mut vt100::Screen, _: &[u8]) {
        panic!("it takes another title");
    }

    fn copy_to_clipboard(&mut self, _: &mut vt100::Screen, _: &[u8], _: &[u8]) {
        panic!("it copies");
    }

    fn paste_from_clipboard(&mut self, _: &mut vt100::Screen, _: &[u8]) {
        panic!("it pastes");
    }

    fn unhandled_char(&mut self, _: &mut vt100::Screen, c: char) {
        // What `String::from_utf8_lossy` and terminals put for what they cannot read.
        assert_eq!(c, '\u{fffd}', "not a character");
    }

    fn unhandled_control(&mut self, _: &mut vt100::Screen, code: u8) {
        panic!("a control: {code}");
    }

    fn unhandled_escape(&mut self, _: &mut vt100::Screen, _: Option<u8>, _: Option<u8>, _: u8) {
        panic!("an escape");
    }

    fn unhandled_csi(
        &mut self,
        _: &mut vt100::Screen,
        _: Option<u8>,
        _: Option<u8>,
        _: &[&[u16]],
        _: char,
    ) {
        panic!("a sequence");
    }

    fn unhandled_osc(&mut self, _: &mut vt100::Screen, _: &[&[u8]]) {
        panic!("a command");
    }
}

fuzz_target!(|input: Input| {
    let text = text(&input.pieces);
    let shown = screen::sanitize(&text);
    assert!(
        shown
            .chars()
            .all(|c| matches!(c, '\t' | '\n') || is_plain(c))
    );
    assert_eq!(shown.chars().count(), text.chars().count());
    let same = text.chars().zip(shown.chars());
    for (before, after) in same {
        let harmless = matches!(before, '\t' | '\n') || is_plain(before);
        assert_eq!(before == after, harmless, "{before:?} became {after:?}");
    }
    assert!(matches!(screen::sanitize(&shown), Cow::Borrowed(same) if same == shown));

    let line = screen::sanitize_line(&text);
    assert!(line.chars().all(is_plain), "not one line");
    assert_eq!(screen::sanitize_line(&line), line);
    feed(&line);

    // As a message: its first line is marked, no other is.
    let message = match input.content_type {
        Some(content_type) => Message::new(content_type, text.into_bytes()),
        None => Message::text(text),
    };
    let columns = usize::from(input.columns);
    let lines = screen::show(&Shown::Message(message), columns);
    assert!(
        lines
            .chars()
            .all(|c| matches!(c, '\t' | '\n') || is_plain(c))
    );
    for (nth, line) in lines.split('\n').enumerate() {
        assert!(line.starts_with(if nth == 0 { "< " } else { "  " }));
        if columns > 8 && !line.contains('\t') {
            assert!(line.chars().count() <= columns, "a terminal would break it");
        }
        feed(line);
    }
});

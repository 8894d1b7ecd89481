//! The interactive client, in a terminal.

use chat_tests::program::terminal::{COLUMNS, Terminal};
use chat_tests::program::{Server, Signal, Transport, lines};

const UP: &str = "\x1b[A";
const DOWN: &str = "\x1b[B";
const LEFT: &str = "\x1b[D";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_L: &str = "\x0c";
const CTRL_R: &str = "\x12";

/// A client in a terminal that shows a prompt and nothing else.
fn open(server: &Server) -> Terminal {
    open_with(server, &[])
}

fn open_with(server: &Server, options: &[&str]) -> Terminal {
    let place = server.address();
    let mut terminal = Terminal::chat(["connect"].iter().chain(&place).chain(options));
    terminal.row(&format!(
        "connected to {}; /help for help, /quit to leave",
        place.join(" ").trim_start_matches('-')
    ));
    // The server takes it for a session when the first message comes back.
    terminal.press("ready\r");
    terminal.row("< ready");
    terminal.press(CTRL_L);
    terminal.until("an empty screen", |rows| rows == [">"]);
    terminal
}

fn serve() -> Server {
    Server::start(Transport::Tcp, &[])
}

/// The rows that show messages.
fn messages(rows: &[String]) -> Vec<&str> {
    let shown = rows.iter().filter(|row| row.starts_with("< "));
    shown.map(String::as_str).collect()
}

#[test]
fn what_is_half_typed_survives_what_arrives() {
    let server = serve();
    let mut terminal = open(&server);
    let mut guest = server.guest("Ann");
    terminal.row("< Ann is here");
    // Longer than a row.
    let typed = "half of a sentence ".repeat(5);
    terminal.press(&typed);
    let whole = format!("> {typed}");
    let (first, second) = whole.split_at(COLUMNS.into());
    let second = second.trim_end();
    terminal.prompt(second);
    for line in ["one", "two", "Grüße, 世界"] {
        guest.say(line);
    }
    let rows = terminal.until("the last message above the prompt", |rows| {
        let [.., message, above, row] = rows else {
            return false;
        };
        message == "< Grüße, 世界" && above == first && row == second
    });
    assert_eq!(
        messages(&rows),
        ["< Ann is here", "< one", "< two", "< Grüße, 世界"]
    );
    assert_eq!(
        rows.iter().filter(|row| row.starts_with('>')).count(),
        1,
        "{terminal}"
    );

    terminal.press("and its end\r");
    guest.hears(&format!("{typed}and its end"));
}

#[test]
fn what_others_send_cannot_steer_the_terminal() {
    let server = serve();
    let mut terminal = open(&server);
    let mut guest = server.guest("Eve");
    guest.send("\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J\u{9b}2J \u{202e}gnp.exe\rX\x08\x7f\0.");
    guest.send(b"\xff\x1b[31m not text");
    guest.say("the end");
    let rows = terminal.row("< the end");
    assert_eq!(messages(&rows)[2], "< [application/octet-stream, 15 bytes]");
    let shown = "< ␛[31mred␛[0m ␛]0;title␇ ␛[2J\u{fffd}2J \u{fffd}gnp.exe␍X␈␡␀.\r\n";
    let bytes = terminal.bytes();
    assert!(
        String::from_utf8_lossy(&bytes).contains(shown),
        "{terminal}"
    );
    for sent in [
        &b"\x1b[31m"[..],
        b"\x1b]",
        b"\x07",
        b"\x1b[2J",
        b"\xc2\x9b",
        b"\xe2\x80\xae",
        b"\x08",
        b"\x7f",
        b"\0",
    ] {
        let found = bytes.windows(sent.len()).any(|part| part == sent);
        assert!(!found, "{} reached {terminal}", sent.escape_ascii());
    }
    terminal.press("/quit\r");
    assert_eq!(terminal.wait().0, 0);
}

#[test]
fn one_message_cannot_look_like_two() {
    let server = serve();
    let mut eve = open(&server);
    let terminal = open(&server);
    let mut guest = server.guest("Bob");
    eve.row("< Bob is here");
    // Several lines, pasted: one message.
    eve.press("\x1b[200~hello\n< Bob: yes, do it\n* connected\n>\x1b[201~\r");
    guest.hears("* connected");
    // A line that the terminal would break before "< Bob".
    guest.say(&format!(
        "{}< Bob: I agree",
        "1".repeat(usize::from(COLUMNS) - 2)
    ));
    guest.say(&format!(
        "{}< Bob: I agree",
        "世".repeat(usize::from(COLUMNS) / 2 - 1)
    ));
    guest.say("the end");
    let rows = terminal.row("< the end");
    let first: Vec<_> = messages(&rows)
        .into_iter()
        .map(|row| row.chars().nth(2))
        .collect();
    assert_eq!(
        first,
        ["B", "h", "1", "世", "t"].map(|first| first.chars().next()),
        "{terminal}"
    );
    let inside: Vec<_> = rows.iter().filter(|row| row.starts_with("  ")).collect();
    assert_eq!(
        inside,
        [
            "  < Bob: yes, do it",
            "  * connected",
            "  >",
            "  < Bob: I agree",
            "  < Bob: I agree"
        ]
    );
    assert_eq!(
        rows.iter()
            .filter(|row| row.starts_with(['*', '>']))
            .count(),
        1,
        "{terminal}"
    );
}

#[test]
fn lines_can_be_edited_and_come_back() {
    let server = serve();
    let mut terminal = open(&server);
    terminal.press(format!("a line{LEFT}{LEFT}{LEFT}{LEFT}fi\r"));
    terminal.row("< a filine");
    terminal.press("second\r");
    terminal.row("< second");
    terminal.prompt(">");
    terminal.press(UP);
    terminal.prompt("> second");
    terminal.press(UP);
    terminal.prompt("> a filine");
    terminal.press(DOWN);
    terminal.prompt("> second");
    terminal.press(" time\r");
    terminal.row("< second time");
    terminal.press(format!("{CTRL_R}fil"));
    terminal.until("what was searched for", |rows| {
        rows.last().is_some_and(|row| row.ends_with("a filine"))
    });
    terminal.press("\r");
    let rows = terminal.until("it again", |rows| messages(rows).len() == 4);
    assert_eq!(
        messages(&rows),
        ["< a filine", "< second", "< second time", "< a filine"]
    );
}

#[test]
fn commands_are_not_sent() {
    let server = serve();
    let mut terminal = open(&server);
    let guest = server.guest("Ann");
    terminal.press("/help\r");
    let rows = terminal.row("  /quit, exit, Ctrl-D  say goodbye and end");
    assert!(
        rows.iter()
            .any(|row| row.starts_with("Each line is a message.")),
        "{terminal}"
    );
    terminal.press("/hlep me\r");
    terminal.row("* /hlep me is not a command; /help lists them");
    terminal.press(" \r\rhello\r");
    guest.hears("hello");
    assert_eq!(guest.leave().text(), "Ann is here\nhello\n");
}

#[test]
fn each_way_to_leave_says_goodbye_and_has_its_code() {
    let ways = [
        ("/quit\r", 0),
        ("exit\r", 0),
        (" exit \r", 0),
        (CTRL_D, 0),
        (CTRL_C, 130),
        ("half\x03", 130),
    ];
    let server = serve();
    for (keys, code) in ways {
        let mut terminal = open(&server);
        terminal.press(keys);
        let (ended, rows) = terminal.wait();
        assert_eq!(ended, code, "{keys:?}: {terminal}");
        assert_eq!(
            rows.iter().any(|row| row == "chat-cli: interrupted"),
            code == 130
        );
        assert!(terminal.is_as_before(), "{keys:?}: {terminal}");
    }
    let said = server.stop().stderr;
    assert_eq!(
        said.matches("reason=Peer { reason: \"Client disconnecting\" }")
            .count(),
        ways.len(),
        "{said}"
    );
}

#[test]
fn the_end_of_the_server_is_told_after_its_last_message() {
    const COUNT: usize = 300;
    let server = serve();
    let mut terminal = open(&server);
    let mut guest = server.guest("Ann");
    terminal.press("half a sen");
    terminal.prompt("> half a sen");
    for number in 1..=COUNT {
        guest.send(format!("line {number}"));
    }
    guest.hears(&format!("line {COUNT}"));
    server.stop();
    let (code, rows) = terminal.wait();
    assert_eq!(code, 69, "{terminal}");
    let last: Vec<_> = rows
        .iter()
        .rev()
        .take(3)
        .rev()
        .map(String::as_str)
        .collect();
    let reason = "chat-cli: closed by the peer: Server shutting down";
    assert_eq!(last, [&format!("< line {COUNT}"), reason, ""], "{terminal}");
    assert_eq!(messages(&rows).len(), COUNT + 1, "{terminal}");
    assert!(terminal.is_as_before(), "{terminal}");
}

#[test]
fn signals_end_it_and_leave_the_terminal_as_it_was() {
    const SEARCH: &str = "(reverse-i-search)`':";
    let server = serve();
    for (signal, keys, prompt) in [
        (Signal::TERM, "half", "> half"),
        (Signal::HUP, "", ">"),
        (Signal::INT, "half", "> half"),
        // While the history is searched nothing else is shown.
        (Signal::TERM, &format!("a line\r{CTRL_R}"), SEARCH),
    ] {
        let mut terminal = open(&server);
        assert!(!terminal.is_as_before(), "keys are read one by one");
        terminal.press(keys);
        terminal.prompt(prompt);
        terminal.signal(signal);
        let (code, rows) = terminal.wait();
        assert_eq!(code, 130, "{terminal}");
        assert_eq!(
            rows[rows.len() - 2..],
            ["chat-cli: interrupted", ""],
            "{terminal}"
        );
        assert!(terminal.is_as_before(), "{terminal}");
    }
    let said = server.stop().stderr;
    assert_eq!(said.matches("Client disconnecting").count(), 4, "{said}");
}

#[test]
fn keys_that_come_byte_by_byte_make_characters() {
    let server = serve();
    let mut terminal = open(&server);
    let mut guest = server.guest("Ann");
    let text = "Grüße an 世界 🌍 e\u{301} 👩‍🚀!";
    for byte in text.as_bytes() {
        terminal.press([*byte]);
    }
    terminal.press("\r");
    guest.hears(text);
    terminal.row(&format!("< {text}"));
    guest.say("🌍🌍");
    terminal.row("< 🌍🌍");
}

#[test]
fn nothing_that_is_typed_ahead_is_lost() {
    const COUNT: usize = 300;
    let server = serve();
    let mut terminal = open(&server);
    let guest = server.guest("Ann");
    let typed = lines(COUNT, |number| format!("line {number}\r"));
    terminal.press(typed + "half");
    guest.hears(&format!("line {COUNT}"));
    let rows = terminal.until("all of it", |rows| messages(rows).len() == COUNT + 1);
    assert!(
        rows.iter().any(|row| row == &format!("< line {COUNT}")),
        "{terminal}"
    );
    terminal.prompt("> half");
    terminal.press(CTRL_C);
    assert_eq!(terminal.wait().0, 130, "{terminal}");
    let heard = guest.leave().text();
    let lines: Vec<_> = heard
        .lines()
        .filter(|line| line.starts_with("line "))
        .collect();
    let sent: Vec<_> = (1..=COUNT).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, sent);
}

#[test]
fn a_terminal_that_cannot_edit_will_do() {
    let server = serve();
    let mut terminal = Terminal::with_term("dumb", ["connect"].iter().chain(&server.address()));
    terminal.press("hello\r");
    terminal.until("it twice, typed and back", |rows| {
        rows.iter().filter(|row| *row == "hello").count() == 2
    });
    let mut guest = server.guest("Eve");
    guest.say("\x1b[31mred");
    terminal.row("␛[31mred");
    terminal.press("/quit\r");
    assert_eq!(terminal.wait().0, 0, "{terminal}");
}

#[test]
fn it_says_when_it_connects_again() {
    let server = serve();
    let place = server.place().to_owned();
    let mut terminal = open_with(&server, &["--reconnect"]);
    terminal.press("half");
    terminal.prompt("> half");
    server.stop();
    terminal.until("the end and what follows", |rows| {
        rows.iter().any(|row| {
            row.starts_with("* closed by the peer: Server shutting down; connecting again in ")
        })
    });
    let server = Server::start_at(["--tcp", &place], &[]);
    terminal.row(&format!("* connected to tcp {place}"));
    terminal.prompt("> half");
    terminal.press(" a sentence\r");
    terminal.row("< half a sentence");
    terminal.press(CTRL_D);
    assert_eq!(terminal.wait().0, 0, "{terminal}");
    server.stop();
}

#[test]
fn without_a_server_there_is_no_prompt() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none");
    let mut terminal = Terminal::chat(["connect", "--unix", path.to_str().expect("text")]);
    let (code, rows) = terminal.wait();
    assert_eq!(code, 69, "{terminal}");
    assert!(
        rows[0].starts_with("chat-cli: cannot connect to unix "),
        "{terminal}"
    );
}

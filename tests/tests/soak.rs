//! A soak of a few seconds: what it takes to find out that the long one would fail.

use std::path::Path;
use std::process::Command;

use chat_tests::program::{Program, chat_cli};

fn soak(arguments: &[&str]) -> Program {
    let soak = Path::new(env!("CARGO_BIN_EXE_soak"));
    Program::start(Command::new(soak).args(arguments))
}

/// Memory has a bound that only a leak in earnest reaches: in so short a time nothing is level yet.
#[test]
fn hundreds_of_clients_come_go_and_die_and_nothing_is_left_or_lost() {
    let program = chat_cli().to_str().expect("the path is text");
    let soak = soak(&[
        "--program",
        program,
        "--connections=300",
        "--minutes=0.1",
        "--churn=20",
        "--slow=4",
        "--killed=50",
        "--room=6",
        "--growth=64",
    ]);
    let report = soak.wait().expect(0).text();
    for judged in [
        "ok     connections: 300 of 300 were there",
        "ok     correctness: ",
        "ok     echo memory: ",
        "ok     echo descriptors: ",
        "ok     echo stop: code Some(0)",
        "ok     echo panics: none",
        "ok     relay memory: ",
        "ok     relay descriptors: ",
        "ok     relay stop: code Some(0)",
        "ok     relay panics: none",
        "ServerStats { accepted: ",
    ] {
        assert!(report.contains(judged), "no {judged:?} in\n{report}");
    }
    assert!(!report.contains(" 0 processes killed"), "{report}");
}

#[test]
fn a_program_that_is_not_there_is_named_with_how_to_build_it() {
    let ended = soak(&["--program", "/nowhere/chat-cli"]).wait().expect(1);
    assert!(ended.stderr.contains("no /nowhere/chat-cli"), "{ended}");
    assert!(
        ended.stderr.contains("cargo build --release -p chat-cli"),
        "{ended}"
    );
}

//! What goes wrong, and is never a good number.

use std::time::{Duration, Instant};

use chat_tests::program::{Program, Server, Signal, Transport, until};

use super::{SMALL, bench, has_clients, json, line, start, unlimited};

#[test]
fn a_process_that_cannot_be_seen_is_no_failure() {
    let server = unlimited(Transport::Tcp, &["--echo"]);
    let options = ["echo", "--messages", "10", "--server-pid", "4294967295"];
    let text = bench(&server, &[&SMALL, &options]).expect(0);
    assert_eq!(text.stderr.lines().count(), 1, "{text}");
    assert!(
        text.stderr.contains("is not known: /proc/4294967295"),
        "{text}"
    );
    let text = bench(&server, &[&SMALL, &options[..3]]).expect(0);
    assert!(text.stderr.contains("--server-pid"), "{text}");
    server.stop();
}

/// What another kind of server makes of a load is never a number.
#[test]
fn a_server_of_the_other_kind_is_found_out() {
    let relay = unlimited(Transport::Unix, &[]);
    for size in ["1", "100", "20000"] {
        let text = bench(
            &relay,
            &[&SMALL, &["echo", "--size", size, "--messages", "500"]],
        );
        assert_eq!(text.text(), "");
        text.fails(76, &["not the one that was sent", "--echo"]);
    }
    relay.stop();
    let echo = unlimited(Transport::Unix, &["--echo"]);
    let text = bench(&echo, &[&SMALL, &["fan-out", "--wait", "200ms"]]);
    assert_eq!(text.text(), "");
    text.fails(124, &["for 200ms", "does the server run with --echo?"]);
    echo.stop();
}

#[test]
fn somebody_else_at_the_relay_is_found_out() {
    let server = unlimited(Transport::Unix, &[]);
    let mut guest = server.guest("Ann");
    let running = start(&server, &["fan-out", "--rate", "10", "--duration", "20s"]);
    until("it has begun", || has_clients(&server, 12));
    guest.say("hello");
    running.finish().fails(76, &["is somebody else there?"]);
    drop(guest);
    server.stop();
}

#[test]
fn a_server_that_reads_slowly_is_told_of() {
    let server = Server::start(Transport::Unix, &["--echo", "--max-rate", "500"]);
    let options = ["echo", "--messages", "2000", "--json"];
    let text = bench(&server, &[&SMALL, &options]).expect(0);
    assert_eq!(json(&text)["throttled"], true);
    assert_eq!(
        text.stderr
            .matches("the server reports: You send more than 500")
            .count(),
        1
    );
    assert_eq!(text.stderr.matches("hint: ").count(), 1, "{text}");
    assert!(text.stderr.contains("serve --max-rate 0"), "{text}");
    let text = bench(&server, &[&SMALL, &options[..3]]).expect(0);
    assert!(text.text().contains(" s, throttled\n"), "{text}");
    server.stop();
}

#[test]
fn a_server_that_dies_is_no_number() {
    for (kind, load) in [(&["--echo"][..], "echo"), (&[], "fan-out")] {
        for signal in [Signal::KILL, Signal::TERM] {
            let server = unlimited(Transport::Unix, kind);
            let running = start(&server, &[load, "--connections", "3"]);
            until("it has begun", || has_clients(&server, 3));
            std::thread::sleep(Duration::from_millis(100));
            server.program().signal(signal);
            let ended = running.finish();
            assert_eq!(ended.text(), "", "{ended}");
            let code = if signal == Signal::KILL { 74 } else { 69 };
            ended.fails(code, &["a connection was lost"]);
            server.wait();
        }
    }
}

#[test]
fn connections_that_do_not_stay_are_counted() {
    let server = Server::start(Transport::Unix, &[]);
    let running = start(&server, &["idle", "--connections", "5"]);
    until("all are there", || has_clients(&server, 5));
    server.program().signal(Signal::KILL);
    server.wait();
    let ended = running.finish();
    assert_eq!(line(&ended, "stayed")[1], "0");
    ended.fails(74, &["5 of 5 did not stay"]);
}

#[test]
fn a_server_that_hangs_is_given_up() {
    let server = unlimited(Transport::Unix, &["--echo"]);
    let running = start(&server, &["echo", "--wait", "300ms"]);
    until("it has begun", || has_clients(&server, 10));
    server.program().signal(Signal::STOP);
    running
        .finish()
        .fails(124, &["did not come back for 300ms"]);
    server.program().signal(Signal::CONT);
    server.stop();
}

#[test]
fn an_interrupt_ends_it_with_the_numbers_so_far() {
    for (kind, load, count) in [
        (&["--echo"][..], "echo", "messages"),
        (&[], "fan-out", "deliveries"),
        (&[], "connect", "visits"),
        (&[], "idle", "stayed"),
    ] {
        let server = unlimited(Transport::Unix, kind);
        let mut options = vec![load, "--connections", "3", "--duration", "1h", "--json"];
        if load != "idle" {
            options.extend(["--warm-up", "0s"]);
        }
        let running = start(&server, &options);
        until("it has begun", || has_clients(&server, 3));
        std::thread::sleep(Duration::from_millis(200));
        let asked = Instant::now();
        running.signal(Signal::INT);
        let ended = running.finish().fails(130, &["interrupted"]);
        assert!(asked.elapsed() < Duration::from_secs(20), "{ended}");
        let report = json(&ended);
        assert_eq!(report["interrupted"], true);
        assert!(report[count].as_u64() > Some(0), "{ended}");
        server.stop();
    }
}

/// Not even then does it wait for a server that says nothing.
#[test]
fn an_interrupt_ends_it_also_when_the_server_hangs() {
    let server = unlimited(Transport::Unix, &["--echo"]);
    let running = start(
        &server,
        &[
            "echo",
            "--wait",
            "1h",
            "--duration",
            "1h",
            "--warm-up",
            "0s",
            "--json",
        ],
    );
    until("it has begun", || has_clients(&server, 10));
    std::thread::sleep(Duration::from_millis(200));
    server.program().signal(Signal::STOP);
    running.signal(Signal::INT);
    let ended = running.finish().fails(130, &["interrupted"]);
    assert!(json(&ended)["messages"].as_u64() > Some(0), "{ended}");
    server.program().signal(Signal::CONT);
    server.stop();
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let run = |arguments: &[&str]| Program::run(["bench"].iter().chain(arguments), b"");
    for arguments in [
        &["echo", "--connections", "0"][..],
        &["echo", "--window", "0"],
        &["echo", "--size", "0"],
        &["echo", "--rate", "0"],
        &["echo", "--messages", "0"],
        &["shout"],
        &[],
    ] {
        run(arguments).expect(2);
    }
    for (load, option) in [
        ("connect", "--size"),
        ("connect", "--window"),
        ("connect", "--rate"),
        ("idle", "--messages"),
    ] {
        let text = format!("{option} has no meaning for {load}");
        run(&[load, option, "1"]).fails(2, &[&text]);
    }
    let server = unlimited(Transport::Unix, &["--echo"]);
    let nothing = bench(&server, &[&["echo", "--duration", "0s", "--warm-up", "0s"]]);
    nothing.fails(124, &["nothing was measured"]);
    server.stop();
    run(&["echo", "--wait", "0s"]).fails(2, &["--wait"]);
    run(&["echo", "--tcp", "127.0.0.1:1"]).fails(69, &["is the server running there?"]);
}

#[test]
fn too_few_descriptors_are_raised_or_told_of() {
    let server = unlimited(Transport::Unix, &[]);
    let bench = |limits: &str| {
        let mut command = std::process::Command::new("sh");
        let script = format!("{limits}; exec \"$0\" \"$@\"");
        command
            .args(["-c", &script])
            .arg(chat_tests::program::chat_cli());
        command.args([
            "bench",
            "--unix",
            server.place(),
            "idle",
            "--connections",
            "100",
        ]);
        command.args(["--duration", "10ms"]);
        Program::start(&mut command).finish()
    };
    bench("ulimit -S -n 50").expect(0);
    let told = bench("ulimit -n 120");
    assert_eq!(told.text(), "");
    told.fails(2, &["120 files", "about 56 connections", "ulimit -n"]);
    server.stop();
}

#[test]
fn another_key_is_refused() {
    let server = unlimited(Transport::Unix, &["--echo"]);
    let key = server.path("other.key");
    std::fs::write(&key, "another secret").expect("a file");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("ours");
    let key = key.to_str().expect("the path is text");
    bench(&server, &[&["echo", "--key-file", key]]).expect(77);
    server.stop();
}

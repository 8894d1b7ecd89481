//! `bench`: what it reports, and that it never reports what was not so.

#[path = "cli_bench/failures.rs"]
mod failures;
#[path = "cli_bench/security.rs"]
mod security;

use std::time::{Duration, Instant};

use chat_tests::program::{Finished, Program, Server, Signal, Transport, until};
use serde_json::Value;

/// What a small load is bounded by, whatever the machine.
const SMALL: [&str; 6] = ["--connections", "3", "--warm-up", "0s", "--duration", "20s"];

/// The columns of latencies.
const COLUMNS: [&str; 6] = ["max", "mean", "p50", "p90", "p99", "p99.9"];

/// What each report has.
const ALWAYS: [&str; 10] = [
    "connections",
    "cpu_percent",
    "endpoint",
    "interrupted",
    "load",
    "seconds",
    "security",
    "server",
    "throttled",
    "trust",
];

fn start(server: &Server, arguments: &[&str]) -> Program {
    Program::chat(["bench"].iter().chain(&server.address()).chain(arguments))
}

fn bench(server: &Server, arguments: &[&[&str]]) -> Finished {
    start(server, &arguments.concat()).finish()
}

/// Those who write to version 1 servers would not mind the rate; benches do.
fn unlimited(transport: Transport, arguments: &[&str]) -> Server {
    Server::start(transport, &[&["--max-rate", "0"], arguments].concat())
}

#[track_caller]
fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.text()).unwrap_or_else(|error| panic!("{error}: {finished}"))
}

/// Asserts which keys there are, all of them, besides those that always are.
#[track_caller]
fn has_keys(report: &Value, keys: &[&str]) {
    let object = report.as_object().expect("an object");
    let mut expected = [&ALWAYS, keys].concat();
    expected.sort_unstable();
    let mut found: Vec<_> = object.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
}

/// Asserts that these are latencies, in order.
#[track_caller]
fn are_latencies(times: &Value) {
    let times = times.as_object().expect("an object");
    let mut columns: Vec<_> = times.keys().map(String::as_str).collect();
    columns.sort_unstable();
    assert_eq!(columns, COLUMNS);
    let values = ["p50", "p90", "p99", "p99.9", "max"].map(|name| times[name].as_f64());
    assert!(values[0] > Some(0.0) && values.is_sorted(), "{values:?}");
}

/// The line of a report for people that begins with this, as words.
#[track_caller]
fn line(finished: &Finished, name: &str) -> Vec<String> {
    let text = finished.text();
    let line = text.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name:?}: {finished}"));
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn echoes_are_counted_and_timed() {
    for transport in Transport::ALL {
        let server = unlimited(transport, &["--echo"]);
        let all: [&[&str]; 2] = [&SMALL, &["echo", "--messages", "500"]];
        let report = json(&bench(&server, &[all.as_slice(), &[&["--json"]]].concat()).expect(0));
        let keys = [
            "bytes_per_second",
            "corrected_us",
            "late_us",
            "latency_us",
            "messages",
            "messages_per_second",
            "rate",
            "size",
            "unsent",
            "window",
        ];
        has_keys(&report, &keys);
        assert_eq!(
            (&report["load"], &report["messages"]),
            (&"echo".into(), &500.into())
        );
        assert_eq!(
            (&report["security"], &report["rate"]),
            (&"sec".into(), &Value::Null)
        );
        assert_eq!(report["trust"], false);
        assert_eq!(
            (&report["window"], &report["size"]),
            (&16.into(), &100.into())
        );
        assert_eq!(
            (&report["interrupted"], &report["throttled"]),
            (&false.into(), &false.into())
        );
        assert_eq!(report["late_us"], Value::Null);
        are_latencies(&report["latency_us"]);
        are_latencies(&report["corrected_us"]);
        // Whose process it is, a Unix socket tells.
        let pid = &report["server"]["pid"];
        if cfg!(target_os = "linux") && transport == Transport::Unix {
            assert_eq!(*pid, server.program().id());
            assert!(report["server"]["rss_bytes"].as_u64() > Some(1_000_000));
        } else {
            assert_eq!(report["server"], Value::Null);
        }

        let text = bench(&server, &all).expect(0);
        let messages = line(&text, "messages");
        assert_eq!(messages[1], "500");
        assert!(messages[2].parse::<f64>().expect("a number") > 0.0);
        assert_eq!(line(&text, "in µs").len(), 2 + COLUMNS.len());
        assert_eq!(line(&text, "latency").len(), 1 + COLUMNS.len());
        assert_eq!(line(&text, "corrected").len(), 1 + COLUMNS.len());
        assert!(text.text().contains("closed loop"), "{text}");
        server.stop();
    }
}

#[test]
fn what_goes_out_while_it_warms_up_does_not_count() {
    for (kind, load, count, number) in [
        (&["--echo"][..], "echo", "messages", 50),
        (&[], "fan-out", "deliveries", 100),
        (&[], "connect", "visits", 50),
    ] {
        let server = unlimited(Transport::Unix, kind);
        let options = [load, "--connections", "2", "--messages", "50", "--json"];
        let asked = Instant::now();
        let report = json(&bench(&server, &[&options, &["--warm-up", "300ms"]]).expect(0));
        assert!(asked.elapsed() >= Duration::from_millis(300));
        assert_eq!(report[count], number);
        server.stop();
    }
}

#[test]
fn messages_of_any_size_are_checked() {
    let server = unlimited(Transport::Unix, &["--echo"]);
    // One byte; a whole one; several chunks each, more of them than an outbox holds.
    for (size, window, messages) in [
        ("1", "9", "2000"),
        ("8192", "4", "100"),
        ("300000", "20", "60"),
    ] {
        let options = [
            "echo",
            "--size",
            size,
            "--window",
            window,
            "--messages",
            messages,
            "--json",
        ];
        let report = json(&bench(&server, &[&SMALL, &options]).expect(0));
        assert_eq!(report["messages"].to_string(), messages);
    }
    // 64 MiB go in chunks, and no byte more.
    let too_large = bench(&server, &[&["echo", "--size", "67108865"]]);
    too_large.fails(2, &["too large", "up to 67108864"]);
    server.stop();
}

#[test]
fn an_open_loop_sends_in_time() {
    let server = unlimited(Transport::Unix, &["--echo"]);
    let options = ["echo", "--rate", "1000", "--json", "--connections", "4"];
    let time = ["--duration", "500ms", "--warm-up", "100ms"];
    let report = json(&bench(&server, &[&options, &time]).expect(0));
    // As many as are due in that time, less those that a busy machine did not come to.
    let (messages, unsent) = (report["messages"].as_u64(), report["unsent"].as_u64());
    let (messages, unsent) = (messages.expect("a number"), unsent.expect("a number"));
    assert!(messages <= 500 && messages + unsent >= 480, "{report}");
    assert_eq!(report["rate"], 1000);
    assert_eq!(report["corrected_us"], Value::Null);
    are_latencies(&report["latency_us"]);
    are_latencies(&report["late_us"]);
    server.stop();
}

/// A closed loop would not notice; an open one counts from when a message was due.
#[test]
fn a_pause_of_the_server_counts_for_all_that_were_due() {
    let server = unlimited(Transport::Unix, &["--echo"]);
    let options = [
        "echo",
        "--connections",
        "1",
        "--window",
        "1",
        "--rate",
        "200",
        "--json",
    ];
    let time = ["--warm-up", "0s", "--duration", "2s"];
    let running = start(&server, &[&options[..], &time].concat());
    until("it has begun", || has_clients(&server, 1));
    std::thread::sleep(Duration::from_millis(300));
    server.program().signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(800));
    server.program().signal(Signal::CONT);
    let report = json(&running.finish().expect(0));
    // Of two seconds the server was away for 0.8: more than a tenth waited for a good part of that.
    let p90 = report["latency_us"]["p90"].as_f64();
    assert!(p90 > Some(200_000.0), "{report}");
    server.stop();
}

/// Messages count when they go out, so that a rate that nobody keeps up with is measured too.
#[test]
fn a_rate_that_is_too_high_is_told_of() {
    let server = Server::start(Transport::Unix, &["--echo", "--max-rate", "1000"]);
    let options = ["echo", "--connections", "1", "--rate", "20000", "--json"];
    let time = ["--warm-up", "100ms", "--duration", "1500ms"];
    let text = bench(&server, &[&options, &time]).expect(0);
    let report = json(&text);
    assert!(report["unsent"].as_u64() > Some(10_000), "{report}");
    assert!(
        report["latency_us"]["max"].as_f64() > Some(500_000.0),
        "{report}"
    );
    assert!(
        text.stderr.contains("were due and never went out"),
        "{text}"
    );
    server.stop();
}

/// Whether so many are connected, as the log has it.
fn has_clients(server: &Server, count: usize) -> bool {
    server
        .program()
        .error_output()
        .matches("INFO session established")
        .count()
        >= count
}

#[test]
fn deliveries_to_all_others_are_counted() {
    for transport in Transport::ALL {
        let server = unlimited(transport, &[]);
        for size in ["3", "100", "20000"] {
            let all: [&[&str]; 2] = [&SMALL, &["fan-out", "--messages", "50", "--size", size]];
            let report =
                json(&bench(&server, &[all.as_slice(), &[&["--json"]]].concat()).expect(0));
            let keys = [
                "bytes_per_second",
                "deliveries",
                "deliveries_per_second",
                "late_us",
                "latency_us",
                "rate",
                "size",
                "unsent",
                "window",
            ];
            has_keys(&report, &keys);
            assert_eq!(report["deliveries"], 150);
            are_latencies(&report["latency_us"]);
            let text = bench(&server, &all).expect(0);
            assert_eq!(line(&text, "deliveries")[1], "150");
            assert!(text.text().contains(": 3 receivers"), "{text}");
        }
        // Whoever is last makes room for the next.
        let options = [
            "fan-out",
            "--messages",
            "50",
            "--window",
            "1",
            "--wait",
            "1m",
        ];
        let text = bench(&server, &[&SMALL, &options]).expect(0);
        assert_eq!(line(&text, "deliveries")[1], "150");
        server.stop();
    }
}

#[test]
fn fan_out_has_a_rate_too() {
    let server = unlimited(Transport::Unix, &[]);
    let options = ["fan-out", "--connections", "2", "--rate", "500", "--json"];
    let time = ["--warm-up", "0s", "--duration", "400ms"];
    let report = json(&bench(&server, &[&options, &time]).expect(0));
    let deliveries = report["deliveries"].as_u64().expect("a number");
    let unsent = report["unsent"].as_u64().expect("a number");
    assert!(
        deliveries <= 400 && deliveries + 2 * unsent >= 380,
        "{report}"
    );
    are_latencies(&report["late_us"]);
    server.stop();
}

#[test]
fn visits_are_counted_and_timed() {
    for transport in Transport::ALL {
        let server = Server::start(transport, &[]);
        let all: [&[&str]; 2] = [&SMALL, &["connect", "--messages", "60"]];
        let report = json(&bench(&server, &[all.as_slice(), &[&["--json"]]].concat()).expect(0));
        let keys = [
            "failures",
            "latency_us",
            "visit_us",
            "visits",
            "visits_per_second",
        ];
        has_keys(&report, &keys);
        assert_eq!(
            (&report["visits"], &report["failures"]),
            (&60.into(), &0.into())
        );
        are_latencies(&report["latency_us"]);
        are_latencies(&report["visit_us"]);
        let text = bench(&server, &all).expect(0);
        assert_eq!(line(&text, "visits")[1], "60");
        assert_eq!(line(&text, "failures")[1], "0");
        // Each has said goodbye.
        let goodbye = "reason=Peer { reason: \"The measurement is over\" }";
        until("all have left", || {
            server.program().error_output().matches(goodbye).count() >= 120
        });
        server.stop();
    }
}

#[test]
fn visits_that_fail_are_counted_and_fail_it() {
    let server = Server::start(Transport::Unix, &["--max-connections", "1"]);
    let options = [
        "connect",
        "--connections",
        "4",
        "--duration",
        "300ms",
        "--warm-up",
        "0s",
    ];
    let text = bench(&server, &[&options]);
    assert_ne!(line(&text, "failures")[1], "0");
    text.fails(
        69,
        &[
            "connections failed, the first one with",
            "The server is full",
        ],
    );
    server.stop();
}

#[test]
fn idle_connections_cost_memory() {
    for transport in Transport::ALL {
        let server = Server::start(transport, &[]);
        let pid = server.program().id().to_string();
        let all: [&[&str]; 2] = [
            &["idle", "--connections", "100", "--duration", "300ms"],
            &["--server-pid", &pid],
        ];
        let report = json(&bench(&server, &[all.as_slice(), &[&["--json"]]].concat()).expect(0));
        has_keys(&report, &["opened", "stayed"]);
        assert_eq!(
            (&report["opened"], &report["stayed"]),
            (&100.into(), &100.into())
        );
        assert!(report["seconds"].as_f64() >= Some(0.3));
        if cfg!(target_os = "linux") {
            let mut keys: Vec<_> = report["server"]
                .as_object()
                .expect("an object")
                .keys()
                .collect();
            keys.sort_unstable();
            let expected = ["cpu_percent", "pid", "rss_before_bytes", "rss_bytes"];
            assert_eq!(keys[..4], expected);
            assert_eq!(keys[4..], ["rss_bytes_per_connection"]);
            let bytes = report["server"]["rss_bytes_per_connection"].as_u64();
            assert!(bytes > Some(100), "{report}");
        }
        let text = bench(&server, &all).expect(0);
        assert_eq!(line(&text, "stayed")[1], "100");
        assert!(text.text().contains("B for each connection"), "{text}");
        server.stop();
    }
}

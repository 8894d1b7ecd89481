//! The comparison with other servers, for a moment: that it measures what it says, not how fast.

use std::path::Path;
use std::process::Command;

use chat_tests::program::Program;
use serde_json::Value;

fn peers(arguments: &[&str]) -> Program {
    let peers = Path::new(env!("CARGO_BIN_EXE_peers"));
    Program::start(Command::new(peers).args(arguments))
}

/// The rows for programs of what is measured; a table and a picture come with them.
fn measure(only: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| {
        let path = folder.path().join(name);
        path.to_str().expect("the path is text").to_owned()
    };
    let (json, svg) = (path("it.json"), path("it.svg"));
    let table = peers(&[
        "--quick",
        "--idle=200",
        "--only",
        only,
        "--json",
        &json,
        "--svg",
        &svg,
    ]);
    let table = table.wait().expect(0).text();
    let report = std::fs::read_to_string(json).expect("it was written");
    let report: Value = serde_json::from_str(&report).expect("it is JSON");
    assert!(report["sha256_bytes_per_second"].as_f64() > Some(0.0));
    assert!(report["machine"].is_string() && report["notes"].is_array());
    let picture = std::fs::read_to_string(svg).expect("it was drawn");
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
    let rows = report["rows"].as_array().expect("rows").clone();
    for row in &rows {
        let server = row["server"].as_str().expect("a name");
        assert!(
            picture.contains(server) && table.contains(server),
            "{server}"
        );
    }
    rows
}

/// Which server was measured in which case.
fn names(rows: &[Value]) -> Vec<(&str, &str)> {
    let named = rows
        .iter()
        .map(|row| (row["case"].as_str(), row["server"].as_str()));
    named
        .filter_map(|(case, server)| case.zip(server))
        .collect()
}

/// Of each row, whether it has a figure under each of these keys, and under no other.
fn assert_figures(rows: &[Value], keys: &[&str]) {
    for row in rows {
        for key in FIGURES {
            let value = row[key].as_f64();
            assert_eq!(value > Some(0.0), keys.contains(&key), "{key} of {row}");
        }
        assert_eq!(row["runs"], 1);
        assert!(row["times_ours"].as_f64() > Some(0.0), "{row}");
    }
}

const FIGURES: [&str; 7] = [
    "per_second",
    "server_cpu_us",
    "server_busy",
    "load_busy",
    "p50_us",
    "p99_us",
    "bytes_per_connection",
];

#[test]
fn a_flood_is_measured_of_ours_and_of_another() {
    let rows = measure("echo-16B-64x16,chat-tokio,delimited-tuned");
    let case = "echo-16B-64x16";
    assert_eq!(
        names(&rows),
        [(case, "chat-tokio"), (case, "delimited-tuned")]
    );
    assert_figures(&rows, &FIGURES[..4]);
    assert_eq!(rows[0]["times_ours"], 1.0);
}

#[test]
fn what_is_no_flood_is_measured_too() {
    let rows = measure("ping-pong-16B,visits,idle,chat-tokio,tungstenite");
    let both = |case| [(case, "chat-tokio"), (case, "tungstenite")];
    let cases = ["ping-pong-16B", "visits", "idle"].map(both);
    assert_eq!(names(&rows), cases.concat());
    assert_figures(&rows[..2], &FIGURES[..6]);
    assert_figures(&rows[2..4], &FIGURES[..4]);
    assert_figures(&rows[4..], &FIGURES[6..]);
}

#[test]
fn a_name_that_nothing_has_is_an_error() {
    let end = peers(&["--quick", "--only", "echo-16B-64x16,carrier-pigeon"]).wait();
    let said = end.expect(1).to_string();
    assert!(said.contains("nothing is called carrier-pigeon"), "{said}");
}

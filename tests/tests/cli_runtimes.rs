//! The programs on each runtime.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use chat_tests::program::{Program, Server, Signal, Transport, chat_cli};
use tempfile::tempdir;

const RUNTIMES: [&str; 3] = ["tokio", "async-std", "smol"];

/// A server on each, a client on each.
#[test]
fn any_runtime_talks_to_any() {
    let lines: Vec<_> = (1..=1_000).map(|number| number.to_string()).collect();
    let lines = lines.join(
        "
",
    ) + "
";
    for transport in Transport::ALL {
        for server in RUNTIMES {
            let server = Server::start(transport, &["--runtime", server]);
            for client in RUNTIMES {
                let sent = server.run(&["--runtime", client, "--file", "-"], lines.clone());
                assert_eq!(sent.expect(0).text(), lines);
            }
            server.stop();
        }
    }
}

#[test]
fn another_runtime_is_a_usage_error() {
    let refused = Program::run(["serve", "--runtime", "glommio"], b"");
    let refused = refused.expect(2);
    let text = "[possible values: tokio, async-std, smol]";
    assert!(refused.stderr.contains(text), "{}", refused.stderr);
}

/// The processor time that a process has taken, in hundredths of a second.
#[cfg(target_os = "linux")]
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // The name in brackets may hold anything; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let time = fields.split(' ').skip(11).take(2);
    time.map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum()
}

/// Out of descriptors a server waits, takes next to no time, and goes on when there are some again.
#[cfg(target_os = "linux")]
#[test]
fn without_descriptors_it_neither_spins_nor_ends() {
    thread::scope(|scope| {
        for transport in Transport::ALL {
            for runtime in RUNTIMES {
                scope.spawn(move || exhaust(transport, runtime));
            }
        }
    });
}

#[cfg(target_os = "linux")]
fn exhaust(transport: Transport, runtime: &str) {
    const LIMITED: &str = "ulimit -n 24; exec \"$0\" \"$@\"";
    let folder = tempdir().expect("a folder can be made");
    let path = folder.path().join("s");
    let place = match transport {
        Transport::Tcp => ["--tcp", "127.0.0.1:0"],
        Transport::Unix => ["--unix", path.to_str().expect("the path is text")],
    };
    let mut command = Command::new("sh");
    command
        .args(["-c", LIMITED])
        .arg(chat_cli())
        .args(["serve", "--runtime", runtime])
        .args(place);
    let server = Program::start(&mut command);
    let line = server.line("listening on ");
    let place = [place[0], line.rsplit(' ').next().expect("a place")];

    let connect = || -> Box<dyn Send> {
        match transport {
            Transport::Tcp => Box::new(TcpStream::connect(place[1]).expect("a backlog")),
            Transport::Unix => Box::new(UnixStream::connect(place[1]).expect("a backlog")),
        }
    };
    let idle: Vec<_> = (0..40).map(|_| connect()).collect();
    server.log("cannot accept connections; trying again until it works");
    let before = ticks(server.id());
    thread::sleep(Duration::from_secs(2));
    let taken = ticks(server.id()) - before;
    assert!(taken < 20, "{taken} ticks of about 200: {server}");

    drop(idle);
    let connect = ["connect"].iter().chain(&place).chain(&["--file", "-"]);
    let sent = Program::run(connect, b"hello\n");
    assert_eq!(sent.expect(0).text(), "hello\n");
    server.signal(Signal::TERM);
    server.wait().expect(0);
}

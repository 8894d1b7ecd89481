//! Recordings of servers, played to clients by somebody who holds no key.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use chat_tests::program::peer::{self, Padding, PeerServer};
use chat_tests::program::{Finished, PATIENCE, Program, Server, Transport};

const DEMAND: [&str; 2] = ["--min-security", "sec"];

/// Asserts that the client takes the server for one that does not hold the key, and prints nothing.
#[track_caller]
fn is_found_out(finished: Finished, why: &str) {
    let failed = finished.fails(77, &[why]);
    assert_eq!(failed.text(), "");
}

/// What a server says in a session in which a client sends `hello`.
fn recorded(server: &str) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let place = listener.local_addr().expect("it is bound").to_string();
    let server = server.to_owned();
    let recorder = thread::spawn(move || {
        let (near, _) = listener.accept()?;
        let far = TcpStream::connect(server)?;
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        let (mut to_far, mut from_near) = (far.try_clone()?, near.try_clone()?);
        let up = thread::spawn(move || {
            let _ = io::copy(&mut from_near, &mut to_far);
            to_far.shutdown(Shutdown::Write)
        });
        let (mut tape, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match (&far).read(&mut buffer)? {
                0 => break,
                count => {
                    tape.extend_from_slice(&buffer[..count]);
                    // The client may be gone.
                    let _ = (&near).write_all(&buffer[..count]);
                }
            }
        }
        let _ = near.shutdown(Shutdown::Both);
        let _ = up.join();
        io::Result::Ok(tape)
    });
    let client = Program::run(["connect", "--tcp", &place, "--file", "-"], b"hello\n");
    assert!(client.expect(0).text().ends_with("hello\n"));
    let tape = recorder.join().expect("no panic");
    tape.expect("it is recorded")
}

/// Runs a client of somebody who says what was recorded, whatever is said to them.
fn replay(tape: &[u8], options: &[&str]) -> Finished {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let place = listener.local_addr().expect("it is bound").to_string();
    let tape = tape.to_vec();
    let replayer = thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&tape)?;
        stream.shutdown(Shutdown::Write)?;
        io::copy(&mut stream, &mut io::sink())
    });
    let connect = ["connect", "--tcp", &place, "--file", "-", "--wait", "2s"];
    let finished = Program::run(connect.iter().chain(options), b"hello\n");
    // How the client left is no matter.
    let _ = replayer.join().expect("no panic");
    finished
}

/// The first frame of a recording: `session_init`.
fn first_frame(tape: &[u8]) -> &[u8] {
    let number = |from: usize, to: usize| {
        let add = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
        tape[from..to].iter().fold(0, add)
    };
    &tape[..64 + number(12, 16) + number(20, 28)]
}

#[test]
fn a_recording_of_a_server_deceives_nobody() {
    let server = Server::start(Transport::Tcp, &[]);
    let tape = recorded(server.place());
    server.stop();
    let init = first_frame(&tape);
    assert!(init.len() < tape.len());
    for demand in [&[][..], &DEMAND] {
        is_found_out(replay(&tape, demand), "the server holds another key");
        is_found_out(replay(init, demand), "the server did not accept the key");
    }
}

#[test]
fn a_recording_of_an_old_server_deceives_only_who_demands_nothing() {
    if !peer::is_there() {
        return;
    }
    let server = PeerServer::start(Transport::Tcp, "burst-out", Padding::None, &[]);
    let tape = recorded(server.address()[1]);
    server.ok();
    for tape in [&tape, first_frame(&tape)] {
        let why = "the server does not authenticate its messages with sec";
        is_found_out(replay(tape, &DEMAND), why);
    }
    // As section 8 of the specification says.
    let deceived = replay(&tape, &[]);
    assert!(deceived.text().contains("line 0001\n"), "{deceived}");
}

//! What is not a flood: one message at a time, connections that come and go, connections that stay.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::{SockAddr, SockRef, Socket, Type};

use super::hello::{Hello, Protocol};
use super::load::{Run, Watch};
use super::process::Server;
use super::wire::{self, Wire};

/// How long the load waits for a server.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many come at a time.
const GUESTS: usize = 32;
/// So many connections have the same source address: none has ports for all of them.
const PER_ADDRESS: usize = 5_000;
/// How long the servers are left alone before their memory is looked at.
const SETTLING: Duration = Duration::from_millis(300);

/// One message at a time, there and back; how long each took goes into `took`, in nanoseconds.
pub fn ping_pong(
    server: &Server,
    protocol: Protocol,
    len: usize,
    warm_up: Duration,
    time: Duration,
    took: &mut Vec<u64>,
) -> io::Result<Run> {
    let mut socket = connect(server.address(), 0)?;
    let mut hello = Hello::new(protocol, "echo");
    hello.finish(&mut socket)?;
    let mut content = Bytes::from(crate::pattern(len));
    if protocol == Protocol::Bare {
        // As many bytes as a message of ours has.
        content = Bytes::from(crate::pattern(wire::our_len(&content)));
    }
    let mut wire = Wire::new(protocol, hello, "echo", &content);
    let mut buffer = vec![0; wire::BATCH];
    let mut ask = |socket: &mut TcpStream| -> io::Result<Duration> {
        let begun = Instant::now();
        wire.send(1);
        wire.flush(socket)?;
        let mut answers = 0;
        while answers == 0 {
            match socket.read(&mut buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => answers = wire.receive(&buffer[..read])?,
            }
        }
        Ok(begun.elapsed())
    };
    let begun = Instant::now();
    while begun.elapsed() < warm_up {
        ask(&mut socket)?;
    }
    let watch = Watch::start(server);
    let before = took.len();
    while watch.elapsed() < time {
        let nanos = ask(&mut socket)?.as_nanos();
        took.push(u64::try_from(nanos).unwrap_or(u64::MAX));
    }
    Ok(watch.stop(took.len() - before))
}

/// The value that so much of `took` does not exceed, in microseconds.
pub fn percentile(took: &mut [u64], part: f64) -> f64 {
    took.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a length is one"
    )]
    let place = (took.len() as f64 * part) as usize;
    let nanos = took.get(place.min(took.len().saturating_sub(1)));
    nanos.map_or(f64::NAN, |nanos| {
        Duration::from_nanos(*nanos).as_secs_f64() * 1e6
    })
}

/// Clients that connect, say hello, say goodbye and wait for the end, some at a time.
pub fn visits(server: &Server, protocol: Protocol, time: Duration) -> io::Result<Run> {
    let watch = Watch::start(server);
    let mut count = 0;
    while watch.elapsed() < time {
        let mut guests = Vec::new();
        for _ in 0..GUESTS {
            let socket = connect(server.address(), 0)?;
            guests.push((socket, Hello::new(protocol, "echo"), false));
        }
        while guests.iter().any(|(_, _, arrived)| !arrived) {
            // A step each, so that all are underway at the same time.
            for (socket, hello, arrived) in &mut guests {
                *arrived = *arrived || hello.step(socket)?;
            }
        }
        for (socket, hello, _) in &mut guests {
            hello.goodbye(socket)?;
        }
        for (mut socket, _, _) in guests {
            let mut rest = [0; 1024];
            loop {
                match socket.read(&mut rest) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                    Err(error) => return Err(error),
                }
            }
            count += 1;
        }
    }
    Ok(watch.stop(count))
}

/// How many bytes of its memory each of so many connections costs a server that have arrived and say
/// nothing.
pub fn idle(server: &Server, protocol: Protocol, count: usize) -> io::Result<f64> {
    let arrive = |number: usize| -> io::Result<TcpStream> {
        let mut socket = connect(server.address(), number / PER_ADDRESS)?;
        Hello::new(protocol, &format!("e{number}")).finish(&mut socket)?;
        // Ended by a reset: else its port would stay taken for a minute, and others need it.
        SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        Ok(socket)
    };
    // What the first costs is no question of how many there are.
    let mut sockets = vec![arrive(0)?];
    thread::sleep(SETTLING);
    let before = server.memory();
    for number in 0..count {
        sockets.push(arrive(number)?);
    }
    thread::sleep(SETTLING);
    let grown = server.memory().saturating_sub(before);
    drop(sockets);
    #[expect(clippy::cast_precision_loss, reason = "neither is so large")]
    Ok(grown as f64 / count as f64)
}

/// Connects, over TCP from one of the loopback addresses, the first of which is 127.0.0.1. A socket is a
/// socket to who only reads and writes: that of a Unix socket has the same type.
pub(super) fn connect(server: &SockAddr, from: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(server.domain(), Type::STREAM, None)?;
    if from > 0 && !server.is_unix() {
        let last = u8::try_from(from + 1).map_err(io::Error::other)?;
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        socket.bind(&from.into())?;
    }
    socket.connect(server)?;
    if !server.is_unix() {
        socket.set_tcp_nodelay(true)?;
    }
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let mut took: Vec<u64> = (0..100).rev().map(|n| n * 1_000).collect();
        assert!((percentile(&mut took, 0.5) - 50.0).abs() < 1e-9);
        assert!((percentile(&mut took, 0.99) - 99.0).abs() < 1e-9);
        assert!((percentile(&mut took, 1.0) - 99.0).abs() < 1e-9);
        assert!(percentile(&mut [], 0.5).is_nan());
    }
}

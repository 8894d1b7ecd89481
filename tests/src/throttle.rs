//! A slow line: a TCP proxy that lets through so many bytes in a second, each way.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How often bytes are let through.
const TICK: Duration = Duration::from_millis(20);

/// Forwards one connection to `target`, and returns where to connect instead.
pub fn slow_line(target: SocketAddr, bytes_per_second: usize) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || -> io::Result<()> {
        let (near, _) = listener.accept()?;
        let far = TcpStream::connect(target)?;
        let back = (far.try_clone()?, near.try_clone()?);
        thread::spawn(move || trickle(back.0, back.1, bytes_per_second));
        trickle(near, far, bytes_per_second)
    });
    Ok(address)
}

/// Copies until the end, no faster than it should be.
fn trickle(mut from: TcpStream, mut to: TcpStream, bytes_per_second: usize) -> io::Result<()> {
    let mut buffer = vec![0; bytes_per_second / 50];
    let start = Instant::now();
    let mut ticks = 0;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return to.shutdown(Shutdown::Write);
        }
        to.write_all(&buffer[..read])?;
        // What was not used is lost, as on a line.
        let now = start.elapsed().as_millis() / TICK.as_millis();
        ticks = (ticks + 1).max(u32::try_from(now).unwrap_or(u32::MAX));
        thread::sleep((TICK * ticks).saturating_sub(start.elapsed()));
    }
}

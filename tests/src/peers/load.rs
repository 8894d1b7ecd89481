//! The load: one thread that keeps so many messages in flight on so many connections.

use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockAddr;

use super::hello::{Hello, Protocol};
use super::process::{Server, own_cpu};
use super::solo;
use super::wire::{BATCH, Wire};

/// How long it may take until everything in flight has come back.
const DRAINING: Duration = Duration::from_secs(20);

/// How long the server may take to let those into the room who are connected.
const ENTERING: Duration = Duration::from_millis(100);

/// What is kept going.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many connections there are.
    pub connections: usize,
    /// How many messages of each are in flight; in a room, of the only one that talks.
    pub in_flight: usize,
    /// How long their content is.
    pub len: usize,
    /// One talks, all hear it.
    pub room: bool,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// How many messages arrived.
    pub messages: f64,
    /// In so many seconds.
    pub seconds: f64,
    /// The seconds of processor time that the server had.
    pub server: f64,
    /// The same of the load.
    pub load: f64,
}

/// What a stretch of time cost.
pub(super) struct Watch<'a> {
    server: &'a Server,
    begun: Instant,
    cpu: Duration,
    own: Duration,
}

impl<'a> Watch<'a> {
    pub(super) fn start(server: &'a Server) -> Self {
        let (cpu, own) = (server.cpu(), own_cpu());
        let begun = Instant::now();
        Self {
            server,
            begun,
            cpu,
            own,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn stop(&self, messages: usize) -> Run {
        let seconds = self.begun.elapsed().as_secs_f64();
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        Run {
            messages: messages.into(),
            seconds,
            server: self.server.cpu().saturating_sub(self.cpu).as_secs_f64(),
            load: own_cpu().saturating_sub(self.own).as_secs_f64(),
        }
    }
}

/// Connections to a server, established.
pub struct Load {
    poll: Poll,
    lines: Vec<Line>,
    shape: Shape,
    buffer: Vec<u8>,
    /// In a room: how many messages were sent.
    sent: usize,
    stopping: bool,
}

struct Line {
    socket: TcpStream,
    wire: Wire,
    in_flight: usize,
    done: usize,
}

impl Load {
    /// Connects all.
    pub fn connect(server: &SockAddr, protocol: Protocol, shape: Shape) -> io::Result<Self> {
        let poll = Poll::new()?;
        let content = Bytes::from(crate::pattern(shape.len));
        let mut lines = Vec::new();
        for number in 0..shape.connections {
            let mut socket = solo::connect(server, 0)?;
            socket.set_read_timeout(Some(DRAINING))?;
            // Of one length, for answers are counted by theirs.
            let subject = if shape.room {
                "room".into()
            } else {
                format!("e{number:03}")
            };
            let mut hello = Hello::new(protocol, &subject);
            hello.finish(&mut socket)?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut socket, Token(number), both)?;
            lines.push(Line {
                socket,
                wire: Wire::new(protocol, hello, &subject, &content),
                in_flight: 0,
                done: 0,
            });
        }
        if shape.room && protocol == Protocol::Delimited {
            // Nothing says that the last of them is in the room.
            thread::sleep(ENTERING);
        }
        Ok(Self {
            poll,
            lines,
            shape,
            buffer: vec![0; BATCH],
            sent: 0,
            stopping: false,
        })
    }

    /// Warms up, measures, and waits until all have come back.
    pub fn run(mut self, server: &Server, warm_up: Duration, time: Duration) -> io::Result<Run> {
        self.keep_going(Instant::now() + warm_up)?;
        let (watch, before) = (Watch::start(server), self.done());
        self.keep_going(Instant::now() + time)?;
        let run = watch.stop(self.done() - before);
        self.stopping = true;
        let until = Instant::now() + DRAINING;
        while self.waits() {
            if Instant::now() > until {
                return Err(io::Error::other("not everything comes back"));
            }
            self.keep_going(Instant::now() + Duration::from_millis(20))?;
        }
        if !self.lines.iter().all(|line| line.wire.is_even()) {
            return Err(io::Error::other("something came that is no answer"));
        }
        Ok(run)
    }

    fn done(&self) -> usize {
        self.lines.iter().map(|line| line.done).sum()
    }

    fn waits(&self) -> bool {
        if self.shape.room {
            return self.lines.iter().any(|line| line.done < self.sent);
        }
        self.lines.iter().any(|line| line.in_flight > 0)
    }

    fn keep_going(&mut self, until: Instant) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        // What the last call left.
        for number in 0..self.lines.len() {
            self.work(number, until)?;
        }
        self.talk(until)?;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            match self.poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                done => done?,
            }
            for event in &events {
                self.work(event.token().0, until)?;
            }
            self.talk(until)?;
        }
        Ok(())
    }

    /// In a room: says as much more as the slowest has heard.
    fn talk(&mut self, until: Instant) -> io::Result<()> {
        if !self.shape.room || self.stopping {
            return Ok(());
        }
        let slowest = self.lines.iter().map(|line| line.done).min().unwrap_or(0);
        let more = self.shape.in_flight - (self.sent - slowest);
        if more == 0 {
            return Ok(());
        }
        self.sent += more;
        self.lines[0].wire.send(more);
        self.work(0, until)
    }

    /// All that there is to do on a connection: its socket reports only what is new.
    fn work(&mut self, number: usize, until: Instant) -> io::Result<()> {
        let line = &mut self.lines[number];
        loop {
            if !self.stopping && !self.shape.room {
                let more = self.shape.in_flight - line.in_flight;
                line.wire.send(more);
                line.in_flight += more;
            }
            line.wire.flush(&mut line.socket)?;
            let read = match line.socket.read(&mut self.buffer) {
                Ok(0) => return Err(io::Error::other("the server hangs up")),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let count = line.wire.receive(&self.buffer[..read])?;
            line.done += count;
            if !self.shape.room {
                let left = line.in_flight.checked_sub(count);
                line.in_flight = left.ok_or_else(|| io::Error::other("more answers than asked"))?;
            }
            if Instant::now() > until {
                return Ok(());
            }
        }
    }
}

//! What a load came to, for people and for programs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chat_core::driver::Client;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::args::{Bench, Load};
use super::meter::{COLUMNS, Time, Times};
use super::process::Sample;
use super::run::Run;
use super::{Measured, Server};
use crate::exit::Failure;
use crate::screen::note;

/// What it costs, while it is measured.
pub(super) struct Costs(JoinHandle<[Option<Sample>; 2]>);

/// The processes from when it counts to the end.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    /// The server, and this program.
    shares: [Option<f64>; 2],
    memory: Option<u64>,
}

impl Costs {
    /// Begins when what is due begins to count.
    pub(super) fn begin(server: &Server, run: &Arc<Run>) -> Self {
        let (process, counts_from) = (server.process, run.counts_from);
        Self(tokio::spawn(async move {
            sleep_until(counts_from.into()).await;
            let server = process.and_then(|process| Sample::of(&process.to_string()).ok());
            [server, Sample::of("self").ok()]
        }))
    }

    /// Ends now. If it has not begun, little is known.
    pub(super) async fn end(self, server: &Server) -> Cost {
        let before = if self.0.is_finished() {
            self.0.await.unwrap_or_default()
        } else {
            self.0.abort();
            [None; 2]
        };
        let after = [server.sample(), Sample::of("self").ok()];
        let share = |index: usize| Some(after[index]?.share_since(&before[index]?));
        Cost {
            shares: [share(0), share(1)],
            memory: after[0].map(|sample| sample.memory),
        }
    }
}

/// The number of messages that were due and never went out, where there is a rate.
pub(super) const UNSENT: &str = "unsent";

/// What a load came to.
pub(super) struct Report {
    load: Load,
    place: String,
    security: &'static str,
    trust: bool,
    connections: usize,
    window: Option<usize>,
    size: Option<usize>,
    rate: Option<u64>,
    time: Duration,
    interrupted: bool,
    throttled: bool,
    counts: Vec<(&'static str, u64)>,
    /// Of counts, a second.
    speeds: Vec<(&'static str, f64)>,
    times: Vec<(&'static str, Option<Times>)>,
    process: Option<u32>,
    memory_before: Option<u64>,
    cost: Option<Cost>,
}

impl Report {
    pub(super) fn new(args: &Bench, client: Option<&Client>, server: &Server) -> Self {
        let has_messages = matches!(args.load, Load::Echo | Load::FanOut);
        Self {
            load: args.load,
            place: args.endpoint().to_string(),
            security: match client.and_then(Client::security) {
                Some(chat_core::Security::Sec) => "sec",
                _ => "legacy",
            },
            trust: client.is_some_and(Client::is_channel_trusted),
            connections: args.connections,
            window: has_messages.then(|| args.window()),
            size: has_messages.then(|| args.size()),
            rate: args.rate,
            time: Duration::ZERO,
            interrupted: false,
            throttled: false,
            counts: Vec::new(),
            speeds: Vec::new(),
            times: Vec::new(),
            process: server.process,
            memory_before: server.before.map(|sample| sample.memory),
            cost: None,
        }
    }

    /// What the processes have cost.
    pub(super) fn cost(&mut self, cost: Cost) {
        self.cost = Some(cost);
    }

    /// A number.
    pub(super) fn count(&mut self, name: &'static str, number: u64) {
        self.counts.push((name, number));
    }

    /// A number of what was done in the time that counts.
    pub(super) fn done(&mut self, name: &'static str, run: &Run) {
        let number = run.meter.sum(Time::Main).count();
        self.time = run.elapsed();
        self.count(name, number);
        let speed = per_second(number, self.time);
        self.speeds.push((name, speed));
        if let Some(size) = self.size {
            let bytes = number.saturating_mul(size as u64);
            self.speeds.push(("bytes", per_second(bytes, self.time)));
        }
    }

    /// Latencies; none where they have no meaning.
    pub(super) fn time(&mut self, name: &'static str, times: Option<Times>) {
        self.times.push((name, times));
    }

    /// How long something without a latency took.
    pub(super) fn held(&mut self, time: Duration) {
        self.time = time;
    }

    /// The whole of it, and what is wrong with it: nothing may look good that was not measured.
    pub(super) fn end(mut self, run: &Run, interrupted: bool) -> Measured {
        self.interrupted = interrupted;
        self.throttled = run.is_throttled();
        if let Some((_, unsent)) = self.counts.iter().find(|(name, _)| *name == UNSENT)
            && *unsent > 0
        {
            note(format_args!(
                "hint: {unsent} messages were due and never went out: the server did not keep up with --rate, \
                 or this program did not"
            ));
        }
        let nothing = self.load != Load::Idle && run.meter.sum(Time::Main).count() == 0;
        let outcome = if interrupted {
            Err(Failure::interrupted())
        } else if nothing {
            Err(Failure::timeout(
                "nothing was measured in the time that there was; give it more with --duration",
            ))
        } else {
            Ok(())
        };
        (self, outcome)
    }

    /// The memory that each connection has made the server take.
    fn memory_per_connection(&self) -> Option<u64> {
        let (before, after) = (self.memory_before?, self.cost?.memory?);
        let opened = self.counts.iter().find(|(name, _)| *name == "opened")?.1;
        after.saturating_sub(before).checked_div(opened)
    }

    fn shares(&self) -> [Option<f64>; 2] {
        self.cost.map_or([None; 2], |cost| cost.shares)
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let [server_share, own_share] = self.shares();
        let mut server = json!({
            "pid": self.process,
            "cpu_percent": server_share,
            "rss_before_bytes": self.memory_before,
            "rss_bytes": self.cost.and_then(|cost| cost.memory),
        });
        if self.load == Load::Idle {
            server["rss_bytes_per_connection"] = json!(self.memory_per_connection());
        }
        let mut all = json!({
            "load": self.load.name(),
            "endpoint": self.place,
            "security": self.security,
            "trust": self.trust,
            "connections": self.connections,
            "seconds": self.time.as_secs_f64(),
            "interrupted": self.interrupted,
            "throttled": self.throttled,
            "cpu_percent": own_share,
            "server": self.process.map(|_| server),
        });
        if self.window.is_some() {
            all["window"] = json!(self.window);
            all["size"] = json!(self.size);
            all["rate"] = json!(self.rate);
        }
        let mut more = Map::new();
        for (name, number) in &self.counts {
            more.insert((*name).into(), json!(number));
        }
        for (name, speed) in &self.speeds {
            more.insert(format!("{name}_per_second"), json!(speed));
        }
        for (name, times) in &self.times {
            let times = times.as_ref().map(Times::json);
            more.insert(format!("{name}_us"), json!(times));
        }
        if let Value::Object(all) = &mut all {
            all.append(&mut more);
        }
        all
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place, connections, ..
        } = self;
        let plural = if *connections == 1 { "" } else { "s" };
        let trust = if self.trust { ", trust" } else { "" };
        let (load, security) = (self.load.name(), self.security);
        write!(f, "{load} over {place} ({security}{trust})")?;
        let whose = match self.load {
            Load::FanOut => "receiver",
            Load::Echo | Load::Connect | Load::Idle => "connection",
        };
        write!(f, ": {connections} {whose}{plural}")?;
        if let (Some(window), Some(size)) = (self.window, self.size) {
            write!(f, ", window {window}, messages of {size} B")?;
        }
        match self.rate {
            Some(rate) => write!(f, ", {rate} due a second")?,
            None if self.window.is_some() => write!(f, ", closed loop")?,
            None => {}
        }
        write!(f, ", {:.2} s", self.time.as_secs_f64())?;
        for (is_so, word) in [
            (self.throttled, "throttled"),
            (self.interrupted, "interrupted"),
        ] {
            if is_so {
                write!(f, ", {word}")?;
            }
        }
        writeln!(f)?;
        for (name, number) in &self.counts {
            if *name == UNSENT && self.rate.is_none() {
                continue;
            }
            write!(f, "{name:<12}{number:>12}")?;
            if let Some((_, speed)) = self.speeds.iter().find(|(of, _)| of == name) {
                write!(f, "  {speed:.0} a second")?;
                if let Some((_, bytes)) = self.speeds.iter().find(|(of, _)| *of == "bytes") {
                    write!(f, ", {:.2} MB a second", bytes / 1e6)?;
                }
            }
            writeln!(f)?;
        }
        let times = || {
            self.times
                .iter()
                .filter_map(|(name, times)| Some((name, times.as_ref()?)))
        };
        if times().next().is_some() {
            write!(f, "{:<12}", "in µs")?;
            COLUMNS
                .iter()
                .try_for_each(|name| write!(f, "{name:>12}"))?;
            writeln!(f)?;
        }
        for (name, times) in times() {
            write!(f, "{name:<12}")?;
            let values = times.micros();
            values
                .iter()
                .try_for_each(|value| write!(f, "{value:>12.1}"))?;
            writeln!(f)?;
        }
        let [server_share, own_share] = self.shares().map(Share);
        if let Some(process) = self.process {
            let (before, after) = (self.memory_before, self.cost.and_then(|cost| cost.memory));
            let [before, after] = [before, after].map(Mebibytes);
            write!(
                f,
                "server      {server_share}, memory {after} ({before} before)"
            )?;
            if let (Load::Idle, Some(bytes)) = (self.load, self.memory_per_connection()) {
                write!(f, ", {bytes} B for each connection")?;
            }
            writeln!(f, ", pid {process}")?;
        }
        writeln!(f, "this program {own_share}")
    }
}

/// The share of a processor.
struct Share(Option<f64>);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(share) => write!(f, "{share:.1} % of a processor"),
            None => f.write_str("processor unknown"),
        }
    }
}

/// Bytes.
struct Mebibytes(Option<u64>);

impl fmt::Display for Mebibytes {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{:.1} MiB", bytes as f64 / 1024.0 / 1024.0),
            None => f.write_str("unknown"),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts so far")]
fn per_second(number: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        number as f64 / seconds
    } else {
        0.0
    }
}

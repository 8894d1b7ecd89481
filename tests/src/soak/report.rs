//! What a soak has come to, and judgements.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};

use super::Plan;
use super::sample::Sample;
use super::table::{Latency, Row, Table, mib, millis, ms, seconds};
use super::tally::{Count, Told};

/// What a server has come to.
#[derive(Debug)]
pub struct End {
    pub(super) name: &'static str,
    /// When it had just started.
    pub(super) before: Sample,
    /// When all had left.
    pub(super) after: Sample,
    pub(super) took: Duration,
    pub(super) code: Option<i32>,
    /// Whether those who were connected were told.
    pub(super) told: Result<(), String>,
    pub(super) has_panicked: bool,
    pub(super) log: String,
}

/// All that is known in the end.
#[derive(Debug)]
pub struct Report {
    pub(super) plan: Plan,
    pub(super) notes: Vec<String>,
    pub(super) rows: Vec<Row>,
    /// When all were there.
    pub(super) load: Range<Duration>,
    /// Whether all arrived, and how many did.
    pub(super) arrived: (bool, u64),
    pub(super) kills: u64,
    pub(super) told: Told,
    pub(super) failures: Vec<String>,
    /// The first is that of the echoes.
    pub(super) ends: Vec<End>,
}

/// One thing that has to be so.
#[derive(Debug)]
pub struct Judgement {
    /// What it is about.
    pub name: String,
    /// Whether it is so.
    pub holds: bool,
    /// What was found.
    pub found: String,
}

impl Report {
    /// All that has to be so.
    pub fn judgements(&self) -> Vec<Judgement> {
        let (arrived, reached) = self.arrived;
        let failed = self.told.get(Count::Failed).max(self.failures.len() as u64);
        let mut judgements = vec![
            judge(
                "connections",
                arrived,
                format!("{reached} of {} were there", self.plan.connections),
            ),
            judge(
                "correctness",
                failed == 0,
                format!(
                    "{} messages due, {} came, the others were of clients that were killed; \
                     {failed} failures",
                    self.told.get(Count::Sent),
                    self.told.get(Count::Back)
                ),
            ),
        ];
        for (index, end) in self.ends.iter().enumerate() {
            let (second, last) = (self.memory(index, 1), self.memory(index, 2));
            let bound = second + second / 20 + self.plan.growth * 1024;
            let found = format!(
                "median {} in the second third, {} in the last; at most 5 % + {} MiB more: {}",
                mib(second),
                mib(last),
                self.plan.growth,
                mib(bound)
            );
            let memory = judge("memory", last <= bound, found);
            for mut judgement in [memory].into_iter().chain(end.judgements()) {
                judgement.name = format!("{} {}", end.name, judgement.name);
                judgements.push(judgement);
            }
        }
        judgements
    }

    /// A third of the time when all were there.
    fn third(&self, which: u32) -> impl Iterator<Item = &Row> {
        let third = (self.load.end.saturating_sub(self.load.start)) / 3;
        let from = self.load.start + third * which;
        let range = from..from + third;
        self.rows
            .iter()
            .filter(move |row| range.contains(&row.at()))
    }

    /// The median of the memory of a server in a third, in KiB.
    fn memory(&self, server: usize, third: u32) -> u64 {
        let memory = self.third(third).map(|row| row.servers[server].memory);
        let mut memory: Vec<_> = memory.collect();
        memory.sort_unstable();
        memory.get(memory.len() / 2).copied().unwrap_or(0)
    }

    fn latency(&self, third: u32) -> Latency {
        Latency::of(self.third(third))
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let judgements = self.judgements();
        let judgements = judgements
            .iter()
            .map(|it| json!({ "name": it.name, "holds": it.holds, "found": it.found }));
        json!({
            "seed": self.plan.seed,
            "connections": self.plan.connections,
            "load_ms": [millis(self.load.start), millis(self.load.end)],
            "kills": self.kills,
            "judgements": judgements.collect::<Vec<_>>(),
            "failures": self.failures,
            "counters": self.ends.iter().map(|end| json!({ end.name: end.counters() }))
                .collect::<Vec<_>>(),
            "seconds": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            connections,
            churn,
            slow,
            killed,
            room,
            seed,
            ..
        } = &self.plan;
        let load = self.load.end.saturating_sub(self.load.start);
        writeln!(
            f,
            "{connections} connections for {} s; {churn} come and go a second, {slow} read slowly or \
             not, {killed} are killed at a time, {room} hear each other; seed {seed}",
            seconds(load)
        )?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        write!(f, "{}", Table(&self.rows))?;
        writeln!(
            f,
            "all there from {} s to {} s; the first third of that is to warm up",
            seconds(self.load.start),
            seconds(self.load.end)
        )?;
        let count = |count| self.told.get(count);
        writeln!(
            f,
            "visitors: {} talked, {} vanished, {} were silent, {} sent garbage; slow ones: {} did not \
             read, {} read slowly; {} processes killed; {} attempts to connect made again",
            count(Count::Talked),
            count(Count::Vanished),
            count(Count::Silent),
            count(Count::Garbage),
            count(Count::Starved),
            count(Count::Sipped),
            self.kills,
            count(Count::Retried),
        )?;
        let (second, last) = (self.latency(1), self.latency(2));
        let rule = if last.p99 <= second.p99 * 3 {
            "within"
        } else {
            "MORE THAN"
        };
        writeln!(
            f,
            "latency: p99 {} ms in the second third, {} ms in the last, {rule} three times as much \
             (not judged)",
            ms(second.p99),
            ms(last.p99)
        )?;
        for end in &self.ends {
            writeln!(
                f,
                "the {} server: {} of memory before, {} when all had left; ended {} who did not take \
                 what was sent to them; {}",
                end.name,
                mib(end.before.memory),
                mib(end.after.memory),
                end.log.matches("Timeout(Stall)").count(),
                end.counters()
            )?;
        }
        for failure in &self.failures {
            writeln!(f, "failure: {failure}")?;
        }
        for Judgement { name, holds, found } in self.judgements() {
            let holds = if holds { "ok    " } else { "FAILED" };
            writeln!(f, "{holds} {name}: {found}")?;
        }
        Ok(())
    }
}

fn judge(name: &str, holds: bool, found: String) -> Judgement {
    Judgement {
        name: name.to_owned(),
        holds,
        found,
    }
}

impl End {
    fn judgements(&self) -> [Judgement; 3] {
        let (fds, baseline) = (self.after.descriptors, self.before.descriptors);
        let Self { took, code, .. } = self;
        let told = self.told.as_ref().err().map_or("told", String::as_str);
        let panics = if self.has_panicked {
            "at least one"
        } else {
            "none"
        };
        [
            judge(
                "descriptors",
                fds <= baseline,
                format!("{baseline} before, {fds} when all had left"),
            ),
            judge(
                "stop",
                *code == Some(0) && self.told.is_ok(),
                format!(
                    "code {code:?} {} s after SIGTERM; clients: {told}",
                    seconds(*took)
                ),
            ),
            judge("panics", !self.has_panicked, panics.into()),
        ]
    }

    /// The counters of the server, as it logs them when it stops.
    fn counters(&self) -> &str {
        let last = self.log.lines().rfind(|line| line.contains("INFO stopped"));
        last.and_then(|line| line.split_once("stopped stats="))
            .map_or("none were logged", |(_, counters)| counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A soak of 30 s, with one server that has this much memory in each of them.
    fn report(memory: impl Fn(u64) -> u64) -> Report {
        let sample = |memory| Sample {
            memory,
            descriptors: 14,
            ..Sample::default()
        };
        let row = |second| {
            let servers = vec![sample(memory(second))];
            Row::new(
                Duration::from_secs(second),
                servers,
                &Told::default(),
                Vec::new(),
            )
        };
        Report {
            plan: Plan {
                program: None,
                connections: 10,
                minutes: 0.5,
                churn: 0,
                slow: 0,
                killed: 0,
                room: 0,
                seed: 1,
                growth: 4,
                json: None,
            },
            notes: Vec::new(),
            rows: (0..40).map(row).collect(),
            load: Duration::from_secs(5)..Duration::from_secs(35),
            arrived: (true, 10),
            kills: 0,
            told: Told::default(),
            failures: Vec::new(),
            ends: vec![End {
                name: "echo",
                before: sample(1),
                after: sample(1),
                took: Duration::from_secs(1),
                code: Some(0),
                told: Ok(()),
                has_panicked: false,
                log: "INFO stopping\nINFO stopped stats=ServerStats { accepted: 7 }\n".into(),
            }],
        }
    }

    #[track_caller]
    fn fails(report: &Report, names: &[&str]) {
        let judgements = report.judgements();
        let failed = judgements.iter().filter(|it| !it.holds);
        let failed: Vec<_> = failed.map(|it| it.name.as_str()).collect();
        assert_eq!(failed, names, "{report}");
    }

    #[test]
    fn memory_may_grow_at_first_and_a_little_later() {
        const MIB: u64 = 1024;
        fails(&report(|_| 100 * MIB), &[]);
        fails(&report(|second| second.min(15) * 100 * MIB), &[]);
        // 100 MiB, 5 % of it and 4 MiB.
        let step = |more| move |second| 100 * MIB + if second < 25 { 0 } else { more };
        fails(&report(step(9 * MIB)), &[]);
        fails(&report(step(9 * MIB + 1)), &["echo memory"]);
        fails(&report(|second| second * 10 * MIB), &["echo memory"]);
        // What is only for a moment does not count.
        fails(
            &report(|second| if second % 10 == 9 { 900 * MIB } else { MIB }),
            &[],
        );
    }

    #[test]
    fn whatever_else_is_wrong_is_named() {
        let wrong = |change: fn(&mut Report)| {
            let mut report = report(|_| 1);
            change(&mut report);
            report
        };
        let panicked = wrong(|it| it.ends[0].has_panicked = true);
        for (report, name) in [
            (wrong(|it| it.arrived = (false, 9)), "connections"),
            (wrong(|it| it.failures.push("lost".into())), "correctness"),
            (
                wrong(|it| it.told = Told::of(&["counts 0 0 0 0 0 0 0 0 0 0 1".into()])),
                "correctness",
            ),
            (
                wrong(|it| it.ends[0].after.descriptors = 15),
                "echo descriptors",
            ),
            (wrong(|it| it.ends[0].code = Some(1)), "echo stop"),
            (wrong(|it| it.ends[0].code = None), "echo stop"),
            (
                wrong(|it| it.ends[0].told = Err("late".into())),
                "echo stop",
            ),
            (panicked, "echo panics"),
        ] {
            fails(&report, &[name]);
            assert!(
                report.to_string().contains(&format!("FAILED {name}: ")),
                "{report}"
            );
        }
    }

    #[test]
    fn it_says_what_the_server_says() {
        let report = report(|_| 1);
        assert!(
            report.to_string().contains("ServerStats { accepted: 7 }"),
            "{report}"
        );
        let json = report.json();
        assert_eq!(json["counters"][0]["echo"], "ServerStats { accepted: 7 }");
        assert_eq!(json["seconds"].as_array().map(Vec::len), Some(40));
    }
}

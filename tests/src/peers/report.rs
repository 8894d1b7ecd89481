//! What the measurements come to.

use std::fmt;

use serde_json::{Value, json};

use super::cases::OURS;
use super::load::Run;

/// The load is what is measured, not the server, when it works all the time and the server does not.
const BUSY: f64 = 0.9;

/// The medians of one server in one case.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What was done.
    pub case: &'static str,
    /// By whom.
    pub target: &'static str,
    /// How many runs there were.
    pub runs: usize,
    /// How many a second: messages, or connections.
    pub rate: Option<f64>,
    /// What each costs the server, in microseconds of processor time.
    pub cost: Option<f64>,
    /// How much of its core the server used, and the load of its own.
    pub busy: Option<(f64, f64)>,
    /// How long one takes there and back, in microseconds: half of them no longer, 99 % no longer.
    pub latency: Option<(f64, f64)>,
    /// The memory that a connection costs, in bytes.
    pub memory: Option<f64>,
}

impl Row {
    /// Of several runs.
    pub fn of(case: &'static str, target: &'static str, runs: &[Run]) -> Self {
        let rate = median(runs.iter().map(|run| run.messages / run.seconds));
        let cost = median(runs.iter().map(|run| run.server / run.messages * 1e6));
        let server = median(runs.iter().map(|run| run.server / run.seconds));
        let load = median(runs.iter().map(|run| run.load / run.seconds));
        Self {
            case,
            target,
            runs: runs.len(),
            rate,
            cost,
            busy: server.zip(load),
            ..Self::default()
        }
    }

    /// What this is about, where less is better.
    pub fn main(&self) -> Option<f64> {
        let latency = self.latency.map(|(half, _)| half);
        self.memory.or(latency).or(self.cost)
    }

    /// Whether it was the load that could do no more.
    pub fn is_bound_by_load(&self) -> bool {
        let busy = self.busy.filter(|_| self.latency.is_none());
        busy.is_some_and(|(server, load)| load > BUSY && server < BUSY)
    }
}

/// The value in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
    /// What there is to know about the figures.
    pub notes: Vec<String>,
    /// What was not measured, because something went wrong.
    pub failures: Vec<String>,
    /// What it was measured on.
    pub machine: String,
    /// How fast one core makes SHA-256 of 1 MiB, in bytes a second.
    pub hash: f64,
}

impl Report {
    /// How many times what it costs us in the same case.
    pub fn ratio(&self, row: &Row) -> Option<f64> {
        let mut ours = self.rows.iter();
        let ours = ours.find(|other| other.case == row.case && other.target == OURS);
        Some(row.main()? / ours?.main()?)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "case": row.case,
                "server": row.target,
                "runs": row.runs,
                "per_second": row.rate,
                "server_cpu_us": row.cost,
                "server_busy": row.busy.map(|(server, _)| server),
                "load_busy": row.busy.map(|(_, load)| load),
                "bound_by_load": row.is_bound_by_load(),
                "p50_us": row.latency.map(|(half, _)| half),
                "p99_us": row.latency.map(|(_, most)| most),
                "bytes_per_connection": row.memory,
                "times_ours": self.ratio(row),
            })
        });
        let rows: Vec<_> = rows.collect();
        json!({
            "machine": self.machine,
            "sha256_bytes_per_second": self.hash,
            "notes": self.notes,
            "failures": self.failures,
            "rows": rows,
        })
    }
}

impl fmt::Display for Report {
    /// As Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = self.hash / 1e9;
        writeln!(f, "{}; SHA-256: {hash:.2} GB/s", self.machine)?;
        let mut case = "";
        for row in &self.rows {
            if row.case != case {
                case = row.case;
                writeln!(
                    f,
                    "\n| {case:<17} |   per second | server CPU µs each | server | load |    p50 µs |    p99 µs | bytes each | × {OURS} |"
                )?;
                writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
            }
            let percent = |busy: Option<f64>| {
                busy.map_or(String::new(), |busy| format!("{:.0} %", busy * 100.0))
            };
            writeln!(
                f,
                "| {:<17} | {:>11}{} | {:>18} | {:>6} | {:>5} | {:>9} | {:>9} | {:>10} | {:>12} |",
                row.target,
                number(row.rate, 0),
                if row.is_bound_by_load() { "*" } else { " " },
                number(row.cost, 3),
                percent(row.busy.map(|(server, _)| server)),
                percent(row.busy.map(|(_, load)| load)),
                number(row.latency.map(|(half, _)| half), 1),
                number(row.latency.map(|(_, most)| most), 1),
                number(row.memory, 0),
                number(self.ratio(row), 2),
            )?;
        }
        if self.rows.iter().any(Row::is_bound_by_load) {
            writeln!(
                f,
                "\n\\* The load could do no more: compare what it costs the server."
            )?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or(String::new(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: &'static str, cost: f64) -> Row {
        let run = Run {
            messages: 1e6,
            seconds: 1.0,
            server: cost,
            load: 0.95,
        };
        Row::of("case", target, &[run, run, Run::default()])
    }

    #[test]
    fn the_others_are_compared_with_ours_in_what_it_costs_the_server() {
        let rows = vec![row(OURS, 0.5), row("peer", 1.0)];
        let report = Report {
            rows,
            ..Report::default()
        };
        assert_eq!(report.ratio(&report.rows[1]), Some(2.0));
        assert!(report.rows[0].is_bound_by_load());
        assert!(!report.rows[1].is_bound_by_load());
        assert_eq!(report.json()["rows"][1]["server_cpu_us"], 1.0);
    }
}

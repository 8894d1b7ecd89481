//! The processes with the clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::tally::{Count, Told};
use super::worker::Orders;
use super::{LEAVING, Plan, Server};
use crate::program::{Program, Signal};

/// How many connections a process has.
const PER_WORKER: u64 = 2_500;

/// All workers of a soak. Those that still run are killed when this is dropped.
pub(super) struct Fleet {
    plan: Plan,
    path: PathBuf,
    orders: Orders,
    /// Those that stay, and say how far they are.
    workers: Vec<Program>,
    /// The one that is killed next.
    victim: Option<(Program, Instant)>,
    kills: u64,
    /// What those said that were killed.
    gone: Told,
}

impl Fleet {
    pub(super) fn new(plan: &Plan, path: &Path, server: &Server) -> Self {
        let pause = plan.time().min(Duration::from_secs(80)) / 4;
        let time = plan.time() + plan.arriving() + 2 * LEAVING;
        Self {
            path: path.to_owned(),
            orders: Orders {
                tcp: server.tcp,
                unix: server.unix.clone(),
                number: 0,
                seed: plan.seed,
                connections: 0,
                room: 0,
                pause: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                churn: 0,
                slow: 0,
                seconds: time.as_secs(),
                orphan: i32::try_from(server.program.id()).ok(),
            },
            plan: plan.clone(),
            workers: Vec::new(),
            victim: None,
            kills: 0,
            gone: Told::default(),
        }
    }

    /// Starts those whose connections stay.
    pub(super) fn start(&mut self) {
        let count = self.plan.connections.div_ceil(PER_WORKER).max(1);
        for number in 0..count {
            let mut orders = self.orders.clone();
            orders.connections =
                self.plan.connections / count + u64::from(number < self.plan.connections % count);
            let worker = self.spawn(orders);
            self.workers.push(worker);
        }
    }

    /// Starts those that make trouble.
    pub(super) fn begin_chaos(&mut self, relay: Option<&Server>) {
        let mut orders = self.orders.clone();
        (orders.churn, orders.slow) = (self.plan.churn, self.plan.slow);
        let worker = self.spawn(orders);
        self.workers.push(worker);
        if let Some(relay) = relay {
            let mut orders = self.orders.clone();
            (orders.tcp, orders.unix) = (relay.tcp, relay.unix.clone());
            orders.orphan = i32::try_from(relay.program.id()).ok();
            (orders.room, orders.slow) = (self.plan.room, self.plan.slow.div_ceil(2));
            orders.churn = self.plan.churn.div_ceil(10);
            let worker = self.spawn(orders);
            self.workers.push(worker);
        }
        self.next_victim();
    }

    fn next_victim(&mut self) {
        if self.plan.killed > 0 {
            let mut orders = self.orders.clone();
            orders.connections = self.plan.killed;
            // Whoever dies is to die in the middle of something.
            orders.pause /= 10;
            self.victim = Some((self.spawn(orders), Instant::now()));
        }
    }

    fn spawn(&mut self, mut orders: Orders) -> Program {
        // Addresses are not taken again at once: the server may not have noticed that they are free.
        orders.number = self.orders.number;
        self.orders.number = (self.orders.number + 1) % 250;
        let mut command = Command::new(&self.path);
        command.arg("worker");
        for (name, value) in [
            ("--tcp", orders.tcp.to_string()),
            ("--unix", orders.unix.display().to_string()),
            ("--number", orders.number.to_string()),
            ("--seed", orders.seed.to_string()),
            ("--connections", orders.connections.to_string()),
            ("--pause", orders.pause.to_string()),
            ("--room", orders.room.to_string()),
            ("--churn", orders.churn.to_string()),
            ("--slow", orders.slow.to_string()),
            ("--seconds", orders.seconds.to_string()),
        ] {
            command.args([name, &value]);
        }
        if let Some(orphan) = orders.orphan {
            command.args(["--orphan", &orphan.to_string()]);
        }
        Program::start(&mut command)
    }

    /// Kills the victim when its time has come, and lets in the next one.
    pub(super) fn kill_in_time(&mut self) {
        let life = (self.plan.time() / 12).clamp(Duration::from_secs(2), Duration::from_secs(20));
        if let Some((victim, since)) = &mut self.victim
            && since.elapsed() > life
            && victim.is_running()
        {
            victim.signal(Signal::KILL);
            let mut told = told_by(victim);
            told.none_open();
            self.gone.add(&told);
            self.kills += 1;
            self.next_victim();
        }
    }

    /// What all have said so far.
    pub(super) fn told(&self) -> Told {
        let mut sum = self.gone.clone();
        for worker in self.all() {
            sum.add(&told_by(worker));
        }
        sum
    }

    /// How often a worker was killed.
    pub(super) fn kills(&self) -> u64 {
        self.kills
    }

    fn all(&self) -> impl Iterator<Item = &Program> {
        self.workers
            .iter()
            .chain(self.victim.iter().map(|(victim, _)| victim))
    }

    /// Tells all to leave.
    pub(super) fn say_leave(&mut self) {
        let victim = self.victim.take().map(|(victim, _)| victim);
        self.workers.extend(victim);
        for worker in &mut self.workers {
            worker.write("leave\n");
        }
    }

    /// Whether all have left.
    pub(super) fn is_gone(&mut self) -> bool {
        self.workers.iter_mut().all(|worker| !worker.is_running())
    }

    /// The last of it: what all have said, and what went wrong.
    pub(super) fn end(&mut self) -> (Told, Vec<String>) {
        let mut sum = std::mem::take(&mut self.gone);
        let mut failures = sum.failures.clone();
        for mut worker in self.workers.drain(..) {
            if worker.is_running() {
                failures.push("a worker does not leave".into());
                sum.add(&told_by(&worker));
                continue;
            }
            let ended = worker.wait();
            let lines: Vec<_> = ended.text().lines().map(str::to_owned).collect();
            let told = Told::of(&lines);
            failures.extend_from_slice(&told.failures);
            let (sent, back) = (told.get(Count::Sent), told.get(Count::Back));
            if sent != back {
                failures.push(format!("{sent} messages were sent, {back} came back"));
            }
            if ended.code != Some(0) {
                failures.push(format!(
                    "a worker ended with {:?}: {}",
                    ended.code, ended.stderr
                ));
            }
            sum.add(&told);
        }
        (sum, failures)
    }
}

fn told_by(worker: &Program) -> Told {
    Told::of(&worker.lines(0))
}

//! A deterministic executor: virtual clocks, one thread, tasks in an order that a seed decides.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use chat_core::Instant;
use fastrand::Rng;

use super::network::Network;
use super::trace::Trace;

/// How often tasks may be polled before the clock moves, for each task there is: more is a loop.
const POLLS_PER_TASK: usize = 2_000;
/// How long a simulation may take by its own clock.
const LONGEST: Duration = Duration::from_hours(48);

type TaskId = u64;

/// A world: its clock, its nodes, its network. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Simulation(Arc<Mutex<State>>);

/// One machine of a world: the clock that it goes by, its tasks and its address. For the driver it is
/// a [`Runtime`](chat_core::driver::rt::Runtime).
#[derive(Clone)]
pub struct Node {
    pub(super) simulation: Simulation,
    pub(super) id: usize,
}

/// Why a simulation ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Something waits for what will never happen.
    Stuck,
    /// Tasks wake each other, or themselves, for ever.
    Spins,
    /// It takes longer than two days, by its own clock.
    Endless,
    /// A task has panicked; standard error says where.
    Panicked,
    /// Something that must always be so is not.
    Broken(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stuck => f.write_str("stuck: a task waits for what will never happen"),
            Self::Spins => f.write_str("spins: tasks are polled for ever at the same time"),
            Self::Endless => f.write_str("endless: it takes longer than two days"),
            Self::Panicked => f.write_str("panicked"),
            Self::Broken(what) => f.write_str(what),
        }
    }
}

/// Everything there is.
pub(super) struct State {
    pub(super) now: Instant,
    pub(super) rng: Rng,
    /// For what must not depend on the order of things.
    random: Rng,
    pub(super) trace: Trace,
    pub(super) network: Network,
    nodes: Vec<Machine>,
    tasks: BTreeMap<TaskId, Task>,
    ready: Arc<Mutex<Vec<TaskId>>>,
    next_task: TaskId,
    next_timer: u64,
    broken: Option<String>,
}

struct Machine {
    address: IpAddr,
    /// By how much its clock is ahead.
    ahead: Duration,
    hangs_until: Option<Instant>,
    /// By the node's own time.
    timers: BTreeMap<(Instant, u64), Waker>,
}

struct Task {
    node: usize,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    flag: Arc<Flag>,
}

/// Whether a task waits to be polled.
struct Flag {
    id: TaskId,
    is_ready: AtomicBool,
    ready: Arc<Mutex<Vec<TaskId>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::SeqCst) {
            lock(&self.ready).push(self.id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panics with it has failed the run already.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Simulation {
    /// A world in which everything that is left open is decided by `seed`. `prints` shows what
    /// happens on standard error.
    pub fn new(seed: u64, prints: bool) -> Self {
        let state = State {
            now: Instant::EPOCH + Duration::from_secs(1),
            rng: Rng::with_seed(seed ^ 0x5eed),
            random: Rng::with_seed(seed ^ 0xe117),
            trace: Trace::new(prints),
            network: Network::default(),
            nodes: Vec::new(),
            tasks: BTreeMap::new(),
            ready: Arc::default(),
            next_task: 0,
            next_timer: 0,
            broken: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// One more machine. Addresses are loopback ones, so that nothing is demanded by default.
    pub fn node(&self) -> Node {
        let mut state = self.state();
        let id = state.nodes.len();
        let last = u8::try_from(id + 1).expect("a few nodes");
        state.nodes.push(Machine {
            address: Ipv4Addr::new(127, 0, 1, last).into(),
            ahead: Duration::ZERO,
            hangs_until: None,
            timers: BTreeMap::new(),
        });
        Node {
            simulation: self.clone(),
            id,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// The time by no node's clock.
    pub fn now(&self) -> Instant {
        self.state().now
    }

    /// Says that something is not as it must be: the run ends.
    pub fn broken(&self, what: impl Into<String>) {
        self.state().broken.get_or_insert(what.into());
    }

    /// Adds a line to the trace.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.state().note(what);
    }

    /// The hash of everything that happened so far.
    pub fn hash(&self) -> String {
        self.state().trace.hash()
    }

    /// How many tasks there are.
    pub fn tasks(&self) -> usize {
        self.state().tasks.len()
    }

    /// How many connections there are of which an end is open.
    pub fn connections(&self) -> usize {
        self.state().network.connections()
    }

    /// Runs the world until `future` is ready, or something is wrong. Nothing is left of the tasks
    /// afterwards.
    pub fn run<T: Send + 'static>(
        &self,
        node: &Node,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        let result = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&result);
        node.start(async move {
            let done = future.await;
            *lock(&slot) = Some(done);
        });
        let end = loop {
            let step = self.step();
            if let Some(done) = lock(&result).take() {
                break Ok(done);
            }
            if let Err(failure) = step {
                break Err(failure);
            }
        };
        // An invariant that broke in the last moment counts as well.
        let broken = self.state().broken.take();
        let left = std::mem::take(&mut self.state().tasks);
        drop(left);
        match broken {
            Some(what) => Err(Failure::Broken(what)),
            None => end,
        }
    }

    /// Runs everything that can run now, and moves the clock to what happens next.
    fn step(&self) -> Result<(), Failure> {
        let mut polls = 0;
        while let Some((id, mut task)) = self.pick() {
            polls += 1;
            let waker = Waker::from(Arc::clone(&task.flag));
            let mut cx = Context::from_waker(&waker);
            let polled = catch_unwind(AssertUnwindSafe(|| task.future.as_mut().poll(&mut cx)));
            let Ok(done) = polled else {
                return Err(Failure::Panicked);
            };
            let mut state = self.state();
            // A task that crashed itself is gone, and its future with it.
            if done.is_pending() && !state.network.crashed(task.node) {
                state.tasks.insert(id, task);
            } else {
                drop(state);
                drop(task);
                state = self.state();
            }
            if let Some(what) = &state.broken {
                return Err(Failure::Broken(what.clone()));
            }
            if polls > POLLS_PER_TASK * (state.tasks.len() + 1) {
                return Err(Failure::Spins);
            }
        }
        self.state().advance()
    }

    /// Takes any of the tasks that are ready.
    fn pick(&self) -> Option<(TaskId, Task)> {
        let mut state = self.state();
        let ready = Arc::clone(&state.ready);
        let mut ready = lock(&ready);
        while !ready.is_empty() {
            let index = state.rng.usize(..ready.len());
            let id = ready.swap_remove(index);
            let Some(task) = state.tasks.get(&id) else {
                continue;
            };
            let node = task.node;
            task.flag.is_ready.store(false, Ordering::SeqCst);
            if let Some(until) = state.nodes[node].hangs_until {
                // Polled when its machine is back.
                let waker = Waker::from(Arc::clone(&state.tasks[&id].flag));
                let number = state.number();
                state.network.wake_at(until, number, waker);
                continue;
            }
            let task = state.tasks.remove(&id)?;
            return Some((id, task));
        }
        None
    }

    /// Stops a machine for good: its tasks are gone, its sockets closed by the system.
    pub fn crash(&self, node: &Node) {
        self.note(format_args!("node {} crashes", node.id));
        let gone: Vec<Task> = {
            let mut state = self.state();
            state.network.crash(node.id);
            let all = std::mem::take(&mut state.tasks);
            let (gone, left): (BTreeMap<_, _>, _) =
                all.into_iter().partition(|(_, task)| task.node == node.id);
            state.tasks = left;
            state.nodes[node.id].timers.clear();
            gone.into_values().collect()
        };
        // Their sockets close, which takes the lock.
        drop(gone);
    }

    /// Stops a machine for a while. Its clock goes on.
    pub fn hang(&self, node: &Node, time: Duration) {
        let mut state = self.state();
        let until = state.now + time;
        state.note(format_args!("node {} hangs for {time:?}", node.id));
        state.nodes[node.id].hangs_until = Some(until);
    }

    /// Moves the clock of one machine ahead: it was set, or the machine slept.
    pub fn jump(&self, node: &Node, time: Duration) {
        let mut state = self.state();
        state.note(format_args!("the clock of node {} jumps {time:?}", node.id));
        state.nodes[node.id].ahead += time;
    }
}

impl State {
    /// Says that something is not as it must be.
    pub(super) fn broken(&mut self, what: &str) {
        self.broken.get_or_insert(what.into());
    }

    pub(super) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.line(self.now, what);
    }

    pub(super) fn address(&self, node: usize) -> IpAddr {
        self.nodes[node].address
    }

    /// A number that was not given before.
    pub(super) fn number(&mut self) -> u64 {
        self.next_timer += 1;
        self.next_timer
    }

    /// What a machine's clock shows.
    fn time_of(&self, node: usize) -> Instant {
        self.now + self.nodes[node].ahead
    }

    /// When the next timer of a machine fires, by no machine's clock.
    fn next_timer(&self, node: usize) -> Option<Instant> {
        let machine = &self.nodes[node];
        let ((due, _), _) = machine.timers.first_key_value()?;
        Some(Instant::EPOCH + (*due - (Instant::EPOCH + machine.ahead)))
    }

    /// Moves the clock to the next thing that happens, and lets it happen.
    fn advance(&mut self) -> Result<(), Failure> {
        let timers = (0..self.nodes.len()).filter_map(|node| self.next_timer(node));
        let Some(next) = timers.chain(self.network.next()).min() else {
            return Err(Failure::Stuck);
        };
        if next > self.now {
            self.now = next;
        }
        if self.now > Instant::EPOCH + LONGEST {
            return Err(Failure::Endless);
        }
        let now = self.now;
        for machine in &mut self.nodes {
            if machine.hangs_until.is_some_and(|until| until <= now) {
                machine.hangs_until = None;
            }
            let due = now + machine.ahead;
            while let Some(first) = machine.timers.first_entry()
                && first.key().0 <= due
            {
                first.remove().wake();
            }
        }
        Network::deliver(self);
        Ok(())
    }
}

impl Node {
    /// The world that it is in.
    pub fn simulation(&self) -> &Simulation {
        &self.simulation
    }

    /// Where it can be connected to.
    pub fn address(&self) -> IpAddr {
        self.simulation.state().address(self.id)
    }

    /// What its clock shows.
    pub fn time(&self) -> Instant {
        self.simulation.state().time_of(self.id)
    }

    /// Runs a future on it, until that is done or the machine crashes.
    pub fn start(&self, future: impl Future<Output = ()> + Send + 'static) {
        let future = Box::pin(future);
        let mut state = self.simulation.state();
        if state.network.crashed(self.id) {
            // Dropped without the lock: it may hold sockets.
            drop(state);
            return drop(future);
        }
        let id = state.next_task;
        state.next_task += 1;
        let flag = Arc::new(Flag {
            id,
            is_ready: AtomicBool::new(true),
            ready: Arc::clone(&state.ready),
        });
        lock(&state.ready).push(id);
        let node = self.id;
        state.tasks.insert(id, Task { node, future, flag });
    }

    /// Waits, by its clock.
    pub async fn pause(&self, time: Duration) {
        let due = self.time() + time;
        let mut alarm = Alarm::new(self);
        std::future::poll_fn(|cx| alarm.poll(cx, due)).await;
    }

    /// Awaits something, but not for longer than `limit`.
    pub async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let (mut future, mut pause) = (pin!(future), pin!(self.pause(limit)));
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => pause.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    pub(super) fn random(&self, buffer: &mut [u8]) {
        self.simulation.state().random.fill(buffer);
    }
}

/// A timer of a node.
pub struct Alarm {
    node: Node,
    id: u64,
    set: Option<Instant>,
}

impl Alarm {
    pub(super) fn new(node: &Node) -> Self {
        let id = node.simulation.state().number();
        Self {
            node: node.clone(),
            id,
            set: None,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let mut state = self.node.simulation.state();
        let now = state.time_of(self.node.id);
        let timers = &mut state.nodes[self.node.id].timers;
        if let Some(set) = self.set.take() {
            timers.remove(&(set, self.id));
        }
        if due <= now {
            return Poll::Ready(());
        }
        self.set = Some(due);
        timers.insert((due, self.id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(set) = self.set {
            let mut state = self.node.simulation.state();
            state.nodes[self.node.id].timers.remove(&(set, self.id));
        }
    }
}

//! A world: a server, its clients, and what happens to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat_core::driver::{Endpoint, Server, ServerBuilder, ServerStats};

use super::clerk::Clerk;
use super::executor::{Failure, Node, Simulation};
use super::ledger::Ledger;
use super::plan::{Item, Plan, Trouble};
use super::stage::Stage;
use super::{client, hostile, judge};

/// The port of the server.
const PORT: u16 = 9_999;
/// How long anything may take that nothing stands in the way of: a slow reader's pace is its own.
const PATIENCE: Duration = Duration::from_hours(12);
/// The most that a connection holds on which nothing happens, both ends together, in bytes.
const IDLE: usize = 32 * 1024;

/// What is to be looked at besides.
#[derive(Clone, Copy, Default)]
pub struct Watch {
    /// Shows what happens on standard error.
    pub prints: bool,
    /// How many bytes the process has allocated. With it, nothing must be left in the end, and idle
    /// connections must hold next to nothing.
    pub memory: Option<fn() -> usize>,
}

/// How a world came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The hash of everything that happened: the same for the same plan.
    pub hash: String,
    /// What went wrong that must not.
    pub failure: Option<Failure>,
    /// How many messages arrived, at the server and at the clients.
    pub messages: usize,
}

/// Lets a plan happen.
pub fn run(plan: &Plan, watch: Watch) -> Outcome {
    let simulation = Simulation::new(plan.seed, watch.prints);
    // The director is a machine of its own to which nothing happens.
    let machines: Vec<Node> = std::iter::repeat_with(|| simulation.node())
        .take(2 + plan.clients().map(|it| it.number).max().unwrap_or(0))
        .collect();
    let ledger = Ledger::new(&simulation);
    let (director, books) = (machines[machines.len() - 1].clone(), ledger.clone());
    let story = tell(plan.clone(), watch, simulation.clone(), machines, books);
    let told = simulation.run(&director, story);
    let mut failure = told.as_ref().err().cloned();
    if let Ok(stats) = told {
        let judged = judge::judge(plan, &ledger.open(), stats);
        failure = judged.err().map(Failure::Broken);
    }
    let books = ledger.open();
    let arrived = books.sessions.values().map(|it| it.arrived.len());
    let received = books.clients.values().map(|it| it.received.len());
    Outcome {
        hash: simulation.hash(),
        failure,
        messages: arrived.sum::<usize>() + received.sum::<usize>(),
    }
}

/// The whole story of a world.
async fn tell(
    plan: Plan,
    watch: Watch,
    simulation: Simulation,
    machines: Vec<Node>,
    ledger: Ledger,
) -> ServerStats {
    let before = watch.memory.map_or(0, |memory| memory());
    let director = machines[machines.len() - 1].clone();
    let port = machines[0].listen(PORT);
    let stage = Arc::new(Stage::new(port.address(), ledger.clone()));
    let clerk = Clerk::new(machines[0].clone(), Arc::clone(&stage), &plan.server);
    let server = ServerBuilder::with_runtime(machines[0].clone(), clerk)
        .config(plan.server.settings.config())
        .max_outbox(plan.server.outbox)
        .max_connections(plan.server.connections)
        .max_handshakes(plan.server.handshakes)
        .grace(plan.server.grace)
        .serve(Endpoint::tcp(port.address().to_string()), port);

    for actor in plan.clients() {
        let machine = &machines[actor.number];
        let mut weather = actor.weather();
        weather.faults = plan.faults(actor.number);
        simulation.set_weather(machine, weather);
        client::start(machine, actor.clone(), plan.steps(actor.number), &stage);
    }
    let mut stop = None;
    for (_, item) in &plan.items {
        match item {
            Item::Hostile(kind) => hostile::start(*kind, &director, &stage, &plan),
            Item::Stop(at) => stop = Some(*at),
            Item::Trouble(at, machine, trouble) => {
                // Not the last one, which is the director's.
                if let Some(machine) = machines[..machines.len() - 1].get(*machine) {
                    befall(&director, machine.clone(), *at, *trouble, stage.address());
                }
            }
            Item::Client(_) | Item::Step(..) | Item::Fault(..) => {}
        }
    }
    // Until everybody has said everything, or the server is stopped before.
    let limit = stop.unwrap_or(PATIENCE);
    let quiet = director.within(limit, stage.quiet()).await;
    if stop.is_none() {
        match quiet {
            Some(()) => rest(&plan, &director, &server, &stage, watch, before).await,
            None => ledger.broken("somebody waits for more than twelve hours"),
        }
        stage.drop_curtain();
        wait(&director, &stage, "a client does not come to an end").await;
    }
    stop_server(&plan, &simulation, &director, &server, &stage).await;
    stage.drop_curtain();
    wait(
        &director,
        &stage,
        "a client does not come to an end, though the server has",
    )
    .await;
    // The last bytes arrive, the last tasks end; the director's is one of them.
    director.pause(Duration::from_mins(10)).await;
    let left = [
        ("tasks", simulation.tasks()),
        ("sessions", server.sessions().len()),
        ("connections", simulation.connections()),
    ];
    for (what, count) in left {
        if count > 0 {
            ledger.broken(format!("{count} {what} are left"));
        }
    }
    server.stats()
}

async fn wait(director: &Node, stage: &Stage, what: &str) {
    if director.within(PATIENCE, stage.empty()).await.is_none() {
        stage.ledger().broken(what);
    }
}

async fn stop_server(
    plan: &Plan,
    simulation: &Simulation,
    director: &Node,
    server: &Server,
    stage: &Stage,
) {
    simulation.note(format_args!("the server is stopped"));
    stage.set_stopping();
    let before = simulation.now();
    if director.within(PATIENCE, server.stop()).await.is_none() {
        stage.ledger().broken("the server does not stop");
    }
    let took = simulation.now() - before;
    let most = plan.server.grace + Duration::from_secs(2);
    if took > most && plan.is_kind_to(0) {
        let what = format!("the server took {took:?} to stop, with a grace of {most:?}");
        stage.ledger().broken(what);
    }
}

/// Everybody has said what they had to say. What was queued for whoever reads arrives; then nothing
/// happens, and next to nothing is held.
async fn rest(
    plan: &Plan,
    director: &Node,
    server: &Server,
    stage: &Stage,
    watch: Watch,
    before: usize,
) {
    for _ in 0..60 {
        director.pause(Duration::from_mins(1)).await;
        if judge::arrived(plan, &stage.ledger().open()).is_ok() {
            break;
        }
    }
    if let Err(what) = judge::arrived(plan, &stage.ledger().open()) {
        stage.ledger().broken(what);
    }
    let sessions = server.sessions().len();
    let most = plan.server.connections;
    if sessions > most {
        stage
            .ledger()
            .broken(format!("{sessions} sessions, where {most} are allowed"));
    }
    // Who does not read holds what came for it, and so does who hangs.
    let all_read = plan.clients().all(|it| it.reads.is_some());
    let is_kind = |item: &Item| matches!(item, Item::Client(_) | Item::Step(..));
    if let Some(memory) = watch.memory
        && all_read
        && plan.items.iter().all(|(_, item)| is_kind(item))
    {
        // Buffers are kept until the next timer fires, and streams that a relay forwards over slow lines
        // are not waited for above.
        let slow = plan.clients().any(|it| it.bandwidth < 1_000_000);
        let pause = Duration::from_mins(if slow { 10 } else { 1 });
        director.pause(pause).await;
        let held = memory().saturating_sub(before);
        let most = IDLE * (plan.clients().count() + 4);
        if held > most {
            let what = format!("{held} bytes are held where nothing happens, not {most}");
            stage.ledger().broken(what);
        }
    }
}

/// Lets something happen to a machine, at its time.
fn befall(director: &Node, machine: Node, at: Duration, trouble: Trouble, server: SocketAddr) {
    let clock = director.clone();
    director.start(async move {
        clock.pause(at).await;
        let simulation = clock.simulation();
        match trouble {
            Trouble::Jump(time) => simulation.jump(&machine, time),
            Trouble::Hang(time) => simulation.hang(&machine, time),
            Trouble::Crash => simulation.crash(&machine),
            Trouble::AcceptFails(time) => simulation.fail_accepting(server, time),
        }
    });
}

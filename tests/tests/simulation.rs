//! Simulated worlds repeat themselves, and what is wrong in them is found.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_core::driver::{
    Client, ClientBuilder, ClientEvent, Echo, Endpoint, Relay, Server, ServerBuilder,
};
use chat_core::{Config, Message};
use chat_tests::sim::{
    Failure, Fault, FaultKind, Item, Node, Plan, Simulation, Watch, Weather, run, shrink,
};

#[test]
fn the_same_seed_does_the_same_again() {
    for seed in 0..20 {
        let plan = Plan::of(seed);
        let first = run(&plan, Watch::default());
        assert_eq!(run(&plan, Watch::default()), first, "seed {seed}");
        assert_eq!(first.failure, None, "seed {seed}");
    }
}

#[test]
fn different_seeds_do_different_things() {
    let hashes = (0..50).map(|seed| run(&Plan::of(seed), Watch::default()).hash);
    let hashes: BTreeSet<String> = hashes.collect();
    assert_eq!(hashes.len(), 50);
}

#[test]
fn leaving_items_out_changes_what_happens_and_nothing_goes_wrong() {
    let plan = Plan::of(3);
    let all: Vec<usize> = plan.items.iter().map(|(number, _)| *number).collect();
    let whole = run(&plan, Watch::default());
    for number in &all {
        let rest: Vec<usize> = all.iter().copied().filter(|it| it != number).collect();
        let outcome = run(&plan.only(&rest), Watch::default());
        assert_eq!(outcome.failure, None, "without {number}");
    }
    assert_ne!(run(&plan.only(&[]), Watch::default()).hash, whole.hash);
}

#[test]
fn a_plan_that_holds_is_its_own_least() {
    let plan = Plan::of(1);
    // Nothing fails, so nothing can be left out.
    let all: Vec<usize> = plan.items.iter().map(|(number, _)| *number).collect();
    assert_eq!(shrink(&plan, Watch::default()), all);
}

/// A client and an echo, on a line with a fault, which may be one that both trust; how it ended.
fn on_a_line(fault: Option<Fault>, trusted: bool) -> Result<String, Failure> {
    let simulation = Simulation::new(1, false);
    let (one, other) = (simulation.node(), simulation.node());
    let weather = Weather {
        unix: trusted,
        faults: vec![fault.into_iter().collect()],
        ..Weather::default()
    };
    simulation.set_weather(&other, weather);
    simulation.run(&other.clone(), async move {
        let port = one.listen(1);
        let address = port.address().to_string();
        let endpoint = if trusted {
            Endpoint::unix(address)
        } else {
            Endpoint::tcp(address)
        };
        let config = Config::default().trust_channel(true);
        let server = ServerBuilder::with_runtime(one, Echo).config(config.clone());
        let server = server.serve(endpoint.clone(), port);
        let client = ClientBuilder::with_runtime(other.clone()).config(config);
        let end = match client.connect(endpoint).await {
            Ok(client) => {
                assert_eq!(client.is_channel_trusted(), trusted);
                other.pause(Duration::from_mins(10)).await;
                client.close("done").await.to_string()
            }
            Err(error) => error.to_string(),
        };
        server.stop().await;
        end
    })
}

#[test]
fn each_fault_does_what_it_says() {
    // Where there are no codes too: PROTOCOL.md §4.8.
    for trusted in [false, true] {
        let fault = |at, kind| {
            let down = true;
            on_a_line(Some(Fault { down, at, kind }), trusted).expect("it ends")
        };
        let calm = on_a_line(None, trusted).expect("it ends");
        assert_eq!(calm, "closed by this end: done");
        // In the handshake, and after it.
        for at in [100, 2_100] {
            let flipped = fault(at, FaultKind::Flip(1));
            assert!(flipped.starts_with("protocol error"), "{flipped}");
            let lost = fault(at, FaultKind::Lose);
            assert!(
                lost.starts_with("protocol error") || lost.contains("in time"),
                "{lost}"
            );
        }
        for at in [0, 2_100] {
            let twice = fault(at, FaultKind::Double);
            assert!(twice.starts_with("protocol error"), "{twice}");
        }
        let silent = fault(2_000, FaultKind::Silence);
        assert!(silent.starts_with("timed out"), "{silent}");
        let ended = fault(2_000, FaultKind::End);
        assert!(ended.starts_with("truncated"), "{ended}");
        let reset = fault(2_000, FaultKind::Reset(true));
        assert!(
            reset.starts_with("transport error: connection reset"),
            "{reset}"
        );
        let stalled = fault(2_000, FaultKind::Stall(Duration::from_secs(2)));
        assert_eq!(stalled, "closed by this end: done");
    }
}

/// Trust that comes to something, and trust of one end only, of no socket or without `sec`.
#[test]
fn some_clients_and_servers_trust_their_channel() {
    let mut found = BTreeSet::new();
    for plan in (0..200).map(Plan::of) {
        let server = plan.server.settings.trust;
        let told = plan
            .clients()
            .map(|it| (it.unix, it.settings.trust, server, plan.is_trusted(it)));
        found.extend(told);
    }
    // Three that are so or not; and where all are, with `sec` and without.
    assert_eq!(found.len(), 9);
}

/// A task that waits for nothing, one that never waits, one that panics.
#[test]
fn what_cannot_go_on_is_said_to() {
    let fails = |story: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let simulation = Simulation::new(1, false);
        simulation.run(&simulation.node(), story).unwrap_err()
    };
    let waits = std::future::pending();
    assert_eq!(fails(Box::pin(waits)), Failure::Stuck);
    let spins = std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    });
    assert_eq!(fails(Box::pin(spins)), Failure::Spins);
    let panics = async { panic!("on purpose") };
    assert_eq!(fails(Box::pin(panics)), Failure::Panicked);
}

#[test]
fn every_kind_of_item_is_planned() {
    let mut found = [false; 6];
    for seed in 0..200 {
        for (_, item) in Plan::of(seed).items {
            found[match item {
                Item::Client(_) => 0,
                Item::Step(..) => 1,
                Item::Fault(..) => 2,
                Item::Hostile(_) => 3,
                Item::Trouble(..) => 4,
                Item::Stop(_) => 5,
            }] = true;
        }
    }
    assert_eq!(found, [true; 6]);
}

/// A world with one server and two clients on calm lines; what becomes of it.
fn two_clients<T: Send + 'static, F>(
    seed: u64,
    relays: bool,
    outbox: usize,
    story: impl FnOnce(Node, Server, Client, Client) -> F + Send + 'static,
) -> T
where
    F: Future<Output = T> + Send,
{
    let simulation = Simulation::new(seed, false);
    let nodes = [simulation.node(), simulation.node()];
    let [one, other] = nodes;
    let told = simulation.run(&other.clone(), async move {
        let port = one.listen(1);
        let endpoint = Endpoint::tcp(port.address().to_string());
        let server = if relays {
            ServerBuilder::with_runtime(one, Relay)
                .max_outbox(outbox)
                .serve(endpoint.clone(), port)
        } else {
            ServerBuilder::with_runtime(one, Echo)
                .max_outbox(outbox)
                .serve(endpoint.clone(), port)
        };
        let client = ClientBuilder::with_runtime(other.clone());
        let first = client
            .clone()
            .connect(endpoint.clone())
            .await
            .expect("it connects");
        let second = client.connect(endpoint).await.expect("it connects");
        story(other, server, first, second).await
    });
    told.expect("it ends")
}

#[test]
fn who_does_not_read_is_closed_and_others_miss_nothing() {
    const COUNT: usize = 4_000;
    // Whose turn comes first is another one's with each seed.
    for seed in 0..5 {
        let story = |node: Node, server: Server, talks: Client, silent: Client| async move {
            let mut came = 0;
            for _ in 0..COUNT {
                let message = Message::text("x".repeat(1_000));
                talks.send(message).await.expect("it is taken");
                while node
                    .within(Duration::from_millis(1), talks.recv())
                    .await
                    .is_some()
                {
                    came += 1;
                }
            }
            while node
                .within(Duration::from_secs(10), talks.recv())
                .await
                .is_some()
            {
                came += 1;
            }
            drop(silent);
            (server.stats().slow_consumers, came)
        };
        assert_eq!(two_clients(seed, true, 64 * 1024, story), (1, COUNT));
    }
}

#[test]
fn a_handler_that_answers_never_meets_a_full_outbox() {
    let answered = two_clients(1, false, 1, |node, _server, talks, _other| async move {
        // Nothing is read at first: what is sent waits, at whichever place.
        for _ in 0..4_000 {
            let message = Message::text("y".repeat(1_000));
            if node
                .within(Duration::from_secs(1), talks.send(message))
                .await
                .is_none()
            {
                break;
            }
        }
        let mut answered = 0;
        let next = || node.within(Duration::from_secs(1), talks.recv());
        while let Some(Some(event)) = next().await {
            assert!(matches!(event, ClientEvent::Message(_)), "{event:?}");
            answered += 1;
        }
        answered
    });
    assert!(answered > 500, "{answered}");
}

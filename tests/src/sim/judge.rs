//! Whether the books balance.

use std::time::Duration;

use chat_core::driver::ServerStats;
use chat_core::{CloseReason, Uuid};

use super::ledger::{Books, ClientBook, Letter, SessionBook};
use super::plan::{ClientPlan, Item, Mode, Plan};
use super::weather::FaultKind;

type Verdict = Result<(), String>;

/// Looks at everything once it is over.
pub(super) fn judge(plan: &Plan, books: &Books, stats: ServerStats) -> Verdict {
    for client in plan.clients() {
        let Some(book) = books.clients.get(&client.number) else {
            continue;
        };
        trusted(plan, client, book)?;
        order(plan, client, book, books)?;
        lost(plan, client, book, books)?;
        held(plan, client, books)?;
        for reason in &book.ends {
            if let Err(what) = true_at_client(plan, client, books, stats, reason) {
                return Err(format!("client {}: {what}", client.number));
            }
        }
    }
    for (id, session) in &books.sessions {
        if session.end.is_none() {
            return Err(format!("session {id} has begun and not ended"));
        }
        true_at_server(plan, session, stats).map_err(|what| format!("session {id}: {what}"))?;
    }
    Ok(())
}

fn client_plan(plan: &Plan, number: usize) -> Option<&ClientPlan> {
    plan.clients().find(|it| it.number == number)
}

/// Whether a message goes in one piece, up or down.
fn in_one(plan: &Plan, client: &ClientPlan, letter: &Letter, up: bool) -> bool {
    let (client, server) = (&client.settings, &plan.server.settings);
    let chunks = client.chunks && server.chunks;
    let sender = if up { client } else { server };
    !chunks || letter.size <= sender.threshold as usize
}

fn sessions_of(books: &Books, client: usize) -> impl Iterator<Item = (&Uuid, &SessionBook)> {
    books
        .sessions
        .iter()
        .filter(move |(_, session)| session.client == client)
}

/// A channel is trusted where both ends do so and the kernel says who they are, and nowhere else.
fn trusted(plan: &Plan, client: &ClientPlan, book: &ClientBook) -> Verdict {
    let is_so = plan.is_trusted(client);
    if book.trusted.is_some_and(|trusted| trusted != is_so) {
        let number = client.number;
        return Err(format!(
            "client {number}: trusted should be {is_so}, and is not"
        ));
    }
    Ok(())
}

/// What goes in one piece arrives in its order.
fn order(plan: &Plan, client: &ClientPlan, book: &ClientBook, books: &Books) -> Verdict {
    for (_, session) in sessions_of(books, client.number) {
        let small = session
            .arrived
            .iter()
            .filter(|it| in_one(plan, client, it, true));
        let sent: Vec<_> = small.filter(|it| !is_stream(book, it)).collect();
        if !sent.is_sorted_by_key(|it| it.number) {
            return Err(format!(
                "client {}: out of order at the server",
                client.number
            ));
        }
        let mut queued = session.queued.iter();
        let mut came = book
            .received
            .iter()
            .filter(|it| session.queued.contains(it) && in_one(plan, client, it, false));
        if !came.all(|letter| queued.any(|it| it == letter)) {
            return Err(format!(
                "client {}: out of order at the client",
                client.number
            ));
        }
    }
    Ok(())
}

fn is_stream(book: &ClientBook, letter: &Letter) -> bool {
    book.accepted
        .iter()
        .any(|(one, stream)| one == letter && *stream)
}

/// Where both ends have said goodbye everything has arrived, or its sender was told.
fn lost(plan: &Plan, client: &ClientPlan, book: &ClientBook, books: &Books) -> Verdict {
    let number = client.number;
    let mut sessions = sessions_of(books, number);
    let (Some((_, session)), None) = (sessions.next(), sessions.next()) else {
        return Ok(());
    };
    // What an earlier connection had taken may be lost with it: nobody can tell.
    let is_goodbye = |text: &str| text.starts_with("bye") || text == "Client disconnecting";
    let said = matches!(&session.end, Some(CloseReason::Peer { reason }) if is_goodbye(reason));
    if said && book.ends.len() <= 1 {
        let all = book.accepted.iter().filter(|(letter, stream)| {
            let is_kept = match plan.server.mode {
                Mode::Relay => in_one(plan, client, letter, true) && !stream,
                Mode::Echo | Mode::Keep => true,
            };
            is_kept && !book.given_up.contains(letter)
        });
        // Nobody waits in closing for what the server says of a message in chunks that has left: where it
        // is too slow to take it, its sender may not hear of that.
        let is_prompt = plan.is_kind_to(number) && is_prompt(plan, client);
        let all = all.filter(|(letter, _)| is_prompt || in_one(plan, client, letter, true));
        let missing = all.filter(|(letter, _)| !session.arrived.contains(letter));
        let missing: Vec<_> = missing.map(|(letter, _)| letter).collect();
        let told = book.undelivered as u64 + book.lost;
        // Who is dropped, or does not look, is not told. Where nothing is slow, nothing may be lost at all.
        let hears = client.closes && client.reads.is_some();
        let most = if is_prompt { 0 } else { told };
        if missing.len() as u64 > most && (hears || plan.is_kind_to(number)) {
            return Err(format!(
                "client {number} said goodbye, but {missing:?} did not arrive, and {told} are reported"
            ));
        }
    }
    let stopped = |reason: &CloseReason| matches!(reason, CloseReason::Peer { reason } if &**reason == "Server shutting down");
    let told_all = !book.closing && book.ends.last().is_some_and(stopped);
    let is_slow = |end: &CloseReason| end.to_string().contains("Slow consumer");
    if told_all && client.reads.is_some() && !session.end.as_ref().is_some_and(is_slow) {
        complete(book, number, session)?;
    }
    Ok(())
}

/// Whether nothing makes a client, or the server, slow.
fn is_prompt(plan: &Plan, client: &ClientPlan) -> bool {
    client.reads == Some(Duration::ZERO)
        && client.bandwidth >= 1_000_000
        && client.settings.rate.is_none()
        && plan.server.settings.rate.is_none()
        && plan.server.thinks.is_zero()
}

/// What waits for who does not read stays within what may wait.
fn held(plan: &Plan, client: &ClientPlan, books: &Books) -> Verdict {
    if client.reads.is_some() || client.reconnects {
        return Ok(());
    }
    for (_, session) in sessions_of(books, client.number) {
        let sizes = session.queued.iter().map(|it| it.size);
        let largest = sizes.clone().max().unwrap_or(0);
        // In each of them one more fits than it has room for. Messages in chunks have their own room.
        let places = [
            2 * plan.server.outbox,
            plan.server.settings.buffers,
            client.window,
            client.settings.buffers + client.inbox,
            client.settings.window as usize * client.settings.transfers as usize,
        ];
        let most: usize = places.iter().map(|place| place + largest).sum();
        let all: usize = sizes.sum();
        if all > most {
            return Err(format!(
                "{all} bytes were queued for client {}, which does not read: more than {most}",
                client.number
            ));
        }
    }
    Ok(())
}

fn complete(book: &ClientBook, number: usize, session: &SessionBook) -> Verdict {
    let missing = session
        .queued
        .iter()
        .filter(|it| !book.received.contains(it));
    let missing: Vec<_> = missing.collect();
    // What a client does not take it is told.
    if missing.len() > book.left_out {
        return Err(format!("client {number} did not get {missing:?}"));
    }
    Ok(())
}

/// Whether a client's session lives on which everything has to arrive.
fn waits(plan: &Plan, client: &ClientPlan, book: &ClientBook) -> bool {
    client.reads.is_some() && plan.is_kind_to(client.number) && book.ends.is_empty()
}

/// Whether everything has arrived that was queued for who reads.
pub(super) fn arrived(plan: &Plan, books: &Books) -> Verdict {
    for client in plan.clients() {
        let Some(book) = books.clients.get(&client.number) else {
            continue;
        };
        if !waits(plan, client, book) {
            continue;
        }
        for (_, session) in sessions_of(books, client.number) {
            if session.end.is_none() {
                complete(book, client.number, session)?;
            }
        }
    }
    Ok(())
}

/// Whether something went wrong on the connections of a client that changes bytes, or loses some.
fn is_corrupted(plan: &Plan, client: usize) -> bool {
    plan.items.iter().any(|(_, item)| match item {
        Item::Fault(number, _, fault) => {
            *number == client
                && matches!(
                    fault.kind,
                    FaultKind::Flip(_) | FaultKind::Lose | FaultKind::Double
                )
        }
        _ => false,
    })
}

fn has_stop(plan: &Plan) -> bool {
    plan.items
        .iter()
        .any(|(_, item)| matches!(item, Item::Stop(_)))
}

/// Whether a server that is stopped may have to cut this client off.
fn may_be_cut(plan: &Plan, client: &ClientPlan) -> bool {
    has_stop(plan) && !is_prompt(plan, client)
}

/// Whether a connection of a client may end without a goodbye, or by a deadline.
fn has_excuse(plan: &Plan, client: &ClientPlan) -> bool {
    // Who never reads takes nothing of what is sent in the end.
    !plan.is_kind_to(client.number) || may_be_cut(plan, client) || client.reads.is_none()
}

/// Whether what one end tells the other of what went wrong is true.
fn said_of_trouble(plan: &Plan, client: &ClientPlan, text: &str) -> bool {
    match text {
        "Protocol error" => is_corrupted(plan, client.number),
        text if text.starts_with("Timed out") => has_excuse(plan, client),
        _ => false,
    }
}

/// Whether a reason that a client gives is true.
fn true_at_client(
    plan: &Plan,
    client: &ClientPlan,
    books: &Books,
    stats: ServerStats,
    reason: &CloseReason,
) -> Verdict {
    let number = client.number;
    let is_new = sessions_of(books, number).next().is_none();
    let is_full = plan.server.connections < 1_000 || plan.server.handshakes < 100;
    let turned_away = stats.refused + stats.refused_handshakes > 0 && is_full;
    let is_true = match reason {
        CloseReason::Local { .. } => true,
        CloseReason::Peer { reason } => match &**reason {
            "Server shutting down" => true,
            text if text.starts_with("Slow consumer") => stats.slow_consumers > 0,
            text => said_of_trouble(plan, client, text),
        },
        CloseReason::Refused { .. } => turned_away || has_stop(plan),
        CloseReason::Transport { error } if error.starts_with("cannot connect") => {
            client.reconnects && has_stop(plan)
        }
        CloseReason::Protocol(_) => is_corrupted(plan, number),
        _ => has_excuse(plan, client) || (is_new && (turned_away || has_stop(plan))),
    };
    if is_true {
        return Ok(());
    }
    Err(format!("it says {reason:?}, which is not so"))
}

/// Whether a reason that the server gives is true.
fn true_at_server(plan: &Plan, session: &SessionBook, stats: ServerStats) -> Verdict {
    let Some(reason) = &session.end else {
        return Ok(());
    };
    let Some(client) = client_plan(plan, session.client) else {
        // Of somebody who is up to no good.
        return Ok(());
    };
    let is_true = match reason {
        CloseReason::Peer { reason } => match &**reason {
            "Client disconnecting" => true,
            text if text == format!("bye {}", client.number) => true,
            text => said_of_trouble(plan, client, text),
        },
        CloseReason::Local { reason } => match &**reason {
            "Server shutting down" => true,
            text if text.starts_with("Slow consumer") => stats.slow_consumers > 0,
            _ => false,
        },
        CloseReason::Protocol(_) => is_corrupted(plan, client.number),
        _ => has_excuse(plan, client),
    };
    if is_true {
        return Ok(());
    }
    Err(format!("the server says {reason:?}, which is not so"))
}

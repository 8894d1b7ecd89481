//! What every adapter has to do, on both kinds of sockets: one suite, generic over the runtime.
//!
//! An adapter is tested by implementing [`Adapter`] for it and instantiating
//! [`conformance!`](crate::conformance!) in an integration test:
//!
//! ```no_run
//! use chat_tests::conformance::Adapter;
//!
//! struct OnTokio;
//!
//! impl Adapter for OnTokio {
//!     type Runtime = chat_tokio::Tokio;
//!
//!     fn block_on<T>(future: impl Future<Output = T>) -> T {
//!         tokio::runtime::Runtime::new().unwrap().block_on(future)
//!     }
//! }
//!
//! chat_tests::conformance!(on_tokio, OnTokio);
//! ```

pub mod awaits;
pub mod cancel;
pub mod ends;
pub mod faults;
pub mod floods;
pub mod handlers;
pub mod hostile;
pub mod limits;
pub mod messages;
pub mod raw;
pub mod receivers;
pub mod security;
pub mod sockets;
pub mod streams;
mod talk;
pub mod tampering;
pub mod trust;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use chat_core::driver::rt::Runtime;
use chat_core::driver::{
    Client, ClientBuilder, ClientEvent, Endpoint, Handler, Server, ServerBuilder, Session,
};
use chat_core::{CloseReason, Message};
use tempfile::TempDir;

/// A runtime under test.
pub trait Adapter: Send + Sync + 'static {
    /// What the adapter gives to the driver.
    type Runtime: Runtime + Default;

    /// Runs a future to its end on the runtime.
    fn block_on<T>(future: impl Future<Output = T>) -> T;
}

/// Which sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP over loopback.
    Tcp,
    /// A Unix socket in a folder of its own.
    Unix,
}

/// No test takes longer than this, however loaded the machine is.
const LIMIT: Duration = Duration::from_mins(1);

/// What a test works with.
pub struct World<A: Adapter> {
    kind: Kind,
    dir: TempDir,
    /// The runtime under test.
    pub runtime: A::Runtime,
}

/// Runs one test on a runtime and a kind of socket, and fails it if it takes too long.
pub fn run<A, F>(kind: Kind, test: impl FnOnce(World<A>) -> F + Send + 'static)
where
    A: Adapter,
    F: Future<Output = ()>,
{
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        A::block_on(async move {
            let dir = tempfile::tempdir().expect("a folder for the sockets");
            test(World {
                kind,
                dir,
                runtime: A::Runtime::default(),
            })
            .await;
        });
        let _ = done.send(());
    });
    match wait.recv_timeout(LIMIT) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the test hangs"),
        // Done, or panicked.
        _ => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl<A: Adapter> World<A> {
    /// Where a server can listen.
    pub fn endpoint(&self) -> Endpoint {
        match self.kind {
            Kind::Tcp => Endpoint::tcp("127.0.0.1:0"),
            Kind::Unix => Endpoint::unix(self.dir.path().join("chat.sock")),
        }
    }

    /// The settings of a server that listens.
    pub fn server<H: Handler>(&self, handler: H) -> ServerBuilder<A::Runtime, H> {
        ServerBuilder::with_runtime(self.runtime.clone(), handler).listen(self.endpoint())
    }

    /// A server with default settings.
    pub async fn serve<H: Handler>(&self, handler: H) -> Server<H::Data> {
        self.server(handler).bind().await.expect("it listens")
    }

    /// The settings of a client.
    pub fn client(&self) -> ClientBuilder<A::Runtime> {
        ClientBuilder::with_runtime(self.runtime.clone())
    }

    /// A client with default settings.
    pub async fn connect<D>(&self, server: &Server<D>) -> Client {
        let endpoint = server.endpoints()[0].clone();
        self.client().connect(endpoint).await.expect("it connects")
    }

    /// Waits until the server has a session; returns one.
    pub async fn session<D>(&self, server: &Server<D>) -> Session<D> {
        self.until("a session", || !server.sessions().is_empty())
            .await;
        server.sessions().remove(0)
    }

    /// Runs a future in the background.
    pub fn runtime_spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, mut check: impl FnMut() -> bool) {
        let start = Instant::now();
        while !check() {
            assert!(start.elapsed() < LIMIT / 2, "waited in vain: {what}");
            self.pause(Duration::from_millis(2)).await;
        }
    }

    /// Waits.
    pub async fn pause(&self, duration: Duration) {
        use chat_core::driver::rt::Sleep;

        let deadline = self.runtime.now() + duration;
        let mut sleep = self.runtime.sleep();
        std::future::poll_fn(|cx| sleep.poll_until(cx, deadline)).await;
    }
}

/// The next message; anything else fails the test.
pub async fn message(client: &Client) -> Message {
    match client.recv().await {
        Some(ClientEvent::Message(message)) => message,
        other => panic!("expected a message, not {other:?}"),
    }
}

/// The end of a client, messages before it passed over.
pub async fn end(client: &Client) -> CloseReason {
    loop {
        match client.recv().await {
            Some(ClientEvent::Disconnected {
                reason,
                retry_in: None,
                ..
            }) => return reason,
            Some(_) => {}
            None => panic!("the end was reported before"),
        }
    }
}

/// Instantiates the suite for an adapter, on TCP and on Unix sockets: a module of tests.
#[macro_export]
macro_rules! conformance {
    ($module:ident, $adapter:ty) => {
        mod $module {
            $crate::conformance!(@kind tcp, $adapter, $crate::conformance::Kind::Tcp);
            $crate::conformance!(@kind unix, $adapter, $crate::conformance::Kind::Unix);
        }
    };
    (@kind $module:ident, $adapter:ty, $kind:expr) => {
        mod $module {
            use super::super::*;
            $crate::conformance!(@tests $adapter, $kind;
                messages: echo, relay_reaches_everybody, order_is_kept, ten_mebibytes,
                    sizes_around_the_limits, both_peers_only_write, one_byte_at_a_time,
                    piped_messages_survive_the_goodbye, two_receivers_share, flush_waits_for_the_socket,
                    refused_messages_are_handed_back;
                handlers: session_has_data, counters_and_times, sessions_are_listed_and_found,
                    broadcast_counts_its_receivers, session_is_closed_with_a_reason,
                    a_failing_handler_ends_its_session_only, a_panicking_handler_ends_its_session_only,
                    a_handler_that_panics_afterwards_ends_its_session_only,
                    a_waiting_handler_does_not_stop_heartbeats, an_echo_with_the_smallest_outbox,
                    a_closing_handler_keeps_its_last_words;
                ends: graceful_stop_tells_everybody, half_close_is_real, stop_does_not_wait_for_ever,
                    an_abort_waits_for_nobody,
                    queued_messages_go_out_before_the_goodbye, stop_is_fast_under_load,
                    a_client_that_is_dropped_says_goodbye, a_lost_server_is_noticed, lost_messages_are_reported,
                    the_end_is_known_without_receiving,
                    reconnects_and_goes_on, reconnecting_can_be_closed, no_reconnect_after_a_refused_key;
                limits: a_timer_is_ready_as_often_as_it_is_asked, one_more_connection_is_told, a_slow_consumer_is_told_and_closed,
                    a_stalled_reader_does_not_delay_others, an_unread_client_stops_reading;
                hostile: a_wrong_key_is_refused, another_protocol_is_refused,
                    silence_in_the_handshake_is_bounded, a_dribbled_handshake_is_bounded,
                    another_session_id_is_refused, a_silent_client_is_dropped,
                    a_client_that_only_reads_lives, an_abrupt_end_is_noticed,
                    a_reset_is_noticed, a_half_open_client_is_let_go,
                    a_server_that_refuses_is_heard, a_server_that_closes_is_noticed;
                cancel: adding_bytes_can_be_dropped_at_every_await,
                    copying_can_be_dropped_at_every_await,
                    completing_can_be_dropped_at_every_await,
                    taking_pieces_can_be_dropped_at_every_await,
                    collecting_can_be_dropped_at_every_await;
                awaits: binding_can_be_dropped_at_every_await,
                    connecting_can_be_dropped_at_every_await,
                    sending_can_be_dropped_at_every_await,
                    receiving_can_be_dropped_at_every_await, a_receiver_that_is_gone_takes_nothing,
                    flushing_can_be_dropped_at_every_await, closing_can_be_dropped_at_every_await,
                    stopping_can_be_dropped_at_every_await,
                    forwarding_can_be_dropped_at_every_await,
                    accepting_can_be_dropped_at_every_await;
                faults: harmless_faults_change_nothing,
                    an_error_at_any_operation_ends_one_connection,
                    a_reset_at_any_operation_is_noticed_by_both_ends,
                    the_end_of_the_stream_at_any_operation_is_noticed,
                    a_socket_that_takes_no_more_is_let_go_in_time,
                    accepting_goes_on_after_errors, a_listener_that_fails_can_be_stopped,
                    what_a_close_gives_up_is_counted;
                streams: streams_arrive_whole, large_messages_come_back_whole,
                    many_large_messages_take_turns, small_messages_overtake_large_ones,
                    a_dropped_stream_is_given_up, an_unread_stream_waits_alone,
                    limits_are_known_before_sending, streaming_can_be_dropped,
                    a_handler_can_wait_for_its_stream, large_messages_do_not_wait_for_streams;
                receivers: a_relay_forwards_while_it_arrives, a_slow_receiver_loses_its_own_copy,
                    old_clients_get_one_frame_or_a_notice, stopping_ends_streams,
                    a_whole_stream_outlives_its_connection, many_unread_streams_are_bounded,
                    a_client_that_takes_next_to_nothing_harms_nobody,
                    closing_does_not_wait_for_an_unread_stream, a_busy_client_is_not_gone,
                    a_handler_that_fails_on_a_stream_ends_its_session;
                sockets: several_endpoints_at_once, a_port_in_use_is_an_error,
                    a_name_is_resolved, nothing_listens_after_a_failed_bind,
                    a_foreign_lock_file_is_left_alone;
                security: sec_is_used_and_both_ends_say_so, each_client_has_its_own_key,
                    an_unknown_key_gets_no_session, a_client_can_demand_sec,
                    a_server_can_demand_sec, a_session_knows_its_process,
                    allowed_users_are_let_in_and_others_told, a_broadcast_is_hashed_once,
                    a_forwarded_stream_is_not_hashed_again;
                floods: silent_connections_hold_a_bounded_number_of_places,
                    the_oldest_silent_connection_gives_way,
                    connections_of_one_address_are_bounded,
                    a_dribbled_handshake_delays_nobody, half_open_connections_delay_nobody,
                    a_client_over_its_rate_gets_everything, too_many_errors_end_a_session_only;
                tampering: who_only_passes_frames_on_is_not_noticed, a_changed_bit_is_found,
                    a_frame_out_of_place_is_found, a_reflected_frame_is_found,
                    a_frame_of_another_session_is_found, a_recorded_server_proves_nothing,
                    a_recorded_client_proves_nothing, a_recorded_offer_talks_nobody_down,
                    a_goodbye_that_is_cut_off_is_missed, without_sec_frames_can_be_moved;
                trust: only_a_unix_socket_is_trusted, a_channel_is_signed_if_one_end_wants_it,
                    a_client_that_comes_back_trusts_again,
                    a_server_that_nobody_knows_is_not_trusted, damage_is_found_on_a_trusted_channel,
                    a_broadcast_reaches_the_trusted_and_others;
            );
        }
    };
    (@tests $adapter:ty, $kind:expr; $($group:ident: $($test:ident),+;)+) => {
        $($(
            #[test]
            fn $test() {
                $crate::conformance::run::<$adapter, _>($kind, $crate::conformance::$group::$test);
            }
        )+)+
    };
}

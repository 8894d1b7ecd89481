//! Connecting.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::rt::{Runtime, Sleep, Socket};
use super::security::Place;
use super::{ConnectError, Endpoint, Peer};
use crate::Instant;

/// Connects to an endpoint, within `timeout`; to the first of its addresses that answers. Each has
/// an equal share of the time that is left. Also says where the other end is.
pub(super) async fn dial<R: Runtime>(
    runtime: &R,
    endpoint: &Endpoint,
    timeout: Duration,
) -> Result<(Socket<R>, Place), ConnectError> {
    let deadline = runtime.now() + timeout;
    let socket = match endpoint {
        Endpoint::Unix(path) => {
            let connect = runtime.connect_unix(path);
            let connected = within(runtime, timeout, connect).await;
            connected.map(|stream| {
                let peer = Peer::Unix(runtime.unix_peer(&stream));
                (Socket::Unix(stream), Place::of(&peer))
            })
        }
        Endpoint::Tcp(host) => {
            let resolve = within(runtime, timeout, runtime.resolve(host));
            match resolve.await {
                Ok(addresses) => connect_tcp(runtime, &addresses, deadline).await,
                Err(error) => Err(error),
            }
        }
    };
    socket.map_err(|source| ConnectError::Io {
        endpoint: endpoint.clone(),
        source,
    })
}

async fn connect_tcp<R: Runtime>(
    runtime: &R,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> io::Result<(Socket<R>, Place)> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let share = (deadline - runtime.now()) / u32::try_from(left).unwrap_or(u32::MAX);
        match within(runtime, share, runtime.connect_tcp(*address)).await {
            Ok(stream) => {
                let place = Place::of(&Peer::Tcp(*address));
                return Ok((Socket::Tcp(stream), place));
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Awaits something, but not for longer than `limit`.
async fn within<R: Runtime, T>(
    runtime: &R,
    limit: Duration,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let (mut future, mut limit) = (pin!(future), pin!(pause(runtime, limit)));
    poll_fn(|cx| {
        if let Poll::Ready(done) = future.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        limit.as_mut().poll(cx).map(|()| Err(late()))
    })
    .await
}

/// Waits.
pub(super) async fn pause<R: Runtime>(runtime: &R, duration: Duration) {
    let deadline = runtime.now() + duration;
    let mut sleep = runtime.sleep();
    poll_fn(|cx| sleep.poll_until(cx, deadline)).await;
}

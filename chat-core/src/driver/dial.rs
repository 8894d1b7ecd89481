//! Connecting.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::rt::{Runtime, Sleep, Socket};
use super::{ConnectError, Endpoint};

/// Connects to an endpoint, within `timeout`; to the first of its addresses that answers.
pub(super) async fn dial<R: Runtime>(
    runtime: &R,
    endpoint: &Endpoint,
    timeout: Duration,
) -> Result<Socket<R>, ConnectError> {
    let mut connect = pin!(connect(runtime, endpoint));
    let mut limit = pin!(pause(runtime, timeout));
    let result = poll_fn(|cx| {
        if let Poll::Ready(done) = connect.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        limit.as_mut().poll(cx).map(|()| {
            let text = format!("no answer within {timeout:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    });
    result.await.map_err(|source| ConnectError::Io {
        endpoint: endpoint.clone(),
        source,
    })
}

async fn connect<R: Runtime>(runtime: &R, endpoint: &Endpoint) -> io::Result<Socket<R>> {
    match endpoint {
        Endpoint::Unix(path) => runtime.connect_unix(path).await.map(Socket::Unix),
        Endpoint::Tcp(host) => {
            let mut failed = None;
            for address in runtime.resolve(host).await? {
                match runtime.connect_tcp(address).await {
                    Ok(stream) => return Ok(Socket::Tcp(stream)),
                    Err(error) => failed = Some(error),
                }
            }
            Err(failed.unwrap_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, "the name has no address")
            }))
        }
    }
}

/// Waits.
pub(super) async fn pause<R: Runtime>(runtime: &R, duration: Duration) {
    let deadline = runtime.now() + duration;
    let mut sleep = runtime.sleep();
    poll_fn(|cx| sleep.poll_until(cx, deadline)).await;
}

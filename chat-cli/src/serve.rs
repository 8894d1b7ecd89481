//! `chat-cli serve`.

use std::io::{self, Write};

use chat_core::Config;
use chat_core::driver::{Echo, Endpoint, Handler, Relay, Server, ServerBuilder, rt};

use crate::args::{Runtime, Serve};
use crate::exit::Failure;
use crate::signals::Signals;

pub(crate) async fn run(args: Serve) -> Result<(), Failure> {
    if args.echo {
        serve(args, Echo).await
    } else {
        serve(args, Relay).await
    }
}

async fn serve(args: Serve, handler: impl Handler) -> Result<(), Failure> {
    let mut signals =
        Signals::new().map_err(|error| Failure::io(format!("cannot handle signals: {error}")))?;
    let config = args.config()?;
    // Resolving a name may take its time.
    let server = tokio::select! {
        server = bind(&args, config, handler) => server?,
        () = signals.next() => return Err(Failure::interrupted()),
    };

    if args.uses_default_key() {
        tracing::warn!(
            "no --key-file and no --key-dir: the default key is public, it keeps nobody out"
        );
    }
    if let Err(error) = announce(server.endpoints()) {
        server.stop().await;
        return Err(Failure::io(format!(
            "cannot write to standard output: {error}"
        )));
    }

    signals.next().await;
    tokio::select! {
        () = server.stop() => return Ok(()),
        () = signals.next() => {}
    }
    // At once, but not without removing the sockets.
    tokio::select! {
        () = server.abort() => {}
        () = signals.next() => {}
    }
    Err(Failure::interrupted())
}

async fn bind<H: Handler>(
    args: &Serve,
    config: Config,
    handler: H,
) -> Result<Server<H::Data>, Failure> {
    if args.uses_default_key() {
        check_default_key(&args.endpoints(), args.allow_default_key).await?;
    }
    match args.common.runtime {
        Runtime::Tokio => listen::<chat_tokio::Tokio, H>(args, config, handler).await,
        #[cfg(feature = "async-std")]
        Runtime::AsyncStd => listen::<chat_async_std::AsyncStd, H>(args, config, handler).await,
        #[cfg(feature = "smol")]
        Runtime::Smol => listen::<chat_smol::Smol, H>(args, config, handler).await,
    }
}

async fn listen<R: rt::Runtime + Default, H: Handler>(
    args: &Serve,
    config: Config,
    handler: H,
) -> Result<Server<H::Data>, Failure> {
    let mut builder = ServerBuilder::<R, H>::new(handler)
        .config(config)
        .grace(args.grace)
        .max_connections(args.max_connections)
        .max_handshakes(args.max_handshakes)
        .max_per_address(args.max_per_address);
    if !args.allow_uid.is_empty() {
        builder = builder.allow_uids(args.allow_uid.iter().copied());
    }
    for endpoint in args.endpoints() {
        builder = builder.listen(endpoint);
    }
    builder.bind().await.map_err(|error| {
        let hint = match (&error.endpoint, error.source.kind()) {
            (Endpoint::Tcp(_), io::ErrorKind::AddrInUse) => {
                "; stop who listens there, or choose another port (0: any that is free)"
            }
            _ => "",
        };
        Failure::unavailable(format!("{error}{hint}"))
    })
}

fn announce(endpoints: &[Endpoint]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for endpoint in endpoints {
        writeln!(stdout, "listening on {endpoint}")?;
    }
    stdout.flush()
}

/// Without a key of one's own nobody is kept out: fine where nobody else can come.
async fn check_default_key(endpoints: &[Endpoint], allowed: bool) -> Result<(), Failure> {
    let mut open = None;
    for endpoint in endpoints {
        // A name that cannot be resolved is refused when it is listened on.
        if let Endpoint::Tcp(host) = endpoint
            && let Ok(mut addresses) = tokio::net::lookup_host(host).await
            && addresses.any(|address| !address.ip().is_loopback())
        {
            open = Some(host);
        }
    }
    match open {
        Some(host) if !allowed => Err(Failure::key(format!(
            "{host} can be reached by others, and without --key-file nobody is kept out; \
             make a key with: chat-cli keygen (or give --allow-default-key)"
        ))),
        _ => Ok(()),
    }
}

//! `nanoprobe network`: the program around the network side. Its standard input is the socket that leads to the agent.

use super::channel::frame;
use super::confine::{ACCOUNT, ConfineError, Confined, confine};
use super::protocol::{News, Order, Start, address};
use super::side::{self, End};
use crate::agent::start::PROGRAM;
use daemon::signals::Signals;
use model::message::decode;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use wire::endpoint::{BindError, Endpoint, EndpointConfig, EndpointError, Inbox};
use wire::keys::KeyPair;
use zeroize::Zeroizing;

/// Name of the command: not for people.
pub const COMMAND: &str = "network";

/// The first order is small.
const START_LIMIT_BYTES: usize = 64 * 1024;

/// How long the agent may take to give it.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// A nanoprobe that was killed holds its port until its network process has noticed.
const PORT_PATIENCE: Duration = Duration::from_millis(300);

/// A connection is kept alive by a packet this often.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Why the network process does not begin.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error("this is started by the nanoprobe itself, with a socket as standard input: run `nanoprobe`")]
    ByHand,
    #[error("the agent said nothing that can be understood: {0}")]
    Agent(String),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error("the event loop cannot be started: {0}")]
    Runtime(#[from] io::Error),
}

/// Runs until the agent ends it or is gone. Returns the exit code.
pub fn run() -> u8 {
    let mut stream = match agent() {
        Ok(stream) => stream,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{PROGRAM}: {error}");
            return 1;
        }
    };
    match work(&mut stream) {
        Ok(code) => code,
        Err(error) => {
            let _ = stream.set_nonblocking(false);
            // The agent tells it to people; when it is gone, nobody is there to tell.
            let _ = stream.write_all(&frame(&News::Failed { error: super::protocol::text(&error) }));
            1
        }
    }
}

/// The socket that standard input is.
fn agent() -> Result<UnixStream, ProcessError> {
    let stream: UnixStream = io::stdin().as_fd().try_clone_to_owned()?.into();
    stream.peer_addr().map_err(|_| ProcessError::ByHand)?;
    stream.set_read_timeout(Some(START_PATIENCE))?;
    Ok(stream)
}

fn work(stream: &mut UnixStream) -> Result<u8, ProcessError> {
    // From /proc/self/exe the process would be called "exe".
    let _ = rustix::thread::set_name(c"nanoprobe-net");
    let start = read_start(stream)?;
    let level = daemon::logging::start(start.debug_level, PROGRAM);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    let end = runtime.block_on(async {
        // The agent decides when this ends: neither a terminal's ^C nor the service manager, which may signal all processes.
        let mut signals = Signals::new(level.clone())?;
        let pinned = start.pinned.get();
        let (endpoint, inbox) = bind(&start)?;
        drop(start);
        tell(&confine()?);
        stream.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(stream.try_clone()?)?;
        let ignore = async {
            loop {
                signals.next().await;
            }
        };
        tokio::select! {
            end = side::run(stream, endpoint, inbox, pinned, level) => Ok(end),
            end = ignore => end,
        }
    });
    // A resolver must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match end {
        Ok(End::Finished) => Ok(0),
        Ok(End::Alone(None)) => Ok(1),
        Ok(End::Alone(Some(error))) => {
            tracing::error!(%error, "the agent makes no sense");
            Ok(1)
        }
        Err(error) => Err(error),
    }
}

fn read_start(stream: &mut UnixStream) -> Result<Start, ProcessError> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).map_err(|error| ProcessError::Agent(error.to_string()))?;
    let bytes = u32::from_be_bytes(header) as usize;
    if bytes > START_LIMIT_BYTES {
        return Err(ProcessError::Agent(format!("its first order has {bytes} bytes")));
    }
    let mut payload = Zeroizing::new(vec![0; bytes]);
    stream.read_exact(&mut payload).map_err(|error| ProcessError::Agent(error.to_string()))?;
    match decode(&payload) {
        Ok(Order::Start(start)) => Ok(start),
        Ok(_) => Err(ProcessError::Agent("its first order is not to start".into())),
        Err(error) => Err(ProcessError::Agent(error.to_string())),
    }
}

/// Opens the first of the addresses that can be opened; the error is that of the last.
fn bind(start: &Start) -> Result<(Endpoint, Inbox), ProcessError> {
    let own = KeyPair::from_seed(Zeroizing::new(start.seed.0));
    let defaults = EndpointConfig {
        fallback_ephemeral: false,
        multicast_ttl: start.multicast_ttl,
        // For a CMA that has something to say while we are not connected; TLS refuses everybody else.
        listen: true,
        max_connections: 8,
        max_connections_per_address: 4,
        keepalive: start.keepalive.then_some(KEEPALIVE),
        ..EndpointConfig::nanoprobe(own, start.pinned.get())
    };
    let wanted: Vec<SocketAddr> = start.bind.iter().filter_map(|text| address(text)).collect();
    let begun = Instant::now();
    let mut last = ProcessError::Agent("it names no local address".into());
    for (index, &bind) in wanted.iter().enumerate() {
        let opened = loop {
            match Endpoint::bind(EndpointConfig { bind, ..defaults.clone() }) {
                Err(EndpointError::Bind(BindError::Taken { .. })) if begun.elapsed() < PORT_PATIENCE => {
                    std::thread::sleep(PORT_PATIENCE / 20);
                }
                result => break result,
            }
        };
        match opened {
            Ok(opened) => return Ok(opened),
            Err(error) => {
                if index + 1 < wanted.len() {
                    tracing::info!(%error, "another port is used");
                }
                last = error.into();
            }
        }
    }
    Err(last)
}

fn tell(confined: &Confined) {
    let Confined { account, landlock } = confined;
    if account.is_some_and(|account| account != ACCOUNT) {
        tracing::warn!(
            "there is no account {ACCOUNT}, so the network process is `nobody`, as other programs may be: \
             useradd --system {ACCOUNT}"
        );
    }
    tracing::debug!(account, ?landlock, "the network process has given up its privileges");
}

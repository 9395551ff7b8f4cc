//! Everything that the CMA listens on: the web port, the UDP port for hosts, the socket of the API.

use super::StartError;
use super::tasks::Shared;
use crate::api::{self, Bounded};
use crate::health::Health;
use crate::keys::Keyring;
use crate::metrics::{Gauges, Metrics, Sources};
use crate::settings::Settings;
use crate::web::{self, Web};
use daemon::local_socket;
use model::Timestamp;
use serde_json::json;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use wire::endpoint::{BindError, Endpoint, EndpointConfig, EndpointError, Inbox};
use wire::keys::KeyPair;

/// Mode of the API's socket: the CMA's user and its group.
const SOCKET_MODE: u32 = 0o660;
/// How often, and how long apart, an address that is taken is tried again.
const TAKEN_TRIES: u32 = 15;
const TAKEN_PAUSE: Duration = Duration::from_millis(100);

/// The web port that is served.
pub struct WebPort {
    /// `None`: there is none.
    pub address: Option<SocketAddr>,
    /// For its metrics, once there are keys.
    pub keys: Arc<OnceLock<Arc<Keyring>>>,
    stop: watch::Sender<bool>,
}

impl WebPort {
    /// Listens, if the settings ask for that, and serves until [`Self::stop`].
    ///
    /// # Errors
    /// The address that somebody asked for cannot be had.
    pub async fn open(shared: &Shared, metrics: &Metrics) -> Result<Self, StartError> {
        let listener = web_listener(&shared.settings, &shared.health).await?;
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let keys = Arc::new(OnceLock::new());
        let (stop, mut stopping) = watch::channel(false);
        if let Some(listener) = listener {
            let sources = Sources {
                readers: shared.readers.clone(),
                hosts: shared.hosts.clone(),
                health: shared.health.clone(),
                writer: shared.writer.clone(),
                metrics: metrics.clone(),
                knowledge: shared.knowledge.clone(),
                crypto: shared.settings.site.crypto(),
                keys: keys.clone(),
                started: shared.started,
                restored: shared.replaced,
            };
            let web = Web {
                writer: shared.writer.clone(),
                health: shared.health.clone(),
                gauges: Gauges::new(sources),
                database: shared.settings.database.clone(),
            };
            let stopped = async move { drop(stopping.wait_for(|stop| *stop).await) };
            tokio::spawn(web::serve(listener, web, stopped));
        }
        Ok(Self { address, keys, stop })
    }

    /// No longer serves.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Opens the UDP port for hosts.
///
/// # Errors
/// It cannot be had; the text says what to do.
pub async fn endpoint(settings: &Settings, own: KeyPair) -> Result<(Endpoint, Inbox), StartError> {
    let mut config = EndpointConfig::cma(own);
    config.bind = settings.bind;
    config.state_directory = Some(settings.site.state().join("cma"));
    if settings.bind.ip().is_loopback() {
        // Multicast has no business on loopback, and joining would reach for the real interfaces.
        config.join = None;
    }
    let taken = |error: &EndpointError| matches!(error, EndpointError::Bind(BindError::Taken { .. }));
    Ok(patiently(|| Endpoint::bind(config.clone()), taken).await?)
}

/// Opens the socket of the API.
///
/// # Errors
/// It cannot be had.
pub async fn api_socket(path: &Path) -> Result<UnixListener, StartError> {
    let taken = |error: &io::Error| error.kind() == ErrorKind::AddrInUse;
    let listen = || local_socket::bind(path, SOCKET_MODE);
    let socket = patiently(listen, taken).await.map_err(StartError::Socket)?;
    socket.set_nonblocking(true).map_err(StartError::Socket)?;
    UnixListener::from_std(socket).map_err(StartError::Socket)
}

/// Serves the API until the CMA stops.
pub async fn serve_api(socket: UnixListener, router: axum::Router, mut stop: watch::Receiver<bool>) {
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    let listener = Bounded::new(socket, api::MAX_CONNECTIONS);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "the API socket is no longer served");
    }
}

/// Tells whoever waits that everything listens. Written under another name first, so it is never seen in part.
pub fn write_ready_file(path: &Path, bind: SocketAddr, started: Timestamp) -> io::Result<PathBuf> {
    let text = json!({"pid": std::process::id(), "bind": bind.to_string(), "started": started}).to_string();
    let temporary = path.with_extension(format!("json.{}", std::process::id()));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&temporary, path)?;
    Ok(path.to_owned())
}

async fn web_listener(settings: &Settings, health: &Health) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = settings.web else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if settings.web_is_default && error.kind() == ErrorKind::AddrInUse => {
            tracing::warn!(%address, "the web port is taken, so there is none; choose another with --web");
            health.set(
                "web",
                Some(format!(
                    "the web port {address} is taken; choose another with --web, or none with `--web none`"
                )),
            );
            Ok(None)
        }
        Err(error) => Err(StartError::Web { address, error }),
    }
}

/// Tries again for a moment while something is taken: when a CMA was killed just as it started a script, the new
/// process still holds its sockets until it has become the script.
async fn patiently<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    taken: impl Fn(&E) -> bool,
) -> Result<T, E> {
    for _ in 0..TAKEN_TRIES {
        match attempt() {
            Err(error) if taken(&error) => tokio::time::sleep(TAKEN_PAUSE).await,
            result => return result,
        }
    }
    attempt()
}

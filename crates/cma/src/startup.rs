//! Bringing the CMA up in the right order, and down again.

use crate::api::{self, Bounded, Reload, Site};
use crate::commit::{Committer, Outlets, QUEUE_REQUESTS, Writer};
use crate::health::{Health, Phase};
use crate::hosts::Hosts;
use crate::inbox::{self, Reception};
use crate::ingest::Produced;
use crate::keys::{Keyring, ReloadError};
use crate::knowledge::{Knowledge, SharedKnowledge};
use crate::liveness::{self, Restored};
use crate::metrics::{Gauges, Metrics, Sources};
use crate::notify::run::Delivery;
use crate::readers::{Readers, newest_event};
use crate::service::Service;
use crate::settings::{Arguments, SettingError, Settings};
use crate::web::{self, Web};
use crate::{account, calls, groups, looks, reevaluate, reload, restore, reverse_dns, vendors};
use daemon::pidfile::{PidFile, PidFileError};
use daemon::signals::{Signal, Signals};
use daemon::{local_socket, logging};
use model::config::CmaConfig;
use model::paths::SitePaths;
use model::{Designation, PublicKey, Timestamp};
use serde_json::json;
use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use store::sqlite::SqliteStore;
use store::{HostRow, Store, StoreError};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use wire::endpoint::{BindError, CloseReason, Endpoint, EndpointConfig, EndpointError};
use wire::keys::{KeyDirectory, KeyError, KeyId, Pinned};

/// Mode of the API's socket: the CMA's user and its group.
const SOCKET_MODE: u32 = 0o660;
/// Read-only connections to the database.
const READERS: usize = 4;
/// How often interfaces are looked at for the multicast group.
const REJOIN_INTERVAL: Duration = Duration::from_secs(60);
/// How often, and how long apart, an address that is taken is tried again.
const TAKEN_TRIES: u32 = 15;
const TAKEN_PAUSE: Duration = Duration::from_millis(100);
/// How long stopping may take for each part.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Why the CMA does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Settings(#[from] SettingError),
    #[error(transparent)]
    Account(#[from] account::AccountError),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Keyring(#[from] ReloadError),
    #[error("the API socket: {0}")]
    Socket(io::Error),
    #[error("the web port {address}: {error}; choose another with --web, or none with `--web none`")]
    Web { address: SocketAddr, error: io::Error },
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("the thread that writes the database broke off; its reason is in the log")]
    WriterLost,
}

/// Runs the CMA until it is told to stop.
pub fn run(arguments: &Arguments) -> Result<(), StartError> {
    let site = arguments.site();
    let mut settings = arguments.settings(read_config(&site)?)?;
    let level = logging::start(settings.debug, "cma");
    // Before anything has a thread: root is given up per thread.
    account::settle(&settings)?;
    let _pidfile = PidFile::create(&settings.pidfile, "cma")?;
    // Without a key nothing happens to the database either.
    KeyDirectory::open(site.crypto())?.cma_pair()?;
    if arguments.erasedb {
        SqliteStore::erase(&settings.database)?;
        tracing::warn!(database = %settings.database.display(), "the database was erased, as --erasedb asks");
    }
    let mut store = SqliteStore::open(&settings.database)?;
    let mut refused = None;
    let mut health = Arc::new(Health::default());
    let mut signals = None;
    loop {
        let life = Life {
            arguments: arguments.clone(),
            settings: settings.clone(),
            refused,
            level: level.clone(),
            health: health.clone(),
        };
        let in_effect = match once(life, store, &mut signals)? {
            Ended::Stopped => return Ok(()),
            Ended::Restore(in_effect) => in_effect,
        };
        // A new life with another database: what was wrong with the one before is over.
        health = Arc::new(Health::default());
        store = restore::take_over(&settings.database, &health)?;
        (settings, refused) = reload::at_restore(arguments, &settings, *in_effect, &level, &health);
    }
}

/// What one life of the CMA begins with, besides a database and what lies in its directories.
struct Life {
    arguments: Arguments,
    settings: Settings,
    /// Why the settings file is not what `settings` says.
    refused: Option<String>,
    level: logging::LogLevel,
    health: Arc<Health>,
}

/// Why the CMA no longer serves.
#[derive(Debug)]
enum Ended {
    Stopped,
    /// To go on with the database that lies staged; with the settings that counted until now.
    Restore(Box<CmaConfig>),
}

/// Serves with one database until told to stop, or to take another one. Nothing of the database is open afterwards. `signals`
/// are made by the first life and outlive it: who tells the CMA to stop between two lives is heard by the second.
fn once(life: Life, store: SqliteStore, signals: &mut Option<Signals>) -> Result<Ended, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build()
        .map_err(|error| StartError::Io { what: "the event loop cannot start", error })?;
    let signals = match signals {
        Some(signals) => signals,
        none => {
            let _inside = runtime.enter();
            let made = Signals::new(life.level.clone());
            none.insert(made.map_err(|error| StartError::Io { what: "signals", error })?)
        }
    };
    let result = runtime.block_on(serve(life, store, signals));
    // What is still running holds the way to the writer; without it the writer ends.
    runtime.shutdown_timeout(STOP_PATIENCE);
    let (writer, ended) = result?;
    if writer.join().is_err() { Err(StartError::WriterLost) } else { Ok(ended) }
}

fn read_config(site: &SitePaths) -> Result<CmaConfig, SettingError> {
    Ok(daemon::settings::read(&site.cma_config())?)
}

async fn serve(
    Life { arguments, settings, refused, level, health }: Life,
    mut store: SqliteStore,
    signals: &mut Signals,
) -> Result<(JoinHandle<()>, Ended), StartError> {
    let site = settings.site.clone();
    let keys = KeyDirectory::open(site.crypto())?;
    // In each life again: the key may have changed since the one before.
    let (_, own) = keys.cma_pair()?;
    let started = Timestamp::now();
    let replaced = restore::tell(&store, &health)?;
    let committed = groups::committed(store.reader()?.as_mut())?;
    let known = Knowledge::load(settings.config.clone(), &site).with_membership(committed);
    let knowledge = SharedKnowledge::new(known);
    for problem in knowledge.get().problems() {
        tracing::warn!("{problem}");
    }
    let evaluated = reevaluate::last_evaluated(store.begin()?.as_mut())?;
    let readers = Arc::new(Readers::open(&store, READERS)?);
    let mut reader = store.reader()?;
    let known = reader.hosts()?;
    let last_event = newest_event(reader.as_mut())?;
    let members = reader.members()?;
    let host_keys = reader.all_host_keys()?;
    drop(reader);
    let given = calls::given(store.begin()?.as_mut(), &known)?;
    let restored = Restored::read(store.begin()?.as_mut(), &known, members, &knowledge.get())?;
    let state = site.state().join("cma");
    let secret = wire::heartbeat::kept_secret(&state.join("keys"))?;
    let (stop, stopping) = watch::channel(false);
    let (event_sender, event_receiver) = watch::channel(last_event);
    let (outbox, rows) = mpsc::unbounded_channel();
    let (changes, change_receiver) = mpsc::unbounded_channel();
    let (look_at, looks_asked) = mpsc::unbounded_channel();
    let addresses = Arc::new(Notify::new());
    let facts = Arc::new(Notify::new());
    let (queue, requests) = mpsc::channel(QUEUE_REQUESTS);
    let writer = Writer::new(queue);
    let hosts = Arc::new(Hosts::with_given(given));
    let metrics = Metrics::default();
    let keys_shown = Arc::new(OnceLock::new());
    // First of all that listens and last to end: it says that the CMA is not ready yet, and that it stops.
    let web = web_listener(&settings, &health).await?;
    let web_address = web.as_ref().and_then(|listener| listener.local_addr().ok());
    let (web_stop, mut web_stopping) = watch::channel(false);
    if let Some(listener) = web {
        let sources = Sources {
            readers: readers.clone(),
            hosts: hosts.clone(),
            health: health.clone(),
            writer: writer.clone(),
            metrics: metrics.clone(),
            knowledge: knowledge.clone(),
            crypto: site.crypto(),
            keys: keys_shown.clone(),
            started,
            restored: replaced,
        };
        let web = Web {
            writer: writer.clone(),
            health: health.clone(),
            gauges: Gauges::new(sources),
            database: settings.database.clone(),
        };
        let stopped = async move { drop(web_stopping.wait_for(|stop| *stop).await) };
        tokio::spawn(web::serve(listener, web, stopped));
    }

    let mut endpoint = EndpointConfig::cma(own);
    endpoint.bind = settings.bind;
    endpoint.state_directory = Some(state);
    if settings.bind.ip().is_loopback() {
        // Multicast has no business on loopback, and joining would reach for the real interfaces.
        endpoint.join = None;
    }
    let taken = |error: &EndpointError| matches!(error, EndpointError::Bind(BindError::Taken { .. }));
    let (endpoint, incoming) = patiently(|| Endpoint::bind(endpoint.clone()), taken).await?;
    let bind = endpoint.local_address().map_err(|error| StartError::Io { what: "the own address", error })?;
    let taken = |error: &io::Error| error.kind() == ErrorKind::AddrInUse;
    let listen = || local_socket::bind(&site.cma_socket(), SOCKET_MODE);
    let socket = patiently(listen, taken).await.map_err(StartError::Socket)?;
    socket.set_nonblocking(true).map_err(StartError::Socket)?;
    let socket = UnixListener::from_std(socket).map_err(StartError::Socket)?;
    let ring_files = KeyDirectory::open(site.crypto())?;
    let keyring = Keyring::new(ring_files, endpoint.clone(), hosts.clone(), health.clone(), host_keys)?;
    let _ = keys_shown.set(keyring.clone());
    let key_files = KeyFiles::new(keys, health.clone());
    key_files.complete(&known);
    let committer = Committer {
        store: Box::new(store),
        knowledge: knowledge.clone(),
        health: health.clone(),
        metrics,
        outlets: Outlets {
            outbox,
            newest_event: event_sender,
            changes,
            look_at,
            addresses: addresses.clone(),
            facts: facts.clone(),
            key_files: Box::new(move |produced| key_files.follow(produced)),
        },
        pinned: known
            .iter()
            .map(|host| (host.key, host.designation.clone()))
            .collect::<HashMap<PublicKey, Designation>>(),
        started,
    };
    let thread = std::thread::Builder::new()
        .name("writer".into())
        .spawn(move || committer.run(requests))
        .map_err(|error| StartError::Io { what: "the thread that writes", error })?;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (reload_sender, reload_requests) = mpsc::channel::<Reload>(4);
    let on_signal = reload_sender.clone();
    let (restore_sender, mut restores) = mpsc::channel::<()>(1);

    let parts = liveness::Parts {
        endpoint: endpoint.clone(),
        writer: writer.clone(),
        hosts: hosts.clone(),
        health: health.clone(),
        knowledge: knowledge.clone(),
        changes: change_receiver,
        secret: *secret,
        stop: stopping.clone(),
    };
    let (heartbeats, handle) = liveness::new(parts, restored);
    tokio::spawn(heartbeats.run());
    let reception = Reception::new(
        writer.clone(),
        hosts.clone(),
        health.clone(),
        handle,
        keyring.clone(),
        stopping.clone(),
    );
    tokio::spawn(inbox::run(reception, endpoint.clone(), incoming));
    tokio::spawn(keyring.clone().run(writer.clone(), readers.clone(), knowledge.clone(), stopping.clone()));
    let api = api::router(Arc::new(Site {
        writer: writer.clone(),
        readers: readers.clone(),
        knowledge: knowledge.clone(),
        hosts: hosts.clone(),
        health: health.clone(),
        keys: keyring.clone(),
        paths: site.clone(),
        hostname: hostname.clone(),
        bind,
        web: web_address,
        database: settings.database.clone(),
        started,
        newest_event: event_receiver,
        reload: reload_sender,
        restore: restore_sender,
        restored: replaced,
        stop: stopping.clone(),
    }));
    tokio::spawn(serve_api(socket, api, stopping.clone()));
    let own_vendors = settings.config.oui.clone();
    let problems = health.clone();
    tokio::task::spawn_blocking(move || vendors::tell_store(&own_vendors, &problems));
    tokio::spawn(reverse_dns::run(reverse_dns::Parts {
        writer: writer.clone(),
        readers: readers.clone(),
        knowledge: knowledge.clone(),
        by_default: site.root() == Path::new("/"),
        news: addresses,
        stop: stopping.clone(),
        resolver: reverse_dns::ask_system,
    }));
    tokio::spawn(looks::run(writer.clone(), looks_asked, stopping.clone()));
    tokio::spawn(reevaluate::run(
        writer.clone(),
        readers.clone(),
        knowledge.clone(),
        stopping.clone(),
        evaluated,
    ));
    let keeper = groups::Keeper {
        writer: writer.clone(),
        readers: readers.clone(),
        knowledge: knowledge.clone(),
        hosts: hosts.clone(),
        health: health.clone(),
        news: facts,
        stop: stopping.clone(),
    };
    tokio::spawn(keeper.run());
    let service = Service::new(hosts.clone(), health.clone(), known.len());
    let reloader = reload::Reloader {
        service: service.clone(),
        arguments,
        refused,
        started_with: settings.clone(),
        level,
        writer: writer.clone(),
        readers: readers.clone(),
        knowledge: knowledge.clone(),
        hosts: hosts.clone(),
        health: health.clone(),
    };
    tokio::spawn(reloader.run(reload_requests, stopping.clone()));
    let caller = calls::Caller {
        endpoint: endpoint.clone(),
        readers: readers.clone(),
        hosts: hosts.clone(),
        knowledge: knowledge.clone(),
        stop: stopping.clone(),
    };
    tokio::spawn(caller.run());
    let delivery = Delivery {
        rows,
        writer: writer.clone(),
        readers: readers.clone(),
        knowledge: knowledge.clone(),
        health: health.clone(),
        site: site.clone(),
        hostname,
        stop: stopping.clone(),
    };
    let delivering = tokio::spawn(delivery.run());
    let ready = write_ready_file(&site.run().join("cma.json"), bind, started)
        .map_err(|error| StartError::Io { what: "the file run/cma.json", error })?;
    health.set_phase(Phase::Ready);
    tracing::info!(%bind, database = %settings.database.display(), hosts = known.len(), "the CMA is ready");
    service.ready();
    tokio::spawn(service.clone().run(writer, readers, stopping));

    let mut alive = tokio::time::interval(Duration::from_secs(1));
    let mut rejoin = tokio::time::interval(REJOIN_INTERVAL);
    let mut lost = false;
    let mut ended = Ended::Stopped;
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Terminate => break,
                // Nobody waits for the answer; where others wait already, they will read what this one would.
                Signal::Hangup => {
                    drop(on_signal.try_send(oneshot::channel().0));
                    if let Err(error) = keyring.reload() {
                        tracing::error!(%error, "the keys were not read again; the old ones stay");
                    }
                }
            },
            Some(()) = restores.recv() => {
                ended = Ended::Restore(Box::new(knowledge.get().config.clone()));
                break;
            }
            // Interfaces that appeared since are not members of the multicast group yet.
            _ = rejoin.tick() => drop(endpoint.join_multicast()),
            _ = alive.tick() => if thread.is_finished() {
                lost = true;
                break;
            },
        }
    }
    health.set_phase(Phase::Stopping);
    match ended {
        Ended::Restore(_) => {
            tracing::info!("the CMA closes its database and goes on with another");
            daemon::service::status("goes on with a restored database");
        }
        Ended::Stopped => {
            tracing::info!("the CMA stops");
            daemon::service::stopping();
        }
    }
    let _ = fs::remove_file(&ready);
    let _ = fs::remove_file(site.cma_socket());
    stop.send_replace(true);
    endpoint.close(CloseReason::Shutdown, STOP_PATIENCE).await;
    // Scripts that still run are killed after this; their events are delivered again at the next start.
    let _ = tokio::time::timeout(STOP_PATIENCE, delivering).await;
    web_stop.send_replace(true);
    if lost { Err(StartError::WriterLost) } else { Ok((thread, ended)) }
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

async fn serve_api(socket: UnixListener, router: axum::Router, mut stop: watch::Receiver<bool>) {
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    let listener = Bounded::new(socket, api::MAX_CONNECTIONS);
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "the API socket is no longer served");
    }
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

/// Tells whoever waits that everything listens. Written under another name first, so it is never seen in part.
fn write_ready_file(path: &Path, bind: SocketAddr, started: Timestamp) -> io::Result<PathBuf> {
    let text = json!({"pid": std::process::id(), "bind": bind.to_string(), "started": started}).to_string();
    let temporary = path.with_extension(format!("json.{}", std::process::id()));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&temporary, path)?;
    Ok(path.to_owned())
}

/// Keeps the files of pinned keys in step with the database, which decides.
struct KeyFiles {
    keys: KeyDirectory,
    health: Arc<Health>,
}

impl KeyFiles {
    fn new(keys: KeyDirectory, health: Arc<Health>) -> Self {
        Self { keys, health }
    }

    /// A crash may have come between a commit and its files.
    fn complete(&self, hosts: &[HostRow]) {
        // Listed once: pinning lists the directory each time, which thousands of hosts without files would take minutes for.
        let listed = self.keys.hosts_with_keys();
        for host in hosts {
            let file = KeyId::host(&host.designation, &host.key).public_file();
            if self.keys.path().join(file).exists() {
                continue;
            }
            let is_first = listed.as_ref().is_ok_and(|listed| !listed.contains(&host.designation));
            if !is_first {
                self.pin(&host.designation, &host.key);
            } else if let Err(error) = self.keys.pin_first(&host.designation, &host.key) {
                self.report(&host.designation, &error);
            }
        }
    }

    fn follow(&self, produced: &Produced) {
        for (designation, _) in &produced.unpinned {
            if let Err(error) = self.keys.unpin(designation) {
                self.report(designation, &error);
            }
        }
        for (designation, key) in &produced.pinned {
            self.pin(designation, key);
        }
    }

    fn pin(&self, designation: &Designation, key: &PublicKey) {
        let pinned = match self.keys.pin(designation, key) {
            // The file is from before --erasedb, or from another database.
            Ok(Pinned::Conflict { pinned }) => {
                tracing::warn!(host = %designation, file = %pinned.fingerprint(), database = %key.fingerprint(),
                    "the key file of a host holds another key than the database; the file is replaced");
                self.keys.unpin(designation).and_then(|_| self.keys.pin(designation, key))
            }
            result => result,
        };
        if let Err(error) = pinned {
            self.report(designation, &error);
        }
    }

    fn report(&self, designation: &Designation, error: &KeyError) {
        tracing::warn!(host = %designation, %error, "the key file of a host cannot be written; the database still knows the key");
        self.health.set("key files", Some(format!("key files cannot be written: {error}")));
    }
}

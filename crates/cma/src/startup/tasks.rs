//! What the CMA does all the time: the thread that writes, and a task for each of its duties.

use super::StartError;
use super::key_files::KeyFiles;
use super::listeners::serve_api;
use crate::api::{self, Reload, Site};
use crate::commit::{Committer, Outlets, Request, Writer};
use crate::health::Health;
use crate::hosts::Hosts;
use crate::inbox::{self, Reception};
use crate::ingest::Change;
use crate::keys::Keyring;
use crate::knowledge::SharedKnowledge;
use crate::liveness::{self, Restored};
use crate::metrics::Metrics;
use crate::notify::run::Delivery;
use crate::readers::Readers;
use crate::service::Service;
use crate::settings::{Arguments, Settings};
use crate::{calls, groups, looks, reevaluate, reload, reverse_dns, vendors};
use daemon::logging::LogLevel;
use model::Timestamp;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use store::sqlite::SqliteStore;
use store::{HostRow, OutboxRow};
use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use wire::endpoint::{Endpoint, Inbox};

/// What all parts of a life of the CMA have.
#[derive(Clone)]
pub struct Shared {
    pub settings: Settings,
    pub started: Timestamp,
    /// When the database was put in the place of another one.
    pub replaced: Option<Timestamp>,
    pub knowledge: SharedKnowledge,
    pub readers: Arc<Readers>,
    pub hosts: Arc<Hosts>,
    pub health: Arc<Health>,
    pub writer: Writer,
    /// Becomes true when the CMA stops.
    pub stop: watch::Receiver<bool>,
}

/// The other ends of [`Outlets`].
pub struct Inlets {
    rows: mpsc::UnboundedReceiver<OutboxRow>,
    newest_event: watch::Receiver<i64>,
    changes: mpsc::UnboundedReceiver<Change>,
    looks_asked: mpsc::UnboundedReceiver<Timestamp>,
    addresses: Arc<Notify>,
    facts: Arc<Notify>,
}

/// The ways from the thread that writes to everybody else. `newest_event`: the sequence of the newest one.
pub fn outlets(newest_event: i64, key_files: KeyFiles) -> (Outlets, Inlets) {
    let (event_sender, newest_event) = watch::channel(newest_event);
    let (outbox, rows) = mpsc::unbounded_channel();
    let (change_sender, changes) = mpsc::unbounded_channel();
    let (look_at, looks_asked) = mpsc::unbounded_channel();
    let (addresses, facts) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let outlets = Outlets {
        outbox,
        newest_event: event_sender,
        changes: change_sender,
        look_at,
        addresses: addresses.clone(),
        facts: facts.clone(),
        key_files: Box::new(move |produced| key_files.follow(produced)),
    };
    (outlets, Inlets { rows, newest_event, changes, looks_asked, addresses, facts })
}

/// Starts the thread that writes; it ends when nobody can ask it any more.
///
/// # Errors
/// The system has no thread to give.
pub fn start_writer(
    shared: &Shared,
    store: SqliteStore,
    hosts: &[HostRow],
    metrics: Metrics,
    outlets: Outlets,
    requests: mpsc::Receiver<Request>,
) -> Result<thread::JoinHandle<()>, StartError> {
    let committer = Committer {
        store: Box::new(store),
        knowledge: shared.knowledge.clone(),
        health: shared.health.clone(),
        metrics,
        outlets,
        pinned: hosts.iter().map(|host| (host.key, host.designation.clone())).collect(),
        started: shared.started,
    };
    thread::Builder::new()
        .name("writer".into())
        .spawn(move || committer.run(requests))
        .map_err(|error| StartError::Io { what: "the thread that writes", error })
}

/// What the tasks begin with.
pub struct Beginning {
    pub arguments: Arguments,
    /// Why the settings file was refused, if so.
    pub refused: Option<String>,
    pub level: LogLevel,
    pub liveness: Restored,
    /// Pair keys of the heartbeats are derived from it.
    pub secret: [u8; 32],
    /// What the rules were evaluated with last.
    pub evaluated: Option<String>,
    /// Hosts in the database.
    pub host_count: usize,
}

/// What they listen on.
pub struct Opened {
    pub endpoint: Endpoint,
    pub incoming: Inbox,
    pub bind: SocketAddr,
    pub web: Option<SocketAddr>,
    pub api: UnixListener,
    pub keyring: Arc<Keyring>,
}

/// What is left for whoever waits for the end.
pub struct Running {
    /// Ends after the scripts that run.
    pub delivering: JoinHandle<()>,
    pub service: Service,
    /// Has settings and rules read again.
    pub reload: mpsc::Sender<Reload>,
    /// Says that the staged database is to be taken over.
    pub restores: mpsc::Receiver<()>,
}

/// Starts all of them; they end when [`Shared::stop`] says so.
pub fn start(shared: &Shared, beginning: Beginning, opened: Opened, inlets: Inlets) -> Running {
    let Beginning { arguments, refused, level, liveness, secret, evaluated, host_count } = beginning;
    let Opened { endpoint, incoming, bind, web, api, keyring } = opened;
    let Inlets { rows, newest_event, changes, looks_asked, addresses, facts } = inlets;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (reload, reload_requests) = mpsc::channel::<Reload>(4);
    let (restore, restores) = mpsc::channel::<()>(1);

    talk_to_hosts(shared, &endpoint, incoming, &keyring, liveness, changes, secret);
    let site = Site {
        writer: shared.writer.clone(),
        readers: shared.readers.clone(),
        knowledge: shared.knowledge.clone(),
        hosts: shared.hosts.clone(),
        health: shared.health.clone(),
        keys: keyring,
        paths: shared.settings.site.clone(),
        hostname: hostname.clone(),
        bind,
        web,
        database: shared.settings.database.clone(),
        started: shared.started,
        newest_event,
        reload: reload.clone(),
        restore,
        restored: shared.replaced,
        stop: shared.stop.clone(),
    };
    tokio::spawn(serve_api(api, api::router(Arc::new(site)), shared.stop.clone()));
    find_names(shared, addresses);
    tokio::spawn(looks::run(shared.writer.clone(), looks_asked, shared.stop.clone()));
    tokio::spawn(reevaluate::run(
        shared.writer.clone(),
        shared.readers.clone(),
        shared.knowledge.clone(),
        shared.stop.clone(),
        evaluated,
    ));
    keep_groups(shared, facts);
    let service = Service::new(shared.hosts.clone(), shared.health.clone(), host_count);
    let reloader = reload::Reloader {
        service: service.clone(),
        arguments,
        refused,
        started_with: shared.settings.clone(),
        level,
        writer: shared.writer.clone(),
        readers: shared.readers.clone(),
        knowledge: shared.knowledge.clone(),
        hosts: shared.hosts.clone(),
        health: shared.health.clone(),
    };
    tokio::spawn(reloader.run(reload_requests, shared.stop.clone()));
    call_hosts(shared, endpoint);
    let delivering = deliver(shared, rows, hostname);
    Running { delivering, service, reload, restores }
}

/// Takes what hosts say, watches who is alive, and tells hosts of keys.
fn talk_to_hosts(
    shared: &Shared,
    endpoint: &Endpoint,
    incoming: Inbox,
    keyring: &Arc<Keyring>,
    restored: Restored,
    changes: mpsc::UnboundedReceiver<Change>,
    secret: [u8; 32],
) {
    let parts = liveness::Parts {
        endpoint: endpoint.clone(),
        writer: shared.writer.clone(),
        hosts: shared.hosts.clone(),
        health: shared.health.clone(),
        knowledge: shared.knowledge.clone(),
        changes,
        secret,
        stop: shared.stop.clone(),
    };
    let (heartbeats, handle) = liveness::new(parts, restored);
    tokio::spawn(heartbeats.run());
    let reception = Reception::new(
        shared.writer.clone(),
        shared.hosts.clone(),
        shared.health.clone(),
        handle,
        keyring.clone(),
        shared.stop.clone(),
    );
    tokio::spawn(inbox::run(reception, endpoint.clone(), incoming));
    let (writer, readers) = (shared.writer.clone(), shared.readers.clone());
    tokio::spawn(keyring.clone().run(writer, readers, shared.knowledge.clone(), shared.stop.clone()));
}

/// Names of vendors and of addresses.
fn find_names(shared: &Shared, news: Arc<Notify>) {
    let (own, problems) = (shared.settings.config.oui.clone(), shared.health.clone());
    tokio::task::spawn_blocking(move || vendors::tell_store(&own, &problems));
    tokio::spawn(reverse_dns::run(reverse_dns::Parts {
        writer: shared.writer.clone(),
        readers: shared.readers.clone(),
        knowledge: shared.knowledge.clone(),
        by_default: shared.settings.site.root() == Path::new("/"),
        news,
        stop: shared.stop.clone(),
        resolver: reverse_dns::ask_system,
    }));
}

/// Who is in which group.
fn keep_groups(shared: &Shared, news: Arc<Notify>) {
    let keeper = groups::Keeper {
        writer: shared.writer.clone(),
        readers: shared.readers.clone(),
        knowledge: shared.knowledge.clone(),
        hosts: shared.hosts.clone(),
        health: shared.health.clone(),
        news,
        stop: shared.stop.clone(),
    };
    tokio::spawn(keeper.run());
}

/// Hosts that are not connected and have an old configuration.
fn call_hosts(shared: &Shared, endpoint: Endpoint) {
    let caller = calls::Caller {
        endpoint,
        readers: shared.readers.clone(),
        hosts: shared.hosts.clone(),
        knowledge: shared.knowledge.clone(),
        stop: shared.stop.clone(),
    };
    tokio::spawn(caller.run());
}

/// People are told of events.
fn deliver(shared: &Shared, rows: mpsc::UnboundedReceiver<OutboxRow>, hostname: String) -> JoinHandle<()> {
    let delivery = Delivery {
        rows,
        writer: shared.writer.clone(),
        readers: shared.readers.clone(),
        knowledge: shared.knowledge.clone(),
        health: shared.health.clone(),
        site: shared.settings.site.clone(),
        hostname,
        stop: shared.stop.clone(),
    };
    tokio::spawn(delivery.run())
}

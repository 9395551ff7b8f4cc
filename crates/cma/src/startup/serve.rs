//! One life of the CMA: it comes up, waits for somebody who wants something else, and goes down.

use super::key_files::KeyFiles;
use super::known::Known;
use super::listeners::{self, WebPort};
use super::tasks::{self, Beginning, Opened, Running, Shared};
use super::{Ended, Life, STOP_PATIENCE, StartError};
use crate::commit::{QUEUE_REQUESTS, Writer};
use crate::health::Phase;
use crate::hosts::Hosts;
use crate::keys::Keyring;
use crate::metrics::Metrics;
use crate::readers::Readers;
use daemon::signals::{Signal, Signals};
use model::Timestamp;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use store::sqlite::SqliteStore;
use tokio::sync::{mpsc, oneshot, watch};
use wire::endpoint::{CloseReason, Endpoint};
use wire::keys::KeyDirectory;

/// Read-only connections to the database.
const READERS: usize = 4;
/// How often interfaces are looked at for the multicast group.
const REJOIN_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is looked whether the thread that writes is still there.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Serves with one database until told to stop, or to take another one. Returns the thread that writes, which ends once the
/// event loop is gone.
///
/// # Errors
/// Why the CMA cannot serve, or no longer.
pub async fn serve(
    life: Life,
    mut store: SqliteStore,
    signals: &mut Signals,
) -> Result<(JoinHandle<()>, Ended), StartError> {
    let Life { arguments, settings, refused, level, health } = life;
    let site = settings.site.clone();
    let keys = KeyDirectory::open(site.crypto())?;
    // In each life again: the key may have changed since the one before.
    let (_, own) = keys.cma_pair()?;
    let started = Timestamp::now();
    let (known, knowledge) = Known::read(&mut store, &settings, &health)?;
    let readers = Arc::new(Readers::open(&store, READERS)?);
    let secret = wire::heartbeat::kept_secret(&site.state().join("cma/keys"))?;
    let (stop, stopping) = watch::channel(false);
    let (queue, requests) = mpsc::channel(QUEUE_REQUESTS);
    let shared = Shared {
        settings,
        started,
        replaced: known.replaced,
        knowledge,
        readers,
        hosts: Arc::new(Hosts::with_given(known.given)),
        health,
        writer: Writer::new(queue),
        stop: stopping,
    };

    let metrics = Metrics::default();
    // First of all that listens and last to end: it says that the CMA is not ready yet, and that it stops.
    let web = WebPort::open(&shared, &metrics).await?;
    let (endpoint, incoming) = listeners::endpoint(&shared.settings, own).await?;
    let bind = endpoint.local_address().map_err(|error| StartError::Io { what: "the own address", error })?;
    let api = listeners::api_socket(&site.cma_socket()).await?;
    let ring_files = KeyDirectory::open(site.crypto())?;
    let (hosts, health) = (shared.hosts.clone(), shared.health.clone());
    let keyring = Keyring::new(ring_files, endpoint.clone(), hosts, health, known.host_keys)?;
    let _ = web.keys.set(keyring.clone());
    let key_files = KeyFiles::new(keys, shared.health.clone());
    key_files.complete(&known.hosts);

    let (outlets, inlets) = tasks::outlets(known.newest_event, key_files);
    let thread = tasks::start_writer(&shared, store, &known.hosts, metrics, outlets, requests)?;
    let host_count = known.hosts.len();
    let beginning = Beginning {
        arguments,
        refused,
        level,
        liveness: known.liveness,
        secret: *secret,
        evaluated: known.evaluated,
        host_count,
    };
    let opened = Opened {
        endpoint: endpoint.clone(),
        incoming,
        bind,
        web: web.address,
        api,
        keyring: keyring.clone(),
    };
    let mut running = tasks::start(&shared, beginning, opened, inlets);
    let ready = listeners::write_ready_file(&site.run().join("cma.json"), bind, started)
        .map_err(|error| StartError::Io { what: "the file run/cma.json", error })?;
    shared.health.set_phase(Phase::Ready);
    let database = shared.settings.database.display();
    tracing::info!(%bind, %database, hosts = host_count, "the CMA is ready");
    running.service.ready();
    let (writer, readers) = (shared.writer.clone(), shared.readers.clone());
    tokio::spawn(running.service.clone().run(writer, readers, shared.stop.clone()));

    let ended = wait(&shared, &mut running, &endpoint, &keyring, &thread, signals).await;
    let files = [ready, site.cma_socket()];
    stop_all(&shared, ended.as_ref().ok(), files, &stop, &endpoint, running).await;
    web.stop();
    Ok((thread, ended?))
}

/// Until somebody wants something else, or the thread that writes is gone.
async fn wait(
    shared: &Shared,
    running: &mut Running,
    endpoint: &Endpoint,
    keyring: &Keyring,
    thread: &JoinHandle<()>,
    signals: &mut Signals,
) -> Result<Ended, StartError> {
    let mut alive = tokio::time::interval(ALIVE_INTERVAL);
    let mut rejoin = tokio::time::interval(REJOIN_INTERVAL);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Terminate => return Ok(Ended::Stopped),
                // Nobody waits for the answer; where others wait already, they will read what this one would.
                Signal::Hangup => {
                    drop(running.reload.try_send(oneshot::channel().0));
                    if let Err(error) = keyring.reload() {
                        tracing::error!(%error, "the keys were not read again; the old ones stay");
                    }
                }
            },
            Some(()) = running.restores.recv() => {
                let in_effect = shared.knowledge.get().config.clone();
                return Ok(Ended::Restore(Box::new(in_effect)));
            }
            // Interfaces that appeared since are not members of the multicast group yet.
            _ = rejoin.tick() => drop(endpoint.join_multicast()),
            _ = alive.tick() => if thread.is_finished() {
                return Err(StartError::WriterLost);
            },
        }
    }
}

/// Goes down in good order. `files` tell others that the CMA is there; `ended` is `None` when it has no choice.
async fn stop_all(
    shared: &Shared,
    ended: Option<&Ended>,
    files: [PathBuf; 2],
    stop: &watch::Sender<bool>,
    endpoint: &Endpoint,
    running: Running,
) {
    shared.health.set_phase(Phase::Stopping);
    if let Some(Ended::Restore(_)) = ended {
        tracing::info!("the CMA closes its database and goes on with another");
        daemon::service::status("goes on with a restored database");
    } else {
        tracing::info!("the CMA stops");
        daemon::service::stopping();
    }
    for file in files {
        let _ = fs::remove_file(file);
    }
    stop.send_replace(true);
    endpoint.close(CloseReason::Shutdown, STOP_PATIENCE).await;
    // Scripts that still run are killed after this; their events are delivered again at the next start.
    let _ = tokio::time::timeout(STOP_PATIENCE, running.delivering).await;
}

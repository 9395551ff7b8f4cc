//! Bringing the CMA up in the right order, and down again.
//!
//! The CMA has one life for each database that it serves: here is how they follow each other, in `serve` is one of them.

mod between;
mod key_files;
mod known;
mod listeners;
mod serve;
mod tasks;

use crate::health::Health;
use crate::keys::ReloadError;
use crate::settings::{Arguments, SettingError, Settings};
use crate::{account, reload, restore};
use daemon::logging;
use daemon::pidfile::{PidFile, PidFileError};
use daemon::signals::Signals;
use model::config::CmaConfig;
use model::paths::SitePaths;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store::StoreError;
use store::sqlite::{SqliteStore, Stop};
use wire::endpoint::EndpointError;
use wire::keys::{KeyDirectory, KeyError};

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
        let (database, health_of_it) = (settings.database.clone(), health.clone());
        let exchange = move |stop: &Stop| restore::take_over(&database, &health_of_it, stop);
        let failed = |error| StartError::Io { what: "exchanging the database", error };
        // Each life that has ended has made or used them.
        let signals = signals.as_mut().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        store = match between::heard(signals, exchange).map_err(failed)? {
            (Ok(_) | Err(StoreError::Stopped { .. }), true) => {
                tracing::info!("stopped; the next start goes on from here");
                return Ok(());
            }
            (taken, _) => taken?,
        };
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
    let result = runtime.block_on(serve::serve(life, store, signals));
    // What is still running holds the way to the writer; without it the writer ends.
    runtime.shutdown_timeout(STOP_PATIENCE);
    let (writer, ended) = result?;
    if writer.join().is_err() { Err(StartError::WriterLost) } else { Ok(ended) }
}

fn read_config(site: &SitePaths) -> Result<CmaConfig, SettingError> {
    Ok(daemon::settings::read(&site.cma_config())?)
}

//! From the command line to a running agent, and the questions that need none (`--status`, `--kill`).

use super::enrolment::Enrolment;
use super::network::{Network, NetworkSettings, Told};
use super::{Agent, Parts, privileges, reload};
use crate::cli::Cli;
use crate::network::protocol::{News, Seed};
use crate::queue::Queue;
use crate::settings::SettingsError;
use daemon::pidfile::{self, PidFile, PidFileError};
use daemon::signals::Signals;
use model::config::ConfigError;
use model::paths::SitePaths;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::keys::{KeyDirectory, KeyError};

/// Name of the program, as pid files and logs know it.
pub const PROGRAM: &str = "nanoprobe";

/// How long the network process may take to open its port.
const PORT_PATIENCE: Duration = Duration::from_secs(20);

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(
        "there is no CMA key in {directory}, and without one nobody could tell a CMA from an impostor; copy the CMA's \
         public keys: scp 'CMA-HOST:/usr/share/assimilation/crypto.d/#CMA#*.pub' {directory}/"
    )]
    NoCmaKey { directory: String },
    #[error("{0}")]
    Keys(KeyError),
    #[error("{0}")]
    Network(String),
    #[error("privileges cannot be given up: {0}")]
    Privileges(io::Error),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error(
        "another nanoprobe works with {directory}: stop it first (`nanoprobe --kill`), or give this one a --root of its own"
    )]
    InUse { directory: String },
    #[error("the event loop cannot be started: {0}")]
    Runtime(#[from] io::Error),
}

/// Holds the state directory as long as the result lives: two nanoprobes on one queue would send each other's changes.
///
/// `None` where the directory cannot be made; the queue then says so and keeps changes in memory.
fn lock(state: &Path) -> Result<Option<OwnedFd>, StartError> {
    // As the queue makes it; what goes wrong here shows when it is opened.
    let _ = state.parent().map(std::fs::create_dir_all);
    let _ = std::fs::DirBuilder::new().mode(0o700).create(state);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = open(state, flags, Mode::empty()) else { return Ok(None) };
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(StartError::InUse { directory: state.display().to_string() }),
        // A file system without locks (some network ones) is no reason not to watch the host.
        _ => Ok(Some(directory)),
    }
}

/// The pid file that these arguments mean.
pub fn pid_path(cli: &Cli) -> PathBuf {
    cli.agent.pidfile.clone().unwrap_or_else(|| SitePaths::new(&cli.root).nanoprobe_pidfile())
}

/// `--status`: a sentence for people and the exit code.
pub fn status(cli: &Cli) -> (String, u8) {
    let path = pid_path(cli);
    let status = pidfile::status(&path, PROGRAM);
    let text = match status {
        pidfile::Status::Running => "nanoprobe is running",
        pidfile::Status::DeadWithPidFile => "nanoprobe is dead, but its pid file is there",
        pidfile::Status::NotRunning => "nanoprobe is not running",
        pidfile::Status::Unknown => "the pid file cannot be read",
    };
    (format!("{text} ({})", path.display()), status as u8)
}

/// `--kill`: waits until the process is gone.
pub fn kill(cli: &Cli) -> Result<(), PidFileError> {
    pidfile::kill(&pid_path(cli), PROGRAM, Duration::from_secs(20))
}

/// `--key`: the fingerprint of this host's key, which is made if there is none yet: what `assimcli hosts pending` shows.
///
/// # Errors
/// What keeps the agent from starting, too.
pub fn key(cli: &Cli) -> Result<String, StartError> {
    let site = SitePaths::new(&cli.root);
    let settings = reload::read(&cli.agent, &site)?;
    let keys = KeyDirectory::open(site.crypto()).map_err(StartError::Keys)?;
    let (_, own) = keys.own_pair(&settings.designation).map_err(StartError::Keys)?;
    Ok(own.public().fingerprint())
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// What keeps it from starting; everything later is logged and tried again.
pub fn run(cli: &Cli) -> Result<(), StartError> {
    let site = SitePaths::new(&cli.root);
    let settings = reload::read(&cli.agent, &site)?;
    let level = daemon::logging::start(settings.debug_level, PROGRAM);
    let pid_file = PidFile::create(&pid_path(cli), PROGRAM)?;
    let _lock = lock(&site.nanoprobe_state())?;

    let no_key = || StartError::NoCmaKey { directory: site.crypto().display().to_string() };
    let keys = match KeyDirectory::open(site.crypto()) {
        Ok(keys) => keys,
        Err(KeyError::NoDirectory { .. }) => return Err(no_key()),
        Err(error) => return Err(StartError::Keys(error)),
    };
    let trust = match super::keys::open(&site) {
        Ok(trust) => trust,
        Err(KeyError::NoCmaKey { .. }) => return Err(no_key()),
        Err(error) => return Err(StartError::Keys(error)),
    };
    let (key_id, own) = keys.own_pair(&settings.designation).map_err(StartError::Keys)?;

    let mut needed = privileges::NEEDED;
    if settings.bind.is_some_and(|bind| (1..1024).contains(&bind.port())) {
        needed |= CapabilitySet::NET_BIND_SERVICE;
    }
    if cli.host_root != Path::new("/") {
        // Programs that read another tree change into it.
        needed |= CapabilitySet::SYS_CHROOT;
    }
    privileges::keep_only(needed).map_err(StartError::Privileges)?;

    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    runtime.block_on(async {
        // Before anything is started that a signal should not kill.
        let signals = Signals::new(level.clone())?;
        let network = NetworkSettings {
            seed: Seed(*own.seed()),
            pinned: trust.succession().publics(),
            bind: settings.local_addresses(&site.crypto()),
            multicast_ttl: settings.multicast_ttl,
            keepalive: settings.keepalive,
        };
        let key = own.public();
        drop(own);
        let (network, address) = open_port(network, settings.debug_level).await?;
        let (queue, notes) = Queue::open(&site.nanoprobe_state(), settings.queue_bytes);
        for note in notes {
            tracing::warn!(note, "the outgoing queue was damaged");
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            designation = %settings.designation,
            key = %key_id,
            address,
            "nanoprobe started"
        );
        let host_root = cli.host_root.clone();
        let reload = {
            let (flags, site) = (cli.agent.clone(), site.clone());
            Box::new(move || reload::read(&flags, &site).map_err(|error| error.to_string()))
        };
        let token_file = settings.token_file.clone().unwrap_or_else(|| site.token_file());
        let enrolment = Enrolment::read(token_file, &host_root);
        let parts = Parts {
            settings,
            site,
            host_root,
            key,
            trust,
            network,
            queue,
            signals,
            level,
            reload,
            enrolment,
        };
        Agent::new(parts).run().await;
        Ok::<(), StartError>(())
    })?;
    // A resolver or a hanging discovery must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    drop(pid_file);
    Ok(())
}

/// Starts the network process and waits until its port is open; returns where.
async fn open_port(settings: NetworkSettings, debug_level: u8) -> Result<(Network, String), StartError> {
    let mut network = Network::start(settings, debug_level)?;
    let first = tokio::time::timeout(PORT_PATIENCE, network.next()).await;
    match first {
        Ok(Told::News(news @ News::Ready { .. })) => {
            network.note(&news);
            let address = network.address().map_or_else(String::new, |address| address.to_string());
            Ok((network, address))
        }
        Ok(Told::News(News::Failed { error })) => Err(StartError::Network(error)),
        Ok(Told::News(_)) => {
            Err(StartError::Network("the network process says something else than it should".into()))
        }
        Ok(Told::Gone(why)) => Err(StartError::Network(format!("the network process does not start: {why}"))),
        Err(_) => {
            Err(StartError::Network("the network process does not say whether its port is open".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_state_directory_has_one_nanoprobe() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("nanoprobe");
        let first = lock(&state).unwrap();
        assert!(first.is_some());
        let mode = std::fs::metadata(&state).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "documents may be confidential");
        assert!(matches!(lock(&state), Err(StartError::InUse { .. })));
        drop(first);
        assert!(lock(&state).unwrap().is_some());
    }

    #[test]
    fn a_state_directory_that_cannot_be_made_is_left_to_the_queue() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(lock(&folder.path().join("file/nanoprobe")).unwrap().is_none());
    }
}

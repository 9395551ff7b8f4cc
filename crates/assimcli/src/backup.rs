//! Backups of a CMA: one file that anybody opens with `tar --zstd`, and the way back.
//!
//! `parts` decides what belongs into one, `archive` writes and reads the file, `place` puts what it holds into its places.
//! The database is copied from its file, not by way of the CMA: that works whether one runs or not and holds nobody up.

pub mod archive;
pub mod parts;
pub mod place;
mod retired;

use crate::client;
use crate::{Context, Failure};
use daemon::pidfile;
use model::config::CmaConfig;
use rustix::process::geteuid;
use serde_json::Value;
use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Progress of anything that takes longer is shown.
const SHOW_AFTER: Duration = Duration::from_secs(2);
/// Beginning of the names of temporary directories, and when one was left behind.
const SCRATCH: &str = ".assimcli-";
const FORGOTTEN_AFTER: Duration = Duration::from_secs(86_400);
/// How often, on a terminal and in a log.
const SHOW_EVERY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// The database to work with, and what the CMA that serves it says of itself, if one runs.
pub struct Target {
    pub database: PathBuf,
    pub status: Option<Value>,
}

/// Finds the database: the running CMA's, else the one that configuration and environment name.
///
/// # Errors
/// A CMA runs and does not answer; the configuration cannot be read, or names a database that is no file.
pub fn target(context: &Context) -> Result<Target, Failure> {
    match client::get_within(context, "/v1/status", Duration::from_secs(10)) {
        Ok(status) => {
            let database = status["database"].as_str().map(PathBuf::from);
            let database =
                database.ok_or_else(|| Failure::new("the CMA does not say where its database is"))?;
            Ok(Target { database, status: Some(status) })
        }
        Err(failure) if is_running(context) => Err(failure),
        Err(_) => Ok(Target { database: configured(context)?, status: None }),
    }
}

fn is_running(context: &Context) -> bool {
    pidfile::status(&context.paths.cma_pidfile(), "cma") == pidfile::Status::Running
}

fn configured(context: &Context) -> Result<PathBuf, Failure> {
    let config: CmaConfig = daemon::settings::read(&context.paths.cma_config())
        .map_err(|error| Failure::new(error.to_string()))?;
    let defaults = ["/etc/default/cma", "/etc/sysconfig/cma"]
        .iter()
        .find_map(|path| variable(&fs::read_to_string(context.paths.at(path)).ok()?, "CMA_STORE"));
    let given = std::env::var("CMA_STORE").ok().filter(|text| !text.is_empty());
    let Some(url) = given.or(defaults).or(config.store) else { return Ok(context.paths.database()) };
    let path = url.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path));
    match path {
        Some(path) if !path.is_empty() && path != ":memory:" => Ok(PathBuf::from(path)),
        _ => Err(Failure::new("the configured store is no database file")
            .hint("Only sqlite:PATH is backed up here; other databases bring tools of their own.")),
    }
}

/// The value of a variable in a file of /etc/default.
fn variable(text: &str, name: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
    values.map(|value| value.trim().trim_matches(['"', '\'']).to_owned()).rfind(|value| !value.is_empty())
}

/// Tells how far something is once it takes longer than a moment.
pub struct Progress {
    what: String,
    begun: Instant,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    pub fn new(what: impl Into<String>) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { what: what.into(), begun: Instant::now(), shown: None, is_terminal }
    }

    /// `done` of `all`, in whatever unit.
    pub fn at(&mut self, done: u64, all: u64) {
        let pause = if self.is_terminal { SHOW_EVERY.0 } else { SHOW_EVERY.1 };
        if self.begun.elapsed() < SHOW_AFTER || self.shown.is_some_and(|shown| shown.elapsed() < pause) {
            return;
        }
        self.shown = Some(Instant::now());
        let (start, end) = if self.is_terminal { ("\r", "  ") } else { ("", "\n") };
        let percent = done.saturating_mul(100) / all.max(1);
        // Nobody is told where there is no standard error.
        let _ = write!(std::io::stderr(), "{start}{}: {percent} %{end}", self.what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() && self.is_terminal {
            let _ = writeln!(std::io::stderr());
        }
    }
}

/// Room for this user on the file system of a directory, in bytes.
pub fn free_bytes(directory: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(directory).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize))
}

/// Refuses to begin what cannot come to an end.
///
/// # Errors
/// The directory has less room than is needed.
pub fn need_room(directory: &Path, bytes: u64) -> Result<(), Failure> {
    match free_bytes(directory) {
        Some(free) if free < bytes => Err(Failure::new(format!(
            "{} MB are needed in {}, and {} MB are free",
            bytes.div_ceil(1_048_576),
            directory.display(),
            free / 1_048_576
        ))
        .hint("Make room there, or set TMPDIR to another place for what is temporary.")),
        _ => Ok(()),
    }
}

/// Where large temporary files go: TMPDIR, else /var/tmp, which unlike /tmp is rarely memory (file-hierarchy(7)).
pub fn temporary_directory() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// A temporary directory for large files that only this user can look into. What interrupted runs of this user left there
/// more than a day ago is removed: it holds copies of databases.
///
/// # Errors
/// It cannot be made there.
pub fn scratch(place: &Path) -> std::io::Result<TempDir> {
    let is_old = |entry: &fs::DirEntry| {
        let ours = entry.file_name().to_string_lossy().starts_with(SCRATCH);
        // Of the entry itself, not of what a link leads to.
        let old = entry.metadata().ok().filter(|found| found.is_dir() && found.uid() == geteuid().as_raw());
        let age = old.and_then(|found| found.modified().ok()?.elapsed().ok());
        ours && age.is_some_and(|age| age > FORGOTTEN_AFTER)
    };
    for entry in fs::read_dir(place).into_iter().flatten().flatten().filter(is_old) {
        let _ = fs::remove_dir_all(entry.path());
    }
    TempDir::with_prefix_in(SCRATCH, place)
}

/// The directory that a file lies in.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::paths::SitePaths;
    use output::Format;

    #[test]
    fn what_interrupted_runs_left_goes_in_time() {
        let place = tempfile::tempdir().unwrap();
        let made = |name: &str, age: Duration| {
            let path = place.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("cma.sqlite"), "copy").unwrap();
            fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::now() - age).unwrap();
            path
        };
        let old = made(".assimcli-old", FORGOTTEN_AFTER * 2);
        let recent = made(".assimcli-recent", FORGOTTEN_AFTER / 2);
        let other = made("other", FORGOTTEN_AFTER * 2);
        let scratch = scratch(place.path()).unwrap();
        let there = [&old, &recent, &other].map(|path| path.exists());
        assert_eq!((there, scratch.path().exists()), ([false, true, true], true));
    }

    #[test]
    fn the_database_is_found_without_a_cma() {
        let root = tempfile::tempdir().unwrap();
        let context = Context { paths: SitePaths::new(root.path()), format: Format::Json };
        assert_eq!(configured(&context).unwrap(), context.paths.database());
        fs::create_dir_all(context.paths.at("/etc/assimilation")).unwrap();
        fs::write(context.paths.cma_config(), "store = \"sqlite:/srv/a.sqlite\"\n").unwrap();
        assert_eq!(configured(&context).unwrap(), Path::new("/srv/a.sqlite"));
        fs::create_dir_all(context.paths.at("/etc/default")).unwrap();
        fs::write(
            context.paths.at("/etc/default/cma"),
            "CMA_STORE=\n#CMA_STORE=x\nCMA_STORE='sqlite:///srv/b'\n",
        )
        .unwrap();
        assert_eq!(configured(&context).unwrap(), Path::new("/srv/b"));
        fs::write(context.paths.at("/etc/default/cma"), "CMA_STORE=postgres://u:secret@h/db\n").unwrap();
        let failure = configured(&context).unwrap_err();
        assert!(!failure.message.contains("secret"), "{}", failure.message);
    }
}

//! Packages of the programs as built: `.deb`, `.rpm` and an archive for all other systems.
//!
//! What goes where is in [`contents`], the formats are in [`deb`], [`rpm`] and [`archive`], which glibc the programs need is
//! in [`glibc`]. The same source and programs give the same bytes: times come from [`Request::epoch_seconds`], the
//! order from the names, owners are root.

pub mod archive;
pub mod contents;
pub mod deb;
pub mod glibc;
pub mod rpm;

use crate::process::capture;
use crate::site::Programs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The two packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Cma,
    Nanoprobe,
}

impl Part {
    pub const ALL: [Part; 2] = [Part::Cma, Part::Nanoprobe];

    /// `assimilation-cma`
    pub fn package(self) -> &'static str {
        match self {
            Part::Cma => "assimilation-cma",
            Part::Nanoprobe => "assimilation-nanoprobe",
        }
    }

    /// The daemon in it.
    pub fn program(self) -> &'static str {
        match self {
            Part::Cma => "cma",
            Part::Nanoprobe => "nanoprobe",
        }
    }

    pub fn summary(self) -> &'static str {
        match self {
            Part::Cma => "monitoring and security: the Collective Management Authority",
            Part::Nanoprobe => "monitoring and security: the agent of each host",
        }
    }

    /// Lines of at most 75 characters.
    pub fn description(self) -> &'static [&'static str] {
        match self {
            Part::Cma => &[
                "Takes what nanoprobes find on their hosts, keeps it as a graph with its",
                "history, judges it by rules for security, notices hosts and services that",
                "die, and raises alerts. assimcli asks it.",
            ],
            Part::Nanoprobe => &[
                "Finds out what a host is, runs and talks to without touching the network,",
                "looks after its services, and tells the CMA what changes.",
            ],
        }
    }
}

/// What to make packages of.
#[derive(Debug, Clone)]
pub struct Request {
    /// The working tree: `packaging/`, rules, documentation.
    pub source: PathBuf,
    pub programs: Programs,
    /// As in Cargo.toml, `0.1.0`.
    pub version: String,
    /// Time of all files, seconds since 1970.
    pub epoch_seconds: u64,
    /// Compress little: for tests, which throw the packages away.
    pub quick: bool,
}

impl Request {
    /// Of these programs, with the version of the working tree and the time of its last commit
    /// (or the environment's SOURCE_DATE_EPOCH).
    pub fn new(programs: Programs) -> Result<Request, String> {
        let source = source();
        Ok(Request {
            epoch_seconds: epoch_seconds(&source)?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            source,
            programs,
            quick: false,
        })
    }

    /// For tests: of the programs beside the running test.
    pub fn quick() -> Result<Request, String> {
        Ok(Request { quick: true, ..Request::new(Programs::built()?)? })
    }

    /// The same as another version: what an upgrade is tried with.
    pub fn with_version(self, version: &str) -> Request {
        Request { version: version.to_owned(), ..self }
    }
}

/// Both `.deb` packages in `out` (made if missing): CMA and nanoprobe.
pub fn debs(request: &Request, out: &Path) -> Result<[PathBuf; 2], String> {
    Ok([deb::build(request, Part::Cma, out)?, deb::build(request, Part::Nanoprobe, out)?])
}

/// Both `.rpm` packages.
pub fn rpms(request: &Request, out: &Path) -> Result<[PathBuf; 2], String> {
    Ok([rpm::build(request, Part::Cma, out)?, rpm::build(request, Part::Nanoprobe, out)?])
}

/// The top of the working tree.
pub fn source() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).map(PathBuf::from).unwrap_or(own)
}

/// Runs to its end; the error has the last lines of what the program said.
pub(crate) fn checked(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = capture(command)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let mut last: Vec<&str> = errors.lines().rev().take(5).collect();
    last.reverse();
    Err(format!("{} failed: {}", command.get_program().to_string_lossy(), last.join(" / ")))
}

/// An error that names the file.
pub(crate) fn at(path: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}

/// A directory for one build below `out`, empty; removed when it goes out of scope.
pub(crate) struct Workshop(PathBuf);

impl Workshop {
    pub fn new(out: &Path, name: &str) -> Result<Workshop, String> {
        let path = out.join(format!(".{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(at(&path))?;
        // Tools that run elsewhere need the whole name.
        let path = path.canonicalize().map_err(at(&path))?;
        Ok(Workshop(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn epoch_seconds(source: &Path) -> Result<u64, String> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let output = checked(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(source));
            output.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|error| {
                format!("the time of the packages is unknown ({error}); set SOURCE_DATE_EPOCH")
            })?
        }
    };
    text.trim().parse().map_err(|_| format!("SOURCE_DATE_EPOCH {text:?} is no number of seconds"))
}

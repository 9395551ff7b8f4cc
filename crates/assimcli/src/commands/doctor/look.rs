//! What the topics look at: files, programs and the CMA, each of which a test can make up.

use crate::Context;
use crate::client::{get_within, post};
use model::Timestamp;
use model::paths::SitePaths;
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest file and output that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 8 * 1024 * 1024;
/// How long a program may take.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(10);

/// What a program said, if it is there and went well.
type Programs<'a> = Box<dyn Fn(&str, &[&str]) -> Option<String> + 'a>;
/// Rows of a SELECT, if a CMA answers.
type Questions<'a> = Box<dyn Fn(&str) -> Option<Vec<Vec<Value>>> + 'a>;

/// Everything that a topic may look at.
pub struct Look<'a> {
    pub context: &'a Context,
    /// Of the CMA: its status, or why it does not answer.
    pub status: Result<Value, String>,
    /// Whether it does not answer because this user may not ask.
    pub is_closed: bool,
    pub now: Timestamp,
    pub is_root: bool,
    /// In front of the machine's own files (/proc, /sys, /run/systemd); `/` but in tests.
    machine: PathBuf,
    programs: Programs<'a>,
    questions: Questions<'a>,
}

impl<'a> Look<'a> {
    pub fn new(context: &'a Context) -> Self {
        let status = get_within(context, "/v1/status", Duration::from_secs(10))
            .map_err(|failure| format!("{}. {}", failure.message, failure.hint));
        let is_closed = daemon::local_socket::connect(&context.paths.cma_socket())
            .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        let answers = status.is_ok();
        Self {
            context,
            status,
            is_closed,
            now: Timestamp::now(),
            is_root: rustix::process::geteuid().is_root(),
            machine: PathBuf::from("/"),
            programs: Box::new(run_program),
            questions: Box::new(move |sql| if answers { ask(context, sql) } else { None }),
        }
    }

    pub fn paths(&self) -> &SitePaths {
        &self.context.paths
    }

    /// Whether this is the site of the machine itself, which units and packet filters belong to; not one below `--root`.
    pub fn is_machine(&self) -> bool {
        self.machine != Path::new("/") || self.paths().root() == Path::new("/")
    }

    /// Whether a CMA belongs to this site: it runs, or has run.
    pub fn has_cma(&self) -> bool {
        self.status.is_ok() || self.paths().database().exists()
    }

    /// Whether a nanoprobe belongs to this site.
    pub fn has_nanoprobe(&self) -> bool {
        self.paths().nanoprobe_state().exists()
    }

    /// Whether this is a host whose CMA is elsewhere. Where neither has run yet, the unit of the CMA tells.
    pub fn is_host_only(&self) -> bool {
        let units = ["/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"];
        let is_there = |name: &str| units.iter().any(|folder| self.at(&format!("{folder}/{name}")).exists());
        let nanoprobe = self.has_nanoprobe() || is_there("assimilation-nanoprobe.service");
        nanoprobe && !self.has_cma() && !is_there("assimilation-cma.service")
    }

    /// A place on the machine itself.
    pub fn at(&self, absolute: &str) -> PathBuf {
        self.machine.join(absolute.trim_start_matches('/'))
    }

    /// The text of a file of the machine.
    pub fn read(&self, absolute: &str) -> Option<String> {
        read(&self.at(absolute))
    }

    /// What a program prints on standard output.
    pub fn program(&self, name: &str, arguments: &[&str]) -> Option<String> {
        (self.programs)(name, arguments)
    }

    pub fn sql(&self, statement: &str) -> Option<Vec<Vec<Value>>> {
        (self.questions)(statement)
    }

    /// What installs packages on this system.
    pub fn install(&self) -> &'static str {
        let managers = [("dnf", "dnf install"), ("zypper", "zypper install"), ("yum", "yum install")];
        let found = managers.iter().find(|(name, _)| self.at(&format!("/usr/bin/{name}")).exists());
        found.map_or("apt-get install", |(_, command)| command)
    }

    /// What starts the CMA of this site.
    pub fn start_cma(&self) -> String {
        if self.is_machine() {
            "systemctl start assimilation-cma".to_owned()
        } else {
            format!("cma --root '{}'", self.paths().root().display())
        }
    }

    /// A text in the CMA's status.
    pub fn told(&self, field: &str) -> Option<&str> {
        self.status.as_ref().ok()?.get(field)?.as_str()
    }
}

/// A file's text without what is no UTF-8; `None` when it cannot be read.
pub fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MAX_TEXT_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn ask(context: &Context, sql: &str) -> Option<Vec<Vec<Value>>> {
    let answer = post(context, "/v1/sql", &json!({ "sql": sql })).ok()?;
    answer["rows"].as_array()?.iter().map(|row| row.as_array().cloned()).collect()
}

/// Runs a program of the system for a bounded time.
fn run_program(name: &str, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(name)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let out = child.stdout.take()?;
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        out.take(MAX_TEXT_BYTES).read_to_end(&mut bytes).map(|_| bytes)
    });
    let begun = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if begun.elapsed() < PROGRAM_PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    let bytes = reading.join().ok()?.ok()?;
    ended.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// A made-up machine.
#[cfg(test)]
pub struct Rig {
    pub folder: tempfile::TempDir,
    context: Context,
    pub status: Result<Value, String>,
    pub is_closed: bool,
    pub now: Timestamp,
    pub is_root: bool,
    /// Command line and output.
    pub programs: Vec<(String, String)>,
    /// Part of a statement and rows.
    pub questions: Vec<(String, Vec<Vec<Value>>)>,
}

#[cfg(test)]
impl Rig {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let context = Context { paths: SitePaths::new(folder.path()), format: output::Format::Table };
        Self {
            context,
            folder,
            status: Err("no CMA answers. Start one with `cma`.".into()),
            is_closed: false,
            now: Timestamp(1_800_000_000_000_000),
            is_root: true,
            programs: vec![],
            questions: vec![],
        }
    }

    pub fn paths(&self) -> &SitePaths {
        &self.context.paths
    }

    /// Writes a file of the machine or the site.
    pub fn file(&self, absolute: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(absolute.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn program(&mut self, line: &str, output: &str) {
        self.programs.retain(|(known, _)| known != line);
        self.programs.push((line.into(), output.into()));
    }

    pub fn look(&self) -> Look<'_> {
        Look {
            context: &self.context,
            status: self.status.clone(),
            is_closed: self.is_closed,
            now: self.now,
            is_root: self.is_root,
            machine: self.folder.path().to_owned(),
            programs: Box::new(|name, arguments| {
                let line = format!("{name} {}", arguments.join(" "));
                self.programs.iter().find(|(known, _)| *known == line).map(|(_, output)| output.clone())
            }),
            questions: Box::new(|sql| {
                self.questions.iter().find(|(known, _)| sql.contains(known)).map(|(_, rows)| rows.clone())
            }),
        }
    }
}

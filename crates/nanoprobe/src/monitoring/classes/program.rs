//! What the classes that run a program have in common: which file, as whom, within which bounds.

use super::super::state::Outcome;
use super::{Around, Checked, timed_out, timeout};
use crate::executables::{End, Limits, Program, code_or_signal, execute};
use daemon::privileges::{Identity, find_user};
use monitors::Monitor;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// What is looked at of what a check prints.
const OUTPUT_BYTES: usize = 64 * 1024;
const ERROR_BYTES: usize = 16 * 1024;
/// So much more is read and thrown away; who prints more is stopped.
const EXCESS_BYTES: u64 = 16 * 1024 * 1024;
/// Between SIGTERM and SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);
/// Checks are less important than what they check.
const NICENESS: i32 = 5;
const PASSWD: &str = "/etc/passwd";
const MAX_PASSWD_BYTES: u64 = 8 * 1024 * 1024;

/// What a program that ended by itself said.
pub struct Said {
    pub code: i32,
    pub output: String,
    pub error_text: String,
}

impl Said {
    /// The first line with something in it, of standard output, or else of standard error.
    pub fn message(&self) -> &str {
        let lines = self.output.lines().chain(self.error_text.lines());
        lines.map(str::trim).find(|line| !line.is_empty()).unwrap_or("")
    }

    /// Standard output after the message, then standard error.
    pub fn detail(&self) -> String {
        let output = self.output.trim_start();
        let rest = output.split_once('\n').map_or("", |(_, rest)| rest);
        let error_text = if output.is_empty() {
            self.error_text.trim_start().split_once('\n').map_or("", |(_, rest)| rest)
        } else {
            &self.error_text
        };
        [rest.trim_end(), error_text.trim_end()].join("\n")
    }
}

/// A name that stays in its directory.
///
/// # Errors
/// The outcome of a monitor that must not be run.
pub fn checked_name(name: &str) -> Result<&str, Outcome> {
    if name.is_empty()
        || name.len() > 200
        || name.starts_with('.')
        || name.contains(['/', '\0'])
        || name.contains("..")
    {
        return Err(Outcome::down(format!("invalid monitoring request: {name:?} is no name of an agent")));
    }
    Ok(name)
}

/// Runs a program and has what it said judged, if it ended by itself.
pub fn run(
    monitor: &Monitor,
    path: &Path,
    arguments: &[String],
    environment: &BTreeMap<String, String>,
    judge: impl FnOnce(Said) -> Outcome,
) -> Checked {
    let identity =
        match identity(&monitor.user).and_then(|identity| trusted(path, identity).map(|()| identity)) {
            Ok(identity) => identity,
            Err(why) => return Outcome::down(format!("invalid monitoring request: {why}")).into(),
        };
    let program = Program {
        path,
        arguments,
        environment,
        identity,
        niceness: NICENESS,
        patience: PATIENCE,
        excess_bytes: EXCESS_BYTES,
    };
    let limits = Limits { timeout: timeout(monitor), output_bytes: OUTPUT_BYTES, error_bytes: ERROR_BYTES };
    let ended = execute(&program, limits);
    let said = |code| Said {
        code,
        output: String::from_utf8_lossy(&ended.output).into_owned(),
        error_text: String::from_utf8_lossy(&ended.error_text).into_owned(),
    };
    let with_output = |outcome: Outcome| Outcome { output: said(0).message().to_owned(), ..outcome };
    match ended.end {
        End::Status(status) => match code_or_signal(status) {
            Ok(code) => Outcome { rc: Some(code), ..judge(said(code)) }.into(),
            Err(signal) => {
                let outcome = Outcome::down(format!("monitoring was killed by signal {signal}"));
                Outcome { signal: Some(signal), ..with_output(outcome) }.into()
            }
        },
        End::TimedOut => with_output(timed_out(monitor)).into(),
        End::TooMuchOutput => {
            let mebibytes = EXCESS_BYTES / 1024 / 1024;
            let outcome =
                Outcome::down(format!("monitoring printed more than {mebibytes} MiB and was stopped"));
            with_output(outcome).into()
        }
        End::Unkillable(child) => Checked {
            outcome: Outcome::down(
                "monitoring could not be killed; it waits for a device or a network file system",
            ),
            stray: Some(child),
        },
        End::Failed(why) => {
            Outcome::down(format!("monitoring is not possible: {}: {why}", path.display())).into()
        }
    }
}

/// `None`: our own.
fn identity(user: &str) -> Result<Option<Identity>, String> {
    if user.is_empty() {
        return Ok(None);
    }
    let mut passwd = String::new();
    let read =
        fs::File::open(PASSWD).and_then(|file| file.take(MAX_PASSWD_BYTES).read_to_string(&mut passwd));
    read.map_err(|error| format!("{PASSWD}: {error}"))?;
    let identity = find_user(&passwd, user)
        .ok_or_else(|| format!("there is no user {user:?} on this host; create it, or configure another"))?;
    let own = rustix::process::geteuid().as_raw();
    if identity.uid == own {
        return Ok(None);
    }
    if own != 0 {
        return Err(format!("the nanoprobe does not run as root and cannot become {user:?}"));
    }
    Ok(Some(identity))
}

/// Refuses a file that somebody else than root, us and who it runs as can change: it would run with rights that its owner
/// does not have.
fn trusted(path: &Path, identity: Option<Identity>) -> Result<(), String> {
    let shown = path.display();
    let file = fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    if !file.is_file() || file.mode() & 0o111 == 0 {
        return Err(format!("{shown} is no executable file"));
    }
    let runs_as = identity.map_or(rustix::process::geteuid().as_raw(), |identity| identity.uid);
    if ![0, runs_as].contains(&file.uid()) {
        return Err(format!(
            "{shown} belongs to user {}; chown it to root, or configure that user for it",
            file.uid()
        ));
    }
    if file.mode() & 0o022 != 0 {
        return Err(format!("others may write to {shown}; chmod go-w it"));
    }
    Ok(())
}

/// What every program gets, and what the monitor says: names that the loader or the shell would obey are left out.
pub fn environment(monitor: &Monitor) -> BTreeMap<String, String> {
    crate::executables::environment(&monitor.env)
}

/// The scratch directory, if it can be used by who runs.
pub fn scratch(monitor: &Monitor, around: &Around) -> std::path::PathBuf {
    if !monitor.user.is_empty() {
        // That of the distribution, which other users may use.
        return "/run/resource-agents".into();
    }
    // An agent that needs it says so when it cannot be made.
    let _ = fs::create_dir_all(&around.scratch);
    around.scratch.clone()
}

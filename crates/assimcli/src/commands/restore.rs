//! `restore`: goes back to a backup, or to a copy of the database that the CMA kept. With a running CMA it is asked to take
//! over; without one the files are put into their places.

use crate::backup::place::{self, Outcome};
use crate::backup::{Progress, target};
use crate::client::{get_within, post};
use crate::{Context, Failure, Finding};
use model::Timestamp;
use output::{Rows, note};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use store::sqlite;

/// How long a CMA may take to come back with another database; it may have to change the tables of a large one.
const PATIENCE: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub struct Options {
    /// A backup, or a copy of the database (cma.sqlite.v3-..., cma.sqlite.before-restore-...)
    file: PathBuf,
    /// Replace configuration and keys that are here with those of the backup, instead of only adding missing ones
    #[arg(long)]
    replace_files: bool,
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    let target = target(context)?;
    let database = &target.database;
    let unpacked = place::unpack(&options.file, database)?;
    let now = Timestamp::now();
    let files = unpacked.place_files(&context.paths, database, options.replace_files, now);
    let kept = files.and_then(|files| {
        let kept = match &target.status {
            Some(status) => taken_over(context, database, status)?,
            None => sqlite::replace(database, &sqlite::staged(database), now)
                .map_err(|error| Failure::new(error.to_string()).hint("Nothing was changed."))?,
        };
        Ok((files, kept))
    });
    let (files, kept) = kept.inspect_err(|_| {
        let _ = std::fs::remove_file(sqlite::staged(database));
    })?;

    let mut rows = Rows::new(&["file", "result"]);
    rows.rows.push(vec![json!(database.display().to_string()), json!("restored")]);
    let shown = |(path, outcome): &(PathBuf, Outcome)| {
        vec![json!(path.display().to_string()), json!(outcome.as_str())]
    };
    rows.rows.extend(files.iter().map(shown));
    rows.print(context.format)?;
    explain(&files, kept.as_deref(), target.status.is_some());
    Ok(Finding::Nothing)
}

fn explain(files: &[(PathBuf, Outcome)], kept: Option<&Path>, is_running: bool) {
    if let Some(kept) = kept {
        note!("The database from before is {}; remove it when it is not needed any more.", kept.display());
    }
    let any = |wanted: Outcome| files.iter().any(|(_, outcome)| *outcome == wanted);
    if any(Outcome::Differs) {
        note!(
            "Files that were left alone differ from the backup; --replace-files takes those of the backup."
        );
    }
    if any(Outcome::Retired) {
        note!("Keys of the CMA that were retired after the backup was made were not brought back.");
    }
    if !is_running {
        note!("Start the CMA now; hosts register again and send what the backup does not know.");
    }
}

/// Has the running CMA go on with what lies staged, and waits until it does. Returns where the database from before is.
fn taken_over(context: &Context, database: &Path, before: &Value) -> Result<Option<PathBuf>, Failure> {
    let process = process_of(before);
    let kept_before = kept(database);
    post(context, "/v1/restore", &json!({}))?;
    let mut progress = Progress::new("waiting for the CMA to come back");
    let begun = Instant::now();
    loop {
        std::thread::sleep(LOOK_EVERY);
        progress.at(begun.elapsed().as_secs(), PATIENCE.as_secs());
        match get_within(context, "/v1/status", Duration::from_secs(10)) {
            Ok(status) if status["started"] != before["started"] => {
                return came_back(database, before, &status);
            }
            // Somebody stopped it. It completes the restore first if it can.
            Err(_) if process.is_some_and(is_gone) => return left_behind(&kept_before, &kept(database)),
            _ if begun.elapsed() > PATIENCE => {
                return Err(Failure::new("the CMA did not come back with the restored database")
                    .hint("Its log tells why; the database from before is kept beside it."));
            }
            _ => {}
        }
    }
}

/// The process that serves, if it can be seen from here: not from another container.
fn process_of(status: &Value) -> Option<Pid> {
    let number = status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())?;
    Pid::from_raw(number).filter(|pid| !is_gone(*pid))
}

/// One that belongs to another user is there, too.
fn is_gone(process: Pid) -> bool {
    test_kill_process(process) == Err(Errno::SRCH)
}

/// Databases that were replaced by a restore and are still there.
fn kept(database: &Path) -> BTreeSet<PathBuf> {
    let start = sqlite::aside(database, Timestamp(0));
    let start = start.to_string_lossy().trim_end_matches(|c: char| c != '-').to_owned();
    let entries = database.parent().and_then(|directory| fs::read_dir(directory).ok());
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    // Not their journals.
    let is_one = |name: &str| name.strip_prefix(&start).is_some_and(|time| !time.contains('-'));
    paths.filter(|path| is_one(&path.to_string_lossy())).collect()
}

/// What a CMA that ended has done: the databases that were kept before it was asked, and those that are now.
fn left_behind(before: &BTreeSet<PathBuf>, now: &BTreeSet<PathBuf>) -> Result<Option<PathBuf>, Failure> {
    match now.difference(before).last() {
        Some(kept) => {
            note!("The CMA was stopped meanwhile; it has the restored database when it starts.");
            Ok(Some(kept.clone()))
        }
        None => Err(Failure::new("the CMA ended before it took the backup over; the database is as it was")
            .hint("Start it and do this again; its log tells why it ended.")),
    }
}

fn came_back(database: &Path, before: &Value, status: &Value) -> Result<Option<PathBuf>, Failure> {
    if status["restored"] == before["restored"] || status["restored"].is_null() {
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        let reason = problems.iter().filter_map(Value::as_str).find(|text| text.contains("restored"));
        return Err(Failure::new(reason.unwrap_or("the CMA went on with its old database"))
            .hint("Its log tells more."));
    }
    let time = status["restored"].as_str().and_then(Timestamp::parse);
    Ok(time.map(|time| sqlite::aside(database, time)).filter(|path| path.exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cma_that_was_stopped_has_done_is_seen_in_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("cma.sqlite");
        let put = |path: &Path| fs::write(path, "").unwrap();
        for path in [&database, &sqlite::staged(&database), &sqlite::aside(&database, Timestamp(5_000_000))] {
            put(path);
        }
        let before = kept(&database);
        assert_eq!(before.len(), 1, "{before:?}");
        let told = left_behind(&before, &kept(&database)).unwrap_err();
        assert!(told.message.contains("as it was") && told.hint.contains("Start it"), "{}", told.message);
        let new = sqlite::aside(&database, Timestamp(1_800_000_000_000_000));
        put(&new);
        assert_eq!(left_behind(&before, &kept(&database)).ok().flatten(), Some(new));
    }

    #[test]
    fn only_a_process_that_was_seen_can_be_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let status = json!({"pid": child.id()});
        let process = process_of(&status).unwrap();
        assert!(!is_gone(process));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(process));
        assert_eq!((process_of(&status), process_of(&json!({}))), (None, None));
    }
}

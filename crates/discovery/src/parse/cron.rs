//! The jobs of cron(8): which files of it run something.

use super::Files;
use crate::Host;

const CRONTABS: &[&str] =
    &["/etc/crontab", "/etc/anacrontab", "/var/spool/cron/crontabs/root", "/var/spool/cron/root"];
const DIRECTORIES: &[&str] =
    &["/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly"];
/// Files of one directory; more are not looked at.
const MAX_FILES: usize = 128;
/// More of a job is not looked at.
const MAX_JOB_BYTES: u64 = 256 * 1024;

/// The system's and root's tables and jobs in which `runs` is true of a line that is no comment; a file that cannot be
/// read has none.
pub fn jobs(host: &Host, runs: impl Fn(&str) -> bool) -> Vec<String> {
    let mut files: Vec<String> = CRONTABS.iter().map(|&path| path.to_owned()).collect();
    for directory in DIRECTORIES {
        let mut names = host.names(directory).unwrap_or_default();
        // run-parts(8) and cron(8) skip names with a dot.
        names.retain(|name| !name.contains('.'));
        names.sort();
        files.extend(names.into_iter().take(MAX_FILES).map(|name| format!("{directory}/{name}")));
    }
    files.retain(|path| {
        let bytes = host.read_at_most(path, MAX_JOB_BYTES).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().any(|line| !line.trim_start().starts_with('#') && runs(line))
    });
    files
}

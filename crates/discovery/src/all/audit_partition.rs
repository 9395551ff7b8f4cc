//! The file system that holds the audit records: proc_pid_mountinfo(5), statvfs(3), for an image fstab(5).
//!
//! | key | value |
//! |---|---|
//! | `path` | directory of `log_file` in auditd.conf(5) |
//! | `mount_point`, `device`, `fstype` | of the file system it is on |
//! | `own` | it is a file system of its own for audit records: mounted right there |
//! | `size_megabytes` | of the file system; running system only |
//! | `configured_megabytes` | what auditd keeps at most: `max_log_file` times `num_logs`, when old logs are rotated away |
//! | `week_megabytes` | an estimate of the records of one week, rounded up to a power of two so that it rarely changes: what has been written since the oldest record that is left. Running system only, once there are records of a day |
//!
//! ```json
//! {"path": "/var/log/audit", "mount_point": "/var/log/audit", "device": "/dev/vg/audit", "fstype": "xfs",
//!  "own": true, "size_megabytes": 10230, "configured_megabytes": 40, "week_megabytes": 256}
//! ```

use super::findmnt::{self, Mount};
use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files, integer};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

pub static DISCOVERY: Discovery = Discovery {
    name: "audit_partition",
    description: "The file system that holds the audit records",
    documentation: documentation::AUDIT_PARTITION,
    parameters: &[],
    instances: &[Instance { name: "_init_audit_partition", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, warn_seconds: 20, timeout_seconds: 60 },
    // The log directory itself changes all the time.
    trigger: Trigger::None,
    collect,
    graph: no_graph,
};

const CONFIG: &str = "/etc/audit/auditd.conf";
const MEGABYTE: u64 = 1024 * 1024;
const DAY_SECONDS: u64 = 24 * 60 * 60;
const MAX_LOGS: usize = 1000;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let config = match host.text(CONFIG) {
        Ok(text) => text,
        Err(reason) if reason.absent => {
            let why = format!("auditd is not installed: there is no {CONFIG}");
            return not_there(why);
        }
        Err(reason) => {
            errors.unread(&reason);
            return parse::collected((parse::no_data(CONFIG), errors.into_list()));
        }
    };
    let settings = settings(&config);
    let setting =
        |name: &str| settings.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let log_file =
        setting("log_file").filter(|path| path.starts_with('/')).unwrap_or("/var/log/audit/audit.log");
    let directory = log_file.rsplit_once('/').map(|(directory, _)| directory).filter(|d| !d.is_empty());
    let path = directory.unwrap_or("/");
    let (table, parse): (_, Table) = if host.is_running_system() {
        (findmnt::MOUNTINFO, findmnt::mountinfo)
    } else {
        (findmnt::FSTAB, findmnt::fstab)
    };
    let mut data = Map::new();
    data.insert("path".into(), path.into());
    match host.text(table) {
        // Malformed lines are told by the discovery of mounts.
        Ok(text) => mounted(&parse(&text, table, &mut Errors::default()), path, &mut data),
        Err(reason) => errors.unread(&reason),
    }
    let number = |name: &str| setting(name).and_then(integer).filter(|number| (0..1 << 32).contains(number));
    if let (Some(size), Some(count)) = (number("max_log_file"), number("num_logs"))
        && setting("max_log_file_action").is_some_and(|action| action.eq_ignore_ascii_case("rotate"))
    {
        data.insert("configured_megabytes".into(), (size * count.max(1)).into());
    }
    if host.is_running_system() {
        data.extend(
            size_bytes(host, path).map(|bytes| ("size_megabytes".to_owned(), (bytes / MEGABYTE).into())),
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let week = week_megabytes(host, log_file, now);
        data.extend(week.map(|megabytes| ("week_megabytes".to_owned(), megabytes.into())));
    }
    parse::collected((data.into(), errors.into_list()))
}

/// The size in bytes of the file system of a directory, or of the nearest above it that exists. `None` for a tree,
/// which has no file system of its own.
pub(super) fn size_bytes(host: &Host, directory: &str) -> Option<u64> {
    if !host.is_running_system() {
        return None;
    }
    let found =
        std::path::Path::new(directory).ancestors().find_map(|path| rustix::fs::statvfs(path).ok())?;
    found.f_blocks.checked_mul(found.f_frsize).filter(|bytes| *bytes > 0)
}

/// Names in lower case and the first word of their values.
fn settings(text: &str) -> Vec<(String, String)> {
    let mut errors = Errors::default();
    let lines = parse::lines(text, CONFIG, &mut errors);
    let pair = |line: &str| {
        let (key, value) = line.split_once('=')?;
        Some((key.trim().to_ascii_lowercase(), value.split_whitespace().next()?.to_owned()))
    };
    lines
        .into_iter()
        .map(|(_, line)| line.trim())
        .filter(|line| !line.starts_with('#'))
        .filter_map(pair)
        .collect()
}

type Table = fn(&str, &str, &mut Errors) -> BTreeMap<String, Mount>;

/// What is mounted at `path` or nearest above it.
fn mounted(mounts: &BTreeMap<String, Mount>, path: &str, data: &mut Map<String, Value>) {
    let above = std::path::Path::new(path).ancestors().filter_map(std::path::Path::to_str);
    if let Some((point, mount)) = above.filter_map(|point| mounts.get_key_value(point)).next() {
        data.insert("own".into(), (point == path).into());
        data.insert("mount_point".into(), point.as_str().into());
        data.insert("device".into(), mount.source.as_str().into());
        data.insert("fstype".into(), mount.fstype.as_str().into());
    }
}

/// Sizes of all logs, and the time of the first record in the oldest of them.
fn week_megabytes(host: &Host, log_file: &str, now: u64) -> Option<u64> {
    let (mut bytes, mut oldest) = (0, None);
    for number in 0..MAX_LOGS {
        let name = if number == 0 { log_file.to_owned() } else { format!("{log_file}.{number}") };
        let Ok(found) = host.stat(&name) else { break };
        bytes += found.size_bytes;
        oldest = Some(name);
    }
    let mut start = Vec::new();
    host.open(&oldest?).ok()?.take(4096).read_to_end(&mut start).ok()?;
    per_week(bytes, time_of_record(&String::from_utf8_lossy(&start))?, now)
}

/// `type=... msg=audit(SECONDS.MILLISECONDS:SERIAL): ...`
fn time_of_record(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("audit(")?;
    rest.split_once('.')?.0.parse().ok()
}

fn per_week(bytes: u64, since: u64, now: u64) -> Option<u64> {
    let seconds = now.checked_sub(since).filter(|seconds| *seconds >= DAY_SECONDS)?;
    let week = u128::from(bytes) * 7 * u128::from(DAY_SECONDS) / u128::from(seconds);
    let megabytes = u64::try_from(week.div_ceil(u128::from(MEGABYTE))).ok()?;
    megabytes.max(1).checked_next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, collect};
    use serde_json::json;

    const MOUNTS: &str = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                          30 22 8:2 / /var/log rw - xfs /dev/sda2 rw\nnonsense\n\
                          31 30 8:3 / /var/log/audit\\040x rw - xfs /dev/sda3 rw\n";

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn the_nearest_mount_counts() {
        let on = |path: &str| {
            let mut data = Map::new();
            mounted(&findmnt::mountinfo(MOUNTS, "", &mut Errors::default()), path, &mut data);
            Value::from(data)
        };
        let log = json!({"own": false, "mount_point": "/var/log", "device": "/dev/sda2", "fstype": "xfs"});
        assert_eq!(on("/var/log/audit"), log);
        assert_eq!(on("/var/logs")["device"], "/dev/sda1");
        let own =
            json!({"own": true, "mount_point": "/var/log/audit x", "device": "/dev/sda3", "fstype": "xfs"});
        assert_eq!(on("/var/log/audit x"), own);
    }

    #[test]
    fn estimates() {
        let record = "type=DAEMON_START msg=audit(1700000000.123:45): op=start\n";
        assert_eq!(time_of_record(record), Some(1_700_000_000));
        assert_eq!((time_of_record("junk"), time_of_record("audit(x.1)")), (None, None));
        let since = 1_700_000_000;
        // 10 MB in two days are 35 in a week.
        assert_eq!(per_week(10 * MEGABYTE, since, since + 2 * DAY_SECONDS), Some(64));
        assert_eq!(per_week(10, since, since + DAY_SECONDS), Some(1));
        assert_eq!(per_week(10, since, since + DAY_SECONDS - 1), None);
        assert_eq!(per_week(10, since, since - 5), None);
        assert_eq!(per_week(u64::MAX, 0, DAY_SECONDS), Some(1 << 47));
    }

    #[test]
    fn without_auditd_there_is_nothing_to_tell() {
        let found = collect(&DISCOVERY, &[("/etc/fstab", b"/dev/sda1 / ext4 defaults 0 1\n")]);
        let expected = json!({"NODATA": "auditd is not installed: there is no /etc/audit/auditd.conf"});
        assert_eq!((found.data, found.errors.len()), (expected, 0));
        let odd = collect(&DISCOVERY, &[("/etc/audit/auditd.conf/x", b"")]);
        assert_eq!(odd.data, json!({"NODATA": "ERROR: Cannot read /etc/audit/auditd.conf"}));
        let running = (DISCOVERY.collect)(&Host::running(), &Parameters::new());
        assert!(running.data.get("NODATA").is_some() || running.data["size_megabytes"].is_u64());
        assert_eq!(size_bytes(&Host::running(), "/not/there"), size_bytes(&Host::running(), "/"));
        assert!(
            size_bytes(&Host::running(), "/").is_some()
                && size_bytes(&Host::at(&std::env::temp_dir()), "/").is_none()
        );
    }

    #[test]
    fn any_text() {
        let tokens = &[
            "/",
            "/var/log",
            " ",
            "\n",
            "-",
            "#",
            "\\040",
            "max_log_file = ",
            "9",
            "num_logs=",
            "log_file=/",
        ];
        check_any_text("", tokens, |text| {
            let mut data = Map::new();
            settings(text);
            mounted(&findmnt::fstab(text, "", &mut Errors::default()), "/var/log/audit", &mut data);
            mounted(&findmnt::mountinfo(text, "", &mut Errors::default()), "/var/log/audit", &mut data);
            (data.into(), Vec::new())
        });
    }
}

//! Every file of the local file systems, looked at once a day: what anybody may write, what belongs to nobody, what
//! runs with the rights of another.
//!
//! | key | what |
//! |---|---|
//! | `world_writable_files` | regular files that everybody may write |
//! | `world_writable_directories` | directories in which everybody may make files; `sticky`: only one's own may be removed |
//! | `unowned_files`, `ungrouped_files` | the number of the owner or group has no name |
//! | `setid_programs` | regular files with the set-user-ID or set-group-ID bit |
//! | `device_files` | devices outside /dev |
//! | `home_files_wide` | files in the homes of people with more than 0750, nothing hidden |
//! | `home_files_foreign_group` | files in the homes of people whose group their owner is no member of, nothing hidden |
//! | `homes` | how many homes of people were looked at |
//! | `file_systems`, `not_scanned` | mount point → type; kernel file systems (proc, sysfs ...) are in neither |
//! | `complete` | true; absent when something was left out, and `errors` says what |
//! | `owners_known`, `groups_known` | true; absent when numbers were met that only a directory service may know |
//! | `unknown_users`, `unknown_groups` | those numbers, when there are any |
//! | `counts` | list → how many there are; a list holds the first 100 with the same owner, group and mode |
//!
//! The lists are path → `{owner, group, type, octal, system_owner, system_group, sticky}`; `system_...`: the number is below
//! UID_MIN or GID_MIN of login.defs(5). Numbers that subuid(5) hands out for containers and those that systemd invents for
//! running services have an owner. File systems across a network, FUSE and images (squashfs, iso9660) are not looked
//! at, of several mounts of the same files one is, and the trees of the parameter `skip` are left out: those of
//! container engines, whose numbers mean other people.
//!
//! It runs on a thread with the lowest priority of processor and disk, follows no symlink, ends when its time is over,
//! and needs little memory however many files there are. Sources: stat(2), proc_pid_mountinfo(5), nsswitch.conf(5).
//! ```json
//! {"complete":true,"owners_known":true,"groups_known":true,"homes":1,"file_systems":{"/":"ext4"},"not_scanned":{"/srv":"nfs4"},
//!  "counts":{"setid_programs":1},"setid_programs":{"/usr/bin/su":{"owner":"root","group":"root","type":"-","octal":"04755",
//!  "system_owner":true,"system_group":true,"sticky":false}},"world_writable_files":{}}
//! ```

use crate::host::{Limits, Next, Visited};
use crate::idle::at_idle_priority;
use crate::{
    Collected, Discovery, Host, Instance, Parameter, Parameters, Problem, Schedule, Trigger, documentation,
    no_graph,
};
use findings::Findings;
use places::Places;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

#[path = "fs_scan/findings.rs"]
mod findings;
#[path = "fs_scan/places.rs"]
mod places;

pub static DISCOVERY: Discovery = Discovery {
    name: "fs_scan",
    description: "Files open to anybody, of nobody, or run with the rights of another",
    documentation: documentation::FS_SCAN,
    parameters: &[
        Parameter {
            name: SKIP,
            meaning: "Directories to leave out, separated by blanks",
            default: "/run/user /run/containerd /run/docker /run/netns /var/lib/containerd /var/lib/containers \
                      /var/lib/docker /var/lib/kubelet /var/lib/lxc /var/lib/lxd /var/lib/incus /var/lib/machines \
                      /var/snap/lxd /.snapshots /home/.snapshots",
        },
        Parameter { name: SECONDS, meaning: "After so many seconds the rest is left out", default: "2700" },
        Parameter {
            name: MAX_FILES,
            meaning: "After so many files the rest is left out",
            default: "50000000",
        },
    ],
    instances: &[Instance { name: "_init_fs_scan", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 86_400, warn_seconds: 1800, timeout_seconds: 3600 },
    trigger: Trigger::None,
    collect,
    graph: no_graph,
};

const SKIP: &str = "skip";
const SECONDS: &str = "seconds";
const MAX_FILES: &str = "max_files";
const DEFAULT_SECONDS: u64 = 2700;
const DEFAULT_MAX_FILES: u64 = 50_000_000;

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    // Only `touched` of a host is lost this way, and nothing of it would be watched anyway.
    let host = host.another();
    at_idle_priority(move || scan(&host, parameters))
}

fn scan(host: &Host, parameters: &Parameters) -> Collected {
    let number = |name: &str, default| {
        parameters.get(name).and_then(|text| text.trim().parse().ok()).unwrap_or(default)
    };
    let seconds = number(SECONDS, DEFAULT_SECONDS).min(86_400);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let skip: Vec<&str> = parameters.get(SKIP).map_or("", String::as_str).split_ascii_whitespace().collect();
    let Some(places) = places::of(host, &skip) else {
        let data = json!({"NODATA": "ERROR: Cannot read /proc/self/mountinfo"});
        let why = "/proc/self/mountinfo: it does not tell what is mounted: mount /proc".to_owned();
        return Collected { data, errors: vec![why], extras: Map::new() };
    };
    let limits = Limits { deadline, max_entries: number(MAX_FILES, DEFAULT_MAX_FILES) };
    let mut collected = scan_places(host, &places, limits);
    collected.errors.truncate(MAX_ERRORS);
    collected
}

fn scan_places(host: &Host, places: &Places, mut limits: Limits) -> Collected {
    let mut errors = Vec::new();
    let mut findings = Findings::new(host, &mut errors);
    let mut complete = true;
    for start in places.starts.keys() {
        if Instant::now() >= limits.deadline || limits.max_entries == 0 {
            complete = false;
            errors.push(format!("{start}: time or number of files was used up before: it was left out"));
            continue;
        }
        findings.start(host, start);
        let mut visit = |visited: &Visited<'_>| {
            findings.look(visited);
            Next::Go
        };
        match host.walk(start, &places.barriers, limits, &mut visit) {
            Ok(outcome) => {
                complete &= outcome.complete;
                limits.max_entries = limits.max_entries.saturating_sub(outcome.entries);
                errors.extend(outcome.problems);
            }
            // Unmounted meanwhile, or a single file that is mounted, as containers have them.
            Err(error) if matches!(error.problem(), Problem::Missing | Problem::NotADirectory) => {}
            Err(error) => {
                complete = false;
                errors.push(error.to_string());
            }
        }
    }
    for list in findings.cut() {
        complete = false;
        errors.push(format!(
            "{list}: too many different owners, groups, modes or long names: some are not listed"
        ));
    }
    let mut data = findings.into_data();
    data.insert("file_systems".into(), json!(places.starts));
    data.insert("not_scanned".into(), json!(places.not_scanned));
    if complete {
        data.insert("complete".into(), Value::Bool(true));
    }
    Collected { data: Value::Object(data), errors, extras: Map::new() }
}

const MAX_ERRORS: usize = 50;

#[cfg(test)]
#[path = "fs_scan/tests.rs"]
mod tests;

//! What the audit subsystem records: the rules of `/etc/audit`, and those that the kernel holds.
//!
//! The permanent rules are `/etc/audit/rules.d/*.rules`, put together as augenrules(8) does it, or
//! `/etc/audit/audit.rules` where the service loads that file directly (auditctl(8), audit.rules(7)). On the running
//! system, and as root, the kernel is asked by netlink for the rules and settings in effect. What counts as recorded
//! is in both; where the kernel does not tell (an image, a container, no root) the files decide alone.
//!
//! The keys say what is asked, so that all ways of writing a rule (`-w`, `-F path=`, `-F dir=`, both orders, lists,
//! pairs for `arch=b32` and `arch=b64`, wider rules, a `never` before an `always`) give the same answer:
//!
//! | key | value |
//! |---|---|
//! | `syscall:NAME` | `{"audited", "arch", "keys"}`; `audited`: calls by logged-in users (`auid>=1000`), however they end, on each interface of the machine that has the call (x86_64: `b64` and `b32`; aarch64: `b64`). Absent when the machine does not have the call |
//! | `syscall:NAME:failed` | the same for calls refused with EACCES and EPERM |
//! | `syscall:execve:euid-change` | running a program that makes somebody root by its owner or group |
//! | `syscall:execve:user-emulation` | running a program that changes the effective user |
//! | `exec:PROGRAM` | running it by logged-in users. Absent when the host does not have the program |
//! | `group:privileged`, `group:networkconfig` | several at once, with those that are `missing` |
//! | `watch:PATH` | `{"perms", "perms_of_users", "exists", "keys"}`: which kinds of access, out of `a` (attributes), `r`, `w`, `x`, are recorded for everybody and for logged-in users; for a directory with everything below |
//! | `control:NAME` | settings of the permanent rules: `enabled`, `failure`, `backlog_limit`, `rate_limit`, `backlog_wait_time`, `loginuid-immutable` |
//! | `kernel` | the same settings in effect, `auditd_running`, the number of `rules`; or `unknown` with the reason |
//! | `source`, `files`, `rules`, `excluded` | where the permanent rules are from, how many they are, record types that are thrown away |
//! | `compiled_is_current` | audit.rules is what augenrules would make of rules.d |
//!
//! Where files and kernel differ, an entry also has `permanent` and `loaded`.
//!
//! ```json
//! {"source": "/etc/audit/rules.d", "rules": 2, "control:enabled": 2, "kernel": {"enabled": 2, "rules": 2},
//!  "syscall:chmod": {"audited": true, "arch": ["b32", "b64"], "keys": ["perm_mod"]},
//!  "exec:/usr/bin/su": {"audited": false, "keys": []},
//!  "watch:/etc/passwd": {"perms": ["a", "w"], "perms_of_users": ["a", "w"], "exists": true, "keys": ["identity"]}}
//! ```

#[path = "audit_rules/coverage.rs"]
mod coverage;
#[path = "audit_rules/document.rs"]
mod document;
#[path = "audit_rules/kernel.rs"]
mod kernel;
#[path = "audit_rules/places.rs"]
mod places;
#[path = "audit_rules/rule.rs"]
mod rule;
#[path = "audit_rules/syscalls.rs"]
mod syscalls;

use crate::parse::presence::not_there;
use crate::parse::{Errors, Files};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use document::Facts;
use places::HostPlaces;
use rule::Loaded;
use serde_json::{Map, json};
use std::cmp::Ordering;
use syscalls::Machine;

pub static DISCOVERY: Discovery = Discovery {
    name: "audit_rules",
    description: "What the audit subsystem records",
    documentation: documentation::AUDIT_RULES,
    parameters: &[],
    instances: &[Instance { name: "_init_audit_rules", parameters: &[], schedule: None }],
    // Rules loaded by hand change no file, so the kernel is asked now and then.
    schedule: Schedule { repeat_seconds: 300, warn_seconds: 20, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const RULES_DIRECTORY: &str = "/etc/audit/rules.d";
const RULES_FILE: &str = "/etc/audit/audit.rules";
const PROGRAMS: [&str; 3] = ["/usr/sbin/auditctl", "/sbin/auditctl", "/usr/bin/auditctl"];
/// The units that load the rules; what an administrator puts into /etc replaces the vendor's.
const UNITS: [[&str; 3]; 2] = [
    [
        "/etc/systemd/system/audit-rules.service",
        "/usr/lib/systemd/system/audit-rules.service",
        "/lib/systemd/system/audit-rules.service",
    ],
    [
        "/etc/systemd/system/auditd.service",
        "/usr/lib/systemd/system/auditd.service",
        "/lib/systemd/system/auditd.service",
    ],
];
const MAX_FILES: usize = 256;

fn collect(host: &Host, _: &Parameters) -> Collected {
    if PROGRAMS.iter().all(|program| host.stat(program).is_err()) {
        return not_there("auditd is not installed: there is no /usr/sbin/auditctl");
    }
    let mut errors = Errors::default();
    let mut data = Map::new();
    let machine = machine_of(host);
    let (permanent, unreadable) = permanent_rules(host, &mut data, &mut errors);
    if let Some(path) = unreadable {
        return Collected {
            data: json!({ "NODATA": format!("ERROR: Cannot read {path}") }),
            errors: errors.into_list(),
            extras: Map::new(),
        };
    }
    let in_effect = if host.is_running_system() {
        kernel::loaded(machine)
    } else {
        Err("this is not the running system".to_owned())
    };
    let places = HostPlaces::new(host);
    Facts { permanent: &permanent, in_effect: &in_effect, machine, places: &places }.tell(&mut data);
    Collected { data: data.into(), errors: errors.into_list(), extras: Map::new() }
}

/// The rules in the files. The second result is the file that stands in the way of knowing any.
/// For the fuzzer: the bytes are a piece of the kernel's answer, or one rule.
pub(crate) fn any_answer(bytes: &[u8]) {
    kernel::any_answer(bytes);
}

fn permanent_rules(
    host: &Host,
    data: &mut Map<String, serde_json::Value>,
    errors: &mut Errors,
) -> (Loaded, Option<&'static str>) {
    let mut files = Vec::new();
    let names = if loads_the_one_file(host) { None } else { rule_files(host, errors) };
    let compiled_file = host.text(RULES_FILE);
    let source = if names.is_some() { RULES_DIRECTORY } else { RULES_FILE };
    match names {
        Some(names) => {
            for name in names {
                let path = format!("{RULES_DIRECTORY}/{name}");
                match host.text(&path) {
                    Ok(text) => files.push((path, text)),
                    Err(reason) => errors.unread(&reason),
                }
            }
            if let Err(reason) = compiled_file.as_ref().map_err(|e| e.clone())
                && !reason.absent
            {
                errors.unread(&reason);
            }
        }
        None => match &compiled_file {
            Ok(text) => files.push((RULES_FILE.to_owned(), text.clone())),
            Err(reason) if reason.absent => {}
            Err(reason) => {
                errors.unread(reason);
                return (Loaded::default(), Some(RULES_FILE));
            }
        },
    }
    let is_compiled = source == RULES_DIRECTORY;
    let lines = if is_compiled {
        rule::compiled(&files, errors)
    } else {
        let text = files.first().map_or("", |(_, text)| text);
        crate::parse::lines(text, RULES_FILE, errors)
            .into_iter()
            .map(|(n, line)| (RULES_FILE, n, line))
            .collect()
    };
    if is_compiled && let Ok(text) = &compiled_file {
        let own = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let made = lines.iter().map(|(_, _, line)| line.trim()).filter(own);
        data.insert("compiled_is_current".into(), text.lines().map(str::trim).filter(own).eq(made).into());
    }
    let mut loaded = Loaded::default();
    for (file, number, line) in lines {
        if let Err(what) = loaded.take(line) {
            errors.at(file, number, what);
        }
    }
    data.insert("source".into(), source.into());
    data.insert("files".into(), files.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>().into());
    (loaded, None)
}

/// Whether the service runs `auditctl -R` instead of augenrules.
fn loads_the_one_file(host: &Host) -> bool {
    let (mut direct, mut generated) = (false, false);
    for unit in UNITS {
        let Some(text) = unit.into_iter().find_map(|path| host.read_at_most(path, 64 * 1024).ok()) else {
            continue;
        };
        for line in
            String::from_utf8_lossy(&text).lines().filter(|line| line.trim_start().starts_with("ExecStart"))
        {
            generated |= line.contains("augenrules");
            direct |= line.contains("auditctl") && line.contains("-R");
        }
    }
    direct && !generated
}

/// The names of the files that augenrules takes, in its order (`ls -v`). `None` without the directory.
fn rule_files(host: &Host, errors: &mut Errors) -> Option<Vec<String>> {
    let mut names = match host.names(RULES_DIRECTORY) {
        Ok(names) => names,
        Err(reason) => {
            if !reason.absent {
                errors.unread(&reason);
            }
            return None;
        }
    };
    names.retain(|name| name.ends_with(".rules") && !name.starts_with('.') && name.len() <= 255);
    names.sort_by(|a, b| by_version(a, b));
    if names.len() > MAX_FILES {
        errors.add(format!("{RULES_DIRECTORY}: more than {MAX_FILES} files, the rest is left out"));
        names.truncate(MAX_FILES);
    }
    Some(names)
}

/// Numbers in names compare as numbers.
fn by_version(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while let (Some(l), Some(r)) = (left.chars().next(), right.chars().next()) {
        if l.is_ascii_digit() && r.is_ascii_digit() {
            let (number, other) = (digits(left), digits(right));
            let (own, others) = (number.trim_start_matches('0'), other.trim_start_matches('0'));
            let order = own.len().cmp(&others.len()).then_with(|| own.cmp(others));
            if order != Ordering::Equal {
                return order;
            }
            (left, right) = (&left[number.len()..], &right[other.len()..]);
        } else if l != r {
            return l.cmp(&r);
        } else {
            (left, right) = (&left[l.len_utf8()..], &right[r.len_utf8()..]);
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

fn digits(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())]
}

/// The kind of machine: that of the kernel, for a tree that of the dynamic loader it has.
fn machine_of(host: &Host) -> Machine {
    let own = rustix::system::uname();
    let own = Machine::named(&own.machine().to_string_lossy());
    if host.is_running_system() {
        return own;
    }
    const LOADERS: [(&str, &str); 10] = [
        ("/lib64/ld-linux-x86-64.so.2", "x86_64"),
        ("/usr/lib64/ld-linux-x86-64.so.2", "x86_64"),
        ("/lib/ld-musl-x86_64.so.1", "x86_64"),
        ("/lib/ld-linux-aarch64.so.1", "aarch64"),
        ("/usr/lib/ld-linux-aarch64.so.1", "aarch64"),
        ("/lib/ld-musl-aarch64.so.1", "aarch64"),
        ("/lib/ld64.so.1", "s390x"),
        ("/lib64/ld64.so.2", "ppc64le"),
        ("/lib/ld-linux-riscv64-lp64d.so.1", "riscv64"),
        ("/lib/ld-linux.so.2", "i686"),
    ];
    let found = LOADERS.iter().find(|(path, _)| host.lstat(path).is_ok());
    found.map_or(own, |(_, name)| Machine::named(name))
}

#[cfg(test)]
#[path = "audit_rules/tests.rs"]
mod tests;

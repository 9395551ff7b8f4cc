//! The document: one entry for each thing that somebody may want recorded.

use super::coverage::{Actors, Becomes, Coverage, Parts, Path, Question, REFUSED, all_of, wanted};
use super::kernel::Status;
use super::places::HostPlaces;
use super::rule::{List, Loaded, PERMISSIONS, Rule, Syscalls};
use super::syscalls::{ASKED, ASKED_WHEN_REFUSED, Machine};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Programs that every document tells about when the host has them.
const PROGRAMS: &[&str] = &[
    "/sbin/apparmor_parser",
    "/sbin/modprobe",
    "/usr/bin/chacl",
    "/usr/bin/chage",
    "/usr/bin/chcon",
    "/usr/bin/chfn",
    "/usr/bin/chsh",
    "/usr/bin/crontab",
    "/usr/bin/gpasswd",
    "/usr/bin/kmod",
    "/usr/bin/mount",
    "/usr/bin/newgrp",
    "/usr/bin/passwd",
    "/usr/bin/setfacl",
    "/usr/bin/ssh-agent",
    "/usr/bin/su",
    "/usr/bin/sudo",
    "/usr/bin/sudoedit",
    "/usr/bin/umount",
    "/usr/lib/openssh/ssh-keysign",
    "/usr/libexec/openssh/ssh-keysign",
    "/usr/sbin/fdisk",
    "/usr/sbin/init",
    "/usr/sbin/pam_timestamp_check",
    "/usr/sbin/postdrop",
    "/usr/sbin/postqueue",
    "/usr/sbin/poweroff",
    "/usr/sbin/reboot",
    "/usr/sbin/semanage",
    "/usr/sbin/setfiles",
    "/usr/sbin/setsebool",
    "/usr/sbin/shutdown",
    "/usr/sbin/unix_chkpwd",
    "/usr/sbin/unix_update",
    "/usr/sbin/userhelper",
    "/usr/sbin/usermod",
];

/// Files and directories that every document tells about.
const FILES: &[&str] = &[
    "/etc/NetworkManager",
    "/etc/apparmor",
    "/etc/apparmor.d",
    "/etc/cron.d",
    "/etc/group",
    "/etc/gshadow",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/issue",
    "/etc/issue.net",
    "/etc/localtime",
    "/etc/network",
    "/etc/networks",
    "/etc/nsswitch.conf",
    "/etc/pam.conf",
    "/etc/pam.d",
    "/etc/passwd",
    "/etc/security/opasswd",
    "/etc/selinux",
    "/etc/shadow",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/sysconfig/network",
    "/etc/sysconfig/network-scripts",
    "/usr/share/selinux",
    "/var/log/audit",
    "/var/log/btmp",
    "/var/log/faillock",
    "/var/log/faillog",
    "/var/log/journal",
    "/var/log/lastlog",
    "/var/log/sudo.log",
    "/var/log/wtmp",
    "/var/run/faillock",
    "/var/run/utmp",
    "/var/spool/cron",
];

/// What `group:networkconfig` is made of; those of one distribution only where they exist.
const NETWORK_CALLS: [&str; 2] = ["sethostname", "setdomainname"];
const NETWORK_FILES: [&str; 3] = ["/etc/hosts", "/etc/issue", "/etc/issue.net"];
const NETWORK_FILES_OF_SOME: [&str; 3] = ["/etc/network", "/etc/networks", "/etc/sysconfig/network"];

/// Entries for things that only this host's rules name.
const MAX_FURTHER: usize = 256;
const MAX_MISSING: usize = 50;

pub struct Facts<'a> {
    pub permanent: &'a Loaded,
    /// What the kernel holds, or why that is not known.
    pub in_effect: &'a Result<(Status, Vec<Rule>), String>,
    pub machine: Machine,
    pub places: &'a HostPlaces<'a>,
}

/// The rules in the files and, when it is known, those in the kernel.
struct Judge<'a> {
    permanent: Coverage<'a>,
    loaded: Option<Coverage<'a>>,
}

/// What both say about one question.
struct Judgement<'a> {
    permanent: Parts,
    loaded: Option<Parts>,
    keys: Vec<&'a str>,
}

impl Judgement<'_> {
    fn parts(&self) -> Parts {
        self.permanent & self.loaded.unwrap_or(Parts::MAX)
    }
}

impl<'a> Judge<'a> {
    fn of(&self, question: Question<'_>, actors: Actors) -> Judgement<'a> {
        let (permanent, keys) = self.permanent.of(question, actors);
        let loaded = self.loaded.as_ref().map(|loaded| loaded.of(question, actors).0);
        Judgement { permanent, loaded, keys }
    }

    /// `{"audited", "keys"}`, and `permanent` and `loaded` when they differ.
    fn entry(&self, question: Question<'_>, actors: Actors, wanted: Parts) -> Map<String, Value> {
        let judgement = self.of(question, actors);
        let is_whole = |parts: Parts| parts & wanted == wanted;
        let mut entry = Map::new();
        entry.insert("audited".into(), is_whole(judgement.parts()).into());
        entry.insert("keys".into(), json!(judgement.keys));
        let loaded = judgement.loaded.map(is_whole);
        if let Some(loaded) = loaded.filter(|loaded| *loaded != is_whole(judgement.permanent)) {
            entry.insert("permanent".into(), is_whole(judgement.permanent).into());
            entry.insert("loaded".into(), loaded.into());
        }
        entry
    }

    fn permissions(&self, path: &Path, actors: Actors, wanted: Parts) -> [Vec<String>; 3] {
        let mut lists = [Vec::new(), Vec::new(), Vec::new()];
        for (name, bit) in PERMISSIONS {
            let judgement = self.of(Question::Access(path, bit), actors);
            let answers = [judgement.parts(), judgement.permanent, judgement.loaded.unwrap_or(judgement.permanent)];
            for (list, parts) in lists.iter_mut().zip(answers) {
                if parts & wanted == wanted {
                    list.push(name.to_string());
                }
            }
        }
        lists
    }
}

impl Facts<'_> {
    pub fn tell(&self, data: &mut Map<String, Value>) {
        let rules = &self.permanent.rules;
        // Without the numbers of the machine's calls the kernel's rules cannot be told apart.
        let in_effect = self.in_effect.as_ref().ok().filter(|_| self.machine.has_numbers());
        let judge = Judge {
            permanent: Coverage::new(rules, self.machine, self.places),
            loaded: in_effect.map(|(_, rules)| Coverage::new(rules, self.machine, self.places)),
        };
        data.insert("rules".into(), rules.len().into());
        data.insert("excluded".into(), json!(excluded(rules)));
        data.insert("kernel".into(), self.kernel());
        self.controls(data);
        self.calls(&judge, data);
        self.programs(&judge, data);
        self.files(&judge, data);
        self.networkconfig(data);
    }

    fn kernel(&self) -> Value {
        match self.in_effect {
            Ok((status, rules)) => json!({
                "enabled": status.enabled,
                "failure": status.failure,
                "auditd_running": status.has_daemon,
                "rate_limit": status.rate_limit,
                "backlog_limit": status.backlog_limit,
                "backlog_wait_time": status.backlog_wait_time,
                "loginuid-immutable": status.is_loginuid_immutable,
                "rules": rules.len(),
            }),
            Err(reason) => json!({ "unknown": reason }),
        }
    }

    fn controls(&self, data: &mut Map<String, Value>) {
        let controls = &self.permanent.controls;
        for (name, value) in [
            ("control:enabled", controls.enabled),
            ("control:failure", controls.failure),
            ("control:backlog_limit", controls.backlog_limit),
            ("control:rate_limit", controls.rate_limit),
            ("control:backlog_wait_time", controls.backlog_wait_time),
        ] {
            data.extend(value.map(|value| (name.to_owned(), value.into())));
        }
        for (name, is_set) in [
            ("control:loginuid-immutable", controls.is_loginuid_immutable),
            ("control:goes_on_after_errors", controls.goes_on_after_errors),
        ] {
            if is_set {
                data.insert(name.into(), true.into());
            }
        }
    }

    fn calls(&self, judge: &Judge<'_>, data: &mut Map<String, Value>) {
        let mut names: BTreeSet<&str> = ASKED.iter().copied().collect();
        let named = self.permanent.rules.iter().filter_map(|rule| match &rule.syscalls {
            Syscalls::Named(names) if rule.place.is_none() => Some(names),
            _ => None,
        });
        let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        names.extend(named.flatten().map(String::as_str).filter(is_name).take(MAX_FURTHER));
        for name in names {
            let interfaces = self.machine.has(name);
            if interfaces == (false, false) {
                continue;
            }
            let mut entry = judge.entry(Question::Syscall(name), Actors::Users, all_of(interfaces));
            let parts = judge.of(Question::Syscall(name), Actors::Users).parts();
            let arch = [("b32", (false, true)), ("b64", (true, false))];
            let covered = arch.iter().filter(|(_, one)| parts & all_of(*one) == all_of(*one)).map(|(name, _)| *name);
            entry.insert("arch".into(), covered.collect::<Vec<_>>().into());
            data.insert(format!("syscall:{name}"), entry.into());
        }
        for name in ASKED_WHEN_REFUSED {
            let interfaces = self.machine.has(name);
            if interfaces != (false, false) {
                let wanted = wanted(interfaces, REFUSED);
                let entry = judge.entry(Question::Syscall(name), Actors::Users, wanted);
                data.insert(format!("syscall:{name}:failed"), entry.into());
            }
        }
        let wanted = all_of(self.machine.interfaces());
        let change = |id, becomes| judge.entry(Question::ChangedId(id, becomes), Actors::LoggedIn, wanted);
        let (user, group) = (change("uid", Becomes::Root), change("gid", Becomes::Root));
        let is_audited = |entry: &Map<String, Value>| entry.get("audited") == Some(&Value::Bool(true));
        data.insert(
            "syscall:execve:euid-change".into(),
            json!({"audited": is_audited(&user) && is_audited(&group), "of_user": user, "of_group": group}),
        );
        data.insert("syscall:execve:user-emulation".into(), change("uid", Becomes::Anybody).into());
    }

    fn programs(&self, judge: &Judge<'_>, data: &mut Map<String, Value>) {
        let wanted = all_of(self.machine.interfaces());
        let privileged = self.places.privileged_programs();
        let further = self.permanent.rules.iter().filter(|rule| rule.permissions.is_some_and(|bits| bits & 1 == 1));
        let further = further.filter_map(|rule| Some(rule.place.as_ref()?.path())).take(MAX_FURTHER);
        let mut missing = Vec::new();
        for path in &privileged {
            let Some(program) = self.places.existing(path) else { continue };
            let judgement = judge.of(Question::Execution(&program), Actors::Users);
            if judgement.parts() & wanted != wanted {
                missing.push(path.as_str());
            }
        }
        let programs: BTreeSet<&str> = PROGRAMS.iter().copied().chain(further).collect();
        for path in programs {
            let Some(program) = self.places.existing(path).filter(|program| !program.is_directory) else { continue };
            let entry = judge.entry(Question::Execution(&program), Actors::Users, wanted);
            data.insert(format!("exec:{path}"), entry.into());
        }
        let listed = &missing[..missing.len().min(MAX_MISSING)];
        data.insert(
            "group:privileged".into(),
            json!({"audited": missing.is_empty(), "programs": privileged.len(), "missing": listed}),
        );
    }

    fn files(&self, judge: &Judge<'_>, data: &mut Map<String, Value>) {
        let wanted = all_of(self.machine.interfaces());
        let further = self.permanent.rules.iter().filter(|rule| rule.permissions.is_none_or(|bits| bits != 1));
        let further = further.filter_map(|rule| Some(rule.place.as_ref()?.path())).take(MAX_FURTHER);
        let further: Vec<String> = further.filter(|path| path.len() > 1).map(|path| path.trim_end_matches('/').to_owned()).collect();
        let files: BTreeSet<&str> = FILES.iter().copied().chain(further.iter().map(String::as_str)).collect();
        for file in files {
            let existing = self.places.existing(file);
            let exists = existing.is_some();
            let path = existing.unwrap_or_else(|| self.places.any(file));
            let [perms, permanent, loaded] = judge.permissions(&path, Actors::Everybody, wanted);
            let [of_users, ..] = judge.permissions(&path, Actors::Users, wanted);
            let keys = judge.of(Question::Access(&path, 2), Actors::Users).keys;
            let mut entry = json!({"perms": perms, "perms_of_users": of_users, "exists": exists, "keys": keys});
            if permanent != loaded {
                entry["permanent"] = json!(permanent);
                entry["loaded"] = json!(loaded);
            }
            data.insert(format!("watch:{file}"), entry);
        }
    }

    /// Made of entries that are there already.
    fn networkconfig(&self, data: &mut Map<String, Value>) {
        let mut missing = Vec::new();
        for name in NETWORK_CALLS {
            let key = format!("syscall:{name}");
            if data.get(&key).is_some_and(|entry| entry["audited"] == false) {
                missing.push(key);
            }
        }
        let present = |path: &&str| data.get(&format!("watch:{path}")).is_some_and(|entry| entry["exists"] == true);
        let files = NETWORK_FILES.into_iter().chain(NETWORK_FILES_OF_SOME.into_iter().filter(present));
        for path in files {
            let key = format!("watch:{path}");
            let perms = data.get(&key).map(|entry| &entry["perms"]);
            let has = |wanted: &str| perms.and_then(Value::as_array).is_some_and(|list| list.contains(&json!(wanted)));
            if !has("w") || !has("a") {
                missing.push(key);
            }
        }
        data.insert("group:networkconfig".into(), json!({"audited": missing.is_empty(), "missing": missing}));
    }
}

/// The record types that are thrown away: `-a always,exclude -F msgtype=...`; `never` means the same there.
fn excluded(rules: &[Rule]) -> Vec<&str> {
    let conditions = rules.iter().filter(|rule| rule.list == List::Exclude).flat_map(|rule| &rule.conditions);
    let types = conditions.filter(|condition| condition.field == "msgtype" && condition.operator == "=");
    let names: BTreeSet<&str> = types.map(|condition| condition.value.as_str()).collect();
    names.into_iter().take(MAX_FURTHER).collect()
}

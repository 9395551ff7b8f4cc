//! Who has an account: `/etc/passwd`, `/etc/shadow`, `/etc/group`, `/etc/gshadow`, `/etc/shells`, see passwd(5),
//! shadow(5), group(5), gshadow(5), shells(5). No password hash is ever part of it.
//!
//! - `passwd`: a list of `{"name", "uid", "gid", "home", "shell", "password"}` in the order of the file. `password` is
//!   `x` (in the shadow file), `empty`, `locked`, `set` (a hash that everybody can read) or `unusable`. `home` is left
//!   out when the field is empty. `interactive`: a person (`UID_MIN` of login.defs or more, not nobody, with a shell);
//!   `system`: any other account but root; `login_shell`: the shell is none that ends at once (nologin, false, ...);
//!   `valid_shell`: it is one of `/etc/shells` too. `home_exists` for people whose home is on this machine;
//!   `same_uid` names the others with the same uid.
//! - `shadow`: `{"name", "password", "locked", "hash", "last_change", "last_change_in_future", "min_days", "max_days",
//!   "warn_days", "inactive_days", "expire_date", "expired"}` with `password` as above and `hash` the name of the
//!   algorithm (`yescrypt`, `sha512`, `sha256`, `md5`, `des`, ...); what the file does not say is left out. `system`,
//!   `interactive` and `valid_shell` are those of the account.
//! - `group`: `{"name", "gid", "members", "member_count", "primary_count"}`; the last counts accounts whose first group
//!   it is. `system_members`, where there are any, are those of `members` that are system accounts. `gshadow`: `{"name", "password"}`.
//! - `shells`: the lines of `/etc/shells`. `root`: name, uid, gid, shell, password, locked and hash of root in one
//!   object. `uid_zero`, `gid_zero_users`, `gid_zero_groups`: names. `su_group`: the group to which su is restricted by
//!   pam_wheel, `{"name", "exists", "member_count"}`, absent when it is not. `nis`: the files with lines for NIS.
//!
//! Accounts that come from LDAP, sssd or NIS are in none of these files, and not here.
//!
//! ```json
//! {"passwd": [{"name": "ann", "uid": 1000, "gid": 1000, "home": "/home/ann", "shell": "/bin/bash", "password": "x",
//!              "interactive": true, "system": false, "login_shell": true, "valid_shell": true, "home_exists": true}],
//!  "shadow": [{"name": "ann", "password": "set", "locked": false, "hash": "yescrypt", "last_change": "2026-01-31",
//!              "last_change_in_future": false, "min_days": 0, "max_days": 99999, "warn_days": 7}],
//!  "uid_zero": ["root"], "nis": []}
//! ```

use crate::parse::ownership::first_number_of_people;
use crate::parse::shadow::{self, Shadow, State, date};
use crate::parse::users::{self, Homes, LINE_BYTES, MAX_BYTES, User, id, is_name};
use crate::parse::{self, Errors, Files, pam_stack};
use crate::{
    Collected, Discovery, Host, Instance, Kind, Parameters, Schedule, Trigger, documentation, no_graph,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub static DISCOVERY: Discovery = Discovery {
    name: "accounts",
    description: "Accounts, groups and the state of passwords",
    documentation: documentation::ACCOUNTS,
    parameters: &[],
    instances: &[Instance { name: "_init_accounts", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const PASSWD: &str = "/etc/passwd";
/// Homes that are looked at; of further people `home_exists` is not told.
const MAX_HOMES: usize = 5000;
const SECONDS_A_DAY: u64 = 86_400;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let today = now.map_or(0, |since| i64::try_from(since.as_secs() / SECONDS_A_DAY).unwrap_or(i64::MAX));
    let homes = Homes::of(host);
    let home_exists = |home: &str| {
        if homes.are_elsewhere(home) {
            return None;
        }
        match host.stat(home) {
            Ok(attributes) => Some(attributes.kind == Kind::Directory),
            Err(error) => error.is_missing().then_some(false),
        }
    };
    parse::collected(read(host, today, home_exists))
}

/// `today` in days since 1970-01-01; `home_exists` gives `None` where that cannot be told.
fn read(files: &dyn Files, today: i64, home_exists: impl Fn(&str) -> Option<bool>) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let text = match files.text(PASSWD) {
        Ok(text) => text,
        Err(reason) => {
            errors.unread(&reason);
            return (parse::no_data(PASSWD), errors.into_list());
        }
    };
    let (users, nis) = users::parse(&text, PASSWD, &mut errors);
    drop(text);
    let mut nis_files = if nis > 0 { vec![PASSWD] } else { Vec::new() };
    let mut optional = |path: &str| match files.text(path) {
        Ok(text) => Some(text),
        Err(reason) => {
            if !reason.absent {
                errors.unread(&reason);
            }
            None
        }
    };
    let (shadow, group, gshadow, shells) =
        (optional("/etc/shadow"), optional("/etc/group"), optional("/etc/gshadow"), optional("/etc/shells"));
    let shells = shells.map(|text| shells_of(&text, &mut errors));
    let uid_min = i64::from(first_number_of_people(files, "UID_MIN"));
    let kinds = Kinds { uid_min, shells: shells.as_deref() };

    let mut data = Map::new();
    data.insert("passwd".into(), passwd(&users, &kinds, &home_exists));
    let names = |keep: fn(&User) -> bool| {
        users.iter().filter(|user| keep(user)).map(|user| user.name.as_str()).collect::<Vec<_>>()
    };
    data.insert("uid_zero".into(), json!(names(|user| user.uid == 0)));
    data.insert("gid_zero_users".into(), json!(names(|user| user.gid == 0)));
    let mut root = Map::new();
    if let Some(user) = users.iter().find(|user| user.name == "root") {
        let password = State::of(&user.secret).name();
        root = Map::from_iter(
            [
                ("name", json!("root")),
                ("uid", json!(user.uid)),
                ("gid", json!(user.gid)),
                ("shell", json!(user.shell)),
                ("password", json!(password)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
    }
    if let Some(text) = shadow {
        let (entries, nis) = shadow::parse(&text, "/etc/shadow", &mut errors);
        if nis > 0 {
            nis_files.push("/etc/shadow");
        }
        if let Some(entry) = entries.iter().find(|entry| entry.name == "root") {
            root.insert("password".into(), json!(entry.state.name()));
            root.insert("locked".into(), json!(entry.state == State::Locked));
            if let Some(hash) = entry.algorithm {
                root.insert("hash".into(), json!(hash));
            }
        }
        let accounts: BTreeMap<&str, &User> =
            users.iter().rev().map(|user| (user.name.as_str(), user)).collect();
        let entries = entries
            .iter()
            .map(|entry| shadow_entry(entry, accounts.get(entry.name.as_str()).copied(), &kinds, today));
        data.insert("shadow".into(), entries.collect());
    }
    data.insert("root".into(), Value::Object(root));
    let mut groups = Vec::new();
    if let Some(text) = group {
        let nis;
        (groups, nis) = groups_of(&text, "/etc/group", &mut errors);
        if nis {
            nis_files.push("/etc/group");
        }
        let zero: Vec<&str> =
            groups.iter().filter(|group| group.gid == 0).map(|group| group.name.as_str()).collect();
        data.insert("gid_zero_groups".into(), json!(zero));
        let mut primary: BTreeMap<i64, usize> = BTreeMap::new();
        users.iter().for_each(|user| *primary.entry(user.gid).or_default() += 1);
        let system: BTreeSet<&str> = users
            .iter()
            .filter(|user| user.is_system(kinds.uid_min))
            .map(|user| user.name.as_str())
            .collect();
        let entries = groups.iter().map(|group| {
            let mut entry = json!({"name": group.name, "gid": group.gid, "members": group.members,
                "member_count": group.members.len(), "primary_count": primary.get(&group.gid).copied().unwrap_or(0)});
            let members = group.members.iter().filter(|name| system.contains(name.as_str()));
            let members: Vec<&str> = members.map(String::as_str).take(100).collect();
            if !members.is_empty() {
                entry["system_members"] = json!(members);
            }
            entry
        });
        data.insert("group".into(), entries.collect());
    }
    if let Some(text) = gshadow {
        let (entries, nis) = gshadow_of(&text, "/etc/gshadow", &mut errors);
        if nis {
            nis_files.push("/etc/gshadow");
        }
        data.insert("gshadow".into(), entries);
    }
    if let Some(shells) = &shells {
        data.insert("shells".into(), json!(shells));
    }
    if let Some(name) = su_group(files) {
        let mut group = json!({"name": name, "exists": false});
        if let Some(found) = groups.iter().find(|group| group.name == name) {
            group["exists"] = Value::Bool(true);
            group["member_count"] = json!(found.members.len());
        }
        data.insert("su_group".into(), group);
    }
    data.insert("nis".into(), json!(nis_files));
    (Value::Object(data), errors.into_list())
}

/// What tells accounts apart.
struct Kinds<'a> {
    uid_min: i64,
    shells: Option<&'a [String]>,
}

impl Kinds<'_> {
    fn has_valid_shell(&self, user: &User) -> bool {
        // getusershell(3) knows these two where there is no file.
        let listed = match self.shells {
            Some(shells) => shells.contains(&user.shell),
            None => ["/bin/sh", "/bin/csh"].contains(&user.shell.as_str()),
        };
        listed && user.has_shell()
    }
}

fn passwd(users: &[User], kinds: &Kinds<'_>, home_exists: &impl Fn(&str) -> Option<bool>) -> Value {
    let mut of_uid: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    users.iter().for_each(|user| of_uid.entry(user.uid).or_default().push(&user.name));
    let mut looked_at = 0;
    let entries = users.iter().map(|user| {
        let interactive = user.is_interactive(kinds.uid_min);
        let mut entry = json!({
            "name": user.name, "uid": user.uid, "gid": user.gid, "shell": short(&user.shell),
            "password": State::of(&user.secret).name(), "interactive": interactive,
            "system": user.is_system(kinds.uid_min), "login_shell": user.has_shell(),
            "valid_shell": kinds.has_valid_shell(user),
        });
        if !user.home.is_empty() {
            entry["home"] = Value::from(short(&user.home));
        }
        if interactive && user.home.starts_with('/') && looked_at < MAX_HOMES {
            looked_at += 1;
            if let Some(exists) = home_exists(&user.home) {
                entry["home_exists"] = Value::Bool(exists);
            }
        }
        if let Some(names) = of_uid.get(&user.uid).filter(|names| names.len() > 1) {
            let others = names.iter().filter(|name| **name != user.name).take(10);
            entry["same_uid"] = others.copied().collect();
        }
        entry
    });
    entries.collect()
}

fn shadow_entry(entry: &Shadow, user: Option<&User>, kinds: &Kinds<'_>, today: i64) -> Value {
    let mut object =
        json!({"name": entry.name, "password": entry.state.name(), "locked": entry.state == State::Locked});
    if let Some(hash) = entry.algorithm {
        object["hash"] = Value::from(hash);
    }
    if let Some(days) = entry.last_change {
        object["last_change"] = Value::from(date(days));
        object["last_change_in_future"] = Value::Bool(days > today);
    }
    if let Some(days) = entry.expire.filter(|days| *days >= 0) {
        object["expire_date"] = Value::from(date(days));
        object["expired"] = Value::Bool(days <= today);
    }
    let numbers = [
        ("min_days", entry.min_days),
        ("max_days", entry.max_days),
        ("warn_days", entry.warn_days),
        ("inactive_days", entry.inactive_days),
    ];
    for (name, days) in numbers {
        if let Some(days) = days {
            object[name] = Value::from(days);
        }
    }
    if let Some(user) = user {
        object["system"] = Value::Bool(user.is_system(kinds.uid_min));
        object["interactive"] = Value::Bool(user.is_interactive(kinds.uid_min));
        object["valid_shell"] = Value::Bool(kinds.has_valid_shell(user));
    }
    object
}

struct Group {
    name: String,
    gid: i64,
    members: Vec<String>,
}

fn groups_of(text: &str, file: &str, errors: &mut Errors) -> (Vec<Group>, bool) {
    let mut groups = Vec::new();
    let mut nis = false;
    let mut bytes = 0;
    for (number, line) in parse::lines(text, file, errors) {
        if line.starts_with('#') {
            continue;
        }
        if line.starts_with(['+', '-']) {
            nis = true;
            continue;
        }
        let fields: Vec<&str> = line.splitn(5, ':').collect();
        let [name, _, gid, members] = fields.as_slice() else {
            errors.at(file, number, format_args!("{} fields, a group has 4", fields.len()));
            continue;
        };
        let (Some(gid), true) = (id(gid), is_name(name)) else {
            errors.at(file, number, "name or group id is not one");
            continue;
        };
        // A name of one letter takes four bytes in a document.
        bytes += line.len() * 2 + LINE_BYTES;
        if bytes > MAX_BYTES {
            errors.at(file, number, "too many groups and members, the rest is left out");
            break;
        }
        let members = members.split(',').map(str::trim).filter(|name| is_name(name)).map(str::to_owned);
        groups.push(Group { name: (*name).to_owned(), gid, members: members.collect() });
    }
    (groups, nis)
}

fn gshadow_of(text: &str, file: &str, errors: &mut Errors) -> (Value, bool) {
    let mut entries = Vec::new();
    let mut nis = false;
    let mut bytes = 0;
    for (number, line) in parse::lines(text, file, errors) {
        if line.starts_with('#') {
            continue;
        }
        if line.starts_with(['+', '-']) {
            nis = true;
            continue;
        }
        let mut fields = line.splitn(3, ':');
        let (Some(name), Some(password), true) = (fields.next(), fields.next(), fields.next().is_some())
        else {
            errors.at(file, number, "not a name, a password and lists of people");
            continue;
        };
        if !is_name(name) {
            errors.at(file, number, "the name is not one");
            continue;
        }
        bytes += name.len() + LINE_BYTES;
        if bytes > MAX_BYTES {
            errors.at(file, number, "too many groups, the rest is left out");
            break;
        }
        entries.push(json!({"name": name, "password": State::of(password).name()}));
    }
    (Value::Array(entries), nis)
}

/// The lines of /etc/shells, each once.
fn shells_of(text: &str, errors: &mut Errors) -> Vec<String> {
    const MAX_SHELLS: usize = 1000;
    let mut seen = BTreeSet::new();
    let mut shells = Vec::new();
    for (number, line) in parse::lines(text, "/etc/shells", errors) {
        let shell = parse::cut_at_hash(line).trim();
        if shell.is_empty() {
            continue;
        }
        if !shell.starts_with('/') || shell.len() > 1024 {
            errors.at(
                "/etc/shells",
                number,
                format_args!("{} is not an absolute path", parse::quoted(shell)),
            );
        } else if shells.len() == MAX_SHELLS {
            errors.at(
                "/etc/shells",
                number,
                format_args!("more than {MAX_SHELLS} shells, the rest is left out"),
            );
            break;
        } else if seen.insert(shell) {
            shells.push(shell.to_owned());
        }
    }
    shells
}

/// The argument `group` of pam_wheel in the stack of su.
fn su_group(files: &dyn Files) -> Option<String> {
    let mut stacks = pam_stack::Stacks::new(files, "/etc/pam.d");
    let lines = pam_stack::arguments(&mut stacks, &["su"], "auth", "pam_wheel.so");
    lines.iter().find_map(|(_, arguments)| arguments.get("group")?.as_str().map(str::to_owned))
}

/// A path as it may stand in the data.
fn short(path: &str) -> String {
    path.chars().take(1024).collect()
}

#[cfg(test)]
#[path = "accounts/tests.rs"]
mod tests;

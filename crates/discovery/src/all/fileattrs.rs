//! Owners and permissions of files: what stat(1), getfacl(1) and getfattr(1) show.
//!
//! `data` = path → object. Missing files are absent. A name of the list may be
//! - a path; with `/` at the end (other than `/` itself) the directory and its direct children, a symlink to a directory
//!   followed then;
//! - several paths by choices, `/etc/{passwd,group}{,-}`;
//! - a pattern, `/etc/ssh/*_key`, `/var/log/**`: `*` stays within a name and matches no hidden one, `**` crosses
//!   directories and follows no symlink.
//!
//! | field | value |
//! |---|---|
//! | `owner`, `group` | name by /etc/passwd and /etc/group of the host, else the number as text |
//! | `type` | `-` `d` `l` `c` `b` `s` `p`, as in ls -l |
//! | `octal` | text, `"0644"`, `"04755"` |
//! | `perms` | `{"owner":{read,write,exec,setid},"group":{same},"other":{read,write,exec},"sticky"}`, all boolean |
//! | `perms.ACL`, `perms.defaultACL` | acl(5): `[{"user:bob":{read,write,exec}}]`; also `group:<name>`, `group:` (the owning group, whose rights `perms.group` cannot tell then) and `mask:` |
//! | `security:selinux` | `{user,role,type,level}` |
//! | `<namespace>:<name>` | other extended attributes (xattr(7)): text, or `0x` and hexadecimal digits |
//! | `same_as` | of a symlink to a directory whose content another list has: that directory |
//! | `name` | in a list with `alike` instead of `perms` and attributes: the last component |
//! | `role`, `log_group` | of auditd's logs: `log_dir` or `log_file`; the group that auditd.conf gives them to |
//!
//! Parameters: `ASSIM_filelist`, blank-separated. `from` takes the names from a configuration instead: `auditd_conf` the
//! directory of `log_file` in /etc/audit/auditd.conf, `rsyslog_conf` the files that rsyslog writes (`NODATA` without the
//! program). `alike`: of things that are alike (directory, kind, owner, group, mode, whether the name is that of a
//! record of logins), a pattern gives only the first so many, so that a statement over all of them stays exact and the
//! document short. Nothing that such a list names and no log triggers a run: they change all the time. `once` = `yes`:
//! behind a symlink to a directory nothing is listed that another list of every host has (`/bin` and `/usr/bin`).
//! What is mounted over a network is left alone, since a dead server never answers.
//! ```json
//! {"/etc/shadow":{"owner":"root","group":"shadow","type":"-","octal":"0640","perms":{"owner":{"read":true,"write":true,
//!  "exec":false,"setid":false},"group":{"read":true,"write":false,"exec":false,"setid":false},
//!  "other":{"read":false,"write":false,"exec":false},"sticky":false}}}
//! ```

use crate::host::{Barriers, Limits, Next, Visited};
use crate::parse::mount_points;
use crate::parse::ownership::{Names, Samples};
use crate::{
    Attributes, Collected, Directory, Discovery, Host, Instance, Kind, Parameter, Parameters, Schedule,
    Trigger, documentation, no_graph,
};
use patterns::{Name, Pattern};
use serde_json::{Map, Value, json};
use std::ffi::CStr;
use std::time::{Duration, Instant};
use xattrs::{AclEntry, AclTag, parse_acl, selinux, xattr_text};

#[path = "fileattrs/patterns.rs"]
mod patterns;
#[path = "fileattrs/sources.rs"]
mod sources;
#[path = "fileattrs/xattrs.rs"]
mod xattrs;

pub static DISCOVERY: Discovery = Discovery {
    name: "fileattrs",
    description: "Owners and permissions of files",
    documentation: documentation::FILEATTRS,
    parameters: &[
        Parameter {
            name: FILELIST,
            meaning: "Files, separated by blanks; a directory with / at the end includes its direct children; \
                      {a,b}, *, ** are understood",
            default: "/ /etc /lib /usr/ /var/ /run /run/lock /run/user /bin /sbin /usr/local/",
        },
        Parameter {
            name: FROM,
            meaning: "auditd_conf: auditd's logs, rsyslog_conf: rsyslog's logs, instead of a list",
            default: "",
        },
        Parameter {
            name: ALIKE,
            meaning: "Of files alike in one directory a pattern gives only so many; 0: all",
            default: "0",
        },
        Parameter {
            name: ONCE,
            meaning: "yes: what another list of every host has is not listed again behind a symlink",
            default: "",
        },
    ],
    instances: &[
        list("bin_fileattrs", &[(FILELIST, "/bin/ /sbin/"), (ONCE, "yes")]),
        list("lib64_fileattrs", &[(FILELIST, "/lib64 /lib/x86_64-linux-gnu/"), (ONCE, "yes")]),
        list("libmodules_fileattrs", &[(FILELIST, "/lib/modules/")]),
        list("lib_fileattrs", &[(FILELIST, "/lib/ /lib/i386-linux-gnu/"), (ONCE, "yes")]),
        list("usrlib64_fileattrs", &[(FILELIST, "/usr/lib64/ /usr/lib/x86_64-linux-gnu/"), (ONCE, "yes")]),
        list("usrlib_fileattrs", &[(FILELIST, "/usr/lib/ /usr/lib/i386-linux-gnu/")]),
        list("usr_bin_fileattrs", &[(FILELIST, "/usr/bin/ /usr/sbin/"), (ONCE, "yes")]),
        list("usr_local_fileattrs", &[(FILELIST, "/usr/local/bin/ /usr/local/sbin/ /usr/local/lib/")]),
        Instance {
            name: "sysfile_fileattrs",
            parameters: &[(
                FILELIST,
                "/ /etc/audit/ /etc/bash.bashrc /etc/bashrc /etc/bash_completion /etc/bash_completion.d/ \
                 /etc/default/grub /etc/group /etc/grub.conf /etc/grub.d/ /etc/gshadow /etc/init.d/ /etc/login.defs \
                 /etc/passwd /etc/profile /etc/profile.d/ /etc/csh.cshrc /etc/selinux/ /etc/shadow /usr/ /usr/local/ /var/ \
                 /etc/{passwd,group,shadow,gshadow}- /etc/security/opasswd{,.old} /etc/{issue,issue.net,motd,shells} \
                 /etc/{at,cron}.{allow,deny} /etc/crontab /etc/cron.{d,hourly,daily,weekly,monthly} \
                 /etc/audit/rules.d/*.rules /etc/ssh /etc/ssh/*.pub /etc/ssh/*_key /etc/ssh/sshd_config \
                 /etc/ssh/sshd_config.d/ /boot/grub/grub.cfg /boot/grub2/{grub,user}.cfg \
                 /usr/bin/{journalctl,at,crontab} /usr/sbin/{atd,cron,crond} \
                 /sbin/{auditctl,aureport,ausearch,autrace,auditd,audispd,augenrules} \
                 /sbin/{audisp-syslog,audisp-remote,audispd-zos-remote,rsyslogd} /var/log",
            )],
            schedule: Some(FILES),
        },
        Instance {
            name: "log_fileattrs",
            parameters: &[
                (
                    FILELIST,
                    // The particular ones first, so that each of them is represented.
                    "/var/log /var/log/{auth.log,messages,secure,syslog} /var/log/{b,w}tmp* /var/log/lastlog* \
                     /var/log/{cloud-init.log,localmessages,secure,waagent.log}* /var/log/apt/* /var/log/**/*.journal \
                     /var/log/** /run/log/journal /run/log/journal/**",
                ),
                (ALIKE, "20"),
            ],
            schedule: Some(SLOW),
        },
        Instance { name: "auditd_fileattrs", parameters: &[(FROM, AUDITD_CONF)], schedule: Some(FILES) },
        Instance { name: "rsyslog_fileattrs", parameters: &[(FROM, RSYSLOG_CONF)], schedule: Some(FILES) },
    ],
    schedule: Schedule::DEFAULT,
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILELIST: &str = "ASSIM_filelist";
const FROM: &str = "from";
const AUDITD_CONF: &str = "auditd_conf";
const RSYSLOG_CONF: &str = "rsyslog_conf";
const ALIKE: &str = "alike";
const ONCE: &str = "once";
/// With about 400 bytes each, what fits a document.
const MAX_FILES: usize = 30_000;
/// In a list with `alike`: classes after which the directory no longer makes a difference, and most of them.
const MANY_CLASSES: usize = 500;
const MAX_CLASSES: usize = 2_000;
/// Of the paths that one pattern with `**` gives; an eighth of it where those alike are represented.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// What one pattern with `**` may look at.
const MAX_WALKED: u64 = 200_000;
const MAX_WALK_SECONDS: u64 = 20;
const MAX_ERRORS: usize = 20;

/// The lists of program directories change with packages only, and inotify sees every change of mode or owner in
/// a watched directory; their repetition is for what inotify cannot see (network file systems, lost events) and
/// may be slow, because they are by far the longest.
const SLOW: Schedule = Schedule { repeat_seconds: 900, ..Schedule::DEFAULT };
const FILES: Schedule = Schedule { repeat_seconds: 300, ..Schedule::DEFAULT };

const fn list(name: &'static str, parameters: &'static [(&'static str, &'static str)]) -> Instance {
    Instance { name, parameters, schedule: Some(SLOW) }
}

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    let mut errors = Vec::new();
    let get = |name: &str| parameters.get(name).map_or("", String::as_str);
    let names = Names::of(host, &mut errors);
    let barriers = mount_points::barriers(host, &mount_points::current());
    let alike = get(ALIKE).trim().parse().unwrap_or_default();
    let once = get(ONCE) == "yes";
    let mut files = Files { host, names, barriers, alike, once, data: Map::new(), errors };
    match get(FROM) {
        AUDITD_CONF => files.audit_log(),
        RSYSLOG_CONF => files.rsyslog(),
        _ => get(FILELIST).split_ascii_whitespace().for_each(|word| files.word(word)),
    }
    files.finish()
}

struct Files<'a> {
    host: &'a Host,
    names: Names,
    barriers: Barriers,
    /// 0: everything is listed and recorded for watching.
    alike: usize,
    once: bool,
    data: Map<String, Value>,
    errors: Vec<String>,
}

/// What files alike have in common: directory, record of logins, kind, owner, group, mode.
type Class = (String, bool, Kind, u32, u32, u32);

impl Files<'_> {
    /// One word of the list.
    fn word(&mut self, word: &str) {
        let names = match patterns::names(word) {
            Ok(names) => names,
            Err(why) => return self.problem(why),
        };
        for name in names {
            match name {
                Name::Plain(name) => self.name(&name),
                Name::Pattern(pattern) => self.pattern(&pattern),
            }
        }
    }

    /// A path, `/` at the end for its children too.
    fn name(&mut self, name: &str) {
        let path = match name.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        let wants_children = name.len() > 1 && name.ends_with('/');
        if self.barriers.hides(&self.host.path_outside(path)) {
            return;
        }
        if self.alike > 0 {
            match self.host.lstat_unrecorded(path) {
                Ok(attributes) => self.add_brief(path.to_owned(), attributes),
                Err(error) => self.unless_missing(&error),
            }
            return;
        }
        let attributes = match self.host.entry_of(path) {
            Ok((parent, entry)) => match parent.lstat(&entry) {
                Ok(attributes) => {
                    self.add(path.to_owned(), &parent, &entry, attributes);
                    attributes
                }
                Err(error) => return self.unless_missing(&error),
            },
            Err(error) => return self.unless_missing(&error),
        };
        let may_have_children = matches!(attributes.kind, Kind::Directory | Kind::Symlink);
        if wants_children && may_have_children {
            if attributes.kind == Kind::Symlink && self.once && self.is_listed_elsewhere(path) {
                return;
            }
            match self.host.directory(path) {
                Ok(directory) => self.children(path, &directory),
                Err(error) if attributes.kind == Kind::Directory => self.unless_missing(&error),
                // A symlink to nothing or to a file has no children.
                Err(_) => {}
            }
        }
    }

    /// Whether the directory that the symlink leads to is in a list of every host; then the entry tells which.
    fn is_listed_elsewhere(&mut self, path: &str) -> bool {
        let Ok(target) = self.host.read_link(path) else { return false };
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let target = if target.starts_with('/') { target } else { format!("{parent}/{target}") };
        let target = target.trim_end_matches('/');
        let lists = DISCOVERY.instances.iter().flat_map(|instance| instance.parameters);
        let listed = lists
            .filter(|(name, _)| *name == FILELIST)
            .flat_map(|(_, list)| list.split_ascii_whitespace())
            .any(|word| word.strip_suffix('/') == Some(target) && target != path);
        if let (true, Some(entry)) = (listed, self.data.get_mut(path)) {
            entry["same_as"] = target.into();
        }
        listed
    }

    fn pattern(&mut self, pattern: &Pattern) {
        let (start, parts) = pattern.split();
        if self.barriers.hides(&self.host.path_outside(&start)) {
            return;
        }
        if self.alike > 0 || patterns::crosses(parts) {
            self.walk(&start, parts);
        } else {
            self.members(&start, parts);
        }
    }

    /// What matches below a directory, level by level; the directories are watched.
    fn members(&mut self, directory: &str, parts: &[String]) {
        let Some((first, rest)) = parts.split_first() else { return };
        let found = self.host.directory(directory).and_then(|open| Ok((open.entries()?, open)));
        let (entries, directory) = match found {
            Ok(found) => found,
            Err(error) => return self.unless_no_directory(&error),
        };
        for entry in entries.iter().filter(|entry| crate::parse::matches(first, &entry.name())) {
            let path = directory.path_of(entry.raw());
            if self.barriers.hides(&self.host.path_outside(&path)) {
                continue;
            }
            if !rest.is_empty() {
                self.members(&path, rest);
            } else if let Ok(attributes) = directory.lstat(entry.raw()) {
                if !self.has_room(&path) {
                    return;
                }
                self.add(path, &directory, entry.raw(), attributes);
            }
        }
    }

    /// What matches below a directory at any depth; nothing is watched.
    fn walk(&mut self, start: &str, parts: &[String]) {
        let (alike, max_bytes) =
            if self.alike == 0 { (MAX_FILES, MAX_BYTES) } else { (self.alike, MAX_BYTES / 8) };
        let mut samples: Samples<Class> = Samples::new(MAX_CLASSES, max_bytes);
        let root_depth = start.split('/').filter(|part| !part.is_empty()).count();
        let crosses = patterns::crosses(parts);
        let mut visit = |visited: &Visited<'_>| {
            let path = visited.path();
            let components: Vec<&str> =
                path.split('/').filter(|part| !part.is_empty()).skip(root_depth).collect();
            if patterns::fits(parts, &components)
                && let Some(attributes) = visited.attributes()
            {
                let name = components.last().copied().unwrap_or_default();
                let directory = if samples.classes() < MANY_CLASSES {
                    path[..path.len() - name.len()].to_owned()
                } else {
                    String::new()
                };
                let Attributes { kind, uid, gid, mode, .. } = attributes;
                let class = (directory, is_login_record(name), kind, uid, gid, mode);
                samples.add(class, path, alike);
            }
            if crosses || visited.depth < parts.len() { Next::Go } else { Next::Skip }
        };
        let deadline = Instant::now() + Duration::from_secs(MAX_WALK_SECONDS);
        let limits = Limits { deadline, max_entries: MAX_WALKED };
        match self.host.walk(start, &self.barriers, limits, &mut visit) {
            Ok(outcome) => outcome.problems.into_iter().for_each(|problem| self.problem(problem)),
            Err(error) => return self.unless_no_directory(&error),
        }
        if samples.is_cut() {
            self.problem(format!("{start}: more than {MAX_CLASSES} kinds of files: the rest was left out"));
        }
        for ((_, _, kind, uid, gid, mode), paths) in samples.into_classes() {
            let attributes = Attributes { kind, mode, uid, gid, size_bytes: 0 };
            for path in paths {
                if !self.has_room(&path) {
                    return;
                }
                self.add_walked(path, attributes);
            }
        }
    }

    fn add_walked(&mut self, path: String, attributes: Attributes) {
        if self.alike == 0 {
            self.name(&path);
        }
        // Also for a name that is not UTF-8, which cannot be asked for by its text.
        if !self.data.contains_key(&path) {
            self.add_brief(path, attributes);
        }
    }

    fn add_brief(&mut self, path: String, attributes: Attributes) {
        let mut fields = self.names.entry(attributes);
        let name = path.rsplit('/').next().unwrap_or_default();
        fields.insert("name".into(), name.into());
        self.data.insert(path, Value::Object(fields));
    }

    /// The directory of the log and what is in it, unwatched because the log grows all the time.
    fn audit_log(&mut self) {
        let log = sources::audit_log(self.host, &mut self.errors);
        self.name(&log.directory);
        let directory = log.directory.trim_end_matches('/');
        match self.host.directory_unrecorded(&log.directory) {
            Ok(open) if log.directory != "/" => self.children(directory, &open),
            Ok(_) => {}
            Err(error) => self.unless_missing(&error),
        }
        if self.data.is_empty() && !log.configured {
            self.data.insert(
                "NODATA".into(),
                "auditd is not installed: there is neither /etc/audit/auditd.conf nor the directory of its log".into(),
            );
            return;
        }
        for (path, entry) in &mut self.data {
            let role = match path.strip_prefix(directory).map(|rest| rest.trim_start_matches('/')) {
                Some("") => Some("log_dir"),
                Some(name) if name.starts_with(&log.name) => Some("log_file"),
                _ => None,
            };
            if let Some(role) = role {
                entry["role"] = role.into();
            }
            entry["log_group"] = log.group.as_str().into();
        }
    }

    fn rsyslog(&mut self) {
        let Some(paths) = sources::rsyslog_files(self.host, &mut self.errors) else {
            let why = "rsyslog is not installed: there is no /etc/rsyslog.conf";
            self.data.insert("NODATA".into(), why.into());
            return;
        };
        for path in paths {
            // A link may lead anywhere; rsyslog does not make any.
            if !self.barriers.hides(&self.host.path_outside(&path))
                && self.host.lstat_unrecorded(&path).is_ok_and(|found| found.kind == Kind::Regular)
            {
                self.name_unrecorded(&path);
            }
        }
    }

    /// A log changes all the time: it is not watched.
    fn name_unrecorded(&mut self, path: &str) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let name = std::ffi::CString::new(name);
        if let (Ok(directory), Ok(name)) = (self.host.directory_unrecorded(parent), name)
            && let Ok(attributes) = directory.lstat(&name)
        {
            self.add(path.to_owned(), &directory, &name, attributes);
        }
    }

    fn children(&mut self, path: &str, directory: &Directory<'_>) {
        let entries = match directory.entries() {
            Ok(entries) => entries,
            Err(error) => return self.problem(error.to_string()),
        };
        for entry in &entries {
            if !self.has_room(path) {
                return;
            }
            let child = directory.path_of(entry.raw());
            // What vanished since it was listed is absent, as if we had come a moment later.
            if !self.barriers.hides(&self.host.path_outside(&child))
                && let Ok(attributes) = directory.lstat(entry.raw())
            {
                self.add(child, directory, entry.raw(), attributes);
            }
        }
    }

    fn has_room(&mut self, path: &str) -> bool {
        let has = self.data.len() < MAX_FILES;
        if !has {
            self.problem(format!("{path}: more than {MAX_FILES} files in this list: split the list"));
        }
        has
    }

    fn add(&mut self, path: String, directory: &Directory<'_>, name: &CStr, attributes: Attributes) {
        let mut fields = self.names.entry(attributes);
        let mut perms = permissions(attributes.mode);
        for (attribute, value) in directory.xattrs(name) {
            match attribute.as_str() {
                "system.posix_acl_access" | "system.posix_acl_default" => {
                    let field = if attribute.ends_with("default") { "defaultACL" } else { "ACL" };
                    match parse_acl(&value) {
                        Some(entries) => {
                            perms.insert(field.into(), self.acl(&entries));
                        }
                        None => self.problem(format!(
                            "{path}: its access control list cannot be understood: see getfacl(1)"
                        )),
                    }
                }
                "security.selinux" => {
                    fields.insert("security:selinux".into(), selinux(&value));
                }
                other if ["security.", "user.", "trusted."].iter().any(|space| other.starts_with(space)) => {
                    fields.insert(other.replacen('.', ":", 1), xattr_text(&value).into());
                }
                _ => {}
            }
        }
        fields.insert("perms".into(), Value::Object(perms));
        self.data.insert(path, Value::Object(fields));
    }

    fn acl(&self, entries: &[AclEntry]) -> Value {
        let named = entries.iter().filter_map(|entry| {
            let who = match entry.tag {
                AclTag::User => format!("user:{}", self.names.user(entry.id)),
                AclTag::Group => format!("group:{}", self.names.group(entry.id)),
                AclTag::OwningGroup => "group:".into(),
                AclTag::Mask => "mask:".into(),
                // Owner and others are what the mode says.
                AclTag::Owner | AclTag::Other => return None,
            };
            Some(json!({who: rights(u32::from(entry.rights))}))
        });
        named.collect()
    }

    fn unless_missing(&mut self, error: &crate::ReadError) {
        if !error.is_missing() {
            self.problem(error.to_string());
        }
    }

    /// For patterns: where there is no directory, nothing matches.
    fn unless_no_directory(&mut self, error: &crate::ReadError) {
        if !matches!(error.problem(), crate::Problem::NotADirectory) {
            self.unless_missing(error);
        }
    }

    fn problem(&mut self, text: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(text);
        }
    }

    fn finish(self) -> Collected {
        Collected { data: Value::Object(self.data), errors: self.errors, extras: Map::new() }
    }
}

/// utmp(5), lastlog(8): written by every login, and therefore open to a group of its own.
fn is_login_record(name: &str) -> bool {
    ["lastlog", "wtmp", "btmp", "utmp"].iter().any(|record| name.starts_with(record))
}

fn permissions(mode: u32) -> Map<String, Value> {
    let of = |shift: u32, set_id: Option<u32>| {
        let mut rights = rights(mode >> shift);
        if let Some(bit) = set_id {
            rights.insert("setid".into(), (mode & bit != 0).into());
        }
        Value::Object(rights)
    };
    Map::from_iter([
        ("owner".to_owned(), of(6, Some(0o4000))),
        ("group".to_owned(), of(3, Some(0o2000))),
        ("other".to_owned(), of(0, None)),
        ("sticky".to_owned(), (mode & 0o1000 != 0).into()),
    ])
}

fn rights(bits: u32) -> Map<String, Value> {
    [("read", 4), ("write", 2), ("exec", 1)]
        .map(|(name, bit)| (name.to_owned(), (bits & bit != 0).into()))
        .into_iter()
        .collect()
}

#[cfg(test)]
#[path = "fileattrs/tests.rs"]
mod tests;

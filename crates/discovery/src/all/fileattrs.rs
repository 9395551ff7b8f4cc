//! Owners and permissions of files: what stat(1), getfacl(1) and getfattr(1) show.
//!
//! `data` = path → object. A name of the list that ends in `/` (other than `/` itself) stands for the directory and
//! its direct children; a symlink to a directory is followed then. Missing files are absent.
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
//!
//! Parameters: `ASSIM_filelist`, blank-separated; `from` = `auditd_conf` takes the directory of `log_file` in
//! /etc/audit/auditd.conf instead.
//! ```json
//! {"/etc/shadow":{"owner":"root","group":"shadow","type":"-","octal":"0640","perms":{"owner":{"read":true,"write":true,
//!  "exec":false,"setid":false},"group":{"read":true,"write":false,"exec":false,"setid":false},
//!  "other":{"read":false,"write":false,"exec":false},"sticky":false}}}
//! ```

use crate::{
    Attributes, Collected, Directory, Discovery, Host, Instance, Kind, Parameter, Parameters, Schedule,
    Trigger, documentation, no_graph,
};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::ffi::CStr;

pub static DISCOVERY: Discovery = Discovery {
    name: "fileattrs",
    description: "owners and permissions of files",
    documentation: documentation::FILEATTRS,
    parameters: &[
        Parameter {
            name: FILELIST,
            meaning: "Files, separated by blanks; a directory with / at the end includes its direct children",
            default: "/ /etc /lib /usr/ /var/ /run /run/lock /run/user /bin /sbin /usr/local/",
        },
        Parameter {
            name: FROM,
            meaning: "auditd_conf: the directory of auditd's log instead of a list",
            default: "",
        },
    ],
    instances: &[
        list("bin_fileattrs", &[(FILELIST, "/bin/ /sbin/")]),
        list("lib64_fileattrs", &[(FILELIST, "/lib64 /lib/x86_64-linux-gnu/")]),
        list("libmodules_fileattrs", &[(FILELIST, "/lib/modules/")]),
        list("lib_fileattrs", &[(FILELIST, "/lib/ /lib/i386-linux-gnu/")]),
        list("usrlib64_fileattrs", &[(FILELIST, "/usr/lib64/ /usr/lib/x86_64-linux-gnu/")]),
        list("usrlib_fileattrs", &[(FILELIST, "/usr/lib/ /usr/lib/i386-linux-gnu/")]),
        list("usr_bin_fileattrs", &[(FILELIST, "/usr/bin/ /usr/sbin/")]),
        list("usr_local_fileattrs", &[(FILELIST, "/usr/local/bin/ /usr/local/sbin/ /usr/local/lib/")]),
        Instance {
            name: "sysfile_fileattrs",
            parameters: &[(
                FILELIST,
                "/ /etc/audit/ /etc/bash.bashrc /etc/bashrc /etc/bash_completion /etc/bash_completion.d/ \
                 /etc/default/grub /etc/group /etc/grub.conf /etc/grub.d/ /etc/gshadow /etc/init.d/ /etc/login.defs \
                 /etc/passwd /etc/profile /etc/profile.d/ /etc/csh.cshrc /etc/selinux/ /etc/shadow /usr/ /usr/local/ /var/",
            )],
            schedule: None,
        },
        Instance { name: "auditd_fileattrs", parameters: &[(FROM, AUDITD_CONF)], schedule: None },
    ],
    schedule: Schedule::DEFAULT,
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILELIST: &str = "ASSIM_filelist";
const FROM: &str = "from";
const AUDITD_CONF: &str = "auditd_conf";
const AUDITD_CONF_PATH: &str = "/etc/audit/auditd.conf";
/// With about 400 bytes each, what fits a document.
const MAX_FILES: usize = 30_000;
/// Longer values of extended attributes are cut.
const MAX_XATTR_TEXT_BYTES: usize = 1024;
const MAX_ERRORS: usize = 20;

/// The lists of program directories change with packages only, and inotify sees every change of mode or owner in
/// a watched directory; their repetition is for what inotify cannot see (network file systems, lost events) and
/// may be slow, because they are by far the longest.
const SLOW: Schedule = Schedule { repeat_seconds: 900, ..Schedule::DEFAULT };

const fn list(name: &'static str, parameters: &'static [(&'static str, &'static str)]) -> Instance {
    Instance { name, parameters, schedule: Some(SLOW) }
}

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    let mut errors = Vec::new();
    let paths = match parameters.get(FROM).map(String::as_str) {
        Some(AUDITD_CONF) => vec![auditd_log_directory(host, &mut errors)],
        _ => {
            let list = parameters.get(FILELIST).map_or("", String::as_str);
            list.split_ascii_whitespace().map(str::to_owned).collect()
        }
    };
    let mut files = Files {
        host,
        users: names_by_number(host, "/etc/passwd", &mut errors),
        groups: names_by_number(host, "/etc/group", &mut errors),
        data: Map::new(),
        errors,
    };
    paths.iter().for_each(|path| files.name(path));
    files.finish()
}

struct Files<'a> {
    host: &'a Host,
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    data: Map<String, Value>,
    errors: Vec<String>,
}

impl Files<'_> {
    /// One name of the list.
    fn name(&mut self, name: &str) {
        if !name.starts_with('/') {
            return self.problem(format!("{name}: not an absolute path: write it with / at the start"));
        }
        let path = match name.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        let wants_children = name.len() > 1 && name.ends_with('/');
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
            match self.host.directory(path) {
                Ok(directory) => self.children(path, &directory),
                Err(error) if attributes.kind == Kind::Directory => self.unless_missing(&error),
                // A symlink to nothing or to a file has no children.
                Err(_) => {}
            }
        }
    }

    fn children(&mut self, path: &str, directory: &Directory<'_>) {
        let entries = match directory.entries() {
            Ok(entries) => entries,
            Err(error) => return self.problem(error.to_string()),
        };
        for entry in &entries {
            if self.data.len() >= MAX_FILES {
                return self
                    .problem(format!("{path}: more than {MAX_FILES} files in this list: split the list"));
            }
            // What vanished since it was listed is absent, as if we had come a moment later.
            if let Ok(attributes) = directory.lstat(entry.raw()) {
                self.add(directory.path_of(entry.raw()), directory, entry.raw(), attributes);
            }
        }
    }

    fn add(&mut self, path: String, directory: &Directory<'_>, name: &CStr, attributes: Attributes) {
        let mut fields = Map::new();
        fields.insert("owner".into(), name_of(&self.users, attributes.uid).into());
        fields.insert("group".into(), name_of(&self.groups, attributes.gid).into());
        fields.insert("type".into(), letter(attributes.kind).into());
        fields.insert("octal".into(), format!("0{:03o}", attributes.mode).into());
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
                AclTag::User => format!("user:{}", name_of(&self.users, entry.id)),
                AclTag::Group => format!("group:{}", name_of(&self.groups, entry.id)),
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

    fn problem(&mut self, text: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(text);
        }
    }

    fn finish(self) -> Collected {
        Collected { data: Value::Object(self.data), errors: self.errors, extras: Map::new() }
    }
}

/// auditd.conf(5): keywords in any case; a path keeps its case.
fn auditd_log_directory(host: &Host, errors: &mut Vec<String>) -> String {
    let text = match host.read_text(AUDITD_CONF_PATH) {
        Ok(text) => text,
        Err(error) => {
            if !error.is_missing() {
                errors.push(error.to_string());
            }
            String::new()
        }
    };
    let log_file = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(keyword, _)| keyword.trim().eq_ignore_ascii_case("log_file"))
        .map(|(_, value)| value.trim())
        .rfind(|value| value.starts_with('/'))
        .unwrap_or("/var/log/audit/audit.log");
    let directory = log_file.rsplit_once('/').map_or("", |(directory, _)| directory);
    format!("{directory}/")
}

/// passwd(5) and group(5): the third field is the number; the first name of a number counts. Without such a file
/// the numbers themselves are shown.
fn names_by_number(host: &Host, path: &str, errors: &mut Vec<String>) -> HashMap<u32, String> {
    match host.read_text(path) {
        Ok(text) => parse_names(&text),
        Err(error) => {
            if !error.is_missing() {
                errors.push(error.to_string());
            }
            HashMap::new()
        }
    }
}

fn parse_names(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let Ok(number) = number.trim().parse() else { continue };
        if !name.is_empty() && !name.starts_with('#') {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

fn name_of(names: &HashMap<u32, String>, number: u32) -> String {
    names.get(&number).cloned().unwrap_or_else(|| number.to_string())
}

fn letter(kind: Kind) -> &'static str {
    match kind {
        Kind::Regular => "-",
        Kind::Directory => "d",
        Kind::Symlink => "l",
        Kind::CharacterDevice => "c",
        Kind::BlockDevice => "b",
        Kind::Fifo => "p",
        Kind::Socket => "s",
        Kind::Unknown => "?",
    }
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AclTag {
    Owner,
    User,
    OwningGroup,
    Group,
    Mask,
    Other,
}

#[derive(Debug, PartialEq, Eq)]
struct AclEntry {
    tag: AclTag,
    /// Three bits: read 4, write 2, execute 1.
    rights: u16,
    /// User or group number; without meaning for the other tags.
    id: u32,
}

/// The attribute `system.posix_acl_access` of Linux: version 2, then entries of tag, rights and number, all little
/// endian (include/uapi/linux/posix_acl_xattr.h). `None` when it is anything else.
fn parse_acl(bytes: &[u8]) -> Option<Vec<AclEntry>> {
    let (version, entries) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return None;
    }
    let (entries, _) = entries.as_chunks::<8>();
    let parse = |[t0, t1, r0, r1, i0, i1, i2, i3]: &[u8; 8]| {
        let tag = match u16::from_le_bytes([*t0, *t1]) {
            0x01 => AclTag::Owner,
            0x02 => AclTag::User,
            0x04 => AclTag::OwningGroup,
            0x08 => AclTag::Group,
            0x10 => AclTag::Mask,
            0x20 => AclTag::Other,
            _ => return None,
        };
        Some(AclEntry {
            tag,
            rights: u16::from_le_bytes([*r0, *r1]),
            id: u32::from_le_bytes([*i0, *i1, *i2, *i3]),
        })
    };
    entries.iter().map(parse).collect()
}

/// `user:role:type:level`; the level has colons of its own.
fn selinux(value: &[u8]) -> Value {
    let text = xattr_text(value);
    let parts = ["user", "role", "type", "level"].into_iter().zip(text.splitn(4, ':'));
    Value::Object(parts.map(|(name, part)| (name.to_owned(), part.into())).collect())
}

fn xattr_text(value: &[u8]) -> String {
    // Values that are C strings are often stored with their end mark.
    let value = value.strip_suffix(b"\0").unwrap_or(value);
    let cut = if value.len() > MAX_XATTR_TEXT_BYTES {
        format!("... ({} bytes)", value.len())
    } else {
        String::new()
    };
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => {
            let end = text.floor_char_boundary(MAX_XATTR_TEXT_BYTES);
            text[..end].to_owned() + &cut
        }
        _ => {
            let kept = &value[..value.len().min(MAX_XATTR_TEXT_BYTES)];
            let digits: String = kept.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{digits}{cut}")
        }
    }
}

#[cfg(test)]
#[path = "fileattrs/tests.rs"]
mod tests;

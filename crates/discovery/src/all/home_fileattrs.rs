//! The homes of people, and the files in them that decide who gets in and what runs at a login.
//!
//! People are accounts of /etc/passwd with a number from UID_MIN of login.defs(5), a shell that lets them in and a home
//! other than `/`.
//!
//! | key | what |
//! |---|---|
//! | `people` | how many there are |
//! | `homes` | name → `{path, owner, group, type, octal, user, primary_group}` of the home, symlinks followed |
//! | `missing_homes` | name → path of a home that is not there |
//! | `remote_homes` | name → type of the file system of a home across a network, which is not looked at |
//! | `dot_files` | path → `{owner, group, type, octal, user, primary_group, init}` of the hidden files directly in homes |
//! | `root_dot_files` | the same for the home of root |
//! | `bash_history`, `forward_files`, `netrc_files` | the same for `.bash_history`, `.forward`, `.netrc`, root's included |
//! | `rhosts_files`, `shosts_files` | the same for `.rhosts` and /etc/hosts.equiv; `.shosts`, /etc/shosts.equiv and /etc/ssh/shosts.equiv |
//!
//! `init`: the name is like those of shells' start files, `.profile`, `.bash_logout`: only letters, digits, `_`, `-` and
//! blanks behind the dot. Of hidden files with the same owner, group and mode in one home the first twenty are given.
//! What is in a home is not watched: it changes all the time. passwd(5), stat(2), sshd(8), netrc(5).
//! ```json
//! {"people":1,"homes":{"joe":{"path":"/home/joe","owner":"joe","group":"joe","type":"d","octal":"0700","user":"joe",
//!  "primary_group":"joe"}},"dot_files":{"/home/joe/.bashrc":{"owner":"joe","group":"joe","type":"-","octal":"0640",
//!  "user":"joe","primary_group":"joe","init":true}}}
//! ```

use crate::host::{Barriers, Limits, Next, Visited};
use crate::parse::mount_points::{self, Mount};
use crate::parse::ownership::{Names, Samples};
use crate::parse::people::{self, Person};
use crate::{
    Attributes, Collected, Discovery, Host, Instance, Kind, Parameters, Schedule, Trigger, documentation,
    no_graph,
};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

pub static DISCOVERY: Discovery = Discovery {
    name: "home_fileattrs",
    description: "Owners and permissions of homes and of the hidden files in them",
    documentation: documentation::HOME_FILEATTRS,
    parameters: &[],
    instances: &[Instance { name: "_init_home_fileattrs", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, warn_seconds: 60, timeout_seconds: 300 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

/// Hidden files with the same owner, group and mode in one home that are given.
const ALIKE: usize = 20;
/// Homes whose files are looked at; a server of many people has its own ways.
const MAX_HOMES: usize = 1000;
const MAX_ENTRIES: u64 = 200_000;
/// Different owners, groups and modes of hidden files in one home, and bytes of their paths.
const MAX_CLASSES: usize = 100;
const MAX_BYTES: usize = 64 * 1024;
/// In all lists together.
const MAX_FILES: usize = 5000;
const MAX_SECONDS: u64 = 30;
const MAX_ERRORS: usize = 20;

/// Files of a home that have a list of their own.
const PARTICULAR: &[(&str, &str)] = &[
    (".bash_history", "bash_history"),
    (".forward", "forward_files"),
    (".netrc", "netrc_files"),
    (".rhosts", "rhosts_files"),
    (".shosts", "shosts_files"),
];
/// Files of the host that have the same meaning for everybody.
const OF_ALL: &[(&str, &str)] = &[
    ("/etc/hosts.equiv", "rhosts_files"),
    ("/etc/shosts.equiv", "shosts_files"),
    ("/etc/ssh/shosts.equiv", "shosts_files"),
];

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Vec::new();
    if let Err(error) = host.read("/etc/passwd") {
        return Collected::unreadable(&error);
    }
    let names = Names::of(host, &mut errors);
    let mounts = mount_points::current();
    let mut look = Look {
        host,
        names,
        barriers: mount_points::barriers(host, &mounts),
        mounts,
        deadline: Instant::now() + Duration::from_secs(MAX_SECONDS),
        lists: Map::new(),
        files: 0,
        errors,
    };
    let lists = ["homes", "missing_homes", "remote_homes", "dot_files", "root_dot_files"];
    for list in lists.into_iter().chain(PARTICULAR.iter().map(|(_, list)| *list)) {
        look.lists.insert(list.into(), json!({}));
    }
    let people = people::people(host);
    look.lists.insert("people".into(), people.len().into());
    for person in people.iter().take(MAX_HOMES) {
        look.home(person, "dot_files");
    }
    if people.len() > MAX_HOMES {
        look.problem(format!(
            "/etc/passwd: more than {MAX_HOMES} people: the homes of the rest were left out"
        ));
    }
    if let Some(root) = people::root(host) {
        look.home(&root, "root_dot_files");
    }
    for (path, list) in OF_ALL {
        if let Ok(attributes) = host.lstat(path) {
            let entry = look.names.entry(attributes);
            look.put(list, (*path).to_owned(), entry);
        }
    }
    Collected { data: Value::Object(look.lists), errors: look.errors, extras: Map::new() }
}

struct Look<'a> {
    host: &'a Host,
    names: Names,
    barriers: Barriers,
    mounts: Vec<Mount>,
    deadline: Instant,
    lists: Map<String, Value>,
    files: usize,
    errors: Vec<String>,
}

impl Look<'_> {
    fn home(&mut self, person: &Person, dot_files: &str) {
        let is_root = person.uid == 0;
        if self.host.leads_to_barrier(&person.home, &self.barriers) {
            let outside = self.host.path_outside(&person.home);
            let kind = mount_points::holding(&self.mounts, &outside).map_or("", |mount| mount.kind.as_str());
            let kind = Value::from(kind);
            return self.insert("remote_homes", person.name.clone(), kind);
        }
        match self.host.stat(&person.home) {
            Ok(_) if is_root => {}
            Ok(attributes) => {
                let mut entry = self.names.entry(attributes);
                entry.insert("path".into(), person.home.as_str().into());
                self.belongs(&mut entry, person);
                self.insert("homes", person.name.clone(), Value::Object(entry));
            }
            Err(error) if error.is_missing() => {
                if !is_root {
                    self.insert("missing_homes", person.name.clone(), person.home.as_str().into());
                }
                return;
            }
            Err(error) => return self.problem(error.to_string()),
        }
        self.hidden_files(person, dot_files);
    }

    fn hidden_files(&mut self, person: &Person, dot_files: &str) {
        let mut samples: Samples<(bool, u32, u32, u32)> = Samples::new(MAX_CLASSES, MAX_BYTES);
        let mut particular: Vec<(&str, String, Attributes)> = Vec::new();
        let mut visit = |visited: &Visited<'_>| {
            let name = visited.name();
            if !name.starts_with(b".") {
                return Next::Skip;
            }
            let list = PARTICULAR.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, list)| *list);
            if list.is_none() && visited.kind() != Kind::Regular {
                return Next::Skip;
            }
            if let Some(attributes) = visited.attributes() {
                let Attributes { uid, gid, mode, kind, .. } = attributes;
                if let Some(list) = list {
                    particular.push((list, visited.path(), attributes));
                }
                if kind == Kind::Regular {
                    samples.add((is_init(name), uid, gid, mode), visited.path(), ALIKE);
                }
            }
            Next::Skip
        };
        let limits = Limits { deadline: self.deadline, max_entries: MAX_ENTRIES };
        match self.host.walk(&person.home, &self.barriers, limits, &mut visit) {
            Ok(outcome) => outcome.problems.into_iter().for_each(|problem| self.problem(problem)),
            // What is no directory is told by the entry of the home.
            Err(error)
                if matches!(error.problem(), crate::Problem::Missing | crate::Problem::NotADirectory) => {}
            Err(error) => self.problem(error.to_string()),
        }
        if samples.is_cut() {
            self.problem(format!("{}: too many different hidden files: some were left out", person.home));
        }
        for (list, path, attributes) in particular {
            let mut entry = self.names.entry(attributes);
            self.belongs(&mut entry, person);
            self.put(list, path, entry);
        }
        for ((init, uid, gid, mode), paths) in samples.into_classes() {
            let attributes = Attributes { kind: Kind::Regular, mode, uid, gid, size_bytes: 0 };
            let mut entry = self.names.entry(attributes);
            self.belongs(&mut entry, person);
            entry.insert("init".into(), init.into());
            for path in paths {
                self.put(dot_files, path, entry.clone());
            }
        }
    }

    fn belongs(&self, entry: &mut Map<String, Value>, person: &Person) {
        entry.insert("user".into(), person.name.as_str().into());
        entry.insert("primary_group".into(), self.names.group(person.gid).into());
    }

    fn put(&mut self, list: &str, path: String, entry: Map<String, Value>) {
        self.files += 1;
        if self.files > MAX_FILES {
            return self.problem(format!("{path}: more than {MAX_FILES} files: the rest was left out"));
        }
        self.insert(list, path, Value::Object(entry));
    }

    fn insert(&mut self, list: &str, key: String, value: Value) {
        if let Some(Value::Object(list)) = self.lists.get_mut(list) {
            list.insert(key, value);
        }
    }

    fn problem(&mut self, text: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(model::text::printable(&text).into_owned());
        }
    }
}

/// Like the files that shells and desktops read at a login.
fn is_init(name: &[u8]) -> bool {
    let rest = name.strip_prefix(b".").unwrap_or_default();
    !rest.is_empty() && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_- ".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn write(root: &Path, path: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        write(root, "etc/passwd", 0o644);
        // Whoever runs the test is root to this host, and ann, bob and carl are people.
        let passwd = format!(
            "root:x:0:0::/root:/bin/sh\nann:x:70001:{gid}::/home/ann:/bin/sh\nbob:x:70002:{gid}::/home/bob/:/bin/bash\n\
             carl:x:70003:{gid}::/home/carl:/bin/sh\nweb:x:70004:{gid}::/srv:/usr/sbin/nologin\nme:x:{uid}:{gid}::/none:/bin/false\n"
        );
        fs::write(root.join("etc/passwd"), passwd).unwrap();
        fs::write(root.join("etc/group"), format!("mine:x:{gid}:\n")).unwrap();
        fs::create_dir_all(root.join("home/ann/.config")).unwrap();
        fs::set_permissions(root.join("home/ann"), fs::Permissions::from_mode(0o750)).unwrap();
        fs::create_dir_all(root.join("data/bob")).unwrap();
        fs::set_permissions(root.join("data/bob"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("/data/bob", root.join("home/bob")).unwrap();
        tree
    }

    #[test]
    fn homes_and_what_is_hidden_in_them() {
        let tree = tree();
        let root = tree.path();
        write(root, "home/ann/.bashrc", 0o644);
        write(root, "home/ann/.config.old", 0o600);
        write(root, "home/ann/visible", 0o666);
        write(root, "home/ann/.config/deep", 0o666);
        write(root, "home/ann/.bash_history", 0o600);
        write(root, "data/bob/.netrc", 0o600);
        write(root, "root/.profile", 0o600);
        write(root, "root/.shosts", 0o600);
        write(root, "etc/hosts.equiv", 0o644);
        symlink("/dev/null", root.join("home/ann/.forward")).unwrap();
        symlink("..", root.join("home/ann/.loop")).unwrap();
        let host = Host::at(root);
        let found = collect(&host, &Parameters::new());
        assert_eq!(found.errors, [""; 0]);
        let data = found.data;
        assert_eq!(data["people"], 3);
        assert_eq!(keys(&data["homes"]), ["ann", "bob"]);
        assert_eq!(data["missing_homes"], json!({"carl": "/home/carl"}));
        let bob = &data["homes"]["bob"];
        assert_eq!(
            (&bob["type"], &bob["octal"], &bob["path"]),
            (&json!("d"), &json!("0755"), &json!("/home/bob"))
        );
        assert_eq!((&bob["user"], &bob["primary_group"]), (&json!("bob"), &json!("mine")));
        let hidden =
            ["/home/ann/.bash_history", "/home/ann/.bashrc", "/home/ann/.config.old", "/home/bob/.netrc"];
        assert_eq!(keys(&data["dot_files"]), hidden);
        assert_eq!(data["dot_files"]["/home/ann/.bashrc"]["init"], true);
        assert_eq!(data["dot_files"]["/home/ann/.config.old"]["init"], false);
        assert_eq!(keys(&data["root_dot_files"]), ["/root/.profile", "/root/.shosts"]);
        assert_eq!(keys(&data["bash_history"]), ["/home/ann/.bash_history"]);
        assert_eq!(data["forward_files"]["/home/ann/.forward"]["type"], "l");
        assert_eq!(keys(&data["netrc_files"]), ["/home/bob/.netrc"]);
        assert_eq!(keys(&data["rhosts_files"]), ["/etc/hosts.equiv"]);
        assert_eq!(keys(&data["shosts_files"]), ["/root/.shosts"]);
        assert!(host.touched().directories.is_empty(), "homes change all the time");
    }

    #[test]
    fn of_hidden_files_alike_twenty_are_given() {
        let tree = tree();
        for number in 100..150 {
            write(tree.path(), &format!("home/ann/.file.{number}"), 0o600);
        }
        write(tree.path(), "home/ann/.file.999", 0o666);
        let data = collect(&Host::at(tree.path()), &Parameters::new()).data;
        assert_eq!(keys(&data["dot_files"]).len(), ALIKE + 1);
        assert_eq!(data["dot_files"]["/home/ann/.file.999"]["octal"], "0666");
    }

    #[test]
    fn a_home_may_be_anything() {
        let tree = tree();
        write(tree.path(), "home/carl", 0o644);
        fs::remove_file(tree.path().join("home/bob")).unwrap();
        symlink("bob", tree.path().join("home/bob")).unwrap();
        let found = collect(&Host::at(tree.path()), &Parameters::new());
        assert_eq!(found.data["homes"]["carl"]["type"], "-");
        assert!(found.errors.len() == 1 && found.errors[0].starts_with("/home/bob: "), "{:?}", found.errors);
    }

    #[test]
    fn without_accounts_there_is_nothing_to_tell() {
        let tree = tempfile::tempdir().unwrap();
        let found = collect(&Host::at(tree.path()), &Parameters::new());
        assert_eq!(found.data["NODATA"], "ERROR: Cannot read /etc/passwd");
    }

    #[test]
    fn homes_across_a_network_are_left_alone() {
        let tree = tree();
        let host = Host::at(tree.path());
        let point = host.path_outside("/home/ann");
        let mut table = b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:50 / ".to_vec();
        table.extend(&point);
        table.extend(b" rw - nfs4 server:/x rw\n");
        let mounts = mount_points::parse(&table);
        let mut look = Look {
            host: &host,
            names: Names::default(),
            barriers: mount_points::barriers(&host, &mounts),
            mounts,
            deadline: Instant::now() + Duration::from_secs(10),
            lists: Map::from_iter([("remote_homes".to_owned(), json!({})), ("homes".to_owned(), json!({}))]),
            files: 0,
            errors: Vec::new(),
        };
        people::people(&host).iter().for_each(|person| look.home(person, "dot_files"));
        assert_eq!(look.lists["remote_homes"], json!({"ann": "nfs4"}));
        assert_eq!(keys(&look.lists["homes"]), ["bob"]);
        // Also when only a symlink leads there.
        symlink("/home/ann", tree.path().join("home/link")).unwrap();
        symlink("home/link/../bob", tree.path().join("up")).unwrap();
        assert!(host.leads_to_barrier("/home/link/x/y", &look.barriers));
        assert!(host.leads_to_barrier("/up", &look.barriers), "looking up `..` of it would ask the server");
        assert!(!host.leads_to_barrier("/home/bob", &look.barriers));
        assert!(!host.leads_to_barrier("/home/none/x", &look.barriers));
    }
}

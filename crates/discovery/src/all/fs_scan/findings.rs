//! What a scan finds, one file at a time.

use crate::host::Visited;
use crate::parse::ownership::{Names, Samples, first_number_of_people};
use crate::parse::people::{self, Numbers, Person, Standing};
use crate::{Attributes, Host, Kind};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Listed with the same owner, group and mode.
const ALIKE: usize = 100;
/// Different owners, groups and modes in one list.
const MAX_CLASSES: usize = 200;
/// Of the paths in one list.
const MAX_BYTES: usize = 128 * 1024;
const MAX_UNKNOWN: usize = 100;
/// The widest mode of a file in somebody's home.
const HOME_MODE: u32 = 0o750;

/// Kind, owner, group, mode.
type Class = (&'static str, u32, u32, u32);

#[derive(Debug)]
struct List {
    samples: Samples<Class>,
    count: u64,
}

impl Default for List {
    fn default() -> Self {
        Self { samples: Samples::new(MAX_CLASSES, MAX_BYTES), count: 0 }
    }
}

pub struct Findings {
    names: Names,
    users: Numbers,
    groups: Numbers,
    first_user: u32,
    first_group: u32,
    people: Vec<Person>,
    by_home: HashMap<Vec<u8>, usize>,
    homes: BTreeSet<usize>,
    /// The directory that was last looked into, and whose home it is part of.
    here: Vec<u8>,
    person: Option<usize>,
    unknown_users: BTreeSet<u32>,
    unknown_groups: BTreeSet<u32>,
    lists: BTreeMap<&'static str, List>,
}

const WRITABLE_FILES: &str = "world_writable_files";
const WRITABLE_DIRECTORIES: &str = "world_writable_directories";
const UNOWNED: &str = "unowned_files";
const UNGROUPED: &str = "ungrouped_files";
const SETID: &str = "setid_programs";
const DEVICES: &str = "device_files";
const HOME_WIDE: &str = "home_files_wide";
const HOME_GROUP: &str = "home_files_foreign_group";
const LISTS: [&str; 8] =
    [WRITABLE_FILES, WRITABLE_DIRECTORIES, UNOWNED, UNGROUPED, SETID, DEVICES, HOME_WIDE, HOME_GROUP];

impl Findings {
    pub fn new(host: &Host, errors: &mut Vec<String>) -> Findings {
        let people = people::people(host);
        let by_home = people
            .iter()
            .enumerate()
            .map(|(index, person)| (person.home.clone().into_bytes(), index))
            .collect();
        Findings {
            names: Names::of(host, errors),
            users: Numbers::of_users(host),
            groups: Numbers::of_groups(host),
            first_user: first_number_of_people(host, "UID_MIN"),
            first_group: first_number_of_people(host, "GID_MIN"),
            people,
            by_home,
            homes: BTreeSet::new(),
            here: b"/".to_vec(),
            person: None,
            unknown_users: BTreeSet::new(),
            unknown_groups: BTreeSet::new(),
            lists: LISTS.into_iter().map(|name| (name, List::default())).collect(),
        }
    }

    /// The directory that a walk begins at, which the walk itself does not show.
    pub fn start(&mut self, host: &Host, path: &str) {
        if let Ok(attributes) = host.lstat_unrecorded(path) {
            self.judge(attributes, &|| path.to_owned(), false);
        }
    }

    pub fn look(&mut self, visited: &Visited<'_>) {
        let Some(attributes) = visited.attributes() else { return };
        if visited.directory_path() != self.here {
            self.here = visited.directory_path().to_vec();
            self.person = self.person_of_here();
            self.homes.extend(self.person);
        }
        let is_whiteout =
            matches!(attributes.kind, Kind::CharacterDevice | Kind::BlockDevice) && visited.is_whiteout();
        self.judge(attributes, &|| visited.path(), is_whiteout);
        if let Some(person) = self.person.filter(|_| !visited.name().starts_with(b".")) {
            self.in_home(person, attributes, visited);
        }
    }

    fn judge(&mut self, attributes: Attributes, path: &dyn Fn() -> String, is_whiteout: bool) {
        let Attributes { kind, mode, uid, gid, .. } = attributes;
        let anybody_writes = mode & 0o002 != 0;
        match kind {
            Kind::Regular => {
                if anybody_writes {
                    self.add(WRITABLE_FILES, attributes, path);
                }
                if mode & 0o6000 != 0 {
                    self.add(SETID, attributes, path);
                }
            }
            Kind::Directory if anybody_writes => self.add(WRITABLE_DIRECTORIES, attributes, path),
            Kind::CharacterDevice | Kind::BlockDevice if !is_whiteout => self.add(DEVICES, attributes, path),
            _ => {}
        }
        match self.users.standing(uid) {
            Standing::Known => {}
            Standing::Nobody => self.add(UNOWNED, attributes, path),
            Standing::Unsure => note(&mut self.unknown_users, uid),
        }
        match self.groups.standing(gid) {
            Standing::Known => {}
            Standing::Nobody => self.add(UNGROUPED, attributes, path),
            Standing::Unsure => note(&mut self.unknown_groups, gid),
        }
    }

    fn in_home(&mut self, person: usize, attributes: Attributes, visited: &Visited<'_>) {
        // The mode of a symlink says nothing.
        if !matches!(attributes.kind, Kind::Regular | Kind::Directory) {
            return;
        }
        if attributes.mode & !HOME_MODE & 0o7777 != 0 {
            self.add(HOME_WIDE, attributes, &|| visited.path());
        }
        if !self.people[person].groups.contains(&attributes.gid) {
            self.add(HOME_GROUP, attributes, &|| visited.path());
        }
    }

    /// Whose home the directory is in, unless a hidden directory of it is in between.
    fn person_of_here(&self) -> Option<usize> {
        let mut rest = self.here.as_slice();
        loop {
            if let Some(person) = self.by_home.get(rest) {
                return Some(*person);
            }
            let slash = rest.iter().rposition(|byte| *byte == b'/')?;
            if rest[slash + 1..].starts_with(b".") {
                return None;
            }
            rest = &rest[..slash];
        }
    }

    fn add(&mut self, list: &'static str, attributes: Attributes, path: &dyn Fn() -> String) {
        let list = self.lists.entry(list).or_default();
        list.count += 1;
        let Attributes { kind, mode, uid, gid, .. } = attributes;
        let class = (crate::parse::ownership::letter(kind), uid, gid, mode);
        list.samples.add(class, path(), ALIKE);
    }

    /// Lists in which an owner, group and mode that were met have no sample.
    pub fn cut(&self) -> impl Iterator<Item = &'static str> {
        self.lists.iter().filter(|(_, list)| list.samples.is_cut()).map(|(name, _)| *name)
    }

    pub fn into_data(self) -> Map<String, Value> {
        let mut data = Map::new();
        let mut counts = Map::new();
        for (name, list) in self.lists {
            let mut files = Map::new();
            for ((kind, uid, gid, mode), paths) in list.samples.into_classes() {
                let entry = json!({
                    "owner": self.names.user(uid),
                    "group": self.names.group(gid),
                    "type": kind,
                    "octal": crate::parse::ownership::octal(mode),
                    "system_owner": uid < self.first_user,
                    "system_group": gid < self.first_group,
                    "sticky": mode & 0o1000 != 0,
                });
                files.extend(paths.into_iter().map(|path| (path, entry.clone())));
            }
            data.insert(name.into(), Value::Object(files));
            counts.insert(name.into(), list.count.into());
        }
        data.insert("counts".into(), Value::Object(counts));
        data.insert("homes".into(), self.homes.len().into());
        for (known, list, numbers) in [
            ("owners_known", "unknown_users", self.unknown_users),
            ("groups_known", "unknown_groups", self.unknown_groups),
        ] {
            if numbers.is_empty() {
                data.insert(known.into(), Value::Bool(true));
            } else {
                data.insert(list.into(), json!(numbers));
            }
        }
        data
    }
}

fn note(numbers: &mut BTreeSet<u32>, number: u32) {
    if numbers.len() < MAX_UNKNOWN {
        numbers.insert(number);
    }
}

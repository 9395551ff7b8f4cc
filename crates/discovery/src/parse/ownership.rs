//! Owners, groups and modes as documents show them, and lists of files that stay short because files that are alike
//! are represented by a few.

use super::Files;
use crate::{Attributes, Host, Kind};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Where the numbers of people's accounts and groups begin unless login.defs(5) says otherwise.
const FIRST_NUMBER_OF_PEOPLE: u32 = 1000;
/// A larger one in login.defs would leave no room for people.
const LAST_NUMBER_MEANT: u32 = 1_000_000;

/// Users and groups of a host by number, from /etc/passwd and /etc/group.
#[derive(Debug, Default)]
pub struct Names {
    pub users: HashMap<u32, String>,
    pub groups: HashMap<u32, String>,
}

impl Names {
    /// What is missing leaves the numbers themselves; what cannot be read is told.
    pub fn of(host: &Host, errors: &mut Vec<String>) -> Names {
        Names {
            users: names_by_number(host, "/etc/passwd", errors),
            groups: names_by_number(host, "/etc/group", errors),
        }
    }

    pub fn user(&self, number: u32) -> String {
        name_of(&self.users, number)
    }

    pub fn group(&self, number: u32) -> String {
        name_of(&self.groups, number)
    }

    /// `owner`, `group`, `type`, `octal`.
    pub fn entry(&self, attributes: Attributes) -> Map<String, Value> {
        Map::from_iter([
            ("owner".to_owned(), Value::from(self.user(attributes.uid))),
            ("group".to_owned(), Value::from(self.group(attributes.gid))),
            ("type".to_owned(), Value::from(letter(attributes.kind))),
            ("octal".to_owned(), Value::from(octal(attributes.mode))),
        ])
    }
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

pub fn parse_names(text: &str) -> HashMap<u32, String> {
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

pub fn name_of(names: &HashMap<u32, String>, number: u32) -> String {
    names.get(&number).cloned().unwrap_or_else(|| number.to_string())
}

/// As in ls -l.
pub fn letter(kind: Kind) -> &'static str {
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

/// Four digits, five with set-id or sticky bits: `0644`, `04755`.
pub fn octal(mode: u32) -> String {
    format!("0{mode:03o}")
}

/// The first number of people's accounts (`UID_MIN`) or groups (`GID_MIN`) by login.defs(5); 1000 when it says none, or
/// one that cannot be meant.
pub fn first_number_of_people(files: &dyn Files, key: &str) -> u32 {
    let text = files.text("/etc/login.defs").unwrap_or_default();
    let value = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(key)).then(|| words.next()?.parse().ok()).flatten()
    };
    // As login.defs is read: the last line wins.
    let last = text.lines().filter_map(value).next_back();
    last.filter(|first| *first <= LAST_NUMBER_MEANT).unwrap_or(FIRST_NUMBER_OF_PEOPLE)
}

/// Longer paths are cut: they are for people to find the file, not for programs.
const MAX_PATH_CHARS: usize = 1024;

/// Paths by what their files have in common; of each class the first few in order of name are kept. Bounded, because
/// anybody can make files with any name and mode.
#[derive(Debug)]
pub struct Samples<K: Ord> {
    classes: BTreeMap<K, BTreeSet<String>>,
    max_classes: usize,
    bytes_left: usize,
    left_out: bool,
}

impl<K: Ord> Samples<K> {
    /// At most so many classes, and so many bytes of paths in all.
    pub fn new(max_classes: usize, max_bytes: usize) -> Self {
        Self { classes: BTreeMap::new(), max_classes, bytes_left: max_bytes, left_out: false }
    }

    pub fn add(&mut self, class: K, path: String, limit: usize) {
        let path = model::text::shortened(&path, MAX_PATH_CHARS).into_owned();
        let has_room = self.classes.len() < self.max_classes && path.len() <= self.bytes_left;
        let Some(paths) = self.classes.get_mut(&class) else {
            if has_room {
                self.bytes_left -= path.len();
                self.classes.insert(class, BTreeSet::from([path]));
            } else {
                self.left_out = true;
            }
            return;
        };
        if paths.contains(&path) {
            return;
        }
        if paths.len() < limit && path.len() <= self.bytes_left {
            self.bytes_left -= path.len();
            paths.insert(path);
            return;
        }
        // In the place of the last one.
        let replaced = paths.last().filter(|last| path < **last).map_or(0, String::len);
        if replaced > 0 && path.len() <= self.bytes_left + replaced {
            paths.pop_last();
            self.bytes_left = self.bytes_left + replaced - path.len();
            paths.insert(path);
        }
    }

    /// Different classes so far.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Whether a class has no sample: then a statement about all samples is none about all files.
    pub fn is_cut(&self) -> bool {
        self.left_out
    }

    pub fn into_classes(self) -> impl Iterator<Item = (K, BTreeSet<String>)> {
        self.classes.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_things_alike_the_first_by_name_are_kept() {
        let mut samples = Samples::new(2, 1000);
        for path in ["d", "b", "e", "a", "c", "a"] {
            samples.add(1, path.to_owned(), 3);
        }
        samples.add(2, "z".to_owned(), 3);
        assert_eq!((samples.classes(), samples.is_cut()), (2, false));
        samples.add(3, "z".to_owned(), 3);
        assert_eq!((samples.classes(), samples.is_cut()), (2, true));
        let classes: Vec<_> = samples.into_classes().collect();
        assert_eq!(classes[0].1.iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(classes[1].1.len(), 1);
    }

    #[test]
    fn long_names_do_not_make_long_lists() {
        let mut samples = Samples::new(1000, 4000);
        for number in 0..100 {
            samples.add(number % 2, format!("/{number:03}{}", "x".repeat(1_000_000)), 50);
        }
        assert!(!samples.is_cut(), "both classes have a sample");
        samples.add(7, "y".repeat(1024), 50);
        assert!(samples.is_cut());
        // A name that comes earlier may still take the place of another.
        samples.add(0, "/".to_owned(), 50);
        let paths: Vec<String> = samples.into_classes().flat_map(|(_, paths)| paths).collect();
        assert!(paths.iter().map(String::len).sum::<usize>() <= 4000, "{}", paths.len());
        assert!(paths.contains(&"/".to_owned()));
    }

    #[test]
    fn people_begin_where_login_defs_says() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("etc")).unwrap();
        let host = Host::at(tree.path());
        assert_eq!(first_number_of_people(&host, "UID_MIN"), 1000);
        std::fs::write(
            tree.path().join("etc/login.defs"),
            "#UID_MIN 1\nUID_MIN 300\nUID_MIN\t500 \nGID_MIN x\n",
        )
        .unwrap();
        assert_eq!(first_number_of_people(&host, "UID_MIN"), 500);
        assert_eq!(first_number_of_people(&host, "GID_MIN"), 1000);
        std::fs::write(tree.path().join("etc/login.defs"), "UID_MIN 4000000000\n").unwrap();
        assert_eq!(first_number_of_people(&host, "UID_MIN"), 1000);
    }
}

//! Owners, groups and modes as documents show them, and lists of files that stay short because files that are alike
//! are represented by a few.

use crate::{Attributes, Host, Kind};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Where the numbers of people's accounts and groups begin unless login.defs(5) says otherwise.
const FIRST_NUMBER_OF_PEOPLE: u32 = 1000;

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

/// The first number of people's accounts (`UID_MIN`) or groups (`GID_MIN`) by login.defs(5); 1000 when it says none.
pub fn first_number_of_people(host: &Host, key: &str) -> u32 {
    let text = host.read_text("/etc/login.defs").unwrap_or_default();
    let value = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(key)).then(|| words.next()?.parse().ok()).flatten()
    };
    // As login.defs is read: the last line wins.
    text.lines().filter_map(value).next_back().unwrap_or(FIRST_NUMBER_OF_PEOPLE)
}

/// Paths by what their files have in common; of each class the first few in order of name are kept.
#[derive(Debug)]
pub struct Samples<K: Ord> {
    classes: BTreeMap<K, BTreeSet<String>>,
}

impl<K: Ord> Default for Samples<K> {
    fn default() -> Self {
        Self { classes: BTreeMap::new() }
    }
}

impl<K: Ord> Samples<K> {
    pub fn add(&mut self, class: K, path: String, limit: usize) {
        let paths = self.classes.entry(class).or_default();
        if paths.len() < limit || paths.last().is_some_and(|last| path < *last) {
            paths.insert(path);
            if paths.len() > limit {
                paths.pop_last();
            }
        }
    }

    /// Different classes so far.
    pub fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Whether the class has a sample.
    pub fn has(&self, class: &K) -> bool {
        self.classes.contains_key(class)
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
        let mut samples = Samples::default();
        for path in ["d", "b", "e", "a", "c", "a"] {
            samples.add(1, path.to_owned(), 3);
        }
        samples.add(2, "z".to_owned(), 3);
        assert_eq!(samples.classes(), 2);
        assert!(samples.has(&2) && !samples.has(&3));
        let classes: Vec<_> = samples.into_classes().collect();
        assert_eq!(classes[0].1.iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(classes[1].1.len(), 1);
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
    }
}

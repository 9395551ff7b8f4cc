//! The accounts of people, as opposed to those of services: passwd(5), group(5), login.defs(5), nsswitch.conf(5).

use super::Errors;
use super::ownership::first_number_of_people;
use super::users::{self, User};
use crate::Host;
use std::collections::{BTreeMap, BTreeSet};

/// More are left out.
const MAX_PEOPLE: usize = 20_000;

/// An account that somebody can log in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Absolute, without `/` at the end, below the root.
    pub home: String,
    /// Numbers of all groups, the primary one included.
    pub groups: BTreeSet<u32>,
}

/// Numbers from UID_MIN of login.defs but nobody's, with a shell and a home; in order of name.
pub fn people(host: &Host) -> Vec<Person> {
    let text = |path: &str| host.read_text(path).unwrap_or_default();
    parse(&text("/etc/passwd"), &text("/etc/group"), first_number_of_people(host, "UID_MIN"))
}

/// The account of number 0, named root first.
pub fn root(host: &Host) -> Option<Person> {
    let accounts = accounts(&host.read_text("/etc/passwd").ok()?, |user| user.uid == 0);
    accounts.iter().find(|person| person.name == "root").or(accounts.first()).cloned()
}

fn parse(passwd: &str, group: &str, first_uid: u32) -> Vec<Person> {
    let mut people = accounts(passwd, |user| user.is_interactive(i64::from(first_uid)));
    let mut memberships: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for line in group.lines() {
        let mut fields = line.split(':').skip(2);
        let (Some(number), Some(members)) = (fields.next(), fields.next()) else { continue };
        let Ok(number) = number.trim().parse() else { continue };
        for member in members.split(',') {
            memberships.entry(member.trim()).or_default().insert(number);
        }
    }
    for person in &mut people {
        person.groups.extend(memberships.get(person.name.as_str()).into_iter().flatten());
    }
    people.sort_by(|a, b| a.name.cmp(&b.name));
    people.dedup_by(|b, a| a.name == b.name);
    people
}

/// Mistakes in the file are told by the discovery of accounts.
fn accounts(passwd: &str, wanted: impl Fn(&User) -> bool) -> Vec<Person> {
    let (users, _) = users::parse(passwd, "/etc/passwd", &mut Errors::default());
    let person = |user: User| {
        let (uid, gid) = (user.uid.try_into().ok()?, user.gid.try_into().ok()?);
        let home = user.home.trim_end_matches('/');
        home.starts_with('/').then(|| Person {
            home: home.to_owned(),
            groups: BTreeSet::from([gid]),
            name: user.name,
            uid,
            gid,
        })
    };
    users.into_iter().filter(wanted).filter_map(person).take(MAX_PEOPLE).collect()
}

/// Whether a number has an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Known,
    Nobody,
    /// It may be known to a directory service that is not asked here.
    Unsure,
}

/// Which numbers of users (or groups) the host knows without asking a server.
#[derive(Debug, Default)]
pub struct Numbers {
    known: BTreeSet<u32>,
    /// First number and how many, from subuid(5): handed to somebody for containers.
    handed_out: Vec<(u32, u32)>,
    /// nss-systemd(8) invents users for services that run.
    invents: bool,
    /// A directory service may know more, from this number on.
    elsewhere_from: Option<u32>,
}

/// systemd's range for users of running services (`DynamicUser=`).
const INVENTED: std::ops::RangeInclusive<u32> = 61_184..=65_519;

impl Numbers {
    pub fn of_users(host: &Host) -> Numbers {
        Numbers::of(host, "passwd", "/etc/subuid", "UID_MIN")
    }

    pub fn of_groups(host: &Host) -> Numbers {
        Numbers::of(host, "group", "/etc/subgid", "GID_MIN")
    }

    fn of(host: &Host, database: &str, ranges: &str, first: &str) -> Numbers {
        let text = |path: &str| host.read_text(path).unwrap_or_default();
        let sources = sources(&text("/etc/nsswitch.conf"), database);
        let mut all = text(&format!("/etc/{database}"));
        let compatible = sources.iter().any(|source| source == "compat");
        let elsewhere = sources.iter().any(|source| !IS_LOCAL.contains(&source.as_str()))
            || compatible && all.lines().any(|line| line.starts_with('+'));
        for (source, directory) in [("altfiles", "/usr/lib"), ("extrausers", "/var/lib/extrausers")] {
            if sources.iter().any(|known| known == source) {
                all.push('\n');
                all += &text(&format!("{directory}/{database}"));
            }
        }
        Numbers {
            known: all.lines().filter_map(|line| line.split(':').nth(2)?.trim().parse().ok()).collect(),
            handed_out: handed_out(&text(ranges)),
            invents: sources.iter().any(|source| source == "systemd"),
            elsewhere_from: elsewhere.then(|| first_number_of_people(host, first)),
        }
    }

    pub fn standing(&self, number: u32) -> Standing {
        let handed_out =
            |(first, count): &(u32, u32)| number.checked_sub(*first).is_some_and(|offset| offset < *count);
        if self.known.contains(&number)
            || self.invents && INVENTED.contains(&number)
            || self.handed_out.iter().any(handed_out)
        {
            return Standing::Known;
        }
        let unsure = self.elsewhere_from.is_some_and(|first| number >= first);
        if unsure { Standing::Unsure } else { Standing::Nobody }
    }
}

/// Sources of nsswitch.conf that are files of this host, or are covered by [`Numbers`].
const IS_LOCAL: &[&str] = &["files", "compat", "systemd", "altfiles", "extrausers", "db", "mymachines"];

/// The last line of a database counts; `[NOTFOUND=return]` is no source. Without a line: files.
fn sources(nsswitch: &str, database: &str) -> Vec<String> {
    let line = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        let (name, sources) = line.split_once(':')?;
        (name.trim() == database).then(|| {
            let words = sources.split_ascii_whitespace();
            words.filter(|word| !word.starts_with('[') && !word.ends_with(']')).map(str::to_owned).collect()
        })
    };
    nsswitch.lines().filter_map(line).next_back().unwrap_or_else(|| vec!["files".to_owned()])
}

/// subuid(5): `name:first:count`.
fn handed_out(text: &str) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.split(':').skip(1);
        Some((fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?))
    };
    text.lines().filter_map(range).take(1000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
        zoe:x:1001:1001::/home/zoe:/bin/zsh\njoe:x:1000:1000:Joe,,,:/home/joe/:/bin/bash\r\n\
        nobody:x:65534:65534::/nonexistent:/bin/sh\nlocked:x:1002:1002::/home/locked:/bin/false\n\
        bare:x:1003:100::/home/bare:\nnohome:x:1004:100:::/bin/sh\nslash:x:1005:100::/:/bin/sh\nbroken:x:1006\n";

    #[test]
    fn people_have_numbers_shells_and_homes() {
        let people = parse(PASSWD, "users:x:100:zoe,joe\nadm:x:4:joe\nbad:x:y:joe\n", 1000);
        let names: Vec<_> =
            people.iter().map(|person| (person.name.as_str(), person.home.as_str())).collect();
        assert_eq!(names, [("bare", "/home/bare"), ("joe", "/home/joe"), ("zoe", "/home/zoe")]);
        assert_eq!(people[1].groups, BTreeSet::from([4, 100, 1000]));
        assert_eq!((people[0].uid, people[0].gid), (1003, 100));
    }

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let tree = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::at(tree.path());
        (tree, host)
    }

    #[test]
    fn numbers_are_known_unknown_or_unsure() {
        let standing = |nsswitch: &str, number| {
            let (_tree, host) = host(&[
                ("etc/passwd", PASSWD),
                ("etc/nsswitch.conf", nsswitch),
                ("etc/subuid", "joe:100000:65536\nx:y:z\n"),
                ("usr/lib/passwd", "core:x:500:500::/:/bin/sh\n"),
            ]);
            Numbers::of_users(&host).standing(number)
        };
        for (nsswitch, number, expected) in [
            ("", 1000, Standing::Known),
            ("", 4711, Standing::Nobody),
            ("passwd: files [NOTFOUND=return] sss # ldap", 4711, Standing::Unsure),
            ("passwd: files sss", 999, Standing::Nobody),
            ("passwd: files # sss", 4711, Standing::Nobody),
            ("group: sss", 4711, Standing::Nobody),
            ("", 100_000, Standing::Known),
            ("", 165_536, Standing::Nobody),
            ("passwd: files systemd", 61_184, Standing::Known),
            ("passwd: files", 61_184, Standing::Nobody),
            ("passwd: files altfiles", 500, Standing::Known),
            ("passwd: files", 500, Standing::Nobody),
        ] {
            assert_eq!(standing(nsswitch, number), expected, "{nsswitch} {number}");
        }
    }

    #[test]
    fn root_is_found_by_number() {
        let (_tree, with) = host(&[("etc/passwd", "toor:x:0:0::/toor:/bin/sh\nroot:x:0:0::/root:/bin/sh\n")]);
        assert_eq!(root(&with).unwrap().home, "/root");
        let (_tree, without) = host(&[]);
        assert_eq!(root(&without), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(passwd in "[a:0-9/\n+]{0,200}", group in "[a:0-9,\n]{0,100}") {
            for person in parse(&passwd, &group, 0) {
                prop_assert!(person.home.starts_with('/') && person.groups.contains(&person.gid));
            }
            handed_out(&passwd);
            sources(&passwd, "a");
        }
    }
}

//! Which directories to watch for which instances, and which instances an event concerns. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// So many files of one directory count as all of it: the paths of `/usr/bin` alone would take a megabyte.
const WHOLE: usize = 32;

/// What one run looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest {
    pub files: BTreeSet<PathBuf>,
    /// Directories that were listed: every entry of them matters.
    pub directories: BTreeSet<PathBuf>,
}

impl Interest {
    /// In place of many files of one directory, that whole directory; of a listed one no files at all.
    pub fn new(mut files: BTreeSet<PathBuf>, mut directories: BTreeSet<PathBuf>) -> Self {
        let mut counts: BTreeMap<&Path, usize> = BTreeMap::new();
        for parent in files.iter().filter_map(|file| file.parent()) {
            *counts.entry(parent).or_default() += 1;
        }
        let many = counts.into_iter().filter(|(_, count)| *count >= WHOLE);
        let many: Vec<PathBuf> = many.map(|(directory, _)| directory.to_owned()).collect();
        files.retain(|file| file.parent().is_none_or(|parent| !many.iter().any(|whole| whole == parent)));
        directories.extend(many);
        Self { files, directories }
    }

    fn at_or_below(&self, path: &Path) -> bool {
        at_or_below(&self.files, path) || at_or_below(&self.directories, path)
    }
}

/// What happened in a watched directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// An entry was written to and is still open. For listed directories the end of the writing is what counts:
    /// whoever lists a directory of log files does not want to be told of every line.
    Written,
    /// Content or attributes of an entry.
    Changed,
    /// An entry came or went.
    Appeared,
    /// The watched directory itself changed or went.
    Itself,
}

/// Interests by instance.
#[derive(Debug, Default)]
pub struct Mapping {
    interests: BTreeMap<String, Interest>,
}

impl Mapping {
    /// Replaces what an instance is interested in; `false` when it is the same as before.
    pub fn set(&mut self, instance: &str, interest: Interest) -> bool {
        if self.interests.get(instance) == Some(&interest) {
            return false;
        }
        self.interests.insert(instance.into(), interest);
        true
    }

    pub fn remove(&mut self, instance: &str) -> bool {
        self.interests.remove(instance).is_some()
    }

    pub fn instances(&self) -> impl Iterator<Item = &str> {
        self.interests.keys().map(String::as_str)
    }

    /// Directories whose events tell about everything of interest, if they exist.
    pub fn directories(&self) -> BTreeSet<&Path> {
        let mut all = BTreeSet::new();
        for interest in self.interests.values() {
            all.extend(interest.files.iter().filter_map(|file| file.parent()));
            all.extend(interest.directories.iter().map(PathBuf::as_path));
        }
        all
    }

    /// The instances that want `directory` watched.
    pub fn watching(&self, directory: &Path) -> Vec<String> {
        let wants = |interest: &Interest| {
            interest.directories.contains(directory)
                || interest.files.iter().any(|file| file.parent() == Some(directory))
        };
        self.interests.iter().filter(|(_, interest)| wants(interest)).map(|(name, _)| name.clone()).collect()
    }

    /// The instances that an event concerns; `name` is the entry of `directory` that it is about.
    pub fn affected(&self, directory: &Path, name: Option<&Path>, happened: Happened) -> Vec<String> {
        let path = name.map_or_else(|| directory.to_owned(), |name| directory.join(name));
        let concerned = |interest: &Interest| match happened {
            Happened::Itself => interest.at_or_below(directory),
            Happened::Written => interest.files.contains(&path),
            _ if interest.directories.contains(directory) => true,
            Happened::Changed => interest.files.contains(&path) || interest.directories.contains(&path),
            // What appears or goes may be a directory on the way to something of interest.
            Happened::Appeared => interest.at_or_below(&path),
        };
        let all = self.interests.iter().filter(|(_, interest)| concerned(interest));
        all.map(|(instance, _)| instance.clone()).collect()
    }
}

/// Paths sort component by component, so everything below `path` follows it directly.
fn at_or_below(paths: &BTreeSet<PathBuf>, path: &Path) -> bool {
    paths
        .range::<Path, _>((Bound::Included(path), Bound::Unbounded))
        .next()
        .is_some_and(|next| next.starts_with(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interest(files: &[&str], directories: &[&str]) -> Interest {
        Interest::new(
            files.iter().map(PathBuf::from).collect(),
            directories.iter().map(PathBuf::from).collect(),
        )
    }

    fn mapping() -> Mapping {
        let mut mapping = Mapping::default();
        mapping.set(
            "sshd",
            interest(&["/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/a.conf"], &["/etc/ssh/sshd_config.d"]),
        );
        mapping.set("pam", interest(&["/etc/pam.d/login"], &["/etc/pam.d"]));
        mapping.set("lists", interest(&["/etc/pam.d", "/etc/ssh"], &[]));
        mapping
    }

    fn affected(directory: &str, name: &str, happened: Happened) -> Vec<String> {
        let name = Some(Path::new(name)).filter(|name| !name.as_os_str().is_empty());
        mapping().affected(Path::new(directory), name, happened)
    }

    #[test]
    fn events_find_their_instances() {
        use Happened::{Appeared, Changed, Itself, Written};
        for (directory, name, happened, expected) in [
            ("/etc/ssh", "sshd_config", Changed, vec!["sshd"]),
            ("/etc/ssh", "ssh_host_key", Changed, vec![]),
            ("/etc/ssh", "moduli", Appeared, vec![]),
            ("/etc/ssh/sshd_config.d", "b.conf", Appeared, vec!["sshd"]),
            ("/etc/ssh/sshd_config.d", "b.conf", Changed, vec!["sshd"]),
            ("/etc/ssh/sshd_config.d", "b.conf", Written, vec![]),
            ("/etc/ssh/sshd_config.d", "a.conf", Written, vec!["sshd"]),
            ("/etc/ssh", "sshd_config.d", Changed, vec!["sshd"]),
            ("/etc", "pam.d", Changed, vec!["lists", "pam"]),
            ("/etc", "ssh", Appeared, vec!["lists", "sshd"]),
            ("/etc/pam.d", "", Itself, vec!["lists", "pam"]),
            ("/etc", "passwd", Changed, vec![]),
            ("/", "etc", Appeared, vec!["lists", "pam", "sshd"]),
            ("/etc", "pam.dd", Appeared, vec![]),
        ] {
            assert_eq!(affected(directory, name, happened), expected, "{directory} {name} {happened:?}");
        }
    }

    #[test]
    fn directories_cover_files_and_lists() {
        let mapping = mapping();
        let directories: Vec<_> =
            mapping.directories().into_iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(directories, ["/etc", "/etc/pam.d", "/etc/ssh", "/etc/ssh/sshd_config.d"]);
    }

    #[test]
    fn many_files_of_a_directory_are_the_directory() {
        let files: BTreeSet<PathBuf> = (0..40).map(|i| PathBuf::from(format!("/usr/bin/tool{i}"))).collect();
        let interest =
            Interest::new(files.into_iter().chain(["/etc/passwd".into()]).collect(), BTreeSet::new());
        assert_eq!((interest.files.len(), interest.directories.len()), (1, 1));
        let mut mapping = Mapping::default();
        mapping.set("x", interest);
        assert!(mapping.directories().contains(Path::new("/usr/bin")));
        for (directory, name, happened, hit) in [
            ("/usr/bin", Some("tool7"), Happened::Changed, true),
            ("/usr/bin", Some("new"), Happened::Appeared, true),
            ("/usr", Some("bin"), Happened::Changed, true),
            ("/usr", Some("bin"), Happened::Appeared, true),
            ("/usr/bin", None, Happened::Itself, true),
            ("/usr", Some("lib"), Happened::Changed, false),
        ] {
            let affected = mapping.affected(Path::new(directory), name.map(Path::new), happened);
            assert_eq!(!affected.is_empty(), hit, "{directory} {name:?} {happened:?}");
        }
    }

    #[test]
    fn the_same_interest_again_is_no_change() {
        let mut mapping = mapping();
        assert!(!mapping.set("pam", interest(&["/etc/pam.d/login"], &["/etc/pam.d"])));
        assert!(mapping.set("pam", interest(&["/etc/pam.d/login"], &[])));
        assert!(mapping.remove("pam") && !mapping.remove("pam"));
    }

    proptest! {
        /// Every way in which a file of interest can change in a directory that is watched for it is noticed.
        #[test]
        fn no_change_of_a_file_of_interest_is_missed(parts in proptest::collection::vec("[a-c-]{1,3}", 1..5), up in 0usize..4) {
            let file = PathBuf::from(format!("/{}", parts.join("/")));
            let mut mapping = Mapping::default();
            mapping.set("other", interest(&["/a-", "/a.b/c", "/a"], &["/b"]));
            mapping.set("x", Interest::new([file.clone()].into(), BTreeSet::new()));
            let parent = file.parent().unwrap();
            prop_assert!(mapping.directories().contains(parent));
            let name = file.file_name().map(Path::new);
            let hit = |affected: Vec<String>| affected.iter().any(|instance| instance == "x");
            prop_assert!(hit(mapping.affected(parent, name, Happened::Changed)));
            prop_assert!(hit(mapping.affected(parent, name, Happened::Appeared)));
            let ancestor = file.ancestors().nth(up).unwrap_or(Path::new("/"));
            prop_assert!(hit(mapping.affected(ancestor, None, Happened::Itself)));
            if let (Some(above), Some(name)) = (ancestor.parent(), ancestor.file_name()) {
                prop_assert!(hit(mapping.affected(above, Some(Path::new(name)), Happened::Appeared)));
            }
        }
    }
}

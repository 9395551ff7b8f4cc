//! Paths of a host in comparable form, and its programs that run with the rights of their owner.

use super::coverage::{Path, Places};
use crate::{Host, Kind};
use std::collections::BTreeSet;

/// Directories that are symlinks on some systems. What hosts of today have where a tree does not tell.
const ALIASES: [(&str, Option<&str>); 7] = [
    ("/bin", Some("/usr/bin")),
    ("/sbin", Some("/usr/sbin")),
    ("/lib", Some("/usr/lib")),
    ("/lib64", Some("/usr/lib64")),
    ("/usr/sbin", None),
    ("/var/run", Some("/run")),
    ("/var/lock", Some("/run/lock")),
];
const MAX_HOPS: usize = 4;

const PROGRAM_DIRECTORIES: [&str; 6] =
    ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/lib", "/usr/libexec"];
/// Entries looked at in search of programs; an ordinary host has a fifth of it.
const MAX_ENTRIES: usize = 40_000;
const MAX_PROGRAMS: usize = 500;
const SET_ID: u32 = 0o6000;
const EXECUTABLE: u32 = 0o111;

pub struct HostPlaces<'a> {
    host: &'a Host,
    aliases: Vec<(&'static str, String)>,
}

impl<'a> HostPlaces<'a> {
    pub fn new(host: &'a Host) -> HostPlaces<'a> {
        let mut aliases = Vec::new();
        for (path, usual) in ALIASES {
            let target = match host.read_link(path) {
                Ok(target) => Some(joined(path, &target)),
                Err(error) if error.is_missing() => usual.map(str::to_owned),
                Err(_) => None,
            };
            aliases.extend(target.filter(|target| target != path).map(|target| (path, target)));
        }
        HostPlaces { host, aliases }
    }

    /// `None` when there is no such thing on the host.
    pub fn existing(&self, path: &str) -> Option<Path> {
        let spelled = self.spelled(path);
        let found = self.host.stat(path).or_else(|_| self.host.stat(&spelled)).ok()?;
        let mut real = spelled.clone();
        for _ in 0..MAX_HOPS {
            match self.host.read_link(&real) {
                Ok(target) => real = self.spelled(&joined(&real, &target)),
                Err(_) => break,
            }
        }
        Some(Path { spelled, real, is_directory: found.kind == Kind::Directory })
    }

    /// Also for what is not there.
    pub fn any(&self, path: &str) -> Path {
        self.existing(path).unwrap_or_else(|| {
            let spelled = self.spelled(path);
            Path { real: spelled.clone(), spelled, is_directory: false }
        })
    }

    /// The set-user-id and set-group-id programs in the usual directories, those of /usr/lib and /usr/libexec
    /// one level deep. Sorted.
    pub fn privileged_programs(&self) -> Vec<String> {
        let mut found = BTreeSet::new();
        let mut budget = MAX_ENTRIES;
        for path in PROGRAM_DIRECTORIES {
            let is_link = self.host.read_link(path).is_ok();
            if let (false, Ok(directory)) = (is_link, self.host.directory(path)) {
                let depth = usize::from(path == "/usr/lib" || path == "/usr/libexec");
                programs_in(&directory, path, depth, &mut budget, &mut found);
            }
        }
        found.into_iter().take(MAX_PROGRAMS).collect()
    }
}

impl Places for HostPlaces<'_> {
    fn spelled(&self, path: &str) -> String {
        let mut path = normal(path);
        for _ in 0..MAX_HOPS {
            let alias = self.aliases.iter().find_map(|(from, to)| {
                let rest = path.strip_prefix(from).filter(|rest| rest.starts_with('/'))?;
                Some(format!("{to}{rest}"))
            });
            match alias {
                Some(other) if other != path => path = normal(&other),
                _ => break,
            }
        }
        path
    }

    fn is_directory(&self, path: &str) -> bool {
        self.host.stat(path).is_ok_and(|found| found.kind == Kind::Directory)
    }
}

fn programs_in(
    directory: &crate::Directory<'_>,
    path: &str,
    depth: usize,
    budget: &mut usize,
    found: &mut BTreeSet<String>,
) {
    for entry in directory.entries().unwrap_or_default() {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let name = entry.name();
        match entry.kind() {
            Kind::Directory if depth > 0 => {
                if let Ok(below) = directory.subdirectory_unrecorded(entry.raw()) {
                    programs_in(&below, &format!("{path}/{name}"), depth - 1, budget, found);
                }
            }
            // Libraries are many, and none runs by itself.
            Kind::Regular | Kind::Unknown if !name.contains(".so") => {
                let attributes = directory.lstat(entry.raw());
                let is_privileged = attributes.is_ok_and(|file| {
                    file.kind == Kind::Regular && file.mode & SET_ID != 0 && file.mode & EXECUTABLE != 0
                });
                if is_privileged {
                    found.insert(format!("{path}/{name}"));
                }
            }
            _ => {}
        }
    }
}

/// Where a link at `path` leads.
fn joined(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return normal(target);
    }
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    normal(&format!("{parent}/{target}"))
}

/// Absolute, without `.`, `..`, doubled slashes and a slash at the end.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path as FilePath;

    fn file(root: &FilePath, path: &str, mode: u32) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn paths_lose_links_in_their_directories() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        file(root, "usr/bin/kmod", 0o755);
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("bin", root.join("usr/sbin")).unwrap();
        symlink("kmod", root.join("usr/bin/modprobe")).unwrap();
        std::fs::create_dir_all(root.join("var/run")).unwrap();
        let host = Host::at(root);
        let places = HostPlaces::new(&host);
        assert_eq!(places.spelled("/bin//kmod/"), "/usr/bin/kmod");
        assert_eq!(places.spelled("/sbin/kmod"), "/usr/bin/kmod");
        // A real directory is no alias, one that the tree does not have is what it usually is.
        assert_eq!(places.spelled("/var/run/utmp"), "/var/run/utmp");
        assert_eq!(places.spelled("/var/lock/x"), "/run/lock/x");
        assert_eq!(places.spelled("/"), "/");
        let modprobe = places.existing("/sbin/modprobe").unwrap();
        assert_eq!((modprobe.spelled.as_str(), modprobe.real.as_str()), ("/usr/bin/modprobe", "/usr/bin/kmod"));
        assert!(places.existing("/usr/bin/none").is_none() && places.existing("/var/run").unwrap().is_directory);
        assert_eq!(joined("/a/b/c", "../d/./e"), "/a/d/e");
    }

    #[test]
    fn programs_with_the_rights_of_their_owner() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        for (path, mode) in [
            ("usr/bin/su", 0o4755),
            ("usr/bin/wall", 0o2755),
            ("usr/bin/ls", 0o755),
            ("usr/bin/odd", 0o4644),
            ("usr/lib/openssh/ssh-keysign", 0o4755),
            ("usr/lib/a/b/deep", 0o4755),
            ("usr/lib/libx.so.1", 0o4755),
            ("home/x/su", 0o4755),
        ] {
            file(root, path, mode);
        }
        let host = Host::at(root);
        let found = HostPlaces::new(&host).privileged_programs();
        assert_eq!(found, ["/usr/bin/su", "/usr/bin/wall", "/usr/lib/openssh/ssh-keysign"]);
    }
}

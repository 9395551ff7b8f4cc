//! Walks a tree of any size with little memory: entry by entry, no symlink followed, no mount entered that the
//! caller names, nothing recorded for watching.

use super::{Attributes, Host, Kind, Problem, ReadError, directory::text_of_name};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::Instant;

/// Deeper directories are left out; each level holds one open descriptor.
const MAX_DEPTH: usize = 256;
/// Directories that are known and not yet listed; bounds the memory.
const MAX_PENDING: usize = 100_000;
const MAX_PROBLEMS: usize = 20;
/// As many symlinks as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// So many entries pass between two looks at the clock.
const ENTRIES_PER_LOOK: u64 = 256;

/// What a visitor wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A directory is listed later; anything else is done with.
    Go,
    /// A directory is not listed.
    Skip,
    /// The walk ends here, incomplete.
    Stop,
}

/// Where a walk must not go, not even by stat(2): mounts (a dead NFS server would hang it) and trees that the caller
/// leaves out.
#[derive(Debug, Default)]
pub struct Barriers {
    /// Names by the directory that holds them; paths of the running system, without `/` at the end.
    names: HashMap<Vec<u8>, HashSet<Vec<u8>>>,
}

impl Barriers {
    /// `path` is absolute as the running system knows it.
    pub fn add(&mut self, path: &[u8]) {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let path = &path[..end];
        if let Some(slash) = path.iter().rposition(|byte| *byte == b'/') {
            let (parent, name) = (path[..slash].to_vec(), path[slash + 1..].to_vec());
            self.names.entry(parent).or_default().insert(name);
        }
    }

    /// Whether anything below `path` may be looked at: neither it nor a directory above it is a barrier.
    pub fn hides(&self, path: &[u8]) -> bool {
        let mut rest = path;
        while let Some(slash) = rest.iter().rposition(|byte| *byte == b'/') {
            let (parent, name) = (&rest[..slash], &rest[slash + 1..]);
            if self.names.get(parent).is_some_and(|names| names.contains(name)) {
                return true;
            }
            rest = parent;
        }
        false
    }
}

/// Bounds of a walk.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub deadline: Instant,
    pub max_entries: u64,
}

/// How a walk ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// `false`: something was left out, and `problems` says why.
    pub complete: bool,
    /// At most 20 sentences.
    pub problems: Vec<String>,
    pub entries: u64,
}

impl Outcome {
    fn problem(&mut self, sentence: String) {
        self.complete = false;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(sentence);
        }
    }
}

/// One entry of a directory.
pub struct Visited<'a> {
    directory: &'a OwnedFd,
    /// Of the directory, as the host names it, without `/` at the end.
    directory_path: &'a [u8],
    name: &'a CStr,
    kind: Kind,
    /// 1 for the entries of the start.
    pub depth: usize,
    /// Where the file system does not tell the kind in its listings, it has been asked already.
    stat: Option<Stat>,
}

impl Visited<'_> {
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn name(&self) -> &[u8] {
        self.name.to_bytes()
    }

    pub fn directory_path(&self) -> &[u8] {
        self.directory_path
    }

    /// As the host names it; bytes that are not UTF-8 as `\xNN`.
    pub fn path(&self) -> String {
        format!("{}/{}", text_of_name(self.directory_path), text_of_name(self.name()))
    }

    /// A character device with the number 0/0 is how overlay file systems store that a file was removed.
    pub fn is_whiteout(&self) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statat(self.directory, self.name, flags).is_ok_and(|stat| stat.st_rdev == 0)
    }

    /// `None` when it vanished meanwhile or the file system is broken at this place.
    pub fn attributes(&self) -> Option<Attributes> {
        let stat = self.stat.or_else(|| {
            rustix::fs::statat(self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
                .ok()
        });
        stat.map(Attributes::from)
    }
}

struct Pending {
    parent: Rc<OwnedFd>,
    parent_path: Rc<Vec<u8>>,
    name: CString,
    depth: usize,
}

impl Host {
    /// Owner, mode and kind of `path` itself, a symlink not followed; not recorded, so no change of it triggers.
    pub(crate) fn lstat_unrecorded(&self, path: &str) -> Result<Attributes, ReadError> {
        let stat = self.in_parent(path, |fd, name| {
            rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
        });
        stat.map(Attributes::from).map_err(|errno| self.failed(path, errno))
    }

    /// Whether `path` is at or behind a barrier, also by way of symlinks; found out without touching the barrier.
    pub(crate) fn leads_to_barrier(&self, path: &str, barriers: &Barriers) -> bool {
        let mut pending: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut here = String::new();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    here.truncate(here.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = format!("{here}/{part}");
            if barriers.hides(&self.path_outside(&next)) {
                return true;
            }
            let is_link = self.lstat_unrecorded(&next).is_ok_and(|found| found.kind == Kind::Symlink);
            if !is_link {
                here = next;
                continue;
            }
            links += 1;
            let target = self.in_parent(&next, |fd, name| rustix::fs::readlinkat(fd, name, Vec::new()));
            let (Ok(target), true) = (target, links <= MAX_LINKS) else { return false };
            let target = target.to_string_lossy();
            if target.starts_with('/') {
                here.clear();
            }
            pending.extend(target.split('/').rev().map(str::to_owned));
        }
        false
    }

    /// A host with the same root and nothing recorded yet, for another thread.
    pub fn another(&self) -> Host {
        Host::at(&self.root)
    }

    /// The path of `path` as the running system knows it, for [`Barriers`].
    pub(crate) fn path_outside(&self, path: &str) -> Vec<u8> {
        self.outside(path).as_os_str().as_bytes().to_vec()
    }

    /// Calls `visit` for everything below the directory `start`, a directory before what is in it. The start may be
    /// reached over symlinks; below it none is followed.
    ///
    /// # Errors
    /// The start cannot be opened as a directory. What goes wrong below is in the outcome.
    pub(crate) fn walk(
        &self,
        start: &str,
        barriers: &Barriers,
        limits: Limits,
        visit: &mut dyn FnMut(&Visited<'_>) -> Next,
    ) -> Result<Outcome, ReadError> {
        let start = start.trim_end_matches('/');
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = self.resolver.open(start, flags).map_err(|errno| self.failed(start, errno))?;
        let mut outcome = Outcome { complete: true, ..Outcome::default() };
        let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
        let mut pending = Vec::new();
        let mut here = Some((root, start.as_bytes().to_vec(), 1));
        loop {
            if let Some((fd, path, depth)) = here.take() {
                let place = Place { fd: Rc::new(fd), path: Rc::new(path), depth };
                let listed =
                    self.list_into(&place, barriers, limits, &mut buffer, &mut pending, &mut outcome, visit);
                if listed == Next::Stop {
                    return Ok(outcome);
                }
            }
            let Some(next) = pending.pop() else { return Ok(outcome) };
            let Pending { parent, parent_path, name, depth } = next;
            let mut path = parent_path.to_vec();
            path.push(b'/');
            path.extend(name.to_bytes());
            match open_directory(&parent, &name) {
                Ok(fd) => here = Some((fd, path, depth)),
                // Removed or replaced since it was listed.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => {
                    outcome.problem(ReadError::new(&text_of_name(&path), Problem::of(errno)).to_string());
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn list_into(
        &self,
        place: &Place,
        barriers: &Barriers,
        limits: Limits,
        buffer: &mut [MaybeUninit<u8>],
        pending: &mut Vec<Pending>,
        outcome: &mut Outcome,
        visit: &mut dyn FnMut(&Visited<'_>) -> Next,
    ) -> Next {
        let barred = barriers.names.get(&self.walked_outside(&place.path));
        let mut listing = RawDir::new(&*place.fd, buffer);
        while let Some(entry) = listing.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::NOENT) => break,
                Err(errno) => {
                    let path = text_of_name(&place.path);
                    outcome.problem(ReadError::new(&path, Problem::of(errno)).to_string());
                    break;
                }
            };
            let name = entry.file_name();
            if name == c"." || name == c".." || barred.is_some_and(|names| names.contains(name.to_bytes())) {
                continue;
            }
            outcome.entries += 1;
            if outcome.entries > limits.max_entries {
                outcome.problem(format!(
                    "more than {} files: the rest was left out after {}",
                    limits.max_entries,
                    text_of_name(&place.path)
                ));
                return Next::Stop;
            }
            if outcome.entries.is_multiple_of(ENTRIES_PER_LOOK) && Instant::now() >= limits.deadline {
                outcome.problem(format!(
                    "the time was over after {} files: the rest was left out after {}",
                    outcome.entries,
                    text_of_name(&place.path)
                ));
                return Next::Stop;
            }
            let mut visited = Visited {
                directory: &place.fd,
                directory_path: &place.path,
                name,
                kind: entry.file_type().into(),
                depth: place.depth,
                stat: None,
            };
            if visited.kind == Kind::Unknown {
                let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
                let Ok(stat) = rustix::fs::statat(&*place.fd, name, flags) else { continue };
                visited.kind = Attributes::from(stat).kind;
                visited.stat = Some(stat);
            }
            let next = visit(&visited);
            if next == Next::Stop {
                outcome.complete = false;
                return Next::Stop;
            }
            if next == Next::Skip || visited.kind != Kind::Directory {
                continue;
            }
            if place.depth >= MAX_DEPTH || pending.len() >= MAX_PENDING {
                let why = if place.depth >= MAX_DEPTH { "too deep" } else { "among too many directories" };
                outcome.problem(format!("{}: {why}: what is below it was left out", visited.path()));
                continue;
            }
            pending.push(Pending {
                parent: place.fd.clone(),
                parent_path: place.path.clone(),
                name: name.to_owned(),
                depth: place.depth + 1,
            });
        }
        Next::Go
    }

    /// Bytes of a path within the host as the running system knows them, without `/` at the end.
    fn walked_outside(&self, path: &[u8]) -> Vec<u8> {
        let root = self.root.as_os_str().as_bytes();
        let mut outside = root.strip_suffix(b"/").unwrap_or(root).to_vec();
        outside.extend(path);
        outside
    }
}

struct Place {
    fd: Rc<OwnedFd>,
    path: Rc<Vec<u8>>,
    depth: usize,
}

/// Listing a directory would set its time of access once a day; who may avoids that.
fn open_directory(parent: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(parent, name, flags, Mode::empty()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    fn limits() -> Limits {
        Limits { deadline: Instant::now() + Duration::from_secs(30), max_entries: 10_000 }
    }

    fn paths(host: &Host, start: &str, barriers: &Barriers, limits: Limits) -> (Vec<String>, Outcome) {
        let mut seen = Vec::new();
        let mut visit = |visited: &Visited<'_>| {
            seen.push(visited.path());
            if visited.name() == b"skipped" { Next::Skip } else { Next::Go }
        };
        let outcome = host.walk(start, barriers, limits, &mut visit).unwrap();
        seen.sort();
        (seen, outcome)
    }

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for directory in ["a/b/c", "a/skipped/x", "m/inside"] {
            fs::create_dir_all(tree.path().join(directory)).unwrap();
        }
        fs::write(tree.path().join("a/b/c/file"), "").unwrap();
        symlink("..", tree.path().join("a/b/loop")).unwrap();
        symlink("a", tree.path().join("link")).unwrap();
        fs::write(tree.path().join("a").join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        tree
    }

    #[test]
    fn all_is_visited_and_no_symlink_followed() {
        let tree = tree();
        let host = Host::at(tree.path());
        let expected =
            ["/a/\\xff", "/a/b", "/a/b/c", "/a/b/c/file", "/a/b/loop", "/a/skipped"].map(str::to_owned);
        let (seen, outcome) = paths(&host, "/a/", &Barriers::default(), limits());
        assert_eq!(seen, expected);
        assert!(outcome.complete && outcome.problems.is_empty() && outcome.entries == 6);
        // The start itself may be a symlink.
        assert_eq!(paths(&host, "/link", &Barriers::default(), limits()).0.len(), 6);
        assert_eq!(host.touched(), crate::Touched::default(), "nothing is watched");
        assert!(
            host.walk("/none", &Barriers::default(), limits(), &mut |_| Next::Go).unwrap_err().is_missing()
        );
    }

    #[test]
    fn barriers_are_neither_entered_nor_shown() {
        let tree = tree();
        let host = Host::at(tree.path());
        let mut barriers = Barriers::default();
        barriers.add(&host.path_outside("/m"));
        barriers.add(&host.path_outside("/a/b/"));
        let (seen, outcome) = paths(&host, "/", &barriers, limits());
        assert_eq!(seen, ["/a", "/a/\\xff", "/a/skipped", "/link"]);
        assert!(outcome.complete);
        assert!(barriers.hides(&host.path_outside("/m/inside")) && !barriers.hides(&host.path_outside("/a")));
    }

    #[test]
    fn limits_end_the_walk_and_are_told() {
        let tree = tree();
        let host = Host::at(tree.path());
        let (seen, outcome) = paths(&host, "/", &Barriers::default(), Limits { max_entries: 3, ..limits() });
        assert_eq!((seen.len(), outcome.complete), (3, false));
        assert!(outcome.problems[0].starts_with("more than 3 files"), "{:?}", outcome.problems);
        for number in 0..600 {
            fs::write(tree.path().join(format!("m/{number}")), "").unwrap();
        }
        let over = Limits { deadline: Instant::now(), ..limits() };
        let (_, outcome) = paths(&host, "/m", &Barriers::default(), over);
        assert!(!outcome.complete && outcome.problems[0].starts_with("the time was over"));
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_cut_and_told() {
        let tree = tempfile::tempdir().unwrap();
        let mut here =
            rustix::fs::openat(rustix::fs::CWD, tree.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..MAX_DEPTH + 5 {
            rustix::fs::mkdirat(&here, "directory", Mode::from_raw_mode(0o755)).unwrap();
            here = rustix::fs::openat(&here, "directory", OFlags::RDONLY, Mode::empty()).unwrap();
        }
        let (seen, outcome) = paths(&Host::at(tree.path()), "/", &Barriers::default(), limits());
        assert_eq!(seen.len(), MAX_DEPTH);
        assert!(!outcome.complete && outcome.problems[0].contains("too deep"));
    }
}

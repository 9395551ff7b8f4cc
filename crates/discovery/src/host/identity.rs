//! What tells whether a file is still the one that was read before, and access that is not recorded for watching: for
//! discoveries that look at thousands of files, and for the state that they keep between runs.

use super::{Attributes, Directory, Host, HostFile, Kind, Problem, READ, ReadError};
use rustix::fs::{Advice, AtFlags, CWD, OFlags, Stat};
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// A file at a moment. Equal means: the same content, for as long as nobody turns the clock back to deceive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub kind: Kind,
    pub device: u64,
    pub inode: u64,
    pub size_bytes: u64,
    /// Last change of the content: seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
    /// Last change of content, owner, mode or names; nobody but the kernel sets it.
    pub changed: (i64, u32),
}

impl From<&Stat> for Identity {
    fn from(stat: &Stat) -> Self {
        Identity {
            kind: Attributes::from(*stat).kind,
            device: stat.st_dev,
            inode: stat.st_ino,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime, stat.st_ctime_nsec as u32),
        }
    }
}

impl Host {
    /// This host with a directory in which discoveries keep what spares them work in the next run. It belongs to this
    /// program, not to the host that is looked at.
    pub fn with_state(mut self, directory: PathBuf) -> Host {
        self.state = Some(directory);
        self
    }

    pub(crate) fn state(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    /// The same host, nothing recorded yet: for work on another thread, or for what shall trigger nothing.
    pub(crate) fn unwatched(&self) -> Host {
        Host { state: self.state.clone(), ..Host::at(&self.root) }
    }

    /// The identity of what `path` names, symlinks followed. Not recorded.
    pub(crate) fn identity(&self, path: &str) -> Result<Identity, ReadError> {
        let stat = if self.is_running_system() {
            rustix::fs::statat(CWD, super::absolute(path).as_str(), AtFlags::NO_AUTOMOUNT)
        } else {
            self.resolver.open(path, OFlags::PATH | OFlags::CLOEXEC).and_then(rustix::fs::fstat)
        };
        stat.map(|stat| Identity::from(&stat)).map_err(|errno| self.failed(path, errno))
    }

    /// Records a file, under its real name too, as if it had been read: for what was read through another view.
    pub(crate) fn watch(&self, path: &str) {
        let opened = self.resolver.open(path, OFlags::PATH | OFlags::CLOEXEC);
        self.record(path, opened.as_ref().ok(), |touched| &mut touched.files);
    }

    /// Like [`Host::open`], not recorded.
    pub(crate) fn open_unrecorded(&self, path: &str) -> Result<HostFile, ReadError> {
        let opened = self.resolver.open(path, READ);
        HostFile::new(path, opened.map_err(|errno| self.failed(path, errno))?)
    }
}

impl Directory<'_> {
    /// The identity of an entry, a symlink not followed. `None` when it vanished meanwhile or cannot be looked at.
    pub(crate) fn identity(&self, name: &CStr) -> Option<Identity> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT);
        stat.ok().map(|stat| Identity::from(&stat))
    }
}

impl HostFile {
    /// The identity of the open file.
    pub(crate) fn identity(&self) -> Result<Identity, ReadError> {
        let stat = rustix::fs::fstat(&self.file);
        stat.map(|stat| Identity::from(&stat)).map_err(|errno| ReadError::new(&self.path, Problem::of(errno)))
    }

    /// Tells the kernel that the file is read once from start to end, so that it reads ahead and need not keep it.
    pub(crate) fn will_be_read_once(&self) {
        // Advice: what a file system does not know it ignores.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::Sequential);
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::NoReuse);
    }

    /// Reads at a place of the file into all of `buffer`; `false` when the file ends before.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> bool {
        use std::os::unix::fs::FileExt;
        self.file.read_exact_at(buffer, offset).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_file_changes_its_identity_and_nothing_is_recorded() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join("a");
        std::fs::write(&path, "one").unwrap();
        let host = Host::at(tree.path());
        let first = host.identity("/a").unwrap();
        assert_eq!(host.open_unrecorded("/a").unwrap().identity().unwrap(), first);
        assert_eq!((first.size_bytes, first.kind), (3, Kind::Regular));
        assert_eq!(host.unwatched().directory("/").unwrap().identity(c"a"), Some(first));
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(&path, "two").unwrap();
        let second = host.identity("/a").unwrap();
        assert_ne!(first, second);
        assert_eq!((first.inode, first.size_bytes), (second.inode, second.size_bytes));
        assert!(host.identity("/b").unwrap_err().is_missing());
        assert!(host.open_unrecorded("/b").is_err());
        assert_eq!(host.touched(), crate::Touched::default());
    }

    #[test]
    fn another_view_of_the_same_host_has_its_state_and_records_of_its_own() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("a"), "one").unwrap();
        let host = Host::at(tree.path()).with_state("/state".into());
        let other = host.unwatched();
        assert_eq!(other.state(), Some(Path::new("/state")));
        assert_eq!(other.read("/a").unwrap(), b"one");
        assert!(host.touched().files.is_empty() && !other.touched().files.is_empty());
        std::os::unix::fs::symlink("a", tree.path().join("link")).unwrap();
        ["/link", "/missing"].iter().for_each(|path| host.watch(path));
        let root = std::fs::canonicalize(tree.path()).unwrap();
        let expected = ["a", "link", "missing"].map(|name| root.join(name));
        assert_eq!(host.touched().files, expected.into());
    }
}

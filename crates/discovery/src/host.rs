//! All access to a host's files: the running system, or the tree of an image, a chroot or a fixture.
//!
//! A file of a host is hostile input. Only regular files are read, nothing blocks (a FIFO, a terminal), sizes
//! are bounded, and below a root other than `/` no path leaves it: neither by `..` nor by a symlink. What was
//! looked at is recorded, so that a change of it can trigger the next run.

mod directory;
mod error;
mod identity;
mod resolve;
mod walk;

pub use directory::{Attributes, Directory, Entry, Kind};
pub use error::{Problem, ReadError};
pub(crate) use identity::Identity;
use resolve::Resolver;
use rustix::fs::{AtFlags, CWD, OFlags};
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
pub(crate) use walk::{Barriers, Limits, Next, Visited};

/// The largest file that [`Host::read`] takes.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// How much text parsers with include directives may read in one run of a discovery: hundreds of files that are each
/// as large as one may be would be gigabytes.
pub const MAX_TEXT_BYTES: u64 = 64 * 1024 * 1024;

/// What a host was asked for, as paths of the system the program runs on (below the root, when there is one).
///
/// Files are recorded under the name asked for and, where symlinks lead elsewhere, also under their real one.
/// Missing ones are included: their creation is a change too, seen from the nearest directory that exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    pub files: BTreeSet<PathBuf>,
    pub directories: BTreeSet<PathBuf>,
}

/// A host's files.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    resolver: Resolver,
    touched: RefCell<Touched>,
    /// Of [`MAX_TEXT_BYTES`].
    text_left_bytes: Cell<u64>,
    /// Where discoveries may keep what spares them work next time.
    state: Option<PathBuf>,
}

impl Host {
    /// The system this program runs on.
    pub fn running() -> Host {
        Host {
            root: PathBuf::from("/"),
            resolver: Resolver::running(),
            touched: RefCell::default(),
            text_left_bytes: Cell::new(MAX_TEXT_BYTES),
            state: None,
        }
    }

    /// The file tree below `root`; `/` is the running system. A root that does not exist shows in every read.
    pub fn at(root: &Path) -> Host {
        let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        if root == Path::new("/") {
            return Host::running();
        }
        Host { resolver: Resolver::tree(&root), root, ..Host::running() }
    }

    /// Where the tree lies on the system this program runs on; `/` for that system itself. Not for reading, which
    /// this type does: only a program that has an option for it may be given it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `false` for a tree: then there is no kernel, no process and no network to ask.
    pub fn is_running_system(&self) -> bool {
        self.resolver.is_running()
    }

    /// The node name (uname(2)); for a tree what its `etc/hostname` says, else this machine's.
    pub fn name(&self) -> String {
        let of_tree = || {
            let text = self.read_text("/etc/hostname").ok()?;
            let name = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
            Some(name.chars().take(253).collect::<String>())
        };
        let named = if self.is_running_system() { None } else { of_tree() };
        named.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
    }

    /// The bytes of a regular file of at most [`MAX_FILE_BYTES`].
    pub fn read(&self, path: &str) -> Result<Vec<u8>, ReadError> {
        self.read_at_most(path, MAX_FILE_BYTES)
    }

    /// The bytes of a regular file; larger than `limit_bytes` is an error.
    pub fn read_at_most(&self, path: &str, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        self.open(path)?.bytes(limit_bytes)
    }

    /// The text of a file: without byte order mark, invalid UTF-8 replaced by U+FFFD, line ends as they are.
    pub fn read_text(&self, path: &str) -> Result<String, ReadError> {
        let bytes = self.read(path)?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Whether this run may still read so much; then it is counted.
    pub(crate) fn takes_text(&self, bytes: usize) -> bool {
        let left = self.text_left_bytes.get().checked_sub(bytes as u64);
        self.text_left_bytes.set(left.unwrap_or(self.text_left_bytes.get()));
        left.is_some()
    }

    /// Another run begins.
    pub(crate) fn begin_run(&self) {
        self.text_left_bytes.set(MAX_TEXT_BYTES);
    }

    /// A regular file for reading piece by piece; the caller bounds what it keeps.
    pub fn open(&self, path: &str) -> Result<HostFile, ReadError> {
        let opened = self.resolver.open(path, READ);
        self.record(path, opened.as_ref().ok(), |touched| &mut touched.files);
        HostFile::new(path, opened.map_err(|errno| self.failed(path, errno))?)
    }

    /// The names in a directory, sorted. Bytes that are not UTF-8 appear as `\xNN`; such a name is for people to
    /// read, [`Directory::entries`] has the real one.
    pub fn list(&self, directory: &str) -> Result<Vec<String>, ReadError> {
        let entries = self.directory(directory)?.entries()?;
        Ok(entries.iter().map(|entry| entry.name().into_owned()).collect())
    }

    /// A directory for cheap access to many of its entries.
    pub fn directory(&self, path: &str) -> Result<Directory<'_>, ReadError> {
        let opened = self.resolver.open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC);
        self.record(path, opened.as_ref().ok(), |touched| &mut touched.directories);
        let fd = opened.map_err(|errno| self.failed(path, errno))?;
        Ok(Directory::new(self, path.trim_end_matches('/').to_owned(), fd))
    }

    /// The same for a directory whose changes are to trigger nothing.
    pub fn directory_unrecorded(&self, path: &str) -> Result<Directory<'_>, ReadError> {
        let opened = self.resolver.open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC);
        let fd = opened.map_err(|errno| self.failed(path, errno))?;
        Ok(Directory::new(self, path.trim_end_matches('/').to_owned(), fd))
    }

    /// The directory that holds `path`, and the name of `path` in it (`.` for the root), without reading the
    /// directory: for what [`Directory`] can tell about one file. The file is recorded, not the directory.
    pub fn entry_of(&self, path: &str) -> Result<(Directory<'_>, CString), ReadError> {
        let trimmed = path.trim_end_matches('/');
        let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        let (parent, name) = if matches!(name, "" | "." | "..") { (trimmed, ".") } else { (parent, name) };
        self.record(path, None, |touched| &mut touched.files);
        let opened = CString::new(name).map_err(|_| Errno::INVAL).and_then(|name| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok((self.resolver.open(parent, flags)?, name))
        });
        let (fd, name) = opened.map_err(|errno| self.failed(path, errno))?;
        Ok((Directory::new(self, parent.to_owned(), fd), name))
    }

    /// Owner, mode and kind of what `path` names, symlinks followed.
    pub fn stat(&self, path: &str) -> Result<Attributes, ReadError> {
        let stat = if self.is_running_system() {
            rustix::fs::statat(CWD, absolute(path).as_str(), AtFlags::empty())
        } else {
            self.resolver.open(path, OFlags::PATH | OFlags::CLOEXEC).and_then(rustix::fs::fstat)
        };
        self.record(path, None, |touched| &mut touched.files);
        stat.map(Attributes::from).map_err(|errno| self.failed(path, errno))
    }

    /// Owner, mode and kind of `path` itself, a symlink not followed.
    pub fn lstat(&self, path: &str) -> Result<Attributes, ReadError> {
        let stat = self.in_parent(path, |fd, name| rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW));
        self.record(path, None, |touched| &mut touched.files);
        stat.map(Attributes::from).map_err(|errno| self.failed(path, errno))
    }

    /// Where a symlink points to, as it is written there; bytes that are not UTF-8 as `\xNN`.
    pub fn read_link(&self, path: &str) -> Result<String, ReadError> {
        let target = self.in_parent(path, |fd, name| rustix::fs::readlinkat(fd, name, Vec::new()));
        self.record(path, None, |touched| &mut touched.files);
        target
            .map(|target| directory::text_of_name(target.as_bytes()).into_owned())
            .map_err(|errno| self.failed(path, errno))
    }

    /// What was looked at so far.
    pub fn touched(&self) -> Touched {
        self.touched.borrow().clone()
    }

    /// Calls `action` with the directory that holds the last component of `path`, and that component.
    fn in_parent<T>(
        &self,
        path: &str,
        action: impl Fn(rustix::fd::BorrowedFd<'_>, &str) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        if self.is_running_system() {
            return action(CWD, &absolute(path));
        }
        let trimmed = path.trim_end_matches('/');
        let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if matches!(name, "" | "." | "..") {
            return action(self.resolver.open(path, flags)?.as_fd(), ".");
        }
        action(self.resolver.open(parent, flags)?.as_fd(), name)
    }

    /// `path` as the running system knows it.
    fn outside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn record(&self, path: &str, opened: Option<&OwnedFd>, set: fn(&mut Touched) -> &mut BTreeSet<PathBuf>) {
        let asked = self.outside(path);
        let real = opened.and_then(real_path).filter(|real| *real != asked);
        let mut touched = self.touched.borrow_mut();
        let set = set(&mut touched);
        set.extend(real);
        set.insert(asked);
    }

    /// Like [`record`](Self::record) for a directory reached through its parent, whose path is real already.
    fn record_directory(&self, path: &str) {
        self.touched.borrow_mut().directories.insert(self.outside(path));
    }

    fn failed(&self, path: &str, errno: Errno) -> ReadError {
        match self.resolver.root_error() {
            Some(errno) => ReadError::new(&self.root.to_string_lossy(), Problem::of(errno)),
            None => ReadError::new(path, Problem::of(errno)),
        }
    }
}

/// An open regular file of a host.
#[derive(Debug)]
pub struct HostFile {
    path: String,
    file: File,
    size_bytes: u64,
}

impl HostFile {
    fn new(path: &str, fd: OwnedFd) -> Result<HostFile, ReadError> {
        let stat = rustix::fs::fstat(&fd).map_err(|errno| ReadError::new(path, Problem::of(errno)))?;
        let attributes = Attributes::from(stat);
        if attributes.kind != Kind::Regular {
            return Err(ReadError::new(path, Problem::NotRegular(attributes.kind)));
        }
        Ok(HostFile { path: path.to_owned(), file: File::from(fd), size_bytes: attributes.size_bytes })
    }

    /// How large the file was when it was opened; 0 for files of /proc.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Fills `buffer` with what stands at `offset`; an error when the file ends before.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }

    /// The whole content; more than `limit_bytes` is an error. Files of /proc have a size of 0 and a content.
    pub fn bytes(self, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let too_large = || ReadError::new(&self.path, Problem::TooLarge { limit_bytes });
        if self.size_bytes > limit_bytes {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let read = (&self.file).take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| ReadError::new(&self.path, Problem::Io(error.to_string())))?;
        if bytes.len() as u64 > limit_bytes { Err(too_large()) } else { Ok(bytes) }
    }
}

impl Read for HostFile {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buffer)
    }
}

/// How files are opened: never waiting for a writer or a carrier, never becoming a controlling terminal.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

fn absolute(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

fn real_path(fd: &OwnedFd) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let target = rustix::fs::readlink(link, Vec::new()).ok()?;
    let path = Path::new(std::ffi::OsStr::from_bytes(target.as_bytes())).to_owned();
    // A file deleted meanwhile shows as "/x (deleted)", which nobody can watch.
    (path.is_absolute() && !target.as_bytes().ends_with(b" (deleted)")).then_some(path)
}

#[cfg(test)]
mod tests;

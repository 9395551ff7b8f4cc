//! Directories of a host, and what the file system says about their entries.

use super::{Host, HostFile, Problem, READ, ReadError};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;
use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::fmt;
use std::mem::MaybeUninit;

/// More entries than this are not listed.
pub const MAX_ENTRIES: usize = 200_000;
/// The largest list of names and the largest value of extended attributes that Linux has (xattr(7)).
const MAX_XATTR_BYTES: usize = 64 * 1024;

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Regular,
    Directory,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Fifo,
    Socket,
    Unknown,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Regular => "a regular file",
            Kind::Directory => "a directory",
            Kind::Symlink => "a symbolic link",
            Kind::CharacterDevice => "a character device",
            Kind::BlockDevice => "a block device",
            Kind::Fifo => "a FIFO",
            Kind::Socket => "a socket",
            Kind::Unknown => "a socket or device",
        })
    }
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Kind::Regular,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => Kind::Unknown,
        }
    }
}

/// Who may do what with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    pub kind: Kind,
    /// Permission bits with set-id and sticky: at most 0o7777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size_bytes: u64,
}

impl From<Stat> for Attributes {
    fn from(stat: Stat) -> Self {
        Attributes {
            kind: FileType::from_raw_mode(stat.st_mode).into(),
            mode: Mode::from_raw_mode(stat.st_mode).as_raw_mode() & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        }
    }
}

/// An open directory. Names given to its methods are single components, so they cannot lead out of the host.
#[derive(Debug)]
pub struct Directory<'a> {
    host: &'a Host,
    /// Without `/` at the end: empty for the root.
    path: String,
    pub(super) fd: OwnedFd,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    raw: CString,
    kind: RawKind,
}

impl Entry {
    /// The name as text: bytes that are not UTF-8 as `\xNN`.
    pub fn name(&self) -> Cow<'_, str> {
        text_of_name(self.raw.to_bytes())
    }

    /// The name as the kernel has it, for the methods of [`Directory`].
    pub fn raw(&self) -> &CStr {
        &self.raw
    }

    /// [`Kind::Unknown`] when the file system does not tell in its listings.
    pub fn kind(&self) -> Kind {
        self.kind.0
    }
}

/// A kind that does not take part in the order of entries: names are unique in a directory.
#[derive(Debug, Clone, Copy)]
struct RawKind(Kind);

impl PartialEq for RawKind {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for RawKind {}
impl PartialOrd for RawKind {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for RawKind {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<'a> Directory<'a> {
    pub(super) fn new(host: &'a Host, path: String, fd: OwnedFd) -> Self {
        Self { host, path, fd }
    }

    /// The path of an entry, as the host names it.
    pub fn path_of(&self, name: &CStr) -> String {
        format!("{}/{}", self.path, text_of_name(name.to_bytes()))
    }

    /// All entries but `.` and `..`, sorted by name; more than [`MAX_ENTRIES`] is an error.
    pub fn entries(&self) -> Result<Vec<Entry>, ReadError> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut listing = RawDir::new(&self.fd, &mut buffer);
        let mut entries = Vec::new();
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(|errno| self.failed_here(Problem::of(errno)))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entries.len() == MAX_ENTRIES {
                return Err(self.failed_here(Problem::TooManyEntries { limit: MAX_ENTRIES }));
            }
            entries.push(Entry { raw: name.to_owned(), kind: RawKind(entry.file_type().into()) });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// Owner, mode and kind of an entry, a symlink not followed.
    pub fn lstat(&self, name: &CStr) -> Result<Attributes, ReadError> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map(Attributes::from).map_err(|errno| self.failed(name, errno))
    }

    /// Owner, mode and kind of what an entry names, a symlink followed within the host. Not recorded.
    pub fn stat(&self, name: &CStr) -> Result<Attributes, ReadError> {
        let stat = if self.host.is_running_system() {
            rustix::fs::statat(&self.fd, name, AtFlags::empty())
        } else {
            let look = OFlags::PATH | OFlags::CLOEXEC;
            self.host.resolver.open(&self.path_of(name), look).and_then(rustix::fs::fstat)
        };
        stat.map(Attributes::from).map_err(|errno| self.failed(name, errno))
    }

    /// A regular file of this directory; a symlink is refused. Not recorded: whoever lists a directory watches it.
    pub fn open(&self, name: &CStr) -> Result<HostFile, ReadError> {
        let fd = rustix::fs::openat(&self.fd, name, READ | OFlags::NOFOLLOW, Mode::empty());
        HostFile::new(&self.path_of(name), fd.map_err(|errno| self.failed(name, errno))?)
    }

    /// Reads a small regular file into `buffer`: its content, or `None` when it does not fit. Cheaper than
    /// [`open`](Self::open) where there are thousands. Files that nobody may read by their mode are
    /// [`Problem::Denied`] even for root: in /proc/sys those start something when they are opened or written.
    pub fn read_into<'b>(&self, name: &CStr, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Problem> {
        let fd = rustix::fs::openat(&self.fd, name, READ | OFlags::NOFOLLOW, Mode::empty())
            .map_err(Problem::of)?;
        let attributes = Attributes::from(rustix::fs::fstat(&fd).map_err(Problem::of)?);
        if attributes.kind != Kind::Regular {
            return Err(Problem::NotRegular(attributes.kind));
        }
        if attributes.mode & 0o444 == 0 {
            return Err(Problem::Denied);
        }
        let mut length = 0;
        while length < buffer.len() {
            match rustix::io::read(&fd, &mut buffer[length..]) {
                Ok(0) => return Ok(Some(&buffer[..length])),
                Ok(more) => length += more,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Problem::of(errno)),
            }
        }
        Ok(None)
    }

    /// `true` for a directory where something is mounted only when somebody looks, which looking would do.
    pub fn is_automount(&self, name: &CStr) -> bool {
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, look, Mode::empty())
            .and_then(rustix::fs::fstatfs)
            // AUTOFS_SUPER_MAGIC; its type differs between processors.
            .is_ok_and(|file_system| file_system.f_type == 0x0187)
    }

    /// A directory in this one; a symlink is refused.
    pub fn subdirectory(&self, name: &CStr) -> Result<Directory<'a>, ReadError> {
        self.host.record_directory(&self.path_of(name));
        self.subdirectory_unrecorded(name)
    }

    /// The same for a directory that nobody needs to watch, because this one changes whenever it does.
    pub fn subdirectory_unrecorded(&self, name: &CStr) -> Result<Directory<'a>, ReadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = self.path_of(name);
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty());
        Ok(Directory::new(self.host, path, fd.map_err(|errno| self.failed(name, errno))?))
    }

    /// The extended attributes of an entry (of a symlink itself) with their values. None where there are none or
    /// the file system has no such thing.
    pub fn xattrs(&self, name: &CStr) -> Vec<(String, Vec<u8>)> {
        let Some(path) = self.xattr_path(name) else { return Vec::new() };
        let mut names = [0u8; 4096];
        let names = match rustix::fs::llistxattr(&path, &mut names) {
            Ok(0) => return Vec::new(),
            Ok(length) => names[..length].to_vec(),
            Err(Errno::RANGE) => {
                let mut names = vec![0u8; MAX_XATTR_BYTES];
                let Ok(length) = rustix::fs::llistxattr(&path, &mut names) else { return Vec::new() };
                names.truncate(length);
                names
            }
            Err(_) => return Vec::new(),
        };
        let mut value = vec![0u8; MAX_XATTR_BYTES];
        let mut found = Vec::new();
        for attribute in names.split(|byte| *byte == 0).filter(|attribute| !attribute.is_empty()) {
            // Gone meanwhile or not for us (trusted.* needs a capability): as if it were not there.
            let Ok(length) = rustix::fs::lgetxattr(&path, attribute, &mut value) else { continue };
            found.push((text_of_name(attribute).into_owned(), value[..length].to_vec()));
        }
        found
    }

    /// There is no lgetxattrat(2) on the kernels we support, so the way leads over a path: in a tree over the
    /// descriptor of the directory, which keeps it inside.
    fn xattr_path(&self, name: &CStr) -> Option<CString> {
        let mut path = if self.host.is_running_system() {
            self.path.clone().into_bytes()
        } else {
            format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into_bytes()
        };
        path.push(b'/');
        path.extend(name.to_bytes());
        CString::new(path).ok()
    }

    fn failed(&self, name: &CStr, errno: Errno) -> ReadError {
        ReadError::new(&self.path_of(name), Problem::of(errno))
    }

    fn failed_here(&self, problem: Problem) -> ReadError {
        ReadError::new(if self.path.is_empty() { "/" } else { &self.path }, problem)
    }
}

/// A name as text: valid UTF-8 as it is, other bytes as `\xNN`.
pub(super) fn text_of_name(name: &[u8]) -> Cow<'_, str> {
    let Err(_) = std::str::from_utf8(name) else { return String::from_utf8_lossy(name) };
    let mut text = String::with_capacity(name.len() + 8);
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    Cow::Owned(text)
}

//! Files of 32 or more raw bytes in a directory that only its owner can look into.
//!
//! Everything goes through the directory's descriptor, so that no path is walked twice, and no symbolic link is followed.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

use super::directory::KeyError;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Public,
    /// For the owner of the directory.
    Secret,
    /// For whoever makes it, also in somebody else's directory: that one can remove it, and cannot read it.
    OwnSecret,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Public => 0o644,
            Self::Secret | Self::OwnSecret => 0o600,
        }
    }

    /// Permission bits that make a file unfit.
    fn forbidden(self) -> u32 {
        match self {
            Self::Public => 0o022,
            Self::Secret | Self::OwnSecret => 0o077,
        }
    }
}

/// Random bytes that are kept in the file `name` of `directory` (made with mode 0700), made at the first call.
pub(crate) fn kept<const N: usize>(directory: &Path, name: &str) -> Result<Zeroizing<[u8; N]>, KeyError> {
    let files = FileStore::open_or_create(directory)?;
    for _ in 0..2 {
        if let Some(bytes) = files.read::<N>(name, Access::Secret)? {
            return Ok(bytes);
        }
        let mut bytes = Zeroizing::new([0; N]);
        getrandom::fill(&mut *bytes).map_err(|error| KeyError::NoRandom { error })?;
        match files.create(name, Access::Secret, &*bytes) {
            Ok(()) => return Ok(bytes),
            // Another process was faster: take what it wrote.
            Err(KeyError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(KeyError::Exists { path: files.file(name) })
}

/// An open directory whose permissions were checked.
#[derive(Debug)]
pub(crate) struct FileStore {
    path: PathBuf,
    directory: OwnedFd,
    owner: u32,
    group: u32,
}

impl FileStore {
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Err(KeyError::NoDirectory { path: path.to_owned() }),
            Err(error) => return Err(io(path, error)),
        };
        let status = rustix::fs::fstat(&directory).map_err(|error| io(path, error))?;
        if status.st_mode & 0o077 != 0 {
            let mode = status.st_mode & 0o777;
            return Err(KeyError::OpenDirectory { path: path.to_owned(), mode });
        }
        let user = rustix::process::geteuid().as_raw();
        if user != 0 && status.st_uid != user && status.st_uid != 0 {
            return Err(KeyError::ForeignOwner { path: path.to_owned(), owner: status.st_uid });
        }
        Ok(Self { path: path.to_owned(), directory, owner: status.st_uid, group: status.st_gid })
    }

    /// Makes the directory (0700 from its first moment) when it is missing; its parents get the usual permissions.
    pub fn open_or_create(path: &Path) -> Result<Self, KeyError> {
        if let Some(parent) = path.parent()
            && !parent.as_os_str().is_empty()
        {
            std::fs::create_dir_all(parent)
                .map_err(|error| KeyError::Io { path: parent.to_owned(), error })?;
        }
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Self::open(path),
            Err(error) => Err(io(path, error)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Names of all entries that are UTF-8, sorted.
    pub fn names(&self) -> Result<Vec<String>, KeyError> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory).map_err(|error| io(&self.path, error))? {
            let entry = entry.map_err(|error| io(&self.path, error))?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads exactly `N` bytes, or `None` when there is no such file.
    pub fn read<const N: usize>(
        &self,
        name: &str,
        access: Access,
    ) -> Result<Option<Zeroizing<[u8; N]>>, KeyError> {
        // NONBLOCK: a FIFO must not hold us before fstat tells what it is.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.file(name);
        let file = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(KeyError::NotRegular { path }),
            Err(error) => return Err(io(&path, error)),
        };
        let status = rustix::fs::fstat(&file).map_err(|error| io(&path, error))?;
        self.check(&path, &status, access, N)?;
        let mut bytes = Zeroizing::new([0; N]);
        let mut filled = 0;
        while filled < N {
            match rustix::io::read(&file, &mut bytes[filled..]) {
                Ok(0) => return Err(KeyError::WrongLength { path, bytes: filled as u64, expected: N }),
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(io(&path, error)),
            }
        }
        Ok(Some(bytes))
    }

    /// Writes a new file: under a temporary name, synced, then renamed. Never replaces an existing one.
    pub fn create(&self, name: &str, access: Access, bytes: &[u8]) -> Result<(), KeyError> {
        self.write(name, access, bytes, |temporary| self.rename(temporary, name))
    }

    /// The same, in place of what has this name: whoever looks sees the old or the new content whole.
    pub fn replace(&self, name: &str, access: Access, bytes: &[u8]) -> Result<(), KeyError> {
        self.write(name, access, bytes, |temporary| {
            rustix::fs::renameat(&self.directory, temporary, &self.directory, name)
        })
    }

    fn write(
        &self,
        name: &str,
        access: Access,
        bytes: &[u8],
        put: impl FnOnce(&str) -> Result<(), Errno>,
    ) -> Result<(), KeyError> {
        let path = self.file(name);
        let fail = |error| io(&path, error);
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| KeyError::NoRandom { error })?;
        let temporary: String = random.iter().map(|b| format!("{b:02x}")).collect();
        let temporary = format!(".{temporary}.tmp");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(access.mode());
        let file = rustix::fs::openat(&self.directory, &temporary, flags, mode).map_err(fail)?;
        let written = (|| {
            write_all(&file, bytes)?;
            if access == Access::Public {
                // The umask may have taken bits from 0644; nothing secret is in this file.
                rustix::fs::fchmod(&file, mode)?;
            }
            if rustix::process::geteuid().is_root() && self.owner != 0 && access != Access::OwnSecret {
                // What root makes in the CMA's directory is the CMA's to read.
                let (user, group) =
                    (rustix::fs::Uid::from_raw(self.owner), rustix::fs::Gid::from_raw(self.group));
                rustix::fs::fchown(&file, Some(user), Some(group))?;
            }
            rustix::fs::fsync(&file)?;
            put(&temporary)?;
            rustix::fs::fsync(&self.directory)
        })();
        if written.is_err() {
            // The first error is the one to tell; a left-over temporary file is harmless.
            let _ = rustix::fs::unlinkat(&self.directory, &temporary, AtFlags::empty());
        }
        match written {
            Err(Errno::EXIST) => Err(KeyError::Exists { path }),
            other => other.map_err(fail),
        }
    }

    /// As root: a file that has the directory's owner becomes root's. Where that cannot be done (a read-only file system) it
    /// stays what it was, which is good enough to work with.
    pub fn keep_from_owner(&self, name: &str) {
        if !rustix::process::geteuid().is_root() || self.owner == 0 {
            return;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(&self.directory, name, flags, Mode::empty()) else { return };
        let Ok(status) = rustix::fs::fstat(&file) else { return };
        let is_file = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
        if is_file && status.st_uid == self.owner {
            let (user, group) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
            let _ = rustix::fs::fchown(&file, Some(user), Some(group));
        }
    }

    /// Gives a file another name, replacing what has that one. One that is not there any more is fine.
    pub fn set_aside(&self, from: &str, to: &str) -> Result<(), KeyError> {
        match rustix::fs::renameat(&self.directory, from, &self.directory, to) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(io(&self.file(from), error)),
        }
        rustix::fs::fsync(&self.directory).map_err(|error| io(&self.path, error))
    }

    /// Overwrites a secret before it is removed. Disks that write elsewhere, snapshots and backups keep it all the same.
    pub fn wipe(&self, name: &str) -> Result<(), KeyError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.file(name);
        match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => write_all(&file, &[0; 32])
                .and_then(|()| rustix::fs::fsync(&file))
                .map_err(|error| io(&path, error))?,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(io(&path, error)),
        }
        self.remove(name)
    }

    /// Text of at most `limit` bytes, or `None` when there is no such file.
    pub fn read_text(&self, name: &str, limit: usize) -> Result<Option<String>, KeyError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.file(name);
        let file = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(KeyError::NotRegular { path }),
            Err(error) => return Err(io(&path, error)),
        };
        let status = rustix::fs::fstat(&file).map_err(|error| io(&path, error))?;
        self.check_access(&path, &status, Access::Public)?;
        let mut text = String::new();
        let reading = std::fs::File::from(file).take(limit as u64).read_to_string(&mut text);
        match reading {
            Ok(_) => Ok(Some(text)),
            // No text: as good as damaged, which whoever reads it finds out.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Ok(Some(String::new())),
            Err(error) => Err(KeyError::Io { path, error }),
        }
    }

    /// When a file was last written, in seconds since 1970.
    pub fn modified(&self, name: &str) -> Option<i64> {
        let status = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(status.st_mtime)
    }

    /// When a file got its name or its owner, in seconds since 1970 (ctime of inode(7)).
    pub fn changed(&self, name: &str) -> Option<i64> {
        let status = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(status.st_ctime)
    }

    /// Removes a file; one that is not there is fine.
    pub fn remove(&self, name: &str) -> Result<(), KeyError> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(io(&self.file(name), error)),
        }
        rustix::fs::fsync(&self.directory).map_err(|error| io(&self.path, error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        match rustix::fs::renameat_with(&self.directory, from, &self.directory, to, RenameFlags::NOREPLACE) {
            // Some file systems cannot refuse to replace; a second link can.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(&self.directory, from, &self.directory, to, AtFlags::empty())?;
                rustix::fs::unlinkat(&self.directory, from, AtFlags::empty())
            }
            other => other,
        }
    }

    fn check(&self, path: &Path, status: &Stat, access: Access, expected: usize) -> Result<(), KeyError> {
        self.check_access(path, status, access)?;
        let path = path.to_owned();
        match u64::try_from(status.st_size) {
            Ok(bytes) if bytes == expected as u64 => Ok(()),
            Ok(bytes) => Err(KeyError::WrongLength { path, bytes, expected }),
            Err(_) => Err(KeyError::WrongLength { path, bytes: 0, expected }),
        }
    }

    fn check_access(&self, path: &Path, status: &Stat, access: Access) -> Result<(), KeyError> {
        let path = path.to_owned();
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(KeyError::NotRegular { path });
        }
        let mode = status.st_mode & 0o777;
        if mode & access.forbidden() != 0 {
            return Err(KeyError::OpenFile { path, mode, wanted: access.mode() });
        }
        let user = rustix::process::geteuid().as_raw();
        if ![0, user, self.owner].contains(&status.st_uid) {
            return Err(KeyError::ForeignOwner { path, owner: status.st_uid });
        }
        Ok(())
    }
}

fn write_all(file: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn io(path: &Path, error: Errno) -> KeyError {
    let path = path.to_owned();
    match error {
        Errno::ACCESS | Errno::PERM => {
            KeyError::NotAllowed { path, user: rustix::process::geteuid().as_raw() }
        }
        _ => KeyError::Io { path, error: error.into() },
    }
}

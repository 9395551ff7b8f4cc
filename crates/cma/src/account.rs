//! The CMA's directories, and becoming an ordinary user before anything has threads.

use crate::settings::Settings;
use daemon::privileges::{self, Identity, PrivilegeError};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fstat, open};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Why the CMA cannot use its directories or its user.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("{path} cannot be made: {error}; {}, or use another place with --root", remedy(error), path = .path.display())]
    Directory { path: PathBuf, error: io::Error },
    #[error("{path} cannot be given to user {user:?}: {error}", path = .path.display())]
    Owner { path: PathBuf, user: String, error: io::Error },
    #[error(
        "there is no user {user:?}: run `useradd --system --shell /usr/sbin/nologin {user}`, or start with `--user root`"
    )]
    NoUser { user: String },
    #[error("/etc/passwd cannot be read: {0}")]
    Passwd(io::Error),
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
}

/// Makes the directories, gives them to the user and becomes it when started as root.
pub fn settle(settings: &Settings) -> Result<(), AccountError> {
    let site = &settings.site;
    let pid_directory = settings.pidfile.parent().map(Path::to_owned);
    let directories = [(site.state(), 0o755), (site.run(), 0o755), (site.state().join("cma"), 0o700)];
    let is_root = rustix::process::geteuid().is_root();
    let becomes = if is_root && settings.user != "root" { Some(identity(&settings.user)?) } else { None };
    for (path, mode) in &directories {
        make(path, *mode)?;
    }
    if let Some(directory) = &pid_directory {
        make(directory, 0o755)?;
    }
    let Some(identity) = becomes else {
        if is_root {
            tracing::warn!("running as root, as --user asks; an account of its own is safer");
        }
        return Ok(());
    };
    let mut owned: Vec<PathBuf> = directories.into_iter().map(|(path, _)| path).collect();
    owned.extend(files(&site.state(), |name| name.starts_with("cma.sqlite")));
    owned.extend(files(&site.state().join("cma"), |_| true));
    owned.extend(files(&site.run(), |name| name.starts_with("cma.")));
    // A nanoprobe of this host keeps its own secret in the same directory; that one is left as it was made.
    owned.extend(site.crypto().is_dir().then(|| site.crypto()));
    owned.extend(files(&site.crypto(), |name| name.starts_with("#CMA#") || name.ends_with(".pub")));
    owned.extend(pid_directory.filter(|path| path.ends_with("assimilation")));
    for path in owned {
        give(&path, identity).map_err(|error| AccountError::Owner {
            path,
            user: settings.user.clone(),
            error: error.into(),
        })?;
    }
    privileges::drop_to(&settings.user)?;
    Ok(())
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "mount its file system writable",
        io::ErrorKind::StorageFull => "make room on its file system",
        _ => "make it",
    }
}

fn identity(user: &str) -> Result<Identity, AccountError> {
    let passwd = fs::read_to_string("/etc/passwd").map_err(AccountError::Passwd)?;
    privileges::find_user(&passwd, user).ok_or_else(|| AccountError::NoUser { user: user.to_owned() })
}

fn make(path: &Path, mode: u32) -> Result<(), AccountError> {
    if path.is_dir() {
        return Ok(());
    }
    let failed = |error| AccountError::Directory { path: path.to_owned(), error };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    DirBuilder::new().mode(mode).create(path).map_err(failed)
}

fn files(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&wanted));
    names.map(|entry| entry.path()).collect()
}

/// Changes the owner of a directory or a file that has no other name. Links are left alone: whoever can write the
/// directory could otherwise have any file of the system given to them.
fn give(path: &Path, to: Identity) -> rustix::io::Result<()> {
    let Ok(file) =
        open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
    else {
        return Ok(());
    };
    let stat = fstat(&file)?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    let only_name = kind.is_file() && stat.st_nlink == 1;
    if kind.is_dir() && is_shared(stat.st_mode, stat.st_gid, to) {
        return Ok(());
    }
    if (kind.is_dir() || only_name) && stat.st_uid != to.uid {
        fchown(&file, Some(Uid::from_raw(to.uid)), Some(Gid::from_raw(to.gid)))?;
    }
    Ok(())
}

/// A directory in which the user may make files through its group, and in which the sticky bit keeps it from replacing
/// what is root's: as packages make the state directory. Whoever owned it could put another directory in the place of
/// the nanoprobe's, which root works in.
fn is_shared(mode: u32, gid: u32, to: Identity) -> bool {
    gid == to.gid && mode & 0o1070 == 0o1070
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_directory_that_is_shared_stays_with_its_owner() {
        let user = Identity { uid: 12345, gid: 54321 };
        assert!(is_shared(0o1775, 54321, user));
        for (mode, gid) in [(0o0775, 54321), (0o1755, 54321), (0o1775, 1)] {
            assert!(!is_shared(mode, gid, user), "{mode:o} {gid}");
        }
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(directory.path(), Some(0), Some(54321)).unwrap();
        for (mode, owner) in [(0o1775, 0), (0o0775, 12345)] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            give(directory.path(), user).unwrap();
            assert_eq!(fs::metadata(directory.path()).unwrap().uid(), owner, "{mode:o}");
        }
    }

    #[test]
    fn links_are_never_given_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("plain"), "").unwrap();
        fs::write(path("twice"), "").unwrap();
        fs::hard_link(path("twice"), path("second")).unwrap();
        fs::write(path("target"), "").unwrap();
        symlink(path("target"), path("link")).unwrap();
        let own = fs::metadata(path("plain")).unwrap().uid();
        let other = Identity { uid: 12345, gid: 12345 };
        for name in ["twice", "link"] {
            give(&path(name), other).unwrap();
        }
        for name in ["twice", "second", "target"] {
            assert_eq!(fs::metadata(path(name)).unwrap().uid(), own, "{name}");
        }
        if own == 0 {
            give(&path("plain"), other).unwrap();
            assert_eq!(fs::metadata(path("plain")).unwrap().uid(), 12345);
        } else {
            assert!(give(&path("plain"), other).is_err());
        }
    }

    #[test]
    fn a_missing_user_is_named_with_the_command_that_makes_it() {
        let text = identity("no-such-user-here").unwrap_err().to_string();
        assert!(text.contains("useradd --system") && text.contains("--user root"), "{text}");
    }
}

//! Unix sockets at paths of any length, with the right mode from the first moment.
//!
//! A socket address holds 108 bytes (unix(7)); a site below `--root` easily has longer paths. Going through
//! `/proc/self/fd/<directory>/<name>` leaves only the file name to fit.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Listens at `path` with the given mode (for instance `0o660`). A socket that nobody answers is replaced.
///
/// The socket is made under a temporary name and gets its mode before it listens, so no one can connect earlier
/// than the mode allows.
///
/// # Errors
/// [`ErrorKind::AddrInUse`] when another process answers there, [`ErrorKind::AlreadyExists`] when `path` is
/// something else than a socket; the text names the path.
pub fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let place = Place::of(path).map_err(|error| named(path, "cannot be made", error))?;
    // Two starting daemons must not both find the old socket stale and then replace each other's.
    flock(&place.directory, FlockOperation::LockExclusive)?;
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let error = io::Error::from(ErrorKind::AlreadyExists);
            return Err(named(path, "is in the way and is not a socket; remove it", error));
        }
        Ok(_) if place.dial(&place.name).is_ok() => {
            let error = io::Error::from(ErrorKind::AddrInUse);
            return Err(named(path, "is answered by another process; stop that one first", error));
        }
        _ => {}
    }
    let temporary = format!(".{}", std::process::id());
    let _ = fs::remove_file(place.path(&temporary));
    let made = listen(&place, &temporary, mode);
    if made.is_err() {
        let _ = fs::remove_file(place.path(&temporary));
    }
    made.map_err(|error| named(path, "cannot be made", error))
}

/// Connects to the socket at `path`.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let place = Place::of(path)?;
    place.dial(&place.name)
}

fn listen(place: &Place, temporary: &str, mode: u32) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let path = place.path(temporary);
    socket.bind(&SockAddr::unix(&path)?)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    socket.listen(128)?;
    fs::rename(&path, place.path(&place.name))?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

struct Place {
    directory: OwnedFd,
    name: String,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let wrong = || io::Error::new(ErrorKind::InvalidInput, "not the path of a socket");
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(wrong)?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { directory, name })
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()))
    }

    fn dial(&self, name: &str) -> io::Result<UnixStream> {
        UnixStream::connect(self.path(name))
    }
}

fn named(path: &Path, what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{} {what}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn long_paths_work_and_carry_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(150)).join("e".repeat(150));
        fs::create_dir_all(&deep).unwrap();
        let path = deep.join("cma.sock");
        let listener = bind(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = connect(&path).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        drop(client);
        let mut text = String::new();
        served.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        let rest: Vec<_> = fs::read_dir(&deep).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(rest, ["cma.sock"]);
    }

    #[test]
    fn only_a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        assert_eq!(connect(&path).unwrap_err().kind(), ErrorKind::NotFound);
        let first = bind(&path, 0o660).unwrap();
        assert_eq!(bind(&path, 0o660).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        assert_eq!(connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let _second = bind(&path, 0o660).unwrap();
        connect(&path).unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "precious").unwrap();
        let error = bind(&file, 0o660).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("file"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }
}

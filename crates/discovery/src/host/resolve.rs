//! From a path of the host to an open file that is certainly inside the host's root.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::cell::Cell;
use std::path::Path;

/// As many symlinks as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Deeper than any sensible tree; bounds the open directories of a walk.
const MAX_DEPTH: usize = 128;

#[derive(Debug)]
pub(super) struct Resolver {
    /// `None`: the running system. An error: why the root cannot be opened.
    root: Option<Result<OwnedFd, Errno>>,
    /// The kernel refuses openat2(2): before 5.6, or under an old container filter.
    walks: Cell<bool>,
}

impl Resolver {
    pub(super) fn running() -> Self {
        Self { root: None, walks: Cell::new(false) }
    }

    pub(super) fn tree(root: &Path) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self { root: Some(rustix::fs::openat(CWD, root, flags, Mode::empty())), walks: Cell::new(false) }
    }

    pub(super) fn is_running(&self) -> bool {
        self.root.is_none()
    }

    pub(super) fn root_error(&self) -> Option<Errno> {
        self.root.as_ref()?.as_ref().err().copied()
    }

    /// Uses the component-wise walk whatever the kernel can do.
    #[cfg(test)]
    pub(super) fn walk_always(&self) {
        self.walks.set(true);
    }

    pub(super) fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let root = match &self.root {
            None => return rustix::fs::openat(CWD, super::absolute(path).as_str(), flags, Mode::empty()),
            Some(root) => root.as_ref().map_err(|errno| *errno)?,
        };
        if !self.walks.get() {
            let relative = path.trim_start_matches('/');
            let relative = if relative.is_empty() { "." } else { relative };
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(root, relative, flags, Mode::empty(), resolve) {
                Err(Errno::NOSYS | Errno::PERM) => self.walks.set(true),
                // A rename elsewhere made the kernel unsure about a `..`; the walk is sure by construction.
                Err(Errno::AGAIN) => {}
                answer => return answer,
            }
        }
        walk(root.as_fd(), path, flags)
    }
}

/// Opens `path` one component at a time: `..` goes back on our own stack, symlinks are read and followed by us.
fn walk(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut pending = Vec::new();
    push_components(&mut pending, path.as_bytes());
    let mut stack: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(component) = pending.pop() {
        // Whatever came before these is a directory, or we would not be here.
        if component == b"." {
            continue;
        }
        if component == b".." {
            stack.pop();
            continue;
        }
        let here = stack.last().map_or(root, AsFd::as_fd);
        let component = component.as_slice();
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(here, component, look, Mode::empty())?;
        let is_last = pending.is_empty();
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::Symlink if is_last && flags.contains(OFlags::NOFOLLOW) => {
                return if flags.contains(OFlags::PATH) { Ok(fd) } else { Err(Errno::LOOP) };
            }
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
                if target.as_bytes().starts_with(b"/") {
                    stack.clear();
                }
                push_components(&mut pending, target.as_bytes());
            }
            FileType::Directory if stack.len() >= MAX_DEPTH => return Err(Errno::NAMETOOLONG),
            FileType::Directory => stack.push(fd),
            _ if is_last && !flags.contains(OFlags::DIRECTORY) => {
                // NOFOLLOW: what was no symlink a moment ago must not have become one.
                return rustix::fs::openat(here, component, flags | OFlags::NOFOLLOW, Mode::empty());
            }
            _ => return Err(Errno::NOTDIR),
        }
    }
    rustix::fs::openat(stack.last().map_or(root, AsFd::as_fd), ".", flags, Mode::empty())
}

/// Puts the components on the stack, the first on top. A `/` at the end asks for a directory, as `/.` does.
fn push_components(pending: &mut Vec<Vec<u8>>, path: &[u8]) {
    if path.ends_with(b"/") {
        pending.push(b".".to_vec());
    }
    pending
        .extend(path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).rev());
}

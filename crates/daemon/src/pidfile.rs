//! Pid files with the answers that the Linux Standard Base asks of `--status` (LSB 5.0, init script actions).

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `--status` found; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    Running = 0,
    /// The process is gone, or the number now belongs to another program.
    DeadWithPidFile = 1,
    NotRunning = 3,
    /// The pid file cannot be read or holds no number.
    Unknown = 4,
}

/// Why a pid file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    #[error("{program} is already running as process {pid} (pid file {path}); stop it with --kill first")]
    AlreadyRunning { program: String, pid: i32, path: PathBuf },
    #[error("{program} is not running (pid file {path})")]
    NotRunning { program: String, path: PathBuf },
    #[error(
        "cannot write the pid file {path}: {error}; check the directory's owner or choose another with --pidfile"
    )]
    Write { path: PathBuf, error: io::Error },
    #[error("cannot stop process {pid}: {error}")]
    Signal { pid: i32, error: io::Error },
    #[error("process {pid} was told to stop but still runs after {seconds} s")]
    StillRunning { pid: i32, seconds: u64 },
}

/// The pid file of this process; removed when dropped, unless another process has taken its place.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the own pid, atomically and with mode 0644. Missing directories are made.
    ///
    /// # Errors
    /// [`PidFileError::AlreadyRunning`] when the file names a living process of `program`.
    pub fn create(path: &Path, program: &str) -> Result<Self, PidFileError> {
        if let Found::Pid(pid) = look(path)
            && pid != getpid()
            && runs(pid, program)
        {
            let pid = pid.as_raw_nonzero().get();
            return Err(PidFileError::AlreadyRunning { program: program.into(), pid, path: path.into() });
        }
        write_atomically(path).map_err(|error| PidFileError::Write { path: path.into(), error })?;
        Ok(Self { path: path.into() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if matches!(look(&self.path), Found::Pid(pid) if pid == getpid()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether `program` runs according to the pid file.
pub fn status(path: &Path, program: &str) -> Status {
    match look(path) {
        Found::Missing => Status::NotRunning,
        Found::Unreadable => Status::Unknown,
        Found::Pid(pid) if runs(pid, program) => Status::Running,
        Found::Pid(_) => Status::DeadWithPidFile,
    }
}

/// Sends SIGTERM to the `program` of the pid file and waits until it is gone.
///
/// The process is held by a pidfd from before the check on, so a reused number is never hit.
pub fn kill(path: &Path, program: &str, wait: Duration) -> Result<(), PidFileError> {
    let not_running = || PidFileError::NotRunning { program: program.into(), path: path.into() };
    let Found::Pid(pid) = look(path) else { return Err(not_running()) };
    let number = pid.as_raw_nonzero().get();
    let failed = |error: rustix::io::Errno| PidFileError::Signal { pid: number, error: error.into() };
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| not_running())?;
    if !runs(pid, program) {
        return Err(not_running());
    }
    pidfd_send_signal(&handle, Signal::TERM).map_err(failed)?;
    let mut fds = [PollFd::new(&handle, PollFlags::IN)];
    let limit = rustix::event::Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&limit)).map_err(failed)? {
        0 => Err(PidFileError::StillRunning { pid: number, seconds: wait.as_secs() }),
        _ => Ok(()),
    }
}

enum Found {
    Missing,
    Unreadable,
    Pid(Pid),
}

fn look(path: &Path) -> Found {
    let text = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= 64 => fs::read_to_string(path),
        Ok(_) => return Found::Unreadable,
        Err(error) => Err(error),
    };
    match text {
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Missing,
        Err(_) => Found::Unreadable,
        Ok(text) => match text.trim().parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw) {
            Some(pid) => Found::Pid(pid),
            None => Found::Unreadable,
        },
    }
}

/// Whether the process lives and is `program`, by the name of its executable or, where that may not be read, by
/// `comm`, which the kernel cuts at 15 bytes.
fn runs(pid: Pid, program: &str) -> bool {
    let directory = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let Ok(stat) = fs::read_to_string(directory.join("stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    if matches!(state, None | Some('Z' | 'X')) {
        return false;
    }
    if let Ok(executable) = fs::read_link(directory.join("exe")) {
        let name = executable.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // After an upgrade the running file is a deleted one.
        return name.trim_end_matches(" (deleted)") == program;
    }
    let Ok(comm) = fs::read_to_string(directory.join("comm")) else { return false };
    comm.trim_end() == program.chars().take(15).collect::<String>()
}

fn write_atomically(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let number = getpid().as_raw_nonzero();
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{number}"));
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
    let written = writeln!(file, "{number}").and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/nested/pid");
        (directory, path)
    }

    #[test]
    fn codes_follow_the_standard() {
        let (_keep, path) = place();
        assert_eq!(status(&path, "sleep"), Status::NotRunning);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(&path, format!("{}\n", child.id())).unwrap();
        assert_eq!(status(&path, "sleep"), Status::Running);
        assert_eq!(status(&path, "nanoprobe"), Status::DeadWithPidFile);
        child.kill().unwrap();
        // A zombie does not run any more.
        assert_eq!(
            (0..100)
                .map(|_| std::thread::sleep(Duration::from_millis(10)))
                .find_map(|()| { (status(&path, "sleep") == Status::DeadWithPidFile).then_some(true) }),
            Some(true)
        );
        child.wait().unwrap();
        for junk in ["", "x", "-4", "0", "99999999999999999999"] {
            fs::write(&path, junk).unwrap();
            assert_eq!(status(&path, "sleep"), Status::Unknown, "{junk:?}");
        }
    }

    #[test]
    fn own_file_is_removed_and_a_strangers_kept() {
        let (_keep, path) = place();
        let file = PidFile::create(&path, "x").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), std::process::id().to_string());
        drop(file);
        assert!(!path.exists());
        let file = PidFile::create(&path, "x").unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn a_running_one_is_found_and_can_be_killed() {
        let (_keep, path) = place();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(&path, child.id().to_string()).unwrap();
        // `spawn` may return before the child has become `sleep`.
        while status(&path, "sleep") != Status::Running {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(matches!(PidFile::create(&path, "sleep"), Err(PidFileError::AlreadyRunning { .. })));
        assert!(matches!(kill(&path, "cma", Duration::ZERO), Err(PidFileError::NotRunning { .. })));
        assert!(child.try_wait().unwrap().is_none(), "another program must not be hit");
        kill(&path, "sleep", Duration::from_secs(5)).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(matches!(kill(&path, "sleep", Duration::ZERO), Err(PidFileError::NotRunning { .. })));
    }
}

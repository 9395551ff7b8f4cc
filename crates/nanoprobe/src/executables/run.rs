//! One run of an executable: in a process group of its own, with bounded time and output, and nothing left behind.
//!
//! What it cannot do: find descendants that left the process group (setsid(2)), and count the processor time of
//! descendants that nobody waited for.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bounds of one run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub timeout: Duration,
    pub output_bytes: usize,
    /// What is kept of standard error; the rest is read and thrown away.
    pub error_bytes: usize,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Standard output, or a sentence that says what went wrong.
    pub output: Result<Vec<u8>, String>,
    /// The beginning of standard error, as it came.
    pub error_text: Vec<u8>,
    /// Processor time of the process and of those descendants that it waited for. Linux counts it in steps of 10 ms.
    pub cpu: Duration,
}

/// Clock ticks per second in /proc (proc(5)): 100 on every architecture we run on.
const TICKS_PER_SECOND: u64 = 100;

/// How long what is still in the pipes may take to arrive after the process has ended.
const DRAIN: Duration = Duration::from_millis(200);

/// How long a killed process may take to die; one in an uninterruptible state takes longer.
const DEATH: Duration = Duration::from_secs(5);

/// Runs `path discover` and waits for its end. Blocks for at most the time-out and a few seconds.
pub fn run(path: &Path, environment: &BTreeMap<String, String>, limits: Limits) -> Ended {
    let spawned = Command::new(path)
        .arg("discover")
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let failed = |text: String| Ended { output: Err(text), error_text: Vec::new(), cpu: Duration::ZERO };
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return failed(format!("it cannot be started: {error}")),
    };
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return failed("it has no process number".into());
    };
    let mut error_text = Vec::new();
    let output = converse(&mut child, pid, limits, &mut error_text);
    // The leader is not reaped yet, so its number still names its group: this cannot hit anybody else.
    let _ = kill_process_group(pid, Signal::KILL);
    let dead = wait_for_death(pid);
    let cpu = cpu_time(pid).unwrap_or_default();
    if !dead {
        let text = "it cannot be killed; it waits for a device or a network file system".to_owned();
        return Ended { output: Err(text), error_text, cpu };
    }
    let output = match (output, child.wait()) {
        (Err(error), _) => Err(error),
        (Ok(_), Err(error)) => Err(format!("its exit status is unknown: {error}")),
        (Ok(output), Ok(status)) if status.success() => Ok(output),
        (Ok(_), Ok(status)) => Err(format!("it ended with {status}")),
    };
    Ended { output, error_text, cpu }
}

/// Reads both pipes until the process has ended, or a limit is reached.
fn converse(
    child: &mut Child,
    pid: Pid,
    limits: Limits,
    error_text: &mut Vec<u8>,
) -> Result<Vec<u8>, String> {
    let broken = |errno: Errno| format!("it cannot be watched: {errno}");
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(broken)?;
    let mut pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    for pipe in pipes.iter().flatten() {
        rustix::io::ioctl_fionbio(pipe, true).map_err(broken)?;
    }
    let mut output = Vec::new();
    let mut deadline = Instant::now() + limits.timeout;
    let mut ended = false;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let open: Vec<BorrowedFd<'_>> = pipes.iter().flatten().map(AsFd::as_fd).collect();
        if ended && open.is_empty() {
            return Ok(output);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let seconds = limits.timeout.as_secs_f64();
            // After the end of the process, what keeps a pipe open is a descendant that it left behind.
            return if ended {
                Ok(output)
            } else {
                Err(format!("it took longer than {seconds} s and was stopped"))
            };
        }
        let mut fds: Vec<PollFd<'_>> =
            open.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        if !ended {
            fds.push(PollFd::new(&process, PollFlags::IN));
        }
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(broken(errno)),
        }
        if !ended && fds.last().is_some_and(|fd| !fd.revents().is_empty()) {
            ended = true;
            deadline = deadline.min(Instant::now() + DRAIN);
        }
        for (index, kept) in [&mut output, &mut *error_text].into_iter().enumerate() {
            let limit = if index == 0 { limits.output_bytes } else { limits.error_bytes };
            let Some(pipe) = &pipes[index] else { continue };
            match rustix::io::read(pipe, &mut buffer[..]) {
                Ok(0) => pipes[index] = None,
                Ok(count) if index == 0 && kept.len() + count > limit => {
                    return Err(format!("it printed more than {limit} bytes and was stopped"));
                }
                Ok(count) => kept.extend_from_slice(&buffer[..count.min(limit - kept.len())]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => pipes[index] = None,
            }
        }
    }
}

/// Waits for the leader without reaping it.
fn wait_for_death(pid: Pid) -> bool {
    let end = Instant::now() + DEATH;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Ok(Some(_)) | Err(Errno::CHILD) => return true,
            Ok(None) | Err(Errno::INTR) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(2))
            }
            _ => return false,
        }
    }
}

/// utime, stime, cutime and cstime of /proc/PID/stat, which a zombie still has.
fn cpu_time(pid: Pid) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

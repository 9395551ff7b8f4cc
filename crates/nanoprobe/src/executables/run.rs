//! One run of a program: in a process group of its own, with bounded time and output, and nothing left behind.
//!
//! Descendants that left the process group (setsid(2)) are found by a mark in their environment, where the program was
//! stopped or something still holds its output. What nobody can find: descendants that also cleaned their environment. The
//! processor time of descendants that nobody waited for is not counted.

use daemon::privileges::Identity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal,
    setpriority_process, waitid,
};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
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

/// What to run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    pub path: &'a Path,
    pub arguments: &'a [String],
    /// All of it, but for the mark by which descendants are found.
    pub environment: &'a BTreeMap<String, String>,
    /// Whose rights it has, without supplementary groups; `None`: ours.
    pub identity: Option<Identity>,
    /// 0 to 19; at most a wish.
    pub niceness: i32,
    /// How long it may take to end after SIGTERM before SIGKILL comes; zero: SIGKILL at once.
    pub patience: Duration,
    /// How much more than is kept may come from standard output, before it is stopped for that.
    pub excess_bytes: u64,
}

/// What came of a [`Program`].
#[derive(Debug)]
pub struct Outcome {
    pub end: End,
    /// The beginning of standard output.
    pub output: Vec<u8>,
    /// The beginning of standard error.
    pub error_text: Vec<u8>,
    pub cpu: Duration,
}

/// How a program ended.
#[derive(Debug)]
pub enum End {
    Status(ExitStatus),
    /// It was stopped.
    TimedOut,
    /// It was stopped because it printed without end.
    TooMuchOutput,
    /// It does not even die of SIGKILL: it waits for a device or a network file system. Who has patience can wait for it.
    Unkillable(Child),
    /// Why there was no run, or none that could be watched.
    Failed(String),
}

/// Clock ticks per second in /proc (proc(5)): 100 on every architecture we run on.
const TICKS_PER_SECOND: u64 = 100;

/// How long what is still in the pipes may take to arrive after the process has ended.
const DRAIN: Duration = Duration::from_millis(200);

/// How long a killed process may take to die; one in an uninterruptible state takes longer.
const DEATH: Duration = Duration::from_secs(5);

/// Marks the environment of everything that one run starts.
const MARK: &str = "ASSIM_RUN";

/// Looked at of the environment of a process.
const MAX_ENVIRONMENT_BYTES: u64 = 1024 * 1024;

/// Runs `path discover` and waits for its end. Blocks for at most the time-out and a few seconds.
pub fn run(path: &Path, environment: &BTreeMap<String, String>, limits: Limits) -> Ended {
    let program = Program {
        path,
        arguments: &["discover".to_owned()],
        environment,
        identity: None,
        niceness: 0,
        patience: Duration::ZERO,
        excess_bytes: 0,
    };
    let Outcome { end, output, error_text, cpu } = execute(&program, limits);
    let output = match end {
        End::Status(status) if status.success() => Ok(output),
        End::Status(status) => Err(format!("it ended with {status}")),
        End::TimedOut => {
            let seconds = limits.timeout.as_secs_f64();
            Err(format!("it took longer than {seconds} s and was stopped"))
        }
        End::TooMuchOutput => {
            let limit = limits.output_bytes;
            Err(format!("it printed more than {limit} bytes and was stopped"))
        }
        End::Unkillable(_) => {
            Err("it cannot be killed; it waits for a device or a network file system".into())
        }
        End::Failed(why) => Err(why),
    };
    Ended { output, error_text, cpu }
}

/// Runs a program and waits for its end. Blocks for at most the time-out, the patience and a few seconds.
pub fn execute(program: &Program<'_>, limits: Limits) -> Outcome {
    let failed = |why: String| Outcome {
        end: End::Failed(why),
        output: Vec::new(),
        error_text: Vec::new(),
        cpu: Duration::ZERO,
    };
    let mark = mark();
    let mut command = Command::new(program.path);
    command
        .args(program.arguments)
        .env_clear()
        .envs(program.environment)
        .env(MARK, &mark)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(Identity { uid, gid }) = program.identity {
        // The standard library also gives up our supplementary groups.
        command.uid(uid).gid(gid);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return failed(format!("it cannot be started: {error}")),
    };
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return failed("it has no process number".into());
    };
    if program.niceness != 0 {
        let _ = setpriority_process(Some(pid), program.niceness);
    }
    let mut texts = Texts { kept: [Vec::new(), Vec::new()], excess_bytes: program.excess_bytes };
    let stop = converse(&mut child, pid, limits, &mut texts);
    let is_stopped = matches!(stop, Stop::TimedOut | Stop::TooMuchOutput | Stop::Unwatched(_));
    if is_stopped && !program.patience.is_zero() {
        let _ = kill_process_group(pid, Signal::TERM);
        wait_for_death(pid, program.patience);
    }
    // The leader is not reaped yet, so its number still names its group: this cannot hit anybody else.
    let _ = kill_process_group(pid, Signal::KILL);
    if is_stopped || matches!(stop, Stop::LeftBehind) {
        kill_marked(&mark);
    }
    let dead = wait_for_death(pid, DEATH);
    let cpu = cpu_time(pid).unwrap_or_default();
    let [output, error_text] = texts.kept;
    let end = match stop {
        _ if !dead => End::Unkillable(child),
        stop => match (stop, child.wait()) {
            (Stop::TimedOut, _) => End::TimedOut,
            (Stop::TooMuchOutput, _) => End::TooMuchOutput,
            (Stop::Unwatched(errno), _) => End::Failed(format!("it cannot be watched: {errno}")),
            (_, Err(error)) => End::Failed(format!("its exit status is unknown: {error}")),
            (_, Ok(status)) => End::Status(status),
        },
    };
    Outcome { end, output, error_text, cpu }
}

/// The exit status as a number, or the signal that killed it.
pub fn code_or_signal(status: ExitStatus) -> Result<i32, i32> {
    status.code().ok_or_else(|| status.signal().unwrap_or(0))
}

/// What was read.
struct Texts {
    /// Of standard output and standard error.
    kept: [Vec<u8>; 2],
    /// How much of standard output may still be thrown away.
    excess_bytes: u64,
}

impl Texts {
    /// `false`: that was too much.
    fn take(&mut self, index: usize, bytes: &[u8], limit: usize) -> bool {
        let kept = &mut self.kept[index];
        let room = limit.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
        let excess = (bytes.len() - room) as u64;
        if index == 1 {
            return true;
        }
        let fits = excess <= self.excess_bytes;
        self.excess_bytes = self.excess_bytes.saturating_sub(excess);
        fits
    }
}

/// Why reading came to an end.
enum Stop {
    Ended,
    /// The process has ended, and something that it started holds its output.
    LeftBehind,
    TimedOut,
    TooMuchOutput,
    Unwatched(Errno),
}

/// Reads both pipes until the process has ended, or a limit is reached.
fn converse(child: &mut Child, pid: Pid, limits: Limits, texts: &mut Texts) -> Stop {
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(errno) => return Stop::Unwatched(errno),
    };
    let mut pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    for pipe in pipes.iter().flatten() {
        if let Err(errno) = rustix::io::ioctl_fionbio(pipe, true) {
            return Stop::Unwatched(errno);
        }
    }
    let mut deadline = Instant::now() + limits.timeout;
    let mut ended = false;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let open: Vec<BorrowedFd<'_>> = pipes.iter().flatten().map(AsFd::as_fd).collect();
        if ended && open.is_empty() {
            return Stop::Ended;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // After the end of the process, what keeps a pipe open is a descendant that it left behind.
            return if ended { Stop::LeftBehind } else { Stop::TimedOut };
        }
        let mut fds: Vec<PollFd<'_>> =
            open.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        if !ended {
            fds.push(PollFd::new(&process, PollFlags::IN));
        }
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Stop::Unwatched(errno),
        }
        if !ended && fds.last().is_some_and(|fd| !fd.revents().is_empty()) {
            ended = true;
            deadline = deadline.min(Instant::now() + DRAIN);
        }
        for (index, limit) in [limits.output_bytes, limits.error_bytes].into_iter().enumerate() {
            let Some(pipe) = &pipes[index] else { continue };
            match rustix::io::read(pipe, &mut buffer[..]) {
                Ok(0) => pipes[index] = None,
                Ok(count) if !texts.take(index, &buffer[..count], limit) => return Stop::TooMuchOutput,
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => pipes[index] = None,
            }
        }
    }
}

/// Differs for every run, also from those of an earlier life of this process number.
fn mark() -> String {
    let random = getrandom::u64().unwrap_or_else(|_| {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        time.map_or(0, |time| time.as_nanos() as u64)
    });
    format!("{:x}-{random:016x}", std::process::id())
}

/// Kills everything whose environment bears the mark. A few times, because what is found may have started more.
fn kill_marked(mark: &str) {
    for _ in 0..4 {
        let mut found = false;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            let Some(pid) = number.and_then(Pid::from_raw) else { continue };
            if !bears(pid, mark) {
                continue;
            }
            // The process may end and its number be given to another: the second look is at the one that is held.
            if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
                && bears(pid, mark)
                && pidfd_send_signal(&process, Signal::KILL).is_ok()
            {
                found = true;
            }
        }
        if !found {
            return;
        }
    }
}

fn bears(pid: Pid, mark: &str) -> bool {
    let Ok(file) = fs::File::open(format!("/proc/{}/environ", pid.as_raw_nonzero())) else { return false };
    let mut environment = Vec::new();
    // What cannot be read is not ours, or is gone.
    let _ = file.take(MAX_ENVIRONMENT_BYTES).read_to_end(&mut environment);
    let wanted = format!("{MARK}={mark}");
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

/// Waits for the leader without reaping it.
fn wait_for_death(pid: Pid, limit: Duration) -> bool {
    let end = Instant::now() + limit;
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

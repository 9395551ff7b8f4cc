//! Work that must not disturb the host: on a thread of its own that gets the processor and the disks only when nobody
//! else wants them.
//!
//! | what | how | where it is refused |
//! |---|---|---|
//! | processor | nice 19 (nice(2)), then the policy SCHED_IDLE (sched(7)) by `chrt` | nice 19, or the usual priority |
//! | disks | class idle (ioprio_set(2)) by `ionice` | best effort 7, which follows from nice 19 |
//!
//! `chrt` and `ionice` are of util-linux, which is on every distribution: there is no safe binding of these two system
//! calls, and both programs run for a few milliseconds before work of minutes.

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The weakest claim to the processor within the usual policy (nice(2)).
const WEAKEST: i32 = 19;

/// Directories of the two programs; never from the environment, because the nanoprobe is root.
const PROGRAM_DIRECTORIES: [&str; 2] = ["/usr/bin", "/bin"];

thread_local! {
    static HELPED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Runs `work` on a thread of its own at the lowest priority and waits for it. The thread ends with the work, so no
/// priority has to be restored, which only root could. When the system gives no thread, `work` runs here.
///
/// A panic in `work` goes on in the caller. The processor time is added to what [`take_helper_time`] gives here.
pub fn at_idle_priority<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    // In a cell, because a thread that does not start must not take the work with it.
    let work = std::sync::Mutex::new(Some(work));
    let run = || {
        let work = work.lock().ok().and_then(|mut work| work.take());
        work.map(|work| work())
    };
    let outcome = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("idle".into()).spawn_scoped(scope, || {
            step_back();
            (run(), thread_time())
        });
        thread.ok().map(std::thread::ScopedJoinHandle::join)
    });
    let result = match outcome {
        Some(Ok((result, time))) => {
            HELPED.set(HELPED.get().saturating_add(time));
            result
        }
        Some(Err(cause)) => std::panic::resume_unwind(cause),
        None => None,
    };
    match result.or_else(run) {
        Some(result) => result,
        // Taken exactly once: either by the thread, whose result or panic we have, or just now.
        None => unreachable!("the work was neither done nor left"),
    }
}

/// Processor time that helpers of the calling thread used since this was last asked.
pub fn take_helper_time() -> Duration {
    HELPED.replace(Duration::ZERO)
}

/// Gives the calling thread the lowest priorities. On Linux they belong to the thread, not to the process. What is
/// refused (a filter of a container, no such program) leaves the next best.
fn step_back() {
    let thread = gettid();
    let _ = setpriority_process(Some(thread), WEAKEST);
    let thread = thread.as_raw_nonzero().to_string();
    set_by("ionice", &["-c", "3", "-p", &thread]);
    set_by("chrt", &["--idle", "-p", "0", &thread]);
}

/// Has one of the programs change a priority. Neither of them waits for anything.
fn set_by(program: &str, words: &[&str]) {
    let found = PROGRAM_DIRECTORIES.iter().map(|directory| Path::new(directory).join(program));
    let Some(path) = found.into_iter().find(|path| path.is_file()) else { return };
    let mut command = Command::new(path);
    command.args(words).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = command.status();
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;
    use std::time::Instant;

    #[test]
    fn the_work_is_done_at_the_lowest_priority_and_ours_stays() {
        let before = getpriority_process(None).unwrap();
        let borrowed = String::from("borrowed");
        let (text, priority) =
            at_idle_priority(|| (borrowed.len(), getpriority_process(Some(gettid())).unwrap()));
        assert_eq!((text, priority), (8, WEAKEST));
        assert_eq!(getpriority_process(Some(gettid())).unwrap(), before);
    }

    /// Field 41 of stat is the policy (proc_pid_stat(5)); 5 is SCHED_IDLE (sched.h).
    fn policy() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().nth(41 - 3).unwrap().to_owned()
    }

    fn io_class() -> String {
        let thread = gettid().as_raw_nonzero().to_string();
        let answer = Command::new("/usr/bin/ionice").args(["-p", &thread]).output().unwrap();
        String::from_utf8(answer.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn processor_and_disks_are_left_to_others() {
        let before = (policy(), io_class());
        assert_ne!(before, ("5".to_owned(), "idle".to_owned()));
        assert_eq!(at_idle_priority(|| (policy(), io_class())), ("5".to_owned(), "idle".to_owned()));
        assert_eq!((policy(), io_class()), before);
    }

    #[test]
    fn its_processor_time_is_told_once() {
        take_helper_time();
        at_idle_priority(|| {
            let start = thread_time();
            let end = Instant::now() + Duration::from_secs(20);
            while thread_time() < start + Duration::from_millis(10) && Instant::now() < end {
                std::hint::spin_loop();
            }
        });
        assert!(take_helper_time() >= Duration::from_millis(10));
        assert_eq!(take_helper_time(), Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "seven")]
    fn a_panic_goes_on() {
        at_idle_priority(|| panic!("seven"));
    }
}

//! Work that must not disturb the host: on a thread of its own at the lowest priority.

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::time::Duration;

/// The weakest claim to the processor (nice(2)). The IO priority follows from it where the scheduler of the disk
/// knows one (ioprio_set(2): best effort, level 7).
const WEAKEST: i32 = 19;

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
            // On Linux a priority belongs to the thread. Refused (a filter of a container): then at the usual one.
            let _ = setpriority_process(Some(gettid()), WEAKEST);
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

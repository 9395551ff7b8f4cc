//! Memory goes back to the system when the work that needed it is done.
//!
//! The C library keeps what was freed for the next time. Of a document's tree, of compiled rules and of the records of the
//! queue that is several megabytes in the arena of each thread, on every host of a site, for work of some milliseconds an
//! hour (docs/decisions/0001).

use std::time::Duration;

/// From work to giving back: a burst of runs is followed by one.
const PAUSE: Duration = Duration::from_secs(2);

/// When to give memory back.
#[derive(Debug, Default)]
pub struct Memory {
    due: Option<Duration>,
}

impl Memory {
    /// Something took memory for a while.
    pub fn worked(&mut self, now: Duration) {
        self.due.get_or_insert(now.saturating_add(PAUSE));
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        self.due
    }

    /// Gives back when it is time; returns whether it did.
    pub fn advance(&mut self, now: Duration) -> bool {
        let is_due = self.due.is_some_and(|due| now >= due);
        if is_due {
            self.due = None;
            give_back();
        }
        is_due
    }
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn give_back() {
    // SAFETY: malloc_trim(3) takes a number, may be called by any thread at any time, and touches only what is free.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give back by themselves.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_work_is_followed_by_one_giving_back() {
        let (mut memory, second) = (Memory::default(), Duration::from_secs(1));
        assert_eq!((memory.poll_timeout(), memory.advance(second)), (None, false));
        memory.worked(second);
        memory.worked(second * 2);
        assert_eq!(memory.poll_timeout(), Some(second * 3));
        assert!(!memory.advance(second * 2) && memory.advance(second * 3) && !memory.advance(second * 9));
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_lies_free_between_what_is_used_goes_back() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        // In its own thread, so in its own arena; the last piece keeps the arena from shrinking by itself.
        std::thread::spawn(move || {
            let mut pieces: Vec<Vec<u8>> = (0..1024).map(|_| vec![1; 32 * 1024]).collect();
            let last = pieces.pop();
            let before = resident();
            drop(pieces);
            give_back();
            assert!(resident() + 24 * 1024 < before, "{} of {before} kB are left", resident());
            drop(last);
        })
        .join()
        .unwrap();
    }
}

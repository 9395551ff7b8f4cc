//! Writing without falling silent: a disk may take seconds to sync, and partners would give this host up.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// A disk that takes longer than this has failed in a way that people have to hear of: from then on the host is silent,
/// and its partners tell.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stack of the thread that writes: it calls the queue and the system.
const STACK_BYTES: usize = 256 * 1024;

/// Does `work`, which writes to disk, on a thread of its own while `beat` sends the heartbeats that are due and says when
/// the next ones are; `now` tells the time of the cores.
pub(super) fn write<T: Send>(
    mut beat: impl FnMut(Duration) -> Option<Duration>,
    now: impl Fn() -> Duration,
    work: impl FnOnce() -> T + Send,
) -> T {
    let Some(mut beat_at) = beat(now()) else { return work() };
    let end = now().saturating_add(PATIENCE);
    let mut work = Some(work);
    let done = thread::scope(|scope| {
        let (finished, waiting) = channel::<()>();
        let slot = &mut work;
        let writer = thread::Builder::new().name("writer".into()).stack_size(STACK_BYTES).spawn_scoped(
            scope,
            move || {
                let result = slot.take().map(|work| work());
                drop(finished);
                result
            },
        );
        // The system gives no thread: then without heartbeats.
        let Ok(writer) = writer else { return None };
        while now() < end {
            let pause = beat_at.min(end).saturating_sub(now());
            if waiting.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
            beat_at = beat(now()).unwrap_or(end);
        }
        writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    match (done, work) {
        (Some(result), _) => result,
        (None, Some(work)) => work(),
        // A thread that was made has taken the work and done it, or panicked, which went on above.
        (None, None) => unreachable!("the work was taken and gave nothing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;
    use std::time::Instant;

    #[test]
    fn heartbeats_go_on_while_the_disk_keeps_us_waiting() {
        let zero = Instant::now();
        let (beat, beats) = sync_channel(0);
        let mut sent = 0;
        let send = |now: Duration| {
            sent += 1;
            let _ = beat.try_send(());
            Some(now + Duration::from_millis(5))
        };
        // The disk is done when three heartbeats came in the meantime: without any it would never be.
        let wait =
            move || (0..3).map(|_| beats.recv_timeout(Duration::from_secs(20)).is_ok()).collect::<Vec<_>>();
        assert_eq!(write(send, || zero.elapsed(), wait), [true; 3]);
        assert!(sent >= 3);
    }

    #[test]
    fn without_partners_there_is_no_thread() {
        let own = thread::current().id();
        assert_eq!(write(|_| None, || Duration::ZERO, || thread::current().id()), own);
        assert_ne!(write(Some, || Duration::ZERO, || thread::current().id()), own);
    }
}

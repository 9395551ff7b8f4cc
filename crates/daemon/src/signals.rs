//! What the operator tells a running daemon.

use crate::logging::LogLevel;
use std::io;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// A wish of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop in good order.
    Terminate,
    /// SIGHUP: read the configuration again.
    Hangup,
}

/// The signals of one daemon. From its creation on, none of them has its default action.
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
    louder: Stream,
    quieter: Stream,
    level: LogLevel,
}

impl Signals {
    /// Starts listening; to be called inside a tokio runtime with IO enabled.
    pub fn new(level: LogLevel) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            louder: signal(SignalKind::user_defined1())?,
            quieter: signal(SignalKind::user_defined2())?,
            level,
        })
    }

    /// The next wish. SIGUSR1 and SIGUSR2 raise and lower the log level here, without being returned. May be
    /// dropped and called again (in `select!`) without losing a signal.
    pub async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Signal::Terminate,
                _ = self.interrupt.recv() => return Signal::Terminate,
                _ = self.hangup.recv() => return Signal::Hangup,
                _ = self.louder.recv() => self.level.raise(),
                _ = self.quieter.recv() => self.level.lower(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Number, getpid, kill_process};
    use std::time::Duration;

    // One test, because signals belong to the whole process.
    #[tokio::test]
    async fn signals_arrive_and_change_the_level() {
        let level = LogLevel::new(0);
        let mut signals = Signals::new(level.clone()).unwrap();
        kill_process(getpid(), Number::USR1).unwrap();
        kill_process(getpid(), Number::HUP).unwrap();
        let soon = Duration::from_secs(5);
        assert_eq!(tokio::time::timeout(soon, signals.next()).await.unwrap(), Signal::Hangup);
        // USR1 may be handled before or after HUP: wait until nothing is left.
        let _ = tokio::time::timeout(Duration::from_millis(200), signals.next()).await;
        assert_eq!(level.get(), 1);
        kill_process(getpid(), Number::USR2).unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(200), signals.next()).await;
        assert_eq!(level.get(), 0);
        kill_process(getpid(), Number::TERM).unwrap();
        assert_eq!(tokio::time::timeout(soon, signals.next()).await.unwrap(), Signal::Terminate);
    }
}

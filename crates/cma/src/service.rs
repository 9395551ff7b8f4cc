//! The CMA as a service: what the service manager hears of it while it runs. Without a service manager nothing of this runs.
//!
//! The watchdog is fed from the event loop, and only while the thread that writes the database answers: a CMA whose disk
//! hangs, or whose loop does, is started again. One that cannot store anything and knows why (a full disk) is left
//! running: nanoprobes keep their changes and are told to wait, and a new start would not make room.

use crate::commit::{Work, Writer};
use crate::health::Health;
use crate::hosts::Hosts;
use crate::readers::Readers;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use store::SqlLimits;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often the status is looked at where no watchdog asks for more.
const STATUS_INTERVAL: Duration = Duration::from_secs(60);
/// Longest status: `systemctl status` shows one line.
const MAX_STATUS_CHARS: usize = 300;

/// What `systemctl status` shows of the CMA.
#[derive(Clone)]
pub struct Service {
    hosts: Arc<Hosts>,
    health: Arc<Health>,
    known: Arc<AtomicUsize>,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Alive,
    Status(String),
}

impl Service {
    /// `known`: hosts in the database.
    pub fn new(hosts: Arc<Hosts>, health: Arc<Health>, known: usize) -> Self {
        Self { hosts, health, known: Arc::new(AtomicUsize::new(known)) }
    }

    /// Everything listens.
    pub fn ready(&self) {
        daemon::service::ready(&self.line());
    }

    /// Runs `read_again` between the two messages that make a reload of it.
    pub fn reload<T>(&self, read_again: impl FnOnce() -> T) -> T {
        daemon::service::reloading();
        let result = read_again();
        self.ready();
        result
    }

    /// Feeds the watchdog and keeps the status current until `stop`. Ends at once where nobody wants to know.
    pub async fn run(self, writer: Writer, readers: Arc<Readers>, stop: watch::Receiver<bool>) {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return;
        }
        let watchdog = daemon::service::watchdog_interval();
        let tell = |said| match said {
            Said::Alive => daemon::service::alive(),
            Said::Status(line) => daemon::service::status(&line),
        };
        let count = || async { count(&readers).await };
        self.turn(watchdog, writer, count, stop, tell).await;
    }

    async fn turn<F: Future<Output = Option<usize>>>(
        self,
        watchdog: Option<Duration>,
        writer: Writer,
        count: impl Fn() -> F,
        mut stop: watch::Receiver<bool>,
        mut tell: impl FnMut(Said),
    ) {
        let interval = watchdog.unwrap_or(STATUS_INTERVAL);
        let mut turns = tokio::time::interval(interval);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = turns.tick() => {}
            }
            if watchdog.is_some() {
                // A third of the patience for each try: two late answers in a row are still no reason to be killed.
                let answered = writer.ask(Work::Ping, interval).await.is_ok();
                if answered || self.health.store_problem().is_some() {
                    tell(Said::Alive);
                } else {
                    tracing::warn!("the thread that writes the database does not answer");
                }
            }
            if let Some(known) = count().await {
                self.known.store(known, Ordering::Relaxed);
            }
            let line = self.line();
            if line != told {
                tell(Said::Status(line.clone()));
                told = line;
            }
        }
    }

    fn line(&self) -> String {
        line(self.known.load(Ordering::Relaxed), self.hosts.count(), &self.health.problems())
    }
}

/// Hosts and problems in one line of printable characters: a line break would be another message to the service manager.
fn line(known: usize, connected: usize, problems: &[String]) -> String {
    let hosts = format!("{known} host{}, {connected} connected", if known == 1 { "" } else { "s" });
    let text = match problems {
        [] => format!("{hosts}, no problems"),
        [only] => format!("{hosts}, 1 problem: {only}"),
        [first, ..] => format!("{hosts}, {} problems (`assimcli doctor`): {first}", problems.len()),
    };
    model::text::printable(&text).chars().take(MAX_STATUS_CHARS).collect()
}

async fn count(readers: &Arc<Readers>) -> Option<usize> {
    let limits = SqlLimits { rows: 1, milliseconds: 10_000, bytes: 1024 };
    let table =
        readers.read(move |reader| reader.sql("SELECT count(*) FROM hosts", &[], limits)).await.ok()?;
    let count = table.rows.first()?.first()?.as_u64()?;
    usize::try_from(count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::{Done, Request};
    use std::cell::RefCell;
    use tokio::sync::mpsc;

    /// Runs for some turns with a writer that answers as `answers` says, and returns what was told.
    async fn told(health: Health, answers: bool) -> Vec<Said> {
        let (queue, mut requests) = mpsc::channel::<Request>(4);
        let (stop, stopping) = watch::channel(false);
        let service = Service::new(Arc::new(Hosts::default()), Arc::new(health), 0);
        let said = RefCell::new(Vec::new());
        let writing = async {
            let mut kept = Vec::new();
            for turn in 0.. {
                let Some(request) = requests.recv().await else { break };
                if answers {
                    let _ = request.answer.send(Done::Written);
                } else {
                    kept.push(request);
                }
                if turn == 2 {
                    // The third turn is over when its answer came or its time is up.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    stop.send_replace(true);
                }
            }
        };
        let count = || async { Some(7) };
        let turning =
            service.turn(Some(Duration::from_millis(20)), Writer::new(queue), count, stopping, |what| {
                said.borrow_mut().push(what);
            });
        tokio::join!(turning, writing);
        said.into_inner()
    }

    fn lives(said: &[Said]) -> usize {
        said.iter().filter(|what| **what == Said::Alive).count()
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_while_the_writer_answers() {
        let said = told(Health::default(), true).await;
        assert!(lives(&said) >= 3, "{said:?}");
        let statuses: Vec<_> = said.iter().filter(|what| **what != Said::Alive).collect();
        assert_eq!(statuses, [&Said::Status("7 hosts, 0 connected, no problems".into())], "told once");
    }

    #[tokio::test]
    async fn a_writer_that_hangs_is_not_covered_up_but_a_full_disk_is_no_hanging() {
        assert_eq!(lives(&told(Health::default(), false).await), 0);
        let full = Health::default();
        full.set_store_problem(Some("the disk is full".into()));
        let said = told(full, false).await;
        assert!(lives(&said) >= 3, "{said:?}");
        assert!(said.iter().any(|what| matches!(what, Said::Status(line) if line.contains("disk is full"))));
    }

    #[test]
    fn the_status_is_one_short_line() {
        assert_eq!(line(1, 0, &[]), "1 host, 0 connected, no problems");
        let text = line(3, 2, &["first\nSTOPPING=1".into(), "second".into()]);
        assert!(text.starts_with("3 hosts, 2 connected, 2 problems") && !text.contains('\n'), "{text}");
        assert_eq!(line(3, 2, &["x".repeat(5000)]).chars().count(), MAX_STATUS_CHARS);
    }
}

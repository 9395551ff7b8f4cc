//! The event loop: one thread that waits for time, files, the network of this host, results, the network process and the
//! operator, and asks the cores ([`crate::scheduler`], [`wire::delivery`], [`crate::queue`]) what to do.

pub mod enrolment;
mod first_runs;
mod keys;
mod machine;
mod monitor;
mod neighbours;
pub mod network;
pub mod privileges;
mod reload;
mod report;
pub mod start;
pub mod tasks;

use crate::collector::{Collector, Finished, Found, Work};
use crate::discover;
use crate::executables;
use crate::memory::Memory;
use crate::monitoring::{Monitoring, document};
use crate::neighbours::{Neighbours, is_ours};
use crate::network::protocol::Order;
use crate::queue::Queue;
use crate::scheduler::{Limits, Scheduler, Slow};
use crate::settings::Settings;
use crate::triggers::files::FileChanges;
use crate::triggers::mapping::Interest;
use crate::triggers::netlink::NetworkChanges;
use daemon::logging::LogLevel;
use daemon::signals::{Signal, Signals};
use discovery::Trigger;
use enrolment::Enrolment;
use first_runs::FirstRuns;
use model::config::AgentConfig;
use model::message::Incarnation;
use model::paths::SitePaths;
use model::{PublicKey, Timestamp};
use network::{Manager, Network};
use reload::Reload;
use report::Counters;
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tasks::Task;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;
use wire::delivery::{Route, Sender, SenderConfig, Standing};
use wire::keys::CmaTrust;

/// How long a stop may take, to deliver what is queued and to say goodbye.
const STOP: Duration = Duration::from_secs(5);

/// The same for a nanoprobe that never reached a CMA.
const STOP_UNKNOWN: Duration = Duration::from_secs(1);

/// How often a disk that failed is tried again.
const DISK_RETRY: Duration = Duration::from_secs(15);

/// How often the directories of executables are looked through, should inotify have missed something.
const RESCAN: Duration = Duration::from_secs(300);

/// When to look again after a directory of executables appeared.
const RESCAN_SOON: Duration = Duration::from_millis(50);

/// Reports on their way, in bytes: few, because they are in memory.
const WINDOW_BYTES: u64 = 512 * 1024;

/// Stands for the directories of executables among the instances that have files watched; no legal instance.
const EXECUTABLES: &str = " executables";

/// What an agent is made of.
pub struct Parts {
    pub settings: Settings,
    pub site: SitePaths,
    pub host_root: PathBuf,
    /// CMA keys that are trusted.
    /// The public key of this nanoprobe.
    pub key: PublicKey,
    pub trust: CmaTrust,
    /// Started, with its port open.
    pub network: Network,
    pub queue: Queue,
    pub signals: Signals,
    pub level: LogLevel,
    /// Reads the settings again.
    pub reload: Reload,
    pub enrolment: Enrolment,
}

/// A running agent.
pub struct Agent {
    settings: Settings,
    site: SitePaths,
    keys: keys::CmaKeyring,
    signals: Signals,
    level: LogLevel,
    reload: Reload,
    manager: Manager,
    /// Zero of all times of the cores.
    zero: Instant,
    started: Timestamp,
    seed: u64,
    config: AgentConfig,
    /// As the CMA sent it; its hash is what the CMA compares.
    config_text: Option<String>,
    tasks: BTreeMap<String, Task>,
    /// Changes of files are not told of, or not of all: they are looked for.
    polling: bool,
    scheduler: Scheduler,
    first_runs: FirstRuns,
    collector: Collector,
    results: UnboundedReceiver<Finished>,
    files: Option<FileChanges>,
    netlink: Option<NetworkChanges>,
    monitoring: Monitoring,
    memory: Memory,
    neighbours: Neighbours,
    queue: Queue,
    /// Under which the delivery core works.
    known_incarnation: Incarnation,
    sender: Sender,
    network: Network,
    retry_disk_at: Option<Duration>,
    rescan_at: Duration,
    scan_problems: Vec<String>,
    enrolment: Enrolment,
    welcomed: bool,
    standing: report::StandingWithCma,
    settings_problem: Option<String>,
    stopping: bool,
    counters: Counters,
}

impl Agent {
    /// Must be called within a tokio runtime.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            settings,
            site,
            host_root,
            key,
            trust,
            network,
            queue,
            signals,
            level,
            reload,
            enrolment,
        } = parts;
        let zero = Instant::now();
        let seed = random_seed();
        let (result_sender, results) = unbounded_channel();
        let sender = sender(&settings, &queue, Duration::ZERO, seed);
        let config = AgentConfig::default();
        let mut agent = Self {
            scheduler: Scheduler::new(limits(&config), seed, Duration::ZERO),
            first_runs: FirstRuns::open(site.nanoprobe_state().join("first_runs")),
            collector: Collector::new(host_root.clone(), result_sender).with_state(site.discovery_state()),
            monitoring: Monitoring::new(&site, &host_root, &settings.designation, Duration::ZERO),
            memory: Memory::default(),
            neighbours: Neighbours::new(settings.designation.as_str()),
            settings,
            site,
            keys: keys::CmaKeyring::new(trust, key),
            signals,
            level,
            reload,
            manager: Manager::new(),
            zero,
            started: Timestamp::now(),
            seed,
            config,
            config_text: None,
            tasks: BTreeMap::new(),
            polling: false,
            results,
            files: None,
            netlink: None,
            known_incarnation: queue.incarnation(),
            queue,
            sender,
            network,
            retry_disk_at: None,
            rescan_at: RESCAN,
            scan_problems: Vec::new(),
            enrolment,
            welcomed: false,
            standing: report::StandingWithCma::default(),
            settings_problem: None,
            stopping: false,
            counters: Counters::default(),
        };
        agent.load_config();
        agent.rescan(Duration::ZERO);
        agent
    }

    /// Works until it is told to stop.
    pub async fn run(mut self) {
        self.manager.ready(self.status());
        loop {
            self.pump();
            // Without a network process nobody can be told of the end.
            let nobody_to_tell = self.stopping && !self.network.is_up();
            if self.sender.standing() == Standing::Stopped || nobody_to_tell {
                break;
            }
            let wake = self.next_wakeup();
            tokio::select! {
                signal = self.signals.next() => if self.signalled(signal) { break },
                Some(finished) = self.results.recv() => self.finished(finished),
                Some(report) = self.monitoring.next() => self.monitored(report),
                Some(effect) = self.neighbours.next() => self.neighbours_changed(effect),
                told = self.network.next() => self.network_told(told),
                noticed = next_file_change(&mut self.files) => self.files_changed(noticed),
                changed = next_network_change(&mut self.netlink) => self.network_changed(changed),
                () = sleep_until(wake.map(|at| self.zero + at)) => {}
            }
        }
        self.log_statistics().await;
    }

    /// Time since the zero of the cores.
    fn now(&self) -> Duration {
        self.zero.elapsed()
    }

    /// Lets every core do what is due.
    fn pump(&mut self) {
        let now = self.now();
        if self.retry_disk_at.is_some_and(|at| now >= at) {
            self.retry_disk(now);
        }
        if now >= self.rescan_at {
            self.rescan(now);
        }
        for slow in self.scheduler.slow(now) {
            self.slow(slow);
        }
        if !self.stopping {
            self.start_runs(now);
            self.look_after(now);
        }
        if let Some(why) = self.network.advance(now, self.level.get()) {
            self.network.gone(now, &why);
        }
        self.deliver(now);
        self.memory.advance(now);
        if self.manager.advance(now, self.network.is_well()) {
            self.manager.status(self.status());
        }
    }

    fn next_wakeup(&self) -> Option<Duration> {
        let now = self.now();
        let runs =
            if self.stopping { None } else { self.scheduler.next_wakeup(now, |name| self.can_run(name)) };
        let checks = if self.stopping { None } else { self.monitoring.next_wakeup() };
        let delivery = if self.network.is_up() { self.sender.poll_timeout() } else { None };
        [
            runs,
            checks,
            delivery,
            self.memory.poll_timeout(),
            self.network.poll_timeout(),
            self.manager.poll_timeout(),
            self.retry_disk_at,
            Some(self.rescan_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn can_run(&self, instance: &str) -> bool {
        self.tasks.get(instance).is_some_and(|task| self.collector.is_free(&task.work))
    }

    fn start_runs(&mut self, now: Duration) {
        loop {
            let (tasks, collector) = (&self.tasks, &self.collector);
            let free = |name: &str| tasks.get(name).is_some_and(|task| collector.is_free(&task.work));
            let Some((instance, cause)) = self.scheduler.start(now, free) else { return };
            let Some(task) = self.tasks.get(&instance) else { continue };
            let timeout = Duration::from_secs(task.schedule.timeout_seconds);
            tracing::debug!(instance, ?cause, "discovery starts");
            self.counters.runs += 1;
            let known = self.queue.hash_of(&instance);
            let started =
                self.collector.start(&instance, task.work.clone(), task.parameters.clone(), timeout, known);
            if let Err(error) = started {
                tracing::error!(instance, %error, "the system gives no thread for a discovery; it is tried again");
                self.scheduler.finished(&instance, Duration::ZERO, now);
                return;
            }
        }
    }

    fn slow(&mut self, slow: Slow) {
        match slow {
            Slow::Warn(instance) => tracing::warn!(instance, "a discovery takes long"),
            // Executables keep their time-out themselves.
            Slow::TimedOut(instance) if self.collector.abandon(&instance) => {
                let seconds = self.tasks.get(&instance).map_or(0, |task| task.schedule.timeout_seconds);
                let stuck: Vec<&str> = self.collector.stuck().collect();
                tracing::error!(instance, seconds, ?stuck, "a discovery hangs and is given up");
                self.had_its_turn(&instance);
                self.failed(
                    &instance,
                    format!("took longer than {seconds} s and was given up; the data are older"),
                );
            }
            Slow::TimedOut(_) => {}
        }
    }

    fn finished(&mut self, finished: Finished) {
        let now = self.now();
        self.scheduler.finished(&finished.instance, finished.cpu, now);
        if !self.collector.settle(&finished) {
            tracing::info!(
                instance = finished.instance,
                "a discovery that was given up has ended; it is run again when due"
            );
            return;
        }
        self.had_its_turn(&finished.instance);
        self.memory.worked(now);
        let Some(task) = self.tasks.get(&finished.instance) else { return };
        tracing::debug!(
            instance = finished.instance,
            cpu_us = finished.cpu.as_micros() as u64,
            "discovery ended"
        );
        if matches!((task.trigger, &task.work), (Trigger::Files, Work::Native(_)))
            && self.config.discovery.triggers
            && let Some(files) = &mut self.files
        {
            let again = files.set(&finished.instance, finished.interest);
            let unwatched = files.watches().1;
            self.look_again(&again, now);
            if unwatched > 0 && !self.polling {
                tracing::info!(unwatched, "some directories cannot be watched: files are polled as well");
                self.rescan(now);
            }
        }
        match finished.result {
            Ok(Found::Document(document)) => {
                let hash = document.hash;
                self.offer(&finished.instance, document, finished.seen);
                self.monitoring.found(&finished.instance, hash, now);
            }
            Ok(Found::Known(hash)) => {
                if !self.queue.confirm(&finished.instance, hash, finished.seen) {
                    // Forgotten or replaced since the run began (the CMA asked for it), and its text was not kept.
                    self.scheduler.trigger(&finished.instance, now);
                }
                self.monitoring.found(&finished.instance, hash, now);
            }
            Err(why) => self.failed(&finished.instance, why),
        }
    }

    fn had_its_turn(&mut self, instance: &str) {
        if let Err(error) = self.first_runs.done(instance) {
            tracing::debug!(instance, %error, "a run cannot be noted");
        }
    }

    /// What changed between reading and watching was not noticed.
    fn look_again(&mut self, instances: &BTreeSet<String>, now: Duration) {
        for instance in instances {
            if instance == EXECUTABLES {
                self.rescan_at = self.rescan_at.min(now + RESCAN_SOON);
            } else {
                self.scheduler.trigger(instance, now);
            }
        }
    }

    fn files_changed(&mut self, noticed: io::Result<crate::triggers::files::Noticed>) {
        let now = self.now();
        match noticed {
            Ok(noticed) => {
                if noticed.overflow {
                    tracing::info!("the system dropped file events: all that was watched is looked at again");
                    self.trigger_all(Trigger::Files, now);
                    self.rescan(now);
                }
                for instance in &noticed.instances {
                    if instance == EXECUTABLES {
                        self.rescan(now);
                    } else {
                        self.scheduler.trigger(instance, now);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "file changes cannot be watched any more: polling only");
                self.files = None;
            }
        }
    }

    fn network_changed(&mut self, changed: io::Result<()>) {
        let now = self.now();
        if let Err(error) = changed {
            tracing::warn!(%error, "network changes cannot be watched any more: polling only");
            self.netlink = None;
            return;
        }
        self.trigger_all(Trigger::Netlink, now);
    }

    fn trigger_all(&mut self, trigger: Trigger, now: Duration) {
        for (instance, _) in self.tasks.iter().filter(|(_, task)| task.trigger == trigger) {
            self.scheduler.trigger(instance, now);
        }
    }

    /// `true`: stop at once.
    fn signalled(&mut self, signal: Signal) -> bool {
        let now = self.now();
        match signal {
            Signal::Hangup => self.read_settings_again(now),
            Signal::Terminate if self.stopping => return true,
            Signal::Terminate => {
                tracing::info!("stopping");
                daemon::service::stopping();
                self.stopping = true;
                self.network.order(&Order::Part);
                self.monitoring.stop(now);
                self.sender.stop(now, now + if self.welcomed { STOP } else { STOP_UNKNOWN });
            }
        }
        false
    }

    /// Looks through the directories of executables and applies the configuration.
    fn rescan(&mut self, now: Duration) {
        self.rescan_at = now + RESCAN;
        let directories = discover::directories(&self.site);
        let scan = executables::scan(&directories);
        if scan.problems != self.scan_problems {
            for problem in &scan.problems {
                tracing::warn!(problem, "an executable discovery is not run");
            }
            self.scan_problems = scan.problems;
        }
        self.open_watches(now);
        self.polling = self.files.as_ref().is_none_or(|files| files.watches().1 > 0);
        let host = self.settings.designation.as_str();
        let tasks = tasks::tasks(&self.config.discovery, &scan.executables, host, self.polling);
        self.scheduler.set_limits(limits(&self.config), now);
        self.scheduler.set_tasks(&tasks::in_order(&tasks), now);
        let (waits, saved) = self.first_runs.waits(&tasks, host);
        if let Err(error) = saved {
            tracing::debug!(%error, "this start cannot be counted");
        }
        for (instance, wait) in waits {
            self.scheduler.delay_first(instance, *wait);
        }
        for (instance, task) in &tasks {
            if self.tasks.get(instance).is_some_and(|old| old.differs(task)) {
                self.scheduler.trigger(instance, now);
            }
        }
        let old = std::mem::replace(&mut self.tasks, tasks);
        if let Some(files) = &mut self.files {
            let mut again = BTreeSet::new();
            for instance in old.keys().filter(|instance| !self.tasks.contains_key(*instance)) {
                again.extend(files.remove(instance));
            }
            self.look_again(&again, now);
        }
        let interest = Interest::new(Default::default(), directories.into());
        if let Some(files) = &mut self.files {
            let again = files.set(EXECUTABLES, interest);
            self.look_again(&again, now);
        }
        for instance in self.queue.instances() {
            if !self.tasks.contains_key(&instance) && !document::is_ours(&instance) && !is_ours(&instance) {
                tracing::info!(instance, "a discovery is gone from this host");
                self.gone(&instance);
            }
        }
        self.configure_monitoring(now);
        self.configure_neighbours();
    }

    /// Has files and the network watched, if that is wanted and the system can.
    fn open_watches(&mut self, now: Duration) {
        if !self.config.discovery.triggers {
            self.files = None;
            self.netlink = None;
            return;
        }
        if self.files.is_none() {
            self.files = FileChanges::new()
                .inspect_err(|error| tracing::warn!(%error, "file changes cannot be watched: polling only"))
                .ok();
            // Watches are set after a run; those that ran before have to run again.
            self.trigger_all(Trigger::Files, now);
        }
        if self.netlink.is_none() {
            self.netlink = NetworkChanges::subscribe()
                .inspect_err(
                    |error| tracing::warn!(%error, "network changes cannot be watched: polling only"),
                )
                .ok();
        }
    }

    async fn log_statistics(self) {
        let uptime_seconds = self.now().as_secs();
        let (watches, unwatched) = self.files.as_ref().map_or((0, 0), FileChanges::watches);
        let (waiting, waiting_bytes) = self.queue.waiting();
        let counters = self.counters;
        let heartbeats = self.network.finish().await;
        tracing::info!(
            runs = counters.runs,
            changes = counters.changes,
            sent = counters.sent,
            acknowledged = counters.acknowledged,
            rejected = counters.rejected,
            connections = counters.connections,
            failed_dials = counters.failed_dials,
            calls = counters.calls,
            waiting,
            waiting_bytes,
            watches,
            unwatched,
            heartbeats_sent = heartbeats.sent,
            heartbeats_received = heartbeats.received,
            heartbeats_refused = heartbeats.refused,
            uptime_seconds,
            "nanoprobe stopped"
        );
    }
}

fn limits(config: &AgentConfig) -> Limits {
    Limits {
        cpu_budget_percent: config.discovery.cpu_budget_percent,
        // More than a minute of settling is a typing mistake.
        settle: Duration::from_millis(config.discovery.settle_milliseconds.min(60_000)),
    }
}

/// The delivery core for what the queue holds now.
fn sender(settings: &Settings, queue: &Queue, now: Duration, seed: u64) -> Sender {
    let route = |address: &wire::address::PeerAddress| {
        if address.is_multicast() { Route::Hello } else { Route::Dial }
    };
    let mut config = SenderConfig::new(settings.cma_addresses.iter().map(route).collect());
    config.window_bytes = WINDOW_BYTES;
    // Hellos notice sooner that the CMA is back; where they do not pass, this does.
    config.backoff_max = Duration::from_secs(120);
    if settings.keepalive {
        config.idle_close = None;
    }
    Sender::new(config, now, seed, queue.acknowledged() + 1, queue.sizes())
}

fn random_seed() -> u64 {
    // Without a random source hosts are still spread by their clocks and process numbers.
    getrandom::u64()
        .unwrap_or_else(|_| Timestamp::now().0.cast_unsigned() ^ u64::from(std::process::id()) << 32)
}

async fn next_file_change(files: &mut Option<FileChanges>) -> io::Result<crate::triggers::files::Noticed> {
    match files {
        Some(files) => files.next().await,
        None => pending().await,
    }
}

async fn next_network_change(netlink: &mut Option<NetworkChanges>) -> io::Result<()> {
    match netlink {
        Some(netlink) => netlink.next().await,
        None => pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => pending().await,
    }
}

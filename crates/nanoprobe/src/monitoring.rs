//! Looks after what runs on this host: which monitors there are, their checks, what the CMA is told.
//!
//! The documents of four discoveries decide which monitors there are ([`choose`], in a thread of its own, because reading
//! them takes a while); [`plan`] says which check runs next; each check ([`classes`]) runs in a thread, because what it asks
//! may hang; [`state`] makes states of results. A state becomes a document ([`document`]) and goes the way of all documents.
//! The event loop of the agent drives it, and carries out the [`Effect`]s.

pub mod by_hand;
pub mod choose;
pub mod classes;
pub mod document;
pub mod kept;
pub mod plan;
pub mod state;
#[cfg(test)]
mod testing;

use crate::collector::{Document, pack};
use choose::{Chosen, DOCUMENTS, Job, TCPDISCOVERY};
use classes::{Around, Checked, check};
use model::config::{AgentConfig, MonitoringConfig};
use model::paths::SitePaths;
use model::{Designation, DocumentHash};
use plan::{Change, Plan, Run, Settings};
use state::{Moment, Outcome, State};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Several documents often change together.
const SETTLE: Duration = Duration::from_millis(300);
/// Without a document that is missing, a first choice is made after this.
const PATIENCE: Duration = Duration::from_secs(60);
/// States are kept on disk at most this late.
const SAVE: Duration = Duration::from_secs(1);
/// When to try again what the queue or the system refused.
const RETRY: Duration = Duration::from_secs(15);
/// For a check; the deepest is a TLS handshake.
const STACK_BYTES: usize = 1024 * 1024;

/// What a thread has to say.
#[derive(Debug)]
pub enum Report {
    Checked {
        name: String,
        number: u64,
        outcome: Outcome,
        is_stuck: bool,
    },
    /// What was stuck has ended.
    Freed {
        name: String,
        number: u64,
    },
    Chosen(Box<Chosen>),
}

/// What the agent has to do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// A document for the queue, under its instance.
    Offer(String, Document),
    /// There is no such document any more.
    Gone(String),
    /// This discovery should run again soon.
    LookAgain(&'static str),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Monitoring {
    host: Designation,
    directories: [PathBuf; 2],
    host_root: PathBuf,
    kept: PathBuf,
    scratch: PathBuf,
    config: AgentConfig,
    around: Arc<Around>,
    plan: Plan,
    /// Hash of each document that was found since the start.
    found: BTreeMap<&'static str, DocumentHash>,
    choose_at: Option<Duration>,
    is_choosing: bool,
    has_chosen: bool,
    /// Documents that were refused, or are wanted again.
    unsent: BTreeSet<String>,
    retry_at: Option<Duration>,
    overview: Option<Document>,
    save_at: Option<Duration>,
    saved: Option<DocumentHash>,
    problems: Vec<String>,
    sender: UnboundedSender<Report>,
    reports: UnboundedReceiver<Report>,
}

impl Monitoring {
    /// Takes up what was kept by the last nanoprobe.
    pub fn new(site: &SitePaths, host_root: &Path, host: &Designation, now: Duration) -> Self {
        let state = site.nanoprobe_state();
        let (sender, reports) = unbounded_channel();
        let config = AgentConfig::default();
        let scratch = state.join("rsctmp");
        let mut monitoring = Self {
            host: host.clone(),
            directories: directories(site),
            host_root: host_root.into(),
            kept: state.join("monitors.json"),
            around: Arc::new(Around::new(&config.monitoring, scratch.clone())),
            scratch,
            plan: Plan::new(settings(&config)),
            config,
            found: BTreeMap::new(),
            choose_at: None,
            is_choosing: false,
            has_chosen: false,
            unsent: BTreeSet::new(),
            retry_at: None,
            overview: None,
            save_at: None,
            saved: None,
            problems: Vec::new(),
            sender,
            reports,
        };
        match kept::read(&monitoring.kept) {
            Ok(kept) => monitoring.plan.restore(kept, now),
            Err(problem) => {
                tracing::warn!(problem, "the states of services from before the restart are not known")
            }
        }
        monitoring
    }

    /// Applies a configuration, and chooses anew even if it is the same: what the site has in its directories may not be.
    pub fn configure(&mut self, config: &AgentConfig, now: Duration) -> Vec<Effect> {
        if self.config.monitoring != config.monitoring {
            self.around = Arc::new(Around::new(&config.monitoring, self.scratch.clone()));
        }
        self.config = config.clone();
        self.plan.set_settings(settings(config));
        if config.monitoring.enabled {
            self.choose_soon(now);
            return Vec::new();
        }
        self.choose_at = None;
        let changes = self.plan_cleared();
        let mut effects = self.changes(changes);
        if self.overview.take().is_some() {
            effects.push(Effect::Gone(document::OVERVIEW.into()));
        }
        effects
    }

    /// A discovery has found this document.
    pub fn found(&mut self, instance: &str, hash: DocumentHash, now: Duration) {
        let Some(instance) = DOCUMENTS.into_iter().find(|known| *known == instance) else { return };
        if self.found.insert(instance, hash) != Some(hash) && self.config.monitoring.enabled {
            self.choose_soon(now);
        }
    }

    /// The CMA does not have this document of ours; it is offered again.
    pub fn wanted(&mut self, instance: &str, now: Duration) {
        self.unsent.insert(instance.to_owned());
        self.retry_at.get_or_insert(now);
    }

    /// The queue refused this document; it is offered again later.
    pub fn refused(&mut self, instance: &str, now: Duration) {
        self.unsent.insert(instance.to_owned());
        self.retry_at.get_or_insert(now + RETRY);
    }

    /// The next thing that a thread says. Never ends, because we hold a sender.
    pub async fn next(&mut self) -> Option<Report> {
        self.reports.recv().await
    }

    /// When [`Monitoring::work`] has something to do.
    pub fn next_wakeup(&self) -> Option<Duration> {
        let choose_at = if self.is_choosing { None } else { self.choose_at };
        [self.plan.next_wakeup(), choose_at, self.retry_at, self.save_at].into_iter().flatten().min()
    }

    /// Starts what is due. `body`: the compressed document of an instance, if there is one.
    pub fn work(&mut self, now: Duration, body: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<Effect> {
        if self.save_at.is_some_and(|at| now >= at) {
            self.save(now);
        }
        while let Some(run) = self.plan.start(now) {
            self.start(run, now);
        }
        if !self.is_choosing && self.choose_at.is_some_and(|at| now >= at) {
            self.choose(now, body);
        }
        if self.retry_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.retry_at = None;
        std::mem::take(&mut self.unsent).iter().filter_map(|instance| self.document(instance)).collect()
    }

    /// Takes what a thread says.
    pub fn report(&mut self, report: Report, moment: Moment) -> Vec<Effect> {
        match report {
            Report::Checked { name, number, outcome, is_stuck } => {
                if is_stuck {
                    tracing::error!(monitor = name, "a check cannot be killed; it is waited for");
                }
                if !self.plan.finished(&name, number, outcome, is_stuck, moment) {
                    return Vec::new();
                }
                self.save_soon(moment.now);
                let mut effects = self.changes(vec![Change::Told(name.clone())]);
                let is_down = self.plan.state(&name).is_some_and(|(_, told)| told.state == State::Down);
                if is_down {
                    // Was it stopped on purpose, did it come back as another process?
                    effects.extend(choose::TELLING.map(Effect::LookAgain));
                }
                effects
            }
            Report::Freed { name, number } => {
                self.plan.freed(&name, number, moment.now);
                Vec::new()
            }
            Report::Chosen(chosen) => self.chosen(*chosen, moment),
        }
    }

    /// Of documents that the CMA has, those of monitors that do not exist; empty before the first choice.
    pub fn strangers(&self, instances: Vec<String>) -> Vec<String> {
        if !self.has_chosen && self.config.monitoring.enabled {
            return Vec::new();
        }
        let mut ours: BTreeSet<String> = self.plan.monitors().map(monitors::Monitor::instance).collect();
        if self.overview.is_some() {
            ours.insert(document::OVERVIEW.into());
        }
        let is_stranger = |instance: &String| document::is_ours(instance) && !ours.contains(instance);
        instances.into_iter().filter(is_stranger).collect()
    }

    /// Keeps the states now: the nanoprobe stops.
    pub fn stop(&mut self, now: Duration) {
        if self.save_at.is_some() {
            self.save(now);
        }
    }

    fn plan_cleared(&mut self) -> Vec<Change> {
        let changes = self.plan.clear();
        if !changes.is_empty() {
            self.save_at.get_or_insert(Duration::ZERO);
        }
        changes
    }

    fn choose_soon(&mut self, now: Duration) {
        let at = now + SETTLE;
        self.choose_at = Some(self.choose_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn save_soon(&mut self, now: Duration) {
        self.save_at.get_or_insert(now + SAVE);
    }

    fn start(&mut self, run: Run, now: Duration) {
        let Run { number, monitor } = run;
        let (sender, around) = (self.sender.clone(), self.around.clone());
        let name = monitor.name.clone();
        let started =
            thread::Builder::new().name("monitor".into()).stack_size(STACK_BYTES).spawn(move || {
                let checked = catch_unwind(AssertUnwindSafe(|| check(&monitor, &around)));
                let Checked { outcome, stray } = checked.unwrap_or_else(|_| {
                    Outcome::warn("unknown: the check ended by a defect of the nanoprobe, see its log").into()
                });
                let (name, is_stuck) = (monitor.name.clone(), stray.is_some());
                // Nobody listens any more when the agent stops.
                let _ = sender.send(Report::Checked { name: name.clone(), number, outcome, is_stuck });
                if let Some(mut stray) = stray {
                    let _ = stray.wait();
                    let _ = sender.send(Report::Freed { name, number });
                }
            });
        if let Err(error) = started {
            tracing::error!(monitor = name, %error, "the system gives no thread for a check; it is tried again");
            self.plan.freed(&name, number, now);
        }
    }

    fn choose(&mut self, now: Duration, body: impl Fn(&str) -> Option<Vec<u8>>) {
        // What listens now counts, not what did before the restart. Each document that comes is a reason to look again.
        let bodies = DOCUMENTS.map(&body);
        let is_early = !self.found.contains_key(TCPDISCOVERY) || bodies.iter().any(Option::is_none);
        if is_early && now < PATIENCE {
            self.choose_at = Some(PATIENCE);
            return;
        }
        self.choose_at = None;
        let job = Job {
            host: self.host.clone(),
            config: self.config.monitoring.clone(),
            rules: self.config.monitor_rules.clone(),
            directories: self.directories.clone(),
            host_root: self.host_root.clone(),
            bodies,
            present: self.plan.with_units().collect(),
        };
        let sender = self.sender.clone();
        let started = thread::Builder::new().name("monitor choice".into()).spawn(move || {
            let chosen = catch_unwind(AssertUnwindSafe(|| choose::choose(job))).unwrap_or_default();
            let _ = sender.send(Report::Chosen(Box::new(chosen)));
        });
        match started {
            Ok(_) => self.is_choosing = true,
            Err(error) => {
                tracing::error!(%error, "the system gives no thread to choose monitors; it is tried again");
                self.choose_at = Some(now + RETRY);
            }
        }
    }

    fn chosen(&mut self, chosen: Chosen, moment: Moment) -> Vec<Effect> {
        self.is_choosing = false;
        let Chosen { is_complete, monitors, overview, listening, units, removed, problems } = chosen;
        if !is_complete || !self.config.monitoring.enabled {
            return Vec::new();
        }
        if problems != self.problems {
            for problem in &problems {
                tracing::warn!(problem, "a monitor rule is not used");
            }
            self.problems = problems;
        }
        self.has_chosen = true;
        let findings = plan::Findings {
            listening: &listening,
            is_removed: &|monitor, _| removed.contains(&monitor.name),
            units: &units,
        };
        let before: BTreeSet<String> = self.plan.monitors().map(|monitor| monitor.name.clone()).collect();
        let changes = self.plan.set(monitors, &findings, moment);
        for monitor in self.plan.monitors().filter(|monitor| !before.contains(&monitor.name)) {
            tracing::info!(monitor = monitor.name, rule = monitor.rule, "a monitor begins");
        }
        self.save_soon(moment.now);
        let mut effects = self.changes(changes);
        let envelope = document::overview(self.host.as_str(), overview);
        if let Ok(document) = pack(&envelope) {
            self.overview = Some(document.clone());
            effects.push(Effect::Offer(document::OVERVIEW.into(), document));
        }
        effects
    }

    fn changes(&self, changes: Vec<Change>) -> Vec<Effect> {
        let effect = |change| match change {
            Change::Told(name) => {
                let (monitor, told) = self.plan.state(&name)?;
                tracing::info!(monitor = name, state = told.state.as_str(), "a monitor tells");
                self.document(&monitor.instance())
            }
            Change::Gone(monitor) => {
                tracing::info!(monitor = monitor.name, "a monitor ends");
                Some(Effect::Gone(monitor.instance()))
            }
        };
        changes.into_iter().filter_map(effect).collect()
    }

    /// The present document of an instance of ours.
    fn document(&self, instance: &str) -> Option<Effect> {
        if instance == document::OVERVIEW {
            return self.overview.clone().map(|document| Effect::Offer(instance.to_owned(), document));
        }
        let monitor = self.plan.monitors().find(|monitor| monitor.instance() == instance)?;
        let (monitor, told) = self.plan.state(&monitor.name)?;
        let envelope = document::of_monitor(self.host.as_str(), monitor, told);
        match pack(&envelope) {
            Ok(document) => Some(Effect::Offer(envelope.instance, document)),
            Err(error) => {
                tracing::error!(monitor = monitor.name, error, "a state cannot be told");
                None
            }
        }
    }

    fn save(&mut self, now: Duration) {
        self.save_at = None;
        let text = match kept::text(self.plan.kept()) {
            Ok(text) => text,
            Err(error) => return tracing::error!(%error, "the states of services cannot be written"),
        };
        let hash = DocumentHash::of(&text);
        if self.saved == Some(hash) {
            return;
        }
        match kept::write(&self.kept, &text) {
            Ok(()) => self.saved = Some(hash),
            Err(error) => {
                tracing::debug!(path = %self.kept.display(), %error, "the states of services are not kept");
                self.save_at = Some(now + RETRY);
            }
        }
    }
}

/// Directories of monitor rules; later ones win.
pub fn directories(site: &SitePaths) -> [PathBuf; 2] {
    [site.shared("monrules"), site.site("monrules")]
}

fn settings(config: &AgentConfig) -> Settings {
    let MonitoringConfig { flap_changes, forget_hours, .. } = &config.monitoring;
    let hours = (*forget_hours).min(24 * 366 * 10);
    Settings { flap_changes: *flap_changes, forget: Duration::from_secs(hours * 3600) }
}

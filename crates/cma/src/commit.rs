//! The one thread that writes: group commit, one savepoint per request, answers after the commit.
//!
//! Everything that changes the store comes here by channel. A request that fails for good affects only itself; a
//! store that cannot be written (disk full) keeps the whole group waiting, unanswered, until it can.

use crate::groups::Moved;
use crate::health::Health;
use crate::ingest::document::{Content, Incoming};
use crate::ingest::enrolment::actions;
use crate::ingest::keys::{self, InUse, Told};
use crate::ingest::register::{self, Applicant, Registration};
use crate::ingest::report::{self, Outcome};
use crate::ingest::verdict::{self, Decision};
use crate::ingest::{self, Change, Context, Produced, Sender, evaluation, surroundings};
use crate::knowledge::SharedKnowledge;
use crate::metrics::Metrics;
use crate::notify;
use crate::notify::dispatch::Record;
use model::{Designation, Event, PublicKey, Timestamp};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{MemberRow, OutboxRow, Store, StoreError, Transaction};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot, watch};
use uuid::Uuid;

/// Requests that one commit takes at most.
const GROUP_REQUESTS: usize = 100;
/// Document bytes after which a group is closed.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Requests that wait for the writer before senders are held back.
pub const QUEUE_REQUESTS: usize = 1024;
/// First and longest pause while the store cannot be written.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How often the database is looked after, and after how many requests at the latest: a site that is set up grows fast.
const OPTIMIZE_INTERVAL: Duration = Duration::from_secs(3600);
const OPTIMIZE_REQUESTS: usize = 20_000;

/// What is to be written.
#[derive(Debug)]
pub enum Work {
    Register {
        key: PublicKey,
        remote: SocketAddr,
        message: model::message::Register,
    },
    Goodbye {
        sender: Sender,
        reason: String,
    },
    Report {
        sender: Sender,
        incoming: Incoming,
    },
    /// What an administrator decided about tokens, keys, machines and tags.
    Enrolment(actions::Action),
    RemoveHost(Designation),
    /// Outcome of a delivery.
    Delivery(Record),
    /// Documents whose rules are to be evaluated again because the rule sets or the domains changed.
    Reevaluate(Vec<(Designation, String)>),
    Setting {
        name: String,
        value: String,
    },
    /// What the heartbeat rings have to remember, and whom they give up: both or neither, or a host could be in no ring
    /// and be called up for ever.
    Liveness {
        members: Vec<MemberRow>,
        decisions: Vec<Decision>,
    },
    /// Hosts of an outage are up again and were gathered for long enough.
    Back {
        outage: String,
    },
    /// The CMA is no longer cut off.
    ConnectedAgain,
    /// Names of addresses from reverse DNS (`None`: it has none), and how old the others may be.
    Names {
        found: Vec<(IpAddr, Option<String>)>,
        forget_before: Timestamp,
    },
    /// Hosts that stand elsewhere than before; with events, unless somebody changed the settings.
    Groups {
        moved: Vec<Moved>,
        /// Names the settings that this follows from.
        configured: String,
    },
    /// Whether the settings file was taken, or why not.
    Configuration(Option<String>),
    /// A host said which keys of the CMA it trusts.
    HostKeys {
        sender: Sender,
        told: Told,
    },
    /// The age of the key in use is looked at.
    KeyAge {
        in_use: InUse,
        rotate_after_days: u32,
    },
    /// What ingestion put off is due: see [`Produced::look_at`].
    Look,
    /// Answered after a commit: tells that the writer works.
    Ping,
}

impl Work {
    /// Whether hosts may belong into other groups afterwards.
    fn changes_facts(&self) -> bool {
        !matches!(
            self,
            Self::Delivery(_)
                | Self::Setting { .. }
                | Self::Groups { .. }
                | Self::Configuration(_)
                | Self::Look
                | Self::Ping
        )
    }
}

/// What came of it; durable when it arrives.
#[derive(Debug, PartialEq)]
pub enum Done {
    Registered(Registration),
    Goodbye,
    Report(Outcome),
    Enrolment(actions::Outcome),
    Removed(bool),
    /// Since when the key in use is.
    KeyAge(Timestamp),
    Written,
    /// Hosts that verdicts do not concern because they were heard of meanwhile.
    Judged(Vec<Designation>),
    /// Failed for good and changed nothing.
    Failed(String),
}

/// One entry of the queue.
pub struct Request {
    pub work: Work,
    pub answer: oneshot::Sender<Done>,
    /// Memory this request holds; given back when it is done with.
    pub memory: Option<OwnedSemaphorePermit>,
}

/// The way to the writer thread.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Request>,
}

/// The writer is gone, or did not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database is not being written at the moment")]
pub struct WriterBusy;

impl Writer {
    pub fn new(queue: mpsc::Sender<Request>) -> Self {
        Self { queue }
    }

    /// How many requests wait, and how many may.
    pub fn waiting(&self) -> (usize, usize) {
        let limit = self.queue.max_capacity();
        (limit - self.queue.capacity().min(limit), limit)
    }

    /// Queues a request, waiting for room; the answer comes after its commit.
    pub async fn submit(
        &self,
        work: Work,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<oneshot::Receiver<Done>, WriterBusy> {
        let (answer, done) = oneshot::channel();
        self.queue.send(Request { work, answer, memory }).await.map_err(|_| WriterBusy)?;
        Ok(done)
    }

    /// Queues a request and waits for its answer, both together for at most `patience`.
    pub async fn ask(&self, work: Work, patience: Duration) -> Result<Done, WriterBusy> {
        let answered = async { self.submit(work, None).await?.await.map_err(|_| WriterBusy) };
        tokio::time::timeout(patience, answered).await.unwrap_or(Err(WriterBusy))
    }
}

/// Where the writer tells what became durable.
pub struct Outlets {
    /// Rows of new events, for the dispatcher.
    pub outbox: mpsc::UnboundedSender<OutboxRow>,
    /// Sequence of the newest event, for those who follow events.
    pub newest_event: watch::Sender<i64>,
    /// What the heartbeats have to know. Not bounded: whoever reads it also waits for this thread, and must not hold it.
    pub changes: mpsc::UnboundedSender<Change>,
    /// When [`Work::Look`] is due.
    pub look_at: mpsc::UnboundedSender<Timestamp>,
    /// Told when documents about addresses were stored.
    pub addresses: Arc<Notify>,
    /// Told when hosts came or left, or said something new: they may belong into other groups.
    pub facts: Arc<Notify>,
    /// Called with keys that became or stopped being a host's own, to keep the key files in step.
    pub key_files: Box<dyn FnMut(&Produced) + Send>,
}

/// The writer thread's own state.
pub struct Committer {
    pub store: Box<dyn Store>,
    pub knowledge: SharedKnowledge,
    pub health: Arc<Health>,
    pub metrics: Metrics,
    pub outlets: Outlets,
    /// Which host each key belongs to, as committed.
    pub pinned: HashMap<PublicKey, Designation>,
    /// Start of this CMA.
    pub started: Timestamp,
}

struct Finished {
    done: Done,
    produced: Produced,
}

impl Committer {
    /// Serves the queue until all senders are gone.
    pub fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut optimized = Instant::now();
        let mut requests = 0;
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = size(&first);
            let mut group = vec![first];
            while group.len() < GROUP_REQUESTS && bytes < GROUP_BYTES {
                let Ok(next) = queue.try_recv() else { break };
                bytes += size(&next);
                group.push(next);
            }
            requests += group.len();
            if !self.commit_until_done(group, &queue) {
                return;
            }
            if requests >= OPTIMIZE_REQUESTS || optimized.elapsed() >= OPTIMIZE_INTERVAL {
                if let Err(error) = self.store.optimize() {
                    tracing::warn!(%error, "the database could not be looked after; queries may be slow");
                }
                (requests, optimized) = (0, Instant::now());
            }
        }
    }

    /// `false` when the store could not be written until the end of the program.
    fn commit_until_done(&mut self, group: Vec<Request>, queue: &mpsc::Receiver<Request>) -> bool {
        let (mut pause, longest) = RETRY_PAUSES;
        loop {
            let channels = notify::enabled(&self.knowledge.get().config.notify);
            let begun = Instant::now();
            let attempt = AssertUnwindSafe(|| self.commit(&group, &channels, Timestamp::now()));
            let broke_off = |_| Err(StoreError::Sql("the CMA broke off (a defect; please report it)".into()));
            match catch_unwind(attempt).unwrap_or_else(broke_off) {
                Ok(finished) => {
                    if self.health.set_store_problem(None) {
                        tracing::info!("the database can be written again");
                    }
                    self.metrics.committed(group.len(), begun.elapsed());
                    self.after_commit(group, finished, &channels);
                    return true;
                }
                Err(error) if !ingest::concerns_all(&error) => return self.give_up(group, &error, queue),
                Err(error) => {
                    self.metrics.commit_failed();
                    if self.health.set_store_problem(Some(error.to_string())) {
                        tracing::error!(%error, "nothing can be stored, so nothing is acknowledged; trying again until it works");
                    }
                    if queue.is_closed() {
                        return false;
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    /// A group failed as a whole though the store is well: its requests are tried one by one, and the one at fault is
    /// given up. A report at fault is recorded as refused, so that the ones behind it can come.
    fn give_up(
        &mut self,
        mut group: Vec<Request>,
        error: &StoreError,
        queue: &mpsc::Receiver<Request>,
    ) -> bool {
        if group.len() > 1 {
            return group.into_iter().all(|request| self.commit_until_done(vec![request], queue));
        }
        let Some(Request { work, answer, memory }) = group.pop() else { return true };
        tracing::error!(%error, "a request could not be stored and is given up");
        match work {
            Work::Report { sender, incoming } if !matches!(incoming.content, Content::Refused(_)) => {
                let content = Content::Refused(format!("it could not be stored: {error}"));
                let work = Work::Report { sender, incoming: Incoming { content, ..incoming } };
                self.commit_until_done(vec![Request { work, answer, memory }], queue)
            }
            _ => {
                let _ = answer.send(Done::Failed(error.to_string()));
                true
            }
        }
    }

    /// Does a whole group in one transaction. An error means that nothing of it happened.
    fn commit(
        &mut self,
        group: &[Request],
        channels: &[&'static str],
        now: Timestamp,
    ) -> Result<Vec<Finished>, StoreError> {
        let knowledge = self.knowledge.get();
        let mut event_ids = || Uuid::now_v7().to_string();
        let mut finished = Vec::with_capacity(group.len());
        // Registrations of the same group must see each other's keys.
        let mut pinned: HashMap<PublicKey, Option<Designation>> = HashMap::new();
        let mut tx = self.store.begin()?;
        for request in group {
            let host_of =
                |key: &PublicKey| pinned.get(key).cloned().unwrap_or_else(|| self.pinned.get(key).cloned());
            let mut context = Context {
                now,
                knowledge: &knowledge,
                channels,
                event_ids: &mut event_ids,
                produced: Produced::default(),
            };
            let done = one(tx.as_mut(), &mut context, &request.work, &host_of, self.started)?;
            let produced = context.produced;
            pinned.extend(produced.unpinned.iter().map(|(_, key)| (*key, None)));
            pinned.extend(produced.pinned.iter().map(|(name, key)| (*key, Some(name.clone()))));
            finished.push(Finished { done, produced });
        }
        tx.commit()?;
        Ok(finished)
    }

    fn after_commit(&mut self, group: Vec<Request>, finished: Vec<Finished>, channels: &[&'static str]) {
        let mut newest = None;
        if group.iter().any(|request| request.work.changes_facts()) {
            self.outlets.facts.notify_one();
        }
        for (request, Finished { done, produced }) in group.into_iter().zip(finished) {
            if !produced.pinned.is_empty() || !produced.unpinned.is_empty() {
                (self.outlets.key_files)(&produced);
            }
            count(&self.metrics, &request.work, &done);
            self.metrics.evaluated(produced.evaluations);
            // Whoever asked may be gone by now.
            let _ = request.answer.send(done);
            for (_, key) in &produced.unpinned {
                self.pinned.remove(key);
            }
            for (name, key) in &produced.pinned {
                self.pinned.insert(*key, name.clone());
            }
            for change in produced.changes {
                let _ = self.outlets.changes.send(change);
            }
            if produced.has_addresses {
                self.outlets.addresses.notify_one();
            }
            if let Some(due) = produced.look_at {
                let _ = self.outlets.look_at.send(due);
            }
            for line in &produced.log {
                if line.warning {
                    tracing::warn!("{}", line.text)
                } else {
                    tracing::info!("{}", line.text)
                }
                if !line.detail.is_empty() {
                    tracing::debug!("{}", line.detail);
                }
            }
            for (sequence, event) in produced.events {
                newest = newest.max(Some(sequence));
                self.metrics.event(&event);
                for row in outbox_rows(sequence, &event, channels) {
                    let _ = self.outlets.outbox.send(row);
                }
            }
        }
        if let Some(newest) = newest {
            self.outlets.newest_event.send_replace(newest);
        }
    }
}

fn count(metrics: &Metrics, work: &Work, done: &Done) {
    match (work, done) {
        (_, Done::Registered(answer)) => {
            metrics.registered(matches!(answer, Registration::Welcome { .. }));
        }
        (_, Done::Report(outcome)) => metrics.document(match outcome {
            Outcome::Durable { .. } => "durable",
            Outcome::Rejected { .. } => "rejected",
            Outcome::Gap { .. } | Outcome::Unregistered => "out_of_order",
        }),
        (Work::Delivery(Record::Finish { channel, failure, .. }), Done::Written) => {
            metrics.delivery(channel, if failure.is_none() { "delivered" } else { "given_up" });
        }
        (Work::Delivery(Record::Retry(row)), Done::Written) => metrics.delivery(&row.channel, "retry"),
        _ => {}
    }
}

fn size(request: &Request) -> usize {
    match &request.work {
        Work::Report { incoming, .. } => incoming.bytes(),
        _ => 0,
    }
}

/// The rows that `append_event` has written.
fn outbox_rows(sequence: i64, event: &Event, channels: &[&'static str]) -> impl Iterator<Item = OutboxRow> {
    channels.iter().map(move |channel| OutboxRow {
        sequence,
        channel: (*channel).to_owned(),
        event: event.clone(),
        attempts: 0,
        due: event.time,
        progress: Vec::new(),
    })
}

/// One request inside the group's transaction. An error concerns the whole group.
fn one(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    work: &Work,
    host_of: &dyn Fn(&PublicKey) -> Option<Designation>,
    started: Timestamp,
) -> Result<Done, StoreError> {
    let error = match attempt(tx, context, &mut |tx, context| perform(tx, context, work, host_of, started)) {
        Ok(done) => return Ok(done),
        Err(error) if ingest::concerns_all(&error) => return Err(error),
        Err(error) => error,
    };
    context.produced = Produced::default();
    tracing::error!(%error, "a request could not be stored and is given up");
    if let Work::Report { sender, incoming } = work {
        let reason = format!("it could not be stored: {error}");
        return attempt(tx, context, &mut |tx, context| {
            report::reject(tx, context, sender, incoming, reason.clone()).map(Done::Report)
        });
    }
    Ok(Done::Failed(error.to_string()))
}

type Step<'a> = &'a mut dyn FnMut(&mut dyn Transaction, &mut Context<'_>) -> Result<Done, StoreError>;

/// Runs a step in a savepoint of its own.
fn attempt(tx: &mut dyn Transaction, context: &mut Context<'_>, step: Step<'_>) -> Result<Done, StoreError> {
    let mut done = None;
    tx.savepoint(&mut |tx| {
        done = Some(step(tx, context)?);
        Ok(())
    })?;
    done.ok_or_else(|| StoreError::Sql("the store did not run the request".into()))
}

fn perform(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    work: &Work,
    host_of: &dyn Fn(&PublicKey) -> Option<Designation>,
    started: Timestamp,
) -> Result<Done, StoreError> {
    Ok(match work {
        Work::Register { key, remote, message } => {
            let applicant =
                Applicant { key: *key, remote: *remote, pinned_to: host_of(key), message: message.clone() };
            Done::Registered(register::register(tx, context, &applicant, started)?)
        }
        Work::Goodbye { sender, reason } => {
            register::goodbye(tx, context, sender, reason)?;
            Done::Goodbye
        }
        Work::Report { sender, incoming } => Done::Report(report::report(tx, context, sender, incoming)?),
        Work::Enrolment(action) => Done::Enrolment(actions::perform(tx, context, action)?),
        Work::RemoveHost(designation) => Done::Removed(register::remove(tx, context, designation)?),
        Work::Delivery(Record::Finish { sequence, channel, failure }) => {
            tx.finish_delivery(*sequence, channel, context.now, failure.as_deref())?;
            Done::Written
        }
        Work::Delivery(Record::Retry(row)) => {
            tx.retry_delivery(row)?;
            Done::Written
        }
        Work::Reevaluate(documents) => {
            for (host, instance) in documents {
                evaluation::again(tx, context, host, instance)?;
            }
            Done::Written
        }
        Work::Setting { name, value } => {
            tx.set_setting(name, value)?;
            Done::Written
        }
        Work::Liveness { members, decisions } => {
            for member in members {
                tx.put_member(member)?;
            }
            let mut alive = Vec::new();
            for decision in decisions {
                alive.extend(verdict::verdict(tx, context, decision)?);
            }
            Done::Judged(alive)
        }
        Work::Back { outage } => {
            verdict::back(tx, context, outage)?;
            Done::Written
        }
        Work::ConnectedAgain => {
            verdict::connected_again(tx, context)?;
            Done::Written
        }
        Work::Names { found, forget_before } => {
            for (address, name) in found {
                tx.put_reverse_name(*address, name.as_deref(), context.now)?;
            }
            tx.forget_reverse_names(*forget_before)?;
            Done::Written
        }
        Work::Groups { moved, configured } => {
            ingest::groups::put(tx, context, moved, configured)?;
            Done::Written
        }
        Work::Configuration(refused) => {
            ingest::configuration::read(tx, context, refused.as_deref())?;
            Done::Written
        }
        Work::HostKeys { sender, told } => {
            keys::told(tx, context, sender, told)?;
            Done::Written
        }
        Work::KeyAge { in_use, rotate_after_days } => {
            Done::KeyAge(keys::age(tx, context, in_use, *rotate_after_days)?)
        }
        Work::Look => {
            surroundings::look(tx, context)?;
            Done::Written
        }
        Work::Ping => Done::Written,
    })
}

//! Who is alive: the event loop around [`liveness::center`], which decides.
//!
//! | module | what it does |
//! |---|---|
//! | `keeping` | what is committed before anybody is told |
//! | `outgoing` | lists of partners and questions to hosts that are not connected: they are called |
//! | `listening` | who listens for its whole subnet is told on the same way |
//! | `reach` | the CMA's own attempt to reach a host |
//! | `own` | the CMA's own heartbeats with a host that nobody else can watch |
//! | `restore` | what the rings were before this start |
//!
//! What the rings have to remember is committed before anybody is told of it: a CMA that is killed in between knows more
//! than its hosts, and tells them when they come; the other way round it would give out a number twice. A verdict is in
//! one transaction with the departure of its hosts from the rings. Nothing here is polled: without news and without a
//! host to watch the loop sleeps.

mod keeping;
mod listening;
mod outgoing;
mod own;
mod reach;
mod restore;

pub use restore::{GETS_THROUGH_SETTING, Restored};

use crate::calls;
use crate::commit::{Work, Writer};
use crate::health::Health;
use crate::hosts::Hosts;
use crate::ingest::Change;
use crate::ingest::enrolment::invitations::Invitation;
use crate::ingest::verdict::Decision;
use crate::knowledge::SharedKnowledge;
use crate::listeners::Listeners;
use ::liveness::center::{Cause, Center, Output, Reached, Verdict};
use ::liveness::observer::Tried;
use keeping::{Request, Step, Tells, UnderWay};
use model::config::HeartbeatConfig;
use model::liveness::{Heard, HostNumber, Watch};
use model::message::FromCma;
use model::{Designation, PublicKey, Timestamp};
use outgoing::Outgoing;
use own::{OwnObserver, Wish};
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use wire::attempt::attempt;
use wire::endpoint::{CloseReason, Datagram, Endpoint};
use wire::heartbeat::HEARTBEAT_TYPE;

/// Messages from connections that wait; a connection that has more waits itself.
const INPUTS: usize = 1024;
/// Heartbeats that wait; further ones are lost like any packet.
const HEARTBEATS: usize = 256;
/// Observations of one message that are looked at: a host has four partners and may have had others.
const OBSERVATIONS: usize = 64;
/// Hosts that are tried at once.
const TRIES_AT_ONCE: usize = 300;
/// Within these the time of an attempt follows the length of a burst of probes.
const TRY_PATIENCE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(3));
/// How long a called nanoprobe may take to answer.
const CALL_PATIENCE: Duration = Duration::from_secs(3);
/// Hosts of one outage that come back so shortly after each other are told together, but not later than this.
const BACK_PAUSE: Duration = Duration::from_secs(2);
const BACK_LONGEST: Duration = Duration::from_secs(30);
/// A CMA that is cut off may still hear so many hosts.
const HEARD_ALL_THE_TIME: usize = 8;
/// Changes that are taken in before outputs are looked at.
const CHANGES_AT_ONCE: usize = 256;
/// Topic of the problem that the CMA has when it is cut off.
const TOPIC: &str = "liveness";

/// The way for connections to those who watch over who is alive.
#[derive(Clone)]
pub struct Handle {
    inputs: mpsc::Sender<Input>,
    heartbeats: mpsc::Sender<Datagram>,
}

enum Input {
    Entered(Designation),
    Heard(Designation, Heard),
}

impl Handle {
    /// A host is connected now and can be told things. When this gets lost, it is called once for nothing.
    pub fn entered(&self, host: Designation) {
        let _ = self.inputs.try_send(Input::Entered(host));
    }

    /// What a host has to tell of others.
    ///
    /// # Errors
    /// The CMA stops.
    pub async fn heard(&self, from: Designation, mut heard: Heard) -> Result<(), CloseReason> {
        heard.observations.truncate(OBSERVATIONS);
        self.inputs.send(Input::Heard(from, heard)).await.map_err(|_| CloseReason::Shutdown)
    }

    /// Takes a heartbeat; gives any other datagram back.
    pub fn heartbeat(&self, datagram: Datagram) -> Option<Datagram> {
        if datagram.bytes.first() != Some(&HEARTBEAT_TYPE) {
            return Some(datagram);
        }
        let _ = self.heartbeats.try_send(datagram);
        None
    }
}

/// What the task needs of the CMA.
pub struct Parts {
    pub endpoint: Endpoint,
    pub writer: Writer,
    pub hosts: Arc<Hosts>,
    pub health: Arc<Health>,
    pub knowledge: SharedKnowledge,
    /// The other end of [`crate::commit::Outlets::changes`].
    pub changes: mpsc::UnboundedReceiver<Change>,
    /// Pair keys are derived from it.
    pub secret: [u8; 32],
    /// Becomes true when the CMA stops.
    pub stop: watch::Receiver<bool>,
}

/// The task, and the way to it.
pub fn new(parts: Parts, restored: Restored) -> (Task, Handle) {
    let (inputs, input_receiver) = mpsc::channel(INPUTS);
    let (heartbeats, heartbeat_receiver) = mpsc::channel(HEARTBEATS);
    let task = Task::new(parts, restored, input_receiver, heartbeat_receiver);
    (task, Handle { inputs, heartbeats })
}

/// Where a host can be reached.
#[derive(Debug, Clone, Copy)]
struct Contact {
    address: SocketAddr,
    key: PublicKey,
}

/// What came of something that was done beside the loop.
enum Finished {
    Reached(Designation, Reached),
    Called(Designation, bool),
    Tried(HostNumber, Tried),
}

/// Hosts of one outage that are coming back.
struct Returning {
    first: Duration,
    last: Duration,
}

/// The CMA was found to be cut off.
struct CutOff {
    /// Hosts that did not answer; empty where that is not known any more.
    silent: HashSet<Designation>,
    /// Others that were heard since: a few may have been all the time.
    others: HashSet<Designation>,
}

impl CutOff {
    /// This host was heard.
    fn is_over(&mut self, host: &Designation) -> bool {
        if self.silent.is_empty() || self.silent.contains(host) {
            return true;
        }
        self.others.insert(host.clone());
        self.others.len() > HEARD_ALL_THE_TIME
    }
}

/// Everything about who is alive.
pub struct Task {
    start: Instant,
    center: Center,
    config: HeartbeatConfig,
    own: OwnObserver,
    endpoint: Endpoint,
    writer: Writer,
    hosts: Arc<Hosts>,
    health: Arc<Health>,
    knowledge: SharedKnowledge,
    changes: mpsc::UnboundedReceiver<Change>,
    inputs: mpsc::Receiver<Input>,
    heartbeats: mpsc::Receiver<Datagram>,
    stop: watch::Receiver<bool>,
    contacts: HashMap<Designation, Contact>,
    outgoing: Outgoing,
    listeners: Listeners,
    step: Step,
    requests: VecDeque<Request>,
    under_way: Option<UnderWay>,
    /// Verdicts on hosts that were heard of just before: they are called to see.
    doubted: HashMap<Designation, Decision>,
    returning: HashMap<String, Returning>,
    cut_off: Option<CutOff>,
    /// Whether the CMA's packets reach nanoprobes, as it was kept.
    gets_through: bool,
    tries: Arc<Semaphore>,
    results: mpsc::UnboundedSender<Finished>,
    finished: mpsc::UnboundedReceiver<Finished>,
}

impl Task {
    fn new(
        parts: Parts,
        restored: Restored,
        inputs: mpsc::Receiver<Input>,
        heartbeats: mpsc::Receiver<Datagram>,
    ) -> Self {
        let start = Instant::now();
        let config = parts.knowledge.get().config.heartbeats.clone();
        let Restored {
            members,
            contacts,
            left,
            given_up,
            outages,
            cut_off,
            listeners,
            invited,
            gets_through,
        } = restored;
        let mut center = Center::restore(&config, parts.secret, Duration::ZERO, members);
        if gets_through {
            center.handle_got_through();
        }
        let (results, finished) = mpsc::unbounded_channel();
        let mut task = Self {
            start,
            center,
            config,
            own: OwnObserver::new(Duration::ZERO, parts.endpoint.clone()),
            endpoint: parts.endpoint,
            writer: parts.writer,
            hosts: parts.hosts,
            health: parts.health,
            knowledge: parts.knowledge,
            changes: parts.changes,
            inputs,
            heartbeats,
            stop: parts.stop,
            contacts,
            outgoing: Outgoing::default(),
            listeners,
            step: Step::default(),
            requests: VecDeque::new(),
            under_way: None,
            doubted: HashMap::new(),
            returning: HashMap::new(),
            cut_off: None,
            gets_through,
            tries: Arc::new(Semaphore::new(TRIES_AT_ONCE)),
            results,
            finished,
        };
        for host in left {
            task.center.handle_left(Duration::ZERO, &host);
        }
        for host in given_up {
            task.doubt(Duration::ZERO, interrupted(&host), host);
        }
        for Invitation { host, key, address } in invited {
            task.invite(Duration::ZERO, host, Contact { address, key });
        }
        let returning = Returning { first: Duration::ZERO, last: Duration::ZERO };
        task.returning = outages.into_iter().map(|outage| (outage, Returning { ..returning })).collect();
        if cut_off {
            task.set_cut_off(HashSet::new());
        }
        task
    }

    /// Works until the CMA stops.
    pub async fn run(mut self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.work() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn work(&mut self) {
        let mut knowledge = self.knowledge.changes();
        loop {
            let now = self.start.elapsed();
            self.do_what_is_due(now);
            self.carry_out(now);
            let due = self.poll_timeout().map(|due| self.start + due);
            tokio::select! {
                change = self.changes.recv() => match change {
                    Some(change) => self.changed(change),
                    // The writer is gone, and with it the CMA.
                    None => return,
                },
                Some(input) = self.inputs.recv() => self.take(input),
                Some(datagram) = self.heartbeats.recv() => {
                    let now = self.start.elapsed();
                    self.own.handle_datagram(now, &datagram);
                }
                Some(finished) = self.finished.recv() => self.finish(finished),
                answer = keeping::committed(&mut self.under_way) => self.committed(answer),
                Ok(()) = knowledge.changed() => self.configure(),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        let back = self.returning.values().map(Returning::due).min();
        let due = [self.center.poll_timeout(), self.own.poll_timeout(), self.outgoing.poll_timeout(), back];
        due.into_iter().flatten().min()
    }

    fn do_what_is_due(&mut self, now: Duration) {
        // What was committed before comes before what follows from it.
        for _ in 0..CHANGES_AT_ONCE {
            let Ok(change) = self.changes.try_recv() else { break };
            self.changed(change);
        }
        self.own.handle_timeout(now);
        if self.center.poll_timeout().is_some_and(|due| due <= now) {
            self.center.handle_timeout(now);
        }
        let due =
            |(outage, returning): (&String, &Returning)| (returning.due() <= now).then(|| outage.clone());
        let due: Vec<String> = self.returning.iter().filter_map(due).collect();
        for outage in due {
            self.returning.remove(&outage);
            self.requests.push_back(Request { work: Work::Back { outage }, tells: Tells::new() });
        }
        while let Some(host) = self.outgoing.poll_call(now) {
            // It may have come meanwhile.
            if self.hosts.is_connected(&host) {
                self.outgoing.called(&host);
                self.deliver(now, &host);
            } else {
                self.call(host);
            }
        }
    }

    fn changed(&mut self, change: Change) {
        let now = self.start.elapsed();
        self.listening_changed(&change);
        match change {
            Change::Registered { host, key, session, watch, address, listen: _ } => {
                self.contacts.insert(host.clone(), Contact { address, key });
                self.doubted.remove(&host);
                self.heard_of(&host);
                self.center.handle_registered(now, &host, session, watch, &address.to_string());
            }
            Change::Place { host, place } => self.center.handle_place(now, &host, place),
            Change::Left(host) => self.leave(now, &host),
            Change::Removed(host) => {
                self.contacts.remove(&host);
                if let Some(cut_off) = &mut self.cut_off {
                    cut_off.silent.remove(&host);
                }
                self.leave(now, &host);
            }
            Change::Back { outage } => {
                let returning = self.returning.entry(outage).or_insert(Returning { first: now, last: now });
                returning.last = now;
            }
            Change::Invited { host, key, address } => self.invite(now, host, Contact { address, key }),
            Change::Interfaces { .. } => {}
            // The rings know it already, and a host that is dead is told nothing.
            Change::Died(host) => self.outgoing.forget_listen(&host),
        }
    }

    fn invite(&mut self, now: Duration, host: Designation, contact: Contact) {
        self.outgoing.call(now, &host);
        self.contacts.insert(host, contact);
    }

    /// Hands a host that is connected what waits for it.
    fn deliver(&mut self, now: Duration, host: &Designation) {
        for message in self.outgoing.entered(now, host) {
            // A connection that takes nothing is as good as none; the host is told when it registers again.
            match message {
                FromCma::Watch(watch) => self.tell(now, host.clone(), watch),
                FromCma::Listen(listen) => self.tell_listen(now, host, listen),
                other => drop(self.hosts.push(host, other)),
            }
        }
    }

    fn leave(&mut self, now: Duration, host: &Designation) {
        self.doubted.remove(host);
        self.outgoing.remove_host(host);
        self.center.handle_left(now, host);
    }

    fn take(&mut self, input: Input) {
        let now = self.start.elapsed();
        match input {
            Input::Entered(host) => self.deliver(now, &host),
            Input::Heard(from, heard) => {
                self.heard_of(&from);
                for observation in &heard.observations {
                    tracing::debug!(host = %from, ?observation, "a host tells of another");
                    self.center.handle_observation(now, &from, heard.generation, observation);
                }
            }
        }
    }

    fn finish(&mut self, finished: Finished) {
        let now = self.start.elapsed();
        match finished {
            Finished::Reached(host, reached) => {
                tracing::debug!(%host, ?reached, "a host was tried");
                if reached == Reached::Nanoprobe {
                    self.heard_of(&host);
                }
                self.center.handle_reached(now, &host, reached);
            }
            Finished::Called(host, answered) => {
                self.outgoing.called(&host);
                if answered {
                    self.center.handle_got_through();
                }
                if !answered && let Some(decision) = self.doubted.remove(&host) {
                    self.step.decisions.push(Decision {
                        decided: Timestamp::now(),
                        insist: true,
                        ..decision
                    });
                }
            }
            Finished::Tried(about, tried) => self.own.handle_tried(now, about, tried),
        }
    }

    fn configure(&mut self) {
        let config = self.knowledge.get().config.heartbeats.clone();
        if config != self.config {
            self.config = config;
            self.center.handle_config(self.start.elapsed(), &self.config);
        }
    }

    /// Does what the cores want done.
    fn carry_out(&mut self, now: Duration) {
        self.watch_ourselves(now);
        while let Some(output) = self.center.poll_output() {
            match output {
                Output::Tell { host, watch } => drop(self.step.tells.insert(host, watch)),
                Output::Ask { host, ask } => {
                    if self.hosts.push(&host, FromCma::Ask(ask.clone())).is_err() {
                        self.outgoing.ask(now, &host, ask);
                    }
                }
                Output::Try { host, address } => self.try_host(host, &address),
                Output::OwnWatch(watch) => self.own.handle_watch(now, &watch),
                Output::Keep(member) => {
                    self.step.members.insert(member.designation.clone(), keeping::row(member));
                }
                Output::Verdict(verdict) => self.decide(verdict),
                Output::Call { host, why } => {
                    tracing::info!(%host, "a host is to register again: {why}");
                    self.hosts.disconnect(&host);
                    self.outgoing.call(now, &host);
                }
            }
        }
        self.watch_ourselves(now);
        self.appoint(now);
        self.keep_getting_through();
        self.submit(now);
    }

    /// Does what our own observer wants done.
    fn watch_ourselves(&mut self, now: Duration) {
        while let Some(wish) = self.own.poll() {
            match wish {
                Wish::Tell(observation) => self.center.handle_own_observation(now, &observation),
                Wish::Try { to, address } => self.try_partner(to, address),
            }
        }
    }

    fn decide(&mut self, verdict: Verdict) {
        if verdict.cause == Cause::CmaCutOff {
            self.set_cut_off(verdict.hosts.iter().cloned().collect());
        }
        self.step.decisions.push(Decision { verdict, decided: Timestamp::now(), insist: false });
    }

    /// A host that was given up was heard of just before. It is called: either it registers, or the verdict holds.
    fn doubt(&mut self, now: Duration, decision: Decision, host: Designation) {
        let cause = match decision.verdict.cause {
            Cause::NanoprobeDied => Cause::NanoprobeDied,
            _ => Cause::HostDead,
        };
        let verdict = Verdict { cause, hosts: vec![host.clone()], ..decision.verdict };
        self.doubted.insert(host.clone(), Decision { verdict, ..decision });
        self.hosts.disconnect(&host);
        self.outgoing.call(now, &host);
    }

    fn tell(&mut self, now: Duration, host: Designation, watch: Watch) {
        if let Err(FromCma::Watch(watch)) = self.hosts.push(&host, FromCma::Watch(watch)) {
            self.outgoing.tell(now, &host, watch);
        }
    }

    fn heard_of(&mut self, host: &Designation) {
        if self.cut_off.as_mut().is_some_and(|cut_off| cut_off.is_over(host)) {
            self.cut_off = None;
            self.health.set(TOPIC, None);
            self.requests.push_back(Request { work: Work::ConnectedAgain, tells: Tells::new() });
        }
    }

    fn set_cut_off(&mut self, hosts: HashSet<Designation>) {
        let problem = "hardly any host answers the CMA, and it cannot tell that its own network works: nobody is called dead \
                       until hosts answer again; look at the network of this machine";
        self.health.set(TOPIC, Some(problem.to_owned()));
        self.cut_off = Some(CutOff { silent: hosts, others: HashSet::new() });
    }

    fn call(&self, host: Designation) {
        let contact = self.contacts.get(&host).copied();
        let (endpoint, results) = (self.endpoint.clone(), self.results.clone());
        tokio::spawn(async move {
            let answered = match contact {
                Some(Contact { address, key }) => {
                    timeout(CALL_PATIENCE, calls::dial(&endpoint, &host, address, key)).await.unwrap_or(false)
                }
                None => false,
            };
            // The receiver is gone only when the program ends; so below.
            let _ = results.send(Finished::Called(host, answered));
        });
    }

    fn try_host(&self, host: Designation, address: &str) {
        let address = address.parse().ok();
        let contact = self.contacts.get(&host).copied();
        let patience = self.patience();
        let (endpoint, results, tries) = (self.endpoint.clone(), self.results.clone(), self.tries.clone());
        tokio::spawn(async move {
            let reached = match (address.or(contact.map(|contact| contact.address)), contact) {
                (Some(address), Some(Contact { key, .. })) => {
                    let _permit = tries.acquire_owned().await;
                    reach::reach(endpoint, address, key, patience).await
                }
                _ => Reached::Nobody,
            };
            let _ = results.send(Finished::Reached(host, reached));
        });
    }

    fn try_partner(&self, to: HostNumber, address: SocketAddr) {
        let (results, patience) = (self.results.clone(), self.patience());
        tokio::spawn(async move {
            let found = attempt(address, patience).await;
            let _ = results.send(Finished::Tried(to, Tried { port: found.port, echo: found.echo }));
        });
    }

    fn patience(&self) -> Duration {
        let probe = Duration::from_millis(self.config.probe_milliseconds.into());
        probe.clamp(TRY_PATIENCE.0, TRY_PATIENCE.1)
    }
}

impl Returning {
    fn due(&self) -> Duration {
        (self.last + BACK_PAUSE).min(self.first + BACK_LONGEST)
    }
}

/// The rings gave a host up, and then the CMA stopped before it could be told.
fn interrupted(host: &Designation) -> Decision {
    let verdict = Verdict {
        cause: Cause::HostDead,
        hosts: vec![host.clone()],
        evidence: vec!["it was given up just before the CMA stopped, and does not answer a call".into()],
        silent_milliseconds: 0,
    };
    Decision { verdict, decided: Timestamp::now(), insist: true }
}

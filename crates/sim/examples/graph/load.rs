//! The documents of a made-up site through the CMA's own ingest: registration, opening of reports, and the writer thread
//! with its group commits, graph, rules and events. Only the network between is left out.

use cma::commit::{Committer, Done, Outlets, Work, Writer};
use cma::health::Health;
use cma::ingest::document;
use cma::ingest::register::Registration;
use cma::ingest::report::Outcome;
use cma::ingest::{Context, Produced, Sender};
use cma::knowledge::{Knowledge, SharedKnowledge};
use cma::reevaluate;
use model::config::CmaConfig;
use model::message::{Incarnation, PROTOCOL_VERSION, Register, Report};
use model::{Designation, DocumentHash, Envelope, PublicKey, Timestamp};
use rules::RuleSets;
use sim::documents::DocumentSite;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Store;
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// As in the CMA.
const QUEUE_REQUESTS: usize = 1024;
/// Hosts whose registrations are under way at once.
const REGISTRATIONS: usize = 200;
/// Requests of one commit, as in the writer thread.
const GROUP_REQUESTS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(600);
const INCARNATION: Incarnation = Incarnation([1; 16]);

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What loading cost.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cost {
    pub documents: usize,
    pub seconds: f64,
    /// Processor time of the writer thread: graph, rules, events, database.
    pub writer_seconds: f64,
    /// Processor time for unpacking, hashing and parsing reports, which the CMA does on other threads.
    pub opening_seconds: f64,
}

/// Rules and configuration as shipped, without alert channels: nobody is there to be told.
pub fn knowledge() -> Knowledge {
    let mut config = CmaConfig::default();
    config.notify.scripts = false;
    config.notify.syslog = false;
    let (sets, problems) = RuleSets::load(&[]);
    Knowledge::new(config, sets, problems)
}

/// Registers every host and delivers the first version of all its documents.
///
/// # Errors
/// Anything that the CMA does not take.
pub fn load(site: &DocumentSite, store: Box<dyn Store>, knowledge: Knowledge) -> Result<Cost, Failure> {
    let begun = Instant::now();
    let fingerprint = knowledge.fingerprint.clone();
    let (queue, requests) = mpsc::channel(QUEUE_REQUESTS);
    // Kept until the end: the writer tells of changes though nobody listens.
    let (outbox, _rows) = mpsc::unbounded_channel();
    let (newest_event, _newest) = watch::channel(0);
    let (changes, mut told) = mpsc::unbounded_channel();
    let (look_at, _looks) = mpsc::unbounded_channel();
    let committer = Committer {
        store,
        knowledge: SharedKnowledge::new(knowledge),
        health: Arc::new(Health::default()),
        metrics: Default::default(),
        outlets: Outlets {
            outbox,
            newest_event,
            changes,
            look_at,
            addresses: Arc::new(Notify::new()),
            facts: Default::default(),
            key_files: Box::new(|_| {}),
        },
        pinned: HashMap::new(),
        started: Timestamp(1),
    };
    let thread = std::thread::Builder::new().name("writer".into()).spawn(move || {
        committer.run(requests);
        thread_seconds()
    })?;
    let drain = std::thread::spawn(move || while told.blocking_recv().is_some() {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let writer = Writer::new(queue);
    let mut cost = runtime.block_on(async {
        let mut cost = Cost::default();
        let mut waiting = VecDeque::new();
        for first in (0..site.hosts()).step_by(REGISTRATIONS) {
            let hosts = first..(first + REGISTRATIONS).min(site.hosts());
            let mut registering = Vec::new();
            for host in hosts.clone() {
                registering.push(writer.submit(registration(site, host)?, None).await?);
            }
            for (host, answer) in hosts.zip(registering) {
                let sender = match answer.await? {
                    Done::Registered(Registration::Welcome { sender, .. }) => sender,
                    other => return Err(format!("{} was not admitted: {other:?}", site.name(host)).into()),
                };
                for (index, kind) in site.kinds(host).into_iter().enumerate() {
                    let envelope = site.document(host, kind, 0);
                    let report = report(&envelope, index as u64 + 1, Timestamp::now())?;
                    let before = thread_seconds();
                    let incoming = document::open(report, wire::body::decompress);
                    cost.opening_seconds += thread_seconds() - before;
                    cost.documents += 1;
                    let work = Work::Report { sender: sender.clone(), incoming };
                    waiting.push_back(writer.submit(work, None).await?);
                    if waiting.len() >= QUEUE_REQUESTS {
                        taken(waiting.pop_front()).await?;
                    }
                }
            }
        }
        while !waiting.is_empty() {
            taken(waiting.pop_front()).await?;
        }
        // So that a CMA that is started on this database does not judge everything again.
        let setting = Work::Setting { name: reevaluate::SETTING.to_owned(), value: fingerprint };
        writer.ask(setting, PATIENCE).await?;
        Ok::<Cost, Failure>(cost)
    })?;
    drop(writer);
    cost.writer_seconds = thread.join().map_err(|_| "the writer thread broke off")?;
    drain.join().map_err(|_| "the thread that hears of changes broke off")?;
    cost.seconds = begun.elapsed().as_secs_f64();
    Ok(cost)
}

async fn taken(answer: Option<oneshot::Receiver<Done>>) -> Result<(), Failure> {
    let Some(answer) = answer else { return Ok(()) };
    match answer.await? {
        Done::Report(Outcome::Durable { .. }) => Ok(()),
        other => Err(format!("a report was not taken: {other:?}").into()),
    }
}

/// Delivers documents at the time `now`, each with the number of its host, by the functions that the writer thread calls.
///
/// # Errors
/// Anything that the CMA does not take.
pub fn deliver(
    site: &DocumentSite,
    store: &mut dyn Store,
    knowledge: &Knowledge,
    documents: &mut dyn Iterator<Item = (usize, Envelope)>,
    now: Timestamp,
) -> Result<(), Failure> {
    let mut number = 0_u64;
    let mut ids = || {
        number += 1;
        format!("{}-{number}", now.0)
    };
    let mut documents = documents.peekable();
    while documents.peek().is_some() {
        let mut tx = store.begin()?;
        for (host, envelope) in documents.by_ref().take(GROUP_REQUESTS) {
            let sender = sender(site, host)?;
            let sequence = tx.cursor(&sender.key, sender.incarnation)? + 1;
            let incoming = document::open(report(&envelope, sequence, now)?, wire::body::decompress);
            let mut context =
                Context { now, knowledge, channels: &[], event_ids: &mut ids, produced: Produced::default() };
            match cma::ingest::report::report(tx.as_mut(), &mut context, &sender, &incoming)? {
                Outcome::Durable { .. } => {}
                other => {
                    return Err(format!("a report of {} was not taken: {other:?}", site.name(host)).into());
                }
            }
        }
        tx.commit()?;
    }
    Ok(())
}

fn registration(site: &DocumentSite, host: usize) -> Result<Work, Failure> {
    let message = Register {
        protocol: PROTOCOL_VERSION,
        designation: site.name(host),
        incarnation: INCARNATION,
        software: "simulated".into(),
        clock: Timestamp::now(),
        started: Timestamp(1),
        // Nobody can be called at port 0, so a CMA that is started on this database calls nobody.
        port: 0,
        config: None,
        documents: Vec::new(),
        session: None,
        watch: None,
        listen: None,
        token: None,
        machine: None,
        cma_keys: None,
    };
    Ok(Work::Register { key: key(host), remote: "127.0.0.1:9".parse()?, message })
}

fn sender(site: &DocumentSite, host: usize) -> Result<Sender, Failure> {
    Ok(Sender { designation: Designation::new(&site.name(host))?, key: key(host), incarnation: INCARNATION })
}

/// No key that anybody could use, but one of its own for each host.
pub fn key(host: usize) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(host as u64).to_be_bytes());
    PublicKey(bytes)
}

fn report(envelope: &Envelope, sequence: u64, now: Timestamp) -> Result<Report, Failure> {
    let text = envelope.canonical();
    Ok(Report {
        sequence,
        instance: envelope.instance.clone(),
        hash: DocumentHash::of(text.as_bytes()),
        body: Some(wire::body::compress(text.as_bytes())?.into()),
        changed_after: now,
        seen: now,
        superseded: 0,
    })
}

/// Processor time of this thread so far.
pub fn thread_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

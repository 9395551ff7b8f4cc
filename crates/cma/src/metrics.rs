//! What monitoring systems read at `GET /metrics` (docs/operating.md has the table).
//!
//! Counters are counted where things happen, in atomics. What the database or the system knows is asked when somebody reads,
//! by bounded queries, and kept for some seconds. Nothing has a label for a host: a large site would have too many series.

mod gauges;
mod text;

pub use gauges::{Gauges, Sources};
pub use text::{OPEN_METRICS, PLAIN_TEXT, plain};

use model::{Event, EventType};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// Upper bounds of the commit times, in seconds: a fast disk to one that is dying.
const COMMIT_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    channel: String,
    result: &'static str,
}

/// The counters of one life of the CMA.
#[derive(Debug, Clone)]
pub struct Metrics {
    registrations: Family<ResultLabel, Counter>,
    documents: Family<ResultLabel, Counter>,
    events: Family<TypeLabel, Counter>,
    deliveries: Family<DeliveryLabels, Counter>,
    commits: Counter,
    failed_commits: Counter,
    requests: Counter,
    evaluations: Counter,
    commit_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            registrations: Family::default(),
            documents: Family::default(),
            events: Family::default(),
            deliveries: Family::default(),
            commits: Counter::default(),
            failed_commits: Counter::default(),
            requests: Counter::default(),
            evaluations: Counter::default(),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
        }
    }
}

impl Metrics {
    pub fn registered(&self, welcome: bool) {
        let result = if welcome { "welcome" } else { "refused" };
        self.registrations.get_or_create(&ResultLabel { result }).inc();
    }

    /// A report of a document: `durable`, `rejected`, or one that the CMA could not take now.
    pub fn document(&self, result: &'static str) {
        self.documents.get_or_create(&ResultLabel { result }).inc();
    }

    pub fn event(&self, event: &Event) {
        self.events.get_or_create(&TypeLabel { r#type: event.eventtype.as_str() }).inc();
    }

    /// An attempt to deliver an alert that came to `result`: `delivered`, `retry` or `given up`.
    pub fn delivery(&self, channel: &str, result: &'static str) {
        self.deliveries.get_or_create(&DeliveryLabels { channel: channel.to_owned(), result }).inc();
    }

    /// A transaction with so many requests became durable.
    pub fn committed(&self, requests: usize, took: Duration) {
        self.commits.inc();
        self.requests.inc_by(requests as u64);
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// So many rules were evaluated.
    pub fn evaluated(&self, rules: usize) {
        self.evaluations.inc_by(rules as u64);
    }

    pub fn commit_failed(&self) {
        self.failed_commits.inc();
    }

    /// All types of events are there from the start, so that a rate over the first one is right.
    fn register(&self, registry: &mut Registry) {
        for kind in EventType::ALL {
            let _ = self.events.get_or_create(&TypeLabel { r#type: kind.as_str() });
        }
        registry.register("registrations", "Registrations of nanoprobes", self.registrations.clone());
        registry.register("documents", "Reports of changed documents", self.documents.clone());
        registry.register("events", "Events that were stored, by type", self.events.clone());
        registry.register("deliveries", "Attempts to deliver an alert", self.deliveries.clone());
        registry.register("commits", "Transactions that became durable", self.commits.clone());
        registry.register(
            "commit_failures",
            "Transactions that failed as a whole",
            self.failed_commits.clone(),
        );
        registry.register(
            "committed_requests",
            "Requests in transactions that became durable",
            self.requests.clone(),
        );
        registry.register("rule_evaluations", "Evaluations of rules", self.evaluations.clone());
        registry.register_with_unit(
            "commit_duration",
            "Time a transaction took, from its begin until it was durable",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
    }
}

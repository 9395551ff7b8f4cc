//! What is asked when somebody reads the metrics: the database, who is connected, this process, the keys.

use super::Metrics;
use crate::commit::Writer;
use crate::health::Health;
use crate::hosts::Hosts;
use crate::ingest::enrolment::pending;
use crate::keys::Keyring;
use crate::knowledge::SharedKnowledge;
use crate::readers::Readers;
use model::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, UNIX_EPOCH};
use store::{Reader, SqlLimits};
use tokio::sync::Mutex;

/// What the database said is told again for at least so long, and so many times as long as it took to ask: a scrape never
/// keeps a large database busy.
const KEPT_AT_LEAST: Duration = Duration::from_secs(5);
const KEPT_TIMES: u32 = 20;
/// Longest text of metrics, in bytes, and most CMA keys that are looked at.
const MAX_TEXT_BYTES: usize = 1024 * 1024;
const MAX_KEYS: usize = 50;

/// Where the gauges come from.
pub struct Sources {
    pub readers: Arc<Readers>,
    pub hosts: Arc<Hosts>,
    pub health: Arc<Health>,
    pub writer: Writer,
    pub metrics: Metrics,
    pub knowledge: SharedKnowledge,
    pub crypto: PathBuf,
    /// There once the CMA listens for hosts.
    pub keys: Arc<OnceLock<Arc<Keyring>>>,
    pub started: Timestamp,
    pub restored: Option<Timestamp>,
}

/// Answers scrapes.
pub struct Gauges {
    sources: Sources,
    stored: Mutex<Option<(Instant, Duration, Stored)>>,
}

/// What only the database knows.
#[derive(Debug, Clone, Default, PartialEq)]
struct Stored {
    hosts: Vec<(String, i64)>,
    failing: Vec<(String, i64)>,
    waiting: Vec<(String, u64)>,
    pending: usize,
    database_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Severity {
    severity: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Channel {
    channel: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Key {
    key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl Gauges {
    pub fn new(sources: Sources) -> Self {
        Self { sources, stored: Mutex::new(None) }
    }

    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// They cannot be written as text, which would be a defect.
    pub async fn text(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("assimilation");
        self.sources.metrics.register(ours);
        self.own(ours);
        match self.stored().await {
            Some(stored) => tell_stored(ours, &stored),
            // The counters are worth reading all the same.
            None => tracing::debug!("the database could not be asked for metrics"),
        }
        process(&mut registry, self.sources.started);
        let mut text = Bounded(String::new());
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text.0)
    }

    /// Asked by one at a time: whoever comes meanwhile gets the same answer.
    async fn stored(&self) -> Option<Stored> {
        let mut kept = self.stored.lock().await;
        if let Some((asked, valid, stored)) = kept.as_ref()
            && asked.elapsed() < *valid
        {
            return Some(stored.clone());
        }
        let begun = Instant::now();
        let forget_after_days = self.sources.knowledge.get().config.enrolment.forget_pending_days;
        let stored = self.sources.readers.read(move |reader| ask(reader, forget_after_days)).await.ok()?;
        let valid = KEPT_AT_LEAST.max(begun.elapsed().saturating_mul(KEPT_TIMES));
        *kept = Some((Instant::now(), valid, stored.clone()));
        Some(stored)
    }

    fn own(&self, registry: &mut Registry) {
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "Version of the CMA, always 1", build);
        let sources = &self.sources;
        gauge(registry, "hosts_connected", "Hosts with an open connection", sources.hosts.count());
        gauge(registry, "problems", "Problems that assimcli doctor tells", sources.health.problems().len());
        let (waiting, room) = sources.writer.waiting();
        gauge(registry, "writer_queue_requests", "Requests that wait for the thread that writes", waiting);
        gauge(
            registry,
            "writer_queue_limit_requests",
            "Requests that may wait before senders are held back",
            room,
        );
        if let Some(restored) = sources.restored {
            let time = Gauge::<i64, AtomicI64>::default();
            time.set(restored.0.div_euclid(1_000_000));
            let help = "When the database was restored from a backup";
            registry.register_with_unit("restored_timestamp", help, Unit::Seconds, time);
        }
        let keys = Family::<Key, Gauge>::default();
        for (key, made) in keys_in(&sources.crypto) {
            keys.get_or_create(&Key { key }).set(made);
        }
        let help = "When the file of a public key of the CMA was made";
        registry.register_with_unit("cma_key_created_timestamp", help, Unit::Seconds, keys);
        // Another than the one above: a spare is made long before it is used.
        if let Some(since) = sources.keys.get().and_then(|keyring| keyring.now().since) {
            let time = Gauge::<i64, AtomicI64>::default();
            time.set(since.0.div_euclid(1_000_000));
            let help = "Since when the key is in use that the CMA signs with";
            registry.register_with_unit("cma_key_in_use_since_timestamp", help, Unit::Seconds, time);
        }
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: usize) {
    let gauge = Gauge::<i64, AtomicI64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn tell_stored(registry: &mut Registry, stored: &Stored) {
    let hosts = Family::<Status, Gauge>::default();
    // Both are there from the start, so that an alert on `dead` has something to compare.
    for status in ["up", "dead"] {
        let _ = hosts.get_or_create(&Status { status: status.into() });
    }
    for (status, count) in &stored.hosts {
        hosts.get_or_create(&Status { status: status.clone() }).set(*count);
    }
    registry.register("hosts", "Registered hosts, by status", hosts);
    let failing = Family::<Severity, Gauge>::default();
    for (severity, count) in &stored.failing {
        failing.get_or_create(&Severity { severity: severity.clone() }).set(*count);
    }
    registry.register("rules_failing", "Rules that fail now, counted for each host, by severity", failing);
    let waiting = Family::<Channel, Gauge>::default();
    for (channel, count) in &stored.waiting {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        waiting.get_or_create(&Channel { channel: channel.clone() }).set(count);
    }
    registry.register("alerts_waiting", "Alerts that wait for delivery, by channel", waiting);
    gauge(registry, "pending_hosts", "Hosts that wait for approval", stored.pending);
    let bytes = Gauge::<i64, AtomicI64>::default();
    bytes.set(i64::try_from(stored.database_bytes).unwrap_or(i64::MAX));
    let help = "Size of the database with its write-ahead log";
    registry.register_with_unit("database_size", help, Unit::Bytes, bytes);
}

/// `forget_after_days`: hosts that wait and were not heard for so long are not counted.
fn ask(reader: &mut dyn Reader, forget_after_days: u64) -> store::Result<Stored> {
    let limits = SqlLimits { rows: 20, milliseconds: 5_000, bytes: 64 * 1024 };
    let mut counted = |sql: &str| -> store::Result<Vec<(String, i64)>> {
        let table = reader.sql(sql, &[], limits)?;
        let row = |row: Vec<Value>| Some((row.first()?.as_str()?.to_owned(), row.get(1)?.as_i64()?));
        Ok(table.rows.into_iter().filter_map(row).collect())
    };
    let hosts = counted("SELECT status, count(*) FROM hosts GROUP BY status ORDER BY status")?;
    let failing = counted(
        "SELECT severity, count(*) FROM rule_results WHERE status = 'fail' GROUP BY severity ORDER BY severity",
    )?;
    let (waiting, database_bytes) = (reader.waiting()?, reader.health()?.1);
    let pending = pending::waiting(&reader.pending()?, forget_after_days, Timestamp::now());
    Ok(Stored { hosts, failing, waiting, pending, database_bytes })
}

/// Public keys of the CMA and when their files were made, in seconds since 1970.
fn keys_in(crypto: &Path) -> Vec<(String, i64)> {
    let Ok(entries) = fs::read_dir(crypto) else { return Vec::new() };
    let named = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().to_str()?.strip_suffix(".pub")?.to_owned();
        let made = entry.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        name.starts_with("#CMA#").then_some((name, i64::try_from(made.as_secs()).ok()?))
    });
    let mut keys: Vec<(String, i64)> = named.take(MAX_KEYS).collect();
    keys.sort();
    keys
}

/// What every exporter tells of its own process, under the names that they all use.
fn process(registry: &mut Registry, started: Timestamp) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = Counter::<f64, AtomicU64>::default();
    seconds.inc_by(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
    registry.register_with_unit("process_cpu", "Processor time of this process", Unit::Seconds, seconds);
    let start = Gauge::<f64, AtomicU64>::default();
    start.set(started.0 as f64 / 1e6);
    let help = "Start of this process, or of its life with a restored database";
    registry.register_with_unit("process_start_time", help, Unit::Seconds, start);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (field, name, help) in [
        ("VmRSS:", "process_resident_memory", "Memory that this process has in RAM"),
        ("VmSize:", "process_virtual_memory", "Address space of this process"),
    ] {
        let kilobytes =
            status.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok());
        let Some(kilobytes): Option<i64> = kilobytes else { continue };
        let memory = Gauge::<i64, AtomicI64>::default();
        memory.set(kilobytes.saturating_mul(1024));
        registry.register_with_unit(name, help, Unit::Bytes, memory);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        gauge(registry, "process_open_fds", "File descriptors that are open", open.count());
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        gauge(registry, "process_max_fds", "File descriptors that may be open", limit);
    }
}

struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_TEXT_BYTES {
            return Err(fmt::Error);
        }
        self.0.write_str(text)
    }
}

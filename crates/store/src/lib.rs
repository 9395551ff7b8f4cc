//! Everything that the CMA knows, durable, with history from the first day.
//!
//! One logical schema behind the traits [`Store`], [`Transaction`] and [`Reader`]; `sqlite` implements them, the
//! suite in `tests/suite/conformance` checks any implementation. [`query`] holds the canned queries. Deciding what to write is the CMA's business: nothing here
//! knows rules or discoveries. [`enrolment`] is what is kept of keys, tokens and tags.
//!
//! History: documents and rule results are kept as periods `[since, until)`; the current one has no `until`.
//! A fact at a past time is the path into the document that was current then.

pub mod enrolment;
pub mod groups;
pub mod query;
pub mod sqlite;

use model::graph::{EdgeKind, NodeKind};
use model::message::{CmaKeys, Incarnation};
use model::{Designation, DocumentHash, Event, GraphFacts, PublicKey, Timestamp};
use serde_json::Value;
use std::net::IpAddr;

/// A host as registered.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRow {
    pub designation: Designation,
    pub domain: String,
    /// `up` or `dead`.
    pub status: String,
    /// Why the status is what it is, for instance `HBSHUTDOWN`.
    pub reason: String,
    /// When the status last changed.
    pub status_since: Timestamp,
    pub first_seen: Timestamp,
    /// Last message of any kind.
    pub last_seen: Timestamp,
    /// Pinned at first registration; a host offering another key is refused until someone accepts it.
    pub key: PublicKey,
    /// A different key that tried to register under this name, and when: the state `key mismatch`.
    pub rejected_key: Option<(PublicKey, Timestamp)>,
    /// `address:port` it last talked from.
    pub address: String,
    /// Start of the nanoprobe process, by its own clock.
    pub started: Timestamp,
    pub software: String,
}

/// The current (or a past) document of one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentRow {
    pub instance: String,
    pub discovertype: String,
    pub hash: DocumentHash,
    /// The change happened after this (host's clock).
    pub changed_after: Timestamp,
    /// The host read the new value then (host's clock).
    pub seen: Timestamp,
    /// Committed here then: start of the period.
    pub since: Timestamp,
    /// End of the period; `None` for the current document.
    pub until: Option<Timestamp>,
}

/// Result of one rule on one host.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleResultRow {
    pub rule_id: String,
    /// `pass`, `fail`, `ignore` or `NA`.
    pub status: String,
    pub category: String,
    pub severity: String,
    /// Points this rule adds to the host's score: 0 unless it failed.
    pub score: f64,
    /// The values that decided it: an object from `$name` to value.
    pub values: Value,
    /// Why it is NA or what was wrong with the rule, for people; empty otherwise.
    pub note: String,
    /// Start of the period, by the CMA's clock at commit.
    pub since: Timestamp,
    pub until: Option<Timestamp>,
}

/// A host in the heartbeat rings, as the CMA has to remember it across a restart. What `place` says is the CMA's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    pub designation: Designation,
    /// Under which the host sends heartbeats; kept when the host is removed, and given to no other.
    pub number: u32,
    /// Of its nanoprobe's process; `None` when that knows no heartbeats.
    pub session: Option<[u8; 16]>,
    pub place: String,
    /// Order in its ring.
    pub position: u64,
    /// Of the last list of partners that it was told.
    pub generation: u64,
    /// `address:port` of its nanoprobe.
    pub address: String,
    /// In a ring now.
    pub present: bool,
}

/// Which keys of the CMA a host trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKeysRow {
    pub designation: Designation,
    /// As it said last; `None`: its nanoprobe cannot tell, and cannot be told of others.
    pub trusted: Option<CmaKeys>,
    /// Hash of the list that it was told last, when it answered with `trusted`.
    pub answered: Option<DocumentHash>,
    /// People were told that it did not take that list.
    pub is_warned: bool,
    /// When it said so, by the CMA's clock.
    pub since: Timestamp,
}

/// Somebody uses a service of a host, or nobody is known to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceUse {
    /// The program that offers it, for people.
    pub process: String,
    pub port: u16,
    /// Designation of the other host that uses it; `None`: no other is known to.
    pub client: Option<String>,
}

/// What somebody says about a node of the graph: an edge as seen from it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeEdge {
    /// Whose document says so, and which of them.
    pub host: Designation,
    pub instance: String,
    /// It starts at the node, or else leads to it.
    pub is_outgoing: bool,
    /// The other end, with [`model::graph::NodeKind::as_str`].
    pub other_kind: String,
    pub other_key: String,
    pub other_properties: Value,
    pub since: Timestamp,
}

/// One alert to deliver: an event for a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// Position in the order of events; rows of one host are delivered by it.
    pub sequence: i64,
    pub channel: String,
    pub event: Event,
    pub attempts: u32,
    /// Not before this time.
    pub due: Timestamp,
    /// What the channel has already done for this event (for scripts: the names that succeeded).
    pub progress: Vec<String>,
}

/// A node of the graph, with the number by which edges name it. Numbers hold as long as the node exists: for one walk,
/// never to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphNode {
    pub id: i64,
    /// One of [`model::graph::NodeKind`], as text.
    pub kind: String,
    pub key: String,
    /// A JSON object.
    pub properties: Value,
}

/// An edge as one (host, instance) states it; the same edge may be stated by several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphEdge {
    pub source: i64,
    /// One of [`model::graph::EdgeKind`], as text.
    pub kind: String,
    pub target: i64,
    /// Designation of the host that says so.
    pub host: String,
    pub instance: String,
    /// Since when it says so.
    pub since: Timestamp,
}

/// An edge without what only some ask of it: cheaper, for long walks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphLink {
    pub source: i64,
    pub target: i64,
    /// Designation of the host that says so.
    pub host: String,
}

/// Which edges of a node: those that start there, those that lead there, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Out,
    In,
    Both,
}

/// Rows of a query in the order of its columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
    /// `true` when the limit cut rows off.
    pub truncated: bool,
}

/// Bounds of a query typed by a person.
#[derive(Debug, Clone, Copy)]
pub struct SqlLimits {
    pub rows: usize,
    pub milliseconds: u64,
    /// Memory the answer may take, in bytes.
    pub bytes: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the database {path} was written by a newer version (schema {found}, this program knows {known}): install that version, or {way_back}"
    )]
    TooNew { path: String, found: i64, known: i64, way_back: String },
    /// Before anything was changed.
    #[error(
        "the database {path} needs other tables, and a copy of it is kept before they are changed: that takes {needed_mb} MB in its directory, {free_mb} MB are free; make room and start again"
    )]
    NoRoom { path: String, needed_mb: u64, free_mb: u64 },
    /// The database is as it was.
    #[error(
        "the tables of the database {path} could not be changed from version {from} to {to}: {reason}; nothing was changed, so the version of this program from before still works with it"
    )]
    Migration { path: String, from: i64, to: i64, reason: String },
    /// Somebody asked for that while its tables were changed. It is as it was.
    #[error(
        "changing the tables of the database {path} was stopped, as asked; nothing was changed, and the next start begins anew"
    )]
    Stopped { path: String },
    #[error("cannot open the database {path}: {reason}")]
    Open { path: String, reason: String },
    /// Disk full, read-only file system: the same call may work later.
    #[error("the database cannot be written: {0}")]
    Unwritable(String),
    #[error("the database is damaged: {0}; restore a backup, or start with --erasedb")]
    Corrupt(String),
    /// Not damaged, and not ours: erasing it would be somebody else's loss.
    #[error("{path} is {what}; it is left as it is: move it away, or name another file with --store")]
    Foreign { path: String, what: &'static str },
    #[error("{0}")]
    Sql(String),
    #[error("the query was stopped after {0}")]
    Limit(String),
}

/// Edges of one node that [`Transaction::edges_at`] looks at: more than any address has owners.
pub const MAX_NODE_EDGES: usize = 1000;

pub type Result<T> = std::result::Result<T, StoreError>;

/// A database that can be written by one thread and read by others meanwhile.
pub trait Store: Send {
    /// Starts a write transaction. Nothing is durable before `commit` returns.
    fn begin(&mut self) -> Result<Box<dyn Transaction + '_>>;
    /// A further connection that sees what is committed and can never write.
    fn reader(&self) -> Result<Box<dyn Reader>>;
    /// Looks after the database between transactions: what chooses query plans, for instance. Some milliseconds.
    fn optimize(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Writes, and the reads that writes depend on. Dropping it without `commit` rolls everything back.
pub trait Transaction: enrolment::EnrolmentTransaction + groups::GroupTransaction {
    fn commit(self: Box<Self>) -> Result<()>;
    /// Runs `work` so that its failure undoes only what it wrote.
    fn savepoint(&mut self, work: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()>;

    fn host(&mut self, designation: &Designation) -> Result<Option<HostRow>>;
    fn put_host(&mut self, host: &HostRow) -> Result<()>;
    /// Forgets a host, what it owned and its current documents; history stays.
    fn remove_host(&mut self, designation: &Designation, now: Timestamp) -> Result<()>;

    /// Keeps which keys of the CMA a host trusts; forgotten with the host.
    fn put_host_keys(&mut self, row: &HostKeysRow) -> Result<()>;
    /// The same of one host, `None` when it never said.
    fn host_keys(&mut self, host: &Designation) -> Result<Option<HostKeysRow>>;

    /// Keeps what the rings have to know of a host.
    fn put_member(&mut self, member: &MemberRow) -> Result<()>;

    /// The services that a host offers on addresses that others can reach, with the hosts that use them: those that are
    /// used first, at most `limit` rows.
    fn services(&mut self, host: &Designation, limit: usize) -> Result<Vec<ServiceUse>>;

    /// Last sequence that is durable for this queue, 0 if none.
    fn cursor(&mut self, key: &PublicKey, incarnation: Incarnation) -> Result<u64>;
    fn set_cursor(&mut self, key: &PublicKey, incarnation: Incarnation, sequence: u64) -> Result<()>;

    fn document(&mut self, host: &Designation, instance: &str) -> Result<Option<DocumentRow>>;
    fn documents(&mut self, host: &Designation) -> Result<Vec<DocumentRow>>;
    /// Makes `body` (canonical JSON text, hash `row.hash`) current from `row.since` on; stored once per hash.
    fn put_document(&mut self, host: &Designation, row: &DocumentRow, body: &str) -> Result<()>;
    fn remove_document(&mut self, host: &Designation, instance: &str, now: Timestamp) -> Result<()>;
    fn body(&mut self, hash: &DocumentHash) -> Result<Option<String>>;

    /// Makes `facts` all that (host, instance) says about the graph: writes the difference only. What it no longer says
    /// goes, edges and properties; of a property that several say differently, the newest `now` counts.
    fn replace_graph(
        &mut self,
        host: &Designation,
        instance: &str,
        facts: &GraphFacts,
        now: Timestamp,
    ) -> Result<()>;

    /// All edges of one kind that touch a node, in either direction; none when there is no such node. At most
    /// [`MAX_NODE_EDGES`].
    fn edges_at(&mut self, kind: NodeKind, key: &str, edge: EdgeKind) -> Result<Vec<NodeEdge>>;

    /// Current results of the rules that read this instance.
    fn rule_results(&mut self, host: &Designation, instance: &str) -> Result<Vec<RuleResultRow>>;
    /// Starts a new period for each changed result (`since` of the row).
    fn put_rule_results(
        &mut self,
        host: &Designation,
        instance: &str,
        changed: &[RuleResultRow],
    ) -> Result<()>;
    /// Ends the periods of rules that left the rule set.
    fn remove_rule_results(
        &mut self,
        host: &Designation,
        instance: &str,
        rule_ids: &[&str],
        now: Timestamp,
    ) -> Result<()>;

    /// Keeps the name that reverse DNS has for an address at `now`; `None`: it has none.
    fn put_reverse_name(&mut self, address: IpAddr, name: Option<&str>, now: Timestamp) -> Result<()>;
    /// Forgets names looked up before `older_than`. Addresses that are still there are looked up again in time
    /// ([`Reader::addresses_to_look_up`]), so what is that old belongs to addresses that are gone.
    fn forget_reverse_names(&mut self, older_than: Timestamp) -> Result<()>;

    /// Appends an event with one outbox row for each channel; returns its sequence.
    fn append_event(&mut self, event: &Event, channels: &[&str]) -> Result<i64>;
    /// Delivered, or given up (`failure` says why; kept and shown by `doctor`).
    fn finish_delivery(
        &mut self,
        sequence: i64,
        channel: &str,
        now: Timestamp,
        failure: Option<&str>,
    ) -> Result<()>;
    fn retry_delivery(&mut self, row: &OutboxRow) -> Result<()>;

    /// Small settings of the CMA itself (for instance the hash of the rule sets last evaluated).
    fn setting(&mut self, name: &str) -> Result<Option<String>>;
    fn set_setting(&mut self, name: &str, value: &str) -> Result<()>;
}

/// Reads of committed state.
pub trait Reader: enrolment::EnrolmentReader + groups::GroupReader + Send {
    fn hosts(&mut self) -> Result<Vec<HostRow>>;
    /// Everybody ever kept with [`Transaction::put_member`], by number.
    fn members(&mut self) -> Result<Vec<MemberRow>>;
    /// Which keys of the CMA the hosts trust, by host.
    fn all_host_keys(&mut self) -> Result<Vec<HostKeysRow>>;
    /// Outbox rows not yet finished, in order, at most `limit`, after position `(sequence, channel)`.
    fn outbox(&mut self, limit: usize) -> Result<Vec<OutboxRow>>;
    /// Deliveries given up since `since`: event, channel, reason.
    fn failed_deliveries(&mut self, since: Timestamp) -> Result<Vec<(Event, String, String)>>;
    /// Events with a sequence above `after` and a time at or after `since`, oldest first.
    fn events(&mut self, after: i64, since: Timestamp, limit: usize) -> Result<Vec<(i64, Event)>>;
    /// All instances a host had at `at` (`None` = now).
    fn documents_at(&mut self, host: &Designation, at: Option<Timestamp>) -> Result<Vec<DocumentRow>>;
    fn document_at(
        &mut self,
        host: &Designation,
        instance: &str,
        at: Option<Timestamp>,
    ) -> Result<Option<(DocumentRow, String)>>;
    /// The value below `data` at `path` (top-level key, longest first, then nested) in the document current at `at`.
    fn fact_at(
        &mut self,
        host: &Designation,
        instance: &str,
        path: &str,
        at: Option<Timestamp>,
    ) -> Result<Option<Value>>;
    /// Every period of one rule on one host, oldest first.
    fn rule_history(&mut self, host: &Designation, rule_id: &str) -> Result<Vec<RuleResultRow>>;
    fn rule_result_at(
        &mut self,
        host: &Designation,
        rule_id: &str,
        at: Timestamp,
    ) -> Result<Option<RuleResultRow>>;
    /// The nodes with these numbers, each once and in the order of the numbers; those that no longer exist are left out.
    fn graph_nodes(&mut self, ids: &[i64]) -> Result<Vec<GraphNode>>;
    /// The nodes with exactly this key, of `kind` or of any.
    fn graph_find(&mut self, kind: Option<&str>, key: &str) -> Result<Vec<GraphNode>>;
    /// The first `limit` nodes of a kind, by key.
    fn graph_of_kind(&mut self, kind: &str, limit: usize) -> Result<Vec<GraphNode>>;
    /// The edges of any of these nodes in this direction, of these kinds (none: of all), each statement of an edge once.
    fn graph_edges(&mut self, ids: &[i64], direction: Direction, kinds: &[&str]) -> Result<Vec<GraphEdge>>;
    /// The same edges as [`Reader::graph_edges`] gives, with less of each.
    fn graph_links(&mut self, ids: &[i64], direction: Direction, kinds: &[&str]) -> Result<Vec<GraphLink>>;
    /// Read-only SQL over the documented views, parameters by name (`:name`), bounded.
    fn sql(&mut self, statement: &str, parameters: &[(String, Value)], limits: SqlLimits) -> Result<Table>;
    /// Addresses of the network `global` in the graph whose name was never looked up or before `older_than`:
    /// at most `limit`, the never asked ones first. Reads all addresses: ask once in a while for many, not often for few.
    fn addresses_to_look_up(&mut self, limit: usize, older_than: Timestamp) -> Result<Vec<IpAddr>>;
    /// Alerts that wait for delivery, by channel; channels for which none waits are left out.
    fn waiting(&mut self) -> Result<Vec<(String, u64)>>;
    /// Number of outbox rows waiting and database size in bytes, for `doctor` and metrics.
    fn health(&mut self) -> Result<(u64, u64)>;
}

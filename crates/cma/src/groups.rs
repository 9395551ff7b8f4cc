//! Groups and domains of hosts, kept in step with names, tags and what hosts report.
//!
//! [`membership`] works out who belongs where; this module asks what it needs to know, has differences committed, and has
//! hosts judged and configured anew that stand elsewhere than before. Documents are judged before the difference is committed:
//! killed in between, the difference is still there at the next start, and judging again changes nothing.

pub mod membership;

use crate::commit::{Done, Work, Writer};
use crate::health::Health;
use crate::hosts::Hosts;
use crate::ingest::groups::SETTING;
use crate::knowledge::{Knowledge, SharedKnowledge};
use crate::readers::Readers;
use crate::reevaluate;
use membership::{Facts, Membership, Standing};
use model::config::selection::Question;
use model::{Designation, DocumentHash};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Reader, SqlLimits, StoreError, Table};
use tokio::sync::{Notify, watch};

/// From something that may change who belongs where to the next look: a burst is one change.
const SETTLE: Duration = Duration::from_millis(500);
/// Looks are no closer to each other than this, and questions may take a twentieth of the time.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
const SHARE: u32 = 20;
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Pause before another try when the store did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Hosts of one commit.
const STEP_HOSTS: usize = 100;
const COMMIT_TIMEOUT: Duration = Duration::from_secs(600);
/// What one question may cost.
const LIMITS: SqlLimits = SqlLimits { rows: 200_000, milliseconds: 2_000, bytes: 32 * 1024 * 1024 };
/// Topic of what `assimcli doctor` says.
const TOPIC: &str = "groups";
/// The column of an answer that names hosts.
const HOST: &str = "host";

/// A host that stands elsewhere than was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub host: Designation,
    /// Its domain before; empty for a host that was in none.
    pub from_domain: String,
    pub to: Standing,
}

/// Where the hosts stood when this CMA last worked it out.
///
/// # Errors
/// Those of the store.
pub fn committed(reader: &mut dyn Reader) -> Result<Membership, StoreError> {
    let mut hosts: BTreeMap<Designation, Standing> = reader
        .hosts()?
        .into_iter()
        .map(|host| (host.designation, Standing { domain: host.domain, ..Standing::default() }))
        .collect();
    for row in reader.groups()? {
        if let Some(standing) = hosts.get_mut(&row.host) {
            standing.groups.insert(row.group, row.why);
        }
    }
    Ok(Membership::new(hosts))
}

/// Works out where the hosts stand by these settings. What is wrong with questions goes to `health`.
///
/// # Errors
/// Those of the store, other than a question's own.
pub async fn work_out(
    readers: &Arc<Readers>,
    knowledge: &Knowledge,
    health: &Health,
) -> Result<Membership, StoreError> {
    let asked: Vec<(Question, Result<String, String>)> = membership::questions(&knowledge.config)
        .into_iter()
        .map(|question| {
            let statement = statement(knowledge, &question);
            (question, statement)
        })
        .collect();
    let (facts, problems) = readers.read(move |reader| facts(reader, asked)).await?;
    health.set(TOPIC, (!problems.is_empty()).then(|| problems.join("; ")));
    Ok(Membership::work_out(&knowledge.config, &facts, &knowledge.membership))
}

/// The SQL of a question, if it can be asked.
fn statement(knowledge: &Knowledge, question: &Question) -> Result<String, String> {
    match question {
        Question::Sql(sql) => Ok(sql.clone()),
        Question::Named(name) => statement_of(&knowledge.queries, name),
    }
}

/// The SQL of a canned query that can be asked without parameters.
///
/// # Errors
/// A sentence about why it cannot.
pub fn statement_of(queries: &store::query::Queries, name: &str) -> Result<String, String> {
    let query = queries.get(name).ok_or_else(|| format!("there is no query {name:?}"))?;
    if query.answer.is_some() {
        return Err(format!("the query {name:?} answers with a graph, not with hosts"));
    }
    if !query.parameters.is_empty() {
        return Err(format!("the query {name:?} has parameters; write its SQL with their values as `query`"));
    }
    Ok(query.sql.clone())
}

fn facts(
    reader: &mut dyn Reader,
    asked: Vec<(Question, Result<String, String>)>,
) -> Result<(Facts, Vec<String>), StoreError> {
    let mut tags = reader.all_tags()?;
    let mut facts = Facts::default();
    for host in reader.hosts()? {
        let tags: BTreeSet<String> = tags.remove(&host.designation).unwrap_or_default().into_iter().collect();
        facts.hosts.insert(host.designation, tags);
    }
    let mut problems = Vec::new();
    for (question, statement) in asked {
        let answer = statement.and_then(|sql| match reader.sql(&sql, &[], LIMITS) {
            Ok(table) => hosts_of(table),
            Err(error) => Err(error.to_string()),
        });
        match answer {
            Ok(hosts) => drop(facts.answers.insert(question, hosts)),
            Err(reason) => {
                let shown = match &question {
                    Question::Sql(sql) => format!("the query {}", model::text::shortened(sql, 60)),
                    Question::Named(name) => format!("the query {name}"),
                };
                problems.push(format!(
                    "{shown} of a group cannot be answered, so its hosts stay as they were: {reason}"
                ));
                facts.failed.insert(question);
            }
        }
    }
    Ok((facts, problems))
}

/// The hosts that an answer names; what is no name of a host is left out.
fn hosts_of(table: Table) -> Result<BTreeSet<Designation>, String> {
    if table.truncated {
        return Err(format!("it has more than {} rows", LIMITS.rows));
    }
    let column = table.columns.iter().position(|name| name == HOST).unwrap_or(0);
    let names = table.rows.iter().filter_map(|row| row.get(column).and_then(Value::as_str));
    Ok(names.filter_map(|name| Designation::new(name).ok()).collect())
}

/// What works beside everything else.
pub struct Keeper {
    pub writer: Writer,
    pub readers: Arc<Readers>,
    pub knowledge: SharedKnowledge,
    pub hosts: Arc<Hosts>,
    pub health: Arc<Health>,
    /// Told when hosts, tags or documents changed.
    pub news: Arc<Notify>,
    /// Becomes true when the CMA stops.
    pub stop: watch::Receiver<bool>,
}

impl Keeper {
    /// Works until the CMA stops.
    pub async fn run(self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.follow() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow(&self) {
        let mut changed = self.knowledge.changes();
        let mut configured = None;
        loop {
            changed.borrow_and_update();
            let begun = Instant::now();
            let outcome = self.look(&mut configured).await;
            let took = begun.elapsed();
            let pause = match &outcome {
                Ok(()) => (took * SHARE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
                Err(reason) => {
                    tracing::warn!(%reason, "who is in which group could not be worked out; trying later");
                    RETRY_AFTER
                }
            };
            // The pause is over before what happened in it is looked at; other settings are looked at at once.
            tokio::select! {
                result = changed.changed() => if result.is_err() { return },
                () = self.due(pause, outcome.is_err()) => {}
            }
        }
    }

    async fn due(&self, pause: Duration, failed: bool) {
        tokio::time::sleep(pause).await;
        if !failed {
            self.news.notified().await;
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Brings everything in line with what is known now. `last` names the settings by which that was done last.
    async fn look(&self, last: &mut Option<String>) -> Result<(), String> {
        let told = |error: StoreError| error.to_string();
        let knowledge = self.knowledge.get();
        let membership = work_out(&self.readers, &knowledge, &self.health).await.map_err(told)?;
        if membership != *knowledge.membership {
            if !self.knowledge.regroup(&knowledge, membership.clone()) {
                // Read again meanwhile: that wakes this up.
                return Ok(());
            }
            self.hosts.configure(&self.knowledge.get());
        }
        let before = self.readers.read(committed).await.map_err(told)?;
        let configured = configured(&knowledge);
        let moved = differences(&before, &membership);
        for step in moved.chunks(STEP_HOSTS) {
            for one in
                step.iter().filter(|one| is_judged_otherwise(&knowledge, before.of(&one.host), &one.to))
            {
                reevaluate::host(&self.writer, &self.readers, &one.host).await?;
            }
            self.commit(Work::Groups { moved: step.to_vec(), configured: configured.clone() }).await?;
        }
        if last.as_ref() != Some(&configured) {
            self.commit(Work::Setting { name: SETTING.into(), value: configured.clone() }).await?;
            *last = Some(configured);
        }
        if !moved.is_empty() {
            tracing::info!(hosts = moved.len(), "hosts are in other groups or domains than before");
        }
        Ok(())
    }
}

impl Keeper {
    async fn commit(&self, work: Work) -> Result<(), String> {
        match self.writer.ask(work, COMMIT_TIMEOUT).await {
            Ok(Done::Failed(reason)) => Err(reason),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Names the groups and domains of these settings.
fn configured(knowledge: &Knowledge) -> String {
    let config = &knowledge.config;
    DocumentHash::of(format!("{:?} {:?}", config.groups, config.domains).as_bytes()).to_string()
}

/// Whom to write down.
fn differences(before: &Membership, now: &Membership) -> Vec<Moved> {
    let differs = |(host, standing): &(&Designation, &Standing)| before.of(host) != Some(*standing);
    let moved = |(host, to): (&Designation, &Standing)| Moved {
        host: host.clone(),
        from_domain: before.of(host).map(|old| old.domain.clone()).unwrap_or_default(),
        to: to.clone(),
    };
    now.iter().filter(differs).map(moved).collect()
}

/// Whether another rule set may count for a host that moved.
fn is_judged_otherwise(knowledge: &Knowledge, before: Option<&Standing>, now: &Standing) -> bool {
    let Some(before) = before else { return true };
    let with_rules = |standing: &Standing| -> Vec<String> {
        let by_group = &knowledge.config.rules.by_group;
        standing.groups.keys().filter(|group| by_group.contains_key(*group)).cloned().collect()
    };
    before.domain != now.domain || with_rules(before) != with_rules(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::parse_toml;
    use serde_json::json;

    fn name(text: &str) -> Designation {
        Designation::new(text).unwrap()
    }

    fn standing(domain: &str, groups: &[&str]) -> Standing {
        let groups = groups.iter().map(|group| (group.to_string(), "name *".to_owned())).collect();
        Standing { domain: domain.into(), groups }
    }

    #[test]
    fn an_answer_names_hosts_in_the_column_host_or_the_first() {
        let table = |columns: &[&str], rows: Vec<Vec<Value>>| Table {
            columns: columns.iter().map(ToString::to_string).collect(),
            rows,
            truncated: false,
        };
        let rows = vec![
            vec![json!("a"), json!("web1")],
            vec![json!("b"), json!("no name/")],
            vec![json!("c"), json!(7)],
        ];
        assert_eq!(hosts_of(table(&["x", "host"], rows.clone())).unwrap(), BTreeSet::from([name("web1")]));
        assert_eq!(hosts_of(table(&["x", "y"], rows)).unwrap().len(), 3);
        let cut = Table { truncated: true, ..table(&["host"], Vec::new()) };
        assert!(hosts_of(cut).unwrap_err().contains("more than"), "half an answer would throw hosts out");
    }

    #[test]
    fn a_host_is_judged_anew_when_another_set_may_count() {
        let text = "[groups]\na = [\"x\"]\nb = [\"y\"]\n[rules.by_group]\nb = \"BASE\"\n";
        let knowledge = Knowledge::for_tests(parse_toml("cma.toml", text).unwrap());
        let anew = |before: Standing, now: Standing| is_judged_otherwise(&knowledge, Some(&before), &now);
        assert!(!anew(standing("global", &[]), standing("global", &["a"])));
        assert!(anew(standing("global", &["a"]), standing("global", &["a", "b"])));
        assert!(anew(standing("global", &["a"]), standing("lab", &["a"])));
        assert!(is_judged_otherwise(&knowledge, None, &standing("global", &[])));
    }

    #[test]
    fn only_who_moved_is_written() {
        let at = |standings: &[(&str, Standing)]| {
            Membership::new(standings.iter().map(|(host, s)| (name(host), s.clone())).collect())
        };
        let before = at(&[("a", standing("global", &["g"])), ("b", standing("global", &[]))]);
        let now = at(&[
            ("a", standing("global", &["g"])),
            ("b", standing("global", &["g"])),
            ("c", standing("lab", &[])),
        ]);
        let moved: Vec<String> = differences(&before, &now).iter().map(|one| one.host.to_string()).collect();
        assert_eq!(moved, ["b", "c"]);
    }
}

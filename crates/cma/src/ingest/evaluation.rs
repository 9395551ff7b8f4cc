//! Rules over a document: old results against new ones, and the events that come of the difference.

use super::document::Incoming;
use super::events::about_host;
use super::{Context, LogLine};
use model::envelope::Envelope;
use model::{Designation, EventType, Timestamp};
use rules::{Documents, EffectiveSet, OperatingSystem, Rule, RuleResult, Severity, Status, Transition};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use store::{DocumentRow, HostRow, Result, RuleResultRow, Transaction};

/// Evaluates the rules that read a document that has just become current, and those that read others of the host's
/// documents but depend on this one.
pub fn document(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    row: &DocumentRow,
    envelope: &Envelope,
) -> Result<()> {
    let system = System::of(tx, host, Some(envelope))?;
    let Some(set) = rules_of(tx, context, host, &system)? else {
        return Ok(());
    };
    judge(tx, context, host, row, envelope, &set, &system)?;
    // The operating system decides which rules there are at all.
    let depending = set.depending_on(&row.discovertype);
    let concerns_all = row.discovertype == OS;
    if !concerns_all && depending.is_empty() {
        return Ok(());
    }
    for other in tx.documents(&host.designation)? {
        let depends =
            concerns_all || depending.contains(&other.discovertype) || depending.contains(&other.instance);
        if depends && other.instance != row.instance {
            let Some(envelope) = body(tx, context, host, &other)? else { continue };
            // Nothing of its own changed: what decides came with the other document.
            let other = DocumentRow { changed_after: row.changed_after, seen: row.seen, ..other };
            judge(tx, context, host, &other, &envelope, &set, &system)?;
        }
    }
    Ok(())
}

/// The discovery type that tells the operating system.
const OS: &str = "os";
/// The instance under which every nanoprobe reports it.
const OS_INSTANCE: &str = "_init_os";

/// What the choice of rules depends on besides the document that they read.
struct System {
    os: Option<OperatingSystem>,
    /// `data` of the os document.
    data: Option<Arc<Value>>,
}

impl System {
    /// As far as the host has told; `present` is a document that may be the os document itself.
    fn of(tx: &mut dyn Transaction, host: &HostRow, present: Option<&Envelope>) -> Result<System> {
        let data = match present.filter(|envelope| envelope.discovertype == OS) {
            Some(envelope) => Some(envelope.data.clone()),
            None => match tx.document(&host.designation, OS_INSTANCE)? {
                Some(row) => {
                    let envelope =
                        tx.body(&row.hash)?.and_then(|text| serde_json::from_str::<Envelope>(&text).ok());
                    envelope.map(|envelope| envelope.data)
                }
                None => None,
            },
        };
        Ok(System { os: data.as_ref().and_then(OperatingSystem::of), data: data.map(Arc::new) })
    }
}

fn judge(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    row: &DocumentRow,
    envelope: &Envelope,
    set: &EffectiveSet,
    system: &System,
) -> Result<()> {
    let rules = set.rules_for(&row.instance, &row.discovertype);
    let mut others: BTreeMap<String, Arc<Value>> = BTreeMap::new();
    if let Some(data) = &system.data {
        others.insert(OS.to_owned(), data.clone());
    }
    let wanted = rules.iter().filter_map(|rule| rule.applies.as_ref()?.discovery.as_deref());
    let wanted: BTreeSet<&str> = wanted.filter(|other| *other != OS && *other != row.discovertype).collect();
    for other in wanted {
        let Some((_, instance)) = discovery::find(other) else { continue };
        if let Some(found) = tx.document(&host.designation, instance.name)?
            && let Some(envelope) = body(tx, context, host, &found)?
        {
            others.insert(other.to_owned(), Arc::new(envelope.data));
        }
    }
    let new = results(context, host, rules, &envelope.data, &|name| others.get(name).cloned());
    let about = About {
        instance: row.instance.clone(),
        discovertype: row.discovertype.clone(),
        description: envelope.description.clone(),
        changed_after: row.changed_after,
        seen: row.seen,
    };
    replace(tx, context, host, &about, rules, new)
}

/// The rules that a host is judged by.
fn rules_of(
    tx: &mut dyn Transaction,
    context: &Context<'_>,
    host: &HostRow,
    system: &System,
) -> Result<Option<Arc<EffectiveSet>>> {
    let name = &host.designation;
    let tags = if context.knowledge.is_newcomer(name) { tx.tags(name)? } else { Vec::new() };
    let standing = context.knowledge.standing_of(name, &tags);
    Ok(context.knowledge.effective(&standing, &host.domain, system.os.as_ref()))
}

/// A document as it was stored.
fn body(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    row: &DocumentRow,
) -> Result<Option<Envelope>> {
    let envelope = tx.body(&row.hash)?.and_then(|text| serde_json::from_str::<Envelope>(&text).ok());
    if envelope.is_none() {
        context.warn(format!(
            "{}: the document of {} cannot be read back, so its rules keep their results",
            host.designation, row.instance
        ));
    }
    Ok(envelope)
}

/// Evaluates a current document again (if there is one of that name), what it means for the graph and the host's domain,
/// because the rules, the host's domain or its network changed. The host did not change, so the times in events are the CMA's.
pub fn again(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    designation: &Designation,
    instance: &str,
) -> Result<()> {
    let Some(mut host) = tx.host(designation)? else { return Ok(()) };
    let domain = context.knowledge.domain_of(designation, &tx.tags(designation)?);
    if host.domain != domain {
        host.domain = domain;
        tx.put_host(&host)?;
    }
    let Some(row) = tx.document(designation, instance)? else { return Ok(()) };
    let Some(envelope) = body(tx, context, &host, &row)? else { return Ok(()) };
    super::report::put_graph(tx, context, &host, &row, &envelope)?;
    let row = DocumentRow { changed_after: context.now, seen: context.now, ..row };
    let system = System::of(tx, &host, Some(&envelope))?;
    let Some(set) = rules_of(tx, context, &host, &system)? else {
        return Ok(());
    };
    judge(tx, context, &host, &row, &envelope, &set, &system)
}

/// An instance is gone from the host: its results end, and rules that failed no longer do.
pub fn instance_is_gone(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    old: &DocumentRow,
    incoming: &Incoming,
) -> Result<()> {
    let about = About {
        instance: old.instance.clone(),
        discovertype: old.discovertype.clone(),
        description: String::new(),
        changed_after: incoming.changed_after,
        seen: incoming.seen,
    };
    let system = System::of(tx, host, None)?;
    let Some(set) = rules_of(tx, context, host, &system)? else {
        return Ok(());
    };
    replace(tx, context, host, &about, set.rules_for(&old.instance, &old.discovertype), Vec::new())
}

/// The document that results come from.
struct About {
    instance: String,
    discovertype: String,
    description: String,
    changed_after: Timestamp,
    seen: Timestamp,
}

/// Runs each rule. One that panics (a defect of the rule language) is NA and harms no other.
fn results(
    context: &mut Context<'_>,
    host: &HostRow,
    rules: &[Arc<Rule>],
    data: &Value,
    documents: &Documents<'_>,
) -> Vec<RuleResult> {
    let points = &context.knowledge.config.rules.points;
    if let Ok(results) =
        catch_unwind(AssertUnwindSafe(|| rules::evaluate_with(rules, data, points, documents)))
    {
        return results;
    }
    let mut results = Vec::new();
    for rule in rules {
        match catch_unwind(AssertUnwindSafe(|| {
            rules::evaluate_with(std::slice::from_ref(rule), data, points, documents)
        })) {
            Ok(one) => results.extend(one),
            Err(_) => {
                context.produced.log.push(LogLine {
                    warning: true,
                    text: format!(
                        "{}: rule {} broke off (a defect; please report it)",
                        host.designation, rule.id
                    ),
                    detail: String::new(),
                });
                results.push(RuleResult {
                    id: rule.id.clone(),
                    status: Status::NotApplicable,
                    category: rule.category.clone(),
                    severity: rule.severity,
                    score: 0.0,
                    values: Map::new(),
                    note: "the rule could not be evaluated".into(),
                });
            }
        }
    }
    results
}

/// Stores what changed and tells what people should know.
fn replace(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    about: &About,
    rules: &[Arc<Rule>],
    new: Vec<RuleResult>,
) -> Result<()> {
    context.produced.evaluations += new.len();
    let stored = tx.rule_results(&host.designation, &about.instance)?;
    let old: Vec<RuleResult> = stored.iter().map(result).collect();
    let mut changed = Vec::new();
    for fresh in &new {
        let before = stored.iter().zip(&old).find(|(row, _)| row.rule_id == fresh.id);
        if before.is_none_or(|(_, before)| before != fresh) {
            changed.push(row(fresh, since(context.now, before.map(|(row, _)| row))));
        }
    }
    let gone: Vec<&str> = stored
        .iter()
        .map(|row| row.rule_id.as_str())
        .filter(|id| !new.iter().any(|fresh| fresh.id == *id))
        .collect();
    if !changed.is_empty() {
        tx.put_rule_results(&host.designation, &about.instance, &changed)?;
    }
    if !gone.is_empty() {
        let until = stored.iter().fold(context.now, |until, row| until.max(since(context.now, Some(row))));
        tx.remove_rule_results(&host.designation, &about.instance, &gone, until)?;
    }
    let transitions = rules::transitions(&old, &new);
    for transition in &transitions {
        let first_failures = match transition {
            Transition::Score { category, .. } => first_failures(&transitions, category),
            Transition::Rule { .. } => 0,
        };
        tell(tx, context, host, about, rules, transition, first_failures)?;
    }
    Ok(())
}

/// Rules of a category that fail as soon as they are looked at: a new host has dozens, which nobody wants to be told
/// one by one. The event of the category's score carries their number.
fn first_failures(transitions: &[Transition], wanted: &str) -> usize {
    let first = |transition: &&Transition| match transition {
        Transition::Rule { event, category, old, .. } => {
            *event == EventType::Warn && category == wanted && old.is_none()
        }
        Transition::Score { .. } => false,
    };
    transitions.iter().filter(first).count()
}

/// A clock set back must not let a period end before it began.
fn since(now: Timestamp, before: Option<&RuleResultRow>) -> Timestamp {
    before.map_or(now, |row| now.max(row.since.plus(Duration::from_micros(1))))
}

fn tell(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    about: &About,
    rules: &[Arc<Rule>],
    transition: &Transition,
    first_failures: usize,
) -> Result<()> {
    let mut extrainfo = transition.extra_info();
    if first_failures > 0 {
        extrainfo.insert("first_failures".into(), Value::from(first_failures));
    }
    let mut add = |name: &str, value: &str| {
        extrainfo.insert(name.to_owned(), Value::from(value));
    };
    add("instance", &about.instance);
    add("discovery_type", &about.discovertype);
    // The first document of a host says nothing about when its values came to be.
    if about.changed_after > Timestamp(0) {
        add("changed_after", &about.changed_after.to_utc_text());
    }
    add("seen", &about.seen.to_utc_text());
    add("committed", &context.now.to_utc_text());
    match transition {
        Transition::Score { .. } => add("discovery_description", &about.description),
        Transition::Rule { id, category, new, values, .. } => {
            let rule = rules.iter().find(|rule| rule.id == *id);
            let text = |of: fn(&Rule) -> &String| rule.map_or("", |rule| of(rule).as_str());
            add("title", text(|rule| &rule.title));
            add("why", text(|rule| &rule.why));
            add("fix_now", text(|rule| &rule.fix_now));
            add("fix_permanently", text(|rule| &rule.fix_permanently));
            let what = match new {
                Some(Status::Pass) => "PASSED",
                Some(Status::Fail) => "FAILED",
                Some(Status::Ignore) => "IGNORED",
                Some(Status::NotApplicable) => "CANNOT JUDGE",
                None => "NO LONGER HAS",
            };
            context.produced.log.push(LogLine {
                warning: *new == Some(Status::Fail),
                text: format!(
                    "{} {what} {category} rule {id}: {}",
                    host.designation,
                    text(|rule| &rule.title)
                ),
                detail: format!("{} rule {id} looked at {}", host.designation, Value::Object(values.clone())),
            });
        }
    }
    let event = about_host(context, transition.event(), host, Value::Object(extrainfo));
    context.emit(tx, event)
}

fn row(result: &RuleResult, since: Timestamp) -> RuleResultRow {
    RuleResultRow {
        rule_id: result.id.clone(),
        status: result.status.as_str().to_owned(),
        category: result.category.clone(),
        severity: result.severity.as_str().to_owned(),
        score: result.score,
        values: Value::Object(result.values.clone()),
        note: result.note.clone(),
        since,
        until: None,
    }
}

fn result(row: &RuleResultRow) -> RuleResult {
    RuleResult {
        id: row.rule_id.clone(),
        status: row.status.parse().unwrap_or(Status::NotApplicable),
        category: row.category.clone(),
        severity: Severity::of(&row.severity),
        score: row.score,
        values: row.values.as_object().cloned().unwrap_or_default(),
        note: row.note.clone(),
    }
}

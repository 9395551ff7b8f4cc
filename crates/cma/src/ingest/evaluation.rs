//! Rules over a document: old results against new ones, and the events that come of the difference.

use super::document::Incoming;
use super::events::about_host;
use super::{Context, LogLine};
use model::envelope::Envelope;
use model::{Designation, Timestamp};
use rules::{Rule, RuleResult, Severity, Status, Transition};
use serde_json::{Map, Value};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use store::{DocumentRow, HostRow, Result, RuleResultRow, Transaction};

/// Evaluates the rules that read a document that has just become current.
pub fn document(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    row: &DocumentRow,
    envelope: &Envelope,
) -> Result<()> {
    let rules = context.knowledge.rules_for(&host.domain, &row.instance, &row.discovertype);
    let new = results(context, host, &rules, &envelope.data);
    let about = About {
        instance: row.instance.clone(),
        discovertype: row.discovertype.clone(),
        description: envelope.description.clone(),
        changed_after: row.changed_after,
        seen: row.seen,
    };
    replace(tx, context, host, &about, &rules, new)
}

/// Evaluates a current document again (if there is one of that name) and the host's domain, because the rules or the host's domain changed. The host did not change, so
/// the times in events are the CMA's.
pub fn again(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    designation: &Designation,
    instance: &str,
) -> Result<()> {
    let Some(mut host) = tx.host(designation)? else { return Ok(()) };
    let domain = context.knowledge.config.domain_of(designation.as_str());
    if host.domain != domain {
        host.domain = domain.to_owned();
        tx.put_host(&host)?;
    }
    let Some(row) = tx.document(designation, instance)? else { return Ok(()) };
    let Some(envelope) = tx.body(&row.hash)?.and_then(|text| serde_json::from_str::<Envelope>(&text).ok())
    else {
        context.warn(format!(
            "{designation}: the document of {instance} cannot be read back, so its rules keep their results"
        ));
        return Ok(());
    };
    let row = DocumentRow { changed_after: context.now, seen: context.now, ..row };
    document(tx, context, &host, &row, &envelope)
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
    let rules = context.knowledge.rules_for(&host.domain, &old.instance, &old.discovertype);
    replace(tx, context, host, &about, &rules, Vec::new())
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
fn results(context: &mut Context<'_>, host: &HostRow, rules: &[Arc<Rule>], data: &Value) -> Vec<RuleResult> {
    let points = &context.knowledge.config.rules.points;
    if let Ok(results) = catch_unwind(AssertUnwindSafe(|| rules::evaluate(rules, data, points))) {
        return results;
    }
    let mut results = Vec::new();
    for rule in rules {
        match catch_unwind(AssertUnwindSafe(|| rules::evaluate(std::slice::from_ref(rule), data, points))) {
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
    for transition in rules::transitions(&old, &new) {
        tell(tx, context, host, about, rules, &transition)?;
    }
    Ok(())
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
) -> Result<()> {
    let mut extrainfo = transition.extra_info();
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

//! What changed between two evaluations of the same discovery on the same host: the warnings to send.

use crate::evaluate::{RuleResult, Status, scores};
use crate::rule::Severity;
use model::EventType;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One warn or unwarn.
#[derive(Debug, Clone, PartialEq)]
pub enum Transition {
    /// A rule began to fail, or stopped failing.
    Rule {
        event: EventType,
        id: String,
        category: String,
        severity: Severity,
        /// `None`: never seen before.
        old: Option<Status>,
        /// `None`: the rule left the rule set.
        new: Option<Status>,
        values: Map<String, Value>,
    },
    /// The sum of a category's points rose (warn) or fell (unwarn).
    Score { event: EventType, category: String, old: f64, new: f64 },
}

impl Transition {
    pub fn event(&self) -> EventType {
        match self {
            Self::Rule { event, .. } | Self::Score { event, .. } => *event,
        }
    }

    /// The event's extra information: `ruleid`, `category`, `severity`, `oldstatus`, `newstatus`, `values`, or `category`,
    /// `oldscore`, `newscore`. The caller adds what it knows of the rule and the discovery.
    pub fn extra_info(&self) -> Map<String, Value> {
        let information = match self {
            Self::Rule { id, category, severity, old, new, values, .. } => json!({
                "ruleid": id, "category": category, "severity": severity,
                "oldstatus": old.map(Status::as_str), "newstatus": new.map(Status::as_str), "values": values,
            }),
            Self::Score { category, old, new, .. } => {
                json!({"category": category, "oldscore": old, "newscore": new})
            }
        };
        match information {
            Value::Object(map) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            _ => Map::new(),
        }
    }
}

/// Compares stored results with new ones. Order: rules that now pass, fail, are ignored, are NA, then those that left
/// the set, each by id; then the categories by name. The old points count as they were stored.
pub fn transitions(old: &[RuleResult], new: &[RuleResult]) -> Vec<Transition> {
    let before: BTreeMap<&str, &RuleResult> = old.iter().map(|result| (result.id.as_str(), result)).collect();
    let after: BTreeMap<&str, &RuleResult> = new.iter().map(|result| (result.id.as_str(), result)).collect();
    let mut transitions = Vec::new();
    for status in Status::ALL {
        for result in after.values().filter(|result| result.status == status) {
            let old = before.get(result.id.as_str()).map(|result| result.status);
            let event = match (old == Some(Status::Fail), status == Status::Fail) {
                (false, true) => EventType::Warn,
                (true, false) => EventType::Unwarn,
                _ => continue,
            };
            transitions.push(rule_transition(event, result, old, Some(status)));
        }
    }
    let gone = before
        .values()
        .filter(|result| result.status == Status::Fail && !after.contains_key(result.id.as_str()));
    transitions
        .extend(gone.map(|result| rule_transition(EventType::Unwarn, result, Some(Status::Fail), None)));

    let (old_scores, new_scores) = (scores(old), scores(new));
    let categories: BTreeSet<&String> = old_scores.keys().chain(new_scores.keys()).collect();
    for category in categories {
        let score = |scores: &BTreeMap<String, f64>| scores.get(category).copied().unwrap_or(0.0);
        let (old, new) = (score(&old_scores), score(&new_scores));
        // Fractional points added up in another order differ in the last digits.
        if (old - new).abs() > 1e-9 {
            let event = if new > old { EventType::Warn } else { EventType::Unwarn };
            transitions.push(Transition::Score { event, category: category.clone(), old, new });
        }
    }
    transitions
}

fn rule_transition(
    event: EventType,
    result: &RuleResult,
    old: Option<Status>,
    new: Option<Status>,
) -> Transition {
    Transition::Rule {
        event,
        id: result.id.clone(),
        category: result.category.clone(),
        severity: result.severity,
        old,
        new,
        values: result.values.clone(),
    }
}

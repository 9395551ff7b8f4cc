//! From rules and data to results and scores.

use crate::rule::{Rule, Severity};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Points of a failed rule by category and severity name, where they differ from high 3, medium 2, low 1
/// (`model::config::RulesConfig::points`).
pub type Points = BTreeMap<String, BTreeMap<String, f64>>;

/// What a rule said about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    #[serde(rename = "pass")]
    Pass,
    #[serde(rename = "fail")]
    Fail,
    /// Switched off in this rule set.
    #[serde(rename = "ignore")]
    Ignore,
    /// The data do not tell.
    #[serde(rename = "NA")]
    NotApplicable,
}

impl Status {
    /// In the order in which transitions are told.
    pub const ALL: [Status; 4] = [Status::Pass, Status::Fail, Status::Ignore, Status::NotApplicable];

    /// `pass`, `fail`, `ignore` or `NA`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Ignore => "ignore",
            Self::NotApplicable => "NA",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| format!("no such rule status: {text:?}"))
    }
}

/// Result of one rule on one discovery's data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleResult {
    pub id: String,
    pub status: Status,
    pub category: String,
    pub severity: Severity,
    /// Points: 0 unless it failed.
    pub score: f64,
    /// What decided it: `$name` without the `$` → value, null where nothing was found.
    pub values: Map<String, Value>,
    /// Why it is NA or ignored, for people; empty otherwise.
    pub note: String,
}

/// The host's other documents: discovery type → `data`, for `[applies]` that look there.
pub type Documents<'a> = dyn Fn(&str) -> Option<Arc<Value>> + 'a;

/// [`evaluate_with`] where no other document is known.
pub fn evaluate(rules: &[Arc<Rule>], data: &Value, points: &Points) -> Vec<RuleResult> {
    evaluate_with(rules, data, points, &|_| None)
}

/// Runs the rules over the `data` of one discovery; results by rule id. A rule that is broken or does not apply is
/// NA, with the reason in its note; remarks (IGNORE rules of a category `comment...`) give no result.
pub fn evaluate_with(
    rules: &[Arc<Rule>],
    data: &Value,
    points: &Points,
    documents: &Documents<'_>,
) -> Vec<RuleResult> {
    let mut results: Vec<RuleResult> =
        rules.iter().filter_map(|rule| evaluate_one(rule, data, points, documents)).collect();
    results.sort_by(|a, b| a.id.cmp(&b.id));
    results
}

/// One rule; `None` for a remark.
pub fn evaluate_one(
    rule: &Rule,
    data: &Value,
    points: &Points,
    documents: &Documents<'_>,
) -> Option<RuleResult> {
    let mut result = RuleResult {
        id: rule.id.clone(),
        status: Status::NotApplicable,
        category: rule.category.clone(),
        severity: rule.severity,
        score: 0.0,
        values: Map::new(),
        note: String::new(),
    };
    if rule.is_ignored() {
        result.status = Status::Ignore;
        result.note = rule.ignored.clone().unwrap_or_else(|| rule.expression.text.clone());
        return (!rule.category.starts_with("comment")).then_some(result);
    }
    let expression = match (rule.problem(), &rule.expression.parsed) {
        (None, Ok(expression)) => expression,
        (Some(error), _) | (None, Err(error)) => {
            result.note = format!("the rule itself is wrong {error}");
            return Some(result);
        }
    };
    if let Some(reason) = why_not(rule, data, documents) {
        result.note = reason;
        return Some(result);
    }
    let evaluation = expression.evaluate(&[data]);
    match &evaluation.value {
        None => result.note = why_unknown(&evaluation),
        Some(Value::Bool(true)) => result.status = Status::Pass,
        Some(other) => {
            result.status = Status::Fail;
            result.score = points_of(points, &rule.category, rule.severity);
            if !other.is_boolean() {
                result.note = "the expression gives neither true nor false, which counts as failed".into();
            }
        }
    }
    result.values = evaluation.used.into_iter().collect();
    Some(result)
}

/// Why the rule is not judged on this host, if it is not: a document without data says why itself, otherwise the
/// rule's own `[applies]` decides.
fn why_not(rule: &Rule, data: &Value, documents: &Documents<'_>) -> Option<String> {
    if let Some(reason) = data.get("NODATA").and_then(Value::as_str) {
        return Some(shown(reason.strip_prefix("ERROR: ").unwrap_or(reason)));
    }
    let applies = rule.applies.as_ref()?;
    let expression = applies.expression.parsed.as_ref().ok()?;
    let holds = |data: &Value| expression.evaluate(&[data]).value == Some(Value::Bool(true));
    let applicable = match applies.discovery.as_deref().filter(|other| *other != rule.discovery) {
        None => holds(data),
        Some(other) => match documents(other) {
            Some(data) => holds(&data),
            None => {
                return Some(format!(
                    "not known yet: it depends on {other}, which this host has not reported"
                ));
            }
        },
    };
    (!applicable).then(|| applies.reason.clone())
}

/// Points of a failed rule. Comments are never scored; points that are negative or no number count 0.
pub fn points_of(points: &Points, category: &str, severity: Severity) -> f64 {
    if category == "comment" {
        return 0.0;
    }
    let configured = points.get(category).and_then(|by_severity| by_severity.get(severity.as_str()));
    let chosen = configured.copied().unwrap_or(match severity {
        Severity::High => 3.0,
        Severity::Medium => 2.0,
        Severity::Low => 1.0,
    });
    if chosen.is_finite() && chosen > 0.0 { chosen } else { 0.0 }
}

/// Sum of the points by category; every category that has a result is in it.
pub fn scores(results: &[RuleResult]) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for result in results {
        *sums.entry(result.category.clone()).or_insert(0.0) += result.score;
    }
    sums
}

fn why_unknown(evaluation: &crate::Evaluation) -> String {
    let missing: Vec<String> = evaluation.missing().map(shown).collect();
    if !missing.is_empty() {
        return format!("not found: {}", missing.join(", "));
    }
    let found: Vec<String> = evaluation
        .used
        .iter()
        .map(|(name, value)| format!("{} = {}", shown(name), shown(&value.to_string())))
        .collect();
    match found.is_empty() {
        true => "nothing was found that the rule could judge".into(),
        false => format!("cannot be judged: {}", found.join(", ")),
    }
}

fn shown(text: &str) -> String {
    model::text::printable(&model::text::shortened(text, 160)).into_owned()
}

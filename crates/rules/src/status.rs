//! `assimcli rules status`: the status of every rule of one file on one discovery's data, without anything else.

use crate::evaluate::{Points, Status, evaluate, scores};
use crate::rule::{Rule, RuleProblem};
use crate::rule_file;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// `{"status":{"pass":[],"fail":[],"ignore":[],"NA":[]},"scores":{CATEGORY:N}}` for the rules in `text` (a rule file in
/// either format, `file` is its name). A rule that is wrong is NA and has a problem; a file that is wrong is an error.
pub fn status_of_file(
    text: &str,
    file: &str,
    data: &Value,
    points: &Points,
) -> Result<(Value, Vec<RuleProblem>), RuleProblem> {
    let (rules, problems) = rule_file::parse_any(text, "", file)?;
    let rules: Vec<Arc<Rule>> = rules.into_iter().map(Rule::shared).collect();
    Ok((status_of_rules(&rules, data, points), problems))
}

/// The same for rules that are loaded.
pub fn status_of_rules(rules: &[Arc<Rule>], data: &Value, points: &Points) -> Value {
    let results = evaluate(rules, data, points);
    let mut lists = Map::new();
    for status in Status::ALL {
        let ids: Vec<&str> = results.iter().filter(|r| r.status == status).map(|r| r.id.as_str()).collect();
        lists.insert(status.as_str().to_string(), json!(ids));
    }
    json!({"status": lists, "scores": scores(&results)})
}

//! `score`: the triage. What is wrong, worst first, with the exact fix.

use super::groups::Choice;
use crate::client::{encoded, get};
use crate::{Context, Failure, Finding};
use model::text::{printable, shortened};
use output::{Format, Rows, color, print, text, width};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A longer value (a list of PAM lines) would fill the screen and tell nobody anything.
const MAX_VALUE_CHARS: usize = 80;

#[derive(clap::Args)]
pub struct Options {
    /// Only this host
    #[arg(long)]
    host: Option<String>,
    #[command(flatten)]
    choice: Choice,
    /// Print why each matters and how to fix it
    #[arg(long)]
    fixes: bool,
    /// At most this many rules, the worst; all of them if not said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    let filter = options.host.as_deref().map(|host| format!("&host={}", encoded(host))).unwrap_or_default();
    let failing = get(context, &format!("/v1/results?status=fail{filter}"))?;
    let mut failing = failing.as_array().cloned().unwrap_or_default();
    let chosen = options.choice.hosts(context)?;
    if let Some(chosen) = &chosen {
        failing.retain(|row| row["host"].as_str().is_some_and(|name| chosen.contains(name)));
    }
    if let Some(host) = options.host.as_deref().filter(|_| failing.is_empty()) {
        must_exist(context, host)?;
    }
    if context.format == Format::Table {
        for_people(context, options, &failing, chosen.as_ref().map(BTreeSet::len))?;
    } else {
        let columns = [
            "host",
            "rule_id",
            "score",
            "severity",
            "category",
            "title",
            "values",
            "since",
            "fix_now",
            "fix_permanently",
        ];
        let shown: Vec<Value> = failing.iter().take(at_most(options)).cloned().collect();
        let mut rows = Rows::from_objects(&columns, &Value::Array(shown));
        if context.format == Format::Script {
            rows.columns.truncate(6);
            rows.rows.iter_mut().for_each(|row| row.truncate(6));
        }
        rows.print(context.format)?;
    }
    Ok(if failing.is_empty() { Finding::Nothing } else { Finding::Something })
}

/// That nothing fails on a host means something only when there is such a host.
pub(super) fn must_exist(context: &Context, host: &str) -> Result<(), Failure> {
    let hosts = get(context, "/v1/hosts")?;
    let mut all = hosts.as_array().into_iter().flatten();
    if all.any(|row| row["designation"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(host))) {
        return Ok(());
    }
    let names = hosts.as_array().into_iter().flatten().filter_map(|row| row["designation"].as_str());
    Err(Failure::new(format!("there is no host {host:?}"))
        .hint("`assimcli hosts` lists them all.")
        .meant(host, names))
}

fn for_people(
    context: &Context,
    options: &Options,
    failing: &[Value],
    chosen: Option<usize>,
) -> Result<(), Failure> {
    let hosts = get(context, "/v1/hosts")?;
    let count = chosen.unwrap_or_else(|| hosts.as_array().map_or(0, Vec::len));
    if failing.is_empty() {
        return Ok(print(&format!("No rule fails on {count} host{}.\n", plural(count)))?);
    }
    let rules = grouped(failing);
    let mut page = summary(failing, &rules, count);
    let shown = at_most(options);
    if options.fixes {
        for rule in rules.iter().take(shown) {
            page += &with_fix(rule, color());
        }
    } else {
        for rule in rules.iter().take(shown) {
            page += &one_line(rule, color(), width().map_or(110, usize::from));
        }
        page +=
            "\n`assimcli score --fixes` tells how to mend them, `assimcli rules show ID` all about one.\n";
    }
    if let Some(more) = rules.len().checked_sub(shown).filter(|more| *more > 0) {
        page += &format!(
            "\n{more} more fail{}; without --top all are shown.\n",
            if more == 1 { "s" } else { "" }
        );
    }
    Ok(print(&page)?)
}

fn at_most(options: &Options) -> usize {
    options.top.and_then(|top| usize::try_from(top).ok()).unwrap_or(usize::MAX)
}

/// One rule with the hosts on which it fails.
struct Failing<'a> {
    row: &'a Value,
    hosts: Vec<&'a str>,
    score: f64,
}

/// Worst first: severity of the rule, then on how many hosts, then by id.
fn grouped(failing: &[Value]) -> Vec<Failing<'_>> {
    let mut by_rule: BTreeMap<&str, Failing<'_>> = BTreeMap::new();
    for row in failing {
        let id = row["rule_id"].as_str().unwrap_or("");
        let entry = by_rule.entry(id).or_insert_with(|| Failing { row, hosts: Vec::new(), score: 0.0 });
        entry.hosts.push(row["host"].as_str().unwrap_or(""));
        entry.score += row["score"].as_f64().unwrap_or(0.0);
    }
    let mut rules: Vec<_> = by_rule.into_values().collect();
    let weight = |rule: &Failing<'_>| rule.row["score"].as_f64().unwrap_or(0.0);
    rules.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(b.score.total_cmp(&a.score)));
    rules
}

fn summary(failing: &[Value], rules: &[Failing<'_>], hosts: usize) -> String {
    let mut by_category: BTreeMap<&str, f64> = BTreeMap::new();
    for row in failing {
        *by_category.entry(row["category"].as_str().unwrap_or("")).or_default() +=
            row["score"].as_f64().unwrap_or(0.0);
    }
    let scores: Vec<String> =
        by_category.iter().map(|(category, score)| format!("{category} {score}")).collect();
    format!(
        "{} rule{} fail{} on {hosts} host{}; score (0 is best): {}\n\n",
        rules.len(),
        plural(rules.len()),
        if rules.len() == 1 { "s" } else { "" },
        plural(hosts),
        scores.join(", ")
    )
}

fn heading(rule: &Failing<'_>, color: bool) -> String {
    let severity = rule.row["severity"].as_str().unwrap_or("");
    let paint = match severity {
        "high" => "\u{1b}[1;31m",
        "medium" => "\u{1b}[33m",
        _ => "\u{1b}[36m",
    };
    let shown = format!("{:<6}", severity.to_uppercase());
    if color { format!("{paint}{shown}\u{1b}[0m") } else { shown }
}

fn one_line(rule: &Failing<'_>, color: bool, width: usize) -> String {
    let rest = format!("{:<14} {}{}", field(rule, "rule_id"), field(rule, "title"), on_hosts(rule));
    format!("{} {}\n", heading(rule, color), shortened(&rest, width.saturating_sub(8).max(20)))
}

fn with_fix(rule: &Failing<'_>, color: bool) -> String {
    let mut text = format!(
        "{} {}  should be: {}{}\n",
        heading(rule, color),
        field(rule, "rule_id"),
        field(rule, "title"),
        on_hosts(rule)
    );
    let found = values(&rule.row["values"]);
    if !found.is_empty() {
        text += &format!("  found:     {found}\n");
    }
    for (label, name) in [("why", "why"), ("now", "fix_now"), ("for good", "fix_permanently")] {
        text += &block(label, rule.row[name].as_str().unwrap_or(""));
    }
    text + "\n"
}

fn on_hosts(rule: &Failing<'_>) -> String {
    match rule.hosts.as_slice() {
        [only] => format!(" ({})", printable(only)),
        [first, second] => format!(" ({}, {})", printable(first), printable(second)),
        [first, rest @ ..] => format!(" ({} and {} more hosts)", printable(first), rest.len()),
        [] => String::new(),
    }
}

fn field(rule: &Failing<'_>, name: &str) -> String {
    printable(&text(&rule.row[name])).into_owned()
}

/// `net.ipv4.conf.all.log_martians = 0`
fn values(used: &Value) -> String {
    let all = used.as_object().into_iter().flatten();
    let shown: Vec<String> = all
        .take(6)
        .map(|(name, value)| {
            let value = if value.is_null() { "(not set)".into() } else { text(value) };
            format!("{} = {}", name.trim_start_matches('$'), shortened(&value, MAX_VALUE_CHARS))
        })
        .collect();
    printable(&shortened(&shown.join(", "), 300)).into_owned()
}

/// A text with its label in front and its lines indented below each other.
fn block(label: &str, body: &str) -> String {
    let mut lines = body.lines();
    let Some(first) = lines.next() else { return String::new() };
    let rest: String = lines.map(|line| format!("             {}\n", printable(line))).collect();
    format!("  {:<10} {}\n{rest}", format!("{label}:"), printable(first.trim_start()))
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(host: &str, id: &str, severity: &str, score: f64) -> Value {
        json!({"host": host, "rule_id": id, "severity": severity, "score": score, "category": "security", "title": "T",
            "values": {"$a.b": 0, "$c": null}, "why": "w", "fix_now": "do it:\n  command", "fix_permanently": "f"})
    }

    #[test]
    fn worst_rule_first_and_hosts_together() {
        let rows = [
            row("a", "low1", "low", 1.0),
            row("a", "high1", "high", 3.0),
            row("b", "low1", "low", 1.0),
            row("b", "low0", "low", 1.0),
        ];
        let order: Vec<&str> = grouped(&rows).iter().map(|r| r.row["rule_id"].as_str().unwrap()).collect();
        assert_eq!(order, ["high1", "low1", "low0"]);
        assert!(
            summary(&rows, &grouped(&rows), 2)
                .starts_with("3 rules fail on 2 hosts; score (0 is best): security 6")
        );
    }

    #[test]
    fn a_rule_with_its_fix() {
        let rows = [row("web1\u{1b}", "x", "high", 3.0)];
        let text = with_fix(&grouped(&rows)[0], false);
        assert!(text.contains("found:     a.b = 0, c = (not set)"), "{text}");
        assert!(text.contains("  now:       do it:\n               command\n"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn long_values_are_cut_one_by_one() {
        let found = values(&json!({"$a": "x".repeat(500), "$b": 1}));
        assert_eq!(found, format!("a = {}…, b = 1", "x".repeat(79)));
    }
}

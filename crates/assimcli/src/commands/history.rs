//! `history`: what a host looked like at a past time, or what changed on it since.

use super::moment;
use crate::client::{encoded, get};
use crate::{Context, Failure, Finding};
use model::Timestamp;
use output::{Rows, note, text};
use serde_json::{Value, json};

#[derive(clap::Args)]
#[command(after_help = "\
TIME is 2026-11-23, \"2026-11-23 14:00\" (in your own time zone), RFC 3339, or 90s, 15m, 2h, 7d ago.

Without --at and --since: what changed in the last 24 hours. A host that was removed keeps its history.

Examples:
  assimcli history web1                        the time line of the last day
  assimcli history web1 --since 7d             of the last week
  assimcli history web1 --since 2h --diff      with every fact that came, went or changed
  assimcli history web1 --at \"2026-11-23 14:00\"         its documents at that time, and which of them are still the same
  assimcli history web1 --at 2h --diff         what differs between two hours ago and now")]
pub struct Options {
    /// The host
    host: String,
    /// Its documents at this time
    #[arg(long, value_name = "TIME", conflicts_with = "since")]
    at: Option<String>,
    /// What changed since this time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// One row for each fact that came, went or changed
    #[arg(long)]
    diff: bool,
    /// At most this many changes, the newest
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

const DEFAULT_SINCE: &str = "1d";

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    let now = Timestamp::now();
    let host = encoded(&options.host);
    let facts = options.diff;
    if let Some(at) = &options.at {
        let at = moment::read("--at", at, now)?;
        let path = format!("/v1/timeline?host={host}&at={}&facts={facts}", encoded(&at.to_utc_text()));
        let answer = get(context, &path)?;
        let rows = if options.diff { then_facts(&answer) } else { then(&answer) };
        rows.print(context.format)?;
        if rows.rows.is_empty() && !options.diff {
            note!("{} had no documents at that time.", options.host);
        }
        return Ok(Finding::Nothing);
    }
    let since = moment::read("--since", options.since.as_deref().unwrap_or(DEFAULT_SINCE), now)?;
    let path = format!(
        "/v1/timeline?host={host}&since={}&facts={facts}&rows={}",
        encoded(&since.to_utc_text()),
        options.limit
    );
    let answer = get(context, &path)?;
    let rows = if options.diff { change_facts(&answer) } else { changes(&answer) };
    rows.print(context.format)?;
    if answer["changes"].as_array().is_none_or(Vec::is_empty) {
        note!("Nothing changed on {} since {}.", options.host, since.to_local_text());
    }
    if answer["is_cut"] == true {
        note!("There is more; --limit N or a later --since shows the rest.");
    }
    Ok(Finding::Nothing)
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value[name].as_array().into_iter().flatten()
}

fn then(answer: &Value) -> Rows {
    Rows::from_objects(&["instance", "discovertype", "since", "until", "now"], &answer["documents"])
}

/// One row for each fact in which a document of then differs from the present.
fn then_facts(answer: &Value) -> Rows {
    let mut rows = Rows::new(&["instance", "change", "path", "then", "now"]);
    for document in list(answer, "documents") {
        let instance = &document["instance"];
        if document["now"] == "gone" || document["now"] == "new" {
            rows.rows.push(vec![
                instance.clone(),
                document["now"].clone(),
                json!(""),
                Value::Null,
                Value::Null,
            ]);
        }
        for (change, path, old, new) in facts(&document["difference"]) {
            rows.rows.push(vec![instance.clone(), change, path, old, new]);
        }
    }
    rows
}

fn changes(answer: &Value) -> Rows {
    Rows::from_objects(&["time", "kind", "what", "detail"], &answer["changes"])
}

/// One row for each fact of a changed document, and one for each other change.
fn change_facts(answer: &Value) -> Rows {
    let mut rows = Rows::new(&["time", "kind", "what", "change", "path", "old", "new"]);
    for change in list(answer, "changes") {
        let head = [&change["time"], &change["kind"], &change["what"]].map(Value::clone);
        let facts: Vec<_> = facts(&change["difference"]).collect();
        if facts.is_empty() {
            let mut row = head.to_vec();
            row.extend([change["detail"].clone(), json!(""), Value::Null, Value::Null]);
            rows.rows.push(row);
        }
        for (kind, path, old, new) in facts {
            let mut row = head.to_vec();
            row.extend([kind, path, old, new]);
            rows.rows.push(row);
        }
    }
    rows
}

/// Change, path, old and new value of each fact; the last counts those that were left out.
fn facts(difference: &Value) -> impl Iterator<Item = (Value, Value, Value, Value)> + '_ {
    let all = list(difference, "facts")
        .map(|fact| (fact["change"].clone(), fact["path"].clone(), fact["old"].clone(), fact["new"].clone()));
    let more = difference["more"].as_u64().filter(|more| *more > 0);
    all.chain(more.map(|more| {
        (json!("more"), json!(format!("{} more facts", text(&json!(more)))), Value::Null, Value::Null)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_for_each_fact_and_for_what_has_none() {
        let answer = json!({"changes": [
            {"time": "2026-11-23T14:00:00Z", "kind": "document", "what": "_init_sshd", "detail": "x",
             "difference": {"facts": [{"path": "PermitRootLogin", "change": "changed", "old": "no", "new": "yes\u{1b}[2J"}], "more": 3}},
            {"time": "2026-11-23T13:00:00Z", "kind": "event", "what": "down", "detail": "is down: HBDEAD", "difference": null}]});
        let rows = change_facts(&answer).rows;
        let told: Vec<String> =
            rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join("|")).collect();
        assert_eq!(
            told,
            [
                "2026-11-23T14:00:00Z|document|_init_sshd|changed|PermitRootLogin|no|yes\u{1b}[2J",
                "2026-11-23T14:00:00Z|document|_init_sshd|more|3 more facts||",
                "2026-11-23T13:00:00Z|event|down|is down: HBDEAD|||",
            ]
        );
        let then = json!({"documents": [
            {"instance": "a", "now": "same", "difference": null}, {"instance": "b", "now": "gone", "difference": null},
            {"instance": "c", "now": "changed", "difference": {"facts": [{"path": "x", "change": "added", "old": null, "new": "1"}], "more": 0}}]});
        let told: Vec<String> = then_facts(&then)
            .rows
            .iter()
            .map(|row| row.iter().map(text).collect::<Vec<_>>().join("|"))
            .collect();
        assert_eq!(told, ["b|gone|||", "c|added|x||1"]);
    }
}

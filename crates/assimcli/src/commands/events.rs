//! `events`: what happened, oldest first; `--follow` waits for more.

use super::groups::Choice;
use super::moment;
use super::score::must_exist;
use crate::client::{encoded, get_within};
use crate::{Context, Failure, Finding};
use model::Timestamp;
use model::text::printable;
use output::{Format, Rows, color, print};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(clap::Args)]
pub struct Options {
    /// Keep printing events as they happen; json is then one object a line, for an array would never end
    #[arg(short, long)]
    follow: bool,
    /// Only events from this time on: 2026-11-23, "2026-11-23 14:00" (in your own time zone), RFC 3339, or 90s, 15m, 2h, 7d ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events of this host and of its services
    #[arg(long)]
    host: Option<String>,
    #[command(flatten)]
    choice: Choice,
    /// At most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    limit: u32,
}

/// Events that are looked through for those of a group: as many as the CMA gives at once.
const MAX_LOOKED_THROUGH: u32 = 20_000;
/// How long one request of `--follow` waits for an event, in seconds.
const WAIT_SECONDS: u64 = 25;

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    let since = match &options.since {
        Some(text) => Some(moment::read("--since", text, Timestamp::now())?),
        None => None,
    };
    let filter = since.map(|t| format!("&since={}", encoded(&t.to_utc_text()))).unwrap_or_default();
    // Of a group, the newest of all are looked through.
    let chosen = only(options.host.as_deref(), options.choice.hosts(context)?);
    let limit = if chosen.is_some() { MAX_LOOKED_THROUGH } else { options.limit };
    let all = get_within(
        context,
        &format!("/v1/events?limit={limit}&newest=true{filter}"),
        Duration::from_secs(60),
    )?;
    let mut position = last_sequence(&all).unwrap_or(0);
    let first = newest(of_hosts(all, chosen.as_ref()), options.limit);
    let format =
        if options.follow && context.format == Format::Json { Format::Jsonl } else { context.format };
    if let Some(host) = options.host.as_deref().filter(|_| first.as_array().is_some_and(Vec::is_empty)) {
        must_exist(context, host)?;
    }
    show(format, &first, true)?;
    if !options.follow {
        return Ok(Finding::Nothing);
    }
    loop {
        let path = format!("/v1/events?after={position}&wait={WAIT_SECONDS}{filter}");
        let more = get_within(context, &path, Duration::from_secs(WAIT_SECONDS + 30))?;
        position = last_sequence(&more).unwrap_or(position);
        // A host may have come into the group meanwhile.
        let chosen = only(options.host.as_deref(), options.choice.hosts_meanwhile(context)?);
        show(format, &of_hosts(more, chosen.as_ref()), false)?;
    }
}

/// Of the chosen hosts (`None`: all) this one, where one is named.
fn only(host: Option<&str>, chosen: Option<BTreeSet<String>>) -> Option<BTreeSet<String>> {
    let Some(host) = host.map(str::to_ascii_lowercase) else { return chosen };
    let is_chosen = chosen.is_none_or(|chosen| chosen.contains(&host));
    Some(is_chosen.then_some(host).into_iter().collect())
}

/// The events about these hosts.
fn of_hosts(events: Value, chosen: Option<&BTreeSet<String>>) -> Value {
    let Some(chosen) = chosen else { return events };
    let Value::Array(events) = events else { return events };
    let is_chosen = |entry: &Value| {
        entry["event"]["associatedobject"]["designation"].as_str().is_some_and(|name| chosen.contains(name))
    };
    Value::Array(events.into_iter().filter(is_chosen).collect())
}

fn newest(events: Value, limit: u32) -> Value {
    let Value::Array(mut events) = events else { return events };
    let more = events.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    events.drain(..more);
    Value::Array(events)
}

fn last_sequence(events: &Value) -> Option<i64> {
    events.as_array().into_iter().flatten().filter_map(|entry| entry["sequence"].as_i64()).max()
}

fn show(format: Format, events: &Value, first: bool) -> Result<(), Failure> {
    if format == Format::Table {
        let all = events.as_array().into_iter().flatten();
        return Ok(print(&all.map(|entry| line(&entry["event"], color()) + "\n").collect::<String>())?);
    }
    let rows = rows(format, events);
    Ok(if first { rows.print(format) } else { rows.print_more(format) }?)
}

fn rows(format: Format, events: &Value) -> Rows {
    let mut rows = Rows::new(&[
        "time",
        "eventtype",
        "nodetype",
        "designation",
        "what",
        "eventid",
        "associatedobject",
        "extrainfo",
    ]);
    if format == Format::Script {
        rows.columns.truncate(6);
    }
    for entry in events.as_array().into_iter().flatten() {
        let event = &entry["event"];
        let object = &event["associatedobject"];
        let mut row = vec![
            event["time"].clone(),
            event["eventtype"].clone(),
            object["nodetype"].clone(),
            object["designation"].clone(),
            json!(what(event)),
            event["eventid"].clone(),
            object.clone(),
            event["extrainfo"].clone(),
        ];
        row.truncate(rows.columns.len());
        rows.rows.push(row);
    }
    rows
}

/// `2026-11-23 05:10:00  WARN    web1  fails security rule nist_V-38528: ...`
fn line(event: &Value, color: bool) -> String {
    let time =
        event["time"].as_str().and_then(Timestamp::parse).map(Timestamp::to_local_text).unwrap_or_default();
    let kind = event["eventtype"].as_str().unwrap_or("?");
    let paint = match kind {
        _ if !color => "",
        "warn" | "down" => "\u{1b}[31m",
        "update" if event["extrainfo"]["severity"] == "high" => "\u{1b}[31m",
        "unwarn" | "up" => "\u{1b}[32m",
        _ => "",
    };
    let reset = if paint.is_empty() { "" } else { "\u{1b}[0m" };
    let host = event["associatedobject"]["designation"].as_str().unwrap_or("");
    format!(
        "{time}  {paint}{:<7}{reset} {}  {}",
        kind.to_uppercase(),
        printable(host),
        printable(&what(event))
    )
}

/// One sentence about an event.
fn what(event: &Value) -> String {
    let (object, extra) = (&event["associatedobject"], &event["extrainfo"]);
    let field = |value: &Value| output::text(value);
    match event["eventtype"].as_str().unwrap_or("") {
        kind @ ("warn" | "unwarn") if extra["ruleid"].is_string() => {
            let verb = if kind == "warn" { "fails" } else { "no longer fails" };
            let rule = format!("{verb} {} rule {}", field(&extra["category"]), field(&extra["ruleid"]));
            match extra["title"].as_str().filter(|title| !title.is_empty()) {
                Some(title) => format!("{rule}: {title}"),
                // Of another rule set than before, which knows no title of this rule.
                None if extra["newstatus"].is_null() => format!("{rule}, which does not apply any more"),
                None => rule,
            }
        }
        "warn" | "unwarn" if !extra["oldscore"].is_null() => {
            format!(
                "{} score {} → {} ({})",
                field(&extra["category"]),
                field(&extra["oldscore"]),
                field(&extra["newscore"]),
                field(&extra["discovery_type"])
            )
        }
        // What collected or changed says it best itself.
        "warn" | "unwarn" | "update" if extra["text"].is_string() => field(&extra["text"]),
        "up" => format!("{}is up: {}", service(object), field(&object["reason"])),
        "down" => format!("{}is down: {}", service(object), field(&object["reason"])),
        // The state is in the column before.
        kind @ ("warn" | "unwarn") if !service(object).is_empty() => {
            let trouble = if kind == "warn" { "is in trouble" } else { "is no longer in trouble" };
            format!("{}{trouble}: {}", service(object), field(&object["reason"]))
        }
        kind => format!("{kind}: {}", field(&object["reason"])),
    }
}

/// `service ssh (tcp) `, with the space; empty where an event is not about a service. Without it one would read that
/// the host is down.
fn service(object: &Value) -> String {
    if object["nodetype"] != "MonitorAction" {
        return String::new();
    }
    let (name, class) = (output::text(&object["type"]), output::text(&object["class"]));
    if name.is_empty() {
        format!("service {} ", output::text(&object["monitorname"]))
    } else {
        format!("service {name} ({class}) ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_down_is_no_host_that_is_down() {
        let event = |kind: &str, nodetype: &str| {
            what(&json!({"eventtype": kind, "extrainfo": {},
                "associatedobject": {"nodetype": nodetype, "designation": "web1", "class": "tcp", "type": "ssh", "reason": "refused"}}))
        };
        assert_eq!(event("down", "MonitorAction"), "service ssh (tcp) is down: refused");
        assert_eq!(event("up", "MonitorAction"), "service ssh (tcp) is up: refused");
        assert_eq!(event("warn", "MonitorAction"), "service ssh (tcp) is in trouble: refused");
        assert_eq!(event("down", "Drone"), "is down: refused");
    }

    #[test]
    fn a_rule_that_left_the_set_has_no_empty_title() {
        let event =
            |extra: Value| what(&json!({"eventtype": "unwarn", "associatedobject": {}, "extrainfo": extra}));
        assert_eq!(
            event(json!({"ruleid": "r1", "category": "security", "title": ""})),
            "no longer fails security rule r1, which does not apply any more"
        );
        assert_eq!(
            event(json!({"ruleid": "r1", "category": "security", "title": "T", "newstatus": "pass"})),
            "no longer fails security rule r1: T"
        );
    }

    #[test]
    fn one_host_of_those_chosen() {
        let all =
            |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        assert_eq!(only(None, None), None);
        assert_eq!(only(Some("Web1"), None), Some(all(&["web1"])));
        assert_eq!(only(Some("web1"), Some(all(&["web1", "db1"]))), Some(all(&["web1"])));
        assert_eq!(only(Some("web1"), Some(all(&["db1"]))), Some(all(&[])));
    }

    #[test]
    fn changed_files_in_one_line() {
        let event = json!({"time": "2026-11-23T04:00:00Z", "eventtype": "update",
            "associatedobject": {"designation": "web1", "reason": "STARTUP"},
            "extrainfo": {"CHANGETYPE": "checksums", "severity": "high",
                "text": "1 file changed although no package did: /usr/sbin/sshd"}});
        let text = line(&event, false);
        assert!(
            text.ends_with("UPDATE  web1  1 file changed although no package did: /usr/sbin/sshd"),
            "{text}"
        );
        assert!(line(&event, true).contains("\u{1b}[31m"), "red, because nobody upgraded it");
    }

    #[test]
    fn events_of_chosen_hosts_the_newest_last() {
        let event =
            |n: i64, host: &str| json!({"sequence": n, "event": {"associatedobject": {"designation": host}}});
        let all = json!([event(1, "a"), event(2, "b"), event(3, "a"), event(4, "a")]);
        let chosen = BTreeSet::from(["a".to_owned()]);
        let shown = newest(of_hosts(all.clone(), Some(&chosen)), 2);
        let sequences: Vec<_> = shown.as_array().unwrap().iter().map(|e| e["sequence"].clone()).collect();
        assert_eq!(sequences, [3, 4]);
        assert_eq!(of_hosts(all.clone(), None), all);
    }

    #[test]
    fn a_rule_transition_in_one_line() {
        let event = json!({"time": "2026-11-23T04:00:00Z", "eventtype": "warn",
            "associatedobject": {"designation": "web1\u{1b}[2J"},
            "extrainfo": {"ruleid": "nist_V-38528", "category": "security", "title": "Martians are logged"}});
        let text = line(&event, false);
        assert!(
            text.contains("WARN    web1\\u{1b}[2J  fails security rule nist_V-38528: Martians are logged"),
            "{text}"
        );
    }
}

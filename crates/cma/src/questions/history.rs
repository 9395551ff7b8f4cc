//! What a host looked like at a past time, and what changed on it since.

use super::Stored;
use super::difference::{Difference, Fact, difference};
use model::text::shortened;
use model::{Designation, Event, EventType, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use store::{Reader, Result};

/// Facts of one difference that are kept.
pub const MAX_FACTS: usize = 200;
/// Documents whose differences are worked out for one answer, newest first: each may be megabytes.
const MAX_DIFFERENCES: usize = 200;
/// Events that are looked through for those that a host told of.
const MAX_EVENTS: usize = 20_000;
/// Facts that a line of detail shows.
const FACTS_IN_LINE: usize = 3;
const MAX_DETAIL_CHARS: usize = 300;

/// One document as it was at a past time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Then {
    pub instance: String,
    pub discovertype: String,
    /// Null for a document that came later only.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// `same`, `changed`, `gone` or `new`, compared with the present.
    pub now: &'static str,
    /// From then to now; null when it was not asked for or nothing differs.
    pub difference: Option<Difference>,
}

/// The documents of a host at `at`, each compared with the present one, and those that it has since.
pub fn then(
    reader: &mut dyn Reader,
    host: &Designation,
    at: Timestamp,
    with_facts: bool,
) -> Result<Vec<Then>> {
    let past = reader.documents_at(host, Some(at))?;
    let present = reader.documents_at(host, None)?;
    let hashes: BTreeMap<&str, _> = present.iter().map(|row| (row.instance.as_str(), row.hash)).collect();
    let mut rows = Vec::new();
    let mut differences = 0;
    for row in &past {
        let now = match hashes.get(row.instance.as_str()) {
            Some(hash) if *hash == row.hash => "same",
            Some(_) => "changed",
            None => "gone",
        };
        let mut found = None;
        if with_facts && now == "changed" && differences < MAX_DIFFERENCES {
            differences += 1;
            let old = data(reader, host, &row.instance, Some(at))?;
            let new = data(reader, host, &row.instance, None)?;
            found = Some(difference(&old, &new, MAX_FACTS));
        }
        rows.push(Then {
            instance: row.instance.clone(),
            discovertype: row.discovertype.clone(),
            since: Some(row.since),
            until: row.until,
            now,
            difference: found,
        });
    }
    let known: BTreeSet<&str> = past.iter().map(|row| row.instance.as_str()).collect();
    for row in present.iter().filter(|row| !known.contains(row.instance.as_str())) {
        rows.push(Then {
            instance: row.instance.clone(),
            discovertype: row.discovertype.clone(),
            since: None,
            until: None,
            now: "new",
            difference: None,
        });
    }
    // What differs first: most documents stay the same.
    rows.sort_by(|a, b| (a.now == "same", &a.instance).cmp(&(b.now == "same", &b.instance)));
    Ok(rows)
}

/// Something that changed on a host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub time: Timestamp,
    pub host: String,
    /// `document`, `rule` or `event`.
    pub kind: &'static str,
    /// Instance, rule id, or type of the event.
    pub what: String,
    pub detail: String,
    pub eventid: Option<String>,
    pub difference: Option<Difference>,
}

/// When changes count.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub from: Timestamp,
    pub to: Timestamp,
    /// Documents that came so much later count when the host had read them by `to`.
    pub late: std::time::Duration,
}

/// The same order in every answer: newest first.
pub fn order(a: &Change, b: &Change) -> std::cmp::Ordering {
    b.time.cmp(&a.time).then_with(|| (&a.host, a.kind, &a.what).cmp(&(&b.host, b.kind, &b.what)))
}

/// What changed on a host within a window, newest first, at most `limit`; and whether that cut something off.
pub fn changes(
    reader: &mut dyn Reader,
    host: &Designation,
    window: Window,
    limit: usize,
) -> Result<(Vec<Change>, bool)> {
    let mut all = Vec::new();
    let mut is_cut = documents(reader, host, window, limit, &mut all)?;
    is_cut |= rules(reader, host, window, limit, &mut all)?;
    is_cut |= events(reader, host, window, limit, &mut all)?;
    all.sort_by(order);
    is_cut |= all.len() > limit;
    all.truncate(limit);
    let mut differences = 0;
    for change in all.iter_mut().filter(|change| change.kind == "document" && change.detail == CHANGED) {
        differences += 1;
        if differences > MAX_DIFFERENCES {
            break;
        }
        let old = data(reader, host, &change.what, Some(Timestamp(change.time.0.saturating_sub(1))))?;
        let new = data(reader, host, &change.what, Some(change.time))?;
        let found = difference(&old, &new, MAX_FACTS);
        change.detail = in_line(&found);
        change.difference = Some(found);
    }
    Ok((all, is_cut))
}

const CHANGED: &str = "changed";

fn documents(
    reader: &mut dyn Reader,
    host: &Designation,
    window: Window,
    limit: usize,
    all: &mut Vec<Change>,
) -> Result<bool> {
    let statement = "SELECT instance, discovertype, since, until, seen FROM changes WHERE host = :host
        AND ((since >= :from AND since <= :late) OR (until >= :from AND until <= :late))
        ORDER BY since DESC LIMIT :limit";
    let parameters = [
        ("host", json!(host.as_str())),
        ("from", json!(window.from)),
        ("late", json!(window.to.plus(window.late))),
        // A change is two rows at most: what ended and what began.
        ("limit", json!(limit.saturating_mul(2).saturating_add(1))),
    ];
    let rows = Stored(reader).table(statement, &parameters)?.rows;
    let cell =
        |row: &[Value], index: usize| row.get(index).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (from, to) = (window.from.to_utc_text(), window.to.to_utc_text());
    let late = window.to.plus(window.late).to_utc_text();
    let ended: BTreeSet<(String, String)> = rows.iter().map(|row| (cell(row, 0), cell(row, 3))).collect();
    let begun: BTreeSet<(String, String)> = rows.iter().map(|row| (cell(row, 0), cell(row, 2))).collect();
    for row in &rows {
        let (instance, since, until, seen) = (cell(row, 0), cell(row, 2), cell(row, 3), cell(row, 4));
        let in_time = since >= from && (since <= to || (since <= late && seen <= to));
        if in_time && let Some(time) = Timestamp::parse(&since) {
            let is_successor = ended.contains(&(instance.clone(), since.clone()));
            let detail = if is_successor { CHANGED } else { "is reported for the first time" };
            all.push(change(host, time, "document", &instance, detail.to_owned()));
        }
        let went = !until.is_empty() && until >= from && until <= to;
        if went
            && !begun.contains(&(instance.clone(), until.clone()))
            && let Some(time) = Timestamp::parse(&until)
        {
            all.push(change(host, time, "document", &instance, "is no longer reported".to_owned()));
        }
    }
    Ok(rows.len() > limit.saturating_mul(2))
}

/// Rules that began or ceased to fail.
fn rules(
    reader: &mut dyn Reader,
    host: &Designation,
    window: Window,
    limit: usize,
    all: &mut Vec<Change>,
) -> Result<bool> {
    let statement = "SELECT rule_id, status, category, severity, since, until FROM rule_history WHERE host = :host
        AND ((since >= :from AND since <= :to) OR (until >= :from AND until <= :to)) ORDER BY since DESC LIMIT :limit";
    let parameters = [
        ("host", json!(host.as_str())),
        ("from", json!(window.from)),
        ("to", json!(window.to)),
        // Most rules do not fail: what began to pass is read too, and dropped below.
        ("limit", json!(limit.saturating_mul(20).clamp(2_000, 50_000))),
    ];
    let table = Stored(reader).table(statement, &parameters)?;
    let count = table.rows.len();
    let cell =
        |row: &[Value], index: usize| row.get(index).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut statuses: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut begun = BTreeSet::new();
    for row in &table.rows {
        statuses.insert((cell(row, 0), cell(row, 5)), cell(row, 1));
        begun.insert((cell(row, 0), cell(row, 4)));
    }
    let inside =
        |time: &str| time >= window.from.to_utc_text().as_str() && time <= window.to.to_utc_text().as_str();
    for row in &table.rows {
        let (rule, status, since, until) = (cell(row, 0), cell(row, 1), cell(row, 4), cell(row, 5));
        let about = format!("{} rule, severity {}", cell(row, 2), cell(row, 3));
        if inside(&since)
            && let Some(time) = Timestamp::parse(&since)
        {
            let before = statuses.get(&(rule.clone(), since)).map(String::as_str);
            let detail = match (before, status.as_str()) {
                (Some("fail"), "fail") | (None, "pass" | "ignore" | "NA") => None,
                (Some("fail"), now) => Some(format!("fails no longer, is {now} ({about})")),
                (Some(before), "fail") => Some(format!("fails, was {before} ({about})")),
                (None, "fail") => Some(format!("fails when first looked at ({about})")),
                _ => None,
            };
            all.extend(detail.map(|detail| change(host, time, "rule", &rule, detail)));
        }
        if status == "fail"
            && inside(&until)
            && !begun.contains(&(rule.clone(), until.clone()))
            && let Some(time) = Timestamp::parse(&until)
        {
            all.push(change(
                host,
                time,
                "rule",
                &rule,
                format!("failed, and is not asked any more ({about})"),
            ));
        }
    }
    Ok(table.truncated || count >= limit.saturating_mul(20).clamp(2_000, 50_000))
}

/// Events but those about rules, which the rules themselves tell.
fn events(
    reader: &mut dyn Reader,
    host: &Designation,
    window: Window,
    limit: usize,
    all: &mut Vec<Change>,
) -> Result<bool> {
    let statement = "SELECT event FROM events WHERE host = :host AND time >= :from AND time <= :to
        AND rule_id IS NULL AND event ->> '$.extrainfo.newscore' IS NULL ORDER BY sequence DESC LIMIT :limit";
    let parameters = [
        ("host", json!(host.as_str())),
        ("from", json!(window.from)),
        ("to", json!(window.to)),
        ("limit", json!(limit.saturating_add(1))),
    ];
    let rows = Stored(reader).table(statement, &parameters)?.rows;
    for event in rows.iter().filter_map(|row| serde_json::from_str::<Event>(row.first()?.as_str()?).ok()) {
        let mut row = change(host, event.time, "event", event.eventtype.as_str(), sentence(&event));
        row.eventid = Some(event.eventid);
        all.push(row);
    }
    Ok(rows.len() > limit)
}

/// Events about devices and addresses that one of these hosts told of, within a window; and whether there were more than
/// are read. They are about no host, so [`changes`] does not find them.
pub fn told_by(
    reader: &mut dyn Reader,
    hosts: &BTreeSet<String>,
    window: Window,
) -> Result<(Vec<Change>, bool)> {
    let all = reader.events(0, window.from, MAX_EVENTS)?;
    let is_cut = all.len() == MAX_EVENTS;
    let one = |(_, event): (i64, Event)| {
        let host = event.extrainfo.get("seen_by")?.as_str()?;
        if event.time > window.to || !hosts.contains(host) || event.designation() == host {
            return None;
        }
        let mut row = change(
            &Designation::new(host).ok()?,
            event.time,
            "event",
            event.eventtype.as_str(),
            sentence(&event),
        );
        row.eventid = Some(event.eventid);
        Some(row)
    };
    Ok((all.into_iter().filter_map(one).collect(), is_cut))
}

fn change(host: &Designation, time: Timestamp, kind: &'static str, what: &str, detail: String) -> Change {
    Change {
        time,
        host: host.to_string(),
        kind,
        what: what.to_owned(),
        detail,
        eventid: None,
        difference: None,
    }
}

/// One event in words.
pub fn sentence(event: &Event) -> String {
    let field = |map: &serde_json::Map<String, Value>, name: &str| {
        map.get(name).and_then(Value::as_str).map(str::to_owned).filter(|text| !text.is_empty())
    };
    let (object, extra) = (&event.associatedobject, &event.extrainfo);
    let about = match event.nodetype() {
        "Drone" => String::new(),
        kind => format!("{kind}: "),
    };
    let reason = field(object, "reason").unwrap_or_default();
    let text =
        field(extra, "text").or_else(|| field(extra, "comment")).unwrap_or_else(|| match event.eventtype {
            EventType::Up => format!("is up: {reason}"),
            EventType::Down => format!("is down: {reason}"),
            kind => format!("{kind}: {reason}"),
        });
    shortened(&format!("{about}{text}"), MAX_DETAIL_CHARS).into_owned()
}

/// `PermitRootLogin: no → yes; X11Forwarding added: no; 3 more`
fn in_line(found: &Difference) -> String {
    let one = |fact: &Fact| match (&fact.old, &fact.new) {
        (Some(old), Some(new)) => format!("{}: {old} → {new}", fact.path),
        (None, Some(new)) => format!("{} added: {new}", fact.path),
        (Some(old), None) => format!("{} removed: {old}", fact.path),
        (None, None) => fact.path.clone(),
    };
    let mut parts: Vec<String> =
        found.facts.iter().take(FACTS_IN_LINE).map(|fact| shortened(&one(fact), 100).into_owned()).collect();
    let rest = found.facts.len().saturating_sub(FACTS_IN_LINE) + found.more;
    if rest > 0 {
        parts.push(format!("{rest} more"));
    }
    if parts.is_empty() {
        // The envelope changed, not what is below `data`.
        return "changed, but none of its facts".to_owned();
    }
    shortened(&parts.join("; "), MAX_DETAIL_CHARS).into_owned()
}

/// What is below `data` in a document, null where there is none.
fn data(reader: &mut dyn Reader, host: &Designation, instance: &str, at: Option<Timestamp>) -> Result<Value> {
    let found = reader.document_at(host, instance, at)?;
    let envelope = found.and_then(|(_, text)| serde_json::from_str::<Value>(&text).ok());
    Ok(envelope.and_then(|mut envelope| envelope.get_mut("data").map(Value::take)).unwrap_or_default())
}

//! What changed just before an event: on its host, on the switch of the host, and on what the host depends on.
//!
//! Who depends on whom and which cable leads where is what is known now; what changed is what changed then.

use super::history::{self, Change, Window};
use super::{DRONE, PROCESS, SYSTEM, Stored, Trouble, Walker, switches};
use model::{Designation, Event, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use store::{Direction, Reader, Result};

/// Hosts whose changes are looked at.
const MAX_HOSTS: usize = 300;
/// Changes of one host.
const MAX_CHANGES: usize = 200;
/// Documents that come so much later than the event count when the host had read them before it.
const LATE: Duration = Duration::from_secs(300);
/// Shortest beginning of an event's id.
const MIN_PREFIX: usize = 6;

/// How far back and how far away.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub within: Duration,
    /// 0: the host itself; 1: what its programs use; 2: what that uses ...
    pub hops: usize,
    pub rows: usize,
}

/// A change with what its host has to do with the host of the event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub change: Change,
    /// `the host itself`, `the same switch sw1`, `nginx uses postgres there`.
    pub relation: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    pub event: Event,
    pub sequence: i64,
    pub event_text: String,
    pub from: Timestamp,
    /// Hosts that were looked at.
    pub hosts: usize,
    pub rows: Vec<Row>,
    /// Whether something was left out, by the bound of rows or of hosts.
    pub is_cut: bool,
}

/// The changes before the event that `which` names: its number, its id or the beginning of that, or `last HOST`.
pub fn before(reader: &mut dyn Reader, which: &str, bounds: Bounds) -> std::result::Result<Answer, Trouble> {
    let (sequence, event) = find(reader, which)?;
    let host = host_of(reader, &event)?;
    let related = related(reader, &host, bounds.hops)?;
    let from =
        Timestamp(event.time.0.saturating_sub(i64::try_from(bounds.within.as_micros()).unwrap_or(i64::MAX)));
    let window = Window { from, to: event.time, late: LATE };
    let mut rows = Vec::new();
    let mut is_cut = related.is_cut;
    let hosts = related.hosts.len();
    let names: BTreeSet<String> = related.hosts.keys().cloned().collect();
    for (name, relation) in &related.hosts {
        let Ok(designation) = Designation::new(name) else { continue };
        let (found, cut) = history::changes(reader, &designation, window, MAX_CHANGES)?;
        is_cut |= cut;
        let concerns = |change: &Change| match relation {
            // Of the other hosts at the switch only what they say about it.
            Relation::SameSwitch(_) => change.kind == "document" && change.what.starts_with(SWITCH_INSTANCE),
            _ => change.eventid.as_ref() != Some(&event.eventid),
        };
        let text = relation.text();
        rows.extend(found.into_iter().filter(concerns).map(|change| Row { change, relation: text.clone() }));
    }
    let (found, cut) = history::told_by(reader, &names, window)?;
    is_cut |= cut;
    for change in found.into_iter().filter(|change| change.eventid.as_ref() != Some(&event.eventid)) {
        let relation = match related.hosts.get(&change.host) {
            // Neighbours of a host elsewhere at the switch are its own business, the switch itself is not.
            Some(Relation::SameSwitch(_)) if !change.detail.starts_with(SYSTEM) => continue,
            Some(relation) => relation.text(),
            None => continue,
        };
        rows.push(Row { change, relation });
    }
    rows.sort_by(|a, b| history::order(&a.change, &b.change));
    is_cut |= rows.len() > bounds.rows;
    rows.truncate(bounds.rows);
    let event_text = history::sentence(&event);
    Ok(Answer { event, sequence, event_text, from, hosts, rows, is_cut })
}

const SWITCH_INSTANCE: &str = "#SWITCH_";

enum Relation {
    Itself,
    Uses(String),
    SameSwitch(String),
}

impl Relation {
    fn text(&self) -> String {
        match self {
            Self::Itself => "the host itself".to_owned(),
            Self::Uses(text) => text.clone(),
            Self::SameSwitch(switch) => format!("the same switch {switch}"),
        }
    }
}

struct Related {
    hosts: BTreeMap<String, Relation>,
    is_cut: bool,
}

/// The host itself, what it depends on, and who is at the same switch.
fn related(reader: &mut dyn Reader, host: &Designation, hops: usize) -> Result<Related> {
    let mut stored = Stored(reader);
    let mut walker = Walker::new(&mut stored);
    let mut hosts = BTreeMap::from([(host.to_string(), Relation::Itself)]);
    let mut is_cut = false;
    let Some(own) = walker.graph().find(Some(DRONE), host.as_str())?.pop() else {
        return Ok(Related { hosts, is_cut });
    };
    let mut level = vec![own.id];
    for _ in 0..hops {
        let processes: Vec<i64> = walker.processes(&level)?.into_iter().collect();
        let uses = walker.edges(&processes, Direction::Out, &["tcpclient"])?;
        let users: BTreeMap<i64, i64> = uses.iter().map(|edge| (edge.target, edge.source)).collect();
        let ports: Vec<i64> = users.keys().copied().collect();
        let offers = walker.edges(&ports, Direction::In, &["tcpservice"])?;
        walker.load(offers.iter().map(|edge| edge.source))?;
        let mut next = BTreeSet::new();
        for edge in offers {
            if hosts.contains_key(&edge.host) || !walker.is(edge.source, PROCESS) {
                continue;
            }
            if hosts.len() >= MAX_HOSTS {
                is_cut = true;
                break;
            }
            let Some(user) = users.get(&edge.target).and_then(|id| walker.node(*id)) else { continue };
            let text = format!(
                "{} of {} uses {} there",
                super::program(user),
                super::host_of(user),
                walker.label(edge.source)
            );
            hosts.insert(edge.host.clone(), Relation::Uses(text));
            next.insert(edge.host);
        }
        level.clear();
        for name in next {
            level.extend(walker.graph().find(Some(DRONE), &name)?.iter().map(|node| node.id));
        }
        if level.is_empty() {
            break;
        }
    }
    let own_cables = switches::of_hosts(&mut walker, &[own.id])?;
    let devices: Vec<i64> =
        own_cables.iter().map(|cable| cable.switch).collect::<BTreeSet<_>>().into_iter().collect();
    for cable in switches::of_switches(&mut walker, &devices)? {
        let Some(name) = walker.node(cable.host).map(|node| node.key.clone()) else { continue };
        if hosts.contains_key(&name) {
            continue;
        }
        if hosts.len() >= MAX_HOSTS {
            is_cut = true;
            break;
        }
        hosts.insert(name, Relation::SameSwitch(walker.label(cable.switch)));
    }
    Ok(Related { hosts, is_cut })
}

/// The event that somebody names.
pub fn find(reader: &mut dyn Reader, which: &str) -> std::result::Result<(i64, Event), Trouble> {
    let which = which.trim();
    let mut words = which.split_whitespace();
    let (statement, parameter) = match (words.next(), words.next(), words.next()) {
        (Some("last"), Some(host), None) => {
            let host = Designation::new(host).map_err(|error| no_event(error.to_string()))?;
            (
                "SELECT sequence, event FROM events WHERE host = :x ORDER BY sequence DESC LIMIT 1",
                json!(host.as_str()),
            )
        }
        // Ids are hexadecimal and begin with a 0 for centuries; sequences do not.
        (Some(word), None, None)
            if word.len() < 16 && word.bytes().all(|b| b.is_ascii_digit()) && !word.starts_with('0') =>
        {
            let number: i64 =
                word.parse().map_err(|_| no_event(format!("{word} is no number of an event")))?;
            ("SELECT sequence, event FROM events WHERE sequence = :x", json!(number))
        }
        (Some(word), None, None)
            if word.len() >= MIN_PREFIX && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') =>
        {
            (
                "SELECT sequence, event FROM events WHERE eventid >= :x AND eventid < :x || '~' ORDER BY sequence LIMIT 2",
                json!(word.to_ascii_lowercase()),
            )
        }
        _ => {
            return Err(no_event(format!(
                "{which:?} names no event: give its number, {MIN_PREFIX} or more letters of its id, or `last HOST`"
            )));
        }
    };
    let rows = Stored(reader).table(statement, &[("x", parameter)])?.rows;
    let read = |row: &Vec<Value>| -> Option<(i64, Event)> {
        Some((row.first()?.as_i64()?, serde_json::from_str(row.get(1)?.as_str()?).ok()?))
    };
    let mut found: Vec<(i64, Event)> = rows.iter().filter_map(read).collect();
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => Err(Trouble::Ambiguous(
            which.to_owned(),
            found.into_iter().map(|(_, event)| event.eventid).collect(),
        )),
        (None, _) => Err(no_event(format!("there is no event {which}"))),
    }
}

fn no_event(text: String) -> Trouble {
    Trouble::Unknown(text, "`assimcli -o json events` shows the ids of events".to_owned())
}

/// The host that an event is about: its object, or the host that told of a device or an address.
fn host_of(reader: &mut dyn Reader, event: &Event) -> std::result::Result<Designation, Trouble> {
    let named = ["host", "said_by", "seen_by"]
        .iter()
        .filter_map(|name| event.extrainfo.get(*name).and_then(Value::as_str))
        .chain([event.designation()]);
    let candidates: Vec<Designation> = named.filter_map(|name| Designation::new(name).ok()).collect();
    let own = Designation::new(event.designation()).ok();
    for candidate in own.iter().chain(&candidates) {
        if !reader.graph_find(Some(DRONE), candidate.as_str())?.is_empty() {
            return Ok(candidate.clone());
        }
    }
    // A host that was removed keeps its history.
    candidates.into_iter().next_back().ok_or_else(|| {
        Trouble::Unknown(
            format!("the event is about {:?}, which is no host", event.designation()),
            "changes are looked for on hosts".to_owned(),
        )
    })
}

//! What nobody looks at: machines without a nanoprobe, services without a monitor, discoveries that fail, rules that were
//! never judged, hosts that say nothing.

use super::path::{Segment, masked, subnet_of};
use super::{
    ADDRESS, Graph, LINK, NIC, PROCESS, SERVICE, Stored, Walker, counted, host_of, label, network_of, program,
};
use model::coverage::GAPS;
use model::{Designation, Timestamp};
use rules::{EffectiveSet, OperatingSystem};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use store::{Direction, HostRow, Reader, Result, StoreError};

/// Addresses that are looked at.
const MAX_ADDRESSES: usize = 200_000;
/// Hosts of one statement.
const CHUNK: usize = 200;
/// Rows of one kind of gap; further ones are counted.
const MAX_OF_A_KIND: usize = 500;
/// How the errors of a discovery end whose file does not exist.
const NO_SUCH_FILE: &str = "no such file or directory";
/// Names in one line.
const MAX_NAMES: usize = 3;
/// Who registered has so long to deliver a first document.
const FIRST_REPORT: Duration = Duration::from_secs(600);
/// The same for discoveries that read whole disks: the latest start of the first run, and as much to run.
const FIRST_LONG_REPORT: Duration = Duration::from_secs(3600);

/// Something that is not looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    /// `dead host`, `key mismatch`, `no reports`, `no nanoprobe`, `service unmonitored`, `discovery failing`,
    /// `report refused`, `discovery missing` or `rule not judged`.
    pub gap: &'static str,
    /// The host, or the network of an address.
    pub place: String,
    pub what: String,
    /// Null where nothing tells.
    pub since: Option<String>,
    pub todo: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coverage {
    pub hosts: usize,
    /// How many gaps of each kind, all of them counted.
    pub counts: Vec<(&'static str, usize)>,
    pub gaps: Vec<Gap>,
    /// Addresses in the Internet that hosts use: not expected to have a nanoprobe.
    pub outside: usize,
    /// What could not be looked at, and why.
    pub incomplete: Vec<String>,
    pub summary: String,
}

/// The rules that count for a host with its operating system.
pub type RulesOf<'f> = &'f dyn Fn(&HostRow, Option<&OperatingSystem>) -> Option<Arc<EffectiveSet>>;

/// All gaps; `is_late` tells when to stop looking.
pub fn coverage(
    reader: &mut dyn Reader,
    rules_of: RulesOf<'_>,
    now: Timestamp,
    is_late: &mut dyn FnMut() -> bool,
) -> Result<Coverage> {
    let mut found = Found { by_kind: BTreeMap::new(), incomplete: Vec::new() };
    let hosts = reader.hosts()?;
    let with_documents = documents(reader, rules_of, &hosts, now, &mut found, is_late)?;
    registered(&hosts, &with_documents, now, &mut found);
    let (gaps, outside) = without_nanoprobe(&mut Stored(reader))?;
    for gap in gaps {
        found.push(gap);
    }
    unmonitored(reader, &mut found)?;
    refused(reader, &mut found)?;
    not_judged(reader, &mut found)?;
    let counts: Vec<(&'static str, usize)> =
        GAPS.iter().filter_map(|kind| Some((*kind, found.by_kind.get(kind)?.0))).collect();
    let gaps = GAPS.iter().filter_map(|kind| found.by_kind.remove(kind)).flat_map(|(_, gaps)| gaps).collect();
    let listed: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let summary = if listed.is_empty() {
        format!("{}: no gaps are known.", counted(hosts.len(), "host"))
    } else {
        format!("{}; gaps: {}.", counted(hosts.len(), "host"), listed.join(", "))
    };
    Ok(Coverage { hosts: hosts.len(), counts, gaps, outside, incomplete: found.incomplete, summary })
}

struct Found {
    /// How many, and those that are told.
    by_kind: BTreeMap<&'static str, (usize, Vec<Gap>)>,
    incomplete: Vec<String>,
}

impl Found {
    fn push(&mut self, gap: Gap) {
        let (count, told) = self.by_kind.entry(gap.gap).or_default();
        *count += 1;
        if told.len() < MAX_OF_A_KIND {
            told.push(gap);
        }
    }

    /// Rows of a statement; one that is too slow is told and gives none.
    fn rows(
        &mut self,
        reader: &mut dyn Reader,
        about: &str,
        statement: &str,
        parameters: &[(&str, Value)],
    ) -> Result<Vec<Vec<Value>>> {
        match Stored(reader).table(statement, parameters) {
            Ok(table) => {
                if table.truncated {
                    self.incomplete.push(format!("{about}: there are more than were read"));
                }
                Ok(table.rows)
            }
            Err(StoreError::Limit(what)) => {
                self.incomplete.push(format!("{about}: stopped after {what}"));
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}

fn registered(hosts: &[HostRow], reporting: &BTreeSet<String>, now: Timestamp, found: &mut Found) {
    for host in hosts {
        let name = host.designation.to_string();
        if host.status != "up" {
            found.push(Gap {
                gap: "dead host",
                place: name.clone(),
                what: format!("is {}: {}", host.status, host.reason),
                since: Some(host.status_since.to_utc_text()),
                todo: format!(
                    "start it and its nanoprobe; if it is gone for good: assimcli hosts remove {name}"
                ),
            });
        } else if !reporting.contains(&name) && now.since(host.first_seen) >= FIRST_REPORT {
            found.push(Gap {
                gap: "no reports",
                place: name.clone(),
                what: "is up and has never reported anything".to_owned(),
                since: Some(host.first_seen.to_utc_text()),
                todo: "look at the log of its nanoprobe".to_owned(),
            });
        }
        if let Some((key, at)) = host.rejected_key {
            found.push(Gap {
                gap: "key mismatch",
                place: name.clone(),
                what: format!("another key wants to be this host: {}", key.fingerprint()),
                since: Some(at.to_utc_text()),
                todo: format!("if it was re-installed: assimcli hosts accept-key {name}"),
            });
        }
    }
}

/// Addresses that are seen or used and that no host and no device owns; and how many of them are out in the Internet.
pub fn without_nanoprobe(graph: &mut dyn Graph) -> Result<(Vec<Gap>, usize)> {
    let mut walker = Walker::new(graph);
    let addresses = walker.graph().of_kind(ADDRESS, MAX_ADDRESSES)?;
    let addresses: Vec<_> = addresses.into_iter().filter(|node| node.key.starts_with('@')).collect();
    let ids: Vec<i64> = addresses.iter().map(|node| node.id).collect();
    let edges = walker.graph().edges(&ids, Direction::In, &["ipowner"])?;
    walker.load(edges.iter().map(|edge| edge.source))?;
    let mut owned = BTreeSet::new();
    let mut links: HashMap<i64, i64> = HashMap::new();
    let mut seen: BTreeMap<i64, (BTreeSet<String>, Timestamp)> = BTreeMap::new();
    for edge in &edges {
        if walker.is(edge.source, NIC) {
            owned.insert(edge.target);
        } else if walker.is(edge.source, LINK) {
            links.insert(edge.target, edge.source);
            let entry = seen.entry(edge.target).or_insert_with(|| (BTreeSet::new(), edge.since));
            entry.0.insert(edge.host.clone());
            entry.1 = entry.1.min(edge.since);
        }
    }
    // Most services are at addresses that have an owner, and are not asked for.
    let unowned: Vec<i64> = ids.into_iter().filter(|id| !owned.contains(id)).collect();
    let mut ports: HashMap<i64, Vec<i64>> = HashMap::new();
    let based = walker.edges(&unowned, Direction::In, &["baseip"])?;
    walker.load(based.iter().map(|edge| edge.source))?;
    for edge in based {
        let of_node = ports.entry(edge.target).or_default();
        if walker.is(edge.source, SERVICE) && !of_node.contains(&edge.source) {
            of_node.push(edge.source);
        }
    }
    // The link-layer address of an interface that is known: a further address of a host that has a nanoprobe.
    let all_links: Vec<i64> = links.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let of_nics = walker.edges(&all_links, Direction::In, &["linkaddr"])?;
    let known_links: BTreeSet<i64> = of_nics.iter().map(|edge| edge.target).collect();
    let subnets: BTreeSet<Segment> =
        addresses.iter().filter(|node| owned.contains(&node.id)).filter_map(subnet_of).collect();
    let all_ports: Vec<i64> = ports.values().flatten().copied().collect();
    let mut users: HashMap<i64, Vec<(i64, Timestamp)>> = HashMap::new();
    let mut offered = BTreeSet::new();
    let uses = walker.graph().edges(&all_ports, Direction::In, &["tcpclient", "tcpservice"])?;
    for edge in &uses {
        if edge.kind == "tcpservice" {
            offered.insert(edge.target);
        } else {
            users.entry(edge.target).or_default().push((edge.source, edge.since));
        }
    }
    walker.load(uses.iter().map(|edge| edge.source))?;
    let mut gaps = Vec::new();
    let mut outside = 0;
    for node in &addresses {
        let link = links.get(&node.id);
        let of_node = ports.get(&node.id).map_or(&[][..], Vec::as_slice);
        let is_known = owned.contains(&node.id)
            || link.is_some_and(|link| known_links.contains(link))
            // Somebody with a nanoprobe listens there: an address that moves between hosts.
            || of_node.iter().any(|port| offered.contains(port));
        let Some(ip) = super::text(node, "ipaddr").and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
        if is_known || is_of_no_machine(ip) {
            continue;
        }
        if !seen.contains_key(&node.id) && !is_ours(ip, network_of(&node.key), &subnets) {
            outside += 1;
            continue;
        }
        let mut what = label(node);
        what += &link.map(|link| format!(", {}", walker.label(*link))).unwrap_or_default();
        let mut since = None;
        if let Some((hosts, first)) = seen.get(&node.id) {
            what += &format!(", seen by {}", some(hosts.iter().cloned()));
            since = Some(*first);
        }
        let all: Vec<(i64, Timestamp)> =
            of_node.iter().filter_map(|port| users.get(port)).flatten().copied().collect();
        let names: BTreeSet<String> = all
            .iter()
            .filter_map(|(id, _)| walker.node(*id).filter(|node| node.kind == PROCESS))
            .map(|node| format!("{} of {}", program(node), host_of(node)))
            .collect();
        if !names.is_empty() {
            let services: BTreeSet<String> = of_node.iter().map(|port| walker.label(*port)).collect();
            what += &format!(", {} used by {}", some(services.into_iter()), some(names.into_iter()));
            since = since.into_iter().chain(all.iter().map(|(_, since)| *since)).min();
        }
        if since.is_none() {
            continue;
        }
        gaps.push(Gap {
            gap: "no nanoprobe",
            place: format!("network {}", network_of(&node.key)),
            what,
            since: since.map(Timestamp::to_utc_text),
            todo: "install a nanoprobe there, or find out what it is".to_owned(),
        });
    }
    Ok((gaps, outside))
}

fn is_of_no_machine(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_unspecified()
        }
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified()
        }
    }
}

/// In a subnet that a host has an interface in, or an address that is routed inside of sites only (RFC 1918, RFC 4193).
fn is_ours(ip: IpAddr, network: &str, subnets: &BTreeSet<Segment>) -> bool {
    let is_private = match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    };
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    is_private
        || (1..bits).any(|length| {
            masked(ip, length)
                .is_some_and(|first| subnets.contains(&Segment::Subnet(network.to_owned(), first, length)))
        })
}

/// Documents with errors, and discoveries that rules read and hosts never reported. Returns the hosts that have documents.
fn documents(
    reader: &mut dyn Reader,
    rules_of: RulesOf<'_>,
    hosts: &[HostRow],
    now: Timestamp,
    found: &mut Found,
    is_late: &mut dyn FnMut() -> bool,
) -> Result<BTreeSet<String>> {
    let mut reporting = BTreeSet::new();
    // Discovery → hosts without it, and how many rules read it.
    let mut missing: BTreeMap<String, (BTreeSet<String>, usize)> = BTreeMap::new();
    for (number, chunk) in hosts.chunks(CHUNK).enumerate() {
        if is_late() {
            found
                .incomplete
                .push(format!("documents: only those of the first {} hosts were looked at", number * CHUNK));
            // Of the others nothing is known, so nothing is missing.
            reporting.extend(hosts.iter().skip(number * CHUNK).map(|host| host.designation.to_string()));
            break;
        }
        let names: Vec<&str> = chunk.iter().map(|host| host.designation.as_str()).collect();
        let statement = "SELECT host, instance, discovertype FROM documents WHERE host IN (SELECT value FROM json_each(:hosts))";
        let rows = found.rows(reader, "documents", statement, &[("hosts", json!(names))])?;
        let mut types: HashMap<String, BTreeSet<String>> = HashMap::new();
        for row in &rows {
            types.entry(cell(row, 0)).or_default().extend([cell(row, 1), cell(row, 2)]);
        }
        failing(reader, &names, found)?;
        for host in chunk {
            let name = host.designation.as_str();
            let Some(known) = types.get(name) else { continue };
            reporting.insert(name.to_owned());
            let Some(set) = rules_of(host, operating_system(reader, &host.designation)?.as_ref()) else {
                continue;
            };
            let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
            for rule in set.rules().filter(|rule| !rule.is_ignored() && !known.contains(&rule.discovery)) {
                *wanted.entry(&rule.discovery).or_default() += 1;
            }
            for (discovery, count) in wanted {
                // What reads whole disks first runs up to half an hour after the start.
                let comes_late = discovery::find(discovery).is_some_and(|(kind, _)| kind.is_expensive());
                if comes_late && now.since(host.first_seen) < FIRST_LONG_REPORT {
                    continue;
                }
                let entry = missing.entry(discovery.to_owned()).or_default();
                entry.0.insert(name.to_owned());
                entry.1 = entry.1.max(count);
            }
        }
    }
    for (discovery, (hosts, rules)) in missing {
        found.push(Gap {
            gap: "discovery missing",
            place: some(hosts.iter().cloned()),
            what: format!(
                "never reported {discovery}, so {} {} no result",
                counted(rules, "rule"),
                if rules == 1 { "has" } else { "have" }
            ),
            since: None,
            todo: format!(
                "run `nanoprobe discover {discovery}` there; [discovery.agents] in cma.toml may switch it off"
            ),
        });
    }
    Ok(reporting)
}

fn failing(reader: &mut dyn Reader, hosts: &[&str], found: &mut Found) -> Result<()> {
    // Looking for the text first spares parsing all documents that have no errors.
    let statement =
        "SELECT host, instance, since, document ->> '$.errors', document ->> '$.data.NODATA' FROM documents
        WHERE host IN (SELECT value FROM json_each(:hosts)) AND instr(document, '\"errors\":[') > 0
        AND json_type(document, '$.errors') = 'array'";
    for row in found.rows(reader, "discoveries that fail", statement, &[("hosts", json!(hosts))])? {
        let errors: Vec<String> = serde_json::from_str(&cell(&row, 3)).unwrap_or_default();
        // Of what is not installed there is nothing to read: that is what the host has to say, not a failure.
        if !cell(&row, 4).is_empty() && errors.iter().all(|error| error.ends_with(NO_SUCH_FILE)) {
            continue;
        }
        let first = errors.first().map(|text| model::text::shortened(text, 200).into_owned());
        let more = match errors.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        found.push(Gap {
            gap: "discovery failing",
            place: cell(&row, 0),
            what: format!("{}: {}{more}", cell(&row, 1), first.unwrap_or_default()),
            since: Some(cell(&row, 2)),
            todo: "mend what it names; the rest of its facts is good".to_owned(),
        });
    }
    Ok(())
}

fn operating_system(reader: &mut dyn Reader, host: &Designation) -> Result<Option<OperatingSystem>> {
    let found = reader.document_at(host, "_init_os", None)?;
    let envelope = found.and_then(|(_, text)| serde_json::from_str::<Value>(&text).ok());
    Ok(envelope.and_then(|envelope| OperatingSystem::of(&envelope["data"])))
}

fn unmonitored(reader: &mut dyn Reader, found: &mut Found) -> Result<()> {
    let statement =
        "SELECT host, process, pathname, listenaddrs, why FROM unmonitored ORDER BY host, process";
    for row in found.rows(reader, "services without a monitor", statement, &[])? {
        let name = Some(cell(&row, 2)).filter(|path| !path.is_empty()).unwrap_or_else(|| cell(&row, 1));
        found.push(Gap {
            gap: "service unmonitored",
            place: cell(&row, 0),
            what: format!("{name} at {}: {}", cell(&row, 3), cell(&row, 4)),
            since: None,
            todo: "write a monitor rule for it, or one of class NEVERMON".to_owned(),
        });
    }
    Ok(())
}

/// Reports that were refused and not taken again since.
fn refused(reader: &mut dyn Reader, found: &mut Found) -> Result<()> {
    let statement = "SELECT e.host, e.event ->> '$.extrainfo.instance' AS instance, e.eventtype, e.time, e.event ->> '$.extrainfo.text',
          max(e.sequence) FROM events e JOIN hosts h ON h.host = e.host
        WHERE e.eventtype IN ('warn', 'unwarn') AND e.event ->> '$.extrainfo.reason' = 'report refused'
          AND e.time >= h.first_seen GROUP BY e.host, instance";
    for row in found.rows(reader, "refused reports", statement, &[])? {
        if cell(&row, 2) == "warn" {
            found.push(Gap {
                gap: "report refused",
                place: cell(&row, 0),
                what: cell(&row, 4),
                since: Some(cell(&row, 3)),
                todo: "update the older of nanoprobe and CMA; the log of the CMA tells more".to_owned(),
            });
        }
    }
    Ok(())
}

/// Rules that have a result, but none that judges, for want of data: one gap for each discovery that they read.
fn not_judged(reader: &mut dyn Reader, found: &mut Found) -> Result<()> {
    // Notes that tell of data that are missing; that a rule does not apply to a host is no gap.
    let statement = "SELECT instance, count(DISTINCT rule_id), count(DISTINCT host), min(host), min(rule_id || ': ' || note), min(since)
        FROM rule_results
        WHERE status = 'NA' AND (note LIKE 'not found: %' OR note LIKE 'not known yet%' OR note LIKE 'cannot be judged%'
          OR note LIKE 'nothing was found%' OR note LIKE 'the rule itself is wrong%')
        GROUP BY instance ORDER BY 2 DESC, instance";
    for row in found.rows(reader, "rules that were not judged", statement, &[])? {
        let number = |index: usize| {
            row.get(index).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(1)
        };
        let place = match number(2) {
            1 => cell(&row, 3),
            hosts => format!("{} and {} more", cell(&row, 3), hosts - 1),
        };
        let example = cell(&row, 4);
        let rule = example.split(':').next().unwrap_or_default();
        let rules = number(1);
        let verb = if rules == 1 { "has" } else { "have" };
        found.push(Gap {
            gap: "rule not judged",
            place,
            what: format!(
                "{}: {} {verb} no data to judge, such as {example}",
                cell(&row, 0),
                counted(rules, "rule")
            ),
            since: Some(cell(&row, 5)),
            todo: format!(
                "`assimcli rules show {rule}` tells what it looks at; what is not on the host needs nothing"
            ),
        });
    }
    Ok(())
}

fn cell(row: &[Value], index: usize) -> String {
    match row.get(index) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

/// The first names, and how many more.
fn some(names: impl ExactSizeIterator<Item = String>) -> String {
    let count = names.len();
    let shown = names.take(MAX_NAMES).collect::<Vec<_>>().join(", ");
    if count > MAX_NAMES { format!("{shown} and {} more", count - MAX_NAMES) } else { shown }
}

#[cfg(test)]
#[path = "coverage/tests.rs"]
mod tests;

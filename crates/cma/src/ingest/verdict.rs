//! Outages: hosts that were given up, or that come back after one.
//!
//! One outage is one event. A single host has an event of its own, which says what it offered and to whom; hosts that died
//! of the same cause (a switch, a subnet, a split network) share one, and those of them that come back together share
//! another. Everything is safe to be done twice: a host that is dead already dies no second time.

use super::events::{about_host, about_system};
use super::{Change, Context, duplicates};
use liveness::center::{Cause, Verdict};
use liveness::rings::Place;
use model::{Designation, EventType, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use store::{HostRow, Result, ServiceUse, Transaction};

/// `reason` of a host that its neighbours, or the CMA, no longer hear (contract §5).
pub const HBDEAD: &str = "HBDEAD";
/// `reason` of a host that was given up and turned out to be alive.
pub const HBBACKALIVE: &str = "HBBACKALIVE";
/// `reason` of the warning that the CMA itself is cut off.
pub const CUT_OFF: &str = "CMA cut off";
/// What the events about the CMA itself are about.
pub const CMA_NAME: &str = "the CMA";
/// Lines of an event's list of what it explains.
pub const MAX_EXPLAINED: usize = 50;

/// A host that was heard of so shortly before it was given up is not believed to be dead: its message may have been
/// under way to the database while others judged. Shorter than any silence that leads to a verdict.
const HEARD_OF: Duration = Duration::from_millis(500);
/// The setting that is not empty while the CMA is cut off.
const CUT_OFF_SETTING: &str = "cut off since";
/// The setting that names outages whose hosts came back and were not told of yet.
const TO_TELL_SETTING: &str = "outages to tell of";

/// A verdict on its way into the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub verdict: Verdict,
    /// When it was given, by the CMA's clock.
    pub decided: Timestamp,
    /// Also of hosts that were heard of just before: they were called since, and did not answer.
    pub insist: bool,
}

/// An outage of several hosts, until all are back.
#[derive(Debug, Serialize, Deserialize)]
struct Outage {
    designation: String,
    domain: String,
    verdict: String,
    hosts: Vec<Designation>,
}

/// Makes a verdict true. Returns the hosts that it does not concern because they were heard of meanwhile.
pub fn verdict(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    decision: &Decision,
) -> Result<Vec<Designation>> {
    let verdict = &decision.verdict;
    if verdict.cause == Cause::CmaCutOff {
        cut_off(tx, context, verdict)?;
        return Ok(Vec::new());
    }
    let (mut dead, mut alive) = (Vec::new(), Vec::new());
    for designation in &verdict.hosts {
        let Some(host) = tx.host(designation)? else { continue };
        if host.status == "dead" {
            continue;
        }
        if !decision.insist && host.last_seen.plus(HEARD_OF) >= decision.decided {
            alive.push(designation.clone());
        } else {
            dead.push(host);
        }
    }
    for host in &mut dead {
        host.status = "dead".into();
        host.reason = HBDEAD.into();
        host.status_since = context.now;
        tx.put_host(host)?;
        forget(tx, &host.designation)?;
        context.produced.changes.push(Change::Died(host.designation.clone()));
    }
    if !dead.is_empty() {
        duplicates::look_again(tx, context)?;
    }
    match (&verdict.cause, dead.as_slice()) {
        (_, []) => {}
        (Cause::PlaceGone(_) | Cause::Split, _) | (Cause::NanoprobeDied, [_, _, ..]) => {
            group_is_down(tx, context, verdict, &dead)?
        }
        (_, hosts) => {
            for host in hosts {
                host_is_down(tx, context, verdict, host)?;
            }
        }
    }
    Ok(alive)
}

/// Whether a host that registers belongs to an outage of several, whose return is told in one event. The caller tells
/// nothing of it then.
pub fn returns_with_others(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
) -> Result<bool> {
    let Some(outage) = tx.setting(&setting_of(host))?.filter(|outage| !outage.is_empty()) else {
        return Ok(false);
    };
    let id = outage.strip_suffix(BACK).unwrap_or(&outage).to_owned();
    tx.set_setting(&setting_of(host), &format!("{id}{BACK}"))?;
    let mut to_tell = outages_to_tell(tx)?;
    if !to_tell.contains(&id) {
        to_tell.push(id.clone());
        tx.set_setting(TO_TELL_SETTING, &to_tell.join("\n"))?;
    }
    context.produced.changes.push(Change::Back { outage: id });
    Ok(true)
}

/// Outages that hosts came back from without anybody having been told.
pub fn outages_to_tell(tx: &mut dyn Transaction) -> Result<Vec<String>> {
    let text = tx.setting(TO_TELL_SETTING)?.unwrap_or_default();
    Ok(text.lines().map(str::to_owned).collect())
}

/// Tells which hosts came back from an outage since this was last done.
pub fn back(tx: &mut dyn Transaction, context: &mut Context<'_>, id: &str) -> Result<()> {
    let to_tell: Vec<String> = outages_to_tell(tx)?.into_iter().filter(|other| other != id).collect();
    tx.set_setting(TO_TELL_SETTING, &to_tell.join("\n"))?;
    let text = tx.setting(&outage_setting(id))?.unwrap_or_default();
    let Ok(mut outage) = serde_json::from_str::<Outage>(&text) else { return Ok(()) };
    let (mut returned, mut missing) = (Vec::new(), Vec::new());
    for designation in std::mem::take(&mut outage.hosts) {
        let state = tx.setting(&setting_of(&designation))?.unwrap_or_default();
        if state == id {
            missing.push(designation);
        } else if state.strip_suffix(BACK) == Some(id) {
            forget(tx, &designation)?;
            returned.extend(tx.host(&designation)?.filter(|host| host.status == "up"));
        }
    }
    let text = match returned.as_slice() {
        [] => String::new(),
        [host] => {
            let extrainfo = json!({"software": host.software, "first": false, "restarted": false});
            let event = about_host(context, EventType::Up, host, extrainfo);
            context.emit(tx, event)?;
            format!("{} is up again", host.designation)
        }
        hosts => {
            let names: Vec<String> = hosts.iter().map(|host| host.designation.to_string()).collect();
            let explains = bounded(names, "hosts");
            let text = if missing.is_empty() {
                format!("all hosts of {} are up again", outage.designation)
            } else {
                format!("{} hosts of {} are still down", missing.len(), outage.designation)
            };
            let extrainfo = json!({
                "reason": HBBACKALIVE,
                "verdict": outage.verdict,
                "hosts": hosts.len(),
                "still_down": missing.len(),
                "explains_text": explains.join("\n"),
                "explains": explains,
                "text": text,
            });
            let object = system(&outage.designation, "up", HBBACKALIVE, &outage.domain);
            let event = about_system(context, EventType::Up, object, extrainfo);
            context.emit(tx, event)?;
            format!(
                "{}: {} hosts are up again, {} are still down",
                outage.designation,
                hosts.len(),
                missing.len()
            )
        }
    };
    if !text.is_empty() {
        context.inform(text);
    }
    outage.hosts = missing;
    let kept = if outage.hosts.is_empty() { String::new() } else { json!(outage).to_string() };
    tx.set_setting(&outage_setting(id), &kept)
}

/// A host is no longer part of an outage: it died or left on its own, or was removed.
pub fn forget(tx: &mut dyn Transaction, host: &Designation) -> Result<()> {
    if tx.setting(&setting_of(host))?.is_some_and(|outage| !outage.is_empty()) {
        tx.set_setting(&setting_of(host), "")?;
    }
    Ok(())
}

/// Whether the CMA was cut off when it last looked.
pub fn is_cut_off(tx: &mut dyn Transaction) -> Result<bool> {
    Ok(tx.setting(CUT_OFF_SETTING)?.is_some_and(|since| !since.is_empty()))
}

/// Hosts are heard again that were not while the CMA was cut off.
pub fn connected_again(tx: &mut dyn Transaction, context: &mut Context<'_>) -> Result<()> {
    if !is_cut_off(tx)? {
        return Ok(());
    }
    tx.set_setting(CUT_OFF_SETTING, "")?;
    let extrainfo = json!({"reason": CUT_OFF, "text": "hosts answer the CMA again"});
    let object = system(CMA_NAME, "up", CUT_OFF, "");
    let event = about_system(context, EventType::Unwarn, object, extrainfo);
    context.emit(tx, event)?;
    context.inform("hosts answer the CMA again".into());
    Ok(())
}

fn cut_off(tx: &mut dyn Transaction, context: &mut Context<'_>, verdict: &Verdict) -> Result<()> {
    if is_cut_off(tx)? {
        return Ok(());
    }
    tx.set_setting(CUT_OFF_SETTING, &context.now.to_string())?;
    let hosts = bounded(verdict.hosts.iter().map(ToString::to_string).collect(), "hosts");
    let text = format!(
        "{} hosts do not answer the CMA, and it cannot tell that its own network works: none of them is called dead; \
         look at the network of the CMA",
        verdict.hosts.len()
    );
    context.warn(text.clone());
    let extrainfo = json!({
        "reason": CUT_OFF,
        "verdict": CUT_OFF,
        "evidence": verdict.evidence.join("\n"),
        "hosts": verdict.hosts.len(),
        "silent_milliseconds": verdict.silent_milliseconds,
        "explains_text": hosts.join("\n"),
        "explains": hosts,
        "text": text,
    });
    let event = about_system(context, EventType::Warn, system(CMA_NAME, "up", CUT_OFF, ""), extrainfo);
    context.emit(tx, event)
}

fn host_is_down(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    verdict: &Verdict,
    host: &HostRow,
) -> Result<()> {
    let (text, explains) = if verdict.cause == Cause::NanoprobeDied {
        (
            "the host answers, its nanoprobe does not: its services are not watched until it is started again",
            vec![],
        )
    } else {
        let services = tx.services(&host.designation, MAX_EXPLAINED)?;
        ("the host answers nobody", services_and_users(&services))
    };
    let extrainfo = extrainfo(verdict, &explains, text);
    let event = about_host(context, EventType::Down, host, extrainfo);
    context.emit(tx, event)?;
    context.warn(format!(
        "{} is down: {}, {}",
        host.designation,
        name_of(&verdict.cause),
        verdict.evidence.join("; ")
    ));
    Ok(())
}

fn group_is_down(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    verdict: &Verdict,
    dead: &[HostRow],
) -> Result<()> {
    let designation = match &verdict.cause {
        Cause::PlaceGone(place) => place_name(place),
        Cause::NanoprobeDied => format!("nanoprobes of {} hosts", dead.len()),
        _ => "network split".to_owned(),
    };
    let domain = match dead {
        [first, rest @ ..] if rest.iter().all(|host| host.domain == first.domain) => first.domain.as_str(),
        _ => "",
    };
    let names = dead.iter().map(|host| host.designation.to_string()).collect();
    let text = if verdict.cause == Cause::NanoprobeDied {
        format!(
            "the nanoprobes of {} hosts died together, the hosts answer: their services are not watched until they are started again",
            dead.len()
        )
    } else {
        format!("{} hosts went silent together", dead.len())
    };
    let mut extrainfo = extrainfo(verdict, &bounded(names, "hosts"), &text);
    extrainfo["hosts"] = dead.len().into();
    let object = system(&designation, "dead", HBDEAD, domain);
    let event = about_system(context, EventType::Down, object, extrainfo);
    let outage = Outage {
        designation: designation.clone(),
        domain: domain.to_owned(),
        verdict: name_of(&verdict.cause).to_owned(),
        hosts: dead.iter().map(|host| host.designation.clone()).collect(),
    };
    tx.set_setting(&outage_setting(&event.eventid), &json!(outage).to_string())?;
    for host in dead {
        tx.set_setting(&setting_of(&host.designation), &event.eventid)?;
    }
    context.emit(tx, event)?;
    context.warn(format!(
        "{designation}: {text} ({}): {}",
        name_of(&verdict.cause),
        verdict.evidence.join("; ")
    ));
    Ok(())
}

fn extrainfo(verdict: &Verdict, explains: &[String], text: &str) -> Value {
    json!({
        "verdict": name_of(&verdict.cause),
        "evidence": verdict.evidence.join("\n"),
        "silent_milliseconds": verdict.silent_milliseconds,
        "explains": explains,
        // Scripts get scalars only.
        "explains_text": explains.join("\n"),
        "text": text,
    })
}

fn name_of(cause: &Cause) -> &'static str {
    match cause {
        Cause::HostDead => "host dead",
        Cause::NanoprobeDied => "nanoprobe died",
        Cause::PlaceGone(Place::Switch(_)) => "switch gone",
        Cause::PlaceGone(_) => "subnet gone",
        Cause::Split => "network split",
        Cause::CmaCutOff => CUT_OFF,
    }
}

fn place_name(place: &Place) -> String {
    match place {
        Place::Switch(name) => format!("switch {name}"),
        Place::Subnet(network, length) => format!("subnet {network}/{length}"),
        Place::Unknown => "hosts of no known subnet".to_owned(),
    }
}

pub(super) fn system(designation: &str, status: &str, reason: &str, domain: &str) -> Value {
    json!({
        "nodetype": "SystemNode",
        "designation": designation,
        "status": status,
        "reason": reason,
        "domain": domain,
    })
}

/// One line for each service: who offers it where, and who uses it.
fn services_and_users(rows: &[ServiceUse]) -> Vec<String> {
    let mut services: BTreeMap<(u16, &str), Vec<&str>> = BTreeMap::new();
    for row in rows {
        services.entry((row.port, row.process.as_str())).or_default().extend(row.client.as_deref());
    }
    let line = |((port, process), clients): ((u16, &str), Vec<&str>)| {
        let used =
            if clients.is_empty() { String::new() } else { format!(", used by {}", clients.join(", ")) };
        format!("service {process} on port {port}{used}")
    };
    let (used, unused): (Vec<_>, Vec<_>) = services.into_iter().partition(|(_, clients)| !clients.is_empty());
    used.into_iter().chain(unused).map(line).collect()
}

/// Not more lines than an event may have.
fn bounded(mut lines: Vec<String>, what: &str) -> Vec<String> {
    if lines.len() > MAX_EXPLAINED {
        let more = lines.len() - (MAX_EXPLAINED - 1);
        lines.truncate(MAX_EXPLAINED - 1);
        lines.push(format!("and {more} further {what}"));
    }
    lines
}

/// Behind the outage of a host that is up again and has not been told of.
const BACK: &str = " back";

fn setting_of(host: &Designation) -> String {
    format!("outage of {host}")
}

fn outage_setting(id: &str) -> String {
    format!("outage {id}")
}

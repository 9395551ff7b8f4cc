//! A host registers, says goodbye, gets a new key accepted, or is forgotten.
//!
//! The first key that registers under a designation, and that [`enrolment`] lets in, is pinned to it. Another key is refused
//! and remembered: that is how two hosts with one name, a re-installed host and an impostor become visible.

use super::enrolment::actions::forget_offer;
use super::enrolment::admission::{self, Admission};
use super::enrolment::{self, invitations, revoked};
use super::events::about_host;
use super::machines::{self, Marks, Offer, Standing};
use super::{Change, Context, Sender, duplicates, links, places, report, surroundings, verdict};
use crate::groups::membership::newcomer;
use model::message::{Configure, Listen, PROTOCOL_VERSION, Refused, RefusedReason, Register, Welcome};
use model::text::{printable, shortened};
use model::{Designation, DocumentHash, EventType, PublicKey, Timestamp};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use store::{HostRow, Result, Transaction};

/// `reason` in events about a host that offers another key than the pinned one.
pub const KEY_MISMATCH: &str = "key mismatch";

/// The same where the hardware is the host's: most likely it was installed anew.
pub const REINSTALLED: &str = "re-installed";

/// A third, fourth ... key under one designation is news only so long after the one before.
const ANOTHER_MISMATCH_AFTER: Duration = Duration::from_secs(60);

/// Interfaces of a host that listening is spoken of, and characters of their names.
const MAX_INTERFACES: usize = 256;
const MAX_INTERFACE_NAME: usize = 64;

/// Answer to a registration.
#[derive(Debug, Clone, PartialEq)]
pub enum Registration {
    Welcome { sender: Sender, welcome: Welcome, config: DocumentHash },
    Refused(Refused),
}

/// A registration as it came in.
#[derive(Debug, Clone)]
pub struct Applicant {
    /// The key it proved to hold.
    pub key: PublicKey,
    pub remote: SocketAddr,
    /// The host this key is already pinned to, if any.
    pub pinned_to: Option<Designation>,
    pub message: Register,
}

/// Admits a host, or says why not. `cma_started` goes into the welcome.
pub fn register(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    applicant: &Applicant,
    cma_started: Timestamp,
) -> Result<Registration> {
    let message = &applicant.message;
    if message.protocol != PROTOCOL_VERSION {
        let text = format!(
            "this CMA speaks protocol {PROTOCOL_VERSION}, not {}; install the same version on both sides",
            message.protocol
        );
        return Ok(refused(RefusedReason::Protocol, text));
    }
    let designation = match Designation::new(&message.designation) {
        Ok(designation) => designation,
        Err(error) => {
            return Ok(refused(RefusedReason::Designation, format!("{error}; choose another with --name")));
        }
    };
    if let Some(text) = revoked::refusal(tx, context, applicant, &designation)? {
        return Ok(refused(enrolment::reason_for(applicant, RefusedReason::Revoked), text));
    }
    if let Some(other) = applicant.pinned_to.as_ref().filter(|other| **other != designation) {
        let text = format!(
            "the key {} belongs to host {other}: give {designation} a key of its own (remove {other}@@* from its crypto.d), \
             or run `assimcli hosts remove {other}` on the CMA if it was renamed",
            applicant.key.fingerprint()
        );
        return Ok(refused(RefusedReason::Designation, text));
    }
    let known = tx.host(&designation)?;
    if let Some(host) = &known
        && host.key != applicant.key
    {
        return mismatch(tx, context, host, applicant);
    }
    let mut tags = Vec::new();
    if let Some(host) = &known {
        if let Some(text) = machines::refusal(tx, context, host, sight(context, applicant))? {
            return Ok(refused(RefusedReason::KeyMismatch, text));
        }
    } else {
        match admission::decide(tx, context, &designation, applicant)? {
            Admission::Refused(reason, text) => {
                return Ok(refused(enrolment::reason_for(applicant, reason), text));
            }
            Admission::Granted { tags: given, how } => {
                context.inform(format!("{designation} is enrolled {how}"));
                tags = given;
            }
        }
    }
    // Before it is admitted: its domain may follow from them.
    if !tags.is_empty() {
        tx.set_tags(&designation, &tags)?;
    }
    let host = admit(tx, context, &designation, known, applicant)?;
    welcome(tx, context, &host, applicant, cma_started)
}

fn refused(reason: RefusedReason, text: String) -> Registration {
    Registration::Refused(Refused { reason, text: printable(&text).into_owned() })
}

fn sight(context: &Context<'_>, applicant: &Applicant) -> machines::Sight {
    let message = &applicant.message;
    machines::sight(message, &reachable_at(applicant.remote, message.port).to_string(), context.now)
}

/// Another key than the pinned one.
fn mismatch(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    applicant: &Applicant,
) -> Result<Registration> {
    let name = &host.designation;
    let fingerprint = applicant.key.fingerprint();
    let mut standing = Standing::of(tx, name)?;
    let marks = Marks::of(applicant.message.machine);
    let pinned_marks = standing.current.as_ref().map(|sight| sight.marks.clone()).unwrap_or_default();
    let offer = Offer {
        address: reachable_at(applicant.remote, applicant.message.port).to_string(),
        is_reinstalled: marks.is_hardware_of(&pinned_marks),
        marks,
    };
    let is_same_key = host.rejected_key.is_some_and(|(key, _)| key == applicant.key);
    // Once per key; and an attacker who makes up keys gets one event a minute, not one per attempt.
    let is_news = !is_same_key
        && host.rejected_key.is_none_or(|(_, at)| context.now.since(at) >= ANOTHER_MISMATCH_AFTER);
    if (is_same_key || is_news) && standing.offer.as_ref() != Some(&offer) {
        standing.offer = Some(offer.clone());
        standing.keep(tx, name)?;
    }
    if is_news {
        tx.put_host(&HostRow { rejected_key: Some((applicant.key, context.now)), ..host.clone() })?;
        let reason = if offer.is_reinstalled { REINSTALLED } else { KEY_MISMATCH };
        let what = if offer.is_reinstalled {
            "the hardware is that of the host, so it was most likely installed anew".to_owned()
        } else if offer.marks.hardware.is_some() && pinned_marks.hardware.is_some() {
            "on other hardware: a second host with this name, an impostor, or a host that was replaced"
                .to_owned()
        } else {
            "a re-installed host, a second host with this name, or an impostor".to_owned()
        };
        let extrainfo = json!({
            "reason": reason,
            "pinned_key": host.key.fingerprint(),
            "offered_key": fingerprint,
            "offered_from": applicant.remote.to_string(),
            "offered_machine": offer.marks.name(),
            "pinned_from": host.address,
            "pinned_machine": pinned_marks.name(),
            "text": format!("another key ({fingerprint}) from {} wants to be {name}: {what}", applicant.remote),
            "fix_now": format!("assimcli hosts accept-key {name}"),
        });
        let mut shown = host.clone();
        shown.reason = reason.into();
        let event = about_host(context, EventType::Warn, &shown, extrainfo);
        context.emit(tx, event)?;
        context.warn(format!(
            "{name}: registration from {} refused, key {fingerprint} is not the pinned one",
            applicant.remote
        ));
    }
    let text = format!(
        "{name} is known with another key; if this host was re-installed run `assimcli hosts accept-key {name}` on the CMA, \
         if two hosts have this name start one of them with --name"
    );
    Ok(refused(RefusedReason::KeyMismatch, text))
}

fn admit(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    designation: &Designation,
    known: Option<HostRow>,
    applicant: &Applicant,
) -> Result<HostRow> {
    let now = context.now;
    let message = &applicant.message;
    let is_new = known.is_none();
    let (was_up, same_start) =
        known.as_ref().map_or((false, false), |h| (h.status == "up", h.started == message.started));
    let last_seen = known.as_ref().map(|host| host.last_seen);
    let before = known.as_ref().map(|host| (host.started, host.address.clone()));
    let old_address = known.as_ref().map(|host| host.address.clone()).unwrap_or_default();
    let mut host = known.unwrap_or_else(|| HostRow {
        designation: designation.clone(),
        domain: String::new(),
        status: String::new(),
        reason: String::new(),
        status_since: now,
        first_seen: now,
        last_seen: now,
        key: applicant.key,
        rejected_key: None,
        address: String::new(),
        started: message.started,
        software: String::new(),
    });
    let (knowledge, tags) = (context.knowledge, tx.tags(designation)?);
    // Whoever had this name and was removed a moment ago may still be known to have stood elsewhere.
    let standing = match is_new {
        true => Cow::Owned(newcomer(&knowledge.config, designation, &tags)),
        false => knowledge.standing_of(designation, &tags),
    };
    host.domain.clone_from(&standing.domain);
    host.last_seen = now;
    let address = reachable_at(applicant.remote, message.port);
    host.address = address.to_string();
    host.started = message.started;
    host.software = shortened(&printable(&message.software), 100).into_owned();
    if !was_up {
        host.status = "up".into();
        let was_given_up = same_start && host.reason == verdict::HBDEAD;
        host.reason = if was_given_up { verdict::HBBACKALIVE } else { "STARTUP" }.into();
        host.status_since = now;
    }
    tx.put_host(&host)?;
    invitations::withdraw(tx, designation)?;
    if is_new {
        let groups: Vec<(String, String)> = standing.groups.clone().into_iter().collect();
        tx.set_groups(designation, &groups, now)?;
    }
    if !is_new && tx.cursor(&applicant.key, message.incarnation)? == 0 {
        surroundings::begun_anew(tx, context, designation, &message.documents)?;
    }
    if let Some(last_seen) = last_seen {
        report::ended_after_backup(tx, context, &host, last_seen, &message.documents)?;
    }
    if is_new {
        context.produced.pinned.push((designation.clone(), applicant.key));
        context.inform(format!(
            "{designation} registered for the first time from {}, key {}",
            applicant.remote,
            applicant.key.fingerprint()
        ));
    }
    context.produced.changes.push(Change::Registered {
        host: designation.clone(),
        key: applicant.key,
        session: message.session,
        watch: message.watch,
        address,
        listen: message.listen.as_ref().map(bounded),
    });
    if !was_up && let Some((_, facts)) = places::network_of(tx, context.knowledge, designation)? {
        duplicates::said_again(tx, context, &facts)?;
    }
    if is_new || places::ip_of(&old_address) != Some(address.ip()) {
        places::find(tx, context, designation, address.ip())?;
    }
    let sight = machines::sight(message, &host.address, now);
    let is_twice = machines::registered(tx, context, &host, sight, before)?;
    // Who was part of a larger outage comes back with the others, in one event.
    let is_with_others = !was_up && verdict::returns_with_others(tx, context, designation)?;
    // A connection that was lost and comes back is no news.
    if !(was_up && (same_start || is_twice)) && !is_with_others {
        let mut extrainfo =
            json!({"software": host.software, "first": is_new, "restarted": was_up && !same_start});
        if is_new && !standing.groups.is_empty() {
            let names: Vec<&str> = standing.groups.keys().map(String::as_str).collect();
            extrainfo["groups"] = json!(names.join("\n"));
        }
        let event = about_host(context, EventType::Up, &host, extrainfo);
        context.emit(tx, event)?;
        context.inform(format!("{designation} is up, registered from {}", applicant.remote));
    }
    Ok(host)
}

/// What a nanoprobe says that it listens for; a real one has few interfaces.
fn bounded(listen: &Listen) -> Listen {
    let names = listen.interfaces.iter().take(MAX_INTERFACES);
    let mut interfaces: Vec<String> =
        names.map(|name| shortened(&printable(name), MAX_INTERFACE_NAME).into_owned()).collect();
    interfaces.sort();
    interfaces.dedup();
    Listen { interfaces }
}

/// Where the nanoprobe listens: the port it says, unless it has none.
pub fn reachable_at(remote: SocketAddr, port: u16) -> SocketAddr {
    let mut address = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    if port != 0 {
        address.set_port(port);
    }
    address
}

fn welcome(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    applicant: &Applicant,
    cma_started: Timestamp,
) -> Result<Registration> {
    let message = &applicant.message;
    let current: BTreeMap<String, DocumentHash> =
        tx.documents(&host.designation)?.into_iter().map(|row| (row.instance, row.hash)).collect();
    let wanted = message
        .documents
        .iter()
        .filter(|document| current.get(&document.instance) != Some(&document.hash))
        .map(|document| document.instance.clone())
        .collect();
    let standing = context.knowledge.standing_of(&host.designation, &tx.tags(&host.designation)?);
    let json = context.knowledge.agent_config_by(&host.designation, &standing);
    let config = DocumentHash::of(json.as_bytes());
    let sender = Sender {
        designation: host.designation.clone(),
        key: applicant.key,
        incarnation: message.incarnation,
    };
    let welcome = Welcome {
        last_sequence: tx.cursor(&applicant.key, message.incarnation)?,
        wanted,
        configure: (message.config != Some(config)).then_some(Configure { json }),
        clock: context.now,
        started: cma_started,
    };
    Ok(Registration::Welcome { sender, welcome, config })
}

/// A nanoprobe stops on purpose. Nothing happens when the host is dead already or meanwhile has another key.
pub fn goodbye(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    sender: &Sender,
    reason: &str,
) -> Result<()> {
    let Some(mut host) = tx.host(&sender.designation)?.filter(|host| host.key == sender.key) else {
        return Ok(());
    };
    if host.status == "dead" {
        return Ok(());
    }
    let reason = shortened(&printable(reason), 100).into_owned();
    host.status = "dead".into();
    host.reason = if reason.is_empty() { "HBSHUTDOWN".into() } else { reason };
    host.status_since = context.now;
    host.last_seen = context.now;
    tx.put_host(&host)?;
    verdict::forget(tx, &host.designation)?;
    context.produced.changes.push(Change::Left(host.designation.clone()));
    duplicates::look_again(tx, context)?;
    let event = about_host(context, EventType::Down, &host, json!({}));
    context.emit(tx, event)?;
    context.inform(format!("{} is down: {}", host.designation, host.reason));
    Ok(())
}

/// What came of [`accept_key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyDecision {
    Accepted,
    UnknownHost,
    NothingToAccept,
}

/// Pins the key that was refused instead of the old one.
pub fn accept_key(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    designation: &Designation,
) -> Result<KeyDecision> {
    let Some(mut host) = tx.host(designation)? else { return Ok(KeyDecision::UnknownHost) };
    let Some((key, _)) = host.rejected_key.take() else { return Ok(KeyDecision::NothingToAccept) };
    let old = std::mem::replace(&mut host.key, key);
    tx.put_host(&host)?;
    // The new key may come from another machine, and none of it is a copy of the old one.
    let offered_from = forget_offer(tx, designation)?;
    Standing::default().keep(tx, designation)?;
    context.produced.unpinned.push((designation.clone(), old));
    context.produced.pinned.push((designation.clone(), key));
    let extrainfo =
        json!({"reason": KEY_MISMATCH, "text": "the new key was accepted", "pinned_key": key.fingerprint()});
    let event = about_host(context, EventType::Unwarn, &host, extrainfo);
    context.emit(tx, event)?;
    context.inform(format!(
        "{designation}: key {} accepted instead of {}",
        key.fingerprint(),
        old.fingerprint()
    ));
    invitations::invite(tx, context, designation, key, &offered_from.unwrap_or_default())?;
    Ok(KeyDecision::Accepted)
}

/// Forgets a host; `false` when there is none. Its history stays.
pub fn remove(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    designation: &Designation,
) -> Result<bool> {
    let Some(host) = tx.host(designation)? else { return Ok(false) };
    let only_seen_here = links::seen_only_by(tx, context, designation)?;
    let instances: Vec<String> = tx.documents(designation)?.into_iter().map(|row| row.instance).collect();
    tx.remove_host(designation, context.now)?;
    super::report::forget_rejections(tx, designation)?;
    links::forget(tx, designation)?;
    for instance in instances {
        super::neighbours::ended(tx, designation, &instance)?;
    }
    duplicates::look_again(tx, context)?;
    verdict::forget(tx, designation)?;
    invitations::withdraw(tx, designation)?;
    context.produced.changes.push(Change::Removed(designation.clone()));
    context.produced.unpinned.push((designation.clone(), host.key));
    let event =
        about_host(context, EventType::Delete, &host, json!({"reason": "removed by an administrator"}));
    context.emit(tx, event)?;
    context.inform(format!("{designation} was removed"));
    links::gone_with(tx, context, &host, only_seen_here)?;
    Ok(true)
}

//! One changed document: cursor, document, graph, rules, events.

use super::document::{Content, Incoming};
use super::events::about_host;
use super::surroundings::{self, Before};
use super::{Context, Sender, checksums, concerns_all, duplicates, evaluation, neighbours, places};
use crate::knowledge::Knowledge;
use model::envelope::Envelope;
use model::graph::NodeKind;
use model::{Designation, EventType, GraphFacts};
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use store::{DocumentRow, HostRow, Result, Transaction};

/// Most instances that one host may have; a real one has some dozens.
pub const MAX_INSTANCES: usize = 2000;
/// `last_seen` is written when it is at least so old, to spare a write for each report of a burst.
const LAST_SEEN_STEP: Duration = Duration::from_secs(1);
/// Most instance names remembered as refused for one host.
const MAX_REFUSED_NAMES: usize = 64;

/// What became of a report. `last` is what the acknowledgement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Taken, or taken already.
    Durable { last: u64 },
    /// A report before this one is missing: nothing is taken, the nanoprobe resumes after `last`.
    Gap { last: u64 },
    /// Refused for good; recorded, and the cursor moved on.
    Rejected { last: u64, reason: String },
    /// The host was removed, another key accepted, or its key revoked: it must register again.
    Unregistered,
}

/// Takes one report.
pub fn report(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    sender: &Sender,
    incoming: &Incoming,
) -> Result<Outcome> {
    let Some(host) = tx.host(&sender.designation)?.filter(|host| host.key == sender.key) else {
        return Ok(Outcome::Unregistered);
    };
    // Sent before the connection was ended.
    if tx.revoked(&sender.key)?.is_some() {
        return Ok(Outcome::Unregistered);
    }
    let last = tx.cursor(&sender.key, sender.incarnation)?;
    if incoming.sequence <= last {
        return Ok(Outcome::Durable { last });
    }
    if incoming.sequence != last.saturating_add(1) {
        return Ok(Outcome::Gap { last });
    }
    let refusal = match &incoming.content {
        Content::Refused(reason) => Some(reason.clone()),
        Content::Removed => {
            remove_instance(tx, context, &host, incoming)?;
            None
        }
        Content::Document { envelope, text } => store_document(tx, context, &host, incoming, envelope, text)?,
    };
    if let Some(reason) = refusal {
        return reject(tx, context, sender, incoming, reason);
    }
    if incoming.superseded > 0 {
        context.inform(format!(
            "{}: {} older changes of {} were dropped by a full queue",
            host.designation, incoming.superseded, incoming.instance
        ));
    }
    if context.now.since(host.last_seen) >= LAST_SEEN_STEP {
        tx.put_host(&HostRow { last_seen: context.now, ..host.clone() })?;
    }
    accept_again(tx, context, &host, &incoming.instance)?;
    tx.set_cursor(&sender.key, sender.incarnation, incoming.sequence)?;
    Ok(Outcome::Durable { last: incoming.sequence })
}

/// Records that a report is refused for good and moves the cursor on. Says so once per instance until it is well again.
pub fn reject(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    sender: &Sender,
    incoming: &Incoming,
    reason: String,
) -> Result<Outcome> {
    let Some(host) = tx.host(&sender.designation)? else { return Ok(Outcome::Unregistered) };
    let mut refused = refused_instances(tx, &host.designation)?;
    if !refused.contains(&incoming.instance) && refused.len() < MAX_REFUSED_NAMES {
        refused.push(incoming.instance.clone());
        put_refused_instances(tx, &host.designation, &refused)?;
        let extrainfo = json!({
            "reason": "report refused",
            "category": "collection",
            "instance": incoming.instance,
            "text": format!("a report of {} was refused: {reason}", incoming.instance),
        });
        let event = about_host(context, EventType::Warn, &host, extrainfo);
        context.emit(tx, event)?;
    }
    context.warn(format!(
        "{}: report {} of {} refused: {reason}",
        host.designation, incoming.sequence, incoming.instance
    ));
    tx.set_cursor(&sender.key, sender.incarnation, incoming.sequence)?;
    Ok(Outcome::Rejected { last: incoming.sequence, reason })
}

/// Stores a document and all that follows from it; `Some` tells why it is refused.
fn store_document(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    incoming: &Incoming,
    envelope: &Envelope,
    text: &str,
) -> Result<Option<String>> {
    let designation = &host.designation;
    let old = tx.document(designation, &incoming.instance)?;
    if old.as_ref().is_some_and(|old| old.hash == incoming.hash) {
        return Ok(None);
    }
    if old.is_none() && tx.documents(designation)?.len() >= MAX_INSTANCES {
        return Ok(Some(format!("the host has {MAX_INSTANCES} instances already")));
    }
    // A clock set back must not let a period end before it began.
    let since =
        old.as_ref().map_or(context.now, |old| context.now.max(old.since.plus(Duration::from_micros(1))));
    let row = DocumentRow {
        instance: incoming.instance.clone(),
        discovertype: envelope.discovertype.clone(),
        hash: incoming.hash,
        changed_after: incoming.changed_after,
        seen: incoming.seen,
        since,
        until: None,
    };
    let facts = understood(context, designation, &row, envelope);
    let before = match &facts {
        Some(facts) => Before::look(tx, context, host, old.as_ref(), envelope, facts)?,
        None => None,
    };
    tx.put_document(designation, &row, text)?;
    if let Some(facts) = &facts {
        let is_known = replace_graph(tx, context, host, &row, envelope, facts)?;
        if let Some(before) = before.filter(|_| is_known) {
            before.tell(tx, context, host, incoming, facts)?;
        }
    }
    checksums::changed(tx, context, host, incoming, old.as_ref(), envelope)?;
    super::monitors::changed(tx, context, host, incoming, old.as_ref(), envelope)?;
    evaluation::document(tx, context, host, &row, envelope)?;
    Ok(None)
}

/// Brings the graph up to date with a document that was stored before, without events: what it means is said otherwise now.
pub(super) fn put_graph(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    row: &DocumentRow,
    envelope: &Envelope,
) -> Result<()> {
    if let Some(facts) = understood(context, &host.designation, row, envelope) {
        replace_graph(tx, context, host, row, envelope, &facts)?;
        match envelope.discovertype.as_str() {
            places::NETCONFIG => duplicates::said_again(tx, context, &facts)?,
            neighbours::ARP => duplicates::look_again(tx, context)?,
            _ => {}
        }
    }
    Ok(())
}

/// Facts that do not fit the graph (a defect of the discovery) cost the graph only, not the document and its rules.
/// Returns whether it has them.
fn replace_graph(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    row: &DocumentRow,
    envelope: &Envelope,
    facts: &GraphFacts,
) -> Result<bool> {
    let designation = &host.designation;
    let put = tx.savepoint(&mut |tx| tx.replace_graph(designation, &row.instance, facts, row.since));
    match put {
        Ok(()) => {
            context.produced.has_addresses |=
                facts.edges.iter().any(|edge| edge.target.kind == NodeKind::IpaddrNode);
            places::follow(tx, context, host, row, Some((envelope, facts)))?;
            Ok(true)
        }
        Err(error) if concerns_all(&error) => Err(error),
        Err(error) => {
            context.warn(format!("{designation}: {} does not reach the graph: {error}", row.instance));
            Ok(false)
        }
    }
}

fn understood(
    context: &mut Context<'_>,
    designation: &Designation,
    row: &DocumentRow,
    envelope: &Envelope,
) -> Option<GraphFacts> {
    meaning(context.knowledge, designation, envelope)
        .map_err(|reason| {
            context.warn(format!("{designation}: {} does not reach the graph: {reason}", row.instance))
        })
        .ok()
}

/// A stored document and what it means for the graph; `None` where it cannot be read any more.
pub(super) fn stored_meaning(
    tx: &mut dyn Transaction,
    knowledge: &Knowledge,
    designation: &Designation,
    row: &DocumentRow,
) -> Result<Option<(Envelope, GraphFacts)>> {
    let envelope = tx.body(&row.hash)?.and_then(|text| serde_json::from_str::<Envelope>(&text).ok());
    Ok(envelope.and_then(|envelope| {
        let facts = meaning(knowledge, designation, &envelope).ok()?;
        Some((envelope, facts))
    }))
}

/// What a document means for the graph, in the network of its host. A discovery that panics loses its own facts only.
pub(super) fn meaning(
    knowledge: &Knowledge,
    designation: &Designation,
    envelope: &Envelope,
) -> std::result::Result<GraphFacts, String> {
    let Some((discovery, _)) = discovery::find(&envelope.discovertype) else {
        return Ok(GraphFacts::default());
    };
    let facts = catch_unwind(AssertUnwindSafe(|| (discovery.graph)(designation.as_str(), envelope)));
    let facts = facts.map_err(|_| {
        format!("discovery {} could not make sense of it (a defect; please report it)", discovery.name)
    })?;
    Ok(facts.in_network(knowledge.config.network_of(designation.as_str())))
}

fn remove_instance(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    incoming: &Incoming,
) -> Result<()> {
    let Some(old) = tx.document(&host.designation, &incoming.instance)? else { return Ok(()) };
    let until = context.now.max(old.since.plus(Duration::from_micros(1)));
    evaluation::instance_is_gone(tx, context, host, &old, incoming)?;
    super::monitors::is_gone(tx, context, host, &old)?;
    let said = stored_meaning(tx, context.knowledge, &host.designation, &old)?;
    tx.replace_graph(&host.designation, &incoming.instance, &GraphFacts::default(), until)?;
    tx.remove_document(&host.designation, &incoming.instance, until)?;
    let said = said.map(|(_, facts)| facts).unwrap_or_default();
    surroundings::gone(tx, context, host, incoming, &old, &said)?;
    context.inform(format!("{}: {} is gone", host.designation, incoming.instance));
    Ok(())
}

fn accept_again(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    instance: &str,
) -> Result<()> {
    let mut refused = refused_instances(tx, &host.designation)?;
    if !refused.iter().any(|name| name == instance) {
        return Ok(());
    }
    refused.retain(|name| name != instance);
    put_refused_instances(tx, &host.designation, &refused)?;
    let extrainfo = json!({
        "reason": "report refused",
        "category": "collection",
        "instance": instance,
        "text": format!("reports of {instance} are taken again"),
    });
    let event = about_host(context, EventType::Unwarn, host, extrainfo);
    context.emit(tx, event)
}

fn refused_instances(tx: &mut dyn Transaction, designation: &Designation) -> Result<Vec<String>> {
    let text = tx.setting(&refused_setting(designation))?.unwrap_or_default();
    Ok(text.split('\n').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn put_refused_instances(
    tx: &mut dyn Transaction,
    designation: &Designation,
    names: &[String],
) -> Result<()> {
    tx.set_setting(&refused_setting(designation), &names.join("\n"))
}

/// A host that is removed starts with a clean slate.
pub fn forget_rejections(tx: &mut dyn Transaction, designation: &Designation) -> Result<()> {
    if tx.setting(&refused_setting(designation))?.is_some_and(|names| !names.is_empty()) {
        put_refused_instances(tx, designation, &[])?;
    }
    Ok(())
}

fn refused_setting(designation: &Designation) -> String {
    format!("refused reports of {designation}")
}

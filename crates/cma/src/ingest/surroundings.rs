//! What a document says of what is around a host: its links, its neighbours, whose addresses are whose. Asked before the
//! graph has it, told afterwards; each kind of event has a file of its own.

use super::document::Incoming;
use super::report::stored_meaning;
use super::{Context, duplicates, flapping, links, neighbours, places};
use links::LINK_DISCOVERY;
use model::envelope::Envelope;
use model::graph::{EdgeKind, NodeKind};
use model::message::KnownDocument;
use model::{Designation, GraphFacts};
use neighbours::ARP;
use places::NETCONFIG;
use std::collections::BTreeSet;
use std::time::Duration;
use store::{DocumentRow, HostRow, Result, Transaction};

/// What was known before a document.
pub struct Before {
    discovertype: String,
    /// What the instance said until now; `None`: this is its first document of this type.
    facts: Option<GraphFacts>,
    /// Keys of devices or addresses of which nobody spoke.
    unknown: BTreeSet<String>,
}

impl Before {
    /// `None` for documents about other things.
    pub fn look(
        tx: &mut dyn Transaction,
        context: &Context<'_>,
        host: &HostRow,
        old: Option<&DocumentRow>,
        envelope: &Envelope,
        facts: &GraphFacts,
    ) -> Result<Option<Before>> {
        let discovertype = envelope.discovertype.clone();
        if ![LINK_DISCOVERY, ARP, NETCONFIG].contains(&discovertype.as_str()) {
            return Ok(None);
        }
        let said = match old.filter(|old| old.discovertype == discovertype) {
            Some(old) => stored_meaning(tx, context.knowledge, &host.designation, old)?,
            None => None,
        };
        let said = said.map(|(_, facts)| facts);
        let unknown = match (discovertype.as_str(), &said) {
            (LINK_DISCOVERY, _) => links::unknown(tx, facts)?,
            (ARP, Some(said)) => neighbours::unknown(tx, said, facts)?,
            _ => BTreeSet::new(),
        };
        Ok(Some(Before { discovertype, facts: said, unknown }))
    }

    /// The graph has the document now.
    pub fn tell(
        self,
        tx: &mut dyn Transaction,
        context: &mut Context<'_>,
        host: &HostRow,
        incoming: &Incoming,
        facts: &GraphFacts,
    ) -> Result<()> {
        let nothing = GraphFacts::default();
        let before = self.facts.as_ref().unwrap_or(&nothing);
        match self.discovertype.as_str() {
            LINK_DISCOVERY => links::changed(tx, context, host, incoming, before, facts, &self.unknown),
            ARP => {
                let first = self.facts.as_ref();
                neighbours::changed(tx, context, host, incoming, first, facts, &self.unknown)?;
                flapping::changed(tx, context, host, before, facts)?;
                duplicates::changed(tx, context, &duplicates::concerned(before, facts))
            }
            _ => duplicates::changed(tx, context, &duplicates::concerned(before, facts)),
        }
    }
}

/// An instance and all that it said is gone. To be called when the graph has forgotten it; `facts` is what it said.
pub fn gone(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    incoming: &Incoming,
    old: &DocumentRow,
    facts: &GraphFacts,
) -> Result<()> {
    let nothing = GraphFacts::default();
    match old.discovertype.as_str() {
        LINK_DISCOVERY => {
            links::changed(tx, context, host, incoming, facts, &nothing, &BTreeSet::new())?;
        }
        // A listener that ends says nothing about those that it listened to.
        ARP => neighbours::ended(tx, &host.designation, &old.instance)?,
        NETCONFIG => {}
        _ => return Ok(()),
    }
    duplicates::look_again(tx, context)?;
    places::follow(tx, context, host, old, None)
}

/// A nanoprobe begins anew, without what it knew before (re-installed, or its state was lost): it has heard nobody yet, and
/// what it heard in its former life nobody would ever take back. Nothing is told; it will hear most of it again.
pub fn begun_anew(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    listed: &[KnownDocument],
) -> Result<()> {
    let is_listed = |row: &DocumentRow| listed.iter().any(|document| document.instance == row.instance);
    for row in tx.documents(host)?.into_iter().filter(|row| !is_listed(row)) {
        if ![LINK_DISCOVERY, ARP].contains(&row.discovertype.as_str()) {
            continue;
        }
        let until = context.now.max(row.since.plus(Duration::from_micros(1)));
        tx.replace_graph(host, &row.instance, &GraphFacts::default(), until)?;
        tx.remove_document(host, &row.instance, until)?;
        neighbours::ended(tx, host, &row.instance)?;
        duplicates::look_again(tx, context)?;
    }
    Ok(())
}

/// Whether somebody who is up says that a node has such an edge. Who is down says what was so once.
pub fn is_said(tx: &mut dyn Transaction, kind: NodeKind, key: &str, edge: EdgeKind) -> Result<bool> {
    for edge in tx.edges_at(kind, key, edge)? {
        if tx.host(&edge.host)?.is_some_and(|host| host.status == "up") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What was put off is due: see [`Context::look_at`].
pub fn look(tx: &mut dyn Transaction, context: &mut Context<'_>) -> Result<()> {
    duplicates::check(tx, context)?;
    flapping::check(tx, context)
}

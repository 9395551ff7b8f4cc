//! An address that goes to and fro between link-layer addresses: one warning while it does, and an end of it after a quiet
//! time. Two machines with the same address that nobody has a nanoprobe on look like this, and so does a failover that
//! cannot make up its mind, or somebody who answers in the name of another.

use super::Context;
use super::allowance::{Allowance, Allowed};
use super::events::about_system;
use super::neighbours::{ip_in, is_unicast, pairs};
use model::{EventType, GraphFacts, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use store::{HostRow, Result, Transaction};

/// `reason` of these events.
pub const FLAPPING: &str = "link-layer address flapping";

/// So many changes within [`WINDOW`] are a warning; as long without one end it.
const CHANGES: usize = 4;
const WINDOW: Duration = Duration::from_secs(600);
/// Addresses that are remembered at once.
const MAX_KEPT: usize = 200;
const WARNINGS: Allowance = Allowance { most: 20, within: Duration::from_secs(3600) };
const SETTING: &str = "addresses that move";

/// Of one IP address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Moves {
    /// The last of them, oldest first.
    times: Vec<Timestamp>,
    /// Where it was, and where it is.
    from: String,
    to: String,
    /// Who told, and that host's domain.
    seen_by: String,
    domain: String,
    is_told: bool,
}

impl Moves {
    fn forget_before(&mut self, now: Timestamp) {
        self.times.retain(|time| now.since(*time) < WINDOW);
    }
}

/// Counts the moves between two documents of a listener.
pub fn changed(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    before: &GraphFacts,
    after: &GraphFacts,
) -> Result<()> {
    let (old, new) = (pairs(before), pairs(after));
    let moved: Vec<(&str, &str, &str)> = new
        .iter()
        .filter_map(|(key, now)| {
            let (from, to) = (old.get(key)?.first()?, now.first()?);
            (from != to && ip_in(key).is_some_and(is_unicast)).then_some((*key, *from, *to))
        })
        .collect();
    if moved.is_empty() {
        return Ok(());
    }
    let mut all = read(tx)?;
    for (key, from, to) in moved {
        if all.len() >= MAX_KEPT && !all.contains_key(key) {
            continue;
        }
        let moves = all.entry(key.to_owned()).or_default();
        moves.forget_before(context.now);
        moves.times.push(context.now);
        let excess = moves.times.len().saturating_sub(CHANGES);
        moves.times.drain(..excess);
        let part = |key: &str| key.split_once('/').map_or(key, |(_, part)| part).to_owned();
        (moves.from, moves.to) = (part(from), part(to));
        (moves.seen_by, moves.domain) = (host.designation.to_string(), host.domain.clone());
        if moves.times.len() >= CHANGES && !moves.is_told {
            let allowed = WARNINGS.take(tx, context.now, FLAPPING)?;
            moves.is_told = allowed != Allowed::No;
            if moves.is_told {
                tell(tx, context, key, moves, EventType::Warn, allowed)?;
            }
        }
    }
    write(tx, &all)?;
    context.look_at(context.now.plus(WINDOW));
    Ok(())
}

/// Ends what was quiet for long enough.
pub fn check(tx: &mut dyn Transaction, context: &mut Context<'_>) -> Result<()> {
    let kept = read(tx)?;
    let mut all = kept.clone();
    for (key, moves) in &mut all {
        moves.forget_before(context.now);
        match moves.times.last() {
            Some(last) => context.look_at(last.plus(WINDOW)),
            None if moves.is_told => tell(tx, context, key, moves, EventType::Unwarn, Allowed::Yes)?,
            None => {}
        }
    }
    all.retain(|_, moves| !moves.times.is_empty());
    if all != kept { write(tx, &all) } else { Ok(()) }
}

fn tell(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    key: &str,
    moves: &Moves,
    kind: EventType,
    allowed: Allowed,
) -> Result<()> {
    let (network, ip) = key.split_once('/').unwrap_or(("", key));
    let is_over = kind == EventType::Unwarn;
    let mut text = if is_over {
        format!("{ip} stays at {}", moves.to)
    } else {
        format!(
            "{ip} goes to and fro between {} and {}: two machines have this address, or a failover does not come to rest",
            moves.from, moves.to
        )
    };
    if allowed == Allowed::Last {
        text.push_str("; of further addresses nothing is told for some time");
    }
    if is_over {
        context.inform(text.clone());
    } else {
        context.warn(text.clone());
    }
    let extrainfo = json!({
        "reason": FLAPPING,
        "seen_by": moves.seen_by,
        "old_macaddr": moves.from,
        "new_macaddr": moves.to,
        "committed": context.now.to_utc_text(),
        "text": text,
    });
    let object = json!({
        "nodetype": "NICNode",
        "designation": ip,
        "status": if is_over { "up" } else { "flapping" },
        "reason": FLAPPING,
        "domain": moves.domain,
        "ipaddr": ip,
        "macaddr": moves.to,
        "network": network.trim_start_matches('@'),
    });
    let event = about_system(context, kind, object, extrainfo);
    context.emit(tx, event)
}

fn read(tx: &mut dyn Transaction) -> Result<BTreeMap<String, Moves>> {
    let text = tx.setting(SETTING)?.unwrap_or_default();
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

fn write(tx: &mut dyn Transaction, all: &BTreeMap<String, Moves>) -> Result<()> {
    let text = if all.is_empty() { String::new() } else { json!(all).to_string() };
    tx.set_setting(SETTING, &text)
}

//! Hosts come into groups and leave them.

use super::Context;
use super::events::about_host;
use crate::groups::Moved;
use model::EventType;
use serde_json::json;
use store::{Result, Transaction};

/// Events of one step; a question that suddenly has another answer must not send a mail for each host of a site.
const MAX_EVENTS: usize = 20;

/// The setting that names the groups and domains of cma.toml by which all hosts were put where they stand.
pub const SETTING: &str = "groups last configured";

/// Keeps where hosts stand now. An event tells what nobody did by hand: where `configured` is other than what all hosts were
/// put by before, whoever changed the settings knows, and the log is enough.
pub fn put(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    moved: &[Moved],
    configured: &str,
) -> Result<()> {
    let is_told = tx.setting(SETTING)?.as_deref() == Some(configured);
    let mut events = 0;
    for one in moved {
        // Removed since, with everything it was in.
        let Some(mut host) = tx.host(&one.host)? else { continue };
        let before: Vec<String> = tx.groups(&one.host)?.into_iter().map(|row| row.group).collect();
        let groups: Vec<(String, String)> =
            one.to.groups.iter().map(|(name, why)| (name.clone(), why.clone())).collect();
        tx.set_groups(&one.host, &groups, context.now)?;
        // Judging its documents by its new rules may have moved it already.
        let old_domain = &one.from_domain;
        if host.domain != one.to.domain {
            host.domain.clone_from(&one.to.domain);
            tx.put_host(&host)?;
        }
        let joined: Vec<String> = groups
            .iter()
            .filter(|(name, _)| !before.contains(name))
            .map(|(name, why)| format!("{name} ({why})"))
            .collect();
        let left: Vec<String> = before.into_iter().filter(|name| !one.to.groups.contains_key(name)).collect();
        let mut parts = Vec::new();
        for (what, names) in [("came into", &joined), ("left", &left)] {
            if !names.is_empty() {
                let plural = if names.len() == 1 { "group" } else { "groups" };
                parts.push(format!("{what} the {plural} {}", names.join(", ")));
            }
        }
        if *old_domain != host.domain && !old_domain.is_empty() {
            parts.push(format!("moved from the domain {old_domain} to {}", host.domain));
        }
        if parts.is_empty() {
            continue;
        }
        let text = parts.join(" and ");
        context.inform(format!("{} {text}", one.host));
        if !is_told {
            continue;
        }
        events += 1;
        if events > MAX_EVENTS {
            continue;
        }
        let mut extrainfo = json!({"CHANGETYPE": "groups", "joined": joined.join("\n"), "left": left.join("\n"),
            "olddomain": old_domain, "text": text});
        if events == MAX_EVENTS {
            extrainfo["text"] = json!(format!("{text}; of other hosts that moved just now the log tells"));
        }
        let event = about_host(context, EventType::Update, &host, extrainfo);
        context.emit(tx, event)?;
    }
    Ok(())
}

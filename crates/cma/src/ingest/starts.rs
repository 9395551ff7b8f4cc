//! Notices a host that was copied with its keys: two nanoprobes that register in turn as the same host.
//!
//! Each tells when its process was started. A process that was replaced by another never comes back; two that live side
//! by side do, in turn.

use super::Context;
use super::events::about_host;
use model::{Designation, EventType, Timestamp};
use serde_json::json;
use store::{HostRow, Result, Transaction};

/// `reason` in events about a host whose key two nanoprobes have.
pub const KEY_TWICE: &str = "key used twice";

/// In the setting, behind the former start: it was told.
const TOLD: &str = " told";

/// A host registers with another start of its nanoprobe than `before`. Returns whether that is one that was there before,
/// so that two of them are alive; this is told once for each pair.
pub fn changed(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    before: Timestamp,
) -> Result<bool> {
    let name = setting_of(&host.designation);
    let kept = tx.setting(&name)?.unwrap_or_default();
    let was_told = kept.ends_with(TOLD);
    let former = kept.trim_end_matches(TOLD).parse().ok().map(Timestamp);
    let is_twice = former == Some(host.started);
    tx.set_setting(&name, &format!("{}{}", before.0, if is_twice { TOLD } else { "" }))?;
    if is_twice == was_told {
        return Ok(is_twice);
    }
    let (kind, text) = if is_twice {
        let text = format!(
            "two nanoprobes register in turn as {}, with the same key; one of them talks from {}: a machine was copied with \
             its keys",
            host.designation, host.address
        );
        context.warn(text.clone());
        (EventType::Warn, text)
    } else {
        (EventType::Unwarn, format!("another nanoprobe was started as {}", host.designation))
    };
    let fix = "on the copy remove its key pair (the files with @@ in crypto.d), give it a name of its own (host name, or \
               --name), and start its nanoprobe again";
    let extrainfo = json!({"reason": KEY_TWICE, "text": text, "fix_now": fix});
    let shown = HostRow { reason: KEY_TWICE.into(), ..host.clone() };
    let event = about_host(context, kind, &shown, extrainfo);
    context.emit(tx, event)?;
    Ok(is_twice)
}

/// A host that is removed starts with a clean slate.
pub fn forget(tx: &mut dyn Transaction, host: &Designation) -> Result<()> {
    if tx.setting(&setting_of(host))?.is_some_and(|kept| !kept.is_empty()) {
        tx.set_setting(&setting_of(host), "")?;
    }
    Ok(())
}

fn setting_of(host: &Designation) -> String {
    format!("former start of {host}")
}

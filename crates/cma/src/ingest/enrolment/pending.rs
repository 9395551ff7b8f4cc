//! Keys that wait for approval: a list that nobody can fill up for others.
//!
//! A nanoprobe that waits asks again every few minutes. A newcomer takes the place of one that does not, never of one that
//! does: whoever makes up keys has to keep all of them asking, and fills his own share only.

use super::super::Context;
use super::super::allowance::{Allowance, Allowed};
use super::super::machines::Marks;
use super::super::register::{Applicant, reachable_at};
use super::{PENDING, about_stranger, source_of};
use model::text::{printable, shortened};
use model::{Designation, EventType, Timestamp};
use serde_json::json;
use std::time::Duration;
use store::enrolment::PendingRow;
use store::{Result, Transaction};

/// Somebody who was not heard for so long may be displaced; nanoprobes ask again within 5 minutes.
const SILENT_AFTER: Duration = Duration::from_secs(15 * 60);
/// Hosts that begin to wait are told of so often; the event says how many wait.
const NEWS: Allowance = Allowance { most: 1, within: Duration::from_secs(60) };
/// `last_seen` is written when it is at least so old: who asks again and again makes few writes.
const LAST_SEEN_STEP: Duration = Duration::from_secs(60);

/// Puts an applicant on the list, or finds it there. `note` says why its token did not count. Returns what its log is to
/// say.
pub fn wait(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    designation: &Designation,
    applicant: &Applicant,
    note: &str,
) -> Result<String> {
    let fingerprint = applicant.key.fingerprint();
    let told = format!(
        "{designation} waits for approval: run `assimcli hosts approve {designation} --key {fingerprint}` on the CMA"
    );
    let now = context.now;
    let known = tx.waiting(&applicant.key)?;
    let message = &applicant.message;
    let row = PendingRow {
        key: applicant.key,
        designation: designation.clone(),
        source: source_of(applicant.remote.ip()),
        address: reachable_at(applicant.remote, message.port).to_string(),
        first_seen: known.as_ref().map_or(now, |known| known.first_seen),
        last_seen: now,
        software: shortened(&printable(&message.software), 100).into_owned(),
        machine: json!(Marks::of(message.machine)).to_string(),
        note: shortened(&printable(note), 200).into_owned(),
        approved: None,
    };
    let is_unchanged = |known: &PendingRow| {
        let again = PendingRow { last_seen: known.last_seen, ..row.clone() };
        again == *known && now.since(known.last_seen) < LAST_SEEN_STEP
    };
    if known.as_ref().is_some_and(is_unchanged) {
        return Ok(told);
    }
    let mut rows = forget_old(tx, context)?;
    rows.retain(|row| row.key != applicant.key);
    if known.is_none_or(|known| known.source != row.source) && !make_room(tx, context, &rows, &row.source)? {
        let text = "the list of hosts that wait for approval is full: approve or reject some (`assimcli hosts pending` on the \
                    CMA), or raise max_pending under [enrolment] in cma.toml; this host asks again by itself";
        tx.remove_pending(&applicant.key)?;
        return Ok(text.into());
    }
    let is_new = row.first_seen == now;
    tx.put_pending(&row)?;
    if is_new {
        context.inform(format!(
            "{designation} waits for approval, from {}, key {fingerprint}",
            applicant.remote
        ));
    }
    if is_new && NEWS.take(tx, now, "hosts that wait")? != Allowed::No {
        let extrainfo = json!({
            "reason": PENDING,
            "text": format!("{designation} from {} wants to be enrolled and waits for approval", applicant.remote),
            "offered_key": fingerprint,
            "offered_from": applicant.remote.to_string(),
            "waiting": rows.iter().filter(|row| row.approved.is_none()).count() + 1,
            "note": row.note,
            "fix_now": format!("compare the key with what `nanoprobe --key` says on the host, then: assimcli hosts approve {designation} --key {fingerprint}"),
        });
        let event = about_stranger(context, EventType::Warn, designation, &row.address, extrainfo);
        context.emit(tx, event)?;
    }
    Ok(told)
}

/// Whether somebody is no longer on the list at `now`.
pub fn is_forgotten(row: &PendingRow, days: u64, now: Timestamp) -> bool {
    now.since(row.last_seen) >= Duration::from_secs(days.saturating_mul(86_400))
}

/// How many of these wait for a decision at `now`.
pub fn waiting(rows: &[PendingRow], days: u64, now: Timestamp) -> usize {
    rows.iter().filter(|row| row.approved.is_none() && !is_forgotten(row, days, now)).count()
}

/// Forgets those who were not heard for days; returns the others.
fn forget_old(tx: &mut dyn Transaction, context: &Context<'_>) -> Result<Vec<PendingRow>> {
    let days = context.knowledge.config.enrolment.forget_pending_days;
    let (old, rows): (Vec<_>, Vec<_>) =
        tx.pending()?.into_iter().partition(|row| is_forgotten(row, days, context.now));
    for row in old {
        tx.remove_pending(&row.key)?;
    }
    Ok(rows)
}

/// Whether one more from this source fits; takes the place of whoever was not heard for longest, if need be.
fn make_room(
    tx: &mut dyn Transaction,
    context: &Context<'_>,
    rows: &[PendingRow],
    source: &str,
) -> Result<bool> {
    let config = &context.knowledge.config.enrolment;
    let own: Vec<&PendingRow> = rows.iter().filter(|row| row.source == source).collect();
    let candidates = if own.len() >= config.max_pending_per_address {
        own
    } else if rows.len() >= config.max_pending {
        rows.iter().collect()
    } else {
        return Ok(true);
    };
    let is_silent =
        |row: &&&PendingRow| row.approved.is_none() && context.now.since(row.last_seen) >= SILENT_AFTER;
    let Some(silent) = candidates.iter().filter(is_silent).min_by_key(|row| row.last_seen) else {
        return Ok(false);
    };
    tx.remove_pending(&silent.key)?;
    Ok(true)
}

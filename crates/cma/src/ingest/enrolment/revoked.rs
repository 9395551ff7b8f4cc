//! Keys that are refused for ever.

use super::super::Context;
use super::super::register::{Applicant, reachable_at};
use super::{REVOKED, about_stranger};
use model::{Designation, EventType};
use serde_json::json;
use std::time::Duration;
use store::enrolment::RevokedRow;
use store::{Result, Transaction};

/// A revoked key that is tried again is told of so often. Only who holds one can cause it, so they are few.
const TOLD_EVERY: Duration = Duration::from_secs(3600);

/// What is to be told to an applicant whose key was revoked.
pub fn refusal(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    applicant: &Applicant,
    designation: &Designation,
) -> Result<Option<String>> {
    let Some(row) = tx.revoked(&applicant.key)? else { return Ok(None) };
    let name = row.designation.clone();
    let text = format!(
        "the key {} of {name} was revoked: give this host a new one (remove the files {designation}@@* from its crypto.d and start \
         its nanoprobe again), then accept it on the CMA; or take the revocation back with `assimcli hosts unrevoke {name}`",
        applicant.key.fingerprint()
    );
    if row.tried.is_none_or(|tried| context.now.since(tried) >= TOLD_EVERY) {
        tx.put_revoked(&RevokedRow { tried: Some(context.now), ..row.clone() })?;
        let told = format!("the revoked key of {name} was tried from {}", applicant.remote);
        context.warn(told.clone());
        let extrainfo = json!({
            "reason": REVOKED,
            "text": told,
            "offered_key": applicant.key.fingerprint(),
            "offered_from": applicant.remote.to_string(),
            "offered_as": designation.as_str(),
            "revoked": row.revoked.to_utc_text(),
            "revoked_for": row.reason,
            "fix_now": format!("find out who uses it; if that is right after all: assimcli hosts unrevoke {name}"),
        });
        let address = reachable_at(applicant.remote, applicant.message.port).to_string();
        let event = about_stranger(context, EventType::Warn, &name, &address, extrainfo);
        context.emit(tx, event)?;
    }
    Ok(Some(text))
}

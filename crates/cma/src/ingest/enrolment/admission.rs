//! May a key that nobody knows become a host? By the policy of the site, and by the token it shows.

use super::super::Context;
use super::super::allowance::{Allowance, Allowed};
use super::super::register::{Applicant, reachable_at};
use super::{TOKEN, about_stranger, pending};
use model::config::{EnrolmentPolicy, matches_pattern};
use model::enrolment::token_hash;
use model::message::RefusedReason;
use model::{Designation, EventType, Timestamp};
use serde_json::json;
use std::time::Duration;
use store::enrolment::TokenRow;
use store::{Result, Transaction};
use subtle::ConstantTimeEq;

/// Tokens that do not count are told of so often; the log and `assimcli hosts pending` have the others.
const MISUSES: Allowance = Allowance { most: 1, within: Duration::from_secs(60) };

/// What is decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Admission {
    /// It is a host from now on, with these tags. `how` is for the log.
    Granted {
        tags: Vec<String>,
        how: String,
    },
    Refused(RefusedReason, String),
}

/// Decides. A token that is good is used up in the same transaction: a registration that is not committed counts nothing,
/// and one that is repeated finds its key enrolled.
pub fn decide(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    designation: &Designation,
    applicant: &Applicant,
) -> Result<Admission> {
    let waiting = tx.waiting(&applicant.key)?;
    if let Some(row) = waiting.filter(|row| row.approved.is_some() && row.designation == *designation) {
        tx.remove_pending(&row.key)?;
        return Ok(Admission::Granted { tags: Vec::new(), how: "as approved".into() });
    }
    let problem = match &applicant.message.token {
        None => None,
        Some(text) => match check(tx, designation, applicant, text, context.now)? {
            Ok(token) => {
                tx.use_token(token.id, &applicant.key, context.now)?;
                tx.remove_pending(&applicant.key)?;
                return Ok(Admission::Granted { tags: token.tags, how: format!("with token {}", token.id) });
            }
            Err(problem) => Some(problem),
        },
    };
    let policy = context.knowledge.config.enrolment.policy;
    if let Some(problem) = &problem {
        tell_misuse(tx, context, designation, applicant, problem)?;
    }
    match (policy, problem) {
        (EnrolmentPolicy::FirstUse, None) => {
            tx.remove_pending(&applicant.key)?;
            Ok(Admission::Granted { tags: Vec::new(), how: "as policy first-use has it".into() })
        }
        (EnrolmentPolicy::Approve, problem) => {
            let text = pending::wait(tx, context, designation, applicant, problem.as_deref().unwrap_or(""))?;
            Ok(Admission::Refused(RefusedReason::Pending, text))
        }
        (EnrolmentPolicy::Token, None) => {
            let problem = "it showed none, and this site asks for one";
            tell_misuse(tx, context, designation, applicant, problem)?;
            let text = if applicant.message.machine.is_none() {
                "this site enrols hosts with a token only, and this nanoprobe is too old to show one: install the CMA's version"
            } else {
                "this site enrols hosts with a token only: make one with `assimcli tokens create` on the CMA, put it into \
                 /etc/assimilation/enrol.token (mode 0600) on this host, and start the nanoprobe again"
            };
            Ok(Admission::Refused(RefusedReason::Token, text.into()))
        }
        // Also where none is asked for: enrolled without the tags of its token the host would be in the wrong groups, and
        // nobody would look for the reason.
        (EnrolmentPolicy::FirstUse | EnrolmentPolicy::Token, Some(problem)) => {
            let way_out = match policy {
                EnrolmentPolicy::FirstUse => ", or remove its file, for this site asks for none",
                _ => "",
            };
            let text = format!(
                "the enrolment token does not count: {problem}; make another with `assimcli tokens create` on the CMA{way_out}, \
                 and start the nanoprobe again"
            );
            Ok(Admission::Refused(RefusedReason::Token, text))
        }
    }
}

/// The token that a text is, if it is good for this key now; else what is wrong with it.
fn check(
    tx: &mut dyn Transaction,
    designation: &Designation,
    applicant: &Applicant,
    text: &str,
    now: Timestamp,
) -> Result<std::result::Result<TokenRow, String>> {
    let Some(hash) = token_hash(text) else {
        return Ok(Err("it is no token: it was cut off or changed on the way".into()));
    };
    // All are compared, each in constant time: how long it takes says nothing about any of them.
    let mut found = None;
    for token in tx.tokens()? {
        if bool::from(token.hash.ct_eq(&hash)) {
            found = Some(token);
        }
    }
    let Some(token) = found else { return Ok(Err("this CMA has made no such token".into())) };
    let id = token.id;
    if token.revoked.is_some() {
        return Ok(Err(format!("token {id} was revoked")));
    }
    if let Some(expires) = token.expires.filter(|expires| *expires <= now) {
        return Ok(Err(format!("token {id} expired at {}", expires.to_utc_text())));
    }
    if !matches_pattern(&token.hosts, designation.as_str()) {
        return Ok(Err(format!("token {id} is for hosts {} only, not for {designation}", token.hosts)));
    }
    if let Some(uses) = token.uses.filter(|uses| token.used >= *uses)
        && !tx.used_token(id, &applicant.key)?
    {
        return Ok(Err(format!("token {id} was good for {uses} hosts and has enrolled so many")));
    }
    Ok(Ok(token))
}

fn tell_misuse(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    designation: &Designation,
    applicant: &Applicant,
    problem: &str,
) -> Result<()> {
    if MISUSES.take(tx, context.now, "tokens that do not count")? == Allowed::No {
        return Ok(());
    }
    let fingerprint = applicant.key.fingerprint();
    let text = format!("{designation} from {} is not enrolled by a token: {problem}", applicant.remote);
    context.warn(text.clone());
    let extrainfo = json!({
        "reason": TOKEN,
        "text": text,
        "offered_key": fingerprint,
        "offered_from": applicant.remote.to_string(),
        "fix_now": "assimcli tokens create",
    });
    let address = reachable_at(applicant.remote, applicant.message.port).to_string();
    let event = about_stranger(context, EventType::Warn, designation, &address, extrainfo);
    context.emit(tx, event)
}

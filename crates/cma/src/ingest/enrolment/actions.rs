//! What administrators decide about tokens, keys, machines and tags.

use super::super::events::about_host;
use super::super::machines::{self, Marks, Standing};
use super::super::register::{KEY_MISMATCH, KeyDecision, accept_key};
use super::super::{Change, Context, duplicates, verdict};
use super::invitations::{invite, withdraw};
use super::{PENDING, REVOKED, about_stranger};
use model::enrolment::check_tag;
use model::text::{printable, shortened};
use model::{Designation, EventType, PublicKey, Timestamp};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use store::enrolment::{PendingRow, RevokedRow, TokenRow};
use store::{Result, Transaction};

/// Tokens that there may be. Those that are over make room after a month.
pub const MAX_TOKENS: usize = 1000;
const FORGET_TOKENS_AFTER: Duration = Duration::from_secs(30 * 86_400);
/// Tags that a host or a token may have.
pub const MAX_TAGS: usize = 64;

/// What to do. Keys are named by the beginning of their fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    CreateToken {
        hash: [u8; 32],
        tags: Vec<String>,
        /// Pattern of names.
        hosts: String,
        uses: Option<u32>,
        /// From now on.
        lasts: Option<Duration>,
    },
    RevokeToken(i64),
    /// Lets a host in that waits.
    Approve {
        host: Designation,
        key: Option<String>,
    },
    /// Refuses the key of a host that waits, for ever.
    Reject {
        host: Designation,
        key: Option<String>,
    },
    /// Pins the key that was refused instead of the old one.
    AcceptKey {
        host: Designation,
        key: Option<String>,
    },
    /// Forgets the key that was refused.
    Dismiss(Designation),
    /// Of two machines with one key this one stays; `None`: any may be the host.
    Keep {
        host: Designation,
        machine: Option<String>,
    },
    /// Refuses the key of a host for ever.
    Revoke {
        host: Designation,
        reason: String,
    },
    /// Takes that back.
    Unrevoke {
        host: Designation,
        key: Option<String>,
    },
    Tag {
        host: Designation,
        add: Vec<String>,
        remove: Vec<String>,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The number of a new token.
    Token(i64),
    Done,
    /// The host's tags as they are now.
    Tags(Vec<String>),
    /// Nothing was changed: why, and what to do.
    Refused {
        is_unknown: bool,
        error: String,
        hint: String,
    },
}

fn unknown(error: String, hint: &str) -> Outcome {
    Outcome::Refused { is_unknown: true, error, hint: hint.into() }
}

fn conflict(error: String, hint: impl Into<String>) -> Outcome {
    Outcome::Refused { is_unknown: false, error, hint: hint.into() }
}

fn no_host(host: &Designation) -> Outcome {
    unknown(format!("there is no host {host}"), "`assimcli hosts` lists them all")
}

/// Does it.
pub fn perform(tx: &mut dyn Transaction, context: &mut Context<'_>, action: &Action) -> Result<Outcome> {
    match action {
        Action::CreateToken { hash, tags, hosts, uses, lasts } => {
            let token = TokenRow {
                id: 0,
                hash: *hash,
                tags: tags.clone(),
                hosts: hosts.clone(),
                uses: *uses,
                used: 0,
                created: context.now,
                expires: lasts.map(|lasts| context.now.plus(lasts)),
                revoked: None,
            };
            create_token(tx, context, &token)
        }
        Action::RevokeToken(id) => {
            if !tx.revoke_token(*id, context.now)? {
                let error = format!("there is no token {id} that could be revoked");
                return Ok(unknown(error, "`assimcli tokens list` shows them all"));
            }
            context.inform(format!("token {id} was revoked"));
            Ok(Outcome::Done)
        }
        Action::Approve { host, key } => approve(tx, context, host, key.as_deref()),
        Action::Reject { host, key } => reject(tx, context, host, key.as_deref()),
        Action::AcceptKey { host, key } => accept(tx, context, host, key.as_deref()),
        Action::Dismiss(host) => dismiss(tx, context, host),
        Action::Keep { host, machine } => keep(tx, context, host, machine.as_deref()),
        Action::Revoke { host, reason } => revoke(tx, context, host, reason),
        Action::Unrevoke { host, key } => unrevoke(tx, context, host, key.as_deref()),
        Action::Tag { host, add, remove } => tag(tx, context, host, add, remove),
    }
}

/// Whether a token enrols nobody any more.
pub fn is_over(token: &TokenRow, now: Timestamp) -> Option<Timestamp> {
    token.revoked.or(token.expires.filter(|expires| *expires <= now))
}

fn create_token(tx: &mut dyn Transaction, context: &mut Context<'_>, token: &TokenRow) -> Result<Outcome> {
    let mut left = 0;
    for old in tx.tokens()? {
        let is_old =
            is_over(&old, context.now).is_some_and(|over| context.now.since(over) >= FORGET_TOKENS_AFTER);
        if is_old {
            tx.remove_token(old.id)?;
        } else {
            left += 1;
        }
    }
    if left >= MAX_TOKENS {
        let error = format!("there are {MAX_TOKENS} tokens already");
        return Ok(conflict(
            error,
            "use one for several hosts (--uses); those that expired or were revoked go after 30 days",
        ));
    }
    let id = tx.add_token(token)?;
    context.inform(format!("token {id} was made for hosts {}", token.hosts));
    Ok(Outcome::Token(id))
}

/// The one row that a host and the beginning of a fingerprint mean.
fn choose<'r, R>(
    rows: &'r [R],
    key_of: impl Fn(&R) -> PublicKey,
    key: Option<&str>,
    what: &str,
) -> std::result::Result<&'r R, Outcome> {
    let fits =
        |row: &&R| key.is_none_or(|start| key_of(row).fingerprint().starts_with(&start.to_ascii_lowercase()));
    let fitting: Vec<&R> = rows.iter().filter(fits).collect();
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => Err(unknown(
            match key {
                Some(key) => format!("no key that begins with {} {what}", printable(key)),
                None => format!("no key {what}"),
            },
            "`assimcli hosts pending` and `assimcli hosts` show the keys",
        )),
        several => {
            let keys: Vec<String> = several.iter().map(|row| key_of(row).fingerprint()).collect();
            Err(conflict(
                format!("several keys {what}: {}", keys.join(", ")),
                "choose one with --key; `nanoprobe --key` on the host says which is its own",
            ))
        }
    }
}

fn waiting(
    tx: &mut dyn Transaction,
    host: &Designation,
    key: Option<&str>,
) -> Result<std::result::Result<PendingRow, Outcome>> {
    let rows: Vec<PendingRow> = tx.pending()?.into_iter().filter(|row| row.designation == *host).collect();
    let what = format!("waits to be enrolled as {host}");
    Ok(choose(&rows, |row| row.key, key, &what).cloned())
}

fn approve(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    key: Option<&str>,
) -> Result<Outcome> {
    let row = match waiting(tx, host, key)? {
        Ok(row) => row,
        Err(outcome) => return Ok(outcome),
    };
    let others = tx.pending()?;
    if let Some(other) = others
        .iter()
        .find(|other| other.designation == *host && other.key != row.key && other.approved.is_some())
    {
        let error = format!("another key was approved for {host}: {}", other.key.fingerprint());
        let hint =
            format!("if that was wrong: assimcli hosts reject {host} --key {}", other.key.fingerprint());
        return Ok(conflict(error, hint));
    }
    if tx.host(host)?.is_some() {
        let error = format!("there is a host {host} already, with another key");
        return Ok(conflict(
            error,
            "`assimcli hosts accept-key` takes a new key for a host once it was offered",
        ));
    }
    tx.put_pending(&PendingRow { approved: Some(context.now), ..row.clone() })?;
    invite(tx, context, host, row.key, &row.address)?;
    told_stranger(tx, context, &row, PENDING, "it was approved")?;
    context.inform(format!("{host} was approved, key {}", row.key.fingerprint()));
    Ok(Outcome::Done)
}

fn reject(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    key: Option<&str>,
) -> Result<Outcome> {
    let row = match waiting(tx, host, key)? {
        Ok(row) => row,
        Err(outcome) => return Ok(outcome),
    };
    tx.remove_pending(&row.key)?;
    let reason = "rejected when it wanted to be enrolled".to_owned();
    put_revoked(tx, context, host, row.key, reason)?;
    told_stranger(tx, context, &row, PENDING, "it was rejected")?;
    context.inform(format!("{host} was rejected, key {}", row.key.fingerprint()));
    Ok(Outcome::Done)
}

fn told_stranger(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    row: &PendingRow,
    reason: &str,
    text: &str,
) -> Result<()> {
    let extrainfo = json!({"reason": reason, "text": text, "offered_key": row.key.fingerprint()});
    let event = about_stranger(context, EventType::Unwarn, &row.designation, &row.address, extrainfo);
    context.emit(tx, event)
}

fn accept(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    key: Option<&str>,
) -> Result<Outcome> {
    let Some(row) = tx.host(host)? else { return Ok(no_host(host)) };
    if let (Some(wanted), Some((offered, _))) = (key, row.rejected_key)
        && !offered.fingerprint().starts_with(&wanted.to_ascii_lowercase())
    {
        let error = format!("the key offered for {host} is {}", offered.fingerprint());
        return Ok(conflict(error, "compare it with what `nanoprobe --key` says on the host"));
    }
    Ok(match accept_key(tx, context, host)? {
        KeyDecision::Accepted => Outcome::Done,
        KeyDecision::UnknownHost => no_host(host),
        KeyDecision::NothingToAccept => nothing_offered(host),
    })
}

fn nothing_offered(host: &Designation) -> Outcome {
    conflict(
        format!("no other key was offered for {host}"),
        "`assimcli hosts` shows which hosts have a key mismatch",
    )
}

fn dismiss(tx: &mut dyn Transaction, context: &mut Context<'_>, host: &Designation) -> Result<Outcome> {
    let Some(mut row) = tx.host(host)? else { return Ok(no_host(host)) };
    let Some((key, _)) = row.rejected_key.take() else { return Ok(nothing_offered(host)) };
    tx.put_host(&row)?;
    forget_offer(tx, host)?;
    let text = "the other key was dismissed; it is told of again when it comes again";
    let extrainfo = json!({"reason": KEY_MISMATCH, "text": text, "offered_key": key.fingerprint()});
    let event = about_host(context, EventType::Unwarn, &row, extrainfo);
    context.emit(tx, event)?;
    context.inform(format!("{host}: key {} was dismissed", key.fingerprint()));
    Ok(Outcome::Done)
}

/// Nothing waits for `accept-key` any more; returns from where it was offered.
pub fn forget_offer(tx: &mut dyn Transaction, host: &Designation) -> Result<Option<String>> {
    let mut standing = Standing::of(tx, host)?;
    let Some(offer) = standing.offer.take() else { return Ok(None) };
    standing.keep(tx, host)?;
    Ok(Some(offer.address))
}

fn keep(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    machine: Option<&str>,
) -> Result<Outcome> {
    let Some(row) = tx.host(host)? else { return Ok(no_host(host)) };
    let mut standing = Standing::of(tx, host)?;
    let (kept, text) = match machine {
        None => (None, "any machine may use the key again".to_owned()),
        Some(name) => {
            let machines = standing.machines();
            let Some(found) = machines.iter().find(|sight| sight.marks.name() == name) else {
                let names: Vec<String> = machines.iter().map(|sight| sight.marks.name()).collect();
                let error = format!("no machine {} was seen with the key of {host}", printable(name));
                return Ok(unknown(error, &format!("those seen are: {}", names.join(", "))));
            };
            if found.marks.name() == Marks::default().name() {
                let error = format!("the nanoprobe at {} tells nothing of its machine", found.address);
                return Ok(conflict(error, "install this version there, or give the copy a key of its own"));
            }
            (Some(found.marks.clone()), format!("machine {name} was kept, others with this key are refused"))
        }
    };
    let was_clone = std::mem::take(&mut standing.is_clone) || standing.refused.is_some();
    standing.refused = None;
    standing.former = None;
    standing.returns = 0;
    standing.kept = kept;
    standing.keep(tx, host)?;
    context.inform(format!("{host}: {text}"));
    if was_clone {
        machines::told_over(tx, context, &row, &text)?;
    }
    Ok(Outcome::Done)
}

fn revoke(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    reason: &str,
) -> Result<Outcome> {
    let Some(mut row) = tx.host(host)? else { return Ok(no_host(host)) };
    if let Some(old) = tx.revoked(&row.key)? {
        let error = format!("the key of {host} was revoked at {}", old.revoked.to_utc_text());
        return Ok(conflict(error, format!("`assimcli hosts unrevoke {host}` takes that back")));
    }
    let reason = shortened(&printable(reason), 200).into_owned();
    put_revoked(tx, context, host, row.key, reason.clone())?;
    if row.status != "dead" {
        verdict::forget(tx, host)?;
        row.status_since = context.now;
    }
    row.status = "dead".into();
    row.reason = REVOKED.into();
    tx.put_host(&row)?;
    withdraw(tx, host)?;
    context.produced.changes.push(Change::Left(host.clone()));
    duplicates::look_again(tx, context)?;
    let extrainfo = json!({
        "reason": REVOKED,
        "text": "its key was revoked: nothing is taken from it any more",
        "revoked_key": row.key.fingerprint(),
        "revoked_for": reason,
    });
    let event = about_host(context, EventType::Down, &row, extrainfo);
    context.emit(tx, event)?;
    context.warn(format!("{host}: key {} was revoked: {reason}", row.key.fingerprint()));
    Ok(Outcome::Done)
}

fn put_revoked(
    tx: &mut dyn Transaction,
    context: &Context<'_>,
    host: &Designation,
    key: PublicKey,
    reason: String,
) -> Result<()> {
    tx.put_revoked(&RevokedRow { key, designation: host.clone(), reason, revoked: context.now, tried: None })
}

fn unrevoke(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    key: Option<&str>,
) -> Result<Outcome> {
    let rows: Vec<RevokedRow> =
        tx.revocations()?.into_iter().filter(|row| row.designation == *host).collect();
    let what = format!("of {host} was revoked");
    let row = match choose(&rows, |row| row.key, key, &what) {
        Ok(row) => row.clone(),
        Err(outcome) => return Ok(outcome),
    };
    tx.remove_revoked(&row.key)?;
    context.inform(format!("{host}: key {} is no longer revoked", row.key.fingerprint()));
    if let Some(known) = tx.host(host)?.filter(|known| known.key == row.key) {
        let text = "its key is no longer revoked; it is up again when it registers";
        let extrainfo = json!({"reason": REVOKED, "text": text, "revoked_key": row.key.fingerprint()});
        let event = about_host(context, EventType::Unwarn, &known, extrainfo);
        context.emit(tx, event)?;
        invite(tx, context, host, known.key, &known.address)?;
    }
    Ok(Outcome::Done)
}

fn tag(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &Designation,
    add: &[String],
    remove: &[String],
) -> Result<Outcome> {
    if tx.host(host)?.is_none() {
        return Ok(no_host(host));
    }
    if let Some(error) = add.iter().find_map(|tag| check_tag(tag).err()) {
        return Ok(conflict(error, "choose another"));
    }
    let old = tx.tags(host)?;
    let mut tags: BTreeSet<String> = old.iter().cloned().collect();
    for tag in remove {
        tags.remove(tag);
    }
    tags.extend(add.iter().cloned());
    if tags.len() > MAX_TAGS {
        return Ok(conflict(
            format!("{host} would have {} tags; at most {MAX_TAGS} are possible", tags.len()),
            "remove some",
        ));
    }
    let tags: Vec<String> = tags.into_iter().collect();
    if tags != old {
        tx.set_tags(host, &tags)?;
        context.inform(format!("{host} has the tags {}", tags.join(" ")));
    }
    Ok(Outcome::Tags(tags))
}

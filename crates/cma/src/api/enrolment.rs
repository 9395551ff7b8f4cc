//! `/v1/tokens`, `/v1/pending`, `/v1/revoked` and what administrators decide about a host's key, machine and tags.

use super::{Answer, Failure, Shared, Site, designation, write};
use crate::commit::{Done, Work};
use crate::ingest::enrolment::actions::{Action, MAX_TAGS, Outcome, is_over};
use crate::ingest::enrolment::pending::{is_forgotten, waiting};
use crate::ingest::machines::{Marks, Standing};
use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use model::Timestamp;
use model::enrolment::{TOKEN_BYTES, check_tag, token_hash, token_text};
use model::text::{printable, shortened};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use store::Reader;

type Body<T> = Result<Json<T>, JsonRejection>;

/// A revoked key that was tried is a problem for so long.
const TRIED_SHOWN: Duration = Duration::from_secs(86_400);
/// Characters of a pattern of host names.
const MAX_PATTERN: usize = 253;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    #[serde(default)]
    tags: Vec<String>,
    /// Pattern of names; absent: any.
    hosts: Option<String>,
    uses: Option<u32>,
    /// Absent: for ever.
    seconds: Option<u64>,
}

/// One of several keys, by the beginning of its fingerprint.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chosen {
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// As in the event and in `assimcli hosts`; null: any may use the key.
    machine: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct Tags {
    add: Vec<String>,
    remove: Vec<String>,
}

/// Makes a token. This answer is the only place where it ever stands.
pub async fn create_token(site: Shared, body: Body<NewToken>) -> Answer {
    let Json(wanted) = body?;
    let hint = "see `assimcli tokens create --help`";
    if let Some(error) = wanted.tags.iter().find_map(|tag| check_tag(tag).err()) {
        return Err(Failure::bad(error, hint));
    }
    if wanted.tags.len() > MAX_TAGS {
        return Err(Failure::bad(format!("a token has at most {MAX_TAGS} tags"), hint));
    }
    let hosts = wanted.hosts.unwrap_or_else(|| "*".into()).to_ascii_lowercase();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*');
    if hosts.is_empty() || hosts.len() > MAX_PATTERN || !hosts.chars().all(legal) {
        let shown = shortened(&printable(&hosts), 80).into_owned();
        return Err(Failure::bad(format!("{shown:?} is no pattern of host names, such as web-*"), hint));
    }
    if wanted.uses == Some(0) || wanted.seconds == Some(0) {
        return Err(Failure::bad("a token that is good for nothing is not made", hint));
    }
    let mut tags = wanted.tags;
    tags.sort();
    tags.dedup();
    let mut random = [0; TOKEN_BYTES];
    getrandom::fill(&mut random).map_err(|error| {
        Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the system gives no random numbers: {error}"),
            "try again in a moment",
        )
    })?;
    let token = token_text(&random);
    let hash = token_hash(&token).ok_or_else(|| {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the new token is none", "report this")
    })?;
    let lasts = wanted.seconds.map(Duration::from_secs);
    let action =
        Action::CreateToken { hash, tags: tags.clone(), hosts: hosts.clone(), uses: wanted.uses, lasts };
    match decide(&site, action).await? {
        Outcome::Token(id) => Ok(Json(json!({
            "id": id, "token": token, "tags": tags, "hosts": hosts, "uses": wanted.uses,
            "expires": lasts.map(|lasts| Timestamp::now().plus(lasts)),
        }))),
        other => answer(other),
    }
}

pub async fn tokens(site: Shared) -> Answer {
    let rows = site.readers.read(|reader| reader.tokens()).await?;
    let now = Timestamp::now();
    let row = |row: store::enrolment::TokenRow| {
        let is_used_up = row.uses.is_some_and(|uses| row.used >= uses);
        let state = match (row.revoked, is_over(&row, now)) {
            (Some(_), _) => "revoked",
            (None, Some(_)) => "expired",
            (None, None) if is_used_up => "used up",
            (None, None) => "valid",
        };
        json!({"id": row.id, "state": state, "tags": row.tags, "hosts": row.hosts, "uses": row.uses, "used": row.used,
            "created": row.created, "expires": row.expires, "revoked": row.revoked})
    };
    Ok(Json(rows.into_iter().map(row).collect()))
}

pub async fn revoke_token(site: Shared, Path(id): Path<i64>) -> Answer {
    answer(decide(&site, Action::RevokeToken(id)).await?)
}

pub async fn pending(site: Shared) -> Answer {
    let days = site.knowledge.get().config.enrolment.forget_pending_days;
    let rows = site.readers.read(|reader| reader.pending()).await?;
    let now = Timestamp::now();
    let rows = rows.into_iter().filter(|row| !is_forgotten(row, days, now)).map(|row| {
        let marks: Marks = serde_json::from_str(&row.machine).unwrap_or_default();
        json!({"designation": row.designation.as_str(), "key": row.key.fingerprint(), "address": row.address,
            "first_seen": row.first_seen, "last_seen": row.last_seen, "software": row.software,
            "machine": marks.name(), "note": row.note, "approved": row.approved})
    });
    Ok(Json(rows.collect()))
}

pub async fn approve(site: Shared, Path(name): Path<String>, body: Bytes) -> Answer {
    let Chosen { key } = chosen(&body)?;
    answer(decide(&site, Action::Approve { host: designation(&name)?, key }).await?)
}

pub async fn reject(site: Shared, Path(name): Path<String>, body: Bytes) -> Answer {
    let Chosen { key } = chosen(&body)?;
    answer(decide(&site, Action::Reject { host: designation(&name)?, key }).await?)
}

pub async fn accept_key(site: Shared, Path(name): Path<String>, body: Bytes) -> Answer {
    let Chosen { key } = chosen(&body)?;
    about_host(&site, Action::AcceptKey { host: designation(&name)?, key }).await
}

pub async fn dismiss(site: Shared, Path(name): Path<String>) -> Answer {
    answer(decide(&site, Action::Dismiss(designation(&name)?)).await?)
}

pub async fn keep(site: Shared, Path(name): Path<String>, body: Body<Kept>) -> Answer {
    let Json(Kept { machine }) = body?;
    about_host(&site, Action::Keep { host: designation(&name)?, machine }).await
}

pub async fn revoke(site: Shared, Path(name): Path<String>, body: Body<Reason>) -> Answer {
    let Json(Reason { reason }) = body?;
    about_host(&site, Action::Revoke { host: designation(&name)?, reason }).await
}

pub async fn unrevoke(site: Shared, Path(name): Path<String>, body: Bytes) -> Answer {
    let Chosen { key } = chosen(&body)?;
    answer(decide(&site, Action::Unrevoke { host: designation(&name)?, key }).await?)
}

pub async fn tag(site: Shared, Path(name): Path<String>, body: Body<Tags>) -> Answer {
    let Json(Tags { add, remove }) = body?;
    answer(decide(&site, Action::Tag { host: designation(&name)?, add, remove }).await?)
}

pub async fn revocations(site: Shared) -> Answer {
    let rows = site.readers.read(|reader| reader.revocations()).await?;
    let row = |row: store::enrolment::RevokedRow| {
        json!({"designation": row.designation.as_str(), "key": row.key.fingerprint(), "reason": row.reason,
            "revoked": row.revoked, "tried": row.tried})
    };
    Ok(Json(rows.into_iter().map(row).collect()))
}

/// What is wrong with who may be a host and who wants to: sentences for `doctor`.
///
/// # Errors
/// Those of the store.
pub fn problems(
    reader: &mut dyn Reader,
    days: u64,
    most: usize,
    now: Timestamp,
) -> store::Result<Vec<String>> {
    let mut problems = Vec::new();
    let rows = reader.pending()?;
    let waiting = waiting(&rows, days, now);
    if waiting > 0 {
        let hosts = if waiting == 1 { "1 host waits" } else { &format!("{waiting} hosts wait") };
        problems.push(format!("{hosts} for approval: `assimcli hosts pending`"));
    }
    if rows.len() >= most {
        problems.push(format!(
            "the list of hosts that wait for approval is full ({most}): reject those that are none of yours, or raise \
             max_pending under [enrolment] in cma.toml"
        ));
    }
    for (host, text) in reader.machines()? {
        let standing = Standing::read(&text);
        if standing.is_clone || standing.refused.is_some() {
            problems.push(format!(
                "there are two machines with the key of {host}: `assimcli hosts machines {host}` shows both, `assimcli hosts \
                 keep` refuses one of them"
            ));
        }
    }
    let other_keys = reader.hosts()?.into_iter().filter(|host| host.rejected_key.is_some());
    problems.extend(other_keys.map(|host| {
        let name = host.designation;
        format!(
            "another key wants to be {name}: `assimcli hosts accept-key {name}` if it was re-installed, `assimcli hosts dismiss \
             {name}` if that is over"
        )
    }));
    let tried = reader
        .revocations()?
        .into_iter()
        .filter(|row| row.tried.is_some_and(|tried| now.since(tried) < TRIED_SHOWN));
    problems.extend(tried.map(|row| {
        format!("the revoked key of {} is being used: its events tell from where", row.designation)
    }));
    Ok(problems)
}

/// What a host's entry in `/v1/hosts` says of its machines.
pub fn machines(standing: &Standing) -> Value {
    json!({
        "is_clone": standing.is_clone || standing.refused.is_some(),
        "kept": standing.kept.as_ref().map(Marks::name),
        "is_reinstalled": standing.offer.as_ref().is_some_and(|offer| offer.is_reinstalled),
        "offered_from": standing.offer.as_ref().map(|offer| offer.address.clone()),
        "machines": standing.machines().into_iter().map(crate::ingest::machines::shown).collect::<Vec<_>>(),
    })
}

/// A body that may be left out.
fn chosen(body: &Bytes) -> Result<Chosen, Failure> {
    if body.is_empty() {
        return Ok(Chosen::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad(error.to_string(), "the body is {\"key\": FINGERPRINT}"))
}

async fn decide(site: &Site, action: Action) -> Result<Outcome, Failure> {
    match write(site, Work::Enrolment(action)).await? {
        Done::Enrolment(outcome) => Ok(outcome),
        other => Err(Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the CMA answered something else: {other:?}"),
            "report this",
        )),
    }
}

/// Decides something after which the host has to register again.
async fn about_host(site: &Site, action: Action) -> Answer {
    let host = match &action {
        Action::AcceptKey { host, .. } | Action::Keep { host, .. } | Action::Revoke { host, .. } => {
            host.clone()
        }
        _ => return answer(decide(site, action).await?),
    };
    let outcome = decide(site, action).await?;
    if outcome == Outcome::Done {
        site.hosts.disconnect(&host);
    }
    answer(outcome)
}

fn answer(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Done => Ok(Json(json!({}))),
        Outcome::Token(id) => Ok(Json(json!({"id": id}))),
        Outcome::Tags(tags) => Ok(Json(json!({"tags": tags}))),
        Outcome::Refused { is_unknown, error, hint } => {
            let status = if is_unknown { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT };
            Err(Failure::new(status, error, hint))
        }
    }
}

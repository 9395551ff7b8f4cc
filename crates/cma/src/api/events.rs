//! `GET /v1/events` with long poll, and `GET /v1/history`.

use super::{Answer, Failure, Shared, Site, designation, time};
use crate::readers::newest_event;
use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use model::{Event, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use store::StoreError;

/// Longest wait of one request, in seconds.
const MAX_WAIT_SECONDS: u64 = 60;
const DEFAULT_LIMIT: usize = 1000;
/// Events of one answer; some kilobytes each.
const MAX_LIMIT: usize = 20_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    after: Option<i64>,
    since: Option<String>,
    limit: Option<usize>,
    /// Seconds to wait for an event when there is none.
    wait: Option<u64>,
    /// The last `limit` events instead of the first ones.
    #[serde(default)]
    newest: bool,
}

pub async fn events(site: Shared, query: Result<Query<EventsQuery>, QueryRejection>) -> Answer {
    let Query(query) = query?;
    let since = query.since.as_deref().map(time).transpose()?.unwrap_or(Timestamp(i64::MIN));
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let after = query.after.unwrap_or(0);
    let deadline =
        tokio::time::Instant::now() + Duration::from_secs(query.wait.unwrap_or(0).min(MAX_WAIT_SECONDS));
    // Subscribed before the first look, so nothing can come in between unseen.
    let mut newest = site.newest_event.clone();
    let mut stop = site.stop.clone();
    loop {
        newest.borrow_and_update();
        let found = read(&site, after, since, limit, query.newest).await?;
        if !found.is_empty() || *stop.borrow() {
            return Ok(shown(found));
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return Ok(shown(found)) },
            _ = stop.changed() => return Ok(shown(found)),
            () = tokio::time::sleep_until(deadline) => return Ok(shown(found)),
        }
    }
}

fn shown(found: Vec<(i64, Event)>) -> Json<Value> {
    Json(found.into_iter().map(|(sequence, event)| json!({"sequence": sequence, "event": event})).collect())
}

async fn read(
    site: &Site,
    after: i64,
    since: Timestamp,
    limit: usize,
    newest: bool,
) -> Result<Vec<(i64, Event)>, StoreError> {
    site.readers
        .read(move |reader| {
            if !newest {
                return reader.events(after, since, limit);
            }
            let last = newest_event(reader)?;
            // Sequences have no gaps: an event's number is one above that of the event before.
            let from = after.max(last.saturating_sub(i64::try_from(limit).unwrap_or(i64::MAX)));
            reader.events(from, since, limit)
        })
        .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    host: String,
    instance: Option<String>,
    /// Path of one fact below `data`; needs `instance`.
    fact: Option<String>,
    rule: Option<String>,
    at: Option<String>,
}

/// What a host looked like at a past time: its documents, one document, one fact, or one rule.
pub async fn history(site: Shared, query: Result<Query<HistoryQuery>, QueryRejection>) -> Answer {
    let Query(query) = query?;
    let host = designation(&query.host)?;
    let at = query.at.as_deref().map(time).transpose()?;
    let answer = match (query.rule, query.instance, query.fact) {
        (Some(rule), None, None) => {
            let rows = site
                .readers
                .read(move |reader| match at {
                    Some(at) => Ok(reader.rule_result_at(&host, &rule, at)?.into_iter().collect()),
                    None => reader.rule_history(&host, &rule),
                })
                .await?;
            rows.iter().map(rule_row).collect()
        }
        (None, Some(instance), Some(fact)) => {
            let value = site.readers.read(move |reader| reader.fact_at(&host, &instance, &fact, at)).await?;
            json!({"value": value})
        }
        (None, Some(instance), None) => {
            let found = site.readers.read(move |reader| reader.document_at(&host, &instance, at)).await?;
            match found {
                Some((row, text)) => {
                    let mut shown = document_row(&row);
                    shown["document"] = serde_json::from_str(&text).unwrap_or(Value::String(text));
                    shown
                }
                None => Value::Null,
            }
        }
        (None, None, None) => site
            .readers
            .read(move |reader| reader.documents_at(&host, at))
            .await?
            .iter()
            .map(document_row)
            .collect(),
        _ => {
            return Err(Failure::bad(
                "these parameters do not go together",
                "give host alone, or with instance, instance and fact, or rule; and at",
            ));
        }
    };
    Ok(Json(answer))
}

fn document_row(row: &store::DocumentRow) -> Value {
    json!({"instance": row.instance, "discovertype": row.discovertype, "hash": row.hash.to_string(),
        "changed_after": row.changed_after, "seen": row.seen, "since": row.since, "until": row.until})
}

fn rule_row(row: &store::RuleResultRow) -> Value {
    json!({"rule_id": row.rule_id, "status": row.status, "category": row.category, "severity": row.severity, "score": row.score,
        "values": row.values, "note": row.note, "since": row.since, "until": row.until})
}

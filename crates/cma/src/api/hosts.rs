//! `/v1/hosts`: hosts with their state and scores; accepting a new key; forgetting a host.

use super::{Answer, Failure, Shared, designation, limits, objects, write};
use crate::commit::{Done, Work};
use crate::ingest::register::KeyDecision;
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub async fn list(site: Shared) -> Answer {
    let (hosts, scores) = site
        .readers
        .read(|reader| {
            Ok((
                reader.hosts()?,
                reader.sql(
                    "SELECT host, category, sum(score) AS score FROM scores GROUP BY host, category",
                    &[],
                    limits(),
                )?,
            ))
        })
        .await?;
    let mut by_host: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for mut row in objects(scores) {
        if let (Some(Value::String(host)), Some(Value::String(category)), Some(score)) =
            (row.remove("host"), row.remove("category"), row.remove("score"))
        {
            by_host.entry(host).or_default().insert(category, score);
        }
    }
    let rows: Vec<Value> = hosts
        .into_iter()
        .map(|host| {
            json!({
                "designation": host.designation.as_str(),
                "domain": host.domain,
                "status": host.status,
                "reason": host.reason,
                "status_since": host.status_since,
                "first_seen": host.first_seen,
                "last_seen": host.last_seen,
                "address": host.address,
                "started": host.started,
                "software": host.software,
                "scores": by_host.remove(host.designation.as_str()).unwrap_or_default(),
                "key": host.key.fingerprint(),
                "rejected_key": host.rejected_key.map(|(key, _)| key.fingerprint()),
                "rejected_at": host.rejected_key.map(|(_, at)| at),
            })
        })
        .collect();
    Ok(Json(Value::Array(rows)))
}

pub async fn accept_key(site: Shared, Path(name): Path<String>) -> Answer {
    let name = designation(&name)?;
    match write(&site, Work::AcceptKey(name.clone())).await? {
        Done::Key(KeyDecision::Accepted) => {
            site.hosts.disconnect(&name);
            Ok(Json(json!({})))
        }
        Done::Key(KeyDecision::NothingToAccept) => Err(Failure::new(
            StatusCode::CONFLICT,
            format!("no other key was offered for {name}"),
            "`assimcli hosts` shows which hosts have a key mismatch",
        )),
        _ => Err(Failure::unknown_host(&name)),
    }
}

pub async fn remove(site: Shared, Path(name): Path<String>) -> Answer {
    let name = designation(&name)?;
    match write(&site, Work::RemoveHost(name.clone())).await? {
        Done::Removed(true) => {
            site.hosts.forget(&name);
            Ok(Json(json!({})))
        }
        _ => Err(Failure::unknown_host(&name)),
    }
}

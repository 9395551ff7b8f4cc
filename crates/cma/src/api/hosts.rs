//! `/v1/hosts`: hosts with their state and scores; forgetting a host. What is decided about keys is in `enrolment`.

use super::{Answer, Failure, Shared, designation, enrolment, limits, objects, write};
use crate::commit::{Done, Work};
use crate::ingest::machines::Standing;
use axum::Json;
use axum::extract::Path;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub async fn list(site: Shared) -> Answer {
    let (hosts, mut tags, mut machines, revoked, scores) = site
        .readers
        .read(|reader| {
            Ok((
                reader.hosts()?,
                reader.all_tags()?,
                reader.machines()?,
                reader.revocations()?,
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
            let standing =
                machines.remove(&host.designation).map(|text| Standing::read(&text)).unwrap_or_default();
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
                "tags": tags.remove(&host.designation).unwrap_or_default(),
                "revoked": revoked.iter().find(|row| row.key == host.key).map(|row| row.revoked),
                "identity": enrolment::machines(&standing),
            })
        })
        .collect();
    Ok(Json(Value::Array(rows)))
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

//! `GET /v1/groups`: the groups of cma.toml with their hosts, and why each is in.

use super::{Answer, Shared};
use crate::config_check::uses;
use axum::Json;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub async fn list(site: Shared) -> Answer {
    let (rows, tags) = site.readers.read(|reader| Ok((reader.groups()?, reader.all_tags()?))).await?;
    let knowledge = site.knowledge.get();
    let uses = uses(&knowledge.config);
    // A group without hosts is one all the same, and so is one that cma.toml no longer has until its hosts have left it.
    let mut members: BTreeMap<String, Vec<Value>> =
        knowledge.config.groups.keys().map(|name| (name.clone(), Vec::new())).collect();
    for row in rows {
        let member = json!({"host": row.host.as_str(), "why": row.why, "since": row.since});
        members.entry(row.group).or_default().push(member);
    }
    let groups: Vec<Value> = members
        .into_iter()
        .map(|(name, hosts)| {
            let used = uses.get(name.as_str()).cloned().unwrap_or_default();
            json!({"group": name, "hosts": hosts, "uses": used})
        })
        .collect();
    let mut by_tag: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (host, tags) in tags {
        for tag in tags {
            by_tag.entry(tag).or_default().push(host.to_string());
        }
    }
    Ok(Json(json!({"groups": groups, "tags": by_tag})))
}

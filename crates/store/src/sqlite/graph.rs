//! Nodes and edges: the difference between what a (host, instance) said and what it says now.

use super::transaction::SqliteTransaction;
use crate::{MAX_NODE_EDGES, NodeEdge, Result, ServiceUse, StoreError};
use model::graph::NodeKind;
use model::{Designation, GraphFacts, Timestamp};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// An edge as the database knows it: numbers of its nodes.
type Edge = (i64, String, i64);

/// Makes `facts` all that (host, instance) says. See [`crate::Transaction::replace_graph`].
pub fn replace(
    transaction: &mut SqliteTransaction<'_>,
    host: &Designation,
    instance: &str,
    facts: &GraphFacts,
    now: Timestamp,
) -> Result<()> {
    let owner = transaction.host_id(host)?;
    if !facts.host_properties.is_empty() || !facts.edges.is_empty() {
        put_node(transaction, NodeKind::Drone, host.as_str(), &facts.host_properties, now)?;
    }
    let wanted = put_nodes(transaction, host, facts, now)?;
    let present = edges_of(transaction, owner, instance)?;
    for (source, kind, target) in wanted.difference(&present) {
        transaction.run(
            "INSERT INTO edge(host, instance, source, kind, target, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (owner, instance, source, kind, target, now.0),
        )?;
    }
    let mut orphans = BTreeSet::new();
    for (source, kind, target) in present.difference(&wanted) {
        transaction.run(
            "DELETE FROM edge WHERE host = ?1 AND instance = ?2 AND source = ?3 AND kind = ?4 AND target = ?5",
            (owner, instance, source, kind, target),
        )?;
        orphans.extend([*source, *target]);
    }
    remove_orphans(transaction, &orphans)
}

/// Removes all that `host` said, and its own node when nobody else speaks of it.
pub fn forget_host(transaction: &mut SqliteTransaction<'_>, owner: i64, host: &Designation) -> Result<()> {
    let touched = transaction.all(
        "SELECT source FROM edge WHERE host = ?1 UNION SELECT target FROM edge WHERE host = ?1",
        [owner],
        |row| row.get::<_, i64>(0),
    )?;
    transaction.run("DELETE FROM edge WHERE host = ?1", [owner])?;
    remove_orphans(transaction, &touched.into_iter().collect())?;
    transaction.run(
        "DELETE FROM node WHERE kind = ?1 AND key = ?2
         AND NOT EXISTS (SELECT 1 FROM edge WHERE target = node.id OR source = node.id)",
        (NodeKind::Drone.as_str(), host.as_str()),
    )?;
    Ok(())
}

/// See [`crate::Transaction::services`].
pub fn services(
    transaction: &mut SqliteTransaction<'_>,
    host: &Designation,
    limit: usize,
) -> Result<Vec<ServiceUse>> {
    let Some(owner) = transaction.known_host(host)? else { return Ok(Vec::new()) };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    transaction.all(
        "SELECT DISTINCT coalesce(p.properties ->> '$.pathname', p.properties ->> '$.processname', p.key) AS process,
           t.properties ->> '$.port' AS port, n.designation AS client
         FROM edge s JOIN node p ON p.id = s.source JOIN node t ON t.id = s.target
         LEFT JOIN edge c ON c.target = s.target AND c.kind = 'tcpclient' AND c.host <> s.host
         LEFT JOIN host_name n ON n.id = c.host
         WHERE s.host = ?1 AND s.kind = 'tcpservice' AND t.properties ->> '$.port' BETWEEN 1 AND 65535
           AND t.properties ->> '$.ipaddr' NOT LIKE '127.%' AND t.properties ->> '$.ipaddr' <> '::1'
         ORDER BY client IS NULL, port, process, client LIMIT ?2",
        (owner, limit),
        |row| Ok(ServiceUse { process: row.get(0)?, port: row.get(1)?, client: row.get(2)? }),
    )
}

/// See [`crate::Transaction::edges_at`].
pub fn edges_at(transaction: &SqliteTransaction<'_>, kind: NodeKind, key: &str) -> Result<Vec<NodeEdge>> {
    let limit = i64::try_from(MAX_NODE_EDGES).unwrap_or(i64::MAX);
    let rows = transaction.all(
        "SELECT n.designation, e.instance, e.kind, 1, o.kind, o.key, o.properties, e.since
         FROM node x JOIN edge e ON e.source = x.id JOIN node o ON o.id = e.target JOIN host_name n ON n.id = e.host
         WHERE x.key = ?2 AND x.kind = ?1
         UNION ALL
         SELECT n.designation, e.instance, e.kind, 0, o.kind, o.key, o.properties, e.since
         FROM node x JOIN edge e ON e.target = x.id JOIN node o ON o.id = e.source JOIN host_name n ON n.id = e.host
         WHERE x.key = ?2 AND x.kind = ?1
         LIMIT ?3",
        (kind.as_str(), key, limit),
        |row| {
            let text = |column| row.get::<_, String>(column);
            Ok((text(0)?, text(6)?, (text(1)?, text(2)?, row.get(3)?, text(4)?, text(5)?, row.get(7)?)))
        },
    )?;
    let edges = rows.into_iter().map(|(host, properties, rest)| {
        let (instance, kind, is_outgoing, other_kind, other_key, since) = rest;
        let host = Designation::new(&host).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let other_properties = serde_json::from_str(&properties)
            .map_err(|e| StoreError::Corrupt(format!("the properties of the {other_kind} {other_key}: {e}")))?;
        let since = Timestamp(since);
        Ok(NodeEdge { host, instance, kind, is_outgoing, other_kind, other_key, other_properties, since })
    });
    edges.collect()
}

/// Writes the nodes of the facts and returns the edges by number.
fn put_nodes(
    transaction: &mut SqliteTransaction<'_>,
    host: &Designation,
    facts: &GraphFacts,
    now: Timestamp,
) -> Result<BTreeSet<Edge>> {
    // Several edges may lead to a node; its claims are merged first so that it is written once.
    let mut nodes: BTreeMap<(NodeKind, &str), Map<String, Value>> = BTreeMap::new();
    for node in facts.sources.iter().chain(facts.edges.iter().map(|edge| &edge.target)) {
        let properties = nodes.entry((node.kind, node.key.as_str())).or_default();
        properties.extend(node.properties.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    let mut numbers: HashMap<(NodeKind, &str), i64> = HashMap::new();
    for ((kind, key), properties) in &nodes {
        numbers.insert((*kind, *key), put_node(transaction, *kind, key, properties, now)?);
    }
    let own = (NodeKind::Drone, host.as_str());
    if !facts.edges.is_empty() && !numbers.contains_key(&own) {
        numbers.insert(own, put_node(transaction, NodeKind::Drone, host.as_str(), &Map::new(), now)?);
    }
    let mut edges = BTreeSet::new();
    for edge in &facts.edges {
        let number = |kind: NodeKind, key: &str| numbers.get(&(kind, key)).copied();
        let (Some(source), Some(target)) =
            (number(edge.source.0, &edge.source.1), number(edge.target.kind, &edge.target.key))
        else {
            return Err(StoreError::Sql(format!(
                "the edge {} from {} {:?} starts at a node of which nothing is said",
                edge.kind.as_str(),
                edge.source.0.as_str(),
                edge.source.1
            )));
        };
        edges.insert((source, edge.kind.as_str().to_owned(), target));
    }
    Ok(edges)
}

fn edges_of(transaction: &SqliteTransaction<'_>, owner: i64, instance: &str) -> Result<BTreeSet<Edge>> {
    let edges = transaction.all(
        "SELECT source, kind, target FROM edge WHERE host = ?1 AND instance = ?2",
        (owner, instance),
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    Ok(edges.into_iter().collect())
}

/// The number of a node; `properties` win over what is known, other properties stay.
fn put_node(
    transaction: &SqliteTransaction<'_>,
    kind: NodeKind,
    key: &str,
    properties: &Map<String, Value>,
    now: Timestamp,
) -> Result<i64> {
    let known = transaction.one(
        "SELECT id, properties FROM node WHERE kind = ?1 AND key = ?2",
        (kind.as_str(), key),
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
    )?;
    let Some((id, text)) = known else {
        transaction.run(
            "INSERT INTO node(kind, key, properties, changed) VALUES (?1, ?2, ?3, ?4)",
            (kind.as_str(), key, object_text(properties), now.0),
        )?;
        return Ok(transaction.connection.last_insert_rowid());
    };
    if properties.is_empty() {
        return Ok(id);
    }
    let mut merged: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|e| StoreError::Corrupt(format!("the properties of the {} {key}: {e}", kind.as_str())))?;
    merged.extend(properties.iter().map(|(name, value)| (name.clone(), value.clone())));
    let merged = object_text(&merged);
    if merged != text {
        transaction
            .run("UPDATE node SET properties = ?2, changed = ?3 WHERE id = ?1", (id, merged, now.0))?;
    }
    Ok(id)
}

fn object_text(properties: &Map<String, Value>) -> String {
    // Maps keyed by text always serialise; sorted keys make equal objects equal texts.
    serde_json::to_string(properties).unwrap_or_else(|_| "{}".into())
}

/// Removes those of `candidates` that no edge touches any more. Hosts stay.
fn remove_orphans(transaction: &SqliteTransaction<'_>, candidates: &BTreeSet<i64>) -> Result<()> {
    for id in candidates {
        transaction.run(
            "DELETE FROM node WHERE id = ?1 AND kind <> 'Drone'
             AND NOT EXISTS (SELECT 1 FROM edge WHERE target = ?1) AND NOT EXISTS (SELECT 1 FROM edge WHERE source = ?1)",
            [id],
        )?;
    }
    Ok(())
}

//! Nodes and edges: the difference between what a (host, instance) said and what it says now.

use super::claims::{self, Claimant};
use super::transaction::SqliteTransaction;
use crate::{MAX_NODE_EDGES, NodeEdge, Result, ServiceUse, StoreError};
use model::graph::{EdgeKind, NodeKind};
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
    let transaction = &*transaction;
    let mut claimant = Claimant::new(transaction, owner, instance, now)?;
    let present = edges_of(transaction, owner, instance)?;
    let (wanted, own) = put_nodes(&mut claimant, host, facts)?;
    for (source, kind, target) in wanted.difference(&present) {
        transaction.run(
            "INSERT INTO edge(host, instance, source, kind, target, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            (owner, instance, source, kind, target, now.0),
        )?;
    }
    let mut gone = BTreeSet::new();
    for (source, kind, target) in present.difference(&wanted) {
        transaction.run(
            "DELETE FROM edge WHERE host = ?1 AND instance = ?2 AND source = ?3 AND kind = ?4 AND target = ?5",
            (owner, instance, source, kind, target),
        )?;
        gone.extend([*source, *target]);
    }
    claims::remove_orphans(transaction, &gone)?;
    for (source, _, target) in &wanted {
        gone.remove(source);
        gone.remove(target);
    }
    // Of its host an instance may say something without an edge.
    match own {
        Some(id) => drop(gone.remove(&id)),
        None => gone.extend(drone(transaction, host)?.map(|(id, _)| id)),
    }
    for id in gone {
        claimant.withdraw(id)?;
    }
    if own.is_none() { claimant.leave() } else { Ok(()) }
}

/// Removes all that `host` said, and its own node when nobody else speaks of it.
pub fn forget_host(
    transaction: &mut SqliteTransaction<'_>,
    owner: i64,
    host: &Designation,
    now: Timestamp,
) -> Result<()> {
    let transaction = &*transaction;
    let touched: BTreeSet<i64> = transaction
        .all(
            "SELECT source FROM edge WHERE host = ?1 UNION SELECT target FROM edge WHERE host = ?1",
            [owner],
            |row| row.get(0),
        )?
        .into_iter()
        .collect();
    transaction.run("DELETE FROM edge WHERE host = ?1", [owner])?;
    claims::remove_orphans(transaction, &touched)?;
    let own = drone(transaction, host)?;
    let still_claimed = claims::claimed_of(transaction, touched.into_iter().chain(own.map(|(id, _)| id)))?;
    let instances = transaction
        .all("SELECT instance FROM claimant WHERE host = ?1", [owner], |row| row.get::<_, String>(0))?;
    for instance in instances {
        let mut claimant = Claimant::new(transaction, owner, &instance, now)?;
        for id in &still_claimed {
            claimant.withdraw(*id)?;
        }
        claimant.leave()?;
    }
    let Some((id, is_touched)) = own else { return Ok(()) };
    if is_touched { Ok(()) } else { claims::remove(transaction, id) }
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
        "SELECT DISTINCT coalesce(p.properties ->> '$.pathname', p.properties ->> '$.processname',
             p.properties ->> '$.name', p.key) AS process,
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
pub fn edges_at(
    transaction: &SqliteTransaction<'_>,
    kind: NodeKind,
    key: &str,
    edge: EdgeKind,
) -> Result<Vec<NodeEdge>> {
    let limit = i64::try_from(MAX_NODE_EDGES).unwrap_or(i64::MAX);
    let rows = transaction.all(
        "SELECT n.designation, o.properties, e.instance, 1, o.kind, o.key, e.since
         FROM node x JOIN edge e ON e.source = x.id AND e.kind = ?3 JOIN node o ON o.id = e.target
         JOIN host_name n ON n.id = e.host WHERE x.key = ?2 AND x.kind = ?1
         UNION ALL
         SELECT n.designation, o.properties, e.instance, 0, o.kind, o.key, e.since
         FROM node x JOIN edge e ON e.target = x.id AND e.kind = ?3 JOIN node o ON o.id = e.source
         JOIN host_name n ON n.id = e.host WHERE x.key = ?2 AND x.kind = ?1
         LIMIT ?4",
        (kind.as_str(), key, edge.as_str(), limit),
        |row| {
            let rest = (row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?);
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, rest))
        },
    )?;
    let edges = rows.into_iter().map(|(host, properties, rest)| {
        let (instance, is_outgoing, other_kind, other_key, since): (_, _, String, String, _) = rest;
        let host = Designation::new(&host).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let other_properties = serde_json::from_str(&properties).map_err(|e| {
            StoreError::Corrupt(format!("the properties of the {other_kind} {other_key}: {e}"))
        })?;
        let since = Timestamp(since);
        Ok(NodeEdge { host, instance, is_outgoing, other_kind, other_key, other_properties, since })
    });
    edges.collect()
}

/// Writes the nodes of the facts and returns the edges by number, and the number of the host's own node unless nothing at
/// all is said. Another node that no edge touches is left out.
fn put_nodes(
    claimant: &mut Claimant<'_, '_>,
    host: &Designation,
    facts: &GraphFacts,
) -> Result<(BTreeSet<Edge>, Option<i64>)> {
    // Several edges may lead to a node; its claims are merged first so that it is written once.
    let mut nodes: BTreeMap<(NodeKind, &str), Map<String, Value>> = BTreeMap::new();
    if !facts.host_properties.is_empty() || !facts.edges.is_empty() {
        nodes.insert((NodeKind::Drone, host.as_str()), facts.host_properties.clone());
    }
    let starts: BTreeSet<(NodeKind, &str)> =
        facts.edges.iter().map(|edge| (edge.source.0, edge.source.1.as_str())).collect();
    let targets = facts.edges.iter().map(|edge| &edge.target);
    let sources = facts.sources.iter().filter(|node| starts.contains(&(node.kind, node.key.as_str())));
    for node in sources.chain(targets) {
        let properties = nodes.entry((node.kind, node.key.as_str())).or_default();
        properties.extend(node.properties.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    let mut numbers: HashMap<(NodeKind, &str), i64> = HashMap::new();
    for ((kind, key), properties) in &nodes {
        numbers.insert((*kind, *key), claimant.put(*kind, key, properties)?);
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
    Ok((edges, numbers.get(&(NodeKind::Drone, host.as_str())).copied()))
}

fn edges_of(transaction: &SqliteTransaction<'_>, owner: i64, instance: &str) -> Result<BTreeSet<Edge>> {
    let edges = transaction.all(
        "SELECT source, kind, target FROM edge WHERE host = ?1 AND instance = ?2",
        (owner, instance),
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    Ok(edges.into_iter().collect())
}

/// The host's own node, and whether an edge touches it.
fn drone(transaction: &SqliteTransaction<'_>, host: &Designation) -> Result<Option<(i64, bool)>> {
    transaction.one(
        "SELECT id, EXISTS (SELECT 1 FROM edge WHERE source = node.id) OR EXISTS (SELECT 1 FROM edge WHERE target = node.id)
         FROM node WHERE kind = ?1 AND key = ?2",
        (NodeKind::Drone.as_str(), host.as_str()),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

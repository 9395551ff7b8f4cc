//! Reading the graph step by step: the edges of many nodes at once, then the nodes at their other ends.
//!
//! Who follows paths asks level by level, so that a walk of five hops over thousands of nodes is a dozen statements and
//! no recursion inside the database. The numbers of a level are handed over as one JSON array: the text of the statement
//! stays the same, so it is prepared once.

use super::failure;
use crate::{Direction, GraphEdge, GraphLink, GraphNode, Result, StoreError};
use model::Timestamp;
use rusqlite::{Connection, Params, Row};
use serde_json::Value;
use std::collections::HashSet;

/// Numbers in one statement; keeps the array of a level below some hundred kilobytes.
const CHUNK: usize = 10_000;

// CROSS JOIN pins the order: from the numbers through an index, never from a scan of all edges.
const NODES: &str = "SELECT n.id, n.kind, n.key, n.properties
  FROM json_each(?1) i CROSS JOIN node n ON n.id = i.value";
const EDGE_COLUMNS: &str = "e.source, e.kind, e.target, h.designation, e.instance, e.since";
/// All of them are in the indexes; what else an edge has is one more search for each.
const LINK_COLUMNS: &str = "e.source, e.target, h.designation";

/// See [`crate::Reader::graph_nodes`].
pub fn nodes(connection: &Connection, ids: &[i64]) -> Result<Vec<GraphNode>> {
    let ids = distinct(ids);
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        found.extend(read_nodes(connection, NODES, [array(chunk)])?);
    }
    Ok(found)
}

/// See [`crate::Reader::graph_find`].
pub fn find(connection: &Connection, kind: Option<&str>, key: &str) -> Result<Vec<GraphNode>> {
    read_nodes(
        connection,
        "SELECT id, kind, key, properties FROM node WHERE key = ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY kind",
        (key, kind),
    )
}

/// See [`crate::Reader::graph_of_kind`].
pub fn of_kind(connection: &Connection, kind: &str, limit: usize) -> Result<Vec<GraphNode>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Partial indexes are used where the kind is part of the statement; hosts are found by their names.
    match kind {
        "Drone" => read_nodes(
            connection,
            "SELECT n.id, n.kind, n.key, n.properties FROM host_name h
             CROSS JOIN node n ON n.key = h.designation AND n.kind = 'Drone' ORDER BY h.designation LIMIT ?1",
            [limit],
        ),
        "SystemNode" | "ChildSystem" | "LinkAddress" | "IPaddrNode" => read_nodes(
            connection,
            &format!(
                "SELECT id, kind, key, properties FROM node WHERE kind = '{kind}' ORDER BY key LIMIT ?1"
            ),
            [limit],
        ),
        _ => read_nodes(
            connection,
            "SELECT id, kind, key, properties FROM node WHERE kind = ?1 ORDER BY key LIMIT ?2",
            (kind, limit),
        ),
    }
}

/// See [`crate::Reader::graph_edges`].
pub fn edges(
    connection: &Connection,
    ids: &[i64],
    direction: Direction,
    kinds: &[&str],
) -> Result<Vec<GraphEdge>> {
    let asked = Asked { ids: distinct(ids), direction, kinds };
    read(connection, EDGE_COLUMNS, &asked, edge, |edge| edge.source)
}

/// See [`crate::Reader::graph_links`].
pub fn links(
    connection: &Connection,
    ids: &[i64],
    direction: Direction,
    kinds: &[&str],
) -> Result<Vec<GraphLink>> {
    let asked = Asked { ids: distinct(ids), direction, kinds };
    read(connection, LINK_COLUMNS, &asked, link, |link| link.source)
}

struct Asked<'k> {
    ids: Vec<i64>,
    direction: Direction,
    kinds: &'k [&'k str],
}

fn read<T>(
    connection: &Connection,
    columns: &str,
    asked: &Asked<'_>,
    row: fn(&Row<'_>) -> rusqlite::Result<T>,
    source: fn(&T) -> i64,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    if asked.direction != Direction::In {
        read_edges(
            connection,
            &edges_sql(columns, FORWARD, !asked.kinds.is_empty()),
            asked,
            row,
            &mut found,
        )?;
    }
    if asked.direction != Direction::Out {
        let known = found.len();
        read_edges(
            connection,
            &edges_sql(columns, REVERSE, !asked.kinds.is_empty()),
            asked,
            row,
            &mut found,
        )?;
        if asked.direction == Direction::Both {
            // An edge between two of the nodes came with its source already.
            let ids: HashSet<i64> = asked.ids.iter().copied().collect();
            let mut place = 0;
            found.retain(|edge| {
                place += 1;
                place <= known || !ids.contains(&source(edge))
            });
        }
    }
    Ok(found)
}

fn read_edges<T>(
    connection: &Connection,
    sql: &str,
    asked: &Asked<'_>,
    row: fn(&Row<'_>) -> rusqlite::Result<T>,
    found: &mut Vec<T>,
) -> Result<()> {
    let mut statement = connection.prepare_cached(sql).map_err(failure)?;
    let kinds = Value::from(asked.kinds).to_string();
    for chunk in asked.ids.chunks(CHUNK) {
        let numbers = array(chunk);
        let parameters: &[&dyn rusqlite::ToSql] =
            if asked.kinds.is_empty() { &[&numbers] } else { &[&numbers, &kinds] };
        let rows = statement.query_map(parameters, row).map_err(failure)?;
        for row in rows {
            found.push(row.map_err(failure)?);
        }
    }
    Ok(())
}

/// Index and the end that it begins with.
const FORWARD: (&str, &str) = ("edge_forward", "source");
const REVERSE: (&str, &str) = ("edge_reverse", "target");

fn edges_sql(columns: &str, (index, end): (&str, &str), of_kinds: bool) -> String {
    let of_kinds = if of_kinds { "AND e.kind IN (SELECT value FROM json_each(?2))" } else { "" };
    format!(
        "SELECT {columns} FROM json_each(?1) i
         CROSS JOIN edge e INDEXED BY {index} ON e.{end} = i.value {of_kinds}
         CROSS JOIN host_name h ON h.id = e.host"
    )
}

fn read_nodes(connection: &Connection, sql: &str, parameters: impl Params) -> Result<Vec<GraphNode>> {
    let mut statement = connection.prepare_cached(sql).map_err(failure)?;
    let mut rows = statement.query(parameters).map_err(failure)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failure)? {
        let (kind, key): (String, String) =
            row.get(1).and_then(|kind| Ok((kind, row.get(2)?))).map_err(failure)?;
        let text = row.get_ref(3).map_err(failure)?.as_str();
        let properties = text
            .map_err(|e| e.to_string())
            .and_then(|text| serde_json::from_str(text).map_err(|e| e.to_string()))
            .map_err(|e| StoreError::Corrupt(format!("the properties of the {kind} {key}: {e}")))?;
        found.push(GraphNode { id: row.get(0).map_err(failure)?, kind, key, properties });
    }
    Ok(found)
}

fn edge(row: &Row<'_>) -> rusqlite::Result<GraphEdge> {
    Ok(GraphEdge {
        source: row.get(0)?,
        kind: row.get(1)?,
        target: row.get(2)?,
        host: row.get(3)?,
        instance: row.get(4)?,
        since: Timestamp(row.get(5)?),
    })
}

fn link(row: &Row<'_>) -> rusqlite::Result<GraphLink> {
    Ok(GraphLink { source: row.get(0)?, target: row.get(1)?, host: row.get(2)? })
}

/// Each number once, in order: the rows of the database are then read in the order in which they lie there.
fn distinct(ids: &[i64]) -> Vec<i64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn array(ids: &[i64]) -> String {
    Value::from(ids).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::open;

    #[test]
    fn a_step_searches_indexes_and_scans_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let connection =
            open::writer(&directory.path().join("db"), &super::super::migration::never()).unwrap();
        let plan = |sql: &str| -> Vec<String> {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let missing = rusqlite::params_from_iter(vec![None::<i64>; statement.parameter_count()]);
            let lines = statement.query_map(missing, |row| row.get(3)).unwrap();
            lines.collect::<rusqlite::Result<_>>().unwrap()
        };
        let scans = |plan: &[String]| -> Vec<String> {
            let of_tables = |line: &&String| line.starts_with("SCAN") && !line.contains("VIRTUAL TABLE");
            plan.iter().filter(of_tables).cloned().collect()
        };
        for (index, end) in [FORWARD, REVERSE] {
            for (of_kinds, searched) in [(false, format!("{end}=?")), (true, format!("{end}=? AND kind=?"))] {
                for (columns, covering) in [(EDGE_COLUMNS, ""), (LINK_COLUMNS, "COVERING ")] {
                    let plan = plan(&edges_sql(columns, (index, end), of_kinds));
                    assert_eq!(scans(&plan), [""; 0], "{plan:?}");
                    let search = format!("SEARCH e USING {covering}INDEX {index} ({searched})");
                    assert!(plan.contains(&search), "{search}: {plan:?}");
                }
            }
        }
        assert_eq!(scans(&plan(NODES)), [""; 0]);
    }
}

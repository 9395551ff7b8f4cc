//! Canned queries, and SQL typed by people.

use super::subgraph::{self, Wanted};
use super::{Answer, Failure, Shared, designation, limits};
use axum::Json;
use axum::extract::Path;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use model::graph::{EdgeKind, NodeKind};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::Table;
use store::query::{AnswerKind, CannedQuery};

/// The query that lists all queries: built in, because it asks the CMA and not the database.
const LIST: &str = "list";

pub async fn list(site: Shared) -> Answer {
    let knowledge = site.knowledge.get();
    let own = json!({"name": LIST, "source": "built in", "question": "Which queries are there?", "description": "",
        "columns": {"name": "name of the query", "question": "what it answers"}, "parameters": []});
    let mut all: Vec<Value> = vec![own];
    all.extend(knowledge.queries.iter().filter(|query| query.name != LIST).map(|query| json!(query)));
    all.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    Ok(Json(Value::Array(all)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    #[serde(default)]
    parameters: Map<String, Value>,
}

pub async fn run(site: Shared, Path(name): Path<String>, body: Result<Json<Run>, JsonRejection>) -> Answer {
    let Json(run) = body?;
    let knowledge = site.knowledge.get();
    if name == LIST {
        if let Some(unknown) = run.parameters.keys().next() {
            return Err(Failure::bad(
                format!("the query {LIST} has no parameters, so {unknown:?} means nothing"),
                "",
            ));
        }
        let rows: Vec<Value> =
            knowledge.queries.iter().map(|query| json!([query.name, query.question])).collect();
        let templates = json!({"human": "${name}: ${question}", "script": "${name}"});
        return Ok(Json(
            json!({"columns": ["name", "question"], "rows": rows, "truncated": false, "templates": templates}),
        ));
    }
    let unknown = || {
        Failure::new(
            StatusCode::NOT_FOUND,
            format!("there is no query {name:?}"),
            "`assimcli query list` shows them all",
        )
    };
    let query = knowledge.queries.get(&name).ok_or_else(unknown)?;
    let given: Vec<(String, Value)> = run.parameters.into_iter().collect();
    let bound = query.bind(&given).map_err(|error| Failure::bad(error, wanted(query)))?;
    if let Some(AnswerKind::Subgraph) = query.answer {
        return around(&site, query, bound).await;
    }
    let sql = query.sql.clone();
    let table = site.readers.read(move |reader| reader.sql(&sql, &bound, limits())).await?;
    let mut answer = shown(table);
    answer["templates"] = json!({"human": query.human, "script": query.script});
    Ok(Json(answer))
}

/// A part of the graph, as one row of nodes and relationships. `object` says that each row is an object to programs
/// and people alike: there is no line that could say as much.
async fn around(site: &super::Site, query: &CannedQuery, bound: Vec<(String, Value)>) -> Answer {
    let mut wanted = Wanted::default();
    for (name, value) in &bound {
        for word in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
            // The types of the parameters have checked the words.
            match name.as_str() {
                "hostname" => wanted.hosts.push(designation(word)?),
                "nodetypes" => wanted.kinds.extend(NodeKind::ALL.iter().filter(|kind| kind.as_str() == word)),
                _ => wanted.edges.extend(EdgeKind::ALL.iter().filter(|kind| kind.as_str() == word)),
            }
        }
    }
    let found = subgraph::answer(site, wanted).await?;
    Ok(Json(json!({"columns": AnswerKind::Subgraph.columns(), "rows": [[found.nodes, found.relationships]],
        "truncated": found.cut, "object": true, "templates": {"human": query.human, "script": query.script}})))
}

/// What a query wants to be told: `ipaddr is the IP address to look for, IPv4 or IPv6`.
fn wanted(query: &CannedQuery) -> String {
    let each =
        query.parameters.iter().map(|parameter| format!("{} is {}", parameter.name, parameter.description));
    each.collect::<Vec<_>>().join("; ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    sql: String,
}

pub async fn sql(site: Shared, body: Result<Json<Sql>, JsonRejection>) -> Answer {
    let Json(Sql { sql }) = body?;
    let table = site.readers.read(move |reader| reader.sql(&sql, &[], limits())).await?;
    Ok(Json(shown(table)))
}

/// The columns of all views, each with its meaning: the same as docs/views.md.
pub async fn views() -> Json<Value> {
    let all = store::sqlite::documentation().iter();
    let row = |view: &store::sqlite::View, (column, meaning): &(&str, &str)| json!({"view": view.name, "column": column, "meaning": meaning});
    Json(all.flat_map(|view| view.columns.iter().map(move |column| row(view, column))).collect())
}

fn shown(table: Table) -> Value {
    json!({"columns": table.columns, "rows": table.rows, "truncated": table.truncated})
}

//! `GET /v1/impact`, `/v1/path`, `/v1/timeline`, `/v1/changes` and `/v1/coverage`: see [`crate::questions`].

use super::{Answer, Failure, Shared, Site, designation, time};
use crate::questions::names::{Subject, resolve};
use crate::questions::{Stored, Trouble, Walker, changes, coverage, history, impact, path};
use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use model::{Designation, Timestamp};
use rules::OperatingSystem;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use store::{HostRow, Reader};

const DEFAULT_ROWS: usize = 1_000;
const MAX_ROWS: usize = 10_000;
const DEFAULT_HOPS: usize = 5;
const MAX_HOPS: usize = 20;
const DEFAULT_WITHIN_SECONDS: u64 = 900;
const MAX_WITHIN_SECONDS: u64 = 31 * 86_400;
/// How long gaps are looked for.
const COVERAGE_TIME: Duration = Duration::from_secs(30);
/// A host is asked about itself and what it uses, not about half of the site.
const MAX_CHANGE_HOPS: usize = 3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImpactQuery {
    of: String,
    hops: Option<usize>,
    rows: Option<usize>,
    /// With the path to each row, node by node; the default.
    paths: Option<bool>,
}

pub async fn impact(site: Shared, query: Result<Query<ImpactQuery>, QueryRejection>) -> Answer {
    let Query(query) = query?;
    let bounds = impact::Bounds {
        hops: query.hops.unwrap_or(DEFAULT_HOPS).clamp(1, MAX_HOPS),
        rows: query.rows.unwrap_or(DEFAULT_ROWS).clamp(1, MAX_ROWS),
    };
    let networks = networks(&site);
    answer(&site, move |reader| {
        let mut stored = Stored(reader);
        let mut walker = Walker::new(&mut stored);
        let subject = resolve(&mut walker, &query.of, &networks)?;
        let mut found = impact::impact(&mut walker, &subject, bounds)?;
        if query.paths == Some(false) {
            found.rows.iter_mut().for_each(|row| row.path.clear());
        }
        Ok(found)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathQuery {
    from: String,
    to: String,
}

pub async fn path(site: Shared, query: Result<Query<PathQuery>, QueryRejection>) -> Answer {
    let Query(query) = query?;
    let networks = networks(&site);
    answer(&site, move |reader| {
        let mut stored = Stored(reader);
        let mut walker = Walker::new(&mut stored);
        let from: Subject = resolve(&mut walker, &query.from, &networks)?;
        let to = resolve(&mut walker, &query.to, &networks)?;
        path::path(&mut walker, &from, &to)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelineQuery {
    host: String,
    /// What the host looked like then.
    at: Option<String>,
    /// What changed since then.
    since: Option<String>,
    /// With the facts of each change; for `at` compared with the present.
    #[serde(default)]
    facts: bool,
    rows: Option<usize>,
}

pub async fn timeline(site: Shared, query: Result<Query<TimelineQuery>, QueryRejection>) -> Answer {
    let Query(query) = query?;
    let host = designation(&query.host)?;
    let now = Timestamp::now();
    let moment = |text: &Option<String>| text.as_deref().map(time).transpose();
    let (at, since) = (moment(&query.at)?, moment(&query.since)?);
    if at.is_some() && since.is_some() {
        return Err(Failure::bad("at and since do not go together", "give one of them"));
    }
    let rows = query.rows.unwrap_or(DEFAULT_ROWS).clamp(1, MAX_ROWS);
    let facts = query.facts;
    answer(&site, move |reader| {
        known(reader, &host)?;
        if let Some(since) = since {
            let window = history::Window { from: since, to: now, late: Duration::ZERO };
            let (mut changes, mut is_cut) = history::changes(reader, &host, window, rows)?;
            let (told, more) = history::told_by(reader, &BTreeSet::from([host.to_string()]), window)?;
            changes.extend(told);
            changes.sort_by(history::order);
            is_cut |= more || changes.len() > rows;
            changes.truncate(rows);
            if !facts {
                changes.iter_mut().for_each(|change| change.difference = None);
            }
            return Ok(json!({"host": host.as_str(), "since": since, "changes": changes, "is_cut": is_cut}));
        }
        let at = at.unwrap_or(now);
        Ok(json!({"host": host.as_str(), "at": at, "documents": history::then(reader, &host, at, facts)?}))
    })
    .await
}

/// A host of which anything was ever heard.
fn known(reader: &mut dyn Reader, host: &Designation) -> Result<(), Trouble> {
    let statement = "SELECT host FROM hosts WHERE host = :host UNION SELECT * FROM (SELECT host FROM changes WHERE host = :host LIMIT 1)";
    let found = Stored(reader).table(statement, &[("host", json!(host.as_str()))])?;
    if !found.rows.is_empty() {
        return Ok(());
    }
    let mut stored = Stored(reader);
    let names = crate::questions::Graph::host_names(&mut stored)?;
    let near = model::text::nearest(host.as_str(), names.iter().map(String::as_str));
    Err(Trouble::Unknown(
        format!("there is no host {host}, and there was none"),
        match near {
            Some(near) => format!("did you mean {near}?"),
            None => "`assimcli hosts` lists them all".to_owned(),
        },
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangesQuery {
    before: String,
    /// Seconds.
    within: Option<u64>,
    hops: Option<usize>,
    rows: Option<usize>,
}

pub async fn changes(site: Shared, query: Result<Query<ChangesQuery>, QueryRejection>) -> Answer {
    let Query(query) = query?;
    let bounds = changes::Bounds {
        within: Duration::from_secs(query.within.unwrap_or(DEFAULT_WITHIN_SECONDS).min(MAX_WITHIN_SECONDS)),
        hops: query.hops.unwrap_or(1).min(MAX_CHANGE_HOPS),
        rows: query.rows.unwrap_or(DEFAULT_ROWS).clamp(1, MAX_ROWS),
    };
    answer(&site, move |reader| changes::before(reader, &query.before, bounds)).await
}

pub async fn coverage(site: Shared) -> Answer {
    let knowledge = site.knowledge.get();
    let now = Timestamp::now();
    answer(&site, move |reader| {
        let end = Instant::now() + COVERAGE_TIME;
        let rules_of = |host: &HostRow, os: Option<&OperatingSystem>| {
            knowledge.effective(&knowledge.standing_of(&host.designation, &[]), &host.domain, os)
        };
        Ok(coverage::coverage(reader, &rules_of, now, &mut || Instant::now() >= end)?)
    })
    .await
}

fn networks(site: &Site) -> Vec<String> {
    site.knowledge.get().config.networks.keys().cloned().collect()
}

/// Runs a question on a connection of the pool.
async fn answer<T: Serialize + Send + 'static>(
    site: &Site,
    question: impl FnOnce(&mut dyn Reader) -> Result<T, Trouble> + Send + 'static,
) -> Answer {
    let outcome = site
        .readers
        .read(move |reader| match question(reader) {
            Err(Trouble::Store(error)) => Err(error),
            Err(other) => Ok(Err(other)),
            Ok(found) => Ok(Ok(serde_json::to_value(found).unwrap_or(Value::Null))),
        })
        .await?;
    match outcome {
        Ok(value) => Ok(Json(value)),
        Err(trouble) => Err(failure(trouble)),
    }
}

fn failure(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Store(error) => error.into(),
        Trouble::Unknown(error, hint) => Failure::new(StatusCode::NOT_FOUND, error, hint),
        Trouble::Ambiguous(name, candidates) => Failure::new(
            StatusCode::CONFLICT,
            format!("{name:?} may mean several things"),
            format!("say which: {}", candidates.join(", ")),
        ),
    }
}

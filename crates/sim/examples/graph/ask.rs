//! How long answers take in the CMA: the same statements and functions, on a connection as it has them.

use super::figure;
use super::load::Failure;
use cma::questions::names::resolve;
use cma::questions::{Stored, Walker, impact, path};
use serde_json::Value;
use sim::documents::{DocumentSite, Tier};
use sim::random::Random;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;
use store::query::{ParameterType, Queries};
use store::sqlite::SqliteStore;
use store::{Direction, Reader, SqlLimits, Store};

/// Random arguments for each question.
const ARGUMENTS: usize = 50;
/// Of an answer about what stops, unless more are asked for: as the CMA's API has it.
const BOUNDS: impact::Bounds = impact::Bounds { hops: 5, rows: 1000 };
/// Edges of a neighbourhood: all but those to packages, which half of the site shares.
const NEIGHBOURHOOD: [&str; 9] = [
    "baseip",
    "hosting",
    "ipowner",
    "linkaddr",
    "nicowner",
    "parentsys",
    "tcpclient",
    "tcpservice",
    "wiredto",
];
/// Those of the CMA's API.
const LIMITS: SqlLimits = SqlLimits { rows: 100_000, milliseconds: 10_000, bytes: 64 * 1024 * 1024 };

pub fn measure(site: &DocumentSite, path: &Path) -> Result<(), Failure> {
    let store = SqliteStore::open(path)?;
    let mut reader = store.reader()?;
    let (queries, problems) = Queries::load(&[]);
    if let Some(problem) = problems.first() {
        return Err(problem.to_string().into());
    }
    let mut random = Random::new(2);
    for query in queries.iter() {
        let about_one = |kind| {
            matches!(kind, ParameterType::Hostname | ParameterType::Ipaddr | ParameterType::Macaddr)
        };
        let needed: Vec<_> =
            query.parameters.iter().filter(|parameter| parameter.default.is_none()).collect();
        if needed.is_empty() || !needed.iter().all(|parameter| about_one(parameter.kind)) {
            continue;
        }
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..ARGUMENTS {
            let host = random.below(site.hosts() as u64) as usize;
            let given: Vec<(String, Value)> = needed
                .iter()
                .map(|parameter| {
                    let value = match parameter.kind {
                        ParameterType::Ipaddr => site.address(host).to_string(),
                        ParameterType::Macaddr => site.macaddr(host),
                        _ => site.name(host),
                    };
                    (parameter.name.clone(), Value::from(value))
                })
                .collect();
            let bound = query.bind(&given)?;
            let begun = Instant::now();
            rows += reader.sql(&query.sql, &bound, LIMITS)?.rows.len();
            times.push(begun.elapsed().as_secs_f64());
        }
        let name = format!("query {}, {} rows on average", query.name, rows / ARGUMENTS);
        figure(&name, &median_and_p95(&mut times), "≤ 5 ms");
    }
    graph(site, reader.as_mut(), &mut random)
}

/// What follows edges: what stops with a host, a database, a switch; the way between two hosts; what is around one.
fn graph(site: &DocumentSite, reader: &mut dyn Reader, random: &mut Random) -> Result<(), Failure> {
    let hosts: Vec<usize> =
        (0..ARGUMENTS).map(|_| random.below(site.hosts() as u64) as usize).collect();
    let of_tier = |tier| hosts.iter().copied().filter(move |host| site.tier(*host) == tier);
    let names = |hosts: &mut dyn Iterator<Item = usize>| hosts.map(|host| site.name(host)).collect();
    let subjects: [(&str, Vec<String>); 4] = [
        ("a host", names(&mut hosts.iter().copied().filter(|host| site.tier(*host) != Tier::Infra))),
        ("the database of a host", of_tier(Tier::Db).map(|host| format!("{}:5432", site.address(host))).collect()),
        ("a switch", hosts.iter().map(|host| site.chassis(site.place(*host).0)).collect()),
        // What a thousand hosts use.
        ("a host of infrastructure", names(&mut site.infrastructure(site.hosts() - 1).into_iter())),
    ];
    for (what, names) in subjects {
        let mut rows = 0;
        let mut times = Vec::new();
        for name in &names {
            let begun = Instant::now();
            let mut stored = Stored(reader);
            let mut walker = Walker::new(&mut stored);
            let answer = resolve(&mut walker, name, &[])
                .and_then(|subject| impact::impact(&mut walker, &subject, BOUNDS))
                .map_err(|trouble| format!("impact of {name}: {trouble:?}"))?;
            rows += answer.rows.len();
            times.push(begun.elapsed().as_secs_f64());
        }
        let name = format!("impact of {what}, {} rows on average", rows / names.len().max(1));
        figure(&name, &median_and_p95(&mut times), "≤ 50 ms");
    }
    let (mut times, mut steps) = (Vec::new(), Vec::new());
    let mut nodes = 0;
    for pair in hosts.windows(2) {
        let begun = Instant::now();
        let mut stored = Stored(reader);
        let mut walker = Walker::new(&mut stored);
        let ends = (site.name(pair[0]), site.name(pair[1]));
        let from = resolve(&mut walker, &ends.0, &[]);
        let to = resolve(&mut walker, &ends.1, &[]);
        let found = from.and_then(|from| path::path(&mut walker, &from, &to?));
        found.map_err(|trouble| format!("path from {} to {}: {trouble:?}", ends.0, ends.1))?;
        steps.push(begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        nodes += neighbourhood(reader, &ends.0)?;
        times.push(begun.elapsed().as_secs_f64());
    }
    figure("path between two hosts", &median_and_p95(&mut steps), "≤ 50 ms");
    let name = format!("neighbourhood of 3 hops, {} nodes on average", nodes / times.len().max(1));
    figure(&name, &median_and_p95(&mut times), "≤ 50 ms");
    Ok(())
}

/// All nodes that are at most three edges from a host, read with their properties.
fn neighbourhood(reader: &mut dyn Reader, host: &str) -> Result<usize, Failure> {
    let mut level: Vec<i64> = reader.graph_find(Some("Drone"), host)?.iter().map(|node| node.id).collect();
    let mut known: BTreeSet<i64> = level.iter().copied().collect();
    for _ in 0..3 {
        let edges = reader.graph_edges(&level, Direction::Both, &NEIGHBOURHOOD)?;
        let ends = edges.iter().flat_map(|edge| [edge.source, edge.target]);
        level = ends.filter(|id| known.insert(*id)).collect();
    }
    let all: Vec<i64> = known.into_iter().collect();
    Ok(reader.graph_nodes(&all)?.len())
}

/// `1.2 / 3.4 ms`
fn median_and_p95(seconds: &mut [f64]) -> String {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = ((seconds.len() as f64 * share).ceil() as usize).clamp(1, seconds.len().max(1)) - 1;
        seconds.get(index).copied().unwrap_or(f64::NAN) * 1000.0
    };
    format!("{:.2} / {:.2} ms", at(0.5), at(0.95))
}

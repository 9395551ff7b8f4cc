//! How long answers take in the CMA: the same statements and functions, on a connection as it has them.

use super::figure;
use super::load::{Failure, thread_seconds};
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
        let about_one =
            |kind| matches!(kind, ParameterType::Hostname | ParameterType::Ipaddr | ParameterType::Macaddr);
        let needed: Vec<_> =
            query.parameters.iter().filter(|parameter| parameter.default.is_none()).collect();
        if needed.is_empty() || !needed.iter().all(|parameter| about_one(parameter.kind)) {
            continue;
        }
        let mut times = Times::default();
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
            rows += times.of(|| reader.sql(&query.sql, &bound, LIMITS))?.rows.len();
        }
        times.print(&format!("query {}, {} rows on average", query.name, rows / ARGUMENTS), "≤ 5 ms");
    }
    graph(site, reader.as_mut(), &mut random)
}

/// What follows edges: what stops with a host, a database, a switch; the way between two hosts; what is around one.
fn graph(site: &DocumentSite, reader: &mut dyn Reader, random: &mut Random) -> Result<(), Failure> {
    let hosts: Vec<usize> = (0..ARGUMENTS).map(|_| random.below(site.hosts() as u64) as usize).collect();
    let of_tier = |tier| hosts.iter().copied().filter(move |host| site.tier(*host) == tier);
    let names = |hosts: &mut dyn Iterator<Item = usize>| hosts.map(|host| site.name(host)).collect();
    let subjects: [(&str, Vec<String>); 4] = [
        ("a host", names(&mut hosts.iter().copied().filter(|host| site.tier(*host) != Tier::Infra))),
        (
            "the database of a host",
            of_tier(Tier::Db).map(|host| format!("{}:5432", site.address(host))).collect(),
        ),
        ("a switch", hosts.iter().map(|host| site.chassis(site.place(*host).0)).collect()),
        // What a thousand hosts use.
        ("a host of infrastructure", names(&mut site.infrastructure(site.hosts() - 1).into_iter())),
    ];
    for (what, names) in subjects {
        let mut rows = 0;
        let mut times = Times::default();
        for name in &names {
            let answer = times.of(|| {
                let mut stored = Stored(reader);
                let mut walker = Walker::new(&mut stored);
                let subject = resolve(&mut walker, name, &[])?;
                impact::impact(&mut walker, &subject, BOUNDS)
            });
            rows += answer.map_err(|trouble| format!("impact of {name}: {trouble:?}"))?.rows.len();
        }
        let average = rows / times.count();
        times.print(&format!("impact of {what}, {average} rows on average"), "≤ 50 ms");
    }
    let (mut ways, mut times) = (Times::default(), Times::default());
    let mut nodes = 0;
    for pair in hosts.windows(2) {
        let ends = (site.name(pair[0]), site.name(pair[1]));
        let found = ways.of(|| {
            let mut stored = Stored(reader);
            let mut walker = Walker::new(&mut stored);
            let from = resolve(&mut walker, &ends.0, &[])?;
            let to = resolve(&mut walker, &ends.1, &[])?;
            path::path(&mut walker, &from, &to)
        });
        found.map_err(|trouble| format!("path from {} to {}: {trouble:?}", ends.0, ends.1))?;
        nodes += times.of(|| neighbourhood(reader, &ends.0))?;
    }
    ways.print("path between two hosts", "≤ 50 ms");
    let average = nodes / times.count();
    times.print(&format!("neighbourhood of 3 hops, {average} nodes on average"), "≤ 50 ms");
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

/// How long something took, each time.
#[derive(Default)]
struct Times {
    seconds: Vec<f64>,
    /// Processor time: what a machine without other work would need.
    cpu_seconds: Vec<f64>,
}

impl Times {
    fn of<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (begun, before) = (Instant::now(), thread_seconds());
        let result = work();
        self.seconds.push(begun.elapsed().as_secs_f64());
        self.cpu_seconds.push(thread_seconds() - before);
        result
    }

    fn count(&self) -> usize {
        self.seconds.len().max(1)
    }

    fn print(mut self, name: &str, goal: &str) {
        figure(name, &format!("{} ms", median_and_p95(&mut self.seconds)), goal);
        figure("  of it CPU", &format!("{} ms", median_and_p95(&mut self.cpu_seconds)), "");
    }
}

/// In milliseconds: `1.2 / 3.4`.
fn median_and_p95(seconds: &mut [f64]) -> String {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = ((seconds.len() as f64 * share).ceil() as usize).clamp(1, seconds.len().max(1)) - 1;
        seconds.get(index).copied().unwrap_or(f64::NAN) * 1000.0
    };
    format!("{:.2} / {:.2}", at(0.5), at(0.95))
}

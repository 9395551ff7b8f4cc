//! How long answers take in the CMA: the same statements and functions, on a connection as it has them.

use super::figure;
use super::load::Failure;
use serde_json::Value;
use sim::documents::DocumentSite;
use sim::random::Random;
use std::path::Path;
use std::time::Instant;
use store::query::{Queries, ParameterType};
use store::sqlite::SqliteStore;
use store::{SqlLimits, Store};

/// Random arguments for each question.
const ARGUMENTS: usize = 50;
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
    Ok(())
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

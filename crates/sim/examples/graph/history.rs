//! A month in which one document of a hundred changes every day: what history costs.

use super::load::{self, Failure};
use super::{figure, size_bytes};
use model::Timestamp;
use sim::documents::{DocumentSite, Kind};
use sim::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use store::sqlite::SqliteStore;

const DAYS: u32 = 30;
const DAY: Duration = Duration::from_secs(86_400);
/// One document of so many changes each day.
const ONE_OF: usize = 100;

pub fn measure(site: &DocumentSite, path: &Path) -> Result<(), Failure> {
    let knowledge = load::knowledge();
    let all: Vec<(usize, Kind)> = (0..site.hosts())
        .flat_map(|host| site.kinds(host).into_iter().map(move |kind| (host, kind)))
        .collect();
    let before = size_bytes(path)?;
    let begun = Instant::now();
    let mut random = Random::new(1);
    let mut versions: BTreeMap<(usize, Kind), u32> = BTreeMap::new();
    let mut changes = 0;
    {
        let mut store = SqliteStore::open(path)?;
        let start = Timestamp::now();
        for day in 1..=DAYS {
            let mut chosen = BTreeSet::new();
            while chosen.len() < all.len().div_ceil(ONE_OF) {
                chosen.insert(all[random.below(all.len() as u64) as usize]);
            }
            changes += chosen.len();
            let mut today = chosen.into_iter().map(|(host, kind)| {
                let version = versions.entry((host, kind)).or_default();
                *version += 1;
                (host, site.document(host, kind, *version))
            });
            load::deliver(site, &mut store, &knowledge, &mut today, start.plus(DAY * day))?;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let grown = size_bytes(path)? - before;
    figure(
        &format!("history: {DAYS} days, {changes} documents changed"),
        &format!("{:.2} times", grown / before),
        "≤ 2 times",
    );
    figure("growth for each changed document", &format!("{:.1} kB", grown / 1e3 / changes as f64), "");
    figure("changed documents a second", &format!("{:.0} /s", changes as f64 / seconds), "");
    Ok(())
}

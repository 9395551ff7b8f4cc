//! What passes over all discoveries cost a nanoprobe:
//! `cargo run --release -p nanoprobe --example pass -- [--pause SECONDS] [--state DIRECTORY] [INSTANCE...] [NAME=VALUE...]`.
//!
//! Makes two passes over the instances named, else over those that run on every host and are not expensive, and prints
//! for each run `<pass> <instance> <CPU seconds> <seconds>`. The work is done by the nanoprobe's own collector, so the
//! time is that of its thread for everything a run costs: reading, the canonical text, its hash. A nanoprobe repeats, so
//! the second pass counts; the first also pays for what is only needed once. `--pause` waits between the passes,
//! `--state` keeps what spares discoveries work next time, `NAME=VALUE` is a parameter for all. At last, a line
//! `changed <instance>` for each document that changed though nobody changed anything, which a discovery must not do.

use model::DocumentHash;
use nanoprobe::agent::tasks::{Task, in_order, tasks};
use nanoprobe::collector::{Collector, Finished, Work};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

type Failure = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let (mut wanted, mut parameters) = (Vec::new(), BTreeMap::new());
    let (mut pause, mut state) = (Duration::ZERO, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--pause" => pause = Duration::from_secs(words.next().ok_or("--pause needs seconds")?.parse()?),
            "--state" => state = Some(PathBuf::from(words.next().ok_or("--state needs a directory")?)),
            _ => match word.split_once('=') {
                Some((name, value)) => drop(parameters.insert(name.to_owned(), value.to_owned())),
                None => wanted.push(word),
            },
        }
    }
    let mut tasks = tasks(&Default::default(), &[], "localhost", false);
    let is_cheap = |task: &Task| !matches!(task.work, Work::Native(discovery) if discovery.is_expensive());
    tasks.retain(|name, task| if wanted.is_empty() { is_cheap(task) } else { wanted.contains(name) });
    let (sender, mut results) = unbounded_channel();
    let mut collector = Collector::new(PathBuf::from("/"), sender);
    if let Some(state) = state {
        collector = collector.with_state(state);
    }
    let mut hashes: BTreeMap<String, DocumentHash> = BTreeMap::new();
    let mut changed = Vec::new();
    for pass in 1..=2 {
        if pass == 2 {
            tokio::time::sleep(pause).await;
        }
        for (instance, _) in in_order(&tasks) {
            let Some(task) = tasks.get_mut(&instance) else { continue };
            task.parameters.extend(parameters.clone());
            let started = Instant::now();
            let known = hashes.get(&instance).copied();
            let finished = once(&mut collector, &mut results, &instance, task, known).await?;
            let (cpu, seconds) = (finished.cpu.as_secs_f64(), started.elapsed().as_secs_f64());
            println!("{pass} {instance} {cpu:.6} {seconds:.6}");
            let hash = finished.result?.hash();
            if hashes.insert(instance.clone(), hash).is_some_and(|before| before != hash) {
                changed.push(instance);
            }
        }
    }
    changed.iter().for_each(|instance| println!("changed {instance}"));
    Ok(())
}

async fn once(
    collector: &mut Collector,
    results: &mut UnboundedReceiver<Finished>,
    instance: &str,
    task: &Task,
    known: Option<DocumentHash>,
) -> Result<Finished, Failure> {
    let timeout = Duration::from_secs(task.schedule.timeout_seconds);
    collector.start(instance, task.work.clone(), task.parameters.clone(), timeout, known)?;
    let finished = results.recv().await.ok_or("the collector is gone")?;
    collector.settle(&finished);
    Ok(finished)
}

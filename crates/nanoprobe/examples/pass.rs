//! What one pass over all discoveries costs a nanoprobe: `cargo run --release -p nanoprobe --example pass [INSTANCE...]`.
//!
//! Prints one line `<instance> <CPU seconds>` for each instance that runs on every host. The work is done by the
//! nanoprobe's own collector, so the time is that of its thread for everything a run costs: reading, the canonical
//! text, its hash. Two passes are made and the second one is told: the first also pays for what is only needed once,
//! and a nanoprobe repeats. On standard error: what the first pass cost together, and which documents changed between
//! the passes though nobody changed anything (a discovery must not report such things).

use model::DocumentHash;
use nanoprobe::agent::tasks::{Task, in_order, tasks};
use nanoprobe::collector::{Collector, Finished};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

type Failure = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut tasks = tasks(&Default::default(), &[], "localhost");
    tasks.retain(|name, _| wanted.is_empty() || wanted.contains(name));
    let (sender, mut results) = unbounded_channel();
    let mut collector = Collector::new(PathBuf::from("/"), sender);
    let mut hashes: BTreeMap<String, DocumentHash> = BTreeMap::new();
    let mut first = Duration::ZERO;
    for pass in 1..=2 {
        for (instance, _) in in_order(&tasks) {
            let Some(task) = tasks.get(&instance) else { continue };
            let finished = once(&mut collector, &mut results, &instance, task).await?;
            let hash = finished.result?.hash;
            if pass == 1 {
                first += finished.cpu;
                hashes.insert(instance, hash);
                continue;
            }
            println!("{instance} {:.6}", finished.cpu.as_secs_f64());
            if hashes.get(&instance) != Some(&hash) {
                eprintln!("{instance} changed by itself");
            }
        }
    }
    eprintln!("first pass: {:.6} s", first.as_secs_f64());
    Ok(())
}

async fn once(
    collector: &mut Collector,
    results: &mut UnboundedReceiver<Finished>,
    instance: &str,
    task: &Task,
) -> Result<Finished, Failure> {
    let timeout = Duration::from_secs(task.schedule.timeout_seconds);
    collector.start(instance, task.work.clone(), task.parameters.clone(), timeout)?;
    let finished = results.recv().await.ok_or("the collector is gone")?;
    collector.settle(&finished);
    Ok(finished)
}

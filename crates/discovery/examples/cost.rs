//! What the discoveries cost on this machine: `cargo run --release -p discovery --example cost [INSTANCE...]`.
//!
//! For each instance the processor time of a first and of an average later run, in milliseconds, the size of the
//! document, and what changed by itself between two runs (which a discovery must not report). With `--show`
//! as first argument the documents are printed too.

use discovery::{Host, Parameters, all, run};
use std::collections::BTreeMap;
use std::time::Duration;

const LATER_RUNS: u32 = 10;

fn main() {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    let show = wanted.first().is_some_and(|argument| argument == "--show");
    if show {
        wanted.remove(0);
    }
    let mut total = BTreeMap::from([("first", Duration::ZERO), ("later", Duration::ZERO)]);
    println!("{:24} {:>9} {:>9} {:>9} {:>7}", "instance", "first ms", "later ms", "bytes", "watched");
    for discovery in all() {
        for instance in discovery.instances {
            if !wanted.is_empty()
                && !wanted.iter().any(|name| name == instance.name || name == discovery.name)
            {
                continue;
            }
            let host = Host::running();
            let once = || run(discovery, instance.name, &host, &Parameters::new());
            let start = processor_time();
            let document = once();
            let first = processor_time() - start;
            let start = processor_time();
            let mut last = document.canonical();
            for _ in 0..LATER_RUNS {
                last = once().canonical();
            }
            let later = (processor_time() - start) / LATER_RUNS;
            for (name, cost) in [("first", first), ("later", later)] {
                *total.entry(name).or_default() += cost;
            }
            let touched = host.touched();
            let text = document.canonical();
            println!(
                "{:24} {:9.2} {:9.2} {:9} {:7}",
                instance.name,
                first.as_secs_f64() * 1e3,
                later.as_secs_f64() * 1e3,
                text.len(),
                touched.files.len() + touched.directories.len()
            );
            document.errors.iter().for_each(|error| println!("    {error}"));
            if last != text {
                println!("    changed by itself");
            }
            if show {
                println!("{text}");
            }
        }
    }
    let milliseconds = |name| total.get(name).map_or(0.0, |cost: &Duration| cost.as_secs_f64() * 1e3);
    println!("{:24} {:9.2} {:9.2}", "together", milliseconds("first"), milliseconds("later"));
}

/// User and system time of this process.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

//! `cargo xtask sim`: one history of the simulator with its figures, or a directed one by name, or a mass power-on.

use crate::{Outcome, workspace};
use ::sim::World;
use ::sim::chaos;
use ::sim::power_on::{PowerOnReport, power_on_with, resident_bytes};
use ::sim::scenario::{self, Scenario};
use std::process::Command;
use std::time::{Duration, Instant};
use system::process;

/// From this many hosts on an unoptimised simulator takes too long: it is built for release first.
const MANY_HOSTS: usize = 2000;

#[derive(clap::Args)]
pub struct Options {
    /// Power on a site of this many hosts, or play the scenario with that many
    #[arg(long)]
    hosts: Option<usize>,
    /// Decides everything; the same seed gives the same history
    #[arg(long)]
    seed: Option<u64>,
    /// How many random histories, from the seed on
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// A directed history by its name; `list` shows them
    #[arg(long)]
    scenario: Option<String>,
    /// Take this build of the simulator, also for many hosts
    #[arg(long)]
    no_build: bool,
    /// Print what happened, line by line
    #[arg(long)]
    log: bool,
}

pub fn run(options: &Options) -> Outcome {
    let seed = options.seed.unwrap_or(0);
    if cfg!(debug_assertions) && !options.no_build && options.hosts.is_some_and(|hosts| hosts >= MANY_HOSTS) {
        return again_for_release();
    }
    match (&options.scenario, options.hosts) {
        (Some(name), _) if name == "list" => {
            for Scenario { name, what, hosts, .. } in scenario::ALL {
                println!("{name:<16} {what} ({hosts} hosts)");
            }
            Ok(())
        }
        (Some(name), hosts) => {
            let scenario = scenario::find(name).ok_or_else(|| {
                format!("there is no scenario `{name}`: `cargo xtask sim --scenario list` shows them")
            })?;
            println!("{name}: {}", scenario.what);
            judge(options, &format!("--scenario {name} --seed {seed}"), || {
                scenario.run_with(seed, hosts, Box::new(::sim::cores::Production), options.log)
            })
        }
        (None, Some(hosts)) => mass_power_on(hosts, seed),
        (None, None) => (seed..seed.saturating_add(options.seeds)).try_for_each(|seed| {
            judge(options, &format!("--seed {seed}"), || {
                chaos::run_with(seed, Box::new(::sim::cores::Production), options.log)
            })
        }),
    }
}

/// The same command line with an optimised simulator.
fn again_for_release() -> Outcome {
    eprintln!("building the simulator for release: this many hosts take too long without");
    let mut command = Command::new("cargo");
    command.args(["run", "--release", "--quiet", "--locked", "--package", "xtask", "--"]);
    process::run(command.args(std::env::args_os().skip(1)).current_dir(workspace()))
}

/// Plays one history and prints what came of it.
fn judge(options: &Options, again: &str, play: impl FnOnce() -> World) -> Outcome {
    let begun = Instant::now();
    let world = play();
    if options.log {
        for line in world.log() {
            println!("{line}");
        }
    }
    let ledger = world.ledger();
    println!(
        "{again}: {} hosts, {:.0} virtual seconds in {:.1} s, {} events, {} registrations, trace {:016x}",
        world.setup().hosts,
        world.now().as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        world.events(),
        ledger.registrations(),
        world.trace()
    );
    for told in ledger.verdicts() {
        let latency =
            told.latency.map_or(String::new(), |time| format!(", {:.2} s after", time.as_secs_f64()));
        println!("  {:>9.3} s {:?}: {:?}{latency}", told.at.as_secs_f64(), told.cause, told.hosts);
    }
    if ledger.violations().is_empty() {
        return Ok(());
    }
    for violation in ledger.violations() {
        println!("  WRONG {violation}");
    }
    Err(format!(
        "{} promises were broken; see how with `cargo xtask sim {again} --log`",
        ledger.violations().len()
    ))
}

fn mass_power_on(hosts: usize, seed: u64) -> Outcome {
    let begun = Instant::now();
    let before = resident_bytes().unwrap_or(0);
    let mut shown = Instant::now();
    let mut peak = before;
    let report = power_on_with(hosts, seed, &mut |world: &World| {
        peak = peak.max(resident_bytes().unwrap_or(0));
        if shown.elapsed() >= Duration::from_secs(5) {
            shown = Instant::now();
            eprintln!(
                "{:>6.0} virtual seconds, {} events, {} of {hosts} hosts are up",
                world.now().as_secs_f64(),
                world.events(),
                world.ledger().present()
            );
        }
    });
    print(&report);
    println!("{:<58} {:>12.1}", "the simulation took, seconds", begun.elapsed().as_secs_f64());
    println!("{:<58} {:>12}", "its memory with all hosts, MB", megabytes(peak.saturating_sub(before)));
    println!(
        "Not in these figures: the CMA's real handshakes, decoding and commits. Each handshake is taken as 0.5 ms, each\n\
         registration as 1 ms of its writer, and its answer comes 8 ms later; `cargo xtask bench liveness` measures the\n\
         real ones."
    );
    if report.violations.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "broken promises of `cargo xtask sim --hosts {hosts} --seed {seed}`:\n  {}",
            report.violations.join("\n  ")
        ))
    }
}

fn print(report: &PowerOnReport) {
    let row = |what: &str, value: String| println!("{what:<58} {value:>12}");
    row("hosts switched on within a minute", report.hosts.to_string());
    row("registrations", report.registrations.to_string());
    let until = if report.all_watched {
        "until all have partners that they hear, virtual seconds"
    } else {
        "NOT all have partners after, virtual seconds"
    };
    row(until, format!("{:.0}", report.watched_after_seconds));
    row("watches told for each host", format!("{:.2}", report.watches_told_per_host));
    row("processor of the CMA's core for that, seconds", format!("{:.2}", report.core_cpu_seconds));
    row("memory of the CMA's core, MB", megabytes(report.core_memory_bytes));
    row("verdicts", report.verdicts.to_string());
    row("steady: heartbeats for each host and second", format!("{:.2}", report.packets_per_host_second));
    row("steady: bytes for each host and second (IPv4, UDP)", format!("{:.0}", report.bytes_per_host_second));
    row("steady: packets to the CMA a minute", format!("{:.1}", report.cma_events_per_minute));
    row(
        "steady: processor of the CMA's core, seconds a minute",
        format!("{:.4}", report.steady_core_cpu_seconds_per_minute),
    );
    row("events simulated", report.events.to_string());
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

//! `cargo xtask bench`: the figures that the project promises, measured with release builds of the real programs,
//! inside network namespaces, each printed with its goal and the machine's load.

mod audit;
mod checksums;
mod footprint;
mod graph;
mod ingest;
mod liveness;
mod pass;
mod reaction;

use crate::{Outcome, workspace};
use std::process::{Command, ExitStatus, Stdio};
use system::process::{self, is_root, load};
use system::site::Programs;

#[derive(clap::Args)]
pub struct Options {
    /// What to measure; everything when left out
    #[arg(value_enum)]
    what: Vec<What>,
    /// Flips for the time from a change to the start of the script
    #[arg(long, default_value_t = 50)]
    flips: usize,
    /// Flips with polling only; each takes a minute or two
    #[arg(long, default_value_t = 5)]
    polled_flips: usize,
    /// How long the idle nanoprobe is watched
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Measure the release programs that are there instead of building them first
    #[arg(long)]
    no_build: bool,
    /// Nanoprobes killed, one at a time, for the time to the alert
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// How long every tenth packet is lost
    #[arg(long, default_value_t = 10)]
    loss_minutes: u64,
    /// How long a site at rest is watched
    #[arg(long, default_value_t = 3)]
    steady_minutes: u64,
    /// Hosts of the simulated site that is switched on; 0 leaves that out
    #[arg(long, default_value_t = 100_000)]
    simulated_hosts: usize,
    /// Hosts of the made-up site whose graph is loaded and asked
    #[arg(long, default_value_t = 10_000)]
    hosts: usize,
    /// Documents sent by simulated agents
    #[arg(long, default_value_t = 30_000)]
    documents: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// From a change on a host to the start of the notification script
    Reaction,
    /// Changed documents per second that the CMA makes durable
    Ingest,
    /// Memory, CPU and traffic of an idle nanoprobe
    Footprint,
    /// CPU of one full discovery pass, and what changes by itself in a minute
    Pass,
    /// CPU and memory of a whole audit of this machine
    Audit,
    /// From the death of a nanoprobe to the start of the notification script; heartbeats under loss and at rest
    Liveness,
    /// The graph of a large site: loading it, asking it, a month of history
    Graph,
    /// Checksums of the system's programs and libraries, beside sha256sum
    Checksums,
}

pub fn run(options: &Options) -> Outcome {
    if !is_root() {
        return Err(
            "the benchmarks make network namespaces and need root: `sudo -E cargo xtask bench`".into()
        );
    }
    if !options.no_build {
        eprintln!("building release programs");
        process::run(
            Command::new("cargo")
                .args(["build", "--release", "--locked", "--workspace", "--bins", "--examples"])
                .current_dir(workspace()),
        )?;
    }
    let programs = Programs::in_directory(&crate::target_directory().join("release"));
    let wanted = |what| options.what.is_empty() || options.what.contains(&what);
    println!("{:<58} {:>12} {:>14}   load (1, 5, 15 min)", "figure", "value", "goal");
    if wanted(What::Pass) {
        pass::measure(&programs)?;
    }
    if wanted(What::Audit) {
        audit::measure(&programs)?;
    }
    if wanted(What::Checksums) {
        checksums::measure(&programs)?;
    }
    if wanted(What::Reaction) {
        reaction::measure(&programs, options.flips, options.polled_flips)?;
    }
    if wanted(What::Liveness) {
        let extent = liveness::Extent {
            kills: options.kills,
            loss_minutes: options.loss_minutes,
            steady_minutes: options.steady_minutes,
            simulated_hosts: options.simulated_hosts,
        };
        liveness::measure(&programs, extent)?;
    }
    if wanted(What::Ingest) {
        ingest::measure(&programs, options.documents)?;
    }
    if wanted(What::Graph) {
        graph::measure(&programs, options.hosts)?;
    }
    if wanted(What::Footprint) {
        footprint::measure(&programs, options.minutes)?;
    }
    Ok(())
}

/// One line of the report.
fn figure(name: &str, value: &str, goal: &str) {
    println!("{name:<58} {value:>12} {goal:>14}   {}", load());
}

/// What a program and its children cost.
struct Cost {
    seconds: f64,
    /// User and system.
    cpu_seconds: f64,
    /// The largest of them at its largest, in millions of bytes.
    memory_megabytes: f64,
}

/// Runs a program with time(1), its output dropped.
fn timed(command: &mut Command) -> Result<(Cost, ExitStatus), String> {
    let mut time = Command::new("/usr/bin/time");
    time.args(["-q", "-f", "%e %U %S %M", "--"]).arg(command.get_program()).args(command.get_args());
    let (status, said) = match time.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()
    {
        Ok(output) => (output.status, String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => return Err(format!("/usr/bin/time: {error}: install the package time")),
    };
    let last = said.lines().last().unwrap_or("");
    let words: Vec<f64> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    let did_start = !matches!(status.code(), Some(126 | 127));
    let (&[seconds, user, system, kilobytes], true) = (&words[..], did_start) else {
        return Err(format!("{} did not run: {said}", command.get_program().display()));
    };
    let cost = Cost { seconds, cpu_seconds: user + system, memory_megabytes: kilobytes * 1024.0 / 1e6 };
    Ok((cost, status))
}

/// The sum over both processes of a nanoprobe.
fn of_both(pid: u32, figure: impl Fn(u32) -> Result<f64, String>) -> Result<f64, String> {
    system::process::family(pid).into_iter().map(figure).sum()
}

/// User and system CPU seconds of a process so far (proc_pid_stat(5), fields 14 and 15).
fn cpu_seconds(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    // The command name may contain blanks and parentheses; fields are counted after its last `)`.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|f| f.parse::<f64>().ok())
            .ok_or_else(|| format!("{path} has no field {index}"))
    };
    // USER_HZ, 100 on every architecture of today, whatever the kernel's own clock does (time(7)).
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// The value below which `share` of the sorted samples lie.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let samples: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&samples, 0.5), 50.0);
        assert_eq!(percentile(&samples, 0.95), 95.0);
        assert_eq!(percentile(&[7.0], 0.95), 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn the_cost_of_a_program_is_told_with_its_status() {
        let work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo noise >&2; exit 2";
        let (cost, status) = timed(Command::new("sh").args(["-c", work])).unwrap();
        assert_eq!(status.code(), Some(2));
        assert!(cost.cpu_seconds <= cost.seconds + 0.05 && cost.memory_megabytes > 0.1);
        assert!(timed(&mut Command::new("/no/such/program")).is_err());
    }

    #[test]
    fn own_cpu_time_is_read() {
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        assert!(cpu_seconds(u32::MAX).is_err());
    }
}

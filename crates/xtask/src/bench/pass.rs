//! CPU of one full discovery pass: everything that runs on every host and is not expensive, once.

use super::figure;
use std::path::Path;
use std::process::Command;
use system::process::capture;
use system::site::Programs;

/// Discoveries that get a line of their own.
const SHOWN: usize = 12;
/// Between the two passes, so that what changes by itself within a minute shows.
const PAUSE_SECONDS: &str = "60";

/// A line of the example `pass`.
pub struct Run {
    pub pass: usize,
    pub instance: String,
    pub cpu_seconds: f64,
    pub seconds: f64,
}

/// Reports the sums of both passes, the dearest discoveries and the documents that changed by themselves.
pub fn measure(programs: &Programs) -> Result<(), String> {
    eprintln!("two passes, a minute apart");
    let (runs, changed) = passes(programs, &["--pause", PAUSE_SECONDS])?;
    for (pass, goal) in [(2, "≤ 0.4 s"), (1, "≤ 0.4 s")] {
        let costs: Vec<f64> = runs.iter().filter(|run| run.pass == pass).map(|run| run.cpu_seconds).collect();
        let name = if pass == 1 { "the same, the first pass of a process" } else { "one pass: CPU" };
        let name = format!("{name}, {} discoveries", costs.len());
        figure(&name, &format!("{:.3} s", costs.iter().sum::<f64>()), goal);
    }
    let mut second: Vec<&Run> = runs.iter().filter(|run| run.pass == 2).collect();
    second.sort_by(|a, b| b.cpu_seconds.total_cmp(&a.cpu_seconds));
    for run in second.iter().take(SHOWN) {
        figure(&format!("  of which {}", run.instance), &format!("{:.4} s", run.cpu_seconds), "");
    }
    if let Some(rest) = second.get(SHOWN..) {
        let sum: f64 = rest.iter().map(|run| run.cpu_seconds).sum();
        figure(&format!("  of which the other {}", rest.len()), &format!("{sum:.4} s"), "");
    }
    figure("documents that changed by themselves in a minute", &changed.len().to_string(), "0");
    changed.iter().for_each(|instance| figure(&format!("  {instance}"), "changed", ""));
    Ok(())
}

/// Both passes of the example `pass`, and which documents differ between them.
pub fn passes(programs: &Programs, arguments: &[&str]) -> Result<(Vec<Run>, Vec<String>), String> {
    let output =
        capture(Command::new(programs.path("examples/pass")).args(arguments).current_dir(Path::new("/")))?;
    let (mut runs, mut changed) = (Vec::new(), Vec::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["changed", instance] => changed.push(instance.to_owned()),
            [pass, instance, cpu, seconds] => runs.push(Run {
                pass: pass.parse().map_err(|_| unexpected(line))?,
                instance: instance.to_owned(),
                cpu_seconds: cpu.parse().map_err(|_| unexpected(line))?,
                seconds: seconds.parse().map_err(|_| unexpected(line))?,
            }),
            _ => return Err(unexpected(line)),
        }
    }
    if runs.is_empty() || !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("the example `pass` failed ({}): {said}", output.status));
    }
    Ok((runs, changed))
}

fn unexpected(line: &str) -> String {
    format!("the example `pass` printed {line:?}: it does not belong to this xtask, build it again")
}

//! CPU of one full discovery pass: everything that runs on every host, once.

use super::figure;
use std::process::Command;
use system::process::capture;
use system::site::Programs;

/// Runs the example `pass` of the nanoprobe crate, which prints one line `<instance> <CPU seconds>` for each
/// instance, and reports the sum and the three dearest.
pub fn measure(programs: &Programs) -> Result<(), String> {
    let output = capture(&mut Command::new(programs.path("examples/pass")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut costs: Vec<(&str, f64)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, seconds)| Some((name, seconds.trim().parse().ok()?)))
        .collect();
    if costs.is_empty() || !output.status.success() {
        return Err(format!(
            "the example `pass` printed no costs: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    let total: f64 = costs.iter().map(|(_, seconds)| seconds).sum();
    figure(&format!("one pass of {} discoveries: CPU", costs.len()), &format!("{total:.3} s"), "≤ 0.15 s");
    costs.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (name, seconds) in costs.iter().take(3) {
        figure(&format!("  of which {name}"), &format!("{seconds:.3} s"), "");
    }
    Ok(())
}

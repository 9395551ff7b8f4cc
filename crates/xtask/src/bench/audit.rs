//! What a whole `nanoprobe audit` of this machine costs, the start of the program and all rule sets included.

use super::{figure, timed};
use std::process::Command;
use system::site::Programs;

/// The best of so many runs counts: what else goes on here only ever adds.
const RUNS: usize = 3;

pub fn measure(programs: &Programs) -> Result<(), String> {
    let mut all = Vec::new();
    for _ in 0..RUNS {
        let (cost, status) = timed(Command::new(programs.path("nanoprobe")).args(["audit", "-o", "json"]))?;
        // 2: something fails here, which is to be expected.
        if !matches!(status.code(), Some(0 | 2)) {
            return Err(format!("nanoprobe audit ended with {status}"));
        }
        all.push(cost);
    }
    let least = |of: fn(&super::Cost) -> f64| all.iter().map(of).fold(f64::INFINITY, f64::min);
    figure(
        "audit with BASE: CPU, user and system",
        &format!("{:.2} s", least(|cost| cost.cpu_seconds)),
        "≤ 0.5 s",
    );
    figure(
        "audit with BASE: most memory resident",
        &format!("{:.1} MB", least(|cost| cost.memory_megabytes)),
        "≤ 40 MB",
    );
    Ok(())
}

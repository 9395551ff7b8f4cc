//! Checksums of the system's programs and libraries, compared with sha256sum over the same files, all in the page cache.

use super::pass::{Run, passes};
use super::{figure, timed};
use std::process::Command;
use system::site::Programs;

const DIRECTORIES: &str = "/usr/bin /usr/sbin /usr/lib";
const INSTANCE: &str = "_auto_checksumdiscovery";

pub fn measure(programs: &Programs) -> Result<(), String> {
    let state = std::env::temp_dir().join(format!("assimilation-checksums-{}", std::process::id()));
    let result = with_state(programs, &state.display().to_string());
    let _ = std::fs::remove_dir_all(&state);
    result
}

fn with_state(programs: &Programs, state: &str) -> Result<(), String> {
    eprintln!("sums of all files of {DIRECTORIES}, several times");
    // The discovery gives way to everything else on the machine; so shall what it is compared with.
    let script = format!("find {DIRECTORIES} -type f -print0 | nice -n 19 xargs -0 sha256sum > /dev/null");
    let sums = || timed(Command::new("sh").args(["-c", &script]));
    // The first one only brings the files into memory.
    sums()?;
    let theirs = sums()?.0;
    let parameter = format!("directories={DIRECTORIES}");
    let (runs, changed) = passes(programs, &["--state", state, INSTANCE, &parameter])?;
    let [first, second] = runs.as_slice() else { return Err("two runs were expected".into()) };
    let percent = |ours: f64, theirs: f64| format!("{:.1} %", 100.0 * ours / theirs);
    figure("sha256sum: seconds", &format!("{:.2} s", theirs.seconds), "");
    figure("sha256sum: CPU", &format!("{:.2} s", theirs.cpu_seconds), "");
    let line = |what: &str, run: &Run, goal: &str| {
        figure(
            &format!("{what} run: seconds, of those of sha256sum"),
            &percent(run.seconds, theirs.seconds),
            goal,
        );
        figure(
            &format!("{what} run: CPU, of that of sha256sum"),
            &percent(run.cpu_seconds, theirs.cpu_seconds),
            goal,
        );
    };
    line("checksums, first", first, "≤ 100 %");
    line("checksums, second", second, "≤ 2 %");
    figure("checksums that changed between the runs", &changed.len().to_string(), "0");
    Ok(())
}

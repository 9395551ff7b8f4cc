//! Changed documents per second that the CMA makes durable over real QUIC, and what one costs it.

use super::{cpu_seconds, figure};
use std::fs;
use std::path::Path;
use std::process::Command;
use system::process::capture;
use system::site::{Programs, Site};

/// Simulated hosts that send at the same time.
const AGENTS: usize = 30;

pub fn measure(programs: &Programs, documents: usize) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("assimilation-ingest-{}", std::process::id()));
    let result = in_folder(&folder, programs, documents);
    let _ = fs::remove_dir_all(&folder);
    result
}

fn in_folder(folder: &Path, programs: &Programs, documents: usize) -> Result<(), String> {
    let site = Site::create(folder, programs.clone())?;
    let cma = site.start_cma(&["--web", "127.0.0.1:0"])?;
    let each = documents.div_ceil(AGENTS);
    let before = cpu_seconds(cma.pid())?;
    let mut agents = Command::new(programs.path("examples/agents"));
    agents.arg(&site.address).arg(site.paths.crypto()).args([AGENTS.to_string(), each.to_string()]);
    let output = capture(&mut agents)?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let seconds: f64 = text.parse().map_err(|_| {
        format!("the simulated agents failed: {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    let total = (each * AGENTS) as f64;
    let cpu = cpu_seconds(cma.pid())? - before;
    figure(
        &format!("CMA: changed documents a second, durable ({total} from {AGENTS} hosts)"),
        &format!("{:.0} /s", total / seconds),
        "≥ 1500 /s",
    );
    figure("CMA: CPU for each", &format!("{:.2} ms", cpu / total * 1000.0), "");
    let transitions = site.count("SELECT eventid FROM events LIMIT 10");
    if transitions == 0 {
        return Err("no event came of all these documents: the figures above measured nothing".into());
    }
    Ok(())
}

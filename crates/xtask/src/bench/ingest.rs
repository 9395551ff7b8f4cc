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
    let cpu = cpu_seconds(cma.pid())? - before;
    let total = each * AGENTS;
    let stored = number(&site, "SELECT count(*) AS number FROM changes")?;
    let told = number(&site, "SELECT count(*) AS number FROM events WHERE eventtype IN ('warn', 'unwarn')")?;
    if stored != total as u64 || told == 0 {
        return Err(format!(
            "{total} documents were acknowledged, {stored} are stored, and {told} transitions of rules came of them"
        ));
    }
    figure(
        &format!("CMA: changed documents a second, durable ({total} from {AGENTS} hosts)"),
        &format!("{:.0} /s", total as f64 / seconds),
        "≥ 1500 /s",
    );
    figure("CMA: CPU for each", &format!("{:.2} ms", cpu / total as f64 * 1000.0), "");
    figure("CMA: events for each", &format!("{:.1}", told as f64 / total as f64), "");
    Ok(())
}

/// The one number that a statement gives.
pub(super) fn number(site: &Site, statement: &str) -> Result<u64, String> {
    let rows = site.ask(&["sql", statement])?;
    rows[0]["number"].as_u64().ok_or_else(|| format!("{statement} gave {rows}"))
}

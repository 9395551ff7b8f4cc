//! What an idle nanoprobe costs: memory, CPU, bytes on the network.

use super::{cpu_seconds, figure, of_both};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use system::network::{Host, Network};
use system::process::capture;
use system::site::{Programs, Site};
use system::wait_for;

pub fn measure(programs: &Programs, minutes: u64) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("assimilation-footprint-{}", std::process::id()));
    let result = in_folder(&folder, programs, minutes);
    let _ = fs::remove_dir_all(&folder);
    result
}

fn in_folder(folder: &Path, programs: &Programs, minutes: u64) -> Result<(), String> {
    let network = Network::new(&["center", "picard"])?;
    let (center, picard) = (network.host("center")?, network.host("picard")?);
    // The kernel's own IPv6 chatter would be counted as ours.
    picard.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
    let site =
        Site::create_at(folder, programs.clone(), &format!("{}:1984", center.address), Some(center.clone()))?;
    let _cma = site.start_cma(&[])?;
    let nanoprobe = site.start_nanoprobe("picard", Some(picard), &["--cmaaddr", &site.address])?;
    wait_for("documents", Duration::from_secs(60), || {
        (site.count("SELECT 1 FROM documents") >= 10).then_some(())
    })?;
    // The first minute has registration, first documents, closing the connection.
    eprintln!("watching an idle nanoprobe for 1 + {minutes} minutes");
    std::thread::sleep(Duration::from_secs(60));

    let pid = nanoprobe.pid();
    let (cpu, sent, start) = (of_both(pid, cpu_seconds)?, sent_bytes(picard)?, Instant::now());
    std::thread::sleep(Duration::from_secs(60 * minutes));
    let passed = start.elapsed().as_secs_f64() / 60.0;
    figure(
        &format!("nanoprobe: resident memory of both processes after {minutes} minutes"),
        &format!("{:.1} MB", of_both(pid, |pid| memory(pid, "Rss"))?),
        "≤ 12 MB",
    );
    for (number, name) in system::process::family(pid).into_iter().zip(["collectors", "network"]) {
        let (resident, own) = (memory(number, "Rss")?, memory(number, "Pss")?);
        figure(
            &format!("nanoprobe: {name}, resident and PSS"),
            &format!("{resident:.1} and {own:.1} MB"),
            "",
        );
    }
    figure(
        "nanoprobe: proportional memory (PSS) of both",
        &format!("{:.1} MB", of_both(pid, |pid| memory(pid, "Pss"))?),
        "",
    );
    figure(
        "nanoprobe: most memory the collectors ever had resident",
        &format!("{:.1} MB", kilobytes(pid, "status", "VmHWM")? / 1024.0),
        "",
    );
    figure(
        "nanoprobe: CPU a minute, nothing changes",
        &format!("{:.3} s", (of_both(pid, cpu_seconds)? - cpu) / passed),
        "≤ 0.2 s",
    );
    figure(
        "nanoprobe: bytes a minute to the CMA, nothing changes",
        &format!("{:.0} B", (sent_bytes(picard)? - sent) / passed),
        "0 B",
    );
    Ok(())
}

/// `Rss` or `Pss` in MB (proc_pid_smaps(5)).
fn memory(pid: u32, which: &str) -> Result<f64, String> {
    Ok(kilobytes(pid, "smaps_rollup", which)? / 1024.0)
}

/// A line such as `Rss:   1234 kB` of a file below /proc/PID.
fn kilobytes(pid: u32, file: &str, which: &str) -> Result<f64, String> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{which}:")))
        .ok_or_else(|| format!("{path} has no {which}"))?;
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).ok_or_else(|| format!("{path}: {line}"))
}

fn sent_bytes(host: &Host) -> Result<f64, String> {
    let output = capture(host.command(Path::new("ip")).args(["-json", "-stats", "link", "show", "eth0"]))?;
    let links: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("ip printed no JSON: {e}"))?;
    links[0]["stats64"]["tx"]["bytes"].as_f64().ok_or_else(|| format!("ip tells no bytes: {links}"))
}

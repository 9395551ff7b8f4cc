//! What an idle nanoprobe costs: memory and CPU of one that has its machine for itself, and bytes on the network: of the
//! only host of a site, which the CMA watches, and of hosts that watch each other, with which the CMA has nothing to do.

use super::liveness::{nothing_but_heartbeats, traffic};
use super::{cpu_seconds, figure, of_both};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use system::network::{Host, Network};
use system::site::{Programs, Site};
use system::wait_for;

const CENTER: &str = "center";
/// The first one is looked at, and is alone in the beginning.
const HOSTS: [&str; 3] = ["picard", "janeway", "sisko"];
const PATIENCE: Duration = Duration::from_secs(120);
/// Registration, first documents and closing the connection are over by then.
const SETTLED: Duration = Duration::from_secs(60);
/// How long the site of three is watched: a lone host sends a packet a second.
const WATCHED: Duration = Duration::from_secs(60);

pub fn measure(programs: &Programs, minutes: u64) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("assimilation-footprint-{}", std::process::id()));
    let result = in_folder(&folder, programs, minutes);
    let _ = fs::remove_dir_all(&folder);
    result
}

fn in_folder(folder: &Path, programs: &Programs, minutes: u64) -> Result<(), String> {
    let all: Vec<&str> = [CENTER].into_iter().chain(HOSTS).collect();
    let network = Network::new(&all)?;
    for name in &all {
        // The kernel's own IPv6 chatter would be counted as ours.
        network.host(name)?.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
    }
    let center = network.host(CENTER)?;
    let address = format!("{}:1984", center.address);
    let site = Site::create_at(folder, programs.clone(), &address, Some(center.clone()))?;
    let start = |name: &str| {
        let host = network.host(name)?;
        site.start_nanoprobe(name, Some(host), &["--cmaaddr", &site.address, "--debug", "1"])
    };
    {
        // Alone, because several nanoprobes on one machine share their code, which no real host does.
        let _cma = site.start_cma(&[])?;
        let nanoprobe = start(HOSTS[0])?;
        wait_for("documents", PATIENCE, || (site.count("SELECT 1 FROM documents") >= 10).then_some(()))?;
        eprintln!("watching an idle nanoprobe for 1 + {minutes} minutes");
        std::thread::sleep(SETTLED);
        let_it_rest(nanoprobe.pid(), center, Duration::from_secs(60 * minutes))?;
    }
    // Without discoveries, so that nothing changes whatever else this machine does.
    let config = site.paths.at("/etc/assimilation/cma.toml");
    fs::write(&config, nothing_but_heartbeats()).map_err(|e| format!("{}: {e}", config.display()))?;
    let _cma = site.start_cma(&[])?;
    let _nanoprobes = [start(HOSTS[0])?, start(HOSTS[1])?, start(HOSTS[2])?];
    for name in HOSTS {
        wait_until_watching(&site, name)?;
    }
    eprintln!("watching a site of three hosts for 1 + 1 minutes");
    std::thread::sleep(SETTLED);
    let bytes = bytes_a_minute(center, || std::thread::sleep(WATCHED))?;
    figure(
        "three hosts that watch each other: bytes a minute to and from the CMA",
        &format!("{bytes:.0} B"),
        "0 B",
    );
    Ok(())
}

/// Until a host was told whom of the others to watch.
fn wait_until_watching(site: &Site, name: &str) -> Result<(), String> {
    let log = site.log(&format!("nanoprobe-{name}"));
    wait_for(&format!("partners of {name}"), PATIENCE, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let told = text.lines().rev().find(|line| line.contains("partners from the CMA"))?;
        told.contains("partners=2").then_some(())
    })
}

/// Nothing happens for `time`: memory at its end, processor time and traffic within it.
fn let_it_rest(pid: u32, center: &Host, time: Duration) -> Result<(), String> {
    let minutes = time.as_secs() / 60;
    let (cpu, start) = (of_both(pid, cpu_seconds)?, Instant::now());
    let bytes = bytes_a_minute(center, || std::thread::sleep(time))?;
    let cpu = (of_both(pid, cpu_seconds)? - cpu) / start.elapsed().as_secs_f64() * 60.0;
    figure(
        &format!("nanoprobe: resident memory of both processes after {minutes} minutes"),
        &format!("{:.1} MB", of_both(pid, |pid| memory(pid, "Rss"))?),
        "≤ 12 MB",
    );
    for (number, name) in system::process::family(pid).into_iter().zip(["collectors", "network"]) {
        let (resident, proportional) = (memory(number, "Rss")?, memory(number, "Pss")?);
        let own = memory(number, "Private_Dirty")?;
        figure(
            &format!("nanoprobe: {name}, resident, PSS and what it wrote itself"),
            &format!("{resident:.1}, {proportional:.1} and {own:.1} MB"),
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
    figure("nanoprobe: CPU a minute, nothing changes", &format!("{cpu:.3} s"), "≤ 0.2 s");
    figure(
        "a lone host, which the CMA itself watches: bytes a minute to and from the CMA",
        &format!("{bytes:.0} B"),
        "",
    );
    Ok(())
}

/// What passes the CMA's interface, both ways, while `wait` waits; with Ethernet headers.
fn bytes_a_minute(center: &Host, wait: impl FnOnce()) -> Result<f64, String> {
    let (before, start) = (traffic(center)?.bytes, Instant::now());
    wait();
    Ok((traffic(center)?.bytes - before) / start.elapsed().as_secs_f64() * 60.0)
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

//! Mass power-on of a site, and what it costs afterwards.

use crate::cores::{Cores, Production};
use crate::world::{Setup, Steady, World, address_text, designation};
use liveness::center::Output;
use model::config::HeartbeatConfig;
use model::liveness::Session;
use std::time::Duration;

/// The machines of a site that gets its power back do not start at the same moment.
const BOOT_SPREAD: Duration = Duration::from_secs(60);
/// Connections used during power-on end before the steady state is measured.
const CALM: Duration = Duration::from_secs(45);
const STEADY: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(1800);

/// What a power-on came to.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerOnReport {
    pub hosts: usize,
    /// Everybody has partners and hears them.
    pub all_watched: bool,
    /// Virtual seconds from the first machine's start until then.
    pub watched_after_seconds: f64,
    /// Registrations in that time; more than hosts when some had to come again.
    pub registrations: u64,
    /// Processor time of the CMA's core alone; handshakes and commits are not in it.
    pub core_cpu_seconds: f64,
    pub watches_told_per_host: f64,
    /// What the core of a CMA with all hosts holds, by the growth of this process; 0 where the system does not tell.
    pub core_memory_bytes: u64,
    /// Steady state, per host and second.
    pub packets_per_host_second: f64,
    pub bytes_per_host_second: f64,
    /// What reaches the CMA in steady state.
    pub cma_events_per_minute: f64,
    /// Processor time of the core in a minute of steady state.
    pub steady_core_cpu_seconds_per_minute: f64,
    /// Verdicts; all would be wrong.
    pub verdicts: usize,
    pub events: u64,
    /// What was found wrong, in words.
    pub violations: Vec<String>,
}

/// Switches on a site of so many hosts, 48 on each switch.
pub fn power_on(hosts: usize, seed: u64) -> PowerOnReport {
    power_on_with(hosts, seed, &mut |_| {})
}

/// As [`power_on`]; `progress` is shown the world now and then.
pub fn power_on_with(hosts: usize, seed: u64, progress: &mut dyn FnMut(&World)) -> PowerOnReport {
    let core_memory_bytes = core_memory(hosts);
    let setup = Setup { hosts_per_place: 48, boot_spread: BOOT_SPREAD, ..Setup::new(seed, hosts) };
    let mut world = World::new(setup);
    let mut all_watched = false;
    while !all_watched && world.now() < PATIENCE {
        world.run(Duration::from_secs(1));
        progress(&world);
        // Looking at every pair costs more than a second of the site.
        all_watched = world.ledger().present() >= hosts && world.is_whole();
    }
    let watched_after_seconds = world.now().as_secs_f64();
    let registrations = world.ledger().registrations();
    let core_cpu_seconds = world.cma.cpu.as_secs_f64();
    let watches_told_per_host = world.cma.watches_told as f64 / hosts.max(1) as f64;
    if !all_watched {
        world.check_whole();
    }
    world.run(CALM);
    progress(&world);
    let cpu_before = world.cma.cpu;
    let steady: Steady = world.check_steady(STEADY);
    let steady_core_cpu = (world.cma.cpu - cpu_before).as_secs_f64() * 60.0 / STEADY.as_secs_f64();
    progress(&world);
    PowerOnReport {
        hosts,
        all_watched,
        watched_after_seconds,
        registrations,
        core_cpu_seconds,
        watches_told_per_host,
        core_memory_bytes,
        packets_per_host_second: steady.packets_per_host_second,
        bytes_per_host_second: steady.bytes_per_host_second,
        cma_events_per_minute: steady.cma_events_per_minute,
        steady_core_cpu_seconds_per_minute: steady_core_cpu,
        verdicts: world.ledger().verdicts().len(),
        events: world.events(),
        violations: world.ledger().violations().iter().take(20).map(ToString::to_string).collect(),
    }
}

/// By how much this process grows when it makes a core and registers that many hosts with it, one by one.
fn core_memory(hosts: usize) -> u64 {
    let before = resident_bytes().unwrap_or(0);
    let config = HeartbeatConfig::default();
    let mut judge = Production.judge(&config, [7; 32], Duration::ZERO, Vec::new());
    let mut told = 0u64;
    for host in 0..hosts as u32 {
        let now = Duration::from_millis(host.into());
        let mut session = [0; 16];
        session[..4].copy_from_slice(&host.to_le_bytes());
        let name = designation(host);
        judge.handle_registered(now, &name, Some(Session(session)), None, &address_text(host));
        judge.handle_place(now, &name, crate::world::place(host / 48));
        if judge.poll_timeout().is_some_and(|due| due <= now) {
            judge.handle_timeout(now);
        }
        while let Some(output) = judge.poll_output() {
            told += u64::from(matches!(output, Output::Tell { .. }));
        }
    }
    let after = resident_bytes().unwrap_or(0);
    // The core has to live until here.
    drop(judge);
    if told == 0 { 0 } else { after.saturating_sub(before) }
}

/// Of this process (proc(5)).
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

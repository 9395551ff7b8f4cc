//! How soon a death is told, what watching each other costs, and whether lost packets are taken for deaths: ten hosts
//! in network namespaces with the real programs. Then what a large site costs the CMA when all of it is switched on: real
//! registrations of some simulated hosts, and the simulation of all of them.

use super::ingest::number;
use super::{cpu_seconds, figure, of_both, percentile};
use crate::workspace;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use system::network::{Host, Network};
use system::process::{self, Running, capture};
use system::site::{Programs, Site};
use system::wait_for;

const HOSTS: usize = 10;
/// Fewer than the connections that a CMA takes from one address.
const AGENTS: usize = 1000;
const CENTER: &str = "center";
/// An idle connection ends after 30 s; from then on a site is at rest.
const REST: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub kills: usize,
    pub loss_minutes: u64,
    pub steady_minutes: u64,
    pub simulated_hosts: usize,
}

pub fn measure(programs: &Programs, extent: Extent) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("assimilation-liveness-{}", std::process::id()));
    let result = in_folder(&folder, programs, extent);
    let _ = fs::remove_dir_all(&folder);
    result?;
    if extent.simulated_hosts > 0 {
        let result = registrations(&folder, programs);
        let _ = fs::remove_dir_all(&folder);
        result?;
        let hosts = extent.simulated_hosts.to_string();
        process::run(
            Command::new("cargo").args(["xtask", "sim", "--hosts", &hosts]).current_dir(workspace()),
        )?;
    }
    Ok(())
}

/// Handshakes, registrations and their commits, of hosts that come all at once.
fn registrations(folder: &Path, programs: &Programs) -> Result<(), String> {
    let site = Site::create(folder, programs.clone())?;
    let cma = site.start_cma(&["--web", "127.0.0.1:0"])?;
    let before = cpu_seconds(cma.pid())?;
    let mut agents = Command::new(programs.path("examples/agents"));
    agents.arg(&site.address).arg(site.paths.crypto()).args([&AGENTS.to_string(), "0"]);
    let output = capture(&mut agents)?;
    let seconds: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|_| {
        format!("the simulated agents failed: {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    let cpu = cpu_seconds(cma.pid())? - before;
    let registered = number(&site, "SELECT count(*) AS number FROM hosts")?;
    if registered != AGENTS as u64 {
        return Err(format!("{AGENTS} simulated hosts were welcome, and {registered} are registered"));
    }
    let rate = AGENTS as f64 / seconds;
    // 100,000 hosts in five minutes.
    figure(
        &format!("CMA: registrations a second, of {AGENTS} at once"),
        &format!("{rate:.0} /s"),
        "≥ 334 /s",
    );
    figure("CMA: CPU for each", &format!("{:.2} ms", cpu / AGENTS as f64 * 1000.0), "");
    Ok(())
}

fn in_folder(folder: &Path, programs: &Programs, extent: Extent) -> Result<(), String> {
    let names: Vec<String> = (0..HOSTS).map(|number| format!("host{number}")).collect();
    let all: Vec<&str> = [CENTER].into_iter().chain(names.iter().map(String::as_str)).collect();
    let network = Network::new(&all)?;
    for name in &all {
        // The kernel's own IPv6 chatter would be counted as ours.
        network.host(name)?.sysctl("net.ipv6.conf.all.disable_ipv6", "1")?;
    }
    let center = network.host(CENTER)?.clone();
    let address = format!("{}:1984", center.address);
    let site = Site::create_at(folder, programs.clone(), &address, Some(center))?;
    let record = recorder(&site)?;
    let config = site.paths.at("/etc/assimilation/cma.toml");
    let refused = |e: std::io::Error| format!("{}: {e}", config.display());
    if extent.steady_minutes > 0 {
        fs::write(&config, nothing_but_heartbeats()).map_err(refused)?;
    }
    let cma = site.start_cma(&[])?;
    let mut scene = Scene { site, network, record, nanoprobes: Vec::new() };
    for name in &names {
        let nanoprobe = scene.start(name)?;
        scene.nanoprobes.push((name.clone(), nanoprobe));
    }
    for name in &names {
        scene.wait_until_watching(name, 1)?;
    }
    let mut _cma = cma;
    if extent.steady_minutes > 0 {
        scene.steady(extent.steady_minutes, "")?;
        fs::remove_file(&config).map_err(refused)?;
        _cma.kill();
        _cma = scene.site.start_cma(&[])?;
        for name in &names {
            let busy =
                format!("SELECT 1 FROM documents WHERE host = '{name}' AND instance = '_init_tcpdiscovery'");
            wait_for(&format!("discoveries of {name}"), PATIENCE, || {
                (scene.site.count(&busy) == 1).then_some(())
            })?;
        }
        scene.steady(extent.steady_minutes, ", with discoveries and monitors")?;
    }
    if extent.kills > 0 {
        scene.kills(extent.kills)?;
    }
    if extent.loss_minutes > 0 {
        scene.loss(extent.loss_minutes)?;
    }
    Ok(())
}

/// A configuration under which a nanoprobe does nothing by itself but watch its partners.
pub(super) fn nothing_but_heartbeats() -> String {
    let off = |discovery: &&discovery::Discovery| {
        let instances = discovery.instances.iter().map(|instance| instance.name);
        let names = instances.map(|name| format!("[discovery.agents.\"{name}\"]\nenabled = false\n"));
        names.collect::<String>()
    };
    // Where a host stands is told by its addresses.
    let others = discovery::all().iter().filter(|discovery| discovery.name != "netconfig");
    format!("[monitoring]\nenabled = false\n{}", others.map(off).collect::<String>())
}

struct Scene {
    nanoprobes: Vec<(String, Running)>,
    site: Site,
    network: Network,
    record: PathBuf,
}

/// One call of the script about a host.
#[derive(Debug)]
struct Alert {
    event: String,
    host: String,
    reason: String,
    seconds: f64,
}

/// What passed an interface, both ways.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    packets: f64,
    pub(super) bytes: f64,
}

impl Scene {
    fn start(&self, name: &str) -> Result<Running, String> {
        let host = self.network.host(name)?;
        self.site.start_nanoprobe(name, Some(host), &["--cmaaddr", &self.site.address, "--debug", "1"])
    }

    /// Downs and ups of hosts so far.
    fn alerts(&self) -> Vec<Alert> {
        let text = fs::read_to_string(&self.record).unwrap_or_default();
        let alert = |line: &str| {
            let words: Vec<&str> = line.split('|').collect();
            let &[event, host, reason, nanoseconds] = &words[..] else { return None };
            let seconds = nanoseconds.parse::<f64>().ok()? / 1e9;
            Some(Alert { event: event.into(), host: host.into(), reason: reason.into(), seconds })
        };
        text.lines().filter_map(alert).collect()
    }

    /// Waits until the nanoprobe was told its partners in each of `lives` of its process, and is up.
    fn wait_until_watching(&self, name: &str, lives: usize) -> Result<(), String> {
        let log = self.site.log(&format!("nanoprobe-{name}"));
        let watching = || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let last = text.split(" nanoprobe started").nth(lives)?;
            last.lines()
                .rev()
                .find(|line| line.contains("partners from the CMA"))?
                .contains("partners=2")
                .then_some(())
        };
        wait_for(&format!("partners of {name}"), PATIENCE, watching)?;
        let up = format!("SELECT 1 FROM hosts WHERE host = '{name}' AND status = 'up'");
        wait_for(&format!("{name} to be up"), PATIENCE, || (self.site.count(&up) == 1).then_some(()))
    }

    /// Nothing happens: packets, bytes, processor time. Only heartbeats alone have goals: ten hosts in one machine find
    /// each other's processes.
    fn steady(&self, minutes: u64, with: &str) -> Result<(), String> {
        eprintln!("watching a site at rest for {minutes} minutes{with}");
        let goal = |goal: &'static str| if with.is_empty() { goal } else { "" };
        std::thread::sleep(REST);
        let look = || -> Result<_, String> {
            let mut hosts = Traffic::default();
            let mut cpu = 0.0;
            for (name, nanoprobe) in &self.nanoprobes {
                let traffic = traffic(self.network.host(name)?)?;
                hosts.packets += traffic.packets;
                hosts.bytes += traffic.bytes;
                cpu += of_both(nanoprobe.pid(), cpu_seconds)?;
            }
            Ok((hosts, cpu, traffic(self.network.host(CENTER)?)?))
        };
        let (before, start) = (look()?, Instant::now());
        std::thread::sleep(Duration::from_secs(60 * minutes));
        let (after, passed) = (look()?, start.elapsed().as_secs_f64());
        let each = passed * HOSTS as f64;
        let rate = |after: f64, before: f64| (after - before) / each;
        figure(
            &format!("packets a second and host, sent and received{with}"),
            &format!("{:.2} /s", rate(after.0.packets, before.0.packets)),
            goal("≤ 4 /s"),
        );
        figure(
            &format!("bytes a second and host, with Ethernet headers{with}"),
            &format!("{:.0} B/s", rate(after.0.bytes, before.0.bytes)),
            goal("≤ 350 B/s"),
        );
        figure(
            &format!("nanoprobe: CPU a minute{with}"),
            &format!("{:.3} s", rate(after.1, before.1) * 60.0),
            goal("≤ 0.05 s"),
        );
        figure(
            &format!("packets to and from the CMA in {minutes} minutes, all hosts{with}"),
            &format!("{:.0}", after.2.packets - before.2.packets),
            goal("0"),
        );
        Ok(())
    }

    /// Kills one nanoprobe after the other.
    fn kills(&mut self, kills: usize) -> Result<(), String> {
        let mut seconds = Vec::new();
        let mut wrong = 0;
        for round in 0..kills {
            let index = round * 3 % HOSTS;
            // Not in step with heartbeats, and after its partners have heard of it.
            std::thread::sleep(Duration::from_millis(3000 + (round as u64 * 370) % 1000));
            let known = self.alerts().len();
            let (name, nanoprobe) = self.nanoprobes.remove(index);
            let killed = now_seconds();
            nanoprobe.kill();
            let told = wait_for(&format!("the alert about {name}"), PATIENCE, || {
                self.alerts().into_iter().skip(known).find(|alert| alert.host == name)
            })?;
            if (told.event.as_str(), told.reason.as_str()) != ("down", "HBDEAD") {
                return Err(format!("{name} was killed, and the script was told {told:?}"));
            }
            seconds.push(told.seconds - killed);
            let again = self.start(&name)?;
            self.nanoprobes.insert(index, (name.clone(), again));
            self.wait_until_watching(&name, 2 + round / HOSTS)?;
            wrong += self.alerts().iter().skip(known).filter(|alert| alert.host != name).count();
        }
        seconds.sort_by(f64::total_cmp);
        figure(
            &format!("nanoprobe killed: to the start of the script, median of {kills}"),
            &format!("{:.2} s", percentile(&seconds, 0.5)),
            "",
        );
        figure(
            "nanoprobe killed: to the start of the script, p95",
            &format!("{:.2} s", percentile(&seconds, 0.95)),
            "≤ 3 s",
        );
        let longest = seconds.last().copied().unwrap_or(f64::NAN);
        figure("nanoprobe killed: to the start of the script, longest", &format!("{longest:.2} s"), "");
        figure("nanoprobe killed: alerts about other hosts", &wrong.to_string(), "0");
        Ok(())
    }

    /// Every tenth packet that arrives anywhere is lost.
    fn loss(&self, minutes: u64) -> Result<(), String> {
        eprintln!("dropping 10 % of all packets for {minutes} minutes");
        let everybody = || self.nanoprobes.iter().map(|(name, _)| name.as_str()).chain([CENTER]);
        std::thread::sleep(Duration::from_secs(5));
        let known = self.alerts().len();
        let sent = self.observed();
        for name in everybody() {
            self.network.host(name)?.lose(10)?;
        }
        std::thread::sleep(Duration::from_secs(60 * minutes));
        for name in everybody() {
            self.network.host(name)?.lose(0)?;
        }
        std::thread::sleep(Duration::from_secs(10));
        let alerts: Vec<Alert> = self.alerts().into_iter().skip(known).collect();
        let count = |event: &str| alerts.iter().filter(|alert| alert.event == event).count();
        for alert in &alerts {
            eprintln!("{alert:?}");
        }
        figure(
            &format!("10 % of packets lost for {minutes} minutes: false alerts"),
            &count("down").to_string(),
            "0",
        );
        let observed = self.observed() - sent;
        figure("the same: what hosts told the CMA about partners", &observed.to_string(), "");
        Ok(())
    }

    /// Observations in the logs of all nanoprobes.
    fn observed(&self) -> usize {
        let of = |name: &str| {
            let text = fs::read_to_string(self.site.log(&format!("nanoprobe-{name}"))).unwrap_or_default();
            text.lines().filter(|line| line.contains(" observed ")).count()
        };
        self.nanoprobes.iter().map(|(name, _)| of(name)).sum()
    }
}

pub(super) fn traffic(host: &Host) -> Result<Traffic, String> {
    let output = capture(host.command(Path::new("ip")).args(["-json", "-stats", "link", "show", "eth0"]))?;
    let links: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("ip printed no JSON: {e}"))?;
    let both = |what: &str| {
        let way = |way: &str| links[0]["stats64"][way][what].as_f64();
        way("rx").zip(way("tx")).map_or_else(
            || Err(format!("ip tells no {what}: {links}")),
            |(received, sent)| Ok(received + sent),
        )
    };
    Ok(Traffic { packets: both("packets")?, bytes: both("bytes")? })
}

/// A script that notes events of hosts with its own start time.
fn recorder(site: &Site) -> Result<PathBuf, String> {
    let record = site.paths.root().join("alerts");
    let script = site.paths.shared("notification.d").join("record.sh");
    let text = format!(
        "#!/bin/sh\nt=$(date +%s%N)\ncase \"$2 $1\" in 'Drone up' | 'Drone down')\n\
         echo \"$1|$ASSIM_designation|$ASSIM_reason|$t\" >> '{}';;\nesac\n",
        record.display()
    );
    fs::write(&script, text).map_err(|e| format!("{}: {e}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .map_err(|e| format!("{}: {e}", script.display()))?;
    Ok(record)
}

fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

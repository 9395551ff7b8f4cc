//! A site whose hosts watch each other, and what its administrator was told.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use system::network::{Host, Network};
use system::process::Running;
use system::site::{Programs, Site, last_lines};
use system::wait_for;

/// Long enough for a machine that does much else; nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Where the CMA is.
pub const CENTER: &str = "unimatrixzero";

/// One call of the notification script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub event: String,
    pub nodetype: String,
    pub host: String,
    pub reason: String,
    pub verdict: String,
}

impl Alert {
    fn read(line: &str) -> Self {
        let mut words = line.split('|').map(str::to_owned);
        let mut next = || words.next().unwrap_or_default();
        Self { event: next(), nodetype: next(), host: next(), reason: next(), verdict: next() }
    }
}

/// A CMA and some hosts. Everything is stopped when dropped.
pub struct Scene {
    pub nanoprobes: BTreeMap<String, Running>,
    pub cma: Option<Running>,
    pub site: Site,
    pub network: Network,
    record: PathBuf,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// Starts everything and waits until these hosts hear each other. `others` are hosts without nanoprobe.
    pub fn new(hosts: &[&str], others: &[&str]) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<&str> = [CENTER].iter().chain(hosts).chain(others).copied().collect();
        let network = Network::new(&names).unwrap();
        let center = network.host(CENTER).unwrap().clone();
        let address = format!("{}:1984", center.address);
        let programs = Programs::built().unwrap();
        let site = Site::create_at(&folder.path().join("site"), programs, &address, Some(center)).unwrap();
        let record = folder.path().join("alerts");
        let script = site.paths.shared("notification.d").join("record");
        let fields = "$1|$2|$ASSIM_designation|$ASSIM_reason|$ASSIM_verdict";
        fs::write(&script, format!("#!/bin/sh\necho \"{fields}\" >> '{}'\n", record.display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        // What the machine that plays all these hosts is busy with is not what is tested here.
        fs::write(site.paths.cma_config(), "[monitoring]\nenabled = false\n").unwrap();
        let nanoprobes = BTreeMap::new();
        let mut scene = Scene { nanoprobes, cma: None, site, network, record, _folder: folder };
        scene.cma = Some(scene.site.start_cma(&[]).unwrap());
        for host in hosts {
            scene.start(host);
        }
        for host in hosts {
            scene.wait_until_up(host);
        }
        scene.wait_until_heard(hosts);
        scene
    }

    pub fn host(&self, name: &str) -> &Host {
        self.network.host(name).unwrap()
    }

    pub fn start(&mut self, name: &str) {
        let to = ["--cmaaddr", self.site.address.as_str(), "--debug", "1"];
        let nanoprobe = self.site.start_nanoprobe(name, Some(self.host(name)), &to).unwrap();
        self.nanoprobes.insert(name.to_owned(), nanoprobe);
    }

    pub fn kill(&mut self, name: &str) {
        self.nanoprobes.remove(name).unwrap().kill();
    }

    /// To both processes of the nanoprobe: as if the machine did it.
    pub fn signal(&self, name: &str, signal: Signal) {
        for pid in system::process::family(self.nanoprobes[name].pid()) {
            kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
        }
    }

    pub fn log(&self, name: &str) -> String {
        let bytes = fs::read(self.site.log(&format!("nanoprobe-{name}"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Downs and ups of hosts, in order, as the script was told of them.
    pub fn alerts(&self) -> Vec<Alert> {
        let text = fs::read_to_string(&self.record).unwrap_or_default();
        let of_hosts =
            |alert: &Alert| alert.nodetype == "Drone" && matches!(alert.event.as_str(), "down" | "up");
        text.lines().map(Alert::read).filter(of_hosts).collect()
    }

    /// Those of one host.
    pub fn alerts_of(&self, name: &str) -> Vec<Alert> {
        let mut alerts = self.alerts();
        alerts.retain(|alert| alert.host == name);
        alerts
    }

    /// Waits; when it was in vain, shows the end of the logs.
    pub fn wait<T>(&self, what: &str, check: impl FnMut() -> Option<T>) -> T {
        wait_for(what, PATIENCE, check).unwrap_or_else(|error| {
            let mut text = format!("{error}\n{:#?}", self.alerts());
            for entry in fs::read_dir(self.site.paths.root()).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    text += &format!("\n{}:\n{}", entry.path().display(), last_lines(&entry.path()));
                }
            }
            panic!("{text}")
        })
    }

    pub fn wait_until_up(&self, name: &str) {
        let up = format!("SELECT 1 FROM hosts WHERE host = '{name}' AND status = 'up'");
        self.wait(&format!("{name} to be up"), || (self.site.count(&up) == 1).then_some(()));
    }

    /// Waits until these hosts have each two of the others as partners, for some intervals.
    pub fn wait_until_heard(&self, hosts: &[&str]) {
        // The only one has the CMA.
        let partners = hosts.len().saturating_sub(1).clamp(1, 2);
        for host in hosts {
            self.wait(&format!("partners of {host}"), || {
                let log = self.log(host);
                let last = log.lines().rev().find(|line| line.contains("partners from the CMA"))?.to_owned();
                last.contains(&format!("partners={partners}")).then_some(())
            });
        }
        std::thread::sleep(Duration::from_secs(3));
    }

    /// Waits for the next alert about a host and returns it. `before`: those that were there.
    pub fn next_alert(&self, name: &str, before: usize) -> Alert {
        self.wait(&format!("alert {} about {name}", before + 1), || self.alerts_of(name).get(before).cloned())
    }

    /// That hosts other than `name` had neither downs nor ups since `before` alerts, which were all the alerts.
    pub fn assert_only_about(&self, name: &str, before: usize) {
        let others: Vec<_> =
            self.alerts().into_iter().skip(before).filter(|alert| alert.host != name).collect();
        assert!(others.is_empty(), "{others:#?}");
    }
}

//! Two machines on one network, `unimatrixzero` and `picard`, and the packages to install on them.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use system::booted::Machine;
use system::network::Network;
use system::package::Request;
use system::wait_for;

pub(crate) const CMA: &str = "assimilation-cma.service";
pub(crate) const NANOPROBE: &str = "assimilation-nanoprobe.service";
pub(crate) const CRYPTO: &str = "/usr/share/assimilation/crypto.d";

/// Generous: two cores may run other tests at the same time.
const PATIENCE: Duration = Duration::from_secs(120);

/// The packages of one version, as files of the machine below.
pub(crate) struct Packages {
    pub(crate) cma: PathBuf,
    pub(crate) nanoprobe: PathBuf,
}

/// Both machines; the CMA is on `center`.
pub(crate) struct Pair {
    pub(crate) center: Machine,
    pub(crate) picard: Machine,
    pub(crate) network: Network,
    pub(crate) older: Packages,
    pub(crate) newer: Packages,
    _folder: tempfile::TempDir,
}

impl Pair {
    /// Both are on, with nothing of ours on them but packages in /root. `name` is what picard calls itself.
    pub(crate) fn boot(name: &str) -> Pair {
        let network = Network::new(&["unimatrixzero", name]).unwrap();
        let mut center = Machine::create(network.host("unimatrixzero").unwrap()).unwrap();
        let mut picard = Machine::create(network.host(name).unwrap()).unwrap();
        center.boot().unwrap();
        picard.boot().unwrap();
        // Beginning like the machines' own, so that it is swept like them.
        let prefix = format!("assim{}m-packages", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap();
        let (older, newer) = (packages(folder.path(), OLDER), packages(folder.path(), NEWER));
        Pair { center, picard, network, older, newer, _folder: folder }
    }

    /// Installs everything as the book tells: the CMA with its keys and a nanoprobe here, then the other machine with
    /// its public keys; both hosts have registered.
    pub(crate) fn assimilate(&self) {
        self.install_both();
        self.wait_until_up("unimatrixzero");
        self.wait_until_up(&self.picard.hostname().to_lowercase());
    }

    /// The same without waiting for the hosts.
    pub(crate) fn install_both(&self) {
        install(&self.center, &self.older.cma);
        self.center.ok("assimcli genkeys && systemctl start assimilation-cma").unwrap();
        install(&self.center, &self.older.nanoprobe);
        self.center.ok("systemctl start assimilation-nanoprobe").unwrap();
        install(&self.picard, &self.older.nanoprobe);
        self.hand_over_keys();
        self.picard.ok("systemctl start assimilation-nanoprobe").unwrap();
    }

    /// Copies the CMA's public keys to picard, as `scp` would.
    pub(crate) fn hand_over_keys(&self) {
        for key in ["#CMA#00000.pub", "#CMA#00001.pub"] {
            let path = format!("{CRYPTO}/{key}");
            self.picard.write(&path, self.center.read(&path).unwrap()).unwrap();
        }
    }

    /// The rows that the CMA answers; none while it does not.
    pub(crate) fn rows(&self, statement: &str) -> Vec<Value> {
        let script = format!("assimcli -o json sql {}", system::booted::quoted(statement));
        let output = self.center.run(&script).unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The first column of the first row as text, if there is one.
    pub(crate) fn value(&self, statement: &str) -> Option<String> {
        let row = self.rows(statement).into_iter().next()?;
        let value = row.as_object()?.values().next()?.clone();
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    pub(crate) fn wait_until_up(&self, host: &str) {
        self.wait(&format!("{host} to be up"), || self.state(host).as_deref() == Some("up"));
    }

    /// `up` or `dead`, if it is registered.
    pub(crate) fn state(&self, host: &str) -> Option<String> {
        self.value(&format!("SELECT status FROM hosts WHERE host = '{host}'"))
    }

    pub(crate) fn wait(&self, what: &str, check: impl Fn() -> bool) {
        wait_for(what, PATIENCE, || check().then_some(())).unwrap_or_else(|error| {
            // The journals follow, see Machine.
            panic!("{error}\n{:#?}", self.rows("SELECT host, status, reason, address, software FROM hosts"))
        });
    }

    /// What the CMA knows of the banner of a host's sshd: a fact that a test changes at will.
    pub(crate) fn banner(&self, host: &str) -> Option<String> {
        self.value(&format!(
            "SELECT document ->> '$.data.Banner' FROM documents WHERE host = '{host}' AND instance = '_init_sshd'"
        ))
    }
}

/// The version that is installed first, and one that comes after it.
pub(crate) const OLDER: &str = "0.1.0";
pub(crate) const NEWER: &str = "0.2.0";

/// Packages of the programs as built, under another version, in `folder`.
fn packages(folder: &Path, version: &str) -> Packages {
    let request = Request::quick().unwrap().with_version(version);
    let [cma, nanoprobe] = system::package::debs(&request, folder).unwrap();
    Packages { cma, nanoprobe }
}

/// `dpkg --install`, as it is done where no repository is.
pub(crate) fn install(machine: &Machine, package: &Path) -> String {
    let place = put(machine, package);
    machine.ok(&format!("dpkg --install {place} 2>&1")).unwrap()
}

/// Copies a package to /root and tells where it is.
pub(crate) fn put(machine: &Machine, package: &Path) -> String {
    let place = format!("/root/{}", package.file_name().unwrap().to_str().unwrap());
    machine.copy_in(package, &place).unwrap();
    place
}

/// One property of a unit.
pub(crate) fn property(machine: &Machine, unit: &str, name: &str) -> String {
    machine.ok(&format!("systemctl show --property {name} --value {unit}")).unwrap().trim().to_owned()
}

pub(crate) fn is_active(machine: &Machine, unit: &str) -> bool {
    property(machine, unit, "ActiveState") == "active"
}

/// A named part of a journey, with the seconds since the first: the last one printed is where it ended.
pub(crate) fn step(name: &str) {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    eprintln!("── {:4} s  {name}", FIRST.get_or_init(Instant::now).elapsed().as_secs());
}

//! A site on a network of its own, and the questions that these tests ask it.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use system::network::{Host, Network};
use system::process::Running;
use system::site::{Programs, Site, last_lines};
use system::wait_for;

/// A rule that a change of one kernel parameter breaks and mends.
pub const RULE: &str = "nist_V-38528";
pub const PARAMETER: &str = "net.ipv4.conf.all.log_martians";

/// Long enough for a machine that does much else; nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What a host's own outgoing queue and logs are kept under.
pub struct Scene {
    pub site: Site,
    pub network: Network,
    pub folder: tempfile::TempDir,
}

impl Scene {
    /// A CMA's host called `unimatrixzero` and these others.
    pub fn new(others: &[&str]) -> Scene {
        Self::with_programs(others, Programs::built().unwrap(), tempfile::tempdir().unwrap())
    }

    /// The same with other programs, for instance scripts that start the real ones in a special place.
    pub fn with_programs(others: &[&str], programs: Programs, folder: tempfile::TempDir) -> Scene {
        let mut names = vec!["unimatrixzero"];
        names.extend(others);
        let network = Network::new(&names).unwrap();
        let center = network.host("unimatrixzero").unwrap().clone();
        for name in others {
            network.host(name).unwrap().sysctl(PARAMETER, "1").unwrap();
        }
        let address = format!("{}:1984", center.address);
        let site = Site::create_at(&folder.path().join("site"), programs, &address, Some(center)).unwrap();
        Scene { site, network, folder }
    }

    pub fn host(&self, name: &str) -> &Host {
        self.network.host(name).unwrap()
    }

    /// Starts the nanoprobe of a host.
    pub fn start(&self, name: &str) -> Running {
        let to = ["--cmaaddr", self.site.address.as_str()];
        self.site.start_nanoprobe(name, Some(self.host(name)), &to).unwrap()
    }

    pub fn log(&self, program: &str) -> String {
        let bytes = fs::read(self.site.log(program)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits; when it was in vain, shows the end of the logs.
    pub fn wait<T>(&self, what: &str, check: impl FnMut() -> Option<T>) -> T {
        wait_for(what, PATIENCE, check).unwrap_or_else(|error| {
            let mut text = error;
            for entry in fs::read_dir(self.site.paths.root()).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    text += &format!("\n{}:\n{}", entry.path().display(), last_lines(&entry.path()));
                }
            }
            panic!("{text}")
        })
    }

    pub fn wait_until_logged(&self, program: &str, text: &str) {
        self.wait(&format!("{text:?} in the log of {program}"), || {
            self.log(program).contains(text).then_some(())
        });
    }

    /// Waits until the rule has this result on the host.
    pub fn wait_until_judged(&self, host: &str, status: &str) {
        let judged = format!(
            "SELECT 1 FROM rule_results WHERE host = '{host}' AND rule_id = '{RULE}' AND status = '{status}'"
        );
        self.wait(&format!("{RULE} on {host} to {status}"), || (self.site.count(&judged) == 1).then_some(()));
    }

    /// Breaks the rule on a host and mends it: both have to arrive.
    pub fn prove_that_changes_arrive(&self, host: &str) {
        let before = self.transitions(host).len();
        for (value, status) in [("0", "fail"), ("1", "pass")] {
            self.host(host).sysctl(PARAMETER, value).unwrap();
            self.wait_until_judged(host, status);
        }
        let now = self.transitions(host);
        assert_eq!(now[before..], ["warn", "unwarn"], "{now:?}");
    }

    /// Events of the rule on a host, in order.
    pub fn transitions(&self, host: &str) -> Vec<String> {
        let statement = format!(
            "SELECT eventtype FROM events WHERE host = '{host}' AND rule_id = '{RULE}' ORDER BY sequence"
        );
        let rows = self.site.ask(&["sql", &statement]).unwrap();
        texts(&rows, "eventtype")
    }

    /// Exit code and everything that assimcli printed.
    pub fn assimcli(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.site.assimcli(arguments).unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap_or(-1), text.into_owned())
    }

    /// State of the nanoprobe of a host: its outgoing queue and more.
    fn nanoprobe_state(&self, host: &str) -> PathBuf {
        self.site.paths.root().join("hosts").join(host).join("var/lib/assimilation/nanoprobe")
    }

    /// Numbers of the changes that wait in the nanoprobe's queue.
    pub fn queue(&self, host: &str) -> BTreeSet<u64> {
        let entries = fs::read_dir(self.nanoprobe_state(host).join("queue")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// When the nanoprobe last wrote down a change of the kernel parameters: the newest such document in its queue, or
    /// the one it keeps after the acknowledgement (the same file, renamed).
    fn noticed(&self, host: &str) -> Option<SystemTime> {
        let state = self.nanoprobe_state(host);
        let queued =
            fs::read_dir(state.join("queue")).into_iter().flatten().flatten().map(|entry| entry.path());
        let about_proc_sys = |path: &PathBuf| {
            // Not yet in the queue while it has its temporary name.
            path.extension().is_none()
                && fs::read(path)
                    .is_ok_and(|bytes| bytes.windows(14).any(|window| window == b"_auto_proc_sys"))
        };
        let files = queued.chain([state.join("kept/_auto_proc_sys")]).filter(about_proc_sys);
        files.filter_map(|path| path.metadata().ok()?.modified().ok()).max()
    }

    /// Sets the parameter and waits until the nanoprobe has written the change down.
    pub fn flip(&self, host: &str, value: &str) {
        let before = self.noticed(host);
        self.host(host).sysctl(PARAMETER, value).unwrap();
        self.wait("the nanoprobe to notice", || (self.noticed(host) > before).then_some(()));
    }
}

pub fn texts(rows: &Value, field: &str) -> Vec<String> {
    let rows = rows.as_array().into_iter().flatten();
    rows.filter_map(|row| row[field].as_str()).map(str::to_owned).collect()
}

/// Resident memory of a running program; of a nanoprobe, with its network process.
pub fn memory_bytes(program: &Running) -> u64 {
    let resident = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    let is_ours = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        *pid == program.pid() || name.trim_end() == "nanoprobe-net"
    };
    system::process::family(program.pid()).into_iter().filter(is_ours).map(resident).sum()
}

/// Waits for a program to end by itself and returns the error that names its exit status.
pub fn ended(program: &mut Running) -> String {
    wait_for("the program to end by itself", PATIENCE, || program.still_running().err()).unwrap()
}

pub fn write_script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Programs that are started by a line of shell each: `REAL` stands for the real one with its arguments.
pub fn wrapped(folder: &Path, lines: &[(&str, &str)]) -> Programs {
    let real = Programs::built().unwrap();
    let directory = folder.join("programs");
    for name in ["cma", "nanoprobe", "assimcli"] {
        let line = lines.iter().find(|(program, _)| *program == name).map_or("exec REAL", |(_, line)| line);
        let call = format!("'{}' \"$@\"", real.path(name).display());
        write_script(&directory.join(name), &line.replace("REAL", &call));
    }
    Programs::in_directory(&directory)
}

/// A small generator, so that a failure can be repeated from the printed seed (xorshift64, Marsaglia 2003).
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(u64::from(std::process::id()) | 1);
        eprintln!("SEED={seed}");
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

//! Machines that systemd has started: a Debian tree with systemd, D-Bus, an ssh server, sudo and nftables is PID 1 of
//! namespaces of its own, so that packages, units and reboots can be tested. Needs root and control groups of version 2.
//!
//! The tree is a layer over a template that all machines share (overlayfs; a copy where that does not work). A machine
//! has the network of its [`Host`], its own host name, processes and control groups; what belongs to the kernel of the
//! machine below (`/proc/sys` but for its network, `/sys`, the clock) it can read and not change. It is gone with the
//! value, with a panic, and with the death of the test; leftovers of tests that were killed are swept by the next.
//!
//! Users: `root` (password [`ROOT_PASSWORD`]), `admin` who may use sudo ([`ADMIN_PASSWORD`]), `guest` who may not
//! ([`GUEST_PASSWORD`]).
//!
//! A power cut ends all processes at once. What they had written and not synced is still there, because the kernel
//! below goes on: losing that cannot be shown here.

mod cgroup;
mod leftovers;

use crate::debian::{self, checked};
use crate::network::Host;
use crate::process::capture;
use crate::wait_for;
use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const ROOT_PASSWORD: &str = "resistance";
pub const ADMIN_PASSWORD: &str = "futile";
pub const GUEST_PASSWORD: &str = "seven";

/// Packages beyond Debian's smallest set.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,openssh-server,sudo,iproute2,nftables,procps,adduser,libfaketime,\
    opensmtpd,bsd-mailx";

/// One boot takes a second; a busy machine is given much more.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// No command in a machine may take longer, in seconds.
const COMMAND_LIMIT_SECONDS: &str = "180";

/// SIGHUP and SIGINT as a shell tells them: what reboot(2) in a PID namespace ends its init with.
const WANTS_RESTART: i32 = 129;
const SWITCHED_OFF: i32 = 130;

/// One machine, on or off. Removed when dropped.
pub struct Machine {
    hostname: String,
    namespace: String,
    /// Everything about it on this machine: the scripts, its layer, the place where its root is put together.
    folder: PathBuf,
    template: PathBuf,
    /// Whether its files are a layer over the template; a whole copy if not.
    is_layer: bool,
    cgroup: PathBuf,
    power: Option<Power>,
}

/// A machine that is on: its keeper (see keeper.sh) and, outside, the process id of its init.
struct Power {
    keeper: Child,
    init: u32,
}

impl Machine {
    /// A machine that is off, with the host name and network of `host`.
    pub fn create(host: &Host) -> Result<Machine, String> {
        leftovers::sweep();
        let template =
            debian::template(&debian::cache(), "booted", PACKAGES, include_str!("booted/template.sh"))?;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = leftovers::name(COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = leftovers::folder(&name);
        let cgroup = cgroup::mount_point()?.join(&name);
        let mut machine = Machine {
            hostname: host.hostname.clone(),
            namespace: host.namespace.clone(),
            folder,
            template,
            is_layer: true,
            cgroup,
            power: None,
        };
        machine.prepare()?;
        Ok(machine)
    }

    /// Switches it on and waits until systemd has started everything. An error names the units that failed, with
    /// their part of the journal.
    pub fn boot(&mut self) -> Result<(), String> {
        self.boot_with(&[])
    }

    /// The same where the units `may_fail` may have failed.
    pub fn boot_with(&mut self, may_fail: &[&str]) -> Result<(), String> {
        self.switch_on()?;
        wait_for(&format!("{} to boot", self.hostname), BOOT_LIMIT, || {
            let state = self.run("systemctl is-system-running").ok()?;
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            matches!(state.as_str(), "running" | "degraded").then_some(())
        })
        .map_err(|e| format!("{e}\n{}\n{}", self.keeper_log(), self.journal(&[])))?;
        let failed = self.ok("systemctl list-units --failed --plain --no-legend --full")?;
        let failed: Vec<&str> = failed
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .filter(|unit| !may_fail.contains(unit))
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(format!("on {} {} failed\n{}", self.hostname, failed.join(", "), self.journal(&failed)))
    }

    pub fn is_on(&self) -> bool {
        self.power.is_some()
    }

    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// `systemctl reboot`, as an administrator types it; returns when everything is started again.
    pub fn reboot(&mut self) -> Result<(), String> {
        self.end("systemctl reboot", WANTS_RESTART)?;
        self.boot()
    }

    /// `systemctl poweroff`: everything is stopped in order.
    pub fn switch_off(&mut self) -> Result<(), String> {
        self.end("systemctl poweroff", SWITCHED_OFF)
    }

    /// Pulls the plug: all processes end in the same moment, without a chance to put anything in order.
    pub fn cut_power(&mut self) {
        let Some(mut power) = self.power.take() else { return };
        if let Some(init) = rustix::process::Pid::from_raw(power.init.cast_signed()) {
            let _ = rustix::process::kill_process(init, rustix::process::Signal::KILL);
        }
        let _ = power.keeper.wait();
        cgroup::remove(&self.cgroup);
    }

    /// Runs a script (sh) as root and returns what it printed, whatever its exit status. While the machine is off it
    /// runs in its files only, as from a rescue disk.
    pub fn run(&self, script: &str) -> Result<Output, String> {
        capture(&mut self.command(script))
    }

    /// The same, giving what the script printed; an error with everything it wrote when it did not succeed.
    pub fn ok(&self, script: &str) -> Result<String, String> {
        let output = self.run(script)?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(printed);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("on {} `{script}` ({}):\n{printed}{errors}", self.hostname, output.status))
    }

    /// What [`Self::run`] would start, for whoever wants to feed or keep it.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", COMMAND_LIMIT_SECONDS]);
        match &self.power {
            Some(power) => {
                command.args(["nsenter", "--all", "--target", &power.init.to_string(), "env", "-i"]);
                command.args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
                command.args(["HOME=/root", "TERM=dumb", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]);
                command.args(["sh", "-c", script]);
            }
            None => {
                command.args(["nsenter", &format!("--net=/run/netns/{}", self.namespace)]);
                command.args([
                    "unshare",
                    "--mount",
                    "--pid",
                    "--fork",
                    "--uts",
                    "--ipc",
                    "--kill-child",
                    "sh",
                ]);
                command.args(self.assembly("shell")).args(["sh", "-c", script]);
            }
        }
        command
    }

    /// Writes a file, with its directory.
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>) -> Result<(), String> {
        self.fill(path, contents.as_ref())
    }

    /// Copies a file of the machine below to `path`, which is given its permissions.
    pub fn copy_in(&self, from: &Path, path: &str) -> Result<(), String> {
        let bytes = fs::read(from).map_err(|e| format!("{}: {e}", from.display()))?;
        self.fill(path, &bytes)?;
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(from).map_err(|e| format!("{}: {e}", from.display()))?.permissions(),
        );
        self.ok(&format!("chmod {:o} {}", mode & 0o7777, quoted(path))).map(|_| ())
    }

    /// The bytes of a file.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let output = self.run(&format!("cat {}", quoted(path)))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(format!("{}: {}", self.hostname, String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// The end of the journal: of these units, or of everything. Also of a machine that is off.
    pub fn journal(&self, units: &[&str]) -> String {
        let units: String = units.iter().map(|unit| format!(" --unit {}", quoted(unit))).collect();
        // What the CMA tells of a host's security is long and never why a test fails.
        let script = format!(
            "journalctl --no-pager --quiet --output short-precise{units} | grep -v 'FAILED security rule' | tail -n 50"
        );
        let text = self.run(&script).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        format!("── journal of {}{units}\n{}", self.hostname, text.unwrap_or_else(|e| e))
    }

    /// Gives it an ssh host key of its own and starts the server, now and at each boot.
    pub fn start_ssh(&self) -> Result<(), String> {
        let key = "/etc/ssh/ssh_host_ed25519_key";
        self.ok(&format!("[ -e {key} ] || ssh-keygen -q -t ed25519 -N '' -f {key}")).map(|_| ())?;
        self.ok("systemctl enable --now --quiet ssh.service").map(|_| ())
    }

    fn prepare(&mut self) -> Result<(), String> {
        for part in ["files", "work", "root"] {
            let path = self.folder.join(part);
            fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        for (name, text) in [
            ("machine.sh", include_str!("booted/machine.sh")),
            ("keeper.sh", include_str!("booted/keeper.sh")),
        ] {
            let path = self.folder.join(name);
            fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        if self.run("true").is_ok_and(|output| !output.status.success()) {
            // No overlayfs on this file system, for instance because it is one itself.
            self.is_layer = false;
            let mut copy = Command::new("cp");
            copy.args(["--archive", "--reflink=auto", "--no-target-directory"]);
            checked(copy.arg(&self.template).arg(self.folder.join("files")))?;
        }
        let id = checked_output(Command::new("sh").args(["-c", "tr -d - < /proc/sys/kernel/random/uuid"]))?;
        self.write("/etc/machine-id", &id)?;
        self.write("/etc/hostname", format!("{}\n", self.hostname))?;
        let short = self.hostname.split('.').next().unwrap_or_default();
        self.write("/etc/hosts", format!("127.0.0.1 localhost\n127.0.1.1 {} {short}\n", self.hostname))
    }

    /// Arguments for sh: machine.sh and how to put this machine's root together.
    fn assembly(&self, how: &str) -> [PathBuf; 6] {
        let layer = if self.is_layer { "overlay" } else { "plain" };
        [
            self.folder.join("machine.sh"),
            layer.into(),
            self.template.clone(),
            self.folder.clone(),
            self.folder.join("root"),
            how.into(),
        ]
    }

    fn switch_on(&mut self) -> Result<(), String> {
        if self.is_on() {
            return Err(format!("{} is on already", self.hostname));
        }
        let path = self.folder.join("keeper.log");
        let log = fs::File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let errors = log.try_clone().map_err(|e| format!("{}: {e}", path.display()))?;
        let mut command = Command::new("sh");
        command.arg(self.folder.join("keeper.sh")).arg(&self.cgroup).arg(&self.namespace);
        command.args(self.assembly("init")).arg("/lib/systemd/systemd");
        // What kills the test with its group must leave the keeper alive, who then cuts the power.
        command.process_group(0).stdin(Stdio::piped()).stdout(log).stderr(errors);
        let mut keeper = command.spawn().map_err(|e| format!("sh cannot be started: {e}"))?;
        let found = wait_for(&format!("the init of {}", self.hostname), Duration::from_secs(30), || {
            if let Ok(Some(status)) = keeper.try_wait() {
                return Some(Err(format!("{} ended at once ({status})", self.hostname)));
            }
            init_of(keeper.id()).map(Ok)
        });
        match found.and_then(|init| init) {
            Ok(init) => {
                self.power = Some(Power { keeper, init });
                Ok(())
            }
            Err(error) => {
                // The end of its input tells the keeper to cut the power.
                drop(keeper.stdin.take());
                let _ = keeper.wait();
                Err(format!("{error}\n{}", self.keeper_log()))
            }
        }
    }

    fn end(&mut self, command: &str, expected: i32) -> Result<(), String> {
        self.ok(command)?;
        let Some(mut power) = self.power.take() else {
            return Err(format!("{} is off already", self.hostname));
        };
        let ended = wait_for(&format!("{} to stop", self.hostname), BOOT_LIMIT, || {
            power.keeper.try_wait().ok().flatten()
        });
        match ended {
            // sh tells the signal in its status; it may also have ended by it.
            Ok(status) if status.code() == Some(expected) || status.signal() == Some(expected - 128) => {
                Ok(())
            }
            Ok(status) => {
                Err(format!("{}: `{command}` ended with {status}\n{}", self.hostname, self.journal(&[])))
            }
            Err(error) => {
                self.power = Some(power);
                let text = format!("{error}\n{}", self.journal(&[]));
                self.cut_power();
                Err(text)
            }
        }
    }

    fn fill(&self, path: &str, bytes: &[u8]) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("{}: {path}: {e}", self.hostname);
        let script = format!("mkdir -p \"$(dirname {0})\" && cat > {0}", quoted(path));
        let mut child = self
            .command(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // What reads no further says why in its errors.
            let _ = input.write_all(bytes);
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{}: {path}: {}", self.hostname, String::from_utf8_lossy(&output.stderr).trim()))
    }

    fn keeper_log(&self) -> String {
        fs::read_to_string(self.folder.join("keeper.log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.journal(&[]));
        }
        self.cut_power();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// `text` as one word of a shell script.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The init of the machine that a keeper started: the child of unshare(1), which is a child of the keeper. Only once
/// systemd itself runs: before, it is the shell that puts the root together.
fn init_of(keeper: u32) -> Option<u32> {
    let processes: Vec<(u32, u32, String)> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // proc_pid_stat(5): pid (name) state parent ...
            let (before, after) = stat.rsplit_once(')')?;
            let name = before.split_once('(')?.1.to_owned();
            let parent = after.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent, name))
        })
        .collect();
    let children = |of: u32, name: &'static str| {
        processes.iter().filter(move |(_, parent, own)| *parent == of && own == name).map(|(pid, ..)| *pid)
    };
    children(keeper, "unshare").find_map(|unshare| children(unshare, "systemd").next())
}

fn checked_output(command: &mut Command) -> Result<String, String> {
    let output = capture(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

//! Hosts in network namespaces on one bridge: packets cross a network, none leaves the machine. Needs root.

use crate::process::{capture, is_root};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A sysfs (sysfs(5)) in which eth0 is no virtual device; `ip netns exec` has made mounts our own.
const HARDWARE: &str = "index=$(cat /sys/class/net/eth0/ifindex) && mount -t tmpfs none /sys && \
    mkdir -p /sys/class/net /sys/devices/pci0000:00/net/eth0 && echo $index > /sys/devices/pci0000:00/net/eth0/ifindex && \
    ln -s ../../devices/pci0000:00/net/eth0 /sys/class/net/eth0";

/// A bridge in a namespace of its own with hosts 10.84.0.1, 10.84.0.2 ... on it. Removed when dropped.
pub struct Network {
    /// Prefix of all its namespaces; unique on this machine.
    name: String,
    hosts: Vec<Host>,
}

/// One namespace, with a host name of its own for whatever is started in it.
#[derive(Debug, Clone)]
pub struct Host {
    pub namespace: String,
    pub hostname: String,
    pub address: String,
    /// What runs here sees its interface as one with hardware, so that its addresses count as the site's.
    pub has_hardware: bool,
}

impl Network {
    pub fn new(hostnames: &[&str]) -> Result<Network, String> {
        if !is_root() {
            return Err("network namespaces need root".into());
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("assim{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut network = Network { name: name.clone(), hosts: Vec::new() };
        let switch = format!("{name}-sw");
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for (index, hostname) in hostnames.iter().enumerate() {
            let host = Host {
                namespace: format!("{name}-{index}"),
                hostname: (*hostname).to_owned(),
                address: format!("10.84.0.{}", index + 1),
                has_hardware: false,
            };
            ip(&["netns", "add", &host.namespace])?;
            // Remembered at once, so that dropping after a failure below removes it.
            network.hosts.push(host.clone());
            let port = format!("p{index}");
            ip(&[
                "-n",
                &switch,
                "link",
                "add",
                &port,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                &host.namespace,
            ])?;
            ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"])?;
            ip(&["-n", &host.namespace, "addr", "add", &format!("{}/24", host.address), "dev", "eth0"])?;
            ip(&["-n", &host.namespace, "link", "set", "eth0", "up"])?;
            ip(&["-n", &host.namespace, "link", "set", "lo", "up"])?;
            // As systemd sets it: a process without privileges may send echo requests (icmp(7)).
            host.sysctl("net.ipv4.ping_group_range", "0 2147483647")?;
            // Multicast needs a route to leave by.
            ip(&["-n", &host.namespace, "route", "add", "default", "dev", "eth0"])?;
        }
        Ok(network)
    }

    pub fn host(&self, hostname: &str) -> Result<&Host, String> {
        self.hosts
            .iter()
            .find(|host| host.hostname == hostname)
            .ok_or_else(|| format!("no host {hostname} in this network"))
    }

    /// Gives a host one more address, with the length of its network.
    pub fn address(&self, hostname: &str, address: &str) -> Result<(), String> {
        ip(&["-n", &self.host(hostname)?.namespace, "addr", "add", address, "dev", "eth0"])
    }

    /// The namespace of the switch itself, for what runs there.
    pub fn switch(&self) -> Host {
        let namespace = format!("{}-sw", self.name);
        Host { namespace, hostname: "switch".into(), address: String::new(), has_hardware: false }
    }

    /// The port of the switch that a host is plugged into.
    pub fn port(&self, hostname: &str) -> Result<String, String> {
        let index = self.hosts.iter().position(|host| host.hostname == hostname);
        index.map(|index| format!("p{index}")).ok_or_else(|| format!("no host {hostname} in this network"))
    }

    /// Pulls the cable of a host out of the switch (`false`), or puts it back. The host itself sees no carrier.
    pub fn plug(&self, hostname: &str, plugged: bool) -> Result<(), String> {
        let port = self.port(hostname)?;
        let state = if plugged { "up" } else { "down" };
        ip(&["-n", &format!("{}-sw", self.name), "link", "set", &port, state])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = ip(&["netns", "del", &host.namespace]);
        }
        let _ = ip(&["netns", "del", &format!("{}-sw", self.name)]);
    }
}

impl Host {
    /// `program` in this host's network namespace and under its host name.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "unshare", "--uts", "sh", "-c"]);
        // exec keeps the pid that we later signal.
        let script = r#"hostname "$0" && exec "$@""#;
        let script = if self.has_hardware { format!("{HARDWARE} && {script}") } else { script.to_owned() };
        command.args([&script, &self.hostname]).arg(program);
        command
    }

    /// Runs `work` on a thread of its own inside this namespace: the sockets that it opens are this host's.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, String> {
        let path = Path::new("/run/netns").join(&self.namespace);
        let namespace = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let moved = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|e| format!("cannot enter {}: {e}", self.namespace))?;
            Ok(work())
        };
        std::thread::scope(|threads| threads.spawn(moved).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// From now on so many of a hundred packets that arrive here are lost; 0 ends that. Needs the package nftables.
    pub fn lose(&self, percent: u32) -> Result<(), String> {
        // A table that is not there cannot be deleted, so it is made first.
        let mut rules = "add table inet loss\ndelete table inet loss\n".to_owned();
        if percent > 0 {
            rules +=
                "add table inet loss\nadd chain inet loss arriving { type filter hook input priority 0; }\n";
            let dice = format!("numgen random mod 100 < {percent}");
            rules += &format!("add rule inet loss arriving iifname eth0 {dice} drop\n");
        }
        self.nft(&rules)
    }

    /// Runs a script of nft(8) on this host.
    pub fn nft(&self, rules: &str) -> Result<(), String> {
        let script = r#"printf '%s' "$0" | nft -f -"#;
        let output = capture(self.command(Path::new("sh")).args(["-c", script, rules]))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("nft on {}: {}", self.hostname, String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Sets a kernel parameter of this namespace, as `sysctl -w` on that host would.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), String> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let script = format!("printf '%s\\n' {value} > {path}");
        let output = capture(self.command(Path::new("sh")).args(["-c", &script]))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("cannot set {key}: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = capture(Command::new("ip").args(arguments))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

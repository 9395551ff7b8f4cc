//! Who has the ports that a CMA and a nanoprobe use: the kernel's tables in /proc/net, and whose sockets they are.

use super::{Check, Look, Topic};
use model::config::CmaConfig;
use std::collections::BTreeMap;
use std::fs;

const NAME: &str = "ports";

pub static TOPIC: Topic = Topic { name: NAME, check };

/// Of CMA and nanoprobe, for UDP, and of the CMA's web port.
const DEFAULT_PORT: u16 = 1984;
/// Most processes and file descriptors that are looked at.
const MAX_PROCESSES: usize = 100_000;
const MAX_DESCRIPTORS: usize = 100_000;
/// What the processes of a nanoprobe are called (`comm` in proc(5)): the agent, and the network process that has the port.
const NANOPROBE_NAMES: [&str; 2] = ["nanoprobe", "nanoprobe-net"];
/// State of a TCP socket that listens (net/tcp_states.h).
const LISTENING: &str = "0A";

/// A socket that waits for others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Socket {
    port: u16,
    inode: u64,
}

/// Who has a socket; `None` where this user may not see it.
type Owner = Option<(u32, String)>;

fn check(look: &Look) -> Vec<Check> {
    let tables = |names: [&str; 2], listening: bool| -> Vec<Socket> {
        names.iter().filter_map(|name| look.read(name)).flat_map(|text| sockets(&text, listening)).collect()
    };
    let udp = tables(["/proc/net/udp", "/proc/net/udp6"], false);
    let tcp = tables(["/proc/net/tcp", "/proc/net/tcp6"], true);
    let owners = owners(look);
    let mut checks = Vec::new();
    if look.has_cma() {
        let bind = look.told("bind").map(str::to_owned).or_else(|| configured(look));
        let port = bind.as_deref().and_then(port_of).unwrap_or(DEFAULT_PORT);
        checks.push(cma_port(look, "UDP", port, &udp, &owners));
        if let Some(web) = look.told("web").and_then(port_of) {
            checks.push(cma_port(look, "TCP", web, &tcp, &owners));
        }
    }
    checks.extend(nanoprobe_port(look, &udp, &owners));
    checks
}

fn configured(look: &Look) -> Option<String> {
    daemon::settings::read::<CmaConfig>(&look.paths().cma_config()).ok()?.bind
}

fn cma_port(
    look: &Look,
    protocol: &str,
    port: u16,
    sockets: &[Socket],
    owners: &BTreeMap<u64, (u32, String)>,
) -> Check {
    let held: Vec<Owner> = sockets
        .iter()
        .filter(|socket| socket.port == port)
        .map(|socket| owners.get(&socket.inode).cloned())
        .collect();
    let pid = look.status.as_ref().ok().and_then(|status| status["pid"].as_u64());
    let is_cma = |owner: &Owner| match (owner, pid) {
        (Some((found, _)), Some(pid)) => u64::from(*found) == pid,
        (Some((_, name)), None) => name == "cma",
        (None, _) => true,
    };
    let other = held.iter().find(|owner| !is_cma(owner)).and_then(|owner| owner.as_ref());
    match (look.status.is_ok(), held.is_empty(), other) {
        (true, true, _) => Check::bad(
            NAME,
            format!("the CMA runs, and nobody has {protocol} port {port} in this network namespace: no host reaches it"),
        )
        .fix("systemctl restart assimilation-cma"),
        (true, false, None) => Check::good(NAME, format!("{protocol} port {port} is the CMA's")),
        (_, _, Some((pid, name))) => Check::bad(
            NAME,
            format!("{protocol} port {port} is taken by {name} (pid {pid}): the CMA cannot have it"),
        )
        .fix(format!("ss -lnp '( sport = :{port} )'")),
        (false, true, None) => Check::good(NAME, format!("{protocol} port {port} is free for the CMA")),
        (false, false, None) => Check::unknown(
            NAME,
            format!("{protocol} port {port} is taken, by whom is seen with root's rights only"),
        ),
    }
}

fn nanoprobe_port(look: &Look, udp: &[Socket], owners: &BTreeMap<u64, (u32, String)>) -> Option<Check> {
    let pid = fs::read_to_string(look.paths().nanoprobe_pidfile()).ok()?;
    let pid: u32 = pid.trim().parse().ok()?;
    // The port belongs to its network process, which has a name of its own.
    let of_nanoprobe = |socket: &&Socket| {
        owners
            .get(&socket.inode)
            .is_some_and(|(owner, name)| *owner == pid || NANOPROBE_NAMES.contains(&name.as_str()))
    };
    let mut ports: Vec<u16> = udp.iter().filter(of_nanoprobe).map(|socket| socket.port).collect();
    ports.sort_unstable();
    ports.dedup();
    if !look.at(&format!("/proc/{pid}")).exists() {
        return Some(
            Check::bad(NAME, format!("the nanoprobe (pid {pid}) is dead, and its pid file is still there"))
                .fix("systemctl restart assimilation-nanoprobe"),
        );
    }
    Some(match ports.first() {
        None if look.is_root => Check::bad(
            NAME,
            "the nanoprobe runs and has no UDP port open: the CMA and its partners cannot reach it",
        )
        .fix("systemctl restart assimilation-nanoprobe"),
        None => Check::unknown(NAME, "which port the nanoprobe has is seen with root's rights only"),
        Some(_) => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            Check::good(NAME, format!("the nanoprobe has UDP port {}", ports.join(" and ")))
        }
    })
}

/// Rows of /proc/net/{udp,tcp}{,6} (proc_net(5)): `sl local_address rem_address st ... inode`, addresses and ports in
/// hexadecimal.
fn sockets(text: &str, listening: bool) -> Vec<Socket> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = u16::from_str_radix(words.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        let inode = words.get(9)?.parse().ok()?;
        (!listening || *words.get(3)? == LISTENING).then_some(Socket { port, inode })
    };
    text.lines().skip(1).filter_map(row).collect()
}

/// Processes by the inode of each socket they have, as far as this user may see them.
fn owners(look: &Look) -> BTreeMap<u64, (u32, String)> {
    let mut owners = BTreeMap::new();
    let processes = fs::read_dir(look.at("/proc")).into_iter().flatten().flatten();
    let numbered = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in numbered.take(MAX_PROCESSES) {
        let Ok(descriptors) = fs::read_dir(look.at(&format!("/proc/{pid}/fd"))) else { continue };
        let targets =
            descriptors.flatten().take(MAX_DESCRIPTORS).filter_map(|entry| fs::read_link(entry.path()).ok());
        let inodes: Vec<u64> = targets
            .filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
            .collect();
        if !inodes.is_empty() {
            let name = look.read(&format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
            owners.extend(inodes.into_iter().map(|inode| (inode, (pid, name.clone()))));
        }
    }
    owners
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::look::Rig;
    use super::*;
    use serde_json::json;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn row(port: u16, state: &str, inode: u64) -> String {
        format!(
            "  7: 00000000:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 2 0 0\n"
        )
    }

    fn process(rig: &Rig, pid: u32, name: &str, inode: u64) {
        rig.file(&format!("/proc/{pid}/comm"), &format!("{name}\n"));
        let descriptors = rig.folder.path().join(format!("proc/{pid}/fd"));
        std::fs::create_dir_all(&descriptors).unwrap();
        std::os::unix::fs::symlink(format!("socket:[{inode}]"), descriptors.join("5")).unwrap();
    }

    fn running(web: &str) -> Result<serde_json::Value, String> {
        Ok(json!({"pid": 40, "bind": "[::]:1984", "web": web}))
    }

    #[test]
    fn the_running_cma_has_its_ports_or_it_is_a_problem() {
        let mut rig = Rig::new();
        rig.status = running("127.0.0.1:1984");
        let found = check(&rig.look());
        assert!(
            found.len() == 2 && found.iter().all(|c| c.is_bad() && c.fix.contains("restart")),
            "{found:?}"
        );
        rig.file("/proc/net/udp6", &(HEAD.to_owned() + &row(1984, "07", 11)));
        // A connection from that port is nobody who listens.
        rig.file("/proc/net/tcp", &(HEAD.to_owned() + &row(1984, "01", 12)));
        process(&rig, 40, "cma", 11);
        let found = check(&rig.look());
        assert!(!found[0].is_bad() && found[1].is_bad(), "{found:?}");
        rig.file("/proc/net/tcp", &(HEAD.to_owned() + &row(1984, "0A", 12)));
        process(&rig, 41, "apache2", 12);
        assert!(check(&rig.look())[1].text.contains("apache2 (pid 41)"));
    }

    #[test]
    fn who_takes_the_port_of_a_stopped_cma_is_named() {
        let rig = Rig::new();
        assert_eq!(check(&rig.look()), [], "no CMA belongs here");
        rig.file("/var/lib/assimilation/cma.sqlite", "");
        assert_eq!(check(&rig.look()), [Check::good(NAME, "UDP port 1984 is free for the CMA")]);
        rig.file("/etc/assimilation/cma.toml", "bind = \"127.0.0.1:2000\"\n");
        rig.file("/proc/net/udp", &(HEAD.to_owned() + &row(2000, "07", 11) + "garbage\n\n 1: x\n"));
        assert_eq!(check(&rig.look())[0].state, State::Unknown, "of a process that is not seen");
        process(&rig, 50, "nanoprobe", 11);
        let found = check(&rig.look());
        assert!(
            found[0].is_bad() && found[0].text.contains("2000 is taken by nanoprobe (pid 50)"),
            "{found:?}"
        );
    }

    #[test]
    fn a_nanoprobe_without_a_port_is_a_problem() {
        let rig = Rig::new();
        rig.file("/var/run/nanoprobe", "60\n");
        assert!(check(&rig.look())[0].text.contains("dead"));
        process(&rig, 60, "nanoprobe", 21);
        assert!(check(&rig.look())[0].text.contains("no UDP port"));
        rig.file("/proc/net/udp", &(HEAD.to_owned() + &row(1984, "07", 21)));
        assert_eq!(check(&rig.look()), [Check::good(NAME, "the nanoprobe has UDP port 1984")]);
        // As it is in truth: the port is that of the network process.
        rig.file("/proc/net/udp", &(HEAD.to_owned() + &row(1985, "07", 22)));
        process(&rig, 61, "nanoprobe-net", 22);
        assert_eq!(check(&rig.look()), [Check::good(NAME, "the nanoprobe has UDP port 1985")]);
    }
}

//! Network services that processes of the host offer, and those that they use: sock_diag(7) or /proc/net, and /proc.
//!
//! `data` = `<name of the program>:<32 hexadecimal digits>` → object. The digits are of the SHA-256 of command line, program,
//! owner, group and container, so the same service keeps its key over restarts. Pre-forked workers are one entry with
//! the process that started them.
//!
//! | field | value |
//! |---|---|
//! | `exe`, `cwd` | paths; sockets of the kernel itself (NFS, WireGuard) have `/boot/kernel` |
//! | `exe_deleted` | `true` when the file was replaced or removed since the process started: restart it |
//! | `cmdline` | list of text; secrets are `***`, titles that a program changes at run time are cut to its name |
//! | `uid`, `euid`, `saved_uid`, `filesystem_uid`, `gid`, `egid`, `saved_gid`, `filesystem_gid` | integer |
//! | `user` | name of the user `uid` in /etc/passwd, where it has one and the process is of the host |
//! | `unit` | systemd unit that the process belongs to: `ssh.service`, `session-3.scope`, `user@1000.service` |
//! | `proxy` | `local/local`, or the container: `docker/<id>`, `podman/<id>`, `kubernetes/<id>`, `lxc/<name>`, ... |
//! | `host_network` | `true` for a container that has no network of its own but that of the host |
//! | `netns` | name (ip-netns(8)) or number of the network namespace when it is neither the host's nor a container's |
//! | `listenaddrs` | `"0.0.0.0:22":"tcp"`, `":::22":"tcp6"`, `"0.0.0.0:123":"udp"`; both protocols at one address: `"tcp,udp"` |
//! | `clientaddrs` | `"<address>:<port>":"tcp"` of services that it uses |
//! | `loopback_listenaddrs`, `loopback_clientaddrs` | the same on 127.0.0.0/8 and ::1, which the two above leave out |
//!
//! What listens without a process that can be seen (in another process namespace, or hidden) is an entry `unknown:...` with
//! `proxy` and its addresses only.
//!
//! A connection that was accepted is nobody's client: its local port is listened at, or chosen by a person while the
//! remote one was chosen by a kernel. UDP sockets at ports of the kernel's choice are left out: they wait for answers.
//! Programs with which people browse have no client side here. Environments of processes are never read.
//!
//! Connections come and go. In the nanoprobe a service counts as used when a connection to it was there in two runs
//! (those of its first run at once), and until none was there for an hour; run by hand, what is there counts.
//!
//! The extra `addresses` are those at which a service on `0.0.0.0` is reached: `"10.0.0.7/24":"global"`, or `"host"` for
//! addresses that other hosts may have too. Sockets belong to the running system: a file tree has none.
//! ```json
//! {"sshd:5d41402abc4b2a76b9719d911017c592":{"cmdline":["sshd"],"cwd":"/","egid":0,"euid":0,"exe":"/usr/sbin/sshd",
//!  "filesystem_gid":0,"filesystem_uid":0,"gid":0,"listenaddrs":{"0.0.0.0:22":"tcp",":::22":"tcp6"},
//!  "proxy":"local/local","saved_gid":0,"saved_uid":0,"uid":0}}
//! ```

#[path = "tcpdiscovery/containers.rs"]
mod containers;
#[path = "tcpdiscovery/document.rs"]
mod document;
#[path = "tcpdiscovery/graph.rs"]
mod graph;
#[path = "tcpdiscovery/memory.rs"]
mod memory;
#[path = "tcpdiscovery/processes.rs"]
mod processes;
#[path = "tcpdiscovery/sockets.rs"]
pub mod sockets;
#[path = "tcpdiscovery/units.rs"]
mod units;

use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation};
use crate::{own_addresses, parse};
use memory::Memory;
use processes::Proc;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Map, Value, json};
use sockets::{Ephemeral, Role, Socket, Sockets, Wanted};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use processes::Process;

pub static DISCOVERY: Discovery = Discovery {
    name: "tcpdiscovery",
    description: "Network services offered and used by processes",
    documentation: documentation::TCPDISCOVERY,
    parameters: &[],
    instances: &[Instance { name: "_init_tcpdiscovery", parameters: &[], schedule: None }],
    // The kernel tells nobody of new sockets. A run costs some milliseconds, most of it for descriptors of processes.
    schedule: Schedule { repeat_seconds: 30, ..Schedule::DEFAULT },
    trigger: Trigger::None,
    collect,
    graph: graph::graph,
};

const PROC: &str = "/proc";
const NAMED_NAMESPACES: &str = "/run/netns";
/// More network namespaces (containers, mostly) are not visited.
const MAX_NAMESPACES: usize = 1000;

/// All sockets of interest that this host has, with the processes that hold them.
pub struct Found {
    /// Network namespace of each; 0 is the one this program runs in.
    pub sockets: Vec<(u64, Socket)>,
    pub processes: Vec<Process>,
    /// What people call network namespaces.
    pub names: BTreeMap<u64, String>,
    pub errors: Vec<String>,
}

/// Looks at all network namespaces that processes of the running system are in. Not recorded by any [`Host`].
pub fn find(wanted: Wanted) -> Result<Found, String> {
    let proc = Proc::open(PROC)?;
    let mut errors = Vec::new();
    let ephemeral = ephemeral(&proc);
    let own = sockets::by_netlink(wanted, &ephemeral)
        .or_else(|error| tables(&proc, "self", wanted, &ephemeral).ok_or(error))?;
    let mut all = Vec::new();
    let mut add = |namespace: u64, found: Sockets, errors: &mut Vec<String>| {
        if found.is_cut {
            errors.push(format!(
                "a network namespace has more than {} sockets of interest, the rest is left out: see ss -s",
                sockets::MAX_SOCKETS
            ));
        }
        all.extend(found.list.into_iter().map(|socket| (namespace, socket)));
    };
    add(0, own, &mut errors);

    let pids = proc.pids();
    let home = proc.namespace("self");
    let namespace_of =
        |pid: u32| proc.namespace(&pid.to_string()).filter(|namespace| Some(*namespace) != home).unwrap_or(0);
    let namespaces: Vec<u64> = pids.iter().map(|pid| namespace_of(*pid)).collect();
    let mut first: BTreeMap<u64, u32> = BTreeMap::new();
    for (pid, namespace) in pids.iter().zip(&namespaces).filter(|(_, namespace)| **namespace != 0) {
        first.entry(*namespace).or_insert(*pid);
    }
    if first.len() > MAX_NAMESPACES {
        errors.push(format!("more than {MAX_NAMESPACES} network namespaces: the rest is left out"));
    }
    for (namespace, pid) in first.into_iter().take(MAX_NAMESPACES) {
        let within = proc
            .open_namespace(pid)
            .map_err(|errno| errno.to_string())
            .and_then(|descriptor| within(descriptor.as_fd(), wanted, &ephemeral));
        match within.ok().or_else(|| tables(&proc, &pid.to_string(), wanted, &ephemeral)) {
            Some(found) => add(namespace, found, &mut errors),
            // Gone with its last process, most likely; if not, the next run says the same.
            None if namespace_of(pid) != namespace => {}
            None => errors.push(format!(
                "the sockets of network namespace {namespace} cannot be seen: run nanoprobe as root"
            )),
        }
    }

    let wanted: HashMap<u64, ()> = all.iter().map(|(_, socket)| (socket.inode, ())).collect();
    let mut processes = Vec::new();
    let mut hidden = 0;
    for (pid, namespace) in pids.iter().zip(&namespaces) {
        match proc.sockets(*pid, &wanted) {
            Some(inodes) if inodes.is_empty() => {}
            Some(inodes) => processes.extend(proc.process(*pid, *namespace, inodes)),
            None => hidden += 1,
        }
    }
    if hidden > 0 {
        // Without the number, which changes all the time.
        errors.push("the sockets of other users' processes cannot be seen: run nanoprobe as root".into());
    }
    Ok(Found { sockets: all, processes, names: names(), errors })
}

/// The namespaces that have a name: files of ip-netns(8), whose inode is the number of the namespace.
fn names() -> BTreeMap<u64, String> {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(NAMED_NAMESPACES) else { return BTreeMap::new() };
    let named = entries.take(MAX_NAMESPACES).filter_map(|entry| {
        let entry = entry.ok()?;
        let name = model::text::printable(&entry.file_name().to_string_lossy()).into_owned();
        Some((std::fs::metadata(entry.path()).ok()?.ino(), name))
    });
    named.collect()
}

/// The range of ports that the kernel chooses from.
fn ephemeral(proc: &Proc) -> Ephemeral {
    let text = proc.text("sys/net/ipv4/ip_local_port_range", 100).unwrap_or_default();
    sockets::ephemeral(&text).unwrap_or(sockets::EPHEMERAL)
}

fn tables(proc: &Proc, pid: &str, wanted: Wanted, ephemeral: &Ephemeral) -> Option<Sockets> {
    sockets::by_tables(wanted, ephemeral, |name| {
        proc.text(&format!("{pid}/net/{name}"), sockets::TABLE_LIMIT_BYTES)
    })
}

/// The sockets of another network namespace. setns(2) is for a thread, so one goes there and does not come back.
fn within(
    namespace: rustix::fd::BorrowedFd<'_>,
    wanted: Wanted,
    ephemeral: &Ephemeral,
) -> Result<Sockets, String> {
    std::thread::scope(|scope| {
        let visit = || {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
                .map_err(|errno| errno.to_string())?;
            sockets::by_netlink(wanted, ephemeral)
        };
        let thread = std::thread::Builder::new().name("namespace".into()).spawn_scoped(scope, visit);
        let joined = thread.map_err(|error| error.to_string())?.join();
        joined.unwrap_or_else(|_| Err("the visit broke off".into()))
    })
}

/// Whether a process is of this host, not of a container: then its paths mean our files.
pub fn is_on_host(process: &Process) -> bool {
    containers::of(&process.cgroup).is_none_or(|container| own_container() == Some(container))
}

/// The container that this program itself runs in.
fn own_container() -> Option<String> {
    containers::of(&Proc::open(PROC).ok()?.text("self/cgroup", 16 * 1024)?)
}

/// For the fuzzer: the bytes are a piece of the kernel's answer, a table of /proc/net, or what it says of a process.
pub(crate) fn any_answer(bytes: &[u8]) {
    let mut filter = sockets::Filter::new(&sockets::EPHEMERAL);
    // What an error here says does not matter.
    let _ = sockets::messages(bytes, &mut |payload| {
        for protocol in [6, 17] {
            if let Some(raw) = sockets::parse(payload, protocol) {
                filter.take(&raw);
            }
        }
    });
    let text = String::from_utf8_lossy(bytes);
    sockets::by_tables(Wanted::All, &sockets::EPHEMERAL, |_| Some(text.clone().into_owned()));
    sockets::ephemeral(&text);
    containers::of(&text);
    units::of(&text);
    processes::command_line(bytes, &text);
}

fn collect(host: &Host, _: &Parameters) -> Collected {
    if !host.is_running_system() {
        return Collected::new(json!({
            "NODATA": "sockets and processes belong to a running system, and this is a file tree"
        }));
    }
    let found = match find(Wanted::All) {
        Ok(found) => found,
        Err(error) => {
            return parse::collected((parse::no_data("the sockets of this host"), vec![error]));
        }
    };
    static MEMORY: LazyLock<Mutex<(Memory, Instant)>> =
        LazyLock::new(|| Mutex::new((Memory::default(), Instant::now())));
    let (data, mut errors) = document::of(&found, own_container().as_deref(), &users(host));
    errors.splice(0..0, found.errors);
    let data = {
        let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        let now: Duration = memory.1.elapsed();
        memory.0.settle(data, now)
    };
    let mut collected = Collected::new(Value::Object(data));
    collected.errors = errors;
    collected.extras =
        Map::from_iter([(own_addresses::EXTRA.to_owned(), Value::Object(own_addresses::collect(host)))]);
    collected
}

/// Names of users by number; the first line that has the number counts, as for getpwuid(3).
fn users(host: &Host) -> BTreeMap<u32, String> {
    let text = host.read_text("/etc/passwd").unwrap_or_default();
    let mut users = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(_), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if let Ok(uid) = uid.parse()
            && !name.is_empty()
            && name.len() <= 64
        {
            let name = || model::text::printable(name).into_owned();
            users.entry(uid).or_insert_with(name);
        }
    }
    users
}

/// Whether a socket can be reached from, or leads to, this machine only.
fn is_loopback(socket: &Socket) -> bool {
    socket.address.ip().is_loopback()
}

/// What a socket is called in a document: `0.0.0.0:22` and `tcp`, `:::22` and `tcp6`.
fn words(socket: &Socket) -> (String, String) {
    let six = if socket.address.is_ipv6() { "6" } else { "" };
    (
        format!("{}:{}", socket.address.ip(), socket.address.port()),
        format!("{}{six}", socket.protocol.as_str()),
    )
}

fn field(socket: &Socket) -> &'static str {
    match (socket.role, is_loopback(socket)) {
        (Role::Listens, false) => "listenaddrs",
        (Role::Listens, true) => "loopback_listenaddrs",
        (Role::Client, false) => "clientaddrs",
        (Role::Client, true) => "loopback_clientaddrs",
    }
}

#[cfg(test)]
#[path = "tcpdiscovery/tests.rs"]
mod tests;

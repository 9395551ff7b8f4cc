//! From sockets and processes to the document. Pure.

use super::processes::{Process, leaders};
use super::sockets::{Role, Socket};
use super::{Found, containers, field, units, words};
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Programs that open connections to wherever a person goes.
const BROWSERS: &[&str] = &[
    "brave",
    "chrome",
    "chromium",
    "chromium-browser",
    "epiphany",
    "falkon",
    "firefox",
    "firefox-bin",
    "firefox-esr",
    "konqueror",
    "msedge",
    "opera",
    "rekonq",
    "thunderbird",
    "thunderbird-bin",
    "vivaldi-bin",
];
/// More addresses of one kind in one entry are left out.
const MAX_ADDRESSES: usize = 2000;
/// More entries are left out.
const MAX_ENTRIES: usize = 5000;

/// The `data` of the document, and what had to be left out. `own_container` is the one this program runs in: what is
/// in the same is local. `users` are names by number.
pub fn of(
    found: &Found,
    own_container: Option<&str>,
    users: &BTreeMap<u32, String>,
) -> (Map<String, Value>, Vec<String>) {
    let by_inode: HashMap<u64, &Socket> =
        found.sockets.iter().map(|(_, socket)| (socket.inode, socket)).collect();
    let listens = |inode: u64| by_inode.get(&inode).is_some_and(|socket| socket.role == Role::Listens);
    let leaders = leaders(&found.processes, listens);
    let mut entries: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut errors = Vec::new();
    for (process, leader) in found.processes.iter().zip(&leaders) {
        let program = &found.processes[*leader];
        let name = program.exe.rsplit('/').next().unwrap_or_default();
        let is_browser = BROWSERS.contains(&name);
        let mut sockets = process
            .inodes
            .iter()
            .filter_map(|inode| by_inode.get(inode).copied())
            .filter(|socket| socket.role == Role::Listens || !is_browser)
            .peekable();
        if sockets.peek().is_none() {
            continue;
        }
        let proxy = containers::of(&program.cgroup).filter(|proxy| Some(proxy.as_str()) != own_container);
        let (key, entry) = described(program, proxy.as_deref(), &found.names, users);
        if entries.len() >= MAX_ENTRIES && !entries.contains_key(&key) {
            add_once(
                &mut errors,
                format!("more than {MAX_ENTRIES} programs with sockets: the rest is left out"),
            );
            continue;
        }
        let entry = entries.entry(key).or_insert(entry);
        for socket in sockets {
            if !add(entry, socket) {
                let field = field(socket);
                add_once(
                    &mut errors,
                    format!("{name}: more than {MAX_ADDRESSES} addresses in {field}, the rest is left out"),
                );
            }
        }
    }
    // Sockets that no process we see holds: the kernel's own, and those of processes that are hidden from us.
    let held: HashSet<u64> =
        found.processes.iter().flat_map(|process| process.inodes.iter().copied()).collect();
    let mut others = found.sockets.iter().filter(|(_, socket)| !held.contains(&socket.inode));
    for (namespace, socket) in others.by_ref().filter(|(_, socket)| socket.role == Role::Listens) {
        let holder = match socket.inode {
            0 => Process {
                exe: "/boot/kernel".into(),
                cmdline: vec!["kernel".into()],
                cwd: "/".into(),
                ..Process::default()
            },
            _ => Process::default(),
        };
        let (key, mut entry) =
            described(&Process { namespace: *namespace, ..holder }, None, &found.names, users);
        if socket.inode != 0 {
            entry.retain(|name, _| matches!(name.as_str(), "proxy" | "netns"));
        }
        add(entries.entry(key).or_insert(entry), socket);
    }
    (entries.into_iter().map(|(key, entry)| (key, Value::Object(entry))).collect(), errors)
}

fn add_once(errors: &mut Vec<String>, sentence: String) {
    if !errors.contains(&sentence) {
        errors.push(sentence);
    }
}

/// Key and fields of a process, without its sockets.
fn described(
    process: &Process,
    proxy: Option<&str>,
    names: &BTreeMap<u64, String>,
    users: &BTreeMap<u32, String>,
) -> (String, Map<String, Value>) {
    let (uids, gids) = (process.uids, process.gids);
    let entry = json!({
        "exe": process.exe, "cmdline": process.cmdline, "cwd": process.cwd,
        "proxy": proxy.unwrap_or("local/local"),
        "uid": uids[0], "euid": uids[1], "saved_uid": uids[2], "filesystem_uid": uids[3],
        "gid": gids[0], "egid": gids[1], "saved_gid": gids[2], "filesystem_gid": gids[3],
    });
    let mut entry = match entry {
        Value::Object(entry) => entry,
        _ => Map::new(),
    };
    if process.exe_deleted {
        entry.insert("exe_deleted".into(), true.into());
    }
    // Neither is part of the key: who is moved to another unit is still the same service.
    if proxy.is_none() {
        entry.extend(users.get(&uids[0]).map(|name| ("user".to_owned(), name.as_str().into())));
        entry.extend(units::of(&process.cgroup).map(|unit| ("unit".to_owned(), unit.into())));
    }
    if proxy.is_some() && process.namespace == 0 {
        entry.insert("host_network".into(), true.into());
    }
    let has_namespace = process.namespace != 0 && proxy.is_none();
    let namespace = names.get(&process.namespace).cloned().unwrap_or_else(|| process.namespace.to_string());
    if has_namespace {
        entry.insert("netns".into(), namespace.as_str().into());
    }
    let mut identity = String::new();
    for word in
        process.cmdline.iter().map(String::as_str).chain([process.exe.as_str(), proxy.unwrap_or_default()])
    {
        identity.push_str(word);
        identity.push('\0');
    }
    identity.push_str(&format!("{}\0{}", uids[0], gids[0]));
    if has_namespace {
        identity.push_str(&format!("\0{namespace}"));
    }
    let hash = digest(&SHA256, identity.as_bytes());
    let hash: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let name = process.exe.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("unknown");
    (format!("{name}:{hash}"), entry)
}

/// Puts a socket into its entry; `false` when there are too many.
fn add(entry: &mut Map<String, Value>, socket: &Socket) -> bool {
    let (address, protocol) = words(socket);
    let addresses = entry.entry(field(socket)).or_insert_with(|| Value::Object(Map::new()));
    let Some(addresses) = addresses.as_object_mut() else { return false };
    match addresses.get(&address).and_then(Value::as_str) {
        Some(known) if known.split(',').all(|known| known != protocol) => {
            let mut both: Vec<&str> = known.split(',').chain([protocol.as_str()]).collect();
            both.sort_unstable();
            let both = both.join(",");
            addresses.insert(address, both.into());
        }
        Some(_) => {}
        None if addresses.len() >= MAX_ADDRESSES => return false,
        None => {
            addresses.insert(address, protocol.into());
        }
    }
    true
}

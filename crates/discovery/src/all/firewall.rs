//! Which firewalls a host has, how they are set up for good, and what is loaded now.
//!
//! `data`:
//!
//! - `in_use`: those of `ufw`, `firewalld`, `nftables`, `iptables` that are switched on: ufw by its own setting, the
//!   others by an enabled service. `other` when none is, and the kernel refuses incoming packets all the same.
//! - `ufw`: `active`, `default` (`incoming`, `outgoing`, `routed`: allow, deny or reject), `loopback`.
//! - `firewalld`: the settings of firewalld.conf(5), such as `DefaultZone` and `FirewallBackend`.
//! - `iptables`, `ip6tables`: `policy` (chain of the filter table → DROP, ACCEPT) and `loopback`, from the rules that are
//!   loaded at boot: `/etc/iptables/rules.v4` and `.v6` or `/etc/sysconfig/iptables` and `ip6tables`.
//! - `nftables`: `table` (list), `base_chains` (hooks of filter chains), `policy` (hook → drop or accept, the strictest
//!   of its chains) and `loopback`, from `/etc/nftables.conf` or `/etc/sysconfig/nftables.conf` with includes. `table` and
//!   `base_chains` are absent when there are none.
//! - `running`: `chains` of the kernel, `{"table", "name", "hook", "policy"}`, and `legacy_tables`, those of the old iptables;
//!   only of the running system. They are asked of `nft -j list chains`, as no file shows them.
//!
//! A tool that is not installed has no entry. `loopback` is `restricted` when packets on the interface lo are let through
//! and packets that come from elsewhere with a loopback address are dropped, else `open`.
//!
//! ```json
//! {"in_use": ["ufw"], "ufw": {"active": true, "loopback": "restricted",
//!  "default": {"incoming": "deny", "outgoing": "allow", "routed": "deny"}}}
//! ```

#[path = "firewall/nft.rs"]
mod nft;
#[path = "firewall/running.rs"]
mod running;

use crate::parse::presence::any_exists;
use crate::parse::{self, Errors, Files, is_plausible_key, quoted, scalar};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "firewall",
    description: "Firewalls: which are there, how they are set up",
    documentation: documentation::FIREWALL,
    parameters: &[],
    instances: &[Instance { name: "_init_firewall", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 300, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const UFW_FILES: &[&str] = &["/etc/ufw/ufw.conf", "/usr/sbin/ufw"];
const FIREWALLD_FILES: &[&str] = &["/etc/firewalld/firewalld.conf", "/usr/sbin/firewalld"];
const IPTABLES_PROGRAMS: &[&str] = &[
    "/usr/sbin/netfilter-persistent",
    "/usr/libexec/iptables/iptables.init",
    "/usr/lib/systemd/system/iptables.service",
];
const RULES_V4: &[&str] = &["/etc/iptables/rules.v4", "/etc/sysconfig/iptables"];
const RULES_V6: &[&str] = &["/etc/iptables/rules.v6", "/etc/sysconfig/ip6tables"];
/// Where an enabled service leaves its link.
const TARGETS: &[&str] = &["multi-user.target", "sysinit.target", "basic.target", "network-pre.target"];

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let mut data = Map::new();
    let mut in_use: Vec<&str> = Vec::new();
    if any_exists(host, UFW_FILES) {
        let ufw = ufw(host, &mut errors);
        if ufw["active"] == true {
            in_use.push("ufw");
        }
        data.insert("ufw".into(), ufw);
    }
    if any_exists(host, FIREWALLD_FILES) {
        let settings = settings(host, "/etc/firewalld/firewalld.conf", &mut errors);
        data.insert("firewalld".into(), Value::Object(settings));
        if is_enabled(host, &["firewalld.service"]) {
            in_use.push("firewalld");
        }
    }
    if any_exists(host, nft::FILES) || any_exists(host, &["/usr/sbin/nft"]) {
        data.insert("nftables".into(), nft::configured(host, &mut errors));
        if is_enabled(host, &["nftables.service"]) {
            in_use.push("nftables");
        }
    }
    for (name, files) in [("iptables", RULES_V4), ("ip6tables", RULES_V6)] {
        let file = files.iter().find(|path| host.stat(path).is_ok());
        if file.is_some() || any_exists(host, IPTABLES_PROGRAMS) {
            let rules = file.and_then(|path| read(host, path, &mut errors).map(|text| (path, text)));
            let rules = rules.map_or_else(
                || json!({}),
                |(path, text)| saved_rules(&text, path, name == "ip6tables", &mut errors),
            );
            data.insert(name.into(), rules);
        }
    }
    if data.contains_key("iptables")
        && is_enabled(host, &["netfilter-persistent.service", "iptables.service", "ip6tables.service"])
    {
        in_use.push("iptables");
    }
    if host.is_running_system() {
        let running = running::collect(host, &mut errors);
        if in_use.is_empty() && running::refuses_incoming(&running) {
            in_use.push("other");
        }
        data.insert("running".into(), running);
    }
    data.insert("in_use".into(), json!(in_use));
    parse::collected((Value::Object(data), errors.into_list()))
}

/// Whether one of the services has a link in a target, or one of its other names in /etc.
/// For the fuzzer: the bytes are what nft prints.
pub(crate) fn any_answer(bytes: &[u8]) {
    running::chains(&String::from_utf8_lossy(bytes));
}

fn is_enabled(host: &Host, services: &[&str]) -> bool {
    services.iter().any(|service| {
        TARGETS
            .iter()
            .any(|target| host.lstat(&format!("/etc/systemd/system/{target}.wants/{service}")).is_ok())
    })
}

/// The text of a file; none, with an error unless it is missing, when it cannot be read.
fn read(files: &dyn Files, path: &str, errors: &mut Errors) -> Option<String> {
    match files.text(path) {
        Ok(text) => Some(text),
        Err(reason) => {
            if !reason.absent {
                errors.unread(&reason);
            }
            None
        }
    }
}

/// A file of `KEY=value` as shells read it: quotes around values are taken off.
fn settings(files: &dyn Files, path: &str, errors: &mut Errors) -> Map<String, Value> {
    let mut found = Map::new();
    let Some(text) = read(files, path, errors) else { return found };
    for (number, line) in parse::lines(&text, path, errors) {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        match line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            Some((key, value)) if is_plausible_key(key) => {
                let value = model::text::shortened(value.trim_matches(['"', '\'']), 1000);
                found.insert(key.to_owned(), scalar(&value));
            }
            _ => errors.at(path, number, format_args!("{} is not a setting", quoted(line))),
        }
    }
    found
}

fn ufw(files: &dyn Files, errors: &mut Errors) -> Value {
    let own = settings(files, "/etc/ufw/ufw.conf", errors);
    let defaults = settings(files, "/etc/default/ufw", errors);
    let mut policies = Map::new();
    for (name, key) in [
        ("incoming", "DEFAULT_INPUT_POLICY"),
        ("outgoing", "DEFAULT_OUTPUT_POLICY"),
        ("routed", "DEFAULT_FORWARD_POLICY"),
    ] {
        if let Some(policy) = defaults.get(key).and_then(Value::as_str) {
            let policy = match policy.to_ascii_uppercase().as_str() {
                "DROP" => "deny",
                "REJECT" => "reject",
                "ACCEPT" => "allow",
                _ => policy,
            };
            policies.insert(name.into(), Value::from(policy));
        }
    }
    let v4 = read(files, "/etc/ufw/user.rules", errors).unwrap_or_default();
    let v6 = read(files, "/etc/ufw/user6.rules", errors).unwrap_or_default();
    let before = read(files, "/etc/ufw/before.rules", errors).unwrap_or_default();
    let accepted = before.lines().chain(v4.lines()).any(|line| {
        let line = line.trim();
        (line.starts_with("-A ufw-before-input ") || line.starts_with("-A ufw-user-input "))
            && line.contains(" -i lo ")
            && line.ends_with("-j ACCEPT")
    });
    let loopback = accepted && denies_source(&v4, "127.0.0.0/8") && denies_source(&v6, "::1");
    json!({
        "active": own.get("ENABLED") == Some(&Value::Bool(true)),
        "default": policies,
        "loopback": if loopback { "restricted" } else { "open" },
    })
}

/// Whether ufw's own rules deny or reject what comes from an address.
fn denies_source(rules: &str, address: &str) -> bool {
    rules.lines().filter_map(|line| line.trim().strip_prefix("### tuple ### ")).any(|tuple| {
        let words: Vec<&str> = tuple.split_whitespace().take(16).collect();
        // action protocol to-port to from-port from direction
        matches!(words.first().copied(), Some("deny" | "reject"))
            && words.get(5).is_some_and(|from| from.trim_end_matches("/128") == address)
            && words.get(6).is_some_and(|direction| direction.starts_with("in"))
    })
}

/// Policies and loopback rules of a file that iptables-save(8) wrote.
fn saved_rules(text: &str, path: &str, is_v6: bool, errors: &mut Errors) -> Value {
    let mut policy = Map::new();
    let (mut accepted, mut dropped) = (false, false);
    let mut in_filter = false;
    for (number, line) in parse::lines(text, path, errors) {
        let line = line.trim();
        let words: Vec<&str> = line.split_whitespace().take(64).collect();
        match line.as_bytes().first() {
            Some(b'#') => {}
            Some(b'*') => in_filter = line == "*filter",
            Some(b':') if in_filter => {
                if let (Some(chain), Some(target)) =
                    (words.first().and_then(|w| w.strip_prefix(':')), words.get(1))
                    && *target != "-"
                    && is_plausible_key(chain)
                    && is_plausible_key(target)
                    && policy.len() < 16
                {
                    policy.insert(chain.to_owned(), Value::from(*target));
                }
            }
            Some(b'-') if in_filter && words.get(1) == Some(&"INPUT") => {
                let after = |option: &str| {
                    words.iter().position(|word| *word == option).and_then(|at| words.get(at + 1)).copied()
                };
                let target = after("-j");
                let negated = words.contains(&"!");
                accepted |= target == Some("ACCEPT")
                    && after("-i") == Some("lo")
                    && !negated
                    && after("-s").is_none();
                let source = after("-s").map(|source| source.trim_end_matches("/128"));
                dropped |= matches!(target, Some("DROP" | "REJECT"))
                    && source == Some(if is_v6 { "::1" } else { "127.0.0.0/8" });
            }
            Some(b'-' | b':' | b'[') => {}
            _ if line == "COMMIT" => in_filter = false,
            _ => errors.at(path, number, format_args!("{} is not understood", quoted(line))),
        }
    }
    json!({ "policy": policy, "loopback": if accepted && dropped { "restricted" } else { "open" } })
}

#[cfg(test)]
#[path = "firewall/tests.rs"]
mod tests;

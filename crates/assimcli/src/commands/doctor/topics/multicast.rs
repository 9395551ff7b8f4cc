//! Whether the CMA would hear nanoprobes that look for it by multicast. Nothing is sent: the kernel tells which groups are
//! joined where (/proc/net/igmp).

use super::{Check, Look, Topic};
use std::collections::BTreeSet;
use std::fs;

const NAME: &str = "multicast";

pub static TOPIC: Topic = Topic { name: NAME, check };

/// 224.0.2.5 as /proc/net/igmp has it: the bytes in the order of this machine's memory.
const GROUP: [u8; 4] = [224, 0, 2, 5];
/// Of /sys/class/net/*/flags (if.h).
const UP: u32 = 0x1;
const LOOPBACK: u32 = 0x8;
const MULTICAST: u32 = 0x1000;
/// Interfaces that are looked at.
const MAX_INTERFACES: usize = 4096;

fn check(look: &Look) -> Vec<Check> {
    let Some(bind) = look.told("bind") else { return Vec::new() };
    if bind.starts_with("127.") || bind.starts_with("[::1]") {
        return vec![Check::good(NAME, "the CMA listens on loopback only, where there is no multicast")];
    }
    let Some(groups) = look.read("/proc/net/igmp") else {
        let text =
            "this kernel does not tell which multicast groups are joined: nanoprobes may need --cmaaddr";
        return vec![Check::unknown(NAME, text)];
    };
    let joined = joined(&groups);
    let able = able(look);
    let missing: Vec<&str> = able.difference(&joined).map(String::as_str).collect();
    let there: Vec<&str> = able.intersection(&joined).map(String::as_str).collect();
    if able.is_empty() {
        let text = "no interface here can do multicast: nanoprobes find this CMA with --cmaaddr only";
        return vec![Check::unknown(NAME, text)];
    }
    let mut checks = Vec::new();
    if !there.is_empty() {
        checks.push(Check::good(NAME, format!("224.0.2.5 is listened to on {}", there.join(", "))));
    }
    if !missing.is_empty() {
        let text = format!(
            "nobody listens to 224.0.2.5 on {}: nanoprobes there find this CMA with --cmaaddr only",
            missing.join(", ")
        );
        // One of several may be on purpose, such as a bridge of containers, and is joined within a minute.
        checks.push(if there.is_empty() {
            Check::bad(NAME, text).fix("systemctl restart assimilation-cma")
        } else {
            Check::unknown(NAME, text)
        });
    }
    checks
}

/// Interfaces that have joined the group. A line of an interface begins with its number, lines of its groups with a tab.
fn joined(igmp: &str) -> BTreeSet<String> {
    let group = format!("{:08X}", u32::from_ne_bytes(GROUP));
    let (mut interface, mut found) = (None, BTreeSet::new());
    for line in igmp.lines().skip(1) {
        if line.starts_with(char::is_whitespace) {
            if line.split_whitespace().next() == Some(group.as_str()) {
                found.extend(interface.clone());
            }
        } else {
            interface = line
                .split([':', ' ', '\t'])
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .nth(1)
                .map(str::to_owned);
        }
    }
    found
}

/// Interfaces that are up and could take part.
fn able(look: &Look) -> BTreeSet<String> {
    let entries =
        fs::read_dir(look.at("/sys/class/net")).into_iter().flatten().flatten().take(MAX_INTERFACES);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| {
            let flags = look.read(&format!("/sys/class/net/{name}/flags")).unwrap_or_default();
            let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or(0);
            flags & UP != 0 && flags & MULTICAST != 0 && flags & LOOPBACK == 0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::look::Rig;
    use super::*;
    use serde_json::json;

    fn igmp(eth0: &str) -> String {
        format!(
            "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\
             \t\t\t\t010000E0     1 0:00000000\t\t0\n2\teth0      :     2      V3\n\t\t\t\t{eth0}     1 0:00000000\t\t0\n\
             3\twlan0     :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"
        )
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn an_interface_without_the_group_is_told() {
        let mut rig = Rig::new();
        assert_eq!(check(&rig.look()), [], "without a CMA nobody has to listen");
        rig.status = Ok(json!({"bind": "127.0.0.1:1984"}));
        assert_eq!(check(&rig.look())[0].state, State::Ok);
        rig.status = Ok(json!({"bind": "[::]:1984"}));
        assert_eq!(check(&rig.look())[0].state, State::Unknown, "no /proc/net/igmp");
        for (name, flags) in
            [("lo", "0x1009"), ("eth0", "0x1003"), ("wlan0", "0x1003"), ("eth1", "0x1002"), ("tun0", "0x91")]
        {
            rig.file(&format!("/sys/class/net/{name}/flags"), &format!("{flags}\n"));
        }
        rig.file("/proc/net/igmp", &igmp("010000E0"));
        let found = check(&rig.look());
        assert!(
            found.len() == 1 && found[0].is_bad() && found[0].text.contains("on eth0, wlan0:"),
            "{found:?}"
        );
        rig.file("/proc/net/igmp", &igmp("050200E0"));
        let found = check(&rig.look());
        assert_eq!(found[0], Check::good(NAME, "224.0.2.5 is listened to on eth0"));
        assert!(found[1].state == State::Unknown && found[1].text.contains("on wlan0:"), "{found:?}");
    }
}

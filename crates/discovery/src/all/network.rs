//! What kind of network interfaces the running system has: `/sys/class/net`, see sysfs(5).
//!
//! `data` has always these keys:
//!
//! - `interfaces`: name → `{"wireless": ..., "promiscuous": ..., "bridge_port": ...}` (booleans).
//! - `wireless_interfaces`: names of those with a radio.
//! - `promiscuous_interfaces`: names of those that take in every packet although they are not ports of a bridge; a
//!   bridge needs its ports to be so.
//!
//! A file tree has no interfaces: NODATA.
//!
//! ```json
//! {"interfaces": {"eth0": {"wireless": false, "promiscuous": false, "bridge_port": false}},
//!  "wireless_interfaces": [], "promiscuous_interfaces": []}
//! ```

use crate::parse;
use crate::parse::presence::{any_exists, not_there};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "network",
    description: "Wireless and promiscuous network interfaces",
    documentation: documentation::NETWORK,
    parameters: &[],
    instances: &[Instance { name: "_init_network", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 300, ..Schedule::DEFAULT },
    trigger: Trigger::Netlink,
    collect,
    graph: no_graph,
};

const DIRECTORY: &str = "/sys/class/net";
/// Hosts of many containers have thousands.
const MAX_INTERFACES: usize = 10_000;
/// `IFF_PROMISC` of netdevice(7).
const PROMISCUOUS: u32 = 0x100;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let names = match host.list(DIRECTORY) {
        Ok(names) => names,
        Err(error) if error.is_missing() => {
            return not_there("this host has no network interfaces to look at: there is no /sys/class/net");
        }
        Err(error) => return Collected::unreadable(&error),
    };
    let mut errors = parse::Errors::default();
    let mut interfaces = Map::new();
    let mut wireless_interfaces: Vec<String> = Vec::new();
    let mut promiscuous_interfaces: Vec<String> = Vec::new();
    for name in names.into_iter().take(MAX_INTERFACES) {
        let path = |file: &str| format!("{DIRECTORY}/{name}/{file}");
        let flags = match host.read_at_most(&path("flags"), 4096) {
            Ok(bytes) => bytes,
            // Not an interface (bonding_masters), or gone meanwhile.
            Err(error) if error.is_missing() || host.stat(&path("")).is_err() => continue,
            Err(error) => {
                errors.add(format!("Cannot read {error}"));
                continue;
            }
        };
        let Some(flags) = flags_of(&flags) else {
            errors.at(&path("flags"), 1, "this is not a hexadecimal number");
            continue;
        };
        let wireless = any_exists(host, &[&path("wireless"), &path("phy80211")]);
        let bridge_port = any_exists(host, &[&path("brport")]);
        let promiscuous = flags & PROMISCUOUS != 0;
        interfaces.insert(
            name.clone(),
            json!({ "wireless": wireless, "promiscuous": promiscuous, "bridge_port": bridge_port }),
        );
        if wireless {
            wireless_interfaces.push(name.clone());
        }
        if promiscuous && !bridge_port {
            promiscuous_interfaces.push(name);
        }
    }
    let data = json!({
        "interfaces": interfaces,
        "wireless_interfaces": wireless_interfaces,
        "promiscuous_interfaces": promiscuous_interfaces,
    });
    parse::collected((data, errors.into_list()))
}

fn flags_of(bytes: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(bytes).ok()?.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::collect as collect_from;

    #[test]
    fn kinds_of_interfaces() {
        let found = collect_from(
            &DISCOVERY,
            &[
                ("/sys/class/net/eth0/flags", b"0x1003\n"),
                ("/sys/class/net/eth1/flags", b"0x1103\n"),
                ("/sys/class/net/veth1/flags", b"0x1103\n"),
                ("/sys/class/net/veth1/brport/x", b""),
                ("/sys/class/net/wlan0/flags", b"0x1003\n"),
                ("/sys/class/net/wlan0/phy80211/x", b""),
                ("/sys/class/net/bonding_masters", b""),
                ("/sys/class/net/odd/flags", b"?\n"),
            ],
        );
        assert_eq!(found.data["promiscuous_interfaces"], json!(["eth1"]));
        assert_eq!(found.data["wireless_interfaces"], json!(["wlan0"]));
        let veth = json!({"wireless": false, "promiscuous": true, "bridge_port": true});
        assert_eq!(found.data["interfaces"]["veth1"], veth);
        assert_eq!(found.data["interfaces"].as_object().unwrap().len(), 4);
        assert!(
            found.errors.iter().any(|e| e.starts_with("/sys/class/net/odd/flags line 1")),
            "{:?}",
            found.errors
        );
    }

    #[test]
    fn a_file_tree_has_none() {
        let found = collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(found.data["NODATA"].as_str().unwrap().contains("no /sys/class/net"));
        assert!(found.errors.is_empty());
    }

    #[test]
    fn the_running_system_has_the_loopback_interface() {
        let found = collect(&Host::running(), &Parameters::new());
        assert!(
            found.data["NODATA"].is_string() || found.data["interfaces"]["lo"].is_object(),
            "{}",
            found.data
        );
    }
}

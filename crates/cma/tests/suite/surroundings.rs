//! What hosts tell of their surroundings: switches and cables, neighbours; and what becomes of it when hosts change.

use crate::ingest::{Rig, applicant, events, incoming, name, removal, rig};
use cma::ingest::register::{Registration, accept_key, goodbye, register, remove};
use cma::ingest::report::report;
use cma::ingest::{Change, Sender, surroundings};
use liveness::rings::Place;
use model::graph::NodeKind;
use model::message::{Incarnation, KnownDocument};
use model::{DocumentHash, Event, PublicKey, Timestamp};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use store::Store;

/// Some hosts and their queues.
pub struct Site {
    pub rig: Rig,
    pub senders: HashMap<String, (Sender, u64)>,
    /// Of the last step.
    pub changes: Vec<Change>,
    pub look_at: Option<Timestamp>,
}

pub fn site() -> Site {
    with(rig())
}

pub fn with(rig: Rig) -> Site {
    Site { rig, senders: HashMap::new(), changes: Vec::new(), look_at: None }
}

impl Site {
    /// Registers a host whose addresses end in `number`.
    pub fn come(&mut self, host: &str, number: u8) -> Vec<Event> {
        let mut applicant = applicant(host, PublicKey([number; 32]));
        applicant.remote = format!("10.0.0.{number}:4000").parse().unwrap();
        let (registration, produced) =
            self.rig.step(|tx, context| register(tx, context, &applicant, Timestamp(7)));
        let Registration::Welcome { sender, welcome, .. } = registration else { panic!("{registration:?}") };
        self.senders.insert(host.into(), (sender, welcome.last_sequence));
        self.note(&produced);
        events(produced)
    }

    pub fn note(&mut self, produced: &cma::ingest::Produced) {
        self.changes = produced.changes.clone();
        self.look_at = self.look_at.into_iter().chain(produced.look_at).min();
    }

    fn say(&mut self, host: &str, discovertype: &str, instance: &str, data: Option<Value>) -> Vec<Event> {
        let (sender, sequence) = self.senders.get_mut(host).unwrap();
        *sequence += 1;
        let text = json!({"discovertype": discovertype, "description": "d", "host": host, "source": "s",
            "instance": instance, "proxy": "local/local", "data": data})
        .to_string();
        let incoming = match data {
            Some(_) => incoming(*sequence, instance, &text),
            None => removal(*sequence, instance),
        };
        let sender = sender.clone();
        let (_, produced) = self.rig.step(|tx, context| report(tx, context, &sender, &incoming));
        self.note(&produced);
        assert!(
            produced.log.iter().all(|line| !line.text.contains("does not reach the graph")),
            "{:?}",
            produced.log
        );
        // Rules have nothing to say here.
        events(produced)
    }

    /// Interfaces as `eth0=10.0.0.7/24@00-16-3e-00-00-07`.
    pub fn network(&mut self, host: &str, interfaces: &str) -> Vec<Event> {
        let mut data = Map::new();
        for part in interfaces.split_whitespace() {
            let (interface, rest) = part.split_once('=').unwrap();
            let (ip, macaddr) = rest.split_once('@').unwrap();
            data.insert(
                interface.into(),
                json!({"address": macaddr, "carrier": true, "operstate": "up", "type": 1, "virtual": false,
                    "ipaddrs": {ip: {"scope": "global", "name": interface}}}),
            );
        }
        self.say(host, "netconfig", "netconfig", Some(Value::Object(data)))
    }

    /// What an interface hears, as `sw1:7`; the role is `bridge` unless it is told: `phone1:0:phone`.
    pub fn link(&mut self, host: &str, interface: &str, neighbours: &str) -> Vec<Event> {
        let mut all: Vec<Value> = neighbours
            .split_whitespace()
            .map(|neighbour| {
                let mut parts = neighbour.split(':');
                let (switch, port) = (parts.next().unwrap(), parts.next().unwrap());
                let role = parts.next().unwrap_or("bridge");
                json!({"ChassisId": switch, "SystemName": format!("name-{switch}"), "protocols": ["lldp"],
                    "SystemCapabilities": {role: true},
                    "ports": {port: {"PortId": port, "ConnectsToHost": host, "ConnectsToInterface": interface}}})
            })
            .collect();
        let mut data = if all.is_empty() { json!({}) } else { all.remove(0) };
        if !all.is_empty() {
            data["neighbours"] = all.into();
        }
        self.say(host, "__LinkDiscovery", &format!("#SWITCH_{interface}"), Some(data))
    }

    /// What a listener heard, as `10.0.0.9=00-16-3e-00-00-09`.
    pub fn heard(&mut self, host: &str, pairs: &str) -> Vec<Event> {
        let data: Map<String, Value> = pairs
            .split_whitespace()
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(ip, macaddr)| (ip.to_owned(), macaddr.into()))
            .collect();
        self.say(host, "ARP", "_ARP_eth0", Some(data.into()))
    }

    pub fn place(&self) -> Option<&Place> {
        self.changes.iter().rev().find_map(|change| match change {
            Change::Place { place, .. } => Some(place),
            _ => None,
        })
    }

    /// Lets time pass; what is due then is looked at.
    pub fn pass(&mut self, seconds: i64) -> Vec<Event> {
        self.rig.wait(seconds);
        let mut told = Vec::new();
        while self.look_at.is_some_and(|due| due <= self.rig.now) {
            self.look_at = None;
            let (_, produced) = self.rig.step(surroundings::look);
            self.note(&produced);
            told.extend(events(produced));
        }
        told
    }

    pub fn is_known(&mut self, kind: NodeKind, key: &str) -> bool {
        let mut tx = self.rig.store.begin().unwrap();
        use model::graph::EdgeKind::{IpOwner, NicOwner, WiredTo};
        [IpOwner, NicOwner, WiredTo].into_iter().any(|edge| !tx.edges_at(kind, key, edge).unwrap().is_empty())
    }
}

/// Event, node type, designation and reason.
pub fn told(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| {
        let object = &event.associatedobject;
        format!(
            "{} {} {} [{}]",
            event.eventtype,
            event.nodetype(),
            event.designation(),
            object["reason"].as_str().unwrap()
        )
    };
    events.iter().map(line).collect()
}

pub const NOTHING: [&str; 0] = [];
const SWITCH: &str = "00-11-22-33-44-55";

#[test]
fn a_host_stands_behind_its_switch_and_moves_only_when_it_is_moved() {
    let mut site = site();
    site.come("web1", 7);
    // Cable before address: nothing can be said yet.
    site.link("web1", "eth0", &format!("{SWITCH}:g7"));
    assert_eq!(site.place(), Some(&Place::Unknown));
    let switch = Place::Switch(SWITCH.into());
    let subnet = Place::Subnet("10.0.0.0".parse().unwrap(), 24);
    site.network("web1", "eth0=10.0.0.7/24@00-16-3e-00-00-07 eth1=10.0.1.7/24@00-16-3e-00-01-07");
    assert_eq!(site.place(), Some(&switch));
    site.link("web1", "eth1", "other:1");
    assert_eq!(site.place(), Some(&switch), "it talks from the other interface");
    site.link("web1", "eth0", &format!("{SWITCH}:g8"));
    assert_eq!(site.place(), Some(&switch), "another port of the same switch");
    // A phone between host and switch, which passes on what the switch says; then two switches on one wire.
    site.link("web1", "eth0", &format!("{SWITCH}:g8 phone:0:phone"));
    assert_eq!(site.place(), Some(&switch));
    site.link("web1", "eth0", &format!("{SWITCH}:g8 another:1"));
    assert_eq!(site.place(), Some(&subnet), "which of them it hangs on is not known");
    site.link("web1", "eth0", "server:0:station");
    assert_eq!(site.place(), Some(&subnet), "a host is no switch");
    site.link("web1", "eth0", &format!("{SWITCH}:g8"));
    assert_eq!(site.place(), Some(&switch));
    site.link("web1", "eth0", "");
    assert_eq!(site.place(), Some(&subnet), "nothing is heard any more");
    site.link("web1", "eth0", &format!("{SWITCH}:g8"));
    site.say("web1", "__LinkDiscovery", "#SWITCH_eth0", None);
    assert_eq!(site.place(), Some(&subnet), "nobody listens any more");
    // It talks from its other interface now.
    site.come("web1", 7);
    assert_eq!(site.place(), None, "the same address: the same place");
    let mut applicant = applicant("web1", PublicKey([7; 32]));
    applicant.remote = "10.0.1.7:4000".parse().unwrap();
    let (_, produced) = site.rig.step(|tx, context| register(tx, context, &applicant, Timestamp(7)));
    site.note(&produced);
    assert_eq!(site.place(), Some(&Place::Switch("other".into())));
}

#[test]
fn what_stands_below_an_interface_counts_and_two_switches_are_none() {
    let mut site = site();
    site.come("web1", 7);
    let bond = json!({
        "eth0": {"address": "00-16-3e-00-00-07", "virtual": false},
        "eth1": {"address": "00-16-3e-00-00-08", "virtual": false},
        "bond0": {"address": "00-16-3e-00-00-07", "virtual": true, "kind": "bond", "bonding_slaves": ["eth0", "eth1"],
            "ipaddrs": {"10.0.0.7/24": {"scope": "global", "name": "bond0"}}},
    });
    site.say("web1", "netconfig", "netconfig", Some(bond));
    site.link("web1", "eth0", &format!("{SWITCH}:g7"));
    assert_eq!(site.place(), Some(&Place::Switch(SWITCH.into())));
    site.link("web1", "eth1", "other:1");
    assert_eq!(
        site.place(),
        Some(&Place::Subnet("10.0.0.0".parse().unwrap(), 24)),
        "it outlives each of them"
    );
}

#[test]
fn a_switch_is_told_once_whoever_sees_it_and_gone_with_the_last() {
    let mut site = site();
    for number in 1..=3 {
        let host = format!("web{number}");
        site.come(&host, number);
        let events = site.link(&host, "eth0", &format!("{SWITCH}:g{number}"));
        if number == 1 {
            assert_eq!(told(&events), [format!("create SystemNode {SWITCH} [appeared]")]);
            assert_eq!(events[0].associatedobject["systemname"], format!("name-{SWITCH}"));
            assert_eq!(events[0].extrainfo["seen_by"], "web1");
        } else {
            assert_eq!(told(&events), NOTHING, "one device, one event");
        }
    }
    // One cable is pulled; then the switch goes, for the others too.
    let events = site.link("web1", "eth0", "");
    assert_eq!(told(&events), ["update NICNode web1 [no longer connected]"]);
    assert_eq!(
        (&events[0].extrainfo["old_port"], &events[0].extrainfo["new_port"]),
        (&json!("g1"), &json!(""))
    );
    assert_eq!(told(&site.link("web2", "eth0", "")).len(), 1);
    assert_eq!(told(&site.link("web3", "eth0", "")), [format!("delete SystemNode {SWITCH} [vanished]")]);
    assert!(!site.is_known(NodeKind::SystemNode, &format!("@global/{SWITCH}")));
    // It is back, and so is each cable: that is one event.
    let back: Vec<String> = (1..=3)
        .flat_map(|n| told(&site.link(&format!("web{n}"), "eth0", &format!("{SWITCH}:g{n}"))))
        .collect();
    assert_eq!(back, [format!("create SystemNode {SWITCH} [appeared]")]);
}

#[test]
fn a_moved_cable_is_told_with_both_ends() {
    let mut site = site();
    site.come("web1", 7);
    site.come("web2", 8);
    site.link("web1", "eth0", &format!("{SWITCH}:g7"));
    site.link("web2", "eth0", &format!("{SWITCH}:g8"));
    let events = site.link("web1", "eth0", &format!("{SWITCH}:g9"));
    assert_eq!(told(&events), ["update NICNode web1 [connected to another port]"]);
    let (object, extra) = (&events[0].associatedobject, &events[0].extrainfo);
    assert_eq!((&object["ifname"], &object["status"]), (&json!("eth0"), &json!("up")));
    assert_eq!((&extra["old_port"], &extra["new_port"]), (&json!("g7"), &json!("g9")));
    assert_eq!(
        (&extra["old_switch"], &extra["new_switch_name"]),
        (&json!(SWITCH), &json!(format!("name-{SWITCH}")))
    );
    assert!(
        extra["text"].as_str().unwrap().contains("eth0 of web1 is connected to port g9 of name-"),
        "{extra:?}"
    );
    assert!(extra.contains_key("seen") && extra.contains_key("committed"));
    // Pulled, and an hour later plugged in elsewhere.
    site.link("web1", "eth0", "");
    site.rig.wait(3600);
    let events = site.link("web1", "eth0", "sw2:1");
    assert_eq!(
        told(&events),
        ["create SystemNode sw2 [appeared]", "update NICNode web1 [connected to another port]"]
    );
    assert_eq!(
        (&events[1].extrainfo["old_port"], &events[1].extrainfo["new_port"]),
        (&json!("g9"), &json!("1"))
    );
    assert!(!site.is_known(NodeKind::NicNode, &format!("@global/{SWITCH}/g9")), "the old cable is gone");
}

#[test]
fn a_switch_that_renumbers_its_ports_makes_few_events() {
    let mut site = site();
    for number in 1..=48 {
        site.come(&format!("web{number}"), number);
        site.link(&format!("web{number}"), "eth0", &format!("{SWITCH}:g{number}"));
    }
    let events: Vec<Event> = (1..=48)
        .flat_map(|number| site.link(&format!("web{number}"), "eth0", &format!("{SWITCH}:te{number}")))
        .collect();
    assert_eq!(events.len(), 10);
    assert!(events[9].extrainfo["text"].as_str().unwrap().contains("nothing is told for some time"));
    site.rig.wait(3600);
    assert_eq!(site.link("web48", "eth0", &format!("{SWITCH}:g48")).len(), 1, "later ones are told again");
}

#[test]
fn what_the_network_says_is_harmless_in_events() {
    let mut site = site();
    site.come("web1", 7);
    let evil = "\u{202e}evil<script>'; DROP TABLE node; --$(reboot)";
    let data = json!({"ChassisId": "sw", "SystemName": evil, "SystemDescription": "x".repeat(100_000),
        "SystemCapabilities": "bridge", "ports": {"1": {"PortId": 7}}, "neighbours": {"a": 1}});
    let events = site.say("web1", "__LinkDiscovery", "#SWITCH_eth0", Some(data));
    assert_eq!(told(&events), ["create SystemNode sw [appeared]"]);
    let text = Value::Object(events[0].extrainfo.clone()).to_string()
        + &Value::Object(events[0].associatedobject.clone()).to_string();
    assert!(!text.contains('\u{202e}') && text.len() < 4000, "{}", text.len());
    for junk in [json!([]), json!("x"), json!({"ChassisId": ["x"]}), json!({"ChassisId": "", "ports": []})] {
        site.say("web1", "__LinkDiscovery", "#SWITCH_eth1", Some(junk));
    }
}

/// A listener that has listened for longer than it learns.
pub fn listening(pairs: &str) -> Site {
    let mut site = site();
    site.come("web1", 1);
    site.network("web1", "eth0=10.0.0.1/24@00-16-3e-00-00-01");
    assert_eq!(told(&site.heard("web1", pairs)), NOTHING, "nobody is told of the first look");
    site.rig.wait(4000);
    site
}

const NINE: &str = "10.0.0.9=00-16-3e-00-00-09";

#[test]
fn a_neighbour_appears_and_vanishes() {
    let mut site = listening(NINE);
    let events = site.heard("web1", &format!("{NINE} 10.0.0.10=00-16-3e-00-00-10"));
    assert_eq!(told(&events), ["create IPaddrNode 10.0.0.10 [appeared]"]);
    let object = &events[0].associatedobject;
    assert_eq!((&object["macaddr"], &object["network"]), (&json!("00-16-3e-00-00-10"), &json!("global")));
    let events = site.heard("web1", "10.0.0.10=00-16-3e-00-00-10");
    assert_eq!(told(&events), ["delete IPaddrNode 10.0.0.9 [vanished]"]);
    // Hosts with a nanoprobe, and their own addresses, are no strangers.
    site.come("web2", 2);
    site.network("web2", "eth0=10.0.0.2/24@00-16-3e-00-00-02");
    let events = site.heard(
        "web1",
        "10.0.0.10=00-16-3e-00-00-10 10.0.0.2=00-16-3e-00-00-02 10.0.0.3=00-16-3e-00-00-02 fe80::1=00-16-3e-00-00-77",
    );
    assert_eq!(told(&events), NOTHING);
    assert_eq!(told(&site.heard("web1", "10.0.0.10=00-16-3e-00-00-10")), NOTHING);
    // A machine that is known may have as many IPv6 addresses as it likes.
    let events = site.heard("web1", "10.0.0.10=00-16-3e-00-00-10 2001:db8::1=00-16-3e-00-00-10");
    assert_eq!(told(&events), NOTHING);
    assert_eq!(told(&site.heard("web1", "10.0.0.10=00-16-3e-00-00-10")), NOTHING);
    assert_eq!(told(&site.heard("web1", "2001:db8::5=00-16-3e-00-00-55")).len(), 2);
}

#[test]
fn a_listener_learns_before_it_tells() {
    let mut site = site();
    site.come("web1", 1);
    site.network("web1", "eth0=10.0.0.1/24@00-16-3e-00-00-01");
    site.heard("web1", NINE);
    site.rig.wait(600);
    let many: String = (20..200).map(|n| format!("10.0.0.{n}=00-16-3e-00-01-{:02x} ", n)).collect();
    assert_eq!(told(&site.heard("web1", &many)), NOTHING, "all the printers of the subnet");
    site.rig.wait(3600);
    // Many at once are counted.
    let new: String = (0..120).map(|n| format!("10.0.1.{n}=00-16-3e-00-02-{n:02x} ")).collect();
    let events = site.heard("web1", &(many.clone() + &new));
    assert_eq!(events.len(), 50);
    assert_eq!((&events[0].extrainfo["further"], &events[49].extrainfo["further"]), (&json!(0), &json!(70)));
    // Its nanoprobe was started again and has heard of few.
    let mut applicant = applicant("web1", PublicKey([1; 32]));
    applicant.message.started = Timestamp(99);
    site.rig.step(|tx, context| register(tx, context, &applicant, Timestamp(7)));
    assert_eq!(told(&site.heard("web1", NINE)), NOTHING);
    assert_eq!(told(&site.heard("web1", &many)), NOTHING);
}

#[test]
fn who_listens_in_place_of_another_tells_of_nobody_that_was_there() {
    let mut site = listening(&format!("{NINE} 10.0.0.10=00-16-3e-00-00-10"));
    site.come("web2", 2);
    site.network("web2", "eth0=10.0.0.2/24@00-16-3e-00-00-02");
    // The first one is down; what it said is still there. The next begins with less.
    let sender = site.senders["web1"].0.clone();
    site.rig.step(|tx, context| goodbye(tx, context, &sender, "HBSHUTDOWN"));
    assert_eq!(told(&site.heard("web2", NINE)), NOTHING);
    site.rig.wait(4000);
    let eleven = "10.0.0.11=00-16-3e-00-00-11";
    let both = format!("{NINE} 10.0.0.10=00-16-3e-00-00-10");
    assert_eq!(told(&site.heard("web2", &both)), NOTHING);
    assert_eq!(told(&site.heard("web2", &format!("{both} {eleven}"))).len(), 1);
    // What only the one that is down still says is not heard any more.
    assert_eq!(
        told(&site.heard("web2", &format!("{NINE} {eleven}"))),
        ["delete IPaddrNode 10.0.0.10 [vanished]"]
    );
    assert_eq!(told(&site.heard("web2", &both)), ["delete IPaddrNode 10.0.0.11 [vanished]"]);
    // The first one is back and is told to listen no more.
    assert_eq!(told(&site.say("web1", "ARP", "_ARP_eth0", None)), NOTHING);
    assert!(site.is_known(NodeKind::IpaddrNode, "@global/10.0.0.10"));
    assert_eq!(told(&site.heard("web2", NINE)), ["delete IPaddrNode 10.0.0.10 [vanished]"]);
    // Listening again, it learns again.
    assert_eq!(told(&site.heard("web1", "10.0.0.77=00-16-3e-00-00-77")), NOTHING);
    assert_eq!(told(&site.heard("web1", NINE)), NOTHING);
}

#[test]
fn a_host_that_is_removed_takes_along_what_only_it_saw() {
    let mut site = site();
    site.come("web1", 1);
    site.come("web2", 2);
    site.network("web1", "eth0=10.0.0.5/24@00-16-3e-00-00-01");
    site.network("web2", "eth0=10.0.0.5/24@00-16-3e-00-00-02");
    site.link("web1", "eth0", "shared:1");
    site.link("web1", "eth1", "own:1");
    site.link("web2", "eth0", "shared:2");
    site.heard("web1", NINE);
    assert_eq!(site.pass(20).len(), 1);
    let (_, produced) = site.rig.step(|tx, context| remove(tx, context, &name("web1")));
    assert!(produced.changes.contains(&Change::Removed(name("web1"))));
    site.note(&produced);
    assert_eq!(told(&events(produced)), ["delete Drone web1 [STARTUP]", "delete SystemNode own [vanished]"]);
    assert_eq!(told(&site.pass(20)), ["unwarn IPaddrNode 10.0.0.5 [duplicate address]"]);
    for (kind, key, known) in [
        (NodeKind::SystemNode, "@global/own", false),
        (NodeKind::SystemNode, "@global/shared", true),
        (NodeKind::NicNode, "@global/shared/1", false),
        (NodeKind::NicNode, "@global/shared/2", true),
        (NodeKind::NicNode, "web1/eth0", false),
        (NodeKind::IpaddrNode, "@global/10.0.0.9", false),
        (NodeKind::IpaddrNode, "@global/10.0.0.5", true),
    ] {
        assert_eq!(site.is_known(kind, key), known, "{key}");
    }
}

#[test]
fn a_host_that_got_another_name_leaves_no_second_owner_when_the_old_one_is_removed() {
    let mut site = site();
    site.come("old", 1);
    site.network("old", "eth0=10.0.0.5/24@00-16-3e-00-00-01");
    site.link("old", "eth0", "sw1:1");
    // The key is pinned to the old name, so it comes with another one.
    site.come("new", 2);
    site.network("new", "eth0=10.0.0.5/24@00-16-3e-00-00-01");
    assert_eq!(told(&site.link("new", "eth0", "sw1:1")), NOTHING, "the switch is known");
    assert_eq!(told(&site.pass(60)), NOTHING, "the same interface: one machine");
    let (_, produced) = site.rig.step(|tx, context| remove(tx, context, &name("old")));
    assert_eq!(told(&events(produced)), ["delete Drone old [STARTUP]"]);
    assert!(
        site.is_known(NodeKind::SystemNode, "@global/sw1")
            && site.is_known(NodeKind::IpaddrNode, "@global/10.0.0.5")
    );
    assert!(!site.is_known(NodeKind::NicNode, "old/eth0"));
}

#[test]
fn a_host_that_was_reinstalled_says_no_more_what_it_heard_in_its_former_life() {
    let mut site = listening(NINE);
    site.link("web1", "eth0", "sw1:1");
    let again = |site: &mut Site, key: u8, incarnation: u8, documents: Vec<KnownDocument>| {
        let mut applicant = applicant("web1", PublicKey([key; 32]));
        applicant.message.incarnation = Incarnation([incarnation; 16]);
        applicant.message.documents = documents;
        let (registration, _) = site.rig.step(|tx, context| register(tx, context, &applicant, Timestamp(7)));
        matches!(registration, Registration::Welcome { .. })
    };
    // A connection that comes back, with or without what was sent.
    assert!(again(&mut site, 1, 9, Vec::new()));
    assert!(site.is_known(NodeKind::IpaddrNode, "@global/10.0.0.9"));
    // Its state was lost, but for the cable.
    let cable = KnownDocument { instance: "#SWITCH_eth0".into(), hash: DocumentHash([0; 32]) };
    assert!(again(&mut site, 1, 8, vec![cable]));
    assert!(!site.is_known(NodeKind::IpaddrNode, "@global/10.0.0.9"), "it does not listen any more");
    assert!(site.is_known(NodeKind::SystemNode, "@global/sw1"));
    assert!(
        site.is_known(NodeKind::IpaddrNode, "@global/10.0.0.1"),
        "its own address stays until it says otherwise"
    );
    // Re-installed: another key, which somebody accepts.
    assert!(!again(&mut site, 5, 7, Vec::new()));
    assert!(site.is_known(NodeKind::SystemNode, "@global/sw1"), "an impostor changes nothing");
    site.rig.step(|tx, context| accept_key(tx, context, &name("web1")));
    assert!(again(&mut site, 5, 7, Vec::new()));
    assert!(!site.is_known(NodeKind::SystemNode, "@global/sw1"));
}

#[test]
fn a_host_that_is_readdressed_has_its_new_address_only() {
    let mut site = site();
    site.come("web1", 1);
    site.network("web1", "eth0=10.0.0.5/24@00-16-3e-00-00-01");
    site.network("web1", "eth0=10.8.0.5/16@00-16-3e-00-00-01");
    assert!(!site.is_known(NodeKind::IpaddrNode, "@global/10.0.0.5"));
    assert!(site.is_known(NodeKind::IpaddrNode, "@global/10.8.0.5"));
    let interfaces = site.changes.iter().find_map(|change| match change {
        Change::Interfaces { interfaces, .. } => Some(interfaces),
        _ => None,
    });
    let subnet = interfaces.unwrap()["eth0"].first().unwrap();
    assert_eq!((subnet.address.to_string().as_str(), subnet.prefix_length), ("10.8.0.0", 16));
}

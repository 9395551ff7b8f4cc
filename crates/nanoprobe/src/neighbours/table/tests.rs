use super::super::{advertisements, pairs};
use super::*;
use discovery::link::Protocol;
use serde_json::{Map, Value, json};

mod properties;

const FORGET: Duration = Duration::from_secs(4 * 3600);
const ETH0: &str = "#SWITCH_eth0";
const ARP0: &str = "_ARP_eth0";

/// A table in virtual time, with the documents that the queue would hold.
struct Rig {
    table: Table,
    now: Duration,
    documents: BTreeMap<String, Envelope>,
    /// All that was told: when, which instance, whether it is there.
    history: Vec<(Duration, String, bool)>,
    /// The kernel's table about eth0, and how often it was asked for.
    kernel: Vec<(Sighting, Duration)>,
    asked: usize,
}

impl Rig {
    fn new(table: Table, now: Duration) -> Self {
        let mut rig = Self {
            table,
            now,
            documents: BTreeMap::new(),
            history: Vec::new(),
            kernel: Vec::new(),
            asked: 0,
        };
        rig.table.configure(now, true, FORGET);
        rig
    }

    fn with_links(links: &[LinkState]) -> Self {
        let mut rig = Self::new(Table::new("web1"), Duration::from_secs(5));
        rig.table.handle_links(rig.now, links.to_vec());
        rig
    }

    /// Lets time pass, and does everything at the moment when it is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(due) = self.table.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.tell();
            turns += 1;
            assert!(turns < 10_000, "what is due stays due: an event loop would never sleep");
        }
        self.now = end;
        self.tell();
    }

    fn seconds(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    fn tell(&mut self) {
        if self.table.take_wants_kernel(self.now) {
            self.asked += 1;
            for (sighting, age) in &self.kernel {
                self.table.handle_sighting(self.now, "eth0", *sighting, *age);
            }
        }
        for Told { instance, document } in self.table.tell(self.now) {
            self.history.push((self.now, instance.clone(), document.is_some()));
            match document {
                Some(document) => {
                    assert_eq!(document.instance, instance);
                    let old = self.documents.insert(instance, document.clone());
                    assert_ne!(old, Some(document), "told without a change");
                }
                None => assert!(self.documents.remove(&instance).is_some(), "{instance} was not there"),
            }
        }
    }

    fn hear(&mut self, advertisement: Advertisement) {
        self.table.handle_advertisement(self.now, "eth0", advertisement);
    }

    fn see(&mut self, ip: [u8; 4], mac: u8) {
        self.table.handle_sighting(self.now, "eth0", pair(ip, mac), Duration::ZERO);
    }

    /// Chassis of all devices in the document about eth0.
    fn chassis(&self) -> Vec<String> {
        let Some(document) = self.documents.get(ETH0) else { return Vec::new() };
        let others = document.data["neighbours"].as_array().into_iter().flatten();
        let mut all: Vec<String> = std::iter::once(&document.data)
            .chain(others)
            .map(|device| device["ChassisId"].as_str().unwrap().to_owned())
            .collect();
        all.sort();
        all
    }

    fn addresses(&self) -> Value {
        self.documents.get(ARP0).map_or(Value::Null, |document| document.data.clone())
    }

    fn count(&self, instance: &str) -> usize {
        self.history.iter().filter(|(_, name, _)| name == instance).count()
    }
}

fn link(index: u32, name: &str) -> LinkState {
    LinkState { index, name: name.into(), has_carrier: true, carrier_losses: Some(0), is_port: true }
}

fn switch(chassis: &str, port: &str, ttl_seconds: u16) -> Advertisement {
    let source = MacAddress([2, 0, 0, 0, 1, chassis.len() as u8]);
    let data = json!({"ChassisId": chassis, "SystemName": format!("name of {chassis}"), "ports": {port: {"PortId": port}}});
    Advertisement {
        protocol: Protocol::Lldp,
        source,
        ttl_seconds,
        chassis: chassis.into(),
        port: port.into(),
        data: data.as_object().cloned().unwrap_or_default(),
        errors: Vec::new(),
    }
}

fn pair(ip: [u8; 4], mac: u8) -> Sighting {
    Sighting { ip: ip.into(), mac: MacAddress([2, 0, 0, 0, 0, mac]) }
}

#[test]
fn instances_are_those_of_the_documents() {
    let switch = document("h", "eth0", &[switch("s", "p", 120)]);
    assert_eq!(switch.instance, Kind::Switch.instance("eth0"));
    assert_eq!(neighbours_document("h", "eth0", &BTreeMap::new()).instance, Kind::Addresses.instance("eth0"));
    assert_eq!(Kind::of("#SWITCH_eth0"), Some((Kind::Switch, "eth0")));
    assert_eq!(Kind::of("_ARP_br0"), Some((Kind::Addresses, "br0")));
    assert_eq!(Kind::of("_init_os"), None);
}

#[test]
fn a_switch_is_told_once_and_expires_when_its_time_is_over() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    for _ in 0..20 {
        rig.hear(switch("sw1", "gi1/0/3", 120));
        rig.seconds(30);
    }
    assert_eq!(rig.chassis(), ["sw1"]);
    assert_eq!(rig.count(ETH0), 1, "{:?}", rig.history);
    // The last frame came 30 s ago.
    rig.seconds(89);
    assert_eq!(rig.chassis(), ["sw1"]);
    rig.seconds(2);
    assert_eq!(rig.chassis(), [""; 0]);
    assert_eq!(rig.table.poll_timeout(), None, "nothing is left to wait for");
}

#[test]
fn a_goodbye_ends_it_and_one_of_a_stranger_ends_nothing() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.hear(switch("sw1", "gi1", 120));
    rig.hear(switch("phone", "p1", 120));
    rig.seconds(5);
    assert_eq!(rig.chassis(), ["phone", "sw1"]);
    rig.hear(switch("sw2", "gi1", 0));
    rig.seconds(5);
    assert_eq!(rig.chassis(), ["phone", "sw1"]);
    rig.hear(switch("sw1", "gi1", 0));
    rig.seconds(5);
    assert_eq!(rig.chassis(), ["phone"]);
    rig.hear(switch("phone", "p1", 0));
    rig.seconds(5);
    assert!(rig.documents.is_empty());
}

#[test]
fn a_change_of_what_is_said_is_told() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.hear(switch("sw1", "gi1", 120));
    rig.seconds(30);
    let mut renamed = switch("sw1", "gi1", 100);
    renamed.data.insert("SystemName".into(), "core".into());
    rig.hear(renamed.clone());
    rig.seconds(30);
    assert_eq!((&rig.documents[ETH0].data["SystemName"], rig.count(ETH0)), (&json!("core"), 2));
    rig.hear(Advertisement { ttl_seconds: 90, ..renamed });
    rig.seconds(30);
    assert_eq!(rig.count(ETH0), 2, "how long it holds is no change");
}

#[test]
fn a_cable_that_moves_leaves_nothing_of_the_old_port() {
    for (losses, plugged) in [(1, true), (0, false)] {
        let mut rig = Rig::with_links(&[link(2, "eth0")]);
        rig.hear(switch("sw1", "gi1", 3600));
        rig.seconds(10);
        let moved = rig.now;
        // Either the carrier is seen to be out, or it was back before anybody looked and only the kernel counted.
        let out = LinkState { has_carrier: plugged, carrier_losses: Some(losses), ..link(2, "eth0") };
        rig.table.handle_links(rig.now, vec![out]);
        rig.seconds(0);
        assert!(rig.documents.is_empty(), "told at once");
        assert_eq!(rig.history.last().unwrap().0, moved);
        rig.table.handle_links(rig.now, vec![LinkState { carrier_losses: Some(losses), ..link(2, "eth0") }]);
        rig.hear(switch("sw2", "gi7", 120));
        rig.seconds(5);
        assert_eq!(rig.chassis(), ["sw2"]);
    }
}

#[test]
fn behind_something_that_hides_the_move_both_stay_until_their_time_is_over() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.hear(switch("sw1", "gi1", 120));
    rig.seconds(60);
    rig.hear(switch("sw1", "gi2", 120));
    rig.seconds(5);
    assert_eq!(rig.chassis(), ["sw1", "sw1"]);
    rig.seconds(60);
    let ports: Vec<&String> = rig.documents[ETH0].data["ports"].as_object().unwrap().keys().collect();
    assert_eq!(ports, ["gi2"]);
    assert_eq!(rig.documents[ETH0].data.get("neighbours"), None);
}

#[test]
fn an_interface_that_is_gone_takes_its_documents_along_at_once() {
    let mut rig = Rig::with_links(&[link(2, "eth0"), link(3, "eth1")]);
    rig.table.listen(rig.now, ["eth0".to_owned()]);
    rig.hear(switch("sw1", "gi1", 120));
    rig.see([10, 0, 0, 7], 7);
    rig.seconds(5);
    assert_eq!(rig.documents.len(), 2);
    rig.table.handle_links(rig.now, vec![link(3, "eth1")]);
    rig.tell();
    assert!(rig.documents.is_empty());
    assert!(rig.table.reports.is_empty(), "nothing is kept of names that are gone");
    // Another interface of the same name begins anew, and the CMA's choice still holds.
    rig.table.handle_links(rig.now, vec![link(9, "eth0")]);
    assert!(rig.table.take_wants_kernel(rig.now));
    rig.see([10, 0, 0, 8], 8);
    rig.seconds(5);
    assert_eq!(rig.addresses(), json!({"10.0.0.8": "02-00-00-00-00-08"}));
}

#[test]
fn nobody_listens_for_addresses_unless_chosen() {
    let mut rig = Rig::with_links(&[link(2, "eth0"), link(3, "eth1")]);
    rig.see([10, 0, 0, 7], 7);
    rig.seconds(100);
    assert!(rig.documents.is_empty() && !rig.table.take_wants_kernel(rig.now));
    rig.table.listen(rig.now, ["eth0", "eth7", "../etc"].map(String::from));
    assert!(rig.table.take_wants_kernel(rig.now) && !rig.table.take_wants_kernel(rig.now));
    let names = |table: &Table| table.listening().map(|link| link.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&rig.table), ["eth0"]);
    rig.see([10, 0, 0, 7], 7);
    rig.seconds(5);
    assert_eq!(rig.addresses(), json!({"10.0.0.7": "02-00-00-00-00-07"}));
    rig.table.listen(rig.now, ["eth1".to_owned()]);
    rig.tell();
    assert!(rig.documents.is_empty(), "another one listens now");
    rig.see([10, 0, 0, 7], 7);
    rig.seconds(100);
    assert!(rig.documents.is_empty());
}

#[test]
fn addresses_stay_while_they_are_heard_or_the_kernel_knows_them() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.table.listen(rig.now, ["eth0".to_owned()]);
    rig.table.take_wants_kernel(rig.now);
    for mac in [1, 2, 3] {
        rig.see([10, 0, 0, mac], mac);
    }
    let hour = Duration::from_secs(3600);
    // The last is older than what counts.
    rig.kernel = vec![(pair([10, 0, 0, 2], 2), hour), (pair([10, 0, 0, 9], 9), FORGET)];
    rig.asked = 0;
    for _ in 0..300 {
        rig.seconds(60);
        rig.see([10, 0, 0, 1], 1);
    }
    assert_eq!(rig.addresses(), json!({"10.0.0.1": "02-00-00-00-00-01", "10.0.0.2": "02-00-00-00-00-02"}));
    assert!((1..=10).contains(&rig.asked), "the kernel was asked {} times in five hours", rig.asked);
}

#[test]
fn what_was_heard_wins_over_older_entries_of_the_kernel() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.table.listen(rig.now, ["eth0".to_owned()]);
    rig.see([10, 0, 0, 7], 7);
    rig.seconds(60);
    rig.table.handle_sighting(rig.now, "eth0", pair([10, 0, 0, 7], 8), Duration::from_secs(300));
    rig.seconds(60);
    assert_eq!(rig.addresses(), json!({"10.0.0.7": "02-00-00-00-00-07"}));
    rig.see([10, 0, 0, 7], 9);
    rig.seconds(60);
    assert_eq!(rig.addresses(), json!({"10.0.0.7": "02-00-00-00-00-09"}));
}

#[test]
fn two_stations_that_fight_for_an_address_make_a_document_a_minute() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.table.listen(rig.now, ["eth0".to_owned()]);
    for turn in 0..36_000u32 {
        rig.see([10, 0, 0, 7], if turn % 7 < 3 { 1 } else { 2 });
        rig.pass(Duration::from_millis(100));
    }
    let told = rig.count(ARP0);
    assert!((2..=66).contains(&told), "{told} in an hour");
}

#[test]
fn a_storm_of_forged_addresses_neither_grows_nor_drives_out_who_is_known() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.table.listen(rig.now, ["eth0".to_owned()]);
    for _ in 0..3 {
        (0..100u8).for_each(|host| rig.see([10, 0, 0, host + 1], host));
        rig.seconds(20);
    }
    let before = rig.count(ARP0);
    let mut random = 1u32;
    for _ in 0..600 {
        for _ in 0..50 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            rig.see([10, (random >> 24) as u8, (random >> 16) as u8, (random >> 8) as u8], random as u8);
        }
        rig.pass(Duration::from_millis(100));
    }
    rig.seconds(60);
    let document = &rig.documents[ARP0];
    let data = document.data.as_object().unwrap();
    assert_eq!(data.len(), pairs::MAX);
    assert!((1..=100).all(|host| data.contains_key(&format!("10.0.0.{host}"))));
    assert!(document.errors[0].contains("more than 4096 addresses"), "{:?}", document.errors);
    assert!(rig.count(ARP0) - before <= 9, "{:?}", rig.history);
    // When it is over, so is the error, and in the end what was forged.
    rig.seconds(1000);
    assert_eq!(rig.documents[ARP0].errors, [""; 0]);
    rig.seconds(5 * 3600);
    assert!(rig.documents.is_empty());
}

#[test]
fn a_storm_of_forged_switches_does_not_drive_out_the_real_one() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    for _ in 0..2 {
        rig.hear(switch("real", "gi1", 120));
        rig.seconds(30);
    }
    let before = rig.count(ETH0);
    for turn in 0..2000u32 {
        if turn % 300 == 0 {
            rig.hear(switch("real", "gi1", 120));
        }
        rig.hear(switch(&format!("forged{turn}"), "x", 65535));
        rig.pass(Duration::from_millis(100));
    }
    let document = &rig.documents[ETH0];
    assert!(rig.chassis().contains(&"real".to_owned()));
    assert_eq!(rig.chassis().len(), advertisements::MAX);
    assert!(
        document.errors.iter().any(|error| error.contains("more than 16 devices")),
        "{:?}",
        document.errors
    );
    assert!(rig.count(ETH0) - before <= 9, "{:?}", rig.history);
}

#[test]
fn of_too_many_steady_devices_the_same_are_told_all_the_time() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    let mut documents = BTreeSet::new();
    for turn in 0..40 {
        (0..20).for_each(|device| rig.hear(switch(&format!("device{device:02}"), "p", 120)));
        rig.seconds(30);
        if turn > 4 {
            documents.insert(rig.chassis());
        }
    }
    assert_eq!(documents.len(), 1, "{documents:?}");
    assert_eq!(documents.first().map(Vec::len), Some(advertisements::MAX));
}

/// Hands the documents of one life of the nanoprobe to the next.
fn restarted(old: &Rig, links: &[LinkState]) -> Rig {
    let mut table = Table::new("web1");
    table.configure(Duration::ZERO, true, FORGET);
    for (instance, document) in &old.documents {
        let pairs = if Kind::of(instance).unwrap().0 == Kind::Addresses {
            let data = document.data.as_object().unwrap().iter();
            data.map(|(ip, mac)| (ip.parse().unwrap(), MacAddress::parse(mac.as_str().unwrap()).unwrap()))
                .collect()
        } else {
            BTreeMap::new()
        };
        table.restore(Duration::ZERO, instance, document.hash(), pairs);
    }
    let mut rig = Rig::new(table, Duration::ZERO);
    rig.documents = old.documents.clone();
    rig.table.handle_links(rig.now, links.to_vec());
    rig
}

#[test]
fn a_restart_is_no_change() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.table.listen(rig.now, ["eth0".to_owned()]);
    rig.hear(switch("sw1", "gi1", 120));
    rig.hear(Advertisement { protocol: Protocol::Cdp, ..switch("sw1", "Gi1", 180) });
    rig.see([10, 0, 0, 7], 7);
    rig.seconds(5);
    assert_eq!(rig.documents.len(), 2);
    let mut rig = restarted(&rig, &[link(2, "eth0")]);
    assert!(rig.table.take_wants_kernel(rig.now), "it listens on without being told");
    rig.seconds(25);
    // One protocol comes well before the other.
    rig.hear(switch("sw1", "gi1", 120));
    rig.seconds(30);
    rig.hear(Advertisement { protocol: Protocol::Cdp, ..switch("sw1", "Gi1", 180) });
    for _ in 0..10 {
        rig.seconds(30);
        rig.hear(switch("sw1", "gi1", 120));
        rig.hear(Advertisement { protocol: Protocol::Cdp, ..switch("sw1", "Gi1", 180) });
    }
    assert_eq!(rig.history, [], "nothing is told");
    rig.see([10, 0, 0, 8], 8);
    rig.seconds(2);
    assert_eq!(rig.count(ARP0), 1, "what is new is told without waiting");
}

#[test]
fn what_went_away_during_a_restart_is_told_when_all_others_were_heard() {
    let mut rig = Rig::with_links(&[link(2, "eth0"), link(3, "eth1")]);
    rig.hear(switch("sw1", "gi1", 120));
    rig.table.handle_advertisement(rig.now, "eth1", switch("sw2", "gi1", 120));
    rig.seconds(5);
    assert_eq!(rig.documents.len(), 2);
    // eth1 is no longer there, and the cable of eth0 leads to another switch.
    let mut rig = restarted(&rig, &[link(2, "eth0")]);
    rig.hear(switch("sw3", "gi1", 65000));
    rig.pass(GRACE - Duration::from_secs(1));
    assert_eq!(rig.history, []);
    rig.seconds(2);
    assert_eq!(rig.chassis(), ["sw3"]);
    assert_eq!(rig.documents.len(), 1);
    assert_eq!(rig.history.len(), 2);
}

#[test]
fn a_carrier_lost_after_a_restart_does_not_wait() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.hear(switch("sw1", "gi1", 120));
    rig.seconds(5);
    let mut rig = restarted(&rig, &[link(2, "eth0")]);
    rig.seconds(3);
    rig.table.handle_links(rig.now, vec![LinkState { has_carrier: false, ..link(2, "eth0") }]);
    rig.tell();
    assert!(rig.documents.is_empty());
}

#[test]
fn switched_off_means_gone_and_switched_on_begins_anew() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.table.listen(rig.now, ["eth0".to_owned()]);
    rig.hear(switch("sw1", "gi1", 120));
    rig.see([10, 0, 0, 7], 7);
    rig.seconds(5);
    rig.table.configure(rig.now, false, FORGET);
    rig.tell();
    assert!(rig.documents.is_empty());
    assert_eq!((rig.table.ports().count(), rig.table.listening().count()), (0, 0));
    rig.hear(switch("sw1", "gi1", 120));
    rig.see([10, 0, 0, 7], 7);
    rig.seconds(100);
    assert!(rig.documents.is_empty());
    rig.table.configure(rig.now, true, FORGET);
    assert!(rig.table.take_wants_kernel(rig.now));
    rig.hear(switch("sw1", "gi1", 120));
    rig.see([10, 0, 0, 7], 7);
    rig.seconds(5);
    assert_eq!(rig.documents.len(), 2);
}

#[test]
fn a_shorter_memory_counts_for_what_was_heard_already() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.table.listen(rig.now, ["eth0".to_owned()]);
    rig.see([10, 0, 0, 7], 7);
    rig.seconds(3600);
    rig.see([10, 0, 0, 8], 8);
    rig.seconds(5);
    rig.table.configure(rig.now, true, Duration::from_secs(1800));
    rig.seconds(5);
    assert_eq!(rig.addresses(), json!({"10.0.0.8": "02-00-00-00-00-08"}));
}

#[test]
fn what_the_cma_lacks_and_what_the_queue_refused_is_told_again() {
    let mut rig = Rig::with_links(&[link(2, "eth0")]);
    rig.hear(switch("sw1", "gi1", 120));
    rig.seconds(5);
    rig.documents.clear();
    rig.table.wanted(rig.now, ETH0);
    rig.table.wanted(rig.now, "_ARP_eth5");
    rig.tell();
    assert_eq!(rig.chassis(), ["sw1"]);
    rig.documents.clear();
    rig.table.refused(rig.now, ETH0);
    rig.seconds(14);
    assert!(rig.documents.is_empty());
    rig.seconds(2);
    assert_eq!(rig.chassis(), ["sw1"]);
}

#[test]
fn devices_are_heard_on_ports_only() {
    let mut rig = Rig::with_links(&[LinkState { is_port: false, ..link(2, "eth0") }]);
    rig.hear(switch("sw1", "gi1", 120));
    rig.table.handle_advertisement(
        rig.now,
        "eth9",
        Advertisement { data: Map::new(), ..switch("sw1", "gi1", 120) },
    );
    rig.seconds(5);
    assert!(rig.documents.is_empty(), "only ports have devices at their other end");
}

//! What holds for a table whatever happens to it.

use super::super::super::pace::{MAX_PAUSE, SETTLE};
use super::*;
use proptest::prelude::*;

/// Something that happens to a table.
#[derive(Debug, Clone)]
enum Step {
    Advertise { chassis: u8, port: u8, ttl_seconds: u16, name: u8 },
    See { host: u8, mac: u8, age_seconds: u64 },
    Carrier(bool),
    Gone,
    Listen(bool),
    Enabled(bool),
    Pass { milliseconds: u64 },
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..20u8, 0..2u8, prop_oneof![Just(0u16), 1..300u16, Just(u16::MAX)], 0..2u8)
            .prop_map(|(chassis, port, ttl_seconds, name)| Step::Advertise { chassis, port, ttl_seconds, name }),
        5 => (0..9u8, 0..3u8, 0..20_000u64).prop_map(|(host, mac, age_seconds)| Step::See { host, mac, age_seconds }),
        1 => any::<bool>().prop_map(Step::Carrier),
        1 => Just(Step::Gone),
        1 => any::<bool>().prop_map(Step::Listen),
        1 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(Step::Enabled),
        6 => prop_oneof![0..2000u64, 0..300_000u64, 0..20_000_000u64].prop_map(|milliseconds| Step::Pass { milliseconds }),
    ]
}

proptest! {
    /// Whatever happens: documents are told only when they changed (the rig checks that), seldom, and in the end they say what
    /// holds; after the longest time that anything holds nothing is left, and nothing is waited for.
    #[test]
    fn documents_follow_what_is_heard(steps in proptest::collection::vec(steps(), 1..80)) {
        let mut rig = Rig::with_links(&[link(2, "eth0")]);
        let mut allowed = 0;
        for step in steps {
            match step {
                Step::Advertise { chassis, port, ttl_seconds, name } => {
                    let mut told = switch(&format!("c{chassis}"), &format!("p{port}"), ttl_seconds);
                    told.data.insert("SystemName".into(), name.into());
                    rig.hear(told);
                }
                Step::See { host, mac, age_seconds } => {
                    let age = Duration::from_secs(age_seconds);
                    rig.table.handle_sighting(rig.now, "eth0", pair([10, 0, 0, host], mac), age);
                }
                Step::Carrier(has_carrier) => {
                    allowed += 1;
                    rig.table.handle_links(rig.now, vec![LinkState { has_carrier, ..link(2, "eth0") }]);
                }
                Step::Gone => {
                    allowed += 1;
                    rig.table.handle_links(rig.now, Vec::new());
                }
                Step::Listen(listens) => {
                    allowed += 1;
                    rig.table.listen(rig.now, listens.then(|| "eth0".to_owned()));
                }
                Step::Enabled(is_enabled) => {
                    allowed += 1;
                    rig.table.configure(rig.now, is_enabled, FORGET);
                }
                Step::Pass { milliseconds } => rig.pass(Duration::from_millis(milliseconds)),
            }
        }
        for instance in [ETH0, ARP0] {
            let times: Vec<Duration> = rig.history.iter().filter(|(_, name, _)| name == instance).map(|(at, ..)| *at).collect();
            let hasty = times.windows(2).filter(|pair| pair[1] < pair[0] + SETTLE).count();
            prop_assert!(hasty <= allowed, "{hasty} documents without a pause, {allowed} occasions");
        }
        // What expires in the last moment of a pause is told in the next one.
        let present = |rig: &Rig| [Kind::Switch, Kind::Addresses].map(|kind| rig.table.document(kind, "eth0"));
        let mut before = None;
        while before.replace(present(&rig)) != Some(present(&rig)) {
            rig.pass(MAX_PAUSE);
        }
        prop_assert_eq!([ETH0, ARP0].map(|instance| rig.documents.get(instance).cloned()), present(&rig));
        rig.pass(FORGET + Duration::from_secs(u64::from(u16::MAX)) + FORGET / 8 + 2 * MAX_PAUSE);
        prop_assert!(rig.documents.is_empty());
        prop_assert_eq!(rig.table.poll_timeout(), None);
        prop_assert_eq!(rig.table.sizes(), (0, 0));
    }

    /// The document does not depend on the order in which devices were heard.
    #[test]
    fn the_order_of_frames_makes_no_difference(order in Just((0..6u8).collect::<Vec<_>>()).prop_shuffle()) {
        let mut rig = Rig::with_links(&[link(2, "eth0")]);
        for device in &order {
            rig.hear(switch(&format!("c{device}"), "p", 120));
        }
        rig.seconds(2);
        let mut sorted = Rig::with_links(&[link(2, "eth0")]);
        (0..6).for_each(|device: u8| sorted.hear(switch(&format!("c{device}"), "p", 120)));
        sorted.seconds(2);
        prop_assert_eq!(&rig.documents, &sorted.documents);
    }
}

//! Addresses with two owners, and such as go to and fro.

use crate::ingest::{name, rig_with};
use crate::surroundings::{NOTHING, Site, listening, site, told, with};
use cma::ingest::evaluation;
use cma::ingest::register::goodbye;
use cma::knowledge::Knowledge;
use liveness::rings::Place;
use model::config::{CmaConfig, parse_toml};
use model::graph::NodeKind;
use rules::RuleSets;
use serde_json::json;

#[test]
fn two_hosts_with_one_address_are_told_once_until_one_gives_way() {
    let mut site = site();
    site.come("web1", 1);
    site.come("web2", 2);
    site.network("web1", "eth0=10.0.0.5/24@00-16-3e-00-00-01");
    assert_eq!(site.look_at, None);
    assert_eq!(
        told(&site.network("web2", "eth0=10.0.0.5/24@00-16-3e-00-00-02")),
        NOTHING,
        "it may be moving"
    );
    assert_eq!(told(&site.pass(10)), NOTHING);
    let events = site.pass(10);
    assert_eq!(told(&events), ["warn IPaddrNode 10.0.0.5 [duplicate address]"]);
    let extra = &events[0].extrainfo;
    assert_eq!(extra["owners"], json!(["web1 (00-16-3e-00-00-01)", "web2 (00-16-3e-00-00-02)"]));
    assert!(extra["fix_now"].as_str().unwrap().contains("[networks]"), "{extra:?}");
    // Said again with other facts, and after a restart of the CMA.
    site.network("web2", "eth0=10.0.0.5/24@00-16-3e-00-00-02 eth1=10.9.0.5/24@00-16-3e-00-09-02");
    assert_eq!(told(&site.pass(60)), NOTHING);
    site.look_at = Some(site.rig.now);
    assert_eq!(told(&site.pass(1)), NOTHING);
    site.network("web2", "eth0=10.0.0.6/24@00-16-3e-00-00-02");
    assert_eq!(told(&site.pass(5)), ["unwarn IPaddrNode 10.0.0.5 [duplicate address]"]);
    assert_eq!((told(&site.pass(5)), site.look_at), (vec![], None), "and nothing is looked at any more");
    // Over too when one of them goes.
    site.network("web2", "eth0=10.0.0.5/24@00-16-3e-00-00-02");
    assert_eq!(site.pass(20).len(), 1);
    let sender = site.senders["web2"].0.clone();
    let (_, produced) = site.rig.step(|tx, context| goodbye(tx, context, &sender, "HBSHUTDOWN"));
    site.note(&produced);
    assert_eq!(told(&site.pass(5)), ["unwarn IPaddrNode 10.0.0.5 [duplicate address]"]);
    site.come("web2", 2);
    assert_eq!(told(&site.pass(20)), ["warn IPaddrNode 10.0.0.5 [duplicate address]"], "back with it");
}

#[test]
fn an_address_that_moves_is_no_duplicate() {
    let mut site = site();
    site.come("web1", 1);
    site.come("web2", 2);
    let both = "eth0=10.0.0.1/24@00-16-3e-00-00-01 eth1=10.0.0.5/24@00-16-3e-00-01-01";
    site.network("web1", both);
    // A VIP: the new owner tells first.
    site.network("web2", "eth0=10.0.0.2/24@00-16-3e-00-00-02 eth1=10.0.0.5/24@00-16-3e-00-01-02");
    site.rig.wait(3);
    site.network("web1", "eth0=10.0.0.1/24@00-16-3e-00-00-01");
    assert_eq!(told(&site.pass(60)), NOTHING);
    // To another interface of the same host, or shared by two of them.
    site.network("web2", "eth0=10.0.0.5/24@00-16-3e-00-00-02 eth1=10.0.0.5/24@00-16-3e-00-01-02");
    assert_eq!(told(&site.pass(60)), NOTHING);
    // A virtual router that both are for a while.
    site.network("web1", "eth0=10.0.0.9/24@00-00-5e-00-01-07");
    site.network("web2", "eth0=10.0.0.9/24@00-00-5e-00-01-07");
    assert_eq!(told(&site.pass(600)), NOTHING);
}

#[test]
fn who_answers_for_a_host_is_told() {
    let mut site = listening("10.0.0.1=00-16-3e-00-00-01");
    site.come("web2", 2);
    site.network("web2", "eth0=10.0.0.2/24@00-16-3e-00-00-02 eth1=10.7.0.2/24@00-16-3e-00-07-02");
    site.rig.wait(10);
    site.heard("web1", "10.0.0.2=00-16-3e-00-00-02 10.7.0.2=00-16-3e-00-00-99");
    assert_eq!(told(&site.pass(600)), NOTHING, "a router answers for another subnet");
    site.heard("web1", "10.0.0.2=00-16-3e-00-00-66");
    let events = site.pass(20);
    assert_eq!(told(&events), ["warn IPaddrNode 10.0.0.2 [duplicate address]"]);
    assert_eq!(events[0].extrainfo["owners"], json!(["00-16-3e-00-00-66", "web2 (00-16-3e-00-00-02)"]));
    site.heard("web1", "10.0.0.2=00-16-3e-00-00-02");
    assert_eq!(told(&site.pass(20)), ["unwarn IPaddrNode 10.0.0.2 [duplicate address]"]);
    // What address resolution said before the host had the address may only be late.
    site.heard("web1", "10.0.0.2=00-16-3e-00-00-02 10.0.0.3=00-16-3e-00-00-66");
    site.rig.wait(10);
    site.network("web2", "eth0=10.0.0.3/24@00-16-3e-00-00-02");
    assert_eq!(told(&site.pass(60)), NOTHING);
    assert_eq!(told(&site.pass(300)), ["warn IPaddrNode 10.0.0.3 [duplicate address]"]);
}

#[test]
fn two_sites_that_are_named_have_no_duplicates() {
    let (sets, problems) = RuleSets::load(&[]);
    let config: CmaConfig = parse_toml("cma.toml", "[networks]\nberlin = [\"*-b\"]\n").unwrap();
    let mut site = with(rig_with(Knowledge::new(config, sets, problems)));
    for (host, number) in [("web-a", 1), ("web-b", 2)] {
        site.come(host, number);
        let macaddr = format!("00-16-3e-00-00-0{number}");
        site.network(host, &format!("eth0=10.0.0.{number}/24@{macaddr} eth1=10.0.0.5/24@{macaddr}"));
        site.link(host, "eth0", "sw1:1");
    }
    assert_eq!(told(&site.pass(60)), NOTHING);
    assert_eq!(site.changes.len(), 1);
    assert_eq!(site.place(), Some(&Place::Switch("berlin/sw1".into())));
    assert!(site.is_known(NodeKind::IpaddrNode, "@berlin/10.0.0.5"));
    assert!(site.is_known(NodeKind::IpaddrNode, "@global/10.0.0.5"));
}

#[test]
fn naming_the_networks_is_the_way_out() {
    let mut site = site();
    for (host, number) in [("web-a", 1), ("web-b", 2)] {
        site.come(host, number);
        site.network(host, &format!("eth0=10.0.0.5/24@00-16-3e-00-00-0{number}"));
    }
    assert_eq!(told(&site.pass(20)), ["warn IPaddrNode 10.0.0.5 [duplicate address]"]);
    let again = |site: &mut Site, text: &str| {
        let (sets, problems) = RuleSets::load(&[]);
        site.rig.knowledge = Knowledge::new(parse_toml("cma.toml", text).unwrap(), sets, problems);
        for host in ["web-a", "web-b"] {
            let (_, produced) =
                site.rig.step(|tx, context| evaluation::again(tx, context, &name(host), "netconfig"));
            site.note(&produced);
        }
    };
    again(&mut site, "[networks]\nberlin = [\"*-b\"]\n");
    assert_eq!(told(&site.pass(20)), ["unwarn IPaddrNode 10.0.0.5 [duplicate address]"]);
    again(&mut site, "");
    assert_eq!(told(&site.pass(20)), ["warn IPaddrNode 10.0.0.5 [duplicate address]"]);
}

#[test]
fn an_address_that_goes_to_and_fro_is_told_once_and_ends_after_quiet() {
    let mut site = listening("10.0.0.9=00-16-3e-00-00-01");
    let mut events = Vec::new();
    for turn in 0..12 {
        site.rig.wait(30);
        events.extend(site.heard("web1", &format!("10.0.0.9=00-16-3e-00-00-0{}", 2 + turn % 2)));
    }
    assert_eq!(told(&events), ["warn NICNode 10.0.0.9 [link-layer address flapping]"]);
    assert_eq!(told(&site.pass(500)), NOTHING);
    assert_eq!(told(&site.pass(200)), ["unwarn NICNode 10.0.0.9 [link-layer address flapping]"]);
    // A failover now and then is none.
    let mut events = Vec::new();
    for turn in 0..12 {
        events.extend(site.pass(250));
        events.extend(site.heard("web1", &format!("10.0.0.9=00-16-3e-00-00-0{}", 4 + turn % 2)));
    }
    assert_eq!(told(&events), NOTHING);
}

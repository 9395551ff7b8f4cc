//! docs/firewall.md, followed literally: a second address, fixed ports, and packet filters that let nothing else in.

use crate::rig::{NANOPROBE, Pair, is_active, step};
use std::time::{Duration, Instant};
use system::booted::Machine;

const BOOK: &str = include_str!("../../../../docs/firewall.md");

#[test]
fn one_rule_lets_assimilation_through_and_nothing_works_without_it() {
    let mut pair = Pair::boot("picard");
    let rules = fence("nft");
    let without =
        rules.lines().filter(|line| !line.contains("udp dport 1984")).collect::<Vec<_>>().join("\n");
    assert_eq!(rules.lines().count(), without.lines().count() + 1);

    step("two addresses, fixed ports, and all filters closed");
    pair.network.address("unimatrixzero", "10.84.0.11/24").unwrap();
    for machine in [&pair.center, &pair.picard] {
        machine.write("/etc/default/nanoprobe", "").unwrap();
        machine.write("/etc/default/cma", "").unwrap();
        filter(machine, &without);
    }
    pair.install_both();
    pair.center.ok(&fence("sh")).unwrap();
    pair.wait_until_up("unimatrixzero");
    pair.picard.write("/etc/default/nanoprobe", "NANOPROBE_CMAADDR=10.84.0.1:1984\n").unwrap();
    pair.picard.ok(&format!("systemctl restart {NANOPROBE}")).unwrap();
    std::thread::sleep(Duration::from_secs(20));
    assert!(is_active(&pair.picard, NANOPROBE));
    assert_eq!(pair.state("picard"), None, "a filter that lets nothing in let it in");

    step("with the rule on both it registers, from the ports that the book names");
    for machine in [&pair.center, &pair.picard] {
        filter(machine, &rules);
    }
    let opened = Instant::now();
    pair.wait_until_up("picard");
    eprintln!("picard registered {:.1} s after the filter opened", opened.elapsed().as_secs_f64());
    let address =
        |host: &str| pair.value(&format!("SELECT address FROM hosts WHERE host = '{host}'")).unwrap();
    assert_eq!(address("unimatrixzero"), "10.84.0.11:1984");
    assert_eq!(address("picard"), "10.84.0.2:1984");
    // What is dropped is not refused: TCP itself would try for two minutes.
    let ssh = pair.picard.run("timeout 3 bash -c 'echo > /dev/tcp/10.84.0.1/22'");
    assert!(ssh.is_ok_and(|output| !output.status.success()));

    step("heartbeats pass: nobody is given up while nothing happens");
    std::thread::sleep(Duration::from_secs(20));
    let downs = "SELECT count(*) FROM events WHERE eventtype = 'down' AND reason = 'HBDEAD'";
    assert_eq!(pair.value(downs).as_deref(), Some("0"), "{:#?}", pair.rows("SELECT event FROM events"));

    step("a host that loses its power is given up by its partner");
    pair.picard.cut_power();
    let deaths =
        "SELECT count(*) FROM events WHERE eventtype = 'down' AND reason = 'HBDEAD' AND host = 'picard'";
    pair.wait("the death", || pair.value(deaths).as_deref() == Some("1"));
    assert_eq!(pair.value(downs).as_deref(), Some("1"), "and nobody else");
    let seen = "SELECT event FROM events WHERE eventtype = 'down' AND reason = 'HBDEAD'";
    let event = pair.value(seen).unwrap();
    assert!(event.contains("unimatrixzero"), "its partner is the witness: {event}");

    step("it boots with its filter, and is up again");
    pair.picard.boot().unwrap();
    assert!(pair.picard.ok("nft list ruleset").unwrap().contains("assimilation"));
    pair.wait_until_up("picard");
}

/// The rules as this machine's own, now and at each boot.
fn filter(machine: &Machine, rules: &str) {
    machine.write("/etc/nftables.conf", format!("flush ruleset\n{rules}")).unwrap();
    machine.ok("systemctl enable --quiet nftables && systemctl restart nftables").unwrap();
}

/// What the book has between its fences of this language.
fn fence(language: &str) -> String {
    let start =
        BOOK.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no {language} in the book")).1;
    start.split_once("```").unwrap().0.to_owned()
}

//! Names from reverse DNS.

use super::*;
use site::nic_and_address;
use std::net::IpAddr;

pub fn addresses_are_looked_up_again_and_forgotten(store: &mut dyn Store) {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let addresses = |store: &dyn Store, limit: usize, older_than: i64| {
        store.reader().unwrap().addresses_to_look_up(limit, at(older_than)).unwrap()
    };
    for (name, address) in [
        ("web1", "10.0.0.7"),
        ("web2", "10.0.0.8"),
        ("web3", "2001:db8::1"),
        ("web4", "127.0.0.1"),
        ("web5", "fe80::1"),
        ("web6", "not an address"),
    ] {
        let facts = nic_and_address(name, "eth0", "00-16-3e-00-00-01", address);
        commit(store, |t| t.replace_graph(&host(name), "netconfig", &facts, at(100)));
    }
    let mut own = nic_and_address("web7", "docker0", "00-16-3e-00-00-07", "172.17.0.1");
    own.edges[0].target.key = "web7/172.17.0.1".into();
    commit(store, |t| t.replace_graph(&host("web7"), "netconfig", &own, at(100)));
    // The name server that is asked knows nothing of another site.
    let elsewhere = nic_and_address("web8", "eth0", "00-16-3e-00-00-08", "10.0.0.77").in_network("berlin");
    commit(store, |t| t.replace_graph(&host("web8"), "netconfig", &elsewhere, at(100)));
    let same = nic_and_address("web9", "eth0", "00-16-3e-00-00-09", "10.0.0.7").in_network("berlin");
    commit(store, |t| t.replace_graph(&host("web9"), "netconfig", &same, at(100)));
    let all = [ip("10.0.0.7"), ip("10.0.0.8"), ip("2001:db8::1")];
    assert_eq!(addresses(store, 10, 1), all, "nothing that means something on one host only");
    assert_eq!(addresses(store, 2, 1), all[..2]);
    commit(store, |t| {
        t.put_reverse_name(all[0], Some("web1.example"), at(200))?;
        t.put_reverse_name(all[1], None, at(150))?;
        t.put_reverse_name(ip("10.9.9.9"), Some("gone.example"), at(100))
    });
    assert_eq!(addresses(store, 10, 150), [all[2]], "having no name is an answer, too");
    assert_eq!(addresses(store, 10, 201), [all[2], all[1], all[0]], "the never asked first, then the oldest");
    let names =
        "SELECT ipaddr, hostname FROM addresses WHERE ipaddr LIKE '10.%' AND network = 'global' ORDER BY 1";
    assert_eq!(json!(sql(store, names).rows), json!([["10.0.0.7", "web1.example"], ["10.0.0.8", null]]));
    let others = "SELECT DISTINCT hostname FROM addresses WHERE network = 'berlin'";
    assert_eq!(json!(sql(store, others).rows), json!([[null]]), "another host has the address there");
    commit(store, |t| t.put_reverse_name(ip("::ffff:10.0.0.8"), Some("web2.example"), at(300)));
    commit(store, |t| t.forget_reverse_names(at(250)));
    assert_eq!(json!(sql(store, names).rows), json!([["10.0.0.7", null], ["10.0.0.8", "web2.example"]]));
    assert_eq!(addresses(store, 10, 250), [all[0], all[2]]);
}

use super::*;
use crate::questions::made::Made;

fn answer(made: &mut Made, a: &str, b: &str) -> Answer {
    let (a, b) = (made.subject(a).unwrap(), made.subject(b).unwrap());
    path(&mut Walker::new(made), &a, &b).unwrap()
}

fn told(answer: &Answer) -> Vec<String> {
    let length = |row: &Row| row.length.map_or("-".to_owned(), |length| length.to_string());
    answer.rows.iter().map(|row| format!("{} {} {}", row.layer, length(row), row.path)).collect()
}

#[test]
fn every_layer_tells_its_shortest_path() {
    let mut made = Made::default();
    for (name, ip) in [("web1", "10.0.0.1"), ("app1", "10.0.0.2"), ("db1", "10.0.0.3")] {
        made.host(name, ip);
    }
    made.uses("web1", "nginx", "10.0.0.2:8080");
    made.offers("app1", "tomcat", "10.0.0.2:8080");
    made.uses("app1", "tomcat", "10.0.0.3:5432");
    made.offers("db1", "postgres", "10.0.0.3:5432");
    made.wired("aa-01", "g1", "web1", "eth0");
    made.wired("aa-01", "g2", "db1", "eth0");
    let all = answer(&mut made, "web1", "db1");
    assert_eq!(
        told(&all),
        [
            "dependency 2 nginx of web1 uses 10.0.0.2:8080 (tomcat of app1), which uses 10.0.0.3:5432 (postgres of db1)",
            "switch 2 web1 eth0 (port g1) – switch name-of-aa-01 – db1 eth0 (port g2)",
            "subnet 2 web1 eth0 10.0.0.1 – subnet 10.0.0.0/24 – db1 eth0 10.0.0.3",
        ]
    );
    let steps: Vec<&str> = all.rows[1].steps.iter().map(|step| step.key.as_str()).collect();
    assert_eq!(
        steps,
        ["web1", "web1/eth0", "@global/aa-01/g1", "@global/aa-01", "@global/aa-01/g2", "db1/eth0", "db1"]
    );
    // The other way round it is web1 that depends, too.
    assert_eq!(told(&answer(&mut made, "db1", "web1"))[0], told(&all)[0]);
    // To a service, to a switch.
    assert_eq!(told(&answer(&mut made, "web1", "10.0.0.3:5432"))[0], told(&all)[0].as_str());
    assert_eq!(
        told(&answer(&mut made, "db1", "aa-01")),
        ["switch 1 db1 eth0 (port g2) – switch name-of-aa-01"]
    );
    assert_eq!(
        told(&answer(&mut made, "aa-01", "db1")),
        ["switch 1 switch name-of-aa-01 – db1 eth0 (port g2)"]
    );
}

#[test]
fn a_host_between_two_subnets_or_a_switch_and_a_subnet_is_on_the_way() {
    let mut made = Made::default();
    made.host("a", "10.0.0.1");
    made.host("b", "10.0.1.1");
    made.host("gw", "10.0.0.254");
    assert!(!answer(&mut made, "a", "b").connected);
    let nic = made.nic("gw", "eth1");
    let address =
        made.node(ADDRESS, "@global/10.0.1.254", serde_json::json!({"ipaddr": "10.0.1.254", "cidrmask": 24}));
    made.edge("gw", nic, "ipowner", address);
    assert_eq!(
        told(&answer(&mut made, "a", "b")),
        [
            "subnet 4 a eth0 10.0.0.1 – subnet 10.0.0.0/24 – gw eth0 10.0.0.254 eth1 10.0.1.254 – subnet 10.0.1.0/24 – b eth0 10.0.1.1"
        ]
    );
    // c is known by its cable only: the way to it is a switch and a subnet.
    made.node(DRONE, "c", serde_json::json!({}));
    made.wired("aa-01", "g1", "c", "eth0");
    made.wired("aa-01", "g2", "gw", "eth0");
    assert_eq!(
        told(&answer(&mut made, "b", "c")),
        [
            "network 4 b eth0 10.0.1.1 – subnet 10.0.1.0/24 – gw eth1 10.0.1.254 eth0 (port g2) – switch name-of-aa-01 – c eth0 (port g1)"
        ]
    );
}

#[test]
fn the_same_addresses_in_two_networks_are_no_connection() {
    let mut made = Made::default();
    made.host("a", "@global/10.0.0.1");
    made.host("b", "@berlin/10.0.0.2");
    let none = answer(&mut made, "a", "b");
    assert!(!none.connected, "{none:?}");
    assert_eq!(
        told(&none),
        [
            "known - a is a host with a nanoprobe, up",
            "known - a is attached to subnet 10.0.0.0/24",
            "known - a 0 programs with sockets: offers 0 services, uses 0 services",
            "known - b is a host with a nanoprobe, up",
            "known - b is attached to subnet 10.0.0.0/24 of network berlin",
            "known - b 0 programs with sockets: offers 0 services, uses 0 services",
        ]
    );
    assert!(none.summary.starts_with("No connection between a and b is known"), "{}", none.summary);
}

#[test]
fn who_only_uses_the_same_service_is_told_so() {
    let mut made = Made::default();
    made.host("a", "10.0.0.1");
    made.host("b", "10.0.1.1");
    made.uses("a", "chronyd", "192.0.2.1:123");
    made.uses("b", "ntpd", "192.0.2.1:123");
    assert_eq!(
        told(&answer(&mut made, "a", "b")),
        ["shared service 2 chronyd of a and ntpd of b both use 192.0.2.1:123"]
    );
    // What is used at an address that nobody owns is a connection with that address.
    assert_eq!(told(&answer(&mut made, "a", "192.0.2.1")), ["dependency 1 chronyd of a uses 192.0.2.1:123"]);
}

#[test]
fn a_neighbour_that_nobody_knows_is_told_with_what_is_known() {
    let mut made = Made::default();
    made.host("a", "10.0.0.1");
    made.host("b", "10.0.1.1");
    made.seen("a", "00-16-3e-00-00-09", "10.0.0.9");
    assert_eq!(
        told(&answer(&mut made, "a", "10.0.0.9")),
        ["subnet 1 a eth0 10.0.0.1 – subnet 10.0.0.0/24"],
        "it is in the subnet of a"
    );
    let far = told(&answer(&mut made, "b", "00:16:3E:00:00:09"));
    assert_eq!(
        far[3..],
        [
            "known - 00-16-3e-00-00-09 belongs to no host with a nanoprobe and to no device that told of itself",
            "known - 00-16-3e-00-00-09 was seen by a",
        ]
    );
}

#[test]
fn circles_of_dependencies_end() {
    let mut made = Made::default();
    for (name, ip, next) in [("a", "10.0.0.1", "10.0.0.2"), ("b", "10.0.0.2", "10.0.0.1")] {
        made.host(name, ip);
        made.offers(name, "peer", &format!("{ip}:7000"));
        made.uses(name, "peer", &format!("{next}:7000"));
    }
    made.host("c", "10.0.5.1");
    assert!(!answer(&mut made, "a", "c").connected);
    let both = told(&answer(&mut made, "a", "b"));
    assert_eq!(
        both[..2],
        [
            "dependency 1 peer of a uses 10.0.0.2:7000 (peer of b)",
            "dependency 1 peer of b uses 10.0.0.1:7000 (peer of a)",
        ]
    );
}

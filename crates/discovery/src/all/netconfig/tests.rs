use super::*;
use crate::rtnetlink::{State, parse_address as parse_address_message, parse_link, take};
use crate::run;
use proptest::prelude::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link_message(index: u32, flags: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(1u16.to_ne_bytes());
    bytes.extend(index.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(attributes.concat());
    bytes
}

fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn a_link_message_is_parsed() {
    let kind = attribute(1, b"vlan\0");
    let payload = link_message(
        7,
        1,
        &[
            attribute(3, b"eth0.100\0"),
            attribute(1, &[0, 0x16, 0x3e, 0, 0, 0xAB]),
            attribute(4, &1500u32.to_ne_bytes()),
            attribute(5, &2u32.to_ne_bytes()),
            attribute(16, &[6]),
            attribute(33, &[1]),
            attribute(18, &kind),
            attribute(999, b"of a newer kernel"),
        ],
    );
    let link = parse_link(&payload).unwrap();
    assert_eq!((link.index, link.name.as_str(), link.hardware_type, link.is_up), (7, "eth0.100", 1, true));
    assert_eq!(
        (link.mtu, link.parent, link.operstate, link.carrier),
        (Some(1500), Some(2), Some(6), Some(true))
    );
    let parent = Link { index: 2, name: "eth0".into(), ..Link::default() };
    let data = interfaces(&[link, parent], &[], Some("eth0.100"), BTreeMap::new());
    let expected = json!({
        "address": "00-16-3e-00-00-ab", "carrier": true, "default_gw": true, "kind": "vlan", "mtu": 1500,
        "operstate": "up", "parent": "eth0", "type": 1, "virtual": true,
    });
    assert_eq!(data["eth0.100"], expected);
    assert_eq!(data["eth0"], json!({"type": 0, "virtual": false}));
    assert_eq!(parse_link(&link_message(1, 0, &[])), None);
    assert_eq!(parse_link(&payload[..15]), None);
}

#[test]
fn an_interface_that_is_down_has_no_carrier_to_tell() {
    let down = Link { name: "eth1".into(), carrier: Some(true), operstate: Some(2), ..Link::default() };
    let data = interfaces(&[down], &[], None, BTreeMap::new());
    assert_eq!(data["eth1"], json!({"operstate": "down", "type": 0, "virtual": false}));
}

#[test]
fn address_messages_are_parsed() {
    let header = |family: u8, length: u8, flags: u8, scope: u8| [family, length, flags, scope, 2, 0, 0, 0];
    let v4 = [
        header(2, 24, 0x80, 0).to_vec(),
        attribute(1, &[10, 0, 0, 7]),
        attribute(2, &[10, 0, 0, 7]),
        attribute(4, &[10, 0, 0, 255]),
        attribute(3, b"eth0:1\0"),
    ];
    let address = parse_address_message(&v4.concat()).unwrap();
    assert_eq!(address.link, u32::from_ne_bytes([2, 0, 0, 0]));
    let expected = json!({"brd": "10.0.0.255", "name": "eth0:1", "scope": "global"});
    assert_eq!(ipaddr(&address, "eth0"), ("10.0.0.7/24".to_owned(), expected));

    let v6 = "fe80::1".parse::<Ipv6Addr>().unwrap();
    let message =
        [header(10, 64, 0, 253).to_vec(), attribute(1, &v6.octets()), attribute(8, &0x101u32.to_ne_bytes())];
    let address = parse_address_message(&message.concat()).unwrap();
    let expected = json!({"name": "eth0", "scope": "link", "secondary": true});
    assert_eq!(ipaddr(&address, "eth0"), ("fe80::1/64".to_owned(), expected));

    let peer = [header(2, 32, 0, 0).to_vec(), attribute(1, &[10, 8, 0, 1]), attribute(2, &[10, 8, 0, 2])];
    let (key, fields) = ipaddr(&parse_address_message(&peer.concat()).unwrap(), "tun0");
    assert_eq!((key.as_str(), &fields["peer"]), ("10.8.0.2/32", &json!("10.8.0.1")));
    assert_eq!(parse_address_message(&header(2, 32, 0, 0)), None);
}

#[test]
fn an_answer_ends_with_done_and_an_error_is_told() {
    let begin = State::More { is_consistent: true };
    let two = [message(16, 0, b"abcd"), message(99, 0, b"x"), message(16, 0x10, b"efgh")].concat();
    let mut found = Vec::new();
    let state = take(&two, 16, begin, |payload| found.push(payload.to_vec())).unwrap();
    assert_eq!(found, [b"abcd".to_vec(), b"efgh".to_vec()]);
    assert_eq!(state, State::More { is_consistent: false });
    let done = message(3, 0, &[0; 4]);
    assert_eq!(take(&done, 16, state, |_| ()).unwrap(), State::Done { is_consistent: false });
    let refused = message(2, 0, &(-1i32).to_ne_bytes());
    assert!(take(&refused, 16, begin, |_| ()).unwrap_err().contains("not permitted"));
    assert!(take(&two[..10], 16, begin, |_| ()).is_err());
}

#[test]
fn the_default_route_is_found() {
    let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
        eth9\t00000000\t00000000\t0201\t0\t0\t0\t00000000\n\
        eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
        eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\n";
    assert_eq!(default_of_v4(v4).as_deref(), Some("eth0"));
    let zero = "0".repeat(32);
    let v6 = format!(
        "{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
         {zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth2\n\
         {zero} 00 {zero} 00 fe800000000000000000000000000001 00000100 00000001 00000000 00000003     eth1\n"
    );
    assert_eq!(default_of_v6(&v6).as_deref(), Some("eth1"));
    assert_eq!(default_of_v4("Iface\n"), None);
}

fn envelope(data: Value) -> Envelope {
    let tree = tempfile::tempdir().unwrap();
    Envelope { data, ..run(&DISCOVERY, "netconfig", &Host::at(tree.path()), &Parameters::new()) }
}

#[test]
fn addresses_are_shared_or_of_the_host_alone() {
    let global = |name: &str| json!({"scope": "global", "name": name});
    let facts = graph(
        "web1",
        &envelope(json!({
            "lo": {"address": "00-00-00-00-00-00", "virtual": true, "ipaddrs": {"127.0.0.1/8": {"scope": "host", "name": "lo"}}},
            "eth0": {"address": "00-16-3e-00-00-01", "virtual": false, "default_gw": true, "mtu": 1500, "carrier": true, "ipaddrs": {
                "10.0.0.9/24": {"scope": "global", "name": "eth0", "secondary": true}, "10.0.0.7/24": global("eth0"),
                "10.0.0.5/24": global("eth0:1"),
                "fe80::1/64": {"scope": "link", "name": "eth0"}, "2001:db8::7/64": global("eth0"), "junk": {},
            }},
            "eth0.5": {"virtual": true, "kind": "vlan", "parent": "eth0", "ipaddrs": {"10.5.0.7/24": global("eth0.5")}},
            "eth1": {"virtual": false, "brport_bridge": "br0"},
            "br0": {"virtual": true, "kind": "bridge", "ipaddrs": {"10.6.0.7/24": global("br0")}},
            "docker0": {"virtual": true, "kind": "bridge", "ipaddrs": {"172.17.0.1/16": global("docker0")}},
            "vlanA": {"virtual": true, "parent": "vlanB", "ipaddrs": {"10.9.0.1/24": global("vlanA")}},
            "vlanB": {"virtual": true, "parent": "vlanA"},
        })),
    );
    let mut addresses: Vec<&str> = facts
        .edges
        .iter()
        .filter(|edge| edge.kind == EdgeKind::IpOwner)
        .map(|edge| edge.target.key.as_str())
        .collect();
    addresses.sort_unstable();
    assert_eq!(
        addresses,
        [
            "@global/10.0.0.5",
            "@global/10.0.0.7",
            "@global/10.0.0.9",
            "@global/10.5.0.7",
            "@global/10.6.0.7",
            "@global/2001:db8::7",
            "web1/10.9.0.1",
            "web1/127.0.0.1",
            "web1/172.17.0.1",
            "web1/fe80::1",
        ]
    );
    assert_eq!(facts.host_properties, Map::from_iter([("primary_ip_addr".to_owned(), json!("10.0.0.7"))]));
    let nic = |key: &str| facts.edges.iter().find(|edge| edge.target.key == key).unwrap();
    assert_eq!(nic("web1/eth0").source, (NodeKind::Drone, "web1".to_owned()));
    // The original looked for MTU where the document says mtu.
    assert_eq!(
        Value::Object(nic("web1/eth0").target.properties.clone()),
        json!({"ifname": "eth0", "macaddr": "00-16-3e-00-00-01", "mtu": 1500, "virtual": false, "carrier": true})
    );
    assert!(!nic("web1/lo").target.properties.contains_key("macaddr"));
    let address = nic("@global/10.0.0.7");
    assert_eq!(address.source, (NodeKind::NicNode, "web1/eth0".to_owned()));
    assert_eq!(
        Value::Object(address.target.properties.clone()),
        json!({"ipaddr": "10.0.0.7", "cidrmask": 24})
    );
}

#[test]
fn a_tree_has_no_network() {
    let tree = tempfile::tempdir().unwrap();
    let found = run(&DISCOVERY, "netconfig", &Host::at(tree.path()), &Parameters::new());
    assert_eq!(found.data, json!({}));
    assert!(found.errors[0].contains("needs the running system"));
    assert_eq!(graph("h", &found), GraphFacts::default());
}

#[test]
fn this_machine_has_the_interfaces_that_the_kernel_lists() {
    let host = Host::running();
    let found = run(&DISCOVERY, "netconfig", &host, &Parameters::new());
    assert_eq!(found.errors, Vec::<String>::new());
    let devices = host.read_text("/proc/net/dev").unwrap();
    let mut listed: Vec<&str> =
        devices.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    listed.sort_unstable();
    assert_eq!(found.data.as_object().unwrap().keys().collect::<Vec<_>>(), listed);
    assert_eq!(found.data["lo"]["type"], 772);
    assert_eq!(found.data["lo"]["virtual"], true);
    assert_eq!(found.data, run(&DISCOVERY, "netconfig", &host, &Parameters::new()).data);
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let begin = State::More { is_consistent: true };
        let _ = take(&bytes, 16, begin, |payload| { parse_link(payload); parse_address_message(payload); });
        parse_link(&bytes);
        parse_address_message(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        default_of_v4(&text);
        default_of_v6(&text);
    }

    #[test]
    fn no_document_makes_the_graph_panic(key in "\\PC{0,12}", ip in "\\PC{0,20}", name in "[a-z]{1,3}") {
        graph("h", &envelope(json!({key.clone(): {"parent": key, "ipaddrs": {ip: name}}, "x": 1, "y": []})));
        graph("h", &envelope(json!([])));
    }
}

use super::*;
use crate::link::decode;
use crate::link::testing::{Cdp, Lldp, OUI_8021};
use serde_json::json;

fn told(frame: &[u8]) -> Advertisement {
    decode(frame).unwrap().unwrap()
}

const BRIDGE: [u8; 4] = [0, 4, 0, 4];
const STATION: [u8; 4] = [0, 0x84, 0, 0x80];

fn switch() -> Advertisement {
    let unit = Lldp::switch().element(5, b"sw1").element(7, &BRIDGE).of(OUI_8021, 1, &[0, 10]);
    told(&unit.frame())
}

fn phone() -> Advertisement {
    let unit = Lldp::new(b"\x07a-phone", b"\x07p1", 120).element(7, &STATION);
    told(&unit.frame_from([0x00, 0x16, 0x3e, 0, 0, 9]))
}

fn cdp(device: &str, source: [u8; 6]) -> Advertisement {
    let packet = Cdp::new(device, "GigabitEthernet0/7")
        .element(4, &8u32.to_be_bytes())
        .element(6, b"WS-1")
        .element(10, &[0, 11])
        .element(11, &[1]);
    told(&packet.frame_from(source))
}

const OTHER: [u8; 6] = [0x00, 0x16, 0x3e, 0, 0, 8];

fn ids(envelope: &Envelope) -> Vec<String> {
    let text = |data: &Value| data["ChassisId"].as_str().unwrap_or_default().to_owned();
    let others = envelope.data["neighbours"].as_array().into_iter().flatten().map(text);
    std::iter::once(text(&envelope.data)).chain(others).collect()
}

#[test]
fn the_envelope_is_that_of_the_reference() {
    let envelope = document("web1", "eth0", &[switch()]);
    assert_eq!(
        serde_json::to_value(&envelope).unwrap(),
        json!({
            "discovertype": "__LinkDiscovery",
            "description": "Link Level Switch Discovery (lldp)",
            "source": "_decode_lldp()",
            "host": "web1",
            "instance": "#SWITCH_eth0",
            "proxy": "local/local",
            "data": {
                "ChassisId": "00-11-22-33-44-55", "ChassisIdSubtype": "mac", "SystemName": "sw1",
                "SystemCapabilities": {"bridge": true}, "protocols": ["lldp"],
                "ports": {"g7": {"ConnectsToHost": "web1", "ConnectsToInterface": "eth0", "PortId": "g7",
                    "PortIdSubtype": "ifname", "sourceMAC": "00-11-22-33-44-5c", "pvid": 10}},
            },
        })
    );
    let empty = document("web1", "eth0", &[]);
    assert_eq!((empty.data, empty.instance.as_str()), (json!({}), "#SWITCH_eth0"));
}

#[test]
fn the_switch_comes_first_in_whatever_order_it_was_heard() {
    let all = [phone(), switch(), cdp("another", OTHER)];
    let wanted = document("web1", "eth0", &all);
    assert_eq!(ids(&wanted), ["00-11-22-33-44-55", "another", "a-phone"]);
    for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let heard: Vec<Advertisement> = order.iter().map(|at| all[*at].clone()).collect();
        assert_eq!(document("web1", "eth0", &heard).canonical(), wanted.canonical());
        let twice: Vec<Advertisement> = heard.iter().chain(&all).cloned().collect();
        assert_eq!(document("web1", "eth0", &twice).canonical(), wanted.canonical());
    }
    for port in [&wanted.data["ports"]["g7"], &wanted.data["neighbours"][1]["ports"]["p1"]] {
        assert_eq!((&port["ConnectsToHost"], &port["ConnectsToInterface"]), (&json!("web1"), &json!("eth0")));
    }
}

#[test]
fn one_device_by_both_protocols_is_one_neighbour() {
    // By the address of its port, or by its name with and without a domain.
    for other in [cdp("whatever", crate::link::testing::SWITCH), cdp("SW1.example.org", OTHER)] {
        let envelope = document("web1", "eth0", &[other.clone(), switch()]);
        assert_eq!(ids(&envelope), ["00-11-22-33-44-55"]);
        let data = &envelope.data;
        assert_eq!((&data["protocols"], &data["SystemPlatform"]), (&json!(["lldp", "cdp"]), &json!("WS-1")));
        assert_eq!(data["CdpDeviceId"], other.chassis.as_str());
        assert_eq!(data["SystemCapabilities"], json!({"bridge": true}), "what LLDP says stays");
        assert_eq!(data["ports"].as_object().unwrap().len(), 1);
        let port = &data["ports"]["g7"];
        assert_eq!((&port["CdpPortId"], &port["PortId"]), (&json!("GigabitEthernet0/7"), &json!("g7")));
        assert_eq!(
            (&port["VlanId"], &port["pvid"], &port["duplex"]),
            (&json!(11), &json!(10), &json!("full"))
        );
    }
    assert_eq!(ids(&document("web1", "eth0", &[cdp("sw2", OTHER), switch()])).len(), 2);
    // Of two with its name, the one that sends from its address.
    let twin = told(&Lldp::new(b"\x07a-twin", b"\x07p1", 120).element(5, b"sw1").frame_from(OTHER));
    let envelope = document("web1", "eth0", &[twin, cdp("sw1", OTHER), switch()]);
    let of_twin = &envelope.data["neighbours"][0];
    assert_eq!((&of_twin["ChassisId"], &of_twin["CdpDeviceId"]), (&json!("a-twin"), &json!("sw1")));
    assert!(envelope.data.get("CdpDeviceId").is_none());
}

#[test]
fn many_neighbours_are_bounded_and_the_rest_is_counted() {
    let many: Vec<Advertisement> = (0..100)
        .map(|number| {
            let id = format!("\u{7}device {number:03}");
            told(
                &Lldp::new(id.as_bytes(), b"\x07p", 9)
                    .element(7, &STATION)
                    .frame_from([2, 0, 0, 0, 0, number]),
            )
        })
        .chain([switch()])
        .collect();
    let envelope = document("web1", "eth0", &many);
    assert_eq!(ids(&envelope).len(), MAX_NEIGHBOURS);
    assert_eq!(ids(&envelope)[0], "00-11-22-33-44-55");
    assert!(envelope.errors.iter().any(|error| error.starts_with("37 further")), "{:?}", envelope.errors);
}

#[test]
fn two_that_say_they_are_the_same_give_one_answer() {
    let one = told(&Lldp::switch().element(5, b"a").frame());
    let two = told(&Lldp::switch().element(5, b"b").frame());
    let first = document("web1", "eth0", &[one.clone(), two.clone()]);
    assert_eq!(first, document("web1", "eth0", &[two, one]));
    assert_eq!(ids(&first).len(), 1);
}

#[test]
fn a_capture_tells_its_time_and_goodbyes() {
    let envelope = captured_document("web1", "pcap", &switch(), "2026-11-23T10:00:00.000000Z");
    assert_eq!(envelope.extras["localtime"], "2026-11-23T10:00:00.000000Z");
    assert!(envelope.data.get("goodbye").is_none());
    let leaving = told(&Lldp::new(b"\x07a", b"\x07b", 0).frame());
    assert_eq!(captured_document("web1", "pcap", &leaving, "").data["goodbye"], true);
}

#[test]
fn the_neighbours_of_a_subnet_are_a_map() {
    let pairs = BTreeMap::from([
        ("10.0.0.1".parse().unwrap(), MacAddress([0, 0x16, 0x3e, 0, 0, 1])),
        ("::ffff:10.0.0.2".parse().unwrap(), MacAddress([0, 0x16, 0x3e, 0, 0, 2])),
        ("2001:db8::1".parse().unwrap(), MacAddress([0, 0x16, 0x3e, 0, 0, 1])),
    ]);
    let envelope = neighbours_document("web1", "eth0", &pairs);
    assert_eq!(
        serde_json::to_value(&envelope).unwrap(),
        json!({
            "discovertype": "ARP", "description": "ARP map", "source": "arpcache", "device": "eth0", "host": "web1",
            "instance": "_ARP_eth0", "proxy": "local/local",
            "data": {"10.0.0.1": "00-16-3e-00-00-01", "10.0.0.2": "00-16-3e-00-00-02",
                "2001:db8::1": "00-16-3e-00-00-01"},
        })
    );
}

use super::testing::*;
use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

fn good(frame: &[u8]) -> Advertisement {
    decode(frame).unwrap().unwrap()
}

fn refused(frame: &[u8]) -> String {
    decode(frame).unwrap().unwrap_err().to_string()
}

fn port(told: &Advertisement) -> &Value {
    &told.data["ports"][&told.port]
}

/// Frames of devices as there are, with the kind of fuzzer that they are seeds of.
fn samples() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let vlan =
        |number: u16, name: &str| [&number.to_be_bytes()[..], &[name.len() as u8], name.as_bytes()].concat();
    let management = |address: &[u8], tail: &[u8]| [&[address.len() as u8][..], address, tail].concat();
    let switch = Lldp::switch()
        .element(4, b"GigabitEthernet 7")
        .element(5, b"sw1.example")
        .element(6, b"Example OS 7.4\nbuilt for tests")
        .element(7, &[0x00, 0x14, 0x00, 0x04])
        .element(8, &management(&[1, 10, 0, 0, 2], &[2, 0, 0, 0x03, 0xe9, 6, 0x2b, 6, 1, 4, 1, 9]))
        .element(
            8,
            &management(&[2, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], &[1, 0, 0, 0, 0, 0]),
        )
        .of(OUI_8021, 1, &[0, 10])
        .of(OUI_8021, 2, &[0x06, 0, 20])
        .of(OUI_8021, 3, &vlan(20, "voice"))
        .of(OUI_8021, 3, &vlan(10, "office"))
        .of(OUI_8021, 4, &[2, 0x88, 0xcc])
        .of(OUI_8021, 5, &[0xde, 0xad, 0xbe, 0xef])
        .of(OUI_8021, 6, &[0, 99])
        .of(OUI_8021, 7, &[3, 0, 0, 0, 25])
        .of(OUI_8023, 1, &[3, 0x6c, 0x03, 0, 30])
        .of(OUI_8023, 2, &[0x0f, 1, 5, 0x13, 0, 255, 0, 200])
        .of(OUI_8023, 4, &1522u16.to_be_bytes())
        .of(OUI_8023, 5, &[0, 17, 0, 17, 0, 17, 0, 17, 0, 17])
        .of([0x00, 0x01, 0x42], 9, b"of a vendor")
        .element(9, b"reserved");
    let civic = [&[2u8, 15, 1][..], b"AT", &[3, 4], b"Wien", &[27, 1], b"2", &[200, 1], b"x"].concat();
    let phone = Lldp::new(&[5, 1, 10, 0, 0, 77], &[3, 0, 0x16, 0x3e, 0, 0, 9], 3601)
        .element(7, &[0x00, 0x24, 0x00, 0x24])
        .of(OUI_MED, 1, &[0x00, 0x33, 3])
        .of(OUI_MED, 2, &[1, 0x40, 0x15, 0x6e])
        .of(OUI_MED, 3, &civic)
        .of(OUI_MED, 3, b"\x03+43123456")
        .of(OUI_MED, 4, &[0x51, 0, 65])
        .of(OUI_MED, 5, b"HW1")
        .of(OUI_MED, 6, b"FW2")
        .of(OUI_MED, 7, b"SW3")
        .of(OUI_MED, 8, b"SER4")
        .of(OUI_MED, 9, b"Maker")
        .of(OUI_MED, 10, b"Model\0\0")
        .of(OUI_MED, 11, b"Asset");
    let cdp = Cdp::new("sw2.example", "GigabitEthernet1/0/4")
        .element(2, &ipv4_addresses(&[Ipv4Addr::new(10, 0, 0, 3)]))
        .element(4, &0x29u32.to_be_bytes())
        .element(5, b"Example IOS\nVersion 12.2")
        .element(6, b"example WS-1")
        .element(
            8,
            &[
                0, 0, 0x0c, 1, 0x12, 0, 0, 0, 0, 255, 255, 255, 255, 1, 2, 33, 255, 0, 0, 0, 0, 0, 0, 0,
                0x0b, 0xbe, 0x18, 0x9a, 0x40, 255, 0, 1,
            ],
        )
        .element(9, b"office")
        .element(10, &[0, 77])
        .element(11, &[1])
        .element(14, &[1, 0, 10])
        .element(16, &7000u16.to_be_bytes())
        .element(17, &1500u32.to_be_bytes())
        .element(18, &[0])
        .element(19, &[0])
        .element(20, b"sw2")
        .element(21, &[6, 7, 0x2b, 6, 1, 4, 1, 9, 1])
        .element(22, &ipv4_addresses(&[Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(10, 9, 0, 3)]))
        .element(23, b"\0cellar")
        .element(25, &[0, 1, 0, 2, 0, 0, 0x3c, 0x28])
        .element(26, &[0, 1, 0, 2, 0, 0, 0x3c, 0x28, 0, 0, 0, 0])
        .element(31, &[5]);
    let neighbour =
        arp(1, ([0x00, 0x16, 0x3e, 0, 0, 1], Ipv4Addr::new(10, 0, 0, 1)), Ipv4Addr::new(10, 0, 0, 9));
    let solicitation = Icmp {
        mac: [0x00, 0x16, 0x3e, 0, 0, 1],
        source: "fe80::216:3eff:fe00:1".parse().unwrap(),
        hops: 255,
        extension: None,
        message: [&[135, 0, 0, 0, 0, 0, 0, 0][..], &[0xfd; 16], &[1, 1, 0x00, 0x16, 0x3e, 0, 0, 1]].concat(),
    };
    let mut capture =
        [&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0][..], &[0; 8], &[0xff, 0xff, 0, 0, 1, 0, 0, 0]].concat();
    for frame in [&switch.frame(), &cdp.frame(), &neighbour] {
        let length = (frame.len() as u32).to_le_bytes();
        capture.extend([&[0x80, 0x43, 0x6d, 0x38, 0, 0, 0, 0][..], &length, &length, frame].concat());
    }
    let block = |kind: u32, content: &[u8]| {
        let length = (content.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, content, &length].concat()
    };
    let frame = Lldp::switch().element(4, b"abcd").frame();
    let length = (frame.len() as u32).to_le_bytes();
    assert!(frame.len().is_multiple_of(4), "blocks of pcapng are");
    let next_generation = [
        block(0x0a0d_0d0a, &[&[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0][..], &[0xff; 8]].concat()),
        block(1, &[1, 0, 0, 0, 0, 0, 4, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]),
        block(6, &[&[0; 12][..], &length, &length, &frame].concat()),
    ]
    .concat();
    vec![
        ("pcap", "next_generation", next_generation),
        ("lldp", "switch", switch.frame()),
        ("lldp", "phone", phone.frame()),
        ("lldp", "goodbye", Lldp::new(&[7, b's', b'1'], b"\x07p1", 0).frame()),
        ("cdp", "switch", cdp.frame()),
        ("cdp", "phone", Cdp::new("SEP00163e000001", "Port 1").element(4, &0x490u32.to_be_bytes()).frame()),
        ("arp", "request", neighbour),
        ("arp", "solicitation", solicitation.frame()),
        ("pcap", "three", capture),
    ]
}

/// The seeds of the fuzzer are these frames, and what is told of them is what was told before. `UPDATE_FIXTURES=1` writes both;
/// read the latter before it is committed.
#[test]
fn samples_are_told_as_ever() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_update = std::env::var_os("UPDATE_FIXTURES").is_some();
    let check = |path: PathBuf, content: &[u8]| {
        if is_update {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
        }
        let written = std::fs::read(&path).unwrap_or_default();
        let shown = String::from_utf8_lossy(content);
        assert!(
            written == content,
            "{} is not current: UPDATE_FIXTURES=1 cargo test -p discovery samples\n{shown}",
            path.display()
        );
    };
    let mut told = 0;
    for (kind, name, bytes) in samples() {
        check(top.join("../../fuzz/seeds").join(kind).join(name), &bytes);
        let Some(result) = decode(&bytes).filter(|_| kind != "pcap") else { continue };
        let envelope = document("web1", "eth0", &[result.unwrap()]);
        let text = serde_json::to_string_pretty(&envelope).unwrap() + "\n";
        check(top.join("tests/frames").join(format!("{kind}_{name}.json")), text.as_bytes());
        told += 1;
    }
    assert_eq!(told, 5);
}

#[test]
fn nothing_of_a_frame_is_read_beyond_its_end() {
    for (kind, name, bytes) in samples() {
        for end in 0..bytes.len() {
            any_advertisement(&bytes[..end]);
            any_sighting(&bytes[..end]);
            let is_refused = decode(&bytes[..end]).is_none_or(|told| told.is_err());
            assert!(
                is_refused || kind == "pcap",
                "{kind} {name}: {end} of {} bytes pass for a frame",
                bytes.len()
            );
        }
    }
}

#[test]
fn any_flipped_bit_is_survived() {
    for (_, _, bytes) in samples() {
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                any_advertisement(&damaged);
                any_sighting(&damaged);
            }
        }
    }
}

#[test]
fn every_subtype_of_an_id_is_kept() {
    for (chassis, port_id, wanted) in [
        (&b"\x01rack 1"[..], &b"\x01uplink"[..], ("rack 1", "uplink", "component", "alias")),
        (b"\x02a", b"\x02b", ("a", "b", "alias", "component")),
        (b"\x03a", b"\x05Gi1/0/1", ("a", "Gi1/0/1", "port", "ifname")),
        (
            b"\x04\0\x16\x3e\0\0\x01",
            b"\x03\0\x16\x3e\0\0\x02",
            ("00-16-3e-00-00-01", "00-16-3e-00-00-02", "mac", "mac"),
        ),
        (b"\x05\x01\x0a\0\0\x01", b"\x04\x01\x0a\0\0\x02", ("10.0.0.1", "10.0.0.2", "network", "network")),
        (b"\x06eth0", b"\x06\x01\x02", ("eth0", "\\u{1}\\u{2}", "ifname", "agent")),
        (b"\x07\0\x16\x3e\xff\0\x01", b"\x0722", ("00-16-3e-ff-00-01", "22", "local", "local")),
        // Of no subtype that there is, and addresses of no length that there is.
        (b"\x09x", b"\x09y", ("x", "y", "9", "9")),
        (b"\x04\x01\x02", b"\x04\x01\x0a", ("0102", "010a", "mac", "network")),
    ] {
        let told = good(&Lldp::new(chassis, port_id, 9).frame());
        let port = port(&told);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let found = (
            told.chassis.as_str(),
            told.port.as_str(),
            text(&told.data["ChassisIdSubtype"]),
            text(&port["PortIdSubtype"]),
        );
        assert_eq!(found, (wanted.0, wanted.1, wanted.2.to_owned(), wanted.3.to_owned()));
        assert_eq!((&told.data["ChassisId"], &port["PortId"]), (&json!(wanted.0), &json!(wanted.1)));
    }
}

#[test]
fn supported_and_enabled_are_told_apart_for_all_roles() {
    let roles = |supported: u16, enabled: u16| {
        let words = [supported.to_be_bytes(), enabled.to_be_bytes()].concat();
        good(&Lldp::switch().element(7, &words).frame()).data["SystemCapabilities"].clone()
    };
    assert_eq!(roles(0x0094, 0x0084), json!({"bridge": true, "router": false, "station": true}));
    assert_eq!(roles(0x07ff, 0x0000).as_object().unwrap().len(), 11);
    assert_eq!(roles(0x0000, 0x0002), json!({"repeater": true}));
    assert_eq!(roles(0xf801, 0), json!({"other": false}));
}

#[test]
fn what_breaks_the_rules_of_lldp_is_refused() {
    let cases: Vec<(Lldp, &str)> = vec![
        (Lldp::default(), "too few"),
        (
            Lldp::default().element(2, b"\x07x").element(1, b"\x07x").element(3, &[0, 9]),
            "first TLV has the type 2",
        ),
        (
            Lldp::default().element(1, b"\x07x").element(3, &[0, 9]).element(2, b"\x07x"),
            "second TLV has the type 3",
        ),
        (
            Lldp::default().element(1, b"\x07x").element(2, b"\x07x").element(4, b"x"),
            "third TLV has the type 4",
        ),
        (Lldp::new(b"", b"\x07x", 9), "chassis id is empty"),
        (Lldp::new(b"\x07", b"\x07x", 9), "0 bytes"),
        (Lldp::new(&[7; 257], b"\x07x", 9), "256 bytes"),
        (Lldp::new(b"\x07x", b"\x07 \0", 9), "port id is blank"),
        (Lldp::default().element(1, b"\x07x").element(2, b"\x07x").element(3, &[9]), "time to live"),
        (Lldp::switch().element(3, &[0, 9]), "a second TLV of type 3"),
    ];
    for (unit, wanted) in cases {
        let why = refused(&unit.frame());
        assert!(why.contains(wanted) && why.starts_with("no valid LLDP frame"), "{why}");
    }
    let mut endless = Lldp::switch().frame();
    endless.truncate(endless.len() - 2);
    assert!(refused(&endless).contains("no end"));
    let long = [Lldp::switch().frame(), vec![0; MAX_FRAME_BYTES]].concat();
    assert!(refused(&long).contains("more than"));
    let padded = [Lldp::switch().frame(), vec![0xff; 20]].concat();
    assert_eq!(good(&padded), good(&Lldp::switch().frame()), "what follows the end is no part of it");
}

#[test]
fn a_broken_element_costs_itself_only() {
    let told = good(
        &Lldp::switch()
            .element(5, b"first")
            .element(5, b"second")
            .element(7, &[0, 4])
            .element(8, &[9, 1, 10, 0, 0, 1])
            .of(OUI_8021, 3, &[0, 1, 200, b'x'])
            .of(OUI_8023, 1, &[3])
            .of(OUI_MED, 3, &[2, 255, 1])
            .element(127, &[0, 0x80])
            .element(6, b"good")
            .frame(),
    );
    assert_eq!(
        (&told.data["SystemName"], &told.data["SystemDescription"]),
        (&json!("first"), &json!("good"))
    );
    assert_eq!(told.errors.len(), 7, "{:?}", told.errors);
    assert!(told.errors.iter().any(|error| error.contains("type 127 (00-12-bb, 3)")), "{:?}", told.errors);
    assert!(!told.data.contains_key("SystemCapabilities") && !told.data.contains_key("ManagementAddress"));
}

#[test]
fn what_is_unknown_is_kept_up_to_a_bound() {
    let mut unit = Lldp::switch().of([1, 2, 3], 4, &[0xab; 100]).element(100, b"x");
    for _ in 0..30 {
        unit = unit.of(OUI_8021, 200, b"y");
    }
    let told = good(&unit.frame());
    let kept = told.data["unknown_tlvs"].as_array().unwrap();
    assert_eq!((kept.len(), &told.data["unknown_tlvs_left_out"]), (16, &json!(16)));
    assert_eq!(kept[0], json!({"oui": "01-02-03", "subtype": 4, "bytes": 100, "hex": "ab".repeat(64)}));
    assert_eq!(kept[1], json!({"type": 100, "hex": "78"}));
    assert_eq!(kept[2], json!({"oui": "00-80-c2", "subtype": 200, "hex": "79"}));
}

#[test]
fn of_power_all_three_lengths_are_read() {
    let power = |bytes: &[u8]| port(&good(&Lldp::switch().of(OUI_8023, 2, bytes).frame()))["power"].clone();
    let old = power(&[0x07, 2, 4]);
    assert_eq!(
        old,
        json!({"port_class": "PSE", "supported": true, "enabled": true, "pair_control": false, "pairs": "spare", "class": 3})
    );
    let device = power(&[0x00, 1, 0, 0x53, 0, 255, 0, 130]);
    assert_eq!(
        (&device["type"], &device["source"], &device["priority"]),
        (&json!("type 2 PD"), &json!("PSE"), &json!("low"))
    );
    assert_eq!(
        (&device["requested_milliwatts"], &device["allocated_milliwatts"]),
        (&json!(25_500), &json!(13_000))
    );
    let newest = power(&[
        0x07, 1, 5, 0x10, 2, 88, 2, 88, 1, 44, 1, 44, 1, 45, 1, 46, 0, 0x06, 0x02, 3, 132, 0, 0, 0, 0,
    ]);
    assert_eq!(
        (&newest["requested_a_milliwatts"], &newest["allocated_b_milliwatts"]),
        (&json!(30_000), &json!(30_200))
    );
    assert_eq!(
        (&newest["available_milliwatts"], &newest["extended_class"], &newest["type"]),
        (&json!(90_000), &json!(6), &json!("type 4 PSE"))
    );
}

#[test]
fn what_a_capture_cut_off_is_told_as_missing() {
    let frame = samples().into_iter().find(|(kind, name, _)| (*kind, *name) == ("lldp", "switch")).unwrap().2;
    let told = decode_captured(&frame[..60], frame.len()).unwrap().unwrap();
    assert_eq!((told.chassis.as_str(), told.port.as_str()), ("00-11-22-33-44-55", "g7"));
    assert_eq!(port(&told)["PortDescription"], "GigabitEthernet 7");
    assert!(!told.data.contains_key("SystemDescription"));
    assert!(told.errors.len() == 1 && told.errors[0].contains("only 60 of"), "{:?}", told.errors);
    assert!(decode_captured(&frame[..25], frame.len()).unwrap().is_err(), "too little to say who it is");
}

#[test]
fn addresses_have_one_text() {
    let address = MacAddress([0, 0x16, 0x3e, 0, 0xab, 1]);
    assert_eq!(address.to_string(), "00-16-3e-00-ab-01");
    for text in ["00-16-3e-00-ab-01", "00:16:3E:00:AB:01"] {
        assert_eq!(MacAddress::parse(text), Some(address), "{text}");
    }
    for wrong in [
        "",
        "00-16-3e-00-ab",
        "00-16-3e-00-ab-01-02",
        "0-16-3e-00-ab-01",
        "00-16-3e-00-ab-0g",
        "+1-16-3e-00-ab-01",
    ] {
        assert_eq!(MacAddress::parse(wrong), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn what_a_switch_says_comes_through(
        chassis in prop::array::uniform6(any::<u8>()),
        port_name in "[a-zA-Z0-9/.: ]{0,40}[a-z0-9]",
        name in "\\PC{0,60}",
        ttl_seconds in any::<u16>(),
        (supported, enabled) in any::<(u16, u16)>(),
        vlans in prop::collection::vec((1u16..4095, "[a-z]{1,32}"), 0..20),
        pvid in any::<u16>(),
    ) {
        let mut unit = Lldp::new(&[&[4][..], &chassis].concat(), &[b"\x05", port_name.as_bytes()].concat(), ttl_seconds)
            .element(5, name.as_bytes())
            .element(7, &[supported.to_be_bytes(), enabled.to_be_bytes()].concat())
            .of(OUI_8021, 1, &pvid.to_be_bytes());
        for (number, name) in &vlans {
            unit = unit.of(OUI_8021, 3, &[&number.to_be_bytes()[..], &[name.len() as u8], name.as_bytes()].concat());
        }
        let told = good(&unit.frame());
        prop_assert_eq!(&told.chassis, &MacAddress(chassis).to_string());
        prop_assert_eq!(told.port.as_str(), port_name.trim());
        prop_assert_eq!(told.ttl_seconds, ttl_seconds);
        prop_assert_eq!(told.data["SystemName"].as_str().unwrap(), model::text::printable(name.trim_end_matches('\0')));
        prop_assert_eq!(&port(&told)["pvid"], &json!(pvid));
        let listed: Vec<(u16, String)> = port(&told)["vlans"].as_array().into_iter().flatten()
            .map(|vlan| (vlan["vid"].as_u64().unwrap() as u16, vlan["name"].as_str().unwrap().to_owned()))
            .collect();
        prop_assert_eq!(listed, vlans);
        prop_assert!(told.errors.is_empty(), "{:?}", told.errors);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0usize..3) {
        let frame = match kind {
            0 => bytes,
            1 => ethernet([0x01, 0x80, 0xc2, 0, 0, 0x0e], SWITCH, 0x88cc, &bytes),
            _ => {
                let snap = [&[0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x20, 0x00, 2, 9, 0, 0][..], &bytes].concat();
                ethernet([0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc], SWITCH, snap.len() as u16, &snap)
            }
        };
        any_advertisement(&frame);
    }

    #[test]
    fn any_content_of_any_element_is_survived(
        organisation in prop::sample::select(vec![OUI_8021, OUI_8023, OUI_MED, [1, 2, 3]]),
        subtype in 0u8..16,
        kind in 0u8..12,
        content in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        any_advertisement(&Lldp::switch().of(organisation, subtype, &content).element(kind, &content).frame());
        for kind in [u16::from(kind), u16::from(kind) + 12, u16::from(subtype) + 20] {
            any_advertisement(&Cdp::new("sw1", "Gi1").element(kind, &content).frame());
        }
    }
}

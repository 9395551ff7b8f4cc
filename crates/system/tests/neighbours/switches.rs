//! Devices at the other end of a cable: LLDP and CDP.

use crate::rig::{Lldpd, Scene};
use serde_json::Value;
use std::path::Path;
use system::process::{Running, capture};

const SWITCH: &str = "#SWITCH_eth0";

fn has_name(data: &Value, name: &str) -> bool {
    data["SystemName"] == name
}

/// The port of the only device in a document.
fn port(data: &Value) -> &str {
    data["ports"].as_object().unwrap().keys().next().unwrap()
}

/// Sends one frame out of a port of the switch.
fn inject(scene: &Scene, host: &str, frame: &[u8]) {
    let port = scene.network.port(host).unwrap();
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
        s.bind((sys.argv[1], 0))\n\
        s.send(bytes.fromhex(sys.argv[2]))";
    let mut command = scene.network.switch().command(Path::new("python3"));
    let output = capture(command.args(["-c", script, &port, &hex])).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A frame of CDP version 2 that holds for `ttl_seconds`.
fn cdp(device: &str, port: &str, ttl_seconds: u8) -> Vec<u8> {
    let mut packet = vec![2, ttl_seconds, 0, 0];
    for (kind, text) in [(1u16, device), (3, port)] {
        packet.extend(kind.to_be_bytes());
        packet.extend((4 + text.len() as u16).to_be_bytes());
        packet.extend(text.as_bytes());
    }
    if packet.len() % 2 == 1 {
        packet.extend([0, 5, 0, 5, b'v']);
    }
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = vec![0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc, 0x02, 0, 0, 0, 0, 0x77];
    frame.extend((8 + packet.len() as u16).to_be_bytes());
    frame.extend([0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x20, 0x00]);
    frame.extend(packet);
    frame
}

#[test]
fn a_switch_is_heard_with_its_port_and_its_goodbye_too() {
    let scene = Scene::new(&["web1", "web2"], &[]);
    assert_eq!(scene.data("web1", SWITCH), None);
    let lldpd = Lldpd::start(&scene, "sw1", &["web1"]);
    let data = scene.wait_for_data("web1", SWITCH, |data| has_name(data, "sw1"));
    assert_eq!(data["SystemDescription"], "a switch of the test");
    assert_eq!(data["ports"][port(&data)]["ConnectsToInterface"], "eth0");
    // CDP of the same device is no second neighbour.
    let data =
        scene.wait_for_data("web1", SWITCH, |data| data["protocols"] == serde_json::json!(["lldp", "cdp"]));
    assert_eq!(data.get("neighbours"), None, "{data}");
    // The cable in the graph.
    let wired = scene.site.ask(&["sql", "SELECT * FROM edges WHERE kind = 'wiredto'"]).unwrap();
    let wired = wired.as_array().unwrap();
    assert_eq!(wired.len(), 1, "{wired:?}");
    let text = wired[0].to_string();
    assert!(text.contains("web1/eth0") && text.contains(&format!("/{}\"", port(&data))), "{text}");
    // Hearing the same over and over is no change, and who has no such cable hears nothing.
    let changes = scene.changes("web1", SWITCH);
    std::thread::sleep(std::time::Duration::from_secs(7));
    assert_eq!(scene.changes("web1", SWITCH), changes);
    assert_eq!(scene.data("web2", SWITCH), None);
    lldpd.stop();
    scene.wait_until_gone("web1", SWITCH);
    assert_eq!(scene.site.count("SELECT 1 FROM edges WHERE kind = 'wiredto'"), 0);
}

#[test]
fn what_cdp_says_holds_as_long_as_it_says() {
    let scene = Scene::new(&["web1"], &[]);
    inject(&scene, "web1", &cdp("sw9.example.org", "GigabitEthernet1/0/7", 4));
    let data = scene.wait_for_data("web1", SWITCH, |data| data["ChassisId"] == "sw9.example.org");
    assert_eq!(port(&data), "GigabitEthernet1/0/7");
    scene.wait_until_gone("web1", SWITCH);
    // Malformed, cut off, to another group, too long a field: nothing of it is believed, and all else goes on.
    let good = cdp("sw9", "p1", 200);
    let mut other_group = good.clone();
    other_group[5] = 0xcd;
    let mut too_long = good.clone();
    too_long[28] = 0xff;
    for frame in [&good[..good.len() - 9], &good[..30], &other_group, &too_long] {
        inject(&scene, "web1", frame);
    }
    inject(&scene, "web1", &cdp("sw10", "p2", 200));
    let data = scene.wait_for_data("web1", SWITCH, |_| true);
    assert_eq!((&data["ChassisId"], data.get("neighbours")), (&"sw10".into(), None));
    // Long before it expires.
    scene.configure("[neighbours]\nenabled = false\n");
    scene.wait_until_gone("web1", SWITCH);
}

#[test]
fn without_the_right_to_hear_all_else_goes_on() {
    let scene = Scene::new(&[], &["web1"]);
    let root = scene.site.nanoprobe_root("web1").unwrap();
    let mut command = scene.host("web1").command(Path::new("setpriv"));
    command.arg("--bounding-set=-net_raw").arg(scene.site.programs.path("nanoprobe"));
    command.arg("--root").arg(root).args(["--cmaaddr", &scene.site.address]);
    let _nanoprobe = Running::start("nanoprobe", &mut command, &scene.site.log("nanoprobe-web1")).unwrap();
    let up = "SELECT 1 FROM documents WHERE host = 'web1' AND instance = 'netconfig'";
    scene.wait("web1 to report", || (scene.site.count(up) == 1).then_some(()));
    inject(&scene, "web1", &cdp("sw1", "p1", 255));
    // An interface that changes is a reason to try again, not to say it again.
    for _ in 0..3 {
        scene.network.plug("web1", false).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
        scene.network.plug("web1", true).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    assert_eq!(scene.log("web1").matches("CAP_NET_RAW").count(), 1, "{}", scene.log("web1"));
    assert_eq!(scene.data("web1", SWITCH), None);
}

#[test]
fn a_cable_that_is_pulled_leads_nowhere_and_a_restart_is_no_news() {
    let mut scene = Scene::new(&["web1"], &[]);
    inject(&scene, "web1", &cdp("old", "p1", 255));
    scene.wait_for_data("web1", SWITCH, |data| data["ChassisId"] == "old");
    let changes = scene.changes("web1", SWITCH);
    scene.kill("web1");
    scene.start("web1");
    scene.wait("web1 to be back", || (scene.registrations("web1") == 2).then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(scene.changes("web1", SWITCH), changes);
    // Long before what it said is over.
    scene.network.plug("web1", false).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    scene.network.plug("web1", true).unwrap();
    scene.wait_until_gone("web1", SWITCH);
    inject(&scene, "web1", &cdp("new", "p2", 255));
    let data = scene.wait_for_data("web1", SWITCH, |data| data["ChassisId"] == "new");
    assert_eq!(data.get("neighbours"), None);
}

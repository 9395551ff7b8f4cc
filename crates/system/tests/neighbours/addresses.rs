//! Addresses of a subnet: ARP, heard by one host for all.

use crate::rig::Scene;
use std::path::Path;
use system::process::capture;

const ARP: &str = "_ARP_eth0";

/// Asks the network for the link-layer address of `to`, as every host does that wants to send something there.
fn ask_for(scene: &Scene, from: &str, to: &str) {
    let script = "import socket, sys\n\
        family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n\
        socket.socket(family, socket.SOCK_DGRAM).sendto(b'x', (sys.argv[1], 9))";
    let mut command = scene.host(from).command(Path::new("python3"));
    let output = capture(command.args(["-c", script, to])).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Hosts that have told of addresses.
fn listeners(scene: &Scene) -> Vec<String> {
    let rows = scene.site.ask(&["sql", &format!("SELECT host FROM documents WHERE instance = '{ARP}'")]);
    let rows = rows.unwrap_or_default();
    rows.as_array().into_iter().flatten().filter_map(|row| row["host"].as_str().map(str::to_owned)).collect()
}

#[test]
fn one_host_of_a_subnet_listens_for_all_and_another_takes_over() {
    let mut scene = Scene::new(&["web1", "web2", "web3"], &["printer"]);
    let printer = scene.host("printer").address;
    // The hosts know each other by now; nobody has talked to the printer.
    let nobody = "10.84.0.200";
    let heard = |scene: &Scene, but: &str| {
        ask_for(scene, "printer", nobody);
        let has_printer =
            |host: &String| scene.data(host, ARP).is_some_and(|data| data[&printer].is_string());
        let told = listeners(scene).into_iter().filter(|host| host != but).find(has_printer);
        std::thread::sleep(std::time::Duration::from_millis(300));
        told
    };
    let first = scene.wait("the printer to be heard", || heard(&scene, ""));
    assert_eq!(listeners(&scene), std::slice::from_ref(&first), "one is enough");
    let data = scene.data(&first, ARP).unwrap();
    // The same machine by its other protocol.
    let (own, other) = ("fd84::7", "fd84::200");
    scene.network.address("printer", &format!("{own}/64")).unwrap();
    let both = scene.wait("the printer to be heard by IPv6", || {
        ask_for(&scene, "printer", other);
        std::thread::sleep(std::time::Duration::from_millis(300));
        scene.data(&first, ARP).filter(|data| data[own].is_string())
    });
    assert_eq!(both[own], data[&printer]);
    assert_eq!(both.get(other), None, "{both}");
    assert_eq!(data.get(nobody), None, "who is asked for is not there");
    assert_eq!(data.get(&scene.host(&first).address), None, "nobody hears himself");
    let owners = scene.site.ask(&[
        "sql",
        &format!("SELECT source_kind FROM edges WHERE kind = 'ipowner' AND target = '@global/{printer}'"),
    ]);
    assert_eq!(owners.unwrap(), serde_json::json!([{"source_kind": "LinkAddress"}]));
    scene.stop(&first);
    let second = scene.wait("another one to listen", || heard(&scene, &first));
    // What the first has said stays said while it is away, and it is told to be silent when it comes back.
    scene.start(&first);
    scene.wait("the first to be silent", || {
        (listeners(&scene) == std::slice::from_ref(&second)).then_some(())
    });
}

#[test]
fn a_listener_that_starts_anew_listens_on() {
    let mut scene = Scene::new(&["web1"], &["printer"]);
    let printer = scene.host("printer").address;
    let heard = |scene: &Scene| {
        ask_for(scene, "printer", "10.84.0.200");
        std::thread::sleep(std::time::Duration::from_millis(300));
        scene.data("web1", ARP).filter(|data| data[&printer].is_string())
    };
    scene.wait("the printer to be heard", || heard(&scene));
    assert!(scene.log("web1").contains("where to listen"), "{}", scene.log("web1"));
    scene.stop("web1");
    // Known to the kernel only, and read from there when listening begins.
    let entry = "neigh add 10.84.0.150 lladdr 02:00:00:00:00:96 nud permanent dev eth0";
    let output = capture(scene.host("web1").command(Path::new("ip")).args(entry.split(' '))).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let before = scene.log("web1").len();
    scene.start("web1");
    scene.wait("the listener to be back", || (scene.registrations("web1") == 2).then_some(()));
    // Somebody new shows that it listens.
    scene.network.address("printer", "10.84.0.77/24").unwrap();
    let script = "import socket\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.bind(('10.84.0.77', 0))\n\
        s.sendto(b'x', ('10.84.0.201', 9))";
    let mut command = scene.host("printer").command(Path::new("python3"));
    command.args(["-c", script]);
    let data = scene.wait("another address", || {
        capture(&mut command).ok()?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        scene.data("web1", ARP).filter(|data| data["10.84.0.77"].is_string())
    });
    assert_eq!(data[&printer], data["10.84.0.77"]);
    assert_eq!(data["10.84.0.150"], "02-00-00-00-00-96");
    let log = scene.log("web1").split_off(before);
    assert!(!log.contains("where to listen") && !log.contains("gone=true"), "{log}");
}

#[test]
fn a_flood_of_forged_packets_is_survived_and_told() {
    let scene = Scene::new(&["web1"], &["printer", "attacker"]);
    let printer = scene.host("printer").address;
    let nobody = "10.84.0.200";
    let heard = || {
        ask_for(&scene, "printer", nobody);
        std::thread::sleep(std::time::Duration::from_millis(500));
        scene.data("web1", ARP).filter(|data| data[&printer].is_string())
    };
    // Heard again after ten seconds, it is somebody who is known.
    scene.wait("the printer to be heard", heard);
    std::thread::sleep(std::time::Duration::from_secs(11));
    scene.wait("the printer to be heard again", heard);
    // 8000 machines, 500 a second at most.
    let script = "import socket, struct, time\n\
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
        s.bind(('eth0', 0))\n\
        for i in range(8000):\n\
        \x20   mac = b'\\2\\0\\0\\1' + struct.pack('>H', i)\n\
        \x20   ip = b'\\x0a\\x63' + struct.pack('>H', i + 1)\n\
        \x20   s.send(b'\\xff' * 6 + mac + b'\\x08\\x06' + b'\\0\\1\\x08\\0\\6\\4\\0\\1' + mac + ip + b'\\0' * 6 + ip)\n\
        \x20   time.sleep(0.05 if i % 25 == 24 else 0)";
    let mut command = scene.host("attacker").command(Path::new("python3"));
    let output = capture(command.args(["-c", script])).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let full = |data: &serde_json::Value| data.as_object().is_some_and(|pairs| pairs.len() == 4096);
    let data = scene.wait_for_data("web1", ARP, full);
    assert!(data[&printer].is_string(), "the printer was driven out");
    let changes = scene.changes("web1", ARP);
    assert!(changes < 12, "{changes} documents");
}

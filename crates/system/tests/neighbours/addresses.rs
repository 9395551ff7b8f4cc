//! Addresses of a subnet: ARP, heard by one host for all.

use crate::rig::Scene;
use std::path::Path;
use system::process::capture;

const ARP: &str = "_ARP_eth0";

/// Asks the network for the link-layer address of `to`, as every host does that wants to send something there.
fn ask_for(scene: &Scene, from: &str, to: &str) {
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.sendto(b'x', (sys.argv[1], 9))";
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
        let has_printer = |host: &String| scene.data(host, ARP).is_some_and(|data| data[&printer].is_string());
        let told = listeners(scene).into_iter().filter(|host| host != but).find(has_printer);
        std::thread::sleep(std::time::Duration::from_millis(300));
        told
    };
    let first = scene.wait("the printer to be heard", || heard(&scene, ""));
    assert_eq!(listeners(&scene), [first.clone()], "one is enough");
    let data = scene.data(&first, ARP).unwrap();
    assert_eq!(data.get(nobody), None, "who is asked for is not there");
    assert_eq!(data.get(&scene.host(&first).address), None, "nobody hears himself");
    let owners = scene.site.ask(&["sql", &format!("SELECT source_kind FROM edges WHERE kind = 'ipowner' AND target = '@global/{printer}'")]);
    assert_eq!(owners.unwrap(), serde_json::json!([{"source_kind": "LinkAddress"}]));
    scene.stop(&first);
    let second = scene.wait("another one to listen", || heard(&scene, &first));
    // What the first has said stays said while it is away, and it is told to be silent when it comes back.
    scene.start(&first);
    scene.wait("the first to be silent", || (listeners(&scene) == [second.clone()]).then_some(()));
}

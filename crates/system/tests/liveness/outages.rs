//! Outages that are more than one host, and a CMA that is not there when they happen.

use crate::rig::{CENTER, Scene};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;
use system::process::capture;

const HOSTS: [&str; 4] = ["picard", "riker", "worf", "crusher"];

/// Downs and ups of hosts and of places, in order: event, node type, designation, reason.
fn told(scene: &Scene) -> Vec<String> {
    let statement = "SELECT eventtype || ' ' || nodetype || ' ' || host || ' ' || reason AS line FROM events
         WHERE eventtype IN ('up', 'down') AND nodetype IN ('Drone', 'SystemNode') ORDER BY sequence";
    let rows = scene.wait("the CMA to answer", || scene.site.ask(&["sql", statement]).ok());
    rows.as_array().unwrap().iter().map(|row| row["line"].as_str().unwrap().to_owned()).collect()
}

/// The event behind a line of [`told`].
fn event(scene: &Scene, index: usize) -> Value {
    let statement = "SELECT event FROM events
         WHERE eventtype IN ('up', 'down') AND nodetype IN ('Drone', 'SystemNode') ORDER BY sequence";
    let rows = scene.site.ask(&["sql", statement]).unwrap();
    serde_json::from_str(rows[index]["event"].as_str().unwrap()).unwrap()
}

fn wait_until_told(scene: &Scene, count: usize) -> Vec<String> {
    scene.wait(&format!("{count} events"), || Some(told(scene)).filter(|told| told.len() >= count))
}

/// Nothing more for as long as a wrong verdict would need.
fn assert_nothing_more(scene: &Scene, before: &[String]) {
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(told(scene), before);
}

fn restart_cma(scene: &mut Scene) {
    scene.cma = Some(scene.site.start_cma(&[]).unwrap());
}

#[test]
fn who_died_and_who_came_back_while_there_was_no_cma_is_told_afterwards() {
    let mut scene = Scene::new(&HOSTS, &[]);
    let before = told(&scene).len();
    scene.cma.take().unwrap().kill();
    scene.kill("worf");
    scene.kill("riker");
    std::thread::sleep(Duration::from_secs(4));
    scene.start("riker");
    std::thread::sleep(Duration::from_secs(4));
    restart_cma(&mut scene);
    let mut after = wait_until_told(&scene, before + 2);
    let mut new = after.split_off(before);
    new.sort();
    assert_eq!(new, ["down Drone worf HBDEAD", "up Drone riker STARTUP"]);
    let all = told(&scene);
    assert_nothing_more(&scene, &all);
    scene.start("worf");
    assert_eq!(wait_until_told(&scene, all.len() + 1).last().unwrap(), "up Drone worf STARTUP");
}

#[test]
fn a_cma_that_is_killed_in_the_middle_of_a_verdict_tells_of_it_once() {
    let mut scene = Scene::new(&HOSTS, &[]);
    // Around the moment of the verdict, which comes some 2 s after the death.
    for milliseconds in [1000, 1700, 2000, 2300, 2700] {
        let before = told(&scene).len();
        scene.kill("worf");
        std::thread::sleep(Duration::from_millis(milliseconds));
        scene.cma.take().unwrap().kill();
        restart_cma(&mut scene);
        let new = wait_until_told(&scene, before + 1).split_off(before);
        assert_eq!(new, ["down Drone worf HBDEAD"], "killed after {milliseconds} ms");
        let all = told(&scene);
        scene.start("worf");
        wait_until_told(&scene, all.len() + 1);
        scene.wait_until_heard(&HOSTS);
        let new = told(&scene).split_off(before);
        assert_eq!(new, ["down Drone worf HBDEAD", "up Drone worf STARTUP"], "{milliseconds} ms");
    }
}

#[test]
fn half_a_switch_is_one_outage_and_its_return_another_event() {
    let hosts = ["picard", "riker", "worf", "crusher", "troi", "laforge", "data"];
    let lost = ["worf", "troi", "data"];
    let scene = Scene::new(&hosts, &[]);
    let before = told(&scene);
    for host in lost {
        scene.network.plug(host, false).unwrap();
    }
    let after = wait_until_told(&scene, before.len() + 1);
    let all = event(&scene, before.len());
    assert_eq!(all["associatedobject"]["nodetype"], "SystemNode", "{after:#?}");
    let mut explained: Vec<&str> =
        all["extrainfo"]["explains"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    explained.sort_unstable();
    assert_eq!(explained, ["data", "troi", "worf"], "{all:#}");
    assert_nothing_more(&scene, &after);
    let crashed = scene.site.ask(&["query", "crashed"]).unwrap();
    assert_eq!(crashed.as_array().map(Vec::len), Some(3), "{crashed:#}");
    for host in lost {
        scene.network.plug(host, true).unwrap();
    }
    scene.wait("all to be up", || {
        (scene.site.count("SELECT 1 FROM hosts WHERE status = 'up'") == hosts.len()).then_some(())
    });
    std::thread::sleep(Duration::from_secs(35));
    let ups = told(&scene).split_off(after.len());
    assert!(ups.len() <= 2 && ups.iter().all(|line| line.starts_with("up ")), "{ups:#?}");
    assert!(ups.iter().any(|line| line.starts_with("up SystemNode ")), "{ups:#?}");
}

#[test]
fn the_only_host_is_watched_by_the_cma_itself() {
    let mut scene = Scene::new(&["picard"], &[]);
    let before = told(&scene).len();
    scene.kill("picard");
    assert_eq!(wait_until_told(&scene, before + 1)[before], "down Drone picard HBDEAD");
    assert_eq!(event(&scene, before)["extrainfo"]["verdict"], "nanoprobe died");
    scene.start("picard");
    assert_eq!(wait_until_told(&scene, before + 2)[before + 1], "up Drone picard STARTUP");
    std::thread::sleep(Duration::from_secs(8));
    scene.network.plug("picard", false).unwrap();
    assert_eq!(wait_until_told(&scene, before + 3)[before + 2], "down Drone picard HBDEAD");
    assert_eq!(event(&scene, before + 2)["extrainfo"]["verdict"], "host dead");
    scene.network.plug("picard", true).unwrap();
    assert_eq!(wait_until_told(&scene, before + 4)[before + 3], "up Drone picard HBBACKALIVE");
}

#[test]
fn a_cma_without_network_calls_nobody_dead() {
    let scene = Scene::new(&HOSTS, &[]);
    let before = told(&scene);
    scene.network.plug(CENTER, false).unwrap();
    std::thread::sleep(Duration::from_secs(15));
    scene.network.plug(CENTER, true).unwrap();
    assert_nothing_more(&scene, &before);
}

#[test]
fn a_host_that_was_copied_with_its_keys_is_told_of_and_nobody_dies() {
    let mut scene = Scene::new(&HOSTS, &["copy"]);
    let before = told(&scene);
    let root = scene.site.paths.root().join("hosts");
    // Files of the outgoing queue come and go meanwhile, which cp calls an error.
    capture(std::process::Command::new("cp").arg("-a").arg(root.join("worf")).arg(root.join("copy")))
        .unwrap();
    let keys = fs::read_dir(root.join("copy/usr/share/assimilation/crypto.d")).unwrap().flatten();
    let own = keys.filter(|entry| entry.file_name().to_string_lossy().starts_with("worf@@")).count();
    assert_eq!(own, 2, "the key pair of worf");
    fs::remove_file(root.join("copy/var/run/nanoprobe")).unwrap();
    let copy = scene.host("copy").clone();
    let to = ["--cmaaddr", scene.site.address.as_str(), "--name", "worf"];
    let _nanoprobe = scene.site.start_nanoprobe("copy", Some(&copy), &to).unwrap();
    let warned = "SELECT 1 FROM events WHERE eventtype = 'warn' AND reason = 'clone' AND host = 'worf'";
    scene.wait("a warning", || (scene.site.count(warned) > 0).then_some(()));
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(scene.site.count(warned), 1);
    // The copy came as a restart of worf, and nothing more is said.
    let new = told(&scene).split_off(before.len());
    assert_eq!(new, ["up Drone worf STARTUP"]);
    scene.nanoprobes.remove("worf");
}

#[test]
fn two_hosts_that_swap_their_addresses_stay_alive_and_watched() {
    let mut scene = Scene::new(&HOSTS, &[]);
    let before = told(&scene);
    let (worf, riker) = (scene.host("worf").clone(), scene.host("riker").clone());
    let address = |host: &system::network::Host, what: &str, address: &str| {
        let words = ["addr", what, &format!("{address}/24"), "dev", "eth0"];
        let output = capture(host.command(Path::new("ip")).args(words)).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    address(&worf, "del", &worf.address);
    address(&riker, "del", &riker.address);
    address(&worf, "add", &riker.address);
    address(&riker, "add", &worf.address);
    for host in [&worf, &riker] {
        capture(host.command(Path::new("ip")).args(["route", "add", "default", "dev", "eth0"])).unwrap();
    }
    let moved = |name: &str, address: &str| {
        let statement = format!("SELECT 1 FROM hosts WHERE host = '{name}' AND address LIKE '{address}:%'");
        scene.wait(&format!("{name} at {address}"), || (scene.site.count(&statement) == 1).then_some(()));
    };
    moved("worf", &riker.address);
    moved("riker", &worf.address);
    assert_nothing_more(&scene, &before);
    scene.kill("worf");
    let all = wait_until_told(&scene, before.len() + 1);
    assert_eq!(all[before.len()], "down Drone worf HBDEAD");
    assert_eq!(event(&scene, before.len())["extrainfo"]["verdict"], "nanoprobe died");
}

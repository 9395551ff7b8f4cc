//! One host at a time stops, in every way in which hosts stop.

use crate::rig::{Alert, Scene};
use rustix::process::Signal;
use std::time::Duration;

const HOSTS: [&str; 4] = ["picard", "riker", "worf", "crusher"];

fn down(host: &str, reason: &str, verdict: &str) -> Alert {
    Alert {
        event: "down".into(),
        nodetype: "Drone".into(),
        host: host.into(),
        reason: reason.into(),
        verdict: verdict.into(),
    }
}

#[test]
fn a_killed_nanoprobe_is_told_from_a_dead_host_and_both_come_back() {
    let mut scene = Scene::new(&HOSTS, &[]);
    let before = scene.alerts().len();
    let known = scene.alerts_of("worf").len();
    scene.kill("worf");
    assert_eq!(scene.next_alert("worf", known), down("worf", "HBDEAD", "nanoprobe died"));
    scene.start("worf");
    assert_eq!(scene.next_alert("worf", known + 1).event, "up");
    scene.wait_until_heard(&HOSTS);

    // The cable: nobody reaches the host, whose nanoprobe goes on and comes back by itself.
    scene.network.plug("worf", false).unwrap();
    assert_eq!(scene.next_alert("worf", known + 2), down("worf", "HBDEAD", "host dead"));
    // For a while nothing changes, and nobody else is suspected.
    std::thread::sleep(Duration::from_secs(5));
    scene.network.plug("worf", true).unwrap();
    assert_eq!(scene.next_alert("worf", known + 3).event, "up");
    scene.assert_only_about("worf", before);
    assert_eq!(scene.alerts_of("worf").len(), known + 4, "{:#?}", scene.alerts_of("worf"));
}

#[test]
fn a_stop_on_purpose_is_told_at_once_as_what_it_is() {
    let mut scene = Scene::new(&HOSTS, &[]);
    let before = scene.alerts().len();
    let known = scene.alerts_of("riker").len();
    drop(scene.nanoprobes.remove("riker"));
    let told = scene.next_alert("riker", known);
    assert_eq!((told.event.as_str(), told.reason.as_str()), ("down", "HBSHUTDOWN"));
    // Its partners would have given it up long before this is over.
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(scene.alerts_of("riker").len(), known + 1, "{:#?}", scene.alerts_of("riker"));
    scene.assert_only_about("riker", before);
}

#[test]
fn a_process_that_was_stopped_is_dead_and_lives_again_without_a_restart() {
    let scene = Scene::new(&HOSTS, &[]);
    let before = scene.alerts().len();
    let known = scene.alerts_of("crusher").len();
    scene.signal("crusher", Signal::STOP);
    assert_eq!(scene.next_alert("crusher", known), down("crusher", "HBDEAD", "nanoprobe died"));
    std::thread::sleep(Duration::from_secs(20));
    scene.signal("crusher", Signal::CONT);
    assert_eq!(scene.next_alert("crusher", known + 1).event, "up");
    // It missed twenty seconds of everybody: it must not take them for dead.
    std::thread::sleep(Duration::from_secs(5));
    scene.assert_only_about("crusher", before);
    assert_eq!(scene.alerts_of("crusher").len(), known + 2, "{:#?}", scene.alerts_of("crusher"));
}

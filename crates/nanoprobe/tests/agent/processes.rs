//! The two processes of a nanoprobe: what each may do, and what follows when one of them dies or hangs.

use crate::heartbeats::{REGULAR, STOPPING, scene};
use crate::rig::{Site, send};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Fields of /proc/PID/status (proc_pid_status(5)).
fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(field).collect()
}

fn is_there(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn the_network_process_has_no_privilege_and_no_file_and_the_other_only_what_it_uses() {
    let site = Site::new();
    let cma = site.cma(None);
    let nanoprobe = site.nanoprobe(cma.address);
    site.until("a registration", |store| store.registrations > 0).await;
    let network = status(nanoprobe.network());
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(network[set], "0000000000000000", "{set}");
    }
    assert_eq!(network["NoNewPrivs"], "1");
    let target = |link: fs::DirEntry| fs::read_link(link.path()).map(|path| path.display().to_string());
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        assert_eq!((network["CapBnd"].as_str(), network["Groups"].as_str()), ("0000000000000000", ""));
        assert!(network["Uid"].split_whitespace().all(|uid| uid != "0"), "{}", network["Uid"]);
        assert!(network["Gid"].split_whitespace().all(|gid| gid != "0"), "{}", network["Gid"]);
        // CAP_SYS_ADMIN, _SYS_MODULE, _SYS_RAWIO, _DAC_OVERRIDE, _SYS_BOOT, _SYS_TIME and _BPF among those that are gone.
        let agent = status(nanoprobe.pid());
        let gone: u64 = [21, 16, 17, 1, 22, 25, 39].iter().map(|bit| 1 << bit).sum();
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            let held = u64::from_str_radix(&agent[set], 16).unwrap();
            assert_eq!(held & gone, 0, "{set}: {held:x}");
            assert_ne!(held, 0, "{set}: collectors need some");
        }
        let open: Vec<String> = fs::read_dir(format!("/proc/{}/fd", nanoprobe.network()))
            .unwrap()
            .flatten()
            .filter_map(|link| target(link).ok())
            .collect();
        let root = site.root().display().to_string();
        assert!(!open.iter().any(|path| path.starts_with(&root) || path.contains("inotify")), "{open:?}");
        assert!(open.iter().any(|path| path.starts_with("socket:")), "{open:?}");
    }
    let seed = fs::read_dir(site.root().join("usr/share/assimilation/crypto.d")).unwrap().flatten();
    let secrets = seed.filter(|entry| entry.path().extension().is_some_and(|end| end == "secret"));
    assert_eq!(secrets.count(), 1, "its own, which was made before privileges were given up");
}

#[tokio::test]
async fn a_network_process_that_dies_is_replaced_and_nothing_is_lost() {
    let (site, _cma, nanoprobe, mut peer, place) = scene().await;
    site.until("the first report", |store| crate::days(store, 1)).await;
    let (first, before) = (nanoprobe.network(), site.store.lock().unwrap().standings.len());
    send(first, Signal::KILL);
    site.write_login_defs(2);
    site.until("another registration", |store| store.standings.len() > before).await;
    site.until("the change", |store| crate::days(store, 2)).await;
    assert_ne!(nanoprobe.network(), first);
    {
        let store = site.store.lock().unwrap();
        assert_eq!(store.registered.unwrap().0, place, "at the same port, where partners send");
        let sessions: Vec<_> = store.standings.iter().map(|(session, _)| session.unwrap()).collect();
        assert_ne!(sessions.last(), sessions.first(), "heartbeats of before count no more");
        assert_eq!(store.standings.last().unwrap().1, None, "it has no partners yet");
        assert_eq!((store.gaps, store.goodbyes.len()), (0, 0));
    }
    assert_eq!(peer.hear_until(REGULAR).await, place);
    assert!(site.log().contains("the network process is gone"), "{}", site.log());
    // The second time there is a pause, and it comes back all the same.
    send(nanoprobe.network(), Signal::KILL);
    let registrations = site.store.lock().unwrap().registrations;
    site.until("a third life", |store| store.registrations > registrations).await;
}

#[tokio::test]
async fn with_the_agent_the_network_process_dies_at_once_and_says_no_goodbye() {
    let (site, _cma, nanoprobe, mut peer, place) = scene().await;
    peer.live(place, Duration::from_millis(500)).await;
    let network = nanoprobe.network();
    nanoprobe.kill();
    let start = Instant::now();
    while is_there(network) {
        assert!(start.elapsed() < Duration::from_secs(5), "it outlives the agent");
        sleep(Duration::from_millis(5)).await;
    }
    // What was sent until then, and no farewell among it.
    while let Ok((beat, _)) = tokio::time::timeout(Duration::from_secs(1), peer.hear()).await {
        assert_ne!(beat, STOPPING);
    }
    assert!(site.store.lock().unwrap().goodbyes.is_empty());
}

#[tokio::test]
async fn heartbeats_outlast_a_short_hang_of_the_agent_and_no_long_one() {
    let (site, _cma, nanoprobe, mut peer, place) = scene().await;
    peer.live(place, Duration::from_secs(1)).await;
    nanoprobe.signal(Signal::STOP);
    let start = Instant::now();
    // As long as a slow disk may take.
    while start.elapsed() < Duration::from_secs(12) {
        peer.live(place, Duration::from_millis(500)).await;
        peer.hear_until(REGULAR).await;
    }
    // A silent second is five heartbeats that did not come.
    let silent = async {
        loop {
            peer.live(place, Duration::from_millis(300)).await;
            if tokio::time::timeout(Duration::from_secs(1), peer.hear()).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), silent)
        .await
        .expect("heartbeats of a nanoprobe that hangs");
    assert!(site.log().contains("the agent hangs"), "{}", site.log());
    nanoprobe.signal(Signal::CONT);
    peer.hear_until(REGULAR).await;
    assert!(site.log().contains("the agent is back"), "{}", site.log());
}

#[tokio::test]
async fn collectors_find_with_their_capabilities_what_they_find_with_all() {
    if !rustix::process::geteuid().is_root() {
        // Without root both have none.
        return;
    }
    // Whose sockets and program only CAP_SYS_PTRACE shows.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut stranger = std::process::Command::new("python3")
        .args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string(), "--directory", "/usr/share"])
        .uid(65_534)
        .gid(65_534)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("python3 is missing: sudo apt-get install python3");
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(stranger.try_wait().unwrap().is_none(), "it ended");
        sleep(Duration::from_millis(20)).await;
    }
    let site = Site::new();
    let cma = site.cma(None);
    let all = r#"{"discovery":{"cpu_budget_percent":0},"monitoring":{"enabled":false},"neighbours":{"enabled":false}}"#;
    site.store.lock().unwrap().config = Some(all.into());
    let nanoprobe = site.nanoprobe_of(cma.address, Path::new("/"));
    let expected = discovery::all().iter().filter(|one| !one.is_expensive());
    let instances: Vec<(&str, &str)> = expected
        .flat_map(|one| one.instances.iter().map(|instance| (one.name, instance.name)))
        .filter(|(_, instance)| instance.starts_with("_init"))
        .collect();
    assert!(instances.len() > 20);
    site.until("all documents", |store| instances.iter().all(|(_, name)| store.last(name).is_some())).await;
    let store = site.store.lock().unwrap();
    for (kind, instance) in instances {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_nanoprobe"))
            .args(["discover", kind, "--root"])
            .arg(site.root())
            .output()
            .unwrap();
        let alone: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let agent = store.last(instance).unwrap();
        // Values change from one moment to the next; what could not be read, and which keys there are, does not.
        assert_eq!(agent.get("errors"), alone.get("errors"), "{kind}");
        assert_eq!(agent["data"]["NODATA"], alone["data"]["NODATA"], "{kind}");
        let keys = |document: &serde_json::Value| document["data"].as_object().map_or(0, |data| data.len());
        let (few, many) = (keys(agent).min(keys(&alone)), keys(agent).max(keys(&alone)));
        // Processes and their sockets come and go.
        let is_of_the_moment = matches!(kind, "tcpdiscovery" | "listeners");
        assert!(is_of_the_moment || few * 10 >= many * 8, "{kind}: {} of {} keys", keys(agent), keys(&alone));
    }
    let sockets = store.last("_init_tcpdiscovery").unwrap()["data"].to_string();
    assert!(sockets.contains(&format!("127.0.0.1:{port}")), "a process of another user: {sockets}");
    drop(nanoprobe);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

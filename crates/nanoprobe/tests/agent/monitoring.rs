//! A real service, found by the agent, killed and started again, against a small CMA on the loopback interface.

use crate::rig::{Site, Store};
use serde_json::Value;
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// A web server of Python; killed when dropped.
struct Service {
    process: Child,
    /// What it serves; kept until it ends.
    _folder: tempfile::TempDir,
}

impl Service {
    fn start(port: u16) -> Self {
        // The directory that it serves is the working directory: nothing of anybody's.
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is missing: sudo apt-get install python3");
        Self { process: child, _folder: folder }
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Held as long as a test has services: those of another test are seen as well, and one that differs in its port only would be
/// taken for this one, moved.
fn alone() -> File {
    let lock = File::create(std::env::temp_dir().join("assimilation-tests-of-services")).unwrap();
    lock.lock().unwrap();
    lock
}

/// A port that a person would choose: what listens at one of the kernel's choice only is not looked after.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + u16::try_from(std::process::id() % 1000).unwrap() * 10;
    let ports = std::iter::repeat_with(|| start + NEXT.fetch_add(1, Ordering::Relaxed));
    ports.take(1000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("no free port")
}

/// The states that were told of whatever listens at this port, in order; `gone` at the end of a monitor.
fn states(store: &Store, port: u16) -> Vec<String> {
    let place = format!("127.0.0.1:{port}");
    let is_ours = |document: &Value| {
        // Of a process that is just dying, the port may be seen without it, and belong to nobody for a moment.
        document["discovertype"] == "monitor"
            && document["data"]["agent"] == "own-web"
            && document["data"]["listen"].as_array().is_some_and(|list| list.contains(&Value::from(&*place)))
    };
    let ours: Vec<&String> = (store.reports.iter())
        .filter(|(_, document)| document.as_ref().is_some_and(is_ours))
        .map(|(instance, _)| instance)
        .collect();
    let told = store.reports.iter().filter(|(instance, _)| ours.contains(&instance));
    let word = |document: &Option<Value>| {
        document
            .as_ref()
            .map_or("gone".into(), |document| document["data"]["state"].as_str().unwrap().to_owned())
    };
    told.map(|(_, document)| word(document)).collect()
}

/// The site's own, because what nobody knows is only looked after where a service manager has started it.
const RULE: &str = r#"{
  "class": "http", "type": "own-web", "prio": "high", "description": "The web server of a test answers.",
  "classconfig": [["-", "@basename()", "python3"], ["ip", "@serviceip()"], ["port", "@serviceport()", "[0-9]+$"]],
  "examples": [
    {"process": {"exe": "/usr/bin/python3", "cmdline": ["python3"], "uid": 0, "loopback_listenaddrs": {"127.0.0.1:8000": "tcp"}},
     "expect": {"match": "high", "env": {"ip": "127.0.0.1", "port": "8000"}}},
    {"process": {"exe": "/usr/bin/perl", "cmdline": ["perl"], "uid": 0, "listenaddrs": {"0.0.0.0:8000": "tcp"}},
     "expect": {"match": "none"}},
  ],
}
"#;

fn configure(site: &Site, monitoring: &str) {
    let directory = site.root().join("etc/assimilation/monrules.d");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("own-web.mrule"), RULE).unwrap();
    let text = format!(
        r#"{{"discovery":{{"agents":{{"tcpdiscovery":{{"repeat":1}}}}}},"monitoring":{{{monitoring}}}}}"#
    );
    site.store.lock().unwrap().config = Some(text);
}

const QUICK: &str = r#""repeat":1"#;

#[tokio::test]
async fn a_service_is_found_told_down_when_killed_and_up_again() {
    let _alone = alone();
    let site = Site::new();
    configure(&site, QUICK);
    let cma = site.cma(None);
    let port = free_port();
    let service = Service::start(port);
    let nanoprobe = site.nanoprobe_of(cma.address, Path::new("/"));
    site.until("its first state", |store| states(store, port) == ["up"]).await;
    {
        let store = site.store.lock().unwrap();
        let (instance, document) = store
            .reports
            .iter()
            .rev()
            .find(|(_, document)| {
                document.as_ref().is_some_and(|d| {
                    d["discovertype"] == "monitor"
                        && d["data"]["listen"]
                            .as_array()
                            .is_some_and(|l| l.contains(&Value::from(format!("127.0.0.1:{port}"))))
                })
            })
            .unwrap();
        let document = document.as_ref().unwrap();
        let data = &document["data"];
        assert!(instance.starts_with("_monitor_") && document["instance"] == *instance.as_str());
        assert_eq!((&document["host"], &data["target"]), (&Value::from("web1"), &Value::from("service")));
        assert!(data["monitorname"].as_str().unwrap().starts_with("web1:"), "{data}");
        assert!(data["pathname"].as_str().unwrap().contains("python3"), "{data}");
        assert_eq!((&data["class"], &data["rule"]), (&Value::from("http"), &Value::from("own-web.mrule")));
        assert!(data["active"] == true && data["since"].as_str().unwrap().ends_with('Z'), "{data}");
    }
    service.kill();
    site.until("its end", |store| states(store, port) == ["up", "down"]).await;
    // While it is down the nanoprobe is started again: nothing is told twice, nothing is forgotten.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    nanoprobe.kill();
    let nanoprobe = site.nanoprobe_of(cma.address, Path::new("/"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(states(&site.store.lock().unwrap(), port), ["up", "down"]);
    let service = Service::start(port);
    site.until("its return", |store| states(store, port) == ["up", "down", "up"]).await;
    // The monitoring is switched off: its documents go.
    nanoprobe.kill();
    configure(&site, r#""enabled":false"#);
    let _nanoprobe = site.nanoprobe_of(cma.address, Path::new("/"));
    site.until("the end of the monitor", |store| states(store, port) == ["up", "down", "up", "gone"]).await;
    let none_left = |store: &Store| {
        store.reports.iter().all(|(name, _)| !name.starts_with("_monitor") || store.last_is_gone(name))
    };
    site.until("the end of all of them", none_left).await;
    assert_eq!(site.store.lock().unwrap().gaps, 0);
    drop(service);
}

#[tokio::test]
async fn what_is_wanted_again_is_told_again_and_a_service_that_moves_is_no_outage() {
    let _alone = alone();
    let site = Site::new();
    configure(&site, QUICK);
    let cma = site.cma(None);
    let (port, other) = (free_port(), free_port());
    let service = Service::start(port);
    let nanoprobe = site.nanoprobe_of(cma.address, Path::new("/"));
    site.until("its first state", |store| states(store, port) == ["up"]).await;
    // Until the state is kept and acknowledged.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    nanoprobe.kill();
    {
        let mut store = site.store.lock().unwrap();
        let known = |(instance, document): &(String, Option<Value>)| {
            document
                .as_ref()
                .is_some_and(|d| d["data"]["listen"].to_string().contains(&port.to_string()))
                .then(|| instance.clone())
        };
        let instance = store.reports.iter().find_map(known).unwrap();
        store.wanted = vec![instance, "_monitors".into()];
    }
    let _nanoprobe = site.nanoprobe_of(cma.address, Path::new("/"));
    site.until("the same again", |store| states(store, port) == ["up", "up"]).await;
    service.kill();
    let _service = Service::start(other);
    site.until("the state at the other port", |store| states(store, other) == ["up"]).await;
    site.until("the end of the old one", |store| states(store, port).last().is_some_and(|s| s == "gone"))
        .await;
    let store = site.store.lock().unwrap();
    assert!(store.count("_monitors") >= 2, "the overview was wanted too");
    assert_eq!(store.gaps, 0);
}

#[tokio::test]
async fn a_damaged_state_is_done_without() {
    let _alone = alone();
    let site = Site::new();
    configure(&site, QUICK);
    let cma = site.cma(None);
    let port = free_port();
    let _service = Service::start(port);
    let nanoprobe = site.nanoprobe_of(cma.address, Path::new("/"));
    site.until("its first state", |store| states(store, port) == ["up"]).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    nanoprobe.kill();
    let kept = site.root().join("var/lib/assimilation/nanoprobe/monitors.json");
    let text = std::fs::read_to_string(&kept).unwrap();
    assert!(text.contains(&port.to_string()), "{text}");
    std::fs::write(&kept, &text[..text.len() / 2]).unwrap();
    let _nanoprobe = site.nanoprobe_of(cma.address, Path::new("/"));
    site.until("the state again", |store| {
        let states = states(store, port);
        states.first().is_some_and(|s| s == "up") && states.len() <= 2 && store.registrations >= 2
    })
    .await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let states = states(&site.store.lock().unwrap(), port);
    assert!(states.iter().all(|state| state == "up"), "{states:?}");
    assert!(site.log().contains("are not known"), "{}", site.log());
}

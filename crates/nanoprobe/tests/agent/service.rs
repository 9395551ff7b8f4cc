//! The nanoprobe as a service: what the service manager hears, and settings that are read again.

use crate::rig::{Nanoprobe, Site, send};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Stands for systemd (sd_notify(3)).
struct Manager {
    words: Receiver<String>,
    path: String,
    _folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (sender, words) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Until the test ends.
            while let Ok(length) = socket.recv(&mut buffer) {
                if sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned() + "\n").is_err() {
                    return;
                }
            }
        });
        Self { words, path: path.display().to_string(), _folder: folder }
    }

    /// All that is said within a time.
    async fn hear(&self, time: Duration) -> String {
        let start = Instant::now();
        let mut all = String::new();
        while start.elapsed() < time {
            all.extend(self.words.try_iter());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        all
    }

    /// All that is said until something is.
    async fn until(&self, wanted: &str) -> String {
        let (start, mut all) = (Instant::now(), String::new());
        while !all.contains(wanted) {
            assert!(start.elapsed() < Duration::from_secs(20), "{wanted} is not said: {all}");
            all.extend(self.words.try_recv());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        all
    }
}

fn started(site: &Site, options: &[&str], environment: &[(&str, &str)]) -> Nanoprobe {
    let options = [&["-d", "1"], options].concat();
    site.nanoprobe_with(&site.host(), &options, environment)
}

#[tokio::test]
async fn the_service_manager_hears_how_things_are_and_programs_do_not_hear_of_it() {
    let (site, manager) = (Site::new(), Manager::new());
    let seen = site.host().join("seen");
    let directory = site.root().join("etc/assimilation/discovery_agents.d");
    fs::create_dir_all(&directory).unwrap();
    let script =
        format!("#!/bin/sh\nenv >> {}\necho '{{\"discovertype\":\"mine\",\"data\":{{}}}}'\n", seen.display());
    fs::write(directory.join("mine"), script).unwrap();
    fs::set_permissions(directory.join("mine"), fs::Permissions::from_mode(0o755)).unwrap();
    // There is no CMA, which is no reason to fail.
    let place = site.cma(None).address;
    let environment = [("NOTIFY_SOCKET", manager.path.as_str()), ("WATCHDOG_USEC", "3000000")];
    let mut nanoprobe = started(&site, &["-c", &place.to_string()], &environment);
    manager.until("READY=1").await;
    manager.until("no CMA reached").await;
    let _cma = site.cma(Some(place));
    manager.until("STATUS=registered with the CMA at 127.0.0.1").await;
    site.until("the program's report", |store| store.count("_init_mine") > 0).await;
    let inherited = fs::read_to_string(&seen).unwrap();
    assert!(
        inherited.contains("PATH=")
            && !inherited.contains("NOTIFY_SOCKET")
            && !inherited.contains("WATCHDOG")
    );
    let network = fs::read(format!("/proc/{}/environ", nanoprobe.network())).unwrap();
    assert!(!String::from_utf8_lossy(&network).contains("NOTIFY_SOCKET"));

    assert!(manager.hear(Duration::from_secs(3)).await.matches("WATCHDOG=1").count() >= 2);
    // One process alone is not enough.
    send(nanoprobe.network(), Signal::STOP);
    let start = Instant::now();
    while manager.hear(Duration::from_secs(3)).await.contains("WATCHDOG=1") {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the watchdog is fed though the network process hangs"
        );
    }
    // It is killed, and another one takes its place.
    manager.until("WATCHDOG=1").await;
    nanoprobe.signal(Signal::HUP);
    let reload = manager.until("READY=1").await;
    assert!(reload.contains("RELOADING=1") && reload.contains("MONOTONIC_USEC="), "{reload}");
    nanoprobe.signal(Signal::TERM);
    manager.until("STOPPING=1").await;
    assert!(nanoprobe.end().await.success());
}

#[tokio::test]
async fn settings_are_read_again_all_or_none() {
    let (site, manager) = (Site::new(), Manager::new());
    let (first, second) = (site.cma(None), site.cma(None));
    let file = site.root().join("etc/assimilation/nanoprobe.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let write = |text: &str| fs::write(&file, text).unwrap();
    write(&format!("cmaaddr = [\"{}\"]\n", first.address));
    let environment = [("NOTIFY_SOCKET", manager.path.as_str())];
    let nanoprobe = started(&site, &[], &environment);
    site.until("the first report", |store| crate::days(store, 1)).await;
    let network = nanoprobe.network();
    let place = site.store.lock().unwrap().registered.unwrap().0;

    // One word is wrong, so nothing holds.
    write(&format!("cmaaddr = [\"{}\"]\nttll = 3\n", second.address));
    drop(first);
    nanoprobe.signal(Signal::HUP);
    manager.until("settings not used").await;
    assert!(site.log().contains("ttll") && site.log().contains("line 2"), "{}", site.log());
    let registrations = site.store.lock().unwrap().registrations;

    // By name: the network process has not lost what a resolver reads.
    write(&format!("cmaaddr = [\"localhost:{}\"]\n", second.address.port()));
    nanoprobe.signal(Signal::HUP);
    site.until("a registration with the other CMA", |store| store.registrations > registrations).await;
    assert_eq!(nanoprobe.network(), network, "no new socket is needed for that");
    site.write_login_defs(2);
    site.until("a change", |store| crate::days(store, 2)).await;

    write(&format!("cmaaddr = [\"{}\"]\nkeepalive = true\n", second.address));
    nanoprobe.signal(Signal::HUP);
    let registrations = site.store.lock().unwrap().registrations;
    site.until("a registration by another network process", |store| store.registrations > registrations)
        .await;
    assert_ne!(nanoprobe.network(), network);
    assert_eq!(site.store.lock().unwrap().registered.unwrap().0, place, "at the port of before");
    assert_eq!(site.store.lock().unwrap().gaps, 0);
}

//! The whole agent as a process, against a small CMA on the loopback interface.

mod heartbeats;
mod monitoring;
mod processes;
mod rig;
mod service;

use rig::{Site, Store, call};
use rustix::process::Signal;
use std::time::Duration;
use wire::endpoint::{CloseReason, Endpoint, EndpointConfig, Lost};
use wire::keys::KeyPair;

const LOGIN_DEFS: &str = "_init_login_defs";

fn days(store: &Store, days: u32) -> bool {
    store.last(LOGIN_DEFS).is_some_and(|document| document["data"]["PASS_MAX_DAYS"] == days)
}

#[tokio::test]
async fn a_change_arrives_at_once_and_a_stop_is_told() {
    let site = Site::new();
    let cma = site.cma(None);
    let mut nanoprobe = site.nanoprobe(cma.address);
    site.until("the first report", |store| days(store, 1)).await;
    // Let the initial runs end, so that the time below is that of a trigger.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid_file = site.root().join("var/run/nanoprobe");
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap().trim(), nanoprobe.pid().to_string());
    assert_eq!(site.store.lock().unwrap().count(LOGIN_DEFS), 1);
    site.write_login_defs(2);
    let took = site.until("the change", |store| days(store, 2)).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    eprintln!("a change took {took:?} from file to commit");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(site.store.lock().unwrap().count(LOGIN_DEFS), 2, "one change, one report");
    nanoprobe.signal(Signal::TERM);
    assert!(nanoprobe.end().await.success());
    assert_eq!(site.store.lock().unwrap().goodbyes, ["HBSHUTDOWN"]);
    assert!(!pid_file.exists());
    assert!(site.log().contains("acknowledged="), "{}", site.log());
}

#[tokio::test]
async fn what_was_found_without_a_cma_survives_a_kill_and_arrives_once() {
    let site = Site::new();
    let place = site.cma(None).address;
    let nanoprobe = site.nanoprobe(place);
    let queued = || std::fs::read_dir(site.queue()).map_or(0, |files| files.count());
    let start = std::time::Instant::now();
    while queued() < 5 {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", site.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    nanoprobe.kill();
    let cma = site.cma(Some(place));
    let nanoprobe = site.nanoprobe(cma.address);
    site.until("the queue", |store| days(store, 1)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.store.lock().unwrap().count(LOGIN_DEFS), 1);
    // The CMA restarts: same keys, same address, same store.
    drop(cma);
    tokio::time::sleep(Duration::from_millis(200)).await;
    site.write_login_defs(7);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let _cma = site.cma(Some(place));
    site.until("the change after the restart", |store| days(store, 7)).await;
    let store = site.store.lock().unwrap();
    assert_eq!((store.count(LOGIN_DEFS), store.gaps), (2, 0));
    drop(nanoprobe);
}

#[tokio::test]
async fn kills_at_any_moment_lose_nothing_and_repeat_nothing() {
    let site = Site::new();
    let cma = site.cma(None);
    for round in 2..12u32 {
        site.write_login_defs(round);
        let nanoprobe = site.nanoprobe(cma.address);
        tokio::time::sleep(Duration::from_millis(u64::from(round * 977 % 1300))).await;
        site.write_login_defs(100 + round);
        tokio::time::sleep(Duration::from_millis(u64::from(round * 313 % 400))).await;
        nanoprobe.kill();
    }
    let _last = site.nanoprobe(cma.address);
    site.until("the last change", |store| days(store, 111)).await;
    let store = site.store.lock().unwrap();
    assert_eq!(store.gaps, 0);
    for pair in store.reports.iter().filter(|(name, _)| name == LOGIN_DEFS).collect::<Vec<_>>().windows(2) {
        assert_ne!(pair[0].1, pair[1].1, "the same document twice in a row");
    }
}

#[tokio::test]
async fn the_cma_configures_asks_again_and_is_obeyed_after_a_restart() {
    let site = Site::new();
    let cma = site.cma(None);
    let nanoprobe = site.nanoprobe(cma.address);
    site.until("the first report", |store| days(store, 1)).await;
    // Until the acknowledgement is on disk, too.
    tokio::time::sleep(Duration::from_secs(1)).await;
    nanoprobe.kill();
    {
        let mut store = site.store.lock().unwrap();
        store.config = Some(r#"{"domain":"lab","discovery":{"agents":{"os":{"enabled":false}}}}"#.into());
        store.wanted = vec![LOGIN_DEFS.into()];
    }
    let nanoprobe = site.nanoprobe(cma.address);
    site.until("the wanted document again", |store| store.count(LOGIN_DEFS) == 2).await;
    let gone =
        |store: &Store| store.reports.iter().any(|(name, document)| name == "_init_os" && document.is_none());
    site.until("the end of a discovery", gone).await;
    assert!(site.store.lock().unwrap().known.iter().any(|instance| instance == LOGIN_DEFS));
    nanoprobe.kill();
    // Without the configuration of the CMA this one would report the instance again.
    let registrations = site.store.lock().unwrap().registrations;
    site.store.lock().unwrap().config = None;
    let _nanoprobe = site.nanoprobe(cma.address);
    site.until("a registration", |store| store.registrations > registrations).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(site.store.lock().unwrap().last("_init_os").is_none());
}

#[tokio::test]
async fn what_the_cma_asks_for_while_it_is_looked_at_arrives() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let directory = site.root().join("etc/assimilation/discovery_agents.d");
    std::fs::create_dir_all(&directory).unwrap();
    let (slow, started, go) = (site.host().join("slow"), site.host().join("started"), site.host().join("go"));
    let script = format!(
        "#!/bin/sh\nif [ -e {} ]; then\ntouch {}\ni=0\nwhile [ ! -e {} ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); \
         done\nfi\necho '{{\"discovertype\":\"mine\",\"data\":{{\"x\":1}}}}'\n",
        slow.display(),
        started.display(),
        go.display()
    );
    let path = directory.join("mine");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let cma = site.cma(None);
    let place = cma.address;
    let nanoprobe = site.nanoprobe(place);
    site.until("the first report", |store| store.count("_init_mine") == 1).await;
    // Until the acknowledgement is on disk, too.
    tokio::time::sleep(Duration::from_secs(1)).await;
    nanoprobe.kill();
    drop(cma);
    std::fs::write(slow, "").unwrap();
    site.store.lock().unwrap().wanted = vec!["_init_mine".into()];
    let _nanoprobe = site.nanoprobe(place);
    let start = std::time::Instant::now();
    while !started.exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", site.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The run began with the CMA as it was believed to be: it has this very document.
    let registrations = site.store.lock().unwrap().registrations;
    let _cma = site.cma(Some(place));
    site.until("a registration", |store| store.registrations > registrations).await;
    // Until the answer is read.
    tokio::time::sleep(Duration::from_millis(500)).await;
    std::fs::write(go, "").unwrap();
    site.until("the wanted document", |store| store.count("_init_mine") == 2).await;
}

#[tokio::test]
async fn a_call_of_the_cma_brings_a_resting_nanoprobe_and_one_of_a_stranger_does_not() {
    let site = Site::new();
    let cma = site.cma(None);
    let place = cma.address;
    let _nanoprobe = site.nanoprobe(place);
    site.until("the first report", |store| days(store, 1) && store.last("_init_os").is_some()).await;
    // Until the acknowledgements are there and nothing is left to say.
    tokio::time::sleep(Duration::from_secs(3)).await;
    cma.close().await;
    let agents = r#"{"discovery":{"agents":{"os":{"enabled":false}}}}"#;
    site.store.lock().unwrap().config = Some(agents.into());
    let cma = site.cma(Some(place));
    let registrations = || site.store.lock().unwrap().registrations;
    let before = registrations();
    let nanoprobe = site.store.lock().unwrap().registered.unwrap();

    let config = EndpointConfig {
        bind: "127.0.0.1:0".parse().unwrap(),
        join: None,
        ..EndpointConfig::cma(KeyPair::generate().unwrap())
    };
    let (stranger, _inbox) = Endpoint::bind(config).unwrap();
    let refused = call(&stranger, nanoprobe).await;
    assert!(matches!(refused, Lost::Other(_)), "{refused:?}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(registrations(), before, "nothing to say, and not called by its CMA");

    assert_eq!(cma.call(nanoprobe).await, Lost::Closed(CloseReason::CallsBack));
    let gone =
        |store: &Store| store.reports.iter().any(|(name, document)| name == "_init_os" && document.is_none());
    let took = site.until("the new configuration", gone).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(registrations(), before + 1);

    // A CMA that calls while the nanoprobe believes to be connected has lost that connection.
    assert_eq!(cma.call(nanoprobe).await, Lost::Closed(CloseReason::CallsBack));
    site.until("another registration", |store| store.registrations == before + 2).await;
    site.write_login_defs(5);
    site.until("a change after that", |store| days(store, 5)).await;
    assert_eq!(site.store.lock().unwrap().gaps, 0);
}

#[tokio::test]
async fn an_executable_comes_and_goes() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let cma = site.cma(None);
    let _nanoprobe = site.nanoprobe(cma.address);
    site.until("the first report", |store| days(store, 1)).await;
    let directory = site.root().join("etc/assimilation/discovery_agents.d");
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("mine");
    std::fs::write(
        directory.join(".mine"),
        "#!/bin/sh\necho '{\"discovertype\":\"mine\",\"data\":{\"x\":1}}'\n",
    )
    .unwrap();
    std::fs::set_permissions(directory.join(".mine"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(directory.join(".mine"), &path).unwrap();
    site.until("its report", |store| {
        store.last("_init_mine").is_some_and(|document| document["data"]["x"] == 1)
    })
    .await;
    std::fs::remove_file(path).unwrap();
    let gone = |store: &Store| {
        store.reports.iter().any(|(name, document)| name == "_init_mine" && document.is_none())
    };
    site.until("its end", gone).await;
}

#[tokio::test]
async fn without_a_state_directory_changes_still_arrive_and_the_log_says_what_to_do() {
    let site = Site::new();
    let cma = site.cma(None);
    let state = site.queue().parent().unwrap().to_owned();
    std::fs::create_dir_all(state.parent().unwrap()).unwrap();
    std::fs::write(&state, "in the way").unwrap();
    let _nanoprobe = site.nanoprobe(cma.address);
    site.until("the first report", |store| days(store, 1)).await;
    site.write_login_defs(2);
    site.until("the change", |store| days(store, 2)).await;
    assert!(site.log().contains("cannot be written") && site.log().contains("free space"), "{}", site.log());
    assert_eq!(site.store.lock().unwrap().gaps, 0);
    // Back again: from now on the queue is on disk.
    std::fs::remove_file(&state).unwrap();
    let start = std::time::Instant::now();
    while !site.queue().is_dir() {
        assert!(start.elapsed() < Duration::from_secs(25), "{}", site.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    site.write_login_defs(3);
    site.until("the change after that", |store| days(store, 3)).await;
    assert_eq!(site.store.lock().unwrap().gaps, 0);
}

#[tokio::test]
async fn a_broken_executable_is_reported_once_with_its_last_data() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let directory = site.root().join("etc/assimilation/discovery_agents.d");
    std::fs::create_dir_all(&directory).unwrap();
    let flag = site.host().join("broken");
    let path = directory.join("mine");
    let script = format!(
        "#!/bin/sh\n[ -e {} ] && exit 9\necho '{{\"discovertype\":\"mine\",\"data\":{{\"x\":1}}}}'\n",
        flag.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let agents = r#"{"discovery":{"agents":{"mine":{"repeat":1}}}}"#;
    site.store.lock().unwrap().config = Some(agents.into());
    let cma = site.cma(None);
    let _nanoprobe = site.nanoprobe(cma.address);
    site.until("its report", |store| store.last("_init_mine").is_some()).await;
    std::fs::write(flag, "").unwrap();
    let failed =
        |store: &Store| store.last("_init_mine").is_some_and(|document| document["errors"].is_array());
    site.until("the failure", failed).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let store = site.store.lock().unwrap();
    let document = store.last("_init_mine").unwrap();
    assert_eq!(document["data"]["x"], 1, "{document}");
    assert!(document["errors"][0].as_str().unwrap().contains('9'), "{document}");
    assert_eq!(store.count("_init_mine"), 2, "the same failure again is no change");
}

#[tokio::test]
async fn without_events_of_files_they_are_polled_until_there_are_events_again() {
    let site = Site::new();
    let journald = |storage: &str| {
        let path = site.host().join("etc/systemd/journald.conf");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = path.with_extension("new");
        std::fs::write(&new, format!("[Journal]\nStorage={storage}\n")).unwrap();
        std::fs::rename(new, path).unwrap();
    };
    let told = |store: &Store, storage: &str| {
        store
            .last("_init_journald_conf")
            .is_some_and(|document| document["data"]["Journal"]["Storage"] == storage)
    };
    journald("auto");
    // Its own rhythm is a quarter of an hour, which only a nanoprobe that polls shortens to that of all.
    let polling = r#"{"discovery":{"triggers":false,"repeat":3,"cpu_budget_percent":0}}"#;
    site.store.lock().unwrap().config = Some(polling.into());
    let cma = site.cma(None);
    let nanoprobe = site.nanoprobe(cma.address);
    site.until("the first report", |store| told(store, "auto")).await;
    site.until("the end of the watches", |_| nanoprobe.watches() == 0).await;
    journald("persistent");
    site.until("a change, by polling", |store| told(store, "persistent")).await;
    assert_eq!(nanoprobe.watches(), 0);

    let watching = r#"{"discovery":{"triggers":true,"repeat":3600,"cpu_budget_percent":0}}"#;
    site.store.lock().unwrap().config = Some(watching.into());
    let place = site.store.lock().unwrap().registered.unwrap();
    cma.call(place).await;
    // Files are watched after a run; the directory of this one among others.
    site.until("watches", |_| nanoprobe.watches() > 5).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    journald("volatile");
    site.until("a change, by an event", |store| told(store, "volatile")).await;
    assert_eq!(site.store.lock().unwrap().gaps, 0);
}

#[tokio::test]
async fn a_replaced_program_is_summed_again_at_once() {
    const CHECKSUMS: &str = "_auto_checksumdiscovery";
    let site = Site::new();
    let program = site.host().join("opt/program");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::write(&program, "one").unwrap();
    // The first run is minutes away, but other parameters than before are a reason to run now.
    let named = r#"{"discovery":{"agents":{"checksums":{"parameters":{"ASSIM_filelist":"/opt/program"}}}}}"#;
    site.store.lock().unwrap().config = Some(named.into());
    let cma = site.cma(None);
    let _nanoprobe = site.nanoprobe(cma.address);
    // SHA-256 of "one" and of "two", as sha256sum tells them.
    let one = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    let two = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";
    let told = |store: &Store, sum: &str| {
        store.last(CHECKSUMS).is_some_and(|document| document["data"]["/opt/program"] == sum)
    };
    site.until("its sum", |store| told(store, one)).await;
    let new = program.with_extension("new");
    std::fs::write(&new, "two").unwrap();
    std::fs::rename(new, &program).unwrap();
    site.until("the sum of the other", |store| told(store, two)).await;
    assert_eq!(site.store.lock().unwrap().count(CHECKSUMS), 2, "one change, one report");
}

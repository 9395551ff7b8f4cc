//! The whole program below a root of its own.

use crate::site::{Agent, Site, host, runtime, wait_for};
use model::message::{FromCma, RefusedReason};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};
use wire::keys::KeyDirectory;

const MARTIANS: &str = "net.ipv4.conf.all.log_martians";
const TRANSITIONS: usize = 200;

#[test]
fn every_transition_reaches_the_script_across_kills() {
    let site = Site::create();
    site.script("log", "echo \"$ASSIM_eventid $1 ${ASSIM_ruleid:-none}\" >> @/alerts");
    let mut agent = Agent::new(&site, "web1");
    for i in 0..TRANSITIONS {
        agent.queue(json!({MARTIANS: i % 2, "n": i}));
    }
    let seed = std::process::id();
    println!("seed {seed}");
    let mut random = u64::from(seed);
    let mut cma = site.start(&[]);
    let sending = std::thread::spawn(move || runtime().block_on(agent.deliver(3)));
    let mut kills = 0;
    while kills < 8 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(50 + (random >> 33) % 400));
        cma.0.kill().unwrap();
        cma.0.wait().unwrap();
        kills += 1;
        cma = site.start(&[]);
    }
    sending.join().unwrap();
    wait_for("the outbox to be empty", 120, || (site.get("/v1/status")["outbox"] == 0).then_some(()));

    let stored = site.get("/v1/events?limit=10000");
    let stored: Vec<(String, String)> = stored
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                entry["event"]["eventid"].as_str().unwrap().to_owned(),
                entry["event"]["eventtype"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let alerts = site.read("alerts");
    let lines: Vec<Vec<&str>> = alerts.lines().map(|line| line.split(' ').collect()).collect();
    let delivered: BTreeSet<&str> = lines.iter().map(|line| line[0]).collect();
    assert_eq!(
        delivered,
        stored.iter().map(|(id, _)| id.as_str()).collect(),
        "every event, and no other id, was delivered"
    );
    let mut first_seen = BTreeMap::new();
    for (position, line) in lines.iter().enumerate().filter(|(_, line)| line[2] == "nist_V-38528") {
        first_seen.entry(line[0]).or_insert((position, line[1]));
    }
    let mut in_order: Vec<(usize, &str)> = first_seen.into_values().collect();
    in_order.sort_unstable();
    assert_eq!(in_order.len(), TRANSITIONS);
    let expected: Vec<&str> = (0..TRANSITIONS).map(|i| if i % 2 == 0 { "warn" } else { "unwarn" }).collect();
    assert_eq!(
        in_order.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(),
        expected,
        "in the order in which they happened"
    );
    // At most the delivery under way is repeated at each kill.
    assert!(lines.len() <= delivered.len() + kills, "{} lines for {} events", lines.len(), delivered.len());
}

#[test]
fn the_api_tells_what_happened() {
    let site = Site::create();
    site.script("10-ok", "cat > @/input; echo thanks");
    let mut cma = site.start(&[]);
    let mut agent = Agent::new(&site, "Web1");
    agent.queue(json!({MARTIANS: 0}));
    runtime().block_on(agent.deliver(1));

    let status = site.get("/v1/status");
    assert_eq!((&status["bind"], &status["hosts"]), (&json!(site.address.to_string()), &json!(1)));
    assert_eq!(status["pid"], cma.0.id());
    assert!(status["problems"].to_string().contains("off-line"), "both CMA secrets are here: {status}");
    let hosts = site.get("/v1/hosts");
    assert_eq!(hosts[0]["designation"], "web1");
    assert_eq!(hosts[0]["scores"]["security"], 1.0);
    assert_eq!(
        (&hosts[0]["key"], &hosts[0]["rejected_key"]),
        (&json!(agent.public().fingerprint()), &Value::Null)
    );
    let keys = KeyDirectory::open(site.paths.crypto()).unwrap();
    assert_eq!(keys.pinned(&host("web1")).unwrap()[0].1, agent.public());

    let results = site.get("/v1/results?host=web1&status=fail");
    assert_eq!(results.as_array().unwrap().len(), 1, "{results}");
    assert_eq!(
        (&results[0]["rule_id"], &results[0]["values"][MARTIANS]),
        (&json!("nist_V-38528"), &json!(0))
    );
    assert!(results[0]["fix_now"].as_str().unwrap().contains("sysctl"), "{results}");
    let events = site.get("/v1/events?after=0");
    let types: Vec<&str> =
        events.as_array().unwrap().iter().map(|e| e["event"]["eventtype"].as_str().unwrap()).collect();
    assert_eq!(types, ["up", "warn", "warn"]);
    assert_eq!(site.get("/v1/events?newest=true&limit=1")[0]["sequence"], events[2]["sequence"]);
    let table = site.request("POST", "/v1/sql", Some(json!({"sql": "SELECT host FROM hosts"}))).1;
    assert_eq!(table, json!({"columns": ["host"], "rows": [["web1"]], "truncated": false}));
    assert_eq!(
        site.get("/v1/history?host=web1&instance=_auto_proc_sys&fact=net.ipv4.conf.all.log_martians"),
        json!({"value": 0})
    );
    assert_eq!(site.get("/v1/history?host=web1")[0]["instance"], "_auto_proc_sys");
    assert_eq!(site.get("/v1/history?host=web1&rule=nist_V-38528")[0]["status"], "fail");
    let queries = site.get("/v1/queries");
    assert!(queries.as_array().unwrap().iter().any(|query| query["name"] == "list"), "{queries}");
    let listed = site.request("POST", "/v1/query/list", Some(json!({}))).1;
    assert_eq!(listed["templates"]["script"], "${name}");
    let sets = site.get("/v1/rules");
    assert!(sets["sets"][0]["rules"].as_array().unwrap().len() >= 74, "{}", sets["problems"]);

    wait_for("the real alerts to be out", 30, || (site.get("/v1/status")["outbox"] == 0).then_some(()));
    let (code, tested) = site.request("POST", "/v1/notify/test", Some(json!({"event": "down"})));
    assert_eq!(code, 200);
    assert_eq!(
        (&tested[0]["channel"], &tested[0]["result"], &tested[0]["detail"]),
        (&json!("scripts"), &json!("ok"), &json!("thanks"))
    );
    assert_eq!((&tested[1]["channel"], &tested[1]["result"]), (&json!("syslog"), &json!("skipped")));
    let input: Value = serde_json::from_str(&site.read("input")).unwrap();
    assert_eq!((&input["eventtype"], &input["extrainfo"]["test"]), (&json!("down"), &json!(true)));

    for (method, path, body, code) in [
        ("POST", "/v1/sql", json!({"sql": "DELETE FROM host"}), 400),
        ("POST", "/v1/sql", json!({"sqll": "x"}), 400),
        ("POST", "/v1/query/nonsense", json!({}), 404),
        ("POST", "/v1/notify/test", json!({"event": "boom"}), 400),
        ("POST", "/v1/hosts/web1/accept-key", json!({}), 409),
        ("DELETE", "/v1/hosts/nobody", json!({}), 404),
        ("GET", "/v1/events?sinc=x", json!({}), 400),
        ("GET", "/v1/events?since=x", json!({}), 400),
        ("GET", "/v1/results?status=bad", json!({}), 400),
        ("GET", "/v1/nothing", json!({}), 404),
    ] {
        let (got, answer) = site.request(method, path, Some(body));
        assert!(answer["error"].is_string() && answer["hint"].is_string(), "{path}: {answer}");
        assert!(got == code || (code == 400 && got == 422), "{path}: {got} {answer}");
    }

    let waiting = std::thread::scope(|scope| {
        let last = events[2]["sequence"].as_i64().unwrap();
        let site = &site;
        let poll = scope.spawn(move || site.get(&format!("/v1/events?after={last}&wait=30")));
        std::thread::sleep(Duration::from_millis(300));
        runtime().block_on(agent.goodbye());
        poll.join().unwrap()
    });
    assert_eq!(
        (&waiting[0]["event"]["eventtype"], &waiting[0]["event"]["associatedobject"]["reason"]),
        (&json!("down"), &json!("HBSHUTDOWN"))
    );

    kill_process(Pid::from_raw(cma.0.id() as i32).unwrap(), Signal::TERM).unwrap();
    let ended = wait_for("the CMA to stop", 30, || cma.0.try_wait().unwrap());
    assert!(ended.success(), "{ended}: {}", site.read("log"));
    assert!(!site.paths.cma_socket().exists() && !site.paths.run().join("cma.json").exists());
}

#[test]
fn a_second_host_with_the_same_name_is_refused_until_it_is_accepted() {
    let site = Site::create();
    let _cma = site.start(&[]);
    let (first, second) = (Agent::new(&site, "web1"), Agent::new(&site, "web1"));
    runtime().block_on(first.deliver(1));
    let dial = |agent: &Agent| runtime().block_on(agent.dial()).map(|(_, _, _, answer)| answer).unwrap();
    let FromCma::Refused(refused) = dial(&second) else { panic!("taken") };
    assert_eq!(refused.reason, RefusedReason::KeyMismatch);
    assert_eq!(site.get("/v1/hosts")[0]["rejected_key"], second.public().fingerprint());
    assert_eq!(site.request("POST", "/v1/hosts/web1/accept-key", None), (200, json!({})));
    assert!(matches!(dial(&second), FromCma::Welcome(_)));
    assert!(matches!(dial(&first), FromCma::Refused(_)));
    let keys = KeyDirectory::open(site.paths.crypto()).unwrap();
    let pinned: Vec<_> = keys.pinned(&host("web1")).unwrap().into_iter().map(|(_, key)| key).collect();
    assert_eq!(pinned, [second.public()]);
    assert_eq!(site.request("DELETE", "/v1/hosts/web1", None), (200, json!({})));
    assert_eq!(site.get("/v1/hosts"), json!([]));
}

#[test]
fn a_reload_applies_new_rules_and_tells_connected_hosts() {
    let site = Site::create();
    let cma = site.start(&[]);
    let mut agent = Agent::new(&site, "web1");
    agent.queue(json!({MARTIANS: 0}));
    runtime().block_on(agent.deliver(1));
    let off = site.paths.site("best_practices").join("LAB");
    fs::create_dir_all(&off).unwrap();
    fs::write(
        off.join("set.toml"),
        "description = \"d\"\nbased_on = \"BASE\"\n[ignore]\nnist_V-38528 = \"noisy network\"\n",
    )
    .unwrap();
    fs::write(site.paths.cma_config(), "[rules.by_domain]\nglobal = \"LAB\"\n").unwrap();
    runtime().block_on(async {
        let (_endpoint, _writer, mut reader, answer) = agent.dial().await.unwrap();
        assert!(matches!(answer, FromCma::Welcome(_)));
        let (code, changes) = site.request("POST", "/v1/rules/reload", None);
        assert_eq!((code, &changes["reevaluating"]), (200, &json!(true)), "{changes}");
        fs::write(site.paths.cma_config(), "[discovery]\nrepeat = 7\n[rules.by_domain]\nglobal = \"LAB\"\n")
            .unwrap();
        kill_process(Pid::from_raw(cma.0.id() as i32).unwrap(), Signal::HUP).unwrap();
        let told = reader.read_within::<FromCma>(1 << 20, Duration::from_secs(20)).await.unwrap();
        assert!(matches!(&told, Some(FromCma::Configure(c)) if c.json.contains("\"repeat\":7")), "{told:?}");
    });
    wait_for("the rule to be ignored", 30, || {
        (site.get("/v1/results?host=web1&status=ignore") != json!([])).then_some(())
    });
    let events = site.get("/v1/events?after=3");
    assert_eq!(
        (&events[0]["event"]["eventtype"], &events[0]["event"]["extrainfo"]["ruleid"]),
        (&json!("unwarn"), &json!("nist_V-38528"))
    );
    fs::write(site.paths.cma_config(), "repeatt = 1\n").unwrap();
    let (code, answer) = site.request("POST", "/v1/rules/reload", None);
    assert!(code == 400 && answer["error"].as_str().unwrap().contains("repeatt"), "{answer}");
}

#[test]
fn usage_and_start_errors_name_what_is_wrong() {
    let site = Site::create();
    let refused = |arguments: &[&str], word: &str| {
        let output = site.output(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?}: {text}");
    };
    refused(&["--bindd", "x"], "--bindd");
    refused(&["--bind", "nonsense"], "nonsense");
    refused(&["--store", "postgres://h/d"], "not built");
    refused(
        &["--user", "no-such-user-at-all", "--bind", "127.0.0.1:0"],
        if rustix::process::geteuid().is_root() { "useradd" } else { "" },
    );
    assert_eq!(site.output(&["--status"]).status.code(), Some(3));
    let _cma = site.start(&[]);
    assert_eq!(site.output(&["--status"]).status.code(), Some(0));
    refused(&["--bind", "127.0.0.1:0", "--user", "root"], "already running");
    assert_eq!(site.output(&["--kill"]).status.code(), Some(0));
    assert_eq!(site.output(&["--status"]).status.code(), Some(3));
    for file in fs::read_dir(site.paths.crypto()).unwrap().flatten() {
        fs::remove_file(file.path()).unwrap();
    }
    refused(&["--bind", "127.0.0.1:0", "--user", "root"], "assimcli genkeys");
}

#[test]
fn healthz_tells_whether_commits_work() {
    let site = Site::create();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let web = format!("127.0.0.1:{port}");
    let _cma = site.start(&["--web", &web][..]);
    let begun = Instant::now();
    let mut stream = std::net::TcpStream::connect(&web).unwrap();
    use std::io::{Read, Write};
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn erasedb_starts_afresh_and_hosts_may_bring_new_keys() {
    let site = Site::create();
    let cma = site.start(&[]);
    runtime().block_on(Agent::new(&site, "web1").deliver(1));
    drop(cma);
    for file in fs::read_dir(site.paths.crypto()).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("web1@@") {
            fs::remove_file(file.path()).unwrap();
        }
    }
    drop(site.start(&[]));
    let keys = KeyDirectory::open(site.paths.crypto()).unwrap();
    assert_eq!(
        keys.pinned(&host("web1")).unwrap().len(),
        1,
        "a file that is missing is written again at the start"
    );
    let _cma = site.start(&["--erasedb"]);
    assert_eq!((site.get("/v1/hosts"), site.get("/v1/events")), (json!([]), json!([])));
    let new = Agent::new(&site, "web1");
    runtime().block_on(new.deliver(1));
    assert_eq!(keys.pinned(&host("web1")).unwrap()[0].1, new.public());
}

//! Groups of hosts and settings that are read again, by the whole program.

use crate::site::{Agent, Running, Site, runtime, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;

const RULE: &str = "nist_V-38528";
const GROUPS: &str = r#"
[groups.asked]
query = "SELECT host FROM documents WHERE document ->> '$.data.n' = 1"
[groups.tagged]
tags = ["lenient"]
[groups.all]
groups = ["asked", "tagged"]
[domains.lab]
tags = ["lenient"]
[rules.by_group]
all = "LAB"
"#;

/// A site whose set LAB does not mind what web1 does.
fn site() -> Site {
    let site = Site::create();
    let lab = site.paths.site("best_practices").join("LAB");
    fs::create_dir_all(&lab).unwrap();
    let set = format!("description = \"d\"\nbased_on = \"BASE\"\n[ignore]\n{RULE} = \"noisy network\"\n");
    fs::write(lab.join("set.toml"), set).unwrap();
    site
}

fn values(n: i64) -> Value {
    json!({"net.ipv4.conf.all.log_martians": 0, "n": n})
}

fn hang_up(cma: &Running) {
    kill_process(Pid::from_raw(cma.0.id().cast_signed()).unwrap(), Signal::HUP).unwrap();
}

fn wait_for_status(site: &Site, status: &str) {
    wait_for(&format!("the rule to be {status}"), 60, || {
        let rows = site.get(&format!("/v1/results?host=web1&rule={RULE}"));
        (rows[0]["status"] == status).then_some(())
    });
}

/// The texts of events of this kind.
fn told(site: &Site, kind: &str, is_one: impl Fn(&Value) -> bool) -> Vec<String> {
    let events = site.get("/v1/events?limit=1000");
    let all = events.as_array().unwrap().iter().map(|entry| &entry["event"]);
    let of_kind = all.filter(|event| event["eventtype"] == kind && is_one(event));
    of_kind.map(|event| event["extrainfo"]["text"].as_str().unwrap_or("").to_owned()).collect()
}

fn moves(site: &Site) -> Vec<String> {
    told(site, "update", |event| event["extrainfo"]["CHANGETYPE"] == "groups")
}

#[test]
fn what_a_host_reports_and_its_tags_decide_its_rules() {
    let site = site();
    fs::write(site.paths.cma_config(), GROUPS).unwrap();
    let mut cma = site.start(&[]);
    let mut agent = Agent::new(&site, "web1");
    agent.queue(values(0));
    runtime().block_on(agent.deliver(1));
    wait_for_status(&site, "fail");
    assert_eq!(
        site.get("/v1/groups")["groups"][0],
        json!({"group": "all", "hosts": [], "uses": ["rules LAB"]})
    );

    agent.queue(values(1));
    runtime().block_on(agent.deliver(1));
    wait_for_status(&site, "ignore");
    wait_for("the event", 30, || (moves(&site).len() == 1).then_some(()));
    assert_eq!(moves(&site), ["came into the groups all (group asked), asked (query)"]);

    // Nothing is forgotten, and nothing is told again.
    cma.0.kill().unwrap();
    cma.0.wait().unwrap();
    cma = site.start(&[]);
    assert_eq!(site.get("/v1/groups")["groups"][1]["hosts"][0]["host"], "web1");
    wait_for_status(&site, "ignore");

    agent.queue(values(2));
    runtime().block_on(agent.deliver(1));
    wait_for_status(&site, "fail");
    wait_for("the second event", 30, || (moves(&site).len() == 2).then_some(()));
    assert_eq!(moves(&site)[1], "left the groups all, asked");

    let (code, answer) =
        site.request("POST", "/v1/hosts/web1/tags", Some(json!({"add": ["lenient"], "remove": []})));
    assert_eq!(code, 200, "{answer}");
    wait_for_status(&site, "ignore");
    wait_for("the domain", 30, || (site.get("/v1/hosts")[0]["domain"] == "lab").then_some(()));
    let text = "came into the groups all (group tagged), tagged (tag lenient) and moved from the domain global to lab";
    wait_for("the third event", 30, || (moves(&site).last().is_some_and(|last| last == text)).then_some(()));

    // What the administrator changes is no news to him.
    fs::write(site.paths.cma_config(), "[groups]\nall = [\"web1\"]\n").unwrap();
    hang_up(&cma);
    wait_for_status(&site, "fail");
    wait_for("the new members", 30, || {
        let groups = &site.get("/v1/groups")["groups"];
        (groups.as_array().unwrap().len() == 1 && groups[0]["hosts"][0]["why"] == "name web1").then_some(())
    });
    assert_eq!(moves(&site).len(), 3, "{:?}", moves(&site));
}

#[test]
fn a_bad_file_keeps_all_old_settings_and_is_told_once() {
    let site = site();
    fs::write(site.paths.cma_config(), "[rules.by_domain]\nglobal = \"LAB\"\n").unwrap();
    let cma = site.start(&[]);
    let mut agent = Agent::new(&site, "web1");
    agent.queue(values(0));
    runtime().block_on(agent.deliver(1));
    wait_for_status(&site, "ignore");
    let problems = || site.get("/v1/status")["problems"].to_string();
    let warned = |kind| told(&site, kind, |event| event["extrainfo"]["reason"] == "configuration");

    // Good in one place and bad in another: neither counts.
    let bad = "[discovery]\nrepeat = 7\n[groups.a]\nquery = \"SELECT nothing FROM nowhere\"\n";
    fs::write(site.paths.cma_config(), bad).unwrap();
    for _ in 0..2 {
        let (code, answer) = site.request("POST", "/v1/rules/reload", None);
        let error = answer["error"].as_str().unwrap();
        assert!(
            code == 400 && error.contains("line 4: groups.a.query") && error.contains("nowhere"),
            "{answer}"
        );
    }
    assert!(problems().contains("keeps its old settings"), "{}", problems());
    assert_eq!(warned("warn").len(), 1, "{:?}", warned("warn"));
    assert!(site.read("log").contains("the old one stays"));
    assert_eq!(site.get("/v1/rules")["by_domain"]["global"], "LAB");
    assert_eq!(site.get("/v1/groups")["groups"], json!([]));
    wait_for_status(&site, "ignore");

    let mended = "web = \"127.0.0.1:9\"\ndebug = 1\n[rules.by_domain]\nglobal = \"BASE\"\n";
    fs::write(site.paths.cma_config(), mended).unwrap();
    hang_up(&cma);
    wait_for_status(&site, "fail");
    wait_for("the end of the warning", 30, || (warned("unwarn").len() == 1).then_some(()));
    assert!(!problems().contains("keeps its old settings"), "{}", problems());
    // The flag --web beats the file, so there is nothing to restart for; the level is another at once.
    assert!(!problems().contains("restart"), "{}", problems());
    wait_for("the log level", 30, || site.read("log").contains("log level changed").then_some(()));
    fs::write(site.paths.cma_config(), format!("user = \"nobody\"\nstore = \"sqlite:/x\"\n{mended}"))
        .unwrap();
    let (code, answer) = site.request("POST", "/v1/rules/reload", None);
    assert_eq!(code, 200, "{answer}");
    assert!(answer["restart"].as_str().unwrap().contains("→ /x"), "{answer}");
    assert!(problems().contains("restart the CMA"), "{}", problems());
}

#[test]
fn the_file_is_checked_and_printed_without_a_cma() {
    let site = Site::create();
    let output = |arguments: &[&str]| {
        let output = site.output(arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, text, _) = output(&["config", "check"]);
    assert!(code == 0 && text.contains("no such file"), "{text}");
    fs::write(site.paths.cma_config(), "debgu = 1\n[heartbeats]\nprobes = \"x\"\n").unwrap();
    let (code, text, _) = output(&["config", "check"]);
    assert!(code == 1 && text.lines().count() == 2 && text.contains("cma.toml: line 1: debgu"), "{text}");
    let other = site.paths.root().join("other.toml");
    fs::write(&other, "debug = 1\n").unwrap();
    assert_eq!(output(&["config", "check", other.to_str().unwrap()]).0, 0);
    let (code, _, error) = output(&["config", "check", "/nonexistent/x/y.toml"]);
    assert!(code == 1 && error.contains("/nonexistent/x/y.toml: there is no such file"), "{error}");
    assert_eq!(output(&["--print-config"]).0, 1);

    fs::write(site.paths.cma_config(), "debug = 1\n").unwrap();
    // Every variable of /etc/default/cma counts, and is named where it does.
    let variables = [
        ("CMA_BIND", "127.0.0.1:5"),
        ("CMA_USER", "nobody"),
        ("CMA_DEBUG", "3"),
        ("CMA_STORE", "sqlite:/x/y"),
        ("CMA_WEB", "none"),
    ];
    let printed = site.command(&["--print-config"]).envs(variables).output().unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    for (name, value) in variables {
        let start = text.find(&format!("This one: {name}.\n")).unwrap_or_else(|| panic!("{name}: {text}"));
        let line = text[start..].lines().nth(1).unwrap();
        assert!(line.contains(value), "{name}: {line}");
    }
    let left: Vec<_> = fs::read_dir(site.paths.root()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!site.paths.state().exists() && !site.paths.run().exists(), "nothing was written: {left:?}");
}

//! The web port of the whole program: what monitoring systems and service managers read.

use crate::site::{Agent, Site, runtime, wait_for};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

struct Web {
    site: Site,
    address: String,
}

impl Web {
    fn new() -> Web {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Web { site: Site::create(), address: format!("127.0.0.1:{port}") }
    }

    /// Status, head and body; `None` when nobody answers.
    fn get(&self, path: &str, more: &str) -> Option<(u16, String, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, head.to_lowercase(), body.to_owned()))
    }

    fn metrics(&self) -> Metrics {
        let (status, head, body) = self.get("/metrics", "").unwrap();
        assert!(status == 200 && head.contains("text/plain; version=0.0.4"), "{head}");
        Metrics::read(&body)
    }
}

/// Series by name with labels, as the text format 0.0.4 has them.
#[derive(Debug)]
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads strictly: what a checker of metrics complains about is a failure here.
    fn read(text: &str) -> Metrics {
        let (mut series, mut types, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let is_name = |name: &str| {
            name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                && (name.starts_with("assimilation_") || name.starts_with("process_"))
        };
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(is_name(name) && help.len() > 10 && helped.insert(name), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(helped.contains(name) && types.insert(name, kind).is_none(), "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
                let plain = name.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| {
                        plain.strip_suffix(end).filter(|name| types.get(name) == Some(&"histogram"))
                    })
                    .unwrap_or(plain);
                assert!(types.contains_key(family), "a sample without a type: {line}");
                assert!(
                    !["milliseconds", "_ms", "_mb", "_kb"].iter().any(|unit| family.contains(unit)),
                    "{line}"
                );
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(series.insert(name.to_owned(), value).is_none(), "twice: {line}");
            }
        }
        for (name, _) in types.iter().filter(|(_, kind)| **kind == "histogram") {
            let buckets = series.iter().filter(|(series, _)| series.starts_with(&format!("{name}_bucket")));
            let mut buckets: Vec<(f64, f64)> = buckets
                .map(|(series, value)| {
                    let bound = series.split('"').nth(1).unwrap();
                    (if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() }, *value)
                })
                .collect();
            buckets.sort_by(|a, b| a.partial_cmp(b).unwrap());
            assert!(buckets.len() > 3 && buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
            assert_eq!(buckets.last().unwrap(), &(f64::INFINITY, series[&format!("{name}_count")]));
        }
        Metrics(series)
    }

    fn at(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }
}

#[test]
fn metrics_count_what_happens() {
    let web = Web::new();
    web.site.script("log", "exit 0");
    let _cma = web.site.start(&["--web", &web.address]);
    let first = web.metrics();
    assert_eq!(
        (first.at("assimilation_hosts{status=\"up\"}"), first.at("assimilation_events_total{type=\"up\"}")),
        (0.0, 0.0)
    );
    let mut agent = Agent::new(&web.site, "web1");
    agent.queue(json!({"net.ipv4.conf.all.log_martians": 0}));
    agent.queue_of("other", "os", json!({"n": 1}));
    runtime().block_on(agent.deliver(1));
    let mut stranger = Agent::new(&web.site, "web1");
    assert!(matches!(
        runtime().block_on(stranger.dial()),
        Ok((_, _, _, model::message::FromCma::Refused(_)))
    ));
    stranger.queue(json!({}));
    wait_for("the outbox to be empty", 30, || (web.site.get("/v1/status")["outbox"] == 0).then_some(()));
    // What the database says is asked again after some seconds.
    let seen = wait_for("the answers to be asked again", 30, || {
        let seen = web.metrics();
        (seen.at("assimilation_hosts{status=\"up\"}") == 1.0).then_some(seen)
    });
    for (series, value) in [
        ("assimilation_registrations_total{result=\"welcome\"}", 1.0),
        ("assimilation_registrations_total{result=\"refused\"}", 1.0),
        ("assimilation_documents_total{result=\"durable\"}", 2.0),
        ("assimilation_events_total{type=\"up\"}", 1.0),
        ("assimilation_hosts{status=\"dead\"}", 0.0),
        ("assimilation_rules_failing{severity=\"low\"}", 1.0),
        ("assimilation_writer_queue_requests", 0.0),
        ("assimilation_commit_failures_total", 0.0),
        (concat!("assimilation_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(seen.at(series), value, "{series}: {seen:#?}");
    }
    let events = web.site.get("/v1/events?after=0").as_array().unwrap().len() as f64;
    assert_eq!(seen.at("assimilation_deliveries_total{channel=\"scripts\",result=\"delivered\"}"), events);
    assert_eq!(seen.at("assimilation_commits_total"), seen.at("assimilation_commit_duration_seconds_count"));
    for above_zero in [
        "assimilation_commits_total",
        "assimilation_rule_evaluations_total",
        "assimilation_database_size_bytes",
        "assimilation_cma_key_created_timestamp_seconds{key=\"#CMA#00000\"}",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    ] {
        assert!(seen.at(above_zero) > 0.0, "{above_zero}: {seen:#?}");
    }
    assert!(!seen.0.keys().any(|series| series.contains("web1")), "no series for a host");
}

#[test]
fn open_metrics_is_given_to_whoever_asks_for_it() {
    let web = Web::new();
    let _cma = web.site.start(&["--web", &web.address]);
    let accept = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let (status, head, body) = web.get("/metrics", accept).unwrap();
    assert!(status == 200 && head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n") && body.contains("# TYPE assimilation_events counter\n"), "{body}");
    assert!(body.contains("# UNIT assimilation_database_size_bytes bytes\n"), "{body}");
    for (path, method_not_allowed) in [("/", 404), ("/v1/status", 404), ("/metrics/x", 404)] {
        assert_eq!(web.get(path, "").unwrap().0, method_not_allowed, "{path}");
    }
}

#[test]
fn who_is_ready_says_so_and_who_stops_does_not() {
    let web = Web::new();
    // A script that takes its time keeps the stopping CMA for a while.
    web.site.script("slow", "touch @/running; sleep 4");
    let mut cma = web.site.start(&["--web", &web.address]);
    let ready = |web: &Web| web.get("/readyz", "").map(|(status, _, body)| (status, body));
    assert_eq!(ready(&web), Some((200, "ok\n".to_owned())));
    assert_eq!(web.get("/healthz", "").unwrap().0, 200);
    let mut agent = Agent::new(&web.site, "web1");
    agent.queue(json!({"n": 1}));
    runtime().block_on(agent.deliver(1));
    wait_for("the script to run", 30, || web.site.paths.root().join("running").exists().then_some(()));
    let pid = rustix::process::Pid::from_raw(cma.0.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let (status, body) =
        wait_for("it to say that it stops", 30, || ready(&web).filter(|(status, _)| *status != 200));
    assert!(status == 503 && body.contains("stopping"), "{status} {body}");
    assert!(wait_for("the CMA to stop", 30, || cma.0.try_wait().unwrap()).success());
    assert_eq!(ready(&web), None);
}

#[test]
fn hosts_that_wait_for_approval_are_counted_and_keep_nothing_from_being_ready() {
    let web = Web::new();
    fs::write(web.site.paths.cma_config(), "[enrolment]\npolicy = \"approve\"\n").unwrap();
    let _cma = web.site.start(&["--web", &web.address]);
    assert_eq!(web.metrics().at("assimilation_pending_hosts"), 0.0);
    let agents = ["web1", "web2"].map(|name| Agent::new(&web.site, name));
    for agent in &agents {
        let (_, _, _, answer) = runtime().block_on(agent.dial()).unwrap();
        assert!(matches!(answer, model::message::FromCma::Refused(_)), "{answer:?}");
    }
    let pending = |wanted: f64| {
        let told = || (web.metrics().at("assimilation_pending_hosts") == wanted).then_some(());
        wait_for("the waiting hosts to be counted again", 30, told);
    };
    pending(2.0);
    let problems = web.site.get("/v1/status")["problems"].to_string();
    assert!(problems.contains("2 hosts wait for approval"), "{problems}");
    for path in ["/readyz", "/healthz"] {
        let (status, _, body) = web.get(path, "").unwrap();
        assert_eq!((status, body.as_str()), (200, "ok\n"), "{path}");
    }
    // Who is approved waits for nobody any more.
    assert_eq!(web.site.request("POST", "/v1/pending/web1/approve", None).0, 200);
    pending(1.0);
}

#[test]
fn the_age_of_the_key_in_use_is_that_of_the_rotation() {
    let web = Web::new();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for file in fs::read_dir(web.site.paths.crypto()).unwrap().flatten() {
        fs::File::open(file.path()).unwrap().set_modified(long_ago).unwrap();
    }
    let _cma = web.site.start(&["--web", &web.address]);
    let since = || {
        let metrics = web.metrics();
        metrics.0.get("assimilation_cma_key_in_use_since_timestamp_seconds").copied()
    };
    assert_eq!(wait_for("the age of the key", 30, since), 1e9, "a first key was made to be used");
    let begun = model::Timestamp::now().0 as f64 / 1e6;
    fs::remove_file(web.site.paths.crypto().join("#CMA#00000.secret")).unwrap();
    assert_eq!(web.site.request("POST", "/v1/keys/reload", None).1["switched"], true);
    let rotated = wait_for("the age of the next key", 30, || since().filter(|since| *since > 1e9));
    assert!(rotated >= begun.floor(), "{rotated} {begun}");
}

/// A small file system of its own; gone when dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(place: &std::path::Path) -> Option<Small> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs"]).arg(place).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()).then(|| Small(place.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_before_it_is_too_late() {
    let web = Web::new();
    let state = web.site.paths.state();
    fs::create_dir_all(&state).unwrap();
    let Some(small) = Small::mount(&state) else {
        eprintln!("skipped: mounting a file system takes root");
        return;
    };
    let cma = web.site.start(&["--web", &web.address]);
    let ready = web.get("/readyz", "");
    drop(cma);
    drop(small);
    let (status, _, body) = ready.unwrap();
    assert!(status == 503 && body.contains("make room"), "{status} {body}");
}

//! Questions to the graph over a real store, filled by what hosts report; and the same through the API of the program.

use crate::ingest::{Rig, applicant, incoming, name, rig};
use crate::site::{Agent, Site, runtime};
use cma::ingest::Sender;
use cma::ingest::register::{Registration, goodbye};
use cma::ingest::report::Outcome;
use cma::questions::names::resolve;
use cma::questions::{Stored, Trouble, Walker, changes, coverage, history, impact, path};
use model::message::Report;
use model::{DocumentHash, Event, EventType, PublicKey, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;
use store::{Reader, Store};

const BOUNDS: impact::Bounds = impact::Bounds { hops: 5, rows: 1000 };

/// A site whose hosts report one document after the other.
struct Reports {
    rig: Rig,
    hosts: Vec<(String, Sender, u64)>,
}

pub fn document(discovertype: &str, instance: &str, data: &Value, extras: &Value) -> String {
    let mut text = json!({"discovertype": discovertype, "description": "d", "host": "h", "source": "nanoprobe",
        "instance": instance, "proxy": "local/local", "data": data});
    for (field, value) in extras.as_object().into_iter().flatten() {
        text[field] = value.clone();
    }
    text.to_string()
}

fn netconfig(ip: &str) -> Value {
    json!({"eth0": {"address": "00-16-3e-00-00-01", "virtual": false, "default_gw": true,
        "ipaddrs": {format!("{ip}/24"): {"scope": "global", "name": "eth0"}}}})
}

/// Programs with the addresses at which they listen and those that they use.
fn sockets(programs: &[(&str, &[&str], &[&str])]) -> Value {
    let addresses = |all: &[&str]| -> Value {
        all.iter()
            .map(|address| ((*address).to_owned(), json!("tcp")))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let one = |(program, listens, uses): &(&str, &[&str], &[&str])| {
        let entry = json!({"exe": format!("/usr/bin/{program}"), "listenaddrs": addresses(listens), "clientaddrs": addresses(uses)});
        (format!("{program}:0123456789abcdef"), entry)
    };
    programs.iter().map(one).collect::<serde_json::Map<_, _>>().into()
}

impl Reports {
    fn new() -> Self {
        Self { rig: rig(), hosts: Vec::new() }
    }

    fn report(&mut self, host: &str, discovertype: &str, instance: &str, data: &Value) {
        self.report_with(host, discovertype, instance, data, &json!({}));
    }

    fn report_with(&mut self, host: &str, discovertype: &str, instance: &str, data: &Value, extras: &Value) {
        let (_, sender, sequence) = self.hosts.iter_mut().find(|(name, ..)| name == host).unwrap();
        *sequence += 1;
        let text = document(discovertype, instance, data, extras);
        let (outcome, _) = self.rig.take(&sender.clone(), &incoming(*sequence, instance, &text));
        assert_eq!(outcome, Outcome::Durable { last: *sequence });
    }

    fn host(&mut self, host: &str, ip: &str, programs: &[(&str, &[&str], &[&str])]) {
        let key = PublicKey([u8::try_from(self.hosts.len() + 1).unwrap(); 32]);
        let Registration::Welcome { sender, .. } = self.rig.register(applicant(host, key)).0 else {
            panic!()
        };
        self.hosts.push((host.to_owned(), sender, 0));
        self.report(host, "netconfig", "_auto_netconfig", &netconfig(ip));
        self.sockets(host, ip, programs);
    }

    fn sockets(&mut self, host: &str, ip: &str, programs: &[(&str, &[&str], &[&str])]) {
        let own = json!({"addresses": {format!("{ip}/24"): "global"}});
        self.report_with(host, "tcpdiscovery", "_auto_tcpdiscovery", &sockets(programs), &own);
    }

    fn reader(&self) -> Box<dyn Reader> {
        self.rig.store.reader().unwrap()
    }

    fn impact(&self, of: &str) -> Vec<String> {
        let mut reader = self.reader();
        let mut stored = Stored(reader.as_mut());
        let mut walker = Walker::new(&mut stored);
        let subject = resolve(&mut walker, of, &[]).unwrap();
        let found = impact::impact(&mut walker, &subject, BOUNDS).unwrap();
        let effect =
            |row: &impact::Row| serde_json::to_value(row.effect).unwrap().as_str().unwrap().to_owned();
        found
            .rows
            .iter()
            .map(|row| format!("{} {} {} {}", row.depth, effect(row), row.host, row.what))
            .collect()
    }

    fn later(&self, seconds: i64) -> Timestamp {
        Timestamp(self.rig.now.0 + seconds * 1_000_000)
    }
}

/// web1 uses the database of db1; the administrator's psql at ops1 too.
fn site() -> Reports {
    let mut site = Reports::new();
    site.host("db1", "10.0.0.4", &[("postgres", &["0.0.0.0:5432"], &[]), ("sshd", &["0.0.0.0:22"], &[])]);
    site.host("web1", "10.0.0.1", &[("nginx", &["0.0.0.0:80"], &["10.0.0.4:5432", "10.0.0.99:6379"])]);
    site.host("ops1", "10.0.0.9", &[("psql", &[], &["10.0.0.4:5432"]), ("curl", &[], &["10.0.0.1:80"])]);
    site
}

#[test]
fn what_hosts_report_answers_what_stops() {
    let mut site = site();
    assert_eq!(
        site.impact("db1"),
        [
            "0 stops db1 postgres 10.0.0.4:5432",
            "0 stops db1 sshd 10.0.0.4:22",
            "1 stops ops1 psql",
            "1 stops web1 nginx 10.0.0.1:80",
            "2 stops ops1 curl",
        ]
    );
    for of in ["10.0.0.4:5432", "db1:5432", "postgres", "DB1/postgres"] {
        assert_eq!(
            site.impact(of),
            ["1 stops ops1 psql", "1 stops web1 nginx 10.0.0.1:80", "2 stops ops1 curl"],
            "{of}"
        );
    }
    // A second server, which web1 uses as well.
    site.host("db2", "10.0.0.5", &[("postgres", &["0.0.0.0:5432"], &[])]);
    site.sockets("web1", "10.0.0.1", &[("nginx", &["0.0.0.0:80"], &["10.0.0.4:5432", "10.0.0.5:5432"])]);
    assert!(
        site.impact("db1").contains(&"1 degraded web1 nginx 10.0.0.1:80".to_owned()),
        "{:?}",
        site.impact("db1")
    );
    let db2 = site.hosts.iter().find(|(name, ..)| name == "db2").unwrap().1.clone();
    site.rig.step(|tx, context| goodbye(tx, context, &db2, "HBSHUTDOWN"));
    assert!(site.impact("db1").contains(&"1 stops web1 nginx 10.0.0.1:80".to_owned()), "db2 is down");
}

#[test]
fn paths_lead_through_what_hosts_report() {
    let site = site();
    let mut reader = site.reader();
    let mut stored = Stored(reader.as_mut());
    let mut walker = Walker::new(&mut stored);
    let (a, b) = (resolve(&mut walker, "ops1", &[]).unwrap(), resolve(&mut walker, "db1", &[]).unwrap());
    let answer = path::path(&mut walker, &a, &b).unwrap();
    let told: Vec<&str> = answer.rows.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(
        told,
        [
            "psql of ops1 uses 10.0.0.4:5432 (postgres of db1)",
            "ops1 eth0 10.0.0.9 – subnet 10.0.0.0/24 – db1 eth0 10.0.0.4",
        ]
    );
}

#[test]
fn a_host_is_shown_as_it_was_and_what_changed_since() {
    let mut site = site();
    site.report("web1", "sshd", "_init_sshd", &json!({"PermitRootLogin": "no", "X11Forwarding": "no"}));
    let before = site.later(1);
    site.rig.wait(100);
    site.report("web1", "sshd", "_init_sshd", &json!({"PermitRootLogin": "yes", "Port": 22}));
    site.report("web1", "pam", "_init_pam", &json!({"a": "\u{1b}[2J"}));
    site.rig.wait(100);
    let mut reader = site.reader();
    let then = history::then(reader.as_mut(), &name("web1"), before, true).unwrap();
    let told: Vec<(&str, &str)> = then.iter().map(|row| (row.instance.as_str(), row.now)).collect();
    assert_eq!(
        told,
        [
            ("_init_pam", "new"),
            ("_init_sshd", "changed"),
            ("_auto_netconfig", "same"),
            ("_auto_tcpdiscovery", "same")
        ]
    );
    let facts = then[1].difference.as_ref().unwrap().facts.iter();
    let facts: Vec<String> = facts.map(|fact| format!("{} {}", fact.change, fact.path)).collect();
    assert_eq!(facts, ["changed PermitRootLogin", "added Port", "removed X11Forwarding"]);

    let window = history::Window { from: before, to: site.later(0), late: Duration::ZERO };
    let (found, is_cut) = history::changes(reader.as_mut(), &name("web1"), window, 100).unwrap();
    let of = |kind: &str| -> Vec<String> {
        found.iter().filter(|c| c.kind == kind).map(|c| format!("{} {}", c.what, c.detail)).collect()
    };
    assert!(!is_cut);
    assert_eq!(
        of("document"),
        [
            "_init_pam is reported for the first time",
            "_init_sshd PermitRootLogin: no → yes; Port added: 22; X11Forwarding removed: no"
        ]
    );
    let fails = of("rule");
    assert!(fails.iter().any(|line| line.contains("fails")), "root may log in now: {found:#?}");
    assert_eq!(history::changes(reader.as_mut(), &name("web1"), window, 1).unwrap().0.len(), 1);
    assert!(history::changes(reader.as_mut(), &name("web1"), window, 1).unwrap().1, "what is cut is said");
    let nothing = history::Window { from: site.later(1), to: site.later(9), late: Duration::ZERO };
    assert_eq!(history::changes(reader.as_mut(), &name("web1"), nothing, 9).unwrap(), (vec![], false));
}

#[test]
fn what_changed_before_an_event_is_told_of_the_host_and_its_servers() {
    let mut site = site();
    site.rig.wait(10_000);
    site.report("db1", "sysctl", "_old", &json!({"long": "ago"}));
    site.rig.wait(1_000);
    site.report("db1", "postgres_conf", "_db", &json!({"max_connections": 10}));
    site.report("ops1", "x", "_unrelated", &json!({"x": 1}));
    site.rig.wait(60);
    let web1 = site.hosts.iter().find(|(name, ..)| name == "web1").unwrap().1.clone();
    let told =
        crate::ingest::events(site.rig.step(|tx, context| goodbye(tx, context, &web1, "HBSHUTDOWN")).1);
    let bounds = changes::Bounds { within: Duration::from_secs(900), hops: 1, rows: 100 };
    let mut reader = site.reader();
    let answer = changes::before(reader.as_mut(), "last web1", bounds).unwrap();
    assert_eq!(answer.event.eventid, told.last().unwrap().eventid);
    let rows: Vec<String> = answer
        .rows
        .iter()
        .map(|row| format!("{} {} {}", row.change.host, row.change.what, row.relation))
        .collect();
    assert_eq!(rows, ["db1 _db nginx of web1 uses postgres there"], "not what is old, not what is elsewhere");
    let number = answer.sequence.to_string();
    assert_eq!(changes::before(reader.as_mut(), &number, bounds).unwrap().rows, answer.rows);
    let alone = changes::before(reader.as_mut(), "last web1", changes::Bounds { hops: 0, ..bounds }).unwrap();
    assert_eq!(alone.rows, []);
    let long = changes::Bounds { within: Duration::from_secs(3000), ..bounds };
    assert_eq!(changes::before(reader.as_mut(), "last web1", long).unwrap().rows.len(), 2);
    // What a server saw of a neighbour belongs to it; what somebody unrelated saw does not.
    for (id, seen_by) in [("e1", "db1"), ("e2", "ops1")] {
        let object = json!({"nodetype": "IPaddrNode", "designation": "10.0.0.77", "status": "up", "reason": "", "domain": "global"});
        let extra = json!({"seen_by": seen_by, "text": "10.0.0.77 appeared"});
        let event = Event {
            eventid: id.into(),
            time: site.rig.now,
            eventtype: EventType::Create,
            associatedobject: object.as_object().unwrap().clone(),
            extrainfo: extra.as_object().unwrap().clone(),
        };
        site.rig.step(|tx, _| tx.append_event(&event, &[]));
    }
    let answer = changes::before(reader.as_mut(), "last web1", bounds).unwrap();
    let events: Vec<&str> = answer.rows.iter().filter_map(|row| row.change.eventid.as_deref()).collect();
    assert_eq!(events, ["e1"]);
    assert_eq!(answer.rows[0].change.detail, "IPaddrNode: 10.0.0.77 appeared");
    let neighbour = changes::before(reader.as_mut(), "last 10.0.0.77", bounds).unwrap();
    let itself: Vec<&str> = neighbour
        .rows
        .iter()
        .filter(|row| row.relation == "the host itself")
        .map(|row| row.change.what.as_str())
        .collect();
    assert_eq!(itself, ["_unrelated"], "the host that saw it last is the one looked at");
    for wrong in ["", "999999", "last", "last nobody", "xyz", "last web1 x", "deadbeef", "' OR 1=1"] {
        let found = changes::before(reader.as_mut(), wrong, bounds);
        assert!(matches!(found, Err(Trouble::Unknown(..))), "{wrong}: {found:?}");
    }
}

#[test]
fn gaps_of_every_kind_are_counted_and_told() {
    let mut site = site();
    let errors = json!({"errors": ["cannot read /etc/ssh/sshd_config: no permission", "and more"]});
    site.report_with("db1", "sshd", "_init_sshd", &json!({}), &errors);
    // What is not installed has no file to read.
    let absent = json!({"errors": ["Cannot read /etc/audit/auditd.conf: no such file or directory"]});
    let no_data = json!({"NODATA": "ERROR: Cannot read /etc/audit/auditd.conf"});
    site.report_with("db1", "auditd_conf", "_init_auditd_conf", &no_data, &absent);
    let unmonitored = json!({"unmonitored": {"p:1": {"pathname": "/opt/p", "listen": ["0.0.0.0:7"], "why": "no rule fits"}}});
    site.report("db1", "monitors", "_monitors", &unmonitored);
    site.report("db1", "proc_sys", "_auto_proc_sys", &json!({}));
    // No envelope: refused.
    {
        let (_, sender, sequence) = &mut site.hosts[0];
        *sequence += 1;
        let (outcome, _) = site.rig.take(&sender.clone(), &incoming(*sequence, "_bad", "{}"));
        assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
    }
    let ops1 = site.hosts[2].1.clone();
    site.rig.step(|tx, context| goodbye(tx, context, &ops1, "HBSHUTDOWN"));
    let (sets, _) = rules::RuleSets::load(&[]);
    let rules_of = |_: &store::HostRow, os: Option<&rules::OperatingSystem>| sets.effective_for("BASE", os);
    let mut reader = site.reader();
    let found = coverage::coverage(reader.as_mut(), &rules_of, site.later(0), &mut || false).unwrap();
    assert_eq!((found.hosts, found.incomplete.len()), (3, 0), "{:?}", found.incomplete);
    let of = |kind: &str| -> Vec<String> {
        found
            .gaps
            .iter()
            .filter(|gap| gap.gap == kind)
            .map(|gap| format!("{} {}", gap.place, gap.what))
            .collect()
    };
    assert_eq!(of("dead host"), ["ops1 is dead: HBSHUTDOWN"]);
    assert_eq!(of("no nanoprobe"), ["network global 10.0.0.99, 10.0.0.99:6379 used by nginx of web1"]);
    assert_eq!(
        of("discovery failing"),
        ["db1 _init_sshd: cannot read /etc/ssh/sshd_config: no permission (and 1 more)"]
    );
    assert_eq!(of("service unmonitored"), ["db1 /opt/p at 0.0.0.0:7: no rule fits"]);
    assert_eq!(of("report refused").len(), 1, "{:?}", found.counts);
    let missing = of("discovery missing");
    assert!(
        missing.iter().any(|line| line.starts_with("db1, ops1, web1 never reported pam,")),
        "{missing:#?}"
    );
    assert!(missing.iter().any(|line| line.starts_with("ops1, web1 never reported sshd,")), "{missing:#?}");
    // What reads whole disks takes its time; an hour later it is missing like all others.
    let debian =
        |_: &store::HostRow, _: Option<&rules::OperatingSystem>| sets.effective_for("cis-debian12", None);
    for (seconds, is_missing) in [(0, false), (3600, true)] {
        let mut reader = site.reader();
        let found = coverage::coverage(reader.as_mut(), &debian, site.later(seconds), &mut || false).unwrap();
        let is_told = |name: &str| {
            found.gaps.iter().any(|gap| gap.what.starts_with(&format!("never reported {name},")))
        };
        assert_eq!((is_told("fs_scan"), is_told("pam")), (is_missing, true), "{:#?}", found.gaps);
    }
    let not_judged = of("rule not judged");
    assert!(
        not_judged.len() == 1
            && not_judged[0].starts_with("db1 _auto_proc_sys: ")
            && not_judged[0].contains("not found: "),
        "{not_judged:?}"
    );
    assert!(found.summary.starts_with("3 hosts; gaps: dead host 1, no nanoprobe 1, "), "{}", found.summary);
    let late = coverage::coverage(reader.as_mut(), &rules_of, site.later(0), &mut || true).unwrap();
    assert_eq!(late.incomplete, ["documents: only those of the first 0 hosts were looked at"]);
    assert!(!late.gaps.iter().any(|gap| gap.gap == "discovery missing"), "what was not read is not missing");
}

#[test]
fn the_api_answers_questions() {
    let site = Site::create();
    let _cma = site.start(&[]);
    let queue = |agent: &mut Agent, discovertype: &str, data: &Value, extras: &Value| {
        let instance = format!("_auto_{discovertype}");
        let text = document(discovertype, &instance, data, extras);
        agent.reports.push(Report {
            sequence: agent.reports.len() as u64 + 1,
            instance,
            hash: DocumentHash::of(text.as_bytes()),
            body: Some(wire::body::compress(text.as_bytes()).unwrap().into()),
            changed_after: Timestamp::now(),
            seen: Timestamp::now(),
            superseded: 0,
        });
    };
    for (host, ip, programs) in [
        ("db1", "10.0.0.4", &[("postgres", &["0.0.0.0:5432"][..], &[][..])]),
        ("web1", "10.0.0.1", &[("nginx", &["0.0.0.0:80"][..], &["10.0.0.4:5432"][..])]),
    ] {
        let mut agent = Agent::new(&site, host);
        queue(&mut agent, "netconfig", &netconfig(ip), &json!({}));
        queue(
            &mut agent,
            "tcpdiscovery",
            &sockets(programs),
            &json!({"addresses": {format!("{ip}/24"): "global"}}),
        );
        runtime().block_on(agent.deliver(2));
    }
    let impact = site.get("/v1/impact?of=db1");
    assert_eq!(
        (&impact["rows"][1]["what"], &impact["rows"][1]["effect"], &impact["rows"][1]["depth"]),
        (&json!("nginx 10.0.0.1:80"), &json!("stops"), &json!(1)),
        "{impact}"
    );
    assert_eq!(site.get("/v1/impact?of=db1&rows=1")["more"], 1);
    let path = site.get("/v1/path?from=web1&to=10.0.0.4%3A5432");
    assert_eq!(path["rows"][0]["path"], "nginx of web1 uses 10.0.0.4:5432 (postgres of db1)", "{path}");
    let timeline = site.get("/v1/timeline?host=web1&since=2020-01-01&facts=true");
    assert!(
        timeline["changes"].as_array().unwrap().iter().any(|row| row["what"] == "_auto_netconfig"),
        "{timeline}"
    );
    assert_eq!(site.get("/v1/timeline?host=web1")["documents"].as_array().unwrap().len(), 2);
    let changes = site.get("/v1/changes?before=last%20web1&within=60");
    assert_eq!(changes["event"]["eventtype"], "up", "{changes}");
    let coverage = site.get("/v1/coverage");
    assert!(coverage["counts"].to_string().contains("discovery missing"), "{coverage}");

    for (request, status, words) in [
        ("/v1/impact?of=db", 404, "did you mean db1?"),
        ("/v1/impact?of=db1:99", 404, "db1 offers 5432 (postgres)"),
        ("/v1/impact?of=db1&hop=1", 400, "hop"),
        ("/v1/impact", 400, "of"),
        ("/v1/path?from=db1&to=nothing-like-it", 404, "no host"),
        ("/v1/timeline?host=nobody", 404, "there was none"),
        ("/v1/timeline?host=web1&at=soon", 400, "no time"),
        ("/v1/timeline?host=web1&at=2026-01-01&since=2026-01-01", 400, "do not go together"),
        ("/v1/changes?before=last%20nobody", 404, "no event"),
    ] {
        let (found, answer) = site.request("GET", request, None);
        assert!(found == status && answer.to_string().contains(words), "{request}: {found} {answer}");
    }
}

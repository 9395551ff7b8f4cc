//! Every shipped query over a small site: the rows it gives, and the lines made of them.

use crate::conformance::site::packages;
use crate::conformance::{self, LIMITS, host, site};
use model::GraphFacts;
use model::graph::{EdgeFact, EdgeKind, NodeFact, NodeKind};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use store::query::Queries;
use store::sqlite::SqliteStore;
use store::{Reader, Store, Table};

/// Parameters by name, as typed.
type Given = &'static [(&'static str, &'static str)];

/// Query, parameters, human lines, script lines.
type Case = (&'static str, Given, &'static [&'static str], &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "allservers",
        &[],
        &["db1[dead:HBDEAD]", "web1[up:STARTUP]", "web2[dead:HBSHUTDOWN]"],
        &["db1\tdead", "web1\tup", "web2\tdead"],
    ),
    ("down", &[], &["db1[dead:HBDEAD]", "web2[dead:HBSHUTDOWN]"], &["db1", "web2"]),
    ("crashed", &[], &["db1"], &["db1"]),
    ("shutdown", &[], &["web2"], &["web2"]),
    ("findip", &[("ipaddr", "::ffff:10.0.0.7")], &["web1 DNS: - [MAC:00-16-3e-00-00-01, OUI:-]"], &["web1,"]),
    ("findip", &[("ipaddr", "2001:DB8::0:1")], &["db1 DNS: - [MAC:00-16-3e-00-00-03, OUI:-]"], &["db1,"]),
    ("findip", &[("ipaddr", "10.9.9.9")], &[], &[]),
    ("findmac", &[("macaddr", "00:16:3E:00:00:02")], &["web2:eth0"], &["web2\teth0"]),
    (
        "allips",
        &[],
        &[
            "10.0.0.7 web1 DNS: - 00-16-3e-00-00-01 OUI:-",
            "10.0.0.8 web2 DNS: - 00-16-3e-00-00-02 OUI:-",
            "2001:db8::1 db1 DNS: - 00-16-3e-00-00-03 OUI:-",
        ],
        &["10.0.0.7,,00-16-3e-00-00-01,", "10.0.0.8,,00-16-3e-00-00-02,", "2001:db8::1,,00-16-3e-00-00-03,"],
    ),
    (
        "packagename",
        &[("packagename", "openssl")],
        &[
            "lab:db1 openssl::amd64 1.1.1 deb",
            "global:web1 openssl::amd64 3.0.2 deb",
            "global:web2 openssl::amd64 3.0.2 deb",
        ],
        &[
            "lab,db1,openssl::amd64,1.1.1,deb",
            "global,web1,openssl::amd64,3.0.2,deb",
            "global,web2,openssl::amd64,3.0.2,deb",
        ],
    ),
    ("packagename", &[("packagename", "openssl::i386")], &[], &[]),
    ("packagename", &[("packagename", "opens")], &[], &[]),
    (
        "totalscores",
        &[],
        &["global security 7", "global networking 2"],
        &["global,security,7", "global,networking,2"],
    ),
    (
        "allbpscores",
        &[],
        &["security=3 networking=2 web2", "security=4 networking=0 web1", "security=0 networking=0 db1"],
        &["3\t2\tweb2", "4\t0\tweb1", "0\t0\tdb1"],
    ),
    (
        "allhostscores",
        &[],
        &[
            "global security sshd 6 web1 3",
            "global security sshd 6 web2 3",
            "global networking sshd 2 web2 2",
            "global security pam 1 web1 1",
        ],
        &[
            "global,security,sshd,6,web1,3",
            "global,security,sshd,6,web2,3",
            "global,networking,sshd,2,web2,2",
            "global,security,pam,1,web1,1",
        ],
    ),
    (
        "sechostscores",
        &[],
        &["global security sshd 6 web1 3", "global security sshd 6 web2 3", "global security pam 1 web1 1"],
        &["global,security,sshd,6,web1,3", "global,security,sshd,6,web2,3", "global,security,pam,1,web1,1"],
    ),
    (
        "allrulescores",
        &[],
        &[
            "global security sshd 6 nist_V-1 6",
            "global networking sshd 2 itbp-00001 2",
            "global security pam 1 nist_V-3 1",
        ],
        &[
            "global,security,sshd,6,nist_V-1,6",
            "global,networking,sshd,2,itbp-00001,2",
            "global,security,pam,1,nist_V-3,1",
        ],
    ),
    ("downservices", &[], &["web1:nagios::check_load [too high]"], &["web1\tnagios::check_load\ttoo high"]),
    (
        "allservicestatus",
        &[],
        &[
            "web1(up) /usr/sbin/sshd Working:true [is now operational]",
            "web1(up) nagios::check_load Working:false [too high]",
            "web2(dead) /usr/sbin/sshd Working:true [slow]",
        ],
        &[
            "web1\tup\t/usr/sbin/sshd\ttrue\tis now operational",
            "web1\tup\tnagios::check_load\tfalse\ttoo high",
            "web2\tdead\t/usr/sbin/sshd\ttrue\tslow",
        ],
    ),
    (
        "hostservicestatus",
        &[("host", "WEB2")],
        &["web2(dead) /usr/sbin/sshd Working:true [slow]"],
        &["web2\tdead\t/usr/sbin/sshd\ttrue\tslow"],
    ),
    ("hostservicestatus", &[("host", "db1")], &[], &[]),
    (
        "unmonitored",
        &[],
        &["web1 /opt/x:0.0.0.0:69,0.0.0.0:70 [why not]"],
        &["web1\t/opt/x\t0.0.0.0:69,0.0.0.0:70\twhy not"],
    ),
    (
        "secrulescores",
        &[],
        &["global security sshd 6 nist_V-1 6", "global security pam 1 nist_V-3 1"],
        &["global,security,sshd,6,nist_V-1,6", "global,security,pam,1,nist_V-3,1"],
    ),
];

/// Query, parameters, number of rows: for answers too long to write down.
const COUNTS: &[(&str, Given, usize)] = &[
    ("allpackages", &[], 9),
    ("packagename", &[("packagename", "openssl::amd64")], 3),
    ("packageprefix", &[("prefix", "open")], 6),
    ("packageprefix", &[("prefix", "openssl")], 3),
    ("packageprefix", &[("prefix", "Open")], 0),
    ("packagegrep", &[("regex", "^(bash|openssl)$")], 6),
    ("packagegrep", &[("regex", "ssh")], 3),
];

/// Monitors as the graph has them: of a process on two hosts, of a host, and one that is not run.
fn add_monitors(store: &mut SqliteStore) {
    let monitor = |host: &str, key: &str, properties: Value| {
        let drone = (NodeKind::Drone, host.to_owned());
        let name = format!("{host}:{key}");
        let node = |kind, key: &str, properties: Value| NodeFact {
            kind,
            key: key.to_owned(),
            properties: properties.as_object().unwrap().clone(),
        };
        let action = node(NodeKind::MonitorAction, &name, properties);
        let process = node(NodeKind::ProcessNode, &format!("{host}/sshd:1"), json!({}));
        let edges = vec![
            EdgeFact { source: drone, kind: EdgeKind::Hosting, target: action },
            EdgeFact { source: (NodeKind::MonitorAction, name), kind: EdgeKind::Monitoring, target: process },
        ];
        GraphFacts { edges, ..GraphFacts::default() }
    };
    let ssh = |state: &str, reason: &str| {
        json!({"class": "nagios", "agent": "check_ssh", "pathname": "/usr/sbin/sshd", "listen": ["0.0.0.0:22"],
            "state": state, "isworking": true, "isactive": true, "reason": reason})
    };
    let load = json!({"class": "nagios", "agent": "check_load", "pathname": null, "listen": null, "state": "down",
        "isworking": false, "isactive": true, "reason": "too high"});
    let never = json!({"class": "NEVERMON", "agent": "skype", "pathname": "/usr/bin/skype", "listen": ["0.0.0.0:1"],
        "state": "unmonitored", "isworking": true, "isactive": false, "reason": "never"});
    conformance::commit(store, |t| {
        let up = monitor("web1", "nagios:check_ssh::1", ssh("up", "is now operational"));
        t.replace_graph(&host("web1"), "_monitor_1", &up, conformance::at(200))?;
        t.replace_graph(
            &host("web1"),
            "_monitor_2",
            &monitor("web1", "x::2", load.clone()),
            conformance::at(200),
        )?;
        t.replace_graph(
            &host("web1"),
            "_monitor_3",
            &monitor("web1", "x::3", never.clone()),
            conformance::at(200),
        )?;
        let slow = monitor("web2", "nagios:check_ssh::1", ssh("warn", "slow"));
        t.replace_graph(&host("web2"), "_monitor_1", &slow, conformance::at(200))?;
        for (name, unmonitored) in [
            (
                "web1",
                json!({"x:1": {"pathname": "/opt/x", "listen": ["0.0.0.0:69", "0.0.0.0:70"], "why": "why not"}, "junk": 7}),
            ),
            ("web2", json!({})),
        ] {
            let (row, body) = conformance::document("_monitors", json!({"unmonitored": unmonitored}), 200);
            t.put_document(&host(name), &row, &body)?;
        }
        Ok(())
    });
}

fn ask(reader: &mut dyn Reader, queries: &Queries, name: &str, given: &[(&str, &str)]) -> Table {
    let query = queries.get(name).unwrap_or_else(|| panic!("no query {name}"));
    let given: Vec<(String, Value)> = given.iter().map(|(n, v)| (n.to_string(), json!(v))).collect();
    let bound = query.bind(&given).unwrap();
    reader.sql(&query.sql, &bound, LIMITS).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn every_query_gives_its_rows() {
    let mut store = SqliteStore::open(Path::new(":memory:")).unwrap();
    site::fill(&mut store);
    add_monitors(&mut store);
    let mut reader = store.reader().unwrap();
    let (queries, problems) = Queries::load(&[]);
    assert_eq!(problems, []);
    for (name, given, human, script) in CASES {
        let table = ask(&mut *reader, &queries, name, given);
        let query = queries.get(name).unwrap();
        assert_eq!(query.human.lines(&table.columns, &table.rows, "-").unwrap(), *human, "{name}");
        assert_eq!(query.script.lines(&table.columns, &table.rows, "").unwrap(), *script, "{name}");
    }
    for (name, given, count) in COUNTS {
        assert_eq!(ask(&mut *reader, &queries, name, given).rows.len(), *count, "{name} {given:?}");
    }
    let tested: BTreeSet<&str> =
        CASES.iter().map(|case| case.0).chain(COUNTS.iter().map(|case| case.0)).collect();
    // What the CMA answers by other means than SQL is tested there.
    let shipped = queries.iter().filter(|query| query.answer.is_none());
    let shipped: BTreeSet<&str> = shipped.map(|query| query.name.as_str()).collect();
    assert_eq!(tested, shipped, "every shipped query needs a case here");
}

#[test]
fn every_query_documents_exactly_its_columns() {
    let store = SqliteStore::open(Path::new(":memory:")).unwrap();
    let mut reader = store.reader().unwrap();
    let (queries, _) = Queries::load(&[]);
    for query in queries.iter() {
        let parameters: Vec<(String, Value)> =
            query.parameters.iter().map(|parameter| (parameter.name.clone(), json!("x"))).collect();
        let answered: BTreeSet<String> = match query.answer {
            Some(answer) => answer.columns().iter().map(|column| (*column).to_owned()).collect(),
            None => reader.sql(&query.sql, &parameters, LIMITS).unwrap().columns.into_iter().collect(),
        };
        let documented: BTreeSet<String> = query.columns.keys().cloned().collect();
        assert_eq!(answered, documented, "{}", query.name);
        assert!(query.columns.values().all(|meaning| !meaning.is_empty()), "{}", query.name);
        assert!(!query.description.is_empty(), "{}", query.name);
    }
}

/// Look-ups must stay look-ups when the site grows.
#[test]
fn look_ups_use_their_index() {
    let mut store = SqliteStore::open(Path::new(":memory:")).unwrap();
    conformance::commit(&mut store, |t| {
        for n in 0..300 {
            let name = format!("host{n}");
            let ip = format!("10.1.{}.{}", n / 250, n % 250);
            let mac = format!("00-16-3e-00-{:02x}-{:02x}", n / 256, n % 256);
            t.replace_graph(
                &host(&name),
                "netconfig",
                &site::nic_and_address(&name, "eth0", &mac, &ip),
                conformance::at(1),
            )?;
            t.replace_graph(
                &host(&name),
                "packages",
                &packages(&name, &[("bash", "5")]),
                conformance::at(1),
            )?;
        }
        Ok(())
    });
    let (queries, _) = Queries::load(&[]);
    for analysed in [false, true] {
        if analysed {
            store.optimize().unwrap();
        }
        let mut reader = store.reader().unwrap();
        for (name, parameter, index) in [
            ("findip", "ipaddr", "node_ipaddr"),
            ("findmac", "macaddr", "node_macaddr"),
            ("packagename", "packagename", "node_package"),
            ("packageprefix", "prefix", "node_package"),
        ] {
            let plan = format!("EXPLAIN QUERY PLAN {}", queries.get(name).unwrap().sql);
            let table = reader.sql(&plan, &[(parameter.to_owned(), json!("x"))], LIMITS).unwrap();
            let plan = json!(table.rows).to_string();
            assert!(plan.contains(index), "{name}, analysed: {analysed}: {plan}");
            assert!(!plan.contains("SCAN edge") && !plan.contains("SCAN e\""), "{name}: {plan}");
        }
    }
}

//! Every shipped query over a small site: the rows it gives, and the lines made of them.

use crate::conformance::site::packages;
use crate::conformance::{self, LIMITS, host, network, site};
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
    (
        "findip",
        &[("ipaddr", "::ffff:10.0.0.7")],
        &["web1 DNS: - [MAC:00-16-3e-00-00-01, OUI:Xensource]"],
        &["web1,"],
    ),
    (
        "findip",
        &[("ipaddr", "2001:DB8::0:1")],
        &["db1 DNS: - [MAC:00-16-3e-00-00-03, OUI:Xensource]"],
        &["db1,"],
    ),
    (
        "findip",
        &[("ipaddr", "10.0.0.8")],
        &["web2 DNS: web2.example [MAC:00-16-3e-00-00-02, OUI:Xensource]"],
        &["web2,web2.example"],
    ),
    (
        "findip",
        &[("ipaddr", "10.0.0.254")],
        &["@global/02-00-00-00-00-01 DNS: - [MAC:02-00-00-00-00-01, OUI:-]"],
        &["@global/02-00-00-00-00-01,"],
    ),
    ("findip", &[("ipaddr", "10.0.0.99")], &["- DNS: - [MAC:02-00-00-00-00-99, OUI:-]"], &[","]),
    ("findip", &[("ipaddr", "10.9.9.9")], &[], &[]),
    ("findmac", &[("macaddr", "00:16:3E:00:00:02")], &["web2:eth0 10.0.0.8"], &["web2\teth0"]),
    ("findmac", &[("macaddr", "02:00:00:00:00:99")], &["-:- 10.0.0.99"], &["\t"]),
    (
        "findmac",
        &[("macaddr", "02:00:00:00:00:01")],
        &["@global/02-00-00-00-00-01:- 10.0.0.254"],
        &["@global/02-00-00-00-00-01\t"],
    ),
    ("findmac", &[("macaddr", "02:00:00:00:00:77")], &[], &[]),
    (
        "allips",
        &[],
        &[
            "10.0.0.254 @global/02-00-00-00-00-01 DNS: - 02-00-00-00-00-01 OUI:-",
            "10.0.0.7 web1 DNS: - 00-16-3e-00-00-01 OUI:Xensource",
            "10.0.0.8 web2 DNS: web2.example 00-16-3e-00-00-02 OUI:Xensource",
            "10.0.0.99 - DNS: - 02-00-00-00-00-99 OUI:-",
            "2001:db8::1 db1 DNS: - 00-16-3e-00-00-03 OUI:Xensource",
        ],
        &[
            "10.0.0.254,,02-00-00-00-00-01,",
            "10.0.0.7,,00-16-3e-00-00-01,Xensource",
            "10.0.0.8,web2.example,00-16-3e-00-00-02,Xensource",
            "10.0.0.99,,02-00-00-00-00-99,",
            "2001:db8::1,,00-16-3e-00-00-03,Xensource",
        ],
    ),
    (
        "unknownips",
        &[],
        &["10.0.0.99 DNS: - MAC: 02-00-00-00-00-99 OUI:-"],
        &["10.0.0.99,,02-00-00-00-00-99,"],
    ),
    (
        "nodns",
        &[],
        &[
            "10.0.0.254 @global/02-00-00-00-00-01 02-00-00-00-00-01 OUI:-",
            "10.0.0.7 web1 00-16-3e-00-00-01 OUI:Xensource",
            "10.0.0.99 - 02-00-00-00-00-99 OUI:-",
            "2001:db8::1 db1 00-16-3e-00-00-03 OUI:Xensource",
        ],
        &[
            "10.0.0.254,02-00-00-00-00-01,",
            "10.0.0.7,00-16-3e-00-00-01,Xensource",
            "10.0.0.99,02-00-00-00-00-99,",
            "2001:db8::1,00-16-3e-00-00-03,Xensource",
        ],
    ),
    (
        "nooui",
        &[],
        &["02-00-00-00-00-01 10.0.0.254 @global/02-00-00-00-00-01 -", "02-00-00-00-00-99 10.0.0.99 - -"],
        &["02-00-00-00-00-01,10.0.0.254,@global/02-00-00-00-00-01,", "02-00-00-00-00-99,10.0.0.99,,"],
    ),
    (
        "allipports",
        &[],
        &[
            "22 /usr/sbin/sshd on web1 10.0.0.7 tcp",
            "80 /usr/sbin/nginx on web1 172.17.0.2 tcp",
            "5432 postgres:1 on db1 2001:db8::1 tcp",
        ],
        &[
            "22\t/usr/sbin/sshd\tweb1\t10.0.0.7\ttcp",
            "80\t/usr/sbin/nginx\tweb1\t172.17.0.2\ttcp",
            "5432\tpostgres:1\tdb1\t2001:db8::1\ttcp",
        ],
    ),
    (
        "hostipports",
        &[("systemname", "DB1")],
        &["5432 postgres:1 on db1 2001:db8::1 tcp"],
        &["5432\tpostgres:1\tdb1\t2001:db8::1\ttcp"],
    ),
    ("hostipports", &[("systemname", "web2")], &[], &[]),
    (
        "hostdependencies",
        &[("host", "db1")],
        &["db1<-postgres:1<-/opt/app<-web1"],
        &["db1 postgres:1 /opt/app web1"],
    ),
    ("hostdependencies", &[("host", "web1")], &[], &[]),
    ("allswitchports", &[], &["web1:eth0->sw1[Acme OS]:g7[rack 3]"], &["web1\teth0\tsw1\tg7"]),
    (
        "hostswitchports",
        &[("host", "web1")],
        &["web1:eth0->sw1[Acme OS]:g7[rack 3]"],
        &["web1\teth0\tsw1\tg7"],
    ),
    ("hostswitchports", &[("host", "web2")], &[], &[]),
    ("allserversecscores", &[], &["4 web1", "3 web2", "0 db1"], &["4\tweb1", "3\tweb2", "0\tdb1"]),
    ("allservernetscores", &[], &["2 web2", "0 db1", "0 web1"], &["2\tweb2", "0\tdb1", "0\tweb1"]),
    (
        "nodecount",
        &[],
        &[
            "ChildSystem 1",
            "Drone 3",
            "IPaddrNode 7",
            "IPtcpportNode 6",
            "LinkAddress 5",
            "MonitorAction 4",
            "NICNode 5",
            "Package 4",
            "ProcessNode 6",
            "SystemNode 1",
        ],
        &[
            "ChildSystem\t1",
            "Drone\t3",
            "IPaddrNode\t7",
            "IPtcpportNode\t6",
            "LinkAddress\t5",
            "MonitorAction\t4",
            "NICNode\t5",
            "Package\t4",
            "ProcessNode\t6",
            "SystemNode\t1",
        ],
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
    network::fill(&mut store);
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
    let shipped: BTreeSet<&str> = queries.iter().map(|query| query.name.as_str()).collect();
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
        let table = reader.sql(&query.sql, &parameters, LIMITS).unwrap();
        let answered: BTreeSet<&str> = table.columns.iter().map(String::as_str).collect();
        let documented: BTreeSet<&str> = query.columns.keys().map(String::as_str).collect();
        assert_eq!(answered, documented, "{}", query.name);
        assert!(query.columns.values().all(|meaning| !meaning.is_empty()), "{}", query.name);
        assert!(!query.description.is_empty(), "{}", query.name);
    }
}

/// What a host of many says: packages, a service, a client, a container, a monitor, a cable, a neighbour.
fn host_of_many(n: usize) -> Vec<(&'static str, GraphFacts)> {
    let name = format!("host{n}");
    let drone = (NodeKind::Drone, name.as_str());
    let ip = format!("10.1.{}.{}", n / 250, n % 250);
    // The same of all, as those of container bridges are: the worst that statistics can tell of an index.
    let mac = "00-16-3e-00-00-01";
    let versions = [n.to_string(), (n % 10).to_string()];
    let list = packages(&name, &[("bash", &versions[0]), ("openssl", &versions[1]), ("zsh", "5")]);
    let own = [("@global", ip.as_str(), 22)];
    let mut tcp = network::process(drone, &format!("{name}/sshd"), None, EdgeKind::TcpService, &own);
    let used = [("@global", "10.1.0.1", 22), ("@global", "10.9.9.9", 443)];
    tcp.extend(network::process(drone, &format!("{name}/app"), None, EdgeKind::TcpClient, &used));
    let child = format!("{name}/docker/0");
    tcp.push(site::link(drone, EdgeKind::Hosting, site::node(NodeKind::ChildSystem, &child, json!({}))));
    let inside = [("@global", ip.as_str(), 80)];
    let child = (NodeKind::ChildSystem, child.as_str());
    tcp.extend(network::process(child, &format!("{name}/nginx"), None, EdgeKind::TcpService, &inside));
    let monitor = site::node(NodeKind::MonitorAction, &format!("{name}:tcp:x"), json!({"isactive": true}));
    let sshd = site::node(NodeKind::ProcessNode, &format!("{name}/sshd"), json!({}));
    let monitors = vec![
        site::link((NodeKind::MonitorAction, &monitor.key), EdgeKind::Monitoring, sshd),
        site::link(drone, EdgeKind::Hosting, monitor),
    ];
    let (switch, port) = (format!("@global/02-{}", n / 4), format!("@global/02-{}/{n}", n / 4));
    let eth0 = site::node(NodeKind::NicNode, &format!("{name}/eth0"), json!({}));
    let cable = vec![
        site::link(
            (NodeKind::SystemNode, &switch),
            EdgeKind::NicOwner,
            site::node(NodeKind::NicNode, &port, json!({})),
        ),
        site::link((NodeKind::NicNode, &port), EdgeKind::WiredTo, eth0),
    ];
    let stranger = format!("@global/06-00-00-00-00-{n:02x}");
    let heard = site::node(
        NodeKind::IpaddrNode,
        &format!("@global/10.2.0.{n}"),
        json!({"ipaddr": format!("10.2.0.{n}")}),
    );
    let heard = vec![site::link((NodeKind::LinkAddress, &stranger), EdgeKind::IpOwner, heard)];
    let facts = |sources, edges| GraphFacts { sources, edges, ..GraphFacts::default() };
    let stranger = site::node(NodeKind::LinkAddress, &stranger, json!({"macaddr": &stranger[8..]}));
    vec![
        ("netconfig", site::nic_and_address(&name, "eth0", mac, &ip)),
        ("packages", list),
        ("tcp", facts(Vec::new(), tcp)),
        ("monitors", facts(Vec::new(), monitors)),
        ("switch", facts(vec![site::node(NodeKind::SystemNode, &switch, json!({}))], cable)),
        ("arp", facts(vec![stranger], heard)),
    ]
}

/// Look-ups must stay look-ups when the site grows: of each view, by what people ask it for.
#[test]
fn look_ups_use_their_index() {
    let mut store = SqliteStore::open(Path::new(":memory:")).unwrap();
    conformance::commit(&mut store, |t| {
        for n in 0..150 {
            for (instance, facts) in host_of_many(n) {
                t.replace_graph(&host(&format!("host{n}")), instance, &facts, conformance::at(1))?;
            }
            for instance in ["os", "checksums", "sshd", "pam"] {
                let (row, body) = conformance::document(instance, json!({"n": n}), 1);
                t.put_document(&host(&format!("host{n}")), &row, &body)?;
            }
        }
        Ok(())
    });
    let (queries, _) = Queries::load(&[]);
    let views = [
        ("nics", "host"),
        ("nics", "macaddr"),
        ("addresses", "host"),
        ("addresses", "ipaddr"),
        ("packages", "host"),
        ("packages", "name"),
        ("children", "host"),
        ("monitors", "host"),
        ("checksums", "host"),
        ("documents", "host"),
        ("services", "host"),
        ("services", "ipaddr"),
        ("services", "service"),
        ("clients", "host"),
        ("clients", "ipaddr"),
        ("clients", "service"),
        ("dependencies", "client_host"),
        ("dependencies", "server_host"),
        ("dependencies", "service"),
        ("dependencies", "ipaddr"),
        ("switch_ports", "host"),
        ("neighbours", "macaddr"),
        ("neighbours", "ipaddr"),
        ("neighbours", "seen_by"),
        ("known_addresses", "ipaddr"),
        ("systems", "system"),
        ("nodes", "key"),
        ("edges", "host"),
        ("edges", "source"),
        ("edges", "target"),
    ];
    let of_views = views.iter().map(|(view, column)| {
        (format!("{view} by {column}"), format!("SELECT * FROM {view} WHERE {column} = :x"), "x")
    });
    let of_queries = [
        ("findip", "ipaddr"),
        ("findmac", "macaddr"),
        ("hostipports", "systemname"),
        ("hostdependencies", "host"),
        ("hostswitchports", "host"),
        ("hostservicestatus", "host"),
        ("packagename", "packagename"),
        ("packageprefix", "prefix"),
    ]
    .map(|(name, parameter)| (name.to_owned(), queries.get(name).unwrap().sql.clone(), parameter));
    let asked: Vec<(String, String, &str)> = of_views.chain(of_queries).collect();
    let mut wrong = Vec::new();
    for analysed in [false, true] {
        if analysed {
            store.optimize().unwrap();
        }
        let mut reader = store.reader().unwrap();
        for (what, statement, parameter) in &asked {
            let plan = format!("EXPLAIN QUERY PLAN {statement}");
            let table = reader.sql(&plan, &[((*parameter).to_owned(), json!("x"))], LIMITS).unwrap();
            let steps = table.rows.iter().filter_map(|row| row[3].as_str());
            for step in steps.filter(|step| step.starts_with("SCAN")) {
                // Elements of one document or of one row, and what a step before has found.
                let is_small = [
                    "SCAN a VIRTUAL",
                    "SCAN c VIRTUAL",
                    "SCAN (subquery",
                    "SCAN known_addresses",
                    "SCAN dependencies",
                ];
                // Devices by their chassis id: there are not many, and the index has nothing else.
                let is_devices = what == "findmac" && step.contains("node_system");
                // Of what nobody offers no server is asked for: decided before the scan begins.
                let is_never_run = (what == "hostdependencies" || what.ends_with("server_host"))
                    && step == "SCAN e USING INDEX edge_client";
                if !is_devices && !is_never_run && !is_small.iter().any(|small| step.starts_with(small)) {
                    wrong.push(format!("{what}, analysed: {analysed}: {step}"));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

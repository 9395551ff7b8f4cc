//! The graph of a whole site: 300 hosts through the CMA's own ingest, and answers that follow from how the site was made.

#[path = "../examples/graph/load.rs"]
mod load;

use cma::questions::impact::{Bounds, impact};
use cma::questions::names::resolve;
use cma::questions::{Stored, Walker};
use model::Timestamp;
use serde_json::{Value, json};
use sim::documents::{DocumentSite, Kind, Neighbour};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use store::sqlite::SqliteStore;
use store::{SqlLimits, Store};

const HOSTS: usize = 300;
const LIMITS: SqlLimits = SqlLimits { rows: 100_000, milliseconds: 60_000, bytes: 64 * 1024 * 1024 };

/// Texts of the rows, each row's columns in one text with blanks between.
fn ask(store: &SqliteStore, statement: &str, host: &str) -> BTreeSet<String> {
    let mut reader = store.reader().unwrap();
    let parameters: &[(String, Value)] =
        if statement.contains(":host") { &[("host".to_owned(), json!(host))] } else { &[] };
    let table = reader.sql(statement, parameters, LIMITS).unwrap();
    assert!(!table.truncated);
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    table.rows.into_iter().map(|row| row.into_iter().map(text).collect::<Vec<_>>().join(" ")).collect()
}

fn strangers(site: &DocumentSite) -> BTreeSet<String> {
    let all = (0..site.racks()).flat_map(|rack| site.strangers(rack));
    all.map(|Neighbour { address, macaddr }| format!("{address} {macaddr}")).collect()
}

#[test]
fn answers_about_a_site_follow_from_its_making() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cma.sqlite");
    let site = DocumentSite::new(11, HOSTS);
    let cost = load::load(&site, Box::new(SqliteStore::open(&path).unwrap()), load::knowledge()).unwrap();
    let documents: usize = (0..HOSTS).map(|host| site.kinds(host).len()).sum();
    assert_eq!(cost.documents, documents);
    let mut store = SqliteStore::open(&path).unwrap();

    let up = ask(&store, "SELECT host FROM hosts WHERE status = 'up'", "");
    assert_eq!(up, (0..HOSTS).map(|host| site.name(host)).collect());
    dependencies(&site, &store);
    network(&site, &store);
    what_stops(&site, &store);
    containers(&site, &mut store);
    a_stranger_more(&site, &mut store, &path);
}

/// Of one host of each tier, one with containers among them.
fn dependencies(site: &DocumentSite, store: &SqliteStore) {
    for host in [3, 21, 24, 27, 38] {
        let name = site.name(host);
        let found = ask(
            store,
            "SELECT DISTINCT server_host, port FROM dependencies
             WHERE client_host = :host AND server_host <> client_host",
            &name,
        );
        let made = site.dependencies(host).into_iter();
        let made: BTreeSet<String> =
            made.map(|used| format!("{} {}", site.name(used.server), used.port)).collect();
        assert_eq!(found, made, "{name}");
        let unknown = ask(
            store,
            "SELECT service FROM dependencies WHERE client_host = :host AND server_host IS NULL",
            &name,
        );
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
}

fn network(site: &DocumentSite, store: &SqliteStore) {
    let unknown = "SELECT ipaddr, macaddr FROM neighbours WHERE owner IS NULL";
    assert_eq!(ask(store, unknown, ""), strangers(site));
    let known = ask(store, "SELECT ipaddr, owner FROM neighbours WHERE owner IS NOT NULL", "");
    let silent = (0..site.hosts()).filter(|host| !site.listens(*host));
    let made: BTreeSet<String> =
        silent.map(|host| format!("{} {}", site.address(host), site.name(host))).collect();
    assert_eq!(known, made, "who listens does not hear itself");
    let ports = ask(store, "SELECT host, ifname, system_name, port_id FROM switch_ports", "");
    let made = (0..site.hosts())
        .map(|host| format!("{} eth0 sw-r{:04} {}", site.name(host), site.place(host).0, site.port(host)));
    assert_eq!(ports, made.collect());
}

/// Who uses a host is affected, nobody else is so near, and who is plugged into a switch goes down with it.
fn what_stops(site: &DocumentSite, store: &SqliteStore) {
    let mut reader = store.reader().unwrap();
    let mut hosts_at = |subject: &str, depths: RangeInclusive<usize>| -> BTreeSet<String> {
        let mut stored = Stored(reader.as_mut());
        let mut walker = Walker::new(&mut stored);
        let subject = resolve(&mut walker, subject, &[]).unwrap();
        let answer = impact(&mut walker, &subject, Bounds { hops: 20, rows: 10_000 }).unwrap();
        assert_eq!((answer.more, answer.farther), (0, 0));
        answer.rows.into_iter().filter(|row| depths.contains(&row.depth)).map(|row| row.host).collect()
    };
    for host in [3, 21, 24, 27] {
        let name = site.name(host);
        let users = (0..site.hosts())
            .filter(|user| site.dependencies(*user).iter().any(|used| used.server == host))
            .map(|user| site.name(user));
        let users: BTreeSet<String> = users.collect();
        assert!(users.len() > 2, "{name}: {users:?}");
        let near = hosts_at(&name, 1..=1);
        assert!(!near.is_empty() && near.is_subset(&users), "{name}: {near:?} of {users:?}");
        // A program that had another way at first is told where it stops at last.
        let all = hosts_at(&name, 1..=usize::MAX);
        assert!(users.is_subset(&all), "{name}: {users:?} of {all:?}");
    }
    // Who has only that cable stops; the rack is all that is behind it.
    let rack: BTreeSet<String> = site.in_rack(5).map(|host| site.name(host)).collect();
    assert_eq!(hosts_at(&site.chassis(5), 0..=0), rack);
    assert!(hosts_at(&site.name(38), 1..=usize::MAX).is_empty(), "nobody uses a web server");
}

/// One node for each container, whichever document speaks of it, until none does.
fn containers(site: &DocumentSite, store: &mut SqliteStore) {
    let all = "SELECT host, child, kind FROM children";
    let hosts: Vec<usize> = (0..site.hosts()).filter(|host| site.has_containers(*host)).collect();
    let made = hosts.iter().flat_map(|host| {
        let name = site.name(*host);
        (0..sim::documents::CONTAINERS)
            .map(move |index| format!("{name} {name}/docker/{} docker", site.container(*host, index)))
    });
    let made: BTreeSet<String> = made.collect();
    assert!(made.len() > 20, "{made:?}");
    assert_eq!(ask(store, all, ""), made);
    let own = "SELECT child FROM children WHERE host = :host";
    let first = hosts[0];
    let name = site.name(first);
    let knowledge = load::knowledge();
    let mut inspected = site.document(first, Kind::Docker, 0);
    inspected.data["containers"] = json!({});
    load::deliver(site, store, &knowledge, &mut [(first, inspected)].into_iter(), Timestamp::now()).unwrap();
    assert_eq!(ask(store, own, &name).len(), 3, "their processes are still there");
    let mut seen = site.document(first, Kind::Tcpdiscovery, 0);
    if let Some(entries) = seen.data.as_object_mut() {
        entries.retain(|_, entry| entry["proxy"] == "local/local");
    }
    load::deliver(site, store, &knowledge, &mut [(first, seen)].into_iter(), Timestamp::now()).unwrap();
    assert_eq!(ask(store, own, &name), BTreeSet::new());
    assert_eq!(ask(store, all, "").len(), made.len() - 3);
}

fn a_stranger_more(site: &DocumentSite, store: &mut SqliteStore, path: &Path) {
    let listener = (0..site.hosts()).find(|host| site.listens(*host)).unwrap();
    let later = site.document(listener, Kind::Arp, 1);
    load::deliver(site, store, &load::knowledge(), &mut [(listener, later)].into_iter(), Timestamp::now())
        .unwrap();
    let unknown = ask(store, "SELECT ipaddr, macaddr FROM neighbours WHERE owner IS NULL", "");
    let made = strangers(site);
    assert_eq!(unknown.difference(&made).count(), 1, "{}", path.display());
    assert_eq!(made.difference(&unknown).count(), 0);
}

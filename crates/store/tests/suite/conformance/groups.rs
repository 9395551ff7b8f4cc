//! Groups of hosts.

use super::*;

pub fn membership_is_replaced_and_keeps_since(store: &mut dyn Store) {
    commit(store, |t| t.put_host(&site::host_row("web1", "up", "")));
    commit(store, |t| t.put_host(&site::host_row("web2", "up", "")));
    let set = |store: &mut dyn Store, name: &str, groups: &[(&str, &str)], now: i64| {
        let groups: Vec<(String, String)> =
            groups.iter().map(|(name, why)| (name.to_string(), why.to_string())).collect();
        commit(store, |t| t.set_groups(&host(name), &groups, at(now)));
    };
    set(store, "web1", &[("a", "name web*"), ("b", "tag b")], 10);
    set(store, "web2", &[("a", "name web*")], 10);
    set(store, "web1", &[("a", "query"), ("c'\"", "tag c")], 20);
    let rows: Vec<_> = store
        .reader()
        .unwrap()
        .groups()
        .unwrap()
        .into_iter()
        .map(|row| (row.group, row.host.to_string(), row.why, row.since))
        .collect();
    let expected =
        [("a", "web1", "query", 10), ("a", "web2", "name web*", 10), ("c'\"", "web1", "tag c", 20)];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(group, host, why, since)| (group.to_owned(), host.to_owned(), why.to_owned(), at(since)))
        .collect();
    assert_eq!(rows, expected);
    let sql = "SELECT count(*) FROM groups g JOIN hosts h ON h.host = g.host WHERE g.name = 'a'";
    assert_eq!(cell(store, sql), json!(2));
    set(store, "web2", &[], 30);
    assert_eq!(cell(store, sql), json!(1));
    // A host that is forgotten is in no group, also when one of its name comes again.
    commit(store, |t| t.remove_host(&host("web1"), at(40)));
    assert_eq!(cell(store, "SELECT count(*) FROM groups"), json!(0));
}

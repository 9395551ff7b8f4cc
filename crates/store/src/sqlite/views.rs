//! What people and canned queries see: one declaration per view, with its documentation.
//!
//! Tables may change with any version; views change only by gaining columns. Times are RFC 3339 text in UTC, so
//! that comparing texts compares times.

mod columns;
mod graph;
mod links;
mod site;

/// A view with what it means, for documentation and `assimcli`.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub name: &'static str,
    pub meaning: &'static str,
    /// Name and meaning, in the order of the view.
    pub columns: &'static [(&'static str, &'static str)],
    select: &'static str,
}

/// Every view, in the order in which a newcomer meets them.
pub fn documentation() -> &'static [View] {
    VIEWS
}

/// The documentation of all views as Markdown, one section each; docs/views.md is this text.
pub fn documentation_text() -> String {
    let mut text = INTRODUCTION.to_owned();
    for view in VIEWS {
        text.push_str(&format!("## {}\n{}\n\n| column | meaning |\n|---|---|\n", view.name, view.meaning));
        for (name, meaning) in view.columns {
            text.push_str(&format!("| `{name}` | {} |\n", meaning.replace('|', "\\|")));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// The statements that make all views.
pub fn all_sql() -> String {
    VIEWS
        .iter()
        .map(|view| {
            let names: Vec<&str> = view.columns.iter().map(|(name, _)| *name).collect();
            format!("CREATE VIEW {}({}) AS {};\n", view.name, names.join(", "), view.select)
        })
        .collect()
}

const INTRODUCTION: &str = r#"# Views

What can be asked with `assimcli sql`, and what the files in `queries/` are written on. `assimcli sql --views` shows the same list.

```
assimcli sql "SELECT host, rule_id, score FROM rule_results WHERE status = 'fail' ORDER BY score DESC"
assimcli sql "SELECT host, version FROM packages WHERE name = 'openssl'"
assimcli sql "SELECT host, document ->> '$.data.PermitRootLogin' FROM documents WHERE discovertype = 'sshd'"
assimcli sql "SELECT client_host, client_pathname, port FROM dependencies WHERE server_host = 'db1'"
assimcli sql "SELECT subnet, count(*) FROM addresses WHERE network = 'global' GROUP BY subnet"
```

- Views change only by gaining columns; the tables beneath may change with any version.
- Times are RFC 3339 texts in UTC, so comparing them as texts compares times: `WHERE since > '2026-11-23T10:00:00Z'`.
- What the graph says has a row for each discovery that says so: `said_by` and `instance` tell which, `since` since when. `last_seen` is
  now while that host is up, because a host tells every change; of a dead host it is when it was last heard of.
- Beside SQLite's own functions there are `network_of('10.0.0.7', 24)` → `10.0.0.0/24`, `oui('00-16-3e-00-00-01')` → who made the interface,
  `context_of(key)` → the network in a key of the graph, and `name REGEXP '^lib'`. What makes no sense to them gives null.
- One `SELECT` or `WITH` at a time, in [SQLite's language](https://www.sqlite.org/lang_select.html), and nothing that writes. Rows, seconds and memory are bounded; what is cut off is said.

<!-- Made from crates/store/src/sqlite/views.rs: UPDATE=1 cargo test -p store views -->

"#;

const VIEWS: &[View] = &[
    site::HOSTS,
    site::GROUPS,
    site::TAGS,
    site::DOCUMENTS,
    site::CHANGES,
    site::RULE_RESULTS,
    site::RULE_HISTORY,
    site::SCORES,
    site::EVENTS,
    site::ALERTS,
    graph::NICS,
    graph::ADDRESSES,
    graph::PACKAGES,
    graph::CHILDREN,
    site::CHECKSUMS,
    links::SERVICES,
    links::CLIENTS,
    links::DEPENDENCIES,
    links::SWITCH_PORTS,
    links::SYSTEMS,
    links::NEIGHBOURS,
    links::KNOWN_ADDRESSES,
    graph::MONITORS,
    site::UNMONITORED,
    graph::NODES,
    graph::EDGES,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/views.md");
        let text = documentation_text();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == text,
            "docs/views.md is not current; write it with UPDATE=1 cargo test -p store views"
        );
    }
}

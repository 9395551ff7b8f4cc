//! What people and canned queries see: one declaration per view, with its documentation.
//!
//! Tables may change with any version; views change only by gaining columns. Times are RFC 3339 text in UTC, so
//! that comparing texts compares times.

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
```

- Views change only by gaining columns; the tables beneath may change with any version.
- Times are RFC 3339 texts in UTC, so comparing them as texts compares times: `WHERE since > '2026-11-23T10:00:00Z'`.
- One `SELECT` or `WITH` at a time, in [SQLite's language](https://www.sqlite.org/lang_select.html), and nothing that writes. Rows, seconds and memory are bounded; what is cut off is said.

<!-- Made from crates/store/src/sqlite/views.rs: UPDATE=1 cargo test -p store views -->

"#;

const HOST: (&str, &str) = ("host", "designation of the host");
const DOMAIN: (&str, &str) = ("domain", "administrative domain of the host");
const INSTANCE: (&str, &str) = ("instance", "name of the discovery on the host, such as _init_sshd");
const TYPE: (&str, &str) = ("discovertype", "type of the discovery, such as sshd");
const SINCE: (&str, &str) = ("since", "when it was committed here: start of the period");
const UNTIL: (&str, &str) = ("until", "end of the period, null for what is current");
const CHANGED_AFTER: (&str, &str) = ("changed_after", "the change happened after this, by the host's clock");
const SEEN: (&str, &str) = ("seen", "when the host read the value, by its clock");
const HASH: (&str, &str) = ("hash", "SHA-256 of the document, hexadecimal");
const SIZE: (&str, &str) = ("size", "bytes of the document as text");
const DOCUMENT: (&str, &str) = (
    "document",
    "the whole envelope as JSON text: document ->> '$.data.x', or json_tree(document) for every fact",
);
const PROPERTIES: (&str, &str) = ("properties", "all properties as a JSON object");
const RULE: (&str, &str) = ("rule_id", "id of the rule, such as nist_V-38528");
const CATEGORY: (&str, &str) = ("category", "category of the rule, such as security");
const SEVERITY: (&str, &str) = ("severity", "high, medium or low");
const STATUS: (&str, &str) = ("status", "pass, fail, ignore or NA");
const SCORE: (&str, &str) = ("score", "points: 0 unless the rule failed; higher is worse");
const USED: (&str, &str) = ("used_values", "the values that decided it, a JSON object from $name to value");
const NOTE: (&str, &str) = ("note", "why it is NA, or what was wrong with the rule; empty otherwise");
const SEQUENCE: (&str, &str) = ("sequence", "position in the order of events");
const EVENTID: (&str, &str) = ("eventid", "UUID of the event, the same in every delivery");
const EVENTTYPE: (&str, &str) = ("eventtype", "create, up, down, warn, unwarn, update or delete");
const IFNAME: (&str, &str) = ("ifname", "name of the network interface");
const MACADDR: (&str, &str) = ("macaddr", "MAC address, lower case with dashes");

const OUI: (&str, &str) = ("oui", "vendor of the interface, null when unknown");

const VIEWS: &[View] = &[
    View {
        name: "hosts",
        meaning: "Every registered host with its state.",
        columns: &[
            HOST,
            DOMAIN,
            ("status", "up or dead"),
            ("reason", "why the status is what it is, such as HBSHUTDOWN"),
            ("status_since", "when the status last changed"),
            ("first_seen", "when the host registered first"),
            ("last_seen", "when the last message came"),
            ("address", "address:port it last talked from"),
            ("started", "when its nanoprobe started, by its own clock"),
            ("software", "version of its nanoprobe"),
            ("key", "its public key, hexadecimal"),
            ("rejected_key", "another key that tried to register under this name, or null"),
            ("rejected_at", "when that happened"),
            ("properties", "what discoveries say about the host itself, a JSON object"),
        ],
        select: "SELECT n.designation, h.domain, h.status, h.reason, utc_text(h.status_since), utc_text(h.first_seen),
          utc_text(h.last_seen), h.address, utc_text(h.started), h.software, lower(hex(h.key)),
          lower(hex(h.rejected_key)), utc_text(h.rejected_at),
          coalesce((SELECT properties FROM node WHERE kind = 'Drone' AND key = n.designation), '{}')
          FROM host h JOIN host_name n ON n.id = h.id",
    },
    View {
        name: "documents",
        meaning: "The current document of every discovery on every host.",
        columns: &[HOST, DOMAIN, INSTANCE, TYPE, HASH, SIZE, CHANGED_AFTER, SEEN, SINCE, DOCUMENT],
        select: "SELECT n.designation, h.domain, p.instance, p.discovertype, lower(hex(d.hash)), d.size,
          utc_text(p.changed_after), utc_text(p.seen), utc_text(p.since), document_text(d.body)
          FROM document_period p JOIN host_name n ON n.id = p.host LEFT JOIN host h ON h.id = p.host
          JOIN document d ON d.id = p.document WHERE p.until IS NULL",
    },
    View {
        name: "changes",
        meaning: "Every document a host ever had, with the period in which it was current; also of removed hosts.",
        columns: &[HOST, INSTANCE, TYPE, HASH, SIZE, CHANGED_AFTER, SEEN, SINCE, UNTIL, DOCUMENT],
        select: "SELECT n.designation, p.instance, p.discovertype, lower(hex(d.hash)), d.size,
          utc_text(p.changed_after), utc_text(p.seen), utc_text(p.since), utc_text(p.until), document_text(d.body)
          FROM document_period p JOIN host_name n ON n.id = p.host JOIN document d ON d.id = p.document",
    },
    View {
        name: "rule_results",
        meaning: "The current result of every rule on every host.",
        columns: &[HOST, DOMAIN, INSTANCE, TYPE, RULE, CATEGORY, SEVERITY, STATUS, SCORE, USED, NOTE, SINCE],
        select: "SELECT n.designation, h.domain, r.instance, p.discovertype, r.rule_id, r.category, r.severity,
          r.status, r.score, r.used_values, r.note, utc_text(r.since)
          FROM rule_period r JOIN host_name n ON n.id = r.host LEFT JOIN host h ON h.id = r.host
          LEFT JOIN document_period p ON p.host = r.host AND p.instance = r.instance AND p.until IS NULL
          WHERE r.until IS NULL",
    },
    View {
        name: "rule_history",
        meaning: "Every result a rule ever had on a host, with its period; also of removed hosts.",
        columns: &[HOST, INSTANCE, RULE, CATEGORY, SEVERITY, STATUS, SCORE, USED, NOTE, SINCE, UNTIL],
        select: "SELECT n.designation, r.instance, r.rule_id, r.category, r.severity, r.status, r.score,
          r.used_values, r.note, utc_text(r.since), utc_text(r.until)
          FROM rule_period r JOIN host_name n ON n.id = r.host",
    },
    View {
        name: "scores",
        meaning: "Points of the failed rules, summed for each host, category and discovery type; higher is worse.",
        columns: &[HOST, DOMAIN, CATEGORY, TYPE, ("score", "sum over the failed rules, 0 when none failed")],
        select: "SELECT n.designation, h.domain, r.category, p.discovertype, total(r.score)
          FROM rule_period r JOIN host_name n ON n.id = r.host LEFT JOIN host h ON h.id = r.host
          LEFT JOIN document_period p ON p.host = r.host AND p.instance = r.instance AND p.until IS NULL
          WHERE r.until IS NULL GROUP BY n.designation, h.domain, r.category, p.discovertype",
    },
    View {
        name: "events",
        meaning: "Everything that people may have been told.",
        columns: &[
            SEQUENCE,
            EVENTID,
            ("time", "when it happened"),
            EVENTTYPE,
            ("nodetype", "kind of the object, such as Drone"),
            ("host", "designation of the object"),
            ("status", "status of the object"),
            ("reason", "reason of the status"),
            ("rule_id", "the rule, for warn and unwarn"),
            ("event", "the whole event as JSON text"),
        ],
        select: "SELECT sequence, eventid, utc_text(time), eventtype, nodetype, designation,
          event ->> '$.associatedobject.status', event ->> '$.associatedobject.reason',
          event ->> '$.extrainfo.ruleid', event FROM event",
    },
    View {
        name: "alerts",
        meaning: "Deliveries of events to alert channels: waiting, delivered or given up.",
        columns: &[
            SEQUENCE,
            EVENTID,
            EVENTTYPE,
            ("host", "designation of the object"),
            ("channel", "the alert channel"),
            ("state", "waiting, delivered or failed"),
            ("attempts", "tries that failed so far"),
            ("due", "not tried before this time; null when finished"),
            ("finished", "when it was delivered or given up; null while waiting"),
            ("failure", "why it was given up"),
        ],
        select: "SELECT o.sequence, e.eventid, e.eventtype, e.designation, o.channel, 'waiting', o.attempts,
          utc_text(o.due), NULL, NULL FROM outbox o JOIN event e ON e.sequence = o.sequence
          UNION ALL SELECT d.sequence, e.eventid, e.eventtype, e.designation, d.channel,
          iif(d.failure IS NULL, 'delivered', 'failed'), d.attempts, NULL, utc_text(d.finished), d.failure
          FROM delivery d JOIN event e ON e.sequence = d.sequence",
    },
    View {
        name: "nics",
        meaning: "Network interfaces of hosts.",
        columns: &[HOST, DOMAIN, IFNAME, MACADDR, OUI, PROPERTIES],
        select: "SELECT DISTINCT s.key, h.domain, t.properties ->> '$.ifname', t.properties ->> '$.macaddr',
          t.properties ->> '$.OUI', t.properties
          FROM node t JOIN edge e ON e.target = t.id AND e.kind = 'nicowner' JOIN node s ON s.id = e.source
          LEFT JOIN host_name n ON n.designation = s.key LEFT JOIN host h ON h.id = n.id WHERE t.kind = 'NICNode'",
    },
    View {
        name: "addresses",
        meaning: "IP addresses of the network interfaces of hosts.",
        columns: &[
            HOST,
            DOMAIN,
            IFNAME,
            MACADDR,
            OUI,
            ("ipaddr", "the address, canonical text: 10.0.0.7, fe80::1"),
            ("cidrmask", "length of the network prefix in bits"),
            ("hostname", "name from reverse DNS, null when there is none"),
            PROPERTIES,
        ],
        select: "SELECT DISTINCT s.key, h.domain, m.properties ->> '$.ifname', m.properties ->> '$.macaddr',
          m.properties ->> '$.OUI', t.properties ->> '$.ipaddr', t.properties ->> '$.cidrmask',
          t.properties ->> '$.hostname', t.properties
          FROM node t JOIN edge e ON e.target = t.id AND e.kind = 'ipowner'
          JOIN node m ON m.id = e.source AND m.kind = 'NICNode'
          JOIN edge o ON o.target = m.id AND o.kind = 'nicowner' JOIN node s ON s.id = o.source
          LEFT JOIN host_name n ON n.designation = s.key LEFT JOIN host h ON h.id = n.id WHERE t.kind = 'IPaddrNode'",
    },
    View {
        name: "packages",
        meaning: "Installed packages.",
        columns: &[
            HOST,
            DOMAIN,
            ("name", "name of the package"),
            ("arch", "architecture, empty when the packager has none"),
            ("version", "installed version"),
            ("type", "packager, such as deb or rpm"),
        ],
        select: "SELECT DISTINCT s.key, h.domain, t.properties ->> '$.name', coalesce(t.properties ->> '$.arch', ''),
          t.properties ->> '$.version', t.properties ->> '$.type'
          FROM node t JOIN edge e ON e.target = t.id AND e.kind = 'installed' JOIN node s ON s.id = e.source
          LEFT JOIN host_name n ON n.designation = s.key LEFT JOIN host h ON h.id = n.id WHERE t.kind = 'Package'",
    },
    View {
        name: "monitors",
        meaning: "What looks after services and hosts, and what it found; what is deliberately not looked after has `active` 0.",
        columns: &[
            HOST,
            DOMAIN,
            ("host_status", "up or dead; what a dead host's monitors said is what they said last"),
            ("monitorname", "name of the monitor, the same whenever it is found again"),
            ("class", "ocf, nagios, lsb, systemd, tcp, http, tls or NEVERMON"),
            ("type", "agent, plug-in, script or unit; for built-in classes the service's name"),
            ("provider", "who made an OCF agent, null otherwise"),
            ("target", "service or host"),
            ("process", "key of the service's process in tcpdiscovery, null for the host itself"),
            ("pathname", "program of the service, null for the host itself"),
            ("listen", "where the service listens: address:port, separated by commas"),
            ("state", "up, warn, down, flapping or unmonitored"),
            ("isworking", "0 when it is down, else 1"),
            ("active", "0 when nothing is run for it, else 1"),
            ("reason", "why the state is what it is"),
            ("output", "what the agent printed, null when nothing"),
            ("perfdata", "figures that a plug-in printed, null when none"),
            ("since", "when the state began, by the host's clock"),
            ("rule", "file of the monitor rule that chose it"),
        ],
        select: "SELECT s.key, h.domain, h.status, t.key, t.properties ->> '$.class', t.properties ->> '$.agent',
          t.properties ->> '$.provider', t.properties ->> '$.target', t.properties ->> '$.process',
          t.properties ->> '$.pathname',
          (SELECT group_concat(a.value, ',') FROM json_each(t.properties, '$.listen') a),
          t.properties ->> '$.state', t.properties ->> '$.isworking', t.properties ->> '$.isactive',
          t.properties ->> '$.reason', t.properties ->> '$.output', t.properties ->> '$.perfdata',
          t.properties ->> '$.since', t.properties ->> '$.rule'
          FROM node t JOIN edge e ON e.target = t.id AND e.kind = 'hosting'
          JOIN node s ON s.id = e.source AND s.kind = 'Drone'
          LEFT JOIN host_name n ON n.designation = s.key LEFT JOIN host h ON h.id = n.id
          WHERE t.kind = 'MonitorAction'",
    },
    View {
        name: "unmonitored",
        meaning: "Services that nothing looks after although nobody said so, and why.",
        columns: &[
            HOST,
            DOMAIN,
            ("process", "key of the process in tcpdiscovery"),
            ("pathname", "its program"),
            ("listenaddrs", "where it listens: address:port, separated by commas"),
            ("why", "why nothing looks after it, and what to do"),
        ],
        select: "SELECT n.designation, h.domain, u.key, u.value ->> '$.pathname',
          (SELECT group_concat(a.value, ',') FROM json_each(u.value, '$.listen') a), u.value ->> '$.why'
          FROM document_period p JOIN host_name n ON n.id = p.host LEFT JOIN host h ON h.id = p.host
          JOIN document d ON d.id = p.document
          JOIN json_each(document_text(d.body), '$.data.unmonitored') u
          WHERE p.until IS NULL AND p.instance = '_monitors' AND u.type = 'object'",
    },
    View {
        name: "nodes",
        meaning: "All nodes of the graph.",
        columns: &[
            ("kind", "Drone, NICNode, IPaddrNode, Package, ProcessNode, IPtcpportNode or MonitorAction"),
            ("key", "identity within the kind"),
            PROPERTIES,
            ("changed", "when the properties last changed"),
        ],
        select: "SELECT kind, key, properties, utc_text(changed) FROM node",
    },
    View {
        name: "edges",
        meaning: "All edges of the graph, each with the host and discovery that says so.",
        columns: &[
            ("host", "the host that says so"),
            INSTANCE,
            ("source_kind", "kind of the node the edge starts from"),
            ("source", "key of that node"),
            ("kind", "nicowner, ipowner, installed, hosting, tcpservice, tcpclient, baseip or monitoring"),
            ("target_kind", "kind of the node the edge leads to"),
            ("target", "key of that node"),
            ("since", "since when this is said"),
        ],
        select: "SELECT n.designation, e.instance, s.kind, s.key, e.kind, t.kind, t.key, utc_text(e.since)
          FROM edge e JOIN host_name n ON n.id = e.host JOIN node s ON s.id = e.source JOIN node t ON t.id = e.target",
    },
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

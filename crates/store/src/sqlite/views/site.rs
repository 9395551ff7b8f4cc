//! Views of hosts, documents, rules and events.

use super::View;
use super::columns::*;

pub const HOSTS: View = View {
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
    select:
        "SELECT n.designation, h.domain, h.status, h.reason, utc_text(h.status_since), utc_text(h.first_seen),
      utc_text(h.last_seen), h.address, utc_text(h.started), h.software, lower(hex(h.key)),
      CASE WHEN h.rejected_key IS NOT NULL THEN lower(hex(h.rejected_key)) END, utc_text(h.rejected_at),
      coalesce((SELECT properties FROM node WHERE kind = 'Drone' AND key = n.designation), '{}')
      FROM host h JOIN host_name n ON n.id = h.id",
};

pub const GROUPS: View = View {
    name: "groups",
    meaning: "Which hosts are in which groups of cma.toml; a row for each host of each group.",
    columns: &[
        ("name", "name of the group"),
        HOST,
        ("why", "what the host fits: name web*, tag web, query, or group frontend"),
        ("since", "when it came in"),
    ],
    select: "SELECT g.name, n.designation, g.why, utc_text(g.since)
      FROM host_group g JOIN host_name n ON n.id = g.host",
};

pub const TAGS: View = View {
    name: "tags",
    meaning: "The tags of hosts; a row for each tag of each host.",
    columns: &[("tag", "the tag"), HOST],
    select: "SELECT t.tag, n.designation FROM host_tag t JOIN host_name n ON n.id = t.host",
};

pub const DOCUMENTS: View = View {
    name: "documents",
    meaning: "The current document of every discovery on every host.",
    columns: &[HOST, DOMAIN, INSTANCE, TYPE, HASH, SIZE, CHANGED_AFTER, SEEN, SINCE, DOCUMENT],
    select: "SELECT n.designation, h.domain, p.instance, p.discovertype, lower(hex(d.hash)), d.size,
      utc_text(p.changed_after), utc_text(p.seen), utc_text(p.since), document_text(d.body)
      FROM document_period p JOIN host_name n ON n.id = p.host LEFT JOIN host h ON h.id = p.host
      JOIN document d ON d.id = p.document WHERE p.until IS NULL",
};

pub const CHANGES: View = View {
    name: "changes",
    meaning: "Every document a host ever had, with the period in which it was current; also of removed hosts.",
    columns: &[HOST, INSTANCE, TYPE, HASH, SIZE, CHANGED_AFTER, SEEN, SINCE, UNTIL, DOCUMENT],
    select: "SELECT n.designation, p.instance, p.discovertype, lower(hex(d.hash)), d.size,
      utc_text(p.changed_after), utc_text(p.seen), utc_text(p.since), utc_text(p.until), document_text(d.body)
      FROM document_period p JOIN host_name n ON n.id = p.host JOIN document d ON d.id = p.document",
};

pub const RULE_RESULTS: View = View {
    name: "rule_results",
    meaning: "The current result of every rule on every host.",
    columns: &[HOST, DOMAIN, INSTANCE, TYPE, RULE, CATEGORY, SEVERITY, STATUS, SCORE, USED, NOTE, SINCE],
    select: "SELECT n.designation, h.domain, r.instance, p.discovertype, r.rule_id, r.category, r.severity,
      r.status, r.score, r.used_values, r.note, utc_text(r.since)
      FROM rule_period r JOIN host_name n ON n.id = r.host LEFT JOIN host h ON h.id = r.host
      LEFT JOIN document_period p ON p.host = r.host AND p.instance = r.instance AND p.until IS NULL
      WHERE r.until IS NULL",
};

pub const RULE_HISTORY: View = View {
    name: "rule_history",
    meaning: "Every result a rule ever had on a host, with its period; also of removed hosts.",
    columns: &[HOST, INSTANCE, RULE, CATEGORY, SEVERITY, STATUS, SCORE, USED, NOTE, SINCE, UNTIL],
    select: "SELECT n.designation, r.instance, r.rule_id, r.category, r.severity, r.status, r.score,
      r.used_values, r.note, utc_text(r.since), utc_text(r.until)
      FROM rule_period r JOIN host_name n ON n.id = r.host",
};

pub const SCORES: View = View {
    name: "scores",
    meaning: "Points of the failed rules, summed for each host, category and discovery type; higher is worse.",
    columns: &[HOST, DOMAIN, CATEGORY, TYPE, ("score", "sum over the failed rules, 0 when none failed")],
    select: "SELECT n.designation, h.domain, r.category, p.discovertype, total(r.score)
      FROM rule_period r JOIN host_name n ON n.id = r.host LEFT JOIN host h ON h.id = r.host
      LEFT JOIN document_period p ON p.host = r.host AND p.instance = r.instance AND p.until IS NULL
      WHERE r.until IS NULL GROUP BY n.designation, h.domain, r.category, p.discovertype",
};

pub const EVENTS: View = View {
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
};

pub const ALERTS: View = View {
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
};

pub const UNMONITORED: View = View {
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
};

pub const CHECKSUMS: View = View {
    name: "checksums",
    meaning: "SHA-256 of the files that the discovery checksums looks at.",
    columns: &[
        HOST,
        DOMAIN,
        ("path", "the file"),
        ("sum", "its SHA-256, 64 hexadecimal digits"),
        ("since", "when the list of sums last changed"),
        SAID_BY,
        INSTANCE,
        LAST_SEEN,
    ],
    select: concat!(
        "SELECT n.designation, h.domain, c.key, c.value, utc_text(p.since), n.designation, p.instance, ",
        last_seen!(),
        " FROM document_period p JOIN host_name n ON n.id = p.host LEFT JOIN host h ON h.id = p.host
          JOIN document d ON d.id = p.document JOIN json_each(document_text(d.body), '$.data') c
          WHERE p.until IS NULL AND p.discovertype = 'checksums' AND c.type = 'text' AND c.key <> 'NODATA'"
    ),
};

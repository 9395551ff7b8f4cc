//! Columns that several views have, and pieces of SQL that go with them.

/// Name and meaning.
pub type Column = (&'static str, &'static str);

pub const HOST: Column = ("host", "designation of the host");
pub const DOMAIN: Column = ("domain", "administrative domain of the host");
pub const INSTANCE: Column = ("instance", "name of the discovery on the host, such as _init_sshd");
pub const TYPE: Column = ("discovertype", "type of the discovery, such as sshd");
pub const SINCE: Column = ("since", "when it was committed here: start of the period");
pub const UNTIL: Column = ("until", "end of the period, null for what is current");
pub const CHANGED_AFTER: Column = ("changed_after", "the change happened after this, by the host's clock");
pub const SEEN: Column = ("seen", "when the host read the value, by its clock");
pub const HASH: Column = ("hash", "SHA-256 of the document, hexadecimal");
pub const SIZE: Column = ("size", "bytes of the document as text");
pub const DOCUMENT: Column = (
    "document",
    "the whole envelope as JSON text: document ->> '$.data.x', or json_tree(document) for every fact",
);
pub const PROPERTIES: Column = ("properties", "all properties as a JSON object");
pub const RULE: Column = ("rule_id", "id of the rule, such as nist_V-38528");
pub const CATEGORY: Column = ("category", "category of the rule, such as security");
pub const SEVERITY: Column = ("severity", "high, medium or low");
pub const STATUS: Column = ("status", "pass, fail, ignore or NA");
pub const SCORE: Column = ("score", "points: 0 unless the rule failed; higher is worse");
pub const USED: Column = ("used_values", "the values that decided it, a JSON object from $name to value");
pub const NOTE: Column = ("note", "why it is NA, or what was wrong with the rule; empty otherwise");
pub const SEQUENCE: Column = ("sequence", "position in the order of events");
pub const EVENTID: Column = ("eventid", "UUID of the event, the same in every delivery");
pub const EVENTTYPE: Column = ("eventtype", "create, up, down, warn, unwarn, update or delete");
pub const IFNAME: Column = ("ifname", "name of the network interface; of a container, the network it is in");
pub const MACADDR: Column = ("macaddr", "MAC address, lower case with dashes");
pub const OUI: Column =
    ("oui", "who made the interface, by the first bytes of its MAC address; null when unknown");
pub const NETWORK: Column = (
    "network",
    "where the address means something: a network of cma.toml, `global`, or the host (`web1`) or container (`web1:docker/0123`) that alone knows it",
);
pub const IPADDR: Column = ("ipaddr", "the address, canonical text: 10.0.0.7, fe80::1");
pub const SUBNET: Column = ("subnet", "its subnet, such as 10.0.0.0/24");
pub const HOSTNAME: Column = (
    "hostname",
    "name from reverse DNS, null when there is none or it was not looked up yet; only in the network `global`",
);
pub const PROCESS: Column = ("process", "key of the process in the graph: host/program:hash");
pub const PATHNAME: Column = ("pathname", "its program, null when the host could not see it");
pub const PROCESSNAME: Column = ("processname", "its name in tcpdiscovery");
pub const CHILD: Column = (
    "child",
    "key of the container or virtual machine on the host that it belongs to, null for the host itself",
);
pub const OFFERED_BY: Column = (
    "offered_by",
    "what offers the service, for people: the program, or the process or container when the program is not known",
);
pub const PORT: Column = ("port", "the port");
pub const PROTOCOL: Column = ("protocol", "tcp or udp");
pub const SERVICE: Column = ("service", "key of the service in the graph: network/port_protocol_address");
pub const FACT_SINCE: Column = ("since", "since when this is said without a break");
pub const SAID_BY: Column = ("said_by", "the host that says so");
pub const LAST_SEEN: Column = (
    "last_seen",
    "when it was true for certain: now while the host that says so is up, for it tells every change; else when it was last heard of",
);

/// Columns of [`fact`], in its order.
macro_rules! fact_columns {
    ($($column:expr),* $(,)?) => {
        &[$($column,)* FACT_SINCE, SAID_BY, INSTANCE, LAST_SEEN]
    };
}

/// When the host `h` was known to be as it says.
macro_rules! last_seen {
    () => {
        "iif(h.status = 'up', utc_text(CAST(unixepoch('subsec') * 1000000 AS INTEGER)), utc_text(h.last_seen))"
    };
}

/// Who says the edge `e`, and since when; with `n` and `h` the name and the row of that host.
macro_rules! fact {
    () => {
        concat!("utc_text(e.since), n.designation, e.instance, ", last_seen!())
    };
}

/// The host that says the edge `e`.
macro_rules! sayer {
    () => {
        " JOIN host_name n ON n.id = e.host LEFT JOIN host h ON h.id = e.host "
    };
}

/// What `p` is called that offers or uses a service: a process, or a container for which its host publishes a port.
macro_rules! called {
    () => {
        "coalesce(p.properties ->> '$.pathname', p.properties ->> '$.processname', p.properties ->> '$.name', p.key)"
    };
}

/// The name of the interface `m`.
macro_rules! interface_name {
    () => {
        "coalesce(m.properties ->> '$.ifname', m.properties ->> '$.network')"
    };
}

/// The name `r` of the address `t`. Names are looked up in the network of the CMA only: the same address may have another
/// one elsewhere.
macro_rules! hostname {
    () => {
        " LEFT JOIN reverse_name r ON r.address = t.properties ->> '$.ipaddr' AND t.key LIKE '@global/%' "
    };
}

/// Leaves one row of an edge that several discoveries say.
macro_rules! said_first {
    () => {
        " NOT EXISTS (SELECT 1 FROM edge x WHERE x.source = e.source AND x.kind = e.kind AND x.target = e.target
            AND (x.host, x.instance) < (e.host, e.instance)) "
    };
}

pub(super) use {called, fact, fact_columns, hostname, interface_name, last_seen, said_first, sayer};

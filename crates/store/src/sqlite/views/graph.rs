//! Views of the graph: what a host is made of, and the nodes and edges themselves.
//!
//! In all of them `e` is the edge that says it, `n` and `h` are the host that says the edge.

use super::View;
use super::columns::*;

pub const NICS: View = View {
    name: "nics",
    meaning: "Network interfaces of hosts, and of containers on them.",
    columns: fact_columns![HOST, DOMAIN, IFNAME, MACADDR, OUI, PROPERTIES, CHILD],
    select: concat!(
        "SELECT n.designation, h.domain, ",
        interface_name!(),
        ", m.properties ->> '$.macaddr', oui(m.properties ->> '$.macaddr'), m.properties,
          iif(s.kind = 'ChildSystem', s.key, NULL), ",
        fact!(),
        " FROM node m JOIN edge e ON e.target = m.id AND e.kind = 'nicowner'
          JOIN node s ON s.id = e.source AND s.kind IN ('Drone', 'ChildSystem')",
        sayer!(),
        "WHERE m.kind = 'NICNode'"
    ),
};

pub const ADDRESSES: View = View {
    name: "addresses",
    meaning: "IP addresses of the network interfaces of hosts, and of containers on them.",
    columns: fact_columns![
        HOST,
        DOMAIN,
        IFNAME,
        MACADDR,
        OUI,
        IPADDR,
        ("cidrmask", "length of the network prefix in bits"),
        HOSTNAME,
        PROPERTIES,
        NETWORK,
        SUBNET,
        CHILD,
    ],
    select: concat!(
        "SELECT n.designation, h.domain, ",
        interface_name!(),
        ", m.properties ->> '$.macaddr', oui(m.properties ->> '$.macaddr'), t.properties ->> '$.ipaddr',
          t.properties ->> '$.cidrmask', r.name, t.properties, context_of(t.key),
          network_of(t.properties ->> '$.ipaddr', t.properties ->> '$.cidrmask'),
          iif(s.kind = 'ChildSystem', s.key, NULL), ",
        fact!(),
        " FROM node t JOIN edge e ON e.target = t.id AND e.kind = 'ipowner'
          JOIN node m ON m.id = e.source AND m.kind = 'NICNode'
          JOIN edge o ON o.target = m.id AND o.kind = 'nicowner' AND o.host = e.host
          JOIN node s ON s.id = o.source AND s.kind IN ('Drone', 'ChildSystem')",
        sayer!(),
        hostname!(),
        "WHERE t.kind = 'IPaddrNode'"
    ),
};

pub const PACKAGES: View = View {
    name: "packages",
    meaning: "Installed packages.",
    columns: fact_columns![
        HOST,
        DOMAIN,
        ("name", "name of the package"),
        ("arch", "architecture, empty when the packager has none"),
        ("version", "installed version"),
        ("type", "packager, such as deb or rpm"),
    ],
    select: concat!(
        "SELECT s.key, h.domain, t.properties ->> '$.name', coalesce(t.properties ->> '$.arch', ''),
          t.properties ->> '$.version', t.properties ->> '$.type', ",
        fact!(),
        " FROM node t JOIN edge e ON e.target = t.id AND e.kind = 'installed' JOIN node s ON s.id = e.source",
        sayer!(),
        "WHERE t.kind = 'Package'"
    ),
};

pub const CHILDREN: View = View {
    name: "children",
    meaning: "Containers and virtual machines on hosts.",
    columns: fact_columns![
        HOST,
        DOMAIN,
        ("child", "key of the container or machine in the graph: host/kind/id"),
        ("kind", "what runs it, such as docker or vagrant"),
        ("name", "its name, null when nobody said one"),
        PROPERTIES,
    ],
    select: concat!(
        "SELECT n.designation, h.domain, t.key, t.properties ->> '$.kind', t.properties ->> '$.name', t.properties, ",
        fact!(),
        " FROM node t JOIN edge e ON e.target = t.id AND e.kind = 'hosting'",
        sayer!(),
        "WHERE t.kind = 'ChildSystem' AND",
        said_first!()
    ),
};

pub const MONITORS: View = View {
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
        SAID_BY,
        INSTANCE,
        LAST_SEEN,
    ],
    select: concat!(
        "SELECT s.key, h.domain, h.status, t.key, t.properties ->> '$.class', t.properties ->> '$.agent',
          t.properties ->> '$.provider', t.properties ->> '$.target', t.properties ->> '$.process',
          t.properties ->> '$.pathname',
          (SELECT group_concat(a.value, ',') FROM json_each(t.properties, '$.listen') a),
          t.properties ->> '$.state', t.properties ->> '$.isworking', t.properties ->> '$.isactive',
          t.properties ->> '$.reason', t.properties ->> '$.output', t.properties ->> '$.perfdata',
          t.properties ->> '$.since', t.properties ->> '$.rule', n.designation, e.instance, ",
        last_seen!(),
        " FROM node t JOIN edge e ON e.target = t.id AND e.kind = 'hosting'
          JOIN node s ON s.id = e.source AND s.kind = 'Drone'",
        sayer!(),
        "WHERE t.kind = 'MonitorAction'"
    ),
};

pub const NODES: View = View {
    name: "nodes",
    meaning: "All nodes of the graph.",
    columns: &[
        (
            "kind",
            "Drone (a host with a nanoprobe), SystemNode (a switch, say), ChildSystem, NICNode, LinkAddress, IPaddrNode, Package, ProcessNode, IPtcpportNode or MonitorAction",
        ),
        ("key", "identity within the kind"),
        PROPERTIES,
        ("changed", "when the properties last changed"),
    ],
    select: "SELECT kind, key, properties, utc_text(changed) FROM node",
};

pub const EDGES: View = View {
    name: "edges",
    meaning: "All edges of the graph, each with the host and discovery that says so.",
    columns: &[
        ("host", "the host that says so"),
        INSTANCE,
        ("source_kind", "kind of the node the edge starts from"),
        ("source", "key of that node"),
        (
            "kind",
            "nicowner, ipowner, linkaddr, wiredto, parentsys, installed, hosting, tcpservice, tcpclient, baseip or monitoring",
        ),
        ("target_kind", "kind of the node the edge leads to"),
        ("target", "key of that node"),
        ("since", "since when this is said"),
        LAST_SEEN,
    ],
    select: concat!(
        "SELECT n.designation, e.instance, s.kind, s.key, e.kind, t.kind, t.key, utc_text(e.since), ",
        last_seen!(),
        " FROM edge e JOIN node s ON s.id = e.source JOIN node t ON t.id = e.target",
        sayer!()
    ),
};

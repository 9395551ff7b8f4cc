//! Views of what leads from one host to others: services and who uses them, cables, neighbours.
//!
//! In all of them `e` is the edge that says it, `n` and `h` are the host that says the edge. Of its processes only the host
//! itself speaks, so the host that says what a process offers or uses is the host of the process. CROSS JOIN keeps the order
//! of look-ups: with few devices SQLite would begin with these, for every row.

use super::View;
use super::columns::*;

/// The key of the container that `p` is, or in which it runs.
macro_rules! child {
    () => {
        "iif(p.kind = 'ChildSystem', p.key, (SELECT c.key FROM edge i CROSS JOIN node c ON c.id = i.source
            WHERE i.target = p.id AND i.kind = 'hosting' AND c.kind = 'ChildSystem' LIMIT 1))"
    };
}

pub const SERVICES: View = View {
    name: "services",
    meaning: "Services that processes offer, and ports that hosts publish for their containers: one row for each address at which they are reached.",
    columns: fact_columns![
        HOST,
        DOMAIN,
        PROCESS,
        PATHNAME,
        PROCESSNAME,
        NETWORK,
        IPADDR,
        PORT,
        PROTOCOL,
        SERVICE,
        CHILD,
        ("is_monitored", "1 when a monitor is run for the process, else 0"),
        OFFERED_BY,
    ],
    select: concat!(
        "SELECT n.designation, h.domain, iif(p.kind = 'ProcessNode', p.key, NULL), p.properties ->> '$.pathname',
          p.properties ->> '$.processname', context_of(t.key), t.properties ->> '$.ipaddr', t.properties ->> '$.port',
          t.properties ->> '$.protocol', t.key, ",
        child!(),
        ", EXISTS (SELECT 1 FROM edge i CROSS JOIN node a ON a.id = i.source
            WHERE i.target = p.id AND i.kind = 'monitoring' AND a.properties ->> '$.isactive'), ",
        called!(),
        ", ",
        fact!(),
        " FROM edge e JOIN node p ON p.id = e.source JOIN node t ON t.id = e.target AND t.kind = 'IPtcpportNode'",
        sayer!(),
        "WHERE e.kind = 'tcpservice'"
    ),
};

pub const CLIENTS: View = View {
    name: "clients",
    meaning: "Services that processes use.",
    columns: fact_columns![
        HOST,
        DOMAIN,
        PROCESS,
        PATHNAME,
        PROCESSNAME,
        NETWORK,
        IPADDR,
        PORT,
        PROTOCOL,
        SERVICE,
    ],
    select: concat!(
        "SELECT n.designation, h.domain, p.key, p.properties ->> '$.pathname', p.properties ->> '$.processname',
          context_of(t.key), t.properties ->> '$.ipaddr', t.properties ->> '$.port', t.properties ->> '$.protocol', t.key, ",
        fact!(),
        " FROM edge e JOIN node p ON p.id = e.source JOIN node t ON t.id = e.target AND t.kind = 'IPtcpportNode'",
        sayer!(),
        "WHERE e.kind = 'tcpclient'"
    ),
};

/// The last columns of a dependency, and its client. Two such selections make the view and not one with outer joins,
/// which SQLite could enter from the client only.
macro_rules! client_end {
    () => {
        concat!(
            "(SELECT min(d.designation) FROM edge b CROSS JOIN edge i ON i.target = b.target AND i.kind = 'ipowner'
            CROSS JOIN edge a ON a.target = i.source AND a.kind = 'nicowner' CROSS JOIN node s ON s.id = a.source
            CROSS JOIN host_name d ON d.id = a.host
            WHERE b.host = e.host AND b.instance = e.instance AND b.source = e.target AND b.kind = 'baseip'
            AND s.kind IN ('Drone', 'ChildSystem')), ",
            fact!(),
            " FROM edge e JOIN node c ON c.id = e.source JOIN node t ON t.id = e.target AND t.kind = 'IPtcpportNode'",
            sayer!()
        )
    };
}

pub const DEPENDENCIES: View = View {
    name: "dependencies",
    meaning: "Which process uses the service of which process. A service that several processes offer has a row for each.",
    columns: fact_columns![
        ("client_host", "designation of the host that uses the service"),
        ("client_process", "key of the process that uses it"),
        ("client_pathname", "program of that process"),
        SERVICE,
        IPADDR,
        PORT,
        PROTOCOL,
        ("server_host", "designation of the host that offers it, null when no nanoprobe says that it does"),
        ("server_process", "key of the process that offers it, null when that is a container"),
        ("server_pathname", "program of that process"),
        NETWORK,
        ("server_child", "key of the container that offers it or in which that process runs, null for the host itself"),
        OFFERED_BY,
        ("address_host", "designation of a host that has the address, whether or not it is known to offer the service"),
    ],
    select: concat!(
        "SELECT n.designation, c.key, c.properties ->> '$.pathname', t.key, t.properties ->> '$.ipaddr',
          t.properties ->> '$.port', t.properties ->> '$.protocol', w.designation,
          iif(p.kind = 'ProcessNode', p.key, NULL), p.properties ->> '$.pathname', context_of(t.key), ",
        child!(),
        ", ",
        called!(),
        ", ",
        client_end!(),
        "JOIN edge o ON o.target = e.target AND o.kind = 'tcpservice'
          JOIN host_name w ON w.id = o.host JOIN node p ON p.id = o.source WHERE e.kind = 'tcpclient'
          UNION ALL SELECT n.designation, c.key, c.properties ->> '$.pathname', t.key, t.properties ->> '$.ipaddr',
          t.properties ->> '$.port', t.properties ->> '$.protocol', NULL, NULL, NULL, context_of(t.key), NULL, NULL, ",
        client_end!(),
        "WHERE e.kind = 'tcpclient' AND NOT EXISTS (SELECT 1 FROM edge o WHERE o.target = e.target AND o.kind = 'tcpservice')"
    ),
};

pub const SWITCH_PORTS: View = View {
    name: "switch_ports",
    meaning: "Which interface is plugged into which port of which switch, as the switch told by LLDP or CDP.",
    columns: fact_columns![
        HOST,
        IFNAME,
        ("switch", "key of the switch in the graph: @network/chassis id"),
        ("system_name", "name of the switch, its chassis id when it said none"),
        ("system_description", "what the switch says it is"),
        ("port_id", "port of the switch"),
        ("port_description", "description of the port"),
        ("vlan", "VLAN of untagged frames at the port"),
        ("speed", "speed of the port in Mbit/s"),
        ("duplex", "full or half"),
        ("network", "the network in which the switch was met: `global` or one of cma.toml"),
        DOMAIN,
        ("properties", "all that is known of the port as a JSON object"),
    ],
    select: concat!(
        "SELECT n.designation, substr(p.key, instr(p.key, '/') + 1), w.key,
          coalesce(w.properties ->> '$.SystemName', substr(w.key, instr(w.key, '/') + 1)),
          coalesce(w.properties ->> '$.SystemDescription', w.properties ->> '$.SystemVersion'),
          coalesce(q.properties ->> '$.PortId', q.properties ->> '$.ifname', substr(q.key, length(w.key) + 2)),
          q.properties ->> '$.PortDescription',
          coalesce(q.properties ->> '$.vlan', q.properties ->> '$.pvid', q.properties ->> '$.VlanId'), q.properties ->> '$.speed',
          q.properties ->> '$.duplex', context_of(w.key), h.domain, q.properties, ",
        fact!(),
        " FROM edge e JOIN node q ON q.id = e.source JOIN node p ON p.id = e.target
          JOIN edge o ON o.target = e.source AND o.kind = 'nicowner' AND o.host = e.host AND o.instance = e.instance
          JOIN node w ON w.id = o.source AND w.kind = 'SystemNode'",
        sayer!(),
        "WHERE e.kind = 'wiredto'"
    ),
};

/// The designation of the host that is the device `s`: an interface of both has the same link-layer address.
macro_rules! host_of_device {
    () => {
        "(SELECT min(d.key) FROM edge o CROSS JOIN edge i ON i.source = o.target AND i.kind = 'linkaddr'
            CROSS JOIN edge y ON y.target = i.target AND y.kind = 'linkaddr'
            CROSS JOIN edge a ON a.target = y.source AND a.kind = 'nicowner' CROSS JOIN node d ON d.id = a.source
            WHERE o.source = s.id AND o.kind = 'nicowner' AND d.kind = 'Drone')"
    };
}

pub const SYSTEMS: View = View {
    name: "systems",
    meaning: "Devices without a nanoprobe that told of themselves, such as switches.",
    columns: &[
        NETWORK,
        ("system", "key of the device in the graph: @network/chassis id"),
        ("chassis_id", "how the device calls itself: mostly a MAC address"),
        ("system_name", "its name, its chassis id when it said none"),
        ("system_description", "what it says it is"),
        ("ipaddr", "the addresses at which it is managed, separated by commas"),
        ("host", "designation of the host that it is: one with a nanoprobe that speaks LLDP itself; null for all others"),
        PROPERTIES,
        ("since", "since when somebody says so"),
        LAST_SEEN,
    ],
    select: concat!(
        "SELECT context_of(s.key), s.key, substr(s.key, instr(s.key, '/') + 1),
          coalesce(s.properties ->> '$.SystemName', substr(s.key, instr(s.key, '/') + 1)),
          coalesce(s.properties ->> '$.SystemDescription', s.properties ->> '$.SystemVersion'),
          (SELECT group_concat(DISTINCT a.properties ->> '$.ipaddr') FROM edge o
            CROSS JOIN edge i ON i.source = o.target AND i.kind = 'ipowner' CROSS JOIN node a ON a.id = i.target
            WHERE o.source = s.id AND o.kind = 'nicowner'), ",
        host_of_device!(),
        ", s.properties,
          (SELECT utc_text(min(o.since)) FROM edge o WHERE o.source = s.id AND o.kind = 'nicowner'),
          (SELECT max(",
        last_seen!(),
        ") FROM edge o JOIN host h ON h.id = o.host WHERE o.source = s.id AND o.kind = 'nicowner')
          FROM node s WHERE s.kind = 'SystemNode'"
    ),
};

/// The designation of a host that has an interface, itself or in a container, with the link-layer address `l`, or else with
/// the IP address `t`.
macro_rules! owner {
    () => {
        "coalesce(
          (SELECT min(d.designation) FROM edge i CROSS JOIN edge a ON a.target = i.source AND a.kind = 'nicowner'
            CROSS JOIN node s ON s.id = a.source CROSS JOIN host_name d ON d.id = a.host
            WHERE i.target = l.id AND i.kind = 'linkaddr' AND s.kind IN ('Drone', 'ChildSystem')),
          (SELECT min(d.designation) FROM edge i CROSS JOIN edge a ON a.target = i.source AND a.kind = 'nicowner'
            CROSS JOIN node s ON s.id = a.source CROSS JOIN host_name d ON d.id = a.host
            WHERE i.target = t.id AND i.kind = 'ipowner' AND s.kind IN ('Drone', 'ChildSystem')))"
    };
}

/// The key of a device that says that it has the IP address `t`, or the link-layer address `l`, or that this is its name.
macro_rules! device {
    () => {
        "coalesce(
          (SELECT min(d.key) FROM edge i CROSS JOIN edge a ON a.target = i.source AND a.kind = 'nicowner'
            CROSS JOIN node d ON d.id = a.source WHERE i.target = t.id AND i.kind = 'ipowner' AND d.kind = 'SystemNode'),
          (SELECT min(d.key) FROM edge i CROSS JOIN edge a ON a.target = i.source AND a.kind = 'nicowner'
            CROSS JOIN node d ON d.id = a.source WHERE i.target = l.id AND i.kind = 'linkaddr' AND d.kind = 'SystemNode'),
          (SELECT d.key FROM node d WHERE d.key = l.key AND d.kind = 'SystemNode'))"
    };
}

pub const NEIGHBOURS: View = View {
    name: "neighbours",
    meaning: "Who answers at which address on the wire, as hosts heard by ARP and neighbour discovery.",
    columns: fact_columns![
        NETWORK,
        MACADDR,
        OUI,
        IPADDR,
        HOSTNAME,
        ("seen_by", "the host that heard it"),
        (
            "owner",
            "designation of the host whose interface has this MAC address, or else this IP address; null when no nanoprobe is there"
        ),
        ("system", "key of the device (a switch, say) that told of itself with this address, or null"),
        ("domain", "administrative domain of the host that heard it"),
    ],
    select: concat!(
        "SELECT context_of(t.key), l.properties ->> '$.macaddr', oui(l.properties ->> '$.macaddr'),
          t.properties ->> '$.ipaddr', r.name, n.designation, ",
        owner!(),
        ", ",
        device!(),
        ", h.domain, ",
        fact!(),
        " FROM node l JOIN edge e ON e.source = l.id AND e.kind = 'ipowner'
          JOIN node t ON t.id = e.target AND t.kind = 'IPaddrNode'",
        sayer!(),
        hostname!(),
        "WHERE l.kind = 'LinkAddress'"
    ),
};

/// The MAC address of the interface `m`; where its system told none, the one with which the IP address `t` was heard.
macro_rules! told_or_heard {
    () => {
        "coalesce(m.properties ->> '$.macaddr',
          (SELECT min(l.properties ->> '$.macaddr') FROM edge i CROSS JOIN node l ON l.id = i.source AND l.kind = 'LinkAddress'
            WHERE i.target = t.id AND i.kind = 'ipowner'))"
    };
}

pub const KNOWN_ADDRESSES: View = View {
    name: "known_addresses",
    meaning: "Every IP address that somebody has, however that is known: addresses of hosts, of devices that told of themselves, and of neighbours that were heard.",
    columns: fact_columns![
        NETWORK,
        IPADDR,
        SUBNET,
        MACADDR,
        OUI,
        HOSTNAME,
        ("host", "designation of the host that has it, null when no nanoprobe is there"),
        ("system", "the host, or the key of its container, or of the device that told of itself; null when nobody knows whose it is"),
        ("ifname", "interface of the host or device, network of the container; null when only heard"),
        DOMAIN,
    ],
    select: concat!(
        "SELECT context_of(t.key), t.properties ->> '$.ipaddr',
          network_of(t.properties ->> '$.ipaddr', t.properties ->> '$.cidrmask'), ",
        told_or_heard!(),
        ", oui(",
        told_or_heard!(),
        "), r.name, iif(s.kind = 'SystemNode', NULL, n.designation), s.key, ",
        interface_name!(),
        ", h.domain, ",
        fact!(),
        " FROM node t JOIN edge e ON e.target = t.id AND e.kind = 'ipowner'
          JOIN node m ON m.id = e.source AND m.kind = 'NICNode'
          JOIN edge o ON o.target = m.id AND o.kind = 'nicowner' AND o.host = e.host AND o.instance = e.instance
          JOIN node s ON s.id = o.source",
        sayer!(),
        hostname!(),
        "WHERE t.kind = 'IPaddrNode' AND",
        said_first!(),
        // A host that speaks LLDP itself is there already, under its own name.
        "AND (s.kind <> 'SystemNode' OR ",
        host_of_device!(),
        " IS NULL) UNION ALL SELECT context_of(t.key), t.properties ->> '$.ipaddr', NULL, l.properties ->> '$.macaddr',
          oui(l.properties ->> '$.macaddr'), r.name, ",
        owner!(),
        ", coalesce(",
        owner!(),
        ", ",
        device!(),
        "), NULL, h.domain, ",
        fact!(),
        " FROM node t JOIN edge e ON e.target = t.id AND e.kind = 'ipowner'
          JOIN node l ON l.id = e.source AND l.kind = 'LinkAddress'",
        sayer!(),
        hostname!(),
        "WHERE t.kind = 'IPaddrNode' AND",
        said_first!(),
        // The same address of the same interface is there already, in the words of its host.
        "AND NOT EXISTS (SELECT 1 FROM edge i CROSS JOIN node m ON m.id = i.source AND m.kind = 'NICNode'
            WHERE i.target = t.id AND i.kind = 'ipowner'
            AND coalesce(m.properties ->> '$.macaddr', l.properties ->> '$.macaddr') = l.properties ->> '$.macaddr')"
    ),
};

use super::processes::Proc;
use super::sockets::{EPHEMERAL, Filter, MAX_SOCKETS, Protocol, Raw, by_netlink, by_tables, messages, parse};
use super::*;
use model::Envelope;
use model::graph::{EdgeKind, NodeKind};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

const LISTEN: u8 = 10;
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;

fn raw(protocol: Protocol, state: u8, local: &str, remote: &str, inode: u64) -> Raw {
    Raw { protocol, state, local: local.parse().unwrap(), remote: remote.parse().unwrap(), inode }
}

fn kept(all: &[Raw]) -> Vec<(Role, String, u64)> {
    let mut filter = Filter::new(&EPHEMERAL);
    all.iter().for_each(|raw| filter.take(raw));
    filter.into_sockets().list.iter().map(|s| (s.role, s.address.to_string(), s.inode)).collect()
}

#[test]
fn an_accepted_connection_is_no_client() {
    use Protocol::Tcp;
    let any = "0.0.0.0:0";
    let found = kept(&[
        raw(Tcp, LISTEN, "0.0.0.0:22", any, 1),
        raw(Tcp, LISTEN, "10.0.0.1:8080", any, 2),
        raw(Tcp, LISTEN, "[::]:40000", "[::]:0", 3),
        // Accepted: at any address, at the one listened at, at a high port by an IPv6 socket.
        raw(Tcp, ESTABLISHED, "10.0.0.1:22", "10.0.0.9:50000", 4),
        raw(Tcp, ESTABLISHED, "10.0.0.1:8080", "10.0.0.9:1023", 5),
        raw(Tcp, ESTABLISHED, "10.0.0.1:40000", "10.0.0.9:443", 6),
        // The listener has gone, the session lives on.
        raw(Tcp, ESTABLISHED, "10.0.0.1:21", "10.0.0.9:50001", 7),
        // Clients: the usual one, one bound to a low port (NFS), one at the port but not the address of a listener.
        raw(Tcp, ESTABLISHED, "10.0.0.1:50002", "10.0.0.2:5432", 8),
        raw(Tcp, ESTABLISHED, "10.0.0.1:900", "10.0.0.2:2049", 9),
        raw(Tcp, ESTABLISHED, "10.0.0.3:8080", "10.0.0.2:80", 10),
        // Nobody's: not yet accepted.
        raw(Tcp, ESTABLISHED, "10.0.0.1:50003", "10.0.0.2:80", 0),
    ]);
    let clients: Vec<&(Role, String, u64)> =
        found.iter().filter(|(role, ..)| *role == Role::Client).collect();
    assert_eq!(found.len() - clients.len(), 3);
    let expected = [("10.0.0.2:5432", 8), ("10.0.0.2:2049", 9), ("10.0.0.2:80", 10)];
    assert_eq!(clients.iter().map(|(_, a, i)| (a.as_str(), *i)).collect::<Vec<_>>(), expected);
}

#[test]
fn udp_sockets_at_ports_of_the_kernels_choice_wait_for_answers() {
    use Protocol::Udp;
    let found = kept(&[
        raw(Udp, CLOSE, "0.0.0.0:123", "0.0.0.0:0", 1),
        raw(Udp, CLOSE, "0.0.0.0:45000", "0.0.0.0:0", 2),
        raw(Udp, CLOSE, "[::]:51820", "[::]:0", 0),
        raw(Udp, ESTABLISHED, "10.0.0.1:45001", "10.0.0.2:53", 3),
        raw(Udp, ESTABLISHED, "10.0.0.1:123", "10.0.0.2:45000", 4),
    ]);
    let expected = [
        (Role::Listens, "0.0.0.0:123".to_owned(), 1),
        (Role::Listens, "[::]:51820".to_owned(), 0),
        (Role::Client, "10.0.0.2:53".to_owned(), 3),
    ];
    assert_eq!(found, expected);
}

#[test]
fn fifty_thousand_connections_cost_little_and_what_is_cut_is_told() {
    let mut filter = Filter::new(&EPHEMERAL);
    filter.take(&raw(Protocol::Tcp, LISTEN, "0.0.0.0:80", "0.0.0.0:0", 1));
    let start = Instant::now();
    for n in 0..50_000u32 {
        let remote = SocketAddr::new(std::net::Ipv4Addr::from(n).into(), 40_000);
        filter.take(&Raw { remote, ..raw(Protocol::Tcp, ESTABLISHED, "10.0.0.1:80", "0.0.0.0:0", 7) });
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for n in 0..50_000 {
        filter.take(&raw(Protocol::Tcp, ESTABLISHED, "10.0.0.1:50000", "10.0.0.2:443", n + 1));
    }
    let sockets = filter.into_sockets();
    assert!(sockets.is_cut && sockets.list.len() == MAX_SOCKETS);
}

#[test]
fn messages_of_the_kernel_are_read_within_their_bounds() {
    let mut message = vec![2, LISTEN, 0, 0, 0, 22, 0, 0, 10, 0, 0, 1];
    message.resize(68, 0);
    message.extend(4711u32.to_ne_bytes());
    let expected = raw(Protocol::Tcp, LISTEN, "10.0.0.1:22", "0.0.0.0:0", 4711);
    assert_eq!(parse(&message, 6), Some(expected));
    for length in 0..message.len() {
        assert_eq!(parse(&message[..length], 6), None);
    }
    let mapped: [u8; 16] = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
    message[0] = 10;
    message[8..24].copy_from_slice(&mapped);
    assert_eq!(parse(&message, 6).unwrap().local, "10.0.0.1:22".parse().unwrap());
    message[0] = 99;
    assert_eq!(parse(&message, 6), None, "an unknown family");

    let wrap = |kind: u16, payload: &[u8], length: u32| {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes
    };
    let mut count = 0;
    let mut piece = wrap(20, &message, 88);
    piece.extend(wrap(20, &message, 88));
    assert!(!messages(&piece, &mut |_| count += 1).unwrap());
    piece.extend(wrap(3, &[0; 4], 20));
    assert!(messages(&piece, &mut |_| count += 1).unwrap());
    assert_eq!(count, 4);
    let refused = messages(&wrap(2, &(-2i32).to_ne_bytes(), 20), &mut |_| {}).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(2));
    for length in [0, 5, 15, 4000, u32::MAX] {
        assert!(messages(&wrap(20, &message, length), &mut |_| {}).is_err(), "{length}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_no_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = messages(&bytes, &mut |payload| { let _ = parse(payload, 17); });
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let _ = containers::of(&text);
        let _ = sockets::ephemeral(&text);
        let _ = by_tables(Wanted::All, &EPHEMERAL, |_| Some(text.clone()));
        let _ = processes::command_line(&bytes, &text);
    }
}

#[test]
fn tables_of_proc() {
    let head =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    // As on a little-endian machine; words are written in the order of the host.
    let host = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
    let line = |local: String, remote: String, state: &str, inode: u64| {
        format!(
            "   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 100\n"
        )
    };
    let none = format!("{}:0000", host([0; 4]));
    let tcp = [
        head.to_owned(),
        line(format!("{}:0016", host([0; 4])), none.clone(), "0A", 1),
        line(format!("{}:0016", host([10, 0, 0, 1])), format!("{}:C350", host([10, 0, 0, 2])), "01", 2),
        line(format!("{}:C350", host([10, 0, 0, 1])), format!("{}:0050", host([10, 0, 0, 2])), "01", 3),
        "junk\n   1: 0:0 zz\n".to_owned(),
    ];
    let six = format!("{}{}{}{}:0035", host([0; 4]), host([0; 4]), host([0; 4]), host([0, 0, 0, 1]));
    let udp6 = [head.to_owned(), line(six, format!("{}:0000", "0".repeat(32)), "07", 4)];
    let found = by_tables(Wanted::All, &EPHEMERAL, |name| match name {
        "tcp" => Some(tcp.concat()),
        "udp6" => Some(udp6.concat()),
        _ => None,
    })
    .unwrap();
    let told: Vec<_> = found.list.iter().map(|s| (words(s).0, words(s).1, s.role)).collect();
    let told: Vec<_> = told.iter().map(|(a, p, r)| (a.as_str(), p.as_str(), *r)).collect();
    let expected = [
        ("0.0.0.0:22", "tcp", Role::Listens),
        ("::1:53", "udp6", Role::Listens),
        ("10.0.0.2:80", "tcp", Role::Client),
    ];
    assert_eq!(told, expected);
    assert_eq!(by_tables(Wanted::All, &EPHEMERAL, |_| None), None);
}

fn socket(role: Role, address: &str, inode: u64) -> (u64, Socket) {
    (0, Socket { protocol: Protocol::Tcp, role, address: address.parse().unwrap(), inode })
}

fn process(pid: u32, exe: &str, words: &[&str], inodes: &[u64]) -> Process {
    Process {
        pid,
        started: u64::from(pid),
        exe: exe.into(),
        cmdline: words.iter().map(|word| (*word).to_owned()).collect(),
        cwd: "/".into(),
        inodes: inodes.to_vec(),
        ..Process::default()
    }
}

fn document_of(sockets: Vec<(u64, Socket)>, processes: Vec<Process>) -> Value {
    let (data, errors) = document::of(
        &Found { sockets, processes, names: BTreeMap::new(), errors: Vec::new() },
        None,
        &BTreeMap::new(),
    );
    assert_eq!(errors, [""; 0]);
    Value::Object(data)
}

#[test]
fn workers_are_one_entry_and_both_sides_are_told() {
    let sockets = vec![
        socket(Role::Listens, "0.0.0.0:80", 1),
        socket(Role::Listens, "[::]:80", 2),
        socket(Role::Client, "10.0.0.2:5432", 3),
        socket(Role::Client, "10.0.0.2:5432", 4),
        socket(Role::Client, "127.0.0.1:9000", 5),
        socket(Role::Listens, "0.0.0.0:111", 0),
        (0, Socket { protocol: Protocol::Udp, ..socket(Role::Listens, "0.0.0.0:111", 0).1 }),
        socket(Role::Client, "93.184.216.34:443", 6),
    ];
    let mut worker = process(11, "/usr/sbin/nginx", &["nginx"], &[1, 2, 3, 5]);
    worker.uids = [33; 4];
    let processes = vec![
        process(10, "/usr/sbin/nginx", &["nginx"], &[1, 2]),
        worker,
        process(12, "/usr/sbin/nginx", &["nginx"], &[1, 2, 4]),
        process(20, "/usr/lib/firefox/firefox", &["firefox"], &[6]),
    ];
    let data = document_of(sockets.clone(), processes.clone());
    let entries = data.as_object().unwrap();
    let names: Vec<&str> = entries.keys().map(|key| key.split(':').next().unwrap()).collect();
    assert_eq!(names, ["kernel", "nginx"]);
    let nginx = entries.values().nth(1).unwrap();
    assert_eq!(nginx["listenaddrs"], json!({"0.0.0.0:80": "tcp", ":::80": "tcp6"}));
    assert_eq!(nginx["clientaddrs"], json!({"10.0.0.2:5432": "tcp"}));
    assert_eq!(nginx["loopback_clientaddrs"], json!({"127.0.0.1:9000": "tcp"}));
    assert_eq!((&nginx["uid"], &nginx["proxy"]), (&json!(0), &json!("local/local")));
    let kernel = entries.values().next().unwrap();
    assert_eq!(kernel["listenaddrs"], json!({"0.0.0.0:111": "tcp,udp"}));
    assert_eq!((&kernel["exe"], &kernel["cmdline"]), (&json!("/boot/kernel"), &json!(["kernel"])));

    // Other process numbers, the same document.
    let again =
        processes.into_iter().map(|p| Process { pid: p.pid + 1000, started: p.started + 9, ..p }).collect();
    assert_eq!(document_of(sockets, again), data);
}

#[test]
fn a_listener_without_a_process_is_told_all_the_same() {
    let data = document_of(
        vec![socket(Role::Listens, "0.0.0.0:2024", 77), socket(Role::Client, "10.0.0.1:1", 78)],
        vec![],
    );
    let (key, entry) = data.as_object().unwrap().iter().next().unwrap();
    assert!(key.starts_with("unknown:"), "{key}");
    assert_eq!(*entry, json!({"proxy": "local/local", "listenaddrs": {"0.0.0.0:2024": "tcp"}}));
}

#[test]
fn the_key_tells_programs_owners_and_containers_apart() {
    let id = "ab".repeat(32);
    let one = process(1, "/bin/a", &["a"], &[1]);
    let variants = [
        one.clone(),
        Process { cmdline: vec!["a".into(), "-x".into()], ..one.clone() },
        Process { uids: [7; 4], ..one.clone() },
        Process { gids: [7; 4], ..one.clone() },
        Process { exe: "/opt/a".into(), ..one.clone() },
        Process { cgroup: format!("0::/docker/{id}"), namespace: 5, ..one.clone() },
        Process { namespace: 6, ..one.clone() },
    ];
    let keys: std::collections::BTreeSet<String> = variants
        .iter()
        .map(|variant| {
            let data = document_of(vec![socket(Role::Listens, "0.0.0.0:1", 1)], vec![variant.clone()]);
            data.as_object().unwrap().keys().next().unwrap().clone()
        })
        .collect();
    assert_eq!(keys.len(), variants.len(), "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("a:") && key.len() == 34), "{keys:?}");

    let found = Found {
        sockets: vec![socket(Role::Listens, "0.0.0.0:1", 1)],
        processes: vec![variants[5].clone()],
        names: BTreeMap::new(),
        errors: Vec::new(),
    };
    let proxy = |own| document::of(&found, own, &BTreeMap::new()).0.values().next().unwrap()["proxy"].clone();
    assert_eq!(proxy(None), format!("docker/{id}"));
    assert_eq!(proxy(Some(&format!("docker/{id}"))), "local/local", "we are in the same one");
}

#[test]
fn user_and_unit_are_told_and_are_no_part_of_the_key() {
    let plain = process(1, "/usr/sbin/named", &["named"], &[1]);
    let mut of_unit = plain.clone();
    of_unit.cgroup = "0::/system.slice/named.service".into();
    let mut in_container = plain.clone();
    in_container.cgroup = format!("0::/system.slice/docker-{}.scope", "0123456789abcdef".repeat(4));
    let users = BTreeMap::from([(0, "root".to_owned())]);
    let entry = |process: Process| {
        let sockets = vec![socket(Role::Listens, "0.0.0.0:53", 1)];
        let found = Found { sockets, processes: vec![process], names: BTreeMap::new(), errors: Vec::new() };
        document::of(&found, None, &users).0.into_iter().next().unwrap()
    };
    let (key, bare) = entry(plain);
    let (same, told) = entry(of_unit);
    assert_eq!((key, &told["unit"], &told["user"]), (same, &json!("named.service"), &json!("root")));
    assert!(bare.get("unit").is_none());
    let (_, contained) = entry(in_container);
    assert!(contained.get("unit").is_none() && contained.get("user").is_none(), "its users are others");
}

#[test]
fn dependencies_meet_at_the_same_service() {
    let envelope = |data: Value, addresses: Value| Envelope {
        discovertype: DISCOVERY.name.into(),
        description: String::new(),
        host: String::new(),
        source: String::new(),
        instance: "_init_tcpdiscovery".into(),
        proxy: "local/local".into(),
        data,
        errors: Vec::new(),
        extras: Map::from_iter([("addresses".to_owned(), addresses)]),
    };
    let own = json!({"10.0.0.1/24": "global", "fd00::1/64": "global", "172.17.0.1/16": "host"});
    let server = envelope(
        json!({
            "db:1": {"exe": "/db", "proxy": "local/local", "listenaddrs": {":::5432": "tcp6", "0.0.0.0:53": "tcp,udp"},
                     "loopback_listenaddrs": {"127.0.0.1:6379": "tcp"}},
            "web:2": {"exe": "/web", "proxy": "docker/abc", "listenaddrs": {"0.0.0.0:80": "tcp"}},
        }),
        own,
    );
    let keys = |host: &str, envelope: &Envelope, kind: EdgeKind| {
        let facts = (DISCOVERY.graph)(host, envelope);
        let mut keys: Vec<String> =
            facts.edges.iter().filter(|edge| edge.kind == kind).map(|edge| edge.target.key.clone()).collect();
        keys.sort();
        (keys, facts)
    };
    let (services, facts) = keys("h1", &server, EdgeKind::TcpService);
    assert_eq!(
        services,
        [
            "@global/53_tcp_10.0.0.1",
            "@global/53_udp_10.0.0.1",
            "@global/5432_tcp_10.0.0.1",
            "@global/5432_tcp_fd00::1",
            "h1/53_tcp_172.17.0.1",
            "h1/53_udp_172.17.0.1",
            "h1/5432_tcp_172.17.0.1",
            "h1/6379_tcp_127.0.0.1",
            "h1:docker/abc/80_tcp_0.0.0.0",
        ]
    );
    assert_eq!(facts.host_properties["roles"], json!(["drone", "host", "server"]));
    // Each source is the host or the target of another edge.
    for edge in &facts.edges {
        let is_target = facts
            .edges
            .iter()
            .any(|other| (other.target.kind, &other.target.key) == (edge.source.0, &edge.source.1));
        assert!(is_target || edge.source == (NodeKind::Drone, "h1".to_owned()), "{edge:?}");
    }
    let client = envelope(
        json!({"app:3": {"exe": "/app", "proxy": "local/local",
            "clientaddrs": {"10.0.0.1:5432": "tcp", "172.17.0.9:80": "tcp"}, "loopback_clientaddrs": {"::1:25": "tcp6"}}}),
        json!({"10.0.0.2/24": "global", "172.17.0.1/16": "host"}),
    );
    let (used, facts) = keys("h2", &client, EdgeKind::TcpClient);
    assert_eq!(used, ["@global/5432_tcp_10.0.0.1", "h2/25_tcp_::1", "h2/80_tcp_172.17.0.9"]);
    assert_eq!(facts.host_properties["roles"], json!(["client", "drone", "host"]));
    let processes = keys("h2", &client, EdgeKind::Hosting).0;
    assert_eq!(processes, ["h2/app:3"]);
    let junk = envelope(
        json!({"a": 1, "b": {"listenaddrs": {"x": "tcp", "1.2.3.4:99999": "tcp", "1.2.3.4:1": 5}}}),
        json!(7),
    );
    assert_eq!(keys("h3", &junk, EdgeKind::TcpService).0, [""; 0]);
}

#[test]
fn a_directory_like_proc_is_read_and_what_vanishes_is_left_out() {
    let tree = tempfile::tempdir().unwrap();
    let at = |path: &str| tree.path().join(path);
    for pid in ["12", "13"] {
        std::fs::create_dir_all(at(&format!("{pid}/fd"))).unwrap();
        std::os::unix::fs::symlink("socket:[5]", at(&format!("{pid}/fd/3"))).unwrap();
        std::os::unix::fs::symlink("/dev/null", at(&format!("{pid}/fd/0"))).unwrap();
    }
    std::fs::create_dir_all(at("self/net")).unwrap();
    std::fs::create_dir(at("12/ns")).unwrap();
    std::os::unix::fs::symlink("net:[77]", at("12/ns/net")).unwrap();
    std::os::unix::fs::symlink("/usr/sbin/x (deleted)", at("12/exe")).unwrap();
    std::fs::write(at("12/cmdline"), "x\0--token\0geheim\0").unwrap();
    std::fs::write(at("12/status"), "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n").unwrap();
    let proc = Proc::open(tree.path().to_str().unwrap()).unwrap();
    assert_eq!(proc.pids(), [12, 13]);
    assert_eq!((proc.namespace("12"), proc.namespace("13")), (Some(77), None));
    let wanted = HashMap::from([(5, ())]);
    assert_eq!(proc.sockets(12, &wanted), Some(vec![5]));
    assert_eq!(proc.sockets(99, &wanted), Some(vec![]), "ended meanwhile");
    let process = proc.process(12, 77, vec![5]).unwrap();
    assert_eq!((process.exe.as_str(), process.exe_deleted), ("/usr/sbin/x", true));
    assert_eq!(
        (process.uids, process.gids, process.cmdline.join(" ")),
        ([1, 2, 3, 4], [5, 6, 7, 8], "x --token ***".into())
    );
    assert_eq!(proc.process(13, 0, vec![5]), None, "without status it has ended");
    assert!(Proc::open("/nonexistent").is_err());
}

#[test]
fn this_very_process_is_found_with_both_sides() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let client = TcpStream::connect(at).unwrap();
    let accepted = listener.accept().unwrap().0;
    let found = find(Wanted::All).unwrap();
    let own = found.processes.iter().find(|process| process.pid == std::process::id()).unwrap();
    let of_own = |role| {
        let sockets = found.sockets.iter().filter(|(_, socket)| own.inodes.contains(&socket.inode));
        sockets.filter(|(_, socket)| socket.role == role && socket.address == at).count()
    };
    assert_eq!((of_own(Role::Listens), of_own(Role::Client)), (1, 1));
    let accepted_at = accepted.peer_addr().unwrap();
    assert!(
        found.sockets.iter().all(|(_, socket)| socket.address != accepted_at),
        "the accepted side is no client"
    );
    drop((client, accepted));
    let listening = by_netlink(Wanted::Listening, &EPHEMERAL).unwrap();
    assert!(listening.list.iter().any(|socket| socket.address == at));
    assert!(listening.list.iter().all(|socket| socket.role == Role::Listens));
}

#[test]
fn the_tables_of_proc_tell_the_same_as_the_kernel() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    // The port of the UDP socket is of the kernel's choice; this range has none.
    let ephemeral: Ephemeral = 1..=1;
    let proc = Proc::open("/proc").unwrap();
    let by_proc = tables(&proc, "thread-self", Wanted::All, &ephemeral).unwrap();
    let by_kernel = by_netlink(Wanted::All, &ephemeral).unwrap();
    for (address, protocol) in
        [(listener.local_addr().unwrap(), Protocol::Tcp), (udp.local_addr().unwrap(), Protocol::Udp)]
    {
        for sockets in [&by_proc, &by_kernel] {
            let found = sockets.list.iter().find(|s| s.address == address && s.protocol == protocol).unwrap();
            assert!(found.role == Role::Listens && found.inode != 0);
        }
    }
}

#[test]
fn a_file_tree_has_no_sockets() {
    let tree = tempfile::tempdir().unwrap();
    let collected = (DISCOVERY.collect)(&Host::at(tree.path()), &Parameters::new());
    assert!(collected.data["NODATA"].is_string() && collected.errors.is_empty());
}

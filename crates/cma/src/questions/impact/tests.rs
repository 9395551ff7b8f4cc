use super::*;
use crate::questions::made::Made;

const BOUNDS: Bounds = Bounds { hops: 5, rows: 1000 };

fn answer(made: &mut Made, name: &str, bounds: Bounds) -> Impact {
    let subject = made.subject(name).unwrap();
    impact(&mut Walker::new(made), &subject, bounds).unwrap()
}

/// `depth effect kind host what`.
fn told(impact: &Impact) -> Vec<String> {
    let effect = |effect| match effect {
        Effect::Stops => "stops",
        Effect::Degraded => "degraded",
        Effect::LosesRedundancy => "loses redundancy",
    };
    let line =
        |row: &Row| format!("{} {} {} {} {}", row.depth, effect(row.effect), row.kind, row.host, row.what);
    impact.rows.iter().map(line).collect()
}

fn because(impact: &Impact, host: &str) -> String {
    impact.rows.iter().find(|row| row.host == host).unwrap().because.clone()
}

/// lb1 → web1 → app1 → db1, each over one port, and an administrator's psql at ops1.
fn chain() -> Made {
    let mut made = Made::default();
    for (number, name) in ["lb1", "web1", "app1", "db1", "ops1"].iter().enumerate() {
        made.host(name, &format!("10.0.0.{}", number + 1));
    }
    made.offers("lb1", "haproxy", "10.0.0.1:443");
    made.uses("lb1", "haproxy", "10.0.0.2:80");
    made.offers("web1", "nginx", "10.0.0.2:80");
    made.uses("web1", "nginx", "10.0.0.3:8080");
    made.offers("app1", "tomcat", "10.0.0.3:8080");
    made.uses("app1", "tomcat", "10.0.0.4:5432");
    made.offers("db1", "postgres", "10.0.0.4:5432");
    made.uses("ops1", "psql", "10.0.0.4:5432");
    made
}

#[test]
fn a_host_takes_with_it_what_needs_it_over_several_hops() {
    let mut made = chain();
    let all = answer(&mut made, "db1", BOUNDS);
    assert_eq!(
        told(&all),
        [
            "0 stops service db1 postgres 10.0.0.4:5432",
            "1 stops service app1 tomcat 10.0.0.3:8080",
            "1 stops client ops1 psql",
            "2 stops service web1 nginx 10.0.0.2:80",
            "3 stops service lb1 haproxy 10.0.0.1:443",
        ]
    );
    assert_eq!(because(&all, "db1"), "runs on db1");
    assert_eq!(
        because(&all, "web1"),
        "uses tomcat of app1 at 10.0.0.3:8080, which uses postgres of db1 at 10.0.0.4:5432"
    );
    let path: Vec<String> =
        all.rows[3].path.iter().map(|s| format!("{} {}", s.edge.unwrap_or("-"), s.key)).collect();
    assert_eq!(
        path,
        [
            "- db1",
            "hosting db1/postgres:0123456789abcdef",
            "tcpservice @global/5432_tcp_10.0.0.4",
            "tcpclient app1/tomcat:0123456789abcdef",
            "tcpservice @global/8080_tcp_10.0.0.3",
            "tcpclient web1/nginx:0123456789abcdef",
        ]
    );
    assert_eq!(all.summary, "If db1 stops: 4 services and 1 client stop, on 5 hosts.");
    assert_eq!((all.more, all.farther), (0, 0));
    assert_eq!(answer(&mut made, "lb1", BOUNDS).rows.len(), 1, "nobody uses the first of the chain");
}

#[test]
fn hops_and_rows_are_bounded_and_what_is_left_out_is_counted() {
    let mut made = chain();
    let near = answer(&mut made, "db1", Bounds { hops: 1, rows: 1000 });
    assert_eq!((near.rows.len(), near.farther), (3, 1), "nginx is farther away");
    assert!(near.summary.ends_with("1 more are farther away; --hops follows them."), "{}", near.summary);
    let few = answer(&mut made, "db1", Bounds { hops: 5, rows: 2 });
    assert_eq!((few.rows.len(), few.more), (2, 1));
    assert!(few.summary.contains("1 more are affected and not shown"), "{}", few.summary);
}

#[test]
fn a_service_is_named_in_many_ways_and_takes_only_its_users_with_it() {
    let mut made = chain();
    made.offers("db1", "sshd", "10.0.0.4:22");
    made.uses("ops1", "ssh", "10.0.0.4:22");
    let expected = told(&answer(&mut made, "db1:5432", BOUNDS));
    assert_eq!(expected[0], "1 stops service app1 tomcat 10.0.0.3:8080");
    assert_eq!(expected.len(), 4, "not ssh: {expected:?}");
    for name in [
        "10.0.0.4:5432",
        "db1/postgres",
        "postgres",
        "@global/5432_tcp_10.0.0.4",
        "db1/postgres:0123456789abcdef",
    ] {
        assert_eq!(told(&answer(&mut made, name, BOUNDS)), expected, "{name}");
    }
    let unused = answer(&mut made, "lb1:443", BOUNDS);
    assert_eq!(
        (unused.rows.len(), unused.summary.as_str()),
        (0, "Nobody is known to use haproxy at lb1:443.")
    );
}

#[test]
fn who_has_two_servers_is_degraded_unless_both_stop() {
    let mut made = Made::default();
    for (name, ip) in [("web1", "10.0.0.1"), ("db1", "10.0.0.4"), ("db2", "10.0.0.5"), ("lb1", "10.0.0.9")] {
        made.host(name, ip);
    }
    for (host, ip) in [("db1", "10.0.0.4"), ("db2", "10.0.0.5")] {
        made.offers(host, "postgres", &format!("{ip}:5432"));
        made.uses("web1", "nginx", &format!("{ip}:5432"));
    }
    made.offers("web1", "nginx", "10.0.0.1:80");
    made.uses("lb1", "haproxy", "10.0.0.1:80");
    let one = answer(&mut made, "db1", BOUNDS);
    assert_eq!(
        told(&one),
        ["0 stops service db1 postgres 10.0.0.4:5432", "1 degraded service web1 nginx 10.0.0.1:80"],
        "what is degraded goes on, so lb1 is not affected"
    );
    assert_eq!(because(&one, "web1"), "uses postgres of db1 at 10.0.0.4:5432; still has 10.0.0.5:5432 (db2)");

    // The second server needs the first: at the second hop the alternative is gone.
    made.uses("db2", "postgres", "10.0.0.4:5432");
    assert_eq!(
        told(&answer(&mut made, "db1", BOUNDS)),
        [
            "0 stops service db1 postgres 10.0.0.4:5432",
            "1 stops service db2 postgres 10.0.0.5:5432",
            "2 stops service web1 nginx 10.0.0.1:80",
            "3 stops client lb1 haproxy",
        ]
    );
}

#[test]
fn a_server_that_is_dead_or_does_something_else_is_no_alternative() {
    let mut made = Made::default();
    for (name, ip) in [("web1", "10.0.0.1"), ("db1", "10.0.0.4"), ("db2", "10.0.0.5")] {
        made.host(name, ip);
    }
    made.offers("db1", "postgres", "10.0.0.4:5432");
    made.uses("web1", "nginx", "10.0.0.4:5432");
    made.offers("db2", "redis", "10.0.0.5:6379");
    made.uses("web1", "nginx", "10.0.0.5:6379");
    let effect = |made: &mut Made| {
        answer(made, "db1", BOUNDS).rows.into_iter().find(|row| row.host == "web1").unwrap().effect
    };
    assert_eq!(effect(&mut made), Effect::Stops, "redis is no postgres");
    // The same program at another port counts.
    made.offers("db2", "postgres", "10.0.0.5:5433");
    made.uses("web1", "nginx", "10.0.0.5:5433");
    assert_eq!(effect(&mut made), Effect::Degraded);
    made.dead("db2");
    assert_eq!(effect(&mut made), Effect::Stops);
    // A server without a nanoprobe: nobody knows whether it is up, but there is one.
    made.uses("web1", "nginx", "192.0.2.1:5432");
    assert_eq!(effect(&mut made), Effect::Degraded);
    let text = because(&answer(&mut made, "db1", BOUNDS), "web1");
    assert!(text.ends_with("still has 192.0.2.1:5432 (no nanoprobe there)"), "{text}");
}

#[test]
fn circles_end() {
    let mut made = Made::default();
    for (name, ip, next) in
        [("a", "10.0.0.1", "10.0.0.2"), ("b", "10.0.0.2", "10.0.0.3"), ("c", "10.0.0.3", "10.0.0.1")]
    {
        made.host(name, ip);
        made.offers(name, "peer", &format!("{ip}:7000"));
        made.uses(name, "peer", &format!("{next}:7000"));
    }
    made.uses("a", "peer", "10.0.0.1:7000");
    let all = answer(&mut made, "a", Bounds { hops: 20, rows: 1000 });
    assert_eq!(
        told(&all),
        [
            "0 stops service a peer 10.0.0.1:7000",
            "1 stops service c peer 10.0.0.3:7000",
            "2 stops service b peer 10.0.0.2:7000",
        ]
    );
}

#[test]
fn containers_go_down_with_their_host() {
    let mut made = Made::default();
    made.host("web1", "10.0.0.1");
    made.host("dock1", "10.0.0.2");
    made.contains("dock1", "docker/0123", "redis", "10.0.0.2:6379");
    made.uses("web1", "nginx", "10.0.0.2:6379");
    let all = answer(&mut made, "dock1", BOUNDS);
    assert_eq!(told(&all), ["0 stops service dock1 redis 10.0.0.2:6379", "1 stops client web1 nginx"]);
    assert_eq!(because(&all, "dock1"), "runs on dock1 in dock1/docker/0123");
    assert_eq!(
        all.rows[0].path.iter().map(|step| step.kind.as_str()).collect::<Vec<_>>(),
        ["Drone", "ChildSystem", "ProcessNode"]
    );
    let inside = answer(&mut made, "dock1/docker/0123", BOUNDS);
    assert_eq!(told(&inside), ["1 stops client web1 nginx"]);
}

#[test]
fn a_switch_takes_hosts_with_one_cable_and_redundancy_from_the_others() {
    let mut made = chain();
    made.wired("aa-01", "g1", "db1", "eth0");
    made.wired("aa-01", "g2", "web1", "eth0");
    made.wired("aa-02", "g1", "web1", "eth1");
    let all = answer(&mut made, "name-of-aa-01", BOUNDS);
    assert_eq!(
        told(&all)[..4],
        [
            "0 stops host db1 db1",
            "0 stops service db1 postgres 10.0.0.4:5432",
            "0 loses redundancy host web1 web1",
            "1 stops service app1 tomcat 10.0.0.3:8080",
        ]
    );
    assert_eq!(
        because(&all, "db1"),
        "eth0 is wired to name-of-aa-01 port g1; no cable to another switch is known"
    );
    assert_eq!(
        because(&all, "web1"),
        "eth0 is wired to name-of-aa-01 port g2, but eth1 is wired to name-of-aa-02 port g1 too"
    );
    let other = answer(&mut made, "aa-02", BOUNDS);
    assert_eq!(told(&other), ["0 loses redundancy host web1 web1"]);
    // Two cables to the same switch are no redundancy.
    made.wired("aa-01", "g3", "db1", "eth1");
    assert_eq!(told(&answer(&mut made, "aa-01", BOUNDS))[0], "0 stops host db1 db1");
}

#[test]
fn two_networks_with_the_same_addresses_are_apart() {
    let mut made = Made::default();
    made.host("db-a", "@global/10.0.0.4");
    made.host("db-b", "@berlin/10.0.0.4");
    made.offers("db-a", "postgres", "@global/10.0.0.4:5432");
    made.offers("db-b", "postgres", "@berlin/10.0.0.4:5432");
    made.host("web-a", "@global/10.0.0.1");
    made.host("web-b", "@berlin/10.0.0.1");
    made.uses("web-a", "nginx", "@global/10.0.0.4:5432");
    made.uses("web-b", "nginx", "@berlin/10.0.0.4:5432");
    assert_eq!(told(&answer(&mut made, "db-a", BOUNDS))[1..], ["1 stops client web-a nginx"]);
    match made.subject("10.0.0.4:5432") {
        Err(Trouble::Ambiguous(name, candidates)) => {
            assert_eq!(name, "10.0.0.4:5432");
            assert_eq!(candidates, ["@berlin/5432_tcp_10.0.0.4", "@global/5432_tcp_10.0.0.4"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(told(&answer(&mut made, "@berlin/5432_tcp_10.0.0.4", BOUNDS)), ["1 stops client web-b nginx"]);
}

#[test]
fn a_level_is_a_handful_of_reads_however_wide_it_is() {
    let reads = |clients: usize| {
        let mut made = Made::default();
        made.host("db1", "10.0.0.4");
        made.offers("db1", "postgres", "10.0.0.4:5432");
        for number in 0..clients {
            let name = format!("c{number:03}");
            made.host(&name, &format!("10.0.1.{number}"));
            made.uses(&name, "app", "10.0.0.4:5432");
        }
        let subject = made.subject("db1").unwrap();
        made.reads = 0;
        let found = impact(&mut Walker::new(&mut made), &subject, BOUNDS).unwrap();
        assert_eq!(found.rows.len(), clients + 1);
        made.reads
    };
    assert_eq!(reads(100), reads(2));
}

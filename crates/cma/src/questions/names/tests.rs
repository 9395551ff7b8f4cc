use super::*;
use crate::questions::made::Made;

fn site() -> Made {
    let mut made = Made::default();
    made.host("web1", "10.0.0.1");
    made.host("db1", "10.0.0.4");
    made.offers("db1", "postgres", "10.0.0.4:5432");
    made.offers("db1", "sshd", "10.0.0.4:22");
    made.offers("web1", "sshd", "10.0.0.1:22");
    made.wired("00-16-3e-ff-00-01", "g1", "web1", "eth0");
    made.seen("web1", "00-16-3e-00-00-09", "10.0.0.9");
    made
}

fn meant(name: &str) -> String {
    match site().subject(name) {
        Ok(subject) => format!("{} {}", subject.kind(), subject.name()),
        Err(Trouble::Unknown(text, hint)) => format!("unknown: {text}; {hint}"),
        Err(Trouble::Ambiguous(_, names)) => format!("ambiguous: {}", names.join(" ")),
        Err(Trouble::Store(error)) => panic!("{error}"),
    }
}

#[test]
fn everything_has_a_name() {
    for (name, expected) in [
        ("WEB1", "host web1"),
        (" db1 ", "host db1"),
        ("10.0.0.4", "host db1"),
        ("db1/eth0", "host db1"),
        ("db1:5432", "service postgres at db1:5432"),
        ("db1:5432/tcp", "service postgres at db1:5432"),
        ("10.0.0.4:22", "service sshd at db1:22"),
        ("db1/postgres", "service postgres at db1:5432"),
        ("postgres", "service postgres at db1:5432"),
        ("name-of-00-16-3e-ff-00-01", "switch name-of-00-16-3e-ff-00-01"),
        ("00:16:3E:FF:00:01", "switch name-of-00-16-3e-ff-00-01"),
        ("@global/00-16-3e-ff-00-01", "switch name-of-00-16-3e-ff-00-01"),
        ("10.0.0.9", "address 10.0.0.9"),
        ("00-16-3e-00-00-09", "address 00-16-3e-00-00-09"),
    ] {
        assert_eq!(meant(name), expected, "{name}");
    }
}

#[test]
fn what_is_not_known_or_not_one_thing_is_told_with_what_to_do() {
    for (name, expected) in [
        ("sshd", "ambiguous: @global/22_tcp_10.0.0.1 @global/22_tcp_10.0.0.4"),
        ("db1:80", "unknown: nothing is known to listen at db1:80; db1 offers 22 (sshd), 5432 (postgres)"),
        (
            "db1:22/udp",
            "unknown: nothing is known to listen at db1:22/udp; db1 offers 22 (sshd), 5432 (postgres)",
        ),
        (
            "db1/postgrse",
            "unknown: no program \"postgrse\" with sockets is known at db1; did you mean db1/postgres?",
        ),
        ("webb1", "unknown: no host, service, switch or address is known as \"webb1\"; did you mean web1?"),
        (
            "webb1:22",
            "unknown: no host, service, switch or address is known as \"webb1:22\"; did you mean web1:22?",
        ),
        (
            "zzzzzzzz",
            "unknown: no host, service, switch or address is known as \"zzzzzzzz\"; 2 hosts known: `assimcli hosts` lists them",
        ),
    ] {
        assert_eq!(meant(name), expected, "{name}");
    }
    for hostile in
        ["", "%", "a'; DROP TABLE node; --", "\u{1b}[2J", &"x".repeat(10_000), "::::", "[", "a/", "/a", ":1"]
    {
        assert!(meant(hostile).starts_with("unknown"), "{hostile:?}");
    }
}

#[test]
fn a_program_on_several_hosts_is_named_so_that_one_can_choose() {
    let mut made = site();
    let Err(Trouble::Ambiguous(_, names)) = made.subject("sshd") else { panic!() };
    for name in names {
        assert_eq!(made.subject(&name).unwrap().kind(), "service", "{name}");
    }
}

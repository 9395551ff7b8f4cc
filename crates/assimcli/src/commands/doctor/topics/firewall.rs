//! Packet filters of this machine that drop what comes to our ports, as far as their rules can be read.
//!
//! What `nft` shows is followed for the packet of a stranger ([`ruleset`]); what only the older iptables shows is judged by its
//! default and by the rules that name the port. Where that does not decide it, the command is shown that tries it from elsewhere.

use super::ruleset::{self, Family, Fate, Place};
use super::{Check, Look, Topic};

const NAME: &str = "firewall";

pub static TOPIC: Topic = Topic { name: NAME, check };

const DEFAULT_PORT: u16 = 1984;

fn check(look: &Look) -> Vec<Check> {
    if !look.is_machine() || !(look.has_cma() || look.has_nanoprobe()) {
        return Vec::new();
    }
    let bind = look.told("bind").and_then(|bind| bind.rsplit_once(':')?.1.parse().ok());
    let port: u16 = bind.unwrap_or(DEFAULT_PORT);
    if let Some(rules) = look.program("nft", &["list", "ruleset"]) {
        return vec![nft(&rules, port)];
    }
    if let Some(rules) = look.program("iptables", &["-S", "INPUT"]) {
        return vec![iptables(&rules, port)];
    }
    let text = "the rules of the packet filter cannot be read here";
    let check = Check::unknown(NAME, text);
    vec![if look.is_root { check } else { check.fix("sudo assimcli doctor") }]
}

fn nft(rules: &str, port: u16) -> Check {
    let [v4, v6] = [Family::Ipv4, Family::Ipv6].map(|family| ruleset::fate(rules, family, port));
    match v4 {
        Fate::Dropped(place) => {
            let Place { family, table, chain } = &place;
            let text = format!(
                "what comes to UDP port {port} is dropped by the packet filter (nft table {family} {table}, chain {chain})"
            );
            Check::bad(NAME, text).fix(mending(rules, &place, port))
        }
        Fate::Unknown(Place { family, table, chain }) => {
            let text = format!(
                "whether UDP port {port} is reached depends on the sender or on rules that are not understood here (nft table \
                 {family} {table}, chain {chain}); try it from another host"
            );
            Check::unknown(NAME, text).fix(attempt(port))
        }
        Fate::Accepted => match v6 {
            Fate::Accepted => good(port),
            _ => Check::good(
                NAME,
                format!("the packet filter lets in UDP port {port} over IPv4, and perhaps not over IPv6"),
            ),
        },
    }
}

/// By the program that owns the rules: others are gone when it writes them again.
fn mending(rules: &str, Place { family, table, chain }: &Place, port: u16) -> String {
    if table == "firewalld" {
        format!("firewall-cmd --permanent --add-port={port}/udp && firewall-cmd --reload")
    } else if rules.contains("chain ufw-user-input {") {
        format!("ufw allow {port}/udp")
    } else {
        format!("nft insert rule {family} {table} {chain} udp dport {port} accept")
    }
}

/// To be run elsewhere.
fn attempt(port: u16) -> String {
    format!("nanoprobe reach {}:{port}", rustix::system::uname().nodename().to_string_lossy())
}

fn iptables(rules: &str, port: u16) -> Check {
    let lines: Vec<&str> = rules.lines().map(str::trim).collect();
    let drops = |line: &&str| {
        matches!(*line, "-P INPUT DROP" | "-A INPUT -j DROP") || line.starts_with("-A INPUT -j REJECT")
    };
    if !lines.iter().any(drops) {
        return open(port);
    }
    if lines.iter().any(|line| names_port(line, port)) {
        return good(port);
    }
    let text = format!("what comes in is dropped by default (iptables), and no rule names UDP port {port}");
    let by_address = |line: &&str| line.contains("-s ") && line.ends_with("-j ACCEPT");
    let target = |line: &&str| {
        line.split_once(" -j ").map(|(_, target)| target.split(' ').next().unwrap_or_default().to_owned())
    };
    let is_chain =
        |target: String| !["ACCEPT", "DROP", "REJECT", "LOG", "NFLOG", "RETURN"].contains(&target.as_str());
    // Other chains are not shown, and who sends is not known.
    if lines.iter().any(|line| by_address(line) || target(line).is_some_and(is_chain)) {
        return Check::unknown(
            NAME,
            format!("{text}, but it may be let in by address or by another chain; try it from another host"),
        )
        .fix(attempt(port));
    }
    Check::bad(NAME, text).fix(format!("iptables -I INPUT -p udp --dport {port} -j ACCEPT"))
}

fn open(port: u16) -> Check {
    Check::good(NAME, format!("no packet filter here drops what comes to UDP port {port} by default"))
}

fn good(port: u16) -> Check {
    Check::good(NAME, format!("a rule of the packet filter accepts UDP port {port}"))
}

/// `udp dport 1984 accept`, `udp dport { 53, 1984 } accept`, `--dport 1984 -j ACCEPT`, `--dports 53,1984`, ranges.
fn names_port(line: &str, port: u16) -> bool {
    let line = line.to_lowercase();
    let Some((before, after)) = line.split_once("dport") else { return false };
    let is_udp = before.contains("udp") || before.contains("th ") || before.contains("l4proto");
    let words = after.trim_start_matches('s').split(|c: char| !(c.is_ascii_digit() || c == '-' || c == ':'));
    let contains = |word: &str| match word.split_once(['-', ':']) {
        Some((from, to)) => {
            matches!((from.parse::<u16>(), to.parse::<u16>()), (Ok(from), Ok(to)) if (from..=to).contains(&port))
        }
        None => word.parse() == Ok(port),
    };
    is_udp && line.contains("accept") && words.into_iter().any(contains)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::look::Rig;
    use super::*;

    fn filter(policy: &str, rule: &str) -> String {
        format!(
            "table inet filter {{\n\tchain input {{\n\t\ttype filter hook input priority filter; policy {policy};\n\t\tct state established,related accept\n\t\t{rule}\n\t}}\n\n\tchain output {{\n\t\ttype filter hook output priority filter; policy drop;\n\t}}\n}}\n"
        )
    }

    #[test]
    fn a_filter_that_drops_by_default_must_name_the_port() {
        let state = |policy: &str, rule: &str| nft(&filter(policy, rule), 1984).state;
        assert_eq!(state("accept", ""), State::Ok);
        assert_eq!(state("drop", "tcp dport 22 accept"), State::Problem);
        assert_eq!(state("accept", "drop"), State::Problem);
        assert_eq!(state("accept", "reject with icmpx admin-prohibited"), State::Problem);
        assert_eq!(state("drop", "tcp dport 1984 accept"), State::Problem, "the other protocol");
        assert_eq!(state("drop", "udp dport 1984 drop"), State::Problem);
        for rule in
            ["udp dport 1984 accept", "udp dport { 53, 1984 } accept", "udp dport 1900-2000 counter accept"]
        {
            assert_eq!(state("drop", rule), State::Ok, "{rule}");
        }
        assert_eq!(state("drop", "ip saddr 10.0.0.0/8 accept"), State::Unknown);
        assert_eq!(
            nft(&filter("drop", ""), 1985).fix,
            "nft insert rule inet filter input udp dport 1985 accept"
        );
        assert_eq!(nft("", 1984).state, State::Ok);
        assert_eq!(nft("table\nchain {\nhook input policy drop\n}}}", 1984).state, State::Ok, "garbage");
    }

    #[test]
    fn the_older_program_is_understood_too() {
        let bad = iptables("-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n", 1984);
        assert!(bad.is_bad() && bad.fix.contains("--dport 1984"), "{bad:?}");
        assert!(
            iptables("-P INPUT ACCEPT\n-A INPUT -j REJECT --reject-with icmp-port-unreachable\n", 1984)
                .is_bad()
        );
        assert_eq!(
            iptables("-P INPUT DROP\n-A INPUT -p udp -m multiport --dports 53,1984 -j ACCEPT\n", 1984).state,
            State::Ok
        );
        assert_eq!(iptables("-P INPUT ACCEPT\n", 1984).state, State::Ok);
    }

    #[test]
    fn it_asks_for_what_can_be_read() {
        let mut rig = Rig::new();
        assert_eq!(check(&rig.look()), [], "nothing of ours here");
        rig.file("/var/lib/assimilation/cma.sqlite", "");
        assert_eq!(check(&rig.look())[0].state, State::Unknown);
        rig.program("iptables -S INPUT", "-P INPUT DROP\n");
        assert!(check(&rig.look())[0].fix.starts_with("iptables "));
        rig.program("nft list ruleset", &filter("drop", ""));
        assert!(check(&rig.look())[0].fix.starts_with("nft "));
    }
}

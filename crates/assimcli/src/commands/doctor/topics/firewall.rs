//! Packet filters of this machine that drop what comes to our ports, as far as their rules can be read.
//!
//! A filter is a program, and this does not run it: it tells when what comes in is dropped by default and no rule names the
//! port. A site that accepts by address instead is told of it once more than needed, as unknown.

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

/// A chain of nft(8) that sees what comes in and drops it by default.
struct Dropping {
    family: String,
    table: String,
    chain: String,
}

fn nft(rules: &str, port: u16) -> Check {
    match dropping(rules) {
        None => open(port),
        Some(_) if rules.lines().any(|line| names_port(line, port)) => good(port),
        Some(Dropping { family, table, chain }) => {
            let text = format!(
                "what comes in is dropped by default (nft table {family} {table}), and no rule names UDP port {port}"
            );
            let rule = format!("nft add rule {family} {table} {chain} udp dport {port} accept");
            judged(rules.contains("accept") && rules.contains("saddr"), text, rule)
        }
    }
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
    let by_address = lines.iter().any(|line| line.contains("-s ") && line.ends_with("-j ACCEPT"));
    judged(by_address, text, format!("iptables -I INPUT -p udp --dport {port} -j ACCEPT"))
}

fn judged(by_address: bool, text: String, rule: String) -> Check {
    if by_address {
        Check::unknown(NAME, format!("{text}; some are accepted by address")).fix(rule)
    } else {
        Check::bad(NAME, text).fix(rule)
    }
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

/// The first chain at the hook `input` with the policy to drop, or that ends by dropping the rest.
fn dropping(rules: &str) -> Option<Dropping> {
    let (mut table, mut chain, mut is_input) = (None, None, false);
    let mut last = "";
    for line in rules.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["table", family, name, "{"] => table = Some(((*family).to_owned(), (*name).to_owned())),
            ["chain", name, "{"] => (chain, is_input, last) = (Some((*name).to_owned()), false, ""),
            ["}"] if is_input && is_rest_dropped(last) => break,
            ["}"] => is_input = false,
            _ if line.contains("hook input") => {
                is_input = true;
                if line.contains("policy drop") {
                    last = "drop";
                    break;
                }
            }
            _ => last = line,
        }
    }
    let ((family, table), chain) = (table?, chain?);
    (is_input && is_rest_dropped(last)).then_some(Dropping { family, table, chain })
}

/// A rule without a condition.
fn is_rest_dropped(rule: &str) -> bool {
    let verdict = rule
        .strip_prefix("counter ")
        .map_or(rule, |rest| rest.trim_start_matches(|c: char| !c.is_alphabetic()));
    verdict == "drop" || verdict == "reject" || verdict.starts_with("reject with ")
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
            "nft add rule inet filter input udp dport 1985 accept"
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

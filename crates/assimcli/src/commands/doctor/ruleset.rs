//! What a ruleset of nft(8) does with the first packet of a stranger to one UDP port of this host. Pure.
//!
//! The text is that of `nft list ruleset`, which shows the rules of iptables-nft, ufw and firewalld as well. The packet is unicast,
//! new to connection tracking, from another machine that there is a way back to; by which interface it comes and from which
//! address is not known. What depends on that, or on anything that is not understood here, may turn out either way, and is said so.

use std::collections::HashMap;

/// Rules that are looked at in all: a ruleset may jump to and fro.
const MAX_STEPS: usize = 100_000;
/// As the kernel's own limit.
const MAX_DEPTH: usize = 16;

/// Which packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Accepted,
    Dropped(Place),
    /// It depends on what is not known; the place is that of a chain that may drop it.
    Unknown(Place),
}

/// Where a base chain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub family: String,
    pub table: String,
    pub chain: String,
}

#[derive(Debug, Default)]
struct Chain {
    /// Hook and whether the policy is to drop, of a base chain that filters.
    base: Option<(String, bool)>,
    rules: Vec<Vec<String>>,
}

#[derive(Debug, Default)]
struct Table {
    family: String,
    name: String,
    chains: Vec<(String, Chain)>,
    sets: HashMap<String, Vec<String>>,
}

/// What may follow from a rule or a chain.
#[derive(Debug, Clone, Copy, Default)]
struct May {
    accept: bool,
    drop: bool,
    /// The next rule is looked at.
    pass: bool,
    /// The rest of the chain is not.
    back: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    Unknown,
}

/// The fate of the packet to `port`, over all chains that see it before a program does.
pub fn fate(ruleset: &str, family: Family, port: u16) -> Fate {
    let tables = parse(ruleset);
    let mut unknown = None;
    let mut steps = 0;
    for table in &tables {
        let sees = match table.family.as_str() {
            "inet" | "netdev" => true,
            "ip" => family == Family::Ipv4,
            "ip6" => family == Family::Ipv6,
            _ => false,
        };
        for (name, chain) in table.chains.iter().filter(|_| sees) {
            let Some((hook, drops)) = &chain.base else { continue };
            if !matches!(hook.as_str(), "input" | "prerouting" | "ingress") {
                continue;
            }
            let mut walk = Walk { table, family, port, steps: &mut steps };
            let mut may = walk.chain(chain, 0);
            if may.pass {
                (may.accept, may.drop) = (may.accept || !drops, may.drop || *drops);
            }
            let place =
                || Place { family: table.family.clone(), table: table.name.clone(), chain: name.clone() };
            match (may.accept, may.drop) {
                (true, false) => {}
                // Belongs to one interface.
                (false, _) if hook == "ingress" => unknown = unknown.or_else(|| Some(place())),
                (false, _) => return Fate::Dropped(place()),
                (true, true) => unknown = unknown.or_else(|| Some(place())),
            }
        }
    }
    unknown.map_or(Fate::Accepted, Fate::Unknown)
}

struct Walk<'a> {
    table: &'a Table,
    family: Family,
    port: u16,
    steps: &'a mut usize,
}

const ANYTHING: May = May { accept: true, drop: true, pass: true, back: false };
const PASS: May = May { accept: false, drop: false, pass: true, back: false };

impl Walk<'_> {
    /// `pass`: the end of the chain may be reached, or `return`.
    fn chain(&mut self, chain: &Chain, depth: usize) -> May {
        let mut sum = May::default();
        for rule in &chain.rules {
            *self.steps += 1;
            if *self.steps > MAX_STEPS || depth > MAX_DEPTH {
                return ANYTHING;
            }
            let may = self.rule(rule, depth);
            sum.accept |= may.accept;
            sum.drop |= may.drop;
            sum.back |= may.back;
            if !may.pass {
                return May { pass: sum.back, back: false, ..sum };
            }
        }
        May { pass: true, back: false, ..sum }
    }

    fn rule(&mut self, rule: &[String], depth: usize) -> May {
        let words: Vec<&str> = rule.iter().map(String::as_str).collect();
        let mut rest = &words[..];
        let mut sure = true;
        while let Some(&word) = rest.first() {
            if is_verdict(word) {
                let may = self.verdict(rest, depth);
                return if sure { may } else { May { pass: true, ..may } };
            }
            let Some((matches, after)) = self.expression(rest, depth, sure) else {
                // Not understood: whatever verdict follows may count.
                return self.rest_may(rest, depth);
            };
            match matches {
                Step::Match(Match::Yes) => {}
                Step::Match(Match::No) => return PASS,
                Step::Match(Match::Unknown) => sure = false,
                Step::Decided(may) => return may,
            }
            rest = after;
        }
        PASS
    }

    /// All verdicts that are anywhere in what was not understood, and none.
    fn rest_may(&mut self, rest: &[&str], depth: usize) -> May {
        let mut sum = PASS;
        for at in 0..rest.len() {
            if is_verdict(rest[at]) {
                let may = self.verdict(&rest[at..], depth);
                (sum.accept, sum.drop, sum.back) =
                    (sum.accept || may.accept, sum.drop || may.drop, sum.back || may.back);
            }
        }
        sum
    }

    fn verdict(&mut self, words: &[&str], depth: usize) -> May {
        let none = May::default();
        match words {
            ["accept", ..] => May { accept: true, ..none },
            ["drop" | "reject", ..] => May { drop: true, ..none },
            ["return", ..] => May { back: true, ..none },
            ["continue", ..] => PASS,
            [kind @ ("jump" | "goto"), name, ..] => {
                let table = self.table;
                let Some((_, chain)) = table.chains.iter().find(|(known, _)| known == name) else {
                    return ANYTHING;
                };
                let may = self.chain(chain, depth + 1);
                if *kind == "goto" { May { pass: false, back: may.pass, ..may } } else { may }
            }
            // To a program, to another port, or what newer versions have.
            _ => ANYTHING,
        }
    }

    /// One match or statement at the start of `words`, and what is behind it.
    fn expression<'w>(
        &mut self,
        words: &'w [&'w str],
        depth: usize,
        sure: bool,
    ) -> Option<(Step, &'w [&'w str])> {
        let always = |after| Some((Step::Match(Match::Yes), after));
        match words {
            ["counter", "packets", _, "bytes", _, after @ ..]
            | ["counter" | "notrack", after @ ..]
            | ["comment", _, after @ ..]
            | ["meta" | "ct", "mark", "set", _, after @ ..] => return always(after),
            ["log", after @ ..] => {
                let end = after.iter().position(|word| is_verdict(word)).unwrap_or(after.len());
                return always(&after[end..]);
            }
            // One packet is no flood.
            ["limit", "rate", after @ ..] => {
                let end =
                    after.iter().position(|word| is_verdict(word) || *word == "log" || *word == "counter");
                let is_over = after.first() == Some(&"over");
                let matches = if is_over { Match::No } else { Match::Yes };
                return Some((Step::Match(matches), &after[end.unwrap_or(after.len())..]));
            }
            // The way back to the sender is there.
            ["fib", "saddr", after @ ..] => {
                let end = after.iter().position(|word| *word == "missing")?;
                return Some((Step::Match(Match::No), &after[end + 1..]));
            }
            _ => {}
        }
        let (field, after) = field(words)?;
        let (is_not, after) = match after {
            ["!=", after @ ..] => (true, after),
            ["==", after @ ..] => (false, after),
            _ => (false, after),
        };
        if let ["vmap", after @ ..] = after {
            return Some((Step::Decided(self.mapped(&field, after, depth, sure)), &[]));
        }
        let (values, after) = self.values(after)?;
        let matches = self.any(&field, &values)?;
        let matches = match (matches, is_not) {
            // Another protocol has no such field at all.
            (Match::No, true) if self.is_absent(&field) => Match::No,
            (Match::Yes, true) => Match::No,
            (Match::No, true) => Match::Yes,
            _ => matches,
        };
        Some((Step::Match(matches), after))
    }

    /// The values that a field is compared with: one, several with commas, a set.
    fn values<'w>(&self, words: &'w [&'w str]) -> Option<(Vec<String>, &'w [&'w str])> {
        match words {
            ["{", after @ ..] => {
                let end = after.iter().position(|word| *word == "}")?;
                let values = after[..end].iter().filter(|word| **word != ",").map(|word| (*word).to_owned());
                Some((values.collect(), &after[end + 1..]))
            }
            [name, after @ ..] if name.starts_with('@') => {
                Some((self.table.sets.get(&name[1..])?.clone(), after))
            }
            [first, after @ ..] => {
                let (mut values, mut after) = (vec![(*first).to_owned()], after);
                while let [",", next, others @ ..] = after {
                    values.push((*next).to_owned());
                    after = others;
                }
                Some((values, after))
            }
            [] => None,
        }
    }

    /// `{ established : accept, new : jump x }`
    fn mapped(&mut self, field: &str, words: &[&str], depth: usize, sure: bool) -> May {
        let ["{", inner @ ..] = words else { return ANYTHING };
        let end = inner.iter().position(|word| *word == "}").unwrap_or(inner.len());
        let mut sum = PASS;
        for entry in inner[..end].split(|word| *word == ",") {
            let [value, ":", verdict @ ..] = entry else { return ANYTHING };
            let matches =
                if *value == "*" { Some(Match::Unknown) } else { self.any(field, &[(*value).to_owned()]) };
            match matches {
                Some(Match::No) => {}
                Some(Match::Yes) if sure => return self.verdict(verdict, depth),
                _ => {
                    let may = self.verdict(verdict, depth);
                    (sum.accept, sum.drop, sum.back) =
                        (sum.accept || may.accept, sum.drop || may.drop, sum.back || may.back);
                }
            }
        }
        sum
    }

    /// A field of another protocol than ours.
    fn is_absent(&self, field: &str) -> bool {
        match field {
            "other protocol" => true,
            "ip protocol" | "ip saddr" | "ip daddr" | "ip" => self.family != Family::Ipv4,
            "ip6 nexthdr" | "ip6 saddr" | "ip6 daddr" | "ip6" => self.family != Family::Ipv6,
            _ => false,
        }
    }

    /// Whether the field has one of the values. `None`: not understood.
    fn any(&self, field: &str, values: &[String]) -> Option<Match> {
        if self.is_absent(field) {
            return Some(Match::No);
        }
        let mut sum = Match::No;
        for value in values {
            match self.one(field, value.trim_matches('"'))? {
                Match::Yes => return Some(Match::Yes),
                Match::Unknown => sum = Match::Unknown,
                Match::No => {}
            }
        }
        Some(sum)
    }

    fn one(&self, field: &str, value: &str) -> Option<Match> {
        let is = |is: bool| Some(if is { Match::Yes } else { Match::No });
        match field {
            "dport" => {
                let number = |text: &str| text.parse::<u16>().ok();
                // A name of /etc/services is not ours.
                if value.starts_with(|c: char| c.is_ascii_alphabetic()) {
                    return is(false);
                }
                match value.split_once('-') {
                    Some((from, to)) => is((number(from)?..=number(to)?).contains(&self.port)),
                    None => is(number(value)? == self.port),
                }
            }
            "meta l4proto" | "ip protocol" | "ip6 nexthdr" => is(matches!(value, "udp" | "17")),
            "meta nfproto" | "meta protocol" => match value {
                "ipv4" | "ip" => is(self.family == Family::Ipv4),
                "ipv6" | "ip6" => is(self.family == Family::Ipv6),
                _ => None,
            },
            "meta pkttype" => is(matches!(value, "host" | "unicast")),
            "fib daddr type" => is(value == "local"),
            "ct state" => is(value == "new"),
            "ct direction" => is(value == "original"),
            "ct status" => match value {
                "dnat" | "snat" | "assured" | "confirmed" | "seen-reply" => is(false),
                _ => None,
            },
            "iif" | "iifname" => is(false).filter(|_| value == "lo").or(Some(Match::Unknown)),
            "ip daddr" | "ip6 daddr" if is_multicast(value) => is(false),
            "ip saddr" | "ip daddr" | "ip6 saddr" | "ip6 daddr" | "sport" => Some(Match::Unknown),
            _ => None,
        }
    }
}

enum Step {
    Match(Match),
    /// All that may follow, from a map.
    Decided(May),
}

fn is_verdict(word: &str) -> bool {
    matches!(
        word,
        "accept"
            | "drop"
            | "reject"
            | "return"
            | "continue"
            | "jump"
            | "goto"
            | "queue"
            | "dnat"
            | "redirect"
            | "tproxy"
    )
}

fn is_multicast(value: &str) -> bool {
    let first = value.split(['.', '/']).next().and_then(|part| part.parse::<u8>().ok());
    value.to_ascii_lowercase().starts_with("ff") || first.is_some_and(|first| (224..=239).contains(&first))
}

/// What is compared, by one name, and what is behind it. `None` where that is not understood.
fn field<'w>(words: &'w [&'w str]) -> Option<(String, &'w [&'w str])> {
    // Several fields at once.
    if words.get(2) == Some(&".") || words.get(1) == Some(&".") {
        return None;
    }
    let (name, after) = match words {
        ["udp" | "th", "dport", after @ ..] => ("dport".to_owned(), after),
        ["udp" | "th", "sport", after @ ..] => ("sport".to_owned(), after),
        ["tcp" | "sctp" | "dccp" | "icmp" | "icmpv6" | "igmp" | "esp" | "ah" | "gre", _, after @ ..] => {
            ("other protocol".to_owned(), after)
        }
        ["fib", "daddr", "type", after @ ..] => ("fib daddr type".to_owned(), after),
        [first @ ("meta" | "ip" | "ip6" | "ct"), second, after @ ..] => (format!("{first} {second}"), after),
        [first @ ("iif" | "iifname"), after @ ..] => ((*first).to_owned(), after),
        // Older versions of nft leave the word away.
        [first @ ("pkttype" | "l4proto" | "nfproto"), after @ ..] => (format!("meta {first}"), after),
        _ => return None,
    };
    // `ip6 nexthdr` and the like of the other family keep their meaning; `meta iifname` is `iifname`.
    let name = match name.as_str() {
        "meta iifname" | "meta iif" => "iifname".to_owned(),
        _ => name,
    };
    Some((name, after))
}

/// Words of the text; `\n` ends a statement. A comment becomes the word `#`, for rules of which nft shows a part as comment only.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for line in text.lines() {
        let mut word = String::new();
        let mut characters = line.chars();
        let mut end = |word: &mut String| {
            if !word.is_empty() {
                words.push(std::mem::take(word));
            }
        };
        while let Some(c) = characters.next() {
            match c {
                '"' => {
                    word.push('"');
                    word.extend(characters.by_ref().take_while(|c| *c != '"'));
                    word.push('"');
                }
                '#' => {
                    end(&mut word);
                    word.push('#');
                    break;
                }
                ',' | ';' | '{' | '}' => {
                    end(&mut word);
                    word.push(if c == ';' { '\n' } else { c });
                    end(&mut word);
                }
                c if c.is_whitespace() => end(&mut word),
                c => word.push(c),
            }
        }
        end(&mut word);
        words.push("\n".into());
    }
    words
}

/// Tables with their chains and sets. What is not understood is left out: of a chain it is a rule that may do anything.
fn parse(text: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut statement: Vec<String> = Vec::new();
    // Kind of the block within the table: chain, set or another.
    let (mut block, mut depth) = (None::<(bool, String)>, 0_usize);
    for word in words(text) {
        match word.as_str() {
            "{" if depth == 0 => {
                let [_, family, name] = &statement[..] else { return tables };
                tables.push(Table { family: family.clone(), name: name.clone(), ..Table::default() });
                statement.clear();
                depth = 1;
            }
            "{" if depth == 1 => {
                let name = statement.get(1).cloned().unwrap_or_default();
                let is_chain = statement.first().is_some_and(|word| word == "chain");
                if let Some(table) = tables.last_mut().filter(|_| is_chain) {
                    table.chains.push((name.clone(), Chain::default()));
                }
                block = Some((is_chain, name));
                statement.clear();
                depth = 2;
            }
            "{" => {
                depth += 1;
                statement.push(word);
            }
            "}" if depth > 2 => {
                depth -= 1;
                statement.push(word);
            }
            "}" => {
                depth = depth.saturating_sub(1);
                block = None;
                statement.clear();
            }
            // Within a set lines are broken.
            "\n" if depth > 2 => {}
            "\n" => {
                let statement = std::mem::take(&mut statement);
                let Some(table) = tables.last_mut() else { continue };
                match &block {
                    Some((true, _)) if depth == 2 => take_rule(table, statement),
                    Some((false, name)) if statement.first().is_some_and(|word| word == "elements") => {
                        let values =
                            statement.into_iter().skip(3).filter(|word| !matches!(word.as_str(), "," | "}"));
                        table.sets.insert(name.clone(), values.collect());
                    }
                    _ => {}
                }
            }
            "#" if statement.is_empty() => {}
            _ => statement.push(word),
        }
    }
    tables
}

fn take_rule(table: &mut Table, statement: Vec<String>) {
    let Some((_, chain)) = table.chains.last_mut() else { return };
    let words: Vec<&str> = statement.iter().map(String::as_str).collect();
    match &words[..] {
        [] => {}
        ["type", "filter", "hook", hook, ..] => chain.base = Some(((*hook).to_owned(), false)),
        ["type", ..] => {}
        ["policy", policy] => {
            if let Some((_, drops)) = &mut chain.base {
                *drops = *policy == "drop";
            }
        }
        ["comment", _] => {}
        _ => chain.rules.push(statement),
    }
}

#[cfg(test)]
mod tests;

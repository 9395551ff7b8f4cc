//! Whatever the names are: a drawing stays a drawing, in its language's own grammar, and bounded.

use crate::made_up::Site;
use draw::{Kind, Language, render};
use model::subgraph::{PlaceInNetwork, Relationship, Subgraph};
use proptest::prelude::*;
use serde_json::json;

const KINDS: [Kind; 5] = [Kind::Network, Kind::Service, Kind::Monitoring, Kind::Rings, Kind::Everything];

/// What breaks out of one language or another.
const FRAGMENTS: &[&str] = &[
    "\"]; n0 -> n1 [label=\"",
    "\\",
    "\\N\\G\\l",
    "&#x1b;&lt;",
    "</title><script>alert(1)</script>",
    "]]>",
    "<!--",
    "--",
    "'",
    "\"",
    "\u{1b}[2J",
    "\u{0}",
    "\u{9b}",
    "\u{202e}",
    "\u{2028}",
    "\u{fffe}",
    "\u{feff}",
    "\n",
    "\r",
    "\t",
    "%%{init: {}}%%",
    "`",
    "end",
    "subgraph",
    "#quot;",
    "|",
    "{",
    "}",
    "[",
    "(",
    ")",
    ";",
    "click c0 call x()",
    "1. ",
    "- ",
    "$$",
    "日本語",
    "é",
    "/",
    "@",
    "<br/>",
    "digraph",
    "/*",
    "//",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => prop::sample::select(FRAGMENTS).prop_map(str::to_owned),
        1 => "[a-z0-9.:-]{0,8}",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// A site in which every name is hostile.
fn site() -> impl Strategy<Value = Subgraph> {
    (prop::collection::vec(text(), 24), 1_usize..4).prop_map(|(names, hosts)| {
        let mut names = names.into_iter().cycle();
        let mut next = || names.next().unwrap();
        let mut site = Site::default();
        for number in 0..hosts {
            let host = site.node(
                "Drone",
                &format!("{number}{}", next()),
                json!({"os_description": next(), "roles": [next()]}),
            );
            let nic = site.node(
                "NICNode",
                &next(),
                json!({"ifname": next(), "macaddr": next(), "PortDescription": next()}),
            );
            let address = site.node(
                "IPaddrNode",
                &format!("@{}/{number}", next()),
                json!({"ipaddr": next(), "hostname": next()}),
            );
            let switch = site.node(
                "SystemNode",
                &next(),
                json!({"SystemName": next(), "SystemDescription": next(), "x": next()}),
            );
            let port = site.node("NICNode", &next(), json!({"ifname": next(), "vlan": next()}));
            let process = site.node(
                "ProcessNode",
                &next(),
                json!({"pathname": next(), "cmdline": ["x", next()], "cwd": next(), "roles": ["server"]}),
            );
            let service = site.node(
                "IPtcpportNode",
                &next(),
                json!({"ipaddr": next(), "port": next(), "protocol": next()}),
            );
            let used = site.node("IPtcpportNode", &next(), json!({"ipaddr": next(), "port": 5}));
            let monitor = site.node(
                "MonitorAction",
                &next(),
                json!({"class": next(), "agent": next(), "state": next(), "output": next()}),
            );
            let child = site.node("ChildSystem", &next(), json!({"name": next(), "kind": next()}));
            let stranger = site.node("LinkAddress", &next(), json!({"macaddr": next()}));
            for (source, kind, target) in [
                (host, "nicowner", nic),
                (nic, "ipowner", address),
                (switch, "nicowner", port),
                (port, "wiredto", nic),
                (host, "hosting", process),
                (process, "tcpservice", service),
                (process, "tcpclient", used),
                (host, "hosting", monitor),
                (monitor, "monitoring", process),
                (child, "parentsys", host),
                (stranger, "ipowner", address),
                // And what no discovery says.
                (host, "parentsys", child),
                (process, "hosting", host),
                (nic, "nicowner", nic),
                (process, "tcpclient", service),
            ] {
                site.edge(source, kind, target);
            }
            let (status, reason, vendor) = (next(), next(), next());
            let key = site.get(switch).key.clone();
            let place = PlaceInNetwork {
                network: Some(next()),
                subnet: Some(next()),
                switch: Some(key),
                switch_name: Some(next()),
                port: None,
            };
            let own = site.get(host);
            (own.status, own.reason, own.place) = (Some(status), Some(reason), Some(place));
            own.scores.insert("security".into(), 12.5);
            let own = site.get(stranger);
            (own.vendor, own.hostname) = (Some(vendor.clone()), (number > 0).then_some(vendor));
            site.subgraph.relationships.push(Relationship {
                kind: "ringnext".into(),
                source: 1,
                target: host,
                ring: Some(next()),
                ..Relationship::default()
            });
        }
        site.subgraph
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_language_keeps_its_grammar(subgraph in site()) {
        for kind in KINDS {
            let write = |language| render(kind, &subgraph, language).unwrap();
            for language in [Language::Svg, Language::Graphml] {
                let text = write(language);
                let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
                let known = |name: &str| ["svg", "title", "rect", "g", "text", "path", "circle", "graphml", "key", "graph", "node", "edge", "data"].contains(&name);
                for element in document.descendants().filter(roxmltree::Node::is_element) {
                    prop_assert!(known(element.tag_name().name()), "{:?}", element.tag_name());
                }
                harmless(&text)?;
            }
            let dot = write(Language::Dot);
            check_dot(&dot).unwrap_or_else(|error| panic!("{error}:\n{dot}"));
            harmless(&dot)?;
            let mermaid = write(Language::Mermaid);
            check_mermaid(&mermaid).unwrap_or_else(|error| panic!("{error}:\n{mermaid}"));
            harmless(&mermaid)?;
            let json = write(Language::Json);
            prop_assert_eq!(&serde_json::from_str::<Subgraph>(&json).unwrap(), &subgraph);
        }
    }
}

/// Nothing that a terminal or an editor would obey.
fn harmless(text: &str) -> Result<(), TestCaseError> {
    let odd = text.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
    prop_assert_eq!(odd, None);
    Ok(())
}

/// The lexical grammar of DOT as this crate uses it: names, quoted strings and punctuation in statements.
fn check_dot(text: &str) -> Result<(), String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            ' ' | '\n' => {
                rest = &rest[1..];
                continue;
            }
            '"' => {
                let mut end = None;
                let mut escaped = false;
                for (index, c) in rest.char_indices().skip(1) {
                    match c {
                        '"' if !escaped => {
                            end = Some(index);
                            break;
                        }
                        '\n' => return Err("a line ends inside a string".into()),
                        c => escaped = c == '\\' && !escaped,
                    }
                }
                end.ok_or("a string has no end")? + 1
            }
            '-' if rest.starts_with("->") => 2,
            '{' | '}' | '[' | ']' | '=' | ',' | ';' => 1,
            c if c.is_ascii_alphanumeric() || c == '_' || c == '.' => rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
                .unwrap_or(rest.len()),
            c => return Err(format!("{c:?} outside of a string")),
        };
        tokens.push(rest[..length].to_owned());
        rest = &rest[length..];
    }
    let count = |what: &str| tokens.iter().filter(|token| *token == what).count();
    if count("{") != count("}")
        || count("[") != count("]")
        || tokens.first().map(String::as_str) != Some("digraph")
    {
        return Err("brackets do not match".into());
    }
    // A string stands for a value only: after an equals sign, and before the end of an attribute.
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.starts_with('"')) {
        let (before, after) = (&tokens[index - 1], &tokens[index + 1]);
        if before != "=" || ![",", "]", ";"].contains(&after.as_str()) {
            return Err(format!("{before} {token} {after}"));
        }
    }
    Ok(())
}

/// Each line is one of those that this crate writes, and labels hold nothing but letters, entity codes and line breaks.
fn check_mermaid(text: &str) -> Result<(), String> {
    let mut lines = text.lines();
    let begin: Vec<&str> = lines.by_ref().take(4).collect();
    if begin[0] != "---" || !begin[1].starts_with("title: \"") || begin[2..] != ["---", "flowchart LR"] {
        return Err(format!("{begin:?}"));
    }
    let mut depth = 0_i32;
    for line in lines {
        let line = line.trim_start();
        let outside: String = match (line.find('"'), line.rfind('"')) {
            (Some(begin), Some(end)) if begin < end => {
                check_label(&line[begin + 1..end]).map_err(|error| format!("{error} in {line}"))?;
                format!("{}{}", &line[..begin], &line[end + 1..])
            }
            (None, None) => line.to_owned(),
            _ => return Err(format!("one quotation mark: {line}")),
        };
        let is_name = |word: &str| {
            word.len() > 1
                && word.starts_with(['c', 'p'])
                && word[1..].chars().all(|c| c.is_ascii_digit() || c == 's')
        };
        let words: Vec<&str> = outside.split_whitespace().collect();
        match words.as_slice() {
            ["subgraph", name] if name.strip_suffix("[]").is_some_and(is_name) => depth += 1,
            ["end"] => depth -= 1,
            [name] if name.strip_suffix("[]").is_some_and(is_name) => {}
            [from, "---" | "-->" | "---||" | "-->||", to] if is_name(from) && is_name(to) => {}
            ["style", name, style @ ..]
                if is_name(name)
                    && style.iter().all(|word| {
                        word.chars().all(|c| c.is_ascii_alphanumeric() || "#:,-".contains(c))
                    }) => {}
            _ => return Err(format!("no statement: {line}")),
        }
    }
    if depth == 0 { Ok(()) } else { Err("subgraphs do not end".into()) }
}

fn check_label(label: &str) -> Result<(), String> {
    let mut rest = label;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '#' => {
                let end = rest.find(';').ok_or("an entity code has no end")?;
                let digits = &rest[1..end];
                if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                    return Err(format!("no entity code: {digits:?}"));
                }
                end + 1
            }
            '<' if rest.starts_with("<br/>") => 5,
            c if c.is_alphanumeric() || " .:/-,@…·→×\u{fffd}".contains(c) => c.len_utf8(),
            c => return Err(format!("{c:?}")),
        };
        rest = &rest[length..];
    }
    Ok(())
}

#[test]
fn the_checks_find_what_is_wrong() {
    assert_eq!(check_dot("digraph a {\n  n0 [label=\"x\\\"y\"];\n}\n"), Ok(()));
    for wrong in [
        "digraph a {",
        "digraph a { n0 [label=\"x\"y\"]; }",
        "digraph a { n0 [label=\"x\\\\\" b\"]; }",
        "digraph a { \"x\" }",
        "digraph a { # }",
    ] {
        assert!(check_dot(wrong).is_err(), "{wrong}");
    }
    let mermaid = |line: &str| check_mermaid(&format!("---\ntitle: \"x\"\n---\nflowchart LR\n{line}\n"));
    assert_eq!(mermaid("  c0[\"a#34;<br/>b\"]"), Ok(()));
    for wrong in ["c0[\"a\"b\"]", "c0[\"a#b;\"]", "click c0", "subgraph p0[\"x\"]", "c0[\"<b>\"]"] {
        assert!(mermaid(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn long_names_do_not_make_long_drawings() {
    let long = "\u{1b}<\"&".repeat(500_000);
    let mut site = Site::default();
    let host = site.node("Drone", &long, json!({"os_description": long, "roles": vec![long.clone(); 30]}));
    let process = site.node(
        "ProcessNode",
        &format!("{long}/x"),
        json!({"pathname": long, "cmdline": ["java", long], "cwd": long}),
    );
    site.edge(host, "hosting", process);
    for kind in KINDS {
        for language in [Language::Svg, Language::Dot, Language::Mermaid, Language::Graphml] {
            let text = render(kind, &site.subgraph, language).unwrap();
            assert!(text.len() < 50_000, "{kind:?} {language:?}: {}", text.len());
        }
    }
}

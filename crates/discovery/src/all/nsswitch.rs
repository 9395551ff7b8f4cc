//! Where the C library looks names up: `/etc/nsswitch.conf`, see nsswitch.conf(5).
//!
//! `data` is database → list of its sources in order: `{"source": "files"}`. What a bracket says is added to the source
//! before it, status in capitals → action in lower case, with `!` where the bracket has it: `[!UNAVAIL=return]` gives
//! `"!UNAVAIL": "return"`. `#` begins a comment. Of a repeated database the last line counts.
//!
//! ```json
//! {"hosts": [{"source": "files"}, {"source": "mdns4_minimal", "NOTFOUND": "return"}, {"source": "dns"}]}
//! ```

use crate::parse::{self, Errors, is_plausible_key, quoted};
use crate::{
    Collected, Discovery, Host, Instance, Parameter, Parameters, Schedule, Trigger, documentation, no_graph,
};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "nsswitch",
    description: "Where the C library looks names up",
    documentation: documentation::NSSWITCH,
    parameters: &[Parameter {
        name: "NSSWITCH_CONFIG",
        meaning: "file to read",
        default: "/etc/nsswitch.conf",
    }],
    instances: &[Instance { name: "_init_nsswitch", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 600, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const STATUSES: &[&str] = &["SUCCESS", "NOTFOUND", "UNAVAIL", "TRYAGAIN"];
const ACTIONS: &[&str] = &["return", "continue", "merge"];
const MAX_SOURCES: usize = 100;

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    let file = parameters.get("NSSWITCH_CONFIG").map_or("/etc/nsswitch.conf", String::as_str);
    parse::collect_file(host, file, parse)
}

fn parse(text: &str, file: &str) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let mut data = Map::new();
    for (number, line) in parse::lines(text, file, &mut errors) {
        let line = parse::cut_at_hash(line).trim();
        if line.is_empty() {
            continue;
        }
        match line.split_once(':') {
            Some((database, rest)) if is_plausible_key(database.trim()) => {
                let sources = sources(rest, file, number, &mut errors);
                data.insert(database.trim().to_owned(), Value::Array(sources));
            }
            _ => errors.at(
                file,
                number,
                format_args!("{} does not begin with a database and a colon", quoted(line)),
            ),
        }
    }
    (Value::Object(data), errors.into_list())
}

fn sources(mut rest: &str, file: &str, number: usize, errors: &mut Errors) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return found;
        }
        if let Some(inside) = rest.strip_prefix('[') {
            let Some((inside, after)) = inside.split_once(']') else {
                errors.at(file, number, "the '[' is not closed");
                return found;
            };
            rest = after;
            match found.last_mut() {
                Some(source) => add_actions(source, inside, file, number, errors),
                None => errors.at(file, number, "an action in brackets without a source before it"),
            }
            continue;
        }
        let end = rest.find(|c: char| c.is_whitespace() || c == '[').unwrap_or(rest.len());
        let (source, after) = rest.split_at(end);
        rest = after;
        if !is_plausible_key(source) {
            errors.at(file, number, format_args!("{} is not the name of a source", quoted(source)));
        } else if found.len() < MAX_SOURCES {
            found.push(json!({ "source": source }));
        } else {
            errors.at(file, number, format_args!("more than {MAX_SOURCES} sources, the rest is left out"));
            return found;
        }
    }
}

/// `NOTFOUND=return !SUCCESS = continue`
fn add_actions(source: &mut Value, text: &str, file: &str, number: usize, errors: &mut Errors) {
    let spaced = text.replace('=', " = ").replace('!', " !");
    // A lone `!` belongs to the word after it.
    let mut words = spaced.split_whitespace();
    while let Some(word) = words.next() {
        let (negation, status) = match word.strip_prefix('!') {
            Some("") => ("!", words.next().unwrap_or_default()),
            Some(status) => ("!", status),
            None => ("", word),
        };
        let status = status.to_ascii_uppercase();
        let is_equals = words.next() == Some("=");
        let action = words.next().unwrap_or_default().to_ascii_lowercase();
        if !is_equals || !STATUSES.contains(&status.as_str()) || !ACTIONS.contains(&action.as_str()) {
            errors.at(file, number, format_args!("{} is not a list of STATUS=action", quoted(text)));
            return;
        }
        source[format!("{negation}{status}")] = Value::from(action);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, check_robustness};

    const FILE: &str = "/etc/nsswitch.conf";

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn robustness() {
        check_robustness(&DISCOVERY, FILE, FILE, "hosts: files [notfound=return] dns\npasswd:files\n");
        let tokens = &["hosts", ":", " ", "\n", "[", "]", "!", "=", "notfound", "return", "files", "#", "ä"];
        check_any_text(FILE, tokens, |text| parse(text, FILE));
    }

    #[test]
    fn the_whole_grammar() {
        let text = "passwd:\tfiles systemd # x\nhosts: files mdns4_minimal [NotFound=RETURN !unavail = continue]dns[! SUCCESS=merge] myhostname\n\
                    empty:\nshadow: a\nshadow: b\n";
        let (data, errors) = parse(text, FILE);
        let expected = json!({
            "passwd": [{"source": "files"}, {"source": "systemd"}],
            "hosts": [{"source": "files"}, {"source": "mdns4_minimal", "NOTFOUND": "return", "!UNAVAIL": "continue"},
                      {"source": "dns", "!SUCCESS": "merge"}, {"source": "myhostname"}],
            "empty": [], "shadow": [{"source": "b"}],
        });
        assert_eq!(data, expected);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (data, errors) = parse(
            "hosts files\na: [notfound=return] b\nc: d [notfound] e\nf: g [x\nh: i [notfound=go]\n",
            FILE,
        );
        let expected = json!({"a": [{"source": "b"}], "c": [{"source": "d"}, {"source": "e"}],
            "f": [{"source": "g"}], "h": [{"source": "i"}]});
        assert_eq!(data, expected);
        let lines: Vec<_> = errors.iter().filter_map(|error| error.split(':').next()).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5].map(|n| format!("{FILE} line {n}")), "{errors:?}");
    }
}

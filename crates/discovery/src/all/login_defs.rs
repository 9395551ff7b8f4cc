//! Settings of the shadow password suite: `/etc/login.defs`, see login.defs(5).
//!
//! `data` is setting → value: a number, a boolean (`yes` and `no`), a text, or a list when the line has several
//! words. Numbers are read as the suite reads them, octal after `0` and hexadecimal after `0x`, and delivered
//! in decimal: `UMASK 022` gives 18. A quoted value is one text. `#` begins a comment. Of a repeated setting the
//! last one counts. A setting that is not in the file is not in the data.
//!
//! ```json
//! {"UMASK": 18, "PASS_MAX_DAYS": 99999, "CREATE_HOME": true, "ENCRYPT_METHOD": "YESCRYPT",
//!  "ENV_PATH": "PATH=/usr/local/bin:/usr/bin:/bin"}
//! ```

use crate::parse::{self, Errors, c_integer, is_plausible_key, one_or_list, quoted};
use crate::{
    Collected, Discovery, Host, Instance, Parameter, Parameters, Schedule, Trigger, documentation, no_graph,
};
use serde_json::{Map, Value};

pub static DISCOVERY: Discovery = Discovery {
    name: "login_defs",
    description: "Settings of the shadow password suite",
    documentation: documentation::LOGIN_DEFS,
    parameters: &[Parameter {
        name: "LOGIN_DEFS_CONFIG",
        meaning: "file to read",
        default: "/etc/login.defs",
    }],
    instances: &[Instance { name: "_init_login_defs", parameters: &[], schedule: None }],
    schedule: Schedule::DEFAULT,
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    parse::collect_file(
        host,
        parameters.get("LOGIN_DEFS_CONFIG").map_or("/etc/login.defs", String::as_str),
        parse,
    )
}

/// The settings of one file, and a sentence for each line that is none.
fn parse(text: &str, file: &str) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let mut data = Map::new();
    for (number, line) in parse::lines(text, file, &mut errors) {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        // util-linux takes `KEY=VALUE` as well.
        let (key, rest) = line.split_once([' ', '\t', '=']).unwrap_or((line, ""));
        let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '=');
        if !is_plausible_key(key) {
            errors.at(file, number, format_args!("{} is not the name of a setting", quoted(key)));
            continue;
        }
        let words = words(rest);
        if words.is_empty() {
            errors.at(file, number, format_args!("{key} has no value"));
            continue;
        }
        if let [(word, false)] = words.as_slice()
            && c_integer(word).is_none()
            && word.bytes().all(|b| b.is_ascii_digit())
        {
            errors.at(
                file,
                number,
                format_args!("{} of {key} is not a number that the suite reads", quoted(word)),
            );
        }
        data.insert(
            key.to_owned(),
            one_or_list(words.iter().map(|(word, quoted)| value(key, word, *quoted)).collect()),
        );
    }
    (Value::Object(data), errors.into_list())
}

fn value(key: &str, word: &str, quoted: bool) -> Value {
    if parse::is_secret_name(key) {
        return Value::from("***");
    }
    if quoted {
        return Value::from(parse::mask_secrets(word));
    }
    if word.eq_ignore_ascii_case("yes") {
        return Value::Bool(true);
    }
    if word.eq_ignore_ascii_case("no") {
        return Value::Bool(false);
    }
    c_integer(word).map_or_else(|| Value::from(parse::mask_secrets(word)), Value::from)
}

/// The words up to a comment, each with whether it was quoted.
fn words(mut rest: &str) -> Vec<(&str, bool)> {
    let mut words = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            return words;
        }
        if let Some(inside) = rest.strip_prefix('"') {
            // Like the suite itself, take a missing closing quote as the end of the line.
            let (word, after) = inside.split_once('"').unwrap_or((inside.trim_end(), ""));
            words.push((word, true));
            rest = after;
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push((&rest[..end], false));
            rest = &rest[end..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, check_robustness, collect};
    use serde_json::json;

    const FILE: &str = "/etc/login.defs";

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn robustness() {
        check_robustness(&DISCOVERY, FILE, FILE, "UMASK 022\nA\tx y # c\nB \"a b\"\n");
        let tokens = &["UMASK", " ", "\t", "\n", "=", "\"", "#", "022", "0x", "yes", "ä"];
        check_any_text(FILE, tokens, |text| parse(text, FILE));
    }

    #[test]
    fn values() {
        let text = "UMASK\t 022\nTTYPERM 0600\nERASECHAR 0177\nMASK 0x1F\nA -1\nB yes\nC No\nD a b 3\nE \"a  # b\" # c\nF x#y\n\
                    G=7\nUMASK 077 # stricter\nENV_PATH PATH=/bin:/usr/bin\nH \"\"\nI \"open\n";
        let (data, errors) = parse(text, FILE);
        let expected = json!({"UMASK": 63, "TTYPERM": 384, "ERASECHAR": 127, "MASK": 31, "A": -1, "B": true, "C": false,
            "D": ["a", "b", 3], "E": "a  # b", "F": "x#y", "G": 7, "ENV_PATH": "PATH=/bin:/usr/bin", "H": "", "I": "open"});
        assert_eq!(data, expected);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (data, errors) = parse("GOOD 1\nALONE\nÄ 1\nBAD 089\nADMIN_PASSWORD x\n", FILE);
        assert_eq!(data, json!({"GOOD": 1, "BAD": "089", "ADMIN_PASSWORD": "***"}));
        let expected = [
            "/etc/login.defs line 2: ALONE has no value",
            "/etc/login.defs line 3: 'Ä' is not the name of a setting",
            "/etc/login.defs line 4: '089' of BAD is not a number that the suite reads",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn another_file_can_be_named() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("other"), "A 1\n").unwrap();
        let parameters = Parameters::from([("LOGIN_DEFS_CONFIG".into(), "/other".into())]);
        assert_eq!(super::collect(&Host::at(tree.path()), &parameters).data, json!({"A": 1}));
        assert!(collect(&DISCOVERY, &[("/other", b"A 1")]).data.get("NODATA").is_some());
    }
}

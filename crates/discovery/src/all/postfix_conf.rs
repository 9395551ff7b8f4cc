//! Settings of the mail server Postfix: `/etc/postfix/main.cf`, see postconf(5).
//!
//! `data` is parameter → value. `yes` and `no` are booleans, whole numbers numbers; parameters that end in
//! `_restrictions` are lists. A line that begins with a blank goes on with the one before; of a repeated parameter
//! the last one counts. References such as `$myhostname` stay as they are. A parameter without a line is not in the
//! data: Postfix uses its built-in value, which `postconf -d` shows.
//!
//! ```json
//! {"inet_interfaces": "loopback-only", "smtpd_client_restrictions": ["permit_mynetworks", "reject"]}
//! ```

use crate::parse::presence::not_there;
use crate::parse::{
    self, Errors, MAX_LINE_BYTES, is_plausible_key, is_secret_name, mask_secrets, quoted, scalar,
};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use model::text::shortened;
use serde_json::{Map, Value};

pub static DISCOVERY: Discovery = Discovery {
    name: "postfix_conf",
    description: "Settings of the mail server Postfix",
    documentation: documentation::POSTFIX_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_postfix_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILE: &str = "/etc/postfix/main.cf";

fn collect(host: &Host, _: &Parameters) -> Collected {
    if host.stat(FILE).is_err_and(|error| error.is_missing()) {
        return not_there("Postfix is not installed: there is no /etc/postfix/main.cf");
    }
    parse::collect_file(host, FILE, parse)
}

fn parse(text: &str, file: &str) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let mut logical: Vec<(usize, String)> = Vec::new();
    for (number, line) in parse::lines(text, file, &mut errors) {
        let content = line.trim();
        if content.starts_with('#') {
            continue;
        }
        match logical.last_mut() {
            Some((_, last)) if line.starts_with([' ', '\t']) => {
                if last.len() + content.len() < MAX_LINE_BYTES {
                    last.push(' ');
                    last.push_str(content);
                }
            }
            _ => logical.push((number, content.to_owned())),
        }
    }
    let mut data = Map::new();
    for (number, line) in logical {
        let Some((name, value)) = line.split_once('=') else {
            errors.at(file, number, format_args!("{} has no '='", quoted(&line)));
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        if !is_plausible_key(name) {
            errors.at(file, number, format_args!("{} is not the name of a parameter", quoted(name)));
            continue;
        }
        data.insert(name.to_owned(), value_of(name, value));
    }
    (Value::Object(data), errors.into_list())
}

fn value_of(name: &str, value: &str) -> Value {
    if is_secret_name(name) {
        return Value::from("***");
    }
    if name.ends_with("_restrictions") {
        return parse::ini::words(value)
            .into_iter()
            .take(1000)
            .map(|word| Value::from(mask_secrets(word)))
            .collect();
    }
    match scalar(value) {
        Value::String(text) => Value::from(shortened(&mask_secrets(&text), 4096)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, collect as collect_from};
    use serde_json::json;

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn values() {
        let text = "# c\na = 1\nb=yes\nsmtpd_client_restrictions = permit_mynetworks,\n  # no\n\n  reject\na = 2\nempty =\n";
        let (data, errors) = parse(text, FILE);
        assert_eq!(errors, [""; 0]);
        let expected = json!({"a": 2, "b": true, "smtpd_client_restrictions": ["permit_mynetworks", "reject"], "empty": ""});
        assert_eq!(data, expected);
        assert_eq!(parse(&text.replace('\n', "\r\n"), FILE).0, expected);
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (data, errors) = parse("x\n a = b\n?? = 1\nz = 1", FILE);
        assert_eq!(data, json!({"z": 1}));
        let expected = [
            "/etc/postfix/main.cf line 1: 'x a' is not the name of a parameter",
            "/etc/postfix/main.cf line 3: '??' is not the name of a parameter",
        ];
        assert_eq!(errors, expected);
        assert_eq!(parse("x\n", FILE).1, ["/etc/postfix/main.cf line 1: 'x' has no '='"]);
    }

    #[test]
    fn absent_and_unreadable_differ() {
        let absent = collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(absent.data["NODATA"].as_str().unwrap().starts_with("Postfix is not installed"));
        assert!(absent.errors.is_empty());
        let directory = collect_from(&DISCOVERY, &[("/etc/postfix/main.cf/x", b"")]);
        assert_eq!(directory.data["NODATA"], "ERROR: Cannot read /etc/postfix/main.cf");
        assert_eq!(directory.errors.len(), 1);
    }

    #[test]
    fn any_text() {
        let tokens = &["a", " ", "\n", "=", ",", "_restrictions", "#", "yes", "password", "\t"];
        check_any_text(FILE, tokens, |text| parse(text, FILE));
    }
}

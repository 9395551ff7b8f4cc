//! Terminals on which root may log in: `/etc/securetty`, see securetty(5) and pam_securetty(8).
//!
//! `data` is name of the terminal, as below `/dev` → `true`; the file begins a comment with `#`. An empty file lets
//! root in on none. Without the file pam_securetty lets root in everywhere; current distributions have no file.
//! ```json
//! {"console":true,"tty1":true,"tty2":true}
//! ```

use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files, cut_at_hash, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value};

pub static DISCOVERY: Discovery = Discovery {
    name: "securetty",
    description: "Terminals on which root may log in",
    documentation: documentation::SECURETTY,
    parameters: &[],
    instances: &[Instance { name: "_init_securetty", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILE: &str = "/etc/securetty";
const MAX_TERMINALS: usize = 4096;

fn collect(host: &Host, _: &Parameters) -> Collected {
    match host.text(FILE) {
        Err(reason) if reason.absent => not_there("pam_securetty is not in use: there is no /etc/securetty"),
        _ => parse::collect_file(host, FILE, parse),
    }
}

fn parse(text: &str, file: &str) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let mut data = Map::new();
    for (number, line) in parse::lines(text, file, &mut errors) {
        let name = cut_at_hash(line).trim();
        if name.is_empty() {
            continue;
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"/_-.:".contains(&b);
        if name.len() > 64 || !name.bytes().all(legal) {
            errors.at(file, number, format_args!("{} is not the name of a terminal", quoted(name)));
        } else if data.len() == MAX_TERMINALS {
            errors.at(
                file,
                number,
                format_args!("more than {MAX_TERMINALS} terminals, the rest is left out"),
            );
            break;
        } else {
            data.insert(name.strip_prefix("/dev/").unwrap_or(name).to_owned(), Value::Bool(true));
        }
    }
    (Value::Object(data), errors.into_list())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, collect};
    use serde_json::json;

    #[test]
    fn terminals_without_comments() {
        let (data, errors) = parse("# c\nconsole\n tty1 # x\r\n/dev/vc/1\nbad name\n", FILE);
        assert_eq!(data, json!({"console": true, "tty1": true, "vc/1": true}));
        assert_eq!(errors, ["/etc/securetty line 5: 'bad name' is not the name of a terminal"]);
    }

    #[test]
    fn no_file_is_no_error() {
        let found = collect(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(found.errors.is_empty() && found.data["NODATA"].as_str().unwrap().contains(FILE));
        assert_eq!(collect(&DISCOVERY, &[(FILE, b"")]).data, json!({}));
        let unreadable = collect(&DISCOVERY, &[("/etc/securetty/x", b"")]);
        assert_eq!(unreadable.data["NODATA"], "ERROR: Cannot read /etc/securetty");
        assert_eq!(unreadable.errors.len(), 1);
    }

    #[test]
    fn hostile_texts() {
        check_any_text(FILE, &["tty", "/", " ", "\n", "#", "1", "ä"], |text| parse(text, FILE));
    }
}

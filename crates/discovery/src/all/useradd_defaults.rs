//! What useradd(8) gives a new account when nobody says otherwise: `/etc/default/useradd`.
//!
//! `data` is setting → number or text, as in the file: `INACTIVE` (days from the expiry of the password to the end of
//! the account, -1 for never), `EXPIRE`, `GROUP`, `HOME`, `SHELL`, `SKEL`, `CREATE_MAIL_SPOOL` (true or false). A
//! setting that is not in the file is not in the data; without the file useradd uses what is built in, and `data` is
//! empty. Of a repeated setting the last one counts.
//!
//! ```json
//! {"GROUP": 100, "HOME": "/home", "INACTIVE": 30, "EXPIRE": "", "SHELL": "/bin/bash", "CREATE_MAIL_SPOOL": false}
//! ```

use crate::parse::{self, Errors, Files, is_plausible_key, quoted, scalar};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "useradd_defaults",
    description: "What useradd gives a new account",
    documentation: documentation::USERADD_DEFAULTS,
    parameters: &[],
    instances: &[Instance { name: "_init_useradd_defaults", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILE: &str = "/etc/default/useradd";
const PROGRAMS: &[&str] = &["/usr/sbin/useradd", "/sbin/useradd", "/usr/bin/useradd"];

fn collect(host: &Host, _: &Parameters) -> Collected {
    match host.text(FILE) {
        Ok(text) => parse::collected(parse(&text, FILE)),
        Err(reason) if reason.absent => {
            let installed = PROGRAMS.iter().any(|program| host.stat(program).is_ok());
            let data = if installed {
                json!({})
            } else {
                json!({"NODATA": format!("useradd is not installed: there is neither {FILE} nor the program")})
            };
            Collected::new(data)
        }
        Err(_) => parse::collect_file(host, FILE, parse),
    }
}

fn parse(text: &str, file: &str) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let mut data = Map::new();
    for (number, line) in parse::lines(text, file, &mut errors) {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) if is_plausible_key(name.trim_end()) => {
                let value = value.trim().trim_matches(['"', '\'']);
                data.insert(name.trim_end().to_owned(), scalar(value));
            }
            _ => errors.at(
                file,
                number,
                format_args!("{} is not a setting of the form NAME=value", quoted(line)),
            ),
        }
    }
    (Value::Object(data), errors.into_list())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, collect};

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn values() {
        let (data, errors) = parse(
            "# INACTIVE=1\r\nGROUP=100\nHOME=/home\nINACTIVE=-1\nINACTIVE=30\nEXPIRE=\nSHELL=\"/bin/sh\"\nCREATE_MAIL_SPOOL=no\n",
            FILE,
        );
        let expected = json!({"GROUP": 100, "HOME": "/home", "INACTIVE": 30, "EXPIRE": "", "SHELL": "/bin/sh", "CREATE_MAIL_SPOOL": false});
        assert_eq!(data, expected);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (data, errors) = parse("GROUP=1\nINACTIVE 30\n=x\n", FILE);
        assert_eq!(data, json!({"GROUP": 1}));
        assert!(errors[0].starts_with("/etc/default/useradd line 2: 'INACTIVE 30'"), "{errors:?}");
        assert_eq!(errors.len(), 2);
    }

    #[test]
    fn without_the_file_the_built_in_values_count() {
        assert_eq!(collect(&DISCOVERY, &[("/usr/sbin/useradd", b"x")]).data, json!({}));
        let absent = collect(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(absent.data["NODATA"].as_str().unwrap().starts_with("useradd is not installed"));
        assert!(absent.errors.is_empty());
        let unreadable = collect(&DISCOVERY, &[("/etc/default/useradd/x", b"h")]);
        assert_eq!(
            (&unreadable.data["NODATA"], unreadable.errors.len()),
            (&json!("ERROR: Cannot read /etc/default/useradd"), 1)
        );
    }

    #[test]
    fn any_text() {
        check_any_text(FILE, &["INACTIVE", "=", "30", "-", "\n", "#", "\"", "yes", "ä"], |text| {
            parse(text, FILE)
        });
    }
}

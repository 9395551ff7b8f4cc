//! Settings of the audit daemon: `/etc/audit/auditd.conf`, see auditd.conf(5).
//!
//! `data` is setting, in lower case, → value: a number, a boolean (`yes` and `no`), or a text. Values that are
//! one of a fixed set of words, such as `SYSLOG` or `INCREMENTAL_ASYNC`, are in lower case; paths, accounts and
//! names keep their case. `25%` stays a text. An action that runs a program is a list: `["exec", "/path"]`.
//! Of a repeated setting the last one counts. A setting that is not in the file is not in the data.
//!
//! `space_left_percent` and `admin_space_left_percent` are these limits in percent of the file system of the logs,
//! rounded down: as they are written, or worked out from megabytes where its size is known (running system).
//!
//! ```json
//! {"log_file": "/var/log/audit/audit.log", "max_log_file": 8, "space_left": "25%", "space_left_percent": 25, "write_logs": true,
//!  "space_left_action": ["exec", "/usr/local/sbin/Tell"], "disk_full_action": "halt"}
//! ```

use crate::parse::{self, Errors, is_plausible_key, quoted, scalar};
use crate::{
    Collected, Discovery, Host, Instance, Parameter, Parameters, Schedule, Trigger, documentation, no_graph,
};
use serde_json::{Map, Value};

pub static DISCOVERY: Discovery = Discovery {
    name: "auditd_conf",
    description: "Settings of the audit daemon",
    documentation: documentation::AUDITD_CONF,
    parameters: &[Parameter {
        name: "AUDITD_CONFIG",
        meaning: "file to read",
        default: "/etc/audit/auditd.conf",
    }],
    instances: &[Instance { name: "_init_auditd_conf", parameters: &[], schedule: None }],
    schedule: Schedule::DEFAULT,
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

/// Settings whose value is one of a fixed set of words (the actions, which may also be `exec PATH`, aside).
const WORD_SETTINGS: &[&str] = &["log_format", "flush", "name_format", "transport", "disp_qos"];

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    let file = parameters.get("AUDITD_CONFIG").map_or("/etc/audit/auditd.conf", String::as_str);
    let mut collected = parse::collect_file(host, file, parse);
    if let Value::Object(data) = &mut collected.data {
        let log_file = data.get("log_file").and_then(Value::as_str).unwrap_or("/var/log/audit/audit.log");
        let directory = log_file.rsplit_once('/').map_or("/", |(directory, _)| directory).to_owned();
        let has_megabytes = LIMITS.iter().any(|(limit, _)| data.get(*limit).is_some_and(Value::is_i64));
        let size_bytes = has_megabytes.then(|| super::audit_partition::size_bytes(host, &directory)).flatten();
        percentages(data, size_bytes);
    }
    collected
}

const LIMITS: [(&str, &str); 2] =
    [("space_left", "space_left_percent"), ("admin_space_left", "admin_space_left_percent")];

/// The limits of free space in percent of a file system of this size.
fn percentages(data: &mut Map<String, Value>, size_bytes: Option<u64>) {
    for (limit, percent) in LIMITS {
        let found = match data.get(limit) {
            Some(Value::String(text)) => text.strip_suffix('%').and_then(|number| number.parse::<u64>().ok()),
            Some(Value::Number(megabytes)) => megabytes.as_u64().zip(size_bytes).and_then(|(megabytes, size)| {
                let size_megabytes = (size >> 20).max(1);
                Some(megabytes.checked_mul(100)? / size_megabytes)
            }),
            _ => None,
        };
        data.extend(found.map(|found| (percent.to_owned(), found.into())));
    }
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
        let Some((key, rest)) = line.split_once('=') else {
            errors.at(file, number, format_args!("{} has no '='", quoted(line)));
            continue;
        };
        let key = key.trim().to_ascii_lowercase();
        if !is_plausible_key(&key) {
            errors.at(file, number, format_args!("{} is not the name of a setting", quoted(&key)));
            continue;
        }
        let words: Vec<&str> = rest.split_whitespace().collect();
        match words.as_slice() {
            [] => errors.at(file, number, format_args!("{key} has no value")),
            [word] => {
                data.insert(key.clone(), value(&key, word));
            }
            [exec, program, further @ ..]
                if key.ends_with("_action") && exec.eq_ignore_ascii_case("exec") =>
            {
                data.insert(key.clone(), Value::from(vec!["exec", program]));
                if !further.is_empty() {
                    errors.at(file, number, format_args!("{key} takes a program without arguments"));
                }
            }
            [word, ..] => {
                data.insert(key.clone(), value(&key, word));
                errors.at(file, number, format_args!("{key} takes one word, the rest is left out"));
            }
        }
    }
    (Value::Object(data), errors.into_list())
}

fn value(key: &str, word: &str) -> Value {
    if parse::is_secret_name(key) {
        Value::from("***")
    } else if key.ends_with("_action") || WORD_SETTINGS.contains(&key) {
        Value::from(word.to_ascii_lowercase())
    } else {
        match scalar(word) {
            Value::String(text) => Value::from(parse::mask_secrets(&text)),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, check_robustness};
    use serde_json::json;

    const FILE: &str = "/etc/audit/auditd.conf";

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn robustness() {
        check_robustness(
            &DISCOVERY,
            FILE,
            FILE,
            "log_file = /A/b\nflush=DATA\nspace_left = 25%\nx_action = EXEC /A\n",
        );
        let tokens = &["flush", " ", "\n", "=", "#", "exec", "_action", "25%", "yes", "/A", "ä"];
        check_any_text(FILE, tokens, |text| parse(text, FILE));
    }

    #[test]
    fn values() {
        let text = "Log_File = /var/log/Audit/Audit.log\nlog_format = ENRICHED\nspace_left = 25%\nadmin_space_left=50\n\
                    space_left_action = EXEC /usr/Local/Tell\nmax_log_file_action = ROTATE\naction_mail_acct = Root@Example.org\n\
                    name = WebServer\nwrite_logs = YES\nuse_libwrap = no\ntcp_client_ports = 1024-65535\nnum_logs = 5\nnum_logs = 6\n";
        let (data, errors) = parse(text, FILE);
        let expected = json!({"log_file": "/var/log/Audit/Audit.log", "log_format": "enriched", "space_left": "25%",
            "admin_space_left": 50, "space_left_action": ["exec", "/usr/Local/Tell"], "max_log_file_action": "rotate",
            "action_mail_acct": "Root@Example.org", "name": "WebServer", "write_logs": true, "use_libwrap": false,
            "tcp_client_ports": "1024-65535", "num_logs": 6});
        assert_eq!(data, expected);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn limits_in_percent() {
        let percent = |text: &str, size_bytes| {
            let mut data = Map::new();
            data.insert("space_left".into(), scalar(text));
            percentages(&mut data, size_bytes);
            data.get("space_left_percent").and_then(Value::as_u64)
        };
        assert_eq!(percent("25%", None), Some(25));
        assert_eq!((percent("250", Some(1000 << 20)), percent("249", Some(1000 << 20))), (Some(25), Some(24)));
        assert_eq!((percent("250", None), percent("x%", Some(1)), percent("-5", Some(1 << 20))), (None, None, None));
        assert_eq!(percent("9223372036854775807", Some(1 << 20)), None);
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let text = "num_logs 5\nflush =\n= x\nfreq = 50 60\ndisk_full_action = exec /a b\nfreq2 = 1\n";
        let (data, errors) = parse(text, FILE);
        assert_eq!(data, json!({"freq": 50, "disk_full_action": ["exec", "/a"], "freq2": 1}));
        let expected = [
            "/etc/audit/auditd.conf line 1: 'num_logs 5' has no '='",
            "/etc/audit/auditd.conf line 2: flush has no value",
            "/etc/audit/auditd.conf line 3: '' is not the name of a setting",
            "/etc/audit/auditd.conf line 4: freq takes one word, the rest is left out",
            "/etc/audit/auditd.conf line 5: disk_full_action takes a program without arguments",
        ];
        assert_eq!(errors, expected);
    }
}

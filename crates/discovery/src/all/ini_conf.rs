//! Small files of `key = value` lines that rules ask about and that need no discovery of their own.
//!
//! They are `/etc/default/aide` (what the daily check of AIDE mails), `/etc/libuser.conf` (how libuser(3) hashes passwords),
//! `/etc/pam_pkcs11/pam_pkcs11.conf` (smart cards), `/etc/sysconfig/sshd` (environment of sshd on Red Hat systems) and
//! `/etc/usbguard/usbguard-daemon.conf` (which USB devices are let in).
//!
//! `data` is file → key → value: booleans, whole numbers, texts without quotes around them; the key alone, whatever
//! section it stands in. Of a repeated key the last one counts. A file that is not there is not in the data.
//!
//! ```json
//! {"/etc/libuser.conf": {"crypt_style": "sha512"}, "/etc/default/aide": {"SILENTREPORTS": false}}
//! ```

use crate::parse::{self, Errors, is_plausible_key, is_secret_name, mask_secrets, quoted, scalar};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use model::text::shortened;
use serde_json::{Map, Value};

pub static DISCOVERY: Discovery = Discovery {
    name: "ini_conf",
    description: "Small files of settings that rules ask about",
    documentation: documentation::INI_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_ini_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

/// The file, and whether lines without `=` are to be expected in it.
const FILES: &[(&str, bool)] = &[
    ("/etc/default/aide", true),
    ("/etc/libuser.conf", false),
    ("/etc/pam_pkcs11/pam_pkcs11.conf", true),
    ("/etc/sysconfig/sshd", true),
    ("/etc/usbguard/usbguard-daemon.conf", false),
];

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let mut data = Map::new();
    for (path, mixed) in FILES {
        match host.read_text(path) {
            Ok(text) => {
                let settings = parse(&text, path, *mixed, &mut errors);
                data.insert((*path).to_owned(), Value::Object(settings));
            }
            Err(error) if error.is_missing() => {}
            Err(error) => errors.add(format!("Cannot read {error}")),
        }
    }
    parse::collected((Value::Object(data), errors.into_list()))
}

/// The settings of one file. `mixed`: it has lines of other kinds too, which are no mistakes.
fn parse(text: &str, path: &str, mixed: bool, errors: &mut Errors) -> Map<String, Value> {
    let mut settings = Map::new();
    for (number, line) in parse::lines(text, path, errors) {
        let line = line.trim();
        if line.starts_with(['#', ';']) || (line.starts_with('[') && line.ends_with(']')) {
            continue;
        }
        let setting = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
        let setting = setting.map(|(key, value)| (key.strip_prefix("export ").unwrap_or(key).trim(), value));
        match setting.filter(|(key, _)| is_plausible_key(key)) {
            Some((key, value)) => {
                settings.insert(key.to_owned(), value_of(key, value));
            }
            None if mixed => {}
            None => errors.at(path, number, format_args!("{} is not a setting", quoted(line))),
        }
    }
    settings
}

fn value_of(key: &str, value: &str) -> Value {
    if is_secret_name(key) {
        return Value::from("***");
    }
    let value = value.strip_suffix(';').unwrap_or(value).trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    match scalar(unquoted.unwrap_or(value)) {
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
    fn values_without_sections_and_quotes() {
        let found = collect_from(
            &DISCOVERY,
            &[
                ("/etc/default/aide", b"# c\nSILENTREPORTS=no\nexport A='b c'\nif true; then\n"),
                ("/etc/libuser.conf", b"[defaults]\ncrypt_style = md5\ncrypt_style = sha512\n"),
                ("/etc/pam_pkcs11/pam_pkcs11.conf", b"pam_pkcs11 {\n  use_mappers = digest, pwent;\n}\n"),
                ("/etc/sysconfig/sshd", b"SSH_USE_STRONG_RNG=32\nTOKEN=geheim\n"),
            ],
        );
        assert_eq!(found.errors, [""; 0]);
        let expected = json!({"/etc/default/aide": {"SILENTREPORTS": false, "A": "b c"},
            "/etc/libuser.conf": {"crypt_style": "sha512"},
            "/etc/pam_pkcs11/pam_pkcs11.conf": {"use_mappers": "digest, pwent"},
            "/etc/sysconfig/sshd": {"SSH_USE_STRONG_RNG": 32, "TOKEN": "***"}});
        assert_eq!(found.data, expected);
    }

    #[test]
    fn malformed_lines_and_files_that_are_none() {
        let found = collect_from(
            &DISCOVERY,
            &[
                ("/etc/usbguard/usbguard-daemon.conf", b"AuditBackend=LinuxAudit\nnonsense\n"),
                ("/etc/default/aide/x", b""),
            ],
        );
        assert_eq!(found.data, json!({"/etc/usbguard/usbguard-daemon.conf": {"AuditBackend": "LinuxAudit"}}));
        assert!(found.errors[0].contains("/etc/default/aide"), "{:?}", found.errors);
        assert_eq!(found.errors[1], "/etc/usbguard/usbguard-daemon.conf line 2: 'nonsense' is not a setting");
        assert_eq!(collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]).data, json!({}));
    }

    #[test]
    fn any_text() {
        let tokens = &["a", "=", "\n", "\"", "'", ";", "[", "]", "export ", "no", "secret", "\u{fffd}"];
        check_any_text("/f", tokens, |text| {
            let mut errors = Errors::default();
            (Value::Object(parse(text, "/f", false, &mut errors)), errors.into_list())
        });
    }
}

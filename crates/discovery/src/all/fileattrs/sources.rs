//! Files whose names stand in a configuration: the logs of auditd and of rsyslog.

use crate::Host;
use crate::parse::{Errors, Files, MAX_INCLUDED_FILES, glob, lines};
use std::collections::BTreeSet;

const AUDITD_CONF: &str = "/etc/audit/auditd.conf";
const RSYSLOG_CONF: &str = "/etc/rsyslog.conf";
/// Log files of rsyslog; more are left out, with an error.
const MAX_LOG_FILES: usize = 2000;

/// Where auditd writes, from auditd.conf(5) or its built-in defaults.
#[derive(Debug, PartialEq, Eq)]
pub struct AuditLog {
    /// Without `/` at the end, `/` alone for the root.
    pub directory: String,
    /// The name of the log in it; rotated ones begin with it.
    pub name: String,
    /// Who may read it besides root.
    pub group: String,
    /// Whether there is an auditd.conf.
    pub configured: bool,
}

/// Never fails: what cannot be read is told in `errors`, and the defaults are used.
pub fn audit_log(host: &Host, errors: &mut Vec<String>) -> AuditLog {
    match host.read_text(AUDITD_CONF) {
        Ok(text) => parse_audit_log(&text, true),
        Err(error) => {
            let missing = error.is_missing();
            if !missing {
                errors.push(error.to_string());
            }
            parse_audit_log("", !missing)
        }
    }
}

/// Keywords in any case, the last of several counts; a path keeps its case.
fn parse_audit_log(text: &str, configured: bool) -> AuditLog {
    let value = |wanted: &str, fits: fn(&str) -> bool| {
        let settings = text.lines().filter_map(|line| line.split_once('='));
        let mut values = settings.filter(|(keyword, _)| keyword.trim().eq_ignore_ascii_case(wanted));
        values.rfind(|(_, value)| fits(value.trim())).map(|(_, value)| value.trim().to_owned())
    };
    let log_file = value("log_file", |path| path.starts_with('/'));
    let log_file = log_file.unwrap_or_else(|| "/var/log/audit/audit.log".into());
    let (directory, name) = log_file.rsplit_once('/').unwrap_or(("", &log_file));
    AuditLog {
        directory: if directory.is_empty() { "/".into() } else { directory.into() },
        name: name.into(),
        group: value("log_group", |group| !group.is_empty()).unwrap_or_else(|| "root".into()),
        configured,
    }
}

/// The files that rsyslog writes by name, sorted; those named by a template (`?name`, `dynaFile`) cannot be known.
/// `None` when it is not installed.
pub fn rsyslog_files(host: &Host, errors: &mut Vec<String>) -> Option<BTreeSet<String>> {
    let mut told = Errors::default();
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut pending = vec![RSYSLOG_CONF.to_owned()];
    while let Some(path) = pending.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        if seen.len() > MAX_INCLUDED_FILES {
            told.add(format!(
                "{path}: more than {MAX_INCLUDED_FILES} files are included: the rest was left out"
            ));
            break;
        }
        let text = match host.text(&path) {
            Ok(text) => text,
            Err(reason) if reason.absent && path == RSYSLOG_CONF => return None,
            Err(reason) => {
                if !reason.absent {
                    told.unread(&reason);
                }
                continue;
            }
        };
        for mention in mentions(&text, &path, &mut told) {
            match mention {
                Mention::Log(file) if found.len() < MAX_LOG_FILES => {
                    found.insert(file);
                }
                Mention::Log(file) => {
                    told.add(format!("{file}: more than {MAX_LOG_FILES} log files: the rest was left out"));
                    break;
                }
                Mention::Include(pattern) => match glob(host, &pattern) {
                    // The stack gives them back in order.
                    Ok(files) => pending.extend(files.into_iter().rev()),
                    Err(reason) if reason.absent => {}
                    Err(reason) => told.unread(&reason),
                },
            }
        }
    }
    errors.extend(told.into_list());
    Some(found)
}

#[derive(Debug, PartialEq, Eq)]
enum Mention {
    Log(String),
    Include(String),
}

/// What a file of rsyslog's configuration says of files, in both of its languages: `mail.* -/var/log/mail.log`
/// with `$IncludeConfig`, and `action(type="omfile" file="...")` with `include(file="...")`. rsyslog.conf(5).
fn mentions(text: &str, file: &str, errors: &mut Errors) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut script = String::new();
    for (_, line) in lines(text, file, errors) {
        let line = without_comment(line).trim();
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if first.eq_ignore_ascii_case("$IncludeConfig") {
            found.extend(words.next().map(|pattern| Mention::Include(pattern.trim_matches('"').into())));
        } else if !first.starts_with('$') {
            if let Some(last) = words.next_back().filter(|_| is_selector(first)) {
                let path = last.trim_start_matches('-').split(';').next().unwrap_or_default();
                if path.starts_with('/') {
                    found.push(Mention::Log(path.into()));
                    continue;
                }
            }
            script.push_str(line);
            script.push('\n');
        }
    }
    found.extend(script_mentions(&script));
    found
}

/// `facility.priority`, `:property,`, `&` for the same selection again, or a condition.
fn is_selector(word: &str) -> bool {
    word.contains('.') || word.starts_with([':', '&', '*']) || word == "if"
}

/// Cuts at `#` outside quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, byte) in line.bytes().enumerate() {
        match quote {
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if byte == b'"' || byte == b'\'' => quote = Some(byte),
            None if byte == b'#' => return &line[..at],
            None => {}
        }
    }
    line
}

/// `name(parameter="value" ...)`: parameters and names in any case.
fn script_mentions(script: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    let lower = script.to_ascii_lowercase();
    let mut from = 0;
    while let Some(open) = lower[from..].find('(').map(|at| from + at) {
        let before = lower[..open].trim_end();
        let (is_action, is_include) = (before.ends_with("action"), before.ends_with("include"));
        from = open + 1;
        if is_action || is_include {
            let end = closing(&script[open..]).map_or(script.len(), |length| open + length);
            let (inside, inside_lower) = (&script[from..end], &lower[from..end]);
            from = end;
            let file = parameter(inside, inside_lower, "file").filter(|path| path.starts_with('/'));
            if is_include {
                found.extend(file.map(|path| Mention::Include(path.into())));
            } else if parameter(inside_lower, inside_lower, "type") == Some("omfile") {
                found.extend(file.map(|path| Mention::Log(path.into())));
            }
        }
    }
    found
}

/// Bytes up to the parenthesis that closes the one at the start.
fn closing(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.bytes().position(|byte| {
        quoted ^= byte == b'"';
        byte == b')' && !quoted
    })
}

/// The value of `name="..."`; `lower` is the same text in lower case.
fn parameter<'a>(text: &'a str, lower: &str, name: &str) -> Option<&'a str> {
    let mut from = 0;
    while let Some(at) = lower[from..].find(name).map(|at| from + at) {
        from = at + name.len();
        let starts = lower[..at].ends_with(|c: char| c.is_ascii_whitespace() || c == ',') || at == 0;
        let rest = text[from..].trim_start();
        if let (true, Some(value)) = (starts, rest.strip_prefix('=')) {
            return value.trim_start().strip_prefix('"')?.split('"').next();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_log_of_auditd() {
        let log = parse_audit_log("Log_File = /srv/Audit/a.log\nlog_group = adm\n", true);
        assert_eq!(
            (log.directory.as_str(), log.name.as_str(), log.group.as_str()),
            ("/srv/Audit", "a.log", "adm")
        );
        let log = parse_audit_log("log_file = a.log\nlog_group =\n", false);
        assert_eq!((log.directory.as_str(), log.group.as_str()), ("/var/log/audit", "root"));
        assert_eq!(parse_audit_log("log_file = /a.log", true).directory, "/");
    }

    #[test]
    fn both_languages_of_rsyslog_name_files() {
        let text = "module(load=\"imuxsock\") # file=\"/no\"\n\
            $WorkDirectory /var/spool/rsyslog\n$IncludeConfig /etc/rsyslog.d/*.conf\n\
            auth,authpriv.*\t\t\t/var/log/auth.log\n*.*;auth.none -/var/log/syslog;RSYSLOG_Format\n\
            *.emerg :omusrmsg:*\nmail.* @server\ncron.* |/dev/xconsole\n\
            :msg, contains, \"x\" /var/log/x.log\n& stop\n#news.* /var/log/no\n\
            if $programname == 'a' then /var/log/a.log\n\
            local7.* action(type=\"omfile\"\n  dirCreateMode=\"0700\" File = \"/var/log/Boot.log\")\n\
            action(type=\"omfwd\" file=\"/var/log/no\")\ninclude(file=\"/etc/more.d/*\" mode=\"optional\")\n";
        let mut errors = Errors::default();
        let found = mentions(text, "f", &mut errors);
        let log = |path: &str| Mention::Log(path.into());
        let expected = [
            Mention::Include("/etc/rsyslog.d/*.conf".into()),
            log("/var/log/auth.log"),
            log("/var/log/syslog"),
            log("/var/log/x.log"),
            log("/var/log/a.log"),
            log("/var/log/Boot.log"),
            Mention::Include("/etc/more.d/*".into()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn includes_are_followed_once() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let host = Host::at(tree.path());
        assert_eq!(rsyslog_files(&host, &mut Vec::new()), None);
        write("etc/rsyslog.conf", "$IncludeConfig /etc/rsyslog.d/*.conf\n*.* /var/log/all\n");
        write("etc/rsyslog.d/a.conf", "$IncludeConfig /etc/rsyslog.conf\nkern.* /var/log/kern.log\n");
        let mut errors = Vec::new();
        let found = rsyslog_files(&host, &mut errors).unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), ["/var/log/all", "/var/log/kern.log"]);
        assert!(errors.is_empty());
    }

    proptest! {
        #[test]
        fn any_configuration_is_survived(
            words in proptest::collection::vec(
                proptest::sample::select(vec![
                    "action(", "type=", "\"omfile\"", "file=", "\"/var/log/x\"", ")", "include(", "*.* ", "/x", "\n",
                    "#", "\"", "if ", "ä", "$IncludeConfig ", "&", "-",
                ]),
                0..60,
            ),
        ) {
            mentions(&words.concat(), "f", &mut Errors::default());
        }
    }
}

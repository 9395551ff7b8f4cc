//! What the selectors of syslog.conf(5) catch.

use std::collections::BTreeMap;

const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const MAX_TARGETS: usize = 50;

/// Facility → the files and hosts that get all its messages from priority info upwards.
pub fn facilities<'a>(
    rules: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<&'static str, Vec<String>> {
    let mut found: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for (selector, action) in rules {
        if !(action.starts_with('/') || action.starts_with('@') || action.starts_with('?')) {
            continue;
        }
        for facility in FACILITIES.iter().filter(|facility| catches(selector, facility)) {
            let targets = found.entry(facility).or_default();
            if targets.len() < MAX_TARGETS && !targets.iter().any(|target| target == action) {
                targets.push(action.to_owned());
            }
        }
    }
    found
}

/// Whether a selector takes everything of a facility from info upwards. Of its parts, separated by semicolons,
/// later ones add to or take from what the earlier ones caught.
fn catches(selector: &str, facility: &str) -> bool {
    let mut caught = false;
    for part in selector.split(';').take(100) {
        let Some((names, priority)) = part.trim().rsplit_once('.') else { continue };
        let is_meant = names.split(',').map(str::trim).any(|name| {
            name == "*" || name.eq_ignore_ascii_case(facility) || (name == "security" && facility == "auth")
        });
        if !is_meant {
            continue;
        }
        match priority.trim().to_ascii_lowercase().as_str() {
            "*" | "debug" | "info" => caught = true,
            // Only one priority, or all but some: not everything.
            other if other == "none" || other.starts_with(['=', '!']) => caught = false,
            // notice and above: less than info, but does not take away what is caught already.
            _ => {}
        }
    }
    caught
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        for (selector, facility, expected) in [
            ("auth,authpriv.*", "auth", true),
            ("auth,authpriv.*", "cron", false),
            ("*.*;auth,authpriv.none", "daemon", true),
            ("*.*;auth,authpriv.none", "auth", false),
            ("*.info;mail.none;cron.none", "kern", true),
            ("*.emerg", "cron", false),
            ("*.=info", "cron", false),
            ("cron.*", "cron", true),
            ("CRON.Info", "cron", true),
            ("*.none;cron.debug", "cron", true),
            ("*.*;cron.!warning", "cron", false),
            (":msg, contains, \"cron.*\"", "cron", false),
        ] {
            assert_eq!(catches(selector, facility), expected, "{selector} {facility}");
        }
    }

    #[test]
    fn users_and_pipes_are_no_logs() {
        let rules = [("*.*", ":omusrmsg:*"), ("cron.*", "/a"), ("cron.*", "/a"), ("cron.*", "@h")];
        let found = facilities(rules.into_iter());
        assert_eq!(found, BTreeMap::from([("cron", vec!["/a".to_owned(), "@h".to_owned()])]));
    }
}

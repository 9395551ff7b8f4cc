//! What a session of a user may use: the rules of pam_limits, see limits.conf(5).
//!
//! Reads `/etc/security/limits.conf`, then `/etc/security/limits.d/*.conf` in order of name; of several lines about the
//! same thing the last one counts. The lines take effect only for services whose PAM stack calls pam_limits.
//!
//! `data` is domain (user, `@group`, `%group`, a range of ids, `*` for all but root) → `soft` and `hard` → item →
//! number, or text for what is none; `unlimited`, `infinity` and -1 all come as `unlimited`. A type of `-` sets both.
//! Units are those of the manual page: `core`, `data`, `fsize`, `memlock`, `rss`, `stack` and `as` in KiB, `cpu` in
//! minutes, the others are numbers.
//!
//! ```json
//! {"*": {"hard": {"core": 0}, "soft": {"nofile": 4096}}, "@student": {"hard": {"maxlogins": 4}, "soft": {"maxlogins": 4}},
//!  "root": {"hard": {"memlock": "unlimited"}}}
//! ```

use crate::parse::{self, Errors, Files, integer, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "limits_conf",
    description: "What a session of a user may use (pam_limits)",
    documentation: documentation::LIMITS_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_limits_conf", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 600, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILE: &str = "/etc/security/limits.conf";
const DIRECTORY: &str = "/etc/security/limits.d";
const MAX_DOMAINS: usize = 10_000;
const ITEMS: &[&str] = &[
    "core",
    "data",
    "fsize",
    "memlock",
    "nofile",
    "rss",
    "stack",
    "cpu",
    "nproc",
    "as",
    "maxlogins",
    "maxsyslogins",
    "nonewprivs",
    "priority",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "chroot",
];

fn collect(host: &Host, _: &Parameters) -> Collected {
    parse::collected(read(host))
}

fn read(files: &dyn Files) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let mut data = Map::new();
    let mut there = false;
    match files.text(FILE) {
        Ok(text) => {
            there = true;
            parse(&text, FILE, &mut data, &mut errors);
        }
        Err(reason) if reason.absent => {}
        Err(reason) => {
            errors.unread(&reason);
            return (parse::no_data(FILE), errors.into_list());
        }
    }
    match files.names(DIRECTORY) {
        Ok(mut names) => {
            there = true;
            names.retain(|name| name.ends_with(".conf"));
            names.sort();
            if names.len() > parse::MAX_INCLUDED_FILES {
                errors.add(format!(
                    "{DIRECTORY} has more than {} files, the rest is left out",
                    parse::MAX_INCLUDED_FILES
                ));
                names.truncate(parse::MAX_INCLUDED_FILES);
            }
            for name in names {
                let path = format!("{DIRECTORY}/{name}");
                match files.text(&path) {
                    Ok(text) => parse(&text, &path, &mut data, &mut errors),
                    // Gone since the directory was listed.
                    Err(reason) if reason.absent => {}
                    Err(reason) => errors.unread(&reason),
                }
            }
        }
        Err(reason) if reason.absent => {}
        Err(reason) => errors.unread(&reason),
    }
    if there {
        (Value::Object(data), errors.into_list())
    } else {
        let sentence = format!("pam_limits is not installed: there is no {FILE}");
        (json!({ "NODATA": sentence }), errors.into_list())
    }
}

fn parse(text: &str, file: &str, data: &mut Map<String, Value>, errors: &mut Errors) {
    for (number, line) in parse::lines(text, file, errors) {
        let words: Vec<&str> = parse::cut_at_hash(line).split_whitespace().take(5).collect();
        let (domain, kind, item, value) = match words.as_slice() {
            [] => continue,
            // A domain with a lone `-`: this user has no limits.
            [_, "-"] => continue,
            [domain, kind, item, value] => (*domain, *kind, item.to_ascii_lowercase(), *value),
            _ => {
                errors.at(
                    file,
                    number,
                    format_args!("{} is not domain, type, item and value", quoted(line.trim())),
                );
                continue;
            }
        };
        let kinds: &[&str] = match kind {
            "-" => &["hard", "soft"],
            "hard" => &["hard"],
            "soft" => &["soft"],
            _ => {
                errors.at(file, number, format_args!("{} is not a type (hard, soft, -)", quoted(kind)));
                continue;
            }
        };
        if !ITEMS.contains(&item.as_str()) {
            errors.at(file, number, format_args!("{} is nothing that has a limit", quoted(&item)));
            continue;
        }
        let domain = parse::mask_secrets(domain);
        if domain.len() > 256 || domain.chars().any(char::is_control) {
            errors.at(file, number, format_args!("{} is not a domain", quoted(&domain)));
            continue;
        }
        if data.len() >= MAX_DOMAINS && !data.contains_key(domain.as_ref()) {
            errors.at(file, number, format_args!("more than {MAX_DOMAINS} domains, the rest is left out"));
            return;
        }
        let limits = data.entry(domain.into_owned()).or_insert_with(|| json!({}));
        for kind in kinds {
            limits[*kind][&item] = limit(value);
        }
    }
}

fn limit(value: &str) -> Value {
    if ["unlimited", "infinity", "-1"].iter().any(|word| value.eq_ignore_ascii_case(word)) {
        return Value::from("unlimited");
    }
    integer(value).map_or_else(|| Value::from(value.chars().take(256).collect::<String>()), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect};

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn the_last_line_about_a_thing_counts() {
        let tree = Tree::of(&[
            (
                FILE,
                "#*  soft core 0\n*\thard core unlimited # x\r\n@a - nofile 5\nroot hard nice -20\nbob -\n",
            ),
            ("/etc/security/limits.d/10-a.conf", "* hard core 0\n* soft memlock -1\n"),
            ("/etc/security/limits.d/20-b.conf.off", "* hard core 7\n"),
        ]);
        let (data, errors) = read(&tree);
        let expected = json!({
            "*": {"hard": {"core": 0}, "soft": {"memlock": "unlimited"}},
            "@a": {"hard": {"nofile": 5}, "soft": {"nofile": 5}},
            "root": {"hard": {"nice": -20}},
        });
        assert_eq!(data, expected);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (data, errors) =
            read(&Tree::of(&[(FILE, "* hard core\n* firm core 1\n* hard cores 1\n* hard core 1\n")]));
        assert_eq!(data, json!({"*": {"hard": {"core": 1}}}));
        let lines: Vec<_> = errors.iter().filter_map(|error| error.split(':').next()).collect();
        assert_eq!(lines, [1, 2, 3].map(|n| format!("{FILE} line {n}")), "{errors:?}");
    }

    #[test]
    fn not_there_and_unreadable() {
        let absent = collect(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(absent.data["NODATA"].as_str().unwrap().starts_with("pam_limits is not installed"));
        assert!(absent.errors.is_empty());
        let unreadable = collect(&DISCOVERY, &[("/etc/security/limits.conf/x", b"h")]);
        assert_eq!(
            (&unreadable.data["NODATA"], unreadable.errors.len()),
            (&json!("ERROR: Cannot read /etc/security/limits.conf"), 1)
        );
    }

    #[test]
    fn any_text() {
        let tokens =
            &["*", "@a", "root", " ", "\t", "hard", "soft", "-", "core", "0", "unlimited", "\n", "#", "ä"];
        check_any_text(FILE, tokens, |text| read(&Tree::of(&[(FILE, text)])));
    }
}

//! Configuration as systemd's own daemons read it, see systemd-system.conf(5), "Configuration Directories and
//! Precedence".
//!
//! The main file is the first of /etc, /run, /usr/local/lib and /usr/lib; then come the drop-ins
//! `<file>.d/*.conf` of all four, sorted by name, where a name in an earlier directory hides the same name in a later
//! one and a link to /dev/null hides it altogether. Of a repeated setting the last one counts, lists add up, an
//! empty value takes back all that was set before.

use super::drop_ins::drop_ins;
use super::ini::{Continued, Entry, Style, entries};
use super::presence::{any_exists, not_there};
use super::{Errors, Files, collected, integer, mask_secrets, quoted};
use crate::{Collected, Discovery, Host, Schedule, Trigger, no_graph};
use serde_json::{Map, Value};

const ROOTS: &[&str] = &["/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"];
const STYLE: Style = Style { continued: Continued::Backslash, without_section: false };

/// One configuration of systemd.
#[derive(Debug)]
pub struct SystemdConf {
    /// Below the roots: `systemd/journald.conf`.
    pub file: &'static str,
    /// Who reads it, as it is called in `/usr/lib/systemd`.
    pub program: &'static str,
    /// The sections that it has. Their settings stand in the data below the name of the section.
    pub sections: &'static [&'static str],
    /// The settings stand in the data directly: the file has one section only.
    pub flat: bool,
    /// Settings that are lists of words.
    pub lists: &'static [&'static str],
}

/// What the discoveries of such configurations have in common; each puts in its names, its documentation and its
/// collector.
pub const DISCOVERY: Discovery = Discovery {
    name: "",
    description: "",
    documentation: "",
    parameters: &[],
    instances: &[],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect: |_, _| Collected::new(Value::Object(Map::new())),
    graph: no_graph,
};

/// The document of one configuration: its settings, or NODATA when neither the program nor a file is there.
pub fn collect(host: &Host, conf: &SystemdConf) -> Collected {
    let program = format!("/usr/lib/systemd/{}", conf.program);
    let old_program = format!("/lib/systemd/{}", conf.program);
    let installed = any_exists(host, &[&program, &old_program]);
    let (data, seen, errors) = read(host, conf);
    if !installed && !seen {
        return not_there(format!("{} is not installed: there is no {program}", conf.program));
    }
    collected((data, errors))
}

/// The settings, whether there was any file, and what could not be read or understood.
pub fn read(files: &dyn Files, conf: &SystemdConf) -> (Value, bool, Vec<String>) {
    let mut errors = Errors::default();
    let mut data = Map::new();
    let mut seen = false;
    for root in ROOTS {
        let path = format!("{root}/{}", conf.file);
        if files.is_masked(&path) {
            seen = true;
            break;
        }
        match files.text(&path) {
            Ok(text) => {
                seen = true;
                take(conf, &text, &path, &mut data, &mut errors);
                break;
            }
            Err(reason) if reason.absent => {}
            Err(reason) => {
                seen = true;
                errors.unread(&reason);
                if ROOTS.first() == Some(root) {
                    data.insert("NODATA".into(), Value::from(format!("ERROR: Cannot read {path}")));
                    return (Value::Object(data), true, errors.into_list());
                }
                break;
            }
        }
    }
    let directories: Vec<String> = ROOTS.iter().map(|root| format!("{root}/{}.d", conf.file)).collect();
    for path in drop_ins(files, &directories, ".conf", &mut errors) {
        match files.text(&path) {
            Ok(text) => {
                seen = true;
                take(conf, &text, &path, &mut data, &mut errors);
            }
            Err(reason) => errors.unread(&reason),
        }
    }
    (Value::Object(data), seen, errors.into_list())
}

fn take(conf: &SystemdConf, text: &str, path: &str, data: &mut Map<String, Value>, errors: &mut Errors) {
    for entry in entries(text, path, errors, STYLE) {
        let Some(section) = conf.sections.iter().find(|section| **section == &*entry.section) else {
            if !entry.section.starts_with("X-") {
                let what = format_args!("the section {} is not known here", quoted(&entry.section));
                errors.at(path, entry.line, what);
            }
            continue;
        };
        if conf.flat {
            set(conf, data, entry);
        } else if let Value::Object(section) =
            data.entry(*section).or_insert_with(|| Value::Object(Map::new()))
        {
            set(conf, section, entry);
        }
    }
}

fn set(conf: &SystemdConf, settings: &mut Map<String, Value>, entry: Entry) {
    let Entry { key, value, .. } = entry;
    if value.is_empty() {
        settings.remove(&key);
        return;
    }
    if conf.lists.contains(&key.as_str()) {
        let list = settings.entry(key).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            let free = 1000_usize.saturating_sub(list.len());
            list.extend(value.split_whitespace().take(free).map(Value::from));
        }
        return;
    }
    let value = value_of(&key, &value);
    settings.insert(key, value);
}

/// Truth values in systemd's spellings except `1` and `0`, whole numbers, times of `...Sec` in seconds, else text.
fn value_of(key: &str, text: &str) -> Value {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "yes" | "y" | "true" | "t" | "on" => return Value::Bool(true),
        "no" | "n" | "false" | "f" | "off" => return Value::Bool(false),
        _ => {}
    }
    if let Some(number) = integer(text) {
        return Value::from(number);
    }
    if let Some(seconds) = key.ends_with("Sec").then(|| seconds(&lower)).flatten() {
        return Value::from(seconds);
    }
    Value::from(mask_secrets(text))
}

/// A time span of systemd.time(7) that is a whole number of seconds.
fn seconds(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: i64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?.trim_start();
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let unit = match rest.get(..letters)? {
            "" | "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hr" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = rest.get(letters..)?.trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text};
    use serde_json::json;

    const EXAMPLE: SystemdConf = SystemdConf {
        file: "systemd/x.conf",
        program: "systemd-x",
        sections: &["A", "B"],
        flat: false,
        lists: &["NTP"],
    };

    #[test]
    fn the_first_main_file_and_all_drop_ins_count() {
        let tree = Tree::of(&[
            ("/etc/systemd/x.conf", "[A]\nOne=1\nTwo=yes\nNTP=a b\n"),
            ("/usr/lib/systemd/x.conf", "[A]\nNever=1\n"),
            ("/usr/lib/systemd/x.conf.d/10.conf", "[A]\nTwo=off\nNTP=c\n"),
            ("/usr/lib/systemd/x.conf.d/20.conf", "[A]\nHidden=1\n"),
            ("/etc/systemd/x.conf.d/20.conf", "[B]\nWaitSec=1min 30s\nTime=5s\n"),
            ("/run/systemd/x.conf.d/30.conf", "[A]\nOne=\n[X-Mine]\nA=1\n"),
        ]);
        let (data, seen, errors) = read(&tree, &EXAMPLE);
        assert_eq!(errors, [""; 0]);
        assert!(seen);
        let expected =
            json!({"A": {"Two": false, "NTP": ["a", "b", "c"]}, "B": {"WaitSec": 90, "Time": "5s"}});
        assert_eq!(data, expected);
    }

    #[test]
    fn an_empty_list_is_taken_back() {
        let tree = Tree::of(&[("/etc/systemd/x.conf", "[A]\nNTP=a b\nNTP=\nNTP=c\n")]);
        assert_eq!(read(&tree, &EXAMPLE).0, json!({"A": {"NTP": ["c"]}}));
    }

    #[test]
    fn one_section_may_be_left_out_of_the_data() {
        let flat = SystemdConf { flat: true, sections: &["A"], ..EXAMPLE };
        let tree = Tree::of(&[("/run/systemd/x.conf", "[A]\nX=2G\n[C]\nY=1\n")]);
        let (data, _, errors) = read(&tree, &flat);
        assert_eq!(data, json!({"X": "2G"}));
        assert_eq!(errors, ["/run/systemd/x.conf line 4: the section 'C' is not known here"]);
    }

    #[test]
    fn a_link_to_dev_null_hides_a_file() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc/systemd/x.conf.d");
        let vendor = root.path().join("usr/lib/systemd/x.conf.d");
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::create_dir_all(&vendor).unwrap();
        std::fs::write(vendor.join("a.conf"), "[A]\nX=1\n").unwrap();
        std::fs::write(vendor.join("b.conf"), "[A]\nY=1\n").unwrap();
        std::os::unix::fs::symlink("/dev/null", etc.join("a.conf")).unwrap();
        let found = collect(&Host::at(root.path()), &EXAMPLE);
        assert_eq!((found.data, found.errors), (json!({"A": {"Y": 1}}), vec![]));
    }

    #[test]
    fn without_program_and_file_there_is_nothing_to_judge() {
        let root = tempfile::tempdir().unwrap();
        let absent = collect(&Host::at(root.path()), &EXAMPLE);
        let sentence = "systemd-x is not installed: there is no /usr/lib/systemd/systemd-x";
        assert_eq!((absent.data, absent.errors), (json!({ "NODATA": sentence }), vec![]));
        std::fs::create_dir_all(root.path().join("usr/lib/systemd")).unwrap();
        std::fs::write(root.path().join("usr/lib/systemd/systemd-x"), "").unwrap();
        assert_eq!(collect(&Host::at(root.path()), &EXAMPLE).data, json!({}));
    }

    #[test]
    fn a_main_file_that_cannot_be_read_gives_no_data() {
        let mut tree = Tree::default();
        tree.0.insert("/etc/systemd/x.conf".into(), None);
        let (data, _, errors) = read(&tree, &EXAMPLE);
        assert_eq!(data, json!({"NODATA": "ERROR: Cannot read /etc/systemd/x.conf"}));
        assert_eq!(errors, ["Cannot read /etc/systemd/x.conf: permission denied"]);
    }

    #[test]
    fn time_spans() {
        for (text, expected) in [
            ("10min", Some(600)),
            ("1h 5", Some(3605)),
            ("2w", Some(1_209_600)),
            ("5ms", None),
            ("infinity", None),
            ("99999999999999w", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn any_text() {
        let tokens = &["[A]", "\n", "NTP", "=", "yes", "\\", "#", " ", "10min", "[", "WaitSec", "\u{fffd}"];
        check_any_text("/etc/systemd/x.conf", tokens, |text| {
            let (data, _, errors) = read(&Tree::of(&[("/etc/systemd/x.conf", text)]), &EXAMPLE);
            (data, errors)
        });
    }
}

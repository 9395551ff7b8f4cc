//! Linux software RAID: `/etc/mdadm/mdadm.conf`, `/etc/mdadm.conf` and the drop-ins in `mdadm.conf.d`, see mdadm.conf(5).
//!
//! Keywords are taken in any case and abbreviated to three letters; a line that begins with a blank continues the one
//! before.
//!
//! | member | shape |
//! |---|---|
//! | `MAILADDR`, `MAILFROM`, `PROGRAM`, `HOMEHOST`, `HOMECLUSTER` | text |
//! | `CREATE`, `SYSFS`, `MONITORDELAY` | object name → text, number or `true`; `mode` is octal and delivered in decimal |
//! | `AUTO` | list of words |
//! | `DEVICE` | list of the words of all lines |
//! | `ARRAY` | device → name → text or number; `devices` is a list; names are written as in the file |
//! | `POLICY`, `PART-POLICY` | list of objects |
//!
//! The envelope has `reminder`, which says in words that all numbers are decimal.
//! ```json
//! {"MAILADDR":"root","CREATE":{"owner":"root","mode":432,"auto":"yes"},"ARRAY":{"/dev/md0":{"UUID":"3aaa0122:29827cfa"}}}
//! ```

use crate::parse::drop_ins::drop_ins;
use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files, collected, integer, no_data, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "mdadm",
    description: "Configuration of software RAID",
    documentation: documentation::MDADM,
    parameters: &[],
    instances: &[Instance { name: "_init_mdadm", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

/// The first that exists counts.
const FILES: [&str; 2] = ["/etc/mdadm/mdadm.conf", "/etc/mdadm.conf"];
const DIRECTORIES: [&str; 2] = ["/etc/mdadm/mdadm.conf.d", "/etc/mdadm.conf.d"];
/// Keywords with the shape of what follows.
const KEYWORDS: &[(&str, Shape)] = &[
    ("MAILADDR", Shape::Text),
    ("MAILFROM", Shape::Text),
    ("PROGRAM", Shape::Text),
    ("HOMEHOST", Shape::Text),
    ("HOMECLUSTER", Shape::Text),
    ("MONITORDELAY", Shape::Text),
    ("CREATE", Shape::Object),
    ("SYSFS", Shape::Object),
    ("AUTO", Shape::Words),
    ("DEVICE", Shape::Words),
    ("ARRAY", Shape::Array),
    ("POLICY", Shape::Objects),
    ("PART-POLICY", Shape::Objects),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Words,
    Object,
    Objects,
    Array,
}

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let mut data = Map::new();
    let mut files = drop_ins(host, &DIRECTORIES, ".conf", &mut errors);
    if let Some(main) = FILES.iter().find(|file| host.lstat(file).is_ok()) {
        files.insert(0, (*main).to_owned());
    }
    if files.is_empty() {
        return not_there("software RAID is not configured: there is no mdadm.conf");
    }
    let mut read = 0;
    for file in &files {
        match host.text(file) {
            Ok(text) => {
                read += 1;
                add(&text, file, &mut data, &mut errors);
            }
            Err(reason) => errors.unread(&reason),
        }
    }
    if read == 0 {
        return collected((no_data(&files[0]), errors.into_list()));
    }
    let mut found = collected((Value::Object(data), errors.into_list()));
    found.extras.insert("reminder".into(), "all JSON integers are decimal".into());
    found
}

fn add(text: &str, file: &str, data: &mut Map<String, Value>, errors: &mut Errors) {
    let mut line: Option<(usize, String)> = None;
    for (number, piece) in parse::lines(text, file, errors) {
        // A `#` begins a comment at the start of a word only.
        let content = match piece.trim_start().starts_with('#') {
            true => continue,
            false => piece.split(" #").next().unwrap_or(piece).split("\t#").next().unwrap_or(piece),
        };
        match &mut line {
            Some((_, words)) if piece.starts_with([' ', '\t']) => {
                if words.len() + content.len() < parse::MAX_LINE_BYTES {
                    words.push(' ');
                    words.push_str(content.trim());
                }
            }
            _ => {
                if let Some((number, words)) = line.replace((number, content.trim().to_owned())) {
                    statement(&words, number, file, data, errors);
                }
            }
        }
    }
    if let Some((number, words)) = line {
        statement(&words, number, file, data, errors);
    }
}

fn statement(line: &str, number: usize, file: &str, data: &mut Map<String, Value>, errors: &mut Errors) {
    let mut words = line.split_whitespace();
    let keyword = words.next().unwrap_or("");
    let capitals = keyword.to_ascii_uppercase();
    let known = KEYWORDS.iter().find(|(name, _)| capitals.len() >= 3 && name.starts_with(&capitals));
    let Some((name, shape)) = known else {
        errors.at(file, number, format_args!("{} is not a keyword of mdadm.conf", quoted(keyword)));
        return;
    };
    let mut words: Vec<&str> = words.collect();
    if words.is_empty() {
        errors.at(file, number, format_args!("{name} has no value"));
        return;
    }
    match shape {
        Shape::Text => {
            data.insert((*name).to_owned(), parse::mask_secrets(&words.join(" ")).into());
        }
        Shape::Words => {
            if let Value::Array(list) = data.entry(*name).or_insert_with(|| json!([])) {
                list.extend(words.into_iter().map(Value::from));
            }
        }
        Shape::Object => {
            if let Value::Object(map) = data.entry(*name).or_insert_with(|| json!({})) {
                map.extend(pairs(&words));
            }
        }
        Shape::Objects => {
            if let Value::Array(list) = data.entry(*name).or_insert_with(|| json!([])) {
                list.push(Value::Object(pairs(&words)));
            }
        }
        Shape::Array => {
            // The device comes first; an array may be described without one.
            let device = if words[0].contains('=') { "<ignore>" } else { words.remove(0) };
            if let Value::Object(map) = data.entry(*name).or_insert_with(|| json!({})) {
                map.insert(device.to_owned(), Value::Object(pairs(&words)));
            }
        }
    }
}

fn pairs(words: &[&str]) -> Map<String, Value> {
    let pair = |word: &&str| {
        let Some((name, value)) = word.split_once('=') else {
            return ((*word).to_owned(), Value::Bool(true));
        };
        let value = if name.eq_ignore_ascii_case("mode") {
            u32::from_str_radix(value, 8).map_or_else(|_| Value::from(value), Value::from)
        } else if value.contains(',') || name.eq_ignore_ascii_case("devices") {
            value.split(',').map(Value::from).collect()
        } else {
            integer(value).map_or_else(|| Value::from(value), Value::from)
        };
        (name.to_owned(), value)
    };
    words.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, collect};

    const FILE: &str = FILES[0];

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn values() {
        let text = "# comment\nDEVICE partitions\ndev /dev/sd* /dev/hd*\nCREATE owner=root group=disk mode=0640\n\tauto=yes\n\
            HOMEHOST <system> # note\nmailaddr root\nARRAY /dev/md/0 metadata=1.2 level=1 devices=/dev/sda1,/dev/sdb1\n  UUID=3aaa0122:29827cfa\n\
            ARRAY /dev/md1 uuid=1:2 num-devices=2\nAUTO +1.x homehost -all\nPOLICY domain=a path=pci-0000 action=spare\nPOL domain=b\n";
        let found = collect(&DISCOVERY, &[(FILE, text.as_bytes())]);
        let expected = json!({
            "DEVICE": ["partitions", "/dev/sd*", "/dev/hd*"], "HOMEHOST": "<system>", "MAILADDR": "root",
            "CREATE": {"owner": "root", "group": "disk", "mode": 416, "auto": "yes"},
            "ARRAY": {"/dev/md/0": {"metadata": "1.2", "level": 1, "devices": ["/dev/sda1", "/dev/sdb1"], "UUID": "3aaa0122:29827cfa"},
                      "/dev/md1": {"uuid": "1:2", "num-devices": 2}},
            "AUTO": ["+1.x", "homehost", "-all"],
            "POLICY": [{"domain": "a", "path": "pci-0000", "action": "spare"}, {"domain": "b"}]});
        assert_eq!(found.data, expected);
        assert!(found.errors.is_empty() && found.extras.contains_key("reminder"), "{:?}", found.errors);
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let found =
            collect(&DISCOVERY, &[("/etc/mdadm.conf", b"FROBNICATE x\nMAILADDR\nMA x\nPROGRAM /bin/x\n")]);
        assert_eq!(found.data, json!({"PROGRAM": "/bin/x"}));
        let expected = [
            "/etc/mdadm.conf line 1: 'FROBNICATE' is not a keyword of mdadm.conf",
            "/etc/mdadm.conf line 2: MAILADDR has no value",
            "/etc/mdadm.conf line 3: 'MA' is not a keyword of mdadm.conf",
        ];
        assert_eq!(found.errors, expected);
    }

    #[test]
    fn no_file_is_no_error() {
        let found = collect(&DISCOVERY, &[("/etc/hostname", b"")]);
        assert!(found.errors.is_empty() && found.data["NODATA"].as_str().unwrap().contains("mdadm.conf"));
        let unreadable = collect(&DISCOVERY, &[("/etc/mdadm.conf/x", b"")]);
        assert_eq!(unreadable.data["NODATA"], "ERROR: Cannot read /etc/mdadm.conf");
    }

    #[test]
    fn hostile_texts() {
        let tokens = &["ARRAY", "DEV", " ", "\t", "\n", "=", ",", "mode", "07", "#", "ä", "/dev/md0"];
        check_any_text(FILE, tokens, |text| {
            let (mut errors, mut data) = (Errors::default(), Map::new());
            add(text, FILE, &mut data, &mut errors);
            (Value::Object(data), errors.into_list())
        });
    }
}

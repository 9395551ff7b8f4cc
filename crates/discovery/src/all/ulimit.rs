//! The limits of a process: those of the nanoprobe itself, and those of process 1 that services start from.
//!
//! `data` is `soft` and `hard`, each letter → number or null for unlimited, with the letters and units of bash's
//! `ulimit`: c core file, d data, f file, l locked memory, m resident set, s stack, v address space in KiB; q message
//! queues in bytes; t CPU time in seconds; R real-time run in microseconds; e nice, i signals, n open files, r real-time
//! priority, u processes, x file locks as numbers. They are those of the nanoprobe, as `of` says, which systemd or a
//! container's run-time set; the sessions of users get theirs from pam_limits (discovery `limits_conf`). `init` has
//! the same of process 1, where it may be read. An image has no process: `NODATA`.
//!
//! Source: `/proc/self/limits` and `/proc/1/limits`, see proc_pid_limits(5) and getrlimit(2).
//!
//! ```json
//! {"of": "nanoprobe", "soft": {"n": 1024, "c": 0}, "hard": {"n": 524288, "c": null},
//!  "init": {"soft": {"n": 1048576}, "hard": {"n": 1048576}}}
//! ```

use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "ulimit",
    description: "Limits of the nanoprobe and of process 1",
    documentation: documentation::ULIMIT,
    parameters: &[],
    instances: &[Instance { name: "_init_ulimit", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::None,
    collect,
    graph: no_graph,
};

/// Name in the kernel's table, letter, and by what its unit is divided.
const LIMITS: &[(&str, &str, u64)] = &[
    ("Max cpu time", "t", 1),
    ("Max file size", "f", 1024),
    ("Max data size", "d", 1024),
    ("Max stack size", "s", 1024),
    ("Max core file size", "c", 1024),
    ("Max resident set", "m", 1024),
    ("Max processes", "u", 1),
    ("Max open files", "n", 1),
    ("Max locked memory", "l", 1024),
    ("Max address space", "v", 1024),
    ("Max file locks", "x", 1),
    ("Max pending signals", "i", 1),
    ("Max msgqueue size", "q", 1),
    ("Max nice priority", "e", 1),
    ("Max realtime priority", "r", 1),
    ("Max realtime timeout", "R", 1),
];

fn collect(host: &Host, _: &Parameters) -> Collected {
    if !host.is_running_system() {
        let sentence = "limits belong to running processes, and this is a file tree";
        return not_there(sentence);
    }
    let mut collected = parse::collect_file(host, "/proc/self/limits", parse);
    if let Some(data) = collected.data.as_object_mut().filter(|data| !data.contains_key("NODATA")) {
        data.insert("of".into(), Value::from("nanoprobe"));
        // Without the right to read it, process 1 stays out: that is no error of the host.
        if let Ok(text) = host.text("/proc/1/limits") {
            data.insert("init".into(), parse(&text, "/proc/1/limits").0);
        }
    }
    collected
}

fn parse(text: &str, file: &str) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let mut soft = Map::new();
    let mut hard = Map::new();
    for (number, line) in parse::lines(text, file, &mut errors) {
        let Some((name, letter, unit)) = LIMITS.iter().find(|(name, ..)| line.starts_with(name)) else {
            continue;
        };
        let mut words = line[name.len()..].split_whitespace();
        let mut value = || match words.next() {
            Some("unlimited") => Some(Value::Null),
            word => word.and_then(|word| word.parse::<u64>().ok()).map(|number| Value::from(number / unit)),
        };
        match (value(), value()) {
            (Some(first), Some(second)) => {
                soft.insert((*letter).to_owned(), first);
                hard.insert((*letter).to_owned(), second);
            }
            _ => errors.at(file, number, format_args!("{} has no two limits", quoted(line))),
        }
    }
    (json!({"soft": soft, "hard": hard}), errors.into_list())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, collect};

    const FILE: &str = "/proc/self/limits";

    #[test]
    fn the_table_of_the_kernel() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max core file size        0                    unlimited            bytes     \n\
                    Max stack size            8388608              unlimited            bytes     \n\
                    Max open files            1024                 524288               files     \n\
                    Max realtime timeout      unlimited            unlimited            us        \n";
        let (data, errors) = parse(text, FILE);
        let expected = json!({"soft": {"c": 0, "s": 8192, "n": 1024, "R": null},
            "hard": {"c": null, "s": null, "n": 524288, "R": null}});
        assert_eq!(data, expected);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(parse("\nMax open files  many 3\n", FILE).1.len(), 1);
    }

    #[test]
    fn this_process_has_limits_and_a_tree_has_none() {
        let found = (DISCOVERY.collect)(&Host::running(), &Parameters::new());
        assert_eq!(found.data["of"], "nanoprobe");
        assert!(found.data["soft"]["n"].as_u64().is_some_and(|files| files > 0), "{found:?}");
        assert_eq!(found.data["hard"].as_object().unwrap().len(), LIMITS.len());
        let tree = collect(&DISCOVERY, &[("/proc/self/limits", b"Max open files 1 2 files\n")]);
        assert!(tree.data["NODATA"].is_string() && tree.errors.is_empty());
    }

    #[test]
    fn any_text() {
        check_any_text(FILE, &["Max open files", " ", "1", "unlimited", "\n", "ä"], |text| {
            parse(text, FILE)
        });
    }
}

//! Block devices and their sizes: `/proc/partitions`, see proc(5).
//!
//! `data` is device → `{"major", "minor", "blocks"}`; blocks are of 1024 bytes. RAM disks, loop devices and drives without
//! a medium are left out: they come and go.
//! ```json
//! {"sda":{"major":8,"minor":0,"blocks":20971520},"sda1":{"major":8,"minor":1,"blocks":20969472}}
//! ```

use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files, collected, integer, no_data, quoted};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "partitions",
    description: "Block devices and their sizes",
    documentation: documentation::PARTITIONS,
    parameters: &[],
    instances: &[Instance { name: "_init_partitions", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 300, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILE: &str = "/proc/partitions";
/// RAMDISK_MAJOR and LOOP_MAJOR of the kernel's list of devices.
const PASSING: [i64; 2] = [1, 7];

fn collect(host: &Host, _: &Parameters) -> Collected {
    match host.text(FILE) {
        Ok(text) => collected(parse(&text, FILE)),
        Err(reason) if reason.absent && !host.is_running_system() => {
            not_there("block devices belong to a running system, and this is a file tree")
        }
        Err(reason) => {
            let mut errors = Errors::default();
            errors.unread(&reason);
            collected((no_data(FILE), errors.into_list()))
        }
    }
}

fn parse(text: &str, file: &str) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let mut data = Map::new();
    for (number, line) in parse::lines(text, file, &mut errors) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.first() == Some(&"major") {
            continue;
        }
        let numbers: Option<Vec<i64>> = fields.iter().take(3).map(|field| integer(field)).collect();
        let (Some([major, minor, blocks]), Some(name), 4) = (numbers.as_deref(), fields.get(3), fields.len())
        else {
            errors.at(file, number, format_args!("{} is not a block device", quoted(line.trim())));
            continue;
        };
        // A drive without a medium has a size of one block.
        if !PASSING.contains(major) && *blocks > 1 {
            // The kernel writes `!` for the `/` in cciss/c0d0.
            data.insert(name.replace('!', "/"), json!({"major": major, "minor": minor, "blocks": blocks}));
        }
    }
    (Value::Object(data), errors.into_list())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, collect};

    #[test]
    fn devices() {
        let text = "major minor  #blocks  name\n\n   8        0   20971520 sda\n   8        1    3905536 sda1\n\
            \x20  7        0      65536 loop0\n   1        0      65536 ram0\n  11        0          1 sr0\n 104 0 9 cciss!c0d0\nx y\n";
        let (data, errors) = parse(text, FILE);
        let expected = json!({"sda": {"major": 8, "minor": 0, "blocks": 20_971_520},
            "sda1": {"major": 8, "minor": 1, "blocks": 3_905_536}, "cciss/c0d0": {"major": 104, "minor": 0, "blocks": 9}});
        assert_eq!(data, expected);
        assert_eq!(errors, ["/proc/partitions line 9: 'x y' is not a block device"]);
    }

    #[test]
    fn without_a_kernel_there_is_nothing() {
        let found = collect(&DISCOVERY, &[("/etc/hostname", b"")]);
        assert!(found.errors.is_empty() && found.data["NODATA"].as_str().unwrap().contains("file tree"));
        assert_eq!(
            collect(&DISCOVERY, &[("/proc/partitions/x", b"")]).data["NODATA"],
            format!("ERROR: Cannot read {FILE}")
        );
    }

    #[test]
    fn hostile_texts() {
        check_any_text(FILE, &["8", " ", "\n", "sda", "-", "99999999999999999999", "ä"], |text| {
            parse(text, FILE)
        });
    }
}

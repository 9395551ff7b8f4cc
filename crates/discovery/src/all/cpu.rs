//! Processors and memory: `/proc/cpuinfo` and `/proc/meminfo`, see proc(5).
//!
//! `data` is number of the processor → what /proc/cpuinfo says of it, under its names: numbers as numbers, `yes` and `no`
//! as booleans. The words of `flags`, `Features`, `bugs`, `vmx flags` and `power management` are an object name → `true`;
//! those of a processor that are the same as the first one's are not repeated. The last one also has `MemTotal` and
//! `Hugepagesize` in kB. Speeds of the moment (`cpu MHz`) are left out.
//! ```json
//! {"0":{"vendor_id":"GenuineIntel","cpu family":6,"model name":"Xeon","fpu":true,"flags":{"aes":true,"nx":true}},
//!  "1":{"vendor_id":"GenuineIntel","cpu family":6,"model name":"Xeon","fpu":true,"MemTotal":2048000,"Hugepagesize":2048}}
//! ```

use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files, collected, no_data, scalar};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value};

pub static DISCOVERY: Discovery = Discovery {
    name: "cpu",
    description: "Processors and memory",
    documentation: documentation::CPU,
    parameters: &[],
    instances: &[Instance { name: "_init_cpu", parameters: &[], schedule: None }],
    // Processors are seldom added, and reading makes each of them tell its speed.
    schedule: Schedule { repeat_seconds: 3600, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const CPUINFO: &str = "/proc/cpuinfo";
const MEMINFO: &str = "/proc/meminfo";
/// Fields that are lists of words.
const WORDS: [&str; 5] = ["flags", "Features", "bugs", "vmx flags", "power management"];
/// Fields that change without anybody doing anything; `BogoMIPS` of a processor added later differs by chance.
const CHANGING: [&str; 2] = ["cpu MHz", "clock"];
const MAX_PROCESSORS: usize = 4096;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let text = match host.text(CPUINFO) {
        Ok(text) => text,
        Err(reason) if reason.absent && !host.is_running_system() => {
            return not_there("processors belong to a running system, and this is a file tree");
        }
        Err(reason) => {
            errors.unread(&reason);
            return collected((no_data(CPUINFO), errors.into_list()));
        }
    };
    let memory = match host.text(MEMINFO) {
        Ok(text) => text,
        Err(reason) => {
            errors.unread(&reason);
            String::new()
        }
    };
    let data = processors(&text, &memory, &mut errors);
    collected((Value::Object(data), errors.into_list()))
}

fn processors(text: &str, memory: &str, errors: &mut Errors) -> Map<String, Value> {
    let mut found: Vec<(String, Map<String, Value>)> = Vec::new();
    let mut common = Map::new();
    for (number, line) in parse::lines(text, CPUINFO, errors) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.trim(), value.trim());
        if name == "processor" && value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty() {
            if found.len() == MAX_PROCESSORS {
                errors.at(
                    CPUINFO,
                    number,
                    format_args!("more than {MAX_PROCESSORS} processors, the rest is left out"),
                );
                break;
            }
            found.push((value.to_owned(), Map::new()));
            continue;
        }
        if name.is_empty() || name.len() > 64 || CHANGING.contains(&name) {
            continue;
        }
        let value = if WORDS.contains(&name) {
            Value::Object(
                value.split_whitespace().take(2000).map(|word| (word.to_owned(), true.into())).collect(),
            )
        } else {
            number_or_text(value)
        };
        match found.as_mut_slice() {
            // s390x and the summary of ARM kernels stand outside of any processor.
            [] => {
                common.insert(name.to_owned(), value);
            }
            [(_, only)] => {
                only.insert(name.to_owned(), value);
            }
            [(_, first), .., (_, last)] => {
                if !(value.is_object() && first.get(name) == Some(&value)) {
                    last.insert(name.to_owned(), value);
                }
            }
        }
    }
    if found.is_empty() && !common.is_empty() {
        found.push(("0".to_owned(), common));
    }
    if let Some((_, last)) = found.last_mut() {
        for line in memory.lines().take(1000) {
            let Some((name @ ("MemTotal" | "Hugepagesize"), rest)) = line.split_once(':') else { continue };
            if let Some(kilobytes) = rest.split_whitespace().next().and_then(|word| word.parse::<u64>().ok())
            {
                last.insert(name.to_owned(), kilobytes.into());
            }
        }
    }
    found.into_iter().map(|(number, fields)| (number, Value::Object(fields))).collect()
}

fn number_or_text(value: &str) -> Value {
    match (scalar(value), value.parse::<f64>()) {
        (Value::String(_), Ok(number)) if number.is_finite() => Value::from(number),
        (other, _) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, collect};
    use serde_json::json;

    const TWO: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu MHz\t\t: 2599.9\nbogomips\t: 5199.99\nfpu\t\t: yes\n\
        flags\t\t: fpu aes\npower management:\n\nprocessor\t: 1\napicid\t: 1\nfpu : no\nflags\t\t: fpu aes\nbugs\t: spectre_v1\n";

    #[test]
    fn fields_have_their_types() {
        let data = processors(
            TWO,
            "MemTotal:  2048 kB\nMemFree: 7 kB\nHugepagesize:   2048 kB\n",
            &mut Errors::default(),
        );
        let expected = json!({
            "0": {"vendor_id": "GenuineIntel", "bogomips": 5199.99, "fpu": true, "flags": {"fpu": true, "aes": true}, "power management": {}},
            "1": {"apicid": 1, "fpu": false, "bugs": {"spectre_v1": true}, "MemTotal": 2048, "Hugepagesize": 2048}});
        assert_eq!(Value::Object(data), expected);
    }

    #[test]
    fn a_processor_that_differs_says_so() {
        let data = processors(&TWO.replacen("fpu aes", "fpu", 1), "", &mut Errors::default());
        assert_eq!(data["1"]["flags"], json!({"fpu": true, "aes": true}));
    }

    #[test]
    fn without_a_kernel_there_is_nothing() {
        let found = collect(&DISCOVERY, &[("/etc/hostname", b"")]);
        assert!(found.errors.is_empty() && found.data["NODATA"].as_str().unwrap().contains("file tree"));
        let found = collect(&DISCOVERY, &[(CPUINFO, TWO.as_bytes())]);
        assert_eq!(found.errors.len(), 1, "{:?}", found.errors);
        assert_eq!(found.data["0"]["fpu"], true);
    }

    #[test]
    fn the_running_system_has_a_processor() {
        let found = (DISCOVERY.collect)(&Host::running(), &Parameters::new());
        assert!(found.data["0"].is_object() && found.data.to_string().contains("MemTotal"));
    }

    #[test]
    fn hostile_texts() {
        check_any_text(CPUINFO, &["processor", ":", " ", "0", "\n", "flags", "1e999", "ä"], |text| {
            let mut errors = Errors::default();
            (Value::Object(processors(text, text, &mut errors)), errors.into_list())
        });
    }
}

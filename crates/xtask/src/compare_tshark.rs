//! `cargo xtask compare-tshark`: LLDP and CDP frames of captures, read by Wireshark's tshark and by us, field by field.
//!
//! Without files the frames that our own tests build are compared. What differs must be explained in docs/compare-tshark.md,
//! or the command fails. Installs tshark where it may (root, Debian or Ubuntu); not part of CI.

mod fields;

use crate::{Outcome, packages, workspace};
use discovery::link::{self, Advertisement};
use fields::{FIELDS, Field};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;
use system::process::capture;

#[derive(clap::Args)]
pub struct Options {
    /// Captures (pcap or pcapng); without any: the frames that our tests build.
    files: Vec<PathBuf>,
    /// Print every field that both read, not only the differences.
    #[arg(long)]
    all: bool,
}

/// Where every difference is explained, a line with the field's name for each.
const EXPLANATIONS: &str = "docs/compare-tshark.md";
const SEEDS: &str = "fuzz/seeds";

pub fn run(options: &Options) -> Outcome {
    packages::ensure_program("tshark", "tshark", "what captures are compared with")?;
    // Kept until the end: the frames of our tests as a capture.
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let files = match options.files.as_slice() {
        [] => vec![capture_of_seeds(directory.path())?],
        files => files.to_vec(),
    };
    let explained = fs::read_to_string(workspace().join(EXPLANATIONS)).unwrap_or_default();
    let mut total = Comparison::default();
    for file in &files {
        let comparison = compare(&ours(file)?, &theirs(file)?);
        comparison.print(&file.display().to_string(), &explained, options.all);
        total.merge(comparison);
    }
    if files.len() > 1 {
        total.print_sum("all files");
    }
    let unexplained = total.unexplained(&explained);
    match unexplained.as_slice() {
        [] => Ok(()),
        names => Err(format!("not explained in {EXPLANATIONS}: {}", names.join(", "))),
    }
}

/// What one of us says about the frames that it takes for LLDP or CDP, by number; an error is why it refuses one.
type Told = BTreeMap<u64, Result<Value, String>>;

fn ours(file: &Path) -> Result<Told, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let input = fs::File::open(file).map_err(|error| failed(&error))?;
    let mut told = Told::new();
    for frame in link::pcap::Frames::open(BufReader::new(input)).map_err(|error| failed(&error))? {
        let frame = frame.map_err(|error| failed(&error))?;
        if let Some(result) = link::decode_captured(&frame.bytes, frame.wire_bytes) {
            told.insert(frame.number, result.map(|found| shape(&found)).map_err(|why| why.to_string()));
        }
    }
    Ok(told)
}

/// What [`Field::ours`] looks into.
fn shape(found: &Advertisement) -> Value {
    let port = found.data["ports"][&found.port].clone();
    json!({"ttl_seconds": found.ttl_seconds, "device": found.data, "port": port, "errors": found.errors})
}

fn theirs(file: &Path) -> Result<Told, String> {
    // Names are not looked up: nothing leaves the machine.
    let mut command = Command::new("tshark");
    command.args(["-n", "-T", "ek", "-r"]).arg(file);
    let output = capture(&mut command)?;
    if !output.status.success() {
        return Err(format!("tshark: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    packets(&String::from_utf8_lossy(&output.stdout))
}

/// From tshark's lines of JSON; every other one is an index without layers.
fn packets(text: &str) -> Result<Told, String> {
    let mut told = Told::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let packet: Value = serde_json::from_str(line).map_err(|error| format!("tshark's JSON: {error}"))?;
        let layers = &packet["layers"];
        let number = layers["frame"]["frame_frame_number"].as_str().and_then(|number| number.parse().ok());
        let found = ["lldp", "cdp"].into_iter().find_map(|name| layers.get(name));
        if let (Some(number), Some(found)) = (number, found) {
            let is_refused = layers.get("_ws_malformed").is_some();
            told.insert(number, if is_refused { Err("malformed".into()) } else { Ok(found.clone()) });
        }
    }
    Ok(told)
}

#[derive(Debug, Default)]
struct Comparison {
    frames: usize,
    agreed: Vec<(u64, &'static str, String)>,
    /// Field, ours, theirs.
    disagreed: Vec<(u64, &'static str, String, String)>,
    /// Frames that only one of us reads, with why not.
    one_sided: Vec<(u64, String)>,
}

fn compare(ours: &Told, theirs: &Told) -> Comparison {
    let mut comparison = Comparison::default();
    let numbers: std::collections::BTreeSet<u64> = ours.keys().chain(theirs.keys()).copied().collect();
    for number in numbers {
        match (ours.get(&number), theirs.get(&number)) {
            (Some(Ok(ours)), Some(Ok(theirs))) => {
                comparison.frames += 1;
                for field in FIELDS {
                    comparison.add(number, field, ours, theirs);
                }
            }
            (Some(Err(_)), Some(Err(_))) => comparison.frames += 1,
            (ours, theirs) => {
                let say = |told: Option<&Result<Value, String>>| match told {
                    Some(Ok(_)) => "read".to_owned(),
                    Some(Err(why)) => why.clone(),
                    None => "neither LLDP nor CDP".to_owned(),
                };
                comparison.one_sided.push((number, format!("we: {}; tshark: {}", say(ours), say(theirs))));
            }
        }
    }
    comparison
}

impl Comparison {
    fn add(&mut self, number: u64, field: &'static Field, ours: &Value, theirs: &Value) {
        let (ours, theirs) = (field.of_ours(ours), field.of_theirs(theirs));
        if ours.is_empty() && theirs.is_empty() {
            return;
        }
        if ours == theirs {
            self.agreed.push((number, field.name, ours.join(", ")));
        } else {
            self.disagreed.push((number, field.name, ours.join(", "), theirs.join(", ")));
        }
    }

    fn merge(&mut self, other: Comparison) {
        self.frames += other.frames;
        self.agreed.extend(other.agreed);
        self.disagreed.extend(other.disagreed);
        self.one_sided.extend(other.one_sided);
    }

    fn unexplained(&self, explained: &str) -> Vec<String> {
        let fields = self.disagreed.iter().filter(|(_, name, ..)| !is_explained(explained, name));
        let mut names: Vec<String> = fields.map(|(_, name, ..)| (*name).to_owned()).collect();
        if !self.one_sided.is_empty() && !is_explained(explained, "frames") {
            names.push("frames".into());
        }
        names.sort();
        names.dedup();
        names
    }

    fn print(&self, title: &str, explained: &str, all: bool) {
        println!("\n# {title}");
        let show = |text: &str| model::text::shortened(&model::text::printable(text), 100).into_owned();
        if all {
            for (number, name, value) in &self.agreed {
                println!("  frame {number} {name}: {}", show(value));
            }
        }
        let known = |name| if is_explained(explained, name) { "explained" } else { "NOT EXPLAINED" };
        for (number, name, ours, theirs) in &self.disagreed {
            println!(
                "  frame {number} {name} ({}): we {:?}, tshark {:?}",
                known(name),
                show(ours),
                show(theirs)
            );
        }
        for (number, why) in &self.one_sided {
            println!("  frame {number} ({}): {}", known("frames"), show(why));
        }
        self.print_sum(title);
    }

    fn print_sum(&self, title: &str) {
        println!(
            "{title}: {} frames read alike by both, {} of {} fields agree; {} frames read by one only",
            self.frames,
            self.agreed.len(),
            self.agreed.len() + self.disagreed.len(),
            self.one_sided.len()
        );
    }
}

fn is_explained(explained: &str, name: &str) -> bool {
    explained.contains(&format!("| `{name}` |"))
}

/// The frames that the fuzzer starts from, as a capture.
fn capture_of_seeds(directory: &Path) -> Result<PathBuf, String> {
    let mut bytes =
        [&0xa1b2_c3d4_u32.to_le_bytes()[..], &[2, 0, 4, 0], &[0; 8], &[0xff, 0xff, 0, 0, 1, 0, 0, 0]]
            .concat();
    for kind in ["lldp", "cdp"] {
        let folder = workspace().join(SEEDS).join(kind);
        let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let frame = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes();
            bytes.extend([&[0; 8][..], &length, &length, &frame].concat());
        }
    }
    let file = directory.join("seeds.pcap");
    fs::write(&file, bytes).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(layers: &[Value]) -> String {
        layers.iter().map(|layers| format!("{{\"index\":{{}}}}\n{}\n", json!({"layers": layers}))).collect()
    }

    #[test]
    fn frames_are_compared_field_by_field() {
        let theirs = packets(&lines(&[
            json!({"frame": {"frame_frame_number": "1"}, "lldp": {
                "lldp_lldp_chassis_id_mac": "00:16:3e:00:00:01", "lldp_lldp_port_id": "g7",
                "lldp_lldp_time_to_live": "120", "lldp_lldp_ieee_802_1_vlan_id": ["10", "20"],
                "lldp_lldp_ieee_802_3_pmd_mau_type": "0x001e", "lldp_lldp_tlv_system_name": "sw2"}}),
            json!({"frame": {"frame_frame_number": "2"}, "arp": {}}),
            json!({"frame": {"frame_frame_number": "3"}, "cdp": {}, "_ws_malformed": {}}),
            json!({"frame": {"frame_frame_number": "4"}, "cdp": {}, "_ws_malformed": {}}),
        ]))
        .unwrap();
        assert_eq!(theirs.len(), 3);
        let ours = json!({"ttl_seconds": 120, "device": {"ChassisId": "00-16-3e-00-00-01", "SystemName": "sw1"},
            "port": {"PortId": "g7", "mau_type": 30, "vlans": [{"vid": 10}, {"vid": 20}]}});
        let ours = Told::from([(1, Ok(ours)), (3, Err("broken".into())), (4, Ok(json!({})))]);
        let comparison = compare(&ours, &theirs);
        let agreed: Vec<&str> = comparison.agreed.iter().map(|(_, name, _)| *name).collect();
        assert_eq!(agreed, ["ChassisId", "PortId", "ttl_seconds", "vlans.vid", "mau_type"]);
        assert_eq!(comparison.disagreed, [(1, "SystemName", "sw1".to_owned(), "sw2".to_owned())]);
        assert_eq!((comparison.frames, comparison.one_sided.len()), (2, 1));
        assert_eq!(comparison.unexplained(""), ["SystemName", "frames"]);
        assert_eq!(comparison.unexplained("| `SystemName` | x |\n| `frames` | y |"), Vec::<String>::new());
        assert!(packets("{").is_err());
    }
}

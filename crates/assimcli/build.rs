//! Finds the topics of the doctor: every file in `src/commands/doctor/topics` that has `pub static TOPIC`.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, process};

fn main() {
    let folder =
        Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("src/commands/doctor/topics");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names: Vec<String> = match fs::read_dir(&folder) {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| {
                entry.file_name().to_str().and_then(|name| name.strip_suffix(".rs")).map(str::to_owned)
            })
            .collect(),
        Err(error) => {
            println!("cargo::error={}: {error}", folder.display());
            process::exit(1);
        }
    };
    names.sort();
    let mut text = String::new();
    for name in &names {
        let path = folder.join(format!("{name}.rs"));
        let _ = writeln!(text, "#[path = {:?}]\nmod {name};", path.display().to_string());
    }
    let _ = writeln!(text, "/// Every topic, by name.\npub static TOPICS: &[&Topic] = &[");
    for name in &names {
        let _ = writeln!(text, "    &{name}::TOPIC,");
    }
    text.push_str("];\n");
    let out = Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("topics.rs");
    if let Err(error) = fs::write(&out, text) {
        println!("cargo::error={}: {error}", out.display());
        process::exit(1);
    }
}

//! Finds the discoveries: every `src/all/<type>.rs` becomes a module and an entry of the registry, in order of
//! name. There is no list to edit. The module documentation of each file becomes its reference page.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("src/all");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().and_then(|stem| stem.to_str()).ok_or("a file name is not UTF-8")?;
            names.push(name.to_owned());
        }
    }
    names.sort();
    let mut modules = String::new();
    let mut registry = String::from("pub(crate) static ALL: &[crate::Entry] = &[\n");
    let mut pages = String::new();
    for name in &names {
        let path = folder.join(format!("{name}.rs"));
        println!("cargo::rerun-if-changed={}", path.display());
        writeln!(modules, "#[path = {path:?}]\npub mod {name};")?;
        // What documents call it, where that is not the name of the file.
        let has_own_type = fs::read_to_string(&path)?.contains("\npub const DISCOVERTYPE: ");
        let discovertype =
            if has_own_type { format!("{name}::DISCOVERTYPE") } else { format!("{name}::DISCOVERY.name") };
        writeln!(
            registry,
            "crate::Entry {{ discovery: &{name}::DISCOVERY, discovertype: {discovertype}, bare: crate::Instance {{ name: {name:?}, parameters: &[], schedule: None }} }},"
        )?;
        writeln!(pages, "pub const {}: &str = {:?};", name.to_uppercase(), module_documentation(&path)?)?;
    }
    registry.push_str("];\n");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("all.rs"), modules + &registry)?;
    fs::write(out.join("documentation.rs"), pages)?;
    Ok(())
}

/// The `//!` lines at the top of a file, without the marks.
fn module_documentation(path: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let text = fs::read_to_string(path)?;
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    Ok(lines.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n").collect())
}

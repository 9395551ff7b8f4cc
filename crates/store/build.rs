//! Puts every `queries/*.toml` into the library, so that a lone binary has all canned queries.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../queries");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut names = vec![];
    for entry in fs::read_dir(&folder)? {
        if let Some(name) = entry?.file_name().to_str().and_then(|name| name.strip_suffix(".toml")) {
            println!("cargo:rerun-if-changed={}", folder.join(format!("{name}.toml")).display());
            names.push(name.to_owned());
        }
    }
    names.sort();
    let mut code = String::from("pub static BUILT_IN: &[(&str, &str)] = &[\n");
    for name in names {
        writeln!(
            code,
            "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../../queries/{name}.toml\"))),"
        )?;
    }
    code.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("queries.rs"), code)?;
    Ok(())
}

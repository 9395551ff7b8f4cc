//! `cargo xtask new discovery NAME` and `new rule ID`: a new extension from a template that compiles and is found.

use crate::{Outcome, workspace};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Options {
    kind: Kind,
    /// Type of the discovery (`ntp_conf`), or id of the rule.
    name: String,
    /// For a rule: the discovery it reads.
    #[arg(long, default_value = "proc_sys")]
    discovery: String,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    Discovery,
    Rule,
}

pub fn run(options: &Options) -> Outcome {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if options.name.is_empty() || !options.name.chars().all(legal) {
        return Err(format!("{:?} is no name: letters, digits, `_` and `-` only", options.name));
    }
    let (path, text) = match options.kind {
        Kind::Discovery => {
            (format!("crates/discovery/src/all/{}.rs", options.name), discovery(&options.name))
        }
        Kind::Rule => (
            format!("best_practices/catalogue/{}/{}.toml", options.discovery, options.name),
            rule(&options.name, &options.discovery),
        ),
    };
    write_new(&workspace().join(&path), &text)?;
    println!(
        "{path} is there; its comments tell what to fill in. docs/add-a-{}.md has the whole story.",
        match options.kind {
            Kind::Discovery => "discovery",
            Kind::Rule => "rule",
        }
    );
    Ok(())
}

fn write_new(path: &PathBuf, text: &str) -> Outcome {
    if path.exists() {
        return Err(format!("{} exists already", path.display()));
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
    }
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn discovery(name: &str) -> String {
    let template = include_str!("templates/discovery.rs.txt");
    template.replace("NAME_IN_CAPITALS", &name.to_uppercase()).replace("NAME", name)
}

fn rule(id: &str, discovery: &str) -> String {
    include_str!("templates/rule.toml.txt").replace("RULE_ID", id).replace("DISCOVERY", discovery)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_carry_the_name_and_never_overwrite() {
        assert!(discovery("ntp_conf").contains("\"ntp_conf\""));
        assert!(rule("x-1", "sshd").contains("discovery = \"sshd\""));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.toml");
        write_new(&path, "1").unwrap();
        assert!(write_new(&path, "2").unwrap_err().contains("exists"));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "1");
    }
}

//! `cargo xtask test`: what CI runs, in the order in which failures are cheapest to find.

use crate::{Outcome, packages, tidy, workspace};
use std::process::Command;
use system::process::{self, capture, is_root, on_path};

#[derive(clap::Args)]
pub struct Options {
    /// Leave out the tests that need root (network namespaces, mail). CI never does.
    #[arg(long)]
    without_root: bool,
}

pub fn run(options: &Options) -> Outcome {
    let root_tests = !options.without_root;
    if root_tests && !is_root() {
        return Err(
            "the system tests make network namespaces and need root: run `sudo -E cargo xtask test`, \
                    or leave them out with `cargo xtask test --without-root`"
                .into(),
        );
    }
    if root_tests {
        step("what the tests need");
        packages::ensure()?;
    }
    step("format");
    formatted()?;
    step("tidy");
    tidy::run()?;
    step("clippy");
    run_cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    step("programs");
    run_cargo(&["build", "--workspace", "--bins", "--examples", "--locked"])?;
    step("tests");
    tests(root_tests)
}

fn tests(root_tests: bool) -> Outcome {
    // Same profile as the programs above; the system tests find them in the target directory.
    let mut command = Command::new("cargo");
    if has_nextest() {
        command.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    } else {
        eprintln!("cargo-nextest is not installed: running `cargo test`, which is slower");
        command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    }
    if !root_tests {
        eprintln!("LEFT OUT: the tests of crates/system, which need root");
        command.args(["--exclude", "system"]);
    }
    process::run(command.current_dir(workspace()))
}

/// All files by name: `cargo fmt` does not see those that a folder scan includes.
fn formatted() -> Outcome {
    let files = tidy::tracked_files(&workspace())?;
    let mut command = Command::new("rustfmt");
    command
        .args(["--edition", "2024", "--check", "-l"])
        .args(tidy::rust_files(&files))
        .current_dir(workspace());
    process::run(&mut command)
        .map_err(|_| "the files above are not formatted; `rustfmt --edition 2024 FILE` mends one".into())
}

fn has_nextest() -> bool {
    on_path("cargo-nextest")
        || capture(Command::new("cargo").args(["nextest", "--version"])).is_ok_and(|o| o.status.success())
}

fn run_cargo(arguments: &[&str]) -> Outcome {
    process::run(Command::new("cargo").args(arguments).current_dir(workspace()))
}

fn step(name: &str) {
    eprintln!("── {name}");
}

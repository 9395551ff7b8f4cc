//! The project's own commands: `cargo xtask demo`, `test`, `bench`, `compare-openscap`, `compare-tshark`, `fuzz`, `package`, `sim`, `tidy`, `new`.

mod bench;
mod compare_openscap;
mod compare_tshark;
mod demo;
mod fuzz;
mod new;
mod package;
mod packages;
mod sim;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Commands for people who try, test or change Assimilation.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything, start a CMA and a nanoprobe for this machine under ./demo-site, show what is wrong with its security.
    Demo(demo::Options),
    /// Everything that CI runs: install what tests need, format, clippy, tidy, all tests.
    Test(test::Options),
    /// Measure the figures that the project promises; each with the machine's load beside it.
    Bench(bench::Options),
    /// Judge one host by one benchmark with OpenSCAP and with `nanoprobe audit`: agreement, processor time, memory.
    CompareOpenscap(compare_openscap::Options),
    /// Read LLDP and CDP frames of captures with Wireshark's tshark and with ours, and say where they differ.
    CompareTshark(compare_tshark::Options),
    /// Every discovery that reads files, under libFuzzer.
    Fuzz(fuzz::Options),
    /// Whole sites in one process, in virtual time: bad days, random histories, 100,000 hosts that get their power back.
    Sim(sim::Options),
    /// Packages (.deb, .rpm) and an archive for all other systems, in ./dist.
    Package(package::Options),
    /// Check what no compiler checks: file sizes, licences, that every extension is registered.
    Tidy,
    /// Start a new extension from a template.
    New(new::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::CompareOpenscap(options) => compare_openscap::run(&options),
        Command::CompareTshark(options) => compare_tshark::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Package(options) => package::run(&options),
        Command::Tidy => tidy::run(),
        Command::New(options) => new::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the working tree.
pub fn workspace() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).map(PathBuf::from).unwrap_or(own)
}

/// Where cargo puts what it builds: it runs in the workspace, so a relative name is meant from there.
pub fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) if !directory.is_empty() => workspace().join(directory),
        _ => workspace().join("target"),
    }
}

/// Result of a command: the error is one sentence for the person who typed it.
pub type Outcome = Result<(), String>;

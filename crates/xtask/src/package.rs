//! `cargo xtask package`: `.deb` and `.rpm` packages and the archive for all other systems, in `dist/`.

use crate::{Outcome, packages, target_directory, workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use system::package::glibc::{Glibc, needs};
use system::package::{Part, Request, archive, deb, rpm};
use system::process::{on_path, run as run_command};
use system::site::Programs;

/// What release programs are linked for, and must run with: RHEL 7, Debian 8, Ubuntu 14.04 and everything since.
const FLOOR: Glibc = Glibc(2, 17);
const PROGRAMS: [&str; 3] = ["cma", "nanoprobe", "assimcli"];

#[derive(clap::Args)]
pub struct Options {
    /// Package the programs that are there instead of building them first
    #[arg(long)]
    no_build: bool,
    /// Which programs: `release`, linked for an old glibc where cargo-zigbuild is there, or `dev`, as tests use them
    #[arg(long, value_name = "NAME", default_value = "release", value_parser = ["dev", "release"])]
    profile: String,
    /// Where packages are put
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
    /// Version of the packages instead of the programs' own: to try upgrades
    #[arg(long, value_name = "VERSION")]
    package_version: Option<String>,
    /// Only .deb packages
    #[arg(long)]
    deb_only: bool,
}

pub fn run(options: &Options) -> Outcome {
    packages::ensure_program("dpkg-deb", "dpkg", "makes .deb packages")?;
    packages::ensure_program("objdump", "binutils", "tells which glibc the programs need")?;
    if !options.deb_only {
        packages::ensure_program("rpmbuild", "rpm", "makes .rpm packages")?;
    }
    let release = options.profile == "release";
    let programs =
        if release { release_programs(options.no_build)? } else { dev_programs(options.no_build)? };
    let out = workspace().join(&options.out);
    fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let mut request = Request { quick: !release, ..Request::new(programs)? };
    if let Some(version) = &options.package_version {
        request = request.with_version(checked_version(version)?);
    }
    let mut made = Vec::new();
    for part in Part::ALL {
        made.push(deb::build(&request, part, &out)?);
        if !options.deb_only {
            made.push(rpm::build(&request, part, &out)?);
        }
    }
    if !options.deb_only {
        made.push(archive::build(&request, &made, &out)?);
    }
    for file in made {
        println!("{}", file.display());
    }
    Ok(())
}

/// It becomes part of file names and control files.
fn checked_version(version: &str) -> Result<&str, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '~';
    if version.starts_with(|c: char| c.is_ascii_digit()) && version.chars().all(plain) {
        return Ok(version);
    }
    Err(format!("{version:?} is no version of a package: digits first, then letters, digits, dots and ~"))
}

fn dev_programs(no_build: bool) -> Result<Programs, String> {
    if !no_build {
        run_command(cargo(Path::new("cargo")).args(["build"]).args(selection()))?;
    }
    Ok(Programs::in_directory(&target_directory().join("debug")))
}

/// Linked against the symbols of an old glibc by zig's linker, if `cargo-zigbuild` is there; what comes out is checked.
fn release_programs(no_build: bool) -> Result<Programs, String> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // Not the same place as the usual release programs: those need the glibc of this machine.
    let old_glibc = target_directory().join("old-glibc");
    let directory = old_glibc.join(&triple).join("release");
    if let Some(zigbuild) = zigbuild() {
        if !no_build {
            run_command(
                cargo(&zigbuild)
                    .args(["zigbuild", "--release", "--target", &format!("{triple}.{FLOOR}"), "--target-dir"])
                    .arg(&old_glibc)
                    .args(selection()),
            )?;
        }
    } else if !directory.join("cma").is_file() || !no_build {
        eprintln!(
            "cargo-zigbuild is not installed, so the packages will need the glibc of this machine. With it they need \
             {FLOOR} only:\n  python3 -m venv {zig} && {zig}/bin/pip install ziglang cargo-zigbuild",
            zig = target_directory().join("zig").display()
        );
        if !no_build {
            run_command(cargo(Path::new("cargo")).args(["build", "--release"]).args(selection()))?;
        }
        let programs = Programs::in_directory(&target_directory().join("release"));
        eprintln!(
            "needed: glibc {}",
            highest(&programs)?.map_or("none".into(), |version| version.to_string())
        );
        return Ok(programs);
    }
    let programs = Programs::in_directory(&directory);
    match highest(&programs)? {
        Some(version) if version > FLOOR => Err(format!(
            "the programs in {} need glibc {version}, which is newer than {FLOOR}: something in them calls a newer function; \
             find it with `objdump -T PROGRAM | grep GLIBC_{version}`",
            directory.display()
        )),
        _ => Ok(programs),
    }
}

fn highest(programs: &Programs) -> Result<Option<Glibc>, String> {
    let paths = PROGRAMS.map(|name| programs.path(name));
    Ok(needs(paths.iter().map(PathBuf::as_path))?.glibc)
}

/// From the PATH or from a virtual environment in the target directory.
fn zigbuild() -> Option<PathBuf> {
    let own = target_directory().join("zig/bin/cargo-zigbuild");
    if own.is_file() {
        return Some(own);
    }
    on_path("cargo-zigbuild").then(|| PathBuf::from("cargo-zigbuild"))
}

fn cargo(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace());
    // zig as Python's package is found beside cargo-zigbuild.
    if let Some(folder) = program.parent().filter(|folder| folder.is_absolute()) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(all) {
            command.env("PATH", path);
        }
    }
    command
}

fn selection() -> [&'static str; 10] {
    ["--locked", "-p", "cma", "-p", "nanoprobe", "-p", "assimcli", "-p", "manuals", "--bins"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_plain_words() {
        assert_eq!(checked_version("0.2.0~rc1"), Ok("0.2.0~rc1"));
        for wrong in ["", "v1", "1/2", "1-2", "1 2", "../1"] {
            assert!(checked_version(wrong).is_err(), "{wrong}");
        }
    }
}

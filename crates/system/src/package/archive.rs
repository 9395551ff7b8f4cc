//! One archive with everything for one kind of machine: both packages in both formats, the plain programs and units for
//! systems that have neither dpkg nor rpm, the installer, and the sums of all of it.

use super::contents::set_mode;
use super::{Request, Workshop, at, checked};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `<out>/assimilation-0.1.0-x86_64.tar.gz`; `packages` are the files made before.
pub fn build(request: &Request, packages: &[PathBuf], out: &Path) -> Result<PathBuf, String> {
    let workshop = Workshop::new(out, &format!("archive-{}", request.version))?;
    let name = format!("assimilation-{}", request.version);
    let top = workshop.path().join(&name);
    let put = |from: &Path, to: &str, mode: u32| {
        let to = top.join(to);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        fs::copy(from, &to).map_err(at(from))?;
        set_mode(&to, mode)
    };
    for package in packages {
        let file = package.file_name().unwrap_or_default().to_string_lossy();
        put(package, &file, 0o644)?;
    }
    for program in ["cma", "nanoprobe", "assimcli"] {
        let (from, to) = (request.programs.path(program), format!("programs/{program}"));
        put(&from, &to, 0o755)?;
        checked(Command::new("strip").arg("--strip-unneeded").arg(top.join(to)))?;
    }
    let packaging = request.source.join("packaging");
    for folder in ["systemd", "sysusers.d", "tmpfiles.d", "default"] {
        let from = packaging.join(folder);
        for entry in fs::read_dir(&from).map_err(at(&from))?.flatten() {
            put(&entry.path(), &format!("programs/{folder}/{}", entry.file_name().to_string_lossy()), 0o644)?;
        }
    }
    let installer = top.join("installme");
    fs::write(&installer, installme(request)?).map_err(at(&installer))?;
    set_mode(&installer, 0o755)?;
    put(&request.source.join("LICENSE"), "LICENSE", 0o644)?;
    put(&request.source.join("docs/packages.md"), "packages.md", 0o644)?;
    sums(&top)?;
    let file = out.join(format!("{name}-{}.tar.gz", std::env::consts::ARCH));
    let tar = workshop.path().join("all.tar");
    checked(
        Command::new("tar")
            .args(["--create", "--format=gnu", "--sort=name", "--owner=root:0", "--group=root:0"])
            .args(["--mode=go-w", &format!("--mtime=@{}", request.epoch_seconds), "--file"])
            .arg(&tar)
            .arg("--directory")
            .arg(workshop.path())
            .arg(&name),
    )?;
    checked(Command::new("gzip").args(["--no-name", if request.quick { "-1" } else { "-9" }]).arg(&tar))?;
    fs::rename(tar.with_extension("tar.gz"), &file).map_err(at(&file))?;
    Ok(file)
}

/// The installer, which knows what version it belongs to: its parts one after the other, because whoever installs a machine
/// wants to read and copy one file.
pub fn installme(request: &Request) -> Result<String, String> {
    let parts = installme_parts(&request.source)?;
    let texts: Vec<String> =
        parts.iter().map(|part| fs::read_to_string(part).map_err(at(part))).collect::<Result<_, _>>()?;
    Ok(texts.join("\n").replace("@VERSION@", &request.version))
}

/// The parts of the installer in their order, which the numbers at the beginning of their names tell.
pub fn installme_parts(source: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = source.join("packaging/installme.d");
    let entries = fs::read_dir(&folder).map_err(at(&folder))?;
    let mut parts: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(at(&folder)))
        .collect::<Result<_, _>>()?;
    // What an editor left there is no part.
    parts.retain(|part| part.extension().is_some_and(|extension| extension == "sh"));
    parts.sort();
    if parts.is_empty() {
        Err(format!("{} has no parts of the installer", folder.display()))
    } else {
        Ok(parts)
    }
}

/// SHA256SUMS of every file, for `sha256sum --check SHA256SUMS`.
pub fn sums(top: &Path) -> Result<(), String> {
    let names: Vec<String> =
        super::contents::files(top)?.into_iter().map(|name| format!(".{name}")).collect();
    let output = checked(Command::new("sha256sum").args(&names).current_dir(top))?;
    let path = top.join("SHA256SUMS");
    fs::write(&path, output).map_err(at(&path))?;
    set_mode(&path, 0o644)
}

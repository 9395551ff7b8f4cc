//! Debian packages, by `dpkg-deb`.

use super::contents::{Kind, files, lay_out, script, set_mode};
use super::glibc::{Needs, needs};
use super::{Part, Request, Workshop, at, checked};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Maintainer scripts, as dpkg and `packaging/scripts` name them.
const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];

/// `<out>/assimilation-cma_0.1.0_amd64.deb`
pub fn build(request: &Request, part: Part, out: &Path) -> Result<PathBuf, String> {
    let workshop = Workshop::new(out, &format!("deb-{}-{}", part.program(), request.version))?;
    let root = workshop.path().join("root");
    fs::create_dir(&root).map_err(at(&root))?;
    set_mode(&root, 0o755)?;
    lay_out(request, part, Kind::Debian, &root)?;
    let programs = [request.programs.path(part.program()), request.programs.path("assimcli")];
    let needs = needs(programs.iter().map(PathBuf::as_path))?;
    let sums = sums(&root)?;
    let kilobytes = kilobytes(&root)?;
    let control = root.join("DEBIAN");
    fs::create_dir(&control).map_err(at(&control))?;
    set_mode(&control, 0o755)?;
    let write = |name: &str, text: &str, mode: u32| {
        let path = control.join(name);
        fs::write(&path, text).map_err(at(&path))?;
        set_mode(&path, mode)
    };
    write("control", &fields(part, &request.version, needs, kilobytes), 0o644)?;
    write("conffiles", &format!("{}\n", Kind::Debian.variables(part)), 0o644)?;
    write("md5sums", &sums, 0o644)?;
    for name in SCRIPTS {
        let text = script(request, &format!("{}.{name}", part.program()), "#!/bin/sh\nset -e\n")?;
        write(name, &text, 0o755)?;
    }
    let file = out.join(format!("{}_{}_{}.deb", part.package(), request.version, architecture()));
    // Under another name first: who looks never finds half a package.
    let unfinished = workshop.path().join("unfinished.deb");
    let compression: &[&str] = if request.quick { &["-Zgzip", "-z1"] } else { &["-Zxz", "-z6"] };
    checked(
        Command::new("dpkg-deb")
            .args(["--build", "--root-owner-group"])
            .args(compression)
            .arg(&root)
            .arg(&unfinished)
            .env("SOURCE_DATE_EPOCH", request.epoch_seconds.to_string()),
    )?;
    fs::rename(&unfinished, &file).map_err(at(&file))?;
    Ok(file)
}

/// As Debian calls the machine that the programs were built for.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64el",
        other => other,
    }
}

/// The control file (deb-control(5)).
fn fields(part: Part, version: &str, needs: Needs, kilobytes: u64) -> String {
    let mut depends = Vec::new();
    depends.extend(needs.glibc.map(|version| format!("libc6 (>= {version})")));
    // Its name until Debian 10.
    depends.extend(needs.libgcc.then(|| "libgcc-s1 | libgcc1".to_owned()));
    depends.push("passwd".into());
    let others = match part {
        Part::Cma => "Recommends: assimilation-nanoprobe, ieee-data\nSuggests: bsd-mailx | mailx\n",
        Part::Nanoprobe => "Suggests: monitoring-plugins-basic, resource-agents\n",
    };
    let description: String = part.description().iter().map(|line| format!(" {line}\n")).collect();
    format!(
        "Package: {}\nVersion: {version}\nArchitecture: {}\nMaintainer: Assimilation developers <developers@assimilation.invalid>\n\
         Installed-Size: {kilobytes}\nDepends: {}\n{others}Section: admin\nPriority: optional\nDescription: {}\n{description}",
        part.package(),
        architecture(),
        depends.join(", "),
        part.summary(),
    )
}

/// What `dpkg --verify` compares files with.
fn sums(root: &Path) -> Result<String, String> {
    let names: Vec<String> = files(root)?
        .into_iter()
        .filter(|name| !name.starts_with("/etc/"))
        .map(|name| name.trim_start_matches('/').to_owned())
        .collect();
    let output = checked(Command::new("md5sum").args(&names).current_dir(root))?;
    String::from_utf8(output).map_err(|_| "md5sum printed no text".into())
}

/// Rounded up for each file, as dpkg-gencontrol counts; directories count one.
fn kilobytes(root: &Path) -> Result<u64, String> {
    let mut sum = 0;
    for name in files(root)? {
        let path = root.join(name.trim_start_matches('/'));
        sum += fs::symlink_metadata(&path).map_err(at(&path))?.len().div_ceil(1024);
    }
    Ok(sum)
}

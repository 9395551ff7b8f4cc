//! Packages for systems of Red Hat's and SUSE's kind, by `rpmbuild`.

use super::contents::{Kind, files, lay_out, script};
use super::glibc::{Needs, needs};
use super::{Part, Request, Workshop, at, checked};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `<out>/assimilation-cma-0.1.0-1.x86_64.rpm`
pub fn build(request: &Request, part: Part, out: &Path) -> Result<PathBuf, String> {
    let workshop = Workshop::new(out, &format!("rpm-{}-{}", part.program(), request.version))?;
    let root = workshop.path().join("root");
    fs::create_dir(&root).map_err(at(&root))?;
    lay_out(request, part, Kind::RedHat, &root)?;
    let programs = [request.programs.path(part.program()), request.programs.path("assimcli")];
    let spec = specification(request, part, needs(programs.iter().map(PathBuf::as_path))?, &root)?;
    let spec_file = workshop.path().join("package.spec");
    fs::write(&spec_file, spec).map_err(at(&spec_file))?;
    let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
    let top = workshop.path().display().to_string();
    checked(
        Command::new("rpmbuild")
            .args(["-bb", "--quiet", "--target", std::env::consts::ARCH])
            .args(define("_topdir", &top))
            .args(define("_rpmdir", &format!("{top}/made")))
            .args(define("_rpmfilename", "package.rpm"))
            .args(define("_dbpath", &format!("{top}/db")))
            .arg(&spec_file)
            .env("SOURCE_DATE_EPOCH", request.epoch_seconds.to_string()),
    )?;
    let name = format!("{}-{}-1.{}.rpm", part.package(), request.version, std::env::consts::ARCH);
    let file = out.join(name);
    fs::rename(workshop.path().join("made/package.rpm"), &file).map_err(at(&file))?;
    Ok(file)
}

/// The spec file. The files are there already: nothing is compiled, stripped or searched for dependencies.
fn specification(request: &Request, part: Part, needs: Needs, root: &Path) -> Result<String, String> {
    let payload = if request.quick { "w1.gzdio" } else { "w6.xzdio" };
    let mut spec = format!(
        "%global debug_package %{{nil}}\n%global __os_install_post %{{nil}}\n%global _build_id_links none\n\
         %global _binary_payload {payload}\n%global _buildhost assimilation\n\
         %global use_source_date_epoch_as_buildtime 1\n%global clamp_mtime_to_source_date_epoch 1\n\
         %global source_date_epoch_from_changelog 0\n\
         Name: {}\nVersion: {}\nRelease: 1\nSummary: {}\nLicense: Apache-2.0\nGroup: System/Monitoring\nAutoReqProv: no\n",
        part.package(),
        request.version,
        part.summary(),
    );
    let mut line = |text: String| {
        spec.push_str(&text);
        spec.push('\n');
    };
    let wide = if cfg!(target_pointer_width = "64") { "(64bit)" } else { "" };
    if let Some(version) = needs.glibc {
        line(format!("Requires: libc.so.6(GLIBC_{version}){wide}"));
    }
    if needs.libgcc {
        line(format!("Requires: libgcc_s.so.1(){wide}"));
    }
    line("Requires: systemd".into());
    line("Requires(post): /usr/sbin/useradd, /usr/sbin/update-alternatives".into());
    line("Requires(preun): /usr/sbin/update-alternatives".into());
    line(format!("%description\n{}", part.description().join("\n")));
    line(format!("%install\nmkdir -p %{{buildroot}}\ncp -a {}/. %{{buildroot}}/", root.display()));
    for (when, name) in [("post", "post"), ("preun", "preun"), ("postun", "postun")] {
        let text = script(request, &format!("{}.rpm-{name}", part.program()), "")?;
        // A percent sign would start a macro.
        line(format!("%{when}\n{}", text.replace('%', "%%")));
    }
    line("%files\n%defattr(-,root,root,-)".into());
    let names = files(root)?;
    for folder in own_folders(root, &names) {
        line(format!("%dir {folder}"));
    }
    for name in names {
        let prefix = if name.starts_with("/etc/") { "%config(noreplace) " } else { "" };
        line(format!("{prefix}\"{name}\""));
    }
    Ok(spec)
}

/// Folders that no package of the distribution has: those named after us, what is in them, and empty ones.
fn own_folders(root: &Path, files: &[String]) -> BTreeSet<String> {
    let is_ours = |folder: &Path| {
        folder.components().any(|word| word.as_os_str().to_string_lossy().starts_with("assimilation"))
    };
    let mut folders: BTreeSet<String> = files
        .iter()
        .flat_map(|file| Path::new(file).ancestors().skip(1))
        .filter(|folder| is_ours(folder))
        .map(|folder| folder.display().to_string())
        .collect();
    for empty in
        ["/etc/assimilation", "/etc/assimilation/notification.d", "/usr/share/assimilation/discovery_agents"]
    {
        if root.join(empty.trim_start_matches('/')).is_dir() {
            folders.extend(
                Path::new(empty)
                    .ancestors()
                    .filter(|folder| is_ours(folder))
                    .map(|folder| folder.display().to_string()),
            );
        }
    }
    folders
}

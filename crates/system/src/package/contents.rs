//! What is in a package, and where: the programs, their units, what they read, documentation.

use super::{Part, Request, at, checked};
use crate::process::on_path;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whose habits a package follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Debian,
    RedHat,
}

impl Kind {
    /// Where variables of the daemon are.
    pub fn variables(self, part: Part) -> String {
        let folder = match self {
            Kind::Debian => "default",
            Kind::RedHat => "sysconfig",
        };
        format!("/etc/{folder}/{}", part.program())
    }
}

/// Folders of shipped data: in the working tree and below /usr/share/assimilation. They win over what is inside the programs.
const DATA: &[&str] = &["best_practices", "queries", "monrules", "notification.d"];

/// Lays the files of one package below `root`, which is an empty directory, with their modes.
pub fn lay_out(request: &Request, part: Part, kind: Kind, root: &Path) -> Result<(), String> {
    let layout = Layout { request, root };
    let name = part.program();
    let packaging = |path: String| request.source.join("packaging").join(path);
    layout.program(name, &format!("/usr/sbin/{name}"))?;
    layout.program("assimcli", &format!("/usr/lib/assimilation/{name}/assimcli"))?;
    layout.manuals(part)?;
    let unit = format!("assimilation-{name}.service");
    layout.copy(&packaging(format!("systemd/{unit}")), &format!("/usr/lib/systemd/system/{unit}"))?;
    for folder in ["sysusers.d", "tmpfiles.d"] {
        let file = format!("{folder}/assimilation-{name}.conf");
        layout.copy(&packaging(file.clone()), &format!("/usr/lib/{file}"))?;
    }
    layout.copy(&packaging(format!("default/{name}")), &kind.variables(part))?;
    layout.directory("/etc/assimilation")?;
    match part {
        Part::Cma => {
            for folder in DATA {
                layout.tree(&request.source.join(folder), &format!("/usr/share/assimilation/{folder}"))?;
            }
            layout.directory("/etc/assimilation/notification.d")?;
        }
        Part::Nanoprobe => layout.directory("/usr/share/assimilation/discovery_agents")?,
    }
    let doc = format!("/usr/share/doc/{}", part.package());
    layout.copy(&packaging(format!("doc/{name}.toml")), &format!("{doc}/examples/{name}.toml"))?;
    layout.copy(&packaging("doc/copyright".into()), &format!("{doc}/copyright"))?;
    layout.copy(&request.source.join("LICENSE"), &format!("{doc}/LICENSE"))?;
    for page in ["packages.md", "configuration.md"] {
        layout.copy(&request.source.join("docs").join(page), &format!("{doc}/{page}"))?;
    }
    layout.compressed(&request.source.join("CHANGELOG.md"), &format!("{doc}/changelog.gz"))
}

/// Every file below `root`, as absolute paths inside the package, sorted; directories are left out.
pub fn files(root: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in sorted(&folder)? {
            if entry.is_dir() {
                folders.push(entry);
            } else if let Ok(inside) = entry.strip_prefix(root) {
                found.push(format!("/{}", inside.display()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A maintainer script: what both packages share, then its own lines.
pub fn script(request: &Request, name: &str, head: &str) -> Result<String, String> {
    let folder = request.source.join("packaging/scripts");
    let read = |file: &str| {
        let path = folder.join(file);
        fs::read_to_string(&path).map_err(at(&path))
    };
    Ok(format!("{head}{}\n{}", read("lib.sh")?, read(name)?))
}

struct Layout<'a> {
    request: &'a Request,
    root: &'a Path,
}

impl Layout<'_> {
    fn place(&self, absolute: &str) -> Result<PathBuf, String> {
        let path = self.root.join(absolute.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            self.make(parent)?;
        }
        Ok(path)
    }

    /// With mode 0755, whatever the umask of who calls us.
    fn make(&self, path: &Path) -> Result<(), String> {
        let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
        for folder in missing.into_iter().rev() {
            fs::create_dir(folder).map_err(at(folder))?;
            set_mode(folder, 0o755)?;
        }
        Ok(())
    }

    fn directory(&self, absolute: &str) -> Result<(), String> {
        self.make(&self.root.join(absolute.trim_start_matches('/')))
    }

    fn write(&self, absolute: &str, bytes: &[u8], mode: u32) -> Result<(), String> {
        let path = self.place(absolute)?;
        fs::write(&path, bytes).map_err(at(&path))?;
        set_mode(&path, mode)
    }

    fn copy(&self, from: &Path, absolute: &str) -> Result<(), String> {
        let bytes = fs::read(from).map_err(at(from))?;
        // Working trees may carry any mode; a script is known by its first line.
        let mode = if bytes.starts_with(b"#!") { 0o755 } else { 0o644 };
        self.write(absolute, &bytes, mode)
    }

    fn tree(&self, from: &Path, absolute: &str) -> Result<(), String> {
        for entry in sorted(from)? {
            let Some(name) = entry.file_name().and_then(|name| name.to_str()) else { continue };
            let to = format!("{absolute}/{name}");
            if entry.is_dir() {
                self.tree(&entry, &to)?;
            } else {
                self.copy(&entry, &to)?;
            }
        }
        Ok(())
    }

    /// Without debug information: it is a multiple of the program.
    fn program(&self, name: &str, absolute: &str) -> Result<(), String> {
        let from = self.request.programs.path(name);
        let to = self.place(absolute)?;
        if !from.is_file() {
            return Err(format!(
                "{} is not built; `cargo xtask package` without --no-build builds it",
                from.display()
            ));
        }
        if on_path("strip") {
            checked(Command::new("strip").arg("--strip-unneeded").arg("-o").arg(&to).arg(&from))?;
        } else {
            fs::copy(&from, &to).map_err(at(&from))?;
        }
        set_mode(&to, 0o755)
    }

    /// Manual pages and completions of the programs. Two packages cannot have the same file, so those of assimcli are in the
    /// CMA's, but for its completions in bash, which are linked with the program.
    fn manuals(&self, part: Part) -> Result<(), String> {
        let all = self.root.join(".manuals");
        let maker = self.request.programs.path("manuals");
        if !maker.is_file() {
            return Err(format!("{} is not built; `cargo build -p manuals` builds it", maker.display()));
        }
        checked(Command::new(maker).arg(&all))?;
        let programs: &[&str] = match part {
            Part::Cma => &["cma", "assimcli"],
            Part::Nanoprobe => &["nanoprobe"],
        };
        for inside in files(&all)? {
            let file = Path::new(&inside).file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let stem = file.trim_start_matches('_').split(['-', '.']).next().unwrap_or_default();
            let from = all.join(inside.trim_start_matches('/'));
            if inside == "/bash-completion/completions/assimcli" {
                self.copy(&from, &format!("/usr/lib/assimilation/{}/assimcli.bash", part.program()))?;
            } else if !programs.contains(&stem) {
                continue;
            } else if inside.starts_with("/man/") {
                self.compressed(&from, &format!("/usr/share{inside}.gz"))?;
            } else {
                self.copy(&from, &format!("/usr/share{inside}"))?;
            }
        }
        fs::remove_dir_all(&all).map_err(at(&all))
    }

    fn compressed(&self, from: &Path, absolute: &str) -> Result<(), String> {
        // Without name and time in the header: the same bytes each time.
        let bytes = checked(Command::new("gzip").args(["--no-name", "-9", "--stdout"]).arg(from))?;
        self.write(absolute, &bytes, 0o644)
    }
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), String> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at(path))
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

//! A directory as the archive of a release has it, and running the installer in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use system::package::{Request, archive, debs};

/// The installer with its version, and both `.deb` packages; sums of all.
pub fn with_packages(folder: &Path) -> PathBuf {
    let request = Request::quick().unwrap();
    debs(&request, folder).unwrap();
    finish(&request, folder)
}

/// The installer and plain programs: a real `assimcli`, and of the daemons, which nobody starts, only the beginning.
pub fn with_programs(folder: &Path) -> PathBuf {
    let request = Request::quick().unwrap();
    let programs = folder.join("programs");
    fs::create_dir_all(&programs).unwrap();
    for name in ["cma", "nanoprobe", "assimcli"] {
        let mut program = fs::read(request.programs.path(name)).unwrap();
        if name != "assimcli" {
            program.truncate(4096);
        }
        let path = programs.join(name);
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    finish(&request, folder)
}

fn finish(request: &Request, folder: &Path) -> PathBuf {
    let installer = folder.join("installme");
    fs::write(&installer, archive::installme(request).unwrap()).unwrap();
    fs::set_permissions(&installer, fs::Permissions::from_mode(0o755)).unwrap();
    archive::sums(folder).unwrap();
    installer
}

/// What it said and how it ended.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub output: String,
    pub errors: String,
}

impl From<Output> for Told {
    fn from(output: Output) -> Told {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Told {
            code: output.status.code().unwrap_or(-1),
            output: text(output.stdout),
            errors: text(output.stderr),
        }
    }
}

/// Runs the installer with dash, without a terminal, and with `stand_ins` before everything else on the PATH.
pub fn installme(installer: &Path, stand_ins: Option<&Path>, words: &[&str]) -> Told {
    let mut command = Command::new("setsid");
    command.args(["-w", "dash"]).arg(installer).args(words).stdin(Stdio::null());
    if let Some(folder) = stand_ins {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", folder.display()));
    }
    command.env_remove("SUDO_USER");
    command.output().unwrap().into()
}

/// An executable script.
pub fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Every file below a directory with its mode and content, to see whether anything changed.
pub fn snapshot(folder: &Path) -> String {
    let output = Command::new("sh")
        .args([
            "-c",
            "find . -printf '%p %m %s %T@ %l\\n' | sort; find . -type f -exec sha256sum {} + | sort",
        ])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

//! One site under a directory of its own: keys, a CMA, nanoprobes, all with `--root`.

use crate::network::Host;
use crate::process::{Running, capture};
use crate::wait_for;
use model::paths::SitePaths;
use serde_json::Value;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// The three programs as built.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Beside the running test or xtask: `target/<profile>/`.
    pub fn built() -> Result<Programs, String> {
        let own = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
        let found = own
            .ancestors()
            .skip(1)
            .take(3)
            .find(|folder| folder.join("cma").is_file() && folder.join("nanoprobe").is_file());
        match found {
            Some(directory) => Ok(Programs { directory: directory.to_owned() }),
            None => Err("the programs are not built: run `cargo build --workspace --bins`".into()),
        }
    }

    /// From a directory, for instance `target/release`.
    pub fn in_directory(directory: &Path) -> Programs {
        Programs { directory: directory.to_owned() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// A site and how to reach it.
pub struct Site {
    pub paths: SitePaths,
    pub programs: Programs,
    /// Where its CMA listens.
    pub address: String,
    /// The namespace its CMA runs in, if not the machine's own (then on loopback only).
    pub host: Option<Host>,
}

impl Site {
    /// Makes the directories and the keys. The CMA will listen on a free port of 127.0.0.1.
    pub fn create(root: &Path, programs: Programs) -> Result<Site, String> {
        let port = UdpSocket::bind("127.0.0.1:0")
            .and_then(|s| s.local_addr())
            .map_err(|e| format!("no free UDP port: {e}"))?
            .port();
        Self::create_at(root, programs, &format!("127.0.0.1:{port}"), None)
    }

    /// The same for a CMA in a network namespace.
    pub fn create_at(
        root: &Path,
        programs: Programs,
        address: &str,
        host: Option<Host>,
    ) -> Result<Site, String> {
        let paths = SitePaths::new(root);
        for directory in [
            paths.at("/etc/assimilation/notification.d"),
            paths.state(),
            paths.run(),
            paths.at("/var/run"),
            paths.shared("notification.d"),
        ] {
            std::fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        }
        let site = Site { paths, programs, address: address.to_owned(), host };
        let made = site.assimcli(&["genkeys"])?;
        if !made.status.success() {
            return Err(format!("assimcli genkeys failed: {}", String::from_utf8_lossy(&made.stderr).trim()));
        }
        Ok(site)
    }

    fn command(&self, program: &str) -> Command {
        let path = self.programs.path(program);
        let mut command = match &self.host {
            Some(host) => host.command(&path),
            None => Command::new(path),
        };
        command.arg("--root").arg(self.paths.root());
        command
    }

    /// Starts the CMA and waits until it listens.
    pub fn start_cma(&self, more: &[&str]) -> Result<Running, String> {
        let ready = self.paths.run().join("cma.json");
        let _ = std::fs::remove_file(&ready);
        let user = current_user();
        let mut command = self.command("cma");
        command.args(["--bind", &self.address, "--user", &user]).args(more);
        // Not in this process's group: Ctrl-C is for us, who then stop it in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let log = self.log("cma");
        let mut running = Running::start("cma", &mut command, &log)?;
        wait_for("the CMA to listen", Duration::from_secs(30), || {
            if let Err(ended) = running.still_running() {
                return Some(Err(ended));
            }
            ready.is_file().then_some(Ok(()))
        })
        .and_then(|result| result)
        .map_err(|error| format!("{error}\n{}", last_lines(&log)))?;
        Ok(running)
    }

    /// Starts a nanoprobe that has a root of its own below this site's, so that several can share the machine.
    /// Without a `host` it talks to the CMA over loopback; with one, `more` says how it finds the CMA (multicast if not).
    pub fn start_nanoprobe(&self, name: &str, host: Option<&Host>, more: &[&str]) -> Result<Running, String> {
        let root = self.nanoprobe_root(name)?;
        let path = self.programs.path("nanoprobe");
        let mut command = match host {
            Some(host) => host.command(&path),
            None => Command::new(path),
        };
        command.arg("--root").arg(&root).args(more);
        if host.is_none() {
            command.args(["--cmaaddr", &self.address, "--name", name, "--bind", "127.0.0.1:0"]);
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Running::start("nanoprobe", &mut command, &self.log(&format!("nanoprobe-{name}")))
    }

    /// `<root>/hosts/<name>` with the CMA's public keys copied in, as an installer would.
    pub fn nanoprobe_root(&self, name: &str) -> Result<PathBuf, String> {
        let root = self.paths.root().join("hosts").join(name);
        let paths = SitePaths::new(&root);
        let failed = |e: std::io::Error| format!("{}: {e}", root.display());
        for directory in [paths.state(), paths.run(), paths.at("/var/run"), paths.at("/etc/assimilation")] {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let crypto = paths.crypto();
        std::fs::create_dir_all(&crypto).map_err(failed)?;
        std::fs::set_permissions(&crypto, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .map_err(failed)?;
        for entry in std::fs::read_dir(self.paths.crypto()).map_err(failed)?.flatten() {
            let file = entry.file_name();
            let name = file.to_string_lossy();
            if name.starts_with("#CMA#") && name.ends_with(".pub") && !crypto.join(&file).exists() {
                std::fs::copy(entry.path(), crypto.join(&file)).map_err(failed)?;
            }
        }
        Ok(root)
    }

    /// Runs assimcli and returns what it printed.
    pub fn assimcli(&self, arguments: &[&str]) -> Result<Output, String> {
        capture(self.command("assimcli").args(arguments))
    }

    /// Runs assimcli with `-o json` and reads its answer.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value, String> {
        let output = capture(self.command("assimcli").args(["-o", "json"]).args(arguments))?;
        serde_json::from_slice(&output.stdout).map_err(|e| {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("assimcli {} printed no JSON ({e}): {}", arguments.join(" "), errors.trim())
        })
    }

    /// Number of rows that `statement` gives, 0 while the CMA does not answer.
    pub fn count(&self, statement: &str) -> usize {
        self.ask(&["sql", statement]).ok().and_then(|rows| rows.as_array().map(Vec::len)).unwrap_or(0)
    }

    pub fn log(&self, program: &str) -> PathBuf {
        self.paths.root().join(format!("{program}.log"))
    }
}

/// The end of a log, for error messages.
pub fn last_lines(log: &Path) -> String {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn current_user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(uid.to_string().as_str()));
    line.and_then(|line| line.split(':').next()).map_or_else(|| uid.to_string(), str::to_owned)
}

//! A small Debian below a directory, with OpenSMTPD and bsd-mailx: programs run in it as on a machine of its own,
//! with the paths of the contract and mail that really arrives. Needs root, debootstrap and the package mirror.

use crate::debian::{self, checked};
use crate::network::Host;
use crate::process::{Running, capture};
use crate::wait_for;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Packages of the tree beyond Debian's smallest set.
const PACKAGES: &str = "opensmtpd,bsd-mailx";

/// `admin` gets mail.
const USERS: &str = "useradd --create-home admin && useradd --system assimilation";

/// Loopback only, every address is a local user's: nothing can be relayed.
const SMTPD_CONF: &str = "listen on lo port 25\naction \"local\" maildir\nmatch for any action \"local\"\n";

/// A tree in a directory of the test's own; the files stay until the directory is removed.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Copies the cached tree (made at the first use, about 30 s) to `root`, with a user `admin` who gets mail.
    pub fn create(root: &Path, cache: &Path) -> Result<Tree, String> {
        let template = debian::template(cache, "mail", PACKAGES, USERS)?;
        checked(Command::new("cp").args(["--archive", "--reflink=auto"]).arg(&template).arg(root))?;
        let tree = Tree { root: root.to_owned() };
        tree.write("/etc/smtpd.conf", SMTPD_CONF)?;
        Ok(tree)
    }

    /// `absolute` inside the tree.
    pub fn at(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    pub fn write(&self, absolute: &str, text: &str) -> Result<(), String> {
        let path = self.at(absolute);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
        }
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Copies a program into the tree's /usr/sbin.
    pub fn install(&self, program: &Path) -> Result<(), String> {
        let name = program.file_name().unwrap_or_default();
        fs::copy(program, self.root.join("usr/sbin").join(name))
            .map(|_| ())
            .map_err(|e| format!("{}: {e}", program.display()))
    }

    /// `program` with the tree as its file system, in the network and under the name of `host`.
    pub fn command(&self, host: &Host, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &host.namespace, "unshare", "--uts", "--mount", "sh", "-c"]);
        let script = r#"hostname "$0" && mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$@""#;
        command.args([script, &host.hostname]).arg(&self.root).arg(program);
        command
    }

    /// Starts the tree's mail server and waits until it takes mail.
    pub fn start_mail(&self, host: &Host, log: &Path) -> Result<Running, String> {
        self.write("/etc/hosts", &format!("127.0.0.1 localhost {}\n", host.hostname))?;
        let running = Running::start("smtpd", self.command(host, "/usr/sbin/smtpd").arg("-d"), log)?;
        let probe = || {
            let output = capture(self.command(host, "/usr/sbin/smtpctl").args(["show", "status"])).ok()?;
            output.status.success().then_some(())
        };
        wait_for("the mail server", Duration::from_secs(20), probe)?;
        Ok(running)
    }

    /// The messages delivered to `admin` so far, oldest first.
    pub fn mail(&self) -> Vec<String> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.at("/home/admin/Maildir/new"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect();
        files.sort();
        files
            .iter()
            .filter_map(|file| fs::read(file).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }
}

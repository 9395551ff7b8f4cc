//! Where things live (contract §2). `--root DIR` puts DIR in front of all of them.

use std::path::{Path, PathBuf};

/// The file layout of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SitePaths {
    root: PathBuf,
}

impl SitePaths {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `absolute` below the root: `/etc/x` becomes `DIR/etc/x`.
    pub fn at(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// Keys; directory mode 0700.
    pub fn crypto(&self) -> PathBuf {
        self.at("/usr/share/assimilation/crypto.d")
    }

    /// Shipped data: `best_practices`, `queries`, `discovery_agents`, `notification.d`.
    pub fn shared(&self, what: &str) -> PathBuf {
        self.at("/usr/share/assimilation").join(what)
    }

    /// What the site adds: `/etc/assimilation/<what>.d`.
    pub fn site(&self, what: &str) -> PathBuf {
        self.at("/etc/assimilation").join(format!("{what}.d"))
    }

    /// Directories with notification scripts, in the order they are searched.
    pub fn notification_scripts(&self) -> [PathBuf; 2] {
        [self.shared("notification.d"), self.at("/etc/assimilation/notification.d")]
    }

    pub fn cma_config(&self) -> PathBuf {
        self.at("/etc/assimilation/cma.toml")
    }

    pub fn nanoprobe_config(&self) -> PathBuf {
        self.at("/etc/assimilation/nanoprobe.toml")
    }

    /// Where a nanoprobe looks for an enrolment token.
    pub fn token_file(&self) -> PathBuf {
        self.at("/etc/assimilation/enrol.token")
    }

    pub fn state(&self) -> PathBuf {
        self.at("/var/lib/assimilation")
    }

    /// The nanoprobe's own state: outgoing queue and acknowledged hashes.
    pub fn nanoprobe_state(&self) -> PathBuf {
        self.state().join("nanoprobe")
    }

    /// What discoveries keep between runs, such as checksums of unchanged files.
    pub fn discovery_state(&self) -> PathBuf {
        self.state().join("discovery")
    }

    pub fn database(&self) -> PathBuf {
        self.state().join("cma.sqlite")
    }

    pub fn run(&self) -> PathBuf {
        self.at("/run/assimilation")
    }

    /// The local API that assimcli uses.
    pub fn cma_socket(&self) -> PathBuf {
        self.run().join("cma.sock")
    }

    pub fn cma_pidfile(&self) -> PathBuf {
        self.at("/var/run/assimilation/cma")
    }

    pub fn nanoprobe_pidfile(&self) -> PathBuf {
        self.at("/var/run/nanoprobe")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_moves_below_the_root() {
        let site = SitePaths::new("/tmp/site");
        assert_eq!(site.cma_socket(), Path::new("/tmp/site/run/assimilation/cma.sock"));
        assert_eq!(site.site("queries"), Path::new("/tmp/site/etc/assimilation/queries.d"));
        assert_eq!(SitePaths::new("/").crypto(), Path::new("/usr/share/assimilation/crypto.d"));
    }
}

//! SIGHUP: nanoprobe.toml is read again, all of it or nothing, and so are the key files, whatever became of the settings.

use super::Agent;
use crate::settings::Settings;
use model::config::NanoprobeConfig;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Reads flags, environment and nanoprobe.toml again, or says what is wrong with them.
pub type Reload = Box<dyn Fn() -> Result<Settings, String>>;

impl Settings {
    /// Local addresses in the order in which they are tried. `crypto` is the key directory: a CMA needs the usual port
    /// of its machine, and may start later or again, so who finds the secret of a CMA there leaves the port free.
    pub fn local_addresses(&self, crypto: &Path) -> Vec<SocketAddr> {
        let any = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        match self.bind {
            Some(chosen) => vec![chosen],
            None if has_cma_secret(crypto) => vec![any(0)],
            None => vec![any(wire::PORT), any(0)],
        }
    }
}

fn has_cma_secret(crypto: &Path) -> bool {
    let mut entries =
        std::fs::read_dir(crypto).into_iter().flatten().flatten().map(|entry| entry.file_name());
    entries
        .any(|name| name.to_str().is_some_and(|name| name.starts_with("#CMA#") && name.ends_with(".secret")))
}

impl Agent {
    /// Takes over what can be taken over, and keeps all of the old when the new makes no sense.
    pub(super) fn read_settings_again(&mut self, now: Duration) {
        daemon::service::reloading();
        match (self.reload)() {
            Ok(new) => self.take_over(new, now),
            Err(problem) => {
                tracing::error!(
                    problem,
                    "the settings are not used, those of before hold; mend them and send SIGHUP again"
                );
                self.settings_problem = Some(format!("settings not used: {problem}"));
            }
        }
        self.read_keys_again(now);
        self.rescan(now);
        self.manager.ready(self.status());
    }

    /// What people have to know about the settings.
    pub(super) fn settings_problem(&self) -> Option<&str> {
        self.settings_problem.as_deref()
    }

    fn take_over(&mut self, new: Settings, now: Duration) {
        self.settings_problem = Settings::differences(&self.settings, &new).needs_restart();
        if let Some(problem) = &self.settings_problem {
            tracing::warn!("{problem}: systemctl restart assimilation-nanoprobe");
        }
        if new.debug_level != self.settings.debug_level {
            self.level.set(new.debug_level);
        }
        self.queue.set_limit(new.queue_bytes);
        let is_replaced =
            self.network.replace(new.local_addresses(&self.site.crypto()), new.multicast_ttl, new.keepalive);
        let is_elsewhere = new.cma_addresses != self.settings.cma_addresses;
        self.settings = self.settings.with_run_time_changes(&new);
        tracing::info!("settings read again");
        // A new network process begins by registering.
        if is_elsewhere && !is_replaced {
            self.start_over(now);
        }
    }
}

/// Flags, environment and file, as at the start.
pub(super) fn read(
    flags: &crate::cli::AgentArgs,
    site: &model::paths::SitePaths,
) -> Result<Settings, super::start::StartError> {
    let file: NanoprobeConfig = daemon::settings::read(&site.nanoprobe_config())?;
    let environment = |name: &str| std::env::var(name).ok();
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Settings::merge(flags, environment, &file, &host_name)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::AgentArgs;

    fn settings(file: &str) -> Settings {
        let file = model::config::parse_toml("nanoprobe.toml", file).unwrap();
        Settings::merge(&AgentArgs::default(), |_| None, &file, "web1").unwrap()
    }

    #[test]
    fn a_chosen_address_is_the_only_one_and_else_there_is_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let shown = |file: &str| {
            let found = settings(file).local_addresses(folder.path());
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for name in ["#CMA#00000.pub", "picard@@0123.secret"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(shown(""), ["[::]:1984", "[::]:0"]);
        assert_eq!(shown("bind = \"127.0.0.1:9\""), ["127.0.0.1:9"]);
        // A CMA is here, which needs its port also when it starts later.
        std::fs::write(folder.path().join("#CMA#00001.secret"), "").unwrap();
        assert_eq!(shown(""), ["[::]:0"]);
        assert_eq!(shown("bind = \"127.0.0.1:9\""), ["127.0.0.1:9"]);
    }
}

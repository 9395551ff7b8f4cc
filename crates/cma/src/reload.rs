//! Reading cma.toml and all rules again while the CMA runs (SIGHUP, `assimcli rules load`): all of it or nothing.
//!
//! A file that is refused changes nothing; why is in the log, in `/v1/status`, and an event. What cannot change at run time
//! is named when it differs. A CMA that goes on with another database reads the file again too. What a file says beyond that counts from one moment on: groups are worked out before.

use crate::api::Reload;
use crate::commit::{Work, Writer};
use crate::config_check;
use crate::health::Health;
use crate::hosts::Hosts;
use crate::knowledge::{Knowledge, SharedKnowledge};
use crate::readers::Readers;
use crate::service::Service;
use crate::settings::{Arguments, Settings};
use crate::{groups, vendors};
use daemon::logging::LogLevel;
use model::config::check::{Finding, Grade};
use model::config::{CmaConfig, first_of};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Topics of what `assimcli doctor` says.
const REFUSED: &str = "configuration";
const RESTART: &str = "configuration that waits for a restart";
/// How long an event may wait for its commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(600);

/// Reads again whenever it is asked to, one time after the other.
pub struct Reloader {
    pub arguments: Arguments,
    /// What this CMA was started with.
    pub started_with: Settings,
    pub level: LogLevel,
    pub writer: Writer,
    pub readers: Arc<Readers>,
    pub knowledge: SharedKnowledge,
    pub hosts: Arc<Hosts>,
    pub health: Arc<Health>,
    pub service: Service,
    /// Why the file is not what this CMA was started with, if so.
    pub refused: Option<String>,
}

impl Reloader {
    /// Works until the CMA stops.
    pub async fn run(self, requests: mpsc::Receiver<Reload>, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.serve(requests) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn serve(self, mut requests: mpsc::Receiver<Reload>) {
        self.tell(self.refused.clone()).await;
        let mut debug = self.started_with.debug;
        while let Some(answer) = requests.recv().await {
            let _ = answer.send(self.service.reload(self.reload(&mut debug)).await);
        }
    }

    /// `debug` is the level that was read last: one set by a signal since stays unless the file changed.
    async fn reload(&self, debug: &mut u8) -> Result<Value, String> {
        let site = self.arguments.site();
        let (arguments, paths) = (self.arguments.clone(), site.clone());
        // Files may be many and disks slow.
        let read = tokio::task::spawn_blocking(move || {
            let (settings, findings) = read(&arguments)?;
            let knowledge = Knowledge::load(settings.config.clone(), &paths);
            Ok::<_, String>((settings, findings, knowledge))
        });
        let read = read.await.unwrap_or_else(|error| Err(format!("reading broke off: {error}")));
        let (settings, findings, new) = match read {
            Ok(read) => read,
            Err(reason) => {
                keeps(&self.health, &reason);
                self.tell(Some(reason.clone())).await;
                return Err(reason);
            }
        };
        let old = self.knowledge.get();
        let new = new.with_membership((*old.membership).clone());
        let membership = groups::work_out(&self.readers, &new, &self.health).await;
        let new = match membership {
            Ok(membership) => new.with_membership(membership),
            Err(error) => {
                tracing::warn!(%error, "who is in which group could not be worked out; it will be");
                new
            }
        };
        for problem in findings.iter().map(ToString::to_string).chain(new.problems()) {
            tracing::warn!("{problem}");
        }
        let restart = self.started_with.needs_restart(&settings);
        if let Some(restart) = &restart {
            tracing::warn!("{restart}");
        }
        self.health.set(RESTART, restart.clone());
        self.health.set(REFUSED, None);
        self.tell(None).await;
        if settings.debug != *debug {
            *debug = settings.debug;
            self.level.set(settings.debug);
        }
        if new.config.oui != old.config.oui {
            let (own, health) = (new.config.oui.clone(), self.health.clone());
            tokio::task::spawn_blocking(move || vendors::tell_store(&own, &health));
        }
        let configured = self.hosts.configure(&new);
        let changed = new.fingerprint != old.fingerprint;
        let answer = json!({
            "changed": changed || new.config != old.config,
            "reevaluating": changed,
            "configured_hosts": configured,
            "rules_before": old.rule_count(),
            "rules": new.rule_count(),
            "problems": new.problems(),
            "restart": restart,
        });
        self.knowledge.set(new);
        tracing::info!(changed, configured_hosts = configured, "configuration and rules were read again");
        Ok(answer)
    }

    async fn tell(&self, refused: Option<String>) {
        if self.writer.ask(Work::Configuration(refused), COMMIT_TIMEOUT).await.is_err() {
            tracing::warn!("the event about the configuration could not be stored");
        }
    }
}

/// The settings of a life of the CMA with another database: those of the file as it is now, but for what only a restart changes.
/// When the file is refused those `in_effect` until now go on, and the second value says why.
pub fn at_restore(
    arguments: &Arguments,
    started_with: &Settings,
    in_effect: CmaConfig,
    level: &LogLevel,
    health: &Health,
) -> (Settings, Option<String>) {
    match read(arguments) {
        Ok((new, findings)) => {
            for finding in findings {
                tracing::warn!("{finding}");
            }
            let restart = started_with.needs_restart(&new);
            if let Some(restart) = &restart {
                tracing::warn!("{restart}");
            }
            health.set(RESTART, restart);
            if new.debug != started_with.debug {
                level.set(new.debug);
            }
            (Settings { config: new.config, debug: new.debug, ..started_with.clone() }, None)
        }
        Err(reason) => {
            keeps(health, &reason);
            (Settings { config: in_effect, ..started_with.clone() }, Some(reason))
        }
    }
}

/// Says that the file is refused.
fn keeps(health: &Health, reason: &str) {
    tracing::error!(error = %reason, "the configuration was not read again; the old one stays");
    health.set(REFUSED, Some(format!("the CMA keeps its old settings: {reason}")));
}

/// The file as it is now, with what is not quite right in it.
///
/// # Errors
/// What is wrong with it, in one sentence.
fn read(arguments: &Arguments) -> Result<(Settings, Vec<Finding>), String> {
    let path = arguments.site().cma_config();
    let text = daemon::settings::text(&path).map_err(|error| error.to_string())?.unwrap_or_default();
    let (config, findings) = config_check::check(&text, &arguments.site());
    let refused: Vec<Finding> =
        findings.iter().filter(|finding| finding.grade == Grade::Refused).cloned().collect();
    let Some(config) = config.filter(|_| refused.is_empty()) else {
        return Err(format!("{}: {}", path.display(), first_of(&refused)));
    };
    let settings = arguments.settings(config).map_err(|error| error.to_string())?;
    Ok((settings, findings))
}

//! Telling people: each alert channel drains its own rows of the outbox.
//!
//! One file per channel in `channels/`, found by the build script. [`dispatch`] decides what may start, purely;
//! [`run`] starts it and has the outcome recorded by the writer thread.

pub mod dispatch;
pub mod run;

use model::Event;
use model::config::NotifyConfig;
use model::paths::SitePaths;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

include!(concat!(env!("OUT_DIR"), "/channels.rs"));

/// A way to tell people about events.
pub struct Channel {
    /// Name in the outbox, in the configuration and in answers.
    pub name: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// Whether the configuration wants it.
    pub enabled: fn(&NotifyConfig) -> bool,
    /// Delivers one event. `progress` is what an earlier attempt had already done.
    pub deliver: fn(Arc<ChannelContext>, Arc<Event>, Vec<String>) -> DeliveryFuture,
    /// The same for some receivers only, named last; for channels with several that can fail one by one.
    pub deliver_to: Option<DeliverTo>,
}

/// Delivers an event to the receivers named last, without those in the progress before.
pub type DeliverTo = fn(Arc<ChannelContext>, Arc<Event>, Vec<String>, Vec<String>) -> DeliveryFuture;

/// The pending answer of [`Channel::deliver`].
pub type DeliveryFuture = Pin<Box<dyn Future<Output = Attempt> + Send>>;

/// What one attempt did.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub outcome: Outcome,
    /// What is done for this event by now, this attempt and earlier ones; handed to the next attempt.
    pub progress: Vec<String>,
    /// What each receiver said, for `POST /v1/notify/test`.
    pub answers: Vec<Answer>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// Nobody to deliver to, for instance no syslog socket: done, with a note for `doctor`.
    Skipped(String),
    /// Worth another attempt; the text says what failed.
    Failed(String),
}

/// What one receiver of a channel said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Answer {
    pub receiver: String,
    pub ok: bool,
    pub text: String,
}

/// What channels need to know about this CMA.
pub struct ChannelContext {
    pub site: SitePaths,
    pub notify: NotifyConfig,
    /// This machine's host name, for syslog headers.
    pub hostname: String,
    /// Things said once: refused files, a missing socket.
    said: Mutex<BTreeSet<String>>,
}

impl ChannelContext {
    pub fn new(site: SitePaths, notify: NotifyConfig, hostname: String) -> Self {
        Self { site, notify, hostname, said: Mutex::default() }
    }

    /// `true` the first time it is asked about `what`; forgets everything when very much was said.
    pub fn first_time(&self, what: String) -> bool {
        const REMEMBERED: usize = 1000;
        let mut said = self.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if said.len() > REMEMBERED {
            said.clear();
        }
        said.insert(what)
    }
}

/// The channel of this name.
pub fn find(name: &str) -> Option<&'static Channel> {
    CHANNELS.iter().copied().find(|channel| channel.name == name)
}

/// Names of the channels that the configuration wants: each event gets one outbox row for each.
pub fn enabled(config: &NotifyConfig) -> Vec<&'static str> {
    CHANNELS.iter().filter(|channel| (channel.enabled)(config)).map(|channel| channel.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_scan_found_the_channels() {
        let names: Vec<_> = CHANNELS.iter().map(|c| c.name).collect();
        assert_eq!(names, ["scripts", "syslog"]);
        assert!(find("scripts").is_some() && find("nothing").is_none());
    }

    #[test]
    fn the_configuration_switches_channels_off() {
        let config = NotifyConfig { syslog: false, ..NotifyConfig::default() };
        assert_eq!(enabled(&config), ["scripts"]);
    }
}

//! What the service manager wants to know (sd_notify(3)): ready, what we do, still alive, stopping. Without a service manager
//! (no `NOTIFY_SOCKET` in the environment) nothing happens.
//!
//! Children must not speak for us: whoever starts programs gives them an environment without `NOTIFY_SOCKET`, or the unit has
//! `NotifyAccess=main`.

use sd_notify::NotifyState;
use std::time::Duration;

/// Everything works; `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What we do at the moment, in one line.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The configuration is being read again; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of the reload"),
    }
}

/// We stop in good order.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How often [`alive`] has to be called, if the service manager watches: a third of its patience.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 3)
}

/// The event loop still turns.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

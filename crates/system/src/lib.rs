//! Whole sites made of the real programs: for the system tests in `tests/`, the demo and the benchmarks.
//!
//! A [`site::Site`] is one `--root` directory with keys, a CMA and nanoprobes; a [`network::Network`] is a bridge
//! with hosts in network namespaces, so that nothing ever leaves the machine; a [`tree::Tree`] is a small Debian
//! below a directory, with a mail server of its own;
//! a [`booted::Machine`] is one that systemd has started, with packages, units and an ssh server.

pub mod booted;
pub mod debian;
pub mod network;
pub mod package;
pub mod process;
pub mod site;
pub mod tree;

use std::time::{Duration, Instant};

/// Calls `check` until it gives something, at most `limit` long; the error tells what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> Result<T, String> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = check() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(format!("waited {} s in vain for {what}", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

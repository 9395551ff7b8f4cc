//! What the CMA tells the service manager: ready when it serves, alive while it works, reloading, stopping. The test is the
//! service manager.

use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use system::process::Running;
use system::site::{Programs, Site, last_lines};

/// Longest wait for any message.
const LIMIT: Duration = Duration::from_secs(30);

struct Manager {
    socket: UnixDatagram,
    log: std::path::PathBuf,
}

impl Manager {
    /// The next message of which one line is `wanted` or starts with it; what comes before is passed over.
    fn wait_for(&self, wanted: &str) -> String {
        self.before(wanted, LIMIT).unwrap_or_else(|| panic!("no {wanted}\n{}", last_lines(&self.log)))
    }

    fn before(&self, wanted: &str, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        let mut bytes = [0; 4096];
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let count = self.socket.recv(&mut bytes).ok()?;
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return Some(text);
            }
        }
    }
}

fn start(site: &Site, socket: &Path) -> Running {
    let mut command = Command::new(site.programs.path("cma"));
    command
        .arg("--root")
        .arg(site.paths.root())
        .args(["--bind", &site.address, "--user", "root", "--web", "none"])
        .env("NOTIFY_SOCKET", socket)
        .env("WATCHDOG_USEC", "600000");
    Running::start("cma", &mut command, &site.log("cma")).unwrap()
}

fn signal(running: &Running, signal: Signal) {
    kill_process(Pid::from_raw(running.pid().cast_signed()).unwrap(), signal).unwrap();
}

#[test]
fn the_cma_is_ready_alive_reloads_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::create(&folder.path().join("site"), Programs::built().unwrap()).unwrap();
    let path = folder.path().join("notify");
    let manager = Manager { socket: UnixDatagram::bind(&path).unwrap(), log: site.log("cma") };
    let cma = start(&site, &path);

    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("STATUS=0 hosts, 0 connected"), "{ready}");
    let status = site.ask(&["doctor"]).unwrap();
    assert!(status.to_string().contains("listens on"), "ready before it serves: {status}");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }

    signal(&cma, Signal::HUP);
    let reloading = manager.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.wait_for("READY=1");

    // A hanging CMA is silent, so that systemd would start it again.
    signal(&cma, Signal::STOP);
    while manager.before("WATCHDOG=1", Duration::from_millis(50)).is_some() {}
    assert_eq!(manager.before("WATCHDOG=1", Duration::from_secs(2)), None);
    signal(&cma, Signal::CONT);
    manager.wait_for("WATCHDOG=1");

    // Hosts that come and go are in the status.
    let nanoprobe = site.start_nanoprobe("picard", None, &[]).unwrap();
    manager.wait_for("STATUS=1 host, 1 connected");
    drop(nanoprobe);

    signal(&cma, Signal::TERM);
    manager.wait_for("STOPPING=1");
}

//! From a change on one host to the start of the notification script on another: log_martians, sshd_config, a file mode.

use super::{figure, percentile};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use system::network::{Host, Network};
use system::process::{Running, capture};
use system::site::{Programs, Site};
use system::wait_for;

pub fn measure(programs: &Programs, flips: usize, polled_flips: usize) -> Result<(), String> {
    series(programs, flips, true)?;
    if polled_flips > 0 {
        series(programs, polled_flips, false)?;
    }
    Ok(())
}

fn series(programs: &Programs, flips: usize, triggers: bool) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("assimilation-bench-{}-{triggers}", std::process::id()));
    let result = in_folder(&folder, programs, flips, triggers);
    let _ = fs::remove_dir_all(&folder);
    result
}

fn in_folder(folder: &Path, programs: &Programs, flips: usize, triggers: bool) -> Result<(), String> {
    let network = Network::new(&["center", "picard"])?;
    let (center, picard) = (network.host("center")?, network.host("picard")?);
    let site =
        Site::create_at(folder, programs.clone(), &format!("{}:1984", center.address), Some(center.clone()))?;
    let record = recorder(&site)?;
    // The three rules that are flipped must be in force whatever this machine's operating system is.
    let config = format!("[rules.by_domain]\nglobal = \"original\"\n[discovery]\ntriggers = {triggers}\n");
    write(&site.paths.cma_config(), &config)?;
    let etc = private_etc(folder)?;
    picard.sysctl("net.ipv4.conf.all.log_martians", "1")?;
    let _cma = site.start_cma(&[])?;
    let _nanoprobe = start_with_etc(&site, picard, &etc)?;
    for rule in ["nist_V-38528", "nist_V-38613", "nist_V-38504"] {
        let judged = format!("SELECT 1 FROM rule_results WHERE rule_id = '{rule}' AND status = 'pass'");
        wait_for(&format!("rule {rule} to pass at first"), Duration::from_secs(90), || {
            (site.count(&judged) == 1).then_some(())
        })?;
    }
    let how = if triggers { "" } else { ", polling" };
    let goal = if triggers { "≤ 0.3 s" } else { "≤ 60 s" };
    let sshd = etc.join("ssh/sshd_config");
    let shadow = etc.join("shadow");
    let mut cases: Vec<Case<'_>> = vec![
        ("log_martians", "nist_V-38528", Box::new(|broken| log_martians(picard, !broken))),
        (
            "sshd_config",
            "nist_V-38613",
            Box::new(|broken| {
                let before = now_seconds();
                write(&sshd, if broken { "PermitRootLogin yes\n" } else { SSHD_CONFIG })?;
                Ok(before)
            }),
        ),
        (
            "file mode",
            "nist_V-38504",
            Box::new(|broken| {
                let before = now_seconds();
                chmod(&shadow, if broken { 0o666 } else { 0o640 })?;
                Ok(before)
            }),
        ),
    ];
    let series: Vec<Result<Vec<f64>, String>> = if triggers {
        cases.iter_mut().map(|case| flip(&record, flips, case, pause)).collect()
    } else {
        // Waiting is all that it does: side by side.
        std::thread::scope(|scope| {
            let record = &record;
            let running: Vec<_> = cases
                .iter_mut()
                .map(|case| scope.spawn(move || flip(record, flips, case, polled_pause)))
                .collect();
            let broken = || Err("a thread of the benchmark broke off".to_owned());
            running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| broken())).collect()
        })
    };
    for ((name, ..), seconds) in cases.iter().zip(series) {
        let mut seconds = seconds?;
        seconds.sort_by(f64::total_cmp);
        figure(
            &format!("{name}: change to script start, median of {flips}{how}"),
            &format!("{:.3} s", percentile(&seconds, 0.5)),
            "",
        );
        figure(
            &format!("{name}: change to script start, p95{how}"),
            &format!("{:.3} s", percentile(&seconds, 0.95)),
            goal,
        );
    }
    Ok(())
}

/// What it is called, the rule that judges it, and how to break (`true`) or mend it, which gives the time just before.
type Case<'a> = (&'static str, &'static str, Box<dyn FnMut(bool) -> Result<f64, String> + Send + 'a>);

const SSHD_CONFIG: &str = "PermitRootLogin no\n";

/// Breaks and mends in turn; seconds from just before each change to the script's own first clock reading.
fn flip(
    record: &Path,
    flips: usize,
    (_, rule, change): &mut Case<'_>,
    pause: fn(usize) -> Duration,
) -> Result<Vec<f64>, String> {
    let rule = *rule;
    let lines = || {
        let text = fs::read_to_string(record).unwrap_or_default();
        text.lines().filter(|line| line.starts_with(rule)).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut seconds = Vec::new();
    let known = lines().len();
    for round in 0..flips {
        let broken = round % 2 == 0;
        let before = change(broken)?;
        let line = wait_for(&format!("the alert of {rule}"), Duration::from_secs(180), || {
            lines().get(known + round).cloned()
        })?;
        let words: Vec<&str> = line.split(' ').collect();
        let expected = if broken { "warn" } else { "unwarn" };
        if words.get(1) != Some(&expected) {
            return Err(format!("expected {expected} for {rule}, the script was told {line:?}"));
        }
        let nanoseconds: f64 =
            words.get(2).and_then(|w| w.parse().ok()).ok_or_else(|| format!("no time in {line:?}"))?;
        seconds.push(nanoseconds / 1e9 - before);
        std::thread::sleep(pause(round));
    }
    Ok(seconds)
}

/// Before the next flip: not in step with anything that repeats.
fn pause(round: usize) -> Duration {
    Duration::from_millis(150 + (round as u64 * 37) % 200)
}

/// Every alert comes just after a poll, so without this each change would wait the whole minute for the next.
fn polled_pause(round: usize) -> Duration {
    Duration::from_secs(7 + (round as u64 * 23) % 60)
}

fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Sets it as `sysctl -w` on that host would. The clock is read there too: entering the namespace takes a while.
fn log_martians(host: &Host, on: bool) -> Result<f64, String> {
    let script = format!("date +%s%N && echo {} > /proc/sys/net/ipv4/conf/all/log_martians", u8::from(on));
    let output = capture(host.command(Path::new("sh")).args(["-c", &script]))?;
    let nanoseconds = String::from_utf8_lossy(&output.stdout).trim().parse::<f64>();
    match nanoseconds {
        Ok(nanoseconds) if output.status.success() => Ok(nanoseconds / 1e9),
        _ => Err(format!("cannot set log_martians: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// A script that notes rule, event and its own start time.
fn recorder(site: &Site) -> Result<PathBuf, String> {
    let record = site.paths.root().join("alerts");
    let script = site.paths.shared("notification.d").join("record.sh");
    write(
        &script,
        &format!(
            "#!/bin/sh\nprintf '%s %s %s\\n' \"$ASSIM_ruleid\" \"$1\" \"$(date +%s%N)\" >> '{}'\n",
            record.display()
        ),
    )?;
    chmod(&script, 0o755)?;
    Ok(record)
}

/// A copy of /etc that only the measured nanoprobe sees, so that nothing of this machine is changed.
fn private_etc(folder: &Path) -> Result<PathBuf, String> {
    let etc = folder.join("etc-of-picard");
    let copied = capture(Command::new("cp").args(["--archive", "/etc"]).arg(&etc))?;
    if !copied.status.success() {
        return Err(format!("cannot copy /etc: {}", String::from_utf8_lossy(&copied.stderr).trim()));
    }
    fs::create_dir_all(etc.join("ssh")).map_err(|e| e.to_string())?;
    write(&etc.join("ssh/sshd_config"), SSHD_CONFIG)?;
    chmod(&etc.join("shadow"), 0o640)?;
    Ok(etc)
}

fn start_with_etc(site: &Site, host: &Host, etc: &Path) -> Result<Running, String> {
    let root = site.nanoprobe_root(&host.hostname)?;
    let mut command = host.command(Path::new("unshare"));
    command.args(["--mount", "sh", "-c", r#"mount --bind "$0" /etc && exec "$@""#]).arg(etc);
    command.arg(site.programs.path("nanoprobe")).arg("--root").arg(root).args(["--cmaaddr", &site.address]);
    Running::start("nanoprobe", &mut command, &site.log("nanoprobe"))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn chmod(path: &Path, mode: u32) -> Result<(), String> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|e| format!("{}: {e}", path.display()))
}

//! `cargo xtask demo`: the first five minutes of a new user, on this machine, without root and without a packet
//! that leaves loopback.

use crate::{Outcome, workspace};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use system::process::{self, Running, is_root};
use system::site::{Programs, Site, last_lines};

/// Rules shown with their fixes; a fresh installation breaks dozens, which nobody reads at once.
const WORST_SHOWN: &str = "5";
/// Marks a directory as ours to delete.
const MARKER: &str = ".made-by-xtask-demo";

#[derive(clap::Args)]
pub struct Options {
    /// Exit after the report.
    #[arg(long)]
    once: bool,
}

pub fn run(options: &Options) -> Outcome {
    process::run(
        Command::new("cargo")
            .args(["build", "--locked", "-p", "cma", "-p", "nanoprobe", "-p", "assimcli"])
            .current_dir(workspace()),
    )?;
    let programs = Programs::in_directory(&crate::target_directory().join("debug"));
    let root = workspace().join("demo-site");
    clear(&root)?;
    let site = Site::create(&root, programs)?;
    let name = model::Designation::new(rustix::system::uname().nodename().to_str().unwrap_or("localhost"))
        .map_or_else(|_| "localhost".to_owned(), |name| name.to_string());

    let mut cma = site.start_cma(&["--web", "127.0.0.1:0"])?;
    let mut nanoprobe = site.start_nanoprobe(&name, None, &[])?;
    eprintln!(
        "A CMA (pid {}) listens on {}, a nanoprobe (pid {}) looks at this machine.",
        cma.pid(),
        site.address,
        nanoprobe.pid()
    );
    let documents = watch_documents_arrive(&site, &mut cma, &mut nanoprobe, &name)?;
    if documents == 0 {
        return Err(format!(
            "nothing arrived from the nanoprobe; its log says:\n{}",
            last_lines(&site.log(&format!("nanoprobe-{name}")))
        ));
    }

    report(&site)?;
    if !is_root() {
        println!(
            "\nRun as root, the nanoprobe sees more (file modes below /var/log/audit, sudoers, running sshd settings)."
        );
    }
    next_steps(&site);
    if options.once {
        return Ok(());
    }
    println!("\nEvents appear below as they happen. Ctrl-C ends the demo.\n");
    follow(&site, &mut cma, &mut nanoprobe)
}

fn clear(root: &Path) -> Outcome {
    if !root.exists() {
        std::fs::create_dir_all(root).map_err(|e| format!("{}: {e}", root.display()))?;
    } else if !root.join(MARKER).exists() {
        return Err(format!("{} exists and was not made by the demo: move it away", root.display()));
    } else {
        std::fs::remove_dir_all(root)
            .and_then(|()| std::fs::create_dir_all(root))
            .map_err(|e| format!("{}: {e}", root.display()))?;
    }
    std::fs::write(root.join(MARKER), "").map_err(|e| format!("{}: {e}", root.display()))
}

/// Shows progress until all discoveries of this host have arrived; returns how many did.
fn watch_documents_arrive(
    site: &Site,
    cma: &mut Running,
    nanoprobe: &mut Running,
    name: &str,
) -> Result<usize, String> {
    let listed =
        process::capture(Command::new(site.programs.path("nanoprobe")).args(["discover", "--list"]))?;
    let expected =
        String::from_utf8_lossy(&listed.stdout).lines().filter(|line| !line.trim().is_empty()).count().max(1);
    let bar = ProgressBar::new(expected as u64);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} discoveries  {msg}") {
        bar.set_style(style);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut last_change = Instant::now();
    let mut count = 0;
    while Instant::now() < deadline {
        cma.still_running().map_err(|e| format!("{e}\n{}", last_lines(&site.log("cma"))))?;
        nanoprobe
            .still_running()
            .map_err(|e| format!("{e}\n{}", last_lines(&site.log(&format!("nanoprobe-{name}")))))?;
        let rows = site
            .ask(&["sql", "SELECT instance, discovertype FROM documents ORDER BY since"])
            .unwrap_or_default();
        let rows = rows.as_array().map_or(&[][..], Vec::as_slice);
        if rows.len() != count {
            count = rows.len();
            last_change = Instant::now();
            bar.set_length(bar.length().unwrap_or(0).max(count as u64));
            bar.set_position(count as u64);
            bar.set_message(rows.last().and_then(|row| row["instance"].as_str()).unwrap_or("").to_owned());
        }
        // All types there and quiet for a moment, or quiet for long: some discoveries may not apply here.
        let quiet = last_change.elapsed();
        if count > 0
            && ((count >= expected && quiet > Duration::from_millis(700)) || quiet > Duration::from_secs(5))
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        bar.tick();
    }
    bar.finish_and_clear();
    println!("{count} discoveries of {name} arrived.\n");
    Ok(count)
}

fn report(site: &Site) -> Outcome {
    let mut command = Command::new(site.programs.path("assimcli"));
    command.arg("--root").arg(site.paths.root()).args([
        "-o",
        "table",
        "score",
        "--fixes",
        "--top",
        WORST_SHOWN,
    ]);
    match command.status() {
        // 2 = ran, and found what the user must look at.
        Ok(status) if matches!(status.code(), Some(0 | 2)) => Ok(()),
        Ok(status) => Err(format!("assimcli score failed ({status})")),
        Err(error) => Err(format!("assimcli cannot be started: {error}")),
    }
}

fn next_steps(site: &Site) {
    let program = site.programs.path("assimcli");
    let shown = match program.strip_prefix(workspace()) {
        Ok(inside) => format!("./{}", inside.display()),
        Err(_) => program.display().to_string(),
    };
    let root = site.paths.root().strip_prefix(workspace()).unwrap_or(site.paths.root()).display().to_string();
    println!("\nWhat to type next, in another terminal while the demo runs:");
    for (words, meaning) in [
        ("score", "all rules that fail, a line each"),
        ("rules show nist_V-38528", "what one rule checks, why, and how to fix it"),
        ("query list", "the questions that can be asked"),
        ("query allservers", "the hosts and their state"),
        ("query packagename openssl", "who has a package, in which version"),
        ("events --follow", "what happens, as it happens"),
        ("doctor", "what is wrong with this installation"),
    ] {
        println!("  {shown} --root {root} {words:<28} # {meaning}");
    }
    if is_root() {
        let logged = std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/log_martians").unwrap_or_default();
        let (what, value) = if logged.trim() == "1" { ("Break", 0) } else { ("Mend", 1) };
        println!("{what} something and see it noticed: sysctl -w net.ipv4.conf.all.log_martians={value}");
    }
}

/// Prints events until Ctrl-C or until a daemon ends.
fn follow(site: &Site, cma: &mut Running, nanoprobe: &mut Running) -> Outcome {
    let mut command = Command::new(site.programs.path("assimcli"));
    command.arg("--root").arg(site.paths.root()).args(["events", "--follow", "--since", "0s"]);
    let mut events = command.spawn().map_err(|e| format!("assimcli cannot be started: {e}"))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let ended = runtime.block_on(async {
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                _ = &mut interrupted => return Ok(()),
                () = tokio::time::sleep(Duration::from_millis(300)) => {
                    cma.still_running()?;
                    nanoprobe.still_running()?;
                }
            }
        }
    });
    // It shares our terminal and got the same Ctrl-C; both calls fail harmlessly when it has gone.
    let _ = events.kill();
    let _ = events.wait();
    eprintln!("\nStopping the nanoprobe and the CMA.");
    ended
}

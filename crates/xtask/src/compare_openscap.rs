//! `cargo xtask compare-openscap`: the same benchmark on the same host, by OpenSCAP and by `nanoprobe audit`.
//!
//! The host is a Debian tree with a running systemd in namespaces of its own, dressed as Ubuntu 22.04, because that is
//! what Debian's SCAP content has a CIS profile for. Both programs run in it, one after the other, so they see the
//! same files, settings and units. Rules are the same when ours has the id of theirs among its references.
//! Needs root, debootstrap and the package mirror; not part of CI.

use crate::{Outcome, target_directory, workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use system::process::{is_root, run as checked};

#[derive(clap::Args)]
pub struct Options {
    /// Profile of the SCAP content.
    #[arg(long, default_value = "cis_level2_server")]
    profile: String,
    /// SCAP content, as the tree has it.
    #[arg(long, default_value = "/usr/share/xml/scap/ssg/content/ssg-ubuntu2204-ds.xml")]
    content: String,
    /// Our rule set.
    #[arg(long, default_value = "cis-ubuntu2204")]
    set: String,
    /// Print every rule that both judged, not only those they disagree about.
    #[arg(long)]
    all: bool,
}

/// What the tree has beyond Debian's smallest set: what a server has, and what the benchmark is about.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,login,passwd,procps,kmod,iproute2,openssh-server,sudo,auditd,cron,rsyslog,\
libpam-pwquality,libpam-runtime,ufw,apparmor,logrotate,openscap-scanner,ssg-debderived,nftables,e2fsprogs,time";
const LSB_RELEASE: &str = "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=22.04\nDISTRIB_CODENAME=jammy\n";
const OS_RELEASE: &str = "ID=ubuntu\nID_LIKE=debian\nNAME=Ubuntu\nVERSION_ID=\"22.04\"\nPRETTY_NAME=\"Ubuntu 22.04 (in fact Debian 12)\"\n";
/// What an administrator does who follows OpenSCAP's content; docs/compare-openscap.md has the reason for each line.
const ADMINISTER: &str = r#"
for key in net.ipv6.conf.all.accept_source_route net.ipv6.conf.all.forwarding net.ipv6.conf.default.accept_source_route \
    net.ipv4.conf.all.accept_source_route net.ipv4.icmp_echo_ignore_broadcasts \
    net.ipv4.icmp_ignore_bogus_error_responses net.ipv4.tcp_syncookies net.ipv4.ip_forward kernel.randomize_va_space
do sysctl "$key"; done > /etc/sysctl.d/60-compared.conf
mkdir -p /root/as-installed
cp -p /etc/shadow /etc/shadow- /etc/gshadow /etc/gshadow- /etc/ssh/sshd_config /root/as-installed/
printf '%s\n' 'HostbasedAuthentication no' 'PermitEmptyPasswords no' 'IgnoreRhosts yes' 'PermitUserEnvironment no' \
    'LogLevel INFO' >> /etc/ssh/sshd_config
cut -d: -f1 /etc/shadow | while read -r name; do chage -m 1 -M 365 "$name"; done
chmod 0000 /etc/shadow /etc/shadow- /etc/gshadow /etc/gshadow-
"#;
/// Takes it back: the tree is kept between runs.
const AS_INSTALLED: &str = r#"
rm -f /etc/sysctl.d/60-compared.conf
if [ -d /root/as-installed ]; then
    mv /root/as-installed/sshd_config /etc/ssh/
    mv /root/as-installed/* /etc/
    rmdir /root/as-installed
fi
"#;
/// Agreement that we promise, in per cent of the rules that both judged.
const GOAL_PERCENT: f64 = 97.0;
const BOOT_TIMEOUT: Duration = Duration::from_secs(90);
/// Where every disagreement is explained, a line with the rule's id for each.
const EXPLANATIONS: &str = "docs/compare-openscap.md";

pub fn run(options: &Options) -> Outcome {
    if !is_root() {
        return Err("compare-openscap boots a Debian tree and needs root for that".into());
    }
    checked(
        Command::new("cargo")
            .args(["build", "--release", "--locked", "-p", "nanoprobe"])
            .current_dir(workspace()),
    )?;
    let tree = tree()?;
    let program = target_directory().join("release/nanoprobe");
    fs::copy(&program, tree.join("usr/sbin/nanoprobe")).map_err(|e| format!("{}: {e}", program.display()))?;
    let booted = Booted::boot(&tree)?;
    let explained = fs::read_to_string(workspace().join(EXPLANATIONS)).unwrap_or_default();
    checked(&mut booted.command("sh", &["-ec", AS_INSTALLED]))?;
    let installed = judged(&booted, &tree, options)?;
    installed.print("The host as it was installed", &explained, options.all);
    administer(&booted)?;
    let written = judged(&booted, &tree, options)?;
    written.print("The same host, what is built in written down", &explained, options.all);
    match installed.comparison.unexplained(&explained).as_slice() {
        [] => written.comparison.verdict(&explained),
        rules => Err(format!("not explained in {EXPLANATIONS}: {}", rules.join(", "))),
    }
}

/// What both say about the host, and what it cost them.
struct Judged {
    comparison: Comparison,
    theirs: Ran,
    ours: Ran,
}

impl Judged {
    fn print(&self, title: &str, explained: &str, all: bool) {
        println!("\n# {title}");
        report(&self.comparison, explained, all);
        println!("\n{:<16} {:>10} {:>12}", "", "CPU s", "memory MB");
        for (name, cost) in [("OpenSCAP", &self.theirs), ("nanoprobe audit", &self.ours)] {
            println!("{name:<16} {:>10.2} {:>12.1}", cost.cpu_seconds, cost.memory_bytes as f64 / 1e6);
        }
    }
}

fn judged(booted: &Booted, tree: &Path, options: &Options) -> Result<Judged, String> {
    eprintln!("OpenSCAP judges (this takes a minute) ...");
    let results = tree.join("root/results.xml");
    let _ = fs::remove_file(&results);
    let theirs = booted.timed(&[
        "oscap",
        "xccdf",
        "eval",
        "--profile",
        &format!("xccdf_org.ssgproject.content_profile_{}", options.profile),
        "--results",
        "/root/results.xml",
        &options.content,
    ])?;
    let ours = booted.timed(&["nanoprobe", "audit", "--all", "-o", "json", "--set", &options.set])?;
    let text = fs::read_to_string(&results)
        .map_err(|e| format!("OpenSCAP left no results ({e}): {}", theirs.messages))?;
    let comparison = compare(&openscap_results(&text), &our_results(&ours.output)?);
    Ok(Judged { comparison, theirs, ours })
}

/// Writes down what is in effect anyway, and gives OpenSCAP's content what it wants beyond the benchmark: the
/// disagreements that are left are those about what the host is, not about whether a default counts.
fn administer(booted: &Booted) -> Outcome {
    checked(&mut booted.command("sh", &["-ec", ADMINISTER]))
}

/// The tree, made at the first use.
fn tree() -> Result<PathBuf, String> {
    let trees = target_directory().join("trees");
    let tree = trees.join("compare-openscap");
    if tree.is_dir() {
        return Ok(tree);
    }
    fs::create_dir_all(&trees).map_err(|e| format!("{}: {e}", trees.display()))?;
    let unfinished = trees.join("compare-openscap-unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    eprintln!("Building a Debian tree in {} ...", unfinished.display());
    checked(
        Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), "bookworm"])
            .arg(&unfinished),
    )?;
    for (path, text) in [("etc/lsb-release", LSB_RELEASE), ("usr/lib/os-release", OS_RELEASE)] {
        fs::write(unfinished.join(path), text).map_err(|e| format!("{path}: {e}"))?;
    }
    fs::rename(&unfinished, &tree).map_err(|e| format!("{}: {e}", tree.display()))?;
    Ok(tree)
}

/// A tree whose systemd runs, in namespaces of its own without a network; it ends when this is dropped.
struct Booted {
    outer: Child,
    /// Process 1 of the tree, as this machine numbers it.
    init: String,
    root: PathBuf,
}

/// A program that ran in the tree.
struct Ran {
    output: String,
    messages: String,
    cpu_seconds: f64,
    memory_bytes: u64,
}

impl Booted {
    fn boot(root: &Path) -> Result<Booted, String> {
        // systemd wants its root to be a mount point, and control groups that it may write to.
        let script = r#"mount --bind "$0" "$0" && mount --make-rprivate / && cd "$0" && mount -t proc proc proc &&
            mount -t sysfs sysfs sys && mount -t cgroup2 cgroup2 sys/fs/cgroup && mount -t tmpfs tmpfs run &&
            mount --rbind /dev dev && hostname compared && exec chroot . /sbin/init"#;
        let outer = Command::new("unshare")
            .args(["-m", "-p", "-f", "-n", "-u", "-i", "-C", "--kill-child", "sh", "-c", script])
            .arg(root)
            .env("container", "compared")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("unshare: {e}"))?;
        let mut booted = Booted { outer, init: String::new(), root: root.to_owned() };
        let started = Instant::now();
        while started.elapsed() < BOOT_TIMEOUT {
            std::thread::sleep(Duration::from_millis(500));
            if let Ok(Some(status)) = booted.outer.try_wait() {
                return Err(format!("the tree did not boot ({status})"));
            }
            let children = format!("/proc/{0}/task/{0}/children", booted.outer.id());
            booted.init = fs::read_to_string(children).unwrap_or_default().trim().to_owned();
            if booted.init.is_empty() {
                continue;
            }
            // Its exit status says the same less exactly: a tree like this is always degraded.
            let state = booted.command("systemctl", &["is-system-running"]).output();
            let state = state.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
            if matches!(state.as_deref(), Ok("running" | "degraded")) {
                return Ok(booted);
            }
        }
        Err(format!("systemd in {} was not up after {} s", root.display(), BOOT_TIMEOUT.as_secs()))
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        // -r and -w without a path: the root that process 1 has. A path would be looked up before the mount namespace
        // is entered, and lead beside the tree's own mounts.
        command
            .args(["-t", &self.init, "-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w", program])
            .args(arguments);
        command
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C");
        command
    }

    /// Runs a program and says what it cost, by time(1) of the tree. Any exit status will do: both tell by it.
    fn timed(&self, words: &[&str]) -> Result<Ran, String> {
        let mut arguments = vec!["-f", "%U %S %M", "-o", "/root/cost"];
        arguments.extend_from_slice(words);
        let output = self
            .command("/usr/bin/time", &arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("{}: {e}", words[0]))?;
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        let cost =
            fs::read_to_string(self.root.join("root/cost")).map_err(|e| format!("cost: {e}: {messages}"))?;
        // A line about the exit status comes before the figures.
        let figures: Vec<f64> =
            cost.lines().last().unwrap_or("").split(' ').filter_map(|word| word.parse().ok()).collect();
        let [user, system, kilobytes] = figures[..] else {
            return Err(format!("{} did not run: {cost} {messages}", words[0]));
        };
        Ok(Ran {
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            messages,
            cpu_seconds: user + system,
            memory_bytes: (kilobytes * 1024.0) as u64,
        })
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // unshare takes the whole tree of processes with it.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

/// Rule (without the prefix of its name) → result, from XCCDF results.
fn openscap_results(xml: &str) -> BTreeMap<String, String> {
    let mut results = BTreeMap::new();
    for part in xml.split("<rule-result ").skip(1) {
        let rule = part.split("content_rule_").nth(1).and_then(|rest| rest.split('"').next());
        let result = part.split("<result>").nth(1).and_then(|rest| rest.split('<').next());
        if let (Some(rule), Some(result)) = (rule, result)
            && result != "notselected"
        {
            results.insert(rule.to_owned(), result.to_owned());
        }
    }
    results
}

/// What we say about one of their rules.
#[derive(Debug, Clone, Default, PartialEq)]
struct Ours {
    /// Ids of our rules; several may be one of theirs.
    rules: Vec<String>,
    /// `fail` if one fails, else `pass` if one passes, else `NA`.
    status: String,
    found: String,
}

/// Rule of theirs → what ours say, from the JSON of `nanoprobe audit`.
fn our_results(json: &str) -> Result<BTreeMap<String, Ours>, String> {
    let rows: Vec<Value> = serde_json::from_str(json).map_err(|e| format!("nanoprobe audit: {e}"))?;
    let mut results: BTreeMap<String, Ours> = BTreeMap::new();
    for row in &rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        for theirs in row["references"]["cac"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let entry = results.entry(theirs.to_owned()).or_default();
            entry.rules.push(text("rule"));
            let rank = |status: &str| ["fail", "pass"].iter().position(|known| *known == status).unwrap_or(2);
            if entry.status.is_empty() || rank(&text("status")) < rank(&entry.status) {
                (entry.status, entry.found) = (text("status"), text("found"));
            }
        }
    }
    Ok(results)
}

#[derive(Debug, Default)]
struct Comparison {
    /// Both judged and say the same: rule, result.
    agreed: Vec<(String, String)>,
    /// Both judged: rule, theirs, ours.
    disagreed: Vec<(String, String, Ours)>,
    /// One of them did not judge.
    one_sided: Vec<(String, String, Ours)>,
    /// Rules of theirs that our set does not have.
    theirs_only: Vec<String>,
    both_open: usize,
}

fn compare(theirs: &BTreeMap<String, String>, ours: &BTreeMap<String, Ours>) -> Comparison {
    let mut comparison = Comparison::default();
    let judged = |status: &str| matches!(status, "pass" | "fail");
    for (rule, their) in theirs {
        let Some(our) = ours.get(rule) else {
            comparison.theirs_only.push(rule.clone());
            continue;
        };
        match (judged(their), judged(&our.status)) {
            (true, true) if *their == our.status => comparison.agreed.push((rule.clone(), their.clone())),
            (true, true) => comparison.disagreed.push((rule.clone(), their.clone(), our.clone())),
            (false, false) => comparison.both_open += 1,
            _ => comparison.one_sided.push((rule.clone(), their.clone(), our.clone())),
        }
    }
    comparison
}

impl Comparison {
    fn percent(&self) -> f64 {
        let both = self.agreed.len() + self.disagreed.len();
        if both == 0 { 0.0 } else { 100.0 * self.agreed.len() as f64 / both as f64 }
    }

    fn unexplained(&self, explained: &str) -> Vec<&str> {
        let rules = self.disagreed.iter().map(|(rule, ..)| rule.as_str());
        rules.filter(|rule| !explained.contains(&format!("`{rule}`"))).collect()
    }

    fn verdict(&self, explained: &str) -> Outcome {
        let unexplained = self.unexplained(explained);
        if self.percent() < GOAL_PERCENT {
            return Err(format!(
                "they agree on {:.1} % of the rules; the goal is {GOAL_PERCENT} %",
                self.percent()
            ));
        }
        match unexplained.as_slice() {
            [] => Ok(()),
            rules => Err(format!("not explained in {EXPLANATIONS}: {}", rules.join(", "))),
        }
    }
}

fn report(comparison: &Comparison, explained: &str, all: bool) {
    let line = |(rule, their, our): &(String, String, Ours)| {
        let known = if explained.contains(&format!("`{rule}`")) { "explained" } else { "NOT EXPLAINED" };
        println!(
            "  {rule}: OpenSCAP {their}, ours {} ({known}) {}",
            our.status,
            model::text::printable(&our.found)
        );
    };
    if all {
        println!("Both judged, and agree:");
        comparison.agreed.iter().for_each(|(rule, result)| println!("  {rule}: {result}"));
    }
    println!("Both judged, and disagree:");
    comparison.disagreed.iter().for_each(line);
    println!("Only one of them judged:");
    comparison.one_sided.iter().for_each(line);
    println!("Rules of OpenSCAP's profile that our set does not have: {}", comparison.theirs_only.join(", "));
    println!(
        "\nBoth judged {} rules and agree on {} ({:.1} %; goal {GOAL_PERCENT} %). Only one judged: {}. Neither: {}. Not ours: {}.",
        comparison.agreed.len() + comparison.disagreed.len(),
        comparison.agreed.len(),
        comparison.percent(),
        comparison.one_sided.len(),
        comparison.both_open,
        comparison.theirs_only.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_and_compared() {
        let rule = |name: &str, result: &str| {
            format!(
                "<rule-result idref=\"xccdf_org.ssgproject.content_rule_{name}\" weight=\"1\"><result>{result}</result><ident/></rule-result>"
            )
        };
        let xml: String = [
            ("a", "pass"),
            ("b", "fail"),
            ("c", "notapplicable"),
            ("d", "pass"),
            ("e", "notselected"),
            ("f", "error"),
        ]
        .iter()
        .map(|(name, result)| rule(name, result))
        .collect();
        let theirs = openscap_results(&xml);
        assert_eq!(theirs.len(), 5, "{theirs:?}");
        let json = r#"[{"rule": "a", "status": "pass", "found": "x", "references": {"cac": ["a"]}},
            {"rule": "b1", "status": "NA", "found": "y", "references": {"cac": ["b"]}},
            {"rule": "b2", "status": "pass", "found": "z", "references": {"cac": ["b"]}},
            {"rule": "c", "status": "fail", "found": "", "references": {"cac": ["c"]}},
            {"rule": "f", "status": "NA", "found": "", "references": {"cac": ["f"]}}]"#;
        let ours = our_results(json).unwrap();
        assert_eq!(
            ours["b"],
            Ours { rules: vec!["b1".into(), "b2".into()], status: "pass".into(), found: "z".into() }
        );
        let comparison = compare(&theirs, &ours);
        assert_eq!(comparison.agreed, [("a".to_owned(), "pass".to_owned())]);
        assert_eq!(comparison.disagreed.len(), 1);
        assert_eq!((comparison.one_sided.len(), comparison.both_open), (1, 1));
        assert_eq!(comparison.theirs_only, ["d"]);
        assert!((comparison.percent() - 50.0).abs() < 1e-9);
        assert_eq!(comparison.unexplained("see `b`"), Vec::<&str>::new());
        assert_eq!(comparison.unexplained(""), ["b"]);
        assert!(comparison.verdict("`b`").is_err());
        assert!(our_results("{").is_err());
    }
}

//! The files that set kernel parameters at boot: sysctl.d(5), /etc/sysctl.conf, and what ufw(8) sets when it starts.
//!
//! What is read in which order stands in the documentation of the discovery `sysctl_conf`; `proc_sys` uses the same.

use super::drop_ins::drop_ins;
use super::{Errors, Files, NotRead, lines, matches, quoted};
use crate::Host;
use std::collections::{BTreeMap, BTreeSet};

pub const DIRECTORIES: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
pub const SYSCTL_CONF: &str = "/etc/sysctl.conf";
/// With one of these, systemd applies the settings at boot; procps calls itself only elsewhere.
const SYSTEMD_SYSCTL: [&str; 2] = ["/usr/lib/systemd/systemd-sysctl", "/lib/systemd/systemd-sysctl"];
/// ufw is switched on in the first, names its file of settings in the second, and has the third when it names none.
const UFW_SWITCH: &str = "/etc/ufw/ufw.conf";
const UFW_DEFAULTS: &str = "/etc/default/ufw";
const UFW_SYSCTL: &str = "/etc/ufw/sysctl.conf";
/// Each costs a comparison with every setting there is; no real host has more than a handful.
const MAX_PATTERNS: usize = 100;

/// An assignment that wins: its text and its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    pub value: String,
    pub file: String,
}

/// The assignments of all files. Names are paths below /proc/sys.
#[derive(Debug, Default)]
pub struct Settings {
    pub plain: BTreeMap<String, Assignment>,
    /// In the order of their last assignment: a later one overrules.
    patterns: Vec<(String, Assignment)>,
    /// Names that patterns shall not touch.
    excluded: BTreeSet<String>,
    /// How many files were read.
    pub files: usize,
    /// A file with settings that nothing reads at boot.
    pub not_read: Option<&'static str>,
}

impl Settings {
    /// What the host's files say, in the order in which they are applied at boot.
    pub fn of(host: &Host, errors: &mut Errors) -> Settings {
        let mut settings = Settings::default();
        for file in drop_ins(host, &DIRECTORIES, ".conf", errors) {
            settings.read(host, &file, errors);
        }
        settings.read_sysctl_conf(host, errors);
        settings.read_ufw(host, errors);
        settings
    }

    fn read(&mut self, host: &Host, file: &str, errors: &mut Errors) {
        match host.text(file) {
            Ok(text) => {
                self.files += 1;
                self.add(&text, file, errors);
            }
            Err(reason) => errors.unread(&reason),
        }
    }

    /// Not systemd's affair, unless a link in sysctl.d leads there; then it was read under that name.
    fn read_sysctl_conf(&mut self, host: &Host, errors: &mut Errors) {
        let text = match host.text(SYSCTL_CONF) {
            Ok(text) => text,
            Err(NotRead { absent: true, .. }) => return,
            Err(reason) => return errors.unread(&reason),
        };
        if !SYSTEMD_SYSCTL.iter().any(|program| host.stat(program).is_ok()) {
            self.files += 1;
            return self.add(&text, SYSCTL_CONF, errors);
        }
        let mut alone = Settings::default();
        alone.add(&text, SYSCTL_CONF, errors);
        let is_linked = DIRECTORIES.iter().any(|directory| {
            host.read_link(&format!("{directory}/99-sysctl.conf"))
                .is_ok_and(|target| target.ends_with("sysctl.conf"))
        });
        let says_something = !alone.plain.is_empty() || !alone.patterns.is_empty();
        if !is_linked && says_something {
            self.not_read = Some(SYSCTL_CONF);
        }
    }

    /// ufw has a file of settings of its own, which it applies when it starts, after everybody else.
    fn read_ufw(&mut self, host: &Host, errors: &mut Errors) {
        let is_on = shell_variable(host, UFW_SWITCH, "ENABLED", errors)
            .is_some_and(|value| value.eq_ignore_ascii_case("yes"));
        if !is_on {
            return;
        }
        let named = shell_variable(host, UFW_DEFAULTS, "IPT_SYSCTL", errors);
        let file = named.filter(|path| path.starts_with('/')).unwrap_or_else(|| UFW_SYSCTL.to_owned());
        match host.text(&file) {
            Ok(text) => {
                self.files += 1;
                self.add(&text, &file, errors);
            }
            Err(NotRead { absent: true, .. }) => {}
            Err(reason) => errors.unread(&reason),
        }
    }

    pub fn add(&mut self, text: &str, file: &str, errors: &mut Errors) {
        for (number, line) in lines(text, file, errors) {
            let line = line.trim();
            if line.starts_with(['#', ';']) {
                continue;
            }
            let (name, value) = match line.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None if line.starts_with('-') => (line, None),
                None => {
                    errors.at(file, number, format_args!("{} has no '='", quoted(line)));
                    continue;
                }
            };
            let name = name.strip_prefix('-').unwrap_or(name).trim();
            let Some(path) = path_of(name) else {
                errors.at(file, number, format_args!("{} is not the name of a setting", quoted(name)));
                continue;
            };
            // Each line replaces what was said of that name before.
            self.patterns.retain(|(pattern, _)| *pattern != path);
            let Some(value) = value else {
                self.plain.remove(&path);
                self.excluded.insert(path);
                continue;
            };
            self.excluded.remove(&path);
            let assignment = Assignment { value: value.to_owned(), file: file.to_owned() };
            if path.contains(['*', '?', '[']) {
                if self.patterns.len() < MAX_PATTERNS {
                    self.patterns.push((path, assignment));
                } else {
                    errors.at(
                        file,
                        number,
                        format_args!("more than {MAX_PATTERNS} patterns, it is left out"),
                    );
                }
            } else {
                self.plain.insert(path, assignment);
            }
        }
    }

    /// Puts what patterns stand for beside what is set by name, which wins wherever it stands. `existing` gives the
    /// settings that fit a pattern; `None` where nobody knows them: then the pattern stays.
    pub fn expand(&mut self, existing: &dyn Fn(&str) -> Option<Vec<String>>) {
        let mut expanded = BTreeMap::new();
        for (pattern, assignment) in self.patterns.drain(..) {
            for path in existing(&pattern).unwrap_or_else(|| vec![pattern]) {
                if !self.plain.contains_key(&path) && !self.excluded.contains(&path) {
                    expanded.insert(path, assignment.clone());
                }
            }
        }
        self.plain.extend(expanded);
    }
}

/// Whether a path below /proc/sys fits a pattern; no `*` reaches beyond one part.
pub fn fits(pattern: &str, path: &str) -> bool {
    // Most paths differ in the letters before the first special character.
    let literal = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
    if !path.starts_with(&pattern[..literal]) {
        return false;
    }
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if matches(pattern, part) => {}
            _ => return false,
        }
    }
}

/// Keys that the kernel keeps to itself; nobody is told them, wherever they were found.
pub fn is_secret(path: &str) -> bool {
    ["stable_secret", "tcp_fastopen_key", "netdev_rss_key"].iter().any(|name| path.ends_with(name))
}

/// The last value of a variable in a file of plain assignments, without its quotes.
fn shell_variable(host: &Host, file: &str, name: &str, errors: &mut Errors) -> Option<String> {
    let text = match host.text(file) {
        Ok(text) => text,
        Err(reason) => {
            if !reason.absent {
                errors.unread(&reason);
            }
            return None;
        }
    };
    lines(&text, file, errors).into_iter().rev().find_map(|(_, line)| {
        let value = line.trim().strip_prefix(name)?.strip_prefix('=')?;
        Some(value.trim().trim_matches(['"', '\'']).to_owned())
    })
}

/// A name as path below /proc/sys. The first separator decides which of `/` and `.` separates; the other one is then
/// part of a name, so `net.ipv4.conf.eth0/100.rp_filter` and `net/ipv4/conf/eth0.100/rp_filter` are the same.
fn path_of(name: &str) -> Option<String> {
    let legal = |c: char| !c.is_whitespace() && !c.is_control();
    if name.is_empty() || name.len() > 512 || !name.chars().all(legal) || !name.contains(['/', '.']) {
        return None;
    }
    let dots_first = name.find(['/', '.']).is_some_and(|at| name.as_bytes().get(at) == Some(&b'.'));
    let path = if dots_first { exchanged(name) } else { name.to_owned() };
    let path = path.trim_matches('/').to_owned();
    let inside = path.contains('/') && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    inside.then_some(path)
}

/// sysctl.d(5): between a path and a dotted name, `/` and `.` change places.
pub fn exchanged(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            '/' => '.',
            '.' => '/',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_in_two_ways() {
        assert_eq!(
            path_of("net.ipv4.conf.eth0/100.rp_filter").as_deref(),
            Some("net/ipv4/conf/eth0.100/rp_filter")
        );
        assert_eq!(
            path_of("net/ipv4/conf/eth0.100/rp_filter").as_deref(),
            Some("net/ipv4/conf/eth0.100/rp_filter")
        );
        assert_eq!(path_of("kernel.sysrq").as_deref(), Some("kernel/sysrq"));
        for bad in ["", "sysrq", "kernel..x", "../../etc/passwd", "a b.c", "kernel/../x", "/"] {
            assert_eq!(path_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pattern_fits_part_by_part() {
        let pattern = "net/ipv4/conf/*/rp_filter";
        assert!(fits(pattern, "net/ipv4/conf/eth0.100/rp_filter"));
        for other in [
            "net/ipv4/conf/a/b/rp_filter",
            "net/ipv4/conf/a/rp_filter/x",
            "net/ipv4/conf",
            "net/ipv6/conf/a/rp_filter",
        ] {
            assert!(!fits(pattern, other), "{other}");
        }
        assert!(fits("net/ipv4/conf/et[gh]0/rp_filter", "net/ipv4/conf/eth0/rp_filter"));
    }

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let tree = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::at(tree.path());
        (tree, host)
    }

    fn settings(files: &[(&str, &str)]) -> Settings {
        let (_tree, host) = host(files);
        let mut errors = Errors::default();
        let settings = Settings::of(&host, &mut errors);
        assert_eq!(errors.into_list(), [""; 0]);
        settings
    }

    #[test]
    fn a_firewall_that_is_switched_on_has_the_last_word() {
        let martians = |files: &[(&str, &str)]| {
            let found = settings(files);
            found.plain.get("net/ipv4/conf/all/log_martians").map(|set| (set.value.clone(), set.file.clone()))
        };
        let own = ("etc/sysctl.d/60-a.conf", "net.ipv4.conf.all.log_martians = 1\n");
        let of_ufw = ("etc/ufw/sysctl.conf", "net/ipv4/conf/all/log_martians=0\n");
        let (one, zero) = (("1".to_owned(), "/etc/sysctl.d/60-a.conf".to_owned()), "0".to_owned());
        assert_eq!(martians(&[own, of_ufw]), Some(one.clone()), "not installed");
        assert_eq!(
            martians(&[own, of_ufw, ("etc/ufw/ufw.conf", "#ENABLED=yes\nENABLED=no\n")]),
            Some(one.clone())
        );
        let on = ("etc/ufw/ufw.conf", "LOGLEVEL=low\nENABLED=\"Yes\"\n");
        assert_eq!(martians(&[own, of_ufw, on]), Some((zero.clone(), "/etc/ufw/sysctl.conf".into())));
        let elsewhere = ("etc/default/ufw", "IPT_SYSCTL=/etc/elsewhere.conf\n");
        assert_eq!(martians(&[own, of_ufw, on, elsewhere]), Some(one));
        let there = ("etc/elsewhere.conf", "net/ipv4/conf/all/log_martians=0\n");
        assert_eq!(martians(&[own, on, elsewhere, there]), Some((zero, "/etc/elsewhere.conf".into())));
    }

    #[test]
    fn patterns_beyond_the_bound_are_left_out_and_told() {
        let text: String = (0..100_000).map(|n| format!("net.ipv4.conf.a{n}*.rp_filter = 1\n")).collect();
        let mut errors = Errors::default();
        let mut settings = Settings::default();
        settings.add(&text, "/etc/sysctl.d/a.conf", &mut errors);
        settings.expand(&|_| None);
        assert_eq!(settings.plain.len(), MAX_PATTERNS);
        let first = &errors.into_list()[0];
        assert!(first.starts_with("/etc/sysctl.d/a.conf line 101: more than 100 patterns"), "{first}");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let (tree, host) = host(&[]);
        for directory in ["etc/sysctl.conf", "etc/ufw/ufw.conf", "etc/sysctl.d/a.conf"] {
            std::fs::create_dir_all(tree.path().join(directory)).unwrap();
        }
        let mut errors = Errors::default();
        assert_eq!(Settings::of(&host, &mut errors).files, 0);
        let errors = errors.into_list();
        assert_eq!(errors.len(), 3, "{errors:?}");
        for (error, file) in
            errors.iter().zip(["/etc/sysctl.d/a.conf", "/etc/sysctl.conf", "/etc/ufw/ufw.conf"])
        {
            assert!(error.contains(file), "{error}");
        }
    }
}

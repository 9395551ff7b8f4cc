//! The permanent kernel settings: what the files of sysctl.d(5) set at the next boot, and where the running kernel
//! has something else. The running values themselves are the discovery `proc_sys`.
//!
//! Read are `*.conf` of `/etc/sysctl.d`, `/run/sysctl.d`, `/usr/local/lib/sysctl.d`, `/usr/lib/sysctl.d` and
//! `/lib/sysctl.d`: of files with one name that of the first directory, a link to /dev/null masks, the rest in order
//! of name, the last assignment wins. `/etc/sysctl.conf` comes last where procps applies the settings; systemd-sysctl
//! does not read it unless a link in sysctl.d leads to it. Where ufw is switched on, the file that `IPT_SYSCTL` of
//! `/etc/default/ufw` names (`/etc/ufw/sysctl.conf`) is applied after all of them.
//!
//! | member | meaning |
//! |---|---|
//! | `<setting>` | the value as `proc_sys` would have it: a number, a list of numbers, a text. All contain a dot |
//! | `from` | setting → the file whose assignment wins |
//! | `differs` | setting → `{"file", "permanent", "running"}` where the kernel has another value now |
//! | `unknown` | settings that this kernel does not have (a module is not loaded, a misspelling) |
//! | `not_read` | `/etc/sysctl.conf` when it has settings and nothing reads it at boot |
//!
//! `/` and `.` separate names as in sysctl(8). A `-` before a name only means that a failure does not matter. Patterns
//! such as `net.ipv4.conf.*.rp_filter` stand for what the running kernel has and is not set by name; a `-name`
//! without value takes names out of patterns. In a file tree they stay patterns. Secrets are `***`.
//! ```json
//! {"kernel.sysrq":438,"from":{"kernel.sysrq":"/usr/lib/sysctl.d/50-default.conf"},
//!  "differs":{"kernel.sysrq":{"file":"/usr/lib/sysctl.d/50-default.conf","permanent":438,"running":1}}}
//! ```

use super::proc_sys::{is_skipped, value_of};
use crate::parse::presence::not_there;
use crate::parse::sysctl_files::{Settings, exchanged, is_secret};
use crate::parse::{self, Errors};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "sysctl_conf",
    description: "Permanent kernel settings, and where the running kernel differs",
    documentation: documentation::SYSCTL_CONF,
    parameters: &[],
    instances: &[Instance { name: "_init_sysctl_conf", parameters: &[], schedule: None }],
    // The files are watched; the running values are compared at each pass.
    schedule: Schedule { repeat_seconds: 300, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const PROC_SYS: &str = "/proc/sys";
const MAX_VALUE_BYTES: u64 = 4096;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let mut settings = Settings::of(host, &mut errors);
    let errors = errors.into_list();
    if settings.files == 0 && errors.is_empty() && settings.not_read.is_none() {
        return not_there("no file sets kernel settings: there is nothing in /etc/sysctl.d");
    }
    settings.expand(&|pattern| existing(host, pattern));
    let running = |path: &str| running_value(host, path);
    let mut data = document(&settings, if host.is_running_system() { Some(&running) } else { None });
    if let Some(file) = settings.not_read {
        data.insert("not_read".into(), file.into());
    }
    parse::collected((Value::Object(data), errors))
}

/// The settings of the running kernel that fit a pattern. A file tree has no kernel: the pattern stays.
fn existing(host: &Host, pattern: &str) -> Option<Vec<String>> {
    if !host.is_running_system() {
        return None;
    }
    let found = parse::glob(host, &format!("{PROC_SYS}/{pattern}")).ok()?;
    Some(
        found
            .iter()
            .filter_map(|path| path.strip_prefix("/proc/sys/"))
            .filter(|path| host.stat(&format!("{PROC_SYS}/{path}")).is_ok())
            .map(str::to_owned)
            .collect(),
    )
}

/// `None`: this kernel has no such setting. An empty text where nobody can read it.
fn running_value(host: &Host, path: &str) -> Option<String> {
    match host.read_at_most(&format!("{PROC_SYS}/{path}"), MAX_VALUE_BYTES) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).trim().to_owned()),
        Err(error) if error.is_missing() => None,
        Err(_) => Some(String::new()),
    }
}

/// Tells the value that a setting has in the running kernel, by its path.
type Running<'a> = &'a dyn Fn(&str) -> Option<String>;

fn document(settings: &Settings, running: Option<Running<'_>>) -> Map<String, Value> {
    let (mut data, mut from, mut differs, mut unknown) = (Map::new(), Map::new(), Map::new(), Vec::new());
    for (path, assignment) in &settings.plain {
        let key = exchanged(path);
        let value = |text: &str| value_of(path, text).unwrap_or_else(|| "".into());
        // What the kernel itself changes, and what it hides, need not be compared.
        let comparable = !is_skipped(path);
        data.insert(key.clone(), if is_secret(path) { "***".into() } else { value(&assignment.value) });
        from.insert(key.clone(), assignment.file.as_str().into());
        let Some(now) = running.map(|running| running(path)) else { continue };
        match now {
            None => unknown.push(Value::from(key)),
            Some(now) if comparable && !now.is_empty() && value(&now) != value(&assignment.value) => {
                let difference =
                    json!({"file": assignment.file, "permanent": data[&key], "running": value(&now)});
                differs.insert(key, difference);
            }
            Some(_) => {}
        }
    }
    for (name, map) in [("from", from), ("differs", differs)] {
        if !map.is_empty() {
            data.insert(name.into(), Value::Object(map));
        }
    }
    if !unknown.is_empty() {
        data.insert("unknown".into(), Value::Array(unknown));
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, collect};

    fn document(text: &str, running: &[(&str, &str)]) -> (Value, Vec<String>) {
        let mut errors = Errors::default();
        let mut settings = Settings::default();
        settings.add(text, "/etc/sysctl.d/a.conf", &mut errors);
        let of_kernel =
            |path: &str| running.iter().find(|(name, _)| *name == path).map(|(_, value)| (*value).to_owned());
        settings.expand(&|pattern| {
            let prefix = pattern.split('*').next().unwrap_or("");
            let suffix = pattern.rsplit('*').next().unwrap_or("");
            let fits = |name: &&str| name.starts_with(prefix) && name.ends_with(suffix);
            Some(running.iter().map(|(name, _)| *name).filter(fits).map(str::to_owned).collect())
        });
        (Value::Object(super::document(&settings, Some(&of_kernel))), errors.into_list())
    }

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn the_last_assignment_wins_and_differences_are_told() {
        let text =
            "kernel.sysrq = 0\n-kernel/sysrq=16\n; c\nnet.ipv4.tcp_rmem = 4096  87380 6291456\nno.such = 1\n";
        let (data, errors) =
            document(text, &[("kernel/sysrq", "438"), ("net/ipv4/tcp_rmem", "4096\t87380\t6291456")]);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(data["kernel.sysrq"], 16);
        assert_eq!(data["net.ipv4.tcp_rmem"], json!([4096, 87380, 6_291_456]));
        let difference = json!({"file": "/etc/sysctl.d/a.conf", "permanent": 16, "running": 438});
        assert_eq!(data["differs"], json!({"kernel.sysrq": difference}));
        assert_eq!(data["unknown"], json!(["no.such"]));
    }

    #[test]
    fn patterns_stand_for_what_is_there_and_not_named() {
        let text =
            "net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.wg0.rp_filter\nnet.ipv4.conf.lo.rp_filter = 0\n";
        let names = ["all", "eth0", "lo", "wg0"].map(|name| format!("net/ipv4/conf/{name}/rp_filter"));
        let running: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "2")).collect();
        let (data, _) = document(text, &running);
        assert_eq!(data["net.ipv4.conf.all.rp_filter"], 2);
        assert_eq!(data["net.ipv4.conf.lo.rp_filter"], 0);
        assert!(data.get("net.ipv4.conf.wg0.rp_filter").is_none());
        assert_eq!(data["differs"]["net.ipv4.conf.lo.rp_filter"]["running"], 2);
    }

    #[test]
    fn a_name_without_value_takes_back_what_was_said_of_it() {
        let running = [("kernel/panic", "7"), ("kernel/sysrq", "1")];
        let (data, _) = document(
            "kernel.panic = 5\nkernel.sysrq = 0\n-kernel.panic\n-kernel.sysrq\nkernel.sysrq = 16\n",
            &running,
        );
        assert!(data.get("kernel.panic").is_none(), "{data}");
        assert_eq!(data["kernel.sysrq"], 16);
    }

    #[test]
    fn secrets_are_not_told() {
        let (data, _) =
            document("net.ipv4.tcp_fastopen_key = 1-2-3-4\n", &[("net/ipv4/tcp_fastopen_key", "5-6-7-8")]);
        assert_eq!(data["net.ipv4.tcp_fastopen_key"], "***");
        assert!(!data.to_string().contains("5-6"), "{data}");
        // Changed by the kernel under load, but nothing to hide.
        let (data, _) =
            document("kernel.perf_event_max_sample_rate=1\n", &[("kernel/perf_event_max_sample_rate", "9")]);
        assert_eq!(
            data,
            json!({"kernel.perf_event_max_sample_rate": 1, "from": {"kernel.perf_event_max_sample_rate": "/etc/sysctl.d/a.conf"}})
        );
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (data, errors) = document("kernel.sysrq 1\n= 2\nx = 1\n\nkernel.panic = 5\n", &[]);
        assert_eq!(data["kernel.panic"], 5);
        let expected = [
            "/etc/sysctl.d/a.conf line 1: 'kernel.sysrq 1' has no '='",
            "/etc/sysctl.d/a.conf line 2: '' is not the name of a setting",
            "/etc/sysctl.d/a.conf line 3: 'x' is not the name of a setting",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn the_old_file_counts_without_systemd_only() {
        let old = [("/etc/sysctl.conf", b"kernel.panic = 5\n".as_slice())];
        assert_eq!(collect(&DISCOVERY, &old).data["kernel.panic"], 5);
        let with_systemd = [old[0], ("/usr/lib/systemd/systemd-sysctl", b"")];
        assert_eq!(collect(&DISCOVERY, &with_systemd).data, json!({"not_read": "/etc/sysctl.conf"}));
        assert!(
            collect(&DISCOVERY, &[("/etc/x", b"")]).data["NODATA"]
                .as_str()
                .unwrap()
                .contains("/etc/sysctl.d")
        );
    }

    #[test]
    fn hostile_texts() {
        let tokens = &["kernel", ".", "/", "=", "-", "*", "\n", " ", "#", "1", "ä", "net"];
        check_any_text("/etc/sysctl.d/a.conf", tokens, |text| document(text, &[("kernel/sysrq", "1")]));
    }
}

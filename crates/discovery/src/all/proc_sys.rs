//! Kernel settings: what sysctl(8) shows, read from /proc/sys (proc_sys(5), sysctl.d(5)).
//!
//! `data` = dotted path → integer | list of integers | text: `net.ipv4.ip_forward` → `0`, `kernel.printk` → `[4,4,1,7]`,
//! `kernel.core_pattern` → `"core"`. A dot within a name becomes `/`, as sysctl(8) writes it
//! (`net.ipv4.conf.eth0/100.rp_filter`). Numbers beyond 64 bits stay text, negative ones are numbers.
//!
//! | path | value |
//! |---|---|
//! | `net.core.flow_limit_cpu_bitmap`, `net.core.rps_default_mask` | list of hexadecimal texts |
//! | `sunrpc.transports` | object name → port or size |
//! | `fs.binfmt_misc.<format>` | object with `enabled`, `interpreter`, `flags`, `offset`, `magic`, `mask`, `extension` |
//! | `_configured` | object: dotted path → the value that the files of sysctl.d(5) set at the next boot, see `sysctl_conf`. Only what they name is in it; a secret is `***` |
//!
//! So a rule can ask for both: what is in effect (`$net.ipv4.ip_forward`), and what will be after the next boot
//! (`$_configured.net.ipv4.ip_forward`). `_configured` is absent in a container that no init system boots, where
//! nothing reads these files, and where another directory than /proc/sys is looked at.
//!
//! Left out: empty (but for `kernel.core_pattern`) and write-only files, values that change by themselves, and secrets (the constant `SKIPPED`
//! gives the reason for each). The directories are watched, those of the files too: a `sysctl -w` is seen at once.
//! ```json
//! {"kernel.randomize_va_space":2,"net.ipv4.tcp_rmem":[4096,131072,6291456],"vm.overcommit_ratio":50,
//!  "_configured":{"kernel.randomize_va_space":2}}
//! ```

use crate::parse::Errors;
use crate::parse::container::container_of;
use crate::parse::presence::any_exists;
use crate::parse::sysctl_files::{self, Settings, exchanged, is_secret};
use crate::{
    Collected, Directory, DirectoryEntry, Discovery, Host, Instance, Kind, Parameter, Parameters, Problem,
    Schedule, Trigger, documentation, no_graph,
};
use serde_json::{Map, Value};

pub static DISCOVERY: Discovery = Discovery {
    name: "proc_sys",
    description: "Kernel settings below /proc/sys",
    documentation: documentation::PROC_SYS,
    parameters: &[Parameter {
        name: DIRECTORY,
        meaning: "Directory to start at; names are counted from /proc/sys, or from it when it lies elsewhere",
        default: PROC_SYS,
    }],
    instances: &[Instance { name: "_auto_proc_sys", parameters: &[], schedule: None }],
    // Changes by the kernel itself and from other mounts of /proc are not seen by inotify; a pass costs a few
    // milliseconds of CPU.
    schedule: Schedule::DEFAULT,
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const DIRECTORY: &str = "ASSIM_discoverdir";
const PROC_SYS: &str = "/proc/sys";
/// What the files configure. No setting has such a name: all contain a dot.
const CONFIGURED: &str = "_configured";
/// Made by an init system that boots this host, and applies the files while it does.
const BOOTED_BY: [&str; 2] = ["/run/systemd/system", "/run/openrc"];
/// A sysctl handler writes at most a page; bitmaps of ports reach 64 KiB.
const MAX_VALUE_BYTES: usize = 64 * 1024;
const MAX_VALUES: usize = 100_000;
const MAX_TOTAL_BYTES: usize = 8 * 1024 * 1024;
const MAX_DEPTH: usize = 32;
/// Files named in the error about unreadable ones.
const NAMED: usize = 5;

/// Paths below /proc/sys that are not reported, with the reason. `*` stands for any run of characters.
const SKIPPED: &[(&str, &str)] = &[
    ("dev/cdrom/info", "a report about drives, no setting"),
    ("fs/*-nr", "counts open files, inodes and requests"),
    ("fs/*-state", "counts inodes and directory entries"),
    ("fs/quota/*", "counts quota operations"),
    ("kernel/hung_task_detect_count", "counts hung tasks"),
    ("kernel/ns_last_pid", "the last process id"),
    ("kernel/perf_event_max_sample_rate", "the kernel lowers it by itself under load"),
    ("kernel/pty/nr", "counts terminals"),
    ("kernel/random/*", "entropy, and a new number at each read"),
    ("kernel/sched_domain/*", "the scheduler's own measurements"),
    ("kernel/*_cost_ns", "the scheduler's own measurements"),
    ("net/netfilter/nf_conntrack_count", "counts connections"),
    ("net/nf_conntrack_count", "counts connections"),
    ("kernel/spl/kmem/*", "counts memory of ZFS"),
    ("net/core/netdev_rss_key", "a secret, new at each boot"),
    ("net/ipv4/tcp_fastopen_key", "a secret"),
    ("net/ipv6/conf/*/stable_secret", "a secret"),
    ("*/register", "write-only"),
    ("net/*/flush", "write-only: empties a cache"),
    ("vm/compact_memory", "write-only: starts work"),
    ("vm/drop_caches", "write-only in effect: tells what was written last"),
    ("vm/stat_refresh", "reading it starts work on every processor"),
];

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    let start = parameters.get(DIRECTORY).map_or(PROC_SYS, String::as_str).trim_end_matches('/');
    // What sysctl(8) calls a setting is counted from /proc/sys wherever the walk starts.
    let below = start.strip_prefix(PROC_SYS).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let prefix = below.unwrap_or("").trim_start_matches('/');
    let directory = match host.directory(start) {
        Ok(directory) => directory,
        Err(error) => return Collected::unreadable(&error),
    };
    let mut walk = Walk {
        path: prefix.to_owned(),
        buffer: vec![0; MAX_VALUE_BYTES],
        data: Map::new(),
        bytes: 0,
        denied: Vec::new(),
        errors: Vec::new(),
    };
    walk.directory(&directory, 0);
    if below == Some("") && is_booted(host) {
        walk.configured(host);
    }
    walk.finish(start)
}

/// Whether anything applies the files when this host starts. A machine of any kind is taken to do so.
fn is_booted(host: &Host) -> bool {
    // Not `host` itself: as long as it runs, a container stays one, so what tells it need not be watched.
    let unwatched = host.another();
    any_exists(&unwatched, &BOOTED_BY) || container_of(&unwatched).is_none()
}

struct Walk {
    /// Below /proc/sys, with `/`.
    path: String,
    buffer: Vec<u8>,
    data: Map<String, Value>,
    bytes: usize,
    denied: Vec<String>,
    errors: Vec<String>,
}

impl Walk {
    fn directory(&mut self, directory: &Directory<'_>, depth: usize) {
        let entries = match directory.entries() {
            Ok(entries) => entries,
            Err(error) => return self.errors.push(error.to_string()),
        };
        let length = self.path.len();
        for entry in &entries {
            if !self.path.is_empty() {
                self.path.push('/');
            }
            self.path.push_str(&entry.name());
            self.entry(directory, entry, depth);
            self.path.truncate(length);
        }
    }

    fn entry(&mut self, directory: &Directory<'_>, entry: &DirectoryEntry, depth: usize) {
        if is_skipped(&self.path) || self.is_full() {
            return;
        }
        match entry.kind() {
            // A mount that happens only when somebody looks (fs/binfmt_misc under systemd) is left alone.
            Kind::Directory if self.path == "fs/binfmt_misc" && directory.is_automount(entry.raw()) => {}
            Kind::Directory if depth < MAX_DEPTH => match directory.subdirectory(entry.raw()) {
                Ok(below) => self.directory(&below, depth + 1),
                Err(error) if error.is_missing() => {}
                Err(error) => self.errors.push(error.to_string()),
            },
            Kind::Regular | Kind::Unknown => self.file(directory, entry),
            _ => {}
        }
    }

    fn file(&mut self, directory: &Directory<'_>, entry: &DirectoryEntry) {
        match directory.read_into(entry.raw(), &mut self.buffer) {
            Ok(Some(content)) => {
                let text = String::from_utf8_lossy(content);
                if let Some(value) = value_of(&self.path, text.trim_end_matches('\0').trim()) {
                    self.bytes += self.path.len() + content.len();
                    self.data.insert(exchanged(&self.path), value);
                }
            }
            Ok(None) => self.errors.push(format!(
                "{}: longer than {MAX_VALUE_BYTES} bytes: it is left out",
                directory.path_of(entry.raw())
            )),
            Err(Problem::Denied) if is_readable_by_somebody(directory, entry) => {
                self.denied.push(exchanged(&self.path))
            }
            // Gone with its interface, not meant to be read, or without a value now (EIO, EINVAL).
            Err(_) => {}
        }
    }

    /// Adds what the files will set. Patterns stand for settings that the walk has met.
    fn configured(&mut self, host: &Host) {
        let mut errors = Errors::default();
        let mut settings = Settings::of(host, &mut errors);
        self.errors.extend(errors.into_list());
        settings.expand(&|pattern| {
            let paths = self.data.keys().map(|name| exchanged(name));
            Some(paths.filter(|path| sysctl_files::fits(pattern, path)).collect())
        });
        let mut configured = Map::new();
        for (path, set) in &settings.plain {
            if self.is_full() {
                break;
            }
            self.bytes += path.len() + set.value.len();
            let value = || value_of(path, &set.value).unwrap_or_else(|| "".into());
            configured.insert(exchanged(path), if is_secret(path) { "***".into() } else { value() });
        }
        self.data.insert(CONFIGURED.into(), Value::Object(configured));
    }

    fn is_full(&self) -> bool {
        self.data.len() >= MAX_VALUES || self.bytes >= MAX_TOTAL_BYTES
    }

    fn finish(mut self, start: &str) -> Collected {
        if self.is_full() {
            self.errors.push(format!(
                "{start}: more than {MAX_VALUES} values or {MAX_TOTAL_BYTES} bytes: the rest is left out"
            ));
        }
        if !self.denied.is_empty() {
            let named = self.denied[..self.denied.len().min(NAMED)].join(", ");
            let count = self.denied.len();
            self.errors.push(format!(
                "{start}: {count} values are closed to us ({named}, ...): run nanoprobe as root to see them"
            ));
        }
        Collected { data: Value::Object(self.data), errors: self.errors, extras: Map::new() }
    }
}

/// Even root is refused what has no read bit at all; that is no error.
fn is_readable_by_somebody(directory: &Directory<'_>, entry: &DirectoryEntry) -> bool {
    directory.lstat(entry.raw()).is_ok_and(|attributes| attributes.mode & 0o444 != 0)
}

pub(crate) fn is_skipped(path: &str) -> bool {
    SKIPPED.iter().any(|(pattern, _)| match pattern.split_once('*') {
        None => path == *pattern,
        // Most paths fail at the first letters: no need for the general matcher.
        Some((start, _)) => path.starts_with(start) && model::config::matches_pattern(pattern, path),
    })
}

pub(crate) fn value_of(path: &str, text: &str) -> Option<Value> {
    if text.is_empty() {
        // No other setting means something when it is empty: then nothing writes core files.
        return (path == "kernel/core_pattern").then(|| "".into());
    }
    Some(match path {
        "net/core/flow_limit_cpu_bitmap" | "net/core/rps_default_mask" => {
            text.split(',').map(Value::from).collect()
        }
        "sunrpc/transports" => transports(text),
        "fs/binfmt_misc/status" => Value::from(text),
        _ if path.starts_with("fs/binfmt_misc/") => binary_format(text),
        _ => plain(text),
    })
}

fn plain(text: &str) -> Value {
    let words = || text.split_ascii_whitespace();
    if words().nth(1).is_none() {
        return integer(text).unwrap_or_else(|| Value::from(text));
    }
    // Most lists are numbers throughout; the first word that is none decides.
    words().map(integer).collect::<Option<Vec<Value>>>().map_or_else(|| Value::from(text), Value::from)
}

fn integer(word: &str) -> Option<Value> {
    // A leading zero is an octal number, a bit mask or an identifier: text, so that nothing is lost.
    let digits = word.strip_prefix('-').unwrap_or(word);
    let is_number = digits == "0" || (digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0'));
    if !is_number {
        return None;
    }
    word.parse::<i64>().map(Value::from).or_else(|_| word.parse::<u64>().map(Value::from)).ok()
}

/// Lines `name number`.
fn transports(text: &str) -> Value {
    let pairs = text.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
    Value::Object(pairs.map(|(name, number)| (name.to_owned(), plain(number.trim()))).collect())
}

/// binfmt_misc of the kernel's admin guide: `enabled`, then lines `name value` or `name: value`.
fn binary_format(text: &str) -> Value {
    let mut format = Map::new();
    for line in text.lines().map(str::trim) {
        match line.split_once(char::is_whitespace) {
            None if line == "enabled" || line == "disabled" => {
                format.insert("enabled".into(), (line == "enabled").into());
            }
            None => {
                let name = line.trim_end_matches(':');
                if !name.is_empty() {
                    format.insert(name.into(), "".into());
                }
            }
            Some((name, value)) => {
                let name = name.trim_end_matches(':');
                // A magic of decimal digits only is still a text of hexadecimal digits.
                let value = if name == "offset" { plain(value.trim()) } else { Value::from(value.trim()) };
                format.insert(name.into(), value);
            }
        }
    }
    Value::Object(format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;
    use proptest::prelude::*;
    use serde_json::json;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
        let path = root.join("proc/sys").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn values_have_their_types() {
        for (text, value) in [
            ("0", json!(0)),
            // The original left negative numbers as text.
            ("-1", json!(-1)),
            ("4\t4\t1\t7", json!([4, 4, 1, 7])),
            ("-1 2", json!([-1, 2])),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("99999999999999999999", json!("99999999999999999999")),
            ("0022", json!("0022")),
            ("00000000-0000", json!("00000000-0000")),
            ("cubic reno", json!("cubic reno")),
            ("|/bin/x %p 7", json!("|/bin/x %p 7")),
            ("-", json!("-")),
            ("1.5", json!("1.5")),
        ] {
            let expected = if text == "-" { json!("-") } else { value };
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn a_tree_gives_dotted_names() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        put(root, "net/ipv4/conf/eth0.100/rp_filter", "1\n");
        put(root, "net/ipv4/ip_forward", "0\n");
        put(root, "kernel/empty", "\n");
        put(root, "kernel/random/uuid", "x\n");
        put(root, "fs/file-nr", "1 2 3\n");
        put(root, "fs/nr_open", "1048576\n");
        put(root, "net/ipv4/tcp_fastopen_key", "secret\n");
        put(root, "net/ipv6/conf/eth0/stable_secret", "secret\n");
        put(root, "net/core/flow_limit_cpu_bitmap", "00000000,0000000f\n");
        put(root, "sunrpc/transports", "tcp 1048576\nudp 32768\ntcp-bc 1048576\n");
        put(root, "fs/binfmt_misc/status", "enabled\n");
        put(
            root,
            "fs/binfmt_misc/qemu",
            "enabled\ninterpreter /usr/bin/q\nflags: OC\noffset 0\nmagic 7041\n",
        );
        put(root, "fs/binfmt_misc/ext", "disabled\ninterpreter /usr/bin/e\nflags: \nextension .e\n");
        put(root, "fs/binfmt_misc/register", "x\n");
        put(root, "kernel/huge", vec![b'1'; MAX_VALUE_BYTES + 1]);
        put(root, "kernel/junk", [0xff, b'\n']);
        put(root, "vm/write_only", "1\n");
        fs::set_permissions(root.join("proc/sys/vm/write_only"), fs::Permissions::from_mode(0o200)).unwrap();
        let host = Host::at(root);
        let envelope = run(&DISCOVERY, "_auto_proc_sys", &host, &Parameters::new());
        assert_eq!(
            envelope.data,
            json!({
                "net.ipv4.conf.eth0/100.rp_filter": 1,
                "net.ipv4.ip_forward": 0,
                "fs.nr_open": 1048576,
                "net.core.flow_limit_cpu_bitmap": ["00000000", "0000000f"],
                "sunrpc.transports": {"tcp": 1048576, "udp": 32768, "tcp-bc": 1048576},
                "fs.binfmt_misc.status": "enabled",
                "fs.binfmt_misc.qemu": {"enabled": true, "interpreter": "/usr/bin/q", "flags": "OC", "offset": 0, "magic": "7041"},
                "fs.binfmt_misc.ext": {"enabled": false, "interpreter": "/usr/bin/e", "flags": "", "extension": ".e"},
                "kernel.junk": "\u{fffd}",
                "_configured": {},
            })
        );
        assert_eq!(envelope.errors.len(), 1, "{:?}", envelope.errors);
        assert!(envelope.errors[0].contains("/proc/sys/kernel/huge"), "{:?}", envelope.errors);
        let touched = host.touched();
        let root = fs::canonicalize(root).unwrap();
        assert!(touched.directories.contains(&root.join("proc/sys/net/ipv4/conf/eth0.100")));
        assert!(
            touched.files.iter().all(|file| !file.starts_with(root.join("proc"))),
            "directories are enough"
        );
    }

    /// The original accepted the parameter and walked all of /proc/sys.
    #[test]
    fn the_directory_is_honoured() {
        let tree = tempfile::tempdir().unwrap();
        put(tree.path(), "net/ipv4/ip_forward", "0\n");
        put(tree.path(), "kernel/x", "1\n");
        fs::create_dir(tree.path().join("other")).unwrap();
        fs::write(tree.path().join("other/y"), "2").unwrap();
        let data = |directory: &str| {
            let parameters = Parameters::from([(DIRECTORY.to_owned(), directory.to_owned())]);
            run(&DISCOVERY, "x", &Host::at(tree.path()), &parameters).data
        };
        assert_eq!(data("/proc/sys/net/"), json!({"net.ipv4.ip_forward": 0}));
        assert_eq!(data("/other"), json!({"y": 2}));
        assert_eq!(data("/proc/system"), json!({"NODATA": "ERROR: Cannot read /proc/system"}));
    }

    #[test]
    fn what_is_in_effect_and_what_is_configured_stand_side_by_side() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        put(root, "net/ipv4/ip_forward", "0\n");
        for interface in ["all", "eth0.100", "lo"] {
            put(root, &format!("net/ipv4/conf/{interface}/rp_filter"), "2\n");
        }
        put(root, "kernel/core_pattern", "core\n");
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("usr/lib/sysctl.d/50-a.conf", "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.rp_filter = 1\n");
        write("etc/sysctl.d/60-b.conf", "net/ipv4/ip_forward=0\nkernel.core_pattern =\nno.such = 7\nwhat\n");
        write(
            "etc/sysctl.d/70-c.conf",
            "net.ipv6.conf.lo.stable_secret = ::1\n-net.ipv4.conf.lo.rp_filter\n",
        );
        let host = Host::at(root);
        let found = run(&DISCOVERY, "_auto_proc_sys", &host, &Parameters::new());
        assert_eq!(
            found.data["_configured"],
            json!({
                "net.ipv4.ip_forward": 0,
                "net.ipv4.conf.all.rp_filter": 1,
                "net.ipv4.conf.eth0/100.rp_filter": 1,
                "kernel.core_pattern": "",
                "no.such": 7,
                "net.ipv6.conf.lo.stable_secret": "***",
            })
        );
        assert_eq!(found.data["net.ipv4.conf.all.rp_filter"], 2);
        assert_eq!(found.errors, ["/etc/sysctl.d/60-b.conf line 4: 'what' has no '='"]);
        // Whatever is written there next is seen: the directories are watched, those that are not there yet too.
        let touched = host.touched();
        let watched = touched.directories;
        for directory in ["etc/sysctl.d", "run/sysctl.d", "usr/lib/sysctl.d"] {
            let path = fs::canonicalize(root).unwrap().join(directory);
            assert!(
                watched.contains(&path) || watched.contains(&root.join(directory)),
                "{directory}: {watched:?}"
            );
        }
    }

    #[test]
    fn a_container_that_nothing_boots_has_no_configuration() {
        let tree = tempfile::tempdir().unwrap();
        put(tree.path(), "net/ipv4/ip_forward", "0\n");
        fs::write(tree.path().join(".dockerenv"), "").unwrap();
        let data = || run(&DISCOVERY, "x", &Host::at(tree.path()), &Parameters::new()).data;
        assert_eq!(data(), json!({"net.ipv4.ip_forward": 0}));
        fs::create_dir_all(tree.path().join("run/systemd/system")).unwrap();
        assert_eq!(data(), json!({"net.ipv4.ip_forward": 0, "_configured": {}}));
    }

    #[test]
    fn the_running_kernel_is_told_the_same_way_twice() {
        let host = Host::running();
        let first = run(&DISCOVERY, "_auto_proc_sys", &host, &Parameters::new());
        let second = run(&DISCOVERY, "_auto_proc_sys", &host, &Parameters::new());
        assert!(first.data["kernel.pid_max"].as_i64().unwrap() > 0);
        assert!(first.data.as_object().unwrap().len() > 200);
        let changed: Vec<_> =
            first.data.as_object().unwrap().iter().filter(|(k, v)| second.data[k.as_str()] != **v).collect();
        assert!(changed.is_empty(), "{changed:?}");
        assert!(!host.touched().directories.is_empty());
    }

    #[test]
    fn every_reason_belongs_to_a_pattern_that_can_match() {
        for (pattern, reason) in SKIPPED {
            assert!(is_skipped(&pattern.replace('*', "x")), "{pattern}");
            assert!(!reason.is_empty());
        }
        assert!(!is_skipped("fs/nr_open") && !is_skipped("kernel/randomize_va_space"));
    }

    proptest! {
        #[test]
        fn no_content_makes_the_parser_panic(text in "\\PC*|[-0-9 \t\n:a-z]*") {
            for path in ["x", "sunrpc/transports", "fs/binfmt_misc/x", "net/core/flow_limit_cpu_bitmap"] {
                value_of(path, text.trim());
            }
        }

        #[test]
        fn an_integer_keeps_its_digits(number in any::<i64>()) {
            prop_assert_eq!(plain(&number.to_string()), json!(number));
        }
    }
}

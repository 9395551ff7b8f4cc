//! The operating system: kernel (uname(2)) and distribution (os-release(5)).
//!
//! | field | from |
//! |---|---|
//! | `nodename`, `kernel-name`, `kernel-release`, `kernel-version`, `machine` | uname(2), strings |
//! | `operating-system` | `GNU/Linux`, as uname -o |
//! | `processor`, `hardware-platform` | the same as `machine`: Linux has nothing better |
//! | `Distributor ID`, `Description`, `Release`, `Codename` | os-release(5), with the names of lsb_release(1) |
//! | `os-release` | everything that os-release(5) says, name → text |
//! | `id`, `id_like`, `version_id` | `ID` (lower case), the words of `ID_LIKE` as a list, `VERSION_ID` of os-release(5) |
//! | `container` | `docker`, `podman`, `lxc`, `systemd-nspawn`, `openvz`, `kubernetes` ...; absent on a machine |
//! | `support_end`, `support_status` | last day of the maker's support, and `supported` or `ended`; absent when not known |
//! | `rtc_in_utc` | whether the hardware clock keeps UTC: `false` when `/etc/adjtime` (hwclock(8)) says `LOCAL` |
//!
//! Looking at a file tree instead of the running system, the fields of uname(2) are absent. `rtc_in_utc` is absent in
//! a container, which has no clock of its own.
//! ```json
//! {"Description":"Debian GNU/Linux 12 (bookworm)","Release":"12","kernel-name":"Linux","kernel-release":"6.1.0-18-amd64"}
//! ```

use crate::parse::container::container_of;
use crate::parse::support::support_end;
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation};
use model::graph::GraphFacts;
use model::{Envelope, Timestamp};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub static DISCOVERY: Discovery = Discovery {
    name: "os",
    description: "Operating system and kernel",
    documentation: documentation::OS,
    parameters: &[],
    instances: &[Instance { name: "_init_os", parameters: &[], schedule: None }],
    // The kernel of a running system does not change; the files are watched.
    schedule: Schedule { repeat_seconds: 3600, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph,
};

/// os-release(5): the first that exists counts.
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

const ADJTIME: &str = "/etc/adjtime";

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut data = Map::new();
    let mut errors = Vec::new();
    if host.is_running_system() {
        data.extend(uname_fields());
    }
    let mut release = BTreeMap::new();
    for path in OS_RELEASE {
        match host.read_text(path) {
            Ok(text) => {
                release = parse_os_release(&text);
                break;
            }
            Err(error) if error.is_missing() => {}
            Err(error) => errors.push(error.to_string()),
        }
    }
    if release.is_empty() && errors.is_empty() {
        errors.push(format!("{}: no such file, so the distribution is unknown: install it", OS_RELEASE[0]));
    }
    data.extend(lsb_fields(&release));
    data.extend(distribution_fields(&release));
    if let Some(end) = support_end(host, &release) {
        data.insert("support_status".into(), support_status(&end, Timestamp::now()).into());
        data.insert("support_end".into(), end.into());
    }
    match container_of(host) {
        Some(kind) => {
            data.insert("container".into(), kind.into());
        }
        None => match host.read_text(ADJTIME) {
            Ok(text) => {
                data.insert("rtc_in_utc".into(), keeps_utc(&text).into());
            }
            // hwclock(8) takes UTC for granted when nothing is written down.
            Err(error) if error.is_missing() => {
                data.insert("rtc_in_utc".into(), true.into());
            }
            Err(error) => errors.push(error.to_string()),
        },
    }
    if !release.is_empty() {
        data.insert("os-release".into(), release.into_iter().map(|(k, v)| (k, Value::from(v))).collect());
    }
    Collected { data: Value::Object(data), errors, extras: Map::new() }
}

fn graph(_host: &str, envelope: &Envelope) -> GraphFacts {
    let mut properties = Map::new();
    for (field, property) in [
        ("Description", "os_description"),
        ("Distributor ID", "os_name"),
        ("Release", "os_release"),
        ("kernel-release", "kernel_release"),
        ("machine", "machine"),
    ] {
        if let Some(Value::String(text)) = envelope.data.get(field) {
            properties.insert(property.into(), text.as_str().into());
        }
    }
    GraphFacts { host_properties: properties, ..GraphFacts::default() }
}

fn uname_fields() -> impl Iterator<Item = (String, Value)> {
    let uname = rustix::system::uname();
    [
        ("nodename", uname.nodename()),
        ("kernel-name", uname.sysname()),
        ("kernel-release", uname.release()),
        ("kernel-version", uname.version()),
        ("machine", uname.machine()),
        ("processor", uname.machine()),
        ("hardware-platform", uname.machine()),
        ("operating-system", c"GNU/Linux"),
    ]
    .map(|(name, value)| (name.to_owned(), Value::from(value.to_string_lossy())))
    .into_iter()
}

/// What lsb_release(1) prints, from what it reads on current systems.
fn lsb_fields(release: &BTreeMap<String, String>) -> impl Iterator<Item = (String, Value)> {
    let get = |name: &str| release.get(name).filter(|value| !value.is_empty()).cloned();
    // "Debian" of "Debian GNU/Linux" is what lsb_release calls the distributor; ID alone would lose its capital.
    let distributor = get("NAME").map(|name| name.split(" GNU/Linux").next().unwrap_or("").to_owned());
    [
        ("Distributor ID", distributor.or_else(|| get("ID"))),
        ("Description", get("PRETTY_NAME").or_else(|| get("NAME"))),
        ("Release", get("VERSION_ID").or_else(|| get("BUILD_ID"))),
        ("Codename", get("VERSION_CODENAME")),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))))
}

/// What chooses a rule set: short names, always spelled alike.
fn distribution_fields(release: &BTreeMap<String, String>) -> impl Iterator<Item = (String, Value)> {
    let get = |name: &str| release.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let like = get("ID_LIKE").map(|words| words.split_whitespace().map(str::to_ascii_lowercase).collect());
    [
        ("id", get("ID").map(|id| Value::from(id.to_ascii_lowercase()))),
        ("id_like", like.map(|words: Vec<String>| Value::from(words))),
        ("version_id", get("VERSION_ID").map(Value::from)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
}

/// Compared as texts: both are `YYYY-MM-DD`.
fn support_status(end: &str, now: Timestamp) -> &'static str {
    let today = now.to_utc_text();
    if today.get(..10).is_some_and(|today| today > end) { "ended" } else { "supported" }
}

/// The third line of adjtime: `UTC` or `LOCAL`; UTC when there is none.
fn keeps_utc(adjtime: &str) -> bool {
    adjtime.lines().nth(2).is_none_or(|line| line.trim() != "LOCAL")
}

/// Shell-like assignments: `NAME=value`, quoted or not, with backslash escapes; comments and anything else skipped.
fn parse_os_release(text: &str) -> BTreeMap<String, String> {
    let legal = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    text.lines()
        .map(str::trim)
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| legal(name))
        .map(|(name, value)| (name.to_owned(), unquote(value.trim())))
        .collect()
}

fn unquote(value: &str) -> String {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = match quote {
        Some(quote) => value[1..].strip_suffix(quote).unwrap_or(&value[1..]),
        None => value,
    };
    if quote == Some('\'') {
        return inner.to_owned();
    }
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        text.push(if c == '\\' { characters.next().unwrap_or('\\') } else { c });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;
    use proptest::prelude::*;

    #[test]
    fn assignments_are_unquoted() {
        let release = parse_os_release(
            "\n# c\nNAME=\"Debian GNU/Linux\"\r\nVERSION_ID='12'\nID=debian\nX=\"a \\\"b\\\" \\$c\"\nbad line\n9A=1\nE=\n",
        );
        let expected = [
            ("E", ""),
            ("ID", "debian"),
            ("NAME", "Debian GNU/Linux"),
            ("VERSION_ID", "12"),
            ("X", "a \"b\" $c"),
        ];
        assert_eq!(release.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_running_system_tells_its_kernel() {
        let envelope = run(&DISCOVERY, "_init_os", &Host::running(), &Parameters::new());
        assert_eq!(envelope.data["kernel-name"], "Linux");
        assert_eq!(envelope.data["operating-system"], "GNU/Linux");
        assert_eq!(envelope.host, envelope.data["nodename"]);
    }

    /// The original's document was invalid where lsb_release was not installed.
    #[test]
    fn a_tree_without_os_release_still_gives_a_document() {
        let tree = tempfile::tempdir().unwrap();
        let envelope = run(&DISCOVERY, "_init_os", &Host::at(tree.path()), &Parameters::new());
        assert_eq!(envelope.data, serde_json::json!({"rtc_in_utc": true}));
        assert!(envelope.errors[0].contains("/etc/os-release"), "{:?}", envelope.errors);
    }

    #[test]
    fn a_tree_tells_its_distribution_and_not_our_kernel() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("usr/lib")).unwrap();
        let text =
            "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.20.1\nPRETTY_NAME=\"Alpine Linux v3.20\"\n";
        std::fs::write(tree.path().join("usr/lib/os-release"), text).unwrap();
        let envelope = run(&DISCOVERY, "_init_os", &Host::at(tree.path()), &Parameters::new());
        assert_eq!(envelope.data["Description"], "Alpine Linux v3.20");
        assert_eq!(envelope.data["Distributor ID"], "Alpine Linux");
        assert_eq!(envelope.data["os-release"]["ID"], "alpine");
        assert_eq!(envelope.data["id"], "alpine");
        assert_eq!(envelope.data["version_id"], "3.20.1");
        assert_eq!(envelope.data["support_end"], "2026-04-01");
        assert!(envelope.data.get("container").is_none() && envelope.data.get("id_like").is_none());
        assert!(envelope.data.get("kernel-release").is_none());
        let facts = graph("h", &envelope);
        assert_eq!(facts.host_properties["os_description"], "Alpine Linux v3.20");
        assert!(!facts.host_properties.contains_key("kernel_release"));
    }

    #[test]
    fn distributions_that_derive_from_others_name_them() {
        let release = parse_os_release("ID=Rocky\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n");
        let fields: Map<String, Value> = distribution_fields(&release).collect();
        let expected =
            serde_json::json!({"id": "rocky", "id_like": ["rhel", "centos", "fedora"], "version_id": "9.4"});
        assert_eq!(Value::Object(fields), expected);
    }

    #[test]
    fn support_ends_after_its_last_day() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        assert_eq!(support_status("2026-04-01", at("2026-04-01T12:00:00Z")), "supported");
        assert_eq!(support_status("2026-04-01", at("2026-04-02T00:00:00Z")), "ended");
    }

    #[test]
    fn a_hardware_clock_in_local_time_is_told() {
        assert!(!keeps_utc("0.0 0 0.0\n0\nLOCAL\n"));
        assert!(keeps_utc("0.0 0 0.0\n0\nUTC\n") && keeps_utc("") && keeps_utc("junk"));
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("run/systemd")).unwrap();
        std::fs::write(tree.path().join("run/systemd/container"), "docker\n").unwrap();
        let envelope = run(&DISCOVERY, "_init_os", &Host::at(tree.path()), &Parameters::new());
        assert_eq!(envelope.data, serde_json::json!({"container": "docker"}));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*|[A-Z=\"'\\\\\n é]*") {
            parse_os_release(&text);
        }
    }
}

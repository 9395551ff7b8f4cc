//! Security updates that wait to be installed, as far as this host knows: Debian and its relatives.
//!
//! Compares the installed packages (/var/lib/dpkg/status) with the lists of the security archives that apt has fetched
//! (`/var/lib/apt/lists/*_dists_<suite with "security">_*_Packages`, apt-get(8)). Nothing is fetched, so that the answer
//! is as old as the last `apt-get update`.
//!
//! | key | value |
//! |---|---|
//! | `security_pending` | how many installed packages are older than what a security archive has |
//! | `security` | `"<name>::<arch>"` → `{"installed", "available"}`, the versions |
//! | `archives` | the suites of the security archives that have lists, sorted |
//!
//! Without apt, or without a list of a security archive, there is NODATA and the reason. Red Hat's lists of updates are
//! compressed XML in dnf's cache; they are not read.
//! ```json
//! {"archives":["bookworm-security"],"security_pending":1,
//!  "security":{"openssl::amd64":{"installed":"3.0.11-1~deb12u2","available":"3.0.14-1~deb12u1"}}}
//! ```

use super::packages::{Lines, deb};
use crate::parse::presence::not_there;
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;

pub static DISCOVERY: Discovery = Discovery {
    name: "updates",
    description: "Security updates that wait to be installed",
    documentation: documentation::UPDATES,
    parameters: &[],
    instances: &[Instance { name: "_init_updates", parameters: &[], schedule: None }],
    // The lists change when apt fetches them, which is seen at once; reading them takes some time.
    schedule: Schedule { repeat_seconds: 3600, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const LISTS: &str = "/var/lib/apt/lists";
const BUFFER_BYTES: usize = 64 * 1024;

/// Installed packages by name: architecture and version of each.
type Installed = BTreeMap<String, Vec<(String, String)>>;

fn collect(host: &Host, _: &Parameters) -> Collected {
    let installed = match deb::installed(host) {
        Ok(Some(packages)) => by_name(packages),
        Ok(None) => {
            return not_there("dpkg is not installed: there is no /var/lib/dpkg/status to compare with");
        }
        Err(error) => {
            let data = json!({"NODATA": "ERROR: Cannot read /var/lib/dpkg/status"});
            return Collected { data, errors: vec![error], extras: Map::new() };
        }
    };
    let mut errors = Vec::new();
    let mut archives = BTreeSet::new();
    let mut newer = BTreeMap::new();
    let mut is_compressed = false;
    for name in host.list(LISTS).unwrap_or_default() {
        let Some(suite) = security_suite(&name) else { continue };
        if !name.ends_with("_Packages") {
            is_compressed |= name.contains("_Packages.");
            continue;
        }
        let path = format!("{LISTS}/{name}");
        let read = host.open(&path).map_err(|error| error.to_string()).and_then(|file| {
            let mut lines = Lines::new(&path, BufReader::with_capacity(BUFFER_BYTES, file));
            deb::stanzas(&mut lines, |stanza| compare(stanza, &installed, &mut newer))
        });
        match read {
            Ok(()) => drop(archives.insert(suite.to_owned())),
            Err(error) => errors.push(error),
        }
    }
    if archives.is_empty() {
        let why = match (errors.is_empty(), is_compressed) {
            (false, _) => format!("ERROR: Cannot read {LISTS}"),
            (true, true) => format!("apt keeps its lists compressed, which are not read: see {LISTS}"),
            (true, false) => {
                format!("apt has fetched no list of a security archive: there is none in {LISTS}")
            }
        };
        return Collected { data: json!({ "NODATA": why }), errors, extras: Map::new() };
    }
    let data = json!({
        "archives": archives,
        "security_pending": newer.len(),
        "security": newer.into_iter().map(|(key, (installed, available))| {
            (key, json!({"installed": installed, "available": available}))
        }).collect::<Map<String, Value>>(),
    });
    Collected { data, errors, extras: Map::new() }
}

/// The suite in the name of a list, `<host and path>_dists_<suite>_<component>_...`, when it is a security archive.
fn security_suite(name: &str) -> Option<&str> {
    let (archive, rest) = name.split_once("_dists_")?;
    let suite = rest.split('_').next()?;
    // Until Debian 10 the suite was called `buster_updates` in an archive of the name.
    (suite.contains("security") || archive.contains("debian-security")).then_some(suite)
}

fn by_name(packages: super::packages::Packages) -> Installed {
    let mut installed = Installed::new();
    for (key, version) in packages {
        let (name, arch) = key.split_once("::").unwrap_or((&key, ""));
        installed.entry(name.to_owned()).or_default().push((arch.to_owned(), version));
    }
    installed
}

/// Notes the installed packages of this name that are older than the stanza says.
fn compare(stanza: deb::Stanza, installed: &Installed, newer: &mut BTreeMap<String, (String, String)>) {
    for (arch, version) in installed.get(&stanza.name).into_iter().flatten() {
        let same_arch = *arch == stanza.arch || stanza.arch == "all" || arch == "all";
        if !same_arch || order(&stanza.version, version) != Ordering::Greater {
            continue;
        }
        let entry = newer
            .entry(format!("{}::{arch}", stanza.name))
            .or_insert_with(|| (version.clone(), stanza.version.clone()));
        if order(&stanza.version, &entry.1) == Ordering::Greater {
            entry.1.clone_from(&stanza.version);
        }
    }
}

/// The order of two versions, `[epoch:]upstream[-revision]` (deb-version(7)).
fn order(a: &str, b: &str) -> Ordering {
    let (a, b) = (parts(a), parts(b));
    a.0.cmp(&b.0).then_with(|| order_of_part(a.1, b.1)).then_with(|| order_of_part(a.2, b.2))
}

fn parts(version: &str) -> (u64, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch.parse().unwrap_or(0), upstream, revision)
}

/// Text and numbers in turn: text by letters before other characters and `~` before everything, even the end; numbers
/// by value.
fn order_of_part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        let (text_a, text_b);
        (text_a, a) = a.split_at(a.iter().take_while(|byte| !byte.is_ascii_digit()).count());
        (text_b, b) = b.split_at(b.iter().take_while(|byte| !byte.is_ascii_digit()).count());
        for index in 0..text_a.len().max(text_b.len()) {
            let weights = (weight(text_a.get(index)), weight(text_b.get(index)));
            if weights.0 != weights.1 {
                return weights.0.cmp(&weights.1);
            }
        }
        let (number_a, number_b);
        (number_a, a) = a.split_at(a.iter().take_while(|byte| byte.is_ascii_digit()).count());
        (number_b, b) = b.split_at(b.iter().take_while(|byte| byte.is_ascii_digit()).count());
        // Numbers of any length: without leading zeros the longer one is larger.
        let (number_a, number_b) = (without_zeros(number_a), without_zeros(number_b));
        let by_value = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
        if by_value != Ordering::Equal {
            return by_value;
        }
    }
    Ordering::Equal
}

fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    &digits[digits.iter().take_while(|digit| **digit == b'0').count()..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;
    use proptest::prelude::*;
    use std::fs;
    use std::path::Path;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn of(root: &Path) -> (Value, Vec<String>) {
        let envelope = run(&DISCOVERY, "_init_updates", &Host::at(root), &Parameters::new());
        (envelope.data, envelope.errors)
    }

    const SECURITY: &str =
        "var/lib/apt/lists/deb.debian.org_debian-security_dists_bookworm-security_main_binary-amd64_Packages";

    fn stanza(name: &str, arch: &str, version: &str) -> String {
        format!("Package: {name}\nArchitecture: {arch}\nVersion: {version}\nDescription: x\n Version: 99\n\n")
    }

    fn status(packages: &[(&str, &str, &str)]) -> String {
        packages
            .iter()
            .map(|(name, arch, version)| {
                stanza(name, arch, version).replace("Arch", "Status: install ok installed\nArch")
            })
            .collect()
    }

    #[test]
    fn installed_packages_older_than_the_security_archive() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        put(
            root,
            "var/lib/dpkg/status",
            &status(&[
                ("openssl", "amd64", "3.0.11-1~deb12u2"),
                ("bash", "amd64", "5.2.15-2"),
                ("libc6", "amd64", "2.36-9"),
                ("libc6", "i386", "2.36-9+deb12u4"),
                ("tzdata", "all", "2024a-0"),
            ]),
        );
        let list = [
            stanza("openssl", "amd64", "3.0.13-1~deb12u1"),
            stanza("openssl", "amd64", "3.0.14-1~deb12u1"),
            stanza("openssl", "amd64", "3.0.12-1"),
            stanza("bash", "amd64", "5.2.15-2"),
            stanza("libc6", "amd64", "2.36-9+deb12u3"),
            stanza("libc6", "arm64", "9"),
            stanza("absent", "amd64", "1"),
        ];
        put(root, SECURITY, &list.concat());
        // What is newer elsewhere is no security update.
        put(
            root,
            "var/lib/apt/lists/deb.debian.org_debian_dists_bookworm_main_binary-amd64_Packages",
            &stanza("bash", "amd64", "6"),
        );
        put(
            root,
            "var/lib/apt/lists/deb.debian.org_debian-security_dists_bookworm-security_InRelease",
            "Suite: x\n",
        );
        let expected = json!({
            "archives": ["bookworm-security"],
            "security_pending": 2,
            "security": {
                "openssl::amd64": {"installed": "3.0.11-1~deb12u2", "available": "3.0.14-1~deb12u1"},
                "libc6::amd64": {"installed": "2.36-9", "available": "2.36-9+deb12u3"},
            },
        });
        assert_eq!(of(root), (expected, vec![]));
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        assert!(of(root).0["NODATA"].as_str().unwrap().starts_with("dpkg is not installed"));
        put(root, "var/lib/dpkg/status", &status(&[("bash", "amd64", "1")]));
        assert!(of(root).0["NODATA"].as_str().unwrap().contains("no list of a security archive"));
        put(root, &format!("{SECURITY}.lz4"), "x");
        assert!(of(root).0["NODATA"].as_str().unwrap().contains("compressed"));
        fs::create_dir(root.join(SECURITY)).unwrap();
        let (data, errors) = of(root);
        assert_eq!(data, json!({"NODATA": "ERROR: Cannot read /var/lib/apt/lists"}));
        assert!(errors.len() == 1 && errors[0].contains("bookworm-security"), "{errors:?}");
    }

    #[test]
    fn suites_of_security_archives() {
        for (name, expected) in [
            (
                "archive.ubuntu.com_ubuntu_dists_jammy-security_universe_binary-amd64_Packages",
                Some("jammy-security"),
            ),
            (
                "security.debian.org_debian-security_dists_buster_updates_main_binary-amd64_Packages",
                Some("buster"),
            ),
            ("deb.debian.org_debian_dists_bookworm-updates_main_binary-amd64_Packages", None),
            ("lock", None),
        ] {
            assert_eq!(security_suite(name), expected, "{name}");
        }
    }

    #[test]
    fn versions_are_ordered_as_dpkg_does() {
        let ascending = [
            "0~~",
            "0~~a",
            "0~",
            "0",
            "0a",
            "0+",
            "0.1~rc1",
            "0.1-0~a",
            "0.1",
            "0.1-1~deb12u1",
            "0.1-1",
            "0.1-1+b1",
            "0.1-1.1",
            "0.1-9",
            "0.1-10",
            "0.2",
            "0.10",
            "0.99999999999999999999999",
            "1.0-a-1",
            "1:0~",
            "1:0",
            "2:0",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(order(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(order("1.001", "1.1"), Ordering::Equal);
        assert_eq!(order("0:1", "1"), Ordering::Equal);
        assert_eq!(order("0.1-0", "0.1"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn the_order_is_one(a in "[0-9a-b.+~:-]{0,8}", b in "[0-9a-b.+~:-]{0,8}") {
            prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
            prop_assert_eq!(order(&a, &a), Ordering::Equal);
        }
    }
}

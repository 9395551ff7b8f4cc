//! What changed between two documents of checksums, as an event: which files, and whether a package's change of version
//! explains it. A file that changed although its package did not is what people want to be woken for.

use super::Context;
use super::document::Incoming;
use super::events::about_host;
use model::envelope::Envelope;
use model::text::{printable, shortened};
use model::{EventType, Timestamp};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use store::{DocumentRow, HostRow, Result, Transaction};

/// Discovery types whose documents are of this kind; the original has the second.
const TYPES: [&str; 2] = ["checksums", "checksum"];
/// Files that one event names in each of its lists; `..._count` tells how many there are.
const MAX_LISTED: usize = 1000;
/// Files that its sentence names.
const MAX_NAMED: usize = 10;

/// Tells what changed since the document `old`. To be called for a document of any type; nothing is said of the first one,
/// nor when no file changed.
pub fn changed(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    incoming: &Incoming,
    old: Option<&DocumentRow>,
    envelope: &Envelope,
) -> Result<()> {
    let Some(old) = old.filter(|_| TYPES.contains(&envelope.discovertype.as_str())) else { return Ok(()) };
    let before = tx.body(&old.hash)?.and_then(|text| serde_json::from_str::<Envelope>(&text).ok());
    let Some(before) = before.filter(|before| TYPES.contains(&before.discovertype.as_str())) else {
        return Ok(());
    };
    let difference = Difference::between(&before, envelope);
    if difference.is_empty() {
        return Ok(());
    }
    let sentence = difference.sentence();
    let mut extrainfo = difference.extra_info();
    let mut add = |name: &str, value: &str| {
        extrainfo.insert(name.to_owned(), Value::from(value));
    };
    add("CHANGETYPE", "checksums");
    add("category", "security");
    add("severity", if difference.unexplained.is_empty() { "low" } else { "high" });
    add("text", &sentence);
    add("instance", &incoming.instance);
    add("discovery_type", &envelope.discovertype);
    if incoming.changed_after > Timestamp(0) {
        add("changed_after", &incoming.changed_after.to_utc_text());
    }
    add("seen", &incoming.seen.to_utc_text());
    add("committed", &context.now.to_utc_text());
    let line = format!("{}: {sentence}", host.designation);
    if difference.unexplained.is_empty() {
        context.inform(line)
    } else {
        context.warn(line)
    }
    let event = about_host(context, EventType::Update, host, Value::Object(extrainfo));
    context.emit(tx, event)
}

/// Which files changed, by path.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    changes: BTreeMap<String, (String, String)>,
    added: BTreeSet<String>,
    removed: BTreeSet<String>,
    /// What became of the package of a file that changed or went.
    explained: BTreeMap<String, String>,
    /// Files that changed although no package did.
    unexplained: BTreeSet<String>,
}

impl Difference {
    fn between(old: &Envelope, new: &Envelope) -> Difference {
        let mut difference = Difference::default();
        // Sums of another kind say nothing about the files.
        if old.extras.get("sumcmd") != new.extras.get("sumcmd") {
            return difference;
        }
        let (before, after) = (sums(old), sums(new));
        let (packages_before, packages_after) = (texts(old, "packages"), texts(new, "packages"));
        let (unread_before, unread_after) = (texts(old, "unread"), texts(new, "unread"));
        let installed: BTreeSet<&str> = packages_after.values().copied().collect();
        for (path, sum) in &after {
            let Some(last) = before.get(path) else {
                // What could not be read before is not new.
                if !unread_before.contains_key(path) {
                    difference.added.insert((*path).to_owned());
                }
                continue;
            };
            if last == sum {
                continue;
            }
            difference.changes.insert((*path).to_owned(), ((*last).to_owned(), (*sum).to_owned()));
            match explanation(packages_before.get(path).copied(), packages_after.get(path).copied()) {
                Some(text) => difference.explained.insert((*path).to_owned(), text).map_or((), drop),
                None => {
                    difference.unexplained.insert((*path).to_owned());
                }
            }
        }
        for path in
            before.keys().filter(|path| !after.contains_key(*path) && !unread_after.contains_key(*path))
        {
            difference.removed.insert((*path).to_owned());
            if let Some(package) = packages_before.get(path).filter(|package| !installed.contains(*package)) {
                let text = format!("package {} is no longer installed in this version", printable(package));
                difference.explained.insert((*path).to_owned(), text);
            }
        }
        difference
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }

    /// One sentence for people, the worst first.
    fn sentence(&self) -> String {
        let mut parts = Vec::new();
        let explained = self.changes.len() - self.unexplained.len();
        let mut say = |number: usize, what: &str, paths: &mut dyn Iterator<Item = &String>| {
            if number > 0 {
                let files = if number == 1 { "file" } else { "files" };
                let named: Vec<String> =
                    paths.take(MAX_NAMED).map(|path| shortened(&printable(path), 200).into_owned()).collect();
                let more = if number > named.len() {
                    format!(" and {} more", number - named.len())
                } else {
                    String::new()
                };
                parts.push(format!("{number} {files} {what}: {}{more}", named.join(", ")));
            }
        };
        say(self.unexplained.len(), "changed although no package did", &mut self.unexplained.iter());
        let by_packages = self.changes.keys().filter(|path| !self.unexplained.contains(*path));
        say(explained, "changed with packages", &mut by_packages.into_iter());
        say(self.removed.len(), "gone", &mut self.removed.iter());
        say(self.added.len(), "new", &mut self.added.iter());
        parts.join("; ")
    }

    /// What scripts get. Unexplained changes are the last to be cut.
    fn extra_info(&self) -> Map<String, Value> {
        let first = self.unexplained.iter().filter_map(|path| Some((path, self.changes.get(path)?)));
        let others = self.changes.iter().filter(|(path, _)| !self.unexplained.contains(*path));
        let changes: Map<String, Value> = first
            .chain(others)
            .take(MAX_LISTED)
            .map(|(path, (old, new))| (path.clone(), json!([old, new])))
            .collect();
        let list = |paths: &BTreeSet<String>| paths.iter().take(MAX_LISTED).cloned().collect::<Vec<String>>();
        let explained: BTreeMap<&String, &String> = self.explained.iter().take(MAX_LISTED).collect();
        let value = json!({
            "changes": changes,
            "added": list(&self.added),
            "removed": list(&self.removed),
            "explained": explained,
            "unexplained": list(&self.unexplained),
            "changes_count": self.changes.len(),
            "added_count": self.added.len(),
            "removed_count": self.removed.len(),
            "unexplained_count": self.unexplained.len(),
        });
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// The sums by path; other members (NODATA) are none.
fn sums(envelope: &Envelope) -> BTreeMap<&str, &str> {
    let data = envelope.data.as_object().into_iter().flatten();
    data.filter(|(path, _)| path.starts_with('/'))
        .filter_map(|(path, sum)| Some((path.as_str(), sum.as_str()?)))
        .collect()
}

fn texts<'a>(envelope: &'a Envelope, field: &str) -> BTreeMap<&'a str, &'a str> {
    let map = envelope.extras.get(field).and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(path, text)| Some((path.as_str(), text.as_str()?))).collect()
}

/// Why a file changed, from the packages (`name version`) that owned it before and own it now. `None`: no package did
/// anything, so somebody else did.
fn explanation(before: Option<&str>, after: Option<&str>) -> Option<String> {
    match (before, after) {
        (Some(before), Some(after)) if before != after => {
            let (name, old) = before.split_once(' ').unwrap_or((before, ""));
            let text = match after.split_once(' ') {
                Some((same, new)) if same == name => format!("package {name} {old} -> {new}"),
                _ => format!("package {before} -> {after}"),
            };
            Some(printable(&text).into_owned())
        }
        (None, Some(after)) => Some(printable(&format!("now of package {after}")).into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(data: Value, packages: Value, unread: Value) -> Envelope {
        serde_json::from_value(
            json!({"discovertype": "checksums", "description": "d", "host": "h", "source": "s",
            "instance": "_auto_checksumdiscovery", "proxy": "local/local", "data": data, "packages": packages,
            "unread": unread, "sumcmd": "sha256sum"}),
        )
        .unwrap()
    }

    fn paths(set: &BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }

    #[test]
    fn an_upgrade_explains_and_nothing_else_does() {
        let old = envelope(
            json!({"/a": "1", "/b": "1", "/c": "1", "/d": "1", "/e": "1", "/same": "1", "/f": "1"}),
            json!({"/a": "ssl 1.0", "/b": "ssh 2", "/d": "old 1", "/f": "tool 7"}),
            json!({}),
        );
        let new = envelope(
            json!({"/a": "2", "/b": "2", "/c": "2", "/d": "2", "/e": "2", "/same": "1", "/f": "2"}),
            json!({"/a": "ssl 1.1", "/b": "ssh 2", "/d": "new 1", "/e": "own 3"}),
            json!({}),
        );
        let difference = Difference::between(&old, &new);
        let explained: Vec<(&str, &str)> =
            difference.explained.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        assert_eq!(
            explained,
            [
                ("/a", "package ssl 1.0 -> 1.1"),
                ("/d", "package old 1 -> new 1"),
                ("/e", "now of package own 3")
            ]
        );
        // Same version, no package at all, a package that no longer has the file.
        assert_eq!(paths(&difference.unexplained), ["/b", "/c", "/f"]);
        assert_eq!(difference.changes.len(), 6);
        let text = difference.sentence();
        assert_eq!(
            text,
            "3 files changed although no package did: /b, /c, /f; 3 files changed with packages: /a, /d, /e"
        );
    }

    #[test]
    fn files_come_and_go_but_not_by_being_unreadable() {
        let old = envelope(
            json!({"/gone": "1", "/busy": "1", "/removed": "1"}),
            json!({"/removed": "tool 1"}),
            json!({"/was-busy": "changes while it is read"}),
        );
        let new = envelope(
            json!({"/new": "1", "/was-busy": "1"}),
            json!({}),
            json!({"/busy": "changes while it is read"}),
        );
        let difference = Difference::between(&old, &new);
        assert_eq!(
            (paths(&difference.added), paths(&difference.removed)),
            (vec!["/new"], vec!["/gone", "/removed"])
        );
        assert_eq!(difference.explained.keys().collect::<Vec<_>>(), ["/removed"]);
        assert!(difference.unexplained.is_empty());
        assert_eq!(difference.sentence(), "2 files gone: /gone, /removed; 1 file new: /new");
    }

    #[test]
    fn the_same_files_other_sums_and_no_data_are_no_difference() {
        let one = envelope(json!({"/a": "1"}), json!({}), json!({}));
        let mut other = envelope(json!({"/a": "2"}), json!({}), json!({}));
        assert!(Difference::between(&one, &one).is_empty());
        assert!(!Difference::between(&one, &other).is_empty());
        other.extras.insert("sumcmd".into(), "md5sum".into());
        assert!(Difference::between(&one, &other).is_empty(), "another algorithm");
        let nothing = envelope(json!({"NODATA": "a"}), json!({}), json!({}));
        let other = envelope(json!({"NODATA": "b"}), json!(7), json!([]));
        assert!(Difference::between(&nothing, &other).is_empty());
    }

    #[test]
    fn an_event_is_bounded_and_keeps_the_unexplained() {
        let many =
            |sum: &str| (0..5000).map(|n| (format!("/bin/{n}"), json!(sum))).collect::<Map<String, Value>>();
        let owned = |version: &str| {
            (0..5000)
                .map(|n| (format!("/bin/{n}"), json!(format!("all {version}"))))
                .collect::<Map<String, Value>>()
        };
        let old = envelope(json!(many("1")), json!(owned("1")), json!({}));
        let mut packages = owned("2");
        packages.insert("/bin/999".into(), json!("all 1"));
        let new = envelope(json!(many("2")), json!(packages), json!({}));
        let difference = Difference::between(&old, &new);
        let extra = difference.extra_info();
        let changes = extra["changes"].as_object().unwrap();
        assert!(changes.len() == MAX_LISTED && changes.contains_key("/bin/999"));
        assert_eq!((&extra["changes_count"], &extra["unexplained"]), (&json!(5000), &json!(["/bin/999"])));
        let text = difference.sentence();
        assert!(text.starts_with("1 file changed although no package did: /bin/999; 4999 files"), "{text}");
        assert!(text.ends_with("and 4989 more") && text.len() < 4000, "{text}");
    }

    #[test]
    fn paths_cannot_play_tricks_in_a_sentence() {
        let old = envelope(json!({"/a\u{1b}[2J": "1"}), json!({}), json!({}));
        let new = envelope(json!({"/a\u{1b}[2J": "2"}), json!({}), json!({}));
        assert!(Difference::between(&old, &new).sentence().contains("/a\\u{1b}[2J"));
    }
}

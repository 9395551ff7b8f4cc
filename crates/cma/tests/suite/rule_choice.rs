//! Which rules a host has, and which of them are judged: by its operating system and by its other documents.

use crate::ingest::{Rig, envelope, incoming, name, rig_with, told};
use cma::ingest::Sender;
use cma::knowledge::Knowledge;
use model::config::CmaConfig;
use rules::RuleSets;
use rules::rule_set::SourceFile;
use serde_json::{Value, json};
use store::Store;

const SYSCTL: &str = "_auto_proc_sys";
const OS: &str = "_init_os";

fn file(path: &str, text: String) -> SourceFile {
    let set = path.split('/').next().unwrap().to_owned();
    SourceFile { set, file: format!("test/{path}"), layer: "test".into(), text }
}

fn rule(set: &str, id: &str, more: &str) -> SourceFile {
    file(
        &format!("{set}/proc_sys/{id}.toml"),
        format!(
            "id = \"{id}\"\ntitle = \"t\"\nseverity = \"low\"\ncategory = \"security\"\ndiscovery = \"proc_sys\"\n\
             expression = 'MUST(EQ($x, 1))'\nwhy = \"w\"\ncheck = \"c\"\nfix_now = \"n\"\nfix_permanently = \"p\"\n{more}"
        ),
    )
}

fn host() -> Host {
    let applies = "[applies]\ndiscovery = \"os\"\nexpression = 'ABSENT($container)'\nreason = \"it belongs to the machine\"\n";
    let (sets, problems) = RuleSets::from_files(&[
        rule("plain", "general", ""),
        rule("plain", "machine", applies),
        rule("twelve", "special", ""),
        file(
            "BASE/set.toml",
            "based_on = \"plain\"\n[[pick]]\nos = \"debian\"\nversions = [\"12\"]\nset = \"twelve\"".into(),
        ),
    ]);
    assert_eq!(problems, []);
    let mut rig = rig_with(Knowledge::new(CmaConfig::default(), sets, problems));
    let sender = rig.registered();
    Host { rig, sender }
}

/// A host that is registered.
struct Host {
    rig: Rig,
    sender: Sender,
}

impl Host {
    fn send(&mut self, instance: &str, discovertype: &str, data: Value) -> Vec<String> {
        self.rig.sequence += 1;
        let mut text: Value = serde_json::from_str(&envelope(instance, data)).unwrap();
        text["discovertype"] = json!(discovertype);
        let report = incoming(self.rig.sequence, instance, &text.to_string());
        told(&self.rig.take(&self.sender, &report).1)
    }

    fn results(&mut self) -> Vec<String> {
        let mut tx = self.rig.store.begin().unwrap();
        let rows = tx.rule_results(&name("web1"), SYSCTL).unwrap();
        rows.into_iter().map(|row| format!("{} {}", row.rule_id, row.status)).collect()
    }
}

#[test]
fn the_operating_system_decides_when_it_is_known_and_when_it_changes() {
    let mut host = host();
    host.send(SYSCTL, "proc_sys", json!({"x": 1}));
    assert_eq!(host.results(), ["general pass", "machine NA"], "nothing is known of the system");
    let events = host.send(OS, "os", json!({"id": "debian", "version_id": "12"}));
    assert_eq!(events, Vec::<String>::new());
    assert_eq!(host.results(), ["general pass", "machine pass", "special pass"]);
    let events = host.send(SYSCTL, "proc_sys", json!({"x": 2}));
    assert_eq!(events.iter().filter(|event| event.contains("ruleid")).count(), 3, "{events:?}");
    // An upgrade to a release that the set does not speak of.
    let events = host.send(OS, "os", json!({"id": "debian", "version_id": "13"}));
    assert_eq!(events[0], "unwarn ruleid=special", "{events:?}");
    assert_eq!(host.results(), ["general fail", "machine fail"]);
}

#[test]
fn a_rule_that_does_not_apply_is_judged_as_soon_as_it_does() {
    let mut host = host();
    host.send(OS, "os", json!({"id": "x", "container": "lxc"}));
    let events = host.send(SYSCTL, "proc_sys", json!({"x": 2}));
    assert_eq!(events[0], "warn ruleid=general", "{events:?}");
    assert_eq!(host.results(), ["general fail", "machine NA"]);
    let events = host.send(OS, "os", json!({"id": "x"}));
    assert_eq!(events[0], "warn ruleid=machine", "{events:?}");
    assert_eq!(host.results(), ["general fail", "machine fail"]);
}

#[test]
fn a_document_without_data_is_not_judged() {
    let mut host = host();
    host.send(SYSCTL, "proc_sys", json!({"x": 2}));
    let events = host.send(SYSCTL, "proc_sys", json!({"NODATA": "ERROR: Cannot read /proc/sys"}));
    assert_eq!(events[0], "unwarn ruleid=general", "{events:?}");
    assert_eq!(host.results(), ["general NA", "machine NA"]);
}

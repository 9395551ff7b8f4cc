//! A host that has only just come is in its groups in the transaction of its registration.

use crate::ingest::{applicant, envelope, incoming, name, rig_with, told};
use cma::ingest::enrolment::actions::{Action, perform};
use cma::ingest::register::{Registration, remove};
use cma::knowledge::Knowledge;
use model::PublicKey;
use model::config::parse_toml;
use model::enrolment::{TOKEN_BYTES, token_hash, token_text};
use rules::RuleSets;
use rules::rule_set::SourceFile;
use serde_json::json;
use store::Store;

const CONFIG: &str = r#"
[groups]
web = ["web*"]
[groups.asked]
query = "SELECT host FROM hosts"
[groups.lenient]
tags = ["lab"]
[groups.all]
groups = ["web", "lenient"]
[domains.lab]
tags = ["lab"]
[rules.by_group]
lenient = "LAB"
[discovery.agents."sshd/@lenient"]
enabled = false
"#;
const INSTANCE: &str = "_auto_proc_sys";

/// BASE has a rule that every host here breaks, LAB does not mind.
fn knowledge() -> Knowledge {
    let file = |set: &str, name: &str, text: String| SourceFile {
        set: set.into(),
        file: format!("test/{set}/{name}"),
        layer: "test".into(),
        text,
    };
    let rule = "id = \"strict\"\ntitle = \"t\"\nseverity = \"high\"\ncategory = \"security\"\ndiscovery = \"proc_sys\"\n\
                expression = 'EQ($x, 1)'\nwhy = \"w\"\ncheck = \"c\"\nfix_now = \"n\"\nfix_permanently = \"p\"\n";
    let lab = "description = \"d\"\nbased_on = \"BASE\"\n[ignore]\nstrict = \"noisy network\"\n";
    let files = [file("BASE", "proc_sys/strict.toml", rule.into()), file("LAB", "set.toml", lab.into())];
    let (sets, problems) = RuleSets::from_files(&files);
    assert!(problems.is_empty(), "{problems:?}");
    Knowledge::new(parse_toml("cma.toml", CONFIG).unwrap(), sets, Vec::new())
}

#[test]
fn a_newcomer_is_judged_and_told_by_the_groups_of_its_name_and_its_token() {
    let mut rig = rig_with(knowledge());
    let token = token_text(&[4; TOKEN_BYTES]);
    let action = Action::CreateToken {
        hash: token_hash(&token).unwrap(),
        tags: vec!["lab".into()],
        hosts: "*".into(),
        uses: None,
        lasts: None,
    };
    rig.step(|tx, context| perform(tx, context, &action));
    let mut comes = |host: &str, key: u8, token: Option<&str>| {
        let mut applicant = applicant(host, PublicKey([key; 32]));
        applicant.message.token = token.map(str::to_owned);
        let (Registration::Welcome { sender, welcome, .. }, events) = rig.register(applicant) else {
            panic!("{host} is refused")
        };
        let config = welcome.configure.unwrap().json;
        let groups: Vec<(String, String)> = rig
            .store
            .reader()
            .unwrap()
            .groups()
            .unwrap()
            .into_iter()
            .filter(|row| row.host == name(host))
            .map(|row| (row.group, row.why))
            .collect();
        // The first thing it says, before anybody else has looked at it.
        let document = incoming(1, INSTANCE, &envelope(INSTANCE, json!({"x": 0})));
        let (_, alerts) = rig.take(&sender, &document);
        let domain = rig
            .store
            .reader()
            .unwrap()
            .hosts()
            .unwrap()
            .into_iter()
            .find(|row| row.designation == name(host))
            .unwrap()
            .domain;
        (
            domain,
            groups,
            events[0].extrainfo.get("groups").cloned(),
            config.contains("\"enabled\":false"),
            told(&alerts),
        )
    };
    let why = |group: &str, why: &str| (group.to_owned(), why.to_owned());

    let (domain, groups, told_of, is_silenced, alerts) = comes("web1", 1, Some(&token));
    assert_eq!(domain, "lab");
    assert_eq!(groups, [why("all", "group web"), why("lenient", "tag lab"), why("web", "name web*")]);
    assert_eq!(told_of, Some(json!("all\nlenient\nweb")));
    assert!(is_silenced, "its configuration is that of its groups");
    assert!(!alerts.iter().any(|alert| alert.contains("strict")), "{alerts:?}");

    // Without the tag it is judged like anybody else.
    let (domain, groups, told_of, is_silenced, alerts) = comes("web2", 2, None);
    assert_eq!((domain.as_str(), is_silenced), ("global", false));
    assert_eq!(groups, [why("all", "group web"), why("web", "name web*")]);
    assert_eq!(told_of, Some(json!("all\nweb")));
    assert!(alerts.contains(&"warn ruleid=strict".to_owned()), "{alerts:?}");
    let (_, groups, told_of, ..) = comes("db1", 3, None);
    assert_eq!((groups, told_of), (vec![], None));
}

#[test]
fn who_was_removed_and_comes_again_is_a_newcomer() {
    let mut rig = rig_with(knowledge());
    let groups = |rig: &mut crate::ingest::Rig| rig.store.reader().unwrap().groups().unwrap().len();
    rig.registered();
    assert_eq!(groups(&mut rig), 2);
    rig.step(|tx, context| remove(tx, context, &name("web1")));
    assert_eq!(groups(&mut rig), 0);
    rig.registered();
    assert_eq!(groups(&mut rig), 2);
}

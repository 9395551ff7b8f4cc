use super::*;
use crate::matching::{Call, Verdict, judge};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The example of the documentation of the original.
const REDIS: &str = r#"{ "class":"ocf", "type":"redis", "provider":"heartbeat",   # invented example
  "classconfig":[ [null,"@basename()","redis-server$"], ["port","@serviceport()","[0-9]+"], ["?config","@argequals(--config)"] ] }
"#;

fn refused(text: &str) -> MonitorRuleProblem {
    parse(text, "dir/x.mrule").expect_err(text)
}

fn verdict(rule: &MonitorRule, entry: Value, agents: Value) -> Verdict {
    let process = crate::context::Process::new("x:1", &entry).unwrap();
    judge(rule, process.views(), &json!({}), &agents, &BTreeMap::new())
}

#[test]
fn the_example_of_the_original_works() {
    let rule = parse(REDIS, "monrules/redis.mrule").unwrap();
    assert_eq!((rule.file.as_str(), rule.provider.as_deref()), ("redis.mrule", Some("heartbeat")));
    let entry = json!({"exe": "/usr/bin/redis-server", "cmdline": ["redis-server", "--config=/etc/r.conf"],
        "listenaddrs": {"0.0.0.0:6379": "tcp"}});
    let agents = json!({"ocf": ["heartbeat/redis"]});
    let env = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    let Verdict::Fits { call, .. } = verdict(&rule, entry.clone(), agents.clone()) else { panic!() };
    let expected = Call { argv: vec![], env: env(&[("port", "6379"), ("config", "/etc/r.conf")]) };
    assert_eq!(call, expected);
    // What is optional and absent is left out, not the text None.
    let plain = json!({"exe": "/usr/bin/redis-server", "cmdline": ["redis-server"],
        "listenaddrs": {"0.0.0.0:6379": "tcp"}});
    let Verdict::Fits { call, .. } = verdict(&rule, plain, agents.clone()) else { panic!() };
    assert_eq!(call.env, env(&[("port", "6379")]));
    // Anchored at the start only by the regex itself; another agent; nothing to run.
    let other = json!({"exe": "/usr/bin/my-redis-server", "listenaddrs": {"0.0.0.0:6379": "tcp"}});
    assert_eq!(verdict(&rule, other, agents), Verdict::No);
    assert_eq!(verdict(&rule, entry, json!({"ocf": ["other/redis"]})), Verdict::No);
}

#[test]
fn every_class_wants_its_own_fields() {
    let simple = r#"{"class": "lsb", "type": "ssh", "classconfig": [["@basename()", "sshd$"],],}"#;
    assert!(parse(simple, "x").is_ok());
    for (text, line, words) in [
        (simple.replace("\"type\": \"ssh\", ", ""), Some(1), "missing field `type`"),
        (simple.replace("lsb", "ocf"), Some(1), "missing field `provider`"),
        (simple.replace("lsb", "nagios"), Some(1), "missing field `prio`"),
        (simple.replace("lsb", "tcp"), Some(1), "missing field `prio`"),
        (simple.replace("\"type\"", "\n\"provider\": \"x\", \"type\""), Some(2), "unknown field `provider`"),
        (simple.replace("\"type\"", "# one\n\n\"typo\""), Some(3), "unknown field `typo`"),
        (simple.replace("lsb", "upstart"), Some(1), "there is no class \"upstart\""),
        (simple.replace("ssh\"", "../ssh\""), Some(1), "is no type"),
        ("{}".to_owned(), Some(1), "missing field `class`"),
        ("".to_owned(), None, "EOF"),
        (simple.replace("[[\"@basename()\", \"sshd$\"],]", "[]"), Some(1), "0 tuples"),
        (simple.replace("\"sshd$\"", "\n\"ss[hd$\""), Some(2), "regular expression"),
        (simple.replace("@basename()", "@basenam()"), Some(1), "there is no function"),
        (simple.replace("\"sshd$\"", "\"sshd$\", \"I\", \"x\""), Some(1), "not the right number"),
        (simple.replace("\"sshd$\"", "\"sshd$\", \"Q\""), Some(1), "no flag"),
        (simple.replace(", \"sshd$\"", ""), Some(1), "not the right number"),
        (simple.replace("{\"class\"", "{\"type\": \"a\", \"class\""), Some(1), "duplicate field `type`"),
    ] {
        let problem = refused(&text);
        assert!(problem.message.contains(words), "{text}: {problem}");
        if line.is_some() {
            assert_eq!(problem.line, line, "{text}: {problem}");
        }
        assert!(problem.to_string().starts_with("dir/x.mrule:"), "{problem}");
    }
    assert!(parse(&" ".repeat(MAXIMUM_FILE_BYTES + 1), "x").is_err());
}

#[test]
fn parameters_of_plug_ins() {
    let text = |config: &str| {
        format!(
            r#"{{"class": "nagios", "type": "check_x", "prio": "high", "initargs": ["-t", "3"], "objclass": "service",
            "classconfig": [["-", "@basename()", "x$"], {config}]}}"#
        )
    };
    let entry = json!({"exe": "/x", "cmdline": ["x"], "listenaddrs": {"0.0.0.0:7": "tcp"}});
    let agents = json!({"nagios": ["check_x"]});
    let found = |config: &str| {
        let rule = parse(&text(config), "x.mrule").unwrap();
        assert_eq!(rule.worth, Worth::High);
        match verdict(&rule, entry.clone(), agents.clone()) {
            Verdict::Fits { call, .. } => (call.argv.join(" "), format!("{:?}", call.env)),
            other => (format!("{other:?}"), String::new()),
        }
    };
    let positional = r#"["__ARGV__", "@serviceip()"], ["-p", "@serviceport()", "[0-9]+$"]"#;
    assert_eq!(found(positional), ("-t 3 -p 7 127.0.0.1".into(), "{}".into()));
    assert_eq!(found(r#"["PASS", "@serviceport()"]"#).1, r#"{"PASS": "7"}"#);
    assert_eq!(found(r#"["?-c", "@flagvalue(-c)"], ["?__ARGV__", "@flagvalue(-c)"]"#).0, "-t 3");
    assert_eq!(found(r#"["-c", "@flagvalue(-c)"], ["user"]"#).0, "Partly([\"-c\", \"user\"])");
    assert_eq!(found(r#"["-c", "@flagvalue(-c)", ".*"]"#).0, "No", "a regex needs something to match");
    assert_eq!(found(r#"["-", "@EQ(@serviceport(), 8)"]"#).0, "No");
    for bad in
        [r#"["a b", "x"]"#, r#"["?", "x"]"#, r#"["?-", "x"]"#, r#"["-"]"#, r#"["?user"]"#, "[]", "[null]"]
    {
        assert!(parse(&text(bad), "x").is_err(), "{bad}");
    }
    // The words of a rule do not grow from match to match.
    assert_eq!(found(positional), found(positional));
}

#[test]
fn a_user_is_known_by_name_and_number() {
    let rule = |pattern: &str| {
        let text = format!(
            r#"{{"class": "lsb", "type": "x", "classconfig": [["@basename()", "x$"], ["$uid", "{pattern}"]]}}"#
        );
        parse(&text, "x").unwrap()
    };
    let agents = json!({"lsb": ["x"]});
    let fits = |pattern: &str, entry: Value| {
        matches!(verdict(&rule(pattern), entry, agents.clone()), Verdict::Fits { .. })
    };
    let of = |uid: u32| json!({"exe": "/x", "uid": uid, "listenaddrs": {"0.0.0.0:7": "tcp"}});
    assert!(fits("root$", of(0)) && fits("0$", of(0)));
    assert!(!fits("root$", of(1)) && fits("1$", of(1)));
    let mut named = of(104);
    named["user"] = "bind".into();
    assert!(fits("bind$", named.clone()) && fits("104$", named));
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in ".{0,200}") {
        let _ = parse(&text, "x");
    }

    #[test]
    fn no_pieces_of_rules_are_a_panic(text in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"", "#", "\n", "null", "\"class\"", "\"nagios\"", "\"ocf\"", "\"tls\"", "\"type\"",
        "\"classconfig\"", "\"-\"", "\"?x\"", "\"@basename(\"", "\"examples\"", "\"expect\"", "\"match\"", "\"prio\"", "\"med\"", "\"\\u0000\"", "ä",
    ]), 0..40)) {
        let _ = parse(&text.concat(), "x");
    }

    #[test]
    fn no_classconfig_is_a_panic(words in prop::collection::vec(prop::collection::vec(prop::option::of(".{0,12}"), 0..5), 0..4)) {
        let text = json!({"class": "nagios", "type": "x", "prio": "low", "initargs": [], "objclass": "service",
            "classconfig": words}).to_string();
        let _ = parse(&text, "x");
    }
}

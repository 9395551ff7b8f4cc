//! The bytes are a rule file; what loads is evaluated over data that the bytes are, too.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rules::rule_file::{parse_json, parse_set, parse_toml};
use rules::{Expression, Points};
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let data: serde_json::Value =
        serde_json::from_slice(bytes).unwrap_or_else(|_| serde_json::json!({"a": &*text}));
    if let Ok(expression) = Expression::parse(&text) {
        let _ = expression.evaluate(&[&data]);
    }
    let _ = parse_set(&text, "set.toml");
    let one = parse_toml(&text, "SET", "x.toml").map(|(rule, _)| vec![rule]);
    let many = parse_json(&text, "SET", "sshd", "sshd.json").map(|(rules, _)| rules);
    for rules in [one, many].into_iter().flatten() {
        let rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
        let _ = rules::evaluate(&rules, &data, &Points::new());
        rules.iter().for_each(|rule| drop(rule.shortcomings()));
    }
});

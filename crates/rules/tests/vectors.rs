//! The shared sample vectors: expressions, and status, scores, events, merging, domains.

use rules::rule_file::parse_json;
use rules::rule_set::merge_chain;
use rules::{Points, RuleResult, Transition, evaluate, scores, transitions};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const EXPRESSIONS: &str = include_str!("data/expression-vectors-sample.jsonl");
const STATUS: &str = include_str!("data/status-vectors-sample.jsonl");

/// JSON numbers: 2.0 equals 2, also inside lists and maps.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn expressions_give_what_the_vectors_expect() {
    let answers = rules::vectors::evaluate_vectors(EXPRESSIONS).unwrap();
    let mut wrong = Vec::new();
    let mut count = 0;
    for (vector, answer) in EXPRESSIONS.lines().zip(answers.lines()) {
        let (vector, answer): (Value, Value) =
            (serde_json::from_str(vector).unwrap(), serde_json::from_str(answer).unwrap());
        assert_eq!(vector["id"], answer["id"]);
        // A text that is refused at load time counts as unknown.
        let result = if answer.get("error").is_some() { &Value::Null } else { &answer["result"] };
        if !same(result, &vector["expect"]) {
            wrong.push(format!(
                "{} {}: expected {}, got {answer}",
                vector["id"], vector["expr"], vector["expect"]
            ));
        }
        count += 1;
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(count, 115);
}

#[test]
fn vectors_that_are_none_are_told_with_their_line() {
    assert!(
        rules::vectors::evaluate_vectors("{\"id\":1,\"expr\":\"1\"}\n\nnonsense")
            .unwrap_err()
            .starts_with("line 3")
    );
    let unchanged = rules::vectors::evaluate_vector(r#"{"id": 1, "expr": 7, "context": {}}"#).unwrap();
    assert_eq!(unchanged, json!({"id": 1, "result": 7}));
}

#[test]
fn status_scores_events_and_merging_are_what_the_vectors_expect() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for line in STATUS.lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let kind = vector["kind"].as_str().unwrap();
        *kinds.entry(kind.to_string()).or_default() += 1;
        let got = match kind {
            "evaluate" => status(&vector["rules"], &vector["data"]),
            "sequence" => sequence(&vector["steps"]),
            "merge" => {
                let chain: Vec<BTreeMap<String, Value>> =
                    serde_json::from_value(vector["chain_head_first"].clone()).unwrap();
                json!(merge_chain(&chain))
            }
            "domain" => {
                let by_domain = serde_json::from_value(vector["bprulesbydomain"].clone()).unwrap();
                let config = model::config::RulesConfig { by_domain, ..Default::default() };
                json!(config.set_of(vector["domain"].as_str().unwrap()))
            }
            other => panic!("unknown kind {other}"),
        };
        assert!(same(&got, &vector["expect"]), "{}: expected {}, got {got}", vector["id"], vector["expect"]);
    }
    assert_eq!(kinds.values().sum::<usize>(), 14);
    assert_eq!(kinds.len(), 4);
}

fn status(rules: &Value, data: &Value) -> Value {
    rules::status::status_of_file(&rules.to_string(), "x.json", data, &Points::new()).unwrap().0
}

fn results(rules: &Value, data: &Value) -> Vec<RuleResult> {
    let (rules, _) = parse_json(&rules.to_string(), "S", "x", "x.json").unwrap();
    let rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
    evaluate(&rules, data, &Points::new())
}

/// Events of each step, and the host's running scores after it: the sum of all changes.
fn sequence(steps: &Value) -> Value {
    let (mut old, mut running): (Vec<RuleResult>, Map<String, Value>) = Default::default();
    let (mut events, mut category_scores) = (Vec::new(), Vec::new());
    for step in steps.as_array().unwrap() {
        let new = results(&step["rules"], &step["data"]);
        let mut step_events = Vec::new();
        for transition in transitions(&old, &new) {
            let event = transition.event().as_str();
            match &transition {
                Transition::Rule { id, .. } => step_events.push(json!([event, id])),
                Transition::Score { category, old, new, .. } => {
                    step_events.push(json!([event, format!("score:{category}:{old:?}->{new:?}")]));
                    let before = running.get(category).and_then(Value::as_f64).unwrap_or(0.0);
                    running.insert(category.clone(), json!(before + new - old));
                }
            }
        }
        events.push(Value::Array(step_events));
        category_scores.push(Value::Object(running.clone()));
        old = new;
    }
    json!({"events": events, "category_scores": category_scores})
}

#[test]
fn na_ends_a_warning_and_order_is_pass_fail_ignore_na_gone() {
    let rules = |n: u8| -> Value {
        let mut map = Map::new();
        for id in ["a", "b", "c", "d"] {
            map.insert(
                id.into(),
                json!({"category": "security", "severity": "high", "rule": format!("EQ(${id}, 1)")}),
            );
        }
        if n == 2 {
            map.remove("d");
            map["c"]["rule"] = "IGNORE(x)".into();
        }
        Value::Object(map)
    };
    let old = results(&rules(1), &json!({"a": 0, "b": 1, "c": 0, "d": 0}));
    let new = results(&rules(2), &json!({"b": 0}));
    let told: Vec<(String, String)> = transitions(&old, &new)
        .iter()
        .filter_map(|transition| match transition {
            Transition::Rule { id, event, .. } => Some((event.to_string(), id.clone())),
            Transition::Score { .. } => None,
        })
        .collect();
    let expected = [("warn", "b"), ("unwarn", "c"), ("unwarn", "a"), ("unwarn", "d")];
    assert_eq!(told, expected.map(|(event, id)| (event.to_string(), id.to_string())));
    assert_eq!(scores(&new), BTreeMap::from([("security".to_string(), 3.0)]));
    let Some(Transition::Score { old: before, new: after, .. }) = transitions(&old, &new).pop() else {
        panic!()
    };
    assert_eq!((before, after), (9.0, 3.0));
    assert!(new[0].note.contains("not found: a"), "{}", new[0].note);
    assert_eq!(transitions(&new, &new), []);
}

#[test]
fn points_can_be_configured() {
    let points: Points =
        serde_json::from_value(json!({"security": {"high": 10.0, "low": -5.0}, "comment": {"high": 9.0}}))
            .unwrap();
    use rules::Severity::{High, Low, Medium};
    let of = |category: &str, severity| rules::points_of(&points, category, severity);
    assert_eq!([of("security", High), of("security", Medium), of("security", Low)], [10.0, 2.0, 0.0]);
    assert_eq!([of("networking", High), of("comment", High)], [3.0, 0.0]);
}

#[test]
fn fractional_points_in_another_order_are_no_change() {
    let rules = json!({
        "a": {"category": "security", "severity": "low", "rule": "EQ(1, 2)"},
        "b": {"category": "security", "severity": "medium", "rule": "EQ(1, 2)"},
        "c": {"category": "security", "severity": "high", "rule": "EQ(1, 2)"},
    });
    let mut old = results(&rules, &json!({}));
    for (result, score) in old.iter_mut().zip([0.1, 0.2, 0.3]) {
        result.score = score;
    }
    let mut stored = old.clone();
    stored.reverse();
    assert_ne!(scores(&old), scores(&stored), "otherwise this shows nothing");
    assert_eq!(transitions(&stored, &old), []);
    old[0].score = 0.2;
    assert_eq!(transitions(&stored, &old).len(), 1);
}

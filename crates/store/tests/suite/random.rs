//! Random histories against a model in memory, and random text as SQL.

use crate::conformance::{LIMITS, at, commit, document, host, site, sql};
use model::GraphFacts;
use model::graph::NodeKind;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use store::sqlite::SqliteStore;
use store::{Store, StoreError};

#[derive(Debug, Clone)]
enum Step {
    Put { instance: u8, value: u8 },
    Remove { instance: u8 },
    RemoveHost,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..3, 0u8..4).prop_map(|(instance, value)| Step::Put { instance, value }),
        2 => (0u8..3).prop_map(|instance| Step::Remove { instance }),
        1 => Just(Step::RemoveHost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_past_state_is_what_it_was(steps in proptest::collection::vec((step(), 0i64..4), 1..25)) {
        let mut store = SqliteStore::open(Path::new(":memory:")).unwrap();
        let mut now = 100;
        let mut state = [None; 3];
        // What was true from each moment on; several steps may share a moment, the last one counts.
        let mut moments = vec![(0, state)];
        for (step, pause) in steps {
            now += pause;
            commit(&mut store, |t| match step {
                Step::Put { instance, value } => {
                    state[usize::from(instance)] = Some(value);
                    let (row, body) = document(&format!("i{instance}"), json!({"v": value}), now);
                    t.put_document(&host("web1"), &row, &body)
                }
                Step::Remove { instance } => {
                    state[usize::from(instance)] = None;
                    t.remove_document(&host("web1"), &format!("i{instance}"), at(now))
                }
                Step::RemoveHost => {
                    state = [None; 3];
                    t.remove_host(&host("web1"), at(now))
                }
            });
            moments.push((now, state));
        }
        let mut reader = store.reader().unwrap();
        for moment in 99..=now + 1 {
            let (_, expected) = moments.iter().rev().find(|(time, _)| *time <= moment).unwrap();
            for (instance, value) in expected.iter().enumerate() {
                let fact = reader.fact_at(&host("web1"), &format!("i{instance}"), "v", Some(at(moment))).unwrap();
                prop_assert_eq!(fact, value.map(|value| json!(value)), "i{} at {}", instance, moment);
            }
            let count = expected.iter().flatten().count();
            prop_assert_eq!(reader.documents_at(&host("web1"), Some(at(moment))).unwrap().len(), count);
        }
    }
}

/// Host, instance, time, and what it says of each of two interfaces: `None` nothing, else values of two properties.
type Saying = (u8, u8, i64, [Option<(Option<u8>, Option<u8>)>; 2]);

/// Who says what since when, by (host, instance), of one node.
type Claims = BTreeMap<(String, String), (i64, Map<String, Value>)>;

fn saying() -> impl Strategy<Value = Saying> {
    let said = || proptest::option::of((proptest::option::of(0u8..3), proptest::option::of(0u8..3)));
    (0u8..3, 0u8..2, 1i64..6, [said(), said()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn nodes_are_what_their_claimants_say(sayings in proptest::collection::vec(saying(), 1..16)) {
        let mut store = SqliteStore::open(Path::new(":memory:")).unwrap();
        let mut model: [Claims; 2] = Default::default();
        let mut touched: [BTreeMap<(String, String), ()>; 2] = Default::default();
        for (name, instance, now, said) in sayings {
            let (name, instance) = (format!("web{name}"), format!("i{instance}"));
            let mut facts = GraphFacts::default();
            for (number, said) in said.iter().enumerate() {
                let by = (name.clone(), instance.clone());
                let Some((a, b)) = said else {
                    touched[number].remove(&by);
                    model[number].remove(&by);
                    continue;
                };
                let values = [("a", a), ("b", b)].into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!((*value)?))));
                let properties: Map<String, Value> = values.collect();
                facts.edges.push(site::edge(
                    (NodeKind::Drone, &name),
                    NodeKind::NicNode,
                    &format!("nic{number}"),
                    Value::Object(properties.clone()),
                ));
                touched[number].insert(by.clone(), ());
                match model[number].get(&by) {
                    _ if properties.is_empty() => drop(model[number].remove(&by)),
                    Some((_, old)) if *old == properties => {}
                    _ => drop(model[number].insert(by, (now, properties))),
                }
            }
            commit(&mut store, |t| t.replace_graph(&host(&name), &instance, &facts, at(now)));
            for number in 0..2 {
                let rows = sql(&store, &format!("SELECT properties FROM nodes WHERE key = 'nic{number}'")).rows;
                let found = rows.first().map(|row| serde_json::from_str::<Value>(row[0].as_str().unwrap()).unwrap());
                let mut order: Vec<_> = model[number].iter().map(|(by, (since, said))| (*since, by, said)).collect();
                order.sort_by_key(|(since, by, _)| (*since, *by));
                let merged: Map<String, Value> = order.into_iter().flat_map(|(_, _, said)| said.clone()).collect();
                prop_assert_eq!(found, (!touched[number].is_empty()).then_some(Value::Object(merged)));
            }
        }
    }
}

#[test]
fn no_text_as_sql_breaks_the_reader() {
    let mut store = SqliteStore::open(Path::new(":memory:")).unwrap();
    site::fill(&mut store);
    let reader = std::cell::RefCell::new(store.reader().unwrap());
    let words = prop_oneof![
        prop::sample::select(vec![
            "SELECT",
            "*",
            "FROM",
            "hosts",
            "documents",
            "(",
            ")",
            ",",
            "'",
            "\"",
            "--",
            "/*",
            "*/",
            ";",
            "WITH",
            "EXPLAIN",
            "x",
            "AS",
            "1",
            ":p",
            "document_text",
            "instr",
            "\n",
            "DELETE",
            "WHERE",
            "REGEXP",
            "é",
            "[",
            "]",
            "`",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    proptest!(ProptestConfig::with_cases(600), |(words in proptest::collection::vec(words, 0..14))| {
        let statement = format!("SELECT {}", words.join(" "));
        let statement = if words.len() % 4 == 0 { &statement[7..] } else { &statement };
        let answer = reader.borrow_mut().sql(statement, &[("p".to_owned(), json!(1))], LIMITS);
        let known = matches!(answer, Ok(_) | Err(StoreError::Sql(_) | StoreError::Limit(_)));
        prop_assert!(known, "{:?}", answer);
    });
    assert_eq!(reader.borrow_mut().hosts().unwrap().len(), 3);
}

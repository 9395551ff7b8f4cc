use super::*;
use proptest::prelude::*;
use serde_json::json;

fn evaluate(text: &str, data: &Value) -> Value {
    Expression::parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .evaluate(&[data])
        .value
        .unwrap_or(Value::Null)
}

fn error(text: &str) -> String {
    Expression::parse(text).expect_err(text).to_string()
}

#[test]
fn the_examples_of_all_functions_hold() {
    let mut count = 0;
    for function in functions() {
        assert!(!function.summary.is_empty() && !function.examples.is_empty(), "{}", function.name);
        for example in function.examples {
            let data: Value = serde_json::from_str(example.data).unwrap();
            let expected: Value = serde_json::from_str(example.result).unwrap();
            assert!(example.expression.contains(&format!("{}(", function.name)), "{}", function.name);
            assert_eq!(evaluate(example.expression, &data), expected, "{}", example.expression);
            count += 1;
        }
    }
    assert!(count >= 50, "{count}");
}

#[test]
fn literals() {
    let none = json!({});
    for (text, expected) in [
        ("", json!("")),
        ("-1", json!(-1)),
        ("3.5", json!(3.5)),
        ("-0.5", json!(-0.5)),
        ("077", json!(63)),
        ("00", json!(0)),
        ("-07", json!(-7)),
        ("0xfF", json!(255)),
        ("18446744073709551615", json!(u64::MAX)),
        ("True", json!(true)),
        ("False", json!(false)),
        ("true", json!("true")),
        ("1.2.3.4", json!("1.2.3.4")),
        ("3des-cbc", json!("3des-cbc")),
        ("25%", json!("25%")),
        ("-p", json!("-p")),
        ("+5", json!("+5")),
        ("-", json!("-")),
        ("a b", json!("a b")),
        ("\"a,(b\"", json!("a,(b")),
        ("$\u{e4}.x", Value::Null),
    ] {
        assert_eq!(evaluate(text, &none), expected, "{text}");
    }
}

#[test]
fn arguments_are_split_as_written() {
    let data = json!({"a": "x)", "e": "", "q": "a, (b"});
    assert_eq!(evaluate("MUST(NOT(NE($a , \"x)\" )))", &data), true);
    assert_eq!(evaluate("EQ($e, \"\")", &data), true);
    assert_eq!(evaluate("AND(EQ($q,\"a, (b\"),@EQ(1,,1))", &data), true);
    assert_eq!(evaluate("OR(IGNORE(it's \"odd), 0)", &data), true);
    assert_eq!(evaluate("OR(EQ(1,2), IGNORE(\"a)\"), 0)", &data), true);
}

#[test]
fn errors_tell_where_what_and_what_to_do() {
    let texts = [
        "EQQ($a, 1)",
        "AND(EQ(1,1), eq($a, 1))",
        "frobnicate(1)",
        "EQ($a)",
        "PAMMODARGS(a, b, c)",
        "EQ(1,1) x",
        "EQ(EQ(1,1) x, True)",
        "EQ(1,1))",
        "EQ((1,1)",
        "EQ(a, \"b)",
        "\"a\" b",
        "0xZZ",
        "0x",
        "08",
        "match($a, \"[\")",
        "match($a, a, Q)",
        "FOREACH(EQ($a, 1))",
        "FOREACH($a)",
        "FOREACH(\"EQ($ä, 09)\")",
        "MODE_LE($m, 640)",
        "EQ($, 1)",
        "EQ(a\"b\", 1)",
        "IGNORE(x",
    ];
    let told: Vec<String> = texts.iter().map(|text| format!("{text}\n    {}", error(text))).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn hostile_nesting_and_length_are_refused() {
    let nested = |depth: usize| format!("{}1{}", "NOT(".repeat(depth), ")".repeat(depth));
    assert!(Expression::parse(&nested(MAXIMUM_DEPTH)).is_ok());
    assert!(error(&nested(MAXIMUM_DEPTH + 1)).contains("inside each other"));
    assert!(error(&"NOT(".repeat(4000)).contains("inside each other"));
    assert!(error(&"x".repeat(MAXIMUM_EXPRESSION_BYTES + 1)).contains("longer"));
    let nested_data = |depth: usize| (0..depth).fold(json!({"b": 1}), |inner, _| json!([inner]));
    assert_eq!(evaluate("ATTRSEARCH($a, b)", &json!({"a": nested_data(100)})), true);
    assert_eq!(
        evaluate("ATTRSEARCH($a, b)", &json!({"a": nested_data(200)})),
        false,
        "not searched that deep"
    );
}

#[test]
fn used_names_are_recorded_and_the_deciding_member_is_kept() {
    let mut data = json!({});
    for number in 0..200 {
        data[format!("/f{number:03}")] = json!({"owner": "root"});
    }
    data["/f150"]["owner"] = json!("joe");
    let expression = Expression::parse("FOREACH(\"EQ($owner, root)\")").unwrap();
    let evaluation = expression.evaluate(&[&data]);
    assert_eq!(evaluation.value, Some(json!(false)));
    assert_eq!(evaluation.used, [("/f150.owner".to_string(), json!("joe"))]);

    let evaluation =
        Expression::parse("AND(EQ($a, 1), EQ($b, 1), $a)").unwrap().evaluate(&[&json!({"a": 1})]);
    assert_eq!(evaluation.used, [("a".to_string(), json!(1)), ("b".to_string(), Value::Null)]);
    assert_eq!(evaluation.missing().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn several_objects_are_searched_in_order() {
    let (first, second) = (json!({"a": null, "b": 1}), json!({"a": 2, "b": 3}));
    let expression = Expression::parse("EQ(bitwiseOR($a, $b), 3)").unwrap();
    assert_eq!(expression.evaluate(&[&first, &second]).value, Some(json!(true)));
    assert_eq!(expression.evaluate(&[]).value, None);
}

#[test]
fn equality_is_symmetric_and_strict_about_truth() {
    let values = [
        json!(1),
        json!(1.0),
        json!("1"),
        json!(true),
        json!("True"),
        json!([1]),
        json!("[1]"),
        json!({"a": 1}),
        json!(0),
        json!(false),
        json!(""),
    ];
    for a in &values {
        for b in &values {
            let data = json!({"a": a, "b": b});
            assert_eq!(evaluate("EQ($a,$b)", &data), evaluate("EQ($b,$a)", &data), "{data}");
            assert_eq!(evaluate("EQ($a,$b)", &data), evaluate("NOT(NE($a,$b))", &data), "{data}");
            if a.is_boolean() && b.is_number() {
                assert_eq!(evaluate("EQ($a,$b)", &data), false, "{data}");
            }
        }
    }
    assert_eq!(evaluate("EQ(2, 2.0)", &json!({})), true);
    assert_eq!(evaluate("EQ($a, True)", &json!({"a": "True"})), true);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,8}|[0-7]{1,4}|1\\.2\\.3\\.4:80|ä+".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-d.]{1,3}|service|module|path", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,500}", data in any_value()) {
        if let Ok(expression) = Expression::parse(&text) {
            expression.evaluate(&[&data]);
        }
    }

    #[test]
    fn no_text_of_the_language_makes_it_panic(
        parts in proptest::collection::vec(
            "\\(|\\)|,|\"|\\$a|\\$b\\.c|\\$argv|IGNORE\\(|FOREACH\\(\"|EQ\\(|match\\(a, |argmatch\\(|[0-9]{1,3}|0x|ä| |-|@|\\[|\\\\", 0..200),
        data in any_value(),
    ) {
        let text: String = parts.concat();
        if let Ok(expression) = Expression::parse(&text) {
            expression.evaluate(&[&data]);
        }
    }

    #[test]
    fn no_operand_makes_a_function_panic(
        a in any_value(), b in any_value(), c in any_value(), d in any_value(), index in 0usize..100, count in 0usize..5,
    ) {
        let all: Vec<&Function> = functions().collect();
        let function = all[index % all.len()];
        let arguments: Vec<String> = ["$a", "$b", "$c", "$d"][..count.min(4)].iter().map(|name| name.to_string()).collect();
        let text = if function.name == "FOREACH" {
            "FOREACH($a, $b, \"OR($a, LT($b, $c), IN($a, $b), MODE_LE($a, $b))\")".to_string()
        } else {
            format!("{}({})", function.name, arguments.join(","))
        };
        let data = json!({"a": a, "b": b, "c": c, "d": d, "argv": c, "pathname": d, "procinfo": {"listenaddrs": b},
            "_init_commands": {"data": a}, "_init_monitoringagents": {"data": {"upstart": c}}});
        if let Ok(expression) = Expression::parse(&text) {
            let evaluation = expression.evaluate(&[&data]);
            prop_assert!(evaluation.used.len() <= MAXIMUM_RECORDED_NAMES);
            prop_assert_ne!(evaluation.value, Some(Value::Null));
        }
    }
}

//! The language in words: docs/rule-language.md is made from this and from the functions' own declarations.

use super::functions::{Function, FunctionExample, functions};

/// The whole reference as Markdown.
pub fn reference_text() -> String {
    let mut text = INTRODUCTION.to_owned();
    for function in functions() {
        text.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            function.name,
            arguments(function),
            cell(function.summary),
            examples(function)
        ));
    }
    text
}

fn arguments(function: &Function) -> String {
    match (function.minimum_arguments, function.maximum_arguments) {
        (minimum, None) => format!("{minimum} or more"),
        (minimum, Some(maximum)) if minimum == maximum => minimum.to_string(),
        (minimum, Some(maximum)) => format!("{minimum} to {maximum}"),
    }
}

fn examples(function: &Function) -> String {
    let shown: Vec<String> = function.examples.iter().map(example).collect();
    shown.join("<br>")
}

/// `EQ($a, 1)` with `{"a": 1}` → `true`
fn example(example: &FunctionExample) -> String {
    let with = if example.data == "{}" { String::new() } else { format!(" with {}", code(example.data)) };
    format!("{}{with} → {}", code(example.expression), code(example.result))
}

fn code(text: &str) -> String {
    format!("`{}`", cell(text))
}

/// Text inside a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

const INTRODUCTION: &str = r#"# The language of rules

A rule holds one expression. It is evaluated over the `data` of one discovery and says whether the host is as it should be.
Try one without a CMA: `assimcli rules eval 'EQ($net.ipv4.ip_forward, 0)' --data data.json`. How a rule is written around it: [add-a-rule.md](add-a-rule.md).

## Values

| value | written |
|---|---|
| text | `"in quotes"`, with blanks, commas and parentheses as they please (there are no escapes, so no quote inside); or bare: `root`, `/etc/issue`, `aes256-ctr` |
| integer | `42`, `-1`; octal with a leading 0: `0640`; hexadecimal: `0xff` |
| fraction | `3.5` |
| truth value | `True`, `False` |
| list, map | not written; they come from the data |
| unknown | not written; what a name gives that is not in the data, and JSON's null |

Where text meets a number, `EQ` and its like compare texts (`EQ(1, "1")` is true), `LT` and its like compare numbers if the text is one. Zero, empty text, an empty list and an empty map count as false, everything else as true.
Text that was discovered is never read as an expression.

## Names

`$name` is the value of that key in the data; the longest key that fits is taken first. With dots it goes into maps, with `[n]` into lists (`[-1]` is the last element):

| name | in | gives |
|---|---|---|
| `$net.ipv4.ip_forward` | `{"net.ipv4.ip_forward": 0}` | `0` |
| `$/etc/login.defs.octal` | `{"/etc/login.defs": {"octal": "0644"}}` | `"0644"` |
| `$rules[0].users` | `{"rules": [{"users": ["root"]}]}` | `["root"]` |
| `$absent` | `{}` | unknown |

Inside `FOREACH` names are looked up in the member, not in the data around it.

## Three truth values

True, false, and unknown: the setting is absent or could not be read. Unknown is neither true nor false and spreads through most functions. What the whole expression gives decides:

| result | status of the rule |
|---|---|
| true | pass (`ignore` when the expression is `IGNORE(...)`) |
| false, or anything that is no truth value | fail |
| unknown | NA: nothing is said about this host |

So every rule has to choose what an absent setting means: `MUST(...)` makes it a failure, `NONEOK(...)` lets it pass, neither of them leaves it open.

## Mistakes

Unknown functions, wrong numbers of arguments, unbalanced quotes and parentheses, wrong numbers and regular expressions are errors when a rule is loaded (`assimcli rules check DIR` finds them), never when it is evaluated.
Evaluation cannot fail: where the data make no sense for a function, the result is unknown.

## Functions

Names are case sensitive. Arguments are separated by commas. Each example is run by the test suite; `null` is unknown.

<!-- Made from crates/rules/src/expression: UPDATE=1 cargo test -p rules reference -->

| function | arguments | gives | examples |
|---|---|---|---|
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Expression;
    use serde_json::{Value, json};

    #[test]
    fn the_documentation_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rule-language.md");
        let text = reference_text();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == text,
            "docs/rule-language.md is not current; write it with UPDATE=1 cargo test -p rules reference"
        );
    }

    /// What the introduction says beside the functions' own examples.
    #[test]
    fn the_introduction_is_true() {
        let gives =
            |expression: &str, data: Value| Expression::parse(expression).unwrap().evaluate(&[&data]).value;
        assert_eq!(gives("EQ(1, \"1\")", json!({})), Some(json!(true)));
        assert_eq!(gives("LT(9, \"10\")", json!({})), Some(json!(true)));
        assert_eq!(gives("0640", json!({})), Some(json!(416)));
        assert_eq!(gives("0xff", json!({})), Some(json!(255)));
        assert_eq!(gives("-1", json!({})), Some(json!(-1)));
        assert_eq!(gives("3.5", json!({})), Some(json!(3.5)));
        assert_eq!(gives("True", json!({})), Some(json!(true)));
        assert_eq!(gives("/etc/issue", json!({})), Some(json!("/etc/issue")));
        assert_eq!(gives("\"a, (b\"", json!({})), Some(json!("a, (b")));
        assert_eq!(gives("$net.ipv4.ip_forward", json!({"net.ipv4.ip_forward": 0})), Some(json!(0)));
        let file = json!({"/etc/login.defs": {"octal": "0644"}});
        assert_eq!(gives("$/etc/login.defs.octal", file), Some(json!("0644")));
        assert_eq!(gives("$rules[0].users", json!({"rules": [{"users": ["root"]}]})), Some(json!(["root"])));
        assert_eq!(gives("$rules[-1]", json!({"rules": [1, 2]})), Some(json!(2)));
        assert_eq!(gives("$absent", json!({})), None);
        assert_eq!(gives("$x", json!({"x": "EQ(1, 1)"})), Some(json!("EQ(1, 1)")));
        for empty in [json!(0), json!(""), json!([]), json!({})] {
            assert_eq!(gives("NOT($x)", json!({"x": empty})), Some(json!(true)));
        }
        let member = json!({"f": {"a": 1}, "b": 2});
        assert_eq!(
            gives("FOREACH($f, \"EQ($b, 2)\")", member.clone()),
            gives("FOREACH($f, \"EQ($nothing, 2)\")", member)
        );
        assert_eq!(gives("MUST(EQ($absent, 1))", json!({})), Some(json!(false)));
        assert_eq!(gives("NONEOK(EQ($absent, 1))", json!({})), Some(json!(true)));
        for mistake in ["EQX(1, 2)", "EQ(1)", "EQ(1, \"2)", "EQ(1, 2", "08", "match(a, \"(\")"] {
            assert!(Expression::parse(mistake).is_err(), "{mistake}");
        }
    }
}

//! Rules as text: one rule in TOML, or one discovery's rules in the original project's JSON.

use crate::rule::{Applies, Rule, RuleExpression, RuleProblem, Severity};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use toml::Spanned;

/// Longest rule file in bytes; the original's JSON files hold many rules.
pub const MAXIMUM_TOML_BYTES: usize = 256 * 1024;
pub const MAXIMUM_JSON_BYTES: usize = 4 * 1024 * 1024;

/// `set.toml`: the rule set's own description.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetFile {
    #[serde(default)]
    pub description: String,
    /// The set whose rules this one takes over; empty for none.
    #[serde(default)]
    pub based_on: String,
    /// Benchmarks: rules of the catalogue that have an id in one of them (a name under `[references]`) belong to the set.
    #[serde(default)]
    pub select: Vec<String>,
    /// Further rules of the catalogue, by id.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Rule id → why it is switched off here.
    #[serde(default)]
    pub ignore: BTreeMap<String, String>,
    /// Sets for particular operating systems, the first that fits: hosts with this set get that one instead.
    #[serde(default)]
    pub pick: Vec<Pick>,
}

/// `[[pick]]`: which operating system gets which set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pick {
    /// `ID` of os-release(5), or one of its `ID_LIKE`.
    pub os: String,
    /// Versions whose first part (or first two) read so; empty: all.
    #[serde(default)]
    pub versions: Vec<String>,
    pub set: String,
}

/// Reads `set.toml`.
pub fn parse_set(text: &str, file: &str) -> Result<SetFile, RuleProblem> {
    from_toml(text, file)
}

/// Reads one rule in TOML. The second part of the answer are problems that leave the rule loaded, such as a bad
/// expression (the rule is then NA).
pub fn parse_toml(text: &str, set: &str, file: &str) -> Result<(Rule, Vec<RuleProblem>), RuleProblem> {
    let raw: TomlRule = from_toml(text, file)?;
    let mut problems = Vec::new();
    let line = line_of(text, raw.expression.span().start);
    let id = raw.id.trim().to_string();
    check_id(&id)
        .and_then(|()| check_word("category", &raw.category))
        .and_then(|()| check_word("discovery", &raw.discovery))
        .map_err(|message| RuleProblem::new(file, message, "use letters, digits and . _ - only").rule(&id))?;
    let expression = RuleExpression::new(raw.expression.get_ref());
    match &expression.parsed {
        Ok(parsed) if parsed.is_constant() => {
            let hint = "a rule looks at data: write for example EQ($name, 1)";
            problems.push(RuleProblem::new(file, "the expression is a constant", hint).line(line).rule(&id));
        }
        Ok(_) => {}
        Err(error) => problems.push(expression_problem(file, &id, error).line(line)),
    }
    let applies = raw.applies.map(|applies| {
        let line = line_of(text, applies.expression.span().start);
        let expression = RuleExpression::new(applies.expression.get_ref());
        if let Err(error) = &expression.parsed {
            problems.push(expression_problem(file, &id, error).line(line));
        }
        Applies { discovery: applies.discovery, expression, reason: applies.reason.trim().to_string() }
    });
    let trim = |text: String| text.trim().to_string();
    let rule = Rule {
        id,
        title: trim(raw.title),
        severity: raw.severity,
        category: raw.category,
        discovery: raw.discovery,
        subject: raw.subject,
        expression,
        applies,
        why: trim(raw.why),
        check: trim_block(&raw.check),
        fix_now: trim_block(&raw.fix_now),
        fix_permanently: trim_block(&raw.fix_permanently),
        aliases: raw.aliases,
        references: raw.references,
        pass_example: raw.example.pass.map(Value::Object),
        fail_example: raw.example.fail.map(Value::Object),
        ignored: None,
        set: set.to_string(),
        source: file.to_string(),
    };
    Ok((rule, problems))
}

/// Reads a file in the original's format: rule id → `{category, severity, rule, ...}`, `#` comments and trailing
/// commas allowed. `discovery` is the file's base name. An entry that is wrong becomes a rule that is NA, with a problem.
pub fn parse_json(
    text: &str,
    set: &str,
    discovery: &str,
    file: &str,
) -> Result<(Vec<Rule>, Vec<RuleProblem>), RuleProblem> {
    if text.len() > MAXIMUM_JSON_BYTES {
        return Err(RuleProblem::new(
            file,
            format!("the file is larger than {MAXIMUM_JSON_BYTES} bytes"),
            "split it",
        ));
    }
    let plain = without_comments(text);
    let entries: Map<String, Value> = serde_json::from_str(&plain).map_err(|error| {
        let hint = "the file holds one object: rule id to {category, severity, rule}";
        RuleProblem::new(file, format!("not a rule file: {error}"), hint).line(error.line().max(1))
    })?;
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    for (id, entry) in &entries {
        let line = plain.find(&format!("\"{id}\"")).map(|offset| line_of(&plain, offset));
        let located = |problem: RuleProblem| RuleProblem { line, ..problem.rule(id) };
        if let Err(message) = check_id(id) {
            problems.push(located(RuleProblem::new(file, message, "use letters, digits and . _ - only")));
            continue;
        }
        let field = |name: &str| entry.get(name).and_then(Value::as_str).map(str::trim).unwrap_or_default();
        let comment = id == "copyright" && field("rule").is_empty();
        let expression = RuleExpression::new(if comment { "IGNORE()" } else { field("rule") });
        let mut expression = expression;
        if !comment && field("rule").is_empty() {
            expression.parsed = Err(crate::ParseError {
                position: 1,
                message: "there is no text under \"rule\"".into(),
                hint: "add \"rule\": \"EQ($name, 1)\"".into(),
            });
        }
        if let Err(error) = &expression.parsed {
            problems.push(located(expression_problem(file, id, error)));
        }
        let category = match field("category") {
            "" if id == "copyright" => "comment",
            "" => {
                problems.push(located(RuleProblem::new(
                    file,
                    "there is no category; taken as security",
                    "add \"category\": \"security\"",
                )));
                "security"
            }
            category => category,
        };
        let title = [field("title"), field("comment"), id]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default();
        rules.push(Rule {
            id: id.clone(),
            title: title.to_string(),
            severity: Severity::of(field("severity")),
            category: category.to_string(),
            discovery: discovery.to_string(),
            subject: None,
            expression,
            applies: None,
            why: field("why").to_string(),
            check: field("check").to_string(),
            fix_now: field("fix_now").to_string(),
            fix_permanently: field("fix_permanently").to_string(),
            aliases: Vec::new(),
            references: BTreeMap::new(),
            pass_example: None,
            fail_example: None,
            ignored: None,
            set: set.to_string(),
            source: file.to_string(),
        });
    }
    Ok((rules, problems))
}

/// A rule file of either kind, by its name, or by its first character when the name does not tell.
pub fn parse_any(text: &str, set: &str, file: &str) -> Result<(Vec<Rule>, Vec<RuleProblem>), RuleProblem> {
    let name = file.rsplit('/').next().unwrap_or(file);
    match name.strip_suffix(".json") {
        Some(discovery) => parse_json(text, set, discovery, file),
        None if looks_like_json(text) => parse_json(text, set, name, file),
        None => parse_toml(text, set, file).map(|(rule, problems)| (vec![rule], problems)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlRule {
    id: String,
    title: String,
    severity: Severity,
    category: String,
    discovery: String,
    subject: Option<String>,
    expression: Spanned<String>,
    applies: Option<TomlApplies>,
    why: String,
    check: String,
    fix_now: String,
    fix_permanently: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    references: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    example: TomlExamples,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlApplies {
    discovery: Option<String>,
    expression: Spanned<String>,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlExamples {
    pass: Option<Map<String, Value>>,
    fail: Option<Map<String, Value>>,
}

fn from_toml<T: serde::de::DeserializeOwned>(text: &str, file: &str) -> Result<T, RuleProblem> {
    if text.len() > MAXIMUM_TOML_BYTES {
        return Err(RuleProblem::new(
            file,
            format!("the file is larger than {MAXIMUM_TOML_BYTES} bytes"),
            "split it",
        ));
    }
    toml::from_str(text).map_err(|error| {
        let message = error.message().trim().replace('\n', " ");
        let problem = RuleProblem::new(file, message, "compare it with a file of the set BASE");
        match error.span() {
            Some(span) => problem.line(line_of(text, span.start)),
            None => problem,
        }
    })
}

/// The first line that is neither blank nor a comment opens an object.
fn looks_like_json(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.next().is_some_and(|line| line.starts_with('{'))
}

fn expression_problem(file: &str, id: &str, error: &crate::ParseError) -> RuleProblem {
    let message = format!("the expression is wrong at character {}: {}", error.position, error.message);
    RuleProblem::new(file, message, &*error.hint).rule(id)
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// Blank lines around a text go, the two blanks in front of a command on the first line stay.
fn trim_block(text: &str) -> String {
    let mut rest = text.trim_end();
    while let Some((first, others)) = rest.split_once('\n')
        && first.trim().is_empty()
    {
        rest = others;
    }
    rest.to_string()
}

pub(crate) fn check_id(id: &str) -> Result<(), String> {
    let characters = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte));
    if id.is_empty() || id.len() > 128 || !characters {
        return Err(format!("{:?} is no rule id", model::text::shortened(id, 40)));
    }
    Ok(())
}

fn check_word(what: &str, word: &str) -> Result<(), String> {
    let characters = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-#".contains(&byte));
    if word.is_empty() || word.len() > 128 || !characters {
        return Err(format!("{:?} is no {what}", model::text::shortened(word, 40)));
    }
    Ok(())
}

/// Blanks in place of `#` comments and of commas before a closing bracket; all positions stay.
pub fn without_comments(text: &str) -> String {
    let mut plain: Vec<char> = Vec::with_capacity(text.len());
    let (mut in_text, mut escaped, mut in_comment) = (false, false, false);
    // Where the last comma stands, if only blanks follow it so far.
    let mut comma: Option<usize> = None;
    for character in text.chars() {
        if in_comment && character != '\n' {
            plain.push(' ');
            continue;
        }
        in_comment = false;
        if in_text {
            in_text = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else {
            match character {
                '#' => in_comment = true,
                ',' => comma = Some(plain.len()),
                '}' | ']' => {
                    if let Some(position) = comma.take() {
                        plain[position] = ' ';
                    }
                }
                _ if character.is_whitespace() => {}
                _ => {
                    in_text = character == '"';
                    comma = None;
                }
            }
        }
        plain.push(if in_comment { ' ' } else { character });
    }
    plain.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = r#"id = "x_1"
title = "Packets are logged"
severity = "low"
category = "security"
discovery = "proc_sys"
expression = 'EQ($net.x, 1)'
why = """
Because. """
check = """
  sysctl net.x
"""
fix_now = "  sysctl -w net.x=1"
fix_permanently = "  edit"
aliases = ["old_1"]
[references]
disa_vuln = ["V-1"]
[example.pass]
"net.x" = 1
list = [{ a = 1.5 }]
[example.fail]
"net.x" = 0
"#;

    #[test]
    fn a_toml_rule_is_read() {
        let (rule, problems) = parse_toml(RULE, "BASE", "x.toml").unwrap();
        assert_eq!(problems, []);
        assert_eq!((rule.why.as_str(), rule.check.as_str()), ("Because.", "  sysctl net.x"));
        assert_eq!(rule.pass_example, Some(serde_json::json!({"net.x": 1, "list": [{"a": 1.5}]})));
        assert!(
            rule.is_called("v-1")
                && rule.is_called("old_1")
                && rule.is_called("X_1")
                && !rule.is_called("V-2")
        );
        assert_eq!(rule.shortcomings(), []);
    }

    #[test]
    fn toml_problems_name_the_line() {
        let error = parse_toml(&RULE.replace("why =", "wy ="), "BASE", "x.toml").unwrap_err();
        assert_eq!(error.line, Some(7), "{error}");
        assert!(error.message.contains("wy"), "{error}");
        assert_eq!(
            parse_toml(&RULE.replace("\"low\"", "\"bad\""), "BASE", "x.toml").unwrap_err().line,
            Some(3)
        );
        assert!(parse_toml(&RULE.replace("x_1", "../x"), "BASE", "x.toml").is_err());
        assert!(parse_toml(&" ".repeat(MAXIMUM_TOML_BYTES + 1), "BASE", "x.toml").is_err());
        let (rule, problems) = parse_toml(&RULE.replace("EQ(", "EQQ("), "BASE", "x.toml").unwrap();
        assert!(rule.expression.parsed.is_err());
        assert_eq!(
            problems[0].to_string(),
            "x.toml:6: rule x_1: the expression is wrong at character 1: there is no function \"EQQ\"; did you mean EQ?"
        );
        let (_, problems) = parse_toml(&RULE.replace("EQ($net.x, 1)", "root"), "BASE", "x.toml").unwrap();
        assert!(problems[0].message.contains("constant"));
    }

    #[test]
    fn examples_and_texts_are_checked() {
        let (rule, _) =
            parse_toml(&RULE.replace("\"net.x\" = 0", "y = 0").replace("Because.", ""), "BASE", "x").unwrap();
        let told: Vec<String> = rule.shortcomings().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("[example.fail] gives NA") && told[1].contains("why is missing"),
            "{told:?}"
        );
    }

    #[test]
    fn the_original_format_is_read() {
        let text = r##"{ # rules
  "copyright": {"category": "comment", "rule": "IGNORE(Copyright (c) x)"},
  "a": {"category": "security", "severity": "odd", "rule": "EQ($x, \"#,}\")", "application": ["os"],}, # end
  "b": {"category": "networking", "severity": "high",
    "rule": "EQQ($x,1)"},
  "c": {"category": "security"},
}"##;
        let (rules, problems) = parse_json(text, "BASE", "proc_sys", "proc_sys.json").unwrap();
        let ids: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c", "copyright"]);
        assert_eq!(
            (rules[0].severity, rules[0].expression.text.as_str()),
            (Severity::Medium, "EQ($x, \"#,}\")")
        );
        assert!(rules[3].is_ignored() && rules[3].category == "comment");
        assert_eq!(
            problems.iter().map(|p| (p.line, p.rule.as_deref())).collect::<Vec<_>>(),
            [(Some(4), Some("b")), (Some(6), Some("c"))]
        );
        assert_eq!(parse_json("{\n\"a\": [}", "B", "p", "p.json").unwrap_err().line, Some(2));
        assert_eq!(parse_any(&format!("# first\n\n{text}"), "BASE", "/tmp/rules").unwrap().0.len(), 4);
    }
}

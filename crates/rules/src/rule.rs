//! One rule, and what can be wrong with one.

use crate::expression::{Expression, ParseError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How bad it is when a rule fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Low,
    #[default]
    Medium,
    High,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// Unknown and missing severities count as medium (rule language, section 6).
    pub fn of(text: &str) -> Severity {
        match text {
            "low" => Self::Low,
            "high" => Self::High,
            _ => Self::Medium,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An expression as written and what the load-time check made of it. A bad one makes its own rule NA and no other.
#[derive(Debug, Clone)]
pub struct RuleExpression {
    pub text: String,
    pub parsed: Result<Expression, ParseError>,
}

impl RuleExpression {
    pub fn new(text: &str) -> Self {
        Self { text: text.trim().to_string(), parsed: Expression::parse(text) }
    }
}

/// On which hosts a rule makes sense.
#[derive(Debug, Clone)]
pub struct Applies {
    /// Discovery type whose document decides; `None`: the rule's own.
    pub discovery: Option<String>,
    /// The rule is judged where this is true.
    pub expression: RuleExpression,
    /// Why it is not judged elsewhere, for people.
    pub reason: String,
}

/// A rule as loaded.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Stays valid for ever; `nist_V-38528`.
    pub id: String,
    /// What is so when the rule passes.
    pub title: String,
    pub severity: Severity,
    /// `security`, `networking`, `comment` (not scored) or a site's own.
    pub category: String,
    /// Instance name or discovery type whose `data` it reads.
    pub discovery: String,
    /// What the rule is about, where several rules give it different values: a set keeps the nearest of them.
    pub subject: Option<String>,
    pub expression: RuleExpression,
    pub applies: Option<Applies>,
    pub why: String,
    pub check: String,
    pub fix_now: String,
    pub fix_permanently: String,
    /// Former ids.
    pub aliases: Vec<String>,
    /// Benchmark (`stig_rhel8`, `disa_vuln`, `cis_debian12` ...) to ids.
    pub references: BTreeMap<String, Vec<String>>,
    pub pass_example: Option<Value>,
    pub fail_example: Option<Value>,
    /// Why the rule set switches it off, if it does.
    pub ignored: Option<String>,
    /// The rule set it is defined in.
    pub set: String,
    /// The file it comes from, for people.
    pub source: String,
}

impl Rule {
    /// Switched off: by its set, or by IGNORE as the outermost function.
    pub fn is_ignored(&self) -> bool {
        self.ignored.is_some() || self.expression.parsed.as_ref().is_ok_and(Expression::is_ignore)
    }

    /// Whether `id` is the rule's id, a former id or its id in any benchmark; case does not matter.
    pub fn is_called(&self, id: &str) -> bool {
        self.names().any(|name| name.eq_ignore_ascii_case(id))
    }

    /// Id, aliases, benchmark ids.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let references = self.references.values().flatten();
        std::iter::once(&self.id).chain(&self.aliases).chain(references).map(String::as_str)
    }

    /// What is wrong with one of its expressions.
    pub fn problem(&self) -> Option<&ParseError> {
        let applies = self.applies.as_ref().map(|applies| &applies.expression);
        std::iter::once(&self.expression)
            .chain(applies)
            .find_map(|expression| expression.parsed.as_ref().err())
    }

    /// The rule as one object, for programs: all fields under their names, empty ones included.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id, "title": self.title, "severity": self.severity, "category": self.category,
            "discovery": self.discovery, "subject": self.subject, "expression": self.expression.text,
            "problem": self.problem().map(ToString::to_string),
            "applies": self.applies.as_ref().map(|applies| json!({
                "discovery": applies.discovery.as_ref().unwrap_or(&self.discovery),
                "expression": applies.expression.text, "reason": applies.reason,
            })),
            "why": self.why, "check": self.check, "fix_now": self.fix_now, "fix_permanently": self.fix_permanently,
            "aliases": self.aliases, "references": self.references, "ignored": self.ignored,
            "set": self.set, "source": self.source,
        })
    }

    /// Everything about the rule as text for people, harmless on a terminal.
    pub fn page(&self) -> String {
        let mut page = format!(
            "{}: {}\n{} severity, category {}, set {}\n",
            self.id, self.title, self.severity, self.category, self.set
        );
        if let Some(why) = &self.ignored {
            page += &format!("IGNORED in this set: {why}\n");
        }
        page += &format!("\nChecks, on the data of {}:\n    {}\n", self.discovery, self.expression.text);
        if let Some(applies) = &self.applies {
            let data = applies.discovery.as_ref().unwrap_or(&self.discovery);
            page += &format!(
                "\nOnly where this is true of {data}:\n    {}\n    otherwise: {}\n",
                applies.expression.text, applies.reason
            );
        }
        for (heading, body) in [
            ("Why", &self.why),
            ("Check by hand", &self.check),
            ("Fix now", &self.fix_now),
            ("Fix for good", &self.fix_permanently),
        ] {
            if !body.is_empty() {
                let lines: Vec<String> =
                    body.lines().map(|line| format!("    {line}").trim_end().to_owned()).collect();
                page += &format!("\n{heading}\n{}\n", lines.join("\n"));
            }
        }
        let ids: Vec<String> = self
            .references
            .iter()
            .map(|(benchmark, ids)| format!("    {:<16} {}", benchmark.replace('_', " "), ids.join(", ")))
            .collect();
        if !ids.is_empty() {
            page += &format!("\nCalled in benchmarks\n{}\n", ids.join("\n"));
        }
        page += &format!("\nFrom {}\n", self.source);
        page.lines().map(|line| model::text::printable(line).into_owned() + "\n").collect()
    }

    /// What is wrong with the rule for its readers: examples that do not do what they must, missing texts.
    pub fn shortcomings(&self) -> Vec<RuleProblem> {
        let problem = |message: String, hint: &str| RuleProblem {
            file: self.source.clone(),
            line: None,
            rule: Some(self.id.clone()),
            message,
            hint: hint.to_string(),
        };
        let mut problems = Vec::new();
        let expression = match (self.problem(), &self.expression.parsed) {
            (None, Ok(expression)) => expression,
            (Some(error), _) | (None, Err(error)) => {
                return vec![problem(
                    format!("expression: at character {}: {}", error.position, error.message),
                    &error.hint,
                )];
            }
        };
        if self.applies.as_ref().is_some_and(|applies| applies.reason.is_empty()) {
            problems.push(problem("[applies] has no reason".into(), "say why the rule makes no sense there"));
        }
        if expression.is_ignore() {
            return problems;
        }
        for (example, name, expected) in
            [(&self.pass_example, "pass", true), (&self.fail_example, "fail", false)]
        {
            let Some(data) = example else {
                problems.push(problem(
                    format!("there is no [example.{name}]"),
                    "add data with which the rule must give that result",
                ));
                continue;
            };
            if let Some(Applies {
                discovery: None,
                expression: RuleExpression { parsed: Ok(applies), .. },
                ..
            }) = &self.applies
                && applies.evaluate(&[data]).value != Some(Value::Bool(true))
            {
                problems.push(problem(
                    format!("the rule does not apply to [example.{name}]"),
                    "correct the expression under [applies] or the example",
                ));
            }
            let evaluation = expression.evaluate(&[data]);
            if evaluation.value != Some(Value::Bool(expected)) {
                let got = evaluation.value.map_or_else(|| "NA".to_string(), |value| value.to_string());
                problems.push(problem(
                    format!("[example.{name}] gives {got}"),
                    "correct the expression or the example",
                ));
            }
        }
        let texts = [
            ("title", &self.title),
            ("why", &self.why),
            ("check", &self.check),
            ("fix_now", &self.fix_now),
            ("fix_permanently", &self.fix_permanently),
        ];
        for (name, _) in texts.iter().filter(|(_, text)| text.is_empty()) {
            problems.push(problem(format!("{name} is missing"), "people need it when the rule fails"));
        }
        problems
    }

    pub(crate) fn shared(self) -> Arc<Rule> {
        Arc::new(self)
    }
}

/// Something wrong with a rule, a rule file or a rule set; it affects nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleProblem {
    pub file: String,
    /// From 1.
    pub line: Option<usize>,
    pub rule: Option<String>,
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl RuleProblem {
    pub(crate) fn new(file: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { file: file.to_string(), line: None, rule: None, message: message.into(), hint: hint.into() }
    }

    pub(crate) fn line(self, line: usize) -> Self {
        Self { line: Some(line), ..self }
    }

    pub(crate) fn rule(self, id: &str) -> Self {
        Self { rule: Some(id.to_string()), ..self }
    }
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(rule) = &self.rule {
            write!(f, ": rule {rule}")?;
        }
        write!(f, ": {}", self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

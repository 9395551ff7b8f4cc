//! One `*.mrule` file: JSON with `#` comments and trailing commas, the fields that its class has and no others.

use crate::Class;
use crate::example::Example;
use rules::expression::Pattern;
use rules::{Expression, rule_file};
use serde::Deserialize;
use std::fmt;

/// Longest file, in bytes.
pub const MAXIMUM_FILE_BYTES: usize = 64 * 1024;
/// Tuples of one `classconfig`, words of one `initargs`.
const MAXIMUM_TUPLES: usize = 100;
/// The longest word that a rule may give to an agent, and the longest name of an agent, in bytes.
const MAXIMUM_WORD_BYTES: usize = 1024;
const MAXIMUM_NAME_BYTES: usize = 100;

/// Why a file gives no rule, or not the rule that its author means. Reads `file:line: message; hint`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct MonitorRuleProblem {
    pub file: String,
    /// From 1.
    pub line: Option<usize>,
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl MonitorRuleProblem {
    pub(crate) fn new(file: &str, message: impl Into<String>, hint: &str) -> Self {
        Self { file: file.to_owned(), line: None, message: message.into(), hint: hint.to_owned() }
    }

    fn line(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }
}

impl fmt::Display for MonitorRuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

/// How much a match is worth; a greater one is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    Low,
    Medium,
    High,
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Service,
    Host,
}

/// What becomes of the value of a tuple's expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Nothing: it only has to fit.
    Match,
    /// Environment, or parameter of an OCF agent or a built-in check.
    Variable(String),
    /// Two words of the command line.
    Option(String),
    /// The last word of the command line.
    Positional,
}

impl Role {
    /// What it is called in files and in the setting `env`; empty for [`Role::Match`].
    pub fn name(&self) -> &str {
        match self {
            Self::Match => "",
            Self::Variable(name) | Self::Option(name) => name,
            Self::Positional => POSITIONAL,
        }
    }
}

pub const POSITIONAL: &str = "__ARGV__";

/// One element of `classconfig`.
#[derive(Debug, Clone)]
pub struct Tuple {
    pub role: Role,
    /// Left out when the expression gives nothing.
    pub is_optional: bool,
    /// `None`: the value is supplied by hand.
    pub expression: Option<Expression>,
    /// Anchored at the start.
    pub pattern: Option<Pattern>,
}

/// A rule that was read and checked.
#[derive(Debug, Clone)]
pub struct MonitorRule {
    /// Name of its file, without directories.
    pub file: String,
    pub class: Class,
    /// Agent, plug-in, init script, unit; for built-in classes the service's name.
    pub agent: String,
    pub provider: Option<String>,
    pub worth: Worth,
    pub subject: Subject,
    pub initargs: Vec<String>,
    pub tuples: Vec<Tuple>,
    /// What it looks after and how, for people.
    pub description: String,
    pub(crate) examples: Vec<Example>,
}

/// Reads one file; `file` is told in problems, its last part names the rule.
pub fn parse(text: &str, file: &str) -> Result<MonitorRule, MonitorRuleProblem> {
    if text.len() > MAXIMUM_FILE_BYTES {
        let message = format!("the file is larger than {MAXIMUM_FILE_BYTES} bytes");
        return Err(MonitorRuleProblem::new(file, message, "one file holds one rule"));
    }
    let plain = rule_file::without_comments(text);
    let reader = Reader { file, plain: &plain };
    let class: Probe = reader.json()?;
    match class.class.as_str() {
        Some("lsb") => reader.plain_rule(Class::Lsb),
        Some("NEVERMON") => reader.plain_rule(Class::NeverMon),
        Some("systemd") => reader.systemd(),
        Some("ocf") => reader.ocf(),
        Some("nagios") => reader.nagios(),
        Some("tcp") => reader.built_in(Class::Tcp),
        Some("http") => reader.built_in(Class::Http),
        Some("tls") => reader.built_in(Class::Tls),
        _ => {
            let shown = model::text::shortened(&class.class.to_string(), 60).into_owned();
            let hint = "the classes are ocf, nagios, lsb, systemd, tcp, http, tls, NEVERMON";
            Err(MonitorRuleProblem::new(file, format!("there is no class {shown}"), hint)
                .line(reader.line_of("\"class\"")))
        }
    }
}

#[derive(Deserialize)]
struct Probe {
    class: serde_json::Value,
}

type Words = Vec<Option<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainFile {
    #[serde(rename = "class")]
    _class: String,
    r#type: String,
    classconfig: Vec<Words>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    examples: Vec<Example>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SystemdFile {
    #[serde(rename = "class")]
    _class: String,
    r#type: String,
    #[serde(default)]
    objclass: ObjectClass,
    classconfig: Vec<Words>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    examples: Vec<Example>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OcfFile {
    #[serde(rename = "class")]
    _class: String,
    r#type: String,
    provider: String,
    classconfig: Vec<Words>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    examples: Vec<Example>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NagiosFile {
    #[serde(rename = "class")]
    _class: String,
    r#type: String,
    prio: Prio,
    initargs: Vec<String>,
    objclass: ObjectClass,
    classconfig: Vec<Words>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    examples: Vec<Example>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuiltInFile {
    #[serde(rename = "class")]
    _class: String,
    r#type: String,
    prio: Prio,
    classconfig: Vec<Words>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    examples: Vec<Example>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum ObjectClass {
    #[default]
    Service,
    Host,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Prio {
    Low,
    Med,
    High,
}

impl From<Prio> for Worth {
    fn from(prio: Prio) -> Self {
        match prio {
            Prio::Low => Self::Low,
            Prio::Med => Self::Medium,
            Prio::High => Self::High,
        }
    }
}

impl From<ObjectClass> for Subject {
    fn from(class: ObjectClass) -> Self {
        match class {
            ObjectClass::Service => Self::Service,
            ObjectClass::Host => Self::Host,
        }
    }
}

struct Reader<'a> {
    file: &'a str,
    /// Without comments, all positions as in the file.
    plain: &'a str,
}

impl Reader<'_> {
    fn json<T: for<'de> Deserialize<'de>>(&self) -> Result<T, MonitorRuleProblem> {
        serde_json::from_str(self.plain).map_err(|error| {
            let told = error.to_string();
            let message = told.rsplit_once(" at line ").map_or(told.as_str(), |(message, _)| message);
            self.problem(message, "docs/add-a-monitor-rule.md tells the fields of each class")
                .line((error.line() > 0).then_some(error.line()))
        })
    }

    fn problem(&self, message: impl Into<String>, hint: &str) -> MonitorRuleProblem {
        MonitorRuleProblem::new(self.file, message, hint)
    }

    /// Where `text` stands first.
    fn line_of(&self, text: &str) -> Option<usize> {
        let offset = self.plain.find(text)?;
        Some(self.plain.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1)
    }

    /// The line of a text as it stands in JSON.
    fn line_of_word(&self, word: &str) -> Option<usize> {
        self.line_of(&serde_json::Value::from(word).to_string())
    }

    /// What the classes have in common; the caller sets the rest.
    fn rule(
        &self,
        class: Class,
        agent: &str,
        classconfig: &[Words],
        description: &str,
        examples: Vec<Example>,
    ) -> Result<MonitorRule, MonitorRuleProblem> {
        self.check_name("type", agent)?;
        if classconfig.is_empty() || classconfig.len() > MAXIMUM_TUPLES {
            let message = format!("classconfig has {} tuples, not 1 to {MAXIMUM_TUPLES}", classconfig.len());
            return Err(self
                .problem(message, "name at least what the program is called")
                .line(self.line_of("\"classconfig\"")));
        }
        let named = !matches!(class, Class::Lsb | Class::Systemd | Class::NeverMon);
        let tuples = classconfig
            .iter()
            .map(|words| self.tuple(words, named, class))
            .collect::<Result<Vec<Tuple>, MonitorRuleProblem>>()?;
        let file = self.file.rsplit('/').next().unwrap_or(self.file).to_owned();
        Ok(MonitorRule {
            file,
            class,
            agent: agent.to_owned(),
            provider: None,
            worth: Worth::Low,
            subject: Subject::Service,
            initargs: Vec::new(),
            tuples,
            description: description.split_whitespace().collect::<Vec<_>>().join(" "),
            examples,
        })
    }

    fn plain_rule(&self, class: Class) -> Result<MonitorRule, MonitorRuleProblem> {
        let file: PlainFile = self.json()?;
        self.rule(class, &file.r#type, &file.classconfig, &file.description, file.examples)
    }

    fn systemd(&self) -> Result<MonitorRule, MonitorRuleProblem> {
        let file: SystemdFile = self.json()?;
        let rule = self.rule(
            Class::Systemd,
            file.r#type.strip_suffix(".service").unwrap_or(&file.r#type),
            &file.classconfig,
            &file.description,
            file.examples,
        )?;
        Ok(MonitorRule { subject: file.objclass.into(), ..rule })
    }

    fn ocf(&self) -> Result<MonitorRule, MonitorRuleProblem> {
        let file: OcfFile = self.json()?;
        self.check_name("provider", &file.provider)?;
        let rule =
            self.rule(Class::Ocf, &file.r#type, &file.classconfig, &file.description, file.examples)?;
        Ok(MonitorRule { provider: Some(file.provider), worth: Worth::High, ..rule })
    }

    fn nagios(&self) -> Result<MonitorRule, MonitorRuleProblem> {
        let file: NagiosFile = self.json()?;
        let rule =
            self.rule(Class::Nagios, &file.r#type, &file.classconfig, &file.description, file.examples)?;
        if file.initargs.len() > MAXIMUM_TUPLES {
            return Err(self
                .problem(format!("initargs has more than {MAXIMUM_TUPLES} words"), "")
                .line(self.line_of("\"initargs\"")));
        }
        for word in &file.initargs {
            self.check_word(word)?;
        }
        Ok(MonitorRule {
            worth: file.prio.into(),
            subject: file.objclass.into(),
            initargs: file.initargs,
            ..rule
        })
    }

    fn built_in(&self, class: Class) -> Result<MonitorRule, MonitorRuleProblem> {
        let file: BuiltInFile = self.json()?;
        let rule = self.rule(class, &file.r#type, &file.classconfig, &file.description, file.examples)?;
        Ok(MonitorRule { worth: file.prio.into(), ..rule })
    }

    /// Agents are files in a directory: a name must not lead out of it.
    fn check_name(&self, what: &str, name: &str) -> Result<(), MonitorRuleProblem> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+' | '\\');
        let is_legal = !name.is_empty()
            && name.len() <= MAXIMUM_NAME_BYTES
            && !name.starts_with(['.', '-'])
            && name.chars().all(legal);
        if is_legal {
            return Ok(());
        }
        let message = format!("{:?} is no {what}", model::text::shortened(name, 60));
        Err(self
            .problem(message, "use letters, digits and . _ - @ + only; no directory")
            .line(self.line_of(&format!("\"{what}\""))))
    }

    fn check_word(&self, word: &str) -> Result<(), MonitorRuleProblem> {
        if word.len() > MAXIMUM_WORD_BYTES || word.contains('\0') {
            let message = format!("a word is longer than {MAXIMUM_WORD_BYTES} bytes, or has a NUL in it");
            return Err(self.problem(message, "shorten it").line(self.line_of_word(word)));
        }
        Ok(())
    }

    fn tuple(&self, words: &Words, named: bool, class: Class) -> Result<Tuple, MonitorRuleProblem> {
        let shown = || serde_json::to_string(words).unwrap_or_default();
        let wrong_at = |word: Option<&String>, message: &str| {
            let message = format!("the tuple {} {message}", model::text::shortened(&shown(), 200));
            let hint = match named {
                true => {
                    "write [name, expression], [name, expression, regex] or [name, expression, regex, flags]; [name] when the value is supplied by hand"
                }
                false => "write [expression, regex] or [expression, regex, flags]",
            };
            self.problem(message, hint).line(word.and_then(|word| self.line_of_word(word)))
        };
        let wrong = |message: &str| wrong_at(words.iter().flatten().max_by_key(|word| word.len()), message);
        let (name, rest) = match (named, words.split_first()) {
            (true, Some((name, rest))) => (name.as_deref().unwrap_or("-"), rest),
            (false, Some(_)) => ("-", words.as_slice()),
            (_, None) => return Err(wrong("is empty")),
        };
        let (bare, is_optional) = match name.strip_prefix('?') {
            Some(bare) => (bare, true),
            None => (name, false),
        };
        self.check_word(bare)?;
        let role = match bare {
            "-" => Role::Match,
            POSITIONAL if class == Class::Nagios => Role::Positional,
            _ if bare.starts_with('-') && class == Class::Nagios => Role::Option(bare.to_owned()),
            _ if is_variable(bare) => Role::Variable(bare.to_owned()),
            _ => return Err(wrong("has a name that cannot be used")),
        };
        if role == Role::Match && is_optional {
            return Err(wrong("is optional and has no name"));
        }
        let (expression, pattern, flags) = match (named, rest) {
            (true, []) if role != Role::Match && !is_optional => (None, None, ""),
            (true, [Some(expression)]) => (Some(expression), None, ""),
            (_, [Some(expression), Some(pattern)]) => (Some(expression), Some(pattern), ""),
            (_, [Some(expression), Some(pattern), Some(flags)]) => {
                (Some(expression), Some(pattern), flags.as_str())
            }
            _ => return Err(wrong("has not the right number of texts")),
        };
        let expression = expression
            .map(|text| {
                let wrong = |error| wrong_at(Some(text), &format!("has a wrong expression: {error}"));
                Expression::parse(text).map_err(wrong)
            })
            .transpose()?;
        let pattern = pattern
            .map(|text| {
                let wrong = |error: String| wrong_at(Some(text), &format!("is wrong: {error}"));
                Pattern::new(text, flags, true).map_err(wrong)
            })
            .transpose()?;
        Ok(Tuple { role, is_optional, expression, pattern })
    }
}

/// Fit for the name of an environment variable, in whatever case.
fn is_variable(name: &str) -> bool {
    let mut characters = name.chars();
    name.len() <= MAXIMUM_NAME_BYTES
        && characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
#[path = "rule/tests.rs"]
mod tests;

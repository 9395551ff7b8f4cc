//! Canned queries: one TOML file each, with the question it answers, typed parameters, SQL over the views and line
//! templates. Every output form comes from the same rows, so none can show other columns than the others.
//!
//! ```toml
//! question = "Which host has this IP address?"
//! description = "More words, for the manual."
//! sql = "SELECT host, ifname FROM addresses WHERE ipaddr = :ipaddr ORDER BY host"
//! human = "${host} ${ifname}"
//! script = "${host}\t${ifname}"
//!
//! [columns]
//! host = "designation of the host"
//! ifname = "name of the network interface"
//!
//! [[parameter]]
//! name = "ipaddr"
//! type = "ipaddr"
//! description = "the address"
//! ```
//!
//! What no SQL can answer says `answer = "subgraph"` in place of `sql`, `human` and `script`: the CMA follows the graph from
//! `hostname` (a list; without it, everywhere) through nodes of the `nodetypes` and relationships of the `reltypes`.

mod parameter;

pub use model::template::Template;
pub use parameter::{Parameter, ParameterType};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

include!(concat!(env!("OUT_DIR"), "/queries.rs"));

/// Largest query file, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// Most files read from one directory.
const MAX_FILES: usize = 1000;

/// A query with a name, checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CannedQuery {
    pub name: String,
    /// Path of the file, or `built in`.
    pub source: String,
    /// One line.
    pub question: String,
    pub description: String,
    /// Meaning of each column of the answer, by name.
    pub columns: BTreeMap<String, String>,
    pub parameters: Vec<Parameter>,
    /// Over the views of [`crate::sqlite::documentation`], with `:name` for parameters; empty with `answer`.
    pub sql: String,
    /// Who answers in place of SQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerKind>,
    /// Line for people.
    pub human: Template,
    /// Line for programs.
    pub script: Template,
}

/// An answer that is not made by SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerKind {
    /// One row with the columns `nodes` and `relationships`, both arrays of objects.
    Subgraph,
}

impl AnswerKind {
    /// Parameters that it understands.
    pub fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Subgraph => &["hostname", "nodetypes", "reltypes"],
        }
    }

    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Subgraph => &["nodes", "relationships"],
        }
    }
}

/// What is wrong with a query file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueryProblem {
    pub file: String,
    /// Counted from 1; 0 when it concerns the file as a whole.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for QueryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

/// All canned queries by name.
#[derive(Debug, Clone, Default)]
pub struct Queries {
    by_name: BTreeMap<String, CannedQuery>,
}

impl Queries {
    /// The built-in queries, overridden by the files of `directories`, later ones last. A directory that does not
    /// exist is no problem; a file that is wrong leaves the query of that name as it was.
    pub fn load(directories: &[PathBuf]) -> (Queries, Vec<QueryProblem>) {
        let mut queries = Queries::default();
        let mut problems = vec![];
        for (name, text) in BUILT_IN {
            queries.add(CannedQuery::parse(name, "built in", text), &mut problems);
        }
        for directory in directories {
            queries.load_directory(directory, &mut problems);
        }
        (queries, problems)
    }

    pub fn get(&self, name: &str) -> Option<&CannedQuery> {
        self.by_name.get(name)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &CannedQuery> {
        self.by_name.values()
    }

    fn add(&mut self, parsed: Result<CannedQuery, QueryProblem>, problems: &mut Vec<QueryProblem>) {
        match parsed {
            Ok(query) => drop(self.by_name.insert(query.name.clone(), query)),
            Err(problem) => problems.push(problem),
        }
    }

    fn load_directory(&mut self, directory: &Path, problems: &mut Vec<QueryProblem>) {
        let problem = |file: &Path, message: String| QueryProblem {
            file: file.display().to_string(),
            line: 0,
            message,
        };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) => return problems.push(problem(directory, format!("cannot be listed: {e}"))),
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .take(MAX_FILES + 1)
            .collect();
        files.sort();
        if files.len() > MAX_FILES {
            return problems.push(problem(
                directory,
                format!("more than {MAX_FILES} query files; none of them is used"),
            ));
        }
        for file in files {
            let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("").to_owned();
            match read_file(&file) {
                Ok(text) => self.add(CannedQuery::parse(&name, &file.display().to_string(), &text), problems),
                Err(message) => problems.push(problem(&file, message)),
            }
        }
    }
}

/// The file as people write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryFile {
    question: String,
    #[serde(default)]
    description: String,
    columns: BTreeMap<String, String>,
    #[serde(default)]
    parameter: Vec<Parameter>,
    sql: Option<String>,
    human: Option<String>,
    script: Option<String>,
    answer: Option<AnswerKind>,
}

impl CannedQuery {
    /// Reads and checks the text of a query file; `source` names it in problems.
    pub fn parse(name: &str, source: &str, text: &str) -> Result<CannedQuery, QueryProblem> {
        let problem = |line: usize, message: String| QueryProblem { file: source.to_owned(), line, message };
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > 64 || !name.chars().all(legal) {
            return Err(problem(
                0,
                format!("the name of a query has 1 to 64 small letters, digits, '_' or '-', not {name:?}"),
            ));
        }
        let file: QueryFile = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(0, |span| line_at(text, span.start));
            problem(line, e.message().to_owned())
        })?;
        if file.question.is_empty() || file.question.contains('\n') {
            return Err(problem(line_of(text, "question"), "the question must be one line".into()));
        }
        let template = |key: &str, value: &Option<String>| -> Result<Template, QueryProblem> {
            let value = match (value, file.answer) {
                (Some(value), None) => value.clone(),
                (None, Some(answer)) => {
                    let columns = answer.columns().iter().map(|column| format!("${{{column}}}"));
                    columns.collect::<Vec<_>>().join("\t")
                }
                (Some(_), Some(_)) => {
                    return Err(problem(
                        line_of(text, key),
                        format!("{key} does not go together with answer"),
                    ));
                }
                (None, None) => return Err(problem(0, format!("missing field `{key}`"))),
            };
            let template = Template::parse(&value)
                .map_err(|message| problem(line_of(text, key), format!("{key}: {message}")))?;
            if let Some(column) = template.columns().find(|column| !file.columns.contains_key(*column)) {
                let message = format!("{key}: ${{{column}}} is not among [columns]");
                return Err(problem(line_of(text, key), message));
            }
            Ok(template)
        };
        let sql = match (&file.sql, file.answer) {
            (Some(sql), None) => sql.clone(),
            (None, Some(_)) => String::new(),
            (Some(_), Some(_)) => {
                return Err(problem(line_of(text, "sql"), "sql does not go together with answer".into()));
            }
            (None, None) => return Err(problem(0, "missing field `sql`".into())),
        };
        let (human, script) = (template("human", &file.human)?, template("script", &file.script)?);
        for (index, parameter) in file.parameter.iter().enumerate() {
            let name = &parameter.name;
            let line = line_of_parameter(text, name);
            parameter.check().map_err(|message| problem(line, format!("parameter {name:?}: {message}")))?;
            if file.parameter[..index].iter().any(|earlier| earlier.name == *name) {
                return Err(problem(line, format!("parameter {name:?} is there twice")));
            }
            match file.answer {
                None if !parameters_of(&sql).contains(&name.as_str()) => {
                    return Err(problem(line, format!("parameter {name:?} is not used in the SQL")));
                }
                Some(answer) if !answer.parameters().contains(&name.as_str()) => {
                    let known = answer.parameters().join(", ");
                    return Err(problem(
                        line,
                        format!("parameter {name:?} is none of this answer; it knows {known}"),
                    ));
                }
                _ => {}
            }
        }
        for used in parameters_of(&sql) {
            if !file.parameter.iter().any(|parameter| parameter.name == used) {
                return Err(problem(
                    line_of(text, "sql"),
                    format!("the SQL uses :{used}, which is no [[parameter]]"),
                ));
            }
        }
        Ok(CannedQuery {
            name: name.to_owned(),
            source: source.to_owned(),
            question: file.question,
            description: file.description,
            columns: file.columns,
            parameters: file.parameter,
            sql,
            answer: file.answer,
            human,
            script,
        })
    }

    /// Checks and normalises what was given, by name; texts are read as the type asks for.
    ///
    /// # Errors
    /// A sentence that names the parameter at fault.
    pub fn bind(&self, given: &[(String, Value)]) -> Result<Vec<(String, Value)>, String> {
        for (index, (name, _)) in given.iter().enumerate() {
            if !self.parameters.iter().any(|parameter| parameter.name == *name) {
                let known: Vec<&str> =
                    self.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
                return Err(match known.as_slice() {
                    [] => format!("the query {} has no parameters, so {name:?} means nothing", self.name),
                    _ => format!(
                        "the query {} has no parameter {name:?}; it has: {}",
                        self.name,
                        known.join(", ")
                    ),
                });
            }
            if given[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(format!("parameter {name} is given twice"));
            }
        }
        let mut bound = vec![];
        for parameter in &self.parameters {
            let name = &parameter.name;
            let value = given.iter().find(|(given, _)| given == name).map(|(_, value)| value);
            let Some(value) = value.or(parameter.default.as_ref()) else {
                return Err(format!("the query {} needs {name}=...: {}", self.name, parameter.description));
            };
            bound.push((
                name.clone(),
                parameter.normalise(value).map_err(|e| format!("parameter {name}: {e}"))?,
            ));
        }
        Ok(bound)
    }

    /// The only parameter, for which a bare value may be given.
    pub fn sole_parameter(&self) -> Option<&Parameter> {
        match self.parameters.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// Names after `:` in SQL, outside of quotes: what SQLite binds.
fn parameters_of(sql: &str) -> Vec<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut quoted = false;
    let mut names = vec![];
    for (position, c) in sql.char_indices() {
        quoted ^= c == '\'';
        let rest = &sql[position + c.len_utf8()..];
        if c == ':' && !quoted && rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            names.push(&rest[..rest.find(|c| !word(c)).unwrap_or(rest.len())]);
        }
    }
    names
}

fn read_file(path: &Path) -> Result<String, String> {
    // Not a FIFO or a device: reading must end.
    let kind = fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?;
    if !kind.is_file() {
        return Err("is not a regular file".into());
    }
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|e| format!("cannot be read: {e}"))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    Ok(text)
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The line that starts with `key =`.
fn line_of(text: &str, key: &str) -> usize {
    let starts = |line: &str| {
        line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().position(starts).map_or(0, |index| index + 1)
}

fn line_of_parameter(text: &str, name: &str) -> usize {
    let named = |line: &str| line.trim_start().starts_with("name") && line.contains(&format!("{name:?}"));
    text.lines().position(named).map_or(0, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const GOOD: &str = r#"question = "Where?"
sql = "SELECT host FROM addresses WHERE ipaddr = :ipaddr AND 'a:b' <> host"
human = "${host}!"
script = "${host}"
[columns]
host = "the host"
[[parameter]]
name = "ipaddr"
type = "ipaddr"
description = "the address"
"#;

    fn problem(text: &str) -> (usize, String) {
        let problem = CannedQuery::parse("q", "q.toml", text).unwrap_err();
        assert!(problem.to_string().starts_with("q.toml"), "{problem}");
        (problem.line, problem.message)
    }

    #[test]
    fn problems_name_line_and_word() {
        CannedQuery::parse("q", "q.toml", GOOD).unwrap();
        for (from, to, line, word) in [
            ("question = \"Where?\"", "question = \"Where?\"\nquestoin = 1", 2, "questoin"),
            ("\"Where?\"", "\"Where?", 1, ""),
            ("${host}!", "${hots}!", 3, "hots"),
            ("script = \"${host}\"", "script = \"${host\"", 4, "script"),
            (":ipaddr", ":ip", 8, "ipaddr"),
            (" <> host", " <> :who", 2, "who"),
            ("type = \"ipaddr\"", "type = \"ip\"", 9, "ip"),
            ("type = \"ipaddr\"", "type = \"enum\"", 8, "values"),
            ("type = \"ipaddr\"", "type = \"ipaddr\"\nmin = 3", 8, "min"),
        ] {
            assert!(GOOD.contains(from));
            let (found, message) = problem(&GOOD.replacen(from, to, 1));
            assert_eq!(found, line, "{to}: {message}");
            assert!(message.contains(word), "{to}: {message}");
        }
        assert!(CannedQuery::parse("../x", "x", GOOD).is_err());
    }

    #[test]
    fn what_is_not_answered_by_sql_says_so() {
        let text = r#"question = "What is around it?"
answer = "subgraph"
[columns]
nodes = "n"
relationships = "r"
[[parameter]]
name = "hostname"
type = "list"
of = "hostname"
description = "hosts"
"#;
        let query = CannedQuery::parse("q", "q.toml", text).unwrap();
        assert_eq!((query.sql.as_str(), query.answer), ("", Some(AnswerKind::Subgraph)));
        for (from, to, line, word) in [
            ("answer = \"subgraph\"", "answer = \"sub\"", 2, "sub"),
            ("answer = \"subgraph\"", "answer = \"subgraph\"\nsql = \"SELECT 1\"", 3, "answer"),
            ("answer = \"subgraph\"", "answer = \"subgraph\"\nhuman = \"${nodes}\"", 3, "answer"),
            ("answer = \"subgraph\"\n", "", 0, "sql"),
            ("\"hostname\"\ntype", "\"host\"\ntype", 7, "hostname"),
            ("nodes = \"n\"", "node = \"n\"", 0, "nodes"),
        ] {
            assert!(text.contains(from), "{from}");
            let (found, message) = problem(&text.replacen(from, to, 1));
            assert_eq!(found, line, "{to}: {message}");
            assert!(message.contains(word), "{to}: {message}");
        }
        let (found, message) = problem(&GOOD.replacen("human = \"${host}!\"\n", "", 1));
        assert!(found == 0 && message.contains("human"), "{message}");
    }

    #[test]
    fn parameters_are_checked_by_name() {
        let query = CannedQuery::parse("q", "q.toml", GOOD).unwrap();
        let given = |name: &str, value: Value| query.bind(&[(name.to_owned(), value)]);
        assert_eq!(
            given("ipaddr", json!("::ffff:10.0.0.7")).unwrap(),
            [("ipaddr".to_owned(), json!("10.0.0.7"))]
        );
        assert!(given("ip", json!("10.0.0.7")).unwrap_err().contains("ipaddr"));
        assert!(given("ipaddr", json!("10.0.0")).unwrap_err().contains("ipaddr"));
        assert!(query.bind(&[]).unwrap_err().contains("the address"));
        let twice = [("ipaddr".to_owned(), json!("::1")), ("ipaddr".to_owned(), json!("::2"))];
        assert!(query.bind(&twice).unwrap_err().contains("twice"));
        assert_eq!(query.sole_parameter().unwrap().name, "ipaddr");
    }

    #[test]
    fn files_win_over_built_in_queries_unless_they_are_wrong() {
        let directory = tempfile::TempDir::new().unwrap();
        let (built_in, problems) = Queries::load(&[directory.path().join("missing")]);
        assert_eq!(problems, []);
        fs::write(directory.path().join("down.toml"), GOOD).unwrap();
        fs::write(directory.path().join("mine.toml"), GOOD).unwrap();
        fs::write(directory.path().join("allips.toml"), "question = 1").unwrap();
        fs::write(directory.path().join("README"), "not a query").unwrap();
        fs::create_dir(directory.path().join("folder.toml")).unwrap();
        let (queries, problems) = Queries::load(&[directory.path().to_owned()]);
        assert_eq!(queries.iter().count(), built_in.iter().count() + 1);
        assert_eq!(queries.get("down").unwrap().question, "Where?");
        assert!(queries.get("down").unwrap().source.ends_with("down.toml"));
        assert_eq!(queries.get("allips"), built_in.get("allips"));
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("allips.toml:1: ") && told[1].contains("folder.toml: "), "{told:?}");
    }
}

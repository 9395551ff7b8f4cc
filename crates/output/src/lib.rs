//! What the programs print: rows in every format, the same rows in each of them; harmless on any terminal.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
pub use model::template::plain as text;
use model::template::{Template, cell};
use model::text::printable;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// `-o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people, fitted to the terminal
    Table,
    /// One array
    Json,
    /// One object a line
    Jsonl,
    /// RFC 4180 with a header line
    Csv,
    /// Tab-separated, no header, stable
    Script,
}

impl Format {
    /// For people on a terminal, else stable lines for scripts.
    pub fn by_terminal() -> Format {
        if io::stdout().is_terminal() { Format::Table } else { Format::Script }
    }
}

/// What a command prints: named columns and rows.
#[derive(Debug, Default, PartialEq)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
    /// Lines of a canned query for `script`.
    pub script: Option<Template>,
}

impl Rows {
    pub fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|c| (*c).to_owned()).collect(), ..Self::default() }
    }

    /// From an array of objects: one row each, the given fields.
    pub fn from_objects(columns: &[&str], objects: &Value) -> Self {
        let mut rows = Self::new(columns);
        for object in objects.as_array().into_iter().flatten() {
            rows.rows.push(columns.iter().map(|column| object[*column].clone()).collect());
        }
        rows
    }

    /// From the CMA's `{"columns":[...],"rows":[[...]]}`.
    pub fn from_answer(answer: &Value) -> Self {
        let columns = distinct(answer["columns"].as_array().into_iter().flatten().map(text));
        let rows = answer["rows"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|row| row.as_array().cloned().unwrap_or_default())
            .collect();
        // A template that this version cannot read leaves the plain columns.
        let script = answer["templates"]["script"].as_str().and_then(|line| Template::parse(line).ok());
        Self { columns, rows, script }
    }

    pub fn print(&self, format: Format) -> io::Result<()> {
        print(&self.render(format, color(), width()))
    }

    /// Further rows of what [`print`](Self::print) began: without the heading of CSV.
    pub fn print_more(&self, format: Format) -> io::Result<()> {
        let all = self.render(format, color(), width());
        print(if format == Format::Csv { all.split_once("\r\n").map_or("", |(_, rest)| rest) } else { &all })
    }

    /// Prints them; of a table that would have to break words on this terminal, columns in `less_needed` are left out, the
    /// first of them first, and a line on standard error names them.
    pub fn print_fitting(&self, format: Format, less_needed: &[&str]) -> io::Result<()> {
        let Some(width) = width().filter(|_| format == Format::Table) else { return self.print(format) };
        let (fitting, left_out) = self.fitting(usize::from(width), less_needed);
        fitting.print(format)?;
        if !left_out.is_empty() && !self.rows.is_empty() {
            note!("Left out on this narrow terminal: {}; -o json has them.", left_out.join(", "));
        }
        Ok(())
    }

    fn fitting(&self, width: usize, less_needed: &[&str]) -> (Rows, Vec<String>) {
        let mut rows = Rows { columns: self.columns.clone(), rows: self.rows.clone(), script: None };
        let mut left_out = Vec::new();
        for name in less_needed {
            if needed(&rows.words()) <= width {
                break;
            }
            if let Some(at) = rows.columns.iter().position(|column| column == name) {
                left_out.push(rows.columns.remove(at).replace('_', " "));
                rows.rows.iter_mut().for_each(|row| drop(row.remove(at)));
            }
        }
        (rows, left_out)
    }

    /// The longest word of each column, in characters, as it stands in a table.
    fn words(&self) -> Vec<usize> {
        let longest =
            |text: &str| text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0);
        let of_column = |(at, name): (usize, &String)| {
            let cells =
                self.rows.iter().filter_map(|row| row.get(at)).map(|value| longest(&person(name, value)));
            cells.chain([longest(&name.replace('_', " "))]).max().unwrap_or(0)
        };
        self.columns.iter().enumerate().map(of_column).collect()
    }

    /// The text of all rows; `width` in columns bounds a table.
    fn render(&self, format: Format, color: bool, width: Option<u16>) -> String {
        match format {
            Format::Table => self.table(color, width),
            Format::Json => {
                let all: Vec<Value> = self.rows.iter().map(|row| self.object(row)).collect();
                json_text(&(serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"))
            }
            Format::Jsonl => {
                self.rows.iter().map(|row| json_text(&format!("{}\n", self.object(row)))).collect()
            }
            Format::Csv => {
                let header = self.columns.iter().map(|c| csv_field(c)).collect::<Vec<_>>().join(",");
                let line = |row: &Vec<Value>| {
                    row.iter().map(|v| csv_field(&text(v))).collect::<Vec<_>>().join(",") + "\r\n"
                };
                format!("{header}\r\n{}", self.rows.iter().map(line).collect::<String>())
            }
            Format::Script => self.script_lines().iter().map(|line| format!("{line}\n")).collect(),
        }
    }

    fn object(&self, row: &[Value]) -> Value {
        Value::Object(self.columns.iter().cloned().zip(row.iter().cloned()).collect::<Map<_, _>>())
    }

    fn script_lines(&self) -> Vec<String> {
        let by_template =
            self.script.as_ref().and_then(|template| template.lines(&self.columns, &self.rows, "").ok());
        by_template.unwrap_or_else(|| {
            let line = |row: &Vec<Value>| row.iter().map(|v| cell(v, "")).collect::<Vec<_>>().join("\t");
            self.rows.iter().map(line).collect()
        })
    }

    fn table(&self, color: bool, width: Option<u16>) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        match width {
            Some(width) => table.set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        let heading = |name: &String| {
            let shown = name.replace('_', " ").to_uppercase();
            if color { format!("\u{1b}[1m{shown}\u{1b}[0m") } else { shown }
        };
        table.set_header(self.columns.iter().map(heading));
        for row in &self.rows {
            table.add_row(row.iter().zip(&self.columns).map(|(value, column)| person(column, value)));
        }
        if let Some(width) = width {
            // Where there is room for whole words, none is broken.
            let words = self.words();
            if needed(&words) <= usize::from(width) {
                let whole = words.iter().map(|word| {
                    let columns = u16::try_from(word + PADDING).unwrap_or(u16::MAX);
                    ColumnConstraint::LowerBoundary(Width::Fixed(columns))
                });
                table.set_constraints(whole);
            }
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n") + "\n"
    }
}

/// Spaces on both sides of a cell.
const PADDING: usize = 2;

/// The width of a table whose columns have these words, in columns of the terminal.
fn needed(words: &[usize]) -> usize {
    words.iter().map(|word| word + PADDING).sum()
}

/// Writes to standard output; a reader that has gone away (`| head`) is no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// A line for people on standard error, like `eprintln!`; but that nobody reads it (`2>&1 | head`) is no reason to
/// break off.
#[macro_export]
macro_rules! note {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

/// Column names that differ: JSON objects could not hold two of one name.
fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        let numbered = (2..).map(|n| format!("{name}_{n}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !all.contains(name));
        all.push(free.unwrap_or(name));
    }
    all
}

/// JSON in which characters that could move a cursor or reverse the reading direction are escaped (RFC 8259 §7):
/// the same document, harmless on a terminal. Outside of strings it has none of them but line ends.
pub fn json_text(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        let mut bytes = [0; 4];
        if c.is_ascii() || matches!(model::text::printable(c.encode_utf8(&mut bytes)), Cow::Borrowed(_)) {
            text.push(c);
        } else {
            // All of them are in the basic plane, so one unit each.
            for unit in c.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

/// Whether colours may be used: on a terminal that has some, unless NO_COLOR is set (<https://no-color.org>).
pub fn color() -> bool {
    std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

/// Width of the terminal in columns; `None` when there is none and lines may be as long as they are.
pub fn width() -> Option<u16> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let columns = rustix::termios::tcgetwinsize(&out).ok()?.ws_col;
    (columns > 0).then_some(columns)
}

/// For a table: harmless, and times in the local zone.
fn person(column: &str, value: &Value) -> String {
    let plain = text(value);
    const MOMENTS: &[&str] =
        &["approved", "created", "expires", "made", "revoked", "started", "tried", "until"];
    let timely = column.contains("time")
        || column.ends_with("since")
        || column.ends_with("seen")
        || MOMENTS.contains(&column);
    if timely
        && plain.ends_with('Z')
        && let Some(time) = model::Timestamp::parse(&plain)
    {
        return time.to_local_text();
    }
    printable(&plain).into_owned()
}

/// RFC 4180 quoting. A leading `= + - @` would be a formula to a spreadsheet, so text that has one gets a quote mark.
fn csv_field(value: &str) -> String {
    let formula = value.starts_with(['=', '+', '-', '@']) && value.parse::<f64>().is_err();
    let value = if formula { format!("'{value}") } else { value.to_owned() };
    if value.contains([',', '"', '\n', '\r']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Rows {
        Rows {
            columns: vec!["host".into(), "score".into()],
            rows: vec![vec![json!("web1"), json!(3.0)], vec![json!("a\u{1b}[2J\tb\n"), json!(null)]],
            script: None,
        }
    }

    #[test]
    fn people_see_moments_in_their_own_zone_and_nothing_else_is_taken_for_one() {
        let moment = Value::from("2026-11-23T14:00:00.000000Z");
        let local = person("made", &moment);
        assert!(!local.ends_with('Z') && local.len() == "2026-11-23 14:00:00".len(), "{local}");
        assert_eq!(person("since", &moment), local);
        assert_eq!(person("what", &moment), "2026-11-23T14:00:00.000000Z");
        assert_eq!(person("made", &Value::from("A to Z")), "A to Z");
    }

    #[test]
    fn every_format_has_the_same_rows() {
        let rows = sample();
        assert_eq!(rows.render(Format::Script, false, None), "web1\t3\na\\u{1b}[2J\\tb\\n\t\n");
        assert_eq!(rows.render(Format::Csv, false, None), "host,score\r\nweb1,3\r\n\"a\u{1b}[2J\tb\n\",\r\n");
        let parsed: Value = serde_json::from_str(&rows.render(Format::Json, false, None)).unwrap();
        assert_eq!(parsed[0], json!({"host": "web1", "score": 3.0}));
        assert_eq!(rows.render(Format::Jsonl, false, None).lines().count(), 2);
        let table = rows.render(Format::Table, false, Some(40));
        assert!(table.contains("HOST") && table.contains("web1") && !table.contains('\u{1b}'), "{table:?}");
    }

    #[test]
    fn templates_are_expanded_once() {
        let mut rows = sample();
        rows.script = Some(Template::parse("${host}|${score}").unwrap());
        rows.rows = vec![vec![json!("${score}"), json!(1)]];
        assert_eq!(rows.render(Format::Script, false, None), "${score}|1\n");
        // A template of another version, with a column that this answer lacks: the plain columns.
        rows.script = Some(Template::parse("${nothing}").unwrap());
        assert_eq!(rows.render(Format::Script, false, None), "${score}\t1\n");
    }

    #[test]
    fn columns_of_one_name_are_kept_apart() {
        let answer = json!({"columns": ["a", "a", "a_2", "a"], "rows": [[1, 2, 3, 4]]});
        let rows = Rows::from_answer(&answer);
        assert_eq!(rows.columns, ["a", "a_2", "a_2_2", "a_3"]);
        let line: Value = serde_json::from_str(&rows.render(Format::Jsonl, false, None)).unwrap();
        assert_eq!(line, json!({"a": 1, "a_2": 2, "a_2_2": 3, "a_3": 4}));
    }

    #[test]
    fn json_is_the_same_document_and_harmless() {
        let value = json!({"x": "a\u{1b}[2J\u{9b}31m\u{202e}ü\u{1f600}\n"});
        let text = json_text(&value.to_string());
        assert!(text.contains("\\u009b31m\\u202eü\u{1f600}"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn spreadsheets_get_no_formulas() {
        assert_eq!(csv_field("=cmd()"), "'=cmd()");
        assert_eq!(csv_field("-5"), "-5");
    }

    #[test]
    fn words_stay_whole_where_there_is_room_and_columns_go_where_there_is_none() {
        let rows = Rows {
            columns: ["host", "domain", "status", "detail"].map(str::to_owned).into(),
            rows: vec![vec![
                json!("unimatrixzero"),
                json!("global"),
                json!("up"),
                json!("one two three ".repeat(20)),
            ]],
            script: None,
        };
        let table = rows.render(Format::Table, false, Some(45));
        assert!(table.contains("unimatrixzero") && table.contains("global"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 45), "{table}");
        let (fitting, left_out) = rows.fitting(32, &["domain", "status"]);
        assert_eq!((left_out, fitting.rows[0].len()), (vec!["domain".to_owned()], 3));
        let table = fitting.render(Format::Table, false, Some(32));
        assert!(table.contains("unimatrixzero") && table.contains("three"), "{table}");
        assert_eq!(rows.fitting(45, &["domain"]).1, Vec::<String>::new());
    }

    #[test]
    fn tables_fit_the_terminal() {
        let rows = Rows {
            columns: vec!["a".into(), "b".into()],
            rows: vec![vec![json!("x".repeat(200)), json!("y ".repeat(80))]],
            script: None,
        };
        let table = rows.render(Format::Table, false, Some(60));
        assert!(table.lines().all(|line| line.chars().count() <= 60), "{table}");
    }
}

//! Line templates: `${column}` in plain text.

use crate::Table;
use model::text::printable;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// A checked line template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Column(String),
}

impl Template {
    /// Reads `text`; a `${` without `}` is an error, a `$` alone is plain.
    pub fn parse(text: &str) -> Result<Template, String> {
        if text.contains('\n') {
            return Err("a template is one line".into());
        }
        let mut pieces = vec![];
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let end = rest[start..].find('}').ok_or("a ${ has no }")? + start;
            if start > 0 {
                pieces.push(Piece::Text(rest[..start].to_owned()));
            }
            pieces.push(Piece::Column(rest[start + 2..end].to_owned()));
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template { text: text.to_owned(), pieces })
    }

    /// As written in the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Names in `${...}`, in order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Column(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// One line for each row, without a line end. Values are harmless on a terminal; `absent` stands for null.
    ///
    /// # Errors
    /// A column that the table lacks.
    pub fn lines(&self, table: &Table, absent: &str) -> Result<Vec<String>, String> {
        let position = |name: &str| {
            let found = table.columns.iter().position(|column| column == name);
            found.ok_or_else(|| format!("the answer has no column {name:?}"))
        };
        let positions = self.columns().map(position).collect::<Result<Vec<_>, _>>()?;
        Ok(table.rows.iter().map(|row| self.line(row, &positions, absent)).collect())
    }

    fn line(&self, row: &[Value], positions: &[usize], absent: &str) -> String {
        let mut positions = positions.iter();
        let mut line = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Column(_) => {
                    let value = positions.next().and_then(|position| row.get(*position));
                    line.push_str(&value_text(value.unwrap_or(&Value::Null), absent));
                }
            }
        }
        line
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// A cell in a line. A tab would move what follows into another column, so it is escaped too.
fn value_text(value: &Value, absent: &str) -> String {
    match value {
        Value::Null => absent.to_owned(),
        Value::String(text) => printable(text).replace('\t', "\\t"),
        // Sums of points are floats; people write 3, not 3.0.
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        },
        other => printable(&other.to_string()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_fill_the_line_and_stay_harmless() {
        let table = Table {
            columns: vec!["a".into(), "b".into()],
            rows: vec![vec![json!("x\u{1b}[2J\ty"), json!(3.0)], vec![json!(null), json!(0.5)]],
            truncated: false,
        };
        let template = Template::parse("$ ${b}:${a} ${b}").unwrap();
        assert_eq!(template.columns().collect::<Vec<_>>(), ["b", "a", "b"]);
        assert_eq!(template.lines(&table, "-").unwrap(), ["$ 3:x\\u{1b}[2J\\ty 3", "$ 0.5:- 0.5"]);
        assert!(Template::parse("${c}").unwrap().lines(&table, "-").is_err());
        assert!(Template::parse("${a").is_err());
        assert!(Template::parse("a\nb").is_err());
        // What a value says is not read as a template.
        let tricky = Table { columns: vec!["a".into()], rows: vec![vec![json!("${b}")]], truncated: false };
        assert_eq!(Template::parse("${a}").unwrap().lines(&tricky, "-").unwrap(), ["${b}"]);
    }
}

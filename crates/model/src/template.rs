//! Line templates: `${column}` in plain text, filled from the rows of an answer.

use crate::text::printable;
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

    /// One line for each row, without a line end. `columns` names the cells of a row; values are harmless on a
    /// terminal, and `absent` stands for null and for a cell that a row lacks.
    ///
    /// # Errors
    /// A column of the template that is not among `columns`.
    pub fn lines(
        &self,
        columns: &[String],
        rows: &[Vec<Value>],
        absent: &str,
    ) -> Result<Vec<String>, String> {
        let position = |name: &str| {
            let found = columns.iter().position(|column| column == name);
            found.ok_or_else(|| format!("the answer has no column {name:?}"))
        };
        let positions = self.columns().map(position).collect::<Result<Vec<_>, _>>()?;
        Ok(rows.iter().map(|row| self.line(row, &positions, absent)).collect())
    }

    fn line(&self, row: &[Value], positions: &[usize], absent: &str) -> String {
        let mut positions = positions.iter();
        let mut line = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Column(_) => {
                    let value = positions.next().and_then(|position| row.get(*position));
                    line.push_str(&cell(value.unwrap_or(&Value::Null), absent));
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

/// A cell in a line: harmless on a terminal, and on one line. A tab would move what follows into another column, so
/// it is escaped too; `absent` stands for null.
pub fn cell(value: &Value, absent: &str) -> String {
    match value {
        Value::Null => absent.to_owned(),
        other => printable(&plain(other)).replace('\t', "\\t"),
    }
}

/// A value without quotes, as it is: nothing for null, structures as JSON.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        // Sums of points are floats; people write 3, not 3.0.
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                format!("{float:.0}")
            }
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn columns(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn values_fill_the_line_and_stay_harmless() {
        let (names, rows) = (
            columns(&["a", "b"]),
            [vec![json!("x\u{1b}[2J\ty"), json!(3.0)], vec![json!(null), json!(0.5)], vec![]],
        );
        let template = Template::parse("$ ${b}:${a} ${b}").unwrap();
        assert_eq!(template.columns().collect::<Vec<_>>(), ["b", "a", "b"]);
        assert_eq!(
            template.lines(&names, &rows, "-").unwrap(),
            ["$ 3:x\\u{1b}[2J\\ty 3", "$ 0.5:- 0.5", "$ -:- -"]
        );
        assert!(Template::parse("${c}").unwrap().lines(&names, &rows, "-").is_err());
        assert!(Template::parse("${a").is_err());
        assert!(Template::parse("a\nb").is_err());
        // What a value says is not read as a template.
        let tricky = [vec![json!("${b}")]];
        let lines = Template::parse("${a}").unwrap().lines(&columns(&["a"]), &tricky, "-");
        assert_eq!(lines.unwrap(), ["${b}"]);
    }
}

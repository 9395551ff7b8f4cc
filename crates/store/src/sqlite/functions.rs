//! What SQL can call beside the built-in functions. All of it is free of side effects.
//!
//! `instr`, `replace` and the trims replace the built-in ones: those are quadratic for hostile arguments, and a
//! time limit cannot stop SQLite inside a function.

use super::address;
use model::Timestamp;
use model::envelope::MAX_DOCUMENT_BYTES;
use regex::{Regex, RegexBuilder};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result};
use std::collections::HashSet;
use std::sync::Arc;

/// Longest text that a function may build, and the largest value on a connection.
pub const MAX_VALUE_BYTES: usize = MAX_DOCUMENT_BYTES + 64 * 1024;
/// Memory of one compiled expression.
const REGEX_BYTES: usize = 1024 * 1024;
const PATTERN_BYTES: usize = 1000;

/// Makes `utc_text`, `document_text`, `regexp`, those of [`address`] and the replaced functions known to `connection`.
pub fn register(connection: &Connection) -> Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("utc_text", 1, flags, |context| {
        Ok(context.get::<Option<i64>>(0)?.map(|time| Timestamp(time).to_utc_text()))
    })?;
    connection.create_scalar_function("document_text", 1, flags, |context| match context.get_raw(0) {
        ValueRef::Null => Ok(None),
        ValueRef::Blob(body) => unpack(body).map(Some).map_err(|e| user(&format!("document_text: {e}"))),
        _ => Err(user("document_text takes the body of a document")),
    })?;
    address::register(connection, flags)?;
    connection.create_scalar_function("regexp", 2, flags, regexp)?;
    connection.create_scalar_function("instr", 2, flags, instr)?;
    connection.create_scalar_function("replace", 3, flags, replace)?;
    for (name, start, end) in [("trim", true, true), ("ltrim", true, false), ("rtrim", false, true)] {
        for arguments in [1, 2] {
            connection.create_scalar_function(name, arguments, flags, move |c| trim(c, start, end))?;
        }
    }
    Ok(())
}

/// The text of a stored body.
pub fn unpack(body: &[u8]) -> std::result::Result<String, String> {
    let bytes =
        zstd::bulk::decompress(body, MAX_DOCUMENT_BYTES).map_err(|e| format!("damaged document: {e}"))?;
    String::from_utf8(bytes).map_err(|e| format!("damaged document: {e}"))
}

/// `X REGEXP Y` is `regexp(Y, X)`: whether the pattern occurs in the text.
fn regexp(context: &Context<'_>) -> Result<Option<bool>> {
    if context.get_raw(0) == ValueRef::Null || context.get_raw(1) == ValueRef::Null {
        return Ok(None);
    }
    let pattern: Arc<Regex> = context.get_or_create_aux(
        0,
        |value| -> std::result::Result<Regex, Box<dyn std::error::Error + Send + Sync>> {
            Ok(compile(value.as_str()?)?)
        },
    )?;
    Ok(text(context, 1)?.map(|text| pattern.is_match(&text)))
}

/// A regular expression of bounded size; matching takes time linear in the text.
pub fn compile(pattern: &str) -> std::result::Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES {
        return Err(format!("a regular expression has at most {PATTERN_BYTES} bytes"));
    }
    RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .nest_limit(50)
        .build()
        .map_err(|e| format!("not a regular expression: {}", last_line(&e.to_string())))
}

/// The reason alone; the lines above it draw the place with marks that make sense on a terminal only.
fn last_line(error: &str) -> &str {
    error.lines().last().unwrap_or_default().trim_start_matches("error: ")
}

fn instr(context: &Context<'_>) -> Result<Option<i64>> {
    if let (ValueRef::Blob(_), _) | (_, ValueRef::Blob(_)) = (context.get_raw(0), context.get_raw(1)) {
        return Err(user("instr takes texts"));
    }
    let (Some(haystack), Some(needle)) = (text(context, 0)?, text(context, 1)?) else {
        return Ok(None);
    };
    let position = haystack.find(&needle).map(|bytes| haystack[..bytes].chars().count() + 1).unwrap_or(0);
    Ok(Some(i64::try_from(position).unwrap_or(i64::MAX)))
}

fn replace(context: &Context<'_>) -> Result<Option<String>> {
    let (Some(from), Some(pattern), Some(by)) = (text(context, 0)?, text(context, 1)?, text(context, 2)?)
    else {
        return Ok(None);
    };
    if pattern.is_empty() {
        return Ok(Some(from));
    }
    let times = from.matches(&pattern).count();
    let size = (from.len() - times * pattern.len()).saturating_add(times.saturating_mul(by.len()));
    if size > MAX_VALUE_BYTES {
        return Err(user("string or blob too big"));
    }
    Ok(Some(from.replace(&pattern, &by)))
}

fn trim(context: &Context<'_>, start: bool, end: bool) -> Result<Option<String>> {
    let Some(value) = text(context, 0)? else {
        return Ok(None);
    };
    let set: HashSet<char> = match context.len() {
        1 => HashSet::from([' ']),
        _ => match text(context, 1)? {
            Some(characters) => characters.chars().collect(),
            None => return Ok(None),
        },
    };
    let mut rest = value.as_str();
    if start {
        rest = rest.trim_start_matches(|c| set.contains(&c));
    }
    if end {
        rest = rest.trim_end_matches(|c| set.contains(&c));
    }
    Ok(Some(rest.to_owned()))
}

/// An argument as SQLite would turn it into text; null gives `None`.
fn text(context: &Context<'_>, index: usize) -> Result<Option<String>> {
    Ok(match context.get::<Value>(index)? {
        Value::Null => None,
        Value::Integer(number) => Some(number.to_string()),
        Value::Real(number) => Some(format!("{number:?}")),
        Value::Text(text) => Some(text),
        Value::Blob(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
    })
}

fn user(text: &str) -> Error {
    Error::UserFunctionError(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask<T: rusqlite::types::FromSql>(sql: &str) -> Result<T> {
        let connection = Connection::open_in_memory().unwrap();
        register(&connection).unwrap();
        connection.query_row(&format!("SELECT {sql}"), [], |row| row.get(0))
    }

    #[test]
    fn replaced_functions_answer_like_the_built_in_ones() {
        let plain = Connection::open_in_memory().unwrap();
        for sql in [
            "instr('häuser', 'user')",
            "instr('abc', 'x')",
            "instr('abc', '')",
            "instr(12345, 34)",
            "instr(NULL, 'a')",
            "replace('aXbX', 'X', 'yy')",
            "replace('abc', '', 'x')",
            "replace('abc', NULL, 'x')",
            "replace(1.5, '.', ',')",
            "trim('  a b ')",
            "ltrim('xxaxx', 'x')",
            "rtrim('xxaxx', 'x')",
            "trim('xyaxy', 'yx')",
            "trim('a', '')",
            "trim(NULL)",
        ] {
            let expected: Value = plain.query_row(&format!("SELECT {sql}"), [], |row| row.get(0)).unwrap();
            assert_eq!(ask::<Value>(sql).unwrap(), expected, "{sql}");
        }
    }

    #[test]
    fn regular_expressions_are_bounded() {
        assert!(ask::<bool>("'openssl-3' REGEXP '^openssl'").unwrap());
        assert!(!ask::<bool>("'libopenssl' REGEXP '^openssl'").unwrap());
        assert_eq!(ask::<Option<bool>>("NULL REGEXP 'a'").unwrap(), None);
        assert!(ask::<bool>("'a' REGEXP '('").is_err());
        assert!(ask::<bool>("'a' REGEXP '(((a{1000}){1000}){1000})'").is_err());
    }

    #[test]
    fn a_damaged_body_is_an_error_and_a_bomb_stays_small() {
        assert!(ask::<String>("document_text(x'00112233')").is_err());
        let bomb = zstd::bulk::compress(&vec![b'a'; MAX_DOCUMENT_BYTES + 1], 3).unwrap();
        assert!(unpack(&bomb).is_err());
        assert_eq!(unpack(&zstd::bulk::compress(b"{}", 3).unwrap()).unwrap(), "{}");
    }
}

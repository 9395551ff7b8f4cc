//! SQL typed by people: one reading statement, in bounded time and memory.
//!
//! Three fences, each enough alone against writing: the connection is opened read-only, `query_only` is set, and
//! an authorizer that lets nothing but reads and known functions through is consulted while a statement is
//! compiled. Time is bounded by a progress handler; memory by SQLite's limits on single values and columns, by
//! sorting on disk, and by counting the bytes of the answer.

use super::functions::{self, MAX_VALUE_BYTES};
use super::{failure, open, schema, views};
use crate::{Result, SqlLimits, StoreError, Table};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, Value as Cell, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest statement, in bytes. SQLite looks at the clock only where a statement jumps, so its straight parts must be
/// short; for the same reason `randomblob` and `zeroblob` are not among the functions.
const STATEMENT_BYTES: usize = 10_000;
/// Instructions of SQLite's machine between two looks at the clock. Small, because one instruction may call a function
/// that works on many megabytes.
const CLOCK_EVERY: i32 = 20;
/// Process-wide bound on SQLite's memory, so that no statement can take the machine with it. The writer shares it and
/// needs a quarter; should it find the rest taken, its transaction is undone and can be repeated.
const HEAP_BYTES: i64 = 400 * 1024 * 1024;

/// A connection on which every statement is bounded.
pub struct BoundedConnection {
    connection: Connection,
}

impl BoundedConnection {
    pub fn open(path: &Path) -> Result<Self> {
        let mut connection = open::reader(path)?;
        limit(&connection).map_err(failure)?;
        connection.authorizer(Some(authorize)).map_err(failure)?;
        Ok(Self { connection })
    }

    /// See [`crate::Reader::sql`].
    pub fn query(
        &mut self,
        statement: &str,
        parameters: &[(String, Value)],
        limits: SqlLimits,
    ) -> Result<Table> {
        refuse_other_statements(statement)?;
        let deadline = Instant::now() + Duration::from_millis(limits.milliseconds);
        self.connection
            .progress_handler(CLOCK_EVERY, Some(move || Instant::now() >= deadline))
            .map_err(failure)?;
        let answer = self.run(statement, parameters, limits, deadline);
        // Pages kept for sorting and caching go back at once: such queries are rare.
        let _ = self.connection.progress_handler(0, None::<fn() -> bool>);
        let _ = self.connection.release_memory();
        answer
    }

    fn run(
        &self,
        statement: &str,
        parameters: &[(String, Value)],
        limits: SqlLimits,
        deadline: Instant,
    ) -> Result<Table> {
        let explain = |error| explain(error, limits, deadline);
        let mut prepared = self.connection.prepare(statement).map_err(explain)?;
        if !prepared.readonly() {
            return Err(StoreError::Sql("only SELECT statements are allowed here".into()));
        }
        bind(&mut prepared, parameters)?;
        let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
        let mut table = Table { columns, rows: vec![], truncated: false };
        let mut bytes: usize = table.columns.iter().map(String::len).sum();
        let mut rows = prepared.raw_query();
        while let Some(row) = rows.next().map_err(explain)? {
            if table.rows.len() == limits.rows {
                table.truncated = true;
                break;
            }
            let mut cells = Vec::with_capacity(table.columns.len());
            for column in 0..table.columns.len() {
                let cell = row.get_ref(column).map_err(explain)?;
                bytes = bytes.saturating_add(cell_bytes(cell));
                if bytes > limits.bytes {
                    return Err(StoreError::Limit(format!(
                        "its answer grew above {} bytes; select fewer columns or rows",
                        limits.bytes
                    )));
                }
                cells.push(json(cell));
            }
            table.rows.push(cells);
            if Instant::now() >= deadline {
                return Err(too_long(limits));
            }
        }
        Ok(table)
    }
}

/// What a statement would answer with: its columns, as a database without rows knows it. For statements that stand in a file
/// and are to be checked before anybody asks them; nothing is read or written.
///
/// # Errors
/// [`StoreError::Sql`] for what [`crate::Reader::sql`] would refuse.
pub fn columns_of(statement: &str) -> Result<Vec<String>> {
    refuse_other_statements(statement)?;
    let mut connection = Connection::open_in_memory().map_err(failure)?;
    functions::register(&connection).map_err(failure)?;
    schema::bring_up_to_date(&mut connection, Path::new(":memory:"))?;
    limit(&connection).map_err(failure)?;
    connection.authorizer(Some(authorize)).map_err(failure)?;
    let prepared = connection.prepare(statement).map_err(failure)?;
    if !prepared.readonly() {
        return Err(StoreError::Sql("only SELECT statements are allowed here".into()));
    }
    if prepared.parameter_count() > 0 {
        return Err(StoreError::Sql("it has parameters, and nobody gives them values here".into()));
    }
    Ok(prepared.column_names().map(str::to_owned).collect())
}

fn limit(connection: &Connection) -> rusqlite::Result<()> {
    let value_bytes = i32::try_from(MAX_VALUE_BYTES).unwrap_or(i32::MAX);
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, value_bytes),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, STATEMENT_BYTES as i32),
        (Limit::SQLITE_LIMIT_COLUMN, 100),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
        (Limit::SQLITE_LIMIT_VDBE_OP, 50_000),
        (Limit::SQLITE_LIMIT_FUNCTION_ARG, 50),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 128),
        (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 50),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    connection
        .execute_batch("PRAGMA temp_store = FILE; PRAGMA cache_size = -4096; PRAGMA cache_spill = ON")?;
    connection.query_row(&format!("PRAGMA hard_heap_limit = {HEAP_BYTES}"), [], |_| Ok(()))
}

/// SQLite would refuse these too, but in words that do not help.
fn refuse_other_statements(statement: &str) -> Result<()> {
    if statement.len() > STATEMENT_BYTES {
        return Err(StoreError::Sql(format!("a statement has at most {STATEMENT_BYTES} bytes")));
    }
    let plain = plain_text(statement);
    let mut parts = plain.splitn(2, ';');
    let first = parts.next().unwrap_or("").trim_start();
    if parts.next().is_some_and(|rest| rest.contains(|c: char| c != ';' && !c.is_whitespace())) {
        return Err(StoreError::Sql("only one statement at a time".into()));
    }
    let word: String =
        first.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase();
    match word.as_str() {
        "SELECT" | "WITH" | "EXPLAIN" | "VALUES" => Ok(()),
        "" => Err(StoreError::Sql("there is no statement; type a SELECT".into())),
        other => Err(StoreError::Sql(format!("only SELECT, WITH and EXPLAIN are allowed, not {other}"))),
    }
}

/// `statement` with comments and the insides of quotes blanked.
fn plain_text(statement: &str) -> String {
    let mut plain = String::with_capacity(statement.len());
    let mut rest = statement;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.find("*/").map_or(rest.len(), |end| end + 4)
        } else if let Some(close) = match c {
            '\'' | '"' | '`' => Some(c),
            '[' => Some(']'),
            _ => None,
        } {
            // A doubled quote reads as two quoted texts side by side: the same for this purpose.
            let end = rest[c.len_utf8()..].find(close).map_or(rest.len(), |end| end + 2);
            plain.push('q');
            end
        } else {
            plain.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        plain.push(' ');
        rest = &rest[skipped..];
    }
    plain
}

fn bind(statement: &mut rusqlite::Statement<'_>, parameters: &[(String, Value)]) -> Result<()> {
    for index in 1..=statement.parameter_count() {
        let name = statement.parameter_name(index).unwrap_or("?").to_owned();
        let Some((_, value)) = parameters.iter().find(|(given, _)| name.strip_prefix(':') == Some(given))
        else {
            return Err(StoreError::Sql(format!(
                "the statement has the parameter {name}, which has no value"
            )));
        };
        statement.raw_bind_parameter(index, Parameter(value)).map_err(failure)?;
    }
    Ok(())
}

/// Lists and objects are bound as JSON text, for `json_each(:name)`.
struct Parameter<'v>(&'v Value);

impl ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Value::Null => ToSqlOutput::Owned(Cell::Null),
            Value::Bool(truth) => ToSqlOutput::Owned(Cell::Integer(i64::from(*truth))),
            Value::Number(number) => ToSqlOutput::Owned(match number.as_i64() {
                Some(integer) => Cell::Integer(integer),
                None => Cell::Real(number.as_f64().unwrap_or(0.0)),
            }),
            Value::String(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            other => ToSqlOutput::Owned(Cell::Text(other.to_string())),
        })
    }
}

fn explain(error: rusqlite::Error, limits: SqlLimits, deadline: Instant) -> StoreError {
    let text = match &error {
        rusqlite::Error::SqlInputError { msg, .. } => Some(msg.clone()),
        rusqlite::Error::SqliteFailure(_, Some(message)) => Some(message.clone()),
        _ => None,
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => too_long(limits),
        _ if Instant::now() >= deadline && error.sqlite_error_code() == Some(ErrorCode::Unknown) => {
            too_long(limits)
        }
        Some(ErrorCode::TooBig) => StoreError::Limit(format!("one value grew above {MAX_VALUE_BYTES} bytes")),
        Some(ErrorCode::OutOfMemory) => {
            StoreError::Limit("it took all the memory allowed for queries".into())
        }
        Some(ErrorCode::DiskFull) => StoreError::Limit("sorting filled the disk".into()),
        Some(ErrorCode::AuthorizationForStatementDenied) => StoreError::Sql(format!(
            "{}: only reading from the documented views, with SQLite's own functions, is allowed",
            text.unwrap_or_else(|| "not authorized".into())
        )),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => failure(error),
        _ => StoreError::Sql(text.unwrap_or_else(|| error.to_string())),
    }
}

fn too_long(limits: SqlLimits) -> StoreError {
    StoreError::Limit(format!("{} milliseconds", limits.milliseconds))
}

/// Memory of a cell in the answer, about.
fn cell_bytes(cell: ValueRef<'_>) -> usize {
    std::mem::size_of::<Value>()
        + match cell {
            ValueRef::Text(bytes) => bytes.len(),
            ValueRef::Blob(bytes) => bytes.len() * 2,
            _ => 0,
        }
}

/// Blobs become hexadecimal text.
fn json(cell: ValueRef<'_>) -> Value {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::from(number),
        // Infinity has no JSON number; its name is better than null.
        ValueRef::Real(number) if !number.is_finite() => Value::from(number.to_string()),
        ValueRef::Real(number) => Value::from(number),
        ValueRef::Text(bytes) => Value::from(String::from_utf8_lossy(bytes)),
        ValueRef::Blob(bytes) => Value::from(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    let allowed = match context.action {
        AuthAction::Select | AuthAction::Recursive => true,
        // No column: only the presence of rows is asked for, also of names that WITH defines.
        AuthAction::Read { column_name: "", .. } => true,
        AuthAction::Read { table_name, .. } => is_ours(table_name),
        AuthAction::Function { function_name } => {
            FUNCTIONS.iter().any(|known| known.eq_ignore_ascii_case(function_name))
        }
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

/// Views, the tables behind them, and the two table-valued JSON functions.
fn is_ours(table: &str) -> bool {
    const TABLES: &[&str] = &[
        "delivery",
        "document",
        "document_period",
        "edge",
        "event",
        "host",
        "host_group",
        "host_name",
        "host_tag",
        "json_each",
        "json_tree",
        "node",
        "outbox",
        "reverse_name",
        "rule_period",
        "sqlite_master",
        "sqlite_schema",
    ];
    let is = |known: &str| known.eq_ignore_ascii_case(table);
    TABLES.iter().any(|known| is(known)) || views::documentation().iter().any(|view| is(view.name))
}

const FUNCTIONS: &[&str] = &[
    "->",
    "->>",
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "avg",
    "ceil",
    "ceiling",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "context_of",
    "cos",
    "cosh",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "document_text",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_length",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_patch",
    "json_pretty",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_type",
    "json_valid",
    "julianday",
    "lag",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "max",
    "median",
    "min",
    "mod",
    "network_of",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "oui",
    "percent_rank",
    "percentile",
    "pi",
    "pow",
    "power",
    "printf",
    "quote",
    "radians",
    "random",
    "rank",
    "regexp",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "sin",
    "sinh",
    "sqlite_version",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "tan",
    "tanh",
    "time",
    "timediff",
    "total",
    "trim",
    "trunc",
    "typeof",
    "unhex",
    "unicode",
    "unixepoch",
    "unlikely",
    "upper",
    "utc_text",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_reading_statement_passes() {
        for good in [
            "SELECT 1",
            " -- why\n/* ; */ select ';' ;; ",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "EXPLAIN SELECT 1",
            "SELECT \"a;b\", [c;d], 'it''s; fine'",
        ] {
            refuse_other_statements(good).unwrap_or_else(|e| panic!("{good}: {e}"));
        }
        for bad in [
            "",
            "  ",
            "-- only",
            "/* open",
            "DELETE FROM host",
            "PRAGMA user_version",
            "ATTACH 'x' AS y",
            "VACUUM INTO 'x'",
            "SELECT 1; DELETE FROM host",
            "SELECT 1;;SELECT 2",
            "SELECT '--'; DROP TABLE host",
            "BEGIN",
            "'SELECT'",
            &"SELECT 1 ".repeat(10_000),
        ] {
            assert!(refuse_other_statements(bad).is_err(), "{bad}");
        }
    }
}

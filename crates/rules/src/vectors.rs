//! `assimcli rules eval`: one expression over given data, or a file of test vectors.

use crate::expression::Expression;
use serde_json::{Value, json};

/// Result of one vector, a line `{"id","expr","context"}`: `{"id","result"}`, or `{"id","error"}` when the load-time check
/// rejects the text. An expression that is no text is its own result. A context that is a list holds several objects.
/// `Err` when the line is no vector.
pub fn evaluate_vector(line: &str) -> Result<Value, String> {
    let vector: Value = serde_json::from_str(line).map_err(|error| format!("not a JSON object: {error}"))?;
    let id = vector.get("id").cloned().unwrap_or(Value::Null);
    let expression = vector.get("expr").ok_or("there is no \"expr\"")?;
    let context = vector.get("context").unwrap_or(&Value::Null);
    let objects: Vec<&Value> = match context {
        Value::Array(objects) => objects.iter().collect(),
        object => vec![object],
    };
    let Some(text) = expression.as_str() else {
        return Ok(json!({"id": id, "result": expression}));
    };
    Ok(match Expression::parse(text) {
        Ok(expression) => json!({"id": id, "result": expression.evaluate(&objects).value}),
        Err(error) => json!({"id": id, "error": error.to_string()}),
    })
}

/// Results for every line that is not blank, as JSON lines; an error names the line.
pub fn evaluate_vectors(text: &str) -> Result<String, String> {
    let mut answers = String::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let answer = evaluate_vector(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        answers.push_str(&answer.to_string());
        answers.push('\n');
    }
    Ok(answers)
}

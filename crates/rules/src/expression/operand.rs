//! Values as operands: truth, text form, equality and order.

use serde_json::{Number, Value};
use std::borrow::Cow;
use std::cmp::Ordering;

/// `None` = unknown. Lists and maps are borrowed from the data or the expression, but for what GLOB chooses.
pub(crate) type Operand<'a> = Option<Cow<'a, Value>>;

/// JSON null is unknown.
pub(crate) fn known(value: &Value) -> Operand<'_> {
    (!value.is_null()).then_some(Cow::Borrowed(value))
}

pub(crate) fn truth<'a>(value: bool) -> Operand<'a> {
    Some(Cow::Owned(Value::Bool(value)))
}

pub(crate) fn text<'a>(value: impl Into<String>) -> Operand<'a> {
    Some(Cow::Owned(Value::String(value.into())))
}

/// False, 0, "", an empty list and an empty map are falsy.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The text form in which values of different types are compared: `True`, `1.5`, `['a', 1]`.
pub(crate) fn as_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string().into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(list) => {
            let elements: Vec<String> = list
                .iter()
                .map(|element| match element {
                    Value::String(text) => format!("'{text}'"),
                    other => as_text(other).into_owned(),
                })
                .collect();
            format!("[{}]", elements.join(", ")).into()
        }
        Value::Object(_) => value.to_string().into(),
    }
}

/// Text, number or truth value as text; a list or map has the wrong shape.
pub(crate) fn scalar_text(value: &Value) -> Option<Cow<'_, str>> {
    (!value.is_array() && !value.is_object() && !value.is_null()).then(|| as_text(value))
}

/// The one equality of EQ, NE, IN, NOTIN, CONTAINS: the same type directly, otherwise as text; a truth value never
/// equals a number. Whole numbers and fractions are one type.
pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_type(a, b) && equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_type(a, b) && equal(a, b)))
        }
        _ if same_type(a, b) => a == b,
        (Value::Bool(_), Value::Number(_)) | (Value::Number(_), Value::Bool(_)) => false,
        _ => as_text(a) == as_text(b),
    }
}

/// Order: numbers and numeric text as numbers, two other texts by dictionary, anything else not at all.
pub(crate) fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => compare_numbers(&a, &b),
        (None, None) => match (a, b) {
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            _ => None,
        },
        _ => None,
    }
}

/// A number, or text that is one.
pub(crate) fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => numeric(text.trim()),
        _ => None,
    }
}

/// A whole number, or text that is one.
pub(crate) fn integer(value: &Value) -> Option<i128> {
    let number = number(value)?;
    if let Some(integer) = whole(&number) {
        return Some(integer);
    }
    let fraction = number.as_f64()?;
    // Beyond 2^53 a fraction no longer tells whole numbers apart.
    (fraction.fract() == 0.0 && fraction.abs() <= 9_007_199_254_740_992.0).then_some(fraction as i128)
}

/// A whole number as a value; beyond 64 bits there is none.
pub(crate) fn from_integer<'a>(value: i128) -> Operand<'a> {
    let number =
        i64::try_from(value).map(Number::from).or_else(|_| u64::try_from(value).map(Number::from)).ok()?;
    Some(Cow::Owned(Value::Number(number)))
}

/// Decimal text: sign, digits, fraction.
pub(crate) fn numeric(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) =
        unsigned.split_once('.').map_or((unsigned, None), |(whole, rest)| (whole, Some(rest)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || fraction.is_some_and(|fraction| !digits(fraction)) {
        return None;
    }
    if fraction.is_none() {
        if let Ok(number) = text.parse::<i64>() {
            return Some(number.into());
        }
        if let Ok(number) = text.parse::<u64>() {
            return Some(number.into());
        }
    }
    Number::from_f64(text.parse().ok()?)
}

fn same_type(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn compare_numbers(a: &Number, b: &Number) -> Option<Ordering> {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

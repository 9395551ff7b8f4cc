//! The lines of PAM's service files, see pam.conf(5).

use super::{Errors, accumulate, c_integer, is_secret_name, mask_secrets, quoted};
use serde_json::{Map, Value, json};

const TYPES: &[&str] = &["account", "auth", "password", "session"];
const KEYWORDS: &[&str] = &["required", "requisite", "sufficient", "optional", "include", "substack"];

/// The lines of one service file.
pub fn parse(text: &str, file: &str, errors: &mut Errors) -> Vec<Value> {
    super::joined_lines(text, file, errors, super::cut_at_hash)
        .iter()
        .filter_map(|(number, line)| entry(line.trim(), file, *number, errors))
        .collect()
}

/// One line without its comment; `None` and an error when it is none that PAM understands.
pub fn entry(line: &str, file: &str, number: usize, errors: &mut Errors) -> Option<Value> {
    let (service, rest) = split_word(line);
    if service.eq_ignore_ascii_case("@include") {
        if rest.is_empty() {
            errors.at(file, number, "@include without a file name");
            return None;
        }
        return Some(json!({ "service": "@include", "filename": split_word(rest).0 }));
    }
    let service = service.to_ascii_lowercase();
    if !TYPES.contains(&service.strip_prefix('-').unwrap_or(&service)) {
        errors.at(
            file,
            number,
            format_args!("{} is not a module type ({})", quoted(&service), TYPES.join(", ")),
        );
        return None;
    }
    let (control, rest) = match rest.strip_prefix('[') {
        Some(inside) => {
            let Some((inside, rest)) = bracketed(inside) else {
                errors.at(file, number, "the '[' of the control value is not closed");
                return None;
            };
            (actions(&inside, file, number, errors), rest.trim_start())
        }
        None => {
            let (word, rest) = split_word(rest);
            let word = word.to_ascii_lowercase();
            if word.is_empty() || rest.is_empty() {
                errors.at(file, number, format_args!("a {service} line needs a control value and a module"));
                return None;
            }
            if !KEYWORDS.contains(&word.as_str()) {
                errors.at(file, number, format_args!("{} is not a control value", quoted(&word)));
            }
            (json!({ "keyword": word }), rest)
        }
    };
    let (path, mut rest) = split_word(rest);
    if path.is_empty() {
        errors.at(file, number, format_args!("a {service} line needs a module"));
        return None;
    }
    let mut module = Map::new();
    while !rest.is_empty() {
        let argument;
        (argument, rest) = match rest.strip_prefix('[').map(bracketed) {
            Some(Some((inside, rest))) => (inside, rest.trim_start()),
            Some(None) => {
                errors.at(file, number, "the '[' of an argument is not closed");
                (rest[1..].to_owned(), "")
            }
            None => {
                let (word, rest) = split_word(rest);
                (word.to_owned(), rest)
            }
        };
        add_argument(&mut module, argument.trim());
    }
    // Last, so that an argument called `path` cannot stand in for the module.
    module.insert("path".into(), Value::from(path));
    Some(json!({ "service": service, "type": control, "module": module }))
}

/// The first word, and what follows the blanks after it.
pub fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// What stands before the closing bracket, `\]` being a bracket in the text, and what follows.
fn bracketed(text: &str) -> Option<(String, &str)> {
    let mut start = 0;
    while let Some(at) = text[start..].find(']').map(|at| start + at) {
        if !text[..at].ends_with('\\') {
            return Some((text[..at].replace("\\]", "]"), &text[at + 1..]));
        }
        start = at + 1;
    }
    None
}

/// `success=1 default=ignore` as an object. Blanks around `=` are allowed.
fn actions(text: &str, file: &str, number: usize, errors: &mut Errors) -> Value {
    let mut found = Map::new();
    let spaced = text.replace('=', " = ");
    let mut words = spaced.split_whitespace();
    while let Some(name) = words.next() {
        match (words.next(), words.next()) {
            (Some("="), Some(action)) if name != "=" && action != "=" => {
                let action = action.to_ascii_lowercase();
                let value = super::integer(&action).map_or_else(|| Value::from(action), Value::from);
                found.insert(name.to_ascii_lowercase(), value);
            }
            _ => {
                errors.at(file, number, format_args!("{} is not a list of value=action", quoted(text)));
                break;
            }
        }
    }
    Value::Object(found)
}

fn add_argument(module: &mut Map<String, Value>, argument: &str) {
    let named = argument.split_once('=').filter(|(name, _)| {
        // `uid >= 1000` has an operator, not a value.
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    });
    let Some((name, value)) = named else {
        if !argument.is_empty() {
            module.insert(mask_secrets(argument).into_owned(), Value::Bool(true));
        }
        return;
    };
    if is_secret_name(name) {
        module.insert(name.to_owned(), Value::from("***"));
        return;
    }
    let words: Vec<&str> = value.split_whitespace().collect();
    let value = match words.as_slice() {
        [] => Value::from(""),
        [word] => c_integer(word).map_or_else(|| Value::from(mask_secrets(word)), Value::from),
        _ => mask_secrets(value).split_whitespace().map(Value::from).collect(),
    };
    match module.get(name) {
        Some(Value::Bool(_)) | None => {
            module.insert(name.to_owned(), value);
        }
        Some(_) => accumulate(module, name, value),
    }
}

/// Files that editors and package managers leave behind; PAM itself reads a file only under a program's name.
pub fn is_leftover(name: &str) -> bool {
    const ENDINGS: &[&str] =
        &["~", ".bak", ".old", ".orig", ".save", ".swp", ".rpmsave", ".rpmnew", ".rpmorig", ".pam-old"];
    name.starts_with(['.', '#'])
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
        || [".dpkg-", ".ucf-"].iter().any(|part| name.contains(part))
}

//! Files of `[section]`s and `key = value` lines: systemd, SSSD, DNF, NetworkManager and their like.

use super::{Errors, MAX_LINE_BYTES, integer, is_plausible_key, is_secret_name, lines, mask_secrets, quoted};
use serde_json::Value;
use std::rc::Rc;

/// Longer names of sections are left out, with what stands in them.
const MAX_SECTION_BYTES: usize = 200;
/// Longer values are cut.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// How a value goes on in the next line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continued {
    Never,
    /// By a backslash at the end, as in systemd; comments in between are skipped.
    Backslash,
    /// By a blank at the beginning of the next line, as in DNF and SSSD.
    Indent,
}

/// What an ini file may look like.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub continued: Continued,
    /// Keys may stand before the first section; they are in the section without a name.
    pub without_section: bool,
}

/// One `key = value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub section: Rc<str>,
    pub key: String,
    /// Without blanks around it; quotes as they are.
    pub value: String,
    /// The line it begins on, from 1.
    pub line: usize,
}

/// The entries of one file in order. Lines that are none are named in `errors`. Comments begin with `#` or `;`.
pub fn entries(text: &str, file: &str, errors: &mut Errors, style: Style) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    let mut section: Option<Rc<str>> = style.without_section.then(|| Rc::from(""));
    // Whether the next line belongs to the last entry.
    let mut open = false;
    for (number, line) in lines(text, file, errors) {
        let indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        let goes_on = match style.continued {
            Continued::Never => false,
            Continued::Backslash => open,
            Continued::Indent => open && indented,
        };
        if goes_on {
            open = style.continued == Continued::Indent || line.ends_with('\\');
            if let Some(last) = found.last_mut() {
                append(&mut last.value, without_backslash(line, style));
            }
            continue;
        }
        open = false;
        if let Some(name) = line.strip_prefix('[') {
            section = match name.strip_suffix(']').map(str::trim) {
                Some(name) if is_section_name(name) => Some(Rc::from(name)),
                _ => {
                    errors.at(file, number, format_args!("{} is not a section", quoted(line)));
                    None
                }
            };
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            errors.at(file, number, format_args!("{} has no '='", quoted(line)));
            continue;
        };
        let key = key.trim();
        if !is_plausible_key(key.trim_end_matches(['+', '-'])) {
            errors.at(file, number, format_args!("{} is not the name of a setting", quoted(key)));
            continue;
        }
        open = match style.continued {
            Continued::Never => false,
            Continued::Backslash => line.ends_with('\\'),
            Continued::Indent => true,
        };
        let Some(section) = &section else {
            errors.at(file, number, format_args!("{} stands in no section", quoted(key)));
            open = false;
            continue;
        };
        let mut text = String::new();
        append(&mut text, without_backslash(value.trim(), style));
        found.push(Entry { section: section.clone(), key: key.to_owned(), value: text, line: number });
    }
    found
}

/// What DNF and NetworkManager take a value for: truth in its many spellings, a whole number, or a text. What may be a
/// secret is `***`.
pub fn value_of(key: &str, value: &str) -> Value {
    if is_secret_name(key) {
        return Value::from("***");
    }
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" => Value::Bool(true),
        "no" | "false" | "off" => Value::Bool(false),
        _ => integer(value).map_or_else(|| Value::from(mask_secrets(value)), Value::from),
    }
}

/// The words of a list whose members are separated by commas, blanks or both.
pub fn words(value: &str) -> Vec<&str> {
    value.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()).collect()
}

fn append(value: &mut String, more: &str) {
    if value.len() + more.len() >= MAX_LINE_BYTES.min(MAX_VALUE_BYTES) {
        let mut end = MAX_VALUE_BYTES.saturating_sub(value.len()).min(more.len());
        while !more.is_char_boundary(end) {
            end -= 1;
        }
        value.push_str(&more[..end]);
        return;
    }
    if !value.is_empty() && !more.is_empty() {
        value.push(' ');
    }
    value.push_str(more);
}

fn without_backslash(line: &str, style: Style) -> &str {
    match style.continued {
        Continued::Backslash => line.strip_suffix('\\').unwrap_or(line).trim_end(),
        _ => line,
    }
}

fn is_section_name(name: &str) -> bool {
    (1..=MAX_SECTION_BYTES).contains(&name.len())
        && !name.chars().any(|c| c.is_control() || matches!(c, '[' | ']' | '\u{fffd}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, continued: Continued) -> (Vec<(String, String, String)>, Vec<String>) {
        let mut errors = Errors::default();
        let found = entries(text, "f", &mut errors, Style { continued, without_section: false });
        let found = found.into_iter().map(|e| (e.section.to_string(), e.key, e.value)).collect();
        (found, errors.into_list())
    }

    fn triple(section: &str, key: &str, value: &str) -> (String, String, String) {
        (section.into(), key.into(), value.into())
    }

    #[test]
    fn sections_keys_and_comments() {
        let (found, errors) = parse("# a\n[A b]\nx=1\n ; c\n y = a=b \n[c/d]\nz=\n", Continued::Never);
        assert_eq!(found, [triple("A b", "x", "1"), triple("A b", "y", "a=b"), triple("c/d", "z", "")]);
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn continued_values() {
        let (found, _) = parse("[A]\nx=a \\\n# no\n b\\\n\nc\ny=1\n", Continued::Backslash);
        assert_eq!(found, [triple("A", "x", "a b c"), triple("A", "y", "1")]);
        let (found, _) = parse("[A]\nx=a\n  b=c\ny=1\n[B]\n", Continued::Indent);
        assert_eq!(found, [triple("A", "x", "a b=c"), triple("A", "y", "1")]);
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (found, errors) = parse("x=1\n[A\ny=1\n[A]\nnothing\n? = 1\nz=1\n[]\nlast=1\n", Continued::Never);
        assert_eq!(found, [triple("A", "z", "1")]);
        let expected = [
            "f line 1: 'x' stands in no section",
            "f line 2: '[A' is not a section",
            "f line 3: 'y' stands in no section",
            "f line 5: 'nothing' has no '='",
            "f line 6: '?' is not the name of a setting",
            "f line 8: '[]' is not a section",
            "f line 9: 'last' stands in no section",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn values_are_bounded() {
        let text = format!("[A]\nx={}\n", "ä\\\n".repeat(50_000));
        let (found, _) = parse(&text, Continued::Backslash);
        assert!(found.len() == 1 && found[0].2.len() <= MAX_VALUE_BYTES, "{}", found[0].2.len());
        let (found, _) = parse(&format!("[A]\nx={}\n", "a".repeat(50_000)), Continued::Never);
        assert_eq!(found[0].2.len(), MAX_VALUE_BYTES);
    }
}

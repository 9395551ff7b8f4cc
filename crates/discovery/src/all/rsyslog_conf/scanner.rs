//! Cuts the text of a rsyslog configuration into statements of both its languages.

use crate::parse::{MAX_LINE_BYTES, quoted};
use std::borrow::Cow;

/// `name(parameter="value" ...)`
#[derive(Debug)]
pub struct Object<'a> {
    /// In lower case, as the names of the parameters.
    pub name: String,
    pub parameters: Vec<(String, Cow<'a, str>)>,
}

impl Object<'_> {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| &**value)
    }
}

#[derive(Debug)]
pub enum Statement<'a> {
    /// `$Name value`
    Directive {
        name: &'a str,
        value: &'a str,
    },
    Object(Object<'a>),
    /// `selector action`, where the action may be an object.
    Rule {
        selector: &'a str,
        action: &'a str,
        object: Option<Object<'a>>,
    },
    /// `if ... then`
    If,
    Open,
    Close,
    /// `stop`, `set`, `call`, ...: of no interest here.
    Other,
}

/// More parameters of one object are left out.
const MAX_PARAMETERS: usize = 500;

/// After having looked through so many bytes in vain for the `then` of an `if`, only its own line is looked at: a
/// file of nothing but `if`s must not cost its square.
const MAX_FRUITLESS_BYTES: usize = 4 << 20;

pub struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    fruitless_bytes: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1, fruitless_bytes: 0 }
    }

    /// The line on which the next statement begins, from 1.
    pub fn line(&mut self) -> usize {
        self.skip_blanks_and_comments();
        self.line
    }

    /// The next statement, none at the end, or line and kind of a mistake; then the scanner stands behind it.
    pub fn next_statement(&mut self) -> Result<Option<Statement<'a>>, (usize, String)> {
        self.skip_blanks_and_comments();
        let rest = self.rest;
        let Some(first) = rest.chars().next() else { return Ok(None) };
        match first {
            '{' => {
                self.skip(1);
                return Ok(Some(Statement::Open));
            }
            '}' => {
                self.skip(1);
                return Ok(Some(Statement::Close));
            }
            '$' => {
                let line = self.take_line();
                let line = line.get(1..).unwrap_or_default();
                let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
                let value = value.split(" #").next().unwrap_or(value).trim();
                return Ok(Some(Statement::Directive { name, value }));
            }
            _ => {}
        }
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if !word.is_empty() && after.trim_start_matches([' ', '\t']).starts_with('(') {
            let object = self.take_object(word)?;
            return Ok(Some(Statement::Object(object)));
        }
        let ends_word = !after.starts_with(['.', ',', ';', '*', '!', '=', '/', ':']);
        match word {
            "if" if ends_word => {
                self.skip_condition();
                Ok(Some(Statement::If))
            }
            "else" | "then" if ends_word => {
                self.skip(end);
                Ok(Some(if word == "else" { Statement::If } else { Statement::Other }))
            }
            "stop" | "continue" if after.is_empty() || ends_word => {
                self.skip(end);
                Ok(Some(Statement::Other))
            }
            "set" | "unset" | "reset" | "call" | "call_indirect" | "foreach" if ends_word => {
                let stop = rest.find([';', '\n', '{']).unwrap_or(rest.len());
                let stop = if rest[stop..].starts_with(';') { stop + 1 } else { stop };
                self.skip(stop);
                Ok(Some(Statement::Other))
            }
            _ if first == '~' => {
                self.take_line();
                Ok(Some(Statement::Other))
            }
            _ => self.take_rule(),
        }
    }

    fn take_rule(&mut self) -> Result<Option<Statement<'a>>, (usize, String)> {
        let number = self.line;
        let whole = self.rest;
        let line_end = whole.find('\n').unwrap_or(whole.len());
        // The selector ends at the first blank, that of a property filter after its quoted value.
        let selector_end = if whole.starts_with([':', '!', '+', '-']) {
            property_end(&whole[..line_end])
        } else {
            whole[..line_end].find([' ', '\t']).unwrap_or(line_end)
        };
        let (selector, action) = whole[..line_end].split_at(selector_end);
        let blanks = action.len() - action.trim_start().len();
        let action = action.trim();
        if line_end > MAX_LINE_BYTES || selector.contains('\u{fffd}') || !selector.bytes().all(|b| b >= b' ')
        {
            self.skip(line_end);
            return Err((number, format!("{} is not a selector", quoted(selector))));
        }
        if let Some(rest) = action.strip_prefix("action").filter(|rest| rest.trim_start().starts_with('(')) {
            self.skip(
                line_end
                    - rest.len()
                    - (whole[..line_end].len() - whole[..line_end].trim_end().len())
                    - "action".len(),
            );
            let object = self.take_object("action")?;
            return Ok(Some(Statement::Rule { selector, action: "", object: Some(object) }));
        }
        self.skip(selector_end + blanks);
        let action = self.take_line();
        if selector == "&" && (action == "~" || action == "stop") {
            return Ok(Some(Statement::Other));
        }
        Ok(Some(Statement::Rule { selector, action, object: None }))
    }

    /// An object whose name stands at the beginning of the rest.
    fn take_object(&mut self, name: &str) -> Result<Object<'a>, (usize, String)> {
        let number = self.line;
        let mut object = Object { name: name.to_ascii_lowercase(), parameters: Vec::new() };
        let start = self.rest.find('(').unwrap_or(self.rest.len());
        self.skip(start + 1);
        loop {
            self.skip_blanks_and_comments();
            let rest = self.rest;
            if rest.starts_with(')') {
                self.skip(1);
                return Ok(object);
            }
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')));
            let end = end.unwrap_or(rest.len());
            let parameter = &rest[..end];
            let value = rest[end..].trim_start().strip_prefix('=').map(str::trim_start);
            let Some(value) = value.filter(|_| !parameter.is_empty()) else {
                // Go on behind the line: an object that is not closed must not swallow the rest of the file.
                let end = rest.find('\n').unwrap_or(rest.len());
                self.skip(end);
                return Err((
                    number,
                    format!("{name}() is not closed or has something else than parameters"),
                ));
            };
            let before = rest.len() - value.len();
            let (text, length) = quoted_text(value);
            self.skip(before + length);
            if object.parameters.len() < MAX_PARAMETERS {
                object.parameters.push((parameter.to_ascii_lowercase(), text));
            }
        }
    }

    /// Skips `if condition then`; strings may hold the word.
    fn skip_condition(&mut self) {
        let mut quote = None;
        let mut word_start = true;
        let mut end = None;
        let line_end = self.rest.find('\n').unwrap_or(self.rest.len());
        let searched =
            if self.fruitless_bytes < MAX_FRUITLESS_BYTES { self.rest } else { &self.rest[..line_end] };
        for (at, c) in searched.char_indices() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(c),
                (None, 't') if word_start && self.rest[at..].starts_with("then") => {
                    let after = self.rest[at + 4..].chars().next();
                    if after.is_none_or(|c| c.is_whitespace() || c == '{') {
                        end = Some(at + 4);
                        break;
                    }
                }
                // Without its `then` the condition ends at an empty line at the latest.
                (None, '\n') if self.rest[at + 1..].starts_with('\n') => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
            word_start = c.is_whitespace() || c == ')';
        }
        if end.is_none() {
            self.fruitless_bytes += searched.len();
        }
        self.skip(end.unwrap_or(line_end));
    }

    /// The rest of the line, without a comment behind a blank.
    fn take_line(&mut self) -> &'a str {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let line = &self.rest[..end];
        self.skip(end);
        if line.len() > MAX_LINE_BYTES { "" } else { line.trim() }
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            let trimmed = self.rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\\');
            self.skip(self.rest.len() - trimmed.len());
            if self.rest.starts_with('#') {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.skip(end);
            } else if self.rest.starts_with("/*") {
                let end = self.rest.find("*/").map_or(self.rest.len(), |at| at + 2);
                self.skip(end);
            } else {
                return;
            }
        }
    }

    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += skipped.bytes().filter(|b| *b == b'\n').count();
        self.rest = rest;
    }
}

/// The text of a quoted value, or of one up to a blank, and how many bytes it takes.
fn quoted_text(value: &str) -> (Cow<'_, str>, usize) {
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let end = value.find(|c: char| c.is_whitespace() || c == ')').unwrap_or(value.len());
        return (Cow::Borrowed(&value[..end]), end);
    };
    let mut escaped = false;
    for (at, c) in value.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => {
                let inside = &value[1..at];
                let text = if inside.contains('\\') {
                    Cow::Owned(inside.replace("\\\\", "\\").replace("\\\"", "\""))
                } else {
                    Cow::Borrowed(inside)
                };
                return (text, at + 1);
            }
            _ => {}
        }
    }
    (Cow::Borrowed(""), value.len())
}

/// Where a property filter (`:msg, contains, "text"`) ends.
fn property_end(line: &str) -> usize {
    let Some(open) = line.find('"') else {
        return line.find([' ', '\t']).unwrap_or(line.len());
    };
    let mut escaped = false;
    for (at, c) in line.char_indices().filter(|(at, _)| *at > open) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    line.len()
}

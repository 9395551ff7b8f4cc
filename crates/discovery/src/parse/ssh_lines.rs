//! What sshd_config(5) and ssh_config(5) have in common: a keyword and its words on a line, and `Include`.

use super::{Errors, Files, MAX_INCLUDED_FILES, glob, is_plausible_key, quoted};

/// Where relative paths of Include are looked for, wherever the main file is.
const DIRECTORY: &str = "/etc/ssh";
/// Files that are open inside one another, besides the main one.
const MAX_DEPTH: usize = 16;

/// The files that a configuration consists of, as far as they are read.
#[derive(Debug, Default)]
pub struct Includes {
    /// Those being read, the main one first.
    open: Vec<String>,
    read: usize,
}

impl Includes {
    /// The lines of a file are looked at from now on, until [`Includes::end`].
    pub fn begin(&mut self, path: &str) {
        self.open.push(path.to_owned());
        self.read += 1;
    }

    pub fn end(&mut self) {
        self.open.pop();
    }

    /// The files of one pattern, which stands in line `number` of `path`.
    pub fn matching(
        &self,
        files: &dyn Files,
        pattern: &str,
        path: &str,
        number: usize,
        errors: &mut Errors,
    ) -> Vec<String> {
        let absolute =
            if pattern.starts_with('/') { pattern.to_owned() } else { format!("{DIRECTORY}/{pattern}") };
        glob(files, &absolute).unwrap_or_else(|reason| {
            errors.at(path, number, format_args!("cannot look for {}: {}", quoted(&absolute), reason.why));
            Vec::new()
        })
    }

    /// The text of one of these files, unless it may not be included here or cannot be read.
    pub fn text(
        &self,
        files: &dyn Files,
        file: &str,
        path: &str,
        number: usize,
        errors: &mut Errors,
    ) -> Option<String> {
        if self.open.iter().any(|open| open == file) {
            errors.at(path, number, format_args!("{file} includes itself, left out here"));
        } else if self.open.len() > MAX_DEPTH {
            let what = format_args!("{file} is included over more than {MAX_DEPTH} levels");
            errors.at(path, number, what);
        } else if self.read > MAX_INCLUDED_FILES {
            let what = format_args!("more than {MAX_INCLUDED_FILES} files, {file} left out");
            errors.at(path, number, what);
        } else {
            match files.text(file) {
                Ok(text) => return Some(text),
                // For ssh a file that is not there is a pattern without a match.
                Err(reason) if reason.absent => {}
                Err(reason) => errors.at(path, number, format_args!("cannot read {}", reason.why)),
            }
        }
        None
    }
}

/// Keyword and rest of a line; none for an empty one, a comment, and, with an error, for what is no keyword.
pub fn setting<'a>(
    line: &'a str,
    path: &str,
    number: usize,
    errors: &mut Errors,
) -> Option<(&'a str, &'a str)> {
    let line = line.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0');
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (name, rest) = split_keyword(line);
    if !is_plausible_key(name) {
        errors.at(path, number, format_args!("{} is not a keyword", quoted(name)));
        return None;
    }
    Some((name, rest))
}

/// The words of a line up to a comment; none, with an error, when a quote is not closed.
pub fn words(rest: &str, path: &str, number: usize, errors: &mut Errors) -> Option<Vec<String>> {
    let words = split_words(rest, Some('#'));
    if words.is_none() {
        errors.at(path, number, format_args!("a quote is not closed in {}", quoted(rest)));
    }
    words
}

/// `Keyword value`, `Keyword=value`, `Keyword = value`, `"Keyword" value`.
fn split_keyword(line: &str) -> (&str, &str) {
    let (name, rest) = match line.strip_prefix('"').and_then(|inside| inside.split_once('"')) {
        Some(quoted) => quoted,
        None => {
            let end = line.find(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or(line.len());
            line.split_at(end)
        }
    };
    let rest = rest.trim_start();
    (name, rest.strip_prefix('=').unwrap_or(rest).trim_start())
}

/// Words as sshd separates them: quotes of both kinds may begin anywhere, a backslash keeps a quote, a
/// backslash or (outside of quotes) a blank, and `comment` at the beginning of a word ends the line. None when a
/// quote is not closed.
pub fn split_words(text: &str, comment: Option<char>) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    loop {
        while characters.next_if(char::is_ascii_whitespace).is_some() {}
        match characters.peek() {
            None => return Some(words),
            Some(c) if Some(*c) == comment => return Some(words),
            Some(_) => {}
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(c) = characters.next_if(|c| quote.is_some() || !c.is_ascii_whitespace()) {
            match c {
                '\\' => match characters
                    .next_if(|c| matches!(c, '"' | '\'' | '\\') || (quote.is_none() && *c == ' '))
                {
                    Some(kept) => word.push(kept),
                    None => word.push('\\'),
                },
                '"' | '\'' if quote == Some(c) => quote = None,
                '"' | '\'' if quote.is_none() => quote = Some(c),
                _ => word.push(c),
            }
        }
        if quote.is_some() {
            return None;
        }
        words.push(word);
    }
}

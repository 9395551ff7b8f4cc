//! From text to a checked [`Node`].

use super::functions::{Check, Function, function, functions};
use super::pattern::Pattern;
use super::{MAXIMUM_DEPTH, MAXIMUM_EXPRESSION_BYTES, Node, ParseError, Prepared, operand};
use serde_json::Value;

/// Longest `$name`, in bytes.
const MAXIMUM_NAME_BYTES: usize = 1024;

pub(crate) fn parse(text: &str) -> Result<Node, ParseError> {
    if text.len() > MAXIMUM_EXPRESSION_BYTES {
        return Err(ParseError {
            position: 1,
            message: format!("the expression is longer than {MAXIMUM_EXPRESSION_BYTES} bytes"),
            hint: "make it several rules".into(),
        });
    }
    Parser { text, at: 0, depth: 0 }.whole()
}

/// An argument as written: FOREACH and the mode functions must know how it was spelt.
struct Argument<'t> {
    node: Node,
    /// The text between the quotes, or the word.
    literal: Option<&'t str>,
    quoted: bool,
    start: usize,
}

struct Parser<'t> {
    text: &'t str,
    /// In bytes, always between characters: all delimiters are ASCII.
    at: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    /// The whole text is one expression.
    fn whole(mut self) -> Result<Node, ParseError> {
        let trimmed = self.text.trim();
        self.at = self.text.len() - self.text.trim_start().len();
        let end = self.at + trimmed.len();
        if trimmed.starts_with('"') {
            let content = self.quoted()?;
            if self.at != end {
                return Err(self.error(self.at, "there is text after the closing quote", hint_quote()));
            }
            return Ok(Node::Constant(Value::String(content.to_string())));
        }
        if !trimmed.contains('(') || is_hexadecimal(trimmed) {
            return self.atom(trimmed, self.at);
        }
        let start = self.at;
        self.at += trimmed.find('(').unwrap_or_default();
        let node = self.call(start, Some(end))?;
        if self.at != end {
            self.skip_blanks();
            let message = format!(
                "there is text after the closing parenthesis: {:?}",
                shorten(&self.text[self.at..end])
            );
            return Err(self.error(
                self.at,
                &message,
                "a rule is one expression; combine several with AND( , )",
            ));
        }
        Ok(node)
    }

    /// A call whose name starts at `start`; the cursor is at its opening parenthesis. `end` is given for the
    /// outermost call: where the text ends.
    fn call(&mut self, start: usize, end: Option<usize>) -> Result<Node, ParseError> {
        let written = self.text[start..self.at].trim();
        let name = written.strip_prefix('@').unwrap_or(written).trim();
        let open = self.at;
        self.depth += 1;
        if self.depth > MAXIMUM_DEPTH {
            let message = format!("more than {MAXIMUM_DEPTH} calls inside each other");
            return Err(self.error(start, &message, "make it several rules"));
        }
        if name == "IGNORE" {
            self.at = self.end_of_remark(open, end)?;
            self.depth -= 1;
            return Ok(Node::Ignore);
        }
        let Some(function) = function(name) else {
            return Err(self.unknown_function(start, name));
        };
        self.at = open + 1;
        let arguments = self.arguments(open)?;
        self.check_count(start, function, arguments.len())?;
        let prepared = self.prepare(start, function, &arguments)?;
        self.depth -= 1;
        let arguments = arguments.into_iter().map(|argument| argument.node).collect();
        Ok(Node::Call { function, arguments, prepared })
    }

    /// The text of IGNORE is free: up to the last parenthesis of the text, or inside another call up to its own.
    /// Returns the place after it.
    fn end_of_remark(&self, open: usize, end: Option<usize>) -> Result<usize, ParseError> {
        let unclosed =
            || self.error(open, "the parenthesis of IGNORE is not closed", "end the remark with )");
        if end.is_some() {
            return self.text[open..].rfind(')').map(|close| open + close + 1).ok_or_else(unclosed);
        }
        // A remark may hold an odd quote; only if quotes come in pairs do they protect parentheses.
        let closing = |protect: bool| {
            let (mut level, mut inside) = (0usize, false);
            for (offset, byte) in self.text[open..].bytes().enumerate() {
                match byte {
                    b'"' if protect => inside = !inside,
                    b'(' if !inside => level += 1,
                    b')' if !inside => {
                        level -= 1;
                        if level == 0 {
                            return Some(open + offset + 1);
                        }
                    }
                    _ => {}
                }
            }
            None
        };
        closing(true).or_else(|| closing(false)).ok_or_else(unclosed)
    }

    /// Arguments up to and including the closing parenthesis. Empty ones without quotes are dropped.
    fn arguments(&mut self, open: usize) -> Result<Vec<Argument<'t>>, ParseError> {
        let mut arguments = Vec::new();
        loop {
            self.skip_blanks();
            let start = self.at;
            if self.peek() == Some(b'"') {
                let content = self.quoted()?;
                let node = Node::Constant(Value::String(content.to_string()));
                arguments.push(Argument { node, literal: Some(content), quoted: true, start });
            } else {
                let rest = &self.text[start..];
                self.at = start + rest.find([',', ')', '(', '"']).unwrap_or(rest.len());
                match self.peek() {
                    Some(b'(') => {
                        let node = self.call(start, None)?;
                        arguments.push(Argument { node, literal: None, quoted: false, start });
                    }
                    Some(b'"') => {
                        return Err(self.error(self.at, "there is a quote inside a word", hint_quote()));
                    }
                    _ => {
                        let word = self.text[start..self.at].trim();
                        if !word.is_empty() {
                            let node = self.atom(word, start)?;
                            let literal = matches!(node, Node::Constant(_)).then_some(word);
                            arguments.push(Argument { node, literal, quoted: false, start });
                        }
                    }
                }
            }
            self.skip_blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b')') => {
                    self.at += 1;
                    return Ok(arguments);
                }
                None => return Err(self.error(open, "this parenthesis is not closed", "add the missing )")),
                Some(_) => {
                    let message =
                        format!("there is text after an argument: {:?}", shorten(&self.text[self.at..]));
                    return Err(self.error(self.at, &message, "separate arguments with a comma"));
                }
            }
        }
    }

    /// The text between two quotes; the cursor moves behind the second.
    fn quoted(&mut self) -> Result<&'t str, ParseError> {
        let start = self.at + 1;
        let Some(length) = self.text[start..].find('"') else {
            return Err(self.error(
                self.at,
                "this quote is not closed",
                "add the closing \"; a text cannot hold a quote",
            ));
        };
        self.at = start + length + 1;
        Ok(&self.text[start..start + length])
    }

    /// A name, a number, a truth value, or else a bare word.
    fn atom(&self, word: &str, start: usize) -> Result<Node, ParseError> {
        if let Some(name) = word.strip_prefix('$') {
            if name.is_empty() || name.len() > MAXIMUM_NAME_BYTES {
                let message = if name.is_empty() {
                    "the name after $ is missing"
                } else {
                    "the name after $ is too long"
                };
                return Err(self.error(
                    start,
                    message,
                    "write $ and the name of a discovered value, as in $PermitRootLogin",
                ));
            }
            return Ok(Node::Name(name.to_string()));
        }
        let (sign, unsigned) = word.strip_prefix('-').map_or((1, word), |rest| (-1, rest));
        let all_digits = !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit());
        let in_base = |digits: &str, base: u32, what: &str| {
            // from_str_radix would take a sign.
            let parsed = u64::from_str_radix(digits, base).ok().filter(|_| !digits.starts_with(['+', '-']));
            parsed.and_then(|value| operand::from_integer(i128::from(value) * sign)).ok_or_else(|| {
                let message = format!("{:?} is not {what} number of at most 64 bits", shorten(word));
                self.error(start, &message, "correct the digits, or put it in quotes if it is a text")
            })
        };
        let value = if is_hexadecimal(unsigned) {
            in_base(&unsigned[2..], 16, "a hexadecimal")?.into_owned()
        } else if all_digits && unsigned.len() > 1 && unsigned.starts_with('0') {
            in_base(&unsigned[1..], 8, "an octal")?.into_owned()
        } else if !word.starts_with('+')
            && let Some(number) = operand::numeric(word)
        {
            Value::Number(number)
        } else {
            match word {
                "True" => Value::Bool(true),
                "False" => Value::Bool(false),
                _ => Value::String(word.to_string()),
            }
        };
        Ok(Node::Constant(value))
    }

    fn check_count(&self, start: usize, function: &Function, count: usize) -> Result<(), ParseError> {
        if count >= function.minimum_arguments
            && function.maximum_arguments.is_none_or(|maximum| count <= maximum)
        {
            return Ok(());
        }
        let message = format!("{} takes {} but has {count}", function.name, function.arguments_text());
        Err(self.error(start, &message, &format!("for example {}", function.examples[0].expression)))
    }

    /// Checks of literal arguments, and what evaluation can reuse of them.
    fn prepare(
        &self,
        start: usize,
        function: &Function,
        arguments: &[Argument<'t>],
    ) -> Result<Prepared, ParseError> {
        match function.check {
            Check::Nothing => Ok(Prepared::Nothing),
            Check::Pattern { pattern, flags, anchored } => {
                let text = |index: usize| match arguments.get(index).map(|argument| &argument.node) {
                    Some(Node::Constant(value)) => Some(operand::as_text(value).into_owned()),
                    _ => None,
                };
                let known_flags = if arguments.len() > flags { text(flags) } else { Some(String::new()) };
                let Some(literal) = text(pattern) else { return Ok(Prepared::Nothing) };
                let compiled = Pattern::new(&literal, known_flags.as_deref().unwrap_or_default(), anchored).map_err(|message| {
                    let hint = match message.contains("flag") {
                        true => "for example match($a, pattern, I)",
                        false => "look-around and back references do not exist here; put a pattern with , ( or ) in quotes",
                    };
                    self.error(arguments[pattern].start, &message, hint)
                })?;
                // Flags that only the data tell: compiled at each evaluation.
                Ok(known_flags.map_or(Prepared::Nothing, |_| Prepared::Pattern(compiled)))
            }
            Check::Globs => {
                let literal = |argument: &Argument<'t>| match &argument.node {
                    Node::Constant(value) => Some(operand::as_text(value).into_owned()),
                    _ => None,
                };
                let Some(patterns) = arguments.iter().map(literal).collect::<Option<Vec<String>>>() else {
                    return Ok(Prepared::Nothing);
                };
                let compiled = Pattern::globs(&patterns).map_err(|message| {
                    self.error(arguments.first().map_or(start, |first| first.start), &message, "")
                })?;
                Ok(Prepared::Pattern(compiled))
            }
            Check::OctalMode(index) => match arguments.get(index) {
                Some(argument) if is_decimal_mode(argument) => {
                    let word = argument.literal.unwrap_or_default();
                    let message = format!("{} wants an octal mode, {word} is decimal", function.name);
                    Err(self.error(argument.start, &message, &format!("write 0{word}")))
                }
                _ => Ok(Prepared::Nothing),
            },
            Check::Predicate => {
                let Some(last) = arguments.last() else { return Ok(Prepared::Nothing) };
                let Some(predicate) = last.literal else {
                    let message = format!(
                        "the predicate of {} is evaluated before it can see the members",
                        function.name
                    );
                    return Err(self.error(
                        last.start,
                        &message,
                        "put it in quotes: FOREACH(\"EQ($owner, root)\")",
                    ));
                };
                let offset = last.start + usize::from(last.quoted);
                let parsed =
                    Parser { text: predicate, at: 0, depth: self.depth }.whole().map_err(|inner| {
                        ParseError {
                            position: self.characters(offset.max(start)) + inner.position - 1,
                            ..inner
                        }
                    })?;
                Ok(Prepared::Predicate(Box::new(parsed)))
            }
        }
    }

    fn unknown_function(&self, start: usize, name: &str) -> ParseError {
        if name.is_empty() {
            return self.error(
                start,
                "there is no function name before the parenthesis",
                "write a function such as AND before it, or put a text in quotes",
            );
        }
        let message = format!("there is no function {:?}", shorten(name));
        let near = model::text::nearest(name, functions().map(|known| known.name));
        match near {
            Some(known) => self.error(start, &message, &format!("did you mean {known}?")),
            None => self.error(
                start,
                &message,
                "put a text that holds a parenthesis in quotes; names are case sensitive",
            ),
        }
    }

    fn error(&self, at: usize, message: &str, hint: &str) -> ParseError {
        ParseError { position: self.characters(at), message: message.to_string(), hint: hint.to_string() }
    }

    /// Byte offset as a character position from 1.
    fn characters(&self, at: usize) -> usize {
        self.text.get(..at).map_or(1, |before| before.chars().count() + 1)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }
}

fn hint_quote() -> &'static str {
    "put the whole text in quotes; it cannot hold a quote itself"
}

fn is_hexadecimal(word: &str) -> bool {
    word.starts_with("0x") || word.starts_with("0X")
}

/// An unquoted number such as 640, which means 01200 and never what was meant.
fn is_decimal_mode(argument: &Argument<'_>) -> bool {
    let is_number = matches!(argument.node, Node::Constant(Value::Number(_)));
    is_number && argument.literal.is_some_and(|word| word.len() > 1 && !word.starts_with('0'))
}

fn shorten(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| &text[..end])
}

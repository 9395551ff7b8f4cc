//! What the discoveries of configuration files share: bounded lines, words, numbers, patterns, included
//! files, and the errors that a document carries.
//!
//! Everything here takes text that may be hostile: all loops are linear in it, all results bounded.

pub mod container;
pub mod cron;
pub mod drop_ins;
pub mod grub;
pub mod ini;
pub mod mount_points;
pub mod ownership;
pub mod pam_lines;
pub mod pam_settings;
pub mod pam_stack;
pub mod people;
pub mod presence;
pub mod shadow;
pub mod shell_words;
pub mod ssh_lines;
pub mod sshd_keywords;
pub mod sudoers_lines;
pub mod support;
pub mod sysctl_files;
pub mod systemd_conf;
#[cfg(test)]
pub mod testing;
pub mod users;

use crate::host::MAX_TEXT_BYTES;
use crate::{Collected, Host};
use model::text::{printable, shortened};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// A logical line (after joining continued ones) that is longer is left out, with an error.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// Lines with content that are looked at in one file; the rest is left out, with an error.
pub const MAX_LINES: usize = 100_000;
/// Files that one discovery reads by way of include directives.
pub const MAX_INCLUDED_FILES: usize = 512;
const MAX_ERRORS: usize = 100;
const MAX_MATCHES: usize = 1000;
/// The longest path that the kernel takes (PATH_MAX); a longer pattern can match none.
const MAX_PATTERN_BYTES: usize = 4096;

/// Why a file or directory gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotRead {
    /// There is no such file, as opposed to one that could not be read.
    pub absent: bool,
    /// Names the file and the reason.
    pub why: String,
}

/// The little that a parser with include directives needs of a host; tests give it a map.
pub trait Files {
    fn text(&self, path: &str) -> Result<String, NotRead>;
    /// Names in a directory, in any order.
    fn names(&self, directory: &str) -> Result<Vec<String>, NotRead>;
    /// Whether `path` is a link to /dev/null: programs with drop-in directories take that for an empty file.
    fn is_masked(&self, _path: &str) -> bool {
        false
    }
}

impl Files for Host {
    fn text(&self, path: &str) -> Result<String, NotRead> {
        let text = self
            .read_text(path)
            .map_err(|error| NotRead { absent: error.is_missing(), why: error.to_string() })?;
        if self.takes_text(text.len()) {
            return Ok(text);
        }
        let why = format!("{path}: with it this would be more than {MAX_TEXT_BYTES} bytes in one run");
        Err(NotRead { absent: false, why })
    }

    fn names(&self, directory: &str) -> Result<Vec<String>, NotRead> {
        self.list(directory).map_err(|error| NotRead { absent: error.is_missing(), why: error.to_string() })
    }

    fn is_masked(&self, path: &str) -> bool {
        self.read_link(path).is_ok_and(|target| target == "/dev/null")
    }
}

/// The sentences that a document carries in `errors`: what could not be read or understood.
/// At most 100, then a last one that counts the others.
#[derive(Debug, Default)]
pub struct Errors {
    list: Vec<String>,
    left_out: usize,
}

impl Errors {
    pub fn add(&mut self, sentence: String) {
        if self.list.len() < MAX_ERRORS {
            self.list.push(sentence);
        } else {
            self.left_out += 1;
        }
    }

    /// `<file> line <line>: <what>`
    pub fn at(&mut self, file: &str, line: usize, what: impl std::fmt::Display) {
        if self.list.len() < MAX_ERRORS {
            self.list.push(format!("{file} line {line}: {what}"));
        } else {
            self.left_out += 1;
        }
    }

    pub fn unread(&mut self, reason: &NotRead) {
        self.add(format!("Cannot read {}", reason.why));
    }

    pub fn into_list(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.list.push(format!("{} further errors are not listed", self.left_out));
        }
        self.list
    }
}

/// The data of a discovery whose main file could not be read.
pub fn no_data(path: &str) -> Value {
    json!({ "NODATA": format!("ERROR: Cannot read {path}") })
}

/// A discovery of one file: what `parse` makes of its text and path, or [`no_data`] and why.
pub fn collect_file(host: &Host, path: &str, parse: fn(&str, &str) -> (Value, Vec<String>)) -> Collected {
    match host.text(path) {
        Ok(text) => collected(parse(&text, path)),
        Err(reason) => {
            let mut errors = Errors::default();
            errors.unread(&reason);
            collected((no_data(path), errors.into_list()))
        }
    }
}

/// Data and errors without extra fields.
pub fn collected((data, errors): (Value, Vec<String>)) -> Collected {
    Collected { data, errors, extras: Map::new() }
}

/// A piece of a file as it may stand in an error: short, harmless, without secrets. Made only when it is shown: of a
/// file of junk most errors are only counted.
pub fn quoted(text: &str) -> Quoted<'_> {
    Quoted(text)
}

/// See [`quoted`].
pub struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start: String = self.0.chars().take(200).collect();
        let masked = mask_secrets(&start);
        write!(f, "'{}'", shortened(&printable(&masked), 60))
    }
}

/// The lines of a file that have content, with their numbers from 1 and without their line ends (LF or
/// CRLF) and a byte order mark. Lines over the bounds are left out, with an error.
pub fn lines<'a>(text: &'a str, file: &str, errors: &mut Errors) -> Vec<(usize, &'a str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.len() > MAX_LINE_BYTES {
            errors.at(file, index + 1, format_args!("longer than {MAX_LINE_BYTES} bytes, left out"));
            continue;
        }
        if line.trim().is_empty() {
            continue;
        }
        if found.len() == MAX_LINES {
            errors.at(file, index + 1, format_args!("more than {MAX_LINES} lines, the rest is left out"));
            break;
        }
        found.push((index + 1, line));
    }
    found
}

/// Like [`lines`], after `without_comment` has cut each line and those ending in a backslash have been
/// joined to the next by a blank. The number is that of the first line. A backslash at the very end of the
/// file joins nothing and is dropped.
pub fn joined_lines<'a>(
    text: &'a str,
    file: &str,
    errors: &mut Errors,
    without_comment: fn(&str) -> &str,
) -> Vec<(usize, Cow<'a, str>)> {
    let mut found: Vec<(usize, Cow<'a, str>)> = Vec::new();
    let mut open: Option<(usize, usize, String)> = None;
    for (number, line) in lines(text, file, errors) {
        let line = without_comment(line).trim_end();
        let (content, continues) = match line.strip_suffix('\\') {
            // An even number of backslashes is text: the last one is itself escaped.
            Some(rest) if (line.len() - line.trim_end_matches('\\').len()) % 2 == 1 => (rest, true),
            _ => (line, false),
        };
        // An empty line ends a continuation; `lines` has left it out, so the numbers tell.
        if let Some((first, _, text)) = open.take_if(|(_, previous, _)| *previous + 1 != number) {
            found.push((first, Cow::Owned(text)));
        }
        match (open.take(), continues) {
            (None, false) => found.push((number, Cow::Borrowed(content))),
            (None, true) => open = Some((number, number, content.to_owned())),
            (Some((first, _, mut text)), _) => {
                if text.len() + content.len() < MAX_LINE_BYTES {
                    text.push(' ');
                    text.push_str(content.trim_start());
                } else {
                    errors.at(
                        file,
                        first,
                        format_args!("longer than {MAX_LINE_BYTES} bytes, cut at line {number}"),
                    );
                }
                if continues {
                    open = Some((first, number, text));
                } else {
                    found.push((first, Cow::Owned(text)));
                }
            }
        }
    }
    if let Some((first, _, text)) = open {
        found.push((first, Cow::Owned(text)));
    }
    found.retain(|(_, text)| !text.trim().is_empty());
    found
}

/// Cuts a comment that begins at the first `#`, wherever it stands.
pub fn cut_at_hash(line: &str) -> &str {
    line.split('#').next().unwrap_or(line)
}

/// `yes` and `no` in any case as booleans, decimal numbers as numbers, everything else as text.
pub fn scalar(word: &str) -> Value {
    if word.eq_ignore_ascii_case("yes") {
        Value::Bool(true)
    } else if word.eq_ignore_ascii_case("no") {
        Value::Bool(false)
    } else {
        integer(word).map_or_else(|| Value::from(word), Value::from)
    }
}

/// A decimal integer with an optional minus sign.
pub fn integer(word: &str) -> Option<i64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) { None } else { word.parse().ok() }
}

/// An integer as C reads it: octal after a leading 0, hexadecimal after 0x, else decimal.
pub fn c_integer(word: &str) -> Option<i64> {
    let (negative, digits) = word.strip_prefix('-').map_or((false, word), |rest| (true, rest));
    let radix_and_digits = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hexadecimal) => (16, hexadecimal),
        None if digits.len() > 1 && digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    let (radix, digits) = radix_and_digits;
    // `from_str_radix` would take a sign of its own.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

/// One value alone, several as a list.
pub fn one_or_list(mut values: Vec<Value>) -> Value {
    if values.len() == 1 { values.remove(0) } else { Value::Array(values) }
}

/// Adds a value under a key: the first stays alone, further ones make a list.
pub fn accumulate(map: &mut Map<String, Value>, key: &str, value: Value) {
    match map.get_mut(key) {
        None => {
            map.insert(key.to_owned(), value);
        }
        Some(Value::Array(list)) => match value {
            Value::Array(more) => list.extend(more),
            one => list.push(one),
        },
        Some(first) => {
            let mut list = vec![first.take()];
            match value {
                Value::Array(more) => list.extend(more),
                one => list.push(one),
            }
            *first = Value::Array(list);
        }
    }
}

/// A key that can be one: letters, digits, `_`, `-` and `.`, at most 64 bytes. Keeps binary junk out of the data.
pub fn is_plausible_key(key: &str) -> bool {
    (1..=64).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Replaces by `***` what follows a name that ends like one of a secret and `=`, what follows an option such
/// as `--password`, and the password of a URL. Everything else stays as it is.
pub fn mask_secrets(text: &str) -> Cow<'_, str> {
    let lower = text.to_ascii_lowercase();
    if !lower.contains("://") && !SECRET_NAMES.iter().any(|name| lower.contains(name)) {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut after_option = false;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        let blank = &word[bare.len()..];
        if bare.is_empty() {
            masked.push_str(blank);
            continue;
        }
        if after_option && !bare.starts_with('-') {
            masked.push_str("***");
            after_option = false;
        } else if let Some((name, value)) = bare.split_once('=').filter(|(name, _)| is_secret_name(name)) {
            masked.push_str(name);
            masked.push_str("=***");
            // A quoted value goes on to its closing quote, over blanks.
            let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
            after_option = quote.is_some_and(|q| value.len() == 1 || !value.ends_with(q));
            if after_option {
                return Cow::Owned(masked);
            }
        } else {
            after_option = bare.starts_with('-') && is_secret_name(bare);
            masked.push_str(&mask_url(bare));
        }
        masked.push_str(blank);
    }
    Cow::Owned(masked)
}

const SECRET_NAMES: &[&str] =
    &["password", "passwd", "secret", "token", "bindpw", "passphrase", "apikey", "api_key", "api-key"];

/// Whether a name is that of a secret: `ldap_bindpw` and `--client-secret` are, `passwd_tries` is not.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.trim_end_matches(['\\', ' ', '"', '\'']).to_ascii_lowercase();
    let short = matches!(name.as_str(), "pass" | "pw" | "-pass" | "--pass");
    short || name.ends_with("_pass") || SECRET_NAMES.iter().any(|secret| name.ends_with(secret))
}

fn mask_url(word: &str) -> Cow<'_, str> {
    let Some(scheme_end) = word.find("://") else { return Cow::Borrowed(word) };
    let rest = &word[scheme_end + 3..];
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    match authority.rfind('@').and_then(|at| authority[..at].find(':').map(|colon| (colon, at))) {
        Some((colon, at)) => {
            let start = scheme_end + 3;
            Cow::Owned(format!("{}:***{}", &word[..start + colon], &word[start + at..]))
        }
        None => Cow::Borrowed(word),
    }
}

/// The absolute paths that match a glob(3) pattern, sorted; none is not an error. A pattern without
/// wildcards is returned as it is, whether the file exists or not. At most 1000; one that is longer than any path
/// fails.
pub fn glob(files: &dyn Files, pattern: &str) -> Result<Vec<String>, NotRead> {
    if pattern.len() > MAX_PATTERN_BYTES {
        // Each part is appended to each path found so far: many parts would cost their square.
        let why = format!("{}: longer than the {MAX_PATTERN_BYTES} bytes of a path", quoted(pattern));
        return Err(NotRead { absent: false, why });
    }
    let mut found = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        if !part.contains(['*', '?', '[']) {
            let plain = part.replace('\\', "");
            found.iter_mut().for_each(|path| *path = format!("{path}/{plain}"));
            continue;
        }
        let mut next = Vec::new();
        for directory in &found {
            let mut names = match files.names(if directory.is_empty() { "/" } else { directory }) {
                Ok(names) => names,
                Err(reason) if reason.absent => continue,
                // A file where the pattern wants a directory matches nothing, as for glob(3).
                Err(_) if found.len() > 1 => continue,
                Err(reason) => return Err(reason),
            };
            names.sort();
            for name in names.iter().filter(|name| matches(part, name)) {
                if next.len() < MAX_MATCHES {
                    next.push(format!("{directory}/{name}"));
                }
            }
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

/// Whether a name matches one pattern of glob(7): `*`, `?`, `[a-z]`, `[!a]`, `\` before a literal character.
/// A leading dot must be matched by a dot. A pattern of more than 4096 bytes matches nothing. Quadratic at worst.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    if (name.starts_with('.') && !pattern.starts_with('.')) || pattern.len() > MAX_PATTERN_BYTES {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let last_close = pattern.iter().rposition(|c| *c == ']').unwrap_or(0);
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, n));
            p += 1;
        } else if let Some(next) = match_one(&pattern, p, last_close, name[n]) {
            p = next;
            n += 1;
        } else if let Some((star, at)) = retry {
            retry = Some((star, at + 1));
            p = star;
            n = at + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on if its element at `p` matches the character. `last_close` is where its last `]` stands:
/// it is not looked for again for each `[` behind it.
fn match_one(pattern: &[char], p: usize, last_close: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '[' if p >= last_close => (c == '[').then_some(p + 1),
        '[' => {
            let negated = matches!(pattern.get(p + 1), Some('!' | '^'));
            let first = p + 1 + usize::from(negated);
            // A bracket right after the opening one is literal; without a closing one, `[` itself is.
            let Some(length) = pattern.get(first + 1..).and_then(|rest| rest.iter().position(|x| *x == ']'))
            else {
                return (c == '[').then_some(p + 1);
            };
            let set = &pattern[first..first + 1 + length];
            let mut inside = false;
            let mut i = 0;
            while i < set.len() {
                if i + 2 < set.len() && set[i + 1] == '-' {
                    inside |= (set[i]..=set[i + 2]).contains(&c);
                    i += 3;
                } else {
                    inside |= set[i] == c;
                    i += 1;
                }
            }
            (inside != negated).then_some(first + length + 2)
        }
        '\\' if p + 1 < pattern.len() => (pattern[p + 1] == c).then_some(p + 2),
        literal => (literal == c).then_some(p + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Tree;
    use super::*;

    #[test]
    fn lines_lose_line_ends_and_byte_order_marks_only() {
        let mut errors = Errors::default();
        let found = lines("\u{feff}a\r\n\n  b \nc", "f", &mut errors);
        assert_eq!(found, [(1, "a"), (3, "  b "), (4, "c")]);
        assert!(errors.into_list().is_empty());
    }

    #[test]
    fn lines_over_the_bounds_are_told() {
        let mut errors = Errors::default();
        let text = format!("{}\nb", "x".repeat(MAX_LINE_BYTES + 1));
        assert_eq!(lines(&text, "f", &mut errors), [(2, "b")]);
        let many = "a\n".repeat(MAX_LINES + 1);
        assert_eq!(lines(&many, "g", &mut errors).len(), MAX_LINES);
        let errors = errors.into_list();
        assert!(errors[0].starts_with("f line 1: longer"), "{errors:?}");
        assert!(errors[1].starts_with("g line 100001: more than"), "{errors:?}");
    }

    #[test]
    fn continued_lines_are_joined() {
        let mut errors = Errors::default();
        let text = "a \\\n  b\\\nc\nd # x \\\ne\n# y \\\nf\\\n\ng\\\\\nh\\";
        let found = joined_lines(text, "f", &mut errors, cut_at_hash);
        let found: Vec<(usize, &str)> = found.iter().map(|(n, t)| (*n, t.trim_end())).collect();
        assert_eq!(found, [(1, "a  b c"), (4, "d"), (5, "e"), (7, "f"), (9, "g\\\\"), (10, "h")]);
    }

    #[test]
    fn numbers() {
        assert_eq!(scalar("Yes"), json!(true));
        assert_eq!(scalar("NO"), json!(false));
        assert_eq!(scalar("-5"), json!(-5));
        assert_eq!(scalar("+5"), json!("+5"));
        assert_eq!(scalar("99999999999999999999"), json!("99999999999999999999"));
        assert_eq!(c_integer("022"), Some(18));
        assert_eq!(c_integer("0x1F"), Some(31));
        assert_eq!(c_integer("-077"), Some(-63));
        assert_eq!(
            (c_integer("08"), c_integer("0x"), c_integer("0x+1"), c_integer("")),
            (None, None, None, None)
        );
        assert_eq!(c_integer("0"), Some(0));
    }

    #[test]
    fn secrets_are_masked_and_settings_about_them_are_not() {
        assert_eq!(mask_secrets("a bindpw=geheim b"), "a bindpw=*** b");
        assert_eq!(mask_secrets("mysql --password=x --user=y"), "mysql --password=*** --user=y");
        assert_eq!(mask_secrets("x --client-secret abc d"), "x --client-secret *** d");
        assert_eq!(mask_secrets("Password=\"a b\" c"), "Password=***");
        assert_eq!(mask_secrets("ldap://u:pw@h/x"), "ldap://u:***@h/x");
        for harmless in
            ["passwd_timeout=5", "passwd_tries=3", "use_authtok", "https://h/x@y", "passprompt=Password:"]
        {
            assert_eq!(mask_secrets(harmless), harmless);
        }
    }

    #[test]
    fn globs_match_like_glob_3() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".a.conf", false),
            (".*", ".a", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYbd", false),
            ("[0-9]?-x", "10-x", true),
            ("[!0-9]*", "10-x", false),
            ("[]a]", "]", true),
            ("[", "[", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        let brackets = format!("*{}x", "[".repeat(2000));
        let start = std::time::Instant::now();
        assert!(!matches(&brackets, &"[".repeat(4000)));
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(!matches(&"*".repeat(4097), "a"));
        let stars = "*a".repeat(2000);
        assert!(!matches(&stars, &"a".repeat(1999)));
        let tree = Tree::of(&[
            ("/etc/a/2.conf", ""),
            ("/etc/a/1.conf", ""),
            ("/etc/b/1.conf", ""),
            ("/etc/b/x", ""),
        ]);
        assert_eq!(
            glob(&tree, "/etc/*/*.conf").unwrap(),
            ["/etc/a/1.conf", "/etc/a/2.conf", "/etc/b/1.conf"]
        );
        assert_eq!(glob(&tree, "/etc/none/x").unwrap(), ["/etc/none/x"]);
        assert!(glob(&tree, "/none/*").unwrap().is_empty());
        assert!(glob(&tree, &"/a".repeat(400_000)).unwrap_err().why.contains("longer than"));
    }

    #[test]
    fn errors_are_bounded_and_counted() {
        let mut errors = Errors::default();
        (0..150).for_each(|n| errors.at("f", n, "bad"));
        let list = errors.into_list();
        assert_eq!(list.len(), 101);
        assert_eq!(list[100], "50 further errors are not listed");
    }
}

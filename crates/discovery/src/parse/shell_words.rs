//! As much of the shell's grammar as it takes to find simple commands in a start-up file, see sh(1) and csh(1).
//!
//! Nothing is expanded and nothing is run: a word that holds a variable stays the text it is, and each branch of an
//! `if` is looked at.

/// Words that stand before a command without being one.
const KEYWORDS: &[&str] =
    &["then", "else", "do", "{", "}", "(", "!", "if", "elif", "while", "until", "builtin", "command", "time"];
const MAX_WORDS: usize = 1000;

/// The simple commands of one line, each as its words without quotes. Comments are left out.
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut count = 0;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        if let Some(open) = quote {
            match c {
                _ if c == open => quote = None,
                '\\' if open == '"' => word.get_or_insert_default().extend(characters.next()),
                _ => word.get_or_insert_default().push(c),
            }
            continue;
        }
        match c {
            '\'' | '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            '#' if word.is_none() => break,
            ';' | '&' | '|' | '(' | ')' | '\n' => {
                words.extend(word.take());
                push(&mut found, &mut words);
            }
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
        if word.is_none() {
            count += 1;
            if count > MAX_WORDS {
                break;
            }
        }
    }
    words.extend(word);
    push(&mut found, &mut words);
    found
}

fn push(found: &mut Vec<Vec<String>>, words: &mut Vec<String>) {
    let keywords = words.iter().take_while(|word| KEYWORDS.contains(&word.as_str())).count();
    words.drain(..keywords);
    if !words.is_empty() {
        found.push(std::mem::take(words));
    }
}

/// The mask that `umask` sets: an octal number, or `u=rwx,g=rx,o=`. `None` for anything else, as for `umask -S`,
/// which only shows it.
pub fn umask(arguments: &[String]) -> Option<u32> {
    let value = arguments.iter().find(|argument| !argument.starts_with('-'))?;
    if value.len() <= 5 && !value.is_empty() && value.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return u32::from_str_radix(value, 8).ok().map(|mask| mask & 0o777);
    }
    let mut allowed = [None; 3];
    for part in value.split(',').take(10) {
        let (who, rights) = part.split_once('=')?;
        let mut bits = 0;
        for right in rights.chars() {
            bits |= match right {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                _ => return None,
            };
        }
        for who in if who.is_empty() { "a" } else { who }.chars() {
            match who {
                'u' => allowed[0] = Some(bits),
                'g' => allowed[1] = Some(bits),
                'o' => allowed[2] = Some(bits),
                'a' => allowed = [Some(bits); 3],
                _ => return None,
            }
        }
    }
    let [Some(user), Some(group), Some(others)] = allowed else { return None };
    Some(0o777 & !(user << 6 | group << 3 | others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_commands_of_a_line() {
        let line =
            "if [ \"$UID\" -gt 199 ]; then umask 002 && export A='b c'; else umask 0\"22\"; fi # umask 000";
        let found = commands(line);
        assert!(found.contains(&vec!["umask".to_owned(), "002".to_owned()]), "{found:?}");
        assert!(found.contains(&vec!["umask".to_owned(), "022".to_owned()]), "{found:?}");
        assert!(found.contains(&vec!["export".to_owned(), "A=b c".to_owned()]), "{found:?}");
        assert_eq!(found.iter().filter(|words| words[0] == "umask").count(), 2);
        assert!(commands("# umask 077").is_empty());
        assert_eq!(commands("echo \"umask 077\""), [["echo", "umask 077"]]);
    }

    #[test]
    fn masks() {
        let mask = |text: &str| umask(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(mask("027"), Some(0o27));
        assert_eq!(mask("-S 0077"), Some(0o77));
        assert_eq!(mask("u=rwx,g=rx,o="), Some(0o027));
        assert_eq!(mask("a=rwx,o="), Some(0o007));
        for none in ["-S", "$MASK", "089", "u=rwx", "g-w", "u=q,g=,o="] {
            assert_eq!(mask(none), None, "{none}");
        }
    }
}

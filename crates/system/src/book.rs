//! The book's walks as something that can be run: every `console` block of a chapter, command by command.
//!
//! A block looks like a terminal. `picard# command` is typed on the machine picard as root, `> ` goes on with the command
//! before, everything else is what the reader sees; `...` stands for anything within a line, or for any lines when it stands
//! alone. A comment `# exit 2` at the end of a command says that it ends with that status; without it, it has to succeed.

use std::fmt;

/// One command of a chapter and what the reader is promised to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Line of the chapter, from 1.
    pub line: usize,
    /// The machine whose prompt it stands at.
    pub machine: String,
    pub command: String,
    pub exit: i32,
    /// What is printed, line by line; empty when the chapter shows nothing.
    pub shown: Vec<String>,
}

impl Step {
    /// Only asks, so it can be typed again until the answer is there: a change takes a moment to travel.
    pub fn asks(&self) -> bool {
        const QUESTIONS: &[&str] = &[
            "assimcli changes",
            "assimcli coverage",
            "assimcli doctor",
            "assimcli events",
            "assimcli groups",
            "assimcli history",
            "assimcli hosts ",
            "assimcli impact",
            "assimcli keys ",
            "assimcli path",
            "assimcli query",
            "assimcli rules show",
            "assimcli score",
            "assimcli sql",
            "cat ",
            "curl ",
            "journalctl",
            "mail",
            "nanoprobe monitors",
            "systemctl is-active",
            "systemctl status",
        ];
        const DEEDS: &[&str] =
            &["approve", "accept-key", "reject", "remove", "revoke", "rotate", "spare", "tag"];
        let command = format!("{} ", self.command);
        let word_of_deed = |word: &str| DEEDS.contains(&word);
        QUESTIONS.iter().any(|question| command.starts_with(question))
            && !self.command.split_whitespace().skip(2).take(1).any(word_of_deed)
    }

    /// What is wrong with an answer, or nothing.
    pub fn problem(&self, exit: i32, printed: &str) -> Option<String> {
        if exit != self.exit {
            return Some(format!("ended with {exit} instead of {}", self.exit));
        }
        let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
        let wanted: Vec<&str> = self.shown.iter().map(|line| line.trim_end()).collect();
        (!fits(&wanted, &lines)).then(|| "did not print what the chapter shows".to_owned())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, on {}: {}", self.line, self.machine, self.command)
    }
}

/// The commands of all `console` blocks of a chapter, in order.
///
/// # Errors
/// Output before the first command of a block, a prompt without command, a block that does not end.
pub fn steps(markdown: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut block = None;
    for (index, text) in markdown.lines().enumerate() {
        let line = index + 1;
        let Some(first) = block else {
            if text.trim_end() == "```console" {
                block = Some((line, steps.len()));
            }
            continue;
        };
        let (_, begun) = first;
        if text.trim_end() == "```" {
            block = None;
        } else if let Some((machine, command)) = prompt(text) {
            let (command, exit) = status(command);
            if command.is_empty() {
                return Err(format!("line {line}: a prompt without a command"));
            }
            steps.push(Step { line, machine: machine.into(), command, exit, shown: Vec::new() });
        } else {
            let Some(step) = steps[begun..].last_mut() else {
                return Err(format!("line {line}: something is printed before any command"));
            };
            match text.strip_prefix("> ") {
                Some(more) if step.shown.is_empty() => {
                    step.command.push('\n');
                    step.command.push_str(more);
                }
                _ => step.shown.push(text.to_owned()),
            }
        }
    }
    match block {
        Some((line, _)) => Err(format!("line {line}: the block does not end")),
        None => Ok(steps),
    }
}

/// `picard# command`
fn prompt(text: &str) -> Option<(&str, &str)> {
    let (machine, command) = text.split_once("# ").or_else(|| Some((text.strip_suffix('#')?, "")))?;
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    (!machine.is_empty() && machine.chars().all(legal)).then_some((machine, command.trim()))
}

/// Takes `# exit N` off the end of a command.
fn status(command: &str) -> (String, i32) {
    let found = command.rsplit_once("# exit ").and_then(|(command, number)| {
        let number = number.split_whitespace().next()?.trim_end_matches([':', ',', ';']).parse().ok()?;
        Some((command.trim_end().to_owned(), number))
    });
    found.unwrap_or_else(|| (command.to_owned(), 0))
}

/// Whether the lines are as shown, where a line `...` stands for any number of lines.
fn fits(shown: &[&str], lines: &[&str]) -> bool {
    match shown.split_first() {
        // What a chapter shows may end before the output does only if it says so.
        None => lines.is_empty(),
        Some((&"...", rest)) => (0..=lines.len()).any(|skipped| fits(rest, &lines[skipped..])),
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, lines)| line_fits(first, line) && fits(rest, lines))
        }
    }
}

/// Whether a line is as shown: `...` is anything, and a run of blanks is as good as another.
fn line_fits(shown: &str, line: &str) -> bool {
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, line) = (squeezed(shown), squeezed(line));
    let mut parts = shown.split("...").map(str::trim);
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAPTER: &str = "\
# A chapter
```sh
ignored# really
```
```console
cma# assimcli hosts # exit 2: one is down
host    status
picard  ...
...
cma# cat > /etc/x <<'END'
> key = 1
> END
```
";

    #[test]
    fn commands_and_what_they_print_are_found() {
        let steps = steps(CHAPTER).unwrap();
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].line, steps[0].machine.as_str(), steps[0].exit), (6, "cma", 2));
        assert_eq!(steps[0].command, "assimcli hosts");
        assert_eq!(steps[0].shown, ["host    status", "picard  ...", "..."]);
        assert_eq!((steps[1].command.as_str(), steps[1].exit), ("cat > /etc/x <<'END'\nkey = 1\nEND", 0));
        assert!(steps[1].shown.is_empty());
    }

    #[test]
    fn broken_blocks_are_named() {
        assert!(steps("```console\nprinted\n```\n").unwrap_err().contains("line 2"));
        assert!(steps("```console\na# \n```\n").unwrap_err().contains("without a command"));
        assert!(steps("text\n```console\na# true\n").unwrap_err().starts_with("line 2"));
    }

    #[test]
    fn answers_are_compared() {
        let step = &steps(CHAPTER).unwrap()[0];
        let good = "host status\npicard   up   today\nriker up\n";
        assert_eq!(step.problem(2, good), None);
        assert!(step.problem(0, good).unwrap().contains("ended with 0 instead of 2"));
        assert!(step.problem(2, "host status\nriker up\n").is_some());
        assert!(step.problem(2, "host state\npicard up\n").is_some());
        assert!(!fits(&["a"], &["a", "b"]), "more than was shown");
        assert!(fits(&["...", "b"], &["a", "b"]) && !fits(&["...", "b"], &["b", "a"]));
        assert!(line_fits("a ... c", "a b c") && !line_fits("a ... c", "a b d") && !line_fits("a", "ab"));
    }

    #[test]
    fn only_questions_are_asked_twice() {
        let asks = |command: &str| {
            let step = Step { line: 1, machine: "a".into(), command: command.into(), exit: 0, shown: vec![] };
            step.asks()
        };
        assert!(asks("assimcli hosts") && asks("assimcli query down") && asks("assimcli keys"));
        assert!(!asks("assimcli hosts remove picard") && !asks("assimcli genkeys") && !asks("rm x"));
        assert!(!asks("assimcli keys rotate") && asks("assimcli events --since 1h"));
    }
}

//! Every command of ours that a page shows is one that the programs know: words of pages that are typed, or quoted in prose.

use clap::Command;
use clap::error::ErrorKind;
use std::fs;
use std::path::{Path, PathBuf};

/// A command in a page.
#[derive(Debug, PartialEq)]
struct Quoted {
    line: usize,
    words: Vec<String>,
}

/// Commands of one of `programs` in blocks of code and between backquotes.
fn commands(markdown: &str, programs: &[&str]) -> Vec<Quoted> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, text) in markdown.lines().enumerate() {
        let line = index + 1;
        if text.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        let pieces: Vec<&str> =
            if in_code { vec![text] } else { text.split('`').skip(1).step_by(2).collect() };
        for piece in pieces {
            found.extend(words(piece, programs).map(|words| Quoted { line, words }));
        }
    }
    found
}

/// The words of a command line from our program's name to the first operator of the shell.
fn words(piece: &str, programs: &[&str]) -> Option<Vec<String>> {
    let typed =
        piece.split_once("# ").filter(|(prompt, _)| !prompt.contains(' ')).map_or(piece, |(_, rest)| rest);
    let typed = typed.trim().trim_start_matches("sudo ").trim();
    let operator = |word: &String| {
        ["|", "||", "&", "&&", ";", "...", "…"].contains(&word.as_str())
            || word.contains('>')
            || word.contains('<')
    };
    let words: Vec<String> = shlex::split(typed)?.into_iter().take_while(|word| !operator(word)).collect();
    let program = words.first()?.rsplit('/').next()?.to_owned();
    (programs.contains(&program.as_str()) && words.len() > 1).then_some(words)
}

/// What the program does not know of a command; words in capitals stand for something and are not judged.
fn problem(command: &Command, words: &[String]) -> Option<String> {
    let error = command.clone().try_get_matches_from(words).err()?;
    matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand)
        .then(|| error.to_string().lines().next().unwrap_or_default().to_owned())
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
}

#[test]
fn pages_show_only_commands_that_exist() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut files = vec![top.join("README.md")];
    pages(&top.join("docs"), &mut files);
    let programs = manuals::programs();
    let names: Vec<&str> = programs.iter().map(|(command, _)| command.get_name()).collect();
    let mut problems = Vec::new();
    let mut checked = 0;
    for file in &files {
        for quoted in commands(&fs::read_to_string(file).unwrap(), &names) {
            let name = quoted.words[0].rsplit('/').next().unwrap_or_default();
            let (command, _) = programs.iter().find(|(command, _)| command.get_name() == name).unwrap();
            checked += 1;
            let place = file.strip_prefix(top).unwrap().display();
            problems.extend(
                problem(command, &quoted.words)
                    .map(|what| format!("{place}:{}: {}: {what}", quoted.line, quoted.words.join(" "))),
            );
        }
    }
    assert!(checked > 100, "only {checked} commands were found in {} pages", files.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn what_does_not_exist_is_found() {
    let page = "Say `assimcli hosts --colour` or\n```\ncma# assimcli hsots | wc  # typed wrongly\nsudo assimcli hosts\n```\n";
    let found = commands(page, &["assimcli"]);
    assert_eq!(found.iter().map(|quoted| quoted.line).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(found[1].words, ["assimcli", "hsots"]);
    let programs = manuals::programs();
    let told: Vec<bool> =
        found.iter().map(|quoted| problem(&programs[0].0, &quoted.words).is_some()).collect();
    assert_eq!(told, [true, true, false]);
}

//! A host made of a map, fixtures, and texts that parsers must survive.

use super::*;
use crate::{Discovery, Parameters};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Files by absolute path; `None` is one that exists and cannot be read.
#[derive(Default)]
pub struct Tree(pub BTreeMap<String, Option<String>>);

impl Tree {
    pub fn of(files: &[(&str, &str)]) -> Tree {
        Tree(files.iter().map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned()))).collect())
    }
}

impl Files for Tree {
    fn text(&self, path: &str) -> Result<String, NotRead> {
        match self.0.get(path) {
            Some(Some(text)) => Ok(text.clone()),
            Some(None) => Err(NotRead { absent: false, why: format!("{path}: permission denied") }),
            None => Err(NotRead { absent: true, why: format!("{path}: no such file or directory") }),
        }
    }

    fn names(&self, directory: &str) -> Result<Vec<String>, NotRead> {
        let prefix = format!("{}/", directory.trim_end_matches('/'));
        let mut names: Vec<String> = self
            .0
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix))
            .map(|rest| rest.split('/').next().unwrap_or(rest).to_owned())
            .collect();
        names.dedup();
        if names.is_empty() {
            return Err(NotRead { absent: true, why: format!("{directory}: no such file or directory") });
        }
        Ok(names)
    }
}

/// Texts of 10 MB and more that must take no time to speak of.
pub fn enormous() -> Vec<String> {
    let size = 10 << 20;
    vec![
        "a".repeat(size),
        "a ".repeat(size / 2),
        "a b\n".repeat(size / 4),
        "a = b\\\n".repeat(size / 7),
        "(".repeat(MAX_LINE_BYTES),
        "\\".repeat(MAX_LINE_BYTES - 1),
        "\"".repeat(MAX_LINE_BYTES - 1),
        "[".repeat(MAX_LINE_BYTES - 1),
        "a,".repeat(MAX_LINE_BYTES / 2),
        format!("root ALL={}", "NOPASSWD:".repeat(100_000)),
        format!("root ALL={}", "/bin/ls a, ".repeat(90_000)),
        format!("auth required x {}", "a=1 ".repeat(250_000)),
        "\0\u{1}\u{fffd}".repeat(size / 5),
        "Match all\nMatch User a\n".repeat(50_000),
        "Port 1\nAllowUsers a b\n".repeat(50_000),
        "Defaults a,b,env_keep+=c\n".repeat(50_000),
    ]
}

/// Runs a discovery over a temporary tree of these files.
pub fn collect(discovery: &Discovery, files: &[(&str, &[u8])]) -> Collected {
    let tree = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = tree.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    (discovery.collect)(&Host::at(tree.path()), &Parameters::new())
}

/// Runs a discovery over each directory of `tests/fixtures/<name>` and compares with the `.json` beside it.
/// `UPDATE_FIXTURES=1` writes those files instead; read them before they are committed.
pub fn check_fixtures(discovery: &Discovery) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(discovery.name);
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let tree = entry.unwrap().path();
        if !tree.is_dir() {
            continue;
        }
        seen += 1;
        let found = (discovery.collect)(&Host::at(&tree), &Parameters::new());
        let found = json!({ "data": found.data, "errors": found.errors });
        let beside = tree.with_extension("json");
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&beside, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
            continue;
        }
        let expected: Value = serde_json::from_slice(&std::fs::read(&beside).unwrap()).unwrap();
        assert_eq!(found, expected, "{}\n{found:#}", tree.display());
    }
    assert!(seen >= 2, "{} has {seen} fixtures", folder.display());
}

/// What holds for every discovery of a configuration of systemd: its fixtures; `then` in a drop-in wins over `first` in
/// `file`, which gives `expected`; a malformed line is named; a host without the program has nothing to judge.
pub fn check_systemd_conf(discovery: &Discovery, file: &str, first: &str, then: &str, expected: Value) {
    check_fixtures(discovery);
    let text = format!("{first}nonsense\n");
    let alone = collect(discovery, &[(file, text.as_bytes())]);
    assert_ne!(alone.data, expected, "the drop-in must make a difference");
    let drop_in = format!("{file}.d/60-site.conf");
    let found = collect(discovery, &[(file, text.as_bytes()), (drop_in.as_str(), then.as_bytes())]);
    assert_eq!(found.data, expected);
    assert_eq!(found.errors, [format!("{file} line 3: 'nonsense' has no '='")]);
    let absent = collect(discovery, &[("/etc/hostname", b"h")]);
    let why = absent.data["NODATA"].as_str().unwrap_or_default();
    assert!(why.contains("is not installed"), "{}", absent.data);
    assert!(absent.errors.is_empty());
}

/// What holds for every discovery of a text file: `text` gives the same data whatever the line ends and
/// whatever junk stands around it, and a file that cannot be read gives no data and says so.
/// `main` is what NODATA names, `file` where `text` goes.
pub fn check_robustness(discovery: &Discovery, main: &str, file: &str, text: &str) {
    let plain = collect(discovery, &[(file, text.as_bytes())]);
    assert_eq!(plain.errors, [""; 0], "the text must be right");
    let same = |what: &str, content: Vec<u8>, with_errors: bool| {
        let found = collect(discovery, &[(file, content.as_slice())]);
        assert_eq!(found.data, plain.data, "{what}");
        assert_eq!(!found.errors.is_empty(), with_errors, "{what}: {:?}", found.errors);
        assert!(
            found.errors.iter().all(|error| error.starts_with(file) && error.contains(" line ")),
            "{:?}",
            found.errors
        );
    };
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    same("CRLF and BOM", windows.into_bytes(), false);
    same("no final newline", text.trim_end().into(), false);
    same("comments", format!("# a comment\n\n  \t\n{text}\n  # another").into_bytes(), false);
    same("blanks", text.lines().map(|line| format!("  {line} \t\n")).collect::<String>().into_bytes(), false);
    let junk: Vec<u8> =
        (0..=255_u8).chain([b'\n']).chain(text.bytes()).chain([b'\n', 0xff, 0, b'\n']).collect();
    same("binary junk", junk, true);
    let mut long = vec![b'x'; 10 << 20];
    long.extend(format!("\n{text}").bytes());
    same("a line of 10 MB", long, true);

    let no_data = json!({ "NODATA": format!("ERROR: Cannot read {main}") });
    let missing = collect(discovery, &[("/etc/hostname", b"h")]);
    assert_eq!(missing.data, no_data);
    assert!(missing.errors.len() == 1 && missing.errors[0].contains(main), "{:?}", missing.errors);
    // A directory where a file should be, and the reverse, cannot be read even by root.
    let below = format!("{main}/below");
    let wrong_kind = collect(discovery, &[(if main == file { below.as_str() } else { main }, b"")]);
    assert_eq!(wrong_kind.data, no_data);
    assert!(wrong_kind.errors[0].contains(main), "{:?}", wrong_kind.errors);
}

/// Any text gives an object that serialises and bounded errors that name `file`; texts of 10 MB take no time
/// to speak of. `tokens` are what the random texts are made of, besides random bytes.
pub fn check_any_text(
    file: &str,
    tokens: &'static [&'static str],
    parse: impl Fn(&str) -> (Value, Vec<String>),
) {
    let check = |text: &str| {
        let (data, errors) = parse(text);
        assert!(data.is_object());
        serde_json::to_string(&data).unwrap();
        assert!(errors.len() <= MAX_ERRORS + 1);
        for error in errors.iter().take(MAX_ERRORS) {
            assert!(error.contains(file) && !error.contains('\n'), "{error:?}");
        }
    };
    let bytes = proptest::collection::vec(any::<u8>(), 0..400);
    proptest!(|(bytes in bytes)| check(&String::from_utf8_lossy(&bytes)));
    let words = proptest::collection::vec(proptest::sample::select(tokens), 0..60);
    proptest!(|(words in words)| check(&words.concat()));
    for text in enormous() {
        let start = Instant::now();
        check(&text);
        // Far above what it takes (tenths of a second), far below what anything quadratic would take.
        assert!(start.elapsed() < Duration::from_secs(60), "{:?} for {:?}...", start.elapsed(), &text[..40]);
    }
}

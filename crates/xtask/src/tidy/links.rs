//! Links between the project's pages lead somewhere, and every page of docs/ is part of the book.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// The book's table of contents.
const SUMMARY: &str = "docs/SUMMARY.md";

/// Dead links, and pages that the book leaves out. `read` gives a file's text.
pub fn problems(files: &[PathBuf], read: impl Fn(&Path) -> String) -> Vec<String> {
    let known: BTreeSet<&Path> = files.iter().map(PathBuf::as_path).collect();
    // Templates and fixtures are no pages.
    let pages = files.iter().filter(|file| {
        file.extension().is_some_and(|e| e == "md")
            && (file.starts_with("docs") || file.components().count() == 1)
    });
    let mut problems = Vec::new();
    let mut in_book = BTreeSet::new();
    for page in pages.clone() {
        for (line, target) in links(&read(page)) {
            let folder = page.parent().unwrap_or(Path::new(""));
            match resolved(folder, &target) {
                Some(file) if exists(&known, &file) => {
                    if page == Path::new(SUMMARY) {
                        in_book.insert(file);
                    }
                }
                _ => problems.push(format!("{}:{line}: the link to {target} leads nowhere", page.display())),
            }
        }
    }
    let left_out = pages.filter(|page| page.starts_with("docs") && *page != Path::new(SUMMARY));
    let left_out = left_out.filter(|page| !in_book.contains(page.as_path()));
    problems.extend(
        left_out
            .map(|page| format!("{}: not in {SUMMARY}, so no reader of the book finds it", page.display())),
    );
    problems
}

/// A file of the tree, or a folder of it.
fn exists(known: &BTreeSet<&Path>, file: &Path) -> bool {
    known.contains(file) || known.iter().any(|other| other.starts_with(file))
}

/// Targets of the links to files, with their lines; what is inside code is no link.
fn links(markdown: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second part is between backquotes.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in prose.split("](").skip(1) {
            let Some((target, _)) = part.split_once(')') else { continue };
            let file = target.split('#').next().unwrap_or("");
            if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") {
                found.push((index + 1, file.to_owned()));
            }
        }
    }
    found
}

/// `../x` and `./x` from a folder; `None` above the top.
fn resolved(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut file = folder.to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::Normal(name) => file.push(name),
            Component::CurDir => {}
            Component::ParentDir if file.pop() => {}
            _ => return None,
        }
    }
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pages: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<PathBuf> = pages.iter().map(|(name, _)| PathBuf::from(name)).collect();
        problems(&files, |file| {
            pages
                .iter()
                .find(|(name, _)| Path::new(name) == file)
                .map(|(_, text)| text.to_string())
                .unwrap_or_default()
        })
    }

    #[test]
    fn dead_links_and_pages_left_out_are_named() {
        let pages = [
            ("README.md", "[a](docs/a.md) [web](https://example.org) [up](#top) `[x](y)`"),
            ("docs/SUMMARY.md", "- [A](a.md)"),
            ("docs/a.md", "[readme](../README.md#x) [sources](../crates/)\n```\n[in](code)\n```"),
            ("crates/x/src/lib.rs", ""),
        ];
        assert_eq!(found(&pages), Vec::<String>::new());
        let mut broken = pages.to_vec();
        broken[2].1 = "text\n[gone](b.md) [outside](../../x)";
        broken.push(("docs/c.md", ""));
        let problems = found(&broken);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("docs/a.md:2: the link to b.md"));
        assert!(problems[1].contains("../../x"));
        assert!(problems[2].starts_with("docs/c.md: not in docs/SUMMARY.md"));
    }
}

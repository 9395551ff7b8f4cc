//! Ruby gems: each has a file `specifications/<name>-<version>[-<platform>].gemspec` (gem(1)), whose content is a Ruby
//! program and is not looked at.

use super::{Found, MAX_PACKAGES, Packages};
use crate::Host;

/// `*` stands for the versions of Ruby.
const DIRECTORIES: [&str; 8] = [
    "/usr/lib/ruby/gems/*/specifications",
    "/usr/lib/ruby/gems/*/specifications/default",
    "/usr/local/lib/ruby/gems/*/specifications",
    "/usr/local/lib/ruby/gems/*/specifications/default",
    "/usr/share/gems/specifications",
    "/usr/share/gems/specifications/default",
    "/usr/share/rubygems-integration/*/specifications",
    "/var/lib/gems/*/specifications",
];

pub(super) fn installed(host: &Host) -> Found {
    let mut packages = Packages::new();
    for pattern in DIRECTORIES {
        let paths = match pattern.split_once("/*/") {
            None => vec![pattern.to_owned()],
            Some((parent, rest)) => host
                .list(parent)
                .unwrap_or_default()
                .iter()
                .map(|version| format!("{parent}/{version}/{rest}"))
                .collect(),
        };
        for path in paths {
            // No such directory, or closed to us: nothing of gem there.
            for name in host.list(&path).unwrap_or_default() {
                if packages.len() <= MAX_PACKAGES {
                    packages.extend(parse(&name));
                }
            }
        }
    }
    Ok((!packages.is_empty()).then_some(packages))
}

/// Name and version of a file name. Names and platforms may hold hyphens and digits: the version is the first part
/// that looks like one with a dot, else the first that begins with a digit.
pub(super) fn parse(file: &str) -> Option<(String, String)> {
    let stem = file.strip_suffix(".gemspec").filter(|stem| super::is_word(stem))?;
    let hyphens: Vec<usize> = stem.match_indices('-').map(|(at, _)| at).collect();
    let version_at = |at: usize| {
        let rest = &stem[at + 1..];
        let version = &rest[..rest.find('-').unwrap_or(rest.len())];
        let right = version.starts_with(|c: char| c.is_ascii_digit())
            && version.split('.').all(|part| {
                !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            });
        right.then_some((at, version))
    };
    let candidates = || hyphens.iter().filter_map(|at| version_at(*at));
    let (at, version) =
        candidates().find(|(_, version)| version.contains('.')).or_else(|| candidates().next())?;
    (at > 0).then(|| (stem[..at].to_owned(), version.to_owned()))
}

//! Packages of dpkg(1).

use super::{Found, Lines, MAX_PACKAGES, Packages, first_database, is_absent};
use crate::{Host, Kind};
use std::io::BufRead;

const STATUS: &str = "/var/lib/dpkg/status";
/// Images without dpkg (distroless) keep one stanza per package here, without a `Status` field.
const STATUS_DIRECTORY: &str = "/var/lib/dpkg/status.d";

pub(crate) fn installed(host: &Host) -> Found {
    let mut packages = None;
    if let Some(mut lines) = first_database(host, &[STATUS])? {
        parse(&mut lines, false, packages.get_or_insert_default())?;
    }
    let directory = match host.directory(STATUS_DIRECTORY) {
        Ok(directory) => directory,
        Err(error) if is_absent(&error) => return Ok(packages),
        Err(error) => return Err(error.to_string()),
    };
    for entry in directory.entries().map_err(|error| error.to_string())? {
        // Lists of files and their sums lie beside the stanzas.
        if entry.name().ends_with(".md5sums") || !matches!(entry.kind(), Kind::Regular | Kind::Unknown) {
            continue;
        }
        let file = directory.open(entry.raw()).map_err(|error| error.to_string())?;
        let mut lines = Lines::new(&directory.path_of(entry.raw()), std::io::BufReader::new(file));
        parse(&mut lines, true, packages.get_or_insert_default())?;
    }
    Ok(packages)
}

/// One package of a status file or a list of packages.
#[derive(Default)]
pub(crate) struct Stanza {
    pub name: String,
    pub arch: String,
    pub version: String,
    status: String,
}

impl Stanza {
    /// The third word of `Status` (deb-status): what is unpacked only or left as configuration is not installed.
    fn is_installed(&self, without_status: bool) -> bool {
        match self.status.split_ascii_whitespace().nth(2) {
            Some(state) => matches!(state, "installed" | "triggers-awaited" | "triggers-pending"),
            None => without_status && self.status.is_empty(),
        }
    }
}

/// Adds the packages of a status file that are installed.
pub(super) fn parse<R: BufRead>(
    lines: &mut Lines<R>,
    without_status: bool,
    packages: &mut Packages,
) -> Result<(), String> {
    stanzas(lines, |stanza| {
        if stanza.is_installed(without_status) && packages.len() <= MAX_PACKAGES {
            packages.insert((format!("{}::{}", stanza.name, stanza.arch), stanza.version));
        }
    })
}

/// Calls `found` for each stanza with a name and a version. Stanzas are lines `Field: value` (deb822(5)), separated by
/// blank lines; continued lines begin with a blank.
pub(crate) fn stanzas<R: BufRead>(lines: &mut Lines<R>, mut found: impl FnMut(Stanza)) -> Result<(), String> {
    let mut stanza = Stanza::default();
    loop {
        let line = lines.next()?;
        if let Some(line) = line
            && !line.trim().is_empty()
        {
            // Nearly all lines are file names and descriptions: the first letter decides.
            if line.starts_with(['P', 'A', 'V', 'S', 'p', 'a', 'v', 's'])
                && let Some((field, value)) = line.split_once(':')
            {
                let fields = [
                    ("Package", &mut stanza.name),
                    ("Architecture", &mut stanza.arch),
                    ("Version", &mut stanza.version),
                    ("Status", &mut stanza.status),
                ];
                if let Some((_, slot)) = fields.into_iter().find(|(name, _)| field.eq_ignore_ascii_case(name))
                {
                    value.trim().clone_into(slot);
                }
            }
            continue;
        }
        let is_end = line.is_none();
        let done = std::mem::take(&mut stanza);
        if !done.name.is_empty() && !done.version.is_empty() {
            found(done);
        }
        if is_end {
            return Ok(());
        }
    }
}

//! Until when the maker of a distribution mends its faults.
//!
//! First `SUPPORT_END` of os-release(5), then the tables of distro-info (`/usr/share/distro-info/*.csv`, kept up to
//! date by Debian and Ubuntu), then a table of our own. Debian counts until the end of its long term support, the
//! others until the end of what is free of charge.

use crate::Host;
use std::collections::BTreeMap;

/// Distribution, version (or its beginning up to a dot), last day. From the makers' own announcements.
const ENDS: &[(&str, &str, &str)] = &[
    ("debian", "8", "2020-06-30"),
    ("debian", "9", "2022-06-30"),
    ("debian", "10", "2024-06-30"),
    ("debian", "11", "2026-08-31"),
    ("debian", "12", "2028-06-30"),
    ("debian", "13", "2030-06-30"),
    ("ubuntu", "16.04", "2021-04-30"),
    ("ubuntu", "18.04", "2023-05-31"),
    ("ubuntu", "20.04", "2025-05-31"),
    ("ubuntu", "22.04", "2027-06-01"),
    ("ubuntu", "24.04", "2029-05-31"),
    ("ubuntu", "24.10", "2025-07-10"),
    ("ubuntu", "25.04", "2026-01-15"),
    ("rhel", "6", "2020-11-30"),
    ("rhel", "7", "2024-06-30"),
    ("rhel", "8", "2029-05-31"),
    ("rhel", "9", "2032-05-31"),
    ("rhel", "10", "2035-05-31"),
    ("almalinux", "8", "2029-05-31"),
    ("almalinux", "9", "2032-05-31"),
    ("almalinux", "10", "2035-05-31"),
    ("rocky", "8", "2029-05-31"),
    ("rocky", "9", "2032-05-31"),
    ("rocky", "10", "2035-05-31"),
    ("ol", "7", "2024-12-31"),
    ("ol", "8", "2029-07-31"),
    ("ol", "9", "2032-06-30"),
    ("alpine", "3.18", "2025-05-09"),
    ("alpine", "3.19", "2025-11-01"),
    ("alpine", "3.20", "2026-04-01"),
    ("alpine", "3.21", "2026-11-01"),
    ("alpine", "3.22", "2027-05-01"),
];

/// CentOS uses the same numbers for the clone of Red Hat Enterprise Linux and for the stream before it.
const CENTOS_LINUX: &[(&str, &str)] = &[("6", "2020-11-30"), ("7", "2024-06-30"), ("8", "2021-12-31")];
const CENTOS_STREAM: &[(&str, &str)] = &[("8", "2024-05-31"), ("9", "2027-05-31")];

/// The last day of support, `YYYY-MM-DD`, of the system that `release` (os-release(5)) describes; `None` when it is
/// not known, as for distributions that roll.
pub fn support_end(host: &Host, release: &BTreeMap<String, String>) -> Option<String> {
    let get = |name: &str| release.get(name).map_or("", String::as_str);
    if let Some(end) = date(get("SUPPORT_END")) {
        return Some(end.to_owned());
    }
    let (id, version) = (get("ID"), get("VERSION_ID"));
    if version.is_empty() {
        return None;
    }
    let told = matches!(id, "debian" | "ubuntu")
        .then(|| host.read_text(&format!("/usr/share/distro-info/{id}.csv")).ok())
        .flatten()
        .and_then(|table| from_table(&table, version));
    // The table of an old system does not know that the end was put off.
    told.into_iter().chain(known_end(id, version, get("NAME")).map(str::to_owned)).max()
}

fn known_end(id: &str, version: &str, name: &str) -> Option<&'static str> {
    let is = |known: &str| {
        version == known || version.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'))
    };
    if id == "centos" {
        let table = if name.contains("Stream") { CENTOS_STREAM } else { CENTOS_LINUX };
        return table.iter().find(|(known, _)| is(known)).map(|(_, end)| *end);
    }
    ENDS.iter().find(|(known_id, known, _)| *known_id == id && is(known)).map(|(_, _, end)| *end)
}

/// The later of `eol` and `eol-lts` in the row of this version. Ubuntu writes "24.04 LTS".
fn from_table(table: &str, version: &str) -> Option<String> {
    let mut lines = table.lines().take(1000);
    let columns: Vec<&str> = lines.next()?.split(',').collect();
    let column = |name: &str| columns.iter().position(|column| *column == name);
    let (version_column, ends) = (column("version")?, [column("eol"), column("eol-lts")]);
    lines.find_map(|line| {
        let cells: Vec<&str> = line.split(',').take(columns.len()).collect();
        let cell = cells.get(version_column)?.split(' ').next()?;
        if cell != version {
            return None;
        }
        ends.iter().flatten().filter_map(|end| date(cells.get(*end)?)).max().map(str::to_owned)
    })
}

/// A date of ten characters, which as text compare like dates.
fn date(text: &str) -> Option<&str> {
    let shape = |(i, b): (usize, u8)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() };
    (text.len() == 10 && text.bytes().enumerate().all(shape)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(fields: &[(&str, &str)], table: Option<&str>) -> Option<String> {
        let tree = tempfile::tempdir().unwrap();
        if let Some(table) = table {
            let folder = tree.path().join("usr/share/distro-info");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("debian.csv"), table).unwrap();
        }
        let release = fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        support_end(&Host::at(tree.path()), &release)
    }

    #[test]
    fn ends() {
        assert_eq!(end(&[("ID", "rhel"), ("VERSION_ID", "9.4")], None).as_deref(), Some("2032-05-31"));
        assert_eq!(end(&[("ID", "alpine"), ("VERSION_ID", "3.20.1")], None).as_deref(), Some("2026-04-01"));
        assert_eq!(end(&[("ID", "debian"), ("VERSION_ID", "1")], None), None);
        assert_eq!(end(&[("ID", "arch")], None), None);
        let fedora = [("ID", "fedora"), ("VERSION_ID", "40"), ("SUPPORT_END", "2025-05-13")];
        assert_eq!(end(&fedora, None).as_deref(), Some("2025-05-13"));
        assert_eq!(end(&[("ID", "fedora"), ("VERSION_ID", "40"), ("SUPPORT_END", "soon")], None), None);
        let centos = |name| end(&[("ID", "centos"), ("VERSION_ID", "8"), ("NAME", name)], None);
        assert_eq!(centos("CentOS Linux").as_deref(), Some("2021-12-31"));
        assert_eq!(centos("CentOS Stream").as_deref(), Some("2024-05-31"));
    }

    #[test]
    fn the_table_of_the_host_knows_more() {
        let table = "version,codename,series,created,release,eol,eol-lts\n\
                     12,Bookworm,bookworm,2021-08-14,2023-06-10,2026-06-10,2031-01-31\n99 LTS,X,x,a,b,2040-01-01\n";
        assert_eq!(
            end(&[("ID", "debian"), ("VERSION_ID", "12")], Some(table)).as_deref(),
            Some("2031-01-31")
        );
        assert_eq!(
            end(&[("ID", "debian"), ("VERSION_ID", "99")], Some(table)).as_deref(),
            Some("2040-01-01")
        );
        assert_eq!(
            end(&[("ID", "debian"), ("VERSION_ID", "12")], Some("junk")).as_deref(),
            Some("2028-06-30")
        );
    }
}

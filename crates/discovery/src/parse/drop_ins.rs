//! Directories of configuration pieces that hide one another by name, as systemd, procps, kmod and others have them:
//! `/etc` before `/run` before `/usr/local/lib` before `/usr/lib` before `/lib`, see sysctl.d(5) and modprobe.d(5).

use super::{Errors, Files};
use std::collections::BTreeMap;

/// More pieces than this are not read.
const MAX_PIECES: usize = 1000;

/// The files that count, in the order in which the program reads them: of all with one name that of the first
/// directory, sorted by name. One that is a link to /dev/null is masked: left out, with all of its name.
/// A directory that is not there gives nothing.
pub fn drop_ins(
    files: &dyn Files,
    directories: &[impl AsRef<str>],
    suffix: &str,
    errors: &mut Errors,
) -> Vec<String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for directory in directories.iter().map(AsRef::as_ref) {
        let names = match files.names(directory) {
            Ok(names) => names,
            Err(reason) => {
                if !reason.absent {
                    errors.unread(&reason);
                }
                continue;
            }
        };
        for name in names.into_iter().filter(|name| name.ends_with(suffix) && !name.starts_with('.')) {
            if found.len() == MAX_PIECES && !found.contains_key(&name) {
                errors.add(format!("{directory}: more than {MAX_PIECES} files, the rest is left out"));
                break;
            }
            let path = format!("{directory}/{name}");
            found.entry(name).or_insert(path);
        }
    }
    found.into_values().filter(|path| !files.is_masked(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Host;

    #[test]
    fn the_first_directory_wins_and_masks() {
        let tree = tempfile::tempdir().unwrap();
        let path = |name: &str| tree.path().join(name);
        for directory in ["etc/x.d", "usr/lib/x.d"] {
            std::fs::create_dir_all(path(directory)).unwrap();
        }
        for file in
            ["etc/x.d/20-b.conf", "usr/lib/x.d/20-b.conf", "usr/lib/x.d/10-a.conf", "usr/lib/x.d/30-c.conf"]
        {
            std::fs::write(path(file), "").unwrap();
        }
        std::fs::write(path("etc/x.d/README"), "").unwrap();
        std::os::unix::fs::symlink("/dev/null", path("etc/x.d/30-c.conf")).unwrap();
        let mut errors = Errors::default();
        let found =
            drop_ins(&Host::at(tree.path()), &["/etc/x.d", "/run/x.d", "/usr/lib/x.d"], ".conf", &mut errors);
        assert_eq!(found, ["/usr/lib/x.d/10-a.conf", "/etc/x.d/20-b.conf"]);
        assert!(errors.into_list().is_empty());
    }
}

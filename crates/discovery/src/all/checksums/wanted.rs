//! Which files are looked at.

use super::{MAX_FILES, cache, elf};
use crate::all::tcpdiscovery::{self, Process, sockets};
use crate::host::Identity;
use crate::parse::Errors;
use crate::parse::mount_points::{self, Mount};
use crate::{Host, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// Where this project installs its programs.
pub const OWN: [&str; 4] =
    ["/usr/sbin/nanoprobe", "/usr/sbin/cma", "/usr/bin/assimcli", "/usr/sbin/assimcli"];
/// What programs with sockets were seen to use, with the day.
const SEEN: &str = "checksums.seen";
const MAX_SEEN_BYTES: u64 = 4 * 1024 * 1024;
const KEPT_DAYS: i64 = 30;
/// Files of one process; more are left out.
const MAX_PER_PROCESS: usize = 5000;
const MAX_COMMAND_BYTES: u64 = 1024 * 1024;
const MAX_MAPS_BYTES: u64 = 16 * 1024 * 1024;
const MAX_DEPTH: usize = 64;
/// Programs that run what their first argument names.
const INTERPRETERS: [&str; 9] = ["python", "perl", "ruby", "node", "php", "bash", "dash", "sh", "lua"];
const NETWORK_FILE_SYSTEMS: [&str; 17] = [
    "9p",
    "afs",
    "autofs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.sshfs",
    "gfs2",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
];

/// The paths to look at in their order, each once, with what is known of them already; some may not exist.
pub type Wanted = Vec<(String, Option<Identity>)>;

/// Whether a file is looked at on every host, or named in `files`, which is separated by blanks.
pub fn is_named(path: &str, files: &str) -> bool {
    OWN.contains(&path) || files.split_ascii_whitespace().any(|named| named == path)
}

/// `watched` are those that are not found in a directory.
pub fn of(
    host: &Host,
    files: &str,
    directories: &str,
    now_seconds: i64,
    watched: &mut BTreeSet<String>,
    errors: &mut Errors,
) -> Wanted {
    let remote = network_mounts(host);
    let mut named: BTreeSet<String> = files
        .split_ascii_whitespace()
        .chain(OWN)
        .filter(|path| {
            let is_absolute = path.starts_with('/');
            if !is_absolute {
                errors.add(format!("ASSIM_filelist: {path:?} is no absolute path"));
            }
            is_absolute
        })
        .map(str::to_owned)
        .collect();
    if host.is_running_system() {
        named.extend(host.read_link("/proc/self/exe").ok().filter(|path| path.starts_with('/')));
    }
    named.retain(|path| {
        let is_local = !is_below(path, &remote);
        if !is_local {
            errors.add(format!("{path}: on a network file system: look at it where it is stored"));
        }
        is_local
    });
    let mut singles = elf::libraries(host, &named);
    singles.extend(named);
    if host.is_running_system() {
        singles.extend(facing(host, now_seconds, errors));
    }
    // Libraries and files of processes may be on such a file system too, where nobody asked for them.
    singles.retain(|path| !is_below(path, &remote));
    let mut paths = Wanted::new();
    for directory in directories.split_ascii_whitespace() {
        if directory.starts_with('/') {
            below(host, directory, &remote, &mut paths, errors);
            // What two directories have in common counts once.
            in_order(&mut paths);
        } else {
            errors.add(format!("directories: {directory:?} is no absolute path"));
        }
    }
    // What is named one by one goes before what directories hold.
    let room = MAX_FILES.saturating_sub(singles.len());
    if paths.len() > room {
        errors.add(format!("more than {MAX_FILES} files: the rest is left out, name fewer directories"));
        paths.truncate(room);
    }
    for path in singles.into_iter().take(MAX_FILES) {
        watched.insert(path.clone());
        paths.push((path, None));
    }
    in_order(&mut paths);
    paths
}

/// Sorted by path, each path once: where an identity is known, with it. A list that is sorted once, nearly in order
/// already, costs a fraction of a tree of a hundred thousand long keys.
fn in_order(paths: &mut Wanted) {
    // Stable: what was known first stays first, and no known identity comes after an unknown one.
    paths.sort_by(|(a, _), (b, _)| a.cmp(b));
    paths.dedup_by(|(later, _), (first, _)| later == first);
}

/// The files that programs with sockets consist of, now or in the last days.
fn facing(host: &Host, now_seconds: i64, errors: &mut Errors) -> BTreeSet<String> {
    let found = match tcpdiscovery::find(sockets::Wanted::All) {
        Ok(found) => found,
        Err(error) => {
            errors.add(error);
            return BTreeSet::new();
        }
    };
    let mut files = BTreeSet::new();
    for process in found.processes.iter().filter(|process| tcpdiscovery::is_on_host(process)) {
        let mut own = BTreeSet::from([process.exe.clone()]);
        own.extend(mapped(&text(host, &format!("/proc/{}/maps", process.pid), MAX_MAPS_BYTES)));
        let command = text(host, &format!("/proc/{}/cmdline", process.pid), MAX_COMMAND_BYTES);
        own.extend(code_named(host, process, &command));
        files.extend(own.into_iter().filter(|path| path.starts_with('/')).take(MAX_PER_PROCESS));
    }
    let today = now_seconds / 86_400;
    let Some(state) = host.state() else { return files };
    let mut seen = match cache::trusted(&state.join(SEEN), MAX_SEEN_BYTES, cache::uid()) {
        Ok(bytes) => read_seen(&String::from_utf8_lossy(&bytes.unwrap_or_default()), today),
        Err(why) => {
            errors.add(format!("{}: {why}", state.join(SEEN).display()));
            BTreeMap::new()
        }
    };
    let before = seen.clone();
    // The day is renewed once a week, to spare writes.
    for path in files {
        let day = seen.entry(path).or_insert(today);
        if *day + 7 <= today {
            *day = today;
        }
    }
    if seen != before {
        let lines: String = seen.iter().map(|(path, day)| format!("{day} {path}\n")).collect();
        if let Err(error) = cache::write(state, SEEN, lines.as_bytes()) {
            errors.add(format!("{}: {error}", state.join(SEEN).display()));
        }
    }
    seen.into_keys().collect()
}

/// Lines `<day> <path>`.
fn read_seen(text: &str, today: i64) -> BTreeMap<String, i64> {
    let lines = text.lines().filter_map(|line| {
        let (day, path) = line.split_once(' ')?;
        let day: i64 = day.parse().ok()?;
        // A day to come is that of a clock that was wrong.
        (path.starts_with('/') && day + KEPT_DAYS >= today).then(|| (path.to_owned(), day.min(today)))
    });
    lines.collect()
}

fn text(host: &Host, path: &str, limit_bytes: u64) -> String {
    let bytes = host.open_unrecorded(path).and_then(|file| file.bytes(limit_bytes)).unwrap_or_default();
    // What a lossy conversion changes is no path that we could open.
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The files mapped as code, by /proc/<pid>/maps: address, permissions, offset, device, inode, path.
fn mapped(maps: &str) -> BTreeSet<String> {
    let files = maps.lines().filter_map(|line| {
        let mut rest = line;
        let mut columns = [""; 5];
        for column in &mut columns {
            let (word, after) = rest.trim_start().split_once(' ')?;
            (*column, rest) = (word, after);
        }
        let path = rest.trim_start();
        // Memory without a file has inode 0 or a name that is none: memfd, SYSV shared memory, /dev/zero.
        let is_file = path.starts_with('/') && columns[4] != "0";
        let is_code =
            columns[1].contains('x') && is_file && !path.starts_with("/memfd:") && !path.starts_with("/SYSV");
        is_code.then(|| path.strip_suffix(" (deleted)").unwrap_or(path).to_owned())
    });
    files.take(MAX_PER_PROCESS).collect()
}

/// Code that the command line names: JAR files and directories of classes, the script of an interpreter.
fn code_named(host: &Host, process: &Process, command: &str) -> BTreeSet<String> {
    let words: Vec<&str> = command.split('\0').collect();
    let program = process.exe.rsplit('/').next().unwrap_or_default();
    let absolute = |path: &str| match path {
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{}/{}", process.cwd.trim_end_matches('/'), path.trim_start_matches("./")),
    };
    let mut files = BTreeSet::new();
    if program == "java" || program == "jsvc" {
        for pair in words.windows(2) {
            match pair[0] {
                "-jar" => files.extend([absolute(pair[1])]),
                "-cp" | "-classpath" | "--class-path" => {
                    for element in pair[1].split(':').filter(|element| !element.is_empty()) {
                        files.extend(class_path(host, &absolute(element)));
                    }
                }
                _ => {}
            }
        }
    } else if INTERPRETERS.iter().any(|name| program.starts_with(name)) {
        // Options may take words of their own; only a word that is a file can be the script.
        let named = words.iter().skip(1).take(16).filter(|word| !word.is_empty() && !word.starts_with('-'));
        let mut named = named.map(|word| absolute(word));
        files.extend(named.find(|path| host.identity(path).is_ok_and(|found| found.kind == Kind::Regular)));
    }
    files
}

/// An element of a class path: a JAR file, or all of a directory (`lib/*`).
fn class_path(host: &Host, element: &str) -> Vec<String> {
    let Some(directory) = element.strip_suffix("/*") else {
        let is_file = host.identity(element).is_ok_and(|found| found.kind == Kind::Regular);
        return if is_file { vec![element.to_owned()] } else { Vec::new() };
    };
    let names = host.list(directory).unwrap_or_default();
    let jars = names.iter().filter(|name| name.ends_with(".jar") || name.ends_with(".JAR"));
    jars.map(|name| format!("{directory}/{name}")).take(MAX_PER_PROCESS).collect()
}

/// All regular files below a directory, symlinks not followed.
fn below(host: &Host, start: &str, remote: &BTreeSet<String>, paths: &mut Wanted, errors: &mut Errors) {
    let start = start.trim_end_matches('/');
    if is_below(start, remote) {
        errors.add(format!("{start}: on a network file system: look at it where it is stored"));
        return;
    }
    let mut open = match host.directory(if start.is_empty() { "/" } else { start }) {
        Ok(directory) => vec![(start.to_owned(), directory, 0)],
        Err(error) if error.is_missing() => return,
        Err(error) => return errors.add(error.to_string()),
    };
    while let Some((path, directory, depth)) = open.pop() {
        let entries = match directory.entries() {
            Ok(entries) => entries,
            Err(error) => {
                errors.add(error.to_string());
                continue;
            }
        };
        for entry in entries {
            if paths.len() > MAX_FILES {
                return;
            }
            let Ok(name) = entry.raw().to_str() else {
                errors
                    .add(format!("{}: a name that is not UTF-8 is left out", directory.path_of(entry.raw())));
                continue;
            };
            let below = format!("{path}/{name}");
            let kind = match entry.kind() {
                Kind::Unknown => directory.lstat(entry.raw()).map_or(Kind::Unknown, |found| found.kind),
                kind => kind,
            };
            match kind {
                Kind::Regular => {
                    paths.push((below, directory.identity(entry.raw())));
                }
                Kind::Directory if depth < MAX_DEPTH && !is_mounted(&below, remote) => {
                    match directory.subdirectory_unrecorded(entry.raw()) {
                        Ok(subdirectory) => open.push((below, subdirectory, depth + 1)),
                        Err(error) if error.is_missing() => {}
                        Err(error) => errors.add(error.to_string()),
                    }
                }
                _ => {}
            }
        }
    }
}

/// Mount points of network file systems (proc_pid_mountinfo(5)), where looking may take for ever.
fn network_mounts(host: &Host) -> BTreeSet<String> {
    if !host.is_running_system() {
        return BTreeSet::new();
    }
    across_network(&mount_points::current())
}

/// A host without a disk has its root on such a file system, and is looked at all the same.
fn across_network(mounts: &[Mount]) -> BTreeSet<String> {
    let remote = mounts.iter().filter(|mount| NETWORK_FILE_SYSTEMS.contains(&mount.kind.as_str()));
    let points = remote.map(|mount| String::from_utf8_lossy(&mount.point).into_owned());
    points.filter(|point| point != "/").collect()
}

fn is_mounted(path: &str, remote: &BTreeSet<String>) -> bool {
    remote.contains(path)
}

fn is_below(path: &str, remote: &BTreeSet<String>) -> bool {
    let mut rest = path;
    loop {
        if remote.contains(rest) {
            return true;
        }
        match rest.rfind('/') {
            Some(0) | None => return false,
            Some(slash) => rest = &rest[..slash],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_files_counts_as_mapped() {
        let maps = "55e0-55e1 r--p 00000000 fd:01 123                        /usr/sbin/nginx\n\
                    55e1-55e2 r-xp 00001000 fd:01 123                        /usr/sbin/nginx\n\
                    7f00-7f01 r-xp 00001000 fd:01 124                        /usr/lib/my lib.so (deleted)\n\
                    7f01-7f02 rw-p 00000000 00:00 0 \n\
                    7f02-7f03 r-xp 00000000 00:01 9                          /memfd:x (deleted)\n\
                    7ffe-7fff r-xp 00000000 00:00 0                          [vdso]\n\
                    junk\n";
        assert_eq!(mapped(maps), BTreeSet::from(["/usr/lib/my lib.so".into(), "/usr/sbin/nginx".into()]));
    }

    #[test]
    fn class_paths_and_scripts() {
        let tree = tempfile::tempdir().unwrap();
        for path in ["opt/lib/a.jar", "opt/lib/b.jar", "opt/lib/readme", "srv/app.py", "srv/x.jar"] {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let host = Host::at(tree.path());
        let named = |exe: &str, words: &[&str]| {
            let process = Process { exe: exe.into(), cwd: "/srv".into(), ..Process::default() };
            code_named(&host, &process, &words.join("\0")).into_iter().collect::<Vec<_>>()
        };
        let java = "/usr/lib/jvm/bin/java";
        assert_eq!(
            named(java, &["java", "-cp", "/opt/lib/*:x.jar:/srv:", "Main"]),
            ["/opt/lib/a.jar", "/opt/lib/b.jar", "/srv/x.jar"]
        );
        assert_eq!(named(java, &["java", "-Xmx1g", "-jar", "./x.jar"]), ["/srv/x.jar"]);
        assert_eq!(named("/usr/bin/python3.11", &["python3", "-u", "app.py", "-v"]), ["/srv/app.py"]);
        assert_eq!(named("/usr/sbin/nginx", &["nginx", "app.py"]), [""; 0]);
        assert_eq!(named(java, &["java", "-cp"]), [""; 0]);
    }

    #[test]
    fn what_was_seen_is_kept_for_a_month() {
        let seen = read_seen("100 /a\n69 /b\n500 /c d\njunk\n100 relative\nx /e\n", 100);
        assert_eq!(seen, BTreeMap::from([("/a".into(), 100), ("/c d".into(), 100)]));
        assert_eq!(read_seen("70 /b\n", 100).len(), 1);
    }

    #[test]
    fn network_mounts_are_barriers() {
        let text = "1 0 0:1 / / rw - nfs4 a:/root rw\n2 1 0:2 / /home rw shared:1 - nfs4 a:/home rw\n\
                    3 1 0:3 / /mnt/my\\040disk rw - cifs //b/c rw\n4 1 8:1 / /data rw - ext4 /dev/sda1 rw\njunk\n";
        let remote = across_network(&mount_points::parse(text.as_bytes()));
        assert_eq!(remote, BTreeSet::from(["/home".into(), "/mnt/my disk".into()]));
        assert!(is_below("/home/joe/x", &remote) && is_below("/home", &remote));
        assert!(!is_below("/homes/joe", &remote) && !is_below("/data/x", &remote) && !is_below("/", &remote));
    }
}

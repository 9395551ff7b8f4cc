//! Which package a file belongs to: the lists of dpkg(1), rpm(8), the database of apk(8).

use super::{cache, hexadecimal};
use crate::Host;
use ring::digest::{Context, SHA256, digest};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const DPKG_LISTS: &str = "/var/lib/dpkg/info";
const DPKG_STATUS: &str = "/var/lib/dpkg/status";
const APK_DATABASES: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
const RPM_DATABASES: [&str; 4] = [
    "/usr/lib/sysimage/rpm",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/Packages",
];
const RPM_PROGRAMS: [&str; 2] = ["/usr/bin/rpm", "/bin/rpm"];
/// One line for each file of each package: path, tab, name, blank, version.
const RPM_FORMAT: &str = "[%{FILENAMES}\\t%{=NAME} %{=VERSION}-%{=RELEASE}\\n]";
const RPM_LIMIT: Duration = Duration::from_secs(120);
/// A list of files that is longer belongs to no package.
const MAX_LIST_BYTES: u64 = 32 * 1024 * 1024;
const MAX_LISTS: usize = 50_000;
const MAX_LINE_BYTES: u64 = 8192;
const MAX_STREAM_BYTES: u64 = 1 << 30;

pub type Owners<'a> = BTreeMap<&'a str, String>;

/// The answer of the last time, below the state directory.
const KEPT: &str = "checksums.owners";
const MAX_KEPT_BYTES: u64 = 64 * 1024 * 1024;

/// [`of`], or what it said last time when neither the files asked for nor the packages have changed since.
pub fn remembered<'a>(
    host: &Host,
    paths: impl Iterator<Item = &'a str> + Clone,
    errors: &mut Vec<String>,
) -> Owners<'a> {
    let Some(state) = host.state() else { return of(host, paths, errors) };
    let question = question(host, paths.clone());
    // What is not believed is found out anew, and the discovery has told about the state already.
    let kept = cache::trusted(&state.join(KEPT), MAX_KEPT_BYTES, cache::uid()).ok().flatten();
    if let Some(owners) = kept.and_then(|kept| answer(&kept, &question, paths.clone())) {
        return owners;
    }
    let before = errors.len();
    let owners = of(host, paths, errors);
    if errors.len() == before
        && owners.iter().all(|(path, owner)| !path.contains('\n') && !owner.contains('\n'))
    {
        let mut text = question;
        for (path, owner) in &owners {
            text.push_str(&format!("\n{owner}\t{path}"));
        }
        let check = hexadecimal(digest(&SHA256, text.as_bytes()).as_ref());
        // Nothing is lost but time when it cannot be kept.
        let _ = cache::write(state, KEPT, format!("{check}\n{text}").as_bytes());
    }
    owners
}

/// What an answer depends on, as a line.
fn question<'a>(host: &Host, paths: impl Iterator<Item = &'a str>) -> String {
    let mut context = Context::new(&SHA256);
    let databases = [DPKG_STATUS, DPKG_LISTS].into_iter().chain(APK_DATABASES).chain(RPM_DATABASES);
    for database in databases {
        context.update(format!("{:?}\n", host.identity(database).ok()).as_bytes());
    }
    for path in paths {
        context.update(path.as_bytes());
        context.update(b"\n");
    }
    hexadecimal(context.finish().as_ref())
}

/// Lines: a sum of the rest, the question, then owner, tab, path for each path that has one, in the order of the paths.
fn answer<'a>(kept: &[u8], question: &str, paths: impl Iterator<Item = &'a str>) -> Option<Owners<'a>> {
    let (check, rest) = std::str::from_utf8(kept).ok()?.split_once('\n')?;
    let mut lines = rest.split('\n');
    if lines.next()? != question || hexadecimal(digest(&SHA256, rest.as_bytes()).as_ref()) != check {
        return None;
    }
    let mut paths = paths;
    let owner_of = |line: &str| {
        let (owner, path) = line.split_once('\t')?;
        let path = paths.find(|asked| *asked == path)?;
        Some((path, owner.to_owned()))
    };
    lines.map(owner_of).collect()
}

/// Path → `name version` for those of `paths` that a package owns.
fn of<'a>(host: &Host, paths: impl Iterator<Item = &'a str>, errors: &mut Vec<String>) -> Owners<'a> {
    let wanted = Wanted::new(paths);
    let mut owners = Owners::new();
    if let Ok(directory) = host.directory(DPKG_LISTS) {
        let versions = dpkg_versions(host);
        match directory.entries() {
            Ok(entries) => {
                for entry in entries.iter().take(MAX_LISTS) {
                    let name = entry.name();
                    let Some(package) = name.strip_suffix(".list") else { continue };
                    let Some(version) = versions.get(package) else { continue };
                    let Ok(list) = directory.open(entry.raw()).and_then(|file| file.bytes(MAX_LIST_BYTES))
                    else {
                        continue;
                    };
                    let name = package.split(':').next().unwrap_or(package);
                    for line in list.split(|byte| *byte == b'\n') {
                        wanted.owned(line, || format!("{name} {version}"), &mut owners);
                    }
                }
            }
            Err(error) => errors.push(error.to_string()),
        }
    }
    for database in APK_DATABASES {
        if let Ok(file) = host.open_unrecorded(database) {
            apk(BufReader::new(file), &wanted, &mut owners);
            break;
        }
    }
    if host.is_running_system()
        && RPM_DATABASES.iter().any(|path| host.identity(path).is_ok())
        && let Some(program) = RPM_PROGRAMS.iter().find(|path| host.identity(path).is_ok())
        && let Err(error) = rpm(program, &wanted, &mut owners)
    {
        errors.push(error);
    }
    owners
}

/// The paths asked for, by [`name_of`]; of the few that share one, the others.
struct Wanted<'a> {
    first: HashMap<&'a [u8], &'a str>,
    others: Vec<(&'a [u8], &'a str)>,
}

/// Where /bin is a link to /usr/bin, some packages still say /bin/bash, and the kernel says /usr/bin/bash.
fn name_of(path: &[u8]) -> &[u8] {
    let short = path.strip_prefix(b"/usr").unwrap_or_default();
    let is_merged = [&b"/bin/"[..], b"/sbin/", b"/lib"].iter().any(|start| short.starts_with(start));
    if is_merged { short } else { path }
}

impl<'a> Wanted<'a> {
    fn new(paths: impl Iterator<Item = &'a str>) -> Self {
        let mut wanted = Wanted { first: HashMap::new(), others: Vec::new() };
        for path in paths {
            let name = name_of(path.as_bytes());
            match wanted.first.entry(name) {
                Entry::Vacant(place) => {
                    place.insert(path);
                }
                Entry::Occupied(_) => wanted.others.push((name, path)),
            }
        }
        wanted.others.sort_unstable();
        wanted
    }

    fn owned(&self, path: &[u8], owner: impl Fn() -> String, owners: &mut Owners<'a>) {
        let name = name_of(path);
        let Some(first) = self.first.get(name) else { return };
        let start = self.others.partition_point(|(other, _)| *other < name);
        let others =
            self.others[start..].iter().take_while(|(other, _)| *other == name).map(|(_, path)| path);
        for path in others.chain([first]) {
            owners.entry(path).or_insert_with(&owner);
        }
    }
}

/// Name, and name with architecture, of each installed package, with its version.
fn dpkg_versions(host: &Host) -> HashMap<String, String> {
    let mut versions = HashMap::new();
    let Ok(file) = host.open_unrecorded(DPKG_STATUS) else { return versions };
    let (mut name, mut arch, mut version) = (String::new(), String::new(), String::new());
    each_line(BufReader::with_capacity(64 * 1024, file), |line| {
        if line.is_empty() {
            if !name.is_empty() && !version.is_empty() {
                versions.insert(format!("{name}:{arch}"), version.clone());
                versions.insert(std::mem::take(&mut name), std::mem::take(&mut version));
            }
            (name, version) = (String::new(), String::new());
            return;
        }
        for (field, place) in
            [("Package: ", &mut name), ("Architecture: ", &mut arch), ("Version: ", &mut version)]
        {
            if let Some(value) = line.strip_prefix(field.as_bytes()) {
                *place = String::from_utf8_lossy(value.trim_ascii()).into_owned();
            }
        }
    });
    if !name.is_empty() && !version.is_empty() {
        versions.insert(format!("{name}:{arch}"), version.clone());
        versions.insert(name, version);
    }
    versions
}

/// Stanzas of lines `<letter>:<value>`: `P` name, `V` version, `F` a directory and `R` a file in it.
fn apk<'a>(reader: impl BufRead, wanted: &Wanted<'a>, owners: &mut Owners<'a>) {
    let (mut name, mut version, mut directory) = (String::new(), String::new(), String::new());
    each_line(reader, |line| {
        let Some((letter, value)) = line.split_first_chunk::<2>() else { return };
        let text = || String::from_utf8_lossy(value).into_owned();
        match letter {
            b"P:" => name = text(),
            b"V:" => version = text(),
            b"F:" => directory = text(),
            b"R:" => {
                let path = format!("/{directory}/{}", text());
                wanted.owned(path.as_bytes(), || format!("{name} {version}"), owners);
            }
            _ => {}
        }
    });
}

/// Asks rpm, line by line, so that the names of half a million files need no memory.
fn rpm<'a>(program: &str, wanted: &Wanted<'a>, owners: &mut Owners<'a>) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(["-qa", "--queryformat", RPM_FORMAT]);
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let failed = |error: std::io::Error| format!("{program}: cannot be started: {error}: reinstall it");
    let mut child = command.spawn().map_err(failed)?;
    let Some(output) = child.stdout.take() else { return Err(format!("{program}: has no output")) };
    let (sender, ended) = mpsc::channel::<()>();
    let mut child = std::thread::scope(|scope| {
        // Kills rpm when it takes too long, which ends its output.
        let guard = scope.spawn(move || {
            if ended.recv_timeout(RPM_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = child.kill();
            }
            child
        });
        rpm_lines(BufReader::new(output.take(MAX_STREAM_BYTES)), wanted, owners);
        drop(sender);
        guard.join().map_err(|_| format!("{program}: cannot be watched"))
    })?;
    let status = child.wait().map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{program} ended with {status}: check its database with rpm --verifydb"))
    }
}

fn rpm_lines<'a>(reader: impl BufRead, wanted: &Wanted<'a>, owners: &mut Owners<'a>) {
    each_line(reader, |line| {
        if let Some(tab) = line.iter().position(|byte| *byte == b'\t') {
            wanted.owned(&line[..tab], || String::from_utf8_lossy(&line[tab + 1..]).into_owned(), owners);
        }
    });
}

/// The lines of a text of any size; what is longer than a line of such a file can be is cut.
fn each_line(mut reader: impl BufRead, mut each: impl FnMut(&[u8])) {
    let mut line = Vec::new();
    let mut total = 0;
    loop {
        line.clear();
        match (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(read) => total += read as u64,
        }
        if total > MAX_STREAM_BYTES {
            return;
        }
        each(line.strip_suffix(b"\n").unwrap_or(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<'a>(owners: &'a Owners<'a>) -> Vec<(&'a str, &'a str)> {
        owners.iter().map(|(path, owner)| (*path, owner.as_str())).collect()
    }

    #[test]
    fn dpkg_knows_its_files_under_both_names_of_merged_directories() {
        let tree = tempfile::tempdir().unwrap();
        let info = tree.path().join("var/lib/dpkg/info");
        std::fs::create_dir_all(&info).unwrap();
        std::fs::write(
            tree.path().join("var/lib/dpkg/status"),
            "Package: bash\nArchitecture: amd64\nVersion: 5.2\n\nPackage: libc6\nArchitecture: amd64\nVersion: 2.36\n\n\
             Package: libc6\nArchitecture: i386\nVersion: 2.35\n\nPackage: new\nArchitecture: all\nVersion: 1",
        )
        .unwrap();
        std::fs::write(info.join("bash.list"), "/.\n/bin/bash\n/usr/bin/bashbug\n").unwrap();
        std::fs::write(info.join("libc6:amd64.list"), "/lib/x86_64-linux-gnu/libc.so.6\n").unwrap();
        std::fs::write(info.join("libc6:i386.list"), "/lib/i386-linux-gnu/libc.so.6\n").unwrap();
        std::fs::write(info.join("new.list"), "/usr/bin/dash").unwrap();
        std::fs::write(info.join("gone.list"), "/usr/bin/gone\n").unwrap();
        let mut errors = Vec::new();
        let asked = [
            "/bin/bash",
            "/usr/bin/bash",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/lib/i386-linux-gnu/libc.so.6",
            "/bin/dash",
            "/usr/bin/gone",
            "/usr/local/bin/own",
        ];
        let owners = of(&Host::at(tree.path()), asked.into_iter(), &mut errors);
        let expected = [
            ("/bin/bash", "bash 5.2"),
            ("/bin/dash", "new 1"),
            ("/lib/i386-linux-gnu/libc.so.6", "libc6 2.35"),
            ("/usr/bin/bash", "bash 5.2"),
            ("/usr/lib/x86_64-linux-gnu/libc.so.6", "libc6 2.36"),
        ];
        assert_eq!(told(&owners), expected);
        assert!(errors.is_empty());
    }

    #[test]
    fn the_answer_is_remembered_until_packages_or_paths_change() {
        let tree = tempfile::tempdir().unwrap();
        let state = tempfile::tempdir().unwrap();
        let info = tree.path().join("var/lib/dpkg/info");
        std::fs::create_dir_all(&info).unwrap();
        let status = tree.path().join("var/lib/dpkg/status");
        std::fs::write(&status, "Package: a\nVersion: 1\n").unwrap();
        std::fs::write(info.join("a.list"), "/bin/a\n/bin/b\n").unwrap();
        let host = Host::at(tree.path()).with_state(state.path().to_owned());
        let mut errors = Vec::new();
        let mut ask = |paths: &[&'static str]| {
            let owners = remembered(&host, paths.iter().copied(), &mut errors);
            owners.into_iter().map(|(path, owner)| format!("{path}={owner}")).collect::<Vec<_>>()
        };
        assert_eq!(ask(&["/bin/a", "/bin/x"]), ["/bin/a=a 1"]);
        let kept = state.path().join(KEPT);
        // A list alone says nothing new: dpkg writes its status too.
        std::fs::write(info.join("a.list"), "/bin/b\n").unwrap();
        assert_eq!(ask(&["/bin/a", "/bin/x"]), ["/bin/a=a 1"], "not asked again");
        assert_eq!(ask(&["/bin/b", "/bin/x"]), ["/bin/b=a 1"], "other paths");
        std::fs::write(&status, "Package: a\nVersion: 1.2\n").unwrap();
        assert_eq!(ask(&["/bin/b", "/bin/x"]), ["/bin/b=a 1.2"], "other packages");
        let text = std::fs::read_to_string(&kept).unwrap();
        std::fs::write(&kept, text.replace("a 1.2", "a 9.9")).unwrap();
        assert_eq!(ask(&["/bin/b", "/bin/x"]), ["/bin/b=a 1.2"], "a damaged file is not believed");
        assert!(errors.is_empty());
    }

    #[test]
    fn apk_and_rpm() {
        let wanted = Wanted::new(["/bin/busybox", "/usr/sbin/sshd"].into_iter());
        let mut owners = Owners::new();
        apk("P:busybox\nV:1.36\nF:bin\nR:busybox\nZ:x\n\nP:x\n".as_bytes(), &wanted, &mut owners);
        rpm_lines("/usr/sbin/sshd\topenssh-server 8.7p1-38\njunk\n".as_bytes(), &wanted, &mut owners);
        let expected = [("/bin/busybox", "busybox 1.36"), ("/usr/sbin/sshd", "openssh-server 8.7p1-38")];
        assert_eq!(told(&owners), expected);
    }

    #[test]
    fn endless_lines_and_junk_end() {
        let mut owners = Owners::new();
        rpm_lines(&vec![b'x'; 1 << 20][..], &Wanted::new(["/x"].into_iter()), &mut owners);
        apk(&b"\xff\n:\nR\nR:"[..], &Wanted::new(["/x"].into_iter()), &mut owners);
        assert!(owners.is_empty());
    }
}

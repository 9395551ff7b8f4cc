//! Processes and the sockets they hold, from /proc (proc(5)). Processes end while they are read: what is no longer
//! there is left out without a word.

use crate::parse::{is_secret_name, mask_secrets};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, RawDir, openat, readlinkat};
use std::collections::{BTreeMap, HashMap};
use std::mem::MaybeUninit;

/// More processes are not looked at.
pub const MAX_PROCESSES: usize = 100_000;
const MAX_ARGUMENTS: usize = 256;
const MAX_ARGUMENT_CHARS: usize = 4096;
const MAX_COMMAND_BYTES: usize = 64 * 1024;
const MAX_SMALL_BYTES: usize = 16 * 1024;

/// A directory laid out like /proc.
pub struct Proc(OwnedFd);

/// What is known of a process with sockets of interest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// In clock ticks since boot: the oldest of several is the one that started the others.
    pub started: u64,
    pub exe: String,
    /// The file was replaced or removed since the process started.
    pub exe_deleted: bool,
    /// Without secrets, and without a title that the program changes at run time.
    pub cmdline: Vec<String>,
    pub cwd: String,
    /// Real, effective, saved, of the file system.
    pub uids: [u32; 4],
    pub gids: [u32; 4],
    pub cgroup: String,
    /// Network namespace; 0 when it may not be seen.
    pub namespace: u64,
    /// Of the sockets it holds, those asked for; sorted.
    pub inodes: Vec<u64>,
}

impl Proc {
    pub fn open(path: &str) -> Result<Proc, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map(Proc)
            .map_err(|errno| format!("{path}: {errno}: mount the proc file system there"))
    }

    /// The numbers of all processes, ascending.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = Vec::new();
        each_name(&self.0, |name| {
            if let Some(pid) = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()) {
                pids.push(pid);
            }
            pids.len() < MAX_PROCESSES
        });
        pids.sort_unstable();
        pids
    }

    /// The network namespace of a process (namespaces(7)), or of the caller for `self`.
    pub fn namespace(&self, pid: &str) -> Option<u64> {
        bracketed(&self.link(&format!("{pid}/ns/net"))?, "net:")
    }

    /// A descriptor of the network namespace of a process, for setns(2).
    pub fn open_namespace(&self, pid: u32) -> rustix::io::Result<OwnedFd> {
        openat(&self.0, format!("{pid}/ns/net"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// The sockets of a process that are among `wanted`, sorted. `None` when its descriptors may not be seen.
    pub fn sockets<T>(&self, pid: u32, wanted: &HashMap<u64, T>) -> Option<Vec<u64>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match openat(&self.0, format!("{pid}/fd"), flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => return None,
            Err(_) => return Some(Vec::new()),
        };
        let mut found = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 64];
        each_name_c(&directory, |name| {
            if let Ok((target, _)) = rustix::fs::readlinkat_raw(&directory, name, &mut buffer)
                && let Ok(target) = std::str::from_utf8(target)
                && let Some(inode) = bracketed(target, "socket:")
                && wanted.contains_key(&inode)
            {
                found.push(inode);
            }
            true
        });
        found.sort_unstable();
        found.dedup();
        Some(found)
    }

    /// All about one process. `None` when it has ended.
    pub fn process(&self, pid: u32, namespace: u64, inodes: Vec<u64>) -> Option<Process> {
        let status = self.text(&format!("{pid}/status"), MAX_SMALL_BYTES)?;
        let link = self.link(&format!("{pid}/exe")).unwrap_or_default();
        let exe = link.strip_suffix(" (deleted)").unwrap_or(&link).to_owned();
        let command = self.bytes(&format!("{pid}/cmdline"), MAX_COMMAND_BYTES).unwrap_or_default();
        Some(Process {
            pid,
            started: self
                .text(&format!("{pid}/stat"), MAX_SMALL_BYTES)
                .and_then(|stat| started(&stat))
                .unwrap_or(0),
            exe_deleted: link.len() != exe.len(),
            cmdline: command_line(&command, &exe),
            exe,
            cwd: self.link(&format!("{pid}/cwd")).unwrap_or_default(),
            uids: four(&status, "Uid:"),
            gids: four(&status, "Gid:"),
            cgroup: self.text(&format!("{pid}/cgroup"), MAX_SMALL_BYTES).unwrap_or_default(),
            namespace,
            inodes,
        })
    }

    /// A small text file; what is beyond `limit_bytes` is cut.
    pub fn text(&self, path: &str, limit_bytes: usize) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(path, limit_bytes)?).into_owned())
    }

    /// The target of a symbolic link, as `\xNN` where it is not UTF-8 or could mislead a reader.
    pub fn link(&self, path: &str) -> Option<String> {
        let target = readlinkat(&self.0, path, Vec::new()).ok()?;
        Some(model::text::printable(&String::from_utf8_lossy(target.as_bytes())).into_owned())
    }

    fn bytes(&self, path: &str, limit_bytes: usize) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&self.0, path, flags, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        use std::io::Read;
        std::fs::File::from(file).take(limit_bytes as u64).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// The number in `socket:[4711]` or `net:[4026531840]`.
fn bracketed(text: &str, kind: &str) -> Option<u64> {
    text.strip_prefix(kind)?.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn each_name(directory: impl AsFd, mut each: impl FnMut(&[u8]) -> bool) {
    each_name_c(directory, |name| each(name.to_bytes()));
}

fn each_name_c(directory: impl AsFd, mut each: impl FnMut(&std::ffi::CStr) -> bool) {
    let mut buffer = [MaybeUninit::uninit(); 8 * 1024];
    let mut listing = RawDir::new(directory, &mut buffer);
    while let Some(Ok(entry)) = listing.next() {
        if !each(entry.file_name()) {
            return;
        }
    }
}

/// The numbers after `Uid:` or `Gid:`.
fn four(status: &str, name: &str) -> [u32; 4] {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().unwrap_or(u32::MAX));
    [0; 4].map(|_: u32| numbers.next().unwrap_or(u32::MAX))
}

/// Field 22 of /proc/pid/stat; the name in field 2 may hold blanks and brackets.
fn started(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The arguments of a process, without secrets. Servers such as nginx, sshd and postgres overwrite them with what they
/// are doing right now (`sshd: joe@pts/0`): of those only the name before the colon stays, for the rest changes all
/// the time.
pub(super) fn command_line(bytes: &[u8], exe: &str) -> Vec<String> {
    let text = |argument: &[u8]| {
        let text = String::from_utf8_lossy(argument);
        model::text::shortened(&model::text::printable(&text), MAX_ARGUMENT_CHARS).into_owned()
    };
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let arguments: Vec<String> = bytes.split(|byte| *byte == 0).take(MAX_ARGUMENTS).map(text).collect();
    let first = arguments.first().map_or("", String::as_str);
    if let Some((name, _)) =
        first.split_once(": ").filter(|(name, _)| !name.is_empty() && !name.contains(' '))
    {
        return vec![name.to_owned()];
    }
    masked(arguments, exe.rsplit('/').next().unwrap_or(exe))
}

/// Options whose next word is a secret although their name does not say so, by program.
const SECRET_OPTIONS: &[(&str, &[&str])] = &[
    ("sshpass", &["-p"]),
    ("redis-cli", &["-a"]),
    ("ldapsearch", &["-w"]),
    ("curl", &["-u", "--user"]),
    ("wget", &[]),
];

fn masked(arguments: Vec<String>, program: &str) -> Vec<String> {
    let options =
        SECRET_OPTIONS.iter().find(|(name, _)| *name == program).map_or(&[][..], |(_, options)| options);
    let attaches = ["mysql", "mariadb"].iter().any(|name| program.starts_with(name));
    let mut is_secret = false;
    let mut masked = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let starts_option = argument.starts_with('-');
        if std::mem::take(&mut is_secret) && !starts_option {
            masked.push("***".to_owned());
            continue;
        }
        is_secret = options.contains(&argument.as_str())
            || (starts_option && !argument.contains('=') && is_secret_name(&argument));
        // mysql(1) takes the password in the same word.
        if attaches && argument.starts_with("-p") && argument.len() > 2 {
            masked.push("-p***".to_owned());
        } else if argument.starts_with("pass:") {
            masked.push("pass:***".to_owned());
        } else {
            masked.push(mask_secrets(&argument).into_owned());
        }
    }
    masked
}

/// Groups of processes that share a listening socket and run the same program: pre-forked workers. Gives for each the
/// position of the oldest, which stands for all.
pub fn leaders(processes: &[Process], listens: impl Fn(u64) -> bool) -> Vec<usize> {
    let mut leaders: Vec<usize> = (0..processes.len()).collect();
    let mut oldest: BTreeMap<(u64, &str), usize> = BTreeMap::new();
    let age = |at: usize| (processes[at].started, processes[at].pid);
    for (at, process) in processes.iter().enumerate() {
        for inode in process.inodes.iter().filter(|inode| listens(**inode)) {
            let first = oldest.entry((*inode, process.exe.as_str())).or_insert(at);
            if age(at) < age(*first) {
                *first = at;
            }
        }
    }
    for (at, process) in processes.iter().enumerate() {
        let of_sockets =
            process.inodes.iter().filter_map(|inode| oldest.get(&(*inode, process.exe.as_str())));
        if let Some(first) = of_sockets.copied().min_by_key(|at| age(*at)) {
            leaders[at] = first;
        }
    }
    // A worker of a worker: the first of them all. Ages fall at every step, so this ends.
    for at in 0..leaders.len() {
        while leaders[leaders[at]] != leaders[at] {
            leaders[at] = leaders[leaders[at]];
        }
    }
    leaders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str], exe: &str) -> Vec<String> {
        command_line(words.join("\0").as_bytes(), exe)
    }

    #[test]
    fn command_lines_hold_no_secrets() {
        assert_eq!(line(&["mysqld", "--port", "3306", ""], "/usr/sbin/mysqld"), ["mysqld", "--port", "3306"]);
        for (words, exe, expected) in [
            (&["app", "--password", "geheim", "-v"][..], "/a/app", &["app", "--password", "***", "-v"][..]),
            (&["app", "--api-key=geheim"], "/a/app", &["app", "--api-key=***"]),
            (&["app", "--password", "-v"], "/a/app", &["app", "--password", "-v"]),
            (&["java", "-Dx.trustStorePassword=geheim"], "/b/java", &["java", "-Dx.trustStorePassword=***"]),
            (&["app", "postgres://u:geheim@db/x"], "/a/app", &["app", "postgres://u:***@db/x"]),
            (&["mysql", "-pgeheim"], "/usr/bin/mysql", &["mysql", "-p***"]),
            (&["sshpass", "-p", "geheim", "ssh"], "/usr/bin/sshpass", &["sshpass", "-p", "***", "ssh"]),
            (&["openssl", "-passin", "pass:geheim"], "/usr/bin/openssl", &["openssl", "-passin", "pass:***"]),
            (&["ssh", "-p", "2222"], "/usr/bin/ssh", &["ssh", "-p", "2222"]),
        ] {
            assert_eq!(line(words, exe), expected, "{words:?}");
        }
    }

    #[test]
    fn titles_that_change_are_cut_to_the_name() {
        assert_eq!(
            line(&["sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"], "/usr/sbin/sshd"),
            ["sshd"]
        );
        assert_eq!(line(&["postgres: joe db 10.0.0.1(3333) idle", "", ""], "/x/postgres"), ["postgres"]);
        assert_eq!(line(&["nginx: master process /usr/sbin/nginx"], "/usr/sbin/nginx"), ["nginx"]);
        assert_eq!(line(&["/opt/my app: x"], "/opt/a"), ["/opt/my app: x"], "a path is no title");
        assert!(command_line(b"", "").is_empty() && command_line(b"\0", "").is_empty());
    }

    #[test]
    fn a_hostile_command_line_is_bounded_and_printable() {
        let huge = vec![b'a'; 1 << 20];
        assert!(command_line(&huge, "x")[0].chars().count() <= MAX_ARGUMENT_CHARS);
        assert!(command_line(&[0; 10_000], "x").len() <= MAX_ARGUMENTS);
        assert_eq!(line(&["a\u{1b}[2J"], "x"), ["a\\u{1b}[2J"]);
    }

    #[test]
    fn numbers_of_proc() {
        assert_eq!(four("Name:\tx\nUid:\t1\t2\t3\t4\n", "Uid:"), [1, 2, 3, 4]);
        assert_eq!(four("junk", "Uid:"), [u32::MAX; 4]);
        let fields: Vec<String> = (3..30).map(|n| n.to_string()).collect();
        assert_eq!(started(&format!("1 (a) b) {}", fields.join(" "))), Some(22));
        assert_eq!(started("1 (x"), None);
        assert_eq!(bracketed("socket:[12]", "socket:"), Some(12));
        assert_eq!(bracketed("pipe:[12]", "socket:"), None);
    }

    #[test]
    fn workers_are_led_by_the_oldest_of_the_same_program() {
        let process = |pid, started, exe: &str, inodes: &[u64]| Process {
            pid,
            started,
            exe: exe.into(),
            inodes: inodes.to_vec(),
            ..Process::default()
        };
        let processes = [
            process(10, 50, "/nginx", &[1, 7]),
            process(9, 20, "/nginx", &[1]),
            process(1, 1, "/systemd", &[1, 2]),
            process(30, 60, "/nginx", &[9]),
            process(31, 70, "/a", &[]),
        ];
        assert_eq!(leaders(&processes, |inode| inode < 5), [1, 1, 2, 3, 4]);
        assert!(leaders(&[], |_| true).is_empty());
    }
}

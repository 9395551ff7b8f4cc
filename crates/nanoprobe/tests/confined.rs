//! What the network process may not do although its account may: tried by a process that gives up what the network process gives
//! up, beside one that only changes to the same account.
//!
//! Privileges are given up by threads, so these processes may have one only. The usual harness has two; this is one of its own.

use nanoprobe::network::confine::{Confined, Landlock, confine};
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

const CHILD: &str = "NANOPROBE_TEST_CONFINED";

/// Needs no permission but that of the account.
const FILES: [&str; 6] =
    ["read a file", "list a directory", "change a file", "make a file", "remove a file", "run a program"];

/// Restricted from Linux 6.7 (TCP) and 6.12 (abstract sockets) on.
const SOCKETS: [&str; 3] = ["connect by TCP", "listen by TCP", "connect to another program"];

/// What the network process lives by.
const ALLOWED: [&str; 3] = ["read resolv.conf's directory", "read /etc/passwd", "send by UDP"];

/// What each process tries; `folder` is everybody's.
fn attempts(folder: &Path, tcp: u16, udp: u16, name: &str) -> BTreeMap<&'static str, io::Result<()>> {
    let run = || Command::new("/bin/true").stdin(Stdio::inherit()).status().map(drop);
    let listen = || TcpListener::bind(("127.0.0.1", 0)).map(drop);
    let abstract_name = || UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?).map(drop);
    let send = || UdpSocket::bind(("127.0.0.1", 0))?.send_to(b"x", ("127.0.0.1", udp)).map(drop);
    BTreeMap::from([
        ("read a file", fs::read(folder.join("readable")).map(drop)),
        ("list a directory", fs::read_dir(folder).map(drop)),
        ("change a file", fs::OpenOptions::new().write(true).open(folder.join("writable")).map(drop)),
        ("make a file", fs::write(folder.join("new"), "x")),
        ("remove a file", fs::remove_file(folder.join("doomed"))),
        ("run a program", run()),
        ("connect by TCP", TcpStream::connect(("127.0.0.1", tcp)).map(drop)),
        ("listen by TCP", listen()),
        ("connect to another program", abstract_name()),
        ("read resolv.conf's directory", fs::read_dir("/etc").map(drop)),
        ("read /etc/passwd", fs::read("/etc/passwd").map(drop)),
        ("send by UDP", send()),
    ])
}

const NAME: &str = "the_network_process_is_refused_what_its_account_may_do";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    match std::env::var(CHILD) {
        Ok(task) => attempt(&task),
        Err(_) if has("--list") && has("--ignored") => {}
        Err(_) if has("--list") => println!("{NAME}: test"),
        Err(_) => the_network_process_is_refused_what_its_account_may_do(),
    }
}

/// In a process of its own.
fn attempt(task: &str) {
    let words: Vec<&str> = task.split(' ').collect();
    let [kind, folder, tcp, udp, name] = words[..] else { panic!("{task}") };
    match kind.split_once(':') {
        None => {
            let Confined { landlock, .. } = confine().unwrap();
            println!("landlock={landlock:?}");
        }
        Some((user, group)) if geteuid().is_root() => {
            let [uid, gid] = [user, group].map(|number| number.parse().unwrap());
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
        }
        Some(_) => {}
    }
    println!("user={}:{}", geteuid().as_raw(), getegid().as_raw());
    for (what, tried) in attempts(Path::new(folder), tcp.parse().unwrap(), udp.parse().unwrap(), name) {
        let outcome = match tried {
            Ok(()) => "done".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => "refused".to_owned(),
            Err(error) => error.to_string(),
        };
        println!("{what}={outcome}");
    }
}

/// What came of each attempt. Each process finds the same.
fn tried(kind: &str) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    for file in ["readable", "writable", "doomed"] {
        fs::write(folder.path().join(file), "x").unwrap();
        fs::set_permissions(folder.path().join(file), PermissionsExt::from_mode(0o666)).unwrap();
    }
    let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let ports = [tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port()];
    let name = format!("assimilation-test-{}", ports[0]);
    let _other = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, format!("{kind} {} {} {} {name}", folder.path().display(), ports[0], ports[1]))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let line = |line: &str| line.split_once('=').map(|(what, came)| (what.to_owned(), came.to_owned()));
    text.lines().filter_map(line).collect()
}

/// The security modules of the running kernel, where it can be asked.
fn security_modules() -> Option<String> {
    fs::read_to_string("/sys/kernel/security/lsm").ok().or_else(|| {
        let ask = "mount -t securityfs none /sys/kernel/security && cat /sys/kernel/security/lsm";
        let output = Command::new("unshare").args(["-m", "sh", "-c", ask]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

fn the_network_process_is_refused_what_its_account_may_do() {
    let confined = tried("confined");
    let free = tried(&confined["user"]);
    assert_eq!(confined["user"], free["user"]);
    // The account may do all of it, so that what is refused is refused by Landlock.
    for what in FILES.iter().chain(&SOCKETS).chain(&ALLOWED) {
        assert_eq!(free[*what], "done", "{what}, without Landlock");
    }
    let landlock = &confined["landlock"];
    let known = [Landlock::Full, Landlock::Partial, Landlock::Missing].map(|kind| format!("{kind:?}"));
    assert!(known.contains(landlock), "{landlock}");
    if let Some(modules) = security_modules() {
        let has_it = modules.trim().split(',').any(|module| module == "landlock");
        assert_eq!(has_it, *landlock != known[2], "{landlock} where the kernel has {modules}");
    }
    let has_files = *landlock != known[2];
    let has_sockets = *landlock == known[0];
    if !has_sockets {
        eprintln!("Landlock of this kernel is {landlock}: what it cannot refuse is only tried");
    }
    let refused = |is_refused: bool| if is_refused { "refused" } else { "done" };
    for what in FILES {
        assert_eq!(confined[what], refused(has_files), "{what}: {confined:?}");
    }
    for what in SOCKETS {
        // Of a partial one it depends on the kernel's version how much of the sockets is restricted.
        if *landlock != known[1] {
            assert_eq!(confined[what], refused(has_sockets), "{what}: {confined:?}");
        }
    }
    for what in ALLOWED {
        assert_eq!(confined[what], "done", "{what}");
    }
}

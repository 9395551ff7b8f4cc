use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("etc/ssh")).unwrap();
    fs::write(tree.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    tree
}

/// The same tree as the kernel resolves it and as our own walk does.
fn both(tree: &tempfile::TempDir) -> [Host; 2] {
    let walking = Host::at(tree.path());
    walking.resolver.walk_always();
    [Host::at(tree.path()), walking]
}

fn problem(host: &Host, path: &str) -> Problem {
    host.read(path).unwrap_err().problem().clone()
}

#[test]
fn no_path_leaves_the_tree() {
    let tree = tree();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "outside").unwrap();
    fs::write(tree.path().join("secret"), "inside").unwrap();
    let etc = tree.path().join("etc");
    symlink(outside.path().join("secret"), etc.join("absolute")).unwrap();
    symlink("../../../../../../../../secret", etc.join("dots")).unwrap();
    symlink(outside.path(), etc.join("directory")).unwrap();
    symlink("/", etc.join("root")).unwrap();
    symlink("loop", etc.join("loop")).unwrap();
    for host in both(&tree) {
        assert_eq!(problem(&host, "/etc/absolute"), Problem::Missing);
        assert_eq!(problem(&host, "/etc/directory/secret"), Problem::Missing);
        assert_eq!(host.read("/etc/dots").unwrap(), b"inside");
        assert_eq!(host.read("/etc/root/secret").unwrap(), b"inside");
        assert_eq!(host.read("../../../secret").unwrap(), b"inside");
        assert_eq!(host.read("/etc/ssh/../../../secret").unwrap(), b"inside");
        assert!(matches!(problem(&host, "/etc/loop"), Problem::Io(_)));
        assert!(host.list("/etc/directory").is_err());
        assert_eq!(host.list("/etc/root/..").unwrap(), ["etc", "secret"]);
        assert!(host.lstat("/etc/directory/secret").unwrap_err().is_missing());
        assert!(host.stat("/etc/absolute").unwrap_err().is_missing());
        assert_eq!(host.lstat("/etc/absolute").unwrap().kind, Kind::Symlink);
        assert_eq!(host.read_link("/etc/root").unwrap(), "/");
        assert!(host.entry_of("/etc/directory/secret").is_err());
    }
}

#[test]
fn only_regular_files_are_read_and_nothing_blocks() {
    let tree = tree();
    let fifo = tree.path().join("etc/fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let _socket = UnixListener::bind(tree.path().join("etc/socket")).unwrap();
    for host in both(&tree) {
        // On a thread of its own, so that waiting for a writer is a failure and not a test that never ends.
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let error = host.read("/etc/fifo").unwrap_err();
            sender.send((host, error)).unwrap();
        });
        let (host, error) =
            receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("reading a FIFO blocks");
        assert_eq!(*error.problem(), Problem::NotRegular(Kind::Fifo));
        assert!(error.to_string().contains("/etc/fifo: a FIFO"), "{error}");
        assert!(matches!(problem(&host, "/etc/socket"), Problem::NotRegular(_)));
        assert_eq!(problem(&host, "/etc"), Problem::NotRegular(Kind::Directory));
        assert_eq!(problem(&host, "/etc/passwd/x"), Problem::NotADirectory);
        assert_eq!(host.directory("/etc/passwd").unwrap_err().problem(), &Problem::NotADirectory);
    }
    assert_eq!(problem(&Host::running(), "/dev/null"), Problem::NotRegular(Kind::CharacterDevice));
    assert_eq!(problem(&Host::running(), "/dev/tty0x"), Problem::Missing);
}

#[test]
fn sizes_are_bounded() {
    let tree = tree();
    let large = fs::File::create(tree.path().join("etc/large")).unwrap();
    large.set_len(MAX_FILE_BYTES + 1).unwrap();
    let host = Host::at(tree.path());
    assert_eq!(problem(&host, "/etc/large"), Problem::TooLarge { limit_bytes: MAX_FILE_BYTES });
    assert!(host.read_at_most("/etc/passwd", 5).is_err());
    assert_eq!(host.read_at_most("/etc/passwd", 26).unwrap().len(), 26);
    // A file of /proc has no size; the bound holds all the same.
    assert!(Host::running().read_at_most("/proc/self/status", 10).is_err());
    assert!(Host::running().read("/proc/self/status").unwrap().len() > 10);
}

#[test]
fn a_line_of_any_length_and_any_bytes_are_text() {
    let tree = tree();
    fs::write(tree.path().join("etc/long"), "x".repeat(5_000_000)).unwrap();
    fs::write(tree.path().join("etc/bom"), b"\xef\xbb\xbfa\r\nb\r\n").unwrap();
    fs::write(tree.path().join("etc/junk"), [0xff, 0, b'a', 0xc3]).unwrap();
    let host = Host::at(tree.path());
    assert_eq!(host.read_text("/etc/long").unwrap().len(), 5_000_000);
    assert_eq!(host.read_text("/etc/bom").unwrap().lines().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(host.read_text("/etc/junk").unwrap(), "\u{fffd}\0a\u{fffd}");
}

#[test]
fn what_was_looked_at_is_recorded_even_if_missing() {
    let tree = tree();
    let root = fs::canonicalize(tree.path()).unwrap();
    symlink("ssh/real", root.join("etc/link")).unwrap();
    fs::write(root.join("etc/ssh/real"), "").unwrap();
    for host in both(&tree) {
        host.read("/etc/link").unwrap();
        host.read("/etc/nothing").unwrap_err();
        host.list("/etc/ssh").unwrap();
        host.list("/etc/ssh.d").unwrap_err();
        host.directory("/etc").unwrap().subdirectory(c"ssh").unwrap();
        let touched = host.touched();
        let files = ["etc/link", "etc/nothing", "etc/ssh/real"].map(|file| root.join(file));
        assert_eq!(touched.files.into_iter().collect::<Vec<_>>(), files);
        let directories = ["etc", "etc/ssh", "etc/ssh.d"].map(|directory| root.join(directory));
        assert_eq!(touched.directories.into_iter().collect::<Vec<_>>(), directories);
    }
}

#[test]
fn names_are_sorted_and_foreign_bytes_are_shown() {
    let tree = tree();
    let foreign = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(tree.path().join("etc").join(foreign), "x").unwrap();
    let host = Host::at(tree.path());
    assert_eq!(host.list("/etc").unwrap(), ["caf\\xe9", "passwd", "ssh"]);
    let directory = host.directory("/etc/").unwrap();
    let entries = directory.entries().unwrap();
    assert_eq!(directory.path_of(entries[0].raw()), "/etc/caf\\xe9");
    assert_eq!(directory.open(entries[0].raw()).unwrap().bytes(9).unwrap(), b"x");
    assert_eq!(entries[2].kind(), Kind::Directory);
}

#[test]
fn files_that_vanish_or_are_closed_to_us_say_so() {
    let tree = tree();
    let host = Host::at(tree.path());
    let directory = host.directory("/etc").unwrap();
    fs::remove_file(tree.path().join("etc/passwd")).unwrap();
    assert!(directory.open(c"passwd").unwrap_err().is_missing());
    assert!(directory.lstat(c"passwd").unwrap_err().to_string().contains("/etc/passwd: no such file"));
    let closed = ReadError::new("/etc/shadow", Problem::of(Errno::ACCESS)).to_string();
    assert_eq!(closed, "/etc/shadow: permission denied: run nanoprobe as root to see it");
    if !rustix::process::geteuid().is_root() {
        let file = tree.path().join("etc/closed");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(problem(&host, "/etc/closed"), Problem::Denied);
    }
}

#[test]
fn small_files_are_read_into_a_buffer_by_their_mode() {
    let tree = tree();
    let write_only = tree.path().join("etc/trigger");
    fs::write(&write_only, "x").unwrap();
    fs::set_permissions(&write_only, fs::Permissions::from_mode(0o200)).unwrap();
    symlink("passwd", tree.path().join("etc/link")).unwrap();
    let host = Host::at(tree.path());
    let directory = host.directory("/etc").unwrap();
    let mut buffer = [0; 27];
    assert_eq!(directory.read_into(c"passwd", &mut buffer).unwrap().unwrap().len(), 26);
    assert_eq!(directory.read_into(c"passwd", &mut buffer[..26]).unwrap(), None);
    assert_eq!(directory.read_into(c"trigger", &mut buffer), Err(Problem::Denied));
    assert!(directory.read_into(c"link", &mut buffer).is_err());
    assert!(directory.open(c"link").is_err());
    assert!(!directory.is_automount(c"ssh"));
}

#[test]
fn included_files_together_are_bounded() {
    use crate::parse::Files;
    let tree = tree();
    fs::write(tree.path().join("etc/large"), vec![b'x'; MAX_FILE_BYTES as usize]).unwrap();
    let host = Host::at(tree.path());
    for _ in 0..MAX_TEXT_BYTES / MAX_FILE_BYTES {
        assert!(host.text("/etc/large").is_ok());
    }
    let refused = host.text("/etc/large").unwrap_err();
    assert!(!refused.absent && refused.why.contains("/etc/large: with it"), "{refused:?}");
    host.begin_run();
    assert!(host.text("/etc/large").is_ok());
}

#[test]
fn a_missing_root_is_named() {
    let host = Host::at(Path::new("/nonexistent/root"));
    let error = host.read("/etc/passwd").unwrap_err();
    assert_eq!(error.to_string(), "/nonexistent/root: no such file or directory");
    assert!(!host.is_running_system());
    assert!(Host::at(Path::new("/")).is_running_system());
    assert!(Host::at(Path::new("/tmp/..")).is_running_system());
}

#[test]
fn a_host_can_move_to_another_thread() {
    let host = Host::running();
    let name = std::thread::spawn(move || host.name()).join().unwrap();
    assert_eq!(name, Host::running().name());
}

proptest! {
    /// Whatever the path, the two ways of resolving it agree.
    #[test]
    fn walk_and_kernel_agree(path in "(/|\\.\\./|\\./|etc/|ssh/|up/|abs/|slash|passwd/?){0,8}") {
        let tree = tree();
        symlink("..", tree.path().join("etc/ssh/up")).unwrap();
        symlink("/etc", tree.path().join("abs")).unwrap();
        symlink("passwd/", tree.path().join("etc/slash")).unwrap();
        let [kernel, walk] = both(&tree);
        let text = |host: &Host| host.read(&path).map_err(|error| error.problem().clone());
        prop_assert_eq!(text(&kernel), text(&walk));
    }
}

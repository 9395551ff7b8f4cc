use super::*;
use std::path::Path;

const LONG_AFTER: i64 = 4_000_000_000;

fn parameters(files: &str, directories: &str) -> Parameters {
    let mut parameters: Parameters =
        DISCOVERY.parameters.iter().map(|p| (p.name.to_owned(), p.default.to_owned())).collect();
    parameters.insert("ASSIM_filelist".into(), files.into());
    parameters.insert("directories".into(), directories.into());
    parameters
}

fn host(tree: &Path, state: &Path) -> Host {
    Host::at(tree).with_state(state.to_owned())
}

fn run(host: &Host, parameters: &Parameters) -> Collected {
    checksums(host, parameters, LONG_AFTER, Instant::now() + Duration::from_secs(60)).0
}

#[test]
fn sums_are_those_of_sha256sum() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(tree.path().join("d/e")).unwrap();
    std::fs::write(tree.path().join("empty"), "").unwrap();
    std::fs::write(tree.path().join("d/e/abc"), "abc").unwrap();
    std::fs::write(tree.path().join("d/large"), vec![b'a'; 1_000_000]).unwrap();
    std::os::unix::fs::symlink("e/abc", tree.path().join("d/link")).unwrap();
    std::os::unix::fs::symlink("d/e/abc", tree.path().join("named")).unwrap();
    let state = tempfile::tempdir().unwrap();
    let found = run(&host(tree.path(), state.path()), &parameters("/empty /named /missing", "/d /nowhere"));
    // FIPS 180-2: "abc", one million letters a; and nothing.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let expected = json!({
        "/d/e/abc": abc,
        "/d/large": "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        "/empty": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "/named": abc,
    });
    assert_eq!(found.data, expected);
    assert_eq!(found.errors, [""; 0]);
    assert_eq!(found.extras.keys().collect::<Vec<_>>(), ["sumcmd"]);
}

#[test]
fn a_file_is_read_again_only_when_it_changed() {
    let tree = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let path = tree.path().join("a");
    std::fs::write(&path, "one").unwrap();
    let asked = parameters("/a", "");
    let host = host(tree.path(), state.path());
    let first = run(&host, &asked).data["/a"].clone();
    // A clock that must not be reached: only what is remembered is told.
    let over = Instant::now();
    let remembered = checksums(&host, &asked, LONG_AFTER, over).0;
    assert_eq!((&remembered.data["/a"], remembered.extras.get("unread")), (&first, None));
    std::thread::sleep(Duration::from_millis(20));
    std::fs::write(&path, "two").unwrap();
    let left = checksums(&host, &asked, LONG_AFTER, over).0;
    assert!(left.data.as_object().unwrap().is_empty());
    assert!(left.extras["unread"]["/a"].as_str().unwrap().contains("next run"), "{:?}", left.extras);
    let second = run(&host, &asked).data["/a"].clone();
    assert!(second.is_string() && second != first);
    // Without a state nothing is remembered, and all is well.
    let stateless = run(&Host::at(tree.path()), &asked);
    assert_eq!((&stateless.data["/a"], stateless.errors.len()), (&second, 0));
    // Neither can a state that cannot be written do harm.
    std::fs::write(tree.path().join("file"), "").unwrap();
    let hopeless = run(&Host::at(tree.path()).with_state(tree.path().join("file/below")), &asked);
    assert_eq!((&hopeless.data["/a"], hopeless.errors.len()), (&second, 2), "{:?}", hopeless.errors);
}

#[test]
fn what_cannot_be_read_is_told_and_never_waited_for() {
    let tree = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    std::fs::create_dir(tree.path().join("directory")).unwrap();
    std::fs::File::create(tree.path().join("huge")).unwrap().set_len(1 << 40).unwrap();
    std::os::unix::fs::symlink("loop", tree.path().join("loop")).unwrap();
    let mut asked = parameters("/fifo /directory /huge /loop relative", "/ also-relative");
    asked.insert("max_file_bytes".into(), "1000".into());
    let found = run(&host(tree.path(), state.path()), &asked);
    assert_eq!(found.data, json!({}));
    let unread = found.extras["unread"].as_object().unwrap();
    assert_eq!(unread.keys().collect::<Vec<_>>(), ["/directory", "/fifo", "/huge", "/loop"]);
    assert!(
        unread["/fifo"].as_str().unwrap().contains("FIFO")
            && unread["/huge"].as_str().unwrap().contains("1000")
    );
    assert!(found.errors.iter().any(|error| error.contains("\"relative\"")), "{:?}", found.errors);
    assert!(found.errors.iter().any(|error| error.contains("also-relative")), "{:?}", found.errors);
    asked.insert("max_file_bytes".into(), "many".into());
    assert!(run(&host(tree.path(), state.path()), &asked).errors[0].contains("max_file_bytes"));
}

#[test]
fn the_package_stands_beside_the_sum() {
    let tree = tempfile::tempdir().unwrap();
    let info = tree.path().join("var/lib/dpkg/info");
    std::fs::create_dir_all(&info).unwrap();
    std::fs::create_dir(tree.path().join("bin")).unwrap();
    std::fs::write(tree.path().join("bin/sh"), "x").unwrap();
    std::fs::write(tree.path().join("var/lib/dpkg/status"), "Package: dash\nVersion: 0.5\n").unwrap();
    std::fs::write(info.join("dash.list"), "/bin/sh\n").unwrap();
    let found = run(&Host::at(tree.path()), &parameters("/bin/sh", ""));
    assert_eq!(found.extras["packages"], json!({"/bin/sh": "dash 0.5"}));
}

#[test]
fn programs_that_listen_are_covered_with_their_libraries() {
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let state = tempfile::tempdir().unwrap();
    let host = Host::running().with_state(state.path().to_owned());
    let found = run(&host, &parameters("", ""));
    let own = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let data = found.data.as_object().unwrap();
    assert!(
        data.contains_key(&own) && data.keys().any(|path| path.contains("/libc.so")),
        "{:?}",
        data.keys()
    );
    let seen = std::fs::read_to_string(state.path().join("checksums.seen")).unwrap();
    assert!(seen.lines().any(|line| line.ends_with(&own)), "{seen}");
}

#[test]
fn what_is_named_is_watched_and_what_directories_hold_is_not() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir(tree.path().join("d")).unwrap();
    for name in ["a", "d/b", "d/c"] {
        std::fs::write(tree.path().join(name), "x").unwrap();
    }
    std::os::unix::fs::symlink("a", tree.path().join("link")).unwrap();
    let host = Host::at(tree.path());
    let found = collect(&host, &parameters("/link /d/b /missing", "/d"));
    assert_eq!(found.data.as_object().unwrap().len(), 3);
    let root = std::fs::canonicalize(tree.path()).unwrap();
    let own = wanted::OWN.map(|path| path.trim_start_matches('/'));
    let expected = ["a", "d/b", "link", "missing"].into_iter().chain(own).map(|path| root.join(path));
    assert_eq!(host.touched(), crate::Touched { files: expected.collect(), directories: BTreeSet::new() });
}

#[test]
fn programs_that_listen_are_watched_and_what_they_had_and_is_gone_is_not() {
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let state = tempfile::tempdir().unwrap();
    let today = LONG_AFTER / 86_400;
    cache::write(state.path(), "checksums.seen", format!("{today} /tmp/gone-since\n").as_bytes()).unwrap();
    let host = Host::running().with_state(state.path().to_owned());
    let over = Instant::now() + Duration::from_secs(60);
    let (found, watched) = checksums(&host, &parameters("/not-yet-there", ""), LONG_AFTER, over);
    let own = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    assert!(watched.contains(&own) && watched.contains("/not-yet-there"), "{watched:?}");
    assert!(!watched.contains("/tmp/gone-since"), "{:?}", found.errors);
}

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const LIMITS: Limits = Limits { timeout: Duration::from_secs(20), output_bytes: 1 << 20, error_bytes: 1000 };

struct Rig(tempfile::TempDir);

impl Rig {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn script(&self, name: &str, body: &str) -> Executable {
        let path = self.0.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Executable { path, name: name.into(), instance: format!("_init_{name}") }
    }

    fn run(&self, body: &str, limits: Limits) -> Ended {
        let executable = self.script("x", body);
        run(&executable.path, &environment(&BTreeMap::new()), limits)
    }
}

fn failure(ended: Ended) -> String {
    ended.output.unwrap_err()
}

/// Whether a process still runs; a zombie does not.
fn alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_good_one_is_read_and_its_claims_are_overridden() {
    let rig = Rig::new();
    let body = r#"echo '{"discovertype":"x","description":"d","host":"evil","source":"evil","instance":"_init_sshd",
        "proxy":"local/local","data":{"argument":"'$1'"},"errors":["half"],"extra":1}'"#;
    let executable = rig.script("mine", body);
    let ended = run(&executable.path, &environment(&BTreeMap::new()), LIMITS);
    let envelope = envelope(&executable, "web1", &ended.output.unwrap()).unwrap();
    assert_eq!((envelope.host.as_str(), envelope.instance.as_str()), ("web1", "_init_mine"));
    assert_eq!(envelope.source, executable.path.display().to_string());
    assert_eq!(envelope.data["argument"], "discover");
    assert_eq!((envelope.errors.len(), envelope.extras["extra"].as_i64()), (1, Some(1)));
    assert!(!envelope.extras.contains_key("instance"));
}

#[test]
fn the_environment_is_minimal_and_has_the_parameters() {
    let rig = Rig::new();
    let executable = rig.script("env", "env");
    let given = [("ASSIM_filelist", "/etc"), ("LD_PRELOAD", "/evil.so"), ("PATH", "/evil"), ("a b", "x")];
    let parameters = given.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let text =
        String::from_utf8(run(&executable.path, &environment(&parameters), LIMITS).output.unwrap()).unwrap();
    assert!(text.contains("ASSIM_filelist=/etc\n"), "{text}");
    assert!(!text.contains("evil") && !text.contains("CARGO"), "{text}");
}

#[test]
fn a_hanging_one_is_stopped_with_all_its_children() {
    let rig = Rig::new();
    let pids = rig.0.path().join("pids");
    let body =
        format!("sleep 300 & echo $! > {0}; sleep 300 & echo $! >> {0}; trap '' TERM; wait", pids.display());
    let started = Instant::now();
    let limits = Limits { timeout: Duration::from_secs(1), ..LIMITS };
    assert!(failure(rig.run(&body, limits)).contains("longer than 1 s"));
    assert!(started.elapsed() < Duration::from_secs(10));
    let pids = fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 2);
    std::thread::sleep(Duration::from_millis(100));
    assert!(pids.lines().all(|pid| !alive(pid)), "{pids}");
}

#[test]
fn children_left_behind_are_killed_and_do_not_hold_up_the_result() {
    let rig = Rig::new();
    let pid = rig.0.path().join("pid");
    let started = Instant::now();
    let ended = rig.run(&format!("sleep 300 & echo $! > {}; echo done", pid.display()), LIMITS);
    assert_eq!(ended.output.unwrap(), b"done\n");
    assert!(started.elapsed() < Duration::from_secs(10));
    std::thread::sleep(Duration::from_millis(100));
    assert!(!alive(&fs::read_to_string(pid).unwrap()));
}

#[test]
fn output_without_end_is_cut_off() {
    let rig = Rig::new();
    let started = Instant::now();
    assert!(failure(rig.run("cat /dev/zero", LIMITS)).contains("more than 1048576 bytes"));
    assert!(started.elapsed() < Duration::from_secs(10));
    let ended = rig.run("head -c 5000000 /dev/zero >&2; echo out", LIMITS);
    assert_eq!((ended.output.unwrap().as_slice(), ended.error_text.len()), (b"out\n".as_slice(), 1000));
}

#[test]
fn other_failures_are_told_apart() {
    let rig = Rig::new();
    assert!(failure(rig.run("echo '{}'; exit 3", LIMITS)).contains('3'));
    assert!(failure(rig.run("kill -9 $$", LIMITS)).contains('9'));
    let missing = run(Path::new("/nonexistent/x"), &BTreeMap::new(), LIMITS);
    assert!(failure(missing).contains("cannot be started"));
}

#[test]
fn processor_time_is_measured() {
    let rig = Rig::new();
    let busy = rig.run("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", LIMITS);
    assert!(busy.cpu >= Duration::from_millis(30), "{:?}", busy.cpu);
    assert!(rig.run("sleep 0.3", LIMITS).cpu <= Duration::from_millis(20));
}

#[test]
fn wrong_texts_are_refused_with_their_reason() {
    let executable = Executable { path: "/x".into(), name: "x".into(), instance: "_init_x".into() };
    for (text, reason) in [
        ("", "nothing"),
        ("hello", "no JSON"),
        ("[1]", "no object"),
        (r#"{"discovertype":"x"}"#, "`data` is missing"),
        (r#"{"data":[],"discovertype":"x"}"#, "`data` is no object"),
        (r#"{"data":{}}"#, "`discovertype` is missing"),
        (r#"{"data":{},"discovertype":7}"#, "`discovertype` is no text"),
        (r#"{"data":{},"discovertype":"../x"}"#, "no plain name"),
        (r#"{"data":{},"discovertype":"x","errors":"e"}"#, "`errors` is no list"),
        (r#"{"data":{},"discovertype":"x","errors":[1]}"#, "`errors` holds"),
    ] {
        let error = envelope(&executable, "h", text.as_bytes()).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let deep = format!(r#"{{"discovertype":"x","data":{}{}}}"#, r#"{"a":"#.repeat(5000), "}".repeat(5000));
    assert!(envelope(&executable, "h", deep.as_bytes()).is_err());
}

#[test]
fn only_files_that_nobody_else_can_change_are_found() {
    let shared = Rig::new();
    let site = Rig::new();
    shared.script("both", "");
    site.script("both", "");
    site.script("named", "# assimilation-instance: my_own");
    site.script("bad name", "");
    fs::write(site.0.path().join("plain"), "x").unwrap();
    fs::write(site.0.path().join("README"), "x").unwrap();
    fs::create_dir(site.0.path().join("directory")).unwrap();
    let open = site.script("open", "");
    fs::set_permissions(&open.path, fs::Permissions::from_mode(0o775)).unwrap();
    let directories = [shared.0.path().to_owned(), "/nonexistent".into(), site.0.path().to_owned()];
    let found = scan(&directories);
    let instances: Vec<&str> = found.executables.iter().map(|e| e.instance.as_str()).collect();
    assert_eq!(instances, ["_init_both", "my_own"]);
    assert!(found.executables[0].path.starts_with(site.0.path()));
    let problems = found.problems.join("\n");
    assert_eq!(found.problems.len(), 3, "{problems}");
    assert!(
        problems.contains("plain is not run: it is not executable") && problems.contains("chmod go-w"),
        "{problems}"
    );
    fs::set_permissions(site.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(scan(&directories[2..]).executables, []);
}

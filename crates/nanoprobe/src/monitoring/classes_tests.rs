//! The classes against real programs and servers: good, odd, hanging and hostile ones.

use super::super::state::Level;
use super::super::testing::service;
use super::*;
use monitors::Target;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

/// Directories with agents of the test's own.
struct Rig {
    folder: tempfile::TempDir,
    around: Around,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = MonitoringConfig::default();
        let around = Around {
            ocf_root: path("ocf"),
            init_scripts: path("init.d"),
            nagiospath: vec![path("first"), path("second")],
            systemd_socket: path("no socket"),
            systemd_units: path("units"),
            ..Around::new(&config, path("scratch"))
        };
        // As everybody may run what is here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, around }
    }

    fn script(&self, place: &str, body: &str) {
        let path = self.folder.path().join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn check(&self, monitor: &Monitor) -> Outcome {
        let checked = check(monitor, &self.around);
        assert!(checked.stray.is_none());
        checked.outcome
    }

    /// What an OCF agent with this body comes to.
    fn ocf(&self, body: &str) -> Outcome {
        self.script("ocf/resource.d/own/thing", body);
        self.check(&ocf())
    }

    fn nagios(&self, body: &str) -> Outcome {
        self.script("second/check_thing", body);
        self.check(&service(Class::Nagios, "check_thing", 1))
    }
}

fn ocf() -> Monitor {
    Monitor { provider: Some("own".into()), timeout_seconds: 20, ..service(Class::Ocf, "thing", 6379) }
}

fn said(outcome: &Outcome) -> (Level, &str) {
    (outcome.level, outcome.reason.as_str())
}

/// Whether a process still runs; a zombie does not.
fn alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

use Level::{Down, Up, Warn};

#[test]
fn exit_states_of_ocf_have_names() {
    let rig = Rig::new();
    for (code, level, reason) in [
        (0, Up, "running"),
        (1, Down, "error"),
        (2, Down, "wrong arguments"),
        (3, Down, "the agent has no action monitor"),
        (4, Down, "no permission"),
        (5, Down, "not installed"),
        (6, Down, "not configured"),
        (7, Down, "not running"),
        (8, Up, "running as promoted"),
        (9, Down, "promoted and failed"),
        (190, Warn, "running, but degraded"),
        (77, Down, "the agent ended with 77, which means nothing"),
    ] {
        let outcome = rig.ocf(&format!("exit {code}"));
        assert_eq!((said(&outcome), outcome.rc), ((level, reason), Some(code)));
    }
    let outcome = rig.ocf("echo; echo 'it is down'; echo more; echo error >&2; exit 7");
    assert_eq!(said(&outcome), (Down, "not running: it is down"));
    assert_eq!(outcome.output, "more\nerror");
    let outcome = rig.ocf("echo 'ocf-exit-reason:no port' >&2; exit 6");
    assert_eq!(said(&outcome), (Down, "not configured: ocf-exit-reason:no port"));
}

#[test]
fn an_ocf_agent_gets_its_parameters_and_nothing_else() {
    let rig = Rig::new();
    rig.script("ocf/resource.d/own/thing", "env | sort; exit 0");
    let mut monitor = ocf();
    monitor.env.insert("bad name".into(), "x".into());
    let outcome = rig.check(&monitor);
    for line in [
        "OCF_RESKEY_port=6379",
        "OCF_RESKEY_CRM_meta_interval=15000",
        "OCF_RESOURCE_PROVIDER=own",
        "OCF_RESOURCE_TYPE=thing",
        "OCF_RA_VERSION_MAJOR=1",
        &format!("OCF_ROOT={}", rig.path("ocf").display()),
        &format!("HA_RSCTMP={}", rig.path("scratch").display()),
        "OCF_RESOURCE_INSTANCE=web1_ocf_thing__00000000000018eb",
    ] {
        assert!(outcome.output.lines().any(|known| known == line), "{line} in {}", outcome.output);
    }
    assert!(!outcome.output.contains("CARGO") && !outcome.output.contains("bad name"), "{}", outcome.output);
    assert!(rig.path("scratch").is_dir());
    rig.script("ocf/resource.d/own/thing", "echo $1; exit 0");
    assert_eq!(said(&rig.check(&ocf())), (Up, "running: monitor"));
}

#[test]
fn a_hanging_agent_is_ended_with_all_that_it_started() {
    let rig = Rig::new();
    let pids = rig.path("pids");
    rig.script(
        "ocf/resource.d/own/thing",
        &format!(
            "trap '' TERM\nsleep 300 & echo $! >> {0}\nsetsid sleep 300 & echo $! >> {0}\n\
             (setsid sh -c 'sleep 300 & echo $! >> {0}' &)\necho begun; sleep 300; wait",
            pids.display()
        ),
    );
    let outcome = rig.check(&Monitor { timeout_seconds: 1, ..ocf() });
    assert_eq!(said(&outcome), (Down, "timed out after 1 s"));
    assert_eq!((outcome.output.as_str(), outcome.rc), ("begun", None));
    let pids = fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 3);
    std::thread::sleep(Duration::from_millis(200));
    assert!(pids.lines().all(|pid| !alive(pid)), "{pids}");
}

#[test]
fn one_that_ends_on_sigterm_may_clean_up() {
    let rig = Rig::new();
    let flag = rig.path("cleaned");
    let body = format!("trap 'echo x > {}; exit 0' TERM\nsleep 300 & wait", flag.display());
    rig.script("ocf/resource.d/own/thing", &body);
    let outcome = rig.check(&Monitor { timeout_seconds: 1, ..ocf() });
    assert_eq!(said(&outcome), (Down, "timed out after 1 s"));
    assert!(flag.exists());
}

#[test]
fn a_grandchild_that_keeps_the_pipe_open_holds_up_nothing() {
    let rig = Rig::new();
    let pid = rig.path("pid");
    let started = Instant::now();
    let outcome =
        rig.ocf(&format!("setsid sh -c 'echo $$ > {}; sleep 300' & sleep 0.3; exit 0", pid.display()));
    assert_eq!(said(&outcome), (Up, "running"));
    assert!(started.elapsed() < Duration::from_secs(15));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!alive(&fs::read_to_string(pid).unwrap()));
}

#[test]
fn output_without_end_is_read_up_to_a_limit() {
    let rig = Rig::new();
    let outcome = rig.ocf("head -c 100000000 /dev/zero | tr '\\0' x; exit 0");
    assert_eq!(said(&outcome), (Down, "monitoring printed more than 16 MiB and was stopped"));
    assert!(outcome.output.len() <= 4096);
    // Much, but not without end: read, and mostly thrown away.
    let outcome =
        rig.ocf("echo fine; head -c 5000000 /dev/zero | tr '\\0' x; head -c 5000000 /dev/zero >&2; exit 0");
    assert_eq!(said(&outcome), (Up, "running: fine"));
    assert!((4000..=4096).contains(&outcome.output.len()), "{}", outcome.output.len());
}

#[test]
fn a_signal_is_told() {
    let rig = Rig::new();
    let outcome = rig.ocf("echo dying; kill -9 $$");
    assert_eq!((said(&outcome), outcome.signal), ((Down, "monitoring was killed by signal 9"), Some(9)));
    assert_eq!((outcome.rc, outcome.output.as_str()), (None, "dying"));
}

#[test]
fn secrets_are_not_told() {
    let mut rig = Rig::new();
    rig.around.secrets = vec!["configured".into()];
    rig.script(
        "second/check_thing",
        "echo \"no login with $password and $given at $ip, $2 | a=$password\"; echo \"url http://u:pw@h $3 $5 $7\"; exit 2",
    );
    let mut monitor = service(Class::Nagios, "check_thing", 1);
    monitor.env.insert("password".into(), "geheim".into());
    monitor.env.insert("given".into(), "configured".into());
    monitor.argv =
        ["--password", "topsecret", "plain", "-p", "8080", "-p", "hidden"].map(String::from).to_vec();
    let outcome = rig.check(&monitor);
    assert_eq!(said(&outcome), (Down, "no login with *** and *** at 127.0.0.1, ***"));
    assert_eq!(
        (outcome.output.as_str(), outcome.perfdata.as_str()),
        ("url http://u:***@h plain 8080 ***", "a=***")
    );
}

#[test]
fn control_characters_do_not_pass() {
    let rig = Rig::new();
    let outcome = rig.nagios("printf 'a\\033[2Jb\\nc\\033d\\n'; exit 1");
    assert_eq!(said(&outcome), (Warn, "a\\u{1b}[2Jb"));
    assert_eq!(outcome.output, "c\\u{1b}d");
}

#[test]
fn plug_ins_answer_in_four_states() {
    let rig = Rig::new();
    for (code, level, reason) in [
        (0, Up, "X OK"),
        (1, Warn, "X OK"),
        (2, Down, "X OK"),
        (3, Warn, "unknown: X OK"),
        (42, Warn, "unknown: the plug-in ended with 42: X OK"),
    ] {
        let outcome = rig.nagios(&format!("echo 'X OK | t=1s'; exit {code}"));
        assert_eq!((said(&outcome), outcome.rc), ((level, reason), Some(code)));
        assert_eq!(outcome.perfdata, "t=1s");
    }
    assert_eq!(said(&rig.nagios("exit 2")), (Down, "CRITICAL"));
    let outcome = rig.nagios("echo $NAGIOS_RESOURCE_INSTANCE $port; exit 0");
    assert_eq!(said(&outcome), (Up, "web1:nagios:check_thing::0000000000000001 1"));
    rig.script("first/check_thing", "echo first; exit 0");
    assert_eq!(said(&rig.check(&service(Class::Nagios, "check_thing", 1))), (Up, "first"));
}

#[test]
fn performance_data_are_taken_apart() {
    let text = nagios::text("DISK OK | /=1MB\nline 2\nline 3 | /boot=68MB\n/home=69MB\n");
    assert_eq!((text.message, text.more.as_str()), ("DISK OK", "line 2\nline 3"));
    assert_eq!(text.perfdata, "/=1MB /boot=68MB /home=69MB");
    for odd in ["", "|", "\n\n", "a|b|c", "|||\n|"] {
        nagios::text(odd);
    }
    assert_eq!(nagios::text("a|b|c").perfdata, "b|c");
}

#[test]
fn init_scripts_answer_by_their_status() {
    let rig = Rig::new();
    for (code, level, reason) in [
        (0, Up, "running: status"),
        (1, Down, "dead, and its pid file is there: status"),
        (2, Down, "dead, and its lock file is there: status"),
        (3, Down, "not running: status"),
        (4, Warn, "unknown: status"),
        (150, Warn, "unknown: the script ended with 150: status"),
    ] {
        rig.script("init.d/thing", &format!("echo $1; exit {code}"));
        assert_eq!(said(&rig.check(&service(Class::Lsb, "thing", 1))), (level, reason));
    }
}

#[test]
fn names_and_files_that_are_not_to_be_trusted_are_refused() {
    let rig = Rig::new();
    let refused = |monitor: &Monitor| {
        let outcome = rig.check(monitor);
        assert_eq!(outcome.level, Down);
        assert!(outcome.reason.starts_with("invalid monitoring request: "), "{}", outcome.reason);
        outcome.reason
    };
    for name in ["", "../thing", "a/b", "..", ".hidden", "a..b", "a\0b"] {
        for class in [Class::Nagios, Class::Lsb, Class::Ocf] {
            let monitor = Monitor { agent: name.into(), ..service(class, "x", 1) };
            refused(&Monitor { provider: Some("own".into()), ..monitor });
        }
        refused(&Monitor { provider: Some(name.into()), ..service(Class::Ocf, "thing", 1) });
    }
    refused(&service(Class::Ocf, "without-provider", 1));
    refused(&Monitor { agent: "a/b".into(), ..service(Class::Systemd, "x", 1) });
    assert!(refused(&service(Class::Nagios, "check_none", 1)).contains("install it"));
    rig.script("second/check_thing", "exit 0");
    let path = rig.path("second/check_thing");
    let user = Monitor { user: "no such user".into(), ..service(Class::Nagios, "check_thing", 1) };
    assert!(refused(&user).contains("there is no user"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refused(&service(Class::Nagios, "check_thing", 1)).contains("chmod go-w"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&service(Class::Nagios, "check_thing", 1)).contains("no executable file"));
}

#[test]
fn another_user_has_no_more_than_his_own_rights() {
    let rig = Rig::new();
    let monitor = Monitor { user: "nobody".into(), ..service(Class::Nagios, "check_thing", 1) };
    rig.script("second/check_thing", "echo \"$(id -un) $(id -G | wc -w)\"; exit 0");
    let outcome = rig.check(&monitor);
    if rustix::process::geteuid().is_root() {
        assert_eq!(said(&outcome), (Up, "nobody 1"));
        // A plug-in of that user runs as that user, and as nobody else.
        let path = rig.path("second/check_thing");
        let nobody = Some(rustix::fs::Uid::from_raw(65534));
        rustix::fs::chown(&path, nobody, None).unwrap();
        assert_eq!(rig.check(&monitor).level, Up);
        let as_root = Monitor { user: String::new(), ..monitor };
        assert!(rig.check(&as_root).reason.contains("belongs to user 65534"));
    } else {
        assert!(outcome.reason.contains("does not run as root"), "{}", outcome.reason);
    }
}

#[test]
fn states_of_units() {
    let state = |load: &str, active: &str, sub: &str, result: &str, code: i32, status: i32| {
        let state = discovery::systemd::UnitState {
            load: load.into(),
            active: active.into(),
            sub: sub.into(),
            result: result.into(),
            exit_code: code,
            exit_status: status,
        };
        let outcome = systemd::judge("x.service", &state);
        (outcome.level, outcome.reason)
    };
    for (given, level, words) in [
        (state("loaded", "active", "running", "success", 0, 0), Up, "active (running)"),
        (state("loaded", "reloading", "reload", "success", 0, 0), Up, "reloading"),
        (state("not-found", "active", "running", "success", 0, 0), Up, "active"),
        (state("loaded", "activating", "start", "success", 0, 0), Warn, "starting (start)"),
        (
            state("loaded", "activating", "auto-restart", "exit-code", 1, 203),
            Down,
            "exit-code, exit status 203",
        ),
        (state("loaded", "failed", "failed", "signal", 2, 9), Down, "failed: signal, killed by signal 9"),
        (state("loaded", "failed", "failed", "oom-kill", 0, 0), Down, "oom-kill"),
        (state("loaded", "inactive", "dead", "success", 1, 0), Down, "not running"),
        (state("loaded", "deactivating", "stop-sigterm", "success", 0, 0), Down, "deactivating"),
        (state("not-found", "inactive", "dead", "", 0, 0), Down, "no unit x.service any more"),
        (state("masked", "inactive", "dead", "", 0, 0), Down, "masked"),
    ] {
        assert_eq!(given.0, level, "{}", given.1);
        assert!(given.1.contains(words), "{} in {}", words, given.1);
    }
    assert_eq!(systemd::unit("postgresql@15-main"), "postgresql@15-main.service");
    assert_eq!(systemd::unit("docker.socket"), "docker.socket");
}

#[test]
fn without_the_socket_a_unit_with_a_process_counts() {
    let rig = Rig::new();
    let monitor = service(Class::Systemd, "ssh", 22);
    let outcome = rig.check(&monitor);
    assert_eq!(outcome.level, Warn, "neither the socket nor the directory: {}", outcome.reason);
    fs::create_dir(rig.path("units")).unwrap();
    assert_eq!(rig.check(&monitor).level, Down);
    std::os::unix::fs::symlink("1234", rig.path("units/invocation:ssh.service")).unwrap();
    assert_eq!(rig.check(&monitor).level, Up);
}

#[test]
fn the_host_itself_and_what_is_left_alone() {
    let rig = Rig::new();
    rig.script("second/check_load", "echo OK; exit 0");
    let monitor =
        Monitor { target: Target::Host, env: BTreeMap::new(), ..service(Class::Nagios, "check_load", 1) };
    assert_eq!(said(&rig.check(&monitor)), (Up, "OK"));
    assert_eq!(rig.check(&service(Class::NeverMon, "skype", 1)).reason, "deliberately not looked after");
}

/// A package of Debian that this test works with.
fn needed(path: &str, package: &str) {
    assert!(Path::new(path).exists(), "{path} is missing: sudo apt-get install {package}");
}

#[test]
fn plug_ins_of_debian() {
    needed("/usr/lib/nagios/plugins/check_tcp", "monitoring-plugins-basic");
    let around = Around::new(&MonitoringConfig::default(), "/nonexistent".into());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let monitor = Monitor {
        argv: ["-H", "127.0.0.1", "-p", &port.to_string()].map(String::from).to_vec(),
        ..service(Class::Nagios, "check_tcp", port)
    };
    let outcome = check(&monitor, &around).outcome;
    assert_eq!((outcome.level, outcome.rc), (Up, Some(0)), "{}", outcome.reason);
    assert!(outcome.reason.starts_with("TCP OK") && outcome.perfdata.starts_with("time="), "{outcome:?}");
    drop(listener);
    let outcome = check(&monitor, &around).outcome;
    assert_eq!((outcome.level, outcome.rc), (Down, Some(2)), "{}", outcome.reason);
    let disk = |limits: [&str; 4]| Monitor {
        argv: limits.map(String::from).to_vec(),
        ..service(Class::Nagios, "check_disk", 1)
    };
    let full = disk(["-w", "100%", "-c", "0%"]);
    assert_eq!(check(&full, &around).outcome.level, Warn);
    let wrong = Monitor { argv: vec!["--no-such-option".into()], ..full };
    let outcome = check(&wrong, &around).outcome;
    assert_eq!((outcome.level, outcome.rc), (Warn, Some(3)), "{}", outcome.reason);
}

#[test]
fn an_ocf_agent_of_debian() {
    let agent = "/usr/lib/ocf/resource.d/heartbeat/Dummy";
    needed(agent, "resource-agents");
    let folder = tempfile::tempdir().unwrap();
    let around = Around::new(&MonitoringConfig::default(), folder.path().join("rsctmp"));
    let state = folder.path().join("state").display().to_string();
    let monitor = Monitor {
        provider: Some("heartbeat".into()),
        env: BTreeMap::from([("state".to_owned(), state.clone())]),
        ..service(Class::Ocf, "Dummy", 1)
    };
    let outcome = check(&monitor, &around).outcome;
    assert_eq!((outcome.level, outcome.rc), (Down, Some(7)), "{outcome:?}");
    assert!(outcome.reason.starts_with("not running"), "{}", outcome.reason);
    fs::write(&state, "").unwrap();
    let outcome = check(&monitor, &around).outcome;
    assert_eq!((outcome.level, outcome.rc), (Up, Some(0)), "{outcome:?}");
}

/// Answers one connection after the other.
fn server(answer: impl Fn(std::net::TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(&answer));
    port
}

fn built_in(class: Class, port: u16, parameters: &[(&str, &str)]) -> Outcome {
    let mut monitor = Monitor { timeout_seconds: 2, ..service(class, "x", port) };
    monitor.env.extend(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let around = Around::new(&MonitoringConfig::default(), "/nonexistent".into());
    check(&monitor, &around).outcome
}

#[test]
fn a_port_takes_connections_or_not_and_says_what_is_expected() {
    let port = server(|mut stream| drop(stream.write_all(b"220 mail ESMTP\r\n")));
    assert_eq!(built_in(Class::Tcp, port, &[]).level, Up);
    for (expected, level) in [("220 ", Up), ("ESMTP\\r\\n", Up), ("SSH-", Warn)] {
        let outcome = built_in(Class::Tcp, port, &[("expect", expected)]);
        assert_eq!(outcome.level, level, "{}", outcome.reason);
    }
    let echo = server(|mut stream| {
        let mut buffer = [0; 64];
        let count = stream.read(&mut buffer).unwrap_or(0);
        let _ = stream.write_all(&buffer[..count]);
    });
    assert_eq!(built_in(Class::Tcp, echo, &[("send", "PING\\r\\n"), ("expect", "PING\\r\\n")]).level, Up);
    let mute = server(|mut stream| drop(stream.read(&mut [0; 64])));
    let outcome = built_in(Class::Tcp, mute, &[("expect", "x")]);
    assert_eq!(said(&outcome), (Down, "timed out after 2 s"));
    let closing = server(drop);
    assert_eq!(built_in(Class::Tcp, closing, &[("expect", "x")]).level, Down);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let outcome = built_in(Class::Tcp, free, &[]);
    assert_eq!(outcome.level, Down);
    assert!(outcome.reason.contains("refused"), "{}", outcome.reason);
    for wrong in [("ip", "somewhere"), ("port", "0"), ("port", "x"), ("port", "70000")] {
        assert!(built_in(Class::Tcp, port, &[wrong]).reason.starts_with("invalid"), "{wrong:?}");
    }
    assert_eq!(built_in(Class::Tcp, port, &[("ip", "0.0.0.0")]).level, Up);
}

use super::*;
use crate::MonitorRules;
use model::config::MonitorOverride;
use proptest::prelude::*;
use serde_json::json;

fn rules() -> MonitorRules {
    MonitorRules::load(&[], &BTreeMap::new()).0
}

fn agents() -> Value {
    json!({"nagios": ["check_ssh", "check_http", "check_load"], "lsb": ["ssh"], "ocf": ["heartbeat/named"],
        "systemd": ["ssh", "cron"]})
}

fn services() -> Value {
    json!({"ssh.service": {"active": "active", "enabled": "enabled"}, "own.service": {"active": "active", "enabled": "enabled"},
        "inst@.service": {"enabled": "static"}})
}

fn chosen_with(config: &MonitoringConfig, agents: &Value, processes: Value) -> Choice {
    let (commands, services) = (json!({}), services());
    let findings = Findings {
        tcpdiscovery: &processes,
        monitoringagents: agents,
        commands: &commands,
        services: &services,
    };
    rules().choose(&Designation::new("web1").unwrap(), config, findings)
}

fn choose(agents: &Value, processes: Value) -> Choice {
    chosen_with(&MonitoringConfig::default(), agents, processes)
}

fn entry(exe: &str, listen: &[&str]) -> Value {
    let listen: serde_json::Map<String, Value> =
        listen.iter().map(|address| (address.to_string(), Value::from("tcp"))).collect();
    json!({"exe": exe, "cmdline": [exe], "uid": 0, "proxy": "local/local", "listenaddrs": listen})
}

fn with(mut entry: Value, name: &str, value: Value) -> Value {
    entry[name] = value;
    entry
}

/// `class:agent` of those that look after services.
fn of_services(choice: &Choice) -> Vec<String> {
    let services = choice.monitors.iter().filter(|monitor| monitor.target != Target::Host);
    services.map(|monitor| format!("{}:{}", monitor.class.as_str(), monitor.agent)).collect()
}

#[test]
fn the_best_wins_whatever_the_order_of_rules() {
    let sshd =
        json!({"sshd:1": with(entry("/usr/sbin/sshd", &["0.0.0.0:22"]), "unit", "ssh.service".into())});
    // The init script does not displace the plug-in, nor does anything else that tells less.
    assert_eq!(of_services(&choose(&agents(), sshd.clone())), ["nagios:check_ssh"]);
    // A plug-in that is not there leaves the built-in connection, which tells more than a unit.
    assert_eq!(of_services(&choose(&json!({"lsb": ["ssh"]}), sshd)), ["tcp:ssh"]);
    // Of HIGH and MED the former.
    let named = json!({"named:1": with(entry("/usr/sbin/named", &["0.0.0.0:53"]), "user", "bind".into())});
    let (commands, all) = (json!({"host": null}), agents());
    let findings =
        Findings { tcpdiscovery: &named, monitoringagents: &all, commands: &commands, services: &json!({}) };
    let choice = rules().choose(&Designation::new("web1").unwrap(), &MonitoringConfig::default(), findings);
    assert_eq!(of_services(&choice), ["ocf:named"]);
    assert_eq!(choice.monitors.iter().filter(|m| m.class == Class::Ocf).count(), 1);
}

#[test]
fn ranks_are_a_total_order() {
    let rank_of = |class: &str, prio: &str| {
        let extra = match class {
            "ocf" => r#", "provider": "p""#.to_owned(),
            "nagios" => format!(r#", "prio": "{prio}", "initargs": [], "objclass": "service""#),
            "tcp" | "http" => format!(r#", "prio": "{prio}""#),
            _ => String::new(),
        };
        let tuple = if matches!(class, "lsb" | "systemd") { r#"["a", "a"]"# } else { r#"["-", "a", "a"]"# };
        let text = format!(r#"{{"class": "{class}", "type": "x"{extra}, "classconfig": [{tuple}]}}"#);
        rank(&crate::rule::parse(&text, "x").unwrap())
    };
    let order = [
        ("ocf", ""),
        ("nagios", "high"),
        ("http", "high"),
        ("nagios", "med"),
        ("http", "med"),
        ("tcp", "med"),
        ("nagios", "low"),
        ("http", "low"),
        ("tcp", "low"),
        ("systemd", ""),
        ("lsb", ""),
    ];
    let ranks: Vec<_> = order.iter().map(|(class, prio)| rank_of(class, prio)).collect();
    assert!(ranks.windows(2).all(|pair| pair[0] > pair[1]), "{ranks:?}");
}

#[test]
fn whatever_is_found_is_watched_or_has_a_reason() {
    let processes = json!({
        "own:1": with(entry("/opt/own", &["0.0.0.0:7000"]), "unit", "own.service".into()),
        "inst:1": with(entry("/opt/inst", &["0.0.0.0:7001"]), "unit", "inst@a.service".into()),
        "hand:1": with(entry("/opt/by hand", &[":::7002", "[::1]:40000"]), "unit", "session-3.scope".into()),
        "dev:1": with(with(entry("/home/joe/dev", &["127.0.0.1:8000"]), "unit", "session-3.scope".into()), "uid", 1000.into()),
        "app:1": with(with(entry("/home/joe/app", &["127.0.0.1:8001"]), "unit", "user@1000.service".into()), "uid", 1000.into()),
        "random:1": entry("/opt/random", &["127.0.0.1:41234"]),
        "udp:1": {"exe": "/opt/udp", "uid": 0, "listenaddrs": {"0.0.0.0:69": "udp"}},
        "nginx:2": with(entry("/usr/sbin/nginx", &["0.0.0.0:80"]), "proxy", "docker/0123".into()),
        "other:3": with(entry("/usr/sbin/nginx", &["0.0.0.0:80"]), "netns", "blue".into()),
        "gone:4": with(entry("/opt/gone", &["0.0.0.0:7003"]), "unit", "run-u12.service".into()),
        "client:5": {"exe": "/usr/bin/client", "clientaddrs": {"10.0.0.1:80": "tcp"}},
        "unknown:6": {"proxy": "local/local", "listenaddrs": {"10.0.0.7:7004": "tcp"}},
        "dropbox:7": with(entry("/home/joe/.dropbox-dist/x/dropbox", &["0.0.0.0:17500"]), "uid", 1000.into()),
        "broken:8": 7,
    });
    let choice = choose(&json!({}), processes);
    assert_eq!(
        of_services(&choice),
        ["NEVERMON:dropbox", "systemd:inst@a", "systemd:own", "tcp:by_hand", "tcp:gone"]
    );
    let told: Vec<&str> = choice.unmonitored.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(told, ["app:1", "dev:1", "nginx:2", "other:3", "random:1", "udp:1", "unknown:6"]);
    let why = |key: &str| choice.unmonitored.iter().find(|(known, _)| known == key).unwrap().1.as_str();
    assert!(why("dev:1").contains("session") && why("app:1").contains("session"));
    assert!(why("nginx:2").contains("docker/0123") && why("other:3").contains("blue"));
    assert!(why("random:1").contains("kernel's choice") && why("udp:1").contains("no TCP"));
    assert!(why("unknown:6").contains("cannot be seen"));
    let by_hand = choice.monitors.iter().find(|monitor| monitor.agent == "by_hand").unwrap();
    assert_eq!((by_hand.env["ip"].as_str(), by_hand.env["port"].as_str()), ("::1", "7002"));
    let Target::Service { process, pathname, listen } = &by_hand.target else { panic!() };
    assert_eq!((process.as_str(), pathname.as_str(), listen.len()), ("hand:1", "/opt/by hand", 2));
}

#[test]
fn certificates_come_in_addition() {
    let nginx = json!({"nginx:1": entry("/usr/sbin/nginx", &["0.0.0.0:80", "0.0.0.0:443", "0.0.0.0:8443"])});
    assert_eq!(of_services(&choose(&json!({}), nginx)), ["http:nginx", "tls:https-8443", "tls:https"]);
    let own = json!({"own:1": entry("/opt/own", &["0.0.0.0:443"])});
    assert_eq!(of_services(&choose(&json!({}), own)), ["tcp:own", "tls:https"]);
}

#[test]
fn a_value_that_is_missing_is_told_or_supplied_by_hand() {
    let agents = json!({"nagios": ["check_pgsql"]});
    let postgres = json!({"postgres:1": entry("/usr/bin/postgres", &["127.0.0.1:5432"])});
    // The next best looks after it meanwhile.
    assert_eq!(of_services(&choose(&agents, postgres.clone())), ["tcp:postgresql"]);
    let mut config = MonitoringConfig::default();
    let by_hand = |password: &str| MonitorOverride {
        argv: vec!["-v".into()],
        env: BTreeMap::from([("-l".into(), "monitor".into()), ("PGPASSWORD".into(), password.into())]),
        user: Some("nagios".into()),
        timeout: Some(9),
        ..MonitorOverride::default()
    };
    config.agents.insert("nagios::check_pgsql/web1".into(), by_hand("secret"));
    let choice = chosen_with(&config, &agents, postgres.clone());
    let monitor = choice.monitors.iter().find(|monitor| monitor.target != Target::Host).unwrap();
    assert_eq!(monitor.argv, ["-v", "-H", "127.0.0.1", "-P", "5432", "-l", "monitor"]);
    assert_eq!(monitor.env, BTreeMap::from([("PGPASSWORD".to_owned(), "secret".to_owned())]));
    assert_eq!((monitor.user.as_str(), monitor.timeout_seconds, monitor.repeat_seconds), ("nagios", 9, 15));
    // Another password is the same monitor; another port is another.
    config.agents.insert("nagios::check_pgsql/web1".into(), by_hand("changed"));
    let again = chosen_with(&config, &agents, postgres);
    assert!(again.monitors.iter().any(|other| other.name == monitor.name && other.env != monitor.env));
    let moved = json!({"postgres:1": entry("/usr/bin/postgres", &["127.0.0.1:5433"])});
    assert!(chosen_with(&config, &agents, moved).monitors.iter().all(|other| other.name != monitor.name));
}

#[test]
fn settings_hold_for_what_no_rule_knows() {
    let mut config = MonitoringConfig::default();
    let env =
        BTreeMap::from([("expect".to_owned(), "hello".to_owned()), ("ip".to_owned(), "10.0.0.7".to_owned())]);
    config.agents.insert("tcp::own".into(), MonitorOverride { env, ..MonitorOverride::default() });
    let own = || json!({"own:1": entry("/opt/own", &["0.0.0.0:7"])});
    let choice = chosen_with(&config, &json!({}), own());
    let monitor = &choice.monitors[0];
    assert_eq!((monitor.rule.as_str(), monitor.env["ip"].as_str()), ("fallback:tcp", "10.0.0.7"));
    assert_eq!((monitor.env["port"].as_str(), monitor.env["expect"].as_str()), ("7", "hello"));
    assert_eq!(monitor.name, choose(&json!({}), own()).monitors[0].name);
}

#[test]
fn what_is_switched_off_is_not_replaced() {
    let mut config = MonitoringConfig::default();
    let off = MonitorOverride { enabled: Some(false), ..MonitorOverride::default() };
    config.agents.insert("nagios::check_ssh".into(), off.clone());
    config.agents.insert("nagios::check_load/web1".into(), off.clone());
    config.agents.insert("tcp::own".into(), off);
    let processes = json!({"sshd:1": entry("/usr/sbin/sshd", &["0.0.0.0:22"]), "own:1": entry("/opt/own", &["0.0.0.0:7"])});
    let choice = chosen_with(&config, &agents(), processes.clone());
    assert!(choice.monitors.is_empty(), "{:?}", choice.monitors);
    assert!(
        choice.unmonitored.iter().all(|(_, why)| why.contains("switched off"))
            && choice.unmonitored.len() == 2
    );
    config.enabled = false;
    assert_eq!(chosen_with(&config, &agents(), processes), Choice::default());
}

#[test]
fn names_are_the_same_whenever_it_is_found_again() {
    let processes = || json!({"sshd:1": entry("/usr/sbin/sshd", &["0.0.0.0:22"])});
    let names = |choice: Choice| choice.monitors.into_iter().map(|monitor| monitor.name).collect::<Vec<_>>();
    let first = names(choose(&agents(), processes()));
    assert_eq!(first, names(choose(&agents(), processes())));
    assert!(first.is_sorted());
    let ssh = first.iter().find(|name| name.contains("check_ssh")).unwrap();
    let hash = ssh.strip_prefix("web1:nagios:check_ssh::").unwrap();
    assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{ssh}");
    // Another command line of the same service is still that service.
    let other =
        json!({"sshd:2": with(entry("/usr/sbin/sshd", &["0.0.0.0:22"]), "cmdline", json!(["sshd", "-D"]))});
    assert_eq!(first, names(choose(&agents(), other)));
    let choice = choose(&agents(), processes());
    let monitor = choice.monitors.iter().find(|monitor| monitor.agent == "check_ssh").unwrap();
    assert_eq!(monitor.instance(), format!("_monitor_nagios:check_ssh::{hash}"));
    assert_eq!(monitor.rule, "check_ssh.mrule");
}

#[test]
fn one_outage_is_told_once() {
    let agents = json!({"systemd": ["docker", "cron"]});
    let active = || json!({"active": "active", "enabled": "enabled"});
    let services = json!({"docker.service": active(), "cron.service": active(), "idle.service": {"active": "active", "enabled": "static"},
        "idle.socket": active(), "cron.socket": {"active": "inactive"}});
    let commands = json!({});
    let choice = |processes: Value| {
        let findings = Findings {
            tcpdiscovery: &processes,
            monitoringagents: &agents,
            commands: &commands,
            services: &services,
        };
        rules().choose(&Designation::new("web1").unwrap(), &MonitoringConfig::default(), findings)
    };
    let named = |choice: &Choice| -> Vec<String> {
        choice
            .monitors
            .iter()
            .map(|monitor| format!("{}:{}", monitor.class.as_str(), monitor.agent))
            .collect()
    };
    assert_eq!(named(&choice(json!({}))), ["systemd:cron", "systemd:docker"]);
    // What answers at its port says what the state of its unit would say.
    let docker = with(entry("/usr/bin/dockerd", &["127.0.0.1:2375"]), "unit", "docker.service".into());
    assert_eq!(named(&choice(json!({"dockerd:1": docker}))), ["systemd:cron", "tcp:docker-api"]);
    // What comes and goes with whoever asks for it is not down when nobody does.
    let idle = with(entry("/opt/idle", &["0.0.0.0:7"]), "unit", "idle.service".into());
    let choice = choice(json!({"idle:1": idle}));
    assert_eq!((named(&choice).len(), choice.unmonitored.len()), (2, 1));
    assert!(choice.unmonitored[0].1.contains("idle.socket"), "{:?}", choice.unmonitored);
}

#[test]
fn the_host_itself_has_its_load_watched() {
    let choice = choose(&agents(), json!({}));
    let load = choice.monitors.iter().find(|monitor| monitor.agent == "check_load").unwrap();
    assert_eq!(load.argv, ["-r", "-w", "4,3,2", "-c", "4,3,2"]);
    assert_eq!((load.target.clone(), load.repeat_seconds, load.timeout_seconds), (Target::Host, 60, 30));
}

#[test]
fn rules_of_the_site_and_of_the_cma_win_by_file_name() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("deep/er");
    std::fs::create_dir_all(&deep).unwrap();
    let own = |class: &str| {
        format!(r#"{{"class": "{class}", "type": "mine", "classconfig": [["@basename()", "sshd$"]]}} # ours"#)
    };
    std::fs::write(deep.join("check_ssh.mrule"), own("lsb")).unwrap();
    std::fs::write(directory.path().join("bad.mrule"), "{").unwrap();
    std::fs::write(directory.path().join("notes.txt"), "{").unwrap();
    let paths = [directory.path().to_owned(), directory.path().join("absent")];
    let count = rules().iter().count();
    let (loaded, problems) = MonitorRules::load(&paths, &BTreeMap::new());
    assert_eq!(loaded.iter().count(), count);
    assert!(loaded.iter().any(|rule| rule.file == "check_ssh.mrule" && rule.class == Class::Lsb));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().contains("bad.mrule:1: "), "{}", problems[0]);
    let from_cma = BTreeMap::from([
        ("check_ssh.mrule".to_owned(), own("NEVERMON")),
        ("tcp/../x.mrule".to_owned(), "7".into()),
    ]);
    let (loaded, problems) = MonitorRules::load(&paths, &from_cma);
    assert!(loaded.iter().any(|rule| rule.file == "check_ssh.mrule" && rule.class == Class::NeverMon));
    assert_eq!(problems.len(), 2, "{problems:?}");
    // What the CMA sends: what differs from the rules inside, and is right.
    let (name, text) = crate::builtin_files()[0];
    std::fs::write(directory.path().join(name), text).unwrap();
    let (texts, problems) = crate::site_files(&paths);
    assert_eq!(
        (texts.into_keys().collect::<Vec<_>>(), problems.len()),
        (vec!["check_ssh.mrule".to_owned()], 1)
    );
}

fn values() -> impl Strategy<Value = Value> {
    let words = prop_oneof![
        Just("/usr/sbin/sshd".to_owned()),
        Just("0.0.0.0:22".to_owned()),
        Just(":::99999".to_owned()),
        Just("tcp".to_owned()),
        Just("user@1.service".to_owned()),
        ".{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        words.clone().prop_map(Value::from)
    ];
    let names = prop_oneof![
        prop::sample::select(vec![
            "exe",
            "cmdline",
            "uid",
            "listenaddrs",
            "loopback_listenaddrs",
            "proxy",
            "netns",
            "unit",
            "user",
            "lsb",
            "nagios",
            "data",
            "active"
        ])
        .prop_map(str::to_owned),
        words
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_data_is_a_panic(processes in values(), agents in values(), commands in values(), services in values()) {
        static RULES: std::sync::LazyLock<MonitorRules> = std::sync::LazyLock::new(rules);
        let findings = Findings { tcpdiscovery: &processes, monitoringagents: &agents, commands: &commands, services: &services };
        let choice = RULES.choose(&Designation::new("web1").unwrap(), &MonitoringConfig::default(), findings);
        let mut names: Vec<&String> = choice.monitors.iter().map(|monitor| &monitor.name).collect();
        names.dedup();
        prop_assert_eq!(names.len(), choice.monitors.len());
        for monitor in &choice.monitors {
            model::ids::check_instance(&monitor.instance()).unwrap();
        }
    }
}

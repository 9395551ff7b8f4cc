use super::*;
use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect};

const TODAY: i64 = 20_000;

fn found(files: &[(&str, &str)]) -> (Value, Vec<String>) {
    read(&Tree::of(files), TODAY, |home| (home != "/net/far").then_some(home == "/home/ann"))
}

fn of<'a>(data: &'a Value, list: &str, name: &str) -> &'a Value {
    data[list].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap()
}

#[test]
fn fixtures() {
    check_fixtures(&DISCOVERY);
}

#[test]
fn people_and_system_accounts() {
    let (data, errors) = found(&[
        (
            PASSWD,
            "root:x:0:0:root:/root:/bin/bash\r\ntoor::0:0::/root:/bin/sh\nbin:*:1:1::/bin:/sbin/nologin\ngames:x:5:60::/:/bin/sh\n\
             ann:x:1000:1000::/home/ann:/bin/bash\nbob:x:1001:1001:::/bin/odd\neve:x:1001:9::/home/eve:/bin/bash\n\
             far:x:1003:0::/net/far:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n+::::::\n",
        ),
        ("/etc/shells", "# shells\n/bin/sh\n/bin/bash\n/bin/bash\nbad\n/sbin/nologin\n"),
    ]);
    assert_eq!(of(&data, "passwd", "root")["same_uid"], json!(["toor"]));
    assert_eq!(of(&data, "passwd", "toor")["password"], "empty");
    let ann = json!({"name": "ann", "uid": 1000, "gid": 1000, "home": "/home/ann", "shell": "/bin/bash", "password": "x",
        "interactive": true, "system": false, "login_shell": true, "valid_shell": true, "home_exists": true});
    assert_eq!(*of(&data, "passwd", "ann"), ann);
    let bob = of(&data, "passwd", "bob");
    assert!(bob.get("home").is_none() && bob["valid_shell"] == false && bob["login_shell"] == true, "{bob}");
    assert_eq!((&bob["same_uid"], bob.get("home_exists")), (&json!(["eve"]), None));
    assert_eq!(of(&data, "passwd", "eve")["home_exists"], false);
    assert!(of(&data, "passwd", "far").get("home_exists").is_none());
    let bin = of(&data, "passwd", "bin");
    assert_eq!(
        json!([bin["system"], bin["login_shell"], bin["valid_shell"], bin["password"]]),
        json!([true, false, false, "locked"])
    );
    assert_eq!(of(&data, "passwd", "games")["login_shell"], true);
    assert_eq!(of(&data, "passwd", "nobody")["system"], true);
    assert_eq!(data["uid_zero"], json!(["root", "toor"]));
    assert_eq!(data["gid_zero_users"], json!(["root", "toor", "far"]));
    assert_eq!(data["shells"], json!(["/bin/sh", "/bin/bash", "/sbin/nologin"]));
    assert_eq!(data["nis"], json!(["/etc/passwd"]));
    assert_eq!(errors, ["/etc/shells line 5: 'bad' is not an absolute path"]);
}

#[test]
fn states_of_passwords_and_never_a_hash() {
    let (data, errors) = found(&[
        (
            PASSWD,
            "root:x:0:0::/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/bash\nold:$1$geheim$geheim:1002:1::/:/bin/sh\n",
        ),
        (
            "/etc/shadow",
            "root:!$6$geheim$geheim:19000:0:99999:7:::\nann:$y$j9T$geheim$geheim:20001:1:365:7:30:19999:\ngone::0:::::30000:\n\
             broken geheim\nbad:geheim:geheim::::::\n",
        ),
        ("/etc/group", "root:x:0:\nann:geheim:1000:\nusers:x:1001:ann,bob\nwheel:x:0:ann\nbad:geheim\n"),
        ("/etc/gshadow", "root:*::\nann:$6$geheim$geheim:ann:bob\nbad\n"),
    ]);
    let text = format!("{data}{errors:?}");
    assert!(!text.contains("geheim"), "{text}");
    assert_eq!(
        *of(&data, "shadow", "root"),
        json!({"name": "root", "password": "locked", "locked": true, "hash": "sha512", "last_change": "2022-01-08",
            "last_change_in_future": false, "min_days": 0, "max_days": 99999, "warn_days": 7,
            "system": false, "interactive": false, "valid_shell": false})
    );
    let ann = of(&data, "shadow", "ann");
    assert_eq!(
        json!([
            ann["password"],
            ann["hash"],
            ann["last_change_in_future"],
            ann["expired"],
            ann["inactive_days"]
        ]),
        json!(["set", "yescrypt", true, true, 30])
    );
    let gone = of(&data, "shadow", "gone");
    assert_eq!(json!([gone["password"], gone["expired"], gone.get("system")]), json!(["empty", false, null]));
    assert_eq!(of(&data, "passwd", "old")["password"], "set");
    assert_eq!(
        json!([data["root"]["password"], data["root"]["locked"], data["root"]["gid"]]),
        json!(["locked", true, 0])
    );
    assert_eq!(
        *of(&data, "group", "users"),
        json!({"name": "users", "gid": 1001, "members": ["ann", "bob"], "member_count": 2, "primary_count": 0})
    );
    assert_eq!(of(&data, "group", "ann")["primary_count"], 1);
    assert_eq!(data["gid_zero_groups"], json!(["root", "wheel"]));
    assert_eq!(of(&data, "gshadow", "ann")["password"], "set");
    assert_eq!(errors.len(), 4, "{errors:?}");
}

#[test]
fn system_accounts_in_a_group_are_named() {
    let (data, _) = found(&[
        (PASSWD, "daemon:x:1:1::/:/bin/false\nann:x:1000:1000::/home/ann:/bin/sh\n"),
        ("/etc/group", "sudo:x:27:ann,daemon,far\nusers:x:100:ann\n"),
    ]);
    assert_eq!(of(&data, "group", "sudo")["system_members"], json!(["daemon"]));
    assert!(of(&data, "group", "users").get("system_members").is_none());
}

#[test]
fn the_group_of_su() {
    let files = |group: &'static str| {
        [
            (PASSWD, "root:x:0:0::/root:/bin/bash\n"),
            ("/etc/pam.d/su", "auth required pam_wheel.so use_uid group=sugroup\n"),
            ("/etc/group", group),
        ]
    };
    assert_eq!(
        found(&files("sugroup:x:7:ann\n")).0["su_group"],
        json!({"name": "sugroup", "exists": true, "member_count": 1})
    );
    assert_eq!(found(&files("other:x:7:ann\n")).0["su_group"], json!({"name": "sugroup", "exists": false}));
    assert!(found(&[(PASSWD, "")]).0.get("su_group").is_none());
}

#[test]
fn unreadable_files() {
    let absent = collect(&DISCOVERY, &[("/etc/hostname", b"h")]);
    assert_eq!(absent.data["NODATA"], "ERROR: Cannot read /etc/passwd");
    assert_eq!(absent.errors.len(), 1);
    let mut tree = Tree::of(&[(PASSWD, "root:x:0:0::/root:/bin/bash\n")]);
    tree.0.insert("/etc/shadow".into(), None);
    let (data, errors) = read(&tree, TODAY, |_| None);
    assert!(data.get("shadow").is_none() && data["root"].get("locked").is_none());
    assert_eq!(errors, ["Cannot read /etc/shadow: permission denied"]);
}

#[test]
fn a_home_is_looked_for_in_the_tree() {
    let collected = collect(
        &DISCOVERY,
        &[
            (PASSWD, b"ann:x:1000:1::/home/ann:/bin/sh\nbob:x:1001:1::/home/bob:/bin/sh\n"),
            ("/home/ann/.profile", b""),
        ],
    );
    assert_eq!(of(&collected.data, "passwd", "ann")["home_exists"], true);
    assert_eq!(of(&collected.data, "passwd", "bob")["home_exists"], false);
}

#[test]
fn any_text() {
    let tokens = &["root", ":", "x", "0", "1000", "\n", "+", "!", "$6$a$b", "/bin/sh", ",", "#", "ä", "-1"];
    for file in [PASSWD, "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/shells"] {
        check_any_text(file, tokens, |text| {
            let mut tree = Tree::of(&[(PASSWD, "root:x:0:0::/root:/bin/bash\n")]);
            tree.0.insert(file.into(), Some(text.to_owned()));
            read(&tree, TODAY, |_| Some(true))
        });
    }
}

#[test]
fn a_host_with_too_many_accounts_is_cut() {
    let many: String = (0..60_000).map(|n| format!("user{n}:x:{n}:{n}::/home/user{n}:/bin/bash\n")).collect();
    let groups: String = (0..60_000).map(|n| format!("group{n}:x:{n}:a,b\n")).collect();
    let (data, errors) = found(&[(PASSWD, &many), ("/etc/group", &groups)]);
    assert!(data.to_string().len() < 12 << 20);
    assert!(errors.iter().any(|error| error.contains("too many accounts")), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("too many groups")), "{errors:?}");
}

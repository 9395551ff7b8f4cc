use super::*;
use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect as collect_from};

fn parse(text: &str) -> (Value, Vec<String>) {
    read(&Tree::of(&[(FILE, text)]))
}

/// The data of a text without errors.
fn good(text: &str) -> Value {
    let (data, errors) = parse(text);
    assert_eq!(errors, [""; 0]);
    data
}

#[test]
fn fixtures() {
    check_fixtures(&DISCOVERY);
}

#[test]
fn the_old_syntax() {
    let data = good(
        "# c\n$ModLoad imudp.so\n$UDPServerRun 514\n$filecreatemode 0640 # why\n$Umask 0022\n\
         *.*;auth.none\t\t-/var/log/syslog\nauth,authpriv.*  /var/log/auth.log;Format\n*.* @@logs:6514\n& /var/log/all\n\
         :msg, contains, \"a \\\" b\" /var/log/x\n& ~\n*.emerg :omusrmsg:*\n",
    );
    assert_eq!(data["FileCreateMode"], "0640");
    assert_eq!(data["Umask"], "0022");
    assert_eq!((&data["modules"], &data["imudp"]), (&json!(["imudp"]), &json!(["514"])));
    assert_eq!(data["remote_loghost"], json!(["@@logs:6514"]));
    let expected = json!([
        {"selector": "*.*;auth.none", "action": "/var/log/syslog"},
        {"selector": "auth,authpriv.*", "action": "/var/log/auth.log"},
        {"selector": "*.*", "action": "@@logs:6514"}, {"selector": "*.*", "action": "/var/log/all"},
        {"selector": ":msg, contains, \"a \\\" b\"", "action": "/var/log/x"},
        {"selector": "*.emerg", "action": ":omusrmsg:*"}]);
    assert_eq!(data["rules"], expected);
    assert_eq!(data["facilities"]["auth"], json!(["/var/log/auth.log", "@@logs:6514", "/var/log/all"]));
}

#[test]
fn rainer_script() {
    let data = good(
        "module(load=\"imuxsock\") /* a\n b */\nmodule(load=\"imtcp\"\n  StreamDriver.Mode=\"1\") # c\n\
         input(type=\"imtcp\" port=\"6514\")\nmodule(load=\"builtin:omfile\" fileCreateMode=\"0600\")\n\
         global(workDirectory=\"/var/spool/rsyslog\" password=\"geheim\")\n\
         cron.* action(type=\"omfile\" file=\"/var/log/cron\")\n\
         if $programname == 'x then y' and ($msg contains \"b\") then {\n  action(type=\"omfile\" file=\"/var/log/y\")\n  stop\n}\n\
         if prifilt(\"mail.*\") then /var/log/mail\nset $.x = \"a\";\n\
         action(type=\"omfwd\" target=\"h\" port=\"514\" protocol=\"tcp\")\n*.info /var/log/messages\n",
    );
    assert_eq!(data["modules"], json!(["imuxsock", "imtcp", "builtin:omfile"]));
    assert_eq!(data["imtcp"], json!(["6514"]));
    assert_eq!(data["FileCreateMode"], "0600");
    assert_eq!(data["global"], json!({"workdirectory": "/var/spool/rsyslog", "password": "***"}));
    assert_eq!(data["remote_loghost"], json!(["@@h:514"]));
    let actions: Vec<(&str, bool)> = data["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["action"].as_str().unwrap(), rule["conditional"] == true))
        .collect();
    let expected =
        [("/var/log/cron", false), ("/var/log/y", true), ("@@h:514", false), ("/var/log/messages", false)];
    assert_eq!(actions[..2], expected[..2]);
    assert_eq!(actions[actions.len() - 2..], expected[2..]);
    assert_eq!(data["facilities"]["cron"], json!(["/var/log/cron", "@@h:514", "/var/log/messages"]));
    assert_eq!(data["facilities"]["mail"], json!(["@@h:514", "/var/log/messages"]));
}

#[test]
fn includes() {
    let tree = Tree::of(&[
        (
            FILE,
            "$IncludeConfig /etc/rsyslog.d/*.conf\ninclude(file=\"/etc/more/\" mode=\"optional\")\n*.* /last\n",
        ),
        ("/etc/rsyslog.d/20.conf", "*.* /b\n"),
        ("/etc/rsyslog.d/10.conf", "*.* /a\n$IncludeConfig /etc/rsyslog.d/10.conf\n"),
        ("/etc/rsyslog.d/x", "*.* /never\n"),
        ("/etc/more/y", "*.* /c\n"),
    ]);
    let (data, errors) = read(&tree);
    let actions: Vec<&str> =
        data["rules"].as_array().unwrap().iter().map(|r| r["action"].as_str().unwrap()).collect();
    assert_eq!(actions.iter().filter(|action| **action == "/a").count(), MAX_DEPTH);
    assert_eq!(actions[actions.len() - 3..], ["/b", "/c", "/last"]);
    assert_eq!(
        errors,
        ["/etc/rsyslog.d/10.conf line 2: /etc/rsyslog.d/10.conf is left out: too many files include files"]
    );
}

#[test]
fn what_is_malformed_is_named_with_its_line() {
    let (data, errors) = parse("& /x\nauth.*\n}\nmodule(load\n$?? 1\ncron.* /var/log/cron\n");
    assert_eq!(data["facilities"], json!({"cron": ["/var/log/cron"]}));
    let expected = [
        "/etc/rsyslog.conf line 1: '&' follows no selector",
        "/etc/rsyslog.conf line 2: 'auth.*' has no action",
        "/etc/rsyslog.conf line 3: there is no brace to close",
        "/etc/rsyslog.conf line 4: module() is not closed or has something else than parameters",
        "/etc/rsyslog.conf line 5: '??' is not a directive",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn line_ends_make_no_difference() {
    let text = "$FileCreateMode 0640\nauth.* /a\nmodule(load=\"imudp\")\n";
    assert_eq!(parse(&text.replace('\n', "\r\n")), parse(text));
    assert_eq!(parse(text.trim_end()), parse(text));
}

#[test]
fn absent_and_unreadable_differ() {
    let absent = collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]);
    assert!(absent.data["NODATA"].as_str().unwrap().starts_with("rsyslog is not installed"));
    assert!(absent.errors.is_empty());
    let directory = collect_from(&DISCOVERY, &[("/etc/rsyslog.conf/x", b"")]);
    assert_eq!(directory.data["NODATA"], "ERROR: Cannot read /etc/rsyslog.conf");
    assert_eq!(directory.errors.len(), 1);
}

#[test]
fn any_text() {
    let tokens = &[
        "if ",
        "then",
        "{",
        "}",
        "module(",
        ")",
        "load",
        "=",
        "\"",
        "'",
        "\n",
        " ",
        "$",
        "*.*",
        "auth",
        ".",
        ";",
        "/a",
        "@h",
        "&",
        "action(",
        ":msg,",
        "#",
        "/*",
        "*/",
        "ä",
        "\\",
        "stop",
        "set ",
        "include(file=\"/etc/rsyslog.conf\")",
    ];
    check_any_text(FILE, tokens, parse);
}

#[test]
fn conditions_without_end_take_no_time_to_speak_of() {
    let start = std::time::Instant::now();
    let text = "if $msg == \"x\n".repeat(400_000) + "\nmail.* /var/log/mail\n";
    let (data, errors) = parse(&text);
    assert!(data.is_object(), "{errors:?}");
    let text = "if a\n".repeat(1_000_000) + "\n\n$Umask 0077\n";
    let (data, _) = parse(&text);
    assert_eq!(data["Umask"], "0077");
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}

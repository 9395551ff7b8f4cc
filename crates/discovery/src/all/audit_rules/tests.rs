use super::*;
use crate::parse::testing::{check_any_text, check_fixtures, collect as collect_files};

const FILE: &str = "/etc/audit/rules.d/50-x.rules";
const AUDITCTL: (&str, &[u8]) = ("/usr/sbin/auditctl", b"");
const LOADER: (&str, &[u8]) = ("/lib64/ld-linux-x86-64.so.2", b"");

fn data(files: &[(&str, &[u8])]) -> Collected {
    let files: Vec<_> = files.iter().copied().chain([AUDITCTL, LOADER]).collect();
    collect_files(&DISCOVERY, &files)
}

#[test]
fn fixtures() {
    check_fixtures(&DISCOVERY);
}

#[test]
fn without_the_program_there_is_nothing_to_tell() {
    let found = collect_files(&DISCOVERY, &[(FILE, b"-w /etc/passwd -p wa\n")]);
    assert_eq!(found.data, json!({"NODATA": "auditd is not installed: there is no /usr/sbin/auditctl"}));
    assert!(found.errors.is_empty());
    let unreadable = data(&[("/etc/audit/audit.rules/x", b"")]);
    assert_eq!(unreadable.data, json!({"NODATA": "ERROR: Cannot read /etc/audit/audit.rules"}));
    assert_eq!(unreadable.errors.len(), 1);
    let nothing = data(&[]);
    assert_eq!((&nothing.data["rules"], &nothing.data["syscall:chmod"]["audited"]), (&json!(0), &json!(false)));
    assert!(nothing.errors.is_empty());
}

#[test]
fn the_same_rules_whatever_the_line_ends() {
    let text = "-D\n-w /etc/passwd -p wa -k identity\n-a always,exit -F arch=b64 -S chmod\n-e 2\n";
    let plain = data(&[(FILE, text.as_bytes())]);
    assert!(plain.errors.is_empty(), "{:?}", plain.errors);
    assert_eq!(plain.data["watch:/etc/passwd"]["perms"], json!(["a", "w"]));
    assert_eq!(plain.data["syscall:chmod"]["arch"], json!(["b64"]));
    assert_eq!(plain.data["control:enabled"], 2);
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    for same in [windows.as_str(), text.trim_end(), &format!("# a\n\n {text}\n  # b")] {
        let found = data(&[(FILE, same.as_bytes())]);
        assert_eq!((found.data, found.errors), (plain.data.clone(), Vec::new()), "{same:?}");
    }
    let junk: Vec<u8> = (0..=255_u8).chain([b'\n']).chain(text.bytes()).chain([0xff, 0]).collect();
    let found = data(&[(FILE, &junk)]);
    assert_eq!(found.data["watch:/etc/passwd"], plain.data["watch:/etc/passwd"]);
    assert!(found.errors.iter().all(|error| error.starts_with(FILE) && error.contains(" line ")));
    assert!(!found.errors.is_empty());
}

#[test]
fn which_files_count() {
    let one = ("/etc/audit/audit.rules", b"-w /etc/group -p wa\n-w\n".as_slice());
    let several = (FILE, b"-w /etc/passwd -p wa\n".as_slice());
    let found = data(&[one, several]).data;
    assert_eq!((&found["source"], &found["rules"]), (&json!("/etc/audit/rules.d"), &json!(1)));
    assert_eq!(found["compiled_is_current"], false);
    let unit = b"[Service]\nExecStartPost=-/sbin/auditctl -R /etc/audit/audit.rules\n".as_slice();
    let found = data(&[one, several, ("/etc/systemd/system/auditd.service", unit)]);
    assert_eq!(found.data["source"], "/etc/audit/audit.rules");
    assert_eq!(found.data["watch:/etc/group"]["perms"], json!(["a", "w"]));
    assert_eq!(found.errors, ["/etc/audit/audit.rules line 2: -w lacks its value"]);
    let unit = b"ExecStartPost=-/sbin/augenrules --load\n#ExecStartPost=-/sbin/auditctl -R /etc\n".as_slice();
    let compiled = ("/etc/audit/audit.rules", b"## made\n\n-w /etc/passwd -p wa\n".as_slice());
    let found = data(&[compiled, several, ("/usr/lib/systemd/system/auditd.service", unit)]).data;
    assert_eq!((&found["source"], &found["compiled_is_current"]), (&json!("/etc/audit/rules.d"), &json!(true)));
    // Other names are not taken.
    let found = data(&[("/etc/audit/rules.d/x.conf", b"-w /a"), ("/etc/audit/rules.d/.y.rules", b"-w /b")]).data;
    assert_eq!((&found["rules"], &found["source"]), (&json!(0), &json!("/etc/audit/rules.d")));
}

#[test]
fn files_are_in_the_order_of_ls_v() {
    let mut names = ["a.rules", "10-x.rules", "9-x.rules", "09-b.rules", "10-x2.rules", "10-x10.rules", "99.rules"];
    names.sort_by(|a, b| by_version(a, b));
    assert_eq!(names, ["09-b.rules", "9-x.rules", "10-x.rules", "10-x2.rules", "10-x10.rules", "99.rules", "a.rules"]);
}

#[test]
fn groups_tell_what_is_missing() {
    let text = "-w /etc/hosts -p wa\n-w /etc/issue -p wa\n-w /etc/issue.net -p wa\n-a always,exit -S sethostname -F arch=b64\n\
                -a always,exit -F arch=b32 -S sethostname,setdomainname\n";
    let found = data(&[(FILE, text.as_bytes()), ("/etc/network/interfaces", b"")]).data;
    let expected = json!({"audited": false, "missing": ["syscall:setdomainname", "watch:/etc/network"]});
    assert_eq!(found["group:networkconfig"], expected);
    let more = format!("{text}-w /etc/network/ -p wa\n-a always,exit -F arch=b64 -S setdomainname\n");
    let found = data(&[(FILE, more.as_bytes()), ("/etc/network/interfaces", b"")]).data;
    assert_eq!(found["group:networkconfig"], json!({"audited": true, "missing": []}));
    assert_eq!(found["group:privileged"], json!({"audited": true, "programs": 0, "missing": []}));
}

#[test]
fn this_system_can_be_asked() {
    let found = (DISCOVERY.collect)(&Host::running(), &Parameters::new());
    assert!(found.data.get("NODATA").is_some() || found.data["kernel"].is_object(), "{}", found.data);
    // Whether it tells depends on who runs the test; that it ends does not.
    let told = kernel::loaded(Machine::X86_64);
    assert!(told.is_ok() || told.is_err_and(|reason| reason.starts_with("the kernel")));
}

#[test]
fn any_text() {
    let tokens = &["-a ", "always,exit", " ", "\n", "-S", "-F ", "auid>=", "-w ", "/etc", "-p", "wa", "=", "-e 2", "ä"];
    check_any_text(FILE, tokens, |text| {
        let mut errors = Errors::default();
        let files = [(FILE.to_owned(), text.to_owned())];
        let mut loaded = Loaded::default();
        for (file, number, line) in rule::compiled(&files, &mut errors) {
            if let Err(what) = loaded.take(line) {
                errors.at(file, number, what);
            }
        }
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        let mut data = Map::new();
        let in_effect = Ok((kernel::Status::default(), loaded.rules.clone()));
        let places = HostPlaces::new(&host);
        let facts = Facts { permanent: &loaded, in_effect: &in_effect, machine: Machine::X86_64, places: &places };
        facts.tell(&mut data);
        (data.into(), errors.into_list())
    });
}

//! Files of people that cannot be read or understood: a host's sshd_config, a site's rules.

use crate::rig::{Scene, wrapped};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use system::process::capture;

#[test]
fn a_broken_sshd_config_costs_only_what_cannot_be_read_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let etc = folder.path().join("etc");
    let copied = capture(std::process::Command::new("cp").args(["--archive", "/etc"]).arg(&etc)).unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    fs::create_dir_all(etc.join("ssh")).unwrap();
    let config = etc.join("ssh/sshd_config");
    let _ = fs::remove_file(&config);
    let mut malformed =
        b"PermitRootLogin no\nMaxAuthTries three\n\xff\xfe\x00 \"\nPermitEmptyPasswords\nColour blue\n"
            .to_vec();
    malformed.extend(std::iter::repeat_n(b'x', 100_000));
    malformed.extend(b"\nMatch User \"bob\nX11Forwarding no\nInclude /etc/ssh/sshd_config\n");
    fs::write(&config, malformed).unwrap();
    // root without the right to read everything, as in many containers: only then is mode 000 a hindrance.
    let line = format!(
        "exec unshare --mount sh -c 'mount --bind {} /etc && exec setpriv --bounding-set=-dac_override,-dac_read_search \
         --inh-caps=-dac_override,-dac_read_search \"$@\"' nanoprobe REAL",
        etc.display()
    );
    let programs = wrapped(folder.path(), &[("nanoprobe", &line)]);
    let scene = Scene::with_programs(&["picard"], programs, folder);
    let mut cma = scene.site.start_cma(&[]).unwrap();
    let mut nanoprobe = scene.start("picard");
    scene.wait_until_judged("picard", "pass");

    let document = || {
        let statement = "SELECT document FROM documents WHERE host = 'picard' AND instance = '_init_sshd'";
        let rows = scene.site.ask(&["sql", statement]).ok()?;
        serde_json::from_str::<serde_json::Value>(rows[0]["document"].as_str()?).ok()
    };
    let result = |status: &str| {
        let statement =
            format!("SELECT 1 FROM rule_results WHERE rule_id = 'nist_V-38613' AND status = '{status}'");
        scene.site.count(&statement) == 1
    };
    let envelope = scene.wait("the document of sshd", document);
    assert_eq!(envelope["data"]["PermitRootLogin"], json!(false), "what can be read is there");
    let errors = envelope["errors"].to_string();
    for part in ["/etc/ssh/sshd_config", "Colour", "PermitEmptyPasswords"] {
        assert!(errors.contains(part), "{part} in {errors}");
    }
    assert!(errors.len() < 20_000, "the errors are bounded: {}", errors.len());
    assert!(result("pass"), "the rule of the readable line is judged");

    fs::set_permissions(&config, fs::Permissions::from_mode(0o000)).unwrap();
    let unreadable = scene.wait("the document to change", || document().filter(|new| *new != envelope));
    let errors = unreadable["errors"].to_string();
    assert!(
        errors.contains("/etc/ssh/sshd_config") && errors.to_lowercase().contains("permission"),
        "{errors}"
    );
    assert!(unreadable["data"].get("PermitRootLogin").is_none(), "nothing is made up: {unreadable}");
    scene.wait("the rule to pass no longer", || (!result("pass")).then_some(()));
    scene.prove_that_changes_arrive("picard");

    fs::remove_file(&config).unwrap();
    fs::create_dir(&config).unwrap();
    let directory = scene.wait("a directory in its place", || document().filter(|new| *new != unreadable));
    assert!(directory["errors"].to_string().contains("/etc/ssh/sshd_config"), "{directory}");
    fs::remove_dir(&config).unwrap();
    fs::write(&config, "PermitRootLogin no\n").unwrap();
    scene.wait("the rule to pass on the mended file", || result("pass").then_some(()));
    assert_eq!(document().unwrap().get("errors"), None);
    scene.prove_that_changes_arrive("picard");
    cma.still_running().unwrap();
    nanoprobe.still_running().unwrap();
}

fn rule(folder: &Path, id: &str, expression: &str) {
    let text = format!(
        "id = \"{id}\"\ntitle = \"Packets with impossible addresses are logged\"\nseverity = \"low\"\ncategory = \"security\"\n\
         discovery = \"proc_sys\"\nexpression = '{expression}'\nwhy = \"They show forgery.\"\ncheck = \"sysctl net.ipv4.conf.all.log_martians\"\n\
         fix_now = \"sysctl -w net.ipv4.conf.all.log_martians=1\"\nfix_permanently = \"A file in /etc/sysctl.d.\"\n\
         [example.pass]\n\"net.ipv4.conf.all.log_martians\" = 1\n[example.fail]\n\"net.ipv4.conf.all.log_martians\" = 0\n"
    );
    fs::create_dir_all(folder.join("proc_sys")).unwrap();
    fs::write(folder.join(format!("proc_sys/{id}.toml")), text).unwrap();
}

#[test]
fn a_misspelt_rule_is_named_everywhere_and_all_others_work() {
    let scene = Scene::new(&["picard"]);
    let set = scene.site.paths.site("best_practices").join("BASE");
    rule(&set, "site-00001", "EQ($net.ipv4.conf.all.log_martians, 1)");
    rule(&set, "site-00002", "EQQ($net.ipv4.conf.all.log_martians, 1)");
    fs::write(set.join("proc_sys/site-00003.toml"), "id = \"site-00003\nthis is no TOML").unwrap();

    let (code, text) = scene.assimcli(&["rules", "check", &set.display().to_string()]);
    assert_eq!(code, 2, "{text}");
    for part in
        ["site-00002.toml", "EQQ", "did you mean EQ?", "site-00003.toml", "3 files checked, 2 problems"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("site-00001"), "the good rule is not complained about: {text}");

    let mut cma = scene.site.start_cma(&[]).unwrap();
    let _nanoprobe = scene.start("picard");
    scene.wait_until_judged("picard", "pass");
    let (code, text) = scene.assimcli(&["doctor"]);
    assert_eq!(code, 2, "{text}");
    for part in ["site-00002.toml", "EQQ", "site-00003.toml"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let judged = |id: &str| {
        scene.site.count(&format!(
            "SELECT 1 FROM rule_results WHERE rule_id = '{id}' AND status IN ('pass', 'fail')"
        ))
    };
    assert_eq!((judged("site-00001"), judged("site-00002"), judged("site-00003")), (1, 0, 0));
    let shipped = "SELECT 1 FROM rule_results WHERE rule_id NOT LIKE 'site-%'";
    scene.wait("the results of the shipped rules", || (scene.site.count(shipped) > 50).then_some(()));
    scene.prove_that_changes_arrive("picard");
    cma.still_running().unwrap();
}

//! Keys that are missing, damaged, of another site or new, and two hosts with one name.

use crate::rig::{RULE, Scene, ended, texts};
use model::paths::SitePaths;
use std::fs;
use std::path::PathBuf;
use system::process::Running;
use system::site::{Programs, Site};

/// Key directory of a host's nanoprobe.
fn crypto(scene: &Scene, host: &str) -> PathBuf {
    SitePaths::new(scene.site.nanoprobe_root(host).unwrap()).crypto()
}

fn own_files(scene: &Scene, host: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(crypto(scene, host)).unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("@@")))
        .collect()
}

fn start_named(scene: &Scene, host: &str, name: &str) -> Running {
    let to = ["--cmaaddr", scene.site.address.as_str(), "--name", name];
    scene.site.start_nanoprobe(host, Some(scene.host(host)), &to).unwrap()
}

#[test]
fn a_nanoprobe_with_missing_damaged_or_open_keys_says_which_file_and_what_to_do() {
    let scene = Scene::new(&["picard"]);
    let folder = crypto(&scene, "picard");
    // Not through `Scene::start`, which would mend the directory.
    let refusal = || {
        let mut command = scene.host("picard").command(&scene.site.programs.path("nanoprobe"));
        command.arg("--root").arg(scene.site.paths.root().join("hosts/picard"));
        let log = scene.folder.path().join("refusal");
        let _ = fs::remove_file(&log);
        let mut nanoprobe =
            Running::start("nanoprobe", command.args(["-c", &scene.site.address]), &log).unwrap();
        let status = ended(&mut nanoprobe);
        assert!(status.contains("exit status: 1"), "{status}");
        fs::read_to_string(log).unwrap()
    };
    let public = folder.join("#CMA#00000.pub");
    let good = fs::read(&public).unwrap();
    fs::write(&public, &good[..20]).unwrap();
    let text = refusal();
    assert!(
        text.contains("#CMA#00000.pub has 20 bytes instead of 32") && text.contains("copy it again"),
        "{text}"
    );
    fs::write(&public, &good).unwrap();

    let set_mode = |mode| {
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    set_mode(0o755);
    let text = refusal();
    assert!(text.contains("crypto.d") && text.contains("chmod"), "{text}");
    set_mode(0o700);

    for name in ["#CMA#00000.pub", "#CMA#00001.pub"] {
        fs::remove_file(folder.join(name)).unwrap();
    }
    let text = refusal();
    assert!(
        text.contains(&folder.display().to_string()) && text.contains("scp") && text.contains("#CMA#*.pub"),
        "{text}"
    );
    assert!(own_files(&scene, "picard").is_empty(), "a nanoprobe that refuses to start makes no key either");
}

#[test]
fn a_nanoprobe_with_the_keys_of_another_site_does_not_register_and_says_so() {
    let scene = Scene::new(&["picard"]);
    let other = Site::create(&scene.folder.path().join("other"), Programs::built().unwrap()).unwrap();
    let folder = crypto(&scene, "picard");
    for name in ["#CMA#00000.pub", "#CMA#00001.pub"] {
        fs::copy(other.paths.crypto().join(name), folder.join(name)).unwrap();
    }
    let mut cma = scene.site.start_cma(&[]).unwrap();
    let mut nanoprobe = scene.start("picard");
    scene.wait_until_logged("nanoprobe-picard", "that is not in the key directory");
    let log = scene.log("nanoprobe-picard");
    assert!(log.contains(&scene.site.address) && log.contains("copy its *.pub files there"), "{log}");
    nanoprobe.still_running().unwrap();
    assert_eq!(scene.site.count("SELECT 1 FROM hosts"), 0);

    // As the message tells: with the right keys it comes in.
    drop(nanoprobe);
    for name in ["#CMA#00000.pub", "#CMA#00001.pub"] {
        fs::copy(scene.site.paths.crypto().join(name), folder.join(name)).unwrap();
    }
    let _nanoprobe = scene.start("picard");
    scene.wait_until_judged("picard", "pass");
    cma.still_running().unwrap();
}

#[test]
fn a_reinstalled_host_is_kept_out_until_its_key_is_accepted() {
    let scene = Scene::new(&["picard"]);
    let _cma = scene.site.start_cma(&[]).unwrap();
    let nanoprobe = scene.start("picard");
    scene.wait_until_judged("picard", "pass");
    assert_eq!(scene.assimcli(&["hosts"]).0, 0);
    drop(nanoprobe);

    // A new system on the same machine: nothing is left but the CMA's public keys.
    let root = scene.site.paths.root().join("hosts/picard");
    fs::remove_dir_all(&root).unwrap();
    let _nanoprobe = scene.start("picard");
    scene.wait_until_logged("nanoprobe-picard", "picard is known with another key");
    let log = scene.log("nanoprobe-picard");
    assert!(log.contains("assimcli hosts accept-key picard"), "{log}");
    let (code, text) = scene.assimcli(&["hosts"]);
    assert_eq!(code, 2, "{text}");
    // Where the hardware can be told, it is known to be the same.
    let state = ["MISMATCH", "RE-INSTALLED"].into_iter().find(|state| text.contains(state));
    assert!(state.is_some() && text.contains("assimcli hosts accept-key picard"), "{text}");
    let statement = "SELECT event ->> '$.extrainfo.fix_now' AS fix FROM events WHERE host = 'picard' \
                     AND reason IN ('key mismatch', 're-installed')";
    assert_eq!(
        texts(&scene.site.ask(&["sql", statement]).unwrap(), "fix"),
        ["assimcli hosts accept-key picard"]
    );
    assert_eq!(
        scene.site.count("SELECT 1 FROM hosts WHERE status = 'dead'"),
        1,
        "it is as the old one left it"
    );

    let (code, text) = scene.assimcli(&["hosts", "accept-key", "nobody"]);
    assert!(code == 1 && text.contains("nobody"), "{code} {text}");
    let (code, text) = scene.assimcli(&["hosts", "accept-key", "picard"]);
    assert_eq!(code, 0, "{text}");
    // A refused nanoprobe waits minutes for a person to act; the CMA calls it.
    scene.wait("picard to be up with its new key", || (scene.assimcli(&["hosts"]).0 == 0).then_some(()));
    scene.wait_until_judged("picard", "pass");
    scene.prove_that_changes_arrive("picard");
}

#[test]
fn of_two_hosts_with_one_name_the_second_is_refused_and_nothing_of_it_is_mixed_in() {
    let scene = Scene::new(&["picard", "locutus"]);
    let _cma = scene.site.start_cma(&[]).unwrap();
    let _first = scene.start("picard");
    scene.wait_until_judged("picard", "pass");
    let second = start_named(&scene, "locutus", "picard");
    scene.wait_until_logged("nanoprobe-locutus", "if two hosts have this name start one of them with --name");
    let (code, text) = scene.assimcli(&["hosts"]);
    // All hosts of this test share the machine's hardware, where that can be told.
    assert!(code == 2 && (text.contains("MISMATCH") || text.contains("RE-INSTALLED")), "{code} {text}");
    let statement = "SELECT event ->> '$.extrainfo.offered_from' AS source FROM events \
                     WHERE reason IN ('key mismatch', 're-installed')";
    let sources = texts(&scene.site.ask(&["sql", statement]).unwrap(), "source");
    assert!(matches!(sources.as_slice(), [one] if one.starts_with("10.84.0.3:")), "{sources:?}");

    // What happens on the second is nobody's business, what happens on the first still is.
    scene.host("locutus").sysctl(crate::rig::PARAMETER, "0").unwrap();
    scene.prove_that_changes_arrive("picard");
    assert_eq!(scene.transitions("picard"), ["warn", "unwarn"]);
    let mixed = "SELECT 1 FROM changes WHERE document LIKE '%10.84.0.3%'";
    assert_eq!(scene.site.count(mixed), 0, "a document of the second host was taken");
    assert!(
        scene.site.count("SELECT 1 FROM changes WHERE document LIKE '%10.84.0.2%'") > 0,
        "the search finds nothing"
    );
    let addresses = texts(&scene.site.ask(&["sql", "SELECT address FROM hosts"]).unwrap(), "address");
    assert_eq!(addresses, ["10.84.0.2:1984"]);

    // With a name of its own it gets a key of its own and is welcome.
    drop(second);
    let _second = start_named(&scene, "locutus", "locutus");
    scene.wait_until_judged("locutus", "fail");
    let failing = format!("SELECT host FROM rule_results WHERE rule_id = '{RULE}' AND status = 'fail'");
    assert_eq!(texts(&scene.site.ask(&["sql", &failing]).unwrap(), "host"), ["locutus"]);
}

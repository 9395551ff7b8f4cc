//! The CMA's key is rotated while it runs and a host is away, and while the command is killed again and again; whoever has the
//! old secret is nobody afterwards.

use model::paths::SitePaths;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use system::network::Network;
use system::process::Running;
use system::site::{Programs, Site, last_lines};
use system::wait_for;

const PATIENCE: Duration = Duration::from_secs(90);

fn assimcli(site: &Site, arguments: &[&str]) -> (i32, String) {
    let output = site.assimcli(arguments).unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text.into_owned())
}

fn log(site: &Site, program: &str) -> String {
    String::from_utf8_lossy(&fs::read(site.log(program)).unwrap_or_default()).into_owned()
}

fn wait<T>(site: &Site, what: &str, check: impl FnMut() -> Option<T>) -> T {
    wait_for(what, PATIENCE, check).unwrap_or_else(|error| {
        let logs = ["cma", "nanoprobe-picard", "nanoprobe-riker"].map(|name| last_lines(&site.log(name)));
        panic!("{error}\n{}", logs.join("\n--\n"))
    })
}

/// What `keys hosts` says of a host, once it says that.
fn wait_for_keys(site: &Site, host: &str, wanted: &str) {
    wait(site, &format!("the keys of {host} to be {wanted:?}"), || {
        let rows = site.ask(&["keys", "hosts"]).ok()?;
        let row = rows.as_array()?.iter().find(|row| row["host"] == host)?;
        (row["keys"] == wanted).then_some(())
    });
}

fn states(site: &Site) -> Vec<(String, String, String)> {
    let rows = site.ask(&["keys"]).unwrap();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| (text(row, "key"), text(row, "state"), text(row, "secret"))).collect()
}

fn cma_files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.contains("#CMA#"))
        .collect();
    names.sort();
    names
}

/// Moves the secret of a key to a drawer.
fn take_off_line(site: &Site, name: &str) -> PathBuf {
    let drawer = site.paths.root().join("drawer");
    fs::create_dir_all(&drawer).unwrap();
    let there = drawer.join(name);
    fs::rename(site.paths.crypto().join(name), &there).unwrap();
    there
}

fn crypto_of(site: &Site, host: &str) -> PathBuf {
    SitePaths::new(site.nanoprobe_root(host).unwrap()).crypto()
}

fn copy_private(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_key_is_rotated_while_a_host_is_away_and_a_thief_of_the_old_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::new(&["unimatrixzero", "picard", "riker", "thief"]).unwrap();
    let host = |name: &str| network.host(name).unwrap();
    let center = host("unimatrixzero").clone();
    let address = format!("{}:1984", center.address);
    let programs = Programs::built().unwrap();
    let site =
        Site::create_at(&folder.path().join("site"), programs.clone(), &address, Some(center)).unwrap();
    let stolen = folder.path().join("stolen");
    copy_private(&site.paths.crypto().join("#CMA#00000.secret"), &stolen);
    let spare = take_off_line(&site, "#CMA#00001.secret");
    let start = |name: &str, to: &str| -> Running {
        site.start_nanoprobe(name, Some(host(name)), &["--cmaaddr", to]).unwrap()
    };
    let mut cma = site.start_cma(&[]).unwrap();
    let mut picard = start("picard", &address);
    let riker = start("riker", &address);
    for name in ["picard", "riker"] {
        wait_for_keys(&site, name, "ok");
    }
    drop(riker);
    wait(&site, "riker to be away", || {
        (site.count("SELECT 1 FROM hosts WHERE host = 'riker' AND status = 'dead'") == 1).then_some(())
    });

    // The message says which file to bring; it is done as it says.
    let (code, text) = assimcli(&site, &["keys", "rotate"]);
    let file = site.paths.crypto().join("#CMA#00001.secret");
    assert!(code == 1 && text.contains(&file.display().to_string()), "{code} {text}");
    copy_private(&spare, &file);
    let (code, text) = assimcli(&site, &["keys", "rotate"]);
    assert_eq!(code, 0, "{text}\n{}", log(&site, "cma"));
    assert!(text.contains("#CMA#00002.secret") && text.contains("off-line"), "{text}");
    take_off_line(&site, "#CMA#00002.secret");
    cma.still_running().unwrap();

    // Who is there has followed without a person and without a restart; who is away is known to lag behind.
    wait_for_keys(&site, "picard", "ok");
    wait_for_keys(&site, "riker", "lacks 2, trusts retired 0");
    assert!(
        log(&site, "nanoprobe-picard").contains("the CMA's key was rotated"),
        "{}",
        log(&site, "nanoprobe-picard")
    );
    let expected = [
        ("#CMA#00000", "retired", "gone"),
        ("#CMA#00001", "in use", "here"),
        ("#CMA#00002", "spare", "off-line"),
    ];
    let expected = expected.map(|(key, state, secret)| (key.to_owned(), state.to_owned(), secret.to_owned()));
    assert_eq!(states(&site), expected);
    assert_eq!(
        cma_files(&site.paths.crypto()),
        ["#CMA#00000.retired", "#CMA#00001.pub", "#CMA#00001.secret", "#CMA#00002.pub"]
    );
    assert_eq!(
        cma_files(&crypto_of(&site, "picard"))[..],
        ["#CMA#00000.retired", "#CMA#00001.pub", "#CMA#00002.pub"]
    );
    let (code, text) = assimcli(&site, &["keys", "hosts", "--lacking", "2"]);
    assert!(code == 2 && text.contains("riker") && !text.contains("picard"), "{code} {text}");
    picard.still_running().unwrap();

    // It comes back, trusts the successor, and learns the rest. (`nanoprobe_root` must not copy the new keys for it.)
    let riker_keys = crypto_of_without_new_keys(&site);
    let riker = {
        let mut command = host("riker").command(&site.programs.path("nanoprobe"));
        command.arg("--root").arg(riker_keys.root()).args(["--cmaaddr", &address]);
        Running::start("nanoprobe", &mut command, &site.log("nanoprobe-riker")).unwrap()
    };
    wait_for_keys(&site, "riker", "ok");
    let (code, text) = assimcli(&site, &["keys", "hosts"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(cma_files(&riker_keys.crypto()), ["#CMA#00000.retired", "#CMA#00001.pub", "#CMA#00002.pub"]);
    drop(riker);

    // A restart of the CMA changes nothing.
    drop(cma);
    let _cma = site.start_cma(&[]).unwrap();
    wait_for_keys(&site, "picard", "ok");

    // The thief has the old secret, a CMA, and the attention of a host.
    let trap = format!("{}:1984", host("thief").address);
    let theirs =
        Site::create_at(&folder.path().join("theirs"), programs, &trap, Some(host("thief").clone())).unwrap();
    for name in ["#CMA#00000.secret", "#CMA#00000.pub", "#CMA#00001.secret", "#CMA#00001.pub"] {
        fs::remove_file(theirs.paths.crypto().join(name)).unwrap();
    }
    copy_private(&stolen, &theirs.paths.crypto().join("#CMA#00000.secret"));
    fs::copy(site.paths.crypto().join("#CMA#00000.retired"), theirs.paths.crypto().join("#CMA#00000.pub"))
        .unwrap();
    let _their_cma = theirs.start_cma(&[]).unwrap();
    let _riker = start("riker", &trap);
    wait(&site, "riker to know the retired key", || {
        log(&site, "nanoprobe-riker").contains("that is #CMA#00000, which was retired").then_some(())
    });
    assert_eq!(theirs.count("SELECT 1 FROM hosts"), 0);
}

/// The root of riker's nanoprobe as the host was left, without keys that an installer would copy anew.
fn crypto_of_without_new_keys(site: &Site) -> SitePaths {
    let paths = SitePaths::new(site.paths.root().join("hosts/riker"));
    let _ = fs::remove_file(paths.crypto().join("#CMA#00002.pub"));
    assert_eq!(cma_files(&paths.crypto()), ["#CMA#00000.pub", "#CMA#00001.pub"]);
    paths
}

/// The key directory of before a rotation comes back, and with it a secret that no host trusts any more.
#[test]
fn a_cma_that_comes_back_from_an_old_backup_is_told_apart_and_mended_as_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::create(&folder.path().join("site"), Programs::built().unwrap()).unwrap();
    let crypto = site.paths.crypto();
    let backup = folder.path().join("backup");
    let copy_all = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        fs::create_dir(to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy_all(&crypto, &backup);
    fs::remove_file(backup.join("#CMA#00001.secret")).unwrap();
    let cma = site.start_cma(&["--web", "none"]).unwrap();
    let picard = site.start_nanoprobe("picard", None, &[]).unwrap();
    wait_for_keys(&site, "picard", "ok");
    let (code, text) = assimcli(&site, &["keys", "rotate"]);
    assert_eq!(code, 0, "{text}");
    wait_for_keys(&site, "picard", "ok");
    take_off_line(&site, "#CMA#00002.secret");
    let in_use = folder.path().join("copy in the drawer");
    copy_private(&crypto.join("#CMA#00001.secret"), &in_use);
    drop((cma, picard));

    copy_all(&backup, &crypto);
    let cma = site.start_cma(&["--web", "none"]).unwrap();
    let picard = site.start_nanoprobe("picard", None, &[]).unwrap();
    wait(&site, "the nanoprobe to know the retired key", || {
        log(&site, "nanoprobe-picard").contains("that is #CMA#00000, which was retired").then_some(())
    });
    wait(&site, "doctor to know what may be wrong", || {
        assimcli(&site, &["doctor"]).1.contains("restored from a backup").then_some(())
    });
    drop((cma, picard));

    let host = crypto_of(&site, "picard");
    for name in cma_files(&host).iter().filter(|name| name.ends_with(".pub")) {
        fs::copy(host.join(name), crypto.join(name)).unwrap();
    }
    copy_private(&in_use, &crypto.join("#CMA#00001.secret"));
    fs::remove_file(crypto.join("#CMA#00000.secret")).unwrap();
    let _cma = site.start_cma(&["--web", "none"]).unwrap();
    let _picard = site.start_nanoprobe("picard", None, &[]).unwrap();
    wait(&site, "picard to be up", || {
        (site.count("SELECT 1 FROM hosts WHERE host = 'picard' AND status = 'up'") == 1).then_some(())
    });
    wait_for_keys(&site, "picard", "ok");
}

/// CMA and nanoprobe of one machine have one key directory, as after `installme`.
#[test]
fn a_machine_that_is_cma_and_host_at_once_rotates_in_one_directory() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::create(&folder.path().join("site"), Programs::built().unwrap()).unwrap();
    let mut cma = site.start_cma(&["--web", "none"]).unwrap();
    let start = || {
        let mut command = Command::new(site.programs.path("nanoprobe"));
        command.arg("--root").arg(site.paths.root());
        command.args(["--cmaaddr", &site.address, "--name", "picard", "--bind", "127.0.0.1:0"]);
        Running::start("nanoprobe", &mut command, &site.log("nanoprobe-picard")).unwrap()
    };
    let mut picard = start();
    wait_for_keys(&site, "picard", "ok");
    // A further spare, by the old command and by the new one.
    for (arguments, secret) in
        [(&["genkeys"][..], "#CMA#00002.secret"), (&["keys", "spare"], "#CMA#00003.secret")]
    {
        let (code, text) = assimcli(&site, arguments);
        assert!(code == 0 && text.contains(secret), "{text}");
        wait_for_keys(&site, "picard", "ok");
        take_off_line(&site, secret);
    }
    let (code, text) = assimcli(&site, &["keys", "rotate"]);
    assert_eq!(code, 0, "{text}");
    wait_for_keys(&site, "picard", "ok");
    let left =
        ["#CMA#00000.retired", "#CMA#00001.pub", "#CMA#00001.secret", "#CMA#00002.pub", "#CMA#00003.pub"];
    assert_eq!(cma_files(&site.paths.crypto()), left);
    cma.still_running().unwrap();
    picard.still_running().unwrap();
    // Both start again on it.
    drop(picard);
    drop(cma);
    let _cma = site.start_cma(&["--web", "none"]).unwrap();
    let _picard = start();
    wait(&site, "picard to be up again", || {
        (site.count("SELECT 1 FROM hosts WHERE host = 'picard' AND status = 'up'") == 1).then_some(())
    });
    wait_for_keys(&site, "picard", "ok");
    assert_eq!(cma_files(&site.paths.crypto()), left);
    let events = "SELECT 1 FROM events WHERE reason = 'keys refused'";
    assert_eq!(site.count(events), 0, "nobody was blamed");
}

/// What the messages say is typed into a shell, and mends what they are about.
#[test]
fn the_commands_that_messages_name_mend_what_they_are_about() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::create(&folder.path().join("site"), Programs::built().unwrap()).unwrap();
    let crypto = site.paths.crypto();
    let set_mode =
        |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let public = crypto.join("#CMA#00001.pub");
    let whole = fs::read(&public).unwrap();
    let damage: [(&str, &dyn Fn()); 7] = [
        ("directory", &|| set_mode(&crypto, 0o755)),
        ("open secret", &|| set_mode(&crypto.join("#CMA#00000.secret"), 0o644)),
        ("open public key", &|| set_mode(&public, 0o666)),
        ("cut off", &|| fs::write(&public, &whole[..7]).unwrap()),
        ("wrong name", &|| fs::write(crypto.join("#CMA#0001.pub"), &whole).unwrap()),
        ("a link", &|| {
            fs::rename(&public, folder.path().join("elsewhere")).unwrap();
            std::os::unix::fs::symlink(folder.path().join("elsewhere"), &public).unwrap();
        }),
        ("no rotation", &|| fs::write(crypto.join("rotation"), "x").unwrap()),
    ];
    for (what, damage) in damage {
        damage();
        let (_, text) = assimcli(&site, &["-o", "json", "keys"]);
        let (_, doctor) = assimcli(&site, &["-o", "json", "doctor"]);
        let commands: BTreeSet<String> = [&text, &doctor]
            .iter()
            .flat_map(|text| text.split('`').skip(1).step_by(2))
            .map(|command| command.replace("\\\"", "\""))
            .filter(|command| ["chmod", "cp ", "rm "].iter().any(|word| command.starts_with(word)))
            .collect();
        assert!(!commands.is_empty(), "{what}: {text} {doctor}");
        for command in commands {
            let status = Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status().unwrap();
            assert!(status.success(), "{what}: {command}");
        }
        if !public.exists() {
            // What was removed is written again from its secret.
            assert_eq!(assimcli(&site, &["genkeys"]).0, 0, "{what}");
        }
        let (code, text) = assimcli(&site, &["-o", "json", "keys"]);
        assert_eq!(code, 0, "{what}: {text}");
        assert_eq!(fs::read(&public).unwrap(), whole, "{what}");
        assert_eq!(fs::metadata(&public).unwrap().permissions().mode() & 0o777, 0o644, "{what}");
    }
}

#[test]
fn a_rotation_that_is_killed_again_and_again_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::create(&folder.path().join("site"), Programs::built().unwrap()).unwrap();
    let mut cma = site.start_cma(&["--web", "none"]).unwrap();
    let _picard = site.start_nanoprobe("picard", None, &[]).unwrap();
    wait_for_keys(&site, "picard", "ok");
    let before = cma_files(&site.paths.crypto());
    let seed = std::process::id();
    eprintln!("seed {seed}");
    let mut random = u64::from(seed);
    let mut kills = 0;
    while states(&site).iter().all(|(_, state, _)| state != "retired")
        || site.paths.crypto().join("rotation").exists()
    {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Later and later, so that each attempt gets somewhere else, and one of them to the end.
        let pause = Duration::from_micros((random >> 33) % (4_000 * (kills + 1)));
        let mut rotate = Command::new(site.programs.path("assimcli"))
            .arg("--root")
            .arg(site.paths.root())
            .args(["keys", "rotate"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(pause);
        let _ = rotate.kill();
        rotate.wait().unwrap();
        kills += 1;
        assert!(kills < 500, "never ends: {:?}", cma_files(&site.paths.crypto()));
        if kills % 7 == 0 {
            // The power fails for all.
            drop(cma);
            cma = site.start_cma(&["--web", "none"]).unwrap();
        }
    }
    eprintln!("{kills} kills");
    assert_eq!(before.len(), 4);
    // Otherwise it is refused for the sake of the host that has not heard of the new spare yet.
    wait_for_keys(&site, "picard", "ok");
    let (code, text) = assimcli(&site, &["keys", "rotate"]);
    assert!(code == 1 && text.contains("the last rotation is complete"), "{code} {text}");
    assert_eq!(
        cma_files(&site.paths.crypto()),
        ["#CMA#00000.retired", "#CMA#00001.pub", "#CMA#00001.secret", "#CMA#00002.pub", "#CMA#00002.secret"]
    );
    cma.still_running().unwrap();
}

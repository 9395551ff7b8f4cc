//! `backup` and `restore` without a running CMA, as a person runs them. With one: the suite of the CMA and the system tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;
use store::Store;
use store::sqlite::{self, SqliteStore};
use tempfile::TempDir;

struct Site(TempDir);

impl Site {
    /// A site whose CMA has run and was stopped.
    fn new(word: &str) -> Site {
        let site = Site(TempDir::new().unwrap());
        site.file("etc/assimilation/cma.toml", "debug = 1\n");
        site.file("usr/share/assimilation/crypto.d/#CMA#00000.pub", "public");
        site.file("usr/share/assimilation/crypto.d/#CMA#00000.secret", "secret");
        site.file("var/lib/assimilation/cma/keys/heartbeat", "secret");
        site.set(word);
        site
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn file(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn database(&self) -> PathBuf {
        self.at("var/lib/assimilation/cma.sqlite")
    }

    fn set(&self, word: &str) {
        let mut store = SqliteStore::open(&self.database()).unwrap();
        let mut transaction = store.begin().unwrap();
        transaction.set_setting("word", word).unwrap();
        transaction.commit().unwrap();
    }

    fn word(&self) -> String {
        SqliteStore::open(&self.database()).unwrap().begin().unwrap().setting("word").unwrap().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_assimcli"));
        command.arg("--root").arg(self.0.path()).args(["-o", "json"]).args(arguments);
        command.env_remove("CMA_STORE").env("TMPDIR", self.0.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// What lies about besides what belongs there.
    fn left_over(&self) -> Vec<String> {
        let mut names = Vec::new();
        for directory in [self.0.path().to_owned(), self.at("var/lib/assimilation")] {
            names.extend(
                fs::read_dir(directory)
                    .unwrap()
                    .flatten()
                    .map(|entry| entry.file_name().into_string().unwrap()),
            );
        }
        // Whoever reads a database of which nobody else has a connection leaves an empty journal.
        let ours = [
            "etc",
            "usr",
            "var",
            "cma",
            "cma.sqlite",
            "cma.sqlite-shm",
            "cma.sqlite-wal",
            "last-backup.json",
        ];
        names.retain(|name| !ours.contains(&name.as_str()) && !name.ends_with(".tar.zst"));
        names.sort();
        names
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_backup_goes_back_to_where_it_was_made() {
    let site = Site::new("first");
    let file = site.at("b.tar.zst");
    let made = site.json(&["backup", text(&file)]);
    assert_eq!((&made[0]["with_keys"], &made[0]["files"]), (&false.into(), &2.into()), "{made}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(site.left_over(), Vec::<String>::new());
    assert_eq!(site.json(&["backup", "verify", text(&file)]), made);
    site.set("second");
    site.file("etc/assimilation/cma.toml", "debug = 2\n");
    let rows = site.json(&["restore", text(&file)]);
    assert_eq!(site.word(), "first");
    let result = |end: &str| {
        let row = rows.as_array().unwrap().iter().find(|row| row["file"].as_str().unwrap().ends_with(end));
        row.unwrap_or_else(|| panic!("{end} in {rows}"))["result"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (result("cma.sqlite"), result("cma.toml"), result(".pub")),
        ("restored".into(), "left alone".into(), "same".into())
    );
    assert_eq!(fs::read_to_string(site.at("etc/assimilation/cma.toml")).unwrap(), "debug = 2\n");
    let kept = site.left_over();
    assert!(kept.len() == 1 && kept[0].starts_with("cma.sqlite.before-restore-"), "{kept:?}");
    // And to the state before the restore, with the kept database.
    site.json(&["restore", text(&site.at("var/lib/assimilation").join(&kept[0]))]);
    assert_eq!(site.word(), "second");
    // Configuration is taken from the backup only when that is asked for, and the other one is kept.
    site.json(&["restore", "--replace-files", text(&file)]);
    assert_eq!(fs::read_to_string(site.at("etc/assimilation/cma.toml")).unwrap(), "debug = 1\n");
    let kept = fs::read_dir(site.at("etc/assimilation"))
        .unwrap()
        .flatten()
        .map(|e| fs::read_to_string(e.path()).unwrap());
    assert!(kept.into_iter().any(|text| text == "debug = 2\n"));
}

#[test]
fn a_new_machine_becomes_the_old_one() {
    let old = Site::new("old");
    let file = old.at("b.tar.zst");
    old.json(&["backup", "--with-keys", text(&file)]);
    let new = Site(TempDir::new().unwrap());
    new.json(&["restore", text(&file)]);
    assert_eq!(new.word(), "old");
    for (path, mode) in [
        ("usr/share/assimilation/crypto.d", 0o700),
        ("usr/share/assimilation/crypto.d/#CMA#00000.secret", 0o644),
        ("var/lib/assimilation/cma/keys/heartbeat", 0o644),
        ("etc/assimilation/cma.toml", 0o644),
    ] {
        let there = fs::metadata(new.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(there.permissions().mode() & 0o777, mode, "{path}");
    }
    // Without keys the secrets stay where they are.
    let public = old.at("public.tar.zst");
    old.json(&["backup", text(&public)]);
    let other = Site(TempDir::new().unwrap());
    other.json(&["restore", text(&public)]);
    assert!(!other.at("usr/share/assimilation/crypto.d/#CMA#00000.secret").exists());
    assert!(other.at("usr/share/assimilation/crypto.d/#CMA#00000.pub").exists());
}

#[test]
fn keys_that_were_retired_after_the_backup_are_not_brought_back() {
    let keys = "usr/share/assimilation/crypto.d/";
    let site = Site::new("first");
    let file = site.at("b.tar.zst");
    site.json(&["backup", "--with-keys", text(&file)]);
    for end in ["pub", "secret"] {
        site.file(&format!("{keys}#CMA#00001.{end}"), "other");
    }
    fs::rename(site.at(&format!("{keys}#CMA#00000.pub")), site.at(&format!("{keys}#CMA#00000.retired")))
        .unwrap();
    fs::remove_file(site.at(&format!("{keys}#CMA#00000.secret"))).unwrap();
    for arguments in [&["restore", text(&file)][..], &["restore", "--replace-files", text(&file)]] {
        let rows = site.json(arguments);
        let out = rows.as_array().unwrap().iter().filter(|row| row["result"] == "retired, left out").count();
        assert_eq!(out, 2, "{rows}");
        for end in ["pub", "secret"] {
            assert!(!site.at(&format!("{keys}#CMA#00000.{end}")).exists(), "{arguments:?} {end}");
        }
    }
    // A new machine gets the record with the public keys: no number is used twice.
    let public = site.at("public.tar.zst");
    site.json(&["backup", text(&public)]);
    let new = Site(TempDir::new().unwrap());
    new.json(&["restore", text(&public)]);
    assert!(new.at(&format!("{keys}#CMA#00000.retired")).exists());
    assert!(!new.at(&format!("{keys}#CMA#00001.secret")).exists());
}

#[test]
fn a_backup_can_be_opened_with_tar() {
    let site = Site::new("word");
    let output = site.run(&["backup", "-"]);
    assert!(output.status.success());
    let mut names = Vec::new();
    let mut archive = tar::Archive::new(zstd::stream::Decoder::new(output.stdout.as_slice()).unwrap());
    for entry in archive.entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().display().to_string());
    }
    assert_eq!(names[..2], ["assimilation-backup/manifest.json", "assimilation-backup/database/cma.sqlite"]);
    assert_eq!(site.left_over(), Vec::<String>::new());
}

#[test]
fn damage_is_refused_before_anything_is_changed() {
    let site = Site::new("first");
    let file = site.at("b.tar.zst");
    site.json(&["backup", text(&file)]);
    assert!(site.refused(&["backup", text(&file)]).contains("exists"));
    site.set("second");
    let whole = fs::read(&file).unwrap();
    for (bytes, why) in [
        (whole[..whole.len() - 1].to_vec(), "no whole backup"),
        (whole[..200].to_vec(), "no whole backup"),
        (b"not a backup".to_vec(), "no whole backup"),
        (b"SQLite format 3\0 and nothing else".to_vec(), "assimcli:"),
    ] {
        let damaged = site.at("damaged.tar.zst");
        fs::write(&damaged, bytes).unwrap();
        let told = site.refused(&["restore", text(&damaged)]);
        assert!(told.contains(why), "{told}");
        assert!(!site.run(&["backup", "verify", text(&damaged)]).status.success());
        assert_eq!((site.word(), site.left_over()), ("second".to_owned(), Vec::new()));
    }
    assert!(site.refused(&["restore", "nothing-here"]).contains("nothing-here"));
    // While somebody has it open it is not replaced.
    let open = SqliteStore::open(&site.database()).unwrap();
    assert!(site.refused(&["restore", text(&file)]).contains("another process"));
    drop(open);
    assert_eq!((site.word(), site.left_over()), ("second".to_owned(), Vec::new()));
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let site = Site::new("first");
    let copy = site.at("copy.tar.zst");
    sqlite::copy(&site.database(), &copy, &mut |_, _| {}).unwrap();
    let mut bytes = fs::read(&copy).unwrap();
    bytes[60..64].copy_from_slice(&9999u32.to_be_bytes());
    fs::write(&copy, bytes).unwrap();
    assert!(site.refused(&["restore", text(&copy)]).contains("newer version"));
    assert_eq!((site.word(), site.left_over()), ("first".to_owned(), Vec::new()));
}

#[test]
fn killed_at_any_moment_the_old_or_the_new_database_is_whole() {
    let site = Site::new("first");
    let file = site.at("b.tar.zst");
    site.json(&["backup", text(&file)]);
    let (mut old, mut new) = (0, 0);
    let begun = Instant::now();
    site.json(&["restore", text(&file)]);
    let whole_time = begun.elapsed();
    for round in 0..40 {
        site.set("second");
        let mut child = site
            .command(&["restore", text(&file)])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // From the begin to well behind the end, as long as that takes on this machine now.
        std::thread::sleep(whole_time * round / 25);
        child.kill().unwrap();
        child.wait().unwrap();
        SqliteStore::open(&site.database()).unwrap().check().unwrap();
        match site.word().as_str() {
            "second" => old += 1,
            "first" => new += 1,
            other => panic!("{other}"),
        }
        for name in site.left_over().iter().filter(|name| name.contains("before-restore")) {
            fs::remove_file(site.at("var/lib/assimilation").join(name)).unwrap();
        }
    }
    println!("old {old}, new {new}");
    assert!(old > 0 && new > 0, "old {old}, new {new}");
    site.set("second");
    site.json(&["restore", text(&file)]);
    assert_eq!(site.word(), "first");
    let left = site.left_over();
    assert!(
        left.iter().all(|name| name.contains("before-restore") || name.starts_with(".assimcli-")),
        "{left:?}"
    );
}

#[test]
fn a_killed_backup_leaves_no_file_under_its_name() {
    let site = Site::new("first");
    let (mut none, mut whole) = (0, 0);
    let begun = Instant::now();
    site.json(&["backup", text(&site.at("first.tar.zst"))]);
    let whole_time = begun.elapsed();
    for round in 0..30 {
        let file = site.at(&format!("{round}.tar.zst"));
        let mut child =
            site.command(&["backup", text(&file)]).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole_time * round / 15);
        child.kill().unwrap();
        child.wait().unwrap();
        if file.exists() {
            whole += 1;
            site.json(&["backup", "verify", text(&file)]);
        } else {
            none += 1;
        }
    }
    println!("none {none}, whole {whole}");
    assert!(none > 0 && whole > 0, "none {none}, whole {whole}");
}

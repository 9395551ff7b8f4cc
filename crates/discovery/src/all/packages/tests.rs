use super::*;
use crate::run;
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn of(root: &Path) -> Envelope {
    run(&DISCOVERY, "_init_packages", &Host::at(root), &Parameters::new())
}

const STATUS: &str = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\nDescription: shell\n Version: not this\n .\n\n\
Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\
Package: half\nStatus: install ok half-configured\nArchitecture: amd64\nVersion: 1\n\n\n\
Package: held\r\nStatus: hold ok installed\r\nArchitecture: all\r\nVersion: 1:2~rc1-3\r\n\r\n\
package: libc6\nstatus: install ok triggers-pending\narchitecture: i386\nversion: 2.36\n\n\
Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36";

#[test]
fn deb_packages_that_are_installed() {
    let tree = tempfile::tempdir().unwrap();
    put(tree.path(), "var/lib/dpkg/status", STATUS);
    let expected = json!({"deb": {
        "bash::amd64": "5.2-1", "held::all": "1:2~rc1-3", "libc6::i386": "2.36", "libc6::amd64": "2.36",
    }});
    let envelope = of(tree.path());
    assert_eq!(envelope.data, expected);
    assert_eq!(
        envelope.extras["packagetypes"],
        json!(["apk", "deb", "flatpak", "gem", "npm", "pip", "rpm", "snap"])
    );
    assert!(envelope.errors.is_empty());
}

#[test]
fn images_without_dpkg_have_one_file_per_package() {
    let tree = tempfile::tempdir().unwrap();
    put(
        tree.path(),
        "var/lib/dpkg/status.d/base",
        "Package: base-files\nArchitecture: amd64\nVersion: 12.4\n",
    );
    put(tree.path(), "var/lib/dpkg/status.d/base.md5sums", "Package: no\nArchitecture: x\nVersion: 1\n");
    assert_eq!(of(tree.path()).data, json!({"deb": {"base-files::amd64": "12.4"}}));
}

#[test]
fn apk_packages() {
    let tree = tempfile::tempdir().unwrap();
    put(
        tree.path(),
        "lib/apk/db/installed",
        "C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\nF:lib\n\nP:busybox\nV:1.36\n\nP:broken\n\n",
    );
    assert_eq!(of(tree.path()).data, json!({"apk": {"musl": "1.2.5-r0", "busybox": "1.36"}}));
}

/// The original let header lines and error marks of the pip program in among the packages.
#[test]
fn pip_packages_are_packages_only() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    put(
        root,
        "usr/lib/python3/dist-packages/PyYAML-6.0.dist-info/METADATA",
        "Metadata-Version: 2.1\nName: PyYAML\nVersion: 6.0\n\nName: no\n",
    );
    put(root, "usr/lib/python3/dist-packages/old-1.0.egg-info", "Name: old\nVersion: 1.0\n");
    put(root, "usr/lib/python3/dist-packages/egg-2.0-py3.11.egg-info/PKG-INFO", "\n");
    put(
        root,
        "usr/local/lib/python3.11/site-packages/requests-2.31.0.dist-info/METADATA",
        "Name: requests\nVersion: 2.31.0\n",
    );
    put(
        root,
        "usr/lib/python3/dist-packages/requests-2.28.1.dist-info/METADATA",
        "Name: requests\nVersion: 2.28.1\n",
    );
    put(root, "usr/lib/python3/dist-packages/pip-list-got-an-exception/x", "");
    fs::create_dir_all(root.join("usr/lib/python3/dist-packages/bare.dist-info")).unwrap();
    let expected = json!({"pip": {"PyYAML": "6.0", "old": "1.0", "egg": "2.0", "requests": "2.28.1", "requests#2": "2.31.0"}});
    assert_eq!(of(root).data, expected);
}

#[test]
fn a_host_without_packages_gives_an_empty_document() {
    let tree = tempfile::tempdir().unwrap();
    let envelope = of(tree.path());
    assert_eq!((envelope.data, envelope.errors), (json!({}), vec![]));
    put(tree.path(), "var/lib/rpm/rpmdb.sqlite", "x");
    assert!(of(tree.path()).errors[0].contains("rpm"));
    fs::create_dir_all(tree.path().join("var/lib/dpkg/status")).unwrap();
    assert!(of(tree.path()).errors.iter().any(|error| error.contains("/var/lib/dpkg/status: a directory")));
}

#[test]
fn rpm_output_is_parsed_and_doubles_are_numbered() {
    let text = "kernel::x86_64\t5.14.0-2.el9\nkernel::x86_64\t5.14.0-1.el9\nbash::x86_64\t5.1-6\ngpg-pubkey::(none)\tabc-1\njunk\n";
    let mut packages = Packages::new();
    rpm::parse(&mut Lines::new("rpm", text.as_bytes()), &mut packages).unwrap();
    let data = json!({"rpm": numbered(packages)});
    assert_eq!(
        data,
        json!({"rpm": {"bash::x86_64": "5.1-6", "kernel::x86_64": "5.14.0-1.el9", "kernel::x86_64#2": "5.14.0-2.el9"}})
    );
    let envelope = Envelope { data, ..of(Path::new("/nonexistent")) };
    let facts = graph("web1", &envelope);
    let keys: Vec<&str> = facts.edges.iter().map(|edge| edge.target.key.as_str()).collect();
    assert_eq!(
        keys,
        ["rpm/bash/x86_64/5.1-6", "rpm/kernel/x86_64/5.14.0-1.el9", "rpm/kernel/x86_64/5.14.0-2.el9"]
    );
    assert_eq!(facts.edges[0].source, (NodeKind::Drone, "web1".to_owned()));
    assert_eq!(
        Value::Object(facts.edges[0].target.properties.clone()),
        json!({"name": "bash", "arch": "x86_64", "version": "5.1-6", "type": "rpm"})
    );
}

#[test]
fn a_program_is_bounded_in_time_and_its_failure_is_told() {
    let started = Instant::now();
    let error =
        rpm::output_within(Command::new("/bin/sleep").arg("30"), Duration::from_millis(200)).unwrap_err();
    assert!(error.contains("no answer"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    let limit = Duration::from_secs(20);
    assert_eq!(rpm::output_within(Command::new("/bin/echo").arg("x"), limit).unwrap(), b"x\n");
    assert!(rpm::output_within(&mut Command::new("/bin/false"), limit).unwrap_err().contains("failed"));
    assert!(
        rpm::output_within(&mut Command::new("/nonexistent"), limit)
            .unwrap_err()
            .contains("cannot be started")
    );
}

#[test]
fn long_lines_are_cut_and_the_next_one_is_whole() {
    let text = format!("a\n{}\nb\r\n\nc", "x".repeat(200_000));
    let mut lines = Lines::new("f", std::io::BufReader::with_capacity(1000, text.as_bytes()));
    let mut found = Vec::new();
    while let Some(line) = lines.next().unwrap() {
        found.push(line.to_owned());
    }
    assert_eq!(found[1].len(), MAX_LINE_BYTES);
    assert_eq!((&*found[0], &*found[2], &*found[3], &*found[4], found.len()), ("a", "b", "", "c", 5));
}

#[test]
fn this_machine_has_packages() {
    let envelope = run(&DISCOVERY, "_init_packages", &Host::running(), &Parameters::new());
    let packages: usize =
        envelope.data.as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
    assert_eq!(graph("h", &envelope).edges.len(), packages);
    assert_eq!(envelope.errors, Vec::<String>::new());
}

fn link(root: &Path, path: &str, target: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(target, path).unwrap();
}

#[test]
fn npm_packages_that_are_global() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    put(root, "usr/lib/node_modules/npm/package.json", r#"{"name": "npm", "version": "9.2.0", "bin": {}}"#);
    put(
        root,
        "usr/lib/node_modules/npm/node_modules/inner/package.json",
        r#"{"name": "inner", "version": "1"}"#,
    );
    put(
        root,
        "usr/local/lib/node_modules/@angular/cli/package.json",
        r#"{"version": "17.0.1", "name": "@angular/cli"}"#,
    );
    put(root, "usr/share/nodejs/npm/package.json", r#"{"name": "npm", "version": "9.3.0"}"#);
    put(root, "usr/share/nodejs/broken/package.json", "{");
    put(root, "usr/share/nodejs/nameless/package.json", r#"{"version": 1}"#);
    put(root, "usr/share/nodejs/.cache/package.json", r#"{"name": "hidden", "version": "1"}"#);
    put(root, "usr/share/nodejs/file", "");
    link(root, "usr/share/nodejs/linked", "npm");
    let expected = json!({"npm": {"npm": "9.2.0", "npm#2": "9.3.0", "@angular/cli": "17.0.1"}});
    assert_eq!(of(root).data, expected);
}

#[test]
fn gems_are_told_by_their_file_names() {
    for (file, expected) in [
        ("rack-2.2.6.4.gemspec", Some(("rack", "2.2.6.4"))),
        ("net-http2-0.18.gemspec", Some(("net-http2", "0.18"))),
        ("nokogiri-1.15.4-x86_64-linux.gemspec", Some(("nokogiri", "1.15.4"))),
        ("ffi-1.16.3-universal-darwin-20.gemspec", Some(("ffi", "1.16.3"))),
        ("rails-7.1.0.rc1.gemspec", Some(("rails", "7.1.0.rc1"))),
        ("old-3.gemspec", Some(("old", "3"))),
        ("two-2fa-1.0.gemspec", Some(("two-2fa", "1.0"))),
        ("noversion.gemspec", None),
        ("-1.0.gemspec", None),
        ("rack-2.2.6.4.rb", None),
        ("a b-1.0.gemspec", None),
    ] {
        let expected = expected.map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(gem::parse(file), expected, "{file}");
    }
    let tree = tempfile::tempdir().unwrap();
    put(tree.path(), "usr/lib/ruby/gems/3.1.0/specifications/default/json-2.6.1.gemspec", "");
    put(tree.path(), "usr/share/rubygems-integration/all/specifications/rake-13.0.6.gemspec", "");
    put(tree.path(), "var/lib/gems/3.1.0/specifications/rake-13.1.0.gemspec", "");
    put(tree.path(), "usr/share/gems/specifications/README", "");
    let expected = json!({"gem": {"json": "2.6.1", "rake": "13.0.6", "rake#2": "13.1.0"}});
    assert_eq!(of(tree.path()).data, expected);
}

#[test]
fn snaps_mounted_or_not() {
    let tree = tempfile::tempdir().unwrap();
    let root = tree.path();
    for file in ["core22_1122.snap", "core22_864.snap", "own_x2.snap", "junk.snap", "partial"] {
        put(root, &format!("var/lib/snapd/snaps/{file}"), "");
    }
    assert_eq!(of(root).data, json!({"snap": {"core22": "1122", "own": "x2"}}));
    put(root, "snap/core22/1122/meta/snap.yaml", "name: core22\nversion: '20240111'\napps:\n  version: no\n");
    link(root, "snap/core22/current", "1122");
    link(root, "snap/unmounted/current", "7");
    put(root, "snap/README", "");
    assert_eq!(of(root).data, json!({"snap": {"core22": "20240111-1122", "unmounted": "7"}}));
}

#[test]
fn flatpak_applications() {
    let tree = tempfile::tempdir().unwrap();
    let app = "var/lib/flatpak/app/org.gimp.GIMP";
    let commit = "0123456789abcdef0123456789abcdef";
    fs::create_dir_all(tree.path().join(app).join("x86_64/stable").join(commit)).unwrap();
    link(tree.path(), &format!("{app}/x86_64/stable/active"), commit);
    link(tree.path(), &format!("{app}/current"), "x86_64/stable");
    fs::create_dir_all(tree.path().join("var/lib/flatpak/app/org.removed.App/x86_64/stable")).unwrap();
    assert_eq!(of(tree.path()).data, json!({"flatpak": {"org.gimp.GIMP::x86_64": "stable-0123456789ab"}}));
}

/// rpm itself would follow the link to the packages of this machine.
#[test]
fn the_rpm_database_of_a_tree_is_not_looked_for_outside_of_it() {
    let tree = tempfile::tempdir().unwrap();
    put(tree.path(), "usr/lib/sysimage/rpm/rpmdb.sqlite", "x");
    fs::create_dir_all(tree.path().join("var/lib")).unwrap();
    let errors = of(tree.path()).errors;
    assert!(errors.len() == 1 && errors[0].contains("rpm"), "{errors:?}");
    fs::rename(tree.path().join("usr"), tree.path().join("real")).unwrap();
    link(tree.path(), "usr", "real");
    let data = of(tree.path()).data;
    assert_eq!(data, json!({}), "nothing of this machine");
    let host = Host::at(tree.path());
    assert_eq!(rpm::link_on_the_way(&host, "/usr/lib/sysimage/rpm"), Some("/usr"));
    assert_eq!(rpm::link_on_the_way(&host, "/real/lib/sysimage/rpm"), None);
}

const RHEL9: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/packages/rhel9/var/lib/rpm/rpmdb.sqlite");

#[test]
fn fixtures() {
    crate::parse::testing::check_fixtures(&DISCOVERY);
}

/// The log beside the database says that bash is gone and `added` has come.
#[test]
fn a_write_ahead_log_counts() {
    let fixtures = Path::new(RHEL9).ancestors().nth(5).unwrap();
    let before = of(&fixtures.join("rhel9")).data["rpm"].clone();
    let after = of(&fixtures.join("rhel9_log")).data["rpm"].clone();
    assert_eq!(before["bash::x86_64"], "5.1.8-9.el9");
    assert!(after.get("bash::x86_64").is_none() && before.get("added::noarch").is_none());
    assert_eq!(after["added::noarch"], "1.0-1");
    assert_eq!(before.as_object().unwrap().len(), after.as_object().unwrap().len());
}

#[test]
fn a_damaged_rpm_database_is_told_and_never_trusted_blindly() {
    let whole = fs::read(RHEL9).unwrap();
    let read = |bytes: &[u8]| {
        let tree = tempfile::tempdir().unwrap();
        put(tree.path(), "rpmdb.sqlite", bytes);
        rpm_sqlite::installed(&Host::at(tree.path()), "/rpmdb.sqlite")
    };
    assert_eq!(read(&whole).unwrap().len(), 33, "34 less a signature key");
    for end in [0, 50, 100, 512, 1024, whole.len() / 2, whole.len() - 512] {
        assert!(read(&whole[..end]).is_err(), "cut at {end}");
    }
    // A b-tree whose page is its own child.
    let mut circle = whole.clone();
    let interior = (1..).map(|page| page * 512).find(|at| whole[*at] == 5).unwrap();
    circle[interior + 8..interior + 12]
        .copy_from_slice(&u32::try_from(interior / 512 + 1).unwrap().to_be_bytes());
    assert!(read(&circle).unwrap_err().contains("circle"), "{:?}", read(&circle));
}

proptest! {
    /// Whatever a few bytes of the database become: an answer or a reason, in finite time.
    #[test]
    fn no_damage_makes_the_reader_of_rpm_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30)) {
        let mut bytes = fs::read(RHEL9).unwrap();
        for (place, byte) in changes {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        let tree = tempfile::tempdir().unwrap();
        put(tree.path(), "rpmdb.sqlite", bytes);
        let _ = rpm_sqlite::installed(&Host::at(tree.path()), "/rpmdb.sqlite");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut packages = Packages::new();
        deb::parse(&mut Lines::new("f", bytes.as_slice()), true, &mut packages).unwrap();
        rpm::parse(&mut Lines::new("f", bytes.as_slice()), &mut packages).unwrap();
        pip::parse_metadata(&mut Lines::new("f", bytes.as_slice()));
        pip::by_directory_name(&String::from_utf8_lossy(&bytes));
        gem::parse(&format!("{}.gemspec", String::from_utf8_lossy(&bytes)));
        npm::parse(&bytes);
    }

    #[test]
    fn stanzas_in_any_order_of_fields(name in "[a-z0-9+.-]{2,12}", version in "[0-9][0-9a-z.+~:-]{0,9}", order in Just([0, 1, 2, 3]).prop_shuffle()) {
        let fields = [
            format!("Package: {name}\n"),
            format!("Version: {version}\n"),
            "Architecture: all\n".to_owned(),
            "Status: install ok installed\n".to_owned(),
        ];
        let text: String = order.iter().map(|i| fields[*i].clone()).collect();
        let mut packages = Packages::new();
        deb::parse(&mut Lines::new("f", text.as_bytes()), false, &mut packages).unwrap();
        prop_assert_eq!(packages.into_iter().collect::<Vec<_>>(), [(format!("{name}::all"), version)]);
    }
}

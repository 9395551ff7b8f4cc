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
    assert_eq!(envelope.extras["packagetypes"], json!(["apk", "deb", "pip", "rpm"]));
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

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut packages = Packages::new();
        deb::parse(&mut Lines::new("f", bytes.as_slice()), true, &mut packages).unwrap();
        rpm::parse(&mut Lines::new("f", bytes.as_slice()), &mut packages).unwrap();
        pip::parse_metadata(&mut Lines::new("f", bytes.as_slice()));
        pip::by_directory_name(&String::from_utf8_lossy(&bytes));
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

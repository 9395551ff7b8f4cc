//! Key directories as administrators leave them: fresh, complete, damaged, too open.

use model::{Designation, PublicKey};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use wire::keys::{KeyDirectory, KeyError, KeyId, KeyPair, Pinned};

fn fresh() -> (TempDir, PathBuf, KeyDirectory) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("share/crypto.d");
    let keys = KeyDirectory::open_or_create(&path).unwrap();
    (home, path, keys)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn picard() -> Designation {
    Designation::new("picard").unwrap()
}

fn ids(made: &[KeyId]) -> Vec<&str> {
    made.iter().map(KeyId::as_str).collect()
}

#[test]
fn the_first_run_makes_two_pairs_and_later_ones_one() {
    let (_home, path, keys) = fresh();
    assert_eq!(ids(&keys.generate_cma().unwrap()), ["#CMA#00000", "#CMA#00001"]);
    assert_eq!(ids(&keys.generate_cma().unwrap()), ["#CMA#00002"]);
    assert_eq!(mode(&path), 0o700);
    for number in 0..3 {
        let public = path.join(format!("#CMA#0000{number}.pub"));
        let secret = path.join(format!("#CMA#0000{number}.secret"));
        assert_eq!((mode(&public), mode(&secret)), (0o644, 0o600));
        assert_eq!((fs::read(&public).unwrap().len(), fs::read(&secret).unwrap().len()), (32, 32));
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 6, "no temporary files are left");
    assert!(keys.check().unwrap().is_empty());
    assert_eq!(keys.cma_publics().unwrap().len(), 3);
}

#[test]
fn the_lowest_secret_present_signs() {
    let (_home, path, keys) = fresh();
    keys.generate_cma().unwrap();
    let publics = keys.cma_publics().unwrap();
    assert_eq!(keys.cma_pair().unwrap().1.public(), publics[0].1);
    fs::remove_file(path.join("#CMA#00000.secret")).unwrap();
    let (id, pair) = keys.cma_pair().unwrap();
    assert_eq!((id.as_str(), pair.public()), ("#CMA#00001", publics[1].1));
    fs::remove_file(path.join("#CMA#00001.secret")).unwrap();
    assert!(matches!(keys.cma_pair(), Err(KeyError::NoCmaSecret { .. })));
    // A number whose secret is off-line is not used again.
    assert_eq!(ids(&keys.generate_cma().unwrap()), ["#CMA#00002"]);
}

#[test]
fn a_nanoprobe_makes_its_pair_once() {
    let (_home, path, keys) = fresh();
    let (id, pair) = keys.own_pair(&picard()).unwrap();
    assert_eq!(id.as_str(), format!("picard@@{}", pair.public().fingerprint()));
    assert_eq!(mode(&path.join(id.secret_file())), 0o600);
    let (again, same) = keys.own_pair(&picard()).unwrap();
    assert_eq!((again, same.public()), (id.clone(), pair.public()));
    let (other, _) = keys.own_pair(&Designation::new("riker").unwrap()).unwrap();
    assert_ne!(other, id);
    // A crash between the two files does not stop it.
    fs::remove_file(path.join(id.public_file())).unwrap();
    assert_eq!(keys.own_pair(&picard()).unwrap().1.public(), pair.public());
    assert!(path.join(id.public_file()).exists());
}

#[test]
fn one_list_says_which_hosts_have_a_key() {
    let (_home, _, keys) = fresh();
    let long = Designation::new(&"x".repeat(150)).unwrap();
    let other = Designation::new("pic").unwrap();
    let key = KeyPair::generate().unwrap().public();
    keys.generate_cma().unwrap();
    assert!(!keys.hosts_with_keys().unwrap().contains(&picard()));
    for name in [&picard(), &long] {
        keys.pin_first(name, &key).unwrap();
    }
    let listed = keys.hosts_with_keys().unwrap();
    assert!(listed.contains(&picard()) && listed.contains(&long) && !listed.contains(&other));
    assert_eq!(keys.pin(&picard(), &key).unwrap(), Pinned::Known(KeyId::host(&picard(), &key)));
}

#[test]
fn keys_are_pinned_at_first_use_and_conflicts_change_nothing() {
    let (_home, path, keys) = fresh();
    let (one, two) = (KeyPair::generate().unwrap().public(), KeyPair::generate().unwrap().public());
    let Pinned::New(id) = keys.pin(&picard(), &one).unwrap() else { panic!("first use") };
    assert_eq!(fs::read(path.join(id.public_file())).unwrap(), one.0);
    assert_eq!(keys.pin(&picard(), &one).unwrap(), Pinned::Known(id.clone()));
    assert_eq!(keys.pin(&picard(), &two).unwrap(), Pinned::Conflict { pinned: one });
    assert_eq!(keys.pinned(&picard()).unwrap(), [(id.clone(), one)]);
    assert_eq!(keys.unpin(&picard()).unwrap(), [id]);
    assert!(matches!(keys.pin(&picard(), &two).unwrap(), Pinned::New(_)));
    // The CMA host's own nanoprobe keeps its pair.
    let (own, _) = keys.own_pair(&Designation::new("riker").unwrap()).unwrap();
    assert!(keys.unpin(&Designation::new("riker").unwrap()).unwrap().is_empty());
    assert!(path.join(own.public_file()).exists());
}

#[test]
fn a_directory_that_others_can_look_into_is_refused_with_the_remedy() {
    let (_home, path, _keys) = fresh();
    for open in [0o750, 0o701, 0o704] {
        set_mode(&path, open);
        let error = KeyDirectory::open(&path).unwrap_err();
        assert!(matches!(error, KeyError::OpenDirectory { mode, .. } if mode == open), "{error}");
        assert!(error.to_string().contains(&format!("chmod 700 '{}'", path.display())), "{error}");
    }
    set_mode(&path, 0o700);
    assert!(KeyDirectory::open(&path).is_ok());
    assert!(matches!(KeyDirectory::open(path.join("none")), Err(KeyError::NoDirectory { .. })));
}

#[test]
fn each_kind_of_damage_is_named() {
    let (_home, path, keys) = fresh();
    keys.generate_cma().unwrap();
    let (public, secret) = (path.join("#CMA#00000.pub"), path.join("#CMA#00000.secret"));
    let good = (fs::read(&public).unwrap(), fs::read(&secret).unwrap());
    let says = |wanted: &[&str]| {
        let error = keys.cma_pair().unwrap_err().to_string();
        wanted.iter().for_each(|part| assert!(error.contains(part), "{part:?} in {error:?}"));
        assert!(!keys.check().unwrap().is_empty(), "check finds it too");
    };
    set_mode(&secret, 0o640);
    says(&["#CMA#00000.secret", "0640", "chmod 600"]);
    set_mode(&secret, 0o600);
    set_mode(&public, 0o646);
    says(&["#CMA#00000.pub", "0646", "chmod 644"]);
    set_mode(&public, 0o644);
    for length in [0, 31, 33, 1000] {
        fs::write(&secret, vec![1; length]).unwrap();
        says(&["#CMA#00000.secret", &format!("{length} bytes"), "rm"]);
    }
    fs::write(&secret, &good.1).unwrap();
    fs::write(&public, [9; 32]).unwrap();
    says(&["#CMA#00000.pub", "does not belong"]);
    fs::remove_file(&public).unwrap();
    says(&["#CMA#00000.pub", "missing", "assimcli genkeys"]);
    assert_eq!(ids(&keys.mend().unwrap()), ["#CMA#00000"]);
    assert_eq!(fs::read(&public).unwrap(), good.0);
    assert!(keys.check().unwrap().is_empty());
}

#[test]
fn only_regular_files_are_read() {
    let (home, path, keys) = fresh();
    keys.generate_cma().unwrap();
    let secret = path.join("#CMA#00000.secret");
    let outside = home.path().join("outside");
    fs::write(&outside, fs::read(&secret).unwrap()).unwrap();
    set_mode(&outside, 0o600);
    fs::remove_file(&secret).unwrap();
    symlink(&outside, &secret).unwrap();
    assert!(matches!(keys.cma_pair(), Err(KeyError::NotRegular { path }) if path == secret));
    fs::remove_file(&secret).unwrap();
    fs::create_dir(&secret).unwrap();
    set_mode(&secret, 0o700);
    assert!(matches!(keys.cma_pair(), Err(KeyError::NotRegular { path }) if path == secret));
    fs::remove_dir(&secret).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &secret,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(
        matches!(keys.cma_pair(), Err(KeyError::NotRegular { path }) if path == secret),
        "and does not hang"
    );
}

#[test]
fn strange_names_are_reported_and_left_alone() {
    let (_home, path, keys) = fresh();
    keys.generate_cma().unwrap();
    for name in ["#CMA#0x.pub", "#CMA#000000.secret", "a b.pub", "README", "#CMA#00000.pub~"] {
        fs::write(path.join(name), [1; 32]).unwrap();
    }
    let named = format!("picard@@{}.pub", PublicKey([8; 32]).fingerprint());
    fs::write(path.join(&named), [1; 32]).unwrap();
    let problems: Vec<String> = keys.check().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 4, "{problems:#?}");
    for part in ["#CMA#0x.pub", "#CMA#000000.secret", "a b.pub", &named] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:#?}");
    }
    assert_eq!(keys.cma_publics().unwrap().len(), 2);
    assert!(matches!(keys.pinned(&picard()), Err(KeyError::WrongName { .. })));
}

#[test]
fn without_cma_keys_a_nanoprobe_is_told_what_to_do() {
    let (_home, _path, keys) = fresh();
    let error = keys.cma_publics().unwrap_err();
    assert!(matches!(error, KeyError::NoCmaKey { .. }));
    assert!(error.to_string().contains("assimcli genkeys"), "{error}");
}

/// The directory is the CMA's, and the nanoprobe is root's. Needs root, like a nanoprobe beside a CMA.
#[test]
fn a_nanoprobe_keeps_its_secret_from_the_owner_of_the_directory() {
    let (_home, path, _) = fresh();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let owner = |file: String| fs::metadata(path.join(file)).unwrap().uid();
    std::os::unix::fs::chown(&path, Some(12345), Some(12345)).unwrap();
    let keys = KeyDirectory::open(&path).unwrap();
    let made = keys.generate_cma().unwrap();
    assert_eq!((owner(made[0].secret_file()), owner(made[0].public_file())), (12345, 12345));
    let (id, pair) = keys.own_pair(&picard()).unwrap();
    assert_eq!((owner(id.secret_file()), owner(id.public_file())), (0, 12345));
    assert_eq!(mode(&path.join(id.secret_file())), 0o600);

    // One of an earlier version is taken back, also where the public key is missing; nobody else's is.
    for without_public in [false, true] {
        std::os::unix::fs::chown(path.join(id.secret_file()), Some(12345), Some(12345)).unwrap();
        if without_public {
            fs::remove_file(path.join(id.public_file())).unwrap();
        }
        assert_eq!(keys.own_pair(&picard()).unwrap().1.public(), pair.public());
        assert_eq!((owner(id.secret_file()), owner(id.public_file())), (0, 12345));
    }
    assert_eq!(owner(made[0].secret_file()), 12345);
    assert!(keys.check().unwrap().is_empty());
}

#[test]
fn a_directory_that_may_only_be_read_is_enough_to_read() {
    let (_home, path, keys) = fresh();
    keys.generate_cma().unwrap();
    let (id, _) = keys.own_pair(&picard()).unwrap();
    set_mode(&path, 0o500);
    let read_only = KeyDirectory::open(&path).unwrap();
    assert_eq!(read_only.cma_publics().unwrap().len(), 2);
    assert_eq!(read_only.own_pair(&picard()).unwrap().0, id);
    if !rustix::process::geteuid().is_root() {
        assert!(matches!(read_only.generate_cma(), Err(KeyError::NotAllowed { .. })));
    }
    set_mode(&path, 0o700);
}

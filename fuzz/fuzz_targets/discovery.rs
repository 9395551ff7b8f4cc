//! The bytes are the content of one file; the discovery of `DISCOVERY` finds it as `FILE` in an otherwise empty tree
//! (or in a copy of what `TREE` holds). Whatever it is, there must be a document that keeps its promises.

#![no_main]

use discovery::{Host, Parameters};
use libfuzzer_sys::fuzz_target;
use model::envelope::MAX_DOCUMENT_BYTES;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

struct Place {
    // Kept for its directory.
    tree: tempfile::TempDir,
    file: PathBuf,
    discovery: &'static discovery::Discovery,
    instance: &'static discovery::Instance,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let wanted = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("set {name}"));
    let (discovery, instance) = discovery::find(&wanted("DISCOVERY")).expect("DISCOVERY names no discovery");
    // Memory rather than a disk: one file is written for each of some thousand runs a second.
    let tree = tempfile::tempdir_in("/dev/shm").expect("a directory in /dev/shm");
    if let Ok(around) = std::env::var("TREE") {
        copy(Path::new(&around), tree.path()).expect("TREE is copied");
    }
    let file = tree.path().join(wanted("FILE").trim_start_matches('/'));
    // A link in the copied tree would lead out of it.
    let _ = std::fs::remove_file(&file);
    std::fs::create_dir_all(file.parent().expect("FILE names no file")).expect("the directory of FILE");
    Place { tree, file, discovery, instance }
});

/// Directories, files and symbolic links; these as they are, for what they mean is told from the top of the tree.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (path, target) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        let kind = std::fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            copy(&path, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&path)?, &target)?;
        } else if kind.is_file() {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let place = &*PLACE;
    std::fs::write(&place.file, bytes).expect("the file is written");
    let host = Host::at(place.tree.path());
    let envelope = discovery::run(place.discovery, place.instance.name, &host, &Parameters::new());
    assert!(envelope.data.is_object());
    assert!(envelope.canonical().len() <= MAX_DOCUMENT_BYTES);
    for error in &envelope.errors {
        assert!(!error.contains("defect"), "{error}");
        assert_eq!(model::text::printable(error), *error);
        assert!(error.len() < 4096);
    }
    (place.discovery.graph)("host", &envelope);
});

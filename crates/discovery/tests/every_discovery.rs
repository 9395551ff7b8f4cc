//! What holds for every discovery, whatever the host: it ends, it does not panic, its document is bounded and its
//! meaning for the graph can be told. New discoveries are included without a line here.

use discovery::{Discovery, Envelope, Host, Instance, Parameters, all, run};
use model::envelope::MAX_DOCUMENT_BYTES;
use rustix::fs::{CWD, FileType, Mode};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

const TOO_LONG: Duration = Duration::from_secs(60);

fn instances() -> impl Iterator<Item = (&'static Discovery, &'static Instance)> {
    all().iter().flat_map(|discovery| discovery.instances.iter().map(|instance| (*discovery, instance)))
}

/// Runs an instance on a tree and checks what must hold for every document. Returns it with the files looked at,
/// as paths within the tree.
fn checked(
    discovery: &'static Discovery,
    instance: &'static Instance,
    root: &Path,
) -> (Envelope, Vec<PathBuf>) {
    let name = instance.name;
    let (sender, receiver) = mpsc::channel();
    let host = Host::at(root);
    std::thread::spawn(move || {
        let envelope = run(discovery, name, &host, &Parameters::new());
        // Nobody listens any more if this took too long.
        let _ = sender.send((envelope, host.touched()));
    });
    let (envelope, touched) =
        receiver.recv_timeout(TOO_LONG).unwrap_or_else(|_| panic!("{name} does not end"));
    assert!(envelope.data.is_object(), "{name}: {:?}", envelope.data);
    assert!(envelope.canonical().len() <= MAX_DOCUMENT_BYTES, "{name}");
    for error in &envelope.errors {
        assert!(!error.contains("defect"), "{name}: {error}");
        assert_eq!(model::text::printable(error), *error, "{name}");
        assert!(error.len() < 4096, "{name}: an error of {} bytes", error.len());
    }
    (discovery.graph)("host", &envelope);
    let root = fs::canonicalize(root).unwrap();
    let files = touched.files.iter().map(|file| file.strip_prefix(&root).unwrap().to_owned()).collect();
    (envelope, files)
}

/// Puts something in the place of each file that the instance asks an empty host for, and runs it again. What is
/// found then may lead to further files: those are replaced too, a few times over.
fn with_files_replaced(put: impl Fn(&Path)) -> Vec<(&'static str, Envelope, usize)> {
    let mut documents = Vec::new();
    for (discovery, instance) in instances() {
        let tree = tempfile::tempdir().unwrap();
        let (mut envelope, mut files) = checked(discovery, instance, tree.path());
        let mut replaced = 0;
        for _ in 0..3 {
            for file in &files {
                let path = tree.path().join(file);
                if path.parent().is_some_and(|parent| fs::create_dir_all(parent).is_ok())
                    && fs::symlink_metadata(&path).is_err()
                {
                    put(&path);
                    replaced += 1;
                }
            }
            (envelope, files) = checked(discovery, instance, tree.path());
        }
        documents.push((instance.name, envelope, replaced));
    }
    documents
}

#[test]
fn an_empty_host() {
    let tree = tempfile::tempdir().unwrap();
    let mut looked = 0;
    for (discovery, instance) in instances() {
        looked += checked(discovery, instance, tree.path()).1.len();
    }
    assert!(looked > 10, "the discoveries looked at {looked} files only");
}

#[test]
fn a_fifo_in_the_place_of_every_file_blocks_nothing() {
    let put = |path: &Path| {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    };
    let documents = with_files_replaced(put);
    assert!(documents.iter().map(|(_, _, replaced)| replaced).sum::<usize>() > 10);
    let told = documents
        .iter()
        .filter(|(_, envelope, _)| envelope.errors.iter().any(|e| e.contains("FIFO")))
        .count();
    assert!(told > 5, "only {told} discoveries told of a FIFO");
}

#[test]
fn a_directory_in_the_place_of_every_file() {
    with_files_replaced(|path| fs::create_dir(path).unwrap());
}

#[test]
fn binary_junk_in_the_place_of_every_file() {
    // A multiplicative generator: the same bytes each time, with line ends, blanks and quotes among them.
    let mut state = 1u32;
    let mut junk = Vec::new();
    for _ in 0..200_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        junk.push(match state >> 28 {
            0 => b'\n',
            1 => b' ',
            2 => b"=:\"'\\#@,!(){}[]"[(state >> 20) as usize % 15],
            3..9 => b'a' + (state >> 16) as u8 % 26,
            _ => (state >> 16) as u8,
        });
    }
    with_files_replaced(|path| fs::write(path, &junk).unwrap());
}

#[test]
fn one_endless_line_in_the_place_of_every_file() {
    let line = "key = value ".repeat(100_000);
    with_files_replaced(|path| fs::write(path, &line).unwrap());
}

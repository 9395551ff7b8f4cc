//! Something unexpected in the place of every file that a discovery asks for.

use crate::{checked, instances};
use discovery::Envelope;
use rustix::fs::{CWD, FileType, Mode};
use std::fs;
use std::path::Path;

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

#[test]
fn a_symlink_to_itself_in_the_place_of_every_file() {
    with_files_replaced(|path| {
        std::os::unix::fs::symlink(path.file_name().unwrap(), path).unwrap();
    });
}

#[test]
fn a_device_in_the_place_of_every_file_is_not_read() {
    // The numbers of /dev/zero, which never ends; only root may make one.
    let device = rustix::fs::makedev(1, 5);
    let probe = tempfile::tempdir().unwrap();
    let may = rustix::fs::mknodat(
        CWD,
        probe.path().join("zero"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o644),
        device,
    );
    let documents = with_files_replaced(|path| match may {
        Ok(()) => {
            rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o644), device)
                .unwrap()
        }
        // Without root a socket has to do: it cannot be read either.
        Err(_) => rustix::fs::mknodat(CWD, path, FileType::Socket, Mode::from_raw_mode(0o644), 0).unwrap(),
    });
    let told = documents.iter().filter(|(_, envelope, _)| !envelope.errors.is_empty()).count();
    assert!(told > 5, "only {told} discoveries told of it");
}

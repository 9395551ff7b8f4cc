//! Files of real shape, damaged: what is cut off, doubled, binary or of another system's line ends is told, and costs
//! nothing else. The same damages each time: a failure can be looked at again.

use crate::{checked, instances};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Damages to each file of each fixture.
const ROUNDS: u32 = 6;
/// What parsers look for.
const TOKENS: &[&[u8]] = &[
    b"\"",
    b"'",
    b"\\\n",
    b"\\",
    b"#",
    b"=",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"!",
    b"%",
    b"\0",
    b"\xff",
    b"\r\n",
    b"\n\n",
    b"\t",
    b" -1 ",
    b"99999999999999999999",
    b"0x",
    b"include ",
    b"@include ",
    b"\xef\xbb\xbf",
];

/// A multiplicative generator: enough for damage, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

fn damaged(original: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        let end = (at + dice.below(200)).min(bytes.len());
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => drop(bytes.splice(at..at, TOKENS[dice.below(TOKENS.len())].iter().copied())),
            4 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            _ => bytes = bytes.split(|b| *b == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]),
        }
    }
    bytes
}

fn fixtures() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found = Vec::new();
    for kind in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = kind.file_name().unwrap().to_str().unwrap().to_owned();
        let trees =
            fs::read_dir(&kind).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        found.extend(trees.map(|tree| (name.clone(), tree)));
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(copy(&entry.path(), &target));
        } else if kind.is_file() {
            fs::copy(entry.path(), &target).unwrap();
            files.push(target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), &target).unwrap();
        }
    }
    files.sort();
    files
}

#[test]
fn damaged_files() {
    let mut dice = Dice(20_261_123);
    let mut damages = 0;
    for (name, fixture) in fixtures() {
        let tree = tempfile::tempdir().unwrap();
        let files = copy(&fixture, tree.path());
        for file in &files {
            let original = fs::read(file).unwrap();
            for _ in 0..ROUNDS {
                fs::write(file, damaged(&original, &mut dice)).unwrap();
                for (discovery, instance) in instances().filter(|(discovery, _)| discovery.name == name) {
                    checked(discovery, instance, tree.path());
                    damages += 1;
                }
            }
            fs::write(file, original).unwrap();
        }
    }
    assert!(damages > 500, "only {damages} damaged files were read");
}

#[test]
fn names_that_are_not_utf8_beside_every_file() {
    for (name, fixture) in fixtures() {
        let tree = tempfile::tempdir().unwrap();
        let files = copy(&fixture, tree.path());
        for file in &files {
            let beside = file.with_file_name(std::ffi::OsStr::from_bytes(b"\xff\x1b[2J.conf"));
            fs::copy(file, beside).unwrap();
        }
        for (discovery, instance) in instances().filter(|(discovery, _)| discovery.name == name) {
            checked(discovery, instance, tree.path());
        }
    }
}

/// Ends the other thread also when a check fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn files_that_change_and_vanish_while_they_are_read() {
    for (name, fixture) in fixtures() {
        let tree = tempfile::tempdir().unwrap();
        let files = copy(&fixture, tree.path());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let originals: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
                while !done.load(Ordering::Relaxed) {
                    for (file, original) in files.iter().zip(&originals) {
                        fs::write(file, &original[..original.len() / 2]).unwrap();
                        fs::remove_file(file).unwrap();
                        fs::write(file, original).unwrap();
                    }
                }
            });
            let _done = SetAtEnd(&done);
            for (discovery, instance) in instances().filter(|(discovery, _)| discovery.name == name) {
                for _ in 0..10 {
                    checked(discovery, instance, tree.path());
                }
            }
        });
    }
}

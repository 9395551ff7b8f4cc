//! The file: a tar archive compressed by zstd, with a manifest first that has the size and SHA-256 of every part.

use super::parts::{self, DATABASE, Part};
use crate::Failure;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

/// Version of the layout of the file.
const FORMAT: u32 = 1;
/// The folder that everything is in, so that unpacking makes one directory.
const FOLDER: &str = "assimilation-backup/";
const MANIFEST: &str = "manifest.json";
/// Largest manifest that is read; one line of it is about 200 bytes.
const MAX_MANIFEST_BYTES: u64 = 16 * 1024 * 1024;
/// What may follow the last part: tar fills its records up, GNU tar's to 10 KB.
const MAX_PADDING_BYTES: u64 = 1024 * 1024;
/// zstd's usual level: bodies of documents are compressed already.
const LEVEL: i32 = 3;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Program and version that made it.
    pub program: String,
    /// Host name of the machine.
    pub host: String,
    /// RFC 3339.
    pub made: String,
    /// Version of the tables of the database.
    pub schema: i64,
    pub with_keys: bool,
    pub parts: Vec<Entry>,
}

/// One part as the manifest has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub bytes: u64,
    /// Lower-case hexadecimal digits.
    pub sha256: String,
    /// Permission bits.
    pub mode: u32,
}

impl Manifest {
    /// Size of all parts together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }
}

/// Says where a part is written to.
pub type Take<'a> = &'a mut dyn FnMut(&Manifest, &Entry) -> Result<Box<dyn Write>, Failure>;

/// Makes the entry of a file by reading it.
///
/// # Errors
/// The file cannot be read.
pub fn entry(part: &Part, tick: &mut dyn FnMut(u64)) -> Result<Entry, Failure> {
    let file = File::open(&part.path).map_err(|error| unreadable(&part.path, &error))?;
    let (bytes, sha256) = sum(file, tick, &mut io::sink()).map_err(|error| unreadable(&part.path, &error))?;
    Ok(Entry { name: part.name.clone(), bytes, sha256, mode: part.mode })
}

/// Writes manifest and parts (in the same order) to `to`. `tick` is told the bytes of each piece.
///
/// # Errors
/// A part cannot be read or changed since its sum was made; the backup cannot be written.
pub fn write(
    to: &mut dyn Write,
    manifest: &Manifest,
    files: &[Part],
    tick: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure::new(format!("the backup cannot be written: {error}"));
    let mut encoder = zstd::stream::Encoder::new(to, LEVEL).map_err(cannot)?;
    encoder.include_checksum(true).map_err(cannot)?;
    let mut archive = tar::Builder::new(encoder);
    let made = model::Timestamp::parse(&manifest.made).map_or(0, |time| time.0 / 1_000_000);
    let text = serde_json::to_vec_pretty(manifest).map_err(|error| Failure::new(error.to_string()))?;
    let mut append = |name: &str, mode: u32, bytes: u64, data: &mut dyn Read| -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(mode);
        header.set_mtime(u64::try_from(made).unwrap_or(0));
        archive.append_data(&mut header, format!("{FOLDER}{name}"), data)
    };
    append(MANIFEST, 0o600, text.len() as u64, &mut text.as_slice()).map_err(cannot)?;
    for (part, entry) in files.iter().zip(&manifest.parts) {
        let file = File::open(&part.path).map_err(|error| unreadable(&part.path, &error))?;
        let mut counted = Counted { inner: file.take(entry.bytes), hash: Sha256::new(), read: 0, tick };
        append(&entry.name, entry.mode, entry.bytes, &mut counted).map_err(cannot)?;
        // Somebody edits the configuration while it is backed up.
        if counted.read != entry.bytes || hexadecimal(&counted.hash.finalize()) != entry.sha256 {
            return Err(Failure::new(format!("{} was changed while it was backed up", part.path.display()))
                .hint("Make the backup again."));
        }
    }
    archive.into_inner().and_then(zstd::stream::Encoder::finish).map_err(cannot)?.flush().map_err(cannot)
}

/// Reads a whole backup, compares it with its manifest, and writes every part to what `take` gives for it.
///
/// # Errors
/// The file is no backup, is damaged, incomplete, or of a version that this program does not know.
pub fn read(file: &Path, tick: &mut dyn FnMut(u64), take: Take<'_>) -> Result<Manifest, Failure> {
    let damaged = |what: String| {
        Failure::new(format!("{} is no whole backup: {what}", file.display()))
            .hint("Take another one; nothing was changed.")
    };
    let broken = |error: io::Error| damaged(error.to_string());
    let opened = File::open(file).map_err(|error| unreadable(file, &error))?;
    let decoder = zstd::stream::Decoder::with_buffer(BufReader::new(opened)).map_err(broken)?;
    let mut archive = tar::Archive::new(decoder);
    let mut manifest: Option<Manifest> = None;
    let mut missing: BTreeMap<String, Entry> = BTreeMap::new();
    for found in archive.entries().map_err(broken)? {
        let mut found = found.map_err(broken)?;
        let path = found.path().map_err(broken)?.to_string_lossy().into_owned();
        let Some(name) = path.strip_prefix(FOLDER).filter(|_| found.header().entry_type().is_file()) else {
            return Err(damaged(format!("{} does not belong there", model::text::printable(&path))));
        };
        let Some(known) = &manifest else {
            let read = manifest_of(&mut found, name).map_err(damaged)?;
            missing = read.parts.iter().map(|part| (part.name.clone(), part.clone())).collect();
            if missing.len() != read.parts.len() {
                return Err(damaged("a part is named twice".into()));
            }
            manifest = Some(read);
            continue;
        };
        let Some(entry) = missing.remove(name) else {
            return Err(damaged(format!(
                "{} is not in its manifest, or there twice",
                model::text::printable(name)
            )));
        };
        if found.size() != entry.bytes {
            return Err(damaged(format!("{name} has {} bytes instead of {}", found.size(), entry.bytes)));
        }
        let mut target = take(known, &entry)?;
        let (bytes, sha256) = sum(&mut found, tick, &mut target).map_err(broken)?;
        if (bytes, sha256.as_str()) != (entry.bytes, entry.sha256.as_str()) {
            return Err(damaged(format!("{name} is not what was backed up")));
        }
    }
    // Behind the end of the archive there is only padding, and then the end of the compressed stream with its checksum.
    let mut rest = archive.into_inner().take(MAX_PADDING_BYTES + 1);
    if io::copy(&mut rest, &mut io::sink()).map_err(broken)? > MAX_PADDING_BYTES {
        return Err(damaged("something follows its end".into()));
    }
    let manifest = manifest.ok_or_else(|| damaged("it is empty".into()))?;
    match missing.keys().next() {
        Some(name) => Err(damaged(format!("{name} is missing"))),
        None => Ok(manifest),
    }
}

/// Reads a whole backup and compares it with its manifest.
///
/// # Errors
/// As [`read`].
pub fn check(file: &Path, tick: &mut dyn FnMut(u64)) -> Result<Manifest, Failure> {
    read(file, tick, &mut |_, _| Ok(Box::new(io::sink())))
}

/// Whether a file is an SQLite database, such as the copies that the CMA keeps.
pub fn is_database(file: &Path) -> Result<bool, Failure> {
    let mut start = Vec::new();
    let opened = File::open(file).map_err(|error| unreadable(file, &error))?;
    opened.take(16).read_to_end(&mut start).map_err(|error| unreadable(file, &error))?;
    Ok(start == *b"SQLite format 3\0")
}

fn manifest_of(found: &mut impl Read, name: &str) -> Result<Manifest, String> {
    if name != MANIFEST {
        return Err(format!("it begins with {} instead of its manifest", model::text::printable(name)));
    }
    let mut text = Vec::new();
    found.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_MANIFEST_BYTES {
        return Err("its manifest is too large".into());
    }
    let format =
        serde_json::from_slice::<serde_json::Value>(&text).ok().and_then(|json| json["format"].as_u64());
    if format.is_some_and(|format| format > u64::from(FORMAT)) {
        return Err("it was made by a newer version; use that version's assimcli".into());
    }
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| format!("its manifest: {error}"))?;
    let is_known =
        |name: &str| name == DATABASE || parts::place(&model::paths::SitePaths::new("/"), name).is_some();
    if let Some(odd) = manifest.parts.iter().find(|part| !is_known(&part.name)) {
        return Err(format!("no backup has a part {}", model::text::printable(&odd.name)));
    }
    if !manifest.with_keys && manifest.parts.iter().any(|part| parts::is_key(&part.name)) {
        return Err("it says that it is without keys, and has some".into());
    }
    if !manifest.parts.iter().any(|part| part.name == DATABASE) {
        return Err("it has no database".into());
    }
    Ok(manifest)
}

/// A new manifest.
pub fn manifest(
    host: String,
    now: model::Timestamp,
    schema: i64,
    with_keys: bool,
    parts: Vec<Entry>,
) -> Manifest {
    let program = format!("assimcli {}", env!("CARGO_PKG_VERSION"));
    Manifest { format: FORMAT, program, host, made: now.to_utc_text(), schema, with_keys, parts }
}

fn sum(mut from: impl Read, tick: &mut dyn FnMut(u64), to: &mut dyn Write) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        let read = from.read(&mut piece)?;
        if read == 0 {
            to.flush()?;
            return Ok((bytes, hexadecimal(&hash.finalize())));
        }
        hash.update(&piece[..read]);
        to.write_all(&piece[..read])?;
        bytes += read as u64;
        tick(read as u64);
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Counted<'a, R> {
    inner: R,
    hash: Sha256,
    read: u64,
    tick: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.read += read as u64;
        (self.tick)(read as u64);
        Ok(read)
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(format!("{} cannot be read: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failure.hint("Do this as root or as the user that the CMA runs as.")
        }
        _ => failure,
    }
}

/// Makes a name of the directory of `file` last.
pub fn sync_directory(file: &Path) -> io::Result<()> {
    File::open(super::directory_of(file)).and_then(|directory| directory.sync_all())
}

/// Removes what may be there.
pub fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;

    struct Rig {
        directory: tempfile::TempDir,
        files: Vec<Part>,
    }

    fn rig() -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let files =
            [(DATABASE, "pages"), ("etc/assimilation/cma.toml", "debug = 1\n"), ("crypto.d/a.pub", "")]
                .iter()
                .enumerate()
                .map(|(i, (name, text))| {
                    let path = directory.path().join(i.to_string());
                    fs::write(&path, text).unwrap();
                    Part { name: (*name).into(), path, mode: 0o640 }
                })
                .collect();
        Rig { directory, files }
    }

    impl Rig {
        fn manifest(&self) -> Manifest {
            let parts = self.files.iter().map(|part| entry(part, &mut |_| {}).unwrap()).collect();
            manifest("enterprise".into(), Timestamp(7_000_000), 3, false, parts)
        }

        fn written(&self, manifest: &Manifest) -> Vec<u8> {
            let mut bytes = Vec::new();
            write(&mut bytes, manifest, &self.files, &mut |_| {}).unwrap();
            bytes
        }

        fn checked(&self, bytes: &[u8]) -> Result<Manifest, String> {
            let file = self.directory.path().join("backup");
            fs::write(&file, bytes).unwrap();
            check(&file, &mut |_| {}).map_err(|failure| failure.message)
        }
    }

    /// A backup whose tar archive was tampered with before it was compressed.
    fn tampered(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut tar = zstd::stream::decode_all(bytes).unwrap();
        change(&mut tar);
        zstd::stream::encode_all(tar.as_slice(), 1).unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let rig = rig();
        let manifest = rig.manifest();
        let bytes = rig.written(&manifest);
        assert_eq!(rig.checked(&bytes).unwrap(), manifest);
        assert_eq!((manifest.bytes(), manifest.schema, manifest.parts[2].bytes), (15, 3, 0));
        assert_eq!(manifest.made, "1970-01-01T00:00:07.000000Z");
    }

    #[test]
    fn no_damage_goes_unseen() {
        let rig = rig();
        let bytes = rig.written(&rig.manifest());
        for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(rig.checked(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for position in (0..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[position] ^= 0x10;
            let seen = rig.checked(&flipped);
            assert!(seen.as_ref().map_or(true, |seen| *seen == rig.manifest()), "{position}: {seen:?}");
        }
        let find =
            |tar: &[u8], text: &str| tar.windows(text.len()).position(|w| w == text.as_bytes()).unwrap();
        let other_content = tampered(&bytes, |tar| {
            let at = find(tar, "debug = 1\n");
            tar[at + 8] = b'2';
        });
        assert!(rig.checked(&other_content).unwrap_err().contains("cma.toml is not what was backed up"));
        let newer = tampered(&bytes, |tar| {
            let at = find(tar, "\"format\": 1");
            tar[at + 10] = b'9';
        });
        assert!(rig.checked(&newer).unwrap_err().contains("newer version"));
        // Ends after the manifest and the database.
        let short = tampered(&bytes, |tar| {
            let at = find(tar, "debug = 1\n") - 512;
            tar.truncate(at);
            tar.extend([0; 1024]);
        });
        assert!(rig.checked(&short).unwrap_err().contains("is missing"));
    }

    #[test]
    fn hostile_names_are_refused() {
        let mut rig = rig();
        rig.files[1].name = "etc/assimilation/../../root/.ssh/authorized_keys".into();
        let manifest = rig.manifest();
        let mut bytes = Vec::new();
        // The tar crate refuses to write such a name, so the manifest alone says it.
        let _ = write(&mut bytes, &manifest, &rig.files, &mut |_| {});
        assert!(rig.checked(&bytes).is_err());
        rig.files[1].name = "etc/shadow".into();
        let error = rig.checked(&rig.written(&rig.manifest())).unwrap_err();
        assert!(error.contains("no backup has a part etc/shadow"), "{error}");
        rig.files.remove(0);
        rig.files[0].name = "etc/assimilation/cma.toml".into();
        assert!(rig.checked(&rig.written(&rig.manifest())).unwrap_err().contains("no database"));
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_noticed() {
        let rig = rig();
        let manifest = rig.manifest();
        fs::write(&rig.files[1].path, "debug = 2\n").unwrap();
        let failure = write(&mut Vec::new(), &manifest, &rig.files, &mut |_| {}).unwrap_err();
        assert!(failure.message.contains("was changed"), "{}", failure.message);
    }
}

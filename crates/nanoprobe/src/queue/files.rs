//! The queue on disk: how each file is written so that a crash at any moment leaves the old or the new state.
//!
//! ```text
//! <state>/nanoprobe/queue/<sequence, 20 digits>   one change: "ASQ1", SHA-256 of the rest, CBOR
//! <state>/nanoprobe/kept/<instance>               the last acknowledged change of an instance, same format
//! <state>/nanoprobe/acknowledged.cbor             same format
//! <state>/nanoprobe/damaged/                      what could not be read, at most 16 files
//! ```

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use model::envelope::MAX_DOCUMENT_BYTES;
use model::message::Incarnation;
use model::{DocumentHash, Timestamp};
use rustix::fs::{AtFlags, CWD, linkat};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 4] = b"ASQ1";
const HEADER_BYTES: usize = 4 + 32;
/// Longest file that is read back.
const MAX_FILE_BYTES: u64 = MAX_DOCUMENT_BYTES as u64 + 256 * 1024;
const MAX_DAMAGED_FILES: usize = 16;

/// One queued change.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Record {
    #[n(0)]
    pub instance: String,
    /// Of the canonical text; zero bytes when the instance is gone.
    #[n(1)]
    pub hash: DocumentHash,
    /// zstd of the canonical text; `None` when the instance is gone.
    #[n(2)]
    pub body: Option<ByteVec>,
    #[n(3)]
    pub changed_after: Timestamp,
    #[n(4)]
    pub seen: Timestamp,
    #[n(5)]
    pub superseded: u32,
}

/// `acknowledged.cbor`.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Acknowledged {
    #[n(0)]
    pub incarnation: Incarnation,
    /// Last acknowledged sequence; the next change gets a higher one even when the queue is empty.
    #[n(1)]
    pub sequence: u64,
    #[n(2)]
    pub documents: Vec<Document>,
}

/// What the CMA has of one instance.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Document {
    #[n(0)]
    pub instance: String,
    #[n(1)]
    pub hash: DocumentHash,
    /// When this value was last found on the host.
    #[n(2)]
    pub seen: Timestamp,
    /// The CMA refused it for good: not to be sent again, but not there either.
    #[n(3)]
    pub rejected: bool,
}

/// The directory of the queue.
#[derive(Debug)]
pub struct Files {
    state: PathBuf,
}

/// What was found at start.
#[derive(Debug, Default)]
pub struct Found {
    pub acknowledged: Option<Acknowledged>,
    /// Number, record, size; in order.
    pub records: Vec<(u64, Record, u64)>,
    /// What was wrong, for the log.
    pub notes: Vec<String>,
}

impl Files {
    pub fn new(state: &Path) -> Self {
        Self { state: state.into() }
    }

    /// Makes the directories (mode 0700: documents may be confidential).
    pub fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(self.state.parent().unwrap_or(&self.state))?;
        for directory in [self.state.clone(), self.queue(), self.state.join("kept")] {
            match fs::DirBuilder::new().mode(0o700).create(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads everything back. Leftovers of interrupted writes are removed, damaged files are moved aside.
    pub fn load(&self) -> Found {
        let mut found = Found::default();
        let path = self.state.join("acknowledged.cbor");
        match read::<Acknowledged>(&path) {
            Ok(acknowledged) => found.acknowledged = Some(acknowledged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.notes.push(self.put_aside(&path, &error)),
        }
        let _ = fs::remove_file(temporary(&path));
        let mut numbers = Vec::new();
        for entry in fs::read_dir(self.queue()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number =
                name.to_str().filter(|name| name.len() == 20).and_then(|name| name.parse::<u64>().ok());
            match number.filter(|number| *number > 0) {
                Some(number) => numbers.push(number),
                None if entry.path().extension().is_some_and(|extension| extension == "new") => {
                    let _ = fs::remove_file(entry.path());
                }
                None => {
                    let error = io::Error::other("not a file of the queue");
                    found.notes.push(self.put_aside(&entry.path(), &error));
                }
            }
        }
        numbers.sort_unstable();
        for number in numbers {
            let path = self.path(number);
            let sound = read::<Record>(&path).and_then(|record| {
                model::ids::check_instance(&record.instance).map_err(io::Error::other)?;
                Ok((fs::metadata(&path)?.len(), record))
            });
            match sound {
                Ok((bytes, record)) => found.records.push((number, record, bytes)),
                Err(error) => found.notes.push(self.put_aside(&path, &error)),
            }
        }
        found
    }

    pub fn write_acknowledged(&self, acknowledged: &Acknowledged) -> io::Result<()> {
        write(&self.state.join("acknowledged.cbor"), &seal(acknowledged))
    }

    /// Durable when this returns.
    pub fn write(&self, number: u64, sealed: &[u8]) -> io::Result<()> {
        write(&self.path(number), sealed)
    }

    pub fn read(&self, number: u64) -> io::Result<Record> {
        read(&self.path(number))
    }

    pub fn remove(&self, number: u64) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.path(number)))
    }

    pub fn rename(&self, from: u64, to: u64) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    /// The change becomes the kept document of its instance.
    pub fn keep(&self, number: u64, instance: &str) -> io::Result<()> {
        absent_is_fine(fs::rename(self.path(number), self.kept(instance)))
    }

    pub fn forget(&self, instance: &str) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.kept(instance)))
    }

    /// The last acknowledged change of an instance.
    pub fn read_kept(&self, instance: &str) -> Option<Record> {
        read::<Record>(&self.kept(instance)).ok().filter(|record| record.instance == instance)
    }

    /// Whether something can be written at all.
    pub fn probe(&self) -> io::Result<()> {
        let path = self.queue().join("probe");
        write(&path, MAGIC)?;
        fs::remove_file(path)
    }

    pub fn sync_queue(&self) -> io::Result<()> {
        File::open(self.queue())?.sync_all()
    }

    /// Moves a file out of the way; the text is for the log.
    pub fn put_aside(&self, path: &Path, error: &io::Error) -> String {
        let directory = self.state.join("damaged");
        let _ = fs::create_dir_all(&directory);
        let room = fs::read_dir(&directory).is_ok_and(|entries| entries.count() < MAX_DAMAGED_FILES);
        let name = path.file_name().unwrap_or_default();
        // A link keeps an older damaged file of the same name, a rename would not.
        let kept = room && linkat(CWD, path, CWD, directory.join(name), AtFlags::empty()).is_ok();
        if kept || !path.is_dir() {
            let _ = fs::remove_file(path);
        }
        let where_to = if kept { format!("moved to {}", directory.display()) } else { "removed".into() };
        format!("{} is damaged ({error}): {where_to}", path.display())
    }

    pub fn path(&self, number: u64) -> PathBuf {
        self.queue().join(format!("{number:020}"))
    }

    pub fn state(&self) -> &Path {
        &self.state
    }

    fn queue(&self) -> PathBuf {
        self.state.join("queue")
    }

    fn kept(&self, instance: &str) -> PathBuf {
        self.state.join("kept").join(instance)
    }
}

/// Header and CBOR text.
pub fn seal<T: Encode<()>>(value: &T) -> Vec<u8> {
    let payload = model::message::encode(value);
    let mut sealed = Vec::with_capacity(HEADER_BYTES + payload.len());
    sealed.extend_from_slice(MAGIC);
    sealed.extend_from_slice(&DocumentHash::of(&payload).0);
    sealed.extend_from_slice(&payload);
    sealed
}

/// Checks header and sum.
pub fn unseal<T: for<'b> Decode<'b, ()>>(sealed: &[u8]) -> io::Result<T> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let payload = sealed.get(HEADER_BYTES..).ok_or_else(|| damaged("cut off"))?;
    if sealed[..4] != *MAGIC {
        return Err(damaged("another format"));
    }
    if sealed[4..HEADER_BYTES] != DocumentHash::of(payload).0 {
        return Err(damaged("wrong sum"));
    }
    model::message::decode(payload).map_err(|error| damaged(&error.to_string()))
}

fn read<T: for<'b> Decode<'b, ()>>(path: &Path) -> io::Result<T> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file of the queue"));
    }
    let mut sealed = Vec::with_capacity(metadata.len() as usize);
    file.take(MAX_FILE_BYTES).read_to_end(&mut sealed)?;
    unseal(&sealed)
}

/// Temporary name, sync, rename, sync of the directory.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let made = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(path))?.sync_all()
    })();
    if made.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    made
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

//! Checksums of earlier runs, so that only what changed is read again. A file of fixed records below the state directory,
//! believed only when nobody else could have written it.

use crate::host::Identity;
use ring::digest::{SHA256, digest};
use rustix::fs::{FileType, Mode, OFlags};
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// SHA-256
pub type Sum = [u8; 32];

/// More files are not remembered; oldest use goes first.
const MAX_RECORDS: usize = 300_000;
/// Records that nobody asked for are dropped after so many days.
const KEPT_DAYS: u32 = 60;
/// The day of use is written anew when it is older than this, to spare writes.
const DAY_STEP: u32 = 7;
const MAGIC: &[u8; 8] = b"asimsum1";
const RECORD_BYTES: usize = 84;
const NAME: &str = "checksums.cache";
/// A file that changed so short a time before it was read may change again without its times telling, since the
/// clock of file systems ticks in milliseconds to seconds.
const UNSETTLED_SECONDS: i64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    identity: [u8; 48],
    sum: Sum,
    /// Days since 1970 when it was last asked for.
    used: u32,
}

/// The records of a state directory.
#[derive(Debug, Default)]
pub struct Cache {
    /// Sorted by device and inode, which begin the identity.
    old: Vec<Record>,
    /// Device and inode of each: a search among these meets far less memory.
    keys: Vec<u128>,
    new: Vec<Record>,
    today: u32,
    is_stale: bool,
}

impl Cache {
    /// What is in `directory`; empty when there is nothing that can be trusted, and then says why, unless there is just
    /// nothing.
    pub fn load(directory: &Path, now_seconds: i64) -> (Cache, Option<String>) {
        let empty = || Cache { today: day(now_seconds), ..Cache::default() };
        let path = directory.join(NAME);
        match read(&path, uid()) {
            Ok(None) => (empty(), None),
            Ok(Some(old)) => {
                let keys = old.iter().map(|record| key_of(&record.identity)).collect();
                (Cache { old, keys, ..empty() }, None)
            }
            Err(why) => (empty(), Some(format!("{}: {why}: all files are read anew", path.display()))),
        }
    }

    /// A cache that remembers nothing.
    pub fn none(now_seconds: i64) -> Cache {
        Cache { today: day(now_seconds), ..Cache::default() }
    }

    /// The checksum of a file that has not changed since it was put here.
    pub fn get(&mut self, identity: &Identity) -> Option<Sum> {
        let wanted = bytes_of(identity);
        let at = self.keys.binary_search(&key_of(&wanted)).ok()?;
        let record = self.old.get_mut(at).filter(|record| record.identity == wanted)?;
        if record.used.saturating_add(DAY_STEP) < self.today {
            record.used = self.today;
            self.is_stale = true;
        }
        Some(record.sum)
    }

    /// Remembers the checksum of a file, unless it is too young to be sure of.
    pub fn put(&mut self, identity: &Identity, sum: Sum, now_seconds: i64) {
        let youngest = identity.modified.0.max(identity.changed.0);
        if now_seconds.saturating_sub(youngest) >= UNSETTLED_SECONDS {
            self.new.push(Record { identity: bytes_of(identity), sum, used: self.today });
        }
    }

    /// Writes the file if there is anything new.
    ///
    /// # Errors
    /// One sentence. Nothing is lost but time.
    pub fn save(mut self, directory: &Path) -> Result<(), String> {
        if self.new.is_empty() && !self.is_stale {
            return Ok(());
        }
        // Later ones win; a stable sort keeps the order within one file.
        let mut records = std::mem::take(&mut self.new);
        records.reverse();
        records.append(&mut self.old);
        records.sort_by(|a, b| a.identity[..16].cmp(&b.identity[..16]));
        records.dedup_by(|later, first| later.identity[..16] == first.identity[..16]);
        records.retain(|record| record.used.saturating_add(KEPT_DAYS) >= self.today);
        if records.len() > MAX_RECORDS {
            let mut days: Vec<u32> = records.iter().map(|record| record.used).collect();
            days.sort_unstable_by(|a, b| b.cmp(a));
            let oldest = days[MAX_RECORDS - 1];
            records.retain(|record| record.used >= oldest);
            records.truncate(MAX_RECORDS);
        }
        let mut bytes = Vec::with_capacity(MAGIC.len() + records.len() * RECORD_BYTES + 32);
        bytes.extend(MAGIC);
        for record in &records {
            bytes.extend(record.identity);
            bytes.extend(record.sum);
            bytes.extend(record.used.to_le_bytes());
        }
        let check = digest(&SHA256, &bytes);
        bytes.extend(check.as_ref());
        write(directory, NAME, &bytes).map_err(|error| {
            format!("{}: {error}: checksums cannot be kept for the next run", directory.join(NAME).display())
        })
    }
}

/// Replaces a file of the state directory, readable by its owner only.
pub fn write(directory: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    if !directory.is_dir() {
        // Others may have their own beside it, so only this one is closed to them.
        directory.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        DirBuilder::new().mode(0o700).create(directory)?;
    }
    let temporary = directory.join(format!("{name}.new.{}", std::process::id()));
    // What an earlier run left behind under this name.
    let _ = std::fs::remove_file(&temporary);
    let mut options = File::options();
    let written = options.write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        std::fs::rename(&temporary, directory.join(name))
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// The bytes of a file of the state directory. `None` when there is none.
///
/// # Errors
/// Why it is not believed.
pub fn trusted(path: &Path, limit_bytes: u64, owner: u32) -> Result<Option<Vec<u8>>, String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.to_string()),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| errno.to_string())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("not a regular file".into());
    }
    if stat.st_uid != owner || stat.st_mode & 0o077 != 0 || stat.st_nlink != 1 {
        return Err("not trusted, because somebody else could have written it".into());
    }
    let mut bytes =
        Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(limit_bytes as usize) + 1);
    file.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit_bytes { Err("too large".into()) } else { Ok(Some(bytes)) }
}

/// The user whose files are believed.
pub fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn read(path: &Path, owner: u32) -> Result<Option<Vec<Record>>, String> {
    let limit = (MAGIC.len() + MAX_RECORDS * RECORD_BYTES + 32) as u64;
    let Some(bytes) = trusted(path, limit, owner)? else { return Ok(None) };
    parse(&bytes).map(Some).ok_or_else(|| "damaged".to_owned())
}

fn parse(bytes: &[u8]) -> Option<Vec<Record>> {
    let (content, check) = bytes.split_last_chunk::<32>()?;
    if digest(&SHA256, content).as_ref() != check {
        return None;
    }
    let records = content.strip_prefix(MAGIC)?;
    if records.len() % RECORD_BYTES != 0 {
        return None;
    }
    let record = |bytes: &[u8]| {
        Some(Record {
            identity: *bytes.first_chunk()?,
            sum: *bytes[48..].first_chunk()?,
            used: u32::from_le_bytes(*bytes[80..].first_chunk()?),
        })
    };
    records.chunks_exact(RECORD_BYTES).map(record).collect()
}

/// Device and inode first.
fn bytes_of(identity: &Identity) -> [u8; 48] {
    let mut bytes = [0; 48];
    let fields = [
        identity.device.to_be_bytes(),
        identity.inode.to_be_bytes(),
        identity.size_bytes.to_be_bytes(),
        identity.modified.0.to_be_bytes(),
        identity.changed.0.to_be_bytes(),
        (u64::from(identity.modified.1) << 32 | u64::from(identity.changed.1)).to_be_bytes(),
    ];
    for (at, field) in fields.iter().enumerate() {
        bytes[at * 8..at * 8 + 8].copy_from_slice(field);
    }
    bytes
}

/// Device and inode.
fn key_of(identity: &[u8; 48]) -> u128 {
    identity.first_chunk().copied().map_or(0, u128::from_be_bytes)
}

fn day(seconds: i64) -> u32 {
    u32::try_from(seconds / 86_400).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use std::os::unix::fs::PermissionsExt;

    const NOW: i64 = 1_800_000_000;

    fn identity(inode: u64, size_bytes: u64) -> Identity {
        Identity { kind: Kind::Regular, device: 1, inode, size_bytes, modified: (100, 5), changed: (200, 6) }
    }

    #[test]
    fn what_was_saved_is_found_as_long_as_nothing_changes() {
        let state = tempfile::tempdir().unwrap();
        let (mut cache, why) = Cache::load(state.path(), NOW);
        assert_eq!(why, None);
        for inode in (0..100).rev() {
            cache.put(&identity(inode, 7), [inode as u8; 32], NOW);
        }
        cache.put(&identity(3, 7), [0xff; 32], NOW);
        cache.save(state.path()).unwrap();
        let mode = std::fs::metadata(state.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 1, "nothing is left behind");
        let (mut cache, why) = Cache::load(state.path(), NOW);
        assert_eq!(why, None);
        assert_eq!(cache.get(&identity(5, 7)), Some([5; 32]));
        assert_eq!(cache.get(&identity(3, 7)), Some([0xff; 32]), "the later one");
        let same = identity(5, 7);
        for other in [
            identity(500, 7),
            identity(5, 8),
            Identity { device: 2, ..same },
            Identity { modified: (100, 6), ..same },
            Identity { changed: (200, 7), ..same },
            Identity { changed: (201, 6), ..same },
        ] {
            assert_eq!(cache.get(&other), None, "{other:?}");
        }
    }

    #[test]
    fn a_file_that_changed_just_now_is_not_remembered() {
        let mut cache = Cache::none(NOW);
        cache.put(&Identity { changed: (NOW - 1, 0), ..identity(1, 1) }, [1; 32], NOW);
        assert!(cache.new.is_empty());
        cache.put(&Identity { changed: (NOW - 2, 0), ..identity(1, 1) }, [1; 32], NOW);
        assert_eq!(cache.new.len(), 1);
    }

    #[test]
    fn what_others_could_have_written_is_not_believed() {
        let state = tempfile::tempdir().unwrap();
        let fill = || {
            let mut cache = Cache::none(NOW);
            cache.put(&identity(1, 1), [1; 32], NOW);
            cache.save(state.path()).unwrap();
        };
        let path = state.path().join(NAME);
        let refused = |what: &str| {
            let (mut cache, why) = Cache::load(state.path(), NOW);
            assert_eq!(cache.get(&identity(1, 1)), None, "{what}");
            assert!(why.unwrap().contains(what), "{what}");
        };
        for mode in [0o640, 0o602, 0o604] {
            fill();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            refused("trusted");
        }
        fill();
        assert!(read(&path, uid() + 1).unwrap_err().contains("trusted"), "another owner");
        assert!(read(&path, uid()).unwrap().is_some());
        std::fs::hard_link(&path, state.path().join("second name")).unwrap();
        refused("trusted");
        std::fs::remove_file(state.path().join("second name")).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        refused("damaged");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        refused("all files are read anew");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        refused("regular");
    }

    #[test]
    fn records_without_use_end_and_used_ones_stay() {
        let state = tempfile::tempdir().unwrap();
        let mut cache = Cache::none(NOW);
        cache.put(&identity(1, 1), [1; 32], NOW);
        cache.put(&identity(2, 1), [2; 32], NOW);
        cache.save(state.path()).unwrap();
        let later = NOW + 40 * 86_400;
        let mut cache = Cache::load(state.path(), later).0;
        assert!(cache.get(&identity(1, 1)).is_some());
        cache.save(state.path()).unwrap();
        let later = NOW + 80 * 86_400;
        let mut cache = Cache::load(state.path(), later).0;
        cache.put(&identity(3, 1), [3; 32], later);
        cache.save(state.path()).unwrap();
        let mut cache = Cache::load(state.path(), later).0;
        assert_eq!([1, 2, 3].map(|inode| cache.get(&identity(inode, 1)).is_some()), [true, false, true]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_no_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            proptest::prop_assert!(parse(&bytes).is_none());
        }
    }
}

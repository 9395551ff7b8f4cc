//! The package database of rpm 4.16 and later without rpm: a table of SQLite with one header per package.
//!
//! The program takes a good part of a second of processor time for a thousand packages, because it reads and checks all
//! of their headers; here only the beginning of each is read. Read-only, so nothing is left behind in an image.
//!
//! Formats: SQLite's file format (sqlite.org/fileformat2.html): header, table b-trees, overflow pages, write-ahead log;
//! rpm's header (rpm.org, "Package header"): counts, an index of tags, their data. All in big endian.

use super::{MAX_PACKAGES, Packages};
use crate::{Host, HostFile};
use std::collections::HashMap;

/// How often a page may be read, on average: once for the schema, and for the table and its overflow pages once in each
/// of three steps. A b-tree that refers to the same pages again and again ends here.
const MAX_READS_PER_PAGE: u64 = 8;
const MAX_ROWS: usize = 2 * MAX_PACKAGES;
const MAX_DEPTH: usize = 20;
/// The database of a host with ten thousand packages is a tenth of this. A file with holes may claim any size, and how
/// often pages are read is bounded by it.
const MAX_FILE_BYTES: u64 = 2 << 30;
/// So much of a header is looked at; names and versions stand at its beginning.
const MAX_PREFIX_BYTES: usize = 256 * 1024;
const MAX_TAGS: usize = 10_000;
const MAX_WAL_FRAMES: usize = 200_000;
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const ARCH: u32 = 1022;
const STRING: u32 = 6;

/// All packages in `rpmdb.sqlite`; the reason when it is not such a file or damaged.
pub(super) fn installed(host: &Host, path: &str) -> Result<Packages, String> {
    let file = host.open(path).map_err(|error| error.to_string())?;
    let mut database = Database::open(host, path, file).map_err(|what| format!("{path}: {what}"))?;
    let mut packages = Packages::new();
    let read = database.root_of("Packages").and_then(|root| {
        database.rows(root, 0, &mut |database, row| {
            if let Some(package) = package(database, row)?
                && packages.len() <= MAX_PACKAGES
            {
                packages.insert(package);
            }
            Ok(())
        })
    });
    read.map(|()| packages).map_err(|what| format!("{path}: {what}"))
}

type Failed = &'static str;

struct Database {
    file: HostFile,
    /// The write-ahead log, and where in it the newest version of a page is.
    log: Option<(HostFile, HashMap<u32, u64>)>,
    page_bytes: usize,
    /// Without what is reserved at the end of each page.
    usable_bytes: usize,
    /// Pages that may still be read, and rows.
    reads_left: u64,
    rows_left: usize,
}

/// One row of a table: the first bytes of its record, and the page where it goes on.
struct Row {
    local: Vec<u8>,
    total_bytes: usize,
    overflow: u32,
}

impl Database {
    fn open(host: &Host, path: &str, file: HostFile) -> Result<Self, Failed> {
        if file.size_bytes() > MAX_FILE_BYTES {
            return Err("larger than the database of any host");
        }
        let mut header = [0; 100];
        file.read_exact_at(&mut header, 0).map_err(|_| "shorter than the header of SQLite")?;
        if !header.starts_with(b"SQLite format 3\0") {
            return Err("not a database of SQLite");
        }
        let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65536,
            size if size >= 512 && size.is_power_of_two() => usize::from(size),
            _ => return Err("an impossible page size"),
        };
        let usable_bytes = page_bytes - usize::from(header[20]);
        if usable_bytes < 480 {
            return Err("an impossible page size");
        }
        let log = host.open(&format!("{path}-wal")).ok().and_then(|log| {
            let pages = pages_in_log(&log, page_bytes);
            (!pages.is_empty()).then_some((log, pages))
        });
        let logged = log.as_ref().map_or(0, |(_, pages)| pages.len() as u64);
        let reads_left = MAX_READS_PER_PAGE * (file.size_bytes() / page_bytes as u64 + logged + 1);
        Ok(Self { file, log, page_bytes, usable_bytes, reads_left, rows_left: MAX_ROWS })
    }

    fn page(&mut self, number: u32) -> Result<Vec<u8>, Failed> {
        if number == 0 || self.reads_left == 0 {
            return Err("its pages refer to each other in a circle or to nowhere");
        }
        self.reads_left -= 1;
        let mut page = vec![0; self.page_bytes];
        let logged = self.log.as_ref().and_then(|(log, pages)| Some((log, *pages.get(&number)?)));
        let (file, offset) = logged.unwrap_or((&self.file, u64::from(number - 1) * self.page_bytes as u64));
        file.read_exact_at(&mut page, offset).map_err(|_| "a page is missing at its end")?;
        Ok(page)
    }

    /// The first page of a table, from the table of tables.
    fn root_of(&mut self, table: &str) -> Result<u32, Failed> {
        let mut root = None;
        self.rows(1, 0, &mut |database, row| {
            let record = database.prefix(row, 4096)?;
            let columns = columns(&record).ok_or("a damaged schema")?;
            let column = |index: usize| columns.get(index).and_then(|(_, at)| record.get(at.clone()));
            if column(0) == Some(b"table") && column(1) == Some(table.as_bytes()) {
                root = column(3).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
            }
            Ok(())
        })?;
        root.ok_or("it has no table of packages")
    }

    /// Calls `each` for every row of a table's b-tree.
    fn rows(
        &mut self,
        number: u32,
        depth: usize,
        each: &mut dyn FnMut(&mut Self, &Row) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        const DAMAGED: Failed = "a damaged page";
        if depth > MAX_DEPTH {
            return Err("its pages refer to each other in a circle or to nowhere");
        }
        let page = self.page(number)?;
        let start = if number == 1 { 100 } else { 0 };
        let (is_leaf, header_bytes) = match page.get(start) {
            Some(0x0d) => (true, 8),
            Some(0x05) => (false, 12),
            _ => return Err(DAMAGED),
        };
        let count = usize::from(short(&page, start + 3).ok_or(DAMAGED)?);
        for index in 0..count {
            let cell = usize::from(short(&page, start + header_bytes + 2 * index).ok_or(DAMAGED)?);
            if is_leaf {
                self.rows_left = self.rows_left.checked_sub(1).ok_or("it has too many rows")?;
                let row = self.row(&page, cell).ok_or(DAMAGED)?;
                each(self, &row)?;
            } else {
                self.rows(long(&page, cell).ok_or(DAMAGED)?, depth + 1, each)?;
            }
        }
        if is_leaf {
            return Ok(());
        }
        self.rows(long(&page, start + 8).ok_or(DAMAGED)?, depth + 1, each)
    }

    fn row(&self, page: &[u8], cell: usize) -> Option<Row> {
        let (total, after_size) = varint(page, cell)?;
        let (_, start) = varint(page, after_size)?;
        let total_bytes = usize::try_from(total).ok()?;
        let usable = self.usable_bytes;
        let most = usable - 35;
        if total_bytes <= most {
            return Some(Row {
                local: page.get(start..start.checked_add(total_bytes)?)?.to_vec(),
                total_bytes,
                overflow: 0,
            });
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let fitting = least + (total_bytes - least) % (usable - 4);
        let end = start.checked_add(if fitting <= most { fitting } else { least })?;
        Some(Row { local: page.get(start..end)?.to_vec(), total_bytes, overflow: long(page, end)? })
    }

    /// The first bytes of a record, at most as many as it has.
    fn prefix(&mut self, row: &Row, bytes: usize) -> Result<Vec<u8>, Failed> {
        let bytes = bytes.min(row.total_bytes).min(MAX_PREFIX_BYTES);
        let mut record = row.local.clone();
        let mut next = row.overflow;
        while record.len() < bytes {
            let page = self.page(next)?;
            next = long(&page, 0).ok_or("a damaged page")?;
            record.extend_from_slice(&page[4..self.usable_bytes]);
        }
        record.truncate(bytes);
        Ok(record)
    }
}

/// Key (`name::arch`) and version of the package in a row (number, header). `None` for a signature key.
fn package(database: &mut Database, row: &Row) -> Result<Option<(String, String)>, Failed> {
    const DAMAGED: Failed = "a damaged package header";
    // The beginning of the record tells where the header starts and how many tags it has.
    let mut record = database.prefix(row, 64)?;
    let header =
        columns(&record).and_then(|columns| columns.get(1).map(|(_, at)| at.start)).ok_or(DAMAGED)?;
    let tags = long(&record, header).ok_or(DAMAGED)? as usize;
    if tags > MAX_TAGS {
        return Err(DAMAGED);
    }
    let data = header + 8 + 16 * tags;
    record = database.prefix(row, data)?;
    let mut offsets = [None; 4];
    for tag in 0..tags {
        let at = header + 8 + 16 * tag;
        let entry = [0, 4, 8].map(|field| long(&record, at + field));
        let [Some(tag), Some(kind), Some(offset)] = entry else { return Err(DAMAGED) };
        if let Some(wanted) = [NAME, VERSION, RELEASE, ARCH].iter().position(|wanted| *wanted == tag)
            && kind == STRING
        {
            offsets[wanted] = Some(data + offset as usize);
        }
    }
    // The longest of these texts is far below this; what is longer is no name.
    const MAX_TEXT_BYTES: usize = 1024;
    let end = offsets.iter().flatten().max().ok_or(DAMAGED)? + MAX_TEXT_BYTES;
    record = database.prefix(row, end)?;
    let text = |offset: Option<usize>| {
        let bytes = record.get(offset?..)?;
        let bytes = &bytes[..bytes.iter().position(|byte| *byte == 0)?];
        std::str::from_utf8(bytes).ok().filter(|text| super::is_word(text))
    };
    let [name, version, release, arch] = offsets.map(text);
    let (Some(name), Some(version), Some(release)) = (name, version, release) else { return Err(DAMAGED) };
    // Signature keys are kept as packages without an architecture; they are none.
    Ok((name != "gpg-pubkey")
        .then(|| (format!("{name}::{}", arch.unwrap_or("(none)")), format!("{version}-{release}"))))
}

/// Serial type and place of each column of a record, as far as the bytes tell.
fn columns(record: &[u8]) -> Option<Vec<(u64, std::ops::Range<usize>)>> {
    let (header_bytes, mut at) = varint(record, 0)?;
    let mut place = usize::try_from(header_bytes).ok()?;
    let mut columns = Vec::new();
    while at < usize::try_from(header_bytes).ok()? && columns.len() < 100 {
        let kind;
        (kind, at) = varint(record, at)?;
        let bytes = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let end = place.checked_add(usize::try_from(bytes).ok()?)?;
        columns.push((kind, place..end));
        place = end;
    }
    Some(columns)
}

/// Where the log has newer versions of pages: those of the frames up to the last committed one.
fn pages_in_log(log: &HostFile, page_bytes: usize) -> HashMap<u32, u64> {
    let mut committed = HashMap::new();
    let mut header = [0; 32];
    if log.read_exact_at(&mut header, 0).is_err()
        || long(&header, 0).map(|magic| magic & !1) != Some(0x377f_0682)
    {
        return committed;
    }
    let mut pending = Vec::new();
    for index in 0..MAX_WAL_FRAMES {
        let offset = 32 + index as u64 * (24 + page_bytes as u64);
        let mut frame = [0; 24];
        // Frames with other salts are left over from before the last checkpoint.
        if log.read_exact_at(&mut frame, offset).is_err() || frame[8..16] != header[16..24] {
            break;
        }
        let number = |at| long(&frame, at).unwrap_or(0);
        pending.push((number(0), offset + 24));
        if number(4) != 0 {
            committed.extend(pending.drain(..));
        }
    }
    committed
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A number of one to nine bytes, seven bits each, all eight of the ninth; and where it ends.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for index in 0..8 {
        let byte = *bytes.get(at.checked_add(index)?)?;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + index + 1));
        }
    }
    Some((value << 8 | u64::from(*bytes.get(at.checked_add(8)?)?), at + 9))
}

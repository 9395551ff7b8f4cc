//! The libraries that a program is linked with: ELF (elf(5)) and the way ld.so(8) looks for them.

use crate::host::HostFile;
use crate::parse::glob;
use crate::{Host, Kind};
use std::collections::{BTreeSet, VecDeque};

/// Libraries of one set of programs; more are left out.
const MAX_LIBRARIES: usize = 2000;
const MAX_SEGMENTS: usize = 128;
const MAX_DYNAMIC_BYTES: usize = 64 * 1024;
const MAX_NAME_BYTES: usize = 4096;
const MAX_DIRECTORIES: usize = 256;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// What an ELF file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub is_64_bit: bool,
    pub interpreter: Option<String>,
    pub libraries: Vec<String>,
    /// Directories to look in first, `$ORIGIN` and all.
    pub run_path: Vec<String>,
}

/// The files of all libraries that these programs need, directly or not, with their loader.
pub fn libraries(host: &Host, programs: &BTreeSet<String>) -> BTreeSet<String> {
    let directories = directories(host);
    let mut found = BTreeSet::new();
    let mut open: VecDeque<String> = programs.iter().cloned().collect();
    while let Some(path) = open.pop_front() {
        let Some(asked) = host.open_unrecorded(&path).ok().and_then(|file| asked(&file)) else { continue };
        found.extend(asked.interpreter.filter(|path| is_file(host, path)));
        let origin = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let own: Vec<String> = asked
            .run_path
            .iter()
            .map(|directory| directory.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))
            .collect();
        for name in &asked.libraries {
            if found.len() >= MAX_LIBRARIES {
                return found;
            }
            let candidates = own.iter().chain(&directories).map(|directory| format!("{directory}/{name}"));
            let fits = |path: &String| {
                name.starts_with('/') || !name.contains('/') && is_class(host, path, asked.is_64_bit)
            };
            let path =
                if name.starts_with('/') { Some(name.clone()) } else { candidates.into_iter().find(fits) };
            if let Some(path) = path
                && found.insert(path.clone())
            {
                open.push_back(path);
            }
        }
    }
    found
}

/// Where libraries are: ld.so.conf with its includes, then the built-in directories of Debian and Red Hat.
fn directories(host: &Host) -> Vec<String> {
    let mut directories = Vec::new();
    let mut files = VecDeque::from(["/etc/ld.so.conf".to_owned()]);
    let mut read = 0;
    while let Some(file) = files.pop_front() {
        read += 1;
        let Ok(text) = host.read_text(&file) else { continue };
        for line in text.lines().take(1000) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(pattern) = line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t'])) {
                let pattern = pattern.trim();
                let pattern =
                    if pattern.starts_with('/') { pattern.to_owned() } else { format!("/etc/{pattern}") };
                if read < MAX_DIRECTORIES && files.len() < MAX_DIRECTORIES {
                    files.extend(glob(host, &pattern).unwrap_or_default().into_iter().take(MAX_DIRECTORIES));
                }
            } else if line.starts_with('/') && directories.len() < MAX_DIRECTORIES {
                directories.push(line.trim_end_matches('/').to_owned());
            }
        }
    }
    for parent in ["/lib", "/usr/lib"] {
        for machine in ["x86_64", "aarch64", "i386", "arm", "s390x", "powerpc64le", "riscv64"] {
            let abi = if machine == "arm" { "gnueabihf" } else { "gnu" };
            directories.push(format!("{parent}/{machine}-linux-{abi}"));
        }
    }
    directories.extend(["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(str::to_owned));
    directories.retain(|directory| host.identity(directory).is_ok_and(|found| found.kind == Kind::Directory));
    directories
}

fn is_file(host: &Host, path: &str) -> bool {
    host.identity(path).is_ok_and(|found| found.kind == Kind::Regular)
}

/// A library of the other word size under the same name is passed over, as ld.so does.
fn is_class(host: &Host, path: &str, is_64_bit: bool) -> bool {
    let mut start = [0; 5];
    is_file(host, path)
        && host.open_unrecorded(path).is_ok_and(|file| file.read_at(&mut start, 0))
        && start == [0x7f, b'E', b'L', b'F', if is_64_bit { 2 } else { 1 }]
}

/// Reads an ELF file; `None` for anything else and for one that is not linked dynamically.
pub fn asked(file: &HostFile) -> Option<Asked> {
    let mut header = [0; 64];
    if !file.read_at(&mut header[..52], 0) || header[..4] != *b"\x7fELF" {
        return None;
    }
    let wide = header[4] == 2;
    if wide && !file.read_at(&mut header, 0) {
        return None;
    }
    let reader = Fields { big_endian: header[5] == 2 };
    let (table, entry_bytes, entries) = if wide {
        (reader.number(&header, 32, 8)?, 56, reader.number(&header, 56, 2)?)
    } else {
        (reader.number(&header, 28, 4)?, 32, reader.number(&header, 44, 2)?)
    };
    let mut asked = Asked { is_64_bit: wide, ..Asked::default() };
    let mut loads = Vec::new();
    let mut dynamic = None;
    for index in 0..entries.min(MAX_SEGMENTS as u64) {
        let mut entry = [0; 56];
        let entry = &mut entry[..entry_bytes];
        if !file.read_at(entry, table.checked_add(index * entry_bytes as u64)?) {
            return None;
        }
        let kind = reader.number(entry, 0, 4)? as u32;
        let (offset, address, bytes) = if wide {
            (reader.number(entry, 8, 8)?, reader.number(entry, 16, 8)?, reader.number(entry, 32, 8)?)
        } else {
            (reader.number(entry, 4, 4)?, reader.number(entry, 8, 4)?, reader.number(entry, 16, 4)?)
        };
        match kind {
            PT_LOAD => loads.push((address, offset, bytes)),
            PT_DYNAMIC => dynamic = Some((offset, bytes)),
            PT_INTERP => asked.interpreter = text_at(file, offset),
            _ => {}
        }
    }
    let (offset, bytes) = dynamic?;
    let mut section = vec![0; usize::try_from(bytes).ok()?.min(MAX_DYNAMIC_BYTES)];
    if !file.read_at(&mut section, offset) {
        return None;
    }
    let word = if wide { 8 } else { 4 };
    let pairs: Vec<(u64, u64)> = section
        .chunks_exact(2 * word)
        .map_while(|pair| Some((reader.number(pair, 0, word)?, reader.number(pair, word, word)?)))
        .take_while(|(tag, _)| *tag != 0)
        .collect();
    let address = pairs.iter().find(|(tag, _)| *tag == DT_STRTAB)?.1;
    let strings = loads.iter().find_map(|(start, offset, bytes)| {
        let within = address.checked_sub(*start).filter(|within| within < bytes)?;
        offset.checked_add(within)
    })?;
    for (tag, value) in pairs {
        let text = || text_at(file, strings.checked_add(value)?);
        match tag {
            DT_NEEDED if asked.libraries.len() < MAX_LIBRARIES => asked.libraries.extend(text()),
            DT_RPATH | DT_RUNPATH => {
                let text = text().unwrap_or_default();
                asked.run_path.extend(text.split(':').filter(|part| !part.is_empty()).map(str::to_owned));
            }
            _ => {}
        }
    }
    Some(asked)
}

fn text_at(file: &HostFile, offset: u64) -> Option<String> {
    // The end of the file may be near, so piece by piece.
    let mut text = Vec::new();
    let mut piece = [0; 64];
    while text.len() < MAX_NAME_BYTES {
        let at = offset.checked_add(text.len() as u64)?;
        let mut length = piece.len();
        while length > 0 && !file.read_at(&mut piece[..length], at) {
            length /= 2;
        }
        if length == 0 {
            return None;
        }
        match piece[..length].iter().position(|byte| *byte == 0) {
            Some(end) => {
                text.extend(&piece[..end]);
                return String::from_utf8(text).ok().filter(|text| !text.is_empty());
            }
            None => text.extend(&piece[..length]),
        }
    }
    None
}

struct Fields {
    big_endian: bool,
}

impl Fields {
    /// The number of `bytes` bytes (at most 8) at a place.
    fn number(&self, data: &[u8], at: usize, bytes: usize) -> Option<u64> {
        let field = data.get(at..at + bytes)?;
        let mut number = [0; 8];
        if self.big_endian {
            number[8 - bytes..].copy_from_slice(field);
            return Some(u64::from_be_bytes(number));
        }
        number[..bytes].copy_from_slice(field);
        Some(u64::from_le_bytes(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_needs_the_c_library() {
        let host = Host::running();
        let own = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
        let asked = asked(&host.open_unrecorded(&own).unwrap()).unwrap();
        assert!(asked.libraries.iter().any(|name| name.starts_with("libc.so")), "{asked:?}");
        let loader = asked.interpreter.unwrap();
        let found = libraries(&host, &BTreeSet::from([own]));
        assert!(found.contains(&loader) && found.iter().any(|path| path.contains("/libc.so")), "{found:?}");
        assert!(found.iter().all(|path| host.identity(path).is_ok()), "{found:?}");
    }

    #[test]
    fn damaged_programs_are_no_panic() {
        let original = std::fs::read("/bin/sh").unwrap();
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        let mut seed = 7u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 8
        };
        std::fs::write(tree.path().join("x"), &original).unwrap();
        assert!(asked(&host.open_unrecorded("/x").unwrap()).is_some());
        for _ in 0..300 {
            let mut bytes = original.clone();
            for _ in 0..20 {
                let at = random() as usize % 1024;
                bytes[at] = random() as u8;
            }
            bytes.truncate(random() as usize % bytes.len());
            std::fs::write(tree.path().join("x"), &bytes).unwrap();
            let _ = asked(&host.open_unrecorded("/x").unwrap());
        }
        for short in 0..64 {
            std::fs::write(tree.path().join("x"), &original[..short]).unwrap();
            assert_eq!(asked(&host.open_unrecorded("/x").unwrap()), None);
        }
    }
}

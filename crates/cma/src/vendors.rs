//! Who made an interface, by the start of its link-layer address: from the list that the system has, and from `[oui]` in
//! cma.toml. Addresses that were not assigned by the IEEE (IEEE 802-2014 8.2, the bit for local administration) have no vendor
//! but one of `[oui]`.
//!
//! | list | package |
//! |---|---|
//! | `/usr/share/ieee-data/{oui,mam,oui36}.{csv,txt}` | ieee-data (Debian, Ubuntu) |
//! | `/usr/share/hwdata/oui.txt` | hwdata |
//! | `/usr/lib/udev/hwdb.d/20-OUI.hwdb` | systemd, or systemd-hwe-hwdb |
//! | `/usr/share/wireshark/manuf` | wireshark-common, libwireshark-data |
//! | `/usr/share/nmap/nmap-mac-prefixes` | nmap-common, nmap |
//!
//! A list is some 50,000 lines. It is held as two sorted tables and one text, about 2 MB.

mod lists;

use crate::health::Health;
use lists::Format;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::sqlite::set_vendors;

/// Topic of what `assimcli doctor` says.
const TOPIC: &str = "vendors";
/// A file longer than this is read up to here.
const MAX_FILE_BYTES: u64 = 24 * 1024 * 1024;
/// Assignments that are kept; the IEEE has made some 60,000.
const MAX_ASSIGNMENTS: usize = 200_000;
/// A file with fewer is no list of all vendors, and the next is read too.
const WHOLE_LIST: usize = 5_000;
const MAX_NAME_CHARS: usize = 100;
/// Bits of a prefix: a third of a 6-byte address up to all of it.
const LONGEST_PREFIX: u8 = 48;

/// Directory, names of files, and how they are written. Those of one line belong together.
const LISTS: &[(&str, &[&str], Format)] = &[
    ("usr/share/ieee-data", &["oui.csv", "mam.csv", "oui36.csv"], Format::Csv),
    ("usr/share/ieee-data", &["oui.txt", "mam.txt", "oui36.txt"], Format::Registry),
    ("usr/share/hwdata", &["oui.txt"], Format::Registry),
    ("usr/lib/udev/hwdb.d", &["20-OUI.hwdb"], Format::Hwdb),
    ("lib/udev/hwdb.d", &["20-OUI.hwdb"], Format::Hwdb),
    ("usr/share/wireshark", &["manuf"], Format::Manuf),
    ("usr/share/nmap", &["nmap-mac-prefixes"], Format::Nmap),
];

/// Starts of addresses with their vendors.
#[derive(Debug, Default)]
pub struct Vendors {
    /// Those of cma.toml.
    own: BTreeMap<Prefix, String>,
    /// Sorted; the second is the number of the name.
    assigned: Vec<(Prefix, u32)>,
    /// Where each name ends in `text`.
    ends: Vec<u32>,
    text: String,
    /// Which lengths there are, longest first.
    lengths: Vec<u8>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// The first `bits` of an address, at the upper end of 48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Prefix {
    value: u64,
    bits: u8,
}

impl Prefix {
    fn new(address: u64, bits: u8) -> Prefix {
        let bits = bits.min(LONGEST_PREFIX);
        let mask = (1u64 << LONGEST_PREFIX) - (1u64 << (LONGEST_PREFIX - bits));
        Prefix { value: address & mask, bits }
    }

    /// From hexadecimal digits, four bits each, without separators.
    fn from_hex(digits: &str) -> Option<Prefix> {
        let bits = u8::try_from(digits.len().checked_mul(4)?).ok()?;
        if !(24..=LONGEST_PREFIX).contains(&bits) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let value = u64::from_str_radix(digits, 16).ok()?;
        Some(Prefix::new(value << (LONGEST_PREFIX - bits), bits))
    }
}

impl Vendors {
    /// The first list below `root` that has all vendors, or what others have together; `own`: `[oui]` of cma.toml. Returns
    /// also what is wrong with `own`.
    pub fn read(root: &Path, own: &BTreeMap<String, String>) -> (Vendors, Vec<String>) {
        let mut builder = Builder::default();
        let mut files = Vec::new();
        for (directory, names, format) in LISTS {
            for name in *names {
                let path = root.join(directory).join(name);
                let Some(text) = text_of(&path) else { continue };
                let before = builder.assigned.len();
                format.read(&text, &mut |prefix, vendor| builder.add(prefix, vendor));
                if builder.assigned.len() > before {
                    files.push(path);
                }
            }
            if builder.assigned.len() >= WHOLE_LIST {
                break;
            }
        }
        let mut vendors = builder.build();
        vendors.files = files;
        let mut problems = Vec::new();
        for (start, vendor) in own {
            match own_prefix(start) {
                Some(prefix) => drop(vendors.own.insert(prefix, shortened(vendor))),
                None => problems.push(format!(
                    "[oui] {start:?} in cma.toml is no start of a MAC address: write 3 to 6 bytes, such as \"56-84-7a\""
                )),
            }
        }
        vendors.lengths.extend(vendors.own.keys().map(|prefix| prefix.bits));
        vendors.lengths.sort_by_key(|bits| std::cmp::Reverse(*bits));
        vendors.lengths.dedup();
        (vendors, problems)
    }

    /// The vendor of an address, lower case with dashes; of 8 bytes the first 6 count.
    pub fn vendor(&self, macaddr: &str) -> Option<&str> {
        let digits: String = macaddr.split('-').take(6).collect();
        if digits.len() != 12 {
            return None;
        }
        let address = u64::from_str_radix(&digits, 16).ok()?;
        let own = self.lengths.iter().find_map(|bits| self.own.get(&Prefix::new(address, *bits)));
        if let Some(own) = own {
            return Some(own);
        }
        // Groups and what is administered locally: nobody made that.
        if address >> 40 & 0b11 != 0 {
            return None;
        }
        self.lengths.iter().find_map(|bits| {
            let wanted = Prefix::new(address, *bits);
            let found = self.assigned.binary_search_by_key(&wanted, |(prefix, _)| *prefix).ok()?;
            self.name(self.assigned.get(found)?.1)
        })
    }

    /// Assignments that are known.
    pub fn len(&self) -> usize {
        self.assigned.len()
    }

    pub fn is_empty(&self) -> bool {
        self.assigned.is_empty()
    }

    /// What `assimcli doctor` says of it.
    pub fn summary(&self) -> String {
        match self.files.as_slice() {
            [] => "no list of vendors of network interfaces was found, so their addresses are shown without: install the \
                   package ieee-data (Debian, Ubuntu) or hwdata (Fedora, RHEL, SUSE) and start the CMA again"
                .to_owned(),
            files => {
                let names: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
                format!("{} vendors of network interfaces from {}", self.len(), names.join(", "))
            }
        }
    }

    fn name(&self, number: u32) -> Option<&str> {
        let number = usize::try_from(number).ok()?;
        let start = match number.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(usize::try_from(start).ok()?..usize::try_from(*self.ends.get(number)?).ok()?)
    }
}

/// Whether a key of `[oui]` is the start of an address.
pub fn is_prefix(start: &str) -> bool {
    own_prefix(start).is_some()
}

fn own_prefix(start: &str) -> Option<Prefix> {
    let digits: String = start.chars().filter(|c| !matches!(c, '-' | ':' | '.')).collect();
    Prefix::from_hex(&digits)
}

/// Reads what this system has, for the function `oui` of queries; `assimcli doctor` tells what came of it.
pub fn tell_store(own: &BTreeMap<String, String>, health: &Health) {
    let (vendors, problems) = Vendors::read(Path::new("/"), own);
    health.note(TOPIC, vendors.summary());
    health.set(TOPIC, (!problems.is_empty()).then(|| problems.join("; ")));
    set_vendors(Arc::new(move |macaddr| vendors.vendor(macaddr).map(str::to_owned)));
}

#[derive(Default)]
struct Builder {
    assigned: Vec<(Prefix, u32)>,
    numbers: HashMap<String, u32>,
    ends: Vec<u32>,
    text: String,
}

impl Builder {
    fn add(&mut self, prefix: Prefix, vendor: &str) {
        let vendor = shortened(vendor);
        if vendor.is_empty() || self.assigned.len() >= MAX_ASSIGNMENTS {
            return;
        }
        let number = match self.numbers.get(&vendor) {
            Some(number) => *number,
            None => {
                let (Ok(number), Ok(end)) =
                    (u32::try_from(self.ends.len()), u32::try_from(self.text.len() + vendor.len()))
                else {
                    return;
                };
                self.text.push_str(&vendor);
                self.ends.push(end);
                self.numbers.insert(vendor, number);
                number
            }
        };
        self.assigned.push((prefix, number));
    }

    fn build(mut self) -> Vendors {
        // Of two lists the first wins.
        self.assigned.sort_by_key(|(prefix, _)| *prefix);
        self.assigned.dedup_by_key(|(prefix, _)| *prefix);
        self.assigned.shrink_to_fit();
        self.text.shrink_to_fit();
        let mut lengths: Vec<u8> = self.assigned.iter().map(|(prefix, _)| prefix.bits).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Vendors { assigned: self.assigned, ends: self.ends, text: self.text, lengths, ..Vendors::default() }
    }
}

fn text_of(path: &Path) -> Option<String> {
    let file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|of| of.is_file()))?;
    let mut bytes = Vec::new();
    // A list that breaks off is as good as far as it goes.
    let _ = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn shortened(vendor: &str) -> String {
    let plain = model::text::printable(vendor.trim());
    let words: Vec<&str> = plain.split_whitespace().collect();
    model::text::shortened(&words.join(" "), MAX_NAME_CHARS).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn read(files: &[(&str, &str)], own: &[(&str, &str)]) -> (Vendors, Vec<String>) {
        let own = own.iter().map(|(start, vendor)| ((*start).to_owned(), (*vendor).to_owned())).collect();
        Vendors::read(system(files).path(), &own)
    }

    #[test]
    fn the_longest_assignment_counts_and_the_first_list_wins() {
        let (vendors, problems) = read(
            &[
                (
                    "usr/share/nmap/nmap-mac-prefixes",
                    "00163E Later\n0055DA Block\n0055DA1 Medium\n0055DA123 Small\n080027 VM\n",
                ),
                ("usr/share/hwdata/oui.txt", "00-16-3E   (hex)\t\tFirst,  Inc.\n"),
            ],
            &[],
        );
        assert!(problems.is_empty());
        let vendor = |macaddr: &str| vendors.vendor(macaddr).unwrap_or("-").to_owned();
        assert_eq!(vendor("00-16-3e-00-00-01"), "First, Inc.");
        assert_eq!(vendor("00-55-da-00-00-01"), "Block");
        assert_eq!(vendor("00-55-da-1f-00-01"), "Medium");
        assert_eq!(vendor("00-55-da-12-3f-01"), "Small");
        assert_eq!(vendor("08-00-27-00-00-01-ff-ff"), "VM", "8 bytes");
        for nobody in ["00-16-3f-00-00-01", "0a-00-27-00-00-01", "09-00-27-00-00-01", "08-00-27", "", "x"] {
            assert_eq!(vendor(nobody), "-", "{nobody}");
        }
        assert_eq!(vendors.files.len(), 2, "neither is a list of all");
        assert!(vendors.summary().starts_with("5 vendors"), "{}", vendors.summary());
    }

    #[test]
    fn a_whole_list_is_enough() {
        let whole: String = (0..6000).map(|number| format!("{number:06X} Maker {}\n", number % 7)).collect();
        let (vendors, _) = read(
            &[
                ("usr/share/wireshark/manuf", "00:00:07\tX\tOther\n"),
                ("usr/share/nmap/nmap-mac-prefixes", &whole),
            ],
            &[],
        );
        assert_eq!(vendors.vendor("00-00-07-00-00-00"), Some("Other"));
        let (vendors, _) = read(
            &[
                ("usr/lib/udev/hwdb.d/20-OUI.hwdb", &hwdb(&whole)),
                ("usr/share/wireshark/manuf", "FC:FF:FF\tX\tNot read\n"),
            ],
            &[],
        );
        assert_eq!((vendors.files.len(), vendors.ends.len()), (1, 7), "each name is held once");
        assert_eq!(vendors.vendor("fc-ff-ff-00-00-00"), None);
    }

    fn hwdb(lines: &str) -> String {
        lines
            .lines()
            .map(|line| {
                let (hex, name) = line.split_once(' ').unwrap();
                format!("OUI:{hex}*\n ID_OUI_FROM_DATABASE={name}\n\n")
            })
            .collect()
    }

    #[test]
    fn a_site_names_what_nobody_registered() {
        let own = [("56-84-7a", "linux bridge"), ("02:42:AC:1", "docker"), ("0016", "x"), ("00-16-3g", "x")];
        let (vendors, problems) = read(&[], &own);
        assert_eq!(vendors.vendor("56-84-7a-fe-97-99"), Some("linux bridge"));
        assert_eq!(vendors.vendor("02-42-ac-11-00-02"), Some("docker"));
        assert_eq!(vendors.vendor("02-42-ac-21-00-02"), None);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].contains("\"00-16-3g\"") && problems[1].contains("\"0016\""), "{problems:?}");
        assert!(vendors.summary().contains("ieee-data") && vendors.is_empty());
    }

    #[test]
    fn what_a_list_says_is_bounded_and_made_printable() {
        let long = format!("00163E \u{1b}[2J{}\n", "x".repeat(100_000));
        let many: String = (0x1000000..0x1040000).map(|number| format!("{number:07X} v\n")).collect();
        let (vendors, _) = read(&[("usr/share/nmap/nmap-mac-prefixes", &(long + &many))], &[]);
        let name = vendors.vendor("00-16-3e-f0-00-00").unwrap();
        assert!(name.chars().count() <= MAX_NAME_CHARS && !name.contains('\u{1b}'), "{name}");
        assert_eq!(vendors.len(), MAX_ASSIGNMENTS);
        let bytes = vendors.assigned.capacity() * size_of::<(Prefix, u32)>();
        assert!(bytes < 6 << 20, "four times the assignments there are: {bytes}");
    }
}

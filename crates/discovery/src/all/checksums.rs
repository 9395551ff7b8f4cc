//! SHA-256 of the files that matter: those named, programs with sockets with their libraries and JAR files, whole directories.
//!
//! `data` = path → 64 hexadecimal digits. Looked at are:
//!
//! - the files of `ASSIM_filelist`, our own programs, and the libraries these are linked with (ld.so(8));
//! - of each process of the host that `tcpdiscovery` finds: its program, all that it has mapped as code
//!   (/proc/<pid>/maps), its script, and for Java the files of `-cp` and `-jar`. Once seen, they are looked at for 30 more days;
//! - all regular files below the directories of the parameter `directories`, symlinks and network file systems left out.
//!
//! A named file that does not exist is left out, and so is what cannot be read: the extra `unread` says why, by path. The
//! extra `packages` tells which package owns a file, as `"name version"` (dpkg, rpm, apk), so that a change can be
//! told from an upgrade. The extra `sumcmd` names the program that gives the same sums.
//!
//! Sums are kept in the state directory of the nanoprobe under device, inode, size and times of the file (stat(2)), so a
//! file is read again only after a change. The work is done at the lowest priority.
//!
//! The named files and those of programs with sockets are watched, so that one that is replaced is noticed at once.
//! What is below `directories` is not, because that could take thousands of watches; it is looked at every 8 hours.
//! ```json
//! {"data":{"/bin/sh":"5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592"},
//!  "packages":{"/bin/sh":"dash 0.5.12-2"},"sumcmd":"/usr/bin/sha256sum"}
//! ```

#[path = "checksums/cache.rs"]
mod cache;
#[path = "checksums/elf.rs"]
mod elf;
#[path = "checksums/owners.rs"]
mod owners;
#[path = "checksums/wanted.rs"]
mod wanted;

use crate::host::Identity;
use crate::parse::Errors;
use crate::{
    Collected, Discovery, Host, Instance, Kind, Parameter, Parameters, Schedule, Trigger, documentation,
    no_graph,
};
use cache::{Cache, Sum};
use ring::digest::{Context, SHA256};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub static DISCOVERY: Discovery = Discovery {
    name: "checksums",
    description: "Checksums of programs, libraries and other files that matter",
    documentation: documentation::CHECKSUMS,
    parameters: &[
        Parameter {
            name: "ASSIM_filelist",
            meaning: "files, separated by blanks",
            default: "/bin/sh /bin/bash /bin/login /usr/bin/passwd",
        },
        Parameter {
            name: "directories",
            meaning: "directories of which all regular files are looked at, separated by blanks: /usr/bin /usr/sbin /usr/lib",
            default: "",
        },
        Parameter {
            name: "max_file_bytes",
            meaning: "larger files are left out, in bytes",
            default: "1073741824",
        },
    ],
    instances: &[Instance { name: "_auto_checksumdiscovery", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 28_800, warn_seconds: 300, timeout_seconds: 600 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

/// More files are left out.
const MAX_FILES: usize = 200_000;
const MAX_UNREAD: usize = 1000;
/// After this time the rest is left for the next run, well before the run would be given up.
const TIME: Duration = Duration::from_secs(480);
const PIECE_BYTES: usize = 128 * 1024;
/// A file that changes while it is read is read again so often.
const ATTEMPTS: usize = 3;

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    let quiet = host.unwatched();
    let (collected, watched) = crate::idle::at_idle_priority(move || {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        checksums(&quiet, parameters, seconds, Instant::now() + TIME)
    });
    watched.iter().for_each(|path| host.watch(path));
    collected
}

/// What was found, and which files to watch. `now_seconds` since 1970, to compare with the times of files; after
/// `deadline` no more files are read.
fn checksums(
    host: &Host,
    parameters: &Parameters,
    now_seconds: i64,
    deadline: Instant,
) -> (Collected, BTreeSet<String>) {
    let mut errors = Errors::default();
    let text = |name: &str| parameters.get(name).map_or("", String::as_str);
    let limit_bytes = text("max_file_bytes").parse().unwrap_or_else(|_| {
        errors.add("max_file_bytes is no number of bytes: 1073741824 is taken".to_owned());
        1 << 30
    });
    let mut cache = match host.state().map(|directory| Cache::load(directory, now_seconds)) {
        Some((cache, why)) => {
            why.into_iter().for_each(|why| errors.add(why));
            cache
        }
        None => Cache::none(now_seconds),
    };
    let mut watched = BTreeSet::new();
    let wanted =
        wanted::of(host, text("ASSIM_filelist"), text("directories"), now_seconds, &mut watched, &mut errors);
    let mut work = Work {
        host,
        limit_bytes,
        now_seconds,
        deadline,
        cache: &mut cache,
        buffer: vec![0; PIECE_BYTES],
        unread: BTreeMap::new(),
    };
    // Collected in one go, because a map that is filled key by key compares each with many others.
    let data: Map<String, Value> = wanted
        .into_iter()
        .filter_map(|(path, identity)| {
            let sum = work.sum(&path, identity)?;
            Some((path, hexadecimal(&sum).into()))
        })
        .collect();
    let unread = std::mem::take(&mut work.unread);
    drop(work);
    // What programs with sockets had and is gone may have been in a busy place such as /tmp. What was named may come.
    watched.retain(|path| data.contains_key(path) || wanted::is_named(path, text("ASSIM_filelist")));
    if let Some(directory) = host.state()
        && let Err(error) = cache.save(directory)
    {
        errors.add(error);
    }
    let mut problems = Vec::new();
    let owners = owners::remembered(host, data.keys().map(String::as_str), &mut problems);
    problems.into_iter().for_each(|problem| errors.add(problem));
    unread.iter().for_each(|(path, why)| errors.add(format!("{path}: {why}")));
    let mut extras = Map::from_iter([("sumcmd".to_owned(), json!("/usr/bin/sha256sum"))]);
    if !owners.is_empty() {
        let owners = owners.into_iter().map(|(path, owner)| (path.to_owned(), Value::from(owner)));
        extras.insert("packages".into(), Value::Object(owners.collect()));
    }
    if !unread.is_empty() {
        let unread = unread.into_iter().map(|(path, why)| (path, Value::from(why)));
        extras.insert("unread".into(), Value::Object(unread.collect()));
    }
    (Collected { data: Value::Object(data), errors: errors.into_list(), extras }, watched)
}

struct Work<'a> {
    host: &'a Host,
    limit_bytes: u64,
    now_seconds: i64,
    deadline: Instant,
    cache: &'a mut Cache,
    buffer: Vec<u8>,
    unread: BTreeMap<String, String>,
}

impl Work<'_> {
    /// `None` for a file that is not there, and for one that cannot be read, which is noted.
    fn sum(&mut self, path: &str, identity: Option<Identity>) -> Option<Sum> {
        match self.try_sum(path, identity) {
            Ok(sum) => sum,
            Err(why) => {
                if self.unread.len() < MAX_UNREAD {
                    self.unread.insert(path.to_owned(), why);
                }
                None
            }
        }
    }

    fn try_sum(&mut self, path: &str, identity: Option<Identity>) -> Result<Option<Sum>, String> {
        let identity = match identity.map_or_else(|| self.host.identity(path), Ok) {
            Ok(identity) => identity,
            Err(error) if error.is_missing() || *error.problem() == crate::Problem::NotADirectory => {
                return Ok(None);
            }
            Err(_) => return Err("cannot be looked at: run nanoprobe as root".into()),
        };
        if identity.kind != Kind::Regular {
            return Err(format!("{}, not a regular file", identity.kind));
        }
        if identity.size_bytes > self.limit_bytes {
            return Err(format!(
                "larger than {} bytes: raise max_file_bytes to include it",
                self.limit_bytes
            ));
        }
        if let Some(sum) = self.cache.get(&identity) {
            return Ok(Some(sum));
        }
        if Instant::now() >= self.deadline {
            return Err("not reached in time: its turn comes with the next run".into());
        }
        for _ in 0..ATTEMPTS {
            let mut file = match self.host.open_unrecorded(path) {
                Ok(file) => file,
                Err(error) if error.is_missing() => return Ok(None),
                Err(_) => return Err("cannot be read: run nanoprobe as root".into()),
            };
            let before = file.identity().map_err(|_| "cannot be looked at".to_owned())?;
            file.will_be_read_once();
            let mut context = Context::new(&SHA256);
            let mut read_bytes = 0;
            loop {
                match file.read(&mut self.buffer) {
                    Ok(0) => break,
                    Ok(length) => {
                        context.update(&self.buffer[..length]);
                        read_bytes += length as u64;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => return Err("cannot be read to its end: check the file system".into()),
                }
                if read_bytes > self.limit_bytes
                    || (read_bytes > before.size_bytes && Instant::now() >= self.deadline)
                {
                    return Err("grows while it is read".into());
                }
            }
            let after = file.identity().map_err(|_| "cannot be looked at".to_owned())?;
            if before == after && read_bytes == after.size_bytes {
                let mut sum = [0; 32];
                sum.copy_from_slice(context.finish().as_ref());
                self.cache.put(&after, sum, self.now_seconds);
                return Ok(Some(sum));
            }
        }
        Err("changes while it is read".into())
    }
}

fn hexadecimal(sum: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * sum.len());
    for byte in sum {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
#[path = "checksums/tests.rs"]
mod tests;

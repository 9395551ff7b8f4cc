//! Which units are active, from systemd itself.
//!
//! systemd answers D-Bus calls of root on a socket of its own, without a message bus in between. One call,
//! `ListUnits`, tells the state of every loaded unit: far cheaper than the program systemctl, which makes the same
//! call. Only the two messages needed are spoken here (D-Bus specification, org.freedesktop.systemd1(5)).
//! Whoever may not use the socket sees in /run/systemd/units which services run: systemd keeps a link there for each
//! unit that has started a process and has not ended.

use crate::Host;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const SOCKET: &str = "/run/systemd/private";
/// It exists exactly where systemd is running as the first process (sd_booted(3)).
const IS_RUNNING: &str = "/run/systemd/system";
const STATE: &str = "/run/systemd";
const LIMIT: Duration = Duration::from_secs(5);
/// A thousand units take about 300 kB.
const MAX_BODY_BYTES: u32 = 8 * 1024 * 1024;
const MAX_FIELDS_BYTES: u32 = 64 * 1024;
const MAX_LINE_BYTES: usize = 512;
/// Signals may come before the answer.
const MAX_MESSAGES: usize = 100;

/// Unit → `active`, `inactive` or `failed`.
pub(super) type States = BTreeMap<String, &'static str>;

/// `None`: systemd is not running here, or this is a file tree.
pub(super) fn states(host: &Host) -> Option<Known> {
    if !host.is_running_system() || host.stat(IS_RUNNING).is_err() {
        return None;
    }
    match list_units(Path::new(SOCKET)) {
        Ok(states) => Some(Known::All(states)),
        Err(error) => Some(Known::Services(with_processes(host), error)),
    }
}

/// What could be found out.
pub(super) enum Known {
    /// Units that are not listed are not loaded, hence not active.
    All(States),
    /// Services that are active, and why there is no more.
    Services(States, String),
}

/// The names of links `invocation:<unit>`.
fn with_processes(host: &Host) -> States {
    let units = || host.directory(STATE).ok()?.subdirectory_unrecorded(c"units").ok()?.entries().ok();
    let name = |entry: crate::DirectoryEntry| {
        let name = entry.name().strip_prefix("invocation:")?.to_owned();
        name.ends_with(".service").then_some((name, "active"))
    };
    units().unwrap_or_default().into_iter().filter_map(name).collect()
}

/// Asks the service manager behind a socket.
pub(super) fn list_units(socket: &Path) -> Result<States, String> {
    let told = |error: std::io::Error| format!("{}: {error}", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(told)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(told)?;
    stream.set_write_timeout(Some(LIMIT)).map_err(told)?;
    let uid: String =
        rustix::process::geteuid().as_raw().to_string().bytes().map(|b| format!("{b:02x}")).collect();
    // BEGIN goes along, as systemctl does it. Sent together with the call it may be read together with the call, and
    // systemd would then leave the call in its buffer until something else arrives.
    stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes()).map_err(told)?;
    let answer = line(&mut stream).map_err(told)?;
    if !answer.starts_with("OK") {
        return Err(format!("{}: it refuses to talk to this user", socket.display()));
    }
    stream.write_all(&call()).map_err(told)?;
    for _ in 0..MAX_MESSAGES {
        let (kind, is_big_endian, body) = message(&mut stream).map_err(told)?;
        match kind {
            // METHOD_RETURN: there was one call only.
            2 => {
                return parse(&body, is_big_endian)
                    .ok_or_else(|| format!("{}: its answer is not understood", socket.display()));
            }
            3 => return Err(format!("{}: it does not list its units", socket.display())),
            _ => {}
        }
    }
    Err(format!("{}: no answer among {MAX_MESSAGES} messages", socket.display()))
}

pub(super) fn any_answer(bytes: &[u8]) {
    let mut stream = bytes;
    // What an error here says does not matter.
    let _ = line(&mut stream);
    let mut stream = bytes;
    while let Ok((_, is_big_endian, body)) = message(&mut stream) {
        parse(&body, is_big_endian);
    }
    parse(bytes, false);
}

fn line(stream: &mut impl Read) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        if line.len() > MAX_LINE_BYTES {
            return Err(bad("too long a line"));
        }
        stream.read_exact(&mut byte)?;
        line.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// The call `ListUnits`, little endian, without arguments.
pub(super) fn call() -> Vec<u8> {
    let mut fields = Vec::new();
    for (code, signature, value) in [
        (1, b'o', "/org/freedesktop/systemd1"),
        (2, b's', "org.freedesktop.systemd1.Manager"),
        (3, b's', "ListUnits"),
        (6, b's', "org.freedesktop.systemd1"),
    ] {
        pad(&mut fields, 8);
        // Code, the signature of the variant, and its value: all of them are texts.
        fields.extend_from_slice(&[code, 1, signature, 0]);
        fields.extend_from_slice(&u32::try_from(value.len()).unwrap_or(0).to_le_bytes());
        fields.extend_from_slice(value.as_bytes());
        fields.push(0);
    }
    // Little endian, a method call, no flags, version 1, no body, serial number 1.
    let mut message = vec![b'l', 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0];
    message.extend_from_slice(&u32::try_from(fields.len()).unwrap_or(0).to_le_bytes());
    message.extend_from_slice(&fields);
    pad(&mut message, 8);
    message
}

/// Type, byte order and body of the next message.
fn message(stream: &mut impl Read) -> std::io::Result<(u8, bool, Vec<u8>)> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed)?;
    let is_big_endian = match fixed[0] {
        b'l' => false,
        b'B' => true,
        _ => return Err(bad("not a D-Bus message")),
    };
    let number = |at: usize| integer([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]], is_big_endian);
    let (body_bytes, fields_bytes) = (number(4), number(12));
    if body_bytes > MAX_BODY_BYTES || fields_bytes > MAX_FIELDS_BYTES {
        return Err(bad("too large a message"));
    }
    let mut fields = vec![0; fields_bytes.next_multiple_of(8) as usize];
    stream.read_exact(&mut fields)?;
    let mut body = Vec::new();
    stream.take(body_bytes.into()).read_to_end(&mut body)?;
    if body.len() as u64 != u64::from(body_bytes) {
        return Err(bad("the message ends early"));
    }
    Ok((fixed[1], is_big_endian, body))
}

/// The body of the answer, `a(ssssssouso)`: name, description, load state, active state and six more per unit.
pub(super) fn parse(body: &[u8], is_big_endian: bool) -> Option<States> {
    let mut reader = Reader { bytes: body, at: 0, is_big_endian };
    let length = usize::try_from(reader.integer()?).ok()?;
    reader.align(8)?;
    let end = reader.at.checked_add(length).filter(|end| *end <= body.len())?;
    let mut states = States::new();
    while reader.at < end {
        reader.align(8)?;
        let name = reader.text()?.to_owned();
        reader.text()?;
        reader.text()?;
        // A unit on its way up or down is not active: a service that is restarted again and again never is.
        let state = match reader.text()? {
            "active" | "reloading" | "refreshing" => "active",
            "failed" => "failed",
            _ => "inactive",
        };
        for _ in 0..3 {
            reader.text()?;
        }
        reader.integer()?;
        reader.text()?;
        reader.text()?;
        states.insert(name, state);
    }
    Some(states)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big_endian: bool,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(to);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn integer(&mut self) -> Option<u32> {
        self.align(4)?;
        let bytes = self.bytes.get(self.at..self.at + 4)?.try_into().ok()?;
        self.at += 4;
        Some(integer(bytes, self.is_big_endian))
    }

    /// Length, bytes and a zero byte.
    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.integer()?).ok()?;
        let end = self.at.checked_add(length)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end.checked_add(1).filter(|end| *end <= self.bytes.len())?;
        std::str::from_utf8(bytes).ok()
    }
}

fn integer(bytes: [u8; 4], is_big_endian: bool) -> u32 {
    if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn bad(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

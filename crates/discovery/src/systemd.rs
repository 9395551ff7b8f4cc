//! Questions to systemd, over the socket on which it answers root without a message bus in between.
//!
//! Only what is needed of D-Bus is spoken here: method calls whose arguments are texts (D-Bus specification;
//! org.freedesktop.systemd1(5)). Answers are bounded before they are read.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Where systemd answers root.
pub const SOCKET: &str = "/run/systemd/private";
/// It exists exactly where systemd is running as the first process (sd_booted(3)).
pub const IS_RUNNING: &str = "/run/systemd/system";
/// Links `invocation:<unit>`, one for each unit that has started a process and has not ended: for those who may not use
/// the socket.
pub const UNITS: &str = "/run/systemd/units";

/// A thousand units take about 300 kB.
const MAX_BODY_BYTES: u32 = 8 * 1024 * 1024;
const MAX_FIELDS_BYTES: u32 = 64 * 1024;
const MAX_LINE_BYTES: usize = 512;
/// Signals may come before the answer.
const MAX_MESSAGES: usize = 100;
const MANAGER: &str = "/org/freedesktop/systemd1";
const BUS_NAME: &str = "org.freedesktop.systemd1";

/// State of one unit, in systemd's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitState {
    /// `LoadState`: `loaded`, `not-found`, `masked`, ...
    pub load: String,
    /// `ActiveState`: `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`, ...
    pub active: String,
    /// `SubState`: `running`, `exited`, `auto-restart`, ...
    pub sub: String,
    /// `Result` of a service: `success`, `exit-code`, `signal`, `oom-kill`, ...; empty for other kinds of units.
    pub result: String,
    /// `ExecMainCode` of a service, a `CLD_` number of sigaction(2): 1 = ended, 2 and 3 = by a signal.
    pub exit_code: i32,
    /// `ExecMainStatus` of a service: exit status, or signal.
    pub exit_status: i32,
}

/// Asks for the state of one unit; a unit that is not loaded is looked for by systemd.
///
/// # Errors
/// One sentence: the socket cannot be used, or the answer is not understood.
pub fn unit_state(socket: &Path, unit: &str, limit: Duration) -> Result<UnitState, String> {
    let mut manager = Manager::connect(socket, limit)?;
    let path = format!("{MANAGER}/unit/{}", escaped(unit));
    let mut text = |interface: &str, name: &str| -> Result<Value, String> {
        let answer = manager.call(&path, "org.freedesktop.DBus.Properties", "Get", &[interface, name])?;
        let (body, is_big_endian) =
            answer.ok_or_else(|| format!("systemd does not tell {name} of {unit}"))?;
        variant(&body, is_big_endian)
            .ok_or_else(|| format!("systemd's answer about {unit} is not understood"))
    };
    let unit_interface = "org.freedesktop.systemd1.Unit";
    let mut state = UnitState {
        load: text(unit_interface, "LoadState")?.text,
        active: text(unit_interface, "ActiveState")?.text,
        sub: text(unit_interface, "SubState")?.text,
        ..UnitState::default()
    };
    if unit.ends_with(".service") && state.load == "loaded" {
        let service = "org.freedesktop.systemd1.Service";
        state.result = text(service, "Result")?.text;
        state.exit_code = text(service, "ExecMainCode")?.number;
        state.exit_status = text(service, "ExecMainStatus")?.number;
    }
    Ok(state)
}

/// A conversation with the service manager.
pub(crate) struct Manager {
    stream: UnixStream,
    place: String,
    serial: u32,
}

impl Manager {
    /// `limit`: for each reading and writing.
    pub(crate) fn connect(socket: &Path, limit: Duration) -> Result<Self, String> {
        let place = socket.display().to_string();
        let told = |error: std::io::Error| format!("{place}: {error}");
        let mut stream = UnixStream::connect(socket).map_err(told)?;
        stream.set_read_timeout(Some(limit)).map_err(told)?;
        stream.set_write_timeout(Some(limit)).map_err(told)?;
        let uid = rustix::process::geteuid().as_raw().to_string();
        let uid: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
        // BEGIN goes along, as systemctl does it. Sent together with the call it may be read together with the call, and
        // systemd would then leave the call in its buffer until something else arrives.
        stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes()).map_err(told)?;
        let answer = line(&mut stream).map_err(told)?;
        if !answer.starts_with("OK") {
            return Err(format!("{place}: it refuses to talk to this user"));
        }
        Ok(Self { stream, place, serial: 0 })
    }

    /// `ListUnits`: the body of the answer and whether it is big endian.
    pub(crate) fn list_units(&mut self) -> Result<(Vec<u8>, bool), String> {
        self.call(MANAGER, "org.freedesktop.systemd1.Manager", "ListUnits", &[])?
            .ok_or_else(|| format!("{}: it does not list its units", self.place))
    }

    /// `None`: systemd answers with an error.
    fn call(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        arguments: &[&str],
    ) -> Result<Option<(Vec<u8>, bool)>, String> {
        let place = &self.place;
        let told = |error: std::io::Error| format!("{place}: {error}");
        self.serial += 1;
        let message = call(self.serial, path, interface, member, arguments);
        self.stream.write_all(&message).map_err(told)?;
        for _ in 0..MAX_MESSAGES {
            // One call at a time: the next answer is the answer to it.
            match read_message(&mut self.stream).map_err(told)? {
                (2, is_big_endian, body) => return Ok(Some((body, is_big_endian))),
                (3, _, _) => return Ok(None),
                _ => {}
            }
        }
        Err(format!("{place}: no answer among {MAX_MESSAGES} messages"))
    }
}

/// A method call, little endian, whose arguments are texts.
pub(crate) fn call(serial: u32, path: &str, interface: &str, member: &str, arguments: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for argument in arguments {
        pad(&mut body, 4);
        put_text(&mut body, argument);
    }
    let mut fields = Vec::new();
    for (code, signature, value) in
        [(1, b'o', path), (2, b's', interface), (3, b's', member), (6, b's', BUS_NAME)]
    {
        pad(&mut fields, 8);
        // Code, the signature of the variant, and its value: all of them are texts.
        fields.extend_from_slice(&[code, 1, signature, 0]);
        put_text(&mut fields, value);
    }
    if !arguments.is_empty() {
        pad(&mut fields, 8);
        // SIGNATURE of the body: a length of one byte, then a letter for each argument.
        fields.extend_from_slice(&[8, 1, b'g', 0, u8::try_from(arguments.len()).unwrap_or(0)]);
        fields.extend(arguments.iter().map(|_| b's'));
        fields.push(0);
    }
    // Little endian, a method call, no flags, version 1.
    let mut message = vec![b'l', 1, 0, 1];
    message.extend_from_slice(&length(&body));
    message.extend_from_slice(&serial.to_le_bytes());
    message.extend_from_slice(&length(&fields));
    message.extend_from_slice(&fields);
    pad(&mut message, 8);
    message.extend_from_slice(&body);
    message
}

/// One line of the authentication.
pub(crate) fn line(stream: &mut impl Read) -> std::io::Result<String> {
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

/// Type, byte order and body of the next message.
pub(crate) fn read_message(stream: &mut impl Read) -> std::io::Result<(u8, bool, Vec<u8>)> {
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

/// A body, read from its beginning.
pub(crate) struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    pub is_big_endian: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(to);
        (self.at <= self.bytes.len()).then_some(())
    }

    pub(crate) fn integer(&mut self) -> Option<u32> {
        self.align(4)?;
        let bytes = self.bytes.get(self.at..self.at + 4)?.try_into().ok()?;
        self.at += 4;
        Some(integer(bytes, self.is_big_endian))
    }

    /// Length, bytes and a zero byte.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.integer()?).ok()?;
        let end = self.at.checked_add(length)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end.checked_add(1).filter(|end| *end <= self.bytes.len())?;
        std::str::from_utf8(bytes).ok()
    }
}

/// What a property holds; the other field is empty.
#[derive(Debug, Default, PartialEq)]
struct Value {
    text: String,
    number: i32,
}

/// The body of an answer to `Get`: a variant that holds a text or an integer of 32 bits.
fn variant(body: &[u8], is_big_endian: bool) -> Option<Value> {
    let [1, kind, 0, ..] = body else { return None };
    let mut reader = Reader { bytes: body, at: 3, is_big_endian };
    match kind {
        b's' | b'o' => Some(Value { text: reader.text()?.chars().take(200).collect(), number: 0 }),
        b'i' | b'u' => Some(Value { text: String::new(), number: reader.integer()?.cast_signed() }),
        _ => None,
    }
}

/// The name of a unit as the last part of an object path: everything but letters and digits as `_` and two digits, a
/// digit at the beginning too.
fn escaped(unit: &str) -> String {
    let mut path = String::with_capacity(unit.len() + 16);
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    if path.is_empty() { "_".into() } else { path }
}

pub(crate) fn any_answer(bytes: &[u8]) {
    let mut stream = bytes;
    // What an error here says does not matter.
    let _ = line(&mut stream);
    variant(bytes, false);
    variant(bytes, true);
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&length(text.as_bytes()));
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn names_of_units_become_object_paths() {
        for (unit, path) in
            [("ssh.service", "ssh_2eservice"), ("9p@a-b.service", "_39p_40a_2db_2eservice"), ("", "_")]
        {
            assert_eq!(escaped(unit), path);
        }
    }

    /// Answers `Get` by the name of the property; `None` is an error message.
    fn systemd(socket: &Path, answers: fn(&str) -> Option<Vec<u8>>) -> std::thread::JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = (line(&mut stream).unwrap(), line(&mut stream).unwrap());
            stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
            let mut asked = Vec::new();
            while let Ok((1, false, body)) = read_message(&mut stream) {
                let mut reader = Reader { bytes: &body, at: 0, is_big_endian: false };
                let interface = reader.text().unwrap();
                let property = reader.text().unwrap().to_owned();
                assert!(interface.starts_with("org.freedesktop.systemd1."), "{interface}");
                let (kind, body) = answers(&property).map_or((3, Vec::new()), |body| (2, body));
                let mut answer = vec![b'l', kind, 0, 1];
                answer.extend(length(&body));
                answer.extend([1, 0, 0, 0, 0, 0, 0, 0]);
                answer.extend(body);
                stream.write_all(&answer).unwrap();
                asked.push(property);
            }
            asked
        })
    }

    fn text(value: &str) -> Vec<u8> {
        let mut body = vec![1, b's', 0, 0];
        put_text(&mut body, value);
        body
    }

    fn number(value: i32) -> Vec<u8> {
        let mut body = vec![1, b'i', 0, 0];
        body.extend(value.to_le_bytes());
        body
    }

    #[test]
    fn a_unit_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("private");
        let server = systemd(&socket, |property| {
            Some(match property {
                "LoadState" => text("loaded"),
                "ActiveState" | "SubState" => text("failed"),
                "Result" => text("exit-code"),
                "ExecMainCode" => number(1),
                _ => number(203),
            })
        });
        let state = unit_state(&socket, "nginx.service", Duration::from_secs(9)).unwrap();
        let expected = UnitState {
            load: "loaded".into(),
            active: "failed".into(),
            sub: "failed".into(),
            result: "exit-code".into(),
            exit_code: 1,
            exit_status: 203,
        };
        assert_eq!(state, expected);
        assert_eq!(server.join().unwrap().len(), 6);
    }

    #[test]
    fn answers_that_make_no_sense_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        for (name, answers, said) in [
            ("none", (|_| None) as fn(&str) -> Option<Vec<u8>>, "does not tell LoadState"),
            ("list", |_| Some(vec![2, b'a', b's', 0, 0, 0, 0, 0]), "not understood"),
            ("short", |_| Some(vec![1, b's', 0, 0, 255, 0, 0, 0, b'x']), "not understood"),
            ("empty", |_| Some(Vec::new()), "not understood"),
        ] {
            let socket = directory.path().join(name);
            let server = systemd(&socket, answers);
            let error = unit_state(&socket, "x.service", Duration::from_secs(9)).unwrap_err();
            assert!(error.contains(said), "{name}: {error}");
            server.join().unwrap();
        }
        let error = unit_state(&directory.path().join("gone"), "x", Duration::from_secs(9)).unwrap_err();
        assert!(error.contains("gone"), "{error}");
    }

    #[test]
    fn a_call_with_arguments_has_the_layout_of_the_specification() {
        let message = call(1, "/a", "b.c", "Get", &["x", "yz"]);
        let (kind, is_big_endian, body) = read_message(&mut message.as_slice()).unwrap();
        assert_eq!((kind, is_big_endian), (1, false));
        assert_eq!(body, b"\x01\0\0\0x\0\0\0\x02\0\0\0yz\0");
        let signature = message.windows(7).any(|bytes| bytes == [8, 1, b'g', 0, 2, b's', b's']);
        assert!(signature, "{message:?}");
    }
}

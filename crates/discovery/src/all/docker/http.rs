//! As much of HTTP/1.1 (RFC 9112) as asking a program on this host over its socket takes: one request, one connection, one
//! answer, with a bound on time and size.

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);
const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// The body of the answer to `GET path`.
///
/// # Errors
/// One sentence without the name of the socket; also for any status but 200.
pub fn get(socket: &str, path: &str, deadline: Instant, limit_bytes: usize) -> Result<Vec<u8>, String> {
    let failed = |error: rustix::io::Errno| error.to_string();
    let descriptor =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
    let remaining = deadline.saturating_duration_since(Instant::now()).min(PATIENCE);
    if remaining.is_zero() {
        return Err("no time is left to ask".into());
    }
    // A listener that takes no connections makes even connect(2) wait.
    for timeout in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&descriptor, timeout, Some(remaining)).map_err(failed)?;
    }
    connect(&descriptor, &SocketAddrUnix::new(socket).map_err(failed)?).map_err(failed)?;
    let mut stream = UnixStream::from(descriptor);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    answer(BufReader::new(Slow { stream, deadline }), limit_bytes)
}

/// Ends a reader that trickles.
struct Slow<R> {
    stream: R,
    deadline: Instant,
}

impl<R: Read> Read for Slow<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if Instant::now() >= self.deadline {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        self.stream.read(buffer)
    }
}

/// Reads status line, fields and body.
pub(super) fn answer(mut reader: impl BufRead, limit_bytes: usize) -> Result<Vec<u8>, String> {
    let mut head = (&mut reader).take(MAX_HEAD_BYTES);
    let mut line = String::new();
    let mut next = |line: &mut String| -> Result<(), String> {
        line.clear();
        head.read_line(line).map_err(|error| error.to_string())?;
        if line.ends_with('\n') { Ok(()) } else { Err("the answer has no proper beginning".into()) }
    };
    next(&mut line)?;
    let status = line.split(' ').nth(1).unwrap_or_default().trim().to_owned();
    if !line.starts_with("HTTP/1.") {
        return Err("the answer is no HTTP".into());
    }
    if status != "200" {
        return Err(format!("the answer is status {}", model::text::printable(&status)));
    }
    let (mut length, mut is_chunked) = (None, false);
    loop {
        next(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            length =
                Some(value.trim().parse::<u64>().map_err(|_| "the answer has no proper length".to_owned())?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            is_chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    let mut body = Vec::new();
    if !is_chunked {
        append(&mut reader, &mut body, length, limit_bytes)?;
        return Ok(body);
    }
    loop {
        line.clear();
        (&mut reader).take(1024).read_line(&mut line).map_err(|error| error.to_string())?;
        let digits = line.trim().split(';').next().unwrap_or_default();
        let size =
            u64::from_str_radix(digits, 16).map_err(|_| "a piece of the answer has no size".to_owned())?;
        if size == 0 {
            return Ok(body);
        }
        append(&mut reader, &mut body, Some(size), limit_bytes)?;
        let mut end = [0; 2];
        reader.read_exact(&mut end).map_err(|error| error.to_string())?;
    }
}

/// Reads so many bytes, or to the end.
fn append(
    reader: &mut impl BufRead,
    body: &mut Vec<u8>,
    length: Option<u64>,
    limit_bytes: usize,
) -> Result<(), String> {
    let room = (limit_bytes - body.len().min(limit_bytes)) as u64;
    if length.is_some_and(|length| length > room) {
        return Err(format!("the answer is larger than {limit_bytes} bytes"));
    }
    let wanted = length.unwrap_or(room + 1);
    let read = reader.take(wanted).read_to_end(body).map_err(|error| error.to_string())? as u64;
    match length {
        Some(length) if read < length => Err("the answer breaks off".into()),
        None if read > room => Err(format!("the answer is larger than {limit_bytes} bytes")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        answer(text.as_bytes(), 100).map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn bodies_of_all_kinds() {
        let ok = "HTTP/1.1 200 OK\r\nServer: x\r\n";
        assert_eq!(read(&format!("{ok}Content-Length: 2\r\n\r\n{{}}more")), Ok("{}".into()));
        assert_eq!(read(&format!("{ok}\r\nall")), Ok("all".into()));
        let chunks = "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\n";
        assert_eq!(read(&format!("{ok}{chunks}")), Ok("abcde".into()));
    }

    #[test]
    fn what_is_wrong_is_an_error() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (text, expected) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n".into(), "404"),
            ("SSH-2.0-x\r\n\r\n".into(), "no HTTP"),
            (String::new(), "beginning"),
            ("HTTP/1.1 200 OK".into(), "beginning"),
            (format!("{ok}Content-Length: 5\r\n\r\nabc"), "breaks off"),
            (format!("{ok}Content-Length: 101\r\n\r\n"), "larger"),
            (format!("{ok}Content-Length: x\r\n\r\n"), "length"),
            (format!("{ok}\r\n{}", "x".repeat(101)), "larger"),
            (format!("{ok}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), "larger"),
            (format!("{ok}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "no size"),
            (format!("{ok}Transfer-Encoding: chunked\r\n\r\n3\r\nab"), "breaks off"),
            (format!("{ok}x: {}\r\n", "y".repeat(1 << 17)), "beginning"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn nobody_is_waited_for_longer_than_agreed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let start = Instant::now();
        let result = get(path.to_str().unwrap(), "/", start + Duration::from_millis(200), 100);
        assert!(result.is_err() && start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        assert!(get("/nonexistent", "/", Instant::now() + PATIENCE, 1).is_err());
        assert!(get(path.to_str().unwrap(), "/", start, 1).unwrap_err().contains("time"));
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_no_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = answer(bytes.as_slice(), 50);
            let _ = answer([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", bytes.as_slice()].concat().as_slice(), 50);
        }
    }
}

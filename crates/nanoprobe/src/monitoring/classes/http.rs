//! `http`: the answer to `GET` (RFC 9110, RFC 9112).
//!
//! | parameter | meaning (default) |
//! |---|---|
//! | `ip`, `port` | where the service listens (127.0.0.1) |
//! | `path` | what is asked for (`/`) |
//! | `host` | the field `Host` (address and port) |
//! | `tls` | `yes`: over TLS; the certificate is the business of class `tls` |
//! | `status` | codes that count as up, separated by commas, instead of the table below |
//!
//! | status code | state |
//! |---|---|
//! | 2xx, 3xx | up |
//! | 401, 403 | up: it works, and lets not everybody in |
//! | other 4xx | warn if `path` was given; else up, because nobody said that there is something at `/` |
//! | 400, 408, 429 | warn |
//! | 5xx | down |
//! | no HTTP | down |

use super::super::state::Outcome;
use super::net::{connect, failed};
use super::{is_set, parameter, tls};
use monitors::Monitor;
use std::io::{self, Read, Write};

/// Longest head of an answer; what comes after it is not read.
const MAX_HEAD_BYTES: usize = 32 * 1024;
const MAX_FIELDS: usize = 100;
/// Answers that announce others (1xx) before the one that counts.
const MAX_INTERIM: usize = 5;

pub fn check(monitor: &Monitor) -> Outcome {
    let path = parameter(monitor, "path");
    let wanted = path.unwrap_or("/");
    let is_plain = |text: &str| text.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
    let (address, stream) = match connect(monitor) {
        Ok(connected) => connected,
        Err(outcome) => return outcome,
    };
    let host = parameter(monitor, "host").map_or_else(|| address.to_string(), str::to_owned);
    // Whatever came into the parameters must not become a field or a second request.
    if !wanted.starts_with('/') || !is_plain(wanted) || !is_plain(&host) {
        return Outcome::down(format!("invalid monitoring request: path {wanted:?} or host {host:?}"));
    }
    let request = format!(
        "GET {wanted} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: nanoprobe/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    let answer = if is_set(monitor, "tls") {
        match tls::client(monitor, stream) {
            Ok(mut stream) => ask(&mut stream, &request),
            Err(outcome) => return outcome,
        }
    } else {
        let mut stream = stream;
        ask(&mut stream, &request)
    };
    match answer {
        Ok(answer) => judge(monitor, path.is_some(), &answer, wanted),
        Err(Trouble::Io(error)) => failed(monitor, &format!("{address} gives no answer"), &error),
        Err(Trouble::NotHttp) => Outcome::down(format!("{address} answers, but not in HTTP")),
        Err(Trouble::TooLong) => {
            Outcome::down(format!("{address} answers with a head of more than {MAX_HEAD_BYTES} bytes"))
        }
    }
}

struct Answer {
    code: u16,
    phrase: String,
}

enum Trouble {
    Io(io::Error),
    NotHttp,
    TooLong,
}

fn ask(stream: &mut (impl Read + Write), request: &str) -> Result<Answer, Trouble> {
    stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).map_err(Trouble::Io)?;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    let mut interim = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&head) {
            Ok(httparse::Status::Complete(bytes)) => {
                let code = response.code.unwrap_or(0);
                if !(100..200).contains(&code) {
                    let phrase = response.reason.unwrap_or("").chars().take(100).collect();
                    return Ok(Answer { code, phrase });
                }
                interim += 1;
                if interim > MAX_INTERIM {
                    return Err(Trouble::NotHttp);
                }
                head.drain(..bytes);
                continue;
            }
            Ok(httparse::Status::Partial) => {}
            Err(_) => return Err(Trouble::NotHttp),
        }
        if head.len() >= MAX_HEAD_BYTES {
            return Err(Trouble::TooLong);
        }
        match stream.read(&mut buffer) {
            Ok(0) if head.is_empty() => return Err(Trouble::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(0) => return Err(Trouble::NotHttp),
            Ok(count) => head.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Trouble::Io(error)),
        }
    }
}

fn judge(monitor: &Monitor, is_path_given: bool, answer: &Answer, path: &str) -> Outcome {
    let Answer { code, phrase } = answer;
    let said = format!("HTTP {code} {phrase} for {path}");
    if let Some(codes) = parameter(monitor, "status") {
        return if codes.split(',').any(|wanted| wanted.trim().parse() == Ok(*code)) {
            Outcome::up(said)
        } else {
            Outcome::down(format!("{said}, expected {codes}"))
        };
    }
    match code {
        200..400 => Outcome::up(said),
        401 | 403 => Outcome::up(format!("{said}: it works, and lets not everybody in")),
        400 | 408 | 429 => Outcome::warn(said),
        402..500 if is_path_given => Outcome::warn(said),
        402..500 => Outcome::up(format!("{said}: it works, and has nothing there")),
        _ => Outcome::down(said),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::state::Level::{self, Down, Up, Warn};
    use super::super::super::testing::service;
    use super::*;
    use monitors::Class;
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    /// A server with one answer; the requests that it got.
    fn server(answer: &'static [u8]) -> (u16, Arc<Mutex<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(String::new()));
        let heard = asked.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut buffer = [0; 2048];
                let count = stream.read(&mut buffer).unwrap_or(0);
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                let _ = stream.write_all(answer);
            }
        });
        (port, asked)
    }

    fn ask(port: u16, parameters: &[(&str, &str)]) -> Outcome {
        let mut monitor = Monitor { timeout_seconds: 2, ..service(Class::Http, "x", port) };
        monitor.env.extend(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        check(&monitor)
    }

    #[test]
    fn codes_have_meanings() {
        let table: &[(&'static [u8], Level, Level)] = &[
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Up, Up),
            (b"HTTP/1.0 204 \r\n\r\n", Up, Up),
            (b"HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n", Up, Up),
            (b"HTTP/1.1 401 Unauthorized\r\n\r\n", Up, Up),
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", Up, Up),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", Up, Warn),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", Warn, Warn),
            (b"HTTP/1.1 429 Too Many\r\n\r\n", Warn, Warn),
            (b"HTTP/1.1 500 Oops\r\n\r\n", Down, Down),
            (b"HTTP/1.1 503 Later\r\n\r\n", Down, Down),
            (b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Up, Up),
            (b"SSH-2.0-OpenSSH\r\n", Down, Down),
            (b"HTTP/1.1 200 OK\r\nbroken", Down, Down),
            (b"", Down, Down),
        ];
        for (answer, without_path, with_path) in table {
            let (port, _) = server(answer);
            let shown = String::from_utf8_lossy(answer);
            assert_eq!(ask(port, &[]).level, *without_path, "{shown}");
            assert_eq!(ask(port, &[("path", "/health")]).level, *with_path, "{shown}");
        }
        let (port, _) = server(b"HTTP/1.1 418 Teapot\r\n\r\n");
        assert_eq!(ask(port, &[("status", "200, 418")]).level, Up);
        let outcome = ask(port, &[("status", "200")]);
        assert_eq!((outcome.level, outcome.reason.as_str()), (Down, "HTTP 418 Teapot for /, expected 200"));
    }

    #[test]
    fn the_request_is_what_was_asked_for() {
        let (port, asked) = server(b"HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(ask(port, &[("path", "/a?b=c"), ("host", "www.example.org")]).level, Up);
        let request = asked.lock().unwrap().clone();
        assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\nHost: www.example.org\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n"), "{request}");
        asked.lock().unwrap().clear();
        for wrong in
            [("path", "/ HTTP/1.1\r\nX: y"), ("path", "relative"), ("host", "a\r\nX: y"), ("host", "a b")]
        {
            assert!(ask(port, &[wrong]).reason.starts_with("invalid"), "{wrong:?}");
        }
        assert!(!asked.lock().unwrap().contains("GET"), "nothing was sent");
    }

    #[test]
    fn an_answer_without_end_is_not_read_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let mut sent = 0_u64;
            for mut stream in listener.incoming().flatten().take(2) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
                while sent < 100_000_000 && stream.write_all(&[b'x'; 4096]).is_ok() {
                    sent += 4096;
                }
            }
            sent
        });
        assert!(ask(port, &[]).reason.contains("head of more than"));
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let outcome = ask(mute.local_addr().unwrap().port(), &[]);
        assert_eq!((outcome.level, outcome.reason.as_str()), (Down, "timed out after 2 s"));
        drop(std::net::TcpStream::connect(("127.0.0.1", port)));
        assert!(server.join().unwrap() < 100_000_000);
    }
}

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

//! `tcp`: a connection to the port.
//!
//! | parameter | meaning (default) |
//! |---|---|
//! | `ip`, `port` | where the service listens (127.0.0.1) |
//! | `send` | text that is sent first, with `\r`, `\n` and `\\` for these characters |
//! | `expect` | text that must come within the first 4096 bytes; without it, a connection is enough |
//!
//! Up: connected, and the expected text came. Warn: something else came. Down: no connection, or closed without a word.

use super::super::state::Outcome;
use super::net::{connect, failed};
use super::parameter;
use monitors::Monitor;
use std::io::{Read, Write};

/// Looked at of what the service says.
const MAX_BANNER_BYTES: usize = 4096;

pub fn check(monitor: &Monitor) -> Outcome {
    let (address, mut stream) = match connect(monitor) {
        Ok(connected) => connected,
        Err(outcome) => return outcome,
    };
    if let Some(text) = parameter(monitor, "send")
        && let Err(error) = stream.write_all(unescaped(text).as_bytes())
    {
        return failed(monitor, &format!("{address} does not listen"), &error);
    }
    let Some(expected) = parameter(monitor, "expect") else {
        return Outcome::up(format!("{address} accepts connections"));
    };
    let expected = unescaped(expected);
    let mut banner = Vec::new();
    let mut buffer = [0; 512];
    let contains = |banner: &[u8]| banner.windows(expected.len()).any(|part| part == expected.as_bytes());
    while banner.len() < MAX_BANNER_BYTES {
        match stream.read(&mut buffer) {
            Ok(0) if banner.is_empty() => {
                return Outcome::down(format!("{address} closes the connection without a word"));
            }
            Ok(0) => break,
            Ok(count) => banner.extend_from_slice(&buffer[..count]),
            Err(error) if banner.is_empty() => {
                return failed(monitor, &format!("{address} says nothing"), &error);
            }
            Err(_) => break,
        }
        if contains(&banner) {
            return Outcome::up(format!("{address} answers as expected"));
        }
    }
    let shown = String::from_utf8_lossy(&banner);
    let first = shown.lines().next().unwrap_or_default();
    Outcome {
        output: first.into(),
        ..Outcome::warn(format!("{address} answers, but not with {:?}", expected.trim_end()))
    }
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match characters.next() {
            Some('r') => plain.push('\r'),
            Some('n') => plain.push('\n'),
            Some(other) => plain.push(other),
            None => plain.push('\\'),
        }
    }
    plain
}

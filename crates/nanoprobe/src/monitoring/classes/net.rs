//! Connections of the built-in classes, with one deadline for everything.

use super::super::state::Outcome;
use super::{parameter, timed_out, timeout};
use monitors::Monitor;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A connection whose every reading and writing ends at the deadline.
pub struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // A time-out of zero would mean none.
        if left < Duration::from_millis(1) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Where the monitor says that the service listens; `0.0.0.0` and `::` are reached on the loopback interface.
///
/// # Errors
/// The outcome of a monitor without an address: no name is looked up, because that may take for ever.
pub fn address(monitor: &Monitor) -> Result<SocketAddr, Outcome> {
    let invalid = |what: &str| Outcome::down(format!("invalid monitoring request: {what}"));
    let ip = match parameter(monitor, "ip") {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(text) => text
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .map_err(|_| invalid(&format!("{text:?} is no address")))?,
    };
    let ip = match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let port = parameter(monitor, "port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    Ok(SocketAddr::new(ip, port.ok_or_else(|| invalid("the port is missing"))?))
}

/// Connects to a service.
///
/// # Errors
/// The outcome: nobody is there.
pub fn connect(monitor: &Monitor) -> Result<(SocketAddr, Timed), Outcome> {
    let address = address(monitor)?;
    let deadline = Instant::now() + timeout(monitor);
    let stream = TcpStream::connect_timeout(&address, timeout(monitor))
        .map_err(|error| failed(monitor, &format!("no connection to {address}"), &error))?;
    Ok((address, Timed { stream, deadline }))
}

/// The outcome of an error.
pub fn failed(monitor: &Monitor, what: &str, error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => timed_out(monitor),
        io::ErrorKind::UnexpectedEof => Outcome::down(format!("{what}: the connection was closed")),
        _ => Outcome::down(format!("{what}: {error}")),
    }
}

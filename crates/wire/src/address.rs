//! Addresses as people write them on command lines and in files. Pure but for [`PeerAddress::resolve`].

use crate::PORT;
use crate::endpoint::canonical;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {wanted}")]
pub struct AddressError {
    pub text: String,
    pub wanted: &'static str,
}

/// Most addresses taken from one name.
const MAX_RESOLVED: usize = 16;

/// Reads a local address: `1.2.3.4:1984`, `[::]:1984`, `1.2.3.4`, `::`, `:1984` or `1984`. The port is 1984 unless given.
pub fn parse_bind(text: &str) -> Result<SocketAddr, AddressError> {
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    if let Some(address) = parse_socket(text) {
        return Ok(address);
    }
    match text.strip_prefix(':').unwrap_or(text).parse() {
        Ok(port) => Ok(SocketAddr::new(any, port)),
        Err(_) => Err(error(text, "local address such as [::]:1984, 192.0.2.1:1984 or :1984")),
    }
}

/// Where a CMA is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    Socket(SocketAddr),
    Name { host: String, port: u16 },
}

impl PeerAddress {
    /// Whether this is a multicast group, to be asked with a hello instead of dialled.
    pub fn is_multicast(&self) -> bool {
        matches!(self, Self::Socket(address) if address.ip().to_canonical().is_multicast())
    }

    /// The socket addresses of a name, at most 16, as the system's resolver orders them.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Socket(address) => Ok(vec![*address]),
            Self::Name { host, port } => {
                let found = tokio::net::lookup_host((host.as_str(), *port)).await?;
                Ok(found.map(canonical).take(MAX_RESOLVED).collect())
            }
        }
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    /// `1.2.3.4:1984`, `[::ffff:1.2.3.4]:1984`, `name:1984`, each also without the port.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong =
            || error(text, "address such as 192.0.2.1:1984, [2001:db8::1]:1984 or cma.example.org:1984");
        if let Some(address) = parse_socket(text) {
            let usable = address.port() != 0 && !address.ip().is_unspecified();
            return usable.then_some(Self::Socket(address)).ok_or_else(wrong);
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (text, PORT),
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let plain =
            !host.is_empty() && host.len() <= 253 && host.chars().all(legal) && !host.starts_with('-');
        // Digits and dots alone are a mistyped address, and the resolver reads "1.2" as 1.0.0.2.
        let name = plain && host.chars().any(|c| c.is_ascii_alphabetic()) && port != 0;
        name.then(|| Self::Name { host: host.to_ascii_lowercase(), port }).ok_or_else(wrong)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

fn parse_socket(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = text.parse().ok().or_else(|| bare.parse().ok().map(|ip| SocketAddr::new(ip, PORT)));
    address.map(canonical)
}

fn error(text: &str, wanted: &'static str) -> AddressError {
    AddressError { text: text.chars().take(260).collect(), wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_addresses_in_every_form() {
        for (text, meant) in [
            ("1.2.3.4:5", "1.2.3.4:5"),
            ("1.2.3.4", "1.2.3.4:1984"),
            ("[::]:0", "[::]:0"),
            ("[::]", "[::]:1984"),
            ("::", "[::]:1984"),
            ("::1", "[::1]:1984"),
            (":7", "[::]:7"),
            ("7", "[::]:7"),
            ("[::ffff:1.2.3.4]:5", "1.2.3.4:5"),
        ] {
            assert_eq!(parse_bind(text).unwrap().to_string(), meant, "{text}");
        }
        for bad in ["", ":", "host:1", "1.2.3.4:99999", "1.2.3", "-1", "70000", "[::"] {
            assert!(parse_bind(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn peer_addresses_in_every_form() {
        for (text, meant) in [
            ("1.2.3.4:1984", "1.2.3.4:1984"),
            ("[::ffff:1.2.3.4]:1984", "1.2.3.4:1984"),
            ("[2001:db8::1]:7", "[2001:db8::1]:7"),
            ("CMA.example.org:7", "cma.example.org:7"),
            ("cma", "cma:1984"),
            ("224.0.2.5", "224.0.2.5:1984"),
        ] {
            assert_eq!(text.parse::<PeerAddress>().unwrap().to_string(), meant, "{text}");
        }
        for bad in [
            "",
            ":1984",
            "1.2.3",
            "1.2.3.4:0",
            "0.0.0.0:1984",
            "a b:1",
            "cma:0",
            "cma:x",
            "-x:1",
            "a/b",
            "1.2",
        ] {
            assert!(bad.parse::<PeerAddress>().is_err(), "{bad}");
        }
        assert!("224.0.2.5".parse::<PeerAddress>().unwrap().is_multicast());
        assert!(!"192.0.2.5".parse::<PeerAddress>().unwrap().is_multicast());
    }
}

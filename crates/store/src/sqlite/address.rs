//! What SQL can ask of addresses: `network_of(ip, prefix)`, `context_of(key)`, `oui(mac)`.
//!
//! Arguments come from discoveries and from people: what is no address gives null, never an error, so that one odd row does
//! not spoil a view.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock};

/// Knows who made an interface: from a MAC address (lower case with dashes, 6 or 8 bytes) to the vendor's name.
pub type Vendors = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

static VENDORS: RwLock<Option<Vendors>> = RwLock::new(None);

/// Vendor names are cut here; the registry's longest has about 130 characters.
const MAX_VENDOR_CHARS: usize = 200;

/// Gives the whole process the names of vendors for `oui(mac)`, which answers null until then. Meant to be called once,
/// at the start: a later call changes what statements answer.
pub fn set_vendors(vendors: Vendors) {
    *VENDORS.write().unwrap_or_else(PoisonError::into_inner) = Some(vendors);
}

pub fn register(connection: &Connection, flags: FunctionFlags) -> Result<()> {
    connection.create_scalar_function("network_of", 2, flags, |context| {
        let prefix = match context.get_raw(1) {
            ValueRef::Integer(length) => u8::try_from(length).ok(),
            ValueRef::Text(_) => text(context, 1).and_then(|length| length.parse().ok()),
            _ => None,
        };
        let ip = text(context, 0).and_then(|ip| ip.parse().ok());
        Ok(ip.zip(prefix).and_then(|(ip, prefix)| network_of(ip, prefix)))
    })?;
    connection.create_scalar_function("context_of", 1, flags, |c| {
        Ok(text(c, 0).map(|key| context_of(key).to_owned()))
    })?;
    // Within a statement the same question has the same answer, which is what SQLite's word asks for.
    connection.create_scalar_function("oui", 1, flags, |c| Ok(text(c, 0).and_then(vendor)))
}

/// `10.0.0.7`, 24 → `10.0.0.0/24`.
fn network_of(ip: IpAddr, prefix: u8) -> Option<String> {
    let first = match ip {
        IpAddr::V4(ip) => {
            let host_bits = 32u32.checked_sub(prefix.into())?;
            Ipv4Addr::from_bits(ip.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into()
        }
        IpAddr::V6(ip) => {
            let host_bits = 128u32.checked_sub(prefix.into())?;
            IpAddr::from(Ipv6Addr::from_bits(ip.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)))
        }
    };
    Some(format!("{first}/{prefix}"))
}

/// What an address means something in, by the key of its node: `@berlin/10.0.0.7` → `berlin`; `web1/127.0.0.1` → `web1`;
/// `web1:docker/0123/80_tcp_172.17.0.2` → `web1:docker/0123`.
fn context_of(key: &str) -> &str {
    // Behind a network's name a switch may have slashes of its own; an address has none.
    match key.strip_prefix('@') {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None => key.rsplit_once('/').map_or("", |(context, _)| context),
    }
}

fn vendor(mac: &str) -> Option<String> {
    let is_address = matches!(mac.len(), 17 | 23)
        && mac.bytes().enumerate().all(|(index, byte)| match index % 3 {
            2 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        });
    if !is_address {
        return None;
    }
    let vendors = VENDORS.read().unwrap_or_else(PoisonError::into_inner).clone()?;
    vendors(mac).map(|name| name.chars().take(MAX_VENDOR_CHARS).collect())
}

/// A text argument; anything else gives `None`.
fn text<'c>(context: &'c Context<'_>, index: usize) -> Option<&'c str> {
    match context.get_raw(index) {
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(sql: &str) -> Option<String> {
        let connection = Connection::open_in_memory().unwrap();
        super::super::functions::register(&connection).unwrap();
        connection
            .query_row(&format!("SELECT {sql}"), [], |row| row.get(0))
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    #[test]
    fn a_network_is_told_by_address_and_length() {
        for (sql, network) in [
            ("network_of('10.1.2.3', 24)", Some("10.1.2.0/24")),
            ("network_of('10.1.2.3', '20')", Some("10.1.0.0/20")),
            ("network_of('10.1.2.3', 0)", Some("0.0.0.0/0")),
            ("network_of('10.1.2.3', 32)", Some("10.1.2.3/32")),
            ("network_of('2001:db8::1:2', 64)", Some("2001:db8::/64")),
            ("network_of('2001:db8::1', 0)", Some("::/0")),
            ("network_of('2001:db8::1', 128)", Some("2001:db8::1/128")),
            ("network_of('10.1.2.3', 33)", None),
            ("network_of('10.1.2.3', 256 + 24)", None),
            ("network_of('10.1.2.3', -1)", None),
            ("network_of('10.1.2.3', 9223372036854775807)", None),
            ("network_of('10.1.2.3', 24.0)", None),
            ("network_of('::1', 129)", None),
            ("network_of('10.1.2', 24)", None),
            ("network_of(x'31302e30', 24)", None),
            ("network_of(NULL, 24)", None),
            ("network_of('10.1.2.3', NULL)", None),
            ("network_of(hex(zeroblob(100000)), hex(zeroblob(100000)))", None),
        ] {
            assert_eq!(ask(sql).as_deref(), network, "{sql}");
        }
    }

    #[test]
    fn a_key_tells_where_the_address_means_something() {
        for (key, context) in [
            ("@berlin/10.0.0.7", "berlin"),
            ("@global/00-16-3e-00-00-01/ge-0/0/1", "global"),
            ("web1/fe80::1", "web1"),
            ("web1:docker/0123/80_tcp_172.17.0.2", "web1:docker/0123"),
            ("@", ""),
            ("", ""),
            ("none", ""),
        ] {
            assert_eq!(context_of(key), context, "{key}");
        }
        assert_eq!(ask("context_of(NULL)"), None);
        assert_eq!(ask("context_of(7)"), None);
    }

    #[test]
    fn only_link_layer_addresses_are_asked_about() {
        set_vendors(Arc::new(|mac| Some(format!("{} {}", &mac[..8], "x".repeat(500)))));
        assert!(ask("oui('00-16-3e-00-00-01')").unwrap().starts_with("00-16-3e x"));
        assert_eq!(ask("oui('00-16-3e-00-00-01')").unwrap().chars().count(), MAX_VENDOR_CHARS);
        assert!(ask("oui('00-16-3e-00-00-01-02-03')").is_some());
        for junk in [
            "NULL",
            "7",
            "x'00'",
            "''",
            "'00:16:3e:00:00:01'",
            "'00-16-3E-00-00-01'",
            "'00-16-3e-00-00-0g'",
            "'00-16-3e-00-00'",
            "'0-016-3e-00-00-01'",
            "'é0-16-3e-00-00-1'",
            "hex(zeroblob(100000))",
        ] {
            assert_eq!(ask(&format!("oui({junk})")), None, "{junk}");
        }
    }
}

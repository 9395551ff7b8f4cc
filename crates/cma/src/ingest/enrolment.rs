//! Who may become a host, and who may not be one any more: `[enrolment]` of cma.toml, tokens, approval, revocation.
//!
//! [`admission`] decides about a key that nobody knows, `pending` keeps those that wait, `revoked` those that are refused
//! for ever, [`actions`] is what administrators do about all of them, [`invitations`] calls those who were let in.

pub mod actions;
pub mod admission;
pub mod invitations;
pub mod pending;
pub mod revoked;

use super::Context;
use super::register::Applicant;
use model::message::RefusedReason;
use model::{Designation, Event, EventType};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// `reason` in events about tokens that do not count.
pub const TOKEN: &str = "token";
/// `reason` in events about hosts that wait for approval.
pub const PENDING: &str = "pending";
/// `reason` in events about revoked keys, and of a host whose key was revoked.
pub const REVOKED: &str = "revoked";

/// A refusal in words that the nanoprobe understands: one that tells no machine is of a version that does not know the
/// newer reasons.
pub fn reason_for(applicant: &Applicant, reason: RefusedReason) -> RefusedReason {
    match reason {
        RefusedReason::Pending | RefusedReason::Token | RefusedReason::Revoked
            if applicant.message.machine.is_none() =>
        {
            RefusedReason::KeyMismatch
        }
        reason => reason,
    }
}

/// An event about somebody who is no host, or not yet.
fn about_stranger(
    context: &mut Context<'_>,
    kind: EventType,
    name: &Designation,
    address: &str,
    extrainfo: Value,
) -> Event {
    let reason = extrainfo["reason"].clone();
    let object = json!({
        "nodetype": "Drone",
        "designation": name.as_str(),
        "status": "unknown",
        "reason": reason,
        "domain": context.knowledge.domain_of(name, &[]),
        "address": address,
    });
    let map = |value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    Event {
        eventid: (context.event_ids)(),
        time: context.now,
        eventtype: kind,
        associatedobject: map(object),
        extrainfo: map(extrainfo),
    }
}

/// Whose share of the list a source takes: one address of IPv4, one /64 of IPv6, of which a host has all.
fn source_of(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_has_one_share_with_all_its_addresses() {
        let source = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(source("192.0.2.7"), "192.0.2.7");
        assert_eq!(source("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }
}

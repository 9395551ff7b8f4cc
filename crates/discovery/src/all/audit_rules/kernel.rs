//! The audit rules and settings that the kernel holds at this moment, asked by netlink (<linux/audit.h>).
//!
//! Only questions are sent; nothing of them changes the kernel. They need the capability CAP_AUDIT_CONTROL and
//! the initial user and PID name space.

use super::rule::{Abi, Condition, List, MAX_RULES, Place, Rule, Syscalls};
use super::syscalls::Machine;
use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_AUDIT};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::collections::BTreeSet;
use std::time::Duration;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const AUDIT_GET: u16 = 1000;
const AUDIT_LIST_RULES: u16 = 1013;
const AUDIT_GET_FEATURE: u16 = 1019;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NETLINK_HEADER_BYTES: usize = 16;
const LOGINUID_IMMUTABLE: u32 = 1 << 1;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_PIECE_BYTES: usize = 64 * 1024;

/// Words of `struct audit_rule_data` before its text, and where its parts begin.
const RULE_WORDS: usize = 3 + 64 + 64 + 64 + 64 + 1;
const MASK: usize = 3;
const FIELDS: usize = MASK + 64;
const VALUES: usize = FIELDS + 64;
const FLAGS: usize = VALUES + 64;
const MAX_FIELDS: usize = 64;

/// `struct audit_status` as far as it does not change by itself, and the lock of login ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    pub enabled: u32,
    pub failure: u32,
    /// An audit daemon takes the records.
    pub has_daemon: bool,
    pub rate_limit: u32,
    pub backlog_limit: u32,
    pub backlog_wait_time: Option<u32>,
    pub is_loginuid_immutable: bool,
}

/// What the kernel holds, or a sentence about why it does not tell.
pub fn loaded(machine: Machine) -> Result<(Status, Vec<Rule>), String> {
    let mut status = None;
    ask(AUDIT_GET, |payload| status = status.or_else(|| parse_status(payload)))?;
    let mut status = status.ok_or("the kernel told nothing about auditing")?;
    // Kernels before 3.13 do not know the question.
    let features = ask(AUDIT_GET_FEATURE, |payload| {
        status.is_loginuid_immutable |=
            word(payload, 2).is_some_and(|features| features & LOGINUID_IMMUTABLE != 0);
    });
    if features.is_err() {
        status.is_loginuid_immutable = false;
    }
    let mut rules = Vec::new();
    ask(AUDIT_LIST_RULES, |payload| {
        if rules.len() < MAX_RULES {
            rules.extend(parse_rule(payload, machine));
        }
    })?;
    Ok((status, rules))
}

/// Sends one question and hands over each answer, until the acknowledgement and for lists also the end has come.
fn ask(request: u16, mut answer: impl FnMut(&[u8])) -> Result<(), String> {
    let failed = |error: std::io::Error| {
        format!("the kernel does not tell its audit rules: {error}: only root outside of containers may ask")
    };
    let mut socket = Socket::new(NETLINK_AUDIT).map_err(failed)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT)).map_err(|errno| failed(errno.into()))?;
    socket.bind_auto().map_err(failed)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
    let mut bytes = Vec::with_capacity(NETLINK_HEADER_BYTES);
    bytes.extend((NETLINK_HEADER_BYTES as u32).to_ne_bytes());
    bytes.extend(request.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    socket.send(&bytes, 0).map_err(failed)?;
    let (mut is_acknowledged, mut is_answered) = (false, false);
    let mut piece = Vec::with_capacity(MAX_PIECE_BYTES);
    for _ in 0..2 * MAX_RULES {
        piece.clear();
        let (_, sender) = socket.recv_from(&mut piece, 0).map_err(failed)?;
        // Any process may send to our port; only the kernel is port 0.
        if sender.port_number() != 0 {
            continue;
        }
        for (kind, payload) in messages(&piece)? {
            match kind {
                NLMSG_ERROR => {
                    let code = payload.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                    if code != 0 {
                        return Err(failed(std::io::Error::from_raw_os_error(code.saturating_neg())));
                    }
                    is_acknowledged = true;
                }
                NLMSG_DONE => is_answered = true,
                kind if kind == request => {
                    answer(payload);
                    is_answered |= request != AUDIT_LIST_RULES;
                }
                _ => {}
            }
        }
        if is_acknowledged && is_answered {
            return Ok(());
        }
    }
    Ok(())
}

/// Type and content of each message of a piece. The audit subsystem leaves the length of some of its answers
/// without the header, so a message that claims less than a header ends the piece.
fn messages(piece: &[u8]) -> Result<Vec<(u16, &[u8])>, String> {
    let mut found = Vec::new();
    let mut rest = piece;
    while !rest.is_empty() {
        let buffer = NetlinkBuffer::new_checked(rest)
            .map_err(|error| format!("the kernel's answer about audit rules makes no sense: {error}"))?;
        let length = buffer.length() as usize;
        found.push((buffer.message_type(), rest.get(NETLINK_HEADER_BYTES..length).unwrap_or_default()));
        rest = rest.get(length.max(NETLINK_HEADER_BYTES).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

pub(super) fn any_answer(bytes: &[u8]) {
    let payloads = messages(bytes).unwrap_or_default();
    for payload in payloads.into_iter().map(|(_, payload)| payload).chain([bytes]) {
        parse_status(payload);
        parse_rule(payload, Machine::X86_64);
        parse_rule(payload, Machine::Aarch64);
    }
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    bytes.get(index * 4..)?.first_chunk().map(|four| u32::from_ne_bytes(*four))
}

fn parse_status(payload: &[u8]) -> Option<Status> {
    Some(Status {
        enabled: word(payload, 1)?,
        failure: word(payload, 2)?,
        has_daemon: word(payload, 3)? != 0,
        rate_limit: word(payload, 4)?,
        backlog_limit: word(payload, 5)?,
        backlog_wait_time: word(payload, 9),
        is_loginuid_immutable: false,
    })
}

/// `struct audit_rule_data`. `None` for what is no rule that could record or hide anything.
pub fn parse_rule(payload: &[u8], machine: Machine) -> Option<Rule> {
    let list = match word(payload, 0)? & 0xf {
        0 => List::User,
        1 => List::Task,
        4 => List::Exit,
        5 => List::Exclude,
        6 => List::Filesystem,
        7 => List::IoUring,
        _ => return None,
    };
    let records = match word(payload, 1)? {
        0 => false,
        2 => true,
        _ => return None,
    };
    let count = (word(payload, 2)? as usize).min(MAX_FIELDS);
    let mut text = payload.get(RULE_WORDS * 4..)?;
    let mut rule = Rule::new(list, records);
    for field in 0..count {
        let (kind, value) = (word(payload, FIELDS + field)?, word(payload, VALUES + field)?);
        let operator = operator_of(word(payload, FLAGS + field)?);
        let mut taken = || {
            let (own, rest) = text.split_at_checked(value as usize)?;
            text = rest;
            Some(String::from_utf8_lossy(own).into_owned())
        };
        match kind {
            11 => {
                rule.abi = Some(match (machine.interface_of(value), operator) {
                    (Some(true), "=") | (Some(false), "!=") => Abi::B64,
                    (Some(false), "=") | (Some(true), "!=") => Abi::B32,
                    _ => Abi::Foreign,
                });
            }
            // A watch of a whole directory is loaded as dir=.
            105 => rule.place = Some(Place::File(taken()?)),
            107 => rule.place = Some(Place::Below(taken()?)),
            106 => rule.permissions = Some((value & 15) as u8),
            210 => rule.keys.extend(taken()?.split('\u{1}').take(8).map(str::to_owned)),
            // Security labels and programs: text as well.
            13..=17 | 19..=23 | 112 => {
                let value = taken()?;
                rule.conditions.push(condition(if kind == 112 { "exe" } else { "label" }, operator, value));
            }
            111 => {
                let (field, other) = match value {
                    11 => ("uid", "euid"),
                    20 => ("gid", "egid"),
                    _ => ("other", "other"),
                };
                let compared =
                    Condition { compares_fields: true, ..condition(field, operator, other.to_owned()) };
                rule.conditions.push(compared);
            }
            103 => rule.conditions.push(condition("exit", operator, (value as i32).to_string())),
            _ => {
                let name = match kind {
                    1 => "uid",
                    2 => "euid",
                    5 => "gid",
                    6 => "egid",
                    9 => "auid",
                    12 => "msgtype",
                    24 => "loginuid_set",
                    104 => "success",
                    200 => "a0",
                    _ => "other",
                };
                rule.conditions.push(condition(name, operator, value.to_string()));
            }
        }
    }
    rule.syscalls = syscalls_of(payload, rule.abi, machine)?;
    Some(rule)
}

fn condition(field: &str, operator: &'static str, value: String) -> Condition {
    Condition { field: field.to_owned(), operator, value, compares_fields: false }
}

fn operator_of(flags: u32) -> &'static str {
    match flags & 0x7800_0000 {
        0x4000_0000 => "=",
        0x3000_0000 => "!=",
        0x1000_0000 => "<",
        0x5000_0000 => "<=",
        0x2000_0000 => ">",
        0x6000_0000 => ">=",
        _ => "&",
    }
}

/// The system calls of a rule: one bit for each number, all bits for all of them.
fn syscalls_of(payload: &[u8], abi: Option<Abi>, machine: Machine) -> Option<Syscalls> {
    let mask = (0..64).map(|index| word(payload, MASK + index)).collect::<Option<Vec<u32>>>()?;
    // libaudit leaves the last word alone: it stands for classes of calls.
    if mask[..63].iter().all(|word| *word == u32::MAX) {
        return Some(Syscalls::All);
    }
    let is_64_bit = abi.unwrap_or(if machine.interfaces().0 { Abi::B64 } else { Abi::B32 }) == Abi::B64;
    let mut names = BTreeSet::new();
    for number in 0..63 * 32 {
        if mask[number / 32] >> (number % 32) & 1 == 1 {
            names.extend(machine.name_of(number as i32, is_64_bit).map(str::to_owned));
        }
    }
    Some(Syscalls::Named(names))
}

#[cfg(test)]
mod tests {
    use super::super::rule::Loaded;
    use super::*;
    use proptest::prelude::*;

    /// Rules as libaudit hands them to the kernel, made with its functions from the lines of the other file.
    const MESSAGES: &[u8] = include_bytes!("../../../tests/fixtures/audit_rules/loaded.bin");
    const LINES: &str = include_str!("../../../tests/fixtures/audit_rules/loaded.rules");

    fn payloads() -> Vec<&'static [u8]> {
        let mut found = Vec::new();
        let mut rest = MESSAGES;
        while !rest.is_empty() {
            let text = word(rest, RULE_WORDS - 1).unwrap() as usize;
            let (one, after) = rest.split_at(RULE_WORDS * 4 + text);
            found.push(one);
            rest = after;
        }
        found
    }

    #[test]
    fn what_libaudit_sends_is_what_its_lines_say() {
        let mut expected = Loaded::default();
        LINES.lines().for_each(|line| expected.take(line).unwrap());
        let found: Vec<Rule> =
            payloads().into_iter().map(|payload| parse_rule(payload, Machine::X86_64).unwrap()).collect();
        assert!(found.len() >= 8);
        for (found, mut expected) in found.into_iter().zip(expected.rules) {
            for condition in &mut expected.conditions {
                let number = match condition.value.as_str() {
                    "unset" => "4294967295",
                    "-EACCES" => "-13",
                    "-EPERM" => "-1",
                    "0x0" => "0",
                    other => other,
                };
                condition.value = number.to_owned();
                // The kernel's name of the pair begins with the real id.
                if condition.compares_fields && condition.field.starts_with('e') {
                    std::mem::swap(&mut condition.field, &mut condition.value);
                }
            }
            if let Some(Place::Watch(path)) = &expected.place {
                expected.place = Some(Place::File(path.clone()));
            }
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn status() {
        let words = [0x7f_u32, 2, 1, 345, 0, 8192, 17, 3, 0x7f, 60_000, 9];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let status = parse_status(&bytes).unwrap();
        assert_eq!((status.enabled, status.failure, status.has_daemon), (2, 1, true));
        assert_eq!((status.backlog_limit, status.backlog_wait_time), (8192, Some(60_000)));
        assert!(parse_status(&bytes[..20]).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..1200), cut in 0usize..2000) {
            messages(&bytes).ok();
            parse_status(&bytes);
            parse_rule(&bytes, Machine::X86_64);
            let real = payloads()[1];
            bytes.splice(..0, real[..cut.min(real.len())].iter().copied());
            parse_rule(&bytes, Machine::Aarch64);
        }
    }
}

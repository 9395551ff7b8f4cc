//! Facts of the host and of a process's place on the network.

use super::super::operand::{scalar_text, text, truth};
use super::super::{Call, Operand};
use super::{Check, Function, example};
use serde_json::Value;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const LISTENING: &str =
    r#"{"procinfo": {"listenaddrs": {"0.0.0.0:8080": {}, ":::80": {}, "10.1.2.3:80": {}}}}"#;
const COMMANDS: &str = r#"{"_init_commands": {"data": {"sensors": true}}}"#;
const UPSTART: &str = r#"{"_init_monitoringagents": {"data": {"upstart": ["ssh"]}}}"#;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "serviceip",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "the address a service can be reached at: of its lowest port, IPv4 rather than IPv6, loopback for any address",
        examples: &[example("serviceip()", LISTENING, "\"10.1.2.3\"")],
        check: Check::Nothing,
        run: |call| service(call).and_then(|(address, _)| text(address.to_string())),
    },
    Function {
        name: "serviceport",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "the lowest port a service listens on, as text",
        examples: &[example("serviceport()", LISTENING, "\"80\"")],
        check: Check::Nothing,
        run: |call| service(call).and_then(|(_, port)| text(port.to_string())),
    },
    Function {
        name: "serviceipport",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "serviceip and serviceport in one: address:port, an IPv6 address in brackets",
        examples: &[
            example("serviceipport()", LISTENING, "\"10.1.2.3:80\""),
            example("serviceipport($s)", r#"{"s": {":::22": {}}}"#, "\"[::1]:22\""),
        ],
        check: Check::Nothing,
        run: |call| {
            service(call)
                .and_then(|(address, port)| text(std::net::SocketAddr::new(address, port).to_string()))
        },
    },
    Function {
        name: "basename",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "what follows the last slash of the first known path, by default of $pathname",
        examples: &[example("basename()", r#"{"pathname": "/usr/sbin/sshd"}"#, "\"sshd\"")],
        check: Check::Nothing,
        run: |call| {
            path(call).and_then(|path| text(path.rsplit_once('/').map_or(path.as_ref(), |(_, name)| name)))
        },
    },
    Function {
        name: "dirname",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "the directory of the first known path, by default of $pathname; empty when it has none",
        examples: &[
            example("dirname(/usr/sbin/sshd)", "{}", "\"/usr/sbin\""),
            example("dirname(/vmlinuz)", "{}", "\"/\""),
        ],
        check: Check::Nothing,
        run: directory,
    },
    Function {
        name: "hascmd",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "true if the host has all these commands, else unknown",
        examples: &[
            example("hascmd(sensors)", COMMANDS, "true"),
            example("hascmd(nosuch)", COMMANDS, "null"),
        ],
        check: Check::Nothing,
        run: has_command,
    },
    Function {
        name: "is_upstartjob",
        minimum_arguments: 0,
        maximum_arguments: None,
        summary: "whether one of the names is an Upstart job; without names: whether the host has Upstart",
        examples: &[
            example("is_upstartjob(ssh)", UPSTART, "true"),
            example("is_upstartjob(cron)", UPSTART, "false"),
        ],
        check: Check::Nothing,
        run: is_upstart_job,
    },
];

/// Address and port of the first map that exists.
fn service(call: &mut Call<'_, '_>) -> Option<(IpAddr, u16)> {
    let default = if call.arguments.is_empty() { call.evaluator.name("procinfo.listenaddrs") } else { None };
    let mut candidates = call.arguments.iter().chain([&default]).flatten();
    let map = candidates.find_map(|candidate| candidate.as_object())?;
    let (address, port) = map
        .keys()
        .filter_map(|key| {
            let (address, port) = key.rsplit_once(':')?;
            let address: IpAddr = address.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
            let port: u16 = port.parse().ok()?;
            (port != 0).then_some((address.to_canonical(), port))
        })
        .min_by_key(|(address, port)| (*port, address.is_ipv6()))?;
    let address = match address {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    Some((address, port))
}

fn path<'a>(call: &mut Call<'_, 'a>) -> Option<Cow<'a, str>> {
    let path = if call.arguments.is_empty() {
        call.evaluator.name("pathname")?
    } else {
        call.arguments.iter().flatten().next()?.clone()
    };
    match path {
        Cow::Borrowed(Value::String(path)) => Some(Cow::Borrowed(path)),
        Cow::Owned(Value::String(path)) => Some(Cow::Owned(path)),
        _ => None,
    }
}

/// As in POSIX Python: trailing slashes of the directory go, unless it is nothing but slashes.
fn directory<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let path = path(call)?;
    let directory = &path[..path.rfind('/').map_or(0, |slash| slash + 1)];
    let trimmed = directory.trim_end_matches('/');
    text(if trimmed.is_empty() { directory } else { trimmed })
}

fn has_command<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    // Not recorded as a whole: a host has thousands of commands.
    let commands = call.evaluator.peek("_init_commands.data").and_then(Value::as_object);
    let Some(commands) = commands else {
        call.evaluator.record("_init_commands.data", None);
        return None;
    };
    let mut all = true;
    for name in call.arguments {
        let name = scalar_text(name.as_deref()?)?;
        let found = commands.get(name.as_ref());
        call.evaluator.record(&format!("_init_commands.data.{name}"), found);
        all &= found.is_some();
    }
    if all { truth(true) } else { None }
}

fn is_upstart_job<'a>(call: &mut Call<'_, 'a>) -> Operand<'a> {
    let jobs = call.evaluator.name("_init_monitoringagents.data.upstart");
    if call.arguments.is_empty() {
        return truth(jobs.is_some());
    }
    let names: Vec<Cow<'_, str>> =
        call.arguments.iter().flatten().filter_map(|name| scalar_text(name)).collect();
    let is_job = |name: &Cow<'_, str>| match jobs.as_deref() {
        Some(Value::Array(jobs)) => jobs.iter().any(|job| job.as_str() == Some(name)),
        Some(Value::Object(jobs)) => jobs.contains_key(name.as_ref()),
        _ => false,
    };
    truth(names.iter().any(is_job))
}

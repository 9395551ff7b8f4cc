//! One rule against one process or the host.

use crate::Class;
use crate::rule::{MonitorRule, Role, Tuple, Worth};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Something does not fit, or the host has not the agent.
    No,
    /// It fits, and must not be looked after.
    Never,
    /// It fits, but these required values are not known.
    Partly(Vec<String>),
    Fits {
        call: Call,
        /// The same without values supplied by hand, which may be secret: what the monitor is named by.
        identity: Call,
    },
}

/// How the agent is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
}

/// `views` are the process as expressions may see it, none for the host; `given` are values supplied by hand, by the
/// name of the tuple, and win over what is found.
pub fn judge(
    rule: &MonitorRule,
    views: &[Value],
    host: &Value,
    agents: &Value,
    given: &BTreeMap<String, String>,
) -> Verdict {
    if !is_available(rule, agents) {
        return Verdict::No;
    }
    let (mut call, mut identity) = (CallBuilder::new(rule), CallBuilder::new(rule));
    let mut missing = Vec::new();
    for tuple in &rule.tuples {
        let Found::Fits(found) = find(tuple, views, host) else { return Verdict::No };
        let by_hand = given.get(tuple.role.name());
        match by_hand.or(found.as_ref()) {
            Some(value) => {
                call.add(&tuple.role, value);
                identity.add(&tuple.role, found.as_deref().unwrap_or_default());
            }
            None if tuple.is_optional || tuple.role == Role::Match => {}
            None => missing.push(tuple.role.name().to_owned()),
        }
    }
    if rule.class == Class::NeverMon {
        return Verdict::Never;
    }
    if !missing.is_empty() {
        return Verdict::Partly(missing);
    }
    Verdict::Fits { call: call.finish(), identity: identity.finish() }
}

/// A total order of matches: the greater is preferred. The worth comes first, then what tells more: an agent that
/// speaks the protocol, a connection, the state of a unit, an init script.
pub fn rank(rule: &MonitorRule) -> (Worth, u8) {
    let by_class = match rule.class {
        Class::Ocf => 7,
        Class::Nagios => 6,
        Class::Http => 5,
        Class::Tls => 4,
        Class::Tcp => 3,
        Class::Systemd => 2,
        Class::Lsb => 1,
        Class::NeverMon => 0,
    };
    (rule.worth, by_class)
}

struct CallBuilder {
    call: Call,
    positional: Vec<String>,
}

impl CallBuilder {
    fn new(rule: &MonitorRule) -> Self {
        let call = Call { argv: rule.initargs.clone(), env: BTreeMap::new() };
        Self { call, positional: Vec::new() }
    }

    fn add(&mut self, role: &Role, value: &str) {
        match role {
            Role::Match => {}
            Role::Variable(name) => {
                self.call.env.insert(name.clone(), value.to_owned());
            }
            Role::Option(option) => self.call.argv.extend([option.clone(), value.to_owned()]),
            Role::Positional => self.positional.push(value.to_owned()),
        }
    }

    fn finish(mut self) -> Call {
        self.call.argv.append(&mut self.positional);
        self.call
    }
}

enum Found {
    No,
    Fits(Option<String>),
}

fn find(tuple: &Tuple, views: &[Value], host: &Value) -> Found {
    let Some(expression) = &tuple.expression else { return Found::Fits(None) };
    let evaluate = |objects: &[&Value]| {
        let value = expression.evaluate(objects).value;
        let text = value.as_ref().and_then(text);
        let fits = match (&tuple.pattern, &tuple.role) {
            (Some(pattern), _) => text.as_ref().is_some_and(|text| pattern.is_match(text)),
            (None, Role::Match) => value.as_ref().is_some_and(|value| *value != Value::Bool(false)),
            (None, _) => true,
        };
        if fits { Found::Fits(text.filter(|text| is_word(text)).map(Cow::into_owned)) } else { Found::No }
    };
    if views.is_empty() {
        return evaluate(&[host]);
    }
    let found = views.iter().map(|view| evaluate(&[view, host]));
    found.into_iter().find(|found| matches!(found, Found::Fits(_))).unwrap_or(Found::No)
}

/// A value as a word; `None` for an empty list or map.
fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Array(list) if list.is_empty() => None,
        Value::Object(map) if map.is_empty() => None,
        other => Some(Cow::Owned(other.to_string())),
    }
}

/// Fit for a command line and an environment.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 4096 && !text.contains('\0')
}

/// Whether the host has the agent of the rule; what is built in is everywhere.
fn is_available(rule: &MonitorRule, agents: &Value) -> bool {
    let listed = |kind: &str, name: &str| {
        agents[kind].as_array().is_some_and(|names| names.iter().any(|known| known.as_str() == Some(name)))
    };
    match rule.class {
        Class::Tcp | Class::Http | Class::Tls | Class::NeverMon => true,
        Class::Ocf => {
            listed("ocf", &format!("{}/{}", rule.provider.as_deref().unwrap_or_default(), rule.agent))
        }
        Class::Nagios => listed("nagios", &rule.agent),
        Class::Lsb => listed("lsb", &rule.agent),
        Class::Systemd => listed("systemd", &rule.agent),
    }
}

//! The choice for one host: for each process that listens the best monitor, for the host those that fit.
//!
//! In order of precedence:
//! 1. NEVERMON keeps everything else away.
//! 2. Of the rules that fit, the greatest by [`rank`]: `prio` first (`ocf` is high, `systemd` and `lsb` are low), then the
//!    class: ocf, nagios, http, tls, tcp, systemd, lsb; then the rule's file name, the first.
//! 3. `tls` rules with `prio` low are about certificates, another question than whether the service answers: those that
//!    fit come in addition, one for each `type`.
//! 4. When nothing fits, the state of the process's systemd unit, else a connection to its lowest TCP port.
//!
//! A process in a container or in another network namespace is out of reach of agents that run on the host.

use crate::context::{self, Process};
use crate::matching::{Call, Verdict, judge, rank};
use crate::rule::{MonitorRule, Subject, Worth};
use crate::settings::{Resolved, resolve};
use crate::{Choice, Class, Findings, Monitor, Target};
use model::config::MonitoringConfig;
use model::{Designation, DocumentHash};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// More monitors than any real host needs; a nanoprobe has to run them all.
const MAXIMUM_MONITORS: usize = 1000;
/// Digits of the hash in a name.
const HASH_DIGITS: usize = 16;

pub fn choose(
    rules: &BTreeMap<String, MonitorRule>,
    host: &Designation,
    config: &MonitoringConfig,
    findings: Findings<'_>,
) -> Choice {
    let settings = |rule: &MonitorRule| {
        resolve(config, rule.class, &rule.agent, rule.provider.as_deref(), host.as_str())
    };
    let rules: Vec<(&MonitorRule, Resolved)> = rules.values().map(|rule| (rule, settings(rule))).collect();
    let mut choosing = Choosing {
        host,
        config,
        rules: &rules,
        agents: findings.monitoringagents,
        services: findings.services,
        context: context::host(host.as_str(), &findings),
        monitors: BTreeMap::new(),
        unmonitored: Vec::new(),
    };
    if !config.enabled {
        return Choice::default();
    }
    let mut units = BTreeSet::new();
    for (key, entry) in findings.tcpdiscovery.as_object().into_iter().flatten() {
        let Some(process) = Process::new(key, entry) else { continue };
        match choosing.service(&process) {
            Ok(()) => units.extend(process.unit),
            Err(why) => choosing.unmonitored.push((key.clone(), why)),
        }
    }
    choosing.host_monitors(&units);
    Choice { monitors: choosing.monitors.into_values().collect(), unmonitored: choosing.unmonitored }
}

struct Choosing<'a> {
    host: &'a Designation,
    config: &'a MonitoringConfig,
    /// In order of file names, with what the configuration says of each.
    rules: &'a [(&'a MonitorRule, Resolved)],
    agents: &'a Value,
    services: &'a Value,
    context: Value,
    monitors: BTreeMap<String, Monitor>,
    unmonitored: Vec<(String, String)>,
}

/// What is to be run, before names and settings.
struct Chosen<'a> {
    class: Class,
    agent: &'a str,
    provider: Option<&'a str>,
    rule: &'a str,
    call: Call,
    identity: Call,
    settings: Resolved,
}

impl<'a> Choosing<'a> {
    /// `units` have a monitor already: the state of a unit would tell of the same outage once more.
    fn host_monitors(&mut self, units: &BTreeSet<String>) {
        let is_told = |rule: &MonitorRule| {
            rule.class == Class::Systemd && units.contains(&format!("{}.service", rule.agent))
        };
        let rules = self.rules;
        for (rule, settings) in rules {
            if rule.subject != Subject::Host || is_told(rule) {
                continue;
            }
            let verdict = judge(rule, &[], &self.context, self.agents, &settings.env);
            if let Verdict::Fits { call, identity } = verdict
                && settings.is_enabled
            {
                // More than the limit is no real host; the processes then say that they are not looked after.
                let _ = self.add(chosen(rule, call, identity, settings), Target::Host);
            }
        }
    }

    /// Chooses for one process; the error says why nothing looks after it.
    fn service(&mut self, process: &Process) -> Result<(), String> {
        let rules = self.rules;
        let mut fitting = Vec::new();
        let mut missing = Vec::new();
        for (rule, settings) in rules.iter().filter(|(rule, _)| rule.subject == Subject::Service) {
            match judge(rule, process.views(), &self.context, self.agents, &settings.env) {
                Verdict::No => {}
                Verdict::Never => {
                    let never = chosen(rule, Call::default(), Call::default(), settings);
                    return self.add(never, target(process));
                }
                Verdict::Partly(names) => missing.push(format!(
                    "{} fits, but lacks {} (give them under [monitoring.agents.\"{}::{}\".env] in cma.toml)",
                    rule.file,
                    names.join(", "),
                    rule.class.as_str(),
                    rule.agent
                )),
                Verdict::Fits { call, identity } => fitting.push((rule, call, identity, settings)),
            }
        }
        if !process.is_local() {
            let place = match &process.netns {
                Some(name) => format!("network namespace {name}"),
                None => process.proxy.clone(),
            };
            return Err(format!("it runs in {place}, out of reach of what can be run on the host"));
        }
        let (certificates, mut fitting): (Vec<_>, Vec<_>) =
            fitting.into_iter().partition(|(rule, ..)| is_about_certificates(rule));
        // By name within equals, because the rules come in that order and the sort is stable.
        fitting.sort_by_key(|(rule, ..)| std::cmp::Reverse(rank(rule)));
        let best = match fitting.into_iter().next() {
            Some((rule, call, identity, settings)) if settings.is_enabled => {
                self.add(chosen(rule, call, identity, settings), target(process))
            }
            Some((rule, ..)) => Err(switched_off(rule.class, &rule.agent)),
            None => self.fallback(process).map_err(|why| {
                missing.push(why);
                missing.join("; ")
            }),
        };
        for (rule, call, identity, settings) in certificates {
            if settings.is_enabled {
                self.add(chosen(rule, call, identity, settings), target(process))?;
            }
        }
        best
    }

    /// What can be said of any service.
    fn fallback(&mut self, process: &Process) -> Result<(), String> {
        let unit = process.unit.as_deref().unwrap_or_default();
        if let Some(service) = unit.strip_suffix(".service")
            && self.is_known_unit(unit)
        {
            if self.is_on_demand(service) {
                return Err(format!(
                    "systemd starts it when somebody comes ({service}.socket), so it need not run"
                ));
            }
            let settings = resolve(self.config, Class::Systemd, service, None, self.host.as_str());
            let fallback = Chosen {
                class: Class::Systemd,
                agent: service,
                provider: None,
                rule: "fallback:systemd",
                call: Call::default(),
                identity: Call::default(),
                settings,
            };
            return self.add_fallback(fallback, process);
        }
        let is_session =
            unit.starts_with("user@") || (unit.ends_with(".scope") && unit.starts_with("session-"));
        if is_session && process.uid != Some(0) {
            return Err("it belongs to the session of a user; if it is a service, write a monitor rule for it, or start it by a unit".into());
        }
        // A process that is ending has no program any more, but its socket for a moment: what it offered would be missed
        // as a service of nobody.
        if process.pathname.is_empty() {
            return Err("whose socket this is cannot be seen: it belongs to a process that is ending or that this user may not look at; run the nanoprobe as root".into());
        }
        let Some((ip, port)) = process.reached_at() else {
            return Err(if process.tcp.is_empty() {
                "it takes no TCP connections and belongs to no systemd unit, so nothing general can tell whether it works; write a monitor rule for it".into()
            } else {
                "it listens only at TCP ports of the kernel's choice, which are others after the next start, and belongs to no systemd unit; write a monitor rule for it".into()
            });
        };
        let agent: String = process.program().chars().take(60).map(plain).collect();
        let settings = resolve(self.config, Class::Tcp, &agent, None, self.host.as_str());
        let env = BTreeMap::from([("ip".to_owned(), ip.to_string()), ("port".to_owned(), port.to_string())]);
        let call = Call { argv: Vec::new(), env };
        let fallback = Chosen {
            class: Class::Tcp,
            agent: &agent,
            provider: None,
            rule: "fallback:tcp",
            call: call.clone(),
            identity: call,
            settings,
        };
        self.add_fallback(fallback, process)
    }

    fn add_fallback(&mut self, mut fallback: Chosen<'_>, process: &Process) -> Result<(), String> {
        fallback.call.env.extend(fallback.settings.env.clone());
        if !fallback.settings.is_enabled {
            return Err(switched_off(fallback.class, fallback.agent));
        }
        self.add(fallback, target(process))
    }

    /// systemd runs and has a file for the unit or its template; what is made at run time ends with it.
    fn is_known_unit(&self, unit: &str) -> bool {
        if unit.starts_with("user@") {
            return false;
        }
        let Some(services) = self.services.as_object() else { return false };
        let template = unit.split_once('@').map(|(name, _)| format!("{name}@.service"));
        let has = |name: &str| services.get(name).is_some();
        (has(unit) || template.is_some_and(|template| has(&template)))
            && services.values().any(|fields| fields.get("active").is_some())
    }

    /// Its socket is what is there all the time.
    fn is_on_demand(&self, service: &str) -> bool {
        let field = |unit: String, field: &str| {
            self.services.get(&unit).and_then(|unit| unit.get(field)).and_then(Value::as_str)
        };
        field(format!("{service}.socket"), "active") == Some("active")
            && field(format!("{service}.service"), "enabled") != Some("enabled")
    }

    /// A name that is there already is the same monitor: it looks after both.
    fn add(&mut self, chosen: Chosen<'_>, target: Target) -> Result<(), String> {
        let name = name(self.host, &chosen);
        if self.monitors.contains_key(&name) {
            return Ok(());
        }
        if self.monitors.len() >= MAXIMUM_MONITORS {
            return Err(format!("the host has {MAXIMUM_MONITORS} monitors already"));
        }
        let Chosen { class, agent, provider, rule, call, settings, .. } = chosen;
        let monitor = Monitor {
            name: name.clone(),
            class,
            agent: agent.to_owned(),
            provider: provider.map(str::to_owned),
            argv: settings.argv.into_iter().chain(call.argv).collect(),
            env: call.env,
            target,
            rule: rule.to_owned(),
            repeat_seconds: settings.repeat_seconds,
            warn_seconds: settings.warn_seconds,
            timeout_seconds: settings.timeout_seconds,
            failures: settings.failures,
            user: settings.user,
        };
        self.monitors.insert(name, monitor);
        Ok(())
    }
}

fn chosen<'a>(rule: &'a MonitorRule, mut call: Call, identity: Call, settings: &Resolved) -> Chosen<'a> {
    // What the rule has a place for on the command line was put there.
    let on_command_line = |name: &String| {
        rule.tuples.iter().any(|tuple| tuple.role.name() == name) && !call.env.contains_key(name)
    };
    let further: Vec<(String, String)> = settings
        .env
        .iter()
        .filter(|(name, _)| !on_command_line(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    call.env.extend(further);
    Chosen {
        class: rule.class,
        agent: &rule.agent,
        provider: rule.provider.as_deref(),
        rule: &rule.file,
        call,
        identity,
        settings: settings.clone(),
    }
}

fn is_about_certificates(rule: &MonitorRule) -> bool {
    rule.class == Class::Tls && rule.worth == Worth::Low
}

fn switched_off(class: Class, agent: &str) -> String {
    format!("{}::{agent} is switched off by [monitoring] in cma.toml", class.as_str())
}

fn target(process: &Process) -> Target {
    Target::Service {
        process: process.key.clone(),
        pathname: process.pathname.clone(),
        listen: process.listen.clone(),
    }
}

/// What names of agents are made of.
fn plain(character: char) -> char {
    if character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | '@' | '+') {
        character
    } else {
        '_'
    }
}

/// Settings do not enter: a changed password is the same monitor, and nobody can guess it from the name.
fn name(host: &Designation, chosen: &Chosen<'_>) -> String {
    let mut identity = String::new();
    let mut add = |word: &str| {
        identity.push_str(word);
        identity.push('\0');
    };
    let class = chosen.class.as_str();
    [host.as_str(), class, chosen.agent, chosen.provider.unwrap_or_default()].into_iter().for_each(&mut add);
    for (name, value) in &chosen.identity.env {
        add(name);
        add(value);
    }
    add("");
    chosen.identity.argv.iter().for_each(|word| add(word));
    let hash = DocumentHash::of(identity.as_bytes()).to_string();
    let digits = hash.get(..HASH_DIGITS).unwrap_or(&hash);
    format!("{host}:{class}:{}::{digits}", chosen.agent)
}

#[cfg(test)]
#[path = "choose/tests.rs"]
mod tests;

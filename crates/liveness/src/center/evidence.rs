//! Says in words why hosts are given up.

use super::case::Case;
use super::roster::Roster;
use super::{Cause, Reached};
use crate::rings::Place;
use model::liveness::{HostNumber, Observation, PortState, Sight};
use std::collections::BTreeMap;

/// What single witnesses saw, in one verdict.
const MOST_SENTENCES: usize = 8;
/// Hosts named in one sentence.
const MOST_NAMES: usize = 10;

/// Whether a witness saw a sign of the host, though none of its nanoprobe.
pub(super) fn host_answers(observation: &Observation) -> bool {
    observation.port == PortState::Refused || observation.echo == Some(true)
}

pub(super) fn of(
    roster: &Roster,
    cases: &BTreeMap<HostNumber, Case>,
    cause: &Cause,
    hosts: &[HostNumber],
) -> Vec<String> {
    let mut sentences = Vec::new();
    let several = hosts.len() > 1;
    if several {
        let what = if *cause == Cause::CmaCutOff { "do not answer" } else { "fell silent together" };
        sentences.push(format!("{} hosts {what}: {}", hosts.len(), names(roster, hosts)));
    }
    let mut unsaid = 0;
    for host in hosts {
        let Some(case) = cases.get(host) else { continue };
        let whom = if several { roster.name(*host) } else { "it" };
        for (witness, said) in &case.said {
            if sentences.len() < MOST_SENTENCES {
                sentences.push(seen(roster.name(*witness), whom, &said.observation));
            } else {
                unsaid += 1;
            }
        }
    }
    if unsaid > 0 {
        sentences.push(format!("{unsaid} more such observations"));
    }
    if let [host] = hosts
        && let Some(case) = cases.get(host)
    {
        let missing: Vec<HostNumber> = case.outstanding().collect();
        if !missing.is_empty() {
            sentences.push(format!("{} was asked and did not answer", names(roster, &missing)));
        }
    }
    sentences.extend(own(cases, hosts));
    sentences.extend(conclusion(roster, cause, hosts));
    sentences
}

fn seen(witness: &str, whom: &str, observation: &Observation) -> String {
    let seconds = f64::from(observation.silent_milliseconds) / 1000.0;
    let mut sentence = match observation.sight {
        Sight::Stopping => format!("{whom} told {witness} {seconds:.1} s ago that it stops"),
        _ => format!(
            "{witness} heard nothing from {whom} for {seconds:.1} s and got no answer to {} probes",
            observation.probes
        ),
    };
    match observation.port {
        PortState::Refused => sentence.push_str("; the host refuses the port, so the host is there"),
        PortState::Unreachable => sentence.push_str("; there is no way to the host"),
        PortState::Silent => {}
    }
    match observation.echo {
        Some(true) => sentence.push_str("; it says the host answers ping"),
        Some(false) => sentence.push_str("; the host does not answer ping"),
        None => {}
    }
    if observation.doubt > 0 {
        sentence.push_str(&format!("; it trusts its own view less than usual ({} of 8)", observation.doubt));
    }
    sentence
}

fn own(cases: &BTreeMap<HostNumber, Case>, hosts: &[HostNumber]) -> Option<String> {
    let reached = |wanted| {
        hosts.iter().filter(|host| cases.get(host).is_some_and(|case| case.own == Some(wanted))).count()
    };
    let whom = if hosts.len() > 1 { "any of them" } else { "it" };
    if reached(Reached::HostOnly) == hosts.len() {
        Some(match hosts {
            [_] => "the CMA reached the host, but not its nanoprobe".into(),
            _ => "the CMA reached the hosts, but none of their nanoprobes".into(),
        })
    } else if reached(Reached::Nobody) > 0 {
        Some(format!("the CMA could not reach {whom} itself"))
    } else {
        None
    }
}

fn conclusion(roster: &Roster, cause: &Cause, hosts: &[HostNumber]) -> Option<String> {
    match cause {
        Cause::PlaceGone(place) => Some(format!(
            "these are all hosts {}, and hosts elsewhere are heard: either it failed or lost its connection, or they lost power together",
            at(place)
        )),
        Cause::Split => {
            let others = roster.rings.len().saturating_sub(hosts.len());
            Some(format!(
                "none of the {others} hosts on the CMA's side is known to hear them: either these hosts lost power together or the network between is cut"
            ))
        }
        Cause::HostDead | Cause::NanoprobeDied | Cause::CmaCutOff => None,
    }
}

fn at(place: &Place) -> String {
    match place {
        Place::Switch(name) => format!("at switch {name}"),
        Place::Subnet(network, length) => format!("in subnet {network}/{length}"),
        Place::Unknown => "whose place is not known".into(),
    }
}

fn names(roster: &Roster, hosts: &[HostNumber]) -> String {
    let mut text =
        hosts.iter().take(MOST_NAMES).map(|host| roster.name(*host)).collect::<Vec<_>>().join(", ");
    if hosts.len() > MOST_NAMES {
        text.push_str(&format!(" and {} more", hosts.len() - MOST_NAMES));
    }
    text
}

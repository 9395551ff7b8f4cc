//! On which machine a host runs: tells a copy of it from one that was rebooted or moved, and a re-installed one from a
//! stranger.
//!
//! A nanoprobe tells when its process was started and hashed marks of its machine. A process that was replaced by another
//! never comes back, nor does a boot; two that live side by side do, in turn. The same hardware with both marks equal may
//! also be a virtual machine that was set back to a snapshot of its memory, which happens once and not again and again,
//! so there a second return is asked for.
//!
//! Marks are evidence and no proof: whoever has read a machine's identifiers can claim them. Nothing is accepted because
//! of them, only told and refused.

use super::Context;
use super::allowance::{Allowance, Allowed};
use super::events::about_host;
use model::message::{Machine, MachineMark, Register};
use model::{EventType, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;
use store::{HostRow, Result, Transaction};

/// `reason` in events about a host of which there are two.
pub const CLONE: &str = "clone";

/// Copies that are refused are told of so often.
const REFUSALS: Allowance = Allowance { most: 1, within: Duration::from_secs(60) };

/// Hexadecimal digits of a mark that people are shown.
const SHOWN_DIGITS: usize = 8;

/// Marks as text; see [`Machine`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Marks {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

impl Marks {
    pub fn of(machine: Option<Machine>) -> Self {
        let machine = machine.unwrap_or_default();
        let text = |mark: Option<MachineMark>| {
            mark.map(|m| m.0.iter().map(|b| format!("{b:02x}")).collect::<String>())
        };
        Self {
            installation: text(machine.installation),
            hardware: text(machine.hardware),
            boot: text(machine.boot),
        }
    }

    /// How people name the machine: the beginning of its hardware's and of its installation's mark, `-` for none.
    pub fn name(&self) -> String {
        let start = |mark: &Option<String>| {
            mark.as_ref().map_or_else(|| "-".to_owned(), |text| text.chars().take(SHOWN_DIGITS).collect())
        };
        format!("{}.{}", start(&self.hardware), start(&self.installation))
    }

    /// Whether both machines have a hardware mark and it is the same.
    pub fn is_hardware_of(&self, other: &Marks) -> bool {
        self.hardware.is_some() && self.hardware == other.hardware
    }

    /// Another boot keeps these.
    fn is_machine_of(&self, other: &Marks) -> bool {
        self.hardware == other.hardware && self.installation == other.installation
    }
}

/// A nanoprobe as it registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    pub marks: Marks,
    /// Start of its process.
    pub started: Timestamp,
    /// `address:port` it came from.
    pub address: String,
    pub seen: Timestamp,
}

impl Sight {
    /// The same life of the same process.
    fn is_life_of(&self, other: &Sight) -> bool {
        let boots = self.marks.boot.as_ref().zip(other.marks.boot.as_ref());
        self.started == other.started && boots.is_none_or(|(own, others)| own == others)
    }
}

/// Another key was refused under this name, and waits for somebody to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    pub marks: Marks,
    /// Where its nanoprobe can be called.
    pub address: String,
    /// The hardware is the host's.
    pub is_reinstalled: bool,
}

/// What is remembered of a host's machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<Sight>,
    /// The one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former: Option<Sight>,
    /// How often the former one came back.
    pub returns: u32,
    /// Two of them were told of.
    pub is_clone: bool,
    /// The only machine that may use the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Marks>,
    /// The last one that was refused because of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Sight>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<Offer>,
}

impl Standing {
    /// What is kept of a host; of one that is new, or whose entry cannot be read, nothing.
    pub fn of(tx: &mut dyn Transaction, host: &model::Designation) -> Result<Self> {
        Ok(tx.machine(host)?.map(|text| Self::read(&text)).unwrap_or_default())
    }

    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    pub fn keep(&self, tx: &mut dyn Transaction, host: &model::Designation) -> Result<()> {
        tx.set_machine(host, &json!(self).to_string())
    }

    /// The machines that were seen with the key of this host, each once.
    pub fn machines(&self) -> Vec<&Sight> {
        let mut found: Vec<&Sight> = Vec::new();
        for sight in [&self.current, &self.former, &self.refused].into_iter().flatten() {
            if !found.iter().any(|other| other.marks.is_machine_of(&sight.marks)) {
                found.push(sight);
            }
        }
        found
    }

    /// Takes a registration in; returns whether the one before the last has come back.
    fn take(&mut self, sight: Sight) -> Turn {
        let Some(current) = &self.current else {
            self.current = Some(sight);
            return Turn::Same;
        };
        if sight.is_life_of(current) {
            if (&current.marks, &current.address) != (&sight.marks, &sight.address) {
                self.current = Some(sight);
            }
            return Turn::Same;
        }
        let is_back = self.former.as_ref().is_some_and(|former| former.is_life_of(&sight));
        let needed = if current.marks.is_hardware_of(&sight.marks) { 2 } else { 1 };
        self.returns = if is_back { self.returns.saturating_add(1) } else { 0 };
        self.former = self.current.replace(sight);
        if is_back { Turn::Back { is_proven: self.returns >= needed } } else { Turn::Other }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// The same process, or the first ever.
    Same,
    /// A process that was not there before.
    Other,
    Back {
        is_proven: bool,
    },
}

/// A nanoprobe as it is just registering.
pub fn sight(message: &Register, address: &str, now: Timestamp) -> Sight {
    Sight {
        marks: Marks::of(message.machine),
        started: message.started,
        address: address.to_owned(),
        seen: now,
    }
}

/// Why a machine may not use the key of a host, if another was kept: a text for its log. Told as an event, but not each time.
pub fn refusal(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    sight: Sight,
) -> Result<Option<String>> {
    let mut standing = Standing::of(tx, &host.designation)?;
    let Some(kept) = standing.kept.clone().filter(|kept| !kept.is_machine_of(&sight.marks)) else {
        return Ok(None);
    };
    let name = &host.designation;
    let text = format!(
        "this machine ({}) has the key of {name}, which belongs to another machine ({}): remove the files {name}@@* from \
         its crypto.d, give it a name of its own (host name, or --name) and start its nanoprobe again; if {name} moved to \
         this machine, run `assimcli hosts keep {name} --machine {}` on the CMA",
        sight.marks.name(),
        kept.name(),
        sight.marks.name()
    );
    let is_new = standing.refused.as_ref().is_none_or(|refused| !refused.marks.is_machine_of(&sight.marks));
    let allowed = is_new && REFUSALS.take(tx, context.now, &format!("copies of {name}"))? != Allowed::No;
    if allowed {
        standing.refused = Some(sight.clone());
        standing.keep(tx, name)?;
        let extrainfo = json!({
            "reason": CLONE,
            "text": format!("a copy of {name} was refused: {} at {}; {} was kept", sight.marks.name(), sight.address, kept.name()),
            "machines": [shown(&sight)],
            "fix_now": format!("on the machine at {} remove the files {name}@@* from crypto.d, give it a name of its own and \
                start its nanoprobe again; if {name} moved there: assimcli hosts keep {name} --machine {}", sight.address, sight.marks.name()),
        });
        let shown = HostRow { reason: CLONE.into(), ..host.clone() };
        let event = about_host(context, EventType::Warn, &shown, extrainfo);
        context.emit(tx, event)?;
        context.warn(format!("{name}: a copy of it was refused at {}", sight.address));
    }
    Ok(Some(text))
}

/// A host registers. Returns whether it came back in turn with another, so that two of them are alive; told once for each
/// pair. `before` is the start of the process that registered last, for a host that nothing is kept of.
pub fn registered(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    sight: Sight,
    before: Option<(Timestamp, String)>,
) -> Result<bool> {
    let mut standing = Standing::of(tx, &host.designation)?;
    if standing.current.is_none() {
        let sight =
            |(started, address)| Sight { marks: Marks::default(), started, address, seen: host.first_seen };
        standing.current = before.map(sight);
    }
    let old = standing.clone();
    let turn = standing.take(sight);
    let was_told = standing.is_clone;
    match turn {
        Turn::Same => {}
        Turn::Back { is_proven } => {
            standing.is_clone |= is_proven;
            if standing.is_clone && !was_told {
                tell_clone(tx, context, host, &standing)?;
            }
        }
        Turn::Other => {
            standing.is_clone = false;
            if was_told {
                told_over(
                    tx,
                    context,
                    host,
                    &format!("another nanoprobe was started as {}", host.designation),
                )?;
            }
            moved(context, host, &standing);
        }
    }
    if standing != old {
        standing.keep(tx, &host.designation)?;
    }
    Ok(matches!(turn, Turn::Back { .. }))
}

/// Other hardware than before is no alarm: machines are moved and mended. The log says so.
fn moved(context: &mut Context<'_>, host: &HostRow, standing: &Standing) {
    if let (Some(current), Some(former)) = (&standing.current, &standing.former)
        && let (Some(now), Some(before)) = (&current.marks.hardware, &former.marks.hardware)
        && now != before
    {
        let (now, before) = (current.marks.name(), former.marks.name());
        context
            .inform(format!("{} runs on other hardware than before: {now}, not {before}", host.designation));
    }
}

fn tell_clone(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    standing: &Standing,
) -> Result<()> {
    let name = &host.designation;
    let both: Vec<&Sight> = [&standing.current, &standing.former].into_iter().flatten().collect();
    let places: Vec<&str> = both.iter().map(|sight| sight.address.as_str()).collect();
    let text = format!(
        "two nanoprobes register in turn as {name}, with the same key, from {}: a machine was copied with its keys",
        places.join(" and ")
    );
    context.warn(text.clone());
    let on_copy = format!(
        "on the copy remove the files {name}@@* from crypto.d, give it a name of its own (host name, or --name), and start \
         its nanoprobe again"
    );
    let names: Vec<String> = both.iter().map(|sight| sight.marks.name()).collect();
    let can_keep = both.len() == 2 && names[0] != names[1];
    let fix = if can_keep {
        let commands = both.iter().map(|sight| {
            format!("assimcli hosts keep {name} --machine {} (at {})", sight.marks.name(), sight.address)
        });
        format!("keep the right one: {}; {on_copy}", commands.collect::<Vec<_>>().join(" or "))
    } else {
        format!("{on_copy}; the two have the same marks, so the CMA cannot refuse one of them")
    };
    let machines: Vec<Value> = both.into_iter().map(shown).collect();
    let extrainfo = json!({"reason": CLONE, "text": text, "machines": machines, "fix_now": fix});
    let shown = HostRow { reason: CLONE.into(), ..host.clone() };
    let event = about_host(context, EventType::Warn, &shown, extrainfo);
    context.emit(tx, event)
}

/// There is only one of them any more, as far as can be told.
pub fn told_over(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    host: &HostRow,
    text: &str,
) -> Result<()> {
    let shown = HostRow { reason: CLONE.into(), ..host.clone() };
    let extrainfo = json!({"reason": CLONE, "text": text});
    let event = about_host(context, EventType::Unwarn, &shown, extrainfo);
    context.emit(tx, event)
}

/// A machine for events and for the API.
pub fn shown(sight: &Sight) -> Value {
    json!({
        "machine": sight.marks.name(),
        "address": sight.address,
        "started": sight.started,
        "seen": sight.seen,
        "installation": sight.marks.installation,
        "hardware": sight.marks.hardware,
        "boot": sight.marks.boot,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(hardware: Option<&str>, boot: &str, started: i64) -> Sight {
        let marks = Marks {
            installation: Some("aa".repeat(16)),
            hardware: hardware.map(|digit| digit.repeat(32)),
            boot: Some(boot.repeat(32)),
        };
        Sight {
            marks,
            started: Timestamp(started),
            address: format!("192.0.2.{started}:1984"),
            seen: Timestamp(9),
        }
    }

    /// What each registration in turn was taken for.
    fn turns(sights: &[Sight]) -> Vec<Turn> {
        let mut standing = Standing::default();
        sights.iter().map(|sight| standing.take(sight.clone())).collect()
    }

    const PROVEN: Turn = Turn::Back { is_proven: true };
    const NOT_YET: Turn = Turn::Back { is_proven: false };

    #[test]
    fn a_machine_that_is_rebooted_and_moved_is_one() {
        let moved = Sight { address: "198.51.100.1:9".into(), ..sight(Some("1"), "b", 2) };
        let life = [
            sight(Some("1"), "a", 1),
            sight(Some("1"), "b", 2),
            moved.clone(),
            moved,
            sight(Some("2"), "c", 3),
        ];
        assert_eq!(turns(&life), [Turn::Same, Turn::Other, Turn::Same, Turn::Same, Turn::Other]);
    }

    #[test]
    fn two_machines_in_turn_are_told_by_the_first_return() {
        let (one, two) = (sight(Some("1"), "a", 1), sight(Some("2"), "b", 2));
        let life = [one.clone(), two.clone(), one.clone(), two.clone()];
        assert_eq!(turns(&life), [Turn::Same, Turn::Other, PROVEN, PROVEN]);
        let old = |started| Sight { marks: Marks::default(), ..sight(None, "a", started) };
        assert_eq!(turns(&[old(1), old(2), old(1)]), [Turn::Same, Turn::Other, PROVEN]);
        // Copied into containers of one kernel, started in the same microsecond.
        let twin = Sight { started: one.started, ..two };
        assert_eq!(turns(&[one.clone(), twin, one]), [Turn::Same, Turn::Other, PROVEN]);
    }

    #[test]
    fn a_snapshot_of_a_virtual_machine_is_no_copy() {
        let (before, after) = (sight(Some("1"), "a", 1), sight(Some("1"), "b", 2));
        let life = [before.clone(), after.clone(), before.clone(), sight(Some("1"), "c", 3)];
        assert_eq!(turns(&life), [Turn::Same, Turn::Other, NOT_YET, Turn::Other]);
        let life = [before.clone(), after.clone(), before, after];
        assert_eq!(turns(&life), [Turn::Same, Turn::Other, NOT_YET, PROVEN], "two of them after all");
    }

    #[test]
    fn what_is_kept_reads_back_and_rubbish_is_nothing() {
        let mut standing = Standing::default();
        standing.take(sight(Some("1"), "a", 1));
        standing.take(sight(None, "b", 2));
        standing.kept = Some(sight(Some("1"), "a", 1).marks);
        assert_eq!(Standing::read(&json!(standing).to_string()), standing);
        assert_eq!(standing.machines().len(), 2);
        assert_eq!(standing.machines()[0].marks.name(), "-.aaaaaaaa");
        for rubbish in ["", "[]", "{\"current\": 7}"] {
            assert_eq!(Standing::read(rubbish), Standing::default());
        }
    }
}

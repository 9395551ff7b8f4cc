//! Which keys of the CMA a host trusts, and the age of the key in use, as events.

use super::events::{about_host, about_system};
use super::verdict::{CMA_NAME, system};
use super::{Context, Sender};
use model::message::{self, CmaKey, CmaKeys};
use model::{DocumentHash, EventType, PublicKey, Timestamp};
use serde_json::json;
use store::{HostKeysRow, Result, Transaction};

/// `reason` in events about a host that does not trust the keys it is to trust.
pub const KEYS_REFUSED: &str = "keys refused";
/// `reason` in events about the key in use: it is to be rotated soon.
pub const KEY_EXPIRES: &str = "key expires";
/// The same: it should have been.
pub const KEY_OLD: &str = "key old";

/// Keys that a host may say it trusts; the rest is not looked at.
const MAX_TOLD: usize = 64;
/// The setting that says since when the key in use is, and what was told about its age.
const IN_USE: &str = "CMA key in use";
const SECONDS_A_DAY: u64 = 86_400;

/// What a host says that it trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `None`: its nanoprobe cannot tell.
    pub trusted: Option<CmaKeys>,
    /// What it is to trust.
    pub wanted: CmaKeys,
    /// It says so in answer to being told what it is to trust.
    pub is_answer: bool,
}

/// Names a list of keys.
pub fn hash_of(keys: &CmaKeys) -> DocumentHash {
    DocumentHash::of(&message::encode(keys))
}

/// What a host said, as it can be compared: by number, each key once, no more than any has, and nothing but the keys.
pub fn in_order(mut told: CmaKeys) -> CmaKeys {
    told.keys.truncate(MAX_TOLD);
    told.keys.sort_unstable_by_key(|key| (key.number, key.key));
    told.keys.dedup();
    CmaKeys::unsigned(told.keys)
}

/// Keeps what a host trusts, and tells people when it does not take the list that it was sent.
pub fn told(tx: &mut dyn Transaction, context: &mut Context<'_>, sender: &Sender, told: &Told) -> Result<()> {
    let Some(host) = tx.host(&sender.designation)?.filter(|host| host.key == sender.key) else {
        return Ok(());
    };
    let before = tx.host_keys(&host.designation)?;
    let wanted = hash_of(&told.wanted);
    let is_same = told.trusted.as_ref() == Some(&told.wanted);
    let answered = match &before {
        _ if told.is_answer => Some(wanted),
        Some(before) if before.trusted == told.trusted => before.answered,
        _ => None,
    };
    let refuses = !is_same && told.trusted.is_some() && answered == Some(wanted);
    let was_warned = before.as_ref().is_some_and(|before| before.is_warned);
    let is_news = refuses
        && !(was_warned
            && before.is_some_and(|before| (before.answered, &before.trusted) == (answered, &told.trusted)));
    tx.put_host_keys(&HostKeysRow {
        designation: host.designation.clone(),
        trusted: told.trusted.clone(),
        answered,
        is_warned: refuses || (was_warned && !is_same),
        since: context.now,
    })?;
    if is_news {
        let trusted = told.trusted.clone().unwrap_or_default();
        let (lacks, has) = (names(&missing(&told.wanted, &trusted)), names(&missing(&trusted, &told.wanted)));
        let text = format!(
            "{} does not trust the keys of this CMA as it should: lacks {}; trusts also {}. Its log says why; a key that \
             nobody here made is a sign that the key in use was stolen",
            host.designation,
            or_nothing(&lacks),
            or_nothing(&has),
        );
        context.warn(text.clone());
        let extrainfo = json!({
            "reason": KEYS_REFUSED, "lacks": lacks, "trusts_also": has, "text": text,
            "fix_now": "assimcli keys hosts",
        });
        let event = about_host(context, EventType::Warn, &host, extrainfo);
        context.emit(tx, event)?;
    }
    if was_warned && is_same {
        let text = format!("{} trusts the keys of this CMA as it should", host.designation);
        context.inform(text.clone());
        let extrainfo = json!({"reason": KEYS_REFUSED, "text": text});
        let event = about_host(context, EventType::Unwarn, &host, extrainfo);
        context.emit(tx, event)?;
    }
    Ok(())
}

/// The keys of `all` that are not in `some`.
pub fn missing(all: &CmaKeys, some: &CmaKeys) -> Vec<CmaKey> {
    all.keys.iter().filter(|key| !some.keys.contains(key)).copied().collect()
}

fn names(keys: &[CmaKey]) -> Vec<String> {
    let name = |key: &CmaKey| format!("#CMA#{:05} ({})", key.number, PublicKey(key.key).fingerprint());
    keys.iter().map(name).collect()
}

fn or_nothing(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// How old the key in use is, and what that means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    Fine,
    /// Within a tenth of the time that it may be used, at most 30 days, it is to be rotated.
    Expires,
    Old,
}

impl Age {
    /// `rotate_after_days` = 0: a key never grows old. A clock that was set back makes none older.
    pub fn of(in_use_since: Timestamp, now: Timestamp, rotate_after_days: u32) -> Self {
        let used = now.since(in_use_since).as_secs() / SECONDS_A_DAY;
        let limit = u64::from(rotate_after_days);
        match limit {
            0 => Self::Fine,
            _ if used >= limit => Self::Old,
            _ if used + (limit / 10).min(30) >= limit => Self::Expires,
            _ => Self::Fine,
        }
    }

    fn reason(self) -> Option<&'static str> {
        match self {
            Self::Fine => None,
            Self::Expires => Some(KEY_EXPIRES),
            Self::Old => Some(KEY_OLD),
        }
    }
}

/// The key that the CMA signs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    pub number: u32,
    pub key: PublicKey,
    /// Its files are of that time.
    pub made: Option<Timestamp>,
}

/// Since when this key is in use, and what people are told of its age. A key that was not in use before is, since its files
/// were made or since now, whichever is right for the first and for any other.
pub fn age(
    tx: &mut dyn Transaction,
    context: &mut Context<'_>,
    in_use: &InUse,
    rotate_after_days: u32,
) -> Result<Timestamp> {
    let fingerprint = in_use.key.fingerprint();
    let kept = tx.setting(IN_USE)?.unwrap_or_default();
    let mut words = kept.split(' ');
    let known = words.next().filter(|known| !known.is_empty());
    let is_same = known == Some(fingerprint.as_str());
    let since = words.next().and_then(|text| text.parse().ok()).map(Timestamp).filter(|_| is_same);
    let told = words.next().unwrap_or("").replace('_', " ");
    let since = since.unwrap_or_else(|| {
        // A first key was made to be used; one that follows another was a spare until now.
        let made = in_use.made.filter(|made| known.is_none() && *made < context.now);
        made.unwrap_or(context.now)
    });
    let age = Age::of(since, context.now, rotate_after_days);
    let reason = age.reason().unwrap_or("");
    let line = format!("{fingerprint} {} {}", since.0, reason.replace(' ', "_"));
    if line != kept {
        tx.set_setting(IN_USE, &line)?;
    }
    if reason == told {
        return Ok(since);
    }
    if !told.is_empty() {
        let text = if is_same { "the key in use is not too old" } else { "the old key was rotated" };
        let extrainfo = json!({"reason": told, "text": text});
        let object = system(CMA_NAME, "up", &told, "");
        let event = about_system(context, EventType::Unwarn, object, extrainfo);
        context.emit(tx, event)?;
    }
    if !reason.is_empty() {
        let days = context.now.since(since).as_secs() / SECONDS_A_DAY;
        let text = format!(
            "#CMA#{:05} is in use for {days} days; [keys] rotate_after_days in cma.toml is {rotate_after_days}",
            in_use.number
        );
        context.warn(text.clone());
        let extrainfo = json!({
            "reason": reason, "text": text, "key": format!("#CMA#{:05}", in_use.number), "days": days,
            "fix_now": "assimcli keys rotate",
        });
        let event = about_system(context, EventType::Warn, system(CMA_NAME, "up", reason, ""), extrainfo);
        context.emit(tx, event)?;
    }
    Ok(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::message::Signature;

    #[test]
    fn a_key_expires_before_it_is_old() {
        let day = |days: i64| Timestamp(days * SECONDS_A_DAY as i64 * 1_000_000);
        let after = |days: i64| Age::of(day(100), day(100 + days), 730);
        assert_eq!(
            [after(-50), after(0), after(699), after(700), after(729), after(730), after(9000)],
            [Age::Fine, Age::Fine, Age::Fine, Age::Expires, Age::Expires, Age::Old, Age::Old]
        );
        assert_eq!(Age::of(day(0), day(9), 10), Age::Expires, "a tenth of the time");
        assert_eq!(Age::of(day(0), day(8), 10), Age::Fine);
        assert_eq!(Age::of(day(0), day(90_000), 0), Age::Fine, "never");
    }

    #[test]
    fn what_hosts_say_can_be_compared() {
        let key = |number: u32| CmaKey { number, key: [number as u8; 32] };
        let mut told = CmaKeys::unsigned((0..100).rev().map(key).chain([key(99)]).collect());
        told.signature = Some(Box::new(Signature([1; 64])));
        let told = in_order(told);
        assert_eq!((told.keys.len(), told.signature), (MAX_TOLD, None));
        assert!(told.keys.is_sorted_by_key(|key| key.number));
        let [one, two] =
            [&[1, 2][..], &[2, 3]].map(|n| CmaKeys::unsigned(n.iter().map(|n| key(*n)).collect()));
        assert_eq!((missing(&one, &two), missing(&two, &one)), (vec![key(1)], vec![key(3)]));
    }
}

//! How many events of a kind are told within a time: a switch that renumbers its ports, or a forger on the wire, shall not
//! bury what matters. What is not told is in the graph and its history all the same.

use model::Timestamp;
use std::time::Duration;
use store::{Result, Transaction};

/// Whether one more may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    Yes,
    /// It is the last within this time, and should say so.
    Last,
    No,
}

/// What is allowed within `within` from the first.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    pub most: u32,
    pub within: Duration,
}

impl Allowance {
    /// Takes one from what `name` has left.
    pub fn take(self, tx: &mut dyn Transaction, now: Timestamp, name: &str) -> Result<Allowed> {
        let setting = format!("told of {name}");
        let kept = tx.setting(&setting)?.unwrap_or_default();
        let (since, told) = read(&kept)
            .filter(|(since, _)| *since <= now && now.since(*since) < self.within)
            .unwrap_or((now, 0));
        if told >= self.most {
            return Ok(Allowed::No);
        }
        tx.set_setting(&setting, &format!("{} {}", since.0, told + 1))?;
        Ok(if told + 1 == self.most { Allowed::Last } else { Allowed::Yes })
    }
}

fn read(kept: &str) -> Option<(Timestamp, u32)> {
    let (since, told) = kept.split_once(' ')?;
    Some((Timestamp(since.parse().ok()?), told.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Store;

    #[test]
    fn so_many_are_told_and_more_later() {
        let mut store = store::sqlite::SqliteStore::open(std::path::Path::new(":memory:")).unwrap();
        let mut tx = store.begin().unwrap();
        let allowance = Allowance { most: 2, within: Duration::from_secs(60) };
        let mut take = |seconds: i64, name: &str| {
            allowance.take(tx.as_mut(), Timestamp(1_000_000 * seconds), name).unwrap()
        };
        use Allowed::{Last, No, Yes};
        assert_eq!([take(100, "a"), take(130, "a"), take(159, "a")], [Yes, Last, No]);
        assert_eq!(take(159, "b"), Yes, "each has its own");
        assert_eq!([take(160, "a"), take(161, "a"), take(162, "a")], [Yes, Last, No]);
        assert_eq!(take(50, "a"), Yes, "the clock was set back");
    }
}

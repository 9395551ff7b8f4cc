//! Who says what of a node: its properties are what its present claimants say together.
//!
//! Properties that repeat the key ([`by_key`]) are true as long as the node is there and nobody's claim. Of the rest most
//! nodes have one claimant, whose number is on the node and whose claim its properties are; only where several speak of one
//! node each claim is a row. docs/decisions/0009-claims.md tells what that costs and why.

use super::transaction::SqliteTransaction;
use crate::{Result, StoreError};
use model::Timestamp;
use model::graph::NodeKind;
use serde_json::{Map, Value};

/// `node.claimed` when nobody says more than the key, and when several do.
const NOBODY: i64 = 0;
const SEVERAL: i64 = -1;

/// Properties of nodes of a kind that only say what is in the key.
fn by_key(kind: &str) -> &'static [&'static str] {
    const KINDS: &[(NodeKind, &[&str])] = &[
        (NodeKind::ChildSystem, &["id", "kind"]),
        (NodeKind::NicNode, &["ifname"]),
        (NodeKind::LinkAddress, &["macaddr"]),
        (NodeKind::IpaddrNode, &["ipaddr"]),
        (NodeKind::IpTcpPortNode, &["ipaddr", "port", "protocol"]),
        (NodeKind::Package, &["arch", "name", "type", "version"]),
    ];
    KINDS.iter().find(|(known, _)| known.as_str() == kind).map_or(&[], |(_, names)| names)
}

/// (host, instance) in the act of saying all that it says.
pub struct Claimant<'t, 'c> {
    pub transaction: &'t SqliteTransaction<'c>,
    /// Number of the host.
    pub host: i64,
    pub instance: &'t str,
    /// Found when it is needed: most documents say nothing that needs it.
    number: Option<i64>,
    pub now: Timestamp,
}

/// A node as it is stored.
struct Stored {
    id: i64,
    kind: String,
    properties: Map<String, Value>,
    text: String,
    changed: i64,
    claimed: i64,
}

impl<'t, 'c> Claimant<'t, 'c> {
    pub fn new(
        transaction: &'t SqliteTransaction<'c>,
        host: i64,
        instance: &'t str,
        now: Timestamp,
    ) -> Result<Self> {
        let number = transaction.one(
            "SELECT id FROM claimant WHERE host = ?1 AND instance = ?2",
            (host, instance),
            |row| row.get(0),
        )?;
        Ok(Self { transaction, host, instance, number, now })
    }

    /// Makes `properties` all that the claimant says of the node; returns the number of the node, which is made if there
    /// is none.
    pub fn put(&mut self, kind: NodeKind, key: &str, properties: &Map<String, Value>) -> Result<i64> {
        let is_claim = properties.keys().any(|name| !by_key(kind.as_str()).contains(&name.as_str()));
        let known = self.transaction.one(
            "SELECT id, properties, changed, claimed FROM node WHERE kind = ?1 AND key = ?2",
            (kind.as_str(), key),
            |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get::<_, i64>(3)?)),
        )?;
        let Some((id, text, changed, claimed)) = known else {
            let claimed = if is_claim { self.number()? } else { NOBODY };
            self.transaction.run(
                "INSERT INTO node(kind, key, properties, changed, claimed) VALUES (?1, ?2, ?3, ?4, ?5)",
                (kind.as_str(), key, object_text(properties), self.now.0, claimed),
            )?;
            return Ok(self.transaction.connection.last_insert_rowid());
        };
        // Nearly always what is said is what was said: then nothing has to be taken apart.
        let is_mine = if is_claim { Some(claimed) == self.number } else { claimed == NOBODY };
        if is_mine && text == object_text(properties) {
            return Ok(id);
        }
        let stored = Stored::new(id, kind.as_str().to_owned(), text, changed, claimed)?;
        self.say(stored, properties, is_claim)?;
        Ok(id)
    }

    /// Takes back what the claimant said of a node that it no longer speaks of. No such node is no error.
    pub fn withdraw(&mut self, id: i64) -> Result<()> {
        let Some(number) = self.number else { return Ok(()) };
        let known = self.transaction.one(
            "SELECT kind, properties, changed, claimed FROM node WHERE id = ?1 AND claimed IN (?2, ?3)",
            (id, number, SEVERAL),
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        let Some((kind, text, changed, claimed)) = known else { return Ok(()) };
        self.say(Stored::new(id, kind, text, changed, claimed)?, &Map::new(), false)
    }

    /// The claimant no longer says anything: its number is not needed any more.
    pub fn leave(self) -> Result<()> {
        if let Some(number) = self.number {
            self.transaction.run("DELETE FROM claimant WHERE id = ?1", [number])?;
        }
        Ok(())
    }

    fn say(&mut self, stored: Stored, said: &Map<String, Value>, is_claim: bool) -> Result<()> {
        let (mut properties, former) = stored.parted(&stored.properties);
        let (of_key, own) = stored.parted(said);
        let says_news_of_key = of_key.iter().any(|(name, value)| properties.get(name) != Some(value));
        properties.extend(of_key);
        let mut changed = self.now.0;
        let mut claimed = stored.claimed;
        if claimed == NOBODY && is_claim {
            claimed = self.number()?;
        }
        if claimed != NOBODY && claimed != SEVERAL && Some(claimed) != self.number {
            if !is_claim {
                // Of what somebody else says it says nothing.
                properties.extend(former);
                return self.write(&stored, properties, stored.changed, claimed);
            }
            self.put_claim(stored.id, claimed, stored.changed, &former)?;
            claimed = SEVERAL;
        }
        if claimed == SEVERAL {
            let is_new = if is_claim {
                let number = self.number()?;
                self.put_claim(stored.id, number, self.now.0, &own)?
            } else {
                self.take_claim(stored.id)?
            };
            if !is_new && !says_news_of_key {
                return Ok(());
            }
            let all = self.claims(stored.id)?;
            if all.is_empty() {
                claimed = NOBODY;
            }
            for claim in all {
                properties.extend(claim);
            }
        } else if is_claim {
            properties.extend(own);
        } else {
            claimed = NOBODY;
        }
        if object_text(&properties) == stored.text {
            changed = stored.changed;
        }
        self.write(&stored, properties, changed, claimed)
    }

    fn write(
        &self,
        stored: &Stored,
        properties: Map<String, Value>,
        changed: i64,
        claimed: i64,
    ) -> Result<()> {
        let text = object_text(&properties);
        if text != stored.text || claimed != stored.claimed || changed != stored.changed {
            self.transaction.run(
                "UPDATE node SET properties = ?2, changed = ?3, claimed = ?4 WHERE id = ?1",
                (stored.id, text, changed, claimed),
            )?;
        }
        Ok(())
    }

    /// A claim keeps its time as long as it says the same. `true` when it did not.
    fn put_claim(
        &self,
        node: i64,
        claimant: i64,
        since: i64,
        properties: &Map<String, Value>,
    ) -> Result<bool> {
        let changed = self.transaction.run(
            "INSERT INTO claim(node, claimant, since, properties) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT(node, claimant) DO UPDATE SET since = excluded.since, properties = excluded.properties
             WHERE properties <> excluded.properties",
            (node, claimant, since, object_text(properties)),
        )?;
        Ok(changed > 0)
    }

    /// `true` when there was one.
    fn take_claim(&self, node: i64) -> Result<bool> {
        let Some(number) = self.number else { return Ok(false) };
        let taken =
            self.transaction.run("DELETE FROM claim WHERE node = ?1 AND claimant = ?2", (node, number))?;
        Ok(taken > 0)
    }

    /// What all say of a node, the newest last; of equal times the order is that of the names.
    fn claims(&self, node: i64) -> Result<Vec<Map<String, Value>>> {
        let texts = self.transaction.all(
            "SELECT c.properties FROM claim c JOIN claimant t ON t.id = c.claimant JOIN host_name n ON n.id = t.host
             WHERE c.node = ?1 ORDER BY c.since, n.designation, t.instance",
            [node],
            |row| row.get::<_, String>(0),
        )?;
        texts.iter().map(|text| object(text)).collect()
    }

    fn number(&mut self) -> Result<i64> {
        if let Some(number) = self.number {
            return Ok(number);
        }
        self.transaction
            .run("INSERT INTO claimant(host, instance) VALUES (?1, ?2)", (self.host, self.instance))?;
        let number = self.transaction.connection.last_insert_rowid();
        self.number = Some(number);
        Ok(number)
    }
}

impl Stored {
    fn new(id: i64, kind: String, text: String, changed: i64, claimed: i64) -> Result<Self> {
        Ok(Self { id, kind, properties: object(&text)?, text, changed, claimed })
    }

    /// `properties` as those of the key and the rest.
    fn parted(&self, properties: &Map<String, Value>) -> (Map<String, Value>, Map<String, Value>) {
        let of_key = by_key(&self.kind);
        properties.clone().into_iter().partition(|(name, _)| of_key.contains(&name.as_str()))
    }
}

/// Removes the nodes of `candidates` that no edge touches any more, with what was said of them. Hosts stay.
pub fn remove_orphans<'i>(
    transaction: &SqliteTransaction<'_>,
    candidates: impl IntoIterator<Item = &'i i64>,
) -> Result<()> {
    for id in candidates {
        let orphan = transaction.one(
            "SELECT 1 FROM node WHERE id = ?1 AND kind <> 'Drone'
             AND NOT EXISTS (SELECT 1 FROM edge WHERE target = ?1) AND NOT EXISTS (SELECT 1 FROM edge WHERE source = ?1)",
            [id],
            |_| Ok(()),
        )?;
        if orphan.is_some() {
            remove(transaction, *id)?;
        }
    }
    Ok(())
}

/// Removes a node that no edge touches, with what was said of it.
pub fn remove(transaction: &SqliteTransaction<'_>, id: i64) -> Result<()> {
    transaction.run("DELETE FROM claim WHERE node = ?1", [id])?;
    transaction.run("DELETE FROM node WHERE id = ?1", [id])?;
    Ok(())
}

/// Those of `ids` of which somebody says more than their key does.
pub fn claimed_of(transaction: &SqliteTransaction<'_>, ids: impl Iterator<Item = i64>) -> Result<Vec<i64>> {
    let mut claimed = Vec::new();
    for id in ids {
        let known =
            transaction.one("SELECT claimed FROM node WHERE id = ?1", [id], |row| row.get::<_, i64>(0))?;
        if known.is_some_and(|known| known != NOBODY) {
            claimed.push(id);
        }
    }
    Ok(claimed)
}

fn object(text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt(format!("properties of a node: {e}")))
}

fn object_text(properties: &Map<String, Value>) -> String {
    // Maps keyed by text always serialise; sorted keys make equal objects equal texts.
    serde_json::to_string(properties).unwrap_or_else(|_| "{}".into())
}

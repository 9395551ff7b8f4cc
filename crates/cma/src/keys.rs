//! The CMA's own keys: which is in use, which hosts are to trust, which host trusts which, and a key that changes while the
//! CMA runs. `distribute` takes them to the hosts.
//!
//! A CMA signs with the lowest-numbered secret in the key directory that is not retired; hosts are to trust that key and all with a higher number.
//! What a host trusts it says when it registers; where that differs it is told, and says so again once it is on its disk. So
//! nothing is lost whoever is killed when: the next registration begins with what the host really trusts. Each list is signed for the
//! host that it goes to: there it passes through a process that is not to be believed.

mod distribute;

use crate::commit::{Done, Work, Writer};
use crate::health::Health;
use crate::hosts::Hosts;
use crate::ingest::Sender;
use crate::ingest::keys::{Age, InUse, Told, hash_of, in_order};
use crate::knowledge::SharedKnowledge;
use crate::readers::Readers;
use model::message::{CmaKey, CmaKeys, FromCma};
use model::{Designation, DocumentHash, PublicKey, Timestamp};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use store::{HostKeysRow, HostRow};
use tokio::sync::{Notify, watch};
use wire::endpoint::{Endpoint, EndpointError};
use wire::keys::{KeyDirectory, KeyError, KeyId, KeyPair, Standing, signed};

/// How often the age of the key and the state of the hosts are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);
/// The same while no host has registered since the start.
const ALONE_INTERVAL: Duration = Duration::from_secs(15);
/// From the first news of hosts to a look at all of them.
const NEWS_PAUSE: Duration = Duration::from_secs(1);
/// Handshakes that others broke off, from which on hosts may no longer trust our key.
const SHUNNED_AFTER: u64 = 3;
/// How long a look may wait for its commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);

/// What is known of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// As it said last; `None`: its nanoprobe cannot tell.
    pub trusted: Option<CmaKeys>,
    /// Hash of the list that it was told when it said so.
    answered: Option<DocumentHash>,
}

/// What came of reading the key directory again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    pub in_use: u32,
    /// Another key is in use than before.
    pub is_switched: bool,
    /// Hosts are to trust another list than before.
    pub is_changed: bool,
}

/// Why the keys stay as they were.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

/// The keys at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    pub in_use: u32,
    pub key: PublicKey,
    /// What hosts are to trust.
    pub wanted: CmaKeys,
    /// Since when the key is in use, once that was looked up.
    pub since: Option<Timestamp>,
}

struct State {
    now: Now,
    /// Of the key in use: signs what hosts are to trust.
    pair: KeyPair,
    hash: DocumentHash,
    hosts: HashMap<Designation, Known>,
    /// A host registered since the start.
    is_anybody_here: bool,
}

/// The one place that knows all of this.
pub struct Keyring {
    directory: KeyDirectory,
    endpoint: Endpoint,
    hosts: Arc<Hosts>,
    health: Arc<Health>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// A host said something new.
    news: Notify,
}

impl Keyring {
    /// Reads the directory. `rows`: what hosts said before this start.
    pub fn new(
        directory: KeyDirectory,
        endpoint: Endpoint,
        hosts: Arc<Hosts>,
        health: Arc<Health>,
        rows: Vec<HostKeysRow>,
    ) -> Result<Arc<Self>, ReloadError> {
        let (now, pair) = read(&directory)?;
        let known =
            |row: HostKeysRow| (row.designation, Known { trusted: row.trusted, answered: row.answered });
        let hosts_known = rows.into_iter().map(known).collect();
        let state =
            State { hash: hash_of(&now.wanted), now, pair, hosts: hosts_known, is_anybody_here: false };
        let changed = watch::Sender::new(());
        Ok(Arc::new(Self {
            directory,
            endpoint,
            hosts,
            health,
            state: Mutex::new(state),
            changed,
            news: Notify::new(),
        }))
    }

    /// What is in use and wanted.
    pub fn now(&self) -> Now {
        self.lock().now.clone()
    }

    /// The files, for those who show them.
    pub fn standing(&self) -> Result<Standing, KeyError> {
        self.directory.cma_standing()
    }

    /// Whether the directory could be read again now.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), KeyError> {
        read(&self.directory).map(|_| ())
    }

    /// When the files of a key were made.
    pub fn made(&self, number: u32) -> Option<Timestamp> {
        let seconds = self.directory.made_at(number)?;
        Some(Timestamp(seconds.checked_mul(1_000_000)?))
    }

    /// What a host trusts, as far as is known; `None` when it never said.
    pub fn known(&self, host: &Designation) -> Option<Known> {
        self.lock().hosts.get(host).cloned()
    }

    /// Whether connections made with this key of ours are still to be served.
    pub fn is_in_use(&self, own: &PublicKey) -> bool {
        self.lock().now.key == *own
    }

    /// What the host with this key, which says that it trusts these keys, is to be told.
    pub fn offer(&self, host: &PublicKey, trusted: Option<&CmaKeys>) -> Option<FromCma> {
        let trusts_otherwise = trusted?.keys != self.lock().now.wanted.keys;
        trusts_otherwise.then(|| self.list_for(host))
    }

    /// A message as it goes to the host with this key: of CMA keys the present list, signed for it.
    pub fn addressed(&self, host: &PublicKey, message: FromCma) -> FromCma {
        match message {
            FromCma::Keys(_) => self.list_for(host),
            message => message,
        }
    }

    /// A host said what it trusts; the work to keep that, if it is news.
    pub fn heard(&self, sender: &Sender, trusted: Option<CmaKeys>, is_answer: bool) -> Option<Work> {
        let trusted = trusted.map(in_order);
        let mut state = self.lock();
        state.is_anybody_here = true;
        let known = state.hosts.get(&sender.designation);
        let answered = match known {
            _ if is_answer => Some(state.hash),
            Some(known) if known.trusted == trusted => known.answered,
            _ => None,
        };
        let new = Known { trusted: trusted.clone(), answered };
        if known == Some(&new) {
            return None;
        }
        state.hosts.insert(sender.designation.clone(), new);
        self.news.notify_one();
        let told = Told { trusted, wanted: state.now.wanted.clone(), is_answer };
        Some(Work::HostKeys { sender: sender.clone(), told })
    }

    /// Reads the key directory again, and does what follows: connections are made with the key that is now in use, those made
    /// with another end, hosts are told what to trust.
    ///
    /// # Errors
    /// Everything is as before then.
    pub fn reload(&self) -> Result<Reloaded, ReloadError> {
        let (mut now, pair) = read(&self.directory)?;
        let before = self.now();
        let is_switched = now.key != before.key;
        let is_changed = now.wanted != before.wanted;
        if is_switched {
            self.endpoint.identify(&pair)?;
            let key = KeyId::cma(now.in_use).map(|id| id.to_string());
            tracing::info!(key, fingerprint = %pair.public().fingerprint(), "another key is in use");
        } else {
            now.since = before.since;
        }
        let reloaded = Reloaded { in_use: now.in_use, is_switched, is_changed };
        {
            let mut state = self.lock();
            state.hash = hash_of(&now.wanted);
            state.now = now;
            state.pair = pair;
        }
        if is_switched {
            // What is said on a connection counts as said by the key that it was made with.
            self.hosts.disconnect_all();
        } else if is_changed {
            self.tell_connected();
        }
        if is_switched || is_changed {
            self.changed.send_replace(());
        }
        self.look();
        Ok(reloaded)
    }

    /// Hosts that are up and not connected, and neither trust what they should nor have answered to being told.
    pub fn due(&self, rows: &[HostRow]) -> Vec<(Designation, SocketAddr, PublicKey)> {
        let state = self.lock();
        let lacks = |host: &Designation| {
            state.hosts.get(host).is_some_and(|known| {
                known.trusted.as_ref().is_some_and(|trusted| *trusted != state.now.wanted)
                    && known.answered != Some(state.hash)
            })
        };
        let due = rows.iter().filter(|row| row.status == "up" && lacks(&row.designation));
        let due = due.filter(|row| !self.hosts.is_connected(&row.designation));
        due.filter_map(|row| {
            let address: SocketAddr = row.address.parse().ok()?;
            let is_callable = address.port() != 0 && !address.ip().is_unspecified();
            is_callable.then(|| (row.designation.clone(), address, row.key))
        })
        .collect()
    }

    /// Works until the CMA stops: calls hosts that lack keys, and looks at the age of the key in use.
    pub async fn run(
        self: Arc<Self>,
        writer: Writer,
        readers: Arc<Readers>,
        knowledge: SharedKnowledge,
        mut stop: watch::Receiver<bool>,
    ) {
        let calling = distribute::run(self.clone(), self.endpoint.clone(), readers.clone());
        tokio::select! {
            () = calling => {}
            () = self.watch(&writer, &readers, &knowledge) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn watch(&self, writer: &Writer, readers: &Arc<Readers>, knowledge: &SharedKnowledge) {
        let mut changed = self.changed.subscribe();
        loop {
            let rotate_after_days = knowledge.get().config.keys.rotate_after_days;
            self.look_at_age(writer, rotate_after_days).await;
            self.look();
            self.look_at_hosts(readers).await;
            let pause = if self.lock().is_anybody_here { LOOK_INTERVAL } else { ALONE_INTERVAL };
            tokio::select! {
                _ = changed.changed() => {}
                // Many hosts say it at once.
                () = self.news.notified() => tokio::time::sleep(NEWS_PAUSE).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn look_at_age(&self, writer: &Writer, rotate_after_days: u32) {
        let now = self.now();
        let in_use = InUse { number: now.in_use, key: now.key, made: self.made(now.in_use) };
        let work = Work::KeyAge { in_use, rotate_after_days };
        let Ok(Done::KeyAge(since)) = writer.ask(work, COMMIT_TIMEOUT).await else { return };
        let mut state = self.lock();
        if state.now.key == now.key {
            state.now.since = Some(since);
        }
        drop(state);
        let problem = match Age::of(since, Timestamp::now(), rotate_after_days) {
            Age::Fine => None,
            Age::Expires | Age::Old => Some(format!(
                "the key #CMA#{:05} is in use since {}, and [keys] rotate_after_days is {rotate_after_days}: run `assimcli keys rotate`",
                now.in_use,
                since.to_local_text(),
            )),
        };
        self.health.set("key age", problem);
    }

    /// What is wrong with the files goes to `doctor`.
    fn look(&self) {
        let problem = match self.standing() {
            Ok(standing) => problem(&standing),
            Err(error) => Some(error.to_string()),
        };
        let problem = problem.map(|problem| format!("{problem} ({})", self.directory.path().display()));
        self.health.set("keys", problem);
    }

    /// What is wrong with the hosts' keys goes to `doctor`.
    async fn look_at_hosts(&self, readers: &Arc<Readers>) {
        let Ok(rows) = readers.read(|reader| reader.hosts()).await else { return };
        let now = self.now();
        let refused = self.endpoint.stats().failed_handshakes;
        let is_shunned = !self.lock().is_anybody_here && !rows.is_empty() && refused >= SHUNNED_AFTER;
        let problem = is_shunned.then(|| {
            format!(
                "{refused} handshakes were broken off, and no host has registered since the start: if this CMA was restored from a \
                 backup that is older than the last rotation, hosts do not trust #CMA#{:05} any more; bring the secret of its \
                 successor back (docs/keys.md)",
                now.in_use
            )
        });
        self.health.set("retired key", problem);
        let Some(spare) = now.wanted.keys.get(1) else {
            return self.health.set("keys of hosts", None);
        };
        let lacks = |row: &&HostRow| {
            let trusted = self.known(&row.designation).and_then(|known| known.trusted);
            !trusted.is_some_and(|trusted| trusted.keys.contains(spare))
        };
        let lacking = rows.iter().filter(|row| row.status == "up").filter(lacks).count();
        let problem = (lacking > 0).then(|| {
            format!(
                "{lacking} of {} hosts are not known to trust the spare key #CMA#{:05}: a rotation would lose them; \
                 `assimcli keys hosts --lacking {}` lists them",
                rows.len(),
                spare.number,
                spare.number
            )
        });
        self.health.set("keys of hosts", problem);
    }

    fn list_for(&self, host: &PublicKey) -> FromCma {
        let (wanted, pair) = {
            let state = self.lock();
            (state.now.wanted.clone(), state.pair.clone())
        };
        FromCma::Keys(signed(&wanted, &pair, host))
    }

    /// Who does not take it now is told when it registers. The connection signs the list ([`Self::addressed`]).
    fn tell_connected(&self) {
        let state = self.lock();
        for (host, known) in &state.hosts {
            if known.trusted.as_ref().is_some_and(|trusted| *trusted != state.now.wanted) {
                let _ = self.hosts.push(host, FromCma::Keys(state.now.wanted.clone()));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole values are replaced under the lock, so a panic elsewhere leaves nothing half-done.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The keys, and the pair of the one in use.
fn read(directory: &KeyDirectory) -> Result<(Now, KeyPair), KeyError> {
    let (id, pair) = directory.cma_pair()?;
    let standing = directory.cma_standing()?;
    let keys = standing.trusted().into_iter().map(|(number, key)| CmaKey { number, key: key.0 }).collect();
    let in_use = id.cma_number().unwrap_or_default();
    let now = Now { in_use, key: pair.public(), wanted: CmaKeys::unsigned(keys), since: None };
    Ok((now, pair))
}

/// What is not as it should be with the CMA's own keys. Pure.
fn problem(standing: &Standing) -> Option<String> {
    let in_use = standing.in_use()?;
    let name = |number: u32| KeyId::cma(number).map(|id| id.to_string()).unwrap_or_default();
    if let Some(rotation) = standing.rotation {
        return Some(format!(
            "the rotation from {} to {} was interrupted: run `assimcli keys rotate` to complete it",
            name(rotation.from),
            name(rotation.to)
        ));
    }
    if let Some(number) = standing.aside.first() {
        return Some(format!(
            "the secret of the retired key {} is still here: `rm '.{}.aside'`",
            name(*number),
            name(*number)
        ));
    }
    if let Some((number, _)) = standing.retired.iter().find(|(number, _)| standing.secrets.contains(number)) {
        return Some(format!(
            "the secret of {} is here though that key is retired; if an old backup brought it back, no host trusts it: \
             remove {}.secret and bring the secret of its successor back",
            name(*number),
            name(*number)
        ));
    }
    match (standing.trusted().len(), standing.secrets.len()) {
        (2.., 1) => None,
        (_, 2..) => Some(
            "all CMA secrets are on this machine: move the one with the highest number off-line, so that a stolen one can be replaced"
                .into(),
        ),
        _ => Some(format!(
            "{} has no successor, so it could not be replaced if it were stolen: run `assimcli keys spare`",
            name(in_use)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::keys::Rotation;

    #[test]
    fn each_unfinished_business_has_its_remedy() {
        let key = |number: u32| (number, PublicKey([number as u8; 32]));
        let good = Standing { publics: vec![key(3), key(4)], secrets: vec![3], ..Standing::default() };
        assert_eq!(problem(&good), None);
        let told = |change: fn(&mut Standing)| {
            let mut standing = good.clone();
            change(&mut standing);
            problem(&standing).unwrap_or_default()
        };
        assert!(told(|s| s.secrets.push(4)).contains("off-line"));
        assert!(told(|s| s.publics.truncate(1)).contains("assimcli keys spare"));
        assert!(told(|s| s.aside.push(2)).contains("rm '.#CMA#00002.aside'"));
        assert!(told(|s| s.retired.push((3, PublicKey([3; 32])))).contains("old backup"));
        let interrupted = told(|s| s.rotation = Some(Rotation { from: 3, to: 4 }));
        assert!(interrupted.contains("assimcli keys rotate"), "{interrupted}");
        // A lower public key without a secret was used before; it is no spare.
        let left = Standing { publics: vec![key(2), key(3)], ..good };
        assert!(problem(&left).unwrap_or_default().contains("no successor"));
    }
}

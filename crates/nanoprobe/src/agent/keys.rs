//! The CMA changes which of its keys are trusted: on disk first, then in use, then told. What it wants comes through the network
//! process, which is not believed: the list itself has to prove who made it, and that it is for this nanoprobe.

use super::Agent;
use crate::network::protocol::Order;
use model::PublicKey;
use model::message::{CmaKeys, ToCma};
use model::paths::SitePaths;
use std::time::Duration;
use wire::delivery::ConnectionId;
use wire::keys::{CmaTrust, KeyDirectory, KeyError, Outcome, Refusal, Succession, TakeError};

/// The CMA keys that are trusted, from the key directory and the record of who introduced them: at the start and with SIGHUP.
///
/// # Errors
/// What is wrong with one of the files, of which then none counts; no key at all.
pub(super) fn open(site: &SitePaths) -> Result<CmaTrust, KeyError> {
    let state = site.nanoprobe_state().join("keys");
    let (trust, notes) = CmaTrust::open(KeyDirectory::open(site.crypto())?, &state)?;
    for note in notes {
        tracing::warn!(note, "the CMA keys that are trusted");
    }
    Ok(trust)
}

/// What the agent knows of the CMA's keys.
pub(super) struct CmaKeyring {
    /// `None` only while it is being written.
    trust: Option<CmaTrust>,
    /// The public key of this nanoprobe.
    own: PublicKey,
    /// Why the key files do not count that are there now.
    problem: Option<String>,
}

impl CmaKeyring {
    pub fn new(trust: CmaTrust, own: PublicKey) -> Self {
        Self { trust: Some(trust), own, problem: None }
    }

    /// What is told at registration.
    pub fn trusted(&self) -> Option<CmaKeys> {
        self.trust.as_ref().map(|trust| trust.succession().to_message())
    }

    /// What people have to know about the key files.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// What to add to the reason why no CMA was reached: who shows a retired key is no stranger.
    pub fn explanation(&self, error: &str) -> Option<String> {
        let retired = self.trust.as_ref()?.retired();
        let (id, _) = retired.into_iter().find(|(_, key)| error.contains(&key.fingerprint()))?;
        Some(format!(
            "that is {id}, which was retired: either the CMA was restored from a backup older than that, then bring the secret \
             of the key in use back (docs/keys.md), or somebody has a copy of the old secret"
        ))
    }
}

impl Agent {
    /// SIGHUP: key files that somebody put there or took away count from now on, all of them or none, as they would at a start.
    pub(super) fn read_keys_again(&mut self, now: Duration) {
        let trust = match open(&self.site) {
            Ok(trust) => trust,
            Err(error) => {
                tracing::error!(
                    %error,
                    "the key files are not used, the CMA keys of before are trusted; mend them and send SIGHUP again"
                );
                self.keys.problem = Some(format!("key files not used: {error}"));
                return;
            }
        };
        self.keys.problem = None;
        let succession = trust.succession().clone();
        // Where nothing differs the origins do, in a record that was lost or came back.
        self.keys.trust = Some(trust);
        let publics = succession.publics();
        if publics == self.network.pinned() {
            return;
        }
        tracing::info!(numbers = ?numbers(&succession), "key files were changed by hand; only these CMA keys are trusted from now on");
        self.network.pin(publics);
        // Nobody may stay connected with a key that is gone, and whoever is trusted is told what is.
        self.start_over(now);
    }

    /// Keys to trust came on this connection. Whatever comes of it, the CMA is told what is trusted from now on.
    pub(super) fn take_keys(&mut self, connection: ConnectionId, wanted: &CmaKeys) {
        let Some(mut trust) = self.keys.trust.take() else { return };
        let taken = trust.take(&self.keys.own, wanted);
        match taken {
            Ok((outcome, problem)) => {
                if let Some(problem) = problem {
                    tracing::warn!(%problem, "the key files do not show which CMA keys are trusted; it is kept all the same");
                }
                self.trust_from_now_on(trust.succession(), &outcome);
            }
            Err(error @ TakeError::Refused(Refusal::Unsigned)) => tracing::error!(
                %error,
                "keys to trust came that are not from this host's CMA, and nothing was changed; somebody may have control of this \
                 nanoprobe's network process: see docs/keys.md"
            ),
            Err(error @ TakeError::Refused(_)) => tracing::error!(
                %error,
                "the CMA sent keys that this nanoprobe may not take; if nobody changed keys, the key in use may be stolen: \
                 see `assimcli keys` on the CMA"
            ),
            Err(error @ TakeError::Disk(_)) => {
                tracing::error!(%error, "the CMA's new keys are not trusted, because they would be forgotten");
            }
        }
        let trusted = trust.succession().to_message();
        self.keys.trust = Some(trust);
        self.network
            .order(&Order::Say { connection: connection.0, message: Box::new(ToCma::Trusts(trusted)) });
    }

    fn trust_from_now_on(&mut self, succession: &Succession, outcome: &Outcome) {
        for refusal in &outcome.refused {
            tracing::warn!(%refusal, "a part of what the CMA wants to be trusted is not done");
        }
        let publics = succession.publics();
        if publics == self.network.pinned() {
            return;
        }
        let numbers = numbers(succession);
        if outcome.took_over {
            tracing::info!(?numbers, "the CMA's key was rotated; only these are trusted from now on");
        } else {
            tracing::info!(?numbers, "the CMA changed which of its keys are trusted");
        }
        self.network.pin(publics);
    }
}

fn numbers(succession: &Succession) -> Vec<u32> {
    succession.keys().iter().map(|trusted| trusted.number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::protocol::News;
    use model::message::{CmaKey, FromCma, decode, encode};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use wire::keys::{KeyPair, signed};

    const OWN: PublicKey = PublicKey([50; 32]);

    /// As it comes over the socket from the network process, whoever that is.
    fn news(keys: CmaKeys) -> Vec<u8> {
        encode(&News::Message { epoch: 1, connection: 1, message: Box::new(FromCma::Keys(keys)) })
    }

    fn heard(frame: &[u8]) -> Option<CmaKeys> {
        let Ok(News::Message { message, .. }) = decode::<News>(frame) else { return None };
        if let FromCma::Keys(keys) = *message { Some(keys) } else { None }
    }

    /// Each bit of a frame that brings a good list: turned, the list is another one or none, and never believed.
    #[test]
    fn no_bit_of_a_list_can_be_turned_on_the_way() {
        let home = tempfile::tempdir().unwrap();
        let directory = KeyDirectory::open_or_create(home.path().join("crypto.d")).unwrap();
        let pairs: Vec<KeyPair> = (0..3).map(|_| KeyPair::generate().unwrap()).collect();
        let keys = pairs.iter().zip(0..).map(|(pair, number)| CmaKey { number, key: pair.public().0 });
        let wanted = CmaKeys::unsigned(keys.collect());
        for key in &wanted.keys[..2] {
            let file = directory.path().join(format!("#CMA#{:05}.pub", key.number));
            fs::write(&file, key.key).unwrap();
            fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
        }
        let (mut trust, _) = CmaTrust::open(directory, &home.path().join("state")).unwrap();
        let before = trust.succession().clone();
        let good = signed(&wanted, &pairs[0], &OWN);
        let frame = news(good.clone());
        let (mut lists, mut refused) = (0, 0);
        for bit in 0..frame.len() * 8 {
            let mut frame = frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            let Some(list) = heard(&frame).filter(|list| *list != good) else { continue };
            lists += 1;
            refused += usize::from(trust.take(&OWN, &list).is_err());
            assert_eq!(trust.succession(), &before, "bit {bit}: {list:?}");
        }
        assert!(lists > 8 * (64 + 3 * 32) - 1, "{lists}");
        assert_eq!(lists, refused);
        trust.take(&OWN, &heard(&frame).unwrap()).unwrap();
        assert_eq!(trust.succession().to_message(), wanted);
    }
}

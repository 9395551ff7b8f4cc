//! The CMA changes which of its keys are trusted: on disk first, then in use, then told.

use super::Agent;
use crate::network::protocol::Order;
use model::PublicKey;
use model::message::{CmaKeys, ToCma};
use wire::delivery::ConnectionId;
use wire::keys::{CmaTrust, Outcome, Succession, TakeError};

/// What the agent knows of the CMA's keys.
pub(super) struct CmaKeyring {
    /// `None` only while it is being written.
    trust: Option<CmaTrust>,
    /// The keys that are trusted.
    pub pinned: Vec<PublicKey>,
    /// The key that the CMA proved to hold, and on which connection.
    pub cma: Option<(ConnectionId, PublicKey)>,
}

impl CmaKeyring {
    pub fn new(trust: CmaTrust) -> Self {
        Self { pinned: trust.succession().publics(), trust: Some(trust), cma: None }
    }

    /// What is told at registration.
    pub fn trusted(&self) -> Option<CmaKeys> {
        self.trust.as_ref().map(|trust| trust.succession().to_message())
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
    /// A CMA sent the keys to trust. Whatever comes of it, it is told what is trusted from now on.
    pub(super) fn take_keys(&mut self, connection: ConnectionId, wanted: &CmaKeys) {
        let Some((_, sender)) = self.keys.cma.filter(|(known, _)| *known == connection) else { return };
        let Some(mut trust) = self.keys.trust.take() else { return };
        let taken = trust.take(&sender, wanted);
        match taken {
            Ok((outcome, problem)) => {
                if let Some(problem) = problem {
                    tracing::warn!(%problem, "the key files do not show which CMA keys are trusted; it is kept all the same");
                }
                self.trust_from_now_on(trust.succession(), &outcome);
            }
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
        if publics == self.keys.pinned {
            return;
        }
        let numbers: Vec<u32> = succession.keys().iter().map(|trusted| trusted.number).collect();
        if outcome.took_over {
            tracing::info!(?numbers, "the CMA's key was rotated; only these are trusted from now on");
        } else {
            tracing::info!(?numbers, "the CMA changed which of its keys are trusted");
        }
        self.network.pin(publics.clone());
        self.keys.pinned = publics;
    }
}

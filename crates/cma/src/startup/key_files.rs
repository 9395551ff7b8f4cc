//! The files of hosts' keys, which people look at; the database decides.

use crate::health::Health;
use crate::ingest::Produced;
use model::{Designation, PublicKey};
use std::sync::Arc;
use store::HostRow;
use wire::keys::{KeyDirectory, KeyError, KeyId, Pinned};

/// Keeps the files of pinned keys in step with the database, which decides.
pub struct KeyFiles {
    keys: KeyDirectory,
    health: Arc<Health>,
}

impl KeyFiles {
    pub fn new(keys: KeyDirectory, health: Arc<Health>) -> Self {
        Self { keys, health }
    }

    /// Writes what is missing: a crash may have come between a commit and its files.
    pub fn complete(&self, hosts: &[HostRow]) {
        // Listed once: pinning lists the directory each time, which thousands of hosts without files would take minutes for.
        let listed = self.keys.hosts_with_keys();
        for host in hosts {
            let file = KeyId::host(&host.designation, &host.key).public_file();
            if self.keys.path().join(file).exists() {
                continue;
            }
            let is_first = listed.as_ref().is_ok_and(|listed| !listed.contains(&host.designation));
            if !is_first {
                self.pin(&host.designation, &host.key);
            } else if let Err(error) = self.keys.pin_first(&host.designation, &host.key) {
                self.report(&host.designation, &error);
            }
        }
    }

    /// Does what a commit asks for.
    pub fn follow(&self, produced: &Produced) {
        for (designation, _) in &produced.unpinned {
            if let Err(error) = self.keys.unpin(designation) {
                self.report(designation, &error);
            }
        }
        for (designation, key) in &produced.pinned {
            self.pin(designation, key);
        }
    }

    fn pin(&self, designation: &Designation, key: &PublicKey) {
        let pinned = match self.keys.pin(designation, key) {
            // The file is from before --erasedb, or from another database.
            Ok(Pinned::Conflict { pinned }) => {
                tracing::warn!(host = %designation, file = %pinned.fingerprint(), database = %key.fingerprint(),
                    "the key file of a host holds another key than the database; the file is replaced");
                self.keys.unpin(designation).and_then(|_| self.keys.pin(designation, key))
            }
            result => result,
        };
        if let Err(error) = pinned {
            self.report(designation, &error);
        }
    }

    fn report(&self, designation: &Designation, error: &KeyError) {
        tracing::warn!(host = %designation, %error, "the key file of a host cannot be written; the database still knows the key");
        self.health.set("key files", Some(format!("key files cannot be written: {error}")));
    }
}

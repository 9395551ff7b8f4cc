//! Keys that must outlive a restart: with them the peers of a restarted endpoint notice at their next packet.

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use ring::hmac;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

use crate::keys::KeyError;
use crate::keys::store::kept;

const FILE: &str = "endpoint.secret";
const NONCE_BYTES: usize = 8;
const TAG_BYTES: usize = 4;

/// The stateless reset key (RFC 9000 §10.3) and the key of our connection ids.
#[derive(Clone)]
pub(crate) struct EndpointSecrets {
    reset: Arc<hmac::Key>,
    connection_ids: Arc<hmac::Key>,
}

impl EndpointSecrets {
    /// Keys of one life.
    pub fn temporary() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; 64]);
        getrandom::fill(&mut *bytes).map_err(|error| KeyError::NoRandom { error })?;
        Ok(Self::of(&bytes))
    }

    /// Reads the keys kept in `directory` (made with mode 0700), or makes them.
    pub fn load_or_create(directory: &Path) -> Result<Self, KeyError> {
        kept::<64>(directory, FILE).map(|bytes| Self::of(&bytes))
    }

    pub fn reset_key(&self) -> Arc<hmac::Key> {
        self.reset.clone()
    }

    pub fn connection_ids(&self) -> HmacConnectionIds {
        HmacConnectionIds { key: self.connection_ids.clone() }
    }

    fn of(bytes: &[u8; 64]) -> Self {
        let (reset, connection_ids) = bytes.split_at(32);
        Self {
            reset: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset)),
            connection_ids: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, connection_ids)),
        }
    }
}

impl fmt::Debug for EndpointSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointSecrets")
    }
}

/// 12-byte connection ids: 8 random bytes and 4 of their HMAC, so that strangers' packets are told apart without a lookup.
///
/// quinn's own have 3 random bytes; with those 8 of 6,000 handshakes collided and hung.
pub(crate) struct HmacConnectionIds {
    key: Arc<hmac::Key>,
}

impl HmacConnectionIds {
    fn tag(&self, nonce: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hmac::sign(&self.key, nonce).as_ref()[..TAG_BYTES]);
        tag
    }
}

impl ConnectionIdGenerator for HmacConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [0; NONCE_BYTES + TAG_BYTES];
        // Without random numbers ids repeat and handshakes fail; the system cannot do TLS then either.
        let _ = getrandom::fill(&mut bytes[..NONCE_BYTES]);
        let tag = self.tag(&bytes[..NONCE_BYTES]);
        bytes[NONCE_BYTES..].copy_from_slice(&tag);
        ConnectionId::new(&bytes)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match id.split_at_checked(NONCE_BYTES) {
            Some((nonce, tag)) if self.tag(nonce) == tag => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        NONCE_BYTES + TAG_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn ids_are_valid_only_under_their_key() {
        let (ours, other) = (EndpointSecrets::of(&[1; 64]), EndpointSecrets::of(&[2; 64]));
        let id = ours.connection_ids().generate_cid();
        assert_eq!(id.len(), 12);
        assert!(ours.connection_ids().validate(&id).is_ok());
        assert!(other.connection_ids().validate(&id).is_err());
        assert!(ours.connection_ids().validate(&ConnectionId::new(&id[..11])).is_err());
        assert!(ours.connection_ids().validate(&ConnectionId::new(&[])).is_err());
    }

    #[test]
    fn keys_outlive_a_restart_in_a_private_file() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("state");
        let id = EndpointSecrets::load_or_create(&directory).unwrap().connection_ids().generate_cid();
        let again = EndpointSecrets::load_or_create(&directory).unwrap();
        assert!(again.connection_ids().validate(&id).is_ok());
        let mode = std::fs::metadata(directory.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

//! TLS 1.3 with raw public keys (RFC 7250): Ed25519 only, no certificates, no resumption, no early data.

use crate::keys::KeyPair;
use crate::keys::pair::{from_spki, to_spki};
use model::PublicKey;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring as provider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Name and version of the conversation (RFC 7301).
const ALPN: &[u8] = b"assimilation/1";

/// Our side of every handshake.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    key: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

/// Whose keys the other side may have. Clones are one: what is replaced in one holds for all, and for handshakes that
/// are under way.
#[derive(Debug, Clone)]
pub(crate) struct Trust(Arc<RwLock<Option<Vec<PublicKey>>>>);

impl Trust {
    /// `None`: any key whose secret the peer proves to hold; who that is is decided at registration.
    pub fn new(keys: Option<Vec<PublicKey>>) -> Self {
        Self(Arc::new(RwLock::new(keys)))
    }

    pub fn replace(&self, keys: Vec<PublicKey>) {
        // A poisoned lock only says that another thread panicked; the list is replaced whole.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(keys);
    }

    fn includes(&self, key: &PublicKey) -> bool {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.as_ref().is_none_or(|keys| keys.contains(key))
    }
}

impl Identity {
    pub fn new(pair: &KeyPair) -> Result<Self, Error> {
        let mut crypto = provider::default_provider();
        crypto.cipher_suites.retain(|suite| suite.tls13().is_some());
        let pkcs8 = pair.pkcs8();
        let signing = provider::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()))?;
        let key = CertifiedKey::new(vec![CertificateDer::from(to_spki(&pair.public()))], signing);
        Ok(Self { key: Arc::new(key), provider: Arc::new(crypto) })
    }

    /// For one outgoing connection. A key that is not trusted is left in the cell, for the error message.
    pub fn client(&self, trust: Trust, refused: Arc<OnceLock<PublicKey>>) -> Result<QuicClientConfig, Error> {
        let verifier = Arc::new(Verifier { trust, refused, provider: self.provider.clone() });
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        config.enable_early_data = false;
        QuicClientConfig::try_from(config).map_err(no_initial_suite)
    }

    pub fn server(&self, trust: Trust) -> Result<QuicServerConfig, Error> {
        let verifier = Arc::new(Verifier { trust, refused: Arc::default(), provider: self.provider.clone() });
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        QuicServerConfig::try_from(config).map_err(no_initial_suite)
    }
}

/// The key that the other side of a finished handshake proved to hold.
pub(crate) fn peer_key(connection: &quinn::Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast_ref::<Vec<CertificateDer<'static>>>()?;
    from_spki(chain.first()?)
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    refused: Arc<OnceLock<PublicKey>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn check(&self, der: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        let key = from_spki(der).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if !others.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        if self.trust.includes(&key) {
            return Ok(());
        }
        // Only the first refusal is told; a handshake has one.
        let _ = self.refused.set(key);
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn signature(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(der.as_ref());
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &spki, signed, algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, der, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, der, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// QUIC needs AES-128-GCM for its first packets; ring has it.
fn no_initial_suite(error: quinn_proto::crypto::rustls::NoInitialCipherSuite) -> Error {
    Error::General(error.to_string())
}

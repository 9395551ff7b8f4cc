//! `tls`: a TLS handshake (1.2 or 1.3), and how long the certificate is good for.
//!
//! | parameter | meaning (default) |
//! |---|---|
//! | `ip`, `port` | where the service listens (127.0.0.1) |
//! | `host` | name that is asked for (SNI); `verify` compares it with the certificate |
//! | `verify` | `yes`: the certificate must lead to an authority that this host trusts |
//! | `warn_days` | days before the end from which on it is a warning (14) |
//!
//! Up: the certificate is good for longer than that. Warn: it ends soon, or the service speaks only TLS that we do not. Down:
//! it has ended, has not begun, is not trusted (with `verify`), or there is no TLS. Without `verify` nobody is trusted and
//! nothing secret is said: any certificate is taken, for what it says about its time. The end is also in the performance
//! data, as `days`.

use super::super::state::Outcome;
use super::net::{Timed, connect, failed};
use super::{Around, is_set, parameter};
use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use monitors::Monitor;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned,
};
use std::fs;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const WARN_DAYS: u64 = 14;
const DAY: Duration = Duration::from_secs(24 * 3600);
const MAX_AUTHORITIES_BYTES: u64 = 16 * 1024 * 1024;

pub fn check(monitor: &Monitor, around: &Around) -> Outcome {
    let (address, stream) = match connect(monitor) {
        Ok(connected) => connected,
        Err(outcome) => return outcome,
    };
    let mut authority = None;
    if is_set(monitor, "verify") {
        match authorities(&around.authorities) {
            Ok(verifier) => authority = Some(verifier),
            Err(why) => return Outcome::warn(format!("unknown: {why}")),
        }
    }
    let verifier = Arc::new(Reading { seen: Mutex::default(), authority });
    let ended = handshake(monitor, address, stream, verifier.clone());
    let seen = verifier.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (seen, ended) {
        // A service that asks for a certificate of ours ends the handshake after it has shown its own.
        (Some(seen), _) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            judge(monitor, &seen, now)
        }
        (None, Err(error)) => without_certificate(monitor, address, &error),
        (None, Ok(_)) => Outcome::down(format!("{address} shows no certificate")),
    }
}

/// For who wants to talk over TLS, with whomever.
///
/// # Errors
/// The outcome: there is no TLS.
pub fn client(monitor: &Monitor, stream: Timed) -> Result<StreamOwned<ClientConnection, Timed>, Outcome> {
    let address = super::net::address(monitor)?;
    let verifier = Arc::new(Reading { seen: Mutex::default(), authority: None });
    handshake(monitor, address, stream, verifier)
        .map_err(|error| without_certificate(monitor, address, &error))
}

/// What the service showed.
#[derive(Debug)]
struct Seen {
    certificate: Vec<u8>,
    /// Why it is not trusted, where that was asked.
    distrust: Option<String>,
}

/// Takes every certificate, to read it.
#[derive(Debug)]
struct Reading {
    seen: Mutex<Option<Seen>>,
    authority: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Reading {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.authority.as_ref().map(|authority| {
            authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        });
        let distrust = judged.and_then(Result::err).map(|error| error.to_string());
        let seen = Seen { certificate: end_entity.to_vec(), distrust };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn handshake(
    monitor: &Monitor,
    address: SocketAddr,
    mut stream: Timed,
    verifier: Arc<Reading>,
) -> io::Result<StreamOwned<ClientConnection, Timed>> {
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = match parameter(monitor, "host") {
        Some(host) => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
        None => ServerName::IpAddress(address.ip().into()),
    };
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// What this host trusts.
fn authorities(files: &[PathBuf]) -> Result<Arc<WebPkiServerVerifier>, String> {
    let file = files.iter().find(|path| path.is_file());
    let file =
        file.ok_or("there are no certificates of authorities on this host (package ca-certificates)")?;
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut text = Vec::new();
    let opened = fs::File::open(file).map_err(|error| told(&error))?;
    opened.take(MAX_AUTHORITIES_BYTES).read_to_end(&mut text).map_err(|error| told(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider()))
        .build()
        .map_err(|error| told(&error))
}

/// There was no certificate to read.
fn without_certificate(monitor: &Monitor, address: SocketAddr, error: &io::Error) -> Outcome {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(
            Error::PeerIncompatible(_)
            | Error::AlertReceived(
                AlertDescription::HandshakeFailure
                | AlertDescription::ProtocolVersion
                | AlertDescription::InsufficientSecurity,
            ),
        ) => Outcome::warn(format!("{address} speaks TLS, but not 1.2 or 1.3 with any cipher of today")),
        Some(Error::AlertReceived(alert)) => {
            Outcome::warn(format!("{address} speaks TLS, and refuses us: {alert:?}"))
        }
        Some(error) => Outcome::down(format!("{address} answers, but not in TLS: {error}")),
        None => failed(monitor, &format!("no TLS with {address}"), error),
    }
}

fn judge(monitor: &Monitor, seen: &Seen, now: Duration) -> Outcome {
    let Some(Certificate { not_before, not_after, name }) = read(&seen.certificate) else {
        return Outcome::warn("unknown: the certificate cannot be read");
    };
    let who = name.map_or_else(|| "the certificate".into(), |name| format!("the certificate of {name}"));
    let day = |at: Duration| {
        let micros = i64::try_from(at.as_micros()).unwrap_or(i64::MAX);
        model::Timestamp(micros).to_utc_text().chars().take(16).collect::<String>().replace('T', " ")
    };
    let warn_days = parameter(monitor, "warn_days").and_then(|days| days.parse().ok()).unwrap_or(WARN_DAYS);
    let left = not_after.saturating_sub(now);
    let days = left.as_secs() / DAY.as_secs();
    let outcome = if now > not_after {
        Outcome::down(format!("{who} expired on {} UTC: renew it", day(not_after)))
    } else if now < not_before {
        Outcome::down(format!("{who} is not valid before {} UTC: look at the clocks", day(not_before)))
    } else if let Some(distrust) = &seen.distrust {
        Outcome::down(format!("{who} is not trusted: {distrust}"))
    } else if days < warn_days {
        Outcome::warn(format!("{who} expires on {} UTC, in {days} days: renew it", day(not_after)))
    } else {
        Outcome::up(format!("{who} is good until {} UTC", day(not_after)))
    };
    Outcome { perfdata: format!("days={days}"), ..outcome }
}

/// What is read of a certificate.
#[derive(Debug, PartialEq)]
struct Certificate {
    not_before: Duration,
    not_after: Duration,
    /// Common name of the subject.
    name: Option<String>,
}

/// Reads the beginning of a certificate (RFC 5280 §4.1), as far as the subject.
fn read(certificate: &[u8]) -> Option<Certificate> {
    let certificate =
        AnyRef::from_der(certificate).ok().filter(|certificate| certificate.tag() == Tag::Sequence)?;
    let mut reader = SliceReader::new(certificate.value()).ok()?;
    reader
        .sequence(|signed| {
            // The version is left out in the first.
            if signed.peek_byte() == Some(VERSION_TAG) {
                AnyRef::decode(signed)?;
            }
            // Serial number, algorithm of the signature, issuer.
            for _ in 0..3 {
                AnyRef::decode(signed)?;
            }
            let (not_before, not_after) =
                signed.sequence(|validity| Ok::<_, der::Error>((time(validity)?, time(validity)?)))?;
            let subject = AnyRef::decode(signed)?;
            let name = common_name(subject);
            while !signed.is_finished() {
                AnyRef::decode(signed)?;
            }
            Ok::<_, der::Error>(Certificate { not_before, not_after, name })
        })
        .ok()
}

const VERSION_TAG: u8 = 0xa0;
/// 2.5.4.3
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

fn time<'a>(reader: &mut impl Reader<'a>) -> der::Result<Duration> {
    match reader.peek_byte() {
        Some(0x17) => Ok(UtcTime::decode(reader)?.to_unix_duration()),
        _ => Ok(GeneralizedTime::decode(reader)?.to_unix_duration()),
    }
}

/// The last common name in a name (a sequence of sets of pairs).
fn common_name(name: AnyRef<'_>) -> Option<String> {
    let mut found = None;
    let mut sets = SliceReader::new(name.value()).ok()?;
    while !sets.is_finished() {
        let set = AnyRef::decode(&mut sets).ok()?;
        let mut pairs = SliceReader::new(set.value()).ok()?;
        while !pairs.is_finished() {
            let pair = AnyRef::decode(&mut pairs).ok()?;
            let mut parts = SliceReader::new(pair.value()).ok()?;
            let (kind, value) = (AnyRef::decode(&mut parts).ok()?, AnyRef::decode(&mut parts).ok()?);
            if kind.value() == COMMON_NAME {
                found = Some(String::from_utf8_lossy(value.value()).chars().take(100).collect());
            }
        }
    }
    found
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;

//! Certificates of every age, and what is no TLS.

use super::super::super::state::Level::{Down, Up, Warn};
use super::super::super::testing::service;
use super::super::http;
use super::*;
use model::config::MonitoringConfig;
use monitors::Class;
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};
use std::io::Write;
use std::net::TcpListener;

/// A certificate for `localhost`, good from and until so many days from now.
fn certificate(from_days: i64, until_days: i64) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "www.example.org");
    let now = SystemTime::now();
    let at = |days: i64| {
        let seconds = Duration::from_secs(days.unsigned_abs() * DAY.as_secs() + 3600);
        if days < 0 { now - seconds } else { now + seconds }
    };
    params.not_before = at(from_days).into();
    params.not_after = at(until_days).into();
    (params.self_signed(&key).unwrap(), key)
}

fn server(
    days: (i64, i64),
    versions: &[&'static SupportedProtocolVersion],
    needs_client: bool,
) -> (u16, Vec<u8>) {
    let (certificate, key) = certificate(days.0, days.1);
    let der = certificate.der().to_vec();
    let builder =
        ServerConfig::builder_with_provider(Arc::new(provider())).with_protocol_versions(versions).unwrap();
    let builder = if needs_client {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(provider()),
        );
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut connection = ServerConnection::new(config.clone()).unwrap();
            let mut tls = rustls::Stream::new(&mut connection, &mut stream);
            let mut buffer = [0; 1024];
            if tls.read(&mut buffer).is_ok_and(|count| count > 0) {
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            }
        }
    });
    (port, der)
}

fn ask_with(port: u16, parameters: &[(&str, &str)], authorities: Vec<PathBuf>) -> Outcome {
    let mut monitor = Monitor { timeout_seconds: 2, ..service(Class::Tls, "x", port) };
    monitor.env.extend(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let around = Around::new(&MonitoringConfig::default(), "/nonexistent".into());
    check(&monitor, &Around { authorities, ..around })
}

fn ask(port: u16) -> Outcome {
    ask_with(port, &[], Vec::new())
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];
const OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

#[test]
fn the_end_of_a_certificate_is_told_in_time() {
    for (days, level, words, perfdata) in [
        ((-1, 90), Up, "good until", "days=90"),
        ((-1, 14), Up, "good until", "days=14"),
        ((-80, 13), Warn, "in 13 days", "days=13"),
        ((-80, 0), Warn, "in 0 days", "days=0"),
        ((-80, -2), Down, "expired on", "days=0"),
        ((5, 90), Down, "not valid before", "days=90"),
    ] {
        for versions in [BOTH, OLD] {
            let outcome = ask(server(days, versions, false).0);
            assert_eq!((outcome.level, outcome.perfdata.as_str()), (level, perfdata), "{}", outcome.reason);
            let is_named = outcome.reason.contains("the certificate of www.example.org");
            assert!(is_named && outcome.reason.contains(words), "{}", outcome.reason);
        }
    }
    let (port, _) = server((-1, 20), BOTH, false);
    assert_eq!(ask_with(port, &[("warn_days", "21")], Vec::new()).level, Warn);
}

#[test]
fn a_service_that_wants_a_certificate_of_ours_shows_its_own() {
    for versions in [BOTH, OLD] {
        let outcome = ask(server((-1, 90), versions, true).0);
        assert_eq!(outcome.level, Up, "{}", outcome.reason);
    }
}

#[test]
fn trust_is_judged_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let pem = |der: &[u8]| {
        // Base64 by hand: RFC 4648 §4.
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for part in der.chunks(3) {
            let bits =
                part.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
            for place in 0..4 {
                let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
                text.push(if place > part.len() { '=' } else { char::from(letter) });
            }
        }
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    let (port, der) = server((-1, 90), BOTH, false);
    let (_, other) = server((-1, 90), BOTH, false);
    let verify = [("verify", "yes"), ("host", "localhost")];
    fs::write(&file, pem(&other)).unwrap();
    let outcome = ask_with(port, &verify, vec!["/nonexistent".into(), file.clone()]);
    assert_eq!(outcome.level, Down, "{}", outcome.reason);
    assert!(outcome.reason.contains("not trusted"), "{}", outcome.reason);
    fs::write(&file, pem(&der)).unwrap();
    assert_eq!(ask_with(port, &verify, vec![file.clone()]).level, Up);
    let elsewhere = [("verify", "yes"), ("host", "elsewhere.example.org")];
    assert_eq!(ask_with(port, &elsewhere, vec![file.clone()]).level, Down);
    assert_eq!(ask_with(port, &[("host", "elsewhere.example.org")], vec![file]).level, Up);
    assert_eq!(ask_with(port, &verify, vec!["/nonexistent".into()]).level, Warn, "nobody can tell");
}

#[test]
fn what_is_no_tls_is_down() {
    let plain = |answer: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer);
            }
        });
        port
    };
    for answer in
        [&b"220 mail ESMTP\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", &[0; 100], &[0x16; 100]]
    {
        let outcome = ask(plain(answer));
        assert_eq!(outcome.level, Down, "{answer:?}: {}", outcome.reason);
    }
    // The alert handshake_failure: TLS, but none of today.
    let outcome = ask(plain(&[0x15, 3, 3, 0, 2, 2, 40]));
    assert_eq!(outcome.level, Warn, "{}", outcome.reason);
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let outcome = ask(mute.local_addr().unwrap().port());
    assert_eq!((outcome.level, outcome.reason.as_str()), (Down, "timed out after 2 s"));
}

#[test]
fn http_goes_over_tls_whatever_the_certificate() {
    let (port, _) = server((-80, -2), BOTH, false);
    let mut monitor = Monitor { timeout_seconds: 2, ..service(Class::Http, "x", port) };
    assert_eq!(http::check(&monitor).level, Down, "TLS was not spoken");
    monitor.env.insert("tls".into(), "true".into());
    let outcome = http::check(&monitor);
    assert_eq!((outcome.level, outcome.reason.as_str()), (Up, "HTTP 200 OK for /"));
}

#[test]
fn a_certificate_that_is_cut_or_changed_is_never_a_panic() {
    let der = certificate(-1, 90).0.der().to_vec();
    assert_eq!(read(&der).unwrap().name.as_deref(), Some("www.example.org"));
    for end in 0..der.len() {
        assert_eq!(read(&der[..end]), None, "cut at {end}");
    }
    for place in 0..der.len() {
        for flip in [1, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[place] ^= flip;
            read(&changed);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
    }
}

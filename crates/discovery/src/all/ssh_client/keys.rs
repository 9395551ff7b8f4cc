//! The private keys in the home directories, and whether a passphrase protects them.

use crate::Host;
use crate::parse::{self, Errors};
use serde_json::{Map, Value, json};

const MAX_ACCOUNTS: usize = 2000;
const MAX_FILES: usize = 64;
const MAX_KEYS: usize = 2000;
const MAX_KEY_BYTES: u64 = 64 * 1024;
/// Names in `.ssh` that hold no private key.
const OTHERS: &[&str] =
    &["authorized_keys", "authorized_keys2", "known_hosts", "known_hosts.old", "config", "environment", "rc"];
/// How base64 shows the beginning of an OpenSSH key that no cipher protects: the magic text with its final zero, and
/// the word `none` with its length (PROTOCOL.key of OpenSSH).
const OPENSSH_WITHOUT_CIPHER: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";

/// Path → `{"passphrase": bool}`. Accounts whose home directory another one has are looked at once.
pub fn private_keys(host: &Host, errors: &mut Errors) -> Map<String, Value> {
    let mut found = Map::new();
    let Ok(accounts) = host.read_text("/etc/passwd") else { return found };
    let mut homes: Vec<&str> = parse::lines(&accounts, "/etc/passwd", &mut Errors::default())
        .into_iter()
        .filter_map(|(_, line)| line.split(':').nth(5))
        .filter(|home| {
            home.starts_with('/') && home.len() > 1 && home.len() < 1024 && !home.starts_with("/proc")
        })
        .take(MAX_ACCOUNTS)
        .collect();
    homes.sort_unstable();
    homes.dedup();
    for home in homes {
        let directory = format!("{}/.ssh", home.trim_end_matches('/'));
        let names = match host.list(&directory) {
            Ok(names) => names,
            Err(error) if error.is_missing() => continue,
            Err(error) => {
                errors.add(format!("Cannot read {error}"));
                continue;
            }
        };
        let candidates =
            names.iter().filter(|name| !OTHERS.contains(&name.as_str()) && !name.ends_with(".pub"));
        for name in candidates.take(MAX_FILES) {
            let path = format!("{directory}/{name}");
            if found.len() == MAX_KEYS {
                errors.add(format!("more than {MAX_KEYS} private keys, {path} and others are left out"));
                return found;
            }
            // What is larger, no file or unreadable is no key that ssh would take.
            let Ok(bytes) = host.read_at_most(&path, MAX_KEY_BYTES) else { continue };
            if let Some(passphrase) = has_passphrase(&String::from_utf8_lossy(&bytes)) {
                found.insert(path, json!({ "passphrase": passphrase }));
            }
        }
    }
    found
}

/// Whether a private key is encrypted; none when the text is no private key.
fn has_passphrase(text: &str) -> Option<bool> {
    let begin = text
        .lines()
        .map(str::trim)
        .position(|line| line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----"))?;
    let mut lines = text.lines().map(str::trim).skip(begin);
    let header = lines.next()?;
    let body: Vec<&str> = lines.take(4).collect();
    Some(match header {
        "-----BEGIN ENCRYPTED PRIVATE KEY-----" => true,
        "-----BEGIN OPENSSH PRIVATE KEY-----" => !body.concat().starts_with(OPENSSH_WITHOUT_CIPHER),
        // Keys of the old form say so in a header of their own (RFC 1421).
        _ => body.iter().any(|line| line.starts_with("Proc-Type:") && line.ends_with("ENCRYPTED")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn kinds_of_keys() {
        let open =
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAA\n-----END";
        let closed =
            "-----BEGIN OPENSSH PRIVATE KEY-----\r\nb3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYm\r\n";
        for (text, expected) in [
            (open, Some(false)),
            (closed, Some(true)),
            ("x\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n", Some(true)),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n", Some(false)),
            ("-----BEGIN PRIVATE KEY-----\nMIIE\n", Some(false)),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n", Some(true)),
            ("-----BEGIN PUBLIC KEY-----\nMIIE\n", None),
            ("", None),
        ] {
            assert_eq!(has_passphrase(text), expected, "{text}");
        }
    }

    #[test]
    fn all_homes_are_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(Path::new(path));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("etc/passwd", "root:x:0:0::/root:/bin/sh\njoe:x:1:1::/home/joe:/bin/sh\nbad\nx:x:2:2:::\n");
        put("root/.ssh/id_rsa", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n");
        put("root/.ssh/id_rsa.pub", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n");
        put("home/joe/.ssh/work", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE\n");
        put("home/joe/.ssh/notes", "hello");
        put("home/joe/.ssh/sub/x", "hello");
        let mut errors = Errors::default();
        let found = private_keys(&Host::at(root.path()), &mut errors);
        let expected =
            json!({"/root/.ssh/id_rsa": {"passphrase": false}, "/home/joe/.ssh/work": {"passphrase": true}});
        assert_eq!(Value::Object(found), expected);
        assert!(errors.into_list().is_empty());
    }
}

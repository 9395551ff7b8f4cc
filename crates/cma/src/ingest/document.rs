//! Opening a report: everything that can be checked without knowing the host. Costs processor time only, so it is
//! done before the writer thread sees the report.

use model::envelope::Envelope;
use model::ids::check_instance;
use model::message::Report;
use model::text::{printable, shortened};
use model::{DocumentHash, Timestamp};

/// A report after the checks.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    pub sequence: u64,
    pub instance: String,
    pub hash: DocumentHash,
    pub changed_after: Timestamp,
    pub seen: Timestamp,
    pub superseded: u32,
    pub content: Content,
}

/// What a report carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// The instance is gone from the host.
    Removed,
    Document {
        envelope: Box<Envelope>,
        text: String,
    },
    /// Not usable, now or ever; says why.
    Refused(String),
}

impl Incoming {
    /// Bytes of the document, for the bound on one commit.
    pub fn bytes(&self) -> usize {
        match &self.content {
            Content::Document { text, .. } => text.len(),
            _ => 0,
        }
    }
}

/// Unpacks and checks a report; `unpack` is `wire::body::decompress` or the same with a smaller cap.
pub fn open(
    report: Report,
    unpack: impl FnOnce(&[u8]) -> Result<Vec<u8>, wire::body::BodyError>,
) -> Incoming {
    let Report { sequence, instance, hash, body, changed_after, seen, superseded } = report;
    let content = match body {
        _ if check_instance(&instance).is_err() => Content::Refused("the instance name is not legal".into()),
        None => Content::Removed,
        Some(body) => match unpack(&body) {
            Ok(bytes) => read(&instance, hash, bytes),
            Err(error) => Content::Refused(error.to_string()),
        },
    };
    // An illegal name is kept for the log only.
    let instance = shortened(&printable(&instance), 200).into_owned();
    Incoming { sequence, instance, hash, changed_after, seen, superseded, content }
}

fn read(instance: &str, hash: DocumentHash, bytes: Vec<u8>) -> Content {
    if DocumentHash::of(&bytes) != hash {
        return Content::Refused("the document does not have the hash it was announced with".into());
    }
    let Ok(text) = String::from_utf8(bytes) else {
        return Content::Refused("the document is not UTF-8 text".into());
    };
    // serde_json stops at 128 levels, so hostile nesting cannot exhaust the stack.
    let envelope: Envelope = match serde_json::from_str(&text) {
        Ok(envelope) => envelope,
        Err(error) => {
            return Content::Refused(format!(
                "the document is no discovery envelope: {}",
                bounded(&error.to_string())
            ));
        }
    };
    if envelope.instance != instance {
        let found = bounded(&envelope.instance);
        return Content::Refused(format!("the document says it is of instance {found:?}"));
    }
    if check_instance(&envelope.discovertype).is_err() {
        return Content::Refused("the discovery type is not a legal name".into());
    }
    Content::Document { envelope: Box::new(envelope), text }
}

fn bounded(text: &str) -> String {
    shortened(&printable(text), 200).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub fn envelope(instance: &str) -> String {
        json!({"discovertype": "sshd", "description": "d", "host": "x", "source": "s", "instance": instance,
            "proxy": "local/local", "data": {"a": 1}})
        .to_string()
    }

    fn report(instance: &str, body: Vec<u8>, hash: DocumentHash) -> Report {
        Report {
            sequence: 1,
            instance: instance.into(),
            hash,
            body: Some(body.into()),
            changed_after: Timestamp(1),
            seen: Timestamp(2),
            superseded: 0,
        }
    }

    fn refusal(instance: &str, text: &[u8], hash: DocumentHash) -> String {
        let body = wire::body::compress(text).unwrap();
        match open(report(instance, body, hash), wire::body::decompress).content {
            Content::Refused(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn good_reports_open() {
        let text = envelope("_init_sshd");
        let body = wire::body::compress(text.as_bytes()).unwrap();
        let incoming =
            open(report("_init_sshd", body, DocumentHash::of(text.as_bytes())), wire::body::decompress);
        assert!(matches!(&incoming.content, Content::Document { envelope, .. } if envelope.data["a"] == 1));
        assert_eq!(incoming.bytes(), text.len());
    }

    #[test]
    fn every_kind_of_damage_is_refused_with_its_reason() {
        let text = envelope("_init_sshd");
        let good = DocumentHash::of(text.as_bytes());
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let huge_name = envelope(&"x".repeat(1000));
        let cases: [(&str, &[u8], DocumentHash, &str); 7] = [
            ("_init_sshd", text.as_bytes(), DocumentHash([0; 32]), "hash"),
            ("other", text.as_bytes(), good, "instance"),
            ("../x", text.as_bytes(), good, "not legal"),
            ("_init_sshd", b"{\"no\": 1}", DocumentHash::of(b"{\"no\": 1}"), "no discovery envelope"),
            ("_init_sshd", b"\xff\xfe", DocumentHash::of(b"\xff\xfe"), "UTF-8"),
            ("_init_sshd", deep.as_bytes(), DocumentHash::of(deep.as_bytes()), "no discovery envelope"),
            ("_init_sshd", huge_name.as_bytes(), DocumentHash::of(huge_name.as_bytes()), "instance"),
        ];
        for (instance, text, hash, expected) in cases {
            let reason = refusal(instance, text, hash);
            assert!(reason.contains(expected) && reason.len() < 500, "{expected}: {reason}");
        }
    }

    #[test]
    fn a_bomb_is_refused_and_junk_is_no_panic() {
        let bomb = zeroes_of(64 * 1024 * 1024);
        let incoming = open(report("_init_sshd", bomb, DocumentHash([1; 32])), wire::body::decompress);
        assert!(matches!(incoming.content, Content::Refused(_)));
        let incoming =
            open(report("_init_sshd", vec![1, 2, 3], DocumentHash([1; 32])), wire::body::decompress);
        assert!(matches!(incoming.content, Content::Refused(_)));
    }

    /// A zstd frame (RFC 8878) of `bytes` zeroes: header without a size, then run-length blocks of 128 KiB.
    fn zeroes_of(bytes: usize) -> Vec<u8> {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
        let block = 128 * 1024;
        let blocks = bytes / block;
        for i in 0..blocks {
            let last = u32::from(i + 1 == blocks);
            let header = last | 1 << 1 | (block as u32) << 3;
            frame.extend_from_slice(&header.to_le_bytes()[..3]);
            frame.push(0);
        }
        frame
    }
}

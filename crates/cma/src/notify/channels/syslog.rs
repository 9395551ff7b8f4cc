//! Writes every event to the local syslog, or to the journal where systemd runs.
//!
//! Syslog messages follow RFC 5424, the journal gets its native protocol (systemd.journal-fields(7)) with one field
//! for each scalar. Below another `--root` only sockets below that root are used, never the machine's own log.

use super::scripts::environment;
use crate::notify::{Answer, Attempt, Channel, ChannelContext, DeliveryFuture, Outcome};
use model::text::{printable, shortened};
use model::{Event, EventType};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

pub static CHANNEL: Channel = Channel {
    name: "syslog",
    description: "writes events to the local syslog or journal",
    enabled: |config| config.syslog,
    deliver: |context, event, _| -> DeliveryFuture { Box::pin(async move { deliver(&context, &event) }) },
    deliver_to: None,
};

/// Facility daemon (RFC 5424 §6.2.1).
const FACILITY: u8 = 3;
/// Longest sentence, in characters.
const MAX_SENTENCE: usize = 512;
/// Longest value of one structured field, in characters.
const MAX_FIELD: usize = 256;
/// Most structured fields of one message.
const MAX_FIELDS: usize = 40;

/// A socket that takes log messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    Journal(PathBuf),
    Syslog(PathBuf),
}

fn deliver(context: &ChannelContext, event: &Event) -> Attempt {
    let done = |outcome, answers| Attempt { outcome, progress: vec![], answers };
    let Some(receiver) = receiver(context.site.root()) else {
        let text = "neither a journal nor a syslog socket is there, so events are not logged";
        if context.first_time(text.into()) {
            tracing::warn!(root = %context.site.root().display(), "{text}");
        }
        return done(Outcome::Skipped(text.into()), vec![]);
    };
    let (path, message) = match &receiver {
        Receiver::Journal(path) => (path, journal_message(event)),
        Receiver::Syslog(path) => (path, syslog_message(event, &context.hostname, std::process::id())),
    };
    let name = path.display().to_string();
    match send(path, &message) {
        Ok(()) => done(Outcome::Delivered, vec![Answer { receiver: name, ok: true, text: sentence(event) }]),
        Err(error) => {
            let text = format!("{name}: {error}");
            done(Outcome::Failed(text), vec![Answer { receiver: name, ok: false, text: error.to_string() }])
        }
    }
}

/// The socket to write to: the journal's own where there is one, because it keeps the fields.
pub fn receiver(root: &Path) -> Option<Receiver> {
    let below = |path: &str| root.join(path);
    let is_socket = |path: &Path| std::fs::metadata(path).is_ok_and(|m| m.file_type().is_socket());
    let (journal, syslog) = (below("run/systemd/journal/socket"), below("dev/log"));
    if is_socket(&journal) {
        return Some(Receiver::Journal(journal));
    }
    is_socket(&syslog).then_some(Receiver::Syslog(syslog))
}

fn send(path: &Path, message: &[u8]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // A stuck log daemon must not hold up the others.
    socket.set_nonblocking(true)?;
    // A socket address holds 108 bytes; a site below --root may have longer paths.
    let parent = std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default();
    let short =
        PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&parent))).join(name);
    socket.send_to(message, short)?;
    Ok(())
}

/// Severity by RFC 5424 §6.2.1: what needs a look is a warning, good news a notice, the rest information.
fn severity(event: &Event) -> u8 {
    match event.eventtype {
        // Files that changed and should not have.
        EventType::Update if text_of(&event.extrainfo, "severity") == "high" => 4,
        EventType::Down | EventType::Warn => 4,
        EventType::Up | EventType::Unwarn | EventType::Delete => 5,
        EventType::Create | EventType::Update => 6,
    }
}

/// The event as one sentence for people.
pub fn sentence(event: &Event) -> String {
    let object = |name: &str| text_of(&event.associatedobject, name);
    let extra = |name: &str| text_of(&event.extrainfo, name);
    let host = event.subject();
    let text = match event.eventtype {
        EventType::Up => format!("{host} is up ({})", object("reason")),
        EventType::Down => format!("{host} is down ({})", object("reason")),
        EventType::Warn | EventType::Unwarn if event.extrainfo.contains_key("ruleid") => {
            let verb = if event.eventtype == EventType::Warn { "FAILED" } else { "no longer fails" };
            let title = extra("title");
            let rest = if title.is_empty() { String::new() } else { format!(": {title}") };
            format!("{host} {verb} {} rule {}{rest}", extra("category"), extra("ruleid"))
        }
        EventType::Warn | EventType::Unwarn if event.extrainfo.contains_key("newscore") => {
            let kind = extra("discovery_type");
            format!(
                "{host} {} score of {kind} went from {} to {}",
                extra("category"),
                extra("oldscore"),
                extra("newscore")
            )
        }
        kind => {
            format!("{host} {kind}: {}", first_filled(&[extra("text"), extra("reason"), object("reason")]))
        }
    };
    shortened(&printable(&text), MAX_SENTENCE).into_owned()
}

fn first_filled(texts: &[String]) -> String {
    texts.iter().find(|text| !text.is_empty()).cloned().unwrap_or_default()
}

fn text_of(map: &Map<String, Value>, name: &str) -> String {
    match map.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// `<priority>1 time host program pid event-type [fields] sentence` (RFC 5424 §6).
pub fn syslog_message(event: &Event, hostname: &str, pid: u32) -> Vec<u8> {
    let mut text = String::new();
    let priority = FACILITY * 8 + severity(event);
    let hostname = header_word(hostname, 255);
    let _ = write!(
        text,
        "<{priority}>1 {} {hostname} assimilation-cma {pid} {} [assimilation@32473",
        event.time, event.eventtype
    );
    for (name, value) in fields(event) {
        let _ = write!(text, " {name}=\"{}\"", escaped(&value));
    }
    let _ = write!(text, "] {}", sentence(event));
    text.into_bytes()
}

/// Printable ASCII without blanks, `-` when nothing is left (RFC 5424 §6.2).
fn header_word(text: &str, max: usize) -> String {
    let word: String = text.chars().filter(char::is_ascii_graphic).take(max).collect();
    if word.is_empty() { "-".into() } else { word }
}

/// RFC 5424 §6.3.3: `"`, `\` and `]` get a backslash.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '"' | '\\' | ']') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// The scalars of the event under names legal in RFC 5424 §6.3.3 (at most 32 characters).
fn fields(event: &Event) -> Vec<(String, String)> {
    environment(event)
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("ASSIM_")?.to_owned(), value)))
        .filter(|(name, _)| name.len() <= 32)
        .take(MAX_FIELDS)
        .map(|(name, value)| (name, shortened(&printable(&value), MAX_FIELD).into_owned()))
        .collect()
}

/// `NAME=value` lines; values are made printable, so none has a line break in it.
pub fn journal_message(event: &Event) -> Vec<u8> {
    let mut text = String::new();
    let _ = writeln!(text, "MESSAGE={}", sentence(event));
    let _ = writeln!(text, "PRIORITY={}", severity(event));
    let _ = writeln!(text, "SYSLOG_IDENTIFIER=assimilation-cma\nSYSLOG_FACILITY={FACILITY}");
    let _ = writeln!(text, "ASSIM_EVENTTYPE={}", event.eventtype);
    for (name, value) in fields(event) {
        let _ = writeln!(text, "ASSIM_{}={value}", name.to_ascii_uppercase());
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;
    use model::config::NotifyConfig;
    use model::paths::SitePaths;
    use serde_json::json;
    use std::time::Duration;

    fn event(kind: EventType, object: Value, extra: Value) -> Event {
        Event {
            eventid: "id".into(),
            time: Timestamp(1_795_000_000_000_000),
            eventtype: kind,
            associatedobject: object.as_object().cloned().unwrap_or_default(),
            extrainfo: extra.as_object().cloned().unwrap_or_default(),
        }
    }

    #[test]
    fn a_service_is_not_taken_for_its_host() {
        let service = json!({"nodetype": "MonitorAction", "designation": "web1", "class": "tcp", "type": "ssh", "reason": "refused"});
        assert_eq!(
            sentence(&event(EventType::Down, service, json!({}))),
            "service ssh (tcp) of web1 is down (refused)"
        );
        let host = json!({"nodetype": "Drone", "designation": "web1", "type": "ssh", "reason": "HBDEAD"});
        assert_eq!(sentence(&event(EventType::Down, host, json!({}))), "web1 is down (HBDEAD)");
        let rule = json!({"ruleid": "r1", "category": "security", "title": ""});
        let host = json!({"nodetype": "Drone", "designation": "web1"});
        assert_eq!(sentence(&event(EventType::Unwarn, host, rule)), "web1 no longer fails security rule r1");
    }

    fn rule_event() -> Event {
        event(
            EventType::Warn,
            json!({"nodetype": "Drone", "designation": "web1", "status": "up", "domain": "global"}),
            json!({"ruleid": "r1", "category": "security", "title": "a ] \"b\" \\ \n<0>forged", "values": {"$x": 1}}),
        )
    }

    #[test]
    fn programs_that_nobody_upgraded_are_a_warning() {
        let of = |severity: &str| {
            let text = "1 file changed although no package did: /usr/sbin/sshd";
            let extra = json!({"CHANGETYPE": "checksums", "severity": severity, "text": text});
            let event = event(EventType::Update, json!({"designation": "web1"}), extra);
            String::from_utf8(syslog_message(&event, "cma", 1)).unwrap()
        };
        assert!(
            of("high").starts_with("<28>1 ")
                && of("high").contains("although no package did: /usr/sbin/sshd")
        );
        assert!(of("low").starts_with("<30>1 "));
    }

    #[test]
    fn structured_data_are_escaped_and_no_line_is_forged() {
        let text = String::from_utf8(syslog_message(&rule_event(), "cma host\n", 7)).unwrap();
        assert!(
            text.starts_with(
                "<28>1 2026-11-18T11:06:40.000000Z cmahost assimilation-cma 7 warn [assimilation@32473 "
            ),
            "{text}"
        );
        assert!(text.contains(r#" title="a \] \"b\" \\ \\n<0>forged""#), "{text}");
        assert!(text.contains(" designation=\"web1\"") && !text.contains("values="), "{text}");
        assert!(text.contains("] web1 FAILED security rule r1: a ]"), "{text}");
        assert!(!text.contains('\n'), "{text:?}");
    }

    #[test]
    fn journal_lines_are_one_field_each() {
        let text = String::from_utf8(journal_message(&rule_event())).unwrap();
        assert!(text.contains("PRIORITY=4\n") && text.contains("ASSIM_RULEID=r1\n"), "{text}");
        assert!(text.lines().all(|line| line.split_once('=').is_some_and(|(name, _)| {
            name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })));
        assert_eq!(text.lines().filter(|line| line.starts_with("MESSAGE=")).count(), 1);
    }

    #[test]
    fn messages_stay_small() {
        let many: Map<String, Value> = (0..500).map(|i| (format!("k{i}"), json!("y".repeat(5000)))).collect();
        let event = event(EventType::Update, json!({"designation": "h"}), Value::Object(many));
        assert!(syslog_message(&event, "h", 1).len() < 20_000);
    }

    #[test]
    fn sentences() {
        let up = event(EventType::Up, json!({"designation": "h", "reason": "STARTUP"}), json!({}));
        assert_eq!(sentence(&up), "h is up (STARTUP)");
        let score = event(
            EventType::Unwarn,
            json!({"designation": "h"}),
            json!({"category": "security", "oldscore": 5.0, "newscore": 2.0, "discovery_type": "sshd"}),
        );
        assert_eq!(sentence(&score), "h security score of sshd went from 5.0 to 2.0");
    }

    fn context(root: &Path) -> ChannelContext {
        ChannelContext::new(SitePaths::new(root), NotifyConfig::default(), "cmahost".into())
    }

    #[test]
    fn delivery_to_a_socket_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        let site = root.path().join("d".repeat(120));
        std::fs::create_dir_all(site.join("dev")).unwrap();
        assert!(
            matches!(deliver(&context(&site), &rule_event()).outcome, Outcome::Skipped(_)),
            "never the machine's own log"
        );
        let log = UnixDatagram::bind(root.path().join("log")).unwrap();
        std::fs::rename(root.path().join("log"), site.join("dev/log")).unwrap();
        log.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(deliver(&context(&site), &rule_event()).outcome, Outcome::Delivered);
        let mut buffer = vec![0; 65536];
        let count = log.recv(&mut buffer).unwrap();
        assert!(buffer[..count].starts_with(b"<28>1 "));
        std::fs::create_dir_all(site.join("run/systemd/journal")).unwrap();
        let journal = UnixDatagram::bind(root.path().join("j")).unwrap();
        std::fs::rename(root.path().join("j"), site.join("run/systemd/journal/socket")).unwrap();
        assert_eq!(deliver(&context(&site), &rule_event()).outcome, Outcome::Delivered);
        journal.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let count = journal.recv(&mut buffer).unwrap();
        assert!(
            buffer[..count].starts_with(b"MESSAGE=web1 FAILED"),
            "the journal comes first where there is one"
        );
        drop(journal);
        assert!(matches!(deliver(&context(&site), &rule_event()).outcome, Outcome::Failed(_)));
    }
}

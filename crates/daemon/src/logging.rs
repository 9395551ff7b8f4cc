//! The log of a daemon: plain lines on standard error, which systemd hands to the journal.
//!
//! Every line is made harmless on its way out ([`model::text::printable`]) and cut at [`MAX_LINE_BYTES`], so that
//! nothing a host file or a packet contains can move a cursor, forge a second line or fill the disk at once.

use model::text::{printable, shortened};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Longest line that is written, in bytes before escaping.
pub const MAX_LINE_BYTES: usize = 8 * 1024;

/// The highest debug level of the command line.
pub const MAX_DEBUG_LEVEL: u8 = 5;

/// Crates whose messages are ours; all others are dependencies and speak up one level later.
const OURS: [&str; 9] =
    ["nanoprobe", "cma", "assimcli", "daemon", "wire", "discovery", "rules", "store", "model"];

/// How much is logged: 0 information, 1 debug of our own, 2 debug of all, 3 trace of our own, 4 and 5 everything.
#[derive(Debug, Clone)]
pub struct LogLevel(Arc<AtomicU8>);

impl LogLevel {
    /// A level without a log, for tests and for programs that print by themselves.
    pub fn new(debug_level: u8) -> Self {
        Self(Arc::new(AtomicU8::new(debug_level.min(MAX_DEBUG_LEVEL))))
    }

    pub fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes effect at once; more than [`MAX_DEBUG_LEVEL`] is taken as that.
    pub fn set(&self, debug_level: u8) {
        self.0.store(debug_level.min(MAX_DEBUG_LEVEL), Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
        tracing::info!(debug_level = self.get(), "log level changed");
    }

    pub fn raise(&self) {
        self.set(self.get().saturating_add(1));
    }

    pub fn lower(&self) {
        self.set(self.get().saturating_sub(1));
    }

    fn allows(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.limit(metadata.target())
    }

    fn limit(&self, target: &str) -> Level {
        let first = target.split("::").next().unwrap_or(target);
        match (self.get(), OURS.contains(&first)) {
            (0, true) => Level::INFO,
            (0 | 1, false) => Level::WARN,
            (1, true) | (2, _) | (3, false) => Level::DEBUG,
            _ => Level::TRACE,
        }
    }
}

/// Starts logging to standard error for the whole process. `name` begins each line unless the journal adds it.
///
/// Under systemd (`JOURNAL_STREAM` is set) lines have no time and begin with the priority, as sd-daemon(3) describes.
/// A second call in one process keeps the first log and gives a level of its own.
pub fn start(debug_level: u8, name: &'static str) -> LogLevel {
    let level = LogLevel::new(debug_level);
    let style =
        if std::env::var_os("JOURNAL_STREAM").is_some() { Style::Journal } else { Style::Plain(name) };
    let layer = fmt::layer()
        .with_ansi(false)
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_writer(Lines(style))
        .with_filter(Gate(level.clone()));
    if tracing_subscriber::registry().with(layer).try_init().is_err() {
        tracing::debug!("the log was already started");
    }
    level
}

/// Asks the level for each call site, and lets tracing cache the answer until it changes.
struct Gate(LogLevel);

impl<S> Filter<S> for Gate {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.0.allows(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.0.allows(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.0.get() {
            0 => LevelFilter::INFO,
            1 | 2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }
}

#[derive(Debug, Clone, Copy)]
enum Style {
    Plain(&'static str),
    Journal,
}

struct Lines(Style);

impl<'a> fmt::MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { style: self.0, level: Level::INFO }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        Line { style: self.0, level: *metadata.level() }
    }
}

struct Line {
    style: Style,
    level: Level,
}

impl Write for Line {
    /// The formatter hands over one whole event per call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = compose(self.style, self.level, event, &model::Timestamp::now().to_utc_text());
        // A log that cannot be written must not stop the daemon: the rest of the world still needs it.
        let _ = io::stderr().write_all(line.as_bytes());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn compose(style: Style, level: Level, event: &[u8], now: &str) -> String {
    let text = String::from_utf8_lossy(event);
    let text = shortened(text.trim_end_matches('\n'), MAX_LINE_BYTES);
    let mut line = String::with_capacity(text.len() + 64);
    let (priority, word) = match level {
        Level::ERROR => (3, "error"),
        Level::WARN => (4, "warning"),
        Level::INFO => (6, "info"),
        Level::DEBUG => (7, "debug"),
        Level::TRACE => (7, "trace"),
    };
    // Writing to a String cannot fail.
    let _ = match style {
        Style::Plain(name) => write!(line, "{now} {name} {word}: "),
        Style::Journal => write!(line, "<{priority}>"),
    };
    line.push_str(&printable(&text));
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_be_forged() {
        let evil = b"discovered field=x\n<0>panic: \x1b[2J\n";
        let line = compose(Style::Journal, Level::WARN, evil, "now");
        assert_eq!(line, "<4>discovered field=x\\n<0>panic: \\u{1b}[2J\n");
        let line = compose(Style::Plain("cma"), Level::INFO, b"started\n", "2026-01-01T00:00:00.000000Z");
        assert_eq!(line, "2026-01-01T00:00:00.000000Z cma info: started\n");
    }

    #[test]
    fn long_lines_are_cut() {
        let line = compose(Style::Journal, Level::INFO, &vec![b'x'; 1 << 20], "now");
        assert!(line.len() < MAX_LINE_BYTES + 16, "{}", line.len());
    }

    #[test]
    fn levels_admit_dependencies_later_than_ourselves() {
        let level = LogLevel::new(0);
        assert_eq!((level.limit("nanoprobe::agent"), level.limit("quinn")), (Level::INFO, Level::WARN));
        level.raise();
        assert_eq!((level.limit("wire"), level.limit("quinn")), (Level::DEBUG, Level::WARN));
        level.set(9);
        assert_eq!((level.get(), level.limit("quinn")), (MAX_DEBUG_LEVEL, Level::TRACE));
        level.set(0);
        level.lower();
        assert_eq!(level.get(), 0);
    }
}

//! Which names an evaluation used, bounded: results are stored for every rule of every host.

use serde_json::Value;
use std::io::{self, Write};

pub const MAXIMUM_RECORDED_NAMES: usize = 32;
/// As JSON text, in bytes; what is cut ends in `…`.
pub const MAXIMUM_RECORDED_VALUE_BYTES: usize = 2048;

#[derive(Default)]
pub(crate) struct Recorder {
    used: Vec<(String, Value)>,
}

impl Recorder {
    pub fn record(&mut self, prefix: &str, name: &str, value: Option<&Value>) {
        let known = |(recorded, _): &(String, Value)| recorded.strip_prefix(prefix) == Some(name);
        if self.used.len() < MAXIMUM_RECORDED_NAMES && !self.used.iter().any(known) {
            self.used.push((format!("{prefix}{name}"), value.map_or(Value::Null, cut)));
        }
    }

    /// How much is recorded now, for [`Self::forget`].
    pub fn mark(&self) -> usize {
        self.used.len()
    }

    /// Drops what was recorded from `from` on, up to `to`.
    pub fn forget(&mut self, from: usize, to: usize) {
        let to = to.min(self.used.len());
        if from < to {
            self.used.drain(from..to);
        }
    }

    pub fn into_used(self) -> Vec<(String, Value)> {
        self.used
    }
}

fn cut(value: &Value) -> Value {
    let mut beginning = Beginning(Vec::new());
    match serde_json::to_writer(&mut beginning, value) {
        Ok(()) => value.clone(),
        Err(_) => match value {
            Value::String(text) => Value::String(prefix(text) + "…"),
            _ => Value::String(prefix(&String::from_utf8_lossy(&beginning.0)) + "…"),
        },
    }
}

/// The longest beginning of at most the permitted size that ends between characters.
fn prefix(text: &str) -> String {
    text[..text.floor_char_boundary(MAXIMUM_RECORDED_VALUE_BYTES)].to_string()
}

/// Refuses more than the permitted size, so that cutting a large value costs no more than a small one.
struct Beginning(Vec<u8>);

impl Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAXIMUM_RECORDED_VALUE_BYTES.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room { Err(io::Error::other("full")) } else { Ok(bytes.len()) }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_are_bounded() {
        let mut recorder = Recorder::default();
        recorder.record("", "long", Some(&json!("ä".repeat(5000))));
        recorder.record("", "list", Some(&json!(vec!["entry"; 5000])));
        for number in 0..100 {
            recorder.record("f.", &format!("n{number}"), None);
            recorder.record("f.", &format!("n{number}"), None);
        }
        let used = recorder.into_used();
        assert_eq!(used.len(), MAXIMUM_RECORDED_NAMES);
        assert_eq!(used[2].0, "f.n0");
        assert_eq!(used[3].0, "f.n1");
        for (_, value) in &used[..2] {
            let text = value.as_str().unwrap();
            assert!(text.ends_with('…') && text.len() <= MAXIMUM_RECORDED_VALUE_BYTES + 4, "{}", text.len());
        }
    }
}

//! The chains that the kernel has loaded now.

use crate::Host;
use crate::parse::{Errors, quoted};
use model::text::shortened;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const PROGRAMS: &[&str] = &["/usr/sbin/nft", "/sbin/nft"];
const TIME_LIMIT: Duration = Duration::from_secs(5);
const MAX_OUTPUT_BYTES: u64 = 1 << 20;
const MAX_CHAINS: usize = 2000;

/// The section `running` of the document.
pub fn collect(host: &Host, errors: &mut Errors) -> Value {
    let mut data = Map::new();
    // Only root may read these; others get no word about the old iptables.
    let mut legacy: Vec<String> = Vec::new();
    for (file, family) in [("/proc/net/ip_tables_names", "ip"), ("/proc/net/ip6_tables_names", "ip6")] {
        if let Ok(bytes) = host.read_at_most(file, 4096) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            legacy.extend(text.split_whitespace().take(16).map(|table| format!("{family} {table}")));
        }
    }
    data.insert("legacy_tables".into(), json!(legacy));
    if let Some(program) = PROGRAMS.iter().find(|program| host.stat(program).is_ok()) {
        match output(program, &["-j", "list", "chains"]) {
            Ok(text) => match chains(&text) {
                Some(chains) => _ = data.insert("chains".into(), chains),
                None => errors.add(format!(
                    "{program} -j list chains gave something else than chains: {}",
                    quoted(&text)
                )),
            },
            Err(why) => errors.add(format!("{program} -j list chains: {why}")),
        }
    }
    Value::Object(data)
}

/// Whether a chain drops incoming packets that no rule lets in.
pub fn refuses_incoming(running: &Value) -> bool {
    running["chains"].as_array().is_some_and(|chains| {
        chains.iter().any(|chain| chain["hook"] == "input" && chain["policy"] == "drop")
    })
}

/// The base chains in the JSON of nft (libnftables-json(5)); none when the text is something else.
pub(super) fn chains(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    let objects = value.get("nftables")?.as_array()?;
    let base = objects.iter().filter_map(|object| {
        let chain = object.get("chain")?;
        let word = |name: &str| Some(shortened(chain.get(name)?.as_str()?, 200).into_owned());
        let hook = word("hook")?;
        Some(json!({
            "table": format!("{} {}", word("family")?, word("table")?),
            "name": word("name")?,
            "hook": hook,
            "policy": word("policy").unwrap_or_else(|| "accept".into()),
        }))
    });
    Some(base.take(MAX_CHAINS).collect())
}

/// What a program prints, within bounds of time and size.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let Some(stdout) = child.stdout.take() else { return Err("has no output".into()) };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.take(MAX_OUTPUT_BYTES + 1).read_to_end(&mut bytes);
        // Nobody listens any more when the time limit has passed.
        let _ = sender.send(read.map(|_| bytes));
    });
    let received = receiver.recv_timeout(TIME_LIMIT);
    // Also ends one that goes on printing beyond the bound; one that has ended is only waited for.
    let complete = matches!(&received, Ok(Ok(bytes)) if bytes.len() as u64 <= MAX_OUTPUT_BYTES);
    if !complete {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match received {
        Err(_) => Err(format!("did not answer within {} seconds", TIME_LIMIT.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) if !complete => Err(format!("printed more than {MAX_OUTPUT_BYTES} bytes")),
        Ok(Ok(_)) if !status.success() => Err("failed; only root may ask".into()),
        Ok(Ok(bytes)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_chains_of_the_json() {
        let text = r#"{"nftables": [{"metainfo": {"version": "1"}},
            {"chain": {"family": "inet", "table": "filter", "name": "in", "handle": 1, "type": "filter", "hook": "input",
                       "prio": 0, "policy": "drop"}},
            {"chain": {"family": "inet", "table": "filter", "name": "own", "handle": 2}}]}"#;
        let found = chains(text).unwrap();
        assert_eq!(found, json!([{"table": "inet filter", "name": "in", "hook": "input", "policy": "drop"}]));
        assert!(refuses_incoming(&json!({ "chains": found })));
        assert!(!refuses_incoming(&json!({"chains": [{"hook": "output", "policy": "drop"}]})));
        assert_eq!(chains("[]"), None);
        assert_eq!(chains("nonsense"), None);
    }

    #[test]
    fn programs_are_bounded() {
        assert_eq!(output("/bin/echo", &["a"]).unwrap(), "a\n");
        assert!(output("/bin/false", &[]).unwrap_err().contains("failed"));
        assert!(output("/none", &[]).unwrap_err().contains("cannot be started"));
        assert!(output("/bin/cat", &["/dev/zero"]).unwrap_err().contains("more than"));
        let start = std::time::Instant::now();
        assert!(output("/bin/sleep", &["60"]).unwrap_err().contains("within 5 seconds"));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}

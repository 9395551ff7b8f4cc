//! Runs the executables of the notification.d directories (contract §3).
//!
//! Each script gets the event's name and node type as arguments, a minimal environment, and the whole event as JSON
//! on its own standard input. Scripts run one after the other in the order of their file names; one that fails is
//! tried again later, those that succeeded are not.

use crate::notify::{Answer, Attempt, Channel, ChannelContext, DeliveryFuture, Outcome};
use model::Event;
use model::text::{printable, shortened};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

pub static CHANNEL: Channel = Channel {
    name: "scripts",
    description: "runs the executables of the notification.d directories",
    enabled: |config| config.scripts,
    deliver: |context, event, progress| -> DeliveryFuture {
        Box::pin(deliver(context, event, progress, None))
    },
    deliver_to: Some(|context, event, progress, only| -> DeliveryFuture {
        Box::pin(deliver(context, event, progress, Some(only)))
    }),
};

/// Bytes of a script's output that are kept for the log; the rest is read and dropped.
const KEPT_OUTPUT_BYTES: usize = 4096;
/// Longest value of one variable, in bytes; the whole event is on standard input anyway.
const MAX_VALUE_BYTES: usize = 8 * 1024;
/// Most variables that one event may set.
const MAX_VARIABLES: usize = 200;
/// How long to wait for output that comes after a script's own end, from what it left running.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);
/// Where scripts find programs.
const SCRIPT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

async fn deliver(
    context: Arc<ChannelContext>,
    event: Arc<Event>,
    mut progress: Vec<String>,
    only: Option<Vec<String>>,
) -> Attempt {
    let mut failures = Vec::new();
    let mut answers = Vec::new();
    let time_out = Duration::from_secs(context.notify.script_timeout_seconds.max(1));
    for script in scripts(&context) {
        let name = script.display().to_string();
        if progress.contains(&name) || only.as_ref().is_some_and(|only| !only.contains(&name)) {
            continue;
        }
        match run(&script, &event, time_out).await {
            Ok(output) => {
                tracing::debug!(script = %name, event = %event.eventid, %output, "notification script succeeded");
                answers.push(Answer { receiver: name.clone(), ok: true, text: output });
                progress.push(name);
            }
            Err(reason) => {
                tracing::warn!(script = %name, event = %event.eventid, %reason, "notification script failed");
                answers.push(Answer { receiver: name.clone(), ok: false, text: reason.clone() });
                failures.push(format!("{name}: {reason}"));
            }
        }
    }
    let outcome = if failures.is_empty() {
        Outcome::Delivered
    } else {
        Outcome::Failed(shortened(&failures.join("; "), 2000).into_owned())
    };
    Attempt { outcome, progress, answers }
}

/// The scripts to run, in the order of their file names across all directories.
pub fn scripts(context: &ChannelContext) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in context.site.notification_scripts() {
        // A directory that is absent has no scripts.
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        if let Some(reason) = refused_directory(&directory) {
            refuse(context, &directory, &reason);
            continue;
        }
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            match check(&path) {
                Check::Run => found.push((name, path)),
                Check::Skip => {
                    if context.first_time(format!("skip {}", path.display())) {
                        tracing::debug!(script = %path.display(), "not executable, so not run");
                    }
                }
                Check::Refuse(reason) => refuse(context, &path, &reason),
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

enum Check {
    Run,
    Skip,
    Refuse(String),
}

fn check(path: &Path) -> Check {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Check::Refuse(format!("it cannot be looked at: {error}")),
    };
    // Such as the directory of samples.
    if metadata.is_dir() {
        return Check::Skip;
    }
    if !metadata.is_file() {
        return Check::Refuse("it is not a regular file".into());
    }
    let mode = metadata.permissions().mode();
    if mode & 0o002 != 0 {
        return Check::Refuse("anyone may write it; `chmod o-w` it".into());
    }
    if let Some(reason) = foreign_owner(metadata.uid()) {
        return Check::Refuse(reason);
    }
    if mode & 0o111 == 0 { Check::Skip } else { Check::Run }
}

fn refused_directory(directory: &Path) -> Option<String> {
    let metadata = std::fs::metadata(directory).ok()?;
    if metadata.permissions().mode() & 0o002 != 0 {
        return Some("anyone may write this directory; `chmod o-w` it".into());
    }
    None
}

fn foreign_owner(uid: u32) -> Option<String> {
    let own = rustix::process::geteuid().as_raw();
    (uid != 0 && uid != own && own != 0)
        .then(|| format!("it belongs to user {uid}, who is neither root nor the CMA's user; `chown root` it"))
}

fn refuse(context: &ChannelContext, path: &Path, reason: &str) {
    if context.first_time(format!("refuse {} {reason}", path.display())) {
        tracing::warn!(path = %path.display(), %reason, "notification script refused");
    }
}

/// Runs one script to its end. The error says why it counts as failed.
async fn run(script: &Path, event: &Event, time_out: Duration) -> Result<String, String> {
    let mut child = Command::new(script)
        .arg(event.eventtype.as_str())
        .arg(event.nodetype())
        .env_clear()
        .envs(environment(event))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
    let text = serde_json::to_string(event).unwrap_or_default();
    let ended = tokio::time::timeout(time_out, converse(&mut child, text)).await;
    let Ok(ended) = ended else {
        group.kill();
        let _ = child.wait().await;
        return Err(format!("did not end within {} s and was killed", time_out.as_secs()));
    };
    // It was waited for: its number may soon be another's.
    group.0 = None;
    let (status, output) = ended.map_err(|error| format!("cannot be waited for: {error}"))?;
    if status.success() {
        return Ok(output);
    }
    let output = if output.is_empty() { String::new() } else { format!(": {output}") };
    Err(format!("{status}{output}"))
}

/// A script and all it started, as long as it was not waited for. Killed when dropped, for instance because the CMA
/// stops.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn converse(child: &mut Child, text: String) -> std::io::Result<(std::process::ExitStatus, String)> {
    let stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A script that does not read its input closes the pipe: its own business.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
    };
    let mut out = Vec::new();
    let mut err = Vec::new();
    let status = {
        let talk = async { tokio::join!(feed, keep_some(stdout, &mut out), keep_some(stderr, &mut err)) };
        tokio::pin!(talk);
        tokio::select! {
            _ = &mut talk => child.wait().await?,
            status = child.wait() => {
                let status = status?;
                // What a script leaves running may hold the pipes open for ever.
                let _ = tokio::time::timeout(OUTPUT_GRACE, &mut talk).await;
                status
            }
        }
    };
    out.extend(err);
    let output = String::from_utf8_lossy(&out);
    Ok((status, printable(shortened(output.trim(), KEPT_OUTPUT_BYTES).as_ref()).into_owned()))
}

async fn keep_some(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 4096];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        let room = KEPT_OUTPUT_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
}

/// All variables a script gets: the few it needs to work, and `ASSIM_<name>` for each scalar of the event.
pub fn environment(event: &Event) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    // The object comes last because it wins.
    for (name, value) in event.extrainfo.iter().chain(&event.associatedobject) {
        let legal = !name.is_empty()
            && name.len() <= 100
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !legal || variables.len() >= MAX_VARIABLES {
            continue;
        }
        let Some(text) = scalar(value) else { continue };
        variables.insert(format!("ASSIM_{name}"), bounded(&text));
    }
    variables.insert("ASSIM_eventid".into(), bounded(&event.eventid));
    variables.insert("ASSIM_time".into(), event.time.to_utc_text());
    for name in ["PATH", "HOME", "LANG"] {
        let value = match name {
            "PATH" => SCRIPT_PATH,
            "HOME" => "/",
            _ => "C.UTF-8",
        };
        variables.insert(name.into(), value.into());
    }
    variables
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_VALUE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::paths::SitePaths;
    use model::{EventType, Timestamp};
    use serde_json::{Map, json};
    use std::fs;
    use std::time::Instant;

    struct Rig {
        root: tempfile::TempDir,
        context: Arc<ChannelContext>,
    }

    fn rig(seconds: u64) -> Rig {
        let root = tempfile::tempdir().unwrap();
        let site = SitePaths::new(root.path());
        for directory in site.notification_scripts() {
            fs::create_dir_all(&directory).unwrap();
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let notify = model::config::NotifyConfig { script_timeout_seconds: seconds, ..Default::default() };
        Rig { context: Arc::new(ChannelContext::new(site, notify, "cmahost".into())), root }
    }

    impl Rig {
        fn script(&self, directory: usize, name: &str, body: &str, mode: u32) {
            let path = self.context.site.notification_scripts()[directory].join(name);
            let body = body.replace("@", &self.root.path().display().to_string());
            fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.root.path().join(name)).unwrap_or_default()
        }

        async fn deliver(&self, progress: Vec<String>) -> Attempt {
            deliver(self.context.clone(), Arc::new(event()), progress, None).await
        }
    }

    fn event() -> Event {
        let object = json!({"nodetype": "Drone", "designation": "web1", "status": "up", "reason": "object", "domain": "global",
            "bad name": "x", "nul": "a\0b"});
        let extra = json!({"ruleid": "nist_V-38528", "reason": "extra", "severity": "low", "values": {"$a": 1}, "list": [1], "n": 2.5,
            "truth": true, "none": null, "long": "x".repeat(100_000), "a=b": "y"});
        Event {
            eventid: "0199-id".into(),
            time: Timestamp(1_795_000_000_000_000),
            eventtype: EventType::Warn,
            associatedobject: object.as_object().cloned().unwrap_or_else(Map::new),
            extrainfo: extra.as_object().cloned().unwrap_or_else(Map::new),
        }
    }

    #[test]
    fn the_environment_has_scalars_only_and_the_object_wins() {
        let variables = environment(&event());
        let get = |name: &str| variables.get(name).map(String::as_str);
        assert_eq!(get("ASSIM_reason"), Some("object"));
        assert_eq!(get("ASSIM_ruleid"), Some("nist_V-38528"));
        assert_eq!(get("ASSIM_n"), Some("2.5"));
        assert_eq!(get("ASSIM_truth"), Some("true"));
        assert_eq!(get("ASSIM_nul"), Some("ab"));
        assert_eq!(get("ASSIM_eventid"), Some("0199-id"));
        assert_eq!(get("ASSIM_time"), Some("2026-11-18T11:06:40.000000Z"));
        assert_eq!(get("ASSIM_long").map(str::len), Some(MAX_VALUE_BYTES));
        for absent in ["ASSIM_values", "ASSIM_list", "ASSIM_none", "ASSIM_bad name", "ASSIM_a=b"] {
            assert_eq!(get(absent), None, "{absent}");
        }
        let plain: Vec<_> = variables.keys().filter(|name| !name.starts_with("ASSIM_")).collect();
        assert_eq!(plain, ["HOME", "LANG", "PATH"]);
    }

    #[tokio::test]
    async fn every_script_gets_arguments_environment_and_its_own_input_in_name_order() {
        let rig = rig(20);
        rig.script(1, "10-first", "echo first $1 $2 >> @/order; cat > @/in1; env > @/env", 0o755);
        rig.script(0, "20-second", "echo second >> @/order; cat > @/in2", 0o755);
        rig.script(1, "30-data", "echo never >> @/order", 0o644);
        let attempt = rig.deliver(vec![]).await;
        assert_eq!(attempt.outcome, Outcome::Delivered);
        assert_eq!(rig.read("order"), "first warn Drone\nsecond\n");
        for input in ["in1", "in2"] {
            assert_eq!(serde_json::from_str::<Event>(&rig.read(input)).unwrap(), event());
        }
        let environment = rig.read("env");
        assert!(environment.contains("ASSIM_designation=web1\n"), "{environment}");
        assert!(!environment.contains("CARGO"), "nothing of the CMA's own environment: {environment}");
    }

    #[tokio::test]
    async fn only_what_failed_is_run_again() {
        let rig = rig(20);
        rig.script(0, "a", "echo a >> @/order; echo 'no\x1b[2J mail' >&2; test -e @/mended", 0o755);
        rig.script(0, "b", "echo b >> @/order", 0o755);
        let first = rig.deliver(vec![]).await;
        let Outcome::Failed(reason) = &first.outcome else { panic!("{:?}", first.outcome) };
        assert!(reason.contains("exit status: 1") && reason.contains("no\\u{1b}[2J mail"), "{reason}");
        assert_eq!(first.progress.len(), 1);
        fs::write(rig.root.path().join("mended"), "").unwrap();
        let second = rig.deliver(first.progress).await;
        assert_eq!(second.outcome, Outcome::Delivered);
        assert_eq!(rig.read("order"), "a\nb\na\n");
    }

    #[tokio::test]
    async fn scripts_that_are_behind_are_left_out() {
        let rig = rig(20);
        rig.script(0, "a", "echo a >> @/order", 0o755);
        rig.script(0, "b", "echo b >> @/order", 0o755);
        let all: Vec<String> =
            scripts(&rig.context).iter().map(|script| script.display().to_string()).collect();
        let only = Some(vec![all[1].clone()]);
        let attempt = deliver(rig.context.clone(), Arc::new(event()), vec![], only).await;
        assert_eq!((rig.read("order").as_str(), attempt.progress.as_slice()), ("b\n", &all[1..]));
    }

    #[tokio::test]
    async fn a_script_that_hangs_is_killed_with_all_it_started() {
        let rig = rig(1);
        rig.script(0, "hang", "sleep 300 & echo $! > @/pid; wait", 0o755);
        rig.script(0, "later", "echo later >> @/order", 0o755);
        let begun = Instant::now();
        let attempt = rig.deliver(vec![]).await;
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert!(
            matches!(&attempt.outcome, Outcome::Failed(reason) if reason.contains("within 1 s")),
            "{attempt:?}"
        );
        assert_eq!(rig.read("order"), "later\n", "the others run all the same");
        assert!(ends(rig.read("pid").trim()).await, "the script's child survived");
    }

    #[tokio::test]
    async fn a_delivery_that_is_given_up_takes_its_processes_along() {
        let rig = rig(60);
        rig.script(0, "hang", "sleep 300 & echo $! > @/pid; wait", 0o755);
        let delivery = rig.deliver(vec![]);
        assert!(tokio::time::timeout(Duration::from_millis(1500), delivery).await.is_err());
        assert!(ends(rig.read("pid").trim()).await, "the script's child survived");
    }

    /// Whether the process is gone soon.
    async fn ends(pid: &str) -> bool {
        assert!(pid.parse::<u32>().is_ok(), "no pid was written: {pid:?}");
        for _ in 0..250 {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    #[tokio::test]
    async fn much_output_and_background_work_do_not_block() {
        let rig = rig(30);
        rig.script(0, "loud", "head -c 3000000 /dev/zero | tr '\\0' x", 0o755);
        rig.script(0, "parent", "sleep 20 & echo $! > @/pid", 0o755);
        let begun = Instant::now();
        let attempt = rig.deliver(vec![]).await;
        assert_eq!(attempt.outcome, Outcome::Delivered);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        assert!(attempt.answers.iter().all(|a| a.text.len() <= KEPT_OUTPUT_BYTES + 3), "bounded");
        if let Some(pid) = rig.read("pid").trim().parse().ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    #[tokio::test]
    async fn unsafe_files_are_refused_and_no_script_is_no_failure() {
        let rig = rig(5);
        rig.script(0, "open", "echo open >> @/order", 0o777);
        fs::create_dir(rig.context.site.notification_scripts()[0].join("directory")).unwrap();
        let attempt = rig.deliver(vec![]).await;
        assert_eq!(attempt.outcome, Outcome::Delivered);
        assert_eq!(rig.read("order"), "");
        assert!(attempt.answers.is_empty());
        let directory = &rig.context.site.notification_scripts()[1];
        rig.script(1, "good", "echo good >> @/order", 0o755);
        assert_eq!(scripts(&rig.context).len(), 1);
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(scripts(&rig.context).is_empty());
    }

    #[tokio::test]
    async fn a_script_that_cannot_start_is_a_failure() {
        let rig = rig(5);
        let path = rig.context.site.notification_scripts()[0].join("broken");
        fs::write(&path, "#!/no/such/interpreter\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let attempt = rig.deliver(vec![]).await;
        assert!(
            matches!(&attempt.outcome, Outcome::Failed(reason) if reason.contains("cannot be started")),
            "{attempt:?}"
        );
    }
}

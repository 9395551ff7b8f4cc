//! `doctor`: what is wrong with this installation, and what to do. Works without a running CMA.

use crate::client::get_within;
use crate::{Context, Failure, Finding};
use model::config::{CmaConfig, NanoprobeConfig};
use output::{Rows, text};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use wire::keys::{KeyDirectory, KeyError};

/// Free space below which the database may soon not grow, in bytes.
const LOW_SPACE_BYTES: u64 = 200 * 1024 * 1024;

/// What one check found.
struct Check {
    topic: &'static str,
    good: bool,
    /// What is so, and when it is not good what to do.
    text: String,
}

fn good(topic: &'static str, text: impl Into<String>) -> Check {
    Check { topic, good: true, text: text.into() }
}

fn bad(topic: &'static str, text: impl Into<String>) -> Check {
    Check { topic, good: false, text: text.into() }
}

pub fn run(context: &Context) -> Result<Finding, Failure> {
    let mut checks = keys(context);
    checks.extend(configuration(context));
    checks.extend(super::rules::problems(context).into_iter().map(|problem| bad("rules", problem)));
    checks.extend(space(&context.paths.state()));
    checks.extend(scripts(context));
    checks.extend(running(context));
    let mut rows = Rows::new(&["topic", "state", "detail"]);
    rows.rows = checks
        .iter()
        .map(|c| vec![json!(c.topic), json!(if c.good { "ok" } else { "PROBLEM" }), json!(c.text)])
        .collect();
    rows.print(context.format)?;
    Ok(if checks.iter().all(|c| c.good) { Finding::Nothing } else { Finding::Something })
}

fn keys(context: &Context) -> Vec<Check> {
    let directory = match KeyDirectory::open(context.paths.crypto()) {
        Ok(directory) => directory,
        Err(KeyError::NotAllowed { path, .. }) => {
            return vec![bad(
                "keys",
                format!(
                    "{0} cannot be read by this user: run doctor with sudo, or as the user that owns it (`ls -ld {0}`)",
                    path.display()
                ),
            )];
        }
        Err(error) => return vec![bad("keys", error.to_string())],
    };
    let mut checks = Vec::new();
    match directory.check() {
        Ok(problems) if problems.is_empty() => {}
        Ok(problems) => checks.extend(problems.iter().map(|p| bad("keys", p.to_string()))),
        Err(error) => checks.push(bad("keys", error.to_string())),
    }
    let publics = directory.cma_publics().map(|all| all.len()).unwrap_or(0);
    let secrets = directory.cma_secrets().map(|all| all.len()).unwrap_or(0);
    checks.push(match (publics, secrets) {
        (0, _) => bad("keys", "no CMA key here: `assimcli genkeys` on the CMA's host, a copy of its #CMA#*.pub files elsewhere"),
        (1, _) => bad("keys", "only one CMA public key: without a spare, a compromised key means visiting every host; run `assimcli genkeys`"),
        (_, 0) => good("keys", format!("{publics} CMA public keys, no secret: right for a host with a nanoprobe only")),
        (_, 1) => good("keys", format!("{publics} CMA public keys, one secret")),
        (_, _) => bad("keys", format!("{secrets} CMA secrets are on this machine: move the highest-numbered off-line (`assimcli genkeys` tells which)")),
    });
    checks
}

fn configuration(context: &Context) -> Vec<Check> {
    let cma = daemon::settings::read::<CmaConfig>(&context.paths.cma_config()).err();
    let nanoprobe = daemon::settings::read::<NanoprobeConfig>(&context.paths.nanoprobe_config()).err();
    let errors: Vec<Check> =
        cma.into_iter().chain(nanoprobe).map(|e| bad("configuration", e.to_string())).collect();
    if errors.is_empty() {
        vec![good("configuration", "cma.toml and nanoprobe.toml are readable, or absent (defaults)")]
    } else {
        errors
    }
}

fn space(state: &Path) -> Vec<Check> {
    let Ok(status) = rustix::fs::statvfs(state) else {
        return vec![bad(
            "disk",
            format!("{} is not there: no CMA or nanoprobe has run here", state.display()),
        )];
    };
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let shown = format!("{} MB free for {}", free / 1_048_576, state.display());
    if status.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return vec![bad("disk", format!("{} is on a read-only file system: remount it", state.display()))];
    }
    vec![if free < LOW_SPACE_BYTES {
        bad("disk", format!("only {shown}: make room, changes are kept on the hosts until then"))
    } else {
        good("disk", shown)
    }]
}

/// Notification scripts that will not run.
fn scripts(context: &Context) -> Vec<Check> {
    use std::os::unix::fs::PermissionsExt;
    let mut ready = 0;
    let mut checks = Vec::new();
    for directory in context.paths.notification_scripts() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.path().metadata() else { continue };
            let mode = metadata.permissions().mode();
            if !metadata.is_file() {
                continue;
            }
            if mode & 0o111 == 0 {
                checks.push(bad(
                    "scripts",
                    format!(
                        "{0} is not executable and will not run: `chmod 755 {0}`",
                        entry.path().display()
                    ),
                ));
            } else if mode & 0o002 != 0 {
                checks.push(bad(
                    "scripts",
                    format!(
                        "{0} can be changed by everybody and will not run: `chmod o-w {0}`",
                        entry.path().display()
                    ),
                ));
            } else {
                ready += 1;
            }
        }
    }
    checks.push(good(
        "scripts",
        format!("{ready} notification script{} ready", if ready == 1 { "" } else { "s" }),
    ));
    checks
}

fn running(context: &Context) -> Vec<Check> {
    let status = match get_within(context, "/v1/status", Duration::from_secs(10)) {
        Ok(status) => status,
        Err(failure) => return vec![bad("cma", format!("{}. {}", failure.message, failure.hint))],
    };
    let mut checks = vec![good(
        "cma",
        format!(
            "version {} (pid {}) listens on {}, up since {}",
            text(&status["version"]),
            text(&status["pid"]),
            text(&status["bind"]),
            local(&status["started"])
        ),
    )];
    let entries = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    checks.extend(entries("problems").iter().map(|problem| bad("cma", sentence(problem))));
    let notes = status["notes"].as_object().into_iter().flatten();
    checks.extend(notes.map(|(topic, note)| good("cma", format!("{topic}: {}", text(note)))));
    let waiting = status["outbox"].as_u64().unwrap_or(0);
    checks.push(if waiting > 1000 {
        bad(
            "alerts",
            format!("{waiting} alerts wait for delivery: `assimcli notify test` shows which channel fails"),
        )
    } else {
        good("alerts", format!("{waiting} alerts waiting"))
    });
    checks.extend(entries("failed_deliveries").iter().map(|failed| bad("alerts", sentence(failed))));
    checks
}

/// A problem as the CMA tells it: a text, or an object whose fields are worth reading.
fn sentence(problem: &Value) -> String {
    match problem {
        Value::Object(fields) => {
            fields.values().map(text).filter(|t| !t.is_empty()).collect::<Vec<_>>().join(": ")
        }
        other => text(other),
    }
}

fn local(time: &Value) -> String {
    time.as_str()
        .and_then(model::Timestamp::parse)
        .map_or_else(|| text(time), model::Timestamp::to_local_text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::paths::SitePaths;
    use output::Format;

    fn context(root: &Path) -> Context {
        Context { paths: SitePaths::new(root), format: Format::Table }
    }

    #[test]
    fn an_empty_machine_has_every_problem_and_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(folder.path());
        assert!(keys(&context).iter().any(|c| !c.good && c.text.contains("genkeys")));
        assert!(space(&context.paths.state()).iter().all(|c| !c.good));
        assert!(running(&context)[0].text.contains("cma --root"));
    }

    #[test]
    fn a_script_without_the_executable_bit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(folder.path());
        let directory = &context.paths.notification_scripts()[1];
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join("mail.sh"), "").unwrap();
        let found = scripts(&context);
        assert!(found[0].text.contains("chmod 755") && found[1].text.starts_with("0 "), "{}", found[0].text);
    }

    #[test]
    fn a_misspelt_key_in_the_configuration_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let context = context(folder.path());
        assert!(configuration(&context)[0].good);
        std::fs::create_dir_all(context.paths.at("/etc/assimilation")).unwrap();
        std::fs::write(context.paths.cma_config(), "bindd = 1\n").unwrap();
        assert!(configuration(&context)[0].text.contains("bindd"));
    }
}

//! `nanoprobe discover`: one discovery, once, on standard output. Needs neither CMA nor keys.

pub mod capture;

use crate::cli::DiscoverArgs;
use crate::collector;
use crate::executables::{self, Executable};
use discovery::{Host, Parameters};
use model::Envelope;
use model::paths::SitePaths;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Time-out of an executable that is run by hand.
const BY_HAND: Duration = Duration::from_secs(300);

/// What to print and how to end.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub output: String,
    /// For standard error.
    pub messages: String,
    pub code: u8,
}

/// Carries out the sub-command. `pretty`: for people, else one line.
pub fn discover(arguments: &DiscoverArgs, site: &SitePaths, host_root: &Path, pretty: bool) -> Answer {
    let scan = executables::scan(&directories(site));
    if arguments.list {
        return list(&scan);
    }
    let kind = arguments.kind.as_deref().unwrap_or_default();
    if arguments.explain {
        return explain(kind, &scan);
    }
    let parameters: Parameters = arguments.params.iter().cloned().collect();
    if !host_root.is_dir() {
        return failed(&format!("--host-root {}: there is no such directory", host_root.display()));
    }
    // The agent's own state: what it knows need not be found out again, and what is found here helps it.
    let host = Host::at(host_root).with_state(site.discovery_state());
    let by_hand =
        scan.executables.iter().find(|executable| executable.name == kind || executable.instance == kind);
    let native = discovery::find(kind);
    let result = match (by_hand, native) {
        (Some(executable), None) => run_executable(executable, &host, &parameters),
        (_, Some((discovery, instance))) => match unknown_parameter(discovery, &parameters) {
            Some(problem) => Err(problem),
            None => Ok(discovery::run(discovery, instance.name, &host, &parameters)),
        },
        (None, None) => Err(unknown(kind, &scan)),
    };
    match result {
        Ok(envelope) => {
            let mut messages = String::new();
            for error in &envelope.errors {
                let _ = writeln!(messages, "nanoprobe: {}", model::text::printable(error));
            }
            Answer { output: text(&envelope, pretty), messages, code: 0 }
        }
        Err(problem) => failed(&problem),
    }
}

fn failed(problem: &str) -> Answer {
    Answer {
        output: String::new(),
        messages: format!("nanoprobe: {}\n", model::text::printable(problem)),
        code: 1,
    }
}

/// Directories with executable discoveries; later ones win.
pub fn directories(site: &SitePaths) -> [std::path::PathBuf; 2] {
    [site.shared("discovery_agents"), site.site("discovery_agents")]
}

fn text(envelope: &Envelope, pretty: bool) -> String {
    if pretty
        && let Ok(value) = serde_json::to_value(envelope)
        && let Ok(text) = serde_json::to_string_pretty(&value)
    {
        return text + "\n";
    }
    envelope.canonical() + "\n"
}

fn list(scan: &executables::Scan) -> Answer {
    let mut output = String::new();
    let mut rows: Vec<[String; 3]> = Vec::new();
    for discovery in discovery::all() {
        let instances: Vec<&str> = discovery.instances.iter().map(|instance| instance.name).collect();
        let instances = if instances.is_empty() { "-".to_owned() } else { instances.join(",") };
        rows.push([discovery.name.to_owned(), discovery.description.to_owned(), instances]);
    }
    for executable in &scan.executables {
        rows.push([
            executable.name.clone(),
            executable.path.display().to_string(),
            executable.instance.clone(),
        ]);
    }
    let widths = [0, 1].map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for [kind, description, instances] in &rows {
        // Writing to a String cannot fail.
        let _ = writeln!(output, "{kind:0$}  {description:1$}  {instances}", widths[0], widths[1]);
    }
    let messages = scan.problems.iter().map(|problem| format!("nanoprobe: {problem}\n")).collect();
    Answer { output, messages, code: 0 }
}

fn explain(kind: &str, scan: &executables::Scan) -> Answer {
    if let Some((discovery, _)) = discovery::find(kind) {
        let output = discovery::reference::explanation(discovery);
        return Answer { output, messages: String::new(), code: 0 };
    }
    match scan.executables.iter().find(|executable| executable.name == kind || executable.instance == kind) {
        Some(executable) => {
            failed(&format!("{kind} is an executable, look into it: {}", executable.path.display()))
        }
        None => failed(&unknown(kind, scan)),
    }
}

fn run_executable(executable: &Executable, host: &Host, parameters: &Parameters) -> Result<Envelope, String> {
    let (result, ended) = collector::run_executable(executable, &host.name(), parameters, BY_HAND);
    let stderr = String::from_utf8_lossy(&ended.error_text);
    result.map_err(|error| {
        let last = stderr.lines().last().map(|line| format!(" ({line})")).unwrap_or_default();
        format!("{}: {error}{last}", executable.path.display())
    })
}

fn unknown_parameter(discovery: &discovery::Discovery, parameters: &Parameters) -> Option<String> {
    let known = |name: &str| discovery.parameters.iter().any(|parameter| parameter.name == name);
    let wrong = parameters.keys().find(|name| !known(name))?;
    let names: Vec<&str> = discovery.parameters.iter().map(|parameter| parameter.name).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Some(format!("{} has no parameter {wrong:?}; it has {names}", discovery.name))
}

fn unknown(kind: &str, scan: &executables::Scan) -> String {
    let names = discovery::all().iter().map(|discovery| discovery.name);
    let names = names.chain(scan.executables.iter().map(|executable| executable.name.as_str()));
    let nearest = model::text::nearest(kind, names);
    let refused = scan.problems.iter().find(|problem| problem.contains(&format!("/{kind} ")));
    let hint = match (refused, nearest) {
        (Some(problem), _) => format!("; {problem}"),
        (None, Some(name)) => format!("; did you mean {name:?}?"),
        _ => "; `nanoprobe discover --list` shows them all".into(),
    };
    format!("there is no discovery {kind:?}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn ask(site: &Path, words: &[&str]) -> Answer {
        let words = ["nanoprobe", "discover"].iter().chain(words).map(std::ffi::OsString::from);
        let crate::cli::Parsed::Run(cli) = crate::cli::parse(words) else { panic!("not taken") };
        let Some(crate::cli::Command::Discover(arguments)) = &cli.command else { panic!("not discover") };
        discover(arguments, &SitePaths::new(site), &cli.host_root, false)
    }

    #[test]
    fn a_fixture_is_discovered_by_type_and_by_instance() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/login.defs"), "PASS_MAX_DAYS 99\n").unwrap();
        for name in ["login_defs", "_init_login_defs"] {
            let answer = ask(root.path(), &[name, "--host-root", root.path().to_str().unwrap()]);
            let envelope: Envelope = serde_json::from_str(&answer.output).unwrap();
            assert_eq!((answer.code, envelope.instance.as_str()), (0, "_init_login_defs"));
            assert!(envelope.data.to_string().contains("99"), "{}", envelope.data);
        }
        fs::remove_file(root.path().join("etc/login.defs")).unwrap();
        let answer = ask(root.path(), &["login_defs", "--host-root", root.path().to_str().unwrap()]);
        assert!(answer.code == 0 && answer.messages.contains("login.defs"), "{answer:?}");
    }

    #[test]
    fn a_discovery_explains_itself() {
        let root = tempfile::tempdir().unwrap();
        for name in ["login_defs", "_init_login_defs"] {
            let answer = ask(root.path(), &[name, "--explain"]);
            assert!(answer.code == 0 && answer.output.contains("/etc/login.defs"), "{answer:?}");
            assert!(answer.output.contains("Instance _init_login_defs"), "{answer:?}");
        }
        let answer = ask(root.path(), &["login_def", "--explain"]);
        assert!(answer.code == 1 && answer.messages.contains("did you mean"), "{answer:?}");
    }

    #[test]
    fn mistakes_end_with_one_and_a_hint() {
        let root = tempfile::tempdir().unwrap();
        let answer = ask(root.path(), &["login_def"]);
        assert_eq!(answer.code, 1);
        assert!(
            answer.messages.contains("login_def\"")
                && answer.messages.contains("did you mean \"login_defs\"")
        );
        assert!(ask(root.path(), &["zzzzzzzzzzzz"]).messages.contains("--list"));
        let answer = ask(root.path(), &["login_defs", "--param", "colour=red"]);
        assert!(answer.code == 1 && answer.messages.contains("colour"), "{answer:?}");
        let nowhere = root.path().join("nowhere");
        let answer = ask(root.path(), &["os", "--host-root", nowhere.to_str().unwrap()]);
        assert!(
            answer.code == 1 && answer.messages.contains("nowhere") && answer.output.is_empty(),
            "{answer:?}"
        );
    }

    #[test]
    fn executables_are_listed_and_run() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("etc/assimilation/discovery_agents.d");
        fs::create_dir_all(&directory).unwrap();
        fs::write(
            directory.join("mine"),
            "#!/bin/sh\necho '{\"discovertype\":\"mine\",\"data\":{\"c\":\"'$COLOUR'\"}}'\n",
        )
        .unwrap();
        fs::set_permissions(directory.join("mine"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(ask(root.path(), &["--list"]).output.contains("_init_mine"));
        let answer = ask(root.path(), &["mine", "--param", "COLOUR=red"]);
        assert!(answer.output.contains(r#""data":{"c":"red"}"#), "{answer:?}");
        fs::write(directory.join("broken"), "#!/bin/sh\necho sorry >&2; exit 4\n").unwrap();
        fs::set_permissions(directory.join("broken"), fs::Permissions::from_mode(0o755)).unwrap();
        let answer = ask(root.path(), &["broken"]);
        assert!(answer.code == 1 && answer.messages.contains("sorry"), "{answer:?}");
        fs::set_permissions(directory.join("broken"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(ask(root.path(), &["broken"]).messages.contains("not executable"));
    }
}

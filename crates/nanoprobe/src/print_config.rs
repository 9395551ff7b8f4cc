//! `nanoprobe --print-config` and `nanoprobe config check`: what this nanoprobe would work with and where it comes from, and
//! what is wrong with a settings file. Neither needs a CMA or a key, and nothing is written.

use crate::cli::AgentArgs;
use crate::settings::Settings;
use model::config::NanoprobeConfig;
use model::config::check::{Checked, Finding, Grade, check as check_text};
use model::config::print::{Effective, Origin, effective};
use model::config::shape::Setting;
use toml::{Table, Value};

/// A queue that holds less than this cannot hold the largest document.
const SMALL_QUEUE_BYTES: u64 = 16 * 1024 * 1024;
/// A host name for checking a file that is perhaps another host's.
const SOME_HOST: &str = "host";

/// Everything that is wrong with the text of a settings file, in order of its lines.
pub fn check(text: &str) -> Checked<NanoprobeConfig> {
    let mut checked = check_text::<NanoprobeConfig>(text);
    let Some(config) = &checked.config else { return checked };
    let only = |change: &dyn Fn(&mut NanoprobeConfig)| {
        let mut one = NanoprobeConfig::default();
        change(&mut one);
        let merged = Settings::merge(&AgentArgs::default(), |_| None, &one, SOME_HOST);
        merged.err().map(|error| error.problem)
    };
    let mut found: Vec<(&str, Grade, Option<String>)> = vec![
        ("bind", Grade::Refused, only(&|one| one.bind.clone_from(&config.bind))),
        ("ttl", Grade::Refused, only(&|one| one.ttl = config.ttl)),
        ("debug", Grade::Refused, only(&|one| one.debug = config.debug)),
        ("name", Grade::Refused, only(&|one| one.name.clone_from(&config.name))),
    ];
    for address in &config.cmaaddr {
        found.push(("cmaaddr", Grade::Refused, only(&|one| one.cmaaddr = vec![address.clone()])));
    }
    let small =
        format!("{} bytes are less than a document may have ({SMALL_QUEUE_BYTES})", config.queue_bytes);
    found.push(("queue_bytes", Grade::Warning, (config.queue_bytes < SMALL_QUEUE_BYTES).then_some(small)));
    for (key, grade, problem) in found {
        let line = checked.lines.of(key);
        let finding = problem.map(|problem| Finding { line, key: key.into(), problem, grade });
        checked.findings.extend(finding);
    }
    checked.findings.sort_by_key(|finding| finding.line);
    checked
}

/// What `config check` prints of a file at `path`, and whether it can be used.
pub fn report(path: &str, text: Option<&str>) -> (String, bool) {
    let Some(text) = text else {
        return (format!("{path}: there is no such file, so all settings have their defaults\n"), true);
    };
    let findings = check(text).findings;
    let mut page: String = findings
        .iter()
        .map(|finding| format!("{path}: {}\n", model::text::printable(&finding.to_string())))
        .collect();
    let is_good = findings.iter().all(|finding| finding.grade == Grade::Warning);
    if is_good {
        page += &format!("{path}: can be used\n");
    }
    (page, is_good)
}

/// The settings in force as a file.
///
/// # Errors
/// What is wrong with the file at `path`, or with a flag or a variable.
pub fn print(
    path: &str,
    text: &str,
    flags: &AgentArgs,
    environment: impl Fn(&str) -> Option<String>,
    host_name: &str,
) -> Result<String, String> {
    let checked = check_text::<NanoprobeConfig>(text);
    let Some(config) = checked.config else {
        let lines: Vec<String> =
            checked.findings.iter().map(|finding| format!("{path}: {finding}")).collect();
        return Err(lines.join("\n"));
    };
    let settings =
        Settings::merge(flags, &environment, &config, host_name).map_err(|error| error.to_string())?;
    let table = |config: NanoprobeConfig| Table::try_from(config).map_err(|error| error.to_string());
    Ok(effective(&Effective {
        path,
        fields: NanoprobeConfig::SHAPE.fields(),
        config: &table(config)?,
        defaults: &table(NanoprobeConfig::default())?,
        origins: &origins(Some((&settings, flags, &environment))),
        lines: &checked.lines,
    }))
}

/// What the system calls this host.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Gives the value of a variable.
type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// What can be said by flag and by environment too, with the values in force.
fn origins(in_force: Option<(&Settings, &AgentArgs, Environment<'_>)>) -> Vec<Origin> {
    let of = |settings: &dyn Fn(&Settings) -> Option<Value>| in_force.and_then(|(all, ..)| settings(all));
    let given = |flag: fn(&AgentArgs) -> bool| in_force.is_some_and(|(_, flags, _)| flag(flags));
    let addresses = |all: &Settings| {
        Some(Value::Array(all.cma_addresses.iter().map(|address| Value::from(address.to_string())).collect()))
    };
    let number = |number: u32| Some(Value::from(i64::from(number)));
    let group = format!("[\"{}:{}\"], multicast", wire::MULTICAST, wire::PORT);
    let ttl = wire::MULTICAST_TTL.to_string();
    let any = format!("[::]:{}, or any free port if that is taken", wire::PORT);
    let rows = [
        (
            "cmaaddr",
            "--cmaaddr",
            "NANOPROBE_CMAADDR",
            group,
            of(&addresses),
            given(|f| !f.cmaaddr.is_empty()),
        ),
        (
            "bind",
            "--bind",
            "NANOPROBE_BIND",
            any,
            of(&|all| Some(all.bind?.to_string().into())),
            given(|f| f.bind.is_some()),
        ),
        // Any port stands in `bind` as the port 0.
        (
            "dynamic",
            "--dynamic",
            "NANOPROBE_DYNAMIC",
            "false".into(),
            of(&|all| Some(all.bind.is_some_and(|bind| bind.port() == 0).into())),
            given(|f| f.dynamic),
        ),
        (
            "ttl",
            "--ttl",
            "NANOPROBE_TTL",
            ttl,
            of(&|all| number(all.multicast_ttl)),
            given(|f| f.ttl.is_some()),
        ),
        (
            "debug",
            "--debug",
            "NANOPROBE_DEBUG",
            "0".into(),
            of(&|all| number(all.debug_level.into())),
            given(|f| f.debug.is_some()),
        ),
        (
            "name",
            "--name",
            "",
            "the host name".into(),
            of(&|all| Some(all.designation.as_str().into())),
            given(|f| f.name.is_some()),
        ),
        (
            "token_file",
            "--token-file",
            "",
            "/etc/assimilation/enrol.token".into(),
            in_force.and_then(|(_, flags, _)| Some(flags.token_file.as_ref()?.display().to_string().into())),
            given(|f| f.token_file.is_some()),
        ),
    ];
    rows.into_iter()
        .map(|(key, flag, variable, default, value, by_flag)| {
            let has = |variable: &str| {
                in_force.is_some_and(|(_, _, environment)| {
                    !variable.is_empty() && environment(variable).is_some_and(|text| !text.trim().is_empty())
                })
            };
            let from = if by_flag { Some(flag) } else { has(variable).then_some(variable) };
            Origin { key, flag, variable, default, value, from }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::parse_toml;
    use model::config::print::{keep_current, reference};

    const VARIABLES: [&str; 5] =
        ["NANOPROBE_CMAADDR", "NANOPROBE_BIND", "NANOPROBE_DYNAMIC", "NANOPROBE_TTL", "NANOPROBE_DEBUG"];

    fn variables(given: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
        let given: Vec<(String, String)> =
            given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        move |name| given.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn what_is_printed_gives_the_same_settings() {
        let file = "cmaaddr = [\"10.0.0.1\"]\nttl = 3\nkeepalive = true\n";
        for (variable, value) in [
            ("NANOPROBE_CMAADDR", "10.0.0.2:5 cma.example.org"),
            ("NANOPROBE_BIND", "127.0.0.1:7"),
            ("NANOPROBE_DYNAMIC", "yes"),
            ("NANOPROBE_TTL", "9"),
            ("NANOPROBE_DEBUG", "2"),
            ("UNRELATED", "x"),
        ] {
            let environment = variables(&[(variable, value)]);
            let flags = AgentArgs { name: Some("Other".into()), ..AgentArgs::default() };
            let page = print("/etc/np.toml", file, &flags, &environment, "web1").unwrap();
            let meant: NanoprobeConfig = parse_toml("np", file).unwrap();
            let meant = Settings::merge(&flags, &environment, &meant, "web1").unwrap();
            let again: NanoprobeConfig =
                parse_toml("printed", &page).unwrap_or_else(|e| panic!("{e}\n{page}"));
            let again = Settings::merge(&AgentArgs::default(), |_| None, &again, "elsewhere").unwrap();
            assert_eq!(meant, again, "{page}");
            assert_eq!(
                page.contains(&format!("This one: {variable}.")),
                VARIABLES.contains(&variable),
                "{page}"
            );
            assert!(page.contains("This one: --name.\nname = \"other\"\n"), "{page}");
            for known in VARIABLES {
                assert!(page.contains(known), "{known} is not in {page}");
            }
        }
        let page = print("/etc/np.toml", file, &AgentArgs::default(), |_| None, "web1").unwrap();
        assert!(page.contains("This one: /etc/np.toml line 2.\nttl = 3\n"), "{page}");
        assert!(page.contains("# bind is not set\n"), "a taken port may be replaced: {page}");
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let text = "cmaaddr = [\"1.2\", \"ok:1\"]\nbind = \"x\"\nttl = 300\ndebug = 6\nname = \"a b\"\nqueue_bytes = 5\n";
        let (page, is_good) = report("f", Some(text));
        let starts: Vec<&str> = page.lines().map(|line| line.split(": ").nth(1).unwrap_or("")).collect();
        assert_eq!(starts, ["line 1", "line 2", "line 3", "line 4", "line 5", "line 6"], "{page}");
        assert!(!is_good && page.contains("warning: queue_bytes"), "{page}");
        let (page, is_good) = report("f", Some("queue_byte = 5\nttl = \"3\"\n"));
        assert!(
            !is_good && page.contains("is \"queue_bytes\" meant?") && page.contains("ttl: a string"),
            "{page}"
        );
        assert_eq!(report("f", Some("ttl = 3\n")), ("f: can be used\n".into(), true));
        assert!(report("f", None).1);
    }

    #[test]
    fn the_reference_is_current() {
        let defaults = Table::try_from(NanoprobeConfig::default()).unwrap();
        let text = reference(NanoprobeConfig::SHAPE.fields(), &defaults, &origins(None));
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        keep_current(page, "nanoprobe.toml", &text, "nanoprobe the_reference_is_current").unwrap();
    }
}

//! `cma --print-config`: what this CMA would work with, and where each setting comes from.

use crate::settings::{Arguments, DEFAULT_BIND, DEFAULT_USER, DEFAULT_WEB, Settings};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use model::config::CmaConfig;
use model::config::check::check;
use model::config::print::{Effective, Origin, effective};
use model::config::shape::Setting;
use std::ffi::OsString;
use toml::{Table, Value};

/// The page for these words of a command line (the first is the name of the program), or why there is none.
///
/// # Errors
/// The file or a setting cannot be used.
pub fn print(words: impl IntoIterator<Item = OsString>) -> Result<String, String> {
    let matches = Arguments::command().try_get_matches_from(words).map_err(|error| error.to_string())?;
    let arguments = Arguments::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    let path = arguments.site().cma_config();
    let text = daemon::settings::text(&path).map_err(|error| error.to_string())?.unwrap_or_default();
    let checked = check::<CmaConfig>(&text);
    let Some(config) = checked.config else {
        let problems: Vec<String> =
            checked.findings.iter().map(|finding| format!("{}: {finding}", path.display())).collect();
        return Err(problems.join("\n"));
    };
    let settings = arguments.settings(config.clone()).map_err(|error| error.to_string())?;
    let table = |config: CmaConfig| Table::try_from(config).map_err(|error| error.to_string());
    Ok(effective(&Effective {
        path: &path.display().to_string(),
        fields: CmaConfig::SHAPE.fields(),
        config: &table(config)?,
        defaults: &table(CmaConfig::default())?,
        origins: &origins(&settings, &|id| given(&matches, id)),
        lines: &checked.lines,
    }))
}

/// What can be said by flag and by environment too; `given` tells which of them was used for a key.
pub fn origins(settings: &Settings, given: &dyn Fn(&str) -> Option<Given>) -> Vec<Origin> {
    let store = format!("sqlite:{}", settings.database.display());
    let default_store = format!("\"sqlite:{}\"", settings.site.database().display());
    let web = settings.web.map_or("none".to_owned(), |address| address.to_string());
    let quoted = |text: &str| format!("{text:?}");
    let all = [
        ("bind", "--bind", "CMA_BIND", quoted(DEFAULT_BIND), Value::from(settings.bind.to_string())),
        ("user", "--user", "CMA_USER", quoted(DEFAULT_USER), Value::from(settings.user.as_str())),
        ("debug", "--debug", "CMA_DEBUG", "0".into(), Value::from(i64::from(settings.debug))),
        ("store", "--store", "CMA_STORE", default_store, Value::from(store)),
        ("web", "--web", "CMA_WEB", quoted(DEFAULT_WEB), Value::from(web)),
    ];
    all.into_iter()
        .map(|(key, flag, variable, default, value)| Origin {
            key,
            flag,
            variable,
            default,
            value: Some(value),
            from: given(key).map(|given| match given {
                Given::Flag => flag,
                Given::Variable => variable,
            }),
        })
        .collect()
}

/// What beats the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    Flag,
    Variable,
}

fn given(matches: &ArgMatches, id: &str) -> Option<Given> {
    // An empty variable in /etc/default means that nobody has chosen.
    matches.get_one::<String>(id).filter(|value| !value.is_empty())?;
    match matches.value_source(id)? {
        ValueSource::CommandLine => Some(Given::Flag),
        ValueSource::EnvVariable => Some(Given::Variable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::config::parse_toml;
    use model::config::print::reference;
    use std::fs;

    fn words(root: &std::path::Path, more: &[&str]) -> Vec<OsString> {
        let root = root.to_str().unwrap();
        ["cma", "--root", root].iter().chain(more).map(OsString::from).collect()
    }

    #[test]
    fn what_is_printed_gives_the_same_settings() {
        let root = tempfile::tempdir().unwrap();
        let site = model::paths::SitePaths::new(root.path());
        fs::create_dir_all(site.cma_config().parent().unwrap()).unwrap();
        let file =
            "web = \"127.0.0.1:7\"\ndebug = 1\n[discovery]\nrepeat = 9\n[groups.web]\ntags = [\"web\"]\n";
        fs::write(site.cma_config(), file).unwrap();
        let words = words(root.path(), &["--bind", "127.0.0.1:5", "--print-config"]);
        let page = print(words.clone()).unwrap();
        let line =
            |part: &str| page.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{page}"));
        assert!(page.contains("This one: --bind.\nbind = \"127.0.0.1:5\"\n"), "{page}");
        assert!(line("CMA_WEB").ends_with("cma.toml line 1."), "{page}");
        assert!(
            line("CMA_USER").contains("Default: \"assimilation\"") && !line("CMA_USER").contains("This one")
        );
        // Fed back, with no flags.
        let arguments = Arguments { root: root.path().into(), ..Arguments::default() };
        let with_flag = Arguments { bind: Some("127.0.0.1:5".into()), ..arguments.clone() };
        let meant = with_flag.settings(parse_toml("cma.toml", file).unwrap()).unwrap();
        let got = arguments.settings(parse_toml("printed", &page).unwrap()).unwrap();
        let config = |settings: &Settings| CmaConfig {
            bind: None,
            user: None,
            debug: None,
            store: None,
            web: None,
            ..settings.config.clone()
        };
        assert_eq!(config(&meant), config(&got));
        assert_eq!(
            (meant.bind, meant.web, &meant.user, meant.debug, &meant.database),
            (got.bind, got.web, &got.user, got.debug, &got.database)
        );
        fs::write(site.cma_config(), "debgu = 1\n[notify]\nx = 1\n").unwrap();
        let error = print(words).unwrap_err();
        assert_eq!(error.lines().count(), 2, "{error}");
    }

    #[test]
    fn every_variable_of_the_contract_is_named() {
        let settings = Arguments::default().settings(CmaConfig::default()).unwrap();
        let origins = origins(&settings, &|_| None);
        let variables: Vec<&str> = origins.iter().map(|origin| origin.variable).collect();
        assert_eq!(variables, ["CMA_BIND", "CMA_USER", "CMA_DEBUG", "CMA_STORE", "CMA_WEB"]);
        // And is one of clap's for the flag of that name.
        let command = Arguments::command();
        for origin in &origins {
            let argument = command.get_arguments().find(|argument| argument.get_id() == origin.key).unwrap();
            assert_eq!(argument.get_env().unwrap(), origin.variable);
            assert_eq!(format!("--{}", argument.get_long().unwrap()), origin.flag);
        }
    }

    #[test]
    fn the_reference_is_current() {
        let arguments = Arguments { root: "/".into(), ..Arguments::default() };
        let settings = arguments.settings(CmaConfig::default()).unwrap();
        let defaults = Table::try_from(CmaConfig::default()).unwrap();
        let text = reference(CmaConfig::SHAPE.fields(), &defaults, &origins(&settings, &|_| None));
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        model::config::print::keep_current(page, "cma.toml", &text, "cma the_reference_is_current").unwrap();
    }
}

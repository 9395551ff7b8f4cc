//! What the agent works with: flags beat environment beats nanoprobe.toml beats default. Pure.

use crate::cli::AgentArgs;
use model::Designation;
use model::config::NanoprobeConfig;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use wire::address::{PeerAddress, parse_bind};

/// Everything the operator decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Never empty; tried in turn. A multicast group is asked with a hello.
    pub cma_addresses: Vec<PeerAddress>,
    /// `None`: `[::]:1984`, or any free port if that is taken.
    pub bind: Option<SocketAddr>,
    pub multicast_ttl: u32,
    pub debug_level: u8,
    pub designation: Designation,
    pub keepalive: bool,
    pub queue_bytes: u64,
    /// Where the enrolment token is; `None`: where the site keeps it.
    pub token_file: Option<PathBuf>,
}

/// A setting that makes no sense; names the value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {problem}")]
pub struct SettingsError {
    pub origin: String,
    pub problem: String,
}

/// What differs between the settings that an agent runs with and those that were read again, by key of nanoprobe.toml.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// What a running agent takes over: everything else.
    pub at_run_time: Vec<Difference>,
    /// What counts only after a restart: `name`, because keys, documents and the queue are those of one host, and `token_file`.
    pub after_restart: Vec<Difference>,
}

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub key: &'static str,
    pub old: String,
    pub new: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} → {}", self.key, self.old, self.new)
    }
}

impl Differences {
    pub fn is_empty(&self) -> bool {
        self.at_run_time.is_empty() && self.after_restart.is_empty()
    }

    /// What an operator has to be told about what did not change, if anything.
    pub fn needs_restart(&self) -> Option<String> {
        let named: Vec<String> = self.after_restart.iter().map(Difference::to_string).collect();
        (!named.is_empty()).then(|| format!("restart the nanoprobe for {}", named.join(", ")))
    }
}

impl Settings {
    /// Compares the settings in force with those read again.
    pub fn differences(old: &Settings, new: &Settings) -> Differences {
        // A setting added to the structure has to be put on one of the two lists, or this does not compile.
        let Settings {
            cma_addresses,
            bind,
            multicast_ttl,
            debug_level,
            designation,
            keepalive,
            queue_bytes,
            token_file,
        } = new;
        let difference = |key, before: String, after: String| {
            (before != after).then_some(Difference { key, old: before, new: after })
        };
        let addresses =
            |all: &[PeerAddress]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let file = |path: &Option<PathBuf>| {
            path.as_ref()
                .map_or_else(|| "where the site keeps it".to_owned(), |path| path.display().to_string())
        };
        let bound = |bind: &Option<SocketAddr>| {
            bind.map_or_else(
                || format!("[::]:{} or any free port", wire::PORT),
                |address| address.to_string(),
            )
        };
        let at_run_time = [
            difference("cmaaddr", addresses(&old.cma_addresses), addresses(cma_addresses)),
            difference("bind", bound(&old.bind), bound(bind)),
            difference("ttl", old.multicast_ttl.to_string(), multicast_ttl.to_string()),
            difference("debug", old.debug_level.to_string(), debug_level.to_string()),
            difference("keepalive", old.keepalive.to_string(), keepalive.to_string()),
            difference("queue_bytes", old.queue_bytes.to_string(), queue_bytes.to_string()),
        ];
        let after_restart = [
            difference("name", old.designation.to_string(), designation.to_string()),
            difference("token_file", file(&old.token_file), file(token_file)),
        ];
        Differences {
            at_run_time: at_run_time.into_iter().flatten().collect(),
            after_restart: after_restart.into_iter().flatten().collect(),
        }
    }

    /// These settings with what a running agent can take over from `new`; the rest stays until a restart.
    pub fn with_run_time_changes(&self, new: &Settings) -> Settings {
        Settings { designation: self.designation.clone(), token_file: self.token_file.clone(), ..new.clone() }
    }

    /// Merges. `environment` gives a variable's value, `host_name` is what the system calls itself.
    pub fn merge(
        flags: &AgentArgs,
        environment: impl Fn(&str) -> Option<String>,
        file: &NanoprobeConfig,
        host_name: &str,
    ) -> Result<Self, SettingsError> {
        // An empty variable in /etc/default means that nobody has chosen.
        let environment =
            |name: &str| environment(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let pick =
            |flag: &'static str, given: &Option<String>, variable: &str, filed: Option<String>, key: &str| {
                let from_flag = given.clone().map(|value| (value, format!("--{flag}")));
                let from_environment = || environment(variable).map(|value| (value, variable.to_owned()));
                let from_file = || filed.map(|value| (value, format!("{key} in nanoprobe.toml")));
                from_flag.or_else(from_environment).or_else(from_file)
            };

        let (addresses, origin) = if !flags.cmaaddr.is_empty() {
            (flags.cmaaddr.clone(), "--cmaaddr".to_owned())
        } else if let Some(text) = environment("NANOPROBE_CMAADDR") {
            let words = text.split([',', ' ', '\t']).filter(|word| !word.is_empty());
            (words.map(str::to_owned).collect(), "NANOPROBE_CMAADDR".to_owned())
        } else {
            (file.cmaaddr.clone(), "cmaaddr in nanoprobe.toml".to_owned())
        };
        let mut cma_addresses = Vec::new();
        for text in addresses {
            cma_addresses.push(text.parse::<PeerAddress>().map_err(|error| wrong(&origin, error))?);
        }
        if cma_addresses.is_empty() {
            let group = SocketAddrV4::new(wire::MULTICAST, wire::PORT);
            cma_addresses.push(PeerAddress::Socket(group.into()));
        }

        let mut bind = None;
        if let Some((text, origin)) = pick("bind", &flags.bind, "NANOPROBE_BIND", file.bind.clone(), "bind") {
            bind = Some(parse_bind(&text).map_err(|error| wrong(&origin, error))?);
        }
        // An address from a stronger place beats "any port" from a weaker one.
        let dynamic = if flags.dynamic || flags.bind.is_some() {
            flags.dynamic
        } else if let Some(text) = environment("NANOPROBE_DYNAMIC") {
            boolean(&text)
                .ok_or_else(|| wrong("NANOPROBE_DYNAMIC", format!("{text:?} is neither yes nor no")))?
        } else if environment("NANOPROBE_BIND").is_some() {
            false
        } else {
            file.dynamic.unwrap_or(false)
        };
        if dynamic {
            let mut address =
                bind.unwrap_or_else(|| SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 0));
            address.set_port(0);
            bind = Some(address);
        }

        let ttl = pick("ttl", &flags.ttl, "NANOPROBE_TTL", file.ttl.map(|n| n.to_string()), "ttl");
        let debug =
            pick("debug", &flags.debug, "NANOPROBE_DEBUG", file.debug.map(|n| n.to_string()), "debug");
        let named = pick("name", &flags.name, "", file.name.clone(), "name");
        let (name, origin) = named.unwrap_or_else(|| {
            (host_name.to_owned(), "this system's host name (choose another with --name)".to_owned())
        });
        Ok(Self {
            cma_addresses,
            bind,
            multicast_ttl: number(ttl, 255)?.unwrap_or(wire::MULTICAST_TTL),
            debug_level: number(debug, u32::from(daemon::logging::MAX_DEBUG_LEVEL))?.unwrap_or(0) as u8,
            designation: Designation::new(&name).map_err(|error| wrong(&origin, error))?,
            keepalive: file.keepalive,
            queue_bytes: file.queue_bytes,
            token_file: flags.token_file.clone().or_else(|| file.token_file.as_ref().map(PathBuf::from)),
        })
    }
}

fn number(given: Option<(String, String)>, max: u32) -> Result<Option<u32>, SettingsError> {
    let Some((text, origin)) = given else { return Ok(None) };
    match text.parse() {
        Ok(number) if number <= max => Ok(Some(number)),
        _ => Err(wrong(&origin, format!("{text:?} is no number from 0 to {max}"))),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" | "y" => Some(true),
        "0" | "no" | "false" | "off" | "n" => Some(false),
        _ => None,
    }
}

fn wrong(origin: &str, problem: impl ToString) -> SettingsError {
    SettingsError { origin: origin.into(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(flags: AgentArgs, variables: &[(&str, &str)], file: &str) -> Result<Settings, SettingsError> {
        let environment = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.to_string())
        };
        let file = model::config::parse_toml("nanoprobe.toml", file).unwrap();
        Settings::merge(&flags, environment, &file, "Web1")
    }

    #[test]
    fn flags_beat_environment_beats_file_beats_default() {
        let file = "cmaaddr = [\"file:1\"]\nttl = 5\ndebug = 1\nname = \"filed\"\nbind = \"127.0.0.1:9\"\n";
        let variables =
            [("NANOPROBE_CMAADDR", "env1:1, env2"), ("NANOPROBE_TTL", "7"), ("NANOPROBE_DEBUG", "")];
        let shown = |settings: &Settings| {
            settings.cma_addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let by_default = merge(AgentArgs::default(), &[], "").unwrap();
        assert_eq!(shown(&by_default), "224.0.2.5:1984");
        assert!(by_default.cma_addresses[0].is_multicast());
        assert_eq!(
            (by_default.multicast_ttl, by_default.bind, by_default.designation.as_str()),
            (31, None, "web1")
        );
        let by_file = merge(AgentArgs::default(), &[], file).unwrap();
        assert_eq!((shown(&by_file).as_str(), by_file.multicast_ttl, by_file.debug_level), ("file:1", 5, 1));
        let by_environment = merge(AgentArgs::default(), &variables, file).unwrap();
        assert_eq!(shown(&by_environment), "env1:1 env2:1984");
        assert_eq!((by_environment.multicast_ttl, by_environment.debug_level), (7, 1));
        let flags = AgentArgs {
            cmaaddr: vec!["1.2.3.4".into()],
            ttl: Some("9".into()),
            name: Some("N".into()),
            dynamic: true,
            ..Default::default()
        };
        let by_flag = merge(flags, &variables, file).unwrap();
        assert_eq!((shown(&by_flag).as_str(), by_flag.multicast_ttl), ("1.2.3.4:1984", 9));
        assert_eq!(
            (by_flag.designation.as_str(), by_flag.bind.unwrap().to_string().as_str()),
            ("n", "127.0.0.1:0")
        );
    }

    #[test]
    fn an_address_beats_any_port_from_a_weaker_place() {
        let port = |flags: AgentArgs, variables: &[(&str, &str)], file: &str| {
            merge(flags, variables, file).unwrap().bind.unwrap().port()
        };
        let bind = || AgentArgs { bind: Some("127.0.0.1:7".into()), ..Default::default() };
        let both = AgentArgs { dynamic: true, ..bind() };
        assert_eq!(port(bind(), &[("NANOPROBE_DYNAMIC", "yes")], "dynamic = true"), 7);
        assert_eq!(port(both, &[], ""), 0);
        let variable = ("NANOPROBE_BIND", "127.0.0.1:8");
        assert_eq!(port(AgentArgs::default(), &[variable], "dynamic = true"), 8);
        assert_eq!(port(AgentArgs::default(), &[variable, ("NANOPROBE_DYNAMIC", "1")], ""), 0);
        assert_eq!(port(AgentArgs::default(), &[("NANOPROBE_DYNAMIC", "1")], "bind = \"127.0.0.1:9\""), 0);
        assert_eq!(port(AgentArgs::default(), &[], "bind = \"127.0.0.1:9\"\ndynamic = true"), 0);
    }

    #[test]
    fn what_differs_is_sorted_by_when_it_can_count() {
        let read = |file: &str| merge(AgentArgs::default(), &[], file).unwrap();
        let old = read("");
        assert!(Settings::differences(&old, &read("")).is_empty());
        let new = read(
            "cmaaddr = [\"10.0.0.1\"]\ndebug = 2\nkeepalive = true\nqueue_bytes = 100000000\nbind = \"127.0.0.1:7\"\nttl = 3\nname = \"other\"\ntoken_file = \"/x\"\n",
        );
        let differences = Settings::differences(&old, &new);
        let keys = |all: &[Difference]| all.iter().map(|one| one.key).collect::<Vec<_>>();
        assert_eq!(
            keys(&differences.at_run_time),
            ["cmaaddr", "bind", "ttl", "debug", "keepalive", "queue_bytes"]
        );
        assert_eq!(keys(&differences.after_restart), ["name", "token_file"]);
        let told = differences.needs_restart().unwrap();
        assert!(told.contains("name: web1 → other"), "{told}");
        assert!(!told.contains("keepalive"), "{told}");
        // Taken over is exactly what the first list names.
        let taken = old.with_run_time_changes(&new);
        let left = Settings::differences(&taken, &new);
        assert!(left.at_run_time.is_empty(), "{left:?}");
        assert_eq!(left.after_restart, differences.after_restart);
        assert_eq!(Settings::differences(&old, &taken).after_restart, []);
    }

    #[test]
    fn nonsense_is_named_with_its_origin() {
        let text = |variables: &[(&str, &str)], file: &str| {
            merge(AgentArgs::default(), variables, file).unwrap_err().to_string()
        };
        assert!(text(&[("NANOPROBE_TTL", "300")], "").starts_with("NANOPROBE_TTL: \"300\""));
        assert!(text(&[("NANOPROBE_DYNAMIC", "maybe")], "").contains("maybe"));
        assert!(text(&[], "cmaaddr = [\"1.2\"]").contains("nanoprobe.toml"));
        assert!(text(&[], "name = \"a b\"").contains("a b"));
        let flags = AgentArgs { debug: Some("6".into()), ..Default::default() };
        assert!(merge(flags, &[], "").unwrap_err().to_string().starts_with("--debug: \"6\""));
    }
}

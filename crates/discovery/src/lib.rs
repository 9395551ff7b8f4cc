//! Discoveries: what a nanoprobe finds out about its host. The only crate that reads the host.
//!
//! One file of `src/all` is one discovery: its documentation, its collector, what its document means for the
//! graph, and its tests. The folder is scanned when the crate is built; there is no list to edit. A collector
//! reads through [`Host`], so the same code looks at the running system, at an image and at a test's fixture.

#[doc(hidden)]
pub mod fuzzing;
mod host;
mod idle;
pub mod link;
mod parse;
pub mod reference;
pub mod rtnetlink;
mod run;
pub mod systemd;

pub use host::{
    Attributes, Directory, Entry as DirectoryEntry, Host, HostFile, Kind, Problem, ReadError, Touched,
};
pub use idle::take_helper_time;
use model::GraphFacts;
pub use model::config::Schedule;
pub use model::envelope::Envelope;
pub use parse::mask_secrets;
pub use run::run;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The discoveries, one module each, found by `build.rs`.
pub mod all {
    include!(concat!(env!("OUT_DIR"), "/all.rs"));
}

/// The module documentation of each discovery as text, by its name in capitals (`documentation::SSHD`).
pub mod documentation {
    include!(concat!(env!("OUT_DIR"), "/documentation.rs"));
}

/// Parameters of one run by name. A collector sees all that its discovery declares: [`run`] fills in defaults.
pub type Parameters = BTreeMap<String, String>;

/// A setting that a discovery understands.
#[derive(Debug)]
pub struct Parameter {
    pub name: &'static str,
    /// One sentence for people.
    pub meaning: &'static str,
    /// Value when neither the instance nor the caller gives one.
    pub default: &'static str,
}

/// One use of a discovery on a host; its name is the key under which the document is stored.
#[derive(Debug)]
pub struct Instance {
    pub name: &'static str,
    /// Name and value; they win over the defaults of the discovery.
    pub parameters: &'static [(&'static str, &'static str)],
    /// `None`: the discovery's own.
    pub schedule: Option<Schedule>,
}

/// What, besides the passing of time, makes a discovery worth running again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A change of anything that the last run looked at ([`Host::touched`]).
    Files,
    /// A change of links, addresses or routes.
    Netlink,
    None,
}

/// What a collector brings home.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    pub data: Value,
    /// What could not be read or understood, one sentence each; the rest of `data` is good.
    pub errors: Vec<String>,
    /// Further top-level fields of the envelope.
    pub extras: Map<String, Value>,
}

impl Collected {
    pub fn new(data: Value) -> Self {
        Self { data, errors: Vec::new(), extras: Map::new() }
    }

    /// The document of a discovery whose only source cannot be read: `{"NODATA":"ERROR: Cannot read <file>"}`.
    pub fn unreadable(error: &ReadError) -> Self {
        let mut collected = Self::new(json!({"NODATA": format!("ERROR: Cannot read {}", error.path())}));
        collected.errors.push(error.to_string());
        collected
    }
}

/// The declaration of a discovery: everything the rest of the system knows about it.
pub struct Discovery {
    /// The discovery type, equal to the name of its file.
    pub name: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// What it reads, the shape of `data`, the sources, an example: `documentation::<NAME>`.
    pub documentation: &'static str,
    pub parameters: &'static [Parameter],
    /// What runs on every host without anybody asking.
    pub instances: &'static [Instance],
    pub schedule: Schedule,
    pub trigger: Trigger,
    pub collect: fn(&Host, &Parameters) -> Collected,
    /// What the document says about the graph; pure. [`no_graph`] when it says nothing.
    pub graph: fn(host: &str, &Envelope) -> GraphFacts,
}

impl Discovery {
    /// The schedule of one instance of this discovery.
    pub fn schedule_of(&self, instance: &str) -> Schedule {
        self.instance(instance).and_then(|instance| instance.schedule).unwrap_or(self.schedule)
    }

    /// It reads so much that by itself it runs only every few hours: who asks for it wants it knowingly.
    pub fn is_expensive(&self) -> bool {
        self.schedule.repeat_seconds >= 8 * 3600
    }

    fn instance(&self, name: &str) -> Option<&'static Instance> {
        self.instances.iter().find(|instance| instance.name == name)
    }
}

/// The `graph` of a discovery whose document means nothing there.
pub fn no_graph(_host: &str, _envelope: &Envelope) -> GraphFacts {
    GraphFacts::default()
}

/// All discoveries in order of name.
pub fn all() -> &'static [&'static Discovery] {
    static LIST: std::sync::LazyLock<Vec<&'static Discovery>> =
        std::sync::LazyLock::new(|| all::ALL.iter().map(|entry| entry.discovery).collect());
    &LIST
}

/// A discovery by its type, by what documents call that, or by the name of one of its instances.
///
/// By type, a discovery with a single instance gives that; one with none or several gives an instance named as
/// the type, with the parameters' defaults.
pub fn find(name: &str) -> Option<(&'static Discovery, &'static Instance)> {
    let by_instance =
        || all::ALL.iter().find_map(|entry| Some((entry.discovery, entry.discovery.instance(name)?)));
    let by_type = |entry: &'static Entry| match entry.discovery.instances {
        [only] => (entry.discovery, only),
        _ => (entry.discovery, &entry.bare),
    };
    let is_type = |entry: &&'static Entry| entry.discovery.name == name || entry.discovertype == name;
    all::ALL.iter().find(is_type).map(by_type).or_else(by_instance)
}

/// What documents of a discovery have as `discovertype`: its name, unless it declares another one (`DISCOVERTYPE`).
pub fn discovertype(discovery: &Discovery) -> &'static str {
    let entry = all::ALL.iter().find(|entry| entry.discovery.name == discovery.name);
    entry.map_or(discovery.name, |entry| entry.discovertype)
}

/// A line of the generated registry.
pub(crate) struct Entry {
    pub discovery: &'static Discovery,
    pub discovertype: &'static str,
    /// What [`find`] gives for the bare type.
    pub bare: Instance,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_discovery_is_named_as_its_file_and_documented() {
        for entry in all::ALL {
            let discovery = entry.discovery;
            assert_eq!(discovery.name, entry.bare.name);
            assert!(!discovery.description.is_empty() && !discovery.description.contains('\n'));
            assert!(discovery.documentation.len() > 100, "{}: no documentation", discovery.name);
            assert!(
                discovery.schedule.timeout_seconds >= discovery.schedule.warn_seconds,
                "{}",
                discovery.name
            );
        }
    }

    #[test]
    fn instance_names_are_legal_and_unique() {
        let mut seen = BTreeSet::new();
        for instance in all().iter().flat_map(|discovery| discovery.instances) {
            model::ids::check_instance(instance.name).unwrap();
            assert!(seen.insert(instance.name), "{} twice", instance.name);
        }
        assert!(seen.contains("_init_os") && seen.contains("_auto_proc_sys"), "{seen:?}");
    }

    #[test]
    fn instances_use_declared_parameters_only() {
        for discovery in all() {
            for (name, _) in discovery.instances.iter().flat_map(|instance| instance.parameters) {
                assert!(discovery.parameters.iter().any(|p| p.name == *name), "{}: {name}", discovery.name);
            }
        }
    }

    #[test]
    fn discoveries_are_found_by_type_and_by_instance() {
        assert_eq!(find("os").unwrap().1.name, "_init_os");
        assert_eq!(find("_init_os").unwrap().0.name, "os");
        assert_eq!(find("fileattrs").unwrap().1.name, "fileattrs");
        let (discovery, instance) = find("bin_fileattrs").unwrap();
        assert_eq!((discovery.name, instance.name), ("fileattrs", "bin_fileattrs"));
        for name in ["switch", "__LinkDiscovery"] {
            let (discovery, instance) = find(name).unwrap();
            assert_eq!((discovery.name, instance.name), ("switch", "switch"));
            assert_eq!(discovertype(discovery), "__LinkDiscovery");
        }
        assert_eq!((find("ARP").unwrap().0.name, discovertype(find("os").unwrap().0)), ("arp", "os"));
        assert!(find("nonsense").is_none());
    }
}

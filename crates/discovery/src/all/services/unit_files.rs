//! What `systemctl is-enabled` says of each unit, from the unit files alone (systemd.unit(5), systemctl(1)).

use crate::parse::Errors;
use crate::{Directory, DirectoryEntry, Host, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// Who makes the files of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// `systemctl enable` and `systemctl mask` write here.
    Configuration,
    /// The same with `--runtime`.
    Runtime,
    Transient,
    Generated,
    Vendor,
}

/// In order of precedence: the first file of a name counts.
const DIRECTORIES: [(&str, Class); 13] = [
    ("/etc/systemd/system.control", Class::Configuration),
    ("/run/systemd/system.control", Class::Runtime),
    ("/run/systemd/transient", Class::Transient),
    ("/run/systemd/generator.early", Class::Generated),
    ("/etc/systemd/system", Class::Configuration),
    // Of portable services.
    ("/etc/systemd/system.attached", Class::Configuration),
    ("/run/systemd/system", Class::Runtime),
    ("/run/systemd/system.attached", Class::Runtime),
    ("/run/systemd/generator", Class::Generated),
    ("/usr/local/lib/systemd/system", Class::Vendor),
    ("/usr/lib/systemd/system", Class::Vendor),
    ("/lib/systemd/system", Class::Vendor),
    ("/run/systemd/generator.late", Class::Generated),
];
/// Devices, scopes and slices are not started because somebody wants them.
const SUFFIXES: [&str; 8] =
    [".service", ".socket", ".timer", ".target", ".path", ".mount", ".automount", ".swap"];
const MAX_UNITS: usize = 20_000;
const MAX_UNIT_FILE_BYTES: u64 = 256 * 1024;
/// An alias of an alias, and so on.
const MAX_ALIASES: usize = 8;

/// What is known of a unit without asking the service manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// As `systemctl is-enabled` prints it; of an alias the state of the unit that it stands for.
    pub enabled: &'static str,
    pub alias_of: Option<String>,
}

/// The unit files of a host.
#[derive(Debug, Default)]
pub(super) struct UnitFiles {
    files: BTreeMap<String, UnitFile>,
    /// Unit → started on behalf of another one by a link of the configuration (`false`) or at run time (`true`).
    wanted: BTreeSet<(String, bool)>,
    /// Other names that the configuration gives a unit: (unit, name, at run time).
    names: BTreeSet<(String, String, bool)>,
    /// Directories with drop-ins: `rescue.service.d`.
    drop_ins: BTreeSet<String>,
    /// No unit directory is there at all.
    pub is_absent: bool,
}

#[derive(Debug)]
struct UnitFile {
    class: Class,
    path: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Masked,
    Link(String),
    File(Install),
}

/// What the section `[Install]` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Install {
    pub has_rules: bool,
    pub has_also: bool,
    pub aliases: Vec<String>,
}

impl UnitFiles {
    pub fn read(host: &Host, errors: &mut Errors) -> Self {
        let mut units = UnitFiles { is_absent: true, ..Self::default() };
        // With /lib a link to /usr/lib both are the same directory.
        let is_merged = host.read_link("/lib").is_ok();
        for (path, class) in DIRECTORIES {
            if is_merged && path.starts_with("/lib/") {
                continue;
            }
            let directory = match host.directory(path) {
                Ok(directory) => directory,
                Err(error) if error.is_missing() => continue,
                Err(error) => {
                    errors.add(error.to_string());
                    continue;
                }
            };
            units.is_absent &= class != Class::Vendor;
            match directory.entries() {
                Ok(entries) => entries.iter().for_each(|entry| units.entry(host, class, &directory, entry)),
                Err(error) => errors.add(error.to_string()),
            }
        }
        if units.files.len() >= MAX_UNITS {
            errors.add(format!("more than {MAX_UNITS} units: the rest is left out"));
        }
        units
    }

    fn entry(&mut self, host: &Host, class: Class, directory: &Directory<'_>, entry: &DirectoryEntry) {
        let name = entry.name();
        if entry.kind() == Kind::Directory {
            if [".wants", ".requires", ".upholds"].iter().any(|end| name.ends_with(end)) {
                if matches!(class, Class::Configuration | Class::Runtime)
                    && let Ok(links) = directory.subdirectory(entry.raw())
                {
                    self.links(host, class == Class::Runtime, &links);
                }
            } else if name.ends_with(".d") {
                self.drop_ins.insert(name.into_owned());
            }
            return;
        }
        if !is_unit(&name) {
            return;
        }
        let path = directory.path_of(entry.raw());
        let content = match entry.kind() {
            Kind::Symlink => match host.read_link(&path) {
                Ok(target) if target == "/dev/null" => Content::Masked,
                Ok(target) => Content::Link(target),
                Err(_) => return,
            },
            _ => match directory.open(entry.raw()).and_then(|file| file.bytes(MAX_UNIT_FILE_BYTES)) {
                // systemd takes an empty file for a mask as well.
                Ok(bytes) if bytes.is_empty() => Content::Masked,
                Ok(bytes) => Content::File(install(&String::from_utf8_lossy(&bytes))),
                Err(_) => return,
            },
        };
        if let Content::Link(target) = &content
            && matches!(class, Class::Configuration | Class::Runtime)
            && base_name(target) != name
        {
            let of = base_name(target).to_owned();
            self.names.insert((of, name.clone().into_owned(), class == Class::Runtime));
        }
        if self.files.len() < MAX_UNITS && !self.files.contains_key(name.as_ref()) {
            self.files.insert(name.into_owned(), UnitFile { class, path, content });
        }
    }

    /// The links of a directory `x.wants`: their names are units to start, their targets the files of these.
    fn links(&mut self, host: &Host, is_runtime: bool, directory: &Directory<'_>) {
        for entry in directory.entries().unwrap_or_default() {
            let name = entry.name();
            if entry.kind() != Kind::Symlink || !is_unit(&name) || self.wanted.len() >= MAX_UNITS {
                continue;
            }
            if let Ok(target) = host.read_link(&directory.path_of(entry.raw())) {
                let target = base_name(&target);
                if is_unit(target) {
                    self.wanted.insert((target.to_owned(), is_runtime));
                }
            }
            self.wanted.insert((name.into_owned(), is_runtime));
        }
    }

    /// All units that have a file, and the instances of templates that are enabled.
    pub fn units(&self) -> BTreeMap<String, Unit> {
        let instances = self
            .wanted
            .iter()
            .map(|(name, _)| name)
            .filter(|name| template_of(name).is_some_and(|template| self.files.contains_key(&template)));
        let names: BTreeSet<&String> = self.files.keys().chain(instances).collect();
        names.into_iter().filter_map(|name| Some((name.clone(), self.unit(name)?))).collect()
    }

    /// The file that makes up a unit, aliases followed.
    pub fn path(&self, name: &str) -> Option<&str> {
        let name = self.resolved(name)?;
        self.files.get(&name).map(|file| file.path.as_str())
    }

    /// Whether there are drop-ins for a unit.
    pub fn has_drop_ins(&self, name: &str) -> bool {
        self.drop_ins.contains(&format!("{name}.d"))
    }

    fn unit(&self, name: &str) -> Option<Unit> {
        let resolved = self.resolved(name)?;
        let alias_of =
            (resolved != name && template_of(name).as_ref() != Some(&resolved)).then(|| resolved.clone());
        let file = self.files.get(&resolved)?;
        let state = match &file.content {
            Content::Masked if file.path.starts_with("/run/") => "masked-runtime",
            Content::Masked => "masked",
            _ if file.class == Class::Transient => "transient",
            _ if file.class == Class::Generated => "generated",
            content => {
                // An instance is enabled by its own name only.
                let asked = if alias_of.is_some() { &resolved } else { name };
                self.regular(asked, content, file.path.starts_with("/run/"))
            }
        };
        Some(Unit { enabled: state, alias_of })
    }

    fn regular(&self, name: &str, content: &Content, is_runtime: bool) -> &'static str {
        let nothing = Install::default();
        let (install, is_link) = match content {
            Content::File(install) => (install, false),
            _ => (&nothing, true),
        };
        let is_enabled = |runtime: bool| {
            self.wanted.contains(&(name.to_owned(), runtime))
                || install
                    .aliases
                    .iter()
                    .any(|alias| self.names.contains(&(name.to_owned(), alias.clone(), runtime)))
        };
        match () {
            () if is_enabled(false) => "enabled",
            () if is_enabled(true) => "enabled-runtime",
            () if is_link && is_runtime => "linked-runtime",
            () if is_link => "linked",
            () if install.has_rules => "disabled",
            () if install.has_also => "indirect",
            () => "static",
        }
    }

    /// The name of the file that makes up a unit: the end of a chain of aliases, or the template of an instance.
    /// A link to a file of the same name elsewhere is the end: that is a unit linked in.
    fn resolved(&self, name: &str) -> Option<String> {
        let mut name = name.to_owned();
        for _ in 0..MAX_ALIASES {
            match self.files.get(&name) {
                None => name = template_of(&name)?,
                Some(UnitFile { content: Content::Link(target), .. }) => {
                    let target = base_name(target);
                    if target == name || !is_unit(target) {
                        return Some(name);
                    }
                    name = target.to_owned();
                }
                Some(_) => return Some(name),
            }
        }
        None
    }
}

fn is_unit(name: &str) -> bool {
    name.len() <= 255 && SUFFIXES.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `getty@.service` of `getty@tty1.service`.
fn template_of(name: &str) -> Option<String> {
    let (prefix, rest) = name.split_once('@')?;
    let (instance, suffix) = rest.rsplit_once('.')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{suffix}"))
}

/// Logical lines of a unit file with their section: comments gone, continued lines joined.
pub(super) fn assignments(text: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
            continue;
        }
        let mut line = line.to_owned();
        while line.ends_with('\\') {
            line.pop();
            // Comments among continued lines do not end them.
            match lines.find(|next| !next.starts_with(['#', ';'])) {
                Some(next) => {
                    line.push(' ');
                    line.push_str(next);
                }
                None => break,
            }
        }
        if let Some((key, value)) = line.split_once('=') {
            found.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

pub(super) fn install(text: &str) -> Install {
    let mut install = Install::default();
    // Most files need not be taken apart.
    if !text.contains("[Install]") {
        return install;
    }
    for (section, key, value) in assignments(text) {
        if section != "Install" || value.is_empty() {
            continue;
        }
        match key.as_str() {
            "WantedBy" | "RequiredBy" | "UpheldBy" => install.has_rules = true,
            "Alias" => {
                install.has_rules = true;
                install.aliases.extend(value.split_whitespace().take(100).map(str::to_owned));
            }
            "Also" => install.has_also = true,
            _ => {}
        }
    }
    install
}

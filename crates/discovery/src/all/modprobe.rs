//! Which kernel modules may be loaded, are loaded, and are there at all: modprobe.d(5), `/proc/modules`,
//! `/lib/modules/*/modules.dep` and `modules.builtin`.
//!
//! `data` is module → what is known. Names are written with `_`, as the kernel does: `usb_storage`. Listed are the
//! modules that modprobe.d or the kernel command line names, those that are loaded, and those of the parameter
//! `modules`, which tell all five truth values.
//!
//! | field | meaning |
//! |---|---|
//! | `disabled` | it cannot be loaded: `install` names a program that does nothing (true(1), false(1)), the kernel command line has it in `module_blacklist=`, or it is not there |
//! | `blacklisted` | not loaded for the sake of hardware or a file system that turns up; by name it still can be |
//! | `loaded` | it is in the kernel now (false in a file tree) |
//! | `available` | one of the installed kernels has it as a file |
//! | `builtin` | it is part of a kernel (modules.builtin, `/sys/module`, `/proc/filesystems`): nothing can keep it out |
//! | `install` | the command that is run in place of loading it, the first that fits counts |
//! | `options` | its parameters, from all lines that fit, in order |
//! | `aliases` | other names for it in modprobe.d |
//!
//! Of files with one name in `/etc/modprobe.d`, `/run/modprobe.d`, `/usr/local/lib/modprobe.d`,
//! `/usr/lib/modprobe.d` and `/lib/modprobe.d` the first counts. In a container there is no data: the kernel belongs
//! to the machine.
//! ```json
//! {"cramfs":{"disabled":true,"blacklisted":false,"loaded":false,"available":true,"builtin":false,"install":"/bin/false"}}
//! ```

use crate::parse::container::container_of;
use crate::parse::drop_ins::drop_ins;
use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files, cut_at_hash, mask_secrets, quoted};
use crate::{
    Collected, Discovery, Host, Instance, Parameter, Parameters, Schedule, Trigger, documentation, no_graph,
};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

pub static DISCOVERY: Discovery = Discovery {
    name: "modprobe",
    description: "Kernel modules that are forbidden, loaded, available",
    documentation: documentation::MODPROBE,
    parameters: &[Parameter {
        name: MODULES,
        meaning: "modules of which everything is told, separated by blanks",
        default: "atm bluetooth can cfg80211 cramfs dccp firewire_core freevxfs hfs hfsplus iwlmvm iwlwifi jffs2 \
                  mac80211 overlay rds sctp squashfs tipc udf usb_storage uvcvideo vfat",
    }],
    instances: &[Instance { name: "_init_modprobe", parameters: &[], schedule: None }],
    // Loading a module is no event of a file: a look at /proc/modules every five minutes has to do.
    schedule: Schedule { repeat_seconds: 300, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const MODULES: &str = "modules";
const DIRECTORIES: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];
/// Where the modules of all installed kernels lie; the second for systems with a separate /usr.
const KERNELS: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];
const MAX_KERNELS: usize = 16;
const MAX_MODULES: usize = 20_000;
/// Programs in the place of loading that do nothing.
const NOTHING: [&str; 5] = ["/bin/false", "/bin/true", "/usr/bin/false", "/usr/bin/true", "/dev/null"];

/// More patterns are left out: each is compared with each module.
const MAX_PATTERNS: usize = 500;

/// What `install` or `options` says, in order, by the module it is about.
#[derive(Debug, Default)]
struct ByModule {
    texts: Vec<String>,
    /// Positions in `texts`.
    plain: BTreeMap<String, Vec<usize>>,
    patterns: Vec<(String, usize)>,
}

impl ByModule {
    /// `false`: there are too many patterns.
    fn add(&mut self, module: String, text: &str) -> bool {
        if !module.contains(['*', '?', '[']) {
            self.plain.entry(module).or_default().push(self.texts.len());
        } else if self.patterns.len() < MAX_PATTERNS {
            self.patterns.push((module, self.texts.len()));
        } else {
            return false;
        }
        self.texts.push(text.to_owned());
        true
    }

    /// The texts for a module, in order.
    fn of(&self, name: &str) -> Vec<&str> {
        let by_pattern = self.patterns.iter().filter(|(pattern, _)| parse::matches(pattern, name));
        let mut places: Vec<usize> = by_pattern.map(|(_, place)| *place).collect();
        places.extend(self.plain.get(name).into_iter().flatten());
        places.sort_unstable();
        places.iter().filter_map(|place| self.texts.get(*place)).map(String::as_str).collect()
    }
}

/// What the files of modprobe.d and the kernel command line say.
#[derive(Debug, Default)]
struct Rules {
    install: ByModule,
    options: ByModule,
    blacklist: BTreeSet<String>,
    /// Refused by the kernel itself.
    refused: BTreeSet<String>,
    aliases: BTreeMap<String, BTreeSet<String>>,
}

/// The modules that the installed kernels have.
#[derive(Debug, Default)]
struct Kernels {
    available: BTreeSet<String>,
    builtin: BTreeSet<String>,
}

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    if let Some(kind) = container_of(host) {
        let sentence =
            format!("this is a container ({kind}): the kernel and its modules belong to the machine");
        return not_there(sentence);
    }
    let mut errors = Errors::default();
    let mut rules = Rules::default();
    for file in drop_ins(host, &DIRECTORIES, ".conf", &mut errors) {
        match host.text(&file) {
            Ok(text) => rules.add(&text, &file, &mut errors),
            Err(reason) => errors.unread(&reason),
        }
    }
    let mut loaded = BTreeSet::new();
    if host.is_running_system() {
        if let Ok(text) = host.text("/proc/cmdline") {
            rules.add_command_line(&text);
        }
        // A kernel without loadable modules has no such file.
        if let Ok(text) = host.text("/proc/modules") {
            let names = text.lines().filter_map(|line| line.split_whitespace().next());
            loaded.extend(names.take(MAX_MODULES).filter_map(canonical));
        }
    }
    let wanted: BTreeSet<String> = parameters
        .get(MODULES)
        .map_or("", String::as_str)
        .split_whitespace()
        .take(MAX_MODULES)
        .filter_map(canonical)
        .collect();
    let mut interesting = wanted;
    interesting.extend(loaded.iter().cloned());
    interesting.extend(rules.named());
    let mut kernels = Kernels::of(host, &interesting, &mut errors);
    if host.is_running_system() {
        kernels.add_running(host, &interesting, &loaded);
    }
    let data = interesting.iter().map(|name| (name.clone(), rules.about(name, &loaded, &kernels))).collect();
    parse::collected((Value::Object(data), errors.into_list()))
}

impl Rules {
    fn add(&mut self, text: &str, file: &str, errors: &mut Errors) {
        for (number, line) in parse::joined_lines(text, file, errors, without_comment) {
            let line = line.trim();
            let (command, rest) = word(line);
            let (name, rest) = word(rest);
            if !matches!(
                command,
                "install"
                    | "options"
                    | "blacklist"
                    | "alias"
                    | "remove"
                    | "softdep"
                    | "weakdep"
                    | "config"
                    | "include"
            ) {
                errors.at(file, number, format_args!("{} is not a command of modprobe.d", quoted(command)));
                continue;
            }
            let Some(module) = canonical(name) else {
                errors.at(file, number, format_args!("{} is not the name of a module", quoted(name)));
                continue;
            };
            let takes_more = matches!(command, "install" | "options" | "alias");
            if takes_more && rest.is_empty() {
                errors.at(file, number, format_args!("{command} {} lacks its second argument", quoted(name)));
                continue;
            }
            let is_taken = match command {
                "install" => self.install.add(module.clone(), rest),
                "options" => self.options.add(module.clone(), rest),
                _ => true,
            };
            if !is_taken {
                errors.at(
                    file,
                    number,
                    format_args!("more than {MAX_PATTERNS} patterns, {} is left out", quoted(name)),
                );
            }
            match command {
                "blacklist" => {
                    self.blacklist.insert(module);
                }
                "alias" => {
                    if let Some(target) = canonical(rest) {
                        self.aliases.entry(target).or_default().insert(name.to_owned());
                    }
                }
                _ => {}
            }
        }
    }

    /// `module_blacklist=` of the kernel itself and `modprobe.blacklist=`, which kmod reads.
    fn add_command_line(&mut self, text: &str) {
        for argument in text.split_whitespace().take_while(|argument| *argument != "--") {
            let (set, list) = match argument.split_once('=') {
                Some(("module_blacklist", list)) => (&mut self.refused, list),
                Some(("modprobe.blacklist" | "modprobe_blacklist", list)) => (&mut self.blacklist, list),
                _ => continue,
            };
            set.extend(list.split(',').filter_map(canonical));
        }
    }

    /// The modules named without a pattern.
    fn named(&self) -> BTreeSet<String> {
        let named = self.install.plain.keys().chain(self.options.plain.keys());
        let all = named.chain(&self.blacklist).chain(&self.refused).chain(self.aliases.keys());
        all.filter(|name| !name.contains(['*', '?', '['])).take(MAX_MODULES).cloned().collect()
    }

    fn about(&self, name: &str, loaded: &BTreeSet<String>, kernels: &Kernels) -> Value {
        let (available, builtin) = (kernels.available.contains(name), kernels.builtin.contains(name));
        let is_loaded = loaded.contains(name);
        // kmod runs the first command that fits.
        let install = self.install.of(name).first().copied();
        let does_nothing = install
            .is_some_and(|command| NOTHING.contains(&word(command).0) && !command.contains([';', '|', '&']));
        let absent = !available && !builtin && !is_loaded;
        let disabled = does_nothing || self.refused.contains(name) || absent;
        let mut fields = Map::new();
        for (field, truth) in [
            ("disabled", disabled && !builtin),
            ("blacklisted", self.blacklist.contains(name)),
            ("loaded", is_loaded),
            ("available", available),
            ("builtin", builtin),
        ] {
            fields.insert(field.into(), truth.into());
        }
        if let Some(command) = install {
            fields.insert("install".into(), mask_secrets(command).as_ref().into());
        }
        let options = self.options.of(name);
        if !options.is_empty() {
            fields.insert("options".into(), mask_secrets(&options.join(" ")).as_ref().into());
        }
        if let Some(aliases) = self.aliases.get(name) {
            fields.insert("aliases".into(), aliases.iter().cloned().collect());
        }
        Value::Object(fields)
    }
}

impl Kernels {
    /// Which of the modules in `interesting` the installed kernels have.
    fn of(host: &Host, interesting: &BTreeSet<String>, errors: &mut Errors) -> Kernels {
        let mut kernels = Kernels::default();
        let releases = KERNELS.iter().find_map(|folder| Some((folder, host.list(folder).ok()?)));
        let Some((folder, releases)) = releases else { return kernels };
        for release in releases.iter().take(MAX_KERNELS) {
            for (file, set) in
                [("modules.dep", &mut kernels.available), ("modules.builtin", &mut kernels.builtin)]
            {
                let file = format!("{folder}/{release}/{file}");
                match host.text(&file) {
                    Ok(text) => {
                        let paths = text.lines().map(|line| line.split(':').next().unwrap_or(line));
                        set.extend(paths.filter_map(name_of).filter(|name| interesting.contains(name)));
                    }
                    // Firmware and headers leave directories without modules behind.
                    Err(reason) if reason.absent => {}
                    Err(reason) => errors.unread(&reason),
                }
            }
        }
        kernels
    }
}

impl Kernels {
    /// A kernel without a list of its parts (one made by hand, or started from outside of a virtual machine) shows
    /// some of them: what is in use and was not loaded is built in.
    fn add_running(&mut self, host: &Host, interesting: &BTreeSet<String>, loaded: &BTreeSet<String>) {
        let shown = host.list("/sys/module").unwrap_or_default();
        let file_systems = host.text("/proc/filesystems").unwrap_or_default();
        let file_systems = file_systems.lines().filter_map(|line| line.split_whitespace().next_back());
        let names = shown.iter().map(String::as_str).chain(file_systems).filter_map(canonical);
        self.builtin.extend(names.filter(|name| {
            interesting.contains(name) && !loaded.contains(name) && !self.available.contains(name)
        }));
    }
}

/// `kernel/fs/cramfs/cramfs.ko.xz` → `cramfs`
fn name_of(path: &str) -> Option<String> {
    let file = path.trim().rsplit('/').next()?;
    let name = file.split_once(".ko").map(|(name, _)| name)?;
    canonical(name)
}

/// The spelling of the kernel, for names and patterns; `-` and `_` are the same, but not within brackets.
fn canonical(name: &str) -> Option<String> {
    let legal = |b: u8| b.is_ascii_graphic() && !b"'\"\\;|&<>`$".contains(&b);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(legal) {
        return None;
    }
    let mut in_brackets = false;
    let spelled = name.chars().map(|c| {
        in_brackets = c == '[' || (in_brackets && c != ']');
        if c == '-' && !in_brackets { '_' } else { c }
    });
    Some(spelled.collect())
}

/// kmod knows comments on lines of their own only; a command may contain `#`.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with('#') { cut_at_hash(line) } else { line }
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, collect};
    use serde_json::json;

    const FILE: &str = "/etc/modprobe.d/a.conf";

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn many_rules_for_many_modules_take_no_time_to_speak_of() {
        let start = std::time::Instant::now();
        let text: String =
            (0..30_000).map(|n| format!("options m{n} a=1\ninstall m{n}* /bin/true\n")).collect();
        let found = collect(&DISCOVERY, &[(FILE, text.as_bytes())]);
        assert_eq!(found.data["m17"]["options"], "a=1");
        assert_eq!(found.data["m17"]["install"], "/bin/true");
        assert!(found.errors[0].contains("patterns"), "{:?}", found.errors.first());
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
    }

    fn about(text: &str, name: &str, available: &[&str]) -> Value {
        let mut errors = Errors::default();
        let mut rules = Rules::default();
        rules.add(text, FILE, &mut errors);
        assert!(errors.into_list().is_empty(), "{text}");
        let kernels = Kernels {
            available: available.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        rules.about(name, &BTreeSet::new(), &kernels)
    }

    #[test]
    fn a_module_is_disabled_by_a_command_that_does_nothing() {
        for (text, disabled) in [
            ("install usb-storage /bin/false\n", true),
            ("install usb_storage /bin/true # never\n", true),
            ("install usb-* /usr/bin/false\n", true),
            ("install usb-storage /bin/false\ninstall usb-storage /sbin/modprobe -i usb_storage\n", true),
            ("install usb-storage /sbin/modprobe -i usb_storage\ninstall usb-storage /bin/false\n", false),
            ("install usb-storage /bin/true; /sbin/modprobe -i usb_storage\n", false),
            ("blacklist usb-storage\n", false),
            ("", false),
        ] {
            let found = about(text, "usb_storage", &["usb_storage"]);
            assert_eq!(found["disabled"], disabled, "{text}");
            assert_eq!(found["blacklisted"], text.starts_with("blacklist"), "{text}");
            assert_eq!(found["available"], true);
        }
        assert_eq!(about("", "usb_storage", &[])["disabled"], true);
    }

    #[test]
    fn options_and_aliases_are_told() {
        let text = "options snd-* a=1\noptions snd_hda power=0 \\\n  secret=x\nalias sound-0 snd-hda\n";
        let found = about(text, "snd_hda", &["snd_hda"]);
        assert_eq!(found["options"], "a=1 power=0  secret=***");
        assert_eq!(found["aliases"], json!(["sound-0"]));
    }

    #[test]
    fn the_kernel_command_line_forbids_too() {
        let mut rules = Rules::default();
        rules.add_command_line("ro module_blacklist=a-b,c modprobe.blacklist=d -- module_blacklist=e\n");
        let kernels =
            Kernels { available: ["a_b", "c", "d", "e"].map(str::to_owned).into(), ..Default::default() };
        let about = |name| rules.about(name, &BTreeSet::new(), &kernels);
        assert_eq!((&about("a_b")["disabled"], &about("d")["disabled"]), (&json!(true), &json!(false)));
        assert_eq!((&about("d")["blacklisted"], &about("e")["disabled"]), (&json!(true), &json!(false)));
    }

    #[test]
    fn the_running_kernel_shows_what_is_built_in() {
        let tree = tempfile::tempdir().unwrap();
        for directory in ["sys/module/overlay", "sys/module/sctp", "proc"] {
            std::fs::create_dir_all(tree.path().join(directory)).unwrap();
        }
        std::fs::write(tree.path().join("proc/filesystems"), "nodev\ttmpfs\n\tvfat\n").unwrap();
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let mut kernels = Kernels::default();
        kernels.add_running(
            &Host::at(tree.path()),
            &names(&["overlay", "sctp", "vfat", "udf"]),
            &names(&["sctp"]),
        );
        assert_eq!(kernels.builtin, names(&["overlay", "vfat"]));
    }

    #[test]
    fn what_is_part_of_the_kernel_cannot_be_disabled() {
        let mut errors = Errors::default();
        let mut rules = Rules::default();
        rules.add("install udf /bin/false\n", FILE, &mut errors);
        let kernels = Kernels { builtin: ["udf".to_owned()].into(), ..Default::default() };
        assert_eq!(rules.about("udf", &BTreeSet::new(), &kernels)["disabled"], false);
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let mut errors = Errors::default();
        let mut rules = Rules::default();
        rules.add("install cramfs\nfrobnicate x\nblacklist\nblacklist udf\n", FILE, &mut errors);
        assert_eq!(rules.blacklist, ["udf".to_owned()].into());
        let expected = [
            "/etc/modprobe.d/a.conf line 1: install 'cramfs' lacks its second argument",
            "/etc/modprobe.d/a.conf line 2: 'frobnicate' is not a command of modprobe.d",
            "/etc/modprobe.d/a.conf line 3: '' is not the name of a module",
        ];
        assert_eq!(errors.into_list(), expected);
    }

    #[test]
    fn a_container_has_no_modules_of_its_own() {
        let found = collect(&DISCOVERY, &[("/.dockerenv", b"")]);
        assert!(found.data["NODATA"].as_str().unwrap().contains("docker"), "{}", found.data);
        assert!(found.errors.is_empty());
    }

    #[test]
    fn hostile_texts() {
        let tokens = &["install", "blacklist", "alias", " ", "\n", "*", "[", "-", "#", "\\", "ä", "cramfs"];
        check_any_text(FILE, tokens, |text| {
            let mut errors = Errors::default();
            let mut rules = Rules::default();
            rules.add(text, FILE, &mut errors);
            (rules.about("cramfs", &BTreeSet::new(), &Kernels::default()), errors.into_list())
        });
    }
}

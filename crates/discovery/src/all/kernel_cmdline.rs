//! The arguments of the kernel: those it was started with and those it will be started with the next time. See
//! bootparam(7), kernel-command-line(7) and the kernel's admin guide.
//!
//! | member | from |
//! |---|---|
//! | `running` | `/proc/cmdline`; absent for a file tree |
//! | `next_boot` | what every entry of the boot loader has, with the same value |
//! | `some_entries` | argument → list of values that only some of the entries have (`true` for one without value) |
//! | `entries` | how many entries there are |
//! | `from` | the file that tells the entries: grub.cfg, the directory of loader entries, or /etc/default/grub |
//! | `default_grub` | the arguments in `/etc/default/grub` and `/etc/default/grub.d/*.cfg`, which make the entries when `update-grub` or `grub2-mkconfig` runs |
//!
//! `running`, `next_boot` and `default_grub` are argument → `true`, a number, a text, or a list when it is repeated.
//! What stands after `--` is for init and left out. Entries are looked for in `/boot/grub/grub.cfg`,
//! `/boot/grub2/grub.cfg` and `/boot/loader/entries/*.conf` (with `kernelopts` of grubenv); recovery entries count.
//! Secrets are `***`. In a container there is no data: the kernel belongs to the machine.
//! ```json
//! {"running":{"audit":1,"ro":true,"root":"/dev/sda1"},"next_boot":{"audit":1,"ro":true,"root":"/dev/sda1"},
//!  "some_entries":{"quiet":[true]},"entries":2,"from":"/boot/grub/grub.cfg"}
//! ```

use crate::parse::container::container_of;
use crate::parse::grub::{self, words};
use crate::parse::presence::not_there;
use crate::parse::{self, Errors, Files, accumulate, collected, glob, integer, is_secret_name, mask_secrets};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value};

pub static DISCOVERY: Discovery = Discovery {
    name: "kernel_cmdline",
    description: "Arguments of the running kernel and of the next boot",
    documentation: documentation::KERNEL_CMDLINE,
    parameters: &[],
    instances: &[Instance { name: "_init_kernel_cmdline", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const GRUB_CFG: [&str; 2] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];
const LOADER_ENTRIES: [&str; 3] = ["/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries"];
const GRUBENV: [&str; 3] = ["/boot/grub2/grubenv", "/boot/grub/grubenv", "/boot/efi/EFI/redhat/grubenv"];
const DEFAULT_GRUB: &str = "/etc/default/grub";
const MAX_ARGUMENTS: usize = 1000;
const MAX_ENTRIES: usize = 256;

fn collect(host: &Host, _: &Parameters) -> Collected {
    if let Some(kind) = container_of(host) {
        let sentence =
            format!("this is a container ({kind}): the kernel and its arguments belong to the machine");
        return not_there(sentence);
    }
    let mut errors = Errors::default();
    let mut data = Map::new();
    if host.is_running_system() {
        match host.text("/proc/cmdline") {
            Ok(text) => {
                data.insert("running".into(), Value::Object(arguments(&text)));
            }
            Err(reason) => errors.unread(&reason),
        }
    }
    let default_grub = default_grub(host, &mut errors);
    let entries = entries(host, &mut errors);
    if let Some((from, lines)) = entries {
        let parsed: Vec<Map<String, Value>> = lines.iter().map(|line| arguments(line)).collect();
        let (every, some) = compared(&parsed);
        data.insert("next_boot".into(), Value::Object(every));
        if !some.is_empty() {
            data.insert("some_entries".into(), Value::Object(some));
        }
        data.insert("entries".into(), parsed.len().into());
        data.insert("from".into(), from.into());
    } else if let Some(wanted) = &default_grub {
        data.insert("next_boot".into(), Value::Object(wanted.clone()));
        data.insert("from".into(), DEFAULT_GRUB.into());
    }
    if let Some(wanted) = default_grub {
        data.insert("default_grub".into(), Value::Object(wanted));
    }
    let errors = errors.into_list();
    if data.is_empty() {
        let sentence = if errors.is_empty() {
            "no boot loader is known here: there is no grub.cfg and there are no loader entries"
        } else {
            "ERROR: Cannot read the configuration of the boot loader"
        };
        data.insert("NODATA".into(), sentence.into());
    }
    collected((Value::Object(data), errors))
}

/// A command line as argument → value.
fn arguments(text: &str) -> Map<String, Value> {
    let mut found = Map::new();
    for word in words(text).into_iter().take_while(|word| word != "--").take(MAX_ARGUMENTS) {
        let (name, value) = match word.split_once('=') {
            Some((name, _)) if is_secret_name(name) || name.ends_with(".key") => (name, Value::from("***")),
            Some((name, value)) => {
                (name, integer(value).map_or_else(|| mask_secrets(value).into(), Value::from))
            }
            None => (word.as_str(), Value::Bool(true)),
        };
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            continue;
        }
        // Given twice alike it is still one.
        if found.get(name) != Some(&value) {
            accumulate(&mut found, name, value);
        }
    }
    found
}

/// What all entries have alike, and the values of what only some have.
fn compared(entries: &[Map<String, Value>]) -> (Map<String, Value>, Map<String, Value>) {
    let (mut every, mut some): (Map<String, Value>, Map<String, Value>) = (Map::new(), Map::new());
    for entry in entries {
        for (name, value) in entry {
            if every.contains_key(name) {
                continue;
            }
            if entries.iter().all(|other| other.get(name) == Some(value)) {
                every.insert(name.clone(), value.clone());
                continue;
            }
            if let Value::Array(values) =
                some.entry(name.as_str()).or_insert_with(|| Value::Array(Vec::new()))
                && !values.contains(value)
            {
                values.push(value.clone());
            }
        }
    }
    (every, some)
}

/// The command lines of all entries of the boot loader, and what told them.
fn entries(host: &Host, errors: &mut Errors) -> Option<(String, Vec<String>)> {
    let mut from_grub = None;
    for file in GRUB_CFG {
        match host.text(file) {
            Ok(text) => {
                let found = grub::configuration(&text, file, errors);
                let lines: Vec<String> = found.entries.into_iter().map(|entry| entry.arguments).collect();
                if !lines.is_empty() {
                    return Some((file.to_owned(), lines));
                }
                from_grub = Some(file);
                break;
            }
            Err(reason) if reason.absent => {}
            Err(reason) => errors.unread(&reason),
        }
    }
    let kernelopts = from_grub.and_then(|_| kernelopts(host)).unwrap_or_default();
    for directory in LOADER_ENTRIES {
        let Ok(files) = glob(host, &format!("{directory}/*.conf")) else { continue };
        let mut lines = Vec::new();
        for file in files.iter().take(MAX_ENTRIES) {
            match host.text(file) {
                Ok(text) => lines.extend(loader_entry(&text, file, &kernelopts, errors)),
                Err(reason) => errors.unread(&reason),
            }
        }
        if !lines.is_empty() {
            return Some((directory.to_owned(), lines));
        }
    }
    None
}

/// The options of one loader entry (Boot Loader Specification); `None` for one that starts no kernel.
fn loader_entry(text: &str, file: &str, kernelopts: &str, errors: &mut Errors) -> Option<String> {
    let mut options = String::new();
    let mut starts_linux = false;
    for (_, line) in parse::lines(text, file, errors) {
        let (name, value) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
        match name {
            "linux" | "uki" => starts_linux = true,
            "options" => {
                options.push(' ');
                options.push_str(value.trim());
            }
            _ => {}
        }
    }
    // Red Hat's GRUB replaces its variables; $tuned_params is a list that most hosts do not have.
    starts_linux.then(|| options.replace("$kernelopts", kernelopts).replace("$tuned_params", ""))
}

fn kernelopts(host: &Host) -> Option<String> {
    GRUBENV.iter().find_map(|file| {
        let text = host.text(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("kernelopts=")).map(str::to_owned)
    })
}

/// The arguments that `/etc/default/grub` and its drop-ins ask for; later assignments replace earlier ones.
fn default_grub(host: &Host, errors: &mut Errors) -> Option<Map<String, Value>> {
    let mut files = vec![DEFAULT_GRUB.to_owned()];
    files.extend(glob(host, "/etc/default/grub.d/*.cfg").unwrap_or_default());
    let (mut seen, mut linux, mut default) = (false, String::new(), String::new());
    for file in files {
        let text = match host.text(&file) {
            Ok(text) => text,
            Err(reason) if reason.absent => continue,
            Err(reason) => {
                errors.unread(&reason);
                continue;
            }
        };
        seen = true;
        for (_, line) in parse::lines(&text, &file, errors) {
            let Some((name, value)) = line.trim().split_once('=') else { continue };
            let (variable, name) = match name {
                "GRUB_CMDLINE_LINUX" => (&mut linux, "GRUB_CMDLINE_LINUX"),
                "GRUB_CMDLINE_LINUX_DEFAULT" => (&mut default, "GRUB_CMDLINE_LINUX_DEFAULT"),
                _ => continue,
            };
            let value = words(value).join(" ");
            // Drop-ins add to what is there by naming the variable itself.
            let value =
                value.replace(&format!("${{{name}}}"), variable).replace(&format!("${name}"), variable);
            if value.len() <= parse::MAX_LINE_BYTES {
                *variable = value;
            }
        }
    }
    (seen && !(linux.is_empty() && default.is_empty())).then(|| arguments(&format!("{linux} {default}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_any_text, check_fixtures, collect};
    use serde_json::json;

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn arguments_have_their_types() {
        let found = arguments(
            "root=UUID=ab-1 ro audit=1 pti=on x=\"a b\" console=tty0 console=ttyS0,9600 ro luks.key=/k dhcp.password=z -- y\n",
        );
        let expected = json!({"root": "UUID=ab-1", "ro": true, "audit": 1, "pti": "on", "x": "a b",
            "console": ["tty0", "ttyS0,9600"], "luks.key": "***", "dhcp.password": "***"});
        assert_eq!(Value::Object(found), expected);
    }

    #[test]
    fn only_what_every_entry_has_is_certain() {
        let entries = ["a=1 b c=1", "a=1 c=2", "a=1 c=2 d"].map(arguments);
        let (every, some) = compared(&entries);
        assert_eq!(Value::Object(every), json!({"a": 1}));
        assert_eq!(Value::Object(some), json!({"b": [true], "c": [1, 2], "d": [true]}));
    }

    #[test]
    fn drop_ins_add_to_the_variable() {
        let files = [
            (DEFAULT_GRUB, b"GRUB_CMDLINE_LINUX=\"a=1\"\nGRUB_CMDLINE_LINUX_DEFAULT='quiet'\n".as_slice()),
            ("/etc/default/grub.d/50-x.cfg", b"GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX audit=1\"\n"),
        ];
        let found = collect(&DISCOVERY, &files);
        assert_eq!(found.data["next_boot"], json!({"a": 1, "audit": 1, "quiet": true}));
        assert_eq!(found.data["from"], DEFAULT_GRUB);
        assert!(found.data.get("running").is_none() && found.errors.is_empty());
    }

    #[test]
    fn containers_and_empty_trees_say_why_there_is_nothing() {
        let why =
            |files: &[(&str, &[u8])]| collect(&DISCOVERY, files).data["NODATA"].as_str().unwrap().to_owned();
        assert!(why(&[("/.dockerenv", b"")]).contains("docker"));
        assert!(why(&[("/etc/hostname", b"")]).contains("no boot loader"));
        assert!(why(&[("/boot/grub/grub.cfg/x", b"")]).starts_with("ERROR"));
    }

    #[test]
    fn hostile_texts() {
        let tokens = &["linux ", "menuentry ", "'", "\"", "=", "\\", "\n", " ", "--", "audit", "1", "ä"];
        check_any_text("/boot/grub/grub.cfg", tokens, |text| {
            let mut errors = Errors::default();
            let found = grub::configuration(text, "/boot/grub/grub.cfg", &mut errors);
            let entries: Vec<_> = found.entries.iter().map(|entry| arguments(&entry.arguments)).collect();
            (Value::Object(compared(&entries).0), errors.into_list())
        });
        check_any_text("", tokens, |text| (Value::Object(arguments(text)), Vec::new()));
    }
}

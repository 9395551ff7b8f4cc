//! Who may change how this host starts: the boot loader and its password.
//!
//! | member | meaning |
//! |---|---|
//! | `loader` | `grub2`, `systemd-boot` or `extlinux` |
//! | `firmware` | `uefi` or `bios`: how this host starts; for a file tree `uefi` when GRUB is on an EFI partition |
//! | `bios`, `uefi` | the one of them that applies: `{"config", "superuser_password"}`; the password as `pbkdf2` or `plain`, absent without one |
//! | `superuser_name` | the first of GRUB's superusers; absent without a password |
//! | `superusers` | all of them |
//! | `entries`, `unrestricted_entries` | entries of GRUB's menu, and those that start without a password |
//! | `files` | the files that hold the configuration or the password; who may read them is told by `sysfile_fileattrs` |
//! | `editor` | systemd-boot lets anyone at the console change the kernel's arguments (loader.conf) |
//!
//! Read are grub.cfg, custom.cfg and user.cfg in `/boot/grub`, `/boot/grub2` and `/boot/efi/EFI/*`, and loader.conf. Hashes are never
//! delivered. In a container and where no boot loader is known there is no data.
//! ```json
//! {"loader":"grub2","firmware":"uefi","uefi":{"config":"/boot/grub/grub.cfg","superuser_password":"pbkdf2"},
//!  "superuser_name":"boss","superusers":["boss"],"entries":3,"unrestricted_entries":1}
//! ```

use crate::parse::container::container_of;
use crate::parse::grub::{Password, configuration, user_cfg_has_password};
use crate::parse::presence::not_there;
use crate::parse::{Errors, Files, collected, glob};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "bootloader",
    description: "Boot loader, its superusers and whether they have a password",
    documentation: documentation::BOOTLOADER,
    parameters: &[],
    instances: &[Instance { name: "_init_bootloader", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, warn_seconds: 5, timeout_seconds: 60 },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const GRUB: [&str; 2] = ["/boot/grub", "/boot/grub2"];
const EFI: &str = "/boot/efi/EFI/*";
const LOADER_CONF: [&str; 3] =
    ["/boot/loader/loader.conf", "/efi/loader/loader.conf", "/boot/efi/loader/loader.conf"];
const EXTLINUX: [&str; 2] = ["/boot/extlinux/extlinux.conf", "/boot/extlinux.conf"];
const MAX_DIRECTORIES: usize = 20;

fn collect(host: &Host, _: &Parameters) -> Collected {
    if let Some(kind) = container_of(host) {
        let sentence = format!("this is a container ({kind}): it is not started by a boot loader");
        return not_there(sentence);
    }
    let mut errors = Errors::default();
    let on_efi = glob(host, EFI).unwrap_or_default();
    let directories =
        || GRUB.iter().map(|d| (*d).to_owned()).chain(on_efi.iter().take(MAX_DIRECTORIES).cloned());
    let mut grub = Grub::default();
    for directory in directories() {
        grub.look_at(host, &directory, &mut errors);
    }
    let uefi = if host.is_running_system() {
        host.stat("/sys/firmware/efi").is_ok()
    } else {
        grub.files.iter().any(|file| file.starts_with("/boot/efi/"))
    };
    let mut data = Map::new();
    if let Some(config) = grub.config.clone() {
        data = grub.document(&config, uefi);
    } else if let Some((file, text)) = LOADER_CONF.iter().find_map(|file| Some((file, host.text(file).ok()?)))
    {
        data.insert("loader".into(), "systemd-boot".into());
        data.insert("editor".into(), editor(&text).into());
        data.insert("files".into(), json!([file]));
    } else if let Some(file) = EXTLINUX.iter().find(|file| host.stat(file).is_ok()) {
        data.insert("loader".into(), "extlinux".into());
        data.insert("files".into(), json!([file]));
    }
    let errors = errors.into_list();
    if data.is_empty() {
        let sentence = if errors.is_empty() {
            "no boot loader is known here: there is neither a grub.cfg nor a loader.conf"
        } else {
            "ERROR: Cannot read the configuration of the boot loader"
        };
        data.insert("NODATA".into(), sentence.into());
    } else {
        data.insert("firmware".into(), if uefi { "uefi" } else { "bios" }.into());
    }
    collected((Value::Object(data), errors))
}

#[derive(Debug, Default)]
struct Grub {
    /// The main configuration, which has the entries.
    config: Option<String>,
    superusers: Vec<String>,
    passwords: Vec<(String, Password)>,
    entries: usize,
    unrestricted: usize,
    user_cfg: bool,
    files: Vec<String>,
}

impl Grub {
    fn look_at(&mut self, host: &Host, directory: &str, errors: &mut Errors) {
        let mut read = |name: &str| {
            let file = format!("{directory}/{name}");
            match host.text(&file) {
                Ok(text) => {
                    self.files.push(file.clone());
                    Some((file, text))
                }
                Err(reason) => {
                    if !reason.absent {
                        errors.unread(&reason);
                    }
                    None
                }
            }
        };
        let user_cfg = read("user.cfg");
        // GRUB reads it after its own file (/etc/grub.d/41_custom).
        let custom = read("custom.cfg");
        let Some((file, text)) = read("grub.cfg") else {
            self.user_cfg |= user_cfg.is_some_and(|(_, text)| user_cfg_has_password(&text));
            return;
        };
        self.user_cfg |= user_cfg.is_some_and(|(_, text)| user_cfg_has_password(&text));
        let found = configuration(&text, &file, errors);
        let custom = custom.map(|(file, text)| configuration(&text, &file, errors)).unwrap_or_default();
        // The file on an EFI partition often only leads to the one in /boot.
        if self.config.is_none() || (self.entries == 0 && found.all_entries > 0) {
            self.config = Some(file);
        }
        for found in [found, custom] {
            if !found.superusers.is_empty() {
                self.superusers = found.superusers;
            }
            self.passwords.extend(found.passwords);
            self.entries += found.all_entries;
            self.unrestricted += found.unrestricted_entries;
        }
    }

    fn document(self, config: &str, uefi: bool) -> Map<String, Value> {
        let mut data = Map::new();
        let kind = |name: &str| {
            self.passwords.iter().filter(|(user, _)| user == name).find_map(|(_, kind)| match kind {
                Password::Pbkdf2 => Some("pbkdf2"),
                Password::Plain => Some("plain"),
                Password::FromUserCfg => self.user_cfg.then_some("pbkdf2"),
            })
        };
        // A superuser without a password cannot log in; one with a password who is none cannot change anything.
        let with_password: Vec<&String> =
            self.superusers.iter().filter(|name| kind(name).is_some()).collect();
        let mut section = Map::from_iter([("config".to_owned(), Value::from(config))]);
        if let Some(first) = with_password.first() {
            section.insert("superuser_password".into(), kind(first).into());
            data.insert("superuser_name".into(), first.as_str().into());
            data.insert("superusers".into(), json!(with_password));
        }
        data.insert(if uefi { "uefi" } else { "bios" }.into(), Value::Object(section));
        data.insert("loader".into(), "grub2".into());
        data.insert("entries".into(), self.entries.into());
        data.insert("unrestricted_entries".into(), self.unrestricted.into());
        data.insert("files".into(), self.files.into());
        data
    }
}

/// `editor` of loader.conf(5) is on unless it is switched off; the last line counts.
fn editor(text: &str) -> bool {
    let last = text
        .lines()
        .filter_map(|line| line.trim().split_once(char::is_whitespace))
        .rfind(|(k, _)| *k == "editor");
    !last.is_some_and(|(_, value)| {
        matches!(value.trim().to_ascii_lowercase().as_str(), "no" | "false" | "0" | "off" | "n" | "f")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_fixtures, collect};

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn a_password_needs_a_superuser_and_the_reverse() {
        let of = |text: &str| collect(&DISCOVERY, &[("/boot/grub/grub.cfg", text.as_bytes())]).data;
        let found = of("set superusers=\"boss\"\npassword_pbkdf2 boss grub.pbkdf2.sha512.1.A.B\n");
        assert_eq!(found["bios"]["superuser_password"], "pbkdf2");
        assert_eq!(found["superuser_name"], "boss");
        assert!(!found.to_string().contains("grub.pbkdf2"), "{found}");
        for text in [
            "set superusers=\"boss\"\n",
            "password_pbkdf2 boss grub.pbkdf2.sha512.1.A.B\n",
            "set superusers=\"boss\"\npassword_pbkdf2 other grub.pbkdf2.sha512.1.A.B\n",
            "set superusers=\"root\"\npassword_pbkdf2 root ${GRUB2_PASSWORD}\n",
        ] {
            let found = of(text);
            assert!(found["bios"].get("superuser_password").is_none(), "{text}");
            assert!(found.get("superuser_name").is_none(), "{text}");
        }
        assert_eq!(of("set superusers=a\npassword a geheim\n")["bios"]["superuser_password"], "plain");
    }

    #[test]
    fn what_the_administrator_added_counts() {
        let files = [
            ("/boot/grub/grub.cfg", b"menuentry 'x' {\n}\n".as_slice()),
            (
                "/boot/grub/custom.cfg",
                b"set superusers=\"boss\"\npassword_pbkdf2 boss grub.pbkdf2.sha512.1.A.B\n",
            ),
        ];
        assert_eq!(collect(&DISCOVERY, &files).data["superuser_name"], "boss");
        assert!(collect(&DISCOVERY, &files[..1]).data.get("superuser_name").is_none());
    }

    #[test]
    fn other_loaders_and_none() {
        let conf = |text: &str| collect(&DISCOVERY, &[("/boot/loader/loader.conf", text.as_bytes())]).data;
        assert_eq!(conf("timeout 3\n")["editor"], true);
        assert_eq!(conf("editor yes\neditor  no\n")["editor"], false);
        assert_eq!(collect(&DISCOVERY, &[("/boot/extlinux.conf", b"")]).data["loader"], "extlinux");
        let none = collect(&DISCOVERY, &[("/etc/hostname", b"")]);
        assert!(none.data["NODATA"].as_str().unwrap().contains("grub.cfg") && none.errors.is_empty());
        let unreadable = collect(&DISCOVERY, &[("/boot/grub/grub.cfg/x", b"")]);
        assert!(
            unreadable.data["NODATA"].as_str().unwrap().starts_with("ERROR") && unreadable.errors.len() == 1
        );
        assert!(
            collect(&DISCOVERY, &[("/.dockerenv", b"")]).data["NODATA"].as_str().unwrap().contains("docker")
        );
    }
}

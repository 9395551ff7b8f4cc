//! The texts that people see before and after they log in: `/etc/issue`, `/etc/issue.net`, `/etc/motd`, the file
//! of sshd's Banner, and the banner of GNOME's log-in screen.
//!
//! `data` is file → `{"os_info": "absent" or "present", "tells": [...], "empty": true or false, "size_bytes": N,
//! "excerpt": "..."}`. A text tells about the operating system when it has one of the escapes `\m`, `\r`, `\s`, `\v`
//! and `\S`, which agetty(8) replaces by machine, kernel and system, or the distribution's name (`ID` of os-release(5));
//! `tells` lists what was found. A file that is not there is not in the data. `sshd_banner` is the path that sshd
//! shows, `gdm` is `{"enabled": ..., "text": ...}` of `/etc/gdm3/greeter.dconf-defaults` and `/etc/dconf/db/gdm.d`.
//!
//! ```json
//! {"/etc/issue": {"os_info": "present", "tells": ["\\n", "debian"], "empty": false, "size_bytes": 27,
//!  "excerpt": "Debian GNU/Linux 12 \\n \\l"}, "sshd_banner": "/etc/issue.net"}
//! ```

use crate::all::sshd;
use crate::parse::drop_ins::drop_ins;
use crate::parse::ini::{Continued, Style, entries};
use crate::parse::{self, Errors};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use model::text::shortened;
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "banners",
    description: "Texts shown before and after log-in",
    documentation: documentation::BANNERS,
    parameters: &[],
    instances: &[Instance { name: "_init_banners", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 900, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILES: &[&str] = &["/etc/issue", "/etc/issue.net", "/etc/motd"];
const MAX_BYTES: u64 = 1 << 20;
const GDM_DEFAULTS: &str = "/etc/gdm3/greeter.dconf-defaults";
const GDM_DIRECTORY: &str = "/etc/dconf/db/gdm.d";
const LOGIN_SCREEN: &str = "org/gnome/login-screen";

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let mut data = Map::new();
    let distribution = distribution(host);
    let (sshd, _) = sshd::read(host, sshd::MAIN_FILE);
    let banner = sshd["Banner"].as_str().filter(|path| path.starts_with('/') && path.len() < 4096);
    for path in FILES.iter().copied().chain(banner.filter(|path| !FILES.contains(path))) {
        match host.read_at_most(path, MAX_BYTES) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                data.insert(path.to_owned(), describe(&text, distribution.as_deref()));
            }
            Err(error) if error.is_missing() => {}
            Err(error) => errors.add(format!("Cannot read {error}")),
        }
    }
    if let Some(path) = banner {
        data.insert("sshd_banner".into(), Value::from(path));
    }
    if let Some(gdm) = gdm(host, &mut errors) {
        data.insert("gdm".into(), gdm);
    }
    parse::collected((Value::Object(data), errors.into_list()))
}

/// `ID` of os-release(5), in lower case.
fn distribution(host: &Host) -> Option<String> {
    let text = host.read_text("/etc/os-release").or_else(|_| host.read_text("/usr/lib/os-release")).ok()?;
    let id = text.lines().find_map(|line| line.strip_prefix("ID="))?;
    let id = id.trim().trim_matches(['"', '\'']).to_ascii_lowercase();
    (2..=64).contains(&id.len()).then_some(id)
}

fn describe(text: &str, distribution: Option<&str>) -> Value {
    let mut tells: Vec<String> = ["\\m", "\\r", "\\s", "\\v", "\\S"]
        .into_iter()
        .filter(|escape| text.contains(escape))
        .map(str::to_owned)
        .collect();
    if let Some(name) = distribution
        && text.to_ascii_lowercase().contains(name)
    {
        tells.push(name.to_owned());
    }
    let words: Vec<&str> = text.split_whitespace().take(200).collect();
    json!({
        "os_info": if tells.is_empty() { "absent" } else { "present" },
        "tells": tells,
        "empty": words.is_empty(),
        "size_bytes": text.len(),
        "excerpt": shortened(&words.join(" "), 200),
    })
}

/// The banner of GNOME's log-in screen; later files win.
fn gdm(host: &Host, errors: &mut Errors) -> Option<Value> {
    let mut files = drop_ins(host, &[GDM_DIRECTORY], "", errors);
    files.insert(0, GDM_DEFAULTS.to_owned());
    let style = Style { continued: Continued::Never, without_section: false };
    let mut found = Map::new();
    for path in files {
        let text = match host.read_text(&path) {
            Ok(text) => text,
            // dconf keeps directories of locks beside its files.
            Err(_) => continue,
        };
        for entry in entries(&text, &path, &mut Errors::default(), style) {
            if &*entry.section != LOGIN_SCREEN {
                continue;
            }
            match entry.key.as_str() {
                "banner-message-enable" => {
                    found.insert("enabled".into(), Value::Bool(entry.value == "true"));
                }
                "banner-message-text" => {
                    let text = entry.value.trim_matches(['"', '\'']);
                    found.insert("text".into(), Value::from(shortened(text, 200)));
                }
                _ => {}
            }
        }
    }
    (!found.is_empty()).then_some(Value::Object(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{check_fixtures, collect as collect_from};

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn what_tells_about_the_system() {
        for (text, tells) in [
            ("Authorised people only.\n", vec![]),
            ("Debian GNU/Linux 12 \\n \\l\n", vec!["debian"]),
            ("\\S\nKernel \\r on an \\m\n", vec!["\\m", "\\r", "\\S"]),
            ("", vec![]),
        ] {
            let found = describe(text, Some("debian"));
            assert_eq!(found["tells"], json!(tells), "{text}");
            assert_eq!(found["os_info"], if tells.is_empty() { "absent" } else { "present" }, "{text}");
            assert_eq!(found["empty"], text.is_empty());
        }
        assert_eq!(
            describe(&"word ".repeat(100_000), None)["excerpt"].as_str().unwrap().chars().count(),
            200
        );
    }

    #[test]
    fn the_banner_of_sshd_and_of_the_log_in_screen() {
        let found = collect_from(
            &DISCOVERY,
            &[
                ("/etc/ssh/sshd_config", b"Banner /etc/ssh/banner\n"),
                ("/etc/ssh/banner", b"Hello from Fedora\n"),
                ("/usr/lib/os-release", b"ID=\"fedora\"\n"),
                (
                    "/etc/gdm3/greeter.dconf-defaults",
                    b"[org/gnome/login-screen]\nbanner-message-enable=false\n",
                ),
                (
                    "/etc/dconf/db/gdm.d/01-b",
                    b"[org/gnome/login-screen]\nbanner-message-enable=true\nbanner-message-text='Hi'\n",
                ),
            ],
        );
        assert_eq!(found.errors, [""; 0]);
        assert_eq!(found.data["/etc/ssh/banner"]["tells"], json!(["fedora"]));
        assert_eq!(found.data["sshd_banner"], "/etc/ssh/banner");
        assert_eq!(found.data["gdm"], json!({"enabled": true, "text": "Hi"}));
    }

    #[test]
    fn files_that_are_no_texts() {
        let found =
            collect_from(&DISCOVERY, &[("/etc/issue/x", b""), ("/etc/motd", &[0xff, 0, b'\\', b'r'])]);
        assert!(found.errors.len() == 1 && found.errors[0].contains("/etc/issue"), "{:?}", found.errors);
        assert_eq!(found.data["/etc/motd"]["tells"], json!(["\\r"]));
    }
}

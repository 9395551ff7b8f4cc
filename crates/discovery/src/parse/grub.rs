//! What GRUB's configuration says: the entries of its menu, their kernels and arguments, superusers and passwords.
//!
//! Only the commands that matter are understood (`linux`, `menuentry`, `set superusers`, `password`,
//! `password_pbkdf2`, `source`); the scripts around them are not run.

use super::Errors;

/// An entry of the menu that starts a kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub title: String,
    /// What follows the kernel's file.
    pub arguments: String,
}

/// How a password is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Password {
    Pbkdf2,
    Plain,
    /// The hash is in a variable that `user.cfg` sets.
    FromUserCfg,
}

/// The meaning of one grub.cfg.
#[derive(Debug, Default, PartialEq)]
pub struct Configuration {
    pub entries: Vec<Entry>,
    /// Names in `set superusers`, of the last such command.
    pub superusers: Vec<String>,
    pub passwords: Vec<(String, Password)>,
    /// Whether an entry can be started without a password although there are superusers.
    pub unrestricted_entries: usize,
    pub all_entries: usize,
    /// The menu is read from /boot/loader/entries.
    pub uses_loader_entries: bool,
}

const MAX_ENTRIES: usize = 256;
const MAX_USERS: usize = 64;

/// Commands that start a Linux kernel.
const LINUX: [&str; 3] = ["linux", "linuxefi", "linux16"];

/// Understands the text of one grub.cfg. Nothing in it is an error: most of it is a script.
pub fn configuration(text: &str, file: &str, errors: &mut Errors) -> Configuration {
    let mut found = Configuration::default();
    let mut title = String::new();
    for (_, line) in super::lines(text, file, errors) {
        let line = line.trim();
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match command {
            "menuentry" => {
                found.all_entries += 1;
                found.unrestricted_entries += usize::from(rest.contains("--unrestricted"));
                title = words(rest).into_iter().next().unwrap_or_default();
            }
            "blscfg" => found.uses_loader_entries = true,
            _ if LINUX.contains(&command) => {
                let (kernel, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                // A memory test is started like a kernel and takes no arguments of one.
                if !kernel.contains("memtest") && found.entries.len() < MAX_ENTRIES {
                    found
                        .entries
                        .push(Entry { title: title.clone(), arguments: arguments.trim().to_owned() });
                }
            }
            "set" => {
                if let Some(value) = rest.strip_prefix("superusers=") {
                    let users = words(value).join(" ");
                    found.superusers = users
                        .split([' ', ',', ';', '|', '&'])
                        .filter(|name| !name.is_empty())
                        .take(MAX_USERS)
                        .map(str::to_owned)
                        .collect();
                }
            }
            "password" | "password_pbkdf2" => {
                let words = words(rest);
                if let [user, secret, ..] = words.as_slice()
                    && found.passwords.len() < MAX_USERS
                {
                    let kind = match command {
                        _ if secret.starts_with('$') => Password::FromUserCfg,
                        "password" => Password::Plain,
                        _ => Password::Pbkdf2,
                    };
                    found.passwords.push((user.clone(), kind));
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether user.cfg of Red Hat's GRUB sets a password (`grub2-setpassword`).
pub fn user_cfg_has_password(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim();
        line.strip_prefix("GRUB2_PASSWORD=")
            .is_some_and(|hash| hash.trim_matches('"').starts_with("grub.pbkdf2."))
    })
}

/// The words of a line of shell or of a kernel command line: blanks separate, quotes keep together, a backslash
/// takes the next character as it is.
pub fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (_, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => {
                if let Some(next) = characters.next() {
                    word.get_or_insert_default().push(next);
                }
            }
            (_, None) if c.is_whitespace() => found.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_passwords() {
        let text = "set superusers=\"boss,other\"\nexport superusers\npassword_pbkdf2 boss grub.pbkdf2.sha512.10000.A.B\n\
            password other secret\nmenuentry 'Debian GNU/Linux' --class debian {\n\tlinux\t/boot/vmlinuz root=/dev/sda1 ro  quiet\n}\n\
            menuentry \"Memory test\" --unrestricted {\n linux16 /boot/memtest86+.bin\n}\n";
        let found = configuration(text, "f", &mut Errors::default());
        assert_eq!(found.superusers, ["boss", "other"]);
        assert_eq!(
            found.passwords,
            [("boss".to_owned(), Password::Pbkdf2), ("other".to_owned(), Password::Plain)]
        );
        let entry = Entry { title: "Debian GNU/Linux".into(), arguments: "root=/dev/sda1 ro  quiet".into() };
        assert_eq!(found.entries, [entry]);
        assert_eq!((found.all_entries, found.unrestricted_entries), (2, 1));
    }

    #[test]
    fn red_hat_keeps_the_password_apart() {
        let text = "if [ -f ${prefix}/user.cfg ]; then\n  source ${prefix}/user.cfg\n  if [ -n \"${GRUB2_PASSWORD}\" ]; then\n\
            set superusers=\"root\"\n    password_pbkdf2 root ${GRUB2_PASSWORD}\n  fi\nfi\nblscfg\n";
        let found = configuration(text, "f", &mut Errors::default());
        assert_eq!(found.passwords, [("root".to_owned(), Password::FromUserCfg)]);
        assert!(found.uses_loader_entries);
        assert!(user_cfg_has_password("GRUB2_PASSWORD=grub.pbkdf2.sha512.10000.AB\n"));
        assert!(
            !user_cfg_has_password("GRUB2_PASSWORD=\n")
                && !user_cfg_has_password("# GRUB2_PASSWORD=grub.pbkdf2.x")
        );
    }

    #[test]
    fn words_keep_what_is_quoted() {
        assert_eq!(words("a \"b c\"=1 'd \\e' f\\ g \"\""), ["a", "b c=1", "d \\e", "f g", ""]);
        assert!(words("  ").is_empty());
        assert_eq!(words("open \"never closed"), ["open", "never closed"]);
    }
}

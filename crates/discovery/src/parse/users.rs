//! `/etc/passwd` as several discoveries need it: who has an account, who is a person, whose home may be looked at.

use super::mount_points::{self, Mount, Reach};
use super::{Errors, integer, lines};
use crate::Host;

/// What the lines of one file may weigh together in bytes, with what each costs in a document; further ones are left
/// out, with an error.
pub const MAX_BYTES: usize = 3 << 20;
pub const LINE_BYTES: usize = 150;
/// The user that owns what nobody owns.
pub const NOBODY: i64 = 65_534;
/// Programs that end at once or do one thing: who has one of them as a shell cannot work with the host.
const NO_SHELLS: &[&str] = &["nologin", "false", "true", "sync", "shutdown", "halt", "git-shell"];

/// One line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// The second field as it stands there. Never to leave the host.
    pub secret: String,
    pub uid: i64,
    pub gid: i64,
    pub home: String,
    /// `/bin/sh` where the field is empty.
    pub shell: String,
}

impl User {
    /// Whether the shell is one to work with.
    pub fn has_shell(&self) -> bool {
        let name = self.shell.rsplit('/').next().unwrap_or(&self.shell);
        !NO_SHELLS.contains(&name)
    }

    /// An account of a person: not root, not a system account, with a shell. `uid_min` is that of login.defs(5).
    pub fn is_interactive(&self, uid_min: i64) -> bool {
        self.uid >= uid_min && self.uid != NOBODY && self.has_shell()
    }

    /// An account of the system or of a program, other than root.
    pub fn is_system(&self, uid_min: i64) -> bool {
        self.name != "root" && ((self.uid > 0 && self.uid < uid_min) || self.uid == NOBODY)
    }
}

/// The users of a passwd(5) text, and how many lines hand over to NIS (`+` or `-` at the beginning). A line that is
/// none is an error which does not show it.
pub fn parse(text: &str, file: &str, errors: &mut Errors) -> (Vec<User>, usize) {
    let mut users = Vec::new();
    let mut nis = 0;
    let mut bytes = 0;
    for (number, line) in lines(text, file, errors) {
        if line.starts_with('#') {
            continue;
        }
        if line.starts_with(['+', '-']) {
            nis += 1;
            continue;
        }
        let fields: Vec<&str> = line.splitn(8, ':').collect();
        let [name, secret, uid, gid, _, home, shell] = fields.as_slice() else {
            errors.at(file, number, format_args!("{} fields, an account has 7", fields.len()));
            continue;
        };
        let (Some(uid), Some(gid), true) = (id(uid), id(gid), is_name(name)) else {
            errors.at(file, number, "name, user id or group id is not one");
            continue;
        };
        bytes += line.len() + LINE_BYTES;
        if bytes > MAX_BYTES {
            errors.at(file, number, "too many accounts, the rest is left out");
            break;
        }
        users.push(User {
            name: (*name).to_owned(),
            secret: (*secret).to_owned(),
            uid,
            gid,
            home: home.trim().to_owned(),
            shell: if shell.trim().is_empty() { "/bin/sh".to_owned() } else { shell.trim().to_owned() },
        });
    }
    (users, nis)
}

/// A name of a user or group as it may stand in the data: printable, short, without blanks.
pub fn is_name(name: &str) -> bool {
    (1..=256).contains(&name.len()) && !name.contains(|c: char| c.is_control() || c.is_whitespace())
}

/// A user or group id.
pub fn id(text: &str) -> Option<i64> {
    integer(text).filter(|id| (0..=i64::from(u32::MAX)).contains(id))
}

/// The mounts of the running system, to tell homes that may be looked at from those that may not answer.
#[derive(Debug, Default)]
pub struct Homes(Vec<Mount>);

impl Homes {
    /// An image has no mounts: all of it is there.
    pub fn of(host: &Host) -> Homes {
        Homes(if host.is_running_system() { mount_points::current() } else { Vec::new() })
    }

    /// Whether a path lies on a file system of another machine, of a program, or of an automounter.
    pub fn are_elsewhere(&self, path: &str) -> bool {
        mount_points::holding(&self.0, path.as_bytes()).is_some_and(|mount| mount.reach() == Reach::Elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_told_apart() {
        let mut errors = Errors::default();
        let text = "root:x:0:0:root:/root:/bin/bash\ndaemon:*:1:1::/:/usr/sbin/nologin\nann:x:1000:1000:A,,:/home/ann:\n\
                    nobody:x:65534:65534::/:/bin/sh\n+::::::\n-bob::::::\nbad\na b:x:1:1::/:/x\nc:x:-1:0::/:/x\n";
        let (users, nis) = parse(text, "f", &mut errors);
        assert_eq!(nis, 2);
        let short: Vec<_> =
            users.iter().map(|u| (u.name.as_str(), u.is_interactive(1000), u.is_system(1000))).collect();
        assert_eq!(
            short,
            [("root", false, false), ("daemon", false, true), ("ann", true, false), ("nobody", false, true)]
        );
        assert_eq!(users[2].shell, "/bin/sh");
        let errors = errors.into_list();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].starts_with("f line 7: 1 fields"), "{errors:?}");
    }

    #[test]
    fn remote_file_systems_are_left_alone() {
        let table = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 / /home rw shared:1 - autofs auto rw\n\
                     3 2 0:41 / /home/ann rw - ext4 /dev/sdb rw\n4 1 0:42 / /net\\040x rw master:1 - nfs4 s:/x rw\n";
        let homes = Homes(mount_points::parse(table.as_bytes()));
        assert!(
            homes.are_elsewhere("/home/bob")
                && homes.are_elsewhere("/home")
                && homes.are_elsewhere("/net x/a")
        );
        assert!(
            !homes.are_elsewhere("/home/ann")
                && !homes.are_elsewhere("/homes/bob")
                && !homes.are_elsewhere("/root")
        );
        assert!(!Homes::default().are_elsewhere("/home/bob"));
    }
}

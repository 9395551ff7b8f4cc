//! Giving up root for good.
//!
//! The kernel keeps user and group ids per thread. Changing them for a whole process needs either libc's signal
//! dance or, as here, the certainty that there is only one thread: [`drop_to`] refuses to work otherwise. So a
//! daemon calls it before it starts a runtime, a logger thread or anything else that has threads.

use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid, set_thread_uid};
use std::fs;
use std::io;

/// The ids this process has from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
}

/// Why root could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    #[error("there is no user {user:?}; create it (useradd --system {user}) or name another with --user")]
    NoSuchUser { user: String },
    #[error("{file} cannot be read: {error}")]
    Read { file: &'static str, error: io::Error },
    #[error("user {user:?} is root; name an ordinary user with --user")]
    IsRoot { user: String },
    #[error("privileges can only be given up while there is one thread, and there are {threads}")]
    Threads { threads: usize },
    #[error("cannot become user {user:?}: {error}; start as root or as that user")]
    Change { user: String, error: io::Error },
    #[error("user {user:?} could become root again; the kernel did not take the change")]
    Reversible { user: String },
}

/// Becomes `user`: its uid, its group, its supplementary groups and no others, with no way back. When not started
/// as root, the present identity is returned.
///
/// `no_new_privs` (prctl(2)) stays off on purpose: notification scripts inherit it, and the mail programs of most
/// systems hand mail over through a set-group-id program.
///
/// # Errors
/// See [`PrivilegeError`]; after an error the daemon must stop, because it may have changed in part.
pub fn drop_to(user: &str) -> Result<Identity, PrivilegeError> {
    let changed =
        |error: rustix::io::Errno| PrivilegeError::Change { user: user.into(), error: error.into() };
    if !geteuid().is_root() {
        return Ok(Identity { uid: geteuid().as_raw(), gid: getegid().as_raw() });
    }
    let read = |file| fs::read_to_string(file).map_err(|error| PrivilegeError::Read { file, error });
    let identity = find_user(&read("/etc/passwd")?, user)
        .ok_or_else(|| PrivilegeError::NoSuchUser { user: user.into() })?;
    if identity.uid == 0 {
        return Err(PrivilegeError::IsRoot { user: user.into() });
    }
    let threads = fs::read_dir("/proc/self/task")
        .map_err(|error| PrivilegeError::Read { file: "/proc/self/task", error })?
        .count();
    if threads != 1 {
        return Err(PrivilegeError::Threads { threads });
    }
    // A missing /etc/group only means that there are no supplementary groups.
    let mut groups = find_groups(&fs::read_to_string("/etc/group").unwrap_or_default(), user);
    groups.push(identity.gid);
    let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&groups).map_err(changed)?;
    set_thread_res_gid(gid, gid, gid).map_err(changed)?;
    set_thread_res_uid(uid, uid, uid).map_err(changed)?;
    if set_thread_uid(Uid::ROOT).is_ok() {
        return Err(PrivilegeError::Reversible { user: user.into() });
    }
    Ok(identity)
}

/// The uid and gid of a user in the text of /etc/passwd (passwd(5)).
pub fn find_user(passwd: &str, user: &str) -> Option<Identity> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (name == user).then_some(Identity { uid, gid })
    })
}

/// The groups that list the user as a member in the text of /etc/group (group(5)).
fn find_groups(group: &str, user: &str) -> Vec<u32> {
    group
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let gid = fields.nth(2)?.parse().ok()?;
            fields.next()?.split(',').any(|member| member == user).then_some(gid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nbroken line\nassimilation:x:997:995::/:/sbin/nologin\n";

    #[test]
    fn users_and_groups_are_found() {
        assert_eq!(find_user(PASSWD, "assimilation"), Some(Identity { uid: 997, gid: 995 }));
        assert_eq!(find_user(PASSWD, "assimil"), None);
        assert_eq!(find_user(PASSWD, "broken line"), None);
        let group = "adm:x:4:syslog,assimilation\nassimilation:x:995:\nwheel:x:10:assimilationx\n";
        assert_eq!(find_groups(group, "assimilation"), [4]);
    }

    #[test]
    fn errors_say_what_to_do() {
        if !geteuid().is_root() {
            return assert_eq!(drop_to("whoever").unwrap().uid, geteuid().as_raw());
        }
        let text = drop_to("no-such-user-at-all").unwrap_err().to_string();
        assert!(text.contains("no-such-user-at-all") && text.contains("useradd"), "{text}");
        assert!(matches!(drop_to("root"), Err(PrivilegeError::IsRoot { .. })));
        // The test harness runs each test in a thread of its own.
        assert!(matches!(drop_to("nobody"), Err(PrivilegeError::Threads { .. })));
    }
}

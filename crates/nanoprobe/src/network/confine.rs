//! Giving up everything but the sockets that are open, for good.
//!
//! Called in the network process when its port is open and nothing was read from it yet. Started as root, the process becomes an
//! account that owns nothing; in any case it loses all capabilities, cannot get any back, is not readable by others of its
//! account, dies with the agent, and sees of the file system what a name server's answer needs (Landlock, where the kernel has it).

use daemon::privileges::{Identity, find_user};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{
    DumpableBehavior, Gid, Signal, Uid, geteuid, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid, set_thread_uid,
};
use std::fs;
use std::io;

/// Who the network process is where the package made the account.
pub const ACCOUNT: &str = "assimilation-net";

/// Who it is elsewhere.
const NOBODY: &str = "nobody";

/// `nobody` where not even that is in /etc/passwd: the number that the kernel itself uses for it.
const NOBODY_ID: u32 = 65_534;

/// Text of the system's resolver, its libraries, and where the programs that write resolv.conf keep it. What is not there is left out.
const READABLE: [&str; 9] = [
    "/etc",
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/nscd",
];

/// Answers of name servers that are too long for UDP come over TCP (RFC 7766).
const DNS_PORT: u16 = 53;

/// Why the network process must not begin.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("the network process cannot give up {what}: {error}")]
    Kept { what: &'static str, error: io::Error },
    #[error("the network process could become root again; the kernel did not take the change")]
    Reversible,
    #[error("the network process has {threads} threads, and privileges can only be given up by one")]
    Threads { threads: usize },
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confined {
    /// The account, if it was changed.
    pub account: Option<&'static str>,
    pub landlock: Landlock,
}

/// How far the kernel restricts what can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landlock {
    Full,
    /// An older kernel: files, but not TCP or signals.
    Partial,
    /// None.
    Missing,
}

/// Gives up what there is.
///
/// # Errors
/// Something is still there; the process must end, because it may have changed in part.
pub fn confine() -> Result<Confined, ConfineError> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count());
    if threads != 1 {
        return Err(ConfineError::Threads { threads });
    }
    let was_root = geteuid().is_root();
    let account = if was_root { Some(become_nobody()?) } else { None };
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    // Kernels before 4.3 have no ambient set.
    let _ = clear_ambient_capability_set();
    set_capabilities(None, none).map_err(|error| kept("its capabilities", error))?;
    set_no_new_privs(true).map_err(|error| kept("what set-user-id programs would give", error))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| kept("being read by its account", error))?;
    // After the change of user, which would undo it.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| kept("outliving the agent", error))?;
    if was_root && set_thread_uid(Uid::ROOT).is_ok() {
        return Err(ConfineError::Reversible);
    }
    let landlock = match lock_files() {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(%error, "Landlock does not restrict the network process");
            Landlock::Missing
        }
    };
    Ok(Confined { account, landlock })
}

/// Changes to the account, without any group but its own, and leaves no capability that a program could get.
fn become_nobody() -> Result<&'static str, ConfineError> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let usable = |user| find_user(&passwd, user).filter(|found| found.uid != 0 && found.gid != 0);
    let (account, identity) = match (usable(ACCOUNT), usable(NOBODY)) {
        (Some(identity), _) => (ACCOUNT, identity),
        (None, found) => (NOBODY, found.unwrap_or(Identity { uid: NOBODY_ID, gid: NOBODY_ID })),
    };
    // Where a container keeps that from us, the new user and `no_new_privs` have to do.
    let may_shrink = capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::SETPCAP));
    // Those that this kernel does not know are none of the set.
    for capability in CapabilitySet::all().iter().filter(|_| may_shrink) {
        if capability_is_in_bounding_set(capability) == Ok(true) {
            remove_capability_from_bounding_set(capability)
                .map_err(|error| kept("the capabilities of its programs", error))?;
        }
    }
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&[]).map_err(|error| kept("its groups", error))?;
    set_thread_res_gid(gid, gid, gid).map_err(|error| kept("the group root", error))?;
    set_thread_res_uid(uid, uid, uid).map_err(|error| kept("the user root", error))?;
    Ok(account)
}

/// What is handled in part on older kernels is handled as far as they go.
fn lock_files() -> Result<Landlock, RulesetError> {
    let abi = ABI::V6;
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(READABLE, read))?
        // Libraries of the resolver are mapped, not executed.
        .add_rules(path_beneath_rules(["/dev/null", "/dev/urandom"], read))?
        .add_rule(NetPort::new(DNS_PORT, AccessNet::ConnectTcp))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Partial,
        RulesetStatus::NotEnforced => Landlock::Missing,
    })
}

fn kept(what: &'static str, error: rustix::io::Errno) -> ConfineError {
    ConfineError::Kept { what, error: error.into() }
}
